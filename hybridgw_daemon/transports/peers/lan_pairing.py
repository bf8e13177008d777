"""Pairing on the local network, without a relay: the device that shows a code is the mailbox, and announces it.

Who announces the nameplate is believed nothing; only who knows the code can finish the exchange, over the certificate
that both sides saw. Source: protocol/SPEC.md, "Pairing".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from hybridgw_protocol.errors import HybridGWError, Offline
from hybridgw_protocol.ids import DeviceId

from ...core.addresses import Address
from ...services.gateway import DirectMailbox
from ...services.nearby import Nearby
from ...services.sync import SyncService
from .lan import LanGateway, Place
from .mailbox import Desk, FrameMailbox, JoinMailbox

log = logging.getLogger(__name__)

NOBODY: Final = "No device on this network shows this code; compare its first three digits with those that are shown."
HELPS: Final = "Both machines must be on one network; or name the other one's address first: hybridgw lan add HOST:PORT"


class _Shown:
    """The mailbox of a code that is shown here."""

    def __init__(self, box: FrameMailbox, authority: str, ended: Callable[[], None]) -> None:
        self._box, self.authority, self._ended = box, authority, ended
        self.nameplate = box.nameplate

    async def send(self, message: bytes) -> None:
        """See Mailbox."""
        await self._box.send(message)

    async def receive(self) -> bytes:
        """See Mailbox."""
        return await self._box.receive()

    async def close(self, why: str) -> None:
        """See Mailbox."""
        self._ended()
        await self._box.close(why)


class LanPairing:
    """Implements DirectPairing of services/gateway.py."""

    def __init__(
        self, sync: SyncService, gateway: LanGateway, nearby: Nearby, place: Place, desk: Desk, *,
        offer: Callable[[int | None], None], find: Callable[[int], Awaitable[list[Address]]],
        why: Callable[[], Awaitable[str]],
    ) -> None:  # fmt: skip
        """Args: offer: announce a nameplate, or nothing any more; find: who announces one, in a few seconds; why: what
        may keep the two apart, found out by trying, empty if nothing is known to."""
        self._sync, self._gateway, self._nearby, self._place, self._desk = sync, gateway, nearby, place, desk
        self._offer, self._find, self._why = offer, find, why
        self._addresses: dict[str, Address] = {}  # authority -> where it was reached

    async def why_not(self) -> str | None:
        """See DirectPairing."""
        return await self._sync.peers.why_no_lan()

    async def open_mailbox(self, nameplate: int) -> DirectMailbox:
        """See DirectPairing."""
        box = self._desk.open_(nameplate)
        self._offer(nameplate)
        return _Shown(box, self._place.endpoint, lambda: self._offer(None))

    async def join_mailbox(self, nameplate: int) -> DirectMailbox:
        """See DirectPairing. Where a person named and where the code is announced is called at once, as soon as it is
        known; the code is entered at one address after the other, and nowhere any more when one has taken it."""
        turn = asyncio.Lock()

        async def at(addresses: Awaitable[list[Address]]) -> JoinMailbox | None:
            return await _first([self._try(address, nameplate, turn) for address in await addresses])

        box = await _first([at(self._nearby.list()), at(self._find(nameplate))])
        if box is None:
            raise Offline(" ".join(filter(None, (NOBODY, await self._why(), HELPS))))
        return box

    async def _try(self, address: Address, nameplate: int, turn: asyncio.Lock) -> JoinMailbox | None:
        """Call there and enter the code. Args: turn: to enter it; whoever is let in never gives it away."""
        try:
            channel = await self._place.dial(address)
            async with AsyncExitStack() as undone:
                undone.push_async_callback(channel.close)
                await turn.acquire()
                undone.callback(turn.release)
                channel.trust()
                box = await JoinMailbox.join(channel, nameplate, peer=str(address), authority=channel.endpoint)
                undone.pop_all()
        except HybridGWError as error:
            log.info("no code is entered at %s: %s", address, error.message, extra={"event": "lan.pairing"})
            return None
        self._addresses = {channel.endpoint: address}
        return box

    async def joined(self, mailbox: DirectMailbox, device: DeviceId) -> None:
        """See DirectPairing."""
        address = self._addresses.get(mailbox.authority)
        if address is not None:
            await self._nearby.worked(device, address)
            self._gateway.reconnect()


async def _first(tries: Sequence[Coroutine[Any, Any, JoinMailbox | None]]) -> JoinMailbox | None:
    """All of them at once. Returns the first that came in; the others are given up then."""
    tasks = [asyncio.ensure_future(one) for one in tries]
    try:
        for ended in asyncio.as_completed(tasks):
            if (box := await ended) is not None:
                return box
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
