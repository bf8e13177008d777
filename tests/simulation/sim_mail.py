"""Messages in the simulated world: devices that send each other messages while everything goes wrong.

The product's services and pumps over the simulator's network, disks and clocks (sim_world.py). One seed is one life:
devices are paired, programs send and acknowledge, faults strike, then they stop; once every message has arrived or is
over, the run is held against the reference of delivery (tests/models/delivery_model.py).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hybridgw_daemon.services.mail import MailService
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.ports import OWNER
from hybridgw_protocol.frames import FrameType
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.localapi_messages import AckMessages, SendMessage
from hybridgw_relay.stores.base import MailRow
from hybridgw_relay.stores.sqlite import SqliteRelayStore
from tests.models.delivery_model import Shown, Truth, judge
from tests.simulation.sim_checks import Violation, demand
from tests.simulation.sim_device import Device
from tests.simulation.sim_net import End
from tests.simulation.sim_replicas import scratch
from tests.simulation.sim_world import Parts, World

QUIET_S = (
    4 * 3600.0
)  # of virtual time for all to arrive: what a relay lost is put again after minutes, then more rarely
PRIORITIES = ("bulk", "normal", "high", "urgent")
PLANTED = b"planted-message"


class MailDevice(Device):
    """A device of which programs send messages."""

    mail_kind: type[MailService] = MailService

    def start(self) -> None:
        """Start the daemon."""
        super().start()
        with self.world.loop.inside(self.process):
            self.messages = MessageService(self.disk, clock=self.clock.now_ms, entropy=self.rng.randbytes)
            self.mail = self.sync.mail = self.mail_kind(
                self.disk, self.space, self.messages, clock=self.clock.now_ms, entropy=self.rng.randbytes,
                wake=self.sync.peers.wake,
            )  # fmt: skip
            for part in (self.messages.run, self.mail.run):
                self.world.loop.create_task(self.world.guard(self, part))

    async def say(self, to: str, number: int, priority: str, ttl_s: float | None) -> None:
        """A program sends; what was answered must never be lost."""
        sent = await self.messages.send(
            OWNER,
            SendMessage(
                type="planted-type", to=to, body=f"planted-message {number}", priority=priority,  # type: ignore[arg-type]
                ttl_s=ttl_s,
            ),
        )  # fmt: skip
        assert isinstance(self.world, MailWorld)
        self.world.accepted.add((self.name, sent.id))

    async def acknowledge(self) -> None:
        """A program deals with something that has arrived."""
        found = self.peek(
            lambda c: c.execute(
                "SELECT m.id FROM message m JOIN delivery d USING(rid) WHERE m.sender <> x'' AND d.state = 'delivered'"
            ).fetchall()
        )
        if found:
            id = self.rng.choice(found)[0].hex()
            text = f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"
            await self.messages.ack(OWNER, AckMessages(ids=[text]), None)


class Mood:
    """What a hostile relay feels like. is_hostile: until faults stop."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"hostile {seed}")
        self.is_hostile = True
        self.counts: Counter[str] = Counter()

    def does(self, what: str, chance: float) -> bool:
        """Now and then."""
        if not self.is_hostile or self.rng.random() >= chance:
            return False
        self.counts[f"relay {what}"] += 1
        return True


