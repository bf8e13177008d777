"""The load for a relay: many devices, each with a window of pushes under way, over hand-made WebSocket frames.

Keys, records, batches and the frames around them are made before the clock starts; while it runs, this process only
writes prepared bytes and counts acknowledgements, so that the relay has the machine.
    python -m bench.relay_load URL DEVICES PER_SPACE BATCHES WINDOW [LINK …]
One invite link per space; without links the other end is a bare hub that asks for nothing. Prints JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import uvloop

from hybridgw_protocol.auth import endpoint, sign_auth
from hybridgw_protocol.frames import Auth, Challenge, Ctl, CtlGet, Err, Frame, FrameType, Push, Welcome, encode_frame
from hybridgw_protocol.invite import parse_invite
from hybridgw_protocol.limits import PROTOCOL_VERSION
from hybridgw_protocol.link import Link, Role

from .processes import until
from .report import percentile
from .spaces import BenchDevice, BenchSpace

ADMISSION_S = 30.0
LOAD_S = 300.0


def masked(data: bytes) -> bytes:
    """One binary message as a client sends it. The mask is zero, which leaves the bytes as they are."""
    size = len(data)
    if size < 126:
        head = bytes((0x82, 0x80 | size))
    elif size < 65_536:
        head = b"\x82\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x82\xff" + size.to_bytes(8, "big")
    return head + bytes(4) + data


class Device(asyncio.Protocol):
    """One connection of one device."""

    def __init__(self, keys: BenchDevice, space: BenchSpace, *, url: str, enrol: bytes, window: int) -> None:
        self._keys, self._space, self._url, self._enrol, self._window = keys, space, url, enrol, window
        self._link = Link(Role.CLIENT)
        self._buffer = b""
        self._upgraded = False
        self._challenge: Challenge | None = None
        self._transport: asyncio.Transport | None = None
        self._messages: list[bytes] = []
        self._sent_s: list[float] = []
        self._loading = False
        self.ready = asyncio.Event()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies_s: list[float] = []
        self.pushed_bytes = 0

    # ---- asyncio.Protocol --------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = transport  # type: ignore[assignment]
        key = base64.b64encode(os.urandom(16)).decode()
        self._write(
            f"GET /hgw/1 HTTP/1.1\r\nHost: {urlsplit(self._url).netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Too early, if it was not done."""
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the relay closed the connection: {exc}"))
            self.done.exception()
            self.ready.set()

    def data_received(self, data: bytes) -> None:
        """Take frames apart."""
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._upgraded:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = buffer
                return
            if b" 101 " not in head[:20]:
                raise ConnectionError(head.decode(errors="replace"))
            self._upgraded, buffer = True, rest
        end = len(buffer)
        while end - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                if end - at < 4:
                    break
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                if end - at < 10:
                    break
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if end - start < size:
                break
            at = start + size
            self._message(buffer[start:at])
        self._buffer = buffer[at:]

    # ---- messages ----------------------------------------------------------------------------------------------------
    def _message(self, data: bytes) -> None:
        if self._loading:
            if data[1] == FrameType.PUSH_ACK:
                self._acknowledged()
            elif data[1] == FrameType.ERR:
                self.done.set_exception(ConnectionError(repr(data)))
            return
        frame, request = self._link.receive(data)
        self._handshake(frame, request)

    def _handshake(self, frame: Frame, request: int) -> None:
        match frame:
            case Challenge():
                auth = Auth(
                    v=PROTOCOL_VERSION, sp=self._space.id, pk=self._keys.public + self._keys.exchange,
                    nc=os.urandom(32), ep=endpoint(self._url), sig=bytes(64), t=time.time_ns() // 1_000_000,
                    ctl=self._space.control.short_heads, sub=False, enrol=self._enrol,
                )  # fmt: skip
                auth.sig = sign_auth(frame, auth, self._keys.secret)
                self._say(auth, 0)
            case CtlGet():
                self._say(Ctl(recs=self._space.control.missing_from(frame.heads)), request)
            case Welcome():
                self.ready.set()
            case Err(code=code, msg=message):
                raise ConnectionError(f"{code}: {message}")
            case _:
                pass

    def _say(self, frame: Frame, request: int) -> None:
        self._link.send(frame, request=request)
        for data in self._link.data_to_send():
            self._write(masked(data))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    # ---- the load ----------------------------------------------------------------------------------------------------
    def prepare(self, blobs: list[bytes]) -> None:
        """Make the messages."""
        self._messages = [masked(encode_frame(Push(b=[blob]), n)) for n, blob in enumerate(blobs, 1)]
        self.pushed_bytes = sum(map(len, blobs))

    def begin(self) -> None:
        """Fill the window."""
        self._loading = True
        for _ in range(min(self._window, len(self._messages))):
            self._push()

    def _push(self) -> None:
        number = len(self._sent_s)
        self._sent_s.append(time.perf_counter())
        self._write(self._messages[number])

    def _acknowledged(self) -> None:
        self.latencies_s.append(time.perf_counter() - self._sent_s[len(self.latencies_s)])
        if len(self._sent_s) < len(self._messages):
            self._push()
        elif len(self.latencies_s) == len(self._messages):
            self.done.set_result(None)


async def main(url: str, devices: int, per_space: int, batches: int, window: int, links: list[str]) -> dict[str, Any]:
    """Connect everybody, then push everything. Returns what was seen."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    spaces = [BenchSpace(min(per_space, devices - k)) for k in range(0, devices, per_space)]
    connections: list[Device] = []
    for number, space in enumerate(spaces):
        secret = parse_invite(links[number]).secret if links else b""
        for index, keys in enumerate(space.devices):

            def new(keys: BenchDevice = keys, space: BenchSpace = space, index: int = index) -> Device:
                return Device(keys, space, url=url, enrol=b"" if index else secret, window=window)  # noqa: B023

            _, connection = await loop.create_connection(new, parts.hostname or "", parts.port or 80)
            connection.prepare(keys.batches(space, batches))
            if links:
                await until(connection.ready, ADMISSION_S, "an admission")
            connections.append(connection)
    cpu, start = time.process_time(), time.perf_counter()
    for connection in connections:
        connection.begin()
    async with asyncio.timeout(LOAD_S):
        await asyncio.gather(*(connection.done for connection in connections))
    took = time.perf_counter() - start
    latencies = [seconds for connection in connections for seconds in connection.latencies_s]
    total = devices * batches
    return {
        "batches_per_s": total / took,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "bytes_per_batch": sum(connection.pushed_bytes for connection in connections) / total,
        "load_cpu_us": (time.process_time() - cpu) / total * 1e6,
    }


if __name__ == "__main__":
    url_, devices_, per_space_, batches_, window_, *links_ = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(main(url_, int(devices_), int(per_space_), int(batches_), int(window_), links_))
    print(json.dumps(found), flush=True)
