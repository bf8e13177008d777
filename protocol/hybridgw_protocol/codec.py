"""Canonical msgpack: the value domain of documents, and the one encoding that equality, hashes and signatures use.

A value is null, a boolean, an integer of at most 53 bits, a finite 64-bit float, text without lone surrogates, an
array, or a map with text keys; nesting at most 32. Canonical bytes: integers in their shortest form (a float with an
integral value in range *is* that integer, -0.0 is 0), floats always 64 bit, map keys sorted by their UTF-8 bytes.
Two values are equal exactly if their canonical bytes are. Source: protocol/SPEC.md, "Values".
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

import msgspec

from .errors import BadFrame, BadValue
from .limits import MAX_DEPTH, MAX_INT

T = TypeVar("T")
Value = Any  # the value domain above; a recursive alias costs mypy more than it gives

_canonical: Final = msgspec.msgpack.Encoder(order="deterministic")


def normalise(value: Value, depth: int = 0) -> Value:
    """The value itself if it is in the domain, with integral floats as integers.

    Raises: BadValue: outside the domain; the message says how.
    """
    kind = type(value)
    if kind is str:
        return _check_text(value)
    if kind is bool or value is None:
        return value
    if kind is int:
        if -MAX_INT <= value <= MAX_INT:
            return value
        raise BadValue("Integers have at most 53 bits (JSON readers lose more); use text for larger ones.")
    if kind is float:
        if not math.isfinite(value):
            raise BadValue("NaN and infinity are not values; use null.")
        return int(value) if value.is_integer() and abs(value) <= MAX_INT else value
    if depth >= MAX_DEPTH and kind in (list, tuple, dict):
        raise BadValue(f"Arrays and maps nest at most {MAX_DEPTH} deep.")
    if kind is list or kind is tuple:
        return [normalise(item, depth + 1) for item in value]
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise BadValue("Map keys are text.")
        return {_check_text(key): normalise(item, depth + 1) for key, item in value.items()}
    raise BadValue(f"A {kind.__name__} is not a value; use null, true, numbers, text, arrays and maps.")


def canonical(value: Value) -> bytes:
    """Canonical bytes of any value in the domain. Raises: BadValue."""
    return _canonical.encode(normalise(value))


def encode_canonical(structure: object) -> bytes:
    """Canonical bytes of a protocol structure that may also hold bytes (records, signed arrays); not checked."""
    return _canonical.encode(structure)


def decode(raw: bytes, kind: type[T], what: str) -> T:
    """Typed msgpack decode of bytes from outside.

    Raises: BadFrame: not msgpack, of another shape, or nested beyond the parser's stack; names *what* and the field.
    """
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BadFrame(f"The {what} cannot be read: {error}") from error


def _check_text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadValue("Text has a lone surrogate, which is not valid Unicode.") from None
    return text
