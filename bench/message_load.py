"""Load of stored messages for a hub, ours or a bare one, from a process of its own on uvloop; prints JSON.

One program sends, another one listens and acknowledges what it is shown, as many at once as came at once.
    python -m bench.message_load KIND COUNT SENDER_PORT SENDER_TOKEN READER_PORT READER_TOKEN TARGET
KIND: `one`: one in flight, seconds until each is answered; `many`: IN_FLIGHT of them, messages per second until all are
answered and shown; `arrive`: one at a time, seconds until each is shown. TOKEN `-`: a bare hub, `one`: one that wants
no acknowledgements.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from typing import Any, Final

import uvloop

from .ws_load import IN_FLIGHT, Client, Load, framed

WARM_UP: Final = 50
PAUSE_S: Final = (0.004, 0.02)  # at random between two that are sent alone
ID: Final = re.compile(rb'"data":\{"id":"([0-9a-f-]{36})"')
RESULT: Final = b'"type":"result"'
EVENT: Final = b'"type":"event"'


class Reader(Client):
    """A program that acknowledges what it is shown. load: of its hub; None: it acknowledges nothing."""

    load: Load | None = None

    def __init__(self) -> None:
        super().__init__(EVENT)
        self._rest = b""
        self._is_listening = False

    def begin(self, load: Load | None) -> None:
        """From now on what comes are messages."""
        self._is_listening, self.load = True, load

    def data_received(self, data: bytes) -> None:
        """Count and acknowledge."""
        if not self._is_listening:
            super().data_received(data)
            return
        data = self._rest + data
        found = list(ID.finditer(data))
        self._rest = data[found[-1].end() :][-200:] if found else data[-200:]
        if not found:
            return
        ids = [match[1].decode() for match in found]
        if self.load is not None:
            self.transport.write(
                framed({"type": "ack", "ids": ids}) if self.load.is_bare
                else self.load.command("messages.ack", {"ids": ids})
            )  # fmt: skip
        self.seen += len(ids)
        self.on_seen(len(ids))


class Pair:
    """A sender and a reader."""

    def __init__(self, sender: Load, reader: Load, target: str, *, acknowledges: bool) -> None:
        self._sender, self._reader, self._target, self._acknowledges = sender, reader, target, acknowledges
        self._number = 0
        self.sending: Client
        self.reading: Reader

    async def connect(self) -> None:
        """Both."""
        self.sending = await self._sender.connect(Client(RESULT), "writer")
        self.reading = await self._reader.connect(Reader(), "reader")  # type: ignore[assignment]
        if self._reader.is_bare:
            await self.reading.ask(framed({"type": "listen", "topic": "t"}), b'"ok"')
        else:
            await self.reading.ask(self._reader.command("messages.listen", {}, 1), RESULT)
        self.reading.begin(self._reader if self._acknowledges else None)

    def message(self) -> bytes:
        """The next message; its body is 256 bytes of JSON."""
        self._number += 1
        body = {"text": "x" * (256 - len('{"text":""}'))}
        if self._sender.is_bare:
            return framed({"type": "send", "id": self._number, "topic": "t", "data": body})
        return self._sender.command("messages.send", {"type": "bench", "to": self._target, "body": body}, self._number)

    async def alone(self, count: int, *, until_shown: bool) -> list[float]:
        """Seconds of each, one at a time, sorted."""
        times: list[float] = []
        loop = asyncio.get_running_loop()
        watched = self.reading if until_shown else self.sending
        for number in range(WARM_UP + count):
            come: asyncio.Future[None] = loop.create_future()
            watched.on_seen = lambda _count, come=come: come.done() or come.set_result(None)  # type: ignore[misc]
            begun = time.perf_counter()
            self.sending.transport.write(self.message())
            async with asyncio.timeout(30):
                await come
            if number >= WARM_UP:
                times.append(time.perf_counter() - begun)
            await asyncio.sleep(random.uniform(*PAUSE_S) if until_shown else 0)
        return sorted(times)

    async def many(self, count: int) -> float:
        """Messages per second until all are answered and shown, IN_FLIGHT at most not answered."""
        messages = [self.message() for _ in range(count)]
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent = 0
        first = (self.sending.seen, self.reading.seen)

        def look(_count: int) -> None:
            nonlocal sent
            answered, shown = self.sending.seen - first[0], self.reading.seen - first[1]
            if answered >= count and shown >= count:
                if not ended.done():
                    ended.set_result(None)
                return
            room = min(answered + IN_FLIGHT, count)
            if room > sent:
                self.sending.transport.write(b"".join(messages[sent:room]))
                sent = room

        self.sending.on_seen = self.reading.on_seen = look
        begun = time.perf_counter()
        look(0)
        async with asyncio.timeout(120):
            await ended
        return count / (time.perf_counter() - begun)


async def main(kind: str, count: int, sender: Load, reader: Load, target: str) -> Any:
    """Run one kind of load."""
    pair = Pair(sender, reader, target, acknowledges=reader.token != "one")  # noqa: S105 - a mark, no secret
    await pair.connect()
    result: Any
    match kind:
        case "one":
            result = await pair.alone(count, until_shown=False)
        case "arrive":
            result = await pair.alone(count, until_shown=True)
        case _:
            await pair.many(min(count, 640))  # warms up
            result = await pair.many(count)
    for load in {sender, reader}:
        await load.end()
    return result


if __name__ == "__main__":
    _, kind_, count_, from_port, from_token, to_port, to_token, target_ = sys.argv
    sender_ = Load(int(from_port), from_token)
    reader_ = sender_ if from_port == to_port else Load(int(to_port), to_token)
    print(json.dumps(uvloop.run(main(kind_, int(count_), sender_, reader_, target_))))
