"""Server-sent events: the change feed over HTTP. The id of an event is its place, so a browser resumes by itself.

Source: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.localapi import Command, Subscribe

from ...services.events import Event, Subscription
from .cors import GRANTED

RETRY_MS: Final = 1_000


def resumed(command: Command, headers: Mapping[str, str]) -> Command:
    """The command with the place of a reader that returns. Raises: BadValue: not one of our ids."""
    last = headers.get("Last-Event-ID")
    if last is None or not isinstance(command, Subscribe):
        return command
    if len(last) > 64:
        raise BadValue("Last-Event-ID is not an id of this stream.")
    return msgspec.structs.replace(command, since=last)


def formed(events: Sequence[Event], epoch: str) -> bytes:
    """Events as they go over the wire."""
    parts: list[bytes] = []
    for event in events:
        if event.seq is not None:
            parts.append(f"id: {epoch}-{event.seq}\n".encode())
        parts += (b"event: ", event.kind.encode(), b"\ndata: ", event.data, b"\n\n")
    return b"".join(parts)


async def serve(
    request: web.BaseRequest,
    subscription: Subscription,
    request_id: str,
    heartbeat_s: float,
    slow_s: float,
    *,
    until_ms: int | None = None,
) -> web.StreamResponse:
    """Send events until either side ends it. A reader that takes nothing for *slow_s* is cut off; it may resume.

    Args: until_ms: when the credential ends, and the stream with it.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Origin",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Server": "hybridgw",
            "X-Request-ID": request_id,
            **request.get(GRANTED, {}),
        }
    )
    response.force_close()
    end: asyncio.TimerHandle | None = None
    if until_ms is not None:
        end = asyncio.get_running_loop().call_later(max(0.0, until_ms / 1000 - time.time()), subscription.close)
    try:
        await response.prepare(request)
        async with asyncio.timeout(slow_s):
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
        async for part in _with_heartbeat(subscription, heartbeat_s):
            async with asyncio.timeout(slow_s):
                await response.write(part)
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        subscription.close()
        if end is not None:
            end.cancel()
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response


async def _with_heartbeat(subscription: Subscription, heartbeat_s: float) -> AsyncIterator[bytes]:
    """Parts of the stream; a comment when nothing happens for a while, which also finds readers that are gone."""
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                events = await anext(subscription)
        except TimeoutError:
            yield b":\n\n"
            continue
        except StopAsyncIteration:
            return
        yield formed(events, subscription.epoch)
