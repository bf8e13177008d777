"""A fake device for tests of the relay: real keys, real records, real headers and signatures, random ciphertext.

`Family` is one space with its devices, `Writer` one log of a device, `Client` a connection, `RelayProcess` a relay in a
process of its own. Everything that is random comes from a seeded generator.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from hybridgw_protocol.auth import endpoint, sign_auth
from hybridgw_protocol.batch import BATCH_HEADER_BYTES, EMPTY_HEAD, Head, batch_hash, encode_header
from hybridgw_protocol.frames import (
    Auth,
    Batches,
    Challenge,
    Credit,
    Ctl,
    CtlGet,
    Err,
    Frame,
    Ping,
    Pong,
    Push,
    PushAck,
    Welcome,
)
from hybridgw_protocol.ids import DeviceId, KeyId, SpaceId, device_id, log_id, space_id
from hybridgw_protocol.invite import INVITE_SECRET_BYTES
from hybridgw_protocol.limits import BATCH_MIN_BYTES, MAX_FRAME_BYTES
from hybridgw_protocol.link import Link, Role
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.records import (
    ROOT,
    Add,
    AnyPayload,
    Expel,
    Genesis,
    LogClose,
    Remove,
    joiner_digest,
    sign_record,
)
from hybridgw_protocol.vectors import Heads, from_entries, to_entries
from hybridgw_relay.services.admission import invite_hash
from hybridgw_relay.stores import admin

F = TypeVar("F", bound=Frame)
ROOT_FOLDER = Path(__file__).resolve().parent.parent
WAIT_S = 30.0
MANY_TRIES = {"RATE_LIMIT_BURST": "1000000", "PAIRING_JOINS_PER_MINUTE": "100000"}  # for relays that tests share


class Keys:
    """Keys of one device, from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self.public, self.secret = crypto_sign_seed_keypair(rng.randbytes(32))
        self.exchange = rng.randbytes(32)

    @property
    def id(self) -> DeviceId:
        return device_id(self.public, self.exchange)


