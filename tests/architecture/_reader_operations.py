"""A second reader of bodies and of merge, from protocol/SPEC.md, "Values", "Stamps", "Operations" and "Merge", alone.

It imports none of our packages. A body is walked item by item, so that what it comes to depends on nothing but bytes.
"""

from __future__ import annotations

import math
import re
import struct
import uuid
from dataclasses import dataclass, field

from tests.architecture import _reader as reader
from tests.architecture._reader import MAX_INT, Refused
from tests.architecture._reader_walk import end, item, number, parts, read_map, scalar

MAX_STAMP = 2**63 - 1
DAY_MS = 86_400_000
CLOCK_BOUND_MS = 15 * 60_000
EDIT, CREATE, DELETE, FLOOR = 0, 1, 2, 5
KINDS = {EDIT, CREATE, DELETE, FLOOR}


class Void(Exception):
    """An operation that is skipped."""


# ---- canonical bytes -------------------------------------------------------------------------------------------------
def head(size: int, fix: int, below: int, forms: list[tuple[int, str, int]]) -> bytes:
    """The shortest head: a tag alone below *below*, else the first of (tag, form, end) that holds the size."""
    if size < below:
        return bytes([fix | size])
    tag, form, _ = next(choice for choice in forms if size < choice[2])
    return bytes([tag]) + struct.pack(">" + form, size)


def integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -32 <= value < 0:
        return struct.pack("b", value)
    signed = value < 0
    for tag, form, bits in zip(range(4), "bhiq" if signed else "BHIQ", (8, 16, 32, 64), strict=True):
        if (-(2 ** (bits - 1)) <= value) if signed else (value < 2**bits):
            return bytes([(0xD0 if signed else 0xCC) + tag]) + struct.pack(">" + form, value)
    raise Refused("an integer of more than 64 bits")


def canonical(value: object, *, domain: bool = True) -> bytes:
    """Canonical bytes. domain: refuse what is no value of a document (bytes, 64-bit integers, deep nesting)."""
    if domain and depth(value) > 32:
        raise Refused("nests too deep")
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case float() if not math.isfinite(value):
            raise Refused("not finite")
        case float() if not (value.is_integer() and abs(value) <= MAX_INT):
            return b"\xcb" + struct.pack(">d", value)
        case int() | float():
            if domain and abs(value) > MAX_INT:
                raise Refused("more than 53 bits")
            return integer(int(value))
        case str():
            raw = value.encode()
            return head(len(raw), 0xA0, 32, [(0xD9, "B", 2**8), (0xDA, "H", 2**16), (0xDB, "I", 2**32)]) + raw
        case bytes() if not domain:
            return head(len(value), 0, 0, [(0xC4, "B", 2**8), (0xC5, "H", 2**16), (0xC6, "I", 2**32)]) + value
        case list():
            items = [canonical(part, domain=domain) for part in value]
            return head(len(items), 0x90, 16, [(0xDC, "H", 2**16), (0xDD, "I", 2**32)]) + b"".join(items)
        case dict():
            pairs = sorted(
                (key.encode(), canonical(key) + canonical(item, domain=domain)) for key, item in value.items()
            )
            return head(len(pairs), 0x80, 16, [(0xDE, "H", 2**16), (0xDF, "I", 2**32)]) + b"".join(p for _, p in pairs)
    raise Refused(f"{type(value).__name__} is no value")


def depth(value: object) -> int:
    """A scalar 0, an array or map one more than the deepest thing in it."""
    inside = value if isinstance(value, list) else value.values() if isinstance(value, dict) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


# ---- names -----------------------------------------------------------------------------------------------------------
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_name(text: object, most: int) -> bool:
    return (
        isinstance(text, str) and 1 <= len(text.encode()) <= most and not any(c < " " or c == "\x7f" for c in text)
    )  # fmt: skip


def is_collection(text: object) -> bool:
    return isinstance(text, str) and len(text) <= 64 and re.fullmatch(r"[a-z][a-z0-9_.-]*", text) is not None


# ---- bodies ----------------------------------------------------------------------------------------------------------
@dataclass
class Operation:
    """One operation as it is applied."""

    kind: int
    stamp: int
    collection: str
    document: object = ""  # 16 bytes or text
    generation: int = 0
    puts: dict[str, object] = field(default_factory=dict)
    sets: list[tuple[str, list[object], list[object]]] = field(default_factory=list)
    floor_ms: int = 0


@dataclass
class Body:
    """What a body comes to."""

    deps: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    control: list[bytes] | None = None
    operations: list[Operation] = field(default_factory=list)
    void: list[int] = field(default_factory=list)
    unknown: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)


