"""One isolated edit, from the call on one device to the event on the other: durable at both and at the relay by then.

Edits are further apart than the sealing window. The raw limit is the same way through bare programs with the same three
commits (`bench.bare_edit`), rounds of both in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from .documents import COLLECTION, documents
from .load import Connection, encode_request
from .options import Options
from .processes import Processes, until
from .report import Figure, percentile
from .rig import Daemon, paired

EDITS = 200
PAUSE_S = (0.026, 0.060)  # at random between; sealing waits up to 20 ms if something was sealed just now
ARRIVAL_S = 10.0
DOCUMENTS = 20


class Way:
    """From one side to the other: a connection that edits, and one that listens."""

    def __init__(self, editing: Connection, listening: Connection, patch: Callable[[int], bytes]) -> None:
        self._editing, self._listening, self._patch = editing, listening, patch
        self._arrived: dict[bytes, asyncio.Future[float]] = {}

    @contextlib.asynccontextmanager
    async def open(self, listen: bytes) -> AsyncIterator[None]:
        """Listen while the block runs."""
        ready = asyncio.Event()
        task = asyncio.create_task(self._listen(listen, ready))
        await until(ready, ARRIVAL_S, "the event stream")
        try:
            yield
        finally:
            task.cancel()
            self._editing.close()
            self._listening.close()

    async def _listen(self, request: bytes, ready: asyncio.Event) -> None:
        async for line in self._listening.lines(request):
            ready.set()
            now = time.perf_counter()
            if line.startswith(b"data:"):
                for mark, future in list(self._arrived.items()):
                    if mark in line:
                        future.set_result(now)
                        del self._arrived[mark]

    async def edit(self, number: int) -> tuple[float, float]:
        """Returns seconds until the edit was acknowledged here, and until it was there."""
        mark = b'"minutes":%d,' % number
        arrival = self._arrived[mark] = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        await self._editing.call(self._patch(number))
        acknowledged = time.perf_counter()
        async with asyncio.timeout(ARRIVAL_S):
            end = await arrival
        return acknowledged - start, end - start


async def measure(options: Options) -> list[Figure]:
    """Rounds of EDITS each, through both, over the same processes."""
    count = EDITS // 4 if options.quick else EDITS
    ours: list[list[tuple[float, float]]] = []
    bare: list[list[tuple[float, float]]] = []
    syncs: list[float] = []
    with Processes() as processes:
        _, (a, b) = await paired(processes)
        way = await product_way(a, b)
        raw_way, raw_listen = await bare_way(bare_devices(processes))
        rng = random.Random(5)
        async with way[0].open(way[1]), raw_way.open(raw_listen):
            number = 10_000
            for round_ in range(options.runs + 1):
                for of, results in ((way[0], ours), (raw_way, bare)):
                    found = []
                    for _ in range(count if round_ else 20):
                        number += 1
                        found.append(await of.edit(number))
                        await asyncio.sleep(rng.uniform(*PAUSE_S))
                    if round_:  # the first one warms up
                        results.append(found)
                if round_:
                    syncs.append(_sync_ms(processes.home() / "sync"))

    def figure(name: str, which: int, share: float, most: float | None) -> Figure:
        def of(rounds: list[list[tuple[float, float]]]) -> list[float]:
            return [percentile([edit[which] for edit in found], share) * 1000 for found in rounds]

        return Figure(name, "ms", of(ours), of(bare), "bench.bare_edit", most=most)

    return [
        Figure("one sync of 4 KiB to the disk, p50; an edit has three", "ms", syncs),
        figure("one edit, device to relay to device, durable at all, p50", 1, 0.5, 4.0),
        figure("one edit, device to relay to device, durable at all, p99", 1, 0.99, 30.0),
        figure("the same edit acknowledged on its own device, p50", 0, 0.5, None),
    ]


def _sync_ms(path: Path) -> float:
    """The median of 50 syncs to the disk, as far apart as edits are."""
    took: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(os.urandom(4096))
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
            time.sleep(PAUSE_S[0])
    return percentile(took, 0.5) * 1000


async def product_way(a: Daemon, b: Daemon) -> tuple[Way, bytes]:
    """The way of an edit from one device to another, and the request that listens there."""
    pairs = documents(DOCUMENTS)
    for document, data in pairs:
        await a.api.call("PUT", f"/api/data/{COLLECTION}/{document}", data)
    await a.settled()
    await b.settled()
    ids = [document for document, _ in pairs]

    def patch(number: int) -> bytes:
        path = f"/api/data/{COLLECTION}/{ids[number % DOCUMENTS]}"
        return a.api.request("PATCH", path, b'{"minutes":%d,"title":"edited"}' % number)

    way = Way(await Connection.open(a.port), await Connection.open(b.port), patch)
    return way, b.api.request("GET", "/api/events")


def bare_devices(processes: Processes) -> tuple[int, int]:
    """The ports of two bare devices at a bare relay."""
    _, relay = processes.start_bare("bare_sync", "relay", str(processes.home() / "relay.db"))
    _, a = processes.start_bare("bare_edit", str(processes.home() / "a.db"), str(relay))
    _, b = processes.start_bare("bare_edit", str(processes.home() / "b.db"), str(relay))
    return a, b


def bare_direct(processes: Processes) -> tuple[int, int]:
    """The ports of two bare devices without a relay."""
    _, a = processes.start_bare("bare_edit", str(processes.home() / "a.db"), "0")
    _, b = processes.start_bare("bare_edit", str(processes.home() / "b.db"), str(a))
    return a, b


async def bare_way(ports: tuple[int, int]) -> tuple[Way, bytes]:
    """The way of an edit from one bare device to another, and the request that listens there."""
    a, b = ports

    def patch(number: int) -> bytes:
        return encode_request("PATCH", a, f"/{number % DOCUMENTS}", b'{"minutes":%d,"title":"edited"}' % number)

    way = Way(await Connection.open(a), await Connection.open(b), patch)
    return way, encode_request("GET", b, "/events")
