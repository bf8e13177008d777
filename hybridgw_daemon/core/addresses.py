"""Where another device may answer: an address and a port, as people write it and as sockets take it.

IPv6 is written in brackets when a port follows; a link-local address carries its zone (`fe80::1%eth0`), because it
means nothing without the interface it was seen on.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from hybridgw_protocol.errors import BadValue

DEFAULT_PORT: Final = 47801
MAX_HOST_CHARACTERS: Final = 253  # of a name in DNS
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_ZONE: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_HELP: Final = "Write it like 192.168.1.20:47801, [fd00::20]:47801 or nas.home:47801."

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Address(NamedTuple):
    """host: an IPv4 or IPv6 address (with its zone if it is link-local) or a name; port: 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """From what a person typed: `HOST:PORT`, or only `HOST` for the usual port.

    Raises: BadValue: not of that form, or nothing that one device could answer at.
    """
    host, port = _split(text.strip())
    ip = ip_of(host)
    if ip is not None:
        if ip.is_multicast or ip.is_unspecified or ip == ipaddress.IPv4Address("255.255.255.255"):
            raise BadValue(f"{host} is no address of one machine. {_HELP}", field="address")
        if isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local and ip.scope_id is None:
            raise BadValue(
                f"{host} is a link-local address: write the interface behind it, like [{host}%eth0]:{port}.",
                field="address",
            )
        return Address(str(ip), port)
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST_CHARACTERS or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        raise BadValue(f"{text.strip()[:60]!r} is no address of a machine. {_HELP}", field="address")
    return Address(name, port)


def ip_of(host: str) -> Ip | None:
    """The IP address a host is, None if it is a name or nothing at all."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    zone = getattr(ip, "scope_id", None)
    return None if zone is not None and not _ZONE.fullmatch(zone) else ip


def _split(text: str) -> tuple[str, int]:
    """Raises: BadValue: no port number where one should be."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise BadValue(f"{text[:60]!r} is no address of a machine. {_HELP}", field="address")
        port = rest[1:] if rest else None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:  # a bare IPv6 address, or no port
        host, port = text, None
    if port is None:
        return host, DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise BadValue(f"{port[:20]!r} is no port: a number from 1 to 65535. {_HELP}", field="address")
    return host, int(port)
