"""Who calls a device directly and is not what it says: nothing is told, nothing is kept, the cause is named."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.core.keys import DeviceKeys, rotate
from hybridgw_daemon.core.operations import Create
from hybridgw_daemon.transports.peers.certificate import client_context, make_certificate, server_context
from hybridgw_daemon.transports.peers.lan import LanLink
from hybridgw_daemon.transports.peers.tls import STRANGERS_PER_ADDRESS, TlsChannel
from hybridgw_protocol.auth import certificate_endpoint, sign_auth
from hybridgw_protocol.errors import Offline, RemoteClosed
from hybridgw_protocol.frames import Auth, Challenge, CtlGet, Err, Frame, Ping, Want, decode_frame, encode_frame
from hybridgw_protocol.records import Remove, sign_record

from .devices import Device, until
from .test_direct import Way, two


class Caller:
    """Somebody who calls and says what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.channel = TlsChannel(reader, writer, "caller")
        self.channel.trust()
        self.writer = writer
        self.challenge: Challenge

    @classmethod
    async def call(cls, address: Address) -> Caller:
        reader, writer = await asyncio.open_connection(*address, ssl=client_context(), server_hostname="")
        caller = cls(reader, writer)
        frame = await caller.receive()
        assert isinstance(frame, Challenge)
        caller.challenge = frame
        return caller

    async def receive(self) -> Frame:
        return decode_frame(await self.channel.receive())[0]

    async def send(self, frame: Frame) -> None:
        await self.channel.send(encode_frame(frame))

    def auth(self, keys: DeviceKeys, space: bytes, **changes: Any) -> Auth:
        auth = Auth(
            v=1, sp=space, pk=keys.sign_public + keys.exchange_public, nc=os.urandom(32), ep=self.channel.endpoint,
            sig=bytes(64), t=0,
        )  # fmt: skip
        auth = msgspec.structs.replace(auth, **changes)
        auth.sig = changes.get("sig") or sign_auth(self.challenge, auth, keys.sign_secret)
        return auth

    async def refusal(self, frame: Frame) -> Err:
        """What a frame is answered with, and nothing after it."""
        await self.send(frame)
        answer = await self.receive()
        assert isinstance(answer, Err), answer
        with pytest.raises(Exception, match="closed the connection"):
            await self.receive()
        await self.channel.close()
        return answer


