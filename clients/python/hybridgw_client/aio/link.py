"""One WebSocket from its opening to its end: auth, commands and their answers, events, signs of life."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol.errors import (
    BadFrame,
    BadValue,
    Forbidden,
    HybridGWError,
    Misdirected,
    NotRunning,
    StateError,
    TooBig,
    TooManyRequests,
    Unauthorized,
)
from hybridgw_protocol.runtime import VERSION

from ..problems import error_of

MAX_WAITING: Final = 100  # commands under way; at 128 the daemon stops reading
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
_BEAT: Final = 0.7  # of what the daemon asks for, so that a late one is still in time
_KNOWN: Final = frozenset({"auth_ok", "auth_error", "result", "error", "event", "heartbeat", "heartbeat_ack"})
_LOST: Final = frozenset({aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long we wait, seconds. open: for a connection and the answer to `auth`; command: for an answer, and for the

    connection to come back; heartbeat: between two signs of life, less if the daemon asks for it; deadline: for any
    traffic after one, else the connection is given up; first, cap: bounds of the wait before connecting again.
    """

    open_s: float = 15.0
    command_s: float = 30.0
    heartbeat_s: float = 20.0
    deadline_s: float = 8.0
    first_s: float = 0.25
    cap_s: float = 10.0


class Lost(Exception):
    """The connection ended before the answer. sent: the daemon may have done it."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the connection ended")
        self.sent = sent


class Ended(Exception):
    """How a connection ended. code: of the close, 1006 if there was none; refusal: what the daemon said about it."""

    def __init__(self, code: int, reason: str, refusal: HybridGWError | None = None) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason, self.refusal = code, reason, refusal


@dataclass(slots=True)
class _Asked:
    answer: asyncio.Future[Any]
    then: Callable[[Any], None] | None
    is_sent: bool = False


class Link:
    """An authenticated connection. `Link.open` makes it, `run` is its life.

    hello: what the daemon said; offset: of the last event that arrived.
    """

    def __init__(
        self, ws: aiohttp.ClientWebSocketResponse, hello: frames.AuthOk, patience: Patience,
        on_event: Callable[[frames.EventFrame], None], is_full: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Args: on_event: called before any later frame is looked at; is_full: nobody takes what has arrived."""
        self.hello = hello
        self.offset = hello.offset
        self.ended = False
        self._ws, self._patience, self._on_event, self._is_full = ws, patience, on_event, is_full
        self._waiting: dict[int, _Asked] = {}
        self._number = 0
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._stir = asyncio.Event()  # reading may go on
        self._is_paused = False
        self._alive = asyncio.Event()

    @classmethod
    async def open(
        cls, session: aiohttp.ClientSession, url: str, token: str, resume: frames.Resume | None, *,
        origin: str | None, patience: Patience, on_event: Callable[[frames.EventFrame], None],
        is_full: Callable[[], bool],
    ) -> Link:  # fmt: skip
        """Connect and show the token. Args: url: ws://…; resume: the session to go on with.

        Raises: NotRunning: nobody listens, or does not answer; Unauthorized, Forbidden, Misdirected; Ended.
        """
        try:
            async with asyncio.timeout(patience.open_s):
                ws = await session.ws_connect(
                    url, protocols=(frames.JSON_PROTOCOL,), origin=origin, max_msg_size=MAX_ANSWER_BYTES,
                    headers={"User-Agent": f"hybridgw-client/{VERSION}"},
                )  # fmt: skip
                try:
                    await ws.send_str(frames.encode_frame(frames.Auth(token=token, resume=resume)).decode())
                    hello = await _greeting(ws)
                except BaseException:
                    _abort(ws)
                    raise
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(error) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            raise NotRunning(f"No daemon answers at {url.partition('/ws/')[0]}. Start it: hybridgw up") from error
        return cls(ws, hello, patience, on_event, is_full)

    async def run(self) -> None:
        """Until the connection ends. Raises: Ended."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._beat())
        except* Ended as ended:
            raise _first(ended) from None
        finally:
            self._over()

    async def close(self) -> None:
        """End it in order; the daemon forgets the session."""
        self.ended = True
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(1.0):
                await self._ws.close(code=frames.NORMAL)
        self._over()

    # ---- asking ------------------------------------------------------------------------------------------------------
    async def ask(self, command: str, params: dict[str, Any], *, then: Callable[[Any], None] | None = None) -> Any:
        """The result of a command. Args: then: called with it before any later frame is looked at.

        Raises: HybridGWError kinds, as the daemon raised them; BadValue, TooBig: it cannot be sent; Lost.
        """
        async with self._room:
            if self.ended:
                raise Lost(sent=False)
            self._number += 1
            number = self._number
            text = encode({"type": "command", "id": number, "command": command, "params": params})
            asked = _Asked(asyncio.get_running_loop().create_future(), then)
            self._waiting[number] = asked
            self._stir.set()
            try:
                asked.is_sent = True  # from here on nobody can tell
                await self._send(text)
                return await asked.answer
            finally:
                self._waiting.pop(number, None)

    async def tell(self, command: str, params: dict[str, Any]) -> None:
        """A command whose answer nobody reads; nothing happens if the connection has ended."""
        with suppress(Lost):
            await self._send(encode({"type": "command", "command": command, "params": params}))

    async def renew(self, token: str) -> None:
        """A fresh token for this connection."""
        await self._send(encode({"type": "auth", "token": token, "renew": True}))

    def stir(self) -> None:
        """Somebody has taken what had arrived."""
        self._stir.set()

    # ---- inside ------------------------------------------------------------------------------------------------------
    async def _send(self, text: str) -> None:
        if self.ended:
            raise Lost(sent=False)
        try:
            await self._ws.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            self.ended = True  # the reader will notice too, but not in this turn
            _abort(self._ws)
            raise Lost(sent=True) from error

    async def _read(self) -> None:
        while True:
            await self._until_room()
            message = await self._ws.receive()
            self._alive.set()
            if message.type is aiohttp.WSMsgType.TEXT:
                self._take(message.data)
            elif message.type in _LOST or message.type is aiohttp.WSMsgType.ERROR:
                raise Ended(self._ws.close_code or 1006, str(message.extra or ""))
            else:
                raise Ended(1006, "binary frames, which were not asked for")

    async def _until_room(self) -> None:
        """Read no more while events wait for the program, unless it waits for an answer that comes behind them."""
        while self._is_full() and not self._waiting:
            self._is_paused = True
            self._alive.set()
            self._stir.clear()
            await self._stir.wait()
        self._is_paused = False

    def _take(self, text: str) -> None:
        frame = decode(text)
        match frame:
            case frames.EventFrame():
                self.offset = frame.offset
                self._on_event(frame)
            case frames.ResultFrame():
                if (asked := self._waiting.pop(frame.id, None)) is not None:
                    if asked.then is not None:
                        asked.then(frame.result)
                    if not asked.answer.done():
                        asked.answer.set_result(frame.result)
            case frames.ErrorFrame():
                asked = self._waiting.pop(frame.id, None) if frame.id is not None else None
                if asked is not None and not asked.answer.done():
                    asked.answer.set_exception(error_of_frame(frame))
            case frames.AuthError():
                raise Ended(frames.UNAUTHORIZED, frame.message, _refusal(frame))
            case frames.AuthOk():  # the answer to `renew`
                self.hello = frame
            case _:
                pass  # signs of life, and what is newer than we are

    async def _beat(self) -> None:
        """Signs of life, and the end of a connection that gives none: a sleep or a cable shows in nothing else."""
        wait_s = min(self._patience.heartbeat_s, self.hello.heartbeat_s * _BEAT)
        while True:
            await asyncio.sleep(wait_s)
            self._alive.clear()
            try:
                async with asyncio.timeout(self._patience.deadline_s):
                    await self._send(encode({"type": "heartbeat", "offset": self.offset}))
                    if not self._is_paused:
                        await self._alive.wait()
            except TimeoutError:
                raise Ended(1006, "no sign of life") from None
            except Lost:
                raise Ended(1006, "cannot send") from None

    def _over(self) -> None:
        self.ended = True
        waiting, self._waiting = list(self._waiting.values()), {}
        for asked in waiting:
            if not asked.answer.done():
                asked.answer.set_exception(Lost(sent=asked.is_sent))
                asked.answer.exception()  # whoever waits still gets it; if nobody does, that is no fault
        _abort(self._ws)


def _abort(ws: aiohttp.ClientWebSocketResponse) -> None:
    """At once: to close in order waits for the other side, and tells the daemon to forget the session."""
    ws._response.close()


async def _greeting(ws: aiohttp.ClientWebSocketResponse) -> frames.AuthOk:
    refusal: HybridGWError | None = None
    while True:
        message = await ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Ended(ws.close_code or 1006, str(message.extra or ""), refusal)
        frame = decode(message.data)
        if isinstance(frame, frames.AuthOk):
            return frame
        if isinstance(frame, frames.AuthError):
            refusal = _refusal(frame)


def encode(frame: dict[str, Any]) -> str:
    """The text of a frame. Raises: BadValue: JSON cannot say it; TooBig: no frame may be so big."""
    try:
        text = json.dumps(frame, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"This cannot be said in JSON: {error}.") from error
    if size > frames.MAX_FRAME_BYTES:
        raise TooBig(f"A command has at most {frames.MAX_FRAME_BYTES} bytes, this one has {size}. Split it.")
    return text


def decode(text: str) -> frames.FromServer | None:
    """A frame of the daemon; None: of a type that is newer than we are. Raises: Ended: whoever speaks is no daemon."""
    try:
        return frames.decode_server_frame(text.encode())
    except (BadValue, UnicodeEncodeError) as error:
        with suppress(ValueError, RecursionError):
            plain = json.loads(text)
            kind = plain.get("type") if isinstance(plain, dict) else None
            if isinstance(kind, str) and kind not in _KNOWN:
                return None
        refusal = BadFrame("What answers there is not HybridGW: it sent a frame that no daemon sends.")
        raise Ended(1006, str(error)[:200], refusal) from error


def error_of_frame(frame: frames.ErrorFrame) -> HybridGWError:
    """The error that an `error` frame tells, as the daemon raised it."""
    detail = frame.detail if isinstance(frame.detail, dict) else {}
    field = {"field": frame.field} if isinstance(frame.field, str) else {}
    error = error_of(0, {**detail, **field, "code": frame.code, "detail": frame.message}, {})
    del error.detail["status"]
    return error


def _refusal(frame: frames.AuthError) -> HybridGWError:
    error = error_of(0, {"code": frame.code, "detail": frame.message}, {})
    return error if isinstance(error, TooManyRequests) else Unauthorized(frame.message)


def _refused(error: aiohttp.WSServerHandshakeError) -> HybridGWError:
    if error.status == 401:
        return Unauthorized("This token does not count.")
    if error.status == 403:
        return Forbidden("This origin was not let in, or this address may not connect.")
    if error.status == 421:
        return Misdirected("The daemon does not answer under this name: use the address of the endpoint file.")
    if error.status in (429, 503):
        return NotRunning(f"The daemon takes no connection now ({error.status}).")
    return StateError(f"What answers there is not our daemon, or an older one (it answered {error.status}).")


def _first(group: BaseExceptionGroup[Ended]) -> Ended:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
