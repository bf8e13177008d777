"""Merge on one row: what is shown, what stays as a conflict, which write settles it, and how the row is packed."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core import document_state as state
from hybridgw_daemon.core import operations as ops
from hybridgw_daemon.core.conflicts import Conflict, conflicts, settle
from hybridgw_daemon.core.document_state import Row, digest, row_digest, set_fields, unpack
from hybridgw_daemon.core.merge import apply
from hybridgw_daemon.core.operations import Operation, SetChange
from hybridgw_protocol.codec import canonical
from hybridgw_protocol.ids import LogId

UUID = bytes(range(16))
A, B, C = LogId(5), LogId(-6), LogId(7)
NOTHING: dict[LogId, int] = {}


def operation(kind: int, cl: int, stamp: int, puts: dict[str, Any] | None = None, **sets: tuple[Any, Any]) -> Operation:
    changes = tuple(SetChange(name, tuple(adds), tuple(removes)) for name, (adds, removes) in sets.items())
    return Operation(kind, "tasks", UUID, cl, stamp, puts or {}, changes)


def create(stamp: int, puts: dict[str, Any] | None = None, cl: int = 1, **sets: Any) -> Operation:
    return operation(ops.CREATE, cl, stamp, puts, **sets)


def edit(stamp: int, puts: dict[str, Any] | None = None, cl: int = 1, **sets: Any) -> Operation:
    return operation(ops.EDIT, cl, stamp, puts, **sets)


def delete(stamp: int, cl: int = 2) -> Operation:
    return operation(ops.DELETE, cl, stamp)


Step = tuple[Operation, LogId, int, dict[LogId, int]]


def merged(*steps: Step, row: Row | None = None) -> Row:
    for made, log, n, seen in steps:
        row = apply(row, made, (made.stamp, log, n), seen)
    assert row is not None
    return row


def shown(row: Row) -> Any:
    return None if row[1] is None else msgspec.json.decode(row[1])


def told(row: Row) -> list[tuple[int, str, str, Any]]:
    assert row[3] == len(conflicts(row))
    return [(c.cl, c.field, c.kind, c.value) for c in conflicts(row)]


# ---- the rule --------------------------------------------------------------------------------------------------------
def test_a_new_document() -> None:
    row = merged((create(1, {"b": 1, "a": [1, {"y": 1, "x": None}]}), A, 1, NOTHING))
    assert row == (1, b'{"a":[1,{"x":null,"y":1}],"b":1}', msgspec.msgpack.encode([1, A, 1]), 0)


def test_writes_with_knowledge_replace() -> None:
    row = merged((create(1, {"a": 1, "b": 1}), A, 1, NOTHING), (edit(9, {"a": 2}), B, 1, {A: 1}))
    assert (shown(row), told(row)) == ({"a": 2, "b": 1}, [])
    again = merged((edit(3, {"a": 3}), A, 2, {B: 1}), row=row)
    assert (shown(again), told(again)) == ({"a": 3, "b": 1}, [])  # a lower stamp, yet it has seen the other


def test_writes_without_knowledge_stay_beside_each_other() -> None:
    steps = [(edit(9, {"a": 2}), B, 1, {A: 1}), (edit(3, {"a": 3}), A, 2, NOTHING), (edit(9, {"a": 4}), C, 1, {A: 1})]
    for order in itertools.permutations(steps):
        row = merged((create(1, {"a": 1, "b": 1}), A, 1, NOTHING), *order)
        assert shown(row) == {"a": 4, "b": 1}  # the greatest stamp, then the greatest signed log
        assert told(row) == [(1, "a", "value", 2), (1, "a", "value", 3)]
    (first, second) = conflicts(row)
    assert first == Conflict(1, "a", "value", 9, B, 1, 2, 4, False)
    assert (second.stamp, second.log, second.n) == (3, A, 2)
    settled = merged((edit(10, {"a": 2}), A, 3, {B: 1, C: 1}), row=row)
    assert (shown(settled), told(settled)) == ({"a": 2, "b": 1}, [])


def test_other_fields_do_not_conflict() -> None:
    row = merged(
        (create(1, {"a": 1, "b": 1}), A, 1, NOTHING),
        (edit(9, {"a": 2}), B, 1, {A: 1}),
        (edit(9, {"b": 2}), C, 1, {A: 1}),
    )
    assert (shown(row), told(row)) == ({"a": 2, "b": 2}, [])


def test_equal_values_agree_but_stay_in_the_state() -> None:
    row = merged((create(1, {"a": 1}), A, 1, NOTHING), (create(2, {"a": 1}), B, 1, NOTHING))
    assert (shown(row), told(row)) == ({"a": 1}, [])
    assert len(unpack(row)[1, "a"].values) == 2
    after = merged((edit(3, {"a": 5}), B, 2, NOTHING), row=row)  # had not seen the 1 of log A
    assert (shown(after), told(after)) == ({"a": 5}, [(1, "a", "value", 1)])


def test_adds_win_and_removes_take_what_they_saw() -> None:
    start = (create(1, s=(["x", "y"], [])), A, 1, NOTHING)
    steps = [(edit(5, s=([], ["x", "y"])), B, 1, {A: 1}), (edit(4, s=(["x"], [])), C, 1, {A: 1})]
    for order in itertools.permutations(steps):
        row = merged(start, *order)
        assert (shown(row), told(row)) == ({"s": ["x"]}, [])
    row = merged((edit(6, s=([], ["x"])), B, 2, {A: 1, C: 1}), row=row)
    assert row == (1, b"{}", b"", 0)


def test_elements_are_shown_in_the_order_of_their_bytes() -> None:
    row = merged((create(1, s=(["b", 200, True, "a", None, -1, [1], 1.5], [])), A, 1, NOTHING))
    assert shown(row) == {"s": [[1], "a", "b", None, True, 1.5, 200, -1]}
    assert shown(row)["s"] == sorted(shown(row)["s"], key=canonical)
    assert set_fields(row) == {"s"}
    assert row[1] == merged((create(1, s=([-1, 1.5, [1], None, "a", True, 200, "b"], [])), A, 1, NOTHING))[1]


def test_a_delete_takes_what_it_saw_and_buries_what_it_did_not() -> None:
    start = (create(1, {"a": 1}, s=(["x"], [])), A, 1, NOTHING)
    row = merged(start, (delete(5), B, 1, {A: 1}))
    assert row == (2, None, b"", 0)
    late = [(edit(9, {"a": 2}), A, 2, NOTHING), (edit(9, s=(["y"], [])), C, 1, {A: 1})]
    for order in itertools.permutations([(delete(5), B, 1, {A: 1}), *late]):
        row = merged(start, *order)
        assert shown(row) is None
        assert told(row) == [(1, "a", "value", 2), (1, "s", "element", "y")]
        assert all(c.buried and c.winner is msgspec.UNSET for c in conflicts(row))
    assert merged((delete(20), B, 2, {A: 2, C: 1}), row=row) == (2, None, b"", 0)  # the delete again lets go of it
    assert told(merged((delete(20), B, 2, {A: 2}), row=row)) == [(1, "s", "element", "y")]
    restored = merged((create(20, {"a": 7}, cl=3), B, 2, {A: 2, C: 1}), row=row)
    assert (restored[0], shown(restored), told(restored)) == (3, {"a": 7}, [])


def test_what_is_buried_waits_for_its_field() -> None:
    row = merged(
        (create(1, {"a": 1}), A, 1, NOTHING), (delete(5), B, 1, {A: 1}), (edit(4, {"a": 2, "b": 3}), C, 1, {A: 1}),
        (create(6, {"a": 9}, cl=3), B, 2, NOTHING),
    )  # fmt: skip
    assert (shown(row), told(row)) == ({"a": 9}, [(1, "a", "value", 2), (1, "b", "value", 3)])
    assert [c.winner for c in conflicts(row)] == [9, msgspec.UNSET]
    row = merged((edit(7, {"c": 0}, cl=3), B, 3, {A: 1, C: 1}), row=row)
    assert len(told(row)) == 2  # an unrelated write dismisses nothing
    row = merged((edit(8, {"b": 3}, cl=3), B, 4, {A: 1, C: 1}), row=row)
    assert (shown(row), told(row)) == ({"a": 9, "b": 3, "c": 0}, [(1, "a", "value", 2)])


def test_a_write_to_an_ended_generation_is_buried_at_once() -> None:
    ended = (3, b"{}", b"", 0)
    row = apply(ended, edit(9, {"a": 1}, s=(["x"], [])), (9, A, 1), NOTHING)
    assert (row[0], shown(row), told(row)) == (3, {}, [(1, "a", "value", 1), (1, "s", "element", "x")])
    assert apply(ended, delete(9), (9, A, 1), NOTHING) == ended
    assert apply((2, None, b"", 0), delete(9), (9, A, 1), NOTHING) == (2, None, b"", 0)


def test_an_edit_may_come_where_no_create_is_left() -> None:
    """A create may have been voided: what honest writers put later is shown as far as it goes."""
    assert shown(merged((edit(9, {"b": 1}), A, 1, NOTHING))) == {"b": 1}
    row = merged((create(1, {"a": 1}), A, 1, NOTHING), (edit(9, {"b": 1}, cl=3), B, 1, {A: 1}))
    assert (row[0], shown(row), told(row)) == (3, {"b": 1}, [(1, "a", "value", 1)])


def test_a_field_that_is_both_keeps_both() -> None:
    """One application writes it as a register, another as a set: the set is shown, nothing is lost."""
    row = merged((create(1, {"s": "text"}), A, 1, NOTHING), (edit(2, s=(["x"], [])), B, 1, {A: 1}))
    assert (shown(row), told(row), set_fields(row)) == ({"s": ["x"]}, [], {"s"})
    row = merged((edit(3, {"s": "new"}), B, 2, {A: 1}), row=row)
    assert (shown(row), told(row)) == ({"s": ["x"]}, [])
    row = merged((edit(4, s=([], ["x"])), B, 3, {A: 1}), row=row)
    assert (shown(row), set_fields(row)) == ({"s": "new"}, frozenset())
    row = merged((create(1, s=(["x"], [])), A, 1, NOTHING), (edit(2, {"s": "text"}), B, 1, {A: 1}))
    assert (shown(row), told(row), set_fields(row)) == ({"s": ["x"]}, [], {"s"})


@pytest.mark.parametrize("made", [create(1), edit(1), edit(1, s=([], ["x"])), create(1, s=([], []))])
def test_a_document_without_content_is_there(made: Operation) -> None:
    assert merged((made, A, 1, NOTHING)) == (1, b"{}", b"", 0)


# ---- short cuts ------------------------------------------------------------------------------------------------------
FIELDS = ("a", "b", "c")
SET_CHANGES = st.lists(st.integers(0, 3), unique=True, max_size=3).map(lambda both: (both[:2], both[2:]))
STEPS = st.lists(
    st.tuples(
        st.sampled_from([ops.CREATE, ops.EDIT, ops.EDIT, ops.EDIT, ops.DELETE]),
        st.integers(0, 2),
        st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 2), max_size=3),
        st.dictionaries(st.sampled_from("st"), SET_CHANGES, max_size=1),
        st.sampled_from([A, B, C]),
        st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 8), max_size=3),
    ),
    max_size=9,
)  # fmt: skip


def steps_of(drawn: list[Any]) -> list[Step]:
    """Any operations with any knowledge, numbers rising in each log."""
    made = []
    for stamp, (kind, half, puts, sets, log, seen) in enumerate(drawn, 1):
        if kind == ops.DELETE:
            what = delete(stamp * 3 % 11 + 20 * stamp, 2 * half + 2)
        else:
            what = operation(kind, 2 * half + 1, stamp * 3 % 11 + 20 * stamp, puts, **sets)
        made.append((what, log, stamp, {other: n for other, n in seen.items() if other != log}))
    return made


@given(STEPS)
def test_short_cuts_change_nothing(drawn: list[Any]) -> None:
    """The packed row after every operation against the rule on unpacked cells, and packing there and back."""
    row: Row | None = None
    cells: state.Cells = {}
    cl = 0
    for made, log, n, seen in steps_of(drawn):
        dot = (made.stamp, log, n)
        row = apply(row, made, dot, seen)
        full_rule(cells, made, dot, seen)
        cl = max(cl, made.cl)
        assert row[0] == cl
        assert plain(unpack(row)) == plain(cells)
        packed = state.pack(cl, cells)
        assert row[1] == packed[1]
        assert row[3] == packed[3]
        assert row_digest("tasks", UUID, row) == row_digest("tasks", UUID, packed)


def full_rule(cells: state.Cells, made: Operation, dot: state.Dot, seen: dict[LogId, int]) -> None:
    """The page's wording, once more and without any short cut."""

    def is_left(other: state.Dot) -> bool:
        return other[2] > seen.get(LogId(other[1]), 0) and not (other[1] == dot[1] and other[0] < dot[0])

    elements = {change.field: {canonical(e) for e in (*change.adds, *change.removes)} for change in made.sets}
    for (cl, name), cell in cells.items():
        whole = made.kind != ops.EDIT and cl < made.cl
        if whole or (name in made.puts and cl <= made.cl):
            cell.values = {d: v for d, v in cell.values.items() if is_left(d)}
        for raw, (element, dots) in list(cell.elements.items()):
            if whole or (raw in elements.get(name, ()) and cl <= made.cl):
                cell.elements[raw] = (element, [d for d in dots if is_left(d)])
        cell.elements = {raw: entry for raw, entry in cell.elements.items() if entry[1]}
    for name, value in made.puts.items():
        cells.setdefault((made.cl, name), state.Cell()).values[dot] = value
    for change in made.sets:
        own = cells.setdefault((made.cl, change.field), state.Cell()).elements
        for element in change.adds:
            own.setdefault(canonical(element), (element, []))[1].append(dot)


