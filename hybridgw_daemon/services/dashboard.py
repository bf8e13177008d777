"""The way into the dashboard: a link that works once, for five minutes, and the session it is exchanged for.

A page cannot read the endpoint file, so whoever can (the command line) asks for a link and opens it. What opens the
dashboard stands behind the `#`, which a browser sends to nobody; the page exchanges it for a token at once and takes it
out of the address. Links and sessions live in memory: both end with the daemon, as the owner's token does. A link that
was used before its person came is told as that, and stands in the audit log.
Source: docs/adr/0025-dashboard.md.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from hybridgw_protocol.errors import Forbidden, LinkOver
from hybridgw_protocol.localapi_access import CreateDashboardLink, DashboardLink, DashboardSession, OpenDashboard

from .credentials import DASHBOARD_PREFIX
from .issuing import Issuing
from .ports import Principal

LINK_MS: Final = 5 * 60_000
SESSION_MS: Final = 12 * 3_600_000  # a day's work
MOST_LINKS: Final = 64  # with used ones, which are kept to say so; the oldest is forgotten
AGAIN: Final = "Get another one: hybridgw dashboard"


@dataclass(slots=True)
class _Link:
    expires_ms: int
    is_used: bool = False


class DashboardService:
    """What `/api/auth/dashboard` does."""

    def __init__(self, by: Issuing) -> None:
        self._by = by
        self._links: dict[bytes, _Link] = {}  # by digest of the code, oldest first

    async def link(self, _principal: Principal, _command: CreateDashboardLink) -> DashboardLink:
        """A new link."""
        code = self._secret()
        while len(self._links) >= MOST_LINKS:
            del self._links[next(iter(self._links))]
        expires_ms = self._by.clock() + LINK_MS
        self._links[_digest(code)] = _Link(expires_ms)
        return DashboardLink(path=f"/#link={code}", expires_ms=expires_ms)

    async def open(self, principal: Principal, command: OpenDashboard) -> DashboardSession:
        """A session for what a link held. Raises: LinkOver: it opens nothing, any more; Forbidden: a foreign page."""
        if principal.origin is not None:
            raise Forbidden("Only the dashboard itself opens its links.")
        link, now_ms = self._links.get(_digest(command.code)), self._by.clock()
        if link is None or link.is_used or link.expires_ms <= now_ms:
            self._by.audit.refused("dashboard.refused")
            if link is None:
                raise LinkOver(
                    f"This link is not known: it was copied in part, or the daemon was started anew since. {AGAIN}"
                )
            if link.is_used:
                raise LinkOver(
                    "This link was used already, and works once. If that was not you, somebody on this machine was "
                    f"quicker: hybridgw audit shows when, hybridgw down ends every session. {AGAIN}",
                    reason="used",
                )
            raise LinkOver(f"This link is older than {LINK_MS // 60_000} minutes. {AGAIN}", reason="expired")
        link.is_used = True  # before anything is waited for: nobody else gets in with it meanwhile
        token, name = DASHBOARD_PREFIX + self._secret(), self._by.entropy(4).hex()
        await self._by.database.write(
            lambda tx: self._by.audit.write(tx, "dashboard.opened", principal=f"dashboard:{name}")
        )
        self._by.credentials.put_dashboard(token, name, now_ms + SESSION_MS)
        return DashboardSession(token=token, expires_ms=now_ms + SESSION_MS)

    def _secret(self) -> str:
        return urlsafe_b64encode(self._by.entropy(32)).decode().rstrip("=")


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
