"""A pairing mailbox over frames: messages between two devices that do not know each other yet.

`FrameMailbox` is the side of a device that shows a code, at a relay; `Desk` the same where the code is entered at this
very device; `JoinMailbox` the side of the device on which it is typed, either way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from hybridgw_protocol.auth import choose_version
from hybridgw_protocol.errors import AuthFailed, BadFrame, HybridGWError, Offline, PairingFailed
from hybridgw_protocol.frames import Challenge, Err, Frame, PairClose, PairJoin, PairJoined, PairMsg, PairOpened
from hybridgw_protocol.limits import AUTH_TIMEOUT_S
from hybridgw_protocol.link import Role

from ...services.gateway import Channel
from .line import Line

log = logging.getLogger(__name__)


class FrameMailbox:
    """One side of a mailbox."""

    def __init__(self, send: Callable[[Frame], Awaitable[None]]) -> None:
        self._send = send
        self._messages: asyncio.Queue[bytes | str] = asyncio.Queue(64)
        self._ready = asyncio.Event()
        self.over = asyncio.Event()
        self.nameplate = -1

    @property
    def is_closed(self) -> bool:
        """Is the mailbox gone."""
        return self.over.is_set()

    def goes_over(self, send: Callable[[Frame], Awaitable[None]]) -> None:
        """From now on frames go there."""
        self._send = send

    async def opened(self) -> None:
        """Wait for the nameplate. Raises: PairingFailed."""
        await self._ready.wait()
        if self.is_closed:
            await self.receive()  # raises, with the relay's reason

    def received(self, frame: Frame) -> None:
        """A frame for this mailbox arrived; before it has a nameplate, one for the mailbox before it on this line."""
        if self.nameplate < 0 and not isinstance(frame, PairOpened):
            return  # that one is over, and a relay that opens no other says so in an error
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
            self._ready.set()
            if self._messages.full():
                self._messages.get_nowait()
            self._messages.put_nowait(why)
            self.over.set()

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
            try:
                await self._send(PairClose(why=why))
            finally:
                self.closed(why)


CLOSED_BECAUSE: Final = {
    "expired": "The code is older than ten minutes; ask for a new one.",
    "gone": "The connection to the other device broke; ask for a new code.",
    "abort": "The other device ended the pairing: wrong code, or its person said no.",
    "joined": "Somebody else used this code; ask for a new one.",
}


class Desk:
    """Where a code that is shown here is entered directly: one at a time, by one device."""

    def __init__(self) -> None:
        self._mailbox: FrameMailbox | None = None
        self._is_taken = False

    def open_(self, nameplate: int) -> FrameMailbox:
        """A mailbox with this nameplate; whatever was open is given up."""
        if self._mailbox is not None:
            self._mailbox.closed("gone")
        self._mailbox, self._is_taken = FrameMailbox(self._nobody), False
        self._mailbox.nameplate = nameplate
        return self._mailbox

    async def _nobody(self, frame: Frame) -> None:
        """Nobody has come yet."""

    async def meet(self, line: Line, nameplate: int) -> None:
        """Somebody enters a code; until the mailbox or the connection is closed. Raises: PairingFailed, Offline."""
        mailbox = self._mailbox
        if mailbox is None or mailbox.is_closed or mailbox.nameplate != nameplate or self._is_taken:
            raise PairingFailed("No such code is shown here, or it was used already.")
        self._is_taken = True
        mailbox.goes_over(line.send)
        await line.send(PairJoined())
        reading = asyncio.create_task(self._read(line, mailbox))
        closing = asyncio.create_task(mailbox.over.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, closing):
                task.cancel()
            await asyncio.gather(reading, closing, return_exceptions=True)
            mailbox.closed("gone")

    async def _read(self, line: Line, mailbox: FrameMailbox) -> None:
        while not mailbox.is_closed:
            frame, _ = await line.receive()
            mailbox.received(frame)


class JoinMailbox:
    """The new device's end: a connection that may do nothing else. authority: what this device has dialled."""

    def __init__(self, channel: Channel, *, peer: str, authority: str) -> None:
        self._line = Line(channel, Role.CLIENT, peer=peer)
        self._box = FrameMailbox(self._line.send)
        self.nameplate = -1
        self.authority = authority

    @classmethod
    async def join(cls, channel: Channel, nameplate: int, *, peer: str, authority: str) -> JoinMailbox:
        """Join over an open channel, which is closed if that fails.

        Raises: Offline; PairingFailed: no such code there, or used; UnsupportedVersion; AuthFailed.
        """
        box = cls(channel, peer=peer, authority=authority)
        try:
            async with asyncio.timeout(AUTH_TIMEOUT_S):
                await box._join(nameplate)
        except TimeoutError as error:
            await channel.close()
            raise Offline(f"{peer} did not answer in time.") from error
        except BaseException:
            await channel.close()
            raise
        return box

    async def _join(self, nameplate: int) -> None:
        challenge, _ = await self._line.receive()
        if not isinstance(challenge, Challenge):
            raise BadFrame("The first frame was no challenge.")
        choose_version(challenge)
        if challenge.role == "peer" and challenge.ep != self.authority:
            raise AuthFailed("It names another certificate than its own: something stands between the two devices.")
        await self._line.send(PairJoin(np=nameplate))
        match (await self._line.receive())[0]:
            case PairJoined():
                self.nameplate = nameplate
            case Err(code=code, msg=text):
                raise PairingFailed(text, remote_code=code)
            case _:
                raise BadFrame("The code was answered with something else.")

    async def send(self, message: bytes) -> None:
        """To the device that showed the code."""
        await self._line.send(PairMsg(m=message))

    async def receive(self) -> bytes:
        """From it. Raises: PairingFailed, Offline."""
        while True:
            match (await self._line.receive())[0]:
                case PairMsg(m=message):
                    return message
                case PairClose() as closed:
                    self._box.received(closed)
                    return await self._box.receive()
                case Err(code=code, msg=text):
                    raise PairingFailed(text, remote_code=code)
                case _:
                    continue

    async def close(self, why: str) -> None:
        """Leave the mailbox and close the connection."""
        try:
            await self._line.send(PairClose(why=why))
        except HybridGWError:
            log.debug("mailbox was closed by the other side")
        finally:
            await self._line.channel.close()
