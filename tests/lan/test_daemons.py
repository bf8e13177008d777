"""Two daemons on one network and nothing else: paired by code, in step; the cable out and in, another address; and what
an eavesdropper sees of it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.core.words import words_to_seed
from tests.e2e.machines import DeviceMachine, pair, until

from . import wire
from .network import Host, Lab, settle

BOUND_S = 40.0  # a second or two on an idle machine, which the tests print; less than the longest pause between tries


class Machine(DeviceMachine):
    """A daemon on a host of the lab; this test speaks with it over the host's own loopback."""

    def __init__(self, root: Path, name: str, host: Host) -> None:
        super().__init__(root, name)
        self.host = host
        self.arguments = ["ip", "netns", "exec", host.namespace, *self.arguments]
        self.extra["HYBRIDGW_LAN_ENABLED"] = "true"

    def get(self, path: str, **query: Any) -> Any:
        with wire.inside(self.host.namespace):
            return super().get(path, **query)

    def post(self, path: str, body: Any = None) -> Any:
        with wire.inside(self.host.namespace):
            return super().post(path, body)

    def documents(self, collection: str) -> dict[str, Any]:
        with wire.inside(self.host.namespace):
            return super().documents(collection)

    def put(self, collection: str, name: str, data: dict[str, Any]) -> None:
        """Write a document."""
        with wire.inside(self.host.namespace), self.client() as client:
            client.put(collection, name, data)

    @property
    def path(self) -> str:
        """The way in use."""
        return str(self.get("/api/sync/status")["path"])


@pytest.fixture
def two(lab: Lab, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one network, running, with keys."""
    network = lab.network()
    machines = [Machine(tmp_path, name, network.host(f"10.77.0.{k}/24")) for k, name in ((1, "a"), (2, "b"))]
    try:
        for machine in machines:
            machine.start()
        for machine in machines:
            until(lambda machine=machine: machine.get("/api/lan")["port"], what="direct links")
        yield machines[0], machines[1]
    finally:
        for machine in machines:
            if machine.process is not None:
                machine.kill()


def seconds(holds: Callable[[], Any], within_s: float, what: str) -> float:
    """How long it takes until something holds."""
    began_s = time.monotonic()
    until(holds, seconds=within_s, what=what)
    return time.monotonic() - began_s


def passes(a: Machine, b: Machine, name: str, within_s: float = BOUND_S) -> float:
    """What is written on one shows on the other; returns after how long."""
    a.put("tasks", name, {"title": f"planted {name}"})
    return seconds(lambda: name in b.documents("tasks"), within_s, f"{name} to pass")


def test_spec_D1_two_machines_on_one_network_and_nothing_else(two: tuple[Machine, Machine]) -> None:
    a, b = two
    recorder = wire.Recorder(a.host.ports["eth0"][0])  # at the switch, beside which nothing passes
    try:
        a.put("tasks", "before", {"title": "planted before"})
        began_s = time.monotonic()
        pair(a, b)
        until(lambda: "before" in b.documents("tasks"), seconds=BOUND_S, what="the first document")
        print(f"the first document is there {time.monotonic() - began_s:.2f} s after the code was asked for")
        until(lambda: a.path == b.path == "lan", what="the direct way")
        passes(a, b, "one")
        passes(b, a, "two")
        until(lambda: a.is_in_step() and b.is_in_step(), what="in step")
        settle(0.5)
    finally:
        recorder.close()
    seen = recorder.everything()
    ids = [bytes.fromhex(device["id"]) for device in a.get("/api/devices")["items"]]
    assert len(ids) == 2
    assert len(seen) > 5_000
    for secret in (b"planted", b"tasks", b"title", *ids, *(i.hex().encode() for i in ids)):
        assert secret not in seen


def test_spec_D6_a_new_machine_the_words_and_a_device_on_the_network(
    two: tuple[Machine, Machine], tmp_path: Path
) -> None:
    """No relay and no address. What is said to whom is in tests/integration/test_direct_recovery.py."""
    a, b = two
    pair(a, b)
    passes(a, b, "before")
    words = a.post("/api/recovery/show", {})["words"]
    new = Machine(tmp_path, "new", a.host.beside("10.77.0.3/24"))
    recorder = wire.Recorder(a.host.ports["eth0"][0])
    try:
        new.start()
        until(lambda: new.get("/api/lan")["port"], what="direct links")
        began_s = time.monotonic()
        found = new.post("/api/recovery/recover", {"words": " ".join(words)})["devices"]
        assert sorted(d["name"] for d in found) == ["planteddevicea", "planteddeviceb", "planteddevicenew"]
        until(lambda: "before" in new.documents("tasks"), what="the data to come back")
        print(f"the data is there {time.monotonic() - began_s:.2f} s after the words were typed")
        until(lambda: new.path == "lan", what="the direct way")
        passes(new, b, "after")
        passes(a, new, "and-back")
        ids = [bytes.fromhex(device["id"]) for device in found]
    finally:
        recorder.close()
        if new.process is not None:
            new.kill()
    seen = recorder.everything()
    for secret in (b"planted", *ids, " ".join(words[:3]).encode(), words_to_seed(" ".join(words))):
        assert secret not in seen


def test_the_cable_out_and_in_again(two: tuple[Machine, Machine]) -> None:
    a, b = two
    pair(a, b)
    passes(a, b, "first")
    b.host.unplug()
    settle(6)
    a.put("tasks", "a-alone", {"title": "planted"})
    b.put("tasks", "b-alone", {"title": "planted"})
    b.host.plug_in()
    took_s = seconds(
        lambda: "b-alone" in a.documents("tasks") and "a-alone" in b.documents("tasks"), BOUND_S, "in step again"
    )
    print(f"in step {took_s:.2f} s after the link came back")


def test_another_address(two: tuple[Machine, Machine]) -> None:
    a, b = two
    pair(a, b)
    passes(a, b, "first")
    b.host.readdress("10.77.0.99/24")
    a.put("tasks", "while-moving", {"title": "planted"})
    took_s = seconds(lambda: "while-moving" in b.documents("tasks"), BOUND_S, "in step at the new address")
    print(f"in step {took_s:.2f} s after the address changed")
    passes(b, a, "from-there")


def test_both_start_anew_and_find_each_other(two: tuple[Machine, Machine]) -> None:
    a, b = two
    pair(a, b)
    passes(a, b, "first")
    for machine in two:
        machine.stop()
    a.start()
    a.put("tasks", "while-b-slept", {"title": "planted"})
    b.start()
    took_s = seconds(lambda: "while-b-slept" in b.documents("tasks"), BOUND_S, "in step after the start")
    print(f"in step {took_s:.2f} s after both were up")
