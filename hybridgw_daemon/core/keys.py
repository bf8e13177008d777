"""Keys of a device: its own, root's, and the space keys it can open; the key records that an honest device signs.

Pure: seeds, entropy and time are arguments. Who *may* have which key follows from the control log alone
(protocol/hybridgw_protocol/membership.py); here a device really opens them, with its exchange secret, and hands them
on. Space keys are not stored: they come out of the control log again at every start. The bytes are in key_wraps.py.
Source: protocol/SPEC.md, "Keys".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult_base,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import CannotOpen
from hybridgw_protocol.ids import DeviceId, Digest, KeyId, SpaceId, blake2b, device_id, key_id, space_id
from hybridgw_protocol.limits import SPACE_KEY_DAYS
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.records import (
    MAX_PREVS,
    ROOT,
    Add,
    Epoch,
    Genesis,
    Record,
    Wrap,
    read_record,
    sign_record,
)

from .key_wraps import NONCE_BYTES, SPACE_KEY_BYTES, carry_key, commitment, open_carried, open_key, seal_key

Entropy = Callable[[int], bytes]  # n -> n random bytes

# What fits into a record of 8 KiB beside 64 prevs (2.2 KiB): 32 boxes of 117 bytes and 12 carried keys of 109, or 40
# boxes and a name. The rest comes by `wrap` records: only a hostile device makes so many seats or epochs.
MAX_RECIPIENTS: Final = 32
MAX_CARRIED: Final = 12
MAX_WRAPS: Final = 40
DAY_MS: Final = 86_400_000
_NAME_STEP_BYTES: Final = 64  # sealed names come in few lengths


# ---- key pairs -------------------------------------------------------------------------------------------------------
class DeviceKeys(msgspec.Struct, frozen=True):
    """Ed25519 and X25519 keys of a device. Secrets: 64 bytes (libsodium's form) and 32 bytes."""

    sign_public: bytes
    sign_secret: bytes
    exchange_public: bytes
    exchange_secret: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> DeviceKeys:
        """Args: seed: 64 random bytes; the first half is the Ed25519 seed, the second the X25519 secret."""
        if len(seed) != 64:
            raise ValueError("The seed of a device has 64 bytes.")
        return cls(*crypto_sign_seed_keypair(seed[:32]), crypto_scalarmult_base(seed[32:]), seed[32:])

    @property
    def device(self) -> DeviceId:
        """The id that both public keys make."""
        return device_id(self.sign_public, self.exchange_public)

    def __repr__(self) -> str:
        return f"DeviceKeys({self.device.hex()})"


class RootKeys(msgspec.Struct, frozen=True):
    """Ed25519 and X25519 keys of root, from the seed behind the recovery words."""

    sign_public: bytes
    sign_secret: bytes
    exchange_public: bytes
    exchange_secret: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> RootKeys:
        """Args: seed: 32 random bytes."""
        if len(seed) != 32:
            raise ValueError("The seed of root has 32 bytes.")
        exchange_secret = blake2b(b"", 32, "hgw-root-xchg", seed)
        return cls(
            *crypto_sign_seed_keypair(blake2b(b"", 32, "hgw-root-sign", seed)),
            crypto_scalarmult_base(exchange_secret),
            exchange_secret,
        )

    @property
    def space(self) -> SpaceId:
        """The space that this root key begins."""
        return space_id(self.sign_public)

    def __repr__(self) -> str:
        return f"RootKeys({self.space.hex()})"


# ---- names of devices ------------------------------------------------------------------------------------------------
class _Label(msgspec.Struct, frozen=True):
    name: str
    platform: str


def encrypt_name(space_key: bytes, device: DeviceId, name: str, platform: str, nonce: bytes) -> bytes:
    """A device's label for its record: key id 8 | nonce 24 | ciphertext. Args: nonce: 24 fresh random bytes."""
    label = encode_canonical({"name": name, "platform": platform})
    padded = -(-(len(label) + 2) // _NAME_STEP_BYTES) * _NAME_STEP_BYTES
    plain = (len(label).to_bytes(2, "big") + label).ljust(padded, b"\0")
    key = blake2b(b"", 32, "hgw-name", space_key)
    return key_id(space_key) + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, device, nonce, key)


def decrypt_name(space_keys: Mapping[KeyId, bytes], device: DeviceId, sealed: bytes) -> tuple[str, str] | None:
    """(name, platform) of a device, text from another device: escape it where it is shown. None: no name, a key that
    is not here (yet), or rubbish."""
    kid, nonce = KeyId(sealed[:8]), sealed[8 : 8 + NONCE_BYTES]
    if kid not in space_keys or len(nonce) != NONCE_BYTES:
        return None
    key = blake2b(b"", 32, "hgw-name", space_keys[kid])
    try:
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[8 + NONCE_BYTES :], device, nonce, key)
        label = msgspec.msgpack.decode(plain[2 : 2 + int.from_bytes(plain[:2], "big")], type=_Label)
    except (CryptoError, ValueError, msgspec.DecodeError):  # ValueError: shorter than a tag, or text that is none
        return None
    return label.name, label.platform


