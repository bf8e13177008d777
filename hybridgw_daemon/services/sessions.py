"""Sessions: what a program subscribed to, and its numbered events, kept for a while so that it can come back.

A session outlives its connection by RESUME_S. Whoever returns names the last event that arrived and is sent every later
one, in order, once; where even one is no longer kept, the session is gone and the program reads anew: never a part.

An event waits in `pending` without a number until it is written, and then in `kept`. Both hold only a reference to the
body, which all receivers share. Bounds are per session, and one for all together: the session that goes over it loses
what it kept. Live queries are not pushed into a session that has no connection: they stand still at a place of the
change feed and cost nothing. Source: docs/adr/0016-resume-and-slow-consumers.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from hybridgw_protocol.errors import TooMany
from hybridgw_protocol.localapi_frames import EventBody, Resume

from .live_queries import LiveQuery
from .topics import Topics

RESUME_S: Final = 120.0  # a laptop lid, a worker that a browser put to sleep, a page that reloads
MAX_DETACHED: Final = 1_000  # sessions without a connection; the oldest one goes
MAX_SUBSCRIPTIONS: Final = 100  # of one session, topics and live queries together
KEEP_FRAMES: Final = 4_096
KEEP_BYTES: Final = 1024 * 1024
UNSENT_FRAMES: Final = 2_048  # beyond, the reader is slow and its connection is cut; half of what is kept
UNSENT_BYTES: Final = 512 * 1024
TOTAL_BYTES: Final = 64 * 1024 * 1024  # kept by all sessions together

Queued = tuple[int, EventBody]  # (sub, body)


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


class Owner(NamedTuple):
    """Whose session it is; only the same one resumes it."""

    principal_id: str
    mode: str
    client_id: str


class Session:
    """One program's session."""

    __slots__ = (
        "_bounds", "_kept_bytes", "_next_sub", "_sessions", "detached_offset", "detached_s", "id", "kept", "live",
        "offset", "outlet", "owner", "pending", "pending_bytes", "scheduled", "stirred", "topics",
    )  # fmt: skip

    def __init__(self, sessions: Sessions, id: str, owner: Owner, bounds: Bounds) -> None:
        self._sessions = sessions
        self._bounds = bounds
        self.id = id
        self.owner = owner
        self.offset = 0  # of the last event that has a number
        self.pending: list[Queued] = []
        self.pending_bytes = 0
        self.scheduled = False  # the outlet knows that there are pending ones
        self.kept: deque[Queued] = deque()  # the last one has the number `offset`
        self._kept_bytes = 0
        self.outlet: Outlet | None = None
        self.detached_s: float | None = None
        self.detached_offset = 0  # more than this, the program cannot have
        self.live: dict[int, LiveQuery] = {}
        self.topics: dict[str, int] = {}
        self._next_sub = 0
        self.stirred: asyncio.Event | None = None  # a live query may have news; made with the first one

    # ---- subscriptions -----------------------------------------------------------------------------------------------
    def new_sub(self) -> int:
        """The number of a new subscription. Raises: TooMany."""
        if len(self.live) + len(self.topics) >= self._bounds.subscriptions:
            raise TooMany(f"A connection has at most {self._bounds.subscriptions} subscriptions; end some first.")
        self._next_sub += 1
        return self._next_sub

    # ---- events ------------------------------------------------------------------------------------------------------
    def deliver(self, sub: int, body: EventBody) -> None:
        """Queue one event. (Topics.publish does the same in its own loop.)"""
        self.pending.append((sub, body))
        self.pending_bytes += len(body.json)
        if not self.scheduled:
            self.scheduled = True
            self.wake()

    def wake(self) -> None:
        """Events are pending."""
        if self.outlet is not None:
            self.outlet.wake()
        else:
            self._sessions.gathered(self)

    @property
    def is_overfull(self) -> bool:
        """More waits to be written than a reader of ordinary speed ever leaves."""
        return len(self.pending) > self._bounds.unsent_frames or self.pending_bytes > self._bounds.unsent_bytes

    def take(self) -> tuple[int, list[Queued]]:
        """(number of the first one, all that are pending): numbered from now on, and kept for a resume."""
        self.scheduled = False
        taken, first = self.pending, self.offset + 1
        if not taken:
            return first, taken
        self.pending = []
        self.offset += len(taken)
        self._kept_bytes += self.pending_bytes
        self._sessions.kept_bytes += self.pending_bytes
        self.pending_bytes = 0
        self.kept.extend(taken)
        self._trim()
        return first, taken

    def acknowledged(self, offset: int) -> None:
        """Events up to *offset* have arrived at the program."""
        least = self.offset - min(max(0, self.offset - offset), len(self.kept))
        self._drop_until(least)

    def can_resume(self, offset: int) -> bool:
        """Is everything after this number still kept."""
        return self.offset - len(self.kept) <= offset <= self.offset

    def resume(self, offset: int) -> list[Queued]:
        """The events after *offset*, which has arrived."""
        self._drop_until(offset)
        return list(self.kept)

    def forget_kept(self) -> None:
        """Keep nothing."""
        self._drop_until(self.offset)

    def _trim(self) -> None:
        bounds = self._bounds
        if self._sessions.kept_bytes > bounds.total_bytes:
            self.forget_kept()
            return
        while len(self.kept) > bounds.keep_frames or self._kept_bytes > bounds.keep_bytes:
            self._drop_first()

    def _drop_until(self, offset: int) -> None:
        while self.kept and self.offset - len(self.kept) < offset:
            self._drop_first()

    def _drop_first(self) -> None:
        size = len(self.kept.popleft()[1].json)
        self._kept_bytes -= size
        self._sessions.kept_bytes -= size


class Sessions:
    """All sessions of this run of the daemon; used on the event loop only."""

    def __init__(
        self, topics: Topics, *, epoch: str, entropy: Callable[[int], bytes], monotonic: Callable[[], float],
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:  # fmt: skip
        """Args: epoch: new for each run; monotonic: seconds."""
        self.epoch = epoch
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
                    outlet.take_over()
                found.take()
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
        session.detached_offset = session.offset
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
        session.pending_bytes = 0
        session.forget_kept()

    def end_all_of(self, principal_id: str) -> None:
        """Forget what is kept for a credential that was revoked."""
        for session in [s for s in self._all.values() if s.owner.principal_id == principal_id]:
            if session.outlet is None:
                self.end(session)

    def gathered(self, session: Session) -> None:
        """A session without a connection got events: they are numbered and kept, or it cannot be resumed any more."""
        session.take()
        if session.offset - len(session.kept) > session.detached_offset:
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
