"""What the daemon acknowledged, and what a document must therefore hold: each has one writer, whose turns rise."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

Place = tuple[str, str]
"""(collection, id of the document)"""


class State(NamedTuple):
    """Of a document. turn: of its last write."""

    turn: int
    alive: bool = True

    @property
    def status(self) -> str:
        """Which a filter asks for: it changes with every third turn."""
        return "open" if self.turn % 3 else "done"


@dataclass
class Ledger:
    """What was acknowledged, and what is under way and may or may not have happened."""

    acknowledged: dict[Place, State] = field(default_factory=dict)
    under_way: dict[Place, State] = field(default_factory=dict)
    count: int = 0

    @contextlib.contextmanager
    def write(self, changes: dict[Place, State]) -> Iterator[None]:
        """Around a request: it is acknowledged when the body ends. An exception leaves it under way."""
        self.under_way.update(changes)
        yield
        self.acknowledged.update(changes)
        self.count += len(changes)
        for place in changes:
            del self.under_way[place]

    def alive_in(self, collection: str) -> dict[str, State]:
        """Documents that a reader of the collection must see, by id, while nothing is under way."""
        assert not self.under_way
        return {
            id: state for (name, id), state in self.acknowledged.items() if name == collection and state.alive
        }  # fmt: skip

    def lost(self, found: dict[Place, State]) -> list[str]:
        """Acknowledged writes that are not in what was found in a file, and anything nobody wrote."""
        wrong = []
        for place, state in self.acknowledged.items():
            seen = found.get(place, State(0, alive=False))
            may = (state, self.under_way.get(place, state))
            if not any(seen == one or (not one.alive and not seen.alive) for one in may):
                wrong.append(f"{place}: {seen}, acknowledged {state}")
        wrong += [
            f"{place}: nobody wrote it" for place in found.keys() - self.acknowledged.keys() - self.under_way.keys()
        ]
        return wrong


def documents_in(path: Path) -> dict[Place, State]:
    """What a daemon's file holds of the load's documents, read without the daemon."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        rows = connection.execute(
            "SELECT c.name, d.id, d.cl, d.body FROM document d JOIN collection c USING(cid) WHERE c.name LIKE 'load%'"
        ).fetchall()
    return {
        (name, id): State(json.loads(body)["turn"]) if cl % 2 else State(0, alive=False) for name, id, cl, body in rows
    }
