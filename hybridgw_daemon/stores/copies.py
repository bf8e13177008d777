"""Rows of programs that listen for messages, of the copies that are for them, and of the rules that say for whom."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from hybridgw_protocol.messages import PRIORITIES, Priority
from hybridgw_storage.database import Tx
from hybridgw_storage.sets import number_list

from ..core.targets import Listener, Rule

FORGET_MS: Final = 30 * 86_400_000  # a program that was not here so long is not counted on
PART: Final = 64  # copies that are read at once
_MEMO: Final = "listeners"
_IS_WAITING: Final = "SELECT " + ", ".join(
    f"EXISTS(SELECT 1 FROM copy WHERE listener = ?1 AND priority = {priority:d} AND rid > ?{priority + 2:d})"
    for priority in PRIORITIES
)


class Waiting(NamedTuple):
    """A copy that is to be shown, with all that is said of it."""

    rid: int
    sender: bytes
    id: bytes
    kind: str
    name: str
    place: str
    type: str
    client: str
    priority: int
    created_ms: int
    expires_ms: int
    reply: bytes
    gap: int
    body: bytes


# ---- programs --------------------------------------------------------------------------------------------------------
def listeners(tx: Tx) -> list[Listener]:
    """Everybody, from memory."""
    found: list[Listener] | None = tx.memo.get(_MEMO)
    if found is None:
        found = tx.memo[_MEMO] = [listener for listener, _ in read_listeners(tx.connection)]
    return found


def read_listeners(connection: sqlite3.Connection) -> list[tuple[Listener, int]]:
    """Everybody, and when each was here last."""
    rows = connection.execute("SELECT nr, principal, mode, client_id, app, topics, seen_ms FROM listener ORDER BY nr")
    return [(Listener(nr, who, m, client, app, frozenset(t.split())), at) for nr, who, m, client, app, t, at in rows]


def listen(tx: Tx, principal: str, mode: str, client_id: str, app: str, topics: Iterable[str], now_ms: int) -> Listener:
    """A program listens, for the first time or again."""
    wanted = frozenset(topics)
    row = tx.execute(
        "INSERT INTO listener(principal, mode, client_id, app, topics, seen_ms) VALUES(?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET app = excluded.app, topics = excluded.topics, seen_ms = excluded.seen_ms "
        "RETURNING nr",
        (principal, mode, client_id, app, " ".join(sorted(wanted)), now_ms),
    ).fetchone()
    tx.memo.pop(_MEMO, None)
    return Listener(int(row[0]), principal, mode, client_id, app, wanted)


def saw(tx: Tx, numbers: Iterable[int], now_ms: int) -> None:
    """These programs are here, or were until now."""
    tx.executemany("UPDATE listener SET seen_ms = ? WHERE nr = ?", [(now_ms, nr) for nr in numbers])


def forget_old(tx: Tx, now_ms: int) -> None:
    """Programs that were not here for long, and what waited for them."""
    for (nr,) in tx.execute("SELECT nr FROM listener WHERE seen_ms < ?", (now_ms - FORGET_MS,)).fetchall():
        tx.execute("DELETE FROM copy WHERE listener = ?", (nr,))
        tx.execute("DELETE FROM listener WHERE nr = ?", (nr,))
    tx.memo.pop(_MEMO, None)


def forget(tx: Tx, principal: str) -> None:
    """A credential has ended: nothing waits for its programs any more."""
    for (nr,) in tx.execute("SELECT nr FROM listener WHERE principal = ?", (principal,)).fetchall():
        tx.execute("DELETE FROM copy WHERE listener = ?", (nr,))
        tx.execute("DELETE FROM listener WHERE nr = ?", (nr,))
    tx.memo.pop(_MEMO, None)


# ---- copies ----------------------------------------------------------------------------------------------------------
def claim(tx: Tx, listener: Listener, now_ms: int) -> int:
    """What waits here for a program that was not known: messages for it by name, and those that nobody got. Returns how
    many."""
    rows = tx.execute(
        "SELECT m.rid, m.kind, m.name, m.priority, EXISTS(SELECT 1 FROM listener l JOIN copy c ON c.listener = l.nr "
        "AND c.priority = m.priority AND c.rid = m.rid) "
        "FROM message m JOIN delivery d ON d.rid = m.rid AND d.recipient = x'' "
        "WHERE m.is_open = 1 AND m.expires_ms > ? AND d.state = 'delivered'",
        (now_ms,),
    ).fetchall()
    count = 0
    for rid, kind, name, priority, is_taken in rows:
        if listener.is_meant(kind, name) and (kind == "client" or not is_taken):
            tx.execute("INSERT OR IGNORE INTO copy VALUES(?, ?, ?)", (listener.nr, priority, rid))
            count += 1
    return count


def acknowledge(tx: Tx, listener: int, priority: int, rids: Sequence[int]) -> list[int]:
    """A program has dealt with these messages of one priority. Returns those for which it was waited."""
    rows = tx.execute(
        "DELETE FROM copy WHERE listener = ? AND priority = ? AND rid IN (SELECT value FROM json_each(?)) "
        "RETURNING rid",
        (listener, priority, number_list(rids)),
    )
    return [rid for (rid,) in rows.fetchall()]


def drop(tx: Tx, rids: Sequence[int]) -> None:
    """These messages wait for no program any more."""
    tx.execute(
        "DELETE FROM copy WHERE listener IN (SELECT nr FROM listener) AND priority BETWEEN 0 AND 3 "
        "AND rid IN (SELECT value FROM json_each(?))",
        (number_list(rids),),
    )


def priorities(connection: sqlite3.Connection, listener: int, after: Mapping[Priority, int]) -> list[Priority]:
    """Those of which `waiting` has something for a program. Args: after: of each, a rid."""
    row = connection.execute(_IS_WAITING, (listener, *[after[p] for p in PRIORITIES])).fetchone()
    return [priority for priority, is_waiting in zip(PRIORITIES, row, strict=True) if is_waiting]


def waiting(connection: sqlite3.Connection, listener: int, priority: int, after: int) -> list[Waiting]:
    """Copies of one priority that wait for a program, oldest first. Args: after: a rid."""
    rows = connection.execute(
        "SELECT m.rid, m.sender, m.id, m.kind, m.name, m.place, m.type, m.client, m.priority, m.created_ms, "
        "m.expires_ms, m.reply, m.gap, m.body FROM copy c JOIN message m USING(rid) "
        "WHERE c.listener = ? AND c.priority = ? AND c.rid > ? ORDER BY c.rid LIMIT ?",
        (listener, priority, after, PART),
    )
    return list(map(Waiting._make, rows))


def count_waiting(connection: sqlite3.Connection, listener: int) -> int:
    """How many wait for a program."""
    row = connection.execute("SELECT count(*) FROM copy WHERE listener = ?", (listener,)).fetchone()
    return int(row[0])


# ---- rules -----------------------------------------------------------------------------------------------------------
def rules(connection: sqlite3.Connection) -> list[Rule]:
    """In the order in which they are asked."""
    rows = connection.execute("SELECT name, pattern, targets, go_on FROM route ORDER BY place")
    return [Rule(name, pattern, tuple(msgspec.json.decode(to)), bool(go_on)) for name, pattern, to, go_on in rows]


def put_rules(tx: Tx, given: Sequence[Rule]) -> None:
    """Replace all rules."""
    tx.execute("DELETE FROM route")
    tx.executemany(
        "INSERT INTO route VALUES(?, ?, ?, ?, ?)",
        [(k, r.name, r.pattern, msgspec.json.encode(r.to).decode(), int(r.go_on)) for k, r in enumerate(given)],
    )
