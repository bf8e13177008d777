"""What one person does, or a relay, must not stop letters to others; and what a person decided holds on all devices."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from hybridgw_daemon.core.letters import Kind, Said
from hybridgw_daemon.core.scopes import parse
from hybridgw_daemon.core.uuid7 import new_uuid7
from hybridgw_daemon.services.contacts import ContactService
from hybridgw_daemon.services.letters import MOST_REQUESTS, RETRY_FIRST_MS
from hybridgw_daemon.services.people import Contact, People
from hybridgw_daemon.services.ports import OWNER, Principal
from hybridgw_daemon.stores import copies
from hybridgw_daemon.stores import people as people_rows
from hybridgw_protocol import localapi_people as api
from hybridgw_protocol.errors import BadValue, DiskFull, NeedsPerson, StorageUnavailable
from hybridgw_protocol.frames import MsgStored
from hybridgw_protocol.ids import SpaceId, format_document_id
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.letters import FLAG_CONTACT
from hybridgw_protocol.limits import HOLD_MS, MAX_MESSAGE_TTL_MS
from hybridgw_protocol.localapi_devices import RemoveDevice
from hybridgw_protocol.localapi_messages import AckMessages, ListenMessages, ListMessages
from hybridgw_storage.database import Database, Tx

from .devices import invite, pair, until
from .test_people import Liar, Talker, friends, has_devices, letter, strangers

PATIENCE_S = 30.0


async def becomes(sender: Talker, id: str, *states: str) -> None:
    """Wait until a message has exactly these states at the devices that it goes to."""
    async with asyncio.timeout(PATIENCE_S):
        while await sender.goes(id) != set(states):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_a_device_that_is_out_does_not_stop_letters_to_other_people(tmp_path: Path) -> None:
    carol, phone = Talker(tmp_path / "carol", "carol-laptop"), Talker(tmp_path / "phone", "a-phone")
    async with friends(tmp_path) as (ada, bob, url, database), carol.running():
        await carol.device.relays.add(format_invite(url, await invite(database)))
        await until(lambda: carol.people.directories)
        await ada.add(await carol.address("Carol"), "carol")
        await until(lambda: carol.device.database.peek(people_rows.requests))
        await carol.accept((await carol.requests())[0].id, "ada")
        await until(lambda: ada.standing("carol")[0] == "accepted")
        (first, name), (_, other) = sorted(
            ((bob, "bob"), (carol, "carol")), key=lambda pair_: pair_[0].device.space.identity.space
        )
        async with phone.running():
            await pair(first.device, phone.device)
            await until(lambda: phone.people.contacts() and phone.letters.own_records())
            await has_devices(ada, first.device.space.identity.space, 2)
        sent = await ada.send(f"person:{name}", "the phone is off")
        await becomes(ada, sent.id, "delivered", "stored")
        await first.device.devices.remove(RemoveDevice(id=phone.device.space.identity.device.hex()))
        async with asyncio.timeout(PATIENCE_S):
            while len((await ada.people.look_up(first.device.space.identity.space))[0].keys()) > 1:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        ada.device.ahead_ms = RETRY_FIRST_MS + 1_000  # the letter to the phone would be put again
        later = await ada.send(f"person:{other}", "and to somebody else")
        await becomes(ada, later.id, "delivered")


async def test_receipts_that_a_relay_does_not_take_are_put_again_a_minute_later(tmp_path: Path) -> None:
    """A full mailbox answers at once: without a pause the two would go on as fast as they can."""
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)  # the test answers in its place
        await ada.letters.take([letter(bob, ada).blob], url)

        async def refused(code: str) -> bool:
            """The relay refuses what is to be put. Returns whether anything was."""
            parcel = ada.letters.compose(url, set())
            if parcel is None:
                return False
            assert parcel.receipts
            await ada.letters.put(
                parcel, MsgStored(ids=[], no=list(parcel.receipts), why=[code] * len(parcel.receipts))
            )
            return True

        assert await refused("quota")
        assert not await refused("quota")
        for _ in range(2):
            ada.device.ahead_ms += RETRY_FIRST_MS
            assert await refused("rate")
            assert not await refused("rate")
        ada.device.ahead_ms += RETRY_FIRST_MS
        await ada.letters.tend()  # what was refused is over: the list of devices may be a stale one
        assert [await refused("stale") for _ in range(5)] == [True] * 4 + [False]


# ---- what was decided on another device, or meanwhile ----------------------------------------------------------------
async def test_a_second_device_writes_to_a_contact_that_it_has_never_heard(tmp_path: Path) -> None:
    """It has the contact by sync alone: it asks the directory by itself, for nobody writes to it first."""
    phone = Talker(tmp_path / "phone", "ada-phone")
    async with friends(tmp_path) as (ada, bob, _, _database), phone.running():
        await pair(ada.device, phone.device)
        await until(lambda: phone.people.contacts() and phone.people.directories, PATIENCE_S)
        sent = await phone.send("person:bob", "from the phone, first of all")
        await becomes(phone, sent.id, "delivered")
        assert bob.shown() == ['"from the phone, first of all"']


async def test_who_was_blocked_on_another_device_is_asked_no_more(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        ada.people.directories = {Liar(url, [*bob.device.space.records(), *await published(bob)]): None}
        await ada.add(bob.device.space.identity.space.hex(), "bob", "shall we")
        asked = ada.letters.compose(url, set())
        assert asked is not None
        assert asked.errand is not None
        contact = ada.people.named("bob")
        for state, changed in (("blocked", b""), ("asked", b"c" * 32), ("accepted", b"")):  # as they come by sync
            await ada.people.keep(msgspec.structs.replace(contact, state=state, changed=changed))
            assert ada.letters.compose(url, set()) is None
        await ada.letters.tend()
        assert ada.device.database.peek(lambda c: people_rows.errands(c, ada.device.clock())) == []


class Slow(Liar):
    """A directory that answers when the test lets it."""

    def __init__(self, url: str, answer: list[bytes]) -> None:
        super().__init__(url, answer)
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def look_up(self, person: SpaceId, heads: list[bytes]) -> list[bytes]:
        self.is_asked.set()
        await self.may_answer.wait()
        return await super().look_up(person, heads)


async def test_who_is_blocked_while_a_relay_is_asked_about_their_letter_stays_blocked(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        kinds = {Kind.ACCEPT: FLAG_CONTACT, Kind.ASK: FLAG_CONTACT, Kind.MESSAGE: 0}
        for kind, flags in kinds.items():
            contact = msgspec.structs.replace(ada.people.named("bob"), state="asked")
            await ada.people.keep(contact)
            slow = Slow(url, [])
            ada.people.directories = {slow: None}
            ada.people._asked_s.clear()
            said = Said(kind=kind, type="n", body=b'"late"', heads=[b"not known here.."])
            made = letter(bob, ada, said=said, flags=flags, mid=str(kind).encode().ljust(16))
            taking = asyncio.create_task(ada.letters.take([made.blob], url))
            await asyncio.wait_for(slow.is_asked.wait(), PATIENCE_S)
            await ada.contacts.block(OWNER, api.BlockContact(contact="bob"))
            slow.may_answer.set()
            assert len((await taking).done) == 1
            assert ada.standing("bob")[0] == "blocked", kind
        assert ada.shown() == []
        assert ada.letters.dropped["blocked"] == 3


async def test_who_is_blocked_in_the_moment_in_which_they_agree_is_blocked(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        for k in range(20):  # which of the two is written first is not for a test to say
            await ada.people.keep(msgspec.structs.replace(ada.people.named("bob"), state="asked"))
            made = letter(bob, ada, said=Said(kind=Kind.ACCEPT), flags=FLAG_CONTACT, mid=bytes([k]) * 16)
            blocking = asyncio.create_task(ada.contacts.block(OWNER, api.BlockContact(contact="bob")))
            await asyncio.sleep(0)  # it has begun to write
            await ada.letters.take([made.blob], url)
            await blocking
            assert ada.standing("bob")[0] == "blocked", k


async def test_what_waits_for_its_turn_is_not_shown_when_its_sender_is_blocked(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.letters.take([letter(bob, ada, seq=2).blob], url)
        await ada.contacts.block(OWNER, api.BlockContact(contact="bob"))
        ada.later_ms = HOLD_MS + 1_000
        await ada.mail.tend()
        assert ada.shown() == []


async def test_agreeing_with_a_request_does_not_make_a_changed_contact_a_known_one(tmp_path: Path) -> None:
    """The request waits on this device; on another one the person has said that it is somebody whose key is another."""
    async with strangers(tmp_path) as (ada, bob, _, _database):
        await ada.add(await bob.address("Bob"), "bob")
        await until(lambda: bob.device.database.peek(people_rows.requests), PATIENCE_S)
        request = bob.device.database.peek(people_rows.requests)[0]
        await bob.people.keep(Contact(request.person, "ada", request.root, request.relay, "asked", changed=b"c" * 32))
        assert (await bob.accept(request.person.hex())).changed
        assert bob.standing("ada") == ("accepted", False, True)


async def test_two_people_whose_messages_have_one_id_are_both_heard_and_acknowledged(tmp_path: Path) -> None:
    """Who sends a message chooses its id: with another one's a program must not lose its place, nor its room."""
    carol = Talker(tmp_path / "carol", "carol")
    async with friends(tmp_path) as (ada, bob, url, _), carol.running():
        person, root = carol.device.space.identity.space, carol.device.space.root_public
        ada.people.directories = {Liar(url, [*carol.device.space.records(), *await published(carol)]): None}
        await ada.people.look_up(person)
        await ada.people.keep(Contact(person, "carol", root, url, "accepted"))
        wakened = asyncio.Event()
        ear, _waiting = await ada.messages.listeners.listen(
            OWNER, "web_app", "inbox", ListenMessages(topics=["people"]), wakened
        )
        body = Said(kind=Kind.MESSAGE, type="note", body=b'"' + b"x" * 60_000 + b'"')
        for k in range(1, 7):  # more than a program is shown at once
            mid = new_uuid7(ada.device.clock(), os.urandom(10))
            blobs = [letter(sender, ada, said=body, mid=mid, seq=k).blob for sender in (bob, carol)]
            await ada.letters.take(blobs, url)
            assert len(await ear.part()) == 2, k
            await ada.messages.ack(OWNER, AckMessages(ids=[format_document_id(mid)]), ear)
            assert ada.device.database.peek(lambda c: copies.count_waiting(c, ear.listener.nr)) == 0


