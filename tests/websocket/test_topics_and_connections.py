"""Topics between programs, who is connected, and the end of a credential."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services.connections import Live
from hybridgw_daemon.transports.local.ws_socket import Socket, SocketPatience
from tests.integration._local_api import TOKEN, Api, running
from tests.integration.test_local_api_events import listen
from tests.websocket._client import connected, frame, opened, text


async def test_a_message_reaches_all_that_listen_in_order(api: Api) -> None:
    async with (
        connected(api, "a") as a, connected(api, "b", packed=True) as b, connected(api, "c", compress=15) as c,
        connected(api, "deaf") as deaf,
    ):  # fmt: skip
        for ws in (a, b, c):
            await ws.do("topic.subscribe", topic="chat/room-1")
        data = {"text": "Grüße", "n": [1, 2.5, None, True], "long": "x" * 3_000}
        assert await a.do("topic.publish", topic="chat/room-1", data=data) == {"listeners": 3}
        for number in range(100):
            await a.send(
                {"type": "command", "command": "topic.publish", "params": {"topic": "chat/room-1", "data": number}}
            )
        for ws in (a, b, c):
            found = [await ws.event() for _ in range(101)]
            assert [e["data"] for e in found] == [
                {"topic": "chat/room-1", "data": item} for item in (data, *range(100))
            ]
            assert len({e["sub"] for e in found}) == 1
        await deaf.do("health")
        assert not deaf.events
        assert await a.do("topic.unsubscribe", topic="chat/room-1") == {"ended": True}
        assert await a.do("topic.unsubscribe", topic="chat/room-1") == {"ended": False}
        assert await a.do("topic.publish", topic="chat/room-1", data=0) == {"listeners": 2}
        assert await a.do("topic.publish", topic="nobody") == {"listeners": 0}


async def test_listening_twice_is_one_subscription(api: Api) -> None:
    async with connected(api) as ws:
        first = await ws.do("topic.subscribe", topic="t")
        assert await ws.do("topic.subscribe", topic="t") == first
        await ws.do("topic.publish", topic="t", data=1)
        await ws.event()
        await ws.do("health")
        assert not ws.events


async def test_a_message_by_http(api: Api) -> None:
    async with connected(api) as ws:
        await ws.do("topic.subscribe", topic="t/a")
        got = await api.call("POST", "/api/topics/t%2Fa", {"from": "curl"})
        assert (got.status, got.body) == (200, {"listeners": 1})
        assert (await ws.event())["data"] == {"topic": "t/a", "data": {"from": "curl"}}
    assert (await api.call("POST", "/api/topics/a%20b", {})).code == "bad_value"


async def test_what_is_said_in_one_turn_leaves_in_one_write(api: Api) -> None:
    """Many messages that arrive together reach a listener together."""
    async with connected(api, "listener", check=False) as ws, opened(api) as raw:
        await ws.do("topic.subscribe", topic="t")
        (live,) = [c for c in api.local.registry.live.values() if c.client_id == "listener"]
        before = live.sent_messages
        frame = text({"type": "command", "command": "topic.publish", "params": {"topic": "t", "data": "x"}})
        raw.writer.write(frame * 200)
        for _ in range(200):
            await ws.event()
        assert live.sent_messages - before == 200


@pytest.mark.spec("G7")
async def test_spec_G7_every_connection_is_recorded_and_archived(tmp_path: Path) -> None:
    patience = SocketPatience(heartbeat_s=0.1, sweep_s=0.03)
    async with running(tmp_path, socket_patience=patience) as api:
        agent = {"User-Agent": "agent\t" + "x" * 500}
        async with connected(api, "me", headers=agent) as ws:
            await ws.do("health")
            reading = asyncio.create_task(ws.closed())
            async with asyncio.timeout(30):
                found: dict[str, Any] = {}
                while found.get("rtt_ms") is None:  # until a ping was answered
                    body = (await api.call("GET", "/api/analytics/connections")).body
                    (found,) = body["items"]
            reading.cancel()
            assert body["archived"] == []
            assert (found["kind"], found["state"], found["mode"], found["client_id"]) == (
                "websocket",
                "open",
                "web_app",
                "me",
            )
            assert (found["principal"], found["received_messages"]) == ("owner", 2)
            assert len(found["user_agent"]) == 200
            assert 0 <= found["rtt_ms"] < 30_000
            assert found["sent_bytes"] > 0
            stats = (await api.call("GET", "/api/config/stats")).body
            assert (stats["open"], stats["modes"]["web_app"]) == (1, {"open": 1, "opened": 1, "limit": stats["limit"]})
        stream = await listen(api)
        body = (await api.call("GET", "/api/analytics/connections?archived=5")).body
        assert [item["kind"] for item in body["items"]] == ["events"]
        (ended,) = body["archived"]
        assert (ended["state"], ended["close_code"], ended["client_id"]) == ("closed", 1000, "me")
        stream.close()
        stats = (await api.call("GET", "/api/config/stats")).body
        assert (stats["open"], stats["closed"], stats["close_codes"]) == (0, 1, {"1000": 1})
        assert stats["received_messages"] == 2


@pytest.mark.spec("G7")
async def test_spec_G7_the_archive_is_bounded(api: Api) -> None:
    for number in range(1_020):
        live = api.local.registry.open("events", lambda *_: None, principal_id=str(number))
        api.local.registry.close(live, 1000, "")
    body = (await api.call("GET", "/api/analytics/connections?archived=1000")).body
    assert (len(body["archived"]), body["archived"][0]["principal"]) == (1_000, "1019")


async def test_how_programs_of_each_mode_connect(api: Api) -> None:
    body = (await api.call("GET", "/api/config/deployments")).body
    assert [item["mode"] for item in body["items"]] == ["web_app", "browser_extension", "local_install"]
    assert body["items"][1]["path"] == "/ws/browser_extension/{client_id}"
    assert body["protocols"] == ["hybridgw.v1.json", "hybridgw.v1.msgpack"]


@pytest.mark.parametrize(
    ("mode", "interval", "told"), [("web_app", 30, 30), ("browser_extension", 30, 20), ("browser_extension", 5, 5)]
)
async def test_spec_G1_the_heartbeat_of_each_mode(tmp_path: Path, mode: str, interval: float, told: float) -> None:
    patience = SocketPatience(heartbeat_s=interval)
    async with running(tmp_path, socket_patience=patience) as api, connected(api, mode=mode) as ws:
        assert ws.hello["heartbeat_s"] == told


@pytest.mark.spec("G1")
async def test_spec_G1_heartbeats_from_both_sides(tmp_path: Path) -> None:
    async with running(tmp_path, socket_patience=SocketPatience(heartbeat_s=0.1, sweep_s=0.02)) as api:
        async with connected(api) as ws:
            await ws.send({"type": "heartbeat"})
            assert (await ws.frame())["t"] > 1_700_000_000_000
        async with opened(api) as raw:
            kinds = set()
            for _ in range(4):
                first, payload = await raw.read()
                kinds.add("ping" if first == 0x89 else json.loads(payload)["type"])
            assert kinds == {"ping", "heartbeat"}


async def test_sec_L36_a_credential_that_ends_takes_its_connections_along(api: Api) -> None:
    """Sockets, event streams and sessions that wait to be resumed, before the next heartbeat."""
    stream = await listen(api)
    async with connected(api, "one") as one, connected(api, "two") as two:
        await one.do("topic.subscribe", topic="t")
        await two.do("live.subscribe", collection="notes")
        two.ws._response.connection.transport.abort()  # type: ignore[union-attr]
        while not api.local.stats().sessions_detached:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        async with asyncio.timeout(20):
            assert api.local.registry.end("owner", 4403, "revoked") == 2
            assert (await one.closed()).code == 4403
            while await stream._reader.read(1_000):
                pass
            stream.close()
            while api.local.registry.live:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        stats = api.local.stats()
        assert (stats.sessions_detached, stats.subscriptions, stats.topics) == (0, 0, 0)
    assert api.local.registry.end("owner", 4403, "revoked") == 0
    async with connected(api, "one", resume={**one.resume, "offset": 0}) as again:
        assert not again.hello["recovered"]


async def test_a_page_may_not_read_what_http_would_not_give(api: Api) -> None:
    """Both carriers ask the same table."""
    async with connected(api) as ws:
        for command, params in (("devices.list", {}), ("pairing.start", {}), ("relays.list", {})):
            assert (await ws.ask(command, **params))["code"] == "secrets_locked"
        assert (await ws.do("config"))["items"] == []
        assert await ws.do("daemon.stop") == {"pid": 1}
    assert TOKEN not in repr(api.calls)


@pytest.mark.spec("G7")
@pytest.mark.parametrize("way", ["closes", "breaks off", "is revoked", "breaks the protocol"])
async def test_spec_G7_a_connection_that_has_ended_is_freed_at_once(api: Api, way: str) -> None:
    """Whatever it did: nothing of it waits in a circle of references for the interpreter to look for circles."""
    gc.collect()
    gc.disable()
    try:
        async with opened(api, f"/ws/local_install/{way.replace(' ', '-')}") as raw:
            for number, (command, params) in enumerate(
                {
                    "live.subscribe": {"collection": "notes"},
                    "topic.subscribe": {"topic": "t"},
                    "data.put": {"collection": "notes", "id": "a", "data": {"n": 1}},
                }.items()
            ):
                raw.writer.write(text({"type": "command", "id": number, "command": command, "params": params}))
            while b'"document"' not in (await raw.read())[1]:
                pass
            match way:
                case "closes":
                    raw.writer.write(frame(8, b"\x03\xe8"))
                    await raw.close_code()
                case "breaks off":
                    raw.writer.transport.abort()
                case "is revoked":
                    (principal,) = {live.principal_id for live in api.local.registry.live.values()}
                    api.local.registry.revoke(str(principal))
                    await raw.close_code()
                case _:
                    raw.writer.write(frame(3))
                    await raw.close_code()
        while api.local.stats().open:  # noqa: ASYNC110 - the other end of the test is what is waited for
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        left = [type(one).__name__ for one in gc.get_objects() if isinstance(one, Socket | Live)]
    finally:
        gc.enable()
    assert not left
