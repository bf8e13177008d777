"""The whole system in one thread and in virtual time: devices, relays, the network between them, and what goes wrong.

Everything is the product but channel, clock, entropy, worker thread and the moment of a commit, which are arguments of
it (sim_device.py, sim_relay.py, sim_disk.py, sim_net.py). One seed is one life: devices are paired, people write,
faults strike, then they stop, all must come into step, and the ledger of the truth is held against every device.

    I15 liveness     bounded time to come into step after the faults, and silence after that
    I13 secrecy      no planted word in any relay's file
    memory           what waits on a connection is bounded by its credit
    the others       see sim_checks.py
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hybridgw_daemon.core.keys import RootKeys
from hybridgw_daemon.core.operations import Create, Edit, Request
from hybridgw_daemon.core.rest import Purpose
from hybridgw_daemon.core.uuid7 import new_uuid7
from hybridgw_daemon.services.membership import ROOT_SEED
from hybridgw_daemon.services.replica import Keys, Replica
from hybridgw_daemon.services.space import Space
from hybridgw_daemon.services.sync import SyncService
from hybridgw_daemon.stores import control, oplog
from hybridgw_daemon.transports.peers.driver import Conversation
from hybridgw_protocol.batch import parse_batch
from hybridgw_protocol.errors import DiskFull, HybridGWError, StorageUnavailable
from hybridgw_protocol.frames import FrameType
from hybridgw_protocol.ids import LogId, SpaceId
from hybridgw_protocol.invite import Invite
from hybridgw_protocol.limits import BATCH_MIN_BYTES, SHORT_HASH_BYTES
from hybridgw_protocol.link import DEFAULT_FLOW, Flow
from hybridgw_protocol.membership import Close, ControlLog
from hybridgw_protocol.records import ROOT, LogClose, sign_record
from hybridgw_relay.services.batches import BatchService
from hybridgw_relay.services.conversation import Conversation as RelayConversation
from hybridgw_relay.stores.sqlite import SqliteRelayStore
from tests.simulation import sim_verdict
from tests.simulation.sim_checks import Ledger, Violation, demand
from tests.simulation.sim_device import Device
from tests.simulation.sim_lan import SimPlace
from tests.simulation.sim_loop import SimulatedLoop
from tests.simulation.sim_net import End, Network
from tests.simulation.sim_relay import LIES, Relay
from tests.simulation.sim_replicas import DAY_MS, START_MS, TEXT, random_request, scratch
from tests.simulation.sim_verdict import FRAME_MOST_BYTES

HOUR_MS = 3_600_000
STEP_S = 480.0  # of virtual time to come into step after the faults: timeouts and pauses of a minute follow each other
QUIET_S = 70.0
WORDS_S = 160.0  # out of step so long, a person takes the recovery words


@dataclass(frozen=True)
class Parts:
    """The product's classes; a seeded fault replaces one."""

    replica: type[Replica] = Replica
    sync: type[SyncService] = SyncService
    driver: type[Conversation] = Conversation
    relay: type[RelayConversation] = RelayConversation
    batches: type[BatchService] = BatchService
    store: type[SqliteRelayStore] = SqliteRelayStore
    space: type[Space] = Space


class Unhealable(Exception):
    """What happened takes away what only existed once."""


