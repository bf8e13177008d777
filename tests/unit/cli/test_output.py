"""What is printed: where, how wide, and that no text from outside steers a terminal."""

from __future__ import annotations

import io
import json

import pytest

from hybridgw_cli.output import (
    Output,
    ago_text,
    bytes_text,
    clean,
    columns,
    count_text,
    duration_text,
    has_colours,
    to_json,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_sec_P5_text_from_outside_cannot_steer_a_terminal() -> None:
    hostile = "a\x1b[2Jb\x9b31mc\u202ed\u2066e\rf\ng\ud800h\x00"
    shown = clean(hostile)
    assert shown == "a\\x1b[2Jb\\x9b31mc\\u202ed\\u2066e\\rf\\ng\\ud800h\\x00"
    shown.encode()
    text = to_json({"name": hostile, "ü": "東京"})
    text.encode()
    assert json.loads(text) == {"name": hostile, "ü": "東京"}
    assert not [c for c in text if ord(c) < 32 or c in "\x9b\u202e\u2066\ud800"]
    assert "東京" in text


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("東京東京", 8, "東京東京"),
        ("東京東京", 6, "東京…"),
        ("abc", 0, "abc"),
    ],
)
def test_text_is_cut_by_columns(text: str, width: int, shown: str) -> None:
    assert clean(text, width) == shown
    assert columns(shown) <= (width or 100)


def test_tables_are_aligned_and_uncut_for_programs() -> None:
    out = io.StringIO()
    Output(out=out, talk=io.StringIO()).table([["東京", "x" * 100], ["a", "y"]], ["name", "value"])
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("name  value")
    assert lines[1] == "東京  " + "x" * 100
    assert lines[2] == "a     y"
    terminal = Terminal()
    Output(out=terminal, talk=io.StringIO()).table([["x" * 100]], ["name"])
    assert "x" * 59 + "…" in terminal.getvalue()


@pytest.mark.parametrize(
    ("no_color", "term", "colours"), [("", "xterm", True), ("1", "xterm", False), ("", "dumb", False)]
)
def test_colours_only_where_they_are_wanted(
    no_color: str, term: str, colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    assert has_colours(Terminal()) is colours
    assert not has_colours(io.StringIO())
    out = Output(out=Terminal(), talk=io.StringIO())
    assert ("\x1b" in out.paint("x", "red")) is colours
    assert "\x1b" not in out.paint("x", "red", talk=True)


def test_results_and_talk_go_apart() -> None:
    out, talk = io.StringIO(), io.StringIO()
    output = Output(out=out, talk=talk)
    output.result("result")
    output.say("talk")
    output.warn("look")
    output.error("broken", "code", {})
    assert out.getvalue() == "result\n"
    assert talk.getvalue() == "talk\nwarning: look\nerror: broken\n"
    output.as_json = True
    output.error("broken", "not_found", {"field": "x"})
    assert json.loads(out.getvalue().splitlines()[1]) == {
        "error": {"code": "not_found", "message": "broken", "detail": {"field": "x"}}
    }


def test_json_is_indented_for_people_only() -> None:
    for stream, lines in ((io.StringIO(), 1), (Terminal(), 3)):
        Output(out=stream, talk=io.StringIO()).json({"a": 1})
        assert len(stream.getvalue().splitlines()) == lines


def test_waiting_moves_on_a_terminal_and_is_said_once_elsewhere() -> None:
    talk = io.StringIO()
    with Output(out=io.StringIO(), talk=talk).waiting("Waiting ...") as spinner:
        for _ in range(5):
            spinner.tell("still")
            spinner.advance(1)
    assert talk.getvalue() == "Waiting ...\n"
    terminal = Terminal()
    with Output(out=io.StringIO(), talk=terminal).waiting("Waiting ...") as spinner:
        spinner.tell("still")
    assert "Waiting ..." in terminal.getvalue()
    assert "still" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")  # nothing of it stays


def test_a_progress_bar_is_drawn_on_a_terminal_only() -> None:
    for talk, drawn in ((Terminal(), True), (io.StringIO(), False)):
        with Output(out=io.StringIO(), talk=talk).progress("Importing", 10) as bar:
            bar.advance(5)
            bar.tell("5 documents")
        assert ("Importing" in talk.getvalue()) is drawn


def test_a_stream_in_ascii_shows_what_it_can() -> None:
    raw = io.BytesIO()
    out = Output(out=io.TextIOWrapper(raw, encoding="ascii"), talk=io.StringIO())
    out.result("Größe")
    out.flush()
    assert raw.getvalue() == b"Gr\\xf6\\xdfe\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (bytes_text(0), "0 B"), (bytes_text(999), "999 B"), (bytes_text(1_234), "1.2 KiB"),
        (bytes_text(123_456), "121 KiB"), (bytes_text(2**30), "1.0 GiB"),
        (count_text(1, "document"), "1 document"), (count_text(1204, "document"), "1,204 documents"),
        (count_text(2, "batch", "batches"), "2 batches"),
        (duration_text(0.4), "0 s"), (duration_text(119), "119 s"), (duration_text(600), "10 min"),
        (duration_text(7200), "2 h"), (duration_text(10 * 86400), "10 d"), (duration_text(-5), "0 s"),
        (ago_text(None, 5), "never"), (ago_text(0, 600_000), "10 min ago"),
    ],
)  # fmt: skip
def test_numbers_for_people(text: str, shown: str) -> None:
    assert text == shown
