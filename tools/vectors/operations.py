"""Golden bytes of values, stamps and bodies, and what merging certain operations leads to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from hybridgw_daemon.core import hlc
from hybridgw_daemon.core.body import Body, decode_body, decode_body_exactly, encode_body
from hybridgw_daemon.core.conflicts import conflicts
from hybridgw_daemon.core.document_state import Row, digest
from hybridgw_daemon.core.merge import apply
from hybridgw_daemon.core.operations import CREATE, DELETE, EDIT, FLOOR, Operation, SetChange, check_operation
from hybridgw_daemon.core.uuid7 import document_time_ms, new_uuid7
from hybridgw_protocol.batch import EMPTY_HEAD, Head
from hybridgw_protocol.codec import canonical
from hybridgw_protocol.ids import DocumentId, LogId, format_document_id
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
        "values": {"cases": [{"name": n, "value": v, "bytes": canonical(v)} for n, v in _VALUES], "refused": _NO_VALUES},
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
]

_GOOD = [EDIT, 5, 0, ["other"], 1, 0, ["kept"]]


def _wire(*operations: object, **changed: object) -> dict[str, object]:
    return {"t": STAMP, "s": ["tasks", "Bad Name"], "f": [["a"], ["a", "a"], ["b\n"]], "x": [*operations]} | changed


def _put(value: object) -> list[object]:
    return [EDIT, 0, 0, UUID, 1, 0, [value]]


def _set(*changes: object) -> list[object]:
    return [*_put(1), [*changes]]


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(bytes.fromhex(text))


def _read_only() -> list[tuple[str, bytes]]:
    """Bodies that our writer does not write, and that are read all the same."""
    again = _raw("87" + "a174" + "a26e6f" + "a3" + b"new".hex() + "919190" + "a2fffe" + "c1"[:0] + "c0")
    return [
        ("an unknown key, and a key twice", bytes(again)
         + b"".join(_pack(k) + _pack(v) for k, v in (("s", ["x"]), ("t", STAMP), ("s", ["tasks"]), ("f", [["a"]])))
         + _pack("x")[:0]),
        ("kinds not known", _pack(_wire([3, 0], _GOOD, [7, 1, {"any": _raw("a1ff")}], [2**40, 1]))),
        ("long forms", _pack(_wire(_raw("dd00000007" + "d200000000" + "cf" + "00" * 8 + "cd0000" + "c50010" + UUID.hex()
                                       + "d001" + "00" + "dc0001" + "d9036c6f6e"), _GOOD))),
        ("floats with the value of an integer, and short ones", _pack(_wire(_put(1.0), [*_put(_raw("ca3fc00000"))[:1], 1,
                                                                                       *_put(_raw("ca3fc00000"))[2:]]))),
    ]  # fmt: skip
