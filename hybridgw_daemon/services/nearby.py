"""Where the devices of this space may be reached directly: typed by a person, remembered, or found on the network.

Nothing here is trusted: an address only says where to try, and who answers there has to prove that it is a member.
What is found lives in memory, what a person typed and where a device last proved itself on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hybridgw_protocol.ids import DeviceId
from hybridgw_storage.database import Database

from ..core.addresses import Address


class Nearby:
    """The register of addresses; one per daemon."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        """Args: clock: wall clock, Unix ms."""
        self._database, self._clock = database, clock

    # ---- asked by those who dial ----------------------------------------------------------------------------------
    def candidates(self) -> list[Address]:
        """Where to try now, best first: manual, last good, found; at most MAX_CANDIDATES, never an address of ours."""
        raise NotImplementedError

    def on_change(self, action: Callable[[], None]) -> None:
        """Call *action* whenever candidates may have changed: found, typed, another interface or address, woken."""
        raise NotImplementedError

    async def worked(self, device: DeviceId, address: Address) -> None:
        """We dialled *address* and *device* proved itself there: it is remembered. Not for incoming connections, whose
        port is not the one it listens at."""
        raise NotImplementedError

    async def forget(self, device: DeviceId) -> None:
        """The device belongs no more: its addresses are not tried again."""
        raise NotImplementedError

    # ---- asked by a person ----------------------------------------------------------------------------------------
    async def add(self, text: str) -> Address:
        """Always try this address, too. Raises: BadValue: no address, or our own; TooMany."""
        raise NotImplementedError

    async def remove(self, text: str) -> None:
        """Try it no more. Raises: BadValue; NotFound."""
        raise NotImplementedError

    async def list(self) -> list[Address]:
        """What a person typed, in the order it was added."""
        raise NotImplementedError

    # ---- told by discovery ----------------------------------------------------------------------------------------
    def here(self, own: Iterable[str], port: int) -> None:
        """This machine's own addresses and the port we listen at, which are never candidates. Wakes those who wait, if
        they changed."""
        raise NotImplementedError

    def found(self, source: str, addresses: Iterable[Address]) -> None:
        """A member announces itself. Args: source: names the announcement; a later one for it replaces these."""
        raise NotImplementedError

    def lost(self, source: str) -> None:
        """The announcement is gone."""
        raise NotImplementedError

    def woken(self) -> None:
        """The machine slept: all candidates are worth a new try now."""
        raise NotImplementedError
