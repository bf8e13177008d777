"""Bytes of the WebSocket that are written by hand, and whose address counts."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from hybridgw_relay.transports.address import client_address
from hybridgw_relay.transports.ws import binary_header, close_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 2**20])
def test_binary_headers(size: int) -> None:
    """RFC 6455, 5.2: FIN and opcode 2, no mask, the shortest length."""
    header = binary_header(size)
    assert header[0] == 0x82
    if size < 126:
        assert header[1:] == bytes([size])
    elif size < 65_536:
        assert header[1:] == b"\x7e" + struct.pack(">H", size)
    else:
        assert header[1:] == b"\x7f" + struct.pack(">Q", size)


def test_close_frames_are_short() -> None:
    frame = close_frame(1008, "x" * 500)
    assert frame[0] == 0x88
    assert frame[1] == len(frame) - 2 <= 125
    assert frame[2:4] == struct.pack(">H", 1008)


@pytest.mark.parametrize(
    ("forwarded", "trusted", "address"),
    [
        (None, False, "10.0.0.9"), ("192.0.2.1", False, "10.0.0.9"), ("192.0.2.1", True, "192.0.2.1"),
        ("1.2.3.4, 192.0.2.1", True, "192.0.2.1"), ("192.0.2.1, 10.0.0.9", True, "192.0.2.1"), ("", True, "10.0.0.9"),
        (", ,", True, "10.0.0.9"), ("x" * 500, True, "x" * 64),
    ],
)  # fmt: skip
def test_whose_address_counts(forwarded: str | None, trusted: bool, address: str) -> None:
    headers: dict[str, Any] = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="10.0.0.9")
    assert client_address(request, frozenset({"10.0.0.9"} if trusted else ())) == address
