"""A conversation without sockets, on a real store and a clock that is set by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hybridgw_protocol.auth import sign_auth
from hybridgw_protocol.errors import BadFrame, DiskFull, RateLimited
from hybridgw_protocol.frames import (
    Auth,
    Batches,
    Challenge,
    Credit,
    Ctl,
    CtlGet,
    Err,
    Frame,
    PairJoin,
    Ping,
    Pong,
    Push,
    PushAck,
    Welcome,
    decode_frame,
    encode_frame,
)
from hybridgw_protocol.limits import (
    AUTH_TIMEOUT_S,
    CREDIT_START_BYTES,
    MAX_CONTROL_BYTES,
    MAX_RECORDS,
    PAIRING_TTL_MS,
    PING_DEADLINE_S,
)
from hybridgw_protocol.vectors import from_entries
from hybridgw_relay.core.quotas import DeviceLimits, DeviceRates
from hybridgw_relay.fanout.local import LocalFanout
from hybridgw_relay.services.admission import AdmissionService, invite_hash
from hybridgw_relay.services.batches import BatchService
from hybridgw_relay.services.conversation import CTL_FRAME_BYTES, Conversation, Services, split_records
from hybridgw_relay.services.gate import Gate, GateLimits
from hybridgw_relay.services.host import Host
from hybridgw_relay.services.janitor import Janitor
from hybridgw_relay.services.mailboxes import Mailboxes
from hybridgw_relay.services.spaces import Spaces
from hybridgw_relay.stores import admin
from hybridgw_relay.stores.sqlite import SqliteRelayStore
from hybridgw_storage.database import InlineDatabase
from tests.relay_client import Family, Keys, Writer

SECRET = b"s" * 32
NAME = "host:relay.example.com"


class Pipe:
    """An outlet that keeps what was sent; `is_congested` is set by hand."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: str | None = None
        self.is_congested = False
        self.room = asyncio.Event()

    def send(self, frames: Sequence[bytes]) -> None:
        self.sent.extend(frames)

    async def drained(self) -> None:
        await self.room.wait()

    def close(self, reason: str) -> None:
        self.closed = self.closed or reason

    def take(self) -> list[tuple[Frame, int]]:
        """Frames since the last call."""
        found = [decode_frame(data) for data in self.sent]
        self.sent.clear()
        return found


class World:
    """All services of a relay on one file, in this process."""

    def __init__(self, path: Path) -> None:
        self.now_ms = 10_000_000
        with admin.opened(path, stamp="x", must_exist=False) as database:
            database.write_now(
                lambda tx: admin.create_invite(
                    tx,
                    "tests",
                    invite_hash(SECRET),
                    now_ms=0,
                    expires_ms=2**50,
                    max_bytes=2**40,
                    max_devices=32,
                    default_bytes=1,
                    default_devices=1,
                )
            )

        async def work(fn):  # type: ignore[no-untyped-def]
            return fn()

        rng = random.Random(1)
        host = Host(lambda: self.now_ms, lambda: self.now_ms, rng.randbytes, work)
        self.store = SqliteRelayStore(InlineDatabase(path))
        fanout = LocalFanout()
        self.spaces = Spaces(self.store, fanout, host)
        self.batches = BatchService(self.store, fanout, host)
        self.mailboxes = Mailboxes(host)
        self.gate = Gate(host, GateLimits(failure_burst=5))
        self.services = Services(
            host, self.store, self.spaces, AdmissionService(self.store, self.spaces, host), self.batches,
            self.mailboxes, self.gate, DeviceRates(DeviceLimits()), lambda: frozenset({NAME}),
        )  # fmt: skip
        self.janitor = Janitor(self.store, self.spaces, self.mailboxes)
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self) -> tuple[Conversation, Pipe]:
        pipe = Pipe()
        conversation = Conversation(self.services, pipe, address="192.0.2.1")
        self.janitor.add(conversation)
        conversation.begin()
        return conversation, pipe

    async def admitted(
        self, family: Family, keys: Keys, *, sub: bool = True, run: bool = True
    ) -> tuple[Conversation, Pipe]:
        conversation, pipe = self.connect()
        await conversation.receive(encode_frame(auth(pipe, family, keys, sub=sub)))
        found = pipe.take()
        if found and isinstance(found[0][0], CtlGet):
            await conversation.receive(encode_frame(Ctl(recs=family.records)))
            found = pipe.take()
        assert isinstance(found[0][0], Welcome)
        if run:
            self.tasks += [asyncio.ensure_future(work) for work in conversation.works()]
        return conversation, pipe

    async def turn(self) -> None:
        """Let everything happen that can."""
        for _ in range(30):
            await asyncio.sleep(0)

    def start(self) -> None:
        self.tasks.append(asyncio.ensure_future(self.batches.run()))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.store.close()
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


