"""Branches of one log: batches off the chain that is held, kept as evidence, and which branch counts once it is closed.

A log branches when one place of it was signed twice: a database restored from a copy, or running twice. Source:
protocol/SPEC.md, "Logs". Not what follows for documents and for our own void batches: rebuilding.py, repairing.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridgw_protocol.batch import EMPTY_HEAD, Batch, Head, parse_batch
from hybridgw_storage.database import Tx

from ...stores import oplog
from ...stores.oplog import LogRow
from .state import State
from .values import End


def is_evidence(tx: Tx, row: LogRow, batch: Batch) -> bool:
    """Does this batch hang on something we hold: another branch, gapless down to the common part."""
    if batch.n == 1:
        return batch.prev == row.salt
    below = oplog.hash_at(tx.connection, row.log, batch.n - 1)
    return below == batch.prev or oplog.evidence_has(tx.connection, row.log, batch.n - 1, batch.prev)


def follow_end(tx: Tx, state: State, row: LogRow, end: End, now_ms: int) -> bool:
    """Make the live branch of a closed log the one its end names. Returns whether applied batches became void."""
    live = dict(oplog.hashes(tx.connection, row.log))
    if end.n == 0 or live.get(end.n) == end.hash:
        keep = end.n
    else:
        branch = _branch_to(tx, row, end, live)
        if branch:
            keep = branch[0].n - 1
            oplog.replace_branch(tx, row.log, keep, branch, now_ms)
            row.stored = Head(branch[-1].n, branch[-1].hash)
            state.dirty_logs.add(row.log)
            state.unapplied.add(row.log)
            void = row.applied.n > keep
            if void:
                row.applied = Head(keep, live[keep]) if keep else EMPTY_HEAD
            return void
        keep = min(end.fork, row.stored.n)
    if row.stored.n > keep:
        oplog.replace_branch(tx, row.log, keep, [], now_ms)
        row.stored = Head(keep, live[keep]) if keep else EMPTY_HEAD
        state.dirty_logs.add(row.log)
    void = row.applied.n > keep
    if void:
        row.applied = row.stored
    return void


def end_for(tx: Tx, own: LogRow, tip: Head) -> End | None:
    """The end to sign for a forked log of ours; see Repairer.close_for."""
    held = _held(tx, own)
    branches = []  # each from its end down to where it leaves our own chain
    for leaf in held.keys() - {b.prev for b in held.values()}:
        chain, digest = [held[leaf]], held[leaf].prev
        while digest in held:
            chain.append(held[digest])
            digest = held[digest].prev
        branches.append(chain)
    fork = min(chain[-1].n - 1 for chain in branches)
    if tip.n > fork and tip.hash:
        size = len(tip.hash)
        branches = [chain for chain in branches if any(b.n == tip.n and b.hash[:size] == tip.hash for b in chain)]
    ends = [(chain[0].n, chain[0].hash) for chain in branches]
    return End(*max(ends), fork) if ends else None


def _branch_to(tx: Tx, row: LogRow, end: End, live: Mapping[int, bytes]) -> list[Batch]:
    """The batches from the live chain up to the end's tip, out of the evidence; empty if not all are held."""
    held = _held(tx, row)
    found: list[Batch] = []
    digest = end.hash
    while digest in held:
        found.append(held[digest])
        n, digest = held[digest].n - 1, held[digest].prev
        if live.get(n) == digest or (n == 0 and digest == row.salt):
            return found[::-1]
    return []


def _held(tx: Tx, row: LogRow) -> dict[bytes, Batch]:
    """The evidence of a log, by hash."""
    return {batch.hash: batch for batch in map(parse_batch, oplog.evidence(tx.connection, row.log))}
