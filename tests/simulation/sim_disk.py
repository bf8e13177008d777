"""A database file of one simulated process: commits in groups, as the writer thread does, but in steps of virtual time.

Between a write and its commit, and between the commit and the answer, time passes and everything else goes on: there
the process may be killed. The disk may be full, fail once, or be the last thing the process ever touches.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hybridgw_protocol.batch import Batch
from hybridgw_protocol.errors import DiskFull, StorageUnavailable
from hybridgw_storage.database import GROUP, InlineDatabase, Request, Tx, run_group, settle
from tests.simulation.sim_checks import Ledger
from tests.simulation.sim_loop import Process, SimulatedLoop

T = TypeVar("T")
UNLIMITED = 1_073_741_823  # SQLite's own bound on pages


class WatchedTx(Tx):
    """A transaction of which the ledger learns what became of it."""

    def __init__(self, connection: sqlite3.Connection, ledger: Ledger, name: str) -> None:
        super().__init__(connection)
        self._ledger, self._name = ledger, name
        self.sealed: list[Batch] = []  # in the open transaction
        self.is_refused = False

    def _begin(self) -> None:
        super()._begin()
        self._ledger.begin()
        self.sealed.clear()

    def _commit(self) -> None:
        if self.is_refused:
            raise sqlite3.OperationalError("disk I/O error")
        super()._commit()
        self._ledger.keep()
        for batch in self.sealed:
            self._ledger.signs(batch, self._name)

    def _rollback(self) -> None:
        super()._rollback()
        self._ledger.discard()


class Disk(InlineDatabase):
    """See the module's text. crash_at: 'before' or 'after': the process dies at its next commit."""

    def __init__(
        self, path: Path, loop: SimulatedLoop, process: Process, rng: random.Random, ledger: Ledger, *,
        sometimes: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(path, durable=False)
        self.tx = self._tx = WatchedTx(self._connection, ledger, process.name)
        self._loop, self._process, self._rng, self._sometimes = loop, process, rng, sometimes
        self._waiting: list[Request] = []
        self._is_busy = False
        self.crash_at: str | None = None
        self.fails_once = False
        self.refuses = False  # every commit, at its end
        self.is_full = False
        process.on_kill.append(self._connection.close)

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run *fn* in the next group; returns once it is committed."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(Request(fn, self._loop, future))
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_later(self._delay(), self._commit_group)
        return await future

    def _delay(self) -> float:
        return self._rng.choice((0.0, 0.0, 0.0002, 0.001, 0.004))

    def _commit_group(self) -> None:
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        if self.crash_at == "before":
            self._sometimes("crash before a commit")
            self._loop.kill(self._process)
            return
        self._set_faults()
        run_group(self._tx, group, self.path)
        self._clear_faults()
        if len(group) > 1:
            self._sometimes("several writes in one commit")
        if any(isinstance(request.failure, DiskFull | StorageUnavailable) for request in group):
            self._sometimes("disk full refused a write" if self.is_full else "disk error refused a write")
        if self.crash_at == "after":
            self._sometimes("crash after a commit, before its answer")
            self._loop.kill(self._process)
            return
        self._loop.call_later(self._delay(), settle, group)
        if self._waiting:
            self._loop.call_later(self._delay(), self._commit_group)
        else:
            self._is_busy = False

    # ---- faults ---------------------------------------------------------------------------------------------------
    def fill(self, is_full: bool) -> None:
        """No page is left, or there is room again."""
        self.is_full = is_full
        if self._process.alive:
            self._connection.execute(f"PRAGMA max_page_count = {1 if is_full else UNLIMITED}")

    def _set_faults(self) -> None:
        self.tx.is_refused = self.refuses
        if self.fails_once:
            left = [self._rng.randrange(1, 40)]

            def give_up() -> int:
                left[0] -= 1
                return left[0] == 0  # once: what SQLite does next, a rollback, is not disturbed

            self._connection.set_progress_handler(give_up, 25)

    def _clear_faults(self) -> None:
        if self.fails_once:
            self.fails_once = False
            self._connection.set_progress_handler(None, 0)
            if self._connection.in_transaction:  # it was the rollback of a refused write that the disk disturbed
                self._connection.execute("ROLLBACK")
