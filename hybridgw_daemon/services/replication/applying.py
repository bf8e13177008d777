"""Applying stored batches: each when its turn has come, by cause, by clock, by key and by control record.

Source: protocol/SPEC.md, "Merge" and "Logs". Not how batches get into the store: receiving.py. Which branch of a closed
log counts is settled before, in branches.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hybridgw_protocol.batch import MAX_N, Batch, Head, parse_batch
from hybridgw_protocol.errors import RemoteError
from hybridgw_protocol.ids import DocumentId, LogId
from hybridgw_protocol.limits import SHORT_HASH_BYTES
from hybridgw_storage.database import Tx

from ...core import hlc
from ...core.body import Body, MalformedBody, apply_deps, decode_body
from ...core.operations import FLOOR
from ...core.owners import OWNER
from ...core.sealing import open_batch
from ...stores import alarms, meta, oplog
from ...stores.oplog import BatchState, LogRow
from .merging import apply, place_of, raise_floor
from .state import State
from .values import Incoming, Keys, Sealer
from .writing import Writer

NOTHING: Final[Mapping[LogId, int]] = {}


def opened(keys: Keys, batch: Batch) -> tuple[Body | None, str | None]:
    """Decrypt and decode. Returns (body, None), or (None, why): key (not here yet) or broken (for ever)."""
    key = keys.space_keys.get(batch.kid)
    if key is None:
        return None, "key"
    try:
        return decode_body(open_batch(batch, key), batch.log), None
    except (MalformedBody, RemoteError):
        return None, "broken"


class Applier(Writer):
    """The part of a replica that makes documents of batches; our own open writes are sealed before they claim more."""

    def drain(self, tx: Tx, now_ms: int, sealer: Sealer | None) -> int:
        """Apply what waited: after a clock moved on, a key or a control record came. Returns operations applied."""
        state = self._state(tx)
        applied = self._drain(tx, state, {}, now_ms, sealer)
        self._touch(tx, state)
        return applied

    def _drain(
        self, tx: Tx, state: State, bodies: Mapping[tuple[LogId, int], Incoming], now_ms: int, sealer: Sealer | None,
        before: Mapping[LogId, int] = NOTHING, only_before: bool = False,
    ) -> int:  # fmt: skip
        """Apply what can be. before: how far each log was applied once, so its stamps were judged; only_before: apply
        nothing else of other logs."""
        total, progress = 0, True
        while progress:
            progress = False
            for log in sorted(state.unapplied):
                row = state.logs[log]
                done = 0
                first = row.applied.n + 1
                end = before.get(log, 0) if only_before and log != state.own else MAX_N
                while row.applied.n < end and (item := self._next(tx, row, bodies)) is not None:
                    is_judged = item.batch.n <= before.get(log, 0)
                    body = self._ready(tx, state, row, item, None if is_judged else now_ms)
                    if body is None:
                        break
                    # Deps must not claim what the writer of open operations had not seen.
                    self._seal_open(tx, state, sealer)
                    if state.pending:
                        row.waiting = "key"
                        break
                    total += self._apply_batch(tx, state, row, item.batch, body)
                    done += 1
                if done:
                    progress = True
                    oplog.mark(tx, log, first, row.applied.n, BatchState.APPLIED)
                    state.dirty_logs.add(log)
                if row.applied.n == row.stored.n:
                    state.unapplied.discard(log)
                    state.unapplied_bytes.pop(log, None)
        return total

    def _next(self, tx: Tx, row: LogRow, bodies: Mapping[tuple[LogId, int], Incoming]) -> Incoming | None:
        end = self._known(tx).ends.get(row.log)
        n = row.applied.n + 1
        if n > row.stored.n or (end and n > end.n):
            return None
        if end and end.hash and n > end.fork and row.stored.hash != end.hash:
            return None  # the chain from the named tip down is not held yet: which branch this is cannot be told
        found = bodies.get((row.log, n))
        if found is None:
            held = oplog.blobs(tx.connection, row.log, row.applied.n, 1)
            found = Incoming(parse_batch(held[0])) if held else None
        return found

    def _ready(self, tx: Tx, state: State, row: LogRow, item: Incoming, now_ms: int | None) -> Body | None:
        """The body if it is this batch's turn; else why not, in row.waiting. now_ms: None: its stamps were judged."""
        why: str | None = None
        body = item.body
        if body is None and item.fault is None:
            body, item.fault = opened(self._known(tx), item.batch)
            item.body = body
        if body is None:
            why = item.fault
        elif body.first_stamp is not None and body.first_stamp <= row.last_stamp:
            why = "broken"  # stamps do not rise: the log ends here, by rule
        elif now_ms is not None and body.last_stamp is not None and hlc.is_ahead(body.last_stamp, now_ms):
            why = "clock"
        elif body.control and not all(head in self._known(tx).control for head in body.control):
            why = "control"
        elif not self._has_deps(tx, state, row, body):
            why = "deps"
        if row.waiting != why:
            row.waiting = why
            state.dirty_logs.add(row.log)
        if why == "broken" and now_ms is not None:
            alarms.raise_alarm(
                tx, now_ms, "log_broken", "A device wrote a batch that breaks the rules; its log ends before it.",
                log=row.log, n=row.applied.n + 1, device=row.device.hex(),
            )  # fmt: skip
        return body if why is None else None

    def open(self, batch: Batch) -> tuple[Body | None, str | None]:
        """Decrypt and decode. Returns (body, None), or (None, why): key (not here yet) or broken (for ever)."""
        return opened(self.keys, batch)

    def _has_deps(self, tx: Tx, state: State, row: LogRow, body: Body) -> bool:
        """Causal: everything the writer had applied is applied here (a closed chain counts up to its fork)."""
        deps = apply_deps(row.deps, body.deps) if self._known(tx).ends else body.deps
        for log, head in deps.items():
            if not head.n:
                continue  # it depends on nothing of that log any more
            found = self._clamp(tx, state, log, head)
            if found is None or found > (state.logs[log].applied.n if log in state.logs else 0):
                return False
        return True

    def _clamp(self, tx: Tx, state: State, log: LogId, head: Head) -> int | None:
        """How far this dependency reaches on the valid chain; None: cannot be told yet, wait."""
        n, digest = head.n, head.hash
        row = state.logs.get(log)
        end = self._known(tx).ends.get(log)
        if row is None:
            return 0 if end and end.n == 0 else None
        if end is None or (n <= end.n and (n <= end.fork or row.stored.hash == end.hash)):
            if n > row.stored.n:
                return None if end is None else min(n, end.fork)
            held = row.stored.hash if n == row.stored.n else oplog.hash_at(tx.connection, log, n)
            if held is not None and held[:SHORT_HASH_BYTES] == digest:
                return n
            return None if end is None else min(n, end.fork)
        if n <= end.n:
            return None  # the chain from the tip down to n is not held yet
        return min(n, end.fork)

    def _apply_batch(self, tx: Tx, state: State, row: LogRow, batch: Batch, body: Body) -> int:
        row.deps = apply_deps(row.deps, body.deps) if body.deps else row.deps
        row.control = body.control if body.control is not None else row.control
        if self._known(tx).ends:
            seen = {log: self._clamp(tx, state, log, head) or 0 for log, head in row.deps.items()}
        else:
            seen = {log: head.n for log, head in row.deps.items()}
        cache = self._documents(tx, state)
        by_collection: dict[str, list[DocumentId]] = {}
        for op in body.operations:
            if op.kind != FLOOR:
                by_collection.setdefault(op.collection, []).append(op.id)
        places = {op.collection for op in body.operations}
        where = {name: place_of(cache, name) for name in sorted(places)}
        for name, ids in by_collection.items():
            cache.load(where[name], ids)
        for op in body.operations:
            place = where[op.collection]
            if op.kind == FLOOR:
                where[op.collection] = raise_floor(tx, cache, place, op)
            else:
                apply(tx, state, cache, place, op, (op.stamp, row.log, batch.n), seen)
        if body.last_stamp is not None:
            state.stamp = hlc.observe(state.stamp, body.last_stamp)
            row.last_stamp = body.last_stamp
        if any(operation.kind != OWNER for operation in body.unknown):
            meta.put(tx, "unknown_operations", 1)  # a version that knows them builds the documents again
        row.applied = Head(batch.n, batch.hash)
        row.waiting = None
        return len(body.operations)
