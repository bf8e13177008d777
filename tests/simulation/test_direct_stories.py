"""Direct links in the simulated world, told step by step: no relay, a fork, a removal while parted, long absence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybridgw_daemon.stores import oplog
from hybridgw_daemon.transports.peers.lan import MISSED_PAUSE_S
from hybridgw_protocol.link import DEFAULT_FLOW
from hybridgw_protocol.records import Remove, sign_record
from tests.simulation.sim_device import Device
from tests.simulation.sim_net import CONNECT_TIMEOUT_S
from tests.simulation.sim_replicas import DAY_MS, scratch
from tests.simulation.test_world_regressions import Story


@pytest.fixture
def world() -> Iterator[Story]:
    """Three devices, one relay, direct links; nothing runs."""
    with scratch() as folder:
        made = Story(1, folder, devices=3, relays=1, flow=DEFAULT_FLOW, lan=True)
        yield made
        made.close()


def begin(world: Story) -> None:
    """All paired and connected with each other, the relay ended for good."""
    world.begin(is_paired=False)
    for device in world.devices[1:]:
        world.pair(device, world.first)
        world.run_for(5.0)
    assert all(world.is_member(device) for device in world.devices)
    world.relays[0].kill()
    world.run_for(40.0)
    assert {d.sync.peers.path() for d in world.devices} == {"lan"}


def are_in_step(*devices: Device) -> bool:
    """Do they hold and show the same."""
    logs = [{k: (r.stored, r.applied) for k, r in d.logs().items() if r.stored.n} for d in devices]
    is_open = any(r.stored != r.applied for d in devices for r in d.logs().values())
    heads = [d.space.heads() for d in devices]
    return not is_open and all(found == logs[0] for found in logs) and all(found == heads[0] for found in heads)


def held(device: Device) -> int:
    """Bytes of its batches."""
    return sum(map(len, device.blobs()))


def part(world: Story, one: Device, other: Device, *, is_open: bool) -> None:
    """Open or block the way between two devices."""
    world.way(one, other, is_open)  # type: ignore[arg-type]


def test_three_devices_without_a_relay(world: Story) -> None:
    begin(world)
    for k, device in enumerate(world.devices):
        world.write(device, f"of {device.name}", f"doc{k}")
    world.run_for(2.0)
    assert are_in_step(*world.devices)
    before = world.traffic
    world.run_for(120.0)
    assert world.traffic == before  # silence


def test_a_chain_hands_on(world: Story) -> None:
    begin(world)
    a, b, c = world.devices
    part(world, a, c, is_open=False)
    world.run_for(40.0)
    world.write(a, "from one end")
    world.run_for(3.0)
    assert are_in_step(a, b, c)


def test_a_fork_is_proved_and_repaired_between_devices(world: Story) -> None:
    """A device goes back to an older copy and writes on; the others prove it to it."""
    begin(world)
    a, b, c = world.devices
    a.copy()
    world.write(a, "seen by the others")
    world.run_for(2.0)
    assert are_in_step(a, b, c)
    part(world, a, b, is_open=False)
    part(world, a, c, is_open=False)
    world.go_back(a)
    world.run_for(1.0)
    world.write(a, "another history")
    part(world, a, b, is_open=True)
    part(world, a, c, is_open=True)
    world.net.heal()
    world.run_for(120.0)
    assert are_in_step(a, b, c)
    assert world.counts["own log repaired"]
    assert b.row("tasks", "doc") is not None


def test_a_fork_waits_for_who_has_more_of_the_other_branch(world: Story) -> None:
    """A device goes back to an older copy and writes on. Who proves the fork first has the beginning of what it wrote
    before, another device all of it: what is shown only after the log was closed would count no more."""
    world.begin(is_paired=False)
    a, b, c = world.devices
    for device in (b, c):
        world.pair(device, world.first)
        world.run_for(5.0)
    a.copy()
    world.write(a, "all have it", "first")
    world.run_for(2.0)
    part(world, a, b, is_open=False)
    part(world, b, c, is_open=False)
    world.way(a, world.relays[0], False)
    world.way(c, world.relays[0], False)
    world.run_for(2.0)
    world.write(a, "one has it", "second")
    world.run_for(2.0)
    assert [d.row("tasks", "second") is not None for d in (b, c)] == [False, True]
    part(world, a, c, is_open=False)
    world.go_back(a)
    world.write(a, "another history", "third")
    part(world, a, b, is_open=True)
    world.way(a, world.relays[0], True)
    own = a.sync.space.own_log
    for _ in range(200):
        if a.peek(lambda c: oplog.evidence(c, own)):  # the proof
            break
        world.run_for(0.25)
    part(world, a, c, is_open=True)
    world.net.heal()
    world.run_for(130.0)
    assert world.counts["own log repaired"] == 1
    world.heal()
    world.check()
    assert all(b.row("tasks", name) is not None for name in ("first", "second", "third"))


def test_removed_while_parted(world: Story) -> None:
    """One removes the third while the second does not hear of it; when they meet, nobody speaks with it any more."""
    begin(world)
    a, b, c = world.devices
    part(world, a, b, is_open=False)
    world.run_for(40.0)

    async def remove() -> None:
        identity = a.space.identity
        record = Remove(
            space=identity.space, prevs=tuple(a.space.signing_heads()), by=identity.seat, ts=a.clock.now_ms(),
            target=c.space.identity.seat,
        )  # fmt: skip
        await a.sync.add_records([sign_record(record, identity.sign_secret)])

    a.run(remove)
    world.run_for(5.0)
    assert a.sync.peers.path(c.space.identity.device) == "none"
    assert b.sync.peers.path(c.space.identity.device) == "lan"  # it cannot know
    part(world, a, b, is_open=True)
    world.net.heal()
    world.run_for(60.0)
    assert b.sync.peers.path(c.space.identity.device) == "none"
    world.write(a, "under a new key", "secret")
    world.write(b, "also", "secret2")
    world.run_for(60.0)
    assert are_in_step(a, b)
    assert c.row("tasks", "secret") is None
    assert c.row("tasks", "secret2") is None
    assert len(c.records()) < len(a.records())


@pytest.mark.parametrize("rotations", [1, 15])
def test_months_in_a_drawer(world: Story, rotations: int) -> None:
    begin(world)
    a, b, c = world.devices
    c.kill()
    for _ in range(rotations):
        a.run(a.rotate)
        world.run_for(2.0)
    world.write(a, "under the newest key")
    c.start()
    world.run_for(90.0)
    assert are_in_step(a, b, c)


def test_rotations_at_once_while_parted(world: Story) -> None:
    begin(world)
    a, b, c = world.devices
    for one, other in ((a, b), (a, c), (b, c)):
        part(world, one, other, is_open=False)
    world.run_for(40.0)
    for device in world.devices:
        device.run(device.rotate)
        world.write(device, f"of {device.name}", f"doc-{device.name}")
    for one, other in ((a, b), (a, c), (b, c)):
        part(world, one, other, is_open=True)
    world.net.heal()
    world.run_for(120.0)
    assert are_in_step(a, b, c)


def test_eight_devices_do_not_all_send_everything() -> None:
    """Connected all with all: a batch goes to each device about once, whoever writes, also while they come back."""
    with scratch() as folder:
        world = Story(1, folder, devices=8, relays=1, flow=DEFAULT_FLOW, lan=True)
        try:
            begin(world)
            world.run_for(60.0)
            assert all(len(device.sync.peers.directs()) == 7 for device in world.devices)
            before, had = world.batch_bytes, held(world.first)
            written = world.first.logs()[world.first.space.own_log].stored.n
            for k in range(40):
                world.write(world.first, k, f"doc{k % 5}")
            world.run_for(5.0)
            written = world.first.logs()[world.first.space.own_log].stored.n - written
            assert are_in_step(*world.devices)
            assert written >= 40
            assert world.batch_bytes - before <= 7 * (held(world.first) - had) * 1.2
            away = world.devices[6:]
            for device in away:
                device.kill()
            world.run_for(40.0)
            for k in range(40):
                world.write(world.devices[k % 4], k, f"doc{k % 5}")
            before, had = world.batch_bytes, held(away[0])
            for device in away:
                device.start()
            world.run_for(20.0)
            assert are_in_step(*world.devices)
            assert world.batch_bytes - before <= 2 * (held(world.first) - had) * 1.5
        finally:
            world.close()


@pytest.mark.parametrize("parted_s", [4.0, 7.0, 45.0, 250.0])
def test_in_step_soon_after_a_way_is_open_again(world: Story, parted_s: float) -> None:
    """Something between the two falls silent, so that neither hears of it from its own network, and comes back."""
    begin(world)
    a, b, _ = world.devices
    world.devices[2].kill()
    for one, other in ((a, b), (b, a)):
        world.net.block(one.name, other.name)
    world.write(a, "of a", "doc-a")
    world.write(b, "of b", "doc-b")
    world.run_for(parted_s)
    assert a.sync.peers.path() == b.sync.peers.path() == ("none" if parted_s > 3.0 else "lan")
    world.net.heal()
    world.run_for(CONNECT_TIMEOUT_S + 2 * MISSED_PAUSE_S)  # here a call that nobody answered does not try again itself
    assert are_in_step(a, b)


def test_weeks_of_absence(world: Story) -> None:
    """A device that had written alone lies in a drawer while keys get old and the others write on."""
    begin(world)
    a, b, c = world.devices
    part(world, a, c, is_open=False)
    part(world, b, c, is_open=False)
    world.write(c, "before it went", "doc-c")
    world.run_for(2.0)
    c.kill()
    epochs = len(a.space.control.epochs)
    for week in range(20):
        for device in world.devices:
            device.clock.jump((week + 1) * 7 * DAY_MS)
        world.write((a, b)[week % 2], f"week {week}", f"doc{week % 3}")
        world.run_for(30.0)
    part(world, a, c, is_open=True)
    part(world, b, c, is_open=True)
    c.start()
    world.net.heal()
    world.run_for(90.0)
    assert len(a.space.control.epochs) > epochs
    assert are_in_step(a, b, c)
    assert a.row("tasks", "doc-c") == c.row("tasks", "doc-c") is not None
