"""The raw limit for footprint: aiohttp serving /health, a SQLite file open, nothing else.

python -m bench.bare_daemon FILE PORT
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys

from aiohttp import web


async def main(path: str, port: int) -> None:
    """Serve until killed."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS document(rid INTEGER PRIMARY KEY, body TEXT)")

    async def health(_request: web.Request) -> web.Response:
        return web.Response(body=b'{"status":"ok"}', content_type="application/json")

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
