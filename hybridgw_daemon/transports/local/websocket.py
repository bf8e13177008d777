"""RFC 6455 and 7692 without input or output: bytes of a client become messages, messages become bytes.

Written for this server because it must refuse what the library lets pass (frames without a mask, reserved bits on
control frames) and because a message is handed over in the call that brought its last byte: no queue and no task
between a socket and what it asks for. Both sides agree on compression without context, so that an idle connection holds
no window and a message stands for itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from hybridgw_protocol.errors import LocalError, UpgradeRequired
from hybridgw_protocol.localapi_frames import BAD_TEXT, MESSAGE_TOO_BIG, PROTOCOL_ERROR

try:
    from aiohttp._websocket.helpers import websocket_mask  # C; a private place of the library
except ImportError:  # pragma: no cover - moved by a later release: slower, the same

    def websocket_mask(mask: bytes, data: bytearray) -> None:
        """XOR in place."""
        size = len(data)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        data[:] = (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
DEFLATE_BYTES: Final = 1024  # smaller messages are not worth compressing
MAX_FRAGMENTS: Final = 4_096  # of one message

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MEDIUM: Final = struct.Struct(">BBH").pack
_END: Final = b"\x00\x00\xff\xff"
_DEFLATE: Final = re.compile(
    r"permessage-deflate"
    r"(?:; ?(?:server_no_context_takeover|client_no_context_takeover|client_max_window_bits(?:=\"?(?:8|9|1[0-5])\"?)?)"
    r")*"
)


class Violation(Exception):
    """The client broke the protocol. code: to close with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


# ---- the handshake ---------------------------------------------------------------------------------------------------
def handshake(headers: Mapping[str, str], protocols: tuple[str, ...]) -> tuple[str, str | None, bool]:
    """(header lines of the 101 that depend on the request, subprotocol, compressed).

    Raises: UpgradeRequired: not a WebSocket of version 13; LocalError: a bad key.
    """
    connection = {token.strip().lower() for token in headers.get("Connection", "").split(",")}
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        raise UpgradeRequired("This path is a WebSocket.")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise UpgradeRequired("This server speaks version 13 of the WebSocket protocol.")
    key = headers.get("Sec-WebSocket-Key", "").strip()
    if not _KEY.fullmatch(key):
        raise LocalError("Sec-WebSocket-Key is not 16 bytes in base64.")
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
    offered = [name.strip() for name in headers.get("Sec-WebSocket-Protocol", "").split(",")]
    protocol = next((name for name in offered if name in protocols), None)
    if protocol is not None:
        lines += f"Sec-WebSocket-Protocol: {protocol}\r\n"
    extensions = headers.get("Sec-WebSocket-Extensions", "")
    is_deflated = bool(extensions) and any(_DEFLATE.fullmatch(part.strip()) for part in extensions.split(","))
    if is_deflated:
        lines += (
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        )
    return lines, protocol, is_deflated


