"""What an administrator's commands do to the database file, beside a running relay or without one.

Every change counts up `meta.changes`, which the relay looks at once a second.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hybridgw_protocol.errors import AlreadyExists, NotFound, NotRunning
from hybridgw_protocol.ids import blake2b
from hybridgw_storage.database import InlineDatabase, Tx
from hybridgw_storage.migrations import prepare_file

from .base import AccountRow
from .schema import MIGRATIONS
from .sqlite import read_account, set_meta

SAMPLE_BYTES: Final = 160
USED_INVITES_KEPT_MS: Final = 30 * 86_400_000


@contextlib.contextmanager
def opened(path: Path, *, stamp: str, must_exist: bool = True) -> Iterator[InlineDatabase]:
    """The relay's file, for one command. Raises: NotRunning: there is none yet; as prepare_file."""
    if must_exist and not path.exists():
        raise NotRunning(f"There is no relay at {path}. Start one with 'hybridgw-relay serve', or name its --data.")
    prepare_file(path, MIGRATIONS, stamp=stamp)
    database = InlineDatabase(path)
    try:
        yield database
    finally:
        with contextlib.suppress(StopIteration):
            database.close().send(None)  # a coroutine that waits for nothing


def changed(tx: Tx) -> None:
    """Tell the running relay to look again."""
    tx.execute("INSERT INTO meta VALUES('changes', 1) ON CONFLICT DO UPDATE SET v=v+1")


def read_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A fact about this relay."""
    row = connection.execute("SELECT v FROM meta WHERE k=?", (key,)).fetchone()
    return row and str(row[0])


def create_invite(
    tx: Tx, account: str, invite_hash: bytes, *, now_ms: int, expires_ms: int, max_bytes: int | None,
    max_devices: int | None, default_bytes: int, default_devices: int,
) -> AccountRow:  # fmt: skip
    """Note an invite; its account is made if it is new. Limits that are given are set, also for an old account."""
    row = tx.execute("SELECT aid FROM account WHERE name=?", (account,)).fetchone()
    if row is None:
        aid = tx.execute(
            "INSERT INTO account(name, max_bytes, max_devices, created_ms) VALUES(?,?,?,?)",
            (account, max_bytes or default_bytes, max_devices or default_devices, now_ms),
        ).lastrowid
    else:
        aid = int(row[0])
        _set_limits(tx, aid, max_bytes, max_devices)
    tx.execute("DELETE FROM invite WHERE expires_ms<?", (now_ms - USED_INVITES_KEPT_MS,))
    tx.execute("INSERT INTO invite VALUES(?,?,?,?,NULL)", (invite_hash, aid, now_ms, expires_ms))
    changed(tx)
    return _account(tx.connection, account)


def accounts(connection: sqlite3.Connection) -> list[AccountRow]:
    """All accounts with their use, by name."""
    rows = [read_account(connection, aid) for (aid,) in connection.execute("SELECT aid FROM account ORDER BY name")]
    return [row for row in rows if row is not None]


def set_quota(tx: Tx, account: str, *, max_bytes: int | None, max_devices: int | None) -> AccountRow:
    """Change the limits of an account. Raises: NotFound."""
    _set_limits(tx, _account(tx.connection, account).aid, max_bytes, max_devices)
    changed(tx)
    return _account(tx.connection, account)


def rename_account(tx: Tx, account: str, name: str) -> AccountRow:
    """Raises: NotFound, AlreadyExists."""
    aid = _account(tx.connection, account).aid
    if tx.execute("SELECT 1 FROM account WHERE name=?", (name,)).fetchone():
        raise AlreadyExists(f"There is an account {name} already.")
    tx.execute("UPDATE account SET name=? WHERE aid=?", (name, aid))
    return _account(tx.connection, name)


def remove_account(tx: Tx, account: str) -> AccountRow:
    """Remove an account with everything that its spaces stored here. Raises: NotFound."""
    found = _account(tx.connection, account)
    for (sid,) in tx.execute("SELECT sid FROM space WHERE aid=?", (found.aid,)).fetchall():
        tx.execute("DELETE FROM batch WHERE sid=?", (sid,))
    tx.execute("DELETE FROM account WHERE aid=?", (found.aid,))
    changed(tx)
    return found


def _set_limits(tx: Tx, aid: int, max_bytes: int | None, max_devices: int | None) -> None:
    tx.execute(
        "UPDATE account SET max_bytes=coalesce(?,max_bytes), max_devices=coalesce(?,max_devices) WHERE aid=?",
        (max_bytes, max_devices, aid),
    )


def _account(connection: sqlite3.Connection, name: str) -> AccountRow:
    row = connection.execute("SELECT aid FROM account WHERE name=?", (name,)).fetchone()
    found = row and read_account(connection, row[0])
    if not found:
        raise NotFound(f"There is no account {name}. 'hybridgw-relay accounts' lists them.")
    return found


# ---- what is stored ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the whole relay. bytes: of sealed batches."""

    accounts: int
    spaces: int
    devices: int
    active_devices: int
    seen_last_day: int
    logs: int
    batches: int
    bytes: int
    open_invites: int
    evidence: int