class World:
    """One life of the whole system. `run` plays and checks it."""

    def __init__(
        self, seed: int, folder: Path, *, parts: Parts | None = None, devices: int | None = None,
        relays: int | None = None, flow: Flow | None = None, lan: bool | None = None,
    ) -> None:  # fmt: skip
        """Args: devices, relays, flow, lan: as the seed says if not given."""
        self.seed, self.folder, self.parts = seed, folder, parts or Parts()
        self.rng = rng = random.Random(f"world {seed}")
        self.loop = SimulatedLoop(seed)
        self.net = Network(self.loop, random.Random(f"net {seed}"))
        self.ledger = Ledger()
        self.counts: Counter[str] = self.ledger.sometimes
        self.failure: BaseException | None = None
        tiny = Flow(rng.choice((1_000, 4_000, 20_000)), rng.choice((600, 3_000)), rng.choice((1, 3, 50)))
        self.flow = flow or (tiny if rng.random() < 0.4 else DEFAULT_FLOW)
        self.copying = rng.random() < 0.4  # may databases of devices be put back or cloned in this life
        self.lan = rng.random() < 0.5 if lan is None else lan  # do devices reach each other directly in this life
        self.places: dict[str, SimPlace] = {}
        self.removing = not self.copying and random.Random(f"removing {seed}").random() < 0.5  # may devices be put out
        self.went_back = False
        self.hidden: set[LogId] = set()  # logs of which a relay has hidden something from somebody
        self._first_log: ControlLog | None = None
        self.tokens = 0
        self.traffic = 0  # frames of batches
        self.batch_bytes = 0  # of those
        self.net.on_send = self.saw_sent
        self.ids = ["a", "b", new_uuid7(START_MS - 3 * DAY_MS, bytes(10)), new_uuid7(START_MS, bytes(10))]
        self.relays = [Relay(self, f"relay{k}") for k in range(relays or rng.choice((1, 1, 2)))]
        self.devices = [Device(self, f"device{k}", k) for k in range(devices or rng.choice((2, 2, 3, 3, 4, 5)))]
        self.doomed: list[Any] = []  # [callbacks left, machine]

    # ---- what happened --------------------------------------------------------------------------------------------
    def log(self, who: str, what: str) -> None:
        """A line in the trace."""
        self.loop.log(who, what)

    def sometimes(self, what: str) -> None:
        """Count something rare."""
        self.counts[what] += 1
        self.loop.log("world", what)

    async def guard(self, machine: Any, work: Callable[[], Awaitable[Any]]) -> None:
        """Run a task of a process. What it raises ends the process; only a disk may do that."""
        try:
            await work()
        except BaseException as error:
            if not machine.process.alive:
                return
            if isinstance(error, GeneratorExit):
                raise
            if self.is_of_disk(error):
                self.sometimes("process ended by its disk")
                self.loop.call_soon(machine.kill, context=self.net.context)
                return
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self.failure = self.failure or error
            self.log(machine.name, f"failed: {type(error).__name__}: {error}")

    def is_of_disk(self, error: BaseException) -> bool:
        """Is a refusing disk all that is wrong."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.is_of_disk, error.exceptions))
        return isinstance(error, DiskFull | StorageUnavailable)

    def run_for(self, seconds: float) -> None:
        """Let time pass. Raises: what a process could not live with."""
        self.loop.run_for(seconds)
        if self.failure is not None:
            raise self.failure
        demand(not self.loop.errors, "errors", self.loop.errors[:3])

    # ---- who there is ---------------------------------------------------------------------------------------------
    @property
    def first(self) -> Device:
        """The device whose space it is."""
        return self.devices[0]

    def is_member(self, device: Device) -> bool:
        """Does it belong to the space."""
        found = device.space_id()
        return bool(found) and found == self.first.space_id()

    def members(self) -> list[Device]:
        """Devices of the space that are not put out."""
        return [d for d in self.honest() if self.is_member(d)]

    def honest(self) -> list[Device]:
        """Devices that are not put out."""
        return [d for d in self.devices if d.is_honest and not self.is_out(d)]

    def is_out(self, device: Device) -> bool:
        """Is it removed, as the first device knows; it never is itself. Who was let in by one that is out, and is not
        known, never will be."""
        if not self.removing or device is self.first or not self.is_member(device):
            return False
        log, own = self.first_log(), device.device_id()
        if log.device(own) is not None:
            return not log.is_active(own)
        its = self.control_log(device)
        info = its.device(own) if its else None
        adder = its.seat(info.added_by) if its and info else None
        return adder is not None and log.device(adder.device) is not None and not log.is_active(adder.device)

    def first_log(self) -> ControlLog:
        """What the first device's control records say; read anew when there are more."""
        records = self.first.records()
        if self._first_log is None or len(self._first_log) != len(records):
            found = self.control_log(self.first)
            assert found is not None
            self._first_log = found
        return self._first_log

    def control_log(self, device: Device) -> ControlLog | None:
        """What its control records say."""
        space = device.space_id()
        if not space:
            return None
        log = ControlLog(SpaceId(space))
        log.update(device.records(), trusted=True)
        return log

    def closed_logs(self) -> set[LogId]:
        """Logs that some control record closes, wherever it is known."""
        return {log for ends in self.all_ends() for log in ends}

    def all_ends(self) -> list[Mapping[LogId, Close]]:
        """Where logs end, as each device's control records say."""
        if not self.ledger.copied and not self.ledger.put_out and not self.removing:
            return []
        owners = {known.batch.log: known.batch.device for known in self.ledger.batches.values()}
        return [log.ends(owners) for log in map(self.control_log, self.devices) if log is not None]

    def void(self) -> int:
        """Labels of batches that some close has made void."""
        mask = 0
        ends = [found for found in self.all_ends() if found]
        for known in self.ledger.batches.values() if ends else ():
            for found in ends:
                end = found.get(known.batch.log)
                if end is not None and known.batch.n > min(end.n, end.fork):
                    for number in known.labels:
                        mask |= 1 << number
        return mask

    # ---- beginning ------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """The relays serve, the first device makes its space and uses them, the others start."""
        for relay in self.relays:
            relay.start()
        for device in self.devices:
            device.locked_s = self.rng.choice((0.0, 0.0, 0.5, 40.0)) if device is not self.first else 0.0
            device.start()
            for _ in range(self.rng.choice((0, 0, 1, 2))):
                device.run(partial(device.write, [self.some_request(device)]))
        self.run_for(0.1)
        self.first.run(self.first.use_relays)
        for device, secret in zip(self.devices[1:], self.relays[0].other_secrets, strict=False):
            if self.rng.random() < 0.2 and not device.space.locked:
                device.run(partial(device.relays.keep, Invite(self.relays[0].url, secret)))
                self.sometimes("begins alone on a relay")
        self.run_for(3.0)
        sealed = self.first.peek(lambda c: control.secret(c, ROOT_SEED))
        self.words = self.first.rest.open(Purpose.ROOT_SEED, (ROOT_SEED,), sealed) if sealed else b""
        for device in self.devices[1:]:
            if self.rng.random() < 0.7:
                self.pair(device)
                self.run_for(self.rng.choice((0.5, 4.0)))

    def pair(self, device: Device, shower: Device | None = None) -> None:
        """A person shows a code on one device and types it on another; both may fail, then it is done again."""
        showers = [d for d in self.members() if d.is_up and not d.space.locked and d.sync.peers.conversations]
        shower = shower or (self.rng.choice(showers) if showers else None)
        if shower is None or not device.is_up or device.space.locked or self.is_member(device):
            return
        for one in (device, shower):  # whoever waited in vain gives up
            one.give_up()
        self.log("world", f"pair {device.name} at {shower.name}")

        async def show() -> None:
            offer = await shower.pairing.start()
            shower.waits_since = (self.loop.time(), offer.id)
            if device.is_up:
                device.run(partial(device.join, offer.code))
            for _ in range(100):
                shown = await shower.pairing.get(offer.id)
                if shown.state == "confirm":
                    with contextlib.suppress(HybridGWError):
                        await shower.pairing.confirm(offer.id, True)
                if shown.state in ("done", "failed"):
                    self.log("world", f"pairing {shown.state} {shown.error}")
                    return
                await asyncio.sleep(0.2)

        shower.run(show)

    # ---- one step -------------------------------------------------------------------------------------------------
    def step(self) -> None:
        """Some time, then something happens."""
        rng = self.rng
        self.run_for(rng.choice((0.0, 0.001, 0.01, 0.05, 0.3, 1.0, 5.0, 30.0)))
        for device in self.devices:
            if not device.is_up and rng.random() < 0.3:
                device.start()
        for relay in self.relays:
            if not relay.process.alive and rng.random() < 0.3:
                relay.start()
        device = rng.choice(self.devices)
        actions = self.actions()
        action = rng.choices([a for _, a in actions], [w for w, _ in actions])[0]
        self.log(device.name, action.__name__)
        action(device)
        self.look()

    def actions(self) -> list[tuple[float, Callable[[Device], None]]]:
        """What may happen, by weight."""
        found: list[tuple[float, Callable[[Device], None]]] = [
            (45, self.some_write), (8, self.burst), (6, self.join_some), (2, self.trigger),
            (5, self.cut), (3, self.block), (3, self.unblock), (2, self.slow),
            (4, self.crash), (4, self.crash_soon), (4, self.crash_at_commit), (2, self.lock),
            (3, self.set_clock), (2, self.drift), (2, self.fill_disk), (2, self.fail_disk), (2, self.rotate),
            (2, self.crash_relay), (2, self.copy_relay), (2, self.roll_back_relay), (3, self.lie),
        ]  # fmt: skip
        if self.removing:
            found += [(7, self.remove_some), (12, self.restore_some), (8, self.cross_removes), (5, self.expel_some)]
        if self.copying:
            found += [(8, self.copy), (6, self.put_back), (4, self.clone)]
        return found

    def look(self) -> None:
        """Count what is rare, check what must hold at every moment."""
        for device in self.devices:
            if not device.is_up:
                continue
            for row in device.logs().values():
                if row.waiting:
                    self.counts[f"waits for {row.waiting}"] += 1
            for conversation in device.sync.peers.conversations.values():
                link = conversation._line.link  # type: ignore[attr-defined]
                self.counts["credit stalled"] += link.credit <= 0
                waiting = sum(size for *_, size in conversation._arrived._queue)  # type: ignore[attr-defined]
                demand(waiting <= self.flow.credit_bytes + FRAME_MOST_BYTES, "memory", "batches not opened", waiting)
        for relay in self.relays:
            for conversation in relay.conversations:
                self.counts["credit stalled"] += conversation._link.credit <= 0

    # ---- writing --------------------------------------------------------------------------------------------------
    def some_request(self, device: Device) -> Request:
        """Something a person does to a document."""
        rng = self.rng
        collection = rng.choice(("tasks", "tasks", "settings", "log"))
        document = rng.choice(self.ids)
        try:
            row = device.row(collection, document)
        except HybridGWError:
            row = None
        self.tokens += 1
        return random_request(rng, collection, document, row, self.tokens)

    def some_write(self, device: Device) -> None:
        """One transaction."""
        if device.is_up:
            requests = [self.some_request(device) for _ in range(self.rng.choice((1, 1, 1, 2, 3)))]
            device.run(partial(device.write, requests))

    def burst(self, device: Device) -> None:
        """Several, some of them large."""
        if not device.is_up:
            return
        for _ in range(self.rng.randint(2, 8)):
            request = self.some_request(device)
            if self.rng.random() < 0.2 and isinstance(request, Edit | Create) and request.puts:
                request = type(request)(request.collection, request.id, {"x": TEXT * 2000 + str(self.tokens)})
            device.run(partial(device.write, [request]))

    def join_some(self, _device: Device) -> None:
        """Somebody who is not paired yet."""
        found = [d for d in self.honest() if not self.is_member(d)]
        if found:
            self.pair(self.rng.choice(found))

    def trigger(self, device: Device) -> None:
        """`sync --full`."""
        if device.is_up and not device.space.locked:
            device.run(partial(device.sync.trigger, full=True, wait=False))

    def rotate(self, device: Device) -> None:
        """A new space key."""
        if device.is_up and not device.space.locked and self.is_member(device):
            device.run(device.rotate)

    # ---- who belongs ----------------------------------------------------------------------------------------------
    def remove_some(self, device: Device) -> None:
        """A person puts a device out, perhaps one that cannot be reached, perhaps on one that cannot be."""
        targets = [d for d in self.members() if d is not device and d is not self.first]
        if self.may_act(device) and targets:
            if self.net.is_divided:
                self.sometimes("removed during a partition")
            device.run(partial(device.remove, self.rng.choice(targets)))

    def restore_some(self, device: Device) -> None:
        """And lets one in again: who put it out can."""
        if self.may_act(device):
            log, seat = self.first_log(), device.space.identity.seat
            targets = [d for d in self.devices if d.device_id() and log.standing_removes(d.device_id(), seat)]
            if targets:
                device.run(partial(device.restore, self.rng.choice(targets)))

    def expel_some(self, device: Device) -> None:
        """One is stolen, and a person takes the words: on any device that is left, also one that was put out."""
        targets = [d for d in self.devices if d not in (device, self.first) and d.device_id() and self.is_member(d)]
        if device.is_up and not device.space.locked and self.is_member(device) and targets and self.words:
            since_ms = self.rng.choice((None, device.clock.now_ms(), device.clock.now_ms() - 60_000))
            device.run(partial(device.expel, self.rng.choice(targets), since_ms))

    def cross_removes(self, device: Device) -> None:
        """Two devices put each other out, or a third one each, and neither has heard of the other's remove."""
        others = [d for d in self.members() if d is not device and d is not self.first and self.may_act(d)]
        if device is self.first or not self.may_act(device) or not others or not self.is_member(device):
            return
        other = self.rng.choice(others)
        known = [d for d in self.members() if d is not self.first]
        for one, another in ((device, other), (other, device)):
            for relay in self.relays:
                self.net.block(one.name, relay.name)
                self.net.block(relay.name, one.name)
            third = self.rng.choice([another, *(d for d in known if d not in (one, another))])
            one.run(partial(one.remove, self.rng.choice((another, third))))
        self.sometimes("removes that had not seen each other")

    def may_act(self, device: Device) -> bool:
        """Can a person change something on it now."""
        return device.is_up and not device.space.locked and self.is_member(device) and device.space.is_active

    # ---- the network goes wrong -----------------------------------------------------------------------------------
    def cut(self, _device: Device) -> None:
        """A connection breaks; perhaps only one end learns of it, or none."""
        if self.net.connections:
            rng = self.rng
            tell = rng.choice(((True, True), (True, True), (True, False), (False, True), (False, False)))
            self.net.cut(rng.choice(self.net.connections), tell=tell)
            self.sometimes("half-open connection" if not all(tell) else "connection cut")

    def block(self, device: Device) -> None:
        """A partition, perhaps in one direction only."""
        others: list[Device | Relay] = [*self.relays, *(d for d in self.devices if self.lan and d is not device)]
        other, kind = self.rng.choice(others), self.rng.randrange(3)
        if kind != 1:
            self.net.block(device.name, other.name)
        if kind != 2:
            self.net.block(other.name, device.name)
        self.sometimes("one-way partition" if kind else "partition")
        if isinstance(other, Device):
            self.sometimes("devices parted")

    def unblock(self, _device: Device) -> None:
        """It is over."""
        self.net.heal()

    def slow(self, _device: Device) -> None:
        """A long way, or a narrow line."""
        rng = self.rng
        self.net.latency_s, self.net.bytes_per_s = rng.choice((0.01, 0.3, 2.0)), rng.choice((10e6, 2e4, 3e3))
        for connection in self.net.connections:
            if rng.random() < 0.5:
                connection.latency_s, connection.bytes_per_s = self.net.latency_s, self.net.bytes_per_s
        self.sometimes("slow network")

    # ---- processes end --------------------------------------------------------------------------------------------
    def crash(self, device: Device) -> None:
        """kill -9."""
        if device.is_up:
            device.kill()
            self.sometimes("device killed")

    def crash_soon(self, device: Device) -> None:
        """The same after so many callbacks, wherever that is."""
        machine = self.rng.choice((device, device, self.rng.choice(self.relays)))
        self.doomed.append([self.rng.choice((1, 3, 10, 40, 100)), machine])

    def strike(self) -> None:
        """Called before every callback."""
        for doom in tuple(self.doomed):
            doom[0] -= 1
            if doom[0] <= 0:
                self.doomed.remove(doom)
                if doom[1].process.alive:
                    self.sometimes("killed between two callbacks")
                    doom[1].kill()

    def crash_at_commit(self, device: Device) -> None:
        """Before its next commit, or after it and before anybody is told."""
        machine = self.rng.choice((device, device, self.rng.choice(self.relays)))
        if machine.process.alive:
            machine.disk.crash_at = self.rng.choice(("before", "after"))

    def lock(self, device: Device) -> None:
        """The daemon starts anew and the keyring is not open yet."""
        device.kill()
        device.locked_s = self.rng.choice((1.0, 30.0, 300.0))
        device.start()

    def crash_relay(self, _device: Device) -> None:
        """kill -9."""
        self.rng.choice(self.relays).kill()
        self.sometimes("relay killed")

    # ---- clocks and disks -----------------------------------------------------------------------------------------
    def set_clock(self, device: Device) -> None:
        """Somebody sets it."""
        clock = self.rng.choice((device, device, device, self.rng.choice(self.relays))).clock
        offset = self.rng.choice((0, 0, -60_000, 60_000, 3 * HOUR_MS, -3 * HOUR_MS, 365 * DAY_MS, -365 * DAY_MS))
        clock.jump(offset)
        self.sometimes("clock jumped")

    def drift(self, device: Device) -> None:
        """It runs too fast or too slow."""
        device.clock.run_at(self.rng.choice((0.0, 1e-4, -1e-4, 0.5, -0.5)))
        self.sometimes("clock drifts")

    def fill_disk(self, device: Device) -> None:
        """No page is left, or there is room again."""
        machine = self.rng.choice((device, device, self.rng.choice(self.relays)))
        if machine.process.alive:
            machine.disk.fill(not machine.disk.is_full)

    def fail_disk(self, device: Device) -> None:
        """It fails in the middle of the next commit."""
        machine = self.rng.choice((device, device, self.rng.choice(self.relays)))
        if machine.process.alive:
            machine.disk.fails_once = True

    # ---- relays ---------------------------------------------------------------------------------------------------
    def copy_relay(self, _device: Device) -> None:
        """Its operator makes a backup."""
        self.rng.choice(self.relays).copy()

    def roll_back_relay(self, _device: Device) -> None:
        """And puts it back."""
        relay = self.rng.choice(self.relays)
        if relay.copies:
            relay.roll_back()
            self.excuse_what_is_gone()

    def lie(self, _device: Device) -> None:
        """It begins to lie, or is honest again."""
        relay = self.rng.choice(self.relays)
        if relay.lies:
            relay.be_honest()
        else:
            relay.lies = set(self.rng.sample(LIES, self.rng.choice((1, 2, len(LIES)))))

    # ---- copies of devices ----------------------------------------------------------------------------------------
    def copy(self, device: Device) -> None:
        """A backup of the database."""
        if device.is_up and self.is_member(device):
            device.copy()

    def put_back(self, device: Device) -> None:
        """An old copy replaces the database. Either that is noticed (a new log), or the whole machine went back."""
        if not device.copies or not device.is_honest or device.owner in self.ledger.copied:
            return  # once per owner: of two copies that both go back, one branch can be nobody's
        device.kill()
        device.put_back(self.rng.choice(device.copies))
        self.went_back = True
        self.excuse_what_is_gone()
        self.sometimes("database put back")
        if self.rng.random() < 0.4:
            device.is_copy = True
            self.sometimes("put back and noticed")
        else:
            self.ledger.copied.add(device.owner)

    def clone(self, device: Device) -> None:
        """A copy that runs beside the original."""
        if not device.copies or len(self.devices) > 6 or device.owner in self.ledger.copied or not device.is_honest:
            return
        twin = Device(self, f"{device.name}c{len(self.devices)}", device.owner)
        twin.put_back(self.rng.choice(device.copies))
        self.devices.append(twin)
        for other in self.devices:
            if other.is_up and other is not twin:
                self.loop.call_soon(other.nearby.changed, context=self.loop.context_of(other.process))
        self.went_back = True
        self.ledger.copied.add(device.owner)
        self.sometimes("cloned")

    def excuse_what_is_gone(self) -> None:
        """Only a disk that was put back, or a device that was put out, had it."""
        held = 0
        for device in self.honest():
            held |= device.held()
        for relay in self.relays:
            for blob in relay.blobs():
                for number in self.ledger.batches[parse_batch(blob).hash].labels:
                    held |= 1 << number
        self.ledger.excused |= self.ledger.wanted() & ~held

    def excuse_what_was_hidden(self, keys: Keys) -> None:
        """A device that was put back, and was shown a part of its own log by a relay that hid the rest, ends the log at
        that part. What turns up beyond is void until a person takes it: protocol/SPEC.md, "Logs", 9."""
        for known in self.ledger.batches.values():
            log = known.batch.log
            if log in self.hidden and log in keys.ends and known.batch.n > keys.ends[log].n:
                for number in known.labels:
                    self.ledger.excused |= 1 << number
                self.sometimes("hidden from a device that was put back")

    # ---- the whole life -------------------------------------------------------------------------------------------
    def run(self, steps: int) -> None:
        """Play, heal, check. Raises: Violation and whatever the product raises that it should not."""
        self.begin()
        self.loop.before_step = self.strike
        for k in range(steps):
            self.step()
            if k % 8 == 0:
                self.check_one(self.rng.choice(self.devices))
        try:
            self.heal()
        except Unhealable:
            self.sometimes("a batch that others had seen is nowhere any more")
            return
        self.check()

    def heal(self) -> None:
        """Faults stop; everybody comes into step in bounded time, and then there is silence."""
        self.log("world", "heal")
        self.doomed.clear()
        for device in self.devices:  # clocks are set below: a time that was told before must not arrive after
            for conversation in device.greeting() if device.is_up else ():
                self.net.cut(conversation._line.channel.connection)  # type: ignore[attr-defined]
        for connection in [c for c in self.net.connections if ">device" in c.ends[0].name]:
            self.net.cut(connection)
        self.net.heal()
        self.net.latency_s, self.net.bytes_per_s = 0.01, 10e6
        for connection in self.net.connections:
            connection.latency_s, connection.bytes_per_s = 0.01, 10e6
        for relay in self.relays:
            relay.be_honest()
            relay.clock.run_at(0.0)
            relay.clock.jump(800 * DAY_MS)
            if relay.process.alive:
                relay.disk.crash_at, relay.disk.fails_once = None, False
                relay.disk.fill(False)
        for device in self.devices:
            device.clock.run_at(0.0)
            device.clock.jump(800 * DAY_MS)
            device.locked_s = 0.0
            if device.is_up:
                device.disk.crash_at, device.disk.fails_once = None, False
                device.disk.fill(False)
        waited = 0.0
        self.run_for(2.0)  # what was asked for is under way
        while not self.is_in_step():
            if waited >= STEP_S:
                if self.is_lost_by_all():
                    raise Unhealable
                raise Violation("I15", "not in step", self.lag())
            for machine in (*self.devices, *self.relays):
                if not machine.process.alive:
                    machine.start()
            self.run_for(2.0)
            waited += 2.0
            if waited % 10 == 0:
                self.first.run(self.first.use_relays)
                self.join_some(self.first)
            if waited % WORDS_S == 0:
                self.decide_forks()
        self.counts["in step after s"] = max(self.counts["in step after s"], int(waited))
        self.run_for(QUIET_S)  # connections that are silent only now are found to be dead
        before = self.traffic
        self.run_for(QUIET_S)
        demand(self.traffic == before, "I15", "batches travel though all are in step", self.traffic - before)

    def is_lost_by_all(self) -> bool:
        """Does a batch wait for one that nobody holds any more: its author was put back, and every relay and device
        that had it. No protocol brings it back; what waits is kept."""
        members = [d for d in self.members() if d.is_up and not d.space.locked]
        blobs = [blob for m in (*members, *self.relays) for blob in m.blobs()]
        blobs += [b for d in members for log in d.logs() for b in d.peek(partial(oplog.evidence, log=log))]
        held = {parse_batch(blob).hash[:SHORT_HASH_BYTES] for blob in blobs}
        for device in members:
            for blob in device.blobs():
                batch = parse_batch(blob)
                if device.logs()[batch.log].applied.n < batch.n and batch.hash in self.ledger.batches:
                    deps = self.ledger.batches[batch.hash].deps.values()
                    if any(head.n and head.hash[:SHORT_HASH_BYTES] not in held for head in deps):
                        return True
        return False

    def decide_forks(self) -> None:
        """What only a person can do: a device sees that another one's log was forked, and its owner, put back to before
        that branch, never can, for no relay has it. The recovery words close the log on the branch that others hold."""
        for device in self.members():
            if not device.is_up or device.space.locked:
                continue
            for log, row in device.logs().items():
                evidence = device.peek(partial(oplog.evidence, log=log))
                if not evidence or row.device == device.space.identity.device or log in device.replica.keys.ends:
                    continue
                self.sometimes("a fork that only a person could end")
                root = RootKeys.from_seed(self.words)
                close = LogClose(
                    space=root.space, prevs=tuple(device.space.signing_heads()), by=ROOT, ts=device.clock.now_ms(),
                    device=row.device, log=log, n=row.stored.n, hash=row.stored.hash,
                    fork=parse_batch(evidence[0]).n - 1,
                )  # fmt: skip
                record = sign_record(close, root.sign_secret)
                device.run(partial(device.sync.add_records, [record]))
                return  # the others follow it first

    def saw_sent(self, _end: End, data: bytes) -> None:
        """Called for everything that is sent."""
        if data[1] in (FrameType.PUSH, FrameType.BATCHES) and len(data) > BATCH_MIN_BYTES:
            self.traffic += 1
            self.batch_bytes += len(data)

    def is_in_step(self) -> bool:
        """Do all members and relays hold and show the same."""
        members = self.members()
        if len(members) < len(self.honest()) or not all(d.is_up and not d.space.locked for d in members):
            return False
        if any(not relay.process.alive for relay in self.relays):
            return False
        if any(d.disk.peek(oplog.pending) for d in members):
            return False
        rows = [d.logs() for d in members]
        if any(r.applied != r.stored for found in rows for r in found.values()):
            return False
        heads = [{log: r.stored for log, r in found.items() if r.stored.n} for found in rows]
        records = self.first.space.heads()
        if any(h != heads[0] for h in heads) or any(d.space.heads() != records for d in members):
            return False
        ends = self.first.replica.keys.ends
        for relay in self.relays:
            held = {log: head for log, head in relay.heads().items() if log not in ends}
            if held != {log: head for log, head in heads[0].items() if log not in ends}:
                return False
            if relay.control_heads() != records:
                return False
        return True

    def lag(self) -> list[Any]:
        """Who is how far."""
        found: list[Any] = [
            (
                d.name, d.is_up, self.is_member(d), d.is_up and d.space.locked,
                [(log, r.stored.n, r.applied.n, r.waiting) for log, r in sorted(d.logs().items())],
                {k: e.message for k, e in d.sync.peers.errors.items()},
                [h.hex()[:6] for h in (d.space.heads() if d.is_up and not d.space.locked else [])],
            )
            for d in self.devices
        ]  # fmt: skip
        for r in self.relays:
            if r.process.alive:
                found.append(
                    (r.name, {k: h.n for k, h in sorted(r.heads().items())}, [h.hex()[:6] for h in r.control_heads()])
                )
        return found

    # ---- the verdict ----------------------------------------------------------------------------------------------
    def check_one(self, device: Device) -> None:
        """What must hold of one device at any moment."""
        sim_verdict.check_one(self, device)

    def check(self) -> None:
        """Everything, on all members and relays."""
        sim_verdict.check(self)

    @property
    def now_ms(self) -> int:
        """When all is over."""
        return self.first.clock.now_ms()

    def close(self) -> None:
        """Throw it away."""
        for machine in (*self.devices, *self.relays):
            machine.kill()
        self.loop.close()


def play(seed: int, *, steps: int = 60, parts: Parts | None = None) -> Ledger:
    """One life from its seed. Raises what is wrong, with the seed and the last events as notes."""
    with scratch() as folder:
        world = World(seed, folder, parts=parts)
        try:
            world.run(steps)
        except BaseException as error:
            error.add_note(f"seed {seed}, after {world.loop.trace.count} events; the last:")
            error.add_note("\n".join(list(world.loop.trace.tail)[-40:]))
            raise
        finally:
            world.close()
        world.ledger.trace_digest = world.loop.trace.digest()
        return world.ledger
