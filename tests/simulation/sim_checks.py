"""What must hold, and how it is known: a ledger of the truth, kept beside the product, and the checks against it.

The ledger knows of every local write which operations it became and what its author's replica had applied then, from
the batches themselves: sets of operations are integers, one bit each. The product never sees it.

    I1 convergence        I2 no acknowledged write lost    I3 nothing relay-acknowledged lost    I4 idempotence
    I5 commutativity      I6 conflicts by brute force      I7 visible iff the generation is odd  I9 causality
    I10 one signature per place of a log                   I14 stamps rise per log
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hybridgw_daemon.core import conflicts, document_state
from hybridgw_daemon.core.body import apply_deps, decode_body
from hybridgw_daemon.core.document_state import Cell, Row
from hybridgw_daemon.core.operations import CREATE, DELETE, FLOOR, Operation, fingerprint
from hybridgw_daemon.core.owners import OWNER
from hybridgw_daemon.core.sealing import open_batch
from hybridgw_daemon.core.uuid7 import is_below_floor
from hybridgw_daemon.services.replica import End, Incoming, Keys, Replica
from hybridgw_daemon.stores import documents, oplog
from hybridgw_protocol.batch import Batch, Head, parse_batch
from hybridgw_protocol.codec import canonical
from hybridgw_protocol.ids import DeviceId, DocumentId, KeyId, LogId
from hybridgw_protocol.vectors import Heads

Name = tuple[str, DocumentId]
Entry = tuple[Any, ...]


class Violation(AssertionError):
    """An invariant does not hold. invariant: its id; what: the facts, whole (the message has them shortened)."""

    def __init__(self, invariant: str, *what: object) -> None:
        super().__init__(invariant, *(part if isinstance(part, int | str) else shorten(repr(part)) for part in what))
        self.invariant, self.what = invariant, what


def demand(holds: object, invariant: str, *what: object) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(invariant, *what)


def shorten(text: str, most: int = 1_500) -> str:
    """A text that fits a report."""
    text = re.sub(r"(.{1,80}?)\1{3,}", r"\1...", text)
    return text if len(text) <= most else text[:most] + "..."


# ---- the truth ---------------------------------------------------------------------------------------------------
@dataclass
class Label:
    """One operation as it was written. seen: the labels its author's replica had applied, as bits."""

    number: int
    owner: int  # an identity; a clone has the one of its original
    operation: Operation
    seen: int


@dataclass
class Known:
    """A batch that was sealed somewhere. prefix: labels in it and below it; deps: all of its author's."""

    batch: Batch
    operations: list[Operation]
    labels: list[int]
    prefix: int
    deps: Heads
    stamps: tuple[int | None, int | None]
    control: tuple[bytes, ...]  # control heads that its author knew, 16 bytes each


