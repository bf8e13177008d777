"""A second reader of the frames of the local WebSocket: JSON by the standard library, MessagePack by our second reader.

It imports none of our packages.
"""

from __future__ import annotations

import json
from typing import Any

from tests.architecture import _reader as reader

CLIENT = {"auth", "command", "heartbeat", "heartbeat_ack"}
SERVER = {"auth_ok", "auth_error", "result", "error", "event", "heartbeat", "heartbeat_ack"}


def check(content: dict[str, Any]) -> None:
    """Both forms of every frame hold the same map, and it has a type."""
    for part, types in (("client", CLIENT), ("server", SERVER)):
        assert {row["frame"]["type"] for row in content[part]} == types
        for row in content[part]:
            assert json.loads(row["json"]) == row["frame"], row["name"]
            assert _same(reader.read(bytes.fromhex(row["msgpack"])), row["frame"]), row["name"]


def _same(one: object, other: object) -> bool:
    """Equal, and 1 is neither 1.0 nor true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other
