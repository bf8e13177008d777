"""Reference model of membership and epoch keys: the oracle for hybridgw_protocol.membership. No I/O, clock or entropy.

The control log is a SET of signed records that form a hash graph (`prevs`). Everything below is a pure function of
that set: two devices with the same records agree, whatever the order of delivery. Nobody has rank: no tie-breaks.

SEAT     A device is seated by the record that admitted it, and the seat is named by that record's hash. `by` is a seat
         or ROOT (the recovery words). A device that was admitted twice, by adds that had not seen each other, has two
         seats; whatever puts one of them out puts out all seats of that device.
DEAD     A record whose signer is inactive in the record's OWN PAST never counts. It is stored all the same.
EXPEL    By root, final. Of the target only what is at or below `keep` counts: the rest is void, and so is all that
         rests on it (a void add voids the records of the device that it added).
REMOVE   By any active device against any other. Soft: nothing is void. While it stands the target is inactive, and
         so is every device that the target added unseen by the remover. It ends by a `restore` of its signer or root.
         Removes made concurrently against each other all stand, until root speaks. `leave` is a remove of oneself
         that nothing ends.
RESTORE  By a device it counts unless a remove or leave that root has not ended hits its signer, where neither saw
         the other: else a removed device could, in the past, bring back a device that it had removed itself.
KEYS     A key may seal if all that hold it are active and its record has in its past every standing remove, every
         leave and every expel that the sealer knows. So who has the key has seen them all, and no honest device
         passes it to somebody they put out. Inactive devices do not seal. The key of a void epoch is passed on only
         if a batch that counts is sealed under it (docs/adr/0005-epoch-key-usable-rule.md).

Order of decision, so that nothing is circular: dead (own past) -> void (expels) -> ended by root -> restores of
devices -> standing removes -> active -> keys.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property

ROOT = "root"
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Record:
    """One signed control record. `by` stands for a verified signature: in the model nobody can write another's `by`."""

    type: str  # genesis add remove restore leave expel epoch wrap log_close
    by: str  # seat of the signer, or ROOT
    prevs: frozenset[str] = NONE  # heads of the signer's control log when it signed
    target: str = ""  # remove, expel, wrap: a seat
    device: str = ""  # genesis, add: the new device's key; log_close: the log's owner
    joiner_sig: tuple = ()  # add: what the NEW device signed = (device, adder, prevs)
    keep: frozenset[str] = NONE  # expel: heads of the history still accepted from the target
    ends: frozenset[str] = NONE  # restore: removes that end
    recipients: frozenset[str] = NONE  # epoch: seats that the key is wrapped to (the root is always one more)
    prev_wraps: frozenset[str] = NONE  # epoch: older epochs whose keys are encrypted under this one
    wraps: frozenset[str] = NONE  # add, wrap: epochs whose keys are wrapped to the new device / target
    log: str = ""  # log_close: a log of `device`
    n: int = 0  # log_close: last batch that stays
    salt: str = ""  # what differs in the real record and has no meaning here (time, boxes, commitment)

    @cached_property
    def hash(self) -> str:
        def plain(value: object) -> object:
            if isinstance(value, frozenset):
                return sorted(value)
            return [plain(v) for v in value] if isinstance(value, tuple) else value

        parts = [plain(getattr(self, f.name)) for f in fields(self)]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


