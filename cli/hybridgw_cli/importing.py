"""Documents of a file into the daemon: in batches, each all or nothing, and only what is not there already.

New documents are created. Documents that are there get the fields that the file names, where they differ; their other
fields stay. Documents that a person has deleted since stay deleted. So the same file a second time changes nothing.
A line that the daemon refuses is named and left out; the others of its batch go on without it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hybridgw_protocol.errors import (
    AlreadyExists,
    BadValue,
    Busy,
    Deleted,
    InvalidDocument,
    NotFound,
    RateLimited,
    TooBig,
)
from hybridgw_protocol.ids import check_collection

from .formats.record import BadLine, Item, LeftOut, Record

if TYPE_CHECKING:
    from hybridgw_client import Client

Json = dict[str, Any]

BATCH_DOCUMENTS: Final = 500
BATCH_BYTES: Final = 96 * 1024  # of JSON: half of what one transaction may hold, which is counted in another encoding
KEPT_BAD: Final = 1_000  # bad lines kept for the summary; all are counted
BUSY_TRIES: Final = 6
_LINE_FAULTS: Final = (BadValue, TooBig, InvalidDocument, NotFound, Deleted)  # all else stops the import


@dataclass
class Summary:
    """What an import did, or would do. bad: the first of them; left_out: how many, by reason."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    bad: list[BadLine] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    collections: Counter[str] = field(default_factory=Counter)  # documents read, by collection

    @property
    def taken(self) -> int:
        """Documents of the file that are here now, whether they were before or not."""
        return self.created + self.changed + self.unchanged

    def add_bad(self, line: int, why: str) -> None:
        """One more line that could not be taken."""
        self.refused += 1
        if len(self.bad) < KEPT_BAD:
            self.bad.append(BadLine(line, why))

    def to_json(self) -> Json:
        """As `import --json` prints it."""
        return {
            "created": self.created,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "bad_lines": self.refused,
            "left_out": dict(self.left_out),
            "collections": dict(self.collections),
            "errors": [{"line": bad.line, "message": bad.why} for bad in self.bad],
        }


@dataclass(slots=True)
class _Known:
    """What is in one collection: a version per living document, and the deleted ones."""

    versions: dict[str, int]
    deleted: set[str]


