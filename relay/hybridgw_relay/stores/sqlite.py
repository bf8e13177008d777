"""The relay's store on SQLite: functions of the open transaction, and `SqliteRelayStore`, which runs them.

Rows that every push touches (heads, spaces, accounts) are kept in `tx.memo` between commits. The memo is dropped when
another process (an administrator's command) has committed meanwhile.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hybridgw_protocol.batch import EMPTY_HEAD, Batch, Head, batch_hash
from hybridgw_protocol.errors import BadFrame, Fork, Gap, HybridGWError, NotAdmitted, QuotaExceeded
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.limits import (
    LOGS_PER_DEVICE,
    LOGS_PER_SPACE,
    MAX_MAIL_BYTES,
    MAX_MAIL_ROWS,
    MAX_MESSAGE_TTL_MS,
    SIGNATURE_BYTES,
)
from hybridgw_protocol.membership import Close
from hybridgw_protocol.messages import PRIORITIES, Priority
from hybridgw_storage.database import Database, SqliteDatabase, Tx
from hybridgw_storage.migrations import prepare_file
from hybridgw_storage.sets import MARKS, parts

from ..core.chain import Place, place
from .base import AccountRow, Append, Appended, DeviceRow, LetterRow, MailRow, Page, SpaceRow, Stored
from .letters import (
    done_letters,
    expire_letters,
    note_acquaintance,
    put_letters,
    read_is_letter_over,
    read_is_noted,
    read_letters,
)
from .schema import MIGRATIONS


class SqliteRelayStore:
    """RelayStore over one SQLite file."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._changes = db.peek(read_changes)

    @classmethod
    def open(cls, path: Path, *, stamp: str) -> SqliteRelayStore:
        """Open or make the file. Args: stamp: text for the names of copies. Raises: as prepare_file."""
        prepare_file(path, MIGRATIONS, stamp=stamp)
        return cls(SqliteDatabase(path, cache_kib=8 * 1024, readers=1))

    def space(self, space: SpaceId) -> SpaceRow | None:
        """The space, or None."""
        return self._db.peek(lambda connection: read_space(connection, space))

    async def account(self, aid: int) -> AccountRow | None:
        """The account with its use."""
        return self._db.peek(lambda connection: read_account(connection, aid))

    async def is_invited(self, invite_hash: bytes, now_ms: int) -> bool:
        """Is there an unused, unexpired invite of this hash."""
        return self._db.peek(lambda connection: read_invite(connection, invite_hash, now_ms)) is not None

    async def register(
        self, space: SpaceId, invite_hash: bytes, records: Sequence[tuple[bytes, bytes]],
        heads: Sequence[bytes], devices: Mapping[DeviceId, DeviceRow], now_ms: int,
    ) -> SpaceRow:  # fmt: skip
        """Admit a space and use its invite up."""
        return await self._db.write(lambda tx: register(tx, space, invite_hash, records, heads, devices, now_ms))

    async def add_control(
        self, sid: int, records: Sequence[tuple[bytes, bytes]], heads: Sequence[bytes],
        devices: Mapping[DeviceId, DeviceRow], now_ms: int,
    ) -> None:  # fmt: skip
        """Keep control records and what follows from all of them."""
        await self._db.write(lambda tx: add_control(tx, sid, records, heads, devices, now_ms))

    def unknown_control(self, sid: int, prefixes: Sequence[bytes]) -> list[bytes]:
        """Those of the given hash prefixes that no control record here begins with."""
        return self._db.peek(lambda connection: read_unknown_control(connection, sid, prefixes))

    def is_within_devices(self, aid: int, sid: int, device: DeviceId) -> bool:
        """Is this active device among the first `max_devices` of its account."""
        return self._db.peek(lambda connection: read_is_within_devices(connection, aid, sid, device))

    async def control(self, sid: int) -> list[bytes]:
        """All control records, in the order of arrival."""
        return await self._db.read(lambda connection: read_control(connection, sid))

    async def append(self, pushes: Sequence[Append], now_ms: int) -> list[Appended]:
        """Store many pushes in one commit."""
        return await self._db.write(lambda tx: append(tx, pushes, now_ms))

    async def heads(self, sid: int) -> dict[LogId, Head]:
        """The end of every log."""
        return self._db.peek(lambda connection: read_heads(connection, sid))

    async def owners(self, sid: int) -> dict[LogId, DeviceId]:
        """Whose each log is."""
        return self._db.peek(lambda connection: read_owners(connection, sid))

    async def page(self, sid: int, have: Mapping[LogId, int], max_bytes: int, max_batches: int) -> Page:
        """Batches above a vector, in the order of rid."""
        held = dict(have)  # the caller's may change while another thread reads
        return await self._db.read(lambda connection: read_page(connection, sid, held, max_bytes, max_batches))

    async def put_mail(self, sid: int, rows: Sequence[MailRow], now_ms: int) -> list[bool]:
        """Keep messages, in their order, in one commit."""
        return await self._db.write(lambda tx: put_mail(tx, sid, rows))

    def mail_waits(self, sid: int, dest: DeviceId, after: Mapping[Priority, int]) -> list[Priority]:
        """See RelayStore."""
        return self._db.peek(lambda connection: read_mail_waits(connection, sid, dest, after))

    def mail(self, sid: int, dest: DeviceId, priority: int, after: int, max_bytes: int) -> list[tuple[int, MailRow]]:
        """Messages of one priority that wait for a device."""
        return self._db.peek(lambda connection: read_mail(connection, sid, dest, priority, after, max_bytes))

    async def done_mail(self, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
        """Forget messages."""
        await self._db.write(lambda tx: done_mail(tx, sid, dest, keys))

    async def expire_mail(self, now_ms: int) -> int:
        """Turn what is over into tombstones, forget tombstones of long ago."""
        if not self._db.peek(lambda connection: read_is_mail_over(connection, now_ms)):
            return 0
        return await self._db.write(lambda tx: expire_mail(tx, now_ms))

    async def put_letters(self, sid: int, rows: Sequence[LetterRow]) -> list[bool]:
        """Keep letters, in one commit."""
        return await self._db.write(lambda tx: put_letters(tx, sid, rows))

    async def wrote(self, sid: int, person: SpaceId, now_ms: int) -> None:
        """A device of a space has written to a person; once a day it is written down."""
        if not self._db.peek(lambda connection: read_is_noted(connection, sid, person, now_ms)):
            await self._db.write(lambda tx: note_acquaintance(tx, sid, person, now_ms))

    def letters(
        self, sid: int, dest: DeviceId, limit: int, *, but: Sequence[int] = (), without: Sequence[SpaceId] = ()
    ) -> list[tuple[int, LetterRow]]:
        """Letters that wait for a device."""
        return self._db.peek(lambda connection: read_letters(connection, sid, dest, limit, but, without))

    async def done_letters(self, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
        """Forget letters."""
        await self._db.write(lambda tx: done_letters(tx, sid, dest, keys))

    async def expire_letters(self, now_ms: int) -> int:
        """Forget letters whose time is over, and who was not written to for long."""
        if not self._db.peek(lambda connection: read_is_letter_over(connection, now_ms)):
            return 0
        return await self._db.write(lambda tx: expire_letters(tx, now_ms))

    async def seen(self, seen_ms: Mapping[tuple[int, DeviceId], int]) -> None:
        """Note the last contact of devices."""
        rows = [(at_ms, sid, dev) for (sid, dev), at_ms in seen_ms.items()]
        await self._db.write(
            lambda tx: tx.executemany("UPDATE device SET seen_ms=max(seen_ms,?) WHERE sid=? AND dev=?", rows)
        )

    async def is_writable(self) -> bool:
        """Can something be committed now."""
        try:
            await self._db.write(lambda tx: set_meta(tx, "probe", 1))
        except HybridGWError:
            return False
        return True

    async def set_meta(self, key: str, value: str | int) -> None:
        """Keep a fact about this relay."""
        await self._db.write(lambda tx: set_meta(tx, key, value))

    def changed_elsewhere(self) -> bool:
        """Did an administrator's command change something since the last call."""
        before, self._changes = self._changes, self._db.peek(read_changes)
        return before != self._changes

    async def close(self) -> None:
        """Finish and close."""
        await self._db.close()


# ---- reading -----------------------------------------------------------------------------------------------------
def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def read_changes(connection: sqlite3.Connection) -> int:
    """How often administrators changed something; see stores/admin.py."""
    row = connection.execute("SELECT v FROM meta WHERE k='changes'").fetchone()
    return int(row[0]) if row else 0


def read_space(connection: sqlite3.Connection, space: SpaceId) -> SpaceRow | None:
    """A space with its devices."""
    row = connection.execute("SELECT sid, aid, control_heads FROM space WHERE id=?", (space,)).fetchone()
    if row is None:
        return None
    sid, aid, heads = row
    devices = connection.execute("SELECT dev, sign, active FROM device WHERE sid=? ORDER BY nr", (sid,))
    return SpaceRow(
        sid, space, aid, tuple(heads[i : i + 32] for i in range(0, len(heads), 32)),
        {DeviceId(dev): DeviceRow(sign, bool(active)) for dev, sign, active in devices},
    )  # fmt: skip


def read_account(connection: sqlite3.Connection, aid: int) -> AccountRow | None:
    """An account with its use."""
    row = connection.execute(
        """SELECT name, max_bytes, max_devices, (SELECT coalesce(sum(bytes), 0) FROM space WHERE aid=a.aid),
             (SELECT count(*) FROM space JOIN device USING(sid) WHERE aid=a.aid AND active)
           FROM account a WHERE aid=?""",
        (aid,),
    ).fetchone()
    return row and AccountRow(aid, *row)


def read_invite(connection: sqlite3.Connection, invite_hash: bytes, now_ms: int) -> int | None:
    """The account of an unused, unexpired invite."""
    row = connection.execute(
        "SELECT aid FROM invite WHERE hash=? AND used_ms IS NULL AND expires_ms>?", (invite_hash, now_ms)
    ).fetchone()
    return row and int(row[0])


def read_unknown_control(connection: sqlite3.Connection, sid: int, prefixes: Sequence[bytes]) -> list[bytes]:
    """Those of the given hash prefixes that no control record of the space begins with."""
    sql = "SELECT 1 FROM control WHERE sid=? AND hash>=? AND hash<=?"
    return [p for p in prefixes if connection.execute(sql, (sid, p, p + b"\xff" * 32)).fetchone() is None]


def read_is_within_devices(connection: sqlite3.Connection, aid: int, sid: int, device: DeviceId) -> bool:
    """Is this active device among the first ones of its account."""
    row = connection.execute(
        """SELECT (SELECT count(*) FROM space JOIN device d USING(sid) WHERE aid=a.aid AND d.active
                   AND (d.added_ms, d.sid, d.nr) < (me.added_ms, me.sid, me.nr)) < a.max_devices
           FROM account a, device me WHERE a.aid=? AND me.sid=? AND me.dev=?""",
        (aid, sid, device),
    ).fetchone()
    return bool(row and row[0])


def read_control(connection: sqlite3.Connection, sid: int) -> list[bytes]:
    """All control records of a space, in the order of arrival."""
    return [row[0] for row in connection.execute("SELECT record FROM control WHERE sid=? ORDER BY seq", (sid,))]


def read_heads(connection: sqlite3.Connection, sid: int) -> dict[LogId, Head]:
    """The end of every log of a space."""
    rows = connection.execute("SELECT log, n, hash FROM head WHERE sid=?", (sid,))
    return {LogId(log): Head(n, digest) for log, n, digest in rows}


def read_owners(connection: sqlite3.Connection, sid: int) -> dict[LogId, DeviceId]:
    """Whose each log of a space is."""
    rows = connection.execute("SELECT log, dev FROM head WHERE sid=?", (sid,))
    return {LogId(log): DeviceId(dev) for log, dev in rows}


def read_page(
    connection: sqlite3.Connection, sid: int, have: Mapping[LogId, int], max_bytes: int, max_batches: int
) -> Page:
    """Batches above a vector: the logs that have some, merged by rid, in one snapshot of the database."""
    connection.execute("BEGIN")
    try:
        row = connection.execute("SELECT rid FROM space WHERE sid=?", (sid,)).fetchone()
        end = row[0] if row else 0
        behind = [(log, n) for log, head in read_heads(connection, sid).items() if head.n > (n := have.get(log, 0))]
        wanted: list[Stored] = []
        size = 0
        for rid, log, n in heapq.merge(*(_rows_of(connection, sid, log, n) for log, n in behind)):
            blob = connection.execute("SELECT blob FROM batch WHERE rid=?", (rid,)).fetchone()[0]
            if wanted and (size + len(blob) > max_bytes or len(wanted) >= max_batches):
                return Page(wanted, wanted[-1].rid, True)
            wanted.append(Stored(rid, log, n, blob))
            size += len(blob)
        return Page(wanted, end, False)
    finally:
        connection.execute("COMMIT")


def _rows_of(connection: sqlite3.Connection, sid: int, log: LogId, n: int) -> Iterator[tuple[int, LogId, int]]:
    rows = connection.execute("SELECT rid, n FROM batch WHERE sid=? AND log=? AND n>? ORDER BY n", (sid, log, n))
    return ((rid, log, number) for rid, number in rows)


# ---- spaces and control records ----------------------------------------------------------------------------------
def register(
    tx: Tx, space: SpaceId, invite_hash: bytes, records: Sequence[tuple[bytes, bytes]], heads: Sequence[bytes],
    devices: Mapping[DeviceId, DeviceRow], now_ms: int,
) -> SpaceRow:  # fmt: skip
    """Admit a space and use its invite up. Raises: NotAdmitted."""
    known = read_space(tx.connection, space)
    if known is not None:
        return known
    aid = read_invite(tx.connection, invite_hash, now_ms)
    if aid is None:
        raise NotAdmitted("This invite was used already, or has run out. Ask for a new one.")
    tx.execute("UPDATE invite SET used_ms=? WHERE hash=?", (now_ms, invite_hash))
    sid = tx.execute(
        "INSERT INTO space(id, aid, rid, batches, bytes, control_heads, created_ms) VALUES(?,?,0,0,0,x'',?)",
        (space, aid, now_ms),
    ).lastrowid
    assert sid is not None  # noqa: S101 - an INSERT has one
    add_control(tx, sid, records, heads, devices, now_ms)
    registered = read_space(tx.connection, space)
    assert registered is not None  # noqa: S101 - inserted above
    return registered


def add_control(
    tx: Tx, sid: int, records: Sequence[tuple[bytes, bytes]], heads: Sequence[bytes],
    devices: Mapping[DeviceId, DeviceRow], now_ms: int,
) -> None:  # fmt: skip
    """Keep control records and what follows from all of them."""
    seq = tx.execute("SELECT coalesce(max(seq), 0) FROM control WHERE sid=?", (sid,)).fetchone()[0]
    for digest, record in records:
        seq += 1
        added = tx.execute("INSERT OR IGNORE INTO control VALUES(?,?,?,?)", (sid, seq, digest, record)).rowcount
        seq -= 1 - added
    tx.execute("UPDATE space SET control_heads=? WHERE sid=?", (b"".join(sorted(heads)), sid))
    tx.executemany(
        """INSERT INTO device VALUES(?,?,?,?,?,?,0)
           ON CONFLICT DO UPDATE SET active=excluded.active WHERE active<>excluded.active""",
        [(sid, dev, row.sign, row.active, nr, now_ms) for nr, (dev, row) in enumerate(devices.items(), 1)],
    )


def set_meta(tx: Tx, key: str, value: str | int) -> None:
    """Keep a fact about this relay."""
    tx.execute("INSERT INTO meta VALUES(?,?) ON CONFLICT DO UPDATE SET v=excluded.v", (key, value))


# ---- batches -----------------------------------------------------------------------------------------------------
class _Space:
    """A space while it is written to; one object per space in the memo."""

    __slots__ = ("aid", "batches", "bytes", "heads", "owners", "rid", "sid")

    def __init__(self, tx: Tx, sid: int) -> None:
        row = tx.execute("SELECT aid, rid, batches, bytes FROM space WHERE sid=?", (sid,)).fetchone()
        if row is None:
            raise NotAdmitted("This space was removed from the relay.")
        self.sid = sid
        self.aid, self.rid, self.batches, self.bytes = row
        self.heads = read_heads(tx.connection, sid)
        self.owners = read_owners(tx.connection, sid)


class _Account:
    """Room left in an account; one object per account in the memo."""

    __slots__ = ("max_bytes", "used_bytes")

    def __init__(self, tx: Tx, aid: int) -> None:
        row = read_account(tx.connection, aid)
        self.max_bytes, self.used_bytes = (row.max_bytes, row.used_bytes) if row else (0, 0)


class _Group:
    """The rows of one commit: written together at its end."""

    def __init__(self, tx: Tx, now_ms: int) -> None:
        self.tx, self.now_ms = tx, now_ms
        self.batches: list[tuple[int, int, int, int, int, bytes]] = []
        self.fresh: dict[tuple[int, LogId, int], bytes] = {}  # the same by place
        self.heads: set[tuple[int, LogId]] = set()

    def space(self, sid: int) -> _Space:
        """From the memo, or read."""
        found = self.tx.memo.get(sid)
        if found is None:
            found = self.tx.memo[sid] = _Space(self.tx, sid)
        assert isinstance(found, _Space)  # noqa: S101 - only we put integers there
        return found

    def account(self, aid: int) -> _Account:
        """From the memo, or read."""
        found = self.tx.memo.get(("account", aid))
        if found is None:
            found = self.tx.memo["account", aid] = _Account(self.tx, aid)
        assert isinstance(found, _Account)  # noqa: S101 - only we put these keys there
        return found

    def held_blob(self, sid: int, log: LogId, n: int) -> bytes | None:
        """The stored batch of a place, also one of this very group."""
        fresh = self.fresh.get((sid, log, n))
        if fresh is not None:
            return fresh
        found = self.tx.execute("SELECT blob FROM batch WHERE sid=? AND log=? AND n=?", (sid, log, n)).fetchone()
        return found and bytes(found[0])

    def next_rid(self) -> int:
        """One above every rid so far, also of batches that gave way: connections have served up to there."""
        rid = self.tx.memo.get("rid")
        if rid is None:
            rid = self.tx.execute(
                "SELECT max(coalesce((SELECT max(rid) FROM batch), 0), coalesce((SELECT max(rid) FROM space), 0))"
            ).fetchone()[0]
        self.tx.memo["rid"] = rid = int(rid) + 1
        return rid

    def flush(self) -> None:
        """Write what was gathered."""
        if self.batches:
            self.tx.executemany("INSERT INTO batch VALUES(?,?,?,?,?,?)", self.batches)
            self.batches.clear()
            self.fresh.clear()
        if self.heads:
            spaces = {sid: self.space(sid) for sid, _ in self.heads}
            self.tx.executemany(
                """INSERT INTO head VALUES(?,?,?,?,?)
                   ON CONFLICT DO UPDATE SET dev=excluded.dev, n=excluded.n, hash=excluded.hash""",
                [
                    (sid, log, spaces[sid].owners[log], spaces[sid].heads[log].n, spaces[sid].heads[log].hash)
                    for sid, log in self.heads
                ],
            )
            self.tx.executemany(
                "UPDATE space SET rid=?, batches=?, bytes=? WHERE sid=?",
                [(space.rid, space.batches, space.bytes, sid) for sid, space in spaces.items()],
            )
            self.heads.clear()


def append(tx: Tx, pushes: Sequence[Append], now_ms: int) -> list[Appended]:
    """Store many pushes; the caller's transaction makes them durable."""
    version = _data_version(tx.connection)
    if tx.memo.get("version") != version:  # another process wrote: quotas, removed accounts
        tx.memo.clear()
        tx.memo["version"] = version
    try:
        group = _Group(tx, now_ms)
        results = [_append_one(group, push) for push in pushes]
        group.flush()
    except BaseException:
        tx.memo.clear()  # it may already say what is not written
        raise
    return results


def _append_one(group: _Group, push: Append) -> Appended:
    result = Appended()
    batches, result.error = push.read()
    try:
        space = group.space(push.sid)
    except NotAdmitted as error:
        result.error = error
        return result
    if result.error is not None and isinstance(bad := result.error.detail.get("log"), int):
        result.heads[LogId(bad)] = space.heads.get(LogId(bad), EMPTY_HEAD)
    account = group.account(space.aid)
    result.after_rid = space.rid
    for batch in batches:
        try:
            stored = _append_batch(group, space, account, push, batch, result)
        except HybridGWError as error:
            result.error = error
            result.heads[batch.log] = space.heads.get(batch.log, EMPTY_HEAD)
            break
        if stored is not None:
            result.stored.append(stored)
        result.heads[batch.log] = space.heads[batch.log]
    return result


def _append_batch(
    group: _Group, space: _Space, account: _Account, push: Append, batch: Batch, result: Appended
) -> Stored | None:
    """Store one batch in its place. None: it was here already.

    Raises: BadFrame (another device's log), Gap, Fork (evidence is kept), QuotaExceeded.
    """
    head = space.heads.get(batch.log, EMPTY_HEAD)
    owner = space.owners.get(batch.log)
    if owner is not None and owner != batch.device:
        raise BadFrame(f"Log {batch.log} is not a log of device {batch.device.hex()[:8]}.")
    close = push.closes.get(batch.log)
    match place(head, batch):
        case Place.GAP:
            raise Gap(f"Log {batch.log} is held up to batch {head.n}; batch {batch.n} does not follow.", have=head.n)
        case Place.HELD:
            held = group.held_blob(space.sid, batch.log, batch.n)
            if held is None or held[:-SIGNATURE_BYTES] == batch.blob[:-SIGNATURE_BYTES]:
                return None
            head = _give_way(group, space, account, push, batch, close)
            result.gave_way[batch.log] = min(head.n, result.gave_way.get(batch.log, head.n))
        case Place.FORK:
            head = _give_way(group, space, account, push, batch, close)
        case Place.NEXT:
            pass
    if close is not None and (batch.n > close.n or (batch.n == close.n and batch.hash != close.hash)):
        raise Gap(
            f"Log {batch.log} was closed at batch {close.n} on another branch; batch {batch.n} does not count. "
            "Get the control records."
        )
    if owner is None:
        _check_new_log(space, push, batch)
    size = len(batch.blob)
    if account.used_bytes + size > account.max_bytes:
        raise QuotaExceeded(
            f"The account is full: {account.used_bytes} of {account.max_bytes} bytes are used. "
            "Ask whoever runs the relay for more room."
        )
    rid = group.next_rid()
    space.rid = rid
    space.batches += 1
    space.bytes += size
    account.used_bytes += size
    space.heads[batch.log] = Head(batch.n, batch.hash)
    space.owners[batch.log] = batch.device
    group.heads.add((space.sid, batch.log))
    group.fresh[space.sid, batch.log, batch.n] = batch.blob
    group.batches.append((rid, space.sid, batch.log, batch.n, group.now_ms, batch.blob))
    return Stored(rid, batch.log, batch.n, batch.blob)


def _check_new_log(space: _Space, push: Append, batch: Batch) -> None:
    opened = sum(1 for log, dev in space.owners.items() if dev == batch.device and log not in push.closes)
    if opened >= LOGS_PER_DEVICE:
        raise QuotaExceeded(
            f"Device {batch.device.hex()[:8]} has {LOGS_PER_DEVICE} open logs already. Close old ones first.",
            logs=opened,
        )
    if len(space.owners) >= LOGS_PER_SPACE:
        raise QuotaExceeded(f"The space has {LOGS_PER_SPACE} logs already.", logs=len(space.owners))


def _give_way(group: _Group, space: _Space, account: _Account, push: Append, batch: Batch, close: Close | None) -> Head:
    """A second signed batch for one place. It is kept as evidence and refused, unless a control record closed the log
    on another branch than the one stored here: then what is stored from this place on gives way.

    Returns the head below the batch's place. Raises: Fork.
    """
    group.flush()
    below = _head_at(group, space.sid, batch.log, batch.n - 1)
    may_give_way = (
        close is not None
        and close.fork < batch.n <= close.n
        and _head_at(group, space.sid, batch.log, close.n).hash != close.hash
        and (batch.n == 1 or below.hash == batch.prev)
    )
    if not may_give_way:
        group.tx.execute(
            "INSERT OR IGNORE INTO evidence VALUES(?,?,?,?,?,?)",
            (space.sid, batch.log, batch.n, group.now_ms, push.pushed_by, batch.blob),
        )
        raise Fork(
            f"Device {batch.device.hex()[:8]} signed two different batches for one place of log {batch.log}, at or "
            f"before number {batch.n}. It may be a restored copy that runs twice; both are kept as evidence.",
            log=batch.log, n=batch.n,
        )  # fmt: skip
    count, size = group.tx.execute(
        "SELECT count(*), coalesce(sum(length(blob)), 0) FROM batch WHERE sid=? AND log=? AND n>=?",
        (space.sid, batch.log, batch.n),
    ).fetchone()
    group.tx.execute("DELETE FROM batch WHERE sid=? AND log=? AND n>=?", (space.sid, batch.log, batch.n))
    space.batches -= count
    space.bytes -= size
    account.used_bytes -= size
    space.heads[batch.log] = below
    return below


def _head_at(group: _Group, sid: int, log: LogId, n: int) -> Head:
    blob = group.held_blob(sid, log, n) if n else None
    return EMPTY_HEAD if blob is None else Head(n, _hash_of(blob))


def _hash_of(blob: bytes) -> bytes:
    return batch_hash(blob[:-SIGNATURE_BYTES])


# ---- mail --------------------------------------------------------------------------------------------------------
EXPIRE_PART = 500  # messages in one transaction


_MAIL_WAITS: Final = "SELECT " + ", ".join(
    f"EXISTS(SELECT 1 FROM mail WHERE sid=?1 AND dest=?2 AND priority={priority:d} AND rid>?{priority + 3:d})"
    for priority in PRIORITIES
)


def read_mail_waits(
    connection: sqlite3.Connection, sid: int, dest: DeviceId, after: Mapping[Priority, int]
) -> list[Priority]:
    """The priorities of which something waits for a device behind these places."""
    row = connection.execute(_MAIL_WAITS, (sid, dest, *[after[p] for p in PRIORITIES])).fetchone()
    return [priority for priority, waits in zip(PRIORITIES, row, strict=True) if waits]


def read_mail(
    connection: sqlite3.Connection, sid: int, dest: DeviceId, priority: int, after: int, max_bytes: int
) -> list[tuple[int, MailRow]]:
    """Messages of one priority that wait for a device, in the order of arrival."""
    rows = connection.execute(
        "SELECT rid, sender, id, expires_ms, head, body FROM mail "
        "WHERE sid=? AND dest=? AND priority=? AND rid>? ORDER BY rid LIMIT 256",
        (sid, dest, priority, after),
    )
    found: list[tuple[int, MailRow]] = []
    size = 0
    for rid, sender, mid, expires, head, body in rows:
        found.append((rid, MailRow(dest, DeviceId(sender), mid, priority, expires, head, body)))
        size += len(head) + len(body or b"")
        if size >= max_bytes:
            break
    return found


def _box(tx: Tx, sid: int, dest: bytes) -> list[int]:
    """Rows and bytes that wait for a device, from the memo; change it in place."""
    key = ("mail", sid, dest)
    found: list[int] | None = tx.memo.get(key)
    if found is None:
        size = "coalesce(sum(length(head) + coalesce(length(body), 0)), 0)"
        sql = f"SELECT count(*), {size} FROM mail WHERE sid=? AND dest=?"
        found = tx.memo[key] = list(tx.execute(sql, (sid, dest)).fetchone())
    return found


def put_mail(tx: Tx, sid: int, rows: Sequence[MailRow]) -> list[bool]:
    """Keep messages; see RelayStore."""
    here: set[tuple[bytes, ...]] = set()
    for dest in {row.dest for row in rows}:
        sql = f"SELECT dest, sender, id FROM mail WHERE sid=? AND dest=? AND sender=? AND id IN ({MARKS})"
        for sender in {row.sender for row in rows if row.dest == dest}:
            for part in parts([row.id for row in rows if (row.dest, row.sender) == (dest, sender)]):
                here.update(tx.execute(sql, (sid, dest, sender, *part)))
    taken: list[bool] = []
    new: list[tuple[object, ...]] = []
    for row in rows:
        place = (row.dest, row.sender, row.id)
        if place in here:
            taken.append(True)
            continue
        box, size = _box(tx, sid, row.dest), len(row.head) + len(row.body or b"")
        taken.append(box[0] < MAX_MAIL_ROWS and box[1] + size <= MAX_MAIL_BYTES)
        if taken[-1]:
            box[0] += 1
            box[1] += size
            here.add(place)
            new.append((sid, *place, row.priority, row.expires_ms, row.head, row.body))
    tx.executemany(
        "INSERT INTO mail(sid, dest, sender, id, priority, expires_ms, head, body) VALUES(?,?,?,?,?,?,?,?)", new
    )
    return taken


def done_mail(tx: Tx, sid: int, dest: DeviceId, keys: Sequence[bytes]) -> None:
    """Forget messages."""
    box = _box(tx, sid, dest)
    for sender in {key[:16] for key in keys}:
        for part in parts([key[16:] for key in keys if key[:16] == sender]):
            gone = tx.execute(
                f"DELETE FROM mail WHERE sid=? AND dest=? AND sender=? AND id IN ({MARKS}) "
                "RETURNING length(head) + coalesce(length(body), 0)",
                (sid, dest, sender, *part),
            ).fetchall()
            box[0] -= len(gone)
            box[1] -= sum([size for (size,) in gone])


def read_is_mail_over(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Is there something to expire, or to forget."""
    sql = "SELECT 1 FROM mail WHERE expires_ms<=? AND (body IS NOT NULL OR expires_ms<=?) LIMIT 1"
    return connection.execute(sql, (now_ms, now_ms - MAX_MESSAGE_TTL_MS)).fetchone() is not None


def expire_mail(tx: Tx, now_ms: int) -> int:
    """Bodies of what is over go; tombstones of long ago too."""
    part = "(SELECT rid FROM mail WHERE expires_ms<=? {} LIMIT ?)"
    sql = f"UPDATE mail SET body=NULL WHERE rid IN {part.format('AND body IS NOT NULL')}"
    count = tx.execute(sql, (now_ms, EXPIRE_PART)).rowcount
    sql = f"DELETE FROM mail WHERE rid IN {part.format('')}"
    count += tx.execute(sql, (now_ms - MAX_MESSAGE_TTL_MS, EXPIRE_PART)).rowcount
    if count:
        for key in [key for key in tx.memo if isinstance(key, tuple) and key[0] == "mail"]:
            del tx.memo[key]
    return count