@dataclass
class Ledger:
    """Everything that was ever written and sealed, and by whom."""

    labels: list[Label] = field(default_factory=list)
    batches: dict[bytes, Known] = field(default_factory=dict)
    owner_of: dict[DeviceId, int] = field(default_factory=dict)
    space_keys: dict[KeyId, bytes] = field(default_factory=dict)
    excused: int = 0  # labels that may be gone: they were only ever on a disk that was put back
    put_out: set[int] = field(default_factory=set)  # owners that are no members any more: what they wrote may not count
    copied: set[int] = field(default_factory=set)  # owners that were restored or cloned behind the product's back
    signed: defaultdict[tuple[LogId, int], dict[bytes, str]] = field(default_factory=lambda: defaultdict(dict))
    sometimes: Counter[str] = field(default_factory=Counter)
    trace_digest: str = ""
    _undo: list[Callable[[], object]] | None = None  # of what was noted in the open transaction
    _sealed: set[int] = field(default_factory=set)
    _restamped: defaultdict[LogId, set[int]] = field(default_factory=lambda: defaultdict(set))
    _by_print: dict[tuple[int, bytes], int] = field(default_factory=dict)
    _by_content: defaultdict[tuple[int, bytes], list[int]] = field(default_factory=lambda: defaultdict(list))

    def wrote(self, owner: int, operations: Iterable[Operation], seen: int) -> None:
        """A transaction of local writes."""
        for operation in operations:
            number = len(self.labels)
            self.labels.append(Label(number, owner, operation, seen))
            self._by_print[owner, fingerprint(operation)] = number
            self._by_content[owner, _content(operation)].append(number)
            seen |= 1 << number
            if self._undo is not None:
                self._undo.append(partial(self._unwrite, owner, operation))

    def _unwrite(self, owner: int, operation: Operation) -> None:
        del self.labels[-1]
        del self._by_print[owner, fingerprint(operation)]
        self._by_content[owner, _content(operation)].pop()

    def begin(self) -> None:
        """A transaction begins: what is noted from now on may be undone; `keep` or `discard` follows."""
        self._undo = []

    def tentative(self, owner: int, operations: Iterable[Operation], seen: int) -> None:
        """As `wrote`, inside a transaction that may fail; `keep` or `discard` follows."""
        if self._undo is None:
            self.begin()
        self.wrote(owner, operations, seen)

    def keep(self) -> None:
        """The transaction was committed."""
        self._undo = None

    def discard(self) -> None:
        """It was rolled back: nobody wrote or sealed this."""
        undo, self._undo = self._undo or [], None
        for action in reversed(undo):
            action()

    def see(self, batch: Batch) -> Known:
        """Take a batch in; those before it in its log were seen already."""
        known = self.batches.get(batch.hash)
        if known is not None:
            return known
        owner = self.owner_of[batch.device]
        body = decode_body(open_batch(batch, self.space_keys[batch.kid]), batch.log)
        below = self.batches.get(batch.prev)
        demand(batch.n == 1 or below is not None, "I10", "a batch hangs in the air", batch.log, batch.n)
        strange = [operation for operation in body.unknown if operation.kind != OWNER]
        demand(not body.void and not strange, "sealing", "an honest device sealed a void operation")
        labels = [self.label_of(owner, operation, batch.log) for operation in body.operations]
        prefix = below.prefix if below else 0
        for number in labels:
            prefix |= 1 << number
        fresh = set(labels) - self._sealed
        self._sealed |= fresh
        known = self.batches[batch.hash] = Known(
            batch, body.operations, labels, prefix, apply_deps(below.deps if below else {}, body.deps),
            (body.first_stamp, body.last_stamp),
            body.control if body.control is not None else below.control if below else (),
        )  # fmt: skip
        if self._undo is not None:
            self._undo += [partial(self.batches.pop, batch.hash), partial(self._sealed.difference_update, fresh)]
        return known

    def label_of(self, owner: int, operation: Operation, log: LogId) -> int:
        """The label of an operation, also where log repair gave it a stamp within the clock bound."""
        number = self._by_print.get((owner, fingerprint(operation)))
        if number is None:
            used = self._restamped[log]
            found = [n for n in self._by_content.get((owner, _content(operation)), ()) if n not in used]
            found.sort(key=lambda n: (n in self._sealed, self.labels[n].operation.stamp <= operation.stamp))
            demand(found, "I2", "an operation that nobody wrote was sealed", operation)
            self.sometimes["stamp mapped back"] += 1
            number = self._by_print[owner, fingerprint(operation)] = found[0]
            used.add(number)
            if self._undo is not None:
                print_ = (owner, fingerprint(operation))
                self._undo += [partial(self._by_print.pop, print_), partial(used.discard, number)]
        return number

    def twins(self, number: int) -> list[int]:
        """Deletes that differ from this one in their stamp only."""
        label = self.labels[number]
        same = self._by_content[label.owner, _content(label.operation)]
        return same if label.operation.kind == DELETE else []

    def signs(self, batch: Batch, instance: str) -> None:
        """A device has this batch of its own durably: I10."""
        self.see(batch)
        place = self.signed[batch.log, batch.n]
        place.setdefault(batch.hash, instance)
        if len(place) > 1:
            owner = self.owner_of[batch.device]
            demand(owner in self.copied, "I10", "two batches signed for one place", batch.log, batch.n, place)

    def applied(self, heads: Mapping[LogId, Head]) -> int:
        """The labels below applied heads."""
        mask = 0
        for head in heads.values():
            if head.n:
                mask |= self.batches[head.hash].prefix
        return mask

    def held(self, connection: Any) -> int:
        """The labels in the batches and evidence of a database."""
        mask = 0
        for table in ("batch", "evidence"):
            for (digest,) in connection.execute(f"SELECT hash FROM {table}"):
                for number in self.batches[digest].labels:
                    mask |= 1 << number
        return mask

    def wanted(self) -> int:
        """What must be found at the end."""
        kinds = [x for x in self.labels if x.operation.kind != FLOOR]  # a repair does not seal a floor again
        return sum(1 << x.number for x in kinds if x.owner not in self.put_out) & ~self.excused


