"""Messages between programs: sent, kept until they are dealt with, ended when their time is over.

What is for programs here is done in the transaction that stores it. What is for other devices is queued there and goes
by services/mail.py. Nothing is answered before it is on the disk. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from hybridgw_protocol.errors import AlreadyExists, HybridGWError, LocalError, TooBig
from hybridgw_protocol.ids import check_topic, format_document_id
from hybridgw_protocol.limits import DEDUPE_MS, MAX_MESSAGE_BODY_BYTES, MESSAGE_TTL_MS
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_messages import (
    AckMessage,
    AckMessages,
    Acknowledged,
    BroadcastMessage,
    Deleted,
    DeleteMessage,
    Message,
    RetryMessage,
    SendMessage,
)
from hybridgw_protocol.messages import DEAD, OPEN, MessageState, Priority
from hybridgw_storage.database import Database, Tx

from ..core.envelopes import Content, content_digest
from ..core.targets import Target, parse_target
from ..core.uuid7 import new_uuid7
from ..stores import audit, copies
from ..stores import messages as rows
from ..stores.messages import THIS, MessageRow
from .addressing import Addressing
from .ears import Ear
from .listeners import Listeners
from .message_history import MessageHistory, parse_message_id
from .ports import Principal
from .routing import RoutingService

log = logging.getLogger(__name__)

UPKEEP_S: Final = 1.0
TRIM_EVERY: Final = 3_600  # upkeeps: an hour
MAX_CLIENT: Final = 128


class Sent(NamedTuple):
    """What a send has come to. ids: one per target; is_abroad: something waits for other devices."""

    ids: list[bytes]
    ears: set[int]
    is_abroad: bool
    conflict: bool = False


class MessageService:
    """One per daemon; `run` is its task. Commands come from the local API, `show` from services/mail.py."""

    def __init__(
        self, database: Database, *, clock: Callable[[], int], entropy: Callable[[int], bytes],
        published: Callable[[str], None] = lambda _kind: None, routed: Callable[[str], None] = lambda _kind: None,
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; published: tells local listeners that `messages` or `programs` changed; routed: told of
        every message, by kind of its target."""
        self._database, self._clock, self._entropy = database, clock, entropy
        self._published, self._routed = published, routed
        self.addressing = Addressing(database, clock)
        self.routing = RoutingService(database, self.addressing)
        self.listeners = Listeners(database, self.addressing, clock=clock, published=published)
        self.history = MessageHistory(database, self.addressing, self.listeners)
        self.wake_mail: Callable[[], None] = lambda: None

    # ---- sending ---------------------------------------------------------------------------------------------------
    async def send(self, principal: Principal, command: SendMessage, client: str | None = None) -> Message:
        """Queue a message for everybody it is for. Args: client: the program that sends, else its credential.

        Raises: BadValue, TooBig; NotFound: no such device, or no rule for the type; AlreadyExists: the id was used for
        another message.
        """
        body = encode(command.body)
        if len(body) > MAX_MESSAGE_BODY_BYTES:
            raise TooBig(
                f"The body of a message has at most {MAX_MESSAGE_BODY_BYTES} bytes of JSON, this one {len(body)}. Put "
                "larger things into a document and send its id.", field="body",
            )  # fmt: skip
        check_topic(command.type)
        id = parse_message_id(command.id, "id") if command.id is not None else None
        reply = parse_message_id(command.reply_to, "reply_to") if command.reply_to is not None else b""
        named = [command.to] if isinstance(command.to, str) else command.to
        given = None if named is None else [parse_target(text) for text in named]
        ttl_ms = MESSAGE_TTL_MS if command.ttl_s is None else max(1, round(command.ttl_s * 1000))
        priority = Priority[command.priority.upper()]
        who = (client or principal.id)[:MAX_CLIENT]

        await self.resolve()  # what was sent before has its numbers before

        def write(tx: Tx) -> Sent:
            targets = given if given is not None else self.routing.targets(tx.connection, command.type)
            now_ms, ids, ears, is_abroad = self._clock(), [], set[int](), False
            for k, target in enumerate(dict.fromkeys(targets)):
                content = Content(
                    kind=target.kind, name=target.name, type=command.type, body=body, client=who, reply=reply
                )
                mid = id if id is not None and k == 0 else new_uuid7(now_ms, self._entropy(10))
                digest = content_digest(content)
                before = rows.find(tx.connection, THIS, mid)
                if before is not None:
                    if before.digest == digest and before.place == target.place:
                        return Sent([mid], set(), False)
                    audit.add(
                        tx, now_ms, "message.conflict", principal=principal.id, detail={"id": format_document_id(mid)}
                    )
                    return Sent([mid], set(), False, conflict=True)
                row = MessageRow(
                    0, THIS, mid, target.kind, target.name, target.place, command.type, who, principal.id, priority,
                    now_ms, now_ms + ttl_ms, digest, reply, body, 0, 0,
                )  # fmt: skip
                rid = rows.add(tx, row)
                is_abroad |= self.addressing.address(tx, rid, row, target)
                ears |= self.addressing.copy(tx, rid, row) if self.addressing.is_here(target) else set()
                ids.append(mid)
            return Sent(ids, ears, is_abroad)

        sent = await self._database.write(write)
        if sent.conflict:
            raise AlreadyExists("This id was used for another message; a new message gets a new id.", field="id")
        for _ in sent.ids:
            self._routed("message")
        self.listeners.stir(sent.ears)
        if sent.is_abroad:
            self.wake_mail()
        self._published("messages")
        answer = self.history.shown(sent.ids[0])
        answer.also = [format_document_id(mid) for mid in sent.ids[1:]]
        return answer

    async def broadcast(self, principal: Principal, command: BroadcastMessage) -> Message:
        """Send to everybody, everywhere."""
        to = "all" if command.mode is None else f"mode:{command.mode}"
        return await self.send(
            principal,
            SendMessage(
                type=command.type, body=command.body, to=to, priority=command.priority, ttl_s=command.ttl_s,
                id=command.id,
            ),
        )  # fmt: skip

    async def resolve(self) -> None:
        """The devices are known now: messages that waited for that go on."""
        if await self.addressing.resolve():
            self.told()
            self.wake_mail()

    # ---- arriving ----------------------------------------------------------------------------------------------------
    def show(self, tx: Tx, row: MessageRow, now_ms: int) -> set[int]:
        """A message of another device takes its place here. Returns the listeners to `stir` after the commit."""
        rid = rows.add(tx, row)
        rows.add_delivery(tx, rid, THIS, row.priority, MessageState.DELIVERED, now_ms)
        return self.addressing.copy(tx, rid, row)

    def arrived(self, ears: Iterable[int]) -> None:
        """Messages of other devices were shown."""
        self.listeners.stir(ears)
        self._routed("message")
        self._published("messages")

    def told(self, changed: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Deliveries of our own messages changed. Args: changed: (id, recipient) of each."""
        self.history.changed()
        self.listeners.tell_senders(changed)

    # ---- dealing with -----------------------------------------------------------------------------------------------
    async def ack(self, principal: Principal, command: AckMessages, ear: Ear | None) -> Acknowledged:
        """A program has dealt with messages. Without an ear it speaks for all programs here.

        Raises: BadValue: no id; Forbidden: a type that its credential does not give.
        """
        ids = [parse_message_id(text, "ids") for text in command.ids]
        now_ms = self._clock()

        def write(tx: Tx) -> tuple[int, list[tuple[bytes, bytes]], bool]:
            count, changed, is_abroad = 0, [], False
            for mid in ids:
                row = rows.get(tx.connection, mid)
                if row is None or not (principal.is_admin or self.history.may_hear(principal, row)):
                    continue
                if ear is not None and ear.listener.nr:
                    is_done = copies.acknowledge(tx, ear.listener.nr, row.rid)
                else:
                    is_done = any(
                        d.recipient == THIS and d.state == "delivered" for d in rows.deliveries(tx.connection, row.rid)
                    )
                    copies.acknowledge_all(tx, row.rid)
                count += is_done
                if is_done and rows.tell(tx, row.rid, THIS, MessageState.HANDLED, now_ms):
                    if row.sender == THIS:
                        changed.append((row.id, THIS))
                    else:
                        rows.add_receipt(tx, row.sender, row.id, MessageState.HANDLED, now_ms)
                        is_abroad = True
            return count, changed, is_abroad

        count, changed, is_abroad = await self._database.write(write)
        if ear is not None:
            ear.done(ids)
        self.told(changed)
        if is_abroad:
            self.wake_mail()
        return Acknowledged(count=count)

    async def ack_one(self, principal: Principal, command: AckMessage) -> Acknowledged:
        """Somebody has dealt with a message, for all programs here. Raises: NotFound."""
        self.history.seen(principal, command.id)
        return await self.ack(principal, AckMessages(ids=[command.id]), None)

    # ---- dead letters ------------------------------------------------------------------------------------------------
    async def retry(self, principal: Principal, command: RetryMessage) -> Message:
        """A dead message is sent once more, to its whole target, as a new one. Raises: NotFound, LocalError."""
        row = self.history.seen(principal, command.id)
        found = self._database.peek(lambda c: rows.deliveries(c, row.rid))
        if row.sender != THIS or not any(d.state in DEAD for d in found):
            raise LocalError("Only a message of yours that expired or failed can be sent again.")
        target = Target(row.kind, row.name, row.place)
        answer = await self.send(
            principal,
            SendMessage(
                type=row.type, body=msgspec.json.decode(row.body), to=target.text,
                priority=Priority(row.priority).name.lower(),  # type: ignore[arg-type]
                ttl_s=(row.expires_ms - row.created_ms) / 1000,
                reply_to=format_document_id(row.reply) if row.reply else None,
            ),
            row.client,
        )  # fmt: skip
        await self._database.write(lambda tx: rows.remove(tx, row.rid))
        return answer

    async def delete(self, principal: Principal, command: DeleteMessage) -> Deleted:
        """Forget a message. Raises: NotFound; LocalError: it is still on its way."""
        row = self.history.seen(principal, command.id)
        found = self._database.peek(lambda c: rows.deliveries(c, row.rid))
        if any(d.state in OPEN for d in found):
            raise LocalError("This message is still on its way; it can be deleted once it has arrived or expired.")
        if row.sender != THIS and self._clock() < row.expires_ms + DEDUPE_MS:
            await self.ack(principal, AckMessages(ids=[command.id]), None)
            await self._database.write(lambda tx: rows.forget_body(tx, row.rid))
        else:
            await self._database.write(lambda tx: rows.remove(tx, row.rid))
        self._published("messages")
        return Deleted(id=command.id)

    # ---- time --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """End what is over, forget what is old; until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                await self.tend(trim=turn % TRIM_EVERY == 0)
            except HybridGWError as error:  # a full disk: the next turn tries again
                log.warning("upkeep of messages failed: %s", error.code, extra={"event": "messages.upkeep"})
            turn += 1

    async def tend(self, *, trim: bool = False) -> None:
        """One turn. Args: trim: also forget what is old."""
        now_ms = self._clock()
        if self._database.peek(lambda c: rows.is_any_over(c, now_ms)):

            def write(tx: Tx) -> list[tuple[MessageRow, bytes]]:
                found = rows.expire(tx, now_ms)
                for row, recipient in found:
                    if row.sender != THIS and recipient == THIS:
                        rows.add_receipt(tx, row.sender, row.id, MessageState.EXPIRED, now_ms)
                return found

            over = await self._database.write(write)
            self.told([(row.id, recipient) for row, recipient in over if row.sender == THIS])
            if over:
                self.wake_mail()
                self._published("messages")
        if trim:
            online = self.listeners.online()

            def tidy(tx: Tx) -> None:
                copies.saw(tx, online, now_ms)
                copies.forget_old(tx, now_ms)
                rows.forget_old(tx, now_ms, DEDUPE_MS)

            await self._database.write(tidy)
