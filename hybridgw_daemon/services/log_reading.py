"""The end of the log file, for a person who looks at it in the dashboard. Writing it: logs.py."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from hybridgw_protocol.errors import StorageUnavailable
from hybridgw_protocol.localapi_operations import ListLogs, LogEntry, LogPage

Worker = Callable[[Callable[[], LogPage]], Awaitable[LogPage]]

READ_BYTES: Final = 512 * 1024  # from the end; some thousand lines
ACCESS: Final = ".access"  # end of the event of such a line, as logs.py writes it
_RANK: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


class LogReader:
    """What `/api/logs` does. Args: worker: runs what waits for the disk beside the loop."""

    def __init__(self, path: Path, *, worker: Worker) -> None:
        self._path, self._worker = path, worker

    async def list(self, command: ListLogs) -> LogPage:
        """Latest first. Raises: StorageUnavailable."""
        return await self._worker(
            lambda: LogPage(items=latest(self._end(), command.level, command.limit, with_calls=command.calls))
        )

    def _end(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - READ_BYTES))
                return file.read(READ_BYTES)
        except FileNotFoundError:
            return b""  # nothing was logged, or it is being rotated at this moment
        except OSError as error:
            raise StorageUnavailable(f"The log cannot be read: {error.strerror}.") from error


def latest(end: bytes, level: str, limit: int, *, with_calls: bool) -> list[LogEntry]:
    """The last lines of at least this level, latest first. A line that is none of ours, or cut, is left out.

    Args: with_calls: also the line that each call of a program leaves; a page that looks at the log leaves many.
    """
    found: list[LogEntry] = []
    for raw in reversed(end.splitlines()):
        try:
            entry = msgspec.json.decode(raw, type=LogEntry)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if entry.event.endswith(ACCESS) and entry.level in ("DEBUG", "INFO") and not with_calls:
            continue
        if _RANK.get(entry.level, 0) >= _RANK[level]:
            found.append(entry)
            if len(found) == limit:
                break
    return found
