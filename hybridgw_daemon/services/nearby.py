"""Where the devices of this space may be reached directly: typed by a person, remembered, or found on the network.

Nothing here is trusted: an address only says where to try, and who answers there has to prove that it is a member.
What is found lives in memory, what a person typed and where a device last proved itself on the disk.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final

from hybridgw_protocol.errors import BadValue, NotFound, TooMany
from hybridgw_protocol.ids import DeviceId
from hybridgw_storage.database import Database

from ..core.addresses import Address, Ip, ip_of, parse_address
from ..stores import addresses as rows

MAX_CANDIDATES: Final = 64  # tried in one round
MAX_MANUAL: Final = 32
MAX_SOURCES: Final = 64  # announcements of members: twice as many as a space has devices; the oldest goes
MAX_PER_SOURCE: Final = 8  # addresses of one announcement
KEPT_PER_DEVICE: Final = 6  # home, work, a phone's hotspot, IPv4 and IPv6
SAVE_AGAIN_MS: Final = 3_600_000  # a device that is still where it was is not written down for each connection


class Nearby:
    """The register of addresses; one per daemon."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        """Args: clock: wall clock, Unix ms."""
        self._database, self._clock = database, clock
        self._found: dict[str, tuple[Address, ...]] = {}  # by source, the oldest first
        self._own: frozenset[Ip] = frozenset()
        self._networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        self._port = 0
        self._actions: list[Callable[[], None]] = []

    # ---- asked by those who dial ----------------------------------------------------------------------------------
    def candidates(self) -> list[Address]:
        """Where to try now, best first, at most MAX_CANDIDATES, never an address of ours.

        Manual ones, then last good ones (those that are announced now, then those on a network we are in, then the
        latest), then the others that are announced.
        """
        found = [address for addresses in reversed(self._found.values()) for address in addresses]
        announced = set(found)
        good = [row.address for row in self._database.peek(rows.last_good)]
        good.sort(key=lambda address: (address not in announced, not self._is_near(address)))
        every = dict.fromkeys([*self._database.peek(rows.manual), *good, *found])
        return [address for address in every if not self._is_own(address)][:MAX_CANDIDATES]

    def on_change(self, action: Callable[[], None]) -> None:
        """Call *action* whenever candidates may have changed: found, typed, another interface or address, woken."""
        self._actions.append(action)

    async def worked(self, device: DeviceId, address: Address) -> None:
        """We dialled *address* and *device* proved itself there: it is remembered. Not for incoming connections, whose
        port is not the one it listens at."""
        now_ms = self._clock()
        for row in self._database.peek(rows.last_good):
            if (row.device, row.address) == (device, address) and 0 <= now_ms - row.last_ms < SAVE_AGAIN_MS:
                return
        await self._database.write(lambda tx: rows.worked(tx, device, address, now_ms, keep=KEPT_PER_DEVICE))

    async def forget(self, device: DeviceId) -> None:
        """The device belongs no more: its addresses are not tried again."""
        await self._database.write(lambda tx: rows.forget(tx, device))

    def found_now(self) -> list[Address]:
        """What members of this space announce now."""
        return list(dict.fromkeys(a for addresses in self._found.values() for a in addresses if not self._is_own(a)))

    def last_good(self) -> list[rows.LastGood]:
        """Where devices last proved themselves, the latest first."""
        return self._database.peek(rows.last_good)

    # ---- asked by a person ----------------------------------------------------------------------------------------
    async def add(self, text: str) -> Address:
        """Always try this address, too. Raises: BadValue: no address, or our own; TooMany."""
        address = parse_address(text)
        if self._is_own(address):
            raise BadValue(f"{address} is this device itself. Name the other one.", field="address")
        known = self._database.peek(rows.manual)
        if address not in known and len(known) >= MAX_MANUAL:
            raise TooMany(f"At most {MAX_MANUAL} addresses can be named. 'hybridgw lan remove' makes room.")
        await self._database.write(lambda tx: rows.add_manual(tx, address, self._clock()))
        self._changed()
        return address

    async def remove(self, text: str) -> None:
        """Try it no more. Raises: BadValue; NotFound."""
        address = parse_address(text)
        if not await self._database.write(lambda tx: rows.remove_manual(tx, address)):
            raise NotFound(f"{address} was not named; 'hybridgw lan list' shows what was.")
        self._changed()

    async def list(self) -> list[Address]:
        """What a person typed, in the order it was added."""
        return self._database.peek(rows.manual)

    # ---- told by discovery ----------------------------------------------------------------------------------------
    def here(self, own: Iterable[ipaddress.IPv4Interface | ipaddress.IPv6Interface], port: int) -> None:
        """This machine's own addresses with their networks, and the port we listen at: never candidates. Wakes those
        who wait, if they changed."""
        own = list(own)
        before = (self._own, self._networks, self._port)
        self._own = frozenset(address.ip for address in own)
        self._networks = tuple(dict.fromkeys(address.network for address in own))
        self._port = port
        if (self._own, self._networks, self._port) != before:
            self._changed()

    def found(self, source: str, addresses: Iterable[Address]) -> None:
        """A member announces itself. Args: source: names the announcement; a later one for it replaces these."""
        kept = tuple(dict.fromkeys(addresses))[:MAX_PER_SOURCE]
        if self._found.get(source) == kept:
            return
        self._found.pop(source, None)
        self._found[source] = kept
        while len(self._found) > MAX_SOURCES:
            del self._found[next(iter(self._found))]
        self._changed()

    def lost(self, source: str) -> None:
        """The announcement is gone."""
        if self._found.pop(source, None) is not None:
            self._changed()

    def woken(self) -> None:
        """The machine slept: all candidates are worth a new try now."""
        self._changed()

    # ---- inside ---------------------------------------------------------------------------------------------------
    def _changed(self) -> None:
        for action in self._actions:
            action()

    def _is_own(self, address: Address) -> bool:
        """By address only: a name may lead to us, and then the handshake tells."""
        ip = _plain(address)
        if address.port != self._port:
            return False
        return address.host == "localhost" if ip is None else ip.is_loopback or ip in self._own

    def _is_near(self, address: Address) -> bool:
        ip = _plain(address)
        return ip is not None and any(ip in network for network in self._networks)


def _plain(address: Address) -> Ip | None:
    """The IP address without its zone; IPv4 inside IPv6 as what it is."""
    ip = ip_of(address.host)
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.ipv4_mapped or ipaddress.IPv6Address(int(ip))
    return ip
