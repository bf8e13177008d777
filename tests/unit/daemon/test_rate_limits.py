"""Budgets of the local API: per credential, per origin of strangers, bounded in memory, told in headers."""

from __future__ import annotations

import re

import pytest

from hybridgw_daemon.services.ports import Principal
from hybridgw_daemon.services.rate_limits import CREDENTIAL_BURST, STRANGERS, TRACKED, RateLimits

OWNER = Principal("owner", is_owner=True)


class Time:
    """Milliseconds that move when told."""

    ms = 1_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limits(time: Time) -> RateLimits:
    return RateLimits(60, 10, clock=time)


def app(name: str) -> Principal:
    return Principal(f"grant:{name}", is_owner=False)


def taken(
    limits: RateLimits, who: Principal | None, count: int, origin: str | None = None, *, bad: bool = False
) -> int:
    """How many of *count* requests went through."""
    return sum(limits.take(who, origin, is_bad=bad).wait_ms == 0 for _ in range(count))


@pytest.mark.spec("G5")
def test_spec_G5_a_stranger_has_ten_at_once_and_sixty_a_minute(limits: RateLimits, time: Time) -> None:
    assert taken(limits, None, 50) == 10
    total = 10
    for _ in range(60):
        time.ms += 1_000
        total += taken(limits, None, 5)
    assert total == 70
    wait = limits.take(None, None).wait_ms
    time.ms += wait
    assert limits.take(None, None).wait_ms == 0  # waiting as told is enough


def test_spec_G5_a_credential_has_its_own_budget(limits: RateLimits, time: Time) -> None:
    assert taken(limits, app("a"), 2_000) == 10 * CREDENTIAL_BURST
    assert taken(limits, app("b"), 5) == 5
    time.ms += 60_000
    assert taken(limits, app("a"), 10_000) == 600
    assert taken(limits, OWNER, 20_000) == 20_000
    assert taken(limits, OWNER, 100_000) == 40_000  # generous, but bounded


def test_sec_P3_a_bad_credential_spends_nothing_of_a_good_one_nor_of_a_probe(limits: RateLimits) -> None:
    assert taken(limits, None, 1_000, bad=True) == 10
    assert taken(limits, None, 10) == 10
    assert taken(limits, app("a"), 100) == 100
    assert taken(limits, OWNER, 100) == 100


def test_sec_P3_origins_of_strangers_are_counted_apart_and_together(limits: RateLimits) -> None:
    assert taken(limits, None, 50, "https://a.example") == 10
    assert taken(limits, None, 50, "https://b.example") == 10
    passed = sum(taken(limits, None, 1, f"https://{n}.example") for n in range(100_000))
    assert passed == 10 * STRANGERS - 20  # new names all the time do not help
    assert len(limits._strangers) == TRACKED  # and cost no memory
    assert taken(limits, app("a"), 10) == 10


def test_spec_G5_headers_say_what_is_left(limits: RateLimits) -> None:
    first = limits.take(None, None)
    assert first.headers == 'RateLimit-Policy: "stranger";q=60;w=60\r\nRateLimit: "stranger";r=9;t=1\r\n'
    for _ in range(9):
        last = limits.take(None, None)
    assert '"stranger";r=0;t=10' in last.headers
    refused = limits.take(None, None)
    assert (refused.wait_ms > 900, refused.policy) == (True, "stranger")
    assert '"stranger";r=0;t=2' in refused.headers
    for who, policy in ((app("a"), '"credential";q=6000;w=60'), (OWNER, '"owner";q=1200000;w=60')):
        assert policy in limits.take(who, None).headers
        assert re.search(r'RateLimit: "\w+";r=\d+;t=1\r\n$', limits.take(who, None).headers)


def test_a_clock_that_goes_back_locks_nobody_out(limits: RateLimits, time: Time) -> None:
    taken(limits, None, 10)
    time.ms -= 500_000
    assert 0 < limits.take(None, None).wait_ms <= 1_001
