"""Live queries: an iterator over what is there and then what changes, and a view that is kept up to date."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

from hybridgw_protocol.errors import HybridGWError, StateError

from .following import MAX_UNREAD, Following, Unread
from .subscriptions import Subscription, Subscriptions

Json = dict[str, Any]
Kind = Literal["initial", "ready", "changed", "deleted", "left", "reset"]
_READY: Final = object()
_RESET: Final = object()


class Change(NamedTuple):
    """Something about a live query.

    kind: `initial`: a document that is there; `ready`: that was all; `changed`: made or changed; `deleted`; `left`: it
    does not, or no longer, satisfy the filter; `reset`: forget what you have, everything follows.
    document: as the daemon tells it, of `left` only id, collection and version; empty for `ready` and `reset`.
    """

    kind: Kind
    document: Json

    @property
    def id(self) -> str:
        """Of the document; empty for `ready` and `reset`."""
        return str(self.document.get("id", ""))

    @property
    def data(self) -> Json:
        """The fields of the document; empty if it has none."""
        found = self.document.get("data")
        return found if isinstance(found, dict) else {}


def changes_of(kind: str, data: Any) -> list[Change]:
    """What an event of a live query says. Kinds that are newer than we are say nothing."""
    match kind:
        case "initial":
            return [Change("initial", document) for document in data["items"]]
        case "ready":
            return [Change("ready", {})]
        case "document":
            return [Change("deleted" if data.get("deleted") else "changed", data)]
        case "left":
            return [Change("left", data)]
        case "reset":
            return [Change("reset", {})]
    return []


class Changes(Unread[Change]):
    """Changes that the program has not taken: of each document the latest, so no more than there are documents."""

    def __init__(self, taken: Callable[[], None], limit: int = MAX_UNREAD) -> None:
        super().__init__(taken, limit)
        self._items: OrderedDict[object, Change] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def event(self, kind: str, data: Any) -> None:
        """As a Sink."""
        for change in changes_of(kind, data):
            if change.kind == "reset":
                self.restart()
                continue
            key: object = _READY if change.kind == "ready" else change.id
            self._items.pop(key, None)
            self._items[key] = change
        if self._items:
            self._some.set()

    def restart(self) -> None:
        """As a Sink: what was not taken does not matter any more."""
        self._items.clear()
        self._items[_RESET] = Change("reset", {})
        self._some.set()

    def _first(self) -> Change:
        return self._items.popitem(last=False)[1]


class Watch(Following[Change]):
    """An async iterator of Change. It begins with its first use, and ends with aclose(), `async with`, or with itself.

    `async with db.watch("tasks") as changes:` waits until the daemon has agreed.
    """

    def __init__(self, subscriptions: Subscriptions, params: Json, taken: Callable[[], None]) -> None:
        super().__init__(subscriptions, "live.subscribe", params, Changes(taken))


class LiveView:
    """The documents of a live query, kept up to date while the program does something else.

    documents: by id. After a session that could not be recovered it shows what it had until all was read anew.
    """

    def __init__(self, subscriptions: Subscriptions, params: Json) -> None:
        self.documents: dict[str, Json] = {}
        self.error: HybridGWError | None = None
        self._subscription = Subscription("live.subscribe", params, self)
        self._subscriptions = subscriptions
        self._arriving: dict[str, Json] | None = {}  # until `ready`
        self._news = asyncio.Event()
        self._version = 0

    async def __aenter__(self) -> Self:
        """Waits until all is there. Raises: as Watch."""
        self._subscriptions.add(self._subscription)
        try:
            while self._arriving is not None:
                await self._changed(self._version)
        except BaseException:
            self._subscriptions.drop(self._subscription)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscriptions.drop(self._subscription)
        self.failed(StateError("The view was closed."))

    def __iter__(self) -> Any:
        """Documents in the order of their ids."""
        return iter([self.documents[id] for id in sorted(self.documents)])

    def __len__(self) -> int:
        return len(self.documents)

    async def updates(self) -> AsyncIterator[LiveView]:
        """Itself, at once and again after changes; several that came together count as one. Raises: what ended it."""
        while True:
            seen = self._version
            yield self
            if seen == self._version:
                await self._changed(seen)

    async def _changed(self, seen: int) -> None:
        while seen == self._version:
            if self.error is not None:
                raise self.error
            self._news.clear()
            await self._news.wait()

    @property
    def is_full(self) -> bool:
        """As a Sink: it keeps nothing unread."""
        return False

    def event(self, kind: str, data: Any) -> None:
        """As a Sink."""
        for change in changes_of(kind, data):
            target = self.documents if self._arriving is None else self._arriving
            match change.kind:
                case "reset":
                    self.restart()
                case "ready":
                    if self._arriving is not None:
                        self.documents, self._arriving = self._arriving, None
                case "initial" | "changed":
                    target[change.id] = change.document
                case "deleted" | "left":
                    target.pop(change.id, None)
        if self._arriving is None:
            self._version += 1
            self._news.set()

    def restart(self) -> None:
        """As a Sink."""
        self._arriving = {}

    def began(self) -> None:
        """As a Sink."""

    def failed(self, error: HybridGWError) -> None:
        """As a Sink."""
        self.error = error
        self._news.set()
