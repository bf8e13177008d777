"""Taskwarrior's `task export`: one JSON array, or one object a line as older versions write.

The task's UUID is the document's id; attributes become the fields of the built-in collection `tasks` where it has them
(description is title, entry is created_at, end is done_at, annotations are notes), times RFC 3339 in UTC; the others,
user-defined ones too, stay as they are. Left out: `id` and `urgency`, which Taskwarrior computes anew each day, deleted
tasks, and the templates of recurring ones. Source: taskwarrior.org, "Taskwarrior JSON Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedReader
from typing import Final

from .jsonl import array_elements, json_lines
from .record import BadLine, Fields, Item, LeftOut, Options, Record

COLLECTION: Final = "tasks"
_COMPUTED: Final = frozenset({"id", "urgency", "uuid", "description", "status"})
_STATUS: Final = {"pending": "open", "waiting": "waiting", "completed": "done"}
_LEFT_OUT: Final = {
    "deleted": "tasks deleted in Taskwarrior",
    "recurring": "templates of recurring tasks (the tasks they made are imported)",
}
_PRIORITY: Final = {"H": "high", "M": "medium", "L": "low"}
_NAMES: Final = {"entry": "created_at", "end": "done_at", "annotations": "notes"}
_TIME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def read_taskwarrior(stream: BufferedReader, options: Options) -> Iterator[Item]:
    """Tasks of an export. Raises: BadValue: the encoding."""
    read = array_elements if stream.peek(64).lstrip()[:1] == b"[" else json_lines
    for line, value in read(stream, options.encoding):
        yield value if isinstance(value, BadLine) else _task(line, value, options.collection)


def is_task(value: object) -> bool:
    """Does this JSON value look like a task: the four attributes that every one has."""
    return isinstance(value, dict) and {"uuid", "description", "status", "entry"} <= value.keys()


def _task(line: int, value: object, collection: str) -> Item:
    if not isinstance(value, dict):
        return BadLine(line, "is not a JSON object")
    name, title, status = value.get("uuid"), value.get("description"), value.get("status")
    if not isinstance(name, str) or not _UUID.fullmatch(name.lower()):
        return BadLine(line, "has no uuid, so it is no task of Taskwarrior")
    if not isinstance(title, str):
        return BadLine(line, "has no description, so it is no task of Taskwarrior")
    if status in _LEFT_OUT:
        return LeftOut(line, _LEFT_OUT[status])
    if status not in _STATUS:
        return BadLine(line, "has a status that Taskwarrior does not have")
    fields: Fields = {"title": title, "status": _STATUS[status]}
    for attribute, content in value.items():
        if attribute not in _COMPUTED:
            fields[_NAMES.get(attribute) or attribute] = _attribute(attribute, content)
    return Record(line, collection, name.lower(), fields)


def _attribute(name: str, content: object) -> object:
    match name, content:
        case "depends", str():
            return [part for part in content.split(",") if part]  # Taskwarrior 2.5 and older
        case "annotations", list():
            return "\n".join(_note(note) for note in content)
        case "priority", str():
            return _PRIORITY.get(content, content)
        case _:
            return _time(content)


def _note(note: object) -> str:
    """One annotation as a line: the day it was made, and its text."""
    if not isinstance(note, dict):
        return str(note)
    return f"{str(_time(note.get('entry')))[:10]} {note.get('description', '')}".strip()


def _time(content: object) -> object:
    if isinstance(content, str) and (match := _TIME.fullmatch(content)):
        year, month, day, hour, minute, second = match.groups()
        return f"{year}-{month}-{day}T{hour}:{minute}:{second}Z"
    return content
