"""What keeps two devices apart is found out by trying, on networks that really are so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import until

from . import wire
from .network import Host, Lab
from .test_daemons import Machine


def told(machine: Machine, address: str | None = None) -> dict[str, tuple[str, str]]:
    """What it says: code -> (state, message)."""
    report = machine.post("/api/lan/test", {"address": address} if address else {})
    assert report["ok"] == all(item["state"] != "fail" for item in report["items"])
    assert all(item["help"] for item in report["items"] if item["state"] != "ok")
    return {item["code"]: (item["state"], item["message"]) for item in report["items"]}


@contextmanager
def listening(host: Host, port: int, says: bytes = b"") -> Iterator[None]:
    """Something listens there, and perhaps says a word to the first who comes."""
    with wire.inside(host.namespace):
        listener = socket.create_server(("", port))
    with listener:

        def greet() -> None:
            with suppress(OSError):  # it was closed
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(says)

        if says:
            threading.Thread(target=greet, daemon=True).start()
        yield


@pytest.mark.spec("D7")
def test_spec_D7_the_cause_is_found_by_trying(lab: Lab, tmp_path: Path) -> None:
    home, elsewhere = lab.network(), lab.network()
    here, there, far = home.host("10.77.0.1/24"), home.host("10.77.0.2/24"), elsewhere.host("10.88.0.1/24")
    a, b = Machine(tmp_path, "a", here), Machine(tmp_path, "b", there)
    machines: list[Any] = []
    try:
        for machine in (a, b):
            machine.start()
            machines.append(machine)
            until(lambda m=machine: m.get("/api/lan")["interfaces"][0]["state"] == "announced", what="announced")

        found = told(a)
        assert found["announced"][0] == "ok"
        assert found["not_found"][0] == "ok", found  # the other one answers to multicast; it is no device of ours
        with listening(there, 5000), listening(there, 5001, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            causes = {
                "10.77.0.2:47801": "stranger", "10.77.0.1:47801": "itself", "10.77.0.2:5": "not_running",
                "10.77.0.2:5000": "other", "10.77.0.2:5001": "other", "no-such-machine.invalid": "unknown_name",
                "10.88.0.1:47801": "wrong_network", "10.77.0.99:47801": "no_answer",
            }  # fmt: skip
            with ThreadPoolExecutor(4) as pool:
                for (address, code), said in zip(causes.items(), pool.map(partial(told, a), causes), strict=True):
                    assert said[code][0] == "fail", (address, said)
        with there.filtering("tcp dport 47801 drop"):
            assert told(a, "10.77.0.2:47801")["firewall"][0] == "fail"
        with there.filtering("tcp dport 47801 reject with icmpx admin-prohibited"):
            assert told(a, "10.77.0.2:47801")["firewall"][0] == "fail"
        with here.filtering("tcp dport 47801 drop", hook="output"):
            assert {"firewall_here", "firewall"} & set(told(a, "10.77.0.2:47801"))
        with here.filtering("udp sport 5353 drop", "udp dport 5353 drop"):
            assert told(a)["silence"][0] == "warn"  # nobody is heard
            assert told(a, "10.77.0.99:47801")["isolation"][0] == "fail"

        here.join(elsewhere, "10.9.0.2/24", "wg0")  # a VPN that takes everything, the local network too
        here.ip("route", "add", "default", "via", "10.9.0.1")
        assert told(a)["vpn_route"][0] == "warn"
        here.ip("route", "add", "10.77.0.2/32", "via", "10.9.0.1")
        state, message = told(a, "10.77.0.2:47801")["vpn_route"]
        assert state == "fail"
        assert "wg0" in message
        here.ip("link", "del", "wg0")

        here.down()
        assert told(a)["no_interface"][0] == "warn"
        assert told(a, "10.77.0.2:47801")["wrong_network"][0] == "fail"
        assert far.run("true") == ""
    finally:
        for machine in machines:
            machine.kill()


def test_sec_a_lan_test_refuses_what_is_no_address(lab: Lab, tmp_path: Path) -> None:
    a = Machine(tmp_path, "a", lab.network().host("10.77.0.1/24"))
    try:
        a.start()
        for text in ("", "224.0.0.1:1", "host:99999", "http://x", "a" * 5000):
            with pytest.raises(Exception, match=r"address|port|machine|characters|bytes|length"):
                a.post("/api/lan/test", {"address": text})
            with pytest.raises(Exception, match=r"address|port|machine|characters|bytes|length"):
                a.post("/api/lan/addresses", {"address": text})
        assert a.get("/api/lan")["addresses"] == []
    finally:
        a.kill()


@pytest.mark.spec("D7")
def test_spec_D7_a_pairing_that_meets_nobody_says_why(lab: Lab, tmp_path: Path) -> None:
    home, elsewhere = lab.network(), lab.network()
    a = Machine(tmp_path, "a", home.host("10.77.0.1/24"))
    b = Machine(tmp_path, "b", elsewhere.host("10.88.0.1/24"))
    try:
        for machine in (a, b):
            machine.start()
            until(lambda m=machine: m.get("/api/lan")["port"], what="direct links")
        offer = a.post("/api/devices/pair")
        joined = b.post("/api/devices/pair/join", {"code": offer["code"]})
        failed = until(
            lambda: next((s for s in [b.get(f"/api/devices/pair/{joined['id']}")] if s["state"] == "failed"), None),
            what="the pairing to fail",
        )
        for part in ("shows this code", "Nobody on eth0 answers to multicast", "hybridgw lan add"):
            assert part in failed["error"]
    finally:
        for machine in (a, b):
            if machine.process is not None:
                machine.kill()
