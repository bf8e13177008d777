"""The composition root: every part is made here, in the order in which it is needed, and ended in the reverse order.

The lock of the profile, the log, the database, the services over it, the local API; then one group of named tasks until
somebody asks for the end. Nothing that may take long (a keyring, the network, a check of the file) stands between the
start and the first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from hybridgw_protocol.errors import DatabaseDamaged, HybridGWError, PortTaken, StorageUnavailable
from hybridgw_protocol.localapi import PathList, Setting, SettingList, Stopping
from hybridgw_protocol.localapi_operations import ListLogs, LogPage
from hybridgw_protocol.pairing_messages import clean_name
from hybridgw_protocol.runtime import VERSION, Endpoint, Secret
from hybridgw_storage.check import Soundness
from hybridgw_storage.connection import HELPS
from hybridgw_storage.database import SqliteDatabase
from hybridgw_storage.migrations import prepare_file

from . import instance, logs
from .clocks import clock, steady
from .config import Config
from .core.entropy import EntropyPool
from .core.rest import RestSealer
from .direct_links import DirectLinks
from .paths import Paths
from .services.access import Access, AccessSettings, open_access
from .services.alarms import AlarmService
from .services.collections import CollectionService
from .services.conflicts import ConflictService
from .services.connections import Connections, room_for_sockets
from .services.contacts import ContactService
from .services.devices import DeviceService
from .services.documents import DocumentService
from .services.events import EventHub, prepare
from .services.expelling import ExpellingService
from .services.health import HealthService
from .services.letters import LetterService
from .services.live_queries import LiveQueries
from .services.log_reading import LogReader
from .services.mail import MailService
from .services.membership import MembershipService
from .services.messages import MessageService
from .services.metrics import Metrics
from .services.pairing import PairingService
from .services.people import People
from .services.quarantine import QuarantineService
from .services.rate_limits import RateLimits
from .services.recovery import RecoveryService
from .services.relays import RelayService
from .services.replica import Replica
from .services.space import Space
from .services.sync import SyncService
from .services.unlocking import UnlockingService
from .services.watching import services_of, watch_connections, watch_daemon, watch_sync
from .stores.schema import MIGRATIONS
from .stores.secret_kinds import SecretKind
from .stores.secrets_file import PassphraseSource
from .transports.local.app import LocalApi, MetricsApi
from .transports.local.auth import AddressFilter
from .transports.local.calls import Call, Calls
from .transports.local.commands import Services
from .transports.local.cors import Cors
from .transports.peers.gateway import RelayGateway

TOKEN_BYTES: Final = 32
FOLDER_LOOK_S: Final = 5.0  # whether the files are still where they were

log = logging.getLogger(__name__)
trace = logging.getLogger("trace")


class _Stop(Exception):
    """Somebody asked for the end."""


def serve(paths: Paths, config: Config, *, passphrase_fd: int | None = None) -> int:
    """Run the daemon of a profile until it is stopped. Returns: the exit code; says on stderr why it is not 0."""
    started_ms = clock()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(instance.lock(paths, started_ms))
            logging_ = logs.setup(
                paths.log_file,
                level=config.log.level,
                debug=config.log.debug,
                readable=config.log.environment == "development",
                terminal=config.log.terminal,
            )
            stack.callback(logging_.close)
            for warning in config.warnings:
                log.warning("%s", warning, extra={"event": "config"})
            daemon = Daemon(paths, config, logging_, started_ms, passphrase_fd)
            try:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    runner.run(daemon.run())
            except Exception:
                log.critical("the daemon ended", exc_info=True, extra={"event": "daemon.failed"})
                raise
        return 0
    except Exception as failure:  # noqa: BLE001 - the edge of the program: one line for the person, the rest is logged
        error = _first(failure)
        if isinstance(error, HybridGWError):
            _say(f"error: {error.message}")
        else:
            _say(f"error: {type(error).__name__}; the log says where it arose: {paths.log_file}")
        return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where there is one (not on Windows): a fifth more writes, for 2 MB of memory and no later start."""
    try:
        import uvloop  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Daemon:
    """One run of the daemon."""

    def __init__(
        self, paths: Paths, config: Config, logging_: logs.Logging, started_ms: int, passphrase_fd: int | None
    ) -> None:
        self._paths = paths
        self._config = config
        self._logging = logging_
        self._started_ms = started_ms
        self._started = time.monotonic()
        self._passphrase_fd = passphrase_fd
        self._log_reader = LogReader(paths.log_file, worker=asyncio.to_thread)
        self._stopping: asyncio.Event | None = None

    async def run(self) -> None:
        """Until stopped. Raises: StateError kinds: what keeps it from working."""
        self._stopping = asyncio.Event()
        with _signals(self._stopping), contextlib.suppress(_Stop):
            async with contextlib.AsyncExitStack() as stack:
                await self._run(stack)

    async def _run(self, stack: contextlib.AsyncExitStack) -> None:
        # 1. The database. Opening takes milliseconds; only a new or an old file is worked on.
        prepare_file(self._paths.database, MIGRATIONS, stamp=_stamp())
        loop, checked = asyncio.get_running_loop(), asyncio.Event()
        found: list[Soundness] = []

        def on_check(soundness: Soundness) -> None:  # on the checking thread
            found.append(soundness)
            loop.call_soon_threadsafe(checked.set)

        metrics, debug = Metrics(), self._config.log.debug
        database = SqliteDatabase(
            self._paths.database, on_check=on_check, on_commit=metrics.committed, trace=_trace_sql if debug else None
        )
        stack.push_async_callback(database.close)
        epoch = await database.write(lambda tx: prepare(tx, os.urandom))

        # 2. Services over it. Secret collections stay sealed until the key of this profile is open (step 5).
        replica = Replica()
        hub = EventHub(database, lambda: replica.vault, epoch)
        after_write: list[Callable[[], None]] = [hub.wake]  # sync: append SyncService.wrote

        def wrote() -> None:
            for action in after_write:
                action()

        collections = CollectionService(database, replica, clock=clock, wrote=wrote)
        documents = DocumentService(
            database, replica, collections, clock=clock, entropy=EntropyPool(os.urandom).take, wrote=wrote,
            position=hub.position,
        )  # fmt: skip
        max_connections = instance.room_for(self._config.server.max_connections)
        connections = Connections(
            clock=clock, limit=room_for_sockets(max_connections), mode_limits=dict(self._config.server.mode_limits)
        )
        access = await open_access(
            database,
            self._access_settings(),
            clock=clock,
            entropy=os.urandom,
            revoked=connections.revoke,
            changed=lambda: hub.publish("grants"),
            counted=metrics.authenticated,
        )
        stack.push_async_callback(access.close)
        health_service = HealthService(
            database, version=VERSION, uptime_s=lambda: time.monotonic() - self._started,
            performance=metrics.performance, worker=asyncio.to_thread,
        )  # fmt: skip
        messages = MessageService(
            database, clock=clock, entropy=os.urandom, published=hub.publish, routed=metrics.routed,
            rules=self._config.message_rules,
        )  # fmt: skip
        services = Services(
            documents=documents,
            collections=collections,
            conflicts=ConflictService(database, replica, clock=clock, wrote=wrote),
            events=hub,
            health=health_service,
            daemon=self,
            access=access,
            docs_open=self._config.log.environment == "development",
            messages=messages,
        )
        watch_daemon(metrics, database, health_service, hub)
        watch_connections(metrics, connections.open_by_mode)

        # 3. The local API: from here on programs get answers.
        sockets = instance.open_sockets(self._paths, self._config.server.port)
        for listening in sockets:
            stack.callback(listening.close)
        port = int(sockets[0].getsockname()[1])
        if self._config.server.port:  # not with 0, any free one
            instance.keep_port(self._paths, port)
        token = Secret(secrets.token_urlsafe(TOKEN_BYTES))
        prefix, called = secrets.token_hex(3), self._called(metrics)
        limits = RateLimits(self._config.limits.per_minute, self._config.limits.burst, clock=steady)
        addresses = AddressFilter(self._config.limits.allow, self._config.limits.deny)
        metrics_api: MetricsApi | None = None
        if self._config.metrics.enabled and self._config.metrics.port is not None:
            try:
                own = instance.open_sockets(self._paths, self._config.metrics.port)
            except PortTaken as error:
                raise PortTaken(f"{error.message.partition('. ')[0]}: METRICS_PORT names another one.") from error
            for listening in own:
                stack.callback(listening.close)
            own_port = int(own[0].getsockname()[1])
            metrics_api = MetricsApi(
                metrics, token, own_port, prefix=f"{prefix}m", calls=Calls(limits, access=called), addresses=addresses
            )
            await metrics_api.start(own)
            stack.push_async_callback(metrics_api.close)
            log.info("metrics on port %d", own_port, extra={"event": "metrics.ready"})
        elif self._config.metrics.enabled:
            services.metrics = metrics
        api = LocalApi(
            services,
            LiveQueries(database, hub, lambda: replica.vault),
            connections,
            token,
            port,
            prefix=prefix,
            max_connections=max_connections,
            heartbeat_s=self._config.server.heartbeat_s,
            idle_s=self._config.server.idle_s,
            calls=Calls(limits, access=called, limited=metrics.refused_rate, refused=access.audit.refused),
            addresses=addresses,
            trace=_trace_request if debug else None,
            cors=Cors(self._config.access.methods, self._config.access.headers),
            routed=metrics.messages.add,  # without a step between: messages of topics come by the hundred thousand
        )
        await api.start(sockets)
        stack.push_async_callback(api.close)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", port, os.getpid(), token, self._started_ms, VERSION)
        instance.publish(self._paths, endpoint)
        stack.callback(instance.withdraw, self._paths, endpoint)
        self._tell_ready(endpoint)
        gc.freeze()
        gc.enable()

        # 4. The tasks, until somebody asks for the end.
        try:
            async with asyncio.TaskGroup() as group:
                for name, part in (
                    ("stop", self._wait_for_stop),
                    ("api", api.run),
                    ("sockets", api.run_sockets),
                    ("events", hub.run),
                    ("access", access.run),
                    ("messages", messages.run),
                    ("log", self._flush_log),
                    ("folder", self._watch_folder),
                ):
                    group.create_task(part(), name=name)
                if metrics_api is not None:
                    group.create_task(metrics_api.run(), name="metrics")
                if not database.ended_cleanly:
                    group.create_task(self._judge_file(checked, found), name="check-file")
                # 5. Sync: begins with the key of this profile, which may take long to open or not be there at all.
                self._begin_sync(group, database, replica, services, health_service, after_write, hub, access, metrics)
        except* _Stop:
            raise _Stop from None

    def _begin_sync(
        self,
        group: asyncio.TaskGroup,
        database: SqliteDatabase,
        replica: Replica,
        services: Services,
        health_service: HealthService,
        after_write: list[Callable[[], None]],
        hub: EventHub,
        access: Access,
        metrics: Metrics,
    ) -> None:
        config, entropy = self._config, os.urandom
        label = clean_name(config.device_name or socket.gethostname())
        space = Space(name=label, platform=sys.platform, entropy=entropy)

        def published(what: str) -> None:
            if what == "devices":
                direct.keys_changed()
            if what == "rebuilt":
                group.create_task(renew_epoch(), name="renew-epoch")
            else:
                hub.publish(what)

        async def renew_epoch() -> None:
            hub.reset(await database.write(lambda tx: prepare(tx, entropy)))

        sync = SyncService(
            database, replica, space, clock=clock, worker=asyncio.to_thread, published=published, counted=metrics.synced
        )
        gateway = RelayGateway(sync, entropy=entropy, enrol=lambda url: relays.enrol_secret(url))
        relays = RelayService(database, sync, gateway, clock=clock, entropy=entropy)
        direct = DirectLinks(config.lan, self._paths.data, database, sync, refused=access.audit.refused)
        direct.nearby.on_change(gateway.look)

        def reconnect(full: bool) -> None:
            gateway.reconnect(full)
            direct.gateway.reconnect(full)

        sync.peers.on_reconnect(reconnect)
        assert services.messages is not None  # noqa: S101 - made with the others
        mail = sync.mail = MailService(
            database, space, services.messages, clock=sync.now_ms, entropy=entropy, wake=sync.peers.wake
        )

        def wrote_contacts() -> None:
            sync.wrote()
            sync.resume("documents")

        people = services.messages.addressing.others = People(
            database, space, replica, clock=sync.now_ms, wrote=wrote_contacts, published=hub.publish
        )
        people.wake = sync.peers.wake
        letters = sync.letters = LetterService(
            database, space, people, mail, add_records=sync.add_records, told=services.messages.told,
            clock=sync.now_ms, entropy=entropy,
            wake=sync.peers.wake,
        )  # fmt: skip
        after_write.append(sync.wrote)
        membership = MembershipService(database, replica, space, sync, clock=clock, entropy=entropy)

        def opened(rest: RestSealer) -> None:
            access.unlocked(rest)
            letters.unlocked(rest)
            direct.keys_open.set()

        passphrase = PassphraseSource.from_environment(os.environ, fd=self._passphrase_fd)
        if config.secrets.passphrase_file is not None:
            passphrase = PassphraseSource(credential=config.secrets.passphrase_file, fd=self._passphrase_fd)
        unlocking = UnlockingService(
            database, space, membership, relays, kind=SecretKind(config.secrets.store), passphrase=passphrase,
            folder=self._paths.data, entropy=entropy, worker=asyncio.to_thread, opened=opened,
        )  # fmt: skip

        services.sync = sync
        devices = DeviceService(
            database, replica, space, sync, clock=clock, forget_relays=relays.forget_all, noted=access.audit.note
        )
        services.devices = devices
        services.expelling = ExpellingService(database, replica, space, sync, devices, clock=clock)
        quarantine = services.quarantine = QuarantineService(database, replica, space, sync, devices, clock=clock)
        services.recovery = RecoveryService(
            space, sync, membership, devices, gateway, relays, clock=clock, entropy=entropy, direct=direct.recovery
        )
        services.relays = relays
        services.lan = direct.probing
        services.alarms = AlarmService(database)
        services.contacts = ContactService(
            database, space, people, clock=clock, relays=lambda: list(sync.peers.known), noted=access.audit.note
        )
        services.pairing = PairingService(
            sync, space, membership, gateway, relays, clock=clock, entropy=entropy, worker=asyncio.to_thread,
            group=group, platform=sys.platform, direct=direct.pairing, noted=access.audit.note,
            refused=access.audit.refused,
        )  # fmt: skip
        health_service.add("keys", unlocking.component)
        health_service.add_services(lambda: services_of(config.secrets.store, unlocking.component(), sync))
        watch_sync(metrics, database, sync, clock)
        for name, part in (
            ("unlock", unlocking.run), ("sync", sync.run), ("relays", gateway.run), ("lan", direct.run),
            ("mail", mail.run), ("letters", letters.run), ("quarantine", quarantine.run),
        ):  # fmt: skip
            group.create_task(part(), name=name)

    def _access_settings(self) -> AccessSettings:
        config = self._config.access
        secret = None if config.secret is None else config.secret.reveal()
        return AccessSettings(config.algorithm, config.expiration_s, secret, frozenset(config.origins))

    def _called(self, metrics: Metrics) -> Callable[[Call], None]:
        """What is done with every call that was answered: a line in the log, a number in the metrics."""
        access = self._logging.access

        def called(call: Call) -> None:
            has_credential = call.principal is not None
            metrics.answered(
                call.method, call.template, call.status, call.took_ms / 1000, has_credential=has_credential
            )
            access(*call)

        return called

    # ---- tasks -------------------------------------------------------------------------------------------------------
    async def _wait_for_stop(self) -> None:
        assert self._stopping is not None  # noqa: S101 - made by run
        await self._stopping.wait()
        log.info("stopping", extra={"event": "daemon.stop"})
        raise _Stop

    async def _watch_folder(self) -> None:
        """What is written into a file that was deleted is gone with it. Raises: StorageUnavailable."""
        is_there = self._paths.database.exists
        while is_there():  # noqa: ASYNC110 - a file system tells nobody
            await asyncio.sleep(FOLDER_LOOK_S)
        raise StorageUnavailable(
            f"{self._paths.database} was deleted or moved while HybridGW ran, so it has stopped: nothing would be kept "
            "any more. Start it again: hybridgw up"
        )

    async def _flush_log(self) -> None:
        while True:  # at once: who has just started it may look at the log next
            self._logging.flush()
            await asyncio.sleep(logs.FLUSH_S)

    async def _judge_file(self, checked: asyncio.Event, found: list[Soundness]) -> None:
        """After a crash the whole file is looked over, beside serving. Raises: DatabaseDamaged."""
        log.warning("the last run did not end in order; checking the database", extra={"event": "database.check"})
        await checked.wait()
        if not found[0].sound:
            raise DatabaseDamaged(
                f"{self._paths.database} is damaged, so the daemon stopped before it got worse. {HELPS}"
            )
        log.info("the database is sound", extra={"event": "database.check"})

    # ---- what the local API asks of the process ----------------------------------------------------------------------
    def settings(self) -> SettingList:
        """The configuration in force."""
        items = [
            Setting(name=s.name, value=s.value, default=s.default, source=s.source, effect=s.effect)
            for s in self._config.settings
        ]
        return SettingList(items=items, warnings=list(self._config.warnings))

    def paths(self) -> PathList:
        """Where the files are."""
        p = self._paths
        return PathList(
            home=str(p.home) if p.home else None,
            config=str(p.config_file),
            database=str(p.database),
            endpoint=str(p.endpoint),
            logs=str(p.log_file),
        )

    async def logs(self, command: ListLogs) -> LogPage:
        """The end of the log file."""
        return await self._log_reader.list(command)

    def stop(self) -> Stopping:
        """End in order; requests under way get their answers."""
        assert self._stopping is not None  # noqa: S101 - only a running daemon is asked
        self._stopping.set()
        return Stopping(pid=os.getpid())

    def _tell_ready(self, endpoint: Endpoint) -> None:
        where = self._paths.home or self._paths.data
        sys.stdout.write(f"HybridGW {VERSION} ready at {endpoint.url} (profile {where})\n")
        sys.stdout.flush()
        log.info("ready on port %d", endpoint.port, extra={"event": "daemon.ready"})


def _trace_sql(sql: str, took_s: float) -> None:
    """Debug: a statement with its placeholders."""
    trace.debug("%.3f ms %s", took_s * 1000, " ".join(sql.split()), extra={"event": "trace.sql"})


def _trace_request(text: str) -> None:
    """Debug: what came, without its content."""
    trace.debug("%s", text, extra={"event": "trace.http"})


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT ask for the end."""
    loop = asyncio.get_running_loop()
    names = (signal.SIGTERM, signal.SIGINT)
    if sys.platform == "win32":
        before = [signal.signal(s, lambda *_: loop.call_soon_threadsafe(stopping.set)) for s in names]
        try:
            yield
        finally:
            for name, handler in zip(names, before, strict=True):
                signal.signal(name, handler)
    else:
        for name in names:
            loop.add_signal_handler(name, stopping.set)
        try:
            yield
        finally:
            for name in names:
                loop.remove_signal_handler(name)


def _stamp() -> str:
    """For names of copies of the database."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
