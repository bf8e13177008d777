"""The raw limits for a relay: the same frames through a bare hub, and the same batches without any sockets.

The hub decodes a push, commits the blobs with group commit, answers. No keys, no signatures, no chain, no quotas, no
fan-out. The other limit checks every signature and commits the rows on one thread.
    python -m bench.bare_relay FILE   prints the port
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Sequence

import msgspec
import uvloop
from aiohttp import web

from hybridgw_protocol.batch import parse_batch, verify_batch

from .committer import GROUP, Committer, Work
from .hub import serve

SCHEMA = """
CREATE TABLE IF NOT EXISTS batch(
  pos INTEGER PRIMARY KEY, sid INT, log INT, n INT, at_ms INT, blob BLOB, UNIQUE(sid, log, n));
"""
INSERT = "INSERT INTO batch(sid, log, n, at_ms, blob) VALUES(?, ?, ?, ?, ?)"
OUTSTANDING = 64


async def main(path: str) -> None:
    """Serve until killed."""
    committer = Committer(path, SCHEMA, cache_kib=8 * 1024)
    decoder = msgspec.msgpack.Decoder(tuple[int, int, dict[str, list[bytes]]])
    encoder = msgspec.msgpack.Encoder()
    connections = 0

    async def connection(request: web.Request) -> web.WebSocketResponse:
        nonlocal connections
        connections += 1
        own, n = connections, 0
        socket = web.WebSocketResponse(max_msg_size=2**21, compress=False)
        await socket.prepare(request)
        waiting: asyncio.Queue[tuple[int, int, asyncio.Task[None]]] = asyncio.Queue(OUTSTANDING)

        async def answer() -> None:
            while True:
                number, at, task = await waiting.get()
                await task
                await socket.send_bytes(encoder.encode((0x11, number, {"vv": [[own, at, bytes(16)]]})))

        answering = asyncio.create_task(answer())
        try:
            async for message in socket:
                _, number, content = decoder.decode(message.data)
                rows = []
                for blob in content["b"]:
                    n += 1
                    rows.append((1, own, n, 0, blob))
                await waiting.put((number, n, asyncio.ensure_future(committer.commit(_insert(rows)))))
        finally:
            answering.cancel()
        return socket

    app = web.Application()
    app.router.add_get("/hgw/1", connection)
    await serve(app)


def _insert(rows: list[tuple[int, int, int, int, bytes]]) -> Work:
    def work(connection: sqlite3.Connection) -> None:
        connection.executemany(INSERT, rows)

    return work


def without_sockets(path: str, batches: Sequence[tuple[bytes, bytes]]) -> float:
    """Batches per second through parse, signature check and group commit. Args: batches: (blob, public key)."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(SCHEMA)
    start = time.perf_counter()
    for k in range(0, len(batches), GROUP):
        rows = []
        for blob, public in batches[k : k + GROUP]:
            batch = parse_batch(blob)
            verify_batch(batch, public)
            rows.append((1, batch.log, batch.n, 0, blob))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
    took = time.perf_counter() - start
    connection.close()
    return len(batches) / took


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
