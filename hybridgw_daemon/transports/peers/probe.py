"""Facts about the local network, gathered by trying: who answers to multicast, what a connection comes to.

Nothing here judges; services/probing.py does. A look takes some seconds and sends a handful of packets: a question by
multicast per interface, again if nobody answers, and one or two connections per address. What answers is believed to be
there, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...core.addresses import Address, ip_of
from ...services.nearby import Nearby
from ...services.probing import Contact, Facts, InterfaceFacts, Talk, TargetFacts
from .discovery import Discovery
from .interfaces import Choice, Interface, interfaces

CONNECT_S: Final = 3.0
ASK_S: Final = 1.0  # for answers to a question
ASKS: Final = 3  # so often before nobody is there: a question may get lost on Wi-Fi, and who should answer be busy
OTHER_PORT: Final = 9  # discard: closed everywhere; a refusal says that the machine is there

# "Who is there", as every mDNS responder understands it: PTR of _services._dns-sd._udp.local.
_QUESTION: Final = (
    struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 0)
    + b"".join(bytes([len(label)]) + label for label in (b"_services", b"_dns-sd", b"_udp", b"local"))
    + b"\0"
    + struct.pack("!HH", 12, 1)
)
_GROUP4: Final = ("224.0.0.251", 5353)
_GROUP6: Final = ("ff02::fb", 5353)


class Said(NamedTuple):
    """Who answered, once a connection stood. versions: what it speaks, if it is another version."""

    talk: Talk
    versions: tuple[int, int] | None = None


Greet = Callable[[Address], Awaitable[Said]]


class LanProber:
    """Gathers the facts of this machine."""

    def __init__(
        self, nearby: Nearby, discovery: Callable[[], Discovery | None], *, choice: Choice, greet: Greet | None,
        state: Callable[[], tuple[str | None, int]], connected: Callable[[], int], clock_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        """Args: discovery: None while it does not run; greet: speaks with who listens, None: connections are only made;
        state: why direct links are off and the port; connected: direct links now; clock_ms: others' clocks less ours.
        """
        self._nearby, self._discovery, self._choice, self._greet = nearby, discovery, choice, greet
        self._state, self._connected, self._clock_ms = state, connected, clock_ms

    def interfaces(self) -> list[InterfaceFacts]:
        """What is known of each interface without trying; not of loopback."""
        discovery = self._discovery()
        announced = discovery.announced_on if discovery is not None else set()
        failures = discovery.failures if discovery is not None else {}
        found = []
        for interface in interfaces():
            if all(address.ip.is_loopback for address in interface.addresses):
                continue
            name, reason = interface.name, failures.get(interface.name)
            state: str = "announced" if name in announced else "failed" if reason else "waiting"
            if not self._choice.takes(name, interface.description):
                state = "skipped"
            found.append(InterfaceFacts(name, state, interface.hosts, interface.is_vpn(), reason))  # type: ignore[arg-type]
        return found

    async def look(self, targets: Sequence[Address], hints: Sequence[Address]) -> Facts:
        """Try everything at once. Args: hints: addresses of which nobody said that they must answer."""
        off, port = self._state()
        known = {interface.name: interface for interface in interfaces()}
        facts = self.interfaces()
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ask(fact, known.get(fact.name))) for fact in facts]
            tried = [group.create_task(self._try(target, known, is_hint=False)) for target in targets]
            tried += [group.create_task(self._try(hint, known, is_hint=True)) for hint in hints]
        default = _route_to(ipaddress.ip_address("192.0.2.1"), known)  # of no real machine: only the way there counts
        is_vpn = default is not None and known[default].is_vpn()
        return Facts(
            off=off,
            port=port,
            interfaces=tuple(task.result() for task in asked),
            found=len(self._nearby.found_now()),
            connected=self._connected(),
            vpn=default if is_vpn else None,
            targets=tuple(task.result() for task in tried),
            clock_ms=self._clock_ms(),
        )

    # ---- multicast ---------------------------------------------------------------------------------------------------
    async def _ask(self, fact: InterfaceFacts, interface: Interface | None) -> InterfaceFacts:
        if interface is None or fact.state == "skipped":
            return fact
        own = {host for other in interfaces() for host in other.hosts}
        answered: set[str] = set()
        failure: str | None = None
        askings: list[tuple[asyncio.DatagramTransport, tuple[Any, ...]]] = []
        for address in interface.addresses[:2]:
            if address.version == 6 and not address.ip.is_link_local:
                continue
            try:
                askings.append(await _question(interface, address.ip, own, answered))
            except OSError as error:
                failure = error.strerror or str(error)
        try:
            for number in range(ASKS if askings else 0):
                for transport, group in askings if number else ():
                    transport.sendto(_QUESTION, group)
                await asyncio.sleep(ASK_S)
                if answered:
                    break
        finally:
            for transport, _ in askings:
                transport.close()
        asked = len(answered) if askings else None
        failure = None if askings else failure
        return InterfaceFacts(fact.name, fact.state, fact.addresses, fact.is_vpn, fact.reason, failure, asked)

    # ---- one address -------------------------------------------------------------------------------------------------
    async def _try(self, target: Address, known: dict[str, Interface], *, is_hint: bool) -> TargetFacts:
        contact, ip = await _connect(target)
        way = _route_to(ip, known) if ip is not None else None
        near = next((i.name for i in known.values() if ip is not None and i.reaches(str(ip))), None)
        talk: Said | None = None
        is_there: bool | None = None
        if contact == "open" and self._greet is not None:
            talk = await self._greet(target)
        elif contact in ("timeout", "unreachable") and ip is not None:
            is_there = await _is_there(ip)
        said, versions = talk or (None, None)
        return TargetFacts(target, contact, is_there, way, near, said, versions, is_hint)


Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


async def _question(
    interface: Interface, ip: Ip, own: set[str], answered: set[str]
) -> tuple[asyncio.DatagramTransport, tuple[Any, ...]]:  # fmt: skip
    """Ask everybody on an interface; who answers is put into *answered*. Returns also where to ask again. Raises:
    OSError."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    group: tuple[Any, ...] = _GROUP4 if ip.version == 4 else (*_GROUP6, 0, interface.index)
    asking = socket.socket(family, socket.SOCK_DGRAM)
    try:
        asking.setblocking(False)
        if ip.version == 4:
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, ip.packed)
            asking.bind((str(ip), 0))
        else:
            asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, struct.pack("@I", interface.index))
            asking.bind((str(ip), 0, 0, interface.index))
        asking.sendto(_QUESTION, group)
    except BaseException:
        asking.close()
        raise

    class Answers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            host = addr[0].partition("%")[0]
            if host not in own and len(answered) < 64:
                answered.add(host)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Answers, sock=asking)
    return transport, group


