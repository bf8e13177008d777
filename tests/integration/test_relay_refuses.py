"""A relay that answers and lets this device in no more: it is told apart from one that works; an invite mends it."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from hybridgw_protocol.errors import NotAdmitted
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.localapi_devices import RemoveDevice

from .devices import Device, invite, relay, until
from .test_who_belongs import home, id_of, is_refused


async def test_a_removed_device_is_told_so_by_the_test_of_a_relay_and_by_sync(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone") as made:
        laptop, phone = made.devices
        assert (await phone.relays.test(None)).admitted is True
        assert (await phone.sync.status()).standing == "active"
        await laptop.devices.remove(RemoveDevice(id=id_of(phone)))
        await until(lambda: is_refused(phone))
        check = await phone.relays.test(None)
        assert (check.ok, check.admitted) == (False, False)
        assert check.error is not None
        assert "hybridgw pair CODE" in check.error
        assert check.rtt_ms is not None  # it does answer
        began = time.monotonic()
        for is_waiting in (True, False, True):  # however often it is asked
            assert (await phone.sync.trigger(wait=is_waiting, timeout_s=30)).status == "out"
        assert time.monotonic() - began < 25
        status = await phone.sync.status()
        assert (status.standing, status.message) == ("refused", check.error)


async def test_a_relay_that_lost_its_data_refuses_until_it_has_an_invite(tmp_path: Path) -> None:
    laptop = Device(tmp_path / "laptop", "laptop")
    async with laptop.running():
        async with relay(tmp_path / "relay") as (url, database):
            await laptop.relays.add(format_invite(url, await invite(database())))
        port = urlsplit(url).port
        assert port is not None
        async with relay(tmp_path / "emptied", port) as (again, database):
            assert again == url
            await until(lambda: laptop.sync.peers.conversation(url) is None)
            check = await laptop.relays.test(url)
            assert (check.ok, check.admitted) == (False, False)
            assert check.error is not None
            assert "relay add" in check.error
            assert (await laptop.sync.status()).standing == "active"
            assert isinstance(laptop.sync.peers.errors[url], NotAdmitted)
            began = time.monotonic()
            added = await laptop.relays.add(format_invite(url, await invite(database())))
            assert time.monotonic() - began < 25  # it is asked at once, however long the next try was away
            assert added.state == "connected"
            check = await laptop.relays.test(url)
            assert check.admitted is True
            assert check.quota_bytes
