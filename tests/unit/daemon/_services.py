"""Document services over a real SQLite file and the real replica, with a clock that stands still until told."""

from __future__ import annotations

import functools
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hybridgw_daemon.core import merge
from hybridgw_daemon.core.operations import Create, Delete, Edit, coalesce
from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.services.collections import CollectionService
from hybridgw_daemon.services.conflicts import ConflictService
from hybridgw_daemon.services.documents import DocumentService
from hybridgw_daemon.services.events import EventHub, prepare
from hybridgw_daemon.services.ports import Principal
from hybridgw_daemon.services.replica import Replica
from hybridgw_daemon.services.space import RestVault
from hybridgw_daemon.stores.oplog import LogRow
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol import localapi as api
from hybridgw_protocol.batch import Head
from hybridgw_protocol.ids import DeviceId, LogId, parse_document_id
from hybridgw_storage.database import InlineDatabase
from hybridgw_storage.migrations import prepare_file

OWNER = Principal("owner", is_owner=True)
OTHER_LOG = LogId(77)
NOW_MS = 1_800_000_000_000  # 2027-01-15T08:00:00Z


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        prepare_file(Path(folder) / "a.db", MIGRATIONS, stamp="x")
        return (Path(folder) / "a.db").read_bytes()


def new_database(path: Path) -> None:
    """A file with all tables, unless there is one: made by the migrations once, copied for every test."""
    if not path.exists():
        path.write_bytes(_template())


class House:
    """Everything between the command table and the file, without a loop of its own."""

    def __init__(self, folder: Path, *, locked: bool = False) -> None:
        new_database(folder / "a.db")
        self.database = InlineDatabase(folder / "a.db", durable=False)
        self.replica = Replica()
        if not locked:
            self.unlock()
        self.now_ms = NOW_MS
        self.writes = 0
        self._entropy = itertools.count()
        clock = lambda: self.now_ms  # noqa: E731
        self.hub = EventHub(
            self.database, lambda: self.replica.vault, self.database.write_now(lambda tx: prepare(tx, os.urandom))
        )
        self.collections = CollectionService(self.database, self.replica, clock=clock, wrote=self._wrote)
        self.documents = DocumentService(
            self.database, self.replica, self.collections, clock=clock, entropy=self._random, wrote=self._wrote,
            position=self.hub.position,
        )  # fmt: skip
        self.conflicts = ConflictService(self.database, self.replica, clock=clock, wrote=self._wrote)

    def unlock(self) -> None:
        self.replica.vault = RestVault(RestSealer(bytes(range(32))), os.urandom)

    def _wrote(self) -> None:
        self.writes += 1
        self.hub.wake()

    def _random(self, size: int) -> bytes:
        return next(self._entropy).to_bytes(size, "big")

    # ---- short forms -------------------------------------------------------------------------------------------------
    async def create(self, collection: str, data: dict[str, Any], id: str | None = None) -> api.Document:
        return await self.documents.create(OWNER, api.CreateDocument(collection=collection, data=data, id=id))

    async def put(self, collection: str, id: str, data: dict[str, Any], **more: Any) -> api.Document:
        return await self.documents.put(OWNER, api.PutDocument(collection=collection, id=id, data=data, **more))

    async def patch(self, collection: str, id: str, patch: dict[str, Any], **more: Any) -> api.Document:
        return await self.documents.patch(OWNER, api.PatchDocument(collection=collection, id=id, patch=patch, **more))

    async def delete(self, collection: str, id: str, **more: Any) -> api.Document:
        return await self.documents.delete(OWNER, api.DeleteDocument(collection=collection, id=id, **more))

    async def get(self, collection: str, id: str) -> dict[str, Any]:
        return data_of(await self.documents.get(OWNER, api.GetDocument(collection=collection, id=id)))

    async def batch(self, *operations: dict[str, Any], **more: Any) -> api.BatchResult:
        command = api.build(api.WriteBatch, {"operations": list(operations), **more})
        assert isinstance(command, api.WriteBatch)
        return await self.documents.batch(OWNER, command)

    async def define(self, name: str, schema: dict[str, Any] | None, **more: Any) -> api.Collection:
        return await self.collections.define(OWNER, api.DefineCollection(name=name, schema=schema, **more))

    def apply_unseen(self, collection: str, id: str, kind: str, **fields: Any) -> None:
        """An operation of another device that had seen nothing of ours."""
        document = parse_document_id(id)
        request = {"create": Create, "edit": Edit, "delete": Delete}[kind](collection, document, **fields)

        def write(tx: Any) -> None:
            state = self.replica._state(tx)
            cache = self.replica._documents(tx, state)
            place = cache.collection(collection)
            row = cache.get(place, document)
            (operation,) = coalesce(
                [request], first_stamp=(self.now_ms + 1) << 16, floor_ms=lambda _name: 0,
                generation=lambda _name, _id: 0 if kind == "create" else 1,
            )  # fmt: skip
            before = state.logs.get(OTHER_LOG)
            n = before.applied.n + 1 if before else 1
            head = Head(n, bytes(32))
            state.logs[OTHER_LOG] = LogRow(OTHER_LOG, DeviceId(bytes(range(16))), b"", head, head)
            state.dirty_logs.add(OTHER_LOG)
            state.seq += 1
            state.stamp = max(state.stamp, operation.stamp)
            cache.put(place, document, merge.apply(row, operation, (operation.stamp, OTHER_LOG, n), {}), state.seq)
            self.replica._touch(tx, state)

        self.database.write_now(write)


def data_of(document: api.Document) -> dict[str, Any]:
    """The content of an answer."""
    found = json.loads(api.encode(document))["data"]
    assert isinstance(found, dict)
    return found
