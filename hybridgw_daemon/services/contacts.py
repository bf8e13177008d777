"""What a person does about other people: add, accept, block, compare a number. Source: protocol/SPEC.md, "People"."""

from __future__ import annotations

import hmac
import shlex
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from hybridgw_protocol import localapi_people as api
from hybridgw_protocol.errors import AlreadyExists, BadValue, NotFound, WrongCode
from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.people import (
    PersonAddress,
    format_address,
    format_address_link,
    format_number_link,
    parse_address,
    parse_number,
    safety_number,
    spaced,
)
from hybridgw_storage.database import Database, Tx

from ..core.letters import Kind
from ..stores import people as rows
from ..stores.people import RequestRow
from .people import AsTheyWere, Contact, People, check_name
from .ports import Principal
from .space import Space

Noted = Callable[..., Awaitable[None]]  # (action, **detail): a line of the audit log
DEFAULT_NAME: Final = "somebody"


class ContactService:
    """One per daemon; its methods are commands of the local API."""

    def __init__(
        self, database: Database, space: Space, people: People, *, clock: Callable[[], int],
        relays: Callable[[], list[str]], noted: Noted,
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; relays: URLs in use."""
        self._database, self._space, self._people = database, space, people
        self._clock, self._relays, self._noted = clock, relays, noted

    # ---- this person -------------------------------------------------------------------------------------------------
    async def own_address(self, _: Principal, _command: api.GetOwnAddress) -> api.OwnAddress:
        """Where others find this person. Raises: SecretsLocked."""
        relays, name = self._relays(), self._people.own_name()
        address = PersonAddress(self._space.identity.space, relays[0] if relays else "")
        return api.OwnAddress(
            address=format_address(address), link=format_address_link(address), name=name or "",
            published=name is not None,
        )  # fmt: skip

    async def publish(self, principal: Principal, command: api.PublishAddress) -> api.OwnAddress:
        """Be found. Raises: BadValue, SecretsLocked."""
        await self._publish(command.name)
        return await self.own_address(principal, api.GetOwnAddress())

    async def withdraw(self, principal: Principal, _command: api.WithdrawAddress) -> api.OwnAddress:
        """Be found no more. Raises: SecretsLocked."""
        self._space.identity  # noqa: B018 - raises SecretsLocked
        if self._people.own_name() is not None:
            await self._people.withdraw()
        return await self.own_address(principal, api.GetOwnAddress())

    async def _publish(self, name: str = "") -> None:
        self._space.identity  # noqa: B018 - raises SecretsLocked
        before = self._people.own_name()
        wanted = check_name(name) if name.strip() else before or self._space.name
        if wanted != before:
            await self._people.publish(wanted)

    # ---- looking -----------------------------------------------------------------------------------------------------
    async def list(self, _: Principal, _command: api.ListContacts) -> api.ContactList:
        """By name."""
        return api.ContactList(items=[self._shown(contact) for contact in self._people.contacts()])

    async def get(self, _: Principal, command: api.GetContact) -> api.Contact:
        """With the safety number. Raises: NotFound, BadValue, SecretsLocked."""
        return self._with_number(self._people.named(command.contact))

    async def requests(self, _: Principal, _command: api.ListContactRequests) -> api.ContactRequestList:
        """The newest first."""
        names = {contact.name.casefold(): contact for contact in self._people.contacts()}
        found = self._database.peek(rows.requests)
        items = []
        for row in found:
            known = names.get(row.name.casefold())
            items.append(
                api.ContactRequest(
                    id=row.person.hex(), name=row.name, note=row.note, at_ms=row.at_ms,
                    known=None if known is None or known.person == row.person else known.name,
                )
            )  # fmt: skip
        return api.ContactRequestList(items=items)

    def _shown(self, contact: Contact) -> api.Contact:
        address = PersonAddress(contact.person, contact.relay)
        return api.Contact(
            id=contact.person.hex(), name=contact.name, state=contact.state, verified=contact.is_verified,
            changed=bool(contact.changed), relay=contact.relay, address=format_address(address),
            devices=len(self._people.known(contact.person).keys()),
        )  # fmt: skip

    def _with_number(self, contact: Contact) -> api.Contact:
        shown = self._shown(contact)
        number = safety_number(self._space.root_public, contact.root)
        shown.number, shown.number_link = spaced(number), format_number_link(number)
        return shown

    # ---- deciding ----------------------------------------------------------------------------------------------------
    async def add(self, _: Principal, command: api.AddContact) -> api.Contact:
        """Ask somebody to be a contact.

        Raises: BadValue; NotFound: nobody of this address is there; AlreadyExists, also meanwhile on another
        device; Offline: no relay can be asked.
        """
        address = parse_address(command.address)
        if address.person == self._space.identity.space:
            raise BadValue("This is your own address.", field="address")
        request = self._request(address.person.hex())
        if request is not None:
            return await self._accept(request, command.name)
        before = self._people.contact(address.person)
        if before is not None and before.state != "blocked":
            raise AlreadyExists(f"{before.name} is a contact already.", field="address")
        if address.relay and address.relay not in self._relays():
            raise NotFound(
                f"That person is at the relay {address.relay}, which this device does not use. Ask for an invite to "
                "it: hybridgw relay add LINK", field="address",
            )  # fmt: skip
        await self._publish()
        known, relay = await self._people.look_up(address.person, address.relay)
        root = known.root
        if root is None or not known.keys():
            raise NotFound(
                "No relay knows a person of this address who takes messages. Compare it digit by digit; the other side "
                "prints it by 'hybridgw contacts address'.", field="address",
            )  # fmt: skip
        name = check_name(command.name or (before.name if before else DEFAULT_NAME))
        namesake = self._namesake(name, address.person)
        contact = Contact(
            address.person, name, root, relay or address.relay, "asked",
            changed=b"" if namesake is None else namesake.changed or namesake.root, asked_ms=self._clock(),
        )  # fmt: skip
        if namesake is not None and not command.name:
            raise AlreadyExists(f"A contact is called {name} already; choose another name.", field="name")
        note, now_ms = command.note, self._clock()
        before_that = {address.person: before} | ({} if namesake is None else {namesake.person: namesake})
        await self._keep(contact, namesake, before_that)
        if namesake is not None:
            await self._tell_no_more(namesake)
        if not contact.changed:
            await self._database.write(lambda tx: rows.put_errand(tx, contact.person, Kind.ASK, note, now_ms))
        self._people.wake()
        await self._noted("contact.asked", name=contact.name, person=contact.person.hex())
        return self._with_number(contact)

    async def _keep(self, contact: Contact, instead_of: Contact | None, as_they_were: AsTheyWere) -> None:
        """Raises: AlreadyExists: another device has decided something about them while this one waited."""
        if not await self._people.keep(contact, instead_of, as_they_were=as_they_were):
            raise self._decided_elsewhere(contact)

    def _decided_elsewhere(self, contact: Contact) -> AlreadyExists:
        now = self._people.contact(contact.person)
        name = contact.name if now is None else now.name
        return AlreadyExists(
            f"{name} was changed on another device of yours just now. Look at them, then decide again: hybridgw "
            "contacts list", field="contact",
        )  # fmt: skip

    async def accept(self, _: Principal, command: api.AcceptContact) -> api.Contact:
        """Agree with who asks, or end a block. Raises: NotFound, AlreadyExists, BadValue."""
        request = self._request(command.contact)
        if request is not None:
            return await self._accept(request, command.name)
        contact = self._people.named(command.contact)
        if contact.state != "blocked":
            raise AlreadyExists(f"{contact.name} is a contact already.", field="contact")
        agreed = msgspec.structs.replace(contact, state="accepted")  # a changed key stays one
        return await self._agree(agreed, contact)

    async def _accept(self, request: RequestRow, name: str) -> api.Contact:
        self._agreed(request, name)  # before others can find this person
        await self._publish()
        before = self._people.contact(request.person)  # by now
        return await self._agree(self._agreed(request, name), before)

    def _agreed(self, request: RequestRow, name: str) -> Contact:
        """Who asks, as a contact. Raises: AlreadyExists, BadValue."""
        before = self._people.contact(request.person)
        name = check_name(name or (before.name if before else request.name) or DEFAULT_NAME)
        namesake = self._namesake(name, request.person)
        if namesake is not None:
            raise AlreadyExists(
                f"A contact is called {name} already, and this is somebody else, or they began anew. Choose another "
                f"name (--name), or say that it is them: hybridgw contacts add {request.person.hex()} "
                f"--name {shlex.quote(name)}",
                field="name",
            )
        if before is not None:  # known since, by another device: what it knows of their key stays
            return msgspec.structs.replace(before, name=name, state="accepted")
        return Contact(request.person, name, request.root, request.relay, "accepted")

    async def _agree(self, contact: Contact, before: Contact | None) -> api.Contact:
        person, now_ms = contact.person, self._clock()
        await self._keep(contact, None, {person: before})
        keys = self._people.known(person).keys()

        def write(tx: Tx) -> None:
            rows.delete_request(tx, person)
            if not contact.changed:
                rows.put_errand(tx, person, Kind.ACCEPT, "", now_ms)
            self._people.readdress(tx, person, keys)

        await self._database.write(write)
        self._people.wake()
        await self._noted("contact.accepted", name=contact.name, person=person.hex())
        return self._with_number(contact)

    async def block(self, _: Principal, command: api.BlockContact) -> api.Contact:
        """Hear nothing more of somebody. Raises: NotFound, BadValue: nobody, or several."""
        request = self._request(command.contact)
        if request is not None:
            name = request.name or DEFAULT_NAME
            taken = {contact.name for contact in self._people.contacts()}
            contact = Contact(
                request.person, name if name not in taken else request.person.hex(), request.root, request.relay,
                "blocked",
            )  # fmt: skip
        else:
            before = self._people.named(command.contact)
            contact = msgspec.structs.replace(before, state="blocked")
        await self._people.keep(contact)

        def write(tx: Tx) -> None:
            rows.delete_request(tx, contact.person)
            rows.delete_errand(tx, contact.person)
            rows.silence(tx, contact.person, self._clock())

        await self._database.write(write)
        self._people.published("messages")
        await self._noted("contact.blocked", name=contact.name, person=contact.person.hex())
        return self._shown(contact)

    async def rename(self, _: Principal, command: api.RenameContact) -> api.Contact:
        """Call a contact something else.

        Raises: NotFound, BadValue; AlreadyExists: another contact is called so, or they were changed meanwhile.
        """
        contact, name = self._people.named(command.contact), check_name(command.name)
        if self._namesake(name, contact.person) is not None:
            raise AlreadyExists(f"A contact is called {name} already; choose another name.", field="name")
        if name != contact.name:
            if not await self._people.rename(contact, name):
                raise self._decided_elsewhere(contact)
            await self._noted("contact.renamed", name=name, before=contact.name, person=contact.person.hex())
        return self._with_number(self._people.named(contact.person.hex()))

    async def verify(self, _: Principal, command: api.VerifyContact) -> api.Contact:
        """Two people have compared. Raises: NotFound, BadValue, AlreadyExists; WrongCode: it is another number."""
        contact, given = self._people.named(command.contact), parse_number(command.number)
        number = safety_number(self._space.root_public, contact.root)
        if not hmac.compare_digest(given, number):
            raise WrongCode(
                f"This is not the number that this device shows for {contact.name}. One of the two talks to somebody "
                "else, or a digit was misread. Do not tell this contact anything until the numbers agree.",
                field="number",
            )
        had_changed, now_ms = bool(contact.changed), self._clock()
        confirmed = msgspec.structs.replace(contact, is_verified=True, changed=b"")
        await self._keep(confirmed, None, {contact.person: contact})
        if had_changed and contact.state == "asked":
            await self._database.write(lambda tx: rows.put_errand(tx, contact.person, Kind.ASK, "", now_ms))
        self._people.wake()
        await self._noted("contact.verified", name=contact.name, person=contact.person.hex())
        return self._with_number(confirmed)

    async def remove(self, _: Principal, command: api.RemoveContact) -> api.ContactRemoved:
        """Forget a contact. Raises: NotFound, BadValue: nobody, or several."""
        contact = self._people.named(command.contact)
        await self._forget(contact)
        await self._noted("contact.removed", name=contact.name, person=contact.person.hex())
        return api.ContactRemoved(id=contact.person.hex())

    async def _forget(self, contact: Contact) -> None:
        await self._people.forget(contact)
        await self._tell_no_more(contact)

    async def _tell_no_more(self, contact: Contact) -> None:
        def write(tx: Tx) -> None:
            rows.delete_errand(tx, contact.person)
            rows.forget_receipts(tx, contact.person)

        await self._database.write(write)

    # ---- names -------------------------------------------------------------------------------------------------------
    def _request(self, text: str) -> RequestRow | None:
        """Who asks and is meant: by id, or by a name that only one of them has. Raises: BadValue: two have it."""
        found = self._database.peek(rows.requests)
        by_id = [row for row in found if row.person.hex() == text]
        named = by_id or [row for row in found if row.name == text]
        if len(named) > 1:
            raise BadValue(f"Two people who ask call themselves {text!a}; name one by its id.", field="contact")
        is_contact = any(text == contact.name for contact in self._people.contacts())
        return named[0] if named and (by_id or not is_contact) else None

    def _namesake(self, name: str, person: SpaceId) -> Contact | None:
        return next((c for c in self._people.contacts() if c.name == name and c.person != person), None)
