"""What one person does, or a relay, must not stop letters to others; and what a person decided holds on all devices."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hybridgw_daemon.services.letters import RETRY_FIRST_MS
from hybridgw_daemon.stores import people as people_rows
from hybridgw_protocol.frames import MsgStored
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.localapi_devices import RemoveDevice

from .devices import invite, pair, until
from .test_people import Talker, friends, has_devices, letter

PATIENCE_S = 30.0


async def becomes(sender: Talker, id: str, *states: str) -> None:
    """Wait until a message has exactly these states at the devices that it goes to."""
    async with asyncio.timeout(PATIENCE_S):
        while await sender.goes(id) != set(states):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_a_device_that_is_out_does_not_stop_letters_to_other_people(tmp_path: Path) -> None:
    carol, phone = Talker(tmp_path / "carol", "carol-laptop"), Talker(tmp_path / "phone", "a-phone")
    async with friends(tmp_path) as (ada, bob, url, database), carol.running():
        await carol.device.relays.add(format_invite(url, await invite(database)))
        await until(lambda: carol.people.directories)
        await ada.add(await carol.address("Carol"), "carol")
        await until(lambda: carol.device.database.peek(people_rows.requests))
        await carol.accept((await carol.requests())[0].id, "ada")
        await until(lambda: ada.standing("carol")[0] == "accepted")
        (first, name), (_, other) = sorted(
            ((bob, "bob"), (carol, "carol")), key=lambda pair_: pair_[0].device.space.identity.space
        )
        async with phone.running():
            await pair(first.device, phone.device)
            await until(lambda: phone.people.contacts() and phone.letters.own_records())
            await has_devices(ada, first.device.space.identity.space, 2)
        sent = await ada.send(f"person:{name}", "the phone is off")
        await becomes(ada, sent.id, "delivered", "stored")
        await first.device.devices.remove(RemoveDevice(id=phone.device.space.identity.device.hex()))
        async with asyncio.timeout(PATIENCE_S):
            while len((await ada.people.look_up(first.device.space.identity.space))[0].keys()) > 1:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        ada.device.ahead_ms = RETRY_FIRST_MS + 1_000  # the letter to the phone would be put again
        later = await ada.send(f"person:{other}", "and to somebody else")
        await becomes(ada, later.id, "delivered")


async def test_receipts_that_a_relay_does_not_take_are_put_again_a_minute_later(tmp_path: Path) -> None:
    """A full mailbox answers at once: without a pause the two would go on as fast as they can."""
    async with friends(tmp_path) as (ada, bob, url, _):
        await ada.device.relays.remove(url)  # the test answers in its place
        await ada.letters.take([letter(bob, ada).blob], url)

        async def refused(code: str) -> bool:
            """The relay refuses what is to be put. Returns whether anything was."""
            parcel = ada.letters.compose(url, set())
            if parcel is None:
                return False
            assert parcel.receipts
            await ada.letters.put(
                parcel, MsgStored(ids=[], no=list(parcel.receipts), why=[code] * len(parcel.receipts))
            )
            return True

        assert await refused("quota")
        assert not await refused("quota")
        for _ in range(2):
            ada.device.ahead_ms += RETRY_FIRST_MS
            assert await refused("rate")
            assert not await refused("rate")
        ada.device.ahead_ms += RETRY_FIRST_MS
        await ada.letters.tend()  # what was refused is over: the list of devices may be a stale one
        assert [await refused("stale") for _ in range(5)] == [True] * 4 + [False]
