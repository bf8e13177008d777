"""Server-sent events over HTTP: form, resuming, heartbeats, and readers that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.transports.local.http import Patience
from tests.integration._local_api import TOKEN, Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        yield made


class Stream:
    """One reader of the event stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.head = b""

    async def block(self) -> dict[str, str]:
        """The next block: field -> value; a comment is under ""."""
        found: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self._reader.readuntil(b"\n"), 30)).decode().rstrip("\r\n")
            if not line:
                if found:
                    return found
                continue
            if set(line) <= set("0123456789abcdef") and len(line) <= 4 and not found:
                continue  # the size of a chunk
            name, _, value = line.partition(":")
            found[name] = value.removeprefix(" ")

    async def event(self) -> dict[str, str]:
        """The next event that is no comment."""
        while True:
            block = await self.block()
            if "event" in block:
                return block

    def close(self) -> None:
        self._writer.close()


async def listen(api: Api, query: str = "", **headers: str) -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"GET /api/events{query} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{head}{more}\r\n".encode())
    stream = Stream(reader, writer)
    stream.head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    return stream


async def put(api: Api, id: str, data: Any, collection: str = "notes") -> None:
    assert (await api.call("PUT", f"/api/data/{collection}/{id}", data)).status == 200


async def test_spec_G3_the_stream_and_its_form(api: Api) -> None:
    stream = await listen(api)
    assert stream.head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Type: text/event-stream" in stream.head
    assert b"aiohttp" not in stream.head
    assert (await stream.block()) == {"retry": "1000"}
    ready = await stream.event()
    assert (ready["event"], json.loads(ready["data"])) == ("ready", {"since": "e0-0"})
    await put(api, "x", {"a": 1})
    event = await stream.event()
    assert (event["event"], event["id"]) == ("document", "e0-1")
    assert json.loads(event["data"]) == {
        "id": "x",
        "collection": "notes",
        "version": 1,
        "conflicts": 0,
        "data": {"a": 1},
    }
    stream.close()


async def test_spec_G4_a_list_and_then_its_changes_without_gap_or_repeat(api: Api) -> None:
    await put(api, "x", {"a": 1})
    page = await api.call("GET", "/api/data/notes")
    await put(api, "y", {"a": 1})
    stream = await listen(api, f"?since={page.body['since']}&collection=notes")
    await put(api, "t", {"title": "t"}, "tasks")
    await put(api, "z", {"a": 1})
    seen = [json.loads((await stream.event())["data"]).get("id") for _ in range(3)]
    assert seen == ["y", None, "z"]  # ready in between
    stream.close()


async def test_spec_G3_a_reader_resumes_by_the_id_of_its_last_event(api: Api) -> None:
    stream = await listen(api, "?since=0")
    assert (await stream.event())["event"] == "ready"
    await put(api, "x", {"a": 1})
    last = (await stream.event())["id"]
    stream.close()
    await put(api, "y", {"a": 1})
    again = await listen(api, "?since=0", Last_Event_ID=last)  # the header is newer than the URL of the page
    assert json.loads((await again.event())["data"])["id"] == "y"
    again.close()
    reset = await listen(api, Last_Event_ID="old-1")
    assert [(await reset.event())["event"] for _ in range(2)] == ["reset", "document"]
    reset.close()


@pytest.mark.parametrize("query", ["?since=x", "?since=-1", "?collection=Bad", "?since=1&since=2", "?nothing=1"])
async def test_bad_places_are_refused(api: Api, query: str) -> None:
    got = await api.call("GET", f"/api/events{query}")
    assert got.status in (400, 422)
    assert api.hub.listeners == 0


async def test_bad_last_event_ids_are_refused(api: Api) -> None:
    for last in ("x", "9" * 70, "<script>"):
        assert (await api.call("GET", "/api/events", Last_Event_ID=last)).status == 422


async def test_heartbeats_when_nothing_happens(api: Api) -> None:
    stream = await listen(api)
    await stream.event()
    assert await stream.block() == {"": ""}
    assert await stream.block() == {"": ""}
    stream.close()


async def test_a_reader_that_leaves_is_forgotten(api: Api) -> None:
    stream = await listen(api)
    await stream.event()
    assert api.hub.listeners == 1
    stream.close()
    for _ in range(600):
        await asyncio.sleep(0.05)
        if api.hub.listeners == 0:
            break
    assert api.hub.listeners == 0


async def test_spec_G5_sec_L23_a_reader_that_never_reads_is_cut_off_and_others_are_not(tmp_path: Path) -> None:
    async with running(tmp_path, patience=Patience(reader_s=0.5)) as api:
        lazy = socket.create_connection(("127.0.0.1", api.port))
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        lazy.sendall(head.encode())
        busy = await listen(api)
        assert (await busy.event())["event"] == "ready"
        for _ in range(3_000):
            if api.hub.listeners == 2:
                break
            await asyncio.sleep(0.01)
        for k in range(120):
            await put(api, f"{k:03}", {"t": "x" * 60_000})
            assert json.loads((await busy.event())["data"])["id"] == f"{k:03}"
        for _ in range(600):
            if api.hub.listeners == 1:
                break
            await asyncio.sleep(0.05)
        assert api.hub.listeners == 1
        await put(api, "after", {})
        assert json.loads((await busy.event())["data"])["id"] == "after"
        busy.close()
        lazy.close()


async def test_stopping_ends_the_streams(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        stream = await listen(api)
        await stream.event()
    rest = await asyncio.wait_for(stream._reader.read(), 30)
    assert rest.endswith(b"0\r\n\r\n")
    stream.close()
