"""What one contact may cost this device, and what contacts and relays repeat or make up."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from hybridgw_daemon.core.letters import Kind, Said
from hybridgw_daemon.core.uuid7 import new_uuid7
from hybridgw_daemon.services.letter_room import AGAIN_MS, LetterRoom
from hybridgw_daemon.services.message_history import parse_message_id
from hybridgw_daemon.services.people import Contact
from hybridgw_daemon.services.ports import OWNER
from hybridgw_daemon.stores import alarms
from hybridgw_daemon.stores import messages as message_rows
from hybridgw_daemon.stores import people as people_rows
from hybridgw_protocol import localapi_people as api
from hybridgw_protocol.errors import AlreadyExists, BadValue
from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.letters import FLAG_CONTACT
from hybridgw_protocol.limits import (
    CLOCK_BOUND_MS,
    DEDUPE_MS,
    MAX_FROM_ONE,
    MAX_FROM_ONE_BYTES,
    MAX_MESSAGE_TTL_MS,
    MAX_RECEIPTS,
)
from hybridgw_protocol.localapi_messages import GetMessage, ListenMessages, ListNotifications
from hybridgw_protocol.messages import MessageState
from hybridgw_storage.database import Tx

from .devices import pair, until
from .test_people import Liar, Talker, friends, letter, strangers
from .test_people_apart import Slow, becomes

BODY = 60_000


def sender_of(talker: Talker) -> bytes:
    return people_rows.foreign(talker.device.space.identity.space, talker.device.space.identity.device)


def to_tell(talker: Talker) -> list[tuple[bytes, str]]:
    """Ids and states that other people are to be told."""
    sql = "SELECT id, state FROM receipt WHERE length(recipient) = 32"
    return talker.device.database.peek(lambda c: c.execute(sql).fetchall())


async def has(ada: Talker, bob: Talker, count: int, size: int, state: str, expires_ms: int) -> None:
    """So many messages of Bob are with Ada already: as letters it would take minutes."""

    def write(tx: Tx) -> None:
        first = tx.execute("SELECT coalesce(max(rid), 0) + 1 FROM message").fetchone()[0]
        numbers = f"WITH RECURSIVE n(rid) AS (SELECT {first} UNION ALL SELECT rid + 1 FROM n LIMIT {count})"
        tx.execute(
            f"{numbers} INSERT INTO message(rid, sender, id, kind, name, place, type, client, principal, priority, "
            "created_ms, expires_ms, digest, reply, body, gap, is_open) SELECT rid, ?, randomblob(16), 'person', "
            "'people', '', 'note', '', '', 1, 0, ?, x'', x'', zeroblob(?), 0, ? FROM n",
            (sender_of(bob), expires_ms, size, int(expires_ms > 0)),
        )
        tx.execute(f"{numbers} INSERT INTO delivery SELECT rid, x'', 1, 0, 0, ?, 0, NULL, 0, NULL, 0 FROM n", (state,))
        tx.memo.clear()

    await ada.device.database.write(write)


def of(bob: Talker, ada: Talker, k: int, size: int = BODY) -> bytes:
    said = Said(kind=Kind.MESSAGE, type="note", body=b'"' + b"x" * (size - 2) + b'"')
    return letter(bob, ada, said=said, mid=k.to_bytes(16, "big"), seq=k).blob


async def used(ada: Talker, bob: Talker) -> people_rows.Used:
    person = bob.device.space.identity.space
    return await ada.device.database.write(lambda tx: people_rows.used_by(tx, person))


async def test_what_a_contact_writes_waits_at_the_relay_when_it_does_not_fit_here(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        await has(ada, bob, MAX_FROM_ONE_BYTES // BODY - 2, BODY, "delivered", 2**52)
        blobs = [of(bob, ada, k) for k in range(1, 6)]
        taken = await ada.letters.take(blobs, url)
        assert len(taken.done) == 2
        assert taken.kept == blobs[2:]
        short = of(bob, ada, 6, 10)
        assert (await ada.letters.take([short, blobs[0]], url)).kept == [
            short
        ]  # it does not overtake; what is known is
        assert (await used(ada, bob)).size <= MAX_FROM_ONE_BYTES
        assert "bob" in ada.told("person_full")[0]
        await ada.device.database.write(
            lambda tx: tx.execute("UPDATE delivery SET state = 'handled' WHERE recipient = x'' AND rid % 2")
        )
        ada.device.ahead_ms = AGAIN_MS
        assert (await ada.letters.take([*blobs[2:], short], url)).kept == []
        assert not any(isinstance(shown, tuple) for shown in ada.shown())  # none after a gap
        assert (await used(ada, bob)).size <= MAX_FROM_ONE_BYTES


async def test_a_contact_has_so_many_messages_here_and_not_more(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        await has(ada, bob, MAX_FROM_ONE, 10, "handled", 2**52)
        blob = of(bob, ada, 1)
        assert (await ada.letters.take([blob], url)).kept == [blob]  # their ids are needed still
        end_ms = ada.device.clock() - DEDUPE_MS - 1
        await ada.device.database.write(
            lambda tx: tx.execute("UPDATE message SET is_open = 0, expires_ms = ? WHERE rid % 3 = 0", (end_ms,))
        )
        ada.device.ahead_ms = AGAIN_MS
        assert (await ada.letters.take([blob], url)).kept == []
        assert (await used(ada, bob)).messages < MAX_FROM_ONE


# ---- ids that somebody else has chosen -------------------------------------------------------------------------------
async def test_whose_room_is_full_again_is_told_again(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        database, person = ada.device.database, bob.device.space.identity.space

        async def is_room() -> bool:
            """For one more, as a daemon finds it that was started now."""
            return await LetterRoom(database, clock=ada.device.clock).take(person, "bob", BODY, [])

        await has(ada, bob, MAX_FROM_ONE_BYTES // BODY, BODY, "delivered", 2**52)
        assert not await is_room()
        assert len(ada.told("person_full")) == 1
        (alarm,) = [one.id for one in database.peek(alarms.alarms) if one.code == "person_full"]
        await database.write(lambda tx: alarms.acknowledge(tx, alarm))
        assert not await is_room()
        assert ada.told("person_full") == []  # it is known
        await database.write(lambda tx: tx.execute("UPDATE delivery SET state = 'handled' WHERE rid % 3 = 0"))
        assert await is_room()
        await database.write(lambda tx: tx.execute("UPDATE delivery SET state = 'delivered'"))
        await has(ada, bob, MAX_FROM_ONE_BYTES // BODY // 4, BODY, "delivered", 2**52)
        assert not await is_room()
        assert len(ada.told("person_full")) == 1  # months later, maybe


async def test_a_letter_under_the_id_of_our_own_message_does_not_take_its_place(tmp_path: Path) -> None:
    """Programs name a message by its id: to answer, acknowledge or delete one would do so with the other."""
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        sent = await ada.send("person:bob", "mine")
        mid = parse_message_id(sent.id, "id")
        ahead = letter(bob, ada, mid=new_uuid7(ada.device.clock(), os.urandom(10)), seq=2)
        await ada.letters.take([ahead.blob], url)
        await ada.letters.take([letter(bob, ada, mid=mid).blob], url)
        assert ada.shown() == ['"by hand"']  # what came behind it, and not after a gap
        assert not (await ada.messages.history.get(OWNER, GetMessage(id=sent.id))).incoming
        assert (await ada.messages.history.notifications(OWNER, ListNotifications())).waiting == 1
        assert (mid, MessageState.EXPIRED) in to_tell(ada)
        assert len(ada.told("message_conflict")) == 1


# ---- who has agreed, and when ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", list(Kind))
async def test_what_was_said_before_they_were_asked_again_does_not_agree(tmp_path: Path, kind: Kind) -> None:
    """A relay can repeat what it once passed on."""
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        ada.people.directories = {Liar(url, bob.device.space.records()): None}
        flags = 0 if kind is Kind.MESSAGE else FLAG_CONTACT
        said = Said(kind=kind, type="note", body=b'"once"')
        old = letter(bob, ada, said=said, flags=flags, mid=b"o" * 16)
        address = ada.people.named("bob").person.hex()
        await ada.contacts.remove(OWNER, api.RemoveContact(contact="bob"))
        ada.device.ahead_ms = bob.device.ahead_ms = CLOCK_BOUND_MS + 1_000
        await ada.add(address, "bob")
        assert len((await ada.letters.take([old.blob], url)).done) == 1
        assert ada.standing("bob")[0] == "asked"
        new = letter(bob, ada, said=said, flags=flags, mid=b"n" * 16, seq=2)
        await ada.letters.take([new.blob], url)
        assert ada.standing("bob")[0] == "accepted"


# ---- receipts --------------------------------------------------------------------------------------------------------
async def test_receipts_for_a_device_that_is_gone_do_not_hide_others_and_have_an_end(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        person, now_ms = bob.device.space.identity.space, ada.device.clock()
        gone = people_rows.foreign(person, bytes(16))
        rows = [
            (gone, k.to_bytes(16, "big"), MessageState.DELIVERED, now_ms) for k in range(MAX_RECEIPTS + 1)
        ]  # fmt: skip
        await ada.device.database.write(lambda tx: message_rows.add_receipts(tx, rows))
        await ada.letters.take([letter(bob, ada).blob], url)
        parcel = ada.letters.compose(url, set())
        assert parcel is not None
        ((told,),) = parcel.receipts.values()
        assert told.recipient == sender_of(bob)
        ada.later_ms = MAX_MESSAGE_TTL_MS - 60_000
        await ada.messages.tend(trim=True)
        assert len([state for _, state in to_tell(ada) if state == MessageState.DELIVERED]) == MAX_RECEIPTS + 2
        ada.later_ms = MAX_MESSAGE_TTL_MS + 60_000
        await ada.messages.tend(trim=True)
        assert MessageState.DELIVERED not in [state for _, state in to_tell(ada)]  # that it has expired is news of now


# ---- two devices of one person ---------------------------------------------------------------------------------------
async def test_two_contacts_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Two devices that were apart have added somebody each. A message goes to neither before it says to whom."""
    async with friends(tmp_path) as (ada, bob, _, _database):
        first = ada.people.named("bob")
        other = Contact(SpaceId(bytes(16)), "bob", b"r" * 32, "", "accepted")
        await ada.people.keep(other)
        assert len([c for c in ada.people.contacts() if c.name == "bob"]) == 2
        with pytest.raises(BadValue, match=first.person.hex()) as refused:
            await ada.send("person:bob", "x")
        assert other.person.hex() in refused.value.message
        for call in (
            ada.contacts.get(OWNER, api.GetContact(contact="bob")),
            ada.contacts.block(OWNER, api.BlockContact(contact="bob")),
            ada.contacts.remove(OWNER, api.RemoveContact(contact="bob")),
        ):
            with pytest.raises(BadValue, match="2 contacts"):
                await call
        sent = await ada.send(f"person:{first.person.hex()}", "to the one")
        await becomes(ada, sent.id, "delivered")
        assert bob.shown() == ['"to the one"']
        await ada.contacts.remove(OWNER, api.RemoveContact(contact=other.person.hex()))
        assert ada.people.named("bob") == first


