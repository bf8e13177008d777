"""What a program must not do: each gets a named error or close code, and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybridgw_daemon.services.live_sessions import Bounds
from hybridgw_daemon.transports.local import ws_socket as carrier
from hybridgw_daemon.transports.local.ws import MAX_STRANGERS
from hybridgw_daemon.transports.local.ws_socket import SocketPatience
from tests.integration._local_api import TOKEN, Api, running
from tests.websocket._client import Closed, connected, frame, opened, text

QUICK = SocketPatience(auth_s=0.3, idle_s=30, slow_s=0.5, heartbeat_s=0.2, sweep_s=0.05)


# ---- who may open one ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost"},
        {"Origin": "http://127.0.0.1:1"}, {"Origin": "chrome-extension://aaaa"}, {"Sec-Fetch-Site": "cross-site"},
    ],
)  # fmt: skip
async def test_sec_L6_a_page_of_another_origin_gets_403_and_no_socket(api: Api, headers: dict[str, str]) -> None:
    for more in ({}, {"Authorization": f"Bearer {TOKEN}"}):
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **more}.items())
        async with opened(api, more=lines, auth=False) as raw:
            assert raw.head.startswith(b"HTTP/1.1 403 ")
    assert api.local.stats().opened == 0


async def test_sec_L6_the_daemons_own_page_may(api: Api) -> None:
    async with opened(api, more=f"Origin: http://127.0.0.1:{api.port}\r\n") as raw:
        assert raw.head.startswith(b"HTTP/1.1 101 ")
    async with opened(api, more=f"Origin: http://localhost:{api.port}\r\n", auth=False) as raw:
        assert raw.head.startswith(b"HTTP/1.1 403 ")


async def test_sec_L6_a_foreign_host_is_misdirected(api: Api) -> None:
    got = await api.send(
        b"GET /ws/web_app/x HTTP/1.1\r\nHost: rebound.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 421 ")


@pytest.mark.spec("G1")
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/ws/toaster/x", 4404), ("/ws//x", 4404), ("/ws/Web_App/x", 4404), ("/ws/web_app%2F/x", 4404),
        ("/ws/web_app/a%20b", 4400), ("/ws/web_app/%FF", 4400), (f"/ws/web_app/{'x' * 65}", 4400),
        ("/ws/web_app/", 4400),
    ],
)  # fmt: skip
async def test_spec_G1_an_unknown_mode_or_client_id(api: Api, path: str, code: int) -> None:
    async with opened(api, path, auth=False) as raw:
        assert await raw.close_code() == code
    assert api.local.stats().opened == 0


async def test_another_path_is_no_websocket(api: Api) -> None:
    for path in ("/ws/", "/ws/web_app", "/ws/web_app/x/y"):
        async with opened(api, path, auth=False) as raw:
            assert raw.head.startswith(b"HTTP/1.1 404 ")


# ---- before and after auth -------------------------------------------------------------------------------------------
FIRST: list[Any] = [
    {"type": "command", "id": 1, "command": "data.get", "params": {"collection": "notes", "id": "x"}},
    {"type": "command", "id": 1, "command": "health"},
    {"type": "heartbeat"},
    {"type": "auth"},
    {"type": "auth", "token": "wrong"},
    {"type": "auth", "token": TOKEN[:-1]},
    {"type": "auth", "token": f"{TOKEN} "},
    {"type": "auth", "token": "ü" * 20},
    {"type": "auth", "token": TOKEN, "more": 1},
    {"type": "nonsense"},
    [],
]


@pytest.mark.parametrize("first", FIRST)
async def test_spec_G1_sec_L22_nothing_before_auth(api: Api, first: Any) -> None:
    async with connected(api, auth=False) as ws:
        await ws.send(first)
        answer = await ws.frame()
        assert answer["type"] == "auth_error"
        assert TOKEN[:8] not in json.dumps(answer)
        assert (await ws.closed()).code == 4401


async def test_sec_L22_a_command_pipelined_behind_a_wrong_token_is_not_done(api: Api) -> None:
    async with opened(api, auth=False) as raw:
        put = {"collection": "notes", "id": "x", "data": {"a": 1}}
        raw.writer.write(
            text({"type": "auth", "token": "wrong"})
            + text({"type": "command", "id": 1, "command": "data.put", "params": put})
            + text({"type": "auth", "token": TOKEN})
        )
        assert await raw.close_code() == 4401
    assert (await api.call("GET", "/api/data/notes/x")).status == 404


async def test_spec_G1_sec_L22_no_auth_in_time(tmp_path: Path) -> None:
    async with running(tmp_path, socket_patience=QUICK) as api, connected(api, auth=False) as ws:
        assert (await ws.frame())["type"] == "auth_error"
        assert (await ws.closed()).code == 4408


async def test_sec_L22_auth_twice(api: Api) -> None:
    async with connected(api) as ws:
        assert (await ws.auth())["type"] == "auth_error"
        assert (await ws.closed()).code == 4401
    async with connected(api) as ws:
        assert (await ws.auth("wrong", renew=True))["type"] == "auth_error"
        assert (await ws.closed()).code == 4401


async def test_spec_G1_a_fresh_token_in_band(api: Api) -> None:
    async with connected(api) as ws:
        before = ws.hello
        assert (await ws.auth(renew=True))["type"] == "auth_ok"
        assert (ws.hello["connection"], ws.hello["session"]) == (before["connection"], before["session"])
        await ws.do("health")


@pytest.mark.spec("G1")
async def test_spec_G1_a_bearer_header_instead_of_the_frame(api: Api) -> None:
    async with connected(api, auth=False, headers={"Authorization": f"Bearer {TOKEN}"}) as ws:
        assert (await ws.frame())["type"] == "auth_ok"
        await ws.do("health")
    async with opened(api, auth=False, more="Authorization: Bearer wrong\r\n") as raw:
        assert raw.head.startswith(b"HTTP/1.1 401 ")


async def test_sec_L22_a_large_frame_of_a_stranger(api: Api) -> None:
    async with opened(api, auth=False) as raw:
        raw.writer.write(frame(1, b"x" * (carrier.STRANGER_BYTES + 1)))
        assert await raw.close_code() == 1009


async def test_sec_L22_strangers_are_bounded(api: Api) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_STRANGERS):
            await stack.enter_async_context(opened(api, auth=False))
        async with opened(api, auth=False) as raw:
            assert await raw.close_code() == 4429
        assert (await api.call("GET", "/health")).status == 200


# ---- frames ----------------------------------------------------------------------------------------------------------
MALFORMED: list[tuple[bytes, str | None]] = [
    (b"", None),
    (b"{", None),
    (b"null", None),
    (b"[1]", None),
    (b'{"type":"unknown"}', "type"),
    (b'{"no":"type"}', "type"),
    (b'{"type":"command","id":1,"command":5}', "command"),
    (b'{"type":"command","id":1,"command":"health","params":[]}', "params"),
    (b'{"type":"command","id":1,"command":"health","extra":1}', "extra"),
    (b'{"type":"command","id":-1,"command":"health"}', "id"),
    (b'{"type":"command","id":1,"command":"health","params":{"a":NaN}}', None),
    (b'{"type":"command","id":1,"id":2,"command":"health"}', "id"),
    (b'{"type":"command","id":1,"command":"data.put","params":{"collection":"c","id":"a","data":{"a":1,"a":2}}}', "a"),
    (
        b'{"type":"command","id":1,"command":"health","params":{"a":' + b'{"a":' * 90_000 + b"1" + b"}" * 90_001 + b"}",
        None,
    ),
]


@pytest.mark.spec("G2")
@pytest.mark.parametrize(("raw", "field"), MALFORMED)
async def test_spec_G2_sec_L22_a_malformed_frame_is_answered(api: Api, raw: bytes, field: str | None) -> None:
    async with connected(api) as ws:
        await ws.ws.send_str(raw.decode())
        answer = await ws.frame()
        assert (answer["type"], answer["code"], answer.get("field")) == ("error", "bad_value", field)
        await ws.do("health")


async def test_sec_L22_repeated_malformed_frames_end_it(api: Api) -> None:
    async with connected(api, "other") as other, connected(api) as ws:
        for _ in range(carrier.MAX_MALFORMED - 1):
            await ws.ws.send_str("{")
            assert (await ws.frame())["id"] is None
        await ws.do("health")  # one that can be read in between: the count begins again
        for _ in range(carrier.MAX_MALFORMED):
            await ws.ws.send_str("{")
        assert (await ws.closed()).code == 4400
        await other.do("health")


COMMANDS: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("no.such", {}, "not_found", "command"),
    ("events", {}, "not_found", "command"),
    ("data.get", {"collection": "notes"}, "bad_value", "id"),
    ("data.get", {"collection": "notes", "id": "x", "extra": 1}, "bad_value", "extra"),
    ("data.get", {"collection": "notes", "id": 5}, "bad_value", "id"),
    ("data.get", {"collection": "notes", "id": "nothing"}, "not_found", None),
    ("data.list", {"collection": "notes", "limit": 0}, "bad_value", "limit"),
    ("data.put", {"collection": "notes", "id": "x", "data": {"a": 2**60}}, "bad_value", None),
    ("live.subscribe", {}, "bad_value", "collection"),
    ("live.subscribe", {"collection": "Bad Name"}, "bad_value", None),
    ("live.subscribe", {"collection": "notes", "filter": {"a": {"$no": 1}}}, "bad_value", None),
    ("live.subscribe", {"collection": "notes", "id": ""}, "bad_value", None),
    ("topic.subscribe", {"topic": ""}, "bad_value", "topic"),
    ("topic.subscribe", {"topic": "a b"}, "bad_value", "topic"),
    ("topic.publish", {"topic": 'quo"te', "data": 1}, "bad_value", "topic"),
    ("topic.publish", {"topic": "x" * 129}, "bad_value", "topic"),
    ("topic.publish", {"data": 1}, "bad_value", "topic"),
]


@pytest.mark.parametrize(("command", "params", "code", "field"), COMMANDS)
async def test_spec_G2_an_error_names_the_field(
    api: Api, command: str, params: dict[str, Any], code: str, field: str | None
) -> None:
    async with connected(api) as ws:
        answer = await ws.ask(command, **params)
        assert (answer["type"], answer["code"], answer.get("field")) == ("error", code, field), answer


async def test_spec_G2_an_error_carries_what_belongs_to_its_code(api: Api) -> None:
    async with connected(api) as ws:
        await ws.do("data.put", collection="notes", id="x", data={"a": 1})
        answer = await ws.ask("data.patch", collection="notes", id="x", patch={"a": 2}, version=99)
        assert (answer["code"], answer["detail"]) == ("precondition_failed", {"version": 1})
        assert await ws.do("data.get", collection="notes", id="x", known=1) == {"version": 1, "unchanged": True}


async def test_an_error_of_ours_is_told_without_its_text(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.daemon.fault = RuntimeError("secret detail")
    async with connected(api) as ws:
        answer = await ws.ask("paths")
        assert answer["code"] == "internal"
        assert "secret" not in json.dumps(answer)
        assert ws.hello["connection"] in answer["message"]
    assert "secret detail" in caplog.text


async def test_without_an_id_only_a_failure_is_answered(api: Api) -> None:
    async with connected(api) as ws:
        await ws.send({"type": "command", "command": "health"})
        await ws.send({"type": "command", "command": "topic.publish", "params": {"topic": "t"}})
        await ws.send({"type": "command", "command": "no.such"})
        answer = await ws.frame()
        assert (answer["id"], answer["code"]) == (None, "not_found")


async def test_sec_L22_ids_that_repeat_are_the_programs_own_affair(api: Api) -> None:
    async with connected(api) as ws:
        for _ in range(3):
            await ws.send({"type": "command", "id": 5, "command": "health", "params": {}})
        assert [(await ws.frame())["id"] for _ in range(3)] == [5, 5, 5]


# ---- many of something -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["topic", "live"])
async def test_sec_L22_a_million_subscriptions(api: Api, kind: str) -> None:
    async with connected(api, "other") as other, connected(api, check=False) as ws:
        with contextlib.suppress(ConnectionError):
            for number in range(100_000):
                params = {"topic": f"t{number}"} if kind == "topic" else {"collection": f"c{number}"}
                name = f"{kind}.subscribe"
                await ws.send({"type": "command", "id": number, "command": name, "params": params})
                if number % 500 == 0:
                    assert api.local.stats().subscriptions <= 100
                    await asyncio.sleep(0)
                    if ws.ws.closed:
                        break
        assert (await ws.closed()).code == 4429
        await other.do("health")


@pytest.mark.spec("G5")
async def test_spec_G5_connections_are_bounded_in_all_and_by_mode(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=10, mode_limits={"web_app": 2}) as api:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(2):
                await stack.enter_async_context(connected(api, f"w{number}"))
            async with opened(api, auth=False) as raw:
                assert await raw.close_code() == 4429
            for number in range(6):
                await stack.enter_async_context(connected(api, f"l{number}", mode="local_install"))
            async with connected(api, "last", mode="browser_extension"):
                async with opened(api, "/ws/local_install/x", auth=False) as raw:
                    assert await raw.close_code() == 4429
                stats = (await api.call("GET", "/api/config/stats")).body  # HTTP has room of its own
                assert (stats["open"], stats["limit"], stats["refused"]) == (9, 9, 2)
        async with connected(api, "again"):
            pass


async def test_sec_L22_many_commands_at_once_hold_the_reading(api: Api) -> None:
    async with connected(api, "other") as other, connected(api, check=False) as ws:
        total = 20 * carrier.MAX_RUNNING
        for number in range(total):
            params = {"collection": "notes", "id": f"n{number % 50}", "data": {"n": number}}
            await ws.send({"type": "command", "id": number, "command": "data.put", "params": params})
        await other.do("health")
        assert {(await ws.frame())["id"] for _ in range(total)} == set(range(total))


# ---- slow and dead readers -------------------------------------------------------------------------------------------
async def never_reading(api: Api, client: str) -> socket.socket:
    """A client that is authenticated and then reads nothing, with a small window."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", api.port))
    await loop.sock_sendall(
        raw,
        f"GET /ws/web_app/{client} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        + text({"type": "auth", "token": TOKEN}),
    )
    found = b""
    while b'"auth_ok"' not in found:  # and no more: what follows stays where it is
        found += await loop.sock_recv(raw, 1_024)
    return raw


