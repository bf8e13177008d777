"""The local API in types: what each command asks and answers. The same on every carrier (HTTP, WebSocket, native host).

A command names its fields; how HTTP carries them (path, query, headers, body) stands in the daemon's command table.
A reader of answers ignores fields that it does not know. Times are Unix milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .errors import BadValue
from .limits import MAX_INT
from .names import check_names

MAX_BODY_BYTES: Final = 1024 * 1024  # one request
MAX_IMPORT_BODY_BYTES: Final = 8 * 1024 * 1024  # a batch of writes
MAX_PAGE: Final = 1_000  # documents in one page
MAX_OPERATIONS: Final = 100_000  # writes in one request; the body limit is reached before

Data = dict[str, Any]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
RowId = Annotated[int, Meta(ge=0, le=MAX_INT)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a caller asks for. An unknown field is refused: it may be a misspelt condition."""


class Result(msgspec.Struct, kw_only=True):
    """What the daemon answers. Every field is there, `null` when there is nothing to say, but those that say absent."""


# ---- documents ------------------------------------------------------------------------------------------------------
class Document(Result):
    """A document as it stands now. version: the place of its last change in the change feed, and its ETag.

    data: absent when the document is deleted, or in a feed when its collection is locked; conflicts: open ones;
    deleted: true, else absent.
    """

    id: str
    collection: str
    version: int
    conflicts: int
    data: Raw | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class DocumentPage(Result):
    """next_cursor: null on the last page; since: where the change feed stood when this page was read."""

    items: list[Document]
    since: str
    next_cursor: str | None = None


class ListDocuments(Command):
    """filter: conditions by field, all of which hold; sort: field names, `-` first for descending."""

    collection: str
    filter: Data | None = None
    sort: str | None = None
    limit: Limit = 100
    cursor: str | None = None
    deleted: bool = False


class GetDocument(Command):
    """known: the version the caller has; the same one is not sent again."""

    collection: str
    id: str
    known: int | None = None


class CreateDocument(Command):
    """A new document; without an id it gets one that sorts by time."""

    collection: str
    data: Data
    id: str | None = None


class PutDocument(Command):
    """Replace all of a document, or make it. exists: what it must be before; version: the version it must have."""

    collection: str
    id: str
    data: Data
    version: int | None = None
    exists: bool | None = None


class PatchDocument(Command):
    """Change some fields (RFC 7396): null removes a field; `{"$add": […], "$remove": […]}` changes a set."""

    collection: str
    id: str
    patch: Data
    version: int | None = None


class DeleteDocument(Command):
    """confirm: a person has agreed to delete many at once."""

    collection: str
    id: str
    version: int | None = None
    confirm: bool = False


class RestoreDocument(Command):
    """Bring a deleted document back with this content."""

    collection: str
    id: str
    data: Data
    version: int | None = None


class BatchOperation(Command):
    """One write of a batch. data: for create, put and restore; patch: for patch; version: the one it must have."""

    op: Literal["create", "put", "patch", "delete", "restore"]
    collection: str
    id: str | None = None
    data: Data | None = None
    patch: Data | None = None
    version: int | None = None


class WriteBatch(Command):
    """Several writes. atomic: all or none, within the limits of one transaction; else as many as are needed."""

    operations: Annotated[list[BatchOperation], Meta(min_length=1, max_length=MAX_OPERATIONS)]
    atomic: bool = True
    confirm: bool = False


class Change(Result):
    """What one write of a batch did. deleted: true, else absent."""

    id: str
    collection: str
    version: int
    deleted: bool | UnsetType = UNSET


class BatchResult(Result):
    """In the order of the operations. transactions: how many the batch was split into."""

    items: list[Change]
    transactions: int


# ---- collections ----------------------------------------------------------------------------------------------------
class Collection(Result):
    """schema: the JSON Schema that local writes are checked against; min_reader: version of the schema rules needed."""

    name: str
    documents: int
    conflicts: int = 0
    builtin: bool = False
    secret: bool = False
    read_only: bool = False
    title: str | None = None
    schema: Data | None = None
    min_reader: int = 1


class CollectionList(Result):
    """All collections of the space by name."""

    items: list[Collection]
    next_cursor: str | None = None


class ListCollections(Command):
    """All collections."""


class GetCollection(Command):
    """One collection."""

    name: str


class DefineCollection(Command):
    """Set the schema of a collection; it travels to the other devices. Documents that exist stay as they are."""

    name: str
    schema: Data | None = None
    title: Text | None = None
    min_reader: Annotated[int, Meta(ge=1)] = 1


