"""Apps over real sockets: a page asks, a person approves, the page reads; nobody asks too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services.ports import NOBODY, OWNER, Principal
from hybridgw_daemon.transports.local.cors import Cors
from hybridgw_protocol.localapi_access import ApproveGrant, GetGrant
from tests.integration._access import (
    EXTENSION,
    OTHER,
    PAGE,
    SCOPES,
    approve,
    ask,
    audited,
    let_in,
    login,
    make_key,
    no_cors,
    page,
    with_documents,
)
from tests.integration._local_api import Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with with_documents(tmp_path) as made:
        yield made


# ---- the walk --------------------------------------------------------------------------------------------------------
@pytest.mark.spec("A6")
@pytest.mark.spec("A4")
async def test_spec_A6_a_page_asks_a_person_approves_the_page_reads(api: Api) -> None:
    refused = await page(api, "GET", "/api/data/tasks")
    assert (refused.status, no_cors(refused)) == (403, True)

    asked = await ask(api)
    assert set(asked) == {"id", "code", "secret", "expires_ms", "sentence"}
    assert asked["sentence"] == "read and write tasks"
    waiting = (await api.call("GET", "/api/auth/grants")).body["items"]
    assert [(g["origin"], g["code"], g["state"], g["name"]) for g in waiting] == [
        (PAGE, asked["code"], "pending", "Tasks")
    ]

    poll = f"/api/auth/grants/{asked['id']}?wait_s=20"
    polling = asyncio.create_task(page(api, "GET", poll, token=asked["secret"]))
    await asyncio.sleep(0.05)
    assert not polling.done()
    assert (await approve(api, asked)).body["state"] == "approved"
    told = await asyncio.wait_for(polling, 15)  # it would wait for 20
    assert (told.status, told.body["state"], told.body["code"]) == (200, "approved", None)

    tokens = (await login(api, asked)).body
    assert (tokens["token_type"], tokens["expires_in"], tokens["scopes"]) == ("Bearer", 3600, SCOPES)
    got = await page(api, "GET", "/api/data/tasks/milk", token=tokens["access_token"])
    assert (got.status, got.body["data"]) == (200, {"title": "Buy milk"} | got.body["data"])
    assert got.headers["Access-Control-Allow-Origin"] == PAGE
    assert "ETag" in got.headers["Access-Control-Expose-Headers"]
    assert "Origin" in got.headers["Vary"]
    wrote = await page(api, "PATCH", "/api/data/tasks/milk", {"title": "Buy oat milk"}, token=tokens["access_token"])
    assert wrote.status == 200
    other = await page(api, "GET", "/api/data/notes/plan", token=tokens["access_token"])
    assert (other.status, other.code) == (403, "forbidden")
    assert other.headers["Access-Control-Allow-Origin"] == PAGE

    assert [row["message"] for row in await audited(api, "grant.approved")] == [
        "Tasks was approved: it may read and write tasks, for 30 days."
    ]


async def test_spec_G6_a_page_that_was_let_in_gets_preflights_answered(api: Api) -> None:
    await let_in(api)
    got = await api.call(
        "OPTIONS", "/api/data/tasks/milk", token=None, Origin=PAGE, Access_Control_Request_Method="PATCH",
        Access_Control_Request_Headers="authorization,content-type,x-hybridgw-client",
        Access_Control_Request_Private_Network="true", Access_Control_Request_Local_Network="true",
    )  # fmt: skip
    assert (got.status, got.raw) == (204, b"")
    assert got.headers["Access-Control-Allow-Origin"] == PAGE
    assert "PATCH" in got.headers["Access-Control-Allow-Methods"]
    assert "X-HybridGW-Client" in got.headers["Access-Control-Allow-Headers"]
    assert got.headers["Access-Control-Allow-Private-Network"] == "true"
    assert got.headers["Access-Control-Allow-Local-Network"] == "true"
    assert "Access-Control-Allow-Credentials" not in got.headers
    assert "Origin" in got.headers["Vary"]


async def test_configured_methods_and_headers_bind_pages(tmp_path: Path) -> None:
    async with running(tmp_path, cors=Cors(("GET", "POST"), ("Authorization", "X-Own"))) as api:
        tokens = await let_in(api)
        got = await api.call("OPTIONS", "/api/data/tasks", token=None, Origin=PAGE, Access_Control_Request_Method="GET")
        assert got.headers["Access-Control-Allow-Methods"] == "GET, POST"
        assert got.headers["Access-Control-Allow-Headers"] == "Authorization, X-Own"
        refused = await page(api, "PUT", "/api/data/tasks/x", {"title": "a"}, token=tokens["access_token"])
        assert (refused.status, no_cors(refused)) == (403, True)
        assert (await api.call("PUT", "/api/data/tasks/x", {"title": "a"})).status == 200


async def test_spec_A6_an_extension_without_host_permissions_and_one_with(api: Api) -> None:
    tokens = await let_in(api, origin=EXTENSION)
    token = tokens["access_token"]
    without = await page(api, "GET", "/api/data/tasks/milk", origin=EXTENSION, token=token)
    assert without.status == 200
    with_them = await api.call("GET", "/api/data/tasks/milk", token=token, Sec_Fetch_Site="none")
    assert with_them.status == 200
    other = "chrome-extension://" + "ponmlkjihgfedcba" * 2
    await let_in(api, origin=other)
    assert (await page(api, "GET", "/api/data/tasks/milk", origin=other, token=token)).status == 401


async def test_spec_A6_a_program_without_an_origin_is_let_in_under_its_name(api: Api) -> None:
    tokens = await let_in(api, origin=None)
    assert (await api.call("GET", "/api/data/tasks/milk", token=tokens["access_token"])).status == 200
    listed = (await api.call("GET", "/api/auth/grants")).body["items"][0]
    assert (listed["kind"], listed["origin"]) == ("program", None)


# ---- who may ask, and how often --------------------------------------------------------------------------------------
async def test_sec_L17_nobody_is_let_in_without_a_person(api: Api) -> None:
    asked = await ask(api, origin=None)
    assert (await login(api, asked, origin=None)).status == 401
    poll = f"/api/auth/grants/{asked['id']}"
    assert (await api.call("GET", poll, token=asked["secret"])).body["state"] == "pending"
    for path in ("approve", "refuse"):
        body = {"code": asked["code"]} if path == "approve" else {}
        for token in (None, asked["secret"]):
            assert (await api.call("POST", f"{poll}/{path}", body, token=token)).status == 401
    key = await make_key(api, "admin")
    got = await api.call("POST", f"{poll}/approve", {"code": asked["code"]}, token=key["key"])
    assert (got.status, got.code) == (403, "forbidden")


async def test_sec_L15_five_wrong_codes_and_the_request_is_dead(api: Api) -> None:
    asked = await ask(api)
    wrong = "000 000" if asked["code"] != "000 000" else "000 001"
    left = []
    for _ in range(5):
        got = await approve(api, asked | {"code": wrong})
        assert (got.status, got.code) == (409, "wrong_code")
        left.append(got.body["tries_left"])
    assert left == [4, 3, 2, 1, 0]
    assert (await approve(api, asked)).status == 404
    got = await page(api, "GET", f"/api/auth/grants/{asked['id']}", token=asked["secret"])
    assert got.body["state"] == "expired"
    assert (await login(api, asked)).status == 403  # the origin is a stranger's
    assert len(await audited(api, "grant.wrong_code")) == 4
    assert len(await audited(api, "grant.voided")) == 1


async def test_a_code_may_be_typed_with_or_without_the_gap(api: Api) -> None:
    asked = await ask(api)
    assert (await approve(api, asked | {"code": asked["code"].replace(" ", "")})).status == 200


async def test_two_minutes_and_the_request_is_over(api: Api) -> None:
    asked = await ask(api)
    api.clock.move(121)
    assert (await api.call("GET", "/api/auth/grants")).body["items"] == []
    got = await page(api, "GET", f"/api/auth/grants/{asked['id']}", token=asked["secret"])
    assert got.body["state"] == "expired"
    assert (await approve(api, asked)).status == 404
    await ask(api)


async def test_spec_A6_a_refusal_is_remembered_for_a_day(api: Api) -> None:
    asked = await ask(api)
    assert (await api.call("POST", f"/api/auth/grants/{asked['id']}/refuse", {})).body["state"] == "refused"
    got = await page(api, "GET", f"/api/auth/grants/{asked['id']}", token=asked["secret"])
    assert got.body["state"] == "refused"
    body = {"name": "Another name", "scopes": ["read:tasks"]}
    again = await page(api, "POST", "/api/auth/grants", body)
    assert (again.status, again.code) == (403, "refused")
    assert 86_000 < int(again.headers["Retry-After"]) <= 86_400
    await ask(api, origin="https://other.example")
    api.clock.move(86_401)
    await ask(api)


async def test_spec_A6_one_request_of_an_origin_waits_and_five_in_all(api: Api) -> None:
    await ask(api)
    second = await page(api, "POST", "/api/auth/grants", {"name": "x", "scopes": ["read:tasks"]})
    assert (second.status, second.code) == (429, "too_many_requests")
    assert 1 <= int(second.headers["Retry-After"]) <= 120
    for number in range(4):
        await ask(api, origin=f"https://app{number}.example")
    sixth = await page(api, "POST", "/api/auth/grants", {"name": "x", "scopes": ["read:tasks"]}, origin=OTHER)
    assert sixth.status == 429
    assert len((await api.call("GET", "/api/auth/grants")).body["items"]) == 5


async def test_sec_L19_a_thousand_requests_and_a_few_prompts(api: Api) -> None:
    statuses = []
    for number in range(1_000):
        body = {"name": f"System update {number}", "scopes": ["read:tasks"]}
        statuses.append((await api.call("POST", "/api/auth/grants", body, token=None)).status)
        if number % 100 == 99:
            api.clock.move(121)
    assert set(statuses) == {202, 429}
    assert statuses.count(202) <= 60
    await api.access.tend(trim=True)
    assert len(await audited(api, "grant.asked")) <= 60


@pytest.mark.parametrize(
    ("name", "shown"),
    [("System update", "System update"), ("a\u202ecod.exe", "a cod.exe"), ("zero\u200bwidth", "zero width"),
     ("x" * 4096, "x" * 39 + "…"), ("two\nlines\t", "two lines"), ("<b>Bank</b>", "<b>Bank</b>")],
)  # fmt: skip
async def test_sec_L19_names_are_made_harmless(api: Api, name: str, shown: str) -> None:
    await ask(api, name=name)
    waiting = (await api.call("GET", "/api/auth/grants")).body["items"][0]
    assert (waiting["name"], waiting["origin"]) == (shown, PAGE)


@pytest.mark.parametrize(
    "body",
    [{}, {"name": "x"}, {"name": "x", "scopes": []}, {"name": "", "scopes": ["read:tasks"]},
     {"name": "\u200b", "scopes": ["read:tasks"]}, {"name": "x" * 4097, "scopes": ["read:tasks"]},
     {"name": "x", "scopes": "read:tasks"}, {"name": "x", "scopes": ["delete:tasks"]},
     {"name": "x", "scopes": ["read:*"]}, {"name": "x", "scopes": ["read:hgw.collections"]},
     {"name": "x", "scopes": ["read:tasks", "fly"]}, {"name": "x", "scopes": ["read:tasks"] * 65},
     {"name": "x", "scopes": [f"read:c{k}" for k in range(33)]},
     {"name": "x", "scopes": ["read:tasks"], "origin": PAGE}],
)  # fmt: skip
async def test_requests_that_make_no_sense_are_refused_and_nobody_is_asked(api: Api, body: Any) -> None:
    got = await page(api, "POST", "/api/auth/grants", body)
    assert (got.status, got.code) == (422, "bad_value")
    assert (await api.call("GET", "/api/auth/grants")).body["items"] == []


@pytest.mark.parametrize("wait_s", [0.0, 5.0])
async def test_who_asks_while_the_approval_is_written_hears_of_no_end(api: Api, wait_s: float) -> None:
    """Between the decision and the disk a request is still one that waits, never one that does not exist."""
    asked = await ask(api)
    assert api.services.access is not None
    grants = api.services.access.grants
    nobody = Principal(NOBODY, is_owner=False, origin=PAGE)
    deciding = asyncio.create_task(grants.approve(OWNER, ApproveGrant(id=asked["id"], code=asked["code"])))
    await asyncio.sleep(0)  # as far as the write, which is under way in its thread
    assert not deciding.done()
    found = await grants.get(nobody, GetGrant(id=asked["id"], secret=asked["secret"], wait_s=wait_s))
    assert found.state == ("pending" if wait_s == 0 else "approved")
    await deciding
    assert (await login(api, asked)).status == 200


async def test_spec_A6_a_person_may_approve_less_and_never_more(api: Api) -> None:
    asked = await ask(api)
    assert (await approve(api, asked, scopes=["read:tasks", "read:notes"])).status == 422
    assert (await approve(api, asked, scopes=["admin"])).status == 422
    assert (await approve(api, asked, scopes=["read:tasks"], lasts="until_revoked")).body["expires_ms"] is None
    tokens = (await login(api, asked)).body
    assert tokens["scopes"] == ["read:tasks"]
    assert (await page(api, "PUT", "/api/data/tasks/x", {"title": "a"}, token=tokens["access_token"])).status == 403


async def test_sec_P7_who_did_not_ask_learns_nothing_about_a_request(api: Api) -> None:
    asked = await ask(api)
    unknown = await page(api, "GET", "/api/auth/grants/0000", token=asked["secret"])
    for token in (None, "wrong", asked["code"]):
        got = await page(api, "GET", f"/api/auth/grants/{asked['id']}", origin=OTHER, token=token)
        assert (got.status, got.body["detail"]) == (404, unknown.body["detail"])
    assert (await api.call("GET", f"/api/auth/grants/{asked['id']}")).body["code"] == asked["code"]


async def test_the_secret_of_a_request_ends_soon_after_the_approval(api: Api) -> None:
    asked = await ask(api)
    await approve(api, asked)
    api.clock.move(601)
    assert (await login(api, asked)).status == 401
