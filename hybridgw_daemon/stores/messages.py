"""Rows of messages: what was sent and what arrived, what became of it at each device, and the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.messages import AFTER, DEAD, OPEN, MessageState, Priority, advance
from hybridgw_storage.database import Tx

THIS: Final = b""  # as a device: the one whose database this is
UNRESOLVED: Final = b"?"  # as a recipient: devices that are not known while the keys are locked
HISTORY_MS: Final = 90 * 86_400_000
EXPIRE_PART: Final = 200  # messages in one transaction

_COLUMNS: Final = (
    "rid, sender, id, kind, name, place, type, client, principal, priority, created_ms, expires_ms, digest, reply, "
    "body, gap, changes"
)


class MessageRow(NamedTuple):
    """One row of message, as the table says."""

    rid: int
    sender: bytes
    id: bytes
    kind: str
    name: str
    place: str
    type: str
    client: str
    principal: str
    priority: int
    created_ms: int
    expires_ms: int
    digest: bytes
    reply: bytes
    body: bytes
    gap: int
    changes: int


class DeliveryRow(NamedTuple):
    """One row of delivery, as the table says."""

    rid: int
    recipient: bytes
    priority: int
    stream: int
    seq: int
    state: MessageState
    at_ms: int
    next_ms: int | None
    tries: int
    error: str | None


# ---- writing ---------------------------------------------------------------------------------------------------------
def add(tx: Tx, row: MessageRow) -> int:
    """A new message. Returns its rid; that of *row* does not count."""
    cursor = tx.execute(
        f"INSERT INTO message({_COLUMNS}, is_open) VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        row[1:],
    )
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has one
    return cursor.lastrowid


def add_delivery(
    tx: Tx, rid: int, recipient: bytes, priority: int, state: MessageState, now_ms: int, *, stream: int = 0,
    seq: int = 0, next_ms: int | None = None,
) -> None:  # fmt: skip
    """One device that it goes to."""
    tx.execute(
        "INSERT INTO delivery VALUES(?, ?, ?, ?, ?, ?, ?, ?, 0, NULL)",
        (rid, recipient, priority, stream, seq, state, now_ms, next_ms),
    )


def next_seq(tx: Tx, device: bytes, stream: int, priority: int) -> int:
    """The number of the next message to a device."""
    row = tx.execute(
        "INSERT INTO stream VALUES(?, ?, ?, 1, 1) ON CONFLICT DO UPDATE SET seq = seq + 1 RETURNING seq",
        (device, stream, priority),
    ).fetchone()
    return int(row[0])


def tell(
    tx: Tx, rid: int, recipient: bytes, told: MessageState, at_ms: int, *, next_ms: int | None = None,
    error: str | None = None,
) -> bool:  # fmt: skip
    """News of a delivery. Returns whether they are news; old news changes nothing. Args: next_ms: when to put it again,
    if it is still open."""
    row = tx.execute("SELECT state FROM delivery WHERE rid = ? AND recipient = ?", (rid, recipient)).fetchone()
    if row is None:
        return False
    now = MessageState(row[0])
    new = advance(now, told)
    if new is now:
        return False
    tx.execute(
        "UPDATE delivery SET state = ?, at_ms = ?, next_ms = ?, error = ? WHERE rid = ? AND recipient = ?",
        (new, at_ms, next_ms, error, rid, recipient),
    )
    tx.execute("UPDATE message SET changes = changes + 1 WHERE rid = ?", (rid,))
    return True


def put_again(tx: Tx, rid: int, recipient: bytes, next_ms: int | None, error: str | None) -> None:
    """It was put, or refused for now."""
    tx.execute(
        "UPDATE delivery SET next_ms = ?, tries = tries + 1, error = ? WHERE rid = ? AND recipient = ?",
        (next_ms, error, rid, recipient),
    )


def expire(tx: Tx, now_ms: int) -> list[tuple[MessageRow, bytes]]:
    """End what is over, a part of it. Returns the deliveries that expired now: (message, recipient)."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM message WHERE is_open = 1 AND expires_ms <= ? LIMIT ?", (now_ms, EXPIRE_PART)
    ).fetchall()
    found: list[tuple[MessageRow, bytes]] = []
    for row in map(MessageRow._make, rows):
        tx.execute("UPDATE message SET is_open = 0 WHERE rid = ?", (row.rid,))
        for delivery in deliveries(tx.connection, row.rid):
            is_over = delivery.state in OPEN or (
                delivery.recipient == THIS and delivery.state is MessageState.DELIVERED
            )
            # One that was never put leaves a hole in its stream: a tombstone must still travel.
            is_hole = delivery.state is MessageState.QUEUED and delivery.seq > 0
            if is_over and tell(
                tx, row.rid, delivery.recipient, MessageState.EXPIRED, now_ms, next_ms=now_ms if is_hole else None
            ):
                found.append((row, delivery.recipient))
        tx.execute("UPDATE copy SET state = 2 WHERE rid = ? AND state = 0", (row.rid,))
    return found


