"""A relay of the simulated world: the real services over the real store, on a file, in a process that can be killed.

Only what needs a socket is written anew here: `_serve` does what transports/ws.py does. A relay may also lie: what its
honest code sends is then changed on its way out, which is all that a hostile operator can do.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_protocol.errors import Busy, HybridGWError, Offline, RateLimited
from hybridgw_protocol.frames import (
    Batches,
    Ctl,
    Frame,
    FrameType,
    Push,
    PushAck,
    Welcome,
    decode_frame,
    encode_frame,
)
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.vectors import Entry, from_entries, to_entries
from hybridgw_relay.core.quotas import DeviceLimits, DeviceRates
from hybridgw_relay.fanout.local import LocalFanout
from hybridgw_relay.services.admission import AdmissionService, invite_hash
from hybridgw_relay.services.batches import BatchService
from hybridgw_relay.services.batches import Push as QueuedPush
from hybridgw_relay.services.conversation import Conversation, Services
from hybridgw_relay.services.gate import Gate, GateLimits
from hybridgw_relay.services.host import Host
from hybridgw_relay.services.janitor import Janitor
from hybridgw_relay.services.mailboxes import Mailboxes
from hybridgw_relay.services.spaces import Spaces
from hybridgw_relay.stores.admin import create_invite
from hybridgw_relay.stores.schema import MIGRATIONS
from hybridgw_storage.database import InlineDatabase
from tests.simulation.sim_checks import demand
from tests.simulation.sim_disk import Disk
from tests.simulation.sim_loop import Clock, Process
from tests.simulation.sim_net import End
from tests.simulation.sim_replicas import START_MS, Template

if TYPE_CHECKING:
    from tests.simulation.sim_world import World

T = TypeVar("T")
YEARS_MS = 20 * 365 * 86_400_000
DEVICE = slice(18, 34)  # where a batch names its device
LIES = ("drop", "suffix", "splice", "replay", "forge", "swallow", "claim", "hide records")


class RelayTemplate(Template):
    """An empty relay file."""

    _raw = None
    migrations = MIGRATIONS


class Outlet:
    """services/ports.py, Outlet, over one end of a simulated connection."""

    def __init__(self, relay: Relay, end: End) -> None:
        self._relay, self._end = relay, end
        self._sent: list[bytes] = []  # frames of batches, for a relay that replays

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue messages."""
        for frame in frames:
            if self._end.is_closed:
                return
            if frame[1] == FrameType.PUSH_ACK:
                self._relay.acknowledged(frame)
            for told in self._relay.told(self._end, frame, self._sent) if self._relay.lies else (frame,):
                self._end.put(told)

    @property
    def is_congested(self) -> bool:
        """Does too much wait to be read."""
        return self._end.is_congested

    async def drained(self) -> None:
        """Wait until it is not congested, or gone."""
        try:
            await self._end.drained()
        except Offline:
            return

    def close(self, reason: str) -> None:
        """End it; what was queued still arrives."""
        del reason
        self._end.close_now()


def watched_batches(base: type[BatchService], relay: Relay) -> type[BatchService]:
    """Counts what devices bring of others."""

    class Watched(base):  # type: ignore[misc, valid-type]
        async def submit(self, push: QueuedPush) -> None:
            if any(blob[DEVICE] != push.device for blob in push.blobs):
                relay.world.sometimes("pushed another device's batches")
            await super().submit(push)

    return Watched


