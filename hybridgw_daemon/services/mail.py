"""Messages between devices: sealed and put when there is a way, taken in once and in order, receipts both ways.

It owns no connection: a pump (transports/peers/mail.py) asks it what to put and hands it what came. What programs see
of messages is services/messages.py. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.envelope import (
    FLAG_RECEIPT,
    Envelope,
    EnvelopeHeader,
    parse_envelope,
    parse_tombstone,
    verify_envelope,
)
from hybridgw_protocol.errors import CannotOpen, HybridGWError, SecretsLocked
from hybridgw_protocol.frames import MsgPut, MsgStored
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.limits import HOLD_MS, MAX_FRAME_ENVELOPES, MAX_RECEIPTS, MESSAGE_TTL_MS
from hybridgw_protocol.messages import MessageState, Priority, Turns
from hybridgw_storage.database import Database, Tx

from ..core.envelopes import (
    Content,
    Receipt,
    content_digest,
    decode_content,
    encode_content,
    open_message,
    open_receipts,
    seal_message,
)
from ..core.uuid7 import new_uuid7
from ..stores import alarms, control
from ..stores import mail as rows
from ..stores import messages as message_rows
from ..stores.mail import Held, ReceiptRow
from ..stores.messages import THIS, DeliveryRow, MessageRow
from .device_names import given_names
from .messages import Members, MessageService, Place
from .replica import PROVISIONAL, Sealer
from .space import Space, fingerprint

log = logging.getLogger(__name__)

FRAME_BYTES: Final = 64 * 1024  # of one frame, and one envelope more
RETRY_FIRST_MS: Final = 60_000
RETRY_MOST_MS: Final = 86_400_000
LOOK_S: Final = 1.0
NAMES_MS: Final = 1_000  # a list of messages asks for a name with each


class SpaceMembers(Members):
    """The devices of the space that are active, once the keys are open."""

    def __init__(self, space: Space, database: Database, clock: Callable[[], int]) -> None:
        self._space, self._database, self._clock = space, database, clock
        self._given: dict[str, str] = {}  # as last looked up for being shown
        self._given_ms = 0

    @property
    def _is_open(self) -> bool:
        return self._space.locked is None and self._space.own_log != PROVISIONAL

    def here(self) -> Place | None:
        """This device."""
        if not self._is_open:
            return None
        device = self._space.identity.device
        return Place(device, self.name_of(device), fingerprint(device))

    def others(self) -> list[Place] | None:
        """The other active devices; None: not known."""
        if not self._is_open:
            return None
        own, given = self._space.identity.device, self._database.peek(given_names)
        return [
            Place(info.device, given.get(info.device.hex()) or self._space.name_of(info)[0], fingerprint(info.device))
            for info in self._space.active_devices()
            if info.device != own
        ]

    def name_of(self, device: bytes) -> str:
        """What people call it; a new name is known within NAMES_MS."""
        if not self._is_open:
            return fingerprint(DeviceId(device))
        now_ms = self._clock()
        if not self._given_ms <= now_ms < self._given_ms + NAMES_MS:
            self._given, self._given_ms = self._database.peek(given_names), now_ms
        if name := self._given.get(device.hex()):
            return name
        info = next((info for info in self._space.devices() if info.device == device), None)
        return fingerprint(DeviceId(device)) if info is None else self._space.name_of(info)[0]

    def stream(self) -> int:
        """Our log: a database that was put back opens another one."""
        return self._space.own_log


class Parcel(NamedTuple):
    """A frame to put, and what it stands for. deliveries, receipts: by recipient's device id and message id."""

    frame: MsgPut
    deliveries: dict[bytes, DeliveryRow]
    receipts: dict[bytes, list[ReceiptRow]]


class Taken(NamedTuple):
    """What came of messages that arrived. done: to be forgotten by who sent them; kept: to be tried again, for a key or
    a control record is not here yet."""

    done: list[bytes]
    kept: list[bytes]


class _Came:
    """What a transaction has changed, to be told after it."""

    def __init__(self) -> None:
        self.ears: set[int] = set()
        self.changed: list[tuple[bytes, bytes]] = []
        self.shown = 0
        self.conflicts = 0


