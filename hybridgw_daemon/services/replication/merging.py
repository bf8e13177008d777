"""One operation into the documents of an open transaction, whoever wrote it.

Not when it may be applied: that is writing.py for our own, applying.py for those of others. The rule of merging one
document is core/merge.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridgw_protocol.ids import LogId
from hybridgw_storage.database import Tx

from ...core import merge
from ...core.operations import FLOOR, Operation
from ...core.uuid7 import is_below_floor
from ...stores import documents
from ...stores.documents import Collection, DocumentCache
from .state import State
from .values import SECRET_COLLECTIONS


def place_of(cache: DocumentCache, name: str) -> Collection:
    """The collection of that name; made if it is new."""
    return cache.collection(name, secret=name in SECRET_COLLECTIONS)


def apply(
    tx: Tx, state: State, cache: DocumentCache, place: Collection, op: Operation,
    dot: tuple[int, LogId, int], seen: Mapping[LogId, int],
) -> None:  # fmt: skip
    """Merge one operation. Args: dot: (stamp, log, n) of it; seen: what its writer had applied, log -> n."""
    if op.kind == FLOOR:
        raise_floor(tx, cache, place, op)
        return
    if place.floor_ms and is_below_floor(op.id, place.floor_ms):
        return
    state.seq += 1
    cache.put(place, op.id, merge.apply(cache.get(place, op.id), op, dot, seen), state.seq)


def raise_floor(tx: Tx, cache: DocumentCache, place: Collection, op: Operation) -> Collection:
    """Documents with ids below the floor are gone. Returns: the collection as it is now."""
    if op.floor_ms <= place.floor_ms:
        return place
    cache.flush()
    gone = [d for d in documents.binary_ids(tx.connection, place.cid) if is_below_floor(d, op.floor_ms)]
    return cache.raise_floor(place, op.floor_ms, gone)
