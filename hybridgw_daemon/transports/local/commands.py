"""The one table of the local API: every command with its types, its right, its place in HTTP, and who does it.

Carriers are generated from it and add no logic: HTTP now, WebSocket, native messaging and a local socket later. A row
says all that a carrier needs to know; what a command means stands in localapi.py and in the services.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar

from msgspec import UNSET

from hybridgw_protocol import localapi as api
from hybridgw_protocol import localapi_access as access
from hybridgw_protocol import localapi_devices as own  # a person's own devices
from hybridgw_protocol import localapi_lan as lan
from hybridgw_protocol import localapi_live as live
from hybridgw_protocol import localapi_messages as said
from hybridgw_protocol import localapi_operations as ops
from hybridgw_protocol import localapi_people as people
from hybridgw_protocol.errors import Busy, Forbidden, NotFound, SecretsLocked, Unauthorized
from hybridgw_protocol.ids import check_collection
from hybridgw_protocol.localapi_frames import FrameSchema, schema

from ...core.targets import PEOPLE
from ...services.access import Access
from ...services.collections import CollectionService
from ...services.conflicts import ConflictService
from ...services.contacts import ContactService
from ...services.documents import DocumentService
from ...services.events import EventHub, Subscription
from ...services.health import HealthService
from ...services.messages import MessageService
from ...services.ports import (
    NOBODY,
    AlarmPort,
    DaemonPort,
    DashboardPort,
    DevicePort,
    DocsPort,
    ExpellingPort,
    HubPort,
    LanPort,
    MetricsPort,
    PairingPort,
    Principal,
    QuarantinePort,
    RecoveryPort,
    RelayPort,
    SyncPort,
)
from .dashboard import dashboard_files

T = TypeVar("T")
Scope = Literal["open", "ask", "any", "read", "write", "send", "listen", "admin", "owner"]
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
    expelling: ExpellingPort | None = None
    quarantine: QuarantinePort | None = None
    recovery: RecoveryPort | None = None
    pairing: PairingPort | None = None
    relays: RelayPort | None = None
    lan: LanPort | None = None
    alarms: AlarmPort | None = None
    access: Access | None = None  # of apps and scripts; without it only the owner is known
    metrics: MetricsPort | None = None  # None: switched off, or on a port of its own
    docs: Callable[[], DocsPort] | None = None  # made when first read
    docs_open: bool = False  # in development no credential is needed to read them
    hub: HubPort | None = None
    dashboard: Callable[[], DashboardPort] = field(default=dashboard_files)  # read when first opened
    messages: MessageService | None = None
    contacts: ContactService | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    name: on carriers without paths; kind, result: types of localapi; scope: the right it needs, see `require`; names:
    the collections it concerns, without it the one in the field `collection`; handler: does it; body: the field that an
    HTTP body is, `*`: the body is an object of fields, None: no body; conditional: If-Match is understood; stream:
    instead of a handler; is_file: a file of the dashboard: it has no place on other carriers nor in the description of
    the API, and counts against no budget.
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
    names: Callable[[Any], Iterable[str]] | None = None
    is_file: bool = False

    @property
    def is_open(self) -> bool:
        """Is it for callers without a credential too."""
        return self.scope in ("open", "ask")


class Guarded(Protocol):
    """A row of this table, or of a carrier's own."""

    @property
    def scope(self) -> Scope:
        """The right it needs, see `require`."""
        ...

    @property
    def names(self) -> Callable[[Any], Iterable[str]] | None:
        """The collections it concerns; None: the one in the field `collection`."""
        ...

    @property
    def is_open(self) -> bool:
        """Is it for callers without a credential too."""
        ...


