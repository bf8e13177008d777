"""Collections: their descriptors, the rules that local writes are checked against, and defining new ones.

The descriptor of `recipes` is the document `recipes` of the collection `hgw.collections`: it merges and syncs like any
other. The built-in collections have descriptors in the code; a document may add fields to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hybridgw_protocol.errors import BadValue, HybridGWError, NotFound, ReadOnly
from hybridgw_protocol.ids import check_collection
from hybridgw_protocol.localapi import Collection, CollectionList, DefineCollection, GetCollection, ListCollections
from hybridgw_storage.database import Database, Tx

from ..core.document_state import decode_shown
from ..core.operations import Create, Edit, Request
from ..stores import documents, queries
from .builtin import BUILTIN, Builtin
from .ports import DocumentReplica, Principal
from .replica import SECRET_COLLECTIONS
from .schemas import Rule, compile_schema, defaults, set_fields

DESCRIPTORS: Final = "hgw.collections"
RESERVED: Final = "hgw."
READER: Final = 1  # version of the schema rules that this program knows
_ANYTHING: Final = Rule()
_CACHED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for writes to one collection. sets: its set fields; read_only: why nothing may be written."""

    rule: Rule
    sets: frozenset[str]
    defaults: Mapping[str, Any]
    builtin: Builtin | None = None
    read_only: str | None = None


_FREE: Final = Rules(_ANYTHING, frozenset(), {})


class _Descriptor(msgspec.Struct):
    """What a descriptor document may say; other fields are kept for later versions."""

    schema: dict[str, Any] | None = None
    title: str | None = None
    min_reader: int = 1


class CollectionService:
    """Lists and defines collections, and gives the rules to whoever writes."""

    def __init__(
        self, database: Database, replica: DocumentReplica, *, clock: Callable[[], int], wrote: Callable[[], None]
    ) -> None:
        self._database = database
        self._replica = replica
        self._clock = clock
        self._wrote = wrote
        self._rules: dict[tuple[str, bytes | None], Rules] = {}

    # ---- rules ----------------------------------------------------------------------------------------------------
    def rules(self, tx: Tx, name: str) -> Rules:
        """What holds for writes to a collection now. Called inside the write, so a new schema counts at once."""
        row = self._replica.current(tx, DESCRIPTORS, name)
        body = row[1] if row else None
        found = self._rules.get((name, body))
        if found is None:
            if len(self._rules) >= _CACHED:
                self._rules.clear()
            found = self._rules[name, body] = _rules_of(name, body)
        return found

    # ---- asked for by callers -------------------------------------------------------------------------------------
    async def list(self, principal: Principal, _command: ListCollections) -> CollectionList:
        """Every collection that has a document or a descriptor, and the built-in ones; of these what may be read."""
        found = await self._database.read(self._list)
        readable = principal.readable()
        if readable is not None:
            found.items = [item for item in found.items if item.name in readable]
        return found

    def _list(self, connection: Any) -> CollectionList:
        counts = queries.counts(connection)
        described = {found.id: found.body for found in _descriptors(connection)}
        names = sorted({*counts, *BUILTIN, *(str(name) for name in described)})
        return CollectionList(items=[_shown(name, counts.get(name, (0, 0)), described.get(name)) for name in names])

    async def get(self, _principal: Principal, command: GetCollection) -> Collection:
        """One collection. Raises: NotFound: it has no document and no descriptor."""
        check_collection(command.name)
        listed = await self._database.read(self._list)
        for item in listed.items:
            if item.name == command.name:
                return item
        raise NotFound(
            f"There is no collection {command.name}; writing a document into it makes it. 'hybridgw data list' lists "
            "what there is."
        )

    async def define(self, principal: Principal, command: DefineCollection) -> Collection:
        """Write the descriptor of a collection.

        Raises: BadValue: a schema that is not supported, or that turns a register into a set or back; ReadOnly.
        """
        name = command.name
        check_collection(name)
        if name.startswith(RESERVED):
            raise ReadOnly(f"Collections whose names start with {RESERVED} belong to HybridGW.")
        if command.min_reader > READER:
            raise BadValue(f"min_reader: this version knows the schema rules up to {READER}.")
        rule = compile_schema(command.schema or {})
        if name in BUILTIN:
            own = BUILTIN[name].schema["properties"]
            both = sorted(own.keys() & rule.properties.keys())
            if both:
                raise BadValue(f"schema: {', '.join(both)}: the built-in collection defines it; only add fields.")
        await self._check_kinds(name, rule)
        now_ms = self._clock()
        puts = {"schema": command.schema, "title": command.title, "min_reader": command.min_reader}

        def write(tx: Tx) -> None:
            row = self._replica.current(tx, DESCRIPTORS, name)
            shown = decode_shown(row[1]) if row and row[1] is not None else {}
            changed = {field: value for field, value in puts.items() if shown.get(field) != value}
            request: Request
            if row is None or row[0] % 2 == 0:
                request = Create(DESCRIPTORS, name, {k: v for k, v in puts.items() if v is not None})
            elif changed:
                request = Edit(DESCRIPTORS, name, changed)
            else:
                return
            self._replica.write(tx, [request], now_ms)

        await self._database.write(write)
        self._wrote()
        return await self.get(principal, GetCollection(name=name))

    async def _check_kinds(self, name: str, rule: Rule) -> None:
        """A field that is in use stays what it is: a register or a set. The first documents show what is in use."""

        def look(connection: Any) -> str | None:
            where = documents.collection(connection, name)
            if where is None or where.secret:
                return None
            descriptor = queries.get_one(connection, DESCRIPTORS, name, None)
            before = _rules_of(name, descriptor.body if descriptor else None)
            for field in sorted(before.sets ^ set_fields(rule)):
                if name in BUILTIN and field in BUILTIN[name].schema["properties"]:
                    continue
                if '"' in field or "\\" in field:
                    continue
                used, _ = queries.find(
                    connection, where, queries.Query(queries.parse_filter({field: {"$exists": True}}), limit=1), None
                )
                if used:
                    return field
            return None

        if field := await self._database.read(look):
            raise BadValue(
                f"schema: documents of {name} have the field {field} already; whether it is a set cannot change. "
                "Use another name for the new field.",
                field=field,
            )


