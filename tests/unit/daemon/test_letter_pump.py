"""What a hostile relay can make a device hold in memory while it is asked for people and brings letters."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from hybridgw_daemon.services.letters import LetterService
from hybridgw_daemon.transports.peers.letters import MOST_ARRIVED_BYTES, LetterPump
from hybridgw_daemon.transports.peers.line import Line
from hybridgw_daemon.transports.peers.root import MOST_RECORD_BYTES, Visit
from hybridgw_protocol.errors import BadFrame
from hybridgw_protocol.frames import (
    Auth,
    Challenge,
    Ctl,
    CtlGet,
    Dir,
    DirGet,
    Frame,
    LetterFrame,
    Welcome,
    decode_frame,
    encode_frame,
)
from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.link import Role

PART = b"x" * 900_000
ENOUGH = 100  # parts: far above any bound


class Hostile:
    """The other end of a channel: a relay that answers each question without end."""

    def __init__(self) -> None:
        self.request = 0
        self.asked = asyncio.Event()
        self.parts = 0

    async def send(self, data: bytes) -> None:
        frame, request = decode_frame(data)
        if isinstance(frame, DirGet | CtlGet):
            self.request = request
            self.asked.set()

    async def receive(self) -> bytes:
        self.parts += 1
        return encode_frame(Ctl(recs=[PART], more=self.parts < ENOUGH), self.request)

    async def close(self) -> None:
        pass


async def ready(channel: Hostile) -> Line:
    """A line behind the greeting."""
    line = Line(channel, Role.CLIENT, peer="a relay")
    frames: list[Frame] = [Challenge(v=(1, 1), ns=bytes(32), role="relay", t=0), Welcome(sid="x", t=0)]
    line.link.receive(encode_frame(frames[0]))
    await line.send(Auth(v=1, sp=bytes(16), pk=bytes(64), nc=bytes(32), ep="host:x", sig=bytes(64), t=0))
    line.link.receive(encode_frame(frames[1]))
    return line


async def test_an_answer_about_a_person_has_an_end() -> None:
    channel = Hostile()
    pump = LetterPump(cast(LetterService, None), "url", await ready(channel))
    asking = asyncio.create_task(pump.look_up(SpaceId(bytes(16)), []))
    await channel.asked.wait()
    with pytest.raises(BadFrame, match="more control records"):
        for _ in range(MOST_RECORD_BYTES // len(PART) + 1):
            pump.received(Dir(recs=[PART], more=True), channel.request)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_the_recovery_words_read_so_much_and_not_more() -> None:
    channel = Hostile()
    with pytest.raises(BadFrame, match="more control records"):
        await Visit(await ready(channel), None).read()
    assert channel.parts <= MOST_RECORD_BYTES // len(PART) + 1


async def test_letters_that_wait_to_be_judged_have_bounds() -> None:
    pump = LetterPump(cast(LetterService, None), "url", await ready(Hostile()))
    with pytest.raises(BadFrame, match="more letters"):
        for _ in range(MOST_ARRIVED_BYTES // len(PART) + 2):
            pump.received(LetterFrame(m=[PART]), 0)
