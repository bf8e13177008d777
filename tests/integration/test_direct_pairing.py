"""Two machines on one network and nothing else: paired by code, in step; codes that are wrong, used or not there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.services.sync import Worker
from hybridgw_daemon.transports.peers.certificate import make_certificate, server_context
from hybridgw_daemon.transports.peers.mailbox import JoinMailbox
from hybridgw_daemon.transports.peers.tls import TlsChannel
from hybridgw_protocol.errors import BadFrame, BadValue, Offline, PairingFailed
from hybridgw_protocol.frames import PairMsg, encode_frame
from hybridgw_protocol.pairing_code import parse_code

from .devices import Device, pair_by_code, until
from .test_direct import Direct
from .test_direct_abuse import Caller, answering

T = TypeVar("T")


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[Address]:
    """Where somebody takes the connection and never says a word."""

    async def wait(_channel: TlsChannel) -> None:
        await asyncio.Event().wait()

    async with answering(wait) as address:
        yield address


@contextlib.asynccontextmanager
async def strangers(
    tmp_path: Path, worker: Worker = asyncio.to_thread
) -> AsyncIterator[tuple[Device, Device, Direct, Direct]]:
    """Two devices that do not know each other, each in a space of its own; the second finds who announces a code, and
    has this worker."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    b.worker = worker
    here, there = Direct(a, tmp_path), Direct(b, tmp_path)
    async with a.running(), b.running(), here.running(), there.running():
        there.found = [here.address]
        yield a, b, here, there