async def test_nobody_can_be_called_by_the_id_of_somebody_else(tmp_path: Path) -> None:
    """Programs name a contact by its id: a stranger who calls himself so would get what is meant for the other."""
    async with friends(tmp_path) as (ada, _bob, url, database):
        mallory = Talker(tmp_path / "mallory", "mallory")
        async with mallory.running():
            await mallory.device.relays.add(format_invite(url, await invite(database)))
            await until(lambda: mallory.people.directories, PATIENCE_S)
            bobs = ada.people.named("bob").person.hex()
            await mallory.people.publish(bobs)
            await mallory.add(await ada.address(), "ada")
            await until(lambda: ada.device.database.peek(people_rows.requests), PATIENCE_S)
            asked = (await ada.requests())[0]
            for name in ("", bobs.upper(), " ".join((bobs[:16], bobs[16:]))):
                with pytest.raises(BadValue, match="looks like"):
                    await ada.accept(asked.id, name)
            contact = await ada.accept(asked.id, "mallory")
            await ada.people.keep(msgspec.structs.replace(ada.people.named("mallory"), name=bobs))
            assert ada.people.named(bobs).name == "bob"
            assert ada.people.named(contact.id).person.hex() == contact.id


async def test_a_name_is_one_word_of_the_command_that_helps(tmp_path: Path) -> None:
    """A person copies it into a shell, and a stranger chose the name."""
    async with friends(tmp_path) as (ada, _bob, _url, _database):
        contact = msgspec.structs.replace(ada.people.named("bob"), name="bob; rm -r $(pwd) `x`")
        for state, changed, verb in (("blocked", b"", "accept"), ("accepted", b"c" * 32, "verify")):
            await ada.people.keep(msgspec.structs.replace(contact, state=state, changed=changed))
            with pytest.raises(NeedsPerson) as refused:
                await ada.send(f"person:{contact.person.hex()}", "x")
            command = str(refused.value.detail["command"])
            assert shlex.split(command) == ["hybridgw", "contacts", verb, contact.name]
            assert refused.value.message.endswith(command)


