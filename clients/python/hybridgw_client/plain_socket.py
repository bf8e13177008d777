"""A WebSocket to the daemon with nothing but the standard library, for threads: one reads, any may write.

Only what the native messaging host needs: text messages, no compression. Source: RFC 6455.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

CONNECT_S: Final = 5.0
WRITE_S: Final = 30.0
MAX_MESSAGE: Final = 64 * 1024 * 1024  # of the daemon; a longer one is no message of it
_MAX_HEAD: Final = 16 * 1024
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _CLOSE, _PING, _PONG = 0, 1, 8, 9, 10


class Ended(NamedTuple):
    """How a connection ended: a close code of RFC 6455 or of the daemon, 1006 without one, and why."""

    code: int
    reason: str


class PlainSocket:
    """One connection. `receive` in one thread until it gives Ended; `send` and `close` in any."""

    def __init__(self, url: str, path: str, protocol: str, headers: Mapping[str, str]) -> None:
        """Connect. Args: url: http://127.0.0.1:PORT; headers: of the upgrade.

        Raises: OSError: nobody answers, or not with a WebSocket: its text says so.
        """
        place = urlsplit(url)
        self._lock = threading.Lock()
        self._socket = socket.create_connection((place.hostname or "", place.port or 80), CONNECT_S)
        self._file = self._socket.makefile("rb")
        try:
            self._upgrade(place.netloc, path, protocol, headers)
            self._socket.settimeout(None)
        except BaseException:
            self._drop()
            raise

    def _upgrade(self, host: str, path: str, protocol: str, headers: Mapping[str, str]) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key.decode()}", f"Sec-WebSocket-Protocol: {protocol}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]  # fmt: skip
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        status, size, proof = b"", 0, b""
        while True:
            line = self._file.readline(_MAX_HEAD)
            size += len(line)
            if not line.endswith(b"\n") or size > _MAX_HEAD:
                raise OSError("no answer in HTTP")
            line = line.strip()
            if not status:
                status = line
            elif not line:
                break
            elif line.lower().startswith(b"sec-websocket-accept:"):
                proof = line.partition(b":")[2].strip()
        if not status.startswith(b"HTTP/1.1 101"):
            raise OSError(status[:60].decode("latin-1").replace("/1.1", "", 1))
        if proof != base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()):
            raise OSError("not a WebSocket")

    def receive(self) -> str | Ended:
        """The next message, or how it ended. Pings are answered on the way."""
        parts, size = [], 0
        try:
            while True:
                first, second = self._exactly(2)
                length = second & 0x7F
                if length == 126:
                    (length,) = struct.unpack(">H", self._exactly(2))
                elif length == 127:
                    (length,) = struct.unpack(">Q", self._exactly(8))
                size += length
                if second & 0x80 or first & 0x70 or size > MAX_MESSAGE:
                    return self._over(1002, "not a frame of the daemon")
                payload, opcode = self._exactly(length), first & 0x0F
                if opcode == _PING:
                    self._write(_PONG, payload)
                elif opcode == _CLOSE:
                    code = struct.unpack(">H", payload[:2])[0] if len(payload) > 1 else 1005
                    with suppress(OSError):
                        self._write(_CLOSE, payload[:2])
                    return self._over(code, payload[2:].decode("utf-8", "replace"))
                elif opcode in (_TEXT, _CONTINUATION):
                    parts.append(payload)
                    if first & 0x80:
                        return b"".join(parts).decode()
                if opcode >= _CLOSE:
                    size -= length
        except (OSError, EOFError, UnicodeDecodeError, ValueError):
            return self._over(1006, "the connection broke")

    def send(self, text: bytes) -> None:
        """One message, in UTF-8. Raises: OSError: the connection is gone; `receive` tells why."""
        self._write(_TEXT, text)

    def close(self, code: int = 1000) -> None:
        """End it in order; `receive` gives Ended once the other side agrees, or at once where it is gone."""
        try:
            self._write(_CLOSE, struct.pack(">H", code))
            self._socket.settimeout(2.0)
        except OSError:
            self._shut()

    def _exactly(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise EOFError
        return found

    def _write(self, opcode: int, payload: bytes) -> None:
        size, mask = len(payload), os.urandom(4)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65_536:
            head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        masked = (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")
        with self._lock:
            self._socket.sendall(head + mask + masked)

    def _over(self, code: int, reason: str) -> Ended:
        self._drop()
        return Ended(code, reason)

    def _shut(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        self._shut()
        with suppress(OSError):
            self._file.close()
        self._socket.close()
