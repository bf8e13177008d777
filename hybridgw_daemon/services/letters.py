"""Letters, messages to devices of other people: message keys, what to put at a relay, what came and from whom.

It owns no connection: a pump (transports/peers/letters.py) asks it what to put and hands it what came. Order, repeats
and what programs see are those of all messages (services/mail.py, services/messages.py). Source: protocol/SPEC.md,
"People".
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from nacl.bindings import crypto_scalarmult_base

from hybridgw_protocol.envelope import EnvelopeHeader
from hybridgw_protocol.errors import CannotOpen, Offline, RemoteError
from hybridgw_protocol.frames import LetterPut, MsgStored
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId
from hybridgw_protocol.letters import FLAG_CONTACT, FLAG_RECEIPT, Letter, LetterHeader, parse_letter
from hybridgw_protocol.limits import (
    CLOCK_BOUND_MS,
    MAX_MESSAGE_TTL_MS,
    MAX_RECEIPTS,
    MESSAGE_KEY_KEPT_MS,
    MESSAGE_KEY_MS,
    MESSAGE_TTL_MS,
)
from hybridgw_protocol.membership import Status
from hybridgw_protocol.messages import MessageState, Priority
from hybridgw_protocol.people import NO_KEY, MessageKey, encode_xkey, xkey_id
from hybridgw_protocol.records import XKey, sign_record
from hybridgw_storage.database import Database, Tx

from ..core.envelopes import Content, Receipt
from ..core.letters import (
    MAX_TOLD_HEADS,
    KeyPair,
    Kind,
    Opened,
    Said,
    open_letter,
    read_said,
    read_told,
    seal_letter,
    verify_letter,
)
from ..core.rest import Purpose, RestSealer
from ..core.targets import PEOPLE, PERSON
from ..core.uuid7 import new_uuid7
from ..stores import alarms
from ..stores import mail as mail_rows
from ..stores import messages as message_rows
from ..stores import people as rows
from ..stores.mail import ReceiptRow
from ..stores.messages import Change
from ..stores.people import ErrandRow, LetterRow, RequestRow
from .letter_room import LetterRoom
from .mail import MailService
from .people import Contact, People
from .space import Space
from .upkeep import keep_up

log = logging.getLogger(__name__)

MOST_REQUESTS: Final = 200  # people who ask and are not answered
MOST_PUT: Final = 32  # letters of one frame
RETRY_FIRST_MS: Final = 60_000
RETRY_MOST_MS: Final = 86_400_000
LOOK_S: Final = 2.0
NO_KEY_ID: Final = xkey_id(NO_KEY)
ASK_TTL_MS: Final = MESSAGE_TTL_MS
MAX_NOTE: Final = 500


class Parcel(NamedTuple):
    """A frame to put, and what it stands for, by recipient's device id and letter id."""

    person: SpaceId
    frame: LetterPut
    letters: dict[bytes, LetterRow]
    receipts: dict[bytes, list[ReceiptRow]]
    errand: ErrandRow | None = None


class Taken(NamedTuple):
    """What came of letters that arrived. done: to be forgotten by the relay; kept: to be tried again, for a person must
    decide first, or the relay must say more."""

    done: list[bytes]
    kept: list[bytes]


class _Accepted(NamedTuple):
    letter: Letter
    said: Said | list[Receipt]


