"""The one-time link, the session it opens, and the files of the dashboard, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.logs import redact
from hybridgw_daemon.services.credentials import MOST_DASHBOARDS
from hybridgw_daemon.services.dashboard import MOST_LINKS
from hybridgw_daemon.services.log_reading import latest
from tests.integration._access import PAGE, let_in, make_key
from tests.integration._local_api import TOKEN, Answer, Api, running

OWN = {"X_HybridGW_Client": "dashboard", "Sec_Fetch_Site": "same-origin"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        yield made


async def link(api: Api) -> str:
    """What stands in the fragment of a new link."""
    got = await api.call("POST", "/api/auth/dashboard/links", {})
    assert got.status == 201
    path, _, code = got.body["path"].partition("=")
    assert path == "/#link"
    return str(code)


async def exchange(api: Api, code: str, **headers: str) -> Answer:
    """As the page does it."""
    own = {"Origin": f"http://127.0.0.1:{api.port}"} | OWN
    return await api.call("POST", "/api/auth/dashboard", {"code": code}, token=None, **(own | headers))


async def session(api: Api) -> str:
    """The token of a session."""
    got = await exchange(api, await link(api))
    assert got.status == 201
    return str(got.body["token"])


async def events(api: Api) -> list[str]:
    """Of the audit log, about the dashboard, latest first."""
    found = (await api.call("GET", "/api/auth/audit?event=dashboard")).body["items"]
    return [one["event"] for one in found]


async def test_a_link_works_once(api: Api) -> None:
    code = await link(api)
    first, second = await exchange(api, code), await exchange(api, code)
    assert first.status == 201
    assert (second.status, second.code, second.body["reason"]) == (410, "link_over", "used")
    assert "used already" in second.body["detail"]
    assert await events(api) == ["dashboard.refused", "dashboard.opened"]


async def test_two_at_once_are_one_session(api: Api) -> None:
    import asyncio

    code = await link(api)
    got = await asyncio.gather(*(exchange(api, code) for _ in range(5)))
    assert sorted(answer.status for answer in got) == [201, 410, 410, 410, 410]


async def test_an_old_link_says_so(api: Api) -> None:
    code = await link(api)
    api.clock.move(299)
    young = await link(api)
    api.clock.move(1)
    old = await exchange(api, code)
    assert (old.status, old.body["reason"]) == (410, "expired")
    assert "older than 5 minutes" in old.body["detail"]
    assert (await exchange(api, young)).status == 201


@pytest.mark.parametrize("code", ["AAAA", "A" * 43, "é", "A" * 8_192])
async def test_a_link_that_is_none(api: Api, code: str) -> None:
    got = await exchange(api, code)
    assert (got.status, got.code) == (410, "link_over")
    assert "hybridgw dashboard" in got.body["detail"]


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": 1}, {"code": "A" * 8_193}, {"code": "A", "admin": True}])
async def test_a_body_that_is_none(api: Api, body: Any) -> None:
    assert (await api.call("POST", "/api/auth/dashboard", body, token=None)).status == 422


async def test_only_the_newest_links_are_kept(api: Api) -> None:
    first = await link(api)
    for _ in range(MOST_LINKS):
        last = await link(api)
    assert (await exchange(api, first)).code == "link_over"
    assert (await exchange(api, last)).status == 201


async def test_only_the_owner_makes_a_link(api: Api) -> None:
    admin = (await make_key(api, "admin"))["key"]
    assert (await api.call("POST", "/api/auth/dashboard/links", {}, token=admin)).status == 403
    assert (await api.call("POST", "/api/auth/dashboard/links", {}, token=None)).status == 401


async def test_a_page_that_was_let_in_cannot_use_a_link(api: Api) -> None:
    await let_in(api)
    code = await link(api)
    page = {"Origin": PAGE, "Sec_Fetch_Site": "cross-site"}
    assert (await exchange(api, code, **page)).status == 403
    stranger = {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}
    assert (await exchange(api, code, **stranger)).status == 403
    assert (await exchange(api, code)).status == 201  # nobody has used it up


async def test_a_session_is_the_owner_from_our_own_pages_only(api: Api) -> None:
    await let_in(api)
    token = await session(api)
    own = {"Origin": f"http://127.0.0.1:{api.port}"} | OWN
    assert (await api.call("GET", "/api/auth/grants", token=token, **own)).status == 200
    valid = (await api.call("GET", "/api/auth/validate", token=token)).body
    assert valid["source"] == "owner"
    assert valid["cid"].startswith("dashboard:")
    for origin, status in ((PAGE, 401), ("https://evil.example", 403), ("null", 403)):
        foreign = {"Origin": origin, "X_HybridGW_Client": "x", "Sec_Fetch_Site": "cross-site"}
        assert (await api.call("GET", "/api/auth/grants", token=token, **foreign)).status == status
    assert (await api.call("GET", "/api/auth/grants", token=token[:-1])).status == 401
    assert (await api.call("GET", "/api/auth/grants", token=token + "A")).status == 401


async def test_a_session_ends_by_itself_by_sign_out_and_with_all_others(api: Api) -> None:
    one, two, three = [await session(api) for _ in range(3)]
    assert (await api.call("POST", "/api/auth/logout", {}, token=one)).body == {"ended": 1}
    assert (await api.call("GET", "/api/auth/grants", token=one)).status == 401
    assert (await api.call("GET", "/api/auth/grants", token=two)).status == 200
    assert (await api.call("POST", "/api/auth/logout", {"scope": "all_clients"}, token=two)).body["ended"] == 2
    for token in (two, three):
        assert (await api.call("GET", "/api/auth/grants", token=token)).status == 401
    last = await session(api)
    api.clock.move(12 * 3600 - 1)
    assert (await api.call("GET", "/api/auth/grants", token=last)).status == 200
    api.clock.move(1)
    assert (await api.call("GET", "/api/auth/grants", token=last)).status == 401


async def test_the_oldest_session_makes_room(api: Api) -> None:
    first = await session(api)
    others = [await session(api) for _ in range(MOST_DASHBOARDS)]
    assert (await api.call("GET", "/api/auth/grants", token=first)).status == 401
    assert (await api.call("GET", "/api/auth/grants", token=others[0])).status == 200


async def test_signing_out_ends_its_connections(api: Api) -> None:
    token = await session(api)
    url = f"http://127.0.0.1:{api.port}/ws/web_app/dashboard"
    async with api.session.ws_connect(url, protocols=["hybridgw.v1.json"]) as socket:
        await socket.send_json({"type": "auth", "token": token})
        assert (await socket.receive_json())["type"] == "auth_ok"
        await api.call("POST", "/api/auth/logout", {}, token=token)
        closed = await socket.receive(timeout=30)
        while closed.data is not None and not socket.closed:
            closed = await socket.receive(timeout=30)
        assert socket.close_code in (4401, 4403)


# ---- the files -------------------------------------------------------------------------------------------------------
async def test_sec_L20_the_page_and_its_policy(api: Api) -> None:
    got = await api.call("GET", "/", token=None)
    assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().partition(" ")[::2] for part in got.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    assert {value for name, value in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert "unsafe" not in got.headers["Content-Security-Policy"]
    assert got.headers["X-Frame-Options"] == "DENY"
    assert got.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    text = got.raw.decode()
    assert "<style" not in text
    assert " style=" not in text
    assert "http:" not in text
    assert "https:" not in text
    for name, kind in (
        ("dashboard.js", "text/javascript"),
        ("dashboard.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        assert f"/assets/{name}" in text
        found = await api.call("GET", f"/assets/{name}", token=None)
        assert (found.status, found.headers["Content-Type"].partition(";")[0]) == (200, kind)
        assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert (await api.call("HEAD", "/", token=None)).raw == b""


@pytest.mark.parametrize(
    "name",
    ["index.html", "licenses.md", "..%2Findex.html", "%2e%2e/index.html", "../../app.py", "dashboard.js/",
     "dashboard.JS", "", "%00", "C:%5Cx", "dashboard.js%00.css", "x" * 5_000],
)  # fmt: skip
async def test_there_are_no_other_files(api: Api, name: str) -> None:
    got = await api.call("GET", f"/assets/{name}", token=None)
    assert got.status in (401, 404, 422)
    assert b"doctype" not in got.raw


async def test_a_knocking_stranger_cannot_keep_the_person_out(tmp_path: Path) -> None:
    from hybridgw_daemon.services.rate_limits import RateLimits

    async with running(tmp_path, limits=RateLimits(60, 10, clock=lambda: 0)) as api:
        for _ in range(30):
            assert (await api.call("GET", "/", token=None)).status == 200
            assert (await api.call("GET", "/assets/dashboard.js", token=None)).status == 200
        assert "RateLimit" not in (await api.call("GET", "/", token=None)).headers


async def test_the_files_have_no_place_elsewhere(api: Api) -> None:
    described = (await api.call("GET", "/openapi.json")).body
    assert "/" not in described["paths"]
    assert not [path for path in described["paths"] if path.startswith("/assets")]
    assert "/api/auth/dashboard" in described["paths"]


# ---- the log ---------------------------------------------------------------------------------------------------------
def test_what_opens_the_dashboard_is_cut_out_of_the_log() -> None:
    said = redact("GET http://127.0.0.1:8000/#link=abc-DEF_123 with hgd_AAAAAAAAAAAA")
    assert said == "GET http://127.0.0.1:8000/#link=*** with ***"


def test_the_latest_lines() -> None:
    line = (
        '{"timestamp":"t%d","level":"%s","logger":"l","request_id":null,"user_id":null,"deployment_mode":null,'
        '"event":"%s","message":"m","context":{}}'
    )
    rows = [(1, "INFO", "http.access"), (2, "INFO", "ready"), (3, "WARNING", "http.access"), (4, "DEBUG", "x")]
    end = b"cut short\n" + "\n".join(line % row for row in rows).encode() + b"\n\xff{not ours\n"
    stamps = lambda **k: [entry.timestamp for entry in latest(end, **k)]  # noqa: E731
    assert stamps(level="INFO", limit=10, with_calls=False) == ["t3", "t2"]
    assert stamps(level="INFO", limit=10, with_calls=True) == ["t3", "t2", "t1"]
    assert stamps(level="DEBUG", limit=1, with_calls=True) == ["t4"]
    assert stamps(level="ERROR", limit=10, with_calls=True) == []
    assert latest(b"", "INFO", 5, with_calls=True) == []


async def test_the_log_is_for_the_owner(api: Api) -> None:
    assert TOKEN
    admin = (await make_key(api, "admin"))["key"]
    assert (await api.call("GET", "/api/logs", token=admin)).status == 403
    assert (await api.call("GET", "/api/logs?level=INFO&limit=5")).body == {"items": [], "next_cursor": None}
    assert (await api.call("GET", "/api/logs?level=LOUD")).status == 422
