"""msgpack read step by step, without recursion and without building anything: for bytes that a typed decoder refused.

Everything a body may not hold must lead to the same outcome on every device, whatever its parser or its stack: so the
refused ones are walked here, item by item, by the format alone. Source: msgpack specification; protocol/SPEC.md,
"Operations".
"""

from __future__ import annotations

import struct
from typing import Any, Final

from hybridgw_protocol.codec import Value
from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.limits import MAX_DEPTH

INT, TEXT, BINARY, ARRAY, MAP, OTHER = "int", "text", "binary", "array", "map", "other"

# marker -> (what, bytes of the length field or of the number, struct format)
_SIZED: Final[dict[int, tuple[str, int, str]]] = {
    0xC4: (BINARY, 1, ">B"), 0xC5: (BINARY, 2, ">H"), 0xC6: (BINARY, 4, ">I"),
    0xD9: (TEXT, 1, ">B"), 0xDA: (TEXT, 2, ">H"), 0xDB: (TEXT, 4, ">I"),
    0xDC: (ARRAY, 2, ">H"), 0xDD: (ARRAY, 4, ">I"), 0xDE: (MAP, 2, ">H"), 0xDF: (MAP, 4, ">I"),
    0xCC: (INT, 1, ">B"), 0xCD: (INT, 2, ">H"), 0xCE: (INT, 4, ">I"), 0xCF: (INT, 8, ">Q"),
    0xD0: (INT, 1, ">b"), 0xD1: (INT, 2, ">h"), 0xD2: (INT, 4, ">i"), 0xD3: (INT, 8, ">q"),
}  # fmt: skip
# nil, false, true, floats, short extensions: bytes after the marker; long extensions: bytes of the length field
_FIXED: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_EXTENSION: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_SCALAR: Final[dict[int, Value]] = {0xC0: None, 0xC2: False, 0xC3: True}


class ScanError(ValueError):
    """Not msgpack: cut short, or a byte that begins nothing."""


def read_head(raw: bytes, at: int) -> tuple[str, int, int]:
    """The item that begins at *at*: (what, number or length or count, position after its head).

    For INT the number; for TEXT and BINARY the bytes that follow; for ARRAY and MAP how many items or pairs; for OTHER
    the bytes that follow. Raises: ScanError.
    """
    if at >= len(raw):
        raise ScanError("cut short")
    mark = raw[at]
    at += 1
    if mark < 0x80:
        return INT, mark, at
    if mark < 0x90:
        return MAP, mark & 0x0F, at
    if mark < 0xA0:
        return ARRAY, mark & 0x0F, at
    if mark < 0xC0:
        what, size, end = TEXT, mark & 0x1F, at
    elif mark >= 0xE0:
        return INT, mark - 0x100, at
    elif mark in _FIXED:
        what, size, end = OTHER, _FIXED[mark], at
    elif mark in _EXTENSION:
        width = _EXTENSION[mark]
        what, size, end = OTHER, int.from_bytes(raw[at : at + width], "big") + 1, at + width
    elif mark in _SIZED:
        what, width, form = _SIZED[mark]
        end = at + width
        if end > len(raw):
            raise ScanError("cut short")
        (size,) = struct.unpack_from(form, raw, at)
        if what == INT:
            return INT, size, end
    else:
        raise ScanError(f"byte {mark:#x} begins nothing")
    if what in (ARRAY, MAP):
        return what, size, end
    if end + size > len(raw):
        raise ScanError("cut short")
    return what, size, end


def skip(raw: bytes, at: int) -> int:
    """The position after the item that begins at *at*, however deep it is. Raises: ScanError."""
    left = 1
    while left:
        what, size, at = read_head(raw, at)
        left -= 1
        if what is ARRAY:
            left += size
        elif what is MAP:
            left += 2 * size
        elif what is not INT:
            at += size
        if left > len(raw) - at:
            raise ScanError("cut short")  # every item has a byte at least: a huge count ends here
    return at


def read_value(raw: bytes, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """One value of the value domain and the position after it; never deeper than MAX_DEPTH.

    Raises: BadValue: outside the domain (bytes, extensions, keys that are no text, text that is no UTF-8, too deep);
    ScanError.
    """
    what, size, end = read_head(raw, at)
    if what is INT:
        return size, end
    if what is TEXT:
        try:
            return raw[end : end + size].decode(), end + size
        except UnicodeDecodeError:
            raise BadValue("Text that is not UTF-8 is not a value.") from None
    if what is OTHER and raw[at] in _SCALAR:
        return _SCALAR[raw[at]], end
    if what is OTHER and raw[at] in (0xCA, 0xCB):
        return struct.unpack_from(">f" if raw[at] == 0xCA else ">d", raw, end)[0], end + size
    if what in (BINARY, OTHER):
        raise BadValue("Bytes and extensions are not values.")
    if depth >= MAX_DEPTH:
        raise BadValue(f"Arrays and maps nest at most {MAX_DEPTH} deep.")
    if what is ARRAY:
        items = []
        for _ in range(size):
            item, end = read_value(raw, end, depth + 1)
            items.append(item)
        return items, end
    entries = {}
    for _ in range(size):
        key, end = read_value(raw, end, MAX_DEPTH)
        if type(key) is not str:
            raise BadValue("Map keys are text.")
        entries[key], end = read_value(raw, end, depth + 1)
    return entries, end
