"""The control log of one space: a set of signed records, and what follows from it. No clock, no entropy, no I/O.

Two sides with the same records agree on everything below, whatever the order of delivery. The rules stand in
protocol/SPEC.md, "Control log"; the reference model that says the same in the plainest code is
tests/models/membership_model.py, and tests compare the two on random histories. Here the rules are run on bits
(standing.py for who belongs, keyholders.py for who has which key), incrementally.

    seat    named by the hash of the record that admitted it; ROOT is the recovery words
    dead    signed by a device that was out in the record's own past; stored, never counts
    void    above the `keep` of an expel of its signer, or resting on such an add
    active  a seat that is neither dead, void nor expelled, and that no standing remove or leave hits
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import NamedTuple

import msgspec

from .errors import BadRecord, HybridGWError, TooBig
from .ids import DeviceId, Digest, KeyId, LogId, SpaceId
from .keyholders import KeyHolders
from .limits import (
    MAX_CONTROL_BYTES,
    MAX_DEVICES,
    MAX_HEADS,
    MAX_RECORDS,
    ROOT_RESERVE,
    SHORT_HASH_BYTES,
)
from .records import (
    LEAVES,
    MAX_PREVS,
    ROOT,
    Add,
    Epoch,
    Expel,
    Genesis,
    Leave,
    LogClose,
    Record,
    Remove,
    Restore,
    Wrap,
    joiner_digest,
    read_record,
    verify_joiner,
    verify_record,
)
from .standing import NOBODY, Outcome, Standing, bits
from .waiting import WaitingRoom

__all__ = ["Close", "ControlLog", "DeviceInfo", "Inserted", "Record", "Status", "joiner_digest"]


class Inserted(Enum):
    """What became of a record."""

    ADDED = "added"  # it is here now, and so is what waited for it
    KNOWN = "known"  # it was here already
    WAITING = "waiting"  # a record it rests on is not here yet; it may be dropped again for want of room


class Status(Enum):
    """How a seat stands."""

    ACTIVE = "active"
    REMOVED = "removed"  # until a restore
    LEFT = "left"
    EXPELLED = "expelled"  # by root, for ever
    VOID = "void"  # admitted by a device that had no right to, or that root expelled


class DeviceInfo(msgspec.Struct, frozen=True):
    """A seat and its device. added_ms: the adder's clock; added_by: its seat, or ROOT; name: sealed label or empty."""

    seat: Digest
    device: DeviceId
    sign_public: bytes
    exchange_public: bytes
    name: bytes
    added_ms: int
    added_by: Digest
    status: Status


class Close(NamedTuple):
    """Where a log ends: the last batch that counts, its hash (32 zero bytes: none is named), the last batch that all
    branches share. Closes of one log are compared by (n, hash); the least wins."""

    n: int
    hash: bytes
    fork: int


NOTHING_COUNTS = Close(0, bytes(32), 0)


