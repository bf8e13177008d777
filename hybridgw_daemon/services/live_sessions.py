"""Sessions: what a program subscribed to, and its numbered events, kept for a while so that it can come back.

A session outlives its connection by RESUME_S. Whoever returns names the last event that arrived and is sent every later
one, in order, once; where even one is no longer kept, the session is gone and the program reads anew: never a part.

An event waits in `pending` until it is written, and is then kept: as a reference to an object that all receivers share.
Numbers are counted for the whole daemon, so those of one session rise with gaps. Bounds are per session, and one for
all together: the session that goes over it loses what it kept. Live queries are not pushed into a session that has no
connection: they stand still at a place of the change feed and cost nothing.
Source: docs/adr/0016-resume-and-slow-consumers.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from hybridgw_protocol.errors import TooMany
from hybridgw_protocol.localapi_frames import Resume, Told

from .topics import Counter, Topics

RESUME_S: Final = 120.0  # a laptop lid, a worker that a browser put to sleep, a page that reloads
MAX_DETACHED: Final = 1_000  # sessions without a connection; the oldest one goes
MAX_SUBSCRIPTIONS: Final = 100  # of one session, topics and live queries together
KEEP_FRAMES: Final = 4_096
KEEP_BYTES: Final = 1024 * 1024
KEEP_PART: Final = 256  # events that are forgotten together
UNSENT_FRAMES: Final = 2_048  # beyond, the reader is slow and its connection is cut; half of what is kept
UNSENT_BYTES: Final = 512 * 1024
TOTAL_BYTES: Final = 64 * 1024 * 1024  # kept by all sessions together


class Bounds(NamedTuple):
    """How much is kept, and how long."""

    resume_s: float = RESUME_S
    detached: int = MAX_DETACHED
    keep_frames: int = KEEP_FRAMES
    keep_bytes: int = KEEP_BYTES
    unsent_frames: int = UNSENT_FRAMES
    unsent_bytes: int = UNSENT_BYTES
    total_bytes: int = TOTAL_BYTES
    subscriptions: int = MAX_SUBSCRIPTIONS


DEFAULT_BOUNDS: Final = Bounds()


class Outlet(Protocol):
    """The connection of a session."""

    def wake(self) -> None:
        """There are events; called once until they are taken with `Session.take`."""
        ...

    def take_over(self) -> None:
        """Another connection goes on with the session: end this one."""
        ...


class Source(Protocol):
    """What a session asks for events: a live query, or an ear for messages."""

    async def part(self) -> list[bytes]:
        """The next ones; [] if there are none now. Cancelling loses none."""
        ...

    def close(self) -> None:
        """End it. Idempotent."""
        ...


class Owner(NamedTuple):
    """Whose session it is; only the same one resumes it."""

    principal_id: str
    mode: str
    client_id: str


class Session:
    """One program's session."""

    __slots__ = (
        "_bounds", "_kept", "_kept_bytes", "_kept_frames", "_sessions", "_weighed", "_weight", "detached_offset",
        "detached_s", "id", "kept_after", "live", "outlet", "owner", "pending", "scheduled", "stirred", "topics",
    )  # fmt: skip

    def __init__(self, sessions: Sessions, id: str, owner: Owner, bounds: Bounds) -> None:
        self._sessions = sessions
        self._bounds = bounds
        self.id = id
        self.owner = owner
        self.pending: list[Told] = []
        self._weighed = self._weight = 0  # so many of them, with so many bytes, were looked at
        self.scheduled = False  # the outlet knows that there are pending ones
        self._kept: deque[tuple[list[Told], int]] = deque()  # (part, bytes)
        self.kept_after = sessions.counter.offset  # every event with a greater number is kept
        self._kept_frames = self._kept_bytes = 0
        self.outlet: Outlet | None = None
        self.detached_s: float | None = None
        self.detached_offset = 0  # more than this, the program cannot have
        self.live: dict[int, Source] = {}
        self.topics: dict[str, int] = {}
        self.stirred: asyncio.Event | None = None  # a live query may have news; made with the first one

    # ---- subscriptions -----------------------------------------------------------------------------------------------
    def check_room(self) -> None:
        """Raise TooMany if there may not be one more subscription."""
        if len(self.live) + len(self.topics) >= self._bounds.subscriptions:
            raise TooMany(f"A connection has at most {self._bounds.subscriptions} subscriptions; end some first.")

    def follow(self, query: Source) -> int:
        """One more live query. Returns its number."""
        sub = self._sessions.counter.new_sub()
        self.live[sub] = query
        return sub

    # ---- events ------------------------------------------------------------------------------------------------------
    def deliver(self, sub: int, body: bytes) -> None:
        """Queue one event. (Topics.publish does the same in its own loop, with one Told for all.)"""
        self.pending.append(self._sessions.counter.tell(sub, body))
        if not self.scheduled:
            self.scheduled = True
            self.wake()

    def wake(self) -> None:
        """Events are pending."""
        if self.outlet is not None:
            self.outlet.wake()
        else:
            self._sessions.gathered(self)

    def is_overfull(self) -> bool:
        """More waits to be written than a reader of ordinary speed ever leaves."""
        self._weight += _weight(self.pending[self._weighed :])
        self._weighed = len(self.pending)
        return self._weighed > self._bounds.unsent_frames or self._weight > self._bounds.unsent_bytes

    def take(self) -> list[Told]:
        """All that are pending; the caller writes them and gives them back to `keep`."""
        self.scheduled = False
        taken, self.pending = self.pending, []
        self._weighed = self._weight = 0
        return taken

    @property
    def written(self) -> int:
        """No event with a greater number has been taken."""
        return self.pending[0].offset - 1 if self.pending else self._sessions.counter.offset

    def keep(self, events: list[Told], size: int) -> None:
        """Hold what was taken for a resume. Args: size: in bytes, about."""
        total, count = self._sessions, len(events)
        for start in range(0, count, KEEP_PART):
            part = events[start : start + KEEP_PART] if count > KEEP_PART else events
            share = size * len(part) // count
            self._kept.append((part, share))
            self._kept_bytes += share
            total.kept_bytes += share
        self._kept_frames += count
        bounds = self._bounds
        if total.kept_bytes > bounds.total_bytes:
            self.forget_kept()
        while self._kept_frames > bounds.keep_frames or self._kept_bytes > bounds.keep_bytes:
            self._drop_first()

    def acknowledged(self, offset: int) -> None:
        """Events up to *offset* have arrived at the program."""
        while self._kept and self._kept[0][0][-1].offset <= offset:
            self._drop_first()

    def can_resume(self, offset: int) -> bool:
        """Is everything after this number still kept."""
        return self.kept_after <= offset <= self._sessions.counter.offset

    def resume(self, offset: int) -> list[Told]:
        """The events after *offset*, which has arrived."""
        return [told for part, _ in self._kept for told in part if told.offset > offset]

    def forget_kept(self) -> None:
        """Keep nothing."""
        while self._kept:
            self._drop_first()

    def _drop_first(self) -> None:
        part, size = self._kept.popleft()
        self.kept_after = part[-1].offset
        self._kept_frames -= len(part)
        self._kept_bytes -= size
        self._sessions.kept_bytes -= size


