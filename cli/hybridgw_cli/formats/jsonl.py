"""JSON Lines: one document a line; or one JSON array of them, as many programs export.

A line is what `hybridgw export` writes, `{"collection": …, "id": …, "data": {…}}`, or any JSON object: then its `id`,
`_id` or `uuid` is the document's id, or, where it has none, an id is made from the content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BufferedReader
from typing import Final, NoReturn

from hybridgw_protocol.errors import BadValue

from .record import BadLine, IdMaker, Item, Options, Record, text_lines

_ID_FIELDS: Final = ("id", "_id", "uuid")
_EXPORTED: Final = frozenset({"collection", "id", "data", "version", "deleted"})  # of a line that export wrote
_SPACE: Final = " \t\r\n"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def read_jsonl(stream: BufferedReader, options: Options) -> Iterator[Item]:
    """Documents of a file of JSON objects. Raises: BadValue: the encoding."""
    if stream.peek(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        values = array_elements(stream, options.encoding)
    else:
        values = json_lines(stream, options.encoding)
    ids = IdMaker()
    for line, value in values:
        yield value if isinstance(value, BadLine) else to_record(line, value, options, ids)


def json_lines(stream: BufferedReader, encoding: str) -> Iterator[tuple[int, object]]:
    """Values of a file with one JSON value a line; what cannot be read is a BadLine in its place."""
    for number, text in text_lines(stream, encoding):
        if isinstance(text, BadLine):
            yield number, text
        elif text.strip(_SPACE):
            yield number, _decode(number, text)


def _decode(number: int, text: str) -> object:
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        return BadLine(number, f"is not JSON: {error.msg.lower().removesuffix(' at')} at character {error.pos + 1}")
    except ValueError as error:
        return BadLine(number, f"is not JSON: {error}")
    except RecursionError:
        return BadLine(number, "is nested too deeply")


def array_elements(stream: BufferedReader, encoding: str) -> Iterator[tuple[int, object]]:
    """Elements of one JSON array with the lines they begin at; what cannot be read is a BadLine and ends it."""
    parts = []
    for number, text in text_lines(stream, encoding):
        if isinstance(text, BadLine):
            yield number, text
            return
        parts.append(text)
    text, at, line = "".join(parts), 0, 1

    def skip(also: str) -> str:
        """Go past white space and, once, the character wanted; returns what stands there now."""
        nonlocal at, line
        while at < len(text) and text[at] in _SPACE + also:
            line += text[at] == "\n"
            also = "" if text[at] in also else also
            at += 1
        return text[at : at + 1]

    stands = skip("[")
    while stands and stands != "]":
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = error.msg.lower().removesuffix(" at") if isinstance(error, json.JSONDecodeError) else str(error)
            yield line, BadLine(line, f"is not JSON ({reason}); what follows it was not read")
            return
        yield line, value
        line += text.count("\n", at, end)
        at = end
        stands = skip(",")
    if not stands:
        yield line, BadLine(line, "the array is never closed; the file may be cut off")


def to_record(line: int, value: object, options: Options, ids: IdMaker) -> Item:
    """One JSON object as a document."""
    if not isinstance(value, dict):
        return BadLine(line, "is not a JSON object")
    collection = options.collection
    if isinstance(value.get("data"), dict) and "id" in value and value.keys() <= _EXPORTED and not options.id_field:
        named, fields = value["id"], value["data"]
        named_collection = value.get("collection", "")
        if not isinstance(named_collection, str):
            return BadLine(line, "names a collection that is no text")
        collection = collection or named_collection
    elif options.id_field:
        named, fields = value.get(options.id_field), value
        if named is None:
            return BadLine(line, f"has no field {options.id_field!r}")
    else:
        field = next((name for name in _ID_FIELDS if value.get(name) is not None), None)
        named = None if field is None else value[field]
        fields = {name: content for name, content in value.items() if name != field}
    if named is None:
        return Record(line, collection, ids.of(collection, fields), fields)
    try:
        return Record(line, collection, id_text(named), fields)
    except BadValue as error:
        return BadLine(line, error.message)


def id_text(named: object) -> str:
    """An id as text; whole numbers are taken as they are written. Raises: BadValue: anything else."""
    if isinstance(named, str) and named:
        return named
    if isinstance(named, int) and not isinstance(named, bool):
        return str(named)
    raise BadValue("has an id that is neither text nor a whole number")
