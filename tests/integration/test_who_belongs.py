"""Who belongs, in use: removed, restored, left, lost for good, back from the words. Real devices, a real relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.core.keys import DAY_MS, DeviceKeys, KeyRing, rotate
from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.core.words import seed_to_words
from hybridgw_daemon.services.alarms import AlarmService
from hybridgw_daemon.services.replica import End
from hybridgw_daemon.services.space import TEND_STEP_S, Candidate
from hybridgw_daemon.stores import oplog
from hybridgw_protocol.batch import parse_batch
from hybridgw_protocol.errors import BadValue, HybridGWError, LocalError, NotFound, Revoked
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.limits import QUARANTINE_DAYS, SPACE_KEY_DAYS
from hybridgw_protocol.localapi_devices import (
    ConfirmRecovery,
    ExpelDevice,
    ImportQuarantine,
    LeaveSpace,
    PlanRemoval,
    RecoverSpace,
    RemoveDevice,
    RenameDevice,
    RestoreDevice,
    SettleDevice,
    UndoDevice,
)
from hybridgw_protocol.pairing_messages import Offer
from hybridgw_storage.database import Tx

from .devices import Device, invite, now_ms, pair, relay, until


class Home:
    """Devices that are paired over one relay."""

    def __init__(self, url: str, database: Callable[[], Path], devices: list[Device], words: str) -> None:
        self.url, self.database, self.devices, self.words = url, database, devices, words

    async def in_step(self, *devices: Device) -> None:
        """The same documents on these, and all of them shown as such."""
        first, *others = devices
        await until(lambda: all(d.shown() == first.shown() for d in others))
        for device in devices:
            assert (await device.sync.trigger(timeout_s=30)).status == "done"


@contextlib.asynccontextmanager
async def home(folder: Path, *names: str) -> AsyncIterator[Home]:
    """The first of these makes the space, and the words of it are known to the test."""
    async with contextlib.AsyncExitStack() as stack:
        url, database = await stack.enter_async_context(relay(folder / "relay"))
        devices = [Device(folder / name, name) for name in names]
        for device in devices:
            await stack.enter_async_context(device.running())
        first, *others = devices
        seed = first.membership.root_seed()
        assert seed is not None
        await first.relays.add(format_invite(url, await invite(database())))
        for device in others:
            await pair(first, device)
        made = Home(url, database, devices, " ".join(seed_to_words(seed)))
        await first.write(Create("tasks", "one", {"title": "milk"}))
        await made.in_step(*devices)
        yield made


def id_of(device: Device) -> str:
    return device.space.identity.device.hex()


def state_of(device: Device, other: Device) -> str:
    """How one sees another."""
    info = device.space.control.device(other.space.identity.device)
    assert info is not None
    return info.status.value


def is_refused(device: Device) -> bool:
    """Has the relay told it that it does not belong."""
    return any(isinstance(error, Revoked) for error in device.sync.peers.errors.values())


def batches(device: Device) -> list[Any]:
    return [parse_batch(blob) for blob in device.database.peek(lambda c: list(oplog.all_blobs(c)))]


async def test_spec_D4_removed_is_refused_and_reads_nothing_written_afterwards(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        plan = await desk.devices.plan(PlanRemoval(id=id_of(phone)))
        assert plan.will
        assert plan.cannot
        change = await desk.devices.remove(RemoveDevice(id=id_of(phone)))
        assert (change.device.state, change.told, change.waiting) == ("removed", [made.url], [])
        assert change.device.removed_by == ["desk"]
        await until(lambda: is_refused(phone))
        before = len(batches(laptop))
        await laptop.write(Edit("tasks", "one", {"title": "after the removal"}))
        await until(lambda: laptop.shown() == desk.shown() and "after" in str(desk.shown()))
        assert state_of(laptop, phone) == "removed"
        fresh = batches(laptop)[before:]
        assert fresh
        # Even with every control record and every batch, as a relay that helps it would give them.
        await phone.sync.add_records(laptop.space.records())
        assert [phone.replica.open(batch) for batch in fresh] == [(None, "key")] * len(fresh)
        assert phone.space.sealer() is None
        assert "after" not in str(phone.shown())


async def test_spec_D4_one_new_key_is_made_though_all_hear_of_the_removal(tmp_path: Path) -> None:
    """Also if the device that signed it is gone before it made one: the lowest of the others does."""
    async with home(tmp_path, "laptop", "phone", "desk", "tablet") as made:
        laptop, phone, desk, tablet = made.devices
        before = len(laptop.space.control.epochs)
        record = desk.space.remove(phone.space.identity.seat, now_ms())
        desk.gateway.use([])
        await until(lambda: not desk.sync.peers.conversations)
        await laptop.sync.add_records([record], from_peer=True)
        await laptop.write(Edit("tasks", "one", {"title": "after the removal"}))
        await until(lambda: "after" in str(tablet.shown()))
        await asyncio.sleep(TEND_STEP_S * 3.5)  # whoever would make another one has had time for it
        for device in (laptop, tablet):
            assert len(device.space.control.epochs) == before + 1
            sealer = device.space.sealer()
            assert sealer is not None
            assert sealer.kid == batches(tablet)[-1].kid
        desk.relays.start()
        await made.in_step(laptop, desk, tablet)
        assert len(desk.space.control.epochs) == before + 1


async def test_spec_D4_restored_by_who_removed_it_and_in_step_again(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        await desk.devices.remove(RemoveDevice(id=id_of(phone)))
        await until(lambda: is_refused(phone) and state_of(laptop, phone) == "removed")
        await phone.write(Create("tasks", "two", {"title": "written while out"}))
        await laptop.write(Edit("tasks", "one", {"title": "written without it"}))
        with pytest.raises(LocalError, match="removed by desk"):
            await laptop.devices.restore(RestoreDevice(id=id_of(phone)))
        change = await desk.devices.restore(RestoreDevice(id=id_of(phone)))
        assert change.device.state == "active"
        phone.sync.peers.reconnect()
        await made.in_step(laptop, phone, desk)
        assert {row[1] for row in phone.shown()} == {"one", "two"}
        assert "written without it" in str(phone.shown())


async def test_spec_D4_renamed_on_every_device(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone") as made:
        laptop, phone = made.devices
        assert (await laptop.devices.rename(RenameDevice(id=id_of(phone), name=" Anna's\x1b[2J phone "))).name == (
            "Anna's[2J phone"
        )
        await made.in_step(laptop, phone)
        assert [d.name for d in await phone.devices.list()] == ["laptop", "Anna's[2J phone"]
        await phone.devices.rename(RenameDevice(id=id_of(phone), name="phone two"))
        await made.in_step(laptop, phone)
        assert [d.name for d in await laptop.devices.list()] == ["laptop", "phone two"]


async def test_spec_D4_leaving(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone") as made:
        laptop, phone = made.devices
        await phone.write(Create("tasks", "last", {"title": "before it went"}))
        change = await phone.devices.leave(LeaveSpace())
        assert (change.device.state, change.told) == ("left", [made.url])
        await until(lambda: state_of(laptop, phone) == "left" and "last" in str(laptop.shown()))
        assert phone.sync.peers.known == []
        assert {row[1] for row in phone.shown()} == {"one", "last"}
        with pytest.raises(LocalError, match="only device"):
            await laptop.devices.leave(LeaveSpace())
        with pytest.raises(LocalError, match="left by itself"):
            await laptop.devices.restore(RestoreDevice(id=id_of(phone)))


async def test_spec_D4_removes_against_each_other_stand_until_the_words_end_one(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        for device in (laptop, phone):  # both act before either hears of the other
            device.gateway.use([])
        await until(lambda: not laptop.sync.peers.conversations and not phone.sync.peers.conversations)
        await laptop.devices.remove(RemoveDevice(id=id_of(phone)))
        await phone.devices.remove(RemoveDevice(id=id_of(laptop)))
        laptop.relays.start()
        await until(lambda: state_of(desk, phone) == "removed")
        phone.relays.start()
        await desk.sync.add_records(phone.space.records())  # the relay refuses phone, which somebody met elsewhere
        assert (state_of(desk, laptop), state_of(desk, phone)) == ("removed", "removed")
        with pytest.raises(BadValue, match="not those of this space"):
            await desk.devices.restore(RestoreDevice(id=id_of(laptop), words=" ".join(seed_to_words(bytes(range(32))))))
        await desk.devices.restore(RestoreDevice(id=id_of(laptop), words=made.words))
        assert (state_of(desk, laptop), state_of(desk, phone)) == ("active", "removed")
        laptop.sync.peers.reconnect()
        await made.in_step(laptop, desk)


async def test_spec_D4_a_stolen_first_device_is_out_for_good_and_whom_it_struck_is_whole(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        puppet = Device(tmp_path / "puppet", "puppet")
        async with puppet.running():
            since_ms = now_ms()
            # The thief throws phone out, lets a device of his own in, and writes.
            await laptop.devices.remove(RemoveDevice(id=id_of(phone)))
            await pair(laptop, puppet)
            await until(lambda: "one" in str(puppet.shown()))
            await puppet.write(Edit("tasks", "one", {"title": "spoiled by the puppet"}))
            await laptop.write(Create("tasks", "flood", {"title": "spoiled by the thief"}))
            await until(lambda: "puppet" in str(desk.shown()) and "flood" in str(desk.shown()))
            await until(lambda: is_refused(phone))
            plan = await desk.expelling.plan(PlanRemoval(id=id_of(laptop), lost=True, since_ms=since_ms))
            assert [(a.what, a.name, a.undone) for a in plan.acts] == [
                ("added", "phone", False), ("added", "desk", False), ("removed", "phone", True),
                ("added", "puppet", True),
            ]  # fmt: skip
            assert (plan.comes_back, plan.goes_too) == (["phone"], ["puppet"])
            assert plan.voids == 1
            # The owner has the words, and a device that the thief has thrown out.
            change = await phone.expelling.expel(ExpelDevice(id=id_of(laptop), words=made.words, since_ms=since_ms))
            assert change.device.state == "expelled"
            await made.in_step(phone, desk)
            assert "spoiled" not in str(phone.shown())
            assert state_of(desk, phone) == "active"
            await until(lambda: is_refused(laptop) and is_refused(puppet))
            # What he signs now, on top of what he held, back-dated or not, changes nothing.
            back_dated = laptop.space.remove(desk.space.identity.seat, since_ms - 10**9)
            await desk.sync.add_records([back_dated])
            assert state_of(desk, desk) == "active"
            with pytest.raises(LocalError, match="out for good"):
                await desk.devices.restore(RestoreDevice(id=id_of(laptop)))


async def test_spec_D4_what_is_voided_is_kept_aside_and_may_be_taken(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        await phone.write(Create("tasks", "mine", {"title": "before"}))
        await made.in_step(*made.devices)
        since_ms = now_ms() + 2
        await until(lambda: now_ms() > since_ms)
        await phone.write(Edit("tasks", "mine", {"title": "after"}), Create("tasks", "late", {"title": "late"}))
        await until(lambda: "late" in str(laptop.shown()) and "late" in str(desk.shown()))
        await laptop.expelling.expel(ExpelDevice(id=id_of(phone), words=made.words, since_ms=since_ms))
        await made.in_step(laptop, desk)
        assert "before" in str(desk.shown())
        assert "late" not in str(desk.shown())
        found = (await desk.quarantine.list()).items
        assert [(q.device.id, q.batches, q.operations, q.documents) for q in found] == [
            (id_of(phone), 1, 2, ["tasks/mine", "tasks/late"])
        ]
        await laptop.write(Edit("tasks", "mine", {"title": "by laptop meanwhile"}))
        await made.in_step(laptop, desk)
        own = desk.space.own_log
        assert (await desk.quarantine.take(ImportQuarantine(id=id_of(phone)))).operations == 2
        assert (await laptop.quarantine.take(ImportQuarantine(id=id_of(phone)))).operations == 2  # both: no harm
        await made.in_step(laptop, desk)
        assert {row[1] for row in laptop.shown()} == {"one", "mine", "late"}
        assert [row[3] for row in laptop.shown() if row[1] == "mine"] == [1]  # of two that had not seen each other
        assert [row[3] for row in laptop.shown() if row[1] == "late"] == [0]  # equal values are no conflict
        assert desk.space.control.end_of(own, desk.space.identity.device) is not None
        await desk.write(Create("tasks", "next", {"title": "in the new log"}))
        await made.in_step(laptop, desk)
        with pytest.raises(NotFound):
            await desk.quarantine.take(ImportQuarantine(id=id_of(phone)))


async def test_spec_D4_what_was_set_aside_is_forgotten_after_90_days(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        since_ms = now_ms()
        await phone.write(Create("tasks", "late", {"title": "late"}))
        await until(lambda: "late" in str(desk.shown()))
        await laptop.expelling.expel(ExpelDevice(id=id_of(phone), words=made.words, since_ms=since_ms))
        await made.in_step(laptop, desk)
        (kept,) = (await desk.quarantine.list()).items
        assert kept.kept_until_ms is not None
        assert abs(kept.kept_until_ms - now_ms() - QUARANTINE_DAYS * DAY_MS) < 60_000
        desk.ahead_ms = QUARANTINE_DAYS * DAY_MS - 60_000
        assert await desk.quarantine.forget_old() == 0
        desk.ahead_ms = QUARANTINE_DAYS * DAY_MS + 60_000
        assert await desk.quarantine.forget_old() == 1
        assert (await desk.quarantine.list()).items == []
        with pytest.raises(NotFound):
            await desk.quarantine.take(ImportQuarantine(id=id_of(phone)))
        assert len((await laptop.quarantine.list()).items) == 1  # by its own clock
        desk.ahead_ms = 0
        await desk.write(Create("tasks", "next", {"title": "and all goes on"}))
        await made.in_step(laptop, desk)


async def test_what_this_device_has_yet_to_seal_again_is_not_forgotten(tmp_path: Path) -> None:
    """Its own log was closed below what it wrote, and it has no key to seal with at the moment."""
    async with home(tmp_path, "laptop") as made:
        (laptop,) = made.devices
        own = laptop.space.own_log
        await laptop.write(Create("tasks", "two", {"title": "bread"}))
        await until(lambda: laptop.logs()[own].stored.n == 2)
        laptop.replica.sealer = None
        hash_of_first = laptop.database.peek(lambda c: oplog.hash_at(c, own, 1))
        assert hash_of_first is not None
        keys = laptop.replica.keys._replace(ends={own: End(1, hash_of_first, 1)})
        await laptop.database.write(lambda tx: laptop.replica.learn(tx, keys, now_ms(), None))
        laptop.ahead_ms = 10 * QUARANTINE_DAYS * DAY_MS
        assert await laptop.quarantine.forget_old() == 0
        assert len(laptop.database.peek(lambda c: oplog.evidence(c, own))) == 1


async def test_spec_D4_a_new_key_every_90_days(tmp_path: Path) -> None:
    """One, though all devices see that it is time; and no other though their clocks disagree."""
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        before = len(made.devices[0].space.control.epochs)

        async def all_look() -> set[int]:
            for device in made.devices:
                await device.sync.retry()
            await asyncio.sleep(TEND_STEP_S * 3.5)
            return {len(device.space.control.epochs) for device in made.devices}

        for device in made.devices:
            device.ahead_ms = (SPACE_KEY_DAYS - 1) * DAY_MS
            assert not device.space.key_is_old(device.clock())
        for device in made.devices:
            device.ahead_ms = (SPACE_KEY_DAYS + 1) * DAY_MS
        assert await all_look() == {before + 1}
        made.devices[0].ahead_ms += 300 * DAY_MS  # its clock is wrong: it makes one, and nobody answers with another
        assert await all_look() == {before + 2}
        assert not any(device.space.key_is_old(device.clock()) for device in made.devices)
        await made.devices[1].write(Edit("tasks", "one", {"title": "under the new key"}))
        await made.in_step(*made.devices[1:])
        sealer = made.devices[2].space.sealer()
        assert sealer is not None
        assert batches(made.devices[2])[-1].kid == sealer.kid


async def test_a_device_that_reaches_nobody_makes_no_key_of_its_own(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop") as made:
        (laptop,) = made.devices
        laptop.gateway.use([])
        await until(lambda: not laptop.sync.peers.conversations)
        before = len(laptop.space.control.epochs)
        laptop.ahead_ms = 2 * SPACE_KEY_DAYS * DAY_MS
        await laptop.sync.retry()
        await laptop.sync.add_records(laptop.space.tend(laptop.clock()))
        await asyncio.sleep(TEND_STEP_S * 1.2)
        assert len(laptop.space.control.epochs) == before


async def test_spec_D4_a_flood_found_later_is_undone(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        since_ms = now_ms()
        for number in range(20):
            await phone.write(Create("tasks", f"junk{number}", {"title": "junk"}))
        await until(lambda: len(laptop.shown()) == 21 and len(desk.shown()) == 21)
        with pytest.raises(LocalError, match="not put out for good"):
            await laptop.expelling.undo(UndoDevice(id=id_of(phone), words=made.words, since_ms=since_ms))
        await laptop.expelling.expel(ExpelDevice(id=id_of(phone), words=made.words))
        await made.in_step(laptop, desk)
        assert len(desk.shown()) == 21
        await laptop.expelling.undo(UndoDevice(id=id_of(phone), words=made.words, since_ms=since_ms))
        await made.in_step(laptop, desk)
        assert [row[1] for row in desk.shown()] == ["one"]
        with pytest.raises(LocalError, match="Nothing that counts"):
            await laptop.expelling.undo(UndoDevice(id=id_of(phone), words=made.words, since_ms=since_ms))


async def test_spec_D4_an_expelled_device_with_its_whole_disk_and_a_relay_that_helps(tmp_path: Path) -> None:
    """It reads nothing of the new epoch, and none of its writes counts, whatever it signs."""
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        old_records, own_log = phone.space.records(), phone.space.own_log
        await laptop.expelling.expel(ExpelDevice(id=id_of(phone), words=made.words, since_ms=now_ms()))
        await made.in_step(laptop, desk)
        before = len(batches(laptop))
        for device in (laptop, desk):
            await device.write(Create("tasks", f"secret{id_of(device)[:4]}", {"title": "of the new epoch"}))
            await device.write(Create("settings", f"s{id_of(device)[:4]}", {"value": "of the new epoch"}))
        await made.in_step(laptop, desk)
        fresh, shown = batches(laptop)[before:], laptop.shown()
        assert len(fresh) >= 4

        # The thief, with what was on the disk: writes on in its log and in new ones, all of it validly signed.
        assert phone.space.is_active  # it has not heard of the expel
        await phone.write(Edit("tasks", "one", {"title": "stolen"}), Create("tasks", "thief", {"title": "stolen"}))
        await phone.sync.seal()
        device, salt = phone.space.identity.device, b"s" * 32

        def another_log(tx: Tx) -> None:
            phone.replica.switch_log(tx, device, salt, now_ms())

        await phone.database.write(another_log)
        await phone.write(Create("tasks", "thief two", {"title": "stolen"}))
        await phone.sync.seal()
        signed = [b for b in batches(phone) if b.device == device]
        assert {b.log for b in signed} > {own_log}
        assert "stolen" in str(phone.shown())

        # And signs records on top of what it knew, with dates of its choice.
        past = now_ms() - 10**10
        puppet = Candidate(os.urandom)
        offer = Offer(
            phone.space.identity.space, phone.space.root_public, phone.space.identity.seat,
            tuple(phone.space.signing_heads()),
        )  # fmt: skip
        forged = [
            phone.space.remove(laptop.space.identity.seat, past),
            phone.space.remove(desk.space.identity.seat, past),
            phone.space.add_device(puppet.introduce(offer, "puppet", "test"), offer, past),
            phone.space.close_log(own_log, End(2**40, b"h" * 32, 2**40), past),
            rotate(phone.space._hand(past)),
            phone.space.leave(past),
        ]
        for victim in (laptop, desk):
            actives, key = victim.space.control.active_seats(), victim.space.sealer()
            for record in (*old_records, *forged):
                with contextlib.suppress(HybridGWError):
                    await victim.sync.add_records([record])
            opened = await victim.sync.open_batches([b.blob for b in signed])
            await victim.sync.receive(opened, source="a relay that helps")
            assert victim.space.control.active_seats() == actives
            assert key is not None
            now = victim.space.sealer()
            assert now is not None
            assert now.kid == key.kid
            assert victim.shown() == shown
        await laptop.write(Create("tasks", "still", {"title": "of the new epoch"}))
        await made.in_step(laptop, desk)
        fresh += batches(laptop)[-1:]

        # The relay gives it all records, also those that make it learn what became of it, and all batches.
        await phone.sync.add_records(laptop.space.records())
        assert [phone.replica.open(batch) for batch in fresh] == [(None, "key")] * len(fresh)
        ring = KeyRing.of_device(DeviceKeys.from_seed(puppet.seed))
        ring.follow(laptop.space.control)
        assert not {batch.kid for batch in fresh} & {*ring.keys, *phone.space.keys().space_keys}
        # A backup of the phone, put back, is where it was.
        assert state_of(phone, phone) == "expelled"


async def test_spec_D4_two_batches_for_one_place_are_told_and_settled_with_the_words(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        await phone.write(Create("tasks", "mine", {"title": "before"}))
        await made.in_step(*made.devices)
        (tmp_path / "copy").mkdir()
        with contextlib.closing(sqlite3.connect(tmp_path / "copy" / "replica.db")) as copy:
            with contextlib.closing(sqlite3.connect(phone.database.path)) as original:
                original.backup(copy)
            copy.execute("DELETE FROM relay")  # it is never connected
            copy.commit()
        twin = Device(tmp_path / "copy", "phone")
        async with twin.running():
            await twin.write(Create("tasks", "theirs", {"title": "by the copy"}))
            await twin.sync.seal()
            other = [b for b in batches(twin) if b.log == phone.space.own_log][-1]
        await phone.write(Create("tasks", "ours", {"title": "by the phone"}))
        await made.in_step(*made.devices)
        with pytest.raises(LocalError, match="in dispute"):
            await desk.expelling.settle(SettleDevice(id=id_of(phone), words=made.words))
        await desk.sync.receive(await desk.sync.open_batches([other.blob]), source="somebody")
        [alarm] = await AlarmService(desk.database).list()
        assert alarm.code == "fork"
        assert id_of(phone)[:16] in alarm.message
        assert "devices settle" in alarm.message
        assert "by the copy" not in str(desk.shown())
        with pytest.raises(LocalError, match="device itself"):
            await phone.expelling.settle(SettleDevice(id=id_of(phone), words=made.words))
        old = phone.space.own_log
        await desk.expelling.settle(SettleDevice(id=id_of(phone), words=made.words))
        await until(lambda: phone.space.own_log != old)  # it goes on in another log
        await phone.write(Create("tasks", "more", {"title": "in the new log"}))
        await made.in_step(*made.devices)
        assert {row[1] for row in laptop.shown()} == {"one", "mine", "ours", "more"}


async def test_what_a_device_that_was_put_back_could_not_know_of_is_kept_aside(tmp_path: Path) -> None:
    """It ends its log on as much of its lost branch as it was shown; who has more of that branch can bring it back."""
    async with home(tmp_path, "laptop", "phone", "desk") as made:
        laptop, phone, desk = made.devices
        await phone.write(Create("tasks", "mine", {"title": "before"}))
        await made.in_step(*made.devices)
        (tmp_path / "copy").mkdir()
        with contextlib.closing(sqlite3.connect(tmp_path / "copy" / "replica.db")) as copy:
            with contextlib.closing(sqlite3.connect(phone.database.path)) as original:
                original.backup(copy)
            copy.execute("DELETE FROM relay")
            copy.commit()
        twin = Device(tmp_path / "copy", "phone")
        async with twin.running():  # the disk that was lost, and how far others had it
            for name in ("known", "unknown"):
                await twin.write(Create("tasks", name, {"title": name}))
                await twin.sync.seal()
            known, unknown = [b for b in batches(twin) if b.log == phone.space.own_log][-2:]
        await phone.write(Create("tasks", "since", {"title": "after it was put back"}))
        await made.in_step(*made.devices)
        blobs = [known.blob, unknown.blob]
        await desk.sync.receive(await desk.sync.open_batches(blobs), source="somebody")
        assert (await desk.quarantine.list()).items == []  # nothing is decided yet
        await phone.sync.receive(await phone.sync.open_batches(blobs[:1]), source="somebody")
        await until(lambda: "known" in str(laptop.shown()) and "since" in str(laptop.shown()))
        await made.in_step(*made.devices)
        await phone.sync.receive(await phone.sync.open_batches(blobs[1:]), source="somebody")
        assert "unknown" not in str(phone.shown())  # too late: its log ends before
        assert [(await device.quarantine.list()).items for device in (laptop, phone)] == [[], []]
        found = (await desk.quarantine.list()).items  # not what the phone has sealed again
        assert [(q.device.id, q.batches, q.operations, q.documents) for q in found] == [
            (id_of(phone), 1, 1, ["tasks/unknown"])
        ]
        assert await desk.quarantine.tell() == 0  # it may still come from the phone itself
        desk.ahead_ms = 2 * 3_600_000
        assert await desk.quarantine.tell() == 1
        assert "devices quarantine" in next(a.message for a in await AlarmService(desk.database).list())
        assert await desk.quarantine.tell() == 0
        desk.ahead_ms = 0
        assert (await desk.quarantine.take(ImportQuarantine(id=id_of(phone)))).operations == 1
        await made.in_step(*made.devices)
        assert {row[1] for row in laptop.shown()} == {"one", "mine", "known", "unknown", "since"}
        assert {row[3] for row in laptop.shown()} == {0}
        assert (await desk.quarantine.list()).items == []


async def test_spec_D6_the_words_are_shown_until_they_are_confirmed(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone") as made:
        laptop, phone = made.devices
        assert (await laptop.recovery.status()).state == "here"
        assert (await phone.recovery.status()).state == "elsewhere"
        words = (await laptop.recovery.show()).words
        assert " ".join(words) == made.words
        with pytest.raises(BadValue, match="Word 3, 'zzzz'"):
            await laptop.recovery.confirm(ConfirmRecovery(words=" ".join([*words[:2], "zzzz", *words[3:]])))
        with pytest.raises(BadValue, match="not those of this space"):
            await laptop.recovery.confirm(ConfirmRecovery(words=" ".join(seed_to_words(bytes(32)))))
        seed = laptop.membership.root_seed()
        assert seed is not None
        shown = await laptop.recovery.confirm(ConfirmRecovery(words=made.words.upper()))
        assert (shown.state, shown.confirmed_ms is not None) == ("confirmed", True)
        assert laptop.membership.root_seed() is None
        for device in (laptop, phone):
            with pytest.raises(NotFound):
                await device.recovery.show()


async def test_spec_D6_a_space_comes_back_from_the_words_and_one_relay(tmp_path: Path) -> None:
    async with home(tmp_path, "laptop", "phone") as made:
        laptop, phone = made.devices
        await phone.write(Create("settings", "theme", {"value": "dark"}))
        await made.in_step(laptop, phone)
        await laptop.devices.remove(RemoveDevice(id=id_of(phone)))  # a key that came later is among the keys
        await laptop.write(Create("tasks", "two", {"title": "under the second key"}))
        await made.in_step(laptop)
        shown = laptop.shown()
        laptop.gateway.use([])  # lost, both of them
        phone.gateway.use([])
        new = Device(tmp_path / "new", "new")
        async with new.running():
            await new.write(Create("tasks", "three", {"title": "written on the new machine before"}))
            with pytest.raises(NotFound, match="does not know a space of these words"):
                await new.recovery.recover(RecoverSpace(words=" ".join(seed_to_words(bytes(32))), relay=made.url))
            with pytest.raises(BadValue):
                await new.recovery.recover(RecoverSpace(words=made.words + " abandon", relay=made.url))
            found = await new.recovery.recover(RecoverSpace(words=made.words, relay=made.url, name="replacement"))
            assert sorted((d.name, d.state) for d in found.devices) == [
                ("laptop", "active"), ("phone", "removed"), ("replacement", "active"),
            ]  # fmt: skip
            await until(lambda: len(new.shown()) == 4)
            assert [row for row in new.shown() if row[1] != "three"] == shown
            assert new.membership.root_seed() is None
            await new.expelling.expel(ExpelDevice(id=id_of(laptop), words=made.words))
            await new.write(Edit("tasks", "two", {"title": "after the expel"}))
            assert (await new.sync.trigger(timeout_s=30)).status == "done"
            laptop.relays.start()
            await until(lambda: is_refused(laptop))
            with pytest.raises(LocalError, match="belongs to a space with other devices"):
                await new.recovery.recover(RecoverSpace(words=made.words, relay=made.url))
