"""The directory and the letters of a relay: who is told what, what is refused with which word, how often one asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import NamedTuple

import pytest

from hybridgw_protocol import people
from hybridgw_protocol.errors import BadFrame, RateLimited
from hybridgw_protocol.frames import DirGet, LetterFrame, LetterPut
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.letters import FLAG_CONTACT, LetterHeader, encode_letter_header
from hybridgw_protocol.limits import MAX_LETTER_BYTES, MAX_MESSAGE_TTL_MS, SHORT_HASH_BYTES
from hybridgw_protocol.messages import Priority
from hybridgw_protocol.records import XKey, sign_record
from hybridgw_relay.core.control import ControlView
from hybridgw_relay.core.quotas import PeopleLimits, PeopleRates
from hybridgw_relay.fanout.local import LocalFanout
from hybridgw_relay.services.host import Host
from hybridgw_relay.services.people import (
    FRAME_BYTES,
    WINDOW,
    WINDOW_BYTES,
    WINDOW_OF_ONE,
    LetterStream,
    PeopleService,
)
from hybridgw_relay.services.spaces import Space, Spaces
from hybridgw_relay.stores import admin
from hybridgw_relay.stores.base import DeviceRow, LetterRow
from hybridgw_relay.stores.sqlite import SqliteRelayStore
from hybridgw_storage.database import InlineDatabase
from tests.relay_client import Family, Keys

NOW_MS = 1_800_000_000_000
INVITES = (bytes(31) + b"a", bytes(31) + b"b")


class Clock:
    """What a test sets."""

    ms = 0


class Bench(NamedTuple):
    """Two spaces on one relay: Ada's and Bob's."""

    service: PeopleService
    store: SqliteRelayStore
    ada: Family
    bob: Family
    spaces: tuple[Space, Space]
    clock: Clock


def publish(family: Family, keys: Keys, made_ms: int = NOW_MS, public: bytes | None = None) -> tuple[bytes, bytes]:
    """A record by which a device takes letters, and the id of its key. Args: public: NO_KEY: by which it takes none."""
    public = public or family.rng.randbytes(32)
    payload = XKey(
        space=family.space, prevs=tuple(family.control.signing_heads), by=family.seat(keys), ts=5,
        body=people.encode_xkey(public, made_ms),
    )  # fmt: skip
    return sign_record(payload, keys.secret), people.xkey_id(public)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    path, clock = tmp_path / "relay.db", Clock()
    with admin.opened(path, stamp="x", must_exist=False) as database:
        for digest in INVITES:
            database.write_now(
                lambda tx, d=digest: admin.create_invite(  # type: ignore[misc]  # bound now
                    tx, "all", d, now_ms=0, expires_ms=NOW_MS, default_bytes=2**30, default_devices=32,
                    max_bytes=None, max_devices=None,
                )
            )  # fmt: skip
    store = SqliteRelayStore(InlineDatabase(path))
    host = Host(lambda: NOW_MS, lambda: clock.ms, os.urandom, asyncio.to_thread)
    spaces, families = Spaces(store, LocalFanout(), host), (Family(1), Family(2))
    for family, digest in zip(families, INVITES, strict=True):
        view = ControlView(family.space)
        added, _ = view.add(family.records)
        devices = {device: DeviceRow(sign, active) for device, sign, active in view.devices()}
        await store.register(family.space, digest, added, view.heads(), devices, 5)
    ada, bob = (spaces.find(family.space) for family in families)
    assert ada is not None
    assert bob is not None
    limits = PeopleLimits(looks_per_s=1, look_burst=5, letters_per_s=1, letter_burst=50, contact_burst=3)
    yield Bench(PeopleService(store, spaces, host, PeopleRates(limits)), store, *families, (ada, bob), clock)
    await store.close()


def letter(
    bench: Bench, key: bytes, *, k: int = 1, flags: int = 0, to: DeviceId | None = None, **more: object
) -> bytes:
    """A letter of Ada's first device to one of Bob's. The relay cannot look inside, so nothing is there."""
    fields = {
        "flags": flags, "space": bench.ada.space, "to": bench.bob.space, "id": k.to_bytes(16, "big"),
        "sender": bench.ada.first.id, "recipient": to or bench.bob.first.id, "stream": LogId(0 if flags else 7),
        "seq": 0 if flags else k, "priority": Priority.NORMAL, "created_ms": NOW_MS, "expires_ms": NOW_MS + 1_000,
        "key": key, "nonce": bytes(24),
    } | more  # fmt: skip
    return encode_letter_header(LetterHeader(**fields)) + bytes(80 + 272)  # type: ignore[arg-type]


def heads(family: Family) -> list[bytes]:
    return [head[:SHORT_HASH_BYTES] for head in family.control.heads]


async def put(bench: Bench, *letters: bytes, known: list[bytes] | None = None) -> list[str]:
    """What becomes of letters: '' or the code, in the order of their ids."""
    frame = LetterPut(sp=bench.bob.space, heads=heads(bench.bob) if known is None else known, m=list(letters))
    answer = await bench.service.put(bench.spaces[0], bench.ada.first.id, frame)
    words = dict.fromkeys(answer.ids, "") | dict(zip(answer.no, answer.why, strict=True))
    return [words[raw[66:82] + raw[34:50]] for raw in letters]


async def look(bench: Bench, person: SpaceId, known: list[bytes] | None = None) -> list[bytes]:
    return await bench.service.look_up(bench.spaces[0], DirGet(sp=person, heads=known or []))


# ---- the directory ---------------------------------------------------------------------------------------------------
async def test_spec_R6_only_who_takes_letters_is_in_the_directory(bench: Bench) -> None:
    assert await look(bench, bench.bob.space) == await look(bench, SpaceId(b"?" * 16)) == []
    record, key = publish(bench.bob, bench.bob.first)
    assert await bench.spaces[1].add_control([record], source=None) is None
    assert await look(bench, bench.bob.space) == [*bench.bob.records, record]
    known = people.Known.begin(bench.bob.space)
    known.learn(await look(bench, bench.bob.space))
    assert known.root == bench.bob.root_public
    assert {device: found.id for device, found in known.keys().items()} == {bench.bob.first.id: key}
    assert await look(bench, bench.bob.space, heads(bench.bob)) == [record]  # who knows the rest gets the keys


async def test_of_each_device_the_two_newest_keys_count_and_of_one_that_is_out_none(bench: Bench) -> None:
    phone = bench.bob.add()
    made = [publish(bench.bob, keys, NOW_MS + k) for k, keys in enumerate((phone, phone, phone, bench.bob.first))]
    await bench.spaces[1].add_control([bench.bob.records[-1], *(record for record, _ in made)], source=None)
    found = await look(bench, bench.bob.space, heads(bench.bob))
    assert set(found) == {made[1][0], made[2][0], made[3][0]}
    assert await put(bench, letter(bench, made[0][1], to=phone.id), letter(bench, made[1][1], to=phone.id, k=2)) == [
        "stale", "",
    ]  # fmt: skip
    await bench.spaces[1].add_control([bench.bob.remove(phone)], source=None)
    assert set(await look(bench, bench.bob.space, heads(bench.bob))) == {made[3][0]}
    assert await put(bench, letter(bench, made[2][1], to=phone.id, k=3)) == ["revoked"]


async def test_spec_R6_who_takes_the_key_back_is_out_of_the_directory_and_may_return(bench: Bench) -> None:
    phone = bench.bob.add()
    laptop, first = publish(bench.bob, bench.bob.first)
    other, second = publish(bench.bob, phone)
    over, _ = publish(bench.bob, bench.bob.first, NOW_MS + 1, people.NO_KEY)
    await bench.spaces[1].add_control([bench.bob.records[-1], laptop, other, over], source=None)
    known = people.Known.begin(bench.bob.space)
    known.learn([*bench.bob.records, laptop])  # as a contact who met it before
    found = await look(bench, bench.bob.space, heads(bench.bob))
    assert set(found) == {other, over}
    known.learn(found)
    assert {device: key.id for device, key in known.keys().items()} == {phone.id: second}
    assert await put(bench, letter(bench, first)) == ["revoked"]

    gone, _ = publish(bench.bob, phone, NOW_MS + 1, people.NO_KEY)
    await bench.spaces[1].add_control([gone], source=None)
    assert await look(bench, bench.bob.space) == []  # as of somebody who does not exist
    assert await put(bench, letter(bench, second, to=phone.id)) == ["not_admitted"]

    again, third = publish(bench.bob, phone, NOW_MS + 2)
    await bench.spaces[1].add_control([again], source=None)
    assert set(await look(bench, bench.bob.space, heads(bench.bob))) == {over, again}
    assert await put(bench, letter(bench, second, to=phone.id), letter(bench, third, to=phone.id, k=2)) == ["stale", ""]


async def test_one_person_asks_so_often_and_not_more(bench: Bench) -> None:
    for _ in range(5):
        await look(bench, bench.bob.space)
    with pytest.raises(RateLimited) as refused:
        await look(bench, bench.bob.space)
    assert refused.value.detail["retry_ms"]
    await bench.service.look_up(bench.spaces[1], DirGet(sp=bench.ada.space))  # another one may
    bench.clock.ms += 1_001
    await look(bench, bench.bob.space)


# ---- letters ---------------------------------------------------------------------------------------------------------
async def test_spec_R6_a_letter_is_kept_or_refused_with_a_word(bench: Bench) -> None:
    assert await put(bench, letter(bench, b"k" * 8)) == ["not_admitted"]
    record, key = publish(bench.bob, bench.bob.first)
    await bench.spaces[1].add_control([record], source=None)
    assert await put(bench, letter(bench, key), letter(bench, b"?" * 8, k=2)) == ["", "stale"]
    assert await put(bench, letter(bench, key, k=3, to=DeviceId(b"?" * 16))) == ["revoked"]
    assert await put(bench, letter(bench, key, k=4, created_ms=NOW_MS - 10, expires_ms=NOW_MS)) == ["expired"]
    old = heads(bench.bob)
    bench.bob.add()
    await bench.spaces[1].add_control([bench.bob.records[-1]], source=None)
    assert await put(bench, letter(bench, key, k=5), known=old) == ["stale"]  # who belongs has changed
    assert await put(bench, letter(bench, key, k=5), known=[]) == ["stale"]
    assert await put(bench, letter(bench, key, k=5)) == [""]
    assert await put(bench, letter(bench, key)) == [""]  # once more: acknowledged, kept once
    stored = bench.store.letters(bench.spaces[1].sid, bench.bob.first.id, 10)
    assert [row.id[-1] for _, row in stored] == [1, 5]


async def test_a_device_puts_only_its_own_letters(bench: Bench) -> None:
    record, key = publish(bench.bob, bench.bob.first)
    await bench.spaces[1].add_control([record], source=None)
    for wrong in (
        letter(bench, key, space=SpaceId(b"?" * 16)),
        letter(bench, key, sender=DeviceId(b"?" * 16)),
        letter(bench, key, to=None, **{"recipient": bench.bob.first.id}) + bytes(72_000),
        b"",
    ):
        with pytest.raises(BadFrame):
            await put(bench, wrong)
    with pytest.raises(BadFrame):  # for another person than the frame says
        frame = LetterPut(sp=bench.ada.space, heads=[], m=[letter(bench, key)])
        await bench.service.put(bench.spaces[0], bench.ada.first.id, frame)
    assert bench.store.letters(bench.spaces[1].sid, bench.bob.first.id, 10) == []


async def test_spec_R6_letters_above_the_rate_are_refused_each_by_itself(bench: Bench) -> None:
    record, key = publish(bench.bob, bench.bob.first)
    await bench.spaces[1].add_control([record], source=None)
    asks = [letter(bench, key, k=k, flags=FLAG_CONTACT) for k in range(1, 5)]
    assert await put(bench, *asks) == ["", "", "", "rate"]
    many = [letter(bench, key, k=100 + k) for k in range(50)]
    assert (await put(bench, *many)).count("rate") == 4  # the asks counted as letters too, and the refused one
    bench.clock.ms += 2_000
    assert await put(bench, letter(bench, key, k=200), letter(bench, key, k=201)) == ["", ""]


class Reader:
    """A connection of Bob's laptop. said: what it was sent, by person and number."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.said = bench, list[tuple[int, int]]()
        self._new: list[bytes] = []
        self.stream = LetterStream(bench.store, bench.spaces[1], bench.bob.first.id, self._send)

    def _send(self, frame: LetterFrame) -> None:
        assert sum(map(len, frame.m)) < FRAME_BYTES + MAX_LETTER_BYTES
        self.said += [(blob[0], blob[1]) for blob in frame.m]
        self._new += [bytes([blob[0]]) * 16 + bytes([blob[1]]) * 16 for blob in frame.m]

    async def put(self, person: int, numbers: range, size: int = 600) -> None:
        """Letters of somebody."""
        who = SpaceId(bytes([person]) * 16)
        await self.bench.store.wrote(self.bench.spaces[1].sid, who, NOW_MS)
        rows = [
            LetterRow(
                self.bench.bob.first.id, who, DeviceId(who), bytes([k]) * 16, 1, NOW_MS + 9,
                bytes([person, k]) + bytes(size - 2),
            )
            for k in numbers
        ]  # fmt: skip
        assert await self.bench.store.put_letters(self.bench.spaces[1].sid, rows) == [True] * len(rows)

    async def done(self, but: Collection[int] = ()) -> None:
        """It has what it was sent, but what is of these people."""
        keys, self._new = [key for key in self._new if key[0] not in but], []
        await self.bench.service.done(self.bench.spaces[1], self.bench.bob.first.id, keys)
        self.stream.done(keys)


