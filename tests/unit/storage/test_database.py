"""The writer: group commit, roll-back and repeat, order, bounds, shutdown; with real threads and files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol.errors import AlreadyExists, Busy, DatabaseDamaged, DiskFull, HybridGWError, StorageUnavailable
from hybridgw_storage.connection import connect, translate
from hybridgw_storage.database import GROUP, QUEUE, Database, InlineDatabase, Request, SqliteDatabase, Tx, run_group
from hybridgw_storage.migrations import prepare_file

MIGRATIONS = [("0001_t", "CREATE TABLE t(i INTEGER PRIMARY KEY, v TEXT NOT NULL) STRICT;")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.db"
    prepare_file(path, MIGRATIONS, stamp="x")
    return path


@pytest.fixture
async def db(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(path)
    yield database
    await database.close()


@pytest.fixture(params=["threads", "inline"])
async def any_db(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Database]:
    database: Database = SqliteDatabase(path) if request.param == "threads" else InlineDatabase(path)
    yield database
    await database.close()


@contextlib.asynccontextmanager
async def held(db: SqliteDatabase) -> AsyncIterator[None]:
    """Hold the writer in a write of its own: what is asked for inside waits, and forms groups when it ends."""
    started, go = threading.Event(), threading.Event()

    def wait(tx: Tx) -> None:
        started.set()
        assert go.wait(30)

    holder = asyncio.create_task(db.write(wait))
    assert await asyncio.to_thread(started.wait, 30)
    try:
        yield
        await asyncio.sleep(0)  # tasks made inside put their writes into the queue
    finally:
        go.set()
        await holder


async def together(db: SqliteDatabase, fns: list[Callable[[Tx], Any]]) -> list[Any]:
    """Ask for all writes at one moment; results and exceptions in their order."""
    async with held(db):
        tasks = [asyncio.create_task(db.write(fn)) for fn in fns]
    return await asyncio.gather(*tasks, return_exceptions=True)


def put(i: int, v: str = "v") -> Callable[[Tx], int]:
    def fn(tx: Tx) -> int:
        tx.execute("INSERT INTO t VALUES(?, ?)", (i, v))
        return i

    return fn


def rows(connection: sqlite3.Connection) -> list[int]:
    return [i for (i,) in connection.execute("SELECT i FROM t ORDER BY i")]


def one(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


# ---- one write ---------------------------------------------------------------------------------------------------
async def test_a_write_gives_its_result_and_is_seen_at_once(any_db: Database) -> None:
    assert await any_db.write(put(7)) == 7
    assert any_db.peek(rows) == [7]
    assert await any_db.read(rows) == [7]


async def test_what_a_write_raises_is_told_and_nothing_stays(any_db: Database) -> None:
    def half(tx: Tx) -> None:
        put(1)(tx)
        raise AlreadyExists("no")

    with pytest.raises(AlreadyExists):
        await any_db.write(half)
    assert any_db.peek(rows) == []
    await any_db.write(put(1))
    assert any_db.peek(rows) == [1]


async def test_sqlite_errors_are_of_our_tree(any_db: Database) -> None:
    with pytest.raises(StorageUnavailable, match="NOT NULL"):
        await any_db.write(lambda tx: tx.execute("INSERT INTO t VALUES(1, NULL)"))
    with pytest.raises(StorageUnavailable, match="no such table"):
        await any_db.read(lambda c: c.execute("SELECT * FROM absent"))
    with pytest.raises(StorageUnavailable, match="no such table"):
        any_db.peek(lambda c: c.execute("SELECT * FROM absent"))


async def test_the_memo_lives_over_commits_and_dies_with_a_rollback(any_db: Database) -> None:
    await any_db.write(lambda tx: tx.memo.update(a=1))
    assert await any_db.write(lambda tx: dict(tx.memo)) == {"a": 1}

    def half(tx: Tx) -> None:
        tx.memo["a"] = 2
        put(1)(tx)
        raise AlreadyExists("no")

    with pytest.raises(AlreadyExists):
        await any_db.write(half)
    assert await any_db.write(lambda tx: dict(tx.memo)) == {}


async def test_the_memo_dies_with_an_unexpected_error_even_if_no_row_was_touched(any_db: Database) -> None:
    """A fault in a write function may leave its cache half changed: what is in the memo must be what is in the file."""

    def faulty(tx: Tx) -> None:
        tx.memo["rows"] = [1]
        raise KeyError("fault")

    with pytest.raises(KeyError):
        await any_db.write(faulty)
    assert await any_db.write(lambda tx: dict(tx.memo)) == {}


async def test_a_function_may_not_end_the_writer(any_db: Database) -> None:
    def leave(tx: Tx) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await any_db.write(leave)
    assert await any_db.write(put(1)) == 1


async def test_actions_before_the_commit_run_once_in_the_transaction(any_db: Database) -> None:
    ran: list[str] = []

    def fn(tx: Tx) -> None:
        tx.before_commit("a", lambda: ran.append("first given"))
        tx.before_commit("b", lambda: ran.append("b"))
        tx.before_commit("a", lambda: ran.append("last given") if tx.connection.in_transaction else None)

    await any_db.write(fn)
    await any_db.write(put(1))
    assert ran == ["b", "last given"]


async def test_an_action_before_the_commit_may_ask_for_another_even_for_one_that_ran(any_db: Database) -> None:
    """`save` ran already when `seal` changes more that must be saved: it runs again, in the same transaction."""

    def fn(tx: Tx) -> None:
        unsaved: list[int] = [1]

        def save() -> None:
            while unsaved:
                put(unsaved.pop())(tx)

        def seal() -> None:
            unsaved.append(2)
            tx.before_commit("save", save)

        tx.before_commit("save", save)
        tx.before_commit("seal", seal)

    await any_db.write(fn)
    assert any_db.peek(rows) == [1, 2]


async def test_an_action_before_the_commit_that_raises_undoes_the_write(any_db: Database) -> None:
    def fn(tx: Tx) -> None:
        put(1)(tx)
        tx.before_commit("a", lambda: tx.execute("INSERT INTO t VALUES(1, 'again')"))

    with pytest.raises(StorageUnavailable, match="UNIQUE"):
        await any_db.write(fn)
    assert any_db.peek(rows) == []


async def test_actions_after_the_commit_see_it_from_outside_and_not_after_a_rollback(any_db: Database) -> None:
    seen: list[list[int]] = []

    def look() -> None:
        with contextlib.closing(sqlite3.connect(any_db.path)) as other:
            seen.append(rows(other))

    def fn(tx: Tx) -> None:
        put(1)(tx)
        tx.after_commit(look)

    def fails(tx: Tx) -> None:
        fn(tx)

    await any_db.write(fn)
    with pytest.raises(StorageUnavailable):
        await any_db.write(fails)
    assert seen == [[1]]


async def test_a_fault_after_the_commit_does_not_repeat_the_write(
    any_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fn(tx: Tx) -> int:
        tx.execute("INSERT INTO t(v) VALUES('x')")
        tx.after_commit(lambda: 1 // 0)
        return 5

    assert await any_db.write(fn) == 5
    assert any_db.peek(one) == 1
    assert "ZeroDivisionError" in caplog.text


# ---- groups ------------------------------------------------------------------------------------------------------
class Groups:
    """Counts commits: how many writes each one held."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._open = 0

    def counted(self, fn: Callable[[Tx], Any]) -> Callable[[Tx], Any]:
        def run(tx: Tx) -> Any:
            result = fn(tx)
            self._open += 1
            tx.after_commit(self._close)
            return result

        return run

    def _close(self) -> None:
        if self._open:
            self.sizes.append(self._open)
            self._open = 0


