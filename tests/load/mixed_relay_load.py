"""Mixed load on one relay: devices of many spaces that push small batches, get those of the others, break off and come
back for what they missed, and sometimes do not read for a while.

    python -m tests.load.mixed_relay_load [--devices 200] [--seconds 60] [--think 1]

Prints JSON. In the end every device that is connected must hold every batch that was acknowledged in its space; then
the relay is killed in the midst of pushes, and its file must hold them too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop

from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_protocol.frames import Batches, Err, Frame, Push, PushAck
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.vectors import Heads, from_entries
from tests.load._memory import Sample, growth, watch
from tests.load._times import Times, spread
from tests.load.mixed_load import BURST_S, SETTLED_S
from tests.relay_client import Client, Closed, Family, Keys, RelayProcess, Writer

PER_SPACE: Final = 8
STAYS_S: Final = 20.0  # on average, before a device breaks off
SLEEPS_S: Final = 5.0  # so long one may leave everything unread
SIZES: Final = (450, 450, 450, 900, 4_000)
ENVIRONMENT: Final = {"METRICS_PORT": "0", "LOG_LEVEL": "WARNING", "ACCOUNT_BYTES": "10G", "ACCOUNT_DEVICES": "10000"}
seeds = itertools.count(90_000)


@dataclass
class Load:
    """What all devices share. acknowledged: by log, how far; pushed_s: when a batch was sent, by log and number."""

    relay: RelayProcess
    think_s: float
    acknowledged: dict[LogId, int] = field(default_factory=dict)
    under_way: int = 0
    pushed_s: dict[tuple[LogId, int], float] = field(default_factory=dict)
    acks: Times = field(default_factory=list)
    arrivals: Times = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    going: asyncio.Event = field(default_factory=asyncio.Event)
    is_ending: bool = False

    def fault(self, what: str) -> None:
        """Something that must not happen."""
        if not self.is_ending and len(self.faults) < 100:
            self.faults.append(what)


class Device:
    """One device of a space, with a log of its own."""

    def __init__(self, load: Load, number: int, family: Family, keys: Keys, enrol: bytes) -> None:
        self.load, self.number, self.family, self.keys, self._enrol = load, number, family, keys, enrol
        self.writer = Writer(family, keys)
        self.random = random.Random(number)
        self.held: Heads = {}
        self.is_here = False
        self._since = 0.0  # when it last began to listen
        self._pushed = 0
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._awake = asyncio.Event()
        self._awake.set()
        load.acknowledged[self.writer.log] = 0

    async def run(self) -> None:
        """Until cancelled, or until the connection fails."""
        failed = False
        while True:
            self._awake.set()
            have = self.held | {self.writer.log: self.writer.head_at(self._pushed)}
            try:
                async with Client.admitted(
                    self.load.relay.url, self.family, self.keys, have=have, enrol=self._enrol
                ) as client:
                    assert client.welcome is not None
                    stored = from_entries(client.welcome.vv).get(self.writer.log)
                    if (stored.n if stored else 0) < self.load.acknowledged[self.writer.log]:
                        self.load.fault(f"device {self.number}: the relay has {stored} of what it acknowledged")
                    self._enrol, self._since = b"", time.perf_counter()
                    self._pushed = stored.n if stored else 0
                    self.load.counts["connects"] += 1
                    self.is_here = True
                    async with asyncio.TaskGroup() as group:
                        reading = group.create_task(self._read(client))
                        await self._stay(client)
                        self.is_here = False
                        client.break_off()
                        reading.cancel()
            except* (Closed, OSError, TimeoutError, aiohttp.ClientError) as errors:
                self.load.fault(f"device {self.number}: {errors.exceptions[0]!r}")
                failed = True
            finally:
                self.is_here = False
            if failed:
                return
            await self._pause()

    async def _pause(self) -> None:
        think_s = self.load.think_s
        await asyncio.sleep(min(self.random.expovariate(1 / think_s), 4 * think_s))
        await self.load.going.wait()

    async def _stay(self, client: Client) -> None:
        while self.random.random() > self.load.think_s / STAYS_S:
            await self._push(client)
            await self._pause()
            if self.random.random() < 0.02:
                self._awake.clear()
                await asyncio.sleep(SLEEPS_S)
                self._since = time.perf_counter()
                self._awake.set()

    async def _push(self, client: Client) -> None:
        log, count = self.writer.log, self.random.choice((1, 1, 1, 2, 5))
        while self.writer.head.n < self._pushed + count:
            self.writer.make(self.random.choice(SIZES))
        blobs = self.writer.blobs[self._pushed : self._pushed + count]
        start = time.perf_counter()
        for n in range(self._pushed + 1, self._pushed + count + 1):
            self.load.pushed_s.setdefault((log, n), start)
        self.load.under_way += 1
        try:
            request = client.link.ask(Push(b=blobs))
            waiting = self._waiting[request] = asyncio.get_running_loop().create_future()
            await client.flush()
            async with asyncio.timeout(60):
                answer = await waiting
        finally:
            self.load.under_way -= 1
        if not isinstance(answer, PushAck):
            self.load.fault(f"device {self.number}: a push was answered with {answer}")
            return
        self.load.acks.append((self.number, time.perf_counter() - start))
        self._pushed += count
        self.load.acknowledged[log] = from_entries(answer.vv)[log].n
        self.load.counts["batches"] += count

    async def _read(self, client: Client) -> None:
        while True:
            await self._awake.wait()
            frame, request = await client.receive()
            if isinstance(frame, Batches):
                for blob in frame.b:
                    self._take(blob)
                client.received.clear()
            elif isinstance(frame, PushAck | Err):
                waiting = self._waiting.pop(request, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)

    def _take(self, blob: bytes) -> None:
        batch = parse_batch(blob)
        if batch.log == self.writer.log:  # pushed, and the connection broke before it was acknowledged
            return
        before = self.held.get(batch.log)
        if batch.n != (before.n if before else 0) + 1:
            self.load.fault(f"device {self.number}: batch {batch.n} of {batch.log} after {before}")
        self.held[batch.log] = Head(batch.n, batch.hash)
        self.load.counts["deliveries"] += 1
        if (sent := self.load.pushed_s.get((batch.log, batch.n), 0.0)) > self._since:
            self.load.arrivals.append((self.number, time.perf_counter() - sent))


@dataclass
class Outcome:
    """What was seen; as that of a daemon."""

    load: Load
    samples: list[Sample]
    begun_s: float
    ended_s: float
    lost: list[str]

    def during(self, warm_up_s: float = 0.0) -> list[Sample]:
        """The samples of the load, without those of its beginning."""
        return [s for s in self.samples if self.begun_s + warm_up_s <= s.at_s <= self.ended_s]

    def figures(self) -> dict[str, Any]:
        """For people."""
        samples, took = self.during(), self.ended_s - self.begun_s
        return {
            "seconds": round(took, 1),
            "batches_per_s": round(self.load.counts["batches"] / took, 1),
            "deliveries_per_s": round(self.load.counts["deliveries"] / took, 1),
            "relay_cpu_percent": round((samples[-1].cpu_s - samples[0].cpu_s) / took * 100, 1),
            "rss_mib": [round(s.rss_bytes / 2**20, 1) for s in samples[:: max(1, len(samples) // 20)]],
            "growth_kib_per_s": round(growth([s[:2] for s in self.during(took / 3)]) / 1024, 2),
            "ms": {"push": spread(self.load.acks), "arrival": spread(self.load.arrivals)},
            "counts": dict(self.load.counts),
            "lost": self.lost,
            "faults": self.load.faults,
        }


async def run(relay: RelayProcess, seconds: float, *, devices: int = 200, think_s: float = 1.0) -> Outcome:
    """The load for so long on a relay that was started; it is killed in the end."""
    load = Load(relay, think_s)
    everybody: list[Device] = []
    for first in range(0, devices, PER_SPACE):
        family = Family(next(seeds))
        secret = relay.invite("load", max_bytes=2**33, max_devices=10_000)
        members = [family.first, *(family.add() for _ in range(min(PER_SPACE, devices - first) - 1))]
        everybody += [Device(load, first + n, family, keys, b"" if n else secret) for n, keys in enumerate(members)]
    assert relay.process is not None
    samples: list[Sample] = []
    watching = asyncio.create_task(watch(relay.process.pid, samples))
    load.going.set()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for one in sorted(everybody, key=lambda one: one.number % PER_SPACE):  # the first of each space lets it in
                tasks.append(group.create_task(one.run()))
                await asyncio.sleep(2.0 / devices)
            begun_s = samples[-1].at_s
            await asyncio.sleep(seconds)
            ended_s = samples[-1].at_s
            await _settle(load, everybody)
            load.going.set()
            await asyncio.sleep(BURST_S)
            load.is_ending = True
            await asyncio.to_thread(relay.kill)
            for task in tasks:
                task.cancel()
    finally:
        watching.cancel()
    return Outcome(load, samples, begun_s, ended_s, lost_in(relay.data / "relay.db", load))


async def _settle(load: Load, everybody: list[Device]) -> None:
    """Let pushes end, then see whether everybody who is there has everything."""
    load.going.clear()
    deadline = time.monotonic() + SETTLED_S
    missed = ["a push is under way"]
    while missed and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        if not load.under_way:
            missed = [
                f"device {one.number} holds {one.held.get(other.writer.log)} of {load.acknowledged[other.writer.log]}"
                for one in everybody
                if one.is_here
                for other in everybody
                if other.family is one.family and other is not one
                and (one.held[other.writer.log].n if other.writer.log in one.held else 0)
                < load.acknowledged[other.writer.log]
            ]  # fmt: skip
    for miss in missed[:20]:
        load.fault(f"after {SETTLED_S:.0f} s: {miss}")


def lost_in(path: Path, load: Load) -> list[str]:
    """Acknowledged batches that a relay's file does not hold, gapless from the first."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT log, count(*), max(n) FROM batch GROUP BY log").fetchall()
    held = {log: count if count == last else 0 for log, count, last in rows}
    return [
        f"log {log}: {held.get(log, 0)} of {n}" for log, n in load.acknowledged.items() if held.get(log, 0) < n
    ]  # fmt: skip


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=1.0, help="seconds between two pushes of a device, on average")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        RelayProcess(Path(folder) / "relay", environment=ENVIRONMENT) as relay,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        outcome = runner.run(run(relay, given.seconds, devices=given.devices, think_s=given.think))
    json.dump(outcome.figures(), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
