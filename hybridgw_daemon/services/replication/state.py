"""What a transaction knows of the replica: cached rows of the database, and the keys that count in it.

The cache lives in `tx.memo`, which a rollback empties, and is written back once, before the commit. Not the rules of
writing, applying or repairing: those are the classes that build on `Base`.
"""

from __future__ import annotations

from hybridgw_protocol.batch import EMPTY_HEAD, Head
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_storage.database import Tx

from ...stores import meta, oplog
from ...stores.documents import DocumentCache, Vault
from ...stores.oplog import LogRow
from .values import NO_KEYS, PROVISIONAL, Keys, Sealer


class State:
    """Cached rows of one database: valid while nothing else writes it."""

    def __init__(self, tx: Tx) -> None:
        self.stamp = int(meta.get(tx.connection, "stamp", 0))
        self.seq = int(meta.get(tx.connection, "seq", 0))
        self.saved = (self.stamp, self.seq)
        self.own = LogId(int(meta.get(tx.connection, "log", PROVISIONAL)))
        self.logs = oplog.logs(tx.connection)
        self.pending = [[p.n, p.secret, sum(map(len, p.rows))] for p in oplog.pending(tx.connection)]
        self.has_pending_rows = bool(self.pending)  # in the table; see pending.py
        self.unkept: list[tuple[int, bool, bytes]] = []  # pending rows that are not in the table yet
        self.dirty_logs: set[LogId] = set()
        self.sealed_ms = 0
        self.cache: DocumentCache | None = None
        self.unapplied = {log for log, row in self.logs.items() if row.stored.n > row.applied.n}
        self.unapplied_bytes = oplog.unapplied_bytes(tx.connection)

    def put_down(self, tx: Tx) -> None:
        """Write pending rows that are not in the table yet into it: before the transaction ends."""
        if self.unkept:
            oplog.add_pending(tx, self.unkept)
            self.unkept, self.has_pending_rows = [], True

    @property
    def applied(self) -> dict[LogId, int]:
        """How far each log is applied."""
        return {log: row.applied.n for log, row in self.logs.items()}


class Base:
    """What every part of a replica stands on; methods take the open transaction."""

    def __init__(self, vault: Vault | None = None) -> None:
        self.vault = vault
        self.rebuilds = 0  # times the documents were built again since the start
        self.cuts = 0  # times batches were taken out since the start: their rows may be used again
        self.keys = NO_KEYS
        self.sealer: Sealer | None = None  # set while there is a key to seal under

    def heads(self, tx: Tx) -> dict[LogId, Head]:
        """Stored, gapless, verified head of every log."""
        return {log: row.stored for log, row in self._state(tx).logs.items() if row.stored.n}

    def own_log(self, tx: Tx) -> LogId:
        """The log this device writes."""
        return self._state(tx).own

    def has_pending(self, tx: Tx) -> bool:
        """Are there writes to seal."""
        return bool(self._state(tx).pending)

    def _known(self, tx: Tx) -> Keys:
        """The keys and ends that the tables follow in this transaction."""
        known: Keys = tx.memo.get("keys", self.keys)
        return known

    def _set_keys(self, tx: Tx, keys: Keys) -> None:
        """They count from here on, and for good only once this transaction is committed."""

        def keep() -> None:
            self.keys = tx.memo.pop("keys", self.keys)

        tx.memo["keys"] = keys
        tx.after_commit(keep)

    def _state(self, tx: Tx) -> State:
        state: State | None = tx.memo.get("replica")
        if state is None:
            state = tx.memo["replica"] = State(tx)
        return state

    def _documents(self, tx: Tx, state: State) -> DocumentCache:
        if state.cache is None:
            state.cache = DocumentCache(tx, self.vault)
            self._touch(tx, state)
        return state.cache

    def _own_row(self, state: State) -> LogRow:
        row = state.logs.get(state.own)
        if row is None:
            row = state.logs[state.own] = LogRow(state.own, DeviceId(bytes(16)), b"", EMPTY_HEAD, EMPTY_HEAD)
        return row

    def _open_logs(self, tx: Tx, state: State, device: DeviceId) -> int:
        """How many logs of a device are not closed."""
        ends = self._known(tx).ends
        return sum(row.device == device and row.log not in ends for row in state.logs.values())

    def _touch(self, tx: Tx, state: State) -> None:
        tx.before_commit("replica", lambda: self._save(tx, state))

    def _save(self, tx: Tx, state: State) -> None:
        if state.cache is not None:
            state.cache.flush()
            state.cache = None
        state.put_down(tx)
        if state.dirty_logs:
            oplog.save_logs(tx, [state.logs[log] for log in state.dirty_logs if log in state.logs])
            state.dirty_logs = set()
        if (state.stamp, state.seq) != state.saved:
            meta.put_all(tx, {"stamp": state.stamp, "seq": state.seq})
            state.saved = (state.stamp, state.seq)
