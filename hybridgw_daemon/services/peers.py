"""Who is connected, who is not and why, what each side holds: the register of conversations. Memory only.

Conversations (transports/peers) report here; the sync service and everybody who waits for a change look here. One thing
is kept on disk, as a hint for alarms: the highest heads a peer has ever confirmed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, Protocol

from hybridgw_protocol.batch import Head
from hybridgw_protocol.errors import HybridGWError, Offline, Revoked
from hybridgw_protocol.frames import Quota
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.limits import CLOCK_WARN_MS
from hybridgw_protocol.link import Link
from hybridgw_protocol.localapi import RelayStatus
from hybridgw_protocol.vectors import Heads
from hybridgw_storage.database import Database, Tx

from ..stores import control
from .room import Room

Path = Literal["relay", "lan"]
Paths = Literal["none", "relay", "lan", "both"]

log = logging.getLogger(__name__)

NO_ANSWER: Final = "It does not answer now."
LAN_OFF: Final = "Direct links are off (LAN_ENABLED)."
LAN_STARTING: Final = "Direct links are not there yet; they begin when the key of this profile is open."
LAN_START_S: Final = 5.0  # the certificate of a run takes a fraction of a second
SAVE_CONFIRMED_S: Final = 1.0  # what peers confirmed is only a hint: saved together, not per acknowledgement


class PeerState:
    """What one connection shows. peer: a relay's URL, or a device's id in hex; name: what a person calls it; theirs:
    heads the other side holds durably, as far as we know; control: the heads of its control log (16-byte prefixes), as
    it told last; heard_s: all it had to say at that time of the event loop has arrived; address: of a device, where it
    was reached or came from; is_member: of a device, a control record here admits it; is_silent: it owes an answer for
    so long that it may not be there any more; rtt_ms: how long its last answer took, to a ping, or to a push,
    which it has stored then."""

    def __init__(
        self, peer: str, *, path: Path = "relay", device: DeviceId | None = None, name: str = "",
        link: Link | None = None,
    ) -> None:  # fmt: skip
        """Args: link: counts the bytes."""
        self.peer, self.path, self.device, self.name = peer, path, device, name or peer
        self._link = link
        self.address = ""
        self.is_member = True
        self.is_silent = False
        self.theirs: Heads = {}
        self.control: frozenset[bytes] = frozenset()
        self.catching_up = True
        self.heard_s = 0.0
        self.received = 0
        self.sent = 0
        self.refusal: str | None = None
        self.rtt_ms: float | None = None
        self.quota: Quota | None = None

    @property
    def bytes_in(self) -> int:
        """Bytes of frames that came."""
        return self._link.bytes_in if self._link else 0

    @property
    def bytes_out(self) -> int:
        """Bytes of frames that went."""
        return self._link.bytes_out if self._link else 0


class Lan:
    """Direct links as a whole. off: why there are none, None: this device listens, at `port`; is_starting: they are not
    yet there; errors: why an address is not connected."""

    def __init__(self) -> None:
        self.off: str | None = LAN_OFF
        self.is_starting = False
        self.port = 0
        self.errors: dict[str, HybridGWError] = {}


class Conversation(Protocol):
    """What services need of a connection."""

    state: PeerState

    def wake(self) -> None:
        """There is something new to send."""
        ...

    def tell(self, heads: Mapping[LogId, Head]) -> None:
        """So much is stored here now, from elsewhere."""
        ...

    async def round_trip(self) -> None:
        """Returns when all that the other side had to say before it heard this has arrived; never, if it is gone."""
        ...


class Peers:
    """The register; one per daemon."""

    def __init__(self, database: Database, *, clock: Callable[[], int], published: Callable[[str], None]) -> None:
        """Args: clock: wall clock, Unix ms; published: tells local listeners that `sync` changed."""
        self._database, self._clock, self._published = database, clock, published
        self.conversations: dict[str, Conversation] = {}
        self.known: list[str] = []  # relays in use, connected or not
        self.errors: dict[str, HybridGWError] = {}  # why a relay is not connected
        self.rooms: defaultdict[str, Room] = defaultdict(Room)  # of relays
        self.lan = Lan()
        self.last_sync_ms: int | None = None
        self._offsets: dict[str, tuple[int, int]] = {}  # how far a peer's clock is from ours; our clock's epoch then
        self._steady_s: Callable[[], float] = lambda: 0.0  # a clock that nobody sets
        self._confirmed: dict[str, Heads] = {}
        self._to_save = asyncio.Event()
        self._waiters: list[asyncio.Event] = []
        self._reconnect: Callable[[bool], None] = lambda _full: None
        self._is_in_step: Callable[[], bool] = lambda: False

    # ---- reported by conversations --------------------------------------------------------------------------------
    def connected(self, conversation: Conversation) -> None:
        """A conversation was welcomed."""
        conversation.state.heard_s = asyncio.get_running_loop().time()
        self.conversations[conversation.state.peer] = conversation
        self.errors.pop(conversation.state.peer, None)
        self.changed()
        self._published("sync")

    def disconnected(self, conversation: Conversation) -> None:
        """It ended."""
        if self.conversations.get(conversation.state.peer) is conversation:
            if not conversation.state.is_silent:
                self.note_step()
            del self.conversations[conversation.state.peer]
            self.changed()
            self._published("sync")

    def failed(self, peer: str, error: HybridGWError) -> None:
        """A connection could not be made, or broke."""
        self.errors[peer] = error
        self.changed()

    def changed(self) -> None:
        """Something moved: those who wait look again."""
        for waiter in self._waiters:
            waiter.set()

    def confirmed(self, peer: str, heads: Mapping[LogId, Head]) -> None:
        """A peer has these durably."""
        self._confirmed.setdefault(peer, {}).update(heads)
        self._to_save.set()
        self.last_sync_ms = self._clock()

    def told_time(self, peer: str, their_ms: int) -> int:
        """Another clock. Returns: how far it is from ours, in ms."""
        self._steady_s = asyncio.get_running_loop().time
        offset = their_ms - self._clock()
        self._offsets[peer] = (offset, self._epoch_ms())
        return offset

    def _epoch_ms(self) -> int:
        """What our clock showed when the one that nobody sets stood at 0."""
        return self._clock() - int(self._steady_s() * 1000)

    # ---- asked by services ----------------------------------------------------------------------------------------
    def correction_ms(self) -> int:
        """What to add to our clock: 0 unless two sources or more agree that it is off.

        What was told before our clock was set (or the machine slept) says nothing about it now.
        """
        if len(self._offsets) < 2:
            return 0
        epoch_ms = self._epoch_ms()
        offsets = sorted(o for o, then_ms in self._offsets.values() if abs(epoch_ms - then_ms) <= CLOCK_WARN_MS)
        if len(offsets) < 2:
            return 0
        median = offsets[len(offsets) // 2]
        agree = all(abs(offset - median) <= CLOCK_WARN_MS for offset in offsets)
        return median if agree and abs(median) > CLOCK_WARN_MS else 0

    def wake(self, *, except_for: str = "") -> None:
        """All conversations look for something to send."""
        for peer, conversation in self.conversations.items():
            if peer != except_for:
                conversation.wake()

    def tell(self, heads: Mapping[LogId, Head], *, except_for: str) -> None:
        """So much of other devices' logs is stored here now."""
        for peer, conversation in self.conversations.items():
            if peer != except_for:
                conversation.tell(heads)

    def conversation(self, peer: str | None = None) -> Conversation | None:
        """A live conversation: with that peer, or with any."""
        if peer is not None:
            return self.conversations.get(peer)
        return next(iter(self.conversations.values()), None)

    def directs(self) -> list[PeerState]:
        """The devices with which there is a direct link."""
        return [c.state for c in self.conversations.values() if c.state.device is not None]

    def path(self, device: DeviceId | None = None) -> Paths:
        """The ways in use: to a device, or to any."""
        answering = [c.state for c in self.conversations.values() if not c.state.is_silent]
        lan = any(state.device is not None and device in (None, state.device) for state in answering)
        relay = any(state.device is None for state in answering)
        return "both" if lan and relay else "lan" if lan else "relay" if relay else "none"

    def highest(self) -> dict[LogId, int]:
        """The highest batch of each log that some connected peer holds."""
        best: dict[LogId, int] = {}
        for conversation in self.conversations.values():
            for log, head in conversation.state.theirs.items():
                best[log] = max(best.get(log, 0), head.n)
        return best

    def sent_batches(self) -> int:
        """Batches sent over the live connections."""
        return sum(conversation.state.sent for conversation in self.conversations.values())

    def know_relays(self, urls: Sequence[str]) -> None:
        """The relays in use, connected or not."""
        self.known = list(urls)
        for gone in set(self.errors) - set(urls):
            del self.errors[gone]
        for gone in set(self.rooms) - set(urls):
            del self.rooms[gone]

    def relay_status(self, url: str) -> RelayStatus:
        """One relay, for a person."""
        conversation, error = self.conversations.get(url), self.errors.get(url)
        if conversation is None:
            state = "offline" if error else "connecting"
            return RelayStatus(url=url, state=state, error=error.message if error else None)  # type: ignore[arg-type]
        state_of = conversation.state
        return RelayStatus(
            url=url,
            state="connecting" if state_of.is_silent else "connected",
            error=NO_ANSWER if state_of.is_silent else state_of.refusal,
            rtt_ms=state_of.rtt_ms,
            sent_bytes=state_of.bytes_out,
            received_bytes=state_of.bytes_in,
        )

    def no_room(self) -> str | None:
        """What a relay has said that is connected and takes nothing more; None: there is none."""
        told = (self.rooms[peer].why for peer in self.conversations if peer in self.rooms)
        return next(filter(None, told), None)

    def refusal(self) -> Revoked | None:
        """What somebody said who told this device that it does not belong any more; None: nobody did."""
        told = (*self.errors.values(), *self.lan.errors.values())
        return next((error for error in told if isinstance(error, Revoked) and error.detail.get("told")), None)

    def ask_step(self, is_in_step: Callable[[], bool]) -> None:
        """Where to ask whether this device is in step now; the sync service's."""
        self._is_in_step = is_in_step

    def note_step(self) -> None:
        """A good moment to take note if this device is in step: somebody was heard, or is about to be gone."""
        with suppress(HybridGWError):  # a database that cannot be read says so elsewhere
            if self._is_in_step():
                self.last_sync_ms = self._clock()

    def on_reconnect(self, action: Callable[[bool], None]) -> None:
        """What `reconnect` does; the gateway's."""
        self._reconnect = action

    def reconnect(self, *, full: bool = False) -> None:
        """Try those that are not connected now. full: connect the others anew too, which compares everything."""
        for room in self.rooms.values():
            room.ask_now()
        self._reconnect(full)

    def lan_starts(self) -> None:
        """Direct links begin soon."""
        self.lan.off, self.lan.is_starting = LAN_STARTING, True

    def lan_listens(self, port: int) -> None:
        """They have begun."""
        self.lan.off, self.lan.is_starting, self.lan.port = None, False, port
        self.changed()

    def lan_failed(self, why: str) -> None:
        """There will be none."""
        self.lan.off, self.lan.is_starting = why, False
        self.changed()

    async def why_no_lan(self) -> str | None:
        """Why there are no direct links; None: there are. Waits a moment for those that are about to begin."""

        async def is_decided() -> bool:
            return not self.lan.is_starting

        await self.wait_for(is_decided, LAN_START_S, look_s=LAN_START_S)
        return self.lan.off

    # ---- waiting --------------------------------------------------------------------------------------------------
    async def wait_for(self, condition: Callable[[], Awaitable[bool]], timeout_s: float, *, look_s: float) -> bool:
        """Until the condition holds; it is looked at after each change and every *look_s* seconds."""
        waiter = asyncio.Event()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                while not await condition():
                    waiter.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(look_s):  # not wait_for: before 3.12 it may swallow a cancel
                            await waiter.wait()
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)
        return True

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """While the block runs, every connected peer is asked for a round trip; `heard_s` of its state tells of it."""

        async def ask(conversation: Conversation) -> None:
            with suppress(HybridGWError):  # it is gone; another conversation begins, and its welcome counts
                begun_s = asyncio.get_running_loop().time()
                await conversation.round_trip()
                conversation.state.heard_s = begun_s
                self.changed()

        tasks = [asyncio.ensure_future(ask(c)) for c in self.conversations.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def first_contact(self, peer: str, timeout_s: float) -> HybridGWError | None:
        """Wait until a peer has welcomed this device, or refused it. Returns: why it was not, if it was not in time."""
        self.errors.pop(peer, None)

        async def is_decided() -> bool:
            return peer in self.conversations or peer in self.errors

        if not await self.wait_for(is_decided, timeout_s, look_s=timeout_s):
            return Offline(f"{peer} did not answer in time.")
        return None if peer in self.conversations else self.errors.get(peer)

    async def any_contact(self, timeout_s: float) -> bool:
        """Is a relay connected, or may still be: False if none is known, or none of them could be reached."""
        if self.conversations or not self.known:
            return bool(self.conversations)
        self.errors.clear()

        async def is_decided() -> bool:
            return bool(self.conversations) or self.errors.keys() >= set(self.known)

        await self.wait_for(is_decided, timeout_s, look_s=timeout_s)
        return bool(self.conversations) or not self.errors.keys() >= set(self.known)

    # ---- what is kept ---------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Write down what peers confirmed, now and then; until cancelled."""
        while True:
            await self._to_save.wait()
            await asyncio.sleep(SAVE_CONFIRMED_S)
            self._to_save.clear()
            try:
                await self.save_confirmed()
            except HybridGWError as error:  # a full disk; only a hint is lost
                log.warning("what peers confirmed is not saved: %s", error.message)

    async def save_confirmed(self) -> None:
        """Write down what peers confirmed."""
        confirmed, self._confirmed = self._confirmed, {}
        if confirmed:

            def save(tx: Tx) -> None:
                for peer, heads in confirmed.items():
                    control.confirm_heads(tx, peer, heads)

            await self._database.write(save)
