"""Devices find each other on a real network (in namespaces), whatever happens to it, and give nothing away."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.transports.peers.discovery import DAMPING_S

from . import wire
from .network import Host, Lab, settle

FINDER = [sys.executable, str(Path(__file__).resolve().parent / "finder.py")]
KEY = "the key of one space"
SOON_S = 30.0  # on an idle machine one or two; a busy one is no fault
ELSEWHERE = ("8.8.8.8", "127.0.0.1", "224.0.0.1", "0.0.0.0", "10.78.0.1")  # noqa: S104 - not of the test network


class Finder:
    """One finder.py on a host."""

    def __init__(
        self, host: Host, folder: Path, *, port: int = 47801, key: str = KEY, deny: str = "", allow: str = ""
    ) -> None:
        self.process = host.popen(
            [*FINDER, str(folder), str(port), key, deny, allow],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.candidates: list[str] = []
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._answers.get(timeout=30)["ready"] == self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if "candidates" in told:
                self.candidates = told["candidates"]
            else:
                self._answers.put(told)

    def ask(self, command: str, timeout_s: float = 30) -> dict[str, Any]:
        """A command and its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        return self._answers.get(timeout=timeout_s)

    def state(self) -> dict[str, Any]:
        """How it is."""
        state: dict[str, Any] = self.ask("state")["state"]
        assert not state["died"]
        return state

    def finds(self, address: str, *, within_s: float) -> float:
        """Wait until it may try an address. Returns: seconds it took."""
        return self._until(lambda: address in self.candidates, within_s, f"{address} in")

    def loses(self, address: str, *, within_s: float) -> float:
        """Wait until it may not."""
        return self._until(lambda: address not in self.candidates, within_s, f"{address} gone from")

    def _until(self, holds: Callable[[], bool], within_s: float, what: str) -> float:
        began_s = time.monotonic()
        while not holds():
            assert time.monotonic() - began_s < within_s, f"not within {within_s} s: {what} {self.candidates}"
            time.sleep(0.02)
        return time.monotonic() - began_s


