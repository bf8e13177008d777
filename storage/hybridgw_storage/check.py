"""Did the last use of a file end cleanly, and if not, is the file sound: a marker beside it, a check beside serving.

The marker `<file>.in-use` is made before the first write and taken away when the file was closed in order. One that is
found at a start says that the last use was killed or lost its power. WAL and `synchronous=FULL` bring such a file back
by themselves; what a check can find then is what the disk or another program did to it. So it runs beside serving, on
a connection of its own, and only then: `quick_check` takes seconds per gigabyte. The marker stays until a check
ended and found nothing, so a check that was cut short, or that found damage, is made again at the next start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from hybridgw_protocol.errors import HybridGWError

from .connection import connect

log = logging.getLogger(__name__)

MARKER_SUFFIX: Final = ".in-use"
_MOST_PROBLEMS: Final = 3


class Soundness(NamedTuple):
    """What a check found; `problems` in SQLite's words, at most three."""

    sound: bool
    problems: tuple[str, ...] = ()


def begin_use(path: Path) -> bool:
    """Mark the file as in use, durably. Returns whether its last use ended cleanly (also if there was none).

    A marker that cannot be made (a full disk) is told in the log and costs a check that might have been due.
    """
    marker = _marker(path)
    try:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(marker.parent)
    except FileExistsError:
        return False
    except OSError as error:
        log.warning("cannot mark %s as in use: %s", path.name, error)
    return True


def end_use(path: Path) -> None:
    """The file was closed in order and is sound as far as is known. Not synced: one marker too many costs a check."""
    with contextlib.suppress(OSError):
        _marker(path).unlink(missing_ok=True)


def is_sound(path: Path) -> bool:
    """quick_check on a connection of its own; False when it finds damage. Seconds per gigabyte."""
    try:
        connection = connect(path, read_only=True)
    except HybridGWError:
        return False
    with contextlib.closing(connection):
        return _quick_check(connection).sound


class BackgroundCheck:
    """`quick_check` on a thread of its own. `on_result` is called there once, unless `stop` came first."""

    def __init__(self, path: Path, on_result: Callable[[Soundness], None]) -> None:
        self._path = path
        self._on_result = on_result
        self._connection: sqlite3.Connection | None = None
        self._stop = threading.Event()
        self.result: Soundness | None = None
        self._thread = threading.Thread(target=self._run, name="sqlite-check", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it now, within milliseconds however large the file; waits for the thread."""
        self._stop.set()
        while self._thread.is_alive():
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):  # closed by its thread just now
                    self._connection.interrupt()
            self._thread.join(0.01)  # an interrupt between two statements is lost: again

    def _run(self) -> None:
        try:
            self._connection = connect(self._path, read_only=True, cache_kib=4096)
        except HybridGWError as error:
            found = Soundness(False, (error.message,))
        else:
            with contextlib.closing(self._connection):
                if self._stop.is_set():
                    return
                found = _quick_check(self._connection)
        if self._stop.is_set():
            return  # what an interrupted check says means nothing
        self.result = found
        self._on_result(found)


def _quick_check(connection: sqlite3.Connection) -> Soundness:
    try:
        said = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MOST_PROBLEMS})")]
    except sqlite3.Error as error:
        said = [str(error)]
    return Soundness(True) if said == ["ok"] else Soundness(False, tuple(said[:_MOST_PROBLEMS]))


def sync_folder(folder: Path) -> None:
    """Make a new name in *folder* durable; Windows has no such call and does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _marker(path: Path) -> Path:
    return path.with_name(path.name + MARKER_SUFFIX)
