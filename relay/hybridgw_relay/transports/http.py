"""The few things a relay says over plain HTTP: that it lives, that it can store, what an invite link is for.

Every other path gets one constant answer. Nothing names a version, a space or a number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

INVITE_PAGE: Final = """\
This is a HybridGW relay: it passes sealed data between the devices of its users and can read none of it.

Have you got an invite link? It is for the HybridGW program, not for a browser. On the device to connect, run

    hybridgw relay add 'THE WHOLE LINK'

with the link in quotes, as it was sent to you. It admits one person's devices, once. Devices that are paired
afterwards need no link.
"""
SECURITY_HEADERS: Final = {
    "Server": "hybridgw",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class HttpPages:
    """Handlers of the plain paths."""

    def __init__(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application."""
        return [web.get("/", self.invite), web.get("/health", self.health), web.get("/health/ready", self.ready)]

    async def health(self, _request: web.Request) -> web.Response:
        """The process answers."""
        return web.json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """It can store, too."""
        ready = await self._is_ready()
        return web.json_response({"status": "ok" if ready else "unavailable"}, status=200 if ready else 503)

    async def invite(self, _request: web.Request) -> web.Response:
        """For a person who opened an invite link in a browser; the secret in its fragment did not come here."""
        return web.Response(text=INVITE_PAGE)


@web.middleware
async def constant_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Unknown paths, methods and anything that fails: the status and nothing else."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=f"{error.status}\n")


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """For every response; also replaces the header that would name our library's version."""
    response.headers.update(SECURITY_HEADERS)
