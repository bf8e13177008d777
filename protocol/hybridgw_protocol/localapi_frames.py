"""The frames of the WebSocket of the local API, in types; both forms, JSON and MessagePack, hold the same maps.

A program sends `auth` first, then commands by the names of the command table; every answer carries the command's `id`.
Events carry a number, `offset`, that rises: who comes back says the last one it has and gets what followed, or hears
that it must read anew. The page docs/reference/websocket.md tells it in words; `schema` gives JSON Schema.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .errors import BadValue
from .limits import MAX_INT
from .localapi import DeploymentMode, Result, encode
from .names import check_names, fields_given, pairs_in

JSON_PROTOCOL: Final = "hybridgw.v1.json"
MSGPACK_PROTOCOL: Final = "hybridgw.v1.msgpack"
PROTOCOLS: Final = (JSON_PROTOCOL, MSGPACK_PROTOCOL)
MODES: Final[tuple[DeploymentMode, ...]] = ("web_app", "browser_extension", "local_install")
MAX_FRAME_BYTES: Final = 1024 * 1024  # one message of a program, unpacked
MAX_DEPTH: Final = 200  # of arrays and objects in a MessagePack frame; what JSON's parser stands is more
EXTENSION_HEARTBEAT_S: Final = 20.0  # a browser ends an extension's worker after 30 s without a message of an app

# Close codes; those below 4000 are of RFC 6455, 7.4.1.
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
BAD_TEXT: Final = 1007
MESSAGE_TOO_BIG: Final = 1009
INTERNAL: Final = 1011
BAD_FRAMES: Final = 4400  # malformed frames one after the other
UNAUTHORIZED: Final = 4401  # no valid token, or it has expired
FORBIDDEN: Final = 4403  # the grant was revoked
UNKNOWN_MODE: Final = 4404
TIMED_OUT: Final = 4408  # no `auth` in time, or silent for too long
REPLACED: Final = 4409  # the same program connected again
TOO_MANY: Final = 4429  # connections, or events that were not read; a session is kept for a reader that was slow
STOPPING: Final = 4503  # the daemon ends

T = TypeVar("T", bound=msgspec.Struct)
FrameId = Annotated[int, Meta(ge=0, le=MAX_INT)]


# ---- from a program --------------------------------------------------------------------------------------------------
class ClientFrame(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What a program sends. An unknown field is refused."""


