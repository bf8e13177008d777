"""The marker of a clean stop, and the check beside serving after one that was not."""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hybridgw_storage.check import BackgroundCheck, Soundness, begin_use, end_use, is_sound
from hybridgw_storage.connection import connect
from hybridgw_storage.database import SqliteDatabase, Tx
from hybridgw_storage.migrations import prepare_file

MIGRATIONS = [("0001_t", "CREATE TABLE t(i INTEGER PRIMARY KEY, v TEXT) STRICT; CREATE INDEX t_v ON t(v);")]
SERVE = """
import asyncio, os, sys
from pathlib import Path
from hybridgw_storage.database import SqliteDatabase
async def main():
    db = SqliteDatabase(Path(sys.argv[1]))
    print(db.ended_cleanly, flush=True)
    await db.write(lambda tx: tx.execute("INSERT INTO t(v) VALUES('x')"))
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), 9)
    if sys.argv[2] == "leave":
        os._exit(0)
    await db.close()
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.db"
    prepare_file(path, MIGRATIONS, stamp="s")
    return path


def marker(path: Path) -> Path:
    return path.with_name("t.db.in-use")


def serve(path: Path, end: str) -> str:
    """A process that opens the file, writes, and ends in one of three ways; what it said of the use before."""
    run = [sys.executable, "-c", SERVE, str(path), end]
    return subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip()


def fill(path: Path, rows: int = 2_000) -> None:
    with contextlib.closing(connect(path)) as connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(v) VALUES(?)", [(f"{i:0200}",) for i in range(rows)])
        connection.execute("COMMIT")


def damage(path: Path) -> None:
    """Zero a page in the middle: not one that opening reads."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't_v'").fetchone()[0]
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(bytes(4096))


# ---- the marker --------------------------------------------------------------------------------------------------
def test_the_marker_says_how_the_last_use_ended(path: Path) -> None:
    assert serve(path, "close") == "True"  # a new file was never used
    assert serve(path, "close") == "True"
    assert serve(path, "kill") == "True"
    assert serve(path, "leave") == "False"
    assert serve(path, "kill") == "False"
    assert marker(path).exists()
    # Another program that opens and closes the file clears its log away, but does not hide what happened.
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (5,)
    assert not Path(f"{path}-wal").exists()
    assert serve(path, "close") == "False"
    assert serve(path, "close") == "False"  # nobody has looked yet


def test_mark_and_clear(path: Path) -> None:
    assert begin_use(path)
    assert not begin_use(path)
    end_use(path)
    end_use(path)
    assert begin_use(path)
    if os.name == "posix":
        assert marker(path).stat().st_mode & 0o777 == 0o600


def test_a_marker_that_cannot_be_made_is_told_and_does_not_stop_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert begin_use(tmp_path / "absent" / "t.db")
    assert "cannot mark t.db as in use" in caplog.text


# ---- the check ---------------------------------------------------------------------------------------------------
async def opened(path: Path) -> tuple[SqliteDatabase, queue.SimpleQueue[Soundness]]:
    results: queue.SimpleQueue[Soundness] = queue.SimpleQueue()
    return SqliteDatabase(path, on_check=results.put), results


async def test_no_check_after_a_clean_stop(path: Path) -> None:
    db, results = await opened(path)
    assert db.ended_cleanly
    await db.close()
    assert results.empty()
    assert not marker(path).exists()


async def test_a_sound_file_is_checked_once_after_a_kill(path: Path) -> None:
    serve(path, "kill")
    db, results = await opened(path)
    assert not db.ended_cleanly
    assert results.get(timeout=60) == Soundness(True)
    assert await db.write(lambda tx: tx.execute("SELECT count(*) FROM t").fetchone()) == (1,)
    await db.close()
    assert not marker(path).exists()
    db, _ = await opened(path)
    assert db.ended_cleanly
    await db.close()


async def test_a_damaged_file_is_told_and_told_again_at_the_next_start(path: Path) -> None:
    fill(path)
    serve(path, "kill")
    with contextlib.closing(sqlite3.connect(path)):
        pass
    damage(path)
    for _ in range(2):
        db, results = await opened(path)
        found = results.get(timeout=60)
        assert not found.sound
        assert 1 <= len(found.problems) <= 3
        assert db.peek(lambda c: c.execute("SELECT count(*) FROM t NOT INDEXED").fetchone()) == (2_001,)  # serves on
        await db.close()
        assert marker(path).exists()


async def test_the_check_runs_beside_writing(path: Path) -> None:
    fill(path, 50_000)
    serve(path, "kill")
    db, results = await opened(path)

    def insert(tx: Tx) -> None:
        tx.execute("INSERT INTO t(v) VALUES('beside')")

    written = 0
    while results.empty():
        await db.write(insert)
        written += 1
    assert results.get() == Soundness(True)
    assert written >= 1
    await db.close()


async def test_closing_ends_a_check_that_is_not_done_and_it_is_made_again(path: Path) -> None:
    fill(path, 100_000)
    serve(path, "kill")
    db, results = await opened(path)
    await db.close()
    cut_short = results.empty()
    assert marker(path).exists() == cut_short
    if cut_short:
        db, results = await opened(path)
        assert results.get(timeout=120).sound
        await db.close()


def test_stop_before_during_and_after(path: Path) -> None:
    fill(path, 20_000)
    for wait_s in (0, 0.0005, 0.001, 0.005, 0.01):
        results: queue.SimpleQueue[Soundness] = queue.SimpleQueue()
        check = BackgroundCheck(path, results.put)
        with contextlib.suppress(queue.Empty):
            results.get(timeout=wait_s) if wait_s else None
        check.stop()
        check.stop()
        assert check.result is None or check.result.sound  # an interrupt is never taken for damage
    results = queue.SimpleQueue()
    check = BackgroundCheck(path, results.put)
    assert results.get(timeout=60).sound
    check.stop()
    assert check.result == Soundness(True)


def test_a_file_that_cannot_be_opened_is_not_sound(tmp_path: Path) -> None:
    results: queue.SimpleQueue[Soundness] = queue.SimpleQueue()
    BackgroundCheck(tmp_path / "absent.db", results.put)
    assert not results.get(timeout=60).sound


def test_is_sound(path: Path, tmp_path: Path) -> None:
    fill(path)
    assert is_sound(path)
    damage(path)
    assert not is_sound(path)
    assert not is_sound(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("no database" * 100)
    assert not is_sound(tmp_path / "text.db")
