"""Reading many documents: filter, sort, pages with a cursor, the change feed, counts.

A filter means the same in SQL (bodies of ordinary collections) and in Python (bodies that were sealed at rest, and
later live queries): conditions on scalars by path; text by code points, numbers by value; a missing field, and null,
compares to nothing but `null`. Sorting puts missing values, arrays and objects first, then booleans (as 0 and 1) and
numbers, then text.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from hybridgw_protocol.errors import BadValue, SecretsLocked
from hybridgw_protocol.ids import DocumentId, check_field
from hybridgw_protocol.limits import MAX_INT

from .documents import Collection, Vault, place_of

MAX_CONDITIONS: Final = 20
MAX_CHOICES: Final = 200  # of one $in
MAX_SORT: Final = 3
MAX_PATH: Final = 8
FEED_PAGE: Final = 256
_SCAN: Final = 512  # sealed rows opened per step

Scalar = str | int | float | bool | None
Operator = Literal["eq", "ne", "lt", "lte", "gt", "gte", "in", "has", "prefix", "exists"]
_OPERATORS: Final[Mapping[str, Operator]] = {
    "$eq": "eq", "$ne": "ne", "$lt": "lt", "$lte": "lte", "$gt": "gt", "$gte": "gte", "$in": "in", "$has": "has",
    "$prefix": "prefix", "$exists": "exists",
}  # fmt: skip
_ORDER: Final = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

decode_body: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Condition(NamedTuple):
    """One condition on one path into the document."""

    path: tuple[str, ...]
    operator: Operator
    operand: Any


class SortKey(NamedTuple):
    """path: into the document, or the one name `$id` or `$version`."""

    path: tuple[str, ...]
    descending: bool


class Query(NamedTuple):
    """What to read of one collection. after: the position of a cursor, values of the sort keys and then the id."""

    conditions: tuple[Condition, ...] = ()
    sort: tuple[SortKey, ...] = ()
    limit: int = 100
    after: tuple[Any, ...] | None = None
    deleted: bool = False


class Found(NamedTuple):
    """One document as read: body is JSON with null fields still in it; None when deleted or locked."""

    id: DocumentId
    seq: int
    cl: int
    body: bytes | None
    conflicts: int


class FeedRow(NamedTuple):
    """One change of the feed."""

    seq: int
    collection: str
    id: DocumentId
    cl: int
    body: bytes | None
    conflicts: int


# ---- from what a caller wrote ---------------------------------------------------------------------------------------
def parse_filter(given: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """Conditions out of `{"status": "open", "due": {"$lt": "2027"}, "owner.name": "Ada"}`; all of them must hold.

    Raises: BadValue: names the field.
    """
    found: list[Condition] = []
    for name, wanted in (given or {}).items():
        path = _path(name)
        if not isinstance(wanted, dict):
            found.append(Condition(path, "eq", _scalar(name, wanted)))
            continue
        if not wanted:
            raise BadValue(f"The condition on {name!r} is empty.")
        for symbol, operand in wanted.items():
            operator = _OPERATORS.get(symbol)
            if operator is None:
                raise BadValue(f"{symbol!r} on {name!r} is no operator; there are {', '.join(_OPERATORS)}.")
            found.append(Condition(path, operator, _operand(name, operator, operand)))
    if len(found) > MAX_CONDITIONS:
        raise BadValue(f"A filter has at most {MAX_CONDITIONS} conditions.")
    return tuple(found)


def _operand(name: str, operator: Operator, operand: Any) -> Any:
    if operator == "exists":
        if not isinstance(operand, bool):
            raise BadValue(f"$exists on {name!r} takes true or false.")
        return operand
    if operator == "in":
        if not isinstance(operand, list) or not 1 <= len(operand) <= MAX_CHOICES:
            raise BadValue(f"$in on {name!r} takes a list of 1 to {MAX_CHOICES} values.")
        return tuple(_scalar(name, item) for item in operand)
    value = _scalar(name, operand)
    if operator == "prefix" and not isinstance(value, str):
        raise BadValue(f"$prefix on {name!r} takes text.")
    if operator in _ORDER and (value is None or isinstance(value, bool)):
        raise BadValue(f"${operator} on {name!r} takes a number or text.")
    return value


def _scalar(name: str, value: Any) -> Scalar:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float) or (isinstance(value, int) and -MAX_INT <= value <= MAX_INT):
        return value
    raise BadValue(f"The condition on {name!r} compares with text, a number (integers: 53 bits), true, false or null.")


def _path(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    if len(parts) > MAX_PATH:
        raise BadValue(f"A path has at most {MAX_PATH} parts.")
    for part in parts:
        check_field(part)
        if '"' in part or "\\" in part:  # SQLite's JSON paths have no way to write them
            raise BadValue(f"A field name with a quote or a backslash ({part!r}) cannot be searched.")
    return parts


def parse_sort(given: str | None) -> tuple[SortKey, ...]:
    """Sort keys out of `-due,title`; `$version` is the last change, `$id` the id. Raises: BadValue."""
    found = []
    for text in given.split(",") if given else ():
        name = text.strip()
        descending = name.startswith("-")
        name = name.removeprefix("-")
        found.append(SortKey((name,) if name in ("$id", "$version") else _path(name), descending))
    if len(found) > MAX_SORT:
        raise BadValue(f"At most {MAX_SORT} fields to sort by.")
    if len({key.path for key in found}) < len(found):
        raise BadValue("A field to sort by is named twice.")
    return tuple(found)


# ---- cursors --------------------------------------------------------------------------------------------------------
def encode_cursor(query: Query, collection: str, last: tuple[Any, ...]) -> str:
    """Opaque text for "after this document", bound to the query it came from."""
    raw = msgspec.msgpack.encode([_digest(query, collection), *last])
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_cursor(query: Query, collection: str, text: str) -> tuple[Any, ...]:
    """Inverse of encode_cursor. Raises: BadValue: damaged, or of another query."""
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        digest, *last = msgspec.msgpack.decode(raw, type=list[Any])
    except (ValueError, msgspec.DecodeError, UnicodeError) as error:
        raise BadValue("The cursor is damaged; begin again without it.") from error
    fits = len(last) == len(query.sort) + 1 and isinstance(last[-1], str | bytes)
    fits = fits and all(isinstance(value, str | int | float | bytes | None) for value in last)
    if digest != _digest(query, collection) or not fits:
        raise BadValue("The cursor belongs to another query; begin again without it.")
    return tuple(last)


def _digest(query: Query, collection: str) -> bytes:
    raw = msgspec.msgpack.encode([collection, query.conditions, query.sort, query.deleted])
    return hashlib.blake2b(raw, digest_size=8).digest()


# ---- reading --------------------------------------------------------------------------------------------------------
def find(
    connection: sqlite3.Connection, where: Collection, query: Query, vault: Vault | None
) -> tuple[list[Found], tuple[Any, ...] | None]:
    """One page, and the position after it if there may be more. vault: for a secret collection, else not used."""
    if where.secret:
        return _find_sealed(connection, where, query, vault)
    sql, values = _select(where, query)
    rows = connection.execute(sql, values).fetchall()
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    found = [Found(r[0], r[1], r[2], None if r[3] is None else r[3].encode(), r[4]) for r in rows]
    return found, ((*rows[-1][5:], rows[-1][0]) if more else None)


def get_one(connection: sqlite3.Connection, name: str, document: DocumentId, vault: Vault | None) -> Found | None:
    """One document, deleted ones included. Raises: SecretsLocked: it is sealed and there is no vault."""
    row = connection.execute(
        "SELECT c.cid, c.secret, d.seq, d.cl, d.body, d.conflicts FROM collection c "
        "JOIN document d ON d.cid = c.cid AND d.id = ? WHERE c.name = ?",
        (document, name),
    ).fetchone()
    if row is None:
        return None
    cid, secret, seq, cl, body, conflicts = row
    if secret and vault is None:
        raise locked(name)
    return Found(document, seq, cl, open_body(Collection(cid, name, 0, bool(secret)), document, body, vault), conflicts)


def locked(name: str) -> SecretsLocked:
    """The error for a sealed collection that cannot be opened now."""
    return SecretsLocked(f"The collection {name} is sealed at rest and its key is locked; 'hybridgw doctor' helps.")


def _select(where: Collection, query: Query) -> tuple[str, list[Any]]:
    """SQL for a page; names of fields are bound values as well."""
    keys = [_sort_sql(key) for key in query.sort]
    columns = "".join(f", {sql} AS k{i}" for i, (sql, _) in enumerate(keys))
    values: list[Any] = [value for _, bound in keys for value in bound]
    parts = ["cid = ?"]
    bound: list[Any] = [where.cid]
    if not query.deleted or query.conditions:  # a deleted document has no fields to satisfy anything
        parts.append("cl % 2 = 1")
    for condition in query.conditions:
        sql, more = _condition_sql(condition)
        parts.append(sql)
        bound += more
    if query.after is not None:
        sql, more = _after_sql(query)
        parts.append(sql)
        bound += more
    order = "".join(f"k{i}{' DESC' if key.descending else ''}, " for i, key in enumerate(query.sort))
    inner = f"SELECT id, seq, cl, body, conflicts{columns} FROM document WHERE {' AND '.join(parts)}"
    if query.after is not None and query.sort:
        # The cursor compares sort keys by name, so they must exist before the WHERE that uses them.
        inside = [p for p in parts if p is not parts[-1]]
        inner = (
            f"SELECT * FROM (SELECT id, seq, cl, body, conflicts{columns} FROM document "
            f"WHERE {' AND '.join(inside)}) WHERE {parts[-1]}"
        )
    return f"{inner} ORDER BY {order}id LIMIT ?", [*values, *bound, query.limit + 1]


def _sort_sql(key: SortKey) -> tuple[str, list[Any]]:
    if key.path == ("$id",):
        return "id", []
    if key.path == ("$version",):
        return "seq", []
    path = _json_path(key.path)
    return "CASE WHEN json_type(body, ?) IN ('array', 'object') THEN NULL ELSE json_extract(body, ?) END", [path, path]


def _after_sql(query: Query) -> tuple[str, list[Any]]:
    """Rows behind a position: the first key that differs decides; NULL sorts first."""
    assert query.after is not None  # noqa: S101 - the caller looked
    choices: list[str] = []
    values: list[Any] = []
    equal, equal_values = "", list[Any]()
    for i, (key, last) in enumerate(zip(query.sort, query.after, strict=False)):
        if not key.descending:
            behind, bound = (f"k{i} IS NOT NULL", []) if last is None else (f"k{i} > ?", [last])
        else:
            behind, bound = ("0", []) if last is None else (f"(k{i} < ? OR k{i} IS NULL)", [last])
        choices.append(f"({equal}{behind})")
        values += [*equal_values, *bound]
        equal += f"k{i} IS ? AND "
        equal_values.append(last)
    choices.append(f"({equal}id > ?)")
    return f"({' OR '.join(choices)})", [*values, *equal_values, query.after[-1]]


def _json_path(path: Sequence[str]) -> str:
    return "$" + "".join(f'."{part}"' for part in path)


def _condition_sql(condition: Condition) -> tuple[str, list[Any]]:
    path, operand = _json_path(condition.path), condition.operand
    match condition.operator:
        case "eq":
            return _equal_sql(path, operand)
        case "ne":
            sql, values = _equal_sql(path, operand)
            return f"NOT coalesce({sql}, 0)", values
        case "in":
            parts = [_equal_sql(path, item) for item in operand]
            return f"({' OR '.join(sql for sql, _ in parts)})", [value for _, bound in parts for value in bound]
        case "exists":
            return f"coalesce(json_type(body, ?), 'null') {'<>' if operand else '='} 'null'", [path]
        case "prefix":
            return "(json_type(body, ?) = 'text' AND substr(json_extract(body, ?), 1, ?) = ?)", [
                path, path, len(operand), operand,
            ]  # fmt: skip
        case "has":
            kinds, value = _kinds(operand)
            equal = "" if value is None else " AND e.value = ?"
            element = f"SELECT 1 FROM json_each(body, ?) e WHERE e.type IN ({kinds}){equal}"
            bound = [path, path] if value is None else [path, path, value]
            return f"(json_type(body, ?) = 'array' AND EXISTS ({element}))", bound
        case order:
            kinds, value = _kinds(operand)
            return f"(json_type(body, ?) IN ({kinds}) AND json_extract(body, ?) {_ORDER[order]} ?)", [path, path, value]


def _equal_sql(path: str, operand: Scalar) -> tuple[str, list[Any]]:
    if operand is None:
        return "coalesce(json_type(body, ?), 'null') = 'null'", [path]
    kinds, value = _kinds(operand)
    if value is None:
        return f"json_type(body, ?) IN ({kinds})", [path]
    return f"(json_type(body, ?) IN ({kinds}) AND json_extract(body, ?) = ?)", [path, path, value]


def _kinds(operand: Scalar) -> tuple[str, Scalar]:
    """The JSON types that the operand compares with, and what to compare, None if the type says it all."""
    if operand is None:
        return "'null'", None
    if isinstance(operand, bool):
        return ("'true'" if operand else "'false'"), None
    return ("'text'" if isinstance(operand, str) else "'integer', 'real'"), operand


# ---- the same in Python ---------------------------------------------------------------------------------------------
def matches(body: Mapping[str, Any], conditions: Sequence[Condition]) -> bool:
    """Whether a living document satisfies all conditions."""
    return all(_holds(value_at(body, c.path), c) for c in conditions)


def value_at(body: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path, None if there is none."""
    value: Any = body
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _holds(value: Any, condition: Condition) -> bool:
    operand = condition.operand
    match condition.operator:
        case "eq":
            return _equals(value, operand)
        case "ne":
            return not _equals(value, operand)
        case "in":
            return any(_equals(value, item) for item in operand)
        case "exists":
            return (value is not None) is operand
        case "prefix":
            return isinstance(value, str) and value.startswith(operand)
        case "has":
            return isinstance(value, list) and any(_equals(item, operand) for item in value)
        case order:
            if isinstance(value, bool) or isinstance(value, str) is not isinstance(operand, str):
                return False
            if not isinstance(value, str | int | float):
                return False
            below, same = bool(value < operand), bool(value == operand)
            return {"lt": below, "lte": below or same, "gt": not (below or same), "gte": not below}[order]


