"""Topics: messages between the programs of this machine that listen now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from .following import MAX_UNREAD, Following, Unread
from .subscriptions import Subscriptions


class Message(NamedTuple):
    """after_gap: messages before this one may have been missed: the daemon was started again, or we were too slow."""

    topic: str
    data: Any
    after_gap: bool = False


class Heard(Unread[Message]):
    """Messages that the program has not taken. When it is overrun, the latest are dropped and the next says so."""

    def __init__(self, taken: Callable[[], None], limit: int = MAX_UNREAD) -> None:
        """Args: limit: twice as many are never kept."""
        super().__init__(taken, limit)
        self._items: deque[Message] = deque()
        self._has_gap = False

    def __len__(self) -> int:
        return len(self._items)

    def event(self, kind: str, data: Any) -> None:
        """As a Sink."""
        if kind != "topic":
            return
        if len(self._items) >= 2 * self._limit:
            self._has_gap = True
            return
        self._items.append(Message(data["topic"], data["data"], self._has_gap))
        self._has_gap = False
        self._some.set()

    def restart(self) -> None:
        """As a Sink."""
        self._has_gap = True

    def _first(self) -> Message:
        return self._items.popleft()


class Listener(Following[Message]):
    """An async iterator of Message. `async with` waits until the daemon has agreed: from then on all is heard."""

    def __init__(self, subscriptions: Subscriptions, topic: str, taken: Callable[[], None]) -> None:
        super().__init__(subscriptions, "topic.subscribe", {"topic": topic}, Heard(taken))
