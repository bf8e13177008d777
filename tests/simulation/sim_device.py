"""A device of the simulated world: the parts of the daemon put together as app.py does, without its local API.

Real: database functions, replica, space, sync service, pairing, relay links and the conversations on them. Arguments:
the clock, entropy, the worker thread, the connection. The keyring is a key that is there, or is not there yet.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hybridgw_daemon.core.keys import DeviceKeys, rotate
from hybridgw_daemon.core.operations import Request, decode_pending
from hybridgw_daemon.core.rest import Purpose, RestSealer
from hybridgw_daemon.core.words import seed_to_words
from hybridgw_daemon.services.devices import DeviceService
from hybridgw_daemon.services.expelling import ExpellingService
from hybridgw_daemon.services.membership import DEVICE_SEED, MembershipService
from hybridgw_daemon.services.pairing import PairingService
from hybridgw_daemon.services.relays import RelayService
from hybridgw_daemon.services.replica import PROVISIONAL, Replica, Sealer, Stored
from hybridgw_daemon.services.replication import pending
from hybridgw_daemon.services.space import RestVault
from hybridgw_daemon.services.sync import Judged, Opened, SyncService
from hybridgw_daemon.stores import control, documents, meta, oplog
from hybridgw_daemon.transports.peers.driver import Conversation
from hybridgw_daemon.transports.peers.gateway import RelayGateway
from hybridgw_daemon.transports.peers.relay import RelayLink
from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.batch import Batch, Head
from hybridgw_protocol.errors import HybridGWError, SecretsLocked, StateError
from hybridgw_protocol.ids import DeviceId, LogId, key_id
from hybridgw_protocol.invite import Invite
from hybridgw_protocol.localapi_devices import ExpelDevice, RemoveDevice, RestoreDevice
from hybridgw_storage.database import InlineDatabase, Tx
from tests.simulation import sim_checks
from tests.simulation.sim_checks import State, applied_heads_of
from tests.simulation.sim_disk import Disk
from tests.simulation.sim_lan import Gateway as Lan
from tests.simulation.sim_lan import SimNearby, SimPlace
from tests.simulation.sim_loop import Clock, Process
from tests.simulation.sim_net import End
from tests.simulation.sim_replicas import START_MS, Template

if TYPE_CHECKING:
    from tests.simulation.sim_world import World

T = TypeVar("T")


def watched_replica(base: type[Replica], device: Device) -> type[Replica]:
    """A replica of which the ledger sees every batch when it is sealed."""
    ledger = device.world.ledger

    class Watched(base):  # type: ignore[misc, valid-type]
        def _seal_one(self, own: Any, sealer: Sealer, *args: Any) -> Batch:
            ledger.owner_of[sealer.device] = device.owner
            ledger.space_keys[key_id(sealer.key)] = sealer.key
            batch: Batch = super()._seal_one(own, sealer, *args)
            ledger.see(batch)
            device.disk.tx.sealed.append(batch)
            return batch

    return Watched


def watched_sync(base: type[SyncService], device: Device) -> type[SyncService]:
    """A sync service of which the world counts what happens seldom."""
    sometimes = device.world.sometimes

    class Watched(base):  # type: ignore[misc, valid-type]
        async def receive(self, opened: Opened, *, source: str) -> Stored:
            stored: Stored = await super().receive(opened, source=source)
            if stored.gaps:
                sometimes("gap")
            if stored.fresh < len(opened.items):
                sometimes("batch received twice")
                if self.peers.path() == "both":
                    sometimes("came over both ways")
            if stored.forks:
                sometimes("fork found")
            return stored

        async def compare(self, peer: str, theirs: Any) -> Judged:
            judged: Judged = await super().compare(peer, theirs)
            if judged.rolled_back:
                sometimes("relay rollback detected")
            if judged.forked:
                sometimes("fork seen in a vector")
            return judged

        async def _follow(self, added: Any) -> None:
            before, rebuilds = self.space.own_log, device.replica.rebuilds
            await super()._follow(added)
            if before not in (PROVISIONAL, self.space.own_log):
                sometimes("own log repaired")
            if device.replica.rebuilds != rebuilds:
                sometimes("rebuilt")

    return Watched


class Gateway(RelayGateway):
    """With the world's kind of conversation."""

    device: Device

    def _link_to(self, url: str) -> RelayLink:
        return device_link(self.device)(
            url, self._sync, entropy=self._entropy, enrol=lambda: self._enrol(url), connect=self._connect,
            flow=self._flow,
        )  # fmt: skip


