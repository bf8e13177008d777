"""What an operator watches besides counters: queues, how far sync lags, the store. Read when Prometheus scrapes.

Each reading is a point read or a number in memory, so that a scrape costs a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hybridgw_protocol.localapi import Component
from hybridgw_protocol.localapi_operations import ServiceReport
from hybridgw_protocol.metrics import Gauge
from hybridgw_storage.database import SqliteDatabase

from ..stores import alarms, documents, oplog, queries
from .events import EventHub
from .health import HealthService
from .metrics import MODES, Metrics
from .sync import SyncService

_RELAY_STATES: Final = ("connected", "connecting", "offline", "refused")


def watch_daemon(metrics: Metrics, database: SqliteDatabase, health: HealthService, hub: EventHub) -> None:
    """The store, and who listens."""
    metrics.watch(
        Gauge("hybridgw_store_bytes", "Database file with its log.", health.system.database_bytes),
        Gauge("hybridgw_store_queue_writes", "Writes that wait for the disk.", lambda: database.waiting),
        Gauge("hybridgw_store_changes", "Changes of documents, ever.", lambda: database.peek(queries.last_seq),
              counts=True),
        Gauge("hybridgw_event_listeners", "Open event streams.", lambda: hub.listeners),
        Gauge("hybridgw_conflicts_open", "Documents with conflicts that wait for a person.",
              lambda: database.peek(documents.count_conflicts)),
        Gauge("hybridgw_alarms_open", "Alarms that nobody has acknowledged.",
              lambda: len(database.peek(alarms.alarms))),
    )  # fmt: skip


def watch_connections(metrics: Metrics, count: Callable[[], Mapping[str, int]]) -> None:
    """WebSockets. Args: count: by deployment mode."""

    def by_mode() -> dict[tuple[str, ...], float]:
        found = count()
        return {(mode,): found.get(mode, 0) for mode in MODES}

    metrics.watch(Gauge("websocket_connections_active", "Open WebSockets.", by_mode, ("deployment",)))


def watch_sync(metrics: Metrics, database: SqliteDatabase, sync: SyncService, clock: Callable[[], int]) -> None:
    """How far behind this device is. Args: clock: wall clock, Unix ms."""

    def lag_s() -> float | dict[tuple[str, ...], float]:
        """Since a peer last confirmed something; 0 while nothing waits, nothing at all before the first time."""
        if not database.peek(oplog.pending_size)[0] and not waiting():
            return 0.0
        last = sync.peers.last_sync_ms
        return {} if last is None else max(0.0, (clock() - last) / 1000)

    def waiting() -> float:
        return sum(row.stored.n - row.applied.n for row in database.peek(oplog.logs).values())

    def relays() -> dict[tuple[str, ...], float]:
        states = [sync.peers.relay_status(url).state for url in sync.peers.known]
        return {(state,): states.count(state) for state in _RELAY_STATES}

    def bytes_by_direction() -> dict[tuple[str, ...], float]:
        held = [conversation.state for conversation in sync.peers.conversations.values()]
        return {("in",): sum(s.bytes_in for s in held), ("out",): sum(s.bytes_out for s in held)}

    metrics.watch(
        Gauge("hybridgw_sync_pending_writes", "Local writes that are not sealed yet.",
              lambda: database.peek(oplog.pending_size)[0]),
        Gauge("hybridgw_sync_pending_bytes", "Bytes of them.", lambda: database.peek(oplog.pending_size)[1]),
        Gauge("hybridgw_sync_waiting_batches", "Batches that are here and not applied yet.", waiting),
        Gauge("hybridgw_sync_lag_seconds", "Since a peer last confirmed something, while something waits.", lag_s),
        Gauge("hybridgw_relays", "Relays of this profile.", relays, ("state",)),
        Gauge("hybridgw_link_bytes", "Bytes of the live connections to relays.", bytes_by_direction, ("direction",)),
        Gauge("hybridgw_keys_open", "1 when the key of this profile is open.", lambda: int(not sync.space.locked)),
    )  # fmt: skip


def services_of(store: str, keys: Component, sync: SyncService) -> list[ServiceReport]:
    """Secret store and relays, for the health report. Args: store: its kind; keys: the component that uses it."""
    found = [ServiceReport(name=f"secret store ({store})", state=keys.state, message=keys.message)]
    for url in sync.peers.known:
        relay = sync.peers.relay_status(url)
        state = {"connected": "ok", "connecting": "starting"}.get(relay.state, "degraded")
        found.append(ServiceReport(name=f"relay {url}", state=state, message=relay.error))  # type: ignore[arg-type]
    if not sync.peers.known:
        found.append(ServiceReport(name="relay", state="not_configured"))
    return found
