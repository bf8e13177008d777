"""Other people as this device knows them: contacts, what relays tell of them, where messages to them go.

Contacts are documents of the collection `hgw.contacts`, which no program may write: they are the same on all devices of
the person. What relays tell is kept by each device, checked from the pinned root key, and never taken back. Source:
protocol/SPEC.md, "People".
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, Protocol

import msgspec

from hybridgw_protocol.errors import BadValue, HybridGWError, NeedsPerson, NotFound, Offline
from hybridgw_protocol.ids import DeviceId, SpaceId
from hybridgw_protocol.messages import MessageState
from hybridgw_protocol.people import Known, MessageKey
from hybridgw_storage.database import Connection, Database, Tx

from ..core.operations import Create, Delete, Edit, Request
from ..core.targets import Target
from ..stores import documents as document_rows
from ..stores import messages as message_rows
from ..stores import people as rows
from ..stores import queries
from ..stores.messages import DeliveryRow, Entries, MessageRow
from .addressing import Others
from .ports import DocumentReplica
from .space import Space, fingerprint

COLLECTION: Final = "hgw.contacts"
MYSELF: Final = "me"  # the document that says that this person takes letters
MOST_CONTACTS: Final = 5_000
MOST_KNOWN: Final = 64  # control logs of people that are kept in memory
MOST_STRANGER_BYTES: Final = 512 * 1024  # of control records of who asks to be a contact
LOOK_UP_S: Final = 15.0
_ID: Final = re.compile(r"[0-9A-Fa-f]{32}")
PUBLISH_S: Final = 5.0
AGAIN_S: Final = 5.0  # a person is looked up for a letter at most so often

State = Literal["asked", "accepted", "blocked"]


class Contact(msgspec.Struct, frozen=True):
    """A person whom this one knows. root: pinned when they met, 32 bytes; relay: where letters go; is_verified: the
    safety number was compared; changed: the root key that was pinned before, until a person has looked at the new one;
    asked_ms: when they were asked, 0: never, or by a program that did not say.
    """

    person: SpaceId
    name: str
    root: bytes
    relay: str
    state: State
    is_verified: bool = False
    changed: bytes = b""
    asked_ms: int = 0

    @property
    def may_exchange(self) -> bool:
        """May messages go both ways."""
        return self.state == "accepted" and not self.changed


AsTheyWere = Mapping[SpaceId, Contact | None]


class Directory(Protocol):
    """A connection to a relay that can be asked for people."""

    url: str

    async def tell_keys(self) -> None:
        """It hears of the message key of this device, if it has not. Raises: Offline."""
        ...

    async def look_up(self, person: SpaceId, heads: list[bytes]) -> list[bytes]:
        """Control records that are lacking, and message keys; none: nobody. Raises: Offline, RateLimited."""
        ...


class _Kept(msgspec.Struct):
    name: str
    root: str
    state: State
    relay: str = ""
    verified: bool = False
    changed: str = ""
    asked: int = 0


class People(Others):
    """One per daemon. The functions that take a Tx are part of somebody else's write."""

    def __init__(
        self, database: Database, space: Space, replica: DocumentReplica, *, clock: Callable[[], int],
        wrote: Callable[[], None], published: Callable[[str], None] = lambda _kind: None,
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; wrote: documents changed; published: tells local listeners that `contacts` changed."""
        self._database, self._space, self._replica = database, space, replica
        self._clock, self._wrote, self.published = clock, wrote, published
        self._known: OrderedDict[SpaceId, Known] = OrderedDict()
        self._devices: dict[SpaceId, tuple[DeviceId, ...]] = {}
        self.unplaced: dict[
            SpaceId, int
        ] = {}  # to whom messages wait, and no device of theirs is known: look when (ms)
        self._asked_s: dict[SpaceId, float] = {}
        self.directories: dict[Directory, None] = {}
        self.wake: Callable[[], None] = lambda: None
        self.tend_keys: Callable[[], Awaitable[None]] = _nothing  # of this device, once it takes letters

    # ---- contacts --------------------------------------------------------------------------------------------------
    def contact(self, person: bytes) -> Contact | None:
        """The contact of this id."""
        found = self._database.peek(lambda c: queries.get_one(c, COLLECTION, person.hex(), None))
        return None if found is None or found.body is None else _contact(person.hex(), found.body)

    def contacts(self) -> list[Contact]:
        """All of them, by name."""

        def look(connection: Connection) -> list[queries.Found]:
            where = document_rows.collection(connection, COLLECTION)
            return [] if where is None else queries.find(connection, where, queries.Query(limit=MOST_CONTACTS), None)[0]

        found = [_contact(str(f.id), f.body) for f in self._database.peek(look) if f.body is not None]
        return sorted((c for c in found if c is not None), key=lambda c: (c.name.casefold(), c.person))

    def named(self, text: str) -> Contact:
        """The contact whom a person or program means: by id, or by name. Raises: NotFound; BadValue: several have it.

        An id first: who is called like the id of somebody else gets nothing that was meant for them. Two devices that
        were apart may have given one name to two people: then nobody guesses who is meant.
        """
        text, found = text.strip(), self.contacts()
        meant = [c for c in found if c.person.hex() == text] or [c for c in found if c.name == text]
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise BadValue(
                f"{len(meant)} contacts are called {text[:80]!a}; name one by its id: "
                f"{' or '.join(c.person.hex() for c in meant)}. 'hybridgw contacts list' shows which is who.",
                field="contact",
            )
        raise NotFound(f"There is no contact {text[:80]!a}; 'hybridgw contacts list' shows them.", field="contact")

    async def keep(
        self, contact: Contact, instead_of: Contact | None = None, *, as_they_were: AsTheyWere | None = None
    ) -> bool:  # fmt: skip
        """Write a contact down, for all devices. Returns whether that was done.

        Args: instead_of: one that goes in the same step; as_they_were: only if these contacts are so still, None: none:
        what a person has decided meanwhile, on another device too, stays.
        """
        data: dict[str, Any] = {
            "name": contact.name, "root": contact.root.hex(), "relay": contact.relay, "state": contact.state,
            "verified": contact.is_verified, "changed": contact.changed.hex(), "asked": contact.asked_ms,
        }  # fmt: skip
        is_kept = True
        if contact != self.contact(contact.person) or instead_of is not None:
            gone = {} if instead_of is None else {instead_of.person.hex(): None}
            is_kept = await self._write_all({contact.person.hex(): data, **gone}, as_they_were)
        self.published("contacts")
        self.wake()
        return is_kept

    async def _write(self, id: str, puts: dict[str, Any] | None) -> None:
        await self._write_all({id: puts})

    async def _write_all(
        self, wanted: Mapping[str, dict[str, Any] | None], as_they_were: AsTheyWere | None = None
    ) -> bool:  # fmt: skip
        """Documents of the collection are this from now on. Args: wanted: fields by id; None: it goes."""
        now_ms = self._clock()

        def write(tx: Tx) -> bool:
            requests: list[Request] = []
            if any(self._contact_now(tx, person) != before for person, before in (as_they_were or {}).items()):
                return False
            for id, puts in wanted.items():
                row = self._replica.current(tx, COLLECTION, id)
                lives = row is not None and row[0] % 2 == 1
                if puts is not None:
                    requests.append(Edit(COLLECTION, id, puts) if lives else Create(COLLECTION, id, puts))
                elif lives:
                    requests.append(Delete(COLLECTION, id))
            if requests:
                self._replica.write(tx, requests, now_ms)
            return True

        is_done = await self._database.write(write)
        self._wrote()
        return is_done

    def _contact_now(self, tx: Tx, person: SpaceId) -> Contact | None:
        """In this transaction, which may be that of others too."""
        row = self._replica.current(tx, COLLECTION, person.hex())
        return None if row is None or row[1] is None else _contact(person.hex(), row[1])

    async def rename(self, contact: Contact, name: str) -> bool:
        """Call it so, on all devices, if it is as it was; nothing else of it is written, so that what another device
        decides meanwhile stays. Returns whether that was done."""
        is_done = await self._write_all({contact.person.hex(): {"name": name}}, {contact.person: contact})
        self.published("contacts")
        return is_done

    async def forget(self, contact: Contact) -> None:
        """The person is no contact any more."""
        await self._write(contact.person.hex(), None)
        self.published("contacts")

    def own_name(self) -> str | None:
        """What this person tells others to be called; None: it does not take letters."""
        found = self._database.peek(lambda c: queries.get_one(c, COLLECTION, MYSELF, None))
        if found is None or found.body is None:
            return None
        try:
            return msgspec.json.decode(found.body, type=dict[str, str])["name"]
        except (msgspec.ValidationError, KeyError):
            return ""

    async def publish(self, name: str) -> None:
        """This person takes letters from now on: each of its devices makes a message key."""
        await self._write(MYSELF, {"name": name})
        await self._tell_relays()

    async def withdraw(self) -> None:
        """This person takes no letters any more: each of its devices says so, as soon as it hears of it."""
        await self._write(MYSELF, None)
        await self._tell_relays()

    async def _tell_relays(self) -> None:
        await self.tend_keys()
        self.wake()
        own = self._space.identity.space
        for directory in tuple(self.directories):
            with suppress(HybridGWError, TimeoutError):  # a relay that is not there now is told when it is
                async with asyncio.timeout(PUBLISH_S):
                    await directory.tell_keys()
                    await directory.look_up(own, [])  # answered after that: whoever is told the address finds it

    # ---- what is known of a person ---------------------------------------------------------------------------------
    def known(self, person: SpaceId) -> Known:
        """What relays have told so far."""
        known = self._known.get(person)
        if known is None:
            known = Known.begin(person, self._database.peek(lambda c: rows.records(c, person)))
            self._known[person] = known
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(person)
        return known

    async def look_up(self, person: SpaceId, relay: str = "", most_bytes: int | None = None) -> tuple[Known, str]:
        """Ask relays, and take what leads from the person's root. Returns also the relay that knew more.

        Args: relay: its URL, empty: all that are connected; most_bytes: of records, above which none is taken.
        Raises: Offline: none of these is connected, or answers.
        """
        asked = [d for d in self.directories if relay in ("", d.url)]
        if not asked:
            raise Offline(
                f"{relay or 'No relay'} is not connected, so nobody can be looked up. 'hybridgw relay list' shows why."
            )
        known, where, failed = self.known(person), "", None
        for directory in asked:
            try:
                async with asyncio.timeout(LOOK_UP_S):
                    records = await directory.look_up(person, known.control.short_heads)
            except (HybridGWError, TimeoutError) as error:
                failed = error
                continue
            if records and (most_bytes is None or sum(map(len, records)) <= most_bytes):
                where = where or directory.url
                await self._learn(person, known, records)
        if failed is not None and not where:
            raise Offline("The relay did not answer who this person is.") from failed
        return known, where

    async def look_again(self, person: SpaceId, relay: str = "") -> bool:
        """The same for a letter that does not fit what is known; not too often. Returns whether relays were asked."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._asked_s.get(person, -AGAIN_S) < AGAIN_S:
            return False
        self._asked_s[person] = now_s
        if len(self._asked_s) > MOST_CONTACTS:
            self._asked_s.clear()
        most_bytes = MOST_STRANGER_BYTES if self.contact(person) is None else None
        try:
            await self.look_up(person, relay, most_bytes)
        except Offline:
            self._asked_s.pop(person)
            return False
        return True

    async def _learn(self, person: SpaceId, known: Known, records: Iterable[bytes]) -> None:
        fresh, _ = known.learn(records)  # what is wrong with it is the relay's shame: it was not taken
        if not fresh:
            return
        found, is_contact = [(record.hash, record.raw) for record in fresh], self.contact(person) is not None

        def write(tx: Tx) -> None:
            rows.add_records(tx, person, found)
            if is_contact:
                self.readdress(tx, person, known.keys())

        try:
            await self._database.write(write)
        except BaseException:
            self._known.pop(person, None)  # what is known in memory is what is on the disk
            raise
        self.wake()

    async def forget_known(self, person: SpaceId) -> None:
        """A stranger who is no contact and asks for nothing costs no room."""
        self._known.pop(person, None)
        await self._database.write(lambda tx: rows.forget_records(tx, person))

    # ---- names -----------------------------------------------------------------------------------------------------
    def person_of(self, device: bytes) -> tuple[str, str] | None:
        """Id and name of the other person whose device a row names; None: it is of this space."""
        if not rows.is_foreign(device):
            return None
        person = device[: rows.PERSON_BYTES]
        contact = self.contact(person)
        return person.hex(), person.hex() if contact is None else contact.name

    def device_name(self, device: bytes) -> str:
        """What to call a device of another person."""
        own = device[rows.PERSON_BYTES :]
        return "?" if own == rows.NOWHERE else f"device {fingerprint(DeviceId(own))}"

    # ---- where messages go -----------------------------------------------------------------------------------------
    def check(self, target: Target) -> Contact:
        """The contact that a target names. Raises: NotFound, BadValue: nobody, or several; NeedsPerson: nothing goes
        there before a person acts."""
        contact = self.named(target.name)
        if self.own_name() is None:
            raise NeedsPerson(
                "You have taken your address back, so nobody could answer. To be found: hybridgw contacts address",
                command="hybridgw contacts address",
            )
        if contact.state == "blocked":
            raise NeedsPerson(
                f"{contact.name} is blocked. To write to them again: hybridgw contacts accept {_typed(contact)}",
                command=f"hybridgw contacts accept {_typed(contact)}",
            )
        if contact.changed:
            raise NeedsPerson(
                f"The key of {contact.name} is another one than before: somebody may pretend to be them, or they began "
                f"anew. Compare the safety number with them first: hybridgw contacts verify {_typed(contact)}",
                command=f"hybridgw contacts verify {_typed(contact)}",
            )
        return contact

    def person(self, text: str) -> bytes:
        """The id of a contact, by name or id. Raises: NotFound, BadValue."""
        return self.named(text).person

    def problem(self, target: Target) -> str | None:
        """Why nothing would go to a person now; None: it would."""
        try:
            contact = self.check(target)
        except (NotFound, BadValue, NeedsPerson) as error:
            return error.message
        return None if contact.state == "accepted" else f"{contact.name} has not agreed to be a contact yet; it waits"

    def goal(self, target: Target) -> tuple[bytes, ...]:
        """The devices of a person that a message goes to, as rows name them; called on the writer's thread too.

        Raises: as `check`.
        """
        contact = self.check(target)
        devices = self._devices_of(contact.person) if contact.state == "accepted" else ()
        if not devices:
            self.unplaced.setdefault(contact.person, 0)
        return tuple(rows.foreign(contact.person, device) for device in devices or (rows.NOWHERE,))

    def _devices_of(self, person: SpaceId) -> tuple[DeviceId, ...]:
        devices = self._devices.get(person)
        if devices is None:  # not by `known`, which belongs to the event loop
            known = Known.begin(person, self._database.peek(lambda c: rows.records(c, person)))
            devices = self._devices[person] = tuple(known.keys())
        return devices

    def enqueue(self, tx: Tx, entries: Entries, row: MessageRow, device: bytes) -> DeliveryRow:
        """It waits for a device of a person."""
        return rows.enqueue(tx, entries, row, device, self._space.own_log)

    def readdress(self, tx: Tx, person: SpaceId, devices: dict[DeviceId, MessageKey]) -> None:
        """The devices of a person are others now: messages on their way go to those."""
        self._devices[person] = tuple(devices)
        if not devices:
            return
        entries = Entries(tx)
        for row in rows.open_messages(tx.connection, person):
            here = {d.recipient: d for d in message_rows.deliveries(tx.connection, row.rid)}
            wanted = {rows.foreign(person, device) for device in devices}
            for recipient in wanted - here.keys():
                rows.enqueue(tx, entries, row, recipient, self._space.own_log)
            for found, delivery in here.items():
                recipient = DeviceId(found)
                is_theirs = rows.is_foreign(recipient) and recipient[: rows.PERSON_BYTES] == person
                if is_theirs and recipient not in wanted:
                    rows.drop_letter(tx, row.rid, recipient)  # nobody takes it any more
                    if delivery.state is MessageState.QUEUED:
                        rows.drop_delivery(tx, row.rid, recipient)
        entries.write()


def _contact(id: str, body: bytes) -> Contact | None:
    """A document of the collection, if it is in order: what other devices and programs write may have any form."""
    try:
        kept = msgspec.json.decode(body, type=_Kept)
        person, root, changed = bytes.fromhex(id), bytes.fromhex(kept.root), bytes.fromhex(kept.changed)
    except (msgspec.DecodeError, ValueError):
        return None
    if len(person) != rows.PERSON_BYTES or len(root) != 32 or len(changed) not in (0, 32):
        return None
    return Contact(SpaceId(person), kept.name, root, kept.relay, kept.state, kept.verified, changed, kept.asked)


async def _nothing() -> None:
    """There are no keys."""


def _typed(contact: Contact) -> str:
    """As one word of a command: what a contact is called may be a stranger's choice."""
    return shlex.quote(contact.name)


def check_name(name: str) -> str:
    """What a contact is called here. Raises: BadValue."""
    name = " ".join(name.split())
    if not 0 < len(name) <= 64 or not name.isprintable() or "@" in name:
        raise BadValue("The name of a contact has 1 to 64 printable characters and no @.", field="name")
    if _ID.fullmatch(name.replace(" ", "").replace("-", "")):  # what is meant for the other one would go there
        raise BadValue("This name looks like the id of a person; choose another one (--name).", field="name")
    return name
