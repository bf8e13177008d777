"""A collection of documents: read, query, write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from .outbox import Write

Json = dict[str, Any]
PAGE: Final = 1_000  # documents asked for at once


class Query:
    """Documents that satisfy a filter; an async iterable, asked for page by page as they are needed."""

    def __init__(self, ask: Callable[..., Awaitable[Any]], params: Json) -> None:
        self._ask, self._params = ask, params

    async def __aiter__(self) -> AsyncIterator[Json]:
        """Document after document."""
        async for page in self.pages():
            for document in page:
                yield document

    async def pages(self) -> AsyncIterator[list[Json]]:
        """Page after page. Raises: BadValue: a filter or an order that is none; SecretsLocked."""
        cursor: str | None = None
        while True:
            params = self._params if cursor is None else {**self._params, "cursor": cursor}
            page = await self._ask("data.list", params)
            yield page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def all(self) -> list[Json]:
        """All of them."""
        return [document async for document in self]


class Collection:
    """`db.collection(name)`. Documents come and go as plain dicts: see docs/reference/http-api.md."""

    def __init__(
        self, name: str, *, ask: Callable[..., Awaitable[Any]], write: Callable[[Write], Awaitable[Json]],
        batch: Callable[..., Awaitable[Json]], new_id: Callable[[], str],
    ) -> None:  # fmt: skip
        self.name = name
        self._ask, self._write, self._batch, self._new_id = ask, write, batch, new_id

    async def get(self, id: str) -> Json:
        """One document. Raises: NotFound, Deleted."""
        found: Json = await self._ask("data.get", {"collection": self.name, "id": id})
        return found

    def query(
        self, filter: Json | None = None, *, sort: str | None = None, deleted: bool = False, page: int = PAGE
    ) -> Query:
        """Documents. Args: filter, sort: as the HTTP API takes them; deleted: deleted ones too; page: in one answer."""
        params: Json = {"collection": self.name, "limit": page, "deleted": deleted}
        if filter is not None:
            params["filter"] = filter
        if sort is not None:
            params["sort"] = sort
        return Query(self._ask, params)

    async def list(self, filter: Json | None = None, *, sort: str | None = None) -> list[Json]:
        """All documents of a query at once."""
        return await self.query(filter, sort=sort).all()

    async def create(self, data: Json, id: str | None = None) -> Json:
        """A new document; without an id it gets one that sorts by time. Raises: AlreadyExists, InvalidDocument."""
        own = id is None
        return await self._write(Write("create", self.name, self._new_id() if id is None else id, data, own_id=own))

    async def put(self, id: str, data: Json, *, version: int | None = None, exists: bool | None = None) -> Json:
        """Replace all of it, or make it. Args: version: it must have; exists: false: it must not be there.

        Raises: PreconditionFailed; InvalidDocument.
        """
        return await self._write(Write("put", self.name, id, data, version, exists))

    async def patch(self, id: str, patch: Json, *, version: int | None = None) -> Json:
        """Change some fields; null removes one. Raises: NotFound, Deleted, PreconditionFailed, InvalidDocument."""
        return await self._write(Write("patch", self.name, id, patch, version))

    async def delete(self, id: str, *, version: int | None = None, confirm: bool = False) -> None:
        """Delete it on all devices. Args: confirm: a person agreed to delete many. Raises: NotFound, NeedsPerson."""
        await self._write(Write("delete", self.name, id, version=version, confirm=confirm))

    async def batch(self, operations: Iterable[Json], *, atomic: bool = True, confirm: bool = False) -> Json:
        """Several writes of this collection in one transaction: all or none. See Database.batch."""
        named = [{"collection": self.name, **operation} for operation in operations]
        return await self._batch(named, atomic=atomic, confirm=confirm)
