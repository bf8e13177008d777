"""The clocks of the process, handed to every part as an argument."""

from __future__ import annotations

import time


def clock() -> int:
    """Wall clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


def steady() -> int:
    """Milliseconds that never go back, for budgets."""
    return time.monotonic_ns() // 1_000_000
