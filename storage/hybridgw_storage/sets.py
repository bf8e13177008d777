"""Many values in one statement: cheaper than a statement each, and the interpreter is free while SQLite works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")
PART: Final = 64

_encode: Final = msgspec.json.Encoder().encode


def number_list(numbers: Sequence[int]) -> str:
    """For `IN (SELECT value FROM json_each(?))`."""
    return _encode(numbers).decode()


def parts(values: Iterable[T]) -> Iterator[list[T]]:
    """Lists of PART values, the last one filled up with its last value: one text of a statement serves them all."""
    part: list[T] = []
    for value in values:
        part.append(value)
        if len(part) == PART:
            yield part
            part = []
    if part:
        yield part + [part[-1]] * (PART - len(part))


MARKS: Final = ",".join("?" * PART)  # of a part
