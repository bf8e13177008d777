"""Faults that the simulator has found, each as the shortest history that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybridgw_daemon.core.operations import Create, Edit, Request
from hybridgw_daemon.services.replica import PROVISIONAL, End
from hybridgw_daemon.stores import oplog
from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_protocol.errors import DiskFull
from tests.simulation.sim_replicas import Machine, ReplicaWorld, scratch

HOUR_MS = 3_600_000


@pytest.fixture
def world() -> Iterator[ReplicaWorld]:
    """Two devices with keys, a and b, and nothing written."""
    with scratch() as folder:
        made = ReplicaWorld(1, folder, devices=2)
        yield made
        made.close()


def create(token: object, document: str = "doc") -> list[Request]:
    return [Create("tasks", document, {"x": token})]


def put(token: object, document: str = "doc") -> list[Request]:
    return [Edit("tasks", document, {"x": token})]


def write(machine: Machine, requests: list[Request]) -> None:
    """Written and sealed, one batch."""
    machine.world.now_ms += 1000
    machine.write(requests)
    machine.seal()


def forked(world: ReplicaWorld) -> tuple[Machine, Machine, list[bytes]]:
    """b holds batches 1 to 4 of a's log; a was put back to before it wrote 2 and goes on with another 2."""
    a, b = world.machines
    write(a, create(1))
    copy = world.copy(a)
    for token in (2, 3, 4):
        write(a, put(token))
    theirs = a.blobs()
    b.receive(theirs)
    a.close()
    world.install(a, copy)
    world.ledger.copied.add(a.owner)
    write(a, put("after the backup", "doc"))
    return a, b, theirs


def shown(machine: Machine) -> object:
    return {name: row[:2] for name, row in machine.state().rows.items()}


def test_a_later_batch_of_a_log_that_is_new_here_is_a_gap(world: ReplicaWorld) -> None:
    a, b = world.machines
    write(a, create(1))
    write(a, put(2))
    stored = b.receive(a.blobs()[1:])
    assert (stored.gaps, stored.heads, b.logs()) == ([a.own_log()], {}, {b.own_log(): b.logs()[b.own_log()]})


def test_a_branch_is_not_cut_short_while_its_end_is_on_the_way(world: ReplicaWorld) -> None:
    """After a restored backup the others hold the only copy of the branch: naming its middle would void the rest."""
    a, b, theirs = forked(world)
    log, tip = a.own_log(), b.logs()[a.own_log()].stored
    for batch in theirs[:3]:
        a.receive([batch])
        assert a.own_log() == log  # not closed yet
    assert a.run(lambda tx: a.replica.close_for(tx, Head(tip.n, tip.short))) is None
    a.receive(theirs[3:])
    assert a.own_log() != log
    assert {(where, end.n, end.hash, end.fork) for where, end in world.closes} == {(log, 4, tip.hash, 1)}
    world.heal()
    world.check()


def test_a_branch_longer_than_our_own_is_kept_as_evidence(world: ReplicaWorld) -> None:
    """Beyond the batch after our last one it is no gap: it hangs on evidence that is held."""
    a, b, theirs = forked(world)
    own = a.logs()[a.own_log()].stored.n
    stored = a.receive(theirs)
    assert stored.gaps == []
    assert own == 2  # and 2, 3, 4 of the other branch became the live ones
    assert [parse_batch(blob).n for blob in a.evidence()] == [2]
    assert a.logs()[parse_batch(theirs[0]).log].stored == b.logs()[parse_batch(theirs[0]).log].stored


def test_the_tip_of_a_copy_that_is_shorter_than_what_came_is_followed_to_its_end(world: ReplicaWorld) -> None:
    """The vector a peer told at first is older than what it has sent since."""
    a, _, theirs = forked(world)
    a.is_locked = True  # so that no close is signed while the batches come
    a.receive(theirs)
    third = parse_batch(theirs[2])
    end = a.run(lambda tx: a.replica.close_for(tx, Head(third.n, third.hash[:16])))
    assert end == End(4, parse_batch(theirs[3]).hash, 1)


