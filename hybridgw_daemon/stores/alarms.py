"""Things a person should know about: forks, rollbacks, clocks, damage. One row per cause, kept until acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from hybridgw_storage.database import Tx


class Alarm(NamedTuple):
    """One alarm; detail is a map of identifiers and numbers, never content."""

    id: int
    at_ms: int
    code: str
    message: str
    detail: dict[str, Any]
    acknowledged: bool


def raise_alarm(tx: Tx, now_ms: int, code: str, message: str, **detail: object) -> bool:
    """Record an alarm once per code and detail. Returns False if it stands already."""
    cursor = tx.execute(
        "INSERT OR IGNORE INTO alarm(at_ms, code, message, detail) VALUES(?, ?, ?, ?)",
        (now_ms, code, message, _text(detail)),
    )
    return cursor.rowcount > 0


def clear_alarms(tx: Tx, code: str, **detail: object) -> None:
    """The cause is gone (a clock is right again): if it comes again, it is told again. Args: detail: only with this."""
    if detail:
        tx.execute("DELETE FROM alarm WHERE code = ? AND detail = ?", (code, _text(detail)))
    else:
        tx.execute("DELETE FROM alarm WHERE code = ?", (code,))


def acknowledge(tx: Tx, alarm: int) -> bool:
    """A person has seen it. Returns False if there is no such alarm."""
    return tx.execute("UPDATE alarm SET acknowledged = 1 WHERE id = ?", (alarm,)).rowcount > 0


def alarms(connection: sqlite3.Connection, *, all_of_them: bool = False) -> list[Alarm]:
    """Open alarms, newest first; all_of_them: acknowledged ones too."""
    rows = connection.execute(
        "SELECT id, at_ms, code, message, detail, acknowledged FROM alarm WHERE acknowledged <= ? ORDER BY id DESC",
        (int(all_of_them),),
    )
    return [Alarm(i, at, code, text, msgspec.json.decode(detail), bool(ack)) for i, at, code, text, detail, ack in rows]


def _text(detail: Mapping[str, object]) -> str:
    return msgspec.json.encode(detail, order="sorted").decode()
