"""What a program loops over: an async iterator over the events of one subscription, and what it has not taken yet."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from hybridgw_protocol.errors import HybridGWError

from .subscriptions import Subscription, Subscriptions

T = TypeVar("T")
MAX_UNREAD: Final = 1_000  # events


class Unread(ABC, Generic[T]):
    """A sink that keeps events until the program takes them; how many, and which, its kind knows."""

    def __init__(self, taken: Callable[[], None], limit: int = MAX_UNREAD) -> None:
        """Args: taken: called when there is room again; limit: beyond, nothing is read from the daemon for a while."""
        self._taken, self._limit = taken, limit
        self._some = asyncio.Event()  # there is something to take, or to be told
        self._was_full = False
        self.error: HybridGWError | None = None
        self.is_begun = False

    @abstractmethod
    def __len__(self) -> int:
        """How many wait."""

    @abstractmethod
    def event(self, kind: str, data: Any) -> None:
        """As a Sink."""

    @abstractmethod
    def restart(self) -> None:
        """As a Sink."""

    @abstractmethod
    def _first(self) -> T:
        """Take the first one out."""

    @property
    def is_full(self) -> bool:
        """Beyond the limit, and until half of that was taken."""
        self._was_full = len(self) > (self._limit // 2 if self._was_full else self._limit)
        return self._was_full

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

    async def take(self) -> T:
        """The next one. Raises: the error that ended it."""
        while not len(self):
            if self.error is not None:
                raise self.error
            self._some.clear()
            await self._some.wait()
        was_full = self._was_full
        first = self._first()
        if was_full and not self.is_full:
            self._taken()
        return first


class Following(Generic[T]):
    """Begins with its first use, and ends with aclose(), `async with`, or with itself."""

    def __init__(self, subscriptions: Subscriptions, command: str, params: dict[str, Any], queue: Unread[T]) -> None:
        self._queue = queue
        self._subscription = Subscription(command, params, queue)
        self._subscriptions = subscriptions
        self._is_begun = self._is_over = False

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._subscriptions.add(self._subscription)
            # A loop that is left by `break` lets go of its iterator and of nothing else.
            weakref.finalize(self, self._subscriptions.drop, self._subscription).atexit = False

    async def __aenter__(self) -> Self:
        """Raises: Forbidden, SecretsLocked, BadValue: what the daemon says to it."""
        self._begin()
        await self._queue.begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._is_over:
            raise StopAsyncIteration
        self._begin()
        return await self._queue.take()

    async def aclose(self) -> None:
        """Follow it no more."""
        self._is_over = True
        self._subscriptions.drop(self._subscription)
