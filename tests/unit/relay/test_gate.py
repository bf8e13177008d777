"""Connections are counted and given back."""

from __future__ import annotations

import pytest

from hybridgw_protocol.errors import Busy, RateLimited
from hybridgw_relay.services.gate import Gate, GateLimits
from hybridgw_relay.services.host import Host


def gate(now: list[int], **limits: float) -> Gate:
    host = Host(lambda: 0, lambda: now[0], bytes, lambda fn: fn())  # type: ignore[arg-type,return-value]
    return Gate(host, GateLimits(**limits))  # type: ignore[arg-type]


def test_bounds_in_all_per_network_and_of_strangers() -> None:
    counted = gate([0], most=4, per_address=3, strangers_per_address=2)
    counted.enter("192.0.2.1")
    counted.enter("192.0.2.2")
    with pytest.raises(RateLimited):
        counted.enter("192.0.2.3")  # two strangers
    counted.admitted("192.0.2.1")
    counted.enter("192.0.2.3")
    counted.admitted("192.0.2.3")
    with pytest.raises(RateLimited):
        counted.enter("192.0.2.4")  # three connections
    counted.enter("198.51.100.1")
    with pytest.raises(Busy):
        counted.enter("203.0.113.1")  # four in all
    counted.leave("192.0.2.1", admitted=True)
    counted.enter("203.0.113.1")
    for address, admitted in (
        ("192.0.2.2", False),
        ("192.0.2.3", True),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
    ):
        counted.leave(address, admitted=admitted)
    assert counted.count == 0
    assert not counted._by_network
    assert not counted._strangers


def test_failures_shut_a_network_out_and_let_it_in_again() -> None:
    now = [0]
    counted = gate(now, failures_per_minute=6, failure_burst=2)
    counted.failed("192.0.2.1")
    counted.enter("192.0.2.1")
    counted.failed("192.0.2.2")
    with pytest.raises(RateLimited):
        counted.enter("192.0.2.3")
    counted.enter("198.51.100.1")
    now[0] += 10_000
    counted.enter("192.0.2.3")