async def test_spec_D1_paired_and_in_step_without_a_relay(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (a, b, here, there):
        await a.write(Create("tasks", "one", {"title": "milk"}))
        await b.write(Create("tasks", "two", {"title": "written before"}))
        await pair_by_code(a, b)
        assert there.nearby.good[0] == (a.sync.identity.device, here.address)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")
        await until(lambda: len(a.shown()) == 2 and a.shown() == b.shown())
        await b.write(Edit("tasks", "one", {"title": "bread"}))
        await until(lambda: "bread" in str(a.shown()))
        assert (await a.sync.trigger(timeout_s=30)).status == "done"
        assert [offered is None for offered in here.offered] == [False, True]  # announced, and no more
        assert (await a.audited(), await b.audited()) == ({"device.added": 1}, {"device.joined": 1})


async def test_by_an_address_that_a_person_named(tmp_path: Path) -> None:
    """No time is spent on looking for it, nor on another address where nobody answers."""
    async with strangers(tmp_path) as (a, b, here, there), silent() as nobody:
        there.is_looked_for = asyncio.Event().wait()
        there.nearby.tell(nobody, here.address)
        await pair_by_code(a, b)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")


async def test_announced_while_nobody_answers_where_a_person_named_one(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (a, b, _, there), silent() as nobody:
        there.nearby.tell(nobody)
        there.found.insert(0, nobody)
        await pair_by_code(a, b)


async def test_a_code_is_entered_at_one_place(tmp_path: Path) -> None:
    """Two devices show the same first digits, and are called at once: one of them hears the code, the other nothing."""
    async with strangers(tmp_path) as (_, _, here, there):
        c = Device(tmp_path / "c", "tablet")
        also = Direct(c, tmp_path)
        async with c.running(), also.running():
            shown = [await direct.pairing.open_mailbox(417) for direct in (here, also)]
            there.found = [here.address, also.address, Address("localhost", here.place.port)]
            box = await there.pairing.join_mailbox(417)
            is_free = []
            for direct in (here, also):
                channel = await there.place.dial(direct.address)
                try:
                    other = await JoinMailbox.join(channel, 417, peer="", authority=channel.endpoint)
                    is_free.append(True)
                    await other.close("done")
                except PairingFailed:
                    is_free.append(False)
            assert sorted(is_free) == [False, True]
            for one in (box, *shown):
                await one.close("done")


async def test_sec_somebody_in_the_middle_is_not_told_the_code(tmp_path: Path) -> None:
    """It announces the code, has a certificate of its own and hands on the challenge of the device that shows it."""
    async with strangers(tmp_path) as (a, b, here, there):
        context, _ = server_context(await make_certificate(), tmp_path)
        heard: list[bytes] = []
        ended = asyncio.Event()

        async def hand_on(front: TlsChannel) -> None:
            back = await Caller.call(here.address)
            try:
                with contextlib.suppress(Offline):
                    await front.send(encode_frame(back.challenge))
                    heard.append(await front.receive())
            finally:
                await back.channel.close()
            ended.set()

        async with answering(hand_on, context) as address:
            there.nearby.tell(address)  # alone, as long as it is not done
            there.is_looked_for = ended.wait()
            await pair_by_code(a, b)
        assert heard == []


async def test_who_gives_up_before_the_exchange_has_begun_lets_go_of_the_code(tmp_path: Path) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()

    async def slow(work: Callable[[], T]) -> T:
        def at_last() -> T:
            has_begun.set()
            may_go_on.wait(30)
            return work()

        return await asyncio.to_thread(at_last)

    async with strangers(tmp_path, worker=slow) as (a, b, *_):
        offer = await a.pairing.start()
        joined, shown = await b.pairing.join(offer.code), await a.pairing.get(offer.id)
        await until(has_begun.is_set)
        await b.pairing.confirm(joined.id, False)
        may_go_on.set()
        await until(lambda: joined.state == shown.state == "failed")


@pytest.mark.parametrize("is_first", [True, False], ids=["the first device quicker", "the new one quicker"])
async def test_sec_both_persons_say_yes(tmp_path: Path, is_first: bool) -> None:
    async with strangers(tmp_path) as (a, b, *_):
        offer = await a.pairing.start()
        joined, shown = await b.pairing.join(offer.code, ask=True), await a.pairing.get(offer.id)
        sides = [(a, shown, joined), (b, joined, shown)]
        for side, own, _ in sides if is_first else reversed(sides):
            await until(lambda own=own: own.state == "confirm")
            assert b.sync.identity.space != a.sync.identity.space
            await side.pairing.confirm(own.id, True)
            await asyncio.sleep(0.1)
        await until(lambda: joined.state == shown.state == "done")
        assert b.sync.identity.space == a.sync.identity.space


@pytest.mark.parametrize("who", ["the new device", "the first device"])
async def test_sec_a_no_on_either_side_lets_nobody_in(tmp_path: Path, who: str) -> None:
    """Also when the other side has said yes already: nothing is joined, and who was let in is put out again."""
    async with strangers(tmp_path) as (a, b, *_):
        await b.write(Create("notes", "own", {"text": "not for them"}))
        own_space = b.sync.identity.space
        offer = await a.pairing.start()
        joined, shown = await b.pairing.join(offer.code, ask=True), await a.pairing.get(offer.id)
        await until(lambda: joined.state == shown.state == "confirm")
        await a.pairing.confirm(offer.id, True)
        await until(lambda: shown.state == "joining")
        await asyncio.sleep(0.2)
        assert (joined.state, len(a.space.active_devices())) == ("confirm", 2)
        if who == "the new device":
            await b.pairing.confirm(joined.id, False)
        else:
            await a.pairing.confirm(offer.id, False)
        await until(lambda: joined.state == shown.state == "failed")
        await until(lambda: len(a.space.active_devices()) == 1)
        assert b.sync.identity.space == own_space
        assert "not for them" not in str(a.shown())
        assert (await a.audited())["device.removed"] == 1
        again = await b.pairing.join((await a.pairing.start()).code)  # with another code it can come
        await until(lambda: again.state == "confirm")


async def test_a_wrong_code_burns_the_code(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (a, b, here, _):
        offer = await a.pairing.start()
        code = parse_code(offer.code)
        wrong = f"{code.nameplate:03}{(int(code.digits) + 1) % 10**6:06}"
        joined, shown = await b.pairing.join(wrong), await a.pairing.get(offer.id)
        await until(lambda: joined.state == shown.state == "failed")
        assert "code" in str(joined.error).lower()
        again = await b.pairing.join(offer.code)
        await until(lambda: again.state == "failed")
        assert here.offered[-1] is None
        assert (await a.audited()).keys() == {"refused.code", "refused.device"}  # that code; that it was tried again
        assert a.sync.identity.space != b.sync.identity.space


async def test_nobody_shows_the_code(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (_, b, here, there):
        for found in ([here.address], [], [Address("127.0.0.1", 1)]):
            there.found = found
            joined = await b.pairing.join("417-803-265")
            await until(lambda joined=joined: joined.state == "failed")
            assert "No device on this network shows this code" in str(joined.error)


async def test_direct_links_are_off(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    Direct(a, tmp_path), Direct(b, tmp_path)
    async with a.running(), b.running():
        with pytest.raises(Offline, match="No relay"):
            await a.pairing.start()
        with pytest.raises(BadValue, match="LAN_ENABLED"):
            await b.pairing.join("417-803-265")


async def test_who_enters_a_code_may_do_nothing_else(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (a, _, here, there):
        offer = await a.pairing.start()
        nameplate, shown = parse_code(offer.code).nameplate, await a.pairing.get(offer.id)

        async def join() -> JoinMailbox:
            channel = await there.place.dial(here.address)
            channel.trust()
            return await JoinMailbox.join(channel, nameplate, peer="here", authority=channel.endpoint)

        box = await join()
        with pytest.raises(PairingFailed, match="used already"):  # the first one is not disturbed
            await join()
        assert shown.state == "waiting"
        with pytest.raises((PairingFailed, Offline, BadFrame)):
            await box._line.channel.send(encode_frame(PairMsg(m=bytes(17_000))))  # longer than a stranger may
            await box.receive()
        await until(lambda: shown.state == "failed")
        assert a.sync.peers.path() == "none"


async def test_the_other_machine_goes_away(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (a, _, here, there):
        offer = await a.pairing.start()
        channel = await there.place.dial(here.address)
        await JoinMailbox.join(
            channel, parse_code(offer.code).nameplate, peer="here", authority=channel.endpoint
        )  # fmt: skip
        await channel.close()
        shown = await a.pairing.get(offer.id)
        await until(lambda: shown.state == "failed")
        assert "broke" in str(shown.error)
        again = await a.pairing.start()  # the next code can be shown at once
        await a.pairing.confirm(again.id, False)
        await until(lambda: here.offered[-1] is None)
