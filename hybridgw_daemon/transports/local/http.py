"""The HTTP carrier: a request becomes a command of the table, its result the answer. No meaning lives here.

Order of judgement, the same for every path, upgrade and method: Host, then origin, then the route, then the credential,
then the content. Refusals before the credential have constant bodies and tell a stranger nothing.

aiohttp's low-level server is used without its application layer: routes come from the table, one handler does all, and
an answer is written in one piece. Source of the error form: RFC 9457.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from hybridgw_protocol.errors import (
    HybridGWError,
    LocalError,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooBig,
    Unauthorized,
    UnsupportedMediaType,
    UpgradeRequired,
)
from hybridgw_protocol.localapi import Document, encode
from hybridgw_protocol.localapi_operations import Page

from ...services.connections import Connections
from ...services.documents import NotModified
from ...services.events import Subscription
from ...services.ports import Principal
from . import sse, ws
from .auth import EVERYBODY, AddressFilter, Gate, Verdict, is_preflight
from .calls import MAX_USER_AGENT, Call, Calls
from .commands import require
from .cors import GRANTED, Cors
from .routes import Route, Routes, command_of
from .ws import SocketHub
from .ws_socket import Socket

LINGER_S: Final = 2.0  # reading on after an early refusal, so that the caller sees it
BUFFER_BYTES: Final = 256 * 1024  # answers not taken by the caller; beyond, we wait for it
MAX_REQUEST_ID: Final = 64

_MISUSED: Final = ("token", "api_key", "authorization")  # names of query parameters, and parts of them
_ID_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_SAFE: Final = (
    "Server: hybridgw\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nVary: Origin\r\n"
    "Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
)
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_COMMON: Final = f"{_SAFE}Content-Security-Policy: {_NOTHING}\r\n"
_STATUS: Final = {int(s): f"HTTP/1.1 {int(s)} {s.phrase}\r\n" for s in HTTPStatus}
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
_TRACED_HEADERS: Final = frozenset(
    {"host", "origin", "authorization", "content-type", "content-length", "if-match", "if-none-match", "user-agent",
     "accept", "sec-fetch-site", "x-request-id", "x-hybridgw-client", "last-event-id", "connection", "upgrade"}
)  # fmt: skip

log = logging.getLogger(__name__)


def problem(status: int, code: str, message: str, retryable: bool, request_id: str | None, **more: object) -> bytes:
    """Problem details. `code` is stable, `detail` is for a person; *more*: extension members."""
    body: dict[str, Any] = {
        "type": f"urn:hybridgw:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": message,
        "code": code,
        "retryable": retryable,
    }
    if request_id is not None:
        body["request_id"] = request_id
    for name, value in more.items():
        body.setdefault(name, value)
    return encode(body)


_MISDIRECTED: Final = problem(
    421, "misdirected", "This server answers only as localhost, 127.0.0.1 or [::1], with its port.", False, None
)
_FORBIDDEN: Final = problem(403, "forbidden", "Requests of this page are not admitted.", False, None)
_ADDRESS: Final = problem(403, "forbidden", "Requests from this address are not admitted.", False, None)
_UNAUTHORIZED: Final = problem(  # the same for everybody: a stranger does not hear whether a key was ever there
    401,
    "unauthorized",
    "A bearer token is needed that counts; one that was shown has expired, was revoked, or never was. 'hybridgw keys' "
    "shows the keys there are, and 'hybridgw keys create' makes another; an app asks to be let in.",
    False,
    None,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long we wait, seconds. head: from connecting to a whole request head; body: from there to the whole body;

    reader: for a reader of events that takes nothing; sweep: how often connections are looked at.
    """

    head_s: float = 10.0
    body_s: float = 30.0
    reader_s: float = 10.0
    sweep_s: float = 2.0


