"""The asynchronous client: one WebSocket that comes back by itself, live queries, topics, writes that wait.

    async with connect() as db:
        tasks = db.collection("tasks")
        await tasks.create({"title": "Buy milk"})
        async for change in db.watch("tasks", filter={"status": "open"}):
            ...

It needs aiohttp, and the package loads it only when this module is imported. One Database belongs to one event loop.
Errors are those of `hybridgw_protocol.errors`, as in the synchronous client. Page: docs/reference/python-client.md.
"""

from .collection import Collection, Query
from .database import Database, State, connect
from .link import Patience
from .live import Change, LiveView, Watch
from .messages import Inbox, Received
from .outbox import Rejection, Write
from .place import login
from .topics import Listener, Message

__all__ = [
    "Change",
    "Collection",
    "Database",
    "Inbox",
    "Listener",
    "LiveView",
    "Message",
    "Patience",
    "Query",
    "Received",
    "Rejection",
    "State",
    "Watch",
    "Write",
    "connect",
    "login",
]
