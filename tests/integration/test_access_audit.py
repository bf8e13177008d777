"""What the audit log and all other logs say of apps, and what they never hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration._access import (
    OTHER,
    audited,
    let_in,
    login_with,
    make_key,
    page,
    with_documents,
)
from tests.integration._local_api import TOKEN, Api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with with_documents(tmp_path) as made:
        yield made


# ---- the audit log ---------------------------------------------------------------------------------------------------
@pytest.mark.spec("A8")
async def test_spec_A8_the_audit_log_tells_what_happened_and_no_secret(api: Api) -> None:
    tokens = await let_in(api)
    key = await make_key(api, "read:tasks", note="cron")
    await login_with(api, key["key"])
    await login_with(api, key["key"][:-1] + "!")
    await page(api, "GET", "/api/data/tasks", origin=OTHER)
    await api.call("GET", "/api/data/tasks", token="planted-wrong")
    await api.call("GET", "/api/data/tasks?token=planted-in-url", token=None)
    await api.call("GET", "/health", Host="evil.example")
    await api.call("DELETE", f"/api/auth/grants/{tokens['id']}")
    await api.call("POST", "/api/auth/audit/exports", {"collection": "tasks", "documents": 3, "format": "jsonl"})
    found = (await api.call("GET", "/api/auth/audit?limit=1000")).body["items"]
    events = [row["event"] for row in found]
    assert set(events) == {
        "grant.asked", "grant.approved", "login", "key.created", "login.refused", "refused.origin", "refused.token",
        "refused.misuse", "refused.host", "grant.ended", "export",
    }  # fmt: skip
    assert {row["origin"] for row in found if row["event"] == "refused.origin"} == {OTHER}
    assert "3 documents of tasks were exported as jsonl." in [row["message"] for row in found]
    text = json.dumps(found)
    for planted in ("planted", tokens["access_token"], tokens["refresh_token"], key["key"][13:], TOKEN):
        assert planted not in text
    first = (await api.call("GET", "/api/auth/audit?limit=2")).body
    second = (await api.call("GET", f"/api/auth/audit?limit=2&cursor={first['next_cursor']}")).body
    assert [row["id"] for row in first["items"] + second["items"]] == [row["id"] for row in found[:4]]
    for cursor in ("x", "-1", "9" * 19):
        assert (await api.call("GET", f"/api/auth/audit?cursor={cursor}")).status == 422


async def test_spec_A8_knocking_fills_no_disk(api: Api) -> None:
    for number in range(300):
        await page(api, "GET", "/api/data/tasks", origin=f"https://evil{number}.example")
    await api.access.tend()
    rows = await audited(api, "refused.origin")
    assert len(rows) <= 65
    assert sum(row["count"] for row in rows) == 300


async def test_secrets_are_in_no_log_and_no_error(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        tokens = await let_in(api)
        key = await make_key(api, "read:tasks")
        bodies = [
            (await login_with(api, key["key"] + "x")).raw,
            (await page(api, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"] + "x"})).raw,
            (await page(api, "POST", "/api/auth/refresh", {"refresh_token": [tokens["refresh_token"]]})).raw,
            (await page(api, "GET", "/api/data/tasks", token=tokens["access_token"] + "x")).raw,
        ]
    said = caplog.text + repr(api.calls) + repr(bodies)
    for secret in (tokens["access_token"], tokens["refresh_token"], key["key"]):
        assert secret[:40] not in said
