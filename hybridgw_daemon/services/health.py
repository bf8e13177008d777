"""What works and what does not: the open sign of life and the detailed report."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal, Protocol

from hybridgw_protocol.errors import HybridGWError
from hybridgw_protocol.localapi import Component, GetHealth, GetReadiness, Health, Readiness
from hybridgw_protocol.localapi_operations import (
    GetHealthReport,
    HealthReport,
    PerformanceReport,
    ServiceReport,
    SystemReport,
)
from hybridgw_storage.database import Database

from ..stores import queries
from .ports import Principal
from .system import System

LOW_DISK_BYTES: Final = 200 * 1024 * 1024


class Worker(Protocol):
    """Runs a function off the event loop."""

    def __call__(self, work: Callable[[], SystemReport], /) -> Awaitable[SystemReport]:
        """The function's result."""
        ...


class HealthService:
    """Collects the states of the parts; each part tells its own."""

    def __init__(
        self,
        database: Database,
        *,
        version: str,
        uptime_s: Callable[[], float],
        performance: Callable[[], PerformanceReport],
        worker: Worker,
    ) -> None:
        """Args: performance: figures of the calls since the start; worker: runs what takes milliseconds."""
        self._database = database
        self._version = version
        self._uptime_s = uptime_s
        self._performance = performance
        self._worker = worker
        self.system = System(database.path)
        self._parts: dict[str, Callable[[], Component]] = {}
        self._services: list[Callable[[], Iterable[ServiceReport]]] = []

    def add(self, name: str, state: Callable[[], Component]) -> None:
        """A part that tells its state when asked; must be quick and must not raise."""
        self._parts[name] = state

    def add_services(self, states: Callable[[], Iterable[ServiceReport]]) -> None:
        """Things outside this program; asked for at each report, must be quick and must not raise."""
        self._services.append(states)

    async def alive(self, _principal: Principal | None, _command: GetHealth) -> Health:
        """It answers, so it lives."""
        return Health()

    async def readiness(self, _principal: Principal, _command: GetReadiness) -> Readiness:
        """The state of every part. ready: local data is served."""
        components = self._components()
        return Readiness(
            ready=components[0].state == "ok",
            version=self._version,
            uptime_s=round(self._uptime_s(), 3),
            components=components,
        )

    async def report(self, _principal: Principal, _command: GetHealthReport) -> HealthReport:
        """Everything at once: the machine, what this program leans on, its parts, how fast it answers."""
        components = self._components()
        services = [found for states in self._services for found in states()]
        states = {part.state for part in components} | {s.state for s in services if s.state != "not_configured"}
        status: Literal["ok", "degraded", "failed"] = "ok"
        if components[0].state == "failed":
            status = "failed"
        elif states & {"degraded", "failed"}:
            status = "degraded"
        return HealthReport(
            status=status,
            ready=components[0].state == "ok",
            version=self._version,
            uptime_s=round(self._uptime_s(), 3),
            system=await self._worker(self.system.look),
            services=services,
            components=components,
            performance=self._performance(),
        )

    def _components(self) -> list[Component]:
        """The database first."""
        return [self._database_state(), self._disk_state(), *(state() for state in self._parts.values())]

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
