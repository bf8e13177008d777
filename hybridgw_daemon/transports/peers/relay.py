"""Relays: the WebSocket under a conversation, the loop that keeps one alive, and the mailbox of a device that joins."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.errors import (
    BadFrame,
    HybridGWError,
    NotAdmitted,
    Offline,
    RemoteClosed,
    Revoked,
    UnsupportedVersion,
)
from hybridgw_protocol.limits import (
    AUTH_TIMEOUT_S,
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    MAX_FRAME_BYTES,
)
from hybridgw_protocol.link import DEFAULT_FLOW, Flow

from ...services.gateway import Channel
from ...services.sync import SyncService
from .driver import Conversation
from .greeting import RelayGreeting

log = logging.getLogger(__name__)

PATH: Final = "/hgw/1"
PERSON_NEEDED: Final = (Revoked, NotAdmitted, UnsupportedVersion)  # trying again soon helps nobody


class WebSocketChannel:
    """A channel over one WebSocket (services/ports.py, Channel)."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, peer: str) -> None:
        self._session, self._socket, self._peer = session, socket, peer

    @classmethod
    async def connect(cls, url: str) -> WebSocketChannel:
        """Open the relay's WebSocket. Raises: Offline: with the reason a person can act on."""
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        target = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + PATH, "", ""))
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=10))
        try:
            async with asyncio.timeout(AUTH_TIMEOUT_S):  # it may take the connection and say nothing, for ever
                socket = await session.ws_connect(
                    target, max_msg_size=MAX_FRAME_BYTES + 1024, compress=0, autoping=True, heartbeat=None
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await session.close()
            raise Offline(f"{parts.netloc} cannot be reached: {reason(error)}", peer=url) from error
        except BaseException:
            await session.close()
            raise
        return cls(session, socket, parts.netloc)

    async def send(self, data: bytes) -> None:
        """Send one message. Raises: Offline."""
        try:
            await self._socket.send_bytes(data)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise Offline(f"The connection to {self._peer} broke.") from error

    async def receive(self) -> bytes:
        """The next message. Raises: Offline."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is aiohttp.WSMsgType.TEXT:
            raise BadFrame(f"{self._peer} sent text; is it a relay?")
        why = f" (code {self._socket.close_code})" if self._socket.close_code else ""
        raise Offline(f"{self._peer} closed the connection{why}.")

    async def close(self) -> None:
        """Close; idempotent."""
        await self._socket.close()
        await self._session.close()


def reason(error: BaseException) -> str:
    """One clause a person can act on."""
    match error:
        case aiohttp.WSServerHandshakeError():
            return f"it answers, but is no relay (HTTP {error.status})"
        case aiohttp.ClientConnectorCertificateError():
            return "its TLS certificate is not trusted here"
        case aiohttp.ClientSSLError():
            return "it does not speak TLS; is its address http:// rather than https://?"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known; are you online?"
        case TimeoutError():
            return "no answer; a firewall or a wrong address"
        case aiohttp.ClientConnectorError():
            why = os.strerror(error.errno).lower() if error.errno else "refused"  # not strerror: it repeats the address
            return f"nothing answers there ({why}); is the relay running?"
        case _:
            return str(error) or type(error).__name__


Connect = Callable[[str], Awaitable[Channel]]  # a relay's URL -> a channel to it; raises Offline


class RelayLink:
    """Keeps one relay connected: a conversation after another, with full jitter between failures."""

    def __init__(
        self, url: str, sync: SyncService, *, entropy: Callable[[int], bytes], enrol: Callable[[], bytes],
        connect: Connect = WebSocketChannel.connect, flow: Flow = DEFAULT_FLOW,
    ) -> None:  # fmt: skip
        """Args: enrol: the invite secret to show, empty once the relay has admitted the space."""
        self.url = url
        self._sync = sync
        self._entropy = entropy
        self._enrol = enrol
        self._connect, self._flow = connect, flow
        self._now = asyncio.Event()
        self.conversation: Conversation | None = None

    def reconnect(self, *, full: bool = False) -> None:
        """Try now instead of waiting. full: end a live conversation too; the next one compares everything."""
        self._now.set()
        if full and self.conversation is not None:
            self.conversation.end()

    async def run(self) -> None:
        """Until cancelled. What goes wrong is told to the sync service and tried again."""
        pause = BACKOFF_FIRST_S
        while True:
            self._now.clear()
            floor = 0.0
            started = asyncio.get_running_loop().time()
            try:
                await self._converse()
            except HybridGWError as error:
                self._sync.peers.failed(self.url, error)
                log.info("relay %s: %s", self.url, error.message)
                if isinstance(error, PERSON_NEEDED):
                    pause = BACKOFF_MAX_S
                retry_ms = error.detail.get("retry_ms")
                floor = max(0.0, retry_ms / 1000) if isinstance(retry_ms, int) else 0.0
            if asyncio.get_running_loop().time() - started > BACKOFF_MAX_S:
                pause = BACKOFF_FIRST_S
            share = int.from_bytes(self._entropy(4), "big") / 2**32
            try:
                async with asyncio.timeout(min(BACKOFF_MAX_S, floor + pause * share)):
                    await self._now.wait()
            except TimeoutError:
                pause = min(BACKOFF_MAX_S, pause * 2)
            else:
                pause = BACKOFF_FIRST_S

    async def _converse(self) -> None:
        self.conversation = self._begin(await self._connect(self.url))
        try:
            await self.conversation.run()
        finally:
            self.conversation = None

    def _begin(self, channel: Channel) -> Conversation:
        return Conversation(channel, self._sync, self._greeting(), flow=self._flow)

    def _greeting(self) -> RelayGreeting:
        return RelayGreeting(
            self._sync, url=self.url, endpoint=endpoint(self.url), enrol=self._enrol(), entropy=self._entropy
        )


__all__ = ["RelayLink", "RemoteClosed", "WebSocketChannel", "reason"]
