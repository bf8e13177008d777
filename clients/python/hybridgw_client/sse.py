"""Server-sent events out of lines. Source: WHATWG HTML, "Server-sent events", 9.2.6."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class RawEvent(NamedTuple):
    """One event as it came. id: the last id seen, also if an earlier event brought it; name: `message` if none."""

    id: str
    name: str
    data: str


def parse_events(lines: Iterable[bytes]) -> Iterator[RawEvent]:
    """Events of a stream; comments (signs of life) and unfinished events are dropped.

    Args: lines: with or without their line ends.
    """
    last_id, name, data = "", "", list[str]()
    for number, raw in enumerate(lines):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if number == 0:
            line = line.removeprefix("\ufeff")
        if not line:
            if data:
                yield RawEvent(last_id, name or "message", "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "id" if "\0" not in value:
                last_id = value
            case "event":
                name = value
            case "data":
                data.append(value)
            case _:
                pass  # a comment (empty name), `retry`, or something newer
