"""How long things took, program by program."""

from __future__ import annotations

import statistics
from collections import defaultdict

Times = list[tuple[int, float]]
"""(program, seconds)"""


def spread(times: Times) -> dict[str, float]:
    """Of times, in ms."""
    ordered = sorted(seconds * 1000 for _, seconds in times)
    by_program: defaultdict[int, list[float]] = defaultdict(list)
    for number, seconds in times:
        by_program[number].append(seconds * 1000)
    return {
        "count": len(ordered),
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[len(ordered) * 99 // 100], 2),
        "max": round(ordered[-1], 2),
        "slowest program's p50": round(max(map(statistics.median, by_program.values())), 2),
    }
