"""Version vectors: their form on the wire, what one side lacks, forks, and what is refused."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol.batch import EMPTY_HEAD, MAX_N, Head
from hybridgw_protocol.errors import BadFrame
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.limits import LOGS_PER_SPACE
from hybridgw_protocol.vectors import Entry, Heads, forked, from_entries, is_equal, missing, to_entries

logs = st.integers(-(2**63), 2**63 - 1).map(LogId)
heads = st.builds(Head, st.integers(1, MAX_N), st.binary(min_size=32, max_size=32))
vectors: st.SearchStrategy[Heads] = st.dictionaries(logs, heads, max_size=12)


def short(vector: Heads) -> Heads:
    return {log: Head(head.n, head.short) for log, head in vector.items()}


@given(vectors)
def test_round_trip_sorted_by_signed_log(vector: Heads) -> None:
    entries = to_entries(vector)
    assert [e.log for e in entries] == sorted(vector)
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(entries), type=list[Entry])
    assert from_entries(wire) == short(vector)
    assert is_equal(from_entries(wire), vector)


def test_logs_of_which_nothing_is_held_do_not_travel() -> None:
    assert to_entries({LogId(5): EMPTY_HEAD, LogId(-5): Head(1, bytes(32))}) == [Entry(-5, 1, bytes(16))]


@given(vectors, vectors)
def test_what_is_missing(ours: Heads, theirs: Heads) -> None:
    lacking = missing(ours, theirs)
    for log, head in ours.items():
        has = theirs[log].n if log in theirs else 0
        assert lacking.get(log) == (has if has < head.n else None)
    assert set(lacking) <= set(ours)
    assert missing(ours, ours) == {}


@given(vectors, st.data())
def test_forks(ours: Heads, data: st.DataObject) -> None:
    theirs: Heads = {}
    for log, head in ours.items():
        turns = [head, Head(head.n, b"\1" * 32), Head(max(1, head.n - 1), head.hash)]
        theirs[log] = data.draw(st.sampled_from(turns))
    expected = {log for log in ours if theirs[log].n == ours[log].n and theirs[log].hash[:16] != ours[log].hash[:16]}
    assert set(forked(ours, theirs)) == expected
    assert set(forked(short(ours), theirs)) == expected
    assert is_equal(ours, theirs) == (not expected and all(theirs[k].n == ours[k].n for k in ours))


def test_vectors_with_other_logs_are_not_equal() -> None:
    one = {LogId(1): Head(1, bytes(32))}
    assert not is_equal(one, {})
    assert not is_equal(one, one | {LogId(2): Head(1, bytes(32))})


H = bytes(16)


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(1, 1, H), Entry(1, 1, H)], [Entry(1, 1, H), Entry(2, 1, H), Entry(1, 2, H)],
        [Entry(1, 0, H)], [Entry(1, -1, H)], [Entry(1, MAX_N + 1, H)],
        [Entry(2**63, 1, H)], [Entry(-(2**63) - 1, 1, H)],
        [Entry(1, 1, b"")], [Entry(1, 1, H[:15])], [Entry(1, 1, bytes(17))], [Entry(1, 1, bytes(32))],
        [Entry(i, 1, H) for i in range(2 * LOGS_PER_SPACE + 1)],
    ],
)  # fmt: skip
def test_bad_vectors(entries: list[Entry]) -> None:
    with pytest.raises(BadFrame):
        from_entries(entries)


def test_a_vector_is_bounded_while_it_is_read() -> None:
    """What comes after one entry too many is not even looked at."""
    looked = []

    def endless() -> object:
        for i in range(10**6):
            looked.append(i)
            yield Entry(i, 1, H)

    with pytest.raises(BadFrame):
        from_entries(endless())  # type: ignore[arg-type]
    assert len(looked) <= 2 * LOGS_PER_SPACE + 1


def test_the_largest_vector() -> None:
    r = random.Random(1)
    vector = {LogId(r.randrange(-(2**63), 2**63)): Head(MAX_N, r.randbytes(32)) for _ in range(2 * LOGS_PER_SPACE)}
    assert from_entries(to_entries(vector)) == short(vector)