def test_our_own_log_is_not_continued_from_outside_while_writes_are_open(world: ReplicaWorld) -> None:
    """They have their number already; sealed behind what came they would have another, and older stamps."""
    a, b = world.machines
    write(a, create(1))
    copy = world.copy(a)
    write(a, put(2))
    later = a.blobs()
    b.receive(later)
    a.close()
    world.install(a, copy)
    world.ledger.copied.add(a.owner)
    a.is_locked = True
    a.write(put("open"))
    assert a.receive(later).fresh == 0
    a.is_locked = False
    a.seal()
    a.receive(later)
    world.heal()
    world.check()


def test_ends_are_followed_only_if_the_transaction_was_committed(world: ReplicaWorld) -> None:
    """A disk that fills while a close is followed: memory must not believe that it was."""
    a, b = world.machines
    for token in range(8):
        write(b, create(world.rng.randbytes(3000).hex(), f"doc{token}"))
    a.receive(b.blobs())
    log, head = b.own_log(), parse_batch(b.blobs()[1])
    end = End(head.n, head.hash, head.n)
    a.database._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(DiskFull):
        a.learn({(log, end)})
    a.database._connection.execute("PRAGMA max_page_count = 1073741823")
    assert a.replica.keys.ends == {}
    assert len(shown(a)) == 8
    assert a.learn({(log, end)})
    assert sorted(name[1] for name in shown(a)) == ["doc0", "doc1"]
    assert a.logs()[log].stored == Head(2, head.hash)


def test_a_close_is_followed_while_own_writes_cannot_be_sealed(world: ReplicaWorld) -> None:
    a, b = world.machines
    write(b, create(1))
    write(b, put("void"))
    a.receive(b.blobs())
    a.is_locked = True
    a.write(create("mine", "own"))
    head = parse_batch(b.blobs()[0])
    assert a.learn({(b.own_log(), End(1, head.hash, 1))})
    assert shown(a) == {("tasks", "doc"): (1, b'{"x":1}'), ("tasks", "own"): (1, b'{"x":"mine"}')}
    a.is_locked = False
    a.seal()
    assert shown(a)["tasks", "own"] == (1, b'{"x":"mine"}')
    world.close_log(b.own_log(), End(1, head.hash, 1), a)
    world.ledger.put_out.add(b.owner)
    b.is_honest = False
    world.heal()
    world.check()


def test_open_writes_follow_into_the_new_log_when_ours_was_closed_while_it_could_not_be_sealed(
    world: ReplicaWorld,
) -> None:
    """They are never sealed behind the end of the old log: that place was signed before."""
    a, b, theirs = forked(world)
    a.is_locked = True
    a.write(put("open"))
    a.receive(theirs)
    tip = b.logs()[a.own_log()].stored
    end = End(tip.n, tip.hash, 1)
    world.close_log(a.own_log(), end, a)
    a.learn({(a.own_log(), end)})
    assert a.database.peek(oplog.pending)
    a.is_locked = False
    a.seal()
    assert a.database.peek(oplog.pending)  # not in the closed log
    a.learn()
    a.seal()
    assert not a.database.peek(oplog.pending)
    world.heal()
    world.check()


def test_a_new_log_claims_no_more_than_was_seen_when_its_open_writes_were_made(world: ReplicaWorld) -> None:
    """A copied database moves its open writes to a new log; a batch whose time came meanwhile is not seen by them."""
    a, b = world.machines
    write(a, create("base"))
    b.receive(a.blobs())
    b.offset_ms = HOUR_MS
    write(b, put("from the future"))
    a.receive(b.blobs())
    assert a.logs()[b.own_log()].waiting == "clock"
    a.is_locked = True
    a.write(put("mine"))
    world.now_ms += 2 * HOUR_MS
    b.offset_ms, a.is_locked = 0, False
    a.run(lambda tx: a.replica.switch_log(tx, a.device, bytes(31) + b"\1", a.now_ms))
    world.heal()
    world.check()
    row = a.state().rows["tasks", "doc"]
    assert row[3] == 1  # a conflict: nobody had seen the other's value