def _equals(value: Any, operand: Scalar) -> bool:
    if value is None or operand is None:
        return value is operand
    if isinstance(value, bool) or isinstance(operand, bool):
        return value is operand
    comparable = isinstance(value, str | int | float) and isinstance(value, str) is isinstance(operand, str)
    return comparable and bool(value == operand)


def _rank(value: Any) -> tuple[int, Any]:
    """Orders values as SQLite does: NULL, numbers, text, bytes."""
    if value is None or isinstance(value, list | dict):
        return 0, 0
    if isinstance(value, str):
        return 2, value
    if isinstance(value, bytes):
        return 3, value
    return 1, value


class _Reversed:
    """A sort key that orders the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: tuple[int, Any]) -> None:
        self.key = key

    def __lt__(self, other: _Reversed) -> bool:
        return other.key < self.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and other.key == self.key

    __hash__ = None  # type: ignore[assignment]


def _find_sealed(
    connection: sqlite3.Connection, where: Collection, query: Query, vault: Vault | None
) -> tuple[list[Found], tuple[Any, ...] | None]:
    if vault is None:
        raise locked(where.name)
    kept: list[tuple[list[Any], tuple[Any, ...], Found]] = []
    after = None if query.after is None else _order_key(query, query.after)
    for found in _open_all(connection, where, vault):
        body = None if found.body is None else decode_body(found.body)
        if body is None and (not query.deleted or query.conditions):
            continue
        if body is not None and not matches(body, query.conditions):
            continue
        position = (*(_sort_value(key, found, body or {}) for key in query.sort), found.id)
        key = _order_key(query, position)
        if after is None or after < key:
            kept.append((key, position, found))
    kept.sort(key=lambda item: item[0])
    page = kept[: query.limit]
    return [found for _, _, found in page], (page[-1][1] if len(kept) > query.limit else None)


def _open_all(connection: sqlite3.Connection, where: Collection, vault: Vault | None) -> Iterator[Found]:
    rows = connection.execute("SELECT id, seq, cl, body, conflicts FROM document WHERE cid = ?", (where.cid,))
    while part := rows.fetchmany(_SCAN):
        for document, seq, cl, body, conflicts in part:
            yield Found(document, seq, cl, open_body(where, document, body, vault), conflicts)


def open_body(where: Collection, document: DocumentId, body: Any, vault: Vault | None) -> bytes | None:
    """A body as stored, as JSON bytes; None for a deleted document and for a sealed one without a vault."""
    if body is None or (where.secret and vault is None):
        return None
    if where.secret:
        assert vault is not None  # noqa: S101 - two lines up
        return vault.open(place_of(where.cid, document) + b"b", body)
    return body.encode() if isinstance(body, str) else bytes(body)


def _sort_value(key: SortKey, found: Found, body: Mapping[str, Any]) -> Any:
    if key.path == ("$id",):
        return found.id
    if key.path == ("$version",):
        return found.seq
    value = value_at(body, key.path)
    if isinstance(value, bool):
        return int(value)
    return None if isinstance(value, list | dict) else value


def _order_key(query: Query, position: Sequence[Any]) -> list[Any]:
    keys: list[Any] = [
        _Reversed(_rank(value)) if key.descending else _rank(value)
        for key, value in zip(query.sort, position, strict=False)
    ]
    return [*keys, _rank(position[-1])]


# ---- the change feed ------------------------------------------------------------------------------------------------
def feed(
    connection: sqlite3.Connection, after: int, vault: Vault | None, *, collection: Collection | None = None,
    limit: int = FEED_PAGE, alive_only: bool = False,
) -> list[FeedRow]:  # fmt: skip
    """Documents changed after a place in the feed, in its order, latest state only.

    A sealed body without a vault is None.
    """
    only = " AND d.cid = ?" if collection else ""
    alive = " AND d.cl % 2 = 1" if alive_only else ""
    rows = connection.execute(
        "SELECT d.seq, c.cid, c.name, c.secret, d.id, d.cl, d.body, d.conflicts "
        "FROM document d JOIN collection c USING(cid) "
        f"WHERE d.seq > ?{only}{alive} ORDER BY d.seq LIMIT ?",
        (after, *((collection.cid,) if collection else ()), limit),
    )
    return [
        FeedRow(
            seq, name, document, cl, open_body(Collection(cid, name, 0, bool(secret)), document, body, vault), conflicts
        )
        for seq, cid, name, secret, document, cl, body, conflicts in rows
    ]


def last_seq(connection: sqlite3.Connection) -> int:
    """Where the feed stands: the highest place in it that is taken."""
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM document").fetchone()[0])


# ---- counts ---------------------------------------------------------------------------------------------------------
def count_at_most(connection: sqlite3.Connection, cid: int, most: int) -> int:
    """Living documents of a collection, counted up to *most*: for rules about shares, without a full scan."""
    row = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM document WHERE cid = ? AND cl % 2 = 1 LIMIT ?)", (cid, most)
    ).fetchone()
    return int(row[0])


def count_conflicts_of(connection: sqlite3.Connection, name: str) -> int:
    """Documents of one collection with open conflicts, by the index that holds only those."""
    row = connection.execute(
        "SELECT count(*) FROM document WHERE conflicts > 0 AND cid = (SELECT cid FROM collection WHERE name = ?)",
        (name,),
    ).fetchone()
    return int(row[0])


def counts(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Collection -> (living documents, documents with conflicts). A scan of one index's worth of rows."""
    rows = connection.execute(
        "SELECT c.name, coalesce(sum(d.cl % 2), 0), coalesce(sum(d.conflicts > 0), 0) "
        "FROM collection c LEFT JOIN document d USING(cid) GROUP BY c.cid"
    )
    return {name: (alive, conflicts) for name, alive, conflicts in rows}
