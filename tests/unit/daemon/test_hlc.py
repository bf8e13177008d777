"""Stamps: rising, near the wall clock, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core import hlc
from hybridgw_protocol.errors import ClockDrift
from hybridgw_protocol.limits import CLOCK_BOUND_MS, MAX_STAMP

NOW_MS = 1_700_000_000_000
STAMPS = st.integers(0, 2**62)
TIMES = st.integers(0, 2**45)


@given(STAMPS, TIMES)
def test_a_tick_is_above_the_last_stamp_and_not_behind_the_clock(last: int, now_ms: int) -> None:
    first = hlc.tick(last, now_ms)
    assert first > last
    assert hlc.stamp_ms(first) >= now_ms
    assert first == max(last + 1, now_ms << 16)


def test_operations_of_one_millisecond_count_on() -> None:
    first = hlc.tick(0, NOW_MS, 3)
    assert first == NOW_MS << 16
    assert hlc.tick(first + 2, NOW_MS) == first + 3


def test_a_full_counter_carries_into_the_time() -> None:
    last = (NOW_MS << 16) + 0xFFFF
    assert hlc.tick(last, NOW_MS) == (NOW_MS + 1) << 16
    assert hlc.stamp_ms(hlc.tick(last, NOW_MS)) == NOW_MS + 1


def test_a_clock_that_goes_back_does_not_take_stamps_back() -> None:
    first = hlc.tick(0, NOW_MS)
    assert hlc.tick(first, NOW_MS - 86_400_000) == first + 1
    assert hlc.tick(first, -5) == first + 1


def test_no_stamp_beyond_63_bits() -> None:
    assert hlc.tick(MAX_STAMP - 2, 0, 2) == MAX_STAMP - 1
    for last, now_ms, count in ((MAX_STAMP, 0, 1), (MAX_STAMP - 2, 0, 3), (0, 2**47, 1)):
        with pytest.raises(ClockDrift):
            hlc.tick(last, now_ms, count)


@given(STAMPS, STAMPS)
def test_observing_never_goes_back(last: int, remote: int) -> None:
    assert hlc.observe(last, remote) == max(last, remote)


def test_the_bound_is_fifteen_minutes() -> None:
    edge = (NOW_MS + CLOCK_BOUND_MS) << 16
    assert CLOCK_BOUND_MS == 900_000
    assert not hlc.is_ahead(edge + 0xFFFF, NOW_MS)
    assert hlc.is_ahead(edge + 0x10000, NOW_MS)
