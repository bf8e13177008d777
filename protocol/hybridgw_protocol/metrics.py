"""Counting what a daemon or a relay does, for Prometheus. Counting is ours, the text is prometheus_client's.

Counting through the library would cost 1.6 us a message (here 0.3) and 13 ms and 1.5 MB at each start, also where
nobody ever scrapes; so it is loaded by the first `render`. Label values come from our own tables, never from outside;
should a family all the same grow beyond its bound, what is new counts as `other`.

Source: Prometheus, "Metric and label naming"; the text format of prometheus_client.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .errors import HybridGWError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MOST_SERIES: Final = 1_000  # of one family; the largest (calls by method, path and status) stays far below
OTHER: Final = "other"

# Seconds. A local call takes 0.2 to 2 ms, a commit on a slow disk 10 to 100.
BOUNDS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

Reading = float | Mapping[tuple[str, ...], float]


@dataclass(slots=True)
class Count:
    """A counter: name without `_total`; values by the values of its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, *values: str, by: float = 1) -> None:
        """Count. Args: values: one for each label."""
        found = self.values.get(values)
        if found is not None:
            self.values[values] = found + by
            return
        if len(self.values) >= MOST_SERIES:
            values = (OTHER,) * len(self.labels)
        self.values[values] = self.values.get(values, 0) + by

    @property
    def total(self) -> float:
        """Over all labels."""
        return sum(self.values.values())


@dataclass(slots=True)
class Durations:
    """A histogram of seconds without labels."""

    name: str
    help: str
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Seconds within which the share *q* stayed, to the bound of its bucket; None if there were none.

        Beyond the last bound nothing is known: that bound is told.
        """
        wanted, seen = q * self.count, 0
        if not wanted:
            return None
        for bound, count in zip((*BOUNDS_S, BOUNDS_S[-1]), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound
        return BOUNDS_S[-1]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is read when it is asked for; one that cannot be read now is left out."""

    name: str
    help: str
    read: Callable[[], Reading]
    labels: tuple[str, ...] = ()
    counts: bool = False  # it only grows: a counter that somebody else keeps


Family = Count | Durations | Gauge


def render(families: Sequence[Family]) -> tuple[str, str]:
    """The exposition of these families and of this process (Linux), and its content type. Loads prometheus_client."""
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 - only if somebody scrapes
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Ours(Collector):
        """What was counted, in the library's terms."""

        def collect(self) -> Iterator[Metric]:
            """One metric for each family."""
            return (_metric(family) for family in families)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ours())
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode(), CONTENT_TYPE_PLAIN_0_0_4


def _metric(family: Family) -> Metric:
    from prometheus_client.core import (  # noqa: PLC0415 - only if somebody scrapes
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if isinstance(family, Durations):
        seen, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), tuple(family.counts), strict=True):
            seen += count
            buckets.append((bound, float(seen)))
        return HistogramMetricFamily(family.name, family.help, buckets=buckets, sum_value=family.sum_s)
    counts = isinstance(family, Count) or family.counts
    made = (CounterMetricFamily if counts else GaugeMetricFamily)(family.name, family.help, labels=family.labels)
    for values, value in _values(family).items():
        made.add_metric(values, value)
    return made


def _values(family: Count | Gauge) -> Mapping[tuple[str, ...], float]:
    if isinstance(family, Count):
        return dict(family.values)
    try:
        found = family.read()
    except HybridGWError:  # a database that is closed or damaged: the other figures matter the more
        return {}
    return found if isinstance(found, Mapping) else {(): found}
