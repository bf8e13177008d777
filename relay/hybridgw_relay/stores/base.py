"""What the services need of a store: whole steps, each one transaction, durable when it returns.

The steps are asynchronous so that a database in this process (threads) and one on the network (a driver with its own
event loop) can both be behind them. Rows are plain immutable values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hybridgw_protocol.batch import Batch, Head
from hybridgw_protocol.errors import HybridGWError
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.limits import ENVELOPE_HEADER_BYTES, SIGNATURE_BYTES
from hybridgw_protocol.membership import Close
from hybridgw_protocol.messages import Priority

Read = Callable[[], tuple[list[Batch], HybridGWError | None]]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device of a space, as its control records say."""

    sign: bytes  # Ed25519 public key
    active: bool


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """A space that was admitted."""

    sid: int
    id: SpaceId
    aid: int
    control_heads: tuple[bytes, ...]  # 32 bytes each, sorted
    devices: Mapping[DeviceId, DeviceRow]  # in the order in which their records came


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account, with what its spaces use."""

    aid: int
    name: str
    max_bytes: int
    max_devices: int
    used_bytes: int
    active_devices: int


@dataclass(slots=True)
class Append:
    """One push for the store. `read` parses and verifies; it is called off the event loop, perhaps more than once."""

    sid: int
    aid: int
    pushed_by: DeviceId
    read: Read
    closes: Mapping[LogId, Close] = field(default_factory=dict)  # logs that control records close


@dataclass(frozen=True, slots=True)
class Stored:
    """One batch that is new, with the position it was given."""

    rid: int
    log: LogId
    n: int
    blob: bytes


@dataclass(slots=True)
class Appended:
    """What became of one push: the batches before the first bad one are stored, the rest is not."""

    stored: list[Stored] = field(default_factory=list)
    after_rid: int = 0  # of the last batch of the space before the first of these
    heads: dict[LogId, Head] = field(default_factory=dict)  # of every log that the push named, as stored now
    gave_way: dict[LogId, int] = field(
        default_factory=dict
    )  # above this n, batches of another branch were stored before
    error: HybridGWError | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the space's order."""

    batches: list[Stored]  # the wanted ones
    rid: int  # nothing wanted up to here is missing from them
    more: bool  # something wanted lies behind it


@dataclass(frozen=True, slots=True)
class MailRow:
    """A message that waits. head: its tombstone; body: the ciphertext, None once its time is over."""

    dest: DeviceId
    sender: DeviceId
    id: bytes
    priority: int
    expires_ms: int
    head: bytes
    body: bytes | None

    @property
    def envelope(self) -> bytes:
        """The whole, as it came."""
        return self.head[:ENVELOPE_HEADER_BYTES] + (self.body or b"") + self.head[-SIGNATURE_BYTES:]


class LetterRow(NamedTuple):
    """A letter of another person that waits. person: the sender's space; blob: all of it, sealed."""

    dest: DeviceId
    person: SpaceId
    sender: DeviceId
    id: bytes
    priority: int
    expires_ms: int
    blob: bytes


