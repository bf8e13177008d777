"""How many single-operation batches a second a relay takes in from 200 devices, each checked and durable when
acknowledged.

The relay runs with its default limits. The devices do not subscribe, so that nothing is sent back to them but
acknowledgements; eight spaces of 25 devices, each device with two pushes under way.
"""

from __future__ import annotations

import json
from typing import Any

from .bare_relay import without_sockets
from .options import Options
from .processes import Processes, fine_cpu_s, use_of
from .report import Figure, medians
from .rig import Relay
from .spaces import BenchSpace

DEVICES = 200
PER_SPACE = 25
WINDOW = 2


async def measure(options: Options) -> list[Figure]:
    """Rounds of the relay, the bare hub and the signature checks, in turn."""
    batches = 60 if options.quick else 300
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    checked: list[float] = []
    for _ in range(options.runs):
        with Processes() as processes:
            relay = Relay(processes)
            links = [relay.invite() for _ in range(0, DEVICES, PER_SPACE)]
            cpu = fine_cpu_s(relay.process.pid)
            found = _load(processes, relay.url, batches, links)
            total = DEVICES * batches
            found["relay_cpu_us"] = (fine_cpu_s(relay.process.pid) - cpu) / total * 1e6
            found["relay_rss_mib"] = use_of(relay.process.pid).rss_mib
            ours.append(found)
        with Processes() as processes:
            _, port = processes.start_bare("bare_relay", str(processes.home() / "hub.db"))
            bare.append(_load(processes, f"http://127.0.0.1:{port}", batches, []))
        with Processes() as processes:
            space = BenchSpace(10)
            made = [(blob, device.public) for device in space.devices for blob in device.batches(space, batches * 2)]
            checked.append(without_sockets(str(processes.home() / "rows.db"), made))
    name = f"relay: single-operation batches from {DEVICES} devices"

    def of(rows: list[dict[str, float]], key: str) -> list[float]:
        return [row[key] for row in rows]

    extra = medians(ours)
    del extra["batches_per_s"], extra["p50_ms"]
    return [
        Figure(
            name, "batches/s", of(ours, "batches_per_s"), of(bare, "batches_per_s"), "bare WebSocket hub, no checks",
            least=8_000, extra=extra,
        ),
        Figure(
            f"{name}, beside the checks alone", "batches/s", of(ours, "batches_per_s"), checked,
            "signature and commit, one thread, no sockets",
        ),
        Figure(
            f"{name}, acknowledged, p50", "ms", of(ours, "p50_ms"), of(bare, "p50_ms"), "bare WebSocket hub, no checks"
        ),
    ]  # fmt: skip


def _load(processes: Processes, url: str, batches: int, links: list[str]) -> dict[str, Any]:
    home = processes.home("load")
    process = processes.start(
        ["-m", "bench.relay_load", url, str(DEVICES), str(PER_SPACE), str(batches), str(WINDOW), *links], home=home
    )
    process.wait()
    if process.returncode:
        processes.check(process, home)
    return json.loads((home / "stdout").read_text())  # type: ignore[no-any-return]
