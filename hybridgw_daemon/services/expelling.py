"""A device that is lost or stolen: what putting it out for good would do, doing it, and undoing more of what it wrote.

All of it takes the recovery words. A thief who has the device can sign whatever it could: so the person says when it
was theirs last, and what it did to other devices and wrote after that does not count. Times are those that the device
claims; it cannot claim one before what it had seen or written already. What the records mean for everybody:
protocol/hybridgw_protocol/membership.py. What does not count any more is kept: quarantine.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from hybridgw_protocol.batch import parse_batch
from hybridgw_protocol.errors import LocalError
from hybridgw_protocol.ids import DeviceId, Digest
from hybridgw_protocol.limits import STAMP_BITS
from hybridgw_protocol.localapi_devices import (
    DeviceAct,
    DeviceChange,
    ExpelDevice,
    PlanRemoval,
    Removal,
    SettleDevice,
    UndoDevice,
)
from hybridgw_protocol.membership import Close, ControlLog, DeviceInfo, Status
from hybridgw_protocol.records import ROOT, Add, Record, Remove, Restore
from hybridgw_storage.database import Database

from ..core import membership_acts as acts
from ..core.keys import Hand, RootKeys
from ..core.membership_acts import LogEnd
from ..core.words import words_to_seed
from ..stores import oplog
from .devices import DeviceService
from .replica import Replica
from .space import Space
from .sync import SyncService

log = logging.getLogger(__name__)

NOTHING: Final = Close(0, bytes(32), 0)
LAST_WORDS_S: Final = 4.0  # before a device is put out, what the others have of it is fetched, if they answer so soon


class ExpellingService:
    """One per daemon."""

    def __init__(
        self, database: Database, replica: Replica, space: Space, sync: SyncService, devices: DeviceService, *,
        clock: Callable[[], int],
    ) -> None:  # fmt: skip
        """Args: clock: wall clock, Unix ms."""
        self._database, self._replica = database, replica
        self._space, self._sync, self._devices = space, sync, devices
        self._clock = clock

    # ---- before ---------------------------------------------------------------------------------------------------
    async def plan(self, command: PlanRemoval) -> Removal:
        """What expelling a device would do. Raises: NotFound; LocalError: it cannot be expelled."""
        info = self._expellable(command.id)
        since_ms = command.since_ms
        void = self._void(info, since_ms)
        logs = self._ends(info.device, since_ms)
        trial = self._trial(info, void, logs)
        told = await self._devices.one(info.device)
        keeps = sum(end.n for _, _, end in logs)
        voids = sum(r.stored.n for r in self._logs_of(info.device)) - keeps
        will = [
            "put it out for good: no old device, relay or backup brings it back",
            "make a new key, which it does not get: it can read nothing that is written from then on",
            f"let {keeps} batches that it wrote count"
            + (f" and keep {voids} aside, which do not ('hybridgw devices quarantine')" if voids else ""),
        ]
        if void:
            will.append("undo what it did to your other devices after that time")
        return Removal(
            device=told,
            will=will,
            cannot=[
                "erase what it already holds, or keep it from reading that",
                "keep it from reading what a device that is offline now writes before it hears of this, if a relay "
                "helps it",
                "take back what it sent elsewhere, or sign it out of other services",
            ],
            acts=self._acts(info, void),
            comes_back=[name for name, was, now in self._changes(trial) if now is Status.ACTIVE and was is not now],
            goes_too=[
                name for name, was, now in self._changes(trial, but=info) if was is Status.ACTIVE and was is not now
            ],
            keeps=keeps,
            voids=voids,
        )

    # ---- doing ----------------------------------------------------------------------------------------------------
    async def expel(self, command: ExpelDevice) -> DeviceChange:
        """Put a lost device out for good. Works also on a device that the lost one has removed.

        Raises: NotFound; BadValue: the words; LocalError: it cannot be expelled, or this device itself would be out.
        """
        info = self._expellable(command.id)
        hand = self._hand(command.words)
        if self._sync.peers.conversations:
            await self._sync.trigger(timeout_s=LAST_WORDS_S)
            hand = self._hand(command.words)  # on top of what came
        void, logs = self._void(info, command.since_ms), self._ends(info.device, command.since_ms)
        trial = self._trial(info, void, logs)
        own = trial.device(self._space.identity.device)
        if own is None or own.status is not Status.ACTIVE:
            raise LocalError(
                "That would put this device out too, for the lost one admitted it after that time, or another one "
                "removed it. Name a later time, or do it on another device."
            )
        for device in {other.device for other in trial.devices() if other.status is Status.VOID}:
            logs += [LogEnd(device, row.log, NOTHING) for row in self._logs_of(device)]
        await self._sync.add_records(acts.expel(hand, info.seat, void, logs))
        log.warning("expelled device=%s", info.device.hex(), extra={"event": "device.expelled"})
        await self._devices.noted("device.expelled", name=self._devices.name_of(info))
        self._sync.peers.reconnect()  # whoever refused this device so far
        return await self._devices.told(info.device)

    async def undo(self, command: UndoDevice) -> DeviceChange:
        """Let nothing count that an expelled device wrote from a time on.

        Raises: NotFound; BadValue: the words; LocalError: it is not expelled, or wrote nothing since.
        """
        info = self._devices.find(command.id)
        if info.status is not Status.EXPELLED:
            raise LocalError(
                "This device is not put out for good, and would write it again. Do that first: "
                "'hybridgw devices remove --lost --since WHEN'."
            )
        hand = self._hand(command.words)
        shorter = [
            LogEnd(device, name, end)
            for device, name, end in self._ends(info.device, command.since_ms)
            if (now := self._space.control.end_of(name, info.device)) is not None and end.n < now.n
        ]
        if not shorter:
            raise LocalError("Nothing that counts was written by this device since then.")
        await self._sync.add_records(acts.close_logs(hand, shorter))
        await self._devices.noted("device.undone", name=self._devices.name_of(info))
        return await self._devices.told(info.device)

    async def settle(self, command: SettleDevice) -> DeviceChange:
        """A device signed two batches for one place: let that branch of its log count which this device has applied.

        It seals what is on its other branch again, if it is honest. Raises: NotFound; BadValue: the words; LocalError:
        nothing of it is in dispute here, or it is this device, which settles that by itself.
        """
        info = self._devices.find(command.id)
        if info.device == self._space.identity.device:
            raise LocalError("This is the device itself; it settles that by itself once it hears of its other branch.")
        hand = self._hand(command.words)
        ends = self._space.control.ends({row.log: row.device for row in self._logs_of(info.device)})
        disputed = [
            LogEnd(info.device, row.log, Close(row.stored.n, row.stored.hash, fork))
            for row in self._logs_of(info.device)
            if row.log not in ends and (fork := self._fork(row)) < row.stored.n
        ]
        if not disputed:
            raise LocalError("Nothing that this device wrote is in dispute here.")
        await self._sync.add_records(acts.close_logs(hand, disputed))
        log.info("settled logs of device=%s", info.device.hex(), extra={"event": "device.settled"})
        await self._devices.noted("device.settled", name=self._devices.name_of(info))
        return await self._devices.told(info.device)

    def _hand(self, words: str) -> Hand:
        return self._space.root_hand(RootKeys.from_seed(words_to_seed(words)), self._clock())

    def _expellable(self, device: str) -> DeviceInfo:
        info = self._devices.find(device)
        if info.device == self._space.identity.device:
            raise LocalError("This is the device itself; do it on another one, or recover the space on a new machine.")
        if info.status is Status.EXPELLED:
            raise LocalError(
                "This device is out for good already; 'hybridgw devices undo' voids more of what it wrote."
            )
        return info

    # ---- what it did to others ------------------------------------------------------------------------------------
    def _void(self, info: DeviceInfo, since_ms: int | None) -> set[Digest]:
        """The records by which it changed who belongs, from a time on."""
        if since_ms is None:
            return set()
        return {r.hash for r, at_ms in self._dated(info) if at_ms >= since_ms}

    def _dated(self, info: DeviceInfo) -> list[tuple[Record, int]]:
        """Its acts, each with the earliest time at which it can have signed it: no record is older than its past."""
        control, at_ms = self._space.control, dict[Digest, int]()
        for record in control.since(0):
            at_ms[record.hash] = max([record.payload.ts, *(at_ms[p] for p in record.payload.prevs)])
        return [(record, at_ms[record.hash]) for record in acts.acts_of(control, info.device)]

    def _acts(self, info: DeviceInfo, void: set[Digest]) -> list[DeviceAct]:
        control, found = self._space.control, list[DeviceAct]()
        for record, at_ms in self._dated(info):
            match record.payload:
                case Add(device=device):
                    what, others = "added", {device}
                case Remove(target=target):
                    what, others = "removed", {seat.device} if (seat := control.seat(target)) else set()
                case Restore(ends=ends):
                    removed = (control.records[end].payload for end in ends)
                    seats = (control.seat(r.target) for r in removed if isinstance(r, Remove))
                    what, others = "restored", {seat.device for seat in seats if seat}
                case _:
                    continue
            for device in sorted(others):
                other = control.device(device)
                name = "?" if other is None else self._devices.name_of(other)
                found.append(DeviceAct(what=what, name=name, at_ms=at_ms, undone=record.hash in void))  # type: ignore[arg-type]
        return found

    def _trial(self, info: DeviceInfo, void: set[Digest], logs: Sequence[LogEnd]) -> ControlLog:
        """The control log as it would be. Nothing of it is kept: its new records bear no signature of root's."""
        control, identity = self._space.control, self._space.identity
        trial = ControlLog(control.space)
        trial.update(self._space.records(), trusted=True)
        hand = self._space.hand_of(ROOT, identity.sign_secret, self._clock())
        trial.update(acts.expel(hand, info.seat, void, logs), trusted=True)
        return trial

    def _changes(self, trial: ControlLog, but: DeviceInfo | None = None) -> list[tuple[str, Status, Status]]:
        """(name, status now, status then) of the other devices."""
        found = []
        for device in {info.device for info in self._space.devices()} - {but.device if but else DeviceId(b"")}:
            now, then = self._space.control.device(device), trial.device(device)
            if now is not None and then is not None:
                found.append((self._devices.name_of(now), now.status, then.status))
        return sorted(found, key=lambda change: change[0])

    # ---- what it wrote --------------------------------------------------------------------------------------------
    def _logs_of(self, device: DeviceId) -> list[oplog.LogRow]:
        rows = self._database.peek(oplog.logs).values()
        return sorted((row for row in rows if row.device == device and row.stored.n), key=lambda row: row.log)

    def _ends(self, device: DeviceId, since_ms: int | None) -> list[LogEnd]:
        """Where its logs end if what it wrote from a time on does not count: at the latest where they are applied here,
        so that root signs for nothing that this device has not seen. One of which nothing counts is named too: who
        never gets a batch of it learns so that nothing of it is to be waited for."""
        found = []
        for row in self._logs_of(device):
            n = row.applied.n if since_ms is None else self._last_before(row, since_ms)
            fork = self._fork(row)
            now = self._space.control.end_of(row.log, device)
            if now is not None and now.hash != row.stored.hash:
                n = min(n, now.fork)  # another branch counts, and it is not held whole
            digest = self._database.peek(partial(oplog.hash_at, log=row.log, n=n)) if n else None
            end = NOTHING if digest is None else Close(n, digest, min(n, fork))
            found.append(LogEnd(device, row.log, end))
        return found

    def _fork(self, row: oplog.LogRow) -> int:
        """The last batch that all branches share, as far as other branches are known here."""
        blobs = self._database.peek(lambda c: oplog.evidence(c, row.log))
        return min([row.stored.n, *(parse_batch(blob).n - 1 for blob in blobs)])

    def _last_before(self, row: oplog.LogRow, since_ms: int) -> int:
        """The last applied batch of a log all of whose operations are older than that; stamps rise within a log."""
        low, high = 0, row.applied.n
        while low < high:
            middle = (low + high + 1) // 2
            if self._written_ms(row, middle) < since_ms:
                low = middle
            else:
                high = middle - 1
        return low

    def _written_ms(self, row: oplog.LogRow, n: int) -> int:
        """When batch n was written, or the last one before it that says."""
        for number in range(n, 0, -1):
            blobs = self._database.peek(partial(oplog.blobs, log=row.log, after=number - 1, most_bytes=1))
            body, _ = self._replica.open(parse_batch(blobs[0])) if blobs else (None, None)
            if body is not None and body.last_stamp is not None:
                return int(body.last_stamp >> STAMP_BITS)
        return 0
