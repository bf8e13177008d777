"""Rows of letters: messages of other people that wait for a device. Sealed; a letter whose time is over just goes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.ids import DeviceId, SpaceId
from hybridgw_protocol.limits import (
    ACQUAINTED_MS,
    LETTER_PART,
    MAX_ACQUAINTED,
    MAX_LETTER_ROW_BYTES,
    MAX_LETTER_ROWS,
    MAX_LETTERS,
    MAX_LETTERS_BYTES,
    MAX_STRANGER_BYTES,
    MAX_STRANGER_LETTERS,
    STRANGER_PART,
)
from hybridgw_storage.database import Tx
from hybridgw_storage.sets import number_list

from .base import LetterRow

EXPIRE_PART: Final = 500  # letters in one transaction
DAY_MS: Final = 86_400_000


def read_letters(
    connection: sqlite3.Connection, sid: int, dest: DeviceId, limit: int, but: Sequence[int], without: Sequence[SpaceId]
) -> list[tuple[int, LetterRow]]:
    """Letters that wait for a device, the most urgent first; see RelayStore."""
    rows = connection.execute(
        "SELECT rid, dest, person, sender, id, priority, expires_ms, blob FROM letter WHERE sid=? AND dest=? "
        "AND rid NOT IN (SELECT value FROM json_each(?)) AND hex(person) NOT IN (SELECT value FROM json_each(?)) "
        "ORDER BY priority DESC, rid LIMIT ?",
        (sid, dest, number_list(but), json.dumps([person.hex().upper() for person in without]), limit),
    )
    return [(rid, LetterRow._make(row)) for rid, *row in rows]


def put_letters(tx: Tx, sid: int, rows: Sequence[LetterRow]) -> list[bool]:
    """Keep letters; see RelayStore."""
    rooms: dict[DeviceId, _Room] = {}
    taken: list[bool] = []
    for row in rows:
        place = (sid, row.dest, row.sender, row.id)
        if tx.execute("SELECT 1 FROM letter WHERE sid=? AND dest=? AND sender=? AND id=?", place).fetchone():
            taken.append(True)
            continue
        if row.dest not in rooms:
            rooms[row.dest] = _Room(tx, sid, row.dest)
        taken.append(rooms[row.dest].take(row.person, len(row.blob)))
        if taken[-1]:
            tx.execute(
                "INSERT INTO letter(sid, dest, sender, id, person, priority, expires_ms, blob) VALUES(?,?,?,?,?,?,?,?)",
                (*place, row.person, row.priority, row.expires_ms, row.blob),
            )
    return taken


class _Used(NamedTuple):
    """What waits: so many letters, of so many bytes."""

    letters: int = 0
    size: int = 0

    def plus(self, other: _Used) -> _Used:
        return _Used(self.letters + other.letters, self.size + other.size)

    def minus(self, other: _Used) -> _Used:
        return _Used(self.letters - other.letters, self.size - other.size)

    def is_part(self, most: _Used, others: _Used, part: int) -> bool:
        """Is it no more than a part of what others leave."""
        return (
            self.letters <= (most.letters - others.letters) // part and self.size <= (most.size - others.size) // part
        )


class _Room:
    """What a device has room for. A person gets a part of what the others leave, so the more have come the less does
    one more of them take; and strangers among themselves never take what is for those whom its person wrote to."""

    def __init__(self, tx: Tx, sid: int, dest: DeviceId) -> None:
        self._tx, self._sid = tx, sid
        self._by_person: dict[bytes, _Used] = {}
        self._strangers: set[bytes] = set()
        self._known: set[bytes] = set()
        self._all = self._of_strangers = _Used()
        sums = "SELECT person, count(*), sum(length(blob)) FROM letter WHERE sid=? AND dest=? GROUP BY person"
        for person, count, size in tx.execute(sums, (sid, dest)).fetchall():
            self._add(person, _Used(count, size))

    def _is_stranger(self, person: bytes) -> bool:
        if person not in self._known and person not in self._strangers:
            noted = "SELECT 1 FROM acquaintance WHERE sid=? AND person=?"
            is_known = self._tx.execute(noted, (self._sid, person)).fetchone() is not None
            (self._known if is_known else self._strangers).add(person)
        return person in self._strangers

    def _add(self, person: bytes, more: _Used) -> None:
        self._by_person[person] = self._by_person.get(person, _Used()).plus(more)
        self._all = self._all.plus(more)
        if self._is_stranger(person):
            self._of_strangers = self._of_strangers.plus(more)

    def take(self, person: bytes, size: int) -> bool:
        """Account for one more letter. Returns whether there is room for it."""
        more, before = _Used(1, size), self._by_person.get(person, _Used())
        own = before.plus(more)
        is_room = (
            own.letters <= MAX_LETTER_ROWS
            and own.size <= MAX_LETTER_ROW_BYTES
            and own.is_part(_Used(MAX_LETTERS, MAX_LETTERS_BYTES), self._all.minus(before), LETTER_PART)
        )
        if is_room and self._is_stranger(person):
            most = _Used(MAX_STRANGER_LETTERS, MAX_STRANGER_BYTES)
            is_room = own.is_part(most, self._of_strangers.minus(before), STRANGER_PART)
        if is_room:
            self._add(person, more)
        return is_room


def read_is_noted(connection: sqlite3.Connection, sid: int, person: SpaceId, now_ms: int) -> bool:
    """Is it known, and of today, that a space wrote to a person."""
    sql = "SELECT 1 FROM acquaintance WHERE sid=? AND person=? AND at_ms>?"
    return connection.execute(sql, (sid, person, now_ms - DAY_MS)).fetchone() is not None


def note_acquaintance(tx: Tx, sid: int, person: SpaceId, now_ms: int) -> None:
    """A space wrote to a person; of too many the one that was written to longest ago is a stranger again."""
    tx.execute("INSERT OR REPLACE INTO acquaintance VALUES(?, ?, ?)", (sid, person, now_ms))
    tx.execute(
        "DELETE FROM acquaintance WHERE sid=?1 AND person IN "
        "(SELECT person FROM acquaintance WHERE sid=?1 ORDER BY at_ms DESC LIMIT -1 OFFSET ?2)",
        (sid, MAX_ACQUAINTED),
    )


def done_letters(tx: Tx, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
    """Forget letters."""
    tx.executemany(
        "DELETE FROM letter WHERE sid=? AND dest=? AND sender=? AND id=?",
        [(sid, dest, key[:16], key[16:]) for key in keys],
    )


def read_is_letter_over(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Is there something to forget."""
    sql = "SELECT EXISTS(SELECT 1 FROM letter WHERE expires_ms<=?) OR EXISTS(SELECT 1 FROM acquaintance WHERE at_ms<=?)"
    return bool(connection.execute(sql, (now_ms, now_ms - ACQUAINTED_MS)).fetchone()[0])


def expire_letters(tx: Tx, now_ms: int) -> int:
    """Those whose time is over go, a part of them; and who was not written to for long is a stranger again."""
    sql = "DELETE FROM letter WHERE rid IN (SELECT rid FROM letter WHERE expires_ms<=? LIMIT ?)"
    over = tx.execute("DELETE FROM acquaintance WHERE at_ms<=?", (now_ms - ACQUAINTED_MS,)).rowcount
    return over + tx.execute(sql, (now_ms, EXPIRE_PART)).rowcount
