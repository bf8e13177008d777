"""Who is here now: this device's programs as the other devices are told, and what they tell of theirs.

It is told a second after a connection began, when programs come or go (once a second at most), and every HEARTBEAT_MS
while all stays as it is; a device that was not heard of for AWAY_MS is away. What was heard last is kept in the file,
so it is known when somebody was here who is not. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.limits import AWAY_MS, HEARTBEAT_MS
from hybridgw_protocol.localapi_messages import DevicePresence, ListPresence, PresenceList, ProgramPresence
from hybridgw_storage.database import Database, Tx

from ..core.envelopes import MAX_PROGRAMS, Here, Presence, decode_presence, encode_presence
from ..core.targets import HERE
from ..stores import copies
from ..stores import presence as rows
from .addressing import Addressing
from .listeners import Listeners
from .ports import Principal


class PresenceService:
    """One per daemon. version: rises when the others are to be told anew."""

    def __init__(
        self, database: Database, addressing: Addressing, listeners: Listeners, *, clock: Callable[[], int],
        published: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; published: tells local listeners that `presence` changed."""
        self._database, self._addressing, self._listeners = database, addressing, listeners
        self._clock, self._published = clock, published
        self.version = 1
        self._has_changed = False
        self._told_ms = clock()
        self._online: set[bytes] = set()

    # ---- told to others --------------------------------------------------------------------------------------------
    def changed(self) -> None:
        """A program came or went."""
        self._has_changed = True

    def tend(self) -> bool:
        """One turn, each second. Returns whether the others are to be told now."""
        now_ms = self._clock()
        online = {device for device, at_ms, _ in self._database.peek(rows.read) if _is_online(at_ms, now_ms)}
        if online != self._online:
            self._online = online
            self._published("presence")
        if not self._has_changed and abs(now_ms - self._told_ms) < HEARTBEAT_MS:
            return False
        self._has_changed, self._told_ms = False, now_ms
        self.version += 1
        return True

    def own(self, *, wants: bool) -> Presence:
        """What the others are told. Args: wants: they are to answer with theirs."""
        found = self._database.peek(copies.read_listeners)
        found.sort(
            key=lambda item: (item[0].nr not in self._listeners, -item[1])
        )  # those that are here, then the latest
        now_ms = self._clock()
        programs = [
            Here(x.client, x.app, sorted(x.topics), x.nr in self._listeners, now_ms if x.nr in self._listeners else at)
            for x, at in found[:MAX_PROGRAMS]
        ]
        return Presence(now_ms, wants, programs)

    # ---- heard of others -------------------------------------------------------------------------------------------
    def heard(self, tx: Tx, device: DeviceId, told: Presence) -> None:
        """A device tells of its programs; what is older than what is known changes nothing."""
        rows.put(tx, device, self._clock(), told.at_ms, encode_presence(told))
        if told.wants:
            self._has_changed = True

    def after(self, devices: Iterable[DeviceId]) -> None:
        """What these told is durable."""
        self._online.update(devices)
        self._published("presence")

    # ---- shown -----------------------------------------------------------------------------------------------------
    async def devices(self, _: Principal, _command: ListPresence) -> PresenceList:
        """This device, then the others."""
        now_ms = self._clock()
        here = self._addressing.members.here()
        items = [DevicePresence(HERE if here is None else here.name, True, True, now_ms, _shown(self.own(wants=False)))]
        told = {device: (at_ms, decode_presence(raw)) for device, at_ms, raw in self._database.peek(rows.read)}
        for other in self._addressing.members.others() or ():
            at_ms, presence = told.get(other.device, (None, None))
            is_online = at_ms is not None and _is_online(at_ms, now_ms)
            programs = [] if presence is None else _shown(presence, is_online=is_online)
            items.append(DevicePresence(other.name, False, is_online, at_ms, programs))
        return PresenceList(items)

    def of(self, device: bytes) -> tuple[bool | None, list[Here]]:
        """(is it here, its programs) as far as is known; None: it never told."""
        for known, at_ms, raw in self._database.peek(rows.read):
            if known == device:
                return _is_online(at_ms, self._clock()), decode_presence(raw).programs
        return None, []


def _is_online(at_ms: int, now_ms: int) -> bool:
    return abs(now_ms - at_ms) < AWAY_MS  # a clock that was set back must not keep it here for ever


def _shown(presence: Presence, *, is_online: bool = True) -> list[ProgramPresence]:
    return [ProgramPresence(x.client, x.app, x.is_here and is_online, x.seen_ms) for x in presence.programs]
