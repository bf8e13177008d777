"""Operations: what local requests become, and the rule that makes one void."""

from __future__ import annotations

from typing import Any

import pytest

from hybridgw_daemon.core import operations as ops
from hybridgw_daemon.core.operations import Create, Delete, Edit, Operation, RaiseFloor, SetChange
from hybridgw_daemon.core.uuid7 import new_uuid7
from hybridgw_protocol.errors import AlreadyExists, BadValue, Deleted, LocalError, NotFound, TooBig
from hybridgw_protocol.limits import MAX_DOCUMENT_BYTES, MAX_FIELD_BYTES, MAX_SET_ELEMENTS, MAX_TX_OPS

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS
STAMP = NOW_MS << 16
UUID = bytes(range(16))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def made(*requests: ops.Request, generation: int = 0, floor_ms: int = 0) -> list[Operation]:
    return ops.coalesce(requests, first_stamp=STAMP, generation=lambda c, d: generation, floor_ms=lambda c: floor_ms)


# ---- requests --------------------------------------------------------------------------------------------------------
def test_a_create_starts_generation_one() -> None:
    assert made(Create("tasks", UUID, {"a": 1.0}, {"tags": ["x", "y"]})) == [
        Operation(ops.CREATE, "tasks", UUID, 1, STAMP, {"a": 1}, (SetChange("tags", ("x", "y")),))
    ]


def test_a_restore_takes_the_next_generation() -> None:
    (operation,) = made(Create("tasks", UUID, {"a": 1}), generation=2)
    assert (operation.kind, operation.cl) == (ops.CREATE, 3)


def test_a_delete_ends_the_generation_and_again_keeps_it() -> None:
    assert made(Delete("tasks", UUID), generation=3) == [Operation(ops.DELETE, "tasks", UUID, 4, STAMP)]
    assert made(Delete("tasks", UUID), generation=4) == [Operation(ops.DELETE, "tasks", UUID, 4, STAMP)]


def test_one_operation_per_document_and_the_last_word_counts() -> None:
    assert made(
        Create("tasks", UUID, {"a": 1, "b": 1}, {"tags": ["x", "y"]}),
        Create("tasks", "other", {"c": 1}),
        Edit("tasks", UUID, {"a": 2}, removes={"tags": ["x"]}),
        Edit("tasks", UUID, {"a": 3}, adds={"tags": ["z"]}),
    ) == [
        Operation(ops.CREATE, "tasks", UUID, 1, STAMP, {"a": 3, "b": 1}, (SetChange("tags", ("y", "z"), ("x",)),)),
        Operation(ops.CREATE, "tasks", "other", 1, STAMP + 1, {"c": 1}),
    ]


def test_elements_are_the_same_if_their_bytes_are() -> None:
    (operation,) = made(
        Edit("tasks", UUID, adds={"s": [1, True]}), Edit("tasks", UUID, removes={"s": [1.0]}), generation=1
    )
    assert operation.sets == (SetChange("s", (True,), (1,)),)


def test_an_add_wins_over_a_remove_of_the_same_request() -> None:
    (operation,) = made(Edit("tasks", UUID, adds={"s": [1]}, removes={"s": [1, 2]}), generation=1)
    assert operation.sets == (SetChange("s", (1,), (2,)),)


def test_delete_forgets_the_changes_before_it_and_create_after_it_starts_again() -> None:
    requests = (Edit("tasks", UUID, {"a": 1}), Delete("tasks", UUID))
    assert made(*requests, generation=1) == [Operation(ops.DELETE, "tasks", UUID, 2, STAMP)]
    assert made(*requests, Create("tasks", UUID, {"b": 1}), generation=1) == [
        Operation(ops.CREATE, "tasks", UUID, 3, STAMP, {"b": 1})
    ]
    assert made(Create("tasks", UUID, {"b": 1}), Delete("tasks", UUID)) == [
        Operation(ops.DELETE, "tasks", UUID, 2, STAMP)
    ]


