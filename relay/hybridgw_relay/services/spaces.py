"""Spaces that have connections: who belongs (derived from control records), who is connected, the newest batches.

What stands here is a copy: a space is read from the store when its first connection comes and forgotten with its last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from hybridgw_protocol.errors import HybridGWError, NotAdmitted, Revoked
from hybridgw_protocol.frames import Msg
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.limits import SHORT_HASH_BYTES
from hybridgw_protocol.membership import Close

from ..core.control import ControlView
from ..fanout.base import Fanout, News
from ..stores.base import DeviceRow, RelayStore, SpaceRow
from .host import Host
from .tail import Tail

log = logging.getLogger(__name__)

REMOVED = "The device was removed from its space."  # what can be done about it, the device itself knows better
GONE = "This relay does not serve the space any more. Ask whoever runs it."


class Member(Protocol):
    """A connection, as its space sees it."""

    device: DeviceId

    def wake(self) -> None:
        """There are new batches."""
        ...

    def took_back(self, log: LogId, n: int) -> None:
        """What it was sent of a log above a batch was of another branch than what is stored now."""
        ...

    def tell_control(self, records: Sequence[bytes]) -> None:
        """There are new control records."""
        ...

    def wake_mail(self) -> None:
        """There may be new messages for its device."""
        ...

    def wake_letters(self) -> None:
        """The same, of other people."""
        ...

    def pass_on(self, frame: Msg) -> None:
        """What another device has to say just now."""
        ...

    def fail(self, error: HybridGWError) -> None:
        """End the connection, and say why."""
        ...


class Space:
    """One space with connections. Methods that change its control records exclude each other."""

    def __init__(self, row: SpaceRow, store: RelayStore, host: Host) -> None:
        self.sid, self.id, self.aid = row.sid, row.id, row.aid
        self.members: dict[Member, None] = {}
        self.tail = Tail()
        self.sign_keys: dict[DeviceId, bytes] = {}
        self.known_closes: Mapping[LogId, Close] = {}
        self._store, self._host = store, host
        self._view: ControlView | None = None
        self._lock = asyncio.Lock()
        self.is_gone = False  # an administrator removed it
        self._follow(row)

    def _follow(self, row: SpaceRow) -> None:
        self.devices = row.devices
        self.control_heads = row.control_heads
        self.sign_keys = {device: found.sign for device, found in row.devices.items()}
        self.known_closes = {}

    def take_back(self, gave_way: Mapping[LogId, int]) -> None:
        """Of these logs another branch was stored above a number: nobody counts as having what took its place."""
        self.tail.clear()
        for member in self.members:
            for log_id, n in gave_way.items():
                member.took_back(log_id, n)

    # ---- who belongs ----------------------------------------------------------------------------------------------
    @property
    def heads(self) -> list[bytes]:
        """16-byte prefixes of the control log's heads, sorted."""
        return sorted(head[:SHORT_HASH_BYTES] for head in self.control_heads)

    def is_active(self, device: DeviceId) -> bool:
        """May this device connect now."""
        found = self.devices.get(device)
        return found is not None and found.active

    async def closes(self) -> Mapping[LogId, Close]:
        """Logs that control records close, and where: worked out on demand, for a store holds only what was pushed."""
        async with self._lock:
            view = await self._read_view()
            self.known_closes = view.ends(await self._store.owners(self.sid))
        return self.known_closes

    async def missing_from(self, heads: Sequence[bytes]) -> list[bytes]:
        """Control records that somebody with these heads lacks, prevs first."""
        if sorted(heads) == self.heads:
            return []
        async with self._lock:
            return (await self._read_view()).missing_from(heads)

    async def directory(self, heads: Sequence[bytes]) -> list[bytes]:
        """What other people may know of it who know these heads; empty: nothing."""
        async with self._lock:
            return (await self._read_view()).directory(heads)

    async def message_keys(self) -> dict[DeviceId, list[bytes]]:
        """Ids of the message keys that letters to it may be sealed to."""
        async with self._lock:
            return (await self._read_view()).message_keys()

    async def is_stale(self, heads: Sequence[bytes]) -> bool:
        """Does somebody with these heads not know who belongs now."""
        if sorted(heads) == self.heads:
            return False
        async with self._lock:
            return (await self._read_view()).is_stale(heads)

    async def add_control(self, records: Sequence[bytes], *, source: Member | None) -> HybridGWError | None:
        """Keep records, tell the other connections, end those of devices that are out.

        Returns what is wrong with the first bad one (the good ones are kept all the same), or None.
        """
        async with self._lock:
            view = await self._read_view()
            self._view = None  # of no use if what follows fails half-way
            added, error = await self._add(view, records)
            await self._keep(view, added)
        if added:
            for member in tuple(self.members):
                if member is not source:
                    member.tell_control([raw for _, raw in added])
        return error

    async def try_control(self, records: Sequence[bytes], device: DeviceId) -> bool:
        """Keep records only if they make *device* active; what a stranger sends must not cost room."""
        async with self._lock:
            trial = await self._load_view()
            added, _ = await self._add(trial, records)
            if not trial.is_active(device):
                return False
            await self._keep(trial, added)
        for member in tuple(self.members):
            member.tell_control([raw for _, raw in added])
        return True

    async def refresh(self) -> None:
        """Look at the store again: another process may have changed or removed the space."""
        async with self._lock:
            row = self._store.space(self.id)
            if row is None or row.sid != self.sid:
                self.is_gone = True
                for member in tuple(self.members):
                    member.fail(NotAdmitted(GONE))
                return
            if row.control_heads == self.control_heads and row.devices == self.devices:
                return
            had = {digest for digest, _ in self._view.records()} if self._view else set()
            self._view = None
            view = await self._read_view()
            self._follow(row)
        fresh = [raw for digest, raw in view.records() if digest not in had]
        for member in tuple(self.members):
            member.tell_control(fresh)
        self._put_out_inactive()

    async def _keep(self, view: ControlView, added: list[tuple[bytes, bytes]]) -> None:
        if added:
            devices = {dev: DeviceRow(sign, active) for dev, sign, active in view.devices()}
            heads = tuple(sorted(view.heads()))
            await self._store.add_control(self.sid, added, heads, devices, self._host.wall_ms())
            self._follow(SpaceRow(self.sid, self.id, self.aid, heads, devices))
        self._view = view
        self._put_out_inactive()

    def _put_out_inactive(self) -> None:
        for member in tuple(self.members):
            if not self.is_active(member.device):
                member.fail(Revoked(REMOVED))

    async def _read_view(self) -> ControlView:
        if self._view is None:
            self._view = await self._load_view()
        return self._view

    async def _load_view(self) -> ControlView:
        records = await self._store.control(self.sid)
        return await self._host.work(lambda: ControlView(self.id, records))

    async def _add(
        self, view: ControlView, records: Sequence[bytes]
    ) -> tuple[list[tuple[bytes, bytes]], HybridGWError | None]:
        return await self._host.work(lambda: view.add(records))

    # ---- who is connected -----------------------------------------------------------------------------------------
    def on_news(self, news: News) -> None:
        """Fan-out calls this."""
        if news is News.BATCHES:
            for member in tuple(self.members):
                member.wake()
        elif news is News.MAIL:
            for member in tuple(self.members):
                member.wake_mail()
        elif news is News.LETTERS:
            for member in tuple(self.members):
                member.wake_letters()


