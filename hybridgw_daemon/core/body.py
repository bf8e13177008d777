"""The body of a batch: what is inside the ciphertext. Writing it, and judging one that somebody else wrote.

Reading has three outcomes, the same on every device:

* `MalformedBody`: the map, its tables or the frame of an operation cannot be told. The log ends before this batch.
* an operation that breaks the rule is void: skipped, the others apply.
* an operation of a kind not known here is kept as it is, for a version that knows it.

Source: protocol/SPEC.md, "Operations".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hybridgw_protocol.batch import EMPTY_HEAD, MAX_N, Head
from hybridgw_protocol.codec import Value, canonical, encode_canonical, normalise
from hybridgw_protocol.errors import BadValue, LocalError
from hybridgw_protocol.ids import DocumentId, LogId, check_collection, check_document_id
from hybridgw_protocol.limits import (
    LOGS_PER_SPACE,
    MAX_FIELD_BYTES,
    MAX_INT,
    MAX_RECORDS,
    MAX_STAMP,
    SHORT_HASH_BYTES,
)
from hybridgw_protocol.vectors import Heads

from . import wire
from .msgpack_scan import ScanError, read_value
from .operations import (
    CREATE,
    DELETE,
    EDIT,
    FLOOR,
    Operation,
    SetChange,
    check_generation,
    check_name,
    check_operation,
    check_sets,
    check_size,
)
from .wire import MalformedBody

__all__ = [
    "Body",
    "BodyWriter",
    "MalformedBody",
    "UnknownOperation",
    "apply_deps",
    "decode_body",
    "decode_body_exactly",
    "deps_delta",
    "encode_body",
]

T = TypeVar("T")

_NO_HASH: Final = bytes(SHORT_HASH_BYTES)
_SURELY_SMALL: Final = 8_000  # characters (up to 4 bytes each) that cannot break a size limit
_SURELY_FEW: Final = 100  # fields, of at most 140 bytes besides their text
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_flat: Final = msgspec.msgpack.Decoder(
    list[bool | int | float | str | None] | dict[str, bool | int | float | str | None]
).decode


# ---- writing ---------------------------------------------------------------------------------------------------------
class BodyWriter:
    """Packs operations one by one; `size` tells how long the body is with them.

    A device fills its open batches with one of these each, so that a write knows its batch number at once.
    """

    def __init__(self) -> None:
        self.size = 12
        self.count = 0
        self._collections: dict[str, int] = {}
        self._shapes: dict[tuple[str, ...], int] = {}
        self._packed: list[bytes] = []
        self._first_stamp = self._last_stamp = 0

    def add(self, operation: Operation) -> None:
        """Take a valid operation, with a stamp above the last one's."""
        collection = self._collections.get(operation.collection)
        if collection is None:
            collection = self._collections[operation.collection] = len(self._collections)
            self.size += 2 + len(operation.collection)
        if not self._packed:
            self._first_stamp = self._last_stamp = operation.stamp
            self.size += 11
        delta = operation.stamp - self._last_stamp
        self._last_stamp = operation.stamp
        kind = operation.kind
        if kind == FLOOR:
            packed = _encode((FLOOR, delta, collection, operation.floor_ms))
        else:
            document = operation.id if type(operation.id) is bytes else (operation.id,)
            if kind == DELETE:
                packed = _encode((DELETE, delta, collection, document, operation.cl))
            else:
                fields = tuple(operation.puts)
                shape = self._shapes.get(fields)
                if shape is None:
                    shape = self._shapes[fields] = len(self._shapes)
                    self.size += 5 + sum(3 + len(name.encode()) for name in fields)
                head = (kind, delta, collection, document, operation.cl, shape, _plain(operation.puts.values()))
                packed = _encode(head if not operation.sets else (*head, list(map(_plain_set, operation.sets))))
        self._packed.append(packed)
        self.count += 1
        self.size += len(packed)

    def finish(self, deps: Mapping[LogId, Head] | None = None, control: Sequence[bytes] | None = None) -> bytes:
        """The body.

        Args: deps: what changed since this log's batch before (see `deps_delta`); control: the heads of the control
        log (whole hashes or their first 16 bytes) if they changed since then, else None.
        """
        body: dict[str, object] = {}
        if deps:
            body["d"] = [[log, deps[log].n, deps[log].short or _NO_HASH] for log in sorted(deps)]
        if control is not None:
            body["c"] = sorted(head[:SHORT_HASH_BYTES] for head in control)
        if self._packed:
            body["t"] = self._first_stamp
            body["s"] = list(self._collections)
            if self._shapes:
                body["f"] = list(self._shapes)
            body["x"] = [msgspec.Raw(packed) for packed in self._packed]
        return _encode(body)


