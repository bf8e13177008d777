"""Room for letters: how much of one person's messages this device has. Source: protocol/SPEC.md, "People".

What was dealt with makes room, the oldest first. If that is not enough, letters wait at the relay, whose room for one
person has an end too: then their sender hears `quota` and puts them again later. So nothing is lost, no disk filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.limits import DEDUPE_MS, MAX_FROM_ONE, MAX_FROM_ONE_BYTES, MAX_MESSAGE_BODY_BYTES
from hybridgw_storage.database import Database, Tx

from ..stores import alarms
from ..stores import people as rows
from ..stores.people import Used

AGAIN_MS: Final = 20_000  # whose room is full is looked at again: it takes a quarter of a second, and less than HOLD_MS
GAIN: Final = 8  # an eighth is made free at once, so that it is not done for each letter


class LetterRoom:
    """One per daemon."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        """Args: clock: Unix ms."""
        self._database, self._clock = database, clock
        self._used: dict[SpaceId, Used] = {}  # at most so much: looked up when it seems too much
        self._full_until_ms: dict[SpaceId, int] = {}

    async def take(self, person: SpaceId, name: str, size: int, coming: Sequence[int]) -> bool:
        """Account for a message of a contact. Returns whether there is room for it. Args: name: of the contact; size:
        bytes of what it says; coming: likewise, those that were taken and are not stored yet."""
        used, now_ms = self._used.get(person), self._clock()
        if 0 < self._full_until_ms.get(person, 0) - now_ms <= AGAIN_MS:  # a clock may go back
            return False
        if used is None or not _has_room(used):
            used = await self._database.write(lambda tx: self._make_room(tx, person, name, coming))
        is_room = _has_room(used)
        self._used[person] = Used(used.messages + 1, used.size + size) if is_room else used
        if not is_room:
            self._full_until_ms[person] = now_ms + AGAIN_MS
        return is_room

    def _make_room(self, tx: Tx, person: SpaceId, name: str, coming: Sequence[int]) -> Used:
        def look() -> Used:
            stored = rows.used_by(tx, person)
            return Used(stored.messages + len(coming), stored.size + sum(coming))

        used, now_ms = look(), self._clock()
        if not _has_room(used):
            rows.forget_dealt_with(
                tx, person, count=used.messages - MAX_FROM_ONE + MAX_FROM_ONE // GAIN,
                size=used.size - MAX_FROM_ONE_BYTES + MAX_FROM_ONE_BYTES // GAIN, over_ms=now_ms - DEDUPE_MS,
            )  # fmt: skip
            used = look()
        if not _has_room(used):
            text = (
                f"{name} has written so much that it does not fit here: further messages of theirs wait at the relay "
                "until some that wait here were dealt with ('hybridgw messages ack'), or have expired."
            )
            alarms.raise_alarm(tx, now_ms, "person_full", text, person=person.hex())
        elif _has_room(used, part=2 * GAIN):  # not with each one that was dealt with, or it would be told on and on
            alarms.clear_alarms(tx, "person_full", person=person.hex())
        return used


def _has_room(used: Used, *, part: int | None = None) -> bool:
    """Whatever the length of the next one, or long ones would be overtaken by short ones. Args: part: is such a part of
    all the room free."""
    messages, size = (1, MAX_MESSAGE_BODY_BYTES) if part is None else (MAX_FROM_ONE // part, MAX_FROM_ONE_BYTES // part)
    return used.messages + messages <= MAX_FROM_ONE and used.size + size <= MAX_FROM_ONE_BYTES