# ---- conflicts ------------------------------------------------------------------------------------------------------
class Alternative(Result):
    """A value that was written without seeing the one shown.

    key: names it when it is chosen, the same on every device; device: who wrote it, hexadecimal.
    """

    key: str
    value: Any = None
    at_ms: int | None = None
    device: str | None = None


class FieldConflict(Result):
    """One field with more than one value. kind: `value`, or `element` of a set that a delete buried.

    shown: the value that the document shows, absent when it shows none; buried: written to a generation that ended.
    """

    field: str
    kind: Literal["value", "element"]
    others: list[Alternative]
    shown: Any = UNSET
    buried: bool = False


class Conflict(Result):
    """A document with open conflicts, its content beside them."""

    collection: str
    id: str
    version: int
    count: int
    fields: list[FieldConflict]
    data: Raw | UnsetType = UNSET
    deleted: bool = False


class ConflictPage(Result):
    """Documents with open conflicts."""

    items: list[Conflict]
    total: int
    next_cursor: str | None = None


class ListConflicts(Command):
    """The conflict inbox."""

    collection: str | None = None
    limit: Limit = 100
    cursor: str | None = None


class GetConflict(Command):
    """The open conflicts of one document."""

    collection: str
    id: str


class Choice(Command):
    """What becomes of one field: what is shown, an alternative by its key, elements by their keys, or a new value."""

    keep: Literal["shown", "other"] | None = None
    key: str | None = None
    keys: list[str] | None = None
    value: Any = UNSET


class ResolveConflict(Command):
    """version: the one whose conflicts the person saw; choices: by field; keep: for all other fields.

    `other` is the latest alternative, of elements all of them. Without `keep`, fields not named stay as they are.
    """

    collection: str
    id: str
    version: int
    keep: Literal["shown", "other"] | None = None
    choices: dict[str, Choice] = {}


# ---- sync -----------------------------------------------------------------------------------------------------------
DeploymentMode = Literal["web_app", "browser_extension", "local_install"]
SyncState = Literal["in_step", "syncing", "offline", "parked", "locked"]


class RelayStatus(Result):
    """One relay as the sync service sees it. rtt_ms: how long its last answer took, to a ping, or to a push,
    which it has stored then; null: it has not been asked yet."""

    url: str
    state: Literal["connected", "connecting", "offline", "refused"]
    error: str | None = None
    rtt_ms: float | None = None
    last_ms: int | None = None
    sent_bytes: int = 0
    received_bytes: int = 0


class DirectLink(Result):
    """A connection with another device, without a relay. address: where it was reached, or came from; sent:
    batches that went over it; received: those that came and were new here."""

    device: str
    name: str
    address: str
    sent: int = 0
    received: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


class SyncStatus(Result):
    """path: the ways in use; path_reason: why it is these, for a person; direct: devices that are connected directly;
    lan: can devices on the same network be reached directly.

    pending: local writes not sealed yet; to_send: batches nobody else has confirmed; waiting: batches not applied yet.

    message: what a person should know or do, when the state asks for it; alarms: open ones; standing: does this device
    belong to its space; `refused`: it was told that it does not, and has no record of why.
    """

    state: SyncState
    standing: Literal["active", "left", "removed", "expelled", "refused"] = "active"
    path: Literal["relay", "lan", "both", "none"] = "none"
    path_reason: str = ""
    pending: int = 0
    to_send: int = 0
    waiting: int = 0
    logs: int = 0
    conflicts: int = 0
    alarms: int = 0
    devices: int = 0
    relays: list[RelayStatus] = []
    direct: list[DirectLink] = []
    lan: bool = False
    last_sync_ms: int | None = None
    message: str | None = None


class GetSyncStatus(Command):
    """sync_type: a collection, or `all`."""

    sync_type: str = "all"


class TriggerSync(Command):
    """full: compare everything; wait: answer when done, or after timeout_s."""

    sync_type: str = "all"
    deployment_mode: DeploymentMode | None = None
    full: bool = False
    wait: bool = True
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0


class SyncResult(Result):
    """What one run did. status: `out`: this device does not belong to its space any more, a person is needed; sent,
    received: operations or batches of `sync_type`, as the service counts them."""

    sync_type: str
    status: Literal["done", "started", "offline", "timeout", "parked", "locked", "out"]
    path: str
    sent: int = 0
    received: int = 0
    conflicts: int = 0
    started_at: int = 0
    finished_at: int | None = None


# ---- relays and alarms ----------------------------------------------------------------------------------------------
class Relay(Result):
    """A relay of this profile."""

    url: str
    added_ms: int = 0
    enrolled: bool = False
    state: str = "offline"
    error: str | None = None


