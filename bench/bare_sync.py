"""The raw limit for sync: the same rows from SQLite over a WebSocket into SQLite, and on, without the product.

The sender reads blobs of the size of sealed batches from its file and sends them, some hundred KiB in a frame; the
relay commits them and hands them on; the receiver commits them, inflates them and writes the documents in them. No
keys, no signatures, no merge, no clocks, no vectors; what a byte costs is the same: deflate, the rows, the commits.
    python -m bench.bare_sync relay FILE            prints the port
    python -m bench.bare_sync receiver FILE PORT N  prints `ready`, then the time at which N documents are durable
    python -m bench.bare_sync sender FILE PORT      prints the time at which it begins
Times are of the monotonic clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from .committer import Committer, Work
from .documents import Pair
from .hub import serve

BODY_BYTES = 64 * 1024  # before deflate, as the product fills its batches
OVERHEAD_BYTES = 114 + 4 + 16 + 64  # header, length, tag and signature of a sealed batch
FRAME_BYTES = 512 * 1024
WINDOW_BYTES = 4 * 1024 * 1024  # sent and not acknowledged
SCHEMA = """
CREATE TABLE IF NOT EXISTS batch(rid INTEGER PRIMARY KEY, n INT, blob BLOB, UNIQUE(n));
CREATE TABLE IF NOT EXISTS document(
  rid INTEGER PRIMARY KEY, cid INT, id BLOB, cl INT, seq INT, conflicts INT, body TEXT, clk BLOB, UNIQUE(cid, id));
CREATE INDEX IF NOT EXISTS document_seq ON document(seq);
"""
INSERT = "INSERT INTO document(cid, id, cl, seq, conflicts, body, clk) VALUES(1, ?, 1, ?, 0, ?, ?)"
CLK = bytes(26)  # a stamp, a log and a batch number, as the product keeps for a plain document


def write_blobs(path: Path, pairs: Sequence[Pair], *, first: int = 1) -> int:
    """Fill the sender's file with the documents (or changes) as blobs. Returns how many blobs there are now."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    rows: list[bytes] = []
    size, n = 0, first

    def flush() -> None:
        nonlocal size, n
        packer = zlib.compressobj(5, zlib.DEFLATED, -15)
        body = msgspec.msgpack.encode([msgspec.Raw(row) for row in rows])
        blob = packer.compress(body) + packer.flush() + os.urandom(OVERHEAD_BYTES)
        connection.execute("INSERT INTO batch(n, blob) VALUES(?, ?)", (n, blob))
        n += 1
        size = 0
        rows.clear()

    for document, data in pairs:
        row = msgspec.msgpack.encode((bytes.fromhex(document.replace("-", "")), data))
        rows.append(row)
        size += len(row)
        if size >= BODY_BYTES:
            flush()
    if rows:
        flush()
    connection.commit()
    connection.close()
    return n - 1