@contextlib.asynccontextmanager
async def answering(
    talk: Callable[[TlsChannel], Awaitable[None]], context: ssl.SSLContext | None = None
) -> AsyncIterator[Address]:
    """Somebody who is called and says what a test wants. What is open at the end is cut, whoever calls then.

    Args: context: of TLS, None: without.
    """
    talking: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking[task] = writer
        try:
            await talk(TlsChannel(reader, writer, "called"))
        finally:
            writer.transport.abort()
            del talking[task]

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in (left := list(talking)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def own_keys(device: Device) -> DeviceKeys:
    identity = device.sync.identity
    return DeviceKeys(identity.sign_public, identity.sign_secret, identity.exchange_public, bytes(32))


async def remove(by: Device, target: Device) -> None:
    """`by` says that the other belongs no more."""
    identity = by.sync.identity
    record = Remove(
        space=identity.space, prevs=tuple(by.space.signing_heads()), by=identity.seat, ts=by.clock(),
        target=target.sync.identity.seat,
    )  # fmt: skip
    await by.sync.add_records([sign_record(record, identity.sign_secret)])


async def counted(device: Device, times: int) -> None:
    """Until its audit log says that so many were refused."""
    async with asyncio.timeout(30):
        while (await device.audited()).get("refused.device", 0) < times:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


async def test_what_a_stranger_says_is_refused_and_named(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, _):
        space, stranger = a.sync.identity.space, DeviceKeys.from_seed(os.urandom(64))
        told = set()
        for keys, sp in ((stranger, space), (stranger, bytes(16)), (own_keys(b), bytes(16)), (own_keys(a), space)):
            caller = await Caller.call(here.address)
            answer = await caller.refusal(caller.auth(keys, sp))
            assert answer.code == "not_admitted"
            told.add(answer.msg)
        assert len(told) == 1  # who asks learns not even which spaces are here
        for changes, code in (
            ({"sig": bytes(64)}, "auth"), ({"ep": "fp:" + "0" * 64}, "auth"), ({"ep": "host:localhost"}, "auth"),
            ({"v": 2}, "version"),
        ):  # fmt: skip
            caller = await Caller.call(here.address)
            assert (await caller.refusal(caller.auth(own_keys(b), space, **changes))).code == code
        for frame in (Want(vv=[]), CtlGet(), Ping()):
            caller = await Caller.call(here.address)
            assert (await caller.refusal(frame)).code == "bad_frame"
        assert a.sync.peers.path() == "none"
        await counted(a, 4 + 3 + 3)  # another version is no attack


async def test_a_signature_of_another_connection_is_worth_nothing(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        space, keys = a.sync.identity.space, own_keys(b)
        first = await Caller.call(here.address)
        good = first.auth(keys, space)
        for address in (here.address, there.address):  # replayed to the same device, handed on to another one
            again = await Caller.call(address)
            assert (await again.refusal(good)).code == "auth"
        await first.channel.close()


async def test_a_removed_device_is_told_so_and_nothing_else(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        await remove(a, b)
        await a.write(Create("tasks", "after", {"title": "not for it"}))
        caller = await Caller.call(here.address)
        assert (await caller.refusal(caller.auth(own_keys(b), a.sync.identity.space))).code == "revoked"
        there.nearby.tell(here.address)  # the device itself, with all its old keys
        await until(lambda: there.device.sync.peers.lan.errors)
        here.nearby.tell(there.address)  # called by us it shows an old tag, and is refused when it has said who it is
        await until(lambda: here.device.sync.peers.lan.errors)
        assert "not belong" in str(*here.device.sync.peers.lan.errors.values())
        await asyncio.sleep(0.3)
        assert b.shown() == []
        assert len(b.space.records()) < len(a.space.records())
        await counted(a, 2)


async def test_a_device_that_is_removed_while_it_is_connected(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        here.nearby.tell(there.address)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")
        await remove(a, b)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "none")
        here.gateway.members_changed()
        await until(lambda: here.nearby.good == [])  # its address is not tried again
        await a.write(Create("tasks", "after", {"title": "not for it"}))
        await asyncio.sleep(0.5)
        assert b.shown() == []


async def test_a_device_that_missed_new_keys_gets_records_first(tmp_path: Path) -> None:
    """It shows an old tag only: control records pass, then both connect again and everything does."""
    async with two(tmp_path) as (a, b, here, there):
        for _ in range(3):
            await a.sync.add_records([_rotated(a)])
        await a.write(Create("tasks", "new", {"title": "under the newest key"}))
        here.nearby.tell(there.address)
        await until(lambda: a.shown() and a.shown() == b.shown())
        assert a.space.heads() == b.space.heads()


def _rotated(device: Device) -> bytes:
    return rotate(device.space._hand(device.clock()))


async def test_a_device_does_not_talk_to_itself(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, _, here, _):
        here.nearby.tell(here.address)
        await until(lambda: a.sync.peers.lan.errors)
        assert "itself" in str(*a.sync.peers.lan.errors.values())


async def test_somebody_in_the_middle_hears_nothing(tmp_path: Path) -> None:
    """It has a certificate of its own and hands on the device's challenge."""
    async with two(tmp_path) as (a, _, here, there):
        context, certificate = server_context(await make_certificate(), tmp_path)
        heard: list[bytes] = []

        async def hand_on(front: TlsChannel) -> None:
            if not challenges:  # called once more before it was forgotten
                return
            back = await Caller.call(there.address)
            front.trust()
            challenge = msgspec.structs.replace(back.challenge, ep=challenges.pop())
            try:
                await front.send(encode_frame(challenge))
                while True:
                    heard.append(await front.receive())
            except Offline:
                pass
            finally:
                await back.channel.close()

        challenges = [certificate_endpoint(certificate), there.place.endpoint]
        async with answering(hand_on, context) as address:
            for _ in range(2):  # as the device said it, and with the name of the other certificate
                left = len(challenges)
                here.nearby.tell(address)
                here.gateway.reconnect()
                await until(lambda left=left: len(challenges) < left and a.sync.peers.lan.errors)
                a.sync.peers.lan.errors.clear()
                here.nearby.tell()
            await asyncio.sleep(0.1)
        assert heard == []
        await counted(a, 1)


async def test_few_strangers_at_a_time(tmp_path: Path) -> None:
    async with two(tmp_path) as (_, _, here, _):
        callers = [await Caller.call(here.address) for _ in range(STRANGERS_PER_ADDRESS)]
        with pytest.raises((OSError, Offline)):
            await Caller.call(here.address)
        for caller in callers:
            await caller.channel.close()
        await until(lambda: not here.place._door._inside)
        await (await Caller.call(here.address)).channel.close()


@pytest.mark.parametrize("size", [2**32 - 1, 2**20 + 1, 16 * 1024 + 1])
async def test_long_frames_of_strangers(tmp_path: Path, size: int) -> None:
    async with two(tmp_path) as (_, _, here, _):
        caller = await Caller.call(here.address)
        caller.writer.write(size.to_bytes(4, "big"))
        answer = await caller.receive()
        assert isinstance(answer, Err)
        assert answer.code == "bad_frame"
        await caller.channel.close()


async def test_what_is_no_tls_or_an_old_one(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        loop = asyncio.get_running_loop()
        for said in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(200), b""):
            raw = socket.create_connection(here.address)
            raw.setblocking(False)
            await loop.sock_sendall(raw, said)
            raw.close()
        old = client_context()
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection(*here.address, ssl=old, server_hostname="")
        here.nearby.tell(there.address)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")


async def test_the_lower_device_keeps_its_connection(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        lower, higher = sorted((here, there), key=lambda direct: direct.device.sync.identity.device)
        higher.nearby.tell(lower.address)
        await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")
        assert [dialled for _, dialled in lower.gateway._held.values()] == [False]
        second = asyncio.create_task(
            lower.gateway.converse(higher.address, LanLink(lower.gateway, higher.address))
        )  # fmt: skip
        await until(lambda: [dialled for _, dialled in lower.gateway._held.values()] == [True])
        await until(lambda: [dialled for _, dialled in higher.gateway._held.values()] == [False])
        with pytest.raises(RemoteClosed, match="kept"):
            await higher.gateway.converse(lower.address, LanLink(higher.gateway, lower.address))
        await asyncio.sleep(0.1)
        assert not second.done()
        assert [dialled for _, dialled in lower.gateway._held.values()] == [True]
        await a.write(Create("tasks", "one", {"title": "milk"}))
        await until(lambda: a.shown() and a.shown() == b.shown())
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


async def test_a_link_that_was_replaced_while_it_greeted_takes_no_place(tmp_path: Path) -> None:
    """Both call at once. One call is greeted so slowly that the other one, which is kept, is done before it."""
    async with two(tmp_path) as (_, _, here, there):
        lower, higher = sorted((here, there), key=lambda direct: direct.device.sync.identity.device)
        way, is_settled, goes_on = Way(), asyncio.Event(), asyncio.Event()

        async def falls_behind() -> None:
            way.stop()  # nor does it hear that the other side has ended it
            is_settled.set()
            await goes_on.wait()

        higher.place.way, higher.nearby.takes = way, falls_behind
        higher.nearby.tell(lower.address)
        await asyncio.wait_for(is_settled.wait(), 30)
        (older, _), *_ = higher.gateway._held.values()
        lower.nearby.tell(higher.address)
        peers = higher.device.sync.peers
        await until(lambda: peers.directs())
        kept = peers.conversation()
        goes_on.set()
        await until(older.is_over.is_set)
        way.go_on()
        assert kept is not None is not older
        assert peers.conversation() is kept is next(held for held, _ in higher.gateway._held.values())
        await higher.device.write(Create("tasks", "one", {"title": "milk"}))
        await until(lambda: lower.device.shown())


async def test_one_link_stays_when_both_call(tmp_path: Path) -> None:
    async with two(tmp_path) as (a, b, here, there):
        for _ in range(3):
            here.nearby.tell(there.address)
            there.nearby.tell(here.address)
            await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")
            await asyncio.sleep(1.5)  # so long a device waits before it calls again
            await until(lambda: sorted(d for g in (here, there) for _, d in g.gateway._held.values()) == [False, True])
            await a.sync.trigger(full=True, timeout_s=30)
        await a.write(Create("tasks", "one", {"title": "milk"}))
        await until(lambda: a.shown() and a.shown() == b.shown())
