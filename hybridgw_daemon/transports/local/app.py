"""The local API as one part: table, gate and carriers over sockets that are open already."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from hybridgw_protocol.localapi_frames import MAX_FRAME_BYTES, MODES, PROTOCOLS
from hybridgw_protocol.localapi_live import ConnectionReport, ConnectionStats, Deployment, DeploymentList
from hybridgw_protocol.runtime import Secret

from ...services.connections import Connections
from ...services.live_queries import LiveQueries
from ...services.sessions import DEFAULT_BOUNDS, Bounds, Sessions
from ...services.topics import Counter, Topics
from .auth import Gate
from .commands import Services, build
from .http import AccessLog, HttpApi, Patience
from .live import socket_commands
from .routes import Routes
from .ws import TEMPLATE, SocketHub, SocketPatience

SHUTDOWN_S: Final = 3.0  # for requests under way when the daemon stops
HTTP_SHARE: Final = 10  # of the connections, one in so many is not for WebSockets, so that a command always gets in


def clock() -> int:
    """Wall clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


class LocalApi:
    """Serves the local API. `start`, `run` as a task, `close`."""

    def __init__(
        self,
        services: Services,
        live: LiveQueries,
        token: Secret[str],
        port: int,
        *,
        prefix: str,
        max_connections: int,
        heartbeat_s: float,
        idle_s: float,
        mode_limits: Mapping[str, int] | None = None,
        access: AccessLog | None = None,
        patience: Patience | None = None,
        socket_patience: SocketPatience | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Args: prefix: of request ids, new for each start; access: told of every call; the rest: ServerConfig.

        mode_limits: WebSockets by deployment mode; bounds: of sessions.
        """
        self._services = services
        self._waits = socket_patience or SocketPatience(heartbeat_s=heartbeat_s, idle_s=idle_s)
        gate = Gate(token, port)
        counter = Counter()
        topics = Topics(counter)
        limit = max(1, max_connections - max_connections // HTTP_SHARE)
        self.registry = Connections(clock=clock, limit=limit, mode_limits=mode_limits)
        sessions = Sessions(
            topics, counter, epoch=entropy(4).hex(), entropy=entropy, monotonic=time.monotonic, bounds=bounds
        )
        self._topics, self._sessions = topics, sessions
        services.hub = self
        table = build(services)
        rows = [row for row in table if row.handler is not None]
        self._sockets = SocketHub(
            [*rows, *socket_commands(topics, live)], gate, sessions, self.registry, patience=self._waits
        )
        self._http = HttpApi(
            Routes(table), gate, prefix=prefix, max_connections=max_connections,
            heartbeat_s=heartbeat_s, idle_s=idle_s, access=access,
            patience=patience or Patience(), sockets=self._sockets, connections=self.registry,
        )  # fmt: skip
        self._runner: web.ServerRunner | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these listening sockets, which it owns from now on."""
        self._runner = web.ServerRunner(self._http.server(), handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        for listening in sockets:
            await web.SockSite(self._runner, listening).start()

    async def run(self) -> None:
        """Watch over HTTP connections; until cancelled."""
        await self._http.run()

    async def run_sockets(self) -> None:
        """Watch over WebSockets; until cancelled."""
        await self._sockets.run()

    async def close(self) -> None:
        """End event streams and WebSockets, let requests under way finish, close."""
        self._sockets.close()
        self._services.events.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

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
