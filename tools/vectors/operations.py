"""Golden bytes of values, stamps and bodies, and what merging certain operations leads to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from hybridgw_daemon.core import hlc
from hybridgw_daemon.core.body import Body, decode_body, decode_body_exactly, encode_body
from hybridgw_daemon.core.conflicts import Conflict, conflicts
from hybridgw_daemon.core.document_state import Row, digest
from hybridgw_daemon.core.merge import apply
from hybridgw_daemon.core.operations import CREATE, DELETE, EDIT, FLOOR, Operation, SetChange, check_operation
from hybridgw_daemon.core.uuid7 import document_time_ms, new_uuid7
from hybridgw_protocol.batch import EMPTY_HEAD, Head
from hybridgw_protocol.codec import canonical, normalise
from hybridgw_protocol.errors import RemoteError
from hybridgw_protocol.ids import LogId, format_document_id
from hybridgw_protocol.limits import CLOCK_BOUND_MS

LOG = LogId(7)
NOW_MS = 1_700_000_000_000
STAMP = NOW_MS << 16
UUID = bytes(range(16))
TIMED = new_uuid7(NOW_MS, bytes(range(10)))

_pack = msgspec.msgpack.Encoder().encode


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    return {
        "about": 'Values, stamps, bodies and merge; protocol/SPEC.md, "Values", "Stamps", "Operations" and "Merge". '
        "Stamps and log ids are decimal text, since JSON readers lose digits of them; a log id is signed. A UUID as "
        "document id is in its text form.",
        "values": {
            "cases": [{"name": n, "value": v, "bytes": canonical(v)} for n, v in _VALUES],
            "refused": _NO_VALUES,
        },
        "stamps": _stamps(),
        "document_times": [
            {"document": format_document_id(document), "time_ms": document_time_ms(document)}
            for document in (TIMED, new_uuid7(0, b"\xff" * 10), UUID, bytes(6) + b"\x70" + bytes(9), "theme")
        ],
        "bodies": {
            "log": str(LOG),
            "cases": [*(_written(*case) for case in _WRITTEN), *(_read(name, raw) for name, raw in _read_only())],
            "void": [_void(name, wire) for name, wire in _VOID.items()],
            "refused": [_refused(name, raw) for name, raw in _malformed()],
        },
        "merge": [_merged(*case) for case in _MERGED],
    }


# ---- values and stamps -----------------------------------------------------------------------------------------------
_VALUES: list[tuple[str, Any]] = [
    ("null", None),
    ("false", False),
    ("true", True),
    *((str(x), x) for x in (0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1)),
    *((str(x), x) for x in (-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**53) + 1)),
    ("1.0 is 1", 1.0),
    ("minus zero is 0", -0.0),
    ("2^53 - 1 as a float", 2.0**53 - 1),
    ("2^53 stays a float", 2.0**53),
    ("a float", 1.5),
    ("the smallest float", 5e-324),
    ("the greatest float", 1.7976931348623157e308),
    ("empty text", ""),
    ("text", "abc"),
    ("not normalised: composed", "\u00e9"),
    ("not normalised: combining", "e\u0301"),
    ("beyond the basic plane", "\U0001f600"),
    ("NUL", "a\0b"),
    ("31 bytes", "x" * 31),
    ("32 bytes", "x" * 32),
    ("256 bytes", "x" * 256),
    ("empty array", []),
    ("array", [1, 1.0, True, "1", None]),
    ("array of 16", list(range(16))),
    ("empty map", {}),
    ("keys by their bytes", {"b": 1, "a": 2, "\u00e9": 3, "aa": 4, "": 5, "\uffff": 6, "\U00010000": 7}),
    ("nested", {"k": [{"j": [1.0, {}]}]}),
    ("32 deep", msgspec.msgpack.decode(b"\x91" * 32 + b"\x01")),
]

_NO_VALUES: list[dict[str, object]] = [
    {"name": name, "bytes": bytes.fromhex(raw), "code": "bad_value"}
    for name, raw in (
        ("2^53", "cf0020000000000000"),
        ("-2^53", "d3ffe0000000000000"),
        ("NaN", "cb7ff8000000000000"),
        ("infinity", "cb7ff0000000000000"),
        ("bytes", "c40161"),
        ("extension", "d40500"),
        ("time", "d6ff00000000"),
        ("a lone surrogate", "a3eda080"),
        ("text that is not UTF-8", "a2c328"),
        ("33 deep", "91" * 33 + "01"),
        ("a key that is a number", "810102"),
        ("a key that is null", "81c002"),
    )
]


def _stamps() -> dict[str, object]:
    cases = [(0, NOW_MS, 1), (STAMP, NOW_MS, 3), (STAMP + 5, NOW_MS - 1000, 1), (STAMP + 0xFFFF, NOW_MS, 1), (0, -1, 1)]
    edge = (NOW_MS + CLOCK_BOUND_MS + 1) << 16
    return {
        "given": [
            {"clock": str(last), "now_ms": now_ms, "count": count, "first": str(hlc.tick(last, now_ms, count))}
            for last, now_ms, count in cases
        ],
        "parked": [
            {"stamp": str(stamp), "now_ms": NOW_MS, "parked": hlc.is_ahead(stamp, NOW_MS)}
            for stamp in (STAMP, edge - 1, edge)
        ],
    }


# ---- bodies ----------------------------------------------------------------------------------------------------------
_CREATE = Operation(CREATE, "tasks", UUID, 1, STAMP, {"title": "Buy milk", "done": False, "rank": 1.5})
_WRITTEN: list[tuple[str, list[Operation], Mapping[LogId, Head], list[bytes] | None]] = [
    ("nothing", [], {}, None),
    ("one create", [_CREATE], {}, None),
    (
        "all kinds",
        [
            _CREATE,
            Operation(CREATE, "tasks", TIMED, 1, STAMP + 1, {"title": "b", "done": True, "rank": -70_000}),
            Operation(EDIT, "settings", "theme", 3, STAMP + 2, {"dark": None, "size": {"w": [1, 2], "h": {}}}),
            Operation(EDIT, "tasks", UUID, 1, STAMP + (5 << 16), {}, (SetChange("tags", ("home", 1, [True]), ("x",)),)),
            Operation(DELETE, "tasks", TIMED, 2, STAMP + (6 << 16)),
            Operation(FLOOR, "tasks", "", 0, STAMP + (6 << 16) + 1, floor_ms=NOW_MS - 86_400_000),
        ],
        {LogId(-5): Head(3, bytes(range(16))), LogId(2**63 - 1): Head(2**40, b"\xff" * 16), LogId(9): EMPTY_HEAD},
        [bytes(16), b"\x01" * 16],
    ),
    ("dependencies alone", [], {LogId(-(2**63)): Head(1, b"h" * 16)}, []),
    ("the last generation", [Operation(EDIT, "tasks", "d", 2**31 - 1, 2**63 - 1, {"a": 1})], {}, None),
    (
        "U+0080 and U+0085 are no control characters",
        [Operation(CREATE, "tasks", "next\x85line", 1, STAMP, {"pad\x80": 1}, (SetChange("next\x85", (1,), ()),))],
        {},
        None,
    ),
    (
        "a UUID in upper case is text",
        [Operation(CREATE, "tasks", format_document_id(TIMED).upper(), 1, STAMP, {"a": 1})],
        {},
        None,
    ),
]

_GOOD = [EDIT, 5, 0, ["other"], 1, 0, ["kept"]]


def _wire(*operations: object, **changed: object) -> dict[str, object]:
    return {"t": STAMP, "s": ["tasks", "Bad Name"], "f": [["a"], ["a", "a"], ["b\n"]], "x": [*operations]} | changed


def _put(value: object) -> list[object]:
    return [EDIT, 0, 0, UUID, 1, 0, [value]]


def _set(*changes: object) -> list[object]:
    return [*_put(1), [*changes]]


def _raw(text: str) -> msgspec.Raw:
    """msgpack put in as it is."""
    return msgspec.Raw(bytes.fromhex(text))


def _map(*pairs: tuple[object, object]) -> bytes:
    """A map of any keys, also equal ones."""
    return bytes([0x80 | len(pairs)]) + b"".join(_pack(part) for pair in pairs for part in pair)


def _read_only() -> list[tuple[str, bytes]]:
    """Bodies that our writer does not write, and that are read all the same."""
    table: list[tuple[object, object]] = [("s", ["tasks"]), ("f", [["a"]])]
    create = [CREATE, 0, 0, UUID, 1, 0, ["x"]]
    long_forms = "dd00000007 d200000001 cf0000000000000000 cd0000 c50010" + UUID.hex() + "d001 00 dc0001 da000178"
    return [
        (
            "a key that is not known, a key that is not text at all",
            _map((_raw("a2fffe"), _raw("9191a1ff")), ("t", STAMP), *table, ("x", [create])),
        ),
        ("of equal keys the last", _map(("t", "no"), ("x", 1), ("s", ["no"]), ("t", STAMP), *table, ("x", [create]))),
        ("kinds that are not known", _pack(_wire([3, 0], _GOOD, [7, 1, {"any": _raw("a1ff")}], [2**40, 1]))),
        ("long forms", _pack(_wire(_raw(long_forms)))),
        ("a float that is an integer", _pack(_wire(_put(1.0)))),
        ("a float of 32 bits", _pack(_wire(_put(_raw("ca3dcccccd"))))),
        ("a first delta that is not 0", _pack(_wire(_GOOD))),
        ("a base stamp without operations", _pack({"t": STAMP})),
    ]


_VOID: dict[str, object] = {
    "an item too few": [DELETE, 0, 0, UUID],
    "an item too many": [DELETE, 0, 0, UUID, 2, 0],
    "no such collection": [DELETE, 0, 2, UUID, 2],
    "collection -1": [DELETE, 0, -1, UUID, 2],
    "a collection name that is not valid": [DELETE, 0, 1, UUID, 2],
    "no such shape": [EDIT, 0, 0, UUID, 1, 3, [1]],
    "a shape with a field twice": [EDIT, 0, 0, UUID, 1, 1, [1, 2]],
    "a field name with a line break": [EDIT, 0, 0, UUID, 1, 2, [1]],
    "more values than fields": [EDIT, 0, 0, UUID, 1, 0, [1, 2]],
    "fewer values than fields": [EDIT, 0, 0, UUID, 1, 0, []],
    "an id of 15 bytes": [DELETE, 0, 0, bytes(15), 2],
    "an id that is text alone": [DELETE, 0, 0, "theme", 2],
    "an id that is a UUID as text": [DELETE, 0, 0, [format_document_id(UUID)], 2],
    "an empty id": [DELETE, 0, 0, [""], 2],
    "an id of 65 bytes": [DELETE, 0, 0, ["x" * 65], 2],
    "an id with a control character": [DELETE, 0, 0, ["a\x7f"], 2],
    "an id that is not UTF-8": [DELETE, 0, 0, [_raw("a1ff")], 2],
    "generation 0": [EDIT, 0, 0, UUID, 0, 0, [1]],
    "an edit of an even generation": [EDIT, 0, 0, UUID, 2, 0, [1]],
    "a delete of an odd generation": [DELETE, 0, 0, UUID, 1],
    "generation 2^31": [DELETE, 0, 0, UUID, 2**31],
    "generation 2^31 + 1": [CREATE, 0, 0, UUID, 2**31 + 1, 0, [1]],
    "generation 1.0": [EDIT, 0, 0, UUID, 1.0, 0, [1]],
    "NaN": _put(_raw("cb7ff8000000000000")),
    "infinity": _put(_raw("ca7f800000")),
    "2^53": _put(2**53),
    "-2^53": _put(-(2**53)),
    "bytes": _put(b"a"),
    "extension": _put(_raw("d40500")),
    "text that is not UTF-8": _put(_raw("a2c328")),
    "a lone surrogate": _put(_raw("a3eda080")),
    "a map that stands as a map": _put({"a": 1}),
    "an array that stands as an array": _put([1, 2]),
    "a scalar in a bin": _put([b"\x01"]),
    "a bin that is not canonical: a long number": _put([b"\x91\xcc\x01"]),
    "a bin that is not canonical: a float for an integer": _put([bytes.fromhex("91cb3ff0000000000000")]),
    "a bin that is not canonical: a float of 32 bits": _put([bytes.fromhex("91ca3fc00000")]),
    "a bin that is not canonical: keys out of order": _put([bytes.fromhex("82a16201a16101")]),
    "a bin that is not canonical: a key twice": _put([bytes.fromhex("82a16101a16101")]),
    "a bin with more behind": _put([b"\x91\x01\x01"]),
    "a bin that is cut short": _put([b"\x92\x01"]),
    "33 deep": _put([b"\x91" * 33 + b"\x01"]),
    "a field that is a register and a set": _set(["a", [1], []]),
    "a set twice": _set(["s", [1], []], ["s", [2], []]),
    "an element twice": _set(["s", [1, 1.0], []]),
    "an element added and removed": _set(["s", [1], [1]]),
    "an element of 257 bytes": _set(["s", ["x" * 255], []]),
    "1,001 elements": _set(["s", list(range(1001)), []]),
    "a set change without removes": _set(["s", [1]]),
    "a floor of less than a day": [FLOOR, 0, 0, NOW_MS - 86_400_000 + 1],
    "a floor below 0": [FLOOR, 0, 0, -1],
}


def _malformed() -> list[tuple[str, bytes]]:
    create, later = [EDIT, 0, 0, UUID, 1, 0, [1]], [EDIT, 1, 0, UUID, 1, 0, [1]]
    digest_ = b"h" * 16
    return [
        ("nothing", b""),
        ("no map", b"\x90"),
        ("bytes behind it", b"\x80\x00"),
        ("cut short", _pack(_wire(create))[:-1]),
        ("the byte c1", b"\x81\xa1q\xc1"),
        ("a key that is a number", _map((1, 2))),
        ("a key of bytes", _map((b"t", 2))),
        ("a base stamp that is a float", _pack({"t": 1.0})),
        ("a negative base stamp", _pack({"t": -1})),
        ("a base stamp of 64 bits", _pack({"t": 2**63})),
        ("a stamp of 64 bits", _pack(_wire(create, later, t=2**63 - 1))),
        ("a stamp that does not rise", _pack(_wire(create, create))),
        ("a stamp that falls", _pack(_wire(create, [EDIT, -1, 0, UUID, 1, 0, [1]]))),
        ("a stamp that does not rise after a void operation", _pack(_wire([EDIT, 0], [9, 0]))),
        ("a first delta below 0", _pack(_wire([EDIT, -1, 0, UUID, 1, 0, [1]]))),
        ("operations that are no array", _pack({"x": {}})),
        ("an operation that is no array", _pack(_wire(create, 1))),
        ("an operation of one item", _pack(_wire(create, [EDIT]))),
        ("a kind that is text", _pack(_wire(["0", 0]))),
        ("a negative kind", _pack(_wire([-1, 0]))),
        ("a delta that is a float", _pack(_wire([EDIT, 0.0]))),
        ("a collection that is a number", _pack({"s": [1]})),
        ("a collection that is not UTF-8", _pack({"s": [_raw("a1ff")]})),
        ("a shape that is text", _pack({"f": ["a"]})),
        ("a dependency on the log itself", _pack({"d": [[LOG, 1, digest_]]})),
        ("a dependency twice", _pack({"d": [[1, 1, digest_], [1, 2, digest_]]})),
        ("a dependency of four items", _pack({"d": [[1, 1, digest_, 0]]})),
        ("a dependency with a hash of 15 bytes", _pack({"d": [[1, 1, bytes(15)]]})),
        ("a dependency on nothing that has a hash", _pack({"d": [[1, 0, digest_]]})),
        ("a dependency on batch 2^53", _pack({"d": [[1, 2**53, digest_]]})),
        ("a log of 65 bits", _pack({"d": [[2**63, 1, digest_]]})),
        ("control heads that are null", _pack({"c": None})),
        ("a control head of 32 bytes", _pack({"c": [bytes(32)]})),
    ]


def _written(
    name: str, made: list[Operation], deps: Mapping[LogId, Head], control: list[bytes] | None
) -> dict[str, Any]:
    for operation in made:
        check_operation(operation)
    raw = encode_body(made, deps, control)
    found = _told(name, raw)
    if decode_body(raw, LOG).operations != made:
        raise AssertionError(f"{name}: not what was written")
    return found | {"written": True}


def _read(name: str, raw: bytes) -> dict[str, Any]:
    return _told(name, raw) | {"written": False}


def _void(name: str, operation: object) -> dict[str, Any]:
    """The operation alone in a body, before one that is valid."""
    raw = _pack(_wire(operation, _GOOD))
    if _body(raw).void != [0]:
        raise AssertionError(f"{name}: not void")
    return {"name": name, "bytes": raw}


def _refused(name: str, raw: bytes) -> dict[str, Any]:
    for way in (decode_body, decode_body_exactly):
        try:
            way(raw, LOG)
        except RemoteError as error:
            code = error.code
        else:
            raise AssertionError(f"{name}: not refused")
    return {"name": name, "bytes": raw, "code": code}


def _body(raw: bytes) -> Body:
    body = decode_body(raw, LOG)
    if decode_body_exactly(raw, LOG) != body:
        raise AssertionError("two ways of reading, two outcomes")
    return body


def _told(name: str, raw: bytes) -> dict[str, Any]:
    body = _body(raw)
    return {
        "name": name,
        "bytes": raw,
        "deps": [[str(log), head.n, head.short or bytes(16)] for log, head in sorted(body.deps.items())],
        "control": None if body.control is None else list(body.control),
        "operations": [_operation(operation) for operation in body.operations],
        "void": body.void,
        "unknown": [
            {"index": op.index, "kind": op.kind, "stamp": str(op.stamp), "bytes": op.raw} for op in body.unknown
        ],
        "first_stamp": None if body.first_stamp is None else str(body.first_stamp),
        "last_stamp": None if body.last_stamp is None else str(body.last_stamp),
    }


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": operation.kind,
        "stamp": str(operation.stamp),
        "collection": operation.collection,
    }
    if operation.kind == FLOOR:
        return told | {"floor_ms": operation.floor_ms}
    told |= {"document": format_document_id(operation.id), "generation": operation.cl}
    if operation.kind != DELETE:
        told |= {
            "puts": operation.puts,
            "sets": [[change.field, list(change.adds), list(change.removes)] for change in operation.sets],
        }
    return told


# ---- merge -----------------------------------------------------------------------------------------------------------
A, B, C = LogId(5), LogId(-6), LogId(7)
_Step = tuple[LogId, int, Operation, dict[LogId, int]]


def _op(
    kind: int, cl: int, stamp: int, puts: dict[str, Any] | None = None, sets: Mapping[str, Any] | None = None
) -> Operation:
    changes = tuple(SetChange(name, tuple(adds), tuple(removes)) for name, (adds, removes) in (sets or {}).items())
    return Operation(kind, "tasks", UUID, cl, stamp, normalise(puts or {}), changes)


_BEGIN: _Step = (A, 1, _op(CREATE, 1, 1, {"a": 1, "b": 1}, {"s": (["milk"], [])}), {})
_MERGED: list[tuple[str, list[_Step]]] = [
    ("one write", [_BEGIN]),
    (
        "knowledge beats a greater stamp",
        [_BEGIN, (B, 1, _op(EDIT, 1, 9, {"a": 2}), {A: 1}), (A, 2, _op(EDIT, 1, 3, {"a": 3}), {B: 1})],
    ),
    (
        "concurrent writes: the greatest stamp is shown, the others are conflicts",
        [
            _BEGIN,
            (B, 1, _op(EDIT, 1, 9, {"a": 2}), {A: 1}),
            (A, 2, _op(EDIT, 1, 3, {"a": 3}), {}),
            (C, 1, _op(EDIT, 1, 8, {"a": 4}), {A: 1}),
        ],
    ),
    (
        "equal stamps: the greater signed log id is shown",
        [_BEGIN, (B, 1, _op(EDIT, 1, 9, {"a": 2}), {A: 1}), (C, 1, _op(EDIT, 1, 9, {"a": 3}), {A: 1})],
    ),
    (
        "different fields do not conflict",
        [_BEGIN, (B, 1, _op(EDIT, 1, 9, {"a": 2}), {A: 1}), (A, 2, _op(EDIT, 1, 3, {"b": 3}), {})],
    ),
    (
        "equal values are no conflict",
        [(A, 1, _op(CREATE, 1, 1, {"a": 1}), {}), (B, 1, _op(CREATE, 1, 2, {"a": 1.0}), {})],
    ),
    (
        "null is a value",
        [_BEGIN, (B, 1, _op(EDIT, 1, 9, {"a": None}), {A: 1}), (C, 1, _op(EDIT, 1, 8, {"a": 4}), {A: 1})],
    ),
    (
        "an add wins over a remove that had not seen it",
        [
            _BEGIN,
            (B, 1, _op(EDIT, 1, 9, None, {"s": ([], ["milk"])}), {A: 1}),
            (C, 1, _op(EDIT, 1, 4, None, {"s": (["milk", "eggs", 3, True], [])}), {A: 1}),
        ],
    ),
    (
        "a delete takes what it has seen",
        [_BEGIN, (B, 1, _op(DELETE, 2, 5), {A: 1})],
    ),
    (
        "a delete buries what it has not seen",
        [
            _BEGIN,
            (B, 1, _op(DELETE, 2, 5), {A: 1}),
            (C, 1, _op(EDIT, 1, 9, {"a": 2}, {"s": (["eggs"], [])}), {A: 1}),
        ],
    ),
    (
        "the delete again lets go of it",
        [
            _BEGIN,
            (B, 1, _op(DELETE, 2, 5), {A: 1}),
            (C, 1, _op(EDIT, 1, 9, {"a": 2}, {"s": (["eggs"], [])}), {A: 1}),
            (B, 2, _op(DELETE, 2, 20), {A: 1, C: 1}),
        ],
    ),
    (
        "made again: what is buried waits",
        [
            _BEGIN,
            (B, 1, _op(DELETE, 2, 5), {A: 1}),
            (C, 1, _op(EDIT, 1, 9, {"a": 2, "c": 7}, {"s": (["eggs"], [])}), {A: 1}),
            (B, 2, _op(CREATE, 3, 6, {"a": 5}), {A: 1}),
        ],
    ),
    (
        "made again, and the field written with knowledge of it",
        [
            _BEGIN,
            (B, 1, _op(DELETE, 2, 5), {A: 1}),
            (C, 1, _op(EDIT, 1, 9, {"a": 2, "c": 7}, {"s": (["eggs"], [])}), {A: 1}),
            (B, 2, _op(CREATE, 3, 6, {"a": 5}), {A: 1}),
            (B, 3, _op(EDIT, 3, 7, {"c": 7}, {"s": ([], ["eggs"])}), {A: 1, C: 1}),
        ],
    ),
    (
        "two make it again at once",
        [
            _BEGIN,
            (B, 1, _op(DELETE, 2, 5), {A: 1}),
            (B, 2, _op(CREATE, 3, 6, {"a": 5}), {A: 1}),
            (C, 1, _op(CREATE, 3, 6, {"a": 6}, {"s": (["tea"], [])}), {A: 1, B: 1}),
        ],
    ),
    (
        "one application's register is the other's set",
        [_BEGIN, (B, 1, _op(EDIT, 1, 9, {"s": "text"}), {A: 1}), (C, 1, _op(EDIT, 1, 8, {"s": "words"}), {A: 1})],
    ),
]


def _merged(name: str, steps: list[_Step]) -> dict[str, Any]:
    """The outcome, after every order that is causal."""
    rows = {index: _row([steps[at] for at in order]) for index, order in enumerate(_causal(steps))}
    digests = {digest([("tasks", UUID, row)]) for row in rows.values()}
    if len(digests) != 1 or len({row[:2] for row in rows.values()}) != 1:
        raise AssertionError(f"{name}: the outcome depends on the order")
    row = rows[0]
    return {
        "name": name,
        "steps": [
            {"log": str(log), "n": n, "seen": [[str(other), m] for other, m in sorted(seen.items())]} | _operation(made)
            for log, n, made, seen in steps
        ],
        "orders": [list(order) for order in _causal(steps)],
        "generation": row[0],
        "shown": None if row[1] is None else msgspec.json.decode(row[1]),
        "conflicts": [_conflict(conflict) for conflict in conflicts(row)],
        "digest": digests.pop(),
    }


def _causal(steps: list[_Step]) -> list[tuple[int, ...]]:
    """Orders in which each log counts on and nothing comes before what its author had seen."""

    def is_causal(order: tuple[int, ...]) -> bool:
        held: dict[LogId, int] = {}
        for at in order:
            log, n, _, seen = steps[at]
            if held.get(log, 0) != n - 1 or any(held.get(other, 0) < m for other, m in seen.items()):
                return False
            held[log] = n
        return True

    return [order for order in itertools.permutations(range(len(steps))) if is_causal(order)]


def _row(steps: list[_Step]) -> Row:
    row: Row | None = None
    for log, n, made, seen in steps:
        check_operation(made)
        row = apply(row, made, (made.stamp, log, n), seen)
    if row is None:
        raise AssertionError("no steps")
    return row


def _conflict(conflict: Conflict) -> dict[str, Any]:
    told: dict[str, Any] = {
        "generation": conflict.cl,
        "field": conflict.field,
        "kind": conflict.kind,
        "stamp": str(conflict.stamp),
        "log": str(conflict.log),
        "n": conflict.n,
        "value": conflict.value,
        "buried": conflict.buried,
    }
    return told if conflict.winner is msgspec.UNSET else told | {"winner": conflict.winner}