def require(principal: Principal | None, row: Guarded, command: api.Command) -> None:
    """Raise Unauthorized or Forbidden unless the principal has the right that the row asks for.

    `open`: nobody needs one; `ask`: nor does a page that was not let in; `any`: a credential, and the answer holds only
    what it may see; `read`, `write`: for each collection that the command concerns, or for the one document that it is
    about; `send`, `listen`: for its `topic`; `admin`; `owner`: no scope gives it.
    """
    if (principal is not None and principal.is_owner) or row.is_open:
        return
    if principal is None or principal.id == NOBODY:
        raise Unauthorized("This call needs a credential.")
    if row.scope == "any":
        return
    document = None
    match row.scope:
        case "read" | "write":
            if row.names is None:
                document = getattr(command, "id", None)  # beside `collection`: of a document, and of nothing else
            names = row.names(command) if row.names is not None else (command.collection,)  # type: ignore[attr-defined]
        case "send" | "listen":
            names = row.names(command) if row.names is not None else (command.topic,)  # type: ignore[attr-defined]
        case "admin" if principal.is_admin:
            return
        case _:
            raise Forbidden(f"This credential does not give the right `{row.scope}`.")
    for name in names:
        if not principal.allows(row.scope, name, document):
            raise Forbidden(f"This credential does not give the right `{row.scope}:{name}`.")


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

    async def devices(_: Principal, _command: own.ListDevices) -> own.DeviceList:
        return own.DeviceList(items=await _there(s.devices).list())

    async def device_rename(_: Principal, command: own.RenameDevice) -> own.Device:
        return await _there(s.devices).rename(command)

    async def device_plan(_: Principal, command: own.PlanRemoval) -> own.Removal:
        return await (_there(s.expelling).plan(command) if command.lost else _there(s.devices).plan(command))

    async def device_remove(_: Principal, command: own.RemoveDevice) -> own.DeviceChange:
        return await _there(s.devices).remove(command)

    async def device_restore(_: Principal, command: own.RestoreDevice) -> own.DeviceChange:
        return await _there(s.devices).restore(command)

    async def device_leave(_: Principal, command: own.LeaveSpace) -> own.DeviceChange:
        return await _there(s.devices).leave(command)

    async def device_expel(_: Principal, command: own.ExpelDevice) -> own.DeviceChange:
        return await _there(s.expelling).expel(command)

    async def device_undo(_: Principal, command: own.UndoDevice) -> own.DeviceChange:
        return await _there(s.expelling).undo(command)

    async def device_settle(_: Principal, command: own.SettleDevice) -> own.DeviceChange:
        return await _there(s.expelling).settle(command)

    async def quarantine(_: Principal, _command: own.ListQuarantine) -> own.QuarantineList:
        return await _there(s.quarantine).list()

    async def quarantine_take(_: Principal, command: own.ImportQuarantine) -> own.Imported:
        return await _there(s.quarantine).take(command)

    async def recovery(_: Principal, _command: own.GetRecovery) -> own.RecoveryStatus:
        return await _there(s.recovery).status()

    async def recovery_show(_: Principal, _command: own.ShowRecoveryWords) -> own.RecoveryWords:
        return await _there(s.recovery).show()

    async def recovery_confirm(_: Principal, command: own.ConfirmRecovery) -> own.RecoveryStatus:
        return await _there(s.recovery).confirm(command)

    async def recover(_: Principal, command: own.RecoverSpace) -> own.Recovered:
        return await _there(s.recovery).recover(command)

    async def pairing_start(_: Principal, command: own.StartPairing) -> own.PairingOffer:
        return await _there(s.pairing).start(command.relay)

    async def pairing_join(_: Principal, command: own.JoinPairing) -> own.Pairing:
        return await _there(s.pairing).join(command.code, command.name, anew=command.anew, ask=command.ask)

    async def pairing_get(_: Principal, command: own.GetPairing) -> own.Pairing:
        return await _there(s.pairing).get(command.id)

    async def pairing_confirm(_: Principal, command: own.ConfirmPairing) -> own.Pairing:
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

    async def lan_status(_: Principal, _command: lan.GetLan) -> lan.LanStatus:
        return await _there(s.lan).status()

    async def lan_add(_: Principal, command: lan.AddLanAddress) -> lan.LanStatus:
        return await _there(s.lan).add(command.address)

    async def lan_remove(_: Principal, command: lan.RemoveLanAddress) -> lan.LanStatus:
        return await _there(s.lan).remove(command.address)

    async def lan_test(_: Principal, command: lan.TestLan) -> lan.LanReport:
        return await _there(s.lan).test(command.address)

    async def alarms(_: Principal, command: api.ListAlarms) -> api.AlarmList:
        return api.AlarmList(items=await s.alarms.list(all_of_them=command.all) if s.alarms else [])

    async def alarm_acknowledge(principal: Principal, command: api.AcknowledgeAlarm) -> api.AlarmList:
        await _there(s.alarms).acknowledge(command.id)
        s.events.publish("alarms")
        return await alarms(principal, api.ListAlarms())

    async def settings(_: Principal, _command: api.GetConfig) -> api.SettingList:
        return s.daemon.settings()

    async def paths(_: Principal, _command: api.GetPaths) -> api.PathList:
        return s.daemon.paths()

    async def logs(_: Principal, command: ops.ListLogs) -> ops.LogPage:
        return await s.daemon.logs(command)

    async def stop(_: Principal, _command: api.StopDaemon) -> api.Stopping:
        return s.daemon.stop()

    def subscribe(principal: Principal, command: api.Subscribe) -> Subscription:
        if command.collection is not None and not principal.allows("read", command.collection):
            raise Forbidden(f"This credential does not give the right `read:{command.collection}`.")
        return s.events.subscribe(command.since, command.collection, readable=principal.readable())

    async def metrics(principal: Principal | None, command: ops.GetMetrics) -> ops.Page:
        if s.metrics is None:
            raise NotFound("Metrics are switched off here, or have a port of their own (METRICS_PORT).")
        return await s.metrics.page(principal, command)

    async def openapi(_: Principal | None, _command: ops.GetOpenApi) -> ops.Page:
        return _there(s.docs)().openapi()

    async def docs(_: Principal | None, _command: ops.GetDocs) -> ops.Page:
        return _there(s.docs)().page()

    async def page(_: Principal | None, _command: ops.GetDashboard) -> ops.Page:
        return s.dashboard().page()

    async def file(_: Principal | None, command: ops.GetDashboardFile) -> ops.Page:
        return s.dashboard().file(command.name)

    reading: Scope = "open" if s.docs_open else "any"

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
        Command("data.create", "POST", data, api.CreateDocument, api.Document, "write", _written(d.create), "data",
                201),
        Command("data.get", "GET", one, api.GetDocument, api.Document, "read", d.get),
        Command("data.put", "PUT", one, api.PutDocument, api.Document, "write", _written(d.put), "data",
                conditional=True),
        Command("data.patch", "PATCH", one, api.PatchDocument, api.Document, "write", _written(d.patch), "patch",
                conditional=True),
        Command("data.delete", "DELETE", one, api.DeleteDocument, api.Document, "write", d.delete, conditional=True),
        Command("data.restore", "POST", f"{one}/restore", api.RestoreDocument, api.Document, "write",
                _written(d.restore), "data", conditional=True),
        Command("data.batch", "POST", "/api/data", api.WriteBatch, api.BatchResult, "write", d.batch, "*",
                max_body_bytes=api.MAX_IMPORT_BODY_BYTES, names=lambda c: sorted({o.collection for o in c.operations})),
        Command("collections.list", "GET", "/api/collections", api.ListCollections, api.CollectionList, "any",
                s.collections.list),
        Command("collections.get", "GET", "/api/collections/{name}", api.GetCollection, api.Collection, "read",
                s.collections.get, names=lambda c: (c.name,)),
        Command("collections.define", "PUT", "/api/collections/{name}", api.DefineCollection, api.Collection, "write",
                s.collections.define, "*", names=lambda c: (c.name,)),
        Command("conflicts.list", "GET", "/api/conflicts", api.ListConflicts, api.ConflictPage, "any",
                s.conflicts.find),
        Command("conflicts.get", "GET", "/api/conflicts/{collection}/{id}", api.GetConflict, api.Conflict, "read",
                s.conflicts.get),
        Command("conflicts.resolve", "POST", "/api/conflicts/{collection}/{id}", api.ResolveConflict, api.Document,
                "write", _written(s.conflicts.resolve), "*"),
        Command("sync.status", "GET", "/api/sync/status", api.GetSyncStatus, api.SyncStatus, "admin", sync_status),
        Command("sync.trigger", "POST", "/api/sync/trigger", api.TriggerSync, api.SyncResult, "admin", sync_trigger,
                "*"),
        Command("devices.list", "GET", "/api/devices", own.ListDevices, own.DeviceList, "admin", devices),
        Command("devices.rename", "POST", "/api/devices/{id}/rename", own.RenameDevice, own.Device, "owner",
                device_rename, "*"),
        Command("devices.plan", "GET", "/api/devices/{id}/removal", own.PlanRemoval, own.Removal, "owner",
                device_plan),
        Command("devices.remove", "POST", "/api/devices/{id}/remove", own.RemoveDevice, own.DeviceChange, "owner",
                device_remove, "*"),
        Command("devices.restore", "POST", "/api/devices/{id}/restore", own.RestoreDevice, own.DeviceChange, "owner",
                device_restore, "*"),
        Command("devices.leave", "POST", "/api/devices/leave", own.LeaveSpace, own.DeviceChange, "owner", device_leave,
                "*"),
        Command("devices.expel", "POST", "/api/devices/{id}/expel", own.ExpelDevice, own.DeviceChange, "owner",
                device_expel, "*"),
        Command("devices.undo", "POST", "/api/devices/{id}/undo", own.UndoDevice, own.DeviceChange, "owner",
                device_undo, "*"),
        Command("devices.settle", "POST", "/api/devices/{id}/settle", own.SettleDevice, own.DeviceChange, "owner",
                device_settle, "*"),
        Command("devices.quarantine", "GET", "/api/devices/quarantine", own.ListQuarantine, own.QuarantineList,
                "owner", quarantine),
        Command("devices.quarantine.import", "POST", "/api/devices/{id}/quarantine", own.ImportQuarantine,
                own.Imported, "owner", quarantine_take, "*"),
        Command("recovery.get", "GET", "/api/recovery", own.GetRecovery, own.RecoveryStatus, "owner", recovery),
        Command("recovery.show", "POST", "/api/recovery/show", own.ShowRecoveryWords, own.RecoveryWords, "owner",
                recovery_show, "*"),
        Command("recovery.confirm", "POST", "/api/recovery/confirm", own.ConfirmRecovery, own.RecoveryStatus, "owner",
                recovery_confirm, "*"),
        Command("recovery.recover", "POST", "/api/recovery/recover", own.RecoverSpace, own.Recovered, "owner", recover,
                "*"),
        Command("pairing.start", "POST", "/api/devices/pair", own.StartPairing, own.PairingOffer, "owner",
                pairing_start, "*", 201),
        Command("pairing.join", "POST", "/api/devices/pair/join", own.JoinPairing, own.Pairing, "owner", pairing_join,
                "*", 201),
        Command("pairing.get", "GET", "/api/devices/pair/{id}", own.GetPairing, own.Pairing, "owner", pairing_get),
        Command("pairing.confirm", "POST", "/api/devices/pair/{id}/confirm", own.ConfirmPairing, own.Pairing, "owner",
                pairing_confirm, "*"),
        Command("relays.list", "GET", "/api/relays", api.ListRelays, api.RelayList, "admin", relays),
        Command("relays.add", "POST", "/api/relays", api.AddRelay, api.Relay, "owner", relay_add, "*", 201),
        Command("relays.remove", "DELETE", "/api/relays", api.RemoveRelay, api.RelayList, "owner", relay_remove),
        Command("relays.test", "POST", "/api/relays/test", api.TestRelay, api.RelayCheck, "admin", relay_test, "*"),
        Command("lan.status", "GET", "/api/lan", lan.GetLan, lan.LanStatus, "admin", lan_status),
        Command("lan.add", "POST", "/api/lan/addresses", lan.AddLanAddress, lan.LanStatus, "owner", lan_add, "*", 201),
        Command("lan.remove", "DELETE", "/api/lan/addresses", lan.RemoveLanAddress, lan.LanStatus, "owner", lan_remove),
        Command("lan.test", "POST", "/api/lan/test", lan.TestLan, lan.LanReport, "admin", lan_test, "*"),
        Command("alarms.list", "GET", "/api/alarms", api.ListAlarms, api.AlarmList, "admin", alarms),
        Command("alarms.acknowledge", "POST", "/api/alarms/{id}/acknowledge", api.AcknowledgeAlarm, api.AlarmList,
                "admin", alarm_acknowledge, "*"),
        Command("events", "GET", "/api/events", api.Subscribe, api.Document, "any", stream=subscribe),
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
        Command("config.health", "GET", "/api/config/health", ops.GetHealthReport, ops.HealthReport, "admin",
                s.health.report),
        Command("metrics", "GET", "/metrics", ops.GetMetrics, ops.Page, "open", metrics),
        Command("openapi", "GET", "/openapi.json", ops.GetOpenApi, ops.Page, reading, openapi),
        Command("docs", "GET", "/docs", ops.GetDocs, ops.Page, reading, docs),
        Command("paths", "GET", "/api/paths", api.GetPaths, api.PathList, "admin", paths),
        Command("logs.list", "GET", "/api/logs", ops.ListLogs, ops.LogPage, "owner", logs),
        Command("daemon.stop", "POST", "/api/daemon/stop", api.StopDaemon, api.Stopping, "owner", stop, "*"),
        *(message_rows(s.messages) if s.messages is not None else ()),
        *people_rows(s),
        *(access_rows(s.access) if s.access is not None else ()),
        Command("dashboard.page", "GET", "/", ops.GetDashboard, ops.Page, "open", page, is_file=True),
        Command("dashboard.file", "GET", "/assets/{name}", ops.GetDashboardFile, ops.Page, "open", file, is_file=True),
    )  # fmt: skip


