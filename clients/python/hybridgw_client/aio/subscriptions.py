"""What a program follows, live queries and topics, over all connections; anew where a session was not recovered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from hybridgw_protocol.errors import HybridGWError
from hybridgw_protocol.localapi_frames import EventFrame

from .backoff import full_jitter
from .link import Link, Lost


class Sink(Protocol):
    """Who takes the events of a subscription. Called between two frames: it must not block."""

    @property
    def is_full(self) -> bool:
        """It has more than it should."""
        ...

    def event(self, kind: str, data: Any) -> None:
        """Something happened."""
        ...

    def restart(self) -> None:
        """What follows begins anew; something may have been missed."""
        ...

    def began(self) -> None:
        """The daemon has agreed."""
        ...

    def failed(self, error: HybridGWError) -> None:
        """It is over."""
        ...


class Subscription:
    """One sink and what it follows. sub: the daemon's number, None while there is none."""

    __slots__ = ("command", "had", "params", "sink", "sub")

    def __init__(self, command: str, params: dict[str, Any], sink: Sink) -> None:
        self.command, self.params, self.sink = command, params, sink
        self.sub: int | None = None
        self.had = False  # it had begun once


class Subscriptions:
    """All of a program's. `run` is its part of a connection; outside of it they wait."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._all: set[Subscription] = set()
        self._by_sub: dict[int, set[Subscription]] = {}
        self._new: list[Subscription] = []
        self._ended: list[tuple[str, dict[str, Any]]] = []  # what the daemon should hear of
        self._gone: set[int] = set()  # numbers whose end it was told
        self._stir = asyncio.Event()
        self._asking = 0
        self._error: HybridGWError | None = None  # why there will be no connection

    @property
    def is_full(self) -> bool:
        """Some sink has more than it should: read no more for now."""
        return any(one.sink.is_full for one in self._all)

    def add(self, subscription: Subscription) -> None:
        """Follow it from the next turn on, or when there is a connection."""
        if self._error is not None:
            subscription.sink.failed(self._error)
            return
        self._all.add(subscription)
        self._new.append(subscription)
        self._stir.set()

    def drop(self, subscription: Subscription) -> None:
        """Follow it no more. Idempotent."""
        self._all.discard(subscription)
        sub, subscription.sub = subscription.sub, None
        if sub is None:
            return
        sharing = self._by_sub.get(sub, set())  # several listeners of one topic have one number
        sharing.discard(subscription)
        if sharing:
            return
        self._by_sub.pop(sub, None)
        if subscription.command in ("live.subscribe", "messages.listen"):
            self._end(sub, "live.unsubscribe", {"sub": sub})
        elif not any(one.params == subscription.params for one in self._all):  # one that is being asked for just now
            self._end(sub, "topic.unsubscribe", subscription.params)

    def take(self, frame: EventFrame) -> None:
        """An event."""
        sharing = self._by_sub.get(frame.sub)
        if sharing is None:
            # Its `subscribe` was answered into a connection that had broken; or it is one that is asked for now.
            if self._asking == 0:
                topic = frame.data.get("topic") if frame.event == "topic" and isinstance(frame.data, dict) else None
                if topic is None:
                    self._end(frame.sub, "live.unsubscribe", {"sub": frame.sub})
                else:
                    self._end(frame.sub, "topic.unsubscribe", {"topic": topic})
            return
        for one in list(sharing):
            one.sink.event(frame.event, frame.data)

    def begin(self, *, recovered: bool) -> None:
        """There is a connection."""
        self._gone.clear()
        if not recovered:
            self._ended.clear()
        if recovered:
            self._new = [one for one in self._all if one.sub is None]
        else:
            self._by_sub.clear()
            self._new = list(self._all)
            for one in self._all:
                one.sub = None
                if one.had:
                    one.sink.restart()
        self._stir.set()

    def fail(self, error: HybridGWError) -> None:
        """There will be no connection any more."""
        self._error = error
        for one in list(self._all):
            one.sink.failed(error)
        self._all.clear()
        self._by_sub.clear()

    async def run(self, link: Link) -> None:
        """Ask the daemon for what is new; until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._stir.wait()
                self._stir.clear()
                new, self._new = self._new, []
                ended, self._ended = self._ended, []
                for command, params in ended:
                    await link.tell(command, params)
                for one in new:
                    group.create_task(self._ask(link, one))

    def _end(self, sub: int, command: str, params: dict[str, Any]) -> None:
        if sub not in self._gone:
            self._gone.add(sub)
            self._ended.append((command, params))
            self._stir.set()

    async def _ask(self, link: Link, one: Subscription) -> None:
        def then(result: Any) -> None:
            one.sub = result["sub"]
            self._gone.discard(result["sub"])
            self._by_sub.setdefault(result["sub"], set()).add(one)
            if one in self._all:
                one.had = True
                one.sink.began()
            else:  # given up meanwhile
                self.drop(one)

        attempt = 0
        while one in self._all:
            self._asking += 1
            try:
                await link.ask(one.command, one.params, then=then)
                return
            except Lost:
                return
            except HybridGWError as error:
                if not error.retryable:
                    self._all.discard(one)
                    one.sink.failed(error)
                    return
            finally:
                self._asking -= 1
            await asyncio.sleep(full_jitter(attempt, self._random))
            attempt += 1
