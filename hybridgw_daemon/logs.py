"""Logging: one JSON object per line in production, readable lines in development, to a file of bounded size.

What may be in a line: times, codes, ids, counts, sizes. What may not: content, tokens, keys. Values of type `Secret`
show as `***`; the text of an unknown exception may hold content and stands only in debug, else its type and its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
import traceback
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import msgspec

from hybridgw_protocol.runtime import Secret

MAX_FILE_BYTES: Final = 5 * 1024 * 1024
FILES_KEPT: Final = 3  # beside the current one
BUFFER_BYTES: Final = 32 * 1024
FLUSH_S: Final = 1.0  # how long a line below WARNING may wait; whoever runs the program calls flush() this often

_CONTEXT: Final[tuple[str, ...]] = (
    "connection_id", "client_ip", "user_agent", "method", "path", "status", "duration_ms", "error", "code",
)  # fmt: skip


class Line(msgspec.Struct):
    """One line as JSON; every field but `exception` is always there.

    timestamp: UTC, milliseconds; user_id: the credential that asked; event: a stable name for machines, message: for
    people.
    """

    timestamp: str
    level: str
    logger: str
    request_id: str | None
    user_id: str | None
    deployment_mode: str | None
    event: str
    message: str
    context: dict[str, Any]
    exception: str | msgspec.UnsetType = msgspec.UNSET


# What looks like a secret by its name or its form is cut out, should it ever get into a text. Code gives secrets the
# type Secret; this is for texts of libraries and of other machines.
_SECRETS: Final = (
    (re.compile(r"(hgw-invite=)[\w-]+"), r"\1***"),
    (re.compile(r"\bhg[dw]_[\w-]{8,}"), "***"),
    (re.compile(r"(#link=)[\w-]+"), r"\1***"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), "***"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)([\w-]*(?:password|passphrase|secret|token|authorization|api[_-]?key|private[_-]?key)[\w-]*"
                r"[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+"), r"\1***"),
    (re.compile(r"\b\d{3}-\d{3}-\d{3}\b"), "***"),  # a pairing code
)  # fmt: skip
_MAY_HOLD: Final = re.compile(r"(?i)hg[dw]|#link|eyj|bearer|basic|pass|secret|token|author|key|\d{3}-\d{3}-\d{3}")


def redact(text: str) -> str:
    """The text without what looks like a secret."""
    if _MAY_HOLD.search(text):
        for pattern, replacement in _SECRETS:
            text = pattern.sub(replacement, text)
    return text


def _hook(value: object) -> str:
    return repr(value) if isinstance(value, Secret) else str(value)


class _Times:
    """Times as text; what changes once a second is formed once a second."""

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def text(self, at: float) -> str:
        """UTC with milliseconds, RFC 3339."""
        second = int(at)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((at - second) * 1000):03d}Z"


class JsonFormatter(logging.Formatter):
    """Args: debug: with whole stack traces and the texts of unknown exceptions."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug
        self._encode = msgspec.json.Encoder(enc_hook=_hook).encode
        self._times = _Times()

    def format(self, record: logging.LogRecord) -> str:
        """One line without its newline."""
        given = record.__dict__
        context = {name: given.get(name) for name in _CONTEXT[:3]}
        context |= {name: given[name] for name in _CONTEXT[3:] if name in given}
        return self._encode(
            Line(
                timestamp=self._times.text(record.created),
                level=record.levelname,
                logger=record.name,
                event=given.get("event") or record.name.rpartition(".")[2],
                message=redact(record.getMessage()),
                request_id=given.get("request_id"),
                user_id=given.get("user_id"),
                deployment_mode=given.get("deployment_mode"),
                context=context,
                exception=redact(describe(record.exc_info, debug=self._debug) or "") or msgspec.UNSET,
            )
        ).decode()


