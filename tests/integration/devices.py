"""Devices and a relay in one process, everything real but the process borders; clocks are arguments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.services.audit import AuditService
from hybridgw_daemon.services.devices import DeviceService
from hybridgw_daemon.services.expelling import ExpellingService
from hybridgw_daemon.services.gateway import DirectPairing
from hybridgw_daemon.services.membership import MembershipService
from hybridgw_daemon.services.pairing import PairingService
from hybridgw_daemon.services.ports import OWNER
from hybridgw_daemon.services.quarantine import QuarantineService
from hybridgw_daemon.services.recovery import RecoveryService
from hybridgw_daemon.services.relays import RelayService
from hybridgw_daemon.services.replica import Replica
from hybridgw_daemon.services.space import Space
from hybridgw_daemon.services.sync import SyncService, Worker
from hybridgw_daemon.stores import oplog
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_daemon.transports.peers.gateway import RelayGateway
from hybridgw_daemon.transports.peers.relay import Connect, WebSocketChannel
from hybridgw_protocol.localapi_access import ListAudit
from hybridgw_relay.app import RelayApp
from hybridgw_relay.config import load
from hybridgw_relay.services.admission import invite_hash
from hybridgw_relay.stores.admin import create_invite
from hybridgw_storage.database import SqliteDatabase
from hybridgw_storage.migrations import prepare_file


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Device:
    """A daemon without its local API."""

    def __init__(
        self, folder: Path, name: str, *, ahead_ms: int = 0, connect: Connect = WebSocketChannel.connect
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.ahead_ms = ahead_ms
        self.worker: Worker = asyncio.to_thread  # set before it runs
        prepare_file(folder / "replica.db", MIGRATIONS, stamp="test")
        self.database = SqliteDatabase(folder / "replica.db")
        self.replica = Replica()
        self.space = Space(name=name, platform="test", entropy=os.urandom)
        self.sync = SyncService(self.database, self.replica, self.space, clock=self.clock, worker=asyncio.to_thread)
        self.gateway = RelayGateway(
            self.sync, entropy=os.urandom, enrol=lambda url: self.relays.enrol_secret(url), connect=connect
        )
        self.relays = RelayService(self.database, self.sync, self.gateway, clock=self.clock, entropy=os.urandom)
        self.sync.peers.on_reconnect(self.gateway.reconnect)
        self.direct: DirectPairing | None = None  # set before it runs
        self.audit = AuditService(self.database, clock=self.clock)
        self.devices = DeviceService(
            self.database, self.replica, self.space, self.sync, clock=self.clock, forget_relays=self.relays.forget_all
        )
        self.membership = MembershipService(
            self.database, self.replica, self.space, self.sync, clock=self.clock, entropy=os.urandom
        )
        parts = (self.database, self.replica, self.space, self.sync, self.devices)
        self.expelling = ExpellingService(*parts, clock=self.clock)
        self.quarantine = QuarantineService(*parts, clock=self.clock)
        self.recovery = RecoveryService(
            self.space, self.sync, self.membership, self.devices, self.gateway, self.relays, clock=self.clock,
            entropy=os.urandom,
        )  # fmt: skip

    def clock(self) -> int:
        return now_ms() + self.ahead_ms

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            self.pairing = PairingService(
                self.sync, self.space, self.membership, self.gateway, self.relays, clock=self.clock,
                entropy=os.urandom, worker=self.worker, group=group, platform="test", direct=self.direct,
                noted=self.audit.note, refused=self.audit.refused,
            )  # fmt: skip
            tasks = [group.create_task(self.sync.run()), group.create_task(self.gateway.run())]
            rest = RestSealer(bytes(31) + b"\1")
            self.relays.rest = rest
            await self.membership.open(rest)
            self.relays.start()
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
        await self.database.close()

    async def write(self, *requests: Any) -> None:
        await self.database.write(lambda tx: self.replica.write(tx, requests, self.sync.now_ms()))
        self.sync.wrote()

    async def audited(self) -> dict[str, int]:
        """What the audit log has: event -> how often."""
        found: Counter[str] = Counter()
        for entry in (await self.audit.list(OWNER, ListAudit(limit=100))).items:
            found[entry.event] += entry.count
        return dict(found)

    def logs(self) -> dict[Any, Any]:
        return self.database.peek(oplog.logs)

    def shown(self) -> list[tuple[Any, ...]]:
        return self.database.peek(
            lambda c: c.execute(
                "SELECT c.name, d.id, CASE c.secret WHEN 0 THEN d.body END, d.conflicts FROM document d "
                "JOIN collection c USING(cid) ORDER BY c.name, d.id"
            ).fetchall()
        )


@contextlib.asynccontextmanager
async def relay(folder: Path, port: int = 0) -> AsyncIterator[tuple[str, Callable[[], Any]]]:
    config = load(environment={}, flags={"SERVER_HOST": "127.0.0.1", "SERVER_PORT": str(port)}, default_data=folder)
    app = RelayApp(config)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(app.serve(ready.set_result))
    url = await ready
    try:
        yield url, lambda: config.database
    finally:
        app.stop.set()
        await task


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def invite(database: Path) -> bytes:
    """The secret of a fresh invite, made by the operator's own function."""
    secret = os.urandom(32)
    other = SqliteDatabase(database)
    await other.write(
        lambda tx: create_invite(
            tx, "test", invite_hash(secret), now_ms=now_ms(), expires_ms=now_ms() + 60_000, max_bytes=None,
            max_devices=None, default_bytes=2**30, default_devices=32,
        )
    )  # fmt: skip
    await other.close()
    return secret


async def pair(a: Device, b: Device) -> None:
    """By code, as people do, at a relay."""
    await until(lambda: a.sync.peers.conversation() is not None)
    await pair_by_code(a, b)


async def pair_by_code(a: Device, b: Device) -> None:
    """The same wherever the code is entered."""
    offer = await a.pairing.start()
    joined = await b.pairing.join(offer.code)
    shown = await a.pairing.get(offer.id)
    await until(lambda: shown.state == "confirm" or shown.error)
    assert shown.error is None, shown.error
    assert shown.words == (await b.pairing.get(joined.id)).words
    await a.pairing.confirm(offer.id, True)
    await until(lambda: shown.state in ("done", "failed") and joined.state in ("done", "failed"))
    assert (shown.error, joined.error) == (None, None)
