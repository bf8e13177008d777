"""Operations: the smallest immutable changes, the rule that makes one void, and how local requests become some.

One transaction holds at most one operation per document: requests are coalesced first, and the last word on a field
or set element counts. The rule in `check_operation` is the same on every device: a local request that breaks it is
refused, an operation from elsewhere that breaks it is void (skipped; the rest of its batch applies).
Source: protocol/SPEC.md, "Operations".
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec

from hybridgw_protocol.codec import Value, canonical, encode_canonical, normalise
from hybridgw_protocol.errors import AlreadyExists, BadValue, Deleted, NotFound, TooBig
from hybridgw_protocol.ids import DocumentId, check_collection, check_document_id, check_field
from hybridgw_protocol.limits import (
    FLOOR_MARGIN_MS,
    GENERATION_END,
    MAX_DOCUMENT_BYTES,
    MAX_ELEMENT_BYTES,
    MAX_FIELD_BYTES,
    MAX_SET_ELEMENTS,
    MAX_STAMP,
    MAX_TX_BYTES,
    MAX_TX_OPS,
    STAMP_BITS,
)

from .uuid7 import is_below_floor

EDIT: Final = 0  # changes fields of a living document
CREATE: Final = 1  # full content; a new generation: the first, or the one after a delete
DELETE: Final = 2  # ends the generation; on a deleted document: lets go of what is buried there
FLOOR: Final = 5  # every document of the collection whose id is older is gone

_WIRE_EXTRA_BYTES: Final = 16  # what the wire form of an operation may have beyond its pending form
_COMPOSITE_EXTRA_BYTES: Final = 4  # the same, for every array or map among its values


class SetChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Elements added to and removed from one set field; none twice."""

    field: str
    adds: tuple[Value, ...] = ()
    removes: tuple[Value, ...] = ()


class Operation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one document, or of the floor of a collection (then `id` is "" and `cl` 0).

    cl: the generation it belongs to (odd alive, even deleted); stamp: its own, rising in a log; puts: registers by
    field, normalised values; floor_ms: Unix milliseconds.
    """

    kind: int
    collection: str
    id: Any  # DocumentId; msgspec knows no union of bytes and str
    cl: int
    stamp: int
    puts: dict[str, Value] = {}
    sets: tuple[SetChange, ...] = ()
    floor_ms: int = 0


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Operation])


def encode_pending(operations: Sequence[Operation]) -> bytes:
    """For this device's own table of operations that are not sealed yet. Never leaves it; not the wire form."""
    return _encoder.encode(operations)


def decode_pending(raw: bytes) -> list[Operation]:
    """Inverse of encode_pending. Raises: msgspec.DecodeError: the row is damaged."""
    return _decoder.decode(raw)


def packed_bytes(operation: Operation) -> int:
    """Upper bound of what the operation adds to a body; what a body really takes is told by body.BodyWriter."""
    composites = sum(type(value) in (list, dict) for value in operation.puts.values())
    for change in operation.sets:
        composites += sum(type(element) in (list, dict) for element in (*change.adds, *change.removes))
    return len(_encoder.encode(operation)) + _WIRE_EXTRA_BYTES + _COMPOSITE_EXTRA_BYTES * composites


def fingerprint(operation: Operation) -> bytes:
    """Equal for two copies of one operation, whichever batches they are in; log repair drops such a copy."""
    sets = sorted(
        [change.field, sorted(map(canonical, change.adds)), sorted(map(canonical, change.removes))]
        for change in operation.sets
    )
    return encode_canonical(
        [operation.kind, operation.collection, operation.id, operation.cl, operation.stamp, operation.puts, sets,
         operation.floor_ms]
    )  # fmt: skip


