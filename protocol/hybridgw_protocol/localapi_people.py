"""Commands of the local API about other people: contacts, who asks to be one, the number to compare. Form: localapi.py.

A contact is named by its name here, or by the 32 digits of its id. Source: protocol/SPEC.md, "People".
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .localapi import Command, Result

ContactText = Annotated[str, Meta(min_length=1, max_length=64)]
AddressText = Annotated[str, Meta(min_length=1, max_length=600)]
NameText = Annotated[str, Meta(max_length=64)]
NoteText = Annotated[str, Meta(max_length=500)]


class Contact(Result):
    """Another person. state: `asked`: they have not agreed yet, `accepted`: messages go both ways, `blocked`; verified:
    the safety number was compared; changed: their key is another one than before, and nothing goes either way until the
    number is compared again; devices: so many of theirs take messages.

    number, number_link: the safety number, and what its QR code holds; null in lists.
    """

    id: str
    name: str
    state: Literal["asked", "accepted", "blocked"]
    verified: bool
    changed: bool
    relay: str
    address: str
    devices: int
    number: str | None = None
    number_link: str | None = None


class ContactList(Result):
    """By name."""

    items: list[Contact]
    next_cursor: str | None = None


class ContactRequest(Result):
    """Somebody asks to be a contact. name, note: what they say, which nobody has checked; known: the contact here who
    has that name already, and another key."""

    id: str
    name: str
    note: str
    at_ms: int
    known: str | None = None


class ContactRequestList(Result):
    """The newest first."""

    items: list[ContactRequest]
    next_cursor: str | None = None


class OwnAddress(Result):
    """Where other people find this one. address: to tell them; link: for a QR code; name: what they are told;
    published: false: nobody finds it yet.
    """

    address: str
    link: str
    name: str
    published: bool


class ListContacts(Command):
    """Everybody whom this person knows."""


class ListContactRequests(Command):
    """Who asks to be a contact and has no answer yet."""


class GetOwnAddress(Command):
    """The address to tell other people."""


class PublishAddress(Command):
    """Be found by those who know the address: each device of this person makes a key for messages of other people.

    name: what they are told to call this person.
    """

    name: NameText = ""


class WithdrawAddress(Command):
    """Be found no more, and take no messages of other people: each device of this person says so to its relays.
    Contacts stay, and hear nothing. PublishAddress undoes it."""


class GetContact(Command):
    """One contact, with the safety number."""

    contact: ContactText


class AddContact(Command):
    """Ask somebody to be a contact, or accept who asked. A name that a contact has already, with another address, says
    that this contact began anew: nothing goes either way then until the safety number was compared.

    address: as they told it; name: what they are called here; note: what they are told with it.
    """

    address: AddressText
    name: NameText = ""
    note: NoteText = ""


class AcceptContact(Command):
    """Agree with who asks, or end a block. name: what they are called here, else what they call themselves."""

    contact: ContactText
    name: NameText = ""


class BlockContact(Command):
    """Hear nothing more of a contact, or of who asks to be one. They are not told."""

    contact: ContactText


class RenameContact(Command):
    """Call a contact something else, on all devices of this person. They are not told.

    name: of 1 to 64 printable characters, without @, that no other contact has.
    """

    contact: ContactText
    name: Annotated[str, Meta(min_length=1, max_length=64)]


class VerifyContact(Command):
    """The safety number was compared with the other person, in person or by a call, and it is this one. It confirms a
    key that has changed as well.

    number: 60 digits, or what the QR code of the other side holds.
    """

    contact: ContactText
    number: Annotated[str, Meta(min_length=1, max_length=600)]


class RemoveContact(Command):
    """Forget a contact. They may ask again."""

    contact: ContactText


class ContactRemoved(Result):
    """id: of who is gone."""

    id: str
