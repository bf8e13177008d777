"""When this device was in step last, and when it heard of another one: what is told is so."""

from __future__ import annotations

from pathlib import Path

from hybridgw_protocol.invite import format_invite

from .devices import Device, invite, pair, relay, until

IDLE_MS = 9 * 60_000


async def test_the_time_in_step_goes_on_while_nothing_is_written(tmp_path: Path) -> None:
    laptop = Device(tmp_path / "laptop", "laptop")
    async with laptop.running():
        async with relay(tmp_path / "relay") as (url, database):
            await laptop.relays.add(format_invite(url, await invite(database())))
            assert (await laptop.sync.trigger(timeout_s=30)).status == "done"
            status = await laptop.sync.status()
            assert status.state == "in_step"
            assert status.last_sync_ms is not None
            laptop.ahead_ms += IDLE_MS  # nothing happens for so long
            before_ms = laptop.clock()
        await until(lambda: not laptop.sync.peers.conversations)
        status = await laptop.sync.status()
        assert status.state == "offline"
        assert status.last_sync_ms is not None
        assert before_ms <= status.last_sync_ms <= laptop.clock()
        stopped_ms = status.last_sync_ms
        laptop.ahead_ms += IDLE_MS
        assert (await laptop.sync.status()).last_sync_ms == stopped_ms  # and not while it is offline


async def test_a_device_that_was_just_paired_has_been_heard_of(tmp_path: Path) -> None:
    laptop, phone = Device(tmp_path / "laptop", "laptop"), Device(tmp_path / "phone", "phone")
    async with relay(tmp_path / "relay") as (url, database), laptop.running(), phone.running():
        began_ms = laptop.clock()
        await laptop.relays.add(format_invite(url, await invite(database())))
        await pair(laptop, phone)
        [other] = [device for device in await laptop.devices.list() if not device.own]
        assert other.last_seen_ms is not None
        assert began_ms <= other.last_seen_ms <= laptop.clock()
