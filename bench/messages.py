"""Messages: between programs of one machine, from device to device through a relay, and to a device that returns.

Stored messages are durable before they are answered, and shown until they are acknowledged; the raw limit is a bare hub
that commits the same rows (`bench.bare_message_hub`). From device to device they are durable at three places; the raw
limit is an edit's way through bare programs (`bench.bare_edit`), which has the same three commits.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from typing import Any, Final

from .edit import bare_devices, bare_way
from .load import Connection, encode_request, flood
from .options import Options
from .processes import ROOT, Processes
from .report import Figure, percentile
from .rig import POLL_S, SETTLED_S, Daemon, paired

COUNTS: Final = {"one": 2_000, "many": 40_000, "arrive": 300, "pair": 20_000, "drain": 10_000}
PLAIN: Final = 60_000
WRITERS: Final = 64
RAW: Final = "bench.bare_message_hub, same rows"


async def measure(options: Options) -> list[Figure]:
    """Rounds of ours and the bare ones in turn."""
    counts = {kind: count // 4 if options.quick else count for kind, count in COUNTS.items()}
    counts["drain"] = COUNTS["drain"]
    plain: tuple[list[float], list[float]] = ([], [])
    found: dict[str, list[Any]] = {}
    for _ in range(options.runs):
        with Processes() as processes:
            await _here(processes, counts, PLAIN // 4 if options.quick else PLAIN, plain, found)
        with Processes() as processes:
            await _between(processes, counts, found)
        with Processes() as processes:
            for name, value in (await _drain(processes, counts["drain"])).items():
                found.setdefault(name, []).append(value)

    def p50(name: str, scale: float) -> list[float]:
        return [percentile(times, 0.5) * scale for times in found[name]]

    def p99(name: str, scale: float) -> float:
        return percentile([percentile(times, 0.99) for times in found[name]], 0.5) * scale

    return [
        Figure("message between programs, not stored, 64 in flight", "messages/s", plain[0], plain[1],
               "bench.bare_ws_hub", least_ratio=0.6),
        Figure("stored message, one in flight, until it is answered, p50", "us", p50("one", 1e6), p50("one same", 1e6),
               RAW, most_ratio=1.3, extra={"p99": p99("one", 1e6), "p99 raw": p99("one same", 1e6),
                                           "p50 raw, one row": percentile(p50("one one", 1e6), 0.5)}),
        Figure("stored messages, 64 in flight, shown and acknowledged too", "messages/s", found["many"],
               found["many same"], RAW, least_ratio=0.5,
               extra={"raw, one row": percentile(found["many one"], 0.5)}),
        Figure("message, device to relay to device, durable at all, until it is shown, p50", "ms",
               p50("arrive", 1e3), p50("arrive raw", 1e3), "bench.bare_edit", most=5.0,
               extra={"p99": p99("arrive", 1e3), "p99 raw": p99("arrive raw", 1e3)}),
        Figure("messages from one device to another through a relay, until they are shown", "messages/s",
               found["pair"], found["pair raw"], "bench.bare_edit, 64 in flight", least=5_000),
        Figure(f"{counts['drain']:,} messages that waited, until a returning device has all", "s", found["drain"],
               most=3.0, extra={"from the start of its daemon": percentile(found["drain from start"], 0.5)}),
        Figure("the urgent one sent last, until the returning device has it", "ms", found["urgent"], most=100.0),
    ]  # fmt: skip


async def _here(
    processes: Processes, counts: dict[str, int], plain_count: int, plain: tuple[list[float], list[float]],
    found: dict[str, list[Any]],
) -> None:  # fmt: skip
    """One daemon, and bare hubs."""
    hub, hub_port = processes.start_bare("bare_ws_hub")
    daemon = Daemon(processes)
    await daemon.ready()
    token = daemon.api.token
    plain[1].append(await _run("ws_load", "flood", hub_port, "-", plain_count, hub.pid))
    plain[0].append(await _run("ws_load", "flood", daemon.port, token, plain_count, daemon.process.pid))
    for kind in ("one", "many"):
        for rows, mark in (("same", "-"), ("one", "one")):
            process, port = processes.start_bare("bare_message_hub", str(processes.home() / "hub.db"), rows)
            result = await _run("message_load", kind, counts[kind], port, mark, port, mark, "-")
            found.setdefault(f"{kind} {rows}", []).append(result)
            processes.stop(process)
        ends = (daemon.port, token, daemon.port, token)
        found.setdefault(kind, []).append(
            await _run("message_load", kind, counts[kind], *ends, "client:reader@here")
        )  # fmt: skip


async def _between(processes: Processes, counts: dict[str, int], found: dict[str, list[Any]]) -> None:
    """Two daemons and a relay, and the bare way."""
    _, (a, b) = await paired(processes)
    devices = (await a.api.call("GET", "/api/devices"))["items"]
    other = next(device["name"] for device in devices if not device["own"])
    ends = (a.port, a.api.token, b.port, b.api.token)
    target = f"client:reader@{other}"
    way, listen = await bare_way(bare_devices(processes))
    found.setdefault("arrive", []).append(await _run("message_load", "arrive", counts["arrive"], *ends, target))
    times = []
    async with way.open(listen):
        for number in range(10_000, 10_000 + counts["arrive"]):
            times.append((await way.edit(number))[1])
            await asyncio.sleep(0.01)
    found.setdefault("arrive raw", []).append(sorted(times))
    found.setdefault("pair", []).append(await _run("message_load", "many", counts["pair"], *ends, target))
    found.setdefault("pair raw", []).append(await _bare_pair(processes, counts["pair"]))


async def _bare_pair(processes: Processes, count: int) -> float:
    """Edits per second through the bare way, WRITERS at a time, until the last one is there."""
    a, b = bare_devices(processes)
    requests = [encode_request("PATCH", a, f"/{n % 20}", b'{"minutes":%d,"title":"x"}' % n) for n in range(count)]
    reading = await Connection.open(b)
    seen, started = 0, asyncio.Event()

    async def read() -> None:
        nonlocal seen
        async for line in reading.lines(encode_request("GET", b, "/events")):
            started.set()
            seen += line.startswith(b"data:")
            if seen >= count:
                return

    task = asyncio.create_task(read())
    await started.wait()
    begun = time.perf_counter()
    await flood(a, [requests[k::WRITERS] for k in range(WRITERS)])
    async with asyncio.timeout(SETTLED_S):
        await task
    reading.close()
    return count / (time.perf_counter() - begun)


async def _drain(processes: Processes, count: int) -> dict[str, float]:
    """A device is away while messages are sent to it; it returns."""
    relay, (a, b) = await paired(processes)
    devices = (await a.api.call("GET", "/api/devices"))["items"]
    other = next(device["name"] for device in devices if not device["own"])
    b.stop()
    connection = await Connection.open(a.port)
    for number in range(count + 1):
        body = {"type": "bench", "to": f"all@{other}", "priority": "bulk" if number < count else "urgent",
                "body": {"text": "x" * 100, "number": number}}  # fmt: skip
        await connection.call(a.api.request("POST", "/api/messages", json.dumps(body).encode()))
    connection.close()
    kept = sqlite3.connect(f"file:{relay.home / 'relay.db'}?mode=ro", uri=True, isolation_level=None)
    await _until(lambda: kept.execute("SELECT count(*) FROM mail").fetchone()[0] >= count + 1)
    there = sqlite3.connect(f"file:{b.database}?mode=ro", uri=True, isolation_level=None)
    begun = time.perf_counter()
    process = asyncio.create_task(asyncio.to_thread(b.start))
    said = relay.home / "stderr"
    before = said.read_text().count('"event": "connected"')
    met = urgent = end = 0.0
    while not end:
        now = time.perf_counter()
        if not met and said.read_text().count('"event": "connected"') > before:
            met = now
        if not urgent and there.execute("SELECT 1 FROM message WHERE priority = 3").fetchone():
            urgent = now
        if there.execute("SELECT count(*) FROM message").fetchone()[0] >= count + 1:
            end = now
        if now - begun > SETTLED_S:
            raise TimeoutError("the messages did not come")
        await asyncio.sleep(POLL_S)
    await process
    kept.close()
    there.close()
    return {"drain": end - met, "drain from start": end - begun, "urgent": (urgent - met) * 1e3}


async def _until(holds: Any) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the relay did not get the messages")
        await asyncio.sleep(0.05)


async def _run(module: str, *arguments: object) -> Any:
    """One load from a process of its own. Raises: RuntimeError: what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"bench.{module}", *map(str, arguments), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await asyncio.wait_for(process.communicate(), 180)
    if process.returncode:
        raise RuntimeError(f"the load {arguments[0]} failed: {said.decode()[-2_000:]}")
    return json.loads(out)
