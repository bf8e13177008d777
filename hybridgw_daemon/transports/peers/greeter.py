"""Who answers at an address: for a person who asks why a device is not reached. Says nothing but where it dials."""

from __future__ import annotations

import asyncio
from typing import Final

from hybridgw_protocol.errors import BadFrame, HybridGWError
from hybridgw_protocol.frames import Challenge
from hybridgw_protocol.limits import PROTOCOL_VERSION
from hybridgw_protocol.link import Role

from ...core.addresses import Address
from ...services.sync import SyncService
from .lan import Place
from .line import Line
from .probe import Said

SAYS_S: Final = 4.0  # a device sends its challenge at once


class Greeter:
    """Reads the challenge of who listens somewhere, and closes."""

    def __init__(self, sync: SyncService, place: Place) -> None:
        self._sync, self._place = sync, place

    async def __call__(self, address: Address) -> Said:
        """What answers there, to which a connection stood a moment ago."""
        try:
            channel = await self._place.dial(address)
        except HybridGWError:
            return Said("other")
        try:
            async with asyncio.timeout(SAYS_S):
                frame, _ = await Line(channel, Role.CLIENT, peer=str(address)).receive()
        except TimeoutError:
            return Said("silent")
        except BadFrame:
            return Said("other")
        except HybridGWError:
            return Said("silent")
        finally:
            await channel.close()
        if not isinstance(frame, Challenge) or frame.role != "peer" or frame.ep != channel.endpoint:
            return Said("other")
        if channel.endpoint == self._place.endpoint:
            return Said("itself")
        low, high = frame.v
        if not low <= PROTOCOL_VERSION <= high:
            return Said("version", (low, high))
        known = self._sync.space.discovery_keys().recognise_tags(frame.tags, channel.endpoint, frame.ns)
        return Said("stranger" if known is None else "member")
