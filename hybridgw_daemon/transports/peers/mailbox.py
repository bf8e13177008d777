"""A pairing mailbox over frames: messages between two devices that do not know each other yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hybridgw_protocol.errors import PairingFailed
from hybridgw_protocol.frames import Frame, PairClose, PairMsg, PairOpened


class FrameMailbox:
    """One side of a mailbox."""

    def __init__(self, send: Callable[[Frame], Awaitable[None]]) -> None:
        self._send = send
        self._messages: asyncio.Queue[bytes | str] = asyncio.Queue(64)
        self._ready = asyncio.Event()
        self.nameplate = -1
        self.is_closed = False

    async def opened(self) -> None:
        """Wait for the nameplate. Raises: PairingFailed."""
        await self._ready.wait()
        if self.is_closed:
            await self.receive()  # raises, with the relay's reason

    def received(self, frame: Frame) -> None:
        """A frame for this mailbox arrived."""
        match frame:
            case PairOpened(np=np):
                self.nameplate = np
                self._ready.set()
            case PairMsg(m=message):
                if self._messages.full():
                    self.closed("flooded")
                else:
                    self._messages.put_nowait(message)
            case PairClose(why=why):
                self.closed(why)
            case _:
                pass

    def closed(self, why: str) -> None:
        """The mailbox is gone."""
        if not self.is_closed:
            self.is_closed = True
            self._ready.set()
            if self._messages.full():
                self._messages.get_nowait()
            self._messages.put_nowait(why)

    async def send(self, message: bytes) -> None:
        """To the other side. Raises: PairingFailed: closed."""
        if self.is_closed:
            raise PairingFailed("The pairing ended.")
        await self._send(PairMsg(m=message))

    async def receive(self) -> bytes:
        """From the other side. Raises: PairingFailed: closed, with the reason."""
        message = await self._messages.get()
        if isinstance(message, str):
            raise PairingFailed(CLOSED_BECAUSE.get(message, f"The pairing ended: {message}."), why=message)
        return message

    async def close(self, why: str) -> None:
        """Give the nameplate back."""
        if not self.is_closed:
            self.closed(why)
            await self._send(PairClose(why=why))


CLOSED_BECAUSE: Final = {
    "expired": "The code is older than ten minutes; ask for a new one.",
    "gone": "The connection to the relay broke; ask for a new code.",
    "abort": "The other device ended the pairing: wrong code, or its person said no.",
    "joined": "Somebody else used this code; ask for a new one.",
}
