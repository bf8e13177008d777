"""What works and what does not: the open sign of life and the detailed report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Final

from hybridgw_protocol.errors import HybridGWError
from hybridgw_protocol.localapi import Component, GetHealth, GetReadiness, Health, Readiness
from hybridgw_storage.database import Database

from ..stores import queries
from .ports import Principal

LOW_DISK_BYTES: Final = 200 * 1024 * 1024


class HealthService:
    """Collects the states of the parts; each part tells its own."""

    def __init__(self, database: Database, *, version: str, uptime_s: Callable[[], float]) -> None:
        self._database = database
        self._version = version
        self._uptime_s = uptime_s
        self._parts: dict[str, Callable[[], Component]] = {}

    def add(self, name: str, state: Callable[[], Component]) -> None:
        """A part that tells its state when asked; must be quick and must not raise."""
        self._parts[name] = state

    async def alive(self, _principal: Principal | None, _command: GetHealth) -> Health:
        """It answers, so it lives."""
        return Health()

    async def readiness(self, _principal: Principal, _command: GetReadiness) -> Readiness:
        """The state of every part. ready: local data is served."""
        components = [self._database_state(), self._disk_state(), *(state() for state in self._parts.values())]
        return Readiness(
            ready=components[0].state == "ok",
            version=self._version,
            uptime_s=round(self._uptime_s(), 3),
            components=components,
        )

    def _database_state(self) -> Component:
        try:
            self._database.peek(queries.last_seq)
        except HybridGWError as error:
            return Component(name="database", state="failed", message=error.message, help="hybridgw doctor")
        return Component(name="database", state="ok")

    def _disk_state(self) -> Component:
        try:
            free = shutil.disk_usage(self._database.path.parent).free
        except OSError as error:
            return Component(name="disk", state="degraded", message=f"Free space is not known ({error.strerror}).")
        if free < LOW_DISK_BYTES:
            return Component(
                name="disk", state="degraded", message=f"Only {free // 2**20} MiB are free.", help="hybridgw paths"
            )
        return Component(name="disk", state="ok")
