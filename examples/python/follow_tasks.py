"""Print open tasks and what becomes of them, until Ctrl-C. `--until-done ID` ends when that task is done."""

import argparse
import asyncio

from hybridgw_client.aio import connect
from hybridgw_protocol.errors import HybridGWError


async def follow(until_done: str | None) -> None:
    """Print each change as a line."""
    async with connect() as db:
        async for change in db.watch("tasks", filter={"status": "open"}):
            match change.kind:
                case "initial" | "changed":
                    print("open", change.id, change.data["title"], flush=True)
                case "left" | "deleted":
                    print("done", change.id, flush=True)
                    if change.id == until_done:
                        return
                case "ready":
                    print("-- that is all; now what changes", flush=True)
                case "reset":
                    print("-- the daemon was started again; everything anew", flush=True)


def main() -> None:
    """Errors say what to do, so their text is enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--until-done", metavar="ID")
    try:
        asyncio.run(follow(parser.parse_args().until_done))
    except HybridGWError as error:
        raise SystemExit(error.message) from error


if __name__ == "__main__":
    main()
