"""Keys of scripts: what they open, on which pages, until when, and who may make them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration._access import (
    PAGE,
    audited,
    login_with,
    make_key,
    page,
    with_documents,
)
from tests.integration._local_api import Api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with with_documents(tmp_path) as made:
        yield made


# ---- keys ------------------------------------------------------------------------------------------------------------
@pytest.mark.spec("A5")
async def test_spec_A5_a_script_uses_a_key(api: Api) -> None:
    made = await make_key(api, "read:tasks", note="backup")
    assert made["key"].startswith(f"hgw_{made['id']}_")
    assert 89 * 86_400_000 < made["expires_ms"] - made["created_ms"] <= 90 * 86_400_000
    listed = (await api.call("GET", "/api/auth/keys")).body["items"]
    assert [(k["id"], k["note"], k["sentence"], "key" in k) for k in listed] == [
        (made["id"], "backup", "read tasks", False)
    ]
    assert (await api.call("GET", "/api/data/tasks/milk", token=made["key"])).status == 200
    assert (await api.call("PUT", "/api/data/tasks/x", {"title": "a"}, token=made["key"])).status == 403
    got = await login_with(api, made["key"])
    assert (got.status, got.body["refresh_token"], got.body["expires_in"]) == (200, None, 86_400)
    assert (await api.call("GET", "/api/data/tasks/milk", token=got.body["access_token"])).status == 200
    assert (await api.call("GET", "/api/auth/keys")).body["items"][0]["last_used_ms"] is not None
    on_disk = api.database.peek(lambda c: "".join(map(str, c.execute("SELECT * FROM api_key").fetchall())))
    assert made["key"][13:56] not in on_disk

    rotated = (await api.call("POST", f"/api/auth/keys/{made['id']}/rotate", {})).body
    assert rotated["id"] == made["id"]
    for token in (made["key"], got.body["access_token"]):
        assert (await api.call("GET", "/api/data/tasks/milk", token=token)).status == 401
    assert (await api.call("GET", "/api/data/tasks/milk", token=rotated["key"])).status == 200
    assert (await api.call("DELETE", f"/api/auth/keys/{made['id']}")).body["items"] == []
    assert (await api.call("GET", "/api/data/tasks/milk", token=rotated["key"])).status == 401
    assert (await api.call("DELETE", f"/api/auth/keys/{made['id']}")).status == 404
    assert [row["event"] for row in await audited(api, "key")] == ["key.revoked", "key.rotated", "key.created"]


async def test_spec_A5_a_key_ends_with_its_time(api: Api) -> None:
    made = await make_key(api, "read:tasks", expires_days=1)
    forever = await make_key(api, "read:tasks", expires_days=None)
    token = (await login_with(api, made["key"])).body["access_token"]
    api.clock.move(86_401)
    assert (await api.call("GET", "/api/data/tasks", token=made["key"])).status == 401
    assert (await api.call("GET", "/api/data/tasks", token=token)).status == 401
    assert (await login_with(api, made["key"])).status == 401
    await api.access.tend()
    assert [k["id"] for k in (await api.call("GET", "/api/auth/keys")).body["items"]] == [forever["id"]]


async def test_a_key_counts_on_the_pages_it_names_only(api: Api) -> None:
    key = (await make_key(api, "read:tasks", origins=[PAGE]))["key"]
    assert (await page(api, "GET", "/api/data/tasks/milk", token=key)).status == 200
    assert (await api.call("GET", "/api/data/tasks/milk", token=key)).status == 200
    plain = (await make_key(api, "read:tasks"))["key"]
    assert (await page(api, "GET", "/api/data/tasks/milk", token=plain)).status == 401
    assert (await login_with(api, plain, Origin=PAGE, X_HybridGW_Client="x")).status == 401
    for origin in ("*", "null", "https://a.example/", "http://a.example", "chrome-extension://"):
        got = await api.call("POST", "/api/auth/keys", {"scopes": ["read:tasks"], "origins": [origin]})
        assert (got.status, got.body["field"]) == (422, "origins")


async def test_only_admin_makes_keys_and_only_the_owner_gives_admin(api: Api) -> None:
    admin = (await make_key(api, "admin"))["key"]
    assert (await api.call("POST", "/api/auth/keys", {"scopes": ["read:tasks"]}, token=admin)).status == 201
    assert (await api.call("POST", "/api/auth/keys", {"scopes": ["admin"]}, token=admin)).status == 403
    other = await make_key(api, "admin")
    for method, path, body in (
        ("POST", f"/api/auth/keys/{other['id']}/rotate", {}),
        ("DELETE", f"/api/auth/keys/{other['id']}", None),
    ):
        assert (await api.call(method, path, body, token=admin)).status == 403
    assert (await api.call("GET", "/api/auth/grants", token=admin)).status == 403
    assert (await api.call("GET", "/api/auth/audit", token=admin)).status == 403
    assert (await api.call("GET", "/api/config", token=admin)).status == 200
    assert (await api.call("POST", "/api/daemon/stop", {}, token=admin)).status == 403
