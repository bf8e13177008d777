"""The local API in types, what an operator asks: pages of text, the detailed report of health. Style: localapi.py."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .localapi import Command, Component, Result


class Page(Result):
    """A text that is shown as it is, not JSON. kind: its content type; policy: its Content-Security-Policy, null for
    one that loads nothing at all."""

    kind: str
    text: str
    policy: str | None = None


class GetMetrics(Command):
    """What Prometheus scrapes."""


class GetOpenApi(Command):
    """The description of this API for programs."""


class GetDocs(Command):
    """The description of this API for people."""


class GetDashboard(Command):
    """The dashboard: one page for the person in front of this machine."""


class GetDashboardFile(Command):
    """A file that the dashboard's page loads."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]


class ListLogs(Command):
    """What the daemon has logged lately. level: at least so much; calls: the lines of calls that went well too."""

    calls: bool = False
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class LogEntry(Result):
    """One line of the log. timestamp: RFC 3339; message: for a person, secrets cut out."""

    timestamp: str
    level: str
    logger: str
    event: str
    message: str
    request_id: str | None = None
    user_id: str | None = None


class LogPage(Result):
    """Latest first; there is no further page: the rest stands in the file."""

    items: list[LogEntry]
    next_cursor: str | None = None


class GetHealthReport(Command):
    """The detailed report."""


class DiskUse(Result):
    """Where the data is, in bytes."""

    path: str
    free_bytes: int
    total_bytes: int
    database_bytes: int


class SystemReport(Result):
    """The machine, and what this process takes of it. cpu_percent: of one core, since the last report or the start."""

    cpu_count: int
    load_1m: float | None
    memory_total_bytes: int
    memory_available_bytes: int
    process_rss_bytes: int
    process_cpu_percent: float
    process_threads: int
    process_open_files: int | None
    disk: DiskUse | None


class ServiceReport(Result):
    """Something outside this program that it leans on. state: as of a component, or `not_configured`."""

    name: str
    state: Literal["ok", "starting", "degraded", "failed", "not_configured"]
    message: str | None = None


class PerformanceReport(Result):
    """Calls of the local API and commits since the start. Seconds are upper bounds of histogram buckets.

    error_rate: share of calls that failed by our fault (500); unavailable_rate: that came too early or found no room
    (503, 507); refused_rate: by the caller's fault (4xx).
    """

    requests: int
    error_rate: float
    unavailable_rate: float
    refused_rate: float
    request_p50_s: float | None
    request_p95_s: float | None
    request_p99_s: float | None
    commits: int
    commit_p50_s: float | None
    commit_p99_s: float | None


class HealthReport(Result):
    """ready: local data is served; status: the worst of what is used."""

    status: Literal["ok", "degraded", "failed"]
    ready: bool
    version: str
    uptime_s: float
    system: SystemReport
    services: list[ServiceReport]
    components: list[Component]
    performance: PerformanceReport