def write_documents(path: Path, pairs: Sequence[Pair]) -> None:
    """Fill the receiver's file with documents that changes will come for."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    compact = json.JSONEncoder(separators=(",", ":")).encode
    connection.executemany(
        INSERT, [(bytes.fromhex(d.replace("-", "")), i, compact(data), CLK) for i, (d, data) in enumerate(pairs)]
    )
    connection.commit()
    connection.close()


# ---- the three processes ---------------------------------------------------------------------------------------------
async def relay(path: str) -> None:
    """Commit every frame, tell its sender, hand it to everybody else."""
    committer = Committer(path, SCHEMA, cache_kib=8 * 1024)
    sockets: set[web.WebSocketResponse] = set()
    n = 0

    async def connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2**21, compress=False)
        await socket.prepare(request)
        sockets.add(socket)
        tasks: asyncio.Queue[tuple[asyncio.Task[Any], bytes]] = asyncio.Queue()

        async def answer() -> None:
            while True:
                task, data = await tasks.get()
                await task
                await socket.send_bytes(len(data).to_bytes(8, "big"))
                for other in sockets - {socket}:
                    await other.send_bytes(data)

        answering = asyncio.create_task(answer())
        try:
            async for message in socket:
                nonlocal n
                if len(message.data) == 8:  # an acknowledgement
                    continue
                blobs = msgspec.msgpack.decode(message.data)
                rows = [(n + k, blob) for k, blob in enumerate(blobs, 1)]
                n += len(blobs)
                tasks.put_nowait((asyncio.create_task(committer.commit(_insert(rows))), message.data))
        finally:
            sockets.discard(socket)
            answering.cancel()
        return socket

    app = web.Application()
    app.router.add_get("/", connection)
    await serve(app)


def _insert(rows: list[tuple[int, bytes]]) -> Work:
    def work(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO batch(n, blob) VALUES(?, ?)", rows)

    return work


async def receiver(path: str, port: int, count: int) -> None:
    """Commit what comes until there are so many documents (or changes)."""
    committer = Committer(path, SCHEMA, cache_kib=64 * 1024)
    done = batches = 0
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/", max_msg_size=2**21, compress=0) as socket,
    ):
        print("ready", flush=True)
        while done < count:
            blobs: list[bytes] = msgspec.msgpack.decode(await socket.receive_bytes())
            rows = [(batches + k, blob) for k, blob in enumerate(blobs, 1)]
            batches += len(blobs)
            first = done

            def work(connection: sqlite3.Connection, rows: list[tuple[int, bytes]] = rows, first: int = first) -> int:
                connection.executemany("INSERT INTO batch(n, blob) VALUES(?, ?)", rows)
                return apply_blobs(connection, [blob for _, blob in rows], first)

            done += await committer.commit(work)
            await socket.send_bytes(bytes(8))
    print(time.monotonic(), flush=True)


def apply_blobs(connection: sqlite3.Connection, blobs: Sequence[bytes], seq: int) -> int:
    """Write the documents that blobs hold. Returns how many."""
    seq += 1_000_000
    total = 0
    for blob in blobs:
        rows: list[tuple[bytes, dict[str, Any]]] = msgspec.msgpack.decode(zlib.decompress(blob[:-OVERHEAD_BYTES], -15))
        held: dict[bytes, tuple[int, str]] = {}
        for start in range(0, len(rows), 400):
            part = [row[0] for row in rows[start : start + 400]]
            marks = ",".join("?" * len(part))
            found = connection.execute(f"SELECT id, rid, body FROM document WHERE cid=1 AND id IN ({marks})", part)
            held |= {document: (rid, body) for document, rid, body in found}
        fresh, changed = [], []
        for document, data in rows:
            seq += 1
            if document in held:
                rid, body = held[document]
                merged = msgspec.json.encode(msgspec.json.decode(body) | data).decode()
                changed.append((seq, merged, CLK, rid))
            else:
                fresh.append((document, seq, msgspec.json.encode(data).decode(), CLK))
        connection.executemany(INSERT, fresh)
        connection.executemany("UPDATE document SET seq=?, body=?, clk=? WHERE rid=?", changed)
        total += len(rows)
    return total


async def sender(path: str, port: int) -> None:
    """Send everything in the file."""
    connection = sqlite3.connect(path)
    in_flight = 0
    news = asyncio.Event()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/", max_msg_size=2**21, compress=0) as socket,
    ):

        async def acks() -> None:
            nonlocal in_flight
            async for message in socket:
                in_flight -= int.from_bytes(message.data, "big")
                news.set()

        listening = asyncio.create_task(acks())
        print(time.monotonic(), flush=True)
        after = 0
        while True:
            frame: list[bytes] = []
            size = 0
            for rid, blob in connection.execute("SELECT rid, blob FROM batch WHERE rid > ? ORDER BY rid", (after,)):
                frame.append(blob)
                size, after = size + len(blob), rid
                if size >= FRAME_BYTES:
                    break
            if not frame:
                break
            data = msgspec.msgpack.encode(frame)
            in_flight += len(data)
            await socket.send_bytes(data)
            while in_flight > WINDOW_BYTES:
                news.clear()
                await news.wait()
        while in_flight:
            news.clear()
            await news.wait()
        listening.cancel()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["relay", file]:
            asyncio.run(relay(file))
        case ["receiver", file, at, documents]:
            asyncio.run(receiver(file, int(at), int(documents)))
        case ["sender", file, at]:
            asyncio.run(sender(file, int(at)))
