"""A device that is out of its space comes back in the same profile: by a code, as a new device, with all it has."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.core.words import seed_to_words
from hybridgw_protocol.errors import LocalError
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.localapi_devices import ExpelDevice, ImportQuarantine, LeaveSpace, RecoverSpace, RemoveDevice

from .devices import Device, invite, now_ms, pair, relay, until
from .test_who_belongs import Home, id_of, is_refused, state_of


@contextlib.asynccontextmanager
async def two_and_a_phone(folder: Path) -> AsyncIterator[tuple[Home, Device]]:
    """Laptop and desk as they run through the test, and a phone that is yours to run."""
    async with contextlib.AsyncExitStack() as stack:
        url, database = await stack.enter_async_context(relay(folder / "relay"))
        laptop, desk = Device(folder / "laptop", "laptop"), Device(folder / "desk", "desk")
        for device in (laptop, desk):
            await stack.enter_async_context(device.running())
        seed = laptop.membership.root_seed()
        assert seed is not None
        await laptop.relays.add(format_invite(url, await invite(database())))
        await pair(laptop, desk)
        yield Home(url, database, [laptop, desk], " ".join(seed_to_words(seed))), Device(folder / "phone", "phone")


def names(device: Device) -> set[str]:
    """Of the documents that are shown."""
    return {row[1] for row in device.shown()}


async def test_spec_D4_a_removed_device_is_paired_again_with_all_it_has(tmp_path: Path) -> None:
    async with two_and_a_phone(tmp_path) as (made, phone):
        laptop, desk = made.devices
        async with phone.running():
            await pair(laptop, phone)
            await phone.write(Create("tasks", "mine", {"title": "before"}))
            await made.in_step(laptop, desk, phone)
            old, old_log = id_of(phone), phone.space.own_log
            await desk.devices.remove(RemoveDevice(id=old))
            await until(lambda: is_refused(phone))
            await phone.write(Create("tasks", "late", {"title": "while it was out"}))
            await laptop.write(Edit("tasks", "mine", {"title": "after"}))
            await until(lambda: "after" in str(desk.shown()))
            assert "late" not in names(desk)

            await pair(laptop, phone)
            await made.in_step(laptop, desk, phone)
            assert id_of(phone) != old
            assert phone.space.own_log != old_log
            # A removal that can be taken back voids nothing: what it wrote meanwhile comes with it.
            assert names(laptop) == {"mine", "late"}
            assert "after" in str(phone.shown())
            states = {d.id: d.state for d in await laptop.devices.list()}
            assert (states[old], states[id_of(phone)]) == ("removed", "active")
            await phone.write(Create("tasks", "now", {"title": "as the new device"}))
            await made.in_step(laptop, desk, phone)
            assert phone.logs()[phone.space.own_log].device == phone.space.identity.device
        again = Device(tmp_path / "phone", "phone")
        async with again.running():  # and it is that one after a restart
            assert id_of(again) == id_of(phone)
            await again.write(Create("tasks", "restarted", {"title": "still"}))
            await made.in_step(laptop, desk, again)
            assert len(laptop.shown()) == 4


async def test_spec_D4_a_lost_device_that_was_found_brings_nothing_back_by_itself(tmp_path: Path) -> None:
    async with two_and_a_phone(tmp_path) as (made, phone), phone.running():
        laptop, desk = made.devices
        await pair(laptop, phone)
        await phone.write(Create("tasks", "mine", {"title": "before"}))
        await made.in_step(laptop, desk, phone)
        since_ms = now_ms() + 2
        await until(lambda: now_ms() > since_ms)
        await phone.write(Edit("tasks", "mine", {"title": "by the thief"}))
        await until(lambda: "thief" in str(laptop.shown()))
        old = id_of(phone)
        await laptop.expelling.expel(ExpelDevice(id=old, words=made.words, since_ms=since_ms))
        await until(lambda: is_refused(phone))
        await phone.write(Create("tasks", "thief", {"title": "by the thief, later"}))

        await pair(laptop, phone)
        await made.in_step(laptop, desk, phone)
        assert state_of(laptop, phone) == "active"
        assert "thief" not in str(phone.shown())
        kept = (await phone.quarantine.list()).items
        assert [(k.device.id, k.documents) for k in kept] == [(old, ["tasks/mine", "tasks/thief"])]
        await phone.quarantine.take(ImportQuarantine(id=old))  # if it was the owner's after all
        await made.in_step(laptop, desk, phone)
        assert names(desk) == {"mine", "thief"}


async def test_spec_D4_a_device_that_has_left_comes_back_with_what_it_wrote_since(tmp_path: Path) -> None:
    async with two_and_a_phone(tmp_path) as (made, phone), phone.running():
        laptop, desk = made.devices
        await pair(laptop, phone)
        await laptop.write(Create("tasks", "one", {"title": "milk"}))
        await made.in_step(laptop, desk, phone)
        await phone.devices.leave(LeaveSpace())
        await phone.write(Create("tasks", "alone", {"title": "not sealed by anybody"}))
        await pair(desk, phone)
        await made.in_step(laptop, desk, phone)
        assert names(laptop) == {"one", "alone"}


async def test_spec_D4_only_its_own_space_and_only_if_it_is_out_or_a_person_says_so(tmp_path: Path) -> None:
    async with two_and_a_phone(tmp_path) as (made, phone), phone.running():
        laptop, desk = made.devices
        await laptop.write(Create("tasks", "one", {"title": "milk"}))
        await made.in_step(laptop, desk)
        await phone.relays.add(format_invite(made.url, await invite(made.database())))
        await until(lambda: phone.sync.peers.conversation() is not None)
        code = (await phone.pairing.start()).code
        with pytest.raises(LocalError, match="--anew"):
            await desk.pairing.join(code)
        joined = await desk.pairing.join(code, anew=True)
        await until(lambda: joined.error)
        assert joined.error is not None
        assert "belongs to another space" in joined.error
        assert names(phone) == set()

        await until(lambda: all(r.is_over for r in phone.pairing._running.values()))
        before = id_of(desk)
        offer = await laptop.pairing.start()  # a copy of another machine: its person says so
        joined = await desk.pairing.join(offer.code, anew=True)
        shown = await laptop.pairing.get(offer.id)
        await until(lambda: shown.state == "confirm")
        await laptop.pairing.confirm(offer.id, True)
        await until(lambda: joined.state == "done")
        await made.in_step(laptop, desk)
        assert id_of(desk) != before
        await desk.devices.remove(RemoveDevice(id=before))
        await desk.write(Create("tasks", "two", {"title": "bread"}))
        await made.in_step(laptop, desk)
        assert names(laptop) == {"one", "two"}


async def test_spec_D6_a_removed_device_comes_back_by_the_words(tmp_path: Path) -> None:
    async with two_and_a_phone(tmp_path) as (made, phone), phone.running():
        laptop, desk = made.devices
        await pair(laptop, phone)
        await made.in_step(laptop, desk, phone)
        with pytest.raises(LocalError, match="other devices already"):
            await phone.recovery.recover(RecoverSpace(words=made.words, relay=made.url))
        await desk.devices.remove(RemoveDevice(id=id_of(phone)))
        await until(lambda: is_refused(phone))
        await phone.write(Create("tasks", "late", {"title": "while it was out"}))
        await phone.recovery.recover(RecoverSpace(words=made.words, relay=made.url))
        await made.in_step(laptop, desk, phone)
        assert names(laptop) == {"late"}
