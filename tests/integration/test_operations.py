"""What an operator sees and sets: figures, limits, address lists, headers, the description of the API. Real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html.parser
import ipaddress
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

from hybridgw_daemon.services.rate_limits import RateLimits
from hybridgw_daemon.transports.local.auth import AddressFilter
from hybridgw_daemon.transports.local.commands import build
from hybridgw_daemon.transports.local.docs import html_of
from hybridgw_daemon.transports.local.routes import Routes
from tests.integration._local_api import TOKEN, Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        yield made


class Time:
    """Milliseconds that move when told."""

    ms = 1_000

    def __call__(self) -> int:
        return self.ms


# ---- metrics ---------------------------------------------------------------------------------------------------------
@pytest.mark.spec("O1")
async def test_spec_O1_names_labels_and_templates(api: Api) -> None:
    await api.call("PUT", "/api/data/notes/planted-id", {"a": "planted"})
    await api.call("GET", "/api/data/notes/planted-id")
    await api.call("GET", "/api/planted-path?x=planted", User_Agent="planted")
    await api.call("PROPFIND", "/api/data/notes", token=None)
    await api.call("GET", "/health", token="planted")
    await api.call("GET", "/health", Host="planted.example")
    await api.send(b"planted garbage\r\n\r\n")
    got = await api.call("GET", "/metrics", token=None)
    assert got.status == 200
    assert got.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"planted" not in got.raw
    text = got.raw.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    labels = {
        "http_requests": {"method", "endpoint", "status"},
        "http_request_duration_seconds": {"le"},
        "data_sync_operations": {"type", "status"},
        "auth_operations": {"type", "status"},
        "message_routing": {"type"},
    }
    for name, expected in labels.items():
        assert families[name].type == ("histogram" if name.endswith("seconds") else "counter")
        for sample in families[name].samples:
            if not sample.name.endswith(("_count", "_sum")):
                assert set(sample.labels) == expected, sample
    calls = {
        (s.labels["method"], s.labels["endpoint"], s.labels["status"]): s.value
        for s in families["http_requests"].samples
    }
    assert calls["PUT", "/api/data/{collection}/{id}", "200"] == 1
    assert calls["other", "-", "401"] == 1
    assert calls["GET", "-", "421"] == 1
    templates = {row.path for row in build(api.services)} | {"-"}
    assert {endpoint for _, endpoint, _ in calls} <= templates


async def test_spec_O1_metrics_look_at_host_and_origin(api: Api) -> None:
    assert (await api.call("GET", "/metrics", token=None, Host="evil.example")).status == 421
    assert (await api.call("GET", "/metrics", token=None, Origin="https://evil.example")).status == 403
    assert (await api.call("GET", "/metrics", token=None, Sec_Fetch_Site="cross-site")).status == 403
    assert (await api.call("POST", "/metrics", {})).status == 405


async def test_spec_O1_metrics_that_are_switched_off_are_not_there(api: Api) -> None:
    api.services.metrics = None
    got = await api.call("GET", "/metrics", token=None)
    assert (got.status, got.code) == (404, "not_found")


# ---- rate limits -----------------------------------------------------------------------------------------------------
@pytest.mark.spec("G5")
async def test_spec_G5_429_with_headers_and_nobody_else_notices(tmp_path: Path) -> None:
    time = Time()
    async with running(tmp_path, limits=RateLimits(60, 10, clock=time)) as api:
        for _ in range(10):
            got = await api.call("GET", "/api/data/notes", token="wrong")
            assert (got.status, got.headers["RateLimit-Policy"]) == (401, '"stranger";q=60;w=60')
        got = await api.call("GET", "/api/data/notes", token="wrong")
        assert (got.status, got.code, got.headers["Retry-After"]) == (429, "too_many_requests", "2")
        assert got.headers["RateLimit"] == '"stranger";r=0;t=2'
        assert got.body["retry_after_s"] == 2
        assert (await api.call("GET", "/health", token=None)).status == 200  # without a credential: counted apart
        for _ in range(50):
            good = await api.call("GET", "/api/data/notes")
            assert good.status == 200
        assert good.headers["RateLimit-Policy"].startswith('"owner"')
        for _ in range(9):
            assert (await api.call("GET", "/health", token=None)).status == 200
        assert (await api.call("GET", "/health", token=None)).status == 429
        time.ms += 1_000
        assert (await api.call("GET", "/health", token=None)).status == 200
        assert (await api.call("GET", "/metrics")).raw.count(b'hybridgw_rate_limited_total{policy="stranger"} 2.0') == 1


async def test_spec_G5_foreign_pages_are_refused_before_they_cost_anything(tmp_path: Path) -> None:
    async with running(tmp_path, limits=RateLimits(60, 10, clock=Time())) as api:
        for _ in range(40):
            got = await api.call("GET", "/health", token=None, Origin="https://evil.example")
            assert (got.status, "RateLimit" in got.headers) == (403, False)
        assert (await api.call("GET", "/health", token=None)).status == 200


# ---- addresses -------------------------------------------------------------------------------------------------------
@pytest.mark.spec("G6")
async def test_spec_G6_an_address_that_is_not_admitted_gets_one_constant_answer(tmp_path: Path) -> None:
    deny = AddressFilter(deny=[ipaddress.ip_network("127.0.0.1/32")])
    async with running(tmp_path, addresses=deny) as api:
        bodies = set()
        for path in ("/health", "/metrics", "/api/data/notes", "/nothing"):
            for headers in ({}, {"Host": "evil.example"}, {"Origin": "https://evil.example"}):
                got = await api.call("GET", path, **headers)
                assert got.status == 403
                assert not [name for name in got.headers if name.lower().startswith("access-control-")]
                bodies.add(got.raw)
        assert len(bodies) == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, local_addr=("127.0.0.2", 0))
        writer.write(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(
    ("allow", "deny", "address", "is_admitted"),
    [
        ([], [], "203.0.113.7", True), (["127.0.0.0/8"], [], "127.0.0.1", True), (["127.0.0.0/8"], [], "::1", False),
        (["::1/128"], [], "::1", True), (["127.0.0.0/8"], [], "::ffff:127.0.0.1", True),
        ([], ["::1/128"], "::1", False),
        (["10.0.0.0/8"], ["10.1.0.0/16"], "10.1.2.3", False), (["10.0.0.0/8"], ["10.1.0.0/16"], "10.2.0.1", True),
        (["fe80::/10"], [], "fe80::1%eth0", True), (["10.0.0.0/8"], [], "nonsense", False),
        ([], ["::1/128"], None, True),
    ],
)  # fmt: skip
def test_spec_G6_address_lists(allow: list[str], deny: list[str], address: str | None, is_admitted: bool) -> None:
    made = AddressFilter([ipaddress.ip_network(n) for n in allow], [ipaddress.ip_network(n) for n in deny])
    assert [made.admits(address) for _ in range(2)] == [is_admitted] * 2


def test_judged_addresses_are_forgotten_in_time() -> None:
    made = AddressFilter(deny=[ipaddress.ip_network("10.0.0.0/8")])
    for n in range(5_000):
        assert made.admits(f"192.0.{n // 250}.{n % 250}")
    assert len(made._known) < 2_000


# ---- headers and sizes -----------------------------------------------------------------------------------------------
SAFE = {
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Server": "hybridgw",
}  # fmt: skip


async def test_spec_G6_security_headers_on_every_answer(api: Api) -> None:
    fill = {"{collection}": "notes", "{id}": "x", "{name}": "notes"}
    for row in build(api.services):
        if row.name in ("events", "daemon.stop"):
            continue
        path = row.path
        for name, value in fill.items():
            path = path.replace(name, value)
        for headers in ({}, {"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Authorization": "x"}):
            got = await api.call(row.method, path, **headers)
            assert {name: got.headers.get(name) for name in SAFE} == SAFE, (row.name, headers)
            policy = got.headers["Content-Security-Policy"]
            for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
                assert part in policy, row.name
            assert "unsafe" not in policy
            assert "*" not in policy
    assert (await api.send(b"garbage\r\n\r\n")).count(b"Content-Security-Policy: default-src 'none'") == 1
    async with api.session.get(
        f"http://127.0.0.1:{api.port}/api/events", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as stream:
        assert stream.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert stream.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n",
        b"GET /health HTTP/1.1\r\nX-Long: " + b"a" * 17_000 + b"\r\n",
        b"GET /health HTTP/1.1\r\n" + b"a" * 17_000 + b": x\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (k, b"y" * 100) for k in range(2_000)),
    ],
    ids=["path", "value", "name", "many"],
)
async def test_sec_L24_heads_are_bounded(api: Api, head: bytes) -> None:
    got = await api.send(head + f"Host: 127.0.0.1:{api.port}\r\n\r\n".encode(), wait_s=2)
    assert not got or got.startswith(b"HTTP/1.1 400 "), got[:200]
    assert (await api.call("GET", "/health")).status == 200


# ---- the description of the API --------------------------------------------------------------------------------------
@pytest.mark.spec("G3")
async def test_spec_G3_openapi_is_valid_and_has_every_route(api: Api) -> None:
    got = await api.call("GET", "/openapi.json")
    document = msgspec.json.decode(got.raw)
    assert (got.status, got.headers["Content-Type"], document["openapi"]) == (200, "application/json", "3.1.0")
    OpenAPIV31SpecValidator(document).validate()
    described = {(m.upper(), path): o for path, ms in document["paths"].items() for m, o in ms.items()}
    table = {(row.method, row.path): row for row in build(api.services) if not row.is_file}
    assert described.keys() == table.keys()
    for place, row in table.items():
        operation = described[place]
        assert operation["operationId"] == row.name
        assert operation["summary"], row.name
        assert bool(operation["security"]) != row.is_open
        assert ("requestBody" in operation) == (row.body is not None)
        for parameter in re.findall(r"{(\w+)}", row.path):
            assert {"name": parameter, "in": "path"}.items() <= next(
                p for p in operation["parameters"] if p["name"] == parameter
            ).items()
    named = set(re.findall(r"#/components/schemas/(\w+)", got.raw.decode()))
    assert named <= document["components"]["schemas"].keys()


async def test_the_document_tells_the_truth_about_queries(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json")).body
    for route in Routes(row for row in build(api.services) if not row.is_file).all:
        operation = document["paths"][route.row.path][route.row.method.lower()]
        assert {p["name"] for p in operation["parameters"] if p["in"] == "query"} == route.query


async def test_docs_need_a_credential_unless_in_development(api: Api) -> None:
    for path in ("/docs", "/openapi.json"):
        assert (await api.call("GET", path, token=None)).status == 401
        assert (await api.call("GET", path)).status == 200
    before = {row.name for row in build(api.services) if row.is_open}
    api.services.docs_open = True
    assert {row.name for row in build(api.services) if row.is_open} == before | {"docs", "openapi"}


class Reader(html.parser.HTMLParser):
    """What a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.anchors: set[str] = set()
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.addresses.add(value or "")
            if name == "id":
                self.anchors.add(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


async def test_spec_G3_docs_are_one_page_without_scripts_that_loads_nothing(api: Api) -> None:
    got = await api.call("GET", "/docs")
    text = got.raw.decode()
    assert got.headers["Content-Type"] == "text/html; charset=utf-8"
    reader = Reader()
    reader.feed(text)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "form", "svg"}
    assert not reader.handlers
    outside = {address for address in reader.addresses if not address.startswith("#")}
    assert outside == {"/openapi.json"}
    assert {address[1:] for address in reader.addresses - outside} <= reader.anchors
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in got.headers["Content-Security-Policy"]
    for row in build(api.services):
        assert (f"<b>{row.method}</b> <code>{row.path}</code>" in text) != row.is_file, row.name