def auth(pipe: Pipe, family: Family, keys: Keys, *, sub: bool = True) -> Auth:
    ((challenge, _),) = pipe.take()
    assert isinstance(challenge, Challenge)
    frame = Auth(
        v=1, sp=family.space, pk=keys.public + keys.exchange, nc=bytes(32), ep=NAME, sig=bytes(64), t=0, sub=sub,
        ctl=family.control.short_heads, enrol=SECRET,
    )  # fmt: skip
    frame.sig = sign_auth(challenge, frame, keys.secret)
    return frame


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "relay.db")
    yield made
    await made.stop()


@pytest.fixture
def family() -> Family:
    return Family(1)


def kinds(pipe: Pipe) -> list[str]:
    return [type(frame).__name__ for frame, _ in pipe.take()]


# ---- deadlines -------------------------------------------------------------------------------------------------------
async def test_sec_L22_no_auth_in_ten_seconds(world: World) -> None:
    conversation, pipe = world.connect()
    world.now_ms += int(AUTH_TIMEOUT_S * 1000)
    conversation.tick()
    assert pipe.closed is None
    world.now_ms += 1
    conversation.tick()
    assert pipe.closed == "auth"
    assert isinstance(pipe.take()[-1][0], Err)


async def test_a_joined_connection_lives_as_long_as_a_code(world: World, family: Family) -> None:
    existing, pipe = await world.admitted(family, family.first)
    nameplate = world.mailboxes.open_(existing, family.space).np
    new, new_pipe = world.connect()
    await new.receive(encode_frame(PairJoin(np=nameplate)))
    world.now_ms += PAIRING_TTL_MS - 1
    for conversation in (new, existing):
        await conversation.receive(encode_frame(Ping()))
    await world.janitor.tick()
    assert (new_pipe.closed, pipe.closed) == (None, None)
    world.now_ms += 1
    await world.janitor.tick()
    assert new_pipe.closed == "done"
    assert kinds(new_pipe)[-1] == "PairClose"
    assert pipe.closed is None


async def test_a_silent_device_is_pinged_and_then_given_up(world: World, family: Family) -> None:
    conversation, pipe = await world.admitted(family, family.first)
    await world.turn()
    pipe.take()
    for _ in range(3):  # as long as it answers it may stay
        world.now_ms += 25_000
        conversation.tick()
        assert kinds(pipe) == ["Ping"]
        world.now_ms += 7_000
        conversation.tick()
        await conversation.receive(encode_frame(Pong()))
        conversation.tick()
        assert kinds(pipe) == []
    world.now_ms += 25_000
    conversation.tick()
    world.now_ms += int(PING_DEADLINE_S * 1000) + 1
    conversation.tick()
    assert pipe.closed == "closed"
    assert kinds(pipe) == ["Ping", "Err"]


async def test_who_waits_for_nothing_may_not_stay_for_ever(world: World, family: Family) -> None:
    live, live_pipe = await world.admitted(family, family.first)
    idle, idle_pipe = await world.admitted(family, family.first, sub=False)
    for _ in range(13):
        world.now_ms += 24_000
        for conversation in (live, idle):
            await conversation.receive(encode_frame(Ping()))
            conversation.tick()
    assert (live_pipe.closed, idle_pipe.closed) == (None, "closed")


