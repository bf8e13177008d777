"""Random lives of the whole system, and of its replicas alone: one seed is one life, checked against its ledger.

The world of replicas (sim_replicas.py) has no connections: crashes, full disks, wrong clocks, late keys, copies, closed
logs. The world (sim_world.py) has everything: devices, relays, conversations, the network between them. Over the seeds
of a run every fault and every rare path must have happened at least once, else the lives are too quiet.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import sim_replicas, sim_world
from .sim_checks import Ledger
from .sim_mutants import REPLICAS, WORLDS

ROOT = Path(__file__).resolve().parents[2]
PART = 20
SOAK = 10
SEEDS = {"replicas": 140, "world": 160}
PLAY = {"replicas": sim_replicas.play, "world": sim_world.play}
PARTS = [(world, part) for world, seeds in SEEDS.items() for part in range(seeds // PART)]
SOMETIMES = {
    "replicas": (
        "fork of our own log found", "log repaired", "rebuilt", "provisional writes adopted", "last conflict resolved",
        "several batches open", "gap", "waits for clock", "waits for deps", "waits for key", "waits for control",
        "conflict", "disk full", "disk error", "database put back", "put back and noticed", "cloned",
        "device put out", "clock disaster repaired", "stamp mapped back", "open conflicts at the end",
    ),
    "world": (
        # faults
        "connection cut", "half-open connection", "partition", "one-way partition", "slow network", "device killed",
        "relay killed", "killed between two callbacks", "crash before a commit",
        "crash after a commit, before its answer", "disk full refused a write", "disk error refused a write",
        "clock jumped", "clock drifts", "relay put back", "lie: drop", "lie: suffix", "lie: splice", "lie: replay",
        "lie: forge", "lie: swallow", "lie: claim", "lie: hide records", "database put back", "put back and noticed",
        "cloned", "keyring locked for a while", "key rotated", "begins alone on a relay", "device removed",
        "device expelled", "removed during a partition", "removes that had not seen each other", "devices parted",
        # rare paths
        "several writes in one commit", "reconnected", "batch received twice", "pushed another device's batches",
        "gap", "credit stalled", "waits for clock", "waits for deps", "waits for key", "provisional writes adopted",
        "locked", "relay rollback detected", "fork seen in a vector", "fork found", "own log repaired", "rebuilt",
        "conflict open at the end", "device restored", "sealed knowing of a removal", "direct link",
        "second direct link took the place of the first", "came over both ways",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the product logs in thousands of faults is kept by nobody."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that all its workers see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.mark.parametrize(("world", "part"), PARTS)
def test_lives(world: str, part: int, shared: Path) -> None:
    """The part that ends last also looks whether everything rare has happened in some life."""
    counts: Counter[str] = Counter()
    for seed in range(part * PART, (part + 1) * PART):
        counts.update(PLAY[world](seed).sometimes)
    (shared / f"sometimes-{world}-{part}.json").write_text(json.dumps(counts))
    told = [path.read_text() for path in shared.glob(f"sometimes-{world}-*.json")]
    if len(told) == SEEDS[world] // PART:
        total: Counter[str] = sum((Counter(json.loads(text)) for text in told if text), Counter())
        assert [what for what in SOMETIMES[world] if not total[what]] == []


@pytest.mark.soak
@pytest.mark.parametrize(("world", "part"), PARTS)
def test_many_lives(world: str, part: int) -> None:
    for seed in range(part * SOAK * PART, (part + 1) * SOAK * PART):
        PLAY[world](seed)


# ---- seeded faults -------------------------------------------------------------------------------------------------
SHOWN_LATE = {"BranchCutShort": 76, "KeysBeforeCommit": 95, "NoWake": 8}  # the search begins there


def first_caught(seeds: int, life: object, begin: int = 0) -> int | None:
    """A seed in whose life a check fails or the product breaks. Args: seeds: how many are tried, from *begin* on and
    round."""
    assert callable(life)
    for seed in (*range(begin, seeds), *range(begin)):
        try:
            life(seed)
        except Exception:  # whichever check sees it first
            return seed
    return None


@pytest.mark.parametrize("name", REPLICAS)
def test_a_seeded_bug_of_the_replica_is_caught(name: str) -> None:
    found = first_caught(120, lambda seed: sim_replicas.play(seed, replica=REPLICAS[name]), SHOWN_LATE.get(name, 0))
    assert found is not None


@pytest.mark.parametrize("name", WORLDS)
def test_a_seeded_bug_of_sync_driver_or_relay_is_caught(name: str) -> None:
    found = first_caught(80, lambda seed: sim_world.play(seed, parts=WORLDS[name]), SHOWN_LATE.get(name, 0))
    assert found is not None


# ---- one seed, one life --------------------------------------------------------------------------------------------
DIGESTS = """
from tests.simulation import sim_replicas, sim_world
print(*(play(seed).trace_digest for play in (sim_replicas.play, sim_world.play) for seed in (9, 45, 51, 97)))
"""


def test_a_seed_is_the_same_life_in_every_process() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True,
            text=True, check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert told[0] == told[1]
    assert len(set(told[0])) == 8


def test_a_failing_life_tells_its_seed_and_its_last_events() -> None:
    with pytest.raises(AssertionError) as caught:
        for seed in range(20):
            sim_world.play(seed, parts=WORLDS["NoCausalWait"])
    notes = "\n".join(caught.value.__notes__)
    assert "seed " in notes
    assert " got " in notes
    assert isinstance(caught.value, sim_world.Violation)
    assert caught.value.invariant.startswith("I")


def test_without_faults_devices_are_in_step_at_once() -> None:
    """The world itself adds nothing that goes wrong."""

    class Quiet(sim_world.World):
        def actions(self):  # type: ignore[no-untyped-def]
            return [(4, self.some_write), (1, self.burst), (1, self.join_some)]

    with sim_replicas.scratch() as folder:
        world = Quiet(3, folder, devices=2, relays=1)
        try:
            world.run(40)
            ledger: Ledger = world.ledger
            assert len(ledger.labels) > 30
            assert ledger.sometimes["in step after s"] <= 40  # the other device's keyring may have been locked so long
            assert "gap" not in ledger.sometimes
        finally:
            world.close()
