"""Records whose `prevs` are not here yet. Bounded: the oldest goes first, and comes again when it is sent again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from .ids import Digest
from .limits import MAX_WAITING_BYTES, MAX_WAITING_RECORDS
from .records import Record


class WaitingRoom:
    """Holds unverified bytes, so it is small: its size never exceeds the two limits."""

    def __init__(self) -> None:
        # By all their bytes, oldest first: two with one hash and different signatures may come, one of them forged.
        self._records: dict[bytes, Record] = {}
        self._bytes = 0
        self._waiting_for: defaultdict[Digest, set[bytes]] = defaultdict(set)  # missing record -> who waits for it

    def __len__(self) -> int:
        return len(self._records)

    @property
    def total_bytes(self) -> int:
        """Bytes held."""
        return self._bytes

    def add(self, record: Record, missing: Iterable[Digest]) -> None:
        """Keep a record until *missing* are here."""
        if record.raw in self._records:
            return
        self._records[record.raw] = record
        self._bytes += len(record.raw)
        for prev in missing:
            self._waiting_for[prev].add(record.raw)
        while len(self._records) > MAX_WAITING_RECORDS or self._bytes > MAX_WAITING_BYTES:
            self._drop(next(iter(self._records.values())))

    def take_ready(self, arrived: Digest, present: Collection[Digest]) -> list[Record]:
        """Those that waited for *arrived* and now have all their prevs among *present*; they are not held any more."""
        waiting = [self._records[raw] for raw in self._waiting_for.get(arrived, ())]
        ready = [record for record in waiting if all(p in present for p in record.payload.prevs)]
        for record in ready:
            self._drop(record)
        return sorted(ready, key=lambda record: record.raw)

    def _drop(self, record: Record) -> None:
        del self._records[record.raw]
        self._bytes -= len(record.raw)
        for prev in record.payload.prevs:
            if prev in self._waiting_for:
                self._waiting_for[prev].discard(record.raw)
                if not self._waiting_for[prev]:
                    del self._waiting_for[prev]