def _weight(events: list[Told]) -> int:
    return sum([len(told.json) for told in events])


class Sessions:
    """All sessions of this run of the daemon; used on the event loop only."""

    def __init__(
        self, topics: Topics, counter: Counter, *, epoch: str, entropy: Callable[[int], bytes],
        monotonic: Callable[[], float], bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:  # fmt: skip
        """Args: counter: the one of the topics; epoch: new for each run; monotonic: seconds."""
        self.epoch = epoch
        self.counter = counter
        self.bounds = bounds
        self.kept_bytes = 0
        self._topics = topics
        self._entropy = entropy
        self._monotonic = monotonic
        self._all: dict[str, Session] = {}
        self._detached: dict[str, Session] = {}  # oldest first

    def begin(self, owner: Owner, resume: Resume | None) -> tuple[Session, bool]:
        """A session for a new connection, and whether it is the one that was asked for, whole."""
        if resume is not None:
            found = self._all.get(resume.session)
            if found is not None and found.owner == owner and resume.epoch == self.epoch:
                if found.outlet is not None:
                    outlet, found.outlet = found.outlet, None
                    found.detached_offset = found.written
                    outlet.take_over()
                self.gathered(found)
                if found.id in self._all and found.can_resume(resume.offset):
                    self._detached.pop(found.id, None)
                    found.detached_s = None
                    return found, True
                self.end(found)
        session = Session(self, self._entropy(12).hex(), owner, self.bounds)
        self._all[session.id] = session
        return session, False

    def detach(self, session: Session) -> None:
        """Its connection has ended; it is kept for a while."""
        if session.id not in self._all or session.detached_s is not None:
            return
        session.outlet = None
        session.detached_s = self._monotonic()
        session.detached_offset = session.written
        self._detached[session.id] = session
        if session.pending:
            session.scheduled = True
            self.gathered(session)
        while len(self._detached) > self.bounds.detached:
            self.end(next(iter(self._detached.values())))

    def end(self, session: Session) -> None:
        """Forget it. Idempotent."""
        self._all.pop(session.id, None)
        self._detached.pop(session.id, None)
        session.outlet = None
        for topic in list(session.topics):
            self._topics.unsubscribe(session, topic)
        for query in session.live.values():
            query.close()
        session.live.clear()
        session.pending.clear()
        session.forget_kept()

    def end_all_of(self, principal_id: str) -> None:
        """Forget what is kept for a credential that was revoked."""
        for session in [s for s in self._all.values() if s.owner.principal_id == principal_id]:
            if session.outlet is None:
                self.end(session)

    def gathered(self, session: Session) -> None:
        """A session without a connection got events: they are numbered and kept, or it cannot be resumed any more."""
        taken = session.take()
        session.keep(taken, _weight(taken))
        if session.kept_after > session.detached_offset:
            self.end(session)  # one that was never sent is lost

    def sweep(self) -> None:
        """End those whose time is over."""
        now = self._monotonic()
        for session in list(self._detached.values()):
            if session.detached_s is None or now - session.detached_s < self.bounds.resume_s:
                break
            self.end(session)

    @property
    def detached(self) -> int:
        """Sessions without a connection."""
        return len(self._detached)

    @property
    def subscriptions(self) -> int:
        """Of all sessions."""
        return sum(len(s.live) + len(s.topics) for s in self._all.values())
