"""Hybrid logical clock: arithmetic on stamps, the order of writes over all devices.

A stamp is `unix_ms << 16 | counter` in a positive 64-bit integer. The clock itself is one integer, the last stamp
given or observed; whoever writes keeps it in the same transaction as the write.
Source: Kulkarni et al. 2014, Logical Physical Clocks; protocol/SPEC.md, "Stamps".
"""

from __future__ import annotations

from hybridgw_protocol.errors import ClockDrift
from hybridgw_protocol.limits import CLOCK_BOUND_MS, MAX_STAMP, STAMP_BITS


def tick(last: int, now_ms: int, count: int = 1) -> int:
    """The first of *count* stamps for one transaction; its i-th operation (from 0) takes the result + i.

    Args: last: the clock; now_ms: wall clock, Unix milliseconds, corrected, read once per transaction.
    Returns: a stamp above *last*; the new clock is the result + count - 1. A full counter carries into the time.
    Raises: ClockDrift: the clock stands so far ahead (beyond the year 6400) that no stamp is left.
    """
    first = max(last + 1, now_ms << STAMP_BITS)
    if first + count - 1 > MAX_STAMP:
        raise ClockDrift("The clock of this device is past the year 6400; set it right and start again.")
    return first


def observe(last: int, remote: int) -> int:
    """The clock after a stamp of another device was applied. Only for stamps within the bound (`is_ahead`)."""
    return max(last, remote)


def is_ahead(stamp: int, now_ms: int) -> bool:
    """Whether a batch that ends with *stamp* has to be parked: more than CLOCK_BOUND_MS ahead of *now_ms*."""
    return (stamp >> STAMP_BITS) > now_ms + CLOCK_BOUND_MS


def stamp_ms(stamp: int) -> int:
    """The wall clock part, Unix milliseconds."""
    return stamp >> STAMP_BITS
