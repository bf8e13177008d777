"""The process whose power fails, first form: the storage engine alone. Every line it says is a promise.

Usage: write_store.py DATABASE FULL|NORMAL SEED COMMITS. Rows are numbered in the order they were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from hybridgw_storage.connection import connect
from hybridgw_storage.database import SqliteDatabase, Tx
from hybridgw_storage.migrations import prepare_file

MIGRATIONS = [("0001_t", "CREATE TABLE t(i INTEGER PRIMARY KEY, b BLOB NOT NULL) STRICT; CREATE INDEX t_b ON t(b);")]


def say(line: str) -> None:
    """A line in one system call: it stands in the recording where it was said."""
    os.write(1, line.encode() + b"\n")


def opened(path: Path, synchronous: str) -> SqliteDatabase:
    """The real database; NORMAL is what a store that promises too early would do."""
    db = SqliteDatabase(path)
    db._connection.execute(f"PRAGMA synchronous={synchronous}")
    return db


def checkpoint(path: Path, mode: str) -> None:
    """What the helper thread does after five quiet seconds or sixteen megabytes, at any moment."""
    with contextlib.closing(connect(path, timeout_s=0.2)) as connection:
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


def insert(i: int, b: bytes) -> Callable[[Tx], None]:
    """The write of one row."""
    return lambda tx: tx.execute("INSERT INTO t VALUES(?, ?)", (i, b)) and None


async def promise(db: SqliteDatabase, i: int, b: bytes) -> None:
    """One client: writes, and says so when it may."""
    await db.write(insert(i, b))
    say(f"ack {i}")


async def main(path: Path, synchronous: str, seed: int, commits: int) -> None:
    """The run."""
    rng = random.Random(seed)
    prepare_file(path, MIGRATIONS, stamp="s")
    db = opened(path, synchronous)
    i = 0
    for _ in range(commits):
        clients = rng.choice((1, 1, 1, 2, 8))
        together = [promise(db, i + k, rng.randbytes(rng.randrange(10, 3_000))) for k in range(clients)]
        i += clients
        what = rng.randrange(20)
        if what == 0:
            await asyncio.gather(asyncio.to_thread(checkpoint, path, "PASSIVE"), *together)
        elif what == 1:
            await asyncio.gather(*together)
            await asyncio.to_thread(checkpoint, path, "TRUNCATE")
        elif what == 2:
            await asyncio.gather(*together)
            await db.close()
            db = opened(path, synchronous)
        else:
            await asyncio.gather(*together)
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
