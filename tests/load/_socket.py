"""A WebSocket of the local API for load: cheap, and able to behave badly (break off, not read, read slowly)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hybridgw_protocol.localapi_frames import JSON_PROTOCOL, MSGPACK_PROTOCOL

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
ANSWER_S: Final = 60.0  # nothing takes that long; a lost answer is a fault and no hang


class Ended(Exception):
    """The daemon closed, or the connection broke. code: None: without a close frame."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}")
        self.code, self.reason = code, reason


class Refused(Exception):
    """A command's answer is an error. code: of the error."""

    def __init__(self, frame: dict[str, Any]) -> None:
        super().__init__(f"{frame.get('code')}: {frame.get('message')}")
        self.code = str(frame.get("code"))


class Socket:
    """One connection. hello: its auth_ok; offset: of the last event; on_event: told of each."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, packed: bool) -> None:
        self._reader, self._writer, self._packed = reader, writer, packed
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self.hello: dict[str, Any] = {}
        self.offset = 0
        self.on_event: Callable[[dict[str, Any]], None] = lambda _event: None
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls, port: int, token: str, path: str, *, packed: bool = False, resume: dict[str, Any] | None = None,
        receive_bytes: int | None = None,
    ) -> Socket:  # fmt: skip
        """Connected and authenticated. Args: receive_bytes: the room of a slow reader. Raises: Ended, OSError."""
        end = socket.socket()
        end.setblocking(False)
        if receive_bytes is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=end, limit=receive_bytes or 2**20)
        except BaseException:
            end.close()
            raise
        found = cls(reader, writer, packed=packed)
        protocol = MSGPACK_PROTOCOL if packed else JSON_PROTOCOL
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
            f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )
        try:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                raise Ended(None, "it ended before it was upgraded") from error
            if b" 101 " not in head[:20]:
                raise Ended(None, head.decode(errors="replace"))
            found.send({"type": "auth", "token": token, **({} if resume is None else {"resume": resume})})
            found.hello = await found.frame()
            if found.hello["type"] != "auth_ok":
                raise Ended(None, str(found.hello))
        except BaseException:
            writer.transport.abort()
            raise
        found.offset = found.hello["offset"]
        return found

    def run(self) -> None:
        """From now on read by itself."""
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                frame = await self.frame()
                kind = frame["type"]
                if kind == "event":
                    self.on_event(frame)
                    self.offset = frame["offset"]
                elif kind in ("result", "error"):
                    waiting = self._waiting.pop(frame["id"] or 0, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(frame)
        except Ended as ended:
            self._finish(ended)

    def _finish(self, ended: Ended) -> None:
        self._writer.transport.abort()
        if not self.ended.done():
            self.ended.set_result(ended)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ended)
                waiting.exception()  # it may be that nobody asks any more
        self._waiting.clear()

    async def frame(self, wait_s: float | None = None) -> dict[str, Any]:
        """The next frame; pings are answered. Raises: Ended; TimeoutError: none has begun for so long."""
        try:
            while True:
                async with asyncio.timeout(wait_s):
                    first, size = await self._reader.readexactly(2)
                if size == 126:
                    (size,) = struct.unpack(">H", await self._reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
                payload = await self._reader.readexactly(size)
                opcode = first & 0x0F
                if opcode == 9:
                    self._put(10, payload)
                elif opcode == 8:
                    code = int.from_bytes(payload[:2], "big") if payload else None
                    raise Ended(code, payload[2:].decode(errors="replace"))
                elif opcode == 2:
                    return msgspec.msgpack.decode(payload)  # type: ignore[no-any-return]
                elif opcode == 1:
                    return msgspec.json.decode(payload)  # type: ignore[no-any-return]
        except TimeoutError:
            raise
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Ended(None, f"it broke: {error!r}") from error

    async def gulp(self) -> None:
        """Read all that has come, for one who reads by himself. Raises: Ended."""
        with contextlib.suppress(TimeoutError):
            while True:
                frame = await self.frame(0.05)
                self.offset = frame.get("offset", self.offset)

    def _put(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65_536:
            head = struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, size)
        self._writer.write(head + bytes(4) + payload)  # the mask is zero, which leaves the bytes as they are

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        if self._packed:
            self._put(2, msgspec.msgpack.encode(frame))
        else:
            self._put(1, msgspec.json.encode(frame))

    async def do(self, command: str, **params: Any) -> Any:
        """The result of a command. Raises: Refused, Ended, TimeoutError."""
        if self.ended.done():
            raise self.ended.result()
        self._count += 1
        number = self._count
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send({"type": "command", "id": number, "command": command, "params": params})
        async with asyncio.timeout(ANSWER_S):
            frame = await waiting
        if frame["type"] == "error":
            raise Refused(frame)
        return frame["result"]

    def beat(self) -> None:
        """A sign of life: events so far have arrived."""
        if not self.ended.done():
            self.send({"type": "heartbeat", "offset": self.offset})

    @property
    def resume(self) -> dict[str, Any]:
        """To go on with this session."""
        return {"session": self.hello["session"], "epoch": self.hello["epoch"], "offset": self.offset}

    async def close(self) -> None:
        """Say good-bye, and wait for the answer."""
        self._put(8, struct.pack(">H", 1000))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), 30)
        await self.break_off()

    async def break_off(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._finish(Ended(None, "we are gone"))
