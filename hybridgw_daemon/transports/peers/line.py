"""A line: a channel with the link on it. Frames in and out, in order, counted and traced; nothing of what they mean."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from hybridgw_protocol.errors import HybridGWError
from hybridgw_protocol.frames import Err, Frame, encode_frame
from hybridgw_protocol.link import DEFAULT_FLOW, Flow, Link, Role

from ...services.gateway import Channel

trace = logging.getLogger("trace.frame")  # enabled in debug only

FAREWELL_S: Final = 2.0  # so long a side that does not read may hold up the last frame


class Line:
    """One end of a connection. `peer` is what logs call the other one."""

    def __init__(self, channel: Channel, role: Role, *, peer: str, flow: Flow = DEFAULT_FLOW) -> None:
        self.channel, self.peer = channel, peer
        self.link = Link(role, credit_bytes=flow.credit_bytes)
        self._flush_lock = asyncio.Lock()
        self.heard_s = 0.0  # when a frame arrived last, time of the event loop
        self.last_size = 0  # of the frame received last: what it cost in credit
        self.is_told = False  # the other side has said why it ends this

    async def receive(self) -> tuple[Frame, int]:
        """The next frame and its id. Raises: Offline; BadFrame."""
        data = await self.channel.receive()
        self.heard_s = asyncio.get_running_loop().time()
        self.last_size = len(data)
        frame, request = self.link.receive(data)
        self._trace("in", frame, request, f"{len(data)} B")
        self.is_told = self.is_told or (isinstance(frame, Err) and request == 0)
        return frame, request

    async def send(self, frame: Frame, request: int = 0) -> None:
        """Send a frame. Raises: Offline."""
        self._trace("out", frame, request, "")
        self.link.send(frame, request=request)
        await self.flush()

    async def ask(self, frame: Frame) -> int:
        """Send a request; returns the id that its answer will carry."""
        number = self.queue(frame)
        await self.flush()
        return number

    def queue(self, frame: Frame) -> int:
        """The same without sending it: whoever calls `flush` after it knows the id before any answer can come."""
        self._trace("out", frame, 0, "")
        return self.link.ask(frame)

    async def flush(self) -> None:
        """Send what is queued, in the order in which it was queued. Raises: Offline."""
        async with self._flush_lock:
            for data in self.link.data_to_send():
                await self.channel.send(data)

    async def refuse(self, error: HybridGWError) -> None:
        """Say why this ends, if the other side still listens."""
        if self.is_told:
            return
        retry = error.detail.get("retry_ms")
        last = Err(code=error.code, msg=error.message[:500], retry=retry if isinstance(retry, int) else 0)
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.flush()
                await self.channel.send(encode_frame(last))  # past the link, which after a violation sends nothing more
        except (HybridGWError, TimeoutError):
            trace.debug("peer=%s was gone before it was told", self.peer)

    def _trace(self, direction: str, frame: Frame, request: int, size: str) -> None:
        """Debug: which frame came or went, never what is in it."""
        if trace.isEnabledFor(logging.DEBUG):
            kind, extra = type(frame).__name__, {"event": "trace.frame"}
            trace.debug("%s peer=%s %s request=%d %s", direction, self.peer, kind, request, size, extra=extra)
