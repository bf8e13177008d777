"""The change feed and other events, for any number of local listeners, with no gap and no event told twice.

The feed is the document table in the order of `seq`: a listener is a place in it. Who is close to its end is served
from a short memory of encoded events, everybody else from the table; so a slow listener costs no memory, and one that
returns goes on where it was. Other events (`sync`, `devices`, `alarms`, …) say that something changed, have no place,
and of each kind only the latest is kept for a listener that is busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hybridgw_protocol.errors import BadValue, Busy
from hybridgw_protocol.ids import check_collection
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_frames import event_body
from hybridgw_storage.database import Connection, Database, Tx

from ..stores import documents, meta, queries
from ..stores.documents import Vault
from .documents import shown

MAX_LISTENERS: Final = 4_096
MEMORY_EVENTS: Final = 4_096
MEMORY_BYTES: Final = 8 * 1024 * 1024
PART_BYTES: Final = 256 * 1024  # handed to a listener at once
_EPOCH: Final = "epoch"


class Event:
    """kind: `document`, or what changed; seq: place in the feed, None if it has none; data: JSON, encoded once.

    id: of the document. One object for all listeners, so what one of them had to work out, the next one finds here.
    """

    __slots__ = ("_body", "_content", "_left", "collection", "data", "id", "kind", "seq")

    def __init__(self, kind: str, seq: int | None, collection: str | None, data: bytes, id: str | None = None) -> None:
        self.kind, self.seq, self.collection, self.data, self.id = kind, seq, collection, data, id
        self._body: bytes | None = None
        self._left: bytes | None = None
        self._content: Any = msgspec.UNSET

    @property
    def body(self) -> bytes:
        """As a frame of the WebSocket tells it."""
        if self._body is None:
            self._body = event_body(self.kind, self.data)
        return self._body

    @property
    def left(self) -> bytes:
        """The same for a live query whose filter the document does not satisfy: without its content."""
        if self._left is None:
            said = {"id": self.id, "collection": self.collection, "version": self.seq}
            self._left = event_body("left", encode(said))
        return self._left

    @property
    def content(self) -> dict[str, Any] | None:
        """The fields of the document; None: deleted, or locked."""
        if self._content is msgspec.UNSET:
            self._content = msgspec.json.decode(self.data).get("data")
        return self._content  # type: ignore[no-any-return]


def prepare(tx: Tx, entropy: Callable[[int], bytes]) -> str:
    """The epoch of this database's feed, made if it has none: cursors of another epoch start again.

    Whoever builds the documents anew, or restores a database, deletes it with `forget_epoch`.
    """
    epoch = meta.get(tx.connection, _EPOCH)
    if not isinstance(epoch, str):
        epoch = entropy(4).hex()
        meta.put(tx, _EPOCH, epoch)
    return epoch


def forget_epoch(tx: Tx) -> None:
    """Listeners that come back are told to begin again; call where documents vanish without a tombstone."""
    meta.put(tx, _EPOCH, None)


class EventHub:
    """One per daemon; `run` is its task. Everything here is used on the event loop only."""

    def __init__(
        self,
        database: Database,
        vault: Callable[[], Vault | None],
        epoch: str,
        *,
        memory_events: int = MEMORY_EVENTS,
    ) -> None:
        """Args: vault: opens bodies of secret collections, None while locked; epoch: see `prepare`."""
        self._database = database
        self._memory_events = memory_events
        self._vault = vault
        self.epoch = epoch
        self._changed = asyncio.Event()
        self._listeners: set[Subscription] = set()
        self._memory: deque[Event] = deque()
        self._memory_bytes = 0
        self._floor = 0  # every change above it that the hub has read is in the memory
        self._last = 0  # read up to here
        self._closed = False

    def position(self, connection: Connection) -> str:
        """Where the feed stands, as a cursor."""
        return f"{self.epoch}-{queries.last_seq(connection)}"

    def wake(self) -> None:
        """Documents changed; cheap, and right to call too often."""
        self._changed.set()

    def publish(self, kind: str, result: object | None = None) -> None:
        """Tell all listeners that something other than a document changed."""
        if kind == "documents":
            self.wake()
            return
        event = Event(kind, None, None, encode({} if result is None else result))
        for listener in self._listeners:
            listener._tell(event)

    def reset(self, epoch: str) -> None:
        """Documents vanished without a trace (built anew, restored): all listeners begin again, under a new epoch."""
        self.epoch = epoch
        self._forget()
        for listener in self._listeners:
            listener._begin_again()
        self._changed.set()

    def subscribe(
        self,
        since: str | None = None,
        collection: str | None = None,
        *,
        readable: frozenset[str] | None = None,
        wakened: asyncio.Event | None = None,
        documents: bool = True,
    ) -> Subscription:
        """Listen from a place on.

        Args: since: a cursor, `0` for everything there is, None: from now on; readable: only these collections, and
        nothing about sync and devices, None: everything; wakened: set when there may be news, for one who `poll`s
        several; documents: False: only of other kinds.

        Raises: BadValue: no cursor; Busy: too many listeners.
        """
        if self._closed or len(self._listeners) >= MAX_LISTENERS:
            raise Busy("Too many programs listen for events, or the daemon is stopping; try later.")
        if collection is not None:
            check_collection(collection)
        last = self._database.peek(queries.last_seq)
        if not self._listeners:
            self._forget(last)
        start, is_reset = last, False
        if since is not None:
            epoch, seq = _parse_cursor(since)
            is_reset = seq > last or (epoch is not None and epoch != self.epoch)
            start = 0 if is_reset else seq
        listener = Subscription(
            self, start, last, collection, is_reset, readable, wakened or asyncio.Event(), documents
        )  # fmt: skip
        self._listeners.add(listener)
        return listener

    async def run(self) -> None:
        """Read what is new and wake the listeners; until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._listeners:
                continue
            rows = self._database.peek(lambda c: queries.feed(c, self._last, self._vault()))
            for row in rows:
                self._remember(_event(row))
            if rows:
                self._last = rows[-1].seq
                for listener in self._listeners:
                    listener._wake()
            if len(rows) == queries.FEED_PAGE:
                self._changed.set()
                await asyncio.sleep(0)  # others first: a bulk import is many pages

    def close(self) -> None:
        """End all subscriptions; no new ones."""
        self._closed = True
        for listener in list(self._listeners):
            listener.close()

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._listeners)

    def _remember(self, event: Event) -> None:
        self._memory.append(event)
        self._memory_bytes += len(event.data)
        while len(self._memory) > self._memory_events or self._memory_bytes > MEMORY_BYTES:
            oldest = self._memory.popleft()
            self._memory_bytes -= len(oldest.data)
            self._floor = oldest.seq or self._floor

    def _forget(self, last: int = 0) -> None:
        self._memory.clear()
        self._memory_bytes = 0
        self._floor = self._last = last or self._database.peek(queries.last_seq)


