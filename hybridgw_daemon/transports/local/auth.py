"""Who may speak to the daemon at all, judged before any path is looked at: Host, Origin, Sec-Fetch-Site; the token.

Being on loopback proves nothing: any page in any browser of this machine can send requests there, and after DNS
rebinding read the answers. Matches are exact. Source: docs/adr/0007-local-api-auth.md.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from hybridgw_protocol.runtime import Secret

from ...services.ports import Principal

CLIENT_HEADER: Final = "X-HybridGW-Client"  # needed when an Origin is present: no form and no simple request can set it
_KNOWN_ADDRESSES: Final = 1_000  # judged ones that are remembered
OWNER: Final = Principal("owner", is_owner=True)


class Verdict(Enum):
    """What stands before the request is looked at."""

    ADMITTED = auto()
    MISDIRECTED = auto()  # 421: the Host is not ours
    FORBIDDEN = auto()  # 403: from a page that was not admitted


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AddressFilter:
    """Networks whose programs may connect. allow: none: all; deny: wins over allow."""

    allow: Sequence[Network] = ()
    deny: Sequence[Network] = ()
    _known: dict[str | None, bool] = field(default_factory=dict, compare=False)

    def admits(self, address: str | None) -> bool:
        """May the program at this address be heard. None: it has none, as on a local socket."""
        if not self.allow and not self.deny:
            return True
        found = self._known.get(address)
        if found is None:
            if len(self._known) > _KNOWN_ADDRESSES:
                self._known.clear()
            found = self._known[address] = address is None or self._judge(address)
        return found

    def _judge(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if parsed.version == 6 and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self.deny):
            return False
        return not self.allow or any(parsed in network for network in self.allow)


EVERYBODY: Final = AddressFilter()


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
        if origin is not None and (origin != f"http://{host}" or not headers.get(CLIENT_HEADER)):
            return Verdict.FORBIDDEN
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return Verdict.FORBIDDEN
        return Verdict.ADMITTED

    def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Who shows this credential; None: none, or not a valid one. In constant time."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token):
            return OWNER
        return None
