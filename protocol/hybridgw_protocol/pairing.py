"""Pairing: a new device joins a space with a short code, over a mailbox that both can write and nobody trusts.

`Existing` is the device that shows the code (E), `New` the one where it is typed (N). Both are machines without I/O:
`receive` takes one mailbox message and returns events, `data_to_send` drains messages, methods tell what the caller or
the person decided. A message is msgpack `[phase, body]`:

    N                                                                E
    hello         version, kind, SPAKE2 message   ─────────▶         makes its own: from here the code is dead
                       ◀─────────  answer         the same, and a commitment to E's nonce
    proof         nonce, confirmation cN          ─────────▶         N first: E has told a guesser nothing yet
                       ◀─────────  counterproof   nonce, cE          both show the same four words
                       ◀─────────  offer          sealed: space, root key, the seat that adds, control heads
    introduction  sealed: keys, name, signature   ─────────▶         E's person compares the words and agrees
                       ◀─────────  admission      sealed, in parts: control records, relays, E's clock
    done          sealed, empty                   ─────────▶
    abort, from either side at any time, is the end. Nothing is ever tried again under the same code.

SPAKE2 is pure Python (about 8 ms for a side) and not constant in time, which a code of one use can bear. So `New()`
and every `receive` belong into a worker thread; a machine is never used by two threads at once. Both nonces enter the
words and E commits to its own before it sees N's, so that one who knows the code and sits between the two cannot
search for keys that show equal words at both ends. Source: protocol/SPEC.md, "Pairing"; Abdalla and Pointcheval 2005
(SPAKE2); Vaudenay 2005 (short authenticated strings).
"""

from __future__ import annotations

import hmac
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, ClassVar, Final, NoReturn

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_sign_open,
)
from nacl.exceptions import BadSignatureError, CryptoError

from .codec import decode, encode_canonical
from .errors import BadFrame, LocalError
from .ids import DeviceId, SpaceId, blake2b
from .limits import MAX_CONTROL_BYTES, MAX_PAIRING_BYTES, PAIRING_NAMEPLATE_DIGITS
from .pairing_code import PairingCode
from .pairing_messages import (
    Admission,
    Admitted,
    Cause,
    Confirmed,
    Event,
    Finished,
    Introduced,
    Introduction,
    Invited,
    Kind,
    Offer,
    Phase,
    check_admission,
    check_introduction,
    check_offer,
    failure,
)
from .pairing_words import words_of

