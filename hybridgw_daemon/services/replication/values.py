"""What goes into a replica and comes out of it: values of its callers, without behaviour.

Not how they are kept: rows of logs and batches are stores/oplog.py, rows that a transaction has in memory are state.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from hybridgw_protocol.batch import Batch, Head
from hybridgw_protocol.ids import DeviceId, DocumentId, KeyId, LogId, SpaceId

from ...core.body import Body

SECRET_COLLECTIONS: Final = frozenset({"settings"})  # sealed apart, never compressed, sealed at rest
PROVISIONAL: Final = LogId(0)  # dots of writes made before this device has keys


class Written(NamedTuple):
    """One document that a local write changed."""

    collection: str
    id: DocumentId
    cl: int
    seq: int


class Incoming(msgspec.Struct):
    """A batch from outside, parsed and verified; `body` if it could be opened already, `fault` if it never can be."""

    batch: Batch
    body: Body | None = None
    fault: str | None = None


class End(NamedTuple):
    """Where a log ends: the last batch that counts, its hash if a record names one, the last n all branches share."""

    n: int
    hash: bytes
    fork: int


class Sealer(msgspec.Struct, frozen=True):
    """What sealing needs. sign_secret: 64-byte libsodium key; kid, key: the space key in use; entropy: n -> bytes."""

    space: SpaceId
    device: DeviceId
    sign_secret: bytes
    kid: KeyId
    key: bytes
    entropy: Callable[[int], bytes]
    control: tuple[bytes, ...] = ()  # 16-byte prefixes of our control heads


class Stored(NamedTuple):
    """What `receive` did."""

    heads: dict[LogId, Head]  # stored heads of the logs touched
    fresh: int  # batches that were new
    gaps: list[LogId]
    forks: list[LogId]
    applied: int  # operations applied
    strays: list[LogId]  # of a branch that leaves ours somewhere below: with its beginning it is evidence


class Keys(NamedTuple):
    """What opening and judging batches needs, as of the control records known: set by the sync service."""

    space_keys: Mapping[KeyId, bytes]
    ends: dict[LogId, End]  # of the logs known here
    control: frozenset[bytes]  # 16-byte prefixes of every control record known
    end_of: Callable[[LogId, DeviceId], End | None]  # for a log that is new here
    named: frozenset[LogId] = frozenset()  # logs of which root itself says that nothing counts


UNTOLD: Final = (
    "owners_untold"  # in meta: logs that were held here, count for nothing, and nobody has told whose they are
)
NO_KEYS: Final = Keys({}, {}, frozenset(), lambda _log, _device: None)