# ---- what strangers cost ---------------------------------------------------------------------------------------------
async def test_strangers_whose_requests_had_to_give_way_leave_nothing(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, url, _):
        await published(bob)
        ask = letter(ada, bob, said=Said(kind=Kind.ASK, name="Ada"), flags=FLAG_CONTACT)
        bob.people.directories = {Liar(url, [*ada.device.space.records(), *await published(ada)]): None}
        await bob.letters.take([ask.blob], url)
        assert len(await bob.requests()) == 1
        assert kept_of(bob, ada) > 0
        for k in range(MOST_REQUESTS - 1):  # they are older than the next one, and younger than hers
            row = people_rows.RequestRow(
                SpaceId(k.to_bytes(16, "big")), bytes(32), "x", "", url, bob.device.clock() + 1_000 + k
            )
            await bob.device.database.write(lambda tx, r=row: people_rows.put_request(tx, r, MOST_REQUESTS))
        carol = Talker(tmp_path / "carol", "carol")
        async with carol.running():
            bob.people.directories = {Liar(url, [*carol.device.space.records(), *await published(carol)]): None}
            bob.device.ahead_ms = 10_000
            carol.device.ahead_ms = 10_000
            ask = letter(carol, bob, said=Said(kind=Kind.ASK, name="Carol"), flags=FLAG_CONTACT)
            await bob.letters.take([ask.blob], url)
            assert kept_of(bob, carol) > 0
        assert ada.device.space.identity.space.hex() not in {r.id for r in await bob.requests()}
        assert kept_of(bob, ada) == 0


