"""Control records of the space, secrets of this device, relays, and what peers have confirmed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hybridgw_protocol.batch import Head
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_storage.database import Tx

from . import alarms


class RelayRow(NamedTuple):
    """A relay this space uses. enrol: sealed invite secret until it has admitted the space."""

    url: str
    enrol: bytes | None
    added_ms: int


# ---- control records ---------------------------------------------------------------------------------------------
def add_records(tx: Tx, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Keep (hash, raw record), prevs first; known ones are ignored."""
    tx.executemany("INSERT OR IGNORE INTO control(hash, record) VALUES(?, ?)", list(records))


def records(connection: sqlite3.Connection) -> list[bytes]:
    """All raw records in order of arrival."""
    return [r for (r,) in connection.execute("SELECT record FROM control ORDER BY rid")]


# ---- secrets of this device --------------------------------------------------------------------------------------
def put_secret(tx: Tx, name: str, sealed: bytes) -> None:
    """Keep sealed bytes under a name; replaces."""
    tx.execute("INSERT OR REPLACE INTO secret(name, sealed) VALUES(?, ?)", (name, sealed))


def secret(connection: sqlite3.Connection, name: str) -> bytes | None:
    """Sealed bytes of a name."""
    row = connection.execute("SELECT sealed FROM secret WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def delete_secret(tx: Tx, name: str) -> None:
    """Erase it: overwritten first, for SQLite leaves the bytes of a deleted row where they are."""
    tx.execute("UPDATE secret SET sealed = zeroblob(length(sealed)) WHERE name = ?", (name,))
    tx.execute("DELETE FROM secret WHERE name = ?", (name,))


# ---- relays ------------------------------------------------------------------------------------------------------
def put_relay(tx: Tx, url: str, enrol: bytes | None, now_ms: int) -> None:
    """Use a relay from now on."""
    tx.execute(
        "INSERT INTO relay(url, enrol, added_ms) VALUES(?, ?, ?) ON CONFLICT(url) DO UPDATE SET enrol = excluded.enrol",
        (url, enrol, now_ms),
    )


def relays(connection: sqlite3.Connection) -> list[RelayRow]:
    """Relays in the order they were added."""
    return [RelayRow(*r) for r in connection.execute("SELECT url, enrol, added_ms FROM relay ORDER BY added_ms, url")]


def delete_relay(tx: Tx, url: str) -> bool:
    """Stop using a relay and forget what it had. Returns False if it was not used."""
    tx.execute("DELETE FROM peer WHERE peer = ?", (url,))
    alarms.clear_alarms(tx, "relay_quota", peer=url)
    return tx.execute("DELETE FROM relay WHERE url = ?", (url,)).rowcount > 0


# ---- what peers have ---------------------------------------------------------------------------------------------
def peer_heads(connection: sqlite3.Connection, peer: str) -> dict[LogId, Head]:
    """The highest heads a peer has confirmed (16-byte hashes)."""
    rows = connection.execute("SELECT log, n, hash FROM peer WHERE peer = ?", (peer,))
    return {LogId(log): Head(n, digest) for log, n, digest in rows}


def confirm_heads(tx: Tx, peer: str, heads: Mapping[LogId, Head]) -> None:
    """A peer has these durably; lower numbers never replace higher ones."""
    tx.executemany(
        "INSERT INTO peer(peer, log, n, hash) VALUES(?, ?, ?, ?) ON CONFLICT(peer, log) "
        "DO UPDATE SET n = excluded.n, hash = excluded.hash WHERE excluded.n >= peer.n",
        [(peer, log, h.n, h.short) for log, h in heads.items()],
    )


def forget_peer(tx: Tx, peer: str) -> None:
    """The peer went back: what it had is not known any more."""
    tx.execute("DELETE FROM peer WHERE peer = ?", (peer,))


# ---- when devices were seen --------------------------------------------------------------------------------------
def saw_device(tx: Tx, device: DeviceId, now_ms: int) -> None:
    """A batch or connection of a device arrived now."""
    tx.execute(
        "INSERT INTO seen(device, last_ms) VALUES(?, ?) "
        "ON CONFLICT(device) DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)",
        (device, now_ms),
    )


def seen(connection: sqlite3.Connection) -> dict[DeviceId, int]:
    """Device -> Unix ms it was last heard of."""
    return {DeviceId(d): ms for d, ms in connection.execute("SELECT device, last_ms FROM seen")}
