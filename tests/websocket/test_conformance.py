"""RFC 6455 and 7692: what an independent client library and raw bytes see of our own implementation."""

from __future__ import annotations

import json
import struct
import zlib

import msgspec
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from hybridgw_daemon.transports.local import websocket
from hybridgw_protocol import localapi_frames as frames
from tests.integration._local_api import TOKEN, Api
from tests.websocket._client import connected, frame, opened, text

PING = {"type": "heartbeat"}


@pytest.mark.spec("G2")
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_spec_G2_another_client_library(api: Api, compression: str | None) -> None:
    url = f"ws://127.0.0.1:{api.port}/ws/local_install/other"
    async with connect(url, subprotocols=["hybridgw.v1.json"], compression=compression) as ws:
        assert ws.subprotocol == "hybridgw.v1.json"
        assert [str(e.name) for e in ws.protocol.extensions] == (["permessage-deflate"] if compression else [])
        await ws.send(json.dumps({"type": "auth", "token": TOKEN}))
        assert json.loads(await ws.recv())["type"] == "auth_ok"
        big = "äöü " * 20_000
        for number, part in enumerate((big, "small", big)):  # no context is carried from one to the next
            params = {"collection": "notes", "id": f"n{number}", "data": {"x": part[:30_000]}}
            await ws.send(json.dumps({"type": "command", "id": number, "command": "data.put", "params": params}))
            assert json.loads(await ws.recv())["result"]["data"] == {"x": part[:30_000]}
        command = json.dumps({"type": "command", "id": 9, "command": "data.list", "params": {"collection": "notes"}})
        await ws.send([command[:7], command[7:8], "", command[8:]])  # four fragments
        assert len(json.loads(await ws.recv())["result"]["items"]) == 3
        await (await ws.ping(b"are you there"))
    assert (ws.close_code, ws.protocol.close_sent.code) == (1000, 1000)  # type: ignore[union-attr]


async def test_spec_G2_the_packed_form_with_another_client_library(api: Api) -> None:
    url = f"ws://127.0.0.1:{api.port}/ws/local_install/other"
    async with connect(url, subprotocols=["unknown.v9", "hybridgw.v1.msgpack"]) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "hybridgw.v1.msgpack"
        await ws.send(msgspec.msgpack.encode({"type": "auth", "token": TOKEN}))
        assert msgspec.msgpack.decode(await ws.recv())["type"] == "auth_ok"
        await ws.send("text on a binary connection")
        assert msgspec.msgpack.decode(await ws.recv())["code"] == "bad_value"


async def test_spec_G2_no_subprotocol_means_json_and_an_unknown_one_is_not_chosen(api: Api) -> None:
    async with opened(api, more="Sec-WebSocket-Protocol: chat, superchat\r\n") as raw:
        assert b"sec-websocket-protocol" not in raw.head.lower()
        raw.writer.write(text(PING))
        assert json.loads((await raw.read())[1])["type"] == "heartbeat_ack"


async def test_the_key_of_the_handshake(api: Api) -> None:
    lines, protocol, packed = websocket.handshake(
        {
            "Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
        frames.PROTOCOLS,
    )  # fmt: skip
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in lines  # the example of RFC 6455, 1.3
    assert (protocol, packed) == (None, False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upgrade": "websocket"}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade"}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "8"}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}, 400),
        (
            {
                "Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
                "Sec_WebSocket_Key": "short",
            },
            400,
        ),
        ({}, 426),
    ],
)  # fmt: skip
async def test_a_handshake_that_is_none(api: Api, headers: dict[str, str], status: int) -> None:
    got = await api.call("GET", "/ws/web_app/x", **headers)
    assert got.status == status
    if status == 426:
        assert got.headers["Upgrade"] == "websocket"
        assert got.headers["Sec-WebSocket-Version"] == "13"


VIOLATIONS = {
    "a frame without a mask": (frame(1, b"{}", mask=False), 1002),
    "reserved bit 1 without compression": (frame(1, b"{}", first=0xC0), 1002),
    "reserved bit 2": (frame(1, b"{}", first=0xA0), 1002),
    "reserved bit 3": (frame(1, b"{}", first=0x90), 1002),
    "a reserved bit of a control frame": (frame(9, b"", first=0xC0), 1002),
    "an unknown opcode": (frame(3, b""), 1002),
    "an unknown control opcode": (frame(11, b""), 1002),
    "a ping in fragments": (frame(9, b"", first=0), 1002),
    "a ping of 126 bytes": (frame(9, b"x" * 126), 1002),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "a message within a message": (frame(1, b"{", first=0) + frame(1, b"}"), 1002),
    "an empty message within a message": (frame(1, b"", first=0) + frame(1, b"{}"), 1002),
    "a long length that is short": (struct.pack(">BBHI", 0x81, 0xFE, 5, 0) + b"hello", 1002),
    "a longer length that is short": (struct.pack(">BBQI", 0x81, 0xFF, 500, 0), 1002),
    "a negative length": (struct.pack(">BBQI", 0x81, 0xFF, 2**63, 0), 1002),
    "text that is not UTF-8": (frame(1, b'{"type":"\xff"}'), 1007),
    "text that is cut within a character": (frame(1, '"é"'.encode()[:2]), 1007),
    "text that is not UTF-8 over fragments": (frame(1, b'{"a":"\xc3', first=0) + frame(0, b'("}'), 1007),
    "a surrogate": (frame(1, b'"\xed\xa0\x80"'), 1007),
    "a message of 1 MiB and a byte": (frame(1, b"", size=2**20 + 1)[:14], 1009),
    "fragments of 1 MiB and a byte": (frame(1, b"[", first=0) + frame(0, b"", size=2**20)[:14], 1009),
    "a close of one byte": (frame(8, b"\x03"), 1002),
    "a close code that must not be sent": (frame(8, struct.pack(">H", 1006)), 1002),
    "a close code below all": (frame(8, struct.pack(">H", 999)), 1002),
    "a close reason that is not UTF-8": (frame(8, struct.pack(">H", 1000) + b"\xff"), 1007),
}


