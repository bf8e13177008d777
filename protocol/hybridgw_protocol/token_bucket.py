"""A budget that fills with time: how often somebody may ask. Pure: time is an argument.

A bucket holds at most `burst` and fills with `rate_per_s`; a request takes what it costs, and one that costs more than
is there is refused with the time to wait. Relay and daemon count by it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

GRACE: Final = 1e-9  # tokens: who waited as told is let through, however the sums of fractions were rounded


@dataclass(slots=True)
class TokenBucket:
    """One budget. A clock that goes back refills nothing and takes nothing away."""

    rate_per_s: float
    burst: float
    level: float | None = None  # None: not used yet, so full
    at_ms: int = 0

    def take(self, amount: float, now_ms: int) -> int:
        """Take *amount*, or nothing. Returns 0 if it was taken, else the ms until it could be.

        An amount above the burst is let through when the bucket is full, and leaves a debt.
        """
        level = self.level
        if level is None or now_ms != self.at_ms:  # within a millisecond nothing comes back
            level = self._fill(now_ms)
        needed = amount if amount < self.burst else self.burst
        if level >= needed - GRACE:
            self.level = level - amount
            return 0
        return int((needed - level) / self.rate_per_s * 1000) + 1

    def put_back(self, amount: float) -> None:
        """Undo a take that was not used."""
        if self.level is not None:
            self.level = min(self.burst, self.level + amount)

    def has(self, amount: float, now_ms: int) -> bool:
        """Would a take of *amount* succeed now."""
        return self._fill(now_ms) >= min(amount, self.burst) - GRACE

    def _fill(self, now_ms: int) -> float:
        level = self.burst if self.level is None else self.level
        self.level = min(self.burst, level + max(0, now_ms - self.at_ms) * self.rate_per_s / 1000)
        self.at_ms = now_ms
        return self.level


@dataclass(slots=True)
class Buckets:
    """Buckets of one kind by key; at most *most* are remembered, the least recently used one is forgotten first."""

    rate_per_s: float
    burst: float
    most: int
    _held: OrderedDict[Hashable, TokenBucket] = field(default_factory=OrderedDict)

    def of(self, key: Hashable) -> TokenBucket:
        """The bucket of a key; a full one if it was not used for long."""
        bucket = self._held.get(key)
        if bucket is None:
            bucket = self._held[key] = TokenBucket(self.rate_per_s, self.burst)
            if len(self._held) > self.most:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return bucket

    def find(self, key: Hashable) -> TokenBucket | None:
        """The bucket of a key that is remembered."""
        return self._held.get(key)

    def __len__(self) -> int:
        return len(self._held)
