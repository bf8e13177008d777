"""The WebSocket hub beside a bare one on uvloop, same run: routing, fan-out, connecting, idle memory, patches."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from .documents import documents
from .load import encode_request, flood
from .options import Options
from .processes import ROOT, Processes
from .report import Figure
from .rig import Daemon

COUNTS: Final = {"rtt": 4_000, "flood": 60_000, "fanout": 3_000, "connects": 3_000, "idle": 2_000, "patch": 12_800}
WRITERS: Final = 64


async def measure(options: Options) -> list[Figure]:
    """Rounds of both hubs in turn."""
    ours: dict[str, list[Any]] = {kind: [] for kind in COUNTS}
    bare: dict[str, list[Any]] = {kind: [] for kind in COUNTS}
    for _ in range(options.runs):
        with Processes() as processes:
            hub, port = processes.start_bare("bare_ws_hub")
            daemon = Daemon(processes)
            await daemon.ready()
            for kind, count in COUNTS.items():
                few = count // 4 if options.quick and kind != "idle" else count
                if kind == "patch":
                    bare[kind].append([await _http_writes(daemon, few)])
                    await daemon.sealed()  # what the creates left to do must not count for the patches
                else:
                    bare[kind].append(await _load(kind, port, "-", few, hub.pid))
                ours[kind].append(await _load(kind, daemon.port, daemon.api.token, few, daemon.process.pid))
    raw = "bench.bare_ws_hub"
    p50 = Figure(
        "routed message of 256 bytes, p50", "us", [a * 1e6 for a, _ in ours["rtt"]], [a * 1e6 for a, _ in bare["rtt"]],
        raw, most_ratio=1.2, extra={
            "p99": sorted(b for _, b in ours["rtt"])[len(ours["rtt"]) // 2] * 1e6,
            "p99 raw": sorted(b for _, b in bare["rtt"])[len(bare["rtt"]) // 2] * 1e6,
        },
    )  # fmt: skip
    return [
        p50,
        Figure("routed messages, 64 in flight", "messages/s", ours["flood"], bare["flood"], raw, least_ratio=0.6),
        Figure("fan-out to 200 clients", "deliveries/s", ours["fanout"], bare["fanout"], raw, least_ratio=0.6),
        Figure("WebSocket connects with auth", "connects/s", ours["connects"], bare["connects"], raw, least=2_000),
        Figure("idle client of 2,000, memory", "KiB", ours["idle"], bare["idle"], raw, most=20),
        Figure(
            "patches through the WebSocket, durable, 64 clients", "patches/s", [a for a, _ in ours["patch"]],
            [a for (a,) in bare["patch"]], "creates over HTTP, 64 clients", least_ratio=0.85,
            extra={"p50 ms": sorted(b for _, b in ours["patch"])[len(ours["patch"]) // 2] * 1e3},
        ),
    ]  # fmt: skip


async def _load(kind: str, port: int, token: str, count: int, pid: int) -> Any:
    """One load from a process of its own. Raises: RuntimeError: what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.ws_load", kind, str(port), token, str(count), str(pid), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await asyncio.wait_for(process.communicate(), 120)
    if process.returncode:
        raise RuntimeError(f"the load {kind} failed: {said.decode()[-2_000:]}")
    return json.loads(out)


async def _http_writes(daemon: Daemon, count: int) -> float:
    """Creates per second over HTTP, as the scenario `writes` measures them."""
    bodies = [json.dumps(data, separators=(",", ":")).encode() for _, data in documents(count)]
    requests = [encode_request("POST", daemon.port, "/api/data/bench", body, daemon.api.token) for body in bodies]
    per_s, _ = await flood(daemon.port, [requests[k::WRITERS] for k in range(WRITERS)])
    return per_s
