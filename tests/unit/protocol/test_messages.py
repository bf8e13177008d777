"""Priorities and states of messages: what may follow what, and whose turn it is."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol.messages import AFTER, DEAD, OPEN, TURNS, MessageState, Priority, Turns, advance

S = MessageState


def test_every_state_has_a_row() -> None:
    assert AFTER.keys() == set(MessageState)
    assert set(OPEN) & set(DEAD) == set()


@pytest.mark.parametrize("now", MessageState)
def test_news_that_is_old_changes_nothing(now: MessageState) -> None:
    assert advance(now, now) is now
    assert advance(now, S.QUEUED) is now
    for told in MessageState:
        assert advance(now, told) in (now, told)


def test_what_was_handled_stays_so() -> None:
    assert {advance(S.HANDLED, told) for told in MessageState} == {S.HANDLED}


def test_no_history_comes_back_to_a_state_that_it_left() -> None:
    """But one: what a sender gave up may turn out to have arrived, and then its time may end there."""
    for a, b, c in product(MessageState, repeat=3):
        steps = [a, advance(a, b)]
        steps.append(advance(steps[-1], c))
        if steps[2] == steps[0] and steps[1] != steps[0]:
            assert {steps[0], steps[1]} == {S.DELIVERED, S.EXPIRED}


@given(st.lists(st.sets(st.sampled_from(list(Priority)), min_size=1), max_size=200))
def test_spec_R3_only_what_waits_gets_a_turn(waiting: list[set[Priority]]) -> None:
    turns = Turns()
    for those in waiting:
        assert turns.pick(those) in those


def test_spec_R3_urgent_goes_first_and_bulk_does_not_starve() -> None:
    turns, everyone = Turns(), set(Priority)
    picked = [turns.pick(everyone) for _ in range(1_000)]
    assert picked[:TURNS] == [Priority.URGENT] * TURNS
    for priority in (Priority.BULK, Priority.NORMAL, Priority.HIGH):
        places = [k for k, p in enumerate(picked) if p is priority]
        assert max(b - a for a, b in pairwise(places)) <= TURNS + 3
    assert picked.count(Priority.URGENT) > 600


def test_spec_R3_one_that_had_nothing_saves_no_turns_up() -> None:
    turns = Turns()
    for _ in range(100):
        turns.pick({Priority.URGENT})
    assert turns.pick(set(Priority)) is Priority.URGENT
