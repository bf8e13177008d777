"""The relay's WebSocket, `/hgw/1`: carries frames between a socket and its conversation, and nothing else.

What a conversation sends in one turn of the event loop leaves in one write. A socket whose reader is slow gets no more
batches until it has read; one that lets even small frames pile up is cut.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from typing import Final, cast

from aiohttp import ClientConnectionError, WSMsgType, web

from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.errors import Busy, HybridGWError, RateLimited
from hybridgw_protocol.limits import MAX_FRAME_BYTES

from ..services.conversation import Conversation, Services
from ..services.janitor import Janitor
from .address import client_address

log = logging.getLogger(__name__)

PATH: Final = "/hgw/1"
CONGESTED_BYTES: Final = 256 * 1024  # unsent; above, batches wait
CUT_BYTES: Final = 8 * 1024 * 1024  # unsent; above, the reader is given up (a pairing hands over 5 MiB at most)
CLOSE_GRACE_S: Final = 2.0
POLICY: Final = 1008  # close codes of RFC 6455, 7.4.1
GOING_AWAY: Final = 1001
NORMAL: Final = 1000


def binary_header(size: int) -> bytes:
    """Header of an unmasked binary message in one frame. Source: RFC 6455, 5.2."""
    if size < 126:
        return bytes((0x82, size))
    if size < 65_536:
        return struct.pack(">BBH", 0x82, 126, size)
    return struct.pack(">BBQ", 0x82, 127, size)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame. Source: RFC 6455, 5.5.1."""
    body = struct.pack(">H", code) + reason.encode()[:100]
    return bytes((0x88, len(body))) + body


class WebSocketOutlet:
    """Outlet over one aiohttp WebSocket: writes whole messages to its transport."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.WriteTransport) -> None:
        self._socket, self._transport = socket, transport
        self._loop = asyncio.get_running_loop()
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._is_closed = False
        self._abort: asyncio.TimerHandle | None = None

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue messages for one write at the end of this turn."""
        if self._is_closed:
            return
        if not self._queue:
            self._loop.call_soon(self._write)
        for frame in frames:
            self._queue += (binary_header(len(frame)), frame)
            self._queued_bytes += len(frame)

    @property
    def is_congested(self) -> bool:
        """Is more unsent than CONGESTED_BYTES."""
        return self._queued_bytes + self._transport.get_write_buffer_size() > CONGESTED_BYTES

    async def drained(self) -> None:
        """Wait until the transport's buffer has emptied."""
        self._write()
        try:
            while self.is_congested and not self._transport.is_closing():
                await self._socket.pong()  # a write of ours, which waits for the buffer (writer_limit)
        except (ClientConnectionError, ConnectionError, RuntimeError):
            return  # the reader's side ends the connection

    def close(self, reason: str) -> None:
        """Send what is queued and a close frame; cut the connection if the other side does not answer soon."""
        if self._is_closed:
            return
        code = {"closed": GOING_AWAY, "done": NORMAL}.get(reason, POLICY)
        self._write()
        self._is_closed = True
        if not self._transport.is_closing():
            self._transport.write(close_frame(code, reason))
            self._abort = self._loop.call_later(CLOSE_GRACE_S, self._transport.abort)

    def gone(self) -> None:
        """The connection has ended."""
        self._is_closed = True
        self._queue.clear()
        if self._abort is not None:
            self._abort.cancel()

    def _write(self) -> None:
        if not self._queue:
            return
        data = b"".join(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > CUT_BYTES:
            log.info("cutting a connection that does not read")
            self._is_closed = True
            self._transport.abort()


class WebSocketEndpoint:
    """The handler of PATH."""

    def __init__(
        self, services: Services, janitor: Janitor, *, trusted_proxies: frozenset[str], allowed_origins: frozenset[str],
        is_tls: bool, on_open: Callable[[web.Request], None] = lambda _request: None,
    ) -> None:  # fmt: skip
        self._services, self._janitor = services, janitor
        self._trusted_proxies, self._allowed_origins, self._is_tls = trusted_proxies, allowed_origins, is_tls
        self._on_open = on_open
        self.is_stopping = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection from upgrade to end."""
        if self.is_stopping:
            return _refusal(503, 2_000)
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._allowed_origins:
            return web.Response(status=403, text="403\n")  # a page in a browser has no business here
        transport = request.transport
        if transport is None:
            return web.Response(status=400, text="400\n")
        socket = web.WebSocketResponse(
            max_msg_size=MAX_FRAME_BYTES + 1, compress=False, heartbeat=None, writer_limit=1, timeout=CLOSE_GRACE_S
        )
        if not socket.can_prepare(request):
            return web.Response(status=426, text="This is the WebSocket of a HybridGW relay.\n")
        # aiohttp types it as the base class; of a TCP server it is one that can write (uvloop's derives from nothing).
        outlet = WebSocketOutlet(socket, cast(asyncio.WriteTransport, transport))
        try:
            conversation = Conversation(
                self._services, outlet, address=client_address(request, self._trusted_proxies),
                own_endpoint=self._own_endpoint(transport),
            )  # fmt: skip
        except (Busy, RateLimited) as error:
            return _refusal(503 if isinstance(error, Busy) else 429, error.detail.get("retry_ms"))
        self._janitor.add(conversation)
        try:
            await socket.prepare(request)
            await self._converse(socket, conversation)
        finally:
            self._janitor.remove(conversation)
            conversation.ended()
            outlet.gone()
            if (broke := socket.exception()) is not None:
                # The library keeps it; by its frames it leads in a circle back to all that belonged to the connection.
                broke.with_traceback(None).__context__ = None
        return socket

    async def _converse(self, socket: web.WebSocketResponse, conversation: Conversation) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(work, name=f"work {conversation.id}") for work in conversation.works()]
                await self._read(socket, conversation)
                for task in beside:
                    task.cancel()
        except* HybridGWError as errors:
            log.warning("connection=%s failed: %s", conversation.id, errors.exceptions)
            conversation.fail(_Internal("The relay cannot go on with this connection.", retry_ms=5_000))
        except* (ClientConnectionError, ConnectionError):
            log.debug("connection=%s broke", conversation.id)
        except* Exception:
            log.exception("connection=%s failed", conversation.id)
            conversation.fail(_Internal(f"Something went wrong here; the relay's log has it under {conversation.id}."))

    @staticmethod
    async def _read(socket: web.WebSocketResponse, conversation: Conversation) -> None:
        conversation.begin()
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await conversation.receive(message.data)
            elif message.type is WSMsgType.TEXT:
                await conversation.receive(b"")  # text is no frame: refused as one that cannot be read
            else:
                return  # too long, or no WebSocket any more; the library has answered

    def _own_endpoint(self, transport: asyncio.BaseTransport) -> str:
        """ "host:…" of the address of this machine that was dialled: the kernel's word, not the client's."""
        name = transport.get_extra_info("sockname")
        if not isinstance(name, tuple):
            return ""
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return endpoint(f"{'https' if self._is_tls else 'http'}://{host}:{name[1]}")


class _Internal(HybridGWError):
    """An unforeseen error; details are in the log only."""


def _refusal(status: int, retry_ms: object) -> web.Response:
    seconds = max(1, -(-retry_ms // 1000)) if isinstance(retry_ms, int) else 1
    return web.Response(status=status, text=f"{status}\n", headers={"Retry-After": str(seconds)})