async def test_spec_G5_sec_L23_a_reader_that_never_reads_is_cut_and_others_are_not_affected(api: Api) -> None:
    lazy = await never_reading(api, "lazy")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(lazy, text({"type": "command", "command": "topic.subscribe", "params": {"topic": "t"}}))
    async with connected(api, "reader", check=False) as reader, connected(api, "writer", check=False) as writer:
        await reader.do("topic.subscribe", topic="t")
        async with asyncio.timeout(30):
            while (await writer.do("topic.publish", topic="t", data=0))["listeners"] < 2:
                pass
        body = "x" * 10_000
        for number in range(400):
            await writer.do("topic.publish", topic="t", data=[number, body])
            while (event := await reader.event())["data"]["data"] == 0:
                pass
            assert event["data"]["data"][0] == number
        closed = await until_closed(api, "lazy")
        assert closed["close_code"] == 4429
        place = json.loads(closed["close_reason"])
        assert set(place) == {"session", "epoch", "offset"}
    lazy.close()


async def until_closed(api: Api, client: str) -> dict[str, Any]:
    """The archived record of a connection."""
    async with asyncio.timeout(30):
        while True:
            body = (await api.call("GET", "/api/analytics/connections")).body
            found = [item for item in body["archived"] if item["client_id"] == client]
            if found:
                return dict(found[0])
            await asyncio.sleep(0.05)


