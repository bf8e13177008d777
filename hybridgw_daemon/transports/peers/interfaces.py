"""The network interfaces of this machine: which of them may be used for discovery, and when they changed.

Containers, virtual machines and VPNs bring interfaces of their own, on which no device of a person is to be found and
whose announcements would only puzzle others: they are skipped unless a person names them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import ifaddr

POLL_S: Final = 3.0  # between two looks, where the system does not tell
TOLD_POLL_S: Final = 30.0  # where it does: reading all interfaces costs more than the rest of a daemon at rest
SETTLE_S: Final = 0.2  # one change comes as a handful of notices
MAX_INTERFACES: Final = 8  # that are used at one time; each costs some sockets and a cache
MAX_ADDRESSES: Final = 16  # of one interface that are looked at

# By name on Unix, by description on Windows. What is not here is used.
SKIPPED: Final = (
    "lo", "lo0", "docker*", "veth*", "br-*", "virbr*", "vnet*", "lxc*", "lxd*", "podman*", "cni*", "flannel*", "cali*",
    "tun*", "tap*", "utun*", "wg*", "ppp*", "ipsec*", "gif*", "stf*", "tailscale*", "zt*", "nordlynx*", "proton*",
    "vmnet*", "vboxnet*", "awdl*", "llw*", "anpi*", "vethernet*", "*virtualbox*", "*vmware*", "*hyper-v*",
    "*tap-windows*", "*wireguard*", "*zerotier*", "*loopback*",
)  # fmt: skip
VPNS: Final = ("tun*", "utun*", "wg*", "ppp*", "ipsec*", "tailscale*", "zt*", "nordlynx*", "proton*", "*tap-windows*",
               "*wireguard*", "*zerotier*")  # fmt: skip

InterfaceAddress = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Choice:
    """Which interfaces count, by name, with `*` and `?`. allow: only these, and of these also what is skipped
    otherwise; empty: all but SKIPPED. deny: never these."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def takes(self, *names: str) -> bool:
        """Whether an interface counts that goes by these names."""
        if matches(names, self.deny):
            return False
        return matches(names, self.allow) if self.allow else not matches(names, SKIPPED)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface that is up. index: the number IPv6 uses; addresses: with the network each is in, IPv4 first;
    description: what Windows shows instead of the name."""

    name: str
    index: int
    addresses: tuple[InterfaceAddress, ...]
    description: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Its addresses as text, without zones."""
        return tuple(str(address.ip) for address in self.addresses)

    def is_vpn(self) -> bool:
        """Does its name say that it leads into a tunnel."""
        return matches((self.name, self.description), VPNS)

    def reaches(self, host: str) -> bool:
        """Is this IP address one of the networks that the interface is in. IPv6 link-local: always."""
        ip = ipaddress.ip_address(host.partition("%")[0])
        return any(ip in address.network for address in self.addresses if address.version == ip.version)


def matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Does one of the names fit one of the patterns; case does not count."""
    patterns = [pattern.casefold() for pattern in patterns]
    return any(fnmatchcase(name.casefold(), pattern) for name in names if name for pattern in patterns)


def interfaces() -> list[Interface]:
    """All interfaces that are up and have an address, loopback among them, by name."""
    found = []
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:  # a machine without any
        return []
    for adapter in adapters:
        name = adapter.name if isinstance(adapter.name, str) else adapter.name.decode(errors="replace")
        addresses = tuple(sorted(_addresses(adapter)[:MAX_ADDRESSES], key=lambda a: (a.version, int(a.ip))))
        if addresses and adapter.index is not None and _is_up(name):
            found.append(Interface(name, adapter.index, addresses, adapter.nice_name if os_names_by_id() else ""))
    return sorted(found, key=lambda interface: interface.name)


def usable(choice: Choice, of: Sequence[Interface] | None = None) -> list[Interface]:
    """The interfaces for discovery now, at most MAX_INTERFACES, in a fixed order. Args: of: these; None: of all."""
    found = [
        interface
        for interface in (interfaces() if of is None else of)
        if choice.takes(interface.name, interface.description)
        and not all(address.ip.is_loopback for address in interface.addresses)
    ]
    return found[:MAX_INTERFACES]


def os_names_by_id() -> bool:
    """Windows: the name of an interface is a GUID, and people know it by its description."""
    return sys.platform == "win32"


def _addresses(adapter: ifaddr.Adapter) -> list[InterfaceAddress]:
    found: list[InterfaceAddress] = []
    for ip in adapter.ips:
        text = ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip
        with contextlib.suppress(ValueError):  # of a family of its own
            found.append(ipaddress.ip_interface(f"{text.partition('%')[0]}/{ip.network_prefix}"))
    return found


def _is_up(name: str) -> bool:
    """An interface without a link keeps its IPv4 address. Where the system does not say: yes."""
    try:
        return Path(f"/sys/class/net/{name}/operstate").read_text().strip() in ("up", "unknown")
    except OSError:
        return True


# ---- changes ---------------------------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def noticing() -> AsyncIterator[tuple[asyncio.Event, float]]:
    """An event that is set when an interface or address may have changed; the one who waits clears it. And how long, in
    seconds, until it is time to look all the same.

    Linux tells at once (rtnetlink). Elsewhere the event is never set, and who waits looks again every POLL_S.
    """
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    notices = _open_notices()
    if notices is None:
        yield event, POLL_S
        return

    def read() -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # ENOBUFS: too many notices, which is one as well
            while notices.recv(65536):
                pass
        event.set()

    loop.add_reader(notices, read)
    try:
        yield event, TOLD_POLL_S
    finally:
        loop.remove_reader(notices)
        notices.close()


def _open_notices() -> socket.socket | None:
    family: int | None = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    groups = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
    notices = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        notices.bind((0, groups))
        notices.setblocking(False)
    except OSError:  # a sandbox may forbid it
        notices.close()
        return None
    return notices


async def is_told(event: asyncio.Event) -> bool:
    """Wait until the system tells of a change, at most POLL_S. Returns whether it did."""
    try:
        async with asyncio.timeout(POLL_S):
            await event.wait()
    except TimeoutError:
        return False
    await asyncio.sleep(SETTLE_S)
    event.clear()
    return True
