"""A device as far as discovery goes: `finder.py FOLDER PORT KEY [DENY] [ALLOW]`, run inside a test host.

Real Discovery, Nearby and database. Members of a space share KEY. Prints JSON lines: what may be tried, whenever that
changes. Commands on stdin: `add HOST:PORT`, `offer NAMEPLATE`, `end`, `find NAMEPLATE`, `renew`, `state`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from hybridgw_daemon.services.nearby import Nearby
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_daemon.transports.peers.discovery import Discovery, find_pairing
from hybridgw_daemon.transports.peers.interfaces import Choice
from hybridgw_protocol.errors import HybridGWError
from hybridgw_storage.database import SqliteDatabase
from hybridgw_storage.migrations import prepare_file


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def main(folder: Path, port: int, key: bytes, choice: Choice) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    prepare_file(folder / "replica.db", MIGRATIONS, stamp="test")
    database = SqliteDatabase(folder / "replica.db")
    clock = lambda: time.time_ns() // 1_000_000  # noqa: E731
    nearby = Nearby(database, clock=clock)

    def mark(instance: bytes) -> bytes:
        return hashlib.blake2b(instance, key=key, digest_size=8).digest()

    discovery = Discovery(
        nearby, port=port, mark=mark, recognise=lambda instance, k: mark(instance) == k, clock=clock,
        entropy=os.urandom, choice=choice,
    )  # fmt: skip
    nearby.on_change(lambda: say(candidates=[str(a) for a in nearby.candidates()]))
    task = asyncio.create_task(discovery.run())
    say(ready=os.getpid())
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, _, rest = line.strip().partition(" ")
        match command:
            case "add":
                try:
                    say(added=str(await nearby.add(rest)))
                except HybridGWError as error:
                    say(refused=error.message)
            case "offer":
                discovery.offer_pairing(int(rest))
                say(offered=rest)
            case "end":
                discovery.end_pairing()
                say(ended=True)
            case "find":
                found = await find_pairing(int(rest), timeout_s=5, choice=choice)
                say(offers=[str(address) for address in found])
            case "renew":
                discovery.renew()
                say(renewed=True)
            case "state":
                say(
                    state={
                        "announced_on": sorted(discovery.announced_on), "failures": discovery.failures,
                        "resident_bytes": resident_bytes(), "cpu_s": time.process_time(), "died": task.done(),
                        "candidates": [str(a) for a in nearby.candidates()],
                    }
                )  # fmt: skip
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await database.close()


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "", ""]
    lists = [tuple(filter(None, text.split(","))) for text in arguments[3:5]]
    choice = Choice(deny=lists[0], allow=lists[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(arguments[0]), int(arguments[1]), arguments[2].encode(), choice))
