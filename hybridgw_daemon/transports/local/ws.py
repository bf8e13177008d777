"""The WebSocket carrier: `/ws/{deployment_mode}/{client_id}`. Who may connect, how many, and until when.

A connection begins with `auth` (or a bearer header) and nothing before it; then commands, each answered with its id,
and events of the session (ws_socket.py). A reader that takes its answers slowly is no longer read from; one that leaves
its events unread is cut with 4429, and its session waits for it. Frames: docs/reference/websocket.md. Why so:
docs/adr/0016-resume-and-slow-consumers.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol.errors import Busy, NotFound, UpgradeRequired

from ...services.connections import Connections
from ...services.live_sessions import Sessions
from ...services.ports import Principal
from . import websocket
from .auth import Gate
from .calls import Calls
from .ws_socket import Common, Connection, Row, Socket, SocketPatience

PREFIX: Final = "/ws/"
TEMPLATE: Final = "/ws/{deployment_mode}/{client_id}"
MAX_STRANGERS: Final = 512  # connections that have not shown a token

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Upgraded(web.StreamResponse):
    """What the HTTP server is told when a WebSocket has ended: all was written already."""

    @property
    def keep_alive(self) -> bool | None:
        """The connection is used up."""
        return False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to write."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class Accepted(NamedTuple):
    """A request that may become a WebSocket. lines: of the 101, that depend on it."""

    mode: str
    client_id: str
    lines: str
    is_packed: bool
    is_deflated: bool
    request_id: str


class SocketHub:
    """All WebSockets of the local API. `serve` an upgrade; `run` is its task."""

    def __init__(
        self,
        table: Sequence[Row],
        gate: Gate,
        sessions: Sessions,
        connections: Connections,
        calls: Calls,
        *,
        patience: SocketPatience,
    ) -> None:
        """Args: table: later rows go before earlier ones of the same name."""
        rows = {row.name: (row, msgspec.json.Decoder(row.kind)) for row in table}
        self._common = Common(rows, gate, sessions, connections, calls, patience)
        self._sessions, self._connections, self._patience = sessions, connections, patience
        self._sockets: set[Socket] = set()
        self._some = asyncio.Event()
        self._is_stopping = False
        connections.revoked.append(sessions.end_all_of)

    def accept(self, request: web.BaseRequest, path: str, request_id: str) -> Accepted:
        """May this request become a WebSocket. Raises: LocalError kinds, for an HTTP answer."""
        headers = request.headers
        if request.method != "GET" or request.version < (1, 1):
            raise UpgradeRequired("This path is a WebSocket: GET with HTTP/1.1.")
        lines, protocol, is_deflated = websocket.handshake(headers, frames.PROTOCOLS)
        if self._is_stopping:
            raise Busy("The daemon is stopping.")
        mode, client_id = _place(path)
        return Accepted(mode, client_id, lines, protocol == frames.MSGPACK_PROTOCOL, is_deflated, request_id)

    async def serve(
        self, request: web.BaseRequest, accepted: Accepted, principal: Principal | None
    ) -> web.StreamResponse:
        """One connection from upgrade to end. Args: principal: who the request shows to be, None: nobody yet."""
        headers, transport = request.headers, request.transport
        if transport is None:
            raise ConnectionResetError
        mode, client_id, lines, is_packed, is_deflated, request_id = accepted
        transport.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}X-Request-ID: {request_id}\r\n\r\n".encode())
        refusal = self._refusal(mode, client_id)
        if refusal is not None:
            transport.write(websocket.close_frame(*refusal))
            return Upgraded()
        connection: Connection = request.protocol  # type: ignore[assignment]  # our server makes no other
        live = self._connections.open(
            "websocket", lambda code, reason: socket.close(code, reason), mode=mode, client_id=client_id,
            user_agent=headers.get("User-Agent", ""), state="authenticating",
        )  # fmt: skip
        socket = Socket(
            self._common, connection, transport, live, origin=headers.get("Origin"), is_packed=is_packed,
            is_deflated=is_deflated, name=request_id,
        )  # fmt: skip
        self._sockets.add(socket)
        self._some.set()
        self._common.strangers += 1
        try:
            await self._converse(socket, connection, principal)
        finally:
            socket.gone()
            self._sockets.discard(socket)
        return Upgraded()

    async def _converse(self, socket: Socket, connection: Connection, principal: Principal | None) -> None:
        """Until it has ended. No exception ends it: one by which a group was left stands in a circle with its frames,
        and they would hold all that belongs to the connection until the interpreter looks for circles."""
        tasks: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:

            def start(work: Coroutine[Any, Any, None]) -> object:
                task = group.create_task(work)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                return task

            socket.start = start
            connection.begin_socket(socket)
            if principal is not None:
                socket.admit(principal, None)
            await socket.ended
            socket.start = Coroutine.close
            for task in tasks:
                task.cancel()

    def _refusal(self, mode: str, client_id: str) -> tuple[int, str] | None:
        if mode not in frames.MODES:
            return frames.UNKNOWN_MODE, f"unknown mode; there are {', '.join(frames.MODES)}"
        if not _CLIENT_ID.fullmatch(client_id):
            return frames.BAD_FRAMES, "a client id is 1 to 64 of A-Z a-z 0-9 . _ -"
        if self._common.strangers >= MAX_STRANGERS or not self._connections.room(mode):
            return frames.TOO_MANY, "too many connections; try later"
        return None

    async def run(self) -> None:
        """Heartbeats, and the end of those that are silent, slow or out of time; until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(self._patience.sweep_s)
            now, now_ms = asyncio.get_running_loop().time(), self._connections.clock()
            for socket in list(self._sockets):
                socket.look(now, now_ms)
            self._sessions.sweep()
            if not self._sockets and not self._sessions.detached:
                self._some.clear()

    def close(self) -> None:
        """End all connections in order; no new ones."""
        self._is_stopping = True
        for socket in list(self._sockets):
            socket.close(frames.STOPPING, "the daemon stops; come back")


def _place(path: str) -> tuple[str, str]:
    """Mode and client id. Raises: NotFound: another path."""
    parts = path.split("/")
    if len(parts) != 4:
        raise NotFound("A WebSocket is at /ws/MODE/CLIENT-ID.")
    return unquote(parts[2]), unquote(parts[3])
