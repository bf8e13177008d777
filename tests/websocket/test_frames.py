"""The frames as types: both forms, faults that name a field, and a schema that fits what is sent."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import msgspec
import pytest

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol.errors import BadValue
from tests.integration._local_api import Api
from tests.websocket._client import FROM_CLIENT, FROM_SERVER, SCHEMA

GOOD: list[dict[str, Any]] = [
    {"type": "auth", "token": "t"},
    {"type": "auth", "token": "t", "renew": True, "resume": {"session": "s", "epoch": "e", "offset": 0}},
    {"type": "command", "command": "data.get", "params": {"a": {"b": [1, None, "x"]}}, "id": 7},
    {"type": "command", "command": "topic.publish"},
    {"type": "heartbeat"},
    {"type": "heartbeat", "offset": 3},
    {"type": "heartbeat_ack", "t": 5},
]
BAD: list[tuple[Any, str | None]] = [
    ({"type": "auth"}, "token"),
    ({"type": "auth", "token": 5}, "token"),
    ({"type": "auth", "token": ""}, "token"),
    ({"type": "auth", "token": "t", "extra": 1}, "extra"),
    ({"type": "auth", "token": "t", "resume": {"session": "s"}}, "resume.epoch"),
    ({"type": "auth", "token": "t", "resume": {"session": "s", "epoch": "e", "offset": -1}}, "resume.offset"),
    ({"type": "command", "command": "x", "id": "one"}, "id"),
    ({"type": "command", "command": "x", "id": 2**60}, "id"),
    ({"type": "command", "command": "x" * 65}, "command"),
    ({"type": "nonsense"}, "type"),
    ({"type": 5}, "type"),
    ({"token": "t"}, "type"),
    ([], None),
    (None, None),
    ("text", None),
]


@pytest.mark.spec("G2")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("value", GOOD)
def test_spec_G2_frames_of_a_program_in_both_forms(value: dict[str, Any], packed: bool) -> None:
    raw = msgspec.msgpack.encode(value) if packed else json.dumps(value).encode()
    found = frames.decode_frame(raw, packed=packed)
    FROM_CLIENT.validate(value)
    again = frames.encode_frame(found, packed=packed)
    assert frames.decode_frame(again, packed=packed) == found
    FROM_CLIENT.validate(msgspec.msgpack.decode(again) if packed else json.loads(again))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("value", "field"), BAD)
def test_spec_G2_a_fault_names_its_field(value: Any, field: str | None, packed: bool) -> None:
    raw = msgspec.msgpack.encode(value) if packed else json.dumps(value).encode()
    with pytest.raises(BadValue) as caught:
        frames.decode_frame(raw, packed=packed)
    assert caught.value.detail.get("field") == field
    with pytest.raises(jsonschema.ValidationError):
        FROM_CLIENT.validate(value)


def test_a_fault_keeps_the_id_of_its_command() -> None:
    with pytest.raises(BadValue) as caught:
        frames.decode_frame(b'{"type":"command","id":9,"command":"x","more":5}')
    assert caught.value.detail == {"field": "more", "id": 9}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"\xff", b'{"type":"heartbeat"}x', b'{"type":"command","command":"x","params":{"a":NaN}}',
        b'{"type":"command","command":"x","params":{"a":Infinity}}', b'{"type":"command","command":"\\ud800"}',
        b'{"type":"command","command":"x","params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    ],
)  # fmt: skip
def test_sec_L22_bytes_that_are_no_json(raw: bytes) -> None:
    with pytest.raises(BadValue):
        frames.decode_frame(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x81", b"\xc1", msgspec.msgpack.encode({"type": "command", "command": "x", "params": {"a": math.nan}}),
        msgspec.msgpack.encode({"type": "command", "command": "x", "params": {"a": b"bytes"}}),
        msgspec.msgpack.encode({"type": "command", "command": "x", "params": {"a": msgspec.msgpack.Ext(5, b"x")}}),
        b"\x83\xa4type\xa7command\xa7command\xa1x\xa6params\x81\xa1a\x81\x05\x06",  # a key that is a number
        b"\x83\xa4type\xa7command\xa7command\xa1x\xa6params\x81\xa1a" + b"\x91" * 5_000 + b"\xc0",
    ],
)  # fmt: skip
def test_sec_L22_bytes_that_say_what_json_cannot(raw: bytes) -> None:
    with pytest.raises(BadValue):
        frames.decode_frame(raw, packed=True)


def test_of_a_name_that_stands_twice_the_last_counts() -> None:
    found = frames.decode_frame(b'{"type":"command","command":"a","command":"b","params":{"x":1,"x":2}}')
    assert isinstance(found, frames.CommandFrame)
    assert (found.command, json.loads(bytes(found.params))) == ("b", {"x": 2})


def test_an_event_is_the_same_in_both_forms() -> None:
    told = frames.Told(2**40, 7, frames.event_body("topic", '{"topic":"t","data":{"é":[1,2.5,null]}}'.encode()))
    plain = {
        "type": "event", "offset": 2**40, "sub": 7, "event": "topic",
        "data": {"topic": "t", "data": {"é": [1, 2.5, None]}},
    }  # fmt: skip
    assert json.loads(told.json()) == msgspec.msgpack.decode(told.packed()) == plain
    FROM_SERVER.validate(plain)
    decoded = frames.decode_server_frame(told.json())
    assert decoded == frames.decode_server_frame(told.packed(), packed=True)
    assert isinstance(decoded, frames.EventFrame)


@pytest.mark.spec("G2")
async def test_spec_G2_the_daemon_serves_the_schema(api: Api) -> None:
    got = await api.call("GET", "/api/frames.schema.json")
    assert (got.status, got.body) == (200, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(got.body)
    assert {"Auth", "CommandFrame", "EventFrame", "ClientFrame", "ServerFrame"} <= set(got.body["$defs"])
    assert (await api.call("GET", "/api/frames.schema.json", token=None)).status == 401