class Answer(web.StreamResponse):
    """A whole answer, formed beforehand and handed to the transport in one piece."""

    def __init__(
        self, status: int, body: bytes, request_id: str, *, kind: str = JSON, more: str = "", policy: str = _NOTHING
    ) -> None:
        """Args: more: further header lines; policy: what the content may load, nothing unless it is a page."""
        super().__init__(status=status)
        self._answer_body = body
        common = _COMMON if policy is _NOTHING else f"{_SAFE}Content-Security-Policy: {policy}\r\n"
        self._head = (
            f"{_STATUS[status]}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n"
            f"Date: {_date()}\r\n{common}{more}"
        )
        self._stay = True
        if status in (204, 304):
            self._head = f"{_STATUS[status]}X-Request-ID: {request_id}\r\nDate: {_date()}\r\n{_COMMON}{more}"

    def close_after(self) -> Answer:
        """The connection ends with this answer."""
        self._stay = False
        return self

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection goes on; asked for by the server once the answer is written."""
        return self._stay

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it."""
        if request.version < (1, 1) or not request.keep_alive:
            self._stay = False
        body = b"" if request.method == "HEAD" else self._answer_body
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        end = "\r\n" if self._stay else "Connection: close\r\n\r\n"
        if cors := request.get(GRANTED):
            end = "".join(f"{name}: {value}\r\n" for name, value in cors.items()) + end
        transport.write(f"{self._head}{end}".encode("latin-1") + body)
        if transport.get_write_buffer_size() > BUFFER_BYTES:
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class _Clock:
    """The Date header, formed once a second."""

    second = 0
    text = ""


def _date() -> str:
    now = int(time.time())
    if now != _Clock.second:
        _Clock.second, _Clock.text = now, formatdate(now, usegmt=True)
    return _Clock.text