def plain(cells: state.Cells) -> dict[Any, Any]:
    return {
        key: (cell.values, {raw: (element, sorted(dots)) for raw, (element, dots) in cell.elements.items()})
        for key, cell in cells.items()
        if cell.values or cell.elements
    }


# ---- the inbox -------------------------------------------------------------------------------------------------------
@given(STEPS, st.booleans(), st.randoms(use_true_random=False))
def test_every_conflict_can_be_settled(drawn: list[Any], take: bool, choice: Any) -> None:
    row: Row | None = None
    for made, log, n, seen in steps_of(drawn):
        row = apply(row, made, (made.stamp, log, n), seen)
    if row is None or not row[3]:
        return
    everything = {A: 99, B: 99, C: 99}
    number = 100
    while found := conflicts(row):
        conflict = choice.choice(found)
        request = settle("tasks", UUID, row, conflict, take=take)
        number += 1
        cl = row[0]
        (made,) = ops.coalesce(
            [request], first_stamp=1000 + number, generation=lambda c, d, cl=cl: cl, floor_ms=lambda c: 0
        )
        before = row
        row = apply(row, made, (made.stamp, LogId(1), number), everything)
        assert conflict not in conflicts(row)
        assert len(conflicts(row)) < len(found)
        if isinstance(request, ops.Edit) and conflict.field not in set_fields(before):
            if take:
                value = shown(row)[conflict.field]
                assert value == conflict.value if conflict.kind == "value" else conflict.value in value
            elif conflict.winner is not msgspec.UNSET:
                assert shown(row)[conflict.field] == conflict.winner


