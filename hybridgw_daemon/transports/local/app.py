"""The local API as one part: table, gate and carriers over sockets that are open already."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from aiohttp import web

from hybridgw_protocol.localapi import GetHealth, Health
from hybridgw_protocol.localapi_frames import MAX_FRAME_BYTES, MODES, PROTOCOLS
from hybridgw_protocol.localapi_live import ConnectionReport, ConnectionStats, Deployment, DeploymentList
from hybridgw_protocol.localapi_operations import GetMetrics, Page
from hybridgw_protocol.runtime import VERSION, Secret

from ...services.connections import Connections
from ...services.live_queries import LiveQueries
from ...services.live_sessions import DEFAULT_BOUNDS, Bounds, Sessions
from ...services.ports import DocsPort, MetricsPort
from ...services.topics import Counter, Topics
from .auth import EVERYBODY, AddressFilter, Gate
from .calls import Calls
from .commands import Command, Services, build
from .cors import Cors
from .http import HttpApi, Patience
from .live import message_commands, socket_commands
from .routes import Routes
from .ws import TEMPLATE, SocketHub
from .ws_socket import SocketPatience

SHUTDOWN_S: Final = 3.0  # for requests under way when the daemon stops
METRICS_CONNECTIONS: Final = 16


@cache
def _docs(routes: Routes) -> DocsPort:
    from .docs import ApiDocs  # noqa: PLC0415 - few ever read them

    return ApiDocs(routes.all, version=VERSION)


class _Served:
    """HTTP over sockets that are open already. `start`, `run` as a task, `close`."""

    def __init__(self, http: HttpApi) -> None:
        self._http = http
        self._runner: web.ServerRunner | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these listening sockets, which it owns from now on."""
        self._runner = web.ServerRunner(self._http.server(), handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        for listening in sockets:
            await web.SockSite(self._runner, listening).start()

    async def run(self) -> None:
        """Watch over connections; until cancelled."""
        await self._http.run()

    async def close(self) -> None:
        """Let requests under way finish, close."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class LocalApi(_Served):
    """Serves the local API; `run_sockets` is a task too."""

    def __init__(
        self,
        services: Services,
        live: LiveQueries,
        connections: Connections,
        token: Secret[str],
        port: int,
        *,
        prefix: str,
        max_connections: int,
        heartbeat_s: float,
        idle_s: float,
        calls: Calls,
        addresses: AddressFilter = EVERYBODY,
        trace: Callable[[str], None] | None = None,
        patience: Patience | None = None,
        cors: Cors | None = None,
        routed: Callable[[str], None] = lambda _kind: None,
        socket_patience: SocketPatience | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Args: as of HttpApi; max_connections, heartbeat_s, idle_s: ServerConfig; routed: told of every message from
        program to program, by kind; bounds: of sessions."""
        self._services = services
        self._waits = socket_patience or SocketPatience(heartbeat_s=heartbeat_s, idle_s=idle_s)
        self.registry = connections
        gate = Gate(token, port, None if services.access is None else services.access.credentials)
        counter = Counter()
        self._topics = Topics(counter, routed)
        self._sessions = Sessions(
            self._topics, counter, epoch=entropy(4).hex(), entropy=entropy, monotonic=time.monotonic, bounds=bounds
        )
        services.hub = self
        routes = Routes(build(services))
        services.docs = lambda: _docs(routes)
        rows = [route.row for route in routes.all if route.row.handler is not None and not route.row.is_file]
        self._sockets = SocketHub(
            [
                *rows, *socket_commands(self._topics, live),
                *(message_commands(services.messages) if services.messages is not None else ()),
            ], gate, self._sessions, connections, calls,
            patience=self._waits,
        )  # fmt: skip
        super().__init__(HttpApi(
            routes, gate, prefix=prefix, max_connections=max_connections, heartbeat_s=heartbeat_s, idle_s=idle_s,
            calls=calls, addresses=addresses, trace=trace, patience=patience or Patience(), cors=cors,
            sockets=self._sockets, connections=connections,
        ))  # fmt: skip

    async def run_sockets(self) -> None:
        """Watch over WebSockets; until cancelled."""
        await self._sockets.run()

    async def close(self) -> None:
        """End event streams and WebSockets, let requests under way finish, close."""
        self._sockets.close()
        self._services.events.close()
        await super().close()

    # ---- what the table asks of it -----------------------------------------------------------------------------------
    def publish(self, topic: str, data: Any) -> int:
        """Tell all who listen to a topic."""
        return self._topics.publish(topic, data)

    def stats(self) -> ConnectionStats:
        """Counts since the start."""
        return self.registry.stats(
            detached=self._sessions.detached, subscriptions=self._sessions.subscriptions, topics=len(self._topics)
        )

    def connections(self, archived: int) -> ConnectionReport:
        """Who is connected, and who was."""
        return self.registry.report(archived)

    def deployments(self) -> DeploymentList:
        """How programs of each deployment mode connect."""
        items = [
            Deployment(
                mode=mode, path=TEMPLATE.replace("{deployment_mode}", mode), heartbeat_s=self._waits.heartbeat_of(mode),
                idle_s=self._waits.idle_s, limit=self.registry.mode_limits[mode], open=self.registry.open_in(mode),
            )
            for mode in MODES
        ]  # fmt: skip
        return DeploymentList(items=items, protocols=list(PROTOCOLS), max_frame_bytes=MAX_FRAME_BYTES)


class MetricsApi(_Served):
    """Serves `/metrics` and `/health` alone, on a port of its own: for a daemon whose other port is passed on."""

    def __init__(
        self, metrics: MetricsPort, token: Secret[str], port: int, *, prefix: str, calls: Calls,
        addresses: AddressFilter = EVERYBODY,
    ) -> None:  # fmt: skip
        async def alive(_principal: object, _command: GetHealth) -> Health:
            return Health()

        table = (
            Command("health", "GET", "/health", GetHealth, Health, "open", alive),
            Command("metrics", "GET", "/metrics", GetMetrics, Page, "open", metrics.page),
        )
        super().__init__(HttpApi(
            Routes(table), Gate(token, port), prefix=prefix, max_connections=METRICS_CONNECTIONS, heartbeat_s=30.0,
            idle_s=120.0, calls=calls, addresses=addresses,
        ))  # fmt: skip
