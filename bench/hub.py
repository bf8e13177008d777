"""The raw limit for local writes: a bare aiohttp hub that commits the same rows with group commit and nothing else.

POST with a JSON body: decode, insert a document row and a pending row, commit with `synchronous=FULL` on a writer
thread shared by all who wait, answer. No schema, no merge, no clock, no auth, no conflict detection, no sealing.
    python -m bench.hub PATH   prints the port
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys

import msgspec
from aiohttp import web

from .committer import Committer

SCHEMA = """
CREATE TABLE document(rid INTEGER PRIMARY KEY, id BLOB UNIQUE, seq INT, body TEXT);
CREATE TABLE pending(rid INTEGER PRIMARY KEY, ops BLOB);
"""


async def main(path: str) -> None:
    """Serve until killed."""
    committer = Committer(path, SCHEMA)
    seq = 0

    async def post(request: web.Request) -> web.Response:
        nonlocal seq
        data = msgspec.json.decode(await request.read())
        body, ops = msgspec.json.encode(data).decode(), msgspec.msgpack.encode(data)
        document = os.urandom(16)
        seq += 1
        row = (document, seq, body)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO document(id, seq, body) VALUES(?, ?, ?)", row)
            connection.execute("INSERT INTO pending(ops) VALUES(?)", (ops,))

        await committer.commit(work)
        return web.Response(body=b'{"id":"%s"}' % document.hex().encode(), content_type="application/json", status=201)

    app = web.Application()
    app.router.add_post("/api/data/{collection}", post)
    await serve(app)


async def serve(app: web.Application) -> None:
    """Listen on loopback, print the port, run until killed."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
