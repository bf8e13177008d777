"""The replica's documents: rows, and the write-back cache that a transaction works on.

A row is read once per transaction group, merged in memory and written once at its end: a bulk apply costs one read and
one write per document however often it is touched. Rows of secret collections are sealed at rest (body and clk).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from hybridgw_protocol.errors import SecretsLocked
from hybridgw_protocol.ids import DocumentId
from hybridgw_storage.database import Tx

from ..core.document_state import Row

_READ = 400  # ids per SELECT … IN; SQLite allows 32,766 variables, longer lists only cost parsing
_COLLECTIONS = "documents.collections"  # in tx.memo, by name
_GREATEST = "documents.greatest"  # in tx.memo, by cid
_INSERT_ROWS = (64, 8, 1)  # rows per INSERT: a third cheaper than one by one, and few texts to keep prepared
_INSERT = {
    count: "INSERT INTO document(cid, id, cl, seq, conflicts, body, clk) VALUES" + ",".join(["(?,?,?,?,?,?,?)"] * count)
    for count in _INSERT_ROWS
}


class Collection(NamedTuple):
    """A collection as stored. floor_ms: documents with an older id are gone; secret: sealed at rest."""

    cid: int
    name: str
    floor_ms: int
    secret: bool


class Stored(NamedTuple):
    """A document row as read: its place, its version (seq) and its merge state."""

    id: DocumentId
    seq: int
    row: Row


class Vault(Protocol):
    """Seals rows of secret collections at rest. `place` binds a row to where it stands."""

    def seal(self, place: bytes, data: bytes) -> bytes:
        """Sealed bytes."""
        ...

    def open(self, place: bytes, data: bytes) -> bytes:
        """Inverse of seal. Raises: StateError when it was sealed elsewhere or under another key."""
        ...


# ---- collections -------------------------------------------------------------------------------------------------
def collections(connection: sqlite3.Connection) -> list[Collection]:
    """All collections by name."""
    rows = connection.execute("SELECT cid, name, floor_ms, secret FROM collection ORDER BY name")
    return [Collection(cid, name, floor, bool(secret)) for cid, name, floor, secret in rows]


def collection(connection: sqlite3.Connection, name: str) -> Collection | None:
    """One collection by name."""
    row = connection.execute("SELECT cid, name, floor_ms, secret FROM collection WHERE name = ?", (name,)).fetchone()
    return Collection(row[0], row[1], row[2], bool(row[3])) if row else None


# ---- reading -----------------------------------------------------------------------------------------------------
def get(connection: sqlite3.Connection, where: Collection, document: DocumentId, vault: Vault | None) -> Stored | None:
    """One document, deleted ones included. Raises: SecretsLocked: a secret collection and no vault."""
    row = connection.execute(
        "SELECT id, seq, cl, body, clk, conflicts FROM document WHERE cid = ? AND id = ?", (where.cid, document)
    ).fetchone()
    return read_row(where, row, vault) if row else None


def read_row(where: Collection, row: Sequence[object], vault: Vault | None) -> Stored:
    """Decode (id, seq, cl, body, clk, conflicts) as selected. Raises: SecretsLocked."""
    document, seq, cl, body, clk, conflicts = row
    if where.secret:
        if vault is None:
            raise SecretsLocked(
                f"The collection {where.name} is sealed at rest and the keyring is locked. Unlock it, "
                "then run 'hybridgw doctor'."
            )
        place = place_of(where.cid, document)  # type: ignore[arg-type]
        clk = vault.open(place + b"c", clk)  # type: ignore[arg-type]
        body = None if body is None else vault.open(place + b"b", body)  # type: ignore[arg-type]
    elif isinstance(body, str):
        body = body.encode()
    return Stored(document, seq, (cl, body, clk, conflicts))  # type: ignore[arg-type]


def place_of(cid: int, document: DocumentId) -> bytes:
    """What binds a sealed row to its place."""
    return cid.to_bytes(8, "big") + (document if isinstance(document, bytes) else document.encode())


def changes_since(connection: sqlite3.Connection, seq: int, limit: int) -> list[tuple[int, str, DocumentId, int]]:
    """The change feed: (seq, collection, id, cl) of documents changed after *seq*, in that order, latest state only."""
    return connection.execute(
        "SELECT d.seq, c.name, d.id, d.cl FROM document d JOIN collection c USING(cid) "
        "WHERE d.seq > ? ORDER BY d.seq LIMIT ?",
        (seq, limit),
    ).fetchall()


def binary_ids(connection: sqlite3.Connection, cid: int) -> list[bytes]:
    """The UUID ids of a collection, ascending: by time where they are version 7."""
    rows = connection.execute("SELECT id FROM document WHERE cid = ? AND typeof(id) = 'blob' ORDER BY id", (cid,))
    return [document for (document,) in rows]


def count_alive(connection: sqlite3.Connection, cid: int) -> int:
    """Documents of a collection that are not deleted."""
    return int(connection.execute("SELECT count(*) FROM document WHERE cid = ? AND cl % 2 = 1", (cid,)).fetchone()[0])


def count_conflicts(connection: sqlite3.Connection) -> int:
    """Documents with conflicts to show."""
    return int(connection.execute("SELECT count(*) FROM document WHERE conflicts > 0").fetchone()[0])


def conflict_rows(
    connection: sqlite3.Connection, after_rid: int, limit: int
) -> list[tuple[int, str, DocumentId, int, object, bytes, int]]:
    """Documents with conflicts after a row id: (rid, collection, id, seq, …) for the inbox; see `read_row`."""
    return connection.execute(
        "SELECT d.rid, c.name, d.id, d.seq, d.cl, d.body, d.clk, d.conflicts "
        "FROM document d JOIN collection c USING(cid) WHERE d.conflicts > 0 AND d.rid > ? ORDER BY d.rid LIMIT ?",
        (after_rid, limit),
    ).fetchall()


# ---- the write-back cache ----------------------------------------------------------------------------------------
class _Entry:
    __slots__ = ("dirty", "rid", "row", "seq")

    def __init__(self, rid: int | None, row: Row | None, seq: int) -> None:
        self.rid, self.row, self.seq, self.dirty = rid, row, seq, False


_Fresh = tuple[int, DocumentId, int, int, int, str | bytes | None, bytes]  # a row of document but for its rid


class DocumentCache:
    """The documents of one transaction group. `load` what a batch will touch, `get` and `put`, `flush` at the end."""

    def __init__(self, tx: Tx, vault: Vault | None) -> None:
        self._tx = tx
        self._vault = vault
        by_name: dict[str, Collection] | None = tx.memo.get(_COLLECTIONS)
        if by_name is None:  # only this class writes the table, so what was read once stays true until a rollback
            by_name = tx.memo[_COLLECTIONS] = {c.name: c for c in collections(tx.connection)}
        self._by_name = by_name
        self._entries: dict[tuple[int, DocumentId], _Entry] = {}
        self._dirty: list[tuple[Collection, DocumentId, _Entry]] = []
        # Greatest binary id of each collection, or something above it. Ids that sort by time come in that order mostly:
        # a document above all stored ones is new, which needs no look into the file.
        self._greatest: dict[int, bytes] = tx.memo.setdefault(_GREATEST, {})

    def find(self, name: str) -> Collection | None:
        """The collection of that name, if it is there."""
        return self._by_name.get(name)

    def collection(self, name: str, *, secret: bool = False) -> Collection:
        """The collection of that name, made if it is new."""
        found = self._by_name.get(name)
        if found is None:
            cursor = self._tx.execute("INSERT INTO collection(name, secret) VALUES(?, ?)", (name, secret))
            found = self._by_name[name] = Collection(int(cursor.lastrowid or 0), name, 0, secret)
        return found

    def load(self, where: Collection, documents: Iterable[DocumentId]) -> None:
        """Read rows ahead, many in one statement."""
        entries, cid = self._entries, where.cid
        greatest = self._greatest.get(cid)
        if greatest is None:
            greatest = self._greatest[cid] = self._greatest_id(cid)
        wanted = []
        for document in documents:
            if (cid, document) in entries:
                continue
            if type(document) is bytes and document > greatest:
                entries[cid, document] = _Entry(None, None, 0)
            else:
                wanted.append(document)
        for start in range(0, len(wanted), _READ):
            part = wanted[start : start + _READ]
            marks = ",".join("?" * len(part))
            rows = self._tx.execute(
                f"SELECT rid, id, seq, cl, body, clk, conflicts FROM document WHERE cid = ? AND id IN ({marks})",
                (cid, *part),
            ).fetchall()
            for rid, *row in rows:
                stored = read_row(where, row, self._vault)
                entries[cid, stored.id] = _Entry(rid, stored.row, stored.seq)
            if len(rows) < len(part):
                for document in part:
                    if (cid, document) not in entries:
                        entries[cid, document] = _Entry(None, None, 0)

    def _greatest_id(self, cid: int) -> bytes:
        found = self._tx.execute("SELECT max(id) FROM document WHERE cid = ?", (cid,)).fetchone()[0]
        return found if isinstance(found, bytes) else b""  # SQLite sorts text before bytes

    def get(self, where: Collection, document: DocumentId) -> Row | None:
        """The merge state of one document, None if it never was."""
        entry = self._entries.get((where.cid, document))
        if entry is None:
            self.load(where, (document,))
            entry = self._entries[where.cid, document]
        return entry.row

    def version(self, where: Collection, document: DocumentId) -> int:
        """Its seq, 0 if it never was."""
        self.get(where, document)
        return self._entries[where.cid, document].seq

    def put(self, where: Collection, document: DocumentId, row: Row, seq: int) -> None:
        """Replace the state of a document that was got or loaded before; written by `flush`."""
        entry = self._entries[where.cid, document]
        entry.row, entry.seq = row, seq
        if not entry.dirty:
            entry.dirty = True
            self._dirty.append((where, document, entry))

    def raise_floor(self, where: Collection, floor_ms: int, gone: Iterable[DocumentId]) -> Collection:
        """Set the floor of a collection and drop the given documents."""
        self.flush()
        self._tx.execute("UPDATE collection SET floor_ms = ? WHERE cid = ?", (floor_ms, where.cid))
        self._tx.executemany("DELETE FROM document WHERE cid = ? AND id = ?", ((where.cid, d) for d in gone))
        self._entries = {key: e for key, e in self._entries.items() if key[0] != where.cid}
        found = self._by_name[where.name] = where._replace(floor_ms=floor_ms)
        return found

    def flush(self) -> int:
        """Write what changed; returns how many rows."""
        fresh: list[_Fresh] = []
        changed = []
        vault = self._vault
        for where, document, entry in self._dirty:
            row = entry.row
            if row is None:
                continue
            cl, body, clk, conflicts = row
            stored: str | bytes | None
            if where.secret:
                if vault is None:
                    raise SecretsLocked(f"The collection {where.name} is sealed at rest and the keyring is locked.")
                place = place_of(where.cid, document)
                clk = vault.seal(place + b"c", clk)
                stored = None if body is None else vault.seal(place + b"b", body)
            else:
                stored = None if body is None else body.decode()
            if entry.rid is None:
                fresh.append((where.cid, document, cl, entry.seq, conflicts, stored, clk))
            else:
                changed.append((cl, entry.seq, conflicts, stored, clk, entry.rid))
            entry.dirty = False
        count = len(fresh) + len(changed)
        if fresh:
            self._insert(fresh)
            # Row ids of fresh rows are not known; forget them, a later touch in this transaction reads them again.
            for where, document, entry in self._dirty:
                if entry.rid is None:
                    del self._entries[where.cid, document]
        if changed:
            self._tx.executemany(
                "UPDATE document SET cl = ?, seq = ?, conflicts = ?, body = ?, clk = ? WHERE rid = ?", changed
            )
        self._dirty = []
        return count

    def _insert(self, rows: Sequence[_Fresh]) -> None:
        at = 0
        for count in _INSERT_ROWS:
            text = _INSERT[count]
            while len(rows) - at >= count:
                self._tx.execute(text, [value for row in rows[at : at + count] for value in row])
                at += count
        for cid, document, *_ in rows:
            if type(document) is bytes and document > self._greatest[cid]:
                self._greatest[cid] = document


def clear(tx: Tx) -> None:
    """Forget every document (a rebuild follows); collections keep their numbers, floors start anew."""
    tx.memo.pop(_GREATEST, None)
    tx.memo.pop(_COLLECTIONS, None)
    tx.execute("DELETE FROM document")
    tx.execute("UPDATE collection SET floor_ms = 0")
