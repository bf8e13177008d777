"""Attacks on the local API: constant refusals, no CORS header, no change, whatever the path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.transports.local.commands import build
from hybridgw_daemon.transports.local.http import Patience
from tests.integration._local_api import TOKEN, Answer, Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        await made.call("PUT", "/api/data/notes/x", {"a": 1})
        yield made


PATHS = [
    "/health",
    "/health/ready",
    "/api/data/notes/x",
    "/api/events",
    "/nothing",
    "/",
    "/docs",
    "/ws/web_app/test",
    "*",
]


def seq(api: Api) -> Any:
    return api.database.peek(lambda c: c.execute("SELECT max(seq), count(*) FROM document").fetchone())


def check_refusal(got: Answer, status: int) -> None:
    assert got.status == status, got.raw
    allowed = [name for name in got.headers if name.lower().startswith("access-control-")]
    assert not allowed
    assert "Origin" in got.headers["Vary"]
    assert got.headers["Server"] == "hybridgw"


# What needs no credential; each is judged in test_every_route.py.
OPEN = {
    ("POST", "/api/auth/login"), ("POST", "/api/auth/refresh"), ("POST", "/api/auth/grants"),
    ("GET", "/api/auth/grants/x"), ("POST", "/api/auth/dashboard"), ("GET", "/"), ("GET", "/assets/notes"),
}  # fmt: skip


def paths_of(api: Api) -> list[tuple[str, str]]:
    """Every row of the table that needs a credential, health, and some paths that are none."""
    rows = [(r.method, r.path) for r in build(api.services)]
    fill = {"{collection}": "notes", "{id}": "x", "{name}": "notes"}
    found = []
    for method, path in rows:
        for name, value in fill.items():
            path = path.replace(name, value)
        found.append((method, path))
    return (
        [pair for pair in found if pair not in OPEN]
        + [("GET", path) for path in PATHS[4:-1]]
        + [("OPTIONS", "/api/data/notes"), ("PATCH", "/health")]
    )


# ---- Host ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost", "127.0.0.1:1", "127.0.0.1.evil.example:{port}",
    "127.1:{port}",
     "localhost.:{port}", "[::ffff:127.0.0.1]:{port}", "0.0.0.0:{port}", "2130706433:{port}",
     "[0:0:0:0:0:0:0:1]:{port}",
     "127.0.0.1:{port} ", "a@127.0.0.1:{port}", "127.0.0.1:0{port}", "ⅼocalhost:{port}", "localhost:{port}:{port}"],
)  # fmt: skip
async def test_spec_G6_sec_P2_sec_L1_another_host_is_refused_before_any_path(api: Api, host: str) -> None:
    before = seq(api)
    host = host.format(port=api.port)
    bodies = set()
    for path in PATHS[:-1]:
        got = (await api.send(
            f"GET {path} HTTP/1.1\r\nHost: {host}x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
            if host.endswith(" ") else
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        ))  # fmt: skip
        assert got.startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 ")), got
        assert b"access-control" not in got.lower()
        bodies.add(got.partition(b"\r\n\r\n")[2])
    assert len(bodies) == 1 or all(b"bad_request" in body for body in bodies)
    assert seq(api) == before


async def test_sec_P1_sec_L1_every_route_looks_at_the_host_first(api: Api) -> None:
    before = seq(api)
    for method, path in paths_of(api):
        check_refusal(await api.call(method, path, raw=b"{}", Host="evil.example"), 421)
        check_refusal(await api.call(method, path, raw=b"{}", Host="evil.example", token=None), 421)
    assert seq(api) == before


async def test_sec_L1_no_host_and_two_hosts(api: Api) -> None:
    assert (await api.send(b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 421 ")
    two = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nHost: evil.example\r\n\r\n".encode()
    assert (await api.send(two)).startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 "))
    evil_first = f"GET /health HTTP/1.1\r\nHost: evil.example\r\nHost: 127.0.0.1:{api.port}\r\n\r\n".encode()
    assert (await api.send(evil_first)).startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    "target", ["http://evil.example/health", "http://127.0.0.1:{port}/api/data/notes/x", "evil.example:443"]
)
async def test_sec_P2_an_absolute_target_is_no_way_around(api: Api, target: str) -> None:
    target = target.format(port=api.port)
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n\r\n"
    got = await api.send(head.encode())
    assert got.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 404 ", b"HTTP/1.1 400 ", b"HTTP/1.1 421 ")), got


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
async def test_our_own_names_are_served(api: Api, host: str) -> None:
    assert (await api.call("GET", "/health", token=None, Host=f"{host}:{api.port}")).status == 200


# ---- Origin ----------------------------------------------------------------------------------------------------------
ORIGINS = ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "http://localhost:{port}", "https://127.0.0.1:{port}",
           "chrome-extension://abcdefghijklmnopabcdefghijklmnop", "moz-extension://0f1e2d3c",
           "http://127.0.0.1:{port}.evil.example",
           "http://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}", "", "file://",
           "http://evil.example@127.0.0.1:{port}"]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
async def test_sec_P2_sec_L8_no_origin_is_approved_yet(api: Api, origin: str) -> None:
    before = seq(api)
    origin = origin.format(port=api.port)
    for method, path in paths_of(api):
        got = await api.call(method, path, raw=b"{}", Origin=origin, X_HybridGW_Client="x")
        check_refusal(got, 403)
        assert got.body["detail"] == "Requests of this page are not admitted."
    assert seq(api) == before


async def test_our_own_origin_needs_a_header_that_no_form_can_set(api: Api) -> None:
    own = f"http://127.0.0.1:{api.port}"
    check_refusal(await api.call("PUT", "/api/data/notes/x", {"a": 2}, Origin=own), 403)
    assert (
        await api.call("PUT", "/api/data/notes/x", {"a": 2}, Origin=own, X_HybridGW_Client="dashboard/1")
    ).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
async def test_sec_L10_requests_that_a_browser_marks_as_foreign(api: Api, site: str) -> None:
    for method, path in (("GET", "/health"), ("GET", "/api/data/notes/x"), ("PUT", "/api/data/notes/x")):
        check_refusal(await api.call(method, path, raw=b"{}" if method == "PUT" else None, Sec_Fetch_Site=site), 403)
    for site in ("none", "same-origin"):
        assert (await api.call("GET", "/api/data/notes/x", Sec_Fetch_Site=site)).status == 200


async def test_sec_L11_preflights_get_no_permission(api: Api) -> None:
    for path in ("/api/data/notes/x", "/health", "/api/events", "/nothing"):
        got = await api.call(
            "OPTIONS", path, token=None, Origin="https://evil.example", Access_Control_Request_Method="PUT",
            Access_Control_Request_Private_Network="true", Access_Control_Request_Headers="authorization",
        )  # fmt: skip
        check_refusal(got, 403)


async def test_sec_L6_a_cross_site_websocket_is_never_accepted(api: Api) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "x" * 22 + "==",
    }
    for path in ("/ws/web_app/test", "/api/events", "/health"):
        check_refusal(await api.call("GET", path, Origin="https://evil.example", **upgrade), 403)
        if not path.startswith("/ws/"):  # a local program may open it, and shows its token in the first frame
            assert (await api.call("GET", path, token=None, **upgrade)).status != 101


# ---- the token -------------------------------------------------------------------------------------------------------
BAD = [
    "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer  {TOKEN}", TOKEN,
    f"Basic {TOKEN}", f"Token {TOKEN}", f"Bearer {TOKEN.upper()}", "Bearer \xff", f"Bearer {TOKEN}, Bearer {TOKEN}",
]  # fmt: skip


@pytest.mark.parametrize("credential", BAD)
async def test_sec_L12_a_bad_credential(api: Api, credential: str) -> None:
    head = f"GET /api/data/notes/x HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: {credential}\r\n\r\n"
    got = await api.send(head.encode("latin-1"))
    assert got.startswith(b"HTTP/1.1 401 "), got
    assert b"WWW-Authenticate: Bearer" in got
    assert b"hybridgw keys create" in got  # what helps a script; not the owner's token
    assert b"endpoint" not in got


async def test_sec_P7_sec_L12_without_a_token_every_path_looks_the_same(api: Api) -> None:
    before = seq(api)
    bodies = set()
    for method, path in paths_of(api):
        if path in ("/health", "/metrics", "/") and method == "GET":
            continue
        got = await api.call(method, path, raw=b"{}", token=None)
        check_refusal(got, 401)
        bodies.add(got.raw)
    assert len(bodies) == 1
    assert seq(api) == before


@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "api_key"])
async def test_sec_L12_a_token_in_a_url_does_not_count(api: Api, name: str) -> None:
    assert (await api.call("GET", f"/api/data/notes/x?{name}={TOKEN}", token=None)).status == 401
    assert (await api.call("GET", f"/api/data/notes/x?{name}={TOKEN}")).status == 400


async def test_sec_P4_a_forwarded_header_makes_nothing_more_trusted(api: Api) -> None:
    headers = {
        "X_Forwarded_For": "127.0.0.1",
        "X_Forwarded_Host": f"127.0.0.1:{api.port}",
        "Forwarded": "for=127.0.0.1",
        "X_Real_IP": "::1",
    }
    check_refusal(await api.call("GET", "/api/data/notes/x", token=None, **headers), 401)
    check_refusal(await api.call("GET", "/health", Host="evil.example", **headers), 421)
    for name in ("X_HTTP_Method_Override", "X_Original_URL", "X_Rewrite_URL"):
        assert (await api.call("GET", "/health", **{name: "/api/data/notes/x"})).body == {"status": "ok"}


async def test_sec_L14_what_a_client_declares_gives_no_right(api: Api) -> None:
    got = await api.call("POST", "/api/data/notes?scopes=admin", {"scopes": ["admin"]}, token=None)
    check_refusal(got, 401)


async def test_sec_L35_health_says_nothing_but_ok(api: Api) -> None:
    got = await api.call("GET", "/health", token=None)
    assert (got.status, got.raw) == (200, b'{"status":"ok"}')
    assert "aiohttp" not in str(got.headers).lower()
    assert "python" not in str(got.headers).lower()


# ---- connections -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /health\r\n\r\n", b"SSH-2.0-x\r\n",
    b"GET /h\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
     b"GET /health HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % k for k in range(500)) + b"\r\n",
     b"GET /health HTTP/1.1\r\nAuthorization: Bearer planted-in-garbage\r\nbroken header\r\n\r\n", b"\r\n\r\n\r\n",
     b"GET  /health HTTP/9.9\r\n\r\n",
     b"POST /api/data/notes HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
     b"POST /x HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"],
)  # fmt: skip
async def test_bytes_that_are_no_http_get_one_answer_and_harm_nobody(
    api: Api, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        got = await api.send(raw, wait_s=0.3)
    assert not got or got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 421 ", b"HTTP/1.1 505 ", b"HTTP/1.0 ")), got
    assert b"Traceback" not in got
    assert b"planted" not in got
    assert "planted" not in caplog.text
    assert (await api.call("GET", "/health")).status == 200


async def test_sec_L24_connections_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=5) as api:
        held = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET /health HTTP/1.1\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 30) == b""
        held.append((reader, writer))
        for _, other in held:
            other.close()
        for _ in range(600):
            await asyncio.sleep(0.05)
            with_room = await api.send(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n\r\n".encode())
            if with_room:
                break
        assert with_room.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("raw", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
async def test_sec_L24_half_a_request_is_timed_out(tmp_path: Path, raw: bytes) -> None:
    async with running(tmp_path, patience=Patience(head_s=0.2, sweep_s=0.05)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(raw)
        got = await asyncio.wait_for(reader.read(), 30)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert json.loads(got.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"
        writer.close()
        assert (await api.call("GET", "/health")).status == 200


async def test_sec_L24_half_a_body_is_timed_out(tmp_path: Path) -> None:
    async with running(tmp_path, patience=Patience(body_s=0.2)) as api:
        head = f"PUT /api/data/notes/x HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
        got = await api.send(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert got.startswith(b"HTTP/1.1 408 ")
        assert seq(api) == (None, 0)


async def test_spec_G5_a_connection_that_idles_between_requests_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path, idle_s=0.3) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n\r\n".encode())
        got = await asyncio.wait_for(reader.read(), 30)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert got.endswith(b'{"status":"ok"}')  # and nothing after it: nobody asked
        writer.close()


async def test_a_caller_that_goes_away_does_not_undo_its_write(api: Api) -> None:
    body = b'{"a":2}'
    head = f"PUT /api/data/notes/gone HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head.encode() + body)
    await writer.drain()
    writer.transport.abort()
    for _ in range(3_000):
        await asyncio.sleep(0.01)
        got = await api.call("GET", "/api/data/notes/gone")
        if got.status == 200:
            break
    assert got.status == 200