# ---- the rule --------------------------------------------------------------------------------------------------------
def check_operation(operation: Operation) -> None:
    """Raise BadValue or TooBig if the operation is void by rule. Values must be normalised already."""
    check_collection_name(operation.collection)
    if not 0 <= operation.stamp <= MAX_STAMP:
        raise BadValue("A stamp is a positive 64-bit integer.")
    if operation.kind == FLOOR:
        if not 0 <= operation.floor_ms <= (operation.stamp >> STAMP_BITS) - FLOOR_MARGIN_MS:
            raise BadValue("A floor is at least a day older than the write that sets it.")
        return
    if operation.kind not in (EDIT, CREATE, DELETE):
        raise BadValue(f"Operation kind {operation.kind} is not known here.")
    check_document_id(operation.id)
    check_generation(operation.kind, operation.cl)
    if operation.kind == DELETE:
        if operation.puts or operation.sets:
            raise BadValue("A delete carries no changes.")
        return
    for name in operation.puts:
        check_name(name)
    if operation.sets:
        check_sets(operation.sets, operation.puts)
    check_size(operation.puts, operation.sets)


def check_generation(kind: int, cl: int) -> None:
    """Raise BadValue unless 1 <= cl < 2^31, even for a delete and odd for everything else."""
    if not 1 <= cl < GENERATION_END or cl % 2 != (kind != DELETE):
        raise BadValue(f"Generation {cl} is out of range, or not one that this kind of operation may carry.")


def check_sets(sets: Iterable[SetChange], puts: Container[str]) -> None:
    """Raise BadValue or TooBig for a field or an element named twice, too many or too large elements.

    Args: puts: the registers of the same operation; a field is a register or a set, never both at once.
    """
    fields: set[str] = set()
    count = 0
    for change in sets:
        check_name(change.field)
        if change.field in puts:
            raise BadValue(f"Field {change.field!r} is written as a whole and changed as a set in one operation.")
        if change.field in fields:
            raise BadValue(f"Set {change.field!r} is changed twice in one operation.")
        fields.add(change.field)
        elements = [canonical(element) for element in (*change.adds, *change.removes)]
        if len(set(elements)) < len(elements):
            raise BadValue(f"An element of set {change.field!r} is named twice in one operation.")
        if max(map(len, elements), default=0) > MAX_ELEMENT_BYTES:
            raise TooBig(f"An element of a set has at most {MAX_ELEMENT_BYTES} bytes.")
        count += len(elements)
    if count > MAX_SET_ELEMENTS:
        raise TooBig(f"One write changes at most {MAX_SET_ELEMENTS} elements of sets.")


@lru_cache(1024)
def check_collection_name(name: str) -> None:
    """ids.check_collection, remembered. Raises: BadValue."""
    check_collection(name)


@lru_cache(4096)
def check_name(field_name: str) -> None:
    """ids.check_field, remembered: an application has few field names and writes them often. Raises: BadValue."""
    check_field(field_name)


def check_size(puts: Mapping[str, Value], sets: Iterable[SetChange] = ()) -> None:
    """Raise TooBig for a value above 64 KiB, or puts and elements together above 128 KiB, in canonical bytes."""
    total = len(encode_canonical(puts))
    if total > MAX_FIELD_BYTES:
        for name, value in puts.items():
            if (size := len(encode_canonical(value))) > MAX_FIELD_BYTES:
                raise TooBig(f"Field {name!r} has {size} bytes; at most {MAX_FIELD_BYTES} fit.")
    for change in sets:
        total += sum(len(encode_canonical(element)) for element in (*change.adds, *change.removes))
    if total > MAX_DOCUMENT_BYTES:
        raise TooBig(f"The document has {total} bytes; at most {MAX_DOCUMENT_BYTES} fit.")