class Relay:
    """One relay: its file and its clock last, its process does not."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.url = f"https://{name}.example"
        self.rng = random.Random(f"{world.seed} {name}")
        self.path = world.folder / f"{name}.db"
        self.clock = Clock(world.loop, START_MS)
        self.secret = self.rng.randbytes(32)
        self.other_secrets = [self.rng.randbytes(32) for _ in range(4)]  # for devices that begin alone
        self.lies: set[str] = set()
        self.hidden: tuple[LogId, int] | None = None
        self.lied_to: dict[End, None] = {}
        self.copies: list[Path] = []
        self.acked: dict[LogId, Head] = {}  # promised since the file was last put back
        self.starts = 0
        self.process: Process = world.loop.process(name)
        self.process.alive = False
        self.conversations: dict[Conversation, End] = {}
        RelayTemplate.write(self.path)
        database = InlineDatabase(self.path, durable=False)
        for secret in (self.secret, *self.other_secrets):
            invite = invite_hash(secret)
            database.write_now(
                lambda tx, invite=invite: create_invite(
                    tx, "all", invite, now_ms=START_MS, expires_ms=START_MS + YEARS_MS,
                    max_bytes=None, max_devices=None, default_bytes=2**30, default_devices=32,
                )
            )  # fmt: skip
        database._connection.close()

    # ---- its process ----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Serve."""
        world, loop = self.world, self.world.loop
        self.starts += 1
        process = self.process = loop.process(self.name)
        with loop.inside(process):
            self.disk = Disk(self.path, loop, process, self.rng, world.ledger, sometimes=world.sometimes)
            store = world.parts.store(self.disk)

            async def work(fn: Callable[[], T]) -> T:
                await asyncio.sleep(self.rng.choice((0.0, 0.0005)))
                return fn()

            host = Host(self.clock.now_ms, lambda: int(loop.time() * 1000), self.rng.randbytes, work)
            fanout, mailboxes = LocalFanout(), Mailboxes(host)
            spaces = Spaces(store, fanout, host)
            batches = watched_batches(world.parts.batches, self)(store, fanout, host)
            self.services = Services(
                host, store, spaces, AdmissionService(store, spaces, host), batches, mailboxes,
                Gate(host, GateLimits()), DeviceRates(DeviceLimits()), lambda: frozenset({endpoint(self.url)}),
                flow=world.flow,
            )  # fmt: skip
            self.janitor = Janitor(store, spaces, mailboxes)
            self.conversations = {}
            loop.create_task(world.guard(self, batches.run))
            loop.create_task(world.guard(self, self.janitor.run))
            world.net.listen(
                endpoint(self.url), process, lambda end: loop.create_task(world.guard(self, partial(self._serve, end)))
            )

    def kill(self) -> None:
        """As SIGKILL."""
        self.world.loop.kill(self.process)

    async def _serve(self, end: End) -> None:
        outlet = Outlet(self, end)
        address = end.other.process.name if end.other.process else ""
        try:
            conversation = self.world.parts.relay(self.services, outlet, address=address)
        except (Busy, RateLimited):
            end.close_now()
            return
        self.janitor.add(conversation)
        conversations = self.conversations
        conversations[conversation] = end
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(work) for work in conversation.works()]
                conversation.begin()
                await self._read(end, conversation)
                for task in beside:
                    task.cancel()
        except* HybridGWError as errors:
            self.world.log(self.name, f"conversation failed: {errors.exceptions}")
            conversation.fail(Busy("The relay cannot go on with this connection.", retry_ms=5_000))
        finally:
            conversations.pop(conversation, None)
            self.janitor.remove(conversation)
            conversation.ended()
            end.close_now()

    async def _read(self, end: End, conversation: Conversation) -> None:
        while True:
            try:
                data = await end.receive()
            except Offline:
                return
            if "swallow" in self.lies and data[1] == FrameType.PUSH and self._swallows(end, data):
                continue
            await conversation.receive(data)

    # ---- what it promised -----------------------------------------------------------------------------------------
    def acknowledged(self, data: bytes) -> None:
        """I3: a push was acknowledged: it must be on the disk now, and stay there."""
        frame, _ = decode_frame(data)
        assert isinstance(frame, PushAck)
        for log, head in from_entries(frame.vv).items():
            held = self._hash_at(self.disk._connection, log, head.n)
            demand(
                held == head.hash or log in self.world.closed_logs(), "I3", f"{self.name} acknowledged what it has not",
                log, head.n,
            )  # fmt: skip
            if head.n >= self.acked.get(log, Head(0, b"")).n:
                self.acked[log] = head

    @staticmethod
    def _hash_at(connection: Any, log: LogId, n: int) -> bytes | None:
        row = connection.execute("SELECT blob FROM batch WHERE log=? AND n=?", (log, n)).fetchone()
        return parse_batch(row[0]).hash[:16] if row else None

    def check_promises(self, connection: Any) -> None:
        """I3: nothing it ever acknowledged is gone, unless its file was put back."""
        closed = self.world.closed_logs()
        for log, head in self.acked.items():
            if log not in closed:
                held = self._hash_at(connection, log, head.n)
                demand(held == head.hash, "I3", f"{self.name} lost what it acknowledged", log, head.n)

    def blobs(self) -> list[bytes]:
        """All batches in its file, of every space."""
        connection = self._connection()
        try:
            return [blob for (blob,) in connection.execute("SELECT blob FROM batch ORDER BY rid")]
        finally:
            self._release(connection)

    def _connection(self) -> Any:
        return self.disk._connection if self.process.alive else InlineDatabase(self.path, durable=False)._connection

    def _release(self, connection: Any) -> None:
        if not self.process.alive:
            connection.close()

    def heads(self) -> dict[LogId, Head]:
        """The ends of its logs."""
        rows = self.disk._connection.execute(
            "SELECT log, n, hash FROM head JOIN space USING(sid) WHERE id=?", (self.world.first.space_id(),)
        )
        return {LogId(log): Head(n, digest) for log, n, digest in rows}

    def control_heads(self) -> list[bytes]:
        """As a space tells them; empty while no space is here."""
        row = self.disk._connection.execute(
            "SELECT control_heads FROM space WHERE id=?", (self.world.first.space_id(),)
        ).fetchone()
        return sorted(row[0][i : i + 16] for i in range(0, len(row[0]), 32)) if row else []

    # ---- going back -----------------------------------------------------------------------------------------------
    def copy(self) -> None:
        """A backup of its file, once there is a space in it."""
        if not self.process.alive or not self.control_heads():
            return
        path = self.world.folder / f"{self.name}.copy{len(self.copies)}"
        self.disk._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(self.path, path)
        self.copies.append(path)

    def roll_back(self) -> None:
        """Its operator puts an earlier copy back."""
        self.kill()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.rng.choice(self.copies), self.path)
        self.acked.clear()
        self.world.sometimes("relay put back")

    # ---- lies -----------------------------------------------------------------------------------------------------
    def told(self, end: End, data: bytes, sent: list[bytes]) -> list[bytes]:
        """What goes out instead of a frame."""
        if data[1] not in (FrameType.BATCHES, FrameType.WELCOME, FrameType.CTL) or self.rng.random() < 0.4:
            return [data]
        frame, request = decode_frame(data)
        out = self._lie(frame, data, sent)
        if out is None:
            return [data]
        self.lied_to[end] = None
        return [part if isinstance(part, bytes) else encode_frame(part, request) for part in out]

    def _lie(self, frame: Frame, data: bytes, sent: list[bytes]) -> list[Frame | bytes] | None:
        rng = self.rng
        kind = rng.choice(sorted(self.lies))
        match frame:
            case Ctl(recs=recs) if kind == "hide records" and recs:
                self.world.sometimes("lie: hide records")
                return [Ctl(recs=recs[: rng.randrange(len(recs))], more=frame.more)]
            case Welcome(vv=vv) if vv and kind in ("claim", "suffix"):
                entry = rng.choice(vv)
                n = entry.n + rng.randint(1, 3) if kind == "claim" else rng.randrange(entry.n)
                false = [Entry(entry.log, n, rng.randbytes(16))] if n else []
                if kind == "suffix":
                    self.world.hidden.add(entry.log)
                frame.vv = sorted([e for e in vv if e.log != entry.log] + false, key=lambda e: e.log)
                self.world.sometimes(f"lie: {kind}")
                return [frame]
            case Batches(b=blobs) if blobs:
                return self._lie_in_batches(kind, frame, data, sent)
            case _:
                return None

    def _lie_in_batches(self, kind: str, frame: Batches, data: bytes, sent: list[bytes]) -> list[Frame | bytes] | None:
        rng, blobs = self.rng, list(frame.b)
        k = rng.randrange(len(blobs))
        out: list[Frame | bytes] = [frame]
        match kind:
            case "drop":
                self.world.hidden.add(parse_batch(blobs.pop(k)).log)
            case "suffix":
                self.world.hidden.update(parse_batch(blob).log for blob in blobs[k:])
                blobs = blobs[:k]
            case "splice":
                other = bytearray(blobs[k])
                other[rng.randrange(len(other))] ^= 1 << rng.randrange(8)
                blobs[k] = bytes(other)
            case "forge":
                blobs.insert(k, blobs[k][:-64] + rng.randbytes(64))
            case "replay" if sent:
                out = [frame, rng.choice(sent)]
            case _:
                sent.append(data)
                return None
        sent.append(data)
        del sent[:-8]
        frame.b = blobs
        self.world.sometimes(f"lie: {kind}")
        return out

    def _swallows(self, end: End, data: bytes) -> bool:
        """Acknowledge a push and throw it away."""
        if self.rng.random() < 0.5:
            return False
        frame, request = decode_frame(data)
        assert isinstance(frame, Push)
        heads = {batch.log: Head(batch.n, batch.hash) for batch in map(parse_batch, frame.b)}
        end.put(encode_frame(PushAck(vv=to_entries(heads)), request))
        self.lied_to[end] = None
        self.world.sometimes("lie: swallow")
        return True

    def be_honest(self) -> None:
        """No lies any more; connections that were lied on are cut, an honest relay would not have them."""
        self.lies = set()
        for end in self.lied_to:
            if not end.is_closed:
                self.world.net.cut(end.connection)
        self.lied_to.clear()
