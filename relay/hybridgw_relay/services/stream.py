"""What one connection is sent: everything above its vector in the order of arrival, then what comes, in one stream.

While the client is behind, pages are read from the store; once it is caught up, what was just stored is handed on from
memory in the same turn. Credit and a congested socket pause it at any point; it goes on where it stood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from hybridgw_protocol.batch import Head
from hybridgw_protocol.frames import Batches
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.link import DEFAULT_FLOW, Flow, Link

from ..core.cursor import Cursor
from ..stores.base import Page, RelayStore, Stored
from .ports import Outlet
from .spaces import Space

LIVE: Final = 0  # id of frames that answer nothing


class Stream:
    """One per admitted connection. `run` is its task; `wake`, `restart` and `pushed` are called from the event loop."""

    def __init__(
        self, link: Link, outlet: Outlet, space: Space, store: RelayStore, flush: Callable[[], None], *, live: bool,
        flow: Flow = DEFAULT_FLOW,
    ) -> None:  # fmt: skip
        """Args: flush: hands what the link queued to the outlet; live: go on after the client has caught up."""
        self._link, self._outlet, self._space, self._store, self._flush = link, outlet, space, store, flush
        self._is_live = live
        self._most = (flow.frame_bytes, flow.frame_batches)
        self._cursor: Cursor | None = None
        self._restarted: Mapping[LogId, Head] | None = None
        self._news = asyncio.Event()
        self._is_caught_up = False  # and the task sleeps
        self._tell_end = False  # a frame with `more` false is due
        self._branches = 0  # times that something was taken back
        self.sent_batches = 0

    def restart(self, have: Mapping[LogId, Head]) -> None:
        """Send everything above this vector from now on; the answer ends with a frame whose `more` is false."""
        self._restarted = have
        self._news.set()

    def pushed(self, stored: list[Stored]) -> None:
        """These came from this client: it need not get them back."""
        if self._cursor is not None:
            for item in stored:
                self._cursor.sent(item.log, item.n)

    def took_back(self, log: LogId, n: int) -> None:
        """Another branch of a log took the place of what was stored, and perhaps sent, above this number."""
        self._branches += 1
        if self._cursor is not None:
            self._cursor.took_back(log, n)

    def wake(self) -> None:
        """There is something new."""
        cursor = self._cursor
        if self._is_caught_up and cursor is not None and self._restarted is None and self._can_send():
            page = self._space.tail.page(cursor, *self._most)
            if page is not None and not page.more:
                self._send(cursor, page)
                return
        self._news.set()

    def credit(self) -> None:
        """There is credit again."""
        if not self._is_caught_up:
            self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._is_caught_up = False
            if self._restarted is not None:
                have, self._restarted = self._restarted, None
                self._cursor = Cursor(have)
                self._tell_end = True
            if self._cursor is not None and (self._is_live or self._tell_end):
                self._is_caught_up = await self._send_some(self._cursor) and self._is_live

    async def _send_some(self, cursor: Cursor) -> bool:
        """Send what there is. True: all of it; False: credit is used up, or the vector was replaced."""
        while self._link.may_send_batches:
            if self._outlet.is_congested:
                await self._outlet.drained()
            branches = self._branches
            page = self._space.tail.page(cursor, *self._most)
            if page is None:
                page = await self._store.page(self._space.sid, cursor.have, *self._most)
            if self._restarted is not None:
                return False
            if self._branches != branches:
                continue  # the page was read before
            self._send(cursor, page)
            if not page.more:
                return True
        return False

    def _can_send(self) -> bool:
        return self._link.may_send_batches and not self._outlet.is_congested

    def _send(self, cursor: Cursor, page: Page) -> None:
        cursor.rid = page.rid
        # What this client pushed while the page was read is left out.
        wanted = [item for item in page.batches if cursor.wants(item.log, item.n)]
        for item in wanted:
            cursor.sent(item.log, item.n)
        if wanted or (self._tell_end and not page.more):
            self._link.send(Batches(b=[item.blob for item in wanted], more=page.more), request=LIVE)
            self.sent_batches += len(wanted)
            self._flush()
        if not page.more:
            self._tell_end = False
