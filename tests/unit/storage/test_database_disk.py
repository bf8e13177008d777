"""Disks that fill, disks that fail, logs that must not grow for ever: real files and limits, faults in system calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_storage.database import TRUNCATE_BYTES, SqliteDatabase, Tx
from hybridgw_storage.migrations import prepare_file

MIGRATIONS = [("0001_t", "CREATE TABLE t(i INTEGER PRIMARY KEY, v TEXT NOT NULL) STRICT;")]
STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="needs the Debian package strace")
posix = pytest.mark.skipif(os.name != "posix", reason="resource limits of POSIX")

# Writes rounds of 16 at once, tells which were acknowledged, which refused and why, and what readers saw meanwhile.
WORK = """
import asyncio, json, logging, resource, sys
from pathlib import Path
from hybridgw_storage.database import SqliteDatabase
PATH, ROUNDS, LIMIT, RELEASE = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size or resource.RLIM_INFINITY, resource.RLIM_INFINITY))
async def main():
    db = SqliteDatabase(PATH)
    acked, refused, kinds, i, reads_fit = [], [], set(), 0, True
    limit(LIMIT)
    for turn in range(ROUNDS):
        if turn == RELEASE:
            limit(0)
        asked = list(range(i, i + 16))
        i += 16
        results = await asyncio.gather(
            *(db.write(lambda tx, k=k: tx.execute("INSERT INTO t VALUES(?, ?)", (k, "x" * 2000)) and k) for k in asked),
            return_exceptions=True)
        for k, result in zip(asked, results):
            if isinstance(result, BaseException):
                refused.append(k)
                kinds.add(type(result).__name__)
            else:
                acked.append(k)
        seen = db.peek(lambda c: [k for (k,) in c.execute("SELECT i FROM t ORDER BY i")])
        reads_fit &= seen == acked == await db.read(lambda c: [k for (k,) in c.execute("SELECT i FROM t ORDER BY i")])
    await db.close()
    print(json.dumps({"acked": acked, "refused": refused, "kinds": sorted(kinds), "reads_fit": reads_fit}))
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.db"
    prepare_file(path, MIGRATIONS, stamp="s")
    return path


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """In memory where there is a file system in memory: many syncs, and not about the disk."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        path = Path(folder) / "t.db"
        prepare_file(path, MIGRATIONS, stamp="s")
        yield path


def work(
    path: Path, *, rounds: int = 40, limit: int = 0, release: int = -1, inject: tuple[str, ...] = ()
) -> dict[str, Any]:
    command = [sys.executable, "-c", WORK, str(path), str(rounds), str(limit), str(release)]
    if inject:
        assert STRACE is not None
        faults = [part for rule in inject for part in ("-e", f"inject={rule}")]
        command = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", "trace=pwrite64,fdatasync", *faults, *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"log": done.stderr}


def rows(path: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [i for (i,) in connection.execute("SELECT i FROM t ORDER BY i")]


# ---- no space ----------------------------------------------------------------------------------------------------
@posix
def test_spec_a_full_disk_refuses_writes_and_nothing_else(path: Path) -> None:
    """The file may not grow over 400 KiB: callers are told, readers see what was acknowledged, later all goes on."""
    found = work(path, limit=400 * 1024, release=30)
    assert found["kinds"] == ["DiskFull"]
    assert len(found["refused"]) > 200
    assert len(found["acked"]) > 100
    assert max(found["acked"]) > max(found["refused"]) > min(found["refused"]) > 0  # full, then free again
    assert found["reads_fit"]
    assert rows(path) == found["acked"]


@posix
def test_a_disk_that_stays_full_until_the_end(path: Path) -> None:
    found = work(path, rounds=12, limit=200 * 1024)
    assert found["kinds"] == ["DiskFull"]
    assert found["reads_fit"]
    assert rows(path) == found["acked"]
    assert found["acked"]


@posix
def test_a_log_that_cannot_be_written_back_is_kept(path: Path) -> None:
    """The log fits below the limit and the file does not: closing leaves the log, nothing is lost."""
    work(path, rounds=6)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE t SET i = i + 100000")
        connection.commit()
    size = path.stat().st_size
    found = work(path, rounds=3, limit=size + 4096)
    assert not found["refused"]
    assert "checkpoint failed" in found["log"]
    assert Path(f"{path}-wal").stat().st_size > 0
    kept = rows(path)
    assert [i for i in kept if i < 100_000] == found["acked"]
    assert len(kept) == 6 * 16 + 3 * 16


@needs_strace
def test_spec_no_space_in_the_middle_of_a_write(path: Path) -> None:
    """ENOSPC from the k-th write on, for a while: whatever part of a commit it hits."""
    for first in (20, 41, 83):
        found = work(path, rounds=20, inject=(f"pwrite64:error=ENOSPC:when={first}..{first + 60}",))
        assert found["kinds"] == ["DiskFull"]
        assert found["reads_fit"]
        assert rows(path) == found["acked"]
        assert max(found["acked"]) > min(found["refused"])
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM t")
            connection.commit()


# ---- a failing disk ----------------------------------------------------------------------------------------------
@needs_strace
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_disk_that_fails_for_a_while(path: Path, call: str) -> None:
    found = work(path, rounds=20, inject=(f"{call}:error=EIO:when=12..30",))
    assert set(found["kinds"]) <= {"StorageUnavailable", "DiskFull"}  # EIO of a write cannot be told from a quota
    assert found["refused"]
    assert found["reads_fit"]
    assert rows(path) == found["acked"]
    assert max(found["acked"]) > max(found["refused"])


@needs_strace
def test_a_disk_that_fails_for_good(path: Path) -> None:
    found = work(path, rounds=10, inject=("fdatasync:error=EIO:when=12+",))
    assert found["kinds"] == ["StorageUnavailable"]
    assert found["reads_fit"]
    kept = rows(path)
    assert kept[: len(found["acked"])] == found["acked"]  # what was never synced may or may not be there


# ---- the log -----------------------------------------------------------------------------------------------------
class LogSize:
    """Watches how long the write-ahead log gets."""

    def __init__(self, path: Path) -> None:
        self._log = Path(f"{path}-wal")
        self.most = 0

    def look(self) -> int:
        size = self._log.stat().st_size
        self.most = max(self.most, size)
        return size


@pytest.mark.slow
async def test_the_log_stays_bounded_over_30_000_commits(quick_path: Path) -> None:
    """Each commit is one page or more: without checkpoints the log would be over 240 MB long."""
    db = SqliteDatabase(quick_path)
    size = LogSize(quick_path)
    text = "x" * 3000

    def insert(tx: Tx) -> None:
        tx.execute("INSERT INTO t(v) VALUES(?)", (text,))

    for i in range(30_000):
        await db.write(insert)
        if i % 100 == 0:
            size.look()
    assert TRUNCATE_BYTES // 4 < size.most < 2 * TRUNCATE_BYTES
    assert db.peek(lambda c: c.execute("SELECT count(*) FROM t").fetchone()) == (30_000,)
    await db.close()
    assert not Path(f"{quick_path}-wal").exists()


async def test_a_slow_reader_holds_up_neither_the_writer_nor_the_next_truncate(quick_path: Path) -> None:
    """A long read keeps the log from being cut back. Writes go on all the time; once it ended, the log gets short."""
    db = SqliteDatabase(quick_path)
    size = LogSize(quick_path)
    reading, release = threading.Event(), threading.Event()
    text = "x" * 100_000

    def slow(connection: sqlite3.Connection) -> int:
        cursor = connection.execute("SELECT i FROM t")
        cursor.fetchone()
        reading.set()
        assert release.wait(120)
        return len(cursor.fetchall()) + 1

    def insert(tx: Tx) -> None:
        tx.executemany("INSERT INTO t(v) VALUES(?)", [(text,)] * 40)

    await db.write(insert)
    reader = asyncio.create_task(db.read(slow))
    assert await asyncio.to_thread(reading.wait, 60)
    writes = 1
    while size.look() < TRUNCATE_BYTES + 16 * 1024 * 1024:
        await db.write(insert)
        writes += 1
    tries = 0
    while tries < 8:  # two seconds: the helper has tried to truncate meanwhile
        await db.write(insert)
        await asyncio.sleep(0.25)
        writes, tries = writes + 1, tries + 1
    release.set()
    assert await reader == 40  # what it saw when it began
    for _ in range(400):
        if size.look() < TRUNCATE_BYTES:
            break
        await db.write(insert)
        await asyncio.sleep(0.05)
        writes += 1
    assert size.look() < TRUNCATE_BYTES
    assert db.peek(lambda c: c.execute("SELECT count(*) FROM t").fetchone()) == (40 * writes,)
    await db.close()


async def test_an_idle_database_has_its_log_written_back(path: Path) -> None:
    """A kill after a quiet time finds everything in the file itself."""
    db = SqliteDatabase(path)
    await db.write(lambda tx: tx.execute("INSERT INTO t(v) VALUES(?)", ("x" * 50_000,)))
    for _ in range(600):
        if path.stat().st_size > 50_000:
            break
        await asyncio.sleep(0.05)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "t.db"
        shutil.copy(path, copy)  # without its log
        assert len(rows(copy)) == 1
    await db.close()
