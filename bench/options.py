"""What a run of the benchmarks was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """runs: how often each thing is measured; quick: smaller counts and shorter waits, for trying a change."""

    runs: int = 5
    quick: bool = False
