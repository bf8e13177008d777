"""Which seat can get which space key, as every device and the relay can tell from the control records alone.

An epoch gives its key to its recipients; with it come the older keys that it carries encrypted (`prev_wraps`); an add
or a wrap gives keys on. A gift counts only if the giver has the key itself, or is root: else it is an empty claim, and
a removed device could spoil every new epoch by "giving" it away. What dead and void records give away is given away.
Seats and epochs are record numbers, sets of them integers (standing.py). Rules: protocol/SPEC.md, "Keys".
"""

from __future__ import annotations

from collections import defaultdict

from .standing import NOBODY, bits


class KeyHolders:
    """A fixed point that only grows: `knows` (seat -> epochs) and `holders` (epoch -> seats)."""

    def __init__(self) -> None:
        self.knows: defaultdict[int, int] = defaultdict(int)
        self.holders: defaultdict[int, int] = defaultdict(int)
        self.epochs = 0
        self._maker: dict[int, int] = {}
        self._carries: dict[int, int] = {}  # epoch -> older epochs in its prev_wraps
        self._made_by: defaultdict[int, list[int]] = defaultdict(list)
        self._gifts: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # giver -> (receiver, epochs)

    def epoch(self, index: int, by: int, recipients: int, carries: int) -> None:
        """A new key, for its maker and *recipients* (seats as a set), carrying the keys of older epochs."""
        self.epochs |= 1 << index
        self._maker[index], self._carries[index] = by, carries
        self._made_by[by].append(index)
        seats = recipients | (1 << by if by != NOBODY else 0)
        self._learn([(seat, 1 << index) for seat in bits(seats)])

    def gift(self, giver: int, receiver: int, epochs: int) -> None:
        """An add or wrap that says it gives these keys."""
        if epochs:
            self._gifts[giver].append((receiver, epochs))
            self._learn([(receiver, epochs if giver == NOBODY else epochs & self.knows[giver])])

    def carried(self, epoch: int) -> int:
        """The older epochs whose keys this one really unlocks."""
        maker = self._maker[epoch]
        return self._carries[epoch] if maker == NOBODY else self._carries[epoch] & self.knows[maker]

    def _learn(self, todo: list[tuple[int, int]]) -> None:
        while todo:
            seat, epochs = todo.pop()
            fresh = epochs & ~self.knows[seat]
            if not fresh:
                continue
            self.knows[seat] |= fresh
            for epoch in bits(fresh):
                self.holders[epoch] |= 1 << seat
                todo.append((seat, self.carried(epoch)))
            todo += [(receiver, given & fresh) for receiver, given in self._gifts[seat] if given & fresh]
            for epoch in self._made_by[seat]:
                if now_carried := self._carries[epoch] & fresh:
                    todo += [(holder, now_carried) for holder in bits(self.holders[epoch])]

    def unlocks(self, epoch: int) -> int:
        """All older epochs that who has this key can get to by prev_wraps alone."""
        seen, todo = 0, 1 << epoch
        while todo:
            step = todo.bit_length() - 1
            todo ^= 1 << step
            fresh = self.carried(step) & ~seen
            seen |= fresh
            todo |= fresh
        return seen
