"""Multicast DNS on one network interface, by zeroconf: announcing and browsing, bounded whatever strangers send.

What the bounds are for: a device in a café hears everybody there. The library parses and keeps what it hears (at most
10,000 records); here are the bounds around it: datagrams per sender, instances, questions, addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hybridgw_protocol.token_bucket import Buckets

from ...core.addresses import Address
from .interfaces import Interface, InterfaceAddress, os_names_by_id

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICE: Final = "_hybridgw._tcp.local."
PAIRING_SERVICE: Final = "_hybridgw-pair._tcp.local."
VERSION: Final = b"1"
INSTANCE_BYTES: Final = 8

TTL_S: Final = 120  # of all records: one that was killed is forgotten soon, and others ask again each minute and a half
CLOSE_S: Final = 2.0  # for the goodbye
LATE_S: Final = (2.0, 4.0)  # a new IPv6 address cannot be used in its first seconds: what failed is tried again

MAX_STRANGERS: Final = 1_000  # instances of other spaces on one interface; with more of them somebody floods it
MAX_LOOKUPS: Final = 8  # questions about instances whose announcement was not complete, at one time
MAX_WAITING: Final = 64  # instances that wait for such a question; the rest is heard again or not
LOOKUP_MS: Final = 3_000
MAX_HEARD: Final = 16  # addresses of one announcement that are looked at
SENDER_PER_S: Final = 20.0  # datagrams of one sender; what is above is dropped unread. Ours are a handful per minute
SENDER_BURST: Final = 200.0  # a proxy that wakes up announces a whole house
MAX_SENDERS: Final = 256

_NAME: Final = re.compile(r"([0-9a-f]{16})\._hybridgw(?:-pair)?\._tcp\.local\.")
_IP_MULTICAST_ALL: Final = 49  # of Linux, see _only_own
_IPV6_MULTICAST_ALL: Final = 29


@contextlib.asynccontextmanager
async def opened(interface: Interface) -> AsyncIterator[AsyncZeroconf]:
    """Multicast DNS on one interface. Raises: OSError, RuntimeError: it is gone, or has no multicast."""
    library = await asyncio.to_thread(_load)
    zeroconf = library.AsyncZeroconf(interfaces=[str(address.ip) for address in spoken_on(interface)])
    _only_own(zeroconf.zeroconf.engine._listen_socket)  # now, before the loop reads from it
    late = None
    try:
        await zeroconf.zeroconf.async_wait_for_start()
        _guard(zeroconf.zeroconf, interface)
        late = asyncio.create_task(_late_addresses(zeroconf, interface), name=f"mdns-late-{interface.name}")
        yield zeroconf
    except library.Error as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    finally:
        if late is not None:
            late.cancel()
        closing = asyncio.ensure_future(zeroconf.async_close())
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            await asyncio.wait_for(closing, CLOSE_S)


class _Library(NamedTuple):
    AsyncZeroconf: type[AsyncZeroconf]
    Error: type[Exception]


@functools.cache
def _load() -> _Library:
    """The library costs 25 ms and 4 MB; a daemon that serves programs only never loads it."""
    from zeroconf import Error  # noqa: PLC0415 - heavy, and not needed to serve
    from zeroconf.asyncio import AsyncZeroconf  # noqa: PLC0415

    logging.getLogger("zeroconf").setLevel(logging.ERROR)  # it tells of every odd packet that strangers send
    return _Library(AsyncZeroconf, Error)


async def _late_addresses(zeroconf: AsyncZeroconf, interface: Interface) -> None:
    for wait_s in LATE_S:
        await asyncio.sleep(wait_s)
        await zeroconf.async_update_interfaces()
        _guard(zeroconf.zeroconf, interface)


def spoken_on(interface: Interface) -> list[InterfaceAddress]:
    """The addresses that are announced: IPv4 and IPv6 link-local.

    Other IPv6 addresses reach no more devices on this network and may stay the same for years; they are used when there
    is nothing else.
    """
    return [a for a in interface.addresses if a.version == 4 or a.ip.is_link_local] or list(interface.addresses[:1])


# ---- what comes in -----------------------------------------------------------------------------------------------
def _guard(zeroconf: Zeroconf, interface: Interface) -> None:
    """Around each socket of the library that has none yet: only this network, and a bound per sender."""
    for reader in zeroconf.engine.readers:
        inner = reader.transport.get_protocol()
        if not isinstance(inner, _Guard):
            reader.transport.set_protocol(_Guard(inner, interface))


class _Guard(asyncio.DatagramProtocol):
    """Drops what does not come from this network, and what a sender sends too much."""

    def __init__(self, inner: Any, interface: Interface) -> None:
        self._inner, self._interface = inner, interface
        self._buckets = Buckets(SENDER_PER_S, SENDER_BURST, MAX_SENDERS)
        self._is_here = functools.lru_cache(MAX_SENDERS)(self._is_from_here)
        self._now = asyncio.get_running_loop().time

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """From the socket."""
        here = self._is_here(addr[0], addr[3] if len(addr) == 4 else 0)
        if here and self._buckets.of(addr[0]).take(1, int(self._now() * 1000)) == 0:
            self._inner.datagram_received(data, addr)

    def _is_from_here(self, host: str, zone: int) -> bool:
        """A sender of this network (RFC 6762, section 11). zone: the index of the interface, of IPv6 link-local."""
        plain = host.partition("%")[0].removeprefix("::ffff:")
        return zone in (0, self._interface.index) and self._interface.reaches(plain)

    def error_received(self, exc: Exception) -> None:
        """From the socket."""
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket was closed."""
        self._inner.connection_lost(exc)


