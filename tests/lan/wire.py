"""What is on the wire of a test network: sockets inside its hosts, a recorder of frames, and mDNS packets by hand."""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from zeroconf import DNSIncoming

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
TELLING = 4  # letters; four bytes of one name come by chance once in gigabytes
MDNS = ("224.0.0.251", 5353)
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes in the block belong to that namespace, and stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        assert _libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert _libc.setns(home, CLONE_NEWNET) == 0
    finally:
        os.close(home)
        os.close(there)


class Datagram(NamedTuple):
    """One UDP datagram that was seen. at_s: by the monotonic clock."""

    at_s: float
    source: str
    port: int
    data: bytes


class Recorder:
    """Every frame that passes through a namespace, as `tcpdump -i any` would see it."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
        self._socket.settimeout(0.1)
        self.frames: list[tuple[float, bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                self.frames.append((time.monotonic(), self._socket.recv(65536)))

    def close(self) -> None:
        """Stop; what was recorded stays."""
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def everything(self, *, but_port: int | None = None) -> bytes:
        """All frames, one after another. Args: but_port: without TCP from and to it (over IPv4)."""
        return b"\0".join(frame for _, frame in self.frames if but_port is None or but_port not in _tcp_ports(frame))

    def datagrams(self, port: int = MDNS[1]) -> list[Datagram]:
        """UDP to a port, each once though every port of a bridge shows it."""
        found: dict[tuple[str, bytes, int], Datagram] = {}
        for at_s, frame in self.frames:
            datagram = _udp(at_s, frame, port)
            if datagram is not None:
                found.setdefault((datagram.source, datagram.data, int(at_s * 20)), datagram)
        return list(found.values())


def _tcp_ports(frame: bytes) -> tuple[int, ...]:
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return ()
    start = 14 + (frame[14] & 0xF) * 4
    return struct.unpack("!HH", frame[start : start + 4])


def _udp(at_s: float, frame: bytes, port: int) -> Datagram | None:
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP:
        source, start = socket.inet_ntop(socket.AF_INET, frame[26:30]), 14 + (frame[14] & 0xF) * 4
    elif kind == b"\x86\xdd" and frame[20] == socket.IPPROTO_UDP:
        source, start = socket.inet_ntop(socket.AF_INET6, frame[22:38]), 14 + 40
    else:
        return None
    to, size = struct.unpack("!HH", frame[start + 2 : start + 6])
    return Datagram(at_s, source, to, frame[start + 8 : start + size]) if to == port else None


def names_here() -> list[bytes]:
    """What this machine and its user are called, lower case; without names so short that random bytes spell them."""
    host = socket.gethostname()
    return [name.lower().encode() for name in {host, host.partition(".")[0], getpass.getuser()} if len(name) >= TELLING]


def instances(datagrams: list[Datagram], service: str = "_hybridgw._tcp.local.") -> list[tuple[Datagram, str]]:
    """The instances that were announced (TTL above 0), in order, each with the datagram that first told of it."""
    found: dict[str, Datagram] = {}
    for datagram in datagrams:
        message = DNSIncoming(datagram.data)
        if message.is_query():
            continue
        for record in message.answers():
            if record.name == service and record.ttl and hasattr(record, "alias"):
                found.setdefault(record.alias, datagram)
    return [(datagram, name) for name, datagram in found.items()]


# ---- packets by hand -------------------------------------------------------------------------------------------------
def announcement(
    instance: str, address: str, port: int, text: list[bytes], *, service: str = "_hybridgw._tcp.local",
    ttl_s: int = 4500,
) -> bytes:  # fmt: skip
    """An mDNS response with PTR, SRV, TXT and A, no name compressed."""
    name, server = f"{instance}.{service}", f"{instance[:16]}x.local"
    records = (
        _record(service, 12, _name(name), ttl_s),
        _record(name, 33, struct.pack("!HHH", 0, 0, port) + _name(server), ttl_s),
        _record(name, 16, b"".join(bytes([len(part)]) + part for part in text) or b"\0", ttl_s),
        _record(server, 1, socket.inet_aton(address), ttl_s),
    )
    return struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def _name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def _record(name: str, kind: int, data: bytes, ttl_s: int) -> bytes:
    return _name(name) + struct.pack("!HHIH", kind, 1, ttl_s, len(data)) + data


def multicaster(namespace: str, address: str) -> socket.socket:
    """A socket of that host that speaks mDNS from one of its addresses."""
    with inside(namespace):
        speaker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    speaker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    speaker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    speaker.bind((address, MDNS[1]))
    return speaker
