"""Rows of the way between devices: numbers of streams, messages that came before their turn, receipts to send."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from hybridgw_protocol.messages import MessageState
from hybridgw_storage.database import Tx

_STATES: Final = {str(state): state for state in MessageState}


class Held(NamedTuple):
    """A message that is here and not shown. content: None: a tombstone."""

    sender: bytes
    stream: int
    priority: int
    seq: int
    id: bytes
    created_ms: int
    expires_ms: int
    at_ms: int
    content: bytes | None


# ---- order -----------------------------------------------------------------------------------------------------------
def last_seq(tx: Tx, sender: bytes, stream: int, priority: int) -> int:
    """The number that was shown last; 0: none."""
    row = tx.execute(
        "SELECT seq FROM stream WHERE device = ? AND stream = ? AND priority = ? AND is_out = 0",
        (sender, stream, priority),
    ).fetchone()
    return 0 if row is None else int(row[0])


def set_last_seq(tx: Tx, sender: bytes, stream: int, priority: int, seq: int) -> None:
    """It was shown, or its place was given away."""
    tx.execute(
        "INSERT INTO stream VALUES(?, ?, ?, 0, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
        (sender, stream, priority, seq),
    )


def is_any_held(tx: Tx, sender: bytes, stream: int, priority: int) -> bool:
    """Does something wait in this stream."""
    row = tx.execute(
        "SELECT 1 FROM held WHERE sender = ? AND stream = ? AND priority = ? LIMIT 1", (sender, stream, priority)
    ).fetchone()
    return row is not None


def hold(tx: Tx, held: Held) -> None:
    """Keep it for its turn; one that is kept already stays."""
    tx.execute("INSERT OR IGNORE INTO held VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", held)


def take_held(tx: Tx, sender: bytes, stream: int, priority: int, seq: int) -> Held | None:
    """The one that waits for this place."""
    place = (sender, stream, priority, seq)
    where = "WHERE sender = ? AND stream = ? AND priority = ? AND seq = ?"
    row = tx.execute(f"SELECT * FROM held {where}", place).fetchone()
    if row is None:
        return None
    tx.execute(f"DELETE FROM held {where}", place)
    return Held._make(row)


def first_held(tx: Tx, sender: bytes, stream: int, priority: int) -> int | None:
    """The lowest number that waits in a stream."""
    row = tx.execute(
        "SELECT min(seq) FROM held WHERE sender = ? AND stream = ? AND priority = ?", (sender, stream, priority)
    ).fetchone()
    return None if row is None else row[0]


def overdue(connection: sqlite3.Connection, before_ms: int) -> list[tuple[bytes, int, int]]:
    """Streams in which one has waited since before this time."""
    rows = connection.execute("SELECT DISTINCT sender, stream, priority FROM held WHERE at_ms <= ?", (before_ms,))
    return [(sender, stream, priority) for sender, stream, priority in rows]


# ---- receipts --------------------------------------------------------------------------------------------------------
class ReceiptRow(NamedTuple):
    """One row of receipt."""

    recipient: bytes
    id: bytes
    state: MessageState
    at_ms: int


def receipts(
    connection: sqlite3.Connection, limit: int, only: bytes | None = None, but: Iterable[bytes] = ()
) -> list[ReceiptRow]:
    """What devices of this space are to be told, by recipient. Args: only: to this device; but: not to these."""
    rows = connection.execute(
        "SELECT recipient, id, state, at_ms FROM receipt WHERE length(recipient) = 16 "
        "AND (?1 IS NULL OR recipient = ?1) AND hex(recipient) NOT IN (SELECT value FROM json_each(?2)) "
        "ORDER BY recipient LIMIT ?3",
        (only, json.dumps([device.hex().upper() for device in but]), limit),
    )
    return [ReceiptRow(recipient, id, _STATES[state], at) for recipient, id, state, at in rows]


def told(tx: Tx, done: Iterable[ReceiptRow]) -> None:
    """These were put."""
    tx.executemany(
        "DELETE FROM receipt WHERE recipient = ? AND id = ? AND state = ? AND at_ms = ?", [tuple(row) for row in done]
    )
