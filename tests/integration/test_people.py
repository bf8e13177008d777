"""Two people with devices of their own, through a real relay; and what strangers, thieves and a relay that lies try."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.bindings import crypto_sign_seed_keypair

from hybridgw_daemon.core.letters import Kind, Said, seal_letter
from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.services.contacts import ContactService
from hybridgw_daemon.services.letters import LetterService
from hybridgw_daemon.services.people import People
from hybridgw_daemon.services.ports import OWNER
from hybridgw_daemon.stores import alarms
from hybridgw_daemon.stores import people as people_rows
from hybridgw_protocol import localapi_people as api
from hybridgw_protocol.errors import AlreadyExists, BadFrame, BadValue, NeedsPerson, NotFound, Offline, WrongCode
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.letters import FLAG_CONTACT, Letter, LetterHeader
from hybridgw_protocol.limits import HOLD_MS, MESSAGE_KEY_KEPT_MS, MESSAGE_KEY_MS
from hybridgw_protocol.localapi_devices import RemoveDevice
from hybridgw_protocol.localapi_messages import AckMessages, ExplainMessage
from hybridgw_protocol.messages import Priority
from hybridgw_protocol.people import MessageKey

from .devices import invite, pair, relay, until
from .test_mail import Talking

DAY_MS = 86_400_000


class Talker(Talking):
    """A device whose person has contacts."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        device = self.device
        self.people = self.messages.addressing.others = People(
            device.database,
            device.space,
            device.replica,
            clock=device.clock,
            wrote=device.sync.wrote,
        )
        self.people.wake = device.sync.peers.wake
        self.letters = device.sync.letters = LetterService(
            device.database, device.space, self.people, self.mail, add_records=device.sync.add_records,
            told=self.messages.told,
            clock=device.clock, entropy=os.urandom, wake=device.sync.peers.wake,
        )  # fmt: skip
        self.noted: list[str] = []
        self.contacts = ContactService(
            device.database, device.space, self.people, clock=device.clock,
            relays=lambda: list(device.sync.peers.known), noted=self._note,
        )  # fmt: skip

    async def _note(self, action: str, **_detail: object) -> None:
        self.noted.append(action)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with super().running():
            self.letters.unlocked(RestSealer(bytes(31) + b"\1"))
            task = asyncio.create_task(self.letters.run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # ---- what its person does ----------------------------------------------------------------------------------------
    async def address(self, name: str = "") -> str:
        return (await self.contacts.publish(OWNER, api.PublishAddress(name=name))).address

    async def add(self, address: str, name: str, note: str = "") -> api.Contact:
        return await self.contacts.add(OWNER, api.AddContact(address=address, name=name, note=note))

    async def requests(self) -> list[api.ContactRequest]:
        return (await self.contacts.requests(OWNER, api.ListContactRequests())).items

    async def accept(self, who: str, name: str = "") -> api.Contact:
        return await self.contacts.accept(OWNER, api.AcceptContact(contact=who, name=name))

    async def number(self, who: str) -> str:
        return str((await self.contacts.get(OWNER, api.GetContact(contact=who))).number)

    async def verify(self, who: str, number: str) -> api.Contact:
        return await self.contacts.verify(OWNER, api.VerifyContact(contact=who, number=number))

    async def rename(self, who: str, name: str) -> api.Contact:
        return await self.contacts.rename(OWNER, api.RenameContact(contact=who, name=name))

    def standing(self, who: str) -> tuple[str, bool, bool]:
        """Of a contact: state, verified, changed."""
        found = self.people.named(who)
        return found.state, found.is_verified, bool(found.changed)

    def told(self, code: str) -> list[str]:
        """Messages of the alarms of one kind."""
        found = self.device.database.peek(alarms.alarms)
        return [alarm.message for alarm in found if alarm.code == code]

    async def goes(self, id: str) -> set[str]:
        return {state for _, state in await self.state(id)}


async def comes(sender: Talker, id: str, *states: str) -> None:
    async with asyncio.timeout(30):
        while not await sender.goes(id) <= set(states):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def strangers(folder: Path) -> AsyncIterator[tuple[Talker, Talker, str, Path]]:
    """Ada and Bob, connected with one relay, who do not know each other; its URL and database."""
    ada, bob = Talker(folder / "ada", "ada-laptop"), Talker(folder / "bob", "bob-laptop")
    async with relay(folder / "relay") as (url, database), ada.running(), bob.running():
        for person in (ada, bob):
            await person.device.relays.add(format_invite(url, await invite(database())))
            await until(lambda p=person: p.people.directories)
        yield ada, bob, url, database()


@contextlib.asynccontextmanager
async def friends(folder: Path) -> AsyncIterator[tuple[Talker, Talker, str, Path]]:
    """The same, who have agreed."""
    async with strangers(folder) as (ada, bob, url, database):
        await ada.add(await bob.address("Bob"), "bob")
        await until(lambda: bob.device.database.peek(people_rows.requests))
        await bob.accept((await bob.requests())[0].id, "ada")
        await until(lambda: ada.standing("bob")[0] == "accepted")
        yield ada, bob, url, database


async def has_devices(looker: Talker, person: SpaceId, count: int) -> None:
    """The relay knows message keys of so many devices of a person."""
    async with asyncio.timeout(30):
        while len((await looker.people.look_up(person))[0].keys()) < count:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)


