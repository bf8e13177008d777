"""What a token is worth, from where and for how long; login, logout and refresh."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services.access import AccessSettings
from tests.integration._access import (
    OTHER,
    PAGE,
    approve,
    ask,
    audited,
    let_in,
    login,
    login_with,
    make_key,
    page,
    with_documents,
)
from tests.integration._local_api import TOKEN, Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with with_documents(tmp_path) as made:
        yield made


# ---- what tokens are worth -------------------------------------------------------------------------------------------
async def test_sec_P3_a_token_counts_only_from_its_own_origin(api: Api) -> None:
    tokens = await let_in(api)
    await let_in(api, origin="https://second.example")
    token = tokens["access_token"]
    assert (await page(api, "GET", "/api/data/tasks/milk", token=token)).status == 200
    assert (await page(api, "GET", "/api/data/tasks/milk", origin="https://second.example", token=token)).status == 401
    assert (await page(api, "GET", "/api/data/tasks/milk", origin=OTHER, token=token)).status == 403
    assert (await api.call("GET", "/api/data/tasks/milk", token=token)).status == 401
    own = f"http://127.0.0.1:{api.port}"
    assert (await api.call("GET", "/api/data/tasks/milk", token=token, Origin=own, X_HybridGW_Client="x")).status == 401
    for body, path in (
        ({"refresh_token": tokens["refresh_token"]}, "/api/auth/refresh"),
        ({"deployment_mode": "web_app", "credentials": {"grant": tokens["id"], "secret": "x"}}, "/api/auth/login"),
    ):
        got = await page(api, "POST", path, body, origin="https://second.example")
        assert (got.status, got.code) == (401, "invalid_credentials")
    assert (await page(api, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})).status == 200


async def test_the_owners_token_does_not_count_from_a_foreign_page(api: Api) -> None:
    await let_in(api)
    assert (await page(api, "GET", "/api/data/tasks/milk", token=TOKEN)).status == 401


async def test_sec_L14_scopes_come_from_the_grant_only(api: Api) -> None:
    asked = await ask(api, scopes=["read:tasks"])
    await approve(api, asked)
    body = {
        "deployment_mode": "web_app",
        "credentials": {"grant": asked["id"], "secret": asked["secret"]},
        "scopes": ["admin"],
    }
    assert (await page(api, "POST", "/api/auth/login", body)).status == 422
    token = (await login(api, asked)).body["access_token"]
    for method, path, sent in (
        ("GET", "/api/data/notes/plan", None),
        ("PUT", "/api/data/tasks/x", {"title": "a"}),
        (
            "POST",
            "/api/data",
            {"operations": [{"op": "put", "collection": "tasks", "id": "x", "data": {"title": "a"}}]},
        ),
        ("GET", "/api/config", None),
        ("POST", "/api/daemon/stop", {}),
        ("POST", "/api/auth/keys", {"scopes": ["admin"]}),
    ):
        got = await page(api, method, path, sent, token=token)
        assert (got.status, got.code) == (403, "forbidden"), path
    assert not api.daemon.stopped


async def test_every_collection_of_a_batch_needs_its_scope(api: Api) -> None:
    key = (await make_key(api, "write:tasks"))["key"]
    one = {"op": "put", "collection": "tasks", "id": "a", "data": {"title": "a"}}
    two = {"op": "put", "collection": "notes", "id": "a", "data": {"text": "a"}}
    got = await api.call("POST", "/api/data", {"operations": [one, two]}, token=key)
    assert (got.status, got.body["detail"]) == (403, "This credential does not give the right `write:notes`.")
    assert (await api.call("GET", "/api/data/tasks/a")).status == 404
    assert (await api.call("POST", "/api/data", {"operations": [one]}, token=key)).status == 200


async def test_who_may_write_and_not_read_is_shown_no_content(api: Api) -> None:
    key = (await make_key(api, "write:tasks"))["key"]
    got = await api.call("PATCH", "/api/data/tasks/milk", {"priority": "high"}, token=key)
    assert (got.status, "data" in got.body) == (200, False)
    assert (await api.call("GET", "/api/data/tasks/milk", token=key)).status == 403
    both = (await make_key(api, "write:tasks", "read:tasks"))["key"]
    assert "data" in (await api.call("PATCH", "/api/data/tasks/milk", {"priority": "low"}, token=both)).body


async def test_a_right_for_one_document_gives_no_other_and_no_list(api: Api) -> None:
    both = (await make_key(api, "read:settings/theme", "write:settings/theme"))["key"]
    await api.call("PUT", "/api/data/settings/api-key", {"value": "planted"})
    assert (await api.call("PUT", "/api/data/settings/theme", {"value": "dark"}, token=both)).body["data"]["value"]
    assert (await api.call("PATCH", "/api/data/settings/theme", {"value": 2}, token=both)).body["data"] == {"value": 2}
    assert (await api.call("GET", "/api/data/settings/theme", token=both)).status == 200
    create = {"op": "create", "collection": "settings", "id": "theme", "data": {"value": 1}}
    for method, path, body in (
        ("GET", "/api/data/settings", None),
        ("GET", "/api/data/settings/api-key", None),
        ("PUT", "/api/data/settings/themes", {"value": 1}),
        ("POST", "/api/data/settings", {"value": 1}),
        ("DELETE", "/api/data/settings/api-key", None),
        ("POST", "/api/data", {"operations": [create]}),
        ("GET", "/api/conflicts/settings/api-key", None),
        ("GET", "/api/collections/settings", None),
        ("PUT", "/api/collections/settings", {"schema": {}}),
        ("GET", "/api/events?collection=settings", None),
    ):
        got = await api.call(method, path, body, token=both)
        assert (got.status, got.code) == (403, "forbidden"), (method, path)
    assert (await api.call("GET", "/api/collections", token=both)).body["items"] == []
    only = (await make_key(api, "write:settings/theme"))["key"]
    assert "data" not in (await api.call("PUT", "/api/data/settings/theme", {"value": 3}, token=only)).body
    assert (await api.call("DELETE", "/api/data/settings/theme", token=only)).status == 200


async def test_lists_hold_only_what_may_be_read(api: Api) -> None:
    key = (await make_key(api, "read:tasks", "write:notes"))["key"]
    assert [c["name"] for c in (await api.call("GET", "/api/collections", token=key)).body["items"]] == ["tasks"]
    assert (await api.call("GET", "/api/collections/notes", token=key)).status == 403
    assert (await api.call("GET", "/api/conflicts", token=key)).body == {"items": [], "total": 0, "next_cursor": None}
    admin = (await make_key(api, "admin"))["key"]
    names = [c["name"] for c in (await api.call("GET", "/api/collections", token=admin)).body["items"]]
    assert {"notes", "tasks", "settings"} <= set(names)


async def read_events(api: Api, token: str, query: str = "", **headers: str) -> Any:
    """A stream of events that is open; iterate over (name, data) of it."""
    sent = {"Authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.session.get(f"http://127.0.0.1:{api.port}/api/events{query}", headers=sent)


async def next_event(stream: Any) -> tuple[str, Any]:
    name = ""
    while True:
        line = (await asyncio.wait_for(stream.content.readline(), 30)).decode().strip()
        if line.startswith("event: "):
            name = line[7:]
        if line.startswith("data: "):
            return name, json.loads(line[6:])


async def test_events_are_those_of_readable_collections(api: Api) -> None:
    key = (await make_key(api, "read:tasks"))["key"]
    stream = await read_events(api, key, "?since=0")
    assert (await next_event(stream))[1]["id"] == "milk"
    assert (await next_event(stream))[0] == "ready"
    await api.call("PUT", "/api/data/notes/secret", {"text": "x"})
    api.hub.publish("devices")
    await api.call("PUT", "/api/data/tasks/bread", {"title": "Bread"})
    name, data = await next_event(stream)
    assert (name, data["id"]) == ("document", "bread")
    stream.close()
    assert (await read_events(api, key, "?collection=notes")).status == 403
    late = await read_events(api, key, "?since=0&collection=tasks")
    assert [(await next_event(late))[1]["id"] for _ in range(2)] == ["milk", "bread"]
    late.close()


# ---- the end of rights -----------------------------------------------------------------------------------------------
async def test_sec_L36_a_revoked_grant_ends_its_stream_and_its_tokens_within_a_second(api: Api) -> None:
    tokens = await let_in(api)
    headers = {"Origin": PAGE, "X_HybridGW_Client": "x"}
    stream = await read_events(api, tokens["access_token"], **headers)
    assert (await next_event(stream))[0] == "ready"
    assert stream.headers["Access-Control-Allow-Origin"] == PAGE
    began = asyncio.get_running_loop().time()
    got = await api.call("DELETE", f"/api/auth/grants/{tokens['id']}")
    assert (got.status, got.body["state"], got.body["reason"]) == (200, "ended", "revoked")
    assert (await asyncio.wait_for(stream.content.read(), 1)).strip() == b""
    assert asyncio.get_running_loop().time() - began < 1
    # The origin itself is a stranger's again.
    assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status == 403
    await let_in(api)
    assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status == 401
    again = await page(api, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert (again.status, again.code) == (401, "invalid_credentials")
    assert (await api.call("DELETE", f"/api/auth/grants/{tokens['id']}")).status == 404


async def test_spec_A6_a_grant_ends_with_its_time(api: Api) -> None:
    tokens = await let_in(api, lasts="session")
    api.clock.move(12 * 3600 + 1)
    assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status in (401, 403)
    await api.access.tend()
    assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status == 403
    ended = (await api.call("GET", "/api/auth/grants?all=true")).body["items"]
    assert [(g["state"], g["reason"]) for g in ended] == [("ended", "expired")]


async def test_spec_A4_an_access_token_ends_and_is_refreshed(api: Api) -> None:
    tokens = await let_in(api, lasts="until_revoked")
    api.clock.move(3601)
    assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status == 401
    new = await page(api, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert new.status == 200
    assert (await page(api, "GET", "/api/data/tasks", token=new.body["access_token"])).status == 200


async def test_an_open_stream_ends_with_its_token(tmp_path: Path) -> None:
    async with running(tmp_path, settings=AccessSettings("HS256", 1, b"k" * 32)) as api:
        tokens = await let_in(api, origin=None)
        stream = await read_events(api, tokens["access_token"])
        await asyncio.wait_for(stream.content.read(), 30)


async def test_spec_A4_a_stolen_refresh_token_is_noticed_and_ends_the_grant(api: Api) -> None:
    tokens = await let_in(api)
    stolen = tokens["refresh_token"]
    own = (await page(api, "POST", "/api/auth/refresh", {"refresh_token": stolen})).body
    assert (await page(api, "GET", "/api/data/tasks", token=own["access_token"])).status == 200
    api.clock.move(11)
    got = await page(api, "POST", "/api/auth/refresh", {"refresh_token": stolen})
    assert (got.status, got.code) == (401, "invalid_credentials")
    assert (await page(api, "GET", "/api/data/tasks", token=own["access_token"])).status == 403
    assert len(await audited(api, "refresh.reused")) == 1
    ended = (await api.call("GET", "/api/auth/grants?all=true")).body["items"]
    assert [g["reason"] for g in ended] == ["reused"]


@pytest.mark.spec("A4")
async def test_spec_A4_logout_ends_the_app_or_everybody(api: Api) -> None:
    tokens = await let_in(api)
    token = tokens["access_token"]
    assert (await page(api, "POST", "/api/auth/logout", {"scope": "all_clients"}, token=token)).status == 403
    assert (await page(api, "POST", "/api/auth/logout", {}, token=token)).body == {"ended": 1}
    assert (await page(api, "GET", "/api/data/tasks", token=token)).status == 403
    tokens = await let_in(api)
    key = await make_key(api, "read:tasks")
    script = (await login_with(api, key["key"])).body["access_token"]
    assert (await api.call("GET", "/api/data/tasks", token=script)).status == 200
    assert (await api.call("POST", "/api/auth/logout", {"scope": "all_clients"})).body == {"ended": 1}
    assert (await api.call("GET", "/api/data/tasks", token=script)).status == 401
    assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status == 401
    assert (await page(api, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})).status == 401
    assert (await api.call("GET", "/api/data/tasks", token=key["key"])).status == 200
    assert (await api.call("POST", "/api/auth/logout", {})).status == 422


# ---- login, validate, status -----------------------------------------------------------------------------------------
@pytest.mark.spec("G8")
async def test_spec_G8_a_supabase_token_is_answered_clearly(api: Api) -> None:
    body = {"deployment_mode": "web_app", "credentials": {"supabase_token": "test"}}
    got = await api.call("POST", "/api/auth/login", body, token=None)
    assert (got.status, got.code) == (501, "supabase_not_configured")
    assert "hybridgw keys create" in got.body["detail"]


@pytest.mark.parametrize(
    "body",
    [{}, {"deployment_mode": "web_app"}, {"deployment_mode": "toaster", "credentials": {"api_key": "x"}},
     {"deployment_mode": "web_app", "credentials": {}}, {"deployment_mode": "web_app", "credentials": {"grant": "x"}},
     {"deployment_mode": "web_app", "credentials": {"secret": "x"}},
     {"deployment_mode": "web_app", "credentials": {"api_key": "x", "grant": "y", "secret": "z"}},
     {"deployment_mode": "web_app", "credentials": {"api_key": "x" * 8193}},
     {"deployment_mode": "web_app", "credentials": {"password": "x"}},
     {"deployment_mode": "web_app", "credentials": []}],
)  # fmt: skip
async def test_logins_that_make_no_sense(api: Api, body: Any) -> None:
    got = await api.call("POST", "/api/auth/login", body, token=None)
    assert (got.status, got.code) == (422, "bad_value")


@pytest.mark.parametrize(
    "key", ["x", "hgw_", "hgw_AAAAAAAA_" + "A" * 49, "ĸ", "\ud800".encode("utf-8", "replace").decode()]
)
async def test_a_key_that_is_none_is_refused_and_counted(api: Api, key: str) -> None:
    got = await login_with(api, key)
    assert (got.status, got.code) == (401, "invalid_credentials")
    assert [row["count"] for row in await audited(api, "login.refused")] == [1]


@pytest.mark.spec("A1")
async def test_spec_A1_everything_works_without_an_account(api: Api) -> None:
    got = (await api.call("GET", "/api/auth/status")).body
    assert got == {
        "identity": "local", "account": None, "supabase": "not_configured", "algorithm": "HS256", "pending": 0,
        "grants": 0, "keys": 0,
    }  # fmt: skip
    tokens = await let_in(api)
    seen = (await page(api, "GET", "/api/auth/status", token=tokens["access_token"])).body
    assert (seen["pending"], seen["grants"], seen["keys"]) == (None, None, None)


async def test_spec_G8_validate_says_what_a_credential_is_worth(api: Api) -> None:
    tokens = await let_in(api)
    got = (await page(api, "GET", "/api/auth/validate", token=tokens["access_token"])).body
    assert (got["valid"], got["cid"], got["scope"]) == (True, f"grant:{tokens['id']}", "read:tasks write:tasks")
    assert (got["source"], got["origin"], got["exp"]) == ("local", PAGE, tokens["expires_at"])
    key = await make_key(api, "admin")
    assert (await api.call("GET", "/api/auth/validate", token=key["key"])).body["source"] == "api_key"
    assert (await api.call("GET", "/api/auth/validate")).body["source"] == "owner"
    assert (await api.call("GET", "/api/auth/validate", token="x")).status == 401


# ---- what outlives a restart -----------------------------------------------------------------------------------------
async def test_grants_and_keys_outlive_a_restart_and_sessions_do_not(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        kept = await let_in(api)
        session = await let_in(api, origin="https://second.example", lasts="session")
        key = (await make_key(api, "read:tasks"))["key"]
        revoked = await let_in(api, origin="https://third.example")
        await api.call("DELETE", f"/api/auth/grants/{revoked['id']}")
    async with running(tmp_path) as api:
        assert (await page(api, "GET", "/api/data/tasks", token=kept["access_token"])).status == 200
        assert (await api.call("GET", "/api/data/tasks", token=key)).status == 200
        for gone, origin in ((session, "https://second.example"), (revoked, "https://third.example")):
            got = await page(api, "GET", "/api/data/tasks", token=gone["access_token"], origin=origin)
            assert got.status == 403
        states = {g["origin"]: g["reason"] for g in (await api.call("GET", "/api/auth/grants?all=true")).body["items"]}
        assert states == {PAGE: None, "https://second.example": "session", "https://third.example": "revoked"}
    async with running(tmp_path, settings=AccessSettings("HS256", 86_400, b"other" * 8)) as api:
        assert (await page(api, "GET", "/api/data/tasks", token=kept["access_token"])).status == 401
        new = await page(api, "POST", "/api/auth/refresh", {"refresh_token": kept["refresh_token"]})
        assert new.status == 200


async def test_the_operator_admits_origins_without_giving_rights(tmp_path: Path) -> None:
    settings = AccessSettings("EdDSA", 3_600, b"k" * 32, frozenset({PAGE}))
    async with running(tmp_path, settings=settings) as api:
        got = await page(api, "GET", "/api/data/tasks")
        assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (401, PAGE)
        assert (await page(api, "GET", "/api/data/tasks", token=TOKEN)).status == 401
        tokens = await let_in(api)
        assert (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"])).status == 200
