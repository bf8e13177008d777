"""A model replica that carries the product along: after every operation both must say the same.

What is compared: local requests made into operations, bodies read back from the wire (hostile ones too), the packed row
of the document with all its hidden entries, what is shown, and the conflict list. Every history of merge_checks.py runs
on it, and seeded faults of the product (merge_product_mutants.py) must be caught by it.
"""

from __future__ import annotations

import struct
from types import ModuleType
from typing import NamedTuple

from hybridgw_daemon.core import body, conflicts, document_state, merge, operations
from hybridgw_daemon.core.operations import CREATE, DELETE, EDIT, FLOOR, Operation, SetChange
from hybridgw_daemon.core.uuid7 import is_below_floor
from hybridgw_protocol.batch import Head
from hybridgw_protocol.codec import canonical, normalise
from hybridgw_protocol.errors import LocalError
from tests.models import merge_model

KINDS = {"edit": EDIT, "create": CREATE, "delete": DELETE, "floor": FLOOR, "unknown": 6}


class Product(NamedTuple):
    """The modules under test; merge_product_mutants.py makes others."""

    merge: ModuleType = merge
    state: ModuleType = document_state
    conflicts: ModuleType = conflicts


# ---- model to product ------------------------------------------------------------------------------------------------
def to_operation(op: merge_model.Op) -> Operation:
    """A valid model operation."""
    puts = {change.field: normalise(change.value) for change in op.changes if change.kind == "put"}
    fields = dict.fromkeys(change.field for change in op.changes if change.kind != "put")
    sets = tuple(
        SetChange(
            name,
            tuple(normalise(c.value) for c in op.changes if c.field == name and c.kind == "add"),
            tuple(normalise(c.value) for c in op.changes if c.field == name and c.kind == "remove"),
        )
        for name in fields
    )
    return Operation(KINDS[op.kind], op.doc.collection, op.doc.id, op.cl, op.stamp, puts, sets, op.floor_ms)


def to_requests(requests: list) -> list[operations.Request]:
    """Requests of merge_model.coalesce."""
    made: list[operations.Request] = []
    for name, *rest in requests:
        if name == "floor":
            made.append(operations.RaiseFloor(*rest))
        elif name == "create":
            puts = {field: value for kind, field, value in rest[1] if kind == "put"}
            sets: dict[str, list] = {}
            for kind, field, value in rest[1]:
                if kind == "add":
                    sets.setdefault(field, []).append(value)
            made.append(operations.Create(*rest[0], puts, sets))
        elif name == "delete":
            made.append(operations.Delete(*rest[0]))
        elif name == "put":
            made.append(operations.Edit(*rest[0], puts={rest[1]: rest[2]}))
        else:
            made.append(operations.Edit(*rest[0], **{name + "s": {rest[1]: [rest[2]]}}))
    return made


# ---- a body as a member that does not check would write it -----------------------------------------------------------
def pack(value: object) -> bytes:
    """msgpack of anything, valid or not: lone surrogates, NaN, keys of any type."""
    if isinstance(value, bool) or value is None:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value) if value < 2**63 else struct.pack(">BQ", 0xCF, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return struct.pack(">BI", 0xDB, len(raw)) + raw
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, dict):
        return struct.pack(">BI", 0xDF, len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(pack, value))


def wire_value(value: object) -> object:
    """An array or map as [its canonical bytes], or, where it has none, [some msgpack]."""
    if not isinstance(value, (list, dict)):
        return value
    try:
        return [merge_model.canonical(value)]
    except ValueError:
        return [pack(value)]


