"""The reference of delivery: what a recipient shows of what arrives, and what a whole run must have led to.

Plain Python over plain values, written from protocol/SPEC.md, "Messages", without a look at the product. The product's
intake is compared with `Receiver`, and every simulated run is judged with `judge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

HOLD_MS = 30_000
Stream = tuple[str, int, int]  # sender, stream, priority


@dataclass(frozen=True)
class Mail:
    """One message or tombstone as it arrives at one recipient."""

    id: str
    sender: str
    stream: int
    priority: int
    seq: int
    is_dead: bool = False

    @property
    def place(self) -> Stream:
        """Whose order it stands in."""
        return self.sender, self.stream, self.priority


@dataclass(frozen=True)
class Shown:
    """What programs are shown. gap: marked as not in its turn, or after something that is missing."""

    id: str
    gap: bool


@dataclass
class Receiver:
    """What one device does with what arrives."""

    known: set[tuple[str, str]] = field(default_factory=set)
    last: dict[Stream, int] = field(default_factory=dict)
    held: dict[Stream, dict[int, tuple[Mail, int]]] = field(default_factory=dict)

    def arrive(self, mail: Mail, now_ms: int) -> list[Shown]:
        """What is shown because of it."""
        if (mail.sender, mail.id) in self.known:
            return []
        last, waiting = self.last.get(mail.place, 0), self.held.setdefault(mail.place, {})
        if mail.seq <= last:
            return self._show(mail, gap=True)
        if mail.seq > last + 1:
            waiting.setdefault(mail.seq, (mail, now_ms))
            return []
        self.last[mail.place] = mail.seq
        waiting.pop(mail.seq, None)
        return self._show(mail, gap=False) + self._follow(mail.place)

    def pass_time(self, now_ms: int) -> list[Shown]:
        """What has waited long enough."""
        shown: list[Shown] = []
        for place, waiting in self.held.items():
            while waiting and any(now_ms - since >= HOLD_MS for _, since in waiting.values()):
                mail, _ = waiting.pop(min(waiting))
                self.last[place] = mail.seq
                shown += self._show(mail, gap=True) + self._follow(place)
        return shown

    def _follow(self, place: Stream) -> list[Shown]:
        shown: list[Shown] = []
        while (found := self.held[place].pop(self.last[place] + 1, None)) is not None:
            self.last[place] += 1
            shown += self._show(found[0], gap=False)
        return shown

    def _show(self, mail: Mail, *, gap: bool) -> list[Shown]:
        if mail.is_dead or (mail.sender, mail.id) in self.known:
            return []
        self.known.add((mail.sender, mail.id))
        return [Shown(mail.id, gap)]


class Wrong(AssertionError):
    """A run that must not be."""


def demand(holds: bool, *what: object) -> None:
    """Raises: Wrong."""
    if not holds:
        raise Wrong(*what)


@dataclass(frozen=True)
class Truth:
    """One message to one recipient, as its sender numbered it."""

    id: str
    recipient: str
    place: Stream
    seq: int
    expires_ms: int


def judge(
    sent: Iterable[Truth], shown: Mapping[str, Sequence[Shown]], states: Mapping[tuple[str, str], str], end_ms: int
) -> None:
    """What must hold once all is quiet.

    Args: shown: by recipient, in order; states: (id, recipient) -> what the sender says; end_ms: the latest time of any
    clock. Raises: Wrong.
    """
    truths = {(t.recipient, t.id): t for t in sent}
    for recipient, those in shown.items():
        ids = [s.id for s in those]
        demand(len(ids) == len(set(ids)), "shown twice", recipient, [i for i in ids if ids.count(i) > 1])
        demand(all((recipient, i) in truths for i in ids), "shown and never sent", recipient)
        last: dict[Stream, int] = {}
        for one in those:
            truth = truths[recipient, one.id]
            if not one.gap:
                demand(truth.seq > last.get(truth.place, 0), "out of order, and not marked", recipient, one.id)
            last[truth.place] = max(truth.seq, last.get(truth.place, 0))
    for (recipient, id), truth in truths.items():
        is_shown = any(s.id == id for s in shown.get(recipient, ()))
        state = states[id, recipient]
        demand(is_shown or truth.expires_ms <= end_ms or state == "failed", "lost", id, recipient, state)
        if state in ("delivered", "handled"):
            demand(is_shown, "said to be delivered and is not", id, recipient)
        if is_shown:
            demand(state in ("delivered", "handled", "expired"), "is there, and its sender was not told", id, state)


__all__ = ["HOLD_MS", "Mail", "Receiver", "Shown", "Truth", "Wrong", "judge"]
