"""Pairing: two machines against each other in memory, and everything that may stand between them."""

from __future__ import annotations

import copy
import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_sign, crypto_sign_seed_keypair

from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import BadFrame, BadValue, LocalError, PairingFailed
from hybridgw_protocol.ids import DeviceId, SpaceId, blake2b, device_id, space_id
from hybridgw_protocol.limits import MAX_FRAME_BYTES, MAX_PAIRING_BYTES
from hybridgw_protocol.pairing import ADMISSION_PART_BYTES, MAX_ADMISSION_BYTES, Existing, IssuedCode, New, State
from hybridgw_protocol.pairing_code import PairingCode, format_code, format_link, make_code, parse_code
from hybridgw_protocol.pairing_messages import (
    Admission,
    Admitted,
    Cause,
    Confirmed,
    Event,
    Finished,
    Introduced,
    Introduction,
    Invited,
    Offer,
    Phase,
    RelayHint,
    check_introduction,
    clean_name,
)
from hybridgw_protocol.pairing_words import WORDS, words_of

ROOT = b"\x0a" * 32
SPACE = space_id(ROOT)
OFFER = Offer(SPACE, ROOT, b"\x0b" * 32, (b"\x0c" * 32, b"\x0d" * 32))
SIGN_PUBLIC, SIGN_SECRET = crypto_sign_seed_keypair(b"\x0e" * 32)
EXCHANGE_PUBLIC = b"\x0f" * 32
RELAY = "host:relay.example.com"
CODE = PairingCode(417, "803265", "https://relay.example.com", b"\x5a" * 16)
TYPED = parse_code(format_code(CODE))
ADMISSION = Admission((b"genesis", b"add"), (RelayHint("https://relay.example.com", b"ticket"),), 1_800_000_000_000)


