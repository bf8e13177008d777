"""Random lives of replicas on real database files: crashes, full disks, wrong clocks, late keys, copies, closed logs.

The world without connections (sim_replicas.py). One seed is one life, checked against the oracle of its ledger.
"""

from __future__ import annotations

import pytest

from .sim_mutants import REPLICAS
from .sim_replicas import play

SEEDS = 140
PART = 20


@pytest.mark.parametrize("part", range(SEEDS // PART))
def test_lives_of_replicas(part: int) -> None:
    for seed in range(part * PART, (part + 1) * PART):
        play(seed)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(SEEDS // PART))
def test_many_lives_of_replicas(part: int) -> None:
    for seed in range(part * 10 * PART, (part + 1) * 10 * PART):
        play(seed)


@pytest.mark.parametrize(
    "name", ["NoSealBeforeApply", "NoCausalWait", "NoClamp", "RepairForgets", "CopyGoesOn", "WrongSlot"]
)
def test_a_seeded_bug_is_caught(name: str) -> None:
    """The other two (BranchCutShort, KeysBeforeCommit) are rare: each has a case of its own in test_regressions.py."""
    with pytest.raises(Exception):  # noqa: B017 - whichever check sees it first
        for seed in range(40):
            play(seed, replica=REPLICAS[name])