def read_body(data: bytes, log: int) -> Body:
    """A whole body. Raises: Refused: malformed."""
    held = dict(read_map(data))
    if end(data, 0) != len(data):
        raise Refused("bytes behind it")
    body = Body()
    if b"d" in held:
        body.deps = read_deps(held[b"d"], log)
    if b"c" in held:
        body.control = [read_hash(part) for part in parts(held[b"c"])]
        if len(body.control) > 4000:
            raise Refused("too many heads")
    stamp = number(held[b"t"], 0, MAX_STAMP) if b"t" in held else 0
    collections = [str(scalar(part, "text")) for part in parts(held[b"s"])] if b"s" in held else []
    shapes = [[str(scalar(p, "text")) for p in parts(shape)] for shape in parts(held[b"f"])] if b"f" in held else []
    for index, raw in enumerate(parts(held[b"x"]) if b"x" in held else []):
        items = parts(raw)
        if len(items) < 2:
            raise Refused("an operation of one item")
        kind = number(items[0], 0, 2**64)
        stamp += number(items[1], 1 if index else 0, MAX_STAMP)
        if stamp > MAX_STAMP:
            raise Refused("a stamp above 2^63 - 1")
        body.stamps.append(stamp)
        if kind not in KINDS:
            body.unknown.append((index, kind, stamp, raw))
            continue
        try:
            body.operations.append(read_operation(kind, stamp, items, collections, shapes))
        except (Void, Refused):
            body.void.append(index)
    return body


def read_hash(raw: bytes) -> bytes:
    value = scalar(raw, "bin")
    if not isinstance(value, bytes) or len(value) != 16:
        raise Refused("a hash has 16 bytes")
    return value


def read_deps(raw: bytes, own: int) -> dict[int, tuple[int, bytes]]:
    deps: dict[int, tuple[int, bytes]] = {}
    for entry in parts(raw):
        items = parts(entry)
        if len(items) != 3:
            raise Refused("a dependency is three items")
        log, n, digest = number(items[0], -(2**63), 2**63 - 1), number(items[1], 0, MAX_INT), read_hash(items[2])
        if log in deps or log == own or (n == 0 and any(digest)):
            raise Refused("a dependency twice, on itself, or on nothing")
        deps[log] = (n, digest)
    if len(deps) > 1024:
        raise Refused("too many dependencies")
    return deps


def read_operation(
    kind: int, stamp: int, items: list[bytes], collections: list[str], shapes: list[list[str]]
) -> Operation:
    """Raises: Void, Refused: it is skipped."""
    need(len(items) in {EDIT: (7, 8), CREATE: (7, 8), DELETE: (5,), FLOOR: (4,)}[kind])
    collection = collections[number(items[2], 0, len(collections) - 1)]
    need(is_collection(collection))
    if kind == FLOOR:
        floor = number(items[3], 0, (stamp >> 16) - DAY_MS)
        return Operation(kind, stamp, collection, floor_ms=floor)
    generation = number(items[4], 1, 2**31 - 1)
    need((generation % 2 == 0) == (kind == DELETE))
    made = Operation(kind, stamp, collection, read_document(items[3]), generation)
    if kind == DELETE:
        return made
    shape = shapes[number(items[5], 0, len(shapes) - 1)]
    values = parts(items[6])
    need(len(shape) == len(values))
    made.sets = [read_set(raw) for raw in parts(items[7])] if len(items) == 8 else []
    fields = [*shape, *(name for name, _, _ in made.sets)]
    need(len(set(fields)) == len(fields) and all(is_name(name, 128) for name in fields))
    made.puts = {name: read_value(raw) for name, raw in zip(shape, values, strict=True)}
    need(all(len(canonical(value)) <= 65_536 for value in made.puts.values()))
    elements = [canonical(element) for _, adds, removes in made.sets for element in (*adds, *removes)]
    need(len(elements) <= 1000 and all(len(element) <= 256 for element in elements))
    need(len(canonical(made.puts)) + sum(map(len, elements)) <= 131_072)
    return made


def need(holds: bool) -> None:
    if not holds:
        raise Void


def read_document(raw: bytes) -> object:
    if item(raw, 0).kind == "bin":
        value = scalar(raw, "bin")
        need(isinstance(value, bytes) and len(value) == 16)
        return value
    items = parts(raw)
    need(len(items) == 1)
    text = scalar(items[0], "text")
    need(is_name(text, 64) and UUID_TEXT.fullmatch(str(text)) is None)
    return text


