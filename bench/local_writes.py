"""Acknowledged local writes through the HTTP API, each durable when it is answered, beside the bare hub."""

from __future__ import annotations

import json

from .documents import COLLECTION, documents
from .load import encode_request, flood
from .options import Options
from .processes import Processes
from .report import Figure, percentile
from .rig import Daemon

CLIENTS = (1, 64)
WARM_UP = 200


async def measure(options: Options) -> list[Figure]:
    """Rounds of both hubs in turn, each with a fresh file per round; writes of 200 bytes each."""
    total = {1: 1_000 if options.quick else 3_000, 64: 6_400 if options.quick else 19_200}
    ours: dict[int, list[tuple[float, float, float]]] = {n: [] for n in CLIENTS}
    bare: dict[int, list[tuple[float, float, float]]] = {n: [] for n in CLIENTS}
    for _ in range(options.runs):
        with Processes() as processes:
            _, port = processes.start_bare("hub", str(processes.home("hub") / "hub.db"))
            daemon = Daemon(processes)
            await daemon.ready()
            for port_, token, results in ((port, "", bare), (daemon.port, daemon.api.token, ours)):
                await _round(port_, token, 1, WARM_UP)
                for clients in CLIENTS:
                    results[clients].append(await _round(port_, token, clients, total[clients]))
    figures = []
    for clients in CLIENTS:
        name = f"local writes, acknowledged, {clients} client{'s' if clients > 1 else ''}"
        rate = Figure(
            name, "writes/s", [r for r, _, _ in ours[clients]], [r for r, _, _ in bare[clients]], "bench.hub",
            least_ratio=0.6 if clients == 64 else None,
        )  # fmt: skip
        p50 = Figure(
            f"{name}, p50", "ms", [t for _, t, _ in ours[clients]], [t for _, t, _ in bare[clients]], "bench.hub",
            most_ratio=1.3 if clients == 1 else None,
        )  # fmt: skip
        p99 = Figure(f"{name}, p99", "ms", [t for *_, t in ours[clients]], [t for *_, t in bare[clients]], "bench.hub")
        figures += [rate, p50, p99]
    return figures


async def _round(port: int, token: str, clients: int, total: int) -> tuple[float, float, float]:
    bodies = [json.dumps(data, separators=(",", ":")).encode() for _, data in documents(total)]
    requests = [encode_request("POST", port, f"/api/data/{COLLECTION}", body, token) for body in bodies]
    per_s, times = await flood(port, [requests[k::clients] for k in range(clients)])
    return per_s, percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000
