"""The devices of the space, for local callers: list, rename, remove, restore, leave.

Not a lost device, which takes the recovery words: expelling.py. What the records mean, for everybody alike, is decided
in protocol/hybridgw_protocol/membership.py.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec

from hybridgw_protocol.errors import LocalError, NotFound, Offline, Revoked
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.localapi_devices import (
    Device,
    DeviceChange,
    LeaveSpace,
    PlanRemoval,
    Removal,
    RemoveDevice,
    RenameDevice,
    RestoreDevice,
)
from hybridgw_protocol.membership import DeviceInfo, Status
from hybridgw_protocol.pairing_messages import clean_name
from hybridgw_storage.database import Database, Tx

from ..core import membership_acts as acts
from ..core.keys import RootKeys
from ..core.operations import Create, Edit, Request
from ..core.words import words_to_seed
from ..stores import control, oplog
from .device_names import NAMES, given_names
from .ports import DocumentReplica
from .space import Space, fingerprint
from .sync import SyncService

log = logging.getLogger(__name__)

TOLD_S: Final = 5.0  # so long an answer waits for peers to take a record
LEFT_S: Final = 10.0  # so long a device that leaves waits until all that it wrote is with the others


class Noted(Protocol):
    """Takes note of something for the audit log."""

    async def __call__(self, event: str, **detail: object) -> None:
        """An event of audit.py, with its fields."""
        ...


async def unnoted(event: str, **detail: object) -> None:
    """No audit log is kept."""


class DeviceService:
    """Lists devices, and does to them what a person asks for."""

    def __init__(
        self, database: Database, replica: DocumentReplica, space: Space, sync: SyncService, *,
        clock: Callable[[], int], forget_relays: Callable[[], Awaitable[None]], noted: Noted = unnoted,
    ) -> None:  # fmt: skip
        """Args: clock: wall clock, Unix ms; forget_relays: connect them no more, this device has left; noted: told of
        what was done, for the audit log."""
        self._database, self._replica = database, replica
        self._space, self._sync = space, sync
        self._clock, self._forget_relays, self.noted = clock, forget_relays, noted

    # ---- looking --------------------------------------------------------------------------------------------------
    async def list(self) -> list[Device]:
        """Every device that ever belonged, in the order of admission; only this machine while it has no keys."""
        if self._space.locked:
            return [Device(id="", name=self._space.name, fingerprint="", own=True)]
        facts, found = self._facts(), dict[DeviceId, Device]()
        for info in self._space.devices():
            if info.status is not Status.VOID and info.device not in found:
                found[info.device] = self._shown(info, facts)
        return list(found.values())

    def shown(self, info: DeviceInfo) -> Device:
        """One device, as in the list."""
        return self._shown(info, self._facts())

    def _facts(self) -> _Facts:
        return _Facts(
            seen=self._database.peek(control.seen),
            void=self._database.peek(oplog.void_counts),
            rows=self._database.peek(oplog.logs),
            names=self._names(),
        )

    def name_of(self, info: DeviceInfo) -> str:
        """What people call it."""
        return self._names().get(info.device.hex()) or self._space.name_of(info)[0]

    def find(self, device: str) -> DeviceInfo:
        """A device by its id. Raises: NotFound, SecretsLocked."""
        try:
            info = self._space.control.device(DeviceId(bytes.fromhex(device)))
        except ValueError:
            info = None
        if info is None:
            raise NotFound("No device of this space has that id; 'hybridgw devices' lists them.")
        return info

    async def one(self, device: DeviceId) -> Device:
        """As in the list."""
        return self.shown(self.find(device.hex()))

    def _names(self) -> dict[str, str]:
        return self._database.peek(given_names)

    def _shown(self, info: DeviceInfo, facts: _Facts) -> Device:
        name, platform = self._space.name_of(info)
        own, path = info.device == self._space.identity.device, self._sync.peers.path(info.device)
        is_here = path in ("lan", "both")  # it is connected with this device, not only with a relay
        logs = [row for row in facts.rows.values() if row.device == info.device]
        link = self._sync.peers.conversation(info.device.hex())
        told = link.state.theirs if link is not None else {}
        had = {log: head.n for log, head in told.items()}
        if not had:  # not connected directly: what it once confirmed, and what it had seen when it wrote
            confirmed = self._database.peek(lambda c: control.peer_heads(c, info.device.hex()))
            for log, head in [*confirmed.items(), *(known for row in logs for known in row.deps.items())]:
                had[log] = max(had.get(log, 0), head.n)
        lacks = sum(
            max(0, row.stored.n - had.get(row.log, 0)) for row in facts.rows.values() if row.device != info.device
        )
        removers = {
            self._space.control.records[r].payload.by for r in self._space.control.standing_removes(info.device)
        }
        return Device(
            id=info.device.hex(),
            name=facts.names.get(info.device.hex()) or name,
            platform=platform,
            fingerprint=fingerprint(info.device),
            state=info.status.value,  # type: ignore[arg-type]
            own=own,
            last_seen_ms=self._sync.now_ms() if own or is_here else max(facts.seen.get(info.device, 0), info.added_ms),
            behind=sum(row.stored.n - row.applied.n for row in logs),
            path="none" if own else path,
            lacks=None if own or (not had and not any(row.stored.n for row in logs)) else lacks,
            added_ms=info.added_ms,
            removed_by=sorted(self.name_of(seat) for by in removers if (seat := self._space.control.seat(by))),
            quarantined=sum(facts.void.get(row.log, 0) for row in logs) if info.status is Status.EXPELLED else 0,
        )

    # ---- renaming -------------------------------------------------------------------------------------------------
    async def rename(self, command: RenameDevice) -> Device:
        """Call a device something else, on all devices. Raises: NotFound; BadValue: no name."""
        info, name = self.find(command.id), clean_name(command.name)
        document = info.device.hex()

        def write(tx: Tx) -> None:
            row = self._replica.current(tx, NAMES, document)
            puts: dict[str, Any] = {"name": name}
            request: Request = Edit(NAMES, document, puts) if row and row[0] % 2 else Create(NAMES, document, puts)
            self._replica.write(tx, [request], self._sync.now_ms())

        await self._database.write(write)
        self._sync.wrote()
        self._sync.resume("devices", "documents")
        await self.noted("device.renamed", device=fingerprint(info.device), name=name)
        return await self.one(info.device)

    # ---- removing -------------------------------------------------------------------------------------------------
    async def plan(self, command: PlanRemoval) -> Removal:
        """What a removal that can be taken back would do. Raises: NotFound; LocalError: it cannot be removed."""
        info = self._removable(command.id)
        count = len(self._sync.peers.known)
        relays = ("", "the relay and ")[count] if count < 2 else f"{count} relays and "
        return Removal(
            device=await self.one(info.device),
            will=[
                "make a new key, which it does not get: it can read nothing that is written from then on",
                f"tell {relays}your other devices to refuse it",
                "keep all that it has written so far",
            ],
            cannot=[
                "erase what it already holds, or keep it from reading that",
                "keep it from reading what a device that is offline now writes before it hears of this, if a relay "
                "helps it",
                "hinder its owner from removing your devices likewise, until all have heard of it: if it is stolen, "
                "use --lost",
            ],
        )

    async def remove(self, command: RemoveDevice) -> DeviceChange:
        """Put a device out until it is restored: a new key without it; relay and peers refuse it.

        Raises: NotFound; LocalError: this device itself, one that is out already, or this one is out.
        """
        info = self._removable(command.id)
        await self._sync.add_records([self._space.remove(info.seat, self._clock())])
        log.info("removed device=%s", info.device.hex(), extra={"event": "device.removed"})
        await self.noted("device.removed", name=self.name_of(info))
        return await self.told(info.device)

    async def restore(self, command: RestoreDevice) -> DeviceChange:
        """Let a removed device in again.

        Raises: NotFound; BadValue: the words; LocalError: it is not removed, or by another device and there are no
        words.
        """
        info = self.find(command.id)
        if info.status is not Status.REMOVED:
            raise LocalError(
                {
                    Status.ACTIVE: "This device is not removed.",
                    Status.LEFT: "This device has left by itself; pair it anew to have it back.",
                }.get(info.status, "This device was put out for good; pair it anew to have it back.")
            )
        if command.words is not None:
            root = RootKeys.from_seed(words_to_seed(command.words))
            hand = self._space.root_hand(root, self._clock())
            ends = self._space.control.standing_removes(info.device)
            record = acts.restore(hand, ends)
        else:
            self._require_active()
            seat = self._space.identity.seat
            own, ends = (self._space.control.standing_removes(info.device, by) for by in (seat, b""))
            if not own or set(own) != set(ends):
                names = ", ".join(n for n in (await self.one(info.device)).removed_by if n != self._space.name)
                raise LocalError(
                    f"It was removed by {names or 'another device'}: restore it there, or here with the recovery words "
                    f"('hybridgw devices restore {fingerprint(info.device)} --words')."
                )
            record = self._space.restore(own, self._clock())
        await self._sync.add_records([record])
        await self.noted("device.restored", name=self.name_of(info))
        return await self.told(info.device)

    async def leave(self, _command: LeaveSpace) -> DeviceChange:
        """Put this device out; what is stored here stays. The others get what was written here before.

        Raises: LocalError: it is alone, or out already; Offline: not everything written here is with the others, or
        nobody can be told that it leaves.
        """
        self._require_active()
        if len(self._space.active_devices()) == 1:
            raise LocalError("This is the only device of its space; there is nothing to leave.")
        if (await self._sync.trigger(timeout_s=LEFT_S)).status != "done":
            raise Offline(
                "Not all that was written here is with your other devices yet, or nobody can be told that it leaves. "
                "Try again when 'hybridgw status' says that all is in step."
            )
        own = self._space.identity.device
        await self._sync.add_records([self._space.leave(self._clock())])
        log.info("left the space", extra={"event": "device.left"})
        await self.noted("device.left")
        change = await self.told(own)
        if change.told:
            await self._forget_relays()
        return change

    async def told(self, device: DeviceId) -> DeviceChange:
        """The answer to a change, once those who are connected know it, or after a while."""
        heads, peers, is_own = set(self._sync.control_heads()), self._sync.peers, device == self._space.identity.device

        def knows(url: str) -> bool:
            conversation = peers.conversations.get(url)
            if conversation is None:  # a relay that hears that we are out closes, and says nothing else
                return is_own and isinstance(peers.errors.get(url), Revoked)
            return conversation.state.control >= heads

        async def is_known() -> bool:
            return all(knows(url) for url in {*peers.conversations, *before})

        before = [url for url in peers.known if url in peers.conversations or knows(url)]
        await peers.wait_for(is_known, TOLD_S, look_s=TOLD_S)
        told = sorted(url for url in {*peers.conversations, *before} if knows(url))
        names = [c.state.name if (c := peers.conversations.get(url)) else url for url in told]
        return DeviceChange(
            device=await self.one(device), told=names, waiting=[url for url in peers.known if url not in told]
        )

    def _removable(self, device: str) -> DeviceInfo:
        info = self.find(device)
        self._require_active()
        if info.device == self._space.identity.device:
            raise LocalError("This is the device itself; to put it out, run 'hybridgw leave' on it.")
        if info.status is not Status.ACTIVE:
            raise LocalError("This device is out already; 'hybridgw devices' shows how.")
        return info

    def _require_active(self) -> None:
        if not self._space.is_active:
            raise LocalError(
                "This device does not belong to the space any more, so it can change nothing there; only the recovery "
                "words can ('hybridgw devices remove DEVICE --lost', 'hybridgw devices restore DEVICE --words')."
            )


class _Facts(msgspec.Struct):
    """What is read once for a whole list. void: log -> batches kept that do not count."""

    seen: dict[DeviceId, int]
    void: dict[LogId, int]
    rows: dict[Any, oplog.LogRow]
    names: dict[str, str]
