"""Letters to other people, and the directory of those who take some. What is kept is sealed; its header is read.

A person is in the directory while one of its active devices has a message key there (an `xkey` record). Signatures of
letters are inside: who receives one checks them. Source: protocol/SPEC.md, "People" and "Relay".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.errors import BadFrame, RateLimited
from hybridgw_protocol.frames import DirGet, LetterFrame, LetterPut, MsgStored
from hybridgw_protocol.ids import DeviceId, SpaceId
from hybridgw_protocol.letters import Letter, parse_letter
from hybridgw_protocol.limits import MAX_MESSAGE_TTL_MS

from ..core.quotas import PeopleRates
from ..fanout.base import News
from ..stores.base import LetterRow, RelayStore
from .host import Host
from .spaces import Space, Spaces

WINDOW: Final = 256  # sent and not done
WINDOW_BYTES: Final = 2 * 1024 * 1024  # of these, and one letter more
WINDOW_OF_ONE: Final = 16  # of one person: sixteen of them must hold back theirs before anybody else waits
WINDOW_OF_ONE_BYTES: Final = 64 * 1024  # likewise, and one letter more
FRAME_LETTERS: Final = 32
FRAME_BYTES: Final = 256 * 1024  # of one frame, and one letter more


class PeopleService:
    """What a device may ask that is not of its own space. It keeps nothing in memory but rates."""

    def __init__(self, store: RelayStore, spaces: Spaces, host: Host, rates: PeopleRates) -> None:
        self._store, self._spaces, self._host, self._rates = store, spaces, host, rates

    async def look_up(self, space: Space, frame: DirGet) -> list[bytes]:
        """What the directory says of a person; empty: nobody, in the same words as of one who is not in it.

        Raises: RateLimited.
        """
        wait_ms = self._rates.looks.of(space.id).take(1, self._host.steady_ms())
        if wait_ms:
            raise RateLimited("People are looked up too often.", retry_ms=wait_ms)
        person = self._spaces.find(SpaceId(frame.sp))
        return [] if person is None else await person.directory(frame.heads)

    async def put(self, space: Space, device: DeviceId, frame: LetterPut) -> MsgStored:
        """Keep letters; durable when it returns. Raises: BadFrame: they are not its own to put."""
        answer = MsgStored(ids=[], no=[], why=[])
        letters = [parse_letter(blob) for blob in frame.m]
        for letter in letters:
            header = letter.header
            if header.space != space.id or header.sender != device or header.to != frame.sp:
                raise BadFrame("A letter of another person or device was put.")
        person = self._spaces.find(SpaceId(frame.sp))
        within = self._within_rate(space, person, len(letters))
        keys = await person.message_keys() if person is not None and within else {}
        is_stale = person is not None and bool(keys) and await person.is_stale(frame.heads)
        kept: list[Letter] = []
        for k, letter in enumerate(letters):
            why = "rate" if person is not None and k >= within else self._refusal(letter, keys, is_stale)
            if why is None:
                kept.append(letter)
            else:
                answer.no.append(letter.header.recipient_key)
                answer.why.append(why)
        if person is None or not kept:
            return answer
        until_ms = self._host.wall_ms() + MAX_MESSAGE_TTL_MS  # whatever the letter says: none stays for ever
        rows = [
            LetterRow(h.recipient, space.id, h.sender, h.id, h.priority, min(h.expires_ms, until_ms), letter.blob)
            for letter in kept
            for h in (letter.header,)
        ]
        taken = await self._store.put_letters(person.sid, rows)
        for row, is_taken in zip(rows, taken, strict=True):
            if is_taken:
                answer.ids.append(row.dest + row.id)
            else:
                answer.no.append(row.dest + row.id)
                answer.why.append("quota")
        if answer.ids:
            await self._store.wrote(space.sid, person.id, self._host.wall_ms())
            self._spaces.fanout.publish(person.id, News.LETTERS)
        return answer

    def _within_rate(self, space: Space, person: Space | None, count: int) -> int:
        """How many of these letters are looked at, whatever is wrong with them: who belongs to a person who is not
        connected is worked out anew for each frame, and nobody may have that as often as they like."""
        if person is None:
            return 0
        bucket, now_ms = self._rates.pairs.of((space.id, person.id)), self._host.steady_ms()
        return next((k for k in range(count) if bucket.take(1, now_ms)), count)

    def _refusal(self, letter: Letter, keys: dict[DeviceId, list[bytes]], is_stale: bool) -> str | None:
        """Why it is not kept: not_admitted, revoked, stale, expired, rate (of questions); None: it is."""
        header, now_ms = letter.header, self._host.steady_ms()
        if not keys:
            return "not_admitted"
        if is_stale:
            return "stale"
        if header.recipient not in keys:
            return "revoked"
        if header.key not in keys[header.recipient]:
            return "stale"
        if header.expires_ms <= self._host.wall_ms():
            return "expired"
        is_above = header.is_contact and self._rates.contacts.of(header.space).take(1, now_ms)
        return "rate" if is_above else None

    async def done(self, space: Space, device: DeviceId, keys: Sequence[bytes]) -> None:
        """A device has them."""
        await self._store.done_letters(space.sid, device, keys)


class _Sent(NamedTuple):
    """A letter that the device has not said to have. rid: its place in the store."""

    rid: int
    person: SpaceId
    size: int


class LetterStream:
    """What waits for one connection's device: sent the most urgent first, in a window. Of one person there is a part of
    it at most: a device does not say to have what its person must decide about first, and others go past it."""

    def __init__(self, store: RelayStore, space: Space, device: DeviceId, send: Callable[[LetterFrame], None]) -> None:
        """Args: send: queues a frame."""
        self._store, self._space, self._device, self._send = store, space, device, send
        self._sent: dict[bytes, _Sent] = {}  # by sender and id

    def wake(self) -> None:
        """There may be new ones."""
        while letters := self._next():
            self._send(LetterFrame(m=letters))

    def _next(self) -> list[bytes]:
        """Letters of one frame; none: there are no more, or no room."""
        letters: list[bytes] = []
        count, size = Counter[SpaceId](), Counter[SpaceId]()
        for sent in self._sent.values():
            count[sent.person] += 1
            size[sent.person] += sent.size

        def is_full(person: SpaceId) -> bool:
            return count[person] >= WINDOW_OF_ONE or size[person] >= WINDOW_OF_ONE_BYTES

        waiting = self._store.letters(
            self._space.sid, self._device, FRAME_LETTERS,
            but=[sent.rid for sent in self._sent.values()], without=list(filter(is_full, count)),
        )  # fmt: skip
        for rid, row in waiting:
            if len(self._sent) >= WINDOW or size.total() >= WINDOW_BYTES or sum(map(len, letters)) >= FRAME_BYTES:
                break
            if not is_full(row.person):
                self._sent[row.sender + row.id] = _Sent(rid, row.person, len(row.blob))
                count[row.person] += 1
                size[row.person] += len(row.blob)
                letters.append(row.blob)
        return letters

    def done(self, keys: Sequence[bytes]) -> None:
        """The device has them: there is room for others."""
        for key in keys:
            self._sent.pop(key, None)
        self.wake()
