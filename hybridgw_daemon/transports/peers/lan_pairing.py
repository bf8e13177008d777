"""Pairing on the local network, without a relay: the device that shows a code is the mailbox, and announces it.

Who announces the nameplate is believed nothing; only who knows the code can finish the exchange, over the certificate
that both sides saw. Source: protocol/SPEC.md, "Pairing".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

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
        """See DirectPairing. Of several addresses the first that knows the code is taken, and no other after it."""
        named = asyncio.ensure_future(self._try(await self._nearby.list(), nameplate))
        try:
            found = await self._find(nameplate)
            if (box := await named) is None:
                box = await self._try(found, nameplate)
        finally:
            named.cancel()
        if box is None:
            raise Offline(" ".join(filter(None, (NOBODY, await self._why(), HELPS))))
        return box

    async def _try(self, addresses: list[Address], nameplate: int) -> JoinMailbox | None:
        for address in addresses:
            try:
                channel = await self._place.dial(address)
                channel.trust()
                box = await JoinMailbox.join(channel, nameplate, peer=str(address), authority=channel.endpoint)
            except HybridGWError as error:
                log.info("no code is entered at %s: %s", address, error.message, extra={"event": "lan.pairing"})
                continue
            self._addresses = {channel.endpoint: address}
            return box
        return None

    async def joined(self, mailbox: DirectMailbox, device: DeviceId) -> None:
        """See DirectPairing."""
        address = self._addresses.get(mailbox.authority)
        if address is not None:
            await self._nearby.worked(device, address)
            self._gateway.reconnect()
