"""Documents for local callers: read, write, change, delete, in one transaction each.

A write is planned against the document as it stands inside the transaction, turned into requests of the replica, and
committed at once: preconditions, schema and merge see the same state. Fields that are null are not shown; a write that
would change nothing is not made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UNSET, Raw

from hybridgw_protocol.errors import BadValue, Deleted, HybridGWError, NotFound, TooBig
from hybridgw_protocol.ids import DocumentId, check_collection, format_document_id, parse_document_id
from hybridgw_protocol.localapi import (
    BatchOperation,
    BatchResult,
    Change,
    CreateDocument,
    DeleteDocument,
    Document,
    DocumentPage,
    GetDocument,
    ListDocuments,
    PatchDocument,
    PutDocument,
    RestoreDocument,
    WriteBatch,
)
from hybridgw_storage.database import Connection, Database, Tx

from ..core.document_state import decode_shown, encode_shown
from ..core.uuid7 import new_uuid7
from ..stores import documents as rows
from ..stores import queries
from .collections import CollectionService
from .guards import MassDeletes
from .ports import DocumentReplica, Principal
from .writes import Plan, Write

SPLIT_OPERATIONS: Final = 1_000  # of a batch that may be split; half of what a transaction may hold
SPLIT_BYTES: Final = 96 * 1024  # of their JSON, for the same reason
YIELD_AFTER: Final = 1_000  # operations of a batch; then other requests get their turn
INLINE_ITEMS: Final = 100  # a page so small is read on the event loop, which costs less than a thread


class NotModified(Exception):
    """The caller has this version already: an outcome, not an error."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


