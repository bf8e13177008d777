"""Many buckets: memory is bounded, and who is forgotten begins anew. One bucket: tests/unit/relay/test_quotas.py."""

from __future__ import annotations

from hybridgw_protocol.token_bucket import Buckets, TokenBucket


def test_the_least_recently_used_bucket_is_forgotten() -> None:
    buckets = Buckets(1, 2, most=3)
    for key in ("a", "b", "c"):
        buckets.of(key).take(2, 0)
    assert buckets.of("a").take(1, 0) > 0
    buckets.of("d")
    assert len(buckets) == 3
    assert buckets.find("b") is None
    assert buckets.of("a").take(1, 0) > 0  # was used lately, so it is remembered
    for key in range(10_000):
        buckets.of(key)
    assert len(buckets) == 3


def test_each_key_has_a_budget_of_its_own() -> None:
    buckets = Buckets(1, 2, most=10)
    assert buckets.of(("x", True)).take(2, 0) == 0
    assert buckets.of(("x", True)).take(1, 0) > 0
    assert buckets.of(("x", False)).take(1, 0) == 0


def test_who_waited_as_told_is_let_through_however_fractions_were_rounded() -> None:
    bucket = TokenBucket(4.728966484940377, 1.0)
    bucket.take(1, 1_000)
    for now_ms in range(1_001, 1_212):
        bucket.has(1, now_ms)
    bucket.level = 0.9999999999999996
    assert bucket.has(1, 1_211)
    assert bucket.take(1, 1_211) == 0
