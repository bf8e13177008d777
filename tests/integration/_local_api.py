"""The local API over real sockets: in this process over a real database, or a whole daemon as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from hybridgw_daemon import instance, paths
from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.core.targets import Rule
from hybridgw_daemon.services.access import Access, AccessSettings, open_access
from hybridgw_daemon.services.addressing import Members, Place
from hybridgw_daemon.services.collections import CollectionService
from hybridgw_daemon.services.conflicts import ConflictService
from hybridgw_daemon.services.connections import Connections, room_for_sockets
from hybridgw_daemon.services.documents import DocumentService
from hybridgw_daemon.services.events import EventHub
from hybridgw_daemon.services.health import HealthService
from hybridgw_daemon.services.live_queries import LiveQueries
from hybridgw_daemon.services.live_sessions import DEFAULT_BOUNDS, Bounds
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.metrics import Metrics
from hybridgw_daemon.services.rate_limits import RateLimits
from hybridgw_daemon.services.replica import Replica
from hybridgw_daemon.services.space import RestVault
from hybridgw_daemon.transports.local.app import LocalApi
from hybridgw_daemon.transports.local.auth import EVERYBODY, AddressFilter
from hybridgw_daemon.transports.local.calls import Call, Calls
from hybridgw_daemon.transports.local.commands import Services
from hybridgw_daemon.transports.local.cors import Cors
from hybridgw_daemon.transports.local.http import Patience
from hybridgw_daemon.transports.local.ws_socket import SocketPatience
from hybridgw_protocol import localapi as api
from hybridgw_protocol.localapi_operations import ListLogs, LogPage
from hybridgw_protocol.runtime import Endpoint, Secret, decode_endpoint
from hybridgw_storage.database import SqliteDatabase
from tests.unit.daemon._services import new_database

TOKEN = "planted-token-" + "t" * 29


@dataclass
class Answer:
    """status, headers and decoded body (None if there is none)."""

    status: int
    headers: Any
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def code(self) -> str:
        return str(self.body["code"])


class Clock:
    """Real time, moved on by hand."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead_ms += round(seconds * 1000)


class Stub:
    """The process, for the commands that ask it."""

    stopped = False
    fault: Exception | None = None

    def settings(self) -> api.SettingList:
        return api.SettingList(items=[])

    def paths(self) -> api.PathList:
        if self.fault:
            raise self.fault
        return api.PathList(home=None, config="c", database="d", endpoint="e", logs="l")

    async def logs(self, command: ListLogs) -> LogPage:
        return LogPage(items=[])

    def stop(self) -> api.Stopping:
        self.stopped = True
        return api.Stopping(pid=1)


class Alone(Members):
    """A space with one device."""

    def others(self) -> list[Place]:
        return []


