"""Bad luck between real devices and a real relay: clocks, restored backups, a relay that went back, no keyring."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.stores import alarms
from hybridgw_protocol.errors import SecretsLocked
from hybridgw_protocol.invite import format_invite

from .devices import Device, invite, pair, relay, until

THREE_HOURS_MS = 3 * 3_600_000


def codes(device: Device) -> set[str]:
    return {a.code for a in device.database.peek(alarms.alarms)}


async def test_spec_S9_clock_three_hours_ahead(tmp_path: Path) -> None:
    """What it writes is held back elsewhere, said on both sides, never dropped or changed; in its time it is there."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone", ahead_ms=THREE_HOURS_MS)
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        await pair(a, b)
        await until(lambda: "clock_drift" in codes(b))
        assert "clock_drift" not in codes(a)
        await b.write(Create("tasks", "future", {"title": "from three hours ahead"}))
        await until(lambda: any(r.waiting == "clock" for r in a.logs().values()))
        assert (await a.sync.status()).state == "parked"
        await a.write(Create("tasks", "now", {"title": "not held up"}))
        await until(lambda: "not held up" in str(b.shown()))
        assert "three hours" not in str(a.shown())
        a.ahead_ms = THREE_HOURS_MS  # three hours later
        await a.sync.retry()
        await until(lambda: a.shown() == b.shown() and "three hours" in str(a.shown()))


async def test_relay_restored_from_an_earlier_copy(tmp_path: Path) -> None:
    """It is noticed, said, and the relay gets again what it lost."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with a.running(), b.running():
        async with relay(tmp_path / "relay") as (url, database):
            port = int(url.rsplit(":", 1)[1])
            await a.relays.add(format_invite(url, await invite(database())))
            await pair(a, b)
            await a.write(Create("tasks", "one", {"title": "kept"}))
            await until(lambda: a.shown() == b.shown())
            assert (await a.sync.trigger(timeout_s=30)).status == "done"
        shutil.copytree(tmp_path / "relay", tmp_path / "earlier")
        async with relay(tmp_path / "relay", port):
            await a.write(Edit("tasks", "one", {"title": "lost at the relay"}))
            for device in (a, b):
                device.gateway.reconnect()
            await until(lambda: a.shown() == b.shown() and "lost at" in str(b.shown()))
            assert (await a.sync.trigger(timeout_s=30)).status == "done"
            await a.sync.peers.save_confirmed()
        shutil.rmtree(tmp_path / "relay")
        shutil.copytree(tmp_path / "earlier", tmp_path / "relay")
        async with relay(tmp_path / "relay", port):
            for device in (a, b):
                device.gateway.reconnect()
            await until(lambda: "relay_rollback" in codes(a))
            await a.write(Edit("tasks", "one", {"title": "after"}))
            await until(lambda: a.shown() == b.shown() and "after" in str(b.shown()))
            assert (await a.sync.trigger(timeout_s=30)).status == "done"


async def test_restored_backup_of_a_device(tmp_path: Path) -> None:
    """A device comes back from an old copy and writes: its log forks, is closed and repaired, and nothing is lost."""
    b = Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), b.running():
        a = Device(tmp_path / "a", "laptop")
        async with a.running():
            await a.relays.add(format_invite(url, await invite(database())))
            await pair(a, b)
            await a.write(Create("tasks", "one", {"title": "in the backup"}))
            await until(lambda: a.shown() == b.shown())
            assert (await a.sync.trigger(timeout_s=30)).status == "done"
        shutil.copytree(tmp_path / "a", tmp_path / "copy")
        a = Device(tmp_path / "a", "laptop")
        async with a.running():
            await a.write(Create("tasks", "two", {"title": "after the backup"}))
            await until(lambda: a.shown() == b.shown() and len(b.shown()) == 2)
            assert (await a.sync.trigger(timeout_s=30)).status == "done"
        copy = Device(tmp_path / "copy", "laptop")
        async with copy.running():
            await copy.write(Create("tasks", "three", {"title": "written in the copy"}))
            await until(lambda: len(b.shown()) == 3 and copy.shown() == b.shown(), 20)
            assert "fork" in codes(copy)
            assert (await copy.sync.trigger(timeout_s=30)).status == "done"


async def test_spec_A7_no_keyring_local_data_is_served(tmp_path: Path) -> None:
    """Before there are keys: local writes work, secret ones and sync wait; then all of it syncs."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    await a.write(Create("tasks", "early", {"title": "before any key"}))
    with pytest.raises(SecretsLocked):
        await a.write(Create("settings", "theme", {"dark": True}))
    assert (await a.sync.status()).state == "locked"
    with pytest.raises(SecretsLocked):
        await a.relays.add("http://127.0.0.1:9")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        await pair(a, b)
        await until(lambda: "before any key" in str(b.shown()))


async def test_spec_D2_wrong_code_is_burned(tmp_path: Path) -> None:
    """One guess: a wrong code fails on both sides, and the right one does not work any more."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        await until(lambda: a.sync.peers.conversation() is not None)
        offer = await a.pairing.start()
        right = offer.code
        digits = right[8:11]
        wrong = right[:8] + f"{(int(digits) + 1) % 1000:03}" + right[11:]
        joined = await b.pairing.join(wrong)
        shown = await a.pairing.get(offer.id)
        await until(lambda: shown.state == "failed" and joined.state == "failed")
        assert shown.error
        assert "code" in (joined.error or "")
        again = await b.pairing.join(right)
        await until(lambda: again.state == "failed")
        assert len(await a.devices.list()) == 1


async def test_cancelled_codes_make_room_for_new_ones(tmp_path: Path) -> None:
    """A code nobody uses is given back; a joiner who says no is told to the other side."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        first = await a.pairing.start()
        await a.pairing.confirm(first.id, False)
        shown = await a.pairing.get(first.id)
        await until(lambda: shown.state == "failed")
        second = await a.pairing.start()
        joined = await b.pairing.join(second.code)
        await until(lambda: joined.state == "confirm")
        await b.pairing.confirm(joined.id, False)
        shown = await a.pairing.get(second.id)
        await until(lambda: shown.state == "failed" and joined.state == "failed")
        assert len(await a.devices.list()) == 1


async def test_who_says_yes_second_or_twice_is_no_fault(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        offer = await a.pairing.start()
        joined = await b.pairing.join(offer.code)
        shown = await a.pairing.get(offer.id)
        await until(lambda: shown.state == joined.state == "confirm")
        for _ in range(2):
            await a.pairing.confirm(offer.id, True)
        await until(lambda: shown.state == joined.state == "done")
        for device, number in ((a, offer.id), (b, joined.id)):
            assert (await device.pairing.confirm(number, True)).state == "done"


async def test_words_differ_person_says_no(tmp_path: Path) -> None:
    """The person at the first device refuses: nothing is shared, the second is told."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        await until(lambda: a.sync.peers.conversation() is not None)
        offer = await a.pairing.start()
        joined = await b.pairing.join(offer.code)
        shown = await a.pairing.get(offer.id)
        await until(lambda: shown.state == "confirm")
        await a.pairing.confirm(offer.id, False)
        await until(lambda: shown.state == "failed" and joined.state == "failed")
        assert len(await a.devices.list()) == 1
        assert len(await b.devices.list()) == 1
        await asyncio.sleep(0.1)
        assert b.space.identity.space != a.space.identity.space
