"""Messages as both sides of a wire know them: priorities, states, whose turn it is. Not the bytes: envelope.py.

Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum, StrEnum
from typing import Final


class Priority(IntEnum):
    """What goes first. Each priority is a stream of its own, so nothing waits for what is less urgent."""

    BULK = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3


PRIORITIES: Final = tuple(Priority)  # an enum is slow to go through
PRIORITY_NAMES: Final = tuple(priority.name.lower() for priority in Priority)
PRIORITY_BY_NAME: Final = dict(zip(PRIORITY_NAMES, Priority, strict=True))


class MessageState(StrEnum):
    """Where a message is on its way to one device, as its sender knows."""

    QUEUED = "queued"  # durable at the sender
    STORED = "stored"  # durable at a relay
    HANDED = "handed"  # durable at the other device, given to it directly
    DELIVERED = "delivered"  # durable at the other device, for its programs
    HANDLED = "handled"  # a program there has acknowledged it
    EXPIRED = "expired"  # its time was over first
    FAILED = "failed"  # refused for ever


S = MessageState

# What may follow a state. A missing entry changes nothing: news that comes late, or twice, is no error. `expired` is
# what a sender concludes from its own clock; the receiver knows better, so its receipt still counts.
AFTER: Final[Mapping[MessageState, frozenset[MessageState]]] = {
    S.QUEUED: frozenset({S.STORED, S.HANDED, S.DELIVERED, S.HANDLED, S.EXPIRED, S.FAILED}),
    S.STORED: frozenset({S.HANDED, S.DELIVERED, S.HANDLED, S.EXPIRED, S.FAILED}),
    S.HANDED: frozenset({S.DELIVERED, S.HANDLED, S.EXPIRED, S.FAILED}),
    S.DELIVERED: frozenset({S.HANDLED, S.EXPIRED}),
    S.EXPIRED: frozenset({S.DELIVERED, S.HANDLED}),
    S.HANDLED: frozenset(),
    S.FAILED: frozenset(),
}
OPEN: Final = (S.QUEUED, S.STORED, S.HANDED)  # not known to have arrived: tried again until they have, or expire
DEAD: Final = (S.EXPIRED, S.FAILED)  # for a person to look at

TURNS: Final = 8  # of others, after which one goes to a lower priority all the same


def advance(now: MessageState, told: MessageState) -> MessageState:
    """The state after news of it; the same if the news is old."""
    return told if told in AFTER[now] else now


class Turns:
    """Whose turn it is at a queue: the most urgent one that waits; yet after TURNS turns of others each gets one.

    So what is urgent waits for at most one unit of what is not, and bulk never starves.
    """

    def __init__(self, turns: int = TURNS) -> None:
        self._turns = turns
        self._passed = dict.fromkeys(Priority, 0)
        self._is_anyone_behind = False

    def pick(self, waiting: Collection[Priority]) -> Priority:
        """The priority that goes now. Args: waiting: those that have something, not empty."""
        chosen = max(waiting)
        if len(waiting) == 1 and not self._is_anyone_behind:
            return chosen
        for priority in sorted(waiting):
            if self._passed[priority] >= self._turns:
                chosen = priority
                break
        for priority in PRIORITIES:
            if priority == chosen or priority not in waiting:
                self._passed[priority] = 0
            else:
                self._passed[priority] += 1
        self._is_anyone_behind = any(self._passed.values())
        return chosen


__all__ = [
    "AFTER", "DEAD", "OPEN", "PRIORITIES", "PRIORITY_BY_NAME", "PRIORITY_NAMES", "TURNS", "MessageState", "Priority",
    "Turns", "advance",
]  # fmt: skip
