"""What the daemon counts for an operator, and the page that Prometheus scrapes.

Names and labels of the first six families are fixed. Labels are routes, states and kinds out of our own tables: no
user, no document, no address. Other services do not know this one; they get its methods as plain callables.
"""

from __future__ import annotations

from typing import Final, get_args

from hybridgw_protocol.localapi import DeploymentMode
from hybridgw_protocol.localapi_operations import GetMetrics, Page, PerformanceReport
from hybridgw_protocol.metrics import OTHER, Count, Durations, Family, Gauge, render

from .ports import Principal

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"})
MODES: Final[tuple[str, ...]] = get_args(DeploymentMode)


class Metrics:
    """One per daemon; used on the event loop, but for `committed`, which only the database's writer calls."""

    def __init__(self) -> None:
        self.requests = Count("http_requests", "Calls of the local API.", ("method", "endpoint", "status"))
        self.durations = Durations("http_request_duration_seconds", "From the head of a request to its answer.")
        self.syncs = Count("data_sync_operations", "Batches sealed and received, runs asked for.", ("type", "status"))
        self.auths = Count("auth_operations", "Credentials looked at, logins, refreshes.", ("type", "status"))
        self.messages = Count("message_routing", "Messages routed between local clients.", ("type",))
        self.limited = Count("hybridgw_rate_limited", "Calls refused because there were too many.", ("policy",))
        self.commits = Durations("hybridgw_store_commit_seconds", "One commit, durable on the disk.")
        self.writes = Count("hybridgw_store_writes", "Writes that shared these commits.")
        self._families: list[Family] = [
            self.requests, self.durations, self.syncs, self.auths, self.messages, self.limited, self.commits,
            self.writes,
        ]  # fmt: skip

    # ---- told by others ---------------------------------------------------------------------------------------------
    def answered(self, method: str, endpoint: str, status: int, took_s: float, *, has_credential: bool) -> None:
        """One call was answered.

        Args: method: `WS` for a frame; endpoint: the template of its route, `-` for none; took_s: 0: it never became a
        request; has_credential: a valid one.
        """
        self.requests.add(method if method in _METHODS else OTHER, endpoint, str(status))
        if took_s:
            self.durations.add(took_s)
        if has_credential:
            self.auths.add("bearer", "ok" if status != 403 else "forbidden")
        elif status == 401:
            self.auths.add("bearer", "refused")
        elif status in (403, 421):
            self.auths.add("origin", "refused")

    def authenticated(self, kind: str, status: str) -> None:
        """A credential was looked at. Args: kind: bearer, login, refresh, …; status: ok, refused, …"""
        self.auths.add(kind, status)

    def synced(self, kind: str, status: str, count: int = 1) -> None:
        """Something of sync was done."""
        if count:
            self.syncs.add(kind, status, by=count)

    def routed(self, kind: str, count: int = 1) -> None:
        """Messages were routed. Args: kind: out of a fixed set, as `topic` or `message`."""
        self.messages.add(kind, by=count)

    def refused_rate(self, policy: str) -> None:
        """A call more than its budget allows."""
        self.limited.add(policy)

    def committed(self, took_s: float, writes: int) -> None:
        """One commit with that many writes."""
        self.commits.add(took_s)
        self.writes.add(by=writes)

    def watch(self, *gauges: Gauge) -> None:
        """Values that are read at each scrape: must be quick."""
        self._families += gauges

    # ---- asked ------------------------------------------------------------------------------------------------------
    async def page(self, _principal: Principal | None, _command: GetMetrics) -> Page:
        """The text format of Prometheus."""
        text, kind = render(self._families)
        return Page(kind=kind, text=text)

    def performance(self) -> PerformanceReport:
        """Latency and error rate since the start."""
        requests = int(self.requests.total)
        d, c = self.durations, self.commits

        def rate(*starts: str) -> float:
            found = sum(n for (_, _, status), n in self.requests.values.items() if status.startswith(starts))
            return round(found / requests, 6) if requests else 0.0

        return PerformanceReport(
            requests=requests,
            error_rate=rate("500"),
            unavailable_rate=rate("503", "507"),
            refused_rate=rate("4"),
            request_p50_s=d.quantile(0.5),
            request_p95_s=d.quantile(0.95),
            request_p99_s=d.quantile(0.99),
            commits=c.count,
            commit_p50_s=c.quantile(0.5),
            commit_p99_s=c.quantile(0.99),
        )
