"""Batches through a real relay: taken in, acknowledged, passed on, refused. Real process, real sockets, real SQLite."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_protocol.frames import Batches, CtlAck, CtlPut, Err, Push, PushAck, Want
from hybridgw_protocol.limits import MAX_BATCH_BYTES
from hybridgw_protocol.vectors import Heads, from_entries, to_entries
from tests.relay_client import MANY_TRIES, Client, Family, Keys, RelayProcess, Writer

seeds = itertools.count(1_000)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    folder = tmp_path_factory.mktemp("relay")
    with RelayProcess(folder / "data", environment=MANY_TRIES) as running:
        yield running


@pytest.fixture
def family() -> Family:
    return Family(next(seeds))


def short(writer: Writer, n: int | None = None) -> Heads:
    """A log's head as an acknowledgement carries it."""
    head = writer.head if n is None else writer.head_at(n)
    return {writer.log: Head(head.n, head.short)}


# ---- the usual course ------------------------------------------------------------------------------------------------
async def test_spec_Y1_pushed_batches_reach_the_other_devices_in_order(relay: RelayProcess, family: Family) -> None:
    second, third = family.add(), family.add()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        assert await b.caught_up() == []
        first_log, second_log = Writer(family, family.first), Writer(family, second)
        assert from_entries((await a.push(first_log.make_many(3))).vv) == short(first_log)
        assert from_entries((await b.push([second_log.make(900)])).vv) == short(second_log)
        assert from_entries((await a.push([first_log.make()])).vv) == short(first_log)
        while len(b.received) < 4:
            await b.expect(Batches)
        assert b.received == first_log.blobs
        while not a.received:
            await a.expect(Batches)
        assert a.received == second_log.blobs
        async with Client.admitted(relay.url, family, third) as c:
            assert await c.caught_up() == [*first_log.blobs[:3], second_log.blobs[0], first_log.blobs[3]]
            await a.push([first_log.make()])
            await c.expect(Batches)
            assert c.received[-1] == first_log.blobs[-1]


async def test_a_device_does_not_get_back_what_it_pushed(relay: RelayProcess, family: Family) -> None:
    second = family.add()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        await a.caught_up()
        mine, theirs = Writer(family, family.first), Writer(family, second)
        for _ in range(5):
            await a.push([mine.make()])
        await b.push([theirs.make()])
        while not a.received:
            await a.expect(Batches)
        assert a.received == theirs.blobs


async def test_a_device_may_push_what_another_wrote(relay: RelayProcess, family: Family) -> None:
    """Whoever holds a batch pushes it, also for a device that was removed after it wrote it."""
    second = family.add()
    writer = Writer(family, second)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        await a.push([writer.make()])
        await a.expect(CtlAck, await a.ask(CtlPut(recs=[family.remove(second)])))
        assert from_entries((await a.push([writer.make()])).vv) == short(writer)


async def test_a_vector_and_want_say_where_the_stream_begins(relay: RelayProcess, family: Family) -> None:
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        one, two = Writer(family, family.first), Writer(family, family.first, seed=1)
        await a.push([one.make(), two.make(), one.make(), two.make(), one.make()])
    have: Heads = {one.log: one.head_at(2), two.log: two.head_at(2)}
    async with Client.admitted(relay.url, family, family.first, have=have) as b:
        assert await b.caught_up() == [one.batch(3)]
        await b.ask(Want(vv=to_entries({one.log: one.head_at(1)})))
        assert (await b.caught_up())[1:] == [two.batch(1), one.batch(2), two.batch(2), one.batch(3)]
        # A log told as far ahead is one that is not asked for; nothing wanted is told by an empty frame.
        skip: Heads = {one.log: Head(2**50, bytes(16)), two.log: Head(2**50, bytes(16))}
        await b.ask(Want(vv=to_entries(skip)))
        assert (await b.expect(Batches)) == Batches(b=[], more=False)


async def test_without_sub_the_stream_ends_after_catching_up(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, family.first, sub=False) as b,
    ):
        assert await b.caught_up() == []
        await a.push([writer.make()])
        await b.ask(Want(vv=[]))
        assert await b.caught_up() == writer.blobs
        await a.push([writer.make()])
        await b.ask(Want(vv=to_entries({writer.log: writer.head})))
        assert await b.expect(Batches) == Batches(b=[], more=False)


async def test_large_logs_come_in_frames_and_within_the_credit(relay: RelayProcess, family: Family) -> None:
    """6 MiB against a credit of 4: the client gives back what it stored, the relay waits for it."""
    second = family.add()
    writer = Writer(family, family.first)
    blobs = [writer.make(64 * 1024) for _ in range(94)] + [writer.make(MAX_BATCH_BYTES) for _ in range(2)]
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        for first in range(0, len(blobs), 7):
            await a.push(blobs[first : first + 7])
    async with Client.admitted(relay.url, family, second) as b:
        frames = 0
        while (await b.expect(Batches)).more:
            frames += 1
        assert b.received == blobs
        assert frames > 6


