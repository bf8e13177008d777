"""The pump of messages beside a conversation: puts what is due, hands on what comes. Frames only.

A few frames are under way at a time, so an urgent message waits for no more than these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from hybridgw_protocol.frames import Frame, Msg, MsgDone, MsgPut, MsgStored
from hybridgw_protocol.limits import TOMBSTONE_BYTES
from hybridgw_protocol.messages import MessageState, Priority, Turns

from ...services.mail import MailService, Parcel

FLYING: Final = 2  # frames that are not answered: one is made while the other is on its way
FRAME_COST: Final = 64  # bytes that a frame counts for beside what is in it
CAME_BYTES: Final = 256 * 1024  # came and not written; beyond, the connection is not read from
PRESENCE_S: Final = 1.0  # after the beginning of a connection: what is in step is in step first
REFUSED_S: Final = 60.0  # receipts for a device whose mailbox is full wait so long
MOST_KEPT: Final = 256  # messages whose key is not here yet; the relay keeps them too


class MailPump:
    """One per conversation. `run` is a task of it; `received` is called for each frame of messages."""

    def __init__(self, mail: MailService, ask: Callable[[Frame], Awaitable[int]],
                 send: Callable[[Frame, int], Awaitable[None]], *, only: bytes | None = None) -> None:  # fmt: skip
        """Args: ask: sends under a new id, which it returns; send: sends under a given one; only: the device at the
        other end, None: a relay."""
        self._mail, self._ask, self._send = mail, ask, send
        self._told = MessageState.STORED if only is None else MessageState.HANDED
        self._only = only
        self._turns = Turns()
        self._after = dict.fromkeys(Priority, 0)
        self._round = mail.round
        self._told_here = 0  # version of who is here that was told
        self._flying: dict[int, Parcel] = {}
        self._put: set[tuple[int, bytes]] = set()  # deliveries of these parcels
        self._is_telling = False  # what is to be told meanwhile goes together: such a frame is six commits on its way
        self._full: dict[bytes, float] = {}  # devices whose receipts were refused: until when they get none
        self._kept: list[bytes] = []
        self._came: list[tuple[MsgStored | Msg | MsgPut, int]] = []
        self._came_bytes = 0
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._woken = asyncio.Event()
        self._woken.set()

    def wake(self) -> None:
        """There may be something to put, or a key that was missing."""
        if self._round != self._mail.round:
            self._round, self._after = self._mail.round, dict.fromkeys(Priority, 0)
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. Raises: HybridGWError kinds: the connection, the database, or what the other side sent."""
        pumps = [asyncio.create_task(self._put_all(), name="pump_mail_out"),
                 asyncio.create_task(self._take_all(), name="pump_mail_in")]  # fmt: skip
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def received(self, frame: MsgStored | Msg | MsgPut, request: int) -> None:
        """A frame of messages: `run` deals with it, with all that came meanwhile. Waits while that is much."""
        self._came.append((frame, request))
        self._came_bytes += FRAME_COST + sum(
            map(len, frame.ids if isinstance(frame, MsgStored) else (*frame.m, *frame.x))
        )
        self._arrived.set()
        while self._came_bytes >= CAME_BYTES:
            self._room.clear()
            await self._room.wait()

    # ---- out -------------------------------------------------------------------------------------------------------
    async def _put_all(self) -> None:
        loop = asyncio.get_running_loop()
        presence_s = loop.time() + PRESENCE_S
        loop.call_at(presence_s, self._woken.set)
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._kept:
                kept, self._kept = self._kept, []
                again = Msg(
                    m=[blob for blob in kept if len(blob) != TOMBSTONE_BYTES],
                    x=[blob for blob in kept if len(blob) == TOMBSTONE_BYTES],
                )
                self._came.append((again, 0))
                self._arrived.set()
            here = None
            if loop.time() >= presence_s:
                here = self._mail.compose_presence(self._told_here, self._only)
            if here is not None:
                self._told_here = here[0]
                await self._ask(here[1].frame)
            while len(self._flying) < FLYING:
                parcel = self._mail.compose(
                    self._turns, self._after, self._put, self._only, tells=not self._is_telling, full=self._full_now()
                )
                if parcel is None:
                    break
                self._is_telling = self._is_telling or bool(parcel.receipts)
                self._put.update((d.rid, d.recipient) for d in parcel.deliveries.values())
                self._flying[await self._ask(parcel.frame)] = parcel
                await asyncio.sleep(0)

    def _full_now(self) -> Collection[bytes]:
        now_s = asyncio.get_running_loop().time()
        self._full = {device: until_s for device, until_s in self._full.items() if until_s > now_s}
        return self._full

    # ---- in --------------------------------------------------------------------------------------------------------
    async def _take_all(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            came, self._came, self._came_bytes = self._came, [], 0
            self._room.set()
            # At once, so that it shares a commit. What was answered first: it moves on sooner.
            await asyncio.gather(
                *[self._answered(frame, request) for frame, request in came if isinstance(frame, MsgStored)],
                self._take([frame for frame, _ in came if isinstance(frame, Msg)]),
                self._take_directly([(frame, request) for frame, request in came if isinstance(frame, MsgPut)]),
            )

    async def _answered(self, frame: MsgStored, request: int) -> None:
        parcel = self._flying.pop(request, None)
        if parcel is not None:
            await self._mail.put(parcel, frame, self._told)
            # Only now: until this was written they look as if they were to be put.
            self._put.difference_update((d.rid, d.recipient) for d in parcel.deliveries.values())
            if parcel.receipts:
                self._is_telling = False
            if refused := parcel.receipts.keys() & set(frame.no):  # those rest: else they were put again at once
                loop = asyncio.get_running_loop()
                self._full.update((key[:16], loop.time() + REFUSED_S) for key in refused)
                loop.call_later(REFUSED_S, self._woken.set)
            self._woken.set()

    async def _take(self, frames: list[Msg]) -> None:
        """What a relay had for this device."""
        if not frames:
            return
        taken = await self._mail.take([blob for f in frames for blob in f.m], [blob for f in frames for blob in f.x])
        self._kept = (self._kept + taken.kept)[-MOST_KEPT:]
        if taken.done:
            await self._send(MsgDone(ids=taken.done), 0)

    async def _take_directly(self, frames: list[tuple[MsgPut, int]]) -> None:
        """What the device at the other end has for this one."""
        if not frames:
            return
        taken = await self._mail.take(
            [blob for frame, _ in frames for blob in frame.m], [blob for frame, _ in frames for blob in frame.x]
        )
        for frame, request in frames:
            own = [self._recipient_key(blob) for blob in (*frame.m, *frame.x) if blob not in taken.kept]
            await self._send(MsgStored(ids=own), request)

    @staticmethod
    def _recipient_key(blob: bytes) -> bytes:
        return blob[50:66] + blob[18:34]