def message_names(command: Any) -> list[str]:
    """What the right `send` is needed for: the topics that a message goes to, `people` for a person, else its type."""
    to = getattr(command, "to", None)
    texts = [to] if isinstance(to, str) else to or []
    topics = [text.partition(":")[2].rpartition("@")[0] or text.partition(":")[2] for text in texts
              if text.startswith("topic:")]  # fmt: skip
    topics += [PEOPLE] * sum(text.startswith("person:") for text in texts)
    return topics + [command.type] * (len(topics) < max(1, len(texts)))


def message_rows(m: MessageService) -> tuple[Command, ...]:
    """The rows of messages."""
    base, one, rules = "/api/messages", "/api/messages/{id}", "/api/messages/rules"
    return (
        Command("messages.send", "POST", base, said.SendMessage, said.Message, "send", m.send, "*", 201,
                names=message_names),
        Command("messages.broadcast", "POST", f"{base}/broadcast", said.BroadcastMessage, said.Message, "send",
                m.broadcast, "*", 201, names=message_names),
        Command("messages.list", "GET", base, said.ListMessages, said.MessagePage, "any", m.history.list),
        Command("messages.notifications", "GET", f"{base}/notifications", said.ListNotifications,
                said.NotificationList, "any", m.history.notifications),
        Command("messages.devices", "GET", f"{base}/devices", said.ListAddressees, said.AddresseeList, "any",
                m.history.devices),
        Command("messages.programs", "GET", f"{base}/programs", said.ListPrograms, said.ProgramList, "admin",
                m.history.programs),
        Command("messages.presence", "GET", f"{base}/presence", said.ListPresence, said.PresenceList, "admin",
                m.presence.devices),
        Command("messages.explain", "POST", f"{base}/route", said.ExplainMessage, said.RouteReport, "admin",
                m.routing.explain, "*"),
        Command("messages.rules", "GET", rules, said.ListRules, said.RuleList, "admin", m.routing.rules),
        Command("messages.rules.put", "PUT", rules, said.PutRules, said.RuleList, "admin", m.routing.put_rules, "*"),
        Command("messages.get", "GET", one, said.GetMessage, said.Message, "any", m.history.get),
        Command("messages.acknowledge", "POST", f"{one}/ack", said.AckMessage, said.Acknowledged, "any", m.ack_one,
                "*"),
        Command("messages.retry", "POST", f"{one}/retry", said.RetryMessage, said.Message, "admin", m.retry, "*", 201),
        Command("messages.delete", "DELETE", one, said.DeleteMessage, said.Deleted, "admin", m.delete),
    )  # fmt: skip


