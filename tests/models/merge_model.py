"""Executable reference model of merge and log: the oracle of the product. Plain Python, no I/O, independent of the
product and of the hash seed.

Reading order: 1 values, 2 operations and batches, 3 document state (the whole CRDT), 4 control records, 5 replica
(write, seal, receive, ends of logs, snapshots, repair), 6 local requests.
Checks: merge_checks.py. Seeded faults, each of which the checks must catch: merge_mutants.py, which edits the text of
this file.

The state is a function of the set of valid operations and of what each of them had seen:
  * an operation removes the entries it covers AND has seen, then adds its own entries;
  * an entry of a generation below the document's generation is a sibling ("buried"), never lost;
  * a sibling goes when somebody who has seen it writes its field (put), its element (add, remove) or the whole
    document (create, delete; also delete again). There is no other way to dismiss one.
Names: stamp = hybrid clock (ms << 16 | counter); log = signed 64-bit id of one device log; n = batch number in a log,
from 1, gapless; cl = generation of a document (odd alive, even deleted); vv = {log: n} of applied batches.
"""

from __future__ import annotations

import copy
import hashlib
import math
import struct
from dataclasses import dataclass, field, replace
from typing import NamedTuple

STAMP_BITS, DAY_MS, CLOCK_BOUND_MS = 16, 86_400_000, 15 * 60_000
BATCH_OPS = 3  # stands for the 64 KiB that a body should have
SAFE_INT, MAX_DEPTH, MAX_ELEMENT = 2**53 - 1, 32, 256
CL_LIMIT = 2**31  # first generation number that is void; the last valid one is alive


# ---- 1. Values -----------------------------------------------------------------------------------------------
def canonical(value, depth: int = 0) -> bytes:
    """Canonical msgpack bytes; ValueError outside the domain. Values are equal exactly if these bytes are."""
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if type(value) is float and math.isfinite(value) and value.is_integer() and abs(value) <= SAFE_INT:
        value = int(value)  # 1.0 is 1, -0.0 is 0
    if type(value) is int:
        if abs(value) > SAFE_INT:
            raise ValueError("integer beyond 2^53-1")
        return pack_int(value)
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError("not finite")
        return b"\xcb" + struct.pack(">d", value)
    if type(value) is str:
        raw = value.encode("utf-8")  # UnicodeEncodeError (a ValueError) for a lone surrogate
        return pack_head(len(raw), 0xA0, 32, b"\xd9", b"\xda", b"\xdb") + raw
    if type(value) not in (list, tuple, dict):
        raise ValueError(f"type {type(value).__name__}")
    if depth >= MAX_DEPTH:
        raise ValueError("too deep")
    if type(value) is not dict:
        return pack_head(len(value), 0x90, 16, None, b"\xdc", b"\xdd") + b"".join(
            canonical(x, depth + 1) for x in value
        )
    if any(type(key) is not str for key in value):
        raise ValueError("map keys are text")
    keys = sorted(value, key=lambda key: key.encode("utf-8"))
    return pack_head(len(keys), 0x80, 16, None, b"\xde", b"\xdf") + b"".join(
        canonical(key) + canonical(value[key], depth + 1) for key in keys
    )


def pack_int(x: int) -> bytes:
    """Shortest form; a non-negative integer always in an unsigned form."""
    if -32 <= x < 128:
        return struct.pack(">b", x)
    if x > 0:
        for mark, fmt, top in ((b"\xcc", ">B", 8), (b"\xcd", ">H", 16), (b"\xce", ">I", 32), (b"\xcf", ">Q", 64)):
            if x < 1 << top:
                return mark + struct.pack(fmt, x)
    for mark, fmt, top in ((b"\xd0", ">b", 7), (b"\xd1", ">h", 15), (b"\xd2", ">i", 31), (b"\xd3", ">q", 63)):
        if x >= -(1 << top):
            return mark + struct.pack(fmt, x)
    raise ValueError(x)


def pack_head(size, fix, fix_limit, mark8, mark16, mark32) -> bytes:
    if size < fix_limit:
        return bytes([fix | size])
    if mark8 and size < 1 << 8:
        return mark8 + struct.pack(">B", size)
    return mark16 + struct.pack(">H", size) if size < 1 << 16 else mark32 + struct.pack(">I", size)


