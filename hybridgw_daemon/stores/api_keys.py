"""Keys for scripts, hashed."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from hybridgw_storage.database import Tx


class KeyRow(NamedTuple):
    """One row of api_key, as the table says."""

    id: str
    digest: bytes
    version: int
    note: str
    scopes: str
    origins: str
    created_ms: int
    expires_ms: int | None
    last_used_ms: int | None


_COLUMNS: Final = ", ".join(KeyRow._fields)


def add(tx: Tx, row: KeyRow) -> bool:
    """A new key. Returns False if the id is taken."""
    sql = f"INSERT OR IGNORE INTO api_key({_COLUMNS}) VALUES({', '.join('?' * len(row))})"
    return tx.execute(sql, row).rowcount > 0


def get(connection: sqlite3.Connection, key: str) -> KeyRow | None:
    """One key."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM api_key WHERE id = ?", (key,)).fetchone()
    return KeyRow(*row) if row else None


def all_of_them(connection: sqlite3.Connection) -> list[KeyRow]:
    """Latest first."""
    return [KeyRow(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM api_key ORDER BY created_ms DESC, id")]


def replace_secret(tx: Tx, key: str, digest: bytes) -> bool:
    """Another secret. Returns False if there is no such key."""
    return tx.execute("UPDATE api_key SET digest = ?, version = version + 1 WHERE id = ?", (digest, key)).rowcount > 0


def remove(tx: Tx, key: str) -> bool:
    """It is gone. Returns False if there is no such key."""
    return tx.execute("DELETE FROM api_key WHERE id = ?", (key,)).rowcount > 0


def touch(tx: Tx, key: str, at_ms: int) -> None:
    """It was used."""
    tx.execute("UPDATE api_key SET last_used_ms = ? WHERE id = ?", (at_ms, key))
