"""Whether a seeded fault of the merge, of the model or of the product, is caught, and by what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from tests.models import merge_checks

BROKEN = (NameError, AttributeError, SyntaxError, ImportError)  # no fault that was caught, but a model that cannot run


def caught_by(seeds: int, model: Any = merge_checks.merge_model, replica: Any = None) -> str | None:
    """Name of the first case, or mode and seed, that a model, or a replica in it, does not pass; None: it passes all."""
    merge_checks.use(model, replica)
    try:
        for name, case in merge_checks.CASES.items():
            try:
                merge_checks.m.trace.clear()
                case()
            except BROKEN:
                raise
            except Exception as error:
                return f"{name}: {error!r:.60}"
        for seed in range(seeds):
            for name, mode in merge_checks.MODES.items():
                try:
                    merge_checks.run(mode, seed)
                except BROKEN:
                    raise
                except Exception as error:
                    return f"{name} #{seed}: {error!r:.60}"
        return None
    finally:
        merge_checks.use()


def count_missed(names: Iterable[str], caught_by: Callable[[str, int], str | None]) -> int:
    """Say of each fault what catches it, with as many seeds per mode as the command line says. Returns: faults that
    nothing catches."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    missed, count = [], 0
    for count, name in enumerate(names, 1):
        found = caught_by(name, seeds)
        print("caught" if found else "MISSED", name, "|", found, flush=True)
        if not found:
            missed.append(name)
    print(count - len(missed), "of", count, "caught; missed:", missed)
    return len(missed)
