"""What the relay acknowledged stays, whatever happens to its process, its disk and its file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import resource
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from hybridgw_protocol.frames import Batches, CtlAck, CtlPut, Push, PushAck
from hybridgw_protocol.vectors import Heads, from_entries
from tests.relay_client import WAIT_S, Client, Closed, Family, RelayProcess, Writer

seeds = itertools.count(4_000)
KILLS = 15


async def push_until_it_dies(relay: RelayProcess, family: Family, writer: Writer, rng: random.Random) -> int:
    """Push without waiting for each answer; returns the highest number that was acknowledged."""
    acked = 0
    with contextlib.suppress(Closed, aiohttp.ClientError, ConnectionError, OSError):
        async with Client.admitted(relay.url, family, writer.keys, have={writer.log: writer.head}) as client:
            assert client.welcome is not None
            stored = from_entries(client.welcome.vv).get(writer.log)
            acked = sent = stored.n if stored else 0

            async def send() -> None:
                nonlocal sent
                while True:
                    count = rng.randrange(1, 6)
                    while writer.head.n < sent + count:
                        writer.make(rng.choice((450, 900, 20_000)))
                    blobs = writer.blobs[sent : sent + count]
                    sent += count
                    try:
                        await client.ask(Push(b=blobs))
                    except ConnectionError:
                        return
                    await asyncio.sleep(0.001)

            async with asyncio.TaskGroup() as group:
                sender = group.create_task(send())
                try:
                    while True:
                        frame, _ = await client.receive()
                        if isinstance(frame, PushAck):
                            acked = from_entries(frame.vv)[writer.log].n
                except (Closed, ConnectionError):
                    sender.cancel()
    return acked


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path, scale: int) -> None:
    """kill -9 in the middle of pushes of three devices, again and again."""
    rng = random.Random(3)
    family = Family(next(seeds))
    keys = [family.first, family.add(), family.add()]
    writers = [Writer(family, device) for device in keys]
    relay = RelayProcess(tmp_path / "data").start()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()):
        pass
    acked: dict[int, int] = {}
    pushed_under_fire = 0
    for _ in range(KILLS * scale):
        pushers = asyncio.gather(
            *(push_until_it_dies(relay, family, writer, random.Random(rng.random())) for writer in writers)
        )
        await asyncio.sleep(rng.uniform(0.03, 0.15))
        await asyncio.to_thread(relay.kill)
        results = await pushers
        pushed_under_fire += sum(n > acked.get(writer.log, 0) for n, writer in zip(results, writers, strict=True))
        acked = {w.log: max(n, acked.get(w.log, 0)) for n, w in zip(results, writers, strict=True)}
        await asyncio.to_thread(relay.start)
        async with Client.admitted(relay.url, family, family.first, sub=False) as reader:
            await reader.caught_up()
            held = set(reader.received)
            assert len(held) == len(reader.received)
            for writer in writers:
                assert held.issuperset(writer.blobs[: acked[writer.log]])
            welcome = from_entries(reader.welcome.vv) if reader.welcome else {}
            for writer in writers:
                if writer.log in welcome:
                    assert welcome[writer.log].hash == writer.head_at(welcome[writer.log].n).short
    assert pushed_under_fire > KILLS * scale  # it was killed at work
    relay.stop()
    with closing(sqlite3.connect(relay.data / "relay.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        # Sums that are kept beside the rows agree with them.
        kept = database.execute("SELECT batches, bytes, rid FROM space").fetchone()
        assert kept == database.execute("SELECT count(*), sum(length(blob)), max(rid) FROM batch").fetchone()


async def test_a_restart_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    family = Family(next(seeds))
    second = family.add()
    writers = [Writer(family, family.first), Writer(family, second)]
    order: list[bytes] = []
    relay = RelayProcess(tmp_path / "data").start()
    secret = relay.invite()
    for _ in range(3):
        async with Client.admitted(relay.url, family, family.first, enrol=secret) as client:
            for writer in writers:
                blobs = writer.make_many(3)
                await client.push(blobs)
                order += blobs
            assert (await client.expect(CtlAck, await client.ask(CtlPut(recs=family.records)))).heads
            code, closed = await asyncio.gather(asyncio.to_thread(relay.stop), client.refused())
            assert (code, closed.code) == (0, "closed")
        relay.start()
    async with Client.admitted(relay.url, family, second) as client:
        assert await client.caught_up() == order
    relay.stop()


async def test_a_graceful_stop_finishes_what_it_took_and_is_quick(tmp_path: Path) -> None:
    family = Family(next(seeds))
    writer = Writer(family, family.first)
    relay = RelayProcess(tmp_path / "data").start()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        first = await client.ask(Push(b=writer.make_many(5)))
        await client.expect(PushAck, first)
        for _ in range(50):
            await client.ask(Push(b=writer.make_many(5)))
        assert relay.process is not None
        relay.process.send_signal(signal.SIGTERM)
        acked = 5
        closed = None
        while closed is None:
            try:
                frame, _ = await client.receive()
                if isinstance(frame, PushAck):
                    acked = from_entries(frame.vv)[writer.log].n
            except Closed as reason:
                closed = reason
        assert closed.code == "closed"
        assert closed.retry > 0
        assert await asyncio.to_thread(relay.stop) == 0
    relay.start()
    async with Client.admitted(relay.url, family, family.first) as client:
        assert client.welcome is not None
        assert from_entries(client.welcome.vv)[writer.log].n >= acked
    relay.stop()


async def test_spec_Y7_a_rolled_back_relay_is_filled_again(tmp_path: Path) -> None:
    """Its file is replaced by an earlier copy: the devices see it in the welcome and push what is missing."""
    family = Family(next(seeds))
    writer = Writer(family, family.first)
    relay = RelayProcess(tmp_path / "data").start()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        await client.push(writer.make_many(3))
    relay.stop()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    relay.start()
    async with Client.admitted(relay.url, family, family.first) as client:
        await client.push(writer.make_many(4))
        family.add()
        await client.expect(CtlAck, await client.ask(CtlPut(recs=family.records[-1:])))
    relay.stop()
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "copy", tmp_path / "data")
    relay.start()
    async with Client.connect(relay.url) as client:
        # It asks for the records that it lost, and says what it holds.
        welcome = await client.authenticate(family, family.first, have={writer.log: writer.head})
        assert welcome.ctl == family.control.short_heads
        heads: Heads = from_entries(welcome.vv)
        assert heads[writer.log].n == 3
        assert heads[writer.log].hash == writer.head_at(3).short
        ack = await client.push(writer.blobs[heads[writer.log].n :])
        assert from_entries(ack.vv)[writer.log].n == 7
    relay.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
async def test_sec_R16_a_full_disk_refuses_and_goes_on_reading(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the full disk: every write beyond it fails, reads work."""
    family = Family(next(seeds))
    second = family.add()
    writer = Writer(family, family.first)
    relay = RelayProcess(tmp_path / "data").start()
    assert relay.process is not None
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        await client.push([writer.make(100_000)])
        stored = writer.head.n
        size = max(path.stat().st_size for path in relay.data.iterdir())
        resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE, (size + 65_536, resource.RLIM_INFINITY))
        refused = None
        for _ in range(40):
            blob = writer.make(200_000)
            request = await client.ask(Push(b=[blob]))
            while True:
                frame, its = await client.receive()
                if its == request:
                    break
            if isinstance(frame, PushAck):
                stored = from_entries(frame.vv)[writer.log].n
            else:
                refused = frame
                break
        assert refused is not None
        assert (refused.code, refused.retry > 0) == ("busy", True)  # type: ignore[attr-defined]
        async with Client.admitted(relay.url, family, second) as reader:
            assert await reader.caught_up() == writer.blobs[:stored]
        resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ack = await client.push(writer.blobs[stored:])  # the same connection goes on
        assert from_entries(ack.vv)[writer.log].n == writer.head.n
        async with Client.admitted(relay.url, family, second) as reader:
            assert await reader.caught_up() == writer.blobs
    assert relay.stop() == 0


async def test_two_devices_live_through_a_restart(tmp_path: Path) -> None:
    """A reader that reconnects with its vector gets exactly what it missed."""
    family = Family(next(seeds))
    second = family.add()
    writer = Writer(family, family.first)
    relay = RelayProcess(tmp_path / "data").start()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        await a.push(writer.make_many(3))
        while len(b.received) < 3:
            await b.expect(Batches)
    have = {writer.log: writer.head_at(3)}
    await asyncio.to_thread(relay.kill)
    await asyncio.to_thread(relay.start)
    async with Client.admitted(relay.url, family, family.first) as a:
        await a.push(writer.make_many(2))
        async with Client.admitted(relay.url, family, second, have=have) as b:
            assert await b.caught_up() == writer.blobs[3:]
            async with asyncio.timeout(WAIT_S):
                await a.push(writer.make_many(1))
                await b.expect(Batches)
            assert b.received == writer.blobs[3:]
    relay.stop()
