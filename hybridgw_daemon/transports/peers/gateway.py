"""The relays of this device: one RelayLink each, started and stopped as the person adds and removes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.errors import BadFrame, HybridGWError, Offline
from hybridgw_protocol.frames import Challenge
from hybridgw_protocol.limits import AUTH_TIMEOUT_S
from hybridgw_protocol.link import DEFAULT_FLOW, Flow, Link, Role
from hybridgw_protocol.localapi import RelayCheck

from ...core.keys import RootKeys
from ...services.gateway import Mailbox
from ...services.sync import SyncService
from .mailbox import JoinMailbox
from .relay import Connect, RelayLink, WebSocketChannel
from .root import read_control


class RelayGateway:
    """Implements services/gateway.py."""

    def __init__(
        self, sync: SyncService, *, entropy: Callable[[int], bytes], enrol: Callable[[str], bytes],
        connect: Connect = WebSocketChannel.connect, flow: Flow = DEFAULT_FLOW,
    ) -> None:  # fmt: skip
        """Args: enrol: relay URL -> invite secret, empty if none is due."""
        self._sync = sync
        self._entropy = entropy
        self._enrol = enrol
        self._connect, self._flow = connect, flow
        self._links: dict[str, RelayLink] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted: list[str] = []
        self._changed = asyncio.Event()

    def use(self, urls: list[str]) -> None:
        """Keep exactly these relays connected from now on."""
        self._wanted = list(urls)
        self._changed.set()

    async def run(self) -> None:
        """Start and stop links until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for url in [u for u in self._tasks if u not in self._wanted]:
                    self._tasks.pop(url).cancel()
                    self._links.pop(url)
                for url in self._wanted:
                    if url not in self._tasks:
                        link = self._links[url] = self._link_to(url)
                        self._tasks[url] = group.create_task(link.run(), name=f"relay {urlsplit(url).netloc}")
                await self._changed.wait()
                self._changed.clear()

    def _link_to(self, url: str) -> RelayLink:
        return RelayLink(
            url, self._sync, entropy=self._entropy, enrol=lambda: self._enrol(url), connect=self._connect,
            flow=self._flow,
        )  # fmt: skip

    def reconnect(self, full: bool = False) -> None:
        """Every relay that is not connected is tried now. full: the others are connected anew."""
        for link in self._links.values():
            link.reconnect(full=full)

    def look(self) -> None:
        """The network changed: try those that are not connected, and see whether the others still are."""
        self.reconnect()
        for link in self._links.values():
            if link.conversation is not None:
                link.conversation.look()

    async def open_mailbox(self, url: str | None) -> tuple[Mailbox, str]:
        """Open a pairing mailbox. Raises: Offline, PairingFailed."""
        conversations = [
            link.conversation for link in self._links.values() if link.conversation and url in (None, link.url)
        ]
        for conversation in sorted(conversations, key=lambda c: not c.is_ready.is_set()):
            try:
                async with asyncio.timeout(AUTH_TIMEOUT_S):  # it may be about to be welcomed
                    await conversation.is_ready.wait()
                    return await conversation.open_mailbox(), conversation.state.peer
            except TimeoutError:
                continue
        why = "No relay is connected, so another device cannot reach this one."
        if not self._wanted:
            raise Offline(f"{why} Add one: hybridgw relay add LINK")
        errors = [error.message for error in self._sync.peers.errors.values()]
        raise Offline(f"{why} {' '.join(errors)} Look again: hybridgw relay test".replace("  ", " "))

    async def join_mailbox(self, url: str, nameplate: int) -> Mailbox:
        """Join the mailbox of a code. Raises: Offline, PairingFailed."""
        return await JoinMailbox.join(await self._connect(url), nameplate, peer=url, authority=endpoint(url))

    async def read_control(self, url: str, root: RootKeys) -> list[bytes]:
        """The control records of root's space at a relay. Raises: Offline, NotAdmitted, RemoteError kinds."""
        return await read_control(await self._connect(url), root, self._entropy, url=url)

    async def check(self, url: str) -> RelayCheck:
        """Connect, read the challenge, disconnect."""
        loop = asyncio.get_running_loop()
        tls = urlsplit(url).scheme in ("https", "wss")
        started = loop.time()
        try:
            channel = await self._connect(url)
            try:
                async with asyncio.timeout(AUTH_TIMEOUT_S):
                    frame, _ = Link(Role.CLIENT).receive(await channel.receive())
            finally:
                await channel.close()
            if not isinstance(frame, Challenge) or frame.role != "relay":
                raise BadFrame("Something answers there, but it is no relay.")
        except (HybridGWError, TimeoutError) as error:
            return RelayCheck(url=url, ok=False, tls=tls, error=str(error) or "no answer in time")
        link = self._links.get(url)
        quota = link.conversation.state.quota if link and link.conversation else None
        return RelayCheck(
            url=url,
            ok=True,
            tls=tls,
            rtt_ms=round((loop.time() - started) * 1000, 1),
            clock_offset_ms=frame.t - self._sync.now_ms(),
            quota_bytes=quota.bytes if quota else None,
            used_bytes=quota.used if quota else None,
        )
