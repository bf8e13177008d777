"""Rows about other people: what relays told of them, who asks to be a contact, letters on their way, message keys.

A device of another person is named here by 32 bytes, its person's id and its own: nobody can pass for a device of this
space, or of a third person, by making a control log that names it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.ids import DeviceId, SpaceId
from hybridgw_protocol.messages import OPEN, MessageState
from hybridgw_storage.database import Tx

from . import copies
from . import messages as rows
from .mail import ReceiptRow
from .messages import DeliveryRow, Entries, MessageRow

PERSON_BYTES: Final = 16
FOREIGN_BYTES: Final = 32
NOWHERE: Final = bytes(16)  # as a device: none of the person's is known yet
_THEIRS: Final = "length(sender) = 32 AND substr(sender, 1, 16) = ?"
_WAITS: Final = "EXISTS(SELECT 1 FROM delivery d WHERE d.rid = m.rid AND d.recipient = x'' AND d.state = 'delivered')"


def foreign(person: bytes, device: bytes) -> DeviceId:
    """A device of another person, as sender or recipient of a row."""
    return DeviceId(person + device)


def is_foreign(device: bytes) -> bool:
    """Is it another person's."""
    return len(device) == FOREIGN_BYTES


# ---- control records of people ---------------------------------------------------------------------------------------
def records(connection: sqlite3.Connection, person: bytes) -> list[bytes]:
    """What is known of a person, in the order of arrival."""
    return [r for (r,) in connection.execute("SELECT raw FROM person_record WHERE person = ? ORDER BY nr", (person,))]


def add_records(tx: Tx, person: bytes, found: Iterable[tuple[bytes, bytes]]) -> None:
    """Keep (hash, raw record); nothing is ever taken back."""
    tx.executemany(
        "INSERT OR IGNORE INTO person_record(person, hash, raw) VALUES(?, ?, ?)",
        [(person, digest, raw) for digest, raw in found],
    )


def forget_records(tx: Tx, person: bytes) -> None:
    """The person is no contact and does not ask to be one."""
    tx.execute("DELETE FROM person_record WHERE person = ?", (person,))


# ---- requests --------------------------------------------------------------------------------------------------------
class RequestRow(NamedTuple):
    """Somebody asks to be a contact. name: what they call themselves; relay: through which it came."""

    person: SpaceId
    root: bytes
    name: str
    note: str
    relay: str
    at_ms: int


def put_request(tx: Tx, row: RequestRow, most: int) -> list[SpaceId]:
    """Returns those who had to give way. Args: most: so many are kept; above, the oldest goes."""
    tx.execute("INSERT OR REPLACE INTO contact_request VALUES(?, ?, ?, ?, ?, ?)", row)
    gone = tx.execute(
        "DELETE FROM contact_request WHERE person IN "
        "(SELECT person FROM contact_request ORDER BY at_ms DESC LIMIT -1 OFFSET ?) RETURNING person",
        (most,),
    )
    return [SpaceId(person) for (person,) in gone.fetchall()]


def requests(connection: sqlite3.Connection) -> list[RequestRow]:
    """The newest first."""
    found = connection.execute("SELECT person, root, name, note, relay, at_ms FROM contact_request ORDER BY at_ms DESC")
    return list(map(RequestRow._make, found))


def delete_request(tx: Tx, person: bytes) -> None:
    """It was answered."""
    tx.execute("DELETE FROM contact_request WHERE person = ?", (person,))


# ---- errands ---------------------------------------------------------------------------------------------------------
class ErrandRow(NamedTuple):
    """A letter about being contacts that is due. kind: ask or accept; note: what it says."""

    person: SpaceId
    kind: str
    note: str
    next_ms: int
    tries: int


def put_errand(tx: Tx, person: bytes, kind: str, note: str, now_ms: int) -> None:
    """To be put from now on, until it is over; replaces another one."""
    tx.execute("INSERT OR REPLACE INTO contact_errand VALUES(?, ?, ?, ?, 0)", (person, kind, note, now_ms))


def errands(connection: sqlite3.Connection, now_ms: int) -> list[ErrandRow]:
    """Those that are due."""
    found = connection.execute(
        "SELECT person, kind, note, next_ms, tries FROM contact_errand WHERE next_ms <= ?", (now_ms,)
    )
    return list(map(ErrandRow._make, found))


def errand_put(tx: Tx, person: bytes, kind: str, next_ms: int) -> None:
    """It was put: again then."""
    tx.execute(
        "UPDATE contact_errand SET next_ms = ?, tries = tries + 1 WHERE person = ? AND kind = ?",
        (next_ms, person, kind),
    )


def delete_errand(tx: Tx, person: bytes, kind: str | None = None) -> None:
    """It is over. Args: kind: only if it is this one."""
    tx.execute("DELETE FROM contact_errand WHERE person = ? AND (? IS NULL OR kind = ?)", (person, kind, kind))