# ---- connections -----------------------------------------------------------------------------------------------------
class Connection(RequestHandler):
    """One TCP connection: bounded in number and in how long it may take to ask; its errors have our form."""

    __slots__ = ("_api", "client_ip", "deadline", "socket")

    def __init__(self, api: HttpApi, manager: web.Server, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._api = api
        self.deadline = 0.0
        self.client_ip: str | None = None
        self.socket: Socket | None = None

    def begin_socket(self, socket: Socket) -> None:
        """From now on what arrives is for this WebSocket."""
        self.socket = socket
        self.set_parser(socket)  # type: ignore[arg-type]  # it asks of it only what Socket has

    def resume_writing(self) -> None:
        """What was written has left."""
        super().resume_writing()
        if self.socket is not None:
            self.socket.writable()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        if len(self._api.connections) >= self._api.max_connections:
            self.force_close()
            return
        self._api.connections.add(self)
        peer = transport.get_extra_info("peername")
        self.client_ip = peer[0] if isinstance(peer, tuple) else None
        self.deadline = self._loop.time() + self._api.patience.head_s

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._api.connections.discard(self)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """The parser's texts quote what was sent, tokens included; they stay out of the log."""
        error = kw.get("exc_info")
        log.info("request not understood: %s", type(error).__name__, extra={"event": "http.bad_request"})

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no HTTP request."""
        self.log_exception(exc_info=exc)
        request_id = self._api.next_id()
        text = "This is not an HTTP request that can be read." if status < 500 else "The request failed."
        code = "bad_request" if status < 500 else "internal"
        self._api.calls.told(Call("-", "-", status, 0.0, request_id, code, None, self.client_ip, None))
        return Answer(status, problem(status, code, text, False, request_id), request_id, kind=PROBLEM).close_after()


class _Server(web.Server):
    def __init__(self, api: HttpApi, **settings: Any) -> None:
        super().__init__(api.handle, **settings)
        self._api, self._settings = api, settings

    def __call__(self) -> RequestHandler:
        return Connection(self._api, self, loop=self._loop, **self._settings)


# ---- requests --------------------------------------------------------------------------------------------------------
class HttpApi:
    """Handles every request of the local API. `server()` gives what listens; `run` is its task."""

    def __init__(
        self,
        routes: Routes,
        gate: Gate,
        *,
        prefix: str,
        max_connections: int,
        heartbeat_s: float,
        idle_s: float,
        calls: Calls,
        addresses: AddressFilter = EVERYBODY,
        trace: Callable[[str], None] | None = None,
        patience: Patience = Patience(),
        cors: Cors | None = None,
        sockets: SocketHub | None = None,
        connections: Connections | None = None,
    ) -> None:
        """Args: prefix: of request ids, new for each start; trace: in debug, told what came and went, never its
        content; sockets: take upgrades; connections: know of event streams."""
        self._sockets = sockets
        self._registry = connections
        self.patience = patience
        self.calls, self._addresses, self._trace = calls, addresses, trace
        self._routes = routes
        self._gate = gate
        self._cors = cors or Cors()
        self._prefix = prefix
        self._count = 0
        self._heartbeat_s = heartbeat_s
        self._idle_s = idle_s
        self.max_connections = max_connections
        self.connections: set[Connection] = set()

    def server(self) -> web.Server:
        """The protocol factory; must be called with the event loop running."""
        return _Server(
            self, access_log=None, keepalive_timeout=self._idle_s, lingering_time=LINGER_S, auto_decompress=False,
            max_line_size=16_384, max_field_size=16_384,
        )  # fmt: skip

    def next_id(self) -> str:
        """A request id of our own."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    async def run(self) -> None:
        """End connections that do not ask in time; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.patience.sweep_s)
            now = loop.time()
            for connection in [c for c in self.connections if c.deadline and c.deadline < now]:
                self._time_out(connection)

    def _time_out(self, connection: Connection) -> None:
        request_id = self.next_id()
        error = RequestTimeout("The request did not arrive in time.")
        body = problem(408, error.code, error.message, error.retryable, request_id)
        transport = connection.transport
        if transport is not None:
            head = f"{_STATUS[408]}Content-Type: {PROBLEM}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            transport.write(f"{head}{_COMMON}\r\n".encode() + body)
        self.calls.told(Call("-", "-", 408, 0.0, request_id, error.code, None, connection.client_ip, None))
        connection.force_close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, never raises but for a lost connection."""
        started = time.perf_counter()
        headers = request.headers
        request.protocol.deadline = 0.0  # type: ignore[attr-defined]
        request_id = _given_id(headers) or self.next_id()
        template, limit, principal = "-", "", None
        try:
            if not self._addresses.admits(request.protocol.client_ip):  # type: ignore[attr-defined]
                self._log(request, template, 403, started, request_id, "forbidden", None)
                return Answer(403, _ADDRESS, request_id, kind=PROBLEM).close_after()
            verdict = self._gate.judge(headers)
            path, _, query = request.raw_path.partition("?")
            origin = self._gate.foreign_origin(headers)
            if verdict is not Verdict.ADMITTED or origin is not None:
                done = self._judge_page(request, verdict, origin, path, request_id)
                if done is not None:
                    code = {204: None, 421: "misdirected"}.get(done.status, "forbidden")
                    self._log(request, template, done.status, started, request_id, code, None)
                    return done
            found = self._routes.find(path) if path.startswith("/") and "#" not in query else None
            method = "GET" if request.method == "HEAD" else request.method
            route = found[0].get(method) if found else None
            if route is not None:
                template = route.row.path
            is_socket = self._sockets is not None and path.startswith(ws.PREFIX)
            is_upgrade = is_socket and headers.get("Upgrade", "").lower() == "websocket"
            shown = "Authorization" in headers
            principal = self._gate.principal(headers) if shown else None
            if is_socket:
                template = ws.TEMPLATE
            is_file = route is not None and route.row.is_file
            if not is_file and (shown or not is_upgrade):
                # A WebSocket may show its token later, in a frame, and is counted by that.
                taken = self.calls.take(principal, headers.get("Origin"), is_bad=shown)
                limit = taken.headers
                taken.check()
            if principal is None and (route is None or not route.row.is_open):
                self._note_stranger(headers, origin, query)
                if shown or not is_upgrade:
                    raise Unauthorized("")
            if is_socket and self._sockets is not None:
                accepted = self._sockets.accept(request, path, request_id)
                self._log(request, template, 101, started, request_id, None, principal)
                return await self._sockets.serve(request, accepted, principal)
            asker = principal or self._gate.nobody(headers)
            if found is None:
                raise NotFound("There is nothing at this path.")
            if route is None:
                raise MethodNotAllowed(f"{request.method} is not done here.", allow=", ".join(sorted(found[0])))
            body = await self._body(request, route)
            command = command_of(route, found[1], query, headers, body)
            require(asker, route.row, command)
            if self._trace is not None:
                self._trace(_traced(request, request_id, route, query, body))
            if route.row.stream is not None:
                subscription = route.row.stream(asker, sse.resumed(command, headers))
                self._log(request, template, 200, started, request_id, None, principal)
                with self._watched(asker, subscription, headers):
                    return await sse.serve(
                        request, subscription, request_id, self._heartbeat_s, self.patience.reader_s,
                        until_ms=asker.expires_ms,
                    )  # fmt: skip
            assert route.row.handler is not None  # noqa: S101 - a row has the one or the other
            result = await route.row.handler(asker, command)
            more = limit
            if type(result) is Page:
                self._log(request, template, route.row.status, started, request_id, None, principal)
                return Answer(
                    200, result.text.encode(), request_id, kind=result.kind, more=more, policy=result.policy or _NOTHING
                )
            if type(result) is Document:
                more += f'ETag: "{result.version}"\r\n'
                if route.row.status == 201:
                    more += f"Location: {_location(result)}\r\n"
            answer = Answer(route.row.status, encode(result), request_id, more=more)
            self._log(request, template, route.row.status, started, request_id, None, principal)
            return answer
        except NotModified as same:
            self._log(request, template, 304, started, request_id, None, principal)
            return Answer(304, b"", request_id, more=f'{limit}ETag: "{same.version}"\r\n')
        except HybridGWError as error:
            self._log(request, template, error.http_status, started, request_id, error.code, principal)
            return self._failed(error, request_id, limit)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("request failed", extra={"request_id": request_id, "event": "http.internal"})
            self._log(request, template, 500, started, request_id, "internal", principal)
            text = f"An error of ours. The log has the reference {request_id}."
            del error
            return Answer(500, problem(500, "internal", text, False, request_id), request_id, kind=PROBLEM)

    def _judge_page(
        self, request: web.BaseRequest, verdict: Verdict, origin: str | None, path: str, request_id: str
    ) -> Answer | None:
        """The answer to a page that may not, or that asks whether it may; None: its request goes on.

        Args: origin: foreign, of a page that was admitted or may ask; None: there is none.
        """
        headers, preflight = request.headers, is_preflight(request.method, request.headers)
        method = headers["Access-Control-Request-Method"] if preflight else request.method
        admitted = verdict is Verdict.ADMITTED
        may = self._cors.allows(method) if admitted else verdict is Verdict.ASKING and self._may_ask(path, method)
        if origin is None or not may:
            self.calls.refused("refused.host" if verdict is Verdict.MISDIRECTED else "refused.origin", origin)
            return _refusal(verdict, request_id)
        if preflight:
            request[GRANTED] = self._cors.preflight(origin, headers, admitted=admitted)
            return Answer(204, b"", request_id)
        request[GRANTED] = self._cors.answer(origin)
        return None

    def _may_ask(self, path: str, method: str) -> bool:
        """Is it one of the calls by which a page that nobody has let in asks for it."""
        try:
            found = self._routes.find(path)
        except LocalError:
            return False
        route = found[0].get(method) if found else None
        return route is not None and route.row.scope == "ask"

    def _note_stranger(self, headers: Mapping[str, str], origin: str | None, query: str) -> None:
        """For the logs: somebody without a credential, with one that does not count, or with one in the URL."""
        if any(name in query for name in _MISUSED):
            log.warning("a token was sent in a URL, where it does not count", extra={"event": "misuse"})
            self.calls.refused("refused.misuse", origin)
        elif "Authorization" in headers:
            self.calls.refused("refused.token", origin)

    def _watched(
        self, principal: Principal, subscription: Subscription, headers: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[object]:
        """A stream among the connections, so that its credential can end it."""
        if self._registry is None:
            return contextlib.nullcontext()
        agent = headers.get("User-Agent", "")
        return self._registry.stream(subscription.close, principal_id=principal.id, user_agent=agent)

    async def _body(self, request: web.BaseRequest, route: Route) -> bytes | None:
        """The body, None for calls without one. Raises: UnsupportedMediaType, TooBig, RequestTimeout, LocalError."""
        headers = request.headers
        stream: StreamReader = request.content
        if route.row.body is None:
            if not stream.is_eof() or headers.get("Content-Length", "0") != "0":
                raise LocalError("This call has no body.", close=True)
            return None
        kind, _, parameters = headers.get("Content-Type", "").partition(";")
        if kind.strip().lower() != JSON or "Content-Encoding" in headers:
            raise UnsupportedMediaType("Send the body as application/json, not compressed.", close=True)
        if parameters and "charset" in parameters.lower() and "utf-8" not in parameters.lower():
            raise UnsupportedMediaType("JSON is UTF-8.", close=True)
        most = route.row.max_body_bytes
        if (request.content_length or 0) > most:
            raise TooBig(f"A body of this call has at most {most} bytes.", close=True)
        if stream.is_eof():
            return stream.read_nowait(-1)
        if headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.patience.body_s):
                while part := await stream.readany():
                    size += len(part)
                    if size > most:
                        raise TooBig(f"A body of this call has at most {most} bytes.", close=True)
                    parts.append(part)
        except TimeoutError as error:
            raise RequestTimeout("The body did not arrive in time.", close=True) from error
        except web.RequestPayloadError as error:
            raise LocalError("The body did not arrive whole.", close=True) from error
        return b"".join(parts)

    def _failed(self, error: HybridGWError, request_id: str, limit: str = "") -> Answer:
        detail = dict(error.detail)
        ends = bool(detail.pop("close", False))
        more = limit
        if isinstance(error, Unauthorized):
            return Answer(401, _UNAUTHORIZED, request_id, kind=PROBLEM, more=f"{limit}WWW-Authenticate: Bearer\r\n")
        if isinstance(error, MethodNotAllowed):
            more += f"Allow: {detail['allow']}\r\n"
        elif isinstance(error, UpgradeRequired):
            more += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        elif error.retryable or "retry_after_s" in detail:
            more += f"Retry-After: {detail.get('retry_after_s', 1)}\r\n"
        status = error.http_status
        with contextlib.suppress(TypeError, msgspec.EncodeError):  # a detail that is no JSON is left out
            body = problem(status, error.code, error.message, error.retryable, request_id, **detail)
            answer = Answer(status, body, request_id, kind=PROBLEM, more=more)
            return answer.close_after() if ends else answer
        body = problem(status, error.code, error.message, error.retryable, request_id)
        return Answer(status, body, request_id, kind=PROBLEM, more=more)

    def _log(
        self, request: web.BaseRequest, template: str, status: int, started: float, request_id: str, code: str | None,
        principal: Principal | None,
    ) -> None:  # fmt: skip
        took_ms = (time.perf_counter() - started) * 1000
        agent = request.headers.get("User-Agent")
        self.calls.told(
            Call(
                request.method, template, status, took_ms, request_id, code, principal and principal.id,
                request.protocol.client_ip, agent and agent[:MAX_USER_AGENT],  # type: ignore[attr-defined]
            )
        )  # fmt: skip


def _refusal(verdict: Verdict, request_id: str) -> Answer:
    if verdict is Verdict.MISDIRECTED:
        return Answer(421, _MISDIRECTED, request_id, kind=PROBLEM).close_after()
    return Answer(403, _FORBIDDEN, request_id, kind=PROBLEM).close_after()


def _traced(request: web.BaseRequest, request_id: str, route: Route, query: str, body: bytes | None) -> str:
    """A request for the log in debug: which parameters and headers there are and how much was sent, no values."""
    parameters = ",".join(sorted({pair.partition("=")[0] for pair in query.split("&") if pair} & route.query))
    names = ",".join(sorted({name.lower() for name in request.headers} & _TRACED_HEADERS))
    size = len(body or b"")
    return f"request={request_id} command={route.row.name} query={parameters or '-'} headers={names} body={size} B"


def _given_id(headers: Mapping[str, str]) -> str | None:
    given = headers.get("X-Request-ID")
    if given and len(given) <= MAX_REQUEST_ID and _ID_CHARS.issuperset(given):
        return given
    return None


def _location(document: Document) -> str:

    name = document.id if document.id.isascii() and document.id.replace("-", "").isalnum() else quote(document.id, "")
    return f"/api/data/{document.collection}/{name}"