# ---- flow ------------------------------------------------------------------------------------------------------------
async def test_sec_R16_a_push_beyond_the_credit_ends_the_link(world: World, family: Family) -> None:
    """Nothing is stored meanwhile, so nothing is given back."""
    conversation, pipe = await world.admitted(family, family.first)
    writer = Writer(family, family.first)
    blobs = [writer.make(250_000) for _ in range(4)]
    size = len(encode_frame(Push(b=blobs), 1))
    for _ in range(CREDIT_START_BYTES // size + 1):
        await conversation.receive(encode_frame(Push(b=blobs), 1))
        assert pipe.closed is None
    await conversation.receive(encode_frame(Push(b=blobs), 1))
    assert pipe.closed == "bad_frame"
    assert "credit" in pipe.take()[-1][0].msg  # type: ignore[attr-defined]


async def test_batches_wait_for_credit_and_go_on(world: World, family: Family) -> None:
    world.start()
    writer = Writer(family, family.first)
    pusher, pusher_pipe = await world.admitted(family, family.first)
    for _ in range(24):
        await pusher.receive(encode_frame(Push(b=[writer.make(250_000)]), 1))
        await world.turn()
    assert "Err" not in kinds(pusher_pipe)
    reader, pipe = await world.admitted(family, family.first)
    await world.turn()
    frames = [frame for frame, _ in pipe.take() if isinstance(frame, Batches)]
    sent = sum(len(encode_frame(frame)) for frame in frames)
    assert CREDIT_START_BYTES <= sent < CREDIT_START_BYTES + 1024 * 1024
    assert all(frame.more for frame in frames)
    await world.turn()
    assert pipe.take() == []
    await reader.receive(encode_frame(Credit(n=sent)))
    await world.turn()
    frames += [frame for frame, _ in pipe.take() if isinstance(frame, Batches)]
    assert [blob for frame in frames for blob in frame.b] == writer.blobs
    assert not frames[-1].more


async def test_a_congested_socket_gets_no_more_batches_until_it_is_read(world: World, family: Family) -> None:
    world.start()
    writer = Writer(family, family.first)
    pusher, _ = await world.admitted(family, family.first)
    _, pipe = await world.admitted(family, family.first)
    await world.turn()
    pipe.take()
    pipe.is_congested = True
    for _ in range(3):
        await pusher.receive(encode_frame(Push(b=[writer.make()]), 1))
        await world.turn()
    assert kinds(pipe) == []
    pipe.is_congested = False
    pipe.room.set()
    await world.turn()
    frames = [frame for frame, _ in pipe.take() if isinstance(frame, Batches)]
    assert [blob for frame in frames for blob in frame.b] == writer.blobs


async def test_a_live_batch_is_passed_on_in_the_same_turn_as_its_ack(world: World, family: Family) -> None:
    world.start()
    pusher, pusher_pipe = await world.admitted(family, family.first)
    _, pipe = await world.admitted(family, family.first)
    await world.turn()
    pusher_pipe.take()
    pipe.take()
    writer = Writer(family, family.first)
    await pusher.receive(encode_frame(Push(b=[writer.make()]), 5))
    await world.turn()
    ((ack, request),) = pusher_pipe.take()
    assert isinstance(ack, PushAck)
    assert (request, from_entries(ack.vv)[writer.log].n) == (5, 1)
    ((batches, _),) = pipe.take()
    assert batches == Batches(b=writer.blobs, more=False)


async def test_many_pushes_share_a_commit(world: World, family: Family) -> None:
    pusher, pipe = await world.admitted(family, family.first)
    writer = Writer(family, family.first)
    for number in range(1, 101):
        await pusher.receive(encode_frame(Push(b=[writer.make()]), number))
    world.start()
    await world.turn()
    answers = [(frame, request) for frame, request in pipe.take() if isinstance(frame, PushAck)]
    assert [request for _, request in answers] == list(range(1, 101))
    assert world.batches.commits == 1


# ---- strangers -------------------------------------------------------------------------------------------------------
async def test_what_a_candidate_may_upload_is_bounded(world: World, family: Family) -> None:
    conversation, pipe = world.connect()
    await conversation.receive(encode_frame(auth(pipe, family, family.first)))
    assert kinds(pipe) == ["CtlGet"]
    for _ in range(MAX_CONTROL_BYTES // 500_000 + 1):
        await conversation.receive(encode_frame(Ctl(recs=[bytes(8_000)] * 62, more=True)))
    assert pipe.closed == "bad_frame"
    conversation, pipe = world.connect()
    await conversation.receive(encode_frame(auth(pipe, family, family.first)))
    for _ in range(2):
        await conversation.receive(encode_frame(Ctl(recs=[b""] * (MAX_RECORDS // 2 + 1), more=True)))
    assert pipe.closed == "bad_frame"


async def test_refused_connections_are_counted_and_given_back(world: World, family: Family) -> None:
    for _ in range(5):
        conversation, pipe = world.connect()
        await conversation.receive(b"junk")
        assert pipe.closed == "bad_frame"
        conversation.ended()
        conversation.ended()
    assert world.gate.count == 0
    with pytest.raises(RateLimited):
        world.connect()


async def test_nothing_is_handled_after_the_end(world: World, family: Family) -> None:
    world.start()
    conversation, pipe = await world.admitted(family, family.first)
    await world.turn()
    conversation.fail(BadFrame("enough"))
    pipe.take()
    await conversation.receive(encode_frame(Push(b=[Writer(family, family.first).make()]), 1))
    conversation.wake()
    conversation.tell_control(family.records)
    conversation.fail(DiskFull("later"))
    await world.turn()
    assert pipe.take() == []
    assert pipe.closed == "bad_frame"
    conversation.ended()
    assert world.spaces.in_use() == [] or not world.spaces.in_use()[0].members


async def test_our_own_trouble_is_told_as_busy(world: World, family: Family) -> None:
    conversation, pipe = await world.admitted(family, family.first)
    pipe.take()
    conversation.fail(DiskFull("No space left for /srv/relay.db"))
    ((frame, request),) = pipe.take()
    assert isinstance(frame, Err)
    assert (frame.code, frame.retry > 0, request) == ("busy", True, 0)
    assert "/srv" not in frame.msg


def test_records_are_split_into_frames() -> None:
    assert list(split_records([])) == [[]]
    parts = list(split_records([bytes(100_000)] * 5))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert all(sum(map(len, part)) <= CTL_FRAME_BYTES for part in parts)
