"""Following control records: keys come, logs end, and what is void of our own log is sealed again in a new one.

Source: protocol/SPEC.md, "Logs". Not the records themselves: services/space.py makes `Keys` of them.
"""

from __future__ import annotations

from hybridgw_protocol.batch import EMPTY_HEAD, FLAG_SECRET, Batch, Head, parse_batch
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.limits import SHORT_HASH_BYTES, STAMP_BITS
from hybridgw_protocol.vectors import Heads
from hybridgw_storage.database import Tx

from ...core.body import apply_deps, deps_delta
from ...core.operations import FLOOR, fingerprint
from ...core.owners import encode_owners
from ...stores import meta, oplog
from ...stores.oplog import BatchState, LogRow
from .applying import opened
from .branches import end_for
from .own_logs import LogOwner
from .rebuilding import in_bounds
from .state import State
from .values import PROVISIONAL, UNTOLD, End, Keys, Sealer


class Repairer(LogOwner):
    """The part of a replica that leaves a closed log with all that counts."""

    def learn(self, tx: Tx, keys: Keys, now_ms: int, sealer: Sealer | None) -> bool:
        """New control records: new keys, new ends of logs. A close of our own log is repaired here and now.

        Returns: whether the documents were built again.
        """
        before = self._known(tx)
        self._set_keys(tx, keys)
        try:
            rebuilt = self._learn(tx, before, keys, now_ms, sealer)
            self._tell_owners(tx, keys, now_ms, sealer)
            return rebuilt
        except BaseException:
            tx.memo["keys"] = before  # also if nothing was written, so nothing is rolled back
            raise

    def _learn(self, tx: Tx, before: Keys, keys: Keys, now_ms: int, sealer: Sealer | None) -> bool:
        state = self._state(tx)
        if state.own not in before.ends:
            tx.memo["keys"] = before
            self._seal_open(tx, state, sealer)  # as part of the log that may end now
            tx.memo["keys"] = keys
        # An end that moves changes what others had seen of that log, so what is applied already counts anew.
        rebuild = any(keys.ends.get(log) != end for log, end in before.ends.items())
        void = {
            log for log, row in state.logs.items() if row.stored.n and is_void(log, keys) and not is_void(log, before)
        }
        if void:
            meta.put_logs(tx, UNTOLD, meta.get_logs(tx.connection, UNTOLD) | void)
        for log, end in keys.ends.items():
            if before.ends.get(log) != end and log in state.logs:
                rebuild |= self._follow_end(tx, state, state.logs[log], end, now_ms)
        is_over = state.own in keys.ends and sealer is not None
        if rebuild or (is_over and state.pending):
            waiting = self._lay_aside(tx, state)
            if is_over and sealer:
                self._repair(tx, state, sealer, now_ms)
            self._build(tx, state, now_ms, waiting)
            return True
        if is_over and sealer:
            self._repair(tx, state, sealer, now_ms)
        self._drain(tx, state, {}, now_ms, sealer)
        self._touch(tx, state)
        return False

    def _tell_owners(self, tx: Tx, keys: Keys, now_ms: int, sealer: Sealer | None) -> None:
        """Tell whose the logs are of which nothing counts and which root did not know: others may have batches that
        depend on them, and are sent none of theirs."""
        state = self._state(tx)
        untold = meta.get_logs(tx.connection, UNTOLD)
        if not untold or sealer is None or state.own in keys.ends or state.own == PROVISIONAL:
            return
        self._seal_open(tx, state, sealer)
        if state.pending:
            return
        meta.put_logs(tx, UNTOLD, ())
        rows = [state.logs[log] for log in sorted(untold) if log in state.logs and is_void(log, keys)]
        if not rows:
            return
        own = self._own_row(state)
        deps = self._deps_now(state, own)
        stamp = max(state.stamp + 1, now_ms << STAMP_BITS)
        news = sealer.control if sealer.control != own.control else None
        body = encode_owners([row.device + row.salt for row in rows], stamp, deps_delta(own.deps, deps), news)
        batch = self._seal_body(own, sealer, deps, body, 0)
        own.last_stamp = state.stamp = stamp + len(rows) - 1
        oplog.add_batches(tx, [batch], BatchState.APPLIED, authored=True)
        state.dirty_logs.add(own.log)
        self._touch(tx, state)

    def own_forked(self, tx: Tx) -> bool:
        """Is there proof (two signed batches of one place) that our own open log was continued elsewhere."""
        state = self._state(tx)
        return state.own not in self._known(tx).ends and bool(oplog.evidence(tx.connection, state.own))

    def close_for(self, tx: Tx, tip: Head) -> End | None:
        """The end to sign for our own forked log; None: the branch that the other side holds is still on its way.

        What they hold is what others have applied, and after a restored backup the only copy: it must not be cut short.
        Args: tip: the end of the branch they hold (16 or 32 byte hash), n = 0 if that is not known.
        """
        state = self._state(tx)
        return end_for(tx, state.logs[state.own], tip)

    def _repair(self, tx: Tx, state: State, sealer: Sealer, now_ms: int) -> None:
        """Our own log was closed: open a new one and seal in it, first, what is void of ours.

        Original stamps (new ones only beyond the clock bound), original deps, the old log cut to the last valid batch.
        Left out: `floor`, and an operation that the winning branch has byte for byte.
        """
        old = state.logs[state.own]
        void = [parse_batch(blob) for blob in oplog.authored_void(tx.connection, old.log)]
        base = void[0].n - 1 if void else 0
        won: set[bytes] = set()
        for blob in oplog.blobs(tx.connection, old.log, base, 2**62) if void else ():
            body, _ = opened(self._known(tx), parse_batch(blob))
            won |= {fingerprint(op) for op in body.operations} if body else set()
        running = self._deps_at(tx, old, base)
        new = self.open_log(tx, sealer.device, sealer.entropy(32))
        state.stamp = max([0, *(r.last_stamp for r in state.logs.values())])  # a clock disaster does not go on
        made: list[Batch] = []
        last = 0
        for batch in void:
            body, _ = opened(self._known(tx), batch)
            if body is None:
                continue
            running = apply_deps(running, body.deps)
            keep = []
            for op in body.operations:
                if op.kind == FLOOR or fingerprint(op) in won:
                    continue
                op = in_bounds(op, last, now_ms)
                last = op.stamp
                keep.append(op)
            if keep:
                deps = dict(running)
                if base:
                    deps[old.log] = Head(base, void[0].prev[:SHORT_HASH_BYTES])
                made.append(self._seal_one(new, sealer, deps, keep, bool(batch.flags & FLAG_SECRET)))
        new.applied, new.last_stamp, new.deps, new.control = EMPTY_HEAD, -1, {}, None
        oplog.add_batches(tx, made, BatchState.STORED, authored=True)
        oplog.forget_authored(tx, old.log)
        if made:
            state.unapplied.add(new.log)
        self._touch(tx, state)

    def _deps_at(self, tx: Tx, row: LogRow, n: int) -> Heads:
        """The running deps of a log after batch n."""
        running: Heads = {}
        for blob in oplog.blobs(tx.connection, row.log, 0, 2**62) if n else ():
            batch = parse_batch(blob)
            if batch.n > n:
                break
            body, _ = opened(self._known(tx), batch)
            if body:
                running = apply_deps(running, body.deps)
        return running


def is_void(log: LogId, keys: Keys) -> bool:
    """Does nothing of a log count, though root has not named it."""
    return log in keys.ends and keys.ends[log].n == 0 and log not in keys.named