# ---- 2. Operations and batches -------------------------------------------------------------------------------
class Doc(NamedTuple):
    """id: text, or 16 bytes; those of version 7 carry their time."""

    collection: str
    id: object


class Dot(NamedTuple):
    """Identity and order of one operation. Tuple order (stamp, then log as SIGNED integer) decides the winner."""

    stamp: int
    log: int
    n: int


class Change(NamedTuple):
    """One change of an operation: put (register), add or remove (set element)."""

    kind: str
    field: str
    value: object


@dataclass(frozen=True)
class Op:
    """One logged operation: at most one per document and transaction.
    kind: edit (odd cl) | create (odd cl, full content) | delete (even cl, no changes) | floor."""

    kind: str
    doc: Doc = Doc("", "")
    cl: int = 0
    stamp: int = 0
    changes: tuple = ()
    floor_ms: int = 0
    label: int = 0  # trace of the test only, not on the wire


def same_bytes(op: Op) -> str:
    """Equal for two copies of one operation, whichever batch they are in."""
    return repr(replace(op, label=0))


def is_void_by_rule(op: Op) -> bool:
    """The same answer on every device; a void operation is skipped, the rest of its batch applies."""
    try:
        if op.kind == "floor":
            return not 0 <= op.floor_ms <= (op.stamp >> STAMP_BITS) - DAY_MS
        if op.kind not in ("edit", "create", "delete") or type(op.cl) is not int or not 1 <= op.cl < CL_LIMIT:
            return True
        if op.kind == "delete":
            return op.cl % 2 == 1 or bool(op.changes)
        if op.cl % 2 == 0:
            return True
        subjects = [subject(change) for change in op.changes]
        registers = {change.field for change in op.changes if change.kind == "put"}
        return (
            len(set(subjects)) < len(subjects)
            or any(change.kind != "put" and change.field in registers for change in op.changes)
            or any(is_void_change(change) for change in op.changes)
        )
    except (ValueError, TypeError):
        return True


def is_void_change(change: Change) -> bool:
    size = len(canonical(change.value))
    return change.kind not in ("put", "add", "remove") or (change.kind != "put" and size > MAX_ELEMENT)


def subject(change: Change) -> tuple:
    """What a change is about: a field, or an element of a set."""
    return (change.field, None if change.kind == "put" else canonical(change.value))


class Head(NamedTuple):
    n: int
    hash: bytes


EMPTY = Head(0, b"")


