"""Tags and marks: members know each other by space keys, strangers tell nothing apart, old keys count for less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.discovery_keys import EPOCHS, DiscoveryKeys

PLACE, NONCE, INSTANCE = "fp:" + "ab" * 32, bytes(range(32)), bytes(range(8))


def key(n: int) -> bytes:
    return n.to_bytes(32, "big")


def of(*numbers: int, current: int = 1) -> DiscoveryKeys:
    """The keys of these epochs, newest first; so many of them are held by active members only."""
    return DiscoveryKeys([(key(n), place < current) for place, n in enumerate(numbers)])


def test_members_recognise_each_other() -> None:
    assert of(3, 2, 1).recognise_tags(of(3, 2, 1).tags(PLACE, NONCE), PLACE, NONCE) is True
    assert of(3, 2, 1).recognise(INSTANCE, of(3, 2, 1).mark(INSTANCE))


def test_a_member_that_missed_keys_shows_an_old_tag_and_sees_a_new_one() -> None:
    ahead, behind = of(3, 2, 1), of(2, 1)
    assert ahead.recognise_tags(behind.tags(PLACE, NONCE), PLACE, NONCE) is False
    assert behind.recognise_tags(ahead.tags(PLACE, NONCE), PLACE, NONCE) is True  # it does not know of a newer one
    assert ahead.recognise(INSTANCE, behind.mark(INSTANCE))
    assert not behind.recognise(INSTANCE, ahead.mark(INSTANCE))


def test_of_two_epochs_made_at_once_each_counts() -> None:
    assert of(3, 4, 1, current=2).recognise_tags(of(4, 1).tags(PLACE, NONCE), PLACE, NONCE) is True


def test_sixteen_epochs_and_no_more() -> None:
    newest = of(*range(EPOCHS + 4, 0, -1))
    tags = newest.tags(PLACE, NONCE)
    assert len(tags) == len(set(tags)) == EPOCHS
    assert newest.recognise_tags(of(5).tags(PLACE, NONCE), PLACE, NONCE) is False
    assert newest.recognise_tags(of(4).tags(PLACE, NONCE), PLACE, NONCE) is None


@pytest.mark.parametrize(
    ("place", "nonce"),
    [("fp:" + "cd" * 32, NONCE), (PLACE, bytes(32)), (PLACE + "0", NONCE)],
)
def test_a_tag_is_of_one_certificate_and_one_connection(place: str, nonce: bytes) -> None:
    assert of(1).recognise_tags(of(1).tags(place, nonce), PLACE, NONCE) is None


@given(st.lists(st.binary(max_size=40), max_size=16), st.binary(max_size=40))
def test_what_a_stranger_says(tags: list[bytes], mark: bytes) -> None:
    assert of(1).recognise_tags(tags, PLACE, NONCE) is None
    assert not of(1).recognise(INSTANCE, mark)


def test_without_a_key_nobody_is_recognised_and_nothing_announced() -> None:
    none = DiscoveryKeys([])
    assert none.tags(PLACE, NONCE) == []
    assert none.recognise_tags(of(1).tags(PLACE, NONCE), PLACE, NONCE) is None
    assert not none.recognise(INSTANCE, of(1).mark(INSTANCE))
    with pytest.raises(ValueError, match="no space key"):
        none.mark(INSTANCE)


def test_two_announcements_have_nothing_in_common() -> None:
    one, other = of(1).mark(INSTANCE), of(1).mark(bytes(8))
    assert one != other
    assert len(one) == len(other) == 8
    assert key(1).hex() not in repr(of(1))
