"""The verdict on a life of the whole system (sim_world.py): what must hold of its devices and relays at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hybridgw_daemon.core.keys import KeyRing
from hybridgw_daemon.services.replica import Incoming, Keys, Replica
from hybridgw_daemon.services.space import RestVault
from hybridgw_protocol.batch import parse_batch
from hybridgw_protocol.ids import DeviceId, KeyId
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.records import Epoch, Remove, Restore, Wrap
from hybridgw_storage.database import InlineDatabase
from tests.simulation import sim_checks
from tests.simulation.sim_checks import State, demand
from tests.simulation.sim_device import Device
from tests.simulation.sim_relay import Relay
from tests.simulation.sim_replicas import PADDED, open_database

if TYPE_CHECKING:
    from tests.simulation.sim_world import World

PLANTED = (b"planted", b"tasks", b"settings", b"lorem")
FRAME_MOST_BYTES = 1024 * 1024
CONTROL_MOST_BYTES = 512 * 1024  # frames that cost no credit


def check_one(world: World, device: Device) -> None:
    """What must hold of one device at any moment."""
    sim_checks.check_replica(world.ledger, device.state(), world.void())
    for relay in world.relays:
        if relay.process.alive:
            relay.check_promises(relay.disk._connection)


def check(world: World) -> None:
    """Everything, on all members and relays."""
    members = world.members()
    for relay in world.relays:
        relay.check_promises(relay.disk._connection)
    for connection in world.net.connections:
        for end in connection.ends:
            demand(
                end.most_unread <= world.flow.credit_bytes + FRAME_MOST_BYTES + CONTROL_MOST_BYTES, "memory",
                "unread on a connection", end.most_unread,
            )  # fmt: skip
    keys = {d.name: d.replica.keys for d in members}
    for machine in (*world.devices, *world.relays):
        machine.kill()
    world.ledger.put_out |= {d.owner for d in world.devices if world.is_out(d)}
    states = {d.name: d.state() for d in members}
    sim_checks.check_converged(states)
    check_removed_read_nothing(world, members[0])
    state = states[members[0].name]
    sim_checks.check_stamps(world.ledger)
    if world.went_back:
        world.excuse_what_was_hidden(keys[members[0].name])
    sim_checks.check_nothing_lost(world.ledger, state)
    exact = not (world.went_back or keys[members[0].name].ends)
    world.counts["conflict open at the end"] += sim_checks.check_against_oracle(world.ledger, state, exact=exact)
    blobs = [blob for d in members for blob in d.blobs()]
    sim_checks.check_sizes(blobs, PADDED)
    for device in members:
        sim_checks.check_replica(world.ledger, states[device.name], world.void())
        check_idempotent(world, device, keys[device.name], blobs)
    check_replayed(world, "replayed", members[0], keys[members[0].name], members[0].blobs(), states)
    for relay in world.relays:
        check_replayed(world, relay.name, members[0], keys[members[0].name], relay.blobs(), states)
        check_reads_nothing(world, relay)
    check_rebuilt(world, world.rng.choice(members), keys, states)


def check_removed_read_nothing(world: World, member: Device) -> None:
    """I13: who is out, with its keys and everything that ever was said, has no key of a batch for whose author, by
    what it knew when it sealed, that device was out. Unless it was in again later, and got the key as one of us."""
    log = world.control_log(member)
    assert log is not None
    rings: dict[DeviceId, KeyRing] = {}
    for device in world.devices:
        if world.is_out(device) and log.device(device.device_id()) is not None and not was_restored(log, device):
            ring = rings[device.device_id()] = KeyRing.of_device(device.keys())
            ring.follow(log)
    views = Views(log)
    for known in world.ledger.batches.values() if rings else ():
        view = views.of(known.control)
        for out, ring in rings.items():
            if view.device(out) is not None and not view.is_active(out):
                leaked = known.batch.kid in ring.keys and not views.gave(known.batch.kid, out)
                demand(not leaked, "I13", out.hex(), "reads", known.batch.log, known.batch.n)
                world.counts["sealed knowing of a removal"] += 1


def replica_of(world: World, device: Device, keys: Keys) -> Replica:
    """A plain replica that knows what the device knew."""
    replica = world.parts.replica(device.vault())
    replica.keys = keys
    return replica


def check_idempotent(world: World, device: Device, keys: Keys, blobs: list[bytes]) -> None:
    """I4: everything once more, in another order."""
    database, replica = open_database(device.path), replica_of(world, device, keys)
    items = [Incoming(parse_batch(blob)) for blob in blobs]
    database.write_now(lambda tx: replica.receive(tx, items, world.now_ms, None))  # evidence may be new
    before = database.peek(sim_checks.dump)
    world.rng.shuffle(items)
    database.write_now(lambda tx: replica.receive(tx, items, world.now_ms, None))
    database.peek(lambda c: sim_checks.check_unchanged(before, c))
    database._connection.close()


def check_replayed(
    world: World, name: str, device: Device, keys: Keys, blobs: list[bytes], states: dict[str, State]
) -> None:
    """I5, and I3 for a relay: a new device that gets only these batches shows the same."""

    def make(path: Path) -> tuple[InlineDatabase, RestVault]:
        return open_database(path), device.vault()

    space = world.first.space_id()
    batches = [batch for batch in map(parse_batch, blobs) if batch.space == space]
    ends = {b.hash: keys.end_of(b.log, b.device) for b in batches}
    blobs = [b.blob for b in batches if (end := ends[b.hash]) is None or b.n <= end.n]
    void = {log: end for log, end in keys.ends.items() if end.n == 0}
    fresh = Keys(keys.space_keys, void, keys.control, keys.end_of)
    state, database = sim_checks.replayed(
        blobs, fresh, world.now_ms, world.rng, world.folder / f"{name}.fresh", make, world.parts.replica
    )
    database._connection.close()
    sim_checks.check_converged({device.name: states[device.name], name: state})


def check_rebuilt(world: World, device: Device, keys: dict[str, Keys], states: dict[str, State]) -> None:
    """Built again from its batches, it shows the same."""
    database, replica = open_database(device.path), replica_of(world, device, keys[device.name])
    database.write_now(lambda tx: replica.rebuild(tx, world.now_ms, None))
    database._connection.close()
    sim_checks.check_converged({"before": states[device.name], "rebuilt": device.state()})


def check_reads_nothing(world: World, relay: Relay) -> None:
    """I13: no planted word on the relay's disk."""
    for path in sorted(world.folder.glob(f"{relay.name}.*")):
        if path.suffix != ".fresh" and ".fresh" not in path.name:
            raw = path.read_bytes()
            for word in PLANTED:
                demand(word not in raw, "I13", relay.name, path.name, word)


