"""The raw limit for the WebSocket hub: aiohttp on uvloop that routes messages to listeners of a topic and nothing else.

A message is encoded once, and all frames for one socket leave in one write per turn of the loop. No token, no table of
commands, no checks, no sessions.
    python -m bench.bare_ws_hub   prints the port
"""

from __future__ import annotations

import asyncio
import struct

import msgspec
import uvloop
from aiohttp import WSMsgType, web


class Listener:
    """One socket's queue."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.transport = transport
        self.queue: list[bytes] = []

    def flush(self) -> None:
        """Write what has gathered."""
        data, self.queue = b"".join(self.queue), []
        self.transport.write(data)


async def main() -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    topics: dict[str, list[Listener]] = {}
    decode = msgspec.json.Decoder().decode
    encode = msgspec.json.Encoder().encode

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=2**20)
        await socket.prepare(request)
        own = Listener(request.transport)  # type: ignore[arg-type]
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            frame = decode(message.data)
            if frame["type"] == "listen":
                topics.setdefault(frame["topic"], []).append(own)
                await socket.send_str('{"type":"ok"}')
                continue
            raw = encode({"type": "event", "data": frame["data"]})
            whole = struct.pack(">BBH", 0x81, 126, len(raw)) + raw
            for listener in topics.get(frame["topic"], ()):
                if not listener.queue:
                    loop.call_soon(listener.flush)
                listener.queue.append(whole)
        for listeners in topics.values():
            if own in listeners:
                listeners.remove(own)
        return socket

    server = web.Server(handle, access_log=None)
    listening = await loop.create_server(server, "127.0.0.1", 0, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
