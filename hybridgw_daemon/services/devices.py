"""The devices of the space, for local callers."""

from __future__ import annotations

from hybridgw_protocol.localapi import Device
from hybridgw_protocol.membership import Status
from hybridgw_storage.database import Database

from ..stores import control, oplog
from .space import Space, fingerprint
from .sync import SyncService


class DeviceService:
    """Lists devices: who belongs, when each was heard of, how much of it is not here yet."""

    def __init__(self, database: Database, space: Space, sync: SyncService) -> None:
        self._database = database
        self._space = space
        self._sync = sync

    async def list(self) -> list[Device]:
        """Every device that ever belonged, in the order of admission; only this machine while it has no keys."""
        if self._space.locked:
            return [Device(id="", name=self._space.name, fingerprint="", own=True)]
        seen = self._database.peek(control.seen)
        behind: dict[bytes, int] = {}
        for row in self._database.peek(oplog.logs).values():
            behind[row.device] = behind.get(row.device, 0) + row.stored.n - row.applied.n
        own = self._space.identity.device
        found = []
        for info in self._space.devices():
            if info.status is Status.VOID:
                continue
            name, platform = self._space.name_of(info)
            found.append(
                Device(
                    id=info.device.hex(),
                    name=name,
                    platform=platform,
                    fingerprint=fingerprint(info.device),
                    state=info.status.value,
                    own=info.device == own,
                    last_seen_ms=self._sync.now_ms() if info.device == own else seen.get(info.device),
                    behind=behind.get(info.device, 0),
                    path="none" if info.device == own else self._sync.peers.path(info.device),
                )
            )
        return found
