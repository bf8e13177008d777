"""Taking batches in: pushes of all connections, checked and stored together, one commit for many.

While one commit is under way the next group gathers, so a lone push waits for nothing and a flood is amortised.
Signatures are most of the work, and libsodium does it outside the interpreter lock: those of a group that has to wait
for a commit are checked beside it, those of a lone push in its own commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from hybridgw_protocol.batch import Batch
from hybridgw_protocol.errors import Busy, Fork, HybridGWError
from hybridgw_protocol.ids import DeviceId

from ..core.intake import read_batches
from ..fanout.base import Fanout, News
from ..stores.base import Append, Appended, RelayStore
from .host import Host, Worker
from .spaces import Space

log = logging.getLogger(__name__)

GROUP_BATCHES: Final = 512  # in one commit
GROUP_BYTES: Final = 8 * 1024 * 1024
WAITING_BYTES: Final = 64 * 1024 * 1024  # taken from sockets and not stored yet, over all connections
DISK_RETRY_MS: Final = 30_000


@dataclass(slots=True)
class Push:
    """One push frame. done: called on the event loop once it is durable or refused."""

    space: Space
    device: DeviceId
    blobs: Sequence[bytes]
    size_bytes: int
    done: Callable[[Appended], None]
    is_answered: bool = False
    _checked: tuple[list[Batch], HybridGWError | None] | None = None

    def read(self) -> tuple[list[Batch], HybridGWError | None]:
        """Parsed and checked, once; slow, for any thread. See core/intake.py."""
        if self._checked is None:
            self._checked = read_batches(self.blobs, self.space.id, self.space.sign_keys)
        return self._checked

    def append(self) -> Append:
        """The same for the store."""
        return Append(self.space.sid, self.space.aid, self.device, self.read, self.space.known_closes)

    def answer(self, result: Appended) -> None:
        """Tell the outcome, once."""
        if not self.is_answered:
            self.is_answered = True
            self.done(result)


def _read(group: Sequence[Push]) -> None:
    for push in group:
        push.read()


class BatchService:
    """One per process; `run` is its task."""

    def __init__(
        self, store: RelayStore, fanout: Fanout, host: Host, *, check: Worker | None = None,
        committed: Callable[[float], None] = lambda _seconds: None,
    ) -> None:  # fmt: skip
        """Args: check: runs the checks of signatures off the event loop; without it, the host's worker; committed:
        told how many seconds each group took."""
        self._store, self._fanout, self._host, self._committed = store, fanout, host, committed
        self._check = check or host.work
        self._waiting: deque[Push] = deque()
        self._groups: asyncio.Queue[list[Push]] = asyncio.Queue(1)  # the next one, while one is being stored
        self._is_storing = False
        self._waiting_bytes = 0
        self._queued_pushes = 0  # waiting, or under way
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._disk_full_told = False
        self.stored_batches = 0
        self.stored_bytes = 0
        self.commits = 0
        self.refused: Counter[str] = Counter()  # pushes, by code

    @property
    def waiting_bytes(self) -> int:
        """Queued and not stored yet."""
        return self._waiting_bytes

    async def submit(self, push: Push) -> None:
        """Queue a push; pushes of one connection are stored in the order they were submitted.

        Waits while too much is queued: the caller stops reading its socket meanwhile.
        """
        await self._has_room.wait()
        self._waiting.append(push)
        self._queued_pushes += 1
        self._waiting_bytes += push.size_bytes
        if self._waiting_bytes > WAITING_BYTES:
            self._has_room.clear()
        self._idle.clear()
        self._filled.set()

    async def settled(self) -> None:
        """Wait until nothing is queued or under way."""
        await self._idle.wait()

    async def run(self) -> None:
        """Store groups, one after the other, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gather(), name="gather-pushes")
            tasks.create_task(self._store_groups(), name="store-pushes")

    async def _gather(self) -> None:
        while True:
            await self._filled.wait()
            group = self._take_group()
            if not self._waiting:
                self._filled.clear()
            if self._is_storing:
                with contextlib.suppress(Exception):  # whatever it is, it comes again, and is told, when it is stored
                    await self._check(partial(_read, group))
            await self._groups.put(group)

    async def _store_groups(self) -> None:
        while True:
            group = await self._groups.get()
            self._is_storing = True
            try:
                await self._store_group(group)
            except Exception:  # one group must not end the service for all
                log.exception("a group of %d pushes failed", len(group))
                for push in group:
                    push.space.tail.clear()
                    push.answer(Appended(error=Busy("The relay failed; it was logged.", retry_ms=DISK_RETRY_MS)))
            self._is_storing = False
            self._queued_pushes -= len(group)
            if not self._queued_pushes:
                self._idle.set()
            self._waiting_bytes -= sum(push.size_bytes for push in group)
            if self._waiting_bytes <= WAITING_BYTES:
                self._has_room.set()

    def _take_group(self) -> list[Push]:
        group: list[Push] = []
        count = size = 0
        while self._waiting and (not group or (count < GROUP_BATCHES and size < GROUP_BYTES)):
            push = self._waiting.popleft()
            group.append(push)
            count += len(push.blobs)
            size += push.size_bytes
        return group

    async def _store_group(self, group: list[Push]) -> None:
        started = time.perf_counter()
        try:
            results = await self._store.append([push.append() for push in group], self._host.wall_ms())
            self._disk_full_told = False
        except HybridGWError as error:
            if not self._disk_full_told:
                log.error("storing failed code=%s pushes=%d: %s", error.code, len(group), error.message)
                self._disk_full_told = True
            refusal = Busy("The relay cannot store anything now; its operator was told.", retry_ms=DISK_RETRY_MS)
            results = [Appended(error=refusal) for _ in group]
        self.commits += 1
        self._committed(time.perf_counter() - started)
        changed: dict[Space, None] = {}
        rewritten: set[Space] = set()
        for push, result in zip(group, results, strict=True):
            if isinstance(result.error, Fork) or (result.error and "logs" in result.error.detail):
                result = await self._try_closed(push, result)
                rewritten.add(push.space)
            if result.gave_way:
                push.space.take_back(result.gave_way)
            if result.stored:
                self.stored_batches += len(result.stored)
                self.stored_bytes += sum(len(batch.blob) for batch in result.stored)
                push.space.tail.add(result.after_rid, result.stored)
                changed[push.space] = None
            if result.error is not None:
                self.refused[result.error.code] += 1
            push.answer(result)
        for space in rewritten:
            space.tail.clear()
        for space in changed:
            self._fanout.publish(space.id, News.BATCHES)

    async def _try_closed(self, push: Push, result: Appended) -> Appended:
        """A fork, or too many open logs, may be settled by control records that close logs: look, and try once more."""
        before = dict(push.space.known_closes)
        try:
            if await push.space.closes() != before:
                (again,) = await self._store.append([push.append()], self._host.wall_ms())
                again.stored = result.stored + again.stored
                again.gave_way = result.gave_way | again.gave_way
                result = again
        except HybridGWError as error:
            log.warning("closes of space=%s cannot be read: %s", push.space.id.hex(), error.message)
        if isinstance(result.error, Fork):
            log.warning(
                "fork space=%s log=%s device=%s: %s",
                push.space.id.hex(), result.error.detail.get("log"), push.device.hex(), result.error.message,
            )  # fmt: skip
        return result
