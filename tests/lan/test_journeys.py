"""A household and its relay on real networks: paired over the relay behind a NAT, in step over the LAN while the relay
is cut off, a partition that heals, a bad cable, a journey and the way home."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import RelayMachine, until

from . import wire
from .network import WHY_NOT, Host, Lab, partition, settle
from .test_daemons import BOUND_S, Machine, passes, seconds

RELAY = "10.88.0.1"
PORT = 8080


class FarRelay(RelayMachine):
    """A relay on a host of the lab."""

    def __init__(self, root: Path, host: Host) -> None:
        super().__init__(root)
        self.host, self.url = host, f"http://{RELAY}:{PORT}"

    def start(self, ready: str = "") -> str:
        """Start it; returns its address."""
        self.arguments = [
            "ip", "netns", "exec", self.host.namespace, sys.executable, "-m", "hybridgw_relay", "serve", "--data",
            str(self.data), "--host", RELAY, "--port", str(PORT), "--public-url", self.url,
        ]  # fmt: skip
        return super(RelayMachine, self).start(rf"(http://{RELAY}:{PORT})")


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Home behind a router that hides it, and a relay outside. b's cable can be bad."""
    if not Path("/dev/net/tun").exists():
        pytest.skip(f"{WHY_NOT}; and /dev/net/tun, for the slow cable")
    home, outside = lab.network(), lab.network()
    router, far = home.host("10.77.0.254/24"), outside.host(f"{RELAY}/24")
    router.join(outside, "10.88.0.254/24", "eth1")
    router.masquerade("eth1")
    hosts = home.host("10.77.0.1/24"), home.host("10.77.0.2/24", slow=True)
    for host in hosts:
        host.ip("route", "add", "default", "via", "10.77.0.254")
    relay = FarRelay(tmp_path, far)
    a, b = Machine(tmp_path, "a", hosts[0]), Machine(tmp_path, "b", hosts[1])
    try:
        relay.start()
        for machine in (a, b):
            machine.start()
            until(lambda m=machine: m.get("/api/lan")["port"], what="direct links")
        yield {"home": home, "outside": outside, "router": router, "relay": relay, "a": a, "b": b}
    finally:
        for process in (a, b, relay):
            if process.process is not None:
                process.kill()


def pair_over(relay: FarRelay, a: Machine, b: Machine) -> None:
    """With the code of the relay."""
    a.post("/api/relays", {"link": until(relay.invite, what="an invite")})
    offer = until(lambda: a.post("/api/devices/pair", {"relay": relay.url}), what="a pairing code")
    joined = b.post("/api/devices/pair/join", {"code": offer["link"]})
    number = f"/api/devices/pair/{offer['id']}"
    until(lambda: a.get(number)["state"] == "confirm", what="the other device to ask")
    a.post(f"{number}/confirm", {"accept": True})
    until(lambda: b.get(f"/api/devices/pair/{joined['id']}")["state"] == "done", what="the pairing to end")


def both_ways(a: Machine, b: Machine, name: str, within_s: float = BOUND_S) -> float:
    """What is written on either shows on the other; returns the longer time."""
    return max(passes(a, b, f"{name}-a", within_s), passes(b, a, f"{name}-b", within_s))


def paths(a: Machine, b: Machine, way: str, within_s: float) -> float:
    """Until both say that this way is in use."""
    return seconds(lambda: a.path == b.path == way, within_s, f"the way {way}")


@pytest.mark.slow
def test_spec_D5_a_household_and_its_relay(world: dict[str, Any]) -> None:
    a, b, router, relay = world["a"], world["b"], world["router"], world["relay"]
    recorder = wire.Recorder(world["home"].namespace)
    took: dict[str, float] = {}
    try:
        pair_over(relay, a, b)
        took["both ways after pairing"] = paths(a, b, "both", BOUND_S)
        took["an edit"] = both_ways(a, b, "first")

        router.down("eth1")  # the internet is gone
        took["an edit, no internet"] = both_ways(a, b, "no-internet")
        took["the way is told"] = paths(a, b, "lan", BOUND_S)

        with partition([a.host], [b.host]):
            a.put("tasks", "apart-a", {"title": "planted"})
            b.put("tasks", "apart-b", {"title": "planted"})
            settle(5)
            assert "apart-b" not in a.documents("tasks")
        took["healed"] = seconds(
            lambda: "apart-b" in a.documents("tasks") and "apart-a" in b.documents("tasks"), 60, "heal"
        )

        b.host.cable.set(delay_ms=40, jitter_ms=20, loss=0.05)
        took["an edit, bad cable"] = both_ways(a, b, "bad-cable", 90)
        b.host.cable.set()

        router.up("eth1")
        b.host.down("eth0")  # b is carried away, to a network outside
        b.host.join(world["outside"], "10.88.0.9/24", "wlan0")
        took["an edit, away"] = both_ways(a, b, "away", 90)
        assert "lan" not in (a.path, b.path)
        b.host.down("wlan0")
        b.host.up("eth0")
        b.host.ip("route", "add", "default", "via", "10.77.0.254")
        took["home again"] = paths(a, b, "both", 90)
        both_ways(a, b, "home")
        for machine in (a, b):
            assert machine.get("/api/alarms")["items"] == []
            until(machine.is_in_step, what="in step")
    finally:
        recorder.close()
        print({name: round(value, 2) for name, value in took.items()})
    # The relay is spoken to without TLS here, and knows the devices; what they say to each other must show nothing.
    seen = recorder.everything(but_port=PORT)
    assert len(seen) > 20_000
    devices = [bytes.fromhex(device["id"]) for device in a.get("/api/devices")["items"]]
    names = [f"planteddevice{n}".encode() for n in "ab"] + wire.names_here()
    for secret in (b"planted", b"tasks", b"title", *names, *devices, *(device.hex().encode() for device in devices)):
        assert secret not in seen