def entropy_of(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def digest(space: SpaceId, seat: bytes, prevs: Sequence[bytes], device: DeviceId) -> bytes:
    """Stands for membership's rule: any hash of all four."""
    return hashlib.blake2b(encode_canonical([space, seat, list(prevs), device]), digest_size=32).digest()


def introduction(offer: Offer, name: str = "laptop") -> Introduction:
    device = device_id(SIGN_PUBLIC, EXCHANGE_PUBLIC)
    signature = crypto_sign(digest(offer.space, offer.seat, offer.prevs, device), SIGN_SECRET)[:64]
    return Introduction(SIGN_PUBLIC, EXCHANGE_PUBLIC, name, "linux", signature)


def existing(issued: IssuedCode | None = None, *, authority: str = RELAY, seed: int = 1) -> Existing:
    return Existing(
        issued or IssuedCode(CODE), OFFER, authority=authority, joiner_digest=digest, entropy=entropy_of(seed)
    )


def new(code: PairingCode = TYPED, *, authority: str = RELAY, seed: int = 2) -> New:
    return New(code, authority=authority, entropy=entropy_of(seed))


@dataclass
class Pair:
    """Two machines and the mailbox between them. `record` keeps every message as (from E, bytes)."""

    e: Existing = field(default_factory=existing)
    n: New = field(default_factory=new)
    record: list[tuple[bool, bytes]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    waiting: list[tuple[bool, bytes]] = field(default_factory=list)
    admission: Admission = ADMISSION

    def run(self, upto: int | None = None) -> Pair:
        """Deliver messages one by one, both callers doing their part, until nothing moves or *upto* were delivered."""
        self.collect()
        while self.waiting and (upto is None or len(self.record) < upto):
            of_e, message = self.waiting.pop(0)
            self.record.append((of_e, message))
            for event in (self.n if of_e else self.e).receive(message):
                self.events.append(event)
                self.act(event)
            self.collect()
        return self

    def collect(self) -> None:
        self.waiting += [(False, message) for message in self.n.data_to_send()]
        self.waiting += [(True, message) for message in self.e.data_to_send()]

    def act(self, event: Event) -> None:
        match event:
            case Invited(offer):
                self.n.introduce(introduction(offer))
            case Introduced():
                self.e.admit(self.admission)
            case Admitted():
                self.n.finish()
            case _:
                pass


def cause_of(failed: pytest.ExceptionInfo[PairingFailed]) -> str:
    assert failed.value.code == "pairing_failed"
    assert failed.value.message.strip()
    return str(failed.value.detail["cause"])


def phase_of(message: bytes) -> Phase:
    return Phase(msgspec.msgpack.decode(message)[0])


# ---- the whole way ----------------------------------------------------------------------------------------------
def test_spec_D2_two_devices_pair_with_typed_digits() -> None:
    pair = Pair().run()
    assert (pair.e.state, pair.n.state) == (State.DONE, State.DONE)
    kinds = [type(event) for event in pair.events]
    assert kinds == [Confirmed, Confirmed, Invited, Introduced, Admitted, Finished]
    assert pair.e.words == pair.n.words
    assert len(pair.e.words) == 4
    assert pair.events[2] == Invited(OFFER)
    assert pair.events[3] == Introduced(introduction(OFFER))
    assert pair.events[4] == Admitted(ADMISSION)
    assert [phase_of(message) for _, message in pair.record] == [
        Phase.HELLO, Phase.ANSWER, Phase.PROOF, Phase.COUNTERPROOF, Phase.OFFER, Phase.INTRODUCTION, Phase.ADMISSION,
        Phase.DONE,
    ]  # fmt: skip


def test_spec_D2_the_link_pairs_with_its_longer_secret() -> None:
    scanned = parse_code(format_link(CODE))
    assert scanned == CODE
    pair = Pair(n=new(scanned)).run()
    assert pair.n.state is State.DONE
    assert pair.record[0][1] != Pair().run().record[0][1]
    only_link = IssuedCode(CODE, digits_allowed=False)
    assert Pair(e=existing(only_link), n=new(scanned)).run().e.state is State.DONE


def test_same_entropy_same_bytes_and_other_entropy_other_keys() -> None:
    assert Pair().run().record == Pair().run().record
    other = Pair(e=existing(seed=3)).run()
    assert other.e.words != Pair().run().e.words
    assert all(a != b for (_, a), (_, b) in zip(other.record[1:], Pair().run().record[1:], strict=True))


def test_long_control_logs_travel_in_parts_that_fit() -> None:
    records = tuple(bytes([index % 251]) * 8000 for index in range(500))
    pair = Pair(admission=Admission(records, (), 0)).run()
    assert isinstance(pair.events[-2], Admitted)
    assert pair.events[-2].admission.records == records
    parts = [message for _, message in pair.record if phase_of(message) is Phase.ADMISSION]
    assert len(parts) == 16
    assert max(map(len, parts)) <= ADMISSION_PART_BYTES + 64 <= MAX_PAIRING_BYTES <= MAX_FRAME_BYTES


def test_sec_R1_the_mailbox_sees_no_names_keys_records_or_code() -> None:
    pair = Pair().run()
    seen = b"".join(message for _, message in pair.record)
    planted = [b"laptop", b"linux", b"genesis", b"ticket", b"relay.example.com", ROOT, SPACE, OFFER.seat, SIGN_PUBLIC,
               EXCHANGE_PUBLIC, b"803265", CODE.secret]  # fmt: skip
    assert not [value for value in planted if value in seen]


def test_work_in_a_thread_is_enough() -> None:
    """All slow work is in the constructor and in `receive`; a machine may move from thread to thread."""
    pair = Pair()

    def step() -> None:
        pair.run(len(pair.record) + 1)

    for _ in range(8):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert pair.n.state is State.DONE


# ---- wrong codes, guesses, one exchange ---------------------------------------------------------------------------
def test_spec_D2_a_wrong_code_is_refused_and_burns_it() -> None:
    issued = IssuedCode(CODE)
    pair = Pair(e=existing(issued), n=new(PairingCode(417, "803266")))
    with pytest.raises(PairingFailed) as failed:
        pair.run()
    assert cause_of(failed) == Cause.WRONG_CODE
    assert issued.is_spent
    # N had told its proof first; E has told nothing but its SPAKE2 message and the abort.
    (abort,) = pair.e.data_to_send()
    assert phase_of(abort) is Phase.ABORT
    assert [phase_of(message) for of_e, message in pair.record if of_e] == [Phase.ANSWER]
    with pytest.raises(PairingFailed) as told:
        pair.n.receive(abort)
    assert cause_of(told) == Cause.WRONG_CODE
    assert told.value.detail["by_other_side"] is True
    with pytest.raises(PairingFailed) as second:
        Pair(e=existing(issued)).run()
    assert cause_of(second) == Cause.CODE_USED


def test_spec_D2_a_guesser_that_drops_the_line_has_used_the_code() -> None:
    """The guess can be tested as soon as E's message is out, so the code is dead from then on, on every path."""
    issued = IssuedCode(CODE)
    over_relay, over_lan = existing(issued), existing(issued, authority="fp:00")
    assert not issued.is_spent
    pair = Pair(e=over_relay).run(2)
    assert pair.record[1][0]
    assert issued.is_spent
    with pytest.raises(PairingFailed) as gone:
        over_relay.connection_lost()
    assert cause_of(gone) == Cause.GONE
    with pytest.raises(PairingFailed) as second:
        Pair(e=over_lan, n=new(authority="fp:00")).run()
    assert cause_of(second) == Cause.CODE_USED


def test_a_visitor_that_says_nothing_does_not_use_the_code() -> None:
    issued = IssuedCode(CODE)
    with pytest.raises(PairingFailed):
        existing(issued).connection_lost()
    assert not issued.is_spent
    assert Pair(e=existing(issued)).run().e.state is State.DONE


def test_a_code_goes_to_one_of_many_threads() -> None:
    issued = IssuedCode(CODE)
    got: list[PairingCode | None] = []
    threads = [threading.Thread(target=lambda: got.append(issued.spend())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(None) == 15


def test_digits_may_be_barred() -> None:
    issued = IssuedCode(CODE, digits_allowed=False)
    with pytest.raises(PairingFailed) as failed:
        Pair(e=existing(issued)).run()
    assert cause_of(failed) == Cause.LINK_ONLY
    assert issued.is_spent


def test_a_wrong_link_secret_is_refused_and_so_is_a_link_to_a_code_without_one() -> None:
    with pytest.raises(PairingFailed) as failed:
        Pair(n=new(PairingCode(417, "803265", "", b"\x5b" * 16))).run()
    assert cause_of(failed) == Cause.WRONG_CODE
    with pytest.raises(PairingFailed) as failed:
        Pair(e=existing(IssuedCode(TYPED)), n=new(CODE)).run()
    assert cause_of(failed) == Cause.WRONG_CODE


@pytest.mark.parametrize("nameplate", [0, 416])
def test_the_nameplate_is_part_of_the_exchange(nameplate: int) -> None:
    with pytest.raises(PairingFailed) as failed:
        Pair(n=new(PairingCode(nameplate, "803265"))).run()
    assert cause_of(failed) == Cause.WRONG_CODE


def test_sec_R11_a_pairing_carried_to_another_relay_fails() -> None:
    with pytest.raises(PairingFailed) as failed:
        Pair(n=new(authority="host:evil.example.com")).run()
    assert cause_of(failed) == Cause.WRONG_CODE


# ---- who sits between ---------------------------------------------------------------------------------------------
def test_sec_R3_one_who_knows_the_code_and_sits_between_shows_other_words() -> None:
    """The words are what is left when the code was overheard: both sides complete, and they differ."""
    for seed in range(3):
        to_e, to_n = new(seed=10 + seed), existing(seed=20 + seed)
        left, right = Pair(e=existing(seed=seed), n=to_e), Pair(e=to_n, n=new(seed=30 + seed))
        left.run(5)
        right.run(5)
        assert len(left.e.words) == len(right.n.words) == 4
        assert left.e.words == to_e.words
        assert left.e.words != right.n.words


def test_sec_R5_words_cannot_be_searched_for() -> None:
    """E is bound to its nonce before it sees N's, N to its own before it sees E's: nobody chooses last."""
    pair = Pair().run(3)
    answer = msgspec.msgpack.decode(pair.record[1][1])[1]
    (_, counterproof), (_, offer) = pair.waiting
    nonce = msgspec.msgpack.decode(counterproof)[1][:16]
    assert answer[-32:] == blake2b(nonce, 32, "hgw-pair-commit")
    # One in between who knows everything, and would show another nonce because its words fit better:
    n = pair.n
    other = bytes(16)
    key = blake2b(n._transcript + n._nonce + other, 32, "hgw-pair-cE", n._key)
    with pytest.raises(PairingFailed) as failed:
        n.receive(encode_canonical([int(Phase.COUNTERPROOF), other + key]))
    assert cause_of(failed) == Cause.WRONG_CODE
    assert offer


def test_reflected_messages_are_refused() -> None:
    n = new()
    (hello,) = n.data_to_send()
    _, body = msgspec.msgpack.decode(hello)
    for answer in (body + bytes(32), body[:2] + b"A" + body[3:] + bytes(32)):
        with pytest.raises(PairingFailed) as failed:
            copy.deepcopy(n).receive(encode_canonical([int(Phase.ANSWER), answer]))
        assert cause_of(failed) == Cause.BAD_MESSAGE
    # E's own proof sent back to it is not N's.
    pair = Pair().run(3)
    counterproof = pair.waiting[0][1]
    e = Pair().run(2).e
    with pytest.raises(PairingFailed) as failed:
        e.receive(encode_canonical([int(Phase.PROOF), msgspec.msgpack.decode(counterproof)[1]]))
    assert cause_of(failed) == Cause.WRONG_CODE


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\x01" + bytes(31),  # zero of the group
        b"\x01" + bytes(30) + b"\x80",  # zero with the other sign
        (2**255 - 18).to_bytes(32, "little"),  # zero, encoded above the field
        (2**255 - 20).to_bytes(32, "little"),  # of order two
        (2).to_bytes(32, "little"),  # not on the curve
        b"\xff" * 32,
    ],
    ids=["order four", "zero", "zero negative", "zero above the field", "order two", "no point", "all ones"],
)
def test_points_that_are_none_are_refused_by_both(point: bytes) -> None:
    with pytest.raises(PairingFailed) as failed:
        existing().receive(encode_canonical([int(Phase.HELLO), b"\x01\x00B" + point]))
    assert cause_of(failed) == Cause.BAD_MESSAGE
    with pytest.raises(PairingFailed) as failed:
        new().receive(encode_canonical([int(Phase.ANSWER), b"\x01\x00A" + point + bytes(32)]))
    assert cause_of(failed) == Cause.BAD_MESSAGE


def steps() -> list[tuple[bytes, Existing | New]]:
    """Each message of a good pairing with a copy of the machine that is about to receive it."""
    pair, found = Pair(), []
    pair.collect()
    while pair.waiting:
        of_e, message = pair.waiting[0]
        found.append((message, copy.deepcopy(pair.n if of_e else pair.e)))
        pair.run(len(pair.record) + 1)
    assert [phase_of(message) for message, _ in found] == [Phase(value) for value in range(1, 9)]
    return found


def test_every_flipped_byte_of_every_message_is_refused() -> None:
    """Alone or at the next step at the latest: a changed SPAKE2 message or nonce shows when the keys are confirmed."""
    for message, target in steps():
        phase = phase_of(message)
        for at in range(len(message)) if phase > Phase.ANSWER else range(0, len(message), 3):
            changed = bytearray(message)
            changed[at] ^= 0x20
            machine = copy.deepcopy(target)
            try:
                machine.receive(bytes(changed))
            except PairingFailed:
                assert machine.state is State.FAILED
                continue
            assert phase in (Phase.HELLO, Phase.ANSWER), f"{phase.name} byte {at} was taken"
            other = Pair().run(2 if phase is Phase.ANSWER else 1)
            with pytest.raises(PairingFailed):
                Pair(machine, other.n).run() if isinstance(machine, Existing) else Pair(other.e, machine).run()


def test_sec_R2_replayed_skipped_and_reordered_messages_are_refused() -> None:
    good = steps()
    for index, (message, target) in enumerate(good):
        for other in range(len(good)):
            if other == index:
                continue
            machine = copy.deepcopy(target)
            with pytest.raises(PairingFailed):
                machine.receive(good[other][0])
            assert machine.state is State.FAILED
            with pytest.raises(PairingFailed):
                machine.receive(message)  # the right one comes too late: nothing revives a failed machine
        machine = copy.deepcopy(target)
        machine.receive(message)
        with pytest.raises(PairingFailed):
            machine.receive(message)


def test_messages_of_another_pairing_are_refused() -> None:
    """Same code, same relay, other entropy: nothing fits."""
    foreign = Pair(e=existing(seed=8), n=new(seed=9)).run().record
    for index, (message, target) in enumerate(steps()):
        if phase_of(message) in (Phase.HELLO, Phase.ANSWER):
            continue
        with pytest.raises(PairingFailed):
            target.receive(foreign[index][1])


def test_truncated_messages_are_refused() -> None:
    for message, target in steps():
        for size in {0, 1, 2, len(message) // 2, len(message) - 1}:
            with pytest.raises(PairingFailed):
                copy.deepcopy(target).receive(message[:size])
        with pytest.raises(PairingFailed):
            copy.deepcopy(target).receive(message + b"\0")
        phase, body = msgspec.msgpack.decode(message)
        for shorter in (b"", body[:1], body[:-1], body + b"\0", body[: max(0, len(body) - 17)]):
            if shorter != body:
                with pytest.raises(PairingFailed):
                    copy.deepcopy(target).receive(encode_canonical([phase, shorter]))


def test_oversized_and_shapeless_messages_are_refused() -> None:
    hostile = [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        encode_canonical([1]),
        encode_canonical([0, b""]),
        encode_canonical([10, b""]),
        encode_canonical([-1, b""]),
        encode_canonical([2**63, b""]),
        encode_canonical(["hello", b""]),
        encode_canonical([1, "text"]),
        encode_canonical([1, None]),
        encode_canonical({"phase": 1}),
        encode_canonical([1, bytes(20_000)]),
        encode_canonical([7, bytes(MAX_PAIRING_BYTES)]),
        b"\x91" * 100_000,
        b"\xc6\xff\xff\xff\xff",
        bytes(MAX_PAIRING_BYTES + 1),
    ]
    for machine in (existing(), new()):
        for message in hostile:
            victim = copy.deepcopy(machine)
            with pytest.raises(PairingFailed) as failed:
                victim.receive(message)
            assert cause_of(failed) == Cause.BAD_MESSAGE
            assert victim.state is State.FAILED


def test_random_bytes_never_get_past_the_machine() -> None:
    rng = random.Random(7)
    for _, target in steps():
        for _ in range(30):
            junk = rng.randbytes(rng.randrange(200))
            phase = rng.randrange(12)
            for message in (junk, encode_canonical([phase, junk])):
                with pytest.raises(PairingFailed):
                    copy.deepcopy(target).receive(message)


def test_sec_R20_another_version_or_kind_is_refused_and_named() -> None:
    hello = msgspec.msgpack.decode(new().data_to_send()[0])[1]
    with pytest.raises(PairingFailed) as failed:
        existing().receive(encode_canonical([1, b"\x02" + hello[1:]]))
    assert cause_of(failed) == Cause.VERSION
    with pytest.raises(PairingFailed) as failed:
        existing().receive(encode_canonical([1, hello[:1] + b"\x07" + hello[2:]]))
    assert cause_of(failed) == Cause.BAD_MESSAGE
    answer = msgspec.msgpack.decode(Pair().run(2).record[1][1])[1]
    for changed, cause in ((b"\x02" + answer[1:], Cause.VERSION), (b"\x01\x01" + answer[2:], Cause.BAD_MESSAGE)):
        with pytest.raises(PairingFailed) as failed:
            new().receive(encode_canonical([2, changed]))
        assert cause_of(failed) == cause


def test_the_format_is_what_the_page_says() -> None:
    """Keys, proofs, words and sealed messages made by hand from the written layout."""
    pair = Pair().run()
    (hello, answer, proof, counterproof, offer, joiner, admission, done) = (
        msgspec.msgpack.decode(message)[1] for _, message in pair.record
    )
    ids = [b"hgw-pair-1|E|417", b"hgw-pair-1|N|417"]
    said = ["hgw-pair-1", 0, *ids, "host:relay.example.com", hello[2:], answer[2:35], answer[35:]]
    transcript, key = msgspec.msgpack.encode(said), pair.e._key

    def derive(person: bytes, *nonces: bytes, size: int = 32) -> bytes:
        return hashlib.blake2b(transcript + b"".join(nonces), digest_size=size, key=key, person=person).digest()

    def opened(direction: bytes, count: int, phase: int, sealed: bytes) -> bytes:
        nonce = count.to_bytes(24, "big")
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, b"hgw-pair-1" + bytes([phase]), nonce, direction)

    assert (hello[:3], answer[:3]) == (b"\x01\x00B", b"\x01\x00A")
    nonce_n, nonce_e = proof[:16], counterproof[:16]
    assert proof[16:] == derive(b"hgw-pair-cN", nonce_n)
    assert counterproof[16:] == derive(b"hgw-pair-cE", nonce_n, nonce_e)
    assert answer[35:] == hashlib.blake2b(nonce_e, digest_size=32, person=b"hgw-pair-commit").digest()
    assert pair.e.words == tuple(WORDS[byte] for byte in derive(b"hgw-pair-words", nonce_n, nonce_e, size=4))
    key_e, key_n = derive(b"hgw-pair-kE"), derive(b"hgw-pair-kN")
    assert msgspec.msgpack.decode(opened(key_e, 0, 5, offer), type=Offer) == OFFER
    assert msgspec.msgpack.decode(opened(key_n, 0, 6, joiner), type=Introduction) == introduction(OFFER)
    part = opened(key_e, 1, 7, admission)
    assert part[:4] == b"\0\0\0\1"
    assert msgspec.msgpack.decode(part[4:], type=Admission) == ADMISSION
    assert opened(key_n, 1, 8, done) == b""


# ---- what is said under seal --------------------------------------------------------------------------------------
def lie(phase: Phase, plaintext: bytes) -> pytest.ExceptionInfo[PairingFailed]:
    """One side has the right keys and says something else in *phase*; the other must refuse it."""
    pair = Pair().run(int(phase) - 1)
    of_e, true = pair.waiting[0]
    assert phase_of(true) is phase
    liar, victim = (pair.e, pair.n) if of_e else (pair.n, pair.e)
    assert liar._seal is not None
    liar._seal._count -= 1
    liar._send_sealed(phase, plaintext)
    with pytest.raises(PairingFailed) as failed:
        victim.receive(liar.data_to_send()[0])
    assert victim.state is State.FAILED
    return failed


@pytest.mark.parametrize(
    "offer",
    [
        Offer(SpaceId(b"\x00" * 16), ROOT, OFFER.seat, OFFER.prevs),
        Offer(SPACE, ROOT[:31], OFFER.seat, OFFER.prevs),
        Offer(SPACE, ROOT, OFFER.seat[:16], OFFER.prevs),
        Offer(SPACE, ROOT, OFFER.seat, ()),
        Offer(SPACE, ROOT, OFFER.seat, (b"short",)),
        Offer(SPACE, ROOT, OFFER.seat, (b"\x0c" * 32,) * 257),
    ],
)
def test_an_offer_that_cannot_be_is_refused(offer: Offer) -> None:
    failed = lie(Phase.OFFER, msgspec.msgpack.encode(offer))
    assert cause_of(failed) == Cause.BAD_MESSAGE
    with pytest.raises(BadFrame):
        Existing(IssuedCode(CODE), offer, authority=RELAY, joiner_digest=digest, entropy=entropy_of(1))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"} | {"signature": bytes(64)},
        {"sign_public": bytes(32)},
        {"exchange_public": bytes(32)},
        {"exchange_public": b""},
        {"signature": b""},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "two\nlines"},
        {"name": "\u202egnp.exe"},
        {"platform": "\x1b[31m"},
        {"platform": "p" * 33},
    ],
)
def test_sec_R3_an_introduction_not_signed_by_its_keys_is_refused(change: dict[str, object]) -> None:
    joiner = msgspec.structs.replace(introduction(OFFER), **change)
    failed = lie(Phase.INTRODUCTION, msgspec.msgpack.encode(joiner))
    assert cause_of(failed) == Cause.BAD_MESSAGE


