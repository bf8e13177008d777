"""Local writes, and sealing them: operations merged at once, kept under a batch number fixed then, signed later.

Not what a caller may ask for: preconditions and schemas are services/writes.py. Not what comes from other devices:
receiving.py and applying.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybridgw_protocol.batch import FLAG_SECRET, Batch, Head
from hybridgw_protocol.errors import Busy, SecretsLocked
from hybridgw_protocol.ids import DocumentId
from hybridgw_protocol.limits import BATCH_TARGET_BYTES, MAX_PENDING_BYTES, SEAL_WINDOW_MS
from hybridgw_protocol.vectors import Heads
from hybridgw_storage.database import Tx

from ...core import hlc
from ...core.body import deps_delta, encode_body
from ...core.document_state import Row
from ...core.operations import FLOOR, Operation, RaiseFloor, Request, coalesce, encode_pending
from ...core.sealing import seal_batch
from ...stores import oplog
from ...stores.documents import DocumentCache
from ...stores.oplog import BatchState, LogRow
from . import pending
from .merging import apply, place_of
from .state import Base, State
from .values import PROVISIONAL, Sealer, Written


class Writer(Base):
    """The part of a replica that writes its own log."""

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
        places = [place_of(cache, op.collection) for op in operations]
        secret = any(place.secret for place in places)
        if secret and self.vault is None:
            raise SecretsLocked("This collection is sealed at rest and the keyring is locked: 'hybridgw doctor' helps.")
        n = self._slot(state, len(raw), secret)
        seen = state.applied
        written = []
        for operation, place in zip(operations, places, strict=True):
            apply(tx, state, cache, place, operation, (operation.stamp, state.own, n), seen)
            if operation.kind != FLOOR:
                written.append(Written(operation.collection, operation.id, operation.cl, state.seq))
        pending.keep(state, self.vault, n, secret, raw)
        state.stamp = operations[-1].stamp
        if self.sealer is not None and now_ms - state.sealed_ms >= SEAL_WINDOW_MS:
            tx.before_commit("seal", lambda: self._seal_with_group(tx, now_ms))
        self._touch(tx, state)  # after sealing
        return written

    def _seal_with_group(self, tx: Tx, now_ms: int) -> None:
        """Nothing was sealed just now: seal in the same commit as the write, which saves a sync to disk."""
        if self.sealer is not None and self.seal(tx, self.sealer):
            self._state(tx).sealed_ms = now_ms

    def _slot(self, state: State, size: int, secret: bool) -> int:
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
        deps = self._deps_now(state, own)
        batches = []
        for p in pending.held(tx, state):
            batches.append(self._seal_one(own, sealer, deps, pending.operations(self.vault, p), p.secret))
        oplog.add_batches(tx, batches, BatchState.APPLIED, authored=True)
        pending.clear(tx, state)
        state.dirty_logs.add(own.log)
        self._touch(tx, state)
        return batches

    def _deps_now(self, state: State, own: LogRow) -> Heads:
        """What a batch of ours that is sealed now has seen of other logs."""
        return {
            log: Head(row.applied.n, row.applied.short)
            for log, row in state.logs.items()
            if log != own.log and row.applied.n
        }

    def _seal_open(self, tx: Tx, state: State, sealer: Sealer | None) -> None:
        """Seal what is open, if that can be done now."""
        if state.pending and sealer is not None:
            self.seal(tx, sealer)

    def _seal_one(
        self, own: LogRow, sealer: Sealer, deps: Heads, operations: Sequence[Operation], secret: bool
    ) -> Batch:
        body = encode_body(operations, deps_delta(own.deps, deps), _news(own, sealer))
        batch = self._seal_body(own, sealer, deps, body, FLAG_SECRET if secret else 0)
        if operations:
            own.last_stamp = operations[-1].stamp
        return batch

    def _seal_body(self, own: LogRow, sealer: Sealer, deps: Heads, body: bytes, flags: int) -> Batch:
        """The next batch of our log, with this body; see `deps_delta` and `_news` for what it must hold."""
        head = own.stored
        batch = seal_batch(
            body=body,
            space_key=sealer.key,
            kid=sealer.kid,
            space=sealer.space,
            device=sealer.device,
            sign_secret=sealer.sign_secret,
            log=own.log,
            n=head.n + 1,
            prev=head.hash if head.n else own.salt,
            flags=flags,
            nonce=sealer.entropy(24),
        )
        own.deps = deps
        own.control = sealer.control
        own.stored = own.applied = Head(batch.n, batch.hash)
        return batch


def _news(own: LogRow, sealer: Sealer) -> tuple[bytes, ...] | None:
    """The control heads, if they are not those of the batch before."""
    return sealer.control if sealer.control != own.control else None