@pytest.mark.spec("D3")
def test_spec_D3_two_devices_find_each_other_over_ipv4_and_ipv6(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two = network.host("10.77.0.1/24"), network.host("10.77.0.2/24")
    assert one.ip("route", "show", "default") == ""  # multicast has no route here either; it must not need one
    a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b", port=47999)
    a.finds("10.77.0.2:47999", within_s=SOON_S)
    b.finds("10.77.0.1:47801", within_s=SOON_S)
    assert any(address.startswith("[fe80::") and "%eth0]" in address for address in a.candidates)
    assert not any(":47801" in address for address in a.candidates)  # never itself


def test_two_profiles_of_one_machine_find_each_other(lab: Lab, tmp_path: Path) -> None:
    host = lab.network().host("10.77.0.1/24")
    a, b = Finder(host, tmp_path / "a"), Finder(host, tmp_path / "b", port=47802)
    a.finds("10.77.0.1:47802", within_s=SOON_S)
    b.finds("10.77.0.1:47801", within_s=SOON_S)


def test_a_network_that_loses_a_third_is_enough(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two = network.host("10.77.0.1/24"), network.host("10.77.0.2/24")
    with one.losing(33), two.losing(33):
        a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b")
        a.finds("10.77.0.2:47801", within_s=SOON_S)
        b.finds("10.77.0.1:47801", within_s=SOON_S)


def test_an_interface_that_comes_later_is_used(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two = network.host("10.77.0.1/24"), network.host()
    a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b")
    assert b.state()["announced_on"] == []  # not even loopback counts
    settle(1)
    two.join(network, "10.77.0.2/24")
    b.finds("10.77.0.1:47801", within_s=SOON_S)
    a.finds("10.77.0.2:47801", within_s=SOON_S)


def test_no_interface_and_no_multicast_leave_the_typed_addresses(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    bare, mute, other = network.host(), network.host("10.77.0.2/24"), network.host("10.77.0.3/24")
    bare.down("lo")
    mute.ip("link", "set", "eth0", "multicast", "off")
    with mute.filtering("ip daddr 224.0.0.0/4 drop", "ip6 daddr ff02::fb drop", hook="output"):
        a, b, c = Finder(bare, tmp_path / "a"), Finder(mute, tmp_path / "b"), Finder(other, tmp_path / "c")
        for finder in (a, b):
            assert finder.ask("add 10.77.0.9:5000") == {"added": "10.77.0.9:5000"}
            finder.finds("10.77.0.9:5000", within_s=SOON_S)
        settle(4)
        assert c.candidates == []
        assert a.state()["announced_on"] == []
        assert "itself" in b.ask("add 10.77.0.2:47801")["refused"]


def test_a_new_address_is_found_anew(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two = network.host("10.77.0.1/24"), network.host("10.77.0.2/24")
    a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b")
    a.finds("10.77.0.2:47801", within_s=SOON_S)
    settle(10)  # a device that has just announced itself waits so long before it does again
    two.readdress("10.77.0.22/24")
    a.finds("10.77.0.22:47801", within_s=SOON_S)
    a.loses("10.77.0.2:47801", within_s=SOON_S)
    b.finds("10.77.0.1:47801", within_s=SOON_S)


def test_a_killed_device_that_comes_back_is_found(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two = network.host("10.77.0.1/24"), network.host("10.77.0.2/24")
    a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b")
    a.finds("10.77.0.2:47801", within_s=SOON_S)
    b.process.kill()
    settle(1)
    assert a.state()["candidates"]  # nobody said goodbye: it is for those who dial to notice
    back = Finder(two, tmp_path / "b", port=48000)
    a.finds("10.77.0.2:48000", within_s=SOON_S)
    back.finds("10.77.0.1:47801", within_s=SOON_S)
    assert back.process.stdin is not None
    back.process.stdin.close()  # ends in order, and says so
    a.loses("10.77.0.2:48000", within_s=SOON_S)


def test_a_flapping_interface_is_announced_on_seldom(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two = network.host("10.77.0.1/24"), network.host("10.77.0.2/24")
    recorder = wire.Recorder(one.namespace)
    a, _b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b")
    a.finds("10.77.0.2:47801", within_s=SOON_S)
    first_s = time.monotonic()
    for number in range(12):
        (two.unplug if number % 2 == 0 else two.plug_in)()
        settle(0.5)

    def names() -> list[str]:
        return [name for seen, name in wire.instances(recorder.datagrams()) if seen.source == "10.77.0.2"]

    began_s = time.monotonic()
    while len(names()) < 2:  # it ends up announced
        assert time.monotonic() - began_s < DAMPING_S + SOON_S
        settle(0.5)
    settle(2)
    recorder.close()
    assert len(names()) <= 2 + (time.monotonic() - first_s) / DAMPING_S, names()
    a.finds("10.77.0.2:47801", within_s=SOON_S)


def test_two_spaces_on_one_network_do_not_see_each_other(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    hosts = [network.host(f"10.77.0.{n}/24") for n in (1, 2, 3)]
    a, b = Finder(hosts[0], tmp_path / "a"), Finder(hosts[1], tmp_path / "b", key="another space")
    c = Finder(hosts[2], tmp_path / "c")
    a.finds("10.77.0.3:47801", within_s=SOON_S)
    settle(2)
    assert not any("10.77.0.2" in address for address in a.candidates + c.candidates)
    assert b.candidates == []


def test_each_interface_carries_its_own_addresses_only(lab: Lab, tmp_path: Path) -> None:
    home, office = lab.network(), lab.network()
    both = home.host("10.77.0.1/24")
    both.join(office, "10.88.0.1/24", "eth1")
    one, two = home.host("10.77.0.2/24"), office.host("10.88.0.2/24")
    recorders = [wire.Recorder(one.namespace), wire.Recorder(two.namespace)]
    a, b, c = Finder(both, tmp_path / "a"), Finder(one, tmp_path / "b"), Finder(two, tmp_path / "c")
    a.finds("10.77.0.2:47801", within_s=SOON_S)
    a.finds("10.88.0.2:47801", within_s=SOON_S)
    b.finds("10.77.0.1:47801", within_s=SOON_S)
    c.finds("10.88.0.1:47801", within_s=SOON_S)
    settle(1)
    for recorder in recorders:
        recorder.close()
    assert not any("10.88." in address for address in b.candidates)
    assert not any("10.77." in address for address in c.candidates)
    assert socket.inet_aton("10.88.0.1") not in recorders[0].everything()
    assert socket.inet_aton("10.77.0.1") not in recorders[1].everything()
    names = [{name for _, name in wire.instances(recorder.datagrams())} for recorder in recorders]
    assert not names[0] & names[1]


def test_interfaces_of_containers_and_vpns_are_skipped_unless_named(lab: Lab, tmp_path: Path) -> None:
    network, tunnel = lab.network(), lab.network()
    one = network.host("10.77.0.1/24")
    one.join(tunnel, "10.99.0.1/24", "wg0")
    other, inside = network.host("10.77.0.2/24"), tunnel.host("10.99.0.2/24")
    a, b, c = Finder(one, tmp_path / "a"), Finder(other, tmp_path / "b"), Finder(inside, tmp_path / "c")
    b.finds("10.77.0.1:47801", within_s=SOON_S)
    settle(1)
    assert a.state()["announced_on"] == ["eth0"]
    assert c.candidates == []
    assert a.process.stdin is not None
    a.process.stdin.close()
    named = Finder(one, tmp_path / "a", allow="wg*", deny="eth0", port=48001)
    c.finds("10.99.0.1:48001", within_s=SOON_S)
    assert named.state()["announced_on"] == ["wg0"]


@pytest.mark.spec("D3")
def test_spec_D3_announcements_hold_no_name_and_nothing_that_lasts(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, observer = network.host("10.77.0.1/24"), network.host("10.77.0.2/24")
    heard = []
    for start in range(2):
        recorder = wire.Recorder(observer.namespace)
        finder = Finder(one, tmp_path / "a-folder-with-a-telling-name")
        settle(2)
        if start == 0:
            before = len(wire.instances(recorder.datagrams()))
            finder.ask("renew")
            settle(2)
            assert len(wire.instances(recorder.datagrams())) == before + 1
        assert finder.process.stdin is not None
        finder.process.stdin.close()
        finder.process.wait(timeout=30)
        recorder.close()
        heard.append([d for d in recorder.datagrams() if d.source not in ("10.77.0.2",)])
        assert wire.instances(heard[-1])
    stable = {part for part in _parts(heard[0]) & _parts(heard[1])}
    own = {"_hybridgw", "_tcp", "local", "v=1"}
    assert stable <= own | {socket.inet_aton("10.77.0.1").hex()} | _link_local(one), stable
    everything = b"".join(d.data for recorded in heard for d in recorded).lower()
    for name in (*wire.names_here(), b"telling", one.mac().lower().encode()):
        assert name not in everything


def _parts(datagrams: list[wire.Datagram]) -> set[str]:
    """All labels, texts and addresses in the answers and questions."""
    found: set[str] = set()
    for datagram in datagrams:
        message = wire.DNSIncoming(datagram.data)
        for entry in [*message.questions, *message.answers()]:
            found |= set(entry.name.rstrip(".").split("."))
            for field in ("alias", "server"):
                found |= set(getattr(entry, field, "").rstrip(".").split("."))
            text: bytes = getattr(entry, "text", b"")
            while text:
                found.add(text[1 : 1 + text[0]].decode())
                text = text[1 + text[0] :]
            if address := getattr(entry, "address", None):
                found.add(address.hex())
    return found - {""}


def _link_local(host: Host) -> set[str]:
    lines = host.ip("-6", "-o", "addr", "show", "dev", "eth0", "scope", "link").split()
    return {socket.inet_pton(socket.AF_INET6, lines[lines.index("inet6") + 1].partition("/")[0]).hex()}


def test_a_pairing_is_offered_found_and_withdrawn(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, two, three = (network.host(f"10.77.0.{n}/24") for n in (1, 2, 3))
    a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b", key="no space yet")
    settle(1)
    a.ask("offer 417")
    offers = b.ask("find 417")["offers"]
    assert "10.77.0.1:47801" in offers
    assert b.ask("find 418 2")["offers"] == []
    speaker = wire.multicaster(three.namespace, "10.77.0.3")  # somebody else claims it: both are told
    speaker.sendto(
        wire.announcement("ab" * 8, "10.77.0.3", 1, [b"v=1", b"n=417"], service="_hybridgw-pair._tcp.local"), wire.MDNS
    )
    speaker.close()
    assert "10.77.0.1:47801" in b.ask("find 417")["offers"]
    a.ask("end")
    settle(2)
    assert "10.77.0.1:47801" not in b.ask("find 417 2")["offers"]


def test_sec_strangers_cost_bounded_memory_and_members_are_found_all_the_same(lab: Lab, tmp_path: Path) -> None:
    network = lab.network()
    one, hostile, two = network.host("10.77.0.1/16"), network.host("10.77.9.1/16"), network.host("10.77.0.2/16")
    a = Finder(one, tmp_path / "a")
    settle(2)
    before = a.state()
    speakers = []
    for number in range(1, 81):  # many senders, because one alone is cut off early
        if number > 1:
            hostile.ip("addr", "add", f"10.77.9.{number}/16", "dev", "eth0")
        speakers.append(wire.multicaster(hostile.namespace, f"10.77.9.{number}"))
    for number in range(10_000):
        text = [b"v=1", b"k=" + f"{number:016x}".encode(), b"x" * 200]
        packet = wire.announcement(f"{number:016x}", f"10.77.9.{number % 80 + 1}", 47801, text, ttl_s=2**31 - 1)
        speakers[number % 80].sendto(packet, wire.MDNS)
        if number % 100 == 0:
            time.sleep(0.01)
    b = Finder(two, tmp_path / "b", port=48000)
    a.finds("10.77.0.2:48000", within_s=SOON_S)
    b.finds("10.77.0.1:47801", within_s=SOON_S)
    after = a.state()
    for speaker in speakers:
        speaker.close()
    assert not any("10.77.9." in address for address in a.candidates)
    assert after["resident_bytes"] - before["resident_bytes"] < 30e6
    print({key: (before[key], after[key]) for key in ("resident_bytes", "cpu_s")})


def test_sec_false_announcements_are_not_believed(lab: Lab, tmp_path: Path) -> None:
    """A replayed mark with other addresses, records that are odd, and texts that are huge."""
    network = lab.network()
    one, two, hostile = network.host("10.77.0.1/24"), network.host("10.77.0.2/24"), network.host("10.77.0.3/24")
    recorder = wire.Recorder(hostile.namespace)
    a, b = Finder(one, tmp_path / "a"), Finder(two, tmp_path / "b")
    a.finds("10.77.0.2:47801", within_s=SOON_S)
    recorder.close()
    name, k = _announced(recorder.datagrams(), "10.77.0.2")
    speaker = wire.multicaster(hostile.namespace, "10.77.0.3")
    for address in ELSEWHERE:
        speaker.sendto(wire.announcement(name, address, 47801, [b"v=1", k]), wire.MDNS)
    for number, text in enumerate([
        [b"v=1"], [b"v=2", k], [b"v=1", b"k=" + b"f" * 200], [b"v=1", b"k=zz"], [b"v=1", b"k"], [b"\xff" * 250] * 30,
        [],
    ]):  # fmt: skip
        speaker.sendto(wire.announcement(f"{number:016x}", "10.77.0.3", 1, text), wire.MDNS)
    speaker.sendto(wire.announcement("desk of somebody", "10.77.0.3", 1, [b"v=1", k]), wire.MDNS)
    for junk in (b"", b"\0" * 5, b"\xff" * 1400, wire.announcement("0" * 16, "10.77.0.3", 1, [k])[:-9]):
        speaker.sendto(junk, wire.MDNS)
    speaker.close()
    settle(2)
    for stranger in (*ELSEWHERE, "10.77.0.3"):
        assert not any(address.startswith(f"{stranger}:") for address in a.candidates), stranger
    assert a.state()["announced_on"] == ["eth0"]
    assert b.state()["announced_on"] == ["eth0"]


def _announced(datagrams: list[wire.Datagram], source: str) -> tuple[str, bytes]:
    """The instance and the text `k=...` that a host announced."""
    for datagram in datagrams:
        for record in wire.DNSIncoming(datagram.data).answers():
            text: bytes = getattr(record, "text", b"")
            if datagram.source == source and b"k=" in text:
                start = text.index(b"k=")
                return record.name.partition(".")[0], text[start : start + 18]
    raise AssertionError(f"{source} announced nothing")
