"""The built-in collections: `settings`, `tasks`, `activities`, each with its schema and what it does by itself.

A handler completes local writes only: what a program left out when it made a document, and fields that follow from
others. What arrives from other devices is taken as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .schemas import SET_KEYWORD

Data = dict[str, Any]
_ZONE: Final = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d):(?P<minutes>\d\d)$|[Zz]$")


@dataclass(frozen=True, slots=True)
class Builtin:
    """One built-in collection.

    complete: fields to add to a new document, given what its writer named and the time; follow: fields that change with
    the given ones, of a living document, given it as it was; faults: what a schema cannot say.
    """

    title: str
    schema: Mapping[str, Any]
    complete: Callable[[Data, int], Data]
    follow: Callable[[Mapping[str, Any], Data, int], Data]
    faults: Callable[[Mapping[str, Any]], list[str]]


def iso_time(now_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds: texts that sort by time."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_ms // 1000))}.{now_ms % 1000:03d}Z"


_TEXT: Final = {"type": "string", "maxLength": 16_384}
_TIME: Final = {"type": "string", "format": "date-time"}
_TAGS: Final = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 64}, SET_KEYWORD: True}


# ---- settings ----------------------------------------------------------------------------------------------------
def _nothing(_data: Mapping[str, Any], _now_ms: int) -> Data:
    return {}


def _unchanged(_before: Mapping[str, Any], _changes: Data, _now_ms: int) -> Data:
    return {}


def _no_faults(_data: Mapping[str, Any]) -> list[str]:
    return []


_SETTINGS: Final = Builtin(
    title="Settings of programs, one document per key; sealed at rest",
    schema={
        "type": "object",
        "properties": {
            "value": {"description": "any JSON value; the id of the document is the key"},
            "app": {"type": "string", "minLength": 1, "maxLength": 128, "description": "whose setting it is"},
        },
        "required": ["value"],
    },
    complete=_nothing,
    follow=_unchanged,
    faults=_no_faults,
)


# ---- tasks -------------------------------------------------------------------------------------------------------
def _complete_task(data: Data, now_ms: int) -> Data:
    added: Data = {} if data.get("created_at") is not None else {"created_at": iso_time(now_ms)}
    if data.get("status") == "done" and data.get("done_at") is None:
        added["done_at"] = iso_time(now_ms)
    return added


def _follow_task(before: Mapping[str, Any], changes: Data, now_ms: int) -> Data:
    """The time a task was done comes and goes with its status, unless the writer says otherwise."""
    if "status" not in changes or "done_at" in changes or changes["status"] == before.get("status"):
        return {}
    if changes["status"] == "done":
        return {"done_at": iso_time(now_ms)}
    return {"done_at": None} if before.get("done_at") is not None else {}


_TASKS: Final = Builtin(
    title="Things to do",
    schema={
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 1_000},
            "status": {"type": "string", "enum": ["open", "waiting", "done", "cancelled"], "default": "open"},
            "notes": _TEXT,
            "project": {"type": "string", "minLength": 1, "maxLength": 256},
            "priority": {"type": "string", "enum": ["high", "medium", "low"]},
            "tags": _TAGS,
            "due": _TIME,
            "scheduled": _TIME,
            "created_at": _TIME,
            "done_at": _TIME,
        },
        "required": ["title"],
    },
    complete=_complete_task,
    follow=_follow_task,
    faults=_no_faults,
)


# ---- activities --------------------------------------------------------------------------------------------------
def _complete_activity(data: Data, now_ms: int) -> Data:
    return {} if data.get("started_at") is not None else {"started_at": iso_time(now_ms)}


def _activity_faults(data: Mapping[str, Any]) -> list[str]:
    started, ended = data.get("started_at"), data.get("ended_at")
    if isinstance(started, str) and isinstance(ended, str):
        first, last = _seconds(started), _seconds(ended)
        if first is not None and last is not None and last < first:
            return ["ended_at: must not be before started_at"]
    return []


def _seconds(text: str) -> float | None:
    """Unix seconds of an RFC 3339 time; None if it is none (the schema says so then)."""
    zone = _ZONE.search(text)
    try:
        clock, _, fraction = text[: zone.start() if zone else None].partition(".")
        at = _unix(clock) + float(f"0.{fraction or 0}")
    except ValueError:
        return None
    if zone and zone["sign"]:
        offset = int(zone["hours"]) * 3600 + int(zone["minutes"]) * 60
        at -= offset if zone["sign"] == "+" else -offset
    return at


def _unix(clock: str) -> int:
    import calendar  # noqa: PLC0415 - only where activities with an end are written

    return calendar.timegm(time.strptime(clock.upper(), "%Y-%m-%dT%H:%M:%S"))


_ACTIVITIES: Final = Builtin(
    title="What was done when",
    schema={
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 4_096},
            "kind": {"type": "string", "minLength": 1, "maxLength": 64},
            "app": {"type": "string", "minLength": 1, "maxLength": 256},
            "url": {"type": "string", "maxLength": 8_192},
            "started_at": _TIME,
            "ended_at": _TIME,
            "duration_s": {"type": "number", "minimum": 0},
            "tags": _TAGS,
        },
        "required": ["title"],
    },
    complete=_complete_activity,
    follow=_unchanged,
    faults=_activity_faults,
)

BUILTIN: Final[Mapping[str, Builtin]] = {"settings": _SETTINGS, "tasks": _TASKS, "activities": _ACTIVITIES}
