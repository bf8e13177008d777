"""HTTP's side of the command table: which row a method and a path mean, and how a request becomes the row's command."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from hybridgw_protocol.errors import BadValue, LocalError, PreconditionFailed
from hybridgw_protocol.localapi import Command as Asked
from hybridgw_protocol.localapi import build, decode_json

from .auth import bearer
from .commands import Command

MAX_QUERY_FIELDS: Final = 20
_ETAG: Final = re.compile(r'"(\d{1,18})"')
JSON_FIELDS: Final = frozenset({"filter"})  # query parameters that are JSON


class Route(NamedTuple):
    """A row with what its path and query may carry."""

    row: Command
    names: tuple[str, ...]  # of path parameters, in order
    query: frozenset[str]


class Routes:
    """All rows by path; a constant part of a path goes before a parameter."""

    def __init__(self, table: Iterable[Command]) -> None:
        self._root: dict[str, Any] = {}
        self.all: list[Route] = []
        for row in table:
            parts = _parts(row.path)
            names = tuple(part[1:-1] for part in parts if part.startswith("{"))
            fields = {field.name for field in msgspec.structs.fields(row.kind)}
            query = fields - set(names) if row.body is None else fields - set(names) - {row.body}
            if row.body == "*":
                query = set()
            if row.conditional:
                query -= {"version", "exists"}
            if row.name == "data.get":
                query -= {"known"}
            if row.name == "auth.grants.get":
                query -= {"secret"}
            route = Route(row, names, frozenset(query))
            node = self._root
            for part in parts:
                node = node.setdefault("{}" if part.startswith("{") else part, {})
            node.setdefault("", {})[row.method] = route
            self.all.append(route)

    def find(self, path: str) -> tuple[Mapping[str, Route], list[str]] | None:
        """The routes at a path by method, and its parameters, percent-decoded. None: no such path.

        The path is split before it is decoded, so a parameter may hold a slash as %2F and never makes another path.
        Raises: LocalError: a parameter that is not UTF-8.
        """
        node: dict[str, Any] | None = self._root
        values: list[str] = []
        for part in _parts(path):
            if node is None or not part:
                return None
            inner = node.get(part)
            if inner is None:
                inner = node.get("{}")
                if inner is not None:
                    values.append(part if "%" not in part else _decoded(part))
            node = inner
        methods = node.get("") if node else None
        return (methods, values) if methods else None


def _parts(path: str) -> list[str]:
    return [] if path == "/" else path.split("/")[1:]


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise LocalError("The path is not valid UTF-8.") from error


def command_of(route: Route, values: list[str], query: str, headers: Mapping[str, str], body: bytes | None) -> Asked:
    """The command that a request asks for. Raises: BadValue, LocalError: names the field or parameter."""
    row = route.row
    fields: dict[str, Any] = {}
    if body is not None:
        content = decode_json(body) if body else {}
        if not isinstance(content, dict):
            raise BadValue("The body is a JSON object.")
        if row.body == "*":
            fields = content
            for name in route.names:
                if name in fields:
                    raise BadValue(f"`{name}` stands in the path, not in the body.", field=name)
        else:
            fields[row.body or ""] = content
    if query:
        _read_query(route, query, fields)
    for name, value in zip(route.names, values, strict=True):
        fields[name] = value
    if row.name == "auth.grants.get":  # who asked has no credential yet, only the secret of its request
        fields["secret"] = bearer(headers)
    if "If-Match" in headers or "If-None-Match" in headers:
        _read_conditions(row, headers, fields)
    return build(row.kind, fields, from_text=row.body is None or bool(route.query) or bool(route.names))


def _read_query(route: Route, query: str, fields: dict[str, Any]) -> None:
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise LocalError("The query is not well formed: NAME=VALUE, joined by &.") from error
    for name, value in pairs:
        if name not in route.query:
            known = f" There are {', '.join(sorted(route.query))}." if route.query else ""
            raise LocalError(f"The query parameter {name[:40]!r} is not known here.{known}", field=name[:40])
        if name in fields:
            raise LocalError(f"The query parameter {name!r} is given twice.", field=name)
        fields[name] = decode_json(value.encode()) if name in JSON_FIELDS else value


def _read_conditions(row: Command, headers: Mapping[str, str], fields: dict[str, Any]) -> None:
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if row.method == "GET":
        if (
            none_match is not None
            and row.name == "data.get"
            and (tag := _ETAG.fullmatch(none_match.removeprefix("W/")))
        ):
            fields["known"] = int(tag[1])
        return
    if not row.conditional or (none_match is not None and row.name != "data.put"):
        raise LocalError("This call does not understand If-Match or If-None-Match.")
    if none_match is not None:
        if none_match != "*" or match is not None:
            raise LocalError("Only `If-None-Match: *` is understood here: the document must not exist.")
        fields["exists"] = False
    elif match == "*":
        if row.name == "data.put":
            fields["exists"] = True
    elif match is not None:
        if match.startswith("W/"):
            raise PreconditionFailed("A weak ETag never matches; send the ETag as it was given.")
        tag = _ETAG.fullmatch(match)
        if tag is None:
            raise LocalError('If-Match takes one ETag of this API, like "17", or *.')
        fields["version"] = int(tag[1])
