"""Who belongs, as a pure function of the control records in a view. Bits only: records are numbers, sets are integers.

A VIEW is a set of records as an integer: bit i = i-th stored record. Everything is decided for a view, the whole log or
the past of one record, so that a record can be judged by its own past. Order of decision, so that nothing is circular:
dead (own past) -> void (expels) -> ended by root -> restores of devices -> standing removes -> active.

What a hostile device can cost: one outcome takes a few operations on such integers per expel, restore and void seat in
the view, so at most about a millisecond with a full log; which remove can put out which seat is settled once, when the
later of the two arrives. Rules and words: protocol/SPEC.md, "Control log".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from .ids import DeviceId

NOBODY: Final = -1  # the index of root's "seat"
_CACHED: Final = 256  # outcomes kept: the past of a new record is nearly always one that was asked before


class Outcome(NamedTuple):
    """What a view says. kept: expelled device -> records at or below the `keep` of all its expels; void_seats: seats
    whose add does not count because of an expel; standing: removes and leaves that hold now."""

    kept: dict[DeviceId, int]
    void_seats: int
    standing: int


class _Seat(NamedTuple):
    device: DeviceId
    adder: int  # seat index, or NOBODY


def bits(mask: int) -> Iterator[int]:
    """Indexes of the ones, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Standing:
    """Seats, removes, restores and expels as they arrive, and what follows for any view."""

    def __init__(self) -> None:
        self.seats: dict[int, _Seat] = {}
        self.seats_of: dict[DeviceId, list[int]] = {}
        self.dead = 0  # records whose signer was out in their own past
        self.expels = 0
        self._matters = 0  # records that change who belongs; the others are left out of cached views
        self._acts_by: defaultdict[int, int] = defaultdict(int)  # seat -> those of them that it signed
        self._adds_by: defaultdict[int, list[int]] = defaultdict(list)  # seat -> seats it added
        self._removes = 0  # removes and leaves
        self._removes_of: defaultdict[DeviceId, int] = defaultdict(int)
        self._leaves_of: defaultdict[DeviceId, int] = defaultdict(int)
        self._hits: dict[int, int] = {}  # seat -> removes and leaves that put it out while they stand
        self._ends: dict[int, int] = {}  # restore -> removes it names
        self._by: dict[int, int] = {}  # restore -> signer
        self._past: dict[int, int] = {}  # restore -> its past
        self._seen_by: dict[int, int] = {}  # restore -> removes that have it in their past
        self._root_restores = 0
        self._restores = 0
        self._expels_of: defaultdict[DeviceId, list[tuple[int, int]]] = defaultdict(list)  # (index, kept view)
        self._cache: dict[int, Outcome] = {}

    # ---- what arrives ------------------------------------------------------------------------------------------------
    def act(self, index: int, by: int) -> None:
        """A record that changes who belongs; told before the calls below."""
        self._matters |= 1 << index
        self._acts_by[by] |= 1 << index

    def bury(self, index: int) -> None:
        """A record of any kind whose signer was out in its own past: it never counts."""
        self.dead |= 1 << index

    def seat(self, index: int, by: int, device: DeviceId) -> None:
        """genesis or add. No remove that is here can have it in its past, so each that hits the adder hits it too."""
        self.seats[index] = _Seat(device, by)
        self.seats_of.setdefault(device, []).append(index)
        self._adds_by[by].append(index)
        self._hits[index] = self._removes_of[device] | (self._hits[by] if by != NOBODY else 0)

    def remove(self, index: int, device: DeviceId, past: int, *, is_leave: bool) -> None:
        """remove or leave: hits all seats of the device, and below them what the remover had not seen."""
        bit = 1 << index
        self._removes |= bit
        self._removes_of[device] |= bit
        if is_leave:
            self._leaves_of[device] |= bit
        todo = list(self.seats_of[device])
        while todo:
            seat = todo.pop()
            self._hits[seat] |= bit
            todo += [added for added in self._adds_by[seat] if not past >> added & 1]
        for restore in bits(self._restores & past):
            self._seen_by[restore] |= bit

    def restore(self, index: int, by: int, past: int, ends: int) -> None:
        """restore. Args: ends: the removes it names, as a view."""
        self._ends[index], self._by[index], self._past[index], self._seen_by[index] = ends, by, past, 0
        if by == NOBODY:
            self._root_restores |= 1 << index
        else:
            self._restores |= 1 << index

    def expel(self, index: int, device: DeviceId, kept: int) -> None:
        """expel. Args: kept: the view at or below its `keep`."""
        self.expels |= 1 << index
        self._expels_of[device].append((index, kept))

    # ---- what follows ------------------------------------------------------------------------------------------------
    def outcome(self, view: int) -> Outcome:
        """What this view says."""
        view &= self._matters
        found = self._cache.get(view)
        if found is None:
            if len(self._cache) >= _CACHED:
                del self._cache[next(iter(self._cache))]
            found = self._cache[view] = self._decide(view)
        return found

    def _decide(self, view: int) -> Outcome:
        kept: dict[DeviceId, int] = {}
        for device, expels in self._expels_of.items() if self.expels & view else ():
            for index, below in expels:
                if view >> index & 1:
                    kept[device] = kept.get(device, -1) & below
        void_seats, void = self._void(view, kept)
        counting = view & ~self.dead & ~void

        live = self._removes & counting
        for restore in bits(self._root_restores & view):
            live &= ~self._ends[restore]
        ended = 0
        for restore in bits(self._restores & counting):
            if self._ends[restore] & live:
                unseen = ~self._past[restore] & ~self._seen_by[restore]
                if not self._hits[self._by[restore]] & live & unseen:
                    ended |= self._ends[restore]
        return Outcome(kept, void_seats, live & ~ended)

    def _void(self, view: int, kept: dict[DeviceId, int]) -> tuple[int, int]:
        """Seats and records that do not count because of expels: what expelled devices signed above `keep`, and all
        that rests on a seat they gave there."""
        void_seats = void = 0
        todo: list[int] = []
        for device, below in kept.items():
            for seat in self.seats_of[device]:
                void |= self._acts_by[seat] & ~below
                todo += [added for added in self._adds_by[seat] if not below >> added & 1]
        while todo:
            seat = todo.pop()
            if view >> seat & 1 and not void_seats >> seat & 1:
                void_seats |= 1 << seat
                void |= self._acts_by[seat]
                todo += self._adds_by[seat]
        return void_seats, void

    def counts(self, index: int, by: int, outcome: Outcome) -> bool:
        """Neither dead nor void. Args: by: the signer's seat, or NOBODY."""
        if self.dead >> index & 1:
            return False
        if by == NOBODY:
            return True
        return not outcome.void_seats >> by & 1 and bool(outcome.kept.get(self.seats[by].device, -1) >> index & 1)

    def is_member(self, seat: int, outcome: Outcome) -> bool:
        """Neither void nor expelled. The seat is in the view."""
        device, adder = self.seats[seat]
        return device not in outcome.kept and self.counts(seat, adder, outcome)

    def is_active(self, seat: int, outcome: Outcome) -> bool:
        """A member that no standing remove hits."""
        return not self._hits[seat] & outcome.standing and self.is_member(seat, outcome)

    def has_left(self, seat: int, outcome: Outcome) -> bool:
        """Is it out by its own leave."""
        return bool(self._leaves_of[self.seats[seat].device] & outcome.standing)

    def hitting(self, seat: int, outcome: Outcome) -> int:
        """The standing removes and leaves that put it out, as a view."""
        return self._hits[seat] & outcome.standing
