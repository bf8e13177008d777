"""A second reader of the frames of the local API, from docs/reference/websocket.md alone; it imports none of ours."""

from __future__ import annotations

import json
from typing import Any

from tests.architecture._reader import MAX_INT, Msgpack, Refused

REQUIRED = object()
ANY = (dict, list, str, int, float, bool, type(None))
# type -> field -> (kinds, what it is if it is left out)
FROM_PROGRAM: dict[str, dict[str, tuple[tuple[type, ...], object]]] = {
    "auth": {
        "token": ((str,), REQUIRED),
        "resume": ((dict, type(None)), None),
        "renew": ((bool,), False),
        "proof": ((str,), ""),
    },
    "command": {"id": ((int, type(None)), None), "command": ((str,), REQUIRED), "params": ((dict,), {})},
    "heartbeat": {"offset": ((int, type(None)), None)},
    "heartbeat_ack": {"t": ((int,), 0)},
}
FROM_DAEMON: dict[str, dict[str, tuple[tuple[type, ...], object]]] = {
    "auth_ok": {
        "connection": ((str,), REQUIRED), "session": ((str,), REQUIRED), "epoch": ((str,), REQUIRED),
        "offset": ((int,), REQUIRED), "recovered": ((bool,), REQUIRED), "scopes": ((list,), REQUIRED),
        "heartbeat_s": ((int, float), REQUIRED), "mode": ((str,), REQUIRED), "expires_ms": ((int, type(None)), None),
    },
    "auth_error": {"code": ((str,), REQUIRED), "message": ((str,), REQUIRED)},
    "result": {"id": ((int,), REQUIRED), "result": (ANY, REQUIRED)},
    "error": {
        "id": ((int, type(None)), REQUIRED), "code": ((str,), REQUIRED), "message": ((str,), REQUIRED),
        "retryable": ((bool,), REQUIRED), "field": ((str,), ""), "detail": ((dict,), {}),
    },
    "event": {"offset": ((int,), REQUIRED), "sub": ((int,), REQUIRED), "event": ((str,), REQUIRED),
              "data": (ANY, REQUIRED)},
    "heartbeat": {"t": ((int,), REQUIRED)},
    "heartbeat_ack": {"t": ((int,), REQUIRED)},
}  # fmt: skip
RESUME = {"session": ((str,), REQUIRED), "epoch": ((str,), REQUIRED), "offset": ((int,), REQUIRED)}


def read(value: Any, table: dict[str, dict[str, Any]], *, strict: bool) -> None:
    """Args: strict: an unknown field is refused. Raises: Refused: `field: why`."""
    if not isinstance(value, dict):
        raise Refused(": no object")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in table:
        raise Refused("type: unknown")
    _fields({name: inner for name, inner in value.items() if name != "type"}, table[kind], strict, "")
    if isinstance(value.get("resume"), dict):
        _fields(value["resume"], RESUME, strict, "resume.")
    if strict and kind == "auth" and not 1 <= len(value["token"]) <= 8192:
        raise Refused("token: its length")
    if strict and kind == "auth" and len(value.get("proof", "")) > 200:
        raise Refused("proof: its length")
    if strict and kind == "command" and not 1 <= len(value["command"]) <= 64:
        raise Refused("command: its length")


def _fields(value: dict[str, Any], fields: dict[str, Any], strict: bool, inside: str) -> None:
    for name in value:
        if strict and name not in fields:
            raise Refused(f"{inside}{name}: unknown")
    for name, (kinds, default) in fields.items():
        if name not in value:
            if default is REQUIRED:
                raise Refused(f"{inside}{name}: missing")
            continue
        found = value[name]
        if type(found) not in kinds:
            raise Refused(f"{inside}{name}: of another kind")
        if name in ("id", "offset") and isinstance(found, int) and not 0 <= found <= MAX_INT:
            raise Refused(f"{inside}{name}: out of range")


def unpacked(raw: str) -> Any:
    """The one value in these bytes. Raises: Refused."""
    reader = Msgpack(bytes.fromhex(raw))
    value = reader.value()
    if reader.at != len(reader.data):
        raise Refused("bytes after the end")
    return value


def same(one: object, other: object) -> bool:
    """Equal, and 1 is neither 1.0 nor true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def check(content: dict[str, Any]) -> None:
    """All of protocol/vectors/local_frames.json."""
    for part, table in (("client", FROM_PROGRAM), ("server", FROM_DAEMON)):
        kinds = set()
        for row in content[part]:
            read(row["frame"], table, strict=True)
            kinds.add(row["frame"]["type"])
            if json.loads(row["json"]) != row["frame"] or not same(unpacked(row["msgpack"]), row["frame"]):
                raise Refused(f"{row['name']}: the forms differ")
        if kinds != table.keys():
            raise Refused(f"no frame of {table.keys() - kinds}")
    for row in content["malformed"]:
        try:
            read(json.loads(row["text"]), FROM_DAEMON, strict=False)
        except (Refused, ValueError):
            continue
        raise Refused(f"{row['name']}: it can be read")
    for row in content["refused"]:
        for value in (json.loads(row["json"]), unpacked(row["msgpack"])):
            try:
                read(value, FROM_PROGRAM, strict=True)
            except Refused as refusal:
                if str(refusal).partition(":")[0] != (row["field"] or "") or row["code"] != "bad_value":
                    raise Refused(f"{row['name']}: it is another field") from None
            else:
                raise Refused(f"{row['name']}: it can be read")
    for row in content["twice"]:
        for once in (
            lambda raw: json.loads(raw["json"], object_pairs_hook=_once), lambda raw: unpacked(raw["msgpack"]),
        ):  # fmt: skip
            try:
                once(row)
            except Refused:
                continue
            raise Refused(f"{row['name']}: it can be read")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused("a name twice")
    return dict(pairs)
