"""What is kept aside of a closed log and was not written again: batches off the chain that counts, with what of them is
nowhere else.

A repair seals what is void of its own log again, with the stamps it had (repairing.py); what it could not know of, only
those who hold it can bring back. Source: protocol/SPEC.md, "Logs", 9. Not the taking: importing.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from hybridgw_protocol.batch import Batch, Head, parse_batch
from hybridgw_protocol.ids import LogId
from hybridgw_storage.database import Connection

from ...core.body import Body
from ...core.operations import FLOOR, Operation, fingerprint
from ...stores import oplog
from ...stores.oplog import LogRow
from .applying import opened
from .values import Keys

STEP_BYTES: Final = 1_048_576  # of a log that are in memory at once


class Aside(NamedTuple):
    """One batch that is kept aside. body: None if it cannot be opened here; left: what of it is not written again."""

    batch: Batch
    body: Body | None
    left: list[Operation]


def is_settled(row: LogRow, keys: Keys) -> bool:
    """Is a log closed, and all of it held that counts: what is off its chain will not be on it any more."""
    end = keys.ends.get(row.log)
    return end is not None and (end.n == 0 or row.stored == Head(end.n, end.hash))


def kept_aside(connection: Connection, keys: Keys, rows: Mapping[LogId, LogRow], log: LogId) -> list[Aside]:
    """The batches off the live branch of a log, ascending n. Floors are never written again."""
    found = []
    for blob in oplog.evidence(connection, log):
        batch = parse_batch(blob)
        body, _ = opened(keys, batch)
        found.append(Aside(batch, body, [op for op in body.operations if op.kind != FLOOR] if body else []))
    stamps = [op.stamp for aside in found for op in aside.left]
    if not stamps:
        return found
    again: set[bytes] = set()
    for row in rows.values():
        is_later = row.last_stamp >= min(stamps) or row.applied.n < row.stored.n
        if row.device == rows[log].device and (row.log == log or is_later):
            above = found[0].batch.n - 1 if row.log == log else 0
            for op in _operations(connection, keys, row.log, above, max(stamps)):
                again.add(fingerprint(op))
    return [aside._replace(left=[op for op in aside.left if fingerprint(op) not in again]) for aside in found]


def _operations(connection: Connection, keys: Keys, log: LogId, above: int, latest: int) -> Iterator[Operation]:
    """The operations of a log's live branch above a batch, up to a stamp: within a log they rise."""
    while blobs := oplog.blobs(connection, log, above, STEP_BYTES):
        for blob in blobs:
            batch = parse_batch(blob)
            above = batch.n
            body, _ = opened(keys, batch)
            if body is None:
                continue
            if body.first_stamp is not None and body.first_stamp > latest:
                return
            yield from body.operations
