"""Guards against accidents: deleting a lot at once asks a person first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from hybridgw_protocol.errors import NeedsPerson

from .ports import Principal

MASS_DELETE: Final = 100  # documents of one collection; more ask first
MASS_DELETE_SHARE: Final = 0.2  # of the collection
MASS_DELETE_LEAST: Final = 5  # so few never ask, whatever their share
MASS_DELETE_WINDOW_MS: Final = 10_000


class MassDeletes:
    """Counts what each credential deletes; over the bound a person has to agree (`confirm`)."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str], deque[tuple[int, int]]] = {}

    def check(
        self, principal: Principal, collection: str, count: int, now_ms: int, alive: Callable[[int], int]
    ) -> None:
        """Raise NeedsPerson if *count* more deletes in this collection are too many at once.

        Args: alive: living documents of the collection, counted up to the argument.
        """
        recent = self._recent.get((principal.id, collection))
        while recent and recent[0][0] <= now_ms - MASS_DELETE_WINDOW_MS:
            recent.popleft()
        before = sum(n for _, n in recent) if recent else 0
        total = before + count
        if total < MASS_DELETE_LEAST:
            return
        # The share is of what was there before the first of them.
        bound = int(total / MASS_DELETE_SHARE) + 1
        if total > MASS_DELETE or total > MASS_DELETE_SHARE * (alive(bound) + before):
            raise NeedsPerson(
                f"This would delete {total} documents of {collection} within {MASS_DELETE_WINDOW_MS // 1000} s. Ask "
                "the person, then send it again with confirm=true.",
                collection=collection,
                documents=total,
                confirm="confirm=true",
            )

    def note(self, principal: Principal, collection: str, count: int, now_ms: int) -> None:
        """Remember what was deleted."""
        self._recent.setdefault((principal.id, collection), deque()).append((now_ms, count))
        if len(self._recent) > 1_000:
            old = now_ms - MASS_DELETE_WINDOW_MS
            self._recent = {key: recent for key, recent in self._recent.items() if recent and recent[-1][0] > old}