async def test_writes_of_one_moment_share_a_commit_and_keep_their_order(db: SqliteDatabase) -> None:
    groups = Groups()
    ran: list[int] = []

    def fn(i: int) -> Callable[[Tx], int]:
        def run(tx: Tx) -> int:
            ran.append(i)
            return put(i)(tx)  # type: ignore[no-any-return]

        return groups.counted(run)

    asked = list(range(GROUP + 44))
    assert await together(db, [fn(i) for i in asked]) == asked
    assert ran == asked
    assert groups.sizes == [GROUP, 44]


async def test_a_refusal_costs_the_group_nothing(db: SqliteDatabase) -> None:
    groups = Groups()

    def refuse(tx: Tx) -> None:
        raise AlreadyExists("no")

    results = await together(db, [groups.counted(put(1)), refuse, groups.counted(put(2))])
    assert results[0] == 1
    assert isinstance(results[1], AlreadyExists)
    assert results[2] == 2
    assert groups.sizes == [2]
    assert db.peek(rows) == [1, 2]


async def test_one_that_raises_after_writing_takes_nobody_along(db: SqliteDatabase) -> None:
    runs: dict[int, int] = {}

    def fn(i: int) -> Callable[[Tx], int]:
        def run(tx: Tx) -> int:
            runs[i] = runs.get(i, 0) + 1
            put(i)(tx)
            tx.memo.setdefault("seen", []).append(i)
            if i in (20, 21, 40):
                raise AlreadyExists("no")
            return i

        return run

    results = await together(db, [fn(i) for i in range(64)])
    bad = {20, 21, 40}
    assert [i for i, r in enumerate(results) if isinstance(r, AlreadyExists)] == sorted(bad)
    assert [r for r in results if isinstance(r, int)] == [i for i in range(64) if i not in bad]
    assert db.peek(rows) == [i for i in range(64) if i not in bad]
    assert await db.write(lambda tx: tx.memo["seen"]) == list(range(41, 64))  # since the last roll-back
    assert max(runs.values()) <= 1 + len(bad)  # run again, not once for every other one


