"""Programs that listen for messages here, and senders that are told what became of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hybridgw_protocol.errors import BadValue, Forbidden
from hybridgw_protocol.ids import check_topic
from hybridgw_protocol.localapi_messages import ListenMessages
from hybridgw_storage.database import Database, Tx

from ..core.targets import Listener
from ..stores import copies
from ..stores import messages as rows
from ..stores.messages import Change
from .addressing import Addressing
from .ears import Ear, state_event
from .ports import Principal

K = TypeVar("K")


class Listeners:
    """One per daemon."""

    def __init__(
        self, database: Database, addressing: Addressing, *, clock: Callable[[], int], published: Callable[[str], None]
    ) -> None:
        """Args: clock: Unix ms; published: tells local listeners that `programs` changed."""
        self._database, self._addressing, self._clock, self._published = database, addressing, clock, published
        self._ears: dict[int, dict[Ear, None]] = {}  # by number of the listener
        self._senders: dict[str, dict[Ear, None]] = {}  # by the name that programs have as senders

    def __contains__(self, number: object) -> bool:
        """Is this one connected."""
        return number in self._ears

    def online(self) -> list[int]:
        """The numbers of those that are connected."""
        return list(self._ears)

    async def listen(
        self, principal: Principal, mode: str, client_id: str, command: ListenMessages, wakened: asyncio.Event
    ) -> tuple[Ear, int]:
        """A program listens. Returns its ear, and how many messages wait for it.

        Raises: BadValue; Forbidden: a topic that its credential does not give.
        """
        for topic in command.topics:
            check_topic(topic)
            if not principal.allows("listen", topic):
                raise Forbidden(f"This credential does not give the right `listen:{topic}`.")
        if not command.app.isprintable():
            raise BadValue("The name of an app is printable.", field="app")
        now_ms = self._clock()

        def write(tx: Tx) -> Listener:
            before = {(x.principal, x.mode, x.client_id): x for x in copies.listeners(tx)}
            listener = copies.listen(tx, principal.id, mode, client_id, command.app, command.topics, now_ms)
            if before.get((principal.id, mode, client_id)) != listener:
                copies.claim(tx, listener, now_ms)
            return listener

        if command.receive:
            listener = await self._database.write(write)
        else:
            listener = Listener(0, principal.id, mode, client_id, "", frozenset())
        ear = Ear(listener, principal, self._database, wakened, self._leave, self._addressing.device_name,
                  self._addressing.others.person_of)  # fmt: skip
        if command.receive:
            self._ears.setdefault(listener.nr, {})[ear] = None
            self._published("programs")
        self._senders.setdefault(listener.client, {})[ear] = None
        return ear, self._database.peek(lambda c: copies.count_waiting(c, listener.nr)) if command.receive else 0

    def _leave(self, ear: Ear) -> None:
        _drop(self._ears, ear.listener.nr, ear)
        _drop(self._senders, ear.listener.client, ear)
        self._published("programs")

    # ---- telling ---------------------------------------------------------------------------------------------------
    def stir(self, numbers: Iterable[int]) -> None:
        """There is something for these listeners."""
        for nr in numbers:
            for ear in self._ears.get(nr, ()):
                ear.stir()

    def tell_senders(self, changed: Sequence[Change]) -> None:
        """Deliveries of our own messages changed: the programs that sent them are told, if they are here."""
        if not changed or not self._senders:
            return
        known = self._database.peek(lambda c: rows.senders(c, [change.rid for change in changed]))
        for change in changed:
            id, client = known.get(change.rid, (b"", ""))
            ears = self._senders.get(client)
            if ears:
                name = self._addressing.device_name(change.recipient)
                event = state_event(id, name, change.state, change.at_ms, change.changes)
                for ear in ears:
                    ear.tell(event)


def _drop(where: dict[K, dict[Ear, None]], key: K, ear: Ear) -> None:
    found = where.get(key, {})
    found.pop(ear, None)
    if not found:
        where.pop(key, None)