def test_sec_P5_docs_escape_everything() -> None:
    evil = "<script>alert(1)</script>\"'&"
    operation = {
        "operationId": evil, "summary": evil, "description": f"`{evil}`", "tags": [evil],
        "parameters": [{"name": evil, "in": evil, "schema": {"type": evil}, "description": evil}],
        "requestBody": {"content": {"application/json": {"schema": {"title": evil}}}},
        "responses": {evil: {"description": evil, "content": {evil: {"schema": {"$ref": f"#/{evil}"}}}}},
    }  # fmt: skip
    document = {
        "info": {"title": evil, "version": evil, "description": evil}, "paths": {evil: {evil: operation}},
        "components": {"schemas": {evil: {"description": evil, "enum": [evil]}}},
    }  # fmt: skip
    reader = Reader()
    text = html_of(document)
    reader.feed(text)
    assert "script" not in reader.tags
    assert "<script" not in text.lower()


# ---- health ----------------------------------------------------------------------------------------------------------
@pytest.mark.spec("O3")
async def test_spec_O3_the_detailed_report(api: Api) -> None:
    for _ in range(5):
        await api.call("GET", "/api/data/notes")
    await api.call("GET", "/api/data/notes/none")
    assert (await api.call("GET", "/api/config/health", token=None)).status == 401
    report = (await api.call("GET", "/api/config/health")).body
    system = report["system"]
    assert report["ready"]
    assert 0 < system["process_rss_bytes"] < system["memory_total_bytes"]
    assert 0 < system["memory_available_bytes"] <= system["memory_total_bytes"]
    assert system["cpu_count"] >= 1
    assert system["process_threads"] >= 1
    assert 0 < system["disk"]["database_bytes"] < system["disk"]["total_bytes"]
    assert {c["name"] for c in report["components"]} >= {"database", "disk"}
    assert report["performance"].keys() >= {"requests", "error_rate", "request_p95_s", "commits"}


async def test_spec_O3_a_part_that_is_not_well_shows_in_the_status(api: Api) -> None:
    from hybridgw_protocol.localapi import Component
    from hybridgw_protocol.localapi_operations import ServiceReport

    assert (await api.call("GET", "/api/config/health")).body["status"] == "ok"
    api.services.health.add_services(lambda: [ServiceReport(name="relay", state="not_configured")])
    assert (await api.call("GET", "/api/config/health")).body["status"] == "ok"
    api.services.health.add("keys", lambda: Component(name="keys", state="degraded", message="locked"))
    assert (await api.call("GET", "/api/config/health")).body["status"] == "degraded"
