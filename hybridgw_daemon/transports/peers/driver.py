"""The driver: one sync conversation over one channel, from a device's side. The same with a relay and with a device.

    greeting (greeting.py): who is there, and may the two speak
    then pumps at once: in (frames to the service), out (batches while there is credit), pings.

With a relay, this side pushes and the relay streams. Between two devices both push: each sends, in the order in which
they arrived here, the batches that the other has not told to have, and is told what is durable there by push_ack. What
is another device's that one mostly sends itself, so it gets a moment for it (LATER_S).

What a conversation learns goes to the SyncService; what it must send it reads from there. It owns no data.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Final

from hybridgw_protocol.batch import EMPTY_HEAD, Head
from hybridgw_protocol.errors import (
    HybridGWError,
    Offline,
    PairingFailed,
    RemoteClosed,
    RemoteError,
    Revoked,
)
from hybridgw_protocol.frames import (
    Batches,
    Credit,
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Dir,
    Err,
    LetterFrame,
    Msg,
    MsgPut,
    MsgStored,
    PairClose,
    PairJoined,
    PairMsg,
    PairOpen,
    PairOpened,
    Ping,
    Pong,
    Push,
    PushAck,
    Want,
)
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.limits import PING_DEADLINE_S, PING_S
from hybridgw_protocol.link import DEFAULT_FLOW, Flow, Role
from hybridgw_protocol.membership import Status
from hybridgw_protocol.vectors import Heads, from_entries, to_entries

from ...services.gateway import Channel
from ...services.peers import PeerState
from ...services.room import Room
from ...services.sync import Opened, SyncService
from .greeting import (
    REFUSALS,
    Greeted,
    Greeting,
    Joining,
    RootReads,
    closed_by_peer,
    greet_in_time,
    parts_of,
    send_control,
)
from .letters import LetterPump
from .line import Line
from .mail import MailPump
from .mailbox import FrameMailbox
from .root import serve_root

log = logging.getLogger(__name__)

Row = tuple[int, LogId, int, bytes]  # rid, log, n, blob

PUSHES_KNOWN: Final = 1_024  # more than a relay leaves unanswered
PIPELINE: Final = 3  # frames opened ahead of the one being applied
LATER_S: Final = 0.5  # what another device wrote waits so long: it most likely sends that itself just now
MOST_BEFORE: Final = 4
TELL_S: Final = 0.1  # what came from elsewhere is told at most so often
PROBE_S: Final = 1.0  # a device on the same network that is there answers within milliseconds
LAST_PROBE_S: Final = 2.0  # one that owes an answer already
RELAY_PROBE_S: Final = 3.0  # after a change of the network; connecting anew is cheap, waiting for a dead relay is not
ANSWER_S: Final = 3.0  # what was pushed is acknowledged sooner, or the other side is not called connected until it is
SLOWEST_BYTES_PER_S: Final = 32 * 1024  # so slow a line may be and still be given time for what is on its way


class Conversation:
    """One connection's life. `run` returns when the other side closed and raises what went wrong."""

    def __init__(self, channel: Channel, sync: SyncService, greeting: Greeting, *, flow: Flow = DEFAULT_FLOW) -> None:
        self._sync = sync
        self._greeting = greeting
        self._flow = flow
        self._line = Line(channel, greeting.role, peer=greeting.peer, flow=flow)
        self._have: dict[LogId, int] = {}  # what the other side holds, as far as we know
        self._moved_s: dict[LogId, float] = {}  # when the other side got more of a log, and not from here
        self._got_s = 0.0  # of any log; at first when it told what it holds
        self._met_row = 0  # the last row then
        self._news: dict[LogId, Head] = {}  # stored here, from elsewhere, and not told yet
        self._told_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._refused: set[LogId] = set()  # forked logs: a relay takes no other branch until they are closed
        self._cursor, self._cuts, self._ends = 0, sync.cuts, sync.ends
        self._told_control: set[bytes] = set()
        self._wake_out = asyncio.Event()
        self._control_here = asyncio.Event()
        self._looking, self._heard, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._why: HybridGWError = Offline("Connecting anew, to compare everything.")
        self._is_direct = greeting.path == "lan"
        self._only_control = False
        self._knows_control = False  # the heads of its control log were told
        self._is_met = False  # what the other side holds is known
        self._more = not self._is_direct  # of what a relay streams
        self._pairing_request = -1
        self._round_trips: dict[int, asyncio.Event] = {}
        self._unanswered: dict[int, int] = {}  # pushes: id -> bytes
        self._room = Room()
        self._is_asked = False  # whether there is room, by what was pushed last
        self._pushes: deque[int] = deque(maxlen=PUSHES_KNOWN)  # ids of the last ones, answered or not
        self._asked_s: dict[int, float] = {}  # pushes, and pings as 0: id -> when they were sent
        self._answer_due: asyncio.TimerHandle | None = None
        self._in_hand = 0  # frames of batches that arrived and are not applied yet
        self._arrived: asyncio.Queue[tuple[Batches | Push, int, int]] = asyncio.Queue()  # frame, its id, its size
        self._opened: asyncio.Queue[tuple[Opened, Batches | Push, int, int]] = asyncio.Queue(PIPELINE)
        self.mailbox: FrameMailbox | None = None
        self._mail: MailPump | None = None
        self._letters: LetterPump | None = None  # people are reached by relays only
        self.is_ready = asyncio.Event()  # welcomed: everything may be sent
        self.is_over = asyncio.Event()
        self.state = PeerState(greeting.peer, link=self._line.link)

    # ---- the whole conversation -----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Greet, then sync until the channel closes.

        Raises: Offline, RemoteError kinds (version, auth, revoked, not_admitted, quota, …), LocalError kinds.
        """
        try:
            greeted = await greet_in_time(self._greeting, self._line)
            if isinstance(greeted, Joining):
                await self._greeting.pair(self._line, greeted.nameplate)
                return
            if isinstance(greeted, RootReads):
                await serve_root(self._sync, self._line)
                return
            self.state = greeted.state
            if not self._is_direct:
                self._room = self._sync.peers.rooms[self.state.peer]
            self._line.peer = self.state.name
            await self._sync.admitted(self.state.peer, greeted.their_ms)
            await self._begin(greeted)
            self.is_ready.set()
            if not self._only_control:
                if self._sync.mail is not None:
                    self._mail = MailPump(self._sync.mail, self._line.ask, self._line.send, only=self.state.device)
                if self._sync.letters is not None and not self._is_direct:
                    self._letters = LetterPump(self._sync.letters, self.state.peer, self._line)
                if not self._ended.is_set():  # a newer one may have taken its place while it greeted
                    self._sync.peers.connected(self)
            await self._pump()
        except RemoteError as error:
            if self._is_direct and (self.is_ready.is_set() or self._greeting.role is Role.SERVER):
                await self._line.refuse(error)  # a caller that turned away before says nothing
            raise
        finally:
            self.is_over.set()
            self._sync.peers.disconnected(self)
            if self.mailbox:
                self.mailbox.closed("gone")
            await self._line.channel.close()

    async def _pump(self) -> None:
        pumps = [
            asyncio.create_task(pump(), name=pump.__name__.strip("_"))
            for pump in (
                self._pump_in, self._pump_open, self._pump_apply, self._pump_out, self._ping, self._wait_for_end
            )
        ]  # fmt: skip
        if self._mail is not None:
            pumps.append(asyncio.create_task(self._mail.run(), name="pump_mail"))
        if self._letters is not None:
            pumps.append(asyncio.create_task(self._letters.run(), name="pump_letters"))
        try:  # no task group: before Python 3.13 a cancel that meets an error is lost in it
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for timer in (self._answer_due, self._timer):
                if timer is not None:
                    timer.cancel()
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        for error in ends:
            if isinstance(error, Exception):
                raise error

    async def _begin(self, greeted: Greeted) -> None:
        self._only_control = greeted.only_control
        if greeted.control is not None:
            await self._hear_control(greeted.control)
        if greeted.theirs is None:
            return  # the caller tells what it holds when it has seen who answers
        if not self._only_control:
            await self._meet(greeted.theirs)
        if not self._is_direct:
            return
        await self._line.ask(CtlGet(heads=self._sync.control_heads() if self.state.is_member else []))
        if not self._only_control:
            await self._line.send(Want(vv=to_entries(await self._sync.heads())))
            if self._refused:
                await self._want_anew()

    async def _meet(self, theirs: Heads) -> None:
        """The other side has told what it holds: send what it lacks from now on."""
        self._have = {entry: head.n for entry, head in theirs.items()}
        if not self._is_met:
            judged = await self._sync.compare(self.state.peer, theirs)
            self._refused = set(judged.forked)
        self._have.update(self._sync.branch_points(theirs))
        self._ends = self._sync.ends  # of the cuts those count that came after our vector was told
        held_back: set[LogId] = set() if self._is_direct else self._refused
        self._cursor = await self._sync.first_row_to_send(dict(self._have), held_back)
        self.state.theirs = theirs
        if not self._is_met and self._refused and not self._is_direct:
            await self._want_anew()
        self._is_met = True
        self._met_row = await self._sync.last_row() if self._is_direct else 0
        self._got_s = asyncio.get_running_loop().time()
        self._mark_progress()
        self._wake_out.set()

    async def _hear_control(self, heads: list[bytes]) -> None:
        """The other side has told the heads of its control log: ask for what is lacking here, give what it lacks."""
        self._told_control, self._knows_control = set(heads), True
        self.state.control = frozenset(heads)
        if self._sync.lacks_control(heads):
            if not self._is_direct or self._greeting.role is Role.SERVER:  # a caller asks anyhow
                await self._line.ask(CtlGet(heads=self._sync.control_heads()))
        else:
            self._control_here.set()
        if self.state.is_member and (missing := self._sync.control_missing_from(heads)):
            await self._put_control(missing)
        self._wake_out.set()

    # ---- pumps ----------------------------------------------------------------------------------------------------
    async def _pump_in(self) -> None:
        while True:
            frame, request = await self._line.receive()
            self._heard.set()
            if self.state.is_silent:
                self.state.is_silent = False
                self._sync.peers.changed()
            match frame:
                case Batches() | Push():
                    self._in_hand += 1
                    self._mark_progress()
                    self._arrived.put_nowait((frame, request, self._line.last_size))  # bounded by the credit we gave
                case PushAck():
                    self._unanswered.pop(request, None)
                    if request:  # else it is news, and no answer
                        self._answered(request)
                    heads = from_entries(frame.vv)
                    for entry, head in heads.items():
                        self._holds(entry, head.n, is_moving=request == 0)
                    self._sync.peers.confirmed(self.state.peer, heads)
                    self.state.theirs.update(heads)
                    if self._room.why is not None:
                        self._wake_out.set()
                    self._sync.peers.changed()
                case Want() if self._is_direct:
                    await self._meet(from_entries(frame.vv))
                case Credit():
                    self._wake_out.set()
                case Ctl():
                    await self._take_control(frame.recs)
                    if not frame.more:
                        self._control_here.set()
                        self._end_if_control_is_told()
                case CtlPut() if self._is_direct:
                    await self._take_control(frame.recs)
                    await self._line.send(CtlAck(heads=self._sync.control_heads()), request)
                case CtlGet():
                    if self._is_direct:
                        await self._hear_control(frame.heads)
                    await send_control(self._line, self._sync.control_missing_from(frame.heads), request)
                case CtlAck():
                    self._told_control.update(frame.heads)
                    self.state.control = frozenset(frame.heads)
                    self._sync.peers.changed()
                    self._end_if_control_is_told()
                case Ping(t=t):
                    await self._line.send(Pong(t=t), request)
                case Pong():
                    self._answered(request)
                    if waiter := self._round_trips.get(request):
                        waiter.set()
                case MsgStored() | Msg() | MsgPut():
                    if self._mail is not None:
                        await self._mail.received(frame, request)
                    if self._letters is not None and isinstance(frame, MsgStored):
                        self._letters.received(frame, request)
                case LetterFrame() | Dir():
                    if self._letters is not None:
                        self._letters.received(frame, request)
                case Err():
                    self._unanswered.pop(request, None)
                    self._asked_s.pop(request, None)
                    if self._letters is None or not self._letters.refused(frame, request):
                        await self._refused_by_peer(frame, request)
                case PairOpened() | PairJoined() | PairMsg() | PairClose():
                    if self.mailbox:
                        self.mailbox.received(frame)
                case _:
                    pass

    async def _pump_open(self) -> None:
        while True:
            frame, request, size = await self._arrived.get()
            await self._control_here.wait()  # batches are judged only when the peer's control records are here too
            opened = await self._sync.open_batches(frame.b)
            if opened.unknown_devices:
                raise Offline("Batches came of a device that no control record names yet; connecting again.")
            await self._opened.put((opened, frame, request, size))

    async def _pump_apply(self) -> None:
        while True:
            opened, frame, request, size = await self._opened.get()
            stored = await self._sync.receive(opened, source=self.state.peer)
            if isinstance(frame, Push):
                self._line.link.send(PushAck(vv=to_entries(stored.heads)), request=request)
            self._line.link.stored(size)
            await self._line.flush()
            for entry, head in opened.heads.items():  # what it sends it holds; of a closed log it may be any branch
                if entry not in self._sync.ends:
                    self._holds(entry, head.n, is_moving=True)
                if head.n > self.state.theirs.get(entry, EMPTY_HEAD).n:
                    self.state.theirs[entry] = head
            self._in_hand -= 1
            if isinstance(frame, Batches):
                self._more = frame.more and not self._is_direct
            self._mark_progress()
            self.state.received += stored.fresh
            self._sync.peers.changed()
            strays = set(stored.strays) - self._refused
            self._refused |= strays  # theirs is another branch: ask for all of it, the fork is proved then
            if stored.gaps or strays:
                await self._want_anew()

    async def _take_control(self, records: list[bytes]) -> None:
        await self._sync.add_records(records, from_peer=True)
        self._told_control.update(self._sync.space.names_of(records))

    def _end_if_control_is_told(self) -> None:
        """Of a conversation about control records only: both sides know them all, and begin again with that."""
        if not self._only_control or not self._control_here.is_set():
            return
        if not self.state.is_member or not self._sync.control_missing_from(sorted(self._told_control)):
            self.end(Offline(f"{self.state.name} has the control records now; connecting anew."))

    def _check_standing(self) -> None:
        device = self.state.device
        if device is not None and self.state.is_member and self._sync.space.standing(device) is not Status.ACTIVE:
            raise Revoked("This device does not belong to the space any more.")

    def _mark_progress(self) -> None:
        self.state.catching_up = not self._is_met or self._more or self._in_hand > 0

    async def _pump_out(self) -> None:
        while True:
            await self._wake_out.wait()
            self._wake_out.clear()
            self._check_standing()
            if self._knows_control and self.state.is_member:
                missing = self._sync.control_missing_from(sorted(self._told_control))
                if missing:
                    await self._put_control(missing)
            while self._is_met and self._line.link.may_send_batches and await self._has_room():
                if self._look_at_branches():
                    await self._want_anew()
                have = self._have if self._is_direct else {**self._have, **dict.fromkeys(self._refused, 2**62)}
                rows, self._cursor, more = await self._sync.outgoing(
                    self._cursor, have, self._flow.frame_bytes, self._flow.frame_batches
                )
                rows, is_later = self._due(rows)
                if not rows and self._is_asked:
                    continue  # it holds all there is
                if not rows:
                    break
                for _, entry, n, _ in rows:
                    self._have[entry] = n
                self.state.sent += len(rows)
                self._expect_answer(self._line.queue(Push(b=[blob for *_, blob in rows])), rows)
                await self._line.flush()
                if is_later or not more:
                    break
            await self._tell_news()
            self._sync.peers.changed()

    async def _has_room(self) -> bool:
        """May something be pushed now: to a relay that was full one frame, of what it does not hold, when it is time.

        That is taken for room again when the relay holds all that was pushed.
        """
        if self._room.why is None:
            return True
        if self._unanswered:
            return False  # the answer wakes us
        if (wait_s := self._room.wait_s(asyncio.get_running_loop().time())) > 0:
            self._is_asked = False
            self._wake_later(wait_s)
            return False
        theirs = self.state.theirs
        if self._is_asked:
            if any(theirs.get(entry, EMPTY_HEAD).n < n for entry, n in self._have.items()):
                return False  # the refusal follows
            self._is_asked = False
            self._room.took()
            self.state.refusal = None
            await self._sync.has_room(self.state.name)
            return True
        self._is_asked = True
        self._have = {entry: head.n for entry, head in theirs.items()}
        self._have.update(self._sync.branch_points(theirs))
        self._cursor = await self._sync.first_row_to_send(dict(self._have), self._refused)
        return True

    def _due(self, rows: list[Row]) -> tuple[list[Row], bool]:
        """Without those at the end that somebody else most likely sends just now. Returns also: are there such.

        What came lately of another device, that one sends. What a device lacks that comes back, one of those sends that
        are connected with it, the others only if it gets nothing.
        """
        now_s, own = asyncio.get_running_loop().time(), self._sync.space.own_log
        if rows and rows[0][0] <= self._met_row and now_s < self._got_s + LATER_S * self._rank():
            self._cursor = rows[0][0] - 1
            self._wake_later(LATER_S)
            return [], True
        settled = self._sync.settled_row(now_s - LATER_S)
        start = max((k for k, row in enumerate(rows) if row[1] == own), default=-1) + 1  # what ours may depend on goes
        for k in range(start, len(rows)):
            rid, entry, *_ = rows[k]
            if rid > settled or now_s - self._moved_s.get(entry, -LATER_S) < LATER_S:
                self._cursor = rid - 1
                self._wake_later(LATER_S)
                return rows[:k], True
        return rows, False

    def _rank(self) -> int:
        """How many others are before this device when one is to send; most likely they are connected with it too."""
        own, other = self._sync.identity.device, self.state.device
        if other is None:
            return 0
        before = sum(state.device < own for state in self._sync.peers.directs() if state.device not in (None, other))
        return min(before, MOST_BEFORE)

    def _wake_later(self, seconds: float) -> None:
        """Look for something to send after so long, if not sooner; one timer, however often it is asked for."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + seconds
        if self._timer is None or self._timer.cancelled() or not loop.time() < self._timer.when() <= due_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(due_s, self._wake_out.set)

    def _holds(self, entry: LogId, n: int, *, is_moving: bool) -> None:
        """The other side has told that it has batch n of a log, which it may have got from elsewhere."""
        if n > self._have.get(entry, 0):
            self._have[entry] = n
            if is_moving:
                self._moved_s[entry] = self._got_s = asyncio.get_running_loop().time()

    def tell(self, heads: Mapping[LogId, Head]) -> None:
        """So much is stored here now, from elsewhere: a device that knows need not send it."""
        if self._is_direct:
            self._news.update(heads)

    async def _tell_news(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._news or not self._is_met:
            return
        if (wait_s := self._told_s + TELL_S - loop.time()) > 0:
            self._wake_later(wait_s)
            return
        self._told_s = loop.time()
        news, self._news = self._news, {}
        await self._line.send(PushAck(vv=to_entries(news)))

    def _look_at_branches(self) -> bool:
        """Logs were closed, or batches taken out: what to send is judged anew. Returns whether some were taken out:
        the other side has sent them, or was told of them, and must hear that they are wanted again."""
        cuts, ends = self._sync.cuts, self._sync.ends
        if cuts == self._cuts and ends is self._ends:
            return False
        closed, points = self._refused & ends.keys(), self._sync.branch_points(self.state.theirs)
        is_cut = cuts != self._cuts
        if closed or points or is_cut:
            self._cursor = 0
        self._cuts, self._ends = cuts, ends
        self._refused -= closed
        self._have.update(points)
        return is_cut

    async def _want_anew(self) -> None:
        ours = await self._sync.heads()
        await self._line.send(Want(vv=to_entries({k: h for k, h in ours.items() if k not in self._refused})))

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            deadline_s = PING_DEADLINE_S
            try:
                async with asyncio.timeout(PING_S):
                    await self._looking.wait()
                self._looking.clear()
                if self._is_direct:
                    deadline_s = self._time_for_what_is_on_its_way(LAST_PROBE_S if self.state.is_silent else PROBE_S)
                elif not self.state.is_silent:
                    deadline_s = self._time_for_what_is_on_its_way(RELAY_PROBE_S)
            except TimeoutError:
                if loop.time() - self._line.heard_s < PING_S / 2:
                    continue
            self._heard.clear()
            self._asked_s[0] = loop.time()
            await self._line.send(Ping(t=self._sync.now_ms()))
            try:
                async with asyncio.timeout(deadline_s):
                    await self._heard.wait()
            except TimeoutError as error:
                raise Offline(f"{self.state.name} does not answer any more.") from error
            self._sync.peers.note_step()

    def _expect_answer(self, request: int, rows: list[Row]) -> None:
        """A push went out: whoever takes it says so soon. One timer, however many there are."""
        self._pushes.append(request)
        self._unanswered[request] = sum(len(blob) for *_, blob in rows)
        self._asked_s[request] = asyncio.get_running_loop().time()
        if self._answer_due is None:
            self._watch_for_answer()

    def _answered(self, request: int) -> None:
        if (asked_s := self._asked_s.pop(request, None)) is not None:
            self.state.rtt_ms = round((asyncio.get_running_loop().time() - asked_s) * 1000, 1)

    def _watch_for_answer(self) -> None:
        loop, patience_s = asyncio.get_running_loop(), self._time_for_what_is_on_its_way(ANSWER_S)
        self._answer_due = loop.call_later(patience_s, self._look_for_answer, loop.time())

    def _look_for_answer(self, since_s: float) -> None:
        """Nothing was heard since then: this way is not shown as one in use, and the other side is asked."""
        self._answer_due = None
        if not self._unanswered:
            return
        if self._line.heard_s >= since_s:
            self._watch_for_answer()
            return
        self.state.is_silent = True
        self._sync.peers.changed()
        self._looking.set()

    def _time_for_what_is_on_its_way(self, seconds: float) -> float:
        """Pushes that were not acknowledged may still be on a slow line, and a ping is behind them."""
        return seconds + sum(self._unanswered.values()) / SLOWEST_BYTES_PER_S

    async def _wait_for_end(self) -> None:
        await self._ended.wait()
        raise self._why

    async def round_trip(self) -> None:
        """Returns when all that the other side had to say before it heard this has arrived; never, if it is gone."""
        waiter, number = asyncio.Event(), self._line.link.ask(Ping(t=self._sync.now_ms()))
        self._round_trips[number] = waiter
        try:
            await self._line.flush()
            await waiter.wait()
        finally:
            self._round_trips.pop(number, None)

    async def answers(self) -> bool:
        """Is the other side there, now. One that is just being greeted is."""
        if not self.is_ready.is_set():
            return not self.is_over.is_set()
        try:
            async with asyncio.timeout(PROBE_S):
                await self.round_trip()
        except (HybridGWError, TimeoutError):
            return False
        return not self.is_over.is_set()

    def wake(self) -> None:
        """There is something new to send."""
        self._wake_out.set()
        if self._mail is not None:
            self._mail.wake()
        if self._letters is not None:
            self._letters.wake()

    def look(self) -> None:
        """The network changed, or the machine slept: is the other side still there."""
        self._looking.set()

    def end(self, why: HybridGWError | None = None) -> None:
        """End this conversation in order; its owner connects again. why: what it ends with."""
        self._why = why or self._why
        self._ended.set()

    async def _refused_by_peer(self, frame: Err, request: int) -> None:
        name = self.state.name
        if request == 0 or frame.code in REFUSALS:
            raise closed_by_peer(frame, name)
        if request == self._pairing_request and self.mailbox:
            self.mailbox.closed(frame.msg)
            return
        is_push = request in self._pushes
        if is_push and frame.code == "gap" and self._room.why is not None and not self._is_asked:
            return  # it rests on what was not taken
        await self._sync.refused(name, frame.code, frame.msg)
        self.state.refusal = frame.msg
        if is_push and frame.code == "quota":
            self._room.refused(frame.msg, asyncio.get_running_loop().time())
            self._wake_out.set()
            return
        if frame.retry or frame.code in ("gap", "fork", "quota"):  # what was pushed is not there: compare anew
            raise RemoteClosed(f"{name}: {frame.msg}", remote_code=frame.code, retry_ms=frame.retry or 5_000)

    # ---- control records ------------------------------------------------------------------------------------------
    async def _put_control(self, records: list[bytes]) -> None:
        for part in parts_of(records):
            self._line.link.ask(CtlPut(recs=part))
        await self._line.flush()
        self._told_control.update(self._sync.control_heads())

    # ---- pairing --------------------------------------------------------------------------------------------------
    async def open_mailbox(self) -> FrameMailbox:
        """Open a pairing mailbox over this connection. Raises: PairingFailed: one is open already."""
        if self.mailbox and not self.mailbox.is_closed:
            raise PairingFailed("A pairing is going on already; finish or cancel it first.")
        mailbox = self.mailbox = FrameMailbox(self._line.send)
        try:
            self._pairing_request = await self._line.ask(PairOpen())
            await mailbox.opened()
        except BaseException:
            mailbox.closed("gone")
            raise
        return mailbox
