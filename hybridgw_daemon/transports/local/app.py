"""The local API as one part: table, gate and carrier over sockets that are open already."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from hybridgw_protocol.runtime import Secret

from .auth import Gate
from .commands import Services, build
from .cors import Cors
from .http import AccessLog, HttpApi, Patience
from .routes import Routes

SHUTDOWN_S: Final = 3.0  # for requests under way when the daemon stops


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
        access: AccessLog | None = None,
        patience: Patience | None = None,
        cors: Cors | None = None,
    ) -> None:
        """Args: prefix: of request ids, new for each start; access: told of every call; the rest: ServerConfig."""
        self._services = services
        access_ = services.access
        gate = Gate(token, port, access_.credentials if access_ is not None else None)
        self._http = HttpApi(
            Routes(build(services)), gate, prefix=prefix, max_connections=max_connections,
            heartbeat_s=heartbeat_s, idle_s=idle_s, access=access,
            patience=patience or Patience(), cors=cors,
            refused=access_.audit.refused if access_ is not None else lambda _what, _origin: None,
        )  # fmt: skip
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
        """End event streams, let requests under way finish, close."""
        self._services.events.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
