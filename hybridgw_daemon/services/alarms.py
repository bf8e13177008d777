"""The alarms of this device, for local callers."""

from __future__ import annotations

from hybridgw_protocol.errors import NotFound
from hybridgw_protocol.localapi import Alarm
from hybridgw_storage.database import Database

from ..stores import alarms as rows


class AlarmService:
    """Lists and acknowledges alarms."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, *, all_of_them: bool = False) -> list[Alarm]:
        """Open alarms, newest first."""
        found = self._database.peek(lambda c: rows.alarms(c, all_of_them=all_of_them))
        return [
            Alarm(id=a.id, at_ms=a.at_ms, code=a.code, message=a.message, detail=a.detail, acknowledged=a.acknowledged)
            for a in found
        ]

    async def acknowledge(self, alarm: int) -> None:
        """A person has seen it. Raises: NotFound."""
        if not await self._database.write(lambda tx: rows.acknowledge(tx, alarm)):
            raise NotFound(f"There is no alarm {alarm}; 'hybridgw status' lists them.")