def device_link(device: Device) -> type[RelayLink]:
    """A link whose conversations are of the world's kind."""

    class Link(RelayLink):
        def _begin(self, channel: Any) -> Conversation:
            device.connects += 1
            if device.connects > 1:
                device.world.sometimes("reconnected")
            return device.world.parts.driver(channel, self._sync, self._greeting(), flow=self._flow)

    return Link


class Device:
    """One installation: its file, keyring and clock last, its process does not."""

    def __init__(self, world: World, name: str, owner: int) -> None:
        self.world, self.name, self.owner = world, name, owner
        self.rng = random.Random(f"{world.seed} {name}")
        self.rest = RestSealer(random.Random(f"{world.seed} keyring {owner}").randbytes(32))
        self.path = world.folder / f"{name}.db"
        self.clock = Clock(world.loop, START_MS)
        self.process: Process = world.loop.process(name)
        self.process.alive = False
        self.is_copy = False  # the clone guard knows that this database was put back or copied
        self.is_honest = True
        self.locked_s = 0.0  # so long the keyring takes to open at the next start
        self.copies: list[Path] = []
        self.connects = 0
        self.waits_since = (0.0, "")  # the pairing that was begun last
        Template.write(self.path)

    # ---- its process ----------------------------------------------------------------------------------------------
    @property
    def is_up(self) -> bool:
        """Is the process running."""
        return self.process.alive

    def start(self) -> None:
        """Start the daemon."""
        world, loop = self.world, self.world.loop
        process = self.process = loop.process(self.name)
        world.log(self.name, "starts")
        with loop.inside(process):
            self.disk = Disk(self.path, loop, process, self.rng, world.ledger, sometimes=world.sometimes)
            self.replica = watched_replica(world.parts.replica, self)()
            self.space = world.parts.space(name=f"planted-{self.name}", platform="sim", entropy=self.rng.randbytes)
            self.sync = watched_sync(world.parts.sync, self)(
                self.disk, self.replica, self.space, clock=self.clock.now_ms, worker=self._work,
            )  # fmt: skip
            self.membership = MembershipService(
                self.disk, self.replica, self.space, self.sync, clock=self.clock.now_ms, entropy=self.rng.randbytes
            )
            self.gateway = Gateway(
                self.sync, entropy=self.rng.randbytes, enrol=lambda url: self.relays.enrol_secret(url),
                connect=self._connect, flow=world.flow,
            )  # fmt: skip
            self.gateway.device = self
            self.relays = RelayService(
                self.disk, self.sync, self.gateway, clock=self.clock.now_ms, entropy=self.rng.randbytes
            )
            self.nearby = SimNearby(self)
            self.lan = Lan(
                self.sync, self.nearby, SimPlace(self), entropy=self.rng.randbytes, flow=world.flow
            )  # fmt: skip
            self.lan.device = self
            self.devices = DeviceService(
                self.disk, self.replica, self.space, self.sync, clock=self.clock.now_ms,
                forget_relays=self.relays.forget_all,
            )  # fmt: skip
            self.expelling = ExpellingService(
                self.disk, self.replica, self.space, self.sync, self.devices, clock=self.clock.now_ms
            )
            self.sync.peers.on_reconnect(self._reconnect)
            loop.create_task(world.guard(self, self._main))

    async def _main(self) -> None:
        async with asyncio.TaskGroup() as group:
            self.pairing = PairingService(
                self.sync, self.space, self.membership, self.gateway, self.relays, clock=self.clock.now_ms,
                entropy=self.rng.randbytes, worker=self._work, group=group, platform="sim",
            )  # fmt: skip
            group.create_task(self._unlock(group))
            group.create_task(self.sync.run())
            group.create_task(self.gateway.run())

    async def _work(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(self.rng.choice((0.0, 0.0005, 0.003)))
        return work()

    async def _connect(self, url: str) -> End:
        return await self.world.net.connect(endpoint(url))

    def _reconnect(self, full: bool) -> None:
        self.gateway.reconnect(full)
        self.lan.reconnect(full)

    async def _unlock(self, group: asyncio.TaskGroup) -> None:
        """As services/unlocking.py: the key may take its time; a copy that is known as one begins a new log."""
        locked_s, self.locked_s = self.locked_s, 0.0
        if locked_s:
            self.world.sometimes("keyring locked for a while")
        await asyncio.sleep(locked_s)
        waits = bool(self.disk.peek(oplog.pending))
        is_provisional = self.disk.peek(lambda c: meta.get(c, "log", PROVISIONAL)) == PROVISIONAL

        def note(tx: Tx) -> None:
            tx.after_commit(self._noted)

        self.relays.rest = self.rest
        await self.membership.open(self.rest, is_copy=self.is_copy, note=note)
        if waits and is_provisional:
            self.world.sometimes("provisional writes adopted")
        self.relays.start()
        if self.world.lan:
            group.create_task(self.lan.run())

    def _noted(self) -> None:
        self.is_copy = False

    def kill(self) -> None:
        """As SIGKILL."""
        self.world.loop.kill(self.process)

    def run(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Start something in its process; what the product refuses is told in the trace."""

        async def quietly() -> None:
            try:
                await work()
            except HybridGWError as error:
                self.world.log(self.name, f"refused: {error.code}")
                if isinstance(error, SecretsLocked):
                    self.world.sometimes("locked")
                elif not isinstance(error, StateError) and error.code == "internal":
                    raise

        with self.world.loop.inside(self.process):
            self.world.loop.create_task(self.world.guard(self, quietly))

    # ---- what a person does ---------------------------------------------------------------------------------------
    async def write(self, requests: Sequence[Request]) -> None:
        """A local transaction, and what the daemon does after it."""
        await self.disk.write(partial(self._write, list(requests)))
        self.sync.wrote()

    def _write(self, requests: list[Request], tx: Tx) -> None:
        ledger, replica = self.world.ledger, self.replica
        state = replica._state(tx)
        applied = {log: row.applied for log, row in state.logs.items() if row.applied.n}
        own = replica.own_log(tx)
        seen = ledger.applied(applied) | self._labels_of(pending.held(tx, state), own)
        last = len(state.unkept)
        replica.write(tx, requests, self.clock.now_ms())
        made: list[Any] = []
        for n, secret, raw in state.unkept[last:]:
            made += decode_pending(self._opened(n, raw) if secret else raw)
        ledger.wrote(self.owner, made, seen)

    def _opened(self, n: int, raw: bytes) -> bytes:
        return self.vault().open(b"pending" + n.to_bytes(8, "big"), raw)

    def _labels_of(self, waiting: list[oplog.Pending], own: LogId) -> int:
        mask = 0
        for p in waiting:
            for raw in p.rows:
                for operation in decode_pending(self._opened(p.n, raw) if p.secret else raw):
                    mask |= 1 << self.world.ledger.label_of(self.owner, operation, own)
        return mask

    async def use_relays(self) -> None:
        """`relay add`, for every relay that is not known here."""
        known = {row.url for row in self.disk.peek(control.relays)}
        for relay in self.world.relays:
            if relay.url not in known:
                await self.relays.keep(Invite(relay.url, relay.secret))

    async def join(self, code: str) -> None:
        """Type a code."""
        shown = await self.pairing.join(code)
        self.waits_since = (self.world.loop.time(), shown.id)

    def greeting(self) -> list[Conversation]:
        """Conversations that are not welcomed yet."""
        found = [link.conversation for link in self.gateway._links.values()]
        return [c for c in found if c is not None and not c.is_ready.is_set()]

    def give_up(self) -> None:
        """Cancel a pairing that takes very long."""
        since_s, number = self.waits_since
        if number and self.world.loop.time() - since_s > 30:
            self.waits_since = (0.0, "")
            self.run(partial(self.pairing.confirm, number, False))

    async def rotate(self) -> None:
        """A new space key, though none is due."""
        if self.space.is_active:
            await self.sync.add_records([rotate(self.space._hand(self.clock.now_ms()))])
            self.world.sometimes("key rotated")

    async def remove(self, target: Device) -> None:
        """`devices remove`."""
        await self.devices.remove(RemoveDevice(id=target.device_id().hex()))
        self.world.sometimes("device removed")

    async def expel(self, target: Device, since_ms: int | None) -> None:
        """`devices remove --lost`."""
        words = " ".join(seed_to_words(self.world.words))
        await self.expelling.expel(ExpelDevice(id=target.device_id().hex(), words=words, since_ms=since_ms))
        self.world.sometimes("device expelled")

    async def restore(self, target: Device) -> None:
        """`devices restore`."""
        await self.devices.restore(RestoreDevice(id=target.device_id().hex()))
        self.world.sometimes("device restored")

    # ---- what it is ------------------------------------------------------------------------------------------------
    def vault(self) -> RestVault:
        """Opens what is sealed at rest."""
        return RestVault(self.rest, self.rng.randbytes)

    def peek(self, fn: Callable[[Any], T]) -> T:
        """Read its file, whether its process runs or not."""
        if self.is_up:
            return self.disk.peek(fn)
        database = InlineDatabase(self.path, durable=False)
        try:
            return database.peek(fn)
        finally:
            database._connection.close()

    def state(self) -> State:
        """Its documents and logs."""
        return self.peek(lambda c: sim_checks.state_of(c, self.vault()))

    def logs(self) -> dict[LogId, oplog.LogRow]:
        """Its logs."""
        return self.peek(oplog.logs)

    def blobs(self) -> list[bytes]:
        """Its batches."""
        return self.peek(lambda c: list(oplog.all_blobs(c)))

    def records(self) -> list[bytes]:
        """Its control records."""
        return self.peek(control.records)

    def device_id(self) -> DeviceId:
        """Its keys' id; empty before its first start has come so far."""
        return DeviceId(self.peek(lambda c: meta.get(c, "device", b"")))

    def keys(self) -> DeviceKeys:
        """Its keys, from its disk and its keyring."""
        sealed = self.peek(lambda c: control.secret(c, DEVICE_SEED))
        assert sealed is not None
        return DeviceKeys.from_seed(self.rest.open(Purpose.DEVICE_SEED, (DEVICE_SEED,), sealed))

    def space_id(self) -> bytes:
        """The space it belongs to; empty before its first start has come so far."""
        return bytes(self.peek(lambda c: meta.get(c, "space", b"")))

    def held(self) -> int:
        """The labels it still has: sealed, open, or only as evidence."""

        def read(connection: Any) -> int:
            own = LogId(meta.get(connection, "log", PROVISIONAL))
            return self._labels_of(oplog.pending(connection), own) | self.world.ledger.held(connection)

        return self.peek(read)

    def row(self, collection: str, document: Any) -> Any:
        """A document as it stands."""

        def read(connection: Any) -> Any:
            where = documents.collection(connection, collection)
            found = documents.get(connection, where, document, self.vault()) if where else None
            return found and found.row

        return self.peek(read)

    def applied(self) -> dict[LogId, Head]:
        """Applied heads."""
        return applied_heads_of(self.logs())

    # ---- copies ---------------------------------------------------------------------------------------------------
    def copy(self) -> None:
        """A backup of its database."""
        path = self.world.folder / f"{self.name}.copy{len(self.copies)}"
        self.disk._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(self.path, path)
        self.copies.append(path)

    def put_back(self, path: Path) -> None:
        """That backup replaces the database; the process must not run."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(path, self.path)
