"""What a relay needs of fan-out: tell whoever serves connections of a space that something new is stored.

It is a hint. It may be lost or come twice; what there is, and in which order, is read from the store.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from hybridgw_protocol.ids import SpaceId


class News(Enum):
    """What is new."""

    BATCHES = auto()
    CONTROL = auto()
    MAIL = auto()
    LETTERS = auto()


Listener = Callable[[News], None]


class Fanout(Protocol):
    """Between the connections of one process, or of several."""

    def publish(self, space: SpaceId, news: News) -> None:
        """Call every listener of the space, soon or at once. Never blocks, never raises."""
        ...

    def subscribe(self, space: SpaceId, listener: Listener) -> Callable[[], None]:
        """Have *listener* called, on the event loop; it must be quick. Returns the function that ends it."""
        ...
