"""kill -9 at random moments while devices send each other messages: each arrives once, in order, and nothing else.

A relay and two daemons, real processes. Programs send through the API with ids of their own, and send again what
was not answered; a nemesis kills one process after another. At the end every message that was asked for is at the other
device, once, in the order in which it was answered per priority, and its sender knows.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol.errors import HybridGWError

from .machines import DeviceMachine, household, until

WAIT_S = 90.0


class Sender(threading.Thread):
    """Sends numbers to the other device, one after another; repeats one until it is answered."""

    def __init__(self, device: DeviceMachine, to: str) -> None:
        super().__init__(daemon=True)
        self.device, self.to = device, to
        self.sent: dict[str, list[int]] = {"bulk": [], "urgent": []}
        self.stop = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            priority = "urgent" if count % 3 == 0 else "bulk"
            body: dict[str, Any] = {
                "to": f"device:{self.to}", "type": "count", "body": count, "priority": priority, "id": _uuid7(),
            }  # fmt: skip
            while True:
                try:
                    with self.device.client(timeout_s=10) as client:
                        client.post("/api/messages", body)
                    break
                except HybridGWError:
                    time.sleep(0.02)
            self.sent[priority].append(count)
            time.sleep(0.005)


def _uuid7() -> str:
    bits = time.time_ns() // 1_000_000 << 80 | uuid.uuid4().int & ((1 << 80) - 1)
    return str(uuid.UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62))


def pages(device: DeviceMachine, box: str) -> list[dict[str, Any]]:
    """All of it, oldest first."""
    found: list[dict[str, Any]] = []
    with device.client(timeout_s=30) as client:
        cursor = None
        while True:
            page = client.get("/api/messages", box=box, limit=500, cursor=cursor)
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found[::-1]


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kills", [12, pytest.param(300, marks=pytest.mark.soak)])
def test_spec_R4_each_message_arrives_once_in_order(tmp_path: Path, kills: int) -> None:
    rng = random.Random(11)
    relay, a, b = household(tmp_path)
    with a.client(timeout_s=30) as client:
        names = [device["name"] for device in client.get("/api/devices")["items"]]
        own = next(d["name"] for d in client.get("/api/devices")["items"] if d["own"])
    other = next(name for name in names if name != own)
    senders = [Sender(a, other), Sender(b, own)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(kills):
            time.sleep(rng.choice((0.05, 0.2, 0.4)))
            machine = rng.choice([a, b, relay])
            machine.kill()
            machine.start()
        for sender in senders:
            sender.stop.set()
            sender.join(60)
        for sender, receiver in ((senders[0], b), (senders[1], a)):
            wanted = sorted(n for numbers in sender.sent.values() for n in numbers)
            assert len(wanted) > kills
            until(lambda w=wanted, r=receiver: len(pages(r, "in")) >= len(w), seconds=WAIT_S)  # type: ignore[misc]  # bound now
            arrived = pages(receiver, "in")
            assert sorted(m["body"] for m in arrived) == wanted
            for priority, numbers in sender.sent.items():
                assert [m["body"] for m in arrived if m["priority"] == priority and not m["gap"]] == [
                    n for n in numbers if n in {m["body"] for m in arrived if not m["gap"]}
                ]
            until(lambda s=sender: {m["state"] for m in pages(s.device, "out")} == {"delivered"}, seconds=WAIT_S)  # type: ignore[misc]
    finally:
        for machine in (a, b, relay):
            if machine.process is not None:
                machine.kill()