def test_an_introduction_signed_for_another_offer_is_refused() -> None:
    other = Offer(SPACE, ROOT, OFFER.seat, (b"\x0c" * 32,))
    failed = lie(Phase.INTRODUCTION, msgspec.msgpack.encode(introduction(other)))
    assert cause_of(failed) == Cause.BAD_MESSAGE


@pytest.mark.parametrize(
    ("plaintext", "why"),
    [
        (b"", "no numbers"),
        (b"\0\0\0\1", "an empty part"),
        (b"\0\0\0\0" + b"x", "none of none"),
        (b"\0\1\0\2" + b"x", "the second first"),
        (b"\0\0\0\x12" + b"x", "more parts than fit"),
        (b"\0\0\0\1" + b"\xc1", "not msgpack"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((), (), 0)), "no records"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((b"",), (), 0)), "an empty record"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((bytes(8193),), (), 0)), "a long record"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((b"x",) * 4001, (), 0)), "many records"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((b"x",), (RelayHint("u"),) * 9, 0)), "many relays"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((b"x",), (RelayHint("u" * 301),), 0)), "a long address"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((b"x",), (RelayHint("u", bytes(1025)),), 0)), "a long ticket"),
        (b"\0\0\0\1" + msgspec.msgpack.encode(Admission((b"x",), (), -1)), "a time before time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_admission_that_cannot_be_is_refused(plaintext: bytes, why: str) -> None:
    assert cause_of(lie(Phase.ADMISSION, plaintext)) == Cause.BAD_MESSAGE, why


def test_parts_without_end_stop_at_the_limit() -> None:
    pair = Pair().run(6)
    assert pair.e._seal is not None
    pair.e._seal._count = 1
    taken = 0
    with pytest.raises(PairingFailed) as failed:
        for index in range(17):
            pair.e._send_sealed(Phase.ADMISSION, bytes([0, index, 0, 17]) + bytes(500_000))
            pair.n.receive(pair.e.data_to_send()[0])
            taken += 1
    assert cause_of(failed) == Cause.BAD_MESSAGE
    assert taken * 500_000 <= MAX_ADMISSION_BYTES < (taken + 1) * 500_000


def test_more_records_than_travel_are_an_error_of_the_caller() -> None:
    pair = Pair()
    pair.act = lambda event: pair.n.introduce(introduction(event.offer)) if isinstance(event, Invited) else None  # type: ignore[method-assign]
    pair.run()
    for bad in (Admission((bytes(8192),) * 513, (), 0), Admission((), (), 0), Admission((b"x",), (), 2**47)):
        with pytest.raises(BadFrame):
            pair.e.admit(bad)
    assert pair.e.state is State.DECIDING
    pair.e.admit(ADMISSION)


# ---- people and callers -------------------------------------------------------------------------------------------
def test_the_person_refuses_and_nothing_is_told() -> None:
    pair = Pair()
    pair.act = lambda event: pair.n.introduce(introduction(event.offer)) if isinstance(event, Invited) else None  # type: ignore[method-assign]
    pair.run()
    assert pair.e.state is State.DECIDING
    pair.e.abort(Cause.REFUSED)
    with pytest.raises(PairingFailed) as failed:
        pair.run()
    assert cause_of(failed) == Cause.REFUSED
    assert pair.n.state is State.FAILED
    assert not any(phase_of(message) is Phase.ADMISSION for _, message in pair.record)
    pair.e.abort()  # a second time is harmless
    assert pair.e.data_to_send() == []


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_reaches_the_other_person_as_a_sentence(cause: Cause) -> None:
    e, n = existing(), new()
    n.abort(cause)
    hello, abort = n.data_to_send()
    e.receive(hello)
    with pytest.raises(PairingFailed) as failed:
        e.receive(abort)
    assert cause_of(failed) == cause
    assert "hybridgw pair" in failed.value.message


@pytest.mark.parametrize("reason", [b"", b"sabotage", b"\xff\x00", b"x" * 5000])
def test_an_abort_may_say_anything(reason: bytes) -> None:
    n = new()
    with pytest.raises(PairingFailed) as failed:
        n.receive(encode_canonical([int(Phase.ABORT), reason]))
    assert cause_of(failed) == Cause.CANCELLED
    assert n.data_to_send()[1:] == []  # an abort is not answered


def test_callers_out_of_turn_are_told_and_nothing_breaks() -> None:
    pair = Pair()
    for call in (
        lambda: pair.e.admit(ADMISSION),
        lambda: pair.n.introduce(introduction(OFFER)),
        lambda: pair.n.finish(),
    ):
        with pytest.raises(LocalError):
            call()
    assert pair.run().n.state is State.DONE
    pair.e.connection_lost()
    pair.n.abort()
    assert pair.n.data_to_send() == []
    with pytest.raises(PairingFailed):
        pair.n.receive(pair.record[0][1])


def test_state_tables_name_only_reachable_turns() -> None:
    """Every state that waits for a message has a row, and no phase is taken by both sides."""
    taken_by_e = {phase for row in Existing.receives.values() for phase in row}
    taken_by_n = {phase for row in New.receives.values() for phase in row}
    assert taken_by_e & taken_by_n == set()
    assert taken_by_e | taken_by_n | {Phase.ABORT} == set(Phase)


# ---- codes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "417-803-265", "417803265", " 417 803 265\n", "417\u2013803\u2014265", "41-78-03-26-5", "417.803.265",
        "４１７-８０３-２６５", "417\u00a0803\u202f265",
        "hybridgw://pair?code=417-803-265", "HybridGW://PAIR?code=417803265&later=1",
    ],
)  # fmt: skip
def test_codes_are_read_as_people_write_them(text: str) -> None:
    code = parse_code(text)
    assert (code.nameplate, code.digits, code.relay) == (417, "803265", "")
    assert format_code(code) == "417-803-265"


