"""The frames as types: both forms, faults that name a field, and a schema that fits what is sent."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol import names
from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.localapi import Command, CreateDocument
from hybridgw_protocol.localapi_live import PublishTopic
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


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=60,
)  # fmt: skip


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


TWICE = [
    b'{"type":"heartbeat","type":"heartbeat"}',
    b'{"type":"auth","token":"a","token":"b"}',
    b'{"type":"command","command":"a","command":"b"}',
    b'{"type":"command","command":"a","params":{},"params":{}}',
    b'{"type":"command","id":1,"command":"x","params":{"a":1},"id":2}',
    b'{"type":"command","command":"x","\\u0063ommand":"y","params":{"a":1}}',
    b'{"type" :"command","command":"a:","command":"b","params":{"a":1}}',
]
TWICE_IN_PARAMS = [
    b'{"topic":"a","topic":"b"}', b'{"topic":"a","data":1,"data":2}', b'{"topic":"a","data":{"x":1,"x":1}}',
    b'{"topic":"a","data":null,"data":null}', b'{"topic":"a","data":[{"x":{"y":1,"\\u0079":2}}]}',
    b'{"topic":"a:","topic":"b"}', b'{"topic" : "a","data":":","topic":"b"}',
]  # fmt: skip
ONCE = [
    b'{"topic":"a"}', b'{"topic":"a:b","data":"c:d"}', b'{"topic":"a","data":[{"x":1},{"x":1}]}',
    b'{"topic":"a","data":{"topic":{"topic":"\\":"}}}', b'{"topic":"a","data":{"a":12345678901234567890}}',
]  # fmt: skip


class Anything(msgspec.Struct):
    """Params of any kind: none is needed, and those that are not known are passed over."""

    a: int | None = None


def packed_command(params: bytes) -> bytes:
    """A command in MessagePack. Args: params: in MessagePack."""
    return b"\x83\xa4type\xa7command\xa7command\xa1x\xa6params" + params


@pytest.mark.parametrize("raw", TWICE)
def test_sec_L22_a_name_that_stands_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(BadValue, match="twice"):
        if isinstance(found := frames.decode_frame(raw), frames.CommandFrame):
            frames.params_of(found, msgspec.json.Decoder(Anything), raw)


@pytest.mark.parametrize("params", TWICE_IN_PARAMS)
def test_sec_L22_a_name_that_stands_twice_in_params_is_refused(params: bytes) -> None:
    decoder = msgspec.json.Decoder(PublishTopic)
    for number in (b"", b'"id":7,'):
        raw = b'{"type":"command",%b"command":"topic.publish","params":%b}' % (number, params)
        found = frames.decode_frame(raw)
        assert isinstance(found, frames.CommandFrame)
        with pytest.raises(BadValue, match="twice") as caught:
            frames.params_of(found, decoder, raw)
        assert caught.value.detail["field"]


@pytest.mark.parametrize("params", ONCE)
def test_names_that_only_seem_to_stand_twice_are_taken(params: bytes) -> None:
    decoder = msgspec.json.Decoder(PublishTopic)
    raw = b'{"type":"command","command":"topic.publish","params":%b}' % params
    found = frames.decode_frame(raw)
    assert isinstance(found, frames.CommandFrame)
    assert msgspec.to_builtins(frames.params_of(found, decoder, raw)) == {"data": None} | json.loads(params)


@pytest.mark.parametrize(
    "params",
    [
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\xa1a\x01\xd9\x01a\x02",
        b"\x81\xa1a\x91\xde\x00\x02\xa1b\xca\x00\x00\x00\x00\xa1b\xc0",
    ],
)
def test_sec_L22_a_key_that_stands_twice_is_refused(params: bytes) -> None:
    with pytest.raises(BadValue, match="twice"):
        frames.decode_frame(packed_command(params), packed=True)


@given(PLAIN)
def test_any_map_in_messagepack_has_as_many_pairs_as_it_says(value: Any) -> None:
    def pairs(item: Any) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return (len(item) if isinstance(item, dict) else 0) + sum(map(pairs, inner))

    assert names.pairs_in(msgspec.msgpack.encode(value)) == pairs(value)
    frames.decode_frame(packed_command(msgspec.msgpack.encode({"x": value})), packed=True)


@pytest.mark.parametrize(
    ("kind", "rest", "held"),
    [(PublishTopic, b'"topic":"t",', b"data"), (CreateDocument, b'"collection":"tasks",', b"data")],
)
@given(value=PLAIN, depth=st.integers(0, 3))
def test_a_name_that_stands_twice_is_found_wherever_it_stands(
    kind: type[Command], rest: bytes, held: bytes, value: Any, depth: int
) -> None:
    def read(inner: bytes) -> None:
        data = b'{"in":' * depth + inner + b"}" * depth
        raw = b'{"type":"command","command":"some","id":1,"params":{%b"%b":%b}}' % (rest, held, data)
        frame = frames.decode_frame(raw)
        assert isinstance(frame, frames.CommandFrame)
        frames.params_of(frame, msgspec.json.Decoder(kind), raw)

    plain = msgspec.json.encode(value)
    read(b'{"a":%b,"b":%b}' % (plain, plain))
    with pytest.raises(BadValue, match="twice"):
        read(b'{"a":%b,"a":%b}' % (plain, plain))


def test_an_event_is_the_same_in_both_forms() -> None:
    body = frames.event_body("topic", '{"topic":"t","data":{"é":[1,2.5,null]}}'.encode())
    told = frames.Told(2**40, frames.event_frame(2**40, 7, body))
    plain = {
        "type": "event", "offset": 2**40, "sub": 7, "event": "topic",
        "data": {"topic": "t", "data": {"é": [1, 2.5, None]}},
    }  # fmt: skip
    assert json.loads(told.json) == msgspec.msgpack.decode(told.packed) == plain
    FROM_SERVER.validate(plain)
    decoded = frames.decode_server_frame(told.json)
    assert decoded == frames.decode_server_frame(told.packed, packed=True)
    assert isinstance(decoded, frames.EventFrame)


@pytest.mark.spec("G2")
async def test_spec_G2_the_daemon_serves_the_schema(api: Api) -> None:
    got = await api.call("GET", "/api/frames.schema.json")
    assert (got.status, got.body) == (200, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(got.body)
    assert {"Auth", "CommandFrame", "EventFrame", "ClientFrame", "ServerFrame"} <= set(got.body["$defs"])
    assert (await api.call("GET", "/api/frames.schema.json", token=None)).status == 401