def _only_own(listening: socket.socket | None) -> None:
    """Hear only what comes in on this interface. Linux hands a socket everything that any socket has joined."""
    if listening is None or sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)


# ---- what goes out ---------------------------------------------------------------------------------------------------
async def announce(
    zeroconf: AsyncZeroconf, service: str, instance: bytes, interface: Interface, port: int, text: dict[str, str],
) -> AsyncServiceInfo:  # fmt: skip
    """Announce an instance on an open interface. The name is random, so nobody is asked first whether it is free."""
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - loaded by `opened`

    info = AsyncServiceInfo(
        service,
        f"{instance.hex()}.{service}",
        port=port,
        properties={"v": VERSION, **text},
        addresses=[address.ip.packed for address in spoken_on(interface)],
        server=f"{instance.hex()}.local.",  # never the name of this machine
        host_ttl=TTL_S,
        other_ttl=TTL_S,
    )
    await zeroconf.async_register_service(info, cooperating_responders=True)
    return info


class Browser:
    """Hears of instances of one service, and asks for what their announcements left out.

    An instance whose name we would not have made is not looked at. Callbacks run in the event loop.
    """

    def __init__(
        self, zeroconf: Zeroconf, service: str, *, found: Callable[[AsyncServiceInfo], bool],
        lost: Callable[[str], None], flooded: Callable[[], None],
    ) -> None:  # fmt: skip
        """Args: found: an instance with port, text and addresses, and again when they changed; tells whether it is one
        that is looked for; lost: its full name; flooded: more than MAX_STRANGERS others at one time. Those that are
        looked for are found all the same, but what the library has in memory is near its bound."""
        self._zeroconf, self._service = zeroconf, service
        self._found, self._lost, self._flooded = found, lost, flooded
        self._strangers: set[str] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)

    async def __aenter__(self) -> Browser:
        from zeroconf import ServiceStateChange  # noqa: PLC0415 - loaded by `opened`
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo  # noqa: PLC0415

        self._removed, self._info = ServiceStateChange.Removed, AsyncServiceInfo
        self._lookups = [asyncio.create_task(self._look_up()) for _ in range(MAX_LOOKUPS)]
        self._browser = AsyncServiceBrowser(self._zeroconf, [self._service], handlers=[self._heard])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._browser.async_cancel()
        for task in self._lookups:
            task.cancel()
        await asyncio.wait(self._lookups)

    def _heard(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if _NAME.fullmatch(name) is None:
            return
        if state_change is self._removed:
            self._strangers.discard(name)
            self._lost(name)
            return
        info = self._info(service_type, name)
        if not info.load_from_cache(zeroconf):
            with contextlib.suppress(asyncio.QueueFull):
                self._waiting.put_nowait(name)
        elif self._found(info):
            self._strangers.discard(name)
            return
        if len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(name)
        elif name not in self._strangers:
            self._flooded()

    async def _look_up(self) -> None:
        while True:
            info = self._info(self._service, await self._waiting.get())
            if await info.async_request(self._zeroconf, LOOKUP_MS):
                self._found(info)


def instance_of(name: str) -> bytes:
    """The random bytes in the full name of an instance that a Browser told of."""
    return bytes.fromhex(name[: INSTANCE_BYTES * 2])


def addresses_of(info: AsyncServiceInfo, interface: Interface) -> list[Address]:
    """Where an instance says it can be reached, as far as that is on the network it was heard on, IPv4 first.

    An announcement does not leave its network, so what points elsewhere is a mistake or an attack.
    """
    if not info.port:
        return []
    found: list[Address] = []
    zone = interface.index if os_names_by_id() else interface.name
    for text in sorted(info.parsed_addresses()[:MAX_HEARD], key=lambda host: ":" in host):
        ip = ipaddress.ip_address(text)
        if ip.is_multicast or ip.is_loopback or ip.is_unspecified or not interface.reaches(text):
            continue
        is_zoned = ip.version == 6 and ip.is_link_local
        found.append(Address(f"{text}%{zone}" if is_zoned else text, info.port))
    return found
