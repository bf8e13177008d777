"""The audit log: rows are added and, when they are old or too many, removed; never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from hybridgw_storage.database import Tx

MOST_ROWS: Final = 10_000
MOST_OF_STRANGERS: Final = 2_000  # so that nobody pushes out what matters by knocking
KEPT_MS: Final = 365 * 86_400_000


class AuditRow(NamedTuple):
    """One row of audit, as the table says; detail decoded."""

    id: int
    at_ms: int
    event: str
    principal: str | None
    origin: str | None
    detail: dict[str, Any]
    times: int


def add(
    tx: Tx,
    at_ms: int,
    event: str,
    *,
    principal: str | None = None,
    origin: str | None = None,
    detail: Mapping[str, object] | None = None,
    count: int = 1,
) -> None:
    """Write down that something happened. Args: detail: plain values, no secrets."""
    tx.execute(
        "INSERT INTO audit(at_ms, event, principal, origin, detail, count) VALUES(?, ?, ?, ?, ?, ?)",
        (at_ms, event, principal, origin, msgspec.json.encode(detail or {}, order="sorted").decode(), count),
    )


def page(connection: sqlite3.Connection, *, before: int | None, event: str | None, limit: int) -> list[AuditRow]:
    """Latest first. Args: before: an id; event: exact, or what stands before the dot."""
    rows = connection.execute(
        "SELECT id, at_ms, event, principal, origin, detail, count FROM audit "
        "WHERE id < ? AND (? IS NULL OR event = ? OR substr(event, 1, length(?) + 1) = ? || '.') "
        "ORDER BY id DESC LIMIT ?",
        (2**62 if before is None else before, event, event, event, event, limit),
    )
    return [AuditRow(i, at, what, who, origin, msgspec.json.decode(d), n) for i, at, what, who, origin, d, n in rows]


def trim(tx: Tx, now_ms: int) -> None:
    """Remove what is too old, and the oldest of too many."""
    newest = tx.execute("SELECT max(id) FROM audit").fetchone()[0]
    if newest is not None:
        tx.execute("DELETE FROM audit WHERE id <= ? OR at_ms < ?", (newest - MOST_ROWS, now_ms - KEPT_MS))
        tx.execute(
            "DELETE FROM audit WHERE principal IS NULL AND id <= "
            "(SELECT id FROM audit WHERE principal IS NULL ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (MOST_OF_STRANGERS,),
        )