def hostile_store(mood: Mood) -> type[SqliteRelayStore]:
    """The store of a relay that loses what it says it has stored, keeps things back, repeats, mixes up, and empties."""

    class Hostile(SqliteRelayStore):
        async def put_mail(self, sid: int, rows: Sequence[MailRow], now_ms: int) -> list[bool]:
            kept = [row for row in rows if not mood.does("lost what it had stored", 0.15)]
            if kept:
                await super().put_mail(sid, kept, now_ms)
            return [True] * len(rows)

        def mail(
            self, sid: int, dest: DeviceId, priority: int, after: int, max_bytes: int
        ) -> list[tuple[int, MailRow]]:
            if mood.does("kept messages back", 0.1):
                return []
            found = super().mail(sid, dest, priority, after, max_bytes)
            if len(found) > 1 and mood.does("mixed messages up", 0.2):
                mood.rng.shuffle(found)  # what is sent before the last of them comes again
            if found and mood.does("emptied messages", 0.1):
                found = [(rid, replace(row, body=None)) for rid, row in found]
            return found

        async def done_mail(self, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
            if not mood.does("repeats messages", 0.2):
                await super().done_mail(sid, dest, keys)

    return Hostile


class MailWorld(World):
    """One life with messages. mail: the product's class; a seeded fault replaces it; quiet_s: how long all may take;
    hostile: relays lie about messages."""

    def __init__(
        self, seed: int, folder: Path, *, mail: type[MailService] = MailService, quiet_s: float = QUIET_S,
        hostile: bool = False,
    ) -> None:  # fmt: skip
        self.mood = Mood(seed)
        parts = Parts(store=hostile_store(self.mood)) if hostile else None
        super().__init__(seed, folder, devices=2 + seed % 2, parts=parts)
        self.is_hostile = hostile
        # What a relay has lost often enough is put again after many hours.
        self.copying, self.quiet_s = False, 48 * 3600.0 if hostile else quiet_s
        self.latest_ms = 0  # of any clock, before it was set
        self.accepted: set[tuple[str, str]] = set()
        self.numbers = 0
        self.mails: list[MailDevice] = []
        for k in range(len(self.devices)):
            device = MailDevice(self, f"device{k}", k)
            device.mail_kind = mail
            self.mails.append(device)
        self.devices = list(self.mails)

    def saw_sent(self, end: End, data: bytes) -> None:
        """Called for everything that is sent."""
        super().saw_sent(end, data)
        if data[1] in (FrameType.MSG, FrameType.MSG_PUT):
            self.counts["message frames"] += 1

    def actions(self) -> list[tuple[float, Callable[[Device], None]]]:
        """What may happen, by weight."""
        return [
            (40, self.say_some), (12, self.ack_some), (4, self.some_write), (7, self.cut), (3, self.block),
            (3, self.unblock), (2, self.slow), (4, self.crash), (4, self.crash_soon), (4, self.crash_at_commit),
            (1, self.lock), (2, self.crash_relay), (2, self.copy_relay), (2, self.roll_back_relay),
            (2, self.fail_disk), (2, self.fill_disk), (1, self.rotate), (2, self.wind),
        ]  # fmt: skip

    def wind(self, device: Device) -> None:
        """A clock is set, by minutes."""
        machine = self.rng.choice((device, device, self.rng.choice(self.relays)))
        self.latest_ms = max(self.latest_ms, machine.clock.now_ms())
        machine.clock.jump(self.rng.choice((0, -60_000, 60_000, 300_000)))
        self.sometimes("clock jumped")

    def say_some(self, device: Device) -> None:
        """Programs send, to one device or to all."""
        assert isinstance(device, MailDevice)
        if not device.is_up:
            return
        others = [d for d in self.devices if d is not device]
        for _ in range(self.rng.choice((1, 1, 2, 5, 20))):
            self.numbers += 1
            to = self.rng.choice(("all", f"device:planted-{self.rng.choice(others).name}"))
            ttl_s = self.rng.choice((None, None, None, 60.0, 5.0))
            device.run(partial(device.say, to, self.numbers, self.rng.choice(PRIORITIES), ttl_s))

    def ack_some(self, device: Device) -> None:
        """A program deals with something."""
        assert isinstance(device, MailDevice)
        if device.is_up:
            device.run(device.acknowledge)

    def run(self, steps: int) -> None:
        """Play, let everything arrive, judge. Raises: Violation, Wrong, and what the product raises and should not."""
        self.begin()
        for device in self.mails:
            waited = 0.0
            while not self.is_member(device):
                demand(waited < 600, "I15", "not paired", device.name)
                self.pair(device)
                self.run_for(5.0)
                waited += 5.0
        self.identities = {device.name: device.space.identity.device for device in self.mails}
        self.loop.before_step = self.strike
        for k in range(steps):
            self.step()
            if k % 10 == 9:
                self.check_states()
        self.heal_mail()
        self.judge()

    def heal_mail(self) -> None:
        """Faults stop; everything arrives or ends."""
        self.log("world", "heal")
        self.check_states()
        if self.is_hostile:
            self.mood.is_hostile = False
            for relay in self.relays:  # what it has kept and its connections count as sent goes anew
                if relay.process.alive:
                    relay.kill()
        self.counts += self.mood.counts
        self.doomed.clear()
        self.net.heal()
        self.net.latency_s, self.net.bytes_per_s = 0.01, 10e6
        for connection in self.net.connections:
            connection.latency_s, connection.bytes_per_s = 0.01, 10e6
        latest_ms = max(machine.clock.offset_ms for machine in (*self.devices, *self.relays))
        for machine in (*self.devices, *self.relays):
            self.latest_ms = max(self.latest_ms, machine.clock.now_ms())
            machine.clock.jump(latest_ms)
            if machine.process.alive:
                machine.disk.crash_at, machine.disk.fails_once = None, False
                machine.disk.fill(False)
        for device in self.mails:
            device.locked_s = 0.0
        waited = 0.0
        while (waiting := self.waiting()) or not all(d.is_up and not d.space.locked for d in self.mails):
            if waited >= self.quiet_s:
                raise Violation("I15", "messages are still on their way", waiting[:5], self.lag())
            for machine in (*self.devices, *self.relays):
                if not machine.process.alive:
                    machine.start()
            step_s = max(20.0, waited / 8)  # tries are ever further apart
            self.run_for(step_s)
            waited += step_s
        self.counts["quiet after s"] = max(self.counts["quiet after s"], int(waited))

    def check_states(self) -> None:
        """What senders are shown is true at any moment: delivered is there, handled is handled there."""
        states: dict[tuple[bytes, bytes, bytes], str] = {}  # (device, sender, id) -> what the recipient says itself
        for device in self.mails:
            own = self.identities[device.name]
            rows = device.peek(
                lambda c: c.execute(
                    "SELECT m.sender, m.id, d.state FROM message m JOIN delivery d USING(rid) WHERE m.sender <> x''"
                ).fetchall()
            )
            states |= {(own, sender, mid): state for sender, mid, state in rows}
        for device in self.mails:
            own = self.identities[device.name]
            told = device.peek(
                lambda c: c.execute(
                    "SELECT d.recipient, m.id, d.state FROM message m JOIN delivery d USING(rid) WHERE m.sender = x'' "
                    "AND d.state IN ('delivered', 'handled') AND d.recipient <> x''"
                ).fetchall()
            )
            for recipient, mid, state in told:
                there = states.get((recipient, own, mid))
                demand(there is not None, "I11", f"{device.name} is told {state} and it is not there", mid.hex())
                demand(
                    state == "delivered" or there == "handled",
                    "I11",
                    f"{device.name} is told {state}",
                    mid.hex(),
                    there,
                )

    def waiting(self) -> list[Any]:
        """Deliveries that are still open, messages that wait for their turn, receipts that are not told."""
        found: list[Any] = []
        for device in self.mails:
            for sql in (
                "SELECT rid, recipient, state, seq FROM delivery WHERE state IN ('queued', 'stored', 'handed') "
                "OR (state = 'expired' AND next_ms IS NOT NULL)",
                "SELECT sender, seq FROM held",
                "SELECT id, state FROM receipt",
            ):
                found += [(device.name, *row) for row in device.peek(lambda c, s=sql: c.execute(s).fetchall())]
        return found

    def judge(self) -> None:
        """I11: what was sent and is not over was shown once, in order, and every sender knows it."""
        ids = {device.space.identity.device: device.name for device in self.mails}
        truths: list[Truth] = []
        states: dict[tuple[str, str], str] = {}
        shown: dict[str, list[Shown]] = {}
        for device in self.mails:
            rows = device.peek(
                lambda c: c.execute(
                    "SELECT m.id, d.recipient, d.priority, d.stream, d.seq, m.expires_ms, d.state FROM message m "
                    "JOIN delivery d USING(rid) WHERE m.sender = x'' AND d.recipient <> x''"
                ).fetchall()
            )
            for mid, recipient, priority, stream, seq, expires, state in rows:
                key = f"{device.name}/{mid.hex()}"
                truths.append(Truth(key, ids[recipient], (device.name, stream, priority), seq, expires))
                states[key, ids[recipient]] = state
                self.counts[f"ends {state}"] += 1
            arrived = device.peek(
                lambda c: c.execute("SELECT sender, id, gap FROM message WHERE sender <> x'' ORDER BY rid").fetchall()
            )
            shown[device.name] = [Shown(f"{ids[sender]}/{mid.hex()}", bool(gap)) for sender, mid, gap in arrived]
            self.counts["shown"] += len(arrived)
            self.counts["shown after a gap"] += sum(gap for *_, gap in arrived)
            kept = {row[0].hex() for row in device.peek(lambda c: c.execute("SELECT id FROM message").fetchall())}
            for name, id in self.accepted:
                demand(
                    name != device.name or id.replace("-", "") in kept, "I2", "an answered message is gone", name, id
                )
        judge(truths, shown, states, max(self.latest_ms, *(d.clock.now_ms() for d in self.devices)))
        for relay in self.relays:
            relay.kill()
            for path in sorted(self.folder.glob(f"{relay.name}.*")):
                demand(PLANTED not in path.read_bytes(), "I13", path.name)
                demand(b"planted-type" not in path.read_bytes(), "I13", path.name)


def play(
    seed: int,
    *,
    steps: int = 60,
    mail: type[MailService] = MailService,
    quiet_s: float = QUIET_S,
    hostile: bool = False,
) -> Counter[str]:
    """One life from its seed. Raises what is wrong, with the seed as a note."""
    with scratch() as folder:
        world = MailWorld(seed, folder, mail=mail, quiet_s=quiet_s, hostile=hostile)
        try:
            world.run(steps)
        except BaseException as error:
            error.add_note(f"seed {seed}, after {world.loop.trace.count} events; the last:")
            error.add_note("\n".join(list(world.loop.trace.tail)[-40:]))
            raise
        finally:
            world.close()
        return world.counts


__all__ = ["MailWorld", "play"]
