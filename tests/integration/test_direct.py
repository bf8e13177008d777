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
from hybridgw_daemon.services.peers import NO_ANSWER
from hybridgw_daemon.stores import queries
from hybridgw_daemon.stores.addresses import LastGood
from hybridgw_daemon.transports.peers.driver import ANSWER_S, RELAY_PROBE_S
from hybridgw_daemon.transports.peers.lan import LanGateway
from hybridgw_daemon.transports.peers.lan_pairing import LanPairing
from hybridgw_daemon.transports.peers.mailbox import Desk
from hybridgw_daemon.transports.peers.relay import Connect, WebSocketChannel
from hybridgw_daemon.transports.peers.tls import TlsPlace
from hybridgw_protocol.errors import Offline
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

    def last_good(self) -> list[LastGood]:
        return [LastGood(device, address, 0) for device, address in self.good]

    async def forget(self, device: DeviceId) -> None:
        self.good = [known for known in self.good if known[0] != device]

    def on_change(self, action: Callable[[], None]) -> None:
        self.actions.append(action)

    async def worked(self, device: DeviceId, address: Address) -> None:
        self.good.append((device, address))
        self.addresses = list(dict.fromkeys([*self.addresses, address]))

    async def list(self) -> list[Address]:
        return list(self.addresses)

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
        desk = Desk()
        self.gateway = LanGateway(device.sync, self.nearby, self.place, entropy=os.urandom, desk=desk)
        self.offered: list[int | None] = []
        self.found: list[Address] = []  # who announces a code
        device.direct = LanPairing(
            device.sync, self.gateway, self.nearby, self.place, desk, offer=self.offered.append, find=self._find,
            why=self._why,
        )  # fmt: skip
        device.sync.peers.on_reconnect(self._reconnect)

    async def _find(self, _nameplate: int) -> list[Address]:
        return self.found

    async def _why(self) -> str:
        return "The access point keeps them apart."

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


class Uplink:
    """The way to a relay on which everything may stop without a word, in both directions, as behind a dead router."""

    def __init__(self) -> None:
        self._passes = asyncio.Event()
        self._passes.set()
        self.connections = 0

    def stop(self) -> None:
        """Nothing passes from now on; what is sent waits, as TCP keeps it."""
        self._passes.clear()

    def go_on(self) -> None:
        """Everything passes again."""
        self._passes.set()

    async def connect(self, url: str) -> WebSocketChannel:
        """A channel over this way."""
        channel = await WebSocketChannel.connect(url)
        self.connections += 1
        send, receive, close = channel.send, channel.receive, channel.close
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        async def carry() -> None:
            with contextlib.suppress(Offline):
                while True:
                    data = await queue.get()
                    await self._passes.wait()
                    await send(data)

        carrier = asyncio.create_task(carry())

        async def sent(data: bytes) -> None:
            if self._passes.is_set() and queue.empty():
                await send(data)
            else:
                queue.put_nowait(data)

        async def heard() -> bytes:
            message = await receive()
            await self._passes.wait()
            return message

        async def closed() -> None:
            carrier.cancel()
            await close()

        channel.send, channel.receive, channel.close = sent, heard, closed  # type: ignore[method-assign]
        return channel


@contextlib.asynccontextmanager
async def household(
    tmp_path: Path, count: int, connect: Connect = WebSocketChannel.connect
) -> AsyncIterator[list[Device]]:
    """So many paired devices, without direct links yet, and the relay that they know, running. Args: connect: how they
    reach it."""
    devices = [Device(tmp_path / f"device{k}", f"device{k}", connect=connect) for k in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        url, database = await stack.enter_async_context(relay(tmp_path / "relay"))
        for device in devices:
            await stack.enter_async_context(device.running())
        await devices[0].relays.add(format_invite(url, await invite(database())))
        for device in devices[1:]:
            await pair(devices[0], device)
        await until(lambda: len({tuple(d.sync.control_heads()) for d in devices}) == 1)
        yield devices


async def test_spec_D5_what_comes_over_both_ways_is_applied_once(tmp_path: Path) -> None:
    async with household(tmp_path, 2) as (a, b):
        here, there = Direct(a, tmp_path), Direct(b, tmp_path)
        async with here.running(), there.running():
            here.nearby.tell(there.address)
            await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "both")
            for k in range(50):
                await a.write(Create("tasks", f"t{k}", {"n": k}))
                await asyncio.sleep(0.01)
            await until(lambda: len(b.shown()) == 50)
            received = {state.path: state.received for state in (c.state for c in b.sync.peers.conversations.values())}
            assert b.sync._applied == 50
            assert b.database.peek(queries.last_seq) == 50  # and told local programs as often
            assert sum(received.values()) == sum(row.stored.n for row in b.logs().values())
            status = await b.sync.status()
            assert (status.state, status.path) == ("in_step", "both")
            assert status.path_reason == "Connected directly with device0."


