"""Facts about this installation, one row each: clock, change counter, own log, space, device."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from hybridgw_protocol.ids import LogId
from hybridgw_storage.database import Tx

_decode_logs: Final = msgspec.msgpack.Decoder(list[LogId]).decode


def get(connection: sqlite3.Connection, key: str, default: Any = None) -> Any:
    """The value stored under *key*."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return default if row is None else row[0]


def put(tx: Tx, key: str, value: object) -> None:
    """Store *value* (None, int, float, str, bytes) under *key*."""
    tx.execute(
        "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", (key, value)
    )


def get_logs(connection: sqlite3.Connection, key: str) -> set[LogId]:
    """A set of logs that was stored under *key*; empty if none was."""
    raw = get(connection, key)
    return set() if raw is None else set(_decode_logs(raw))


def put_logs(tx: Tx, key: str, logs: Iterable[LogId]) -> None:
    """Store it."""
    put(tx, key, msgspec.msgpack.encode(sorted(logs)))


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
