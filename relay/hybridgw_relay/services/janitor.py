"""What time brings: deadlines, pings, expired codes, changes by another process, last contacts written down."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from hybridgw_protocol.errors import HybridGWError, RemoteClosed

from ..stores.base import RelayStore
from .conversation import Conversation
from .mailboxes import Mailboxes
from .spaces import Spaces

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
SAVE_SEEN_TICKS: Final = 60
EXPIRE_TICKS: Final = 10


class Janitor:
    """One per process; knows all connections."""

    def __init__(self, store: RelayStore, spaces: Spaces, mailboxes: Mailboxes) -> None:
        self._store, self._spaces, self._mailboxes = store, spaces, mailboxes
        self._conversations: dict[Conversation, None] = {}
        self._ticks = 0

    def add(self, conversation: Conversation) -> None:
        """A connection began."""
        self._conversations[conversation] = None

    def remove(self, conversation: Conversation) -> None:
        """It ended."""
        self._conversations.pop(conversation, None)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """One second has passed."""
        self._ticks += 1
        for conversation in tuple(self._conversations):
            conversation.tick()
        self._mailboxes.expire()
        for space in self._spaces.in_use():
            space.tail.age()
        try:
            if self._store.changed_elsewhere():
                for space in self._spaces.in_use():
                    await space.refresh()
            if self._ticks % EXPIRE_TICKS == 0:
                await self._store.expire_mail(self._spaces.wall_ms())
                await self._store.expire_letters(self._spaces.wall_ms())
            if self._ticks % SAVE_SEEN_TICKS == 0:
                await self._spaces.save_seen()
        except HybridGWError as error:
            log.warning("tidying up failed code=%s: %s", error.code, error.message)

    def close_all(self) -> None:
        """The relay stops: tell every connection to come back soon."""
        for conversation in tuple(self._conversations):
            conversation.fail(RemoteClosed("The relay has been stopped.", retry_ms=2_000))
