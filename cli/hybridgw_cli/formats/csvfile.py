"""CSV, both ways: the first line names the fields, each further one is a document.

A cell is text, except where it reads as exactly one JSON value written the usual way: `true`, `null`, 42, 1.5, or
anything that begins like a list, map or quoted text and is one. `007` and `+49 30` stay text. An empty cell is no
field. Writing is the inverse: text that would read as something else is written in JSON quotes, so that what was
exported comes back as it was. Separator (comma, semicolon, tab, bar), byte-order mark and line ends are found out.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader, StringIO
from typing import Final

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.limits import MAX_FIELD_NAME_BYTES

from .jsonl import DECODER
from .record import BadLine, Fields, IdMaker, Item, Options, Record, text_lines

_SEPARATORS: Final = ",;\t|"
_ID_COLUMNS: Final = ("id", "_id", "uuid")
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,15})(\.\d{1,22})?([eE][+-]?\d{1,3})?")
_WORDS: Final[dict[str, object]] = {"true": True, "false": False, "null": None}
_MAX_CELL: Final = 1024 * 1024

csv.field_size_limit(_MAX_CELL)


def read_csv(stream: BufferedReader, options: Options) -> Iterator[Item]:
    """Documents of a CSV file. Raises: BadValue: no usable header, or the encoding."""
    lines = _Lines(stream, options.encoding)
    header_line = next((text for text in lines if text.strip()), "")
    if not header_line:
        return
    separator = _separator(header_line)
    rows = csv.reader(_chain(header_line, lines), delimiter=separator, strict=True)
    try:
        header = _header(next(rows), options)
    except csv.Error as error:
        raise BadValue(f"The first line is not CSV: {error}.") from error
    columns = {name.lower(): at for at, name in reversed([*enumerate(header)])}
    if options.id_field:
        id_at = header.index(options.id_field) if options.id_field in header else None
        if id_at is None:
            raise BadValue(f"There is no column {options.id_field!r}. The columns are: {', '.join(header)}.")
    else:
        id_at = next((columns[name] for name in _ID_COLUMNS if name in columns), None)
    ids, first = IdMaker(), lines.number
    while True:
        first = lines.number + 1
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield BadLine(first, f"is not CSV: {error}")
            continue
        if lines.bad:
            yield from lines.bad
            lines.bad = []
            continue
        if not any(row):
            continue  # a blank line, or only separators
        if len(row) != len(header):
            yield BadLine(first, f"has {len(row)} cells, the first line has {len(header)}")
            continue
        yield _record(first, row, header, id_at, options, ids)
    yield from lines.bad


def _record(
    line: int, row: list[str], header: list[str], id_at: int | None, options: Options, ids: IdMaker
) -> Record | BadLine:
    keep = bool(options.id_field)  # a column named on purpose stays a field as well
    fields: Fields = {
        name: cell if options.text else parse_cell(cell)
        for at, (name, cell) in enumerate(zip(header, row, strict=True))
        if cell and (keep or at != id_at)
    }
    if id_at is not None and row[id_at]:
        return Record(line, options.collection, row[id_at], fields)
    if keep:
        return BadLine(line, f"has nothing in the column {options.id_field!r}")
    content = [cell for at, cell in enumerate(row) if at != id_at]
    return Record(line, options.collection, ids.of(options.collection, content), fields)


class _Lines:
    """Text lines for csv.reader, which joins those of a quoted cell; remembers where it is and what it left out."""

    def __init__(self, stream: BufferedReader, encoding: str) -> None:
        self.number = 0
        self.bad: list[BadLine] = []
        self._lines = text_lines(stream, encoding)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, text = next(self._lines)
        self.number = number
        if isinstance(text, BadLine):
            self.bad.append(text)
            return "\n"
        if "\0" in text:
            self.bad.append(BadLine(number, "has a zero byte; this may not be a text file"))
            return "\n"
        return text


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _separator(header: str) -> str:
    """The separator that the header has most of, outside quotes."""
    outside = re.sub(r'"[^"]*"', "", header)
    return max(_SEPARATORS, key=outside.count)


def _header(names: list[str], options: Options) -> list[str]:
    header = [name.strip() for name in names]
    if "" in header:
        raise BadValue("The first line has a column without a name. It must name every column.")
    if double := next((name for name in header if header.count(name) > 1), None):
        raise BadValue(f"The first line names {double!r} twice. Every column needs a name of its own.")
    if too_long := next((name for name in header if len(name.encode()) > MAX_FIELD_NAME_BYTES), None):
        raise BadValue(f"The first line names a column {too_long[:30]!r}…, which is too long. Is this a CSV file?")
    return header


def parse_cell(cell: str) -> object:
    """The value of a cell that is not empty."""
    if cell in _WORDS:
        return _WORDS[cell]
    if cell[0] in '"[{' or _NUMBER.fullmatch(cell):
        try:
            value = DECODER.decode(cell)
        except (ValueError, RecursionError):
            return cell
        if isinstance(value, int | float) and not isinstance(value, bool) and json.dumps(value) != cell:
            return cell  # 1.50, 1e5, -0: a number would not be written back like this
        return value
    return cell


def format_cell(value: object) -> str:
    """Inverse of parse_cell."""
    if isinstance(value, str) and value and parse_cell(value) == value and "\0" not in value:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_csv(documents: Iterable[tuple[str, Mapping[str, object]]], columns: list[str]) -> Iterator[str]:
    """Lines of a CSV file, its header first. Args: documents: (id, fields); columns: field names in their order.

    Raises: BadValue: a field is called like the column of the id, or its name would not be read back.
    """
    for column in columns:
        if column.lower() in _ID_COLUMNS or column != column.strip() or not column:
            raise BadValue(f"A field is called {column!r}, which a CSV file cannot hold beside the id. Use JSON Lines.")
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # RFC 4180
    writer.writerow(["id", *columns])
    for name, fields in documents:
        yield _taken(buffer)
        writer.writerow([name, *(format_cell(fields[column]) if column in fields else "" for column in columns)])
    yield _taken(buffer)


def _taken(buffer: StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
