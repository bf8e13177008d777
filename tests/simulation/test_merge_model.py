"""The reference model of merge and log: random histories, fixed cases, and seeded faults that must be caught.

2,100 histories in all modes together per run, 21,000 in `make soak`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import merge_checks, merge_mutants

HISTORIES = 300  # per mode
FAULT_HISTORIES = 60  # per mode, for a fault that no fixed case catches
ROOT = Path(__file__).resolve().parents[2]


def run_histories(mode: str, seeds: range) -> None:
    hits = sum(bool(merge_checks.run(merge_checks.MODES[mode], seed)) for seed in seeds)
    assert hits > len(seeds) // 20  # what the mode is about really came up


@pytest.mark.parametrize("case", merge_checks.CASES)
def test_spec_S2_case(case: str) -> None:
    merge_checks.m.trace.clear()
    merge_checks.CASES[case]()


@pytest.mark.parametrize("mode", merge_checks.MODES)
def test_spec_S2_histories(mode: str) -> None:
    run_histories(mode, range(HISTORIES))


@pytest.mark.soak
@pytest.mark.parametrize("mode", merge_checks.MODES)
def test_spec_S2_many_histories(mode: str, scale: int) -> None:
    run_histories(mode, range(HISTORIES, HISTORIES * (1 + scale)))


@pytest.mark.parametrize("fault", merge_mutants.MUTANTS)
def test_spec_S2_fault_is_caught(fault: str) -> None:
    assert merge_mutants.caught_by(fault, FAULT_HISTORIES) is not None


def test_a_history_is_the_same_in_every_process() -> None:
    """Neither the hash seed nor what ran before changes a history: a failing seed can be run again alone."""
    told = (
        "import hashlib\n"
        "from tests.models import merge_checks as c\n"
        "for name, mode in c.MODES.items():\n"
        "    seen = []\n"
        "    class Told(c.m.Replica):\n"
        "        def apply_op(self, op, dot, seen_by):\n"
        "            seen.append((op, dot, sorted(seen_by.items())))\n"
        "            super().apply_op(op, dot, seen_by)\n"
        "    c.use(replica=Told)\n"
        "    for seed in range(4): c.run(mode, seed)\n"
        "    print(name, len(seen), hashlib.sha256(repr(seen).encode()).hexdigest())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", told], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert outputs[0] == outputs[1]
    assert all(int(line.split()[1]) > 0 for line in outputs[0].splitlines())
