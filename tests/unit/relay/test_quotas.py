"""Token buckets: what is let through never exceeds burst plus rate times time, and waiting as told always helps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol.token_bucket import TokenBucket
from hybridgw_relay.core.quotas import AddressBuckets, DeviceLimits, DeviceRate, DeviceRates, network_of

STEPS = st.lists(st.tuples(st.integers(0, 5_000), st.floats(0.1, 50)), min_size=1, max_size=60)


@given(rate=st.floats(0.1, 100), burst=st.floats(1, 100), steps=STEPS)
def test_no_more_than_burst_plus_rate(rate: float, burst: float, steps: list[tuple[int, float]]) -> None:
    bucket, now_ms, taken = TokenBucket(rate, burst), 1_000, 0.0
    largest = max(amount for _, amount in steps)
    for pause, amount in steps:
        now_ms += pause
        if bucket.take(amount, now_ms) == 0:
            taken += amount
    elapsed_s = (now_ms - 1_000) / 1000
    assert taken <= burst + rate * elapsed_s + max(0.0, largest - burst) + 1e-6


@given(rate=st.floats(0.1, 100), burst=st.floats(1, 100), steps=STEPS)
def test_waiting_as_told_is_enough(rate: float, burst: float, steps: list[tuple[int, float]]) -> None:
    bucket, now_ms = TokenBucket(rate, burst), 0
    for pause, amount in steps:
        now_ms += pause
        wait = bucket.take(amount, now_ms)
        if wait:
            now_ms += wait
            assert bucket.has(amount, now_ms)
            assert bucket.take(amount, now_ms) == 0


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(1, 5)
    assert [bucket.take(1, 10_000) for _ in range(6)].count(0) == 5
    assert bucket.take(1, 0) > 0
    assert bucket.take(1, 1_000) == 0  # a second later by the new clock


def test_more_than_the_burst_passes_once_when_full() -> None:
    bucket = TokenBucket(1, 5)
    assert bucket.take(8, 0) == 0
    wait = bucket.take(1, 0)
    assert wait == pytest.approx(4_000, abs=2)  # the debt of three, and one
    assert bucket.take(1, wait) == 0


def test_a_refused_device_stays_refused_until_its_wait_is_over() -> None:
    rate = DeviceRate(DeviceLimits(pushes_per_s=10, push_burst=3))
    assert [rate.push(450, 0) for _ in range(3)] == [0, 0, 0]
    wait = rate.push(450, 0)
    assert wait >= 1_000
    assert 0 < rate.push(450, wait - 1) <= wait  # a token is there by now; the row is not taken up in its middle
    assert rate.push(450, wait) == 0


def test_a_cold_sync_is_not_throttled() -> None:
    """100,000 documents: 8 MiB sealed, in frames of half a MiB as fast as they go; and ten times that."""
    rate = DeviceRate(DeviceLimits())
    assert all(rate.push(512 * 1024, now_ms) == 0 for now_ms in range(160))


def test_bytes_are_bounded_too() -> None:
    rate = DeviceRate(DeviceLimits(bytes_per_s=1_000, bytes_burst=10_000))
    assert rate.push(10_000, 0) == 0
    assert rate.push(1, 0) > 0


def test_records_have_their_own_budget() -> None:
    rate = DeviceRate(DeviceLimits(records_per_s=1, record_burst=10))
    assert rate.records(10, 0) == 0
    assert rate.records(1, 0) > 0
    assert rate.push(450, 0) == 0


def test_a_device_keeps_its_budget_over_reconnects_and_the_memory_is_bounded() -> None:
    rates = DeviceRates(DeviceLimits(push_burst=1), most=2)
    assert rates.of(b"a").push(1, 0) == 0
    assert rates.of(b"a").push(1, 0) > 0
    rates.of(b"b")
    rates.of(b"c")  # a is forgotten
    assert rates.of(b"a").push(1, 0) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


def test_addresses_of_one_network_share_a_bucket() -> None:
    buckets = AddressBuckets(1, 2)
    assert buckets.has("192.0.2.1", 2, 0)
    assert buckets.take("192.0.2.1", 1, 0) == 0
    assert buckets.take("192.0.2.200", 1, 0) == 0
    assert buckets.take("192.0.2.3", 1, 0) > 0
    assert not buckets.has("192.0.2.4", 1, 0)
    assert buckets.take("192.0.3.1", 1, 0) == 0


def test_the_memory_for_addresses_is_bounded() -> None:
    buckets = AddressBuckets(1, 1, most=10)
    for number in range(100):
        buckets.take(f"10.0.{number}.1", 1, 0)
    assert len(buckets._buckets) == 10
