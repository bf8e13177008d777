"""Mixed load on one daemon: programs that read, write and list over HTTP, patch, follow documents and talk over
WebSockets, come and go, break off, and read slowly; each waits a while between two steps, as programs do.

    python -m tests.load.mixed_load [--programs 200] [--seconds 60] [--think 0.5] [--daemon MODULE]

Prints JSON. What the daemon acknowledged is kept in a ledger: every document has one writer, whose turns rise, so that
at any moment it is known what a document must hold. Afterwards the daemon is killed in the midst of writing, and its
file is compared with the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop

from tests.integration._local_api import Process
from tests.load._ledger import documents_in
from tests.load._memory import Sample, growth, watch
from tests.load._programs import BIG, COLLECTIONS, GROUPS, MIX, PROGRAMS_PER_KEY, Load, Program, Watcher
from tests.load._times import spread

SETTLED_S: Final = 30.0
BURST_S: Final = 1.5  # of writing, before the daemon is killed


@dataclass
class Outcome:
    """What was seen. begun_s, ended_s: of the load, on the scale of the samples; stats: of the daemon's connections;
    hurried: writes before it began."""

    load: Load
    samples: list[Sample]
    begun_s: float
    ended_s: float
    stats: dict[str, Any]
    hurried: int
    lost: list[str]

    def during(self, warm_up_s: float = 0.0) -> list[Sample]:
        """The samples of the load, without those of its beginning."""
        return [s for s in self.samples if self.begun_s + warm_up_s <= s.at_s <= self.ended_s]

    def figures(self) -> dict[str, Any]:
        """For people."""
        samples, took = self.during(), self.ended_s - self.begun_s
        calls = {kind: times for kind, times in self.load.times.items() if kind not in ("seen", "heard")}
        return {
            "seconds": round(took, 1),
            "calls_per_s": round(sum(map(len, calls.values())) / took, 1),
            "writes_per_s": round((self.load.ledger.count - self.hurried) / took, 1),
            "events_per_s": round(self.load.counts["events"] / took, 1),
            "daemon_cpu_percent": round((samples[-1].cpu_s - samples[0].cpu_s) / took * 100, 1),
            "rss_mib": [round(s.rss_bytes / 2**20, 1) for s in samples[:: max(4, len(samples) // 30)]],
            "growth_kib_per_s": round(growth([s[:2] for s in self.during(took / 3)]) / 1024, 2),
            "ms": {kind: spread(times) for kind, times in sorted(self.load.times.items())},
            "counts": dict(self.load.counts),
            "close_codes": self.stats["close_codes"],
            "lost": self.lost,
            "faults": self.load.faults,
        }


async def run(process: Process, seconds: float, *, programs: int = 200, think_s: float = 0.5) -> Outcome:
    """The load for so long on a daemon that was started; it is killed in the end."""
    endpoint = process.ready()
    load = Load(endpoint.port, [], think_s)
    share = programs / sum(MIX.values())
    async with aiohttp.ClientSession(
        endpoint.url, headers={"Authorization": f"Bearer {endpoint.token.reveal()}"}, timeout=aiohttp.ClientTimeout(60)
    ) as owner:
        scopes = [f"{right}:load{n}" for right in ("read", "write") for n in range(COLLECTIONS)]
        topics = [BIG, *(f"load/{n}" for n in range(GROUPS))]
        scopes += [f"{right}:{topic}" for right in ("send", "listen") for topic in topics]
        for _ in range(programs // PROGRAMS_PER_KEY + 2):
            async with owner.post("/api/auth/keys", json={"scopes": scopes, "note": "load"}) as answer:
                load.tokens.append((await answer.json())["key"])
        everybody: list[Program] = []
        for kind, count in MIX.items():
            everybody += [kind(load, len(everybody) + n) for n in range(max(1, round(count * share)))]
        samples: list[Sample] = []
        watching = asyncio.create_task(watch(process.process.pid, samples))
        load.going.set()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for program in everybody:
                    tasks.append(group.create_task(load.guard(program), name=program.name))
                    await asyncio.sleep(2.0 / len(everybody))
                while any(program.hurries for program in everybody):  # noqa: ASYNC110 - a count, no event
                    await asyncio.sleep(0.1)
                load.times.clear()
                begun_s, before = samples[-1].at_s, load.ledger.count
                await asyncio.sleep(seconds)
                ended_s = samples[-1].at_s
                await _settle(load, everybody)
                async with owner.get("/api/config/stats") as answer:
                    stats = await answer.json()
                load.going.set()
                await asyncio.sleep(BURST_S)
                load.is_ending = True
                await asyncio.to_thread(process.kill)
                for task in tasks:
                    task.cancel()
        finally:
            watching.cancel()
    lost = load.ledger.lost(documents_in(process.home / "hybridgw.db"))
    return Outcome(load, samples, begun_s, ended_s, stats, before, lost)


async def _settle(load: Load, everybody: list[Program]) -> None:
    """Let what is under way end, then see whether those who follow know everything."""
    load.going.clear()
    deadline = time.monotonic() + SETTLED_S
    missed = ["something is under way"]
    while missed and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        if not load.ledger.under_way:
            missed = [miss for one in everybody if isinstance(one, Watcher) and one.is_here for miss in one.misses()]
    for miss in missed[:20]:
        load.fault(f"after {SETTLED_S:.0f} s: {miss}")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=0.5, help="seconds between two steps of a program, on average")
    parser.add_argument("--daemon", default="hybridgw_daemon", help="the module to start")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        process = Process(Path(folder) / "home", "--secret-store", "insecure-file", module=given.daemon)
        try:
            outcome = runner.run(run(process, given.seconds, programs=given.programs, think_s=given.think))
        finally:
            if process.process.poll() is None:
                process.kill()
    json.dump(outcome.figures(), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