class ControlLog:
    """The records of one space. Create it with the space's id, then insert genesis and all others, in any order."""

    def __init__(self, space: SpaceId) -> None:
        self.space = space
        self.records: dict[Digest, Record] = {}  # in order of arrival: prevs come first
        self.leaves: dict[Digest, Record] = {}  # off the graph: stored, without effect
        self.epochs: dict[Digest, Epoch] = {}
        self.total_bytes = 0
        self._genesis: Genesis | None = None
        self._all: list[Record] = []  # records and leaves, for `since`
        self._at: list[Record] = []  # by index
        self._index: dict[Digest, int] = {}
        self._past: list[int] = []
        self._depth: list[int] = []
        self._by: list[int] = []
        self._heads: set[Digest] = set()
        self._short: dict[bytes, int] = {}  # 16-byte prefix -> index; NOBODY where two share one
        self._closes: defaultdict[tuple[DeviceId, LogId], list[int]] = defaultdict(list)
        self._standing = Standing()
        self._keys = KeyHolders()
        self._waiting = WaitingRoom()
        self._void: tuple[dict[DeviceId, int], int, int, int] = ({}, 0, 0, 0)  # see _count_void
        self._active: set[int] | None = None  # of the whole log; None: to be computed
        self._usable: list[Digest] | None = None  # epochs that may seal, best first

    # ---- storing -----------------------------------------------------------------------------------------------------
    def insert(self, raw: bytes, *, trusted: bool = False) -> Inserted:
        """Take a record, and all that waited for it.

        Args: trusted: signatures were checked before (it comes from our own database).
        Raises: BadRecord: malformed, refused for ever by everybody; BadSignature; TooBig: the record, or the log is
        full. Nothing has changed then.
        """
        return self._insert(read_record(raw, self.space), trusted)

    def update(self, raws: Iterable[bytes], *, trusted: bool = False) -> tuple[list[Record], HybridGWError | None]:
        """Take records in any order.

        Returns: those that are new here, prevs first, with what had waited for them (to be stored in this order), and
        the first error, if any: the other records are taken all the same.
        """
        before, error = len(self._all), None
        fresh: dict[Digest, Record] = {}
        for raw in raws:
            try:
                record = read_record(raw, self.space)
            except HybridGWError as refused:
                error = error or refused
            else:
                fresh[record.hash] = record
        for record in _prevs_first(fresh):
            try:
                self._insert(record, trusted)
            except HybridGWError as refused:
                error = error or refused
        return self.since(before), error

    def since(self, position: int) -> list[Record]:
        """Records in order of arrival from a position on (0: all); the next position is `len(self)`."""
        return self._all[position:]

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, digest: object) -> bool:
        return digest in self.records or digest in self.leaves

    def raw(self, digest: Digest) -> bytes:
        """The bytes of a record that is here."""
        return (self.records.get(digest) or self.leaves[digest]).raw

    def _insert(self, record: Record, trusted: bool) -> Inserted:
        if record.hash in self:
            return Inserted.KNOWN
        missing = [p for p in record.payload.prevs if p not in self.records]
        if any(p in self.leaves for p in missing):
            raise BadRecord("The control record rests on one that is not on the graph.")
        if missing:
            self._waiting.add(record, missing)
            return Inserted.WAITING
        self._admit(record, trusted)
        arrived = [record.hash]
        while arrived:
            for later in self._waiting.take_ready(arrived.pop(), self.records):
                if later.hash in self:
                    continue
                try:
                    self._admit(later, trusted)
                except HybridGWError:
                    continue  # whoever sent it is not the one who is here now
                arrived.append(later.hash)
        return Inserted.ADDED

    def _admit(self, record: Record, trusted: bool) -> None:
        payload = record.payload
        past = self._below(payload.prevs)
        by = self._signer(record, past)
        if not trusted:
            verify_record(record, self._sign_key(record))
            if isinstance(payload, Add):
                verify_joiner(payload)
        self._check(record, past)
        before = self._standing.outcome(past)
        is_dead = by != NOBODY and not self._standing.is_active(by, before)
        self._check_room(record, by, is_dead)
        self._all.append(record)
        self.total_bytes += len(record.raw)
        if isinstance(payload, LEAVES):
            self.leaves[record.hash] = record
            return

        index = len(self._at)
        self.records[record.hash] = record
        self._at.append(record)
        self._index[record.hash] = index
        self._past.append(past)
        self._by.append(by)
        self._depth.append(1 + max((self._depth[self._index[p]] for p in payload.prevs), default=0))
        self._heads.difference_update(payload.prevs)
        self._heads.add(record.hash)
        short = record.hash[:SHORT_HASH_BYTES]
        self._short[short] = NOBODY if short in self._short else index
        if is_dead:
            self._standing.bury(index)
        self._follow(index, record, past, by)

    def _follow(self, index: int, record: Record, past: int, by: int) -> None:
        """Tell those who reckon with it."""
        payload, standing = record.payload, self._standing
        self._usable = None
        if isinstance(payload, LogClose):
            self._closes[payload.device, payload.log].append(index)
        elif isinstance(payload, Epoch):
            self.epochs[record.hash] = payload
            seats = sum(1 << self._index[seat] for seat, _ in payload.wraps)
            self._keys.epoch(index, by, seats, sum(1 << self._index[e] for e, _ in payload.prev_wraps))
        elif isinstance(payload, Wrap):
            self._keys.gift(by, self._index[payload.target], sum(1 << self._index[e] for e, _ in payload.wraps))
        else:
            self._active = None
            standing.act(index, by)
            match payload:
                case Genesis():
                    self._genesis = payload
                    standing.seat(index, NOBODY, payload.device)
                case Add():
                    standing.seat(index, by, payload.device)
                    self._keys.gift(by, index, sum(1 << self._index[e] for e, _ in payload.wraps))
                case Remove():
                    standing.remove(index, self._device(payload.target), past, is_leave=False)
                case Leave():
                    standing.remove(index, self._device(payload.by), past, is_leave=True)
                case Restore():
                    standing.restore(index, by, past, sum(1 << self._index[x] for x in payload.ends))
                case Expel():
                    standing.expel(index, self._device(payload.target), self._below(payload.keep))

    # ---- judging a record by its own past ----------------------------------------------------------------------------
    def _signer(self, record: Record, past: int) -> int:
        """Index of the seat that signed. Raises: BadRecord: no seat in the record's past."""
        by = record.payload.by
        if by == ROOT:
            return NOBODY
        self._need(self._seen(by, past, Genesis, Add), "its signer is no device that it has seen")
        return self._index[by]

    def _sign_key(self, record: Record) -> bytes:
        payload = record.payload
        if payload.by != ROOT:
            seat = self.records[payload.by].payload
            assert isinstance(seat, Genesis | Add)  # noqa: S101 - _signer has checked it
            return seat.sign_public
        return payload.root_public if isinstance(payload, Genesis) else self.root_public

    def _check(self, record: Record, past: int) -> None:
        """The rest of what its own past says, the same everywhere and for ever. Raises: BadRecord."""
        payload, need = record.payload, self._need
        match payload:
            case Genesis():
                need(self._genesis is None, "the space has begun already")
            case Add():
                need(all(self._seen(e, past, Epoch) for e, _ in payload.wraps), "it gives a key it has not seen")
                seats = self._standing.seats_of.get(payload.device, ())
                need(not any(past >> seat & 1 for seat in seats), "it admits a device that was admitted before")
                need(self._has_room(past), f"a space has at most {MAX_DEVICES} active devices")
            case Remove():
                need(self._seen(payload.target, past, Genesis, Add), "it removes a device it has not seen")
                need(self._device(payload.target) != self._device(payload.by), "it removes its own signer")
            case Restore():
                ends = [self._seen(x, past, Remove) and self.records[x].payload.by for x in payload.ends]
                need(all(isinstance(by, bytes) for by in ends), "it ends what is no remove it has seen")
                need(payload.by == ROOT or set(ends) == {payload.by}, "it ends the remove of another device")
            case Expel():
                need(self._seen(payload.target, past, Genesis, Add), "it expels a device it has not seen")
                need(all(self._seen(k, past) for k in payload.keep), "it keeps what it has not seen")
            case Epoch():
                need(all(self._seen(s, past, Genesis, Add) for s, _ in payload.wraps), "a recipient is no device")
                need(all(self._seen(e, past, Epoch) for e, _ in payload.prev_wraps), "it carries an unknown key")
            case Wrap():
                need(self._seen(payload.target, past, Genesis, Add), "its target is no device it has seen")
                need(all(self._seen(e, past, Epoch) for e, _ in payload.wraps), "it gives a key it has not seen")
            case LogClose():
                seats = self._standing.seats_of.get(payload.device, ())
                need(any(past >> seat & 1 for seat in seats), "the log's owner is no device it has seen")
                own = payload.by == ROOT or self._device(payload.by) == payload.device
                need(own, "a log is closed by its owner or root")
            case _:
                pass

    @staticmethod
    def _need(holds: bool, why: str) -> None:
        if not holds:
            raise BadRecord(f"The control record is refused: {why}.")

    def _seen(self, digest: Digest, past: int, *kinds: type) -> bool:
        index = self._index.get(digest)
        if index is None or not past >> index & 1:
            return False
        return not kinds or isinstance(self._at[index].payload, kinds)

    def _has_room(self, past: int) -> bool:
        seats = [seat for seat in self._standing.seats if past >> seat & 1]
        if len(seats) < MAX_DEVICES:
            return True
        outcome = self._standing.outcome(past)
        return sum(self._standing.is_active(seat, outcome) for seat in seats) < MAX_DEVICES

    def _check_room(self, record: Record, by: int, is_dead: bool) -> None:
        """Two pools: what counts, and what is dead or void. So a flood has an end, and an expel makes room again."""
        size = len(record.raw)
        if len(self._all) < MAX_RECORDS and self.total_bytes + size <= MAX_CONTROL_BYTES:
            return
        now = self._now
        void, void_bytes = self._count_void(now)
        is_void = is_dead or (
            by != NOBODY and (now.void_seats >> by & 1 or self._standing.seats[by].device in now.kept)
        )
        count = void if is_void else len(self._all) - void
        filled = void_bytes if is_void else self.total_bytes - void_bytes
        spare = ROOT_RESERVE if by == NOBODY else 0
        if count >= MAX_RECORDS + spare or filled + size > MAX_CONTROL_BYTES + spare * 1024:
            raise TooBig(
                f"The control log of the space is full ({MAX_RECORDS} records, {MAX_CONTROL_BYTES} bytes). If a lost "
                "device fills it, expel it with the recovery words."
            )

    def _count_void(self, now: Outcome) -> tuple[int, int]:
        """Number and bytes of the records that are dead or void. What is here turns void by an expel only, so between
        two expels just the new ones are looked at."""
        kept, start, count, size = self._void
        if kept != now.kept:
            start = count = size = 0
        for i in range(start, len(self._at)):
            if not self._standing.counts(i, self._by[i], now):
                count += 1
                size += len(self._at[i].raw)
        self._void = now.kept, len(self._at), count, size
        return count, size

    # ---- the graph ---------------------------------------------------------------------------------------------------
    def _below(self, heads: Iterable[Digest]) -> int:
        """The view of these records and all under them."""
        view = 0
        for head in heads:
            index = self._index[head]
            view |= self._past[index] | 1 << index
        return view

    @property
    def heads(self) -> list[Digest]:
        """Records that no other rests on, sorted."""
        return sorted(self._heads)

    @property
    def short_heads(self) -> list[bytes]:
        """The heads as they travel: 16 bytes each, sorted; the deepest 256 if a hostile device made more."""
        return [head[:SHORT_HASH_BYTES] for head in self._deepest(MAX_HEADS)]

    @property
    def signing_heads(self) -> list[Digest]:
        """What a new record names as `prevs`: the heads, the deepest 64 of them if a hostile device made more."""
        return self._deepest(MAX_PREVS)

    def _deepest(self, most: int) -> list[Digest]:
        if len(self._heads) <= most:
            return self.heads
        return sorted(sorted(self._heads, key=self._preference, reverse=True)[:most])

    def missing_from(self, heads: Iterable[bytes]) -> list[bytes]:
        """Raw records that somebody with these heads lacks, prevs first. Args: heads: 32 bytes or 16-byte prefixes;
        unknown ones are left out (then it gets more than it needs, never less). Leaves go along unless the heads are
        equal: nothing tells which of them it has."""
        named = {head[:SHORT_HASH_BYTES] for head in heads}
        known = [self._short[head] for head in named if self._short.get(head, NOBODY) != NOBODY]
        view = 0
        for index in known:
            view |= self._past[index] | 1 << index
        records = [r.raw for i, r in enumerate(self._at) if not view >> i & 1]
        leaves = [] if named == set(self.short_heads) else [r.raw for r in self.leaves.values()]
        return records + leaves

    def lacks(self, heads: Iterable[bytes]) -> bool:
        """Does somebody with these heads (32 bytes or 16-byte prefixes) have records that are not here?"""
        return any(head[:SHORT_HASH_BYTES] not in self._short for head in heads)

    # ---- who belongs -------------------------------------------------------------------------------------------------
    @property
    def root_public(self) -> bytes:
        """The Ed25519 root key. Raises: BadRecord: genesis is not here yet."""
        return self._begun.root_public

    @property
    def root_exchange(self) -> bytes:
        """The X25519 root key, to which every epoch wraps its key. Raises: BadRecord: genesis is not here yet."""
        return self._begun.root_exchange

    @property
    def _begun(self) -> Genesis:
        if self._genesis is None:
            raise BadRecord("The control log has no genesis record yet.")
        return self._genesis

    @property
    def _now(self) -> Outcome:
        return self._standing.outcome((1 << len(self._at)) - 1)

    @property
    def _actives(self) -> set[int]:
        if self._active is None:
            now = self._now
            self._active = {seat for seat in self._standing.seats if self._standing.is_active(seat, now)}
        return self._active

    def _device(self, seat: Digest) -> DeviceId:
        return self._standing.seats[self._index[seat]].device

    def _seat_index(self, seat: bytes) -> int | None:
        index = self._index.get(Digest(seat))
        return index if index in self._standing.seats else None

    def active_seats(self) -> list[Digest]:
        """Seats that may act now, sorted."""
        return sorted(self._at[seat].hash for seat in self._actives)

    def is_active_seat(self, seat: bytes) -> bool:
        """May it sign, seal and connect."""
        return self._seat_index(seat) in self._actives

    def is_active(self, device: DeviceId) -> bool:
        """Has the device an active seat."""
        return any(seat in self._actives for seat in self._standing.seats_of.get(device, ()))

    def is_kept(self, device: DeviceId) -> bool:
        """Has the device a seat that is neither void nor expelled; if not, none of its logs counts beyond what root
        closed. False for a device that was never seated."""
        now = self._now
        return any(self._standing.is_member(seat, now) for seat in self._standing.seats_of.get(device, ()))

    def verify_key(self, device: DeviceId) -> bytes | None:
        """Ed25519 key of a device that was ever seated, however it stands now: to check batches. None: unknown."""
        seats = self._standing.seats_of.get(device)
        return self._info(seats[0]).sign_public if seats else None

    def devices(self) -> list[DeviceInfo]:
        """All seats in the order of arrival. A device with two seats comes twice, standing the same."""
        return [self._info(seat) for seat in self._standing.seats]

    def device(self, device: DeviceId) -> DeviceInfo | None:
        """The seat of a device, an active one if there is; of several the one with the least hash."""
        seats = [self._info(seat) for seat in self._standing.seats_of.get(device, ())]
        return min(seats, key=lambda info: (info.status is not Status.ACTIVE, info.seat), default=None)

    def seat(self, seat: bytes) -> DeviceInfo | None:
        """The device on a seat."""
        index = self._seat_index(seat)
        return None if index is None else self._info(index)

    def standing_removes(self, device: DeviceId, by: bytes = ROOT) -> list[Digest]:
        """The removes of this device that hold now and that *by* (a seat, or ROOT) may end: what a restore names."""
        seats = self._standing.seats_of.get(device, ())
        if not seats:
            return []
        found = [self._at[i] for i in bits(self._standing.hitting(seats[0], self._now))]
        return sorted(
            r.hash
            for r in found
            if isinstance(r.payload, Remove) and self._device(r.payload.target) == device and by in (ROOT, r.payload.by)
        )

    def _info(self, seat: int) -> DeviceInfo:
        record = self._at[seat]
        payload = record.payload
        assert isinstance(payload, Genesis | Add)  # noqa: S101 - only these are seats
        return DeviceInfo(
            seat=record.hash,
            device=self._standing.seats[seat].device,
            sign_public=payload.sign_public,
            exchange_public=payload.exchange_public,
            name=payload.name,
            added_ms=payload.ts,
            added_by=payload.by,
            status=self._status(seat),
        )

    def _status(self, seat: int) -> Status:
        now, standing = self._now, self._standing
        if standing.seats[seat].device in now.kept:
            return Status.EXPELLED
        if not standing.is_member(seat, now):
            return Status.VOID
        if seat in self._actives:
            return Status.ACTIVE
        return Status.LEFT if standing.has_left(seat, now) else Status.REMOVED

    # ---- ends of data logs -------------------------------------------------------------------------------------------
    def closes(self, log: LogId, device: DeviceId) -> list[Close]:
        """The closes of a device's log that count, the one that holds first. Root's and the owner's are equal in rank;
        a close by anybody else, or of a log that is not this device's, never counts."""
        return sorted(close for close, _ in self._counting_closes(log, device))

    def end_of(self, log: LogId, device: DeviceId) -> Close | None:
        """Where the log of this device ends; None: it is open.

        Of a device that is expelled or void only what root closed stays: NOTHING_COUNTS if root closed nothing.
        """
        closes = self._counting_closes(log, device)
        if not self.is_kept(device) and not any(by_root for _, by_root in closes):
            return NOTHING_COUNTS
        return min((close for close, _ in closes), default=None)

    def ends(self, owners: Mapping[LogId, DeviceId]) -> dict[LogId, Close]:
        """The logs of these that have an end. Args: owners: log -> its device, as batch 1 proves it."""
        found = ((log, self.end_of(log, device)) for log, device in owners.items())
        return {log: end for log, end in found if end is not None}

    def _counting_closes(self, log: LogId, device: DeviceId) -> list[tuple[Close, bool]]:
        now = self._now
        found = []
        for index in self._closes.get((device, log), ()):
            payload = self._at[index].payload
            assert isinstance(payload, LogClose)  # noqa: S101 - only these are kept there
            if self._standing.counts(index, self._by[index], now):
                found.append((Close(payload.n, payload.hash, payload.fork), payload.by == ROOT))
        return found

    # ---- keys --------------------------------------------------------------------------------------------------------
    def _preference(self, digest: Digest) -> tuple[int, Digest]:
        return self._depth[self._index[digest]], digest

    def newest_first(self, epochs: Iterable[Digest]) -> list[Digest]:
        """These epochs, the deepest first."""
        return sorted(epochs, key=self._preference, reverse=True)

    def usable_epochs(self) -> list[Digest]:
        """Epochs whose key may seal, best first: they count, all that hold the key are active, and their past has every
        standing remove, leave and expel."""
        if self._usable is None:
            now = self._now
            must_see = now.standing | self._standing.expels
            active = sum(1 << seat for seat in self._actives)
            self._usable = sorted(
                (
                    self._at[i].hash
                    for i in bits(self._keys.epochs)
                    if not must_see & ~self._past[i]
                    and not self._keys.holders[i] & ~active
                    and self._standing.counts(i, self._by[i], now)
                ),
                key=self._preference,
                reverse=True,
            )
        return self._usable

    def sealing_epoch(self, seat: bytes, held: Collection[Digest] | None = None) -> Digest | None:
        """The epoch that this seat seals under now; None: it is not active, or must make a new one first.

        Args: held: epochs whose keys it really has (a hostile maker may have sealed rubbish to it); None: all that it
        was given.
        """
        index = self._seat_index(seat)
        if index is None or index not in self._actives:
            return None
        knows = self._keys.knows[index]
        mine = (e for e in self.usable_epochs() if knows >> self._index[e] & 1)
        return next((e for e in mine if held is None or e in held), None)

    def needs_rotation(self, seat: bytes) -> bool:
        """Is it active without a key that may seal."""
        return self.is_active_seat(seat) and self.sealing_epoch(seat) is None

    def known_epochs(self, seat: bytes) -> set[Digest]:
        """Epochs whose key this seat was given, in whatever way."""
        index = self._seat_index(seat)
        return set() if index is None else {self._at[i].hash for i in bits(self._keys.knows[index])}

    def epoch_of(self, kid: KeyId) -> list[Digest]:
        """Epochs with this key id: one, unless a hostile device made two keys with equal ids."""
        return [digest for digest, epoch in self.epochs.items() if epoch.kid == kid]

    def void_epochs(self) -> list[Digest]:
        """Epochs that do not count. While there are none, `in_use` below is not needed."""
        now = self._now
        return [self._at[i].hash for i in bits(self._keys.epochs) if not self._standing.counts(i, self._by[i], now)]

    def givable(
        self, seat: bytes, in_use: Collection[KeyId] | None = None, held: Collection[Digest] | None = None
    ) -> set[Digest]:
        """Epochs whose keys this seat passes on: all it knows but void ones that no batch needs.

        Args: in_use: ids of the keys under which batches that count are sealed, None: not known, void ones pass too;
        held: as for `sealing_epoch`.
        """
        return self._names(self._givable(seat, in_use, held))

    def lacking(
        self, seat: bytes, in_use: Collection[KeyId] | None = None, held: Collection[Digest] | None = None
    ) -> dict[Digest, list[Digest]]:
        """Active seat -> the fewest epochs whose keys *seat* must give it, so that it can get to all that it should
        have; seats that lack nothing are left out. Args: as for `givable`."""
        givable = self._givable(seat, in_use, held)
        found = {}
        for other in self.active_seats():
            if lacks := givable & ~self._keys.knows[self._index[other]]:
                found[other] = self.tops(self._names(lacks))
        return found

    def epochs_below(self, heads: Iterable[Digest]) -> set[Digest]:
        """Epochs at or below these records: those that a record resting on them may name."""
        return self._names(self._below(heads) & self._keys.epochs)

    def tops(self, epochs: Collection[Digest]) -> list[Digest]:
        """Of these epochs those that none of the others unlocks, best first: what to hand on, and what a new epoch
        carries."""
        rest = sum(1 << self._index[e] for e in epochs)
        for epoch in sorted(epochs, key=self._preference, reverse=True):
            if rest >> self._index[epoch] & 1:
                rest &= ~self._keys.unlocks(self._index[epoch])
        return sorted(self._names(rest), key=self._preference, reverse=True)

    def _givable(self, seat: bytes, in_use: Collection[KeyId] | None, held: Collection[Digest] | None) -> int:
        index = self._seat_index(seat)
        known = 0 if index is None else self._keys.knows[index]
        if held is not None:
            known &= sum(1 << self._index[e] for e in held if e in self.epochs)
        if in_use is None:
            return known
        now = self._now
        for i in bits(known):
            counts = self._standing.counts(i, self._by[i], now)
            if not counts and self.epochs[self._at[i].hash].kid not in in_use:
                known &= ~(1 << i)
        return known

    def _names(self, view: int) -> set[Digest]:
        return {self._at[i].hash for i in bits(view)}


def _prevs_first(records: Mapping[Digest, Record]) -> list[Record]:
    """These records in an order in which each comes after those of its prevs that are among them."""
    order: list[Record] = []
    placed: set[Digest] = set()
    for start in records:
        todo = [start]
        while todo:
            at = todo[-1]
            below = [p for p in records[at].payload.prevs if p in records and p not in placed]
            if at not in placed and not below:
                placed.add(at)
                order.append(records[at])
            if not below:
                todo.pop()
            else:
                todo += below
    return order
