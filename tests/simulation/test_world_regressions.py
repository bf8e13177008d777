"""Faults that lives of the whole system have found, each as the shortest history that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.stores import oplog
from hybridgw_protocol.invite import Invite
from hybridgw_protocol.link import DEFAULT_FLOW
from hybridgw_relay.services.admission import invite_hash
from hybridgw_relay.stores.admin import create_invite
from tests.simulation.sim_device import Device
from tests.simulation.sim_mutants import RARE
from tests.simulation.sim_relay import YEARS_MS, Relay
from tests.simulation.sim_replicas import START_MS, scratch
from tests.simulation.sim_world import HOUR_MS, Parts, World, play


class Story(World):
    """A world in which things happen as they are told."""

    def begin(self, *, is_paired: bool = True) -> None:
        for machine in (*self.relays, *self.devices):
            machine.start()
        self.run_for(1.0)
        self.first.run(self.first.use_relays)
        self.run_for(3.0)
        if is_paired:
            self.pair(self.devices[1])
            self.run_for(5.0)
            assert self.is_in_step()

    def write(self, device: Device, token: object, document: str = "doc") -> None:
        """One write, sealed; one second."""
        row = device.row("tasks", document)
        kind = Edit if row is not None and row[0] % 2 else Create
        device.run(lambda: device.write([kind("tasks", document, {"x": token})]))
        self.run_for(1.0)

    def way(self, device: Device, relay: Relay, is_open: bool) -> None:
        """Open or block the way between two, both directions."""
        for pair in ((device.name, relay.name), (relay.name, device.name)):
            if is_open:
                self.net._blocked.discard(pair)
            else:
                self.net.block(*pair)
        for connection in list(self.net.connections):
            if {end.process.name for end in connection.ends if end.process} == {device.name, relay.name}:
                self.net.cut(connection)

    def go_back(self, device: Device) -> None:
        """Its last copy replaces its database, and nobody notices."""
        device.kill()
        device.put_back(device.copies[-1])
        self.went_back = True
        self.ledger.copied.add(device.owner)
        self.excuse_what_is_gone()
        device.start()
        self.run_for(0.5)


def story(relays: int, parts: Parts | None = None) -> Iterator[Story]:
    with scratch() as folder:
        world = Story(1, folder, devices=2, relays=relays, flow=DEFAULT_FLOW, parts=parts, lan=False)
        yield world
        world.close()


@pytest.fixture
def world() -> Iterator[Story]:
    """Two devices, one relay; nothing runs."""
    yield from story(1)


@pytest.fixture
def wide_world() -> Iterator[Story]:
    """Two devices, two relays."""
    yield from story(2)


def test_a_push_that_a_full_relay_refused_is_made_again(world: Story) -> None:
    world.begin()
    world.relays[0].disk.refuses = True
    world.write(world.first, 1)
    world.relays[0].disk.refuses = False
    world.run_for(60.0)
    assert world.is_in_step()
    assert world.counts["disk error refused a write"]


def test_control_records_that_a_full_disk_refused_are_followed_once_there_is_room(world: Story) -> None:
    world.begin()
    a, b = world.devices
    b.disk.refuses = True
    a.run(a.rotate)
    world.run_for(3.0)
    b.disk.refuses = False
    world.write(a, "under the new key")
    world.run_for(70.0)
    assert world.is_in_step()
    assert b.row("tasks", "doc") is not None
    assert len(b.records()) == len(a.records())


def test_nothing_is_sealed_under_a_key_whose_record_was_not_kept(world: Story) -> None:
    world.begin()
    a = world.first
    before = a.replica.sealer
    a.disk.refuses = True
    a.run(a.rotate)
    world.run_for(3.0)
    assert a.replica.sealer is before
    a.disk.refuses = False
    world.run_for(70.0)
    assert a.replica.sealer is not None
    assert before is not None
    assert a.replica.sealer.kid != before.kid


def test_a_device_that_dies_as_it_joins_knows_the_relays(world: Story) -> None:
    world.begin(is_paired=False)
    b = world.devices[1]
    world.pair(b)
    assert world.loop.run_until(lambda: world.is_member(b), most_s=10.0)
    b.kill()
    b.start()
    world.run_for(70.0)
    assert world.is_in_step()


def test_a_disk_that_fills_as_a_device_joins_does_not_leave_it_half_joined(world: Story) -> None:
    world.begin(is_paired=False)
    b = world.devices[1]
    world.pair(b)
    assert world.loop.run_until(lambda: world.is_member(b), most_s=10.0)
    b.disk.refuses = True
    world.run_for(3.0)
    b.disk.refuses = False
    world.run_for(130.0)
    assert world.is_in_step()


def test_a_device_that_used_the_relay_alone_joins_another_space_on_it(world: Story) -> None:
    """Its live conversation was let in as the device that it was before."""
    a, b = world.devices
    relay = world.relays[0]
    world.begin(is_paired=False)
    secret = bytes(range(32))
    relay.disk.write_now(
        lambda tx: create_invite(
            tx, "other", invite_hash(secret), now_ms=START_MS, expires_ms=START_MS + YEARS_MS, max_bytes=None,
            max_devices=None, default_bytes=2**30, default_devices=32,
        )
    )  # fmt: skip
    b.run(lambda: b.relays.keep(Invite(relay.url, secret)))
    world.run_for(3.0)
    world.write(b, "written before")
    world.pair(b, a)
    world.run_for(10.0)
    assert world.is_member(b)
    world.write(b, "written after")
    world.run_for(60.0)
    assert a.row("tasks", "doc") is not None
    assert a.row("tasks", "doc") == b.row("tasks", "doc")


@pytest.mark.parametrize("more", [1, 2, 5])
def test_a_branch_that_left_ours_further_down_is_found_and_ours_comes_back(world: Story, more: int) -> None:
    """The relay is ahead on the other branch, so its head says nothing; and the new log's rows are old ones again."""
    world.begin()
    a, relay = world.first, world.relays[0]
    world.write(a, 1)
    a.copy()
    for token in range(more + 1):
        world.write(a, f"lost by the backup {token}")
    world.way(a, relay, False)
    world.go_back(a)
    for token in range(more):
        world.write(a, f"after it {token}", "other")
    world.way(a, relay, True)
    world.run_for(130.0)
    assert world.counts["own log repaired"] == 1
    assert world.is_in_step()
    world.heal()
    world.check()


