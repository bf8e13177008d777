"""Ids that carry their time, and the floor."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.uuid7 import MAX_UUID7_MS, document_time_ms, is_below_floor, new_uuid7


@given(st.integers(0, MAX_UUID7_MS), st.binary(min_size=10, max_size=10))
def test_a_new_id_is_a_version_7_uuid_with_its_time(now_ms: int, entropy: bytes) -> None:
    made = new_uuid7(now_ms, entropy)
    parsed = uuid.UUID(bytes=made)
    assert parsed.variant == uuid.RFC_4122
    assert parsed.version == 7
    assert document_time_ms(made) == now_ms


def test_known_bytes() -> None:
    assert new_uuid7(0x0123456789AB, bytes(10)).hex() == "0123456789ab70008000000000000000"
    assert new_uuid7(0, b"\xff" * 10).hex() == "0000000000007fffbfffffffffffffff"


@given(st.integers(0, MAX_UUID7_MS - 1), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_later_ids_sort_later(now_ms: int, first: bytes, second: bytes) -> None:
    assert new_uuid7(now_ms, first) < new_uuid7(now_ms + 1, second)


@pytest.mark.parametrize(("now_ms", "entropy"), [(-1, bytes(10)), (2**48, bytes(10)), (0, bytes(9)), (0, bytes(11))])
def test_what_cannot_be_an_id_is_refused(now_ms: int, entropy: bytes) -> None:
    with pytest.raises(ValueError):
        new_uuid7(now_ms, entropy)


@pytest.mark.parametrize(
    "document",
    [
        "theme",
        "an id of 16 text",
        uuid.UUID(int=5, version=4).bytes,
        bytes(16),
        bytes.fromhex("0123456789ab7000" + "0" * 16),
    ],
)
def test_other_ids_have_no_time_and_no_floor(document: bytes | str) -> None:
    assert document_time_ms(document) is None
    assert not is_below_floor(document, 2**60)


def test_the_floor_takes_what_is_older() -> None:
    made = new_uuid7(1000, bytes(10))
    assert is_below_floor(made, 1001)
    assert not is_below_floor(made, 1000)
    assert not is_below_floor(new_uuid7(0, bytes(10)), 0)