PAIRING_VERSION: Final = 1
ADMISSION_PART_BYTES: Final = 256 * 1024  # well below a frame, so that other frames get their turn
MAX_ADMISSION_BYTES: Final = MAX_CONTROL_BYTES + 64 * 1024
_MAX_SMALL_BYTES: Final = 16 * 1024  # any message but a part of the admission
_MAX_PARTS: Final = -(-MAX_ADMISSION_BYTES // ADMISSION_PART_BYTES)
_NONCE_BYTES: Final = 16
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_SPAKE_BYTES: Final = 33  # one letter for the side, one point
_FIELD: Final = 2**255 - 19
_HELLO: Final = struct.Struct(f">BB{_SPAKE_BYTES}s")
_ANSWER: Final = struct.Struct(f">BB{_SPAKE_BYTES}s{_KEY_BYTES}s")
_PROOF: Final = struct.Struct(f">{_NONCE_BYTES}s{_KEY_BYTES}s")
_PART: Final = struct.Struct(">HH")

Entropy = Callable[[int], bytes]  # n -> n random bytes
JoinerDigest = Callable[[SpaceId, bytes, Sequence[bytes], DeviceId], bytes]  # what a joiner signs, membership's rule


class State(Enum):
    """Where a machine stands; the tables at its class say what may come next."""

    WAITING = auto()  # E: for hello
    ANSWERING = auto()  # N: for answer
    PROVING = auto()  # E for proof, N for counterproof
    OFFERING = auto()  # N: for the offer
    INTRODUCING = auto()  # E: for the introduction; N: for its caller's introduce()
    DECIDING = auto()  # E: for its caller's admit()
    ADMITTING = auto()  # N: for the parts of the admission
    SAVING = auto()  # N: for its caller's finish()
    FINISHING = auto()  # E: for done
    DONE = auto()
    FAILED = auto()


class IssuedCode:
    """A code that E shows: good for one exchange, over whichever path (relay, LAN) the first hello comes.

    All machines of one code share one of these. Args: digits_allowed: False after too many dead codes: link only.
    """

    def __init__(self, code: PairingCode, *, digits_allowed: bool = True) -> None:
        self.nameplate = code.nameplate
        self.digits_allowed = digits_allowed
        self.is_answered = False  # E's SPAKE2 message is out: somebody may have tested a guess
        self._unspent = [code]

    @property
    def is_spent(self) -> bool:
        """Was the one exchange begun, or the code burned."""
        return not self._unspent

    def spend(self) -> PairingCode | None:
        """The code, to the first who asks; afterwards None. Threads may race: `list.pop` gives it to one."""
        try:
            return self._unspent.pop()
        except IndexError:
            return None


class _Machine(ABC):
    """What both sides share. After an exception a machine is FAILED; `data_to_send` still holds the abort message."""

    receives: ClassVar[dict[State, dict[Phase, State]]]  # in a state, a phase leads on; a missing key is the error

    def __init__(self, state: State, authority: str, entropy: Entropy) -> None:
        self.state = state
        self.words: tuple[str, ...] = ()
        self._authority = authority
        self._entropy = entropy
        self._out: list[bytes] = []
        self._key = b""  # of SPAKE2
        self._transcript = b""
        self._seal: _Direction | None = None
        self._open: _Direction | None = None

    def receive(self, message: bytes) -> list[Event]:
        """Take one mailbox message. Slow once or twice (SPAKE2): call it in a worker thread.

        Raises: PairingFailed: with `detail['cause']`, a Cause; send what `data_to_send` holds, then close the mailbox.
        """
        try:
            phase, body = self._read(message)
            if phase is Phase.ABORT:
                self._aborted(body)
            after = self.receives.get(self.state, {}).get(phase)
            if after is None:
                self._fail(Cause.BAD_MESSAGE, f"{phase.name.lower()} in state {self.state.name.lower()}")
            self.state = after
            return self._handle(phase, body)
        except BadFrame as error:
            self._fail(Cause.BAD_MESSAGE, error.message)
        except CryptoError:
            self._fail(Cause.TAMPERED)

    def data_to_send(self) -> list[bytes]:
        """Drain the messages for the mailbox, in order."""
        out, self._out = self._out, []
        return out

    def abort(self, cause: Cause = Cause.CANCELLED) -> None:
        """The caller or its person ends it: refused, cancelled, expired, bad records. Harmless when it has ended."""
        if self.state not in (State.DONE, State.FAILED):
            self._end(cause)

    def connection_lost(self) -> None:
        """The mailbox is gone. Raises: PairingFailed: unless everything was done."""
        if self.state in (State.DONE, State.FAILED):
            return
        self.state = State.FAILED
        raise failure(Cause.GONE)

    @abstractmethod
    def _handle(self, phase: Phase, body: bytes) -> list[Event]:
        """Act on a message that has its turn."""

    def _read(self, message: bytes) -> tuple[Phase, bytes]:
        if len(message) > MAX_PAIRING_BYTES:
            raise BadFrame("a message is too long")
        number, body = decode(message, tuple[int, bytes], "pairing message")
        try:
            phase = Phase(number)
        except ValueError:
            raise BadFrame(f"phase {number}") from None
        if phase is not Phase.ADMISSION and len(body) > _MAX_SMALL_BYTES:
            raise BadFrame(f"{phase.name.lower()} is too long")
        return phase, body

    def _aborted(self, body: bytes) -> None:
        if self.state in (State.DONE, State.FAILED):
            self._fail(Cause.BAD_MESSAGE, "abort after the end")
        text = body[:32].decode("ascii", "replace")
        cause = Cause(text) if text in set(Cause) else Cause.CANCELLED
        self._burn()
        self.state = State.FAILED
        raise failure(cause, by_other_side=True)

    def _fail(self, cause: Cause, why: str = "") -> NoReturn:
        if self.state not in (State.DONE, State.FAILED):
            self._end(cause)
        self.state = State.FAILED
        raise failure(cause, why=why)

    def _end(self, cause: Cause) -> None:
        self._burn()
        self.state = State.FAILED
        self._send(Phase.ABORT, cause.encode())

    @abstractmethod
    def _burn(self) -> None:
        """The pairing failed: nobody may use its code any more."""

    def _require(self, state: State, what: str) -> None:
        if self.state is not state:
            raise LocalError(f"A pairing in state {self.state.name.lower()} has nothing to {what}.")

    def _send(self, phase: Phase, body: bytes) -> None:
        self._out.append(encode_canonical([int(phase), body]))

    def _send_sealed(self, phase: Phase, plaintext: bytes) -> None:
        assert self._seal is not None  # noqa: S101 - the tables let nobody here before the keys are made
        self._send(phase, self._seal.seal(phase, plaintext))

    def _opened(self, phase: Phase, body: bytes) -> bytes:
        assert self._open is not None  # noqa: S101 - as above
        return self._open.open(phase, body)

    def _agree(self, key: bytes, kind: int, nameplate: int, hello: bytes, answer: bytes, commitment: bytes) -> None:
        """Everything both must have seen alike goes into each key: a changed byte anywhere makes all keys differ."""
        said = ["hgw-pair-1", kind, *_ids(nameplate), self._authority, hello, answer, commitment]
        self._key, self._transcript = key, encode_canonical(said)

    def _derive(self, person: str, *nonces: bytes, size: int = _KEY_BYTES) -> bytes:
        return blake2b(self._transcript + b"".join(nonces), size, person, self._key)

    def _confirm(self, nonce_n: bytes, nonce_e: bytes) -> Confirmed:
        self.words = words_of(self._derive("hgw-pair-words", nonce_n, nonce_e, size=4))
        return Confirmed(self.words)


class Existing(_Machine):
    """E's side: one mailbox, at most one exchange."""

    receives: ClassVar = {
        State.WAITING: {Phase.HELLO: State.PROVING},
        State.PROVING: {Phase.PROOF: State.INTRODUCING},
        State.INTRODUCING: {Phase.INTRODUCTION: State.DECIDING},
        State.FINISHING: {Phase.DONE: State.DONE},
    }

    def __init__(
        self, issued: IssuedCode, offer: Offer, *, authority: str, joiner_digest: JoinerDigest, entropy: Entropy
    ) -> None:
        """Args:
        issued: shared by all paths on which this code is offered.
        offer: space, root key, own seat and control heads.
        authority: what N must have dialled: `endpoint()` of the relay's URL, or "fp:<sha256>" of a LAN certificate.
        joiner_digest: membership's rule of what a joiner signs.
        """
        super().__init__(State.WAITING, authority, entropy)
        check_offer(offer)
        self._issued = issued
        self._offer = offer
        self._joiner_digest = joiner_digest
        self._nonce = b""

    def admit(self, admission: Admission) -> None:
        """The person agreed, and the record that adds the device is made: send everything.

        Raises: LocalError: nobody was introduced; BadFrame: more records than fit.
        """
        self._require(State.DECIDING, "admit")
        check_admission(admission)
        plaintext = msgspec.msgpack.encode(admission)  # within MAX_ADMISSION_BYTES by the bounds just checked
        total = -(-len(plaintext) // ADMISSION_PART_BYTES)
        for index in range(total):
            part = plaintext[index * ADMISSION_PART_BYTES : (index + 1) * ADMISSION_PART_BYTES]
            self._send_sealed(Phase.ADMISSION, _PART.pack(index, total) + part)
        self.state = State.FINISHING

    def _handle(self, phase: Phase, body: bytes) -> list[Event]:
        match phase:
            case Phase.HELLO:
                self._answer(body)
                return []
            case Phase.PROOF:
                return [self._check_proof(body)]
            case Phase.INTRODUCTION:
                return [self._check_introduction(self._opened(phase, body))]
            case _:
                self._opened(Phase.DONE, body)
                return [Finished()]

    def _answer(self, body: bytes) -> None:
        version, kind, theirs = _unpack(_HELLO, body, "hello")
        if version != PAIRING_VERSION:
            self._fail(Cause.VERSION)
        if kind not in set(Kind):
            raise BadFrame(f"kind {kind}")
        if kind == Kind.DIGITS and not self._issued.digits_allowed:
            self._fail(Cause.LINK_ONLY)
        # Spent before our message exists: whoever has that message can test one guess against it, now or next year.
        code = self._issued.spend()
        if code is None:
            self._fail(Cause.CODE_USED)
        if kind == Kind.LINK and not code.secret:
            self._fail(Cause.WRONG_CODE)
        self._nonce = self._entropy(_NONCE_BYTES)
        commitment = blake2b(self._nonce, _KEY_BYTES, "hgw-pair-commit")
        exchange, ours = _start("A", code, kind, self._entropy)
        self._agree(self._exchange(exchange, theirs), kind, code.nameplate, theirs, ours, commitment)
        self._issued.is_answered = True
        self._send(Phase.ANSWER, _ANSWER.pack(PAIRING_VERSION, kind, ours, commitment))

    def _exchange(self, exchange: Any, theirs: bytes) -> bytes:
        key = _finish(exchange, theirs, b"B")
        if key is None:
            self._fail(Cause.BAD_MESSAGE, "no SPAKE2 message")
        return key

    def _check_proof(self, body: bytes) -> Event:
        nonce_n, proof = _unpack(_PROOF, body, "proof")
        if not hmac.compare_digest(proof, self._derive("hgw-pair-cN", nonce_n)):
            self._fail(Cause.WRONG_CODE)
        self._send(Phase.COUNTERPROOF, _PROOF.pack(self._nonce, self._derive("hgw-pair-cE", nonce_n, self._nonce)))
        self._seal = _Direction(self._derive("hgw-pair-kE"))
        self._open = _Direction(self._derive("hgw-pair-kN"))
        self._send_sealed(Phase.OFFER, msgspec.msgpack.encode(self._offer))
        return self._confirm(nonce_n, self._nonce)

    def _check_introduction(self, plaintext: bytes) -> Event:
        joiner = decode(plaintext, Introduction, "introduction")
        check_introduction(joiner)
        offer = self._offer
        digest = self._joiner_digest(offer.space, offer.seat, offer.prevs, joiner.device)
        try:
            crypto_sign_open(joiner.signature + digest, joiner.sign_public)
        except (BadSignatureError, ValueError):
            raise BadFrame("the new device did not sign its request") from None
        return Introduced(joiner)

    def _burn(self) -> None:
        self._issued.spend()


class New(_Machine):
    """N's side. Making one computes the first message (slow, worker thread) and queues it."""

    receives: ClassVar = {
        State.ANSWERING: {Phase.ANSWER: State.PROVING},
        State.PROVING: {Phase.COUNTERPROOF: State.OFFERING},
        State.OFFERING: {Phase.OFFER: State.INTRODUCING},
        State.ADMITTING: {Phase.ADMISSION: State.ADMITTING},  # to SAVING with the last part
    }

    def __init__(self, code: PairingCode, *, authority: str, entropy: Entropy) -> None:
        """Args: authority: what this device dialled: `endpoint()` of the relay's URL, or "fp:<sha256>" on the LAN."""
        super().__init__(State.ANSWERING, authority, entropy)
        self._nameplate = code.nameplate
        self._kind = Kind.LINK if code.secret else Kind.DIGITS
        self._exchange, self._ours = _start("B", code, self._kind, entropy)
        self._commitment = b""
        self._nonce = b""
        self._parts: list[bytes] = []
        self._send(Phase.HELLO, _HELLO.pack(PAIRING_VERSION, self._kind, self._ours))

    def introduce(self, joiner: Introduction) -> None:
        """Answer the offer. Raises: LocalError: no offer waits; BadFrame: a field out of bounds."""
        self._require(State.INTRODUCING, "introduce")
        check_introduction(joiner)
        self._send_sealed(Phase.INTRODUCTION, msgspec.msgpack.encode(joiner))
        self.state = State.ADMITTING

    def finish(self) -> None:
        """Everything is checked and saved. Raises: LocalError: nothing was admitted."""
        self._require(State.SAVING, "finish")
        self._send_sealed(Phase.DONE, b"")
        self.state = State.DONE

    def _handle(self, phase: Phase, body: bytes) -> list[Event]:
        match phase:
            case Phase.ANSWER:
                self._prove(body)
                return []
            case Phase.COUNTERPROOF:
                return [self._check_counterproof(body)]
            case Phase.OFFER:
                return [self._check_offer(self._opened(phase, body))]
            case _:
                return self._take_part(self._opened(Phase.ADMISSION, body))

    def _burn(self) -> None:
        """A code is E's; here it is only typed again if a person does."""

    def _prove(self, body: bytes) -> None:
        version, kind, theirs, commitment = _unpack(_ANSWER, body, "answer")
        if version != PAIRING_VERSION:
            self._fail(Cause.VERSION)
        if kind != self._kind:
            raise BadFrame(f"kind {kind}")
        key = _finish(self._exchange, theirs, b"A")
        if key is None:
            self._fail(Cause.BAD_MESSAGE, "no SPAKE2 message")
        self._commitment = commitment
        self._agree(key, self._kind, self._nameplate, self._ours, theirs, commitment)
        self._nonce = self._entropy(_NONCE_BYTES)
        self._send(Phase.PROOF, _PROOF.pack(self._nonce, self._derive("hgw-pair-cN", self._nonce)))

    def _check_counterproof(self, body: bytes) -> Event:
        nonce_e, proof = _unpack(_PROOF, body, "counterproof")
        known = hmac.compare_digest(proof, self._derive("hgw-pair-cE", self._nonce, nonce_e))
        committed = hmac.compare_digest(self._commitment, blake2b(nonce_e, _KEY_BYTES, "hgw-pair-commit"))
        if not known or not committed:
            self._fail(Cause.WRONG_CODE)
        self._seal = _Direction(self._derive("hgw-pair-kN"))
        self._open = _Direction(self._derive("hgw-pair-kE"))
        return self._confirm(self._nonce, nonce_e)

    def _check_offer(self, plaintext: bytes) -> Event:
        offer = decode(plaintext, Offer, "offer")
        check_offer(offer)
        return Invited(offer)

    def _take_part(self, plaintext: bytes) -> list[Event]:
        if len(plaintext) < _PART.size:
            raise BadFrame("a part of the admission is too short")
        index, total = _PART.unpack_from(plaintext)
        # The seal's counter fixes the order; the numbers say how many to wait for.
        if index != len(self._parts) or not index < total <= _MAX_PARTS or len(plaintext) == _PART.size:
            raise BadFrame("the parts of the admission do not follow each other")
        self._parts.append(plaintext[_PART.size :])
        if sum(map(len, self._parts)) > MAX_ADMISSION_BYTES:
            raise BadFrame("the admission is too long")
        if index + 1 < total:
            return []
        admission = decode(b"".join(self._parts), Admission, "admission")
        check_admission(admission)
        self._parts = []
        self.state = State.SAVING
        return [Admitted(admission)]


class _Direction:
    """Seals or opens one side's messages. Fresh keys per exchange, so a counter is a safe nonce and stops replays."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def seal(self, phase: Phase, plaintext: bytes) -> bytes:
        return crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, _associated(phase), self._nonce(), self._key)

    def open(self, phase: Phase, sealed: bytes) -> bytes:
        """Raises: CryptoError."""
        if len(sealed) < _TAG_BYTES:
            raise CryptoError("too short for a tag")
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, _associated(phase), self._nonce(), self._key)

    def _nonce(self) -> bytes:
        nonce = self._count.to_bytes(24, "big")
        self._count += 1
        return nonce


def _associated(phase: Phase) -> bytes:
    return b"hgw-pair-1" + bytes([phase])


def _unpack(layout: struct.Struct, body: bytes, what: str) -> tuple[Any, ...]:
    if len(body) != layout.size:
        raise BadFrame(f"{what} has {layout.size} bytes")
    return layout.unpack(body)


def _ids(nameplate: int) -> tuple[bytes, bytes]:
    plate = f"{nameplate:0{PAIRING_NAMEPLATE_DIGITS}}".encode()
    return b"hgw-pair-1|E|" + plate, b"hgw-pair-1|N|" + plate


def _start(side: str, code: PairingCode, kind: int, entropy: Entropy) -> tuple[Any, bytes]:
    """A one-use SPAKE2 object and its 33-byte message. E is side A, N is side B."""
    # Loaded here: it brings the whole of `cryptography` for one HKDF, and few processes ever pair.
    from spake2 import SPAKE2_A, SPAKE2_B  # noqa: PLC0415

    password = b"hgw-pair-link|" + code.secret if kind == Kind.LINK else code.digits.encode()
    id_e, id_n = _ids(code.nameplate)
    exchange = (SPAKE2_A if side == "A" else SPAKE2_B)(password, idA=id_e, idB=id_n, entropy_f=entropy)
    return exchange, exchange.start()


def _finish(exchange: Any, theirs: bytes, side: bytes) -> bytes | None:
    """The shared key (32 bytes), or None: no point of the group, our own message sent back, or an encoding of zero or
    above the field, which the library would take."""
    from spake2.ed25519_basic import NotOnCurve  # noqa: PLC0415 - as above
    from spake2.spake2 import SPAKEError  # noqa: PLC0415

    y = int.from_bytes(theirs[1:], "little") & (2**255 - 1)
    if theirs[:1] != side or not 1 < y < _FIELD:
        return None
    try:
        key: bytes = exchange.finish(theirs)
    except (SPAKEError, NotOnCurve, ValueError):
        return None
    return key
