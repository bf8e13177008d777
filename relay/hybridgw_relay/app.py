"""The composition root: the one place that knows all parts, puts them together, runs and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.errors import AlreadyRunning, ConfigInvalid, PortTaken
from hybridgw_storage.file_lock import Held, hold
from hybridgw_storage.migrations import make_folder

from .config import Config
from .core.quotas import DeviceRates
from .fanout.local import LocalFanout
from .services.admission import AdmissionService
from .services.batches import BatchService
from .services.conversation import Services
from .services.gate import Gate, GateLimits
from .services.host import Host, Worker
from .services.janitor import Janitor
from .services.mailboxes import Mailboxes
from .services.metrics import RelayMetrics
from .services.spaces import Spaces
from .stores.sqlite import SqliteRelayStore
from .transports.http import HttpPages, add_headers, constant_errors
from .transports.metrics import metrics_application
from .transports.ws import PATH, WebSocketEndpoint

T = TypeVar("T")
log = logging.getLogger(__name__)

SETTLE_S: Final = 2.0  # for pushes that were taken, before their connections are closed
CLOSE_S: Final = 2.5  # for connections to go
FIRST_REQUEST_S: Final = 10.0  # a connection that asks for nothing so long is cut
READY_CACHE_S: Final = 2.0
BACKLOG: Final = 1_024
LOCK_NAME: Final = "relay.lock"  # beside the database


class _Stop(Exception):
    """Raised by the task that waits for the stop event."""


class RelayApp:
    """One relay. `serve` runs it until `stop` is set."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stop = asyncio.Event()
        self.url = ""  # of this machine, once it listens
        self.metrics_url = ""  # likewise, "" if there are none
        self._metrics = RelayMetrics()
        self._names: frozenset[str] = frozenset()

    async def serve(self, ready: Callable[[str], None] = lambda _url: None) -> None:
        """Run until told to stop. Args: ready: called with the local URL once it listens.

        Raises: AlreadyRunning, PortTaken, StorageUnavailable, DatabaseTooNew, DatabaseDamaged, ConfigInvalid: it could
        not start.
        """
        with _alone(self.config.database):
            await self._serve_alone(ready)

    async def _serve_alone(self, ready: Callable[[str], None]) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        store = SqliteRelayStore.open(self.config.database, stamp=stamp)
        with ThreadPoolExecutor(1, "records") as records, ThreadPoolExecutor(1, "signatures") as signatures:
            try:
                await self._serve(store, _worker(records), _worker(signatures), ready)
            finally:
                await store.close()

    async def _serve(self, store: SqliteRelayStore, work: Worker, check: Worker, ready: Callable[[str], None]) -> None:
        host = Host(lambda: time.time_ns() // 1_000_000, lambda: time.monotonic_ns() // 1_000_000, os.urandom, work)
        fanout, mailboxes = LocalFanout(), Mailboxes(host, joins_per_minute=self.config.joins_per_minute)
        spaces = Spaces(store, fanout, host)
        batches = BatchService(store, fanout, host, check=check, committed=self._metrics.commits.add)
        limits = GateLimits(
            most=self.config.max_connections,
            per_address=self.config.connections_per_address,
            strangers_per_address=min(256, self.config.connections_per_address),
            failures_per_minute=self.config.strangers_per_minute,
            failure_burst=self.config.strangers_burst,
        )
        gate = Gate(host, limits)
        self._metrics.watch(gate, batches, spaces)
        services = Services(
            host, store, spaces, AdmissionService(store, spaces, host), batches, mailboxes, gate,
            DeviceRates(self.config.device), lambda: self._names, self.config.heartbeat_s, self.config.idle_s,
        )  # fmt: skip
        janitor = Janitor(store, spaces, mailboxes)
        sockets = WebSocketEndpoint(
            services, janitor, trusted_proxies=self.config.trusted_proxies,
            allowed_origins=self.config.allowed_origins, is_tls=self.config.tls_cert is not None,
        )  # fmt: skip
        with contextlib.suppress(_Stop):
            async with self._listening(sockets, store), self._serving_metrics():
                await store.set_meta("urls", " ".join(self.config.public_urls or (self.url,)))
                log.info("listening url=%s public=%s", self.url, " ".join(self.config.public_urls) or "-")
                ready(self.url)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(batches.run(), name="batches")
                        group.create_task(janitor.run(), name="janitor")
                        group.create_task(self._wait_for_stop(sockets, batches, janitor), name="stop")
                except* _Stop:
                    pass
        log.info("stopping: %d batches in %d commits were stored", batches.stored_batches, batches.commits)
        await spaces.save_seen()

    async def _wait_for_stop(self, sockets: WebSocketEndpoint, batches: BatchService, janitor: Janitor) -> None:
        await self.stop.wait()
        sockets.is_stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await batches.settled()
        janitor.close_all()
        raise _Stop

    @contextlib.asynccontextmanager
    async def _listening(self, sockets: WebSocketEndpoint, store: SqliteRelayStore) -> AsyncIterator[None]:
        waiting: set[object] = set()  # connections that asked for nothing yet

        @web.middleware
        async def note_request(request: web.Request, handler: Handler) -> web.StreamResponse:
            waiting.discard(request.protocol)
            started, resource = time.perf_counter(), request.match_info.route.resource
            response = await handler(request)
            self._metrics.requested(
                request.method if request.method in ("GET", "HEAD", "POST") else "other",
                "-" if resource is None else resource.canonical, response.status,
                None if response.status == 101 else time.perf_counter() - started,
            )  # fmt: skip
            return response

        application = web.Application(middlewares=[note_request, constant_errors], client_max_size=1024)
        application.add_routes([*HttpPages(_cached(store.is_writable)).routes(), web.get(PATH, sockets.handle)])
        application.on_response_prepare.append(add_headers)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, keepalive_timeout=15)
        await runner.setup()
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            assert runner.server is not None  # noqa: S101 - after setup
            handler = runner.server()
            waiting.add(handler)
            loop.call_later(FIRST_REQUEST_S, cut_if_silent, handler)
            return handler

        def cut_if_silent(handler: web.RequestHandler) -> None:
            if handler in waiting:
                waiting.discard(handler)
                if handler.transport is not None:
                    handler.transport.abort()

        try:
            server = await loop.create_server(
                protocol, self.config.host, self.config.port, ssl=self._tls(), backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            await runner.cleanup()
            raise PortTaken(
                f"Cannot listen on {self.config.host} port {self.config.port}: {error.strerror or error}. Is another "
                "program there? Choose another with --port."
            ) from error
        try:
            self._set_names(server.sockets[0].getsockname()[1])
            yield
        finally:
            server.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await runner.shutdown()
                    await runner.cleanup()

    @contextlib.asynccontextmanager
    async def _serving_metrics(self) -> AsyncIterator[None]:
        """On the port of its own. Raises: PortTaken: one that was chosen; the usual one is done without."""
        config = self.config
        if not config.metrics_enabled:
            yield
            return
        port = config.metrics_port
        application = metrics_application(self._metrics.text, config.metrics_host, lambda: port)
        runner = web.AppRunner(
            application, access_log=None, handle_signals=False, keepalive_timeout=75, shutdown_timeout=CLOSE_S
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, config.metrics_host, port)
            try:
                await site.start()
            except OSError as error:
                if config.is_metrics_port_chosen:
                    raise PortTaken(
                        f"Cannot listen on {config.metrics_host} port {port} for metrics: {error.strerror or error}. "
                        "METRICS_PORT names another."
                    ) from error
                log.warning("metrics are not served: port %d is taken; METRICS_PORT names another", port)
            else:
                port = int(runner.addresses[0][1])
                shown = f"[{config.metrics_host}]" if ":" in config.metrics_host else config.metrics_host
                self.metrics_url = f"http://{shown}:{port}/metrics"
                log.info("metrics url=%s", self.metrics_url)
            yield
        finally:
            await runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        if self.config.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.config.tls_cert, self.config.tls_key)
        except (ssl.SSLError, OSError) as error:
            raise ConfigInvalid(f"TLS_CERT and TLS_KEY cannot be used together: {error}") from error
        return context

    def _set_names(self, port: int) -> None:
        """The names by which devices may call this relay; see protocol/SPEC.md, "Authentication".

        Named ones replace the machine's own names; loopback always counts, and so does, per connection, the address
        that was dialled (transports/ws.py).
        """
        scheme = "https" if self.config.tls_cert else "http"
        host = self.config.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - compared, not bound
        self.url = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"
        names = {"localhost", "127.0.0.1", "[::1]"}
        if not self.config.public_urls:
            own = socket.gethostname().lower().rstrip(".")
            names |= {own, f"{own.partition('.')[0]}.local"}
        local = {endpoint(f"{scheme}://{name}:{port}") for name in names if name}
        self._names = frozenset(local | {endpoint(url) for url in self.config.public_urls} | {endpoint(self.url)})


@contextlib.contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Be the only relay on this database: what is new in it, each tells only the devices that are connected to itself.

    Raises: AlreadyRunning: names the process that holds it; StorageUnavailable.
    """
    lock = database.with_name(LOCK_NAME)
    make_folder(lock.parent)
    try:
        with hold(lock, b"%d" % os.getpid()):
            yield
    except Held as held:
        who = f" (process {held.note.decode()})" if held.note.isdigit() else ""
        raise AlreadyRunning(
            f"Another relay{who} serves this folder already: {database.parent}. Stop that one first, or choose another "
            "folder with --home."
        ) from None


def _worker(pool: ThreadPoolExecutor) -> Worker:
    async def work(fn: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, fn)

    return work


def _cached(check: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    """The answer of at most READY_CACHE_S ago: strangers may ask as often as they like."""
    known, known_at = True, time.monotonic()  # it has just written its own addresses

    async def answer() -> bool:
        nonlocal known, known_at
        if time.monotonic() - known_at >= READY_CACHE_S:
            known_at = time.monotonic()
            known = await check()
        return known

    return answer


async def run(config: Config, ready: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises: as RelayApp.serve."""
    app = RelayApp(config)
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(app.stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    await app.serve(ready)
