"""Facts about this installation, one row each: clock, change counter, own log, space, device."""

from __future__ import annotations

import sqlite3
from typing import Any

from hybridgw_storage.database import Tx


def get(connection: sqlite3.Connection, key: str, default: Any = None) -> Any:
    """The value stored under *key*."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return default if row is None else row[0]


def put(tx: Tx, key: str, value: object) -> None:
    """Store *value* (None, int, float, str, bytes) under *key*."""
    tx.execute(
        "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", (key, value)
    )
