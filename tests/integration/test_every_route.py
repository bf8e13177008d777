"""Every route of the command table against every way of coming without the right; a new row is judged by itself.

The answer to a stranger is always the same: a constant body, no Access-Control header but for a page that was let in,
and nothing has changed. The few calls that need no credential are listed here by name; another one fails the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hybridgw_daemon.core.tokens import Claims, TokenKey
from hybridgw_daemon.transports.local.commands import Command, build
from tests.integration._access import PAGE, let_in, make_key, page
from tests.integration._local_api import TOKEN, Answer, Api, running

# To programs and to pages that were let in. The dashboard's files are the same for everybody and change nothing.
OPEN = {"health", "metrics", "auth.login", "auth.refresh", "auth.dashboard.open", "dashboard.page", "dashboard.file"}
ASK = {"auth.grants.ask", "auth.grants.get"}  # and these to any page, so that it can ask
# Rows whose answer depends on what the credential may see: none is refused for its scopes.
ANY = {
    "collections.list", "conflicts.list", "events", "auth.logout", "auth.validate", "auth.status", "openapi", "docs",
    "frames.schema", "config.deployments", "messages.list", "messages.get", "messages.acknowledge",
    "messages.notifications", "messages.devices",
}  # fmt: skip
FORBIDDEN = "Requests of this page are not admitted."
FILL = {"{collection}": "notes", "{id}": "x", "{name}": "notes", "{topic}": "notes"}


class Attack(NamedTuple):
    """A way to come, the status it must get, and for which rows it is none."""

    headers: dict[str, str]
    status: int
    harmless_for: frozenset[str] = frozenset()
    token: str | None = None
    query: str = ""
    method: str | None = None


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        await made.call("PUT", "/api/data/notes/x", {"a": 1})
        await let_in(made)
        yield made


def state(api: Api) -> Any:
    """Everything that a call could have changed."""
    tables = (
        "document", "app_grant", "api_key", "refresh_token", "revoked_token", "app_refusal", "relay", "alarm",
        "message", "delivery", "copy", "route",
    )  # fmt: skip
    return api.database.peek(lambda c: [c.execute(f"SELECT * FROM {table}").fetchall() for table in tables])


def path_of(row: Command) -> str:
    path = row.path
    for name, value in FILL.items():
        path = path.replace(name, value)
    return path


async def send(api: Api, row: Command, attack: Attack) -> Answer:
    body = b"{}" if row.body is not None and attack.method is None else None
    path = f"{path_of(row)}{attack.query}"
    return await api.call(attack.method or row.method, path, raw=body, token=attack.token, **attack.headers)


def forged(**changes: Any) -> str:
    """A token that is right but for one thing."""
    secret = changes.pop("secret", b"k" * 32)
    claims: dict[str, Any] = {
        "iss": "hybridgw:x", "sub": "local", "cid": "grant:x", "scope": "admin", "jti": "j", "iat": 1, "exp": 2**33,
        "kv": 1, "amr": [],
    }  # fmt: skip
    return TokenKey("HS256", secret).sign(Claims(**claims | changes))


def attacks(api: Api) -> dict[str, Attack]:
    everybody = frozenset(OPEN | ASK)
    stranger = {"Origin": "https://evil.example", "X_HybridGW_Client": "x", "Sec_Fetch_Site": "cross-site"}
    evil_extension = stranger | {"Origin": "chrome-extension://" + "p" * 32}
    let_in_page = {"Origin": PAGE, "X_HybridGW_Client": "x", "Sec_Fetch_Site": "cross-site"}
    preflight = {"Access_Control_Request_Method": "PUT", "Access_Control_Request_Private_Network": "true"}
    issuer = api.access.credentials.issuer
    return {
        "wrong host": Attack({"Host": "evil.example"}, 421, token=TOKEN),
        "wrong host without token": Attack({"Host": f"127.0.0.1.evil.example:{api.port}"}, 421),
        "foreign origin": Attack(stranger, 403, frozenset(ASK), TOKEN),
        "foreign extension": Attack(evil_extension, 403, frozenset(ASK), TOKEN),
        "foreign origin, simple request": Attack({"Origin": "https://evil.example"}, 403, token=TOKEN),
        "opaque origin": Attack(stranger | {"Origin": "null"}, 403, token=TOKEN),
        "let in, without our header": Attack({"Origin": PAGE}, 403, token=TOKEN),
        "let in, without a token": Attack(let_in_page, 401, everybody),
        "let in, with the owner's token": Attack(let_in_page, 401, everybody, TOKEN),
        "cross-site without origin": Attack({"Sec_Fetch_Site": "cross-site"}, 403, token=TOKEN),
        "same-site without origin": Attack({"Sec_Fetch_Site": "same-site"}, 403, token=TOKEN),
        "preflight of a stranger": Attack(stranger | preflight, 403, method="OPTIONS"),
        "no token": Attack({}, 401, everybody),
        "bad token": Attack({}, 401, everybody, "x" * 43),
        "expired": Attack({}, 401, everybody, forged(iss=issuer, exp=10)),
        "another secret": Attack({}, 401, everybody, forged(iss=issuer, secret=b"z" * 32)),
        "a grant that is none": Attack({}, 401, everybody, forged(iss=issuer)),
        "an API key that is none": Attack({}, 401, everybody, "hgw_AAAAAAAA_" + "A" * 49),
        "other scheme": Attack({"Authorization": f"Basic {TOKEN}"}, 401, everybody),
        "token in the query": Attack({}, 401, everybody, query=f"?access_token={TOKEN}"),
    }


NAMES = [
    "wrong host", "wrong host without token", "foreign origin", "foreign extension", "foreign origin, simple request",
    "opaque origin", "let in, without our header", "let in, without a token", "let in, with the owner's token",
    "cross-site without origin", "same-site without origin", "preflight of a stranger", "no token", "bad token",
    "expired", "another secret", "a grant that is none", "an API key that is none", "other scheme",
    "token in the query",
]  # fmt: skip


async def test_the_attacks_and_the_open_calls_are_these(api: Api) -> None:
    assert sorted(attacks(api)) == sorted(NAMES)
    rows = build(api.services)
    assert {row.name for row in rows if row.scope == "open"} == OPEN
    assert {row.name for row in rows if row.scope == "ask"} == ASK
    assert {row.name for row in rows if row.scope == "any"} == ANY
    assert len(rows) >= 50


@pytest.mark.parametrize("name", NAMES)
async def test_sec_P1_sec_L12_sec_L35_every_route_refuses(api: Api, name: str) -> None:
    """One attack against all rows: one constant answer, and nothing has changed."""
    attack, before, bodies = attacks(api)[name], state(api), set()
    for row in build(api.services):
        if row.name in attack.harmless_for:
            continue
        got = await send(api, row, attack)
        assert got.status == attack.status, f"{row.name}: {got.status} {got.raw!r}"
        cors = {n.lower(): v for n, v in got.headers.items() if n.lower().startswith("access-control-")}
        assert cors.get("access-control-allow-origin") == (PAGE if attack.headers.get("Origin") == PAGE and
                                                           attack.status == 401 else None), row.name  # fmt: skip
        assert "access-control-allow-private-network" not in cors
        assert "Origin" in got.headers["Vary"]
        bodies.add(got.raw)
    assert len(bodies) == 1
    assert state(api) == before
    assert not api.daemon.stopped


async def test_sec_L10_no_route_takes_a_form_or_plain_text(api: Api) -> None:
    before = state(api)
    for row in build(api.services):
        if row.body is None:
            continue
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            got = await api.call(row.method, path_of(row), raw=b"{}", Content_Type=kind)
            assert got.status == 415, f"{row.name}: {got.raw!r}"
    assert state(api) == before


async def test_sec_P4_sec_L10_what_only_reads_changes_nothing(api: Api) -> None:
    before = state(api)
    for row in build(api.services):
        if row.method == "GET" and row.stream is None:
            assert (await api.call("GET", path_of(row))).status in (200, 404, 410, 422, 503), row.name
    assert state(api) == before


async def test_a_stranger_that_may_ask_may_do_nothing_else_with_these_paths(api: Api) -> None:
    asked = [row for row in build(api.services) if row.name in ASK]
    for row in asked:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            if any(other.path == row.path and other.method == method for other in asked):
                continue
            got = await page(api, method, path_of(row), origin="https://evil.example", token=TOKEN)
            assert (got.status, got.body["detail"]) == (403, FORBIDDEN), f"{method} {row.path}"


async def test_sec_L11_a_stranger_gets_preflights_answered_only_to_ask(api: Api) -> None:
    for row in build(api.services):
        got = await api.call(
            "OPTIONS", path_of(row), token=None, Origin="https://evil.example",
            Access_Control_Request_Method=row.method, Access_Control_Request_Private_Network="true",
            Access_Control_Request_Local_Network="true",
        )  # fmt: skip
        if row.name in ASK:
            assert got.status == 204
            assert got.headers["Access-Control-Allow-Origin"] == "https://evil.example"
            assert got.headers["Access-Control-Allow-Methods"] == "GET, POST"
        else:
            assert (got.status, got.body["detail"]) == (403, FORBIDDEN), row.name
            assert "Access-Control-Allow-Origin" not in got.headers
        assert "Access-Control-Allow-Private-Network" not in got.headers
        assert "Access-Control-Allow-Local-Network" not in got.headers
        assert "Origin" in got.headers["Vary"]


BODIES: dict[str, Any] = {  # bodies that are understood, so that only the right is judged
    "data.create": {"a": 1}, "data.put": {"a": 1}, "data.patch": {"a": 1}, "data.restore": {"a": 1},
    "data.batch": {"operations": [{"op": "put", "collection": "notes", "id": "x", "data": {}}]},
    "conflicts.resolve": {"version": 1, "keep": "shown"},
    "devices.rename": {"name": "x"}, "devices.expel": {"words": "x"}, "devices.undo": {"words": "x", "since_ms": 1},
    "devices.settle": {"words": "x"}, "recovery.confirm": {"words": "x"},
    "recovery.recover": {"words": "x", "relay": "x"},
    "pairing.join": {"code": "1"}, "pairing.confirm": {"accept": True}, "relays.add": {"link": "x"},
    "lan.add": {"address": "192.0.2.1:47801"}, "lan.test": {"address": "127.0.0.1:9"},
    "auth.grants.approve": {"code": "1"}, "auth.keys.create": {"scopes": ["read:tasks"]},
    "messages.send": {"type": "notes"}, "messages.broadcast": {"type": "notes"}, "messages.explain": {"type": "notes"},
    "messages.rules.put": {"rules": []}, "contacts.add": {"address": "0" * 32}, "contacts.verify": {"number": "0" * 60},
    "contacts.rename": {"name": "x"},
    "auth.audit.export": {"collection": "tasks", "documents": 1, "format": "csv"},
}  # fmt: skip


async def each_guarded(api: Api, key: str) -> AsyncIterator[tuple[Command, Answer]]:
    """Every row that asks for a right, called with this key."""
    for row in build(api.services):
        if row.name in OPEN | ASK | ANY:
            continue
        query = {"relays.remove": "?url=x", "lan.remove": "?address=192.0.2.1"}.get(row.name, "")
        path = path_of(row).replace("/alarms/x", "/alarms/1") + query
        body = None if row.body is None else BODIES.get(row.name, {})
        got = await api.call(row.method, path, body, token=key)
        yield row, got


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read:other", "write:other", "send:notes", "listen:notes"],
         {"topic.publish", "messages.send", "messages.broadcast"}),
        (["read:notes"], {"data.list", "data.get", "collections.get", "conflicts.get"}),
        (["write:notes"], {"data.create", "data.put", "data.patch", "data.delete", "data.restore", "data.batch",
                           "collections.define", "conflicts.resolve"}),
    ],
)  # fmt: skip
async def test_sec_P3_sec_L14_every_route_asks_for_its_scope(api: Api, scopes: list[str], allowed: set[str]) -> None:
    key = (await make_key(api, *scopes))["key"]
    async for row, got in each_guarded(api, key):
        assert (got.status == 403) == (row.name not in allowed), f"{row.name}: {got.raw!r}"


async def test_admin_reaches_everything_but_what_is_the_owners(api: Api) -> None:
    key = (await make_key(api, "admin"))["key"]
    async for row, got in each_guarded(api, key):
        assert (got.status == 403) == (row.scope == "owner"), f"{row.name}: {got.raw!r}"
    assert not api.daemon.stopped


async def test_sec_L6_a_websocket_of_a_stranger_gets_no_101(api: Api) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "x" * 22 + "==",
    }  # fmt: skip
    for path in ("/ws/web_app/test", "/api/auth/grants", "/api/auth/grants/x", "/api/events", "/health"):
        got = await api.call("GET", path, token=None, Origin="https://evil.example", **upgrade)
        if path != "/api/auth/grants/x":
            assert (got.status, got.body["detail"]) == (403, FORBIDDEN), path
        assert got.status != 101
