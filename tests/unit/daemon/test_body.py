"""Bodies: what is written comes back; what is hostile has one outcome, whatever the parser and its stack."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core import body as bodies
from hybridgw_daemon.core import operations as ops
from hybridgw_daemon.core.body import (
    Body,
    BodyWriter,
    MalformedBody,
    apply_deps,
    decode_body,
    decode_body_exactly,
    deps_delta,
    encode_body,
)
from hybridgw_daemon.core.msgpack_scan import ScanError, read_value, skip
from hybridgw_daemon.core.operations import Operation, SetChange
from hybridgw_protocol.batch import EMPTY_HEAD, Head
from hybridgw_protocol.codec import canonical, encode_canonical, normalise
from hybridgw_protocol.errors import BadValue, LocalError
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.vectors import Heads

LOG = LogId(7)
UUID = bytes(range(16))
STAMP = 1_700_000_000_000 << 16
DAY_STAMP = 86_400_000 << 16


def head(n: int, byte: int = 1) -> Head:
    return Head(n, bytes([byte]) * 16)


# ---- an encoder of its own, which writes anything --------------------------------------------------------------------
class Raw(bytes):
    """msgpack put in as it is."""


def pack(value: Any) -> bytes:
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return struct.pack(">BH", 0xDC, len(value)) + b"".join(map(pack, value))
    if isinstance(value, dict):
        return struct.pack(">BH", 0xDE, len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    if isinstance(value, bytes):
        return struct.pack(">BH", 0xC5, len(value)) + value
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return struct.pack(">BH", 0xDA, len(raw)) + raw
    if isinstance(value, bool) or value is None:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    return struct.pack(">BQ", 0xCF, value) if value >= 0 else struct.pack(">Bq", 0xD3, value)


def read(raw: bytes) -> Body:
    """decode_body, and that the exact way says the same, twice."""
    outcomes: list[Any] = []
    for way in (decode_body, decode_body_exactly, decode_body, decode_body_exactly):
        try:
            outcomes.append(way(raw, LOG))
        except MalformedBody:
            outcomes.append(None)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    if outcomes[0] is None:
        raise MalformedBody("as told")
    return outcomes[0]


def with_operations(*wire: Any, shapes: Any = (("a",),), collections: Any = ("tasks",), t: Any = STAMP) -> bytes:
    return pack({"t": t, "s": collections, "f": shapes, "x": wire})


def create(*, kind: Any = 1, delta: Any = 0, collection: Any = 0, id: Any = UUID, cl: Any = 1, shape: Any = 0,
           values: Any = (1,), more: tuple[Any, ...] = ()) -> list[Any]:  # fmt: skip
    return [kind, delta, collection, id, cl, shape, values, *more]


GOOD = create(delta=5, id=["other"], values=["kept"])


# ---- there and back --------------------------------------------------------------------------------------------------
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
).map(normalise)
ELEMENTS = SCALARS.map(normalise).filter(lambda value: len(canonical(value)) <= 256)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
IDS = st.binary(min_size=16, max_size=16) | NAMES.filter(lambda name: len(name) != 36)


@st.composite
def operation_lists(draw: st.DrawFn) -> list[Operation]:
    made, stamp = [], draw(st.integers(0, 2**62))
    for _ in range(draw(st.integers(0, 6))):
        collection = draw(st.sampled_from(["tasks", "settings", "a.b-c_9"]))
        kind = draw(st.sampled_from([ops.EDIT, ops.CREATE, ops.DELETE, ops.FLOOR]))
        if kind == ops.FLOOR:
            latest = (stamp - DAY_STAMP) >> 16
            if latest >= 0:
                made.append(Operation(kind, collection, "", 0, stamp, floor_ms=draw(st.integers(0, latest))))
        elif kind == ops.DELETE:
            made.append(Operation(kind, collection, draw(IDS), 2 * draw(st.integers(1, 2**30 - 1)), stamp))
        else:
            puts = draw(st.dictionaries(NAMES, VALUES, max_size=4))
            sets = []
            for name, values in draw(st.dictionaries(NAMES, st.lists(ELEMENTS, max_size=4), max_size=2)).items():
                unique = list({canonical(value): value for value in values}.values())
                if name not in puts:
                    sets.append(SetChange(name, tuple(unique[::2]), tuple(unique[1::2])))
            cl = 2 * draw(st.integers(0, 2**30 - 1)) + 1
            made.append(Operation(kind, collection, draw(IDS), cl, stamp, puts, tuple(sets)))
        stamp += draw(st.integers(1, 2**40))
    return made


DEPS = st.dictionaries(
    st.integers(-(2**63), 2**63 - 1).filter(lambda log: log != LOG).map(LogId),
    st.builds(Head, st.integers(1, 2**53 - 1), st.binary(min_size=16, max_size=16)),
    max_size=4,
)


@given(operation_lists(), DEPS, st.none() | st.lists(st.binary(min_size=16, max_size=16), max_size=3))
def test_what_is_written_comes_back(made: list[Operation], deps: Heads, control: list[bytes] | None) -> None:
    raw = encode_body(made, deps, control)
    back = read(raw)
    assert back.operations == made
    assert [type(v) for op in back.operations for v in op.puts.values()] == [
        type(v) for op in made for v in op.puts.values()
    ]
    assert back.deps == deps
    assert back.control == (None if control is None else tuple(sorted(control)))
    assert (back.void, back.unknown) == ([], [])
    assert (back.first_stamp, back.last_stamp) == ((made[0].stamp, made[-1].stamp) if made else (None, None))


@given(operation_lists())
def test_the_writer_knows_how_long_the_body_is(made: list[Operation]) -> None:
    writer = BodyWriter()
    bound = 12
    for operation in made:
        writer.add(operation)
        bound += ops.packed_bytes(operation)
    assert (
        len(writer.finish())
        <= writer.size
        <= len(writer.finish()) + 30 + 5 * len(made) + sum(2 * len(op.puts) for op in made)
    )
    assert writer.size <= bound + 30
    assert writer.count == len(made)


def test_small_operations_are_small() -> None:
    """45 bytes or less for a small packed operation, header, tag, signature and padding shared by a hundred."""
    made = [
        Operation(ops.EDIT, "tasks", bytes([i]) * 16, 1, STAMP + (i * 30 << 16), {"status": "done"}) for i in range(100)
    ]
    assert len(encode_body(made)) + 114 + 16 + 64 + 4 < 45 * 100


def test_an_empty_body_is_a_map() -> None:
    assert encode_body() == b"\x80"
    assert read(b"\x80") == Body({}, None, [], [], [], None, None)


@given(DEPS, DEPS)
def test_dependencies_travel_as_what_changed(before: Heads, after: Heads) -> None:
    delta = deps_delta(before, after)
    assert apply_deps(before, delta) == after
    assert apply_deps(before, read(encode_body((), delta)).deps) == after
    assert deps_delta(after, after) == {}
    assert all(log not in before or before[log] != delta[log] for log in delta)


def test_a_log_that_is_no_longer_seen_is_told() -> None:
    delta = deps_delta({LogId(1): head(3), LogId(2): head(5)}, {LogId(2): head(4)})
    assert delta == {LogId(1): EMPTY_HEAD, LogId(2): head(4)}
    assert read(encode_body((), delta)).deps == delta


def test_whole_hashes_are_cut_to_sixteen_bytes() -> None:
    raw = encode_body((), {LogId(1): Head(3, bytes(range(32)))}, [bytes(range(32))])
    back = read(raw)
    assert back.deps == {LogId(1): Head(3, bytes(range(16)))}
    assert back.control == (bytes(range(16)),)


# ---- malformed: the log ends before it -------------------------------------------------------------------------------
MALFORMED = {
    "nothing": b"",
    "no map": pack([1]),
    "cut short": encode_body([Operation(ops.DELETE, "tasks", UUID, 2, STAMP)])[:-1],
    "something follows": b"\x80\x00",
    "a byte that begins nothing": b"\x81\xa1q\xc1",
    "key that is no text": b"\x81\x01\x01",
    "key of bytes": b"\x81\xc4\x01t\x01",
    "stamp that is no number": pack({"t": "1"}),
    "stamp that is a float": pack({"t": 1.0}),
    "stamp that is true": pack({"t": True}),
    "negative stamp": pack({"t": -1}),
    "stamp of 64 bits": with_operations(create(), t=2**63),
    "stamp that leaves 63 bits": with_operations(create(), create(delta=2), t=2**63 - 2),
    "stamp that stays": with_operations(create(), create(delta=0)),
    "stamp that falls": with_operations(create(), create(delta=-1)),
    "stamp that falls after void and unknown operations": with_operations(create(cl=0), [9, 1], [0, 0]),
    "first stamp below the base": with_operations(create(delta=-1)),
    "operations that are no array": pack({"x": 1}),
    "operation that is no array": with_operations(GOOD, 1),
    "operation without a stamp": with_operations(GOOD, [0]),
    "operation whose kind is no number": with_operations(GOOD, create(kind="1")),
    "operation whose kind is negative": with_operations(GOOD, create(kind=-1)),
    "operation whose stamp is no number": with_operations(GOOD, create(delta=1.0)),
    "collections that are no array": with_operations(GOOD, collections="tasks"),
    "collection that is no text": with_operations(GOOD, collections=[b"tasks"]),
    "collection that is no UTF-8": with_operations(GOOD, collections=[Raw(b"\xa1\xff")]),
    "shapes that are no arrays": with_operations(GOOD, shapes=["a"]),
    "shape of numbers": with_operations(GOOD, shapes=[[1]]),
    "dependencies that are no array": pack({"d": {}}),
    "dependency of two": pack({"d": [[1, 2]]}),
    "dependency of four": pack({"d": [[1, 2, bytes(16), 3]]}),
    "dependency on the log itself": pack({"d": [[LOG, 2, b"h" * 16]]}),
    "dependency twice": pack({"d": [[1, 2, b"h" * 16], [1, 3, b"h" * 16]]}),
    "dependency with a short hash": pack({"d": [[1, 2, b"h" * 15]]}),
    "dependency with a hash of text": pack({"d": [[1, 2, "h" * 16]]}),
    "dependency on batch -1": pack({"d": [[1, -1, b"h" * 16]]}),
    "dependency on batch 2^53": pack({"d": [[1, 2**53, b"h" * 16]]}),
    "dependency on batch 0 with a hash": pack({"d": [[1, 0, b"h" * 16]]}),
    "dependency on a log of 65 bits": pack({"d": [[2**63, 1, b"h" * 16]]}),
    "dependencies on 1,025 logs": pack({"d": [[100 + i, 1, b"h" * 16] for i in range(1025)]}),
    "control heads absent by null": pack({"c": None}),
    "control head of 15 bytes": pack({"c": [b"h" * 15]}),
    "control head of text": pack({"c": ["h" * 16]}),
    "4,001 control heads": pack({"c": [b"h" * 16] * 4001}),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_spec_S2_malformed(name: str) -> None:
    with pytest.raises(MalformedBody):
        read(MALFORMED[name])


# ---- void: skipped, the rest applies ---------------------------------------------------------------------------------
def long_elements(count: int) -> list[list[Any]]:
    return [["s", list(range(count)), []]]


VOID = {
    "too few items": [0, 0],
    "too many items": create(more=([], 1)),
    "delete of six items": [2, 0, 0, UUID, 2, 0],
    "delete with changes": [2, 0, 0, UUID, 2, 0, [1]],
    "no such collection": create(collection=1),
    "collection -1": create(collection=-1),
    "collection by name": create(collection="tasks"),
    "no such shape": create(shape=1),
    "shape -1": create(shape=-1),
    "fewer values than fields": create(values=[]),
    "more values than fields": create(values=[1, 2]),
    "values that are no array": create(values=1),
    "id of 15 bytes": create(id=bytes(15)),
    "id that is empty": create(id=[""]),
    "id of 65 bytes": create(id=["x" * 65]),
    "id with a control character": create(id=["a\n"]),
    "id with a delete character": create(id=["a\x7f"]),
    "id that is a UUID in text": create(id=["00000000-0000-7000-8000-000000000000"]),
    "id that is no UTF-8": create(id=[Raw(b"\xa1\xff")]),
    "id without its array": create(id="theme"),
    "id of two texts": create(id=["a", "b"]),
    "id that is null": create(id=None),
    "generation 0": create(cl=0),
    "generation -1": create(cl=-1),
    "generation 2": create(cl=2),
    "generation 2^31 + 1": create(cl=2**31 + 1),
    "generation 1.0": create(cl=1.0),
    "delete of generation 1": [2, 0, 0, UUID, 1],
    "delete of generation 2^31": [2, 0, 0, UUID, 2**31],
    "NaN": create(values=[float("nan")]),
    "infinity": create(values=[float("inf")]),
    "2^53": create(values=[2**53]),
    "-2^53": create(values=[-(2**53)]),
    "2^64 - 1": create(values=[2**64 - 1]),
    "bytes": create(values=[b"raw"]),
    "text that is no UTF-8": create(values=[Raw(b"\xa2\xc3\x28")]),
    "lone surrogate": create(values=["\ud800"]),
    "extension": create(values=[Raw(b"\xd4\x05\x00")]),
    "time": create(values=[Raw(b"\xd6\xff\x00\x00\x00\x00")]),
    "time out of range": create(values=[Raw(b"\xc7\x0c\xff" + b"\xff" * 12)]),
    "map without its array": create(values=[{"a": 1}]),
    "array of what it holds": create(values=[[1, 2]]),
    "empty array in place of bytes": create(values=[[]]),
    "scalar as bytes": create(values=[[b"\x01"]]),
    "text as bytes": create(values=[[b"\xa1a"]]),
    "array that is not canonical: long head": create(values=[[b"\xdc\x00\x01\x01"]]),
    "array that is not canonical: long number": create(values=[[b"\x91\xcc\x01"]]),
    "array that is not canonical: float for an integer": create(values=[[b"\x91" + struct.pack(">Bd", 0xCB, 1.0)]]),
    "array that is not canonical: short float": create(values=[[b"\x91" + struct.pack(">Bf", 0xCA, 1.5)]]),
    "map with keys out of order": create(values=[[b"\x82\xa1b\x01\xa1a\x01"]]),
    "map with a key twice": create(values=[[b"\x82\xa1a\x01\xa1a\x01"]]),
    "map with a key that is a number": create(values=[[b"\x81\x01\x01"]]),
    "map with a key that is null": create(values=[[b"\x91\x81\xc0\x01"]]),
    "map with a key that is an array": create(values=[[b"\x81\x90\x01"]]),
    "array with bytes in it": create(values=[[b"\x91\xc4\x01a"]]),
    "array with NaN in it": create(values=[[b"\x91" + struct.pack(">Bd", 0xCB, float("nan"))]]),
    "array with text that is no UTF-8": create(values=[[b"\x92\x90\xa1\xff"]]),
    "array that is cut short": create(values=[[b"\x92\x01"]]),
    "array with something behind it": create(values=[[b"\x91\x01\x01"]]),
    "nested array with something behind it": create(values=[[b"\x91\x90\x01"]]),
    "array 33 deep": create(values=[[b"\x91" * 33 + b"\x01"]]),
    "array 100,000 deep": create(values=[[Raw(b"\xc6\x00\x01\x86\xa1" + b"\x91" * 100_000 + b"\x01")]]),
    "text above 64 KiB": create(values=[Raw(struct.pack(">BI", 0xDB, 65_534) + b"x" * 65_534)]),
    "text of few characters above 64 KiB": create(
        values=[Raw(struct.pack(">BI", 0xDB, 65_536) + "\U0001f600".encode() * 16_384)]
    ),
    "array above 64 KiB": create(values=[[Raw(struct.pack(">BI", 0xC6, 65_537) + b"\xdc\xff\xfe" + b"\x01" * 65_534)]]),
    "sets that are no array": create(more=(1,)),
    "set change of two items": create(more=([["s", [1]]],)),
    "set named by a number": create(more=([[1, [1], []]],)),
    "set that is a register too": create(more=([["a", [1], []]],)),
    "set twice": create(more=([["s", [1], []], ["s", [2], []]],)),
    "set without a name": create(more=([["", [1], []]],)),
    "element twice": create(more=([["s", [1, 1.0], []]],)),
    "element added and removed": create(more=([["s", [1], [1]]],)),
    "element above 256 bytes": create(more=([["s", ["x" * 255], []]],)),
    "element out of the domain": create(more=([["s", [float("inf")], []]],)),
    "element removed out of the domain": create(more=([["s", [], [2**60]]],)),
    "1,001 elements": create(more=(long_elements(1001),)),
    "floor less than a day old": [5, 0, 0, (STAMP >> 16) - 86_400_000 + 1],
    "floor in the future": [5, 0, 0, 2**62],
    "floor below 0": [5, 0, 0, -1],
    "floor without a time": [5, 0, 0],
    "floor of five items": [5, 0, 0, 1, 1],
    "floor that is a float": [5, 0, 0, 1.0],
}  # fmt: skip


@pytest.mark.parametrize("name", VOID)
def test_spec_S2_void(name: str) -> None:
    """One operation breaks the rule: it alone is skipped."""
    back = read(with_operations(VOID[name], GOOD))
    assert back.void == [0]
    assert [(op.id, op.stamp, op.puts) for op in back.operations] == [("other", STAMP + 5, {"a": "kept"})]
    assert (back.first_stamp, back.last_stamp) == (STAMP, STAMP + 5)


ALLOWED = {
    "any form of a number": (create(cl=Raw(b"\xd0\x01"), values=[Raw(b"\xd3" + bytes(7) + b"\x01")]), 1),
    "any form of the kind": (create(kind=Raw(b"\xd2\x00\x00\x00\x01")), 1),
    "float with the value of an integer": (create(values=[1.0]), 1),
    "minus zero": (create(values=[-0.0]), 0),
    "short float": (create(values=[Raw(struct.pack(">Bf", 0xCA, 0.1))]), 0.10000000149011612),
    "2^53 - 1": (create(values=[2**53 - 1]), 2**53 - 1),
    "2^53 as a float": (create(values=[2.0**53]), 2.0**53),
    "the last generation": (create(cl=2**31 - 1), 1),
    "array 32 deep": (create(values=[[b"\x91" * 32 + b"\x01"]]), read_value(b"\x91" * 32 + b"\x01")[0]),
    "map": (create(values=[[b"\x82\xa1a\x01\xa1b\x90"]]), {"a": 1, "b": []}),
    "long text in a long form": (create(values=[Raw(struct.pack(">BI", 0xDB, 1) + b"x")]), "x"),
    "text of just 64 KiB": (create(values=[Raw(struct.pack(">BI", 0xDB, 65_533) + b"x" * 65_533)]), "x" * 65_533),
    "NUL": (create(values=["\0"]), "\0"),
    "1,000 elements": (create(more=(long_elements(1000),)), 1),
    "id of 64 bytes": (create(id=["é" * 32]), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_spec_S2_allowed(name: str) -> None:
    wire, value = ALLOWED[name]
    back = read(with_operations(wire, GOOD))
    assert back.void == []
    found = back.operations[0].puts["a"]
    assert (type(found), found) == (type(value), value)


def test_names_that_are_not_valid_make_void_what_uses_them() -> None:
    shapes = [["a"], ["a", "a"], [""], ["b\n"], ["x" * 129]]
    wire = [create(), *(create(delta=1, shape=shape, values=[1] * len(shapes[shape])) for shape in range(1, 5)), GOOD]
    assert read(with_operations(*wire, shapes=shapes)).void == [1, 2, 3, 4]
    wire = [create(), *(create(delta=1, collection=number) for number in range(1, 4)), GOOD]
    assert read(with_operations(*wire, collections=["tasks", "Tasks", "", "x" * 65])).void == [1, 2, 3]


def test_kinds_not_known_here_are_kept() -> None:
    wire = [[3, 0], GOOD, [7, 1, {"any": [1, 2]}, b"thing"], [2**40, 1, Raw(b"\x91" * 1000 + b"\xa1\xff")]]
    back = read(with_operations(*wire))
    assert [(op.index, op.kind, op.stamp, op.raw) for op in back.unknown] == [
        (0, 3, STAMP, pack(wire[0])),
        (2, 7, STAMP + 6, pack(wire[2])),
        (3, 2**40, STAMP + 7, pack(wire[3])),
    ]
    assert [op.id for op in back.operations] == ["other"]
    assert back.void == []
    assert back.last_stamp == STAMP + 7


def test_unknown_keys_of_the_map_are_passed_over_and_the_last_of_equal_keys_counts() -> None:
    extra = b"\xa3new" + b"\x91" * 5000 + b"\xa1\xff" + b"\xa2\xff\xfe\xd4\x05\x00"
    entries = (("t", "no"), ("s", ["other"]), ("t", STAMP), ("s", ["tasks"]), ("f", [["a"]]), ("x", [create()]))
    back = read(struct.pack(">BH", 0xDE, 8) + extra + b"".join(pack(key) + pack(value) for key, value in entries))
    assert back.operations == [Operation(ops.CREATE, "tasks", UUID, 1, STAMP, {"a": 1})]


# ---- size, depth, and whatever else ----------------------------------------------------------------------------------
@pytest.mark.parametrize("raw", [
    b"\x81\xa1x" + b"\x91" * 1_000_000 + b"\x01",
    b"\x81\xa1q" + b"\x91" * 1_000_000 + b"\x01",
    b"\x81\xa1q" + b"\x81\xa1q" * 300_000 + b"\x01",
    with_operations(create(values=[Raw(b"\x91" * 1_000_000 + b"\x01")]), GOOD),
    with_operations([9, 0, Raw(b"\x91" * 1_000_000 + b"\x01")], GOOD),
], ids=["operations", "unknown key", "maps", "value", "unknown kind"])  # fmt: skip
def test_a_million_deep(raw: bytes) -> None:
    with contextlib.suppress(MalformedBody):
        assert read(raw).operations in ([], read(with_operations(GOOD, t=STAMP)).operations)


HUGE = b"\xff\xff\xff\xff"


@pytest.mark.parametrize("raw", [
    b"\xdf" + HUGE, b"\x81\xa1x\xdd" + HUGE, b"\x81\xa1q\xdb" + HUGE, b"\x81\xa1q\xdf" + HUGE, b"\x81\xa1s\xdd" + HUGE,
    b"\x81\xa1f\x91\xdd" + HUGE, b"\x81\xa1d\xdd" + HUGE, b"\x81\xa1c\xc6" + HUGE, b"\x81\xdb" + HUGE,
    b"\x81\xa1q\xc9" + HUGE,
    with_operations(create(values=Raw(b"\xdd" + HUGE))), with_operations(create(values=[Raw(b"\xc6" + HUGE)])),
    with_operations(create(values=[[b"\xdd" + HUGE]]), GOOD), with_operations(create(values=[[b"\xdf" + HUGE]]), GOOD),
    with_operations(create(values=[[b"\x91\xdb" + HUGE]]), GOOD),
    b"\x81\xa1x\xdd" + HUGE + b"\x92\x09\x00" * 300_000,
])  # fmt: skip
def test_a_huge_length_takes_no_memory(raw: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(MalformedBody):
            assert read(raw).operations[0].id == "other"
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


SEEDS = [
    encode_body(
        [
            Operation(
                ops.CREATE, "tasks", UUID, 1, STAMP, {"a": 1.5, "b": ["x", {"k": None}]},
                (SetChange("s", (1, "e"), (True,)),),
            ),
            Operation(ops.EDIT, "tasks", "theme", 3, STAMP + 1, {"a": "é", "b": -70000}),
            Operation(ops.DELETE, "settings", UUID, 2, STAMP + 70_000),
            Operation(ops.FLOOR, "tasks", "", 0, STAMP + 70_001, floor_ms=5),
        ],
        {LogId(-3): head(5), LogId(9): EMPTY_HEAD},
        [bytes(16)],
    ),
    with_operations([9, 0, "?"], create(delta=3, cl=0), GOOD),
    with_operations(*(VOID[name] if VOID[name][1] == 1 else [VOID[name][0], 1, *VOID[name][2:]]
                      for name in VOID if len(pack(VOID[name])) < 2000)),
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw) - 1))
        match draw(st.sampled_from(["set", "cut", "insert", "copy"])):
            case "set":
                raw[at] = draw(st.integers(0, 255))
            case "cut":
                del raw[at : at + draw(st.integers(1, 5))]
            case "insert":
                raw[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "copy":
                raw[at:at] = raw[draw(st.integers(0, len(raw))) :][:20]
        raw = raw or bytearray(b"\x80")
    return bytes(raw)


@given(mutated() | st.binary(max_size=60))
def test_fuzz_one_outcome(raw: bytes) -> None:
    with contextlib.suppress(MalformedBody):
        back = read(raw)
        for operation in back.operations:
            ops.check_operation(operation)
        assert read(encode_body(back.operations, back.deps, back.control)).operations == back.operations


def test_every_byte_of_a_body_changed_to_every_value() -> None:
    outcomes = set()
    for at in range(len(SEEDS[0])):
        for value in (0x00, 0x7F, 0x80, 0x91, 0xA1, 0xC0, 0xC1, 0xC4, 0xCA, 0xCF, 0xD4, 0xDB, 0xDD, 0xDF, 0xE0, 0xFF):
            raw = bytearray(SEEDS[0])
            raw[at] = value
            try:
                outcomes.add(len(read(bytes(raw)).void))
            except MalformedBody:
                outcomes.add(None)
    assert {None, 0, 1} <= outcomes


# ---- the rule, from both sides ---------------------------------------------------------------------------------------
WILD = SCALARS | st.sampled_from([float("nan"), float("inf"), 2**53, -(2**60), "\ud800", "x" * 300, "x" * 70_000, 1.0])


@given(
    kind=st.sampled_from([ops.EDIT, ops.CREATE]),
    document=IDS | st.sampled_from([b"", bytes(17), "", "a\n", "x" * 70, "\ud800"]),
    cl=st.sampled_from([1, 3, 2**31 - 1]) | st.integers(-2, 2**33),
    puts=st.dictionaries(NAMES | st.sampled_from(["", "\0", "x" * 200]), WILD, max_size=3),
    sets=st.lists(st.tuples(NAMES, st.lists(WILD, max_size=3), st.lists(WILD, max_size=3)), max_size=2),
)
def test_void_on_the_wire_is_what_is_refused_at_home(
    kind: int, document: Any, cl: int, puts: dict[str, Any], sets: list[Any]
) -> None:
    """The same rule where a member writes it as where a person asks for it."""
    try:
        normal = {name: normalise(value) for name, value in puts.items()}
        changes = tuple(
            SetChange(name, tuple(map(normalise, adds)), tuple(map(normalise, removes))) for name, adds, removes in sets
        )
        ops.check_operation(Operation(kind, "tasks", document, cl, STAMP, normal, changes))
        fits = True
    except LocalError:
        fits = False

    def text(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        raw = value.encode("utf-8", "surrogatepass")
        return Raw(struct.pack(">BI", 0xDB, len(raw)) + raw)

    wire = create(
        kind=kind,
        id=document if isinstance(document, bytes) else [document],
        cl=cl,
        values=[text(v) for v in puts.values()],
    )
    if sets:
        wire.append([[name, [text(v) for v in adds], [text(v) for v in removes]] for name, adds, removes in sets])
    back = read(with_operations(wire, shapes=[list(puts)]))
    assert back.void == ([] if fits else [0])


@given(VALUES)
def test_arrays_and_maps_are_read_from_their_canonical_bytes(value: Any) -> None:
    raw = encode_canonical(value)
    if isinstance(value, (list, dict)):
        assert bodies.read_composite(raw) == value
    else:
        with pytest.raises(BadValue):
            bodies.read_composite(raw)
    assert read_value(raw) == (value, len(raw))
    assert skip(raw, 0) == len(raw)


@given(st.binary(max_size=40))
def test_fuzz_the_scanner(raw: bytes) -> None:
    with contextlib.suppress(ScanError):
        end = skip(raw, 0)
        assert 0 < end <= len(raw)
        with contextlib.suppress(BadValue):
            assert read_value(raw)[1] == end
