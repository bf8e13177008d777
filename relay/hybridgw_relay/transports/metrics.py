"""`/metrics` of a relay, on a port of its own that the internet does not reach; every other path is not there.

On loopback the Host is looked at, for a page in a browser of this machine must not read it by a name of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from aiohttp import web

from .http import add_headers, constant_errors


def metrics_application(text: Callable[[], tuple[str, str]], host: str, port: Callable[[], int]) -> web.Application:
    """Args: text: body and content type; host: where it listens; port: known once it listens."""
    is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback

    async def metrics(request: web.Request) -> web.Response:
        ours = {f"{name}:{port()}" for name in ("127.0.0.1", "localhost", "[::1]")}
        if is_loopback and request.headers.get("Host", "").lower() not in ours:
            raise web.HTTPMisdirectedRequest
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden
        body, kind = text()
        return web.Response(body=body.encode(), headers={"Content-Type": kind})

    application = web.Application(middlewares=[constant_errors], client_max_size=1024)
    application.add_routes([web.get("/metrics", metrics)])
    application.on_response_prepare.append(add_headers)
    return application
