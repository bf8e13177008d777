"""Rows of what the other devices told of their programs last."""

from __future__ import annotations

import sqlite3

from hybridgw_storage.database import Tx


def put(tx: Tx, device: bytes, now_ms: int, told_ms: int, said: bytes) -> None:
    """What a device tells. Args: now_ms: when it came; told_ms: when it was said, by that device's clock."""
    tx.execute(
        "INSERT INTO presence VALUES(?, ?, ?, ?) ON CONFLICT(device) DO UPDATE SET at_ms = excluded.at_ms, "
        "told_ms = excluded.told_ms, said = excluded.said WHERE excluded.told_ms >= presence.told_ms "
        "OR excluded.at_ms > presence.at_ms + 3600000",  # its clock was set back: after an hour it is believed again
        (device, now_ms, told_ms, said),
    )


def read(connection: sqlite3.Connection) -> list[tuple[bytes, int, bytes]]:
    """(device, when it came, what was said) of each."""
    return connection.execute("SELECT device, at_ms, said FROM presence ORDER BY device").fetchall()
