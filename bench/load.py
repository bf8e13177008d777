"""A small HTTP client over raw asyncio streams: keep-alive, one request in flight per connection, cheap itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Self


class Flood(NamedTuple):
    """per_s: requests per second over all clients; times: sorted latencies, seconds."""

    per_s: float
    times: list[float]


def encode_request(method: str, port: int, path: str, body: bytes = b"", token: str = "", more: str = "") -> bytes:
    """The bytes of one HTTP/1.1 request. Args: more: further header lines, each with its line end."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return head.encode() + b"\r\n" + body


class Connection:
    """One kept-alive connection. `call` sends prepared bytes and returns the body of the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    async def call(self, request: bytes) -> bytes:
        """Raises: RuntimeError: an answer other than 2xx, with what it says."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b"chunked" in head.lower():
            parts = [part async for part in self._chunks()]
            body = b"".join(parts)
        else:
            _, found, size = head.lower().partition(b"content-length:")
            body = await self._reader.readexactly(int(size.split(b"\r\n")[0])) if found else b""
        if b" 20" not in head[:13]:
            raise RuntimeError((head + body[:500]).decode(errors="replace"))
        return body

    async def lines(self, request: bytes) -> AsyncIterator[bytes]:
        """Lines of an answer that does not end: server-sent events."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:15]:
            raise RuntimeError(head.decode(errors="replace"))
        if b"chunked" not in head.lower():
            while line := await self._reader.readline():
                yield line.rstrip(b"\r\n")
            return
        rest = b""
        async for chunk in self._chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r")

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            chunk = await self._reader.readexactly(size + 2)
            yield chunk[:-2]
        await self._reader.readline()

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def flood(port: int, requests: Sequence[Sequence[bytes]]) -> Flood:
    """Send every client's requests one after the other, all clients at once."""
    times: list[float] = []

    async def client(connection: Connection, own: Sequence[bytes]) -> None:
        for request in own:
            start = time.perf_counter()
            await connection.call(request)
            times.append(time.perf_counter() - start)

    connections = [await Connection.open(port) for _ in requests]
    try:
        start = time.perf_counter()
        await asyncio.gather(*map(client, connections, requests))
        took = time.perf_counter() - start
    finally:
        for connection in connections:
            connection.close()
    return Flood(len(times) / took, sorted(times))


class Api:
    """The local API of one daemon, for control calls."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    def request(self, method: str, path: str, body: bytes = b"", more: str = "") -> bytes:
        """Prepared bytes for `Connection.call`."""
        return encode_request(method, self.port, path, body, self.token, more)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call on a connection of its own. Args: body: JSON value, or bytes that are JSON already."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = await Connection.open(self.port)
        try:
            answer = await connection.call(self.request(method, path, raw))
        finally:
            connection.close()
        return json.loads(answer) if answer else None