@pytest.mark.parametrize("what", VIOLATIONS)
async def test_sec_L22_what_breaks_the_protocol_is_closed_with_its_code(api: Api, what: str) -> None:
    data, code = VIOLATIONS[what]
    async with connected(api, "bystander") as other, opened(api) as raw:
        raw.writer.write(data)
        assert await raw.close_code() == code
        raw.writer.write(frame(8, struct.pack(">H", code)))
        assert await raw.reader.read() == b""  # the connection ends
        await other.do("health")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 2**20 - 100])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_messages_of_every_length_in_pieces(size: int, step: int) -> None:
    if step < 100 < size // 1_000:
        size = 70_000
    got: list[tuple[int, bytes]] = []
    reader = websocket.Reader(
        lambda opcode, payload: got.append((opcode, payload)), lambda opcode, payload: got.append((opcode, payload)),
        max_bytes=2**20, deflated=False,
    )  # fmt: skip
    data = frame(2, b"x" * size) + frame(9, b"p") + frame(1, b"tail")
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    assert got == [(2, b"x" * size), (9, b"p"), (1, b"tail")]


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 4)), max_size=8), st.integers(1, 50))
def test_any_messages_in_any_fragments_and_pieces(messages: list[tuple[bytes, int]], step: int) -> None:
    data = b""
    for payload, parts in messages:
        size = len(payload) // parts + 1
        pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
        for index, piece in enumerate(pieces):
            data += frame(2 if index == 0 else 0, piece, first=0x80 if index == len(pieces) - 1 else 0)
            data += frame(10, b"pong")  # control frames may stand between fragments
    got: list[bytes] = []
    reader = websocket.Reader(lambda _, payload: got.append(payload), lambda *_: None, max_bytes=400, deflated=False)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    assert got == [payload for payload, _ in messages]


async def test_a_ping_is_answered_with_what_it_said(api: Api) -> None:
    async with opened(api) as raw:
        for payload in (b"", b"x" * 125):
            raw.writer.write(frame(9, payload))
            assert await raw.read() == (0x8A, payload)
        raw.writer.write(frame(10, b"a pong nobody asked for") + text(PING))
        assert json.loads((await raw.read())[1])["type"] == "heartbeat_ack"


@pytest.mark.parametrize("payload", [b"", struct.pack(">H", 1000), struct.pack(">H", 4999) + "Grüße".encode()])
async def test_a_close_is_answered_and_nothing_follows(api: Api, payload: bytes) -> None:
    async with opened(api) as raw:
        raw.writer.write(frame(8, payload) + text(PING))
        first, answer = await raw.read()
        assert (first, answer[:2]) == (0x88, payload[:2])
        assert await raw.reader.read() == b""


async def test_bytes_that_come_with_the_handshake_count(api: Api) -> None:
    """A client that does not wait for the 101."""
    head = (
        f"GET /ws/web_app/eager HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    sent = head.encode() + text({"type": "auth", "token": TOKEN}) + text(PING) + frame(8, b"")
    got = await api.send(sent)
    assert got.startswith(b"HTTP/1.1 101 ")
    assert b'"auth_ok"' in got
    assert b'"heartbeat_ack"' in got


def test_compressed_messages_and_bombs() -> None:
    got: list[bytes] = []
    reader = websocket.Reader(lambda _, payload: got.append(payload), lambda *_: None, max_bytes=2**20, deflated=True)
    reader.feed(frame(1, websocket.deflated(b"x" * 2**20), first=0xC0))
    reader.feed(frame(1, b"plain"))
    half = websocket.deflated(b"y" * 5_000)
    reader.feed(frame(1, half[:5], first=0x40) + frame(0, half[5:]))
    assert got == [b"x" * 2**20, b"plain", b"y" * 5_000]
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = bomb.compress(b"\0" * 2**26) + bomb.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(websocket.Violation) as caught:
        reader.feed(frame(1, raw, first=0xC0))
    assert caught.value.code == 1009
    reader = websocket.Reader(lambda *_: None, lambda *_: None, max_bytes=2**20, deflated=True)
    with pytest.raises(websocket.Violation) as caught:
        reader.feed(frame(1, b"\xff\xff\xff\xff", first=0xC0))
    assert caught.value.code == 1007


async def test_spec_G1_a_close_code_of_ours_reaches_the_library(api: Api) -> None:
    async with connect(f"ws://127.0.0.1:{api.port}/ws/toaster/x") as ws:
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 4404
        assert "web_app" in str(ws.close_reason)
