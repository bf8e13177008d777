"""What a program loops over: an async iterator over the events of one subscription."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from .subscriptions import Sink, Subscription, Subscriptions

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Queue(Sink, Protocol[T_co]):
    """A sink that keeps events until the program takes them."""

    async def begun(self) -> None:
        """Until the daemon has agreed. Raises: the error that it said instead."""
        ...

    async def take(self) -> T_co:
        """The next one. Raises: the error that ended it."""
        ...


class Following(Generic[T]):
    """Begins with its first use, and ends with aclose(), `async with`, or with itself."""

    def __init__(self, subscriptions: Subscriptions, command: str, params: dict[str, Any], queue: Queue[T]) -> None:
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
