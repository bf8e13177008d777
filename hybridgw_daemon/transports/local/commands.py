"""The one table of the local API: every command with its types, its right, its place in HTTP, and who does it.

Carriers are generated from it and add no logic: HTTP now, WebSocket, native messaging and a local socket later. A row
says all that a carrier needs to know; what a command means stands in localapi.py and in the services.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from hybridgw_protocol import localapi as api
from hybridgw_protocol import localapi_operations as ops
from hybridgw_protocol.errors import Forbidden, NotFound, SecretsLocked, Unauthorized
from hybridgw_protocol.ids import check_collection

from ...services.collections import CollectionService
from ...services.conflicts import ConflictService
from ...services.documents import DocumentService
from ...services.events import EventHub, Subscription
from ...services.health import HealthService
from ...services.ports import (
    AlarmPort,
    DaemonPort,
    DevicePort,
    DocsPort,
    MetricsPort,
    PairingPort,
    Principal,
    RelayPort,
    SyncPort,
)

T = TypeVar("T")
Scope = Literal["open", "any", "read", "write", "admin", "owner"]
Handler = Callable[[Any, Any], Awaitable[Any]]  # (principal, command) -> result, of the row's types


@dataclass(slots=True)
class Services:
    """What the table is built over. The parts of sync are None until the keys of this device are open."""

    documents: DocumentService
    collections: CollectionService
    conflicts: ConflictService
    events: EventHub
    health: HealthService
    daemon: DaemonPort
    sync: SyncPort | None = None
    devices: DevicePort | None = None
    pairing: PairingPort | None = None
    relays: RelayPort | None = None
    alarms: AlarmPort | None = None
    metrics: MetricsPort | None = None  # None: switched off, or on a port of its own
    docs: DocsPort | None = None
    docs_open: bool = False  # in development no credential is needed to read them


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    name: on carriers without paths; kind, result: types of localapi; scope: the right it needs, `any`: any valid
    credential, of `read` and `write` for the collection in the field `collection`; handler: does it; body: the field
    that an HTTP body is, `*`: the body is an object of fields, None: no body; conditional: If-Match is understood;
    stream: instead of a handler.
    """

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    kind: type[api.Command]
    result: type[api.Result]
    scope: Scope
    handler: Handler | None = None
    body: str | None = None
    status: int = 200
    conditional: bool = False
    max_body_bytes: int = api.MAX_BODY_BYTES
    stream: Callable[[Any, Any], Subscription] | None = None


def require(principal: Principal | None, row: Command) -> None:
    """Raise Unauthorized or Forbidden unless the principal has the right that the row asks for."""
    if row.scope == "open":
        return
    if principal is None:
        raise Unauthorized("This call needs a credential.")
    if not principal.is_owner and row.scope != "any":
        raise Forbidden(f"This credential does not give the right `{row.scope}`.")


