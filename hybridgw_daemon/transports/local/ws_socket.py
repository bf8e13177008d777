"""One WebSocket of the local API: bytes from the HTTP server's connection become frames, frames commands and answers.

What arrives is handled in the call that brought it: no queue and no task stand between a socket and a command that
needs none. What leaves is joined: whatever a connection has to say in one turn of the event loop goes in one write,
which is worth more than any other choice made here. Not who may connect and how many: ws.py. Not the bytes of RFC 6455:
websocket.py.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol.errors import BadValue, HybridGWError, NotFound, TooMany, TooManyRequests, Unauthorized
from hybridgw_protocol.localapi import encode
from hybridgw_protocol.localapi_frames import Told
from hybridgw_protocol.token_bucket import TokenBucket

from ...services.connections import Connections, Live
from ...services.documents import NotModified
from ...services.live_sessions import Owner, Session, Sessions
from ...services.ports import Principal
from . import websocket
from .auth import Gate
from .calls import MAX_USER_AGENT, Call, Calls
from .commands import Command, require
from .live import SocketCommand

MAX_RUNNING: Final = 128  # commands of one connection under way; beyond, it is not read from
MAX_MALFORMED: Final = 10  # frames in a row that cannot be read; then the connection ends
MAX_REFUSED: Final = 100  # subscriptions over the bound, asked for all the same
STRANGER_BYTES: Final = 16 * 1024  # one frame before a token was shown
BUFFER_BYTES: Final = 256 * 1024  # written and not taken; beyond, events wait and commands too
CLOSE_GRACE_S: Final = 2.0  # for the other side to answer a close

_DONE: Final = (False, b"")
Row = Command | SocketCommand

log = logging.getLogger(__name__)
trace = logging.getLogger("trace.frame")  # enabled in debug only


class Connection(Protocol):
    """The HTTP server's connection that was upgraded."""

    socket: Socket | None
    transport: asyncio.Transport | None
    client_ip: str | None

    @property
    def writing_paused(self) -> bool:
        """More than BUFFER_BYTES are not taken by the other side."""
        ...

    def begin_socket(self, socket: Socket) -> None:
        """From now on what arrives is for this socket."""
        ...

    def pause_reading(self) -> None:
        """Take nothing from the network."""
        ...

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on."""
        ...


@dataclass(frozen=True, slots=True)
class SocketPatience:
    """How long we wait, seconds. auth: for a token; idle: for any sign of life; slow: for a reader that takes nothing;

    heartbeat: how often each side gives a sign of life; sweep: how often all this is looked at.
    """

    auth_s: float = 10.0
    idle_s: float = 300.0
    slow_s: float = 10.0
    heartbeat_s: float = 30.0
    sweep_s: float = 1.0

    def heartbeat_of(self, mode: str) -> float:
        """For connections of this mode."""
        if mode == "browser_extension":
            return min(self.heartbeat_s, frames.EXTENSION_HEARTBEAT_S)
        return self.heartbeat_s


@dataclass(slots=True)
class Common:
    """What all sockets share. rows: commands by name, with the decoder of their fields; by_owner: who is connected;
    strangers: connections that have not shown a token yet."""

    rows: dict[str, tuple[Row, msgspec.json.Decoder[Any]]]
    gate: Gate
    sessions: Sessions
    connections: Connections
    calls: Calls
    patience: SocketPatience
    by_owner: dict[Owner, Socket] = field(default_factory=dict)
    strangers: int = 0


def _scopes(principal: Principal) -> list[str]:
    """What a principal may do, for itself to know."""
    return ["owner", *principal.scopes.items()] if principal.is_owner else principal.scopes.items()


def _template(row: Row | None) -> str:
    """What a command is called in log and metrics: as over HTTP, where it has a path there."""
    return "-" if row is None else row.path if type(row) is Command else row.name


def _head(told: Told) -> bytes:
    """What all receivers of this event share: the beginning of its frame."""
    told.head = head = websocket.header(0x81, len(told.json))
    return head


class Socket:
    """One connection: a parser for the HTTP server's connection, the outlet of its session, the caller of commands."""

    __slots__ = (
        "_abort", "_auth_by", "_budget", "_closing", "_common", "_connection", "_deflated", "_heartbeat_s",
        "_is_packed", "_live", "_loop", "_malformed", "_name", "_next_heartbeat", "_now_ms", "_origin", "_out",
        "_pinged", "_pump", "_reader", "_refused", "_room", "_running", "_scheduled", "_seen", "_slow_since",
        "_transport", "ended", "principal", "session", "start",
    )  # fmt: skip

    session: Session
    _budget: TokenBucket

    def __init__(
        self, common: Common, connection: Connection, transport: asyncio.Transport, live: Live, *, origin: str | None,
        is_packed: bool, is_deflated: bool, name: str,
    ) -> None:  # fmt: skip
        """Args: name: in the log, as of a request; its frames have the same, and their number."""
        self._name = name
        self._common, self._connection, self._transport, self._live = common, connection, transport, live
        self._origin, self._is_packed, self._deflated = origin, is_packed, is_deflated
        self._loop = asyncio.get_running_loop()
        self._reader = websocket.Reader(
            self._on_traced if trace.isEnabledFor(logging.DEBUG) else self._on_message,
            self._on_control,
            max_bytes=STRANGER_BYTES,
            deflated=is_deflated,
        )
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.start: Callable[[Coroutine[Any, Any, None]], object] = lambda work: work.close()
        self.principal: Principal | None = None
        self._out: list[bytes] = []  # whole frames to write in this turn
        self._scheduled = False
        self._closing: tuple[int, str] | None = None
        self._abort: asyncio.TimerHandle | None = None
        self._running = self._malformed = self._refused = 0
        self._pump: object = None
        self._room: asyncio.Event | None = None  # for the pump: events may be queued
        now = self._loop.time()
        self._seen, self._auth_by = now, now + common.patience.auth_s
        self._now_ms = 0  # by the clock of the budgets, when the last bytes arrived
        self._heartbeat_s = common.patience.heartbeat_of(live.mode or "")
        self._next_heartbeat = now + self._heartbeat_s
        self._pinged: float | None = None
        self._slow_since: float | None = None

    # ---- bytes from the connection -----------------------------------------------------------------------------------
    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take in what arrived; as the HTTP server calls a parser."""
        self._live.received_bytes += len(data)
        self._seen, self._now_ms = self._loop.time(), self._common.calls.limits.now_ms()
        try:
            self._reader.feed(data)
            if self._connection.writing_paused:  # not sooner: nothing is written before the end of this turn
                self._hold()
        except websocket.Violation as error:
            self.close(error.code, error.reason)
        except Exception:
            log.exception("connection failed", extra={"connection": self._live.id, "event": "ws.internal"})
            self.close(frames.INTERNAL, f"an error of ours; the log has it under {self._live.id}")
        return _DONE

    def feed_eof(self) -> None:
        """The connection is lost."""
        self._finish()

    def writable(self) -> None:
        """The other side has read: go on with what waited."""
        self._slow_since = None
        if self._live.state == "slow":
            self._live.state = "open"
        if self.principal is not None and self.session.pending:
            self.wake()
        if self._room is not None:
            self._room.set()
        if self._running < MAX_RUNNING:
            self._release()

    def _hold(self) -> None:
        """Read no more until answers have left."""
        if not self._reader.held:
            self._reader.held = True
            self._connection.pause_reading()

    def _release(self) -> None:
        if self._reader.held and not self._connection.writing_paused:
            self._reader.held = False
            self.feed_data(b"")
            if not self._reader.held and self._connection.transport is not None:
                self._connection.resume_reading(resume_parser=False)

    # ---- frames ------------------------------------------------------------------------------------------------------
    def _on_message(self, opcode: int, payload: bytes | bytearray) -> None:
        if self._closing is not None:
            return
        self._live.received_messages += 1
        try:
            if (opcode == websocket.BINARY) is not self._is_packed:
                kind = "binary frames of MessagePack" if self._is_packed else "text frames of JSON"
                raise BadValue(f"This connection speaks {kind}.")
            frame = frames.decode_frame(payload, packed=self._is_packed)
        except BadValue as error:
            self._on_malformed(error)
            return
        if self.principal is None:
            self._on_first(frame)
        elif type(frame) is frames.CommandFrame:
            self._malformed = 0
            self._do(frame, None if self._is_packed else payload)
        elif type(frame) is frames.Heartbeat:
            self._send(frames.HeartbeatAck(t=self._common.connections.clock()))
            if frame.offset is not None:
                self.session.acknowledged(frame.offset)
        elif type(frame) is frames.Auth:
            self._on_auth_again(frame)

    def _on_traced(self, opcode: int, payload: bytes | bytearray) -> None:
        """In debug: note what came, by its kind, its command and its size, never by what it says."""
        try:
            frame = frames.decode_frame(payload, packed=self._is_packed)
            what = frames.kind_of(frame)
            if type(frame) is frames.CommandFrame and frame.command in self._common.rows:
                what = f"{what} {frame.command}"
        except BadValue:
            what = "malformed"
        extra = {"event": "trace.frame", "connection_id": self._live.id}
        trace.debug("in connection=%s %s %d B", self._live.id, what, len(payload), extra=extra)
        self._on_message(opcode, payload)

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == websocket.PING:
            if self._closing is None:
                self._put(websocket.control(websocket.PONG, payload))
        elif opcode == websocket.PONG:
            if self._pinged is not None and payload == struct.pack(">d", self._pinged):
                self._live.rtt_ms = round((self._seen - self._pinged) * 1000, 3)
                self._live.missed = 0
                self._pinged = None
        else:
            code, reason = websocket.close_of(payload)
            if self._closing is None:
                self.close(code, reason)
                self._closing = (code, reason[:100])
            self._finish()

    def _on_malformed(self, error: BadValue) -> None:
        if self.principal is None:
            self._refuse("bad_value", f"The first frame is `auth`. {error.message}")
            return
        self._malformed += 1
        number = error.detail.pop("id", None)
        self._fail(number if isinstance(number, int) else None, error)
        if self._malformed >= MAX_MALFORMED:
            self.close(frames.BAD_FRAMES, "too many frames that cannot be read")

    # ---- who it is ---------------------------------------------------------------------------------------------------
    def _on_first(self, frame: frames.FromClient) -> None:
        if type(frame) is not frames.Auth:
            self._refuse("unauthorized", "The first frame is `auth`, with a token.")
            return
        principal = self._holder(frame)
        if principal is not None:
            self.admit(principal, frame.resume)

    def _holder(self, frame: frames.Auth) -> Principal | None:
        """Whose token it is; None: nobody's, or there were too many: the connection ends. Counted as any call."""
        started, common = time.perf_counter(), self._common
        principal = common.gate.holder(frame.token, self._origin)
        try:
            common.calls.take(principal, self._origin, is_bad=principal is None).check()
        except TooManyRequests as error:
            self._told("auth", error.http_status, started, None, error.code, principal)
            self._send(frames.AuthError(code=error.code, message=error.message))
            self.close(frames.TOO_MANY, "too many calls")
            return None
        if principal is None:
            self._told("auth", Unauthorized.http_status, started, None, Unauthorized.code, None)
            common.calls.refused("refused.token", self._origin)
            self._refuse("unauthorized", "This token does not count.")
        else:
            self._told("auth", 200, started, None, None, principal)
        return principal

    def _on_auth_again(self, frame: frames.Auth) -> None:
        """A token instead of one that will expire. Whoever says `auth` twice otherwise has lost track: the end."""
        if not frame.renew or frame.resume is not None:
            self._refuse("unauthorized", "This connection is authenticated already; `renew` takes a fresh token.")
            return
        principal = self._holder(frame)
        if principal is None:
            return
        if self.principal is None or principal.id != self.principal.id:
            self._refuse("unauthorized", "This token does not count here.")
        else:
            self.principal = principal
            self._greet(self._common.sessions.counter.offset, recovered=True)

    def _refuse(self, code: str, message: str) -> None:
        self._send(frames.AuthError(code=code, message=message))
        self.close(frames.UNAUTHORIZED, "unauthorized")

    def admit(self, principal: Principal, resume: frames.Resume | None) -> None:
        """It has shown who it is: from now on it may ask."""
        live, common = self._live, self._common
        owner = Owner(principal.id, live.mode or "", live.client_id or "")
        session, recovered = common.sessions.begin(owner, resume)
        before = common.by_owner.get(owner)
        if before is not None:
            before.close(frames.REPLACED, "the same program has connected again")
        common.by_owner[owner] = self
        self.principal, self.session = principal, session
        self._budget = common.calls.limits.bucket(principal)
        live.principal_id, live.state = principal.id, "open"
        common.strangers -= 1
        self._reader.max_bytes = frames.MAX_FRAME_BYTES
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        session.outlet = self
        session.scheduled = False
        start = resume.offset if recovered and resume is not None else session.kept_after
        self._greet(start, recovered=recovered)
        if recovered:
            self._out.append(self._framed(session.resume(start)))
            if session.live:
                self.follow()

    def _greet(self, offset: int, *, recovered: bool) -> None:
        assert self.principal is not None  # noqa: S101 - set by both callers
        self._send(
            frames.AuthOk(
                connection=self._live.id, session=self.session.id, epoch=self._common.sessions.epoch, offset=offset,
                recovered=recovered, scopes=_scopes(self.principal), heartbeat_s=self._heartbeat_s,
                mode=self._live.mode or "", expires_ms=self.principal.expires_ms,
            )
        )  # fmt: skip

    # ---- commands ----------------------------------------------------------------------------------------------------
    def _do(self, frame: frames.CommandFrame, raw: bytes | bytearray | None) -> None:
        number, started, common = frame.id, time.perf_counter(), self._common
        row: Row | None = None
        try:
            found = common.rows.get(frame.command)
            row = found[0] if found is not None else None
            cost = row.cost if type(row) is SocketCommand else 1
            if self._budget.take(cost, self._now_ms):
                common.calls.take(self.principal, self._origin, cost=cost).check()
            if found is None:
                raise NotFound("There is no such command.", field="command")
            row, decoder = found
            command = frames.params_of(frame, decoder, raw)
            require(self.principal, row, command)
            if type(row) is SocketCommand and not row.takes_time:
                result = row.handler(self, command)
                self._refused = 0
                if row.answer is not None:
                    self._begun()
                    result.add_done_callback(partial(self._done, row, self.principal, number, started))
                    return
                if not row.is_quiet:
                    self._told(row.name, 200, started, number, None, self.principal)
                if number is not None:
                    self._answer(number, result)
                return
        except HybridGWError as error:
            self._told(_template(row), error.http_status, started, number, error.code, self.principal)
            if isinstance(error, TooMany | TooManyRequests):
                self._refused += 1
            self._fail(number, error)
            if self._refused >= MAX_REFUSED:
                self.close(frames.TOO_MANY, "asks on and on for more than it may")
            return
        self._refused = 0
        self._begun()
        self.start(self._perform(row, command, number, started))

    def _begun(self) -> None:
        self._running += 1
        if self._running >= MAX_RUNNING:
            self._hold()

    def _ended(self) -> None:
        self._running -= 1
        if self._running < MAX_RUNNING:
            self._release()

    def _done(
        self, row: SocketCommand, principal: Principal | None, number: int | None, started: float,
        future: asyncio.Future[Any],
    ) -> None:  # fmt: skip
        """What a handler has promised is there."""
        assert row.answer is not None  # noqa: S101 - looked at before
        error = None if future.cancelled() else future.exception()
        if isinstance(error, HybridGWError):
            self._told(row.name, error.http_status, started, number, error.code, principal)
            self._fail(number, error)
        elif error is not None or future.cancelled():
            log.error("command failed", exc_info=error, extra={"connection": self._live.id, "event": "ws.internal"})
            self._told(row.name, 500, started, number, HybridGWError.code, principal)
            self._fail(number, HybridGWError(f"An error of ours. The log has it under {self._live.id}."))
        else:
            if not row.is_quiet:
                self._told(row.name, row.status, started, number, None, principal)
            if number is not None:
                self._answer(number, row.answer(future.result()))
        self._ended()

    async def _perform(self, row: Row, command: Any, number: int | None, started: float) -> None:
        principal, status, code = self.principal, row.status, None
        try:
            assert row.handler is not None  # noqa: S101 - the common has no other rows
            result = await row.handler(self if type(row) is SocketCommand else principal, command)
            if number is not None:
                self._answer(number, result)
        except NotModified as same:
            status = 304
            if number is not None:
                self._answer(number, {"version": same.version, "unchanged": True})
        except HybridGWError as error:
            status, code = error.http_status, error.code
            self._fail(number, error)
        except asyncio.CancelledError:
            status, code = 499, "connection_lost"
            raise
        except Exception:
            status, code = 500, HybridGWError.code
            log.exception("command failed", extra={"connection": self._live.id, "event": "ws.internal"})
            self._fail(number, HybridGWError(f"An error of ours. The log has it under {self._live.id}."))
        finally:
            if code is not None or type(row) is Command or not row.is_quiet:  # type: ignore[union-attr]
                self._told(_template(row), status, started, number, code, principal)
            self._ended()

    def _told(
        self, template: str, status: int, started: float, number: int | None, code: str | None,
        principal: Principal | None,
    ) -> None:  # fmt: skip
        """The line of one frame in the log, and its place in the metrics."""
        live, took_ms = self._live, (time.perf_counter() - started) * 1000
        name = self._name if number is None else f"{self._name}.{number}"
        self._common.calls.told(
            Call("WS", template, status, took_ms, name, code, principal and principal.id, self._connection.client_ip,
                 live.user_agent[:MAX_USER_AGENT] or None, live.id, live.mode)
        )  # fmt: skip

    def _answer(self, number: int, result: object) -> None:
        raw = b'{"type":"result","id":%d,"result":%b}' % (number, encode(result))
        self._put(self._frame(raw))

    def _fail(self, number: int | None, error: HybridGWError) -> None:
        detail = dict(error.detail)
        field = detail.pop("field", msgspec.UNSET)
        detail.pop("close", None)
        frame = frames.ErrorFrame(
            id=number, code=error.code, message=error.message, retryable=error.retryable,
            field=field if isinstance(field, str) else msgspec.UNSET, detail=detail or msgspec.UNSET,
        )  # fmt: skip
        try:
            self._send(frame)
        except (TypeError, msgspec.EncodeError):  # a detail that is no JSON is left out
            frame.detail = msgspec.UNSET
            self._send(frame)

    # ---- events ------------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """There is something to write: once, at the end of this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def take_over(self) -> None:
        """The session goes on elsewhere."""
        self.close(frames.REPLACED, "the session goes on at another connection")

    def follow(self) -> None:
        """Fetch the events of live queries, by a task that is there once there is one."""
        if self._pump is None and self.session.stirred is not None:
            self._room = asyncio.Event()
            self._pump = self.start(self._fetch(self.session, self.session.stirred, self._room))
        elif self.session.stirred is not None:
            self.session.stirred.set()

    async def _fetch(self, session: Session, stirred: asyncio.Event, room: asyncio.Event) -> None:
        stirred.set()
        try:
            while True:
                await stirred.wait()
                stirred.clear()
                for sub, query in list(session.live.items()):
                    while True:
                        while self._connection.writing_paused:  # before a part is taken: what is taken is delivered
                            room.clear()
                            await room.wait()
                        part = await query.part()
                        if session.live.get(sub) is not query:
                            break
                        for body in part:
                            session.deliver(sub, body)
                        if not part:
                            break
                        await asyncio.sleep(0)  # what was queued is written; others get their turn
        except HybridGWError as error:
            log.warning("live queries end: %s", error.message, extra={"connection": self._live.id, "event": "ws.live"})
            self._common.sessions.end(session)
            self.close(frames.INTERNAL, "live queries cannot go on; connect again")

    def _framed(self, events: list[Told]) -> bytes:
        """Whole frames."""
        self._live.sent_messages += len(events)
        if self._is_packed:
            return b"".join([self._whole(told.packed) for told in events])
        if self._deflated:
            return b"".join([self._whole(told.json) for told in events])
        return b"".join([part for told in events for part in (told.head or _head(told), told.json)])

    # ---- bytes to the connection -------------------------------------------------------------------------------------
    def _send(self, frame: frames.ServerFrame) -> None:
        self._put(self._frame(encode(frame)))

    def _frame(self, raw: bytes) -> bytes:
        """A whole frame out of JSON."""
        self._live.sent_messages += 1
        if self._is_packed:
            raw = msgspec.msgpack.encode(msgspec.json.decode(raw))
        return self._whole(raw)

    def _whole(self, raw: bytes) -> bytes:
        first = 0x82 if self._is_packed else 0x81
        if self._deflated and len(raw) >= websocket.DEFLATE_BYTES:
            raw, first = websocket.deflated(raw), first | 0x40
        return websocket.header(first, len(raw)) + raw

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        out = self._out
        if self.principal is not None and self._closing is None and self.session.pending:
            if not self._connection.writing_paused:
                taken = self.session.take()
                raw = self._framed(taken)
                self.session.keep(taken, len(raw))
                out.append(raw)
            else:
                self.session.scheduled = False
                if self.session.is_overfull():
                    self._cut()
                    return
        if not out:
            return
        data = b"".join(out)
        out.clear()
        self._live.sent_bytes += len(data)
        if not self._transport.is_closing():
            self._transport.write(data)
            if self._slow_since is None and self._connection.writing_paused:
                self._slow_since = self._loop.time()
                self._live.state = "slow"

    def _cut(self) -> None:
        """A reader that is too slow. Its session waits; the offset is that of the last event that was written."""
        session = self.session
        log.info("a slow reader is cut off", extra={"connection": self._live.id, "event": "ws.slow"})
        place = f'{{"session":"{session.id}","epoch":"{self._common.sessions.epoch}","offset":{session.written}}}'
        self.close(frames.TOO_MANY, place)

    # ---- time --------------------------------------------------------------------------------------------------------
    def look(self, now: float, now_ms: int) -> None:
        """Is it time for something."""
        patience = self._common.patience
        if self._closing is not None:
            return
        principal = self.principal
        if principal is None:
            if now >= self._auth_by:
                self._send(frames.AuthError(code="unauthorized", message="No token came in time."))
                self.close(frames.TIMED_OUT, "no auth in time")
            return
        if principal.expires_ms is not None and now_ms >= principal.expires_ms:
            self._send(frames.AuthError(code="unauthorized", message="The token has expired."))
            self.close(frames.UNAUTHORIZED, "the token has expired")
        elif now - self._seen >= patience.idle_s:
            self.close(frames.TIMED_OUT, "silent for too long")
        elif self._slow_since is not None and now - self._slow_since >= patience.slow_s:
            self._cut()
        elif now >= self._next_heartbeat:
            self._next_heartbeat = now + self._heartbeat_s
            if self._pinged is not None:
                self._live.missed += 1
            self._live.last_ms = now_ms - int((now - self._seen) * 1000)
            if not self._connection.writing_paused:
                self._pinged = now
                if now - self._seen >= self._heartbeat_s:
                    self._send(frames.HeartbeatAsk(t=now_ms))
                self._put(websocket.control(websocket.PING, struct.pack(">d", now)))

    # ---- the end -----------------------------------------------------------------------------------------------------
    def close(self, code: int, reason: str) -> None:
        """Say why, and end; the other side has CLOSE_GRACE_S to answer. Idempotent."""
        if self._closing is not None:
            return
        self._closing = (code, reason)
        self._live.state = "closing"
        self._reader.held = False
        self._out.append(websocket.close_frame(code, reason))
        self._flush()
        self._leave_session(code)
        if self._connection.transport is not None:
            self._connection.resume_reading(resume_parser=False)  # for its answer
        self._abort = self._loop.call_later(CLOSE_GRACE_S, self._give_up)

    def _leave_session(self, code: int) -> None:
        """What may come back is kept; what is over is not."""
        if self.principal is None:
            return
        owner = self.session.owner
        if self._common.by_owner.get(owner) is self:
            del self._common.by_owner[owner]
        if self.session.outlet is not self:
            return
        if code in (frames.NORMAL, frames.FORBIDDEN, frames.BAD_FRAMES, frames.REPLACED):
            self._common.sessions.end(self.session)
        else:
            self._common.sessions.detach(self.session)

    def _give_up(self) -> None:
        self._transport.abort()
        self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def gone(self) -> None:
        """It has ended, however."""
        if self._abort is not None:
            self._abort.cancel()
        code, reason = self._closing or (1006, "the connection broke")
        self._closing = (code, reason)
        self._leave_session(code)
        if self.principal is None:
            self._common.strangers -= 1
        self._common.connections.close(self._live, code, reason[:200])
        self._connection.socket = None
        # What leads in a circle back to here is let go, so that all of it is freed now, and not some time later.
        self._reader.end()
        self._pump = None