async def test_an_error_at_the_end_of_a_group_is_told_to_the_one_that_caused_it(db: SqliteDatabase) -> None:
    def poison(tx: Tx) -> None:
        put(5)(tx)
        tx.before_commit("poison", lambda: tx.execute("INSERT INTO t VALUES(5, 'again')"))

    results = await together(db, [put(i) if i != 5 else poison for i in range(32)])
    assert isinstance(results[5], StorageUnavailable)
    assert [r for r in results if isinstance(r, int)] == [i for i in range(32) if i != 5]
    assert db.peek(rows) == [i for i in range(32) if i != 5]


async def test_later_writes_of_a_group_see_earlier_ones_also_when_run_again(db: SqliteDatabase) -> None:
    def add(tx: Tx) -> int:
        count = int(tx.execute("SELECT count(*) FROM t").fetchone()[0])
        tx.execute("INSERT INTO t VALUES(?, 'x')", (count,))
        return count

    def half(tx: Tx) -> None:
        add(tx)
        raise RuntimeError("fault")

    results = await together(db, [add, add, half, add, half, add])
    assert [r for r in results if isinstance(r, int)] == [0, 1, 2, 3]
    assert sum(isinstance(r, RuntimeError) for r in results) == 2


async def test_a_cancelled_caller_does_not_undo_its_write(db: SqliteDatabase) -> None:
    async with held(db):
        tasks = [asyncio.create_task(db.write(put(i))) for i in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(r, asyncio.CancelledError) for r in results] == [i % 2 == 0 for i in range(10)]
    assert db.peek(rows) == list(range(10))


