"""Commands that need a connection: live queries, topics. The WebSocket's addition to the command table.

They are done at once, in the call that brought them; a caller is what a connection is to a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hybridgw_protocol import localapi as api
from hybridgw_protocol import localapi_live as live

from ...services.live_queries import LiveQueries, LiveQuery
from ...services.live_sessions import Session
from ...services.topics import Topics
from .commands import Scope

MESSAGE_COST: Final = 0.1  # it is work for nobody but who listens


class Caller(Protocol):
    """The connection that asks."""

    session: Session

    def follow(self) -> None:
        """A live query has begun: its events are to be fetched."""
        ...


@dataclass(frozen=True, slots=True)
class SocketCommand:
    """One row: as Command, for a carrier that has a connection.

    cost: of a call, against its budget; is_quiet: a success leaves no line in the log.
    """

    name: str
    kind: type[api.Command]
    result: type[api.Result]
    scope: Scope
    handler: Callable[[Any, Any], api.Result]  # (caller, command) -> result
    cost: float = 1
    is_quiet: bool = False
    names: Callable[[Any], Iterable[str]] | None = None

    @property
    def is_open(self) -> bool:
        """Is it for callers without a credential too: there is none on a WebSocket."""
        return False


def socket_commands(topics: Topics, queries: LiveQueries) -> tuple[SocketCommand, ...]:
    """The rows."""

    def begin(caller: Caller, make: Callable[[asyncio.Event], LiveQuery]) -> live.Subscribed:
        session = caller.session
        if session.stirred is None:
            session.stirred = asyncio.Event()
        session.check_room()
        sub = session.follow(make(session.stirred))
        caller.follow()
        return live.Subscribed(sub=sub)

    def subscribe(caller: Caller, command: live.LiveSubscribe) -> live.Subscribed:
        return begin(caller, lambda stirred: queries.begin(command.collection, command.id, command.filter, stirred))

    def news(caller: Caller, _command: live.EventsSubscribe) -> live.Subscribed:
        return begin(caller, queries.news)

    def unsubscribe(caller: Caller, command: live.LiveUnsubscribe) -> live.Unsubscribed:
        query = caller.session.live.pop(command.sub, None)
        if query is not None:
            query.close()
        return live.Unsubscribed(ended=query is not None)

    def publish(_: Caller, command: live.PublishTopic) -> live.Published:
        return live.Published(listeners=topics.publish(command.topic, command.data))

    def listen(caller: Caller, command: live.SubscribeTopic) -> live.Subscribed:
        return live.Subscribed(sub=topics.subscribe(caller.session, command.topic))

    def ignore(caller: Caller, command: live.UnsubscribeTopic) -> live.Unsubscribed:
        return live.Unsubscribed(ended=topics.unsubscribe(caller.session, command.topic))

    return (
        SocketCommand("live.subscribe", live.LiveSubscribe, live.Subscribed, "read", subscribe),
        SocketCommand("live.unsubscribe", live.LiveUnsubscribe, live.Unsubscribed, "any", unsubscribe),
        SocketCommand("events.subscribe", live.EventsSubscribe, live.Subscribed, "admin", news),
        SocketCommand("topic.publish", live.PublishTopic, live.Published, "send", publish, MESSAGE_COST, is_quiet=True),
        SocketCommand("topic.subscribe", live.SubscribeTopic, live.Subscribed, "listen", listen),
        SocketCommand("topic.unsubscribe", live.UnsubscribeTopic, live.Unsubscribed, "listen", ignore),
    )