def test_what_was_applied_once_is_applied_again_whatever_the_clock_says(world: ReplicaWorld) -> None:
    """A clock that was ahead is set right, then the documents are built again: our own must not vanish for a year."""
    a, b = world.machines
    a.offset_ms = 365 * 24 * HOUR_MS
    write(a, create("from a clock that was ahead"))
    a.offset_ms = 0
    write(b, create("void", "other"))
    a.receive(b.blobs())
    before = shown(a)
    a.run(lambda tx: a.replica.rebuild(tx, a.now_ms, a.sealer()))
    assert shown(a) == before
    write(a, put("goes on"))


def test_an_end_that_moves_up_changes_what_others_had_seen(world: ReplicaWorld) -> None:
    """First the expel is known (nothing of the device counts), then the close that keeps its first batch."""
    a, b = world.machines
    write(b, create("theirs"))
    write(b, put("void"))
    a.receive(b.blobs())
    write(a, put("seen and replaced"))
    first = parse_batch(b.blobs()[0])
    a.learn(expelled={b.device})
    world.close_log(b.own_log(), End(1, first.hash, 1), a)
    world.expelled.add(b.device)
    world.ledger.put_out.add(b.owner)
    b.is_honest = False
    a.learn(set(world.closes))
    assert shown(a) == {("tasks", "doc"): (1, b'{"x":"seen and replaced"}')}
    assert a.state().rows["tasks", "doc"][3] == 0
    world.heal()
    world.check()


def test_another_branch_may_arrive_together_with_the_one_that_counts(world: ReplicaWorld) -> None:
    """After a close, from somebody who does not know of it: both branches in one transaction."""
    a, b, theirs = forked(world)
    log = a.own_log()
    mine = a.blobs()
    c = Machine(world, "c", 7)
    world.machines.append(c)
    c.key_ids = list(world.key_order)
    c.adopt()
    c.receive(theirs[:1])
    a.receive(theirs)
    assert a.own_log() not in (log, PROVISIONAL)
    c.learn_all()
    c.receive([*mine, *theirs])
    assert c.logs()[log].stored == b.logs()[log].stored
    world.heal()
    world.check()


def test_the_tip_of_a_branch_that_does_not_count_is_not_kept(world: ReplicaWorld) -> None:
    """With it a device would announce as many batches as the true branch has, and no relay would send it those."""
    a, b, theirs = forked(world)
    log = a.own_log()
    mine = a.blobs()  # 1 and another 2
    a.receive(theirs[1:2])
    second = parse_batch(theirs[1])
    end = End(2, second.hash, 1)
    world.close_log(log, end, b)
    c = Machine(world, "c", 7)
    world.machines.append(c)
    c.key_ids = list(world.key_order)
    c.adopt()
    c.receive(theirs[:1])
    c.learn({(log, end)})
    c.receive(mine)
    assert c.logs()[log].stored.n == 1
    c.receive(theirs[1:2])
    assert c.logs()[log].stored == Head(2, second.hash)


def test_a_fork_of_our_own_that_was_not_closed_at_once_is_told_again(world: ReplicaWorld) -> None:
    """The process may die between keeping the proof and closing the log: nothing that comes then is new."""
    a, _, theirs = forked(world)
    log = a.own_log()
    a.is_locked = True  # nobody closes it now
    a.receive(theirs)
    assert a.own_log() == log
    a.is_locked = False
    stored = a.receive(theirs[-1:])
    assert stored.fresh == 0
    assert stored.forks == [log]
    assert a.own_log() != log
