"""Messages over a direct link, without a relay: handed, delivered, handled; and over both ways at once, each once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from hybridgw_daemon.services.mail import MailService
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.ports import OWNER
from hybridgw_protocol.localapi_messages import AckMessage, GetMessage, SendMessage

from .devices import Device, until
from .test_direct import Direct, household, two


def talk(device: Device) -> MessageService:
    """Programs of a device may send and get messages from now on."""
    messages = MessageService(device.database, clock=device.clock, entropy=os.urandom)
    device.sync.mail = MailService(
        device.database, device.space, messages, clock=device.clock, entropy=os.urandom, wake=device.sync.peers.wake
    )
    return messages


def shown(device: Device) -> list[bytes]:
    return device.database.peek(
        lambda c: [body for (body,) in c.execute("SELECT body FROM message WHERE sender <> x'' ORDER BY rid")]
    )


async def becomes(messages: MessageService, id: str, state: str) -> None:
    async with asyncio.timeout(30):
        while True:
            found: Any = await messages.history.get(OWNER, GetMessage(id=id))
            if {d.state for d in found.deliveries if not d.here} == {state}:
                return
            await asyncio.sleep(0.01)


async def test_spec_R4_a_message_without_a_relay(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        ours, theirs = talk(a), talk(b)
        here.nearby.tell(there.address)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")
        ids = [(await ours.send(OWNER, SendMessage(type="note", to="device:phone", body=k))).id for k in range(50)]
        await becomes(ours, ids[-1], "delivered")
        assert shown(b) == [str(k).encode() for k in range(50)]
        await theirs.ack_one(OWNER, AckMessage(id=ids[0]))
        await becomes(ours, ids[0], "handled")
        back = await theirs.send(OWNER, SendMessage(type="note", to="device:laptop", body="back"))
        await becomes(theirs, back.id, "delivered")


async def test_spec_R4_over_both_ways_each_device_gets_its_own_once(tmp_path: Path) -> None:
    async with household(tmp_path, 3) as devices:
        ours, *_ = [talk(device) for device in devices]
        for device in devices:
            device.gateway.reconnect(True)
        await until(lambda: all(d.sync.peers.conversations for d in devices))
        here, there = Direct(devices[0], tmp_path), Direct(devices[1], tmp_path)
        async with here.running(), there.running():
            here.nearby.tell(there.address)
            await until(lambda: devices[0].sync.peers.path() == "both")
            ids = [(await ours.send(OWNER, SendMessage(type="note", to="all", body=k))).id for k in range(100)]
            await becomes(ours, ids[-1], "delivered")
            await until(lambda: len(shown(devices[2])) == 100)
            for device in devices[1:]:
                assert shown(device) == [str(k).encode() for k in range(100)]
            for id in (ids[0], ids[50]):
                await becomes(ours, id, "delivered")