class MailService:
    """One per daemon; `run` is its task."""

    def __init__(
        self, database: Database, space: Space, messages: MessageService, *, clock: Callable[[], int],
        entropy: Callable[[int], bytes], wake: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; wake: all pumps look for something to put."""
        self._database, self._space, self._messages = database, space, messages
        self._clock, self._entropy, self._wake = clock, entropy, wake
        self.dropped: Counter[str] = Counter()  # what was refused, by reason
        messages.members = SpaceMembers(space, database, clock)
        messages.wake_mail = wake

    # ---- putting ---------------------------------------------------------------------------------------------------
    def compose(
        self, turns: Turns, after: dict[Priority, int], flying: Collection[tuple[int, bytes]], told: Collection[bytes],
        only: bytes | None = None,
    ) -> Parcel | None:  # fmt: skip
        """The next frame to put; None: nothing is due, or there is no key to seal under.

        Args: after: of each priority the rid that was looked at last, moved on here; flying: deliveries that were put
        and not answered; told: ids of receipts that were put and not answered; only: to this device, which is linked
        directly.
        """
        sealer = self._space.sealer() if self._space.locked is None else None
        if sealer is None:
            return None
        now_ms = self._clock()
        found = [
            row for row in self._database.peek(lambda c: rows.receipts(c, MAX_RECEIPTS * 2, only)) if row.id not in told
        ]
        if found:
            return self._compose_receipts(sealer, found, now_ms)
        queues: dict[Priority, list[DeliveryRow]] = {}
        for priority in Priority:
            since = after[priority]
            due = self._database.peek(
                lambda c, p=priority, s=since: message_rows.due(c, p, s, now_ms, MAX_FRAME_ENVELOPES, only)  # type: ignore[misc]  # bound now
            )
            due = [d for d in due if (d.rid, d.recipient) not in flying]
            if due:
                queues[priority] = due
        if not queues:
            return None
        return self._compose_from(sealer, queues[turns.pick(queues)], after, now_ms)

    def _compose_from(
        self, sealer: Sealer, due: Sequence[DeliveryRow], after: dict[Priority, int], now_ms: int
    ) -> Parcel:
        parcel, size = Parcel(MsgPut(m=[], x=[]), {}, {}), 0
        for delivery in due:
            if size >= FRAME_BYTES:
                break
            row = self._database.peek(lambda c, d=delivery: message_rows.by_rid(c, d.rid))  # type: ignore[misc]  # bound now
            header = EnvelopeHeader(
                0, sealer.space, row.id, sealer.device, DeviceId(delivery.recipient), LogId(delivery.stream),
                delivery.seq, Priority(row.priority), row.created_ms, row.expires_ms, sealer.kid, self._entropy(24),
            )  # fmt: skip
            content = Content(
                kind=row.kind, name=row.name, type=row.type, body=row.body, client=row.client, reply=row.reply
            )
            sealed = seal_message(header, content, space_key=sealer.key, sign_secret=sealer.sign_secret)
            if delivery.state is MessageState.EXPIRED or row.expires_ms <= now_ms:
                parcel.frame.x.append(sealed.tombstone)
            else:
                parcel.frame.m.append(sealed.blob)
                size += len(sealed.blob)
            parcel.deliveries[header.recipient_key] = delivery
            after[Priority(delivery.priority)] = delivery.rid - 1  # others of this message may not fit any more
        else:
            after[Priority(due[-1].priority)] = due[-1].rid - 1
        return parcel

    def _compose_receipts(self, sealer: Sealer, found: Sequence[ReceiptRow], now_ms: int) -> Parcel:
        parcel = Parcel(MsgPut(m=[], x=[]), {}, {})
        by_recipient: dict[bytes, list[ReceiptRow]] = {}
        for row in found:
            by_recipient.setdefault(row.recipient, []).append(row)
        for recipient, told in by_recipient.items():
            part = told[:MAX_RECEIPTS]
            header = EnvelopeHeader(
                FLAG_RECEIPT, sealer.space, new_uuid7(now_ms, self._entropy(10)), sealer.device, DeviceId(recipient),
                LogId(0), 0, Priority.HIGH, now_ms, now_ms + MESSAGE_TTL_MS, sealer.kid, self._entropy(24),
            )  # fmt: skip
            content = [Receipt(row.id, row.state, row.at_ms) for row in part]
            sealed = seal_message(header, content, space_key=sealer.key, sign_secret=sealer.sign_secret)
            parcel.frame.m.append(sealed.blob)
            parcel.receipts[header.recipient_key] = part
        return parcel

    async def put(self, parcel: Parcel, answer: MsgStored, told: MessageState) -> None:
        """A frame was answered. Args: told: STORED by a relay, HANDED by the device itself."""
        now_ms = self._clock()
        refused = dict(zip(answer.no, answer.why, strict=False))

        def write(tx: Tx) -> list[tuple[bytes, bytes]]:
            changed: list[tuple[bytes, bytes]] = []
            for key in answer.ids:
                if receipts := parcel.receipts.get(key):
                    rows.told(tx, receipts)
                elif delivery := parcel.deliveries.get(key):
                    again = now_ms + min(RETRY_MOST_MS, RETRY_FIRST_MS << min(delivery.tries, 11))
                    is_open = delivery.state is not MessageState.EXPIRED
                    if is_open and message_rows.tell(tx, delivery.rid, delivery.recipient, told, now_ms):
                        changed.append((key[16:], delivery.recipient))
                    message_rows.put_again(tx, delivery.rid, delivery.recipient, again if is_open else None, None)
            for key, code in refused.items():
                if receipts := parcel.receipts.get(key):
                    rows.told(tx, receipts if code == "revoked" else ())
                elif delivery := parcel.deliveries.get(key):
                    if code == "revoked" and message_rows.tell(
                        tx, delivery.rid, delivery.recipient, MessageState.FAILED, now_ms, error=code
                    ):
                        changed.append((key[16:], delivery.recipient))
                    else:
                        message_rows.put_again(tx, delivery.rid, delivery.recipient, now_ms + RETRY_FIRST_MS, code)
            return changed

        self._messages.told(await self._database.write(write))

    # ---- taking in -------------------------------------------------------------------------------------------------
    async def take(self, envelopes: Iterable[bytes], tombstones: Iterable[bytes]) -> Taken:
        """Messages for this device. What is in `done` is durable, or worth nothing.

        Raises: BadFrame: bytes that are no envelope: whoever passed them on breaks the protocol.
        """
        taken = Taken([], [])
        items: list[tuple[Envelope, Content | list[Receipt] | None]] = []
        came = [(blob, parse_envelope(blob)) for blob in envelopes]
        came += [(blob, parse_tombstone(blob)) for blob in tombstones]
        for blob, envelope in came:
            try:
                opened = self._open(envelope)
            except _NotYet:
                taken.kept.append(blob)
                continue
            except HybridGWError as error:
                log.warning(
                    "a message was dropped: %s", error.code,
                    extra={"event": "messages.dropped", "device": envelope.header.sender.hex()},
                )  # fmt: skip
                self.dropped[error.code] += 1
                taken.done.append(envelope.header.sender_key)
                continue
            items.append((envelope, opened))
            taken.done.append(envelope.header.sender_key)
        if items:
            now_ms = self._clock()

            def write(tx: Tx) -> _Came:
                came = _Came()
                for envelope, opened in items:
                    control.saw_device(tx, envelope.header.sender, now_ms)
                    if isinstance(opened, list):
                        self._take_receipts(tx, envelope.header, opened, came)
                    elif not envelope.header.is_receipt:
                        self._take_message(tx, envelope.header, opened, now_ms, came)
                return came

            self._tell(await self._database.write(write))
        return taken

    def _open(self, envelope: Envelope) -> Content | list[Receipt] | None:
        """Raises: _NotYet; BadSignature, CannotOpen: it is worth nothing."""
        header, space = envelope.header, self._space
        identity = space.identity
        if header.space != identity.space or header.recipient != identity.device:
            raise CannotOpen("A message for another device came.")
        public = space.verify_key(header.sender)
        if public is None:
            raise _NotYet
        verify_envelope(envelope, public)
        if all(info.device != header.sender for info in space.active_devices()):
            raise CannotOpen("A message of a device that was put out came.")
        if envelope.ciphertext is None:
            return None
        key = space.key(header.kid)
        if key is None:
            raise _NotYet
        return open_receipts(envelope, key) if header.is_receipt else open_message(envelope, key)

    def _take_receipts(self, tx: Tx, header: EnvelopeHeader, receipts: Sequence[Receipt], came: _Came) -> None:
        for receipt in receipts:
            row = message_rows.find(tx.connection, THIS, receipt.id)
            if row is not None and message_rows.tell(tx, row.rid, header.sender, receipt.state, receipt.at_ms):
                came.changed.append((row.id, header.sender))

    def _take_message(self, tx: Tx, header: EnvelopeHeader, content: Content | None, now_ms: int, came: _Came) -> None:
        """Show it, keep it for its turn, or know it again."""
        before = message_rows.find(tx.connection, header.sender, header.id)
        if before is not None:
            if content is not None and content_digest(content) != before.digest:
                came.conflicts += 1
                alarms.raise_alarm(
                    tx, now_ms, "message_conflict",
                    "A device sent two messages under one id; the first one counts. Its program, or the device, is not "
                    "in order.", device=header.sender.hex(),
                )  # fmt: skip
                return
            for delivery in message_rows.deliveries(tx.connection, before.rid):
                message_rows.add_receipt(tx, header.sender, header.id, delivery.state, delivery.at_ms)
            return
        place = (header.sender, int(header.stream), int(header.priority))
        packed = None if content is None or header.expires_ms <= now_ms else encode_content(content)
        held = Held(*place, header.seq, header.id, header.created_ms, header.expires_ms, now_ms, packed)
        last = rows.last_seq(tx, *place)
        if header.seq > last + 1:
            rows.hold(tx, held)
        elif header.seq <= last:
            self._show(tx, held, now_ms, came, gap=True)
        else:
            rows.take_held(tx, *place, header.seq)
            self._pass(tx, held, now_ms, came, gap=False)

    def _pass(self, tx: Tx, held: Held, now_ms: int, came: _Came, *, gap: bool) -> None:
        """Its turn has come, and with it that of those that wait behind it."""
        place, seq = (held.sender, held.stream, held.priority), held.seq
        self._show(tx, held, now_ms, came, gap=gap)
        while (following := rows.take_held(tx, *place, seq + 1)) is not None:
            seq += 1
            self._show(tx, following, now_ms, came, gap=False)
        rows.set_last_seq(tx, *place, seq)

    def _show(self, tx: Tx, held: Held, now_ms: int, came: _Came, *, gap: bool) -> None:
        if message_rows.find(tx.connection, held.sender, held.id) is not None:
            return
        if held.content is None or held.expires_ms <= now_ms:
            message_rows.add_receipt(tx, held.sender, held.id, MessageState.EXPIRED, now_ms)
            return
        content = decode_content(held.content)
        row = MessageRow(
            0, held.sender, held.id, content.kind, content.name, "", content.type, content.client, "", held.priority,
            held.created_ms, held.expires_ms, content_digest(content), content.reply, content.body, int(gap), 0,
        )  # fmt: skip
        came.ears |= self._messages.show(tx, row, now_ms)
        came.shown += 1
        message_rows.add_receipt(tx, held.sender, held.id, MessageState.DELIVERED, now_ms)

    def _tell(self, came: _Came) -> None:
        if came.shown:
            self._messages.arrived(came.ears)
        if came.changed:
            self._messages.told(came.changed)
        self._wake()

    # ---- time ------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Show what has waited long enough, put again what was not answered; until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.tend()
            except SecretsLocked:
                continue
            except HybridGWError as error:  # a full disk: the next turn tries again
                log.warning("upkeep of mail failed: %s", error.code, extra={"event": "mail.upkeep"})

    async def tend(self) -> None:
        """One turn."""
        await self._messages.resolve()
        now_ms = self._clock()
        waiting = self._database.peek(lambda c: rows.overdue(c, now_ms - HOLD_MS))
        if waiting:

            def write(tx: Tx) -> _Came:
                came = _Came()
                while places := rows.overdue(tx.connection, now_ms - HOLD_MS):
                    for place in places:
                        first = rows.first_held(tx, *place)
                        held = None if first is None else rows.take_held(tx, *place, first)
                        if held is not None:
                            self._pass(tx, held, now_ms, came, gap=True)
                return came

            self._tell(await self._database.write(write))
        due_ms = self._database.peek(message_rows.next_due_ms)
        if due_ms is not None and due_ms <= now_ms:
            self._wake()


class _NotYet(Exception):
    """A key or a control record is not here yet."""