def people_rows(s: Services) -> tuple[Command, ...]:
    """The rows of other people. They wait for the keys of this device."""
    base, one = "/api/contacts", "/api/contacts/{contact}"

    def does(call: Callable[[ContactService], Handler]) -> Handler:
        async def handler(principal: Principal, command: api.Command) -> Any:
            return await call(_there(s.contacts))(principal, command)

        return handler

    return (
        Command("contacts.list", "GET", base, people.ListContacts, people.ContactList, "admin",
                does(lambda c: c.list)),
        Command("contacts.add", "POST", base, people.AddContact, people.Contact, "owner", does(lambda c: c.add), "*",
                201),
        Command("contacts.requests", "GET", f"{base}/requests", people.ListContactRequests, people.ContactRequestList,
                "admin", does(lambda c: c.requests)),
        Command("contacts.address", "GET", f"{base}/address", people.GetOwnAddress, people.OwnAddress, "admin",
                does(lambda c: c.own_address)),
        Command("contacts.publish", "POST", f"{base}/address", people.PublishAddress, people.OwnAddress, "owner",
                does(lambda c: c.publish), "*"),
        Command("contacts.withdraw", "DELETE", f"{base}/address", people.WithdrawAddress, people.OwnAddress, "owner",
                does(lambda c: c.withdraw)),
        Command("contacts.get", "GET", one, people.GetContact, people.Contact, "admin", does(lambda c: c.get)),
        Command("contacts.accept", "POST", f"{one}/accept", people.AcceptContact, people.Contact, "owner",
                does(lambda c: c.accept), "*"),
        Command("contacts.block", "POST", f"{one}/block", people.BlockContact, people.Contact, "owner",
                does(lambda c: c.block), "*"),
        Command("contacts.rename", "POST", f"{one}/rename", people.RenameContact, people.Contact, "owner",
                does(lambda c: c.rename), "*"),
        Command("contacts.verify", "POST", f"{one}/verify", people.VerifyContact, people.Contact, "owner",
                does(lambda c: c.verify), "*"),
        Command("contacts.remove", "DELETE", one, people.RemoveContact, people.ContactRemoved, "owner",
                does(lambda c: c.remove)),
    )  # fmt: skip


