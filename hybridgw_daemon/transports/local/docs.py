"""The local API on one page for people, out of its OpenAPI document: no script, nothing from elsewhere, all escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import msgspec

from hybridgw_protocol.localapi_operations import Page

from .openapi import describe, group_of
from .routes import Route

Json = Mapping[str, Any]

_STYLE: Final = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem 1.2rem 4rem}
h2{margin-top:2.5rem}nav ul{columns:3 15rem;list-style:none;padding:0}
details{border:1px solid #8888;border-radius:.4rem;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.2rem}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{overflow:auto;background:#8882;padding:.6rem;border-radius:.3rem}
table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.15rem .9rem .15rem 0}
"""
_POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    f"{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
_CODE: Final = re.compile(r"`([^`]+)`")


class ApiDocs:
    """Made when first asked for, then kept. Args: routes: of the whole table."""

    def __init__(self, routes: Sequence[Route], *, version: str) -> None:
        self._routes, self._version = routes, version
        self._document: dict[str, Any] | None = None

    def openapi(self) -> Page:
        """The OpenAPI document."""
        return Page(kind="application/json", text=msgspec.json.encode(self._described()).decode())

    def page(self) -> Page:
        """The same, to be read."""
        return Page(kind="text/html; charset=utf-8", text=html_of(self._described()), policy=_POLICY)

    def _described(self) -> dict[str, Any]:
        if self._document is None:
            self._document = describe(self._routes, version=self._version)
        return self._document


def html_of(document: Json) -> str:
    """A page that shows an OpenAPI document as `describe` makes it."""
    groups: dict[str, list[tuple[str, str, Json]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(group_of(operation["operationId"]), []).append((method.upper(), path, operation))
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    links = "".join(f'<li><a href="#{_anchor(name)}">{escape(name)}</a>' for name in (*groups, "Types"))
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body><h1>{title}</h1><p>{_text(info['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a>.</p><nav><ul>{links}</ul></nav><main>'
    ]
    for name, operations in groups.items():
        parts.append(f'<h2 id="{_anchor(name)}">{escape(name)}</h2>')
        parts += [_operation(*operation) for operation in operations]
    parts.append('<h2 id="types">Types</h2>')
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(
            f'<details id="{_anchor(name)}"><summary><code>{escape(name)}</code> '
            f"{_text(str(schema.get('description', '')).partition(chr(10))[0])}</summary>{_pretty(schema)}</details>"
        )
    parts.append("</main></body></html>\n")
    return "".join(parts)


def _operation(method: str, path: str, operation: Json) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{'required' if p.get('required') else ''}"
        f"<td><code>{escape(_kind(p.get('schema') or p['content']['application/json']['schema']))}</code>"
        f"<td>{_text(p.get('description', ''))}"
        for p in operation["parameters"]
    )
    table = f"<table><tr><th>parameter<th>in<th><th>type<th>{rows}</table>" if rows else ""
    body = ""
    if "requestBody" in operation:
        body = f"<h4>Body</h4>{_pretty(operation['requestBody']['content']['application/json']['schema'])}"
    answers = "".join(
        f"<li><code>{escape(status)}</code> {_answer(answer)}" for status, answer in operation["responses"].items()
    )
    return (
        f"<details><summary><b>{escape(method)}</b> <code>{escape(path)}</code> {_text(operation['summary'])}</summary>"
        f"<p>{_text(operation['description'])}</p>{table}{body}<h4>Answers</h4><ul>{answers}</ul></details>"
    )


def _answer(answer: Json) -> str:
    if "$ref" in answer:
        return '<a href="#problem">Problem</a>'
    ((kind, content),) = answer["content"].items()
    name = str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]
    shown = f'<a href="#{_anchor(name)}">{escape(name)}</a>' if name else f"<code>{escape(kind)}</code>"
    return f"{shown} {_text(answer['description'])}"


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    return str(schema.get("type", "any"))


def _pretty(schema: Json) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre>"


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace("\n\n", "<br>")


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