async def test_many_devices_write_at_once_and_all_agree(relay: RelayProcess, family: Family) -> None:
    keys = [family.first, *(family.add() for _ in range(4))]
    writers = [Writer(family, device) for device in keys]
    rng = random.Random(7)
    secret = relay.invite()
    async with Client.admitted(relay.url, family, family.first, enrol=secret):
        pass

    async def live(device: Keys, writer: Writer) -> dict[int, list[int]]:
        """Push 40 batches in random pieces; the numbers of every log in the order they came."""
        async with Client.admitted(relay.url, family, device) as client:
            left = 40
            while left:
                count = min(left, rng.randrange(1, 5))
                left -= count
                await client.push(writer.make_many(count))
                await asyncio.sleep(0)
            while len(client.received) < 160:
                await client.expect(Batches)
            seen: dict[int, list[int]] = {}
            for blob in client.received:
                batch = parse_batch(blob)
                seen.setdefault(batch.log, []).append(batch.n)
            return seen

    results = await asyncio.gather(*(live(device, writer) for device, writer in zip(keys, writers, strict=True)))
    for device_seen, own in zip(results, writers, strict=True):
        others = {writer.log for writer in writers if writer is not own}
        assert device_seen == {log: list(range(1, 41)) for log in others}


async def test_pushes_need_not_wait_for_each_other(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        requests = [await a.ask(Push(b=[blob])) for blob in writer.make_many(500)]
        last = [await a.expect(PushAck, request) for request in requests][-1]
        assert from_entries(last.vv) == short(writer)


# ---- what is refused -------------------------------------------------------------------------------------------------
async def test_sec_R2_one_bad_batch_does_not_take_the_good_ones_with_it(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    blobs = writer.make_many(3)
    forged = blobs[1][:-1] + bytes([blobs[1][-1] ^ 1])
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        ack, error = await a.push_refused([blobs[0], forged, blobs[2]])
        assert ack is not None
        assert from_entries(ack.vv) == short(writer, 1)
        assert (error.code, error.retry) == ("bad_signature", 0)
        assert str(writer.log) in error.msg
        # The link goes on, and the place of the forged batch is still free for the true one.
        assert from_entries((await a.push(blobs[1:])).vv) == short(writer)


async def test_sec_R2_gaps_name_what_is_held(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    blobs = writer.make_many(4)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        ack, error = await a.push_refused([blobs[1]])
        assert (error.code, error.retry > 0) == ("gap", True)
        assert ack is not None
        assert ack.vv == []
        await a.push(blobs[:2])
        ack, error = await a.push_refused([blobs[3]])
        assert error.code == "gap"
        assert ack is not None
        assert from_entries(ack.vv) == short(writer, 2)


async def test_a_batch_of_a_device_without_a_record_waits_for_it(relay: RelayProcess, family: Family) -> None:
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        second = family.add()
        writer = Writer(family, second)
        _, error = await a.push_refused([writer.make()])
        assert error.code == "gap"
        await a.expect(CtlAck, await a.ask(CtlPut(recs=family.records[-1:])))
        assert from_entries((await a.push(writer.blobs)).vv) == short(writer)


async def test_sec_R2_a_fork_is_an_alarm_with_evidence(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    blobs = writer.make_many(3)
    clone = writer.fork(1)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        await a.push(blobs)
        ack, error = await a.push_refused([clone.make()])
        assert (error.code, error.retry) == ("fork", 0)
        assert ack is not None
        assert from_entries(ack.vv) == short(writer)
    with closing(sqlite3.connect(relay.data / "relay.db")) as database:
        found = database.execute("SELECT blob FROM evidence WHERE log=?", (writer.log,)).fetchall()
    assert found == [(clone.blobs[-1],)]
    assert f"log={writer.log}" in relay.log.read_text()


async def test_a_record_that_closes_the_log_settles_a_fork(relay: RelayProcess, family: Family) -> None:
    """The relay held the branch that lost: it gives way to the one that the record names."""
    kept = Writer(family, family.first)
    kept.make_many(2)
    lost = kept.fork(2)
    kept.make_many(3)
    second = family.add()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        await a.push([*lost.blobs, *lost.make_many(2)])
        _, error = await a.push_refused(kept.blobs[2:])
        assert error.code == "fork"
        record = family.close_log(family.first, kept.log, kept.head, fork=2)
        await a.expect(CtlAck, await a.ask(CtlPut(recs=[record])))
        assert from_entries((await a.push(kept.blobs[2:])).vv) == short(kept)
        async with Client.admitted(relay.url, family, second) as b:
            assert await b.caught_up() == kept.blobs
        _, error = await a.push_refused(lost.blobs[2:])
        assert error.code == "fork"


async def test_what_took_the_place_of_a_branch_goes_to_those_who_were_sent_that_branch_again(
    relay: RelayProcess, family: Family
) -> None:
    """A device hears of the close, cuts its log and asks anew while the relay still has the branch that lost."""
    kept = Writer(family, family.first)
    kept.make_many(2)
    lost = kept.fork(2)
    kept.make_many(3)
    second = family.add()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        await a.push([*lost.blobs, *lost.make_many(3)])
        await b.caught_up()
        record = family.close_log(family.first, kept.log, kept.head, fork=2)
        await a.expect(CtlAck, await a.ask(CtlPut(recs=[record])))
        await b.ask(Want(vv=to_entries({kept.log: kept.head_at(2)})))
        while b.received.count(lost.blobs[-1]) < 2:
            await b.expect(Batches)
        await a.push(kept.blobs[2:])
        while b.received[-3:] != kept.blobs[2:]:
            await b.expect(Batches)


async def test_a_device_opens_a_new_log_after_it_closed_an_old_one(relay: RelayProcess, family: Family) -> None:
    writers = [Writer(family, family.first, seed=seed) for seed in range(17)]
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        ack, error = await a.push_refused([writer.make() for writer in writers])
        assert error.code == "quota"
        assert "16 open logs" in error.msg
        assert ack is not None
        assert len(ack.vv) == 16
        record = family.close_log(family.first, writers[0].log, writers[0].head, fork=1)
        await a.expect(CtlAck, await a.ask(CtlPut(recs=[record])))
        assert from_entries((await a.push(writers[16].blobs)).vv) == short(writers[16])


async def test_sec_R11_a_foreign_log_is_refused(relay: RelayProcess, family: Family) -> None:
    second = family.add()
    victim = Writer(family, family.first)
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        await a.push([victim.make()])
        thief = victim.fork(1)
        thief.keys = second
        _, error = await b.push_refused([thief.make()])
        assert error.code == "bad_frame"
        stolen = victim.fork(0)
        stolen.keys = second
        _, error = await b.push_refused([stolen.make()])
        assert error.code == "bad_frame"


async def test_another_spaces_batches_are_refused(relay: RelayProcess, family: Family) -> None:
    other = Family(next(seeds))
    writer = Writer(other, other.first)
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, other, other.first, enrol=relay.invite()) as b,
    ):
        _, error = await a.push_refused([writer.make()])
        assert error.code == "bad_frame"
        assert await b.caught_up() == []
        assert from_entries((await b.push(writer.blobs)).vv) == short(writer)


async def test_sec_R16_a_full_account_is_told_and_still_read(relay: RelayProcess, family: Family) -> None:
    second = family.add()
    writer = Writer(family, family.first)
    secret = relay.invite("small", max_bytes=2_000)
    async with Client.admitted(relay.url, family, family.first, enrol=secret) as a:
        ack, error = await a.push_refused(writer.make_many(6))
        assert error.code == "quota"
        assert ack is not None
        assert from_entries(ack.vv) == short(writer, 4)
        assert a.welcome is not None
        assert a.welcome.quota is not None
        assert a.welcome.quota.bytes == 2_000
        async with Client.admitted(relay.url, family, second) as b:
            assert await b.caught_up() == writer.blobs[:4]
            assert b.welcome is not None
            assert b.welcome.quota is not None
            assert b.welcome.quota.used == 1_800
        relay.command("accounts", "set", "small", "--bytes", "1M")
        assert from_entries((await a.push(writer.blobs[4:])).vv) == short(writer)


async def test_a_push_without_an_id_is_refused_by_closing(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    writer.make()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        await a.send(Push(b=[writer.make()]))
        assert (await a.refused()).code == "gap"


async def test_rates_are_refused_as_a_whole_row(tmp_path_factory: pytest.TempPathFactory, family: Family) -> None:
    """Above its rate a device is told to wait, and nothing of what follows is taken out of turn."""
    limits = {"DEVICE_PUSH_BURST": "5", "DEVICE_PUSHES_PER_SECOND": "1"}
    with RelayProcess(tmp_path_factory.mktemp("slow") / "data", environment=limits) as slow:
        writer = Writer(family, family.first)
        async with Client.admitted(slow.url, family, family.first, enrol=slow.invite()) as a:
            requests = [await a.ask(Push(b=[blob])) for blob in writer.make_many(12)]
            codes: dict[int, str] = {}
            while len(codes) < len(requests):
                frame, request = await a.receive()
                if isinstance(frame, PushAck | Err):
                    codes[request] = frame.code if isinstance(frame, Err) else "ok"
            assert [codes[request] for request in requests] == ["ok"] * 5 + ["rate"] * 7
            async with Client.admitted(slow.url, family, family.first) as again:
                _, error = await again.push_refused(writer.blobs[5:])
                assert (error.code, error.retry > 0) == ("rate", True)
                await asyncio.sleep(error.retry / 1000 + 0.05)
                assert from_entries((await again.push(writer.blobs[5:])).vv) == short(writer)
