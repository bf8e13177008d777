"""What a person types for values and conditions: JSON, or FIELD=VALUE words."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

MAX_STDIN_BYTES: Final = 8 * 1024 * 1024
# Longest first: `<=` is not `<`. The marks are those of CSS where CSS has one.
_OPERATORS: Final = {
    "<=": "$lte",
    ">=": "$gte",
    "!=": "$ne",
    "^=": "$prefix",
    "~=": "$has",
    "=": "$eq",
    "<": "$lt",
    ">": "$gt",
}


def parse_value(text: str) -> Any:
    """A JSON value where it is one (`true`, 42, `"42"`, `[1, 2]`), else the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> Any:
    raise ValueError(name)


def parse_json(text: str, what: str) -> Any:
    """A JSON value. Raises: UsageError: says where it breaks."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        reason = error.msg.lower().removesuffix(" at")
        raise click.UsageError(f"{what} is not JSON: {reason} at character {error.pos + 1}.") from error
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} is not JSON that a document can hold: {error}.") from error


def parse_data(words: Sequence[str], *, example: str) -> dict[str, Any]:
    """A document's fields: one JSON object, `-` for one from stdin, or FIELD=VALUE words.

    Raises: UsageError: none of these. Args: example: how the command is used.
    """
    if not words or words == ("-",):
        if not words and sys.stdin.isatty():
            raise click.UsageError(f"What is to be written? {example}")
        text, what = _stdin(), "What came from stdin"
    elif len(words) == 1 and words[0].lstrip()[:1] in ("{", "["):
        text, what = words[0], "The value"
    else:
        return _pairs(words, example)
    value = parse_json(text, what)
    if not isinstance(value, dict):
        raise click.UsageError(f"{what} is not a JSON object. {example}")
    return value


def _stdin() -> str:
    raw = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(raw) > MAX_STDIN_BYTES:
        raise click.UsageError("What came from stdin is too long for a document; 'hybridgw import -' takes many.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError("What came from stdin is not UTF-8.") from error


def _pairs(words: Sequence[str], example: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for word in words:
        name, found, value = word.partition("=")
        if not found or not name:
            raise click.UsageError(f"{word!r} is neither FIELD=VALUE nor a JSON object. {example}")
        if name in fields:
            raise click.UsageError(f"The field {name!r} is there twice.")
        fields[name] = parse_value(value)
    return fields


def parse_filter(words: Sequence[str]) -> dict[str, Any]:
    """Conditions out of `status=open`, `due<2027`, `title^=Buy`, `tags~=home`. Raises: UsageError."""
    found: dict[str, Any] = {}
    for word in words:
        at, mark = min(
            ((at, mark) for mark in _OPERATORS if (at := word.find(mark)) > 0),
            key=lambda place: (place[0], -len(place[1])),
            default=(0, ""),
        )
        if not mark:
            raise click.UsageError(
                f"{word!r} is no condition. They look like status=open, 'due<2027', title^=Buy, tags~=home."
            )
        name, value = word[:at], parse_value(word[at + len(mark) :])
        conditions = found.setdefault(name, {})
        if _OPERATORS[mark] in conditions:
            raise click.UsageError(f"There are two conditions {name}{mark}.")
        conditions[_OPERATORS[mark]] = value
    return found
