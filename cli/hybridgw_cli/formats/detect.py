"""Which format a file is in, told by how it begins, then by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Final, NamedTuple

from hybridgw_protocol.errors import BadValue

from . import bookmarks, csvfile, jsonl, taskwarrior
from .record import Item, Options

_HEAD_BYTES: Final = 64 * 1024


class Format(NamedTuple):
    """collection: where its documents go unless another is named; "" if there is no usual place."""

    name: str
    read: Callable[[BufferedReader, Options], Iterator[Item]]
    collection: str = ""


FORMATS: Final[dict[str, Format]] = {
    f.name: f
    for f in (
        Format("jsonl", jsonl.read_jsonl),
        Format("csv", csvfile.read_csv),
        Format("taskwarrior", taskwarrior.read_taskwarrior, taskwarrior.COLLECTION),
        Format("bookmarks", bookmarks.read_bookmarks, bookmarks.COLLECTION),
    )
}
_BY_SUFFIX: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".html": "bookmarks",
    ".htm": "bookmarks",
}
# What people try that is none of these, by first bytes: what to do instead.
_OTHERS: Final = (
    (b"SQLite format 3\0", "an SQLite database; export it from its program as CSV, JSON or HTML"),
    (b"PK\x03\x04", "a ZIP archive or an office document; unpack it, or save the table as CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first: gzip -d FILE"),
    (b"%PDF", "a PDF; export the data from its program as CSV or JSON"),
    (b"mozLz40\0", "Firefox's own backup; choose 'Export Bookmarks to HTML' in its library instead"),
)


def detect(stream: BufferedReader, name: str) -> Format:
    """Look at the beginning of a file without taking it. Args: name: of the file; only its ending counts.

    Raises: BadValue: empty, or none of the formats; says what can be done.
    """
    head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if not head:
        raise BadValue("The file is empty.")
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise BadValue(f"This is {what}.")
    text = _beginning(head).lstrip("\ufeff \t\r\n")
    if text[:1] in ("{", "["):
        return FORMATS[_kind_of_json(text)]
    if text[:200].upper().startswith("<!DOCTYPE NETSCAPE-BOOKMARK-FILE"):
        return FORMATS["bookmarks"]
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix in _BY_SUFFIX and "\0" not in text:
        return FORMATS[_BY_SUFFIX[suffix]]
    first = text.splitlines()[0] if text else ""
    if "\0" not in text and not text.startswith("<") and any(mark in first for mark in ",;\t|"):
        return FORMATS["csv"]
    raise BadValue(f"The format of this file is not clear. Name it: --format {'|'.join(FORMATS)}")


def _beginning(head: bytes) -> str:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[: len(head) & ~1].decode("utf-16", "replace")
    return head.decode("utf-8", "replace")


def _kind_of_json(text: str) -> str:
    """The first object decides; where it is too long to be seen whole, its first attributes do."""
    if '"roots"' in text and '"bookmark_bar"' in text:
        raise BadValue("This is Chrome's own file of bookmarks; choose 'Export bookmarks' in its manager instead.")
    body = text.removeprefix("[").lstrip()
    try:
        first, _ = jsonl.DECODER.raw_decode(body)
    except (ValueError, RecursionError):
        seen = body[:4096]
        first = {key: 0 for key in ("uuid", "description", "status", "entry") if f'"{key}"' in seen}
    return "taskwarrior" if taskwarrior.is_task(first) else "jsonl"
