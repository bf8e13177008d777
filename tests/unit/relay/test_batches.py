"""Taking pushes in: groups, order, room, and what happens when the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from hybridgw_protocol.errors import Busy, DiskFull
from hybridgw_relay.fanout.base import News
from hybridgw_relay.fanout.local import LocalFanout
from hybridgw_relay.services.batches import GROUP_BATCHES, WAITING_BYTES, BatchService, Push
from hybridgw_relay.services.host import Host
from hybridgw_relay.services.spaces import Space
from hybridgw_relay.stores.base import Append, Appended, DeviceRow, SpaceRow, Stored
from tests.relay_client import Family, Writer


class Store:
    """A store that notes groups, and fails when told to."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.rid = 0

    async def append(self, pushes: Sequence[Append], now_ms: int) -> list[Appended]:
        await self.gate.wait()
        if self.failure:
            raise self.failure
        self.groups.append(len(pushes))
        results = []
        for push in pushes:
            batches, error = push.read()
            result = Appended(error=error, after_rid=self.rid)
            for batch in batches:
                self.rid += 1
                result.stored.append(Stored(self.rid, batch.log, batch.n, batch.blob))
            results.append(result)
        return results


class World:
    """A service over that store, with one space."""

    def __init__(self) -> None:
        self.family = Family(1)
        self.writer = Writer(self.family, self.family.first)
        self.store = Store()
        self.fanout = LocalFanout()

        self.checks = 0

        async def work(fn):  # type: ignore[no-untyped-def]
            return fn()

        async def check(fn):  # type: ignore[no-untyped-def]
            self.checks += 1
            return fn()

        host = Host(lambda: 1, lambda: 1, bytes, work)
        row = SpaceRow(1, self.family.space, 1, (), {self.family.first.id: DeviceRow(self.family.first.public, True)})
        self.space = Space(row, self.store, host)  # type: ignore[arg-type]
        self.service = BatchService(self.store, self.fanout, host, check=check)  # type: ignore[arg-type]
        self.answers: list[tuple[int, Appended]] = []
        self.news: list[News] = []
        self.fanout.subscribe(self.space.id, self.news.append)

    async def submit(self, number: int, blobs: list[bytes], size: int = 450) -> None:
        done = partial(lambda number, result: self.answers.append((number, result)), number)
        await self.service.submit(Push(self.space, self.family.first.id, blobs, size, done))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.service.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_goes_together_and_is_answered_in_order() -> None:
    world = World()
    world.store.gate.clear()
    async with world.running():
        await world.submit(0, [world.writer.make()])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(1, 11):
            await world.submit(number, [world.writer.make()])
        world.store.gate.set()
        await world.service.settled()
    assert world.store.groups == [1, 10]
    assert [number for number, _ in world.answers] == list(range(11))
    assert world.news == [News.BATCHES] * 2
    assert (world.service.stored_batches, world.service.commits) == (11, 2)


async def test_a_group_is_bounded() -> None:
    world = World()
    for number in range(5):
        await world.submit(number, world.writer.make_many(GROUP_BATCHES // 2))
    async with world.running():
        await world.service.settled()
    assert world.store.groups == [2, 2, 1]


async def test_who_pushes_waits_while_too_much_is_queued() -> None:
    world = World()
    world.store.gate.clear()
    async with world.running():
        await world.submit(0, [], WAITING_BYTES)
        await world.submit(1, [], 10)
        waiting = asyncio.ensure_future(world.submit(2, [], 10))
        for _ in range(10):  # one is being stored, the other checked and next: both are in memory still
            await asyncio.sleep(0)
        assert not waiting.done()
        world.store.gate.set()
        await waiting
        await world.service.settled()
    assert [number for number, _ in world.answers] == [0, 1, 2]


async def test_what_waits_for_a_commit_is_checked_beside_it_and_only_once() -> None:
    world = World()
    world.store.gate.clear()
    async with world.running():
        await world.submit(0, [world.writer.make()])
        for _ in range(4):
            await asyncio.sleep(0)
        assert world.checks == 0  # a lone push is checked in its own commit
        await world.submit(1, [world.writer.make()])
        for _ in range(4):
            await asyncio.sleep(0)
        assert world.checks == 1
        world.store.gate.set()
        await world.service.settled()
    assert [len(result.stored) for _, result in world.answers] == [1, 1]


async def test_a_full_disk_and_a_fault_are_told_to_everybody_and_end_nothing() -> None:
    world = World()
    async with world.running():
        for failure in (DiskFull("No space left"), RuntimeError("a bug")):
            world.store.failure = failure
            blob = world.writer.make()
            await world.submit(1, [blob])
            await world.submit(2, [blob])
            await world.service.settled()
            errors = [result.error for _, result in world.answers]
            assert len(errors) == 2
            assert all(isinstance(error, Busy) and error.detail["retry_ms"] for error in errors)
            world.answers.clear()
            world.store.failure = None
            await world.submit(3, [blob])
            await world.service.settled()
            ((_, result),) = world.answers
            assert (result.error, len(result.stored)) == (None, 1)
            world.answers.clear()