def is_any_over(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Is there something to expire."""
    row = connection.execute("SELECT 1 FROM message WHERE is_open = 1 AND expires_ms <= ? LIMIT 1", (now_ms,))
    return row.fetchone() is not None


def forget_body(tx: Tx, rid: int) -> None:
    """Its row stays a while, for it knows the id; what it says is gone."""
    tx.execute("UPDATE message SET body = ? WHERE rid = ?", (b"null", rid))


def resolve(tx: Tx, rid: int) -> None:
    """Its devices are known now: the place that was kept for them goes."""
    tx.execute("DELETE FROM delivery WHERE rid = ? AND recipient = ?", (rid, UNRESOLVED))


def add_receipt(tx: Tx, recipient: bytes, id: bytes, state: MessageState, at_ms: int) -> None:
    """Its sender is to be told."""
    tx.execute("INSERT OR REPLACE INTO receipt VALUES(?, ?, ?, ?)", (recipient, id, state, at_ms))


def remove(tx: Tx, rid: int) -> None:
    """Forget a message."""
    tx.execute("DELETE FROM copy WHERE rid = ?", (rid,))
    tx.execute("DELETE FROM delivery WHERE rid = ?", (rid,))
    tx.execute("DELETE FROM message WHERE rid = ?", (rid,))


def forget_old(tx: Tx, now_ms: int, dedupe_ms: int) -> int:
    """Remove a part of what is too old: HISTORY_MS after it was made, and *dedupe_ms* after its end at the earliest."""
    rows = tx.execute(
        "SELECT rid FROM message WHERE is_open = 0 AND created_ms < ? AND expires_ms < ? ORDER BY rid LIMIT ?",
        (now_ms - HISTORY_MS, now_ms - dedupe_ms, EXPIRE_PART),
    ).fetchall()
    for (rid,) in rows:
        remove(tx, rid)
    return len(rows)


# ---- reading ---------------------------------------------------------------------------------------------------------
def find(connection: sqlite3.Connection, sender: bytes, id: bytes) -> MessageRow | None:
    """The message of a sender."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM message WHERE sender = ? AND id = ?", (sender, id)).fetchone()
    return None if row is None else MessageRow._make(row)


