"""Walking msgpack item by item, without judging what is passed over: the bytes of a value, whatever is in it.

For the readers beside it, which follow protocol/SPEC.md; it imports none of our packages.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.architecture import _reader as reader
from tests.architecture._reader import Refused

SIZED = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H", 0xDD: "I", 0xDE: "H", 0xDF: "I"}
FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
         0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fmt: skip
EXTENSION = {0xC7: "B", 0xC8: "H", 0xC9: "I"}


@dataclass(frozen=True)
class Item:
    """What begins at a place. kind: nil, bool, int, float, text, bin, ext, array, map. body: where its bytes begin."""

    kind: str
    count: int  # bytes of it, or items of an array or map
    body: int


def item(data: bytes, at: int) -> Item:
    if at >= len(data):
        raise Refused("cut short")
    tag, after = data[at], at + 1
    if tag < 0x80 or tag >= 0xE0:
        return Item("int", 0, after)
    if tag < 0xC0:
        kind = "map" if tag < 0x90 else "array" if tag < 0xA0 else "text"
        return Item(kind, tag & (0x1F if kind == "text" else 0x0F), after)
    if tag in SIZED or tag in EXTENSION:
        form = SIZED.get(tag) or EXTENSION[tag]
        size = struct.calcsize(form)
        if after + size > len(data):
            raise Refused("cut short")
        count: int = struct.unpack_from(">" + form, data, after)[0]
        if tag in EXTENSION:
            return Item("ext", count + 1, after + size)
        kind = "bin" if tag < 0xC7 else "text" if tag < 0xDC else "array" if tag < 0xDE else "map"
        return Item(kind, count, after + size)
    if tag in FIXED:
        kind = (
            "nil"
            if tag == 0xC0
            else "bool"
            if tag < 0xC4
            else "float"
            if tag < 0xCC
            else "int"
            if tag < 0xD4
            else "ext"
        )
        return Item(kind, FIXED[tag], after)
    raise Refused("the byte c1")


def end(data: bytes, at: int) -> int:
    """Where the value that begins at a place ends; at any depth."""
    left = 1
    while left:
        found = item(data, at)
        left -= 1
        if found.kind in ("array", "map"):
            left += found.count * (2 if found.kind == "map" else 1)
            at = found.body
        else:
            at = found.body + found.count
    if at > len(data):
        raise Refused("cut short")
    return at


def parts(data: bytes, kind: str = "array") -> list[bytes]:
    """The items of an array, or keys and values of a map, each as its bytes. Raises: Refused: it is none."""
    found = item(data, 0)
    if found.kind != kind:
        raise Refused(f"no {kind}")
    at, items = found.body, []
    for _ in range(found.count * (2 if kind == "map" else 1)):
        after = end(data, at)
        items.append(data[at:after])
        at = after
    return items


def scalar(data: bytes, *kinds: str) -> object:
    """A value of one of these kinds."""
    if item(data, 0).kind not in kinds:
        raise Refused(f"none of {kinds}")
    return reader.read(data)


def number(data: bytes, least: int, most: int) -> int:
    value = scalar(data, "int")
    assert isinstance(value, int)
    if not least <= value <= most:
        raise Refused("out of range")
    return value


def read_map(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Keys without their heads and the bytes of their values, in order. Raises: Refused: no map, a key of no text."""
    pairs = parts(raw, "map")
    held = []
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        found = item(key, 0)
        if found.kind != "text":
            raise Refused("a key that is not text")
        held.append((key[found.body :], value))
    return held
