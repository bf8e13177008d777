"""Load for a WebSocket hub, ours or the bare one, from a process of its own on uvloop; prints JSON.

It frames what it sends beforehand and counts what comes by a marker, so that it costs less than what it measures.
    python -m bench.ws_load KIND PORT TOKEN COUNT PID   TOKEN: `-` for the bare hub; PID: of the hub
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import uvloop

from .processes import use_of

EVENT: Final = b'"type":"event"'
IN_FLIGHT: Final = 64
FAN_OUT: Final = 200
CONNECTS_AT_ONCE: Final = 50


def framed(value: Any) -> bytes:
    """A text frame of a client whose mask changes nothing."""
    raw = json.dumps(value, separators=(",", ":")).encode()
    size = len(raw)
    head = bytes((0x81, 0x80 | size)) if size < 126 else struct.pack(">BBH", 0x81, 0xFE, size)
    return head + b"\0\0\0\0" + raw


class Client(asyncio.Protocol):
    """One connection. seen: markers that came; on_seen: called with how many came at once."""

    def __init__(self, marker: bytes) -> None:
        self.marker = marker
        self.seen = 0
        self.on_seen: Callable[[int], None] = lambda _count: None
        self._tail = b""
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Count, or look for what is waited for."""
        data = self._tail + data
        if self._waiter is not None:
            if self._wanted in data:
                self._tail = data.partition(self._wanted)[2]
                self._waiter.set_result(None)
                self._waiter = None
            else:
                self._tail = data
            return
        count = data.count(self.marker)
        self._tail = data[data.rfind(self.marker) + len(self.marker) :][-len(self.marker) + 1 :]
        if count:
            self.seen += count
            self.on_seen(count)

    def connection_lost(self, exc: Exception | None) -> None:
        """It must not."""
        if self._waiter is not None:
            self._waiter.set_exception(ConnectionError("the hub closed the connection"))

    async def ask(self, data: bytes, wanted: bytes) -> None:
        """Send, and wait until something comes."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._wanted = wanted
        self.transport.write(data)
        await self._waiter


class Load:
    """One hub under load."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token
        self.is_bare = token in ("-", "one")
        self._count = 0
        self.clients: list[Client] = []

    async def connect(self, client: Client | None = None, name: str | None = None) -> Client:
        """Connected and, where there is such a thing, authenticated."""
        own = client or Client(EVENT)
        _, client = await asyncio.get_running_loop().create_connection(lambda: own, "127.0.0.1", self.port)
        self.clients.append(client)
        self._count += 1
        head = (
            f"GET /ws/local_install/{name or f'bench-{self._count}'} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await client.ask(head.encode(), b"\r\n\r\n")
        if self.is_bare:
            await client.ask(framed({"type": "listen", "topic": f"own-{self._count}"}), b'"ok"')
        else:
            await client.ask(framed({"type": "auth", "token": self.token}), b'"auth_ok"')
        return client

    async def listen(self, topic: str) -> Client:
        """A listener."""
        client = await self.connect()
        if self.is_bare:
            await client.ask(framed({"type": "listen", "topic": topic}), b'"ok"')
        else:
            await client.ask(self.command("topic.subscribe", {"topic": topic}, 1), b'"result"')
        return client

    def command(self, name: str, params: Any, number: int | None = None) -> bytes:
        """A command's frame."""
        frame: dict[str, Any] = {"type": "command", "command": name, "params": params}
        return framed(frame if number is None else {**frame, "id": number})

    async def end(self) -> None:
        """Close all connections in order, so that the hub keeps nothing of them."""
        for client in self.clients:
            if not client.transport.is_closing():
                client.transport.write(b"\x88\x82\0\0\0\0\x03\xe8")
        await asyncio.sleep(0.2)

    def message(self, topic: str) -> bytes:
        """A message whose data is 256 bytes of JSON."""
        data = {"text": "x" * (256 - len('{"text":""}'))}
        if self.is_bare:
            return framed({"type": "send", "topic": topic, "data": data})
        return self.command("topic.publish", {"topic": topic, "data": data})


async def rtt(load: Load, count: int) -> list[float]:
    """Seconds from sender to receiver, one message at a time."""
    receiver, sender = await load.listen("t"), await load.connect()
    message, times = load.message("t"), []
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    start = 0.0

    def arrived(_count: int) -> None:
        nonlocal start
        times.append(time.perf_counter() - start)
        if len(times) >= count:
            ended.set_result(None)
            return
        start = time.perf_counter()
        sender.transport.write(message)

    receiver.on_seen = arrived
    start = time.perf_counter()
    sender.transport.write(message)
    await ended
    return sorted(times)


async def throughput(load: Load, count: int, listeners: int) -> float:
    """Deliveries per second, IN_FLIGHT messages on their way."""
    receivers = [await load.listen("t") for _ in range(listeners)]
    sender, message = await load.connect(), load.message("t")
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sent = done = 0
    wanted = count * listeners

    def arrived(more: int) -> None:
        nonlocal sent, done
        done += more
        if done >= wanted:
            if not ended.done():
                ended.set_result(None)
            return
        room = min(done // listeners + IN_FLIGHT, count) - sent
        if room > 0:
            sent += room
            sender.transport.write(message * room)

    for receiver in receivers:
        receiver.on_seen = arrived
    start = time.perf_counter()
    sent = min(IN_FLIGHT, count)
    sender.transport.write(message * sent)
    await ended
    return wanted / (time.perf_counter() - start)


async def connects(load: Load, count: int) -> float:
    """Connections per second, each with its first exchange."""
    left = count

    async def some() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            client = await load.connect()
            client.transport.write(b"\x88\x82\0\0\0\0\x03\xe8")

    start = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(CONNECTS_AT_ONCE)))
    return count / (time.perf_counter() - start)