# ---- blocked ---------------------------------------------------------------------------------------------------------
LISTEN = ListenMessages(topics=["people"])


async def test_what_waits_is_not_shown_any_more_when_its_sender_is_blocked(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)
        ear, _ = await ada.messages.listeners.listen(OWNER, "web_app", "inbox", LISTEN, asyncio.Event())
        ear.close()
        await ada.letters.take([letter(bob, ada).blob], url)
        mine = await ada.send("topic:people", "from a program here")
        await ada.contacts.block(OWNER, api.BlockContact(contact="bob"))
        ear, waiting = await ada.messages.listeners.listen(OWNER, "web_app", "inbox", LISTEN, asyncio.Event())
        assert waiting == 1
        (event,) = await ear.part()
        assert mine.id.encode() in event
        found = (await ada.messages.history.notifications(OWNER, ListNotifications())).items
        assert [one.id for one in found] == [mine.id]
        assert ada.shown() == ['"by hand"']  # the history has it
        assert to_tell(ada) == []


async def test_what_waits_on_another_device_is_not_shown_any_more_either(tmp_path: Path) -> None:
    phone = Talker(tmp_path / "phone", "ada-phone")
    async with friends(tmp_path) as (ada, bob, url, _), phone.running():
        await pair(ada.device, phone.device)
        person = bob.device.space.identity.space
        await until(lambda: phone.people.contact(person) and phone.letters.own_records(), 30)
        await phone.messages.listeners.listen(OWNER, "web_app", "inbox", LISTEN, asyncio.Event())
        await phone.people.look_up(person)
        ahead = letter(bob, phone, mid=b"a" * 16, seq=3)
        assert (await phone.letters.take([letter(bob, phone).blob, ahead.blob], url)).kept == []
        assert (await phone.messages.history.notifications(OWNER, ListNotifications())).waiting == 1
        await ada.contacts.block(OWNER, api.BlockContact(contact="bob"))
        async with asyncio.timeout(30):
            while phone.device.database.peek(lambda c: people_rows.is_any_shown(c, person)):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)
        assert (await phone.messages.history.notifications(OWNER, ListNotifications())).waiting == 0
        ear, waiting = await phone.messages.listeners.listen(OWNER, "web_app", "inbox", LISTEN, asyncio.Event())
        assert waiting == 0
        assert await ear.part() == []


