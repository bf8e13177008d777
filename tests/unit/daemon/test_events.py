"""The change feed for listeners: no gap, no repeat, whatever the moment they come, leave, or fall behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridgw_daemon.services import events
from hybridgw_daemon.services.events import Event, EventHub, Subscription, forget_epoch, prepare
from hybridgw_protocol.errors import BadValue, Busy
from tests.unit.daemon._services import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    task = asyncio.create_task(made.hub.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await made.database.close()


async def part(subscription: Subscription) -> list[Event]:
    return await asyncio.wait_for(anext(subscription), 30)


async def until_ready(subscription: Subscription) -> list[Event]:
    """Everything up to and with `ready`."""
    found: list[Event] = []
    while not found or found[-1].kind != "ready":
        found += await part(subscription)
    return found


def ids(found: list[Event]) -> list[str]:
    return [json.loads(e.data)["id"] for e in found if e.kind == "document"]


async def test_spec_G4_from_now_on(house: House) -> None:
    await house.put("notes", "old", {"a": 1})
    subscription = house.hub.subscribe()
    assert [e.kind for e in await part(subscription)] == ["ready"]
    await house.put("notes", "x", {"a": 1})
    (event,) = await part(subscription)
    assert (event.kind, event.seq, event.collection) == ("document", 2, "notes")
    assert json.loads(event.data) == {"id": "x", "collection": "notes", "version": 2, "conflicts": 0, "data": {"a": 1}}
    await house.delete("notes", "x")
    (event,) = await part(subscription)
    assert json.loads(event.data) == {"id": "x", "collection": "notes", "version": 3, "conflicts": 0, "deleted": True}


async def test_spec_G4_a_snapshot_then_changes(house: House) -> None:
    for k in range(600):
        await house.put("notes", f"{k:03}", {"k": k})
    await house.delete("notes", "005")
    subscription = house.hub.subscribe(since="0")
    found = await until_ready(subscription)
    assert ids(found) == [f"{k:03}" for k in range(600) if k != 5]
    await house.delete("notes", "007")
    assert ids(await part(subscription)) == ["007"]


async def test_a_listener_that_returns_gets_what_it_missed_once(house: House) -> None:
    subscription = house.hub.subscribe(since="0")
    await until_ready(subscription)
    await house.put("notes", "x", {"a": 1})
    (event,) = await part(subscription)
    subscription.close()
    await house.put("notes", "y", {"a": 1})
    await house.put("notes", "x", {"a": 2})
    await house.delete("notes", "y")
    for cursor in (f"{house.hub.epoch}-{event.seq}", str(event.seq)):
        again = house.hub.subscribe(since=cursor)
        assert ids(await until_ready(again)) == ["x", "y"]
        again.close()


@pytest.mark.parametrize("how_many", [3, 700])  # one page of the table, several
@pytest.mark.parametrize("others", [False, True])
async def test_spec_G4_what_changes_after_the_beginning_comes_after_ready(
    house: House, how_many: int, others: bool
) -> None:
    """And never before it, however long the beginning takes: who is told `ready` late would take changes for old."""
    for k in range(how_many):
        await house.put("notes", f"{k:03}", {"k": k})
    if others:  # the memory of events is kept for them
        await until_ready(house.hub.subscribe())
    from_all, returned = house.hub.subscribe(since="0", collection="notes"), house.hub.subscribe(since="1")
    await house.put("notes", "001", {"k": "later"})
    await house.put("notes", "new", {"k": 0})
    for _ in range(5):  # the hub has read them
        await asyncio.sleep(0)
    assert ids(await until_ready(from_all)) == [f"{k:03}" for k in range(how_many) if k != 1]
    assert ids(await part(from_all)) == ["001", "new"]
    assert "new" not in ids(await until_ready(returned))
    assert ids(await part(returned)) == ["001", "new"]


async def test_only_one_collection(house: House) -> None:
    subscription = house.hub.subscribe(since="0", collection="notes")
    await until_ready(subscription)
    await house.put("tasks", "t", {"title": "t"})
    await house.put("notes", "x", {"a": 1})
    assert ids(await part(subscription)) == ["x"]
    late = house.hub.subscribe(since="0", collection="notes")
    assert ids(await until_ready(late)) == ["x"]
    nothing = house.hub.subscribe(since="0", collection="empty")
    assert ids(await until_ready(nothing)) == []


@pytest.mark.parametrize("seed", range(8))
async def test_spec_G4_no_gap_and_no_repeat_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Listeners come, go and fall behind while documents change; each one's picture ends equal to the table."""
    rng = random.Random(seed)
    house = House(tmp_path)
    hub = EventHub(house.database, lambda: house.replica.vault, "e")
    task = asyncio.create_task(hub.run())
    pictures: list[tuple[Subscription, dict[str, int], list[int]]] = []

    async def follow(subscription: Subscription, picture: dict[str, int], seqs: list[int]) -> None:
        async for found in subscription:
            for event in found:
                if event.kind == "document" and event.seq is not None:
                    document = json.loads(event.data)
                    assert document["version"] == event.seq
                    seqs.append(event.seq)
                    picture[document["id"]] = -1 if document.get("deleted") else document["version"]
            if rng.random() < 0.3:
                await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        for _ in range(150):
            name = f"d{rng.randrange(12)}"
            if rng.random() < 0.2:
                with contextlib.suppress(Exception):
                    await house.delete("notes", name, confirm=True)
            else:
                await house.put("notes", name, {"n": rng.random()})
            hub.wake()
            if rng.random() < 0.1:
                picture: dict[str, int] = {}
                subscription = hub.subscribe(since="0")
                pictures.append((subscription, picture, []))
                group.create_task(follow(*pictures[-1]))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        last = house.database.peek(lambda c: c.execute("SELECT max(seq) FROM document").fetchone())[0]
        for _ in range(2_000):
            if all(seqs and seqs[-1] == last for _, _, seqs in pictures):
                break
            await asyncio.sleep(0.005)
        hub.close()
    table = dict(house.database.peek(lambda c: c.execute("SELECT id, iif(cl % 2, seq, -1) FROM document").fetchall()))
    assert pictures
    for _, picture, seqs in pictures:
        assert seqs == sorted(set(seqs)), "out of order or told twice"
        assert {k: v for k, v in picture.items() if v > 0} == {k: v for k, v in table.items() if v > 0}
    task.cancel()
    await house.database.close()


