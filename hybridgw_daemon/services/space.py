"""The space here: its keys, its control log, who belongs. In memory; services/membership.py and sync.py keep it.

The control log is a set of signed records (protocol/SPEC.md, "Control log"). What follows from it (active devices, the
keys this device can open, ends of logs) is computed here and handed to the replica as one value per change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final

import msgspec
from nacl.bindings import crypto_sign

from hybridgw_protocol.errors import BadValue, HybridGWError, LocalError, PairingFailed, SecretsLocked
from hybridgw_protocol.ids import DeviceId, Digest, KeyId, LogId, SpaceId
from hybridgw_protocol.limits import SHORT_HASH_BYTES
from hybridgw_protocol.membership import Close, ControlLog, DeviceInfo, Status, joiner_digest
from hybridgw_protocol.pairing_messages import Introduction, Offer
from hybridgw_protocol.records import ROOT, LogClose, read_record, sign_record

from ..core import membership_acts as acts
from ..core.discovery_keys import DiscoveryKeys
from ..core.keys import DeviceKeys, Hand, KeyRing, RootKeys, admit, begin_space, decrypt_name, is_old, tend
from ..core.rest import Purpose, RestSealer
from .replica import PROVISIONAL, End, Keys, Sealer

LOCKED: Final = (
    "The keys of this device cannot be opened, so nothing is synced. Unlock the keyring, or choose another place for "
    "them with 'hybridgw up --secret-store passphrase'. Local data is served meanwhile."
)

TEND_STEP_S: Final = 1.0  # a record is at the others well within a second when they are connected
TEND_MOST_STEPS: Final = 8


class Identity(msgspec.Struct, frozen=True):
    """Keys and ids of this device in its space. Secrets never leave this process unsealed."""

    space: SpaceId
    device: DeviceId
    seat: Digest
    sign_public: bytes
    exchange_public: bytes
    sign_secret: bytes

    def __repr__(self) -> str:
        return f"Identity(space={self.space.hex()}, device={self.device.hex()})"


class RestVault:
    """Seals rows of secret collections under the key-encryption key (stores/documents.py, Vault)."""

    def __init__(self, sealer: RestSealer, entropy: Callable[[int], bytes]) -> None:
        self._sealer, self._entropy = sealer, entropy

    def seal(self, place: bytes, data: bytes) -> bytes:
        """Sealed bytes, bound to *place*."""
        return self._sealer.seal(Purpose.SECRET_BODY, (place,), data, self._entropy(24))

    def open(self, place: bytes, data: bytes) -> bytes:
        """Inverse of seal. Raises: CannotOpen."""
        return self._sealer.open(Purpose.SECRET_BODY, (place,), data)


class Candidate:
    """Keys of a device that asks to join; thrown away if it is not let in."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.seed = entropy(64)
        self.keys = DeviceKeys.from_seed(self.seed)

    def introduce(self, offer: Offer, name: str, platform: str) -> Introduction:
        """What it tells the device that adds it."""
        digest = joiner_digest(offer.space, offer.seat, offer.prevs, self.keys.device)
        signature = crypto_sign(digest, self.keys.sign_secret)[:64]
        return Introduction(self.keys.sign_public, self.keys.exchange_public, name, platform, signature)


