"""Finding the devices of this space on the local network, and being found.

Announced is an instance name of 16 random characters (new at each start, each day and with each space key), the port,
the addresses of that one network, and `k`, by which members recognise each other: nothing that two announcements have
in common, and no name. What others announce is believed within bounds, and only to know where to try:
protocol/SPEC.md, "Discovery".

One session per network interface, so that an interface carries its own addresses only, and what is heard on one is
reached through it. Sessions come and go with their interfaces; a session that fails is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from ...core.addresses import Address
from ...services.nearby import Nearby
from .interfaces import POLL_S, Choice, Interface, interfaces, is_told, noticing, usable
from .mdns import (
    INSTANCE_BYTES,
    MAX_STRANGERS,
    PAIRING_SERVICE,
    SERVICE,
    VERSION,
    Browser,
    addresses_of,
    announce,
    instance_of,
    opened,
    spoken_on,
)

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

log = logging.getLogger(__name__)

RENEW_S: Final = 86_400.0  # a day under one name
DAMPING_S: Final = 10.0  # at most one announcement per interface in this time, however often its addresses change
RETRY_S: Final = 30.0  # a session that failed (no multicast there) is tried again after it
SLEEP_GAP_S: Final = 20.0  # clocks that differ by more: the machine slept
FLOOD_S: Final = 60.0  # an interface that is flooded is begun anew after it, which frees the memory
GATHER_S: Final = 0.2  # after the first offer of a pairing: its other addresses, and others who claim it
MAX_ANY: Final = 64  # addresses of devices of any space, while a person recovers one
MAX_OFFERS: Final = 8  # addresses of those who claim the same nameplate

Mark = Callable[[bytes], bytes]  # instance (8 bytes) -> k (8 bytes), under the space key in use
Recognise = Callable[[bytes, bytes], bool]  # (instance, k): is it a member of our space

_MARK: Final = re.compile(rb"[0-9a-f]{16}")


class _Wanted(NamedTuple):
    """What a session is for; when it changes, another session takes its place."""

    number: int
    spoken: tuple[str, ...]
    networks: frozenset[str]
    generation: int

    @classmethod
    def of(cls, interface: Interface, generation: int) -> _Wanted:
        spoken = tuple(str(address) for address in spoken_on(interface))
        return cls(interface.index, spoken, frozenset(str(a.network) for a in interface.addresses), generation)


class Discovery:
    """Announces this device and looks for others on every network interface that may be used."""

    def __init__(
        self, nearby: Nearby, *, port: int, mark: Mark, recognise: Recognise, clock: Callable[[], int],
        entropy: Callable[[int], bytes], choice: Choice,
    ) -> None:  # fmt: skip
        """Args: port: where this device listens for others; clock: wall clock, Unix ms; choice: of interfaces."""
        self._nearby, self._port = nearby, port
        self._mark, self._recognise = mark, recognise
        self._clock, self._entropy, self._choice = clock, entropy, choice
        self._looks: asyncio.Event | None = None
        self._generation = 0  # rises when all must be announced anew
        self._nameplate: int | None = None
        self._offers_changed: set[asyncio.Event] = set()  # one per session
        self._names: set[str] = set()  # our own instances
        self.announced_on: set[str] = set()  # names of interfaces
        self.failures: dict[str, str] = {}  # name of an interface -> why nothing is announced on it

    async def run(self) -> None:
        """Until cancelled. Needs open keys (mark is called). No interface, no multicast, sleep and wake, another
        address: it goes on when there is something to go on with."""
        running: dict[str, tuple[_Wanted, asyncio.Task[None]]] = {}
        begun: dict[str, tuple[float, int]] = {}  # interface -> when it was announced on last, and which generation
        loop = asyncio.get_running_loop()
        sleep = _Sleep(self._clock, loop.time)
        renewed_s = loop.time()
        try:
            async with noticing() as (looks, look_s):
                self._looks = looks
                slept = False
                while True:
                    if slept:
                        log.info("the machine slept; announcing anew", extra={"event": "discovery.woken"})
                        self._generation += 1
                        self._nearby.woken()
                    if loop.time() - renewed_s >= RENEW_S:
                        self._generation += 1
                        renewed_s = loop.time()
                    there = interfaces()
                    self._nearby.here((a for i in there for a in i.addresses), self._port)
                    found = {interface.name: interface for interface in usable(self._choice, there)}
                    wanted = {name: _Wanted.of(interface, self._generation) for name, interface in found.items()}
                    for name, (what, task) in list(running.items()):
                        if wanted.get(name) != what:
                            await _end(task)
                            del running[name]
                    for name, what in wanted.items():
                        at_s, generation = begun.get(name, (-DAMPING_S, self._generation))
                        is_due = loop.time() - at_s >= DAMPING_S or generation != self._generation
                        if name not in running and is_due:
                            begun[name] = loop.time(), self._generation
                            task = asyncio.create_task(self._keep(found[name]), name=f"discovery-{name}")
                            running[name] = what, task
                    begun = {name: (s, g) for name, (s, g) in begun.items() if loop.time() - s < DAMPING_S}
                    self.failures = {name: why for name, why in self.failures.items() if name in wanted}
                    until_s = loop.time() + (look_s if wanted.keys() <= running.keys() else POLL_S)
                    told = slept = False
                    while not (told or slept or loop.time() >= until_s):
                        told = await is_told(looks)
                        slept = sleep.noticed()
        finally:
            self._looks = None
            await asyncio.gather(*(_end(task) for _, task in running.values()))

    def renew(self) -> None:
        """Announce under another name: the space key changed. Does nothing while `run` does not run."""
        self._generation += 1
        if self._looks is not None:
            self._looks.set()

    def offer_pairing(self, nameplate: int) -> None:
        """Announce that the code with this nameplate can be entered here, beside the rest, until `end_pairing`."""
        self._offer(nameplate)

    def end_pairing(self) -> None:
        """The code is used or dead: announce it no more."""
        self._offer(None)

    def _offer(self, nameplate: int | None) -> None:
        self._nameplate = nameplate
        for changed in self._offers_changed:
            changed.set()

    # ---- one interface -----------------------------------------------------------------------------------------------
    async def _keep(self, interface: Interface) -> None:
        """Announce and look on one interface, over and over while it fails; until cancelled."""
        heard: set[str] = set()
        try:
            while True:
                try:
                    await self._session(interface, heard)
                    log.warning(
                        "more than %d strangers announce themselves on %s; what they say is forgotten each minute",
                        MAX_STRANGERS, interface.name, extra={"event": "discovery.flood"},
                    )  # fmt: skip
                except (OSError, RuntimeError) as error:  # no such address any more, no multicast, no socket
                    why = getattr(error, "strerror", None) or str(error)
                    if self.failures.get(interface.name) != why:
                        log.warning("not found on %s: %s", interface.name, why, extra={"event": "discovery.failed"})
                    self.failures[interface.name] = why
                    await asyncio.sleep(RETRY_S)
                except Exception:  # a supervisor: a fault of the library costs one interface, never the daemon
                    log.exception("discovery on %s ended", interface.name, extra={"event": "discovery.failed"})
                    self.failures[interface.name] = "a fault of this program; the log has more"
                    await asyncio.sleep(RETRY_S)
        finally:
            for name in heard:
                self._nearby.lost(f"{interface.name}/{name}")

    async def _session(self, interface: Interface, heard: set[str]) -> None:
        """Announce and look for others, until too many strangers were heard for a while. Raises: OSError, RuntimeError.

        Args: heard: the full names of members that were found, kept up to date.
        """
        instance = self._entropy(INSTANCE_BYTES)
        flooded = asyncio.Event()

        def found(info: AsyncServiceInfo) -> bool:
            k = info.properties.get(b"k") or b""
            if info.name in self._names:
                return True
            if info.properties.get(b"v") != VERSION or not _MARK.fullmatch(k):
                return False
            if not self._recognise(instance_of(info.name), bytes.fromhex(k.decode())):
                return False
            heard.add(info.name)
            self._nearby.found(f"{interface.name}/{info.name}", addresses_of(info, interface))
            return True

        def lost(name: str) -> None:
            if name in heard:
                heard.discard(name)
                self._nearby.lost(f"{interface.name}/{name}")

        async with opened(interface) as zeroconf, contextlib.AsyncExitStack() as stack:
            text = {"k": self._mark(instance).hex()}
            own = await announce(zeroconf, SERVICE, instance, interface, self._port, text)
            self._names.add(own.name)
            stack.callback(self._names.discard, own.name)
            self.announced_on.add(interface.name)
            stack.callback(self.announced_on.discard, interface.name)
            self.failures.pop(interface.name, None)
            log.info("announced on %s", interface.name, extra={"event": "discovery.announced"})
            offers = asyncio.create_task(self._keep_offer(zeroconf, interface), name=f"offers-{interface.name}")
            stack.push_async_callback(_end, offers)
            async with Browser(zeroconf.zeroconf, SERVICE, found=found, lost=lost, flooded=flooded.set):
                await flooded.wait()
                await asyncio.sleep(FLOOD_S)

    async def _keep_offer(self, zeroconf: AsyncZeroconf, interface: Interface) -> None:
        """Announce the pairing that is offered, whenever that changes; until cancelled."""
        changed = asyncio.Event()
        self._offers_changed.add(changed)
        info: AsyncServiceInfo | None = None
        nameplate: int | None = None
        try:
            while True:
                if nameplate != self._nameplate:
                    if info is not None:
                        await zeroconf.async_unregister_service(info)
                        info = None
                    nameplate = self._nameplate
                    if nameplate is not None:
                        instance = self._entropy(INSTANCE_BYTES)
                        text = {"n": str(nameplate)}
                        info = await announce(zeroconf, PAIRING_SERVICE, instance, interface, self._port, text)
                changed.clear()
                if nameplate == self._nameplate:
                    await changed.wait()
        finally:
            self._offers_changed.discard(changed)


async def find_pairing(nameplate: int, *, timeout_s: float, choice: Choice) -> list[Address]:
    """Who on this network says that it has shown the code with that nameplate: at most MAX_OFFERS addresses, as soon as
    one is known, none when the time is over. Several may claim it; only the code itself tells who is right.

    Needs no `Discovery`. Raises nothing when there is no network: the list is empty.
    """
    offers: dict[Address, None] = {}
    known = asyncio.Event()

    def offered(info: AsyncServiceInfo, interface: Interface) -> bool:
        if info.properties.get(b"v") != VERSION or info.properties.get(b"n") != str(nameplate).encode():
            return False
        for address in addresses_of(info, interface):
            if len(offers) < MAX_OFFERS:
                offers[address] = None
                known.set()
        return True

    try:
        async with asyncio.timeout(timeout_s), _looking(PAIRING_SERVICE, offered, choice):
            await known.wait()
            await asyncio.sleep(GATHER_S)
    except TimeoutError:
        pass
    return list(offers)


@contextlib.asynccontextmanager
async def finding_any(found: Callable[[Address], None], *, choice: Choice) -> AsyncIterator[None]:
    """While the block runs, *found* is told every address at which some device, of whatever space, says that it can be
    reached, each once, and at most MAX_ANY. For who has no key by which to know one from the other."""
    told: set[Address] = set()

    def offered(info: AsyncServiceInfo, interface: Interface) -> bool:
        if info.properties.get(b"v") != VERSION or not _MARK.fullmatch(info.properties.get(b"k") or b""):
            return False
        for address in addresses_of(info, interface):
            if address not in told and len(told) < MAX_ANY:
                told.add(address)
                found(address)
        return True

    async with _looking(SERVICE, offered, choice):
        yield


@contextlib.asynccontextmanager
async def _looking(
    service: str, offered: Callable[[AsyncServiceInfo, Interface], bool], choice: Choice
) -> AsyncIterator[None]:
    """Look for a service on every interface that may be used, while the block runs; one that fails is left out."""

    async def look(interface: Interface) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            async with (
                opened(interface) as zeroconf,
                Browser(
                    zeroconf.zeroconf, service, found=lambda info: offered(info, interface),
                    lost=lambda _name: None, flooded=lambda: None,
                ),
            ):  # fmt: skip
                await asyncio.Event().wait()

    tasks = [asyncio.create_task(look(interface), name=f"offers-{interface.name}") for interface in usable(choice)]
    try:
        yield
    finally:
        await asyncio.gather(*(_end(task) for task in tasks))


# ---- time ------------------------------------------------------------------------------------------------------------
class _Sleep:
    """Tells that the machine slept: the wall clock went further than one that stands still meanwhile, or both went
    further than one look."""

    def __init__(self, clock: Callable[[], int], steady_s: Callable[[], float]) -> None:
        self._clock, self._steady_s = clock, steady_s
        self._wall_s, self._then_s = clock() / 1000, steady_s()

    def noticed(self) -> bool:
        """Since the last call, which was a look ago."""
        wall_s, now_s = self._clock() / 1000, self._steady_s()
        gap_s, steady_gap_s = wall_s - self._wall_s, now_s - self._then_s
        self._wall_s, self._then_s = wall_s, now_s
        return gap_s - steady_gap_s > SLEEP_GAP_S or steady_gap_s > POLL_S + SLEEP_GAP_S


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel and wait. Raises what it died of, if it did."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
