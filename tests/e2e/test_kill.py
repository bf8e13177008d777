"""kill -9 at random moments while both devices write: nothing acknowledged is lost, nothing is half there.

A relay and two daemons, real processes. Two writers put documents through the API and note what was acknowledged; a
nemesis kills one process after another and starts it again. At the end both devices must come into step, hold every
acknowledged write in its last acknowledged form or a later one of the same writer, and equal each other.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest

from hybridgw_protocol.errors import HybridGWError

from .machines import DeviceMachine, household, until


class Writer(threading.Thread):
    """Writes a counter into documents of its own, one request after another; remembers what was asked and acked."""

    def __init__(self, device: DeviceMachine, prefix: str) -> None:
        super().__init__(daemon=True)
        self.device, self.prefix = device, prefix
        self.asked: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.stop = threading.Event()
        self.failures = 0

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            try:
                with self.device.client(timeout_s=10) as client:
                    while not self.stop.is_set():
                        count += 1
                        name = f"{self.prefix}{count % 50}"
                        self.asked[name] = count
                        client.put("counters", name, {"n": count, "by": self.prefix})
                        self.acked[name] = count
                        time.sleep(0.002)
            except HybridGWError:
                self.failures += 1
                time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kills", [200, pytest.param(2_000, marks=pytest.mark.soak)])
def test_nothing_acknowledged_is_lost(tmp_path: Path, kills: int) -> None:
    rng = random.Random(7)
    relay, a, b = household(tmp_path, forked=True)
    machines = [a, b, relay]
    writers = [Writer(a, "a"), Writer(b, "b")]
    for writer in writers:
        writer.start()
    try:
        for _ in range(kills):
            time.sleep(rng.choice((0.0, 0.01, 0.05, 0.1, 0.2)))
            machine = rng.choice(machines)
            machine.kill()
            machine.start()
        for writer in writers:
            writer.stop.set()
            writer.join(60)
        for device in (a, b):
            device.post("/api/sync/trigger", {"sync_type": "all", "wait": False})
        until(lambda: a.is_in_step() and b.is_in_step(), seconds=90, what="both in step")
        until(lambda: a.documents("counters") == b.documents("counters"), seconds=30, what="equal documents")
        found = a.documents("counters")
        for writer in writers:
            assert writer.failures > 0, "no kill ever met a writer"
            assert len(writer.acked) == 50, "the writer got nowhere"
            for name, count in writer.acked.items():
                assert count <= found[name]["n"] <= writer.asked[name], (name, count, found[name], writer.asked[name])
        assert a.get("/api/conflicts")["total"] == b.get("/api/conflicts")["total"] == 0
        for device in (a, b):
            alarms = device.get("/api/alarms")["items"]
            assert not alarms, json.dumps(alarms)
    finally:
        for machine in machines:
            if machine.process is not None:
                machine.kill()
