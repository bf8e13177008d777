"""What every reader yields, and how a row that names no id gets one that stays the same at the next import.

A reader never stops at a bad line: it yields `BadLine` and goes on, so that one broken row does not cost the others.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader, StringIO
from typing import Final

from hybridgw_protocol.errors import BadValue

MAX_LINE_BYTES: Final = 1024 * 1024  # a document has at most 128 KiB; a longer line is no line of documents
_NAMESPACE: Final = uuid.UUID("2f0d7c0e-5c1f-5a0b-9d5e-6b1a4c3e8f70")  # ours; changing it would import everything twice

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Record:
    """One document of a file. line: where it begins, counted from 1; fields: JSON values."""

    line: int
    collection: str
    id: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot become a document; why: a sentence for a person, without the line's content."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A line that is read well and left out by rule; why: a noun in the plural, as in `12 deleted tasks`."""

    line: int
    why: str


Item = Record | BadLine | LeftOut


@dataclass(frozen=True, slots=True)
class Options:
    """How to read. collection: where documents go, "" for where each says itself; id_field: column or field that
    holds the id; encoding: "" is UTF-8, or UTF-16 with its mark; text: keep every CSV cell as text.
    """

    collection: str
    id_field: str = ""
    encoding: str = ""
    text: bool = False


def stable_id(*parts: str) -> str:
    """The same UUID for the same parts, on every machine and at every import (version 5, RFC 9562)."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


@dataclass
class IdMaker:
    """Ids from content: equal rows stay apart by how many came before, so a second import meets the same documents."""

    _seen: Counter[str] = field(default_factory=Counter)

    def of(self, collection: str, content: object) -> str:
        """Args: content: JSON value that says what the row is."""
        name = stable_id(collection, json.dumps(content, sort_keys=True, separators=(",", ":")))
        self._seen[name] += 1
        return name if self._seen[name] == 1 else stable_id(name, str(self._seen[name]))


def text_lines(stream: BufferedReader, encoding: str) -> Iterator[tuple[int, str | BadLine]]:
    """Lines with their line ends, numbered from 1; one that cannot be read is a BadLine in its place.

    Args: encoding: "" is UTF-8, with or without a mark, or UTF-16 with its mark.
    Raises: BadValue: no such encoding, or the file is not in it.
    """
    head = stream.peek(4)[:3]
    if encoding or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield from enumerate(_decoded(stream.read(), encoding or "utf-16"), 1)
        return
    if head == b"\xef\xbb\xbf":
        stream.read(3)
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, BadLine(number, f"is longer than {MAX_LINE_BYTES // 1024} KiB")
            continue
        try:
            yield number, raw.decode()
        except UnicodeDecodeError:
            yield number, BadLine(number, "is not UTF-8; if the whole file is not, say what it is: --encoding cp1252")


def _decoded(data: bytes, encoding: str) -> Iterable[str]:
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise BadValue(f"There is no encoding named {encoding}; usual ones are utf-8, cp1252 and utf-16.") from error
    except UnicodeError as error:
        raise BadValue(f"The file is not {encoding}; usual encodings are utf-8, cp1252 and utf-16.") from error
    return StringIO(text.removeprefix("\ufeff"), newline="")
