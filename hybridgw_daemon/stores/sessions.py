"""Refresh tokens, hashed, with their line of descent; access tokens that ended early; the version of all tokens."""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from typing import Final, NamedTuple

from hybridgw_storage.database import Tx

from . import meta

_VERSION: Final = "token_version"


class State(IntEnum):
    """Of a refresh token. ISSUED: nobody has used what came with it; REPLACED: a child was issued, none used yet."""

    ISSUED = 0
    IN_USE = 1
    REPLACED = 2
    DEAD = 3


class RefreshRow(NamedTuple):
    """One row of refresh_token, as the table says."""

    digest: bytes
    grant_id: str
    parent: bytes | None
    jti: str
    mode: str
    issued_ms: int
    expires_ms: int
    state: int


_COLUMNS: Final = ", ".join(RefreshRow._fields)


def add(tx: Tx, row: RefreshRow) -> None:
    """A refresh token that was just issued."""
    tx.execute(f"INSERT INTO refresh_token({_COLUMNS}) VALUES({', '.join('?' * len(row))})", row)


def get(connection: sqlite3.Connection, digest: bytes) -> RefreshRow | None:
    """One refresh token by its digest."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM refresh_token WHERE digest = ?", (digest,)).fetchone()
    return RefreshRow(*row) if row else None


def of_token(connection: sqlite3.Connection, jti: str, grant: str) -> RefreshRow | None:
    """The refresh token that was issued with an access token."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM refresh_token WHERE grant_id = ? AND jti = ?", (grant, jti)
    ).fetchone()
    return RefreshRow(*row) if row else None


def unused(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """(jti, grant) of access tokens that nobody has used yet."""
    found = connection.execute("SELECT jti, grant_id FROM refresh_token WHERE state = ?", (State.ISSUED,))
    return [(str(jti), str(grant)) for jti, grant in found]


def put_state(tx: Tx, digest: bytes, state: State) -> None:
    """It is in this state now."""
    tx.execute("UPDATE refresh_token SET state = ? WHERE digest = ?", (state, digest))


def bury_rivals(tx: Tx, row: RefreshRow) -> list[str]:
    """*row* is the one in use: its parent and the other children of it are dead. Returns: their access tokens."""
    if row.parent is None:
        return []
    rivals = tx.execute(
        "SELECT jti FROM refresh_token WHERE grant_id = ? AND parent = ? AND digest != ? AND state != ?",
        (row.grant_id, row.parent, row.digest, State.DEAD),
    ).fetchall()
    tx.execute(
        "UPDATE refresh_token SET state = ? WHERE grant_id = ? AND digest != ? AND (parent = ? OR digest = ?)",
        (State.DEAD, row.grant_id, row.digest, row.parent, row.parent),
    )
    return [str(jti) for (jti,) in rivals]


def forget(tx: Tx, grant: str | None = None) -> int:
    """Refresh tokens of a grant, or of all. Returns: how many grants had some."""
    where, values = ("WHERE grant_id = ?", (grant,)) if grant is not None else ("", ())
    count = tx.execute(f"SELECT count(DISTINCT grant_id) FROM refresh_token {where}", values).fetchone()[0]
    tx.execute(f"DELETE FROM refresh_token {where}", values)
    return int(count)


def forget_old(tx: Tx, now_ms: int) -> None:
    """What is over by itself."""
    tx.execute("DELETE FROM refresh_token WHERE expires_ms <= ?", (now_ms,))
    tx.execute("DELETE FROM revoked_token WHERE exp_ms <= ?", (now_ms,))


def revoke(tx: Tx, jti: str, exp_ms: int) -> None:
    """An access token ends before its time."""
    tx.execute("INSERT OR REPLACE INTO revoked_token(jti, exp_ms) VALUES(?, ?)", (jti, exp_ms))


def revoked(connection: sqlite3.Connection) -> dict[str, int]:
    """All that ended early, with the time until which it matters."""
    return {str(jti): int(exp) for jti, exp in connection.execute("SELECT jti, exp_ms FROM revoked_token")}


def version(connection: sqlite3.Connection) -> int:
    """Tokens of another version do not count."""
    return int(meta.get(connection, _VERSION, 1))


def raise_version(tx: Tx) -> int:
    """End every access token there is. Returns: the new version."""
    raised = version(tx.connection) + 1
    meta.put(tx, _VERSION, raised)
    tx.execute("DELETE FROM revoked_token")
    return raised
