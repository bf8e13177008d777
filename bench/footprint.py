"""What daemon and relay cost while nothing happens: time to the first answer, memory, processor time, wake-ups.

`cold start` is the time from starting the process to the first 200 of /health, the files of the programs in the page
cache; a connection is tried every millisecond. At rest, all processes are watched over the same seconds: a daemon that
is connected to a relay, that relay, a daemon with many documents, and a bare aiohttp process with a SQLite file.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import NamedTuple

from .documents import documents, write_requests
from .options import Options
from .processes import Processes, fine_cpu_s, free_port, use_of, wait_for_health
from .report import Figure
from .rig import Daemon, Relay, add_relay

LOAD_PART = 50_000


class Rest(NamedTuple):
    """One process over one stretch of rest."""

    rss_mb: float
    cpu_percent: float
    switches_per_s: float
    threads: float


async def measure(options: Options) -> list[Figure]:
    """Starts first, one after the other in turn; then stretches of rest."""
    many = 100_000 if options.quick else 1_000_000
    rest_s = 5.0 if options.quick else 30.0
    starts: dict[str, list[float]] = {}
    rests: dict[str, list[Rest]] = {}
    with Processes() as processes:
        full = Daemon(processes, "full")
        await full.ready()
        await _fill(full, many)
        full.stop()
        empty = Daemon(processes, "empty")
        await empty.ready()
        empty.stop()
        bare_home = processes.home("bare")

        def start_bare() -> subprocess.Popen[str]:
            port = free_port()
            process = processes.start(
                ["-m", "bench.bare_daemon", str(bare_home / "bare.db"), str(port)], home=bare_home
            )
            wait_for_health(port)
            return process

        for _ in range(options.runs + 1):
            for daemon, name in ((empty, "empty"), (full, "full")):
                daemon.start()
                starts.setdefault(name, []).append(daemon.start_s)
                await daemon.ready()
                daemon.stop()
            begun = time.perf_counter()
            bare = start_bare()
            starts.setdefault("bare", []).append(time.perf_counter() - begun)
            processes.stop(bare)
            begun = time.perf_counter()
            relay = Relay(processes)
            starts.setdefault("relay", []).append(time.perf_counter() - begun)
            relay.stop()
        for values in starts.values():
            del values[0]  # the first start reads the programs from the disk
        relay = Relay(processes)
        bare = start_bare()
        empty.start()
        full.start()
        await empty.ready()
        await full.ready()
        await add_relay(empty, relay.invite())
        pids = {
            "empty": empty.process.pid, "full": full.process.pid, "relay": relay.process.pid, "bare": bare.pid,
        }  # fmt: skip
        await asyncio.sleep(rest_s / 2)  # what follows a start is over
        for _ in range(options.runs):
            for name, rest in (await _rest(pids, rest_s)).items():
                rests.setdefault(name, []).append(rest)
    return _figures(many, rest_s, starts, rests)


async def _fill(daemon: Daemon, count: int) -> None:
    for start in range(0, count, LOAD_PART):
        await daemon.write(write_requests(documents(min(LOAD_PART, count - start), seed=start + 1)))
    await daemon.sealed()


async def _rest(pids: dict[str, int], rest_s: float) -> dict[str, Rest]:
    before = {name: (fine_cpu_s(pid), use_of(pid)) for name, pid in pids.items()}
    start = time.perf_counter()
    await asyncio.sleep(rest_s)
    took = time.perf_counter() - start
    found = {}
    for name, pid in pids.items():
        cpu, use = fine_cpu_s(pid), use_of(pid)
        cpu_before, use_before = before[name]
        found[name] = Rest(
            use.rss_mib * 1.048576,
            (cpu - cpu_before) / took * 100,
            (use.switches - use_before.switches) / took,
            use.threads,
        )
    return found


def _figures(many: int, rest_s: float, starts: dict[str, list[float]], rests: dict[str, list[Rest]]) -> list[Figure]:
    bare = "bare aiohttp and SQLite"

    def of(name: str, which: int) -> list[float]:
        return [rest[which] for rest in rests[name]]

    figures = [
        Figure("daemon: cold start to the first answer", "s", starts["empty"], starts["bare"], bare, most=0.45),
        Figure(
            f"daemon with {many:,} documents: start after a clean stop", "s", starts["full"], starts["empty"],
            "the same daemon, empty", most=0.45,
        ),
        Figure("relay: cold start to the first answer", "s", starts["relay"], starts["bare"], bare),
    ]  # fmt: skip
    names = {"empty": "daemon, connected", "full": f"daemon with {many:,} documents", "relay": "relay, one connection"}
    for name, shown in names.items():
        limit = 0.1 if name != "relay" else None
        figures += [
            Figure(f"{shown}: memory at rest", "MB", of(name, 0), of("bare", 0), bare, most=60),
            Figure(
                f"{shown}: processor at rest", "%", of(name, 1), of("bare", 1), bare, most=limit,
                note=f"over {rest_s:g} s each", extra={"threads": rests[name][-1].threads},
            ),
            Figure(f"{shown}: context switches at rest", "1/s", of(name, 2), of("bare", 2), bare),
        ]  # fmt: skip
    return figures