def test_of_a_closed_log_every_relay_gets_the_branch_that_counts(wide_world: Story) -> None:
    """Each relay saw another branch, and the wrong one is as long as the right one."""
    world = wide_world
    world.begin()
    (a, b), (left, right) = world.devices, world.relays
    world.write(a, 1)
    a.copy()
    for device in (a, b):
        world.way(device, right, False)
    for token in range(3):
        world.write(a, f"left {token}")
    world.way(a, left, False)
    world.go_back(a)
    world.way(a, right, True)
    for token in range(3):
        world.write(a, f"right {token}")
    world.run_for(70.0)
    own = a.sync.space.own_log
    assert [relay.heads()[own].n for relay in world.relays] == [4, 4]
    assert left.heads()[own] != right.heads()[own]
    world.net.heal()
    world.run_for(200.0)
    assert world.counts["own log repaired"] == 1
    world.heal()
    world.check()


def test_of_two_machines_on_one_log_neither_closes_it_on_its_own_branch(wide_world: Story) -> None:
    """Each was shown the other's branch by a relay that is gone before the log is closed: what it wrote itself it can
    seal again, what the other wrote it cannot."""
    world = wide_world
    world.begin()
    (a, b), (left, right) = world.devices, world.relays
    a.copy()
    world.clone(a)
    b.kill()  # it would carry the one's batches to the other
    twin = world.devices[-1]
    world.way(a, right, False)
    world.way(twin, left, False)
    twin.start()
    world.run_for(3.0)
    for k in range(2):
        world.write(a, "left", f"left {k}")
    world.write(twin, "right", "right")
    own = a.sync.space.own_log
    shown = {a: right, twin: left}
    for machine, relay in shown.items():
        world.way(machine, relay, True)
    for _ in range(1_000):
        for machine in list(shown):
            if machine.peek(lambda c: oplog.evidence(c, own)):  # the proof
                world.way(machine, shown.pop(machine), False)
        world.run_for(0.05)
    world.run_for(70.0)
    assert world.counts["own log repaired"] == 2
    b.start()
    world.net.heal()
    world.heal()
    world.check()


