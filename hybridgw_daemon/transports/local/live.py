"""Commands that need a connection: live queries, topics. The WebSocket's addition to the command table.

They are done at once, in the call that brought them, but those that write. A caller is what a connection is to a
command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hybridgw_protocol import localapi as api
from hybridgw_protocol import localapi_live as live
from hybridgw_protocol import localapi_messages as said

from ...services.ears import Ear
from ...services.live_queries import LiveQueries, LiveQuery
from ...services.live_sessions import Session
from ...services.messages import MessageService, Posted
from ...services.ports import Principal
from ...services.topics import Topics
from .commands import Scope, message_names

MESSAGE_COST: Final = 0.1  # it is work for nobody but who listens


class Caller(Protocol):
    """The connection that asks."""

    session: Session
    principal: Principal | None

    def follow(self) -> None:
        """A live query has begun: its events are to be fetched."""
        ...


@dataclass(frozen=True, slots=True)
class SocketCommand:
    """One row: as Command, for a carrier that has a connection.

    cost: of a call, against its budget; is_quiet: a success leaves no line in the log; takes_time: the handler is
    awaited; answer: the handler returns a future, and its result becomes the answer by this; status: of a success, in
    the log.
    """

    name: str
    kind: type[api.Command]
    result: type[api.Result]
    scope: Scope
    handler: Callable[[Any, Any], Any]  # (caller, command) -> result, or an awaitable of it
    cost: float = 1
    is_quiet: bool = False
    names: Callable[[Any], Iterable[str]] | None = None
    takes_time: bool = False
    answer: Callable[[Any], Any] | None = None
    status: int = 200

    @property
    def is_open(self) -> bool:
        """Is it for callers without a credential too: there is none on a WebSocket."""
        return False


def message_commands(messages: MessageService) -> tuple[SocketCommand, ...]:
    """The rows of messages that depend on which program asks."""

    def ear_of(caller: Caller) -> Ear | None:
        return next((source for source in caller.session.live.values() if isinstance(source, Ear)), None)

    async def listen(caller: Caller, command: said.ListenMessages) -> said.Listening:
        session, owner = caller.session, caller.session.owner
        if session.stirred is None:
            session.stirred = asyncio.Event()
        for sub, source in list(session.live.items()):
            if isinstance(source, Ear):  # it listens anew, for other things: what it had is shown again
                source.close()
                del session.live[sub]
        session.check_room()
        ear, waiting = await messages.listeners.listen(
            _principal(caller), owner.mode, owner.client_id, command, session.stirred
        )
        sub = session.follow(ear)
        caller.follow()
        return said.Listening(sub=sub, waiting=waiting)

    def send(caller: Caller, command: said.SendMessage) -> Posted:
        owner = caller.session.owner
        return messages.post(_principal(caller), command, f"{owner.mode}/{owner.client_id}")

    async def ack(caller: Caller, command: said.AckMessages) -> said.Acknowledged:
        return await messages.ack(_principal(caller), command, ear_of(caller))

    return (
        SocketCommand("messages.listen", said.ListenMessages, said.Listening, "any", listen, takes_time=True),
        SocketCommand("messages.send", said.SendMessage, said.Message, "send", send, MESSAGE_COST, is_quiet=True,
                      names=message_names, answer=messages.answer, status=201),
        SocketCommand("messages.ack", said.AckMessages, said.Acknowledged, "any", ack, MESSAGE_COST, is_quiet=True,
                      takes_time=True),
    )  # fmt: skip


def _principal(caller: Caller) -> Principal:
    assert caller.principal is not None  # noqa: S101 - nobody else asks anything
    return caller.principal


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
