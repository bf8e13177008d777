"""Building the documents again from the batches held, when some of what was applied is void; nothing local is lost.

Not the decision to do so: receiving.py, repairing.py and own_logs.py take it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hybridgw_protocol.batch import EMPTY_HEAD
from hybridgw_protocol.limits import STAMP_BITS
from hybridgw_storage.database import Tx

from ...core import hlc
from ...core.operations import Operation, decode_pending, encode_pending
from ...stores import documents, meta, oplog
from ...stores.oplog import LogRow
from . import pending
from .applying import Applier
from .branches import follow_end
from .merging import apply, place_of
from .state import State
from .values import End, Sealer


def in_bounds(operation: Operation, last: int, now_ms: int) -> Operation:
    """The operation, with a new stamp only if its own is beyond the clock bound. Args: last: the stamp before it."""
    if not hlc.is_ahead(operation.stamp, now_ms):
        return operation
    return msgspec.structs.replace(operation, stamp=max(last + 1, now_ms << STAMP_BITS))


class Rebuilder(Applier):
    """The part of a replica that begins again with its documents."""

    def rebuild(self, tx: Tx, now_ms: int, sealer: Sealer | None) -> int:
        """Build the documents again from the batches held; what is not sealed yet comes on top. Returns operations."""
        state = self._state(tx)
        self._seal_open(tx, state, sealer)
        return self._build(tx, state, now_ms, self._lay_aside(tx, state))

    def _lay_aside(self, tx: Tx, state: State) -> list[tuple[bool, list[Operation]]]:
        """Take out the writes that are not sealed, as (secret, operations); `_build` puts them back."""
        found = []
        for p in pending.held(tx, state):
            found += [(p.secret, decode_pending(raw)) for raw in pending.rows(self.vault, p)]
        pending.clear(tx, state)
        return found

    def _build(self, tx: Tx, state: State, now_ms: int, waiting: Sequence[tuple[bool, list[Operation]]]) -> int:
        """Documents from batches, then *waiting*: the next numbers of the log that is written now.

        Whoever wrote what waits had not seen more than is applied: nothing further is applied below it.
        """
        before = {log: row.applied.n for log, row in state.logs.items()}
        self._begin_again(tx, state)
        oplog.mark_all_stored(tx)
        for log, row in state.logs.items():
            row.applied, row.last_stamp, row.deps, row.control, row.waiting = EMPTY_HEAD, -1, {}, None, None
            if row.stored.n:
                state.unapplied.add(log)
            state.dirty_logs.add(log)
        count = self._drain(tx, state, {}, now_ms, None, before, only_before=bool(waiting))
        cache, seen = self._documents(tx, state), state.applied
        for secret, operations in waiting:
            made = []
            for op in operations:
                op = in_bounds(op, state.stamp, now_ms)
                state.stamp = max(state.stamp, op.stamp)
                made.append(op)
            raw = encode_pending(made)
            n = self._slot(state, len(raw), secret)
            for op in made:
                apply(tx, state, cache, place_of(cache, op.collection), op, (op.stamp, state.own, n), seen)
            pending.keep(state, self.vault, n, secret, raw)
            count += len(made)
        self._touch(tx, state)
        return count

    def _follow_end(self, tx: Tx, state: State, row: LogRow, end: End, now_ms: int) -> bool:
        """Make the live branch of a closed log the one its end names. Returns whether applied batches became void."""
        before = row.stored
        void = follow_end(tx, state, row, end, now_ms)
        self.cuts += row.stored != before
        return void

    def _begin_again(self, tx: Tx, state: State) -> None:
        """Forget the documents. Some may not come back, and leave no tombstone: listeners are told to begin again."""
        self._documents(tx, state).flush()
        state.cache = None
        documents.clear(tx)
        meta.put(tx, "epoch", None)
        self.rebuilds += 1
