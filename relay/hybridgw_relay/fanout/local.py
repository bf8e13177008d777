"""Fan-out inside one process."""

from __future__ import annotations

from collections.abc import Callable

from hybridgw_protocol.ids import SpaceId

from .base import Listener, News


class LocalFanout:
    """Calls listeners at once, in the order they subscribed."""

    def __init__(self) -> None:
        self._listeners: dict[SpaceId, dict[Listener, None]] = {}

    def publish(self, space: SpaceId, news: News) -> None:
        """Call every listener of the space."""
        for listener in tuple(self._listeners.get(space, ())):
            listener(news)

    def subscribe(self, space: SpaceId, listener: Listener) -> Callable[[], None]:
        """Have *listener* called; returns the function that ends it (calling it twice is harmless)."""
        listeners = self._listeners.setdefault(space, {})
        listeners[listener] = None

        def end() -> None:
            listeners.pop(listener, None)
            if not listeners and self._listeners.get(space) is listeners:
                del self._listeners[space]

        return end