async def _connect(target: Address) -> tuple[Contact, Ip | None]:
    """What a TCP connection comes to, and the address that was tried."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S):
            resolved = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return "unknown_name", None
    except OSError:
        return "unknown_name", None
    family, _, _, _, where = resolved[0]
    ip = ip_of(str(where[0]).partition("%")[0])
    contact: Contact = "open"
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(trying, where)
        except TimeoutError:
            contact = "timeout"
        except ConnectionRefusedError:
            contact = "refused"
        except OSError as error:
            contact = "forbidden" if error.errno in (errno.EPERM, errno.EACCES) else "unreachable"
    return contact, ip


async def _is_there(ip: Ip) -> bool | None:
    """Does the machine behind an address answer anything. None: nothing was heard, which may mean either."""
    contact, _ = await _connect(Address(str(ip), OTHER_PORT))
    if contact in ("open", "refused"):
        return True
    return True if _is_neighbour(ip) else None


def _is_neighbour(ip: Ip) -> bool:
    """Linux: the hardware address of the machine is known, so it has answered on the cable just now."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/arp").read_text().splitlines()[1:]:
            host, _, flags, mac, *_ = line.split()
            if host == str(ip):
                return int(flags, 16) & 0x2 != 0 and mac != "00:00:00:00:00:00"
    return False


def _route_to(ip: Ip, known: dict[str, Interface]) -> str | None:
    """The interface through which this system would send to an address; nothing is sent."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as way:
        way.connect((str(ip), OTHER_PORT))
        own = str(way.getsockname()[0]).partition("%")[0]
        return next((name for name, interface in known.items() if own in interface.hosts), None)
    return None
