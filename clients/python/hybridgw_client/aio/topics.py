"""Topics: messages between the programs of this machine that listen now."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hybridgw_protocol.errors import HybridGWError

from .following import Following
from .subscriptions import Subscriptions

MAX_UNREAD: Final = 1_000  # messages; beyond, nothing is read; twice as many are never kept


class Message(NamedTuple):
    """after_gap: messages before this one may have been missed: the daemon was started again, or we were too slow."""

    topic: str
    data: Any
    after_gap: bool = False


class Unheard:
    """Messages that the program has not taken. When it is overrun, the latest are dropped and the next says so."""

    def __init__(self, taken: Callable[[], None], limit: int = MAX_UNREAD) -> None:
        self._taken, self._limit = taken, limit
        self._items: deque[Message] = deque()
        self._some = asyncio.Event()
        self._was_full = self._has_gap = False
        self.error: HybridGWError | None = None
        self.is_begun = False

    @property
    def is_full(self) -> bool:
        """Beyond the limit, and until half of that was taken."""
        self._was_full = len(self._items) > (self._limit // 2 if self._was_full else self._limit)
        return self._was_full

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

    def began(self) -> None:
        """As a Sink."""
        self.is_begun = True
        self._some.set()

    def failed(self, error: HybridGWError) -> None:
        """As a Sink: after what is there, this is raised."""
        self.error = error
        self._some.set()

    async def begun(self) -> None:
        """Wait until the daemon has agreed. Raises: what it said."""
        while not self.is_begun and self.error is None:
            self._some.clear()
            await self._some.wait()
        if self.error is not None and not self.is_begun:
            raise self.error

    async def take(self) -> Message:
        """The next message. Raises: the error that ended it."""
        while not self._items:
            if self.error is not None:
                raise self.error
            self._some.clear()
            await self._some.wait()
        was_full = self._was_full
        message = self._items.popleft()
        if was_full and not self.is_full:
            self._taken()
        return message


class Listener(Following[Message]):
    """An async iterator of Message. `async with` waits until the daemon has agreed: from then on all is heard."""

    def __init__(self, subscriptions: Subscriptions, topic: str, taken: Callable[[], None]) -> None:
        super().__init__(subscriptions, "topic.subscribe", {"topic": topic}, Unheard(taken))
