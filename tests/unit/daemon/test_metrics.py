"""Figures of the calls for a person. The text for Prometheus: tests/unit/protocol/test_metrics.py."""

from __future__ import annotations

from hybridgw_daemon.services.metrics import Metrics


def test_nothing_happened_yet() -> None:
    report = Metrics().performance()
    assert (report.requests, report.error_rate, report.request_p95_s, report.commit_p50_s) == (0, 0.0, None, None)


def test_rates_tell_whose_fault_it_was() -> None:
    metrics = Metrics()
    for status in (200, 201, 304, 200, 404, 429, 500, 503, 507, 200):
        metrics.answered("GET", "/health", status, 0.001, has_credential=False)
    report = metrics.performance()
    assert (report.requests, report.error_rate, report.unavailable_rate, report.refused_rate) == (10, 0.1, 0.2, 0.2)
    assert report.request_p95_s == 0.001


def test_who_was_asked_for_a_credential_is_counted() -> None:
    metrics = Metrics()
    for status, has_credential in ((200, True), (403, True), (401, False), (421, False), (403, False), (200, False)):
        metrics.answered("GET", "/x", status, 0.001, has_credential=has_credential)
    assert metrics.auths.values == {
        ("bearer", "ok"): 1, ("bearer", "forbidden"): 1, ("bearer", "refused"): 1, ("origin", "refused"): 2,
    }  # fmt: skip


def test_methods_and_empty_counts_add_no_series() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics.answered(f"M{n}", "-", 405, 0.001, has_credential=False)
    metrics.synced("receive", "fork", 0)
    metrics.synced("seal", "ok", 3)
    assert metrics.requests.values == {("other", "-", "405"): 100}
    assert metrics.syncs.values == {("seal", "ok"): 3}
