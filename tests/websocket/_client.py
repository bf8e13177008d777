"""Clients of the WebSocket for tests: over aiohttp with every frame checked against the schema, and over raw bytes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jsonschema
import msgspec

from hybridgw_protocol import localapi_frames as frames
from tests.integration._local_api import TOKEN, Api

SCHEMA = msgspec.to_builtins(frames.schema())
FROM_SERVER = jsonschema.Draft202012Validator({"$ref": "#/$defs/ServerFrame", "$defs": SCHEMA["$defs"]})
FROM_CLIENT = jsonschema.Draft202012Validator({"$ref": "#/$defs/ClientFrame", "$defs": SCHEMA["$defs"]})
WAIT_S = 30.0


class Closed(Exception):
    """The daemon closed: code and reason."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Ws:
    """One connection. hello: its auth_ok; events: those that came while something else was waited for."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, *, packed: bool = False, check: bool = True) -> None:
        self.ws = ws
        self.packed, self.check = packed, check
        self.hello: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self._count = 0

    async def send(self, frame: dict[str, Any]) -> None:
        """Send a frame as it is."""
        if self.packed:
            await self.ws.send_bytes(msgspec.msgpack.encode(frame))
        else:
            await self.ws.send_str(json.dumps(frame))

    async def frame(self, wait_s: float = WAIT_S) -> dict[str, Any]:
        """The next frame but heartbeats. Raises: Closed."""
        while True:
            message = await asyncio.wait_for(self.ws.receive(), wait_s)
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                code = message.data if isinstance(message.data, int) else self.ws.close_code
                raise Closed(code, str(message.extra or ""))
            if message.type is aiohttp.WSMsgType.ERROR:
                raise Closed(self.ws.close_code, repr(message.data))
            assert message.type is (aiohttp.WSMsgType.BINARY if self.packed else aiohttp.WSMsgType.TEXT)
            found = msgspec.msgpack.decode(message.data) if self.packed else json.loads(message.data)
            if self.check:
                FROM_SERVER.validate(found)
            if found["type"] != "heartbeat":
                return dict(found)

    async def auth(self, token: str = TOKEN, **more: Any) -> dict[str, Any]:
        """Show a token. Returns what came back."""
        await self.send({"type": "auth", "token": token, **more})
        self.hello = await self.frame()
        return self.hello

    async def ask(self, command: str, **params: Any) -> dict[str, Any]:
        """A command's answer, result or error; events meanwhile are kept."""
        self._count += 1
        number = self._count
        await self.send({"type": "command", "id": number, "command": command, "params": params})
        while (found := await self.frame())["type"] == "event":
            self.events.append(found)
        assert found["id"] == number, found
        return found

    async def do(self, command: str, **params: Any) -> Any:
        """The result of a command that must succeed."""
        found = await self.ask(command, **params)
        assert found["type"] == "result", found
        return found["result"]

    async def event(self, wait_s: float = WAIT_S) -> dict[str, Any]:
        """The next event."""
        if self.events:
            return self.events.pop(0)
        found = await self.frame(wait_s)
        assert found["type"] == "event", found
        return found

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Events up to one of this kind, which is the last."""
        found = [await self.event()]
        while found[-1]["event"] != kind:
            found.append(await self.event())
        return found

    async def closed(self) -> Closed:
        """Read until the daemon closes."""
        try:
            while True:
                await self.frame()
        except Closed as closed:
            return closed

    @property
    def resume(self) -> dict[str, Any]:
        """The session, without an offset."""
        return {"session": self.hello["session"], "epoch": self.hello["epoch"]}


@contextlib.asynccontextmanager
async def connected(
    api: Api, client: str = "test", *, mode: str = "web_app", auth: bool = True, packed: bool = False,
    check: bool = True, resume: dict[str, Any] | None = None, **options: Any,
) -> AsyncIterator[Ws]:  # fmt: skip
    """A connection, authenticated unless told otherwise."""
    url = f"http://127.0.0.1:{api.port}/ws/{mode}/{client}"
    protocols = (frames.MSGPACK_PROTOCOL,) if packed else (frames.JSON_PROTOCOL,)
    async with api.session.ws_connect(url, protocols=protocols, max_msg_size=0, **options) as raw:
        ws = Ws(raw, packed=packed, check=check)
        if auth:
            more = {} if resume is None else {"resume": resume}
            assert (await ws.auth(**more))["type"] == "auth_ok"
        yield ws


# ---- raw bytes -------------------------------------------------------------------------------------------------------
def frame(opcode: int, payload: bytes = b"", *, first: int = 0x80, mask: bool = True, size: int | None = None) -> bytes:
    """A frame of a client. Args: first: bits beside the opcode; size: what the header says, if it lies."""
    length = len(payload) if size is None else size
    bit = 0x80 if mask else 0
    head = bytes((first | opcode, bit | length)) if length < 126 else b""
    if not head:
        is_short = length < 65_536
        head = struct.pack(">BBH" if is_short else ">BBQ", first | opcode, bit | (126 if is_short else 127), length)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def text(value: Any) -> bytes:
    """A text frame of JSON."""
    return frame(1, json.dumps(value).encode())


class Raw:
    """A connection of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    async def read(self) -> tuple[int, bytes]:
        """(first byte, payload) of the next frame of the daemon."""
        first, size = await asyncio.wait_for(self.reader.readexactly(2), WAIT_S)
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
        return first, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Read until the daemon closes; then the connection must end too."""
        while True:
            first, payload = await self.read()
            if first & 0x0F == 8:
                return int.from_bytes(payload[:2], "big")

    async def auth(self) -> None:
        """Show the token."""
        self.writer.write(text({"type": "auth", "token": TOKEN}))
        first, payload = await self.read()
        assert (first, json.loads(payload)["type"]) == (0x81, "auth_ok")


@contextlib.asynccontextmanager
async def opened(api: Api, path: str = "/ws/web_app/raw", *, auth: bool = True, more: str = "") -> AsyncIterator[Raw]:
    """An upgraded connection. Args: more: header lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
    raw = Raw(reader, writer, head)
    try:
        if auth and head.startswith(b"HTTP/1.1 101 "):
            await raw.auth()
        yield raw
    finally:
        writer.close()