class LetterService:
    """One per daemon; `run` is its task."""

    def __init__(
        self, database: Database, space: Space, people: People, mail: MailService, *,
        add_records: Callable[[Sequence[bytes]], Awaitable[None]], told: Callable[[Sequence[Change]], None],
        clock: Callable[[], int], entropy: Callable[[int], bytes], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """Args: add_records: take our own control records; told: of news about messages of ours; clock: Unix ms; wake:
        all pumps look again."""
        self._database, self._space, self.people, self._mail = database, space, people, mail
        self._add_records, self._told = add_records, told
        self._clock, self._entropy, self._wake = clock, entropy, wake
        self._rest: RestSealer | None = None
        self._own: list[bytes] = []  # the record of the newest message key, as last looked up
        self._takes = False  # it is one, and not the word that there is none any more
        self._tending = asyncio.Lock()
        self._room = LetterRoom(database, clock=clock)
        self._paused: dict[SpaceId, tuple[int, int]] = {}  # whose receipts were refused: how often, until when (ms)
        self._is_decided = True  # on another device, maybe: whom one hears
        people.tend_keys = self.tend_keys
        self.dropped: Counter[str] = Counter()  # what was refused, by reason

    def unlocked(self, rest: RestSealer) -> None:
        """The key of this profile is open."""
        self._rest = rest

    @property
    def _is_open(self) -> bool:
        return self._rest is not None and self._space.locked is None and self._space.is_active

    # ---- message keys ------------------------------------------------------------------------------------------------
    def own_records(self) -> list[bytes]:
        """The record of the newest message key: each relay is told at the beginning of a connection, for nothing else
        makes sure that it knows a record that no other rests on."""
        return self._own if self._own and self._is_open else []

    def _held(self) -> list[rows.KeyRow]:
        found = self._database.peek(lambda c: rows.keys(c, self._space.identity.space))
        self._own = [row.record for row in found[:1]]
        self._takes = bool(found) and found[0].id != NO_KEY_ID
        return found

    async def tend_keys(self) -> None:
        """Make a message key if one is due and this person takes letters; erase those that nothing needs any more."""
        async with self._tending:
            if self._is_open and self._rest is not None:
                await self._tend_keys(self._rest, is_found=self.people.own_name() is not None)

    async def _tend_keys(self, rest: RestSealer, *, is_found: bool) -> None:
        now_ms, held = self._clock(), self._held()
        is_current = bool(held) and held[0].replaced_ms is None
        if is_found and not (is_current and self._takes and held[0].made_ms + MESSAGE_KEY_MS > now_ms):
            secret = self._entropy(32)
            public = crypto_scalarmult_base(secret)
            sealed = rest.seal(Purpose.MESSAGE_KEY, (xkey_id(public),), secret, self._entropy(24))
            await self._publish(public, sealed, held)
        elif not is_found and is_current and self._takes:
            await self._publish(NO_KEY, b"", held)
        elif any(row.replaced_ms is not None and row.replaced_ms + MESSAGE_KEY_KEPT_MS <= now_ms for row in held):
            await self._database.write(lambda tx: rows.forget_keys(tx, now_ms - MESSAGE_KEY_KEPT_MS))

    async def _publish(self, public: bytes, sealed: bytes, held: Sequence[rows.KeyRow]) -> None:
        """A message key, or that there is none any more, from now on."""
        identity, now_ms = self._space.identity, self._clock()
        made_ms = max([now_ms, *(row.made_ms + 1 for row in held)])  # the newest one counts, whatever the clock did
        record = sign_record(
            XKey(
                space=identity.space, prevs=tuple(self._space.signing_heads()), by=identity.seat, ts=now_ms,
                body=encode_xkey(public, made_ms),
            ),
            identity.sign_secret,
        )  # fmt: skip
        row = rows.KeyRow(xkey_id(public), identity.space, sealed, made_ms, None, record)
        await self._database.write(lambda tx: rows.add_key(tx, row, now_ms))  # kept before anybody can use it
        self._held()
        await self._add_records([record])
        self._wake()

    def _pair(self, key: bytes) -> KeyPair:
        """Raises: CannotOpen: it is not, or no longer, here."""
        for row in self._database.peek(lambda c: rows.keys(c, self._space.identity.space)):
            if row.id == key and self._rest is not None:
                secret = self._rest.open(Purpose.MESSAGE_KEY, (key,), row.sealed)
                return KeyPair(MessageKey(key, crypto_scalarmult_base(secret), row.made_ms), secret)
        raise CannotOpen("A letter is sealed to a key that this device no longer has.")

    # ---- putting -----------------------------------------------------------------------------------------------------
    def compose(self, url: str, flying: Collection[bytes]) -> Parcel | None:
        """The next frame for a relay; None: nothing is due, or nobody could answer, for this device has no message key.

        Args: flying: people whose frame is not answered yet.
        """
        if not self._takes or not self.own_records():
            return None
        now_ms = self._clock()
        for errand in self._database.peek(lambda c: rows.errands(c, now_ms)):
            contact = self.people.contact(errand.person)
            if contact is None or not _is_wanted(contact, errand):
                continue
            if errand.person not in flying and self._goes_by(contact, url):
                parcel = self._errand(contact, errand, now_ms)
                if parcel is not None:
                    return parcel
        for person in self._database.peek(rows.persons_with_mail):
            contact = self.people.contact(person)
            if contact is None or person in flying or not contact.may_exchange or not self._goes_by(contact, url):
                continue
            if self._paused.get(contact.person, (0, 0))[1] <= now_ms:
                keys = self.people.known(contact.person).keys()  # who has none is out, or away: there is nobody to tell
                told = self._database.peek(lambda c, p=person, k=keys: rows.receipts(c, p, k, MAX_RECEIPTS))  # type: ignore[misc]  # bound now
                if told:
                    return self._receipts(contact, told, now_ms)
            due = self._database.peek(lambda c, p=person: rows.due(c, p, now_ms, MOST_PUT))  # type: ignore[misc]  # bound now
            if due and (parcel := self._letters(contact, due, now_ms)) is not None:
                return parcel
        return None

    @staticmethod
    def _goes_by(contact: Contact, url: str) -> bool:
        return contact.relay in ("", url)

    def _begin(self, contact: Contact) -> tuple[Parcel, dict[DeviceId, MessageKey]]:
        known = self.people.known(contact.person)
        frame = LetterPut(sp=contact.person, heads=known.control.short_heads, m=[])
        return Parcel(contact.person, frame, {}, {}), known.keys()

    def _seal(
        self, parcel: Parcel, said: Said | list[Receipt], key: MessageKey, *, device: DeviceId, mid: bytes,
        created_ms: int, expires_ms: int, flags: int = 0, stream: int = 0, seq: int = 0,
        priority: Priority = Priority.HIGH,
    ) -> bytes:  # fmt: skip
        identity = self._space.identity
        header = LetterHeader(
            flags, identity.space, parcel.person, mid, identity.device, device, LogId(stream), seq, priority,
            created_ms, expires_ms, key.id, self._entropy(24),
        )  # fmt: skip
        sealed = seal_letter(
            header, said, to=key, sign_secret=identity.sign_secret, letter_key=self._entropy(32),
            ephemeral_secret=self._entropy(32),
        )  # fmt: skip
        parcel.frame.m.append(sealed.blob)
        return header.recipient_key

    def _heads(self) -> list[bytes]:
        heads = self._space.heads()
        return heads if len(heads) <= MAX_TOLD_HEADS else []

    def _errand(self, contact: Contact, errand: ErrandRow, now_ms: int) -> Parcel | None:
        parcel, keys = self._begin(contact)
        said = Said(
            kind=Kind(errand.kind), body=errand.note.encode(), name=self.people.own_name() or "", heads=self._heads()
        )
        for device, key in keys.items():
            mid = new_uuid7(now_ms, self._entropy(10))
            self._seal(
                parcel, said, key, device=device, mid=mid, created_ms=now_ms, expires_ms=now_ms + ASK_TTL_MS,
                flags=FLAG_CONTACT,
            )  # fmt: skip
        return parcel._replace(errand=errand) if keys else None

    def _receipts(self, contact: Contact, told: Sequence[ReceiptRow], now_ms: int) -> Parcel:
        parcel, keys = self._begin(contact)
        for recipient in dict.fromkeys(row.recipient for row in told):
            device = DeviceId(recipient[rows.PERSON_BYTES :])
            part = [row for row in told if row.recipient == recipient]
            said = [Receipt(row.id, row.state, row.at_ms) for row in part]
            key = self._seal(
                parcel, said, keys[device], device=device, mid=new_uuid7(now_ms, self._entropy(10)), created_ms=now_ms,
                expires_ms=now_ms + MESSAGE_TTL_MS, flags=FLAG_RECEIPT,
            )  # fmt: skip
            parcel.receipts[key] = part
        return parcel

    def _letters(self, contact: Contact, due: Sequence[LetterRow], now_ms: int) -> Parcel | None:
        parcel, keys = self._begin(contact)
        for letter in due:
            device = DeviceId(letter.recipient[rows.PERSON_BYTES :])
            row = self._database.peek(lambda c, x=letter: message_rows.by_rid(c, x.rid))  # type: ignore[misc]  # bound now
            if device not in keys or row.expires_ms <= now_ms:
                continue
            said = Said(kind=Kind.MESSAGE, type=row.type, body=row.body, reply=row.reply, heads=self._heads())
            key = self._seal(
                parcel, said, keys[device], device=device, mid=row.id, created_ms=row.created_ms,
                expires_ms=row.expires_ms, stream=letter.stream, seq=letter.seq, priority=Priority(row.priority),
            )  # fmt: skip
            parcel.letters[key] = letter
        return parcel if parcel.frame.m else None

    async def put(self, parcel: Parcel, answer: MsgStored) -> None:
        """A frame was answered. A list of devices that is stale is corrected, then it goes again."""
        now_ms = self._clock()
        refused = dict(zip(answer.no, answer.why, strict=False))
        self._pause_receipts(parcel, refused, now_ms)

        def write(tx: Tx) -> list[Change]:
            changed: list[Change] = []
            for key in answer.ids:
                if receipts := parcel.receipts.get(key):
                    mail_rows.told(tx, receipts)
                elif letter := parcel.letters.get(key):
                    changed += message_rows.tell(tx, letter.recipient, [letter.rid], MessageState.STORED, now_ms)
                    again = min(RETRY_MOST_MS, RETRY_FIRST_MS << min(letter.tries, 11))
                    rows.put_again(tx, letter, now_ms + again, None)
            for key, code in refused.items():
                if letter := parcel.letters.get(key):
                    wait_ms = 0 if code == "stale" and letter.tries < 3 else RETRY_FIRST_MS
                    rows.put_again(tx, letter, now_ms + wait_ms, code)
            if parcel.errand is not None:
                tries = parcel.errand.tries
                wait_ms = min(RETRY_MOST_MS, RETRY_FIRST_MS << min(tries, 11))
                rows.errand_put(tx, parcel.person, parcel.errand.kind, now_ms + wait_ms)
                if parcel.errand.kind == Kind.ACCEPT and answer.ids:
                    rows.delete_errand(tx, parcel.person, Kind.ACCEPT)
            return changed

        self._told(await self._database.write(write))
        if refused.keys() and set(refused.values()) & {"stale", "revoked", "not_admitted"}:
            contact = self.people.contact(parcel.person)
            with suppress(Offline):  # then it is tried again with what is known
                await self.people.look_up(parcel.person, "" if contact is None else contact.relay)
            self._wake()

    def _pause_receipts(self, parcel: Parcel, refused: Mapping[bytes, str], now_ms: int) -> None:
        """Receipts have no row with a time of their own: whose were refused waits here, or they were put for ever."""
        codes = {code for key, code in refused.items() if key in parcel.receipts}
        if codes:
            tries = self._paused.get(parcel.person, (0, 0))[0]
            wait_ms = 0 if codes == {"stale"} and tries < 3 else RETRY_FIRST_MS
            self._paused[parcel.person] = tries + 1, now_ms + wait_ms
        elif parcel.receipts:
            self._paused.pop(parcel.person, None)

    # ---- taking in ---------------------------------------------------------------------------------------------------
    async def take(self, blobs: Iterable[bytes], url: str) -> Taken:
        """Letters for this device. What is in `done` is durable, or worth nothing. Args: url: of their relay.

        Raises: BadFrame: bytes that are no letter: whoever passed them on breaks the protocol; StateError kinds: they
        could not be stored, and come again.
        """
        taken, full = Taken([], []), set[SpaceId]()
        accepted: list[_Accepted] = []
        for blob in blobs:
            letter = parse_letter(blob)
            try:
                found = await self._judge(letter, url)
                if found is not None and not await self._has_room(found, accepted, full):
                    raise _NotYet
            except _NotYet:
                taken.kept.append(blob)
                continue
            except RemoteError as error:  # nothing else: of a full disk its sender is not to blame, it comes again
                self._drop(letter, error.code)
                found = None
                await self._forget_stranger(letter.header.space)
            if found is not None:
                accepted.append(found)
            taken.done.append(letter.header.sender_key)
        if heard := [item for item in accepted if self._is_still_heard(item.letter.header)]:
            await self._store(heard)
        return taken

    async def _has_room(self, found: _Accepted, accepted: Sequence[_Accepted], full: set[SpaceId]) -> bool:
        """Is there room for it here, beside what was accepted with it. Args: full: people of whom no more is taken now,
        noted here."""
        header, said = found.letter.header, found.said
        if not isinstance(said, Said):
            return True
        sender = rows.foreign(header.space, header.sender)
        if self._database.peek(lambda c: message_rows.find(c, sender, header.id)) is not None:
            return True  # only its receipt goes once more
        contact = self.people.contact(header.space)
        name = header.space.hex() if contact is None else contact.name
        coming = [
            len(other.said.body)
            for other in accepted
            if isinstance(other.said, Said) and other.letter.header.space == header.space
        ]
        if header.space not in full and not await self._room.take(header.space, name, len(said.body), coming):
            full.add(header.space)
        return header.space not in full

    def _is_still_heard(self, header: LetterHeader) -> bool:
        """A person may have decided while others of the same frame were judged."""
        try:
            return self._is_heard(header)
        except _NotYet:
            return True

    async def _forget_stranger(self, person: SpaceId) -> None:
        """Whose letter was worth nothing, and who neither is a contact nor asks to be one, costs no room."""
        is_asking = any(row.person == person for row in self._database.peek(rows.requests))
        if not is_asking and self.people.contact(person) is None:
            await self.people.forget_known(person)

    def _drop(self, letter: Letter, code: str) -> None:
        log.warning(
            "a letter was dropped: %s", code, extra={"event": "letters.dropped", "person": letter.header.space.hex()}
        )
        self.dropped[code] += 1

    async def _judge(self, letter: Letter, url: str) -> _Accepted | None:
        """Who wrote it, and may they; what is about being contacts is done here. None: nothing is left to do.

        Raises: _NotYet; CannotOpen, BadSignature: it is worth nothing.
        """
        header = letter.header
        if not self._is_open:
            raise _NotYet
        identity = self._space.identity
        if header.to != identity.space or header.recipient != identity.device:
            raise CannotOpen("A letter for another device came.")
        if not self._is_heard(header):
            return None
        opened = open_letter(letter, self._pair(header.key))
        await self._verify(opened, url)
        if header.is_receipt:
            return _Accepted(letter, read_told(opened))
        said = read_said(opened)
        await self._check_heads(self.people.contact(header.space), header.space, said, url)
        if (said.kind is Kind.MESSAGE) == header.is_contact:
            raise CannotOpen("A letter says that it is what its header denies.")
        if not self._is_heard(header):  # a person may have decided while the relay was asked
            return None
        contact = self.people.contact(header.space)
        if said.kind is not Kind.MESSAGE:
            await self._about_contacts(contact, header, said, url)
            return None
        if contact is not None and _agrees(contact, header):  # who writes has agreed
            await self._agreed(contact)
        return _Accepted(letter, said)

    def _is_heard(self, header: LetterHeader) -> bool:
        """May this person say that now. Raises: _NotYet."""
        contact = self.people.contact(header.space)
        if contact is not None and contact.state == "blocked":
            self.dropped["blocked"] += 1
            return False
        if contact is None and not header.is_contact:
            self.dropped["stranger"] += 1
            return False
        if contact is not None and contact.changed:
            raise _NotYet
        return True

    async def _verify(self, opened: Opened, url: str) -> None:
        """Is it signed by an active device of that person. Raises: BadSignature, CannotOpen, _NotYet."""
        header, known = opened.letter.header, self.people.known(opened.letter.header.space)
        info = known.control.device(header.sender)
        if info is None or info.status is not Status.ACTIVE:
            is_asked = await self.people.look_again(header.space, url)
            info = known.control.device(header.sender)
            if info is None and not is_asked:
                raise _NotYet
        if info is None or info.status is not Status.ACTIVE:
            raise CannotOpen("A letter of a device that is none of its person's came.")
        contact = self.people.contact(header.space)  # as it is now, after the relay was asked
        if contact is not None and known.root != contact.root:
            await self._changed(contact, known.root or b"")
            raise _NotYet
        verify_letter(opened, info.sign_public)

    async def _changed(self, contact: Contact, root: bytes) -> None:
        """Another root key than the pinned one: nothing goes either way before a person has looked."""
        await self.people.keep(
            msgspec.structs.replace(contact, root=root, is_verified=False, changed=contact.root),
            as_they_were={contact.person: contact},
        )

    async def _check_heads(self, contact: Contact | None, person: SpaceId, said: Said, url: str) -> None:
        """Does the sender know control records that no relay has told. Their letter is good all the same."""
        control = self.people.known(person).control
        if not control.lacks(said.heads):
            return
        is_asked = await self.people.look_again(person, url)
        if is_asked and control.lacks(said.heads) and contact is not None:
            now_ms = self._clock()
            text = (
                f"The relay {url} does not tell which devices {contact.name} has now: their own letter names records "
                "that it does not give out. A device that they have removed may still be believed here."
            )
            await self._database.write(
                lambda tx: alarms.raise_alarm(tx, now_ms, "person_withheld", text, person=person.hex())
            )

    async def _about_contacts(self, contact: Contact | None, header: LetterHeader, said: Said, url: str) -> None:
        now_ms, person = self._clock(), header.space
        if said.kind is Kind.ACCEPT:
            if contact is not None and _agrees(contact, header):
                await self._agreed(contact)
            return
        if contact is not None:  # both want it, or the answer was lost
            if contact.state == "asked":
                if not _agrees(contact, header):
                    return
                await self._agreed(contact)
            await self._database.write(lambda tx: rows.put_errand(tx, person, Kind.ACCEPT, "", now_ms))
            self._wake()
            return
        root = self.people.known(person).root
        if root is None or header.expires_ms <= now_ms:
            raise CannotOpen("A question to be a contact came when its time was over.")
        note = said.body.decode("utf-8", "replace")[:MAX_NOTE]
        request = RequestRow(person, root, said.name[:64], note, url, now_ms)
        gone = await self._database.write(lambda tx: rows.put_request(tx, request, MOST_REQUESTS))
        for other in gone:
            await self._forget_stranger(other)
        self.people.published("contacts")

    async def _agreed(self, contact: Contact) -> None:
        """Who was asked says yes."""
        accepted = msgspec.structs.replace(contact, state="accepted")
        await self.people.keep(accepted, as_they_were={contact.person: contact})
        keys = self.people.known(contact.person).keys()

        def write(tx: Tx) -> None:
            rows.delete_errand(tx, contact.person, Kind.ASK)
            self.people.readdress(tx, contact.person, keys)

        await self._database.write(write)
        self._wake()

    async def _store(self, accepted: Sequence[_Accepted]) -> None:
        items: list[tuple[EnvelopeHeader, Content | list[Receipt]]] = []
        now_ms = self._clock()
        for letter, said in accepted:
            header = letter.header
            placed = EnvelopeHeader(  # its times are what its sender says: none keeps it for ever
                0, header.to, header.id, rows.foreign(header.space, header.sender), header.recipient, header.stream,
                header.seq, header.priority, min(header.created_ms, now_ms),
                min(header.expires_ms, now_ms + MAX_MESSAGE_TTL_MS), KeyId(b""), b"",
            )  # fmt: skip
            if isinstance(said, Said):  # whatever it says: it is for programs that listen for people, and no others
                content = Content(kind=PERSON, name=PEOPLE, type=said.type, body=said.body, reply=said.reply)
                items.append((placed, content))
            else:
                items.append((placed, said))
        await self._mail.take_checked(items, rows.settle)

    # ---- time --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Keep message keys young, put again what was not answered; until cancelled."""
        self.people.unplaced.update(dict.fromkeys(self._database.peek(rows.unplaced), 0))
        await keep_up("letters", LOOK_S, lambda _turn: self.tend())

    def documents_changed(self) -> None:
        """By another device: contacts may be others."""
        self._is_decided = True

    async def _silence_blocked(self, now_ms: int) -> None:
        """What waits here of who was blocked on another device is not shown any more."""
        self._is_decided = False
        blocked = [contact.person for contact in self.people.contacts() if contact.state == "blocked"]
        heard = self._database.peek(lambda c: [person for person in blocked if rows.is_any_shown(c, person)])

        def write(tx: Tx) -> None:
            for person in heard:
                rows.silence(tx, person, now_ms)

        if heard:
            await self._database.write(write)
            self.people.published("messages")

    async def tend(self) -> None:
        """One turn."""
        await self.tend_keys()
        now_ms = self._clock()
        if self._is_decided:
            await self._silence_blocked(now_ms)
        for person, look_ms in tuple(self.people.unplaced.items()):
            if look_ms <= now_ms and self._is_open:
                await self._place(person, now_ms)
        if over := [person for person, (_, until_ms) in self._paused.items() if until_ms <= now_ms]:
            for person in over:
                del self._paused[person]
            self._wake()
        due_ms = self._database.peek(rows.next_due_ms)
        if due_ms is not None and due_ms <= now_ms:
            due = self._database.peek(lambda c: rows.errands(c, now_ms))
            ended = [errand for errand in due if self._is_over(errand)]

            def write(tx: Tx) -> None:
                rows.settle(tx)
                for errand in ended:
                    rows.delete_errand(tx, errand.person, errand.kind)

            await self._database.write(write)
            self._wake()

    async def _place(self, person: SpaceId, now_ms: int) -> None:
        """Messages wait for somebody of whom no device is known: this device has the contact from another one, or was
        ended before it knew what to do. The directory knows."""
        contact = self.people.contact(person)
        if contact is None:
            del self.people.unplaced[person]
            return
        if not contact.may_exchange or not any(self._goes_by(contact, d.url) for d in self.people.directories):
            return  # it costs nothing to look again soon
        if not self.people.known(person).keys():
            self.people.unplaced[person] = now_ms + RETRY_FIRST_MS
            await self.people.look_again(person, contact.relay)
        if keys := self.people.known(person).keys():
            self.people.unplaced.pop(person, None)
            await self._database.write(lambda tx: self.people.readdress(tx, person, keys))
            self._wake()

    def _is_over(self, errand: ErrandRow) -> bool:
        contact = self.people.contact(errand.person)
        return contact is None or not _is_wanted(contact, errand)


def _is_wanted(contact: Contact, errand: ErrandRow) -> bool:
    """Is it still what the person wants: they may have decided otherwise since, on another device too."""
    return not contact.changed and contact.state == ("asked" if errand.kind == Kind.ASK else "accepted")


def _agrees(contact: Contact, header: LetterHeader) -> bool:
    """Does who was asked say yes with it: what they wrote before that does not, whoever repeats it. Clocks differ."""
    return contact.state == "asked" and header.created_ms + CLOCK_BOUND_MS >= contact.asked_ms


class _NotYet(Exception):
    """A person must decide first, or the relay has not said enough."""
