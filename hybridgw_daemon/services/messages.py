"""Messages between programs: sent, kept until they are dealt with, shown to who listens, listed.

What is for programs here is done in the transaction that stores it. What is for other devices is queued there and goes
by services/mail.py. Nothing is answered before it is on the disk. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec

from hybridgw_protocol.errors import AlreadyExists, BadValue, Forbidden, HybridGWError, LocalError, NotFound, TooBig
from hybridgw_protocol.ids import DeviceId, check_topic, format_document_id, parse_document_id
from hybridgw_protocol.limits import DEDUPE_MS, MAX_MESSAGE_BODY_BYTES, MESSAGE_TTL_MS
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_messages import (
    AckMessage,
    AckMessages,
    Acknowledged,
    BroadcastMessage,
    Deleted,
    DeleteMessage,
    Delivery,
    ExplainMessage,
    GetMessage,
    ListenMessages,
    ListMessages,
    ListNotifications,
    ListPrograms,
    ListRules,
    Message,
    MessagePage,
    Notification,
    NotificationList,
    Program,
    ProgramList,
    PutRules,
    RetryMessage,
    RouteDevice,
    RouteReport,
    RouteRule,
    RouteStep,
    RuleList,
    SendMessage,
)
from hybridgw_protocol.messages import DEAD, OPEN, MessageState, Priority
from hybridgw_storage.database import Connection, Database, Tx

from ..core.envelopes import Content, content_digest
from ..core.targets import HERE, Listener, Rule, Target, check_rule, decide, parse_target
from ..core.uuid7 import new_uuid7
from ..stores import audit, copies
from ..stores import messages as rows
from ..stores.messages import THIS, UNRESOLVED, MessageRow
from .ears import Ear, state_event
from .ports import Principal

K = TypeVar("K")
log = logging.getLogger(__name__)

UPKEEP_S: Final = 1.0
TRIM_EVERY: Final = 3_600  # upkeeps: an hour
MAX_CLIENT: Final = 128
_FAR: Final = 2**62


class Place(NamedTuple):
    """A device as messages know it. name: as people call it; mark: its fingerprint, 16 digits and dashes."""

    device: DeviceId
    name: str
    mark: str

    def is_meant(self, place: str) -> bool:
        """Does this text name it."""
        return place == self.name or place.replace("-", "").lower() == self.mark.replace("-", "")


class Members:
    """The devices of the space, as far as messages need them; nothing is known while the keys are locked."""

    def here(self) -> Place | None:
        """This device."""
        return None

    def others(self) -> list[Place] | None:
        """The other active devices; None: not known."""
        return None

    def name_of(self, device: bytes) -> str:
        """What people call it."""
        return device.hex()[:16]

    def stream(self) -> int:
        """What messages to other devices are numbered under."""
        return 0


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
        self.members = Members()
        self.wake_mail: Callable[[], None] = lambda: None
        self._ears: dict[int, dict[Ear, None]] = {}  # by number of the listener
        self._senders: dict[str, dict[Ear, None]] = {}  # by the name that programs have as senders
        self._changed = asyncio.Event()
        self._may_wait = True  # for the devices to be known; looked up at the start

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
        id = _parse_id(command.id, "id") if command.id is not None else None
        reply = _parse_id(command.reply_to, "reply_to") if command.reply_to is not None else b""
        named = [command.to] if isinstance(command.to, str) else command.to
        given = None if named is None else [parse_target(text) for text in named]
        ttl_ms = MESSAGE_TTL_MS if command.ttl_s is None else max(1, round(command.ttl_s * 1000))
        priority = Priority[command.priority.upper()]
        who = (client or principal.id)[:MAX_CLIENT]

        await self.resolve()  # what was sent before has its numbers before

        def write(tx: Tx) -> Sent:
            targets = given if given is not None else self._ruled(tx.connection, command.type)
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
                is_abroad |= self._address(tx, rid, row, target)
                ears |= self._copy(tx, rid, row) if self._is_here(target) else set()
                ids.append(mid)
            return Sent(ids, ears, is_abroad)

        sent = await self._database.write(write)
        if sent.conflict:
            raise AlreadyExists("This id was used for another message; a new message gets a new id.", field="id")
        for _ in sent.ids:
            self._routed("message")
        self.stir(sent.ears)
        if sent.is_abroad:
            self.wake_mail()
        self._published("messages")
        answer = self._shown(sent.ids[0])
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

    def _ruled(self, connection: Connection, type: str) -> list[Target]:
        found = decide(copies.rules(connection), type)
        if not found:
            raise NotFound(
                f"No rule says where messages of the type {type!r} go. Name a target, or add a rule.", field="to"
            )
        return [parse_target(text) for rule in found for text in rule.to]

    def _is_here(self, target: Target) -> bool:
        here = self.members.here()
        return target.place in ("", HERE) or (here is not None and here.is_meant(target.place))

    def _address(self, tx: Tx, rid: int, row: MessageRow, target: Target) -> bool:
        """Write down the devices that it goes to. Returns whether others are among them. Raises: NotFound."""
        now_ms = row.created_ms
        is_here, is_abroad = self._is_here(target), False
        if is_here:
            rows.add_delivery(tx, rid, THIS, row.priority, MessageState.DELIVERED, now_ms)
        if target.place != HERE and (target.place == "" or not is_here):
            others = self.members.others()
            if others is None:
                self._may_wait = True
                rows.add_delivery(tx, rid, UNRESOLVED, row.priority, MessageState.QUEUED, now_ms)
                return False
            meant = [o for o in others if target.place == "" or o.is_meant(target.place)]
            if not meant and not is_here:
                raise NotFound(
                    f"There is no device {target.place!r} among yours; 'hybridgw devices' lists them.", field="to"
                )
            for other in meant:
                self._enqueue(tx, rid, row, other.device)
                is_abroad = True
        return is_abroad

    def _enqueue(self, tx: Tx, rid: int, row: MessageRow, device: bytes) -> None:
        stream = self.members.stream()
        seq = rows.next_seq(tx, device, stream, row.priority)
        rows.add_delivery(
            tx, rid, device, row.priority, MessageState.QUEUED, row.created_ms, stream=stream, seq=seq,
            next_ms=row.created_ms,
        )  # fmt: skip

    def _copy(self, tx: Tx, rid: int, row: MessageRow) -> set[int]:
        """A copy for each program here that it is for; not for the one that sent it, unless that is named."""
        sender = (row.client, row.principal) if row.sender == THIS and row.kind != "client" else None
        found = [
            listener
            for listener in copies.listeners(tx)
            if listener.is_meant(row.kind, row.name) and (listener.client, listener.principal) != sender
        ]
        copies.add(tx, rid, row.priority, [listener.nr for listener in found])
        return {listener.nr for listener in found}

    async def resolve(self) -> None:
        """The devices are known now: messages that waited for that get their recipients."""
        if not self._may_wait or self.members.others() is None:
            return
        self._may_wait = False
        if not self._database.peek(rows.unresolved):
            return

        def write(tx: Tx) -> None:
            others = self.members.others()
            for rid in rows.unresolved(tx.connection) if others is not None else ():
                row = rows.by_rid(tx.connection, rid)
                meant = [o for o in others or () if row.place == "" or o.is_meant(row.place)]
                here = self.members.here()
                if not meant and row.place and not (here is not None and here.is_meant(row.place)):
                    rows.tell(tx, rid, UNRESOLVED, MessageState.FAILED, self._clock(), error="not_found")
                    continue
                rows.resolve(tx, rid)
                for other in meant:
                    self._enqueue(tx, rid, row, other.device)
                if here is not None and row.place and here.is_meant(row.place):
                    rows.add_delivery(tx, rid, THIS, row.priority, MessageState.DELIVERED, self._clock())
                    self._copy(tx, rid, row)

        try:
            await self._database.write(write)
        except BaseException:
            self._may_wait = True
            raise
        self.told()
        self.wake_mail()

    # ---- arriving ----------------------------------------------------------------------------------------------------
    def show(self, tx: Tx, row: MessageRow, now_ms: int) -> set[int]:
        """A message of another device takes its place here. Returns the listeners to `stir` after the commit."""
        rid = rows.add(tx, row)
        rows.add_delivery(tx, rid, THIS, row.priority, MessageState.DELIVERED, now_ms)
        return self._copy(tx, rid, row)

    def stir(self, numbers: Iterable[int]) -> None:
        """There is something for these listeners."""
        for nr in numbers:
            for ear in self._ears.get(nr, ()):
                ear.stir()

    def arrived(self, ears: Iterable[int]) -> None:
        """Messages of other devices were shown."""
        self.stir(ears)
        self._routed("message")
        self._published("messages")

    def told(self, changed: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Deliveries of our own messages changed. Args: changed: (id, recipient) of each."""
        self._changed.set()
        self._changed = asyncio.Event()
        for mid, recipient in changed if self._senders else ():
            self._database.peek(partial(self._tell_senders, mid=mid, recipient=recipient))

    def _tell_senders(self, connection: Connection, mid: bytes, recipient: bytes) -> None:
        row = rows.find(connection, THIS, mid)
        ears = () if row is None else self._senders.get(row.client, ())
        if row is None or not ears:
            return
        for delivery in rows.deliveries(connection, row.rid):
            if delivery.recipient == recipient:
                name = self._device_name(recipient)
                for ear in ears:
                    ear.tell(state_event(mid, name, delivery.state, delivery.at_ms, row.changes))

    # ---- listening ---------------------------------------------------------------------------------------------------
    async def listen(
        self, principal: Principal, mode: str, client_id: str, command: ListenMessages, wakened: asyncio.Event
    ) -> tuple[Ear, int]:
        """A program listens. Returns its ear, and how many messages wait for it.

        Raises: BadValue; Forbidden: a topic that its credential does not give.
        """
        for topic in command.topics:
            check_topic(topic)
            if not principal.allows("listen", topic):
                raise Forbidden(f"This credential does not give the right `listen:{topic}`.")
        if not command.app.isprintable():
            raise BadValue("The name of an app is printable.", field="app")
        now_ms = self._clock()

        def write(tx: Tx) -> Listener:
            before = {(x.principal, x.mode, x.client_id): x for x in copies.listeners(tx)}
            listener = copies.listen(tx, principal.id, mode, client_id, command.app, command.topics, now_ms)
            if before.get((principal.id, mode, client_id)) != listener:
                copies.claim(tx, listener, now_ms)
            return listener

        if command.receive:
            listener = await self._database.write(write)
        else:
            listener = Listener(0, principal.id, mode, client_id, "", frozenset())
        ear = Ear(listener, principal, self._database, wakened, self._leave, self._device_name)
        if command.receive:
            self._ears.setdefault(listener.nr, {})[ear] = None
            self._published("programs")
        self._senders.setdefault(listener.client, {})[ear] = None
        return ear, self._database.peek(lambda c: copies.count_waiting(c, listener.nr)) if command.receive else 0

    def _leave(self, ear: Ear) -> None:
        _drop(self._ears, ear.listener.nr, ear)
        _drop(self._senders, ear.listener.client, ear)
        self._published("programs")

    async def ack(self, principal: Principal, command: AckMessages, ear: Ear | None) -> Acknowledged:
        """A program has dealt with messages. Without an ear it speaks for all programs here.

        Raises: BadValue: no id; Forbidden: a type that its credential does not give.
        """
        ids = [_parse_id(text, "ids") for text in command.ids]
        now_ms = self._clock()

        def write(tx: Tx) -> tuple[int, list[tuple[bytes, bytes]], bool]:
            count, changed, is_abroad = 0, [], False
            for mid in ids:
                row = rows.get(tx.connection, mid)
                if row is None or not (principal.is_admin or self._may_hear(principal, row)):
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
        if count:
            self._published("messages")
        return Acknowledged(count=count)

    async def ack_one(self, principal: Principal, command: AckMessage) -> Acknowledged:
        """Somebody has dealt with a message, for all programs here. Raises: NotFound."""
        self._seen(principal, command.id)
        return await self.ack(principal, AckMessages(ids=[command.id]), None)

    # ---- looking -----------------------------------------------------------------------------------------------------
    async def list(self, principal: Principal, command: ListMessages) -> MessagePage:
        """The history, newest first. Raises: BadValue: no cursor; NotFound: no such peer."""
        before = _FAR
        if command.cursor is not None:
            if not command.cursor.isascii() or not command.cursor.isdigit() or len(command.cursor) > 18:
                raise BadValue("A cursor is what the page before it ended with.", field="cursor")
            before = int(command.cursor)
        sender = client = None
        if command.peer is not None:
            sender = self._device(command.peer)
            client = command.peer if sender is None else None

        def look(connection: Connection) -> list[MessageRow]:
            return rows.page(
                connection, box=command.box, type=command.type, sender=sender, client=client, state=command.state,
                before=before, limit=command.limit,
            )  # fmt: skip

        found = await self._database.read(look)
        items = [self._message(row) for row in found if principal.is_admin or self._may_hear(principal, row)]
        return MessagePage(items=items, next_cursor=str(found[-1].rid) if len(found) == command.limit else None)

    async def get(self, principal: Principal, command: GetMessage) -> Message:
        """One message, once it has changed. Raises: NotFound."""
        loop = asyncio.get_running_loop()
        until = loop.time() + command.wait_s
        while True:
            changed, row = self._changed, self._seen(principal, command.id)
            left = until - loop.time()
            if command.known is None or row.changes > command.known or left <= 0:
                return self._message(row)
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
                id=format_document_id(row.id), device=self._device_name(row.sender), client=row.client, type=row.type,
                priority=Priority(row.priority).name.lower(), at_ms=row.created_ms,  # type: ignore[arg-type]
            )
            for row in found
            if principal.is_admin or self._may_hear(principal, row)
        ]  # fmt: skip
        return NotificationList(items=items, waiting=count if principal.is_admin else len(items))

    async def programs(self, _: Principal, _command: ListPrograms) -> ProgramList:
        """Who listens here."""

        def look(connection: Connection) -> list[tuple[Listener, int, int]]:
            found = copies.read_listeners(connection)
            return [(listener, at, copies.count_waiting(connection, listener.nr)) for listener, at in found]

        found = await self._database.read(look)
        return ProgramList(
            items=[
                Program(
                    client=x.client, app=x.app, topics=sorted(x.topics), online=x.nr in self._ears, last_seen_ms=at,
                    waiting=count,
                )
                for x, at, count in found
            ]
        )  # fmt: skip

    # ---- dead letters ------------------------------------------------------------------------------------------------
    async def retry(self, principal: Principal, command: RetryMessage) -> Message:
        """A dead message is sent once more, to its whole target, as a new one. Raises: NotFound, LocalError."""
        row = self._seen(principal, command.id)
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
        row = self._seen(principal, command.id)
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

    # ---- rules -------------------------------------------------------------------------------------------------------
    async def rules(self, _: Principal, _command: ListRules) -> RuleList:
        """In their order."""
        return _rule_list(self._database.peek(copies.rules))

    async def put_rules(self, _: Principal, command: PutRules) -> RuleList:
        """Replace all. Raises: BadValue."""
        given = [Rule(r.name, r.type, tuple(r.to), r.go_on) for r in command.rules]
        for rule in given:
            check_rule(rule)
        if len({rule.name for rule in given}) != len(given):
            raise BadValue("Two rules have one name.", field="rules")
        await self._database.write(lambda tx: copies.put_rules(tx, given))
        return _rule_list(given)

    async def explain(self, _: Principal, command: ExplainMessage) -> RouteReport:
        """Where a message would go. Raises: BadValue."""
        check_topic(command.type)
        if command.to is None:
            found = decide(self._database.peek(copies.rules), command.type)
            wanted = [(text, f"rule {rule.name!r}") for rule in found for text in rule.to]
        else:
            wanted = [(text, "named") for text in ([command.to] if isinstance(command.to, str) else command.to)]
        return RouteReport(type=command.type, steps=[self._step(text, why) for text, why in wanted])

    def _step(self, text: str, why: str) -> RouteStep:
        target, devices, problem = parse_target(text), [], None
        if self._is_here(target):
            known = self._database.peek(copies.read_listeners)
            programs = [x.client for x, _ in known if x.is_meant(target.kind, target.name)]
            devices.append(RouteDevice(device=self._device_name(THIS), here=True, programs=programs))
            if not programs:
                problem = "no program here listens for it yet; it waits for one"
        if target.place != HERE and (target.place == "" or not devices):
            others = self.members.others()
            if others is None:
                problem = "the keys of this device are not open, so other devices are not known yet; it waits for that"
            meant = [o for o in others or () if target.place == "" or o.is_meant(target.place)]
            devices += [RouteDevice(device=o.name, here=False, programs=[]) for o in meant]
            if others is not None and not devices:
                problem = f"there is no device {target.place!r}"
        return RouteStep(to=text, why=why, devices=devices, problem=problem)

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
            online = list(self._ears)

            def tidy(tx: Tx) -> None:
                copies.saw(tx, online, now_ms)
                copies.forget_old(tx, now_ms)
                rows.forget_old(tx, now_ms, DEDUPE_MS)

            await self._database.write(tidy)

    # ---- shown -------------------------------------------------------------------------------------------------------
    def _may_hear(self, principal: Principal, row: MessageRow) -> bool:
        if row.principal == principal.id:
            return True
        return principal.allows("listen", row.name if row.kind == "topic" else row.type)

    def _seen(self, principal: Principal, text: str) -> MessageRow:
        """Raises: NotFound: there is none, or none that it may know of."""
        mid = _parse_id(text, "id")
        row = self._database.peek(lambda c: rows.get(c, mid))
        if row is None or not (principal.is_admin or self._may_hear(principal, row)):
            raise NotFound(f"There is no message {text}.")
        return row

    def _shown(self, mid: bytes) -> Message:
        row = self._database.peek(lambda c: rows.find(c, THIS, mid))
        assert row is not None  # noqa: S101 - it was written
        return self._message(row)

    def _message(self, row: MessageRow) -> Message:
        found = self._database.peek(lambda c: rows.deliveries(c, row.rid))
        order = list(MessageState)
        dead = [d.state for d in found if d.state in DEAD]
        state = dead[0] if dead else min((d.state for d in found), key=order.index, default=MessageState.DELIVERED)
        return Message(
            id=format_document_id(row.id), incoming=row.sender != THIS, device=self._device_name(row.sender),
            client=row.client, to=Target(row.kind, row.name, row.place).text, type=row.type,
            body=msgspec.Raw(row.body), priority=Priority(row.priority).name.lower(),  # type: ignore[arg-type]
            created_ms=row.created_ms, expires_ms=row.expires_ms, state=str(state),  # type: ignore[arg-type]
            deliveries=[
                Delivery(
                    device="?" if d.recipient == UNRESOLVED else self._device_name(d.recipient),
                    here=d.recipient == THIS, state=str(d.state), at_ms=d.at_ms, tries=d.tries, error=d.error,  # type: ignore[arg-type]
                )
                for d in found
            ],
            changes=row.changes, reply_to=format_document_id(row.reply) if row.reply else None, gap=bool(row.gap),
        )  # fmt: skip

    def _device_name(self, device: bytes) -> str:
        if device != THIS:
            return self.members.name_of(device)
        here = self.members.here()
        return HERE if here is None else here.name

    def _device(self, text: str) -> bytes | None:
        """The device of this name; None: there is none, so it is a program's."""
        here = self.members.here()
        if text == HERE or (here is not None and here.is_meant(text)):
            return THIS
        return next((o.device for o in self.members.others() or () if o.is_meant(text)), None)


def _drop(where: dict[K, dict[Ear, None]], key: K, ear: Ear) -> None:
    found = where.get(key, {})
    found.pop(ear, None)
    if not found:
        where.pop(key, None)


def _rule_list(given: Iterable[Rule]) -> RuleList:
    return RuleList(items=[RouteRule(name=r.name, type=r.pattern, to=list(r.to), go_on=r.go_on) for r in given])


def _parse_id(text: str, field: str) -> bytes:
    """Raises: BadValue: no UUID."""
    found = parse_document_id(text)
    if not isinstance(found, bytes):
        raise BadValue("The id of a message is a UUID in lower case.", field=field)
    return found