class ControlLog:
    """The record set of one device or relay. A VIEW is a set of records as bits: bit i = i-th stored record."""

    max_active = 32  # an add whose own past has that many active seats is malformed

    def __init__(self, genesis: Record) -> None:
        self.genesis = genesis.hash
        self.records: dict[str, Record] = {}
        self.waiting: dict[str, Record] = {}  # prevs not here yet: wait (bounded in the product), never refuse
        self.index: dict[str, int] = {}
        self.past: dict[str, int] = {}  # strict past of a record, a view
        self.depth: dict[str, int] = {}  # longest way to genesis: fixed by the record's past
        self.heads: set[str] = set()
        self.dead: set[str] = set()
        self.seats: list[str] = []
        self.seats_of: dict[str, list[str]] = defaultdict(list)  # device -> seats
        self.removes_of: dict[str, list[str]] = defaultdict(list)  # device -> removes and leaves
        self.expels_of: dict[str, list[str]] = defaultdict(list)  # device -> expels
        self.kept: dict[str, int] = {}  # expel -> view at or below its `keep`
        self.restores_of: dict[str, list[str]] = defaultdict(list)  # remove -> restores
        self.closes_of: dict[tuple[str, str], list[str]] = defaultdict(list)  # (device, log) -> closes
        self.epochs: dict[str, Record] = {}
        self.knows: dict[str, set[str]] = defaultdict(set)  # seat -> epochs whose key it can get (public fact)
        self.holders: dict[str, set[str]] = defaultdict(set)  # epoch -> seats
        self._gifts: dict[tuple[str, str], set[str]] = defaultdict(set)  # (giver, epoch) -> receivers
        self._epochs_by: dict[str, list[Record]] = defaultdict(list)
        self._status: Status | None = None
        self.insert(genesis)

    # ---- storing -----------------------------------------------------------------------------------------------------
    def insert(self, record: Record) -> bool:
        """Store a record and all that waited for it. False: refused for ever (malformed, a fact of its own past)."""
        if record.hash in self.records:
            return True
        if not record.prevs <= self.records.keys():
            self.waiting[record.hash] = record
            return True
        if not self._admit(record):
            return False
        while ready := [w for w in self.waiting.values() if w.prevs <= self.records.keys()]:
            for later in ready:
                del self.waiting[later.hash]
                self._admit(later)
        return True

    def update(self, records: Iterable[Record]) -> None:
        for record in records:
            self.insert(record)

    def _admit(self, r: Record) -> bool:
        past = self.below(r.prevs)
        if not self.well_formed(r, past):
            return False
        h = r.hash
        if self.signer_was_out(r, past):
            self.dead.add(h)
        self.index[h], self.past[h], self.records[h] = len(self.records), past, r
        self.depth[h] = 1 + max((self.depth[p] for p in r.prevs), default=0)
        self.heads = (self.heads - r.prevs) | {h}
        if r.type in ("genesis", "add"):
            self.seats.append(h)
            self.seats_of[r.device].append(h)
        elif r.type in ("remove", "leave"):
            self.removes_of[self.device_of(r.target or r.by)].append(h)
        elif r.type == "expel":
            self.expels_of[self.device_of(r.target)].append(h)
            self.kept[h] = self.below(r.keep)
        elif r.type == "restore":
            for x in r.ends:
                self.restores_of[x].append(h)
        elif r.type == "log_close":
            self.closes_of[r.device, r.log].append(h)
        if r.type in ("epoch", "wrap", "add"):
            self._store_keys(r)
        if r.type not in ("epoch", "wrap", "log_close"):  # those three change nobody's standing
            self._status = None
        return True

    def well_formed(self, r: Record, past: int) -> bool:
        """Judged by the record's own past alone: the same answer everywhere and for ever."""

        def known(h: str, *types: str) -> bool:
            return h in self.records and self.within(h, past) and (not types or self.records[h].type in types)

        def seat(h: str) -> bool:
            return known(h, "genesis", "add")

        if r.type == "genesis":
            return r.hash == self.genesis and r.by == ROOT and not r.prevs
        if not r.prevs or (r.by != ROOT and not seat(r.by)):
            return False
        if r.type == "add":
            return (
                self.joiner_agrees(r)
                and self.key_is_new(r, past)
                and self.has_room(past)
                and all(known(e, "epoch") for e in r.wraps)
            )
        if r.type == "remove":
            return seat(r.target) and r.by != ROOT and self.device_of(r.target) != self.device_of(r.by)
        if r.type == "leave":
            return r.by != ROOT and not r.target
        if r.type == "restore":
            return bool(r.ends) and all(known(x, "remove") and self.may_end(r.by, self.records[x]) for x in r.ends)
        if r.type == "expel":
            return r.by == ROOT and seat(r.target) and all(known(k) for k in r.keep)
        if r.type == "epoch":
            return all(seat(s) for s in r.recipients) and all(known(e, "epoch") for e in r.prev_wraps)
        if r.type == "wrap":
            return seat(r.target) and all(known(e, "epoch") for e in r.wraps)
        if r.type == "log_close":
            return any(seat(s) for s in self.seats_of.get(r.device, ())) and (
                r.by == ROOT or self.device_of(r.by) == r.device
            )
        return False

    def joiner_agrees(self, r: Record) -> bool:
        return r.joiner_sig == (r.device, r.by, r.prevs)

    def key_is_new(self, r: Record, past: int) -> bool:
        """A device is admitted once, as far as the adder sees. Adds that had not seen each other give two seats: its
        one signature serves an adder that makes two records of it, or it signed for two adders."""
        return not any(self.within(s, past) for s in self.seats_of[r.device])

    def has_room(self, past: int) -> bool:
        seats = [s for s in self.seats if self.within(s, past)]
        return len(seats) < self.max_active or sum(self.is_active(s, past) for s in seats) < self.max_active

    def may_end(self, signer: str, remove: Record) -> bool:
        return signer in (ROOT, remove.by)

    def signer_was_out(self, r: Record, past: int) -> bool:
        return r.by != ROOT and not self.is_active(r.by, past)

    # ---- who is active, in a view: the whole set, or the past of a record --------------------------------------------
    def device_of(self, seat: str) -> str:
        return self.records[seat].device

    def within(self, h: str, view: int) -> bool:
        return bool(view >> self.index[h] & 1)

    def sees(self, record: str, other: str) -> bool:
        return self.within(other, self.past[record])

    def below(self, heads: Iterable[str]) -> int:
        """The view of the given records and of everything under them."""
        view = 0
        for h in heads:
            view |= self.past[h] | 1 << self.index[h]
        return view

    def struck(self, h: str, view: int) -> bool:
        """Is this record above the `keep` of an expel of its signer?"""
        return self.records[h].by != ROOT and any(
            self.within(x, view) and not self.within(h, self.kept[x])
            for x in self.expels_of.get(self.device_of(self.records[h].by), ())
        )

    def counts(self, h: str, view: int) -> bool:
        """Neither dead nor void, and the same for the add of its signer, of the adder of that, ... up to root."""
        while h != ROOT:
            if h in self.dead or self.struck(h, view):
                return False
            h = self.records[h].by
        return True

    def hits(self, remove: str, seat: str) -> bool:
        """Does it, while it stands, put out this seat: one of the target device, or one that the target added (or one
        added by such a one, ...) unseen by the remover."""
        target = self.device_of(self.records[remove].target or self.records[remove].by)
        while seat != ROOT and self.device_of(seat) != target:
            if self.sees(remove, seat):
                return False
            seat = self.records[seat].by
        return seat != ROOT

    def hitting(self, seat: str, view: int) -> Iterator[str]:
        """Removes and leaves in the view that count and hit this seat, ended or not."""
        up = seat
        while up != ROOT:
            for x in self.removes_of.get(self.device_of(up), ()):
                if self.within(x, view) and self.hits(x, seat) and self.counts(x, view):
                    yield x
            up = self.records[up].by

    def ended_by_root(self, remove: str, view: int) -> bool:
        return any(self.records[u].by == ROOT and self.within(u, view) for u in self.restores_of.get(remove, ()))

    def restore_counts(self, u: str, view: int) -> bool:
        return self.counts(u, view) and not any(
            not self.sees(u, x) and not self.sees(x, u) and not self.ended_by_root(x, view)
            for x in self.hitting(self.records[u].by, view)
        )

    def stands(self, remove: str, view: int) -> bool:
        return not self.ended_by_root(remove, view) and not any(
            self.within(u, view) and self.restore_counts(u, view)
            for u in self.restores_of.get(remove, ())
            if self.records[u].by != ROOT
        )

    def is_member(self, seat: str, view: int) -> bool:
        expels = self.expels_of.get(self.device_of(seat), ())
        return not any(self.within(x, view) for x in expels) and self.counts(seat, view)

    def is_out(self, seat: str, view: int) -> bool:
        return any(self.stands(x, view) for x in self.hitting(seat, view))

    def is_active(self, seat: str, view: int) -> bool:
        return self.is_member(seat, view) and not self.is_out(seat, view)

    @property
    def status(self) -> Status:
        if self._status is None:
            self._status = Status(self)
        return self._status

    def cut(self, device: str, log: str) -> int | None:
        """Last batch of a data log that counts; None = no bound. Of a device that is expelled or void only what root
        closed stays."""
        view = self.everything
        closes = [self.records[c] for c in self.closes_of.get((device, log), ()) if self.counts(c, view)]
        if not self.is_kept(device) and not any(c.by == ROOT for c in closes):
            return 0
        return min((c.n for c in closes), default=None)

    def is_kept(self, device: str) -> bool:
        """Has it a seat that is neither void nor expelled?"""
        return any(s in self.status.members for s in self.seats_of.get(device, ()))

    @property
    def everything(self) -> int:
        return (1 << len(self.records)) - 1

    # ---- keys --------------------------------------------------------------------------------------------------------
    def _store_keys(self, r: Record) -> None:
        """Follow who can get which key. A gift counts only if the giver has the key itself (else it is an empty
        claim, and a removed device could spoil every new epoch by 'giving' it away); dead and void records count,
        for a key that was given away is given away."""
        if r.type == "epoch":
            self.epochs[r.hash] = r
            self._epochs_by[r.by].append(r)
            for s in r.recipients | {r.by}:
                self._learn(s, r.hash)
        else:
            receiver = r.hash if r.type == "add" else r.target
            for e in r.wraps:
                self._gifts[r.by, e].add(receiver)
                if r.by == ROOT or e in self.knows[r.by]:
                    self._learn(receiver, e)

    def _learn(self, seat: str, epoch: str) -> None:
        todo = [(seat, epoch)]
        while todo:
            s, e = todo.pop()
            if e in self.knows[s] or s == ROOT:
                continue
            self.knows[s].add(e)
            self.holders[e].add(s)
            maker = self.epochs[e].by
            todo += [(s, old) for old in self.epochs[e].prev_wraps if maker == ROOT or old in self.knows[maker]]
            todo += [(other, e) for other in self._gifts[s, e]]
            todo += [(h, e) for new in self._epochs_by[s] if e in new.prev_wraps for h in self.holders[new.hash]]

    def usable(self, epoch: str) -> bool:
        """The maker holds its key too, so it is active or the root."""
        return self.counts(epoch, self.everything) and self.holders_active(epoch) and self.covers_all(epoch)

    def holders_active(self, epoch: str) -> bool:
        return self.holders[epoch] <= self.status.active

    def covers_all(self, epoch: str) -> bool:
        return not self.status.must_cover & ~self.past[epoch]

    def preference(self, epoch: str) -> tuple[int, str]:
        return self.depth[epoch], epoch

    def sealing_epoch(self, seat: str) -> str | None:
        """The epoch that this seat seals under now; None = not active, or a new epoch is needed first."""
        if seat not in self.status.active:
            return None
        best_first = sorted(self.knows[seat], key=self.preference, reverse=True)
        return next((e for e in best_first if self.usable(e)), None)

    def givable(self, seat: str, batches: Iterable[tuple[str, str]]) -> set[str]:
        """Epochs whose keys this seat passes on. Args: batches: (epoch, sealer) of what it holds."""
        used = {e for e, sealer in batches if self.is_kept(self.device_of(sealer))}
        return {e for e in self.knows[seat] if e in used or self.counts(e, self.everything)}

    def tops(self, epochs: Iterable[str]) -> set[str]:
        """Of the given epochs those that none of the others unlocks: all epoch heads, not only the newest."""

        def unlocks(epoch: str) -> set[str]:
            seen: set[str] = set()
            todo = [epoch]
            while todo:
                e = todo.pop()
                maker = self.epochs[e].by
                new = {o for o in self.epochs[e].prev_wraps if maker == ROOT or o in self.knows[maker]} - seen
                seen |= new
                todo += new
            return seen

        rest = set(epochs)
        for e in sorted(rest, key=self.preference, reverse=True):
            if e in rest:
                rest -= unlocks(e)
        return rest


