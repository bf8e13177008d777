"""Counting, and the text of it as another parser reads it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hybridgw_protocol.errors import StateError
from hybridgw_protocol.metrics import BOUNDS_S, MOST_SERIES, OTHER, Count, Durations, Gauge, render


def samples(*families: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name and labels -> value, without those of the process."""
    text, kind = render(families)
    assert kind.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def test_a_counter_and_its_labels() -> None:
    count = Count("http_requests", "Calls.", ("method", "status"))
    count.add("GET", "200")
    count.add("GET", "200", by=2)
    count.add('a"b\\c\n', "x")
    assert samples(count) == {
        ("http_requests_total", (("method", "GET"), ("status", "200"))): 3,
        ("http_requests_total", (("method", 'a"b\\c\n'), ("status", "x"))): 1,
    }
    assert count.total == 4


def test_a_family_is_bounded() -> None:
    count = Count("x", "x", ("a", "b"))
    for n in range(MOST_SERIES + 500):
        count.add(str(n), "y")
    assert len(count.values) == MOST_SERIES + 1
    assert count.values[OTHER, OTHER] == 500
    assert count.total == MOST_SERIES + 500


def test_a_histogram_is_cumulative() -> None:
    durations = Durations("took_seconds", "Time.")
    for seconds in (0.0001, 0.0005, 0.0006, 0.3, 99.0):
        durations.add(seconds)
    found = samples(durations)
    assert found["took_seconds_bucket", (("le", "0.0005"),)] == 2  # a bound belongs to its bucket
    assert found["took_seconds_bucket", (("le", "0.001"),)] == 3
    assert found["took_seconds_bucket", (("le", "10.0"),)] == 4
    assert found["took_seconds_bucket", (("le", "+Inf"),)] == found["took_seconds_count", ()] == 5
    assert found["took_seconds_sum", ()] == pytest.approx(99.3012)
    assert len([name for name, _ in found if name == "took_seconds_bucket"]) == len(BOUNDS_S) + 1


def test_quantiles_are_bounds_of_buckets() -> None:
    durations = Durations("t", "t")
    assert durations.quantile(0.5) is None
    for seconds in [0.0004] * 98 + [0.2, 50.0]:
        durations.add(seconds)
    assert (durations.quantile(0.5), durations.quantile(0.99), durations.quantile(1)) == (0.0005, 0.25, BOUNDS_S[-1])


def test_gauges_are_read_at_the_scrape_and_one_that_fails_is_left_out() -> None:
    held = {"n": 1.0}

    def fails() -> float:
        raise StateError("closed")

    gauges = (
        Gauge("a", "a", lambda: held["n"]),
        Gauge("b", "b", lambda: {("x",): 2.0}, ("kind",)),
        Gauge("c", "c", fails),
        Gauge("d", "d", lambda: 7, counts=True),
    )
    assert samples(*gauges) == {("a", ()): 1, ("b", (("kind", "x"),)): 2, ("d_total", ()): 7}
    held["n"] = 5
    assert samples(*gauges)["a", ()] == 5
