"""The recovery words on the local network: finding devices of root's space among all that announce themselves.

Root has no key of the space before it has read the control records, so nothing tells one announcement from another:
each is dialled, and shown a signature that only a device of that space can verify (root.py). All that answer are read,
so that what one of them holds back, or was never told, another one tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from hybridgw_protocol.errors import HybridGWError, NotAdmitted, Offline
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.membership import ControlLog

from ...core.addresses import Address
from ...core.keys import RootKeys
from ...services.nearby import Nearby
from ...services.sync import SyncService
from .lan import DIALS, LanGateway, Place
from .root import Visit, visit_device

log = logging.getLogger(__name__)

FIND_S: Final = 10.0  # a device that is there answers a question by multicast within a second or two
GATHER_S: Final = 1.5  # after the first one: the others
READ_S: Final = 60.0
NOBODY: Final = (
    "No device of the space of these words was found on this network. One that still belongs must be running, on the "
    "same network as this one; name its address first if multicast does not pass: hybridgw lan add HOST:PORT. Or name "
    "the relay that your devices used: hybridgw recover --relay URL"
)

Find = Callable[[Callable[[Address], None]], AbstractAsyncContextManager[None]]


class Visits:
    """See services/gateway.py, RootVisits."""

    def __init__(self, visits: Sequence[Visit], records: list[bytes]) -> None:
        self._visits, self.records = visits, records
        self.devices = frozenset(visit.device for visit in visits if visit.device is not None)

    async def tell(self, records: Sequence[bytes]) -> int:
        """See RootVisits."""
        told, refused = 0, None
        for visit in self._visits:
            try:
                async with asyncio.timeout(READ_S):
                    await visit.tell(records)
                told += 1
            except (HybridGWError, TimeoutError) as error:
                refused = error if isinstance(error, HybridGWError) else Offline("A device did not answer in time.")
        if not told and refused is not None:
            raise refused
        return told


class LanRecovery:
    """Implements DirectRecovery of services/gateway.py."""

    def __init__(
        self, sync: SyncService, gateway: LanGateway, nearby: Nearby, place: Place, *, find: Find,
        entropy: Callable[[int], bytes], find_s: float = FIND_S,
    ) -> None:  # fmt: skip
        """Args: find: tells who announces itself while a block runs, whichever space it is of; find_s: how long to look
        if nobody answers."""
        self._sync, self._gateway, self._nearby, self._place = sync, gateway, nearby, place
        self._find, self._entropy, self._find_s = find, entropy, find_s

    async def why_not(self) -> str | None:
        """See DirectRecovery."""
        return await self._sync.peers.why_no_lan()

    @asynccontextmanager
    async def visit(self, root: RootKeys) -> AsyncIterator[Visits]:
        """See DirectRecovery."""
        found: dict[DeviceId, tuple[Visit, Address]] = {}
        dials, begun, first = asyncio.Semaphore(DIALS), set[Address](), asyncio.Event()

        async def call(address: Address) -> None:
            try:
                async with dials:
                    channel = await self._place.dial(address)
                    visit = await visit_device(
                        channel, root, self._entropy, peer=str(address), own=self._place.endpoint
                    )
            except HybridGWError as error:
                log.info("not recovered from %s: %s", address, error.message, extra={"event": "lan.recovery"})
                return
            assert visit.device is not None  # noqa: S101 - no relay is dialled here
            if visit.device in found:  # by another of its addresses
                await visit.close()
                return
            found[visit.device] = visit, address
            first.set()

        try:
            async with asyncio.TaskGroup() as group:

                def begin(address: Address) -> None:
                    if address not in begun:
                        begun.add(address)
                        calls.append(group.create_task(call(address), name=f"recover {address}"))

                calls: list[asyncio.Task[None]] = []
                for address in await self._nearby.list():
                    begin(address)
                async with self._find(begin):
                    try:
                        async with asyncio.timeout(self._find_s):
                            await first.wait()
                            await asyncio.sleep(GATHER_S)
                    except TimeoutError:
                        pass
                for task in calls:
                    task.cancel()
            visits, records = await self._read(root, [visit for visit, _ in found.values()])
            yield Visits(visits, records)
            for device, (_, address) in found.items():
                await self._nearby.worked(device, address)
            self._gateway.reconnect()
        finally:
            for visit, _ in found.values():
                await visit.close()

    async def _read(self, root: RootKeys, visits: list[Visit]) -> tuple[list[Visit], list[bytes]]:
        """What they hold together, and who of them belongs by it. Raises: Offline: nobody does."""
        records: dict[bytes, None] = {}
        read: list[Visit] = []
        for visit in visits:
            try:
                async with asyncio.timeout(READ_S):
                    records |= dict.fromkeys(await visit.read())
                read.append(visit)
            except (HybridGWError, TimeoutError) as error:
                log.info("control records were not read: %s", error, extra={"event": "lan.recovery"})
        control = ControlLog(root.space)
        control.update(records)
        belong = [visit for visit in read if visit.device is not None and control.is_active(visit.device)]
        if not belong:
            raise NotAdmitted(NOBODY) if read else Offline(NOBODY)
        return belong, list(records)
