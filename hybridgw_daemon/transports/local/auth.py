"""Who may speak to the daemon at all, judged before any path is looked at: Host, Origin, Sec-Fetch-Site; the token.

Being on loopback proves nothing: any page in any browser of this machine can send requests there, and after DNS
rebinding read the answers. Matches are exact. Source: docs/adr/0007-local-api-auth.md.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from hybridgw_protocol.runtime import Secret

from ...services.ports import Principal

CLIENT_HEADER: Final = "X-HybridGW-Client"  # needed when an Origin is present: no form and no simple request can set it
OWNER: Final = Principal("owner", is_owner=True)


class Verdict(Enum):
    """What stands before the request is looked at."""

    ADMITTED = auto()
    MISDIRECTED = auto()  # 421: the Host is not ours
    FORBIDDEN = auto()  # 403: from a page that was not admitted


class Gate:
    """Judges requests to one address. Args: token: of the owner; port: the one we listen on."""

    def __init__(self, token: Secret[str], port: int) -> None:
        self._token = token.reveal().encode()
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())

    def judge(self, headers: Mapping[str, str]) -> Verdict:
        """By where the request was sent to and where it comes from. Args: headers: names in any case."""
        host = headers.get("Host")
        if host is None or host not in self._hosts:
            if host is None or host.lower() not in self._hosts:
                return Verdict.MISDIRECTED
            host = host.lower()
        origin = headers.get("Origin")
        if origin is not None and (
            origin != f"http://{host}"
            or not (headers.get(CLIENT_HEADER) or headers.get("Upgrade", "").lower() == "websocket")
        ):  # a page cannot set a header on a WebSocket, nor `Upgrade` on anything else
            return Verdict.FORBIDDEN
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return Verdict.FORBIDDEN
        return Verdict.ADMITTED

    def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Who shows this credential; None: none, or not a valid one. In constant time."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        return self.holder(token, headers.get("Origin")) if scheme.lower() == "bearer" else None

    def holder(self, token: str, origin: str | None) -> Principal | None:
        """Who holds this token; None: nobody. In constant time. Args: origin: of the page that shows it."""
        del origin  # the owner's token counts from every place that was admitted
        return OWNER if hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token) else None

    def scopes(self, principal: Principal) -> list[str]:
        """What a principal may do, for itself to know."""
        return ["owner", "admin"] if principal.is_owner else []
