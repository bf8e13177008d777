"""What browsers are told: which page may read an answer, and what it may send. Source: WHATWG Fetch, "CORS protocol".

Always the one exact origin that asked, never `*`, never credentials: there are no cookies. The headers for private and
local networks answer drafts that browsers have sent at times; they are given to admitted origins only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web

GRANTED: Final = web.RequestKey("granted", dict[str, str])  # on a request: the headers that its answer has
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
HEADERS: Final = (
    "Authorization", "Content-Type", "If-Match", "If-None-Match", "Last-Event-ID", "X-HybridGW-Client",
    "X-HybridGW-Proof", "X-Request-ID",
)  # fmt: skip
EXPOSED: Final = "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-ID"
MAX_AGE_S: Final = 600  # Chromium's own bound is 7,200; a revoked origin should not be remembered for long


class Cors:
    """Answers for admitted origins. Args: methods, headers: as configured."""

    def __init__(self, methods: Iterable[str] = METHODS, headers: Iterable[str] = HEADERS) -> None:
        self.methods: Final = frozenset(methods)
        self._methods = ", ".join(methods)
        self._headers = ", ".join(headers)

    def allows(self, method: str) -> bool:
        """May a page use this method."""
        return method in self.methods

    def answer(self, origin: str) -> dict[str, str]:
        """Headers of every answer to a page of this origin."""
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}

    def preflight(self, origin: str, asked: Mapping[str, str], *, admitted: bool) -> dict[str, str]:
        """Headers of the answer to a preflight. Args: admitted: not only to ask to be let in."""
        found = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": self._methods if admitted else "GET, POST",
            "Access-Control-Allow-Headers": self._headers,
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        for network in ("Private", "Local"):
            if admitted and asked.get(f"Access-Control-Request-{network}-Network", "").lower() == "true":
                found[f"Access-Control-Allow-{network}-Network"] = "true"
        return found
