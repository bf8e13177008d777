"""Two devices without anything between them: TLS on loopback, each with its own certificate, no relay or beside one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.services.nearby import Nearby
from hybridgw_daemon.transports.peers.lan import LanGateway
from hybridgw_daemon.transports.peers.tls import TlsPlace
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.invite import format_invite

from .devices import Device, invite, pair, relay, until


class Told(Nearby):
    """Addresses that a test tells."""

    def __init__(self) -> None:
        self.addresses: list[Address] = []
        self.good: list[tuple[DeviceId, Address]] = []
        self.actions: list[Callable[[], None]] = []

    def candidates(self) -> list[Address]:
        return list(self.addresses)

    def on_change(self, action: Callable[[], None]) -> None:
        self.actions.append(action)

    async def worked(self, device: DeviceId, address: Address) -> None:
        self.good.append((device, address))

    def tell(self, *addresses: Address) -> None:
        self.addresses = list(addresses)
        for action in self.actions:
            action()


class Direct:
    """The direct links of a device."""

    def __init__(self, device: Device, folder: Path) -> None:
        self.device, self.nearby = device, Told()
        self.place = TlsPlace(
            host="127.0.0.1", port=0, folder=folder, steady_ms=lambda: time.monotonic_ns() // 1_000_000
        )
        self.gateway = LanGateway(device.sync, self.nearby, self.place, entropy=os.urandom)
        device.sync.peers.on_reconnect(self._reconnect)

    def _reconnect(self, full: bool) -> None:
        self.device.gateway.reconnect(full)
        self.gateway.reconnect(full)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.place.port)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.gateway.run())
        await until(lambda: self.place.port)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def two(tmp_path: Path) -> AsyncIterator[tuple[Device, Device, Direct, Direct]]:
    """Paired over a relay that has gone since; they listen, and have not found each other."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with a.running(), b.running():
        async with relay(tmp_path / "relay") as (url, database):
            await a.relays.add(format_invite(url, await invite(database())))
            await pair(a, b)
            await until(lambda: a.sync.control_heads() == b.sync.control_heads())
        here, there = Direct(a, tmp_path), Direct(b, tmp_path)
        async with here.running(), there.running():
            yield a, b, here, there


async def test_spec_D5_two_devices_sync_without_a_relay(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        here.nearby.tell(there.address)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")
        await a.write(Create("tasks", "one", {"title": "milk"}))
        await until(lambda: a.shown() and a.shown() == b.shown())
        await b.write(Edit("tasks", "one", {"title": "bread"}))
        await until(lambda: "bread" in str(a.shown()))
        assert (await a.sync.trigger(timeout_s=5)).status == "done"
        assert (await b.sync.trigger(timeout_s=5)).status == "done"
        assert (await a.sync.status()).direct[0].name == "phone"
        assert here.nearby.good == [(b.sync.identity.device, there.address)]
