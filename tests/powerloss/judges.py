"""After the power failed: opens an image with the real code, goes on with it, and tells which promises it broke.

A broken promise is counted, for it is what the control must show. Damage is an AssertionError: a database that is not
sound, a hole in what was written, a log that does not hang together, documents that the batches do not give.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from hybridgw_daemon.core import document_state
from hybridgw_daemon.core.operations import Create, decode_pending
from hybridgw_daemon.stores import documents, oplog
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.batch import parse_batch, verify_batch
from hybridgw_storage.database import InlineDatabase
from hybridgw_storage.migrations import prepare_file
from tests.powerloss import write_store
from tests.powerloss.write_replica import START_MS, Device


@dataclass
class Verdict:
    """Promises of one image that were broken. signed_twice: (log, n) of which another batch was sent before."""

    lost_writes: int = 0
    lost_batches: int = 0
    signed_twice: int = 0

    @property
    def kept(self) -> bool:
        """Nothing was broken."""
        return self == Verdict()


@dataclass
class Promises:
    """What the process had said until the power failed."""

    acked: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)  # in the whole recording
    sealed: dict[tuple[int, int], bytes] = field(default_factory=dict)
    stored: set[tuple[int, int]] = field(default_factory=set)

    @classmethod
    def read(cls, lines: list[str], all_lines: list[str]) -> Promises:
        """From the lines said before, and all of them."""
        found = cls()
        for line in lines:
            match line.split():
                case ["ack" | "wrote", k]:
                    found.acked.add(int(k))
                case ["sealed", log, n, digest]:
                    found.sealed[int(log), int(n)] = bytes.fromhex(digest)
                case ["stored", log, n]:
                    found.stored.add((int(log), int(n)))
        found.refused = {int(line.split()[1]) for line in all_lines if line.startswith("refused")}
        return found


def check_sound(path: Path) -> None:
    """The file is a database, with nothing missing in it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# ---- the storage engine --------------------------------------------------------------------------------------
def judge_store(path: Path, promises: Promises, rng: random.Random) -> Verdict:
    """Rows are there in the order they were asked for, without a hole; and writing goes on."""
    assert prepare_file(path, write_store.MIGRATIONS, stamp="s") == 0
    check_sound(path)
    db = InlineDatabase(path)
    rows = [i for (i,) in db.peek(lambda c: c.execute("SELECT i FROM t ORDER BY i").fetchall())]
    assert rows == list(range(len(rows)))
    db.write_now(write_store.insert(len(rows), b"on and on"))
    asyncio.run(db.close())
    check_sound(path)
    return Verdict(lost_writes=len(promises.acked - set(rows)))


# ---- the replica ---------------------------------------------------------------------------------------------
def judge_replica(path: Path, promises: Promises, rng: random.Random) -> Verdict:
    """Every promise against state, pending writes and batches; then it goes on writing and sealing."""
    assert prepare_file(path, MIGRATIONS, stamp="s") == 0
    check_sound(path)
    device = Device(0, rng)
    other = Device(1, random.Random())
    db = InlineDatabase(path)
    keys = {device.device: device.sign_public, other.device: other.sign_public}

    found = written_numbers(db, device)
    assert found | promises.refused >= set(range(max(found, default=-1) + 1))  # no hole
    held = check_logs(db, keys)
    before = digest(db, device)
    db.write_now(lambda tx: device.replica.rebuild(tx, START_MS + 3_600_000, None))
    assert digest(db, device) == before  # the documents are what batches and pending writes give

    verdict = Verdict(
        lost_writes=len(promises.acked - found),
        lost_batches=sum(held.get(at) != sent for at, sent in promises.sealed.items())
        + sum(at not in held for at in promises.stored),
    )
    go_on(db, device, rng)
    held = check_logs(db, keys)
    verdict.signed_twice = sum(held.get(at, sent) != sent for at, sent in promises.sealed.items())
    asyncio.run(db.close())
    check_sound(path)
    return verdict


def written_numbers(db: InlineDatabase, device: Device) -> set[int]:
    """The numbers of local writes in our batches and pending writes; each once."""
    found: list[int] = []

    def look(connection: sqlite3.Connection) -> None:
        for (blob,) in connection.execute("SELECT blob FROM batch WHERE authored = 1 ORDER BY log, n"):
            body, fault = device.replica.open(parse_batch(blob))
            assert fault is None
            assert body is not None
            found.extend(op.puts["k"] for op in body.operations if "k" in op.puts)
        for pending in oplog.pending(connection):
            for raw in pending.rows:
                raw = (
                    device.replica.vault.open(b"pending" + pending.n.to_bytes(8, "big"), raw) if pending.secret else raw
                )  # type: ignore[union-attr]
                found.extend(op.puts["k"] for op in decode_pending(raw) if "k" in op.puts)

    db.peek(look)
    assert len(found) == len(set(found))
    return set(found)


def check_logs(db: InlineDatabase, keys: dict[bytes, bytes]) -> dict[tuple[int, int], bytes]:
    """Every log is gapless, chained and signed, and its row names its end; pending numbers follow. (log, n) -> hash."""
    held: dict[tuple[int, int], bytes] = {}

    def look(connection: sqlite3.Connection) -> None:
        logs = oplog.logs(connection)
        ends = {log: (0, row.salt) for log, row in logs.items()}
        for log, n, digest, blob in connection.execute("SELECT log, n, hash, blob FROM batch ORDER BY log, n"):
            batch = parse_batch(blob)
            verify_batch(batch, keys[batch.device])
            assert (batch.log, batch.n, batch.hash) == (log, n, digest)
            assert (batch.n - 1, batch.prev) == ends[log]
            ends[log] = (n, digest)
            held[log, n] = digest
        for log, row in logs.items():
            assert row.stored.n == ends[log][0]
            assert row.stored.n == 0 or row.stored.hash == ends[log][1]
            assert row.applied == row.stored
        own = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
        if own:
            first = logs[own[0]].stored.n + 1
            assert [p.n for p in oplog.pending(connection)] == list(
                range(first, first + len(oplog.pending(connection)))
            )

    db.peek(look)
    return held


def digest(db: InlineDatabase, device: Device) -> tuple[int, bytes]:
    """Number and whole state of the documents, secret ones opened; not where they stand in the change feed."""

    def look(connection: sqlite3.Connection) -> tuple[int, bytes]:
        found = [
            (where.name, stored.id, stored.row)
            for where in documents.collections(connection)
            for row in connection.execute(
                "SELECT id, seq, cl, body, clk, conflicts FROM document WHERE cid = ?", (where.cid,)
            )
            for stored in [documents.read_row(where, row, device.replica.vault)]
        ]
        return len(found), document_state.digest(found)

    return db.peek(look)


def go_on(db: InlineDatabase, device: Device, rng: random.Random) -> None:
    """The device starts again after the power came back: new writes, sealed in several batches."""
    for i in range(3):
        device.replica.sealer = None
        request = [Create("tasks", f"after {rng.random()}", {"i": i})]
        db.write_now(lambda tx, r=request: device.replica.write(tx, r, START_MS + 3_600_000))  # type: ignore[misc]
        db.write_now(lambda tx: device.replica.seal(tx, device.sealer))