async def idle(load: Load, count: int, pid: int) -> float:
    """KiB of the hub's memory for each connection that does nothing."""
    for client in [await load.connect() for _ in range(200)]:  # what the first ones cost once and for all
        client.transport.close()
    await asyncio.sleep(1.0)
    before = use_of(pid).rss_mib
    clients = [await load.connect() for _ in range(count)]
    await asyncio.sleep(1.0)
    used = use_of(pid).rss_mib - before
    for client in clients:
        client.transport.close()
    return used * 1024 / count


async def patches(load: Load, count: int) -> list[float]:
    """[patches per second, p50 in seconds]: each of IN_FLIGHT clients patches a document of its own, one at a time."""
    clients = [await load.connect() for _ in range(IN_FLIGHT)]
    for number, client in enumerate(clients):
        data = {"title": "A task of the bench", "notes": "n" * 120, "status": "open"}
        put = load.command("data.put", {"collection": "bench", "id": f"d{number}", "data": data}, 1)
        await client.ask(put, b'"result"')
    times: list[float] = []

    async def some(number: int, client: Client) -> None:
        for turn in range(count // IN_FLIGHT):
            patch = {"notes": f"{turn} {'n' * 120}"}
            frame = load.command("data.patch", {"collection": "bench", "id": f"d{number}", "patch": patch}, turn)
            begun = time.perf_counter()
            await client.ask(frame, b'"result":')
            times.append(time.perf_counter() - begun)

    start = time.perf_counter()
    await asyncio.gather(*(some(number, client) for number, client in enumerate(clients)))
    took = time.perf_counter() - start
    return [len(times) / took, sorted(times)[len(times) // 2]]


async def main(kind: str, port: int, token: str, count: int, pid: int) -> Any:
    """Run one kind of load."""
    load = Load(port, token)
    result: Any
    match kind:
        case "rtt":
            times = await rtt(load, count)
            result = [times[len(times) // 2], times[len(times) * 99 // 100]]
        case "flood":
            result = await throughput(load, count, 1)
        case "fanout":
            result = await throughput(load, count, FAN_OUT)
        case "connects":
            result = await connects(load, count)
        case "idle":
            result = await idle(load, count, pid)
        case _:
            result = await patches(load, count)
    await load.end()
    return result


if __name__ == "__main__":
    _, kind_, port_, token_, count_, pid_ = sys.argv
    print(json.dumps(uvloop.run(main(kind_, int(port_), token_, int(count_), int(pid_)))))