def _content(operation: Operation) -> bytes:
    return fingerprint(Operation(*(0 if k == 4 else value for k, value in enumerate(_fields(operation)))))


def _fields(o: Operation) -> tuple[Any, ...]:
    return (o.kind, o.collection, o.id, o.cl, o.stamp, o.puts, o.sets, o.floor_ms)


# ---- what a replica holds ----------------------------------------------------------------------------------------
class State(NamedTuple):
    """The documents of a replica, and how far it is."""

    rows: dict[Name, Row]
    floors: dict[str, int]
    logs: dict[LogId, oplog.LogRow]


def state_of(connection: Any, vault: documents.Vault) -> State:
    """Read it, sealed rows opened."""
    places = {c.cid: c for c in documents.collections(connection)}
    rows = {}
    for cid, *row in connection.execute("SELECT cid, id, seq, cl, body, clk, conflicts FROM document"):
        stored = documents.read_row(places[cid], row, vault)
        rows[places[cid].name, stored.id] = stored.row
    floors = {c.name: c.floor_ms for c in places.values() if c.floor_ms}
    return State(rows, floors, oplog.logs(connection))


def told(state: State) -> tuple[Any, ...]:
    """What a person is shown, with the conflict inbox: must be byte-equal on devices in step."""
    shown = {name: (row[0], row[1], row[3], conflicts.conflicts(row)) for name, row in state.rows.items()}
    return shown, state.floors, document_state.digest((*name, row) for name, row in state.rows.items())


def applied_heads(state: State) -> dict[LogId, Head]:
    """Applied, not stored."""
    return applied_heads_of(state.logs)


def applied_heads_of(logs: Mapping[LogId, oplog.LogRow]) -> dict[LogId, Head]:
    """The same of log rows."""
    return {log: row.applied for log, row in logs.items() if row.applied.n}


# ---- checks of one replica ---------------------------------------------------------------------------------------
def check_replica(ledger: Ledger, state: State, void: int = 0) -> None:
    """At any moment: I9 and the order of stamps. Args: void: labels that were void at some time."""
    heads = applied_heads(state)
    mask = ledger.applied(heads)
    needed = 0
    for head in heads.values():
        known: Known | None = ledger.batches[head.hash]
        while known is not None:
            for number in known.labels:
                needed |= ledger.labels[number].seen
            known = ledger.batches.get(known.batch.prev)
    demand(not needed & ~mask & ~void, "I9", "applied before what its author had seen", needed & ~mask & ~void)
    for (collection, document), row in state.rows.items():
        demand((row[1] is not None) == (row[0] % 2 == 1), "I7", collection, document, row[0])


def check_stamps(ledger: Ledger) -> None:
    """I14: stamps rise through every log, on every branch."""
    for known in ledger.batches.values():
        below = ledger.batches.get(known.batch.prev)
        last = -1
        while below is not None and below.stamps[1] is None:
            below = ledger.batches.get(below.batch.prev)
        if below is not None:
            assert below.stamps[1] is not None
            last = below.stamps[1]
        for operation in known.operations:
            demand(operation.stamp > last, "I14", known.batch.log, known.batch.n)
            last = operation.stamp


def check_sizes(blobs: Iterable[bytes], allowed: frozenset[int]) -> None:
    """I13: ciphertexts have padded sizes only."""
    for blob in blobs:
        batch = parse_batch(blob)
        demand(len(batch.ciphertext) - 16 in allowed, "I13", "not a padded size", len(batch.ciphertext) - 16)


# ---- the oracle --------------------------------------------------------------------------------------------------
def valid_operations(ledger: Ledger, state: State) -> list[tuple[Label, Operation, tuple[int, LogId, int]]]:
    """What is applied, read from the applied chains: (label, operation, its dot)."""
    found = []
    for log, head in applied_heads(state).items():
        known: Known | None = ledger.batches[head.hash]
        while known is not None:
            for number, operation in zip(known.labels, known.operations, strict=True):
                found.append((ledger.labels[number], operation, (operation.stamp, log, known.batch.n)))
            known = ledger.batches.get(known.batch.prev)
    return found


