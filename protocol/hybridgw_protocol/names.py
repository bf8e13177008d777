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


def check_names(raw: bytes | bytearray) -> None:
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
    """How many pairs its JSON has had at least: with as many and no more, no name stands twice."""
    shape = _shapes.get(type(command))
    if shape is None:
        shape = _shapes[type(command)] = _shape_of(type(command))
    given, names = shape
    for name, is_counted in names:
        value = getattr(command, name)
        if value is not None:
            given += is_counted
            if type(value) is dict or type(value) is list:
                given += _pairs(value)
    return given


def _shape_of(kind: type[Struct]) -> tuple[int, tuple[tuple[str, bool], ...]]:
    """How many fields must be there; (name, it shows that it was there, for without it would be None) of each field
    that is looked at."""
    names, defaults = kind.__struct_fields__, kind.__struct_defaults__
    optional = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    needed = [name for name in names if optional.get(name, NODEFAULT) is NODEFAULT]
    looked_at = [(name, False) for name in needed] + [(name, True) for name in names if optional.get(name, 0) is None]
    return len(needed), tuple(looked_at)


_shapes: Final[dict[type[Struct], tuple[int, tuple[tuple[str, bool], ...]]]] = {}  # as many as there are commands


def pairs_in(raw: bytes | bytearray) -> int:
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
