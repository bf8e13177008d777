"""The newest batches of a space, in memory: what was just stored goes out to others without being read back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from ..core.cursor import Cursor
from ..stores.base import Page, Stored

TAIL_BYTES: Final = 256 * 1024  # per space with connections; cut back to half when full


class Tail:
    """Holds everything of one space above `base`; a cache, the truth is in the store."""

    def __init__(self, most_bytes: int = TAIL_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rids: list[int] = []
        self._items: list[Stored] = []
        self._base = 0
        self._size = 0
        self._is_fresh = False

    def add(self, after_rid: int, stored: Sequence[Stored]) -> None:
        """What one push added. Args: after_rid: the space's last rid before it; after a hole it starts anew."""
        if not self._rids or after_rid != self._rids[-1]:
            self.clear()
            self._base = after_rid
        self._is_fresh = True
        self._items.extend(stored)
        self._rids.extend(item.rid for item in stored)
        self._size += sum(len(item.blob) for item in stored)
        if self._size > self._most_bytes:
            drop = 0
            while self._size > self._most_bytes // 2:
                self._size -= len(self._items[drop].blob)
                drop += 1
            self._base = self._rids[drop - 1]
            del self._items[:drop], self._rids[:drop]

    def age(self) -> None:
        """Forget all if nothing was added since the last call: whoever is live has it, the others read the store."""
        if not self._is_fresh:
            self.clear()
        self._is_fresh = False

    def clear(self) -> None:
        """Forget all."""
        self._items, self._rids, self._size = [], [], 0

    def page(self, cursor: Cursor, max_bytes: int, max_batches: int) -> Page | None:
        """As RelayStore.page, from memory. None: what lies after the cursor is not all here."""
        if not self._rids or cursor.rid < self._base:
            return None
        wanted: list[Stored] = []
        size, rid = 0, cursor.rid
        held: dict[int, int] = {}
        for item in self._items[bisect_right(self._rids, cursor.rid) :]:
            if item.n > held.get(item.log, 0) and cursor.wants(item.log, item.n):
                if wanted and (size + len(item.blob) > max_bytes or len(wanted) >= max_batches):
                    return Page(wanted, rid, True)
                wanted.append(item)
                held[item.log] = item.n
                size += len(item.blob)
            rid = item.rid
        return Page(wanted, rid, False)