async def test_sec_L23_answers_that_are_not_taken_stop_the_reading(tmp_path: Path) -> None:
    """It asks for pages on and on and reads none: it is not read from, and is cut after a while."""
    async with running(tmp_path, socket_patience=QUICK) as api:
        for number in range(20):
            await api.call("PUT", f"/api/data/notes/n{number}", {"x": "y" * 5_000})
        lazy = await never_reading(api, "lazy")
        loop = asyncio.get_running_loop()
        asking = text({"type": "command", "id": 1, "command": "data.list", "params": {"collection": "notes"}}) * 100
        before = psutil.Process().memory_info().rss
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(5):
                for _ in range(2_000):  # 20 GB of answers, if they were made
                    await loop.sock_sendall(lazy, asking)
        assert (await until_closed(api, "lazy"))["close_code"] == 4429
        assert psutil.Process().memory_info().rss - before < 64 * 2**20
        lazy.close()


async def test_spec_G1_a_half_open_connection_is_found(tmp_path: Path) -> None:
    """The other side is gone without a word: no frame and no pong."""
    patience = SocketPatience(idle_s=0.5, heartbeat_s=0.1, sweep_s=0.05)
    async with running(tmp_path, socket_patience=patience) as api:
        lazy = await never_reading(api, "gone")
        async with connected(api, "alive") as ws:  # the library answers pings by itself
            reading = asyncio.create_task(ws.closed())
            closed = await until_closed(api, "gone")
            assert closed["close_code"] == 4408
            assert closed["missed_heartbeats"] >= 2
            await asyncio.sleep(0.5)
            assert not reading.done()
            reading.cancel()
        lazy.close()