class Space:
    """The space in memory. `locked` tells why there are no keys; None once there are."""

    def __init__(self, *, name: str, platform: str, entropy: Callable[[int], bytes]) -> None:
        """Args: name, platform: of this device, as other devices show them."""
        self.name = name
        self.platform = platform
        self.locked: str | None = LOCKED
        self.own_log: LogId = PROVISIONAL
        self._entropy = entropy
        self._identity: Identity | None = None
        self._control: ControlLog | None = None
        self._ring: KeyRing | None = None
        self._owners: dict[LogId, DeviceId] = {}
        self._in_use: Callable[[], frozenset[KeyId]] = frozenset
        self._verify_keys: dict[DeviceId, bytes] = {}
        self._discovery: tuple[tuple[int, int], DiscoveryKeys] | None = None  # what it was made of, and it

    # ---- beginning ------------------------------------------------------------------------------------------------
    def begin(self, now_ms: int) -> tuple[bytes, bytes, list[bytes]]:
        """Make a space with this device in it. Returns: root seed, device seed, raw records; nothing is kept yet."""
        root_seed, seed = self._entropy(32), self._entropy(64)
        records = begin_space(
            RootKeys.from_seed(root_seed), DeviceKeys.from_seed(seed), (self.name, self.platform), self._entropy, now_ms
        )
        return root_seed, seed, records

    def load(self, space: SpaceId, seed: bytes, records: Sequence[bytes], *, trusted: bool) -> None:
        """Take up keys and control log. Args: trusted: they come from our own database.

        Raises: PairingFailed: the records do not lead from the space's root to this device, or give it no key.
        """
        control = ControlLog(space)
        _, error = control.update(records, trusted=trusted)
        keys = DeviceKeys.from_seed(seed)
        info = control.device(keys.device) if error is None else None
        if error is not None or info is None:
            raise PairingFailed("The control records do not lead to this device.") from error
        ring = KeyRing.of_device(keys)
        ring.follow(control)
        if not ring.keys:
            raise PairingFailed("The control records give this device no key.")
        self._control, self._ring = control, ring
        self._identity = Identity(
            space, keys.device, info.seat, keys.sign_public, keys.exchange_public, keys.sign_secret
        )
        self._verify_keys.clear()
        self._discovery = None
        self.locked = None

    def check_joined(self, candidate: Candidate, offer: Offer, records: Sequence[bytes]) -> None:
        """Do these records really admit this candidate to the offered space. Raises: PairingFailed."""
        probe = Space(name=self.name, platform=self.platform, entropy=self._entropy)
        probe.load(offer.space, candidate.seed, records, trusted=False)
        if probe.control.root_public != offer.root_public or not probe.is_active:
            raise PairingFailed("The control records do not admit this device.")

    def check_may_join(self, *, anew: bool) -> bool:
        """May this device join a space now: any while it is alone in its own, else only its own again, as a new device.

        Args: anew: it is out of its space, as far as it knows or was told, or a person says that it is to be another.
        Returns: only its own (see `check_is_own`). Raises: SecretsLocked; LocalError: it belongs with others already.
        """
        if len([d for d in self.devices() if d.status is not Status.VOID]) <= 1:
            return False
        if self.is_active and not anew:
            raise LocalError(
                "This device belongs to a space with other devices already. Use a second profile, begun with "
                "'hybridgw --home FOLDER up', and do the same there. If it was removed and has not heard of it, or is "
                "a copy of another machine, 'hybridgw pair CODE --anew' takes it in again as a new device."
            )
        return True

    def check_is_own(self, space: SpaceId) -> None:
        """What is here belongs to others as well, so it goes to no other space. Raises: LocalError: it would."""
        if space != self.identity.space:
            raise LocalError(
                "What is on this device belongs to another space, with other devices; it can only go back to that one. "
                "Use a second profile, begun with 'hybridgw --home FOLDER up', and do the same there."
            )

    # ---- who this is ----------------------------------------------------------------------------------------------
    @property
    def identity(self) -> Identity:
        """Keys and ids. Raises: SecretsLocked: not at hand."""
        if self._identity is None:
            raise SecretsLocked(self.locked or LOCKED)
        return self._identity

    @property
    def control(self) -> ControlLog:
        """The control log. Raises: SecretsLocked."""
        if self._control is None:
            raise SecretsLocked(self.locked or LOCKED)
        return self._control

    @property
    def is_active(self) -> bool:
        """May this device sign and seal."""
        return self._identity is not None and self.control.is_active_seat(self._identity.seat)

    @property
    def root_public(self) -> bytes:
        """The root key that everything is checked from."""
        return self.control.root_public

    def devices(self) -> list[DeviceInfo]:
        """Every device that was ever seated."""
        return self.control.devices()

    def active_devices(self) -> list[DeviceInfo]:
        """Those that belong now; none while the keys are locked."""
        return [] if self._control is None else [d for d in self.devices() if d.status is Status.ACTIVE]

    def standing(self, device: DeviceId) -> Status | None:
        """How a device stands; None: no record here admits it. Raises: SecretsLocked."""
        info = self.control.device(device)
        return None if info is None or info.status is Status.VOID else info.status

    def device_name(self, device: DeviceId) -> str:
        """What to call a device in a sentence."""
        info = None if self._control is None else self._control.device(device)
        return f"device {fingerprint(device)}" if info is None else self.name_of(info)[0]

    def name_of(self, info: DeviceInfo) -> tuple[str, str | None]:
        """(name, platform) of a device; its fingerprint where the name cannot be read."""
        found = decrypt_name(self._ring.keys, info.device, info.name) if self._ring else None
        return found or (f"device {fingerprint(info.device)}", None)

    def verify_key(self, device: DeviceId) -> bytes | None:
        """The signing key of a device that was ever seated; called from the worker thread too."""
        found = self._verify_keys.get(device)
        if found is None and (found := self.control.verify_key(device)) is not None:
            self._verify_keys[device] = found
        return found

    def discovery_keys(self) -> DiscoveryKeys:
        """How members of this space know each other on a local network. Raises: SecretsLocked."""
        control, ring = self.control, self._ring
        assert ring is not None  # noqa: S101 - there is a control log
        made_of = (len(control), len(ring.epochs))
        if self._discovery is None or self._discovery[0] != made_of:
            current = set(control.usable_epochs())
            newest = control.newest_first(ring.epochs)
            self._discovery = made_of, DiscoveryKeys((ring.epochs[e], e in current) for e in newest)
        return self._discovery[1]

    # ---- records --------------------------------------------------------------------------------------------------
    def heads(self) -> list[bytes]:
        """16-byte prefixes of the control heads, sorted."""
        return self.control.short_heads

    def signing_heads(self) -> list[Digest]:
        """What a new record names as its prevs."""
        return self.control.signing_heads

    def records(self) -> list[bytes]:
        """All raw records, prevs first."""
        return [record.raw for record in self.control.since(0)]

    def missing_from(self, heads: Sequence[bytes]) -> list[bytes]:
        """Records that somebody with these heads lacks, prevs first."""
        return self.control.missing_from(heads)

    def lacks(self, heads: Sequence[bytes]) -> bool:
        """Are there heads we do not know."""
        return self.control.lacks(heads)

    def names_of(self, raws: Sequence[bytes]) -> list[bytes]:
        """16-byte prefixes of the hashes of raw records that can be read."""
        found = []
        for raw in raws:
            with suppress(HybridGWError):
                found.append(read_record(raw, self.control.space).hash[:SHORT_HASH_BYTES])
        return found

    def update(self, raws: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Take records. Returns (hash, raw) of the new ones, prevs first.

        Raises: RemoteError kinds, when nothing of it was new: a record that is refused for ever.
        """
        added, error = self.control.update(raws)
        if error is not None and not added:
            raise error
        if added and self._ring is not None:
            self._ring.follow(self.control)
        return [(record.hash, record.raw) for record in added]

    def add_device(self, joiner: Introduction, offer: Offer, now_ms: int) -> bytes:
        """The record that admits a joiner, as it signed for. Raises: BadRecord, TooBig: there is no room."""
        return admit(
            self._hand(now_ms),
            prevs=[Digest(p) for p in offer.prevs],
            sign_public=joiner.sign_public,
            exchange_public=joiner.exchange_public,
            joiner_sig=joiner.signature,
            label=(joiner.name, joiner.platform),
        )

    def close_log(self, log: LogId, end: End, now_ms: int) -> bytes:
        """The record that ends our own log."""
        identity = self.identity
        return sign_record(
            LogClose(
                space=identity.space,
                prevs=tuple(self.signing_heads()),
                by=identity.seat,
                ts=now_ms,
                device=identity.device,
                log=log,
                n=end.n,
                hash=end.hash or bytes(32),
                fork=end.fork,
            ),
            identity.sign_secret,
        )

    def remove(self, target: Digest, now_ms: int) -> bytes:
        """The record by which this device removes that on another seat."""
        return acts.remove(self._hand(now_ms), target)

    def restore(self, ends: Sequence[Digest], now_ms: int) -> bytes:
        """The record that ends removes which this device made."""
        return acts.restore(self._hand(now_ms), ends)

    def leave(self, now_ms: int) -> bytes:
        """The record by which this device puts itself out."""
        return acts.leave(self._hand(now_ms))

    def tend(self, now_ms: int, *, renew: bool = False) -> list[bytes]:
        """Key records that are due from this device now; one step, ask again after they were taken. renew: also when
        the key in use is old."""
        return tend(self._hand(now_ms), renew=renew) if self.is_active else []

    def key_is_old(self, now_ms: int) -> bool:
        """Is another key due though this one may still seal."""
        return self._identity is not None and self.is_active and is_old(self._hand(now_ms))

    def tend_delay_s(self) -> float:
        """How long to wait before `tend`, so that not all devices do it at once: the lowest active device up to half a
        second, the next one one to one and a half, and so on: half a second at least for the others to hear of it."""
        if self._identity is None:
            return TEND_STEP_S
        rank = sorted(d.device for d in self.active_devices()).index(self._identity.device) if self.is_active else 0
        share = int.from_bytes(self._entropy(2), "big") / 2**16
        return TEND_STEP_S * (min(rank, TEND_MOST_STEPS) + share / 2)

    def _hand(self, now_ms: int) -> Hand:
        identity = self.identity
        assert self._ring is not None  # noqa: S101 - there is an identity
        in_use = self._in_use() if self.control.void_epochs() else None
        return Hand(self.control, identity.seat, identity.sign_secret, self._ring, self._entropy, now_ms, in_use)

    def hand_of(self, by: Digest, sign_secret: bytes, now_ms: int) -> Hand:
        """To sign for a seat or root, with this device's keys at hand."""
        return msgspec.structs.replace(self._hand(now_ms), by=by, sign_secret=sign_secret)

    def root_hand(self, root: RootKeys, now_ms: int) -> Hand:
        """To sign as root, on top of the records of this space. Raises: BadValue: the words of another space."""
        if root.space != self.identity.space:
            raise BadValue("These are recovery words, but not those of this space.", field="words")
        ring = KeyRing.of_root(root)
        ring.follow(self.control)
        return Hand(self.control, ROOT, root.sign_secret, ring, self._entropy, now_ms)

    # ---- for the replica ------------------------------------------------------------------------------------------
    def ask_keys_in_use(self, in_use: Callable[[], frozenset[KeyId]]) -> None:
        """Where to ask for the ids of the keys that batches held here are sealed under; asked only when it matters."""
        self._in_use = in_use

    def know_logs(self, owners: Mapping[LogId, DeviceId]) -> None:
        """The logs that are held here and whose they are."""
        self._owners = dict(owners)

    def keys(self) -> Keys:
        """What opening and judging batches needs, as of now."""
        control = self.control
        assert self._ring is not None  # noqa: S101 - as above
        known = frozenset(digest[:SHORT_HASH_BYTES] for digest in control.records)
        ends = {log: _end(close) for log, close in control.ends(self._owners).items()}
        named = frozenset(control.void_by_root())
        ends |= dict.fromkeys(named - self._owners.keys(), End(0, b"", 0))
        return Keys(dict(self._ring.keys), ends, known, self._end_of, named)

    def _end_of(self, log: LogId, device: DeviceId) -> End | None:
        self._owners[log] = device
        close = self.control.end_of(log, device)
        return None if close is None else _end(close)

    def key(self, kid: KeyId) -> bytes | None:
        """The space key of this id, if this device can open it."""
        return None if self._ring is None else self._ring.keys.get(kid)

    def sealer(self) -> Sealer | None:
        """Keys to seal under now; None: not active, or a new key is due first."""
        if self._identity is None or self._ring is None:
            return None
        epoch = self.control.sealing_epoch(self._identity.seat, self._ring.epochs)
        if epoch is None:
            return None
        kid = KeyId(self.control.epochs[epoch].kid)
        identity = self._identity
        return Sealer(
            identity.space, identity.device, identity.sign_secret, kid, self._ring.epochs[epoch], self._entropy,
            tuple(self.heads()),
        )  # fmt: skip


def _end(close: Close) -> End:
    return End(close.n, close.hash if any(close.hash) else b"", close.fork)


@lru_cache(maxsize=1_024)
def fingerprint(device: DeviceId) -> str:
    """What two people compare: 16 hex digits in groups of four."""
    text = device.hex()[:16]
    return "-".join(text[i : i + 4] for i in range(0, 16, 4))
