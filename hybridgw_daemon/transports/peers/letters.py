"""The pump of letters beside a conversation with a relay: puts what is due, hands on what comes, looks people up."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from hybridgw_protocol.errors import BadFrame, Offline, RateLimited
from hybridgw_protocol.frames import CtlPut, Dir, DirGet, Err, LetterDone, LetterFrame, MsgStored
from hybridgw_protocol.ids import SpaceId

from ...services.letters import LetterService, Parcel
from .line import Line
from .root import MOST_RECORD_BYTES, MOST_RECORDS

FLYING: Final = 4  # frames that are not answered
MOST_KEPT: Final = 256  # letters about which something is to be decided first: no more are sent before it is
KEPT_S: Final = 5.0  # they are looked at again so often, if nothing else happens
MOST_ARRIVED: Final = 512  # frames of letters that wait to be judged: more than a relay sends before it is answered
MOST_ARRIVED_BYTES: Final = 16 * 1024 * 1024  # likewise


class _Look:
    """A question about a person that is not answered yet."""

    def __init__(self, answer: asyncio.Future[list[bytes]]) -> None:
        self.answer = answer
        self.records: list[bytes] = []
        self.size_bytes = 0


class LetterPump:
    """One per conversation with a relay. `run` is a task of it; `received` is called for each frame of letters."""

    def __init__(self, letters: LetterService, url: str, line: Line) -> None:
        self.url = url
        self._letters, self._line = letters, line
        self._flying: dict[int, Parcel] = {}
        self._answers: deque[tuple[Parcel, MsgStored]] = deque()
        self._looks: dict[int, _Look] = {}
        self._kept: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._arrived: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self._arrived_bytes = 0
        self._told: list[bytes] = []
        self._woken = asyncio.Event()
        self._woken.set()

    def wake(self) -> None:
        """There may be something to put, or something was decided."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. Raises: HybridGWError kinds: the connection, or the database."""
        self._letters.people.directories[self] = None
        taking = asyncio.create_task(self._take_all(), name="pump_letters_in")
        putting = asyncio.create_task(self._put_all(), name="pump_letters_out")
        try:
            done, _ = await asyncio.wait((taking, putting), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._letters.people.directories.pop(self, None)
            if self._timer is not None:
                self._timer.cancel()
            for look in self._looks.values():
                if not look.answer.done():
                    look.answer.set_exception(Offline("The connection to the relay ended."))
                    look.answer.exception()
            for task in (taking, putting):
                task.cancel()
            await asyncio.gather(taking, putting, return_exceptions=True)

    async def _put_all(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self.tell_keys()
            while self._answers:
                await self._letters.put(*self._answers.popleft())
            if self._kept:
                kept, self._kept = self._kept, []
                self._put_in(kept)
            while len(self._flying) < FLYING:
                parcel = self._letters.compose(self.url, {p.person for p in self._flying.values()})
                if parcel is None:
                    break
                self._flying[self._line.link.ask(parcel.frame)] = parcel
                await self._line.flush()

    async def _take_all(self) -> None:
        """Beside the conversation, for judging a letter may need an answer of this relay."""
        while True:
            letters = await self._arrived.get()
            self._arrived_bytes -= sum(map(len, letters))
            taken = await self._letters.take(letters, self.url)
            self._kept = (self._kept + taken.kept)[-MOST_KEPT:]
            if taken.kept:
                self._look_later()
            if taken.done:
                await self._line.send(LetterDone(ids=taken.done))

    def _put_in(self, letters: list[bytes]) -> None:
        self._arrived_bytes += sum(map(len, letters))
        self._arrived.put_nowait(letters)

    def _look_later(self) -> None:
        """One timer, from what was judged last on."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(KEPT_S, self._woken.set)

    async def tell_keys(self) -> None:
        """The relay hears of the message key of this device, if it has not. Raises: Offline."""
        records = self._letters.own_records()
        if records != self._told:
            self._told = records
            self._line.link.ask(CtlPut(recs=records))
            await self._line.flush()

    async def look_up(self, person: SpaceId, heads: list[bytes]) -> list[bytes]:
        """Control records of a person that are lacking; none: nobody. Raises: Offline; RateLimited."""
        future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        request = self._line.link.ask(DirGet(sp=person, heads=heads))
        self._looks[request] = _Look(future)
        try:
            await self._line.flush()
            return await future
        finally:
            self._looks.pop(request, None)

    def received(self, frame: MsgStored | LetterFrame | Dir, request: int) -> None:
        """A frame of letters; `run` does the work, which may have to wait for further frames. Raises: BadFrame."""
        match frame:
            case MsgStored():
                parcel = self._flying.pop(request, None)
                if parcel is not None:
                    self._answers.append((parcel, frame))
                    self._woken.set()
            case LetterFrame(m=letters):
                if self._arrived.qsize() >= MOST_ARRIVED or self._arrived_bytes >= MOST_ARRIVED_BYTES:
                    raise BadFrame("The relay sends more letters than it may before it is answered.")
                self._put_in(letters)
            case Dir() if look := self._looks.get(request):
                look.records += frame.recs
                look.size_bytes += sum(map(len, frame.recs))
                if len(look.records) > MOST_RECORDS or look.size_bytes > MOST_RECORD_BYTES:
                    raise BadFrame("The relay sends more control records than a person can have.")
                if not frame.more and not look.answer.done():
                    look.answer.set_result(look.records)

    def refused(self, frame: Err, request: int) -> bool:
        """An error answers a request. Returns whether it was one of these."""
        look = self._looks.get(request)
        if look is None:
            return False
        if not look.answer.done():
            look.answer.set_exception(RateLimited(frame.msg, retry_ms=frame.retry))
        return True
