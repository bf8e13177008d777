"""Local topics: a message from one program of this machine to all that listen now. Nothing is stored.

A message is encoded and framed once, and every listener gets a reference to it; it leaves with whatever else its
connection has to say in the same turn of the event loop. That is possible because number and subscription of an event
are the same for all: both are counted here, once for the whole daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from hybridgw_protocol.errors import TooMany
from hybridgw_protocol.ids import check_topic
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_frames import Told, event_frame

MAX_TOPICS: Final = 10_000  # that anybody listens to


class Counter:
    """Numbers of events and of subscriptions of this run of the daemon."""

    __slots__ = ("offset", "sub")

    def __init__(self) -> None:
        self.offset = self.sub = 0

    def tell(self, sub: int, body: bytes) -> Told:
        """The next event. Args: body: as `event_body` forms it."""
        self.offset += 1
        return Told(self.offset, event_frame(self.offset, sub, body))

    def new_sub(self) -> int:
        """The number of a new subscription."""
        self.sub += 1
        return self.sub


class Listener(Protocol):
    """A session, as far as it matters here."""

    pending: list[Told]
    scheduled: bool
    topics: dict[str, int]

    def wake(self) -> None:
        """Events are pending."""
        ...

    def check_room(self) -> None:
        """Raise TooMany if it may not have one more subscription."""
        ...


class _Topic:
    __slots__ = ("listeners", "start", "sub")

    def __init__(self, name: str, sub: int) -> None:
        self.sub = sub
        self.start = b',"sub":%d,"event":"topic","data":{"topic":"%b","data":' % (sub, name.encode())
        self.listeners: dict[Listener, None] = {}  # in the order in which they came


class Topics:
    """Who listens to what; used on the event loop only."""

    def __init__(self, counter: Counter, routed: Callable[[str], None] = lambda _kind: None) -> None:
        """Args: routed: told of every message, by kind."""
        self._counter, self._routed = counter, routed
        self._topics: dict[str, _Topic] = {}

    def publish(self, topic: str, data: Any) -> int:
        """Queue a message for all listeners. Returns how many. Raises: BadValue: no topic."""
        found = self._topics.get(topic)
        if found is None:
            check_topic(topic)
            self._routed("topic")
            return 0
        self._routed("topic")
        counter = self._counter
        counter.offset = offset = counter.offset + 1
        told = Told(offset, b'{"type":"event","offset":%d%b%b}}' % (offset, found.start, encode(data)))
        listeners = list(found.listeners)  # one without a connection may end by what it is given
        for listener in listeners:
            listener.pending.append(told)
            if not listener.scheduled:
                listener.scheduled = True
                listener.wake()
        return len(listeners)

    def subscribe(self, listener: Listener, topic: str) -> int:
        """Listen. Returns the number of the subscription, the same for all. Raises: BadValue; TooMany."""
        check_topic(topic)
        if topic in listener.topics:
            return listener.topics[topic]
        listener.check_room()
        found = self._topics.get(topic)
        if found is None:
            if len(self._topics) >= MAX_TOPICS:
                raise TooMany("Too many topics are listened to.")
            found = self._topics[topic] = _Topic(topic, self._counter.new_sub())
        listener.topics[topic] = found.sub
        found.listeners[listener] = None
        return found.sub

    def unsubscribe(self, listener: Listener, topic: str) -> bool:
        """Listen no more. Returns whether there was anything to end."""
        if listener.topics.pop(topic, None) is None:
            return False
        found = self._topics[topic]
        del found.listeners[listener]
        if not found.listeners:
            del self._topics[topic]
        return True

    def __len__(self) -> int:
        return len(self._topics)
