"""Who is connected: one record per connection of a program, live, then archived; and the way to end a credential's.

Nothing is decided here but the limits: carriers open and close records and count in them. The archive is a bounded
list in memory: it answers "what happened just now", and a restart of the daemon forgets it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from hybridgw_protocol.localapi_frames import FORBIDDEN, GOING_AWAY, MODES
from hybridgw_protocol.localapi_live import ConnectionInfo, ConnectionReport, ConnectionStats, ModeStats

ARCHIVE: Final = 1_000
HTTP_SHARE: Final = 10  # of all connections, one in so many is not for WebSockets, so that a command always gets in
MAX_USER_AGENT: Final = 200

State = Literal["authenticating", "open", "slow", "closing", "closed"]


def room_for_sockets(max_connections: int) -> int:
    """How many of all connections may be WebSockets."""
    return max(1, max_connections - max_connections // HTTP_SHARE)


def _has_ended(_code: int, _reason: str) -> None:
    pass


@dataclass(slots=True, eq=False)
class Live:
    """A connection as it is now; its carrier keeps the fields up to date. end: closes it with a code and a reason."""

    id: str
    kind: Literal["websocket", "events"]
    mode: str | None
    client_id: str | None
    principal_id: str | None
    user_agent: str
    opened_ms: int
    end: Callable[[int, str], None]
    state: State = "open"
    rtt_ms: float | None = None
    missed: int = 0
    received_messages: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    sent_bytes: int = 0
    last_ms: int | None = None

    def info(self) -> ConnectionInfo:
        """As it is told."""
        return ConnectionInfo(
            id=self.id, kind=self.kind, state=self.state, opened_ms=self.opened_ms, mode=self.mode,
            client_id=self.client_id, principal=self.principal_id, user_agent=self.user_agent, rtt_ms=self.rtt_ms,
            missed_heartbeats=self.missed, received_messages=self.received_messages,
            received_bytes=self.received_bytes, sent_messages=self.sent_messages, sent_bytes=self.sent_bytes,
            last_ms=self.last_ms,
        )  # fmt: skip


class Connections:
    """The registry; one per daemon, used on the event loop only."""

    def __init__(
        self, *, clock: Callable[[], int], limit: int, mode_limits: Mapping[str, int] | None = None,
        archive: int = ARCHIVE,
    ) -> None:  # fmt: skip
        """Args: limit: WebSockets at one time; mode_limits: the same by deployment mode, where it is less."""
        self.clock = clock
        self.limit = limit
        self.mode_limits: dict[str, int] = {mode: min(limit, (mode_limits or {}).get(mode, limit)) for mode in MODES}
        self.live: dict[str, Live] = {}
        self._archive: deque[ConnectionInfo] = deque(maxlen=archive)
        self._count = 0
        self._started_ms = clock()
        self._open_by_mode: Counter[str] = Counter()
        self._opened_by_mode: Counter[str] = Counter()
        self._streams = 0
        self._refused = 0
        self._codes: Counter[str] = Counter()
        self._past = [0, 0, 0, 0]  # messages and bytes received, messages and bytes sent, of archived ones
        self.revoked: list[Callable[[str], None]] = []  # told of a credential whose connections are ended

    # ---- for carriers --------------------------------------------------------------------------------------------
    def room(self, mode: str) -> bool:
        """Whether one more WebSocket of this mode may open; a refusal is counted."""
        is_room = self._open_by_mode[mode] < self.mode_limits[mode] and self.sockets < self.limit
        self._refused += not is_room
        return is_room

    def open(
        self, kind: Literal["websocket", "events"], end: Callable[[int, str], None], *, mode: str | None = None,
        client_id: str | None = None, principal_id: str | None = None, user_agent: str = "", state: State = "open",
    ) -> Live:  # fmt: skip
        """A new record."""
        self._count += 1
        agent = "".join(ch if ch.isprintable() else "?" for ch in user_agent[:MAX_USER_AGENT])
        live = Live(f"c{self._count}", kind, mode, client_id, principal_id, agent, self.clock(), end, state)
        self.live[live.id] = live
        if mode is not None:
            self._open_by_mode[mode] += 1
            self._opened_by_mode[mode] += 1
        else:
            self._streams += 1
        return live

    def close(self, live: Live, code: int, reason: str) -> None:
        """It has ended. Idempotent."""
        if self.live.pop(live.id, None) is None:
            return
        live.state = "closed"
        live.end = _has_ended  # what it was held the carrier
        if live.mode is not None:
            self._open_by_mode[live.mode] -= 1
        else:
            self._streams -= 1
        info = live.info()
        info.closed_ms, info.close_code, info.close_reason = self.clock(), code, reason
        self._archive.appendleft(info)
        self._codes[str(code)] += 1
        counts = (live.received_messages, live.received_bytes, live.sent_messages, live.sent_bytes)
        self._past = [past + count for past, count in zip(self._past, counts, strict=True)]

    @contextmanager
    def stream(self, end: Callable[[], None], *, principal_id: str | None, user_agent: str) -> Iterator[Live]:
        """A record for an event stream while the body runs. Args: end: makes it stop."""
        code, reason = GOING_AWAY, "the reader has gone"

        def stop(given: int, said: str) -> None:
            nonlocal code, reason
            code, reason = given, said
            end()

        live = self.open("events", stop, principal_id=principal_id, user_agent=user_agent)
        try:
            yield live
        finally:
            self.close(live, code, reason)

    # ---- for services ------------------------------------------------------------------------------------------------
    def end(self, principal_id: str, code: int, reason: str) -> int:
        """Close all connections of a credential and forget what is kept for its return. Returns how many."""
        found = [live for live in self.live.values() if live.principal_id == principal_id]
        for live in found:
            live.end(code, reason)
        for told in self.revoked:
            told(principal_id)
        return len(found)

    def revoke(self, principal_id: str) -> None:
        """The rights of a credential, or its tokens, have ended."""
        self.end(principal_id, FORBIDDEN, "the rights of this credential have ended")

    # ---- for people --------------------------------------------------------------------------------------------------
    @property
    def sockets(self) -> int:
        """Open WebSockets."""
        return len(self.live) - self._streams

    def open_by_mode(self) -> Mapping[str, int]:
        """Open WebSockets, by deployment mode."""
        return self._open_by_mode

    def open_in(self, mode: str) -> int:
        """Open WebSockets of one deployment mode."""
        return self._open_by_mode[mode]

    def report(self, archived: int) -> ConnectionReport:
        """Every open connection, and the last ones that ended."""
        ended = [info for info, _ in zip(self._archive, range(archived), strict=False)]
        return ConnectionReport(items=[live.info() for live in self.live.values()], archived=ended)

    def stats(self, *, detached: int, subscriptions: int, topics: int) -> ConnectionStats:
        """Counts since the start; the arguments are of the sessions."""
        total = list(self._past)
        for live in self.live.values():
            total[0] += live.received_messages
            total[1] += live.received_bytes
            total[2] += live.sent_messages
            total[3] += live.sent_bytes
        return ConnectionStats(
            open=self.sockets,
            authenticating=sum(live.state == "authenticating" for live in self.live.values()),
            opened=self._opened_by_mode.total(),
            closed=self._opened_by_mode.total() - self.sockets,
            refused=self._refused,
            limit=self.limit,
            modes={
                mode: ModeStats(
                    open=self._open_by_mode[mode], opened=self._opened_by_mode[mode], limit=self.mode_limits[mode]
                )
                for mode in MODES
            },
            event_streams=self._streams,
            sessions_detached=detached,
            subscriptions=subscriptions,
            topics=topics,
            received_messages=total[0],
            received_bytes=total[1],
            sent_messages=total[2],
            sent_bytes=total[3],
            close_codes=dict(self._codes),
            uptime_s=(self.clock() - self._started_ms) / 1000,
        )