def check_nothing_lost(ledger: Ledger, state: State) -> None:
    """I2: every write that was acknowledged is applied (the oracle tells: visible, covered or a sibling)."""
    mask = 0
    for label, _, _ in valid_operations(ledger, state):
        mask |= 1 << label.number
    lost = ledger.wanted() & ~mask
    for number in document_bits(lost):  # two deletes of one generation that got new stamps are not told apart
        if any(mask >> twin & 1 for twin in ledger.twins(number)):
            lost &= ~(1 << number)
    demand(not lost, "I2", "lost", [_told(ledger.labels[k]) for k in document_bits(lost)][:5])


def document_bits(mask: int) -> list[int]:
    """Indexes of the ones."""
    return [k for k in range(mask.bit_length()) if mask >> k & 1]


def _told(label: Label) -> str:
    return f"#{label.number} by {label.owner}: {label.operation}"


def covers(z: Operation, e: Operation, name: str, element: bytes | None) -> bool:
    """Does z, whose author had seen e, replace what e wrote to a field, or this element of it."""
    if z.kind in (CREATE, DELETE) and z.cl > e.cl:
        return True
    if z.cl < e.cl:
        return False
    if element is None:
        return name in z.puts
    return any(
        change.field == name and any(canonical(value) == element for value in (*change.adds, *change.removes))
        for change in z.sets
    )


def check_against_oracle(ledger: Ledger, state: State, *, exact: bool) -> int:
    """I6 and the other half of I2: the surviving entries by brute force over true knowledge. Returns open conflicts.

    exact: false where batches that others had applied became void: their writes count as unseen then, so an entry that
    was replaced may stay as a sibling; none may be missing all the same.
    """
    floors: dict[str, int] = {}
    groups: defaultdict[Name, list[tuple[Label, Operation, tuple[int, LogId, int]]]] = defaultdict(list)
    for item in valid_operations(ledger, state):
        operation = item[1]
        if operation.kind == FLOOR:
            floors[operation.collection] = max(operation.floor_ms, floors.get(operation.collection, 0))
        else:
            groups[operation.collection, operation.id].append(item)
    demand(state.floors == floors, "I6", "floors", state.floors, floors)
    for name in [n for n in groups if is_below_floor(n[1], floors.get(n[0], 0))]:
        del groups[name]
    demand(state.rows.keys() == groups.keys(), "I6", "documents", state.rows.keys() ^ groups.keys())
    total = 0
    for name, group in groups.items():
        row = state.rows[name]
        demand(row[0] == max(op.cl for _, op, _ in group), "I7", name, row[0])
        cells: dict[tuple[int, str], Cell] = {}
        possible: set[Entry] = set()
        for label, e, dot in group:
            bit = 1 << label.number
            later = [z for other, z, _ in group if other.seen & bit]
            for key, value in e.puts.items():
                possible.add((e.cl, key, dot, canonical(value)))
                if not any(covers(z, e, key, None) for z in later):
                    cells.setdefault((e.cl, key), Cell()).values[dot] = value
            for change in e.sets:
                for value in change.adds:
                    raw = canonical(value)
                    possible.add((e.cl, change.field, dot, raw))
                    if not any(covers(z, e, change.field, raw) for z in later):
                        cell = cells.setdefault((e.cl, change.field), Cell())
                        cell.elements.setdefault(raw, (value, []))[1].append(dot)
        got, wanted = _entries(document_state.unpack(row)), _entries(cells)
        if exact:
            demand(got == wanted, "I6", name, "extra", got - wanted, "missing", wanted - got)
        else:
            demand(wanted <= got <= possible, "I2", name, "missing", wanted - got, "invented", got - possible)
        total += _check_inbox(name, row)
    return total


def _entries(cells: Mapping[tuple[int, str], Cell]) -> set[Entry]:
    found: set[Entry] = set()
    for (cl, key), cell in cells.items():
        found |= {(cl, key, dot, canonical(value)) for dot, value in cell.values.items()}
        found |= {(cl, key, dot, raw) for raw, (_, dots) in cell.elements.items() for dot in dots}
    return found


