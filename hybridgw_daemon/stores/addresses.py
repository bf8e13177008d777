"""Where other devices may be reached directly: what a person typed, and where each device last proved itself."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from hybridgw_protocol.ids import DeviceId
from hybridgw_storage.database import Tx

from ..core.addresses import Address


class LastGood(NamedTuple):
    """One row of device_address."""

    device: DeviceId
    address: Address
    last_ms: int


# ---- typed by a person ---------------------------------------------------------------------------------------------
def add_manual(tx: Tx, address: Address, now_ms: int) -> None:
    """Keep it; no change if it is kept already."""
    tx.execute("INSERT OR IGNORE INTO manual_address(host, port, added_ms) VALUES(?, ?, ?)", (*address, now_ms))


def remove_manual(tx: Tx, address: Address) -> bool:
    """Returns False if there is no such address."""
    return tx.execute("DELETE FROM manual_address WHERE host = ? AND port = ?", address).rowcount > 0


def manual(connection: sqlite3.Connection) -> list[Address]:
    """In the order they were added."""
    return [
        Address(*row) for row in connection.execute("SELECT host, port FROM manual_address ORDER BY added_ms, rowid")
    ]


# ---- where devices proved themselves -------------------------------------------------------------------------------
def worked(tx: Tx, device: DeviceId, address: Address, now_ms: int, *, keep: int) -> None:
    """The device is at this address now. Args: keep: addresses of one device, the latest."""
    tx.execute(
        "INSERT INTO device_address(device, host, port, last_ms) VALUES(?, ?, ?, ?) "
        "ON CONFLICT(device, host, port) DO UPDATE SET last_ms = excluded.last_ms",
        (device, *address, now_ms),
    )
    tx.execute(
        "DELETE FROM device_address WHERE device = ?1 AND rowid NOT IN "
        "(SELECT rowid FROM device_address WHERE device = ?1 ORDER BY last_ms DESC, rowid DESC LIMIT ?2)",
        (device, keep),
    )


def forget(tx: Tx, device: DeviceId) -> None:
    """The device is no member any more."""
    tx.execute("DELETE FROM device_address WHERE device = ?", (device,))


def last_good(connection: sqlite3.Connection) -> list[LastGood]:
    """Of all devices, the latest first."""
    rows = connection.execute(
        "SELECT device, host, port, last_ms FROM device_address ORDER BY last_ms DESC, rowid DESC"
    )
    return [LastGood(DeviceId(device), Address(host, port), last_ms) for device, host, port, last_ms in rows]
