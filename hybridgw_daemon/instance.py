"""One daemon per profile: the lock, the endpoint file, and the port that a profile keeps."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from hybridgw_protocol.errors import AlreadyRunning, NotRunning, PortTaken
from hybridgw_protocol.runtime import DEFAULT_PORT, Endpoint, decode_endpoint, encode_endpoint, port_refused
from hybridgw_storage.file_lock import Held, hold

from .paths import Paths
from .stores.private_files import write_private

if sys.platform != "win32":
    import resource

PORTS_TRIED: Final = 100  # above the default one, at first start
BACKLOG: Final = 256
FILES_OF_OUR_OWN: Final = 128  # database, logs, relays, libraries


class Holder(msgspec.Struct):
    """Who holds the lock: written into the lock file for the error message of the second one."""

    pid: int
    started_ms: int


# ---- the lock ------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def lock(paths: Paths, started_ms: int) -> Iterator[None]:
    """Hold the profile for as long as the context lasts.

    Raises: AlreadyRunning: names the process that holds it; DiskFull, StorageUnavailable: the file cannot be opened
    or written.
    """
    try:
        with hold(paths.lock, msgspec.json.encode(Holder(os.getpid(), started_ms))):
            yield
    except Held as held:
        raise _already_running(paths, _holder(held.note)) from None


def _holder(note: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(note, type=Holder)
    except msgspec.DecodeError:
        return None


def _already_running(paths: Paths, holder: Holder | None) -> AlreadyRunning:
    who = f" (process {holder.pid})" if holder else ""
    where = ""
    with contextlib.suppress(NotRunning, OSError):
        where = f" at {decode_endpoint(paths.endpoint.read_bytes()).url}"
    return AlreadyRunning(
        f"A daemon{who} serves this profile already{where}: {paths.data}. "
        "Use that one, stop it with 'hybridgw down', or choose another profile with --home.",
        pid=holder.pid if holder else None,
        started_ms=holder.started_ms if holder else None,
    )


def room_for(connections: int) -> int:
    """How many connections the operating system gives us files for, at most *connections*; asks it for more first."""
    if sys.platform == "win32":
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES_OF_OUR_OWN
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(16, min(connections, soft - FILES_OF_OUR_OWN))
    return connections


# ---- the endpoint file ---------------------------------------------------------------------------------------------
def publish(paths: Paths, endpoint: Endpoint) -> None:
    """Tell local programs where the daemon listens; called once it does."""
    write_private(paths.endpoint, encode_endpoint(endpoint), replace=True)


def withdraw(paths: Paths, endpoint: Endpoint) -> None:
    """Remove the endpoint file if it is still ours."""
    with contextlib.suppress(OSError, NotRunning):
        if decode_endpoint(paths.endpoint.read_bytes()).token == endpoint.token:
            paths.endpoint.unlink()


# ---- the port ------------------------------------------------------------------------------------------------------
def keep_port(paths: Paths, port: int) -> None:
    """A port that was named is this profile's from then on: pages and scripts know it. Raises: StorageUnavailable."""
    if _read_port(paths.port) != port:
        write_private(paths.port, b"%d\n" % port, replace=True)


def open_sockets(paths: Paths, wanted: int | None, first: int = DEFAULT_PORT) -> list[socket.socket]:
    """Listening sockets on 127.0.0.1 and, where there is IPv6, ::1; the same port on both.

    Args: wanted: a port that was configured, 0 for any free one, None for the port of this profile: at first start
    *first* or the next free one, the same from then on.
    Raises: PortTaken.
    """
    if wanted is not None:
        return _listen(wanted) if wanted else _listen_anywhere()
    kept = _read_port(paths.port)
    if kept is not None:
        return _listen(kept)
    for port in range(first, min(first + PORTS_TRIED, 65_536)):
        with contextlib.suppress(PortTaken):
            sockets = _listen(port)
            try:
                keep_port(paths, port)
            except BaseException:
                for opened in sockets:
                    opened.close()
                raise
            return sockets
    raise PortTaken(f"None of the {PORTS_TRIED} ports from {first} on is free; name one with --port.")


def _listen_anywhere() -> list[socket.socket]:
    for _ in range(PORTS_TRIED):
        with contextlib.suppress(PortTaken), socket.socket(socket.AF_INET) as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
            probe.close()
            return _listen(free)
    raise PortTaken("No free port was found.")


def _read_port(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        port = int(path.read_text())
        return port if 0 < port < 65536 else None
    return None


def _listen(port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                opened.append(_socket(family, address, port))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # a machine without IPv6
                raise
    except OSError as error:
        for other in opened:
            other.close()
        raise PortTaken(
            f"{port_refused(port, error)} or server_port in config.toml.",
            port=port,
        ) from error
    return opened


def _socket(family: int, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # there REUSEADDR lets others steal it
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