# ---- local requests --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Create:
    """Make a document, or restore a deleted one with this full content. sets: elements by set field."""

    collection: str
    id: DocumentId
    puts: Mapping[str, Value] = field(default_factory=dict)
    sets: Mapping[str, Sequence[Value]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """Change fields of a living document. puts: registers; adds, removes: elements by set field, an add wins."""

    collection: str
    id: DocumentId
    puts: Mapping[str, Value] = field(default_factory=dict)
    adds: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    removes: Mapping[str, Sequence[Value]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delete:
    """End the document; on a deleted one: let go of what is buried in it."""

    collection: str
    id: DocumentId


@dataclass(frozen=True, slots=True)
class RaiseFloor:
    """Everything in the collection whose id is older than floor_ms (Unix milliseconds) is gone for good."""

    collection: str
    floor_ms: int


Request = Create | Edit | Delete | RaiseFloor


class _Draft:
    """An operation in the making: the last word per field and per set element."""

    __slots__ = ("cl", "elements", "kind", "puts")

    def __init__(self, kind: int, cl: int) -> None:
        self.kind, self.cl = kind, cl
        self.puts: dict[str, Value] = {}
        self.elements: dict[str, dict[bytes, tuple[bool, Value]]] = {}  # field -> canonical bytes -> (added?, element)

    def put(self, puts: Mapping[str, Value]) -> None:
        for name, value in puts.items():
            self.puts[name] = normalise(value)

    def change(self, sets: Mapping[str, Sequence[Value]], added: bool) -> None:
        for name, values in sets.items():
            elements = self.elements.setdefault(name, {})
            for value in values:
                elements[canonical(value)] = (added, normalise(value))

    def sets(self) -> tuple[SetChange, ...]:
        return tuple(
            SetChange(
                name,
                tuple(element for added, element in elements.values() if added),
                tuple(element for added, element in elements.values() if not added),
            )
            for name, elements in self.elements.items()
            if elements
        )


def coalesce(
    requests: Iterable[Request],
    *,
    first_stamp: int,
    generation: Callable[[str, DocumentId], int],
    floor_ms: Callable[[str], int],
) -> list[Operation]:
    """The operations of one transaction, numbered from *first_stamp* (see hlc.tick), in the order of first mention.

    Args: generation: `cl` of a stored document, 0 if there is none; floor_ms: the floor of a collection, 0 if none.
    Returns: valid operations; the new clock is the last one's stamp.
    Raises: NotFound, Deleted, AlreadyExists, BadValue, TooBig: nothing may be written then.
    """
    drafts: dict[tuple[str, DocumentId], _Draft] = {}
    floors: dict[str, int] = {}
    order: dict[tuple[str, DocumentId] | str, None] = {}
    for request in requests:
        if isinstance(request, RaiseFloor):
            floors[request.collection] = max(request.floor_ms, floors.get(request.collection, request.floor_ms))
            order[request.collection] = None
            continue
        name = (request.collection, request.id)
        drafts[name] = _drafted(request, drafts.get(name), generation)
        order[name] = None
        if is_below_floor(request.id, max(floor_ms(request.collection), floors.get(request.collection, 0))):
            raise Deleted("The document is older than the floor of its collection: it is gone for good.")
    operations = []
    for stamp, key in enumerate(order, first_stamp):
        if isinstance(key, str):
            operation = Operation(FLOOR, key, "", 0, stamp, {}, (), floors[key])
        else:
            draft = drafts[key]
            operation = Operation(draft.kind, *key, draft.cl, stamp, draft.puts, draft.sets())
        check_operation(operation)
        operations.append(operation)
    _check_transaction(operations)
    return operations


def _drafted(
    request: Create | Edit | Delete, draft: _Draft | None, generation: Callable[[str, DocumentId], int]
) -> _Draft:
    """The draft with the request's word in it."""
    draft = draft or _Draft(EDIT, generation(request.collection, request.id))
    alive = draft.cl % 2 == 1
    match request:
        case Create():
            if alive:
                raise AlreadyExists("The document exists already; change it instead.")
            draft = _Draft(CREATE, draft.cl + 1)
            draft.put(request.puts)
            draft.change(request.sets, True)
            return draft
        case _ if draft.cl == 0:
            raise NotFound(f"There is no document {request.id!r} in {request.collection}.")
        case Delete():
            return _Draft(DELETE, draft.cl + alive)
        case _:
            if not alive:
                raise Deleted("The document is deleted; restore it first.")
            draft.put(request.puts)
            draft.change(request.removes, False)
            draft.change(request.adds, True)
            return draft


def _check_transaction(operations: Sequence[Operation]) -> None:
    if len(operations) > MAX_TX_OPS:
        raise TooBig(f"One transaction holds at most {MAX_TX_OPS} operations, this one {len(operations)}.")
    size = sum(map(packed_bytes, operations))
    if size > MAX_TX_BYTES:
        raise TooBig(f"One transaction has at most {MAX_TX_BYTES} bytes, this one up to {size}; split it.")
