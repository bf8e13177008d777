"""What services get from the process they run in: clocks, entropy, another thread for slow work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """Runs a function off the event loop."""

    def __call__(self, fn: Callable[[], T]) -> Awaitable[T]:
        """The function's result, or what it raised."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """wall_ms: Unix ms, may jump: for what is stored and told. steady_ms: never goes back: for rates and deadlines.
    entropy: n -> n random bytes."""

    wall_ms: Callable[[], int]
    steady_ms: Callable[[], int]
    entropy: Callable[[int], bytes]
    work: Worker
