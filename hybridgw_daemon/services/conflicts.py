"""The conflict inbox for local callers. Resolving is an ordinary write, by somebody who has seen what it replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from hybridgw_protocol.codec import Value, canonical, encode_canonical
from hybridgw_protocol.errors import BadValue, NotFound, PreconditionFailed
from hybridgw_protocol.ids import DocumentId, LogId, blake2b, check_collection, format_document_id, parse_document_id
from hybridgw_protocol.localapi import (
    Alternative,
    Choice,
    Conflict,
    ConflictPage,
    Document,
    FieldConflict,
    GetConflict,
    ListConflicts,
    ResolveConflict,
)
from hybridgw_storage.database import Connection, Database, Tx

from ..core.conflicts import Conflict as Entry
from ..core.conflicts import conflicts
from ..core.document_state import Row
from ..core.hlc import stamp_ms
from ..core.operations import Create, Delete, Edit, Request
from ..stores import documents as rows
from ..stores import oplog, queries
from .documents import shown, without_nulls
from .ports import DocumentReplica, Principal

_PAGE = 200


class ConflictService:
    """What `/api/conflicts` does."""

    def __init__(
        self, database: Database, replica: DocumentReplica, *, clock: Callable[[], int], wrote: Callable[[], None]
    ) -> None:
        self._database = database
        self._replica = replica
        self._clock = clock
        self._wrote = wrote

    async def find(self, principal: Principal, command: ListConflicts) -> ConflictPage:
        """Documents with open conflicts that may be read. Those of a locked collection are counted and not shown."""
        if command.collection is not None:
            check_collection(command.collection)
        return await self._database.read(lambda c: self._page(c, command, principal.readable()))

    def _page(self, connection: Connection, command: ListConflicts, readable: frozenset[str] | None) -> ConflictPage:
        after = _parse_cursor(command.cursor)
        devices = _devices(connection)
        places = {place.name: place for place in rows.collections(connection)}
        found: list[Conflict] = []
        if readable is None:
            total = rows.count_conflicts(connection)
        else:
            total = sum(queries.count_conflicts_of(connection, name) for name in readable)
        while len(found) < command.limit:
            part = rows.conflict_rows(connection, after, _PAGE)
            for rid, name, *row in part:
                if len(found) == command.limit:
                    return ConflictPage(items=found, total=total, next_cursor=str(after))
                after = rid
                where = places[name]
                locked = where.secret and self._replica.vault is None
                if locked or (command.collection is not None and name != command.collection):
                    continue
                if readable is not None and name not in readable:
                    continue
                stored = rows.read_row(where, row, self._replica.vault)
                found.append(_described(name, stored.id, stored.seq, stored.row, devices))
            if len(part) < _PAGE:
                return ConflictPage(items=found, total=total)
        return ConflictPage(items=found, total=total, next_cursor=str(after))

    async def count(self, collection: str) -> int:
        """Documents of one collection with open conflicts. Raises: BadValue: no name of a collection."""
        check_collection(collection)
        return self._database.peek(lambda c: queries.count_conflicts_of(c, collection))

    async def get(self, _principal: Principal, command: GetConflict) -> Conflict:
        """The conflicts of one document. Raises: NotFound: no document, or nothing open; SecretsLocked."""
        check_collection(command.collection)
        document = parse_document_id(command.id)
        return await self._database.read(lambda c: self._one(c, command.collection, document))

    def _one(self, connection: Connection, name: str, document: DocumentId) -> Conflict:
        where = rows.collection(connection, name)
        stored = rows.get(connection, where, document, self._replica.vault) if where else None
        if stored is None or not stored.row[3]:
            raise NotFound("The document has no open conflict; 'hybridgw conflicts' lists those that have.")
        return _described(name, stored.id, stored.seq, stored.row, _devices(connection))

    async def resolve(self, _principal: Principal, command: ResolveConflict) -> Document:
        """Settle conflicts of one document; the choice reaches every device.

        Raises: NotFound: nothing open; PreconditionFailed: the document changed since the person looked; BadValue.
        """
        check_collection(command.collection)
        document = parse_document_id(command.id)
        now_ms = self._clock()

        def work(tx: Tx) -> Document:
            row = self._replica.current(tx, command.collection, document)
            if row is None or not row[3]:
                raise NotFound("The document has no open conflict; 'hybridgw conflicts' lists those that have.")
            version = self._replica.version(tx, command.collection, document)
            if version != command.version:
                raise PreconditionFailed(
                    "The document changed since its conflicts were read: look again, then choose.", version=version
                )
            self._replica.write(tx, [_request(command, document, row)], now_ms)
            row = self._replica.current(tx, command.collection, document) or row
            version = self._replica.version(tx, command.collection, document)
            return shown(command.collection, document, version, row[0], row[1], row[3])

        made = await self._database.write(work)
        self._wrote()
        return made


# ---- showing -----------------------------------------------------------------------------------------------------
def key_of(entry: Entry) -> str:
    """Names an alternative of a document, the same on every device."""
    raw = encode_canonical([entry.field, entry.kind, entry.cl, entry.stamp, entry.log, entry.n, entry.value])
    return blake2b(raw, 6, "hgw-conflict").hex()


def _devices(connection: Connection) -> Mapping[LogId, str]:
    return {log: row.device.hex() for log, row in oplog.logs(connection).items() if row.device != bytes(16)}


def _described(name: str, document: DocumentId, version: int, row: Row, devices: Mapping[LogId, str]) -> Conflict:
    fields: dict[tuple[str, str, bool], FieldConflict] = {}
    for entry in conflicts(row):
        key = (entry.field, entry.kind, entry.buried)
        field = fields.get(key)
        if field is None:
            shown_value = UNSET if entry.winner is None else entry.winner
            field = fields[key] = FieldConflict(
                field=entry.field, kind=entry.kind, others=[], shown=shown_value, buried=entry.buried
            )
        field.others.append(
            Alternative(
                key=key_of(entry),
                value=entry.value,
                at_ms=stamp_ms(entry.stamp),
                device=devices.get(LogId(entry.log)),
            )
        )
    return Conflict(
        collection=name,
        id=format_document_id(document),
        version=version,
        count=row[3],
        fields=list(fields.values()),
        data=UNSET if row[1] is None else without_nulls(row[1]),
        deleted=row[0] % 2 == 0,
    )


def _parse_cursor(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadValue("The cursor is damaged; begin again without it.")
    return int(text)


# ---- settling ----------------------------------------------------------------------------------------------------
def _request(command: ResolveConflict, document: DocumentId, row: Row) -> Request:
    """One write that settles what was chosen."""
    by_field: dict[str, list[Entry]] = {}
    for entry in conflicts(row):
        by_field.setdefault(entry.field, []).append(entry)
    unknown = sorted(command.choices.keys() - by_field.keys())
    if unknown:
        raise BadValue(f"There is no open conflict in {', '.join(unknown)}.", field=unknown[0])
    chosen = {
        field: command.choices.get(field) or (Choice(keep=command.keep) if command.keep else None) for field in by_field
    }
    settled = {field: choice for field, choice in chosen.items() if choice is not None}
    if not settled:
        raise BadValue("Say what to keep: `keep` for all fields, or `choices` by field.")
    puts: dict[str, Value] = {}
    adds: dict[str, list[Value]] = {}
    removes: dict[str, list[Value]] = {}
    for field, choice in settled.items():
        values = [entry for entry in by_field[field] if entry.kind == "value"]
        elements = [entry for entry in by_field[field] if entry.kind == "element"]
        if values:  # elements of the same field, if any, are settled by the next call: one write does not do both
            puts[field] = _value(field, choice, values)
            continue
        taken = _elements(field, choice, elements)
        adds[field] = [entry.value for entry in elements if entry in taken]
        removes[field] = [entry.value for entry in elements if entry not in taken]
    if row[0] % 2:
        return Edit(command.collection, document, puts, adds, removes)
    puts = {field: value for field, value in puts.items() if value is not None}
    adds = {field: values for field, values in adds.items() if values}
    if not puts and not adds:
        if len(settled) < len(by_field):
            raise BadValue("The document is deleted: what it held is let go of all at once. Use `keep` for all fields.")
        return Delete(command.collection, document)
    return Create(command.collection, document, puts, adds)


def _value(field: str, choice: Choice, entries: Sequence[Entry]) -> Value:
    _check_choice(field, choice, ("keep", "key", "value"))
    if choice.value is not UNSET:
        canonical(choice.value)
        return choice.value
    if choice.key is not None:
        return _by_key(field, choice.key, entries).value
    if choice.keep == "other":
        return entries[0].value
    winner: Any = entries[0].winner
    return None if winner is UNSET else winner


def _elements(field: str, choice: Choice, entries: Sequence[Entry]) -> list[Entry]:
    _check_choice(field, choice, ("keep", "key", "keys"))
    if choice.keep is not None:
        return list(entries) if choice.keep == "other" else []
    keys = choice.keys if choice.keys is not None else [choice.key or ""]
    return [_by_key(field, key, entries) for key in keys]


def _check_choice(field: str, choice: Choice, allowed: tuple[str, ...]) -> None:
    given = [name for name in ("keep", "key", "keys", "value") if getattr(choice, name) not in (None, UNSET)] or (
        [] if choice.value is UNSET else ["value"]
    )
    if len(given) != 1 or given[0] not in allowed:
        raise BadValue(f"{field}: choose with one of {', '.join(allowed)}.", field=field)


def _by_key(field: str, key: str, entries: Sequence[Entry]) -> Entry:
    for entry in entries:
        if key_of(entry) == key:
            return entry
    raise BadValue(f"{field}: no alternative has the key {key[:20]!r}.", field=field)
