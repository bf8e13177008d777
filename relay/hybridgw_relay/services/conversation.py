"""One device's conversation with the relay, from challenge to close, without sockets.

    -> challenge        our nonce                           every connection starts so
    <- auth             key proof, vector, control heads    or pair_join: a new device, which may only pair
    -> ctl_get          only if it has records that are not here (a new space: all of them)
    <- ctl ...
    -> welcome          what is stored                      from here both directions are independent:
    <- push  -> push_ack (durable), err                     -> batches: one stream in the order of arrival
    <- want             start the stream anew               <-> ctl, credit, ping, pairing

`Conversation` drives a `Link` and hands the work to the services. Source: protocol/SPEC.md, "Link", "Relay".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hybridgw_protocol.auth import verify_auth
from hybridgw_protocol.errors import (
    AuthFailed,
    BadFrame,
    Busy,
    HybridGWError,
    NotAdmitted,
    PairingFailed,
    RateLimited,
    RemoteClosed,
    RemoteError,
    Revoked,
    StateError,
)
from hybridgw_protocol.frames import (
    Auth,
    Challenge,
    Credit,
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Dir,
    DirGet,
    Err,
    Frame,
    LetterDone,
    LetterFrame,
    LetterPut,
    Msg,
    MsgDone,
    MsgPut,
    PairClose,
    PairJoin,
    PairMsg,
    PairOpen,
    Ping,
    Pong,
    Push,
    PushAck,
    Want,
    Welcome,
    encode_frame,
)
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.limits import AUTH_TIMEOUT_S, PAIRING_TTL_MS, PING_DEADLINE_S, PING_S, PROTOCOL_VERSION
from hybridgw_protocol.link import DEFAULT_FLOW, Flow, Link, Role, State
from hybridgw_protocol.vectors import from_entries, to_entries

from ..core.quotas import DeviceRate, DeviceRates
from ..stores.base import Appended, RelayStore
from .admission import AdmissionService, Candidate
from .batches import DISK_RETRY_MS, BatchService
from .batches import Push as QueuedPush
from .gate import PER_DEVICE, Gate
from .host import Host
from .mail import MailService, MailStream
from .mailboxes import Mailboxes
from .people import LetterStream, PeopleService
from .ports import Outlet
from .spaces import REMOVED, Space, Spaces
from .stream import Stream

log = logging.getLogger(__name__)

CTL_FRAME_BYTES: Final = 256 * 1024
OUTSTANDING_PUSHES: Final = 256  # of one connection, not answered yet; above, its socket is not read
UPLOAD_MS: Final = 60_000  # for the control records of a new space, on a slow line
PAIRING_MS: Final = PAIRING_TTL_MS + 60_000  # a joined connection may live a little longer than a code
CLOSED_RETRY_MS: Final = 1_000
ROOT_MAY_SEND: Final = (CtlGet, CtlAck, Credit, Ping, Pong, Err)


@dataclass(frozen=True, slots=True)
class Services:
    """What every conversation shares.

    heartbeat_s: silence after which a ping is sent; idle_s: how long a connection may ask for nothing, if it does not
    wait for new batches either.
    """

    host: Host
    store: RelayStore
    spaces: Spaces
    admission: AdmissionService
    batches: BatchService
    mailboxes: Mailboxes
    gate: Gate
    rates: DeviceRates
    endpoints: Callable[[], frozenset[str]]
    heartbeat_s: float = PING_S
    idle_s: float = 300.0
    flow: Flow = DEFAULT_FLOW

    @property
    def mail(self) -> MailService:
        """Messages between devices; it keeps nothing in memory."""
        return MailService(self.store, self.spaces.fanout, self.host)

    @property
    def people(self) -> PeopleService:
        """Letters between people, and the directory."""
        return PeopleService(self.store, self.spaces, self.host, self.rates.people)


class Conversation:
    """One connection. `begin`, then `receive` for every message in order, beside `run`; `ended` at the end."""

    def __init__(self, services: Services, outlet: Outlet, *, address: str, own_endpoint: str = "") -> None:
        """Args: address: the other side's, for limits; own_endpoint: "host:…" of the local address it connected to.

        Raises: Busy, RateLimited: too many connections; nothing was counted.
        """
        services.gate.enter(address)
        self._s, self._outlet, self._address = services, outlet, address
        self._endpoints = services.endpoints() | {own_endpoint} if own_endpoint else services.endpoints()
        self._link = Link(Role.SERVER, credit_bytes=services.flow.credit_bytes)
        self.id = services.host.entropy(6).hex()
        self.device = DeviceId(b"")
        self._space: Space | None = None
        self._stream: Stream | None = None
        self._mail: MailStream | None = None
        self._letters: LetterStream | None = None
        self._rate: DeviceRate | None = None
        self._candidate: Candidate | None = None
        self._challenge = Challenge(
            v=(PROTOCOL_VERSION, PROTOCOL_VERSION), ns=services.host.entropy(32), role="relay",
            t=services.host.wall_ms(),
        )  # fmt: skip
        self._is_admitted = asyncio.Event()
        self._is_over = False
        self._is_live = False
        self._is_root = False
        self._outstanding = 0
        self._answered = asyncio.Event()
        self._heard_ms = self._asked_ms = services.host.steady_ms()
        self._pinged_ms = 0
        self._deadline_ms = self._heard_ms + int(AUTH_TIMEOUT_S * 1000)
        self._stored_batches = 0

    # ---- what the carrier calls -----------------------------------------------------------------------------------
    def begin(self) -> None:
        """Speak first."""
        self._link.send(self._challenge)
        self._flush()

    def works(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the reading, each as a task of its own, until cancelled."""
        return self._send_batches(), self._send_messages(), self._forget_messages()

    async def _send_batches(self) -> None:
        await self._is_admitted.wait()
        if self._stream is not None:  # root gets none
            await self._stream.run()

    async def _send_messages(self) -> None:
        await self._is_admitted.wait()
        if self._mail is not None:
            await self._mail.run()

    async def _forget_messages(self) -> None:
        await self._is_admitted.wait()
        if self._mail is not None:
            await self._mail.forget()

    async def receive(self, data: bytes) -> None:
        """One message. Whatever is wrong with it is told to the other side; nothing is raised."""
        if self._is_over:
            return
        self._heard_ms = self._s.host.steady_ms()
        try:
            frame, request = self._link.receive(data)
            if not isinstance(frame, Ping | Pong):
                self._asked_ms = self._heard_ms
            await self._handle(frame, request, len(data))
        except HybridGWError as error:
            self.fail(error)
        if not self._is_over:
            self._flush()

    def fail(self, error: HybridGWError) -> None:
        """End the connection and say why; the first reason counts."""
        if self._is_over:
            return
        self._is_over = True
        if not self._is_admitted.is_set() and isinstance(error, RemoteError) and not isinstance(error, PairingFailed):
            self._s.gate.failed(self._address)
        log.info("closing connection=%s code=%s: %s", self.id, error.code, error.message)
        # Not through the link: after a violation it sends nothing any more.
        self._outlet.send([*self._link.data_to_send(), encode_frame(_err_of(error))])
        self._outlet.close(error.code)

    def ended(self) -> None:
        """The connection is gone. Idempotent."""
        self._is_over = True
        if self._outlet is _GONE:
            return
        self._outlet = _GONE
        self._s.mailboxes.leave(self, "gone")
        if self._space is not None:
            self._s.spaces.leave(self._space, self)
            if not self._is_root:
                self._s.spaces.saw(self._space, self.device)
            log.info(
                "disconnected connection=%s space=%s device=%s in=%d out=%d stored=%d sent=%d",
                self.id, self._space.id.hex(), self.device.hex(), self._link.bytes_in, self._link.bytes_out,
                self._stored_batches, self._stream.sent_batches if self._stream else 0,
            )  # fmt: skip
        self._s.gate.leave(self._address, admitted=self._is_admitted.is_set())
        self._stream = self._mail = self._letters = None
        self._space = self._candidate = None  # no cycles: the space may go now

    def tick(self) -> None:
        """Once a second: time is over, or a ping is due."""
        now_ms = self._s.host.steady_ms()
        if self._is_over:
            return
        if not self._is_admitted.is_set():
            if now_ms > self._deadline_ms:
                self.fail(AuthFailed("The connection did not authenticate in time."))
            return
        silent_ms = now_ms - self._heard_ms
        if silent_ms < self._s.heartbeat_s * 1000:
            self._pinged_ms = 0
        elif not self._pinged_ms:
            self._pinged_ms = now_ms
            with self._own_fault():
                self._link.send(Ping(t=self._s.host.wall_ms()))
                self._flush()
        elif now_ms - self._pinged_ms > PING_DEADLINE_S * 1000:
            self.fail(RemoteClosed("The device does not answer any more."))
        if not self._is_live and now_ms - self._asked_ms > self._s.idle_s * 1000 and not self._s.mailboxes.has(self):
            self.fail(RemoteClosed("Nothing was asked for a long time."))

    # ---- what other connections cause -----------------------------------------------------------------------------
    def wake(self) -> None:
        """There are new batches in the space."""
        if self._stream is not None and not self._is_over:
            with self._own_fault():
                self._stream.wake()

    def took_back(self, log: LogId, n: int) -> None:
        """Of this log above a batch it has nothing of what is stored now."""
        if self._stream is not None and not self._is_over:
            self._stream.took_back(log, n)

    def wake_mail(self) -> None:
        """There may be new messages for this device."""
        if self._mail is not None and not self._is_over:
            self._mail.wake()

    def wake_letters(self) -> None:
        """There may be new ones of other people."""
        if self._letters is not None and not self._is_over:
            self._letters.wake()

    def pass_on(self, frame: Msg) -> None:
        """What another device has to say just now; a reader that is slow misses it."""
        if not self._outlet.is_congested:
            self._send_mail(frame)

    def tell_control(self, records: Sequence[bytes]) -> None:
        """There are new control records in the space."""
        if self._link.state is State.READY and not self._is_over and records:
            with self._own_fault():
                self._send_control(records, 0)
                self._flush()

    def deliver(self, frame: Frame) -> None:
        """A frame of a pairing mailbox."""
        if self._is_over or self._link.state in (State.CLOSED, State.AUTHENTICATING):
            return
        with self._own_fault():
            self._link.send(frame)
            self._flush()
            self._close_if_done()

    @contextlib.contextmanager
    def _own_fault(self) -> Iterator[None]:
        """What goes wrong here while another connection's work is done ends this connection, not that one."""
        try:
            yield
        except HybridGWError as error:
            self.fail(error)

    def _close_if_done(self) -> None:
        if self._link.state is State.CLOSED:
            self._is_over = True
            self._outlet.close("done")

    # ---- frames ---------------------------------------------------------------------------------------------------
    async def _handle(self, frame: Frame, request: int, size_bytes: int) -> None:
        if self._is_root and not isinstance(frame, ROOT_MAY_SEND):
            raise NotAdmitted("The recovery words may read the control records here, and nothing else.")
        match frame:
            case Push():
                await self._push(frame, request, size_bytes)
            case Credit():
                if self._stream is not None:
                    self._stream.credit()
            case Ping(t=t):
                self._link.send(Pong(t=t), request=request)
            case Pong() | PushAck() | CtlAck():
                pass
            case Auth():
                await self._authenticate(frame)
            case Ctl() if self._candidate is not None:
                self._candidate.take(frame.recs)
                if not frame.more:
                    await self._admit(self._candidate)
            case Want():
                if self._stream is not None:
                    self._stream.restart(from_entries(frame.vv))
            case CtlGet():
                self._send_control(await self._ready_space().missing_from(frame.heads), request)
            case CtlPut() | Ctl():
                await self._put_control(frame, request)
            case MsgPut():
                await self._put_mail(frame, request)
            case MsgDone(ids=keys):
                self._ready_space()
                if self._mail is not None:
                    self._mail.done(keys)
            case LetterPut():
                await self._put_letters(frame, request)
            case LetterDone(ids=keys):
                await self._done_letters(keys)
            case DirGet():
                await self._look_up(frame, request)
            case PairOpen():
                self._open_mailbox(request)
            case PairJoin(np=np):
                self._deadline_ms = self._s.host.steady_ms() + PAIRING_MS
                self._s.mailboxes.join(self, np, self._address)
            case PairMsg():
                self._s.mailboxes.message(self, frame)
            case PairClose(why=why):
                self._s.mailboxes.leave(self, why[:32])
                self._close_if_done()
            case Err():
                self._close_if_done()
            case _:
                raise BadFrame(f"A relay takes no {frame.type.name.lower()} frame.")

    async def _authenticate(self, auth: Auth) -> None:
        from_entries(auth.vv)  # refuse a bad vector before anything is looked up
        device = verify_auth(self._challenge, auth, self._endpoints)
        candidate, needs_records = await self._s.admission.begin(auth, device)
        if needs_records:
            self._candidate = candidate
            self._deadline_ms = self._s.host.steady_ms() + UPLOAD_MS
            self._link.send(CtlGet(heads=candidate.known_heads))
        else:
            await self._admit(candidate)

    async def _admit(self, candidate: Candidate) -> None:
        self._candidate = None
        space = await self._s.admission.finish(candidate)
        if self._is_over:
            return
        if candidate.is_root:
            self._admit_root(candidate, space)
            return
        self.device, self._space = candidate.device, space
        self._rate = self._s.rates.of(candidate.device)
        self._s.spaces.join(space, self)
        self._s.spaces.saw(space, self.device)
        self._give_way_to_this(space)
        heads, quota = await self._s.store.heads(space.sid), await self._s.admission.quota(space)
        if self._is_over:
            return
        self._s.gate.admitted(self._address)
        self._link.send(
            Welcome(sid=self.id, t=self._s.host.wall_ms(), vv=to_entries(heads), ctl=space.heads, quota=quota)
        )
        self._stream = Stream(
            self._link, self._outlet, space, self._s.store, self._flush, live=candidate.auth.sub, flow=self._s.flow
        )
        self._stream.restart(from_entries(candidate.auth.vv))
        self._mail = MailStream(self._s.store, space, self.device, self._send_mail)
        self._letters = LetterStream(self._s.store, space, self.device, self._send_letters)
        self._letters.wake()
        self._is_admitted.set()
        self._is_live = candidate.auth.sub
        log.info(
            "connected connection=%s space=%s device=%s address=%s",
            self.id, space.id.hex(), self.device.hex(), self._address,
        )  # fmt: skip

    def _admit_root(self, candidate: Candidate, space: Space) -> None:
        """Root is no device: it is told of nothing, and only what it asks for is answered."""
        self.device, self._space, self._is_root = candidate.device, space, True
        self._s.gate.admitted(self._address)
        self._is_admitted.set()
        self._link.send(Welcome(sid=self.id, t=self._s.host.wall_ms(), vv=[], ctl=space.heads))
        log.info("root reads connection=%s space=%s address=%s", self.id, space.id.hex(), self._address)

    def _give_way_to_this(self, space: Space) -> None:
        mine = [member for member in space.members if member.device == self.device]
        for member in mine[:-PER_DEVICE]:
            member.fail(RemoteClosed("Newer connections of this device took its place."))

    def _ready_space(self) -> Space:
        if self._space is None:
            raise BadFrame("This needs a device that was let in.")
        return self._space

    # ---- batches --------------------------------------------------------------------------------------------------
    async def _push(self, push: Push, request: int, size_bytes: int) -> None:
        space = self._ready_space()
        if not space.is_active(self.device):
            raise Revoked(REMOVED)
        assert self._rate is not None  # noqa: S101 - set with the space
        wait_ms = self._rate.push(size_bytes, self._s.host.steady_ms())
        if wait_ms:
            self._link.stored(size_bytes)
            self._refuse(RateLimited("Pushes come too fast. Pack more batches into each.", retry_ms=wait_ms), request)
            return
        self._outstanding += 1
        await self._s.batches.submit(
            QueuedPush(space, self.device, push.b, size_bytes, partial(self._answer_push, request, size_bytes))
        )
        while self._outstanding >= OUTSTANDING_PUSHES and not self._is_over:
            self._answered.clear()
            await self._answered.wait()

    def _answer_push(self, request: int, size_bytes: int, result: Appended) -> None:
        self._outstanding -= 1
        self._answered.set()
        self._stored_batches += len(result.stored)
        if self._is_over or self._stream is None:
            return
        with self._own_fault():
            self._stream.pushed(result.stored)
            if result.error is None or result.heads:
                self._link.send(PushAck(vv=to_entries(result.heads)), request=request)
            self._link.stored(size_bytes)
            if result.error is not None:
                self._refuse(result.error, request)
            if not self._is_over:
                self._flush()

    # ---- control records ------------------------------------------------------------------------------------------
    async def _put_control(self, frame: CtlPut | Ctl, request: int) -> None:
        space = self._ready_space()
        if not space.is_active(self.device):
            raise Revoked(REMOVED)
        assert self._rate is not None  # noqa: S101 - set with the space
        wait_ms = self._rate.records(len(frame.recs), self._s.host.steady_ms())
        if wait_ms:
            self._refuse(RateLimited("Control records come too fast.", retry_ms=wait_ms), request)
            return
        error = await space.add_control(frame.recs, source=self)
        if self._is_over:
            return
        if isinstance(frame, CtlPut):
            self._link.send(CtlAck(heads=space.heads), request=request)
        if error is not None:
            self._refuse(error, request)

    def _send_control(self, records: Sequence[bytes], request: int) -> None:
        parts = list(split_records(records))
        for index, part in enumerate(parts):
            self._link.send(Ctl(recs=part, more=index + 1 < len(parts)), request=request)

    # ---- messages -------------------------------------------------------------------------------------------------
    async def _put_mail(self, frame: MsgPut, request: int) -> None:
        space = self._ready_space()
        if not space.is_active(self.device):
            raise Revoked(REMOVED)
        assert self._rate is not None  # noqa: S101 - set with the space
        wait_ms = self._rate.messages(len(frame.m) + len(frame.x), self._s.host.steady_ms())
        if wait_ms:
            self._refuse(RateLimited("Messages come too fast.", retry_ms=wait_ms), request)
            return
        answer = await self._s.mail.put(space, self.device, frame)
        if not self._is_over:
            self._link.send(answer, request=request)

    def _send_mail(self, frame: Msg) -> None:
        if not self._is_over and self._space is not None and self._space.is_active(self.device):
            with self._own_fault():
                self._link.send(frame)
                self._flush()

    # ---- people ---------------------------------------------------------------------------------------------------
    async def _put_letters(self, frame: LetterPut, request: int) -> None:
        space = self._ready_space()
        if not space.is_active(self.device):
            raise Revoked(REMOVED)
        answer = await self._s.people.put(space, self.device, frame)
        if not self._is_over:
            self._link.send(answer, request=request)

    async def _done_letters(self, keys: Sequence[bytes]) -> None:
        await self._s.people.done(self._ready_space(), self.device, keys)
        if self._letters is not None:
            self._letters.done(keys)

    async def _look_up(self, frame: DirGet, request: int) -> None:
        try:
            records = await self._s.people.look_up(self._ready_space(), frame)
        except RateLimited as error:
            self._refuse(error, request)
            return
        if not self._is_over:
            parts = list(split_records(records))
            for index, part in enumerate(parts):
                self._link.send(Dir(recs=part, more=index + 1 < len(parts)), request=request)

    def _send_letters(self, frame: LetterFrame) -> None:
        if not self._is_over and self._space is not None and self._space.is_active(self.device):
            with self._own_fault():
                self._link.send(frame)
                self._flush()

    # ---- small things ---------------------------------------------------------------------------------------------
    def _open_mailbox(self, request: int) -> None:
        try:
            self._link.send(self._s.mailboxes.open_(self, self._ready_space().id), request=request)
        except (RateLimited, Busy) as error:
            if request:
                self._refuse(error, request)
            else:  # an error frame without a request would end the whole connection
                self._link.send(PairClose(why=error.code))

    def _refuse(self, error: HybridGWError, request: int) -> None:
        """Answer a request with an error; one that carries no id cannot be answered but by closing."""
        if not request:
            self.fail(error)
        elif not self._is_over:
            self._link.send(_err_of(error), request=request)

    def _flush(self) -> None:
        frames = self._link.data_to_send()
        if frames:
            self._outlet.send(frames)


def split_records(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Records in frames of a bounded size; at least one, perhaps empty."""
    part: list[bytes] = []
    size = 0
    for record in records:
        if part and size + len(record) > CTL_FRAME_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record)
    yield part


def _err_of(error: HybridGWError) -> Err:
    if isinstance(error, StateError):  # our disk, our database: nothing of the other side's business
        return Err(code=Busy.code, msg="The relay cannot store anything now.", retry=DISK_RETRY_MS)
    retry = error.detail.get("retry_ms")
    default = CLOSED_RETRY_MS if error.retryable else 0
    return Err(code=error.code, msg=error.message[:500], retry=retry if isinstance(retry, int) else default)


class _Gone:
    """The outlet of a connection that has ended."""

    is_congested = False

    def send(self, frames: Sequence[bytes]) -> None:
        """Nobody listens."""

    async def drained(self) -> None:
        """Nothing waits."""

    def close(self, reason: str) -> None:
        """It is closed."""


_GONE: Final = _Gone()