async def test_a_device_is_sent_so_many_at_once_and_the_rest_when_it_has_those(bench: Bench) -> None:
    reader = Reader(bench)
    for person in range(1, 21):
        await reader.put(person, range(20))
    reader.stream.wake()
    reader.stream.wake()
    assert len(reader.said) == WINDOW
    assert {person for person, _ in reader.said} == set(range(1, WINDOW // WINDOW_OF_ONE + 1))
    for _ in range(5):
        await reader.done()
    assert reader.said == sorted(set(reader.said), key=reader.said.index)  # each once
    assert len(reader.said) == 20 * 20
    for person in range(1, 21):
        assert [k for who, k in reader.said if who == person] == list(range(20))


async def test_what_a_device_does_not_take_of_one_person_does_not_hold_back_others(bench: Bench) -> None:
    """A contact whose key changed: their letters wait until a person has decided, long ones and many."""
    reader = Reader(bench)
    stuck = range(1, 13)
    for person in stuck:
        await reader.put(person, range(20), 60_000)
    for person in (100, 101):
        await reader.put(person, range(30), 30_000)
    reader.stream.wake()
    for _ in range(30):
        await reader.done(stuck)
    assert {who for who, _ in reader.said} == {*stuck, 100, 101}
    assert len([who for who, _ in reader.said if who >= 100]) == 60
    assert sum(60_000 for who, _ in reader.said if who in stuck) <= WINDOW_BYTES
    await reader.put(102, range(1))
    reader.stream.wake()
    assert reader.said[-1] == (102, 0)


async def test_letters_that_are_refused_count_too(bench: Bench) -> None:
    """Who belongs to a person who is not connected is worked out anew for each frame: that must have an end."""
    record, _ = publish(bench.bob, bench.bob.first)
    await bench.spaces[1].add_control([record], source=None)
    bad = [letter(bench, b"?" * 8, k=k) for k in range(1, 61)]
    assert (await put(bench, *bad)).count("rate") == 10  # the burst is 50
    assert await put(bench, *bad) == ["rate"] * 60
    assert await put(bench) == []
    bench.clock.ms += 2_000
    assert (await put(bench, *bad[:4])).count("stale") == 2


async def test_whom_a_person_wrote_to_is_no_stranger(bench: Bench) -> None:
    """The relay cannot know who is a contact. It sees who wrote to whom: nobody can bring that about for another."""
    record, key = publish(bench.bob, bench.bob.first)
    await bench.spaces[1].add_control([record], source=None)

    def known() -> list[tuple[int, bytes]]:
        return bench.store._db.peek(lambda c: c.execute("SELECT sid, person FROM acquaintance").fetchall())

    assert await put(bench, letter(bench, b"?" * 8)) == ["stale"]
    assert known() == []  # what is refused was not written
    assert await put(bench, letter(bench, key)) == [""]
    assert known() == [(bench.spaces[0].sid, bench.bob.space)]


async def test_a_letter_from_the_future_is_kept_no_longer_than_any_other(bench: Bench) -> None:
    record, key = publish(bench.bob, bench.bob.first)
    await bench.spaces[1].add_control([record], source=None)
    far_ms = NOW_MS + 100 * MAX_MESSAGE_TTL_MS
    assert await put(bench, letter(bench, key, created_ms=far_ms, expires_ms=far_ms + 1_000)) == [""]
    ((_, row),) = bench.store.letters(bench.spaces[1].sid, bench.bob.first.id, 10)
    assert row.expires_ms == NOW_MS + MAX_MESSAGE_TTL_MS
