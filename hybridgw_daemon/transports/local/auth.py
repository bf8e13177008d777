"""Who may speak to the daemon at all, judged before any path is looked at: Host, Origin, Sec-Fetch-Site; the token.

Being on loopback proves nothing: any page in any browser of this machine can send requests there, and after DNS
rebinding read the answers. Matches are exact. An origin is admitted when a person has let it in, a key names it, or the
operator has; being admitted gives no right, only the chance to show a credential, and a credential counts only from its
own origin. Sources: docs/adr/0007-local-api-auth.md, docs/adr/0014-local-tokens-and-grants.md.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from hybridgw_protocol.runtime import Secret

from ...core.origins import kind_of
from ...services.credentials import Credentials
from ...services.ports import NOBODY, OWNER, Principal

CLIENT_HEADER: Final = "X-HybridGW-Client"  # needed when an Origin is present: no form and no simple request can set it
_KNOWN_ADDRESSES: Final = 1_000  # judged ones that are remembered
_FROM_US: Final = frozenset({"none", "same-origin"})
_SITES: Final = frozenset({"none", "same-origin", "same-site", "cross-site"})


class Verdict(Enum):
    """What stands before the request is looked at. Only ADMITTED opens anything but the calls to be let in."""

    ADMITTED = auto()
    ASKING = auto()  # from an origin that nobody has let in: it may ask, and do nothing else
    MISDIRECTED = auto()  # 421: the Host is not ours
    FORBIDDEN = auto()  # 403: from a page that can never be admitted, or that hides where it comes from


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
    """Judges requests to one address."""

    def __init__(self, token: Secret[str], port: int, credentials: Credentials | None = None) -> None:
        """Args: token: of the owner; port: the one we listen on; credentials: of everybody else."""
        self._token = token.reveal().encode()
        self._credentials = credentials
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())
        self._own = frozenset(f"http://{host}" for host in self._hosts)

    def judge(self, headers: Mapping[str, str]) -> Verdict:
        """By where the request was sent to and where it comes from. Args: headers: names in any case."""
        host = headers.get("Host")
        if host is None or host not in self._hosts:
            if host is None or host.lower() not in self._hosts:
                return Verdict.MISDIRECTED
            host = host.lower()
        origin = headers.get("Origin")
        site = headers.get("Sec-Fetch-Site", "none")
        if origin is None or origin == f"http://{host}":
            # A browser leaves the Origin out of some requests of foreign pages; then only this header tells.
            if site not in _FROM_US or (origin is not None and not (_is_deliberate(headers) or _is_part(headers))):
                return Verdict.FORBIDDEN
            return Verdict.ADMITTED
        if site not in _SITES or not _is_deliberate(headers):
            return Verdict.FORBIDDEN
        if self._credentials is None:
            return Verdict.FORBIDDEN
        if self._credentials.admits(origin):
            return Verdict.ADMITTED
        return Verdict.FORBIDDEN if kind_of(origin) is None else Verdict.ASKING

    def foreign_origin(self, headers: Mapping[str, str]) -> str | None:
        """The Origin of a request that was judged, None if it has none or it is our own."""
        origin = headers.get("Origin")
        return None if origin is None or origin in self._own else origin

    def holder(self, token: str, origin: str | None) -> Principal | None:
        """Who shows this token; None: nobody, or not from there. In constant time. Args: origin: the header's."""
        if origin in self._own:
            origin = None
        if hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            return OWNER if origin is None else None
        return None if self._credentials is None else self._credentials.holder(token, origin)

    def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Who shows this credential; None: none, or not a valid one."""
        token = bearer(headers)
        return None if token is None else self.holder(token, headers.get("Origin"))

    def nobody(self, headers: Mapping[str, str]) -> Principal:
        """Whoever sends this, without any right; for the calls that are open."""
        return Principal(NOBODY, is_owner=False, origin=self.foreign_origin(headers))


def bearer(headers: Mapping[str, str]) -> str | None:
    """What an Authorization header of our scheme carries."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Does a browser ask before it sends the request itself."""
    return method == "OPTIONS" and "Access-Control-Request-Method" in headers and "Origin" in headers


def _is_deliberate(headers: Mapping[str, str]) -> bool:
    """Could only a script have sent it that a preflight has asked for: it has our header, or is such a preflight.

    A WebSocket cannot have the header; its handshake is judged by the origin alone, which no page can forge.
    """
    if headers.get(CLIENT_HEADER) or "Access-Control-Request-Method" in headers:
        return True
    return headers.get("Upgrade", "").lower() == "websocket"


def _is_part(headers: Mapping[str, str]) -> bool:
    """Does our own page load a further script of its own, as a module. Some browsers send an Origin with that.

    Only a browser can set these headers, and it does so for reading a script.
    """
    return headers.get("Sec-Fetch-Site") == "same-origin" and headers.get("Sec-Fetch-Dest") == "script"
