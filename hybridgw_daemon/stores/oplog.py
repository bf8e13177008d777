"""Logs and batches: what was written, sealed, received; which part of it is applied.

`log` rows are cached by the replica and written back once per transaction; batches are immutable but for their state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, Final

import msgspec

from hybridgw_protocol.batch import Batch, Head
from hybridgw_protocol.ids import DeviceId, KeyId, LogId
from hybridgw_protocol.vectors import Heads
from hybridgw_storage.database import Tx


class BatchState(IntEnum):
    """What became of a batch here."""

    STORED = 0
    APPLIED = 1


class LogRow(msgspec.Struct):
    """One log: stored (gapless, verified) and applied up to where; see stores/schema.py for the columns."""

    log: LogId
    device: DeviceId
    salt: bytes
    stored: Head
    applied: Head
    last_stamp: int = -1
    deps: Heads = {}  # 16-byte hashes
    control: tuple[bytes, ...] | None = None
    waiting: str | None = None


class Pending(msgspec.Struct):
    """Writes not sealed yet, of one batch number."""

    n: int
    secret: bool
    rows: list[bytes]


_COLUMNS: Final = (
    "log, device, salt, stored_n, stored_hash, applied_n, applied_hash, last_stamp, deps, control, waiting"
)
_decode_deps = msgspec.msgpack.Decoder(Heads).decode
_decode_control = msgspec.msgpack.Decoder(tuple[bytes, ...] | None).decode
_encode = msgspec.msgpack.Encoder().encode


# ---- logs --------------------------------------------------------------------------------------------------------
def logs(connection: sqlite3.Connection) -> dict[LogId, LogRow]:
    """Every log of the space."""
    return {LogId(row[0]): _log(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM log")}


def _log(r: Sequence[Any]) -> LogRow:
    log, device, salt, sn, sh, an, ah, stamp, deps, control, waiting = r
    return LogRow(
        log, device, salt, Head(sn, sh), Head(an, ah), stamp, _decode_deps(deps), _decode_control(control), waiting
    )


def save_logs(tx: Tx, rows: Iterable[LogRow]) -> None:
    """Insert or replace."""
    tx.executemany(
        f"INSERT OR REPLACE INTO log({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                r.log, r.device, r.salt, r.stored.n, r.stored.hash, r.applied.n, r.applied.hash, r.last_stamp,
                _encode(r.deps), _encode(r.control), r.waiting,
            )
            for r in rows
        ],
    )  # fmt: skip


# ---- batches -----------------------------------------------------------------------------------------------------
def add_batches(tx: Tx, batches: Iterable[Batch], state: BatchState, *, authored: bool = False) -> None:
    """Append verified batches in order of arrival. authored: sealed by this database."""
    tx.executemany(
        "INSERT INTO batch(log, n, hash, state, authored, blob) VALUES(?, ?, ?, ?, ?, ?)",
        [(b.log, b.n, b.hash, int(state), authored, b.blob) for b in batches],
    )


def mark(tx: Tx, log: LogId, first: int, last: int, state: BatchState) -> None:
    """Set the state of the batches first to last of a log."""
    tx.execute("UPDATE batch SET state = ? WHERE log = ? AND n BETWEEN ? AND ?", (int(state), log, first, last))


def mark_all_stored(tx: Tx) -> None:
    """Before a rebuild: nothing is applied."""
    tx.execute("UPDATE batch SET state = 0")


def hash_at(connection: sqlite3.Connection, log: LogId, n: int) -> bytes | None:
    """H of the live batch at a place."""
    row = connection.execute("SELECT hash FROM batch WHERE log = ? AND n = ?", (log, n)).fetchone()
    return row[0] if row else None


def hashes(connection: sqlite3.Connection, log: LogId) -> list[tuple[int, bytes]]:
    """(n, H) of all live batches of a log, ascending."""
    return connection.execute("SELECT n, hash FROM batch WHERE log = ? ORDER BY n", (log,)).fetchall()


def blobs(connection: sqlite3.Connection, log: LogId, after: int, most_bytes: int) -> list[bytes]:
    """Blobs of one log above n = after, ascending, up to about *most_bytes* (at least one)."""
    return _take(
        connection.execute("SELECT blob FROM batch WHERE log = ? AND n > ? ORDER BY n", (log, after)), most_bytes
    )


def _take(rows: Iterable[Sequence[bytes]], most_bytes: int) -> list[bytes]:
    found, size = [], 0
    for (blob,) in rows:
        found.append(blob)
        size += len(blob)
        if size >= most_bytes:
            break
    return found


def outgoing(
    connection: sqlite3.Connection, after_rid: int, have: dict[LogId, int], most_bytes: int, most: int
) -> tuple[list[tuple[int, LogId, int, bytes]], int, bool]:
    """Batches in arrival order after a row, without those the other side has.

    Returns: ([(rid, log, n, blob)], last row looked at, whether there may be more).
    """
    found: list[tuple[int, LogId, int, bytes]] = []
    size, last = 0, after_rid
    rows = connection.execute("SELECT rid, log, n FROM batch WHERE rid > ? ORDER BY rid", (after_rid,))
    for rid, log, n in rows:
        last = rid
        if n <= have.get(log, 0):
            continue
        blob = connection.execute("SELECT blob FROM batch WHERE rid = ?", (rid,)).fetchone()[0]
        found.append((rid, log, n, blob))
        size += len(blob)
        if size >= most_bytes or len(found) >= most:
            return found, last, True
    return found, last, False


def unapplied_bytes(connection: sqlite3.Connection) -> dict[LogId, int]:
    """Bytes stored and not applied, per log."""
    rows = connection.execute("SELECT log, sum(length(blob)) FROM batch WHERE state = 0 GROUP BY log")
    return {LogId(log): size for log, size in rows}


# ---- evidence of forks -------------------------------------------------------------------------------------------
def add_evidence(tx: Tx, batch: Batch, now_ms: int) -> bool:
    """Keep a batch of another branch. Returns False if it was kept already."""
    cursor = tx.execute(
        "INSERT OR IGNORE INTO evidence(log, n, hash, at_ms, authored, blob) VALUES(?, ?, ?, ?, 0, ?)",
        (batch.log, batch.n, batch.hash, now_ms, batch.blob),
    )
    return cursor.rowcount > 0


def evidence(connection: sqlite3.Connection, log: LogId) -> list[bytes]:
    """Blobs of other branches of a log, ascending n."""
    return [b for (b,) in connection.execute("SELECT blob FROM evidence WHERE log = ? ORDER BY n, hash", (log,))]


def void_counts(connection: sqlite3.Connection) -> dict[LogId, int]:
    """How many batches off the live branch are kept, per log."""
    return {LogId(log): n for log, n in connection.execute("SELECT log, count(*) FROM evidence GROUP BY log")}


def forget_evidence(tx: Tx, log: LogId) -> None:
    """What is off the live branch of a log is of no use any more."""
    tx.execute("DELETE FROM evidence WHERE log = ?", (log,))


def oldest_evidence_ms(connection: sqlite3.Connection, log: LogId) -> int | None:
    """When the first batch off the live branch of a log was set aside; None: there is none."""
    at_ms: int | None = connection.execute("SELECT min(at_ms) FROM evidence WHERE log = ?", (log,)).fetchone()[0]
    return at_ms


def forget_old_evidence(tx: Tx, log: LogId, before_ms: int, *, authored: bool) -> int:
    """Forget what was set aside before a time. Args: authored: also what was sealed here. Returns how many batches."""
    return tx.execute(
        "DELETE FROM evidence WHERE log = ? AND at_ms < ? AND authored <= ?", (log, before_ms, authored)
    ).rowcount


def evidence_has(connection: sqlite3.Connection, log: LogId, n: int, digest: bytes) -> bool:
    """Is this batch kept as evidence."""
    row = connection.execute("SELECT 1 FROM evidence WHERE log = ? AND n = ? AND hash = ?", (log, n, digest)).fetchone()
    return row is not None


def replace_branch(tx: Tx, log: LogId, fork: int, branch: Sequence[Batch], now_ms: int) -> None:
    """Make *branch* (batches fork+1 …) the live one; what stood there becomes evidence."""
    tx.execute(
        "INSERT OR IGNORE INTO evidence(log, n, hash, at_ms, authored, blob) "
        "SELECT log, n, hash, ?, authored, blob FROM batch WHERE log = ? AND n > ?",
        (now_ms, log, fork),
    )
    own = {digest for (digest,) in tx.execute("SELECT hash FROM evidence WHERE log = ? AND authored = 1", (log,))}
    tx.execute("DELETE FROM batch WHERE log = ? AND n > ?", (log, fork))
    for batch in branch:
        add_batches(tx, [batch], BatchState.STORED, authored=batch.hash in own)
    tx.executemany("DELETE FROM evidence WHERE log = ? AND n = ? AND hash = ?", [(log, b.n, b.hash) for b in branch])


def authored_void(connection: sqlite3.Connection, log: LogId) -> list[bytes]:
    """Blobs sealed here that are off the live branch of a log, ascending n."""
    rows = connection.execute("SELECT blob FROM evidence WHERE log = ? AND authored = 1 ORDER BY n", (log,))
    return [blob for (blob,) in rows]


def forget_authored(tx: Tx, log: LogId) -> None:
    """What was void of ours is sealed again: it is mere evidence from now on."""
    tx.execute("UPDATE evidence SET authored = 0 WHERE log = ?", (log,))


def delete_log(tx: Tx, log: LogId) -> None:
    """Forget a log that never had a batch."""
    tx.execute("DELETE FROM log WHERE log = ?", (log,))


# ---- pending writes ----------------------------------------------------------------------------------------------
def add_pending(tx: Tx, rows: Sequence[tuple[int, bool, bytes]]) -> None:
    """Remember the operations of writes until they are sealed. Args: rows: (batch number, secret, operations)."""
    tx.executemany("INSERT INTO pending(n, secret, ops) VALUES(?, ?, ?)", rows)


def pending(connection: sqlite3.Connection) -> list[Pending]:
    """Unsealed writes, grouped by their batch, in order."""
    return by_batch(connection.execute("SELECT n, secret, ops FROM pending ORDER BY rid"))


def by_batch(rows: Iterable[tuple[int, bool, bytes]]) -> list[Pending]:
    """The same of rows in the order they were written."""
    found: list[Pending] = []
    for n, secret, ops in rows:
        if not found or found[-1].n != n:
            found.append(Pending(n, bool(secret), []))
        found[-1].rows.append(ops)
    return found


def clear_pending(tx: Tx) -> None:
    """All of it was sealed."""
    tx.execute("DELETE FROM pending")


def has_pending(connection: sqlite3.Connection) -> bool:
    """Is anything not sealed yet."""
    return connection.execute("SELECT 1 FROM pending LIMIT 1").fetchone() is not None


def pending_size(connection: sqlite3.Connection) -> tuple[int, int]:
    """(writes, bytes) not sealed yet."""
    row = connection.execute("SELECT count(*), coalesce(sum(length(ops)), 0) FROM pending").fetchone()
    return int(row[0]), int(row[1])


def row_before(connection: sqlite3.Connection, lacking: dict[LogId, int]) -> int:
    """The row before the first batch above any of these (log -> n); the last row if there is none."""
    first = [
        connection.execute("SELECT min(rid) FROM batch WHERE log = ? AND n > ?", (log, n)).fetchone()[0]
        for log, n in lacking.items()
    ]
    found = [rid for rid in first if rid is not None]
    if found:
        return int(min(found)) - 1
    return last_row(connection)


def last_row(connection: sqlite3.Connection) -> int:
    """The row that arrived last."""
    return int(connection.execute("SELECT coalesce(max(rid), 0) FROM batch").fetchone()[0])


def all_blobs(connection: sqlite3.Connection) -> Iterable[bytes]:
    """Every live batch, in order of arrival."""
    return (blob for (blob,) in connection.execute("SELECT blob FROM batch ORDER BY rid"))


def clear_all(tx: Tx) -> None:
    """Forget logs, batches, evidence, pending writes and what peers had: another space begins."""
    for table in ("batch", "evidence", "log", "pending", "peer", "control", "seen"):
        tx.execute(f"DELETE FROM {table}")


def keys_in_use(connection: sqlite3.Connection) -> frozenset[KeyId]:
    """Ids of the keys that live batches are sealed under (bytes 50 to 57). Reads every batch: seconds per GB."""
    return frozenset(KeyId(kid) for (kid,) in connection.execute("SELECT DISTINCT substr(blob, 51, 8) FROM batch"))