def build(services: Services) -> tuple[Command, ...]:
    """The table. Services of sync may be put into *services* later; until then their commands say that they wait."""
    s = services

    async def sync_status(_: Principal, command: api.GetSyncStatus) -> api.SyncStatus:
        status = await s.sync.status() if s.sync else api.SyncStatus(state="locked", message=LOCKED)
        if command.sync_type != "all":
            status.conflicts = await s.conflicts.count(command.sync_type)
        return status

    async def sync_trigger(_: Principal, command: api.TriggerSync) -> api.SyncResult:
        if command.sync_type != "all":
            check_collection(command.sync_type)
        return await _there(s.sync).trigger(
            sync_type=command.sync_type, full=command.full, wait=command.wait, timeout_s=command.timeout_s
        )

    async def devices(_: Principal, _command: api.ListDevices) -> api.DeviceList:
        return api.DeviceList(items=await _there(s.devices).list())

    async def pairing_start(_: Principal, command: api.StartPairing) -> api.PairingOffer:
        return await _there(s.pairing).start(command.relay)

    async def pairing_join(_: Principal, command: api.JoinPairing) -> api.Pairing:
        return await _there(s.pairing).join(command.code, command.name)

    async def pairing_get(_: Principal, command: api.GetPairing) -> api.Pairing:
        return await _there(s.pairing).get(command.id)

    async def pairing_confirm(_: Principal, command: api.ConfirmPairing) -> api.Pairing:
        return await _there(s.pairing).confirm(command.id, command.accept)

    async def relays(_: Principal, _command: api.ListRelays) -> api.RelayList:
        return api.RelayList(items=await _there(s.relays).list())

    async def relay_add(_: Principal, command: api.AddRelay) -> api.Relay:
        return await _there(s.relays).add(command.link)

    async def relay_remove(principal: Principal, command: api.RemoveRelay) -> api.RelayList:
        await _there(s.relays).remove(command.url)
        return await relays(principal, api.ListRelays())

    async def relay_test(_: Principal, command: api.TestRelay) -> api.RelayCheck:
        return await _there(s.relays).test(command.url)

    async def alarms(_: Principal, command: api.ListAlarms) -> api.AlarmList:
        return api.AlarmList(items=await s.alarms.list(all_of_them=command.all) if s.alarms else [])

    async def alarm_acknowledge(principal: Principal, command: api.AcknowledgeAlarm) -> api.AlarmList:
        await _there(s.alarms).acknowledge(command.id)
        return await alarms(principal, api.ListAlarms())

    async def settings(_: Principal, _command: api.GetConfig) -> api.SettingList:
        return s.daemon.settings()

    async def paths(_: Principal, _command: api.GetPaths) -> api.PathList:
        return s.daemon.paths()

    async def stop(_: Principal, _command: api.StopDaemon) -> api.Stopping:
        return s.daemon.stop()

    async def metrics(principal: Principal | None, command: ops.GetMetrics) -> ops.Page:
        if s.metrics is None:
            raise NotFound("Metrics are switched off here, or have a port of their own (METRICS_PORT).")
        return await s.metrics.page(principal, command)

    async def openapi(_: Principal | None, _command: ops.GetOpenApi) -> ops.Page:
        return _there(s.docs).openapi()

    async def docs(_: Principal | None, _command: ops.GetDocs) -> ops.Page:
        return _there(s.docs).page()

    reading: Scope = "open" if s.docs_open else "any"

    def subscribe(_: Principal, command: api.Subscribe) -> Subscription:
        return s.events.subscribe(command.since, command.collection)

    data, one = "/api/data/{collection}", "/api/data/{collection}/{id}"
    d = s.documents
    return (
        Command("health", "GET", "/health", api.GetHealth, api.Health, "open", s.health.alive),
        Command("health.ready", "GET", "/health/ready", api.GetReadiness, api.Readiness, "admin", s.health.readiness),
        Command("data.list", "GET", data, api.ListDocuments, api.DocumentPage, "read", d.find),
        Command("data.create", "POST", data, api.CreateDocument, api.Document, "write", d.create, "data", 201),
        Command("data.get", "GET", one, api.GetDocument, api.Document, "read", d.get),
        Command("data.put", "PUT", one, api.PutDocument, api.Document, "write", d.put, "data", conditional=True),
        Command("data.patch", "PATCH", one, api.PatchDocument, api.Document, "write", d.patch, "patch",
                conditional=True),
        Command("data.delete", "DELETE", one, api.DeleteDocument, api.Document, "write", d.delete, conditional=True),
        Command("data.restore", "POST", f"{one}/restore", api.RestoreDocument, api.Document, "write", d.restore, "data",
                conditional=True),
        Command("data.batch", "POST", "/api/data", api.WriteBatch, api.BatchResult, "admin", d.batch, "*",
                max_body_bytes=api.MAX_IMPORT_BODY_BYTES),
        Command("collections.list", "GET", "/api/collections", api.ListCollections, api.CollectionList, "admin",
                s.collections.list),
        Command("collections.get", "GET", "/api/collections/{name}", api.GetCollection, api.Collection, "admin",
                s.collections.get),
        Command("collections.define", "PUT", "/api/collections/{name}", api.DefineCollection, api.Collection, "admin",
                s.collections.define, "*"),
        Command("conflicts.list", "GET", "/api/conflicts", api.ListConflicts, api.ConflictPage, "admin",
                s.conflicts.find),
        Command("conflicts.get", "GET", "/api/conflicts/{collection}/{id}", api.GetConflict, api.Conflict, "read",
                s.conflicts.get),
        Command("conflicts.resolve", "POST", "/api/conflicts/{collection}/{id}", api.ResolveConflict, api.Document,
                "write", s.conflicts.resolve, "*"),
        Command("sync.status", "GET", "/api/sync/status", api.GetSyncStatus, api.SyncStatus, "admin", sync_status),
        Command("sync.trigger", "POST", "/api/sync/trigger", api.TriggerSync, api.SyncResult, "admin", sync_trigger,
                "*"),
        Command("devices.list", "GET", "/api/devices", api.ListDevices, api.DeviceList, "admin", devices),
        Command("pairing.start", "POST", "/api/devices/pair", api.StartPairing, api.PairingOffer, "owner",
                pairing_start, "*", 201),
        Command("pairing.join", "POST", "/api/devices/pair/join", api.JoinPairing, api.Pairing, "owner", pairing_join,
                "*", 201),
        Command("pairing.get", "GET", "/api/devices/pair/{id}", api.GetPairing, api.Pairing, "owner", pairing_get),
        Command("pairing.confirm", "POST", "/api/devices/pair/{id}/confirm", api.ConfirmPairing, api.Pairing, "owner",
                pairing_confirm, "*"),
        Command("relays.list", "GET", "/api/relays", api.ListRelays, api.RelayList, "admin", relays),
        Command("relays.add", "POST", "/api/relays", api.AddRelay, api.Relay, "owner", relay_add, "*", 201),
        Command("relays.remove", "DELETE", "/api/relays", api.RemoveRelay, api.RelayList, "owner", relay_remove),
        Command("relays.test", "POST", "/api/relays/test", api.TestRelay, api.RelayCheck, "admin", relay_test, "*"),
        Command("alarms.list", "GET", "/api/alarms", api.ListAlarms, api.AlarmList, "admin", alarms),
        Command("alarms.acknowledge", "POST", "/api/alarms/{id}/acknowledge", api.AcknowledgeAlarm, api.AlarmList,
                "admin", alarm_acknowledge, "*"),
        Command("events", "GET", "/api/events", api.Subscribe, api.Document, "admin", stream=subscribe),
        Command("config", "GET", "/api/config", api.GetConfig, api.SettingList, "admin", settings),
        Command("config.health", "GET", "/api/config/health", ops.GetHealthReport, ops.HealthReport, "admin",
                s.health.report),
        Command("metrics", "GET", "/metrics", ops.GetMetrics, ops.Page, "open", metrics),
        Command("openapi", "GET", "/openapi.json", ops.GetOpenApi, ops.Page, reading, openapi),
        Command("docs", "GET", "/docs", ops.GetDocs, ops.Page, reading, docs),
        Command("paths", "GET", "/api/paths", api.GetPaths, api.PathList, "admin", paths),
        Command("daemon.stop", "POST", "/api/daemon/stop", api.StopDaemon, api.Stopping, "owner", stop, "*"),
    )  # fmt: skip


LOCKED: Final = (
    "The keys of this device are not open yet, so nothing is synced; local data is served. 'hybridgw doctor' says why."
)


def _there(part: T | None) -> T:
    if part is None:
        raise SecretsLocked(LOCKED)
    return part
