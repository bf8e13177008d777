"""The wire form of a body, read into tables and operations without judging what they say.

A body is first read at once by a typed decoder. What that refuses is walked again item by item (`msgpack_scan`), so
that the outcome depends on the bytes only, not on a parser or its stack.
Source: protocol/SPEC.md, "Operations".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from hybridgw_protocol.errors import RemoteError

from .msgpack_scan import ARRAY, INT, MAP, TEXT, ScanError, read_head, skip
from .operations import CREATE, DELETE, EDIT, FLOOR


class MalformedBody(RemoteError):
    """A body that cannot be told apart into operations, or whose stamps do not rise: its log ends before it."""

    code: ClassVar[str] = "malformed_body"


# ---- what is on the wire ---------------------------------------------------------------------------------------------
Plain = bool | int | float | str | tuple[bytes] | None  # an array or map: [canonical bytes]
WireSet = tuple[str, list[Plain], list[Plain]]


class WireEdit(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=EDIT, gc=False):
    """[0, delta, collection, document, generation, shape, values, sets?]; numbers point into the tables."""

    delta: int
    collection: int
    id: bytes | tuple[str]
    cl: int
    shape: int
    values: list[Plain]
    sets: list[WireSet] = []


class WireCreate(WireEdit, array_like=True, forbid_unknown_fields=True, tag=CREATE, gc=False):
    """The same with kind 1."""


class WireDelete(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=DELETE, gc=False):
    """[2, delta, collection, document, generation]."""

    delta: int
    collection: int
    id: bytes | tuple[str]
    cl: int


class WireFloor(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=FLOOR, gc=False):
    """[5, delta, collection, Unix milliseconds]."""

    delta: int
    collection: int
    floor_ms: int


class Unreadable(msgspec.Struct):
    """An operation of a known kind with another shape: void."""

    delta: int


class OtherKind(msgspec.Struct):
    """An operation of a kind not known here, as it came."""

    delta: int
    kind: int
    raw: bytes


WireOperation = WireEdit | WireCreate | WireDelete | WireFloor
Item = WireOperation | Unreadable | OtherKind


class Dependency(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One entry of `d`."""

    log: int
    n: int
    hash: bytes


class WireBody(msgspec.Struct):
    """The map: dependencies, control heads, base stamp, collection names, shapes, operations."""

    d: list[Dependency] = []
    c: list[bytes] | msgspec.UnsetType = msgspec.UNSET
    t: int = 0
    s: list[str] = []
    f: list[list[str]] = []
    x: list[WireOperation] = []


_KINDS: Final = (EDIT, CREATE, DELETE, FLOOR)
_decode_body: Final = msgspec.msgpack.Decoder(WireBody).decode
_decode_operation: Final = msgspec.msgpack.Decoder(WireOperation).decode
REFUSED: Final = (ValueError, OverflowError, RecursionError)  # msgspec and UTF-8 errors are ValueErrors


# ---- reading ---------------------------------------------------------------------------------------------------------
def read_wire(raw: bytes) -> tuple[WireBody, Sequence[Item]]:
    """Tables and operations of a body. Raises: MalformedBody."""
    try:
        wire = _decode_body(raw)
    except REFUSED:
        return read_wire_exactly(raw)
    return wire, wire.x


def read_wire_exactly(raw: bytes) -> tuple[WireBody, Sequence[Item]]:
    """read_wire without its short cut: the same outcome for every input, slower."""
    try:
        return _walk(raw)
    except ScanError as error:
        raise MalformedBody(f"The body is not a msgpack map: {error}.") from error


def _walk(raw: bytes) -> tuple[WireBody, list[Item]]:
    """The body without its operations, and those one by one, by the format alone.

    Raises: ScanError, MalformedBody.
    """
    what, size, at = read_head(raw, 0)
    if what is not MAP:
        raise ScanError("it is no map")
    entries: dict[bytes, bytes] = {}  # the last of equal keys counts
    for _ in range(size):
        what, length, start = read_head(raw, at)
        if what is not TEXT:
            raise ScanError("a key is no text")
        at = skip(raw, start + length)
        entries[raw[start : start + length]] = raw[start + length : at]
    if at != len(raw):
        raise ScanError("something follows it")
    operations = entries.pop(b"x", b"\x90")
    known = [bytes([0xA1]) + key + entries[key] for key in (b"d", b"c", b"t", b"s", b"f") if key in entries]
    try:
        wire = _decode_body(bytes([0x80 | len(known)]) + b"".join(known))
    except REFUSED as error:
        raise MalformedBody(f"The tables of the body cannot be read: {error}.") from error
    what, size, at = read_head(operations, 0)
    if what is not ARRAY:
        raise ScanError("x is no array")
    items: list[Item] = []
    for _ in range(size):
        end = skip(operations, at)
        items.append(_read_item(operations[at:end]))
        at = end
    return wire, items


def _read_item(raw: bytes) -> Item:
    """One operation from its own bytes. Raises: ScanError: it is no array that begins with a kind and a stamp."""
    what, size, at = read_head(raw, 0)
    if what is not ARRAY or size < 2:
        raise ScanError("an operation is no array of two items or more")
    what, kind, at = read_head(raw, at)
    also, delta, at = read_head(raw, at)
    if what is not INT or also is not INT or kind < 0:
        raise ScanError("an operation does not begin with its kind and its stamp")
    if kind not in _KINDS:
        return OtherKind(delta, kind, raw)
    try:
        operation: WireOperation = _decode_operation(raw)
    except REFUSED:
        return Unreadable(delta)
    return operation