def read_value(raw: bytes) -> object:
    """Null, booleans, numbers and text as they are; an array or map as an array of one bin of canonical bytes."""
    kind = item(raw, 0).kind
    if kind != "array":
        need(kind in ("nil", "bool", "int", "float", "text"))
        value = reader.read(raw)
        canonical(value)  # in the domain
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INT else value
    items = parts(raw)
    need(len(items) == 1)
    inside = scalar(items[0], "bin")
    assert isinstance(inside, bytes)
    need(len(inside) <= 65_536)
    value = reader.read(inside, canonical=True, binary=False)
    need(isinstance(value, list | dict))
    return value


def read_set(raw: bytes) -> tuple[str, list[object], list[object]]:
    items = parts(raw)
    need(len(items) == 3)
    adds, removes = ([read_value(part) for part in parts(side)] for side in items[1:])
    elements = [canonical(element) for element in (*adds, *removes)]
    need(len(set(elements)) == len(elements))
    return str(scalar(items[0], "text")), adds, removes


# ---- merge -----------------------------------------------------------------------------------------------------------
Dot = tuple[int, int, int]  # stamp, log, n


class Document:
    """Generation and cells of one document."""

    def __init__(self) -> None:
        self.generation = 0
        self.values: dict[tuple[int, str], dict[Dot, object]] = {}
        self.elements: dict[tuple[int, str], dict[bytes, tuple[object, set[Dot]]]] = {}

    def apply(self, made: Operation, log: int, n: int, seen: dict[int, int]) -> None:
        """Rules 1 to 4 of "Apply"."""

        def has_seen(dot: Dot) -> bool:
            return dot[2] <= seen.get(dot[1], 0) or (dot[1] == log and dot[0] < made.stamp)

        g, dot = made.generation, (made.stamp, log, n)
        self.generation = max(self.generation, g)
        if made.kind in (CREATE, DELETE):
            for (at, _), values in self.values.items():
                for held in [d for d in values if at < g and has_seen(d)]:
                    del values[held]
            for (at, _), elements in self.elements.items():
                for _, dots in elements.values():
                    dots.difference_update([d for d in dots if at < g and has_seen(d)])
        for name, value in made.puts.items():
            for (at, other), values in self.values.items():
                for held in [d for d in values if other == name and at <= g and has_seen(d)]:
                    del values[held]
            self.values.setdefault((g, name), {})[dot] = value
        for name, adds, removes in made.sets:
            for element in (*adds, *removes):
                raw = canonical(element)
                for (at, other), elements in self.elements.items():
                    if other == name and at <= g and raw in elements:
                        dots = elements[raw][1]
                        dots.difference_update([d for d in dots if has_seen(d)])
            for element in adds:
                cell = self.elements.setdefault((g, name), {})
                cell.setdefault(canonical(element), (element, set()))[1].add(dot)

    def cells(self) -> list[tuple[tuple[int, str], dict[Dot, object], dict[bytes, tuple[object, set[Dot]]]]]:
        """Cells that hold something, in order."""
        found = []
        for key in sorted({*self.values, *self.elements}):
            elements = {raw: (e, dots) for raw, (e, dots) in self.elements.get(key, {}).items() if dots}
            if self.values.get(key) or elements:
                found.append((key, self.values.get(key, {}), elements))
        return found

    def shown(self) -> dict[str, object] | None:
        if self.generation % 2 == 0:
            return None
        fields: dict[str, object] = {}
        for (at, name), values, elements in self.cells():
            if at == self.generation:
                fields[name] = [elements[raw][0] for raw in sorted(elements)] if elements else values[max(values)]
        return fields

    def conflicts(self) -> list[dict[str, object]]:
        """In the order and with the names of the golden file; `winner` is what the field shows."""
        found: list[dict[str, object]] = []
        shown = self.shown() or {}

        def tell(key: tuple[int, str], kind: str, dot: Dot, value: object) -> None:
            found.append(
                {
                    "generation": key[0], "field": key[1], "kind": kind, "stamp": str(dot[0]), "log": str(dot[1]),
                    "n": dot[2], "value": value, "buried": key[0] < self.generation,
                }
                | ({"winner": shown[key[1]]} if key[1] in shown else {})
            )  # fmt: skip

        for key, values, elements in self.cells():
            buried = key[0] < self.generation
            told: set[bytes] = set()
            for place, dot in enumerate(sorted(values, reverse=True)):
                raw = canonical(values[dot])
                if raw not in told and (buried or place > 0):
                    tell(key, "value", dot, values[dot])
                told.add(raw)
            for raw in sorted(elements) if buried else ():
                tell(key, "element", max(elements[raw][1]), elements[raw][0])
        return found

    def digest(self, collection: str, document: object) -> int:
        cells = [
            [
                at, name,
                [[list(dot), values[dot]] for dot in sorted(values)],
                [[raw, [list(dot) for dot in sorted(elements[raw][1])]] for raw in sorted(elements)],
            ]
            for (at, name), values, elements in self.cells()
        ]  # fmt: skip
        raw = canonical([collection, document, self.generation, cells], domain=False)
        return int.from_bytes(reader.blake(raw, 16, "hgw-doc"), "big")


