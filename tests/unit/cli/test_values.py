"""What a person types for values and conditions."""

from __future__ import annotations

import io
import sys
from typing import Any

import click
import pytest

from hybridgw_cli.values import MAX_STDIN_BYTES, parse_data, parse_filter, parse_value


class Stdin(io.TextIOWrapper):
    """A real text stream over bytes, as a pipe gives it."""

    def __init__(self, raw: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(raw), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Buy milk", "Buy milk"), ("42", 42), ('"42"', "42"), ("true", True), ("null", None), ("[1, 2]", [1, 2]),
        ("", ""), ("NaN", "NaN"), ("{a}", "{a}"), ("007", "007"), ("1.5", 1.5), ("[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_a_value_is_json_where_it_is_one(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (('{"title": "x"}',), {"title": "x"}),
        (("title=Buy milk", "done=false", "note="), {"title": "Buy milk", "done": False, "note": ""}),
        (("a=b=c",), {"a": "b=c"}),
    ],
)
def test_data_is_an_object_or_pairs(words: tuple[str, ...], data: Any) -> None:
    assert parse_data(words, example="") == data


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("title",), "neither FIELD=VALUE nor a JSON object. Like this"),
        (("=x",), "neither"),
        (("a=1", "a=2"), "twice"),
        (('{"a": 1',), "not JSON: expecting"),
        (('{"a": NaN}',), "not JSON"),
        (('{"a": "x',), "unterminated string starting at character 7."),
        (("[1]",), "not a JSON object. Like this"),
    ],
)
def test_what_is_no_document_is_refused(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(click.UsageError, match=says):
        parse_data(words, example="Like this")


def test_data_comes_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b'\xef\xbb\xbf{"a": 1}\n'))
    assert parse_data(("-",), example="") == {"a": 1}
    monkeypatch.setattr(sys, "stdin", Stdin(b'{"a": 2}'))
    assert parse_data((), example="") == {"a": 2}


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        (Stdin(b"", terminal=True), "What is to be written"),
        (Stdin(b"\xff"), "not UTF-8"),
        (Stdin(b""), "not JSON"),
        (Stdin(b" " * (MAX_STDIN_BYTES + 1)), "too long"),
    ],
)
def test_bad_stdin_is_refused(stdin: Stdin, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(click.UsageError, match=says):
        parse_data((), example="")


def test_conditions() -> None:
    assert parse_filter(
        ("status=open", "due<2027", "due>=2026-01-01", "title^=Buy", "tags~=home", "n!=3", "x=a<b")
    ) == {
        "status": {"$eq": "open"},
        "due": {"$lt": 2027, "$gte": "2026-01-01"},
        "title": {"$prefix": "Buy"},
        "tags": {"$has": "home"},
        "n": {"$ne": 3},
        "x": {"$eq": "a<b"},
    }


@pytest.mark.parametrize(("word", "says"), [("status", "no condition"), ("=x", "no condition"), ("", "no condition")])
def test_what_is_no_condition_is_refused(word: str, says: str) -> None:
    with pytest.raises(click.UsageError, match=says):
        parse_filter((word,))
    with pytest.raises(click.UsageError, match="two conditions"):
        parse_filter(("a=1", "a=2"))
