"""What hostile or broken clients do to a relay: each gets one clear answer, and the others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from hybridgw_protocol.frames import Batches, CtlPut, FrameType, Ping, Pong, Push, Want, encode_frame
from hybridgw_protocol.limits import CREDIT_START_BYTES, MAX_FRAME_BYTES
from tests.relay_client import MANY_TRIES, WAIT_S, Client, Family, RelayProcess, Writer

seeds = itertools.count(3_000)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    folder = tmp_path_factory.mktemp("relay")
    with RelayProcess(folder / "data", "--public-url", "http://relay.example.com", environment=MANY_TRIES) as running:
        yield running


@pytest.fixture
def family() -> Family:
    return Family(next(seeds))


async def still_serves(relay: RelayProcess, family: Family) -> None:
    """The relay takes a push and passes it on."""
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        await client.push([Writer(family, family.first, seed=next(seeds)).make()])


# ---- frames ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x00", b"\xc1", b"\x93", b"\x93\x10\x00", encode_frame(Ping())[:-1], b"\x93\x55\x00\x80",
        b"\x93\x10\x00\x81\xa1b\xdd\xff\xff\xff\xff", b"\x93\x10\x00\x81\xa1b\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000, b"\x93\x10\xff\x81\xa1b\x90", b"\x93\x7d\x00\x81\xa1t\xa1x", b"[1,2,{}]",
        b"\x93\x10\x00\x81\xa1b\xdc\x04\x01" + b"\xc4\x00" * 1025,
    ],
    ids=range(14),
)  # fmt: skip
async def test_sec_R6_bytes_that_are_no_frame(relay: RelayProcess, family: Family, raw: bytes) -> None:
    async with Client.connect(relay.url) as stranger:
        await stranger.send_raw(raw)
        assert (await stranger.refused()).code == "bad_frame"
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as member:
        await member.send_raw(raw)
        assert (await member.refused()).code == "bad_frame"


async def test_sec_R6_flipped_bits_never_hurt_anybody_else(relay: RelayProcess, family: Family) -> None:
    """Every kind of frame with random damage: the connection may end, the relay goes on."""
    rng = random.Random(11)
    writer = Writer(family, family.first)
    frames = [
        encode_frame(Push(b=[writer.make()]), 1), encode_frame(Want(vv=[]), 2), encode_frame(Ping(t=3), 3),
        encode_frame(CtlPut(recs=family.records), 4),
    ]  # fmt: skip
    secret = relay.invite()
    for _ in range(60):
        async with Client.admitted(relay.url, family, family.first, enrol=secret) as client:
            raw = bytearray(rng.choice(frames))
            for _ in range(rng.randrange(1, 4)):
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            await client.send_raw(bytes(raw[: rng.randrange(1, len(raw) + 1)]))
            await client.ask(Ping(t=1))
    await still_serves(relay, Family(next(seeds)))
    assert "Traceback" not in relay.log.read_text()


async def test_sec_R6_text_is_no_frame(relay: RelayProcess) -> None:
    async with Client.connect(relay.url) as client:
        await client.socket.send_str('{"type":"auth"}')
        assert (await client.refused()).code == "bad_frame"


async def test_sec_R6_a_frame_above_the_limit_is_cut_off_unread(relay: RelayProcess) -> None:
    async with Client.connect(relay.url) as client:
        await client.socket.send_bytes(bytes(MAX_FRAME_BYTES + 2))
        closed = await client.refused()
        assert (closed.code, closed.close_code) == ("", 1009)


async def test_a_frame_of_exactly_the_limit_is_read(relay: RelayProcess, family: Family) -> None:
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        await client.caught_up()
        start = b"\x93\x7d\x09\x82\xa1t\x05\xa1x\xc6"  # ping 9 {t: 5, x: <bytes, unknown here>}
        size = MAX_FRAME_BYTES - len(start) - 4
        await client.send_raw(start + size.to_bytes(4, "big") + bytes(size))
        message = await client.socket.receive()
        assert client.link.receive(message.data) == (Pong(t=5), 9)


async def test_sec_P6_sec_R6_a_length_that_is_a_lie_costs_no_memory(relay: RelayProcess, family: Family) -> None:
    """A WebSocket header that promises an exabyte."""
    parts = urlsplit(relay.url)
    before = relay.rss_bytes()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        b"GET /hgw/1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(struct.pack(">BBQ4s", 0x82, 0xFF, 2**60, b"mask"))
    async with asyncio.timeout(WAIT_S):
        while await reader.read(65_536):
            pass
    writer.close()
    assert relay.rss_bytes() - before < 16 * 2**20
    await still_serves(relay, family)


async def test_frames_that_only_a_relay_sends_are_refused(relay: RelayProcess, family: Family) -> None:
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        await client.send_raw(encode_frame(Batches(b=[])))
        assert (await client.refused()).code == "bad_frame"


# ---- flow ------------------------------------------------------------------------------------------------------------
async def test_the_credit_of_what_is_refused_comes_back(relay: RelayProcess, family: Family) -> None:
    """A client that reads the answers never runs dry, though nothing of it can be stored."""
    writer = Writer(family, family.first)
    secret = relay.invite("nothing", max_bytes=1)
    blobs = [writer.make(200_000) for _ in range(4)]
    async with Client.admitted(relay.url, family, family.first, enrol=secret) as client:
        for _ in range(2 * CREDIT_START_BYTES // 800_000):
            _, error = await client.push_refused(blobs)
            assert error.code == "quota"


async def test_sec_R16_a_slow_reader_is_not_buffered_for(relay: RelayProcess, family: Family) -> None:
    """It gives credit for gigabytes and reads nothing: the relay keeps little for it, and others are served."""
    second = family.add()
    writer = Writer(family, family.first)
    secret = relay.invite()
    async with Client.admitted(relay.url, family, family.first, enrol=secret) as pusher:
        for _ in range(48):
            await pusher.push([writer.make(256 * 1024) for _ in range(2)])
    before = relay.rss_bytes()
    async with Client.connect(relay.url) as slow:
        slow.socket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        frame = slow.auth(family, second)
        await slow.send(frame)
        await slow.send_raw(encode_frame(Ping(t=1)))
        for _ in range(8):
            await slow.send_raw(b"\x93\x14\x00\x81\xa1n\xce\x7f\xff\xff\xff")  # credit
        async with Client.admitted(relay.url, family, second) as quick:
            await quick.caught_up()
            assert quick.received == writer.blobs
        assert relay.rss_bytes() - before < 24 * 2**20
        slow.socket._response.connection.transport.abort()  # type: ignore[union-attr]


async def test_an_application_ping_is_answered_at_once(relay: RelayProcess, family: Family) -> None:
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
        await client.send(Ping(t=77), request=9)
        message = await client.socket.receive()
        while message.data[1] != FrameType.PONG:
            message = await client.socket.receive()
        frame, request = client.link.receive(message.data)
        assert (frame, request) == (Pong(t=77), 9)


# ---- floods ----------------------------------------------------------------------------------------------------------
async def test_sec_R16_refused_attempts_shut_a_network_out_for_a_while(
    tmp_path_factory: pytest.TempPathFactory, family: Family
) -> None:
    strict = {"RATE_LIMIT_BURST": "3", "RATE_LIMIT_PER_MINUTE": "1"}
    with RelayProcess(tmp_path_factory.mktemp("strict") / "data", environment=strict) as relay:
        async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as member:
            for _ in range(3):
                async with Client.connect(relay.url) as client:
                    await client.send(client.auth(family, family.first, ep="host:elsewhere"))
                    assert (await client.refused()).code == "auth"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with Client.connect(relay.url):
                    pass
            assert caught.value.status == 429
            assert caught.value.headers is not None
            assert int(caught.value.headers["Retry-After"]) > 0
            await member.push([Writer(family, family.first).make()])  # who was let in before is not touched


async def test_sec_R16_connections_are_bounded(tmp_path_factory: pytest.TempPathFactory, family: Family) -> None:
    few = {"WS_MAX_CONNECTIONS": "2"}
    with RelayProcess(tmp_path_factory.mktemp("few") / "data", environment=few) as relay:
        async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as member:
            async with Client.connect(relay.url):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    async with Client.connect(relay.url):
                        pass
                assert caught.value.status == 503
            await member.push([Writer(family, family.first).make()])
            while True:  # the place is free again once the other is gone
                try:
                    async with Client.connect(relay.url):
                        break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_sec_R16_a_connection_that_never_asks_for_anything_is_cut(relay: RelayProcess) -> None:
    parts = urlsplit(relay.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /hgw/1 HT")
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "chrome-extension://abc"])
async def test_sec_L6_a_web_page_cannot_connect(relay: RelayProcess, origin: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(relay.url + "/hgw/1", origin=origin)
        assert caught.value.status == 403


async def test_sec_R18_every_other_path_says_nothing(relay: RelayProcess) -> None:
    async with aiohttp.ClientSession() as session:

        async def get(path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
            async with session.request(method, relay.url + path) as answer:
                return answer.status, await answer.text(), dict(answer.headers)

        status, text, headers = await get("/health")
        assert (status, text) == (200, '{"status": "ok"}')
        assert headers["Server"] == "hybridgw"
        assert (await get("/health/ready"))[:2] == (200, '{"status": "ok"}')
        status, text, _ = await get("/")
        assert status == 200
        assert "hybridgw relay add" in text
        for path in ("/metrics", "/hgw/2", "/admin", "/accounts", "/openapi.json", "/health/x", "/%2e%2e/etc/passwd"):
            assert (await get(path))[:2] == (404, "404\n"), path
        assert (await get("/health", "POST"))[0] == 405
        assert (await get("/hgw/1"))[0] == 426
