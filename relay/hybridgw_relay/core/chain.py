"""Where a batch stands towards what is stored of its log. Pure.

Source: protocol/SPEC.md, "Logs (closing, repair)" and "Relay".
"""

from __future__ import annotations

from enum import Enum, auto

from hybridgw_protocol.batch import Batch, Head


class Place(Enum):
    """Where a batch stands."""

    NEXT = auto()  # follows the head: store it
    HELD = auto()  # at or below the head: the same bytes again, or a fork
    FORK = auto()  # follows another batch of our head's number than ours
    GAP = auto()  # something before it is missing


def place(head: Head, batch: Batch) -> Place:
    """Args: head: the stored end of the batch's log, EMPTY_HEAD for a log that is not here yet."""
    if batch.n > head.n + 1:
        return Place.GAP
    if batch.n <= head.n:
        return Place.HELD
    # `prev` of batch 1 is the salt of its log, checked against the log's id when it was parsed.
    return Place.NEXT if batch.n == 1 or batch.prev == head.hash else Place.FORK
