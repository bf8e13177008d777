"""Rows of messages: what was sent and what arrived, what became of it at each device, and the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hybridgw_protocol.messages import AFTER, OPEN, PRIORITIES, MessageState, Priority
from hybridgw_storage.database import Tx
from hybridgw_storage.sets import MARKS, number_list, parts

from . import copies

THIS: Final = b""  # as a device: the one whose database this is
UNRESOLVED: Final = b"?"  # as a recipient: devices that are not known while the keys are locked
HISTORY_MS: Final = 90 * 86_400_000
EXPIRE_PART: Final = 200  # messages in one transaction

_COLUMNS: Final = (
    "rid, sender, id, kind, name, place, type, client, principal, priority, created_ms, expires_ms, digest, reply, "
    "body, gap"
)
_OF_MESSAGE: Final = ", ".join(f"m.{name}" for name in _COLUMNS.split(", "))
_LAST_RID: Final = "last rid of message"
_STATES: Final = {str(state): state for state in MessageState}
_OPEN: Final = ", ".join(f"'{state}'" for state in OPEN)
_IS_DUE: Final = "SELECT " + ", ".join(
    f"EXISTS(SELECT 1 FROM delivery WHERE priority = {priority:d} AND rid > ?{priority + 3:d} AND next_ms <= ?1 "
    "AND (?2 IS NULL OR recipient = ?2))"
    for priority in PRIORITIES
)
_BEFORE: Final = {  # the states that it may follow, as SQL
    state: ", ".join(f"'{before}'" for before in MessageState if state in AFTER[before]) for state in MessageState
}


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
    changes: int


class Change(NamedTuple):
    """News of a delivery."""

    rid: int
    recipient: bytes
    state: MessageState
    at_ms: int
    changes: int


# ---- writing ---------------------------------------------------------------------------------------------------------
class Entries:
    """New messages, their deliveries and copies: gathered in a transaction, then written, each table at once."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._messages: dict[tuple[bytes, bytes], MessageRow] = {}
        self._deliveries: list[DeliveryRow] = []
        self._copies: list[tuple[int, int, int]] = []
        self._seqs: dict[tuple[bytes, int, int], int] = {}
        self._looked_up: dict[bytes, MessageRow | None] = {}  # by sender and id
        self._rid: int = tx.memo[_LAST_RID] if _LAST_RID in tx.memo else self._last_rid()

    def _last_rid(self) -> int:
        return int(self._tx.execute("SELECT coalesce(max(rid), 0) FROM message").fetchone()[0])

    def look_up(self, keys: Iterable[bytes]) -> None:
        """These will be asked for with `find`. Args: keys: sender and id, 16 bytes each."""
        wanted = list(keys)
        self._looked_up = dict.fromkeys(wanted)
        for part in parts([key[16:] for key in wanted]):
            sql = f"SELECT {_COLUMNS} FROM message WHERE id IN ({MARKS})"
            for row in map(MessageRow._make, self._tx.execute(sql, part)):
                self._looked_up[row.sender + row.id] = row

    def find(self, sender: bytes, id: bytes) -> MessageRow | None:
        """The message of a sender, here or in the file."""
        if (row := self._messages.get((sender, id))) is not None:
            return row
        key = sender + id
        return self._looked_up[key] if key in self._looked_up else find(self._tx.connection, sender, id)

    def add(self, row: MessageRow) -> MessageRow:
        """A new message. Returns it with its rid; that of *row* does not count."""
        self._rid += 1
        placed = self._messages[row.sender, row.id] = row._replace(rid=self._rid)
        return placed

    def add_delivery(
        self, row: MessageRow, recipient: bytes, state: MessageState, now_ms: int, *, stream: int = 0, seq: int = 0,
        next_ms: int | None = None,
    ) -> DeliveryRow:  # fmt: skip
        """One device that it goes to."""
        delivery = DeliveryRow(row.rid, recipient, row.priority, stream, seq, state, now_ms, next_ms, 0, None, 0)
        self._deliveries.append(delivery)
        return delivery

    def add_copies(self, row: MessageRow, listeners: Iterable[int]) -> None:
        """It waits for these programs."""
        self._copies += [(listener, row.priority, row.rid) for listener in listeners]

    def next_seq(self, device: bytes, stream: int, priority: int) -> int:
        """The number of the next message to a device."""
        place = (device, stream, priority)
        if place not in self._seqs:
            sql = "SELECT seq FROM stream WHERE device = ? AND stream = ? AND priority = ? AND is_out = 1"
            row = self._tx.execute(sql, place).fetchone()
            self._seqs[place] = 0 if row is None else int(row[0])
        self._seqs[place] += 1
        return self._seqs[place]

    def write(self) -> None:
        """All of it; once."""
        tx = self._tx
        if self._messages:
            tx.memo[_LAST_RID] = self._rid
            tx.executemany(
                f"INSERT INTO message({_COLUMNS}, is_open) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
                self._messages.values(),
            )
        if self._deliveries:
            tx.executemany("INSERT INTO delivery VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._deliveries)
        if self._copies:
            tx.executemany("INSERT OR IGNORE INTO copy VALUES(?, ?, ?)", self._copies)
        if self._seqs:
            tx.executemany(
                "INSERT INTO stream VALUES(?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
                [(*place, seq) for place, seq in self._seqs.items()],
            )


def tell(
    tx: Tx, recipient: bytes, rids: Sequence[int], told: MessageState, at_ms: int, *, next_ms: int | None = None,
    error: str | None = None,
) -> list[Change]:  # fmt: skip
    """News of deliveries to one device. Returns those for which they are news; old news changes nothing. Args: next_ms:
    when to put it again, if it is still open."""
    rows = tx.execute(
        "UPDATE delivery SET state = ?, at_ms = ?, next_ms = ?, error = ?, changes = changes + 1 "
        f"WHERE recipient = ? AND state IN ({_BEFORE[told]}) AND rid IN (SELECT value FROM json_each(?)) "
        "RETURNING rid, changes",
        (told, at_ms, next_ms, error, recipient, number_list(rids)),
    )
    return [Change(rid, recipient, told, at_ms, changes) for rid, changes in sorted(rows.fetchall())]


def put(
    tx: Tx, recipient: bytes, rids: Sequence[int], told: MessageState, now_ms: int, first_ms: int, most_ms: int
) -> list[Change]:
    """They were put, and are at *told* now. Those that are still open are put again later, each time after twice as
    long. Returns those for which it is news."""
    rows = tx.execute(
        "UPDATE delivery SET state = ?, at_ms = ?, changes = changes + 1, tries = tries + 1, error = NULL, "
        "next_ms = ? + min(?, ? << min(tries, 20)) "
        f"WHERE recipient = ? AND state IN ({_BEFORE[told]}) AND rid IN (SELECT value FROM json_each(?)) "
        "RETURNING rid, changes",
        (told, now_ms, now_ms, most_ms, first_ms, recipient, number_list(rids)),
    )
    news = {rid: Change(rid, recipient, told, now_ms, changes) for rid, changes in rows.fetchall()}
    if len(news) < len(rids):
        again = [rid for rid in rids if rid not in news]
        tx.execute(
            "UPDATE delivery SET tries = tries + 1, error = NULL, next_ms = CASE WHEN state IN "
            f"({_OPEN}) THEN ? + min(?, ? << min(tries, 20)) END WHERE recipient = ? AND rid IN "
            "(SELECT value FROM json_each(?))",
            (now_ms, most_ms, first_ms, recipient, number_list(again)),
        )
    return [news[rid] for rid in sorted(news)]


def put_later(tx: Tx, recipient: bytes, rid: int, next_ms: int, error: str) -> None:
    """It was refused for now."""
    tx.execute(
        "UPDATE delivery SET next_ms = ?, tries = tries + 1, error = ? WHERE rid = ? AND recipient = ?",
        (next_ms, error, rid, recipient),
    )


def expire(tx: Tx, now_ms: int) -> list[tuple[MessageRow, Change]]:
    """End what is over, a part of it. Returns the deliveries that expired now."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM message WHERE is_open = 1 AND expires_ms <= ? LIMIT ?", (now_ms, EXPIRE_PART)
    ).fetchall()
    found: list[tuple[MessageRow, Change]] = []
    for row in map(MessageRow._make, rows):
        tx.execute("UPDATE message SET is_open = 0 WHERE rid = ?", (row.rid,))
        for delivery in deliveries(tx.connection, row.rid):
            is_over = delivery.state in OPEN or (
                delivery.recipient == THIS and delivery.state is MessageState.DELIVERED
            )
            # One that was never put leaves a hole in its stream: a tombstone must still travel.
            is_hole = delivery.state is MessageState.QUEUED and delivery.seq > 0
            if is_over:
                next_ms = now_ms if is_hole else None
                told = tell(tx, delivery.recipient, [row.rid], MessageState.EXPIRED, now_ms, next_ms=next_ms)
                found += [(row, change) for change in told]
    if rows:
        copies.drop(tx, [row[0] for row in rows])
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


def add_receipts(tx: Tx, receipts: Iterable[tuple[bytes, bytes, MessageState, int]]) -> None:
    """Senders are to be told. Args: receipts: (whom, id, state, time) of each."""
    tx.executemany("INSERT OR REPLACE INTO receipt VALUES(?, ?, ?, ?)", receipts)


def add_newer_receipts(tx: Tx, receipts: Sequence[tuple[bytes, bytes, MessageState, int]]) -> None:
    """The same, in place of what was to be told of these messages before and was not yet."""
    for whom in {receipt[0] for receipt in receipts}:
        for part in parts([id for recipient, id, _, _ in receipts if recipient == whom]):
            tx.execute(f"DELETE FROM receipt WHERE recipient = ? AND id IN ({MARKS})", (whom, *part))
    add_receipts(tx, receipts)


def remove(tx: Tx, rid: int) -> None:
    """Forget a message."""
    copies.drop(tx, [rid])
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


def find_ids(connection: sqlite3.Connection, sender: bytes, ids: Iterable[bytes]) -> dict[bytes, int]:
    """Of messages of a sender: id -> rid, of those that are there."""
    found: dict[bytes, int] = {}
    for part in parts(ids):
        sql = f"SELECT id, rid FROM message WHERE sender = ? AND id IN ({MARKS})"
        found |= dict(connection.execute(sql, (sender, *part)).fetchall())
    return found


def find_all(connection: sqlite3.Connection, ids: Iterable[bytes]) -> dict[bytes, MessageRow]:
    """As `get` of each, those that are there."""
    found: dict[bytes, MessageRow] = {}
    for part in parts(ids):
        sql = f"SELECT {_COLUMNS} FROM message WHERE id IN ({MARKS}) ORDER BY sender DESC"
        found |= {row[2]: MessageRow._make(row) for row in connection.execute(sql, part)}
    return found


def shown_here(connection: sqlite3.Connection, rids: Sequence[int]) -> list[int]:
    """Those of them that wait here for somebody."""
    rows = connection.execute(
        "SELECT rid FROM delivery WHERE recipient = x'' AND state = 'delivered' AND rid IN "
        "(SELECT value FROM json_each(?))",
        (number_list(rids),),
    )
    return [rid for (rid,) in rows]


def senders(connection: sqlite3.Connection, rids: Sequence[int]) -> dict[int, tuple[bytes, str]]:
    """rid -> (id, program that sent it), of messages of this device."""
    rows = connection.execute(
        "SELECT rid, id, client FROM message WHERE rid IN (SELECT value FROM json_each(?)) AND sender = x''",
        (number_list(rids),),
    )
    return {rid: (id, client) for rid, id, client in rows}


def deliveries(connection: sqlite3.Connection, rid: int) -> list[DeliveryRow]:
    """What became of it at each device."""
    rows = connection.execute("SELECT * FROM delivery WHERE rid = ? ORDER BY recipient", (rid,))
    return [_delivery(row) for row in rows]


def _delivery(row: Sequence[Any]) -> DeliveryRow:
    rid, recipient, priority, stream, seq, state, *rest = row
    return DeliveryRow(rid, recipient, priority, stream, seq, _STATES[state], *rest)


def page(
    connection: sqlite3.Connection, *, box: str, type: str | None, sender: bytes | None, client: str | None,
    state: str | None, before: int, limit: int, person: bytes | None = None,
) -> list[MessageRow]:  # fmt: skip
    """Newest first. Args: box: all, in, out, dead; type: exact, or with * at its end; before: a rid; person: of another
    person, whose devices are named by 32 bytes that begin with it."""
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
    if person is not None:
        theirs = "length({0}) = 32 AND substr({0}, 1, 16) = ?"
        to_them = f"rid IN (SELECT rid FROM delivery WHERE {theirs.format('recipient')})"
        terms.append((f"({theirs.format('sender')} OR {to_them})", [person, person]))
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
) -> Iterator[tuple[DeliveryRow, MessageRow]]:
    """Deliveries of one priority to put now, in the order of their streams. Args: after: a rid; only: to it alone."""
    rows = connection.execute(
        f"SELECT d.*, {_OF_MESSAGE} FROM delivery d CROSS JOIN message m ON m.rid = d.rid WHERE d.priority = ? "
        "AND d.rid > ? AND d.next_ms <= ? AND (? IS NULL OR d.recipient = ?) ORDER BY d.rid, d.recipient LIMIT ?",
        (priority, after, now_ms, only, only, limit),
    )
    width = len(DeliveryRow._fields)
    return ((_delivery(row[:width]), MessageRow._make(row[width:])) for row in rows)


def waiting_to_be_put(
    connection: sqlite3.Connection, after: Mapping[Priority, int], now_ms: int, only: bytes | None
) -> list[Priority]:
    """The priorities of which `due` has something."""
    row = connection.execute(_IS_DUE, (now_ms, only, *[after[p] for p in PRIORITIES])).fetchone()
    return [priority for priority, is_due in zip(PRIORITIES, row, strict=True) if is_due]


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
