"""An ear: one connection of a program that listens for messages. It is asked for its next part, as a live query is.

So much is shown at once as the program can deal with: WINDOW messages that are not acknowledged, of which the last
few places are for urgent ones; a program that never acknowledges is shown no more, and costs no memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from hybridgw_protocol.ids import format_document_id
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_frames import event_body
from hybridgw_protocol.messages import PRIORITY_NAMES, MessageState, Priority, Turns
from hybridgw_storage.database import Database

from ..core.targets import Listener, Target, heard_as
from ..stores import copies
from ..stores.copies import Waiting
from .ports import Principal

WINDOW: Final = 256  # shown and not acknowledged
WINDOW_BYTES: Final = 256 * 1024  # likewise; half of what a slow reader may leave unread
RESERVED: Final = 32  # of both, one in eight: for urgent messages
PART: Final = copies.PART  # messages of one part
NEWS: Final = 1_024  # of what became of messages; the oldest go, a sender can look


class Place(NamedTuple):
    """Where a message stands that somebody acknowledges."""

    rid: int
    sender: bytes
    id: bytes
    priority: int


class Ear:
    """What services/live_sessions.py asks for events."""

    def __init__(
        self, listener: Listener, principal: Principal, database: Database, wakened: asyncio.Event,
        leave: Callable[[Ear], None], name_of: Callable[[bytes], str],
        person_of: Callable[[bytes], tuple[str, str] | None] = lambda _device: None,
    ) -> None:  # fmt: skip
        """Args: wakened: set when there may be something; leave: called when it is closed; name_of: of a device;
        person_of: id and name of the other person whose device it is."""
        self.listener = listener
        self.principal = principal
        self._database, self._wakened, self._leave = database, wakened, leave
        self._name_of, self._person_of = name_of, person_of
        self._after = dict.fromkeys(Priority, 0)  # of each priority, the rid shown last
        # id -> (place, bytes) of those not acknowledged yet: mostly one, but every sender chooses its ids by itself
        self._shown: dict[bytes, list[tuple[Place, int]]] = {}
        self._bytes = 0
        self._turns = Turns()
        self._news: deque[bytes] = deque(maxlen=NEWS)
        self._is_closed = False

    def stir(self) -> None:
        """There may be something."""
        self._wakened.set()

    def tell(self, news: bytes) -> None:
        """What became of a message that this program has sent."""
        self._news.append(news)
        self._wakened.set()

    def done(self, ids: Iterable[bytes]) -> None:
        """These are acknowledged: there is room for others."""
        for mid in ids:
            self._bytes -= sum(size for _, size in self._shown.pop(mid, ()))
        self._wakened.set()

    def shown(self, ids: Iterable[bytes]) -> list[Place]:
        """Those of them that it was shown and has not acknowledged."""
        return [place for mid in ids for place, _ in self._shown.get(mid, ())]

    async def part(self) -> list[bytes]:
        """The next events; [] if there is nothing now."""
        if self._is_closed:
            return []
        if self._news:
            told = list(self._news)
            self._news.clear()
            return told
        return self._next() if self.listener.nr else []

    def close(self) -> None:
        """Listen no more. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._leave(self)

    def _next(self) -> list[bytes]:
        queues: dict[Priority, deque[Waiting]] = {}
        nr = self.listener.nr
        for priority in self._database.peek(partial(copies.priorities, listener=nr, after=self._after)):
            if self._has_room(priority):
                after = self._after[priority]
                found = self._database.peek(partial(copies.waiting, listener=nr, priority=priority, after=after))
                if found:
                    queues[priority] = deque(found)
        told: list[bytes] = []
        while queues and len(told) < PART:
            priority = self._turns.pick(queues)
            if not self._has_room(priority):
                del queues[priority]
                continue
            waiting = queues[priority].popleft()
            if not queues[priority]:
                del queues[priority]
            self._after[priority] = waiting.rid
            if self._may_hear(waiting):
                place = Place(waiting.rid, waiting.sender, waiting.id, waiting.priority)
                self._shown.setdefault(waiting.id, []).append((place, len(waiting.body)))
                self._bytes += len(waiting.body)
                told.append(event_of(waiting, self._name_of(waiting.sender), self._person_of(waiting.sender)))
        return told

    def _has_room(self, priority: Priority) -> bool:
        share = 1 if priority is Priority.URGENT else 1 - RESERVED / WINDOW
        return len(self._shown) < WINDOW * share and self._bytes < WINDOW_BYTES * share

    def _may_hear(self, waiting: Waiting) -> bool:
        return self.principal.allows("listen", heard_as(waiting.kind, waiting.name, waiting.type))


class _From(msgspec.Struct):
    device: str
    client: str
    person: str | None
    person_id: str | None


class _Shown(msgspec.Struct):
    """A message as an event says it."""

    id: str
    type: str
    sender: _From = msgspec.field(name="from")
    to: str
    priority: str
    created_ms: int
    expires_ms: int
    reply_to: str | None
    gap: bool
    body: msgspec.Raw


def event_of(waiting: Waiting, device: str, person: tuple[str, str] | None = None) -> bytes:
    """The event that shows a message. Args: person: id and name of the contact who sent it, if another person did."""
    person_id, name = person or (None, None)
    return event_body(
        "message",
        encode(
            _Shown(
                format_document_id(waiting.id), waiting.type, _From(device, waiting.client, name, person_id),
                Target(waiting.kind, waiting.name, waiting.place).text, PRIORITY_NAMES[waiting.priority],
                waiting.created_ms, waiting.expires_ms,
                format_document_id(waiting.reply) if waiting.reply else None, bool(waiting.gap),
                msgspec.Raw(waiting.body),
            )
        ),
    )  # fmt: skip


def state_event(mid: bytes, device: str, state: MessageState, at_ms: int, changes: int) -> bytes:
    """The event that says what became of one."""
    said = {"id": format_document_id(mid), "device": device, "state": state, "at_ms": at_ms, "changes": changes}
    return event_body("message_state", encode(said))