# ---- the space keys a device can open --------------------------------------------------------------------------------
class KeyRing:
    """Space keys that the owner of an exchange secret can get to. Feed it with `follow` after every change of the log.

    keys: by id, for opening batches; epochs: by epoch record; broken: epochs whose key was sealed to this device, but
    is rubbish (a hostile maker): batches under it cannot be opened until somebody gives it again.
    """

    def __init__(self, exchange_public: bytes, exchange_secret: bytes, device: DeviceId | None = None) -> None:
        """Args: device: whose boxes are meant; None: root's. Mostly made by `of_device` or `of_root`."""
        self.keys: dict[KeyId, bytes] = {}
        self.epochs: dict[Digest, bytes] = {}
        self.broken: set[Digest] = set()
        self._public, self._secret, self._device = exchange_public, exchange_secret, device
        self._position = 0

    @classmethod
    def of_device(cls, keys: DeviceKeys) -> KeyRing:
        """What a device can open."""
        return cls(keys.exchange_public, keys.exchange_secret, keys.device)

    @classmethod
    def of_root(cls, keys: RootKeys) -> KeyRing:
        """What the recovery words can open: every space key."""
        return cls(keys.exchange_public, keys.exchange_secret)

    def __repr__(self) -> str:
        return f"KeyRing({len(self.epochs)} keys)"

    def follow(self, log: ControlLog) -> int:
        """Open what is new in the log since the last call. Returns: how many keys are new."""
        before = len(self.epochs)
        for record in log.since(self._position):
            for epoch, box in self._boxes(log, record):
                self._open(log, epoch, box)
        self._position = len(log)
        return len(self.epochs) - before

    def _boxes(self, log: ControlLog, record: Record) -> Iterable[tuple[Digest, bytes]]:
        match record.payload:
            case Epoch(wraps=wraps, root_wrap=root_wrap):
                if self._device is None:
                    return [(record.hash, root_wrap)]
                return [(record.hash, box) for seat, box in wraps if self._is_own(log, seat)]
            case Add(device=device, wraps=wraps) if device == self._device:
                return wraps
            case Wrap(target=target, wraps=wraps) if self._is_own(log, target):
                return wraps
        return ()

    def _is_own(self, log: ControlLog, seat: Digest) -> bool:
        info = log.seat(seat)
        return info is not None and info.device == self._device

    def _open(self, log: ControlLog, epoch: Digest, box: bytes) -> None:
        if epoch in self.epochs:
            return
        try:
            self._keep(log, epoch, open_key(box, self._public, self._secret, log.epochs[epoch]))
        except CannotOpen:
            self.broken.add(epoch)

    def _keep(self, log: ControlLog, epoch: Digest, key: bytes) -> None:
        todo = [(epoch, key)]
        while todo:
            newer, newer_key = todo.pop()
            if newer in self.epochs:
                continue
            self.epochs[newer] = newer_key
            self.keys.setdefault(log.epochs[newer].kid, newer_key)
            self.broken.discard(newer)
            for older, carried in log.epochs[newer].prev_wraps:
                try:
                    todo.append((older, open_carried(carried, older, log.epochs[older], newer_key)))
                except CannotOpen:
                    if older not in self.epochs:
                        self.broken.add(older)


# ---- what an honest device signs -------------------------------------------------------------------------------------
class Hand(msgspec.Struct, frozen=True):
    """Who signs, on top of what, with which keys at hand.

    by: its seat, or ROOT; in_use: ids of the keys under which batches that count are sealed (asked of the store only
    while the log has void epochs; None: not known, then the keys of void epochs are passed on as well).
    """

    log: ControlLog
    by: Digest
    sign_secret: bytes
    ring: KeyRing
    entropy: Entropy
    now_ms: int
    in_use: Collection[KeyId] | None = None

    def __repr__(self) -> str:
        return f"Hand({self.by.hex()[:8] or 'root'})"

    def givable(self, prevs: Iterable[Digest]) -> list[Digest]:
        """The fewest epochs from which a reader gets to all keys that a record on top of *prevs* may pass on, best
        first."""
        log = self.log
        known = set(self.ring.epochs) if self.by == ROOT else log.givable(self.by, self.in_use, self.ring.epochs)
        return log.tops(known & log.epochs_below(prevs))


def begin_space(
    root: RootKeys, device: DeviceKeys, label: tuple[str, str], entropy: Entropy, now_ms: int
) -> list[bytes]:
    """Raw genesis and first epoch of a new space. Args: label: name and platform of its first device."""
    space, space_key = root.space, entropy(SPACE_KEY_BYTES)
    genesis = sign_record(
        Genesis(
            space=space,
            prevs=(),
            by=ROOT,
            ts=now_ms,
            root_public=root.sign_public,
            root_exchange=root.exchange_public,
            sign_public=device.sign_public,
            exchange_public=device.exchange_public,
            name=encrypt_name(space_key, device.device, *label, entropy(NONCE_BYTES)),
        ),
        root.sign_secret,
    )
    seat = read_record(genesis, space).hash
    epoch = Epoch(
        space=space,
        prevs=(seat,),
        by=seat,
        ts=now_ms,
        kid=key_id(space_key),
        commitment=commitment(space_key),
        wraps=((seat, seal_key(space_key, device.exchange_public, entropy(32))),),
        root_wrap=seal_key(space_key, root.exchange_public, entropy(32)),
    )
    return [genesis, sign_record(epoch, device.sign_secret)]


