"""Commands of the local API about connections: live queries, topics, who is connected. See localapi.py for the form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from .localapi import Command, Data, DeploymentMode, Result


# ---- live queries ----------------------------------------------------------------------------------------------------
class LiveSubscribe(Command):
    """The documents of a collection as they are, then as they change. id: only this one; filter: as data.list takes it.

    A document that does not, or no longer, satisfy the filter is told as `left`.
    """

    collection: str
    id: str | None = None
    filter: Data | None = None


class EventsSubscribe(Command):
    """What changes beside documents: `sync`, `devices`, `alarms`, `collections`; each says only that there is news."""


class Subscribed(Result):
    """sub: stands in every event of this subscription."""

    sub: int


class LiveUnsubscribe(Command):
    """End a live query, or the one of events."""

    sub: int


class Unsubscribed(Result):
    """ended: false: there was none."""

    ended: bool


# ---- topics ----------------------------------------------------------------------------------------------------------
class PublishTopic(Command):
    """Tell all programs of this machine that listen to a topic now. Nothing is stored, nothing leaves the machine."""

    topic: str
    data: Any = None


class Published(Result):
    """listeners: how many connections it was queued for."""

    listeners: int


class SubscribeTopic(Command):
    """Listen to a topic."""

    topic: str


class UnsubscribeTopic(Command):
    """Listen no more."""

    topic: str


# ---- who is connected ------------------------------------------------------------------------------------------------
class ConnectionInfo(Result):
    """One connection of a program. kind: `websocket` or `events` (a stream over HTTP); state: as it is now.

    rtt_ms: of the last heartbeat; missed_heartbeats: in a row; closed_ms, close_code, close_reason: once it has ended;
    received: by the daemon.
    """

    id: str
    kind: Literal["websocket", "events"]
    state: Literal["authenticating", "open", "slow", "closing", "closed"]
    opened_ms: int
    mode: str | None = None
    client_id: str | None = None
    principal: str | None = None
    user_agent: str = ""
    rtt_ms: float | None = None
    missed_heartbeats: int = 0
    received_messages: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    sent_bytes: int = 0
    last_ms: int | None = None
    closed_ms: int | None = None
    close_code: int | None = None
    close_reason: str | None = None


class ConnectionReport(Result):
    """items: open ones; archived: ended ones, newest first, as many as are kept."""

    items: list[ConnectionInfo]
    archived: list[ConnectionInfo]
    next_cursor: str | None = None


class ListConnections(Command):
    """archived: how many of the ended ones."""

    archived: Annotated[int, Meta(ge=0, le=1_000)] = 100


class ModeStats(Result):
    """One deployment mode. limit: connections at one time."""

    open: int
    opened: int
    limit: int


class ConnectionStats(Result):
    """Since the daemon was started. sessions_detached: kept for programs that may come back; topics: listened to."""

    open: int
    authenticating: int
    opened: int
    closed: int
    refused: int
    limit: int
    modes: dict[str, ModeStats]
    event_streams: int
    sessions_detached: int
    subscriptions: int
    topics: int
    received_messages: int
    received_bytes: int
    sent_messages: int
    sent_bytes: int
    close_codes: dict[str, int]
    uptime_s: float


class GetStats(Command):
    """How many connections there are."""


class Deployment(Result):
    """One deployment mode, and how its programs connect."""

    mode: DeploymentMode
    path: str
    heartbeat_s: float
    idle_s: float
    limit: int
    open: int


class DeploymentList(Result):
    """All deployment modes. protocols: the first one is the default."""

    items: list[Deployment]
    protocols: list[str]
    max_frame_bytes: int
    next_cursor: str | None = None


class ListDeployments(Command):
    """How programs of each deployment mode connect."""


class GetFrameSchema(Command):
    """JSON Schema of the frames."""
