"""What holds beyond single attacks: spellings, secrets, programs, ports. See docs/reference/attacks.md."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from hybridgw_daemon.transports.local.commands import build
from tests.conftest import ROOT
from tests.integration._access import PAGE, ask, let_in, make_key, page
from tests.integration._local_api import TOKEN, Api, daemon, running
from tests.integration.test_local_api_process import STORE, call, until_unlocked


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        await made.call("PUT", "/api/data/notes/x", {"a": 1})
        await made.call("PUT", "/api/data/tasks/milk", {"title": "Buy milk"})
        yield made


# ---- spellings -------------------------------------------------------------------------------------------------------
SPELLINGS = [
    "/api/data/notes/%78", "/api/data/%6eotes/x", "/api/data/%6E%6f%74%65%73/%78", "/api/data/tasks/../notes/x",
    "/api/data/tasks/%2e%2e/notes/x", "/api/data/tasks%2F..%2Fnotes/x", "/api//data/notes/x", "//api/data/notes/x",
    "/API/data/notes/x", "/api/data/NOTES/x", "/api/data/notes/x/", "/api/data/notes/x;tasks", "/api/data/notes%00/x",
    "/api/data/./notes/x", "/api/./data/notes/x", "/health/../api/data/notes/x", "/docs/%2e%2e/api/data/notes/x",
    "/%61pi/data/notes/x",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
async def test_sec_P2_another_spelling_of_a_path_opens_nothing(api: Api, path: str) -> None:
    """Whoever may read tasks reads no note, however its path is written; and without a token all look the same."""
    key = (await make_key(api, "read:tasks"))["key"]
    plain = await api.call("GET", "/api/data/notes/x", token=key)
    assert plain.status == 403
    got = await api.call("GET", path, token=key)
    assert got.status in (403, 404, 422, 400), got.raw
    assert b'"a":1' not in got.raw
    assert (await api.call("GET", path, token=None)).raw == (await api.call("GET", "/nothing", token=None)).raw
    mine = await api.call("GET", path)
    assert mine.status in (400, 404, 422) or mine.raw == (await api.call("GET", "/api/data/notes/x")).raw


# ---- texts from outside ----------------------------------------------------------------------------------------------
HOSTILE = [
    "../../etc/passwd", "..\\..\\x", "/etc/passwd", "C:\\x", "$(touch hit)", "`touch hit`", "; touch hit", "| sh",
    "<script>alert(1)</script>", "%s%s%n", "{0.__class__}", "' OR 1=1 --", "\x1b[2J", "\u202egpj.exe", "x" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
async def test_sec_P5_text_from_outside_is_data_and_nothing_else(
    api: Api, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As a value it comes back as it was; as a name it is refused or is a name; no file is made of it, none is read."""
    before = {path for path in tmp_path.rglob("*") if not path.name.startswith("a.db")}
    with caplog.at_level("DEBUG"):
        wrote = await api.call("PUT", "/api/data/notes/hostile", {"text": text})
        assert (wrote.status, wrote.body["data"]) == (200, {"text": text})
        for path, body in (
            ("/api/data", {"operations": [{"op": "put", "collection": text, "id": "x", "data": {}}]}),
            ("/api/data", {"operations": [{"op": "put", "collection": "notes", "id": text, "data": {}}]}),
            ("/api/data", {"operations": [{"op": "put", "collection": "notes", "id": "y", "data": {text: 1}}]}),
        ):
            got = await api.call("POST", path, body)
            assert got.status in (200, 413, 422), got.raw
            assert got.raw.isascii() or got.headers["Content-Type"].startswith("application/")
        assert (await ask(api, origin=None, name=text[:4_000]))["code"]
        await api.call("GET", "/health", User_Agent=text.encode("ascii", "ignore").decode().replace("\x1b", ""))
    assert {path for path in tmp_path.rglob("*") if not path.name.startswith("a.db")} == before
    assert "hit" not in {path.name for path in Path.cwd().iterdir()}
    for row in (await api.call("GET", "/api/auth/grants")).body["items"]:
        assert row["name"].isprintable()
        assert len(row["name"]) <= 40