def hostile_body(ops: tuple) -> bytes:
    """The wire form of any operations, with nothing checked and no integer in its short form."""
    collections, shapes, wire, last = [], [], [], None
    for op in ops:
        if op.doc.collection not in collections:
            collections.append(op.doc.collection)
        delta = 0 if last is None else op.stamp - last
        last = op.stamp
        head = [KINDS[op.kind], delta, collections.index(op.doc.collection)]
        if op.kind == "floor":
            wire.append([*head, op.floor_ms])
            continue
        head += [op.doc.id if isinstance(op.doc.id, bytes) else [op.doc.id], op.cl]
        puts = [change for change in op.changes if change.kind == "put"]
        sets = [
            [c.field, [wire_value(c.value)] * (c.kind == "add"), [wire_value(c.value)] * (c.kind == "remove")]
            for c in op.changes
            if c.kind != "put"
        ]
        if op.kind == "delete" and not op.changes:
            wire.append(head)
            continue
        shapes.append([change.field for change in puts])
        wire.append([*head, len(shapes) - 1, [wire_value(c.value) for c in puts], *([merged(sets)] if sets else [])])
    first = ops[0].stamp if ops else 0
    return pack({"t": first, "s": collections, "f": shapes, "x": wire})


def merged(sets: list) -> list:
    """Changes of one field joined; a repeated element stays repeated."""
    fields: dict[str, list] = {}
    for name, adds, removes in sets:
        entry = fields.setdefault(name, [name, [], []])
        entry[1] += adds
        entry[2] += removes
    return list(fields.values())


# ---- the replica -----------------------------------------------------------------------------------------------------
class ProductReplica(merge_model.Replica):
    """Applies everything to rows of the product as well, and compares."""

    product = Product()

    def reset(self) -> None:
        super().reset()
        self.rows: dict = {}
        self.floors: dict = {}

    def write(self, requests: list) -> None:
        first = max(self.stamp + 1, self.now << merge_model.STAMP_BITS)
        try:
            made = operations.coalesce(
                to_requests(requests),
                first_stamp=first,
                generation=lambda *doc: self.rows[doc][0] if doc in self.rows else 0,
                floor_ms=lambda collection: self.floors.get(collection, 0),
            )
        except LocalError:
            made = None
        refused = None
        try:
            super().write(requests)
        except merge_model.ApiError as error:
            refused = error
        if refused is not None:
            assert made is None or str(refused) == "too big", (requests, made)
            raise refused
        assert made is not None, requests
        written = [op for _, ops in self.open for op in ops if op.stamp >= first]
        assert list(map(operations.fingerprint, made)) == [operations.fingerprint(to_operation(op)) for op in written]

    def keep(self, batch: merge_model.Batch) -> None:
        check_body(batch, self.batches.get(batch.prev))
        super().keep(batch)

    def apply_op(self, op: merge_model.Op, dot: merge_model.Dot, vv_seen: dict) -> None:
        super().apply_op(op, dot, vv_seen)
        if op.kind == "floor":
            collection = op.doc.collection
            self.floors[collection] = max(self.floors.get(collection, 0), op.floor_ms)
            self.drop_below_floor()
            assert self.rows.keys() == self.state.docs.keys()
        elif not is_below_floor(op.doc.id, self.floors.get(op.doc.collection, 0)):
            self.rows[op.doc] = self.product.merge.apply(self.rows.get(op.doc), to_operation(op), tuple(dot), vv_seen)
            self.check_row(op.doc)
        else:
            assert op.doc not in self.state.docs

    def absorb(self, snapshot: merge_model.Snapshot) -> None:
        """State merge is the model's alone; the product goes on from its result."""
        super().absorb(snapshot)
        self.floors = dict(self.state.floors)
        self.rows = {
            name: self.product.state.pack(doc.cl, self.cells_of(name)) for name, doc in self.state.docs.items()
        }
        for name in self.rows:
            self.check_row(name)

    def drop_below_floor(self) -> None:
        floors = self.floors
        self.rows = {d: row for d, row in self.rows.items() if not is_below_floor(d.id, floors.get(d.collection, 0))}

    def cells_of(self, name: merge_model.Doc) -> dict:
        cells = {}
        for key, cell in self.state.docs[name].cells.items():
            made = cells[key] = self.product.state.Cell()
            made.values = {tuple(dot): normalise(value) for dot, value in cell.values.items()}
            made.elements = {
                raw: (normalise(next(iter(dots.values()))), list(map(tuple, dots)))
                for raw, dots in cell.elements.items()
            }
        return cells

    def check_row(self, name: merge_model.Doc) -> None:
        """The row says what the model says: state, what is shown, conflicts."""
        row, doc = self.rows[name], self.state.docs[name]
        assert row[0] == doc.cl
        assert (row[1] is None) == (doc.cl % 2 == 0)
        assert plain(self.product.state.unpack(row)) == plain(self.cells_of(name)), name
        alone = merge_model.State()
        alone.docs = {name: doc}
        shown, listed = alone.view()
        sets = self.product.state.set_fields(row)
        fields = self.product.state.decode_shown(row[1]) if row[1] is not None else {}
        told = {f: [canonical(x) for x in v] if f in sets else canonical(v) for f, v in fields.items()}
        wanted = {f: sorted(v) if isinstance(v, frozenset) else canonical(v) for f, v in shown.get(name, {}).items()}
        assert told == wanted, name
        found = self.product.conflicts.conflicts(row)
        assert row[3] == len(found)
        told_conflicts = [(name, c.cl, c.field, c.kind, canonical(c.value)) for c in found]
        assert sorted(told_conflicts, key=repr) == listed, name
        assert all(c.buried == (c.cl != doc.cl) for c in found)

    def same_as(self, other: ProductReplica) -> None:
        """Two replicas in step: equal bytes of what is shown, equal digests."""
        assert self.floors == other.floors
        assert {d: row[:2] for d, row in self.rows.items()} == {d: row[:2] for d, row in other.rows.items()}
        assert self.digest() == other.digest()

    def digest(self) -> bytes:
        return self.product.state.digest((*name, row) for name, row in self.rows.items())