# ---- letters on their way --------------------------------------------------------------------------------------------
class LetterRow(NamedTuple):
    """One message to one device of a person, until it is known to be there."""

    rid: int
    recipient: DeviceId
    priority: int
    stream: int
    seq: int
    next_ms: int
    tries: int


_LETTER: Final = "rid, recipient, priority, stream, seq, next_ms, tries"


def enqueue(tx: Tx, entries: Entries, row: MessageRow, recipient: bytes, stream: int) -> DeliveryRow:
    """It waits for a device of a person, with the next number of its stream; for NOWHERE it just waits. (The number is
    not in the delivery: that row's way is the one of this space's devices.)"""
    if recipient[PERSON_BYTES:] != NOWHERE:
        seq = entries.next_seq(recipient, stream, row.priority)
        tx.execute(
            "INSERT INTO letter(rid, recipient, priority, stream, seq, next_ms, tries) VALUES(?, ?, ?, ?, ?, ?, 0)",
            (row.rid, recipient, row.priority, stream, seq, row.created_ms),
        )
    return entries.add_delivery(row, recipient, MessageState.QUEUED, row.created_ms)


def due(connection: sqlite3.Connection, person: bytes, now_ms: int, limit: int) -> list[LetterRow]:
    """Letters to a person to put now, the most urgent first."""
    found = connection.execute(
        f"SELECT {_LETTER} FROM letter WHERE substr(recipient, 1, 16) = ? AND next_ms <= ? "
        "ORDER BY priority DESC, rid, recipient LIMIT ?",
        (person, now_ms, limit),
    )
    return list(map(LetterRow._make, found))


def next_due_ms(connection: sqlite3.Connection) -> int | None:
    """When something is to be put (again)."""
    sql = "SELECT min(next_ms) FROM (SELECT next_ms FROM letter UNION ALL SELECT next_ms FROM contact_errand)"
    found: int | None = connection.execute(sql).fetchone()[0]
    return found


def put_again(tx: Tx, letter: LetterRow, next_ms: int, error: str | None) -> None:
    """It was put, or refused for now."""
    tx.execute(
        "UPDATE letter SET next_ms = ?, tries = tries + 1 WHERE rid = ? AND recipient = ?",
        (next_ms, letter.rid, letter.recipient),
    )
    tx.execute(
        "UPDATE delivery SET tries = tries + 1, error = ? WHERE rid = ? AND recipient = ?",
        (error, letter.rid, letter.recipient),
    )


def settle(tx: Tx) -> None:
    """Letters whose message needs no way any more: it is there, or over."""
    tx.execute(
        "DELETE FROM letter WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.rid = letter.rid "
        "AND d.recipient = letter.recipient AND d.state IN (?, ?, ?))",
        tuple(OPEN),
    )


def open_messages(connection: sqlite3.Connection, person: bytes) -> list[MessageRow]:
    """Messages to a person of which something is still on its way."""
    found = connection.execute(
        "SELECT DISTINCT rid FROM delivery WHERE length(recipient) = 32 AND substr(recipient, 1, 16) = ? "
        "AND state IN (?, ?, ?) ORDER BY rid",
        (person, *OPEN),
    )
    return [rows.by_rid(connection, rid) for (rid,) in found.fetchall()]


def unplaced(connection: sqlite3.Connection) -> list[SpaceId]:
    """To whom messages wait, and no device of theirs was known."""
    found = connection.execute(
        "SELECT DISTINCT substr(recipient, 1, 16) FROM delivery WHERE length(recipient) = 32 "
        "AND substr(recipient, 17) = ? AND state = ?",
        (NOWHERE, MessageState.QUEUED),
    )
    return [SpaceId(person) for (person,) in found]


def drop_letter(tx: Tx, rid: int, recipient: bytes) -> None:
    """It is not put again."""
    tx.execute("DELETE FROM letter WHERE rid = ? AND recipient = ?", (rid, recipient))


def drop_delivery(tx: Tx, rid: int, recipient: bytes) -> None:
    """It does not go there after all."""
    tx.execute("DELETE FROM delivery WHERE rid = ? AND recipient = ?", (rid, recipient))
    tx.execute("UPDATE delivery SET changes = changes + 1 WHERE rid = ?", (rid,))


def receipts(
    connection: sqlite3.Connection, person: bytes, devices: Iterable[bytes], limit: int
) -> list[ReceiptRow]:  # fmt: skip
    """What devices of a person are to be told."""
    whom = [foreign(person, device) for device in devices]
    found = connection.execute(
        f"SELECT recipient, id, state, at_ms FROM receipt WHERE recipient IN ({', '.join('?' * len(whom))}) "
        "ORDER BY recipient LIMIT ?",
        (*whom, limit),
    )
    return [ReceiptRow(recipient, id, MessageState(state), at) for recipient, id, state, at in found]


def forget_old_receipts(tx: Tx, before_ms: int) -> None:
    """Nobody takes them: who wrote then was told, or has no device there any more."""
    tx.execute("DELETE FROM receipt WHERE length(recipient) = 32 AND at_ms < ?", (before_ms,))


