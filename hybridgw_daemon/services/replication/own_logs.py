"""The logs this device writes: beginning one, going on in a new one, taking what was written along.

Not closing one that forked: repairing.py.
"""

from __future__ import annotations

from hybridgw_protocol.batch import EMPTY_HEAD, FLAG_SECRET, parse_batch
from hybridgw_protocol.errors import SecretsLocked, TooBig
from hybridgw_protocol.ids import DeviceId, log_id
from hybridgw_protocol.limits import LOGS_PER_DEVICE
from hybridgw_storage.database import Tx

from ...core.operations import encode_pending
from ...stores import meta, oplog
from ...stores.oplog import LogRow
from . import pending
from .merging import apply, place_of
from .rebuilding import Rebuilder
from .state import State
from .values import NO_KEYS, PROVISIONAL


class LogOwner(Rebuilder):
    """The part of a replica that chooses the log it writes."""

    def open_log(self, tx: Tx, device: DeviceId, salt: bytes) -> LogRow:
        """Begin a new log of this device and write into it from now on. Args: salt: 32 random bytes.

        Raises: TooBig: 16 open logs already.
        """
        state = self._state(tx)
        if self._open_logs(tx, state, device) >= LOGS_PER_DEVICE:
            raise TooBig(
                f"This device has {LOGS_PER_DEVICE} open logs already; take it in as a new device "
                "('hybridgw pair CODE --anew')."
            )
        log = log_id(device, salt)
        was, state.own = state.own, log
        row = state.logs[log] = LogRow(log, device, salt, EMPTY_HEAD, EMPTY_HEAD)
        meta.put(tx, "log", log)
        state.dirty_logs.add(log)
        if was == PROVISIONAL:
            self._adopt(tx, state)
        self._touch(tx, state)
        return row

    def switch_log(self, tx: Tx, device: DeviceId, salt: bytes, now_ms: int) -> None:
        """Write into a new log from now on, with what was not sealed yet: this database is a copy of one that may run
        elsewhere, or becomes another device.

        Needs the keys; call it before anything more is sealed.
        """
        state = self._state(tx)
        waiting = self._lay_aside(tx, state)
        self.open_log(tx, device, salt)
        if waiting:
            self._build(tx, state, now_ms, waiting)

    def leave_space(self, tx: Tx) -> None:
        """Take what this device wrote along into another space: its batches become pending writes again.

        For a device that is alone in its space. Follow with `open_log` for the new space. Needs the old space's keys.
        """
        state = self._state(tx)
        rows: list[tuple[bool, bytes]] = []
        for blob in oplog.all_blobs(tx.connection):
            batch = parse_batch(blob)
            body, fault = self.open(batch)
            if body is None:
                raise SecretsLocked(f"A batch of this device cannot be opened ({fault}); unlock the keyring first.")
            rows.append((bool(batch.flags & FLAG_SECRET), encode_pending(body.operations)))
        for p in pending.held(tx, state):
            rows += [(p.secret, raw) for raw in pending.rows(self.vault, p)]
        oplog.clear_all(tx)
        state.unkept = []
        for n, (secret, raw) in enumerate(rows, 1):
            pending.keep(state, self.vault, n, secret, raw)
        state.put_down(tx)
        meta.put(tx, "log", PROVISIONAL)
        meta.put(tx, "stamp", state.stamp)
        meta.put(tx, "seq", state.seq)
        tx.memo.pop("replica", None)
        self._set_keys(tx, NO_KEYS)
        self.sealer = None

    def _adopt(self, tx: Tx, state: State) -> None:
        """Writes made before the device had keys get their dots from the new log: nothing of them was sealed yet."""
        waiting = pending.held(tx, state)
        state.logs.pop(PROVISIONAL, None)
        state.dirty_logs.discard(PROVISIONAL)
        oplog.delete_log(tx, PROVISIONAL)
        if not waiting:
            return
        self._begin_again(tx, state)
        cache = self._documents(tx, state)
        for p in waiting:
            for op in pending.operations(self.vault, p):
                apply(tx, state, cache, place_of(cache, op.collection), op, (op.stamp, state.own, p.n), {})