class Importer:
    """One import. Args: told: called with each bad line as it is met; dry_run: look only, write nothing."""

    def __init__(
        self, client: Client, *, dry_run: bool = False, told: Callable[[BadLine], None] = lambda _bad: None
    ) -> None:
        self.summary = Summary()
        self._client = client
        self._dry_run = dry_run
        self._told = told
        self._known: dict[str, _Known] = {}
        self._mine: dict[tuple[str, str], int] = {}  # document -> the line that named it first

    def run(self, items: Iterable[Item]) -> Iterator[Summary]:
        """Import all; yields the summary after each batch, for progress.

        Raises: HybridGWError kinds that are not a line's fault: not running, locked, disk full.
        """
        batch: list[Record] = []
        size = 0
        for item in items:
            match item:
                case BadLine(line, why):
                    self._bad(line, why)
                case LeftOut(_, why):
                    self.summary.left_out[why] += 1
                case Record():
                    if not self._accept(item):
                        continue
                    more = len(json.dumps(item.fields)) + len(item.id) + 64
                    if batch and (len(batch) == BATCH_DOCUMENTS or size + more > BATCH_BYTES):
                        self._write(batch)
                        yield self.summary
                        batch, size = [], 0
                    batch.append(item)
                    size += more
        if batch:
            self._write(batch)
        yield self.summary

    def _accept(self, record: Record) -> bool:
        try:
            if not record.collection:
                raise BadValue("names no collection, and none was given: --collection NAME")
            check_collection(record.collection)
        except BadValue as error:
            self._bad(record.line, error.message)
            return False
        first = self._mine.setdefault((record.collection, record.id), record.line)
        if first != record.line:
            self._bad(record.line, f"has the same id as line {first}")
            return False
        if record.id in self._of(record.collection).deleted:
            self.summary.left_out["documents deleted here since"] += 1
            return False
        self.summary.collections[record.collection] += 1
        return True

    def _of(self, collection: str) -> _Known:
        known = self._known.get(collection)
        if known is None:
            known = self._known[collection] = _Known({}, set())
            for document in self._client.documents(collection, deleted=True):
                if document.get("deleted"):
                    known.deleted.add(document["id"])
                else:
                    known.versions[document["id"]] = document["version"]
        return known

    def _bad(self, line: int, why: str) -> None:
        self.summary.add_bad(line, why)
        self._told(BadLine(line, why))

    # ---- writing ---------------------------------------------------------------------------------------------------
    def _write(self, batch: list[Record]) -> None:
        """One transaction; without the lines that are refused, in halves until they are found."""
        if not batch:
            return
        if self._dry_run:
            self._count_dry(batch)
            return
        try:
            result = self._send([self._operation(record) for record in batch])
        except AlreadyExists:
            for collection in {record.collection for record in batch}:
                self._known.pop(collection, None)  # somebody else writes too: look again
            self._write(batch)
        except _LINE_FAULTS as error:
            index = error.detail.get("index", 0 if len(batch) == 1 else None)
            if isinstance(index, int) and 0 <= index < len(batch):
                self._bad(batch[index].line, error.message)
                self._write(batch[:index] + batch[index + 1 :])
            else:
                self._write(batch[: len(batch) // 2])
                self._write(batch[len(batch) // 2 :])
        else:
            self._count(batch, result["items"])

    def _send(self, operations: list[Json]) -> Json:
        """One request, again when the daemon is busy. Raises: as the daemon."""
        for tries in range(1, BUSY_TRIES + 1):
            try:
                return self._client.write(operations)
            except (Busy, RateLimited):
                if tries == BUSY_TRIES:
                    raise
                time.sleep(0.1 * 2**tries)
        raise AssertionError

    def _operation(self, record: Record) -> Json:
        place = {"collection": record.collection, "id": record.id}
        if record.id not in self._of(record.collection).versions:
            return {"op": "create", **place, "data": record.fields}
        fields = record.fields
        if any(isinstance(value, dict) for value in fields.values()):
            fields = self._whole_values(record)
        return {"op": "patch", **place, "patch": fields}

    def _whole_values(self, record: Record) -> Json:
        """A patch merges maps; a file's map replaces the one that is there, so what went from it is named."""
        try:
            before: Json = self._client.document(record.collection, record.id).get("data") or {}
        except (NotFound, Deleted):
            return record.fields
        return {name: _replacing(before.get(name), value) for name, value in record.fields.items()}

    def _count(self, batch: list[Record], changes: list[Json]) -> None:
        for record, change in zip(batch, changes, strict=True):
            versions = self._of(record.collection).versions
            before = versions.get(record.id)
            versions[record.id] = change["version"]
            if before is None:
                self.summary.created += 1
            elif before == change["version"]:
                self.summary.unchanged += 1
            else:
                self.summary.changed += 1

    def _count_dry(self, batch: list[Record]) -> None:
        for record in batch:
            if record.id not in self._of(record.collection).versions:
                self.summary.created += 1
                continue
            before: Json = self._client.document(record.collection, record.id).get("data") or {}
            if all(_same(before.get(name), value) for name, value in record.fields.items()):
                self.summary.unchanged += 1
            else:
                self.summary.changed += 1


def _replacing(before: Any, after: Any) -> Any:
    """A merge patch (RFC 7396) that turns *before* into *after*."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    gone = {name: None for name in before if name not in after}
    return gone | {name: _replacing(before.get(name), value) for name, value in after.items()}


def _same(before: Any, after: Any) -> bool:
    """Equal as a document holds it: sets come back in another order."""
    if isinstance(before, list) and isinstance(after, list) and before != after:
        return sorted(map(repr, before)) == sorted(map(repr, after))
    return bool(before == after)
