"""One SQLite file: one writer with group commit, readers beside it, checkpoints off the writer.

What it promises: a write that returned is on the disk (`synchronous=FULL`); a write that raised changed nothing; a
write whose caller was cancelled may have happened, so writes are idempotent by id. Writes are functions of the open
transaction; up to GROUP of them share one commit, in the order they were asked for. One exception: when the disk fails
a sync, nobody can tell what it kept; a write that raised then is seen by no reader, but a crash before the next write
may bring it back.

A function that refuses (raises a LocalError) before it changed a row costs nothing; it must not have changed the memo
either. Anything else that is raised rolls the whole group back, and the group runs again in parts, in the same order:
what came before the one that raised, that one alone, what came after it. So write functions must be repeatable.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

from hybridgw_protocol.errors import Busy, HybridGWError, LocalError, StorageUnavailable

from . import memory
from .check import BackgroundCheck, Soundness, begin_use, end_use
from .connection import Trace, connect, translate, translated

T = TypeVar("T")
Connection = sqlite3.Connection  # for the signatures of those who may not import sqlite3
log = logging.getLogger(__name__)

GROUP: Final = 256  # requests per commit; more adds latency, not throughput
QUEUE: Final = 20_000  # waiting writes, about two seconds of them; the callers' own bounds lie below
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024  # PASSIVE above, on the helper thread
CHECKPOINT_S: Final = 1.0  # at most one PASSIVE in this time
TRUNCATE_BYTES: Final = 64 * 1024 * 1024  # a log this long is cut back, writers wait meanwhile
TRUNCATE_WAIT_S: Final = 0.2  # a slow reader may hold up a TRUNCATE, and with it the writer, so long; it is tried again
IDLE_CHECKPOINT_S: Final = 5.0
GIVE_BACK_S: Final = 60.0  # while there is always something to write, memory is given back at most this often
_POLL_S: Final = 0.25


class Tx:
    """An open write transaction, handed to write functions; valid only inside them.

    `memo` is a cache of rows that survives commits and is emptied by a rollback: what is in it is what is in the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.memo: dict[Any, Any] = {}
        self._before: dict[Any, Callable[[], None]] = {}
        self._after: list[Callable[[], None]] = []

    def before_commit(self, key: object, action: Callable[[], None]) -> None:
        """Run *action* once at the end of the group, in the transaction; the last one given for *key* counts, and its
        place: actions run in the order in which they were last asked for.

        An action may ask for further ones, also under a key that has run: it runs again.
        """
        self._before.pop(key, None)
        self._before[key] = action

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run *action* once the group is on the disk, on the writer's thread, before the callers are told."""
        self._after.append(action)

    def _begin(self) -> None:
        self._before.clear()
        self._after.clear()
        self.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        while self._before:
            self._before.pop(next(iter(self._before)))()
        self.execute("COMMIT")

    def _rollback(self) -> None:
        self.memo.clear()
        if self.connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # whatever it says, SQLite has ended the transaction
                self.execute("ROLLBACK")

    def _tell(self) -> None:
        """Run what was to follow the commit. It is on the disk now: a fault here must not repeat the writes."""
        for action in self._after:
            try:
                action()
            except Exception:
                log.exception("an action after a commit failed")