class RelayList(Result):
    """The relays of this profile, in the order they were added."""

    items: list[Relay]
    next_cursor: str | None = None


class ListRelays(Command):
    """The relays of this profile."""


class AddRelay(Command):
    """link: what `hybridgw-relay invite` printed, or the address of a relay that knows the space already."""

    link: Text


class RemoveRelay(Command):
    """Stop using a relay."""

    url: Text


class TestRelay(Command):
    """Try a relay without changing anything; without a url, the only one."""

    url: Text | None = None


class RelayCheck(Result):
    """What a relay answered. admitted: does it let this device in; None: it is none of this device's relays, or was
    slow to say; if false, `ok` is too. error: why `ok` is false; if `ok` is true, why it takes nothing more now.
    clock_offset_ms: its clock less ours; quota_bytes: what the space may store there."""

    url: str
    ok: bool
    admitted: bool | None = None
    tls: bool = False
    rtt_ms: float | None = None
    clock_offset_ms: int | None = None
    quota_bytes: int | None = None
    used_bytes: int | None = None
    can_read: bool = False
    error: str | None = None


class Alarm(Result):
    """Something a person should know; kept until acknowledged."""

    id: int
    at_ms: int
    code: str
    message: str
    detail: Data = {}
    acknowledged: bool = False


class AlarmList(Result):
    """Newest first."""

    items: list[Alarm]
    next_cursor: str | None = None


class ListAlarms(Command):
    """all: acknowledged ones too."""

    all: bool = False


class AcknowledgeAlarm(Command):
    """A person has seen it."""

    id: RowId


# ---- events ------------------------------------------------------------------------------------------------------
class Subscribe(Command):
    """Listen for changes. since: a cursor; `0`: everything there is, then what changes; null: from now on."""

    since: str | None = None
    collection: str | None = None


# ---- the daemon itself ----------------------------------------------------------------------------------------------
class Health(Result):
    """Open to everybody: says nothing else."""

    status: Literal["ok"] = "ok"


class Component(Result):
    """One part of the daemon. help: the command that helps when it is not ok."""

    name: str
    state: Literal["ok", "starting", "degraded", "failed"]
    message: str | None = None
    help: str | None = None


class Readiness(Result):
    """ready: local data is served; a component may be degraded beside it."""

    ready: bool
    version: str
    uptime_s: float
    components: list[Component]


class GetHealth(Command):
    """Is it alive."""


class GetReadiness(Command):
    """What works and what does not."""


class Setting(Result):
    """One configuration key. source: `default`, `file`, `environment` or `flag`, with the file or variable named."""

    name: str
    value: Any
    default: Any
    source: str
    effect: str


class SettingList(Result):
    """Every key that the daemon knows."""

    items: list[Setting]
    warnings: list[str] = []
    next_cursor: str | None = None


class GetConfig(Command):
    """The configuration in use, and where each value came from."""


class PathList(Result):
    """Where the files of this profile are."""

    home: str | None
    config: str
    database: str
    endpoint: str
    logs: str


class GetPaths(Command):
    """Where the files of this profile are."""


class StopDaemon(Command):
    """End the daemon; local programs lose it, nothing else does."""


class Stopping(Result):
    """The daemon ends now."""

    pid: int


# ---- JSON on every carrier ------------------------------------------------------------------------------------------
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder()


def encode(result: object) -> bytes:
    """JSON bytes of a result."""
    return _encoder.encode(result)


def decode_json(raw: bytes) -> Any:
    """Plain values out of JSON from outside.

    Raises: BadValue: not JSON (NaN and infinity are not), not UTF-8, nested beyond the parser's stack, or a name that
    stands twice in one object.
    """
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BadValue(f"The body is not valid JSON: {error}.") from error
    check_names(raw)
    return value


def build(kind: type[Command], fields: dict[str, Any], *, from_text: bool = False) -> Command:
    """A command out of its fields. Args: from_text: numbers and booleans may be text, as in a query string.

    Raises: BadValue: names the field that is missing, unknown, or of the wrong type or size.
    """
    try:
        return msgspec.convert(fields, kind, strict=not from_text)
    except msgspec.ValidationError as error:
        raise BadValue(f"{_sentence(str(error))}.", field=_field_of(str(error))) from error


def _sentence(text: str) -> str:
    return text.replace(" - at `$.", " at `").replace(" - at `$", " at `")


def _field_of(text: str) -> str | None:
    """`a.b`: the place, and what is missing or unknown there."""
    _, _, place = text.partition(" - at `$")
    _, named, name = text.partition(" field `")
    return ".".join(part for part in (place.strip("`."), name.partition("`")[0] if named else "") if part) or None