def admit(
    hand: Hand,
    *,
    prevs: Iterable[Digest],
    sign_public: bytes,
    exchange_public: bytes,
    joiner_sig: bytes,
    label: tuple[str, str],
) -> bytes:
    """Raw `add` of a new device, with all keys it may have. Args: prevs: as the joiner signed them; label: its name and
    platform. Raises: BadRecord, TooBig."""
    log, prevs = hand.log, tuple(prevs)
    given = hand.givable(prevs)[:MAX_WRAPS]
    sealing = next((e for e in log.usable_epochs() if e in hand.ring.epochs), None)
    device = device_id(sign_public, exchange_public)
    name = (
        b"" if sealing is None else encrypt_name(hand.ring.epochs[sealing], device, *label, hand.entropy(NONCE_BYTES))
    )
    record = Add(
        space=log.space,
        prevs=prevs,
        by=hand.by,
        ts=hand.now_ms,
        sign_public=sign_public,
        exchange_public=exchange_public,
        name=name,
        joiner_sig=joiner_sig,
        wraps=tuple((e, seal_key(hand.ring.epochs[e], exchange_public, hand.entropy(32))) for e in given),
    )
    return sign_record(record, hand.sign_secret)


def rotate(hand: Hand) -> bytes:
    """Raw `epoch` with a new key for every active device (at most 32 here, `tend` gives it to the rest)."""
    log, space_key = hand.log, hand.entropy(SPACE_KEY_BYTES)
    prevs = tuple(log.signing_heads)
    seats = sorted(log.active_seats(), key=lambda seat: (seat != hand.by, seat))[:MAX_RECIPIENTS]
    wraps = []
    for seat in seats:
        info = log.seat(seat)
        assert info is not None  # noqa: S101 - active seats are seats
        wraps.append((seat, seal_key(space_key, info.exchange_public, hand.entropy(32))))
    carried = [
        (older, carry_key(hand.ring.epochs[older], older, space_key, hand.entropy(NONCE_BYTES)))
        for older in hand.givable(prevs)[:MAX_CARRIED]
    ]
    epoch = Epoch(
        space=log.space,
        prevs=prevs,
        by=hand.by,
        ts=hand.now_ms,
        kid=key_id(space_key),
        commitment=commitment(space_key),
        wraps=tuple(wraps),
        root_wrap=seal_key(space_key, log.root_exchange, hand.entropy(32)),
        prev_wraps=tuple(carried),
    )
    return sign_record(epoch, hand.sign_secret)


def is_old(hand: Hand) -> bool:
    """Has this device sealed long enough under its key. By the clock of who made it: a time in the future is not old,
    so two devices whose clocks disagree do not make one key after another."""
    epoch = hand.log.sealing_epoch(hand.by, hand.ring.epochs)
    return epoch is not None and hand.now_ms - hand.log.epochs[epoch].ts > SPACE_KEY_DAYS * DAY_MS


def tend(hand: Hand, *, renew: bool = False) -> list[bytes]:
    """What this device must sign now: one step. Put the records into the log (and the ring) and ask again, until there
    is none. Before it seals, a device tends; an inactive one signs nothing and keeps its own writes.

    Joins heads if a hostile device made more than a record can name; else makes a new key if none is usable; else
    gives keys to active devices that lack them. So that not all devices rotate at once, whoever calls this after a
    removal waits a random while first, the lowest device the shortest. renew: make a new key also if the one in use is
    old; others must be there to hear of it.
    """
    log = hand.log
    if not log.is_active_seat(hand.by):
        return []
    if len(log.heads) > MAX_PREVS:
        return [_wrap(hand, hand.by, [], log.signing_heads)]
    if log.sealing_epoch(hand.by, hand.ring.epochs) is None or (renew and is_old(hand)):
        return [rotate(hand)]
    records: list[bytes] = []
    prevs = log.signing_heads
    for seat, epochs in log.lacking(hand.by, hand.in_use, hand.ring.epochs).items():
        for start in range(0, len(epochs), MAX_WRAPS):
            raw = _wrap(hand, seat, epochs[start : start + MAX_WRAPS], prevs)
            records.append(raw)
            prevs = [read_record(raw, log.space).hash]
    return records


def _wrap(hand: Hand, target: Digest, epochs: Iterable[Digest], prevs: Iterable[Digest]) -> bytes:
    info = hand.log.seat(target)
    assert info is not None  # noqa: S101 - the caller names a seat
    wraps = tuple((e, seal_key(hand.ring.epochs[e], info.exchange_public, hand.entropy(32))) for e in epochs)
    record = Wrap(
        space=hand.log.space, prevs=tuple(prevs), by=hand.by, ts=hand.now_ms, target=target, wraps=wraps
    )  # fmt: skip
    return sign_record(record, hand.sign_secret)