class Database(Protocol):
    """What services need of a database; `open_database` gives the real one, `InlineDatabase` one without threads."""

    path: Path

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run *fn* in a transaction; returns once it is durable. Cancelling the caller does not undo it."""
        ...

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run *fn* on a read-only connection off the event loop: for queries that may take milliseconds."""
        ...

    def peek(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run *fn* at once on the caller's own read-only connection: for point reads of microseconds."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, checkpoint, close. Idempotent."""
        ...


class SqliteDatabase:
    """The real one: a writer thread, a checkpoint thread, a small pool of readers.

    Args: cache_kib: page cache of the writer; readers: threads of `read`; on_check: if the last use of the file did
    not end cleanly, a check runs beside serving and its result is given here, on the check's thread; on_commit: told,
    on the writer's thread, how many seconds each group took and how many writes it had; trace: of statements, in debug.
    """

    def __init__(
        self,
        path: Path,
        *,
        cache_kib: int = 16 * 1024,
        readers: int = 2,
        on_check: Callable[[Soundness], None] | None = None,
        on_commit: Callable[[float, int], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.path = path
        self._on_commit, self._trace = on_commit, trace
        self._connection = connect(path, cache_kib=cache_kib, trace=trace)
        self.ended_cleanly = begin_use(path)  # the use before this one
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()  # nothing is queued after the end mark; no reader opens after the close
        self._ended: asyncio.Future[None] | None = None
        self._local = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-reader")
        self._dirty = threading.Event()
        self._stop_checkpoints = threading.Event()
        self._writer = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._checkpointer = threading.Thread(target=self._checkpoint_loop, name="sqlite-checkpoint", daemon=True)
        self._writer.start()
        self._checkpointer.start()
        self._check = BackgroundCheck(path, on_check) if on_check and not self.ended_cleanly else None

    # -- asked for by services
    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run *fn* in a transaction; returns once it is durable.

        Raises: what *fn* raises; DiskFull, StorageUnavailable; Busy: QUEUE writes wait already.
        """
        loop = asyncio.get_running_loop()
        request = Request(fn, loop, loop.create_future())
        with self._lock:
            self._check_open()
            if self._queue.qsize() >= QUEUE:
                raise Busy("Too many writes are waiting for the disk; try again in a moment.")
            self._queue.put(request)
        assert request.waiter is not None  # noqa: S101 - made above
        return cast(T, await request.waiter)

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run *fn* on a reader thread's own read-only connection."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.peek, fn)

    def peek(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run *fn* at once on this thread's own read-only connection."""
        with translated(self.path):
            return fn(self._reader())

    @property
    def waiting(self) -> int:
        """Writes that wait for the writer."""
        return self._queue.qsize()

    async def close(self) -> None:
        """Finish what was asked for, checkpoint, close. Idempotent; a second caller waits for the first."""
        loop = asyncio.get_running_loop()
        with self._lock:
            first, self._closed = not self._closed, True
            if first:
                self._queue.put(None)
        if first:
            self._ended = loop.run_in_executor(None, self._close)
        if self._ended is not None:
            await asyncio.shield(self._ended)

    def _close(self) -> None:
        if self._check:
            self._check.stop()
        self._writer.join()
        self._stop_checkpoints.set()
        self._dirty.set()
        self._checkpointer.join()
        self._readers.shutdown(wait=True)
        for connection in self._reader_connections:
            connection.close()
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:  # a full disk: what is in the log stays there, and is found at the next start
            log.warning("last checkpoint failed: %s", error)
        self._connection.close()
        if self.ended_cleanly or (self._check and self._check.result and self._check.result.sound):
            end_use(self.path)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("The database is closed.")

    # -- the writer thread
    def _write_loop(self) -> None:
        tx = Tx(self._connection)
        while True:
            first = self._queue.get()
            if first is None:
                return
            group, stop = [first], False
            with contextlib.suppress(queue.Empty):
                while len(group) < GROUP:
                    request = self._queue.get_nowait()
                    if request is None:
                        stop = True
                        break
                    group.append(request)
            started = time.perf_counter()
            run_group(tx, group, self.path)
            took_s = time.perf_counter() - started
            tell(group)
            if self._on_commit is not None:
                self._on_commit(took_s, len(group))
            self._dirty.set()
            if stop:
                return

    # -- the checkpoint thread: its I/O is not in the way of a write
    def _checkpoint_loop(self) -> None:
        connection: sqlite3.Connection | None = None
        last = 0.0
        gave_back = time.monotonic()  # and the last time that memory was
        while True:
            self._dirty.wait()
            self._dirty.clear()  # before the look at the stop mark, which is set first: the end is not slept through
            if self._stop_checkpoints.wait(_POLL_S):
                break
            size = self._log_bytes()
            now = time.monotonic()
            if size >= TRUNCATE_BYTES or (size >= CHECKPOINT_BYTES and now - last >= CHECKPOINT_S):
                connection, last = self._checkpoint(connection, size), now
            if rests := not self._dirty.wait(IDLE_CHECKPOINT_S):  # nobody has written for a while
                connection, last = self._checkpoint(connection, self._log_bytes()), now
            if rests or now - gave_back >= GIVE_BACK_S:
                self._give_back()
                gave_back = now
        if connection:
            connection.close()

    def _log_bytes(self) -> int:
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except OSError:
            return 0

    def _checkpoint(self, connection: sqlite3.Connection | None, size: int) -> sqlite3.Connection | None:
        try:
            connection = connection or connect(self.path, cache_kib=256, timeout_s=TRUNCATE_WAIT_S)
            mode = "TRUNCATE" if size >= TRUNCATE_BYTES else "PASSIVE"
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except (sqlite3.Error, HybridGWError) as error:
            log.warning("checkpoint failed: %s", error)
        return connection

    def _give_back(self) -> None:
        """Empty the page caches: what is needed is read again, from the system's cache, and a daemon that worked for a
        day is as small as one that just began. The mutex of each connection orders this with its own thread."""
        with self._lock:
            connections = [self._connection, *self._reader_connections]
        for connection in connections:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA shrink_memory")
        memory.give_back()

    def _reader(self) -> sqlite3.Connection:
        connection = getattr(self._local, "connection", None)
        if connection is None or self._closed:
            with self._lock:
                self._check_open()
                connection = self._local.connection = connect(
                    self.path, read_only=True, cache_kib=4096, trace=self._trace
                )
                self._reader_connections.append(connection)
        return cast(sqlite3.Connection, connection)


class Request:
    """A write and what came of it. waiter: who waits for it on *loop*, None where nobody does."""

    __slots__ = ("failure", "fn", "loop", "value", "waiter")

    def __init__(
        self,
        fn: Callable[[Tx], Any],
        loop: asyncio.AbstractEventLoop | None = None,
        waiter: asyncio.Future[Any] | None = None,
    ) -> None:
        self.fn, self.loop, self.waiter = fn, loop, waiter
        self.value: Any = None
        self.failure: BaseException | None = None

    def result(self) -> Any:
        """What the function returned. Raises: what it raised, or why it could not be kept."""
        if self.failure is not None:
            raise self.failure
        return self.value


def run_group(tx: Tx, group: Sequence[Request], path: Path) -> None:
    """Run writes in one transaction, in parts if one of them fails, and note each result; never raises."""
    waiting = [group]
    while waiting:
        part = waiting.pop()
        try:
            tx._begin()
        except sqlite3.Error as error:  # another program holds the file: each of them would wait as long
            for request in itertools.chain(part, *reversed(waiting)):
                request.failure = translate(error, path)
            return
        at = 0  # how many have run
        try:
            for request in part:
                request.failure = None
                before = tx.connection.total_changes
                try:
                    request.value = request.fn(tx)
                except LocalError as error:
                    if tx.connection.total_changes != before or not tx.connection.in_transaction:
                        raise
                    request.failure = error
                at += 1
            tx._commit()
        except BaseException as error:  # noqa: BLE001 - told to the caller; the writer must go on
            tx._rollback()
            if len(part) == 1:
                part[0].failure = translate(error, path) if isinstance(error, sqlite3.Error) else error
                continue
            # At the end of the group nobody knows who it was: halves. A full disk refuses every part once.
            parts = (part[:at], part[at : at + 1], part[at + 1 :]) if at < len(part) else halves(part)
            waiting.extend(p for p in reversed(parts) if p)
        else:
            tx._tell()


def halves(part: Sequence[Request]) -> tuple[Sequence[Request], ...]:
    """A group cut in two."""
    return part[: len(part) // 2], part[len(part) // 2 :]


def tell(group: Sequence[Request]) -> None:
    """Tell whoever waits what came of their writes: each loop is woken once, which costs more than a small write."""
    loops = {request.loop for request in group}
    for loop in loops:
        if loop is not None:
            own = group if len(loops) == 1 else [request for request in group if request.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop is closed, nobody wants to know
                loop.call_soon_threadsafe(settle, own)


def settle(group: Sequence[Request]) -> None:
    """The same on their own loop."""
    for request in group:
        waiter = request.waiter
        if waiter is None or waiter.done():  # a cancelled caller does not want to know
            continue
        if request.failure is None:
            waiter.set_result(request.value)
        else:
            waiter.set_exception(request.failure)


class InlineDatabase:
    """Same promises without threads: each write is its own commit, at once. For deterministic runs and tools."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self._connection = connect(path)
        if not durable:
            self._connection.execute("PRAGMA synchronous=OFF")
        self._tx = Tx(self._connection)

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run *fn* in a transaction of its own, at once."""
        return self.write_now(fn)

    def write_now(self, fn: Callable[[Tx], T]) -> T:
        """The same for callers without an event loop."""
        request = Request(fn)
        run_group(self._tx, [request], self.path)
        return cast(T, request.result())

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run *fn* at once."""
        return self.peek(fn)

    def peek(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run *fn* at once."""
        with translated(self.path):
            return fn(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()
