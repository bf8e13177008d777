"""Local topics: a message from one program of this machine to all that listen now. Nothing is stored.

A message is encoded once and every listener gets a reference to it; it leaves with whatever else its connection has to
say in the same turn of the event loop.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from hybridgw_protocol.errors import TooMany
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_frames import EventBody
from hybridgw_protocol.localapi_live import check_topic

MAX_TOPICS: Final = 10_000  # that anybody listens to


class Listener(Protocol):
    """A session, as far as it matters here."""

    pending: list[tuple[int, EventBody]]
    pending_bytes: int
    scheduled: bool
    topics: dict[str, int]

    def wake(self) -> None:
        """Events are pending."""
        ...

    def new_sub(self) -> int:
        """The number of a new subscription. Raises: TooMany."""
        ...


class Topics:
    """Who listens to what; used on the event loop only."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[Listener, int]] = {}

    def publish(self, topic: str, data: Any) -> int:
        """Queue a message for all listeners. Returns how many. Raises: BadValue: no topic."""
        listeners = self._listeners.get(topic)
        if listeners is None:
            check_topic(topic)
            return 0
        body = EventBody("topic", b'{"topic":"%b","data":%b}' % (topic.encode(), encode(data)))
        size = len(body.json)
        for session, sub in list(listeners.items()):
            session.pending.append((sub, body))
            session.pending_bytes += size
            if not session.scheduled:
                session.scheduled = True
                session.wake()
        return len(listeners)

    def subscribe(self, session: Listener, topic: str) -> int:
        """Listen. Returns the number of the subscription, the same one if there is one already. Raises: TooMany."""
        check_topic(topic)
        if topic in session.topics:
            return session.topics[topic]
        if topic not in self._listeners and len(self._listeners) >= MAX_TOPICS:
            raise TooMany("Too many topics are listened to.")
        sub = session.new_sub()
        session.topics[topic] = sub
        self._listeners.setdefault(topic, {})[session] = sub
        return sub

    def unsubscribe(self, session: Listener, topic: str) -> bool:
        """Listen no more. Returns whether there was anything to end."""
        if session.topics.pop(topic, None) is None:
            return False
        listeners = self._listeners[topic]
        del listeners[session]
        if not listeners:
            del self._listeners[topic]
        return True

    def __len__(self) -> int:
        return len(self._listeners)
