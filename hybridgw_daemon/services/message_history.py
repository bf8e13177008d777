"""Messages as programs see them: one, the history in pages, what waits here, and who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from typing import Final

import msgspec

from hybridgw_protocol.errors import BadValue, NotFound
from hybridgw_protocol.ids import format_document_id, parse_document_id
from hybridgw_protocol.localapi_messages import (
    Addressee,
    AddresseeList,
    Delivery,
    GetMessage,
    ListAddressees,
    ListMessages,
    ListNotifications,
    ListPrograms,
    Message,
    MessagePage,
    Notification,
    NotificationList,
    Program,
    ProgramList,
)
from hybridgw_protocol.messages import DEAD, PRIORITY_NAMES, MessageState
from hybridgw_storage.database import Connection, Database

from ..core.targets import PERSON, Listener, Target, heard_as
from ..stores import copies
from ..stores import messages as rows
from ..stores.messages import THIS, UNRESOLVED, DeliveryRow, MessageRow
from .addressing import Addressing
from .ports import Principal

_FAR: Final = 2**62
_ORDER: Final = list(MessageState)


class MessageHistory:
    """One per daemon."""

    def __init__(self, database: Database, addressing: Addressing, online: Container[int]) -> None:
        """Args: online: the numbers of the listeners that are connected."""
        self._database, self._addressing, self._online = database, addressing, online
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something became of a message: who waits for that looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- looking -----------------------------------------------------------------------------------------------------
    async def list(self, principal: Principal, command: ListMessages) -> MessagePage:
        """The history, newest first. Raises: BadValue: no cursor; NotFound: no such peer."""
        before = _FAR
        if command.cursor is not None:
            if not command.cursor.isascii() or not command.cursor.isdigit() or len(command.cursor) > 18:
                raise BadValue("A cursor is what the page before it ended with.", field="cursor")
            before = int(command.cursor)
        sender = client = person = None
        if command.peer is not None and command.peer.startswith(f"{PERSON}:"):
            person = self._addressing.others.person(command.peer.partition(":")[2])
        elif command.peer is not None:
            sender = self._addressing.device(command.peer)
            client = command.peer if sender is None else None

        def look(connection: Connection) -> list[MessageRow]:
            return rows.page(
                connection, box=command.box, type=command.type, sender=sender, client=client, state=command.state,
                person=person, before=before, limit=command.limit,
            )  # fmt: skip

        found = await self._database.read(look)
        items = [self.message(row) for row in found if principal.is_admin or self.may_hear(principal, row)]
        return MessagePage(items=items, next_cursor=str(found[-1].rid) if len(found) == command.limit else None)

    async def get(self, principal: Principal, command: GetMessage) -> Message:
        """One message, once it has changed. Raises: NotFound."""
        loop = asyncio.get_running_loop()
        until = loop.time() + command.wait_s
        while True:
            changed, row = self._changed, self.seen(principal, command.id)
            left = until - loop.time()
            message = self.message(row)
            if command.known is None or message.changes > command.known or left <= 0:
                return message
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                continue

    async def notifications(self, principal: Principal, command: ListNotifications) -> NotificationList:
        """What waits here for somebody."""
        found, count = await self._database.read(lambda c: rows.waiting(c, command.limit))
        items = [
            Notification(
                id=format_document_id(row.id), device=self._addressing.device_name(row.sender), client=row.client,
                type=row.type, at_ms=row.created_ms, person=self._person(row.sender),
                priority=PRIORITY_NAMES[row.priority],  # type: ignore[arg-type]
            )
            for row in found
            if principal.is_admin or self.may_hear(principal, row)
        ]  # fmt: skip
        return NotificationList(items=items, waiting=count if principal.is_admin else len(items))

    async def devices(self, principal: Principal, _command: ListAddressees) -> AddresseeList:
        """For who may send: the devices it can name; for others none."""
        may = principal.is_admin or principal.scopes.names("send")
        found = sorted((may and self._addressing.members.others()) or (), key=lambda place: (place.name, place.mark))
        return AddresseeList(items=[Addressee(name=place.name, fingerprint=place.mark) for place in found])

    async def programs(self, _: Principal, _command: ListPrograms) -> ProgramList:
        """Who listens here."""

        def look(connection: Connection) -> list[tuple[Listener, int, int]]:
            found = copies.read_listeners(connection)
            return [(listener, at, copies.count_waiting(connection, listener.nr)) for listener, at in found]

        found = await self._database.read(look)
        return ProgramList(
            items=[
                Program(
                    client=x.client, app=x.app, topics=sorted(x.topics), online=x.nr in self._online, last_seen_ms=at,
                    waiting=count,
                )
                for x, at, count in found
            ]
        )  # fmt: skip

    def _person(self, sender: bytes) -> str | None:
        found = self._addressing.others.person_of(sender)
        return None if found is None else found[1]

    # ---- shown -------------------------------------------------------------------------------------------------------
    def may_hear(self, principal: Principal, row: MessageRow) -> bool:
        """May it know of this message: it sent it, or has the right to listen for it."""
        if row.principal == principal.id:
            return True
        return principal.allows("listen", heard_as(row.kind, row.name, row.type))

    def seen(self, principal: Principal, text: str) -> MessageRow:
        """The message of this id, for who may know of it. Raises: NotFound."""
        mid = parse_message_id(text, "id")
        row = self._database.peek(lambda c: rows.get(c, mid))
        if row is None or not (principal.is_admin or self.may_hear(principal, row)):
            raise NotFound(f"There is no message {text}.")
        return row

    def message(self, row: MessageRow, deliveries: Sequence[DeliveryRow] | None = None) -> Message:
        """As programs see it: its state is that of the device that has got least far. Args: deliveries: where they are
        known already."""
        found = self._database.peek(lambda c: rows.deliveries(c, row.rid)) if deliveries is None else deliveries
        if len(found) == 1:
            state = found[0].state
        else:
            dead = [d.state for d in found if d.state in DEAD]
            state = dead[0] if dead else min((d.state for d in found), key=_ORDER.index, default=MessageState.DELIVERED)
        person = self._addressing.others.person_of(row.sender) or next(
            (p for d in found if (p := self._addressing.others.person_of(d.recipient)) is not None), None
        )
        return Message(
            id=format_document_id(row.id), incoming=row.sender != THIS, device=self._addressing.device_name(row.sender),
            client=row.client, to=Target(row.kind, row.name, row.place).text, type=row.type,
            body=msgspec.Raw(row.body), priority=PRIORITY_NAMES[row.priority],  # type: ignore[arg-type]
            created_ms=row.created_ms, expires_ms=row.expires_ms, state=state.value,
            deliveries=[
                Delivery(
                    device="?" if d.recipient == UNRESOLVED else self._addressing.device_name(d.recipient),
                    here=d.recipient == THIS, state=d.state.value, at_ms=d.at_ms, tries=d.tries, error=d.error,
                )
                for d in found
            ],
            changes=sum([d.changes for d in found]), gap=bool(row.gap),
            reply_to=format_document_id(row.reply) if row.reply else None,
            person=None if person is None else person[1], person_id=None if person is None else person[0],
        )  # fmt: skip


def parse_message_id(text: str, field: str) -> bytes:
    """Raises: BadValue: no UUID."""
    found = parse_document_id(text)
    if not isinstance(found, bytes):
        raise BadValue("The id of a message is a UUID in lower case.", field=field)
    return found
