"""The recovery words on the local network: a new machine, devices that are near, and no relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.core.keys import DeviceKeys, RootKeys
from hybridgw_daemon.core.operations import Create
from hybridgw_daemon.core.words import seed_to_words
from hybridgw_daemon.services.recovery import RecoveryService
from hybridgw_daemon.transports.peers.certificate import make_certificate, server_context
from hybridgw_daemon.transports.peers.lan_recovery import LanRecovery
from hybridgw_daemon.transports.peers.tls import TlsChannel
from hybridgw_protocol.auth import certificate_endpoint, sign_auth, veiled
from hybridgw_protocol.errors import HybridGWError, Offline
from hybridgw_protocol.frames import (
    Auth,
    Challenge,
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Err,
    Frame,
    PairOpen,
    Push,
    Want,
    Welcome,
    encode_frame,
)
from hybridgw_protocol.localapi_devices import RecoverSpace, RemoveDevice
from hybridgw_protocol.membership import ControlLog

from .devices import Device, until
from .test_direct import Direct, two
from .test_direct_abuse import Caller, answering
from .test_who_belongs import id_of, state_of


class Newcomer:
    """A new machine on the network, where these addresses are announced."""

    def __init__(self, folder: Path, *announced: Address) -> None:
        self.device = Device(folder / "new", "new")
        self.links = Direct(self.device, folder)

        @contextlib.asynccontextmanager
        async def find(told: Callable[[Address], None]) -> AsyncIterator[None]:
            for address in announced:
                told(address)
            yield

        device = self.device
        device.recovery = RecoveryService(
            device.space, device.sync, device.membership, device.devices, device.gateway, device.relays,
            clock=device.clock, entropy=os.urandom,
            direct=LanRecovery(
                device.sync, self.links.gateway, self.links.nearby, self.links.place, find=find, entropy=os.urandom,
                find_s=2.0,
            ),
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Device]:
        async with self.device.running(), self.links.running():
            yield self.device


def words_of(device: Device) -> str:
    """Of the space that it has made."""
    return " ".join(seed_to_words(seed_of(device)))


def seed_of(device: Device) -> bytes:
    seed = device.membership.root_seed()
    assert seed is not None
    return seed


async def test_spec_D6_a_space_comes_back_from_the_words_and_a_device_that_is_near(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        here.nearby.tell(there.address)
        await a.write(Create("tasks", "one", {"title": "milk"}))
        await until(lambda: len(b.shown()) == 1)
        async with Newcomer(tmp_path, here.address, there.address, here.address).running() as new:
            await new.write(Create("tasks", "mine", {"title": "written before"}))
            found = await new.recovery.recover(RecoverSpace(words=words_of(a)))
            assert sorted((d.name, d.state, d.own) for d in found.devices) == [
                ("laptop", "active", False), ("new", "active", True), ("phone", "active", False),
            ]  # fmt: skip
            assert await new.relays.list() == []
            await until(lambda: a.shown() == b.shown() == new.shown())
            assert len(new.shown()) == 2
            assert state_of(b, new) == "active"
            assert new.membership.root_seed() is None
            await new.write(Create("tasks", "now", {"title": "by the new one"}))
            await until(lambda: a.shown() == b.shown() == new.shown())


async def test_spec_D6_what_one_device_has_not_heard_another_one_tells(tmp_path: Path) -> None:
    """A removed device that has not heard of it answers too: it must not be believed that it belongs."""
    async with two(tmp_path) as (a, b, here, there):
        await a.devices.remove(RemoveDevice(id=id_of(b)))
        assert state_of(b, b) == "active"
        async with Newcomer(tmp_path, there.address, here.address).running() as new:
            await new.recovery.recover(RecoverSpace(words=words_of(a)))
            assert state_of(new, b) == "removed"
            sealer = new.space.sealer()
            assert sealer is not None
            assert b.space.key(sealer.kid) is None


async def test_spec_D6_a_stranger_who_answers_learns_nothing(tmp_path: Path) -> None:
    """Neither the space nor a key of it, and nothing that it could show to a device of the space."""
    async with two(tmp_path) as (a, _, here, _):
        said: list[bytes] = []
        context, certificate = server_context(await make_certificate(), tmp_path)
        name = certificate_endpoint(certificate)

        async def stranger(channel: TlsChannel) -> None:
            caller = await Caller.call(here.address)  # who stands in the middle passes on what it hears
            challenge = Challenge(v=(1, 1), ns=caller.challenge.ns, role="peer", t=0, ep=name)
            try:
                with contextlib.suppress(HybridGWError):
                    await channel.send(encode_frame(challenge))
                    said.append(await channel.receive())
                    await caller.channel.send(said[0])
                    answer = await caller.receive()
                    assert isinstance(answer, Err)
                    assert answer.code == "not_admitted"
                    await channel.send(encode_frame(answer))
                    said.append(await channel.receive())
            finally:
                await caller.channel.close()
            await channel.close()

        async with answering(stranger, context) as address, Newcomer(tmp_path, address).running() as new:
            before = len(a.space.records())
            with pytest.raises(Offline, match="No device of the space of these words"):
                async with asyncio.timeout(20):
                    await new.recovery.recover(RecoverSpace(words=words_of(a)))
            assert len(a.space.records()) == before
            assert len([d for d in await new.devices.list() if not d.own]) == 0
        (heard,) = said
        root = RootKeys.from_seed(seed_of(a))
        for secret in (root.space, root.sign_public, root.exchange_public, new.space.identity.device):
            assert secret not in heard


def proof(caller: Caller, root: RootKeys) -> Auth:
    """What root would send there."""
    auth = Auth(
        v=1, sp=root.space, pk=root.sign_public + root.exchange_public, nc=os.urandom(32), ep=caller.channel.endpoint,
        sig=bytes(64), t=0,
    )  # fmt: skip
    auth.sig = sign_auth(caller.challenge, auth, root.sign_secret)
    return auth


async def test_spec_D6_only_the_root_key_opens_the_control_records(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        root, other = RootKeys.from_seed(seed_of(a)), RootKeys.from_seed(bytes(32))

        async def answer_to(sent: Callable[[Caller], Auth], at: Direct = here) -> Frame:
            caller = await Caller.call(at.address)
            await caller.send(sent(caller))
            answer = await caller.receive()
            await caller.channel.close()
            return answer

        def by_other_words(caller: Caller) -> Auth:
            return veiled(proof(caller, other))

        def by_a_device(caller: Caller) -> Auth:
            keys = DeviceKeys.from_seed(bytes(64))
            return veiled(caller.auth(keys, a.space.identity.space))

        def of_another_connection(caller: Caller) -> Auth:
            caller.challenge.ns = bytes(32)
            return veiled(proof(caller, root))

        def of_another_certificate(caller: Caller) -> Auth:
            caller.channel.endpoint = "fp:" + "0" * 64
            return veiled(proof(caller, root))

        answers = [
            await answer_to(sent)
            for sent in (by_other_words, by_a_device, of_another_connection, of_another_certificate)
        ]
        for answer in answers:
            assert isinstance(answer, Err)
            assert (answer.code, answer.msg) == ("not_admitted", answers[0].msg)  # type: ignore[attr-defined]
        # Unveiled it is a device of which there is no record.
        assert isinstance(refused := await answer_to(lambda caller: proof(caller, root)), Err)
        assert refused.code == "not_admitted"
        assert isinstance(await answer_to(lambda caller: veiled(proof(caller, root))), Welcome)
        # A device that is out knows no better than its own records, and lets nobody read them.
        await b.sync.add_records([a.space.remove(b.space.identity.seat, a.clock())], from_peer=True)
        assert not b.space.is_active
        assert isinstance(refused := await answer_to(lambda caller: veiled(proof(caller, root)), there), Err)
        assert refused.code == "not_admitted"


async def test_spec_D6_root_reads_and_brings_records_at_a_device_and_nothing_else(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, _, here, _):
        root = RootKeys.from_seed(seed_of(a))
        await a.write(Create("tasks", "one", {"title": "milk"}))

        async def visiting() -> Caller:
            caller = await Caller.call(here.address)
            await caller.send(veiled(proof(caller, root)))
            welcome = await caller.receive()
            assert isinstance(welcome, Welcome)
            assert (welcome.vv, welcome.ctl) == ([], a.space.heads())
            return caller

        caller = await visiting()
        await caller.send(CtlGet(heads=[]))
        told = await caller.receive()
        assert isinstance(told, Ctl)
        control = ControlLog(root.space)
        assert control.update(told.recs)[1] is None
        assert control.heads == a.space.control.heads
        await caller.send(CtlPut(recs=[b"rubbish"]))
        assert isinstance(refused := await caller.receive(), Err)
        assert refused.code == "bad_record"
        for other in (Push(b=[b"x" * 500]), Want(vv=[]), PairOpen()):
            caller = await visiting()
            await caller.send(other)
            assert isinstance(refused := await caller.receive(), Err)
            assert refused.code == "not_admitted"
        caller = await visiting()
        before = len(a.space.records())
        await caller.send(CtlPut(recs=told.recs))
        assert isinstance(await caller.receive(), CtlAck)
        assert len(a.space.records()) == before
        assert not a.sync.peers.conversations  # it is no device, and nobody's path
        await caller.channel.close()