class Trace:
    """What only the checks know; `clear` before each history, so that each can be run again alone."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.nonce, self.label, self.seen_by_writer = 0, 0, {}  # label -> labels the writer had applied

    def next_nonce(self) -> int:
        self.nonce += 1
        return self.nonce

    def next_label(self) -> int:
        self.label += 1
        return self.label


trace = Trace()


@dataclass(frozen=True)
class Batch:
    """Signed unit of transport. deps = {other log: Head} applied by the writer; own earlier batches are implied."""

    log: int
    n: int
    prev: bytes
    deps: dict
    ops: tuple
    secret: bool = False
    hash: bytes = b""

    @staticmethod
    def sealed(log, n, prev, deps, ops, secret=False) -> Batch:
        """Two seals of the same content are two different batches."""
        text = repr((log, n, prev, sorted(deps.items()), ops, secret, trace.next_nonce())).encode()
        return Batch(log, n, prev, deps, tuple(ops), secret, hashlib.blake2b(text, digest_size=16).digest())


# ---- 3. Document state: the whole CRDT -----------------------------------------------------------------------
@dataclass
class Cell:
    """One field of one generation."""

    values: dict = field(default_factory=dict)  # {Dot: value}; shown: greatest dot, the others are siblings
    elements: dict = field(default_factory=dict)  # {canonical bytes: {Dot: element}}; present while a dot is left

    def forget_all(self, seen) -> None:
        self.forget_values(seen)
        for key in list(self.elements):
            self.forget_element(key, seen)

    def forget_values(self, seen) -> None:
        self.values = {dot: value for dot, value in self.values.items() if not seen(dot)}

    def forget_element(self, key: bytes, seen) -> None:
        left = {dot: value for dot, value in self.elements.pop(key, {}).items() if not seen(dot)}
        if left:
            self.elements[key] = left

    def is_empty(self) -> bool:
        return not (self.values or self.elements)


@dataclass
class Document:
    cl: int = 0
    cells: dict = field(default_factory=dict)  # {(cl, field): Cell}, cl odd; cl below the document's: buried


def time_of(doc: Doc):
    """Milliseconds in a version 7 UUID; None for every other id: those do not obey the floor."""
    raw = doc.id
    is_timed = isinstance(raw, bytes) and raw[6] >> 4 == 7 and raw[8] >> 6 == 2
    return int.from_bytes(raw[:6], "big") if is_timed else None


class State:
    def __init__(self):
        self.docs, self.floors = {}, {}

    def is_below_floor(self, doc: Doc) -> bool:
        time = time_of(doc)
        return time is not None and time < self.floors.get(doc.collection, 0)

    def apply(self, op: Op, dot: Dot, vv_seen: dict) -> None:
        """Total: no operation can fail. vv_seen = what the writer had applied of other logs."""
        if op.kind == "floor":
            self.raise_floor(op.doc.collection, op.floor_ms)
            return
        if self.is_below_floor(op.doc):
            return
        doc = self.docs.setdefault(op.doc, Document())

        def seen(other: Dot) -> bool:
            return other.n <= vv_seen.get(other.log, 0) or (other.log == dot.log and other.stamp < dot.stamp)

        doc.cl = max(doc.cl, op.cl)
        if op.kind in ("create", "delete"):  # writes the whole document: covers every lower generation
            for (cl, _), cell in doc.cells.items():
                if cl < op.cl:
                    cell.forget_all(seen)
        for change in op.changes:
            self.apply_change(doc, op.cl, change, dot, seen)
        doc.cells = {key: cell for key, cell in doc.cells.items() if not cell.is_empty()}

    def apply_change(self, doc: Document, cl: int, change: Change, dot: Dot, seen) -> None:
        """A put covers the values, an add or remove the element, of its field in its own and every LOWER generation."""
        own = doc.cells.setdefault((cl, change.field), Cell())
        same_field = [cell for (c, f), cell in doc.cells.items() if f == change.field and c <= cl]
        if change.kind == "put":
            for cell in same_field:
                cell.forget_values(seen)
            own.values[dot] = change.value
        else:
            key = canonical(change.value)
            for cell in same_field:
                cell.forget_element(key, seen)
            if change.kind == "add":
                own.elements.setdefault(key, {})[dot] = change.value

    def raise_floor(self, collection: str, floor_ms: int) -> None:
        self.floors[collection] = max(self.floors.get(collection, 0), floor_ms)
        self.docs = {doc: d for doc, d in self.docs.items() if not self.is_below_floor(doc)}

    def merge(self, other: State, mine: dict, theirs: dict) -> None:
        """State merge: other is the state at vv `theirs`, self at vv `mine`. An entry that one side lacks although
        its vv contains it was removed there, so it goes."""

        def entries(a: dict, b: dict) -> dict:
            kept = {d: v for d, v in a.items() if d in b or d.n > theirs.get(d.log, 0)}
            return kept | {d: v for d, v in b.items() if d in a or d.n > mine.get(d.log, 0)}

        for name in {**other.docs, **self.docs}:
            a, b = self.docs.setdefault(name, Document()), other.docs.get(name, Document())
            a.cl = max(a.cl, b.cl)
            for key in {**a.cells, **b.cells}:
                x, y = a.cells.get(key, Cell()), b.cells.get(key, Cell())
                elements = {
                    e: entries(x.elements.get(e, {}), y.elements.get(e, {})) for e in {**x.elements, **y.elements}
                }
                a.cells[key] = Cell(entries(x.values, y.values), {e: dots for e, dots in elements.items() if dots})
            a.cells = {key: cell for key, cell in a.cells.items() if not cell.is_empty()}
        for collection, floor_ms in other.floors.items():
            self.raise_floor(collection, floor_ms)
        for collection in self.floors:
            self.raise_floor(collection, 0)

    def view(self) -> tuple[dict, list]:
        """What a person sees: ({doc: {field: value}}, [conflicts]). Equal values are no conflict: they are hidden
        here, their dots stay in the state."""
        shown, conflicts = {}, []
        for name, doc in self.docs.items():
            if doc.cl % 2:
                shown[name] = {}
            for (cl, fld), cell in doc.cells.items():
                alive = cl == doc.cl
                winner = max(cell.values) if cell.values and alive else None
                told = {canonical(cell.values[winner])} if winner else set()
                for dot in sorted(cell.values, reverse=True):
                    raw = canonical(cell.values[dot])
                    if dot != winner and raw not in told:
                        told.add(raw)
                        conflicts.append((name, cl, fld, "value", raw))
                if alive:
                    if cell.elements:
                        shown[name][fld] = frozenset(cell.elements)
                    elif winner:
                        shown[name][fld] = cell.values[winner]
                else:
                    conflicts += [(name, cl, fld, "element", raw) for raw in cell.elements]
        return shown, sorted(conflicts, key=repr)


# ---- 4. Control records --------------------------------------------------------------------------------------
class Close(NamedTuple):
    """The log ends at `tip`; batches not on the chain to it are void. fork = last n that all branches have in common;
    None for a plain cut, where nobody signed two batches for one place."""

    log: int
    tip: Head
    fork: int | None = None


class Trim(NamedTuple):
    """Batches up to `heads` may be dropped: an endorsed snapshot stands for them."""

    heads: tuple  # ((log, Head), ...)


@dataclass
class Snapshot:
    heads: dict  # {log: Head}
    state: State
    last_stamp: dict  # {log: stamp}: stamps rise across the snapshot too
    chain: dict  # {(log, n): hash}; needed only above a fork point
    known: set = field(default_factory=set)  # trace of the test only


# ---- 5. Replica ----------------------------------------------------------------------------------------------
class ApiError(Exception):
    """A local request that is refused with nothing written."""


class Replica:
    def __init__(self, log: int):
        self.log, self.now, self.stamp = log, 0, 0
        self.batches, self.children = {}, {}  # {hash: Batch}; {(log, prev): [Batch]}: may hold forks
        self.closes, self.trims, self.snapshots = [], [], []
        self.open, self.authored, self.known = [], [], set()
        self.reset()

    def reset(self) -> None:
        self.state, self.heads, self.last_stamp, self.chain = State(), {}, {}, {}

    def vv(self) -> dict:
        return {log: head.n for log, head in self.heads.items()}

    # -- local writes and sealing
    def write(self, requests: list) -> None:
        """One transaction: coalesce per document, number the operations, apply them, keep them as open batches."""
        ops = coalesce(self.state, requests)
        if len(ops) > BATCH_OPS:
            raise ApiError("too big")
        stamp = max(self.stamp + 1, self.now << STAMP_BITS)
        ops = [replace(op, stamp=stamp + i, label=trace.next_label()) for i, op in enumerate(ops)]
        if any(is_void_by_rule(op) for op in ops):
            raise ApiError("bad value")
        self.stamp = max(self.stamp, stamp + len(ops) - 1)
        n = self.slot_for(ops)
        for op in ops:
            trace.seen_by_writer[op.label] = frozenset(self.known)
            self.apply_op(op, Dot(op.stamp, self.log, n), self.vv())
            self.open[n - self.head(self.log).n - 1][1].append(op)

    def slot_for(self, ops: list) -> int:
        """The batch number is fixed when the write is made; all open batches share the same deps."""
        secret = any(op.doc.collection == "settings" for op in ops)
        if not self.open or self.open[-1][0] != secret or len(self.open[-1][1]) + len(ops) > BATCH_OPS:
            self.open.append((secret, []))
        return self.head(self.log).n + len(self.open)

    def seal(self) -> None:
        """Each open number becomes exactly one batch."""
        open_batches, self.open = self.open, []
        deps = {log: head for log, head in self.heads.items() if log != self.log}
        for secret, ops in open_batches:
            if ops:
                head = self.head(self.log)
                batch = Batch.sealed(self.log, head.n + 1, head.hash, deps, ops, secret)
                self.authored.append(batch)
                self.keep(batch)
                self.advance(batch)

    # -- receiving
    def receive(self, batch: Batch) -> None:
        """A batch already held changes nothing."""
        if batch.hash not in self.batches and batch.n > self.trimmed(batch.log):
            self.keep(batch)
            self.drain()

    def keep(self, batch: Batch) -> None:
        self.batches[batch.hash] = batch
        self.children.setdefault((batch.log, batch.prev), []).append(batch)

    def drain(self) -> None:
        progress = True
        while progress:
            progress = False
            for log in sorted({batch.log for batch in self.batches.values()}):
                while (batch := self.next_of(log)) and self.is_ready(batch):
                    self.seal_before_apply()
                    if batch is not self.next_of(log):
                        break  # sealing moved our own log (fork of our own log)
                    deps = self.clamped(batch)
                    for op in batch.ops:
                        if not is_void_by_rule(op):
                            self.apply_op(op, Dot(op.stamp, log, batch.n), deps)
                        self.stamp = max(self.stamp, op.stamp)
                    self.advance(batch)
                    progress = True

    def seal_before_apply(self) -> None:
        """deps must not claim what the writer of the open operations had not seen."""
        self.seal()

    def next_of(self, log: int) -> Batch | None:
        """The next batch on the valid chain; in an undecided fork the branch that came first."""
        head, end = self.head(log), self.end_of(log)
        for batch in self.children.get((log, head.hash), []):
            if batch.n == head.n + 1 and (end is None or self.chain_to(log, end).get(batch.n) == batch.hash):
                return batch
        return None

    def is_ready(self, batch: Batch) -> bool:
        """Causal; a batch whose stamps do not rise ends its log; beyond the clock bound: parked."""
        stamps = [self.last_stamp.get(batch.log, -1)] + [op.stamp for op in batch.ops]
        if any(a >= b for a, b in zip(stamps, stamps[1:])):
            return False
        if (stamps[-1] >> STAMP_BITS) > self.now + CLOCK_BOUND_MS:
            return False
        deps = self.clamped(batch)
        return deps is not None and all(self.head(log).n >= n for log, n in deps.items())

    def clamped(self, batch: Batch) -> dict | None:
        """What the writer had seen of the VALID chains: a dependency that is not on the chain of a closed log counts as
        seen up to the fork point (plain cut: up to the end). None: cannot be told yet, wait."""
        result = {}
        for log, (n, digest) in batch.deps.items():
            end = self.end_of(log)
            if end is None:
                if self.chain.get((log, n)) != digest:
                    return None
                result[log] = n
            else:
                valid = self.chain_to(log, end).get(n)
                if n <= end.tip.n and valid is None:
                    return None  # the chain from the tip down to n is not held yet
                result[log] = n if digest == valid else min(n, end.fork)
        return result

    def apply_op(self, op: Op, dot: Dot, vv_seen: dict) -> None:
        self.state.apply(op, dot, vv_seen)
        self.known.add(op.label)

    def advance(self, batch: Batch) -> None:
        self.heads[batch.log] = Head(batch.n, batch.hash)
        self.chain[(batch.log, batch.n)] = batch.hash
        if batch.ops:
            self.last_stamp[batch.log] = batch.ops[-1].stamp

    def head(self, log: int) -> Head:
        return self.heads.get(log, EMPTY)

    # -- the wire: what is stored counts, applied or not
    def stored_heads(self) -> dict:
        """Asked for by these: gapless and chain-verified."""
        result = dict(self.heads)
        for log in sorted({batch.log for batch in self.batches.values()}):
            while found := self.children.get((log, result.get(log, EMPTY).hash)):
                result[log] = Head(found[0].n, found[0].hash)
        return result

    def credit_for(self, batch: Batch) -> int:
        """Credit goes back when the batch is durable, not when it is applied."""
        return 1 if batch.hash in self.batches else 0

    # -- ends of logs, void, rebuild
    def end_of(self, log: int) -> Close | None:
        """The earliest close counts, but never below, nor off, the chain that a trim has fixed."""
        closes = [c for c in self.closes if c.log == log]
        if not closes:
            return None
        end = min(closes, key=lambda c: (c.tip.n, c.tip.hash))
        fixed = max((dict(t.heads).get(log, EMPTY) for t in self.trims), default=EMPTY)
        if fixed.n > end.tip.n or (fixed.n and self.chain_to(log, end).get(fixed.n, fixed.hash) != fixed.hash):
            end = end._replace(tip=fixed)
        return end._replace(fork=min([c.fork for c in closes if c.fork is not None] + [end.tip.n]))

    def chain_to(self, log: int, end: Close) -> dict:
        """{n: hash} of the chain that ends at end.tip, as far down as it is held; below that a loaded snapshot's."""
        result, (n, digest), below = {}, end.tip, self.base_chain()
        while n and (digest in self.batches or below.get((log, n)) == digest):
            result[n] = digest
            n -= 1
            digest = self.batches[digest].prev if digest in self.batches else below.get((log, n), b"")
        return result

    def base_chain(self) -> dict:
        return {k: h for snap in self.snapshots for k, h in snap.chain.items()}

    def trimmed(self, log: int) -> int:
        return max((dict(t.heads).get(log, EMPTY).n for t in self.trims if self.holds(t)), default=0)

    def holds(self, trim: Trim) -> bool:
        return any(tuple(sorted(s.heads.items())) == trim.heads for s in self.snapshots)

    def learn(self, record: Close | Trim) -> None:
        """Any order of records leads to the same ends; a change of an end rebuilds the state (own writes sealed first)."""
        self.seal()
        before = {c.log: self.end_of(c.log) for c in self.closes}
        records = self.closes if isinstance(record, Close) else self.trims
        if record not in records:
            records.append(record)
        if before != {c.log: self.end_of(c.log) for c in self.closes}:
            self.rebuild()

    def rebuild(self) -> None:
        self.seal()
        self.reset()
        for snapshot in self.snapshots:
            if self.may_load(snapshot):
                self.absorb(snapshot)
        self.drain()

    def drop_trimmed(self) -> None:
        """Only with a trim record and with its snapshot at hand."""
        for digest in [d for d, b in self.batches.items() if b.n <= self.trimmed(b.log)]:
            batch = self.batches.pop(digest)
            self.children[(batch.log, batch.prev)].remove(batch)

    # -- snapshots
    def snapshot(self) -> Snapshot:
        self.seal()
        return copy.deepcopy(Snapshot(self.heads, self.state, self.last_stamp, self.chain, self.known))

    def may_load(self, snapshot: Snapshot) -> bool:
        """A snapshot beyond an effective end, or off its chain, is refused."""
        for log, head in snapshot.heads.items():
            end = self.end_of(log)
            if end and (head.n > end.tip.n or self.chain_to(log, end).get(head.n, head.hash) != head.hash):
                return False
        return True

    def load(self, snapshot: Snapshot) -> bool:
        if not self.may_load(snapshot):
            return False
        self.seal()
        self.snapshots.append(snapshot)
        self.absorb(snapshot)
        self.drain()
        return True

    def absorb(self, snapshot: Snapshot) -> None:
        other = copy.deepcopy(snapshot)
        self.state.merge(other.state, self.vv(), {log: head.n for log, head in other.heads.items()})
        for log, head in other.heads.items():
            if head.n > self.head(log).n:
                self.heads[log], self.last_stamp[log] = head, other.last_stamp[log]
        self.chain |= other.chain
        self.known |= other.known
        self.stamp = max([self.stamp, *other.last_stamp.values()])

    # -- log repair
    def fork_proof(self) -> bool:
        """Two valid batches of ONE place in our own log: the only thing that starts a repair on our own."""
        return any(log == self.log and len(found) > 1 for (log, _), found in self.children.items())

    def close_own_log(self, tip: Head) -> Close:
        """tip = end of the branch others hold. It must lie beyond the fork, so that one of the branches survives;
        if it does not, the longest foreign branch we have proof of is named. fork = last batch all branches have."""
        mine = self.branch_to(self.head(self.log).hash)
        leaves = [self.branch_to(b.hash) for b in self.batches.values() if b.log == self.log]
        foreign = [branch for branch in leaves if not set(branch.items()) <= set(mine.items())]
        common = [n for n in mine if all(branch.get(n, mine[n]) == mine[n] for branch in foreign)]
        fork = max((n for n in common if all(k in common for k in range(1, n))), default=0)
        if tip.n <= fork:
            best = max(foreign, key=lambda branch: (len(branch), max(branch.items())))
            tip = Head(*max(best.items()))
        return Close(self.log, tip, fork)

    def branch_to(self, digest: bytes) -> dict:
        result = {}
        while digest:
            if digest not in self.batches:
                return {}  # a hole: not gapless, so no proof yet
            result[self.batches[digest].n] = digest
            digest = self.batches[digest].prev
        return result

    def repair(self, new_log: int) -> None:
        """Our log was closed: seal the void operation lists again, in order, as the first batches of a new log, with
        original stamps (new ones only beyond the clock bound) and original deps, our old log cut to the last valid
        batch before them. Dropped: `floor`, and an operation that the winning branch has too, byte for byte (it was
        open when the copy was made, so both machines sealed it)."""
        self.seal()
        old, self.log = self.log, new_log
        chain = set(self.chain_to(old, self.end_of(old)).values())
        void = [batch for batch in self.authored if batch.log == old and batch.hash not in chain]
        base = Head(void[0].n - 1, void[0].prev) if void else EMPTY
        won = {
            same_bytes(op)
            for digest in chain & self.batches.keys()
            if self.batches[digest].n > base.n
            for op in self.batches[digest].ops
        }
        self.authored = [batch for batch in self.authored if batch not in void]
        self.stamp = max([0, *self.last_stamp.values()])  # a clock disaster of ours does not go on in the new log
        head, last_stamp = self.head(new_log), 0
        for batch in void:
            ops = []
            for op in batch.ops:
                if op.kind != "floor" and same_bytes(op) not in won:
                    if (op.stamp >> STAMP_BITS) > self.now + CLOCK_BOUND_MS:
                        op = replace(op, stamp=max(last_stamp + 1, self.now << STAMP_BITS))
                    last_stamp = op.stamp
                    ops.append(op)
            if ops:
                deps = batch.deps | ({old: base} if base.n else {})
                again = Batch.sealed(new_log, head.n + 1, head.hash, deps, ops, batch.secret)
                head = Head(again.n, again.hash)
                self.authored.append(again)
                self.keep(again)
        self.drain()


