"""Direct connections: TCP with TLS 1.3, and on it messages, each behind its length. Who is there is not known here.

A message is 4 bytes of length, big endian, and so many bytes; one message is one frame. A listener gives strangers
little: so many of them at a time, so many a minute from one address, ten seconds, small frames.
Source: protocol/SPEC.md, "Link".
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from hybridgw_protocol.auth import certificate_endpoint
from hybridgw_protocol.errors import BadFrame, Offline, PortTaken
from hybridgw_protocol.limits import MAX_FRAME_BYTES
from hybridgw_protocol.token_bucket import Buckets

from ...core.addresses import Address
from .certificate import client_context, make_certificate, server_context

log = logging.getLogger(__name__)

CONNECT_S: Final = 5.0
HANDSHAKE_S: Final = 5.0
FIRST_FRAMES_BYTES: Final = 16 * 1024  # of who has not proved itself yet
CLOSE_S: Final = 1.0
REST_S: Final = 1.0  # after a connection that the system did not give
STRANGERS: Final = 64  # connections in all that have not proved themselves yet
STRANGERS_PER_ADDRESS: Final = 8
ATTEMPTS_PER_S, ATTEMPTS_AT_ONCE = 1.0, 30.0  # connections from one address that were not proved
ADDRESSES: Final = 1_024  # whose attempts are remembered
PORTS_TRIED: Final = 20
BUFFER_BYTES: Final = MAX_FRAME_BYTES


class TlsChannel:
    """A channel over one TLS connection (services/gateway.py, Channel). endpoint: of the certificate that the other
    side showed, empty if it showed none."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str,
        proved: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Args: proved: called when the other side has shown who it is."""
        self._reader, self._writer, self._name, self._proved = reader, writer, name, proved
        self._most_bytes = FIRST_FRAMES_BYTES
        tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls else None
        self.endpoint = certificate_endpoint(shown) if shown else ""

    def trust(self) -> None:
        """The other side has proved itself: it is a stranger no more, and frames may be long."""
        self._most_bytes = MAX_FRAME_BYTES
        self._proved()

    async def send(self, data: bytes) -> None:
        """Send one message. Raises: Offline."""
        try:
            self._writer.write(len(data).to_bytes(4, "big") + data)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise Offline(f"The connection to {self._name} broke.") from error

    async def receive(self) -> bytes:
        """The next message. Raises: Offline; BadFrame: longer than allowed."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if size > self._most_bytes:
                raise BadFrame(f"A frame has at most {self._most_bytes} bytes here, this one {size}.")
            return await self._reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Offline(f"{self._name} closed the connection.") from error

    async def close(self) -> None:
        """Close; idempotent."""
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):  # the other side may never answer the end of TLS
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
        except BaseException:
            self._writer.transport.abort()
            raise


Serve = Callable[[TlsChannel, str], Awaitable[None]]  # a connection that came in, and its address


class Door:
    """Who may come in that nobody knows yet: counts of connections, in all and per address."""

    def __init__(self, steady_ms: Callable[[], int]) -> None:
        """Args: steady_ms: a clock that nobody sets."""
        self._steady_ms = steady_ms
        self._inside: Counter[str] = Counter()
        self._attempts = Buckets(ATTEMPTS_PER_S, ATTEMPTS_AT_ONCE, ADDRESSES)

    def enter(self, host: str) -> bool:
        """May this connection stay for now. If so, `leave` follows."""
        if self._inside.total() >= STRANGERS or self._inside[host] >= STRANGERS_PER_ADDRESS:
            return False
        if self._attempts.of(host).take(1, self._steady_ms()):
            return False
        self._inside[host] += 1
        return True

    def leave(self, host: str, *, proved: bool) -> None:
        """It ended, or it is no stranger any more, which costs nothing."""
        if proved:
            self._attempts.of(host).put_back(1)
        self._inside[host] -= 1
        if not self._inside[host]:
            del self._inside[host]