class DocumentService:
    """What `/api/data` does."""

    def __init__(
        self,
        database: Database,
        replica: DocumentReplica,
        collections: CollectionService,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        wrote: Callable[[], None],
        position: Callable[[Connection], str],
    ) -> None:
        """Args: wrote: called after each commit that changed documents; position: where the change feed stands."""
        self._database = database
        self._replica = replica
        self._collections = collections
        self._clock = clock
        self._entropy = entropy
        self._wrote = wrote
        self._position = position
        self._deletes = MassDeletes()

    # ---- reading --------------------------------------------------------------------------------------------------
    async def get(self, _principal: Principal, command: GetDocument) -> Document:
        """One document. Raises: NotFound; Deleted; SecretsLocked; NotModified: `known` is its version."""
        check_collection(command.collection)
        document = parse_document_id(command.id)
        found = self._database.peek(lambda c: queries.get_one(c, command.collection, document, self._replica.vault))
        if found is None:
            raise NotFound(
                f"There is no document {document!r} in {command.collection}; 'hybridgw data list {command.collection}' "
                "shows what there is."
            )
        if found.cl % 2 == 0:
            raise Deleted("The document is deleted.", version=found.seq)
        if command.known == found.seq:
            raise NotModified(found.seq)
        return shown(command.collection, found.id, found.seq, found.cl, found.body, found.conflicts)

    async def find(self, _principal: Principal, command: ListDocuments) -> DocumentPage:
        """One page. Raises: BadValue: filter, sort or cursor; SecretsLocked."""
        check_collection(command.collection)
        query = queries.Query(
            queries.parse_filter(command.filter), queries.parse_sort(command.sort), command.limit, None, command.deleted
        )
        if command.cursor is not None:
            query = query._replace(after=queries.decode_cursor(query, command.collection, command.cursor))
        if not query.conditions and not query.sort and query.limit <= INLINE_ITEMS:
            return self._database.peek(lambda c: self._page(c, command.collection, query))
        return await self._database.read(lambda c: self._page(c, command.collection, query))

    def _page(self, connection: Connection, name: str, query: queries.Query) -> DocumentPage:
        connection.execute("BEGIN")  # one snapshot for the page and the place of the feed it belongs to
        try:
            since = self._position(connection)
            where = rows.collection(connection, name)
            found, after = queries.find(connection, where, query, self._replica.vault) if where else ([], None)
        finally:
            connection.execute("COMMIT")
        return DocumentPage(
            items=[shown(name, f.id, f.seq, f.cl, f.body, f.conflicts) for f in found],
            since=since,
            next_cursor=queries.encode_cursor(query, name, after) if after else None,
        )

    # ---- writing --------------------------------------------------------------------------------------------------
    async def create(self, _principal: Principal, command: CreateDocument) -> Document:
        """Make a document. Raises: AlreadyExists; InvalidDocument; BadValue; TooBig; ReadOnly."""
        return await self._one(Write("create", command.collection, self._id(command.id), command.data))

    async def put(self, _principal: Principal, command: PutDocument) -> Document:
        """Make a document be this: replaced, made, or restored. Raises: PreconditionFailed, and as `create`."""
        return await self._one(
            Write("put", command.collection, self._id(command.id), command.data, command.version, command.exists)
        )

    async def patch(self, _principal: Principal, command: PatchDocument) -> Document:
        """Change some fields. Raises: NotFound; Deleted; PreconditionFailed, and as `create`."""
        return await self._one(Write("patch", command.collection, self._id(command.id), command.patch, command.version))

    async def restore(self, _principal: Principal, command: RestoreDocument) -> Document:
        """Bring a deleted document back. Raises: NotFound; AlreadyExists: it is not deleted; as `create`."""
        return await self._one(
            Write("restore", command.collection, self._id(command.id), command.data, command.version)
        )

    async def delete(self, principal: Principal, command: DeleteDocument) -> Document:
        """End a document on all devices. Raises: NotFound; Deleted; PreconditionFailed; NeedsPerson."""
        now_ms = self._clock()
        if not command.confirm:
            self._deletes.check(principal, command.collection, 1, now_ms, self._counter(command.collection))
        made = await self._one(Write("delete", command.collection, self._id(command.id), {}, command.version))
        self._deletes.note(principal, command.collection, 1, now_ms)
        return made

    async def _one(self, write: Write) -> Document:
        check_collection(write.collection)
        now_ms = self._clock()

        def work(tx: Tx) -> Document:
            plan = Plan(tx, self._replica, self._collections, now_ms)
            plan.add(write)
            if plan.requests:
                self._replica.write(tx, plan.requests, now_ms)
            return self._after(tx, write.collection, write.id)

        made = await self._database.write(work)
        self._wrote()
        return made

    def _after(self, tx: Tx, collection: str, document: DocumentId) -> Document:
        row = self._replica.current(tx, collection, document)
        if row is None:
            raise Deleted("The document is older than the floor of its collection: it is gone for good.")
        version = self._replica.version(tx, collection, document)
        return shown(collection, document, version, row[0], row[1], row[3])

    def _id(self, text: str | None) -> DocumentId:
        if text is None:
            return new_uuid7(self._clock(), self._entropy(10))
        return parse_document_id(text)

    def _counter(self, collection: str) -> Callable[[int], int]:
        def count(most: int) -> int:
            def look(connection: Connection) -> int:
                where = rows.collection(connection, collection)
                return queries.count_at_most(connection, where.cid, most) if where else 0

            return self._database.peek(look)

        return count

    # ---- several at once ------------------------------------------------------------------------------------------
    async def batch(self, principal: Principal, command: WriteBatch) -> BatchResult:
        """Several writes, atomic or split. An error names the `index` of its write, and how many were `written` before.

        Raises: TooBig: more than one transaction holds, and atomic; what each write raises.
        """
        now_ms = self._clock()
        writes: list[Write] = []
        for index, operation in enumerate(command.operations):
            writes.append(self._write_of(index, operation))
            if index % YIELD_AFTER == YIELD_AFTER - 1:
                await asyncio.sleep(0)
        deletes: dict[str, int] = {}
        for write in writes:
            if write.op == "delete":
                deletes[write.collection] = deletes.get(write.collection, 0) + 1
        if not command.confirm:
            for collection, count in deletes.items():
                self._deletes.check(principal, collection, count, now_ms, self._counter(collection))
        items: list[Change] = []
        transactions = 0
        try:
            for part in [writes] if command.atomic else _split(writes, command.operations):
                done, used = await self._part(part, len(items), may_split=not command.atomic)
                items += done
                transactions += used
        finally:
            if items:
                self._wrote()
        for collection, count in deletes.items():
            self._deletes.note(principal, collection, count, now_ms)
        return BatchResult(items=items, transactions=transactions)

    async def _part(self, part: list[Write], written: int, *, may_split: bool) -> tuple[list[Change], int]:
        """One transaction; halved when it proves too big and may be split."""
        now_ms = self._clock()

        def work(tx: Tx) -> list[Change]:
            plan = Plan(tx, self._replica, self._collections, now_ms)
            for index, write in enumerate(part, written):
                try:
                    plan.add(write)
                except HybridGWError as error:
                    error.detail |= {"index": index, "written": written}
                    raise
            if plan.requests:
                self._replica.write(tx, plan.requests, now_ms)
            return [self._change(tx, write) for write in part]

        try:
            return await self._database.write(work), 1
        except TooBig as error:
            if not may_split or len(part) == 1:
                error.detail |= {"written": written}
                raise
        middle = len(part) // 2
        first, used = await self._part(part[:middle], written, may_split=True)
        second, more = await self._part(part[middle:], written + middle, may_split=True)
        return first + second, used + more

    def _change(self, tx: Tx, write: Write) -> Change:
        row = self._replica.current(tx, write.collection, write.id)
        return Change(
            id=format_document_id(write.id),
            collection=write.collection,
            version=self._replica.version(tx, write.collection, write.id),
            deleted=UNSET if row and row[0] % 2 else True,
        )

    def _write_of(self, index: int, operation: BatchOperation) -> Write:
        try:
            check_collection(operation.collection)
            content = operation.patch if operation.op == "patch" else operation.data
            if operation.op == "delete":
                content = {}
            elif content is None:
                name = "patch" if operation.op == "patch" else "data"
                raise BadValue(f"A {operation.op} needs `{name}`.")
            if operation.id is None and operation.op != "create":
                raise BadValue(f"A {operation.op} needs the `id` of a document.")
            return Write(operation.op, operation.collection, self._id(operation.id), content, operation.version)
        except HybridGWError as error:
            error.detail |= {"index": index, "written": 0}
            raise


def _split(writes: list[Write], operations: Sequence[BatchOperation]) -> list[list[Write]]:
    """Parts that are likely to fit one transaction each, in order."""
    parts: list[list[Write]] = []
    size = 0
    for write in writes:
        more = len(encode_shown(write.data)) + 100
        if not parts or len(parts[-1]) >= SPLIT_OPERATIONS or size + more > SPLIT_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(write)
        size += more
    return parts


def shown(collection: str, document: DocumentId, version: int, cl: int, body: bytes | None, conflicts: int) -> Document:
    """A document as callers see it: without the fields that are null."""
    return Document(
        id=format_document_id(document),
        collection=collection,
        version=version,
        conflicts=conflicts,
        data=UNSET if body is None else without_nulls(body),
        deleted=UNSET if cl % 2 else True,
    )


def without_nulls(body: bytes) -> Raw:
    """The JSON of a body without its null fields (nested ones stay: they are part of a value)."""
    if b"null" not in body:
        return Raw(body)
    data = decode_shown(body)
    if None not in data.values():
        return Raw(body)
    return Raw(encode_shown({name: value for name, value in data.items() if value is not None}))
