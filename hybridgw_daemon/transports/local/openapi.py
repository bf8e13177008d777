"""OpenAPI 3.1 out of the command table, so that it cannot say what the daemon does not do.

Types come from msgspec's JSON Schemas of the commands and results, everything else from the rows. Source: OpenAPI
Specification 3.1.0, RFC 9457 for errors.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from hybridgw_protocol.localapi import Document
from hybridgw_protocol.localapi_operations import Page

from .routes import JSON_FIELDS, Route

Json = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_SCOPES: Final = {
    "open": "Open to every program of this machine.",
    "ask": "Open to every program of this machine, and to every page, so that it can ask to be let in.",
    "any": "Any valid credential; the answer holds what it may see.",
    "read": "The right `read` for the collection.",
    "write": "The right `write` for the collection.",
    "send": "The right `send` for the topic.",
    "listen": "The right `listen` for the topic.",
    "admin": "The right `admin`.",
    "owner": "The owner of this installation only.",
}
_PROBLEM: Final[Json] = {
    "type": "object",
    "title": "Problem",
    "description": "An error (RFC 9457). `code` is stable, `detail` is for a person; further members may follow.",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "retryable": {"type": "boolean"},
        "request_id": {"type": "string"},
        "field": {"type": ["string", "null"]},
    },
}
_GROUPS: Final = {
    "data": "Documents", "collections": "Collections", "conflicts": "Conflicts", "events": "Events", "sync": "Sync",
    "devices": "Devices", "pairing": "Devices", "relays": "Relays", "lan": "Local network", "alarms": "Alarms",
}  # fmt: skip


def group_of(name: str) -> str:
    """The heading under which a command stands."""
    first = name.partition(".")[0]
    return _GROUPS.get(first, first.capitalize() if "." in name and first not in _DAEMON else "The daemon")


_DAEMON: Final = frozenset({"health", "config", "daemon"})


def describe(routes: Sequence[Route], *, version: str) -> Json:
    """The whole document, with relative addresses: it is the same whichever port serves it."""
    kinds = list(dict.fromkeys(kind for route in routes for kind in (route.row.kind, route.row.result)))
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    used: Json = {"Problem": _PROBLEM}
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.row.path, {})[route.row.method.lower()] = _operation(route, schemas)
    for name, schema in schemas.items():
        if not any(name == route.row.kind.__name__ for route in routes):
            used[name] = schema
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HybridGW local API",
            "version": version,
            "description": "For programs on this machine. The endpoint file of the profile holds address and token.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(group_of(route.row.name) for route in routes)],
        "paths": paths,
        "components": {
            "schemas": used,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {
                "description": "Refused or failed; `code` says why.",
                "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
            }},
        },
    }  # fmt: skip


def _operation(route: Route, schemas: Json) -> Json:
    row = route.row
    asked = schemas[row.kind.__name__]
    about = (inspect.getdoc(row.kind) or "").strip()
    summary, _, rest = about.partition("\n")
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": asked["properties"][name]} for name in route.names
    ]
    for name in sorted(route.query):
        schema = asked["properties"][name]
        needed = {"required": True} if name in asked.get("required", ()) else {}
        shape = {"content": {"application/json": {"schema": schema}}} if name in JSON_FIELDS else {"schema": schema}
        parameters.append({"name": name, "in": "query"} | needed | shape)
    if row.conditional:
        parameters.append(_header("If-Match", "The ETag that the document must have."))
    if row.name == "data.put":
        parameters.append(_header("If-None-Match", "`*`: the document must not exist."))
    made: Json = {
        "operationId": row.name,
        "tags": [group_of(row.name)],
        "summary": summary,
        "description": f"{rest.strip()}\n\n{_SCOPES[row.scope]}".strip(),
        "parameters": parameters,
        "responses": {str(row.status): _success(route), "default": {"$ref": "#/components/responses/Problem"}},
        "security": [] if row.is_open else [{"bearer": []}],
    }
    if row.body is not None:
        required, schema = _body(route, asked)
        made["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return made


def _header(name: str, what: str) -> Json:
    return {"name": name, "in": "header", "schema": {"type": "string"}, "description": what}


def _body(route: Route, asked: Json) -> tuple[bool, Json]:
    """Whether there must be one, and its schema."""
    if route.row.body != "*":
        return True, asked["properties"][route.row.body]
    properties = {name: schema for name, schema in asked["properties"].items() if name not in route.names}
    needed = [name for name in asked.get("required", ()) if name not in route.names]
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return bool(needed), schema | ({"required": needed} if needed else {})


def _success(route: Route) -> Json:
    row = route.row
    if row.stream is not None:
        return {"description": "Events, until either side ends it.", "content": {"text/event-stream": {}}}
    if row.result is Page:
        kind = {"metrics": "text/plain", "docs": "text/html"}.get(row.name, "application/json")
        return {"description": "The page.", "content": {kind: {}}}
    answer: Json = {
        "description": (inspect.getdoc(row.result) or "Done.").partition("\n")[0],
        "content": {"application/json": {"schema": {"$ref": _REF.format(name=row.result.__name__)}}},
    }
    if row.result is Document:
        answer["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "The version of the document."}}
    return answer