async def test_spec_D5_a_relay_that_falls_silent_is_no_way_in_use(tmp_path: Path) -> None:
    """A router beyond this network is dead: no connection breaks, and no interface changes."""
    uplink = Uplink()
    async with household(tmp_path, 2, uplink.connect) as (a, b):
        here, there = Direct(a, tmp_path), Direct(b, tmp_path)
        async with here.running(), there.running():
            here.nearby.tell(there.address)
            await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "both")
            await asyncio.sleep(ANSWER_S / 2)  # whoever owes nothing is not suspected, however quiet it is
            uplink.stop()
            began_s = time.monotonic()
            await a.write(Create("tasks", "one", {"n": 1}))
            await until(lambda: a.shown() == b.shown())
            await until(lambda: a.sync.peers.path() == "lan")
            assert time.monotonic() - began_s < ANSWER_S + 1
            status = await a.sync.status()
            assert status.path_reason == "Connected directly with device1. The relay does not answer."
            assert [(r.state, r.error) for r in status.relays] == [("connecting", NO_ANSWER)]
            uplink.go_on()
            await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "both")


async def test_spec_D5_a_relay_that_is_gone_is_known_soon_after_the_network_changed(tmp_path: Path) -> None:
    uplink = Uplink()
    async with household(tmp_path, 1, uplink.connect) as (a,):
        before = uplink.connections
        a.gateway.look()
        await asyncio.sleep(0.2)
        assert a.sync.peers.path() == "relay"
        uplink.stop()
        began_s = time.monotonic()
        a.gateway.look()
        await until(lambda: a.sync.peers.path() == "none")
        assert time.monotonic() - began_s < RELAY_PROBE_S + 1
        uplink.go_on()
        await until(lambda: a.sync.peers.path() == "relay")
        assert uplink.connections > before


async def test_spec_D5_carried_away_and_home_again(tmp_path: Path) -> None:
    async with household(tmp_path, 2) as (a, b):
        here, there = Direct(a, tmp_path), Direct(b, tmp_path)
        async with here.running():
            for round_ in range(2):
                async with there.running():
                    here.nearby.tell(there.address)
                    await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "both")
                await until(lambda: a.sync.peers.path() == "relay")
                assert "Over the relay." in (await a.sync.status()).path_reason
                await a.write(Create("tasks", f"away{round_}", {"n": round_}))
                await until(lambda: a.shown() == b.shown())
                there = Direct(b, tmp_path)


async def test_devices_do_not_all_send_what_one_has_written(tmp_path: Path) -> None:
    """Four devices, all connected with each other: each batch goes once to each, not once from each to each."""
    async with household(tmp_path, 4) as devices:
        for device in devices:
            device.gateway.use([])
        directs = [Direct(device, tmp_path) for device in devices]
        async with contextlib.AsyncExitStack() as stack:
            for direct in directs:
                await stack.enter_async_context(direct.running())
            for direct in directs:
                direct.nearby.tell(*(other.address for other in directs if other is not direct))
            await until(lambda: all(len(d.sync.peers.directs()) == 3 for d in devices))
            before = sum(d.sync.peers.sent_batches() for d in devices)
            for k in range(30):
                await devices[0].write(Create("tasks", f"t{k}", {"n": k}))
                await asyncio.sleep(0.03)
            await until(lambda: all(len(d.shown()) == 30 for d in devices))
            await asyncio.sleep(1.0)
            sent = sum(d.sync.peers.sent_batches() for d in devices) - before
            batches = devices[0].logs()[devices[0].space.own_log].stored.n
            assert batches > 10
            assert sent <= 4 * batches  # seven, if each sent to each


async def test_what_the_author_cannot_send_another_device_does(tmp_path: Path) -> None:
    """A chain: the last one is reached by nobody but the one in the middle."""
    async with household(tmp_path, 3) as devices:
        for device in devices:
            device.gateway.use([])
        directs = [Direct(device, tmp_path) for device in devices]
        async with contextlib.AsyncExitStack() as stack:
            for direct in directs:
                await stack.enter_async_context(direct.running())
            directs[1].nearby.tell(directs[0].address, directs[2].address)
            await until(lambda: len(devices[1].sync.peers.directs()) == 2)
            await devices[0].write(Create("tasks", "one", {"n": 1}))
            await until(lambda: len(devices[2].shown()) == 1, 3.0)


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


async def test_a_device_that_was_added_while_this_one_was_away(tmp_path: Path) -> None:
    """Nobody but the new device tells of it: it shows a key that only members have, and brings its records along."""
    async with household(tmp_path, 2) as (a, b):
        b.gateway.use([])
        await until(lambda: b.sync.peers.path() == "none")
        c = Device(tmp_path / "new", "tablet")
        async with c.running():
            await pair(a, c)
            await c.write(Create("tasks", "one", {"title": "milk"}))
            for device in (a, c):
                device.gateway.use([])
            here, there = Direct(b, tmp_path), Direct(c, tmp_path)
            async with here.running(), there.running():
                there.nearby.tell(here.address)  # it calls, and is no device that is known
                await until(lambda: "not belong" in str(c.sync.peers.lan.errors.values()))
                here.nearby.tell(there.address)
                await until(lambda: b.shown() and b.shown() == c.shown())
                assert b.space.heads() == c.space.heads()
