"""A new pairing takes the place of one that nobody can miss, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridgw_daemon.services.pairing import FORSAKEN_MS, REPLACED
from hybridgw_protocol.errors import Busy

from .devices import Device, pair_by_code, until
from .test_who_belongs import home


async def test_a_code_that_no_device_has_used_gives_way_to_a_new_one(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop") as made:
        [laptop] = made.devices
        before = await laptop.pairing.start()  # and its window was closed
        after = await laptop.pairing.start()
        assert before.code != after.code
        dead = await laptop.pairing.get(before.id)
        assert (dead.state, dead.error) == ("failed", REPLACED)
        assert (await laptop.pairing.get(after.id)).state == "waiting"
        phone = Device(tmp_path / "phone", "phone")
        async with phone.running():
            await pair_by_code(laptop, phone)
            assert len(phone.space.active_devices()) == 2


async def test_two_devices_that_have_met_are_left_alone_while_somebody_follows(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop") as made:
        [laptop] = made.devices
        phone = Device(tmp_path / "phone", "phone")
        async with phone.running():
            offer = await laptop.pairing.start()
            joined = await phone.pairing.join(offer.code)
            shown = await laptop.pairing.get(offer.id)
            await until(lambda: shown.state == "confirm")
            with pytest.raises(Busy, match="another window"):
                await laptop.pairing.start()
            assert shown.state == "confirm"
            laptop.ahead_ms += FORSAKEN_MS  # nobody asks any more
            again = await laptop.pairing.start()
            assert shown.error == REPLACED
            there = await phone.pairing.get(joined.id)
            await until(lambda: there.state == "failed")
            assert len(laptop.space.devices()) == 1
            await laptop.pairing.confirm(again.id, False)