class Views:
    """A control log as it was for who knew these heads."""

    def __init__(self, log: ControlLog) -> None:
        self._log = log
        self._known: dict[tuple[bytes, ...], ControlLog] = {}

    def of(self, heads: tuple[bytes, ...]) -> ControlLog:
        """What they lead to."""
        if heads not in self._known:
            lacking = set(self._log.missing_from(heads))
            view = self._known[heads] = ControlLog(self._log.space)
            view.update((r.raw for r in self._log.since(0) if r.raw not in lacking), trusted=True)
        return self._known[heads]

    def gave(self, kid: KeyId, device: DeviceId) -> bool:
        """Did anybody to whom it belonged give it this key, or a later one that leads to it: then its removal did not
        count any more."""
        info = self._log.device(device)
        for record in self._log.since(0):
            given = record.payload
            if isinstance(given, Epoch) or (isinstance(given, Wrap) and info and given.target == info.seat):
                view = self.of(given.prevs)
                if view.is_active(device) and any(
                    isinstance(r.payload, Epoch) and r.payload.kid == kid for r in view.since(0)
                ):
                    return True
        return False


def was_restored(log: ControlLog, device: Device) -> bool:
    """Was it ever let in again."""
    found = log.device(device.device_id())
    removes = {
        r.hash for r in log.since(0) if isinstance(r.payload, Remove) and found and r.payload.target == found.seat
    }
    return any(isinstance(r.payload, Restore) and removes & set(r.payload.ends) for r in log.since(0))