def encode_body(
    operations: Iterable[Operation] = (),
    deps: Mapping[LogId, Head] | None = None,
    control: Sequence[bytes] | None = None,
) -> bytes:
    """A body at once. Args: operations: valid, stamps rising; deps, control: as in BodyWriter.finish."""
    writer = BodyWriter()
    for operation in operations:
        writer.add(operation)
    return writer.finish(deps, control)


def _plain(values: Iterable[Value]) -> list[Value]:
    return [value if type(value) not in (list, dict) else (encode_canonical(value),) for value in values]


def _plain_set(change: SetChange) -> tuple[str, list[Value], list[Value]]:
    return change.field, _plain(change.adds), _plain(change.removes)


def deps_delta(before: Mapping[LogId, Head], after: Mapping[LogId, Head]) -> Heads:
    """Entries of *after* that differ from *before*; EMPTY_HEAD for a log that is no longer there.

    Args: the applied heads of all other logs at this log's batch before (nothing for batch 1), and now.
    """
    delta = {log: head for log, head in after.items() if log not in before or before[log] != head}
    return delta | {log: EMPTY_HEAD for log in before if log not in after}


def apply_deps(before: Mapping[LogId, Head], delta: Mapping[LogId, Head]) -> Heads:
    """Inverse: the whole dependencies of a batch from those of the batch before it and its own delta."""
    return {log: head for log, head in {**before, **delta}.items() if head.n}


# ---- reading ---------------------------------------------------------------------------------------------------------
class UnknownOperation(msgspec.Struct, frozen=True):
    """An operation of a kind not known here: its place in the batch, its stamp, and its bytes."""

    index: int
    kind: int
    stamp: int
    raw: bytes


class Body(msgspec.Struct, frozen=True):
    """A body that was read.

    deps: entries that changed since the log's batch before (EMPTY_HEAD: no longer seen), for `apply_deps`;
    control: 16-byte prefixes of control heads, None if as before; operations: the valid ones, in order; void: places
    of the skipped ones; unknown: kinds not known here; first_stamp, last_stamp: over all operations, void and unknown
    ones too, None if there are none. The caller checks that first_stamp is above the log's last stamp.
    """

    deps: Heads
    control: tuple[bytes, ...] | None
    operations: list[Operation]
    void: list[int]
    unknown: list[UnknownOperation]
    first_stamp: int | None
    last_stamp: int | None


def decode_body(raw: bytes, log: LogId) -> Body:
    """Read the body of a batch of *log*; at most MAX_BODY_BYTES, which whoever inflates it sees to.

    Raises: MalformedBody: the log ends before this batch.
    """
    return _judge(*wire.read_wire(raw), log)


def decode_body_exactly(raw: bytes, log: LogId) -> Body:
    """decode_body without its short cut: the same outcome for every input, slower. Raises: MalformedBody."""
    return _judge(*wire.read_wire_exactly(raw), log)


def _judge(tables: wire.WireBody, items: Sequence[wire.Item], log: LogId) -> Body:
    """Stamps, tables, and the rule for every operation."""
    deps = _read_deps(tables.d, log)
    control = None if tables.c is msgspec.UNSET else _read_control(tables.c)
    names = _Names([_read_collection(name) for name in tables.s], [_read_shape(fields) for fields in tables.f])
    operations: list[Operation] = []
    void: list[int] = []
    unknown: list[UnknownOperation] = []
    stamp = tables.t
    if stamp < 0:
        raise MalformedBody("A stamp is not negative.")
    for index, item in enumerate(items):
        delta = item.delta
        if delta <= 0 and (index or delta):
            raise MalformedBody(f"The stamp of operation {index} does not rise.")
        stamp += delta
        if isinstance(item, wire.OtherKind):
            unknown.append(UnknownOperation(index, item.kind, stamp, item.raw))
            continue
        try:
            operations.append(_read_operation(item, stamp, names))
        except LocalError:
            void.append(index)
    if stamp > MAX_STAMP:
        raise MalformedBody("A stamp has at most 63 bits.")
    if not items:
        return Body(deps, control, operations, void, unknown, None, None)
    return Body(deps, control, operations, void, unknown, tables.t + items[0].delta, stamp)


class _Names(msgspec.Struct):
    """Names by their number; None where no valid operation can point to."""

    collections: list[str | None]
    shapes: list[tuple[str, ...] | None]