class TlsPlace:
    """Where this device listens for others, and from where it calls them. One per run, with a certificate of its own.

    endpoint: of that certificate; port: where it listens."""

    def __init__(self, *, host: str | None, port: int, folder: Path, steady_ms: Callable[[], int]) -> None:
        """Args: host: None: every address; port: this or the next free one; folder: for a file that lives a moment;
        steady_ms: a clock that nobody sets."""
        self._host, self._first_port, self._folder = host, port, folder
        self._door = Door(steady_ms)
        self._client = client_context()
        self._sockets: list[socket.socket] = []
        self.endpoint = ""
        self.port = 0

    async def open(self) -> None:
        """Make the certificate and take the port. Raises: StateError, PortTaken."""
        self._server, certificate = server_context(await make_certificate(), self._folder)
        self.endpoint = certificate_endpoint(certificate)
        self._sockets = listening_sockets(self._host, self._first_port)
        self.port = int(self._sockets[0].getsockname()[1])

    async def serve(self, serve: Serve) -> None:
        """Take connections until cancelled; each is served by a task of its own."""
        try:
            async with asyncio.TaskGroup() as group:
                for listening in self._sockets:
                    group.create_task(self._accept(listening, serve, group), name="lan accept")
        finally:
            for listening in self._sockets:
                listening.close()

    async def _accept(self, listening: socket.socket, serve: Serve, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                caller, where = await _accepted(listening)
            except BlockingIOError:  # it went away again
                continue
            except OSError as error:  # no file left, or the caller went away
                log.warning("no connection was taken: %s", error, extra={"event": "lan.refused"})
                await asyncio.sleep(REST_S)
                continue
            host = str(where[0])
            if self._door.enter(host):
                task = group.create_task(self._serve(caller, host, serve), name="lan guest")
                task.add_done_callback(partial(_close, caller))  # it may be cancelled before it has begun
            else:
                caller.close()

    async def _serve(self, caller: socket.socket, host: str, serve: Serve) -> None:
        is_stranger = True

        def leave(proved: bool) -> None:
            nonlocal is_stranger
            if is_stranger:
                is_stranger = False
                self._door.leave(host, proved=proved)

        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=BUFFER_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, caller, ssl=self._server, ssl_handshake_timeout=HANDSHAKE_S
            )
            channel = TlsChannel(
                reader, asyncio.StreamWriter(transport, protocol, reader, loop), host, lambda: leave(True)
            )
            await serve(channel, host)
        except OSError as error:  # SSLError is one: no TLS, or an old one
            log.info("no TLS with %s: %s", host, error, extra={"event": "lan.refused"})
        except Exception:  # whatever a stranger makes go wrong here ends its connection, not the daemon
            log.exception("a connection from %s failed", host, extra={"event": "lan.failed"})
        finally:
            leave(False)

    async def dial(self, address: Address) -> TlsChannel:
        """Connect. Raises: Offline: with the reason a person can act on."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=self._client, server_hostname="", limit=BUFFER_BYTES
                )
        except (OSError, TimeoutError, UnicodeError) as error:
            raise Offline(f"{address} cannot be reached: {reason(error)}") from error
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return TlsChannel(reader, writer, str(address))


async def _accepted(listening: socket.socket) -> tuple[socket.socket, Any]:
    """The next connection and where it comes from. Raises: OSError."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":  # its event loop has no readers
        return await loop.sock_accept(listening)
    ready = asyncio.Event()
    loop.add_reader(listening, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(listening)
    caller, where = listening.accept()  # in one step with the above, so that a cancel never loses a connection
    caller.setblocking(False)
    return caller, where


def _close(caller: socket.socket, _task: asyncio.Task[None]) -> None:
    caller.close()


def listening_sockets(host: str | None, port: int) -> list[socket.socket]:
    """Sockets that listen, IPv4 and IPv6 on one port: this or the next free one; 0: any. Raises: PortTaken."""
    wanted = [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)]  # noqa: S104 - for the devices of this network
    if host is not None:
        wanted = [(host, socket.AF_INET6 if ":" in host else socket.AF_INET)]
    last: OSError | None = None
    for candidate in [*range(port, min(port + PORTS_TRIED, 65536)), 0] if port else [0] * PORTS_TRIED:
        made: list[socket.socket] = []
        try:
            for where, family in wanted:
                made += _listening(where, family, int(made[0].getsockname()[1]) if made else candidate)
        except OSError as error:
            for one in made:
                one.close()
            last = error
            continue
        if made:
            return made
    raise PortTaken(f"No port is free for direct links, from {port} on: {reason(last or OSError())}.")


def _listening(host: str, family: socket.AddressFamily, port: int) -> list[socket.socket]:
    """One socket, or none where this machine has no such family. Raises: OSError: the port is taken."""
    made: socket.socket | None = None
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(STRANGERS)
    except OSError as error:
        if made is not None:
            made.close()
        if family is socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and host == "::":
            return []
        raise
    made.setblocking(False)
    return [made]


def reason(error: BaseException) -> str:
    """One clause a person can act on."""
    match error:
        case TimeoutError():
            return "no answer; a firewall, a VPN, or it is not on this network"
        case ssl.SSLError():
            return "it answers, but not as HybridGW"
        case socket.gaierror():
            return "its name is not known"
        case ConnectionRefusedError():
            return "nothing listens there; is HybridGW running on it?"
        case OSError(errno=number) if number:
            return os.strerror(number).lower()
        case _:
            return str(error) or type(error).__name__
