"""Structured logs: one JSON object a line on stderr, or readable lines in development.

Fields: timestamp, level, logger, request_id, user_id, deployment_mode, event, message, context. What a message says as
`name=value` is repeated in `context`. Secrets do not get here; what looks like one is cut out all the same.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

_PAIR: Final = re.compile(r"\b([a-z_]+)=([^\s,;]+)")
_EVENT: Final = re.compile(r"[a-z]+(?: [a-z]+){0,3}(?=$| [a-z_]+=|:)")
_SECRETS: Final = (
    (re.compile(r"(hgw-invite=)[\w-]+"), r"\1[removed]"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}"), r"\1 [removed]"),
    (
        re.compile(r"(?i)\b(password|secret|token|authorization|api[_-]?key)([\"']?\s*[=:]\s*[\"']?)[^\s\"',;]+"),
        r"\1\2[removed]",
    ),
)
_NAMES: Final = {"connection": "connection_id", "address": "client_ip"}


def redact(text: str) -> str:
    """The text without what looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        message = redact(record.getMessage())
        found = {_NAMES.get(name, name): value for name, value in _PAIR.findall(message)}
        event = _EVENT.match(message)
        line: dict[str, object] = {
            "timestamp": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "request_id": None,
            "user_id": None,
            "deployment_mode": "relay",
            "event": event.group().replace(" ", "_") if event else "message",
            "message": message,
            "context": {"connection_id": None, "client_ip": None, "user_agent": None, **found},
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One readable line per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        line = f"{_time(record)[11:23]} {record.levelname:<7} {redact(record.getMessage())}"
        return f"{line}\n{redact(self.formatException(record.exc_info))}" if record.exc_info else line


def set_up(level: str, *, readable: bool, stream: TextIO | None = None) -> None:
    """Send all logs of this process to *stream* (stderr). Args: level: DEBUG, INFO, WARNING, ERROR."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter() if readable else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # what strangers send is no error of ours


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
