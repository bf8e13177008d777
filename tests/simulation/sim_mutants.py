"""Seeded faults of the product, each small and plausible: a simulator that does not find them finds nothing."""

from __future__ import annotations

from typing import Any

from hybridgw_daemon.services.replica import End, Keys, Replica
from hybridgw_daemon.services.replication.state import State as _State
from hybridgw_daemon.stores import oplog
from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_storage.database import Tx


class NoSealBeforeApply(Replica):
    """Open operations claim to have seen what came after they were written."""

    def _drain(self, tx: Tx, state: _State, *args: Any, **how: Any) -> int:
        keep, state.pending = state.pending, []
        try:
            return super()._drain(tx, state, *args, **how)
        finally:
            state.pending = keep


class NoCausalWait(Replica):
    """A batch is applied before what its author had seen."""

    def _has_deps(self, *_args: Any) -> bool:
        return True


class NoClamp(Replica):
    """What is void counts as seen."""

    def _clamp(self, tx: Tx, state: _State, log: Any, head: Head) -> int | None:
        row = state.logs.get(log)
        return head.n if row is not None and log in self._known(tx).ends else super()._clamp(tx, state, log, head)


class RepairForgets(Replica):
    """A log that was closed is left, and what is void of it is gone."""

    def _repair(self, tx: Tx, state: _State, sealer: Any, now_ms: int) -> None:
        self.open_log(tx, sealer.device, sealer.entropy(32))
        oplog.forget_authored(tx, state.own)


class CopyGoesOn(Replica):
    """A database that was put back, and knows it, signs the same places of its log again."""

    def switch_log(self, *_args: Any) -> None:
        """It should begin a new one."""


class BranchCutShort(Replica):
    """A forked log is closed at whatever of the other branch has come so far."""

    def close_for(self, tx: Tx, tip: Head) -> End | None:
        live = dict(oplog.hashes(tx.connection, self.own_log(tx)))
        found = [parse_batch(blob) for blob in oplog.evidence(tx.connection, self.own_log(tx))]
        fork = min((b.n - 1 for b in found if live.get(b.n - 1) == b.prev), default=0)
        first = next((b for b in found if b.n == fork + 1), None)
        return End(first.n, first.hash, fork) if first else super().close_for(tx, tip)


class KeysBeforeCommit(Replica):
    """Memory follows control records although the transaction failed."""

    def _set_keys(self, tx: Tx, keys: Keys) -> None:
        super()._set_keys(tx, keys)
        self.keys = keys


class WrongSlot(Replica):
    """All open writes get the number of the next batch, also when they will be in the one after it."""

    def _slot(self, state: _State, size: int, secret: bool) -> int:
        n = super()._slot(state, size, secret)
        return n if secret or n == 1 else self._own_row(state).stored.n + 1


REPLICAS: dict[str, type[Replica]] = {
    kind.__name__: kind
    for kind in (
        NoSealBeforeApply, NoCausalWait, NoClamp, RepairForgets,
        CopyGoesOn, BranchCutShort, KeysBeforeCommit, WrongSlot,
    )
}  # fmt: skip
