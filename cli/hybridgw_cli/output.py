"""The only place that prints. Results go to stdout, talk to stderr; text from outside cannot steer a terminal.

`rich` is loaded only for progress bars, and only when stderr is a terminal; everything else is plain text with a few
ANSI colours, none when NO_COLOR is set, TERM is dumb, or the stream is no terminal (no-color.org).
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Final, NoReturn, Protocol

from hybridgw_protocol.errors import StateError

# Controls (C0 without tab, C1), line and paragraph separators, and what turns the direction of text.
_STEERING: Final = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_STEERING_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_COLOURS: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_SPINNER_S: Final = 0.1


def clean(text: object, width: int = 0) -> str:
    """Text that a terminal only shows: whatever could steer it is written out as \\x1b or \\u202e.

    Args: width: cut to so many columns, with an ellipsis; 0 is no limit.
    """
    shown = _STEERING.sub(_escaped, str(text))
    return shown if not width or columns(shown) <= width else _cut(shown, width - 1) + "…"


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return {10: "\\n", 13: "\\r"}.get(number) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def columns(text: str) -> int:
    """Columns that a terminal needs for it: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def _cut(text: str, width: int) -> str:
    while columns(text) > width:
        text = text[:-1]
    return text


class Progress(Protocol):
    """A long work's progress."""

    def advance(self, amount: int) -> None:
        """So much more is done."""
        ...

    def tell(self, text: str) -> None:
        """Say what is going on now."""
        ...


class _Silent:
    """Progress where nobody looks."""

    def advance(self, amount: int) -> None:
        pass

    def tell(self, text: str) -> None:
        pass


class Output:
    """Where a command says things. as_json: results are JSON; `error` then too."""

    def __init__(self, *, as_json: bool = False, out: IO[str] | None = None, talk: IO[str] | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._talk = talk or sys.stderr
        for stream in (self._out, self._talk):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal in ASCII shows what it can

    # ---- results -------------------------------------------------------------------------------------------------
    def result(self, text: str = "") -> None:
        """A line of the result. Text from outside in it has gone through `clean`."""
        self._put(text + "\n")

    def raw(self, text: str) -> None:
        """A part of a result that is a file of its own, as it is."""
        self._put(text)

    def json(self, value: Any) -> None:
        """A result as JSON: indented for a terminal, one line otherwise."""
        self._put(to_json(value, indent=2 if is_terminal(self._out) else None) + "\n")

    def json_line(self, value: Any) -> None:
        """One of many results, each a line of JSON."""
        self._put(to_json(value) + "\n")

    def table(self, rows: Iterable[Sequence[object]], header: Sequence[str]) -> None:
        """Rows under a header, columns aligned. Cells are made clean."""
        width = 60 if is_terminal(self._out) else 0  # a program that reads it gets all of it
        cells = [[clean(cell, width) for cell in row] for row in rows]
        widths = [max(columns(row[at]) for row in [list(header), *cells]) for at in range(len(header))]
        self.result(self.paint(_line(header, widths), "dim"))
        for row in cells:
            self.result(_line(row, widths))

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What there is to know about one thing, a line each. Values are as given, colours and all."""
        pairs = list(pairs)
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.result(f"{self.paint(name.ljust(width), 'dim')}  {value}")

    # ---- talk ----------------------------------------------------------------------------------------------------
    def say(self, text: str) -> None:
        """Something for the person, beside the result."""
        self._talk.write(text + "\n")
        self._talk.flush()

    def warn(self, text: str) -> None:
        """Something the person should look at."""
        self.say(f"{self.paint('warning:', 'yellow', talk=True)} {text}")

    def error(self, text: str, code: str, detail: dict[str, object]) -> None:
        """Why the command failed; with --json, also as `{"error": …}` on stdout."""
        self.say(f"{self.paint('error:', 'red', talk=True)} {text}")
        if self.as_json:
            self._put(to_json({"error": {"code": code, "message": text, "detail": detail}}) + "\n")

    def flush(self) -> None:
        """Everything is out. Raises: BrokenPipeError; StateError: it cannot be written."""
        try:
            self._out.flush()
        except OSError as error:
            self._give_up(error)
        self._talk.flush()

    def _put(self, text: str) -> None:
        try:
            self._out.write(text)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> NoReturn:
        """The file behind a redirection takes nothing more, as on a full disk; nor shall it at the end once more."""
        if isinstance(error, BrokenPipeError):
            raise error
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
        raise StateError(
            f"The output cannot be written: {error.strerror}. What is there of it is not whole."
        ) from error

    def paint(self, text: str, colour: str, *, talk: bool = False) -> str:
        """The text in a colour, where colours are wanted."""
        if not has_colours(self._talk if talk else self._out):
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    # ---- long work -----------------------------------------------------------------------------------------------
    @property
    def is_watched(self) -> bool:
        """Is somebody looking at the talk on a terminal."""
        return is_terminal(self._talk)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Progress]:
        """A bar on stderr while work goes on, if it is a terminal. Args: total: None if it is not known."""
        if not self.is_watched or self.as_json:
            yield _Silent()
            return
        import rich.console
        import rich.progress

        bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(file=self._talk, no_color=not has_colours(self._talk)),
            transient=True,
        )
        with bar:
            task = bar.add_task(clean(what), total=total, note="")

            class Bar:
                def advance(self, amount: int) -> None:
                    bar.advance(task, amount)

                def tell(self, text: str) -> None:
                    bar.update(task, note=clean(text))

            yield Bar()

    @contextmanager
    def waiting(self, what: str) -> Iterator[Progress]:
        """A line that moves while we wait: call `tell` often. Without a terminal it says once what is waited for."""
        if not self.is_watched:
            self.say(what)
            yield _Silent()
            return
        talk, began = self._talk, time.monotonic()

        class Spinner:
            def advance(self, amount: int) -> None:
                self.tell(what)

            def tell(self, text: str) -> None:
                mark = "|/-\\"[int((time.monotonic() - began) / _SPINNER_S) % 4]
                talk.write(f"\r\x1b[K{mark} {text}")
                talk.flush()

        spinner = Spinner()
        spinner.tell(what)
        try:
            yield spinner
        finally:
            talk.write("\r\x1b[K")
            talk.flush()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell + " " * (width - columns(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that people can read and a terminal cannot be steered by: letters as they are, controls escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":"))
    return _STEERING_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def is_terminal(stream: IO[str]) -> bool:
    """Does somebody look at it."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def has_colours(stream: IO[str]) -> bool:
    """May it be coloured."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# ---- how things are written ----------------------------------------------------------------------------------------
def bytes_text(size: float) -> str:
    """`812 B`, `1.2 MiB`: powers of 1024, as a relay counts its room."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count_text(number: int, one: str, many: str = "") -> str:
    """`1 document`, `1,204 documents`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def time_text(at_ms: int) -> str:
    """Local time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ms / 1000))


def duration_text(seconds: float) -> str:
    """`8 s`, `6 min`, `3 h`, `12 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def ago_text(at_ms: int | None, now_ms: int) -> str:
    """`6 min ago`, `never`."""
    return "never" if at_ms is None else f"{duration_text((now_ms - at_ms) / 1000)} ago"
