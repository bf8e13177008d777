"""Which devices and programs a message goes to, written down in the transaction that keeps it.

The devices are known once the keys are open; what is sent before waits for that. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hybridgw_protocol.errors import NotFound
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.messages import MessageState
from hybridgw_storage.database import Database, Tx

from ..core.targets import HERE, PERSON, Target
from ..stores import copies
from ..stores import messages as rows
from ..stores.messages import THIS, UNRESOLVED, DeliveryRow, Entries, MessageRow
from ..stores.people import is_foreign


class Place(NamedTuple):
    """A device as messages know it. name: as people call it; mark: its fingerprint, 16 digits and dashes."""

    device: DeviceId
    name: str
    mark: str

    def is_meant(self, place: str) -> bool:
        """Does this text name it."""
        return place == self.name or place.replace("-", "").lower() == self.mark.replace("-", "")


class Members:
    """The devices of the space, as far as messages need them; nothing is known while the keys are locked."""

    def here(self) -> Place | None:
        """This device."""
        return None

    def others(self) -> list[Place] | None:
        """The other active devices; None: not known."""
        return None

    def name_of(self, device: bytes) -> str:
        """What people call it."""
        return device.hex()[:16]

    def stream(self) -> int:
        """What messages to other devices are numbered under."""
        return 0


class Others:
    """Other people, as far as messages need them; without the parts of sync there are none."""

    def goal(self, target: Target) -> tuple[bytes, ...]:
        """The devices of a person that a message goes to, as rows name them. Raises: NotFound, NeedsPerson."""
        raise NotFound("There are no contacts here.", field="to")

    def enqueue(self, tx: Tx, entries: Entries, row: MessageRow, device: bytes) -> DeliveryRow:
        """It waits for a device of a person."""
        raise NotFound("There are no contacts here.", field="to")

    def device_name(self, device: bytes) -> str:
        """What to call a device of another person."""
        return device[16:].hex()[:16]

    def person_of(self, device: bytes) -> tuple[str, str] | None:
        """Id and name of the other person whose device a row names; None: it is of this space."""
        return None

    def person(self, text: str) -> bytes:
        """The id of a contact, by name or id. Raises: NotFound."""
        raise NotFound("There are no contacts here.", field="peer")

    def problem(self, target: Target) -> str | None:
        """Why nothing would go to a person now; None: it would."""
        return "there are no contacts here"


class Goal(NamedTuple):
    """Devices that a message goes to. others: None: not known yet."""

    is_here: bool
    others: tuple[bytes, ...] | None


class Entered(NamedTuple):
    """A message that was written down. ears: listeners that have a copy."""

    row: MessageRow
    deliveries: list[DeliveryRow]
    ears: list[int]


class Addressing:
    """One per daemon. The functions that take a Tx are part of a write of services/messages.py or services/mail.py."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        """Args: clock: Unix ms."""
        self._database, self._clock = database, clock
        self.members = Members()
        self.others = Others()
        self._may_wait = True  # for the devices to be known; looked up at the start

    # ---- names -----------------------------------------------------------------------------------------------------
    def is_here(self, target: Target) -> bool:
        """Is this device among those that it names."""
        if target.kind == PERSON:
            return False
        here = self.members.here()
        return target.place in ("", HERE) or (here is not None and here.is_meant(target.place))

    def device_name(self, device: bytes) -> str:
        """What people call a device of a row."""
        if is_foreign(device):
            return self.others.device_name(device)
        if device != THIS:
            return self.members.name_of(device)
        here = self.members.here()
        return HERE if here is None else here.name

    def device(self, text: str) -> bytes | None:
        """The device of this name; None: there is none, so it is a program's."""
        here = self.members.here()
        if text == HERE or (here is not None and here.is_meant(text)):
            return THIS
        return next((o.device for o in self.members.others() or () if o.is_meant(text)), None)

    def goal(self, target: Target, others: list[Place] | None) -> Goal:
        """The devices that a target names. Args: others: the other devices; None: not known.

        Raises: NotFound: none; NeedsPerson: a person to whom nothing goes now.
        """
        if target.kind == PERSON:
            return Goal(False, self.others.goal(target))
        is_here = self.is_here(target)
        if target.place == HERE or (target.place and is_here):
            return Goal(True, ())
        if others is None:
            return Goal(is_here, None)
        meant = tuple(o.device for o in others if target.place == "" or o.is_meant(target.place))
        if not meant and not is_here:
            raise NotFound(
                f"There is no device {target.place!r} among yours; 'hybridgw devices' lists them.", field="to"
            )
        return Goal(is_here, meant)

    # ---- in a transaction ------------------------------------------------------------------------------------------
    def others_now(self, tx: Tx) -> list[Place] | None:
        """The other devices, for all of one write alike: the keys may open at any moment. What waited for that gets its
        numbers first, so that it stays before what is sent now."""
        others = self.members.others()
        if others is not None and self._may_wait:
            self._resolve(tx, others)
        return others

    def enter(self, tx: Tx, entries: Entries, row: MessageRow, goal: Goal) -> Entered:
        """Write down a message of this device, and whom it is for."""
        row, now_ms, deliveries = entries.add(row), row.created_ms, []
        ears: list[int] = []
        if goal.is_here:
            deliveries.append(entries.add_delivery(row, THIS, MessageState.DELIVERED, now_ms))
            ears = self.copy(tx, entries, row)
        if goal.others is None:
            self._may_wait = True
            deliveries.append(entries.add_delivery(row, UNRESOLVED, MessageState.QUEUED, now_ms))
        else:
            deliveries += [
                self.others.enqueue(tx, entries, row, device)
                if is_foreign(device)
                else self.enqueue(entries, row, device)
                for device in goal.others
            ]
        return Entered(row, deliveries, ears)

    def enqueue(self, entries: Entries, row: MessageRow, device: bytes) -> DeliveryRow:
        """It waits for a device, with the next number of its stream."""
        stream = self.members.stream()
        seq = entries.next_seq(device, stream, row.priority)
        return entries.add_delivery(
            row, device, MessageState.QUEUED, row.created_ms, stream=stream, seq=seq, next_ms=row.created_ms
        )

    def copy(self, tx: Tx, entries: Entries, row: MessageRow) -> list[int]:
        """A copy for each program here that it is for; not for the one that sent it, unless that is named."""
        sender = (row.client, row.principal) if row.sender == THIS and row.kind != "client" else None
        found = [
            listener.nr
            for listener in copies.listeners(tx)
            if listener.is_meant(row.kind, row.name) and (listener.client, listener.principal) != sender
        ]
        entries.add_copies(row, found)
        return found

    # ---- later -----------------------------------------------------------------------------------------------------
    async def resolve(self) -> bool:
        """The devices are known now: messages that waited for that get their recipients. Returns whether any did."""
        if not self._may_wait or self.members.others() is None:
            return False

        def write(tx: Tx) -> bool:
            others = self.members.others()
            if others is None:
                return False
            self._may_wait = False  # here, where no write is under way that would have to say it again
            return self._resolve(tx, others)

        try:
            return await self._database.write(write)
        except BaseException:
            self._may_wait = True
            raise

    def _resolve(self, tx: Tx, others: list[Place]) -> bool:
        """Returns whether there was something to do."""
        waiting, entries = rows.unresolved(tx.connection), Entries(tx)
        for rid in waiting:
            row = rows.by_rid(tx.connection, rid)
            meant = [o for o in others if row.place == "" or o.is_meant(row.place)]
            here = self.members.here()
            if not meant and row.place and not (here is not None and here.is_meant(row.place)):
                rows.tell(tx, UNRESOLVED, [rid], MessageState.FAILED, self._clock(), error="not_found")
                continue
            rows.resolve(tx, rid)
            for other in meant:
                self.enqueue(entries, row, other.device)
            if here is not None and row.place and here.is_meant(row.place):
                entries.add_delivery(row, THIS, MessageState.DELIVERED, self._clock())
                self.copy(tx, entries, row)
        entries.write()
        return bool(waiting)
