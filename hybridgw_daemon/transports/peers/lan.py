"""Direct links: this device is called by others and calls them, wherever `Nearby` says that one may be.

One connection per device stays: that which the device with the lower id has dialled, if it still answers; of two that
the same side has dialled the newer one, for the older is most likely dead. Addresses are only hints, tried again with
full jitter; what counts is who proves itself there (greeting.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, Protocol

from hybridgw_protocol.errors import (
    AuthFailed,
    BadFrame,
    HybridGWError,
    NotAdmitted,
    PairingFailed,
    RemoteClosed,
    Revoked,
    StateError,
    UnsupportedVersion,
)
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.limits import BACKOFF_FIRST_S, BACKOFF_MAX_S
from hybridgw_protocol.link import DEFAULT_FLOW, Flow
from hybridgw_protocol.membership import Status

from ...core.addresses import Address
from ...services.gateway import DirectChannel
from ...services.nearby import Nearby
from ...services.sync import SyncService
from .driver import Conversation
from .greeting import CallerGreeting, Greeting, HostGreeting
from .mailbox import Desk

log = logging.getLogger(__name__)

DIALS: Final = 8  # addresses tried at a time
REFUSED: Final = (AuthFailed, BadFrame, NotAdmitted, PairingFailed, Revoked)  # who calls and does not belong here
NO_SOON: Final = (NotAdmitted, Revoked, UnsupportedVersion)  # trying again soon helps nobody
LOOK_S: Final = 1.0  # whoever repeats announcements must not make this device dial all the time
STEADY_S: Final = 5.0  # a connection that has lasted so long did not break because something is wrong with it
MISSED_S: Final = 300.0  # a device that was there may be back any moment: for so long it is tried often,
MISSED_PAUSE_S: Final = 1.0  # at pauses of at most this
FOREVER_S: Final = 1e8
SETTLED_RETRY_MS: Final = 1_000


class Place(Protocol):
    """Where this device listens, and from where it calls; transports/peers/tls.py, or a simulation."""

    endpoint: str
    port: int

    async def open(self) -> None:
        """Be ready to listen. Raises: StateError kinds."""
        ...

    async def serve(self, serve: Callable[[DirectChannel, str], Awaitable[None]]) -> None:
        """Hand over who calls, and from where, until cancelled."""
        ...

    async def dial(self, address: Address) -> DirectChannel:
        """Call. Raises: Offline."""
        ...


class LanGateway:
    """All direct links of this device."""

    def __init__(
        self, sync: SyncService, nearby: Nearby, place: Place, *, entropy: Callable[[int], bytes],
        desk: Desk | None = None, flow: Flow = DEFAULT_FLOW, refused: Callable[[str], None] = lambda _event: None,
    ) -> None:  # fmt: skip
        """Args: desk: where a code that is shown here can be entered; refused: told of it, for the audit log."""
        self._sync, self._nearby, self._place = sync, nearby, place
        self._entropy, self._flow, self._desk = entropy, flow, desk or Desk()
        self._refused = refused
        self._links: dict[Address, LanLink] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        # Who has a device's place, and whether this side has dialled. Of these, peers.conversations shows the welcomed.
        self._held: dict[DeviceId, tuple[Conversation, bool]] = {}
        self._settling: defaultdict[DeviceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._dials = asyncio.Semaphore(DIALS)
        self._changed = asyncio.Event()
        self._looked_s = -LOOK_S
        self._look_later: asyncio.TimerHandle | None = None

    async def run(self, opened: Callable[[int], Coroutine[None, None, None]] | None = None) -> None:
        """Until cancelled; keys must be there. Args: opened: run beside it once this device listens, told the port."""
        peers = self._sync.peers
        try:
            await self._place.open()
        except StateError as error:
            peers.lan_failed(error.message)
            log.warning("no direct links: %s", error.message, extra={"event": "lan.off"})
            return
        peers.lan_listens(self._place.port)
        log.info("direct links on port %d", self._place.port, extra={"event": "lan.ready"})
        self._nearby.on_change(self._look)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._place.serve(self._serve), name="lan serve")
            if opened is not None:
                group.create_task(opened(self._place.port), name="discovery")
            await self._follow(group)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """One link per address that may be good."""
        while True:
            await self._forget_those_out()
            candidates = self._nearby.candidates()
            for address in [a for a in self._links if a not in candidates and self._links[a].conversation is None]:
                self._tasks.pop(address).cancel()
                del self._links[address]
                self._sync.peers.lan.errors.pop(str(address), None)
            for address in candidates:
                if address not in self._links:
                    link = self._links[address] = LanLink(self, address)
                    self._tasks[address] = group.create_task(link.run(), name=f"lan {address}")
            await self._changed.wait()
            self._changed.clear()

    async def _forget_those_out(self) -> None:
        for row in self._nearby.last_good():
            if self._sync.space.standing(row.device) is not Status.ACTIVE:
                await self._nearby.forget(row.device)

    def members_changed(self) -> None:
        """Control records came: addresses of devices that are out are not tried again, and those are at once that
        refused this device or were refused, which may belong together now."""
        self._changed.set()
        self._look()

    def _look(self) -> None:
        """Candidates may have changed: try them now, but not more often than makes sense."""
        loop = asyncio.get_running_loop()
        wait_s = self._looked_s + LOOK_S - loop.time()
        if wait_s <= 0:
            self._looked_s = loop.time()
            self.reconnect()
        elif self._look_later is None or self._look_later.when() <= loop.time():
            self._look_later = loop.call_later(wait_s, self._look)

    def reconnect(self, full: bool = False) -> None:
        """Every address is tried now. full: the live connections are made anew."""
        self._changed.set()
        for link in self._links.values():
            link.reconnect()
        for conversation, _ in self._held.values():
            if full:
                conversation.end()
            else:
                conversation.look()

    # ---- connections ----------------------------------------------------------------------------------------------
    async def _serve(self, channel: DirectChannel, host: str) -> None:
        """Somebody called."""
        taken: list[DeviceId] = []

        async def settle(device: DeviceId) -> None:
            await self._settle(device, conversation, dialled=False)
            taken.append(device)

        greeting = HostGreeting(
            self._sync, address=host, own=self._place.endpoint, entropy=self._entropy, settle=settle,
            admitted=channel.trust, desk=self._desk,
        )  # fmt: skip
        conversation = self.begin(channel, greeting)
        try:
            await conversation.run()
        except HybridGWError as error:
            log.info("direct link from %s: %s", host, error.message, extra={"event": "lan.ended"})
            if isinstance(error, REFUSED) and not conversation.is_ready.is_set():
                self._refused("refused.device")
        finally:
            self._leave(taken, conversation)

    async def converse(self, address: Address, link: LanLink) -> None:
        """Call an address and sync with who is there. Raises: HybridGWError kinds."""
        taken: list[DeviceId] = []
        async with self._dials:
            channel = await self._place.dial(address)

        async def settle(device: DeviceId) -> None:
            link.device = device
            await self._settle(device, conversation, dialled=True)
            taken.append(device)
            channel.trust()
            await self._nearby.worked(device, address)
            self._sync.peers.lan.errors.pop(str(address), None)

        greeting = CallerGreeting(
            self._sync, address=str(address), seen=channel.endpoint, own=self._place.endpoint, entropy=self._entropy,
            settle=settle,
        )  # fmt: skip
        conversation = link.conversation = self.begin(channel, greeting)
        try:
            await conversation.run()
        finally:
            link.conversation, link.was_welcome = None, conversation.is_ready.is_set()
            self._leave(taken, conversation)
            self._changed.set()  # the address may be no candidate any more

    def begin(self, channel: DirectChannel, greeting: Greeting) -> Conversation:
        """A conversation over a new connection."""
        return Conversation(channel, self._sync, greeting, flow=self._flow)

    async def _settle(self, device: DeviceId, conversation: Conversation, *, dialled: bool) -> None:
        """Of two connections with one device one stays. Raises: RemoteClosed: not this one."""
        async with self._settling[device]:
            before, before_dialled = self._held.get(device, (None, False))
            if before is not None and not before.is_over.is_set():
                is_ours_to_keep = self._sync.identity.device < device
                if before_dialled != dialled and before_dialled == is_ours_to_keep and await before.answers():
                    raise RemoteClosed("Another connection between the two is kept.", retry_ms=SETTLED_RETRY_MS)
                before.end(RemoteClosed("A newer connection takes its place.", retry_ms=SETTLED_RETRY_MS))
            self._held[device] = conversation, dialled

    def _leave(self, devices: list[DeviceId], conversation: Conversation) -> None:
        for device in devices:
            if self._held.get(device, (None, False))[0] is conversation:
                del self._held[device]
                self._sync.peers.changed()

    def is_connected(self, device: DeviceId | None) -> bool:
        """Is there a connection with it, whoever has dialled."""
        return device in self._held

    async def apart(self, device: DeviceId) -> None:
        """Wait while there is one."""

        async def is_apart() -> bool:
            return device not in self._held

        await self._sync.peers.wait_for(is_apart, FOREVER_S, look_s=FOREVER_S)

    def failed(self, address: Address, error: HybridGWError) -> None:
        """It could not be reached, or refused us, or the connection ended."""
        self._sync.peers.lan.errors[str(address)] = error
        if isinstance(error, AuthFailed) and not error.detail.get("told"):  # somebody stands in the middle
            self._refused("refused.device")
        self._sync.peers.changed()
        log.info("direct link to %s: %s", address, error.message, extra={"event": "lan.failed"})

    def share(self) -> float:
        """A random part of a pause."""
        return int.from_bytes(self._entropy(4), "big") / 2**32


class LanLink:
    """Keeps one address tried: a conversation after another, with full jitter between failures."""

    def __init__(self, gateway: LanGateway, address: Address) -> None:
        self._gateway, self.address = gateway, address
        self._now = asyncio.Event()
        self.device: DeviceId | None = None  # who proved itself there last
        self.conversation: Conversation | None = None
        self.was_welcome = False  # in that conversation, or the last one

    def reconnect(self) -> None:
        """Try now instead of waiting."""
        self._now.set()

    async def run(self) -> None:
        """Until cancelled. What goes wrong is told and tried again."""
        gateway, loop = self._gateway, asyncio.get_running_loop()
        pause, there_s = BACKOFF_FIRST_S, -MISSED_S  # when a connection with it ended last
        while True:
            if self.device is not None and gateway.is_connected(self.device):
                await gateway.apart(self.device)  # by another address, or it has dialled us
                pause, there_s = BACKOFF_FIRST_S, loop.time()
            self._now.clear()
            self.was_welcome = False
            floor, started, is_refused = 0.0, loop.time(), False
            try:
                await gateway.converse(self.address, self)
            except HybridGWError as error:
                gateway.failed(self.address, error)
                is_refused = isinstance(error, NO_SOON)
                retry_ms = error.detail.get("retry_ms")
                floor = max(0.0, retry_ms / 1000) if isinstance(retry_ms, int) else 0.0
            if is_refused:
                pause, there_s = BACKOFF_MAX_S, -MISSED_S
            elif self.was_welcome and loop.time() - started > STEADY_S:
                pause, there_s = BACKOFF_FIRST_S, loop.time()
            longest = MISSED_PAUSE_S if loop.time() - there_s < MISSED_S else BACKOFF_MAX_S
            try:
                async with asyncio.timeout(min(BACKOFF_MAX_S, floor + pause * gateway.share())):
                    await self._now.wait()
            except TimeoutError:
                pause = min(longest, pause * 2)
            else:
                pause = BACKOFF_FIRST_S