class Subscription:
    """One listener. `async for part in subscription` gives lists of events; ends when it is closed."""

    def __init__(
        self,
        hub: EventHub,
        start: int,
        last: int,
        collection: str | None,
        is_reset: bool,
        readable: frozenset[str] | None,
        wakened: asyncio.Event,
        documents: bool,
    ) -> None:
        self._hub = hub
        self._cursor = start
        self._first = last  # up to here it was there already; of what was deleted, who begins at 0 does not hear
        self._from_nothing = start == 0
        self._collection = collection
        self._readable = readable
        self._documents = documents
        self._wakened = wakened
        self._wakened.set()
        self._told: dict[str, Event] = {}
        self._is_ready = False
        self._closed = False
        if is_reset:
            self._told["reset"] = Event("reset", None, None, b"{}")

    @property
    def epoch(self) -> str:
        """Part of every cursor."""
        return self._hub.epoch

    @property
    def initial_until(self) -> int:
        """Documents up to this place are what there was when it began; 0: it did not ask for that."""
        return self._first if self._from_nothing else 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> list[Event]:
        """The next events, at most about PART_BYTES of them; waits for one. Cancelling loses none."""
        while not self._closed:
            if events := await self.poll():
                return events
            await self._wakened.wait()
            self._wakened.clear()
        raise StopAsyncIteration

    async def poll(self) -> list[Event]:
        """The same without waiting: [] if there is nothing now. Cancelling loses none."""
        if self._closed:
            return []
        if self._documents:
            if reset := self._told.pop("reset", None):
                return [reset]
            events = [] if self._is_at_first() else await self._next()
            if events:
                return events
            if not self._is_ready:
                self._is_ready = True
                return [Event("ready", self._cursor, None, encode({"since": f"{self._hub.epoch}-{self._cursor}"}))]
        told, self._told = list(self._told.values()), {}
        return told

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._closed = True
        self._hub._listeners.discard(self)
        self._wakened.set()

    async def _next(self) -> list[Event]:
        """Events after the cursor, which moves on."""
        if self._is_behind():
            return await self._from_table()
        newer: list[Event] = []
        for event in reversed(self._hub._memory):
            if (event.seq or 0) <= self._cursor:
                break
            newer.append(event)
        found: list[Event] = []
        size = 0
        for event in reversed(newer):
            if size > PART_BYTES or self._is_later(event.seq or 0):
                break
            self._cursor = event.seq or self._cursor
            if self._wants(event.collection):
                found.append(event)
                size += len(event.data)
        return found

    def _is_at_first(self) -> bool:
        """All that was there when it began is told, `ready` is due: what has changed since comes after it."""
        return not self._is_ready and self._cursor >= self._first

    def _is_later(self, seq: int) -> bool:
        """It changed since the beginning, of which more is to be told first."""
        return not self._is_ready and seq > self._first

    def _is_behind(self) -> bool:
        """Before what the memory has; or at what there is, while the memory also has what it was before."""
        return self._cursor < self._hub._floor or (self._from_nothing and self._cursor < self._first)

    async def _from_table(self) -> list[Event]:
        vault, after, name = self._hub._vault(), self._cursor, self._collection

        def look(connection: Connection) -> tuple[list[queries.FeedRow], int]:
            connection.execute("BEGIN")
            try:
                where = documents.collection(connection, name) if name else None
                if name and where is None:
                    return [], queries.last_seq(connection)
                rows = queries.feed(connection, after, vault, collection=where)
                more = len(rows) == queries.FEED_PAGE
                return rows, rows[-1].seq if more else queries.last_seq(connection)
            finally:
                connection.execute("COMMIT")

        while self._is_behind() and not self._is_at_first() and not self._closed:
            after = self._cursor
            rows, reached = await self._hub._database.read(look)
            found: list[Event] = []
            size = 0
            for row in rows:
                if self._is_later(row.seq):
                    self._cursor = self._first
                    break
                if size > PART_BYTES:
                    break
                self._cursor = row.seq
                if self._from_nothing and row.seq <= self._first and row.cl % 2 == 0:
                    continue
                if not self._wants(row.collection):
                    continue
                found.append(_event(row))
                size += len(found[-1].data)
            else:
                self._cursor = self._first if self._is_later(reached) else reached
            if found:
                return found
        return []

    def _wants(self, collection: str | None) -> bool:
        if self._readable is not None and collection not in self._readable:
            return False
        return self._collection is None or collection == self._collection

    def _wake(self) -> None:
        self._wakened.set()

    def _tell(self, event: Event) -> None:
        if self._readable is not None:
            return
        self._told[event.kind] = event
        self._wakened.set()

    def _begin_again(self) -> None:
        self._told["reset"] = Event("reset", None, None, b"{}")
        self._cursor, self._from_nothing, self._is_ready = 0, True, False
        self._first = self._hub._last
        self._wakened.set()


def _event(row: queries.FeedRow) -> Event:
    document = shown(row.collection, row.id, row.seq, row.cl, row.body, row.conflicts)
    return Event("document", row.seq, row.collection, encode(document), document.id)


def _parse_cursor(text: str) -> tuple[str | None, int]:
    epoch, found, seq = text.rpartition("-")
    if not seq.isascii() or not seq.isdigit() or len(seq) > 18 or (found and not epoch):
        raise BadValue("A cursor of the change feed is a number, or the `id` of an event.")
    return (epoch if found else None), int(seq)