def get(connection: sqlite3.Connection, id: bytes) -> MessageRow | None:
    """The message of this id; one of ours, if several senders have it."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM message WHERE id = ? ORDER BY sender LIMIT 1", (id,)).fetchone()
    return None if row is None else MessageRow._make(row)


def deliveries(connection: sqlite3.Connection, rid: int) -> list[DeliveryRow]:
    """What became of it at each device."""
    rows = connection.execute("SELECT * FROM delivery WHERE rid = ? ORDER BY recipient", (rid,))
    return [_delivery(row) for row in rows]


def _delivery(row: Sequence[object]) -> DeliveryRow:
    found = DeliveryRow._make(row)
    return found._replace(state=MessageState(found.state))


def page(
    connection: sqlite3.Connection, *, box: str, type: str | None, sender: bytes | None, client: str | None,
    state: str | None, before: int, limit: int,
) -> list[MessageRow]:  # fmt: skip
    """Newest first. Args: box: all, in, out, dead; type: exact, or with * at its end; before: a rid."""
    where, values = ["rid < ?"], [before]
    terms: list[tuple[str, list[object]]] = []
    if box == "in":
        terms.append(("sender <> x''", []))
    elif box == "out":
        terms.append(("sender = x''", []))
    elif box == "dead":
        terms.append(("sender = x'' AND rid IN (SELECT rid FROM delivery WHERE state IN ('expired', 'failed'))", []))
    if type is not None and type.endswith("*"):
        terms.append(("substr(type, 1, ?) = ?", [len(type) - 1, type[:-1]]))
    elif type is not None:
        terms.append(("type = ?", [type]))
    if sender is not None:
        terms.append(("(sender = ? OR rid IN (SELECT rid FROM delivery WHERE recipient = ?))", [sender, sender]))
    if client is not None:
        terms.append(("client = ?", [client]))
    if state is not None:
        terms.append(("rid IN (SELECT rid FROM delivery WHERE state = ?)", [state]))
    arguments: list[object] = [*values]
    for term, given in terms:
        where.append(term)
        arguments += given
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM message WHERE {' AND '.join(where)} ORDER BY rid DESC LIMIT ?", [*arguments, limit]
    )
    return list(map(MessageRow._make, rows))


def due(
    connection: sqlite3.Connection, priority: Priority, after: int, now_ms: int, limit: int, only: bytes | None = None
) -> list[DeliveryRow]:
    """Deliveries of one priority to put now, in the order of their streams. Args: after: a rid; only: to it alone."""
    rows = connection.execute(
        "SELECT * FROM delivery WHERE priority = ? AND rid > ? AND next_ms <= ? AND (? IS NULL OR recipient = ?) "
        "ORDER BY rid, recipient LIMIT ?",
        (priority, after, now_ms, only, only, limit),
    )
    return [_delivery(row) for row in rows]


def next_due_ms(connection: sqlite3.Connection) -> int | None:
    """When something is to be put (again)."""
    row = connection.execute("SELECT min(next_ms) FROM delivery WHERE next_ms IS NOT NULL").fetchone()
    return None if row is None else row[0]


def by_rid(connection: sqlite3.Connection, rid: int) -> MessageRow:
    """One that is there."""
    return MessageRow._make(connection.execute(f"SELECT {_COLUMNS} FROM message WHERE rid = ?", (rid,)).fetchone())


def unresolved(connection: sqlite3.Connection) -> list[int]:
    """Messages whose devices were not known when they were sent."""
    rows = connection.execute("SELECT rid FROM delivery WHERE recipient = x'3f' ORDER BY rid")  # as the index says it
    return [rid for (rid,) in rows]


def waiting(connection: sqlite3.Connection, limit: int) -> tuple[list[MessageRow], int]:
    """What waits here for somebody: the most urgent and newest first; and how many there are."""
    inner = "SELECT rid FROM delivery WHERE recipient = x'' AND state = 'delivered'"
    count = int(connection.execute(f"SELECT count(*) FROM ({inner})").fetchone()[0])
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM message WHERE rid IN ({inner}) ORDER BY priority DESC, rid DESC LIMIT ?", (limit,)
    )
    return list(map(MessageRow._make, rows)), count


__all__ = [
    "AFTER", "DEAD", "HISTORY_MS", "THIS", "UNRESOLVED", "DeliveryRow", "MessageRow", "add", "add_delivery", "by_rid",
    "deliveries", "due", "expire", "find", "forget_old", "get", "next_due_ms", "next_seq", "page", "put_again",
    "remove", "tell", "unresolved", "waiting",
]  # fmt: skip
