"""Two machines on one network and nothing else: paired by code, in step; codes that are wrong, used or not there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.transports.peers.mailbox import JoinMailbox
from hybridgw_protocol.errors import BadFrame, BadValue, Offline, PairingFailed
from hybridgw_protocol.frames import PairMsg, encode_frame
from hybridgw_protocol.pairing_code import parse_code

from .devices import Device, pair_by_code, until
from .test_direct import Direct


@contextlib.asynccontextmanager
async def strangers(tmp_path: Path) -> AsyncIterator[tuple[Device, Device, Direct, Direct]]:
    """Two devices that do not know each other, each in a space of its own; the second finds who announces a code."""
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
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


async def test_by_an_address_that_a_person_named(tmp_path: Path) -> None:
    async with strangers(tmp_path) as (a, b, here, there):
        there.found = []
        there.nearby.tell(here.address)
        await pair_by_code(a, b)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")


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
