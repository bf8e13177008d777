"""Version vectors: log -> head. What a side holds gaplessly, how it travels, and what one side lacks.

On the wire a vector is an array of [log, n, first 16 bytes of H], sorted by log as a signed integer.
Source: protocol/SPEC.md, "Vectors".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from .batch import EMPTY_HEAD, MAX_N, Head
from .errors import BadFrame
from .ids import LogId
from .limits import LOGS_PER_SPACE, SHORT_HASH_BYTES

Heads = dict[LogId, Head]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One log of a vector on the wire."""

    log: int
    n: int
    hash: bytes


def to_entries(heads: Mapping[LogId, Head]) -> list[Entry]:
    """Wire form; logs with n = 0 are left out."""
    return [Entry(log, heads[log].n, heads[log].short) for log in sorted(heads) if heads[log].n]


def from_entries(entries: Iterable[Entry]) -> Heads:
    """Vector with 16-byte hashes.

    Raises: BadFrame: too many logs, a repeated log, a number or hash out of range.
    """
    heads: Heads = {}
    for entry in entries:
        if (
            entry.log in heads
            or not -(2**63) <= entry.log < 2**63
            or not 1 <= entry.n <= MAX_N
            or len(entry.hash) != SHORT_HASH_BYTES
        ):
            raise BadFrame("A version vector has a repeated log, or a number or hash out of range.")
        if len(heads) == 2 * LOGS_PER_SPACE:
            raise BadFrame(f"A version vector has at most {2 * LOGS_PER_SPACE} logs.")
        heads[LogId(entry.log)] = Head(entry.n, entry.hash)
    return heads


def missing(ours: Mapping[LogId, Head], theirs: Mapping[LogId, Head]) -> dict[LogId, int]:
    """Logs of ours that the other side lacks something of -> the highest n it has (0 for none)."""
    return {log: theirs.get(log, EMPTY_HEAD).n for log, head in ours.items() if head.n > theirs.get(log, EMPTY_HEAD).n}


def is_equal(ours: Mapping[LogId, Head], theirs: Mapping[LogId, Head]) -> bool:
    """Same logs, numbers and (16-byte) hashes: in step."""
    return {k: (h.n, h.short) for k, h in ours.items()} == {k: (h.n, h.short) for k, h in theirs.items()}


def forked(ours: Mapping[LogId, Head], theirs: Mapping[LogId, Head]) -> list[LogId]:
    """Logs that both name at the same n with different hashes: somebody signed twice, or lies."""
    return [
        log
        for log, head in ours.items()
        if log in theirs and theirs[log].n == head.n and theirs[log].short != head.short
    ]