# ---- rows and digests ------------------------------------------------------------------------------------------------
def test_a_row_stays_small() -> None:
    """One dot for the whole document, one more for each other write that is still shown."""
    big = [2**62, 2**62, 2**40]
    row = apply(None, create(big[0], dict.fromkeys("abcdefgh", 1)), (big[0], LogId(big[1]), big[2]), NOTHING)
    assert len(row[2]) <= 28
    one = apply(row, edit(big[0] + 1, {"a": 2}), (big[0] + 1, LogId(big[1]), big[2] + 1), NOTHING)
    assert len(one[2]) <= 60
    most = apply(one, edit(big[0] + 2, dict.fromkeys("abcdefg", 3)), (big[0] + 2, LogId(big[1]), big[2] + 1), NOTHING)
    assert len(most[2]) <= 60


def test_a_digest_is_of_the_state_in_any_order() -> None:
    first = merged((create(1, {"a": 1, "b": 2}), A, 1, NOTHING))
    second = merged((create(2, s=([1, 2], [])), B, 1, NOTHING))
    rows = [("tasks", UUID, first), ("tasks", "theme", second)]
    assert digest(rows) == digest(reversed(rows))
    states = (
        ["tasks", UUID, 1, [[1, "a", [[[1, A, 1], 1]], []], [1, "b", [[[1, A, 1], 2]], []]]],
        ["tasks", "theme", 1, [[1, "s", [], [[b"\x01", [[2, B, 1]]], [b"\x02", [[2, B, 1]]]]]]],
    )
    hashes = (hashlib.blake2b(msgspec.msgpack.encode(s), digest_size=16, person=b"hgw-doc").digest() for s in states)
    assert int.from_bytes(digest(rows), "big") == sum(int.from_bytes(h, "big") for h in hashes) % 2**128
    assert len({digest(rows), digest(rows[:1]), digest([]), digest([("other", UUID, first), rows[1]])}) == 4


@pytest.mark.parametrize("other", [
    merged((create(1, {"a": 1, "b": 3}), A, 1, NOTHING)), merged((create(2, {"a": 1, "b": 2}), A, 1, NOTHING)),
    merged((create(1, {"a": 1, "b": 2}), B, 1, NOTHING)), merged((create(1, {"a": 1, "b": 2}, cl=3), A, 1, NOTHING)),
    merged((create(1, {"a": 1, "b": 2}), A, 1, NOTHING), (create(0, {"a": 1}), B, 1, NOTHING)),
])  # fmt: skip
def test_a_digest_differs_by_any_part_of_the_state(other: Row) -> None:
    row = merged((create(1, {"a": 1, "b": 2}), A, 1, NOTHING))
    assert row_digest("tasks", UUID, row) != row_digest("tasks", UUID, other)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)  # fmt: skip


@given(VALUES)
def test_every_value_comes_back_from_json(value: Any) -> None:
    """The shown values are kept as JSON only: they must come back to the same canonical bytes."""
    row = merged((create(1, {"a": ops.normalise(value)}), A, 1, NOTHING))
    assert canonical(unpack(row)[1, "a"].values[1, A, 1]) == canonical(value)