@dataclass
class Api:
    """A local API that answers at `port`."""

    port: int
    services: Services
    hub: EventHub
    database: SqliteDatabase
    replica: Replica
    daemon: Stub
    session: aiohttp.ClientSession
    local: LocalApi
    access: Access
    clock: Clock
    calls: list[Call] = field(default_factory=list)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        raw: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """One request; header names with `_` for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(
            method, aiohttp.client.URL(url, encoded=True), headers=sent, skip_auto_headers=["Content-Type"],
            data=io.BytesIO(data) if data and len(data) > 500_000 else data,
        ) as got:  # fmt: skip
            return Answer(got.status, got.headers, await got.read())

    async def send(self, raw: bytes, *, wait_s: float = 30.0) -> bytes:
        """Bytes as they are, on a connection of their own; what comes back until it is closed or silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            found = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while part := await asyncio.wait_for(reader.read(65_536), wait_s):
                    found += part
                    head, end, rest = found.partition(b"\r\n\r\n")
                    length = [
                        line.partition(b":")[2]
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ]
                    if end and length and len(rest) >= int(length[0]):
                        break
            return found
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    locked: bool = False,
    max_connections: int = 1_000,
    patience: Patience | None = None,
    settings: AccessSettings = AccessSettings("HS256", 86_400, b"k" * 32),  # noqa: B008 - it is frozen
    cors: Cors | None = None,
    limits: RateLimits | None = None,
    addresses: AddressFilter = EVERYBODY,
    socket_patience: SocketPatience | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
    mode_limits: dict[str, int] | None = None,
    idle_s: float = 30,
    rules: Sequence[Rule] = (),
) -> AsyncIterator[Api]:
    """A local API over a fresh database in *folder*."""
    new_database(folder / "a.db")
    database = SqliteDatabase(folder / "a.db")
    replica = Replica(None if locked else RestVault(RestSealer(bytes(range(32))), os.urandom))
    hub = EventHub(database, lambda: replica.vault, "e0")
    clock = Clock()
    collections = CollectionService(database, replica, clock=clock, wrote=hub.wake)
    daemon = Stub()
    metrics = Metrics()
    connections = Connections(clock=clock, limit=room_for_sockets(max_connections), mode_limits=mode_limits)
    access = await open_access(
        database,
        settings,
        clock=clock,
        entropy=os.urandom,
        revoked=connections.revoke,
        changed=lambda: hub.publish("grants"),
        counted=metrics.authenticated,
    )
    messages = MessageService(
        database, clock=clock, entropy=os.urandom, published=hub.publish, routed=metrics.routed, rules=rules
    )
    services = Services(
        documents=DocumentService(
            database, replica, collections, clock=clock, entropy=os.urandom, wrote=hub.wake, position=hub.position
        ),
        collections=collections,
        conflicts=ConflictService(database, replica, clock=clock, wrote=hub.wake),
        events=hub,
        health=HealthService(
            database, version="0", uptime_s=time.monotonic, performance=metrics.performance, worker=asyncio.to_thread
        ),
        metrics=metrics,
        daemon=daemon,
        access=access,
        messages=messages,
    )
    messages.addressing.members = Alone()
    sockets = instance.open_sockets(paths.find(str(folder)), 0)
    port = int(sockets[0].getsockname()[1])
    live = LiveQueries(database, hub, lambda: replica.vault)
    calls: list[Call] = []

    def called(call: Call) -> None:
        calls.append(call)
        took_s, has_credential = call.took_ms / 1000, call.principal is not None
        metrics.answered(call.method, call.template, call.status, took_s, has_credential=has_credential)

    limits = limits or RateLimits(1e6, 1e6, clock=lambda: time.monotonic_ns() // 1_000_000)
    local = LocalApi(
        services, live, connections, Secret(TOKEN), port, prefix="t", max_connections=max_connections, heartbeat_s=0.5,
        idle_s=idle_s, patience=patience, cors=cors, addresses=addresses, routed=metrics.routed,
        calls=Calls(limits, access=called, limited=metrics.refused_rate, refused=access.audit.refused),
        socket_patience=socket_patience, bounds=bounds,
    )  # fmt: skip
    await local.start(sockets)
    tasks = [asyncio.create_task(local.run()), asyncio.create_task(local.run_sockets()), asyncio.create_task(hub.run())]
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Api(port, services, hub, database, replica, daemon, session, local, access, clock, calls)
    finally:
        await local.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await access.close()
        await database.close()


# ---- a daemon as a process -------------------------------------------------------------------------------------------
class Process:
    """A daemon of its own."""

    def __init__(
        self, home: Path, *arguments: str, env: dict[str, str] | None = None, before: Any = None,
        module: str = "hybridgw_daemon",
    ) -> None:  # fmt: skip
        """Args: before: called in the child; module: what is started, with the daemon's arguments."""
        self.home = home
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HYBRIDGW_", "DBUS_"))}
        environment["HYBRIDGW_LAN_ENABLED"] = "false"  # nobody on the network of whoever runs the tests
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--home", str(home), "--port", "0", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before, env=environment | (env or {}),
        )  # fmt: skip

    def ready(self) -> Endpoint:
        """Wait until it answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "ready at" not in line:
            code, _, said = self.end()
            raise AssertionError(f"it ended with {code}: {line}{said}")
        return decode_endpoint((self.home / "endpoint.json").read_bytes())

    def end(self, *, wait_s: float = 30) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) once it has ended by itself."""
        out, err = self.process.communicate(timeout=wait_s)
        return self.process.returncode, out, err

    def stop(self) -> tuple[int, str, str]:
        """Ask it to end, and wait."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.end()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def daemon(home: Path, *arguments: str, **more: Any) -> Iterator[Process]:
    """A daemon process that is gone afterwards, however the test ends."""
    process = Process(home, *arguments, **more)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()