async def test_a_request_whose_time_is_over_costs_no_room(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, url, _):
        await published(bob)
        ask = letter(ada, bob, said=Said(kind=Kind.ASK, name="Ada"), flags=FLAG_CONTACT)
        bob.people.directories = {Liar(url, [*ada.device.space.records(), *await published(ada)]): None}
        bob.device.ahead_ms = 120_000
        taken = await bob.letters.take([ask.blob], url)
        assert len(taken.done) == 1
        assert await bob.requests() == []
        assert kept_of(bob, ada) == 0


async def test_a_letter_from_the_future_ends_like_any_other(tmp_path: Path) -> None:
    """What it says of its time is its sender's to say, and must not keep it here for ever."""
    async with friends(tmp_path) as (ada, bob, url, _):
        bob.device.ahead_ms = 100 * 365 * 86_400_000
        made = letter(bob, ada)
        bob.device.ahead_ms = 0
        assert len((await ada.letters.take([made.blob], url)).done) == 1
        assert ada.shown() == ['"by hand"']
        sql = "SELECT created_ms, expires_ms FROM message WHERE sender <> x''"
        created_ms, expires_ms = ada.device.database.peek(lambda c: c.execute(sql).fetchone())
        assert created_ms <= ada.device.clock()
        assert expires_ms <= ada.device.clock() + MAX_MESSAGE_TTL_MS


async def published(owner: Talker) -> list[bytes]:
    """Somebody takes letters from now on. Returns the records that say so."""
    await owner.people.publish("somebody")
    return owner.letters.own_records()


def kept_of(keeper: Talker, other: Talker) -> int:
    """Control records of somebody that are kept."""
    person = other.device.space.identity.space
    return len(keeper.device.database.peek(lambda c: people_rows.records(c, person)))


