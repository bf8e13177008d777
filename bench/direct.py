"""Two devices that reach each other directly: all documents of one to the other, one edit; and eight of them at once.

No relay runs. Devices are paired on the spot, by the address that each is told, on loopback.
"""

from __future__ import annotations

import asyncio
import random
import time

from .documents import COLLECTION, documents, write_requests
from .edit import ARRIVAL_S, PAUSE_S, bare_direct, bare_way, product_way
from .options import Options
from .processes import Processes, fine_cpu_s, free_port
from .report import Figure, percentile
from .rig import POLL_S, SETTLED_S, Daemon, pair

EDITS = 200
HOUSEHOLD = 8


async def measure(options: Options) -> list[Figure]:
    """Every round with new homes."""
    count = 20_000 if options.quick else 100_000
    cold: list[float] = []
    extra: dict[str, float] = {}
    edits: list[tuple[list[float], list[float]]] = []
    for _ in range(options.runs):
        with Processes() as processes:
            rate, extra = await _cold(processes, count)
            cold.append(rate)
        with Processes() as processes:
            edits.append(await _edits(processes, EDITS // 4 if options.quick else EDITS))
    with Processes() as processes:
        sent = await _household(processes)

    def edit(name: str, share: float, most: float | None) -> Figure:
        ours, raw = ([percentile(found, share) * 1000 for found in rounds] for rounds in zip(*edits, strict=True))
        name = f"one edit, device to device directly, durable at both, {name}"
        return Figure(name, "ms", ours, raw, "bench.bare_edit", most=most)

    return [
        Figure(f"{count:,} documents of 200 bytes, device to device directly", "docs/s", cold, extra=extra),
        edit("p50", 0.5, 3.0),
        edit("p99", 0.99, None),
        Figure(
            f"edits on one of {HOUSEHOLD} devices: batches sent in all, per batch and other device", "times", [sent],
            most=1.2,
        ),
    ]  # fmt: skip


def _daemon(processes: Processes) -> tuple[Daemon, str]:
    """A daemon that listens on loopback and is announced nowhere, and its address."""
    port = free_port()
    environment = {
        "HYBRIDGW_LAN_ENABLED": "true", "HYBRIDGW_LAN_HOST": "127.0.0.1", "HYBRIDGW_LAN_PORT": str(port),
        "HYBRIDGW_LAN_INTERFACES_ALLOW": "none",
    }  # fmt: skip
    return Daemon(processes, environment=environment), f"127.0.0.1:{port}"


async def _listening(daemon: Daemon) -> None:
    await daemon.ready()
    while not (await daemon.api.call("GET", "/api/lan"))["port"]:  # noqa: ASYNC110 - of another process
        await asyncio.sleep(POLL_S)


async def _two(processes: Processes) -> tuple[Daemon, Daemon]:
    """Paired without a relay, connected."""
    (a, address), (b, _) = _daemon(processes), _daemon(processes)
    for daemon in (a, b):
        await _listening(daemon)
    await b.api.call("POST", "/api/lan/addresses", {"address": address})
    await pair(a, b)
    return a, b


async def _cold(processes: Processes, count: int) -> tuple[float, dict[str, float]]:
    a, b = await _two(processes)
    b.stop()
    pairs = documents(count)
    if await a.write(write_requests(pairs)) != count:
        raise RuntimeError("not all documents were written")
    await a.sealed()
    watch = b.watch()
    before = watch.changes()
    b.process = b.start()
    used = {daemon: fine_cpu_s(daemon.process.pid) for daemon in (a, b)}
    began = time.perf_counter()
    while watch.changes() == before:
        if time.perf_counter() - began > SETTLED_S:
            raise TimeoutError("nothing came")
        await asyncio.sleep(POLL_S)
    start, first = time.perf_counter(), watch.changes()  # a whole frame of them, which the rate leaves out
    end = await watch.until(before + count)
    cpu = {f"CPU s device {name}": fine_cpu_s(d.process.pid) - used[d] for name, d in (("A", a), ("B", b))}
    left = a.watch()
    if left.rows() != watch.rows():
        raise RuntimeError("the two devices differ")
    left.close()
    watch.close()
    return (before + count - first) / (end - start), {
        "seconds": end - start,
        "until the first change, s": start - began,
        **cpu,
    }


async def _edits(processes: Processes, count: int) -> tuple[list[float], list[float]]:
    """What an edit takes with the product, and through bare programs beside it, in turn."""
    a, b = await _two(processes)
    way, listen = await product_way(a, b)
    bare, bare_listen = await bare_way(bare_direct(processes))
    rng, found, raw = random.Random(5), list[float](), list[float]()
    async with way.open(listen), bare.open(bare_listen):
        for number in range(10_000, 10_020 + count):
            for of, results in ((way, found), (bare, raw)):
                _, took = await of.edit(number)
                if number >= 10_020:  # the first ones warm up
                    results.append(took)
                await asyncio.sleep(rng.uniform(*PAUSE_S))
    return found, raw


async def _household(processes: Processes) -> float:
    """Everybody knows everybody's address; one edits. Returns: batches sent in all, per batch and other device."""
    daemons = [_daemon(processes) for _ in range(HOUSEHOLD)]
    first, address = daemons[0]
    for daemon, _ in daemons:
        await _listening(daemon)
    for daemon, _ in daemons[1:]:
        await daemon.api.call("POST", "/api/lan/addresses", {"address": address})
        await pair(first, daemon)
    for daemon, own in daemons:
        for _, other in daemons:
            if other not in (own, address):
                await daemon.api.call("POST", "/api/lan/addresses", {"address": other})
    deadline = time.monotonic() + SETTLED_S
    while not all([len((await d.status())["direct"]) == HOUSEHOLD - 1 for d, _ in daemons]):
        if time.monotonic() > deadline:
            raise TimeoutError("not all devices are connected with all")
        await asyncio.sleep(0.1)
    before = await _sent(daemons)
    pairs = documents(EDITS)
    for document, data in pairs:
        await first.api.call("PUT", f"/api/data/{COLLECTION}/{document}", data)
        await asyncio.sleep(PAUSE_S[0])
    for daemon, _ in daemons:
        await daemon.settled()
    await asyncio.sleep(ARRIVAL_S / 5)
    return (await _sent(daemons) - before) / (EDITS * (HOUSEHOLD - 1))


async def _sent(daemons: list[tuple[Daemon, str]]) -> float:
    """Batches that went over direct links, in all."""
    return float(sum([sum(link["sent"] for link in (await d.status())["direct"]) for d, _ in daemons]))
