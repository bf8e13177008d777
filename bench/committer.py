"""A writer thread with group commit and nothing else: what every raw limit here commits with.

Whoever waits shares the next commit; `synchronous=FULL`, checkpoints off the writer as in the product.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

GROUP = 256
CHECKPOINT_BYTES = 16 * 1024 * 1024

Work = Callable[[sqlite3.Connection], Any]


class Committer:
    """Runs functions of the open connection on its thread, up to GROUP of them in one transaction."""

    def __init__(self, path: str, schema: str, *, cache_kib: int = 16 * 1024) -> None:
        self._path = Path(path)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0", f"cache_size=-{cache_kib}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(schema)
        self._queue: queue.SimpleQueue[tuple[asyncio.Future[Any], Work]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._commits = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        threading.Thread(target=self._checkpoint, daemon=True).start()

    async def commit(self, work: Work) -> Any:
        """Run *work* in a transaction; returns what it returned, once that is on the disk."""
        future = self._loop.create_future()
        self._queue.put((future, work))
        return await future

    def _run(self) -> None:
        while True:
            group = [self._queue.get()]
            while len(group) < GROUP and not self._queue.empty():
                group.append(self._queue.get())
            self._connection.execute("BEGIN IMMEDIATE")
            done = [(future, work(self._connection)) for future, work in group]
            self._connection.execute("COMMIT")
            self._commits.set()
            self._loop.call_soon_threadsafe(_tell, done)

    def _checkpoint(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        log = Path(f"{self._path}-wal")
        while self._commits.wait():
            self._commits.clear()
            if log.stat().st_size > CHECKPOINT_BYTES:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            threading.Event().wait(0.25)


def _tell(done: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in done:
        if not future.done():
            future.set_result(result)
