"""The local API as one part: table, gate and carrier over sockets that are open already."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from hybridgw_protocol.localapi import GetHealth, Health
from hybridgw_protocol.localapi_operations import GetMetrics, Page
from hybridgw_protocol.runtime import VERSION, Secret

from ...services.ports import MetricsPort
from ...services.rate_limits import RateLimits
from .auth import EVERYBODY, AddressFilter, Gate
from .commands import Command, Services, build
from .cors import Cors
from .docs import ApiDocs
from .http import AccessLog, HttpApi, Patience
from .routes import Routes

SHUTDOWN_S: Final = 3.0  # for requests under way when the daemon stops
METRICS_CONNECTIONS: Final = 16


class LocalApi:
    """Serves the local API. `start`, `run` as a task, `close`."""

    def __init__(
        self,
        services: Services,
        token: Secret[str],
        port: int,
        *,
        prefix: str,
        max_connections: int,
        heartbeat_s: float,
        idle_s: float,
        limits: RateLimits,
        addresses: AddressFilter = EVERYBODY,
        access: AccessLog | None = None,
        limited: Callable[[str], None] = lambda _policy: None,
        trace: Callable[[str], None] | None = None,
        patience: Patience | None = None,
        cors: Cors | None = None,
    ) -> None:
        """Args: as of HttpApi; max_connections, heartbeat_s, idle_s: ServerConfig."""
        self._services = services
        routes = Routes(build(services))
        services.docs = ApiDocs(routes.all, version=VERSION)
        access_ = services.access
        gate = Gate(token, port, access_.credentials if access_ is not None else None)
        self._http = HttpApi(
            routes, gate, prefix=prefix, max_connections=max_connections, heartbeat_s=heartbeat_s,
            idle_s=idle_s, limits=limits, addresses=addresses, access=access, limited=limited, trace=trace,
            patience=patience or Patience(), cors=cors,
            refused=access_.audit.refused if access_ is not None else lambda _what, _origin: None,
        )  # fmt: skip
        self._runner: web.ServerRunner | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these listening sockets, which it owns from now on."""
        self._runner = await _serving(self._http, sockets)

    async def run(self) -> None:
        """Watch over connections; until cancelled."""
        await self._http.run()

    async def close(self) -> None:
        """End event streams, let requests under way finish, close."""
        self._services.events.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class MetricsApi:
    """Serves `/metrics` and `/health` alone, on a port of its own: for a daemon whose other port is passed on."""

    def __init__(
        self, metrics: MetricsPort, token: Secret[str], port: int, *, prefix: str, limits: RateLimits,
        addresses: AddressFilter = EVERYBODY, access: AccessLog | None = None,
    ) -> None:  # fmt: skip
        async def alive(_principal: object, _command: GetHealth) -> Health:
            return Health()

        table = (
            Command("health", "GET", "/health", GetHealth, Health, "open", alive),
            Command("metrics", "GET", "/metrics", GetMetrics, Page, "open", metrics.page),
        )
        self._http = HttpApi(
            Routes(table), Gate(token, port), prefix=prefix, max_connections=METRICS_CONNECTIONS, heartbeat_s=30.0,
            idle_s=120.0, limits=limits, addresses=addresses, access=access,
        )  # fmt: skip
        self._runner: web.ServerRunner | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these listening sockets, which it owns from now on."""
        self._runner = await _serving(self._http, sockets)

    async def run(self) -> None:
        """Watch over connections; until cancelled."""
        await self._http.run()

    async def close(self) -> None:
        """Let requests under way finish, close."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def _serving(http: HttpApi, sockets: Sequence[socket.socket]) -> web.ServerRunner:
    runner = web.ServerRunner(http.server(), handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    for listening in sockets:
        await web.SockSite(runner, listening).start()
    return runner
