"""Which interfaces count, and when the machine slept."""

from __future__ import annotations

import ipaddress

import pytest

from hybridgw_daemon.transports.peers.discovery import _Sleep
from hybridgw_daemon.transports.peers.interfaces import Choice, Interface, interfaces, usable


@pytest.mark.parametrize("name", [
    "lo", "docker0", "veth12ab", "br-0123abcd", "virbr0", "tun0", "tap1", "wg0", "tailscale0", "ztabcdef", "utun3",
    "vEthernet (WSL)", "VirtualBox Host-Only Ethernet Adapter", "podman0", "cni0", "awdl0",
])  # fmt: skip
def test_containers_machines_and_vpns_are_skipped(name: str) -> None:
    assert not Choice().takes(name)
    assert Choice(allow=(name,)).takes(name)
    assert not Choice(allow=("*",), deny=(name,)).takes(name)


@pytest.mark.parametrize(
    "name", ["eth0", "enp3s0", "wlan0", "wlp2s0", "en0", "br0", "bond0", "usb0", "Ethernet", "Wi-Fi"]
)
def test_networks_are_used(name: str) -> None:
    assert Choice().takes(name)
    assert Choice(allow=("e*", "W*", "b*", "usb?")).takes(name)
    assert not Choice(deny=("*",)).takes(name)
    assert not Choice(allow=("other",)).takes(name)


def test_the_interfaces_of_this_machine_can_be_read() -> None:
    found = interfaces()
    assert all(interface.addresses and interface.index for interface in found)
    assert not [i for i in usable(Choice(allow=("*",))) if all(a.ip.is_loopback for a in i.addresses)]


def test_what_an_interface_reaches() -> None:
    addresses = tuple(map(ipaddress.ip_interface, ("192.168.1.5/24", "fe80::5/64", "fd00::5/64")))
    interface = Interface("eth0", 2, addresses)
    for host in ("192.168.1.20", "fe80::9%eth0", "fe80::9", "fd00::1"):
        assert interface.reaches(host)
    for host in ("192.168.2.1", "10.0.0.1", "fd01::1", "2001:db8::1"):
        assert not interface.reaches(host)


def test_a_sleep_is_noticed_and_a_busy_moment_is_none() -> None:
    wall_s, steady_s = 1000.0, 50.0
    sleep = _Sleep(lambda: int(wall_s * 1000), lambda: steady_s)
    wall_s, steady_s = wall_s + 3, steady_s + 3
    assert not sleep.noticed()
    wall_s, steady_s = wall_s + 600, steady_s + 3  # a clock that stands still meanwhile (Linux)
    assert sleep.noticed()
    wall_s, steady_s = wall_s + 3, steady_s + 3
    assert not sleep.noticed()
    wall_s, steady_s = wall_s + 600, steady_s + 600  # one that does not (Windows)
    assert sleep.noticed()
    wall_s, steady_s = wall_s + 8, steady_s + 8  # only busy
    assert not sleep.noticed()
    wall_s, steady_s = wall_s - 3600, steady_s + 3  # the clock was set back
    assert not sleep.noticed()