def test_floors_are_joined_and_count_at_once() -> None:
    old, new = new_uuid7(NOW_MS - 9 * DAY_MS, bytes(10)), new_uuid7(NOW_MS, bytes(10))
    low, high = NOW_MS - 8 * DAY_MS, NOW_MS - 2 * DAY_MS
    assert made(RaiseFloor("log", high), RaiseFloor("log", low), Create("log", new)) == [
        Operation(ops.FLOOR, "log", "", 0, STAMP, floor_ms=high),
        Operation(ops.CREATE, "log", new, 1, STAMP + 1),
    ]
    with pytest.raises(Deleted):
        made(RaiseFloor("log", low), Create("log", old))
    with pytest.raises(Deleted):
        made(Create("log", old), floor_ms=low)
    assert made(Create("log", "settings"), floor_ms=high)  # an id without a time has no floor


@pytest.mark.parametrize(
    ("error", "generation", "request_"),
    [
        (NotFound, 0, Edit("tasks", UUID, {"a": 1})),
        (NotFound, 0, Delete("tasks", UUID)),
        (Deleted, 2, Edit("tasks", UUID, {"a": 1})),
        (AlreadyExists, 1, Create("tasks", UUID, {"a": 1})),
        (BadValue, 2**31 - 1, Delete("tasks", UUID)),
        (BadValue, 0, Create("Tasks", UUID)),
        (BadValue, 0, Create("tasks", "")),
        (BadValue, 0, Create("tasks", "00000000-0000-7000-8000-000000000000")),
        (BadValue, 0, Create("tasks", b"short")),
        (BadValue, 0, Create("tasks", UUID, {"": 1})),
        (BadValue, 0, Create("tasks", UUID, {"a\n": 1})),
        (BadValue, 0, Create("tasks", UUID, {"a": float("nan")})),
        (BadValue, 0, Create("tasks", UUID, {"a": "\ud800"})),
        (BadValue, 0, Create("tasks", UUID, {"a": b"raw"})),
        (BadValue, 0, Create("tasks", UUID, {"a": nested(33)})),
        (BadValue, 0, Create("tasks", UUID, {"a": {1: 2}})),
        (BadValue, 0, Create("tasks", UUID, {}, {"s": [2**53]})),
        (BadValue, 0, Create("tasks", UUID, {"s": 1}, {"s": [1]})),
        (TooBig, 0, Create("tasks", UUID, {"a": "x" * MAX_FIELD_BYTES})),
        (TooBig, 0, Create("tasks", UUID, {f: "x" * (MAX_FIELD_BYTES - 5) for f in "abc"})),
        (TooBig, 0, Create("tasks", UUID, {}, {"s": ["x" * 256]})),
        (TooBig, 0, Create("tasks", UUID, {}, {"s": range(MAX_SET_ELEMENTS + 1)})),
        (BadValue, 0, RaiseFloor("tasks", NOW_MS - DAY_MS + 1)),
        (BadValue, 0, RaiseFloor("tasks", -1)),
    ],
)
def test_a_request_that_cannot_be_done_is_refused(error: type[LocalError], generation: int, request_: Any) -> None:
    with pytest.raises(error):
        made(request_, generation=generation)


def test_what_is_just_allowed_is_allowed() -> None:
    text = "x" * (MAX_FIELD_BYTES - 3)
    assert made(Create("tasks", UUID, {"a": text, "b": nested(32)}, {"s": ["x" * 254, *range(MAX_SET_ELEMENTS - 1)]}))
    assert made(RaiseFloor("tasks", NOW_MS - DAY_MS))


def test_a_transaction_has_its_limits() -> None:
    many = [Create("tasks", f"d{i}") for i in range(MAX_TX_OPS)]
    assert len(made(*many)) == MAX_TX_OPS
    with pytest.raises(TooBig):
        made(*many, Create("tasks", "one more"))
    large = [Create("tasks", f"d{i}", {"a": "x" * (MAX_FIELD_BYTES - 10)}) for i in range(3)]
    assert len(made(*large[:2])) == 2
    with pytest.raises(TooBig):
        made(*large)