def forget_receipts(tx: Tx, person: bytes) -> None:
    """Nothing is told to a person any more."""
    tx.execute("DELETE FROM receipt WHERE length(recipient) = 32 AND substr(recipient, 1, 16) = ?", (person,))


def is_any_shown(connection: sqlite3.Connection, person: bytes) -> bool:
    """Is there something for `silence` to do."""
    sql = (
        f"SELECT EXISTS(SELECT 1 FROM message m WHERE {_THEIRS} AND {_WAITS}) "
        f"OR EXISTS(SELECT 1 FROM held WHERE {_THEIRS})"
    )
    return bool(connection.execute(sql, (person, person)).fetchone()[0])


def silence(tx: Tx, person: bytes, now_ms: int) -> None:
    """What came of a person and was not dealt with is not shown (any more), and they are told of nothing."""
    tx.execute(f"DELETE FROM held WHERE {_THEIRS}", (person,))
    forget_receipts(tx, person)
    found = tx.execute(f"SELECT rid FROM message m WHERE {_THEIRS} AND {_WAITS}", (person,)).fetchall()
    rids = [rid for (rid,) in found]
    copies.drop(tx, rids)
    rows.tell(tx, rows.THIS, rids, MessageState.HANDLED, now_ms)


# ---- letters that came ----------------------------------------------------------------------------------------------
class Used(NamedTuple):
    """Messages of one person that are here, and the bytes of what they say."""

    messages: int
    size: int


def used_by(tx: Tx, person: bytes) -> Used:
    """What one person's messages take here, with those that came ahead of their turn."""
    found = [
        tx.execute(f"SELECT count(*), coalesce(sum(length({what})), 0) FROM {table} WHERE {_THEIRS}", (person,))
        for table, what in (("message", "body"), ("held", "content"))
    ]
    sums = [cursor.fetchone() for cursor in found]
    return Used(sum(count for count, _ in sums), sum(size for _, size in sums))


def forget_dealt_with(tx: Tx, person: bytes, *, count: int, size: int, over_ms: int) -> None:
    """The oldest messages of a person that wait for nobody here go, until this is gained. Args: count: whole rows,
    whose ids nobody needs to know any more; over_ms: because they ended before this; size: bytes of what they say."""
    if count > 0:
        found = tx.execute(
            f"SELECT rid FROM message m WHERE {_THEIRS} AND is_open = 0 AND expires_ms < ? ORDER BY rid LIMIT ?",
            (person, over_ms, count),
        )
        for (rid,) in found.fetchall():
            rows.remove(tx, rid)
    if size > 0:
        found = tx.execute(
            f"SELECT rid, length(body) FROM message m WHERE {_THEIRS} AND length(body) > 4 AND NOT {_WAITS} "
            "ORDER BY rid",
            (person,),
        )
        for rid, length in found.fetchall():
            if size <= 0:
                break
            rows.forget_body(tx, rid)
            size -= length - 4


# ---- message keys of this device -------------------------------------------------------------------------------------
class KeyRow(NamedTuple):
    """A message key of this device. space: whose device it was; sealed: its secret; record: by which it was published;
    replaced_ms: when a newer one was, None: it is the newest."""

    id: bytes
    space: bytes
    sealed: bytes
    made_ms: int
    replaced_ms: int | None
    record: bytes


def keys(connection: sqlite3.Connection, space: bytes) -> list[KeyRow]:
    """The newest first."""
    found = connection.execute(
        "SELECT id, space, sealed, made_ms, replaced_ms, record FROM message_key WHERE space = ? "
        "ORDER BY replaced_ms IS NOT NULL, made_ms DESC",
        (space,),
    )
    return list(map(KeyRow._make, found))


def add_key(tx: Tx, row: KeyRow, now_ms: int) -> None:
    """A new one; those before it are replaced from now on."""
    tx.execute("UPDATE message_key SET replaced_ms = ? WHERE replaced_ms IS NULL", (now_ms,))
    tx.execute("INSERT OR REPLACE INTO message_key VALUES(?, ?, ?, ?, ?, ?)", row)  # NO_KEY may be there from before


def forget_keys(tx: Tx, replaced_before_ms: int) -> int:
    """Secrets that nothing needs any more go; overwritten first. Returns how many."""
    where = "WHERE replaced_ms IS NOT NULL AND replaced_ms <= ?"
    tx.execute(f"UPDATE message_key SET sealed = zeroblob(length(sealed)) {where}", (replaced_before_ms,))
    return tx.execute(f"DELETE FROM message_key {where}", (replaced_before_ms,)).rowcount


def persons_with_mail(connection: sqlite3.Connection) -> Sequence[bytes]:
    """To whom something is to be told or put."""
    found = connection.execute(
        "SELECT substr(recipient, 1, 16) FROM letter UNION "
        "SELECT substr(recipient, 1, 16) FROM receipt WHERE length(recipient) = 32"
    )
    return [person for (person,) in found]
