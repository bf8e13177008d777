"""Whether a relay has room for what is pushed to it.

One whose account is full refuses what it is sent: all that was uploaded for nothing. So it is asked again with a single
frame, after a pause that doubles. What others have written comes meanwhile as always.
"""

from __future__ import annotations

import math
from typing import Final

FIRST_S: Final = 30.0
MOST_S: Final = 900.0


class Room:
    """One relay's; it outlives connections. why: what the relay has said, None: it takes what it is sent."""

    def __init__(self) -> None:
        self.why: str | None = None
        self._again_s = -math.inf
        self._pause_s = FIRST_S

    def refused(self, why: str, now_s: float) -> None:
        """It did not take something. What was under way just then is refused as well, which tells nothing new."""
        self.why = why
        if now_s >= self._again_s:
            self._again_s = now_s + self._pause_s
            self._pause_s = min(MOST_S, self._pause_s * 2)

    def took(self) -> None:
        """It has taken what it was asked with."""
        self.why, self._again_s, self._pause_s = None, -math.inf, FIRST_S

    def ask_now(self) -> None:
        """A person wants to know."""
        self._again_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """So long until it is asked again."""
        return max(0.0, self._again_s - now_s)
