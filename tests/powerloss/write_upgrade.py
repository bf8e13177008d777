"""The process whose power fails, third form: a file is made, filled, closed and upgraded.

Usage: write_upgrade.py DATABASE ROWS. It says "made", "filled" and "upgraded".
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hybridgw_storage.database import SqliteDatabase, Tx
from hybridgw_storage.migrations import prepare_file
from tests.powerloss.write_store import say

OLD = [("0001_t", "CREATE TABLE t(i INTEGER PRIMARY KEY, v TEXT NOT NULL) STRICT; CREATE INDEX t_v ON t(v);")]
NEW = [*OLD, ("0002_n", "ALTER TABLE t ADD COLUMN n INTEGER NOT NULL DEFAULT 7; UPDATE t SET v = v || '!';")]


async def main(path: Path, rows: int) -> None:
    """The run."""
    prepare_file(path, OLD, stamp="first")
    say("made")
    db = SqliteDatabase(path)

    def fill(tx: Tx) -> None:
        tx.executemany("INSERT INTO t VALUES(?, ?)", [(i, f"{i:0100}") for i in range(rows)])

    await db.write(fill)
    say("filled")
    await db.close()
    prepare_file(path, NEW, stamp="first")
    say("upgraded")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
