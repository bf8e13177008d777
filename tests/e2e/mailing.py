"""Programs that send numbers from device to device, or from person to person, and what must have become of them."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridgw_protocol.errors import HybridGWError

from .machines import DeviceMachine, RelayMachine, household, until
from .pipes import Pipe

WAIT_S = 90.0


class Sender(threading.Thread):
    """Sends numbers to the other side, one after another; repeats one until it is answered."""

    def __init__(self, device: DeviceMachine, to: str, pause_s: float = 0.005) -> None:
        super().__init__(daemon=True)
        self.device, self.to, self.pause_s = device, to, pause_s
        self.sent: dict[str, list[int]] = {"bulk": [], "urgent": []}
        self.stop = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            priority = "urgent" if count % 3 == 0 else "bulk"
            body: dict[str, Any] = {
                "to": self.to, "type": "count", "body": count, "priority": priority, "id": _uuid7(),
            }  # fmt: skip
            while True:
                try:
                    with self.device.client(timeout_s=10) as client:
                        client.post("/api/messages", body)
                    break
                except HybridGWError:
                    time.sleep(0.02)
            self.sent[priority].append(count)
            time.sleep(self.pause_s)


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


@contextlib.contextmanager
def sending(root: Path, pipe: Pipe | None = None) -> Iterator[tuple[RelayMachine, DeviceMachine, DeviceMachine]]:
    """A relay and two devices whose programs send to each other all the while; at the end all of it is judged. Args:
    pipe: stands between."""
    if pipe is None:
        relay, a, b = household(root, forked=True)
    else:
        relay, a, b = household(root, pipe.port, pipe.leads_to)
    with _ended((a, b, relay)):
        devices = a.get("/api/devices")["items"]
        own, other = (next(d["name"] for d in devices if d["own"] is is_own) for is_own in (True, False))
        with _judged(Sender(a, f"device:{other}"), Sender(b, f"device:{own}")):
            yield relay, a, b


@contextlib.contextmanager
def writing(root: Path) -> Iterator[tuple[RelayMachine, Sender, Sender]]:
    """The same of two people, each with a space and an account on one relay. They write more slowly than the relay lets
    one person write to another."""
    relay, ada, bob = RelayMachine(root), DeviceMachine(root, "ada"), DeviceMachine(root, "bob")
    with _ended((ada, bob, relay)):
        relay.start()
        for person in (ada, bob):
            person.start()
            until(lambda person=person: person.get("/api/devices")["items"][0].get("fingerprint"), what="its keys")  # type: ignore[misc]
            person.post("/api/relays", {"link": relay.invite()})
            until(lambda person=person: person.is_in_step(), what="the relay")  # type: ignore[misc]
        ada.post("/api/contacts/address", {"name": "Ada"})
        address = bob.post("/api/contacts/address", {"name": "Bob"})["address"]
        until(lambda: ada.post("/api/contacts", {"address": address, "name": "bob"}), what="the other person")
        asked = until(lambda: bob.get("/api/contacts/requests")["items"], what="a request")
        bob.post(f"/api/contacts/{asked[0]['id']}/accept", {"name": "ada"})
        until(lambda: ada.get("/api/contacts/bob")["state"] == "accepted", what="the answer")
        with _judged(Sender(ada, "person:bob", 0.1), Sender(bob, "person:ada", 0.1)) as (a, b):
            yield relay, a, b


@contextlib.contextmanager
def _ended(machines: Sequence[RelayMachine | DeviceMachine]) -> Iterator[None]:
    try:
        yield
    finally:
        for machine in machines:
            if machine.process is not None:
                machine.kill()


@contextlib.contextmanager
def _judged(a: Sender, b: Sender) -> Iterator[tuple[Sender, Sender]]:
    for sender in (a, b):
        sender.start()
    try:
        yield a, b
        for sender in (a, b):
            sender.stop.set()
            sender.join(60)
        for sender, receiver in ((a, b.device), (b, a.device)):
            judge(sender, receiver)
    finally:
        for sender in (a, b):
            sender.stop.set()


def is_true_so_far(sender: Sender, receiver: DeviceMachine) -> bool:
    """What the sender is told has arrived is there. Raises: HybridGWError: one of them was just killed."""
    said = {m["body"] for m in pages(sender.device, "out") if m["state"] in ("delivered", "handled")}
    assert said <= {m["body"] for m in pages(receiver, "in")}
    return bool(said)


def judge(sender: Sender, receiver: DeviceMachine) -> None:
    """Everything that was answered is at the other device, once, in order per priority, and its sender knows."""
    wanted = sorted(n for numbers in sender.sent.values() for n in numbers)
    assert len(wanted) > 20
    until(lambda: len(pages(receiver, "in")) >= len(wanted), seconds=WAIT_S)
    arrived = pages(receiver, "in")
    assert sorted(m["body"] for m in arrived) == wanted
    for priority, numbers in sender.sent.items():
        in_turn: Sequence[int] = [m["body"] for m in arrived if m["priority"] == priority and not m["gap"]]
        assert in_turn == [n for n in numbers if n in set(in_turn)]
    until(lambda: {m["state"] for m in pages(sender.device, "out")} == {"delivered"}, seconds=WAIT_S)