# ---- secrets ---------------------------------------------------------------------------------------------------------
# Where a secret from outside meets one of ours. Names of values that are secret, or stand for one.
JUDGES = (
    "hybridgw_daemon/transports/local/auth.py", "hybridgw_daemon/services/credentials.py",
    "hybridgw_daemon/services/sessions.py", "hybridgw_daemon/services/grants.py",
    "hybridgw_daemon/services/api_keys.py", "hybridgw_daemon/core/tokens.py", "hybridgw_daemon/core/api_keys.py",
    "protocol/hybridgw_protocol/pairing.py",
)  # fmt: skip
SECRET = re.compile(r"(^|_)(token|secret|code|claim|digest|signature|proof|typed|hash|expected|password|mac)$")


OWN_FORM = {"_b64(raw) != signature"}  # of what was shown, with nothing of ours


def last_name(node: ast.expr) -> str:
    """Of a chain of attributes and calls: `found.claim` is `claim`, `digest(secret)` is `digest`."""
    match node:
        case ast.Attribute():
            return node.attr
        case ast.Name():
            return node.id
        case ast.Call():
            return last_name(node.func)
        case ast.Subscript():
            return last_name(node.value)
    return ""


def compared(source: str) -> list[str]:
    """Comparisons by == and != that look at a secret, but for its absence and for words of ours."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        found += [ast.unparse(node) for side in sides if SECRET.search(last_name(side))]
    return found


def test_sec_P7_secrets_are_compared_in_constant_time_only() -> None:
    """No == on a secret in the modules that judge them; each of those that compares at all uses compare_digest."""
    judged = 0
    for name in JUDGES:
        source = (ROOT / name).read_text()
        assert set(compared(source)) <= OWN_FORM, name
        judged += source.count("hmac.compare_digest(")
    assert judged >= 8
    assert compared("if found.claim == digest(secret): pass") == ["found.claim == digest(secret)"] * 2


async def test_sec_P7_unknown_and_forbidden_look_the_same_to_a_stranger(api: Api) -> None:
    grant = await let_in(api)
    bodies = set()
    for path in (
        "/api/data/notes/x", "/api/data/notes/none", "/api/data/none/x", "/api/nothing", "/api/auth/grants",
        f"/api/auth/grants/{grant['id']}/approve", "/api/auth/keys", "/api/config", "/nothing", "/docs",
    ):  # fmt: skip
        for token in (None, "wrong", grant["access_token"]):  # the last one counts from its page only
            got = await api.call("GET", path, token=token)
            assert got.status == 401
            bodies.add(got.raw)
    assert len(bodies) == 1


# ---- programs, files, other ports ------------------------------------------------------------------------------------
# Fields of commands that could name a program, a file or an address; each is one of these, with its reason.
KNOWN_FIELDS = {
    ("relays.add", "link"): "an invite, dialled by the daemon's own client; the owner's alone",
    ("relays.remove", "url"): "names a relay that is known",
    ("relays.test", "url"): "names a relay that is known",
    ("pairing.start", "relay"): "names a relay that is known",
    (
        "recovery.recover",
        "relay",
    ): "dialled by the daemon's own client; the owner's alone",
}
SUSPECT = re.compile(r"path|file|folder|dir|exec|program|command|shell|script|url|uri|link|relay|host|env|home")


async def test_sec_L25_no_call_names_a_program_a_file_or_an_address(api: Api) -> None:
    rows = build(api.services)
    found = {
        (row.name, field.name)
        for row in rows
        for field in msgspec.structs.fields(row.kind)
        if SUSPECT.search(field.name)
    }
    assert found == KNOWN_FIELDS.keys()
    assert {
        row.scope for row in rows if row.name in {"relays.add", "relays.remove", "pairing.start", "recovery.recover"}
    } == {"owner"}
    for method in ("PUT", "PATCH", "POST", "DELETE"):  # configuration is read, never set
        body = None if method == "DELETE" else {"items": [{"name": "SERVER_PORT", "value": 1}]}
        for path in ("/api/config", "/api/paths", "/api/config/health"):
            assert (await api.call(method, path, body)).status == 405


FIXED = {  # start a program of their own choice, with words of their own
    "hybridgw_daemon/stores/clone_guard.py",  # asks macOS for the name of the machine
    "hybridgw_daemon/transports/peers/certificate.py",  # a part of our own, in a process that ends
}
OWN_WORDS = {"sys.executable", "__name__"}


def words_of(call: ast.Call) -> list[ast.expr]:
    """What a program is started with: one list, or each word as an argument."""
    first = call.args[0]
    return list(first.elts) if isinstance(first, ast.List) else call.args


def test_sec_L25_the_daemon_starts_no_program_that_anybody_names() -> None:
    """Its modules import and call nothing that starts one, but for two that start a fixed one with fixed words."""
    starts = set()
    for path in sorted((ROOT / "hybridgw_daemon").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {"subprocess", "webbrowser", "pty", "ctypes"} & {found.split(".")[0] for found in names}:
                starts.add(name)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert not re.match(r"system|popen|exec|spawn|fork|startfile", node.attr), f"{path}: {node.attr}"
            if isinstance(node, ast.Call) and re.match(
                r"(subprocess|asyncio\.create_subprocess)", ast.unparse(node.func)
            ):
                starts.add(name)
                assert "shell" not in ast.unparse(node.func), path
                for word in words_of(node):
                    assert isinstance(word, ast.Constant) or ast.unparse(word) in OWN_WORDS, (
                        f"{path}: {ast.unparse(word)}"
                    )
    assert starts == FIXED


def ports_of(pid: int) -> set[tuple[str, int]]:
    """Address and port of every TCP socket on which a process listens."""
    found = psutil.Process(pid).net_connections(kind="tcp")
    return {(one.laddr.ip, one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN}


def said_to(address: str, port: int, raw: bytes) -> bytes:
    """What comes back, until it is closed or silent for a moment."""
    found = b""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2) as tcp:
        tcp.sendall(raw)
        tcp.settimeout(1)
        while part := tcp.recv(65_536):
            found += part
    return found


def test_sec_L5_a_page_gets_an_http_answer_from_the_local_api_only(tmp_path: Path) -> None:
    """Every port on which a daemon listens, asked as a page asks after its name was bound to this address anew."""
    env = {"HYBRIDGW_METRICS_PORT": "0"}
    with daemon(tmp_path / "home", *STORE, env=env) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        listening = ports_of(process.process.pid)
        assert ("127.0.0.1", endpoint.port) in listening
        for address, port in listening:
            for path in ("/", "/health", "/metrics", "/ws/web_app/x"):
                head = f"GET {path} HTTP/1.1\r\nHost: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n\r\n"
                got = said_to(address, port, head.encode())
                assert not got.startswith(b"HTTP/") or got.startswith(b"HTTP/1.1 421 "), (address, port, got[:200])
                assert b"access-control-allow" not in got.lower()
        process.stop()


def test_sec_L26_nothing_starts_it_anew_and_nothing_listens_after_its_end(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        for path in ("/api/daemon/restart", "/api/daemon/upgrade", "/api/daemon/install", "/api/update", "/install"):
            assert call(endpoint, "POST", path, {}, token="none")[0] == 401
            assert call(endpoint, "POST", path, {})[0] == 404
        key = call(endpoint, "POST", "/api/auth/keys", {"scopes": ["admin"]})[1]["key"]
        assert call(endpoint, "POST", "/api/daemon/stop", {}, token=key)[0] == 403
        assert call(endpoint, "POST", "/api/daemon/stop", {}, token="none")[0] == 401
        assert call(endpoint, "GET", "/health")[0] == 200
        listening = ports_of(process.process.pid)
        assert call(endpoint, "POST", "/api/daemon/stop", {})[0] == 200
        assert process.end()[0] == 0
    assert listening
    for address, port in listening:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=2).close()
    assert not (tmp_path / "home" / "endpoint.json").exists()


# ---- what could be shown in a frame ----------------------------------------------------------------------------------
async def test_sec_L20_the_approval_cannot_be_framed_opened_or_sent_by_the_page(api: Api) -> None:
    asked = await ask(api)
    path, body = f"/api/auth/grants/{asked['id']}/approve", {"code": asked["code"]}
    assert (await page(api, "POST", path, body, token=asked["secret"])).status == 403
    own = f"http://127.0.0.1:{api.port}"
    for headers in (
        {"Origin": own}, {"Origin": own, "Sec_Fetch_Site": "cross-site", "X_HybridGW_Client": "x"},
        {"Sec_Fetch_Site": "same-site"}, {"Origin": "null", "X_HybridGW_Client": "x"}, {"Origin": PAGE},
    ):  # fmt: skip
        assert (await api.call("POST", path, body, **headers)).status == 403  # though the owner's token came along
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        raw = f"code={asked['code']}".encode()
        assert (await api.call("POST", path, raw=raw, Content_Type=kind)).status == 415
    assert (await api.call("POST", path, {})).status == 422  # the digits are needed
    assert (await api.call("GET", path)).status == 405
    for shown in ("/docs", "/health", path, "/nothing"):
        got = await api.call("GET", shown)
        assert "frame-ancestors 'none'" in got.headers["Content-Security-Policy"]
        assert got.headers["X-Frame-Options"] == "DENY"
        assert got.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert (await api.call("GET", "/api/auth/grants")).body["items"][0]["state"] == "pending"


# ---- lengths, and parts that are not there ---------------------------------------------------------------------------
async def test_sec_L30_a_length_of_two_gibibytes_is_refused_from_its_head(api: Api) -> None:
    before = psutil.Process().memory_info().rss
    for length in (2**31, 2**32 - 1, 2**63 - 1):
        head = f"PUT /api/data/notes/x HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{"
        assert (await api.send(head.encode())).startswith(b"HTTP/1.1 413 ")
    for raw in (
        (2**31).to_bytes(4, "little") + b"{}",
        (2**31).to_bytes(4, "big") + b"{}",
    ):  # as to the native host, which has tests of its own
        got = await api.send(raw, wait_s=0.3)
        assert not got or got.startswith(b"HTTP/1.1 400 ")
    assert psutil.Process().memory_info().rss - before < 16 * 2**20
    assert (await api.call("GET", "/health")).status == 200


async def test_sec_L32_an_answer_to_a_sign_in_that_nobody_began_is_nobodys(api: Api) -> None:
    """No call begins one, so none listens for its end; what looks like one is a path like any other."""
    rows: list[Any] = [row for row in build(api.services) if re.search(r"callback|oauth|redirect|state", row.path)]
    assert rows == []
    bodies = set()
    for path in ("/cb", "/callback", "/api/auth/callback", "/auth/v1/callback", "/api/auth/login"):
        for query in ("?code=planted&state=x", "?code=planted", "?error=x&error_description=%3Cscript%3Ealert(1)"):
            got = await api.call("GET", path + query, token=None)
            assert got.status == 401
            assert b"planted" not in got.raw
            assert b"script" not in got.raw
            bodies.add(got.raw)
    assert len(bodies) == 1
    assert (await asyncio.to_thread(ports_of, psutil.Process().pid)) <= {
        (address, api.port) for address in ("127.0.0.1", "::1")
    }