# ---- the rule --------------------------------------------------------------------------------------------------------
VOID = {
    "generation 0": Operation(ops.EDIT, "tasks", UUID, 0, STAMP),
    "generation 2^31": Operation(ops.DELETE, "tasks", UUID, 2**31, STAMP),
    "edit of an even generation": Operation(ops.EDIT, "tasks", UUID, 2, STAMP),
    "delete of an odd generation": Operation(ops.DELETE, "tasks", UUID, 3, STAMP),
    "delete with changes": Operation(ops.DELETE, "tasks", UUID, 2, STAMP, {"a": 1}),
    "delete with elements": Operation(ops.DELETE, "tasks", UUID, 2, STAMP, {}, (SetChange("s", (1,)),)),
    "unknown kind": Operation(6, "tasks", UUID, 1, STAMP),
    "reserved kind": Operation(3, "tasks", UUID, 1, STAMP),
    "field twice": Operation(ops.EDIT, "tasks", UUID, 1, STAMP, {}, (SetChange("s", (1,)), SetChange("s", (2,)))),
    "element twice": Operation(ops.EDIT, "tasks", UUID, 1, STAMP, {}, (SetChange("s", (1,), (1,)),)),
    "register and set": Operation(ops.EDIT, "tasks", UUID, 1, STAMP, {"s": 1}, (SetChange("s", (1,)),)),
    "negative stamp": Operation(ops.EDIT, "tasks", UUID, 1, -1),
    "stamp of 64 bits": Operation(ops.EDIT, "tasks", UUID, 1, 2**63),
}


@pytest.mark.parametrize("name", VOID)
def test_an_operation_that_breaks_the_rule(name: str) -> None:
    with pytest.raises(LocalError):
        ops.check_operation(VOID[name])


def test_the_document_limit_counts_names_values_and_elements() -> None:
    elements = tuple("x" * 252 + f"{i:02}" for i in range(100))
    taken = 100 * 256 + 1 + 2 * 2 + 2 * 3  # elements, map, two names of one letter, heads of two long texts
    spare = MAX_DOCUMENT_BYTES - taken - 50_000

    def with_text(size: int) -> Operation:
        puts = {"a": "x" * 50_000, "b": "x" * size}
        return Operation(ops.EDIT, "tasks", UUID, 1, STAMP, puts, (SetChange("s", elements),))

    assert [len(ops.canonical(element)) for element in elements[:1]] == [256]
    ops.check_operation(with_text(spare))
    with pytest.raises(TooBig):
        ops.check_operation(with_text(spare + 1))


def test_a_fingerprint_is_of_the_operation_and_not_of_the_way_it_is_written() -> None:
    one = Operation(ops.EDIT, "tasks", UUID, 1, STAMP, {"a": 1, "b": {"y": 1, "x": 2}}, (SetChange("s", (1, "e")),))
    same = Operation(ops.EDIT, "tasks", UUID, 1, STAMP, {"b": {"x": 2, "y": 1}, "a": 1}, (SetChange("s", ("e", 1)),))
    other = Operation(ops.EDIT, "tasks", UUID, 1, STAMP + 1, {"a": 1, "b": {"y": 1, "x": 2}}, one.sets)
    assert ops.fingerprint(one) == ops.fingerprint(same)
    assert ops.fingerprint(one) != ops.fingerprint(other)


def test_pending_operations_come_back_as_they_were() -> None:
    pending = [
        Operation(ops.CREATE, "tasks", UUID, 1, STAMP, {"a": [1, {"b": None}]}, (SetChange("s", (1,), ("x",)),)),
        Operation(ops.DELETE, "tasks", "theme", 2, STAMP + 1),
        Operation(ops.FLOOR, "tasks", "", 0, STAMP + 2, floor_ms=5),
    ]
    assert ops.decode_pending(ops.encode_pending(pending)) == pending
