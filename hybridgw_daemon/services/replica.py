"""The replica: local writes, sealing, receiving, applying, closing and repairing logs. Functions of one transaction.

How it hangs together (protocol/SPEC.md, "Merge" and "Logs"):
    write     merge local operations into documents, keep them as pending under a batch number fixed now
    seal      each pending number becomes exactly one signed batch
    receive   keep verified batches, gapless per log; what differs from a batch held is evidence of a fork
    drain     apply every batch whose turn it is: causal, in clock bounds, with its key and control records known
    learn     control records close logs: batches off the closed chain are void, the state is built again without them
    repair    our own log was closed: what is void of ours is sealed again, first thing, in a new log

Everything here runs on the writer's thread and keeps its own cache in `tx.memo`, which a rollback empties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from hybridgw_protocol.batch import EMPTY_HEAD, FLAG_SECRET, MAX_N, Batch, Head, parse_batch
from hybridgw_protocol.errors import Busy, RemoteError, SecretsLocked, TooBig
from hybridgw_protocol.ids import DeviceId, DocumentId, KeyId, LogId, SpaceId, log_id
from hybridgw_protocol.limits import (
    BATCH_TARGET_BYTES,
    LOGS_PER_DEVICE,
    MAX_PENDING_BYTES,
    SEAL_WINDOW_MS,
    SHORT_HASH_BYTES,
    STAMP_BITS,
    UNAPPLIED_BYTES_PER_LOG,
)
from hybridgw_protocol.vectors import Heads
from hybridgw_storage.database import Tx

from ..core import hlc, merge
from ..core.body import Body, MalformedBody, apply_deps, decode_body, deps_delta, encode_body
from ..core.document_state import Row
from ..core.operations import (
    FLOOR,
    Operation,
    RaiseFloor,
    Request,
    coalesce,
    decode_pending,
    encode_pending,
    fingerprint,
)
from ..core.sealing import open_batch, seal_batch
from ..core.uuid7 import is_below_floor
from ..stores import alarms, documents, meta, oplog
from ..stores.documents import Collection, DocumentCache, Vault
from ..stores.oplog import BatchState, LogRow

SECRET_COLLECTIONS: Final = frozenset({"settings"})  # sealed apart, never compressed, sealed at rest
PROVISIONAL: Final = LogId(0)  # dots of writes made before this device has keys


class Written(NamedTuple):
    """One document that a local write changed."""

    collection: str
    id: DocumentId
    cl: int
    seq: int


class Incoming(msgspec.Struct):
    """A batch from outside, parsed and verified; `body` if it could be opened already, `fault` if it never can be."""

    batch: Batch
    body: Body | None = None
    fault: str | None = None


class End(NamedTuple):
    """Where a log ends: the last batch that counts, its hash if a record names one, the last n all branches share."""

    n: int
    hash: bytes
    fork: int


class Sealer(msgspec.Struct, frozen=True):
    """What sealing needs. sign_secret: 64-byte libsodium key; kid, key: the space key in use; entropy: n -> bytes."""

    space: SpaceId
    device: DeviceId
    sign_secret: bytes
    kid: KeyId
    key: bytes
    entropy: Callable[[int], bytes]
    control: tuple[bytes, ...] = ()  # 16-byte prefixes of our control heads


class Stored(NamedTuple):
    """What `receive` did."""

    heads: dict[LogId, Head]  # stored heads of the logs touched
    fresh: int  # batches that were new
    gaps: list[LogId]
    forks: list[LogId]
    applied: int  # operations applied
    strays: list[LogId]  # of a branch that leaves ours somewhere below: with its beginning it is evidence


class Keys(NamedTuple):
    """What opening and judging batches needs, as of the control records known: set by the sync service."""

    space_keys: Mapping[KeyId, bytes]
    ends: dict[LogId, End]  # of the logs known here
    control: frozenset[bytes]  # 16-byte prefixes of every control record known
    end_of: Callable[[LogId, DeviceId], End | None]  # for a log that is new here


NOTHING: Final[Mapping[LogId, int]] = {}
NO_KEYS: Final = Keys({}, {}, frozenset(), lambda _log, _device: None)


class _State:
    """Cached rows of one database: valid while nothing else writes it."""

    def __init__(self, tx: Tx) -> None:
        self.stamp = int(meta.get(tx.connection, "stamp", 0))
        self.seq = int(meta.get(tx.connection, "seq", 0))
        self.saved = (self.stamp, self.seq)
        self.own = LogId(int(meta.get(tx.connection, "log", PROVISIONAL)))
        self.logs = oplog.logs(tx.connection)
        self.pending = [[p.n, p.secret, sum(map(len, p.rows))] for p in oplog.pending(tx.connection)]
        self.dirty_logs: set[LogId] = set()
        self.sealed_ms = 0
        self.cache: DocumentCache | None = None
        self.unapplied = {log for log, row in self.logs.items() if row.stored.n > row.applied.n}
        self.unapplied_bytes = oplog.unapplied_bytes(tx.connection)

    @property
    def applied(self) -> dict[LogId, int]:
        return {log: row.applied.n for log, row in self.logs.items()}


def _open(keys: Keys, batch: Batch) -> tuple[Body | None, str | None]:
    key = keys.space_keys.get(batch.kid)
    if key is None:
        return None, "key"
    try:
        return decode_body(open_batch(batch, key), batch.log), None
    except (MalformedBody, RemoteError):
        return None, "broken"


class Replica:
    """One space's replica over a database; every method takes the open transaction."""

    def __init__(self, vault: Vault | None = None) -> None:
        self.vault = vault
        self.rebuilds = 0  # times the documents were built again since the start
        self.cuts = 0  # times batches were taken out since the start: their rows may be used again
        self.keys = NO_KEYS
        self.sealer: Sealer | None = None  # set while there is a key to seal under

    # ---- local writes ---------------------------------------------------------------------------------------------
    def write(self, tx: Tx, requests: Sequence[Request], now_ms: int) -> list[Written]:
        """Merge local requests as one transaction and keep them for sealing.

        Raises: LocalError kinds with nothing written: not_found, deleted, already_exists, bad_value, too_big; Busy:
        more than MAX_PENDING_BYTES wait for a key.
        """
        state = self._state(tx)
        cache = self._documents(tx, state)
        own = self._own_row(state)
        if own.applied.n != own.stored.n:
            raise Busy("The replica is being put together again and waits for batches from other devices; try later.")
        self._preload(cache, requests)
        operations = coalesce(
            requests,
            first_stamp=hlc.tick(state.stamp, now_ms, len(requests)),
            generation=lambda name, document: self._generation(cache, name, document),
            floor_ms=lambda name: self._floor_ms(cache, name),
        )
        if not operations:
            return []
        raw = encode_pending(operations)
        if sum(p[2] for p in state.pending) + len(raw) > MAX_PENDING_BYTES:
            raise Busy("Too many writes wait to be sealed; unlock the keyring ('hybridgw doctor'), then try again.")
        places = [self._place(cache, op.collection) for op in operations]
        secret = any(place.secret for place in places)
        if secret and self.vault is None:
            raise SecretsLocked("This collection is sealed at rest and the keyring is locked: 'hybridgw doctor' helps.")
        n = self._slot(state, len(raw), secret)
        seen = state.applied
        written = []
        for operation, place in zip(operations, places, strict=True):
            self._apply(tx, state, cache, place, operation, (operation.stamp, state.own, n), seen)
            if operation.kind != FLOOR:
                written.append(Written(operation.collection, operation.id, operation.cl, state.seq))
        oplog.add_pending(tx, n, secret, self._at_rest(n, raw) if secret else raw)
        state.stamp = operations[-1].stamp
        self._touch(tx, state)
        if self.sealer is not None and now_ms - state.sealed_ms >= SEAL_WINDOW_MS:
            tx.before_commit("seal", lambda: self._seal_with_group(tx, now_ms))
        return written

    def _seal_with_group(self, tx: Tx, now_ms: int) -> None:
        """Nothing was sealed just now: seal in the same commit as the write, which saves a sync to disk."""
        if self.sealer is not None and self.seal(tx, self.sealer):
            self._state(tx).sealed_ms = now_ms

    def _slot(self, state: _State, size: int, secret: bool) -> int:
        """The batch number of a write is fixed when it is made; all open numbers share the same deps."""
        first = self._own_row(state).stored.n + 1
        if state.pending and state.pending[-1][1] == secret and state.pending[-1][2] + size <= BATCH_TARGET_BYTES:
            state.pending[-1][2] += size
        else:
            state.pending.append([first + len(state.pending), secret, size])
        return state.pending[-1][0]

    def _preload(self, cache: DocumentCache, requests: Sequence[Request]) -> None:
        """Read all documents that a larger write names at once."""
        if len(requests) == 1:
            return
        ids: dict[str, list[DocumentId]] = {}
        for request in requests:
            if not isinstance(request, RaiseFloor):
                ids.setdefault(request.collection, []).append(request.id)
        for name, found in ids.items():
            where = cache.find(name)
            if where is not None:
                cache.load(where, found)

    def _generation(self, cache: DocumentCache, name: str, document: DocumentId) -> int:
        where = cache.find(name)
        row = cache.get(where, document) if where else None
        return row[0] if row else 0

    def _floor_ms(self, cache: DocumentCache, name: str) -> int:
        where = cache.find(name)
        return where.floor_ms if where else 0

    def _place(self, cache: DocumentCache, name: str) -> Collection:
        return cache.collection(name, secret=name in SECRET_COLLECTIONS)

    def current(self, tx: Tx, collection: str, document: DocumentId) -> Row | None:
        """The state of a document in this transaction, None if it never was."""
        cache = self._documents(tx, self._state(tx))
        where = cache.find(collection)
        return cache.get(where, document) if where else None

    def version(self, tx: Tx, collection: str, document: DocumentId) -> int:
        """The version (seq) of a document in this transaction, 0 if it never was."""
        cache = self._documents(tx, self._state(tx))
        where = cache.find(collection)
        return cache.version(where, document) if where else 0

    # ---- sealing --------------------------------------------------------------------------------------------------
    def seal(self, tx: Tx, sealer: Sealer) -> list[Batch]:
        """Make one batch of every pending number. Returns them in order; nothing pending: nothing."""
        state = self._state(tx)
        own = self._own_row(state)
        if not state.pending or own.log == PROVISIONAL or own.log in self._known(tx).ends:
            return []
        deps = {
            log: Head(row.applied.n, row.applied.short)
            for log, row in state.logs.items()
            if log != own.log and row.applied.n
        }
        batches = []
        for p in oplog.pending(tx.connection):
            operations = [op for raw in p.rows for op in decode_pending(self._from_rest(p.n, raw) if p.secret else raw)]
            batches.append(self._seal_one(own, sealer, deps, operations, p.secret))
        oplog.add_batches(tx, batches, BatchState.APPLIED, authored=True)
        oplog.clear_pending(tx)
        state.pending = []
        state.dirty_logs.add(own.log)
        self._touch(tx, state)
        return batches

    def _seal_open(self, tx: Tx, state: _State, sealer: Sealer | None) -> None:
        """Seal what is open, if that can be done now."""
        if state.pending and sealer is not None:
            self.seal(tx, sealer)

    def _seal_one(
        self, own: LogRow, sealer: Sealer, deps: Heads, operations: Sequence[Operation], secret: bool
    ) -> Batch:
        control = sealer.control if sealer.control != own.control else None
        head = own.stored
        batch = seal_batch(
            body=encode_body(operations, deps_delta(own.deps, deps), control),
            space_key=sealer.key,
            kid=sealer.kid,
            space=sealer.space,
            device=sealer.device,
            sign_secret=sealer.sign_secret,
            log=own.log,
            n=head.n + 1,
            prev=head.hash if head.n else own.salt,
            flags=FLAG_SECRET if secret else 0,
            nonce=sealer.entropy(24),
        )
        own.deps = deps
        own.control = sealer.control
        own.stored = own.applied = Head(batch.n, batch.hash)
        if operations:
            own.last_stamp = operations[-1].stamp
        return batch

    # ---- receiving ------------------------------------------------------------------------------------------------
    def receive(self, tx: Tx, incoming: Iterable[Incoming], now_ms: int, sealer: Sealer | None) -> Stored:
        """Keep batches and apply what can be applied, in one transaction. Idempotent."""
        state, known = self._state(tx), self._known(tx)
        fresh: list[Incoming] = []
        touched: set[LogId] = set()
        gaps: list[LogId] = []
        forks: list[LogId] = []
        strays: list[LogId] = []
        ended: set[LogId] = set()  # closed logs of which another branch came: it may be the one that counts
        bodies: dict[tuple[LogId, int], Incoming] = {}
        self._seal_open(tx, state, sealer)  # our own open numbers come before anything that may stand at the same place
        for item in incoming:
            batch = item.batch
            row = self._log_row(tx, state, batch, now_ms)
            if row is None:
                continue
            touched.add(row.log)
            end = known.ends.get(row.log)
            if end and batch.n > end.n:
                continue  # beyond the end of a closed log: void for everybody
            if row.log == state.own and state.pending:
                continue  # our own open numbers cannot be sealed now, and nothing may take their place
            expected = row.stored.hash if row.stored.n else row.salt
            if batch.n == row.stored.n + 1 and batch.prev == expected:
                if state.unapplied_bytes.get(row.log, 0) > UNAPPLIED_BYTES_PER_LOG:
                    gaps.append(row.log)
                    continue
                row.stored = Head(batch.n, batch.hash)
                fresh.append(item)
                bodies[row.log, batch.n] = item
                state.unapplied.add(row.log)
                state.dirty_logs.add(row.log)
                state.unapplied_bytes[row.log] = state.unapplied_bytes.get(row.log, 0) + len(batch.blob)
            elif oplog.hash_at(tx.connection, row.log, batch.n) != batch.hash and self._is_evidence(tx, row, batch):
                if oplog.add_evidence(tx, batch, now_ms):
                    forks.append(row.log)
                    alarms.raise_alarm(
                        tx, now_ms, "fork", "A device signed two different batches for one place of its log.",
                        log=row.log, device=row.device.hex(),
                    )  # fmt: skip
                if end:
                    ended.add(row.log)
            elif batch.n > row.stored.n + 1:
                gaps.append(row.log)
            elif oplog.hash_at(tx.connection, row.log, batch.n) != batch.hash:
                strays.append(row.log)
        oplog.add_batches(tx, [item.batch for item in fresh], BatchState.STORED)
        void = [self._follow_end(tx, state, state.logs[log], known.ends[log], now_ms) for log in sorted(ended)]
        if any(void):
            applied = self.rebuild(tx, now_ms, sealer)
        else:
            applied = self._drain(tx, state, {} if ended else bodies, now_ms, sealer)
        self._touch(tx, state)
        heads = {log: state.logs[log].stored for log in touched if log in state.logs}
        return Stored(heads, len(fresh), gaps, forks, applied, strays)

    def _is_evidence(self, tx: Tx, row: LogRow, batch: Batch) -> bool:
        """Does this batch hang on something we hold: another branch, gapless down to the common part."""
        if batch.n == 1:
            return batch.prev == row.salt
        below = oplog.hash_at(tx.connection, row.log, batch.n - 1)
        return below == batch.prev or oplog.evidence_has(tx.connection, row.log, batch.n - 1, batch.prev)

    def _log_row(self, tx: Tx, state: _State, batch: Batch, now_ms: int) -> LogRow | None:
        row = state.logs.get(batch.log)
        if row is not None:
            return row if row.device == batch.device else None
        if batch.n != 1:
            return LogRow(batch.log, batch.device, b"", EMPTY_HEAD, EMPTY_HEAD)  # a gap from the start; not kept
        known = self._known(tx)
        open_logs = sum(r.device == batch.device and r.log not in known.ends for r in state.logs.values())
        if open_logs >= LOGS_PER_DEVICE:
            alarms.raise_alarm(
                tx, now_ms, "too_many_logs", f"A device has opened more than {LOGS_PER_DEVICE} logs.",
                device=batch.device.hex(),
            )  # fmt: skip
            return None
        end = known.end_of(batch.log, batch.device)
        if end is not None:
            known.ends[batch.log] = end
        row = state.logs[batch.log] = LogRow(batch.log, batch.device, batch.prev, EMPTY_HEAD, EMPTY_HEAD)
        state.dirty_logs.add(batch.log)
        return row

    # ---- applying -------------------------------------------------------------------------------------------------
    def drain(self, tx: Tx, now_ms: int, sealer: Sealer | None) -> int:
        """Apply what waited: after a clock moved on, a key or a control record came. Returns operations applied."""
        state = self._state(tx)
        applied = self._drain(tx, state, {}, now_ms, sealer)
        self._touch(tx, state)
        return applied

    def _drain(
        self, tx: Tx, state: _State, bodies: Mapping[tuple[LogId, int], Incoming], now_ms: int, sealer: Sealer | None,
        before: Mapping[LogId, int] = NOTHING, only_before: bool = False,
    ) -> int:  # fmt: skip
        """Apply what can be. before: how far each log was applied once, so its stamps were judged; only_before: apply
        nothing else of other logs."""
        total, progress = 0, True
        while progress:
            progress = False
            for log in sorted(state.unapplied):
                row = state.logs[log]
                done = 0
                first = row.applied.n + 1
                end = before.get(log, 0) if only_before and log != state.own else MAX_N
                while row.applied.n < end and (item := self._next(tx, row, bodies)) is not None:
                    is_judged = item.batch.n <= before.get(log, 0)
                    body = self._ready(tx, state, row, item, None if is_judged else now_ms)
                    if body is None:
                        break
                    # Deps must not claim what the writer of open operations had not seen.
                    self._seal_open(tx, state, sealer)
                    if state.pending:
                        row.waiting = "key"
                        break
                    total += self._apply_batch(tx, state, row, item.batch, body)
                    done += 1
                if done:
                    progress = True
                    oplog.mark(tx, log, first, row.applied.n, BatchState.APPLIED)
                    state.dirty_logs.add(log)
                if row.applied.n == row.stored.n:
                    state.unapplied.discard(log)
                    state.unapplied_bytes.pop(log, None)
        return total

    def _next(self, tx: Tx, row: LogRow, bodies: Mapping[tuple[LogId, int], Incoming]) -> Incoming | None:
        end = self._known(tx).ends.get(row.log)
        n = row.applied.n + 1
        if n > row.stored.n or (end and n > end.n):
            return None
        if end and end.hash and n > end.fork and row.stored.hash != end.hash:
            return None  # the chain from the named tip down is not held yet: which branch this is cannot be told
        found = bodies.get((row.log, n))
        if found is None:
            held = oplog.blobs(tx.connection, row.log, row.applied.n, 1)
            found = Incoming(parse_batch(held[0])) if held else None
        return found

    def _ready(self, tx: Tx, state: _State, row: LogRow, item: Incoming, now_ms: int | None) -> Body | None:
        """The body if it is this batch's turn; else why not, in row.waiting. now_ms: None: its stamps were judged."""
        why: str | None = None
        body = item.body
        if body is None and item.fault is None:
            body, item.fault = _open(self._known(tx), item.batch)
            item.body = body
        if body is None:
            why = item.fault
        elif body.first_stamp is not None and body.first_stamp <= row.last_stamp:
            why = "broken"  # stamps do not rise: the log ends here, by rule
        elif now_ms is not None and body.last_stamp is not None and hlc.is_ahead(body.last_stamp, now_ms):
            why = "clock"
        elif body.control and not all(head in self._known(tx).control for head in body.control):
            why = "control"
        elif not self._has_deps(tx, state, row, body):
            why = "deps"
        if row.waiting != why:
            row.waiting = why
            state.dirty_logs.add(row.log)
        if why == "broken" and now_ms is not None:
            alarms.raise_alarm(
                tx, now_ms, "log_broken", "A device wrote a batch that breaks the rules; its log ends before it.",
                log=row.log, n=row.applied.n + 1, device=row.device.hex(),
            )  # fmt: skip
        return body if why is None else None

    def open(self, batch: Batch) -> tuple[Body | None, str | None]:
        """Decrypt and decode. Returns (body, None), or (None, why): key (not here yet) or broken (for ever)."""
        return _open(self.keys, batch)

    def _has_deps(self, tx: Tx, state: _State, row: LogRow, body: Body) -> bool:
        """Causal: everything the writer had applied is applied here (a closed chain counts up to its fork)."""
        deps = apply_deps(row.deps, body.deps) if self._known(tx).ends else body.deps
        for log, head in deps.items():
            found = self._clamp(tx, state, log, head)
            if found is None or found > (state.logs[log].applied.n if log in state.logs else 0):
                return False
        return True

    def _clamp(self, tx: Tx, state: _State, log: LogId, head: Head) -> int | None:
        """How far this dependency reaches on the valid chain; None: cannot be told yet, wait."""
        n, digest = head.n, head.hash
        row = state.logs.get(log)
        end = self._known(tx).ends.get(log)
        if row is None:
            return 0 if end and end.n == 0 else None
        if end is None or (n <= end.n and (n <= end.fork or row.stored.hash == end.hash)):
            if n > row.stored.n:
                return None if end is None else min(n, end.fork)
            held = row.stored.hash if n == row.stored.n else oplog.hash_at(tx.connection, log, n)
            if held is not None and held[:SHORT_HASH_BYTES] == digest:
                return n
            return None if end is None else min(n, end.fork)
        if n <= end.n:
            return None  # the chain from the tip down to n is not held yet
        return min(n, end.fork)

    def _apply_batch(self, tx: Tx, state: _State, row: LogRow, batch: Batch, body: Body) -> int:
        row.deps = apply_deps(row.deps, body.deps) if body.deps else row.deps
        row.control = body.control if body.control is not None else row.control
        if self._known(tx).ends:
            seen = {log: self._clamp(tx, state, log, head) or 0 for log, head in row.deps.items()}
        else:
            seen = {log: head.n for log, head in row.deps.items()}
        cache = self._documents(tx, state)
        by_collection: dict[str, list[DocumentId]] = {}
        for op in body.operations:
            if op.kind != FLOOR:
                by_collection.setdefault(op.collection, []).append(op.id)
        places = {op.collection for op in body.operations}
        where = {name: self._place(cache, name) for name in sorted(places)}
        for name, ids in by_collection.items():
            cache.load(where[name], ids)
        for op in body.operations:
            place = where[op.collection]
            if op.kind == FLOOR:
                where[op.collection] = self._raise_floor(tx, state, cache, place, op)
            else:
                self._apply(tx, state, cache, place, op, (op.stamp, row.log, batch.n), seen)
        if body.last_stamp is not None:
            state.stamp = hlc.observe(state.stamp, body.last_stamp)
            row.last_stamp = body.last_stamp
        if body.unknown:
            meta.put(tx, "unknown_operations", 1)  # a version that knows them builds the documents again
        row.applied = Head(batch.n, batch.hash)
        row.waiting = None
        return len(body.operations)

    def _apply(
        self, tx: Tx, state: _State, cache: DocumentCache, place: Collection, op: Operation,
        dot: tuple[int, LogId, int], seen: Mapping[LogId, int],
    ) -> None:  # fmt: skip
        if op.kind == FLOOR:
            self._raise_floor(tx, state, cache, place, op)
            return
        if place.floor_ms and is_below_floor(op.id, place.floor_ms):
            return
        state.seq += 1
        cache.put(place, op.id, merge.apply(cache.get(place, op.id), op, dot, seen), state.seq)

    def _raise_floor(self, tx: Tx, state: _State, cache: DocumentCache, place: Collection, op: Operation) -> Collection:
        if op.floor_ms <= place.floor_ms:
            return place
        cache.flush()
        gone = [d for d in documents.binary_ids(tx.connection, place.cid) if is_below_floor(d, op.floor_ms)]
        return cache.raise_floor(place, op.floor_ms, gone)

    # ---- closing, rebuilding, repairing ---------------------------------------------------------------------------
    def learn(self, tx: Tx, keys: Keys, now_ms: int, sealer: Sealer | None) -> bool:
        """New control records: new keys, new ends of logs. A close of our own log is repaired here and now.

        Returns: whether the documents were built again.
        """
        before = self._known(tx)
        self._set_keys(tx, keys)
        try:
            return self._learn(tx, before, keys, now_ms, sealer)
        except BaseException:
            tx.memo["keys"] = before  # also if nothing was written, so nothing is rolled back
            raise

    def _learn(self, tx: Tx, before: Keys, keys: Keys, now_ms: int, sealer: Sealer | None) -> bool:
        state = self._state(tx)
        if state.own not in before.ends:
            tx.memo["keys"] = before
            self._seal_open(tx, state, sealer)  # as part of the log that may end now
            tx.memo["keys"] = keys
        # An end that moves changes what others had seen of that log, so what is applied already counts anew.
        rebuild = any(keys.ends.get(log) != end for log, end in before.ends.items())
        for log, end in keys.ends.items():
            if before.ends.get(log) != end and log in state.logs:
                rebuild |= self._follow_end(tx, state, state.logs[log], end, now_ms)
        is_over = state.own in keys.ends and sealer is not None
        if rebuild or (is_over and state.pending):
            waiting = self._lay_aside(tx, state)
            if is_over and sealer:
                self._repair(tx, state, sealer, now_ms)
            self._build(tx, state, now_ms, waiting)
            return True
        if is_over and sealer:
            self._repair(tx, state, sealer, now_ms)
        self._drain(tx, state, {}, now_ms, sealer)
        self._touch(tx, state)
        return False

    def _follow_end(self, tx: Tx, state: _State, row: LogRow, end: End, now_ms: int) -> bool:
        """Make the live branch of a closed log the one its end names. Returns whether applied batches became void."""
        live = dict(oplog.hashes(tx.connection, row.log))
        if end.n == 0 or live.get(end.n) == end.hash:
            keep = end.n
        else:
            branch = self._branch_to(tx, row, end, live)
            if branch:
                keep = branch[0].n - 1
                self._replace_branch(tx, row.log, keep, branch, now_ms)
                row.stored = Head(branch[-1].n, branch[-1].hash)
                state.dirty_logs.add(row.log)
                state.unapplied.add(row.log)
                void = row.applied.n > keep
                if void:
                    row.applied = Head(keep, live[keep]) if keep else EMPTY_HEAD
                return void
            keep = min(end.fork, row.stored.n)
        if row.stored.n > keep:
            self._replace_branch(tx, row.log, keep, [], now_ms)
            row.stored = Head(keep, live[keep]) if keep else EMPTY_HEAD
            state.dirty_logs.add(row.log)
        void = row.applied.n > keep
        if void:
            row.applied = row.stored
        return void

    def _replace_branch(self, tx: Tx, log: LogId, keep: int, branch: Sequence[Batch], now_ms: int) -> None:
        self.cuts += 1
        oplog.replace_branch(tx, log, keep, branch, now_ms)

    def _branch_to(self, tx: Tx, row: LogRow, end: End, live: Mapping[int, bytes]) -> list[Batch]:
        """The batches from the live chain up to the end's tip, out of the evidence; empty if not all are held."""
        held: dict[bytes, Batch] = {b.hash: b for b in map(parse_batch, oplog.evidence(tx.connection, row.log))}
        found: list[Batch] = []
        digest = end.hash
        while digest in held:
            found.append(held[digest])
            n, digest = held[digest].n - 1, held[digest].prev
            if live.get(n) == digest or (n == 0 and digest == row.salt):
                return found[::-1]
        return []

    def rebuild(self, tx: Tx, now_ms: int, sealer: Sealer | None) -> int:
        """Build the documents again from the batches held; what is not sealed yet comes on top. Returns operations."""
        state = self._state(tx)
        self._seal_open(tx, state, sealer)
        return self._build(tx, state, now_ms, self._lay_aside(tx, state))

    def _lay_aside(self, tx: Tx, state: _State) -> list[tuple[bool, list[Operation]]]:
        """Take out the writes that are not sealed, as (secret, operations); `_build` puts them back."""
        found = []
        for p in oplog.pending(tx.connection):
            for raw in p.rows:
                found.append((p.secret, decode_pending(self._from_rest(p.n, raw) if p.secret else raw)))
        oplog.clear_pending(tx)
        state.pending = []
        return found

    def _build(self, tx: Tx, state: _State, now_ms: int, waiting: Sequence[tuple[bool, list[Operation]]]) -> int:
        """Documents from batches, then *waiting*: the next numbers of the log that is written now.

        Whoever wrote what waits had not seen more than is applied: nothing further is applied below it.
        """
        before = {log: row.applied.n for log, row in state.logs.items()}
        self._documents(tx, state).flush()
        state.cache = None
        self._begin_again(tx)
        oplog.mark_all_stored(tx)
        for log, row in state.logs.items():
            row.applied, row.last_stamp, row.deps, row.control, row.waiting = EMPTY_HEAD, -1, {}, None, None
            if row.stored.n:
                state.unapplied.add(log)
            state.dirty_logs.add(log)
        count = self._drain(tx, state, {}, now_ms, None, before, only_before=bool(waiting))
        cache, seen = self._documents(tx, state), state.applied
        for secret, operations in waiting:
            made = []
            for op in operations:
                if hlc.is_ahead(op.stamp, now_ms):
                    op = msgspec.structs.replace(op, stamp=max(state.stamp + 1, now_ms << STAMP_BITS))
                state.stamp = max(state.stamp, op.stamp)
                made.append(op)
            raw = encode_pending(made)
            n = self._slot(state, len(raw), secret)
            for op in made:
                self._apply(tx, state, cache, self._place(cache, op.collection), op, (op.stamp, state.own, n), seen)
            oplog.add_pending(tx, n, secret, self._at_rest(n, raw) if secret else raw)
            count += len(made)
        self._touch(tx, state)
        return count

    def _begin_again(self, tx: Tx) -> None:
        """Forget the documents. Some may not come back, and leave no tombstone: listeners are told to begin again."""
        documents.clear(tx)
        meta.put(tx, "epoch", None)
        self.rebuilds += 1

    def own_forked(self, tx: Tx) -> bool:
        """Is there proof (two signed batches of one place) that our own open log was continued elsewhere."""
        state = self._state(tx)
        return state.own not in self._known(tx).ends and bool(oplog.evidence(tx.connection, state.own))

    def close_for(self, tx: Tx, tip: Head) -> End | None:
        """The end to sign for our own forked log; None: the branch that the other side holds is still on its way.

        What they hold is what others have applied, and after a restored backup the only copy: it must not be cut short.
        Args: tip: the end of the branch they hold (16 or 32 byte hash), n = 0 if that is not known.
        """
        state = self._state(tx)
        own = state.logs[state.own]
        live = dict(oplog.hashes(tx.connection, own.log))
        held: dict[bytes, Batch] = {b.hash: b for b in map(parse_batch, oplog.evidence(tx.connection, own.log))}
        branches = []  # each from its end down to where it leaves our own chain
        for leaf in held.keys() - {b.prev for b in held.values()}:
            chain, digest = [held[leaf]], held[leaf].prev
            while digest in held:
                chain.append(held[digest])
                digest = held[digest].prev
            branches.append(chain)
        fork = min(chain[-1].n - 1 for chain in branches)
        if tip.n > fork and tip.hash:
            size = len(tip.hash)
            if live.get(tip.n, b"")[:size] == tip.hash:
                return End(tip.n, live[tip.n], fork)
            branches = [chain for chain in branches if any(b.n == tip.n and b.hash[:size] == tip.hash for b in chain)]
        ends = [(chain[0].n, chain[0].hash) for chain in branches]
        return End(*max(ends), fork) if ends else None

    def _repair(self, tx: Tx, state: _State, sealer: Sealer, now_ms: int) -> None:
        """Our own log was closed: open a new one and seal in it, first, what is void of ours.

        Original stamps (new ones only beyond the clock bound), original deps, the old log cut to the last valid batch.
        Left out: `floor`, and an operation that the winning branch has byte for byte.
        """
        old = state.logs[state.own]
        void = [parse_batch(blob) for blob in oplog.authored_void(tx.connection, old.log)]
        base = void[0].n - 1 if void else 0
        won: set[bytes] = set()
        for blob in oplog.blobs(tx.connection, old.log, base, 2**62) if void else ():
            body, _ = _open(self._known(tx), parse_batch(blob))
            won |= {fingerprint(op) for op in body.operations} if body else set()
        running = self._deps_at(tx, old, base)
        new = self.open_log(tx, sealer.device, sealer.entropy(32))
        state.stamp = max([0, *(r.last_stamp for r in state.logs.values())])  # a clock disaster does not go on
        made: list[Batch] = []
        last = 0
        for batch in void:
            body, _ = _open(self._known(tx), batch)
            if body is None:
                continue
            running = apply_deps(running, body.deps)
            keep = []
            for op in body.operations:
                if op.kind == FLOOR or fingerprint(op) in won:
                    continue
                if hlc.is_ahead(op.stamp, now_ms):
                    op = msgspec.structs.replace(op, stamp=max(last + 1, now_ms << STAMP_BITS))
                last = op.stamp
                keep.append(op)
            if keep:
                deps = dict(running)
                if base:
                    deps[old.log] = Head(base, void[0].prev[:SHORT_HASH_BYTES])
                made.append(self._seal_one(new, sealer, deps, keep, bool(batch.flags & FLAG_SECRET)))
        new.applied, new.last_stamp, new.deps, new.control = EMPTY_HEAD, -1, {}, None
        oplog.add_batches(tx, made, BatchState.STORED, authored=True)
        oplog.forget_authored(tx, old.log)
        if made:
            state.unapplied.add(new.log)
        self._touch(tx, state)

    def _deps_at(self, tx: Tx, row: LogRow, n: int) -> Heads:
        """The running deps of a log after batch n."""
        running: Heads = {}
        for blob in oplog.blobs(tx.connection, row.log, 0, 2**62) if n else ():
            batch = parse_batch(blob)
            if batch.n > n:
                break
            body, _ = _open(self._known(tx), batch)
            if body:
                running = apply_deps(running, body.deps)
        return running

    # ---- logs of this device --------------------------------------------------------------------------------------
    def open_log(self, tx: Tx, device: DeviceId, salt: bytes) -> LogRow:
        """Begin a new log of this device and write into it from now on. Args: salt: 32 random bytes.

        Raises: TooBig: 16 open logs already.
        """
        state = self._state(tx)
        ends = self._known(tx).ends
        open_logs = sum(r.device == device and r.log not in ends for r in state.logs.values())
        if open_logs >= LOGS_PER_DEVICE:
            raise TooBig(f"This device has {LOGS_PER_DEVICE} open logs already; pair it anew ('hybridgw doctor').")
        log = log_id(device, salt)
        was, state.own = state.own, log
        row = state.logs[log] = LogRow(log, device, salt, EMPTY_HEAD, EMPTY_HEAD)
        meta.put(tx, "log", log)
        state.dirty_logs.add(log)
        if was == PROVISIONAL:
            self._adopt(tx, state)
        self._touch(tx, state)
        return row

    def switch_log(self, tx: Tx, device: DeviceId, salt: bytes, now_ms: int) -> None:
        """This database is a copy of one that may run elsewhere: write into a new log, with what was not sealed yet.

        Needs the keys; call it before anything is sealed.
        """
        state = self._state(tx)
        waiting = self._lay_aside(tx, state)
        self.open_log(tx, device, salt)
        if waiting:
            self._build(tx, state, now_ms, waiting)

    def leave_space(self, tx: Tx) -> None:
        """Take what this device wrote along into another space: its batches become pending writes again.

        For a device that is alone in its space. Follow with `open_log` for the new space. Needs the old space's keys.
        """
        state = self._state(tx)
        rows: list[tuple[bool, bytes]] = []
        for blob in oplog.all_blobs(tx.connection):
            batch = parse_batch(blob)
            body, fault = self.open(batch)
            if body is None:
                raise SecretsLocked(f"A batch of this device cannot be opened ({fault}); unlock the keyring first.")
            rows.append((bool(batch.flags & FLAG_SECRET), encode_pending(body.operations)))
        for p in oplog.pending(tx.connection):
            rows += [(p.secret, self._from_rest(p.n, raw) if p.secret else raw) for raw in p.rows]
        oplog.clear_all(tx)
        for n, (secret, raw) in enumerate(rows, 1):
            oplog.add_pending(tx, n, secret, self._at_rest(n, raw) if secret else raw)
        meta.put(tx, "log", PROVISIONAL)
        meta.put(tx, "stamp", state.stamp)
        meta.put(tx, "seq", state.seq)
        tx.memo.pop("replica", None)
        self._set_keys(tx, NO_KEYS)
        self.sealer = None

    def _adopt(self, tx: Tx, state: _State) -> None:
        """Writes made before the device had keys get their dots from the new log: nothing of them was sealed yet."""
        waiting = oplog.pending(tx.connection)
        state.logs.pop(PROVISIONAL, None)
        state.dirty_logs.discard(PROVISIONAL)
        oplog.delete_log(tx, PROVISIONAL)
        if not waiting:
            return
        self._documents(tx, state).flush()
        state.cache = None
        self._begin_again(tx)
        cache = self._documents(tx, state)
        for p in waiting:
            for raw in p.rows:
                for op in decode_pending(self._from_rest(p.n, raw) if p.secret else raw):
                    place = self._place(cache, op.collection)
                    self._apply(tx, state, cache, place, op, (op.stamp, state.own, p.n), {})

    # ---- state ----------------------------------------------------------------------------------------------------
    def heads(self, tx: Tx) -> dict[LogId, Head]:
        """Stored, gapless, verified head of every log."""
        return {log: row.stored for log, row in self._state(tx).logs.items() if row.stored.n}

    def own_log(self, tx: Tx) -> LogId:
        """The log this device writes."""
        return self._state(tx).own

    def has_pending(self, tx: Tx) -> bool:
        """Are there writes to seal."""
        return bool(self._state(tx).pending)

    def _known(self, tx: Tx) -> Keys:
        """The keys and ends that the tables follow in this transaction."""
        known: Keys = tx.memo.get("keys", self.keys)
        return known

    def _set_keys(self, tx: Tx, keys: Keys) -> None:
        """They count from here on, and for good only once this transaction is committed."""

        def keep() -> None:
            self.keys = tx.memo.pop("keys", self.keys)

        tx.memo["keys"] = keys
        tx.after_commit(keep)

    def _state(self, tx: Tx) -> _State:
        state: _State | None = tx.memo.get("replica")
        if state is None:
            state = tx.memo["replica"] = _State(tx)
        return state

    def _documents(self, tx: Tx, state: _State) -> DocumentCache:
        if state.cache is None:
            state.cache = DocumentCache(tx, self.vault)
            self._touch(tx, state)
        return state.cache

    def _own_row(self, state: _State) -> LogRow:
        row = state.logs.get(state.own)
        if row is None:
            row = state.logs[state.own] = LogRow(state.own, DeviceId(bytes(16)), b"", EMPTY_HEAD, EMPTY_HEAD)
        return row

    def _touch(self, tx: Tx, state: _State) -> None:
        tx.before_commit("replica", lambda: self._save(tx, state))

    def _save(self, tx: Tx, state: _State) -> None:
        if state.cache is not None:
            state.cache.flush()
            state.cache = None
        if state.dirty_logs:
            oplog.save_logs(tx, [state.logs[log] for log in state.dirty_logs if log in state.logs])
            state.dirty_logs = set()
        if (state.stamp, state.seq) != state.saved:
            meta.put_all(tx, {"stamp": state.stamp, "seq": state.seq})
            state.saved = (state.stamp, state.seq)

    def _at_rest(self, n: int, raw: bytes) -> bytes:
        assert self.vault is not None  # noqa: S101 - checked by the caller before anything was written
        return self.vault.seal(b"pending" + n.to_bytes(8, "big"), raw)

    def _from_rest(self, n: int, raw: bytes) -> bytes:
        if self.vault is None:
            raise SecretsLocked("Writes to a secret collection wait to be sealed and the keyring is locked.")
        return self.vault.open(b"pending" + n.to_bytes(8, "big"), raw)