def letter(
    sender: Talker, to: Talker, *, said: Said | None = None, sign_secret: bytes | None = None, mid: bytes = b"m" * 16,
    seq: int = 1, flags: int = 0, space: bytes | None = None, device: bytes | None = None,
) -> Letter:  # fmt: skip
    """A letter made by hand, in order in all that is not said."""
    own, key = sender.device.space.identity, _newest_key(to)
    header = LetterHeader(
        flags, SpaceId(space or own.space), to.device.space.identity.space, mid, DeviceId(device or own.device),
        to.device.space.identity.device, LogId(0 if flags else 7), 0 if flags else seq, Priority.NORMAL,
        sender.device.clock(), sender.device.clock() + 60_000, key.id, os.urandom(24),
    )  # fmt: skip
    return seal_letter(
        header, said or Said(kind=Kind.MESSAGE, type="note", body=b'"by hand"'), to=key,
        sign_secret=sign_secret or own.sign_secret, letter_key=os.urandom(32), ephemeral_secret=os.urandom(32),
    )  # fmt: skip


def _newest_key(owner: Talker) -> MessageKey:
    held = owner.device.database.peek(lambda c: people_rows.keys(c, owner.device.space.identity.space))
    return owner.letters._pair(held[0].id).key


# ---- becoming contacts -----------------------------------------------------------------------------------------------
async def test_spec_R6_a_message_to_a_person_arrives_with_every_state(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        assert await ada.number("bob") == await bob.number("ada")
        with pytest.raises(WrongCode, match="not the number"):
            await ada.verify("bob", "0" * 60)
        with pytest.raises(BadValue, match="60 digits"):
            await ada.verify("bob", "12345")
        assert ada.standing("bob") == ("accepted", False, False)
        await ada.verify("bob", await bob.number("ada"))
        assert ada.standing("bob") == ("accepted", True, False)

        sent = await ada.send("person:bob", {"text": "hello"}, priority="urgent")
        assert (sent.person, sent.state) == ("bob", "queued")
        await comes(ada, sent.id, "delivered")
        assert bob.shown() == ['{"text":"hello"}']
        await bob.messages.ack(OWNER, AckMessages(ids=[sent.id]), None)
        await comes(ada, sent.id, "handled")
        back = await bob.send(f"person:{ada.device.space.identity.space.hex()}", "and back", reply_to=sent.id)
        await comes(bob, back.id, "delivered")
        assert ada.noted == ["contact.asked", "contact.verified"]
        assert bob.noted == ["contact.accepted"]
        route = await ada.messages.routing.explain(OWNER, ExplainMessage(type="x", to="person:bob"))
        assert route.steps[0].problem is None
        assert [c.relay for c in (await ada.contacts.list(OWNER, api.ListContacts())).items] == [url]


async def test_spec_R6_all_devices_of_both_people_take_part(tmp_path: Path) -> None:
    phone = Talker(tmp_path / "phone", "bob-phone")
    async with friends(tmp_path) as (ada, bob, url, _), phone.running():
        await pair(bob.device, phone.device)
        await until(lambda: phone.people.contacts() and phone.letters.own_records())  # both by sync
        await has_devices(bob, bob.device.space.identity.space, 2)
        sent = await ada.send("person:bob", "to all of you")  # ada does not know of the phone yet
        await until(lambda: bob.shown() and phone.shown())
        await comes(ada, sent.id, "delivered")
        assert len(await ada.state(sent.id)) == 2
        answer = await phone.send("person:ada", "from the phone")
        await comes(phone, answer.id, "delivered")
        assert ada.shown() == ['"from the phone"']

        # A device that is put out gets nothing more, and what it still says is not believed.
        await bob.device.devices.remove(RemoveDevice(id=phone.device.space.identity.device.hex()))
        await until(lambda: not phone.device.space.is_active or not phone.people.directories)
        later = await ada.send("person:bob", "not for the phone")
        await comes(ada, later.id, "delivered")
        assert phone.shown() == ['"to all of you"']
        taken = await ada.letters.take([letter(phone, ada, mid=b"late".ljust(16)).blob], url)
        assert len(taken.done) == 1
        assert ada.letters.dropped == {"cannot_open": 1}
        assert ada.shown() == ['"from the phone"']


async def test_what_is_said_before_the_other_agrees_waits(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, _, _database):
        await ada.add(await bob.address(), "bob", "it is me")
        first = await ada.send("person:bob", 1)
        second = await ada.send("person:bob", 2)
        await until(lambda: bob.device.database.peek(people_rows.requests))
        asked = await bob.requests()
        assert [(r.name, r.note, r.known) for r in asked] == [("ada-laptop", "it is me", None)]
        assert await ada.goes(first.id) == {"queued"}
        await bob.accept("ada-laptop")
        await comes(ada, second.id, "delivered")
        assert bob.shown() == ["1", "2"]


async def test_spec_R6_an_address_that_is_taken_back_is_found_by_nobody_until_it_is_told_again(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, _, _database):
        (directory,), person = ada.people.directories, bob.device.space.identity.space
        assert await directory.look_up(person, [])
        own = await bob.contacts.withdraw(OWNER, api.WithdrawAddress())
        assert (own.published, own.name) == (False, "")
        assert await bob.contacts.withdraw(OWNER, api.WithdrawAddress()) == own  # said twice
        assert await directory.look_up(person, []) == []
        with pytest.raises(NeedsPerson, match="contacts address"):  # he would get no answer
            await bob.send("person:ada", "a question")

        assert (await bob.address("Bob")) == own.address
        assert await directory.look_up(person, [])
        sent = await ada.send("person:bob", "there you are")
        await comes(ada, sent.id, "delivered")
        assert bob.shown() == ['"there you are"']


async def test_what_is_written_to_an_address_that_was_taken_back_waits(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, _, _database):
        await bob.contacts.withdraw(OWNER, api.WithdrawAddress())
        sent = await ada.send("person:bob", "are you there")
        await until(
            lambda: ada.device.database.peek(lambda c: c.execute("SELECT 1 FROM letter WHERE tries > 0").fetchone())
        )
        assert await ada.goes(sent.id) == {"queued"}
        await bob.address("Bob")
        ada.device.ahead_ms += 61_000  # she tries again
        await comes(ada, sent.id, "delivered")
        assert bob.shown() == ['"are you there"']


async def test_addresses_that_lead_nowhere(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, _url, _):
        own = await ada.address()
        with pytest.raises(BadValue, match="your own"):
            await ada.add(own, "me")
        with pytest.raises(NotFound, match="No relay knows"):
            await ada.add("0" * 32, "nobody")
        unpublished = (await bob.contacts.own_address(OWNER, api.GetOwnAddress())).address
        with pytest.raises(NotFound, match="No relay knows"):  # the same words: it is not told that there is a space
            await ada.add(unpublished, "bob")
        with pytest.raises(NotFound, match="relay add LINK"):
            await ada.add(unpublished.split("@")[0] + "@relay.example.com", "bob")
        with pytest.raises(BadValue, match="32 digits"):
            await ada.add("bob@example.com", "bob")
        with pytest.raises(NotFound):
            await ada.send("person:bob", "x")
        with pytest.raises(BadValue, match="no @ stands behind"):
            await ada.send("person:bob@phone", "x")
        assert ada.people.contacts() == []
        ada.people.directories.clear()
        with pytest.raises(Offline):
            await ada.add(await bob.address(), "bob")


async def test_spec_R6_each_once_and_in_order_whatever_connection_breaks(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, _, _database):
        sent = []
        for k in range(24):
            sent.append(await ada.send("person:bob", k))
            if k % 3 == 0:
                (ada, bob)[k % 2].device.gateway.reconnect(full=True)
                await asyncio.sleep(0.02)
        await until(lambda: len(bob.shown()) >= 24, 20)
        for message in sent:
            await comes(ada, message.id, "delivered")
        assert bob.shown() == [str(k) for k in range(24)]


# ---- who may not -----------------------------------------------------------------------------------------------------
async def test_a_forged_sender_is_not_believed(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        mallory = Talker(tmp_path / "mallory", "mallory")
        async with mallory.running():
            _, stranger = crypto_sign_seed_keypair(os.urandom(32))
            own = ada.device.space.identity
            forged = [
                letter(ada, bob, sign_secret=stranger),  # in her name, by another key
                letter(mallory, bob, space=own.space),  # her person, another device
                letter(mallory, bob, space=own.space, device=own.device),  # her device, his signature
                letter(mallory, bob),  # nobody he knows
            ]
            bob.people._asked_s.clear()  # he may look her up again
            taken = await bob.letters.take([made.blob for made in forged], url)
        assert (len(taken.done), taken.kept) == (4, [])
        assert bob.letters.dropped == {"bad_signature": 2, "cannot_open": 1, "stranger": 1}
        assert bob.shown() == []
        for broken in (b"", b"x" * 499):
            with pytest.raises(BadFrame):
                await bob.letters.take([broken], url)
        # Her own letter counts once, however often a relay brings it; another place in the order is not hers.
        true = letter(ada, bob, mid=b"t" * 16)
        for _ in range(3):
            await bob.letters.take([true.blob], url)
        assert bob.shown() == ['"by hand"']
        moved = true.blob[:90] + (2).to_bytes(8, "big") + true.blob[98:]
        await bob.letters.take([moved], url)
        assert bob.letters.dropped["cannot_open"] == 2
        assert bob.shown() == ['"by hand"']


async def test_a_letter_for_one_cannot_be_handed_on_to_another(tmp_path: Path) -> None:
    """Bob seals what Ada signed for him to somebody else, who is a contact of hers too."""
    async with friends(tmp_path) as (ada, bob, url, _):
        carol = Talker(tmp_path / "carol", "carol")
        async with carol.running():
            await carol.device.database.write(lambda tx: None)
            await carol.people.publish("Carol")
            contact = bob.people.named("ada")
            await carol.people.keep(contact)
            await carol.people._learn(
                contact.person, carol.people.known(contact.person), [r.raw for r in _records(bob, contact.person)]
            )
            true = letter(ada, bob)
            opened = bob.letters._pair(true.header.key)
            signed = _content(true, opened)
            header = msgspec.structs.replace(
                true.header, to=carol.device.space.identity.space, recipient=carol.device.space.identity.device,
                key=_newest_key(carol).id,
            )  # fmt: skip
            handed = _sealed_anew(header, signed, _newest_key(carol))
            await carol.letters.take([handed.blob], url)
            assert carol.letters.dropped == {"bad_signature": 1}
            assert carol.shown() == []


def _records(owner: Talker, person: SpaceId) -> list[Any]:
    return [*owner.people.known(person).control.since(0)]


def _content(made: Letter, pair_: Any) -> bytes:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_box_seal_open

    key = crypto_box_seal_open(made.box, pair_.key.public, pair_.secret)
    return crypto_aead_xchacha20poly1305_ietf_decrypt(made.ciphertext, made.raw + made.box, made.header.nonce, key)


def _sealed_anew(header: LetterHeader, plain: bytes, key: MessageKey) -> Letter:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_box_seal

    from hybridgw_protocol.letters import encode_letter_header

    letter_key, raw = os.urandom(32), encode_letter_header(header)
    box = crypto_box_seal(letter_key, key.public)
    return Letter(
        header, raw, box, crypto_aead_xchacha20poly1305_ietf_encrypt(plain, raw + box, header.nonce, letter_key)
    )


async def test_who_is_blocked_is_not_heard_and_not_told(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, _, _database):
        await bob.contacts.block(OWNER, api.BlockContact(contact="ada"))
        sent = await ada.send("person:bob", "still there?")
        await comes(ada, sent.id, "stored")
        await until(lambda: bob.letters.dropped["blocked"])
        assert bob.shown() == []
        assert await ada.goes(sent.id) == {"stored"}
        with pytest.raises(NeedsPerson, match="is blocked"):
            await bob.send("person:ada", "x")
        await bob.accept("ada")
        again = await ada.send("person:bob", "and now")
        await until(lambda: bob.device.database.peek(lambda c: c.execute("SELECT 1 FROM held").fetchone()))
        bob.device.ahead_ms = HOLD_MS  # what was not heard is a gap, and waited for like any other
        await comes(ada, again.id, "delivered")
        with pytest.raises(AlreadyExists):
            await bob.accept("ada")


async def test_who_asks_can_be_blocked_at_once(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, url, _):
        await ada.add(await bob.address(), "bob")
        await until(lambda: bob.device.database.peek(people_rows.requests))
        await bob.contacts.block(OWNER, api.BlockContact(contact="ada-laptop"))
        assert await bob.requests() == []
        ask = letter(ada, bob, said=Said(kind=Kind.ASK, name="Ada again"), flags=FLAG_CONTACT, mid=b"again".ljust(16))
        await bob.letters.take([ask.blob], url)
        assert await bob.requests() == []
        assert bob.letters.dropped["blocked"] >= 1


# ---- another key -----------------------------------------------------------------------------------------------------
async def test_a_changed_key_stops_both_ways_until_the_number_was_compared(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, database):
        await ada.verify("bob", await bob.number("ada"))
        anew = Talker(tmp_path / "anew", "bob-new")
        async with anew.running():
            await anew.device.relays.add(format_invite(url, await invite(database)))
            await until(lambda: anew.people.directories)
            added = await ada.add(await anew.address("Bob"), "bob")
            assert (added.changed, added.verified, added.state) == (True, False, "asked")
            with pytest.raises(NeedsPerson, match="another one than before"):
                await ada.send("person:bob", "who are you")
            problem = (await ada.messages.routing.explain(OWNER, ExplainMessage(type="x", to="person:bob"))).steps[0]
            assert "another one" in str(problem.problem)
            assert await anew.requests() == []  # nothing went out, not even the question
            old = await bob.send("person:ada", "it is the old one")
            await until(lambda: ada.letters.dropped["stranger"])
            assert ada.shown() == []
            kept = await ada.letters.take([letter(anew, ada).blob], url)
            assert (len(kept.done), len(kept.kept)) == (0, 1)

            with pytest.raises(WrongCode):
                await ada.verify("bob", await bob.number("ada"))  # the old number
            await ada.contacts.block(OWNER, api.BlockContact(contact="bob"))
            assert (await ada.accept("bob")).changed  # agreeing with somebody is no comparing
            await ada.people.keep(msgspec.structs.replace(ada.people.named("bob"), state="asked"))
            await ada.verify("bob", await ada.number("bob"))
            await until(lambda: anew.device.database.peek(people_rows.requests))
            await anew.accept("ada-laptop", "ada")
            await until(lambda: ada.standing("bob") == ("accepted", True, False))
            sent = await ada.send("person:bob", "welcome back")
            await comes(ada, sent.id, "delivered")
            assert await bob.goes(old.id) == {"stored"}


async def test_another_root_behind_one_id_is_a_changed_key(tmp_path: Path) -> None:
    """Two root keys with one id cost 2^64 work; here the pinned one is exchanged in the contact instead."""
    async with friends(tmp_path) as (ada, bob, url, _):
        contact, other = ada.people.named("bob"), os.urandom(32)
        await ada.people.keep(msgspec.structs.replace(contact, root=other, is_verified=True))
        taken = await ada.letters.take([letter(bob, ada).blob], url)
        assert (len(taken.done), len(taken.kept)) == (0, 1)
        assert ada.shown() == []
        assert ada.standing("bob") == ("accepted", False, True)
        with pytest.raises(NeedsPerson):
            await ada.send("person:bob", "x")


async def test_one_name_is_one_person(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, _, _database):
        await ada.add(await bob.address("Ada"), "bob")
        await until(lambda: bob.device.database.peek(people_rows.requests))
        contact = ada.people.named("bob")
        await bob.people.keep(msgspec.structs.replace(contact, person=SpaceId(b"x" * 16), name="ada-laptop"))
        assert [r.known for r in await bob.requests()] == ["ada-laptop"]
        asked = (await bob.requests())[0]
        with pytest.raises(AlreadyExists, match="Choose another name"):
            await bob.accept(asked.id)
        await bob.accept(asked.id, "the other ada")
        for name in ("", " ", "a@b", "x" * 65, "tab\tand\x1b"):
            with pytest.raises((BadValue, AlreadyExists, NotFound)):
                await bob.accept(asked.id, name)


async def test_a_contact_is_called_something_else(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, _, _database):
        other = msgspec.structs.replace(ada.people.named("bob"), person=SpaceId(b"x" * 16), name="cleo")
        await ada.people.keep(other)
        renamed = await ada.rename("bob", "  Bob  from the choir ")
        assert (renamed.name, renamed.state, renamed.number) == (
            "Bob from the choir",
            "accepted",
            await bob.number("ada"),
        )
        assert await ada.rename(renamed.id, "Bob from the choir") == renamed
        assert ada.noted.count("contact.renamed") == 1
        for name in (" ", "a@b", "x" * 65, "tab\tand\x1b", "0" * 32):
            with pytest.raises(BadValue):
                await ada.rename(renamed.id, name)
        with pytest.raises(AlreadyExists, match="choose another name"):
            await ada.rename(renamed.id, "cleo")
        with pytest.raises(NotFound):
            await ada.rename("bob", "bobby")
        # Whoever blocks them at the same moment has blocked them.
        before = ada.people.named(renamed.id)
        await ada.contacts.block(OWNER, api.BlockContact(contact=renamed.id))
        assert not await ada.people.rename(before, "Bobby")
        assert (ada.standing(renamed.id)[0], ada.people.named(renamed.id).name) == ("blocked", "Bob from the choir")
        await ada.contacts.remove(OWNER, api.RemoveContact(contact=renamed.id))
        assert not await ada.people.rename(before, "Bobby")
        with pytest.raises(NotFound):
            ada.people.named(renamed.id)


async def test_who_is_called_like_the_id_of_somebody_else_does_not_pass_for_them(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (ada, bob, _, _database):
        contact = await ada.add(await bob.address(), "bob")
        thief = msgspec.structs.replace(ada.people.named("bob"), person=SpaceId(b"x" * 16), name=contact.id)
        await ada.people.keep(thief)
        assert ada.people.named(contact.id).name == "bob"
        assert ada.people.named(thief.person.hex()) == thief


# ---- a relay that lies -----------------------------------------------------------------------------------------------
class Liar:
    """A directory that answers as it likes."""

    def __init__(self, url: str, answer: list[bytes]) -> None:
        self.url, self.answer, self.asked = url, answer, 0

    async def tell_keys(self) -> None:
        """It may know."""

    async def look_up(self, _person: SpaceId, _heads: list[bytes]) -> list[bytes]:
        """What it wants us to believe."""
        self.asked += 1
        return self.answer


async def test_a_directory_that_lies_changes_nothing(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        mallory = Talker(tmp_path / "mallory", "mallory")
        async with mallory.running():
            await mallory.people.publish("bob")
            person = bob.device.space.identity.space
            before = ada.people.known(person).keys()
            of_another, own = mallory.device.space.records(), bob.device.space.records()
            flipped = own[0][:-1] + bytes([own[0][-1] ^ 1])
            for answer in (of_another, [b"", b"garbage", b"\xc1" * 100], own[:1], [flipped], own[::-1], []):
                ada.people.directories = {Liar(url, answer): None}
                known, _ = await ada.people.look_up(person)
                assert known.root == bob.device.space.root_public
                assert known.keys() == before
            # Of somebody new it makes nobody up: no record of another root leads from the hash that is the address.
            ada.people.directories = {Liar(url, of_another): None}
            with pytest.raises(NotFound):
                await ada.add("1" * 32, "new")


async def test_a_relay_that_holds_a_removal_back_is_found_out(tmp_path: Path) -> None:
    phone = Talker(tmp_path / "phone", "bob-phone")
    async with friends(tmp_path) as (ada, bob, url, _), phone.running():
        await pair(bob.device, phone.device)
        await until(lambda: phone.people.contacts() and phone.letters.own_records())
        person = bob.device.space.identity.space
        await has_devices(ada, person, 2)
        await bob.device.devices.remove(RemoveDevice(id=phone.device.space.identity.device.hex()))
        ada.people.directories = {Liar(url, []): None}  # from now on nothing new is told to her
        stolen = letter(phone, ada, mid=b"stolen".ljust(16), said=Said(kind=Kind.MESSAGE, type="n", body=b'"stolen"'))
        await ada.letters.take([stolen.blob], url)
        assert ada.shown() == ['"stolen"']  # she cannot know; it is the price of a relay that freezes her
        heads = [head[:16] for head in bob.device.space.heads()]
        honest = letter(bob, ada, said=Said(kind=Kind.MESSAGE, type="n", body=b'"honest"', heads=heads))
        ada.people._asked_s.clear()
        await ada.letters.take([honest.blob], url)
        assert len(ada.told("person_withheld")) == 1
        assert "removed" in ada.told("person_withheld")[0]


# ---- message keys ----------------------------------------------------------------------------------------------------
async def test_message_keys_are_made_anew_and_old_ones_erased(tmp_path: Path) -> None:
    async with friends(tmp_path) as (ada, bob, url, _):
        old = letter(ada, bob, mid=b"old".ljust(16))
        first = _newest_key(bob)
        bob.device.ahead_ms = MESSAGE_KEY_MS + 1
        await bob.letters.tend_keys()
        assert _newest_key(bob).id != first.id
        await bob.letters.take([old.blob], url)  # sealed before: it opens, though its time is over by bob's clock
        assert bob.letters.dropped == {}
        bob.device.ahead_ms = 0
        sent = await ada.send("person:bob", "to the new key")  # the relay says that ada's list is stale
        await comes(ada, sent.id, "delivered")
        bob.device.ahead_ms = MESSAGE_KEY_MS + MESSAGE_KEY_KEPT_MS + DAY_MS
        await bob.letters.tend_keys()  # a third key; the second one is replaced only now
        bob.device.ahead_ms += DAY_MS
        await bob.letters.tend_keys()
        await bob.letters.take([old.blob], url)
        assert bob.letters.dropped["cannot_open"] == 1
        raw = b"".join(path.read_bytes() for path in sorted((tmp_path / "bob").glob("replica.db*")))
        assert bob.device.space.identity.sign_secret[:32] not in raw