class Status:
    """The outcome for one record set."""

    def __init__(self, log: ControlLog) -> None:
        view = log.everything
        self.members = {s for s in log.seats if log.is_member(s, view)}  # neither void nor expelled
        self.active = {s for s in self.members if not log.is_out(s, view)}
        self.inactive = self.members - self.active
        removes = [x for xs in log.removes_of.values() for x in xs]
        self.standing = [x for x in removes if log.counts(x, view) and log.stands(x, view)]
        self.expels = [x for xs in log.expels_of.values() for x in xs]
        self.must_cover = sum(1 << log.index[x] for x in self.standing + self.expels)


# ---- what an honest device does --------------------------------------------------------------------------------------
class Device:
    """An honest device: its own log, its seat, and the acts of a person (add, remove, ...) or of the program (tend)."""

    def __init__(self, log: ControlLog, seat: str) -> None:
        self.log, self.seat = log, seat
        self.batches: set[tuple[str, str]] = set()  # (epoch, sealer's seat) of the batches it holds

    @property
    def active(self) -> bool:
        return self.seat in self.log.status.active

    def sign(self, type: str, by: str = "", **body: object) -> Record:
        assert by == ROOT or self.active, "an inactive device signs nothing"
        r = Record(type, by or self.seat, frozenset(self.log.heads), **body)  # type: ignore[arg-type]
        assert self.log.insert(r), ("an honest device made a bad record", r)
        return r

    def givable(self) -> set[str]:
        return self.log.givable(self.seat, self.batches)

    def add(self, device: str) -> Record:
        """Pairing: the new device signs (device, adder, prevs); it gets all epoch heads."""
        return self.sign(
            "add",
            device=device,
            joiner_sig=(device, self.seat, frozenset(self.log.heads)),
            wraps=frozenset(self.log.tops(self.givable())),
        )

    def remove(self, target: str) -> Record:
        return self.sign("remove", target=target)

    def restore(self, target: str, by: str = "") -> Record | None:
        device = self.log.device_of(target)
        removes = [
            x
            for x in self.log.status.standing
            if self.log.records[x].type == "remove"
            and self.log.device_of(self.log.records[x].target) == device
            and self.log.may_end(by or self.seat, self.log.records[x])
        ]
        return self.sign("restore", by, ends=frozenset(removes)) if removes else None

    def expel(self, target: str, keep: Iterable[str] | None = None) -> Record:
        return self.sign("expel", ROOT, target=target, keep=frozenset(self.log.heads if keep is None else keep))

    def leave(self) -> Record:
        return self.sign("leave")

    def rotate(self) -> Record:
        return self.sign(
            "epoch",
            recipients=frozenset(self.log.status.active),
            prev_wraps=frozenset(self.log.tops(self.givable())),
            salt=f"{self.seat}:{len(self.log.epochs)}",
        )

    def tend(self) -> None:
        """Run after every receipt, before any seal: rotate if no key is usable (in the product after a random delay,
        lowest device first), give keys to active devices that lack them."""
        if not self.active:
            return  # it keeps its own writes until it is restored
        if not self.log.sealing_epoch(self.seat):
            self.rotate()
        for m in sorted(self.log.status.active):
            if lacks := self.givable() - self.log.knows[m]:
                self.sign("wrap", target=m, wraps=frozenset(self.log.tops(lacks)))

    def seal(self) -> str | None:
        self.tend()
        return self.log.sealing_epoch(self.seat)