async def test_sec_L22_memory_is_flat(tmp_path: Path) -> None:
    """Connections, subscriptions, messages, faults and broken connections, again and again."""
    async with running(tmp_path, bounds=Bounds(detached=10)) as api:
        await hammer(api)


async def hammer(api: Api) -> None:
    async def round_(number: int) -> None:
        async with connected(api, f"m{number % 7}", check=False) as ws:
            await ws.do("topic.subscribe", topic="t")
            await ws.do("live.subscribe", collection="notes", filter={"n": {"$lt": 5}})
            await ws.do("data.put", collection="notes", id=f"n{number % 10}", data={"n": number})
            for _ in range(50):
                await ws.do("topic.publish", topic="t", data="x" * 200)
            await ws.ws.send_str("{")
        async with opened(api, f"/ws/web_app/b{number % 5}") as raw:
            raw.writer.write(text({"type": "command", "command": "topic.subscribe", "params": {"topic": "t"}}))
            raw.writer.transport.abort()

    process = psutil.Process()
    for number in range(60):
        await round_(number)
    gc.collect()
    before = process.memory_info().rss
    for number in range(240):
        await round_(number)
    gc.collect()
    assert process.memory_info().rss - before < 8 * 2**20


async def test_what_is_kept_for_all_is_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, bounds=Bounds(total_bytes=50_000)) as api:
        async with connected(api) as ws:
            await ws.do("topic.subscribe", topic="t")
            for _ in range(30):
                await ws.do("topic.publish", topic="t", data="x" * 5_000)
                await ws.event()
            place = {**ws.resume, "offset": 0}
        assert api.local._sessions.kept_bytes <= 50_000
        async with connected(api, resume=place) as ws:
            assert not ws.hello["recovered"]


async def test_spec_G1_closing_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as api, connected(api) as ws:
        closing = asyncio.create_task(api.local.close())
        with pytest.raises(Closed) as caught:
            await ws.frame()
        assert caught.value.code == 4503
        await closing
