"""The golden frames of the WebSocket of the local API, which the JavaScript client's tests read too."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.localapi_frames import ServerFrame, decode_frame, decode_server_frame, encode_frame
from tools.vectors import local_frames
from tools.vectors.__main__ import render

VECTORS: dict[str, Any] = json.loads(render(local_frames.vectors()))


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


def test_names_are_told_apart_and_every_type_is_there() -> None:
    for part in ("client", "server", "malformed"):
        assert len(set(names(VECTORS[part]))) == len(VECTORS[part])
    tags = {kind.__struct_config__.tag for kind in ServerFrame.__subclasses__()}
    assert {row["frame"]["type"] for row in VECTORS["server"]} == tags


@pytest.mark.parametrize("row", VECTORS["client"], ids=names(VECTORS["client"]))
def test_client(row: dict[str, Any]) -> None:
    frame = decode_frame(row["json"].encode())
    assert decode_frame(bytes.fromhex(row["msgpack"]), packed=True) == frame
    assert encode_frame(frame).decode() == row["json"]
    assert msgspec.json.decode(row["json"]) == row["frame"]


@pytest.mark.parametrize("row", VECTORS["server"], ids=names(VECTORS["server"]))
def test_server(row: dict[str, Any]) -> None:
    frame = decode_server_frame(row["json"].encode())
    assert decode_server_frame(bytes.fromhex(row["msgpack"]), packed=True) == frame
    assert msgspec.json.decode(encode_frame(frame)) == row["frame"]


@pytest.mark.parametrize("row", VECTORS["malformed"], ids=names(VECTORS["malformed"]))
def test_malformed(row: dict[str, Any]) -> None:
    with pytest.raises(BadValue):
        decode_server_frame(row["text"].encode())