def _read_deps(entries: Sequence[wire.Dependency], log: LogId) -> Heads:
    deps: Heads = {}
    for entry in entries:
        other, n, digest = entry.log, entry.n, entry.hash
        if (
            not -(2**63) <= other < 2**63
            or other == log
            or other in deps
            or not 0 <= n <= MAX_N
            or len(digest) != SHORT_HASH_BYTES
            or (n == 0 and digest != _NO_HASH)
        ):
            raise MalformedBody("The dependencies have a log twice or their own, or a number or hash out of range.")
        deps[LogId(other)] = Head(n, digest) if n else EMPTY_HEAD
    if len(deps) > 2 * LOGS_PER_SPACE:
        raise MalformedBody(f"Dependencies name at most {2 * LOGS_PER_SPACE} logs.")
    return deps


def _read_control(heads: list[bytes]) -> tuple[bytes, ...]:
    if len(heads) > MAX_RECORDS or any(len(head) != SHORT_HASH_BYTES for head in heads):
        raise MalformedBody(f"Control heads are at most {MAX_RECORDS} prefixes of {SHORT_HASH_BYTES} bytes.")
    return tuple(heads)


def _read_collection(name: str) -> str | None:
    try:
        check_collection(name)
    except LocalError:
        return None
    return name


def _read_shape(fields: list[str]) -> tuple[str, ...] | None:
    if len(set(fields)) < len(fields):
        return None
    try:
        for name in fields:
            check_name(name)
    except LocalError:
        return None
    return tuple(fields)


def _at(table: Sequence[T | None], index: int) -> T:
    if not 0 <= index < len(table) or (found := table[index]) is None:
        raise BadValue("An operation points to a name that is not valid.")
    return found


def _read_operation(item: wire.WireOperation | wire.Unreadable, stamp: int, names: _Names) -> Operation:
    """Raises: LocalError: the operation is void."""
    if type(item) is wire.WireEdit or type(item) is wire.WireCreate:
        return _read_write(item, stamp, names)
    if type(item) is wire.WireDelete:
        check_generation(DELETE, item.cl)
        return Operation(DELETE, _at(names.collections, item.collection), _read_id(item.id), item.cl, stamp)
    if type(item) is wire.WireFloor:
        floor = Operation(FLOOR, _at(names.collections, item.collection), "", 0, stamp, {}, (), item.floor_ms)
        check_operation(floor)
        return floor
    raise BadValue("An operation of a known kind has another shape.")


def _read_write(item: wire.WireEdit, stamp: int, names: _Names) -> Operation:
    kind, cl = (CREATE if type(item) is wire.WireCreate else EDIT), item.cl
    values: list[Any] = item.values
    check_generation(kind, cl)
    fields = _at(names.shapes, item.shape)
    if len(values) != len(fields):
        raise BadValue("An operation has another number of values than of fields.")
    characters = 0
    for index, value in enumerate(values):
        form = type(value)
        if form is str:
            characters += len(value)
        elif form is int:
            if not -MAX_INT <= value <= MAX_INT:
                raise BadValue("Integers have at most 53 bits.")
        elif form is float:
            values[index] = normalise(value)
        elif form is tuple:
            characters += len(value[0])
            values[index] = read_composite(value[0])
    puts = dict(zip(fields, values, strict=True))
    sets = _read_sets(item.sets, puts) if item.sets else ()
    if sets or characters > _SURELY_SMALL or len(values) > _SURELY_FEW:
        check_size(puts, sets)
    return Operation(kind, _at(names.collections, item.collection), _read_id(item.id), cl, stamp, puts, sets)


def _read_id(document: bytes | tuple[str]) -> DocumentId:
    if isinstance(document, bytes):
        if len(document) != 16:
            raise BadValue("A binary document id has 16 bytes.")
        return document
    (text,) = document
    if not (text.isascii() and text.isprintable() and 0 < len(text) < 36):  # 36: it might be a UUID
        check_document_id(text)
    return text


def _read_sets(sets: list[wire.WireSet], puts: Mapping[str, Value]) -> tuple[SetChange, ...]:
    changes = tuple(
        SetChange(field, tuple(map(_read_element, adds)), tuple(map(_read_element, removes)))
        for field, adds, removes in sets
    )
    check_sets(changes, puts)
    return changes


def _read_element(value: wire.Plain) -> Value:
    return read_composite(value[0]) if isinstance(value, tuple) else normalise(value)


def read_composite(raw: bytes) -> Value:
    """An array or map from its canonical bytes.

    Raises: BadValue: no array or map, or not the canonical bytes of one.
    """
    if len(raw) > MAX_FIELD_BYTES:
        raise BadValue(f"A value has at most {MAX_FIELD_BYTES} bytes.")
    try:
        value: Value = _decode_flat(raw)
    except wire.REFUSED:  # nested, or wrong
        try:
            value, _ = read_value(raw)
        except ScanError as error:
            raise BadValue(f"A value cannot be read: {error}.") from error
    if type(value) not in (list, dict) or canonical(value) != raw:
        raise BadValue("An array or map is not written as its canonical bytes.")
    return value
