"""Opening one SQLite file with the project's settings, and sqlite3's exceptions turned into ours where they enter."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from hybridgw_protocol.errors import Busy, DatabaseDamaged, DiskFull, HybridGWError, StorageUnavailable

BUSY_TIMEOUT_S: Final = 10.0

# Codes of a file that may not grow: no space, a quota (EDQUOT) or a limit of the process (EFBIG). SQLite tells only the
# first as SQLITE_FULL. A failing medium gives the same codes; the message names both.
HELPS: Final = (
    "Stop its program and move it away, with the files of the same name that end in -wal and -shm; then put a backup "
    "in its place, or begin anew: other devices have all that was synced."
)
_CANNOT_GROW: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})


Trace = Callable[[str, float], None]
"""Told each statement with its placeholders, never the values, and the seconds until it had run (a query: to its first
row). On the thread that ran it."""


class _Traced(sqlite3.Connection):
    """sqlite3's own trace gives the text with the values in it, which no log may hold; so the calls are watched."""

    trace: Trace

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        started = time.perf_counter()
        try:
            return super().execute(sql, *arguments)
        finally:
            self.trace(sql, time.perf_counter() - started)

    def executemany(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        started = time.perf_counter()
        try:
            return super().executemany(sql, *arguments)
        finally:
            self.trace(sql, time.perf_counter() - started)


def connect(
    path: Path, *, read_only: bool = False, cache_kib: int = 16 * 1024, timeout_s: float = BUSY_TIMEOUT_S,
    trace: Trace | None = None,
) -> sqlite3.Connection:  # fmt: skip
    """A connection with the project's settings; the caller owns it.

    Args: timeout_s: how long it waits for a lock that another connection holds; trace: for debugging.
    Raises: DatabaseDamaged: not a database; StorageUnavailable: cannot be opened or is not writable.
    """
    with translated(path):
        target = f"file:{_quoted(path)}?mode={'ro' if read_only else 'rwc'}"
        connection = sqlite3.connect(
            target, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256,
            factory=sqlite3.Connection if trace is None else _Traced,
        )  # fmt: skip
        if isinstance(connection, _Traced) and trace is not None:
            connection.trace = trace
        try:
            connection.execute(f"PRAGMA cache_size=-{cache_kib}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA temp_store=MEMORY")
            if read_only:
                connection.execute("PRAGMA query_only=ON")
            else:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA fullfsync=ON")  # macOS: fsync alone does not reach the platter
                connection.execute("PRAGMA wal_autocheckpoint=0")
        except BaseException:
            connection.close()
            raise
        return connection


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn sqlite3's exceptions into ours where they enter."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def translate(error: sqlite3.Error, path: Path) -> HybridGWError:
    """The error of our tree for an exception of sqlite3, with what to do next."""
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if extended in _CANNOT_GROW:
        return DiskFull(
            f"No space left for {path.name} (or the disk refuses it); nothing was half-written. "
            "Free some space and try again."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamaged(f"{path} is damaged ({error}). {HELPS}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"Another program holds {path.name} locked. Close it, then try again.")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        return StorageUnavailable(f"{path} cannot be opened or written ({error}). Check the folder's owner and space.")
    return StorageUnavailable(f"SQLite refused: {error}")
