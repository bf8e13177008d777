"""A relay that has no room for what a device writes: it is told, little is uploaded for nothing, the rest goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

from hybridgw_daemon.core.operations import Create
from hybridgw_daemon.services.peers import Peers
from hybridgw_daemon.services.room import FIRST_S, MOST_S, Room
from hybridgw_daemon.stores import alarms
from hybridgw_daemon.transports.peers.relay import WebSocketChannel
from hybridgw_protocol.invite import format_invite
from hybridgw_relay.stores.admin import set_quota
from hybridgw_storage.database import InlineDatabase, SqliteDatabase

from .devices import Device, invite, pair, relay, until

ROOM_BYTES = 400_000
NOTE_BYTES = 60_000  # of which half is left when it is sealed
MORE = 150  # notes: more than the credit of a connection


class Counted(WebSocketChannel):
    """Counts what the device uploads, and its connections."""

    sent_bytes = 0
    made = 0

    @classmethod
    async def connect(cls, url: str) -> Counted:
        cls.made += 1
        return await super().connect(url)  # type: ignore[return-value] - it makes one of its own class

    async def send(self, data: bytes) -> None:
        Counted.sent_bytes += len(data)
        await super().send(data)


def told(device: Device, *, seen: bool = False) -> list[str]:
    return [alarm.code for alarm in device.database.peek(lambda c: alarms.alarms(c, all_of_them=seen))]


async def limit(database: Path, size: int) -> None:
    """As the operator does it."""
    other = SqliteDatabase(database)
    await other.write(lambda tx: set_quota(tx, "test", max_bytes=size, max_devices=None))
    await other.close()


def notes(first: int, count: int, size: int) -> list[Any]:
    return [Create("notes", f"n{first + k}", {"text": os.urandom(size // 2).hex()}) for k in range(count)]


async def test_a_full_relay_is_told_asked_seldom_and_still_read(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", "laptop", connect=Counted.connect), Device(tmp_path / "b", "phone")
    async with a.running(), b.running(), relay(tmp_path / "relay") as (url, database):
        await a.relays.add(format_invite(url, await invite(database())))
        await pair(a, b)
        await until(lambda: b.sync.peers.conversation(url) is not None)
        await limit(database(), ROOM_BYTES)
        made, sent = Counted.made, Counted.sent_bytes
        for k in range(MORE):
            await a.write(*notes(k, 1, NOTE_BYTES))
        await until(lambda: told(a) == ["relay_quota"])
        await until(lambda: a.sync.peers.no_room())
        for _ in range(20):  # nothing more goes up, and the connection stays
            await asyncio.sleep(0.05)
        stands = Counted.sent_bytes
        await a.write(*notes(1_000, 1, 1_000))
        await asyncio.sleep(0.5)
        assert (Counted.made - made, Counted.sent_bytes - stands) == (0, 0)
        assert stands - sent < MORE * NOTE_BYTES
        status = await a.sync.status()
        assert status.state == "parked"
        assert "account is full" in str(status.message)
        assert status.relays[0].state == "connected"
        assert "account is full" in str(status.relays[0].error)

        check = await a.relays.test(url)
        assert (check.ok, check.admitted) == (True, True)
        assert "account is full" in str(check.error)

        # What a person sees and has seen is told again when it happens again; nothing is lost meanwhile.
        await a.database.write(lambda tx: tx.execute("UPDATE alarm SET acknowledged = 1"))
        await limit(database(), 100_000_000)
        assert (await a.sync.trigger(timeout_s=30)).status == "done"
        await until(lambda: len(b.shown()) == MORE + 1 and b.shown() == a.shown())
        assert told(a, seen=True) == []
        assert (await a.relays.test(url)).error is None
        assert (await a.sync.status()).state == "in_step"
        assert Counted.made == made + 2  # for the two tests
        await limit(database(), ROOM_BYTES)
        await a.write(*notes(2_000, 1, NOTE_BYTES))
        await until(lambda: told(a) == ["relay_quota"])


async def test_what_others_write_comes_while_there_is_no_room(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with a.running(), b.running(), relay(tmp_path / "relay") as (url, database):
        await a.relays.add(format_invite(url, await invite(database())))
        await pair(a, b)
        await until(lambda: b.sync.peers.conversation(url) is not None)
        await limit(database(), ROOM_BYTES)
        for k in range(16):
            await a.write(*notes(k, 1, NOTE_BYTES))
        await until(a.sync.peers.no_room)
        await b.write(*notes(1_000, 1, 1_000))  # which still has room
        await until(lambda: "n1000" in str(a.shown()))
        assert a.sync.peers.no_room()


async def test_after_a_start_it_is_asked_carefully_and_one_that_is_left_is_told_no_more(tmp_path: Path) -> None:
    async with relay(tmp_path / "relay") as (url, database):
        before = Device(tmp_path / "a", "laptop")
        async with before.running():
            await before.relays.add(format_invite(url, await invite(database())))
            await limit(database(), ROOM_BYTES)
            for k in range(16):
                await before.write(*notes(k, 1, NOTE_BYTES))
            await until(lambda: told(before) == ["relay_quota"])
        again = Device(tmp_path / "a", "laptop")
        async with again.running():
            room, now_s = again.sync.peers.rooms[url], asyncio.get_running_loop().time
            await until(lambda: room.wait_s(now_s()) > 0)  # asked, with one frame, and refused
            conversation = again.sync.peers.conversation(url)
            assert conversation is not None
            assert conversation.state.bytes_out < ROOM_BYTES
            await limit(database(), 100_000_000)
            assert (await again.sync.trigger(timeout_s=30)).status == "done"
            await until(lambda: told(again) == [])
            await limit(database(), ROOM_BYTES)
            await again.write(*notes(1_000, 1, NOTE_BYTES))
            await until(lambda: told(again) == ["relay_quota"])
            await again.relays.remove(url)
            assert told(again) == []


async def test_of_two_relays_the_one_without_room_is_told(tmp_path: Path) -> None:
    database = InlineDatabase(tmp_path / "replica.db")
    peers = Peers(database, clock=lambda: 0, published=lambda _what: None)
    for url in ("http://roomy", "http://full"):
        peers.conversations[url] = cast(Any, None)  # that there is one, is all that is looked at
        peers.rooms[url].refused("It is full.", 0.0)
    peers.rooms["http://roomy"].took()
    assert peers.no_room() == "It is full."
    del peers.conversations["http://full"]
    assert peers.no_room() is None
    await database.close()


def test_the_pause_doubles_and_ends() -> None:
    room, now_s, waits = Room(), 1_000.0, []
    for _ in range(8):
        room.refused("full", now_s)
        room.refused("full", now_s + 1)  # what was under way with it
        waits.append(room.wait_s(now_s))
        now_s += waits[-1]
        assert room.wait_s(now_s) == 0
    assert waits == [FIRST_S, 60, 120, 240, 480, MOST_S, MOST_S, MOST_S]
    room.refused("full", now_s)
    room.ask_now()
    assert room.wait_s(now_s) == 0
    room.took()
    assert room.why is None
    room.refused("full", now_s)
    assert room.wait_s(now_s) == FIRST_S
