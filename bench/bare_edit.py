"""The raw limit for one edit: HTTP into SQLite, WebSocket to a bare relay, on to another SQLite, out as an event.

Each of the three commits before it says anything, as in the product; the blob has the size of a small sealed batch.
    python -m bench.bare_edit FILE PORT   a device at the relay `bench.bare_sync relay`; prints its own port
    python -m bench.bare_edit FILE 0      one without a relay, to which another one is given the port: two commits
PATCH /ID with a JSON body answers when it is durable here; GET /events tells what came from the other device.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys

import aiohttp
import msgspec
from aiohttp import web

from .bare_sync import SCHEMA
from .committer import Committer
from .hub import serve

BLOB_BYTES = 450
UPSERT = """INSERT INTO document(cid, id, cl, seq, conflicts, body, clk) VALUES(1, ?, 1, ?, 0, ?, x'00')
            ON CONFLICT(cid, id) DO UPDATE SET seq=excluded.seq, body=excluded.body"""
Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


async def main(path: str, relay_port: int) -> None:
    """Serve until killed."""
    committer = Committer(path, SCHEMA)
    events: set[web.StreamResponse] = set()
    others: list[Socket] = []
    if relay_port:
        session = aiohttp.ClientSession()
        others.append(await session.ws_connect(f"http://127.0.0.1:{relay_port}/", max_msg_size=2**21, compress=0))
    seq = 0

    async def store(blob: bytes, document: bytes, body: str) -> None:
        nonlocal seq
        seq += 1
        own = seq

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO batch(n, blob) VALUES(?, ?)", (own, blob))
            connection.execute(UPSERT, (document, own, body))

        await committer.commit(work)

    async def patch(request: web.Request) -> web.Response:
        body = await request.read()
        document = request.match_info["id"].encode()
        padding = os.urandom(max(0, BLOB_BYTES - len(body) - len(document)))
        blob = msgspec.msgpack.encode((document, body.decode(), padding))
        await store(blob, document, msgspec.json.encode(msgspec.json.decode(body)).decode())
        for other in others:
            await other.send_bytes(msgspec.msgpack.encode([blob]))
        return web.Response(body=b"{}", content_type="application/json")

    async def listen(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": ready\n\n")
        events.add(response)
        await asyncio.Event().wait()
        return response

    async def meet(request: web.Request) -> web.WebSocketResponse:
        caller = web.WebSocketResponse(max_msg_size=2**21, compress=False)
        await caller.prepare(request)
        others.append(caller)
        await apply(caller)
        return caller

    async def apply(socket: Socket) -> None:
        decoder = msgspec.msgpack.Decoder(tuple[bytes, str, bytes])
        async for message in socket:
            if len(message.data) == 8:
                continue
            for blob in msgspec.msgpack.decode(message.data):
                document, body, _ = decoder.decode(blob)
                await store(blob, document, body)
                await socket.send_bytes(bytes(8))
                for response in events:
                    await response.write(b"event: document\ndata: " + body.encode() + b"\n\n")

    applying = [asyncio.create_task(apply(other)) for other in others]
    app = web.Application()
    app.router.add_patch("/{id}", patch)
    app.router.add_get("/events", listen)
    app.router.add_get("/", meet)
    await asyncio.gather(serve(app), *applying)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
