"""Live queries: what a collection, a document or a filter holds now, then every change: no gap, none told twice.

A place in the change feed (events.py) does both: everything up to the place where the query began is `initial`, then
comes `ready`, then what changes. Deletions, and documents that do not satisfy the filter (`left`), are told from the
moment the query began. Whether a document had been in the result before is not remembered, so `left` may name one that
never was: a reader drops what it does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hybridgw_protocol.ids import check_collection, format_document_id, parse_document_id
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_frames import event_body
from hybridgw_storage.database import Connection, Database

from ..stores import documents, queries
from ..stores.documents import Vault
from .documents import shown
from .events import Event, EventHub, Subscription


class LiveQuery:
    """One live query, or a listener of other events. `part` until it gives nothing, again when `wakened` is set."""

    __slots__ = ("_conditions", "_first", "_id", "_subscription")

    def __init__(
        self, subscription: Subscription, *, id: str | None = None, conditions: Sequence[queries.Condition] = (),
        first: bytes | None = None,
    ) -> None:  # fmt: skip
        """Args: first: an event to begin with."""
        self._subscription = subscription
        self._id = id
        self._conditions = conditions
        self._first = first

    async def part(self) -> list[bytes]:
        """The next events; [] if there is nothing now. Cancelling loses none."""
        if self._first is not None:
            first, self._first = self._first, None
            return [first]
        while events := await self._subscription.poll():
            if found := self._told(events):
                return found
        return []

    def close(self) -> None:
        """End it. Idempotent."""
        self._subscription.close()

    def _told(self, events: Sequence[Event]) -> list[bytes]:
        found: list[bytes] = []
        items: list[bytes] = []
        until = self._subscription.initial_until
        for event in events:
            if event.kind == "document":
                if self._id is not None and event.id != self._id:
                    continue
                is_in = not self._conditions or self._holds(event.content)
                if (event.seq or 0) <= until:
                    if is_in:
                        items.append(event.data)
                    continue
                body = event.body if is_in else event.left
            else:
                body = event.body
            if items:
                found.append(_initial(items))
                items = []
            found.append(body)
        if items:
            found.append(_initial(items))
        return found

    def _holds(self, content: dict[str, Any] | None) -> bool:
        return content is None or queries.matches(content, self._conditions)  # a deletion is told as one


def _initial(items: Sequence[bytes]) -> bytes:
    return event_body("initial", b'{"items":[%b]}' % b",".join(items))


class LiveQueries:
    """Begins live queries."""

    def __init__(self, database: Database, hub: EventHub, vault: Callable[[], Vault | None]) -> None:
        """Args: vault: opens bodies of secret collections, None while locked."""
        self._database = database
        self._hub = hub
        self._vault = vault

    def begin(
        self, collection: str, id: str | None, filter: dict[str, Any] | None, wakened: asyncio.Event
    ) -> LiveQuery:
        """Raises: BadValue: names what is wrong; SecretsLocked; Busy: too many listeners."""
        check_collection(collection)
        conditions = queries.parse_filter(filter)
        if id is not None:
            return self._one(collection, id, conditions, wakened)
        self._database.peek(lambda c: self._check_open(c, collection))
        return LiveQuery(self._hub.subscribe("0", collection, wakened=wakened), conditions=conditions)

    def news(self, wakened: asyncio.Event) -> LiveQuery:
        """Only what changes beside documents."""
        return LiveQuery(self._hub.subscribe(documents=False, wakened=wakened))

    def _one(
        self, collection: str, id: str, conditions: Sequence[queries.Condition], wakened: asyncio.Event
    ) -> LiveQuery:
        """A single document is read by its key instead of from the feed's beginning."""
        document = parse_document_id(id)

        def look(connection: Connection) -> tuple[int, queries.Found | None]:
            connection.execute("BEGIN")  # one snapshot for the document and the place of the feed
            try:
                self._check_open(connection, collection)
                place = queries.last_seq(connection)
                return place, queries.get_one(connection, collection, document, self._vault())
            finally:
                connection.execute("COMMIT")

        place, found = self._database.peek(look)
        subscription = self._hub.subscribe(f"{self._hub.epoch}-{place}", collection, wakened=wakened)
        first: bytes | None = None
        if found is not None and found.cl % 2:
            data = encode(shown(collection, document, found.seq, found.cl, found.body, found.conflicts))
            event = Event("document", found.seq, collection, data)
            if not conditions or queries.matches(event.content or {}, conditions):
                first = _initial([data])
        return LiveQuery(subscription, id=format_document_id(document), conditions=conditions, first=first)

    def _check_open(self, connection: Connection, name: str) -> None:
        where = documents.collection(connection, name)
        if where is not None and where.secret and self._vault() is None:
            raise queries.locked(name)