async def test_a_letter_that_comes_while_the_disk_is_full_is_not_lost(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, url, _):
        await published(bob)
        bob.people.directories = {Liar(url, [*ada.device.space.records(), *await published(ada)]): None}
        note = b"n" * 400
        asks = [
            letter(ada, bob, said=Said(kind=Kind.ASK, name="Ada", body=note), flags=FLAG_CONTACT, mid=bytes([k]) * 16)
            for k in range(2)
        ]
        await bob.letters.take([asks[0].blob], url)  # her records are here then
        await bob.device.database.write(lambda tx: people_rows.delete_request(tx, ada.device.space.identity.space))
        await bob.device.database.write(_grow_no_more)
        for size in (3_000, 300, 30):  # until not even the smallest row finds room
            with pytest.raises(DiskFull):
                for k in range(1_000):
                    await bob.device.database.write(lambda tx, k=k, size=size: _fill(tx, k, size))
        with pytest.raises(DiskFull):
            await bob.letters.take([asks[1].blob], url)
        assert bob.letters.dropped == {}
        await bob.device.database.write(lambda tx: tx.execute("PRAGMA max_page_count = 1000000"))
        assert len((await bob.letters.take([asks[1].blob], url)).done) == 1
        assert "Ada" in {asked.name for asked in await bob.requests()}


def _grow_no_more(tx: Tx) -> None:
    tx.execute(f"PRAGMA max_page_count = {tx.execute('PRAGMA page_count').fetchone()[0]}")


def _fill(tx: Tx, k: int, size: int) -> None:
    person = SpaceId(size.to_bytes(8, "big") + k.to_bytes(8, "big"))
    people_rows.put_request(tx, people_rows.RequestRow(person, bytes(32), "x", "y" * size, "", 0), 10_000)


# ---- ended between two steps -----------------------------------------------------------------------------------------
class Dying:
    """A database of a process that ends after so many writes."""

    def __init__(self, database: Database, writes: int) -> None:
        self.database, self.writes = database, writes

    async def write(self, fn: Callable[[Tx], Any]) -> Any:
        if not self.writes:
            raise StorageUnavailable("The process ended here.")
        self.writes -= 1
        return await self.database.write(fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


async def test_whoever_takes_the_place_of_a_contact_never_comes_without_the_warning(tmp_path: Path) -> None:
    """The key that was pinned is forgotten only together with the note that the new one is another."""
    async with friends(tmp_path) as (ada, bob, url, database):
        anew = Talker(tmp_path / "anew", "bob-new")
        async with anew.running():
            await anew.device.relays.add(format_invite(url, await invite(database)))
            await until(lambda: anew.people.directories, PATIENCE_S)
            address, device = await anew.address("Bob"), ada.device
            for writes in range(20):
                dying = cast(Database, Dying(device.database, writes))
                people = People(dying, device.space, device.replica, clock=device.clock, wrote=device.sync.wrote)
                people.directories = ada.people.directories
                contacts = ContactService(
                    dying, device.space, people, clock=device.clock, relays=lambda: list(device.sync.peers.known),
                    noted=ada._note,
                )  # fmt: skip
                try:
                    await contacts.add(OWNER, api.AddContact(address=address, name="bob", note=""))
                except StorageUnavailable:
                    called = [contact for contact in ada.people.contacts() if contact.name == "bob"]
                    assert any(c.root == bob.device.space.root_public or c.changed for c in called), writes
                else:
                    break
            assert ada.standing("bob") == ("asked", False, True)
            assert len(ada.people.contacts()) == 1
            assert kept_of(ada, anew) > 0


async def test_sec_what_goes_to_a_person_is_for_programs_that_may_see_letters(tmp_path: Path) -> None:
    """A contact may be called like a topic or a type: the right to listen for that shows nothing of these messages."""
    async with friends(tmp_path) as (ada, bob, _, _):
        sent = await ada.send("person:bob", "for bob only")
        await becomes(ada, sent.id, "delivered")

        async def shown(talker: Talker, right: str) -> list[str]:
            program = Principal("grant:x", is_owner=False, scopes=parse(right))
            return [one.id for one in (await talker.messages.history.list(program, ListMessages())).items]

        assert await shown(ada, "listen:people") == [sent.id]
        for right in ("listen:bob", "listen:note", "listen:person"):
            assert await shown(ada, right) == []
        assert await shown(bob, "listen:people") == [sent.id]
        assert await shown(bob, "listen:ada") == []
