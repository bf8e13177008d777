"""Two daemons, real processes, that reach each other on loopback: the relay goes, edits still pass; it comes back; one
is carried away."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from .machines import DeviceMachine, RelayMachine, household, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(device: DeviceMachine, *, is_on: bool = True) -> None:
    """From its next start on it is reached directly on loopback, or not at all."""
    device.extra |= {
        "HYBRIDGW_LAN_ENABLED": "true" if is_on else "false", "HYBRIDGW_LAN_HOST": "127.0.0.1",
        "HYBRIDGW_LAN_PORT": device.extra.get("HYBRIDGW_LAN_PORT") or str(free_port()),
        "HYBRIDGW_LAN_INTERFACES_ALLOW": "none",  # nothing is announced to the network of whoever runs the tests
    }  # fmt: skip


def restart(device: DeviceMachine) -> None:
    device.stop()
    device.start()


def sync(device: DeviceMachine) -> dict[str, Any]:
    found: dict[str, Any] = device.get("/api/sync/status")
    return found


def pass_both_ways(a: DeviceMachine, b: DeviceMachine, name: str) -> None:
    """What is written on either shows on the other."""
    for writer, reader in ((a, b), (b, a)):
        with writer.client() as client:
            client.put("tasks", f"{name}-{writer.name}", {"title": name})
        until(lambda reader=reader, writer=writer: reader.documents("tasks").get(f"{name}-{writer.name}"))


@pytest.mark.slow
def test_spec_D5_direct_relay_both(tmp_path: Path) -> None:
    relay, a, b = household(tmp_path)
    try:
        assert sync(a)["path"] == "relay"
        assert "off" in sync(a)["path_reason"]
        for device in (a, b):
            listens(device)
            restart(device)
        a.post("/api/lan/addresses", {"address": f"127.0.0.1:{b.extra['HYBRIDGW_LAN_PORT']}"})
        until(lambda: sync(a)["path"] == sync(b)["path"] == "both", what="both ways")
        relay.stop()
        until(lambda: sync(a)["path"] == sync(b)["path"] == "lan", what="the direct way alone")
        pass_both_ways(a, b, "without-relay")
        until(lambda: sync(a)["state"] == sync(b)["state"] == "in_step", what="in step without a relay")
        assert sync(a)["direct"][0]["name"] == "planteddeviceb"
        assert next(d for d in b.get("/api/devices")["items"] if not d["own"])["path"] == "lan"
        relay.start()
        until(lambda: sync(a)["path"] == sync(b)["path"] == "both", what="the relay to be back", seconds=70)
        pass_both_ways(a, b, "both")
        listens(b, is_on=False)
        restart(b)  # carried away: it cannot be reached here any more
        until(lambda: sync(a)["path"] == sync(b)["path"] == "relay", what="the relay alone")
        pass_both_ways(a, b, "carried-away")
        listens(b)
        restart(b)  # home again, remembered where it was
        until(lambda: sync(a)["path"] == sync(b)["path"] == "both", what="home again", seconds=70)
        for device in (a, b):
            assert device.get("/api/alarms")["items"] == []
    finally:
        end(relay, a, b)


def end(*machines: RelayMachine | DeviceMachine) -> None:
    for machine in machines:
        if machine.process is not None:
            machine.kill()
