"""Objects whose names stand once each. Parsers disagree about which of two equal names counts, so neither does.

The typed decoders take the last one and say nothing. Whoever reads JSON or MessagePack from outside asks here as well,
after decoding: these functions judge bytes that are known to be well formed.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import msgspec
from msgspec import NODEFAULT, Struct

from .errors import BadValue

# Bytes that follow a marker; of the second table, bytes of a length field that says how many more there are.
_FIXED: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xDC: 2, 0xDD: 4,
}  # fmt: skip
_SIZED: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}


def check_names(raw: bytes) -> None:
    """Raise BadValue if an object in this JSON has a name twice, or if it is nested deeper than it can be looked at."""
    colons = raw.count(b":")
    if colons < 2:
        return
    try:
        # A pair has one colon, and texts may have more. As many pairs as colons: then no pair took another's place.
        # Colons of texts count as they are, if none of them can have been written otherwise, as \u003a.
        value = msgspec.json.decode(raw)
        found = _pairs(value)
        if found != colons and (b"\\" in raw or found + _text_colons(value) != colons):
            _read(raw.decode())
    except RecursionError as error:
        raise BadValue("The JSON is nested too deep.") from error
    except ValueError as error:
        raise BadValue(f"This is not valid JSON: {str(error)[:200]}.") from error


def _pairs(value: Any) -> int:
    """How many pairs there are in the objects of decoded JSON."""
    found = 0
    if type(value) is dict:
        found, value = len(value), value.values()
    elif type(value) is not list:
        return 0
    for one in value:
        if type(one) is dict or type(one) is list:
            found += _pairs(one)
    return found


def _text_colons(value: Any) -> int:
    """How many colons stand in the names and texts of decoded JSON."""
    if type(value) is str:
        return value.count(":")
    found = 0
    if type(value) is dict:
        found, value = sum([name.count(":") for name in value]), value.values()
    elif type(value) is not list:
        return 0
    for one in value:
        found += _text_colons(one)
    return found


def _judge(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        _refuse(pairs)


def _refuse(pairs: list[tuple[str, Any]]) -> NoReturn:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadValue(f"The name {name[:64]!r} stands twice in one object.", field=name[:64])
        seen.add(name)
    raise AssertionError("no name stands twice")


_read: Final = json.JSONDecoder(object_pairs_hook=_judge).decode


def fields_given(command: Struct) -> int:
    """How many fields its JSON has had at least: with as many members and no more, no name stands twice."""
    shape = _shapes.get(type(command))
    if shape is None:
        shape = _shapes[type(command)] = _shape_of(type(command))
    given, optional = shape
    for name in optional:
        if getattr(command, name) is not None:
            given += 1
    return given


def _shape_of(kind: type[Struct]) -> tuple[int, tuple[str, ...]]:
    """How many fields must be there, and which others show that they were, for without them they are None."""
    names, defaults = kind.__struct_fields__, kind.__struct_defaults__
    optional = names[len(names) - len(defaults) :]
    pairs = [(name, default) for name, default in zip(optional, defaults, strict=True) if default is not NODEFAULT]
    return len(names) - len(pairs), tuple(name for name, default in pairs if default is None)


_shapes: Final[dict[type[Struct], tuple[int, tuple[str, ...]]]] = {}  # as many as there are commands


def pairs_in(raw: bytes) -> int:
    """How many pairs the maps of this MessagePack have, extensions apart. Decoded maps have as many, or a key twice."""
    at, found, size = 0, 0, len(raw)
    while at < size:
        mark = raw[at]
        at += 1
        if mark < 0x80 or mark >= 0xE0:
            continue
        if mark < 0x90:
            found += mark & 0x0F
        elif 0xA0 <= mark < 0xC0:
            at += mark & 0x1F
        elif mark in _FIXED:
            at += _FIXED[mark]
        elif mark in _SIZED:
            width = _SIZED[mark]
            at += width + int.from_bytes(raw[at : at + width], "big")
        elif mark in _MAPS:
            width = _MAPS[mark]
            found += int.from_bytes(raw[at : at + width], "big")
            at += width
    return found
