"""What a relay counts for its operator. Labels are routes, states and codes of our own: no space, device or address."""

from __future__ import annotations

from hybridgw_protocol.metrics import Count, Durations, Family, Gauge, render

from .batches import BatchService
from .gate import Gate
from .spaces import Spaces


class RelayMetrics:
    """One per process, used on the event loop."""

    def __init__(self) -> None:
        self.requests = Count(
            "http_requests", "HTTP requests; a WebSocket counts when it ends.", ("method", "endpoint", "status")
        )
        self.durations = Durations("http_request_duration_seconds", "HTTP requests that were no upgrade.")
        self.commits = Durations("relay_commit_seconds", "One group of pushes, signatures checked and durable.")
        self._families: list[Family] = [self.requests, self.durations, self.commits]

    def requested(self, method: str, endpoint: str, status: int, took_s: float | None) -> None:
        """One request was answered. Args: endpoint: the route, `-` for none; took_s: None for an upgrade."""
        self.requests.add(method, endpoint, str(status))
        if took_s is not None:
            self.durations.add(took_s)

    def watch(self, gate: Gate, batches: BatchService, spaces: Spaces) -> None:
        """Read these at each scrape."""
        self._families += [
            Gauge("websocket_connections_active", "Connections of devices.", lambda: {("device",): gate.count},
                  ("deployment",)),
            Gauge("relay_strangers", "Connections that have proved nothing yet.", lambda: gate.strangers),
            Gauge("relay_spaces_connected", "Spaces with a connection.", lambda: len(spaces.in_use())),
            Gauge("relay_batches_stored", "Batches stored.", lambda: batches.stored_batches, counts=True),
            Gauge("relay_bytes_stored", "Bytes of them.", lambda: batches.stored_bytes, counts=True),
            Gauge("relay_pushes_refused", "Pushes that were refused, by code.",
                  lambda: {(code,): count for code, count in batches.refused.items()}, ("code",), counts=True),
            Gauge("relay_waiting_bytes", "Taken from sockets and not stored yet.", lambda: batches.waiting_bytes),
        ]  # fmt: skip

    def text(self) -> tuple[str, str]:
        """The text format of Prometheus, and its content type."""
        return render(self._families)
