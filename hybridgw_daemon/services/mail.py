"""Messages between devices: sealed and put when there is a way, taken in once and in order, receipts both ways.

It owns no connection: a pump (transports/peers/mail.py) asks it what to put and hands it what came. What programs see
of messages is services/messages.py. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from hybridgw_protocol.envelope import (
    FLAG_PRESENCE,
    FLAG_RECEIPT,
    Envelope,
    EnvelopeHeader,
    parse_envelope,
    parse_tombstone,
    verify_envelope,
)
from hybridgw_protocol.errors import CannotOpen, HybridGWError
from hybridgw_protocol.frames import MsgPut, MsgStored
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.limits import AWAY_MS, EARLY_MS, HOLD_MS, MAX_FRAME_ENVELOPES, MAX_RECEIPTS, MESSAGE_TTL_MS
from hybridgw_protocol.membership import DeviceInfo
from hybridgw_protocol.messages import MessageState, Priority, Turns
from hybridgw_storage.database import Connection, Database, Tx

from ..core.envelopes import (
    Content,
    Presence,
    Receipt,
    content_digest,
    decode_content,
    encode_content,
    open_message,
    open_presence,
    open_receipts,
    seal_message,
)
from ..core.uuid7 import new_uuid7
from ..stores import alarms, control
from ..stores import mail as rows
from ..stores import messages as message_rows
from ..stores.mail import Held, ReceiptRow
from ..stores.messages import THIS, Change, DeliveryRow, Entries, MessageRow
from ..stores.people import is_foreign
from .addressing import Members, Place
from .device_names import given_names
from .messages import MessageService
from .replica import PROVISIONAL, Sealer
from .space import Space, fingerprint
from .upkeep import keep_up

log = logging.getLogger(__name__)

FRAME_BYTES: Final = 64 * 1024  # of one frame, and one envelope more
RETRY_FIRST_MS: Final = 60_000
RETRY_MOST_MS: Final = 86_400_000
LOOK_S: Final = 1.0
NAMES_MS: Final = 1_000  # a list of messages asks for a name with each


class SpaceMembers(Members):
    """The devices of the space that are active, once the keys are open. Names are decrypted once."""

    def __init__(self, space: Space, database: Database, clock: Callable[[], int]) -> None:
        self._space, self._database, self._clock = space, database, clock
        self._heads: list[bytes] = []  # of the control log that the following is true for
        self._names: dict[bytes, str] = {}
        self._given: dict[str, str] = {}  # what people call them, as last looked up for being shown
        self._given_ms = 0
        self._shown: dict[bytes, str] = {}  # names that were shown since then
        self._here: Place | None = None

    @property
    def _is_open(self) -> bool:
        return self._space.locked is None and self._space.own_log != PROVISIONAL

    def here(self) -> Place | None:
        """This device."""
        if not self._is_open:
            return None
        device, here = self._space.identity.device, self._here
        name = self.name_of(device)
        if here is None or here.device != device or here.name != name:
            here = self._here = Place(device, name, fingerprint(device))
        return here

    def others(self) -> list[Place] | None:
        """The other active devices; None: not known."""
        if not self._is_open:
            return None
        own, given = self._space.identity.device, self._database.peek(given_names)
        return [
            Place(info.device, given.get(info.device.hex()) or self._name(info), fingerprint(info.device))
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
            self._shown.clear()
        if (shown := self._shown.get(device)) is not None:
            return shown
        if name := self._given.get(device.hex()):
            self._shown[device] = name
            return name
        self._look_at_heads()
        if device not in self._names:
            info = next((info for info in self._space.devices() if info.device == device), None)
            if info is None:
                return fingerprint(DeviceId(device))
            name = self._name(info)
            if device not in self._names:
                return name
        name = self._shown[device] = self._names[device]
        return name

    def _name(self, info: DeviceInfo) -> str:
        self._look_at_heads()
        if (known := self._names.get(info.device)) is not None:
            return known
        name, platform = self._space.name_of(info)
        if platform is not None:  # else the key to it is not here yet
            self._names[info.device] = name
        return name

    def _look_at_heads(self) -> None:
        heads = self._space.heads()
        if heads != self._heads:
            self._heads = heads
            self._names.clear()

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


Opened = Content | list[Receipt] | Presence | None  # None: a tombstone
Stream = tuple[bytes, int, int]  # sender, stream, priority


class _Came:
    """What a transaction gathers and changes: written at its end, and told after it."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.entries = Entries(tx)
        self.receipts: list[tuple[bytes, bytes, MessageState, int]] = []
        self.ears: set[int] = set()
        self.changed: list[Change] = []
        self.here: list[DeviceId] = []
        self.shown = 0
        self.conflicts = 0
        self._last: dict[Stream, int] = {}
        self._passed: dict[Stream, int] = {}
        self._held: dict[Stream, bool] = {}

    def last_seq(self, place: Stream) -> int:
        """The number that was shown last in a stream."""
        if place not in self._last:
            self._last[place] = rows.last_seq(self._tx, *place)
        return self._last[place]

    def passed(self, place: Stream, seq: int) -> None:
        """It was shown, or its place was given away."""
        self._last[place] = self._passed[place] = seq

    def holds(self, place: Stream) -> None:
        """Something waits in this stream from now on."""
        self._held[place] = True

    def is_any_held(self, place: Stream) -> bool:
        """May something wait in this stream."""
        if place not in self._held:
            self._held[place] = rows.is_any_held(self._tx, *place)
        return self._held[place]

    def write(self) -> None:
        """What was gathered; once, at the end."""
        self.entries.write()
        message_rows.add_receipts(self._tx, self.receipts)
        for place, seq in self._passed.items():
            rows.set_last_seq(self._tx, *place, seq)


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
        self.round = 0  # of looking for what is due: in a new one all messages are looked at again
        messages.addressing.members = SpaceMembers(space, database, clock)
        messages.wake_mail, messages.resolved = wake, self._again

    # ---- putting ---------------------------------------------------------------------------------------------------
    def compose(
        self, turns: Turns, after: dict[Priority, int], flying: Collection[tuple[int, bytes]],
        only: bytes | None = None, *, tells: bool = True, full: Collection[bytes] = (),
    ) -> Parcel | None:  # fmt: skip
        """The next frame to put; None: nothing is due, or there is no key to seal under.

        Args: after: of each priority the rid that was looked at last, moved on here; flying: deliveries that were put
        and not answered; only: to this device, which is linked directly; tells: receipts too, but not to *full*.
        """
        sealer = self._space.sealer() if self._space.locked is None else None
        if sealer is None:
            return None
        now_ms = self._clock()
        if tells:
            found = self._database.peek(lambda c: rows.receipts(c, MAX_RECEIPTS, only, full))
            if found:
                return self._compose_receipts(sealer, found, now_ms)
        return self._database.peek(
            lambda connection: self._compose_messages(connection, sealer, turns, after, flying, now_ms, only)
        )

    def _compose_messages(
        self, connection: Connection, sealer: Sealer, turns: Turns, after: dict[Priority, int],
        flying: Collection[tuple[int, bytes]], now_ms: int, only: bytes | None,
    ) -> Parcel | None:  # fmt: skip
        waiting = message_rows.waiting_to_be_put(connection, after, now_ms, only)
        while waiting:
            priority = turns.pick(waiting)
            parcel, size = Parcel(MsgPut(m=[], x=[]), {}, {}), 0
            limit = MAX_FRAME_ENVELOPES + len(flying)
            for delivery, row in message_rows.due(connection, priority, after[priority], now_ms, limit, only):
                if size >= FRAME_BYTES or len(parcel.deliveries) >= MAX_FRAME_ENVELOPES:
                    after[priority] = delivery.rid - 1  # others of this message may not have fitted any more
                    break
                after[priority] = delivery.rid - 1
                if (delivery.rid, delivery.recipient) in flying:
                    continue
                size += self._pack(sealer, parcel, delivery, row, now_ms)
            else:
                after[priority] += 1
            if parcel.deliveries:
                return parcel
            waiting.remove(priority)
        return None

    def _pack(self, sealer: Sealer, parcel: Parcel, delivery: DeliveryRow, row: MessageRow, now_ms: int) -> int:
        """Seal a message into a frame. Returns its bytes."""
        header = EnvelopeHeader(
            0, sealer.space, row.id, sealer.device, DeviceId(delivery.recipient), LogId(delivery.stream),
            delivery.seq, Priority(row.priority), row.created_ms, row.expires_ms, sealer.kid, self._entropy(24),
        )  # fmt: skip
        content = Content(
            kind=row.kind, name=row.name, type=row.type, body=row.body, client=row.client, reply=row.reply
        )
        sealed = seal_message(header, content, space_key=sealer.key, sign_secret=sealer.sign_secret)
        parcel.deliveries[header.recipient_key] = delivery
        if delivery.state is MessageState.EXPIRED or row.expires_ms <= now_ms:
            parcel.frame.x.append(sealed.tombstone)
            return 0
        blob = sealed.blob
        parcel.frame.m.append(blob)
        return len(blob)

    def compose_presence(self, told: int, only: bytes | None = None) -> tuple[int, Parcel] | None:
        """Who is here, for all other devices or one, and which version of it; None: it was told, or nobody can be told.

        Args: told: version that was told; 0: none, so the others are asked too.
        """
        presence = self._messages.presence
        sealer = self._space.sealer() if presence.version != told and self._space.locked is None else None
        if sealer is None:
            return None
        others = (
            [only] if only is not None else [place.device for place in self._messages.addressing.members.others() or ()]
        )
        parcel, now_ms = Parcel(MsgPut(m=[], x=[]), {}, {}), self._clock()
        content = presence.own(wants=told == 0)
        for device in others[:MAX_FRAME_ENVELOPES]:
            header = EnvelopeHeader(
                FLAG_PRESENCE, sealer.space, new_uuid7(now_ms, self._entropy(10)), sealer.device, DeviceId(device),
                LogId(0), 0, Priority.NORMAL, now_ms, now_ms + AWAY_MS, sealer.kid, self._entropy(24),
            )  # fmt: skip
            sealed = seal_message(header, content, space_key=sealer.key, sign_secret=sealer.sign_secret)
            parcel.frame.m.append(sealed.blob)
        return (presence.version, parcel) if others else None

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

        def write(tx: Tx) -> list[Change]:
            changed: list[Change] = []
            put: dict[bytes, list[int]] = {}
            for key in answer.ids:
                if receipts := parcel.receipts.get(key):
                    rows.told(tx, receipts)
                elif delivery := parcel.deliveries.get(key):
                    put.setdefault(delivery.recipient, []).append(delivery.rid)
            for recipient, rids in put.items():
                # One whose time was over in between stays so: what was put is its tombstone, or may as well be.
                changed += message_rows.put(tx, recipient, rids, told, now_ms, RETRY_FIRST_MS, RETRY_MOST_MS)
            for key, code in refused.items():
                if receipts := parcel.receipts.get(key):
                    rows.told(tx, receipts if code == "revoked" else ())
                elif delivery := parcel.deliveries.get(key):
                    where, failed = (delivery.recipient, [delivery.rid]), MessageState.FAILED
                    news = message_rows.tell(tx, *where, failed, now_ms, error=code) if code == "revoked" else []
                    changed += news
                    if not news:
                        message_rows.put_later(tx, delivery.recipient, delivery.rid, now_ms + RETRY_FIRST_MS, code)
            return changed

        self._messages.told(await self._database.write(write))

    # ---- taking in -------------------------------------------------------------------------------------------------
    async def take(self, envelopes: Iterable[bytes], tombstones: Iterable[bytes]) -> Taken:
        """Messages for this device. What is in `done` is durable, or worth nothing.

        Raises: BadFrame: bytes that are no envelope: whoever passed them on breaks the protocol.
        """
        taken = Taken([], [])
        items: list[tuple[Envelope, Opened]] = []
        came = [(blob, parse_envelope(blob)) for blob in envelopes]
        came += [(blob, parse_tombstone(blob)) for blob in tombstones]
        active = {info.device for info in self._space.active_devices()}
        for blob, envelope in came:
            try:
                opened = self._open(envelope, active)
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
            if not envelope.header.is_presence:  # nobody keeps it
                taken.done.append(envelope.header.sender_key)
        if items:
            now_ms = self._clock()

            def write(tx: Tx) -> _Came:
                came = _Came(tx)
                for sender in {envelope.header.sender for envelope, _ in items}:
                    control.saw_device(tx, sender, now_ms)
                came.entries.look_up(envelope.header.sender_key for envelope, _ in items if not envelope.header.flags)
                for envelope, opened in items:
                    if isinstance(opened, Presence):
                        self._messages.presence.heard(tx, envelope.header.sender, opened)
                        came.here.append(envelope.header.sender)
                    elif isinstance(opened, list):
                        self._take_receipts(tx, envelope.header, opened, came)
                    elif not envelope.header.flags:
                        self._take_message(tx, envelope.header, opened, now_ms, came)
                came.write()
                return came

            self._tell(await self._database.write(write))
        return taken

    async def take_checked(
        self, items: Sequence[tuple[EnvelopeHeader, Content | list[Receipt]]], also: Callable[[Tx], None]
    ) -> None:
        """Messages and receipts that came another way, whose senders were checked (services/letters.py): they have the
        same order, are known again, and are shown alike. Args: also: done in the same transaction, after them."""
        now_ms = self._clock()

        def write(tx: Tx) -> _Came:
            came = _Came(tx)
            for header, opened in items:
                if isinstance(opened, list):
                    self._take_receipts(tx, header, opened, came)
                else:
                    self._take_message(tx, header, opened, now_ms, came)
            came.write()
            also(tx)
            return came

        self._tell(await self._database.write(write))

    def _open(self, envelope: Envelope, active: Collection[DeviceId]) -> Opened:
        """Raises: _NotYet; BadSignature, CannotOpen: it is worth nothing."""
        header, space = envelope.header, self._space
        identity = space.identity
        if header.space != identity.space or header.recipient != identity.device:
            raise CannotOpen("A message for another device came.")
        public = space.verify_key(header.sender)
        if public is None:
            raise _NotYet
        verify_envelope(envelope, public)
        if header.sender not in active:
            raise CannotOpen("A message of a device that was put out came.")
        if envelope.ciphertext is None:
            if header.expires_ms > self._clock() + EARLY_MS:
                raise CannotOpen("A message came without its content, and its time is not over.")
            return None
        key = space.key(header.kid)
        if key is None:
            raise _NotYet
        if header.is_presence:
            return open_presence(envelope, key)
        return open_receipts(envelope, key) if header.is_receipt else open_message(envelope, key)

    def _take_receipts(self, tx: Tx, header: EnvelopeHeader, receipts: Sequence[Receipt], came: _Came) -> None:
        known = message_rows.find_ids(tx.connection, THIS, [receipt.id for receipt in receipts])
        for (state, at_ms), told in groupby(receipts, key=lambda receipt: (receipt.state, receipt.at_ms)):
            rids = [known[receipt.id] for receipt in told if receipt.id in known]
            came.changed += message_rows.tell(tx, header.sender, rids, state, at_ms)

    def _take_message(self, tx: Tx, header: EnvelopeHeader, content: Content | None, now_ms: int, came: _Came) -> None:
        """Show it, keep it for its turn, or know it again."""
        before = came.entries.find(header.sender, header.id)
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
                came.receipts.append((header.sender, header.id, delivery.state, delivery.at_ms))
            return
        place = (header.sender, int(header.stream), int(header.priority))
        if header.expires_ms <= now_ms:
            content = None
        held = Held(*place, header.seq, header.id, header.created_ms, header.expires_ms, now_ms, None)
        last = came.last_seq(place)
        if header.seq > last + 1:
            came.holds(place)
            rows.hold(tx, held if content is None else held._replace(content=encode_content(content)))
        elif header.seq <= last:
            self._show(tx, held, content, now_ms, came, gap=True)
        else:
            if came.is_any_held(place):
                rows.take_held(tx, *place, header.seq)
            self._pass(tx, held, content, now_ms, came, gap=False)

    def _pass(self, tx: Tx, held: Held, content: Content | None, now_ms: int, came: _Came, *, gap: bool) -> None:
        """Its turn has come, and with it that of those that wait behind it."""
        place, seq = (held.sender, held.stream, held.priority), held.seq
        self._show(tx, held, content, now_ms, came, gap=gap)
        while came.is_any_held(place) and (following := rows.take_held(tx, *place, seq + 1)) is not None:
            seq += 1
            self._show(tx, following, _content_of(following), now_ms, came, gap=False)
        came.passed(place, seq)

    def _show(self, tx: Tx, held: Held, content: Content | None, now_ms: int, came: _Came, *, gap: bool) -> None:
        if came.entries.find(held.sender, held.id) is not None:
            return
        if is_foreign(held.sender) and came.entries.find(THIS, held.id) is not None:  # it was told the id, by us
            content = None
            alarms.raise_alarm(
                tx, now_ms, "message_conflict",
                "A contact sent a message under the id of one of yours; it is not shown.", device=held.sender.hex(),
            )  # fmt: skip
        if content is None or held.expires_ms <= now_ms:
            came.receipts.append((held.sender, held.id, MessageState.EXPIRED, now_ms))
            return
        row = MessageRow(
            0, held.sender, held.id, content.kind, content.name, "", content.type, content.client, "", held.priority,
            held.created_ms, held.expires_ms, content_digest(content), content.reply, content.body, int(gap),
        )  # fmt: skip
        came.ears.update(self._messages.show(tx, came.entries, row, now_ms))
        came.shown += 1
        came.receipts.append((held.sender, held.id, MessageState.DELIVERED, now_ms))

    def _tell(self, came: _Came) -> None:
        if came.shown:
            self._messages.arrived(came.ears, came.shown)
        if came.changed:
            self._messages.told(came.changed)
        if came.here:
            self._messages.presence.after(came.here)
        self._wake()

    # ---- time ------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Show what has waited long enough, put again what was not answered; until cancelled."""
        await keep_up("mail", LOOK_S, lambda _turn: self.tend())

    async def tend(self) -> None:
        """One turn."""
        await self._messages.resolve()
        now_ms = self._clock()
        waiting = self._database.peek(lambda c: rows.overdue(c, now_ms - HOLD_MS))
        if waiting:

            def write(tx: Tx) -> _Came:
                came = _Came(tx)
                while places := rows.overdue(tx.connection, now_ms - HOLD_MS):
                    for place in places:
                        first = rows.first_held(tx, *place)
                        held = None if first is None else rows.take_held(tx, *place, first)
                        if held is not None:
                            self._pass(tx, held, _content_of(held), now_ms, came, gap=True)
                came.write()
                return came

            self._tell(await self._database.write(write))
        due_ms = self._database.peek(message_rows.next_due_ms)
        if due_ms is not None and due_ms <= now_ms:
            self._again()
        if self._messages.presence.tend():
            self._wake()

    def _again(self) -> None:
        """There may be something to put that lies before what was put last."""
        self.round += 1
        self._wake()


def _content_of(held: Held) -> Content | None:
    """Of one that was kept for its turn; None: a tombstone."""
    return None if held.content is None else decode_content(held.content)


class _NotYet(Exception):
    """A key or a control record is not here yet."""
