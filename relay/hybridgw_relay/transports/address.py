"""Whose connection this is: the address limits count against."""

from __future__ import annotations

from aiohttp import web


def client_address(request: web.Request, trusted_proxies: frozenset[str]) -> str:
    """The peer's address; what X-Forwarded-For says only if the peer is a proxy that the configuration names.

    Of several the last one that is no proxy of ours counts: what stands before it was written by the client.
    """
    peer = request.remote or ""
    if peer not in trusted_proxies:
        return peer
    for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        address = hop.strip()
        if address and address not in trusted_proxies:
            return address[:64]
    return peer
