"""The bounds around the library, without a network: what is dropped unread, what is not believed, what is announced."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from zeroconf.asyncio import AsyncServiceInfo

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.transports.peers.discovery import find_pairing
from hybridgw_daemon.transports.peers.interfaces import Choice, Interface
from hybridgw_daemon.transports.peers.mdns import (
    MAX_HEARD,
    SENDER_BURST,
    SERVICE,
    _Guard,
    addresses_of,
    instance_of,
    spoken_on,
)


def interface(*addresses: str) -> Interface:
    return Interface("eth0", 7, tuple(map(ipaddress.ip_interface, addresses)))


HOME = interface("192.168.1.5/24", "fe80::5/64", "fd00::5/64", "2001:db8::5/64")


class Inner(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any]] = []

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.got.append((data, addr))


def announced(*addresses: str, port: int = 47801) -> AsyncServiceInfo:
    packed = [ipaddress.ip_address(address).packed for address in addresses]
    return AsyncServiceInfo(SERVICE, f"{'ab' * 8}.{SERVICE}", addresses=packed, port=port)


async def test_sec_only_senders_of_this_network_are_read() -> None:
    inner = Inner()
    guard = _Guard(inner, HOME)
    for sender in (
        ("192.168.1.20", 5353), ("::ffff:192.168.1.21", 5353, 0, 0), ("fe80::9%eth0", 5353, 0, 7),
        ("fe80::8", 5353, 0, 7),
    ):  # fmt: skip
        guard.datagram_received(b"here", sender)
    assert len(inner.got) == 4
    for sender in (
        ("192.168.2.20", 5353), ("10.0.0.1", 5353), ("::ffff:10.0.0.1", 5353, 0, 0), ("fe80::9%eth1", 5353, 0, 8),
        ("2001:db8:1::1", 5353, 0, 0),
    ):  # fmt: skip
        guard.datagram_received(b"elsewhere", sender)
    assert len(inner.got) == 4


async def test_sec_a_sender_that_says_too_much_is_not_read_and_others_are() -> None:
    inner = Inner()
    guard = _Guard(inner, HOME)
    for _ in range(10 * int(SENDER_BURST)):
        guard.datagram_received(b"x", ("192.168.1.66", 5353))
    assert SENDER_BURST <= len(inner.got) < SENDER_BURST + 20
    guard.datagram_received(b"y", ("192.168.1.20", 5353))
    assert inner.got[-1][0] == b"y"


def test_sec_only_addresses_of_the_network_it_was_heard_on_are_believed() -> None:
    info = announced("192.168.1.20", "10.0.0.1", "127.0.0.1", "224.0.0.1", "fe80::20", "fd00::20", "fd01::20", "::1")
    assert addresses_of(info, HOME) == [
        Address("192.168.1.20", 47801), Address("fe80::20%eth0", 47801), Address("fd00::20", 47801)
    ]  # fmt: skip
    assert addresses_of(announced("192.168.1.20", port=0), HOME) == []
    many = announced(*(f"192.168.1.{n}" for n in range(10, 250)))
    assert len(addresses_of(many, HOME)) == MAX_HEARD
    assert instance_of(info.name) == bytes.fromhex("ab" * 8)


def test_nothing_is_announced_that_lasts() -> None:
    assert [str(a.ip) for a in spoken_on(HOME)] == ["192.168.1.5", "fe80::5"]
    only = interface("2001:db8::5/64", "2001:db8::6/64")
    assert [str(a.ip) for a in spoken_on(only)] == ["2001:db8::5"]  # else it could not be found at all


async def test_no_interface_finds_no_pairing() -> None:
    assert await find_pairing(417, timeout_s=0.1, choice=Choice(deny=("*",))) == []
