"""Live queries: what there is, then what changes; nothing is missing and nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services import events
from tests.integration._local_api import Api, running
from tests.websocket._client import Ws, connected


async def put(api: Api, id: str, data: Any, collection: str = "notes") -> None:
    assert (await api.call("PUT", f"/api/data/{collection}/{id}", data)).status == 200


def ids(found: list[dict[str, Any]]) -> list[str]:
    """Of the documents of `initial` events."""
    return [item["id"] for event in found if event["event"] == "initial" for item in event["data"]["items"]]


@pytest.mark.spec("G4")
@pytest.mark.parametrize("packed", [False, True])
async def test_spec_G4_a_collection(api: Api, packed: bool) -> None:
    for name in ("a", "b", "gone"):
        await put(api, name, {"n": name})
    await put(api, "foreign", {}, "other")
    await api.call("DELETE", "/api/data/notes/gone")
    async with connected(api, packed=packed) as ws:
        sub = (await ws.do("live.subscribe", collection="notes"))["sub"]
        first = await ws.until("ready")
        assert ids(first) == ["a", "b"]
        await put(api, "foreign", {"n": 1}, "other")
        await put(api, "b", {"n": 2})
        changed = await ws.event()
        assert (changed["event"], changed["sub"], changed["data"]["data"]) == ("document", sub, {"n": 2})
        await api.call("DELETE", "/api/data/notes/a")
        deleted = await ws.event()
        assert (deleted["event"], deleted["data"]["id"], deleted["data"]["deleted"]) == ("document", "a", True)
        assert await ws.do("live.unsubscribe", sub=sub) == {"ended": True}
        assert await ws.do("live.unsubscribe", sub=sub) == {"ended": False}
        await put(api, "b", {"n": 3})
        await ws.do("health")
        assert not ws.events
    assert api.hub.listeners == 0


@pytest.mark.spec("G4")
async def test_spec_G4_one_document(api: Api) -> None:
    await put(api, "a", {"n": 1})
    await put(api, "b", {"n": 1})
    async with connected(api) as ws:
        await ws.do("live.subscribe", collection="notes", id="a")
        first = await ws.until("ready")
        assert [(e["event"]) for e in first] == ["initial", "ready"]
        assert first[0]["data"]["items"][0]["data"] == {"n": 1}
        await put(api, "b", {"n": 2})
        await put(api, "a", {"n": 2})
        assert (await ws.event())["data"]["data"] == {"n": 2}
        await ws.do("live.subscribe", collection="notes", id="not-there")
        assert [e["event"] for e in await ws.until("ready")] == ["ready"]
        await put(api, "not-there", {"n": 9})
        assert (await ws.event())["data"]["id"] == "not-there"


@pytest.mark.spec("G4")
async def test_spec_G4_a_filter_and_what_leaves_it(api: Api) -> None:
    for number in range(10):
        await put(api, f"n{number}", {"n": number, "state": "open" if number % 2 else "done"})
    async with connected(api) as ws:
        await ws.do("live.subscribe", collection="notes", filter={"state": "open", "n": {"$lt": 8}})
        first = await ws.until("ready")
        assert [event["event"] for event in first] == ["initial", "ready"]  # `left` only of what changes from now on
        assert ids(first) == ["n1", "n3", "n5", "n7"]
        await put(api, "n1", {"n": 1, "state": "done"})
        left = await ws.event()
        assert (left["event"], set(left["data"]), left["data"]["id"]) == ("left", {"id", "collection", "version"}, "n1")
        await put(api, "n2", {"n": 2, "state": "open"})
        assert (await ws.event())["data"]["id"] == "n2"
        await api.call("DELETE", "/api/data/notes/n3")
        assert (await ws.event())["data"]["deleted"]


@pytest.mark.spec("G4")
async def test_spec_G4_what_a_document_was_before_is_not_what_there_is(api: Api) -> None:
    """While another listens, the changes that it heard are in memory; who begins then hears of the last ones only."""
    async with connected(api) as other, connected(api, "second") as ws:
        await other.do("live.subscribe", collection="notes")
        await other.until("ready")
        for state in ("open", "done"):
            await put(api, "a", {"state": state})
            await other.event()
        await put(api, "b", {"state": "open"})
        await other.event()
        await ws.do("live.subscribe", collection="notes", filter={"state": "open"})
        assert ids(await ws.until("ready")) == ["b"]
        await ws.do("live.subscribe", collection="notes")
        assert ids(await ws.until("ready")) == ["a", "b"]


async def test_a_locked_collection_is_refused(api: Api) -> None:
    await put(api, "theme", {"value": "dark"}, "settings")
    api.replica.vault = None
    async with connected(api) as ws:
        for more in ({}, {"id": "theme"}, {"filter": {"value": "dark"}}):
            assert (await ws.ask("live.subscribe", collection="settings", **more))["code"] == "secrets_locked"
        assert api.hub.listeners == 0


async def test_other_events(api: Api) -> None:
    async with connected(api) as ws:
        sub = (await ws.do("events.subscribe"))["sub"]
        await put(api, "a", {})
        api.hub.publish("sync", {"state": "in_step"})
        event = await ws.event()
        assert (event["event"], event["sub"], event["data"]) == ("sync", sub, {"state": "in_step"})
        api.hub.publish("devices")
        assert (await ws.event())["event"] == "devices"


async def test_a_feed_that_begins_again(api: Api) -> None:
    await put(api, "a", {})
    async with connected(api) as ws:
        await ws.do("live.subscribe", collection="notes")
        await ws.until("ready")
        api.hub.reset("e1")
        found = await ws.until("ready")
        assert [e["event"] for e in found] == ["reset", "initial", "ready"]
        assert found[-1]["data"]["since"].startswith("e1-")


def apply(picture: dict[str, int], seen: dict[str, int], event: dict[str, Any]) -> None:
    """What a program does with events; fails on one that it has had."""
    items = event["data"]["items"] if event["event"] == "initial" else [event["data"]]
    for item in items:
        if event["event"] == "ready":
            return
        assert item["version"] > seen.get(item["id"], 0), "told twice, or an old state after a newer one"
        seen[item["id"]] = item["version"]
        if event["event"] == "left" or item.get("deleted"):
            picture.pop(item["id"], None)
        else:
            picture[item["id"]] = item["data"]["n"]


@pytest.mark.spec("G4")
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_spec_G4_no_gap_and_no_duplicate_under_concurrent_writes(api: Api, seed: int, filtered: bool) -> None:
    """Readers begin at any moment while two programs write, change and delete; in the end all see what there is."""
    chance = random.Random(seed)
    for number in range(400):
        await put(api, f"n{number % 120}", {"n": number})
    query: dict[str, Any] = {"collection": "notes"}
    if filtered:
        query["filter"] = {"n": {"$gte": 500}}

    async def write(name: str) -> None:
        async with connected(api, name, check=False) as ws:
            for number in range(250):
                id = f"n{chance.randrange(150)}"
                if chance.random() < 0.15:
                    await ws.ask("data.delete", collection="notes", id=id, confirm=True)
                else:
                    await ws.do("data.put", collection="notes", id=id, data={"n": chance.randrange(1_000)})
                if number % 20 == 0:
                    await asyncio.sleep(0.01)

    async def read(name: str) -> tuple[dict[str, int], Ws]:
        await asyncio.sleep(chance.random() * 0.5)
        picture: dict[str, int] = {}
        seen: dict[str, int] = {}
        async with connected(api, name, check=False) as ws:
            await ws.do("live.subscribe", **query)
            is_ready = False
            while not is_ready or "end" not in picture:
                event = await ws.event()
                is_ready |= event["event"] == "ready"
                apply(picture, seen, event)
            return picture, ws

    readers = [asyncio.create_task(read(f"r{number}")) for number in range(4)]
    await asyncio.gather(write("w1"), write("w2"))
    await put(api, "end", {"n": 1_000})
    pictures = [picture for picture, _ in await asyncio.gather(*readers)]
    there: dict[str, int] = {}
    got = (await api.call("GET", "/api/data/notes?limit=1000")).body
    for item in got["items"]:
        if not filtered or item["data"]["n"] >= 500:
            there[item["id"]] = item["data"]["n"]
    assert all(picture == there for picture in pictures)
    assert len(there) > 20


async def test_spec_G4_a_reader_that_is_slow_reads_from_the_database(tmp_path: Path) -> None:
    """More changes than the memory of events holds, told to one who took none of them meanwhile."""
    async with (
        running(tmp_path) as api,
        connected(api, "writer", check=False) as writer,
        connected(api, "reader", check=False) as ws,
    ):
        await ws.do("live.subscribe", collection="notes")
        await ws.until("ready")
        ws.ws._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        body = "x" * 20_000
        for number in range(1_000):
            await writer.do("data.put", collection="notes", id=f"n{number % 700}", data={"n": number, "x": body})
        ws.ws._response.connection.transport.resume_reading()  # type: ignore[union-attr]
        picture: dict[str, int] = {}
        seen: dict[str, int] = {}
        while len(picture) < 700 or picture.get("n299") != 999:
            apply(picture, seen, await ws.event())
        assert [picture[f"n{number}"] for number in range(700)] == [*range(700, 1_000), *range(300, 700)]
        assert 1_000 * len(body) > events.MEMORY_BYTES