def access_rows(a: Access) -> tuple[Command, ...]:
    """The rows of identity: apps that ask, tokens, keys, the audit log."""
    grants, one, keys, key = "/api/auth/grants", "/api/auth/grants/{id}", "/api/auth/keys", "/api/auth/keys/{id}"
    dashboard = "/api/auth/dashboard"
    g, t, k = a.grants, a.sessions, a.keys
    return (
        Command("auth.login", "POST", "/api/auth/login", access.Login, access.Tokens, "open", t.login, "*"),
        Command("auth.refresh", "POST", "/api/auth/refresh", access.Refresh, access.Tokens, "open", t.refresh, "*"),
        Command("auth.logout", "POST", "/api/auth/logout", access.Logout, access.LoggedOut, "any", t.logout, "*"),
        Command("auth.validate", "GET", "/api/auth/validate", access.Validate, access.Validity, "any", t.validate),
        Command("auth.status", "GET", "/api/auth/status", access.GetAuthStatus, access.AuthStatus, "any", t.status),
        Command("auth.grants.ask", "POST", grants, access.AskGrant, access.GrantAsked, "ask", g.ask, "*", 202),
        Command("auth.grants.get", "GET", one, access.GetGrant, access.Grant, "ask", g.get),
        Command("auth.grants.list", "GET", grants, access.ListGrants, access.GrantList, "owner", g.list),
        Command("auth.grants.approve", "POST", f"{one}/approve", access.ApproveGrant, access.Grant, "owner", g.approve,
                "*"),
        Command("auth.grants.refuse", "POST", f"{one}/refuse", access.RefuseGrant, access.Grant, "owner", g.refuse,
                "*"),
        Command("auth.grants.revoke", "DELETE", one, access.RevokeGrant, access.Grant, "owner", g.revoke),
        Command("auth.keys.list", "GET", keys, access.ListApiKeys, access.ApiKeyList, "admin", k.list),
        Command("auth.keys.create", "POST", keys, access.CreateApiKey, access.NewApiKey, "admin", k.create, "*", 201),
        Command("auth.keys.rotate", "POST", f"{key}/rotate", access.RotateApiKey, access.NewApiKey, "admin", k.rotate,
                "*"),
        Command("auth.keys.revoke", "DELETE", key, access.RevokeApiKey, access.ApiKeyList, "admin", k.revoke),
        Command("auth.dashboard.link", "POST", f"{dashboard}/links", access.CreateDashboardLink, access.DashboardLink,
                "owner", a.dashboard.link, "*", 201),
        Command("auth.dashboard.open", "POST", dashboard, access.OpenDashboard, access.DashboardSession, "open",
                a.dashboard.open, "*", 201),
        Command("auth.audit", "GET", "/api/auth/audit", access.ListAudit, access.AuditPage, "owner", a.audit.list),
        Command("auth.audit.export", "POST", "/api/auth/audit/exports", access.NoteExport, access.Noted, "owner",
                a.audit.note_export, "*", 201),
    )  # fmt: skip


def _written(handler: Handler) -> Handler:
    """The document that a write answers with, without its content for who may write it and not read it."""

    async def handle(principal: Principal, command: Any) -> api.Document:
        document: api.Document = await handler(principal, command)
        if not principal.allows("read", document.collection, document.id):
            document.data = UNSET
        return document

    return handle


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