class Resume(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The place where a session was left: what `auth_ok` said, and the `offset` of the last event that arrived."""

    session: Annotated[str, Meta(max_length=64)]
    epoch: Annotated[str, Meta(max_length=64)]
    offset: FrameId


class Auth(ClientFrame, tag="auth"):
    """The first frame, unless the upgrade carried a bearer header. renew: a fresh token for a connection that has one.

    resume: go on with a session.
    """

    token: Annotated[str, Meta(min_length=1, max_length=8192)]
    resume: Resume | None = None
    renew: bool = False


class CommandFrame(ClientFrame, tag="command"):
    """Do something. params: an object, all fields of the command; without an id only a failure is answered.

    They are read by `params_of` into the type of the command, without a step between.
    """

    command: Annotated[str, Meta(min_length=1, max_length=64)]
    params: Raw = msgspec.field(default_factory=lambda: Raw(b"{}"))
    id: FrameId | None = None


class Heartbeat(ClientFrame, tag="heartbeat"):
    """A sign of life. offset: events up to it have arrived and need not be kept for a resume."""

    offset: FrameId | None = None


class HeartbeatReply(ClientFrame, tag="heartbeat_ack"):
    """The answer to a heartbeat of the daemon; any frame does as well."""

    t: int = 0


FromClient = Auth | CommandFrame | Heartbeat | HeartbeatReply

_json: Final = msgspec.json.Decoder(FromClient)
_msgpack: Final = msgspec.msgpack.Decoder(Any)
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`")
_NAMED: Final = re.compile(r"field `([^`]+)`")


def decode_frame(raw: bytes | bytearray, *, packed: bool = False) -> FromClient:
    """A frame of a program. Args: packed: MessagePack, else JSON.

    Whether a name stands twice in a command of JSON is judged by `params_of`, which knows how many there are to be.

    Raises: BadValue: names the field; `detail['id']` is the id of the command, where one can be read.
    """
    try:
        if packed:  # as JSON from here on: one way to read, whatever the form
            plain = _msgpack.decode(raw)
            if _check_plain(plain) != pairs_in(raw):
                raise BadValue("A key stands twice in one map.")
            raw = encode(plain)
        frame: FromClient = _json.decode(raw)
        if type(frame) is not CommandFrame:
            check_names(raw)
        return frame
    except msgspec.ValidationError as error:
        raise _fault(str(error), raw) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, ValueError) as error:
        kind = "MessagePack" if packed else "JSON"
        raise BadValue(f"The frame is not valid {kind}: {_brief(error)}.") from error


def kind_of(frame: FromClient) -> str:
    """Its type on the wire."""
    return str(frame.__struct_config__.tag)


def params_of(frame: CommandFrame, decoder: msgspec.json.Decoder[T], raw: bytes | bytearray | None = None) -> T:
    """The command that a frame asks for. Args: raw: the frame, if it came as JSON: no name may stand twice in it.

    Raises: BadValue: names the field.
    """
    try:
        command = decoder.decode(frame.params)
        if raw is not None:
            given = fields_given(command)
            # type and command, params if there were any, an id if there is one; each member has a colon
            if raw.count(b":") > given + (2 if frame.id is None else 3) + (given > 0):
                check_names(raw)
        return command
    except msgspec.ValidationError as error:
        fault = _fault(str(error), b"")
        if bytes(frame.params).lstrip()[:1] != b"{":
            fault.detail["field"] = "params"
        raise fault from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BadValue(f"The params are not valid JSON: {_brief(error)}.", field="params") from error


def _brief(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]


def _fault(text: str, raw: bytes | bytearray) -> BadValue:
    where, named = _WHERE.search(text), _NAMED.search(text)
    field = ".".join(part for part in (where[1] if where else "", named[1] if named else "") if part)
    sentence = _WHERE.sub(" at `\\1`", text).replace(" at ``", "")
    detail: dict[str, object] = {"field": field} if field else {}
    try:
        plain = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        plain = None
    number = plain.get("id") if isinstance(plain, dict) else None
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_INT:
        detail["id"] = number
    return BadValue(f"{sentence[:300]}.", **detail)


def _check_plain(value: Any) -> int:
    """Only what JSON can say. Returns: how many pairs its maps have. Raises: BadValue."""
    stack, pairs = [(value, 0)], 0
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise BadValue("The frame is nested too deep.")
        if isinstance(item, dict):
            pairs += len(item)
            for name, inner in item.items():
                if not isinstance(name, str):
                    raise BadValue("The keys of a map are text.")
                stack.append((inner, depth + 1))
        elif isinstance(item, list):
            stack += [(inner, depth + 1) for inner in item]
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise BadValue("A number is neither NaN nor infinite.")
        elif not (item is None or isinstance(item, str | int)):
            raise BadValue(
                "A frame holds maps, arrays, text, numbers, true, false and nil; no bytes and no extensions."
            )
    return pairs


# ---- from the daemon -------------------------------------------------------------------------------------------------
class ServerFrame(msgspec.Struct, kw_only=True, tag_field="type"):
    """What the daemon sends. A reader ignores fields and types that it does not know."""


class AuthOk(ServerFrame, tag="auth_ok"):
    """The connection may be used. offset: every later event has a greater one; recovered: the session goes on, whole.

    heartbeat_s: send some frame at least this often; epoch: of this run of the daemon; expires_ms: of the token.
    """

    connection: str
    session: str
    epoch: str
    offset: int
    recovered: bool
    scopes: list[str]
    heartbeat_s: float
    mode: str
    expires_ms: int | None = None


class AuthError(ServerFrame, tag="auth_error"):
    """The token does not count, or something was asked before it was shown. The connection ends."""

    code: str
    message: str


class ResultFrame(ServerFrame, tag="result"):
    """What the command with this id answered: the type that the command table names."""

    id: int
    result: Any


class ErrorFrame(ServerFrame, tag="error"):
    """What went wrong. id: of the command, null if it could not be read; detail: facts that belong to the code."""

    id: int | None
    code: str
    message: str
    retryable: bool
    field: str | UnsetType = UNSET
    detail: dict[str, Any] | UnsetType = UNSET


class EventFrame(ServerFrame, tag="event"):
    """Something happened. offset: rises from event to event; sub: of the subscription it answers."""

    offset: int
    event: str
    data: Any
    sub: int


class HeartbeatAsk(ServerFrame, tag="heartbeat"):
    """A sign of life after a while of silence; any frame answers it."""

    t: int


class HeartbeatAck(ServerFrame, tag="heartbeat_ack"):
    """The answer to a heartbeat. t: Unix milliseconds."""

    t: int


FromServer = AuthOk | AuthError | ResultFrame | ErrorFrame | EventFrame | HeartbeatAsk | HeartbeatAck

_server_json: Final = msgspec.json.Decoder(FromServer)
_pack: Final = msgspec.msgpack.Encoder().encode


def decode_server_frame(raw: bytes, *, packed: bool = False) -> FromServer:
    """A frame of the daemon, for clients and tests. Raises: BadValue."""
    try:
        if packed:
            return msgspec.msgpack.decode(raw, type=FromServer)  # type: ignore[no-any-return]
        return _server_json.decode(raw)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadValue(f"This is no frame of the daemon: {error}.") from error


def encode_frame(frame: ServerFrame | ClientFrame, *, packed: bool = False) -> bytes:
    """The bytes of one frame."""
    raw = encode(frame)
    return _pack(msgspec.json.decode(raw)) if packed else raw


def event_body(kind: str, data: bytes) -> bytes:
    """What all receivers of one event share, encoded once: the end of its frame. Args: data: JSON."""
    return b'"event":"%b","data":%b}' % (kind.encode(), data)


def event_frame(offset: int, sub: int, body: bytes) -> bytes:
    """The frame of an event. Args: body: as `event_body` forms it."""
    return b'{"type":"event","offset":%d,"sub":%d,%b' % (offset, sub, body)


class Told:
    """An event with its number and subscription: one object for all receivers for whom these are the same.

    Args: json: the frame. head: what a carrier sends before it, None until somebody needs it.
    """

    __slots__ = ("_packed", "head", "json", "offset")

    def __init__(self, offset: int, json: bytes) -> None:
        self.offset, self.json = offset, json
        self.head: bytes | None = None
        self._packed: bytes | None = None

    @property
    def packed(self) -> bytes:
        """The frame in MessagePack, made when the first receiver of that form needs it."""
        if self._packed is None:
            self._packed = _pack(msgspec.json.decode(self.json))
        return self._packed


# ---- JSON Schema -----------------------------------------------------------------------------------------------------
class FrameSchema(Result):
    """JSON Schema (draft 2020-12) of every frame; `$defs` has each by its name, and ClientFrame and ServerFrame."""

    dialect: str = msgspec.field(name="$schema")
    title: str
    any_of: list[dict[str, Any]] = msgspec.field(name="anyOf")
    definitions: dict[str, Any] = msgspec.field(name="$defs")


def schema() -> FrameSchema:
    """What the daemon serves, generated from the types."""
    parts = (FromClient.__args__, FromServer.__args__)
    _, found = msgspec.json.schema_components([*parts[0], *parts[1]], ref_template="#/$defs/{name}")
    found["CommandFrame"]["properties"]["params"] = {"type": "object", "default": {}}
    for name, kinds in zip(("ClientFrame", "ServerFrame"), parts, strict=True):
        found[name] = {"anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds]}
    return FrameSchema(
        dialect="https://json-schema.org/draft/2020-12/schema",
        title="Frames of the HybridGW WebSocket",
        any_of=[{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        definitions=found,
    )
