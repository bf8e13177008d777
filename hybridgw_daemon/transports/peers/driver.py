"""The driver: one sync conversation over one channel, from the device's side. The same for a relay and, later, a peer.

    challenge -> auth (proves the device key, tells what is held) -> [control records] -> welcome
    then three pumps at once: in (frames to the service), out (our batches while there is credit), pings.

What a conversation learns goes to the SyncService; what it must send it reads from there. It owns no data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from hybridgw_protocol.auth import choose_version, sign_auth
from hybridgw_protocol.batch import EMPTY_HEAD
from hybridgw_protocol.errors import (
    AuthFailed,
    BadFrame,
    HybridGWError,
    NotAdmitted,
    Offline,
    PairingFailed,
    RemoteClosed,
    Revoked,
    UnsupportedVersion,
)
from hybridgw_protocol.frames import (
    Auth,
    Batches,
    Challenge,
    Credit,
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Err,
    Frame,
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
    Welcome,
)
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.limits import (
    AUTH_TIMEOUT_S,
    PING_DEADLINE_S,
    PING_S,
)
from hybridgw_protocol.link import DEFAULT_FLOW, Flow, Link, Role
from hybridgw_protocol.vectors import from_entries, to_entries

from ...services.gateway import Channel
from ...services.peers import PeerState
from ...services.sync import Opened, SyncService
from .mail import MailPump

log = logging.getLogger(__name__)
trace = logging.getLogger("trace.frame")  # enabled in debug only

PIPELINE: Final = 3  # frames opened ahead of the one being applied
REFUSALS: Final = {kind.code: kind for kind in (AuthFailed, NotAdmitted, Revoked, UnsupportedVersion)}
CTL_FRAME_BYTES: Final = 256 * 1024


class Conversation:
    """One connection's life. `run` returns when the other side closed and raises what went wrong."""

    def __init__(
        self, channel: Channel, sync: SyncService, *, peer: str, endpoint: str, enrol: bytes,
        entropy: Callable[[int], bytes], flow: Flow = DEFAULT_FLOW,
    ) -> None:  # fmt: skip
        self._channel = channel
        self._sync = sync
        self._peer = peer
        self._endpoint = endpoint
        self._enrol = enrol
        self._entropy = entropy
        self._flow = flow
        self._link = Link(Role.CLIENT, credit_bytes=flow.credit_bytes)
        self._have: dict[LogId, int] = {}  # what the other side holds, as far as we know
        self._refused: set[LogId] = set()  # forked logs: not pushed until they are closed
        self._cursor, self._cuts, self._ends = 0, sync.cuts, sync.ends
        self._told_control: set[bytes] = set()
        self._wake_out = asyncio.Event()
        self._flush_lock = asyncio.Lock()
        self._control_here = asyncio.Event()
        self._ended = asyncio.Event()
        self._alive_at = 0.0
        self._last_size = 0  # of the frame received last: what it cost in credit
        self._pairing_request = -1
        self._round_trips: dict[int, asyncio.Event] = {}
        self._in_hand = 0  # frames of batches that arrived and are not applied yet
        self._arrived: asyncio.Queue[tuple[Batches, int]] = asyncio.Queue()
        self._opened: asyncio.Queue[tuple[Opened, int, bool]] = asyncio.Queue(PIPELINE)
        self._mail = None if sync.mail is None else MailPump(sync.mail, self._ask, self._send)
        self.mailbox: RelayMailbox | None = None
        self.is_ready = asyncio.Event()  # welcomed: everything may be sent
        self.state = PeerState(peer)

    # ---- the whole conversation -----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Authenticate, then sync until the channel closes.

        Raises: Offline, RemoteError kinds (version, auth, revoked, not_admitted, quota, …), LocalError kinds.
        """
        try:
            try:
                async with asyncio.timeout(AUTH_TIMEOUT_S * 3):
                    welcome = await self._authenticate()
            except TimeoutError as error:
                raise Offline(f"{self._peer} did not answer in time.") from error
            await self._sync.admitted(self._peer, welcome.t)
            await self._begin(welcome)
            self.is_ready.set()
            self._sync.peers.connected(self)
            await self._pump()
        finally:
            self._sync.peers.disconnected(self)
            if self.mailbox:
                self.mailbox.closed("gone")
            await self._channel.close()

    async def _pump(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump_in(), name="pump-in")
                group.create_task(self._pump_open(), name="pump-open")
                group.create_task(self._pump_apply(), name="pump-apply")
                group.create_task(self._pump_out(), name="pump-out")
                group.create_task(self._ping(), name="ping")
                if self._mail is not None:
                    group.create_task(self._mail.run(), name="pump-mail")
                group.create_task(self._wait_for_end(), name="end")
        except* HybridGWError as errors:
            raise _first(errors) from None

    async def _authenticate(self) -> Welcome:
        challenge, _ = await self._receive()
        if not isinstance(challenge, Challenge):
            raise BadFrame("The first frame was no challenge.")
        identity = self._sync.identity
        auth = Auth(
            v=choose_version(challenge),
            sp=identity.space,
            pk=identity.sign_public + identity.exchange_public,
            nc=self._entropy(32),
            ep=self._endpoint,
            sig=bytes(64),
            t=self._sync.now_ms(),
            vv=to_entries(await self._sync.heads()),
            ctl=self._sync.control_heads(),
            enrol=self._enrol,
        )
        auth.sig = sign_auth(challenge, auth, identity.sign_secret)
        await self._send(auth)
        while True:
            frame, request = await self._receive()
            match frame:
                case Welcome():
                    return frame
                case CtlGet():
                    await self._send_control(self._sync.control_missing_from(frame.heads), request)
                case _:
                    raise BadFrame(f"A {frame.type.name.lower()} frame came before the welcome.")

    async def _begin(self, welcome: Welcome) -> None:
        theirs = from_entries(welcome.vv)
        self._have = {entry: head.n for entry, head in theirs.items()}
        judged = await self._sync.compare(self._peer, theirs)
        self._refused = set(judged.forked)
        self._have.update(self._sync.branch_points(theirs))
        self._ends = self._sync.ends  # of the cuts those count that came after our vector was told
        self._cursor = await self._sync.first_row_to_send({k: v for k, v in self._have.items()}, self._refused)
        self._told_control = set(welcome.ctl)
        self.state.control = frozenset(welcome.ctl)
        if judged.forked:
            await self._want_anew()
        if self._sync.lacks_control(welcome.ctl):
            await self._send(CtlGet(heads=self._sync.control_heads()))
        else:
            self._control_here.set()
        missing = self._sync.control_missing_from(welcome.ctl)
        if missing:
            await self._put_control(missing)
        self.state.theirs = theirs
        self.state.quota = welcome.quota
        self._wake_out.set()

    # ---- pumps ----------------------------------------------------------------------------------------------------
    async def _pump_in(self) -> None:
        while True:
            frame, request = await self._receive()
            match frame:
                case Batches():
                    self._in_hand += 1
                    self.state.catching_up = True
                    self._arrived.put_nowait((frame, self._last_size))  # bounded by the credit we gave
                case PushAck():
                    heads = from_entries(frame.vv)
                    for entry, head in heads.items():
                        self._have[entry] = max(self._have.get(entry, 0), head.n)
                    self._sync.peers.confirmed(self._peer, heads)
                    self.state.theirs.update(heads)
                    self._sync.peers.changed()
                case Credit():
                    self._wake_out.set()
                case Ctl():
                    await self._sync.add_records(frame.recs)
                    if not frame.more:
                        self._control_here.set()
                case CtlGet():
                    await self._send_control(self._sync.control_missing_from(frame.heads), request)
                case CtlAck():
                    self._told_control.update(frame.heads)
                    self.state.control = frozenset(frame.heads)
                    self._sync.peers.changed()
                case Ping(t=t):
                    await self._send(Pong(t=t), request)
                case Pong():
                    if waiter := self._round_trips.get(request):
                        waiter.set()
                case MsgStored() | Msg() | MsgPut():
                    if self._mail is not None:
                        await self._mail.received(frame, request)
                case Err():
                    await self._refused_by_peer(frame, request)
                case PairOpened() | PairJoined() | PairMsg() | PairClose():
                    if self.mailbox:
                        self.mailbox.received(frame)
                case _:
                    pass

    async def _pump_open(self) -> None:
        while True:
            frame, size = await self._arrived.get()
            await self._control_here.wait()  # batches are judged only when the peer's control records are here too
            opened = await self._sync.open_batches(frame.b)
            if opened.unknown_devices:
                raise Offline("Batches came of a device that no control record names yet; connecting again.")
            await self._opened.put((opened, size, frame.more))

    async def _pump_apply(self) -> None:
        while True:
            opened, size, more = await self._opened.get()
            stored = await self._sync.receive(opened, source=self._peer)
            self._link.stored(size)
            await self._flush()
            for entry, head in opened.heads.items():  # what it sends it holds; of a closed log it may be any branch
                if entry not in self._sync.ends:
                    self._have[entry] = max(self._have.get(entry, 0), head.n)
                if head.n > self.state.theirs.get(entry, EMPTY_HEAD).n:
                    self.state.theirs[entry] = head
            self._in_hand -= 1
            self.state.catching_up = more or self._in_hand > 0
            self.state.received += stored.fresh
            self._sync.peers.changed()
            strays = set(stored.strays) - self._refused
            self._refused |= strays  # theirs is another branch: ask for all of it, the fork is proved then
            if stored.gaps or strays:
                await self._want_anew()

    async def _pump_out(self) -> None:
        while True:
            await self._wake_out.wait()
            self._wake_out.clear()
            missing = self._sync.control_missing_from(sorted(self._told_control))
            if missing:
                await self._put_control(missing)
            while self._link.may_send_batches:
                if self._look_at_branches():
                    await self._want_anew()
                have = {**self._have, **dict.fromkeys(self._refused, 2**62)}
                rows, self._cursor, more = await self._sync.outgoing(
                    self._cursor, have, self._flow.frame_bytes, self._flow.frame_batches
                )
                if not rows:
                    break
                for _, entry, n, _ in rows:
                    self._have[entry] = n
                self.state.sent += len(rows)
                self._link.ask(Push(b=[blob for *_, blob in rows]))
                await self._flush()
                if not more:
                    break
            self._sync.peers.changed()

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
        await self._send(Want(vv=to_entries({k: h for k, h in ours.items() if k not in self._refused})))

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_S)
            if loop.time() - self._alive_at < PING_S / 2:
                continue
            sent_at = loop.time()
            await self._send(Ping(t=self._sync.now_ms()))
            await asyncio.sleep(PING_DEADLINE_S)
            if self._alive_at < sent_at:
                raise Offline(f"{self._peer} does not answer any more.")

    async def _wait_for_end(self) -> None:
        await self._ended.wait()
        raise Offline("Connecting anew, to compare everything.")

    async def round_trip(self) -> None:
        """Returns when all that the other side had to say before it heard this has arrived; never, if it is gone."""
        waiter, number = asyncio.Event(), self._link.ask(Ping(t=self._sync.now_ms()))
        self._round_trips[number] = waiter
        try:
            await self._flush()
            await waiter.wait()
        finally:
            self._round_trips.pop(number, None)

    def wake(self) -> None:
        """There is something new to send."""
        self._wake_out.set()
        if self._mail is not None:
            self._mail.wake()

    def end(self) -> None:
        """End this conversation in order; its owner connects again."""
        self._ended.set()

    async def _refused_by_peer(self, frame: Err, request: int) -> None:
        refusal = REFUSALS.get(frame.code)
        if refusal is not None:
            raise refusal(f"{self._peer} refuses this device: {frame.msg}")
        if request == 0:
            raise RemoteClosed(f"{self._peer} closed: {frame.msg}", remote_code=frame.code, retry_ms=frame.retry)
        if request == self._pairing_request and self.mailbox:
            self.mailbox.closed(frame.msg)
            return
        await self._sync.refused(self._peer, frame.code, frame.msg)
        self.state.refusal = frame.code
        if frame.retry or frame.code in ("gap", "fork", "quota"):  # what was pushed is not there: compare anew
            raise RemoteClosed(f"{self._peer}: {frame.msg}", remote_code=frame.code, retry_ms=frame.retry or 5_000)

    # ---- control records ------------------------------------------------------------------------------------------
    async def _put_control(self, records: list[bytes]) -> None:
        for part in _parts(records):
            self._link.ask(CtlPut(recs=part))
        await self._flush()
        self._told_control.update(self._sync.control_heads())

    async def _send_control(self, records: list[bytes], request: int) -> None:
        parts = _parts(records) or [[]]
        for k, part in enumerate(parts):
            self._link.send(Ctl(recs=part, more=k + 1 < len(parts)), request=request)
        await self._flush()

    # ---- pairing --------------------------------------------------------------------------------------------------
    async def open_mailbox(self) -> RelayMailbox:
        """Open a pairing mailbox over this connection. Raises: PairingFailed: one is open already."""
        if self.mailbox and not self.mailbox.is_closed:
            raise PairingFailed("A pairing is going on already; finish or cancel it first.")
        mailbox = self.mailbox = RelayMailbox(self._send)
        try:
            self._pairing_request = self._link.ask(PairOpen())
            await self._flush()
            await mailbox.opened()
        except BaseException:
            mailbox.closed("gone")
            raise
        return mailbox

    # ---- bytes ----------------------------------------------------------------------------------------------------
    async def _receive(self) -> tuple[Frame, int]:
        data = await self._channel.receive()
        self._alive_at = asyncio.get_running_loop().time()
        self._last_size = len(data)
        self.state.bytes_in += len(data)
        frame, request = self._link.receive(data)
        self._trace("in", frame, request, f"{len(data)} B")
        if isinstance(frame, Err) and self._link.state.name == "CLOSED":
            await self._refused_by_peer(frame, 0)
        return frame, request

    async def _send(self, frame: Frame, request: int = 0) -> None:
        self._trace("out", frame, request, "")
        self._link.send(frame, request=request)
        await self._flush()

    async def _ask(self, frame: Frame) -> int:
        request = self._link.ask(frame)
        await self._flush()
        return request

    def _trace(self, direction: str, frame: Frame, request: int, size: str) -> None:
        """Debug: which frame came or went, never what is in it."""
        if trace.isEnabledFor(logging.DEBUG):
            kind, extra = type(frame).__name__, {"event": "trace.frame"}
            trace.debug("%s peer=%s %s request=%d %s", direction, self._peer, kind, request, size, extra=extra)

    async def _flush(self) -> None:
        async with self._flush_lock:  # frames leave in the order they were queued
            for data in self._link.data_to_send():
                self.state.bytes_out += len(data)
                await self._channel.send(data)


class RelayMailbox:
    """A pairing mailbox over frames; used by both sides."""

    def __init__(self, send: Callable[[Frame], Awaitable[None]]) -> None:
        self._send = send
        self._messages: asyncio.Queue[bytes | str] = asyncio.Queue(64)
        self._ready = asyncio.Event()
        self.nameplate = -1
        self.is_closed = False

    async def opened(self) -> None:
        """Wait for the nameplate. Raises: PairingFailed."""
        await self._ready.wait()
        if self.is_closed:
            await self.receive()  # raises, with the relay's reason

    def received(self, frame: Frame) -> None:
        """A frame for this mailbox arrived."""
        match frame:
            case PairOpened(np=np):
                self.nameplate = np
                self._ready.set()
            case PairMsg(m=message):
                if self._messages.full():
                    self.closed("flooded")
                else:
                    self._messages.put_nowait(message)
            case PairClose(why=why):
                self.closed(why)
            case _:
                pass

    def closed(self, why: str) -> None:
        """The mailbox is gone."""
        if not self.is_closed:
            self.is_closed = True
            self._ready.set()
            if self._messages.full():
                self._messages.get_nowait()
            self._messages.put_nowait(why)

    async def send(self, message: bytes) -> None:
        """To the other side. Raises: PairingFailed: closed."""
        if self.is_closed:
            raise PairingFailed("The pairing ended.")
        await self._send(PairMsg(m=message))

    async def receive(self) -> bytes:
        """From the other side. Raises: PairingFailed: closed, with the reason."""
        message = await self._messages.get()
        if isinstance(message, str):
            raise PairingFailed(CLOSED_BECAUSE.get(message, f"The pairing ended: {message}."), why=message)
        return message

    async def close(self, why: str) -> None:
        """Give the nameplate back."""
        if not self.is_closed:
            self.closed(why)
            await self._send(PairClose(why=why))


CLOSED_BECAUSE: Final = {
    "expired": "The code is older than ten minutes; ask for a new one.",
    "gone": "The connection to the relay broke; ask for a new code.",
    "abort": "The other device ended the pairing: wrong code, or its person said no.",
    "joined": "Somebody else used this code; ask for a new one.",
}


def _parts(records: list[bytes]) -> list[list[bytes]]:
    parts: list[list[bytes]] = []
    size = CTL_FRAME_BYTES
    for record in records:
        if size + len(record) > CTL_FRAME_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += len(record)
    return parts


def _first(errors: BaseExceptionGroup[HybridGWError]) -> HybridGWError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, HybridGWError) else BadFrame(str(found))
