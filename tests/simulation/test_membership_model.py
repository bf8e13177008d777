"""The reference model of membership and keys holds in random histories, and its checks catch every seeded bug."""

import pytest

from tests.models import membership_checks as checks
from tests.models import membership_mutants as mutants

SEEDS = {checks.history: 1_000, checks.finality: 500, checks.stolen_first_device: 500}
MUST_HAPPEN = {
    checks.history: ["closed batches", "opens", "restores", "root restores", "two seats of one device"],
    checks.finality: ["expel: blind", "expel: helper has seen", "expel: all have seen"],
    checks.stolen_first_device: ["all out", "some active", "closed batches"],
}


def run(check, seeds: range) -> None:
    checks.COUNT.clear()
    for seed in seeds:
        try:
            check(seed)
        except AssertionError as error:
            raise AssertionError(check.__name__, seed, *error.args) from error
    assert all(checks.COUNT.get(name) for name in MUST_HAPPEN[check]), checks.COUNT


@pytest.mark.parametrize("case", checks.CASES, ids=lambda case: case.__name__)
def test_spec_D4_fixed_case(case):
    case()


@pytest.mark.parametrize("check", checks.HISTORIES, ids=lambda check: check.__name__)
def test_spec_D4_random_histories(check):
    run(check, range(SEEDS[check]))


@pytest.mark.soak
@pytest.mark.parametrize("check", checks.HISTORIES, ids=lambda check: check.__name__)
def test_spec_D4_random_histories_soak(check):
    run(check, range(SEEDS[check], 11 * SEEDS[check]))


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_mutant_is_caught(name):
    assert mutants.caught(mutants.MUTANTS[name], runs=600), "no check fails with this bug"


def test_histories_repeat_exactly():
    """Same seed, same records: a failing seed can be looked at again, whatever PYTHONHASHSEED is."""
    worlds: list[checks.World] = []
    for seed in (11, 11, 12):
        checks.history(seed, worlds)
    first, again, other = (sorted(w.everything()) for w in worlds)
    assert first == again
    assert first != other
