"""Rows of letters: messages of other people that wait for a device. Sealed; a letter whose time is over just goes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.limits import MAX_LETTER_ROW_BYTES, MAX_LETTER_ROWS, MAX_LETTERS, MAX_LETTERS_BYTES
from hybridgw_storage.database import Tx

from .base import LetterRow

EXPIRE_PART: Final = 500  # letters in one transaction


def read_letters(
    connection: sqlite3.Connection, sid: int, dest: DeviceId, known: int, limit: int
) -> list[tuple[int, LetterRow]]:
    """Letters that wait for a device, the most urgent first. Args: known: so many of them are passed over."""
    rows = connection.execute(
        "SELECT rid, dest, person, sender, id, priority, expires_ms, blob FROM letter WHERE sid=? AND dest=? "
        "ORDER BY priority DESC, rid LIMIT ?",
        (sid, dest, known + limit),
    )
    return [(rid, LetterRow._make(row)) for rid, *row in rows]


def put_letters(tx: Tx, sid: int, rows: Sequence[LetterRow]) -> list[bool]:
    """Keep letters; see RelayStore."""
    taken: list[bool] = []
    for row in rows:
        place = (sid, row.dest, row.sender, row.id)
        if tx.execute("SELECT 1 FROM letter WHERE sid=? AND dest=? AND sender=? AND id=?", place).fetchone():
            taken.append(True)
            continue
        sums = "SELECT count(*), coalesce(sum(length(blob)), 0) FROM letter WHERE sid=? AND dest=?"
        count, size = tx.execute(f"{sums} AND person=?", (sid, row.dest, row.person)).fetchone()
        all_count, all_size = tx.execute(sums, (sid, row.dest)).fetchone()
        if (
            count >= MAX_LETTER_ROWS
            or all_count >= MAX_LETTERS
            or size + len(row.blob) > MAX_LETTER_ROW_BYTES
            or all_size + len(row.blob) > MAX_LETTERS_BYTES
        ):
            taken.append(False)
            continue
        tx.execute(
            "INSERT INTO letter(sid, dest, sender, id, person, priority, expires_ms, blob) VALUES(?,?,?,?,?,?,?,?)",
            (*place, row.person, row.priority, row.expires_ms, row.blob),
        )
        taken.append(True)
    return taken


def done_letters(tx: Tx, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
    """Forget letters."""
    tx.executemany(
        "DELETE FROM letter WHERE sid=? AND dest=? AND sender=? AND id=?",
        [(sid, dest, key[:16], key[16:]) for key in keys],
    )


def read_is_letter_over(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Is there something to forget."""
    return connection.execute("SELECT 1 FROM letter WHERE expires_ms<=? LIMIT 1", (now_ms,)).fetchone() is not None


def expire_letters(tx: Tx, now_ms: int) -> int:
    """Those whose time is over go, a part of them."""
    sql = "DELETE FROM letter WHERE rid IN (SELECT rid FROM letter WHERE expires_ms<=? LIMIT ?)"
    return tx.execute(sql, (now_ms, EXPIRE_PART)).rowcount
