"""Messages that wait for a device: kept when one puts them, sent when the other is here, forgotten when it has them.

What is kept is sealed; the relay reads the header. Signatures are checked by who receives. Source: protocol/SPEC.md,
"Messages" and "Relay".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hybridgw_protocol.envelope import Envelope, parse_envelope, parse_tombstone
from hybridgw_protocol.errors import BadFrame
from hybridgw_protocol.frames import Msg, MsgPut, MsgStored
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.messages import Priority, Turns

from ..fanout.base import Fanout, News
from ..stores.base import MailRow, RelayStore
from .host import Host
from .spaces import Space

WINDOW: Final = 256  # sent and not done
WINDOW_BYTES: Final = 1024 * 1024
RESERVED: Final = 32  # of both, one in eight: for urgent ones
FRAME_BYTES: Final = 64 * 1024  # of one frame, and one envelope more


class MailService:
    """One per process."""

    def __init__(self, store: RelayStore, fanout: Fanout, host: Host) -> None:
        self._store, self._fanout, self._host = store, fanout, host
        self.stored = 0

    async def put(self, space: Space, device: DeviceId, frame: MsgPut) -> MsgStored:
        """Keep what a device puts; durable when it returns. Raises: BadFrame: it is not its own to put."""
        now_ms = self._host.wall_ms()
        envelopes = [*map(parse_envelope, frame.m), *map(parse_tombstone, frame.x)]
        answer = MsgStored(ids=[], no=[], why=[])
        kept: list[Envelope] = []
        for envelope in envelopes:
            header = envelope.header
            if header.space != space.id or header.sender != device:
                raise BadFrame("A message of another space or device was put.")
            if space.is_active(header.recipient):
                if header.is_presence:  # for who is connected now; nobody else wants to know
                    answer.ids.append(header.recipient_key)
                    if envelope.ciphertext is not None:
                        for member in tuple(space.members):
                            if member.device == header.recipient:
                                member.pass_on(Msg(m=[envelope.blob], x=[]))
                    continue
                kept.append(envelope)
            else:
                answer.no.append(header.recipient_key)
                answer.why.append("revoked")
        rows = [
            MailRow(
                e.header.recipient, e.header.sender, e.header.id, e.header.priority, e.header.expires_ms, e.tombstone,
                None if e.header.expires_ms <= now_ms else e.ciphertext,
            )
            for e in kept
        ]  # fmt: skip
        taken = await self._store.put_mail(space.sid, rows, now_ms) if rows else []
        for envelope, is_taken in zip(kept, taken, strict=True):
            if is_taken:
                answer.ids.append(envelope.header.recipient_key)
            else:
                answer.no.append(envelope.header.recipient_key)
                answer.why.append("quota")
        if any(taken):
            self.stored += sum(taken)
            self._fanout.publish(space.id, News.MAIL)
        return answer


class MailStream:
    """What waits for one connection's device: sent the most urgent first, in a window."""

    def __init__(self, store: RelayStore, space: Space, device: DeviceId, send: Callable[[Msg], None]) -> None:
        """Args: send: queues a frame; the window bounds how much waits there."""
        self._store, self._space, self._device, self._send = store, space, device, send
        self._after = dict.fromkeys(Priority, 0)
        self._turns = Turns()
        self._sent: dict[bytes, int] = {}  # sender and id -> bytes
        self._bytes = 0
        self._done: list[bytes] = []  # the device has them, and they are not forgotten yet
        self._told = asyncio.Event()
        self._woken = asyncio.Event()
        self._woken.set()

    def wake(self) -> None:
        """There may be new ones."""
        self._woken.set()

    def done(self, keys: Sequence[bytes]) -> None:
        """The device has them: there is room for others."""
        for key in keys:
            if (size := self._sent.pop(key, None)) is not None:  # else it was not sent, or it is said twice
                self._bytes -= size
                self._done.append(key)
        self._told.set()
        self._woken.set()

    async def forget(self) -> None:
        """Forget what the device has; until cancelled. A task beside `run`, for nobody waits for it: a message that is
        forgotten too late is sent twice at worst."""
        while True:
            await self._told.wait()
            self._told.clear()
            done, self._done = self._done, []
            await self._store.done_mail(self._space.sid, self._device, done)

    async def run(self) -> None:
        """Send; until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._send_some():
                self._woken.set()
                await asyncio.sleep(0)  # others get their turn

    def _send_some(self) -> bool:
        """One frame. Returns whether there may be another."""
        queues: dict[Priority, list[MailRow]] = {}
        places: dict[Priority, list[int]] = {}
        for priority in self._store.mail_waits(self._space.sid, self._device, self._after):
            if self._has_room(priority):
                found = self._store.mail(self._space.sid, self._device, priority, self._after[priority], FRAME_BYTES)
                if found:
                    queues[priority] = [row for _, row in found]
                    places[priority] = [rid for rid, _ in found]
        if not queues:
            return False
        priority = self._turns.pick(queues)
        frame = Msg(m=[], x=[])
        for rid, row in zip(places[priority], queues[priority], strict=True):
            if not self._has_room(priority):
                break
            self._after[priority] = rid
            blob = row.head if row.body is None else row.envelope
            (frame.x if row.body is None else frame.m).append(blob)
            self._sent[row.sender + row.id] = len(blob)
            self._bytes += len(blob)
        if not frame.m and not frame.x:
            return False
        self._send(frame)
        return True

    def _has_room(self, priority: Priority) -> bool:
        share = 1 if priority is Priority.URGENT else 1 - RESERVED / WINDOW
        return len(self._sent) < WINDOW * share and self._bytes < WINDOW_BYTES * share