# ---- 6. Local requests to operations: coalescing -------------------------------------------------------------
def coalesce(state: State, requests: list) -> list:
    """At most one operation per document and transaction; the last word on each field or element counts.
    Requests: (put|add|remove, doc, field, value) (create, doc, [(put|add, field, value)]) (delete, doc)
    (floor, collection, ms)."""
    drafts: dict = {}
    for name, *rest in requests:
        if name == "floor":
            drafts[rest[0]] = Op("floor", Doc(rest[0], ""), floor_ms=max(rest[1], drafts.get(rest[0], Op("")).floor_ms))
            continue
        doc = rest[0]
        time = time_of(doc)
        if state.is_below_floor(doc) or time is not None and time < drafts.get(doc.collection, Op("")).floor_ms:
            raise ApiError("below the floor")
        draft = drafts.get(doc) or Op("edit", doc, state.docs.get(doc, Document()).cl)
        alive = draft.cl % 2 == 1
        if name == "create":
            if alive:
                raise ApiError("exists")
            draft, changes = Op("create", doc, draft.cl + 1), rest[1]
        elif name == "delete":  # a deleted document: the same cl again, covers what came since
            draft, changes = Op("delete", doc, draft.cl + 1 if alive else draft.cl), []
        else:
            changes = [(name, *rest[1:])]
        if draft.cl == 0 or (changes and draft.cl % 2 == 0):
            raise ApiError("deleted")
        for change in changes:
            draft = with_change(draft, Change(*change))
        drafts[doc] = draft
    return list(drafts.values())


def with_change(draft: Op, change: Change) -> Op:
    try:
        rest = tuple(c for c in draft.changes if subject(c) != subject(change))
    except (ValueError, TypeError):
        raise ApiError("bad value") from None
    return replace(draft, changes=(*rest, change))
