"""The pump of messages beside a conversation: puts what is due, hands on what comes. Frames only.

A few frames are under way at a time, so an urgent message waits for no more than these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hybridgw_protocol.frames import Frame, Msg, MsgDone, MsgPut, MsgStored
from hybridgw_protocol.limits import TOMBSTONE_BYTES
from hybridgw_protocol.messages import MessageState, Priority, Turns

from ...services.mail import MailService, Parcel

FLYING: Final = 4  # frames that are not answered
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
        self._told_ids: set[bytes] = set()  # receipts of these parcels
        self._kept: list[bytes] = []
        self._woken = asyncio.Event()
        self._woken.set()

    def wake(self) -> None:
        """There may be something to put, or a key that was missing."""
        if self._round != self._mail.round:
            self._round, self._after = self._mail.round, dict.fromkeys(Priority, 0)
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. Raises: HybridGWError kinds: the connection, or the database."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._kept:
                kept, self._kept = self._kept, []
                await self._take(
                    [blob for blob in kept if len(blob) != TOMBSTONE_BYTES],
                    [blob for blob in kept if len(blob) == TOMBSTONE_BYTES],
                )
            if (here := self._mail.compose_presence(self._told_here, self._only)) is not None:
                self._told_here = here[0]
                await self._ask(here[1].frame)
            while len(self._flying) < FLYING:
                parcel = self._mail.compose(self._turns, self._after, self._put, self._told_ids, self._only)
                if parcel is None:
                    break
                self._put.update((d.rid, d.recipient) for d in parcel.deliveries.values())
                self._told_ids.update(r.id for those in parcel.receipts.values() for r in those)
                self._flying[await self._ask(parcel.frame)] = parcel
                await asyncio.sleep(0)

    async def received(self, frame: MsgStored | Msg | MsgPut, request: int) -> None:
        """A frame of messages. Raises: RemoteError kinds: the other side breaks the protocol."""
        match frame:
            case MsgStored():
                parcel = self._flying.pop(request, None)
                if parcel is not None:
                    await self._mail.put(parcel, frame, self._told)
                    # Only now: until this was written they look as if they were to be put.
                    self._put.difference_update((d.rid, d.recipient) for d in parcel.deliveries.values())
                    self._told_ids.difference_update(r.id for those in parcel.receipts.values() for r in those)
                    self._woken.set()
            case Msg(m=envelopes, x=tombstones):
                await self._take(envelopes, tombstones)
            case MsgPut(m=envelopes, x=tombstones):
                taken = await self._mail.take(envelopes, tombstones)
                own = [self._recipient_key(blob) for blob in (*envelopes, *tombstones) if blob not in taken.kept]
                await self._send(MsgStored(ids=own), request)

    async def _take(self, envelopes: list[bytes], tombstones: list[bytes]) -> None:
        taken = await self._mail.take(envelopes, tombstones)
        self._kept = (self._kept + taken.kept)[-MOST_KEPT:]
        if taken.done:
            await self._send(MsgDone(ids=taken.done), 0)

    @staticmethod
    def _recipient_key(blob: bytes) -> bytes:
        return blob[50:66] + blob[18:34]
