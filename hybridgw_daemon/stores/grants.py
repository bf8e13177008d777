"""Apps that a person has let in, and whom a person refused."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from hybridgw_storage.database import Tx

KEPT_MS: Final = 180 * 86_400_000  # ended ones, so that a person can see what there was


class GrantRow(NamedTuple):
    """One row of app_grant, as the table says."""

    id: str
    kind: str
    origin: str | None
    name: str
    scopes: str
    lasts: str
    asked_ms: int
    approved_ms: int
    expires_ms: int | None
    last_used_ms: int | None
    claim: bytes
    claim_ms: int
    ended_ms: int | None
    reason: str | None
    key: bytes | None = None


_COLUMNS: Final = ", ".join(GrantRow._fields)


def add(tx: Tx, row: GrantRow) -> None:
    """A grant that was just approved."""
    tx.execute(f"INSERT INTO app_grant({_COLUMNS}) VALUES({', '.join('?' * len(row))})", row)


def get(connection: sqlite3.Connection, grant: str) -> GrantRow | None:
    """One grant, ended or not."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM app_grant WHERE id = ?", (grant,)).fetchone()
    return GrantRow(*row) if row else None


def all_of_them(connection: sqlite3.Connection, *, ended: bool = False) -> list[GrantRow]:
    """Those that count, latest first. Args: ended: the others too."""
    where = "" if ended else "WHERE ended_ms IS NULL"
    rows = connection.execute(f"SELECT {_COLUMNS} FROM app_grant {where} ORDER BY approved_ms DESC, id")
    return [GrantRow(*row) for row in rows]


def end(tx: Tx, grant: str, now_ms: int, reason: str) -> bool:
    """It counts no more, nor do its refresh tokens. Returns False if it was ended already, or never was."""
    found = tx.execute(
        "UPDATE app_grant SET ended_ms = ?, reason = ? WHERE id = ? AND ended_ms IS NULL", (now_ms, reason, grant)
    ).rowcount
    tx.execute("DELETE FROM refresh_token WHERE grant_id = ?", (grant,))
    return found > 0


def touch(tx: Tx, grant: str, at_ms: int) -> None:
    """It was used."""
    tx.execute("UPDATE app_grant SET last_used_ms = ? WHERE id = ?", (at_ms, grant))


def forget_old(tx: Tx, now_ms: int) -> None:
    """What ended long ago, and refusals that are over."""
    tx.execute("DELETE FROM app_grant WHERE ended_ms < ?", (now_ms - KEPT_MS,))
    tx.execute("DELETE FROM app_refusal WHERE until_ms <= ?", (now_ms,))


def refuse(tx: Tx, who: str, until_ms: int) -> None:
    """Remember that a person does not want it."""
    tx.execute("INSERT OR REPLACE INTO app_refusal(who, until_ms) VALUES(?, ?)", (who, until_ms))


def forgive(tx: Tx, who: str) -> None:
    """A person has changed their mind."""
    tx.execute("DELETE FROM app_refusal WHERE who = ?", (who,))


def refused_until(connection: sqlite3.Connection, who: str) -> int:
    """When it may ask again; 0 if it was not refused."""
    row = connection.execute("SELECT until_ms FROM app_refusal WHERE who = ?", (who,)).fetchone()
    return int(row[0]) if row else 0
