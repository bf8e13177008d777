"""Pairing mailboxes: two connections hand each other opaque messages under a number of three digits.

In memory only, and short-lived. Only an admitted device opens one; anybody may join one, once: whoever comes second
ends it for all, for then somebody is trying numbers. Source: protocol/SPEC.md, "Relay" and "Pairing".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from hybridgw_protocol.errors import Busy, PairingFailed, RateLimited
from hybridgw_protocol.frames import Frame, PairClose, PairJoined, PairMsg, PairOpened
from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.limits import MAX_CONTROL_BYTES, PAIRING_NAMEPLATE_DIGITS, PAIRING_TTL_MS
from hybridgw_protocol.token_bucket import TokenBucket

from ..core.quotas import AddressBuckets
from .host import Host

NAMEPLATES: Final = 10**PAIRING_NAMEPLATE_DIGITS
MOST_OPEN: Final = NAMEPLATES // 2  # above, a guessed number would often be somebody's
OPEN_PER_SPACE: Final = 4
OPENS_PER_HOUR: Final = 60  # per space
MESSAGES: Final = 64  # from one side
MAILBOX_BYTES: Final = MAX_CONTROL_BYTES + 1024 * 1024  # from one side: the whole control log passes through
JOINS_PER_MINUTE: Final = 10  # from one network; each may burn one code, none learns anything
JOINS_IN_ALL_PER_MINUTE: Final = 120  # a sweep over all numbers takes most of a code's life, from however many networks
TOLD_SPACES: Final = 4_096


class Side(Protocol):
    """A connection that takes part."""

    def deliver(self, frame: Frame) -> None:
        """Send a frame to it."""
        ...


@dataclass(slots=True, eq=False)
class Mailbox:
    """One nameplate while it is taken."""

    nameplate: int
    space: SpaceId
    opener: Side
    expires_ms: int
    joiner: Side | None = None
    count: dict[Side, int] = field(default_factory=dict)
    size_bytes: dict[Side, int] = field(default_factory=dict)

    def other(self, side: Side) -> Side | None:
        """The one at the other end."""
        return self.joiner if side is self.opener else self.opener


class Mailboxes:
    """All mailboxes of this process."""

    def __init__(self, host: Host, *, joins_per_minute: float = JOINS_PER_MINUTE) -> None:
        self._host = host
        self._by_nameplate: dict[int, Mailbox] = {}
        self._by_side: dict[Side, Mailbox] = {}
        self._joins = AddressBuckets(joins_per_minute / 60, joins_per_minute)
        self._all_joins = TokenBucket(JOINS_IN_ALL_PER_MINUTE / 60, JOINS_IN_ALL_PER_MINUTE)
        self._opens = AddressBuckets(OPENS_PER_HOUR / 3600, 10, TOLD_SPACES)

    def __len__(self) -> int:
        return len(self._by_nameplate)

    def has(self, side: Side) -> bool:
        """Does this side take part in one."""
        return side in self._by_side

    def open_(self, side: Side, space: SpaceId) -> PairOpened:
        """Take a nameplate; one that this side has already is given up.

        Raises: RateLimited, Busy: too many of this space, or of all.
        """
        self.leave(side, "abort")
        now_ms = self._host.steady_ms()
        wait_ms = self._opens.take(space.hex(), 1, now_ms)
        if wait_ms:
            raise RateLimited("Too many pairing codes were asked for. Wait a minute.", retry_ms=wait_ms)
        if sum(box.space == space for box in self._by_nameplate.values()) >= OPEN_PER_SPACE:
            raise RateLimited(f"{OPEN_PER_SPACE} pairings are open already. Finish or cancel one.", retry_ms=60_000)
        if len(self._by_nameplate) >= MOST_OPEN:
            raise Busy("Too many pairings are under way on this relay. Try again in a few minutes.", retry_ms=60_000)
        nameplate = self._free_nameplate()
        box = Mailbox(nameplate, space, side, now_ms + PAIRING_TTL_MS)
        self._by_nameplate[nameplate] = self._by_side[side] = box
        return PairOpened(np=nameplate, ttl=PAIRING_TTL_MS)

    def join(self, side: Side, nameplate: int, address: str) -> None:
        """Enter a mailbox; both sides are told.

        Raises: RateLimited; PairingFailed: there is none of this number, or it was joined (then it ends).
        """
        now_ms = self._host.steady_ms()
        wait_ms = self._joins.take(address, 1, now_ms) or self._all_joins.take(1, now_ms)
        if wait_ms:
            raise RateLimited("Too many pairing codes were tried. Wait a minute.", retry_ms=wait_ms)
        box = self._by_nameplate.get(nameplate)
        if box is None or box.expires_ms <= now_ms:
            raise PairingFailed(
                "No such code is open here. Compare its first three digits with those that are shown: if they "
                "differ, type it again. If not, it is too old, was used, or a newer one took its place: make a new one."
            )
        if box.joiner is not None:
            self._end(box, "joined")
            raise PairingFailed("This code was used already, perhaps by somebody else. Make a new one.")
        box.joiner = side
        self._by_side[side] = box
        box.opener.deliver(PairJoined())
        side.deliver(PairJoined())

    def message(self, side: Side, frame: PairMsg) -> None:
        """Hand a message on. If nobody is there, or it is too much, the mailbox ends."""
        box = self._by_side.get(side)
        if box is None:
            side.deliver(PairClose(why="gone"))
            return
        other = box.other(side)
        if other is None:
            self._end(box, "gone")
            return
        box.count[side] = box.count.get(side, 0) + 1
        box.size_bytes[side] = box.size_bytes.get(side, 0) + len(frame.m)
        if box.count[side] > MESSAGES or box.size_bytes[side] > MAILBOX_BYTES:
            self._end(box, "abort")
            return
        other.deliver(frame)

    def leave(self, side: Side, why: str) -> None:
        """This side is done, or gone; the other is told. Nothing happens if it takes part in none."""
        box = self._by_side.get(side)
        if box is not None:
            self._end(box, why, but_not=side)

    def expire(self) -> None:
        """End what is too old."""
        now_ms = self._host.steady_ms()
        for box in [box for box in self._by_nameplate.values() if box.expires_ms <= now_ms]:
            self._end(box, "expired")

    def _end(self, box: Mailbox, why: str, *, but_not: Side | None = None) -> None:
        del self._by_nameplate[box.nameplate]
        for side in (box.opener, box.joiner):
            if side is not None:
                self._by_side.pop(side, None)
                if side is not but_not:
                    side.deliver(PairClose(why=why))

    def _free_nameplate(self) -> int:
        while True:  # at most half are taken: two draws on average
            nameplate = int.from_bytes(self._host.entropy(4), "big") % NAMEPLATES
            if nameplate not in self._by_nameplate:
                return nameplate