class RelayStore(Protocol):
    """One story for every backend: tests/contract/test_relay_store.py."""

    def space(self, space: SpaceId) -> SpaceRow | None:
        """The space, or None. A point read, at once."""
        ...

    async def account(self, aid: int) -> AccountRow | None:
        """The account with its use; None if it was removed."""
        ...

    async def is_invited(self, invite_hash: bytes, now_ms: int) -> bool:
        """Is there an unused, unexpired invite of this hash."""
        ...

    async def register(
        self, space: SpaceId, invite_hash: bytes, records: Sequence[tuple[bytes, bytes]],
        heads: Sequence[bytes], devices: Mapping[DeviceId, DeviceRow], now_ms: int,
    ) -> SpaceRow:  # fmt: skip
        """Admit a space and use its invite up, in one step. A space that is there already is returned as it is.

        Args: records: (hash, raw), prevs first. Raises: NotAdmitted: the invite was used, or ran out, meanwhile.
        """
        ...

    async def add_control(
        self, sid: int, records: Sequence[tuple[bytes, bytes]], heads: Sequence[bytes],
        devices: Mapping[DeviceId, DeviceRow], now_ms: int,
    ) -> None:  # fmt: skip
        """Keep control records and what follows from all of them. Records that are here already change nothing."""
        ...

    def unknown_control(self, sid: int, prefixes: Sequence[bytes]) -> list[bytes]:
        """Those of the given 16-byte hash prefixes that no control record here begins with. A point read each."""
        ...

    def is_within_devices(self, aid: int, sid: int, device: DeviceId) -> bool:
        """Is this active device among the first `max_devices` of its account, by the time their records came."""
        ...

    async def control(self, sid: int) -> list[bytes]:
        """All control records, in the order of arrival (prevs first)."""
        ...

    async def append(self, pushes: Sequence[Append], now_ms: int) -> list[Appended]:
        """Store many pushes in one commit. Every batch gets a rid above all earlier ones of its space.

        Raises: DiskFull, StorageUnavailable: nothing of any of them is stored.
        """
        ...

    async def heads(self, sid: int) -> dict[LogId, Head]:
        """The end of every log."""
        ...

    async def owners(self, sid: int) -> dict[LogId, DeviceId]:
        """Whose each log is."""
        ...

    async def page(self, sid: int, have: Mapping[LogId, int], max_bytes: int, max_batches: int) -> Page:
        """Batches above a vector, in the order of rid: one at least, and up to the bounds."""
        ...

    async def put_mail(self, sid: int, rows: Sequence[MailRow], now_ms: int) -> list[bool]:
        """Keep messages, in their order, in one commit. Returns which: one that is here already counts as kept, one for
        which its device has no room does not."""
        ...

    def mail_waits(self, sid: int, dest: DeviceId, after: Mapping[Priority, int]) -> list[Priority]:
        """The priorities of which `mail` has something. Args: after: of each, a place. A point read, at once."""
        ...

    def mail(self, sid: int, dest: DeviceId, priority: int, after: int, max_bytes: int) -> list[tuple[int, MailRow]]:
        """Messages of one priority that wait for a device, with their places, in the order of arrival: one at
        least, and up to the bound. A point read, at once."""
        ...

    async def done_mail(self, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
        """Forget messages. Args: keys: sender and id of each."""
        ...

    async def expire_mail(self, now_ms: int) -> int:
        """Turn what is over into tombstones, forget tombstones of long ago; a part. Returns how many rows."""
        ...

    async def put_letters(self, sid: int, rows: Sequence[LetterRow]) -> list[bool]:
        """Keep letters in one commit. Returns which: one that is here already counts as kept, one for which its device
        has no room, or none left for this sender or for strangers, does not."""
        ...

    async def wrote(self, sid: int, person: SpaceId, now_ms: int) -> None:
        """A device of a space has written to a person: who is no stranger to it any more."""
        ...

    def letters(
        self, sid: int, dest: DeviceId, limit: int, *, but: Sequence[int] = (), without: Sequence[SpaceId] = ()
    ) -> list[tuple[int, LetterRow]]:
        """Letters that wait for a device, with their places, the most urgent first: *limit* at most, not those in the
        places *but*, nor *without* these people. A point read, at once."""
        ...

    async def done_letters(self, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
        """Forget letters. Args: keys: sender and id of each."""
        ...

    async def expire_letters(self, now_ms: int) -> int:
        """Forget letters whose time is over, a part, and who was not written to for long. Returns how many rows."""
        ...

    async def seen(self, seen_ms: Mapping[tuple[int, DeviceId], int]) -> None:
        """Note the last contact of devices. Args: (sid, device) -> Unix ms."""
        ...

    async def is_writable(self) -> bool:
        """Can something be committed now (readiness)."""
        ...

    def changed_elsewhere(self) -> bool:
        """Did an administrator's command change something since the last call. A point read, at once."""
        ...

    async def close(self) -> None:
        """Finish and close."""
        ...