class Spaces:
    """The spaces that somebody uses now, by id; each is one object as long as a connection holds it."""

    def __init__(self, store: RelayStore, fanout: Fanout, host: Host) -> None:
        self._store, self._fanout, self._host = store, fanout, host
        self.fanout = fanout
        self._alive: WeakValueDictionary[SpaceId, Space] = WeakValueDictionary()
        self._end: dict[Space, Callable[[], None]] = {}
        self._seen: dict[tuple[int, DeviceId], int] = {}

    def find(self, space_id: SpaceId) -> Space | None:
        """The space; read from the store if nobody uses it now. None: it was never admitted."""
        found = self._alive.get(space_id)
        if found is None or found.is_gone:
            found = None
            row = self._store.space(space_id)
            if row is not None:
                found = self._alive[space_id] = Space(row, self._store, self._host)
        return found

    async def register(
        self, space_id: SpaceId, invite_hash: bytes, records: Sequence[bytes], device: DeviceId
    ) -> Space | None:
        """Admit a space with its control records; None if they do not make *device* active.

        Raises: NotAdmitted: the invite was used meanwhile. RemoteError kinds: records that do not lead from the root.
        """
        view = ControlView(space_id)
        added, error = await self._host.work(lambda: view.add(records))
        if error is not None:
            raise error
        if not view.is_active(device):
            return None
        devices = {dev: DeviceRow(sign, active) for dev, sign, active in view.devices()}
        row = await self._store.register(
            space_id, invite_hash, added, sorted(view.heads()), devices, self._host.wall_ms()
        )
        log.info("space admitted space=%s account=%d devices=%d", space_id.hex(), row.aid, len(devices))
        return self.find(space_id)

    def join(self, space: Space, member: Member) -> None:
        """Enter a connection."""
        if not space.members:
            self._end[space] = self._fanout.subscribe(space.id, space.on_news)
        space.members[member] = None

    def leave(self, space: Space, member: Member) -> None:
        """Take a connection out; idempotent."""
        if space.members.pop(member, member) is None and not space.members:
            self._end.pop(space)()
            space.tail.clear()

    def saw(self, space: Space, device: DeviceId) -> None:
        """A device is here now; written down together with others, by `save_seen`."""
        self._seen[space.sid, device] = self._host.wall_ms()

    def wall_ms(self) -> int:
        """Now, Unix ms."""
        return self._host.wall_ms()

    async def save_seen(self) -> None:
        """Write down when devices were here last."""
        for space in self.in_use():
            for member in space.members:
                self.saw(space, member.device)
        seen, self._seen = self._seen, {}
        if seen:
            await self._store.seen(seen)

    def in_use(self) -> list[Space]:
        """Those with connections, or with one that is being let in."""
        return list(self._alive.values())