class Family:
    """A space: root keys, its control log, its devices. `first` is seated by genesis."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.root_public, self.root_secret = crypto_sign_seed_keypair(self.rng.randbytes(32))
        self.space: SpaceId = space_id(self.root_public)
        self.control = ControlLog(self.space)
        self.devices: list[Keys] = [Keys(self.rng)]
        self.records: list[bytes] = []
        self._put(
            Genesis(
                space=self.space, prevs=(), by=ROOT, ts=1, root_public=self.root_public,
                root_exchange=self.rng.randbytes(32), sign_public=self.first.public,
                exchange_public=self.first.exchange,
            ),
            self.root_secret,
        )  # fmt: skip

    @property
    def first(self) -> Keys:
        return self.devices[0]

    def seat(self, keys: Keys) -> bytes:
        info = self.control.device(keys.id)
        assert info is not None
        return info.seat

    def _put(self, payload: AnyPayload, secret: bytes) -> bytes:
        raw = sign_record(payload, secret)
        self.control.insert(raw)
        self.records.append(raw)
        return raw

    def add(self, by: Keys | None = None, keys: Keys | None = None) -> Keys:
        """Seat one more device; its record is the last of `records`."""
        adder, joiner = by or self.first, keys or Keys(self.rng)
        prevs, seat = tuple(self.control.signing_heads), self.seat(adder)
        signature = crypto_sign(joiner_digest(self.space, seat, prevs, joiner.id), joiner.secret)[:64]
        self._put(
            Add(
                space=self.space, prevs=prevs, by=seat, ts=2, sign_public=joiner.public,
                exchange_public=joiner.exchange, joiner_sig=signature,
            ),
            adder.secret,
        )  # fmt: skip
        self.devices.append(joiner)
        return joiner

    def remove(self, target: Keys, by: Keys | None = None) -> bytes:
        """The record by which *by* puts *target* out."""
        signer = by or self.first
        prevs = tuple(self.control.signing_heads)
        payload = Remove(space=self.space, prevs=prevs, by=self.seat(signer), ts=3, target=self.seat(target))
        return self._put(payload, signer.secret)

    def expel(self, target: Keys) -> bytes:
        """The record by which root puts *target* out for ever."""
        prevs = tuple(self.control.signing_heads)
        payload = Expel(space=self.space, prevs=prevs, by=ROOT, ts=3, target=self.seat(target), keep=prevs)
        return self._put(payload, self.root_secret)

    def close_log(self, owner: Keys, log: int, head: Head, fork: int) -> bytes:
        """The record by which *owner* closes its log."""
        prevs = tuple(self.control.signing_heads)
        payload = LogClose(
            space=self.space, prevs=prevs, by=self.seat(owner), ts=4, device=owner.id, log=log, n=head.n,
            hash=head.hash, fork=fork,
        )  # fmt: skip
        return self._put(payload, owner.secret)


class Writer:
    """One log of a device: makes batches that chain."""

    def __init__(self, family: Family, keys: Keys, *, seed: int = 0) -> None:
        self.space, self.keys = family.space, keys
        self.rng = random.Random(f"{seed}{keys.id.hex()}")
        self.salt = self.rng.randbytes(32)
        self.log = log_id(keys.id, self.salt)
        self.head = EMPTY_HEAD
        self.blobs: list[bytes] = []

    def make(self, size: int = BATCH_MIN_BYTES, *, n: int | None = None, prev: bytes | None = None) -> bytes:
        """The next batch, of *size* bytes; or one for another place, which leaves the log as it is."""
        number = self.head.n + 1 if n is None else n
        if prev is None:
            prev = self.salt if number == 1 else self.head.hash
        header = encode_header(
            flags=0, space=self.space, device=self.keys.id, log=self.log, n=number, kid=KeyId(b"k" * 8), prev=prev,
            nonce=self.rng.randbytes(24),
        )  # fmt: skip
        unsigned = header + self.rng.randbytes(size - BATCH_HEADER_BYTES - 64)
        digest = batch_hash(unsigned)
        blob = unsigned + crypto_sign(digest, self.keys.secret)[:64]
        if n is None:
            self.head = Head(number, digest)
            self.blobs.append(blob)
        return blob

    def fork(self, at: int) -> Writer:
        """A copy of this log as it was after batch *at*: what a restored backup would write on."""
        other = Writer.__new__(Writer)
        other.space, other.keys, other.salt, other.log = self.space, self.keys, self.salt, self.log
        other.rng = random.Random(self.rng.random())
        other.blobs = self.blobs[:at]
        other.head = self.head_at(at)
        return other

    def batch(self, n: int) -> bytes:
        """Batch *n* of this log."""
        return self.blobs[n - 1]

    def head_at(self, n: int) -> Head:
        """The end of the log as it was after batch *n*."""
        return Head(n, batch_hash(self.blobs[n - 1][:-64])) if n else EMPTY_HEAD

    def make_many(self, count: int, size: int = BATCH_MIN_BYTES) -> list[bytes]:
        return [self.make(size) for _ in range(count)]


class Closed(Exception):
    """The relay closed. `code` is that of its last error frame, '' if there was none."""

    def __init__(self, code: str, message: str, retry: int, close_code: int | None) -> None:
        super().__init__(f"{code} {message} ({close_code})")
        self.code, self.message, self.retry, self.close_code = code, message, retry, close_code


class Client:
    """One connection to a relay."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, url: str) -> None:
        self.socket, self.url = socket, url
        self.link = Link(Role.CLIENT)
        self.challenge: Challenge | None = None
        self.welcome: Welcome | None = None
        self.have: Heads = {}
        self.inbox: list[tuple[Frame, int]] = []
        self.received: list[bytes] = []  # batches, in the order they came

    # ---- life ----
    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, **options: object) -> AsyncIterator[Client]:
        """A connection with its challenge read."""
        connector = aiohttp.TCPConnector(ssl=False) if url.startswith("https") else None
        async with aiohttp.ClientSession(connector=connector) as session:
            target = url.replace("http", "ws", 1) + "/hgw/1"
            settings = {"max_msg_size": MAX_FRAME_BYTES + 1, "compress": 0, **options}
            async with session.ws_connect(target, **settings) as socket:
                client = cls(socket, url)
                client.challenge = await client.expect(Challenge)
                yield client

    @classmethod
    @contextlib.asynccontextmanager
    async def admitted(cls, url: str, family: Family, keys: Keys, **options: object) -> AsyncIterator[Client]:
        """A connection of a device that was let in."""
        async with cls.connect(url) as client:
            await client.authenticate(family, keys, **options)  # type: ignore[arg-type]
            yield client

    def auth(
        self, family: Family, keys: Keys, *, enrol: bytes = b"", have: Heads | None = None,
        ctl: list[bytes] | None = None, sub: bool = True, ep: str | None = None,
    ) -> Auth:  # fmt: skip
        """A signed auth frame."""
        assert self.challenge is not None
        frame = Auth(
            v=1, sp=family.space, pk=keys.public + keys.exchange, nc=family.rng.randbytes(32),
            ep=endpoint(self.url) if ep is None else ep, sig=bytes(64), t=0, vv=to_entries(have or {}),
            ctl=family.control.short_heads if ctl is None else ctl, sub=sub, enrol=enrol,
        )  # fmt: skip
        frame.sig = sign_auth(self.challenge, frame, keys.secret)
        return frame

    async def authenticate(
        self, family: Family, keys: Keys, *, records: list[bytes] | None = None, **options: object
    ) -> Welcome:
        """From auth to welcome; gives the control records when asked."""
        frame = self.auth(family, keys, **options)  # type: ignore[arg-type]
        self.have = from_entries(frame.vv)
        await self.send(frame)
        while True:
            answer, request = await self.receive()
            if isinstance(answer, CtlGet):
                missing = family.control.missing_from(answer.heads) if records is None else records
                await self.send(Ctl(recs=missing), request)
            elif isinstance(answer, Welcome):
                self.welcome = answer
                return answer

    def break_off(self) -> None:
        """Be gone without a word."""
        end = self.socket.get_extra_info("socket")
        if end is not None and end.fileno() >= 0:  # else the other side was first
            with socket.socket(fileno=os.dup(end.fileno())) as own, contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)

    # ---- frames ----
    async def send(self, frame: Frame, request: int = 0) -> None:
        self.link.send(frame, request=request)
        await self.flush()

    async def ask(self, frame: Frame) -> int:
        request = self.link.ask(frame)
        await self.flush()
        return request

    async def flush(self) -> None:
        for data in self.link.data_to_send():
            await self.socket.send_bytes(data)

    async def send_raw(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def receive(self) -> tuple[Frame, int]:
        """The next frame; pings are answered. Raises: Closed."""
        last = Closed("", "", 0, None)
        while True:
            async with asyncio.timeout(WAIT_S):
                message = await self.socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                last.close_code = self.socket.close_code
                raise last
            frame, request = self.link.receive(message.data)
            if isinstance(frame, Err) and request == 0:
                last = Closed(frame.code, frame.msg, frame.retry, None)
            elif isinstance(frame, Ping):
                await self.send(Pong(t=frame.t), request)
            elif isinstance(frame, Batches):
                self.received += frame.b
                self.link.stored(len(message.data))
                await self.flush()
                return frame, request
            elif not isinstance(frame, Credit | Pong):
                return frame, request

    async def expect(self, kind: type[F], request: int | None = None) -> F:
        """The next frame of a kind; others are kept in `inbox`. Raises: Closed."""
        for index, (frame, its) in enumerate(self.inbox):
            if isinstance(frame, kind) and request in (None, its):
                del self.inbox[index]
                return frame
        while True:
            frame, its = await self.receive()
            if isinstance(frame, kind) and request in (None, its):
                return frame
            self.inbox.append((frame, its))

    async def refused(self) -> Closed:
        """Wait until the relay closes; what it said."""
        try:
            while True:
                await self.receive()
        except Closed as closed:
            return closed

    async def push(self, blobs: Iterable[bytes]) -> PushAck:
        """Push and wait for the acknowledgement."""
        return await self.expect(PushAck, await self.ask(Push(b=list(blobs))))

    async def push_refused(self, blobs: Iterable[bytes]) -> tuple[PushAck | None, Err]:
        """Push something that is refused: the acknowledgement of what came before it, and the error."""
        request = await self.ask(Push(b=list(blobs)))
        error = await self.expect(Err, request)
        acks = [frame for frame, its in self.inbox if isinstance(frame, PushAck) and its == request]
        return (acks[0] if acks else None), error

    async def caught_up(self) -> list[bytes]:
        """All batches up to the next frame whose `more` is false; the batches so far."""
        while (await self.expect(Batches)).more:
            pass
        return self.received


class RelayProcess:
    """`hybridgw-relay serve` in its own process, on a port of its own choice."""

    program = (sys.executable, "-m", "hybridgw_relay")

    def __init__(self, data: Path, *arguments: str, environment: dict[str, str] | None = None, port: int = 0) -> None:
        self.data, self.arguments, self.port = data, arguments, port
        self.environment = {**os.environ, "PYTHONWARNINGS": "error", **(environment or {})}
        self.log = data.parent / f"{data.name}.log"
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> RelayProcess:
        """Start, and wait until it listens."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.program, "serve", "--data", str(self.data), "--host", "127.0.0.1", "--port", str(self.port),
                 *self.arguments],
                cwd=self.data.parent, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"https?://\S+?(?=,? )", line)
        if not found:
            raise AssertionError(f"the relay did not start: {line}\n{self.log.read_text()}")
        self.url = found.group()
        self.port = urlsplit(self.url).port or self.port  # a restart listens where clients look for it
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait, return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=WAIT_S)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def kill(self) -> None:
        """As the power would."""
        self.stop(signal.SIGKILL)

    def command(
        self, *arguments: str, check: bool = True, before: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """An administrator's command on the same data. Args: before: called in the child."""
        return subprocess.run(
            [*self.program, *arguments, "--data", str(self.data)], capture_output=True, text=True, check=check,
            env=self.environment, timeout=WAIT_S * 3, preexec_fn=before,
        )  # fmt: skip

    def invite(
        self, account: str = "tests", *, max_bytes: int | None = None, max_devices: int | None = None,
        now_ms: int | None = None, hours: float = 1,
    ) -> bytes:  # fmt: skip
        """The secret of a new invite; made as the command makes it, without its start-up."""
        secret = os.urandom(INVITE_SECRET_BYTES)
        made_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        with admin.opened(self.data / "relay.db", stamp="test", must_exist=False) as database:
            database.write_now(
                lambda tx: admin.create_invite(
                    tx,
                    account,
                    invite_hash(secret),
                    now_ms=made_ms,
                    expires_ms=made_ms + int(hours * 3_600_000),
                    max_bytes=max_bytes,
                    max_devices=max_devices,
                    default_bytes=2**30,
                    default_devices=32,
                )
            )
        return secret

    def rss_bytes(self) -> int:
        """Resident memory now."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> RelayProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()


def wait_until(condition: object, seconds: float = WAIT_S) -> None:
    """Poll a callable until it is true."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
