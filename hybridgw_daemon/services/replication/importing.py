"""Taking what another device wrote and what does not count, as writes of this device with the times they had.

As in the repair of an own log (repairing.py): original stamps and dependencies, so that what others wrote without
having seen it becomes a conflict and not a loss. Two devices that take the same make equal values, which are no
conflict. Not the decision to do so: services/quarantine.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hybridgw_protocol.batch import EMPTY_HEAD, FLAG_SECRET, Batch, Head
from hybridgw_protocol.errors import Busy
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.limits import SHORT_HASH_BYTES
from hybridgw_protocol.vectors import Heads
from hybridgw_storage.database import Tx

from ...core.body import apply_deps
from ...stores import oplog
from ...stores.oplog import BatchState
from .aside import Aside, kept_aside
from .rebuilding import in_bounds
from .repairing import Repairer
from .state import State
from .values import End, Sealer


class Importer(Repairer):
    """The part of a replica that writes for a device that is out."""

    def import_void(self, tx: Tx, logs: Sequence[LogId], sealer: Sealer | None, now_ms: int) -> tuple[int, LogId, End]:
        """Seal what is kept aside of these logs, and not written again, first thing in a new own log.

        Returns: how many operations were taken, the own log used so far and its end, which is to be closed: a device
        may have only so many open. Raises: Busy: own writes cannot be sealed now; TooBig: too many logs.
        """
        state = self._state(tx)
        self._seal_open(tx, state, sealer)
        if state.pending or sealer is None:
            raise Busy("Writes of this device wait for a key; try again when they are sealed.")
        old = self._own_row(state)
        end = End(old.stored.n, old.stored.hash if old.stored.n else b"", old.stored.n)
        found: list[tuple[Aside, Heads]] = []
        for log in sorted(logs):
            found += self._aside_of(tx, state, log)
        new = self.open_log(tx, sealer.device, sealer.entropy(32))
        made: list[Batch] = []
        count, last = 0, 0
        for aside, deps in found:
            operations = []
            for op in aside.left:
                op = in_bounds(op, last, now_ms)
                if op.stamp <= last:  # of another log; stamps rise within one
                    op = msgspec.structs.replace(op, stamp=last + 1)
                last = op.stamp
                operations.append(op)
            if operations:
                made.append(self._seal_one(new, sealer, deps, operations, bool(aside.batch.flags & FLAG_SECRET)))
                count += len(operations)
        new.applied, new.last_stamp, new.deps, new.control = EMPTY_HEAD, -1, {}, None
        oplog.add_batches(tx, made, BatchState.STORED, authored=True)
        for log in logs:
            oplog.forget_evidence(tx, log)
        if made:
            state.unapplied.add(new.log)
        self._drain(tx, state, {}, now_ms, sealer)
        self._touch(tx, state)
        return count, old.log, end

    def _aside_of(self, tx: Tx, state: State, log: LogId) -> list[tuple[Aside, Heads]]:
        """What is kept aside of a log, each batch with what its writer had seen of what is applied here: a stranger's
        word may not make our own log wait. Of its own log that is the part below its branch."""
        row = state.logs[log]
        seen: dict[bytes, tuple[int, Heads]] = {}  # hash -> last n below its branch, running deps
        found = []
        for aside in kept_aside(tx.connection, self._known(tx), state.logs, log):
            batch = aside.batch
            if batch.prev in seen:
                base, running = seen[batch.prev]
            else:
                hangs = oplog.hash_at(tx.connection, log, batch.n - 1) == batch.prev
                base = min(batch.n - 1, row.applied.n) if hangs else 0
                running = self._deps_at(tx, row, base)
            if aside.body is not None:
                running = apply_deps(running, aside.body.deps)
            seen[batch.hash] = (base, running)
            deps = {name: head for name in running if (head := self._applied_of(tx, state, name, running[name]))}
            digest = oplog.hash_at(tx.connection, log, base) if base else None
            if digest is not None:
                deps[log] = Head(base, digest[:SHORT_HASH_BYTES])
            found.append((aside, deps))
        return found

    def _applied_of(self, tx: Tx, state: State, log: LogId, head: Head) -> Head | None:
        """How far this dependency reaches among what is applied here."""
        row = state.logs.get(log)
        n = min(self._clamp(tx, state, log, head) or 0, row.applied.n if row else 0)
        digest = oplog.hash_at(tx.connection, log, n) if n else None
        return None if digest is None else Head(n, digest[:SHORT_HASH_BYTES])