async def test_waiting_writes_are_bounded(db: SqliteDatabase) -> None:
    async with held(db):
        tasks = [asyncio.create_task(db.write(put(i))) for i in range(QUEUE)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await db.write(put(-1))
    assert len(await asyncio.gather(*tasks)) == QUEUE
    assert db.peek(one) == QUEUE
    assert await db.write(put(-1)) == -1  # it is over when the queue is


# ---- closing -----------------------------------------------------------------------------------------------------
async def test_close_finishes_what_was_asked_for(path: Path) -> None:
    db = SqliteDatabase(path)
    async with held(db):
        tasks = [asyncio.create_task(db.write(put(i))) for i in range(1_000)]
        await asyncio.sleep(0)
        closing = [asyncio.create_task(db.close()) for _ in range(2)]  # twice at once, too
        await asyncio.sleep(0)
        with pytest.raises(StorageUnavailable):
            await db.write(put(-1))
    await asyncio.gather(*closing)
    assert await asyncio.gather(*tasks) == list(range(1_000))
    await db.close()
    assert not Path(f"{path}-wal").exists()
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert one(other) == 1_000


async def test_a_closed_database_refuses(path: Path) -> None:
    db = SqliteDatabase(path)
    await db.read(rows)
    db.peek(rows)
    await db.close()
    for attempt in (db.write(put(1)), db.read(rows)):
        with pytest.raises(StorageUnavailable, match="closed"):
            await attempt
    with pytest.raises(StorageUnavailable, match="closed"):
        db.peek(rows)


async def test_threads_end_with_close(path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        db = SqliteDatabase(path)
        await db.read(rows)
        await db.close()
    left = {t.name for t in set(threading.enumerate()) - before if t.is_alive()}
    assert not any(name.startswith("sqlite") for name in left)


# ---- reading -----------------------------------------------------------------------------------------------------
async def test_readers_see_every_acknowledged_write_from_any_thread(db: SqliteDatabase) -> None:
    with ThreadPoolExecutor(4) as pool:
        for i in range(50):
            await db.write(put(i))
            seen = list(pool.map(lambda _: db.peek(one), range(8)))
            assert seen == [i + 1] * 8
            assert await db.read(one) == i + 1


async def test_readers_go_on_while_the_writer_works(db: SqliteDatabase) -> None:
    await db.write(put(1))
    async with held(db):
        assert db.peek(rows) == [1]
        assert await db.read(rows) == [1]


async def test_readers_cannot_write(db: SqliteDatabase) -> None:
    with pytest.raises(StorageUnavailable):
        db.peek(lambda c: c.execute("INSERT INTO t VALUES(1, 'x')"))
    with pytest.raises(StorageUnavailable):
        await db.read(lambda c: c.execute("DROP TABLE t"))
    assert db.peek(rows) == []


async def test_many_threads_read_while_one_writes(db: SqliteDatabase) -> None:
    """Each reader sees counts that only rise, and never a write half done: two rows come at a time."""
    stop = threading.Event()

    def watch() -> tuple[int, int]:
        last = looks = 0
        while not stop.is_set():
            count = db.peek(one)
            assert count >= last
            assert count % 2 == 0
            last, looks = count, looks + 1
        return last, looks

    def pair(i: int) -> Callable[[Tx], None]:
        return lambda tx: (put(2 * i)(tx), put(2 * i + 1)(tx), None)[2]

    with ThreadPoolExecutor(3) as pool:
        watchers = [pool.submit(watch) for _ in range(3)]
        for start in range(0, 200, 20):
            await asyncio.gather(*(db.write(pair(i)) for i in range(start, start + 20)))
        stop.set()
        assert all(looks > 0 for _, looks in (w.result() for w in watchers))
    assert db.peek(one) == 400


# ---- errors ------------------------------------------------------------------------------------------------------
def error_of(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("told by SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_IOERR_WRITE, DiskFull),  # EDQUOT, EFBIG: the file may not grow
        (sqlite3.SQLITE_IOERR_SHMSIZE, DiskFull),
        (sqlite3.SQLITE_CORRUPT, DatabaseDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, DatabaseDamaged),
        (sqlite3.SQLITE_NOTADB, DatabaseDamaged),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageUnavailable),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StorageUnavailable),
        (sqlite3.SQLITE_BUSY, Busy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Busy),
        (sqlite3.SQLITE_LOCKED, Busy),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, StorageUnavailable),
    ],
)
def test_each_sqlite_code_has_its_error(code: int, kind: type[HybridGWError]) -> None:
    error = translate(error_of(code), Path("x.db"))
    assert type(error) is kind


def test_a_lock_of_another_program_is_busy_not_damage(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with contextlib.closing(connect(path, timeout_s=0)) as mine:
            with pytest.raises(sqlite3.OperationalError) as caught:
                mine.execute("BEGIN IMMEDIATE")
            assert isinstance(translate(caught.value, path), Busy)


def test_a_group_waits_once_for_the_lock_of_another_program(path: Path) -> None:
    """Not once for each of its writes; and when the lock is gone, writing goes on."""
    with contextlib.closing(connect(path)) as other, contextlib.closing(connect(path, timeout_s=0)) as mine:
        tries: list[str] = []
        mine.set_trace_callback(tries.append)
        tx = Tx(mine)
        group = [Request(put(i)) for i in range(50)]
        other.execute("BEGIN IMMEDIATE")
        run_group(tx, group, path)
        assert all(isinstance(request.failure, Busy) for request in group)
        assert tries.count("BEGIN IMMEDIATE") == 1
        other.execute("ROLLBACK")
        group = [Request(put(i)) for i in range(50)]
        run_group(tx, group, path)
        assert [request.result() for request in group] == list(range(50))


def test_odd_file_names_open(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?mode=memory#x 'é.db"
    prepare_file(path, MIGRATIONS, stamp="x")
    db = InlineDatabase(path)
    db.write_now(put(1))
    asyncio.run(db.close())
    assert path.stat().st_size > 0
    with contextlib.closing(connect(path, read_only=True)) as reader:
        assert rows(reader) == [1]