async def test_a_slow_listener_costs_no_memory_and_loses_nothing(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    hub = EventHub(house.database, lambda: None, "e", memory_events=50)
    task = asyncio.create_task(hub.run())
    slow = hub.subscribe()
    assert [e.kind for e in await part(slow)] == ["ready"]
    for k in range(400):
        await house.put("notes", f"{k:03}", {"k": k})
        hub.wake()
        await asyncio.sleep(0)
    assert len(hub._memory) <= 50
    found: list[Event] = []
    while len(found) < 400:
        found += await part(slow)
    assert ids(found) == [f"{k:03}" for k in range(400)]
    task.cancel()
    await house.database.close()


async def test_parts_are_bounded_in_bytes(house: House) -> None:
    for k in range(30):
        await house.put("notes", f"{k:03}", {"t": "x" * 60_000})
    subscription = house.hub.subscribe(since="0")
    found: list[Event] = []
    while not found or found[-1].kind != "ready":
        some = await part(subscription)
        assert sum(len(e.data) for e in some) <= events.PART_BYTES + 130_000
        found += some
    assert len(ids(found)) == 30


async def test_other_events_are_told_once_each_with_the_latest_state(house: House) -> None:
    subscription = house.hub.subscribe()
    await until_ready(subscription)
    for k in range(3):
        house.hub.publish("sync", {"k": k})
    house.hub.publish("devices")
    house.hub.publish("documents")
    found = await part(subscription)
    assert [(e.kind, e.seq, e.data) for e in found] == [("sync", None, b'{"k":2}'), ("devices", None, b"{}")]


@pytest.mark.parametrize("since", ["9", "00000000-1", "other-epoch-0"])
async def test_a_place_that_is_not_of_this_feed_begins_again(house: House, since: str) -> None:
    await house.put("notes", "x", {"a": 1})
    subscription = house.hub.subscribe(since=since)
    found = await until_ready(subscription)
    assert [e.kind for e in found] == ["reset", "document", "ready"]


@pytest.mark.parametrize("since", ["", "x", "-1", "1.5", "-", "e-", "1" * 19, "²"])
async def test_what_is_no_cursor_is_refused(house: House, since: str) -> None:
    with pytest.raises(BadValue):
        house.hub.subscribe(since=since)
    assert house.hub.listeners == 0


async def test_after_a_rebuild_listeners_begin_again(house: House) -> None:
    await house.put("notes", "x", {"a": 1})
    subscription = house.hub.subscribe()
    await until_ready(subscription)
    house.hub.reset("new")
    found = await until_ready(subscription)
    assert [e.kind for e in found] == ["reset", "document", "ready"]
    assert json.loads(found[-1].data) == {"since": "new-1"}


def test_the_epoch_stays_until_it_is_forgotten(tmp_path: Path) -> None:
    house = House(tmp_path)
    first = house.database.write_now(lambda tx: prepare(tx, os.urandom))
    assert house.database.write_now(lambda tx: prepare(tx, os.urandom)) == first == house.hub.epoch
    house.database.write_now(forget_epoch)
    assert house.database.write_now(lambda tx: prepare(tx, os.urandom)) != first
    asyncio.run(house.database.close())


async def test_listeners_are_bounded(house: House) -> None:
    for _ in range(events.MAX_LISTENERS):
        house.hub.subscribe()
    with pytest.raises(Busy):
        house.hub.subscribe()


async def test_closing_ends_the_streams(house: House) -> None:
    subscription = house.hub.subscribe()
    await until_ready(subscription)
    waiting = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    house.hub.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(Busy):
        house.hub.subscribe()


async def test_locked_documents_are_told_without_content(house: House) -> None:
    house.replica.vault, vault = None, house.replica.vault
    subscription = house.hub.subscribe(since="0")
    await until_ready(subscription)
    house.replica.vault = vault
    await house.put("settings", "theme", {"value": "planted"})
    house.replica.vault = None
    (event,) = await part(subscription)
    assert b"planted" not in event.data
    assert json.loads(event.data) == {"id": "theme", "collection": "settings", "version": 1, "conflicts": 0}