# ---- reading ---------------------------------------------------------------------------------------------------------
class Reader:
    """Splits what arrives into messages. Set `held` to leave the rest unread until `feed(b"")`.

    Args: on_message: (opcode, payload) of whole messages; on_control: the same of close, ping and pong.
    """

    __slots__ = (
        "_buffer", "_deflated", "_fragments", "_is_packed", "_need", "_on_control", "_on_message",
        "_opcode", "_size", "held", "max_bytes",
    )  # fmt: skip

    def __init__(
        self, on_message: Callable[[int, bytes | bytearray], None], on_control: Callable[[int, bytes], None], *,
        max_bytes: int, deflated: bool,
    ) -> None:  # fmt: skip
        self._on_message, self._on_control = on_message, on_control
        self.max_bytes, self._deflated = max_bytes, deflated
        self._buffer: bytearray | None = None
        self._need = 2  # bytes before anything more can be said
        self._fragments: list[bytes] | None = None  # of the message that is under way
        self._size = 0
        self._opcode = 0
        self._is_packed = False
        self.held = False

    def feed(self, data: bytes) -> None:
        """Take bytes in. Raises: Violation."""
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._need or self.held:
                return
            data, self._buffer = bytes(self._buffer), None
        position, end = 0, len(data)
        self._need = 2
        while not self.held and end - position >= 2:
            first, second = data[position], data[position + 1]
            size, start = second & 0x7F, position + 6
            if size == 126:
                start += 2
                if end < start:
                    self._need = start - position
                    break
                size = data[position + 2] << 8 | data[position + 3]
                if size < 126:
                    raise Violation(PROTOCOL_ERROR, "a length in more bytes than it needs")
            elif size == 127:
                start += 8
                if end < start:
                    self._need = start - position
                    break
                (size,) = struct.unpack_from(">Q", data, position + 2)
                if size < 65_536 or size >> 63:
                    raise Violation(PROTOCOL_ERROR, "a length in more bytes than it needs")
            if first != 0x81 or second < 0x80 or self._fragments is not None or size > self.max_bytes:
                self._judge(first, second, size)
            if end < start + size:
                self._need = start + size - position
                break
            position = start + size
            payload = bytearray(data[start:position])
            websocket_mask(data[start - 4 : start], payload)
            if first != 0x81:
                self._frame(first, bytes(payload))
            elif payload.isascii():
                self._on_message(TEXT, payload)
            else:
                self._whole(TEXT, bytes(payload))
        if position < end:
            self._buffer = bytearray(data[position:] if position else data)

    def end(self) -> None:
        """Nothing more will come: hand over no message."""
        self._on_message = self._on_control = _ignore

    def _judge(self, first: int, second: int, size: int) -> None:
        """A frame's header, before its payload is waited for."""
        if not second & 0x80:
            raise Violation(PROTOCOL_ERROR, "a frame of a client is masked")
        opcode = first & 0x0F
        if first & 0x30 or (first & 0x40 and (not self._deflated or opcode not in (TEXT, BINARY))):
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode in (CLOSE, PING, PONG):
            if not first & 0x80 or size > 125:
                raise Violation(PROTOCOL_ERROR, "a control frame is whole and has at most 125 bytes")
        elif opcode in (TEXT, BINARY):
            if self._fragments is not None:
                raise Violation(PROTOCOL_ERROR, "a new message before the end of the last one")
            if size > self.max_bytes:
                raise Violation(MESSAGE_TOO_BIG, f"a message has at most {self.max_bytes} bytes")
        elif opcode == CONTINUATION:
            if self._fragments is None:
                raise Violation(PROTOCOL_ERROR, "there is nothing to continue")
            if self._size + size > self.max_bytes or len(self._fragments) >= MAX_FRAGMENTS:
                raise Violation(MESSAGE_TOO_BIG, f"a message has at most {self.max_bytes} bytes")
        else:
            raise Violation(PROTOCOL_ERROR, "an unknown opcode")

    def _frame(self, first: int, payload: bytes) -> None:
        opcode, is_last = first & 0x0F, bool(first & 0x80)
        if opcode >= CLOSE:
            self._on_control(opcode, payload)
            return
        if opcode != CONTINUATION:
            self._opcode, self._is_packed, self._size = opcode, bool(first & 0x40), 0
            self._fragments = []
        assert self._fragments is not None  # noqa: S101 - judged by the header
        self._fragments.append(payload)
        self._size += len(payload)
        if not is_last:
            return
        message, self._fragments = b"".join(self._fragments), None
        self._whole(self._opcode, self._inflated(message) if self._is_packed else message)

    def _whole(self, opcode: int, message: bytes) -> None:
        if opcode == TEXT and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError as error:
                raise Violation(BAD_TEXT, "text is UTF-8") from error
        self._on_message(opcode, message)

    def _inflated(self, message: bytes) -> bytes:
        try:
            unpacker = zlib.decompressobj(-15)
            found = unpacker.decompress(message + _END, self.max_bytes + 1)
        except zlib.error as error:
            raise Violation(BAD_TEXT, "what was compressed cannot be read") from error
        if len(found) > self.max_bytes or unpacker.unconsumed_tail:
            raise Violation(MESSAGE_TOO_BIG, f"a message has at most {self.max_bytes} bytes")
        return found


def _ignore(opcode: int, payload: bytes | bytearray) -> None:
    pass


def close_of(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; code 1005 if it has none. Raises: Violation."""
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise Violation(PROTOCOL_ERROR, "a close code has two bytes")
    (code,) = struct.unpack_from(">H", payload)
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise Violation(PROTOCOL_ERROR, "a close code that must not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError as error:
        raise Violation(BAD_TEXT, "a close reason is UTF-8") from error


# ---- writing ---------------------------------------------------------------------------------------------------------
def header(first: int, size: int) -> bytes:
    """Of a frame of the server. Args: first: its first byte, 0x81 for a whole text message."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return _MEDIUM(first, 126, size)
    return struct.pack(">BBQ", first, 127, size)


def control(opcode: int, payload: bytes) -> bytes:
    """A control frame."""
    return bytes((0x80 | opcode, len(payload))) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut at what fits."""
    raw = reason.encode()
    if len(raw) > 123:
        raw = raw[:123].decode(errors="ignore").encode()
    return control(CLOSE, struct.pack(">H", code) + raw if code != 1005 else b"")


def deflated(message: bytes) -> bytes:
    """A message compressed by itself."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return (packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_END)
