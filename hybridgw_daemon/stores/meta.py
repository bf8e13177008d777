"""Facts about this installation, one row each: clock, change counter, own log, space, device."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
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


def delete(tx: Tx, key: str) -> None:
    """Forget what is stored under *key*, if anything is."""
    tx.execute("DELETE FROM meta WHERE key = ?", (key,))


def put_all(tx: Tx, values: Mapping[str, object]) -> None:
    """Store several values in one statement. Args: values: one or more, as for `put`."""
    rows = ", ".join(["(?, ?)"] * len(values))
    tx.execute(
        f"INSERT INTO meta(key, value) VALUES {rows} ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        [part for item in values.items() for part in item],
    )


def install_name(tx: Tx, entropy: Callable[[int], bytes]) -> str:
    """A name for this installation that does not change when its folder moves; made if there is none."""
    found = get(tx.connection, "install")
    if found is None:
        found = entropy(8).hex()
        put(tx, "install", found)
    return str(found)
