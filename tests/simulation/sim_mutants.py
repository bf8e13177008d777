"""Seeded faults of the product, each small and plausible: a simulator that does not find them finds nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from hybridgw_daemon.services.replica import End, Keys, Replica, Sealer
from hybridgw_daemon.services.replication.state import State as _State
from hybridgw_daemon.services.space import Space
from hybridgw_daemon.services.sync import Judged, SyncService
from hybridgw_daemon.stores import oplog
from hybridgw_daemon.transports.peers.driver import Conversation
from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_protocol.frames import Err
from hybridgw_protocol.ids import KeyId
from hybridgw_protocol.link import Link, Role
from hybridgw_relay.core.cursor import Cursor
from hybridgw_relay.services.admission import Candidate
from hybridgw_relay.services.batches import BatchService, Push
from hybridgw_relay.services.conversation import Conversation as RelayConversation
from hybridgw_relay.services.stream import Stream
from hybridgw_relay.stores.base import Appended, Page
from hybridgw_storage.database import Tx
from tests.simulation.sim_world import Parts


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


# ---- sync service, driver, relay: for the world with connections ---------------------------------------------------
class NoWake(SyncService):
    """What was written is sealed, and nobody is told."""

    def wrote(self) -> None:
        self._unsealed.set()

    async def seal(self) -> int:
        sealer = self._replica.sealer
        return 0 if sealer is None else len(await self._database.write(lambda tx: self._replica.seal(tx, sealer)))


class AgelessKey(Space):
    """No bug, but no new key for age: at the end of a life clocks go on by years, and a new key wakes everybody."""

    def key_is_old(self, now_ms: int) -> bool:
        return False


class CursorRunsAhead(SyncService):
    """What did not fit into a frame counts as sent."""

    async def outgoing(self, cursor: int, have: Any, most_bytes: int, most: int) -> Any:
        rows, last, more = await super().outgoing(cursor, have, most_bytes, most)
        return rows, max(last, self._database.peek(lambda c: oplog.row_before(c, {}))) if more else last, False


class RollbackIgnored(Conversation):
    """A relay that went back does not get again what it had confirmed."""

    async def _meet(self, theirs: Any) -> None:
        await super()._meet(theirs)
        for log, row in self._sync._database.peek(oplog.logs).items():
            self._have[log] = max(self._have.get(log, 0), row.stored.n)


class RefusalForgotten(Conversation):
    """A push that was refused because the relay was busy is never made again."""

    async def _refused_by_peer(self, frame: Err, request: int) -> None:
        if frame.code != "busy" or not request:
            await super()._refused_by_peer(frame, request)


class StrayIgnored(SyncService):
    """A batch that hangs on another branch is dropped and not asked about."""

    async def receive(self, opened: Any, *, source: str) -> Any:
        stored = await super().receive(opened, source=source)
        return stored._replace(strays=[])


class ForkIgnored(SyncService):
    """Two histories of one log are followed as if nothing were."""

    async def compare(self, peer: str, theirs: Any) -> Judged:
        return (await super().compare(peer, theirs))._replace(forked=[])


class OldKey(Space):
    """After a removal it goes on under the first key it ever had, which the removed device has too."""

    def sealer(self) -> Sealer | None:
        """As the product's, but for the key."""
        found = super().sealer()
        if found is None or self._ring is None:
            return found
        epoch, key = next(iter(self._ring.epochs.items()))
        return msgspec.structs.replace(found, kid=KeyId(self.control.epochs[epoch].kid), key=key)


class Stingy(Link):
    """Gives no credit back."""

    def stored(self, size_bytes: int) -> None:
        """It is kept for ever."""


class NoCreditBack(Conversation):
    """A device that never lets the relay send on."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._line.link = Stingy(Role.CLIENT, credit_bytes=how["flow"].credit_bytes)


class RelayNoCreditBack(RelayConversation):
    """A relay that never lets a device push on."""

    def __init__(self, services: Any, *args: Any, **how: Any) -> None:
        super().__init__(services, *args, **how)
        self._link = Stingy(Role.SERVER, credit_bytes=services.flow.credit_bytes)


class RelaySleeps(RelayConversation):
    """A relay that does not tell live connections what is new."""

    def wake(self) -> None:
        """Let them sleep."""


class _Skipping(Stream):
    def _send(self, cursor: Cursor, page: Page) -> None:
        if len(page.batches) > 1:
            lost = page.batches[-1]
            cursor.sent(lost.log, lost.n)
        super()._send(cursor, page)


class StreamSkips(RelayConversation):
    """The last batch of a page counts as sent and is not."""

    async def _admit(self, candidate: Candidate) -> None:
        await super()._admit(candidate)
        if self._stream is not None:
            self._stream.__class__ = _Skipping


class AckBeforeCommit(BatchService):
    """A push is acknowledged when it is queued."""

    async def submit(self, push: Push) -> None:
        heads = {batch.log: Head(batch.n, batch.hash) for batch in map(parse_batch, push.blobs)}
        push.answer(Appended(heads=heads))
        await super().submit(push)


WORLDS: dict[str, Parts] = {
    "NoCausalWait": Parts(replica=NoCausalWait),
    "NoWake": Parts(sync=NoWake, space=AgelessKey),
    "CursorRunsAhead": Parts(sync=CursorRunsAhead),
    "RollbackIgnored": Parts(driver=RollbackIgnored),
    "NoCreditBack": Parts(driver=NoCreditBack),
    "RelayNoCreditBack": Parts(relay=RelayNoCreditBack),
    "RelaySleeps": Parts(relay=RelaySleeps),
    "StreamSkips": Parts(relay=StreamSkips),
    "AckBeforeCommit": Parts(batches=AckBeforeCommit),
    "OldKey": Parts(space=OldKey),
}
RARE: dict[str, Parts] = {  # seen in one life of fifty: told stories show them (test_world_regressions.py)
    "StrayIgnored": Parts(sync=StrayIgnored),
    "ForkIgnored": Parts(sync=ForkIgnored),
    "RefusalForgotten": Parts(driver=RefusalForgotten),
}
