"""Direct links of the simulated world: who is near, and where each listens. The gateway and all above is the product's.

The channel stands for TLS: its ends know the certificate that the other showed, which is new at every start.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.services.gateway import DirectChannel
from hybridgw_daemon.services.nearby import Nearby
from hybridgw_daemon.stores.addresses import LastGood
from hybridgw_daemon.transports.peers.driver import Conversation
from hybridgw_daemon.transports.peers.greeting import Greeting
from hybridgw_daemon.transports.peers.lan import LanGateway
from hybridgw_protocol.auth import certificate_endpoint
from hybridgw_protocol.ids import DeviceId
from tests.simulation.sim_net import End

if TYPE_CHECKING:
    from tests.simulation.sim_device import Device


class DirectEnd:
    """An end of a connection between two devices."""

    def __init__(self, end: End, endpoint: str) -> None:
        self.end, self.endpoint = end, endpoint
        self.send, self.receive, self.close = end.send, end.receive, end.close
        self.connection = end.connection

    def trust(self) -> None:
        """Sizes of frames are not the matter here."""


class SimNearby(Nearby):
    """All other machines of the world are on one network."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._actions: list[Callable[[], None]] = []

    def candidates(self) -> list[Address]:
        """Every other device, strangers and copies too."""
        return [Address(d.name, 1) for d in self._device.world.devices if d is not self._device]

    def on_change(self, action: Callable[[], None]) -> None:
        """See Nearby."""
        self._actions.append(action)

    def changed(self) -> None:
        """Somebody came."""
        for action in self._actions:
            action()

    def last_good(self) -> list[LastGood]:
        """Nothing is remembered."""
        return []

    async def worked(self, device: DeviceId, address: Address) -> None:
        """It is not remembered: all are known."""


class SimPlace:
    """Where a device listens."""

    port = 1

    def __init__(self, device: Device) -> None:
        self._device = device
        started = hashlib.sha256(f"{device.name} {device.world.loop.time()}".encode()).digest()
        self.endpoint = certificate_endpoint(started)
        self._called: asyncio.Queue[End] = asyncio.Queue()

    async def open(self) -> None:
        """Listen."""
        world, device = self._device.world, self._device
        world.places[device.name] = self
        world.net.listen(f"lan:{device.name}", device.process, self._called.put_nowait)

    async def serve(self, serve: Callable[[DirectChannel, str], Awaitable[None]]) -> None:
        """Hand over who calls."""
        async with asyncio.TaskGroup() as group:
            while True:
                end = await self._called.get()
                group.create_task(_served(serve, end))

    async def dial(self, address: Address) -> DirectEnd:
        """Call a device by its name."""
        world = self._device.world
        end = await world.net.connect(f"lan:{address.host}")
        world.sometimes("dialled directly")
        return DirectEnd(end, world.places[address.host].endpoint)


async def _served(serve: Callable[[DirectChannel, str], Awaitable[None]], end: End) -> None:
    await serve(DirectEnd(end, ""), end.name.partition("<")[2])


class Gateway(LanGateway):
    """With the world's kind of conversation."""

    device: Device

    def begin(self, channel: DirectChannel, greeting: Greeting) -> Conversation:
        """See LanGateway."""
        return self.device.world.parts.driver(channel, self._sync, greeting, flow=self._flow)

    async def _settle(self, device: DeviceId, conversation: Conversation, *, dialled: bool) -> None:
        is_second = self.is_connected(device)
        await super()._settle(device, conversation, dialled=dialled)
        self.device.world.sometimes("second direct link took the place of the first" if is_second else "direct link")