# ---- the golden file -------------------------------------------------------------------------------------------------
def check(vectors: dict) -> None:
    """All of protocol/vectors/operations.json. Raises: AssertionError, Refused."""
    for case in vectors["values"]["cases"]:
        raw = bytes.fromhex(case["bytes"])
        assert canonical(case["value"]) == raw, case["name"]
        assert canonical(reader.read(raw, canonical=True, binary=False)) == raw, case["name"]
    for case in vectors["values"]["refused"]:
        refused(lambda raw: canonical(reader.read(raw, binary=False)), case, "bad_value")
    check_stamps(vectors["stamps"])
    for case in vectors["document_times"]:
        assert document_time(from_text(case["document"])) == case["time_ms"], case
    log = int(vectors["bodies"]["log"])
    for case in vectors["bodies"]["cases"]:
        check_body(read_body(bytes.fromhex(case["bytes"]), log), case)
    for case in vectors["bodies"]["void"]:
        body = read_body(bytes.fromhex(case["bytes"]), log)
        assert body.void == [0], case["name"]
        assert [made.document for made in body.operations] == ["other"], case["name"]
    for case in vectors["bodies"]["refused"]:
        refused(lambda raw: read_body(raw, log), case, "malformed_body")
    for case in vectors["merge"]:
        check_merge(case)


def refused(read: object, case: dict, code: str) -> None:
    assert case["code"] == code
    try:
        read(bytes.fromhex(case["bytes"]))  # type: ignore[operator]
    except Refused:
        return
    raise AssertionError(case["name"])


def check_stamps(stamps: dict) -> None:
    for case in stamps["given"]:
        assert int(case["first"]) == max(int(case["clock"]) + 1, case["now_ms"] * 2**16)
    for case in stamps["parked"]:
        assert case["parked"] == (int(case["stamp"]) // 2**16 > case["now_ms"] + CLOCK_BOUND_MS)


def from_text(document: str) -> object:
    return uuid.UUID(document).bytes if UUID_TEXT.fullmatch(document) else document


def to_text(document: object) -> object:
    return str(uuid.UUID(bytes=document)) if isinstance(document, bytes) else document


def document_time(document: object) -> int | None:
    """Unix ms of a version 7 UUID."""
    if isinstance(document, bytes) and document[6] >> 4 == 7 and document[8] >> 6 == 2:
        return int.from_bytes(document[:6], "big")
    return None


def told(made: Operation) -> dict[str, object]:
    """An operation as the golden file has it."""
    start: dict[str, object] = {"kind": made.kind, "stamp": str(made.stamp), "collection": made.collection}
    if made.kind == FLOOR:
        return start | {"floor_ms": made.floor_ms}
    start |= {"document": to_text(made.document), "generation": made.generation}
    return start if made.kind == DELETE else start | {"puts": made.puts, "sets": [list(change) for change in made.sets]}


def check_body(body: Body, case: dict) -> None:
    name = case["name"]
    assert [[str(log), n, digest.hex()] for log, (n, digest) in sorted(body.deps.items())] == case["deps"], name
    assert (None if body.control is None else [c.hex() for c in body.control]) == case["control"], name
    assert canonical([told(made) for made in body.operations]) == canonical(case["operations"]), name
    assert body.void == case["void"], name
    unknown = [{"index": i, "kind": kind, "stamp": str(s), "bytes": raw.hex()} for i, kind, s, raw in body.unknown]
    assert unknown == case["unknown"], name
    assert (str(body.stamps[0]) if body.stamps else None) == case["first_stamp"], name
    assert (str(body.stamps[-1]) if body.stamps else None) == case["last_stamp"], name


def check_merge(case: dict) -> None:
    """Every order leads to the same."""
    for order in case["orders"]:
        document = Document()
        for step in (case["steps"][at] for at in order):
            made = Operation(
                step["kind"], int(step["stamp"]), step["collection"], from_text(step["document"]), step["generation"],
                step.get("puts", {}), [(name, adds, removes) for name, adds, removes in step.get("sets", [])],
            )  # fmt: skip
            document.apply(made, int(step["log"]), step["n"], {int(log): n for log, n in step["seen"]})
        assert document.generation == case["generation"], case["name"]
        assert document.shown() == case["shown"], case["name"]
        assert canonical(document.conflicts()) == canonical(case["conflicts"]), case["name"]
        first = case["steps"][0]
        digest = document.digest(first["collection"], from_text(first["document"]))
        assert digest.to_bytes(16, "big").hex() == case["digest"], case["name"]
