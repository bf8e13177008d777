"""A frame is a call: rights, budgets, lines in the log and figures are those of HTTP; and it ends when rights end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hybridgw_daemon.services.rate_limits import RateLimits
from tests.integration._access import OTHER, PAGE, audited, let_in, make_key
from tests.integration._local_api import TOKEN, Answer, Api, running
from tests.integration.test_every_route import forged
from tests.websocket._client import Ws, connected

HEADERS = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}


class Still:
    """A clock of budgets that stands: nothing comes back."""

    def __call__(self) -> int:
        return 1_000


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[Api]:
    """Ten calls for all without a credential, 600 for each with one, and no more ever."""
    async with running(tmp_path, limits=RateLimits(60, 10, clock=Still())) as made:
        yield made


async def shown(ws: Ws, token: str) -> None:
    assert (await ws.auth(token))["type"] == "auth_ok", ws.hello


async def metrics(api: Api) -> str:
    got: Answer = await api.call("GET", "/metrics", token=None)
    return got.raw.decode()


# ---- who may ---------------------------------------------------------------------------------------------------------
@pytest.mark.spec("A6")
async def test_spec_A6_a_page_that_was_let_in_has_its_rights_here_too(api: Api) -> None:
    await api.call("PUT", "/api/data/notes/plan", {"text": "Monday"})
    app = await let_in(api, scopes=["read:tasks", "write:tasks", "listen:timer"])
    async with connected(api, auth=False, headers=HEADERS) as ws:
        await shown(ws, app["access_token"])
        assert sorted(ws.hello["scopes"]) == ["listen:timer", "read:tasks", "write:tasks"]
        assert ws.hello["expires_ms"] == app["expires_at"] * 1000
        await ws.do("live.subscribe", collection="tasks")
        await ws.do("data.put", collection="tasks", id="milk", data={"title": "Buy milk"})
        assert [e["data"].get("id") for e in await ws.until("document")][-1] == "milk"
        await ws.do("topic.subscribe", topic="timer")
        for command, params in {
            "live.subscribe": {"collection": "notes"},
            "data.get": {"collection": "notes", "id": "plan"},
            "topic.publish": {"topic": "timer", "data": {}},
            "topic.subscribe": {"topic": "timers"},
            "events.subscribe": {},
            "config.stats": {},
            "pairing.start": {},
            "daemon.stop": {},
        }.items():
            assert (await ws.ask(command, **params))["code"] == "forbidden", command
        assert [item["name"] for item in (await ws.do("collections.list"))["items"]] == ["tasks"]
    assert not api.daemon.stopped


async def test_a_right_for_one_document_is_followed_live_and_nothing_beside_it(api: Api) -> None:
    app = await let_in(api, scopes=["read:notes/plan", "write:notes/plan"])
    async with connected(api, auth=False, headers=HEADERS) as ws:
        await shown(ws, app["access_token"])
        await ws.do("live.subscribe", collection="notes", id="plan")
        for one in ("other", "plan"):
            await api.call("PUT", f"/api/data/notes/{one}", {"text": one})
        assert [e["data"]["id"] for e in await ws.until("document") if e["event"] == "document"] == ["plan"]
        for command, params in {
            "live.subscribe": {"collection": "notes"},
            "data.list": {"collection": "notes"},
            "data.get": {"collection": "notes", "id": "other"},
            "data.create": {"collection": "notes", "data": {"text": "x"}},
        }.items():
            assert (await ws.ask(command, **params))["code"] == "forbidden", command
        assert (await ws.ask("live.subscribe", collection="notes", id="other"))["code"] == "forbidden"


async def test_sec_L6_a_token_counts_only_from_where_it_was_given(api: Api) -> None:
    app = await let_in(api)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(api, auth=False, headers=HEADERS | {"Origin": OTHER}):
            pass
    assert refused.value.status == 403
    for token, headers in ((TOKEN, HEADERS), (app["access_token"], {})):
        async with connected(api, auth=False, headers=headers) as ws:
            assert (await ws.auth(token))["type"] == "auth_error"
            assert (await ws.closed()).code == 4401
    assert sum(row["count"] for row in await audited(api, "refused.token")) == 2


async def tokens_that_do_not_count(api: Api) -> dict[str, str]:
    """By what is wrong with each."""
    issuer = api.access.credentials.issuer
    app, revoked = await let_in(api, origin=None), await let_in(api)
    await api.call("DELETE", f"/api/auth/grants/{revoked['id']}")
    key = await make_key(api, "read:tasks")
    await api.call("DELETE", f"/api/auth/keys/{key['id']}")
    head, body, signature = app["access_token"].split(".")
    return {
        "expired": forged(iss=issuer, exp=10), "signed by another secret": forged(iss=issuer, secret=b"z" * 32),
        "of another daemon": forged(iss="hybridgw:other"), "of a grant that is none": forged(iss=issuer),
        "not signed": f"{head}.{body}.", "signed by nothing": f"eyJhbGciOiJub25lIn0.{body}.",
        "changed": f"{head}.{body[:-2]}AA.{signature}", "a refresh token": app["refresh_token"],
        "revoked": revoked["access_token"], "a key that was revoked": key["key"],
        "a key that is none": "hgw_AAAAAAAA_" + "A" * 49, "the owner's, cut": TOKEN[:-1],
    }  # fmt: skip


async def test_spec_G1_sec_L12_tokens_that_do_not_count_end_the_connection(api: Api) -> None:
    found = await tokens_that_do_not_count(api)
    bodies = set()
    async with connected(api, "bystander") as other:
        for what, token in found.items():
            async with connected(api, auth=False) as ws:
                answer = await ws.auth(token)
                assert answer["type"] == "auth_error", what
                assert (await ws.closed()).code == 4401, what
                bodies.add(json.dumps(answer))
            async with connected(api, auth=False) as ws:  # nor does one renew a connection that is open
                assert (await ws.auth())["type"] == "auth_ok"
                assert (await ws.auth(token, renew=True))["type"] == "auth_error", what
                assert (await ws.closed()).code == 4401, what
            await other.do("health")
    assert len(bodies) == 1


async def test_a_token_in_the_url_does_not_count_and_is_noted(api: Api) -> None:
    async with connected(api, f"x?access_token={TOKEN}", auth=False) as ws:
        await ws.send({"type": "command", "id": 1, "command": "config", "params": {}})
        assert (await ws.closed()).code == 4401
    assert sum(row["count"] for row in await audited(api, "refused.misuse")) == 1


# ---- the end ---------------------------------------------------------------------------------------------------------
async def test_sec_L36_revoking_ends_sockets_and_streams_at_once(api: Api) -> None:
    app = await let_in(api)
    key = (await make_key(api, "read:tasks"))["key"]
    bearer = {"Authorization": f"Bearer {app['access_token']}", "X-HybridGW-Client": "test"}
    async with (
        connected(api, "app", auth=False, headers=HEADERS) as ws,
        connected(api, "script", auth=False) as other,
        api.session.get(f"http://127.0.0.1:{api.port}/api/events", headers=HEADERS | bearer) as stream,
    ):
        await shown(ws, app["access_token"])
        await shown(other, key)
        assert {live.kind for live in api.local.registry.live.values()} == {"websocket", "events"}
        async with asyncio.timeout(20):  # before the next heartbeat
            assert (await api.call("DELETE", f"/api/auth/grants/{app['id']}")).status == 200
            closed = await ws.closed()
            while await stream.content.read(1_000):
                pass
        assert (closed.code, "ended" in closed.reason) == (4403, True)
        assert (await other.do("data.list", collection="tasks"))["items"] == []  # nobody else notices
    async with connected(api, "app", auth=False) as again:
        assert (await again.auth(app["access_token"]))["type"] == "auth_error"


async def test_a_token_that_expires_ends_its_socket(api: Api) -> None:
    app = await let_in(api)
    async with connected(api, auth=False, headers=HEADERS) as ws:
        await shown(ws, app["access_token"])
        api.clock.move(3_601)
        assert (await ws.closed()).code == 4401


# ---- how often -------------------------------------------------------------------------------------------------------
@pytest.mark.spec("G5")
async def test_spec_G5_frames_and_calls_share_a_budget(tight: Api) -> None:
    key = (await make_key(tight, "read:notes", "send:t"))["key"]
    async with connected(tight, auth=False) as ws:
        await shown(ws, key)
        for _ in range(300):
            await ws.do("data.list", collection="notes")
        for _ in range(290):
            assert (await tight.call("GET", "/api/data/notes", token=key)).status == 200
        for _ in range(90):  # a tenth of a call each
            await ws.do("topic.publish", topic="t", data={})
        told = await ws.ask("data.list", collection="notes")
        assert (told["code"], told["retryable"]) == ("too_many_requests", True)
        assert told["detail"]["retry_after_s"] >= 1
        assert (await tight.call("GET", "/api/data/notes", token=key)).status == 429
        async with connected(tight, "owner") as owner:
            assert await owner.do("config")
        for number in range(100):  # that it could be answered costs it the connection
            await ws.send({"type": "command", "id": number, "command": "data.list", "params": {"collection": "notes"}})
        assert (await ws.closed()).code == 4429
    assert 'hybridgw_rate_limited_total{policy="credential"} ' in await metrics(tight)


@pytest.mark.spec("G5")
async def test_spec_G5_bad_tokens_in_frames_are_calls_of_a_stranger(tight: Api) -> None:
    codes = []
    for _ in range(12):
        async with connected(tight, auth=False) as ws:
            await ws.auth("wrong")
            codes.append((await ws.closed()).code)
    assert codes == [4401] * 10 + [4429] * 2
    assert (await tight.call("GET", "/api/data/notes", token="wrong")).status == 429
    async with connected(tight) as ws:  # a good one does not notice
        assert await ws.do("config")


# ---- what is written down --------------------------------------------------------------------------------------------
async def test_spec_O2_every_command_is_a_line_and_a_figure_and_none_holds_content(api: Api) -> None:
    async with connected(api, "secret-client", mode="local_install", headers={"User-Agent": "ua/1"}) as ws:
        api.calls.clear()
        await ws.do("data.put", collection="notes", id="planted-id", data={"text": "planted-text"})
        await ws.ask("data.get", collection="notes", id="planted-none")
        await ws.ask("planted-command")
        await ws.do("topic.subscribe", topic="planted-topic")
        for _ in range(3):
            await ws.do("topic.publish", topic="planted-topic", data={"a": "planted-data"})
        lines = [call for call in api.calls if call.method == "WS"]
        connection = ws.hello["connection"]
    assert [(c.template, c.status, c.code) for c in lines] == [
        ("/api/data/{collection}/{id}", 200, None), ("/api/data/{collection}/{id}", 404, "not_found"),
        ("-", 404, "not_found"), ("topic.subscribe", 200, None),
    ]  # fmt: skip
    assert {(c.principal, c.client_ip, c.user_agent, c.connection, c.mode) for c in lines} == {
        ("owner", "127.0.0.1", "ua/1", connection, "local_install")
    }
    assert len({c.request_id for c in lines}) == len(lines)
    assert "planted" not in repr(api.calls)
    assert TOKEN not in repr(api.calls)
    page = await metrics(api)
    assert 'http_requests_total{endpoint="/api/data/{collection}/{id}",method="WS",status="404"} 1' in page
    assert 'message_routing_total{type="topic"} 3' in page
    assert "planted" not in page


async def test_spec_O1_logins_and_refreshes_are_counted(api: Api) -> None:
    app = await let_in(api, origin=None)
    body = {"refresh_token": app["refresh_token"]}
    assert (await api.call("POST", "/api/auth/refresh", body, token=None)).status == 200
    bad = {"deployment_mode": "web_app", "credentials": {"api_key": "hgw_none"}}
    assert (await api.call("POST", "/api/auth/login", bad, token=None)).status == 401
    found = {line for line in (await metrics(api)).splitlines() if line.startswith("auth_operations_total")}
    for kind, status in (("login", "ok"), ("refresh", "ok"), ("login", "refused")):
        assert f'auth_operations_total{{status="{status}",type="{kind}"}} 1.0' in found, json.dumps(sorted(found))
