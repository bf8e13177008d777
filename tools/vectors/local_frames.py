"""Golden frames of the WebSocket of the local API: each form that a client writes or has to understand."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.localapi_frames import encode_frame, event_body, event_frame

_FROM_CLIENT = {
    "the first frame": frames.Auth(token="TOKEN"),  # noqa: S106 - no secret
    "coming back": frames.Auth(
        token="TOKEN",  # noqa: S106
        resume=frames.Resume(session="389f7acbdaf9252eb584e026", epoch="41fe83b7", offset=17),
    ),
    "a fresh token": frames.Auth(token="TOKEN", renew=True),  # noqa: S106
    "a command": frames.CommandFrame(
        id=1, command="data.patch", params={"collection": "tasks", "id": "milk", "patch": {"status": "done"}}
    ),
    "a command whose answer nobody reads": frames.CommandFrame(command="topic.publish", params={"topic": "t"}),
    "values of every kind": frames.CommandFrame(
        id=9_007_199_254_740_991,
        command="data.put",
        params={
            "collection": "notes",
            "id": "n",
            "version": 7,
            "exists": True,
            "data": {"text": '\u00e9\U0001f95b\u0000"', "n": [-1, 1.5, 1e300, None, False], "o": {"": {}}},
        },
    ),
    "a live query": frames.CommandFrame(
        id=2, command="live.subscribe", params={"collection": "tasks", "filter": {"due": {"$lt": "2027-02-01"}}}
    ),
    "a sign of life": frames.Heartbeat(),
    "a sign of life, with what has arrived": frames.Heartbeat(offset=17),
    "the answer to one": frames.HeartbeatReply(t=1_764_000_000_000),
}
_FROM_SERVER = {
    "let in": frames.AuthOk(
        connection="c1", session="389f7acbdaf9252eb584e026", epoch="41fe83b7", offset=0, recovered=False,
        scopes=["read:tasks"], heartbeat_s=30.0, mode="web_app", expires_ms=1_764_000_000_000,
    ),
    "let in, without an end": frames.AuthOk(
        connection="c2", session="389f7acbdaf9252eb584e026", epoch="41fe83b7", offset=9_007_199_254_740_991,
        recovered=True, scopes=[], heartbeat_s=20.0, mode="browser_extension",
    ),
    "not let in": frames.AuthError(code="unauthorized", message="This token does not count."),
    "an answer": frames.ResultFrame(id=1, result={"sub": 1}),
    "a failure": frames.ErrorFrame(
        id=2, code="precondition_failed", message="Another version: \u201c7\u201d.", retryable=False,
        field="version", detail={"version": 7},
    ),
    "a failure without a command": frames.ErrorFrame(id=None, code="bad_value", message="No JSON.", retryable=False),
    "try again": frames.ErrorFrame(
        id=3, code="too_many_requests", message="Too many calls; the next one may come in 2 s.", retryable=True,
        detail={"retry_after_s": 2},
    ),
    "an answer with a document": frames.ResultFrame(
        id=4, result={"id": "milk", "collection": "tasks", "version": 2, "conflicts": 0, "data": {"n": -1.5}}
    ),
    "are you there": frames.HeartbeatAsk(t=1_764_000_000_000),
    "yes": frames.HeartbeatAck(t=1_764_000_000_000),
}  # fmt: skip
_EVENTS: dict[str, bytes] = {
    "what there is": event_body(
        "initial", b'{"items":[{"id":"milk","collection":"tasks","version":1,"conflicts":0,"data":{"title":"Milk"}}]}'
    ),
    "that was all": event_body("ready", b'{"since":"41fe83b7-1"}'),
    "a change": event_body(
        "document", b'{"id":"milk","collection":"tasks","version":2,"conflicts":1,"data":{"title":"\xf0\x9f\xa5\x9b"}}'
    ),
    "a deletion": event_body(
        "document", b'{"id":"milk","collection":"tasks","version":3,"conflicts":0,"deleted":true}'
    ),
    "out of the filter": event_body("left", b'{"id":"milk","collection":"tasks","version":4}'),
    "news beside documents": event_body("sync", b"{}"),
    "another database": event_body("reset", b"{}"),
    "a message": event_body("topic", b'{"topic":"timer","data":null}'),
}
_MALFORMED = {
    "no JSON": "{",
    "no object": "[]",
    "no type": "{}",
    "a number as type": '{"type":7}',
    "no id": '{"type":"result","result":{}}',
    "an id that is text": '{"type":"result","id":"1","result":{}}',
    "no offset": '{"type":"event","event":"ready","sub":1,"data":{}}',
    "no session": '{"type":"auth_ok","connection":"c1","epoch":"e","offset":0,"recovered":false,"heartbeat_s":30}',
    "truth as text": '{"type":"error","id":1,"code":"c","message":"m","retryable":"true"}',
}
# name: (value, the field that the error names)
_REFUSED: dict[str, tuple[Any, str | None]] = {
    "auth without a token": ({"type": "auth"}, "token"),
    "auth with an empty token": ({"type": "auth", "token": ""}, "token"),
    "an unknown field": ({"type": "auth", "token": "t", "extra": 1}, "extra"),
    "half a place to resume at": ({"type": "auth", "token": "t", "resume": {"session": "s"}}, "resume.epoch"),
    "a negative offset": (
        {"type": "auth", "token": "t", "resume": {"session": "s", "epoch": "e", "offset": -1}}, "resume.offset",
    ),
    "a command without a name": ({"type": "command", "id": 1}, "command"),
    "the id of a command as text": ({"type": "command", "command": "x", "id": "one"}, "id"),
    "an id of more than 53 bits": ({"type": "command", "command": "x", "id": 2**53}, "id"),
    "a name too long": ({"type": "command", "command": "x" * 65}, "command"),
    "a type that is none": ({"type": "nonsense"}, "type"),
    "a type that is a number": ({"type": 5}, "type"),
    "a frame without a type": ({"token": "t"}, "type"),
    "a list": ([], None),
    "text alone": ("text", None),
}  # fmt: skip


# name: (JSON, MessagePack), which no encoder makes
_TWICE: dict[str, tuple[bytes, bytes]] = {
    "a type twice": (
        b'{"type":"heartbeat","type":"heartbeat"}', b"\x82\xa4type\xa9heartbeat\xa4type\xa9heartbeat",
    ),
    "a token twice": (
        b'{"type":"auth","token":"a","token":"b"}', b"\x83\xa4type\xa4auth\xa5token\xa1a\xa5token\xa1b",
    ),
    "a name twice, written in two ways": (
        b'{"type":"command","command":"x","\\u0063ommand":"y"}',
        b"\x83\xa4type\xa7command\xa7command\xa1x\xd9\x07command\xa1y",
    ),
}  # fmt: skip


def vectors() -> dict[str, Any]:
    """client: what a program may send, refused: what it may not; server: what it must understand, malformed: need not.

    refused names the code of the error and the field; twice: refused, for a name stands twice in one object.
    """
    from_server = {name: encode_frame(frame) for name, frame in _FROM_SERVER.items()}
    from_server |= {name: event_frame(n, 3, body) for n, (name, body) in enumerate(_EVENTS.items(), 1)}
    return {
        "about": "Frames of docs/reference/websocket.md. `json`: as the daemon writes it; `msgpack`: the same, packed.",
        "client": [_row(name, encode_frame(frame)) for name, frame in _FROM_CLIENT.items()],
        "server": [_row(name, raw) for name, raw in from_server.items()],
        "malformed": [_malformed(name, text) for name, text in _MALFORMED.items()],
        "refused": [_refused(name, value, field) for name, (value, field) in _REFUSED.items()],
        "twice": [_twice(name, text, packed) for name, (text, packed) in _TWICE.items()],
    }


def _row(name: str, raw: bytes) -> dict[str, Any]:
    frame = msgspec.json.decode(raw)
    return {"name": name, "json": raw.decode(), "msgpack": msgspec.msgpack.encode(frame), "frame": frame}


def _malformed(name: str, text: str) -> dict[str, Any]:
    try:
        frames.decode_server_frame(text.encode())
    except BadValue:
        return {"name": name, "text": text}
    raise AssertionError(name)


def _refused(name: str, value: Any, field: str | None) -> dict[str, Any]:
    text, packed = json.dumps(value, separators=(",", ":")), msgspec.msgpack.encode(value)
    for raw, is_packed in ((text.encode(), False), (packed, True)):
        try:
            frames.decode_frame(raw, packed=is_packed)
        except BadValue as error:
            if error.detail.get("field") == field:
                continue
        raise AssertionError(name)
    return {"name": name, "json": text, "msgpack": packed, "code": BadValue.code, "field": field}


def _twice(name: str, text: bytes, packed: bytes) -> dict[str, Any]:
    for raw, is_packed in ((text, False), (packed, True)):
        try:
            found = frames.decode_frame(raw, packed=is_packed)
            if isinstance(found, frames.CommandFrame):
                frames.params_of(found, msgspec.json.Decoder(msgspec.Struct), raw)
        except BadValue:
            continue
        raise AssertionError(name)
    return {"name": name, "json": text.decode(), "msgpack": packed, "code": BadValue.code}
