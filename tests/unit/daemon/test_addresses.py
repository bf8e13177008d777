"""Addresses as people write them."""

from __future__ import annotations

import pytest

from hybridgw_daemon.core.addresses import Address, ip_of, parse_address
from hybridgw_protocol.errors import BadValue


@pytest.mark.parametrize(("text", "address"), [
    ("192.168.1.20:5000", Address("192.168.1.20", 5000)),
    (" 192.168.1.20 ", Address("192.168.1.20", 47801)),
    ("[fd00::20]:5000", Address("fd00::20", 5000)),
    ("[FD00:0:0::20]", Address("fd00::20", 47801)),
    ("fd00::20", Address("fd00::20", 47801)),
    ("[fe80::1%eth0]:5000", Address("fe80::1%eth0", 5000)),
    ("NAS.home:5000", Address("nas.home", 5000)),
    ("nas.", Address("nas", 47801)),
    ("localhost:1", Address("localhost", 1)),
    ("a_b-c.example.org:65535", Address("a_b-c.example.org", 65535)),
])  # fmt: skip
def test_what_is_understood(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address  # what is shown can be typed again


@pytest.mark.parametrize("text", [
    "", ":", ":5000", "host:", "host:0", "host:65536", "host:-1", "host:5 000", "host:\u0665", "host:80x", "[::1",
    "[host]:1", "[fd00::1]x", "[fd00::1]:", "1.2.3.4.5:1", "1.2.3", "300.1.1.1:1", "224.0.0.1:1", "0.0.0.0:1",
    "255.255.255.255:1", "[ff02::fb]:1", "[::]:1", "[fe80::1]:1", "[fe80::1%]:1", "[fe80::1%a b]:1", "-host:1",
    "host-:1", "ho st:1", "http://host:1", "host/x:1", "h\u00f6st:1", "a" * 64 + ":1", ".".join(["a" * 60] * 5) + ":1",
    "a..b:1", "host\n:1", "\0:1",
])  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadValue) as refusal:
        parse_address(text)
    assert refusal.value.detail["field"] == "address"
    assert len(refusal.value.message) < 250


def test_a_name_is_no_ip_address() -> None:
    assert ip_of("nas.home") is None
    assert ip_of("fe80::1%../../etc") is None
    assert str(ip_of("10.0.0.1")) == "10.0.0.1"
