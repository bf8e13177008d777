"""Apps and scripts over real sockets: a page asks, a person approves, the page reads; nobody gets more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services.access import AccessSettings
from hybridgw_daemon.services.ports import NOBODY, OWNER, Principal
from hybridgw_daemon.transports.local.cors import Cors
from hybridgw_protocol.localapi_access import ApproveGrant, GetGrant
from tests.integration._local_api import TOKEN, Answer, Api, running

PAGE = "https://tasks.example.com"
OTHER = "https://evil.example"
EXTENSION = "chrome-extension://" + "abcdefghijklmnop" * 2
SCOPES = ["read:tasks", "write:tasks"]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        await made.call("PUT", "/api/data/tasks/milk", {"title": "Buy milk"})
        await made.call("PUT", "/api/data/notes/plan", {"text": "Monday"})
        yield made


async def page(
    api: Api, method: str, path: str, body: Any = None, *, origin: str = PAGE, token: str | None = None, **more: str
) -> Answer:
    """A call as the script of a page makes it: the browser adds the Origin and where it comes from."""
    headers = {"Origin": origin, "X_HybridGW_Client": "test/1", "Sec_Fetch_Site": "cross-site", **more}
    return await api.call(method, path, body, token=token, **headers)


async def ask(api: Api, *, origin: str | None = PAGE, scopes: Any = SCOPES, name: str = "Tasks") -> Any:
    """What an app gets when it asks, which must succeed."""
    body = {"name": name, "scopes": scopes}
    if origin is None:
        got = await api.call("POST", "/api/auth/grants", body, token=None)
    else:
        got = await page(api, "POST", "/api/auth/grants", body, origin=origin)
    assert got.status == 202, got.raw
    return got.body


async def approve(api: Api, asked: Any, **more: Any) -> Answer:
    """The person compares the code and says yes."""
    return await api.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": asked["code"], **more})


async def login(api: Api, asked: Any, *, origin: str | None = PAGE) -> Answer:
    """The app fetches its tokens."""
    body = {"deployment_mode": "web_app", "credentials": {"grant": asked["id"], "secret": asked["secret"]}}
    if origin is None:
        return await api.call("POST", "/api/auth/login", body, token=None)
    return await page(api, "POST", "/api/auth/login", body, origin=origin)


async def let_in(api: Api, *, origin: str | None = PAGE, scopes: Any = SCOPES, **more: Any) -> Any:
    """An app that was let in: its tokens, and `id` of its grant."""
    asked = await ask(api, origin=origin, scopes=scopes)
    got = await approve(api, asked, **more)
    assert got.status == 200, got.raw
    tokens = await login(api, asked, origin=origin)
    assert tokens.status == 200, tokens.raw
    return tokens.body | {"id": asked["id"]}


async def make_key(api: Api, *scopes: str, **more: Any) -> Any:
    """A key for a script."""
    got = await api.call("POST", "/api/auth/keys", {"scopes": list(scopes), **more})
    assert got.status == 201, got.raw
    return got.body


async def audited(api: Api, event: str) -> list[Any]:
    """Rows of the audit log."""
    return list((await api.call("GET", f"/api/auth/audit?event={event}")).body["items"])


def no_cors(got: Answer) -> bool:
    return not [name for name in got.headers if name.lower().startswith("access-control-")]


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
    told = await asyncio.wait_for(polling, 2)
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
        line = (await asyncio.wait_for(stream.content.readline(), 5)).decode().strip()
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
        await asyncio.wait_for(stream.content.read(), 5)


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


# ---- keys ------------------------------------------------------------------------------------------------------------
async def login_with(api: Api, key: str, **headers: str) -> Answer:
    body = {"deployment_mode": "local_install", "credentials": {"api_key": key}}
    return await api.call("POST", "/api/auth/login", body, token=None, **headers)


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
