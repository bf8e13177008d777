"""How long to wait before trying again. Full jitter: Brooker 2015, "Exponential Backoff And Jitter"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.25
CAP_S: Final = 10.0  # a daemon of this machine that was started again is found within seconds


def full_jitter(attempt: int, random: Callable[[], float], *, first_s: float = FIRST_S, cap_s: float = CAP_S) -> float:
    """Seconds before attempt *attempt*, 0 being the first retry. Args: random: a number of [0, 1)."""
    return random() * min(cap_s, first_s * 2.0 ** min(attempt, 16))
