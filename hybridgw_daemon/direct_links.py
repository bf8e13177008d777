"""The parts of direct links, put together: who is near, where this device listens, pairing on the network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hybridgw_storage.database import SqliteDatabase

from .clocks import clock, steady
from .config import LanConfig
from .core.addresses import Address
from .services.nearby import Nearby
from .services.probing import ProbingService
from .services.sync import SyncService
from .transports.peers.discovery import Discovery, find_pairing, finding_any
from .transports.peers.greeter import Greeter
from .transports.peers.interfaces import Choice
from .transports.peers.lan import LanGateway
from .transports.peers.lan_pairing import LanPairing
from .transports.peers.lan_recovery import LanRecovery
from .transports.peers.mailbox import Desk
from .transports.peers.probe import LanProber
from .transports.peers.tls import TlsPlace

FIND_CODE_S: Final = 6.0  # a device on the network that shows a code is found in a second


class DirectLinks:
    """One run of them; nearby, probing and pairing are there before the network is."""

    def __init__(
        self, config: LanConfig, folder: Path, database: SqliteDatabase, sync: SyncService, *,
        refused: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Args: refused: told of who was, for the audit log."""
        self._config, self._sync = config, sync
        if config.enabled:
            sync.peers.lan_starts()
        self._choice = Choice(config.allow, config.deny)
        self.nearby = Nearby(database, clock=clock)
        place, desk = TlsPlace(host=config.host, port=config.port, folder=folder, steady_ms=steady), Desk()
        self.gateway = LanGateway(sync, self.nearby, place, entropy=os.urandom, desk=desk, refused=refused)
        prober = LanProber(
            self.nearby, lambda: self.discovery, choice=self._choice, greet=Greeter(sync, place), state=self._state,
            connected=lambda: len(sync.peers.directs()), clock_ms=sync.peers.correction_ms,
        )  # fmt: skip
        self.probing = ProbingService(self.nearby, prober, state=self._state)
        self.pairing = LanPairing(
            sync, self.gateway, self.nearby, place, desk, offer=self._offer, find=self._find, why=self.probing.cause
        )
        self.recovery = LanRecovery(
            sync, self.gateway, self.nearby, place, find=lambda told: finding_any(told, choice=self._choice),
            entropy=os.urandom,
        )  # fmt: skip
        self.discovery: Discovery | None = None
        self.keys_open = asyncio.Event()
        self._mark = b""

    def _state(self) -> tuple[str | None, int]:
        return self._sync.peers.lan.off, self._sync.peers.lan.port

    async def run(self) -> None:
        """They begin with the keys, by which members know each other."""
        if self._config.enabled:
            await self.keys_open.wait()
            await self.gateway.run(self._discover)

    async def _discover(self, port: int) -> None:
        self.discovery = Discovery(
            self.nearby, port=port, mark=lambda instance: self._sync.space.discovery_keys().mark(instance),
            recognise=lambda instance, k: self._sync.space.discovery_keys().recognise(instance, k), clock=clock,
            entropy=os.urandom, choice=self._choice,
        )  # fmt: skip
        self.keys_changed()
        await self.discovery.run()

    def keys_changed(self) -> None:
        """Perhaps they did: then this device is announced by the newest. Perhaps a device is out."""
        self.gateway.members_changed()
        if self.discovery is not None:
            mark, self._mark = self._mark, self._sync.space.discovery_keys().mark(bytes(8))
            if mark and mark != self._mark:
                self.discovery.renew()

    def _offer(self, nameplate: int | None) -> None:
        if self.discovery is not None:
            if nameplate is None:
                self.discovery.end_pairing()
            else:
                self.discovery.offer_pairing(nameplate)

    async def _find(self, nameplate: int) -> list[Address]:
        return await find_pairing(nameplate, timeout_s=FIND_CODE_S, choice=self._choice)