def totals(connection: sqlite3.Connection, now_ms: int) -> Totals:
    """Sums over the whole relay."""
    row = connection.execute(
        """SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM space), (SELECT count(*) FROM device),
             (SELECT count(*) FROM device WHERE active), (SELECT count(*) FROM device WHERE seen_ms>:day),
             (SELECT count(*) FROM head), (SELECT coalesce(sum(batches), 0) FROM space),
             (SELECT coalesce(sum(bytes), 0) FROM space),
             (SELECT count(*) FROM invite WHERE used_ms IS NULL AND expires_ms>:now),
             (SELECT count(*) FROM evidence)""",
        {"day": now_ms - 86_400_000, "now": now_ms},
    ).fetchone()
    return Totals(*row)


def audit(connection: sqlite3.Connection) -> dict[str, Any]:
    """Exactly what the file holds, for `hybridgw-relay audit --json`: everything but the bytes of records and batches
    themselves, of which one raw row per table is shown as hex."""
    return {
        "spaces": [_audit_space(connection, *row) for row in connection.execute(
            """SELECT sid, id, name, batches, bytes, space.created_ms FROM space JOIN account USING(aid) ORDER BY sid"""
        ).fetchall()],
        "invites": [
            {"hash": digest.hex(), "expires_ms": expires_ms, "used_ms": used_ms}
            for digest, expires_ms, used_ms in connection.execute("SELECT hash, expires_ms, used_ms FROM invite")
        ],
        "accounts": [asdict(row) for row in accounts(connection)],
        "tables": {name: _audit_table(connection, name) for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        ).fetchall()},
    }  # fmt: skip


def _audit_space(
    connection: sqlite3.Connection, sid: int, space: bytes, account: str, batches: int, size: int, created_ms: int
) -> dict[str, Any]:
    first, last = connection.execute("SELECT min(at_ms), max(at_ms) FROM batch WHERE sid=?", (sid,)).fetchone()
    records, record_bytes = connection.execute(
        "SELECT count(*), coalesce(sum(length(record)), 0) FROM control WHERE sid=?", (sid,)
    ).fetchone()
    return {
        "space": space.hex(), "account": account, "created_ms": created_ms, "batches": batches, "batch_bytes": size,
        "first_batch_ms": first, "last_batch_ms": last, "control_records": records, "control_bytes": record_bytes,
        "devices": [
            {"device": dev.hex(), "key_fingerprint": fingerprint(sign), "active": bool(active),
             "seen_ms": seen_ms or None}
            for dev, sign, active, seen_ms in connection.execute(
                "SELECT dev, sign, active, seen_ms FROM device WHERE sid=? ORDER BY nr", (sid,)
            )
        ],
        "logs": [
            {"log": log, "device": dev.hex(), "n": n, "hash": digest.hex()}
            for log, dev, n, digest in connection.execute(
                "SELECT log, dev, n, hash FROM head WHERE sid=? ORDER BY log", (sid,)
            )
        ],
    }  # fmt: skip


def _audit_table(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    count = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
    cursor = connection.execute(f'SELECT * FROM "{name}" LIMIT 1')
    columns = [column[0] for column in cursor.description]
    row = cursor.fetchone()
    sample = None if row is None else {column: _shown(value) for column, value in zip(columns, row, strict=True)}
    return {"rows": count, "columns": columns, "sample": sample}


def _shown(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    text = value[:SAMPLE_BYTES].hex()
    return f"{text}… ({len(value)} bytes)" if len(value) > SAMPLE_BYTES else text


def fingerprint(public_key: bytes) -> str:
    """A device key for eyes: four groups of four hex digits."""
    text = blake2b(public_key, 8, "hgw-fingerprint").hex().upper()
    return " ".join(text[i : i + 4] for i in range(0, 16, 4))


__all__ = [
    "Totals", "accounts", "audit", "changed", "create_invite", "fingerprint", "opened", "read_meta",
    "remove_account", "rename_account", "set_meta", "set_quota", "totals",
]  # fmt: skip
