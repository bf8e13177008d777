"""What devices wrote that does not count: shown, and taken after all if a person wants it.

Of a lost device: it was applied here once, or came before the device was put out. Of any other: its database was put
back from a copy, and its log was closed before it could know of what this device has. It is kept as evidence of its log
(replication/branches.py). Taking it seals the operations again in a log of this device (replication/importing.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from hybridgw_protocol.errors import HybridGWError, LocalError, NotFound, SecretsLocked
from hybridgw_protocol.ids import DeviceId, LogId, format_document_id
from hybridgw_protocol.limits import QUARANTINE_DAYS, STAMP_BITS
from hybridgw_protocol.localapi_devices import Imported, ImportQuarantine, QuarantinedLog, QuarantineList
from hybridgw_protocol.membership import Status
from hybridgw_storage.database import Database, Tx

from ..stores import alarms, oplog
from .devices import DeviceService
from .replica import End, Replica
from .replication.aside import is_settled, kept_aside
from .space import Space
from .sync import SyncService

log = logging.getLogger(__name__)

SHOWN_DOCUMENTS: Final = 20  # of a device; the count tells how much there is
DAY_MS: Final = 86_400_000
FIRST_LOOK_S: Final = 60.0  # the daemon has something better to do first
LOOK_S: Final = 21_600.0
ON_ITS_WAY_MS: Final = 3_600_000  # what a device seals again gets so long to come here
ASIDE: Final = (
    "Something that one of your devices wrote before its database was put back is kept here, and does not count: the "
    "device went on before it could hear of it. 'hybridgw devices quarantine' shows it, and takes it."
)
OUT: Final = (Status.EXPELLED, Status.VOID)


class QuarantineService:
    """One per daemon."""

    def __init__(
        self, database: Database, replica: Replica, space: Space, sync: SyncService, devices: DeviceService, *,
        clock: Callable[[], int],
    ) -> None:  # fmt: skip
        """Args: clock: wall clock, Unix ms."""
        self._database, self._replica = database, replica
        self._space, self._sync, self._devices = space, sync, devices
        self._clock = clock

    async def list(self) -> QuarantineList:
        """One item per device of which something is kept aside. Raises: SecretsLocked."""
        found = [self._of(device, logs) for device, logs in self._kept().items()]
        return QuarantineList(items=[item for item in found if item.batches])

    async def take(self, command: ImportQuarantine) -> Imported:
        """Write what a device's batches hold as this device's own, with the times they have.

        Raises: NotFound: nothing of it is kept; SecretsLocked; Busy; TooBig: this device has too many logs.
        """
        info = self._devices.find(command.id)
        logs = self._kept().get(info.device)
        if not logs or not self._of(info.device, logs).batches:
            raise NotFound("Nothing that this device wrote is kept aside; 'hybridgw devices quarantine' lists what is.")
        if not self._space.is_active:
            raise LocalError("This device does not belong to the space any more, so nobody would get what it takes.")
        if self._replica.sealer is None:
            raise SecretsLocked("There is no key to write under at this moment; try again.")
        now_ms = self._sync.now_ms()

        def take(tx: Tx) -> tuple[int, LogId, End, LogId]:
            return (*self._replica.import_void(tx, logs, self._replica.sealer, now_ms), self._replica.own_log(tx))

        count, old, end, self._space.own_log = await self._database.write(take)
        log.info("took %d operations of device=%s", count, info.device.hex(), extra={"event": "quarantine.taken"})
        await self._sync.add_records([self._space.close_log(old, end, self._clock())])
        self._sync.resume("documents", "devices", "sync")
        return Imported(operations=count)

    async def run(self) -> None:
        """Say what only a person can bring back, and forget in time what was kept long enough; until cancelled."""
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            try:
                await self.tell()
                await self.forget_old()
            except HybridGWError as error:  # no keys yet, or a full disk
                log.info("forgetting what was set aside later: %s", error.message)
            await asyncio.sleep(LOOK_S)

    async def tell(self) -> int:
        """Raise an alarm for each log of a device that is not out, of which something is kept aside. Not at once: what
        the device seals again in a new log is on its way.

        Returns: how many alarms are new. Raises: SecretsLocked.
        """
        now_ms = self._sync.now_ms()
        before_ms = now_ms - ON_ITS_WAY_MS
        found = [
            (device, name)
            for device, logs in self._kept(frozenset(Status).difference(OUT)).items()
            for name in logs
            if (self._oldest_ms(name) or before_ms) < before_ms and self._of(device, [name]).operations
        ]

        def note(tx: Tx) -> int:
            return sum(
                alarms.raise_alarm(tx, now_ms, "kept_aside", ASIDE, log=name, device=device.hex())
                for device, name in found
            )

        count = await self._database.write(note) if found else 0
        if count:
            self._sync.resume("alarms")
        return count

    async def forget_old(self) -> int:
        """Forget what was set aside more than QUARANTINE_DAYS ago, of devices that are out and of other logs that are
        closed. Not what this device has yet to seal again.

        Returns: how many batches. Raises: SecretsLocked.
        """
        before_ms = self._sync.now_ms() - QUARANTINE_DAYS * DAY_MS
        out = {name for logs in self._kept(OUT).values() for name in logs}
        old = [
            name
            for name in self._replica.keys.ends.keys() - {self._space.own_log}
            if (self._oldest_ms(name) or before_ms) < before_ms
        ]

        def forget(tx: Tx) -> int:
            return sum(oplog.forget_old_evidence(tx, name, before_ms, authored=name in out) for name in old)

        count = await self._database.write(forget) if old else 0
        if count:
            log.info("forgot %d batches that were set aside", count, extra={"event": "quarantine.forgotten"})
            self._sync.resume("devices")
        return count

    def _kept(self, standing: Collection[Status] = tuple(Status)) -> dict[DeviceId, tuple[LogId, ...]]:
        """Logs of devices that stand so, of which batches are kept that do not count, and will not."""
        kept, rows = self._database.peek(oplog.void_counts), self._database.peek(oplog.logs)
        found: dict[DeviceId, tuple[LogId, ...]] = {}
        for row in rows.values():
            info = self._space.control.device(row.device)
            if row.log not in kept or info is None:
                continue
            is_over = is_settled(row, self._replica.keys) and row.log != self._space.own_log
            if info.status in standing and (info.status in OUT or is_over):
                found[row.device] = (*found.get(row.device, ()), row.log)
        return found

    def _oldest_ms(self, name: LogId) -> int | None:
        return self._database.peek(partial(oplog.oldest_evidence_ms, log=name))

    def _of(self, device: DeviceId, logs: Sequence[LogId]) -> QuarantinedLog:
        batches = readable = operations = 0
        documents: dict[str, None] = {}
        times: list[int] = []
        rows = self._database.peek(oplog.logs)
        for name in logs:
            for aside in self._database.peek(partial(kept_aside, keys=self._replica.keys, rows=rows, log=name)):
                if aside.body is not None and not aside.left:
                    continue
                batches += 1
                readable += aside.body is not None
                for operation in aside.left:
                    operations += 1
                    times.append(operation.stamp >> STAMP_BITS)
                    if len(documents) < SHOWN_DOCUMENTS:
                        documents[f"{operation.collection}/{format_document_id(operation.id)}"] = None
        info = self._space.control.device(device)
        assert info is not None  # noqa: S101 - its logs are only here because it was seated
        since = [self._oldest_ms(name) for name in logs]
        return QuarantinedLog(
            device=self._devices.shown(info),
            batches=batches,
            readable=readable,
            operations=operations,
            documents=list(documents),
            first_ms=min(times, default=None),
            last_ms=max(times, default=None),
            kept_until_ms=min(at_ms for at_ms in since if at_ms is not None) + QUARANTINE_DAYS * DAY_MS,
        )
