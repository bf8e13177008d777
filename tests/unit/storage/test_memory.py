"""A database that worked hard and rests is small again: in a process of its own, whose memory is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Fills the page caches of the writer and of a reader, tells the resident bytes before, then, and once it has rested.
WORK = """
import asyncio, json, sys, time
from pathlib import Path
import psutil
from hybridgw_storage.database import SqliteDatabase
resident = lambda: psutil.Process().memory_info().rss
async def main():
    db = SqliteDatabase(Path(sys.argv[1]))
    await db.write(lambda tx: tx.execute("CREATE TABLE t(i INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT") and None)
    begun = resident()
    for _ in range(30):
        await db.write(lambda tx: tx.executemany("INSERT INTO t(v) VALUES (?)", [(bytes(1000),)] * 1000) and None)
    assert await db.read(lambda c: c.execute("SELECT count(*) FROM t WHERE v NOT NULL").fetchone()) == (30_000,)
    busy, deadline = resident(), time.monotonic() + 60
    while resident() - begun > (busy - begun) / 4 and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    rested = resident()
    assert await db.read(lambda c: c.execute("SELECT count(*) FROM t WHERE v NOT NULL").fetchone()) == (30_000,)
    await db.close()
    print(json.dumps([begun, busy, rested]))
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at resident memory, which glibc gives back when it is asked")
def test_memory_is_given_back_after_work(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WORK, str(tmp_path / "t.db")], capture_output=True, text=True, timeout=120, check=True
    )
    begun, busy, rested = json.loads(ran.stdout)
    assert busy - begun > 12 * 2**20  # the caches were full
    assert rested - begun < (busy - begun) / 4