# ---- what another device decides meanwhile ---------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["accepted", "blocked"])
async def test_what_another_device_decides_while_a_relay_is_asked_stays(tmp_path: Path, state: str) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        contact = ada.people.named("bob")
        await ada.contacts.remove(OWNER, api.RemoveContact(contact="bob"))
        slow = Slow(url, bob.device.space.records())
        ada.people.directories = {slow: None}
        adding = asyncio.create_task(ada.add(contact.person.hex(), "robert"))
        await asyncio.wait_for(slow.is_asked.wait(), 30)
        decided = msgspec.structs.replace(contact, name="bobby", state=state, is_verified=True)
        await ada.people.keep(decided)
        slow.may_answer.set()
        with pytest.raises(AlreadyExists, match="bobby"):
            await adding
        assert ada.people.contact(contact.person) == decided


async def test_what_another_device_decides_while_relays_are_told_of_us_stays(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, url, _):
        await ada.add(await bob.address("Bob"), "bob")
        await until(lambda: bob.device.database.peek(people_rows.requests))
        await bob.contacts.withdraw(OWNER, api.WithdrawAddress())
        asked = bob.device.database.peek(people_rows.requests)[0]
        slow = Slow(url, [])
        bob.people.directories = {slow: None}
        accepting = asyncio.create_task(bob.accept(asked.person.hex()))
        await asyncio.wait_for(slow.is_asked.wait(), 30)
        await bob.people.keep(Contact(asked.person, "ada", asked.root, url, "accepted", is_verified=True))
        slow.may_answer.set()
        await accepting
        assert bob.standing("ada") == ("accepted", True, False)