def test_a_correction_of_the_clock_ends_when_the_clock_is_set(wide_world: Story) -> None:
    world = wide_world
    a = world.first
    a.clock.jump(3 * HOUR_MS)
    world.begin()
    assert abs(a.sync.peers.correction_ms() + 3 * HOUR_MS) < 60_000
    a.clock.jump(0)
    assert a.sync.peers.correction_ms() == 0


def shorter_branch(world: Story) -> None:
    """The device that went back wrote as many as the relay has: only a look at the hashes tells."""
    world.begin()
    a, relay = world.first, world.relays[0]
    world.write(a, 1)
    a.copy()
    world.write(a, "lost by the backup")
    world.way(a, relay, False)
    world.go_back(a)
    world.write(a, "after it", "other")
    world.way(a, relay, True)
    world.run_for(130.0)
    assert world.counts["own log repaired"] == 1
    world.heal()
    world.check()


def test_a_branch_of_the_same_length_is_found(world: Story) -> None:
    shorter_branch(world)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("RefusalForgotten", test_a_push_that_a_full_relay_refused_is_made_again),
        (
            "StrayIgnored",
            lambda world: test_a_branch_that_left_ours_further_down_is_found_and_ours_comes_back(world, 1),
        ),
        ("ForkIgnored", shorter_branch),
    ],
)
def test_a_rare_seeded_bug_is_caught(name: str, told: Callable[[Story], None]) -> None:
    for world in story(1, RARE[name]):
        with pytest.raises(AssertionError):
            told(world)


def test_in_step_means_with_what_the_relay_has_now(world: Story) -> None:
    """Another device was told that its batch is stored; here it is still on the way, and nothing else says so."""
    world.begin()
    (a, b), (relay,) = world.devices, world.relays
    world.write(a, 1)
    world.run_for(5.0)
    world.net.block(relay.name, b.name)
    world.write(a, 2)
    answers: list[str] = []

    async def sync() -> None:
        answers.append((await b.sync.trigger(timeout_s=20.0)).status)

    b.run(sync)
    world.run_for(3.0)
    assert answers == []
    world.net.heal()
    world.run_for(3.0)
    assert answers == ["done"]
    assert b.row("tasks", "doc")[1] == b'{"x":2}'
    world.heal()
    world.check()


def test_a_sync_is_answered_though_the_connection_that_was_asked_ends(world: Story) -> None:
    """As `sync --full` ends it itself; or the relay starts again meanwhile."""
    world.begin()
    (a, b), (relay,) = world.devices, world.relays
    world.write(a, 1)
    answers: list[str] = []

    async def sync(full: bool) -> None:
        answers.append((await b.sync.trigger(full=full, timeout_s=60.0)).status)

    b.run(lambda: sync(True))
    world.run_for(10.0)
    assert answers == ["done"]
    world.net.block(relay.name, b.name)
    b.run(lambda: sync(False))
    world.run_for(1.0)
    relay.kill()
    world.net.heal()
    world.write(a, 2)
    relay.start()
    world.run_for(50.0)
    assert answers == ["done", "done"]
    assert b.row("tasks", "doc")[1] == b'{"x":2}'
    world.heal()
    world.check()


@pytest.mark.parametrize("seed", [337, 526, 556, 648, 1573, 1771])
def test_lives_that_once_stood_still(seed: int) -> None:
    """Forked logs: the tip of a branch that does not count was kept (337); a batch that everybody lost (526); a fork
    proved and not closed before the process died (556); one that only a third device can prove (648); batches taken
    out on a live connection, which the relay believed to be there (1573, 1771)."""
    play(seed)