def _descriptors(connection: Any) -> list[queries.Found]:
    where = documents.collection(connection, DESCRIPTORS)
    return queries.find(connection, where, queries.Query(limit=10_000), None)[0] if where else []


def _parse(body: bytes | None) -> tuple[_Descriptor, str | None]:
    """A descriptor, and why it cannot be followed if it cannot."""
    if body is None:
        return _Descriptor(), None
    try:
        found = msgspec.convert({k: v for k, v in decode_shown(body).items() if v is not None}, _Descriptor)
    except msgspec.ValidationError:
        return _Descriptor(), "its descriptor was written by a version that this one does not understand"
    if found.min_reader > READER:
        return found, f"its schema asks for version {found.min_reader} of the rules; update this program"
    return found, None


def _rules_of(name: str, body: bytes | None) -> Rules:
    builtin = BUILTIN.get(name)
    descriptor, why = _parse(body)
    if builtin is None and body is None:
        return _FREE
    schema = descriptor.schema or {}
    if builtin is not None:
        added = schema.get("properties")
        known = builtin.schema["properties"]
        fields = {**added, **known} if isinstance(added, dict) else known
        required = [*builtin.schema["required"], *(n for n in schema.get("required") or () if n not in known)]
        schema = {**builtin.schema, "properties": fields, "required": required}
    try:
        rule = compile_schema(schema)
    except HybridGWError:
        rule, why = _ANYTHING, why or "its schema uses rules that this version does not know; update this program"
    return Rules(rule, set_fields(rule), defaults(rule), builtin, why)


def _shown(name: str, counts: tuple[int, int], body: bytes | None) -> Collection:
    builtin = BUILTIN.get(name)
    descriptor, _ = _parse(body)
    rules = _rules_of(name, body)
    own = dict(builtin.schema) if builtin else None
    schema = descriptor.schema
    if own is not None and schema and isinstance(schema.get("properties"), dict):
        own["properties"] = {**schema["properties"], **own["properties"]}
    return Collection(
        name=name,
        documents=counts[0],
        conflicts=counts[1],
        builtin=builtin is not None or name.startswith(RESERVED),
        secret=name in SECRET_COLLECTIONS,
        read_only=rules.read_only is not None or name.startswith(RESERVED),
        title=descriptor.title or (builtin.title if builtin else None),
        schema=own or schema,
        min_reader=descriptor.min_reader,
    )


def check_writable(name: str, rules: Rules) -> None:
    """Raise ReadOnly if documents of the collection may not be written by local programs."""
    if name.startswith(RESERVED):
        raise ReadOnly(
            f"The collection {name} belongs to HybridGW; use the calls made for it (PUT /api/collections/NAME)."
        )
    if rules.read_only:
        raise ReadOnly(f"The collection {name} can only be read: {rules.read_only}.")
