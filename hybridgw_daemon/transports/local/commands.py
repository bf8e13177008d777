"""The one table of the local API: every command with its types, its right, its place in HTTP, and who does it.

Carriers are generated from it and add no logic: HTTP now, WebSocket, native messaging and a local socket later. A row
says all that a carrier needs to know; what a command means stands in localapi.py and in the services.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

from hybridgw_protocol import localapi as api
from hybridgw_protocol import localapi_live as live
from hybridgw_protocol.errors import Busy, Forbidden, SecretsLocked, Unauthorized
from hybridgw_protocol.ids import check_collection
from hybridgw_protocol.localapi_frames import FrameSchema, schema

from ...services.collections import CollectionService
from ...services.conflicts import ConflictService
from ...services.documents import DocumentService
from ...services.events import EventHub, Subscription
from ...services.health import HealthService
from ...services.ports import AlarmPort, DaemonPort, DevicePort, HubPort, PairingPort, Principal, RelayPort, SyncPort

T = TypeVar("T")
Scope = Literal["open", "any", "read", "write", "send", "listen", "admin", "owner"]
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
    hub: HubPort | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    name: on carriers without paths; kind, result: types of localapi; scope: the right it needs, of `read` and `write`
    for the collection in the field `collection`; handler: does it; body: the field that an HTTP body is, `*`: the body
    is an object of fields, None: no body; conditional: If-Match is understood; stream: instead of a handler.
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


class Guarded(Protocol):
    """A row of this table or of a carrier's own."""

    @property
    def scope(self) -> Scope:
        """The right it needs; `any`: a credential, as it touches only what is the caller's own."""
        ...


def require(principal: Principal | None, row: Guarded, command: api.Command | None = None) -> None:
    """Raise Unauthorized or Forbidden unless the principal has the right that the row asks for.

    Args: command: names the collection or the topic.
    """
    del command
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

    def subscribe(_: Principal, command: api.Subscribe) -> Subscription:
        return s.events.subscribe(command.since, command.collection)

    async def publish(_: Principal, command: live.PublishTopic) -> live.Published:
        return live.Published(listeners=_hub(s).publish(command.topic, command.data))

    async def stats(_: Principal, _command: live.GetStats) -> live.ConnectionStats:
        return _hub(s).stats()

    async def connections(_: Principal, command: live.ListConnections) -> live.ConnectionReport:
        return _hub(s).connections(command.archived)

    async def deployments(_: Principal, _command: live.ListDeployments) -> live.DeploymentList:
        return _hub(s).deployments()

    async def frame_schema(_: Principal, _command: live.GetFrameSchema) -> FrameSchema:
        return schema()

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
        Command("topic.publish", "POST", "/api/topics/{topic}", live.PublishTopic, live.Published, "send", publish,
                "data"),
        Command("frames.schema", "GET", "/api/frames.schema.json", live.GetFrameSchema, FrameSchema, "any",
                frame_schema),
        Command("config.stats", "GET", "/api/config/stats", live.GetStats, live.ConnectionStats, "admin", stats),
        Command("config.deployments", "GET", "/api/config/deployments", live.ListDeployments, live.DeploymentList,
                "any", deployments),
        Command("analytics.connections", "GET", "/api/analytics/connections", live.ListConnections,
                live.ConnectionReport, "admin", connections),
        Command("config", "GET", "/api/config", api.GetConfig, api.SettingList, "admin", settings),
        Command("paths", "GET", "/api/paths", api.GetPaths, api.PathList, "admin", paths),
        Command("daemon.stop", "POST", "/api/daemon/stop", api.StopDaemon, api.Stopping, "owner", stop, "*"),
    )  # fmt: skip


LOCKED: Final = (
    "The keys of this device are not open yet, so nothing is synced; local data is served. 'hybridgw doctor' says why."
)


def _hub(services: Services) -> HubPort:
    if services.hub is None:
        raise Busy("The daemon is starting.")
    return services.hub


def _there(part: T | None) -> T:
    if part is None:
        raise SecretsLocked(LOCKED)
    return part
