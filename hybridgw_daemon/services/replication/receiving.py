"""Receiving batches: gapless per log, what differs from a batch held is evidence of a fork; then what can is applied.

Not checking signatures and opening, which is done off the writer's thread before (services/sync.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hybridgw_protocol.batch import EMPTY_HEAD, Batch, Head
from hybridgw_protocol.ids import LogId, log_id
from hybridgw_protocol.limits import LOGS_PER_DEVICE, LOGS_PER_SPACE, UNAPPLIED_BYTES_PER_LOG
from hybridgw_storage.database import Tx

from ...core.body import Body
from ...core.owners import owners
from ...stores import alarms, meta, oplog
from ...stores.oplog import BatchState, LogRow
from .branches import is_evidence
from .rebuilding import Rebuilder
from .state import State
from .values import UNTOLD, Incoming, Keys, Sealer, Stored

DECIDE: Final = (
    "If this alarm stays, decide: 'hybridgw devices settle' lets count what this device has of it, "
    "'hybridgw devices remove --lost' puts it out."
)


class Receiver(Rebuilder):
    """The part of a replica that takes in batches."""

    def receive(self, tx: Tx, incoming: Iterable[Incoming], now_ms: int, sealer: Sealer | None) -> Stored:
        """Keep batches and apply what can be applied, in one transaction. Idempotent."""
        state, known = self._state(tx), self._known(tx)
        fresh: list[Incoming] = []
        touched: set[LogId] = set()
        gaps: list[LogId] = []
        forks: list[LogId] = []
        strays: list[LogId] = []
        ended: set[LogId] = set()  # closed logs of which another branch came: it may be the one that counts
        bodies: dict[tuple[LogId, int], Incoming] = {}
        self._seal_open(tx, state, sealer)  # our own open numbers come before anything that may stand at the same place
        for item in incoming:
            if item.body is not None and item.body.unknown:
                self._place(tx, state, known, item.body)
        for item in incoming:
            batch = item.batch
            row = self._log_row(tx, state, batch, now_ms)
            if row is None:
                continue
            touched.add(row.log)
            end = known.ends.get(row.log)
            if end and batch.n > end.n:
                continue  # beyond the end of a closed log: void for everybody
            if end and batch.n == end.n and batch.hash != end.hash:
                continue  # the tip of a branch that does not count: with it we would claim to need the true one no more
            if row.log == state.own and state.pending:
                continue  # our own open numbers cannot be sealed now, and nothing may take their place
            expected = row.stored.hash if row.stored.n else row.salt
            if batch.n == row.stored.n + 1 and batch.prev == expected:
                if state.unapplied_bytes.get(row.log, 0) > UNAPPLIED_BYTES_PER_LOG:
                    gaps.append(row.log)
                    continue
                row.stored = Head(batch.n, batch.hash)
                fresh.append(item)
                bodies[row.log, batch.n] = item
                state.unapplied.add(row.log)
                state.dirty_logs.add(row.log)
                state.unapplied_bytes[row.log] = state.unapplied_bytes.get(row.log, 0) + len(batch.blob)
            elif oplog.hash_at(tx.connection, row.log, batch.n) != batch.hash and is_evidence(tx, row, batch):
                is_new = oplog.add_evidence(tx, batch, now_ms)
                if is_new or row.log == state.own:  # again: whoever saw it first may not have come to close the log
                    forks.append(row.log)
                if is_new:
                    alarms.raise_alarm(
                        tx, now_ms, "fork",
                        f"Device {row.device.hex()[:16]} signed two different batches for one place of its log: its "
                        f"database was put back or copied, or somebody else has its keys. {DECIDE}",
                        log=row.log, device=row.device.hex(),
                    )  # fmt: skip
                if end:
                    ended.add(row.log)
            elif batch.n > row.stored.n + 1:
                gaps.append(row.log)
            elif oplog.hash_at(tx.connection, row.log, batch.n) != batch.hash:
                strays.append(row.log)
        oplog.add_batches(tx, [item.batch for item in fresh], BatchState.STORED)
        void = [self._follow_end(tx, state, state.logs[log], known.ends[log], now_ms) for log in sorted(ended)]
        if any(void):
            applied = self.rebuild(tx, now_ms, sealer)
        else:
            applied = self._drain(tx, state, {} if ended else bodies, now_ms, sealer)
        self._touch(tx, state)
        heads = {log: state.logs[log].stored for log in touched if log in state.logs}
        return Stored(heads, len(fresh), gaps, forks, applied, strays)

    def _place(self, tx: Tx, state: State, known: Keys, body: Body) -> None:
        """Take note of whose a log is of which nothing counts: what depends on it depends on nothing."""
        placed: set[LogId] = set()
        for device, salt in owners(body):
            log = log_id(device, salt)
            end = known.end_of(log, device)
            if end is None or end.n or len(state.logs) >= 2 * LOGS_PER_SPACE:
                continue
            placed.add(log)
            if log not in state.logs:
                state.logs[log] = LogRow(log, device, salt, EMPTY_HEAD, EMPTY_HEAD)
                known.ends[log] = end
                state.dirty_logs.add(log)
        if placed & (untold := meta.get_logs(tx.connection, UNTOLD)):
            meta.put_logs(tx, UNTOLD, untold - placed)

    def _log_row(self, tx: Tx, state: State, batch: Batch, now_ms: int) -> LogRow | None:
        row = state.logs.get(batch.log)
        if row is not None:
            return row if row.device == batch.device else None
        if batch.n != 1:
            return LogRow(batch.log, batch.device, b"", EMPTY_HEAD, EMPTY_HEAD)  # a gap from the start; not kept
        known = self._known(tx)
        if self._open_logs(tx, state, batch.device) >= LOGS_PER_DEVICE:
            alarms.raise_alarm(
                tx, now_ms, "too_many_logs", f"A device has opened more than {LOGS_PER_DEVICE} logs.",
                device=batch.device.hex(),
            )  # fmt: skip
            return None
        end = known.end_of(batch.log, batch.device)
        if end is not None:
            known.ends[batch.log] = end
        else:
            known.ends.pop(batch.log, None)  # whose it is was not known before
        row = state.logs[batch.log] = LogRow(batch.log, batch.device, batch.prev, EMPTY_HEAD, EMPTY_HEAD)
        state.dirty_logs.add(batch.log)
        return row
