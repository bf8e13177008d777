"""A device's 100,000 documents to an empty device through a relay, then updates of all of them in random order.

The first device writes while it knows no relay; the clock runs from the call that adds the relay (connect, authenticate
and compare are in it) until the last document is durable in the second device's file. The raw limit sends the same
documents, deflated, through bare programs: `bench.bare_sync`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from . import bare_sync
from .documents import Pair, deflated_bytes, documents, write_requests
from .options import Options
from .processes import Processes, fine_cpu_s, use_of
from .report import Figure, medians
from .rig import Daemon, Relay, paired


class Run(NamedTuple):
    """One way from device to device. wire_bytes: both hops, both directions."""

    docs_per_s: float
    wire_bytes: float
    extra: dict[str, float]


async def measure(options: Options) -> list[Figure]:
    """Every round with new homes for all three."""
    pairs = documents(20_000 if options.quick else 100_000)
    changes: list[Pair] = [(document, {"done": True, "minutes": 1_000}) for document, _ in pairs]
    random.Random(3).shuffle(changes)
    cold: list[Run] = []
    updates: list[Run] = []
    bare_cold: list[float] = []
    bare_updates: list[float] = []
    for _ in range(options.runs):
        with Processes() as processes:
            first, second = await _round(processes, pairs, changes)
        cold.append(first)
        updates.append(second)
        with Processes() as processes:
            bare_cold.append(_bare(processes, pairs))
        with Processes() as processes:
            bare_updates.append(_bare(processes, changes, held=pairs))
    count = len(pairs)
    deflated = 2 * deflated_bytes(pairs)
    name = f"{count:,} documents of 200 bytes, device to relay to empty device"
    return [
        Figure(
            name, "docs/s", [r.docs_per_s for r in cold], bare_cold, "bench.bare_sync", least=30_000,
            note="goal 45,000", extra=medians([r.extra for r in cold]),
        ),
        Figure(
            "the same, on the wire, both hops", "bytes/doc", [r.wire_bytes / count for r in cold],
            [deflated / count], "twice the deflated documents", most_ratio=1.2,
        ),
        Figure(
            f"updates of all {count:,} in random order", "docs/s", [r.docs_per_s for r in updates], bare_updates,
            "bench.bare_sync", least=20_000, extra=medians([r.extra for r in updates]),
        ),
    ]  # fmt: skip


async def _round(processes: Processes, pairs: Sequence[Pair], changes: Sequence[Pair]) -> tuple[Run, Run]:
    relay, (a, b) = await paired(processes)
    runs = []
    for content, op in ((pairs, "create"), (changes, "patch")):
        await _apart(a, relay)
        begun = time.perf_counter()
        if await a.write(write_requests(content, op)) != len(content):
            raise RuntimeError("not all documents were written")
        written = time.perf_counter() - begun
        await a.sealed()
        runs.append(await _sync(relay, a, b, len(content), len(content) / written))
        left, right = a.watch(), b.watch()
        if left.rows() != right.rows():
            raise RuntimeError("the two devices differ")
        left.close()
        right.close()
    return runs[0], runs[1]


async def _apart(daemon: Daemon, relay: Relay) -> None:
    await daemon.api.call("DELETE", f"/api/relays?url={quote(relay.url, safe='')}")
    await daemon.alone()


async def _sync(relay: Relay, a: Daemon, b: Daemon, count: int, written_per_s: float) -> Run:
    watch = b.watch()
    target = watch.changes() + count
    before = await _wire_bytes(b)
    pids = {"device A": a.process.pid, "relay": relay.process.pid, "device B": b.process.pid}
    used = {name: fine_cpu_s(pid) for name, pid in pids.items()}
    start = time.perf_counter()
    adding = asyncio.create_task(a.api.call("POST", "/api/relays", {"link": relay.url}))
    end = await watch.until(target)
    cpu = {f"CPU s {name}": fine_cpu_s(pid) - used[name] for name, pid in pids.items()}
    await adding
    watch.close()
    await a.settled()
    await b.settled()
    wire = await _wire_bytes(a) + await _wire_bytes(b) - before
    memory = {f"MiB {name}": use_of(pid).rss_mib for name, pid in pids.items()}
    extra = {"seconds": end - start, **cpu, **memory, "local writes/s before": written_per_s}
    return Run(count / (end - start), wire, extra)


async def _wire_bytes(daemon: Daemon) -> int:
    """Frames of the present connection, both directions; not the WebSocket's own 2 to 14 bytes a frame."""
    return sum(relay["sent_bytes"] + relay["received_bytes"] for relay in (await daemon.status())["relays"])


def _bare(processes: Processes, content: Sequence[Pair], held: Sequence[Pair] = ()) -> float:
    source, target = processes.home() / "source.db", processes.home() / "target.db"
    bare_sync.write_blobs(source, content)
    if held:
        bare_sync.write_documents(target, held)
    _, port = processes.start_bare("bare_sync", "relay", str(processes.home() / "relay.db"))
    home = processes.home("receiver")
    receiver = processes.start(
        ["-m", "bench.bare_sync", "receiver", str(target), str(port), str(len(content))], home=home
    )
    processes.first_line(receiver, home)
    sender_home = processes.home("sender")
    sender = processes.start(["-m", "bench.bare_sync", "sender", str(source), str(port)], home=sender_home)
    started = float(processes.first_line(sender, sender_home))
    receiver.wait(120)
    ended = float(_last_line(home / "stdout"))
    return len(content) / (ended - started)


def _last_line(path: Path) -> str:
    return path.read_text().splitlines()[-1]