def plain(cells: dict) -> dict:
    return {
        key: (
            {dot: canonical(value) for dot, value in cell.values.items()},
            {raw: (canonical(element), sorted(dots)) for raw, (element, dots) in cell.elements.items()},
        )
        for key, cell in cells.items()
        if cell.values or cell.elements
    }


def check_body(batch: merge_model.Batch, before: merge_model.Batch | None) -> None:
    """What a body says after the wire is what the model put in; the same is void, and the same way of reading it."""
    stamps = [op.stamp for op in batch.ops]
    raw = hostile_body(batch.ops)
    if any(a >= b for a, b in zip(stamps, stamps[1:], strict=False)):
        for read in (body.decode_body, body.decode_body_exactly):
            try:
                read(raw, batch.log)
            except body.MalformedBody:
                continue
            raise AssertionError("stamps that do not rise were read")
        return
    void = [i for i, op in enumerate(batch.ops) if op.kind != "unknown" and merge_model.is_void_by_rule(op)]
    valid = [to_operation(op) for op in batch.ops if not merge_model.is_void_by_rule(op)]
    read_back = body.decode_body(raw, batch.log)
    assert read_back.void == void, (batch.ops, read_back.void)
    assert prints(read_back.operations) == prints(valid)
    assert [op.index for op in read_back.unknown] == [i for i, op in enumerate(batch.ops) if op.kind == "unknown"]
    assert body.decode_body_exactly(raw, batch.log) == read_back
    heads = {log: Head(*head) for log, head in batch.deps.items()}
    past = {log: Head(*head) for log, head in before.deps.items()} if before else {}
    written = body.encode_body(valid, body.deps_delta(past, heads))
    again = body.decode_body(written, batch.log)
    assert prints(again.operations) == prints(valid)
    assert body.apply_deps(past, again.deps) == heads
    assert (not again.void, again.unknown, again.control) == (True, [], None)
    assert (read_back.first_stamp, read_back.last_stamp) == ((stamps[0], stamps[-1]) if stamps else (None, None))


def prints(made: list[Operation]) -> list[bytes]:
    return list(map(operations.fingerprint, made))
