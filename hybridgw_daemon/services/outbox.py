"""What programs send in one turn of the event loop, or while the disk is busy, is written in one go.

Each letter was checked before; what it comes to is told to its waiter once it is durable. One writer at a time, so what
one program sends keeps its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hybridgw_protocol.errors import AlreadyExists, HybridGWError
from hybridgw_protocol.ids import format_document_id
from hybridgw_protocol.messages import Priority
from hybridgw_storage.database import Database, Tx

from ..core.envelopes import Content, content_digest
from ..core.targets import Target
from ..core.uuid7 import new_uuid7
from ..stores import audit
from ..stores.messages import THIS, Entries, MessageRow
from .addressing import Addressing, Entered, Goal
from .routing import RoutingService

MOST: Final = 512  # letters in one transaction


@dataclass(slots=True)
class Letter:
    """A message to send. targets: None: the rules decide; client: the program that sends it."""

    principal: str
    client: str
    type: str
    body: bytes
    targets: list[Target] | None
    priority: Priority
    ttl_ms: int
    id: bytes | None
    reply: bytes
    waiter: asyncio.Future[list[Entered]]
    entered: list[Entered] = field(default_factory=list)  # one per target; one that was there already has no rows
    failure: HybridGWError | None = None


class Outbox:
    """One per daemon."""

    def __init__(
        self, database: Database, addressing: Addressing, routing: RoutingService, *, clock: Callable[[], int],
        entropy: Callable[[int], bytes], resolve: Callable[[], Awaitable[None]],
        sent: Callable[[Sequence[Letter]], None],
    ) -> None:  # fmt: skip
        """Args: clock: Unix ms; resolve: what waited for the devices to be known gets its numbers; sent: told of
        letters that are durable, after their waiters."""
        self._database, self._addressing, self._routing = database, addressing, routing
        self._clock, self._entropy, self._resolve, self._sent = clock, entropy, resolve, sent
        self._waiting: list[Letter] = []
        self._task: asyncio.Task[None] | None = None

    def put(self, letter: Letter) -> None:
        """It goes with the others of this turn."""
        self._waiting.append(letter)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                part, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                try:
                    await self._resolve()
                    await self._database.write(lambda tx, part=part: self._write(tx, part))  # type: ignore[misc]  # bound now
                except Exception as error:  # noqa: BLE001 - told to those who wait
                    for letter in part:
                        if not letter.waiter.done():
                            letter.waiter.set_exception(error)
                    continue
                self._answer(part)
                # A turn later: it takes longer to show a message than to say that it is kept.
                loop.call_soon(self._sent, [letter for letter in part if letter.failure is None])
        finally:
            self._task = None

    @staticmethod
    def _answer(letters: Sequence[Letter]) -> None:
        for letter in letters:
            if letter.waiter.done():  # nobody waits any more
                continue
            if letter.failure is not None:
                letter.waiter.set_exception(letter.failure)
            else:
                letter.waiter.set_result(letter.entered)

    # ---- on the writer's thread ------------------------------------------------------------------------------------
    def _write(self, tx: Tx, letters: Sequence[Letter]) -> None:
        others = self._addressing.others_now(tx)
        now_ms, entries, goals = self._clock(), Entries(tx), dict[Target, Goal]()
        for letter in letters:
            letter.entered, letter.failure = [], None
            try:
                targets = letter.targets
                if targets is None:
                    targets = self._routing.targets(tx.connection, letter.type)
                targets = list(dict.fromkeys(targets))
                for target in targets:
                    if target not in goals:
                        goals[target] = self._addressing.goal(target, others)
                self._enter(tx, entries, letter, [(target, goals[target]) for target in targets], now_ms)
            except HybridGWError as error:  # before anything of it was written down
                letter.failure = error
        entries.write()

    def _enter(
        self, tx: Tx, entries: Entries, letter: Letter, goals: Sequence[tuple[Target, Goal]], now_ms: int
    ) -> None:
        for k, (target, goal) in enumerate(goals):
            content = Content(
                kind=target.kind, name=target.name, type=letter.type, body=letter.body, client=letter.client,
                reply=letter.reply,
            )  # fmt: skip
            digest = content_digest(content)
            if letter.id is not None and k == 0:
                mid, before = letter.id, entries.find(THIS, letter.id)
                if before is not None:
                    if before.digest != digest or before.place != target.place:
                        detail = {"id": format_document_id(mid)}
                        audit.add(tx, now_ms, "message.conflict", principal=letter.principal, detail=detail)
                        raise AlreadyExists(
                            "This id was used for another message; a new message gets a new id.", field="id"
                        )
                    letter.entered = [Entered(before, [], [])]
                    return
            else:
                mid = new_uuid7(now_ms, self._entropy(10))
            row = MessageRow(
                0, THIS, mid, target.kind, target.name, target.place, letter.type, letter.client, letter.principal,
                letter.priority, now_ms, now_ms + letter.ttl_ms, digest, letter.reply, letter.body, 0,
            )  # fmt: skip
            letter.entered.append(self._addressing.enter(tx, entries, row, goal))
