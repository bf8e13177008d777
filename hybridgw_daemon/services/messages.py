"""Messages between programs: sent, kept until they are dealt with, ended when their time is over.

What is for programs here is done in the transaction that stores it. What is for other devices is queued there and goes
by services/mail.py. Nothing is answered before it is on the disk. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from hybridgw_protocol.errors import LocalError, TooBig
from hybridgw_protocol.ids import check_topic, format_document_id
from hybridgw_protocol.limits import DEDUPE_MS, MAX_MESSAGE_BODY_BYTES, MAX_MESSAGE_TTL_MS, MESSAGE_TTL_MS
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
from hybridgw_protocol.messages import DEAD, OPEN, PRIORITY_BY_NAME, PRIORITY_NAMES, MessageState
from hybridgw_storage.database import Database, Tx

from ..core.targets import Rule, Target, parse_target
from ..stores import copies
from ..stores import messages as rows
from ..stores.messages import THIS, Change, Entries, MessageRow
from ..stores.people import forget_old_receipts, is_foreign
from .addressing import Addressing, Entered
from .ears import Ear, Place
from .listeners import Listeners
from .message_history import MessageHistory, parse_message_id
from .outbox import Letter, Outbox
from .ports import Principal
from .presence import PresenceService
from .routing import RoutingService
from .upkeep import keep_up

UPKEEP_S: Final = 1.0
TRIM_EVERY: Final = 3_600  # upkeeps: an hour
MAX_CLIENT: Final = 128


Posted = asyncio.Future[list[Entered]]


class MessageService:
    """One per daemon; `run` is its task. Commands come from the local API, `show` from services/mail.py."""

    def __init__(
        self, database: Database, *, clock: Callable[[], int], entropy: Callable[[int], bytes],
        published: Callable[[str], None] = lambda _kind: None,
        routed: Callable[[str, int], None] = lambda _kind, _count: None, rules: Sequence[Rule] = (),
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; published: tells local listeners that `messages` or `programs` changed; routed: told of
        messages: their kind, and how many; rules: of the configuration, for messages without a target."""
        self._database, self._clock, self._entropy = database, clock, entropy
        self._published, self._routed = published, routed
        self.addressing = Addressing(database, clock)
        self.listeners = Listeners(database, self.addressing, clock=clock, published=self._programs_changed)
        self.presence = PresenceService(database, self.addressing, self.listeners, clock=clock, published=published)
        self.routing = RoutingService(database, self.addressing, rules, self.presence.of)
        self.history = MessageHistory(database, self.addressing, self.listeners)
        self._outbox = Outbox(
            database, self.addressing, self.routing, clock=clock, entropy=entropy, resolve=self.resolve,
            sent=self._sent,
        )  # fmt: skip
        self.wake_mail: Callable[[], None] = lambda: None
        self.resolved: Callable[[], None] = lambda: None  # messages of long ago have their recipients now

    def _programs_changed(self, kind: str) -> None:
        self._published(kind)
        self.presence.changed()

    # ---- sending ---------------------------------------------------------------------------------------------------
    def post(self, principal: Principal, command: SendMessage, client: str | None = None) -> Posted:
        """Queue a message for everybody it is for; the future is done once it is durable. Args: client: the program
        that sends, else its credential.

        Raises: BadValue, TooBig; the future: NotFound: no such device, or no rule for the type; AlreadyExists: the id
        was used for another message.
        """
        body = encode(command.body)
        if len(body) > MAX_MESSAGE_BODY_BYTES:
            raise TooBig(
                f"The body of a message has at most {MAX_MESSAGE_BODY_BYTES} bytes of JSON, this one {len(body)}. Put "
                "larger things into a document and send its id.", field="body",
            )  # fmt: skip
        check_topic(command.type, "type")
        named = [command.to] if isinstance(command.to, str) else command.to
        letter = Letter(
            principal=principal.id, client=(client or principal.id)[:MAX_CLIENT], type=command.type, body=body,
            targets=None if named is None else [parse_target(text) for text in named],
            priority=PRIORITY_BY_NAME[command.priority],
            ttl_ms=MESSAGE_TTL_MS if command.ttl_s is None else max(1, round(command.ttl_s * 1000)),
            id=parse_message_id(command.id, "id") if command.id is not None else None,
            reply=parse_message_id(command.reply_to, "reply_to") if command.reply_to is not None else b"",
            waiter=asyncio.get_running_loop().create_future(),
        )  # fmt: skip
        self._outbox.put(letter)
        return letter.waiter

    def _sent(self, letters: Sequence[Letter]) -> None:
        """They are durable."""
        ears, is_abroad, count = set[int](), False, 0
        for letter in letters:
            for entered in letter.entered:
                count += 1
                ears.update(entered.ears)
                is_abroad = is_abroad or any(d.seq or is_foreign(d.recipient) for d in entered.deliveries)
        if count:
            self._routed("message", count)
        self.listeners.stir(ears)
        if is_abroad:
            self.wake_mail()
        self._published("messages")

    def answer(self, entered: Sequence[Entered]) -> Message:
        """What a call to send is answered with."""
        first = entered[0]
        answer = self.history.message(first.row, first.deliveries or None)
        answer.also = [format_document_id(other.row.id) for other in entered[1:]]
        return answer

    async def send(self, principal: Principal, command: SendMessage, client: str | None = None) -> Message:
        """As `post`, for who waits."""
        return self.answer(await self.post(principal, command, client))

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
            self.resolved()

    # ---- arriving ----------------------------------------------------------------------------------------------------
    def show(self, tx: Tx, entries: Entries, row: MessageRow, now_ms: int) -> list[int]:
        """A message of another device takes its place here. Returns the listeners to `stir` after the commit."""
        row = entries.add(row)
        entries.add_delivery(row, THIS, MessageState.DELIVERED, now_ms)
        return self.addressing.copy(tx, entries, row)

    def arrived(self, ears: Iterable[int], count: int) -> None:
        """So many messages of other devices were shown."""
        self.listeners.stir(ears)
        self._routed("message", count)
        self._published("messages")

    def told(self, changed: Sequence[Change] = ()) -> None:
        """Deliveries of our own messages changed."""
        self.history.changed()
        self.listeners.tell_senders(changed)

    # ---- dealing with -----------------------------------------------------------------------------------------------
    async def ack(self, principal: Principal, command: AckMessages, ear: Ear | None) -> Acknowledged:
        """A program has dealt with messages. Without an ear it speaks for all programs here.

        Raises: BadValue: no id; Forbidden: a type that its credential does not give.
        """
        ids = [parse_message_id(text, "ids") for text in command.ids]
        now_ms = self._clock()
        shown = [] if ear is None else ear.shown(ids)

        def write(tx: Tx) -> tuple[int, list[Change], bool]:
            places = shown
            if len(places) < len(ids):  # of another connection, or for all programs
                found = rows.find_all(tx.connection, ids).values()
                places = [
                    Place(row.rid, row.sender, row.id, row.priority)
                    for row in found
                    if principal.is_admin or self.history.may_hear(principal, row)
                ]
            done = self._acknowledge(tx, places, ear.listener.nr if ear is not None else 0)
            told = rows.tell(tx, THIS, list(done), MessageState.HANDLED, now_ms)
            abroad = [done[change.rid] for change in told if done[change.rid].sender != THIS]
            rows.add_newer_receipts(tx, [(place.sender, place.id, MessageState.HANDLED, now_ms) for place in abroad])
            return len(done), [change for change in told if done[change.rid].sender == THIS], bool(abroad)

        count, changed, is_abroad = await self._database.write(write)
        if ear is not None:
            ear.done(ids)
        if changed:
            self.told(changed)
        if is_abroad:
            self.wake_mail()
        if count:
            self._published("messages")
        return Acknowledged(count=count)

    def _acknowledge(self, tx: Tx, places: Sequence[Place], nr: int) -> dict[int, Place]:
        """Returns those that were waited for, by rid. Args: nr: of the listener; 0: all of them."""
        by_rid = {place.rid: place for place in places}
        if not nr:
            waiting = rows.shown_here(tx.connection, list(by_rid))
            copies.drop(tx, waiting)
            return {rid: by_rid[rid] for rid in waiting}
        done: dict[int, Place] = {}
        for priority in {place.priority for place in places}:
            rids = [place.rid for place in places if place.priority == priority]
            done |= {rid: by_rid[rid] for rid in copies.acknowledge(tx, nr, priority, rids)}
        return done

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
                priority=PRIORITY_NAMES[row.priority],  # type: ignore[arg-type]
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
        await keep_up("messages", UPKEEP_S, lambda turn: self.tend(trim=turn % TRIM_EVERY == 0))

    async def tend(self, *, trim: bool = False) -> None:
        """One turn. Args: trim: also forget what is old."""
        now_ms = self._clock()
        if self._database.peek(lambda c: rows.is_any_over(c, now_ms)):

            def write(tx: Tx) -> list[tuple[MessageRow, Change]]:
                found = rows.expire(tx, now_ms)
                rows.add_receipts(
                    tx,
                    [
                        (row.sender, row.id, MessageState.EXPIRED, now_ms)
                        for row, change in found
                        if row.sender != THIS and change.recipient == THIS
                    ],
                )
                return found

            over = await self._database.write(write)
            self.told([change for row, change in over if row.sender == THIS])
            if over:
                self.wake_mail()
                self._published("messages")
        if trim:
            online = self.listeners.online()

            def tidy(tx: Tx) -> None:
                copies.saw(tx, online, now_ms)
                copies.forget_old(tx, now_ms)
                rows.forget_old(tx, now_ms, DEDUPE_MS)
                forget_old_receipts(tx, now_ms - MAX_MESSAGE_TTL_MS)

            await self._database.write(tidy)
