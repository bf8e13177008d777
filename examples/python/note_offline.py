"""Note down lines from stdin; lines that come while the daemon is away are kept and sent in order when it is back."""

import asyncio
import sys
from collections.abc import AsyncIterator

from hybridgw_client.aio import Rejection, State, connect


def say(state: State) -> None:
    """Where things stand, on stderr."""
    print(f"-- {state.status}", file=sys.stderr, flush=True)


def refused(rejection: Rejection) -> None:
    """A kept line that the daemon did not take."""
    print(f"-- refused: {rejection.write.content}: {rejection.error}", file=sys.stderr, flush=True)


async def lines() -> AsyncIterator[str]:
    """Lines of stdin, without holding up the event loop."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.rstrip("\n")


async def main() -> None:
    """Ends when stdin ends and everything was sent."""
    async with connect(offline_queue=1_000, on_state=say, on_rejected=refused) as db:
        notes = db.collection("notes")
        async for line in lines():
            document = await notes.create({"text": line})
            print("kept" if document.get("queued") else "stored", document["id"], flush=True)
        await db.flushed()


asyncio.run(main())