@pytest.mark.parametrize(
    ("typed", "relay", "shown"),
    [
        ("relay.example.com", "https://relay.example.com", "relay.example.com"),
        ("Relay.Example.COM:443", "https://relay.example.com", "relay.example.com"),
        ("https://relay.example.com/", "https://relay.example.com", "relay.example.com"),
        ("relay.example.com:8443", "https://relay.example.com:8443", "relay.example.com:8443"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:8080", "http://localhost:8080", "localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
        ("http://10.0.0.4:8080", "http://10.0.0.4:8080", "http://10.0.0.4:8080"),
        ("https://localhost:8443", "https://localhost:8443", "https://localhost:8443"),
        ("bücher.example", "https://xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_the_relay_in_a_code_has_one_form(typed: str, relay: str, shown: str) -> None:
    code = parse_code(f"417-803-265@{typed}")
    assert code.relay == relay
    assert format_code(code) == f"417-803-265@{shown}"
    assert parse_code(format_code(code)) == code
    assert parse_code(format_link(code)) == code


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "9 digits"),
        ("417-803-26", "9 digits"),
        ("417-803-2655", "9 digits"),
        ("417-8O3-265", "only digits"),
        ("417-803-265@", "address is missing"),
        ("417-803-265@a b", "not a relay"),
        ("417-803-265@user:pw@host", "not a relay"),
        ("417-803-265@host/path", "not a relay"),
        ("417-803-265@host:99999", "port"),
        ("417-803-265@ftp://host", "not a relay"),
        ("417-803-265@..", "host name"),
        ("417-803-265@[::g]", "not a relay"),
        ("417-803-265@:80", "not a relay"),
        ("x" * 700, "too long"),
        ("hybridgw://pear?code=417803265", "not a pairing link"),
        ("hybridgw://pair", "9 digits"),
        ("hybridgw://pair?code", "damaged"),
        ("hybridgw://pair?code=417803265&code=417803266", "twice"),
        ("hybridgw://pair?code=417803265&secret=00", "secret"),
        ("hybridgw://pair?code=417803265&secret=" + "zz" * 16, "secret"),
    ],
)
def test_a_code_that_is_none_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(BadValue, match=says) as error:
        parse_code(text)
    assert "265" not in error.value.message.replace("417-803-265", ""), "the typed digits are not repeated"


def test_made_codes_are_whole_and_spread() -> None:
    codes = [make_code(7, entropy_of(seed), "wss://relay.example.com") for seed in range(2000)]
    assert all(len(code.digits) == 6 and code.digits.isdigit() and len(code.secret) == 16 for code in codes)
    assert all(parse_code(format_link(code)) == code for code in codes)
    assert len({code.digits for code in codes}) > 1990
    assert any(code.digits.startswith("0") for code in codes)
    assert codes[0].relay == "https://relay.example.com"
    assert format_code(codes[0]).startswith("007-")
    for nameplate in (-1, 1000):
        with pytest.raises(BadValue):
            make_code(nameplate, entropy_of(1))


def test_sec_L33_a_code_does_not_show_its_secrets() -> None:
    assert "803265" not in repr(CODE)
    assert "5a" not in repr(CODE)
    assert "secret" not in format_code(CODE)


# ---- words and names ----------------------------------------------------------------------------------------------
def test_words_are_256_and_hard_to_mistake() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 8 for word in WORDS)
    assert len({word[:4] for word in WORDS}) == 256, "four letters are enough to tell words apart"
    assert words_of(b"\x00\xff\x01") == (WORDS[0], WORDS[255], WORDS[1])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("laptop", "laptop"),
        ("  two\nlines\u202e ", "twolines"),
        ("", "device"),
        ("\x00\x1b", "device"),
        ("é" * 60, "é" * 32),
        ("\ud800x", "x"),
    ],
)
def test_any_host_name_becomes_one_that_can_be_sent(text: str, name: str) -> None:
    assert clean_name(text) == name
    check_introduction(msgspec.structs.replace(introduction(OFFER), name=clean_name(text)))