class ReadableFormatter(logging.Formatter):
    """For a person at a terminal."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a stack trace below it in debug."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{at} {record.levelname:<7} {record.name.removeprefix('hybridgw_daemon.')}: {record.getMessage()}"
        line, what = redact(line), redact(describe(record.exc_info, debug=self._debug) or "")
        return f"{line}\n{what}" if what else line


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None


def describe(exc_info: _ExcInfo, *, debug: bool) -> str | None:
    """An exception for the log: all of it in debug; else its type and the places it went through, without its text."""
    if not exc_info or exc_info[0] is None or exc_info[1] is None:
        return None
    if debug:
        return "".join(traceback.format_exception(*exc_info)).rstrip()
    kind, error, trace = exc_info
    places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)[-8:]]
    inner = "".join(f" + {type(e).__name__}" for e in getattr(error, "exceptions", ()))
    return f"{kind.__name__}{inner} at {' > '.join(places)}"


class LogFile(logging.Handler):
    """Appends to a file of mode 0600 in few writes, turned over in time. A full disk loses lines, no more."""

    def __init__(self, path: Path, most_bytes: int = MAX_FILE_BYTES) -> None:
        """Args: most_bytes: of one file; FILES_KEPT older ones stay."""
        super().__init__()
        self._most_bytes = most_bytes
        self._path = path
        self._buffer: list[str] = []
        self._buffered = 0
        self._file: IO[bytes] | None = None
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line; write at once what is a warning or more."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - a line that cannot be formatted must not end a request
            self.handleError(record)
            return
        self.add(line)
        if record.levelno >= logging.WARNING:
            self.flush()

    def add(self, line: str) -> None:
        """Keep a line that is formed already."""
        self._buffer.append(line)
        self._buffered += len(line)
        if self._buffered >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        with self.lock or contextlib.nullcontext():
            if not self._buffer:
                return
            lines, self._buffer, self._buffered = self._buffer, [], 0
            data = ("\n".join(lines) + "\n").encode("utf-8", "replace")
            with contextlib.suppress(OSError):
                if self._file is None or self._size + len(data) > self._most_bytes:
                    self._turn_over(len(data))
                if self._file is not None:
                    self._file.write(data)
                    self._size += len(data)

    def _turn_over(self, needed: int) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        held = self._path.stat().st_size if self._path.exists() else 0
        if held + needed > self._most_bytes:
            for k in range(FILES_KEPT, 0, -1):
                older = self._path if k == 1 else self._path.with_name(f"{self._path.name}.{k - 1}")
                if older.exists():
                    os.replace(older, self._path.with_name(f"{self._path.name}.{k}"))
            held = 0
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file, self._size = os.fdopen(handle, "ab", buffering=0), held

    def close(self) -> None:
        """Write the rest and close."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


class Logging:
    """What `setup` made; undone by `close`."""

    def __init__(self, handlers: list[logging.Handler], level: int, *, readable: bool) -> None:
        self._handlers = handlers
        self._level = level
        self._readable = readable
        self._times = _Times()
        root = logging.getLogger()
        self._before = (root.level, root.handlers[:], threading.excepthook)
        root.handlers[:] = handlers
        root.setLevel(level)
        threading.excepthook = _thread_failed

    def access(
        self,
        method: str,
        path: str,
        status: int,
        took_ms: float,
        request_id: str,
        code: str | None = None,
        user_id: str | None = None,
        client_ip: str | None = None,
        user_agent: str | None = None,
        connection: str | None = None,
        mode: str | None = None,
    ) -> None:
        """One line per call of the local API, at INFO.

        Args: path: the template of the route, never what was sent; connection, mode: of a WebSocket.

        Made without the logging machinery, which would cost a tenth of a small request.
        """
        if self._level > logging.INFO:
            return
        now = time.time()
        method = method if method.isalpha() and method.isascii() else "-"
        if self._readable:
            line = f"{time.strftime('%H:%M:%S', time.localtime(now))} INFO    {method} {path} {status} {took_ms:.2f} ms"
        else:
            more = f',"code":"{code}"' if code else ""
            carrier = "http" if connection is None else "ws"
            line = (
                f'{{"timestamp":"{self._times.text(now)}","level":"INFO","logger":"access","request_id":"{request_id}",'
                f'"user_id":{_text(user_id)},"deployment_mode":{_text(mode)},"event":"{carrier}.access",'
                f'"message":"{method} {path} {status}","context":{{"connection_id":{_text(connection)},'
                f'"client_ip":{_text(client_ip)},"user_agent":{_text(user_agent)},"method":"{method}","path":"{path}",'
                f'"status":{status},"duration_ms":{took_ms:.2f}{more}}}}}'
            )
        for handler in self._handlers:
            if isinstance(handler, LogFile):
                handler.add(line)
            elif isinstance(handler, logging.StreamHandler):
                handler.stream.write(f"{line}\n")

    def flush(self) -> None:
        """Write buffered lines."""
        for handler in self._handlers:
            handler.flush()

    def close(self) -> None:
        """Write the rest; logging is as it was before."""
        root = logging.getLogger()
        root.level, root.handlers[:], threading.excepthook = self._before
        logging.getLogger("trace").setLevel(logging.NOTSET)
        for handler in self._handlers:
            handler.close()


@lru_cache(maxsize=256)
def _text(text: str | None) -> str:
    """JSON of a text from outside, which may be anything; the same few come again and again."""
    if text is None:
        return "null"
    return msgspec.json.encode(redact(text.encode("utf-8", "replace").decode())).decode()


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    info = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    logging.getLogger("threads").error("thread %s failed", args.thread and args.thread.name, exc_info=info)


def setup(path: Path | None, *, level: str, debug: bool, readable: bool, terminal: bool) -> Logging:
    """Begin to log. Args: path: the file, None for none; terminal: to stderr as well."""
    formatter = ReadableFormatter(debug=debug) if readable else JsonFormatter(debug=debug)
    handlers: list[logging.Handler] = []
    if path is not None:
        handlers.append(LogFile(path))
    if terminal:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(formatter)
    made = Logging(handlers, logging.DEBUG if debug else getattr(logging, level), readable=readable)
    logging.getLogger("trace").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    return made
