"""The raw limit for stored messages: aiohttp on uvloop, group commit, and the rows of a message; nothing else.

A message is answered, and shown to its listener, once its rows are on the disk; the listener's acknowledgements are
written too. No token, no targets, no programs that come and go, no window, no history to ask for.
    python -m bench.bare_message_hub FILE KIND   prints the port
KIND `same`: the rows, keys and indexes that the product has for a message between two programs here, and the changes
of an acknowledgement; `one`: one row of a message, and no acknowledgements.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import struct
import sys
import time

import msgspec
import uvloop
from aiohttp import WSMsgType, web

from .committer import Committer

SAME = """
CREATE TABLE message(
  rid INTEGER PRIMARY KEY, sender BLOB, id BLOB, kind TEXT, name TEXT, place TEXT, type TEXT, client TEXT,
  principal TEXT, priority INT, created_ms INT, expires_ms INT, digest BLOB, reply BLOB, body BLOB, gap INT,
  is_open INT, UNIQUE(id, sender));
CREATE INDEX message_type ON message(type, rid);
CREATE INDEX message_end ON message(expires_ms) WHERE is_open = 1;
CREATE TABLE delivery(
  rid INT, recipient BLOB, priority INT, stream INT, seq INT, state TEXT, at_ms INT, next_ms INT, tries INT, error TEXT,
  changes INT, PRIMARY KEY(rid, recipient)) WITHOUT ROWID;
CREATE INDEX delivery_waiting ON delivery(rid) WHERE recipient = x'' AND state = 'delivered';
CREATE TABLE copy(listener INT, priority INT, rid INT, PRIMARY KEY(listener, priority, rid)) WITHOUT ROWID;
"""
ONE = "CREATE TABLE message(rid INTEGER PRIMARY KEY, id BLOB, body BLOB);"
MESSAGE = (
    "INSERT INTO message VALUES(?, x'', ?, 'client', 'reader', '', 'bench', 'local_install/a', 'owner', 1, ?, ?, ?, "
    "x'', ?, 0, 1)"
)
DELIVERY = "INSERT INTO delivery VALUES(?, x'', 1, 0, 0, 'delivered', ?, NULL, 0, NULL, 0)"


async def main(path: str, is_same: bool) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    committer = Committer(path, SAME if is_same else ONE)
    topics: dict[str, Listener] = {}
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    rid = 0

    async def store(own: Listener, number: int, topic: str, data: object) -> None:
        nonlocal rid
        rid += 1
        at, mid, body, now_ms = rid, os.urandom(16), encode(data), time.time_ns() // 1_000_000

        def work(connection: sqlite3.Connection) -> None:
            if is_same:
                connection.execute(MESSAGE, (at, mid, now_ms, now_ms + 604_800_000, mid, body))
                connection.execute(DELIVERY, (at, now_ms))
                connection.execute("INSERT INTO copy VALUES(1, 1, ?)", (at,))
            else:
                connection.execute("INSERT INTO message VALUES(?, ?, ?)", (at, mid, body))

        await committer.commit(work)
        own.put(b'{"type":"result","id":%d,"result":{"id":%d}}' % (number, at))
        if topic in topics:
            topics[topic].put(b'{"type":"event","event":"message","data":{"id":"%036d","body":%b}}' % (at, body))

    async def acknowledge(ids: list[str]) -> None:
        now_ms = time.time_ns() // 1_000_000

        def work(connection: sqlite3.Connection) -> None:
            for at in map(int, ids):
                connection.execute("DELETE FROM copy WHERE listener = 1 AND priority = 1 AND rid = ?", (at,))
                connection.execute(
                    "UPDATE delivery SET state = 'handled', at_ms = ?, changes = 1 WHERE rid = ? AND recipient = x''",
                    (now_ms, at),
                )

        await committer.commit(work)

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=2**20)
        await socket.prepare(request)
        own = Listener(loop, request.transport)  # type: ignore[arg-type]
        tasks: set[asyncio.Task[None]] = set()
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            frame = decode(message.data)
            if frame["type"] == "listen":
                topics[frame["topic"]] = own
                await socket.send_str('{"type":"ok"}')
                continue
            work = (
                acknowledge(frame["ids"]) if frame["type"] == "ack"
                else store(own, frame["id"], frame["topic"], frame["data"])
            )  # fmt: skip
            task = loop.create_task(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return socket

    server = web.Server(handle, access_log=None)
    listening = await loop.create_server(server, "127.0.0.1", 0, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


class Listener:
    """One socket's queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        self._loop, self._transport = loop, transport
        self._queue: list[bytes] = []

    def put(self, raw: bytes) -> None:
        """One frame, written with the others of this turn."""
        if not self._queue:
            self._loop.call_soon(self._flush)
        size = len(raw)
        head = struct.pack(">BB", 0x81, size) if size < 126 else struct.pack(">BBH", 0x81, 126, size)
        self._queue.append(head + raw)

    def _flush(self) -> None:
        data, self._queue = b"".join(self._queue), []
        self._transport.write(data)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2] == "same"))