def _check_inbox(name: Name, row: Row) -> int:
    """Each entry left is the shown value, equal to one told already, or told as a conflict, once."""
    cl, body, _, count = row
    shown: dict[str, Any] = {}
    expected: set[tuple[Any, ...]] = set()
    for (at, key), cell in document_state.unpack(row).items():
        values = {dot: canonical(value) for dot, value in cell.values.items()}
        latest = max(values, default=None)
        alive = at == cl
        if alive and cell.elements:
            shown[key] = [cell.elements[raw][0] for raw in sorted(cell.elements)]
        elif alive and latest:
            shown[key] = cell.values[latest]
        hidden = {values[latest]} if alive and latest else set()
        expected |= {(at, key, "value", raw) for raw in set(values.values()) - hidden}
        if not alive:
            expected |= {(at, key, "element", raw) for raw in cell.elements}
    listed = [(c.cl, c.field, c.kind, canonical(c.value)) for c in conflicts.conflicts(row)]
    demand(set(listed) == expected and len(listed) == len(expected) == count, "I6", name, listed, expected)
    told_body = document_state.decode_shown(body) if body is not None else {}
    wanted = shown if cl % 2 else {}
    same = told_body.keys() == wanted.keys() and all(canonical(told_body[k]) == canonical(wanted[k]) for k in wanted)
    demand(same, "I7", name, told_body, wanted)
    return count


# ---- checks between replicas -------------------------------------------------------------------------------------
def check_converged(states: Mapping[str, State]) -> None:
    """I1: the same is applied, so the same is there and the same is told."""
    (first, reference), *others = states.items()
    for name, state in others:
        mine, theirs = applied_heads(state), applied_heads(reference)
        differ = {k: (mine.get(k), theirs.get(k)) for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)}
        demand(not differ, "I1", "applied heads", first, name, differ)
        a, b = told(reference), told(state)
        demand(a[1] == b[1], "I1", "floors", first, name)
        odd = [k for k in a[0].keys() | b[0].keys() if a[0].get(k) != b[0].get(k)]
        demand(not odd, "I1", "documents", first, name, [(k, a[0].get(k), b[0].get(k)) for k in odd[:2]])
        demand(a[2] == b[2], "I1", "digest", first, name)


def replayed(
    blobs: Iterable[bytes], keys: Keys, now_ms: int, rng: random.Random, path: Path, make: Any,
    make_replica: Any = Replica,
) -> tuple[State, Any]:  # fmt: skip
    """I5: a fresh replica that gets the batches in another order, with the gaps that this makes.

    Args: make: (path) -> (database, vault): opens a new database file.
    """
    database, vault = make(path)
    replica = make_replica(vault)
    replica.keys = keys
    pool = [parse_batch(blob) for blob in blobs]
    rng.shuffle(pool)
    while pool:
        heads = {log: row.stored.n for log, row in oplog.logs(database.peek(lambda c: c)).items()}
        ready = [b for b in pool if b.n == heads.get(b.log, 0) + 1]
        demand(ready, "I1", "batches that hang on nothing", [(b.log, b.n) for b in pool][:5])
        take = ready[: rng.randint(1, len(ready))]
        items = [Incoming(batch) for batch in take]
        database.write_now(lambda tx, items=items: replica.receive(tx, items, now_ms, None))
        pool = [b for b in pool if b not in take]
    return state_of(database.peek(lambda c: c), vault), database


def dump(connection: Any) -> dict[str, set[str]]:
    """All rows that count, by table, to see whether something changed (I4)."""
    tables = ("document", "collection", "batch", "log", "pending", "evidence", "control", "meta", "alarm")
    return {table: set(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in tables}


def check_unchanged(before: Mapping[str, set[str]], connection: Any) -> None:
    """I4: what came again changed nothing."""
    after = dump(connection)
    for table, rows in before.items():
        demand(rows == after[table], "I4", table, rows ^ after[table])


def ends_of(closes: Iterable[tuple[LogId, End]]) -> dict[LogId, End]:
    """The earliest close of each log by (n, hash); what all branches share is the least of all closes."""
    found: dict[LogId, End] = {}
    for log, end in closes:
        other = found.get(log)
        if other is None:
            found[log] = end
        else:
            best = min(end, other, key=lambda e: (e.n, e.hash))
            found[log] = End(best.n, best.hash, min(end.fork, other.fork, best.n))
    return found
