"""A relay that shares no code with ours, in memory, after "Relay" and "Link" of protocol/SPEC.md.

It admits by invite, checks and stores batches and control records, streams them with credit, lends mailboxes to
pairings, and passes messages on. It keeps nothing on disk, knows no quotas, no people and no root, and keeps no
evidence of forks. It runs on a loop of its own, in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import threading
import time
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.architecture import _reader as reader
from tests.architecture._reader_control_log import BadSignature, Reader
from tests.architecture._reader_frames import read_frame
from tests.e2e.second_device import NUMBERS, pack
from tests.e2e.second_records import Records

FRAME_BYTES, FRAME_BATCHES, CREDIT_BYTES = 512 * 1024, 1024, 4 * 1024 * 1024


class No(Exception):
    """What is refused, by its code."""


class Space:
    """What a relay stores of one."""

    def __init__(self, control: Records) -> None:
        self.control = control
        self.blobs: list[bytes] = []  # in the order of their arrival
        self.logs: dict[int, list[bytes]] = {}
        self.connections: set[Connection] = set()
        self.mail: dict[bytes, dict[bytes, bytes]] = {}  # recipient -> sender and message id -> envelope

    def store(self, blob: bytes) -> int:
        """Check one batch, and keep it. Returns its log. Raises: No."""
        try:
            header = reader.read_header(blob)
        except reader.Refused as error:
            raise No("bad_frame") from error
        sign_public = self.control.sign_public(header.device)
        if sign_public is None:
            raise No("gap")
        try:
            reader.check_signature(blob, sign_public)
        except reader.Refused as error:
            raise No("bad_signature") from error
        chain = self.logs.setdefault(header.log, [])
        if header.space != self.control.log.space or (chain and reader.read_header(chain[0]).device != header.device):
            raise No("bad_frame")
        if header.n <= len(chain):
            if chain[header.n - 1][:-64] != blob[:-64]:
                raise No("fork")
            return header.log  # it was here
        if header.n > len(chain) + 1:
            raise No("gap")
        if chain and header.prev != reader.batch_hash(chain[-1]):
            raise No("fork")
        chain.append(blob)
        self.blobs.append(blob)
        return header.log

    def vector(self, logs: set[int] | None = None) -> list[list[object]]:
        """Heads of these logs, or of all."""
        named = sorted(log for log, chain in self.logs.items() if chain and (logs is None or log in logs))
        return [[log, len(self.logs[log]), reader.batch_hash(self.logs[log][-1])[:16]] for log in named]


class Connection:
    """One WebSocket."""

    def __init__(self, relay: SecondRelay, socket: ServerConnection) -> None:
        self.relay, self._socket = relay, socket
        self.device = b""
        self.space: Space | None = None
        self.other: Connection | None = None  # of a pairing
        self._have: dict[int, int] = {}  # log -> n that the client holds
        self._next, self._credit, self._owes_end = 0, CREDIT_BYTES, True
        self._mailed: set[bytes] = set()

    async def send(self, name: str, answer: int = 0, **fields: object) -> int:
        data = pack([NUMBERS[name], answer, fields])
        await self._socket.send(data)
        return len(data)

    async def receive(self) -> tuple[str, int, dict, int]:
        while True:
            data = await self._socket.recv()
            assert isinstance(data, bytes)
            name, request, fields = read_frame(data)
            if name == "ping":
                await self.send("pong", request, t=fields["t"])
            elif name != "pong":
                return name, request, fields, len(data)

    async def serve(self) -> None:
        """From the challenge to the end."""
        try:
            await self._greet()
            while self.space is not None:
                await self._take(self.space, *await self.receive())
        except No as no:
            await self.send("err", code=no.args[0], msg="See protocol/SPEC.md.")
        finally:
            if self.space is not None:
                self.space.connections.discard(self)
            if self.other is not None:
                await self.close_pairing("gone")

    # ---- [Authentication], [Admission] -------------------------------------------------------------------------------
    async def _greet(self) -> None:
        nonce = os.urandom(32)
        await self.send("challenge", v=[1, 1], ns=nonce, role="relay", t=time.time_ns() // 1_000_000)
        name, request, auth, _ = await self.receive()
        if name == "pair_join":
            await self._join(auth["np"], request)
            return
        if name != "auth":
            raise No("bad_frame")
        if auth["v"] != 1:
            raise No("version")
        said = [
            "hgw-auth-c", [1, 1], 1, "relay", nonce, auth["nc"], auth["ep"], auth["sp"], auth["pk"], b"", auth["ctl"],
            auth["caps"], auth["enrol"],
        ]  # fmt: skip
        try:
            if auth["ep"] != self.relay.endpoint:
                raise No("auth")
            Reader.verify(auth["sig"], reader.blake(pack(said), 32, "hgw-auth"), auth["pk"][:32])
        except BadSignature as error:
            raise No("auth") from error
        self.device = reader.blake(auth["pk"], 16, "hgw-dev")
        space = await self._admit(auth)
        self.space = space
        space.connections.add(self)
        self._have = {int(log): n for log, n, _ in auth["vv"]}
        await self.send(
            "welcome", sid="second", t=time.time_ns() // 1_000_000, vv=space.vector(), ctl=space.control.short_heads
        )
        await self.stream()
        await self.deliver()

    async def _admit(self, auth: dict) -> Space:
        """Raises: No."""
        space = self.relay.spaces.get(auth["sp"])
        if space is None:
            if auth["enrol"] not in self.relay.invites:
                raise No("not_admitted")
            records = await self._fetch([])
            control = Records.from_genesis(records[0])
            control.take(records)
            if control.log.space != auth["sp"] or not control.active_seats(self.device):
                raise No("not_admitted")
            self.relay.invites.discard(auth["enrol"])
            space = self.relay.spaces[auth["sp"]] = Space(control)
        elif not space.control.short.issuperset(auth["ctl"]):
            known = space.control.sign_public(self.device) is not None
            records = await self._fetch(space.control.short_heads if known else [])
            tried = Records.from_genesis(next(iter(space.control.raws.values())))
            tried.take([*space.control.raws.values(), *records])
            if tried.active_seats(self.device):
                await self._news(space, records)
        if space.control.sign_public(self.device) is None:
            raise No("not_admitted")
        if not space.control.active_seats(self.device):
            raise No("revoked")
        return space

    async def _fetch(self, heads: list[bytes]) -> list[bytes]:
        records: list[bytes] = []
        await self.send("ctl_get", 1, heads=heads)
        while True:
            name, _, fields, _ = await self.receive()
            if name != "ctl":
                raise No("bad_frame")
            records += fields["recs"]
            if not fields["more"]:
                return records

    # ---- [Batches], [Control records], [Mail] ------------------------------------------------------------------------
    async def _take(self, space: Space, name: str, request: int, fields: dict, size: int) -> None:
        """One frame of a connection that is welcome. Raises: No."""
        match name:
            case "push":
                await self._push(space, request, fields["b"], size)
            case "want":
                self._have, self._next, self._owes_end = {int(log): n for log, n, _ in fields["vv"]}, 0, True
                await self.stream()
            case "credit":
                self._credit += fields["n"]
                await self.stream()
            case "ctl_get":
                await self.send("ctl", request, recs=space.control.missing_from(fields["heads"]))
            case "ctl_put":
                await self._news(space, fields["recs"])
                await self.send("ctl_ack", request, heads=space.control.short_heads)
            case "msg_put":
                await self._put_mail(space, request, fields["m"])
            case "msg_done":
                for key in fields["ids"]:
                    space.mail.get(self.device, {}).pop(key, None)
            case "pair_open":
                plate = random.choice([p for p in range(1000) if p not in self.relay.mailboxes])
                self.relay.mailboxes[plate] = self
                await self.send("pair_opened", request, np=plate, ttl=600_000)
            case "pair_msg" if self.other is not None:
                await self.other.send("pair_msg", m=fields["m"])
            case "pair_close":
                await self.close_pairing(fields["why"])
            case _:
                raise No("bad_frame")

    async def _push(self, space: Space, request: int, blobs: list[bytes], size: int) -> None:
        if not space.control.active_seats(self.device):
            raise No("revoked")
        logs, refusal = set(), ""
        for blob in blobs:
            try:
                logs.add(space.store(blob))
            except No as no:
                refusal = no.args[0]
                break
            header = reader.read_header(blob)
            self._have[header.log] = max(self._have.get(header.log, 0), header.n)
        await self.send("push_ack", request, vv=space.vector(logs))
        await self.send("credit", n=size)
        if refusal:
            await self.send("err", request, code=refusal, msg="See protocol/SPEC.md.")
        for connection in list(space.connections):
            with suppress(ConnectionClosed):
                await connection.stream()

    async def stream(self) -> None:
        """What the client lacks, in the order of arrival, as far as its credit goes."""
        assert self.space is not None
        while self._credit > 0 and (self._next < len(self.space.blobs) or self._owes_end):
            batches: list[bytes] = []
            while self._next < len(self.space.blobs) and len(batches) < FRAME_BATCHES:
                blob = self.space.blobs[self._next]
                if sum(map(len, batches)) + len(blob) > FRAME_BYTES:
                    break
                self._next += 1
                header = reader.read_header(blob)
                if header.n > self._have.get(header.log, 0):
                    batches.append(blob)
                    self._have[header.log] = header.n
            more = self._next < len(self.space.blobs)
            if batches or self._owes_end:
                self._owes_end &= more
                self._credit -= await self.send("batches", b=batches, more=more)

    async def _news(self, space: Space, records: list[bytes]) -> None:
        """Keep records, tell the others, and close the connections of who is out."""
        fresh = space.control.take(records)
        for connection in list(space.connections) if fresh else []:
            with suppress(ConnectionClosed):
                if not space.control.active_seats(connection.device):
                    space.connections.discard(connection)
                    await connection.send("err", code="revoked", msg="The device was removed.")
                    await connection._socket.close(1008)
                elif connection is not self:
                    await connection.send("ctl", recs=fresh)

    async def _put_mail(self, space: Space, request: int, envelopes: list[bytes]) -> None:
        """An envelope names its flags, id, sender and recipient from bytes 1, 18, 34 and 50 on."""
        for envelope in envelopes:
            recipient, flags = envelope[50:66], envelope[1]
            if flags & 2:  # presence: nobody keeps it for later
                for connection in [c for c in space.connections if c.device == recipient]:
                    with suppress(ConnectionClosed):
                        await connection.send("msg", m=[envelope])
            else:
                key = envelope[34:50] + envelope[18:34]
                space.mail.setdefault(recipient, {}).setdefault(key, envelope)
        await self.send("msg_stored", request, ids=[e[50:66] + e[18:34] for e in envelopes])
        for connection in list(space.connections):
            with suppress(ConnectionClosed):
                await connection.deliver()

    async def deliver(self) -> None:
        """Messages that were not sent to it yet."""
        assert self.space is not None
        waiting = {key: e for key, e in self.space.mail.get(self.device, {}).items() if key not in self._mailed}
        self._mailed |= waiting.keys()
        if waiting:
            await self.send("msg", m=list(waiting.values()))

    # ---- [Pairing mailboxes] -----------------------------------------------------------------------------------------
    async def _join(self, plate: int, request: int) -> None:
        """The new device's connection, until the pairing is over. Raises: No."""
        opener = self.relay.mailboxes.pop(plate, None)
        if opener is None:
            raise No("pairing_failed")
        self.other, opener.other = opener, self
        await opener.send("pair_joined")
        await self.send("pair_joined", request)
        while self.other is not None:
            name, _, fields, _ = await self.receive()
            if name == "pair_msg":
                await self.other.send("pair_msg", m=fields["m"])
            elif name == "pair_close":
                await self.close_pairing(fields["why"])
            else:
                raise No("bad_frame")

    async def close_pairing(self, why: str) -> None:
        """Tell the other side; the connection that joined ends with it."""
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            with suppress(ConnectionClosed):
                await other.send("pair_close", why=why)
                if other.space is None:
                    await other._socket.close(1000)


class SecondRelay:
    """A relay at `url`, from the entry of the context to its exit."""

    def __init__(self) -> None:
        self.url = self.endpoint = ""
        self.spaces: dict[bytes, Space] = {}
        self.invites: set[bytes] = set()
        self.mailboxes: dict[int, Connection] = {}  # nameplate -> who opened it
        self.faults: list[BaseException] = []
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def invite(self) -> str:
        """A link that works once."""
        secret = os.urandom(32)
        self.invites.add(secret)
        return f"{self.url}/#hgw-invite={base64.urlsafe_b64encode(secret).decode().rstrip('=')}"

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with serve(self._handle, "127.0.0.1", 0, compression=None, max_size=2**20, ping_interval=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url, self.endpoint = f"http://127.0.0.1:{port}", f"host:127.0.0.1:{port}"
            self._listens.set()
            await self._over.wait()

    async def _handle(self, socket: ServerConnection) -> None:
        try:
            assert socket.request is not None
            assert socket.request.path == "/hgw/1"
            with suppress(ConnectionClosed):
                await Connection(self, socket).serve()
        except Exception as fault:
            self.faults.append(fault)

    def __enter__(self) -> SecondRelay:
        self._thread.start()
        assert self._listens.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
