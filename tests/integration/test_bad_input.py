"""A relay that means harm, and a member that does: what a device makes of it.

The relay here is a small one of our own on a real socket that says whatever a test wants; the device has an honest
relay beside it. Whatever comes, the device keeps what it has, applies nothing of it, names the fault, and goes on
syncing through the honest relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_sign

from hybridgw_daemon.core.body import encode_body
from hybridgw_daemon.core.operations import Create, Edit, coalesce
from hybridgw_daemon.core.sealing import batch_key, padded_size
from hybridgw_daemon.stores import alarms, oplog
from hybridgw_daemon.transports.peers.relay import WebSocketChannel
from hybridgw_protocol.batch import FLAG_DEFLATED, FLAG_SECRET, Head, batch_hash, encode_header, parse_batch
from hybridgw_protocol.errors import BadValue, Offline, PairingFailed
from hybridgw_protocol.frames import Auth, Batches, Challenge, Ctl, Err, Frame, PushAck, Want, Welcome, encode_frame
from hybridgw_protocol.ids import KeyId, LogId, log_id
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.limits import CREDIT_START_BYTES, MAX_BODY_BYTES, MAX_FRAME_BYTES
from hybridgw_protocol.link import Link, Role
from hybridgw_protocol.vectors import Entry, to_entries
from tests.relay_client import Family, Writer

from .devices import Device, invite, now_ms, pair, relay, until

THREE_HOURS_MS: Final = 3 * 3_600_000


# ---- a relay that says what it is told to ----------------------------------------------------------------------------
class Seat:
    """One connection of a device to the hostile relay."""

    def __init__(self, socket: web.WebSocketResponse, auth: Auth) -> None:
        self.socket, self.auth = socket, auth
        self.inbox: list[Frame] = []

    async def send(self, frame: Frame, request: int = 0) -> None:
        await self.socket.send_bytes(encode_frame(frame, request))

    async def welcome(self, **other: Any) -> None:
        """Let it in; by default as one that holds exactly what the device holds."""
        said = {"sid": "s", "t": now_ms(), "vv": self.auth.vv, "ctl": self.auth.ctl, **other}
        await self.send(Welcome(**said))

    async def heard(self, link: Link) -> None:
        """Read until the device goes."""
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self.inbox.append(link.receive(message.data)[0])


Script = Callable[[Seat], Awaitable[None]]


class Hostile:
    """The hostile relay: `script` is what it does with each device that shows its key."""

    def __init__(self, script: Script, versions: tuple[int, int] = (1, 1)) -> None:
        self.script, self.versions = script, versions
        self.seats: list[Seat] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2 * MAX_FRAME_BYTES, compress=False)
        await socket.prepare(request)
        link = Link(Role.SERVER)
        link.send(Challenge(v=self.versions, ns=os.urandom(32), role="relay", t=now_ms()))
        await socket.send_bytes(link.data_to_send()[0])
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            return socket
        frame, _ = link.receive(message.data)
        assert isinstance(frame, Auth)
        seat = Seat(socket, frame)
        self.seats.append(seat)
        link.send(Welcome(sid="s", t=0))  # only so that our side of the table knows where it stands
        with contextlib.suppress(ConnectionError):
            await self.script(seat)
            await seat.heard(link)
        return socket

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, script: Script, versions: tuple[int, int] = (1, 1)) -> AsyncIterator[Hostile]:
        hostile = cls(script, versions)
        app = web.Application()
        app.router.add_get("/hgw/1", hostile.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hostile.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield hostile
        finally:
            await runner.cleanup()


# ---- a member that writes what it should not -------------------------------------------------------------------------
class Member:
    """A new log of a device, under its real keys: makes batches that its daemon never would."""

    def __init__(self, device: Device, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        sealer = device.replica.sealer
        assert sealer is not None
        self.sealer = sealer
        self.salt = self.rng.randbytes(32)
        self.log = log_id(sealer.device, self.salt)
        self.head = Head(0, self.salt)

    def batch(
        self, content: bytes, *, flags: int = 0, key: bytes | None = None, kid: KeyId | None = None, keep: bool = True
    ) -> bytes:
        """The next batch around *content*, whatever that is; keep: the log goes on after it."""
        nonce = self.rng.randbytes(24)
        header = encode_header(
            flags=flags, space=self.sealer.space, device=self.sealer.device, log=self.log, n=self.head.n + 1,
            kid=kid or self.sealer.kid, prev=self.head.hash, nonce=nonce,
        )  # fmt: skip
        plain = len(content).to_bytes(4, "big") + content
        plain += bytes(padded_size(len(content)) - len(plain))
        unsigned = header + crypto_aead_xchacha20poly1305_ietf_encrypt(
            plain, header, nonce, batch_key(key or self.sealer.key, self.log)
        )
        digest = batch_hash(unsigned)
        if keep:
            self.head = Head(self.head.n + 1, digest)
        return unsigned + crypto_sign(digest, self.sealer.sign_secret)[:64]

    def note(self, name: str, *, at_ms: int | None = None, **options: Any) -> bytes:
        """The next batch, a good one: creates task *name*."""
        stamp = (now_ms() if at_ms is None else at_ms) << 16
        operations = coalesce(
            [Create("tasks", name, {"title": name})], first_stamp=stamp + self.head.n,
            generation=lambda _c, _d: 0, floor_ms=lambda _c: 0,
        )  # fmt: skip
        return self.batch(encode_body(operations), **options)


class House(NamedTuple):
    """Two paired devices in step over an honest relay."""

    a: Device
    b: Device

    def codes(self) -> set[str]:
        return {alarm.code for alarm in self.a.database.peek(alarms.alarms)}

    async def goes_on(self, name: str = "after") -> None:
        """What b writes reaches a through the honest relay, and the other way round."""
        await self.b.write(Create("tasks", f"{name}-b", {"title": "from b"}))
        await self.a.write(Create("tasks", f"{name}-a", {"title": "from a"}))
        await until(lambda: f"{name}-b" in str(self.a.shown()) and f"{name}-a" in str(self.b.shown()))


@contextlib.asynccontextmanager
async def house(tmp_path: Path) -> AsyncIterator[House]:
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.relays.add(format_invite(url, await invite(database())))
        await pair(a, b)
        await a.write(Create("tasks", "kept", {"title": "of before"}))
        await b.write(Create("tasks", "kept too", {"title": "of before"}))
        await until(lambda: a.shown() == b.shown() and len(a.shown()) == 2)
        assert (await a.sync.trigger(timeout_s=30)).status == "done"
        yield House(a, b)


def fault(device: Device, url: str) -> str:
    """The code of why that relay is not connected, '' while it is or nothing is known."""
    error = device.sync.peers.errors.get(url)
    return error.code if error else ""


# ---- what ends the connection ----------------------------------------------------------------------------------------
def flipped(blob: bytes, at: int) -> bytes:
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


async def bytes_of(seat: Seat, data: bytes) -> None:
    await seat.welcome()
    await seat.socket.send_bytes(data)


async def blobs_of(seat: Seat, *blobs: bytes) -> None:
    await seat.welcome()
    await seat.send(Batches(b=list(blobs)))


async def records_of(seat: Seat, *records: bytes) -> None:
    await seat.welcome()
    await seat.send(Ctl(recs=list(records)))


async def flood(seat: Seat, blob: bytes) -> None:
    """Batches that wait for a record which never comes, and more of them than the credit allows."""
    await seat.welcome(ctl=[bytes(16)])
    frame = Batches(b=[blob] * (500_000 // len(blob)))
    for _ in range(CREDIT_START_BYTES // 500_000 + 3):
        await seat.send(frame)


async def text_of(seat: Seat) -> None:
    await seat.welcome()
    await seat.socket.send_str("<html>")


async def twice(seat: Seat) -> None:
    await seat.welcome()
    await seat.welcome()


async def refuses(seat: Seat, code: str) -> None:
    await seat.send(Err(code=code, msg="no", retry=-(10**12)))


class Violation(NamedTuple):
    """What the relay does, and the code under which the device names it."""

    code: str
    act: Callable[[Seat, Member], Awaitable[None]]


STRANGERS: Final = Family(31)
RANDOM: Final = random.Random(3).randbytes
VIOLATIONS: Final = {
    "garbage": Violation("bad_frame", lambda s, _: bytes_of(s, RANDOM(300))),
    "nothing": Violation("bad_frame", lambda s, _: bytes_of(s, b"")),
    "truncated_frame": Violation("bad_frame", lambda s, m: bytes_of(s, encode_frame(Batches(b=[m.note("x")]))[:-9])),
    "bytes_after_a_frame": Violation("bad_frame", lambda s, m: bytes_of(s, encode_frame(Batches(b=[])) + b"\0")),
    "nesting_bomb": Violation("bad_frame", lambda s, _: bytes_of(s, b"\x91" * 500_000)),
    "length_bomb": Violation("bad_frame", lambda s, _: bytes_of(s, b"\x93\x13\x00\x81\xa1b\xdd\xff\xff\xff\xff")),
    "frame_above_the_limit": Violation("bad_frame", lambda s, _: bytes_of(s, bytes(MAX_FRAME_BYTES + 1))),
    "message_above_the_limit": Violation("offline", lambda s, _: bytes_of(s, bytes(MAX_FRAME_BYTES + 100_000))),
    "text": Violation("bad_frame", lambda s, _: text_of(s)),
    "welcome_twice": Violation("bad_frame", lambda s, _: twice(s)),
    "batches_before_the_welcome": Violation("bad_frame", lambda s, m: s.send(Batches(b=[m.note("x")]))),
    "bad_vector": Violation("bad_frame", lambda s, _: s.welcome(vv=[Entry(5, 1, b"short")])),
    "vector_with_a_log_twice": Violation("bad_frame", lambda s, _: s.welcome(vv=[Entry(5, 1, bytes(16))] * 2)),
    "beyond_credit": Violation("bad_frame", lambda s, m: flood(s, m.note("x", keep=False))),
    "truncated_batch": Violation("bad_frame", lambda s, m: blobs_of(s, m.note("x")[:440])),
    "oversized_batch": Violation("bad_frame", lambda s, m: blobs_of(s, m.note("x") + bytes(256 * 1024))),
    "batch_cut_at_the_end": Violation("bad_signature", lambda s, m: blobs_of(s, m.batch(bytes(800))[:-16])),
    "forged_signature": Violation("bad_signature", lambda s, m: blobs_of(s, flipped(m.note("x"), -1 % 450))),
    "changed_content": Violation("bad_signature", lambda s, m: blobs_of(s, flipped(m.note("x"), 200))),
    "good_then_forged": Violation(
        "bad_signature", lambda s, m: blobs_of(s, m.note("x"), flipped(m.note("y"), 449))
    ),
    "batch_of_another_space": Violation(
        "bad_frame", lambda s, _: blobs_of(s, Writer(STRANGERS, STRANGERS.first).make())
    ),
    "batch_of_no_member": Violation(
        "offline", lambda s, m: blobs_of(s, _of_no_member(m))
    ),
    "records_of_another_space": Violation("bad_record", lambda s, _: records_of(s, *STRANGERS.records)),
    "records_that_are_none": Violation("bad_record", lambda s, _: records_of(s, RANDOM(200))),
    "another_version": Violation("version", lambda s, _: refuses(s, "version")),
    "told_to_leave": Violation("revoked", lambda s, _: refuses(s, "revoked")),
}  # fmt: skip


def _of_no_member(member: Member) -> bytes:
    """A batch of this space by a device that no record names."""
    stranger = Writer(STRANGERS, STRANGERS.first)
    stranger.space = member.sealer.space
    return stranger.make()


async def test_sec_P6_what_no_honest_relay_sends_ends_the_link_and_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        shown, logs, alarm_codes = home.a.shown(), home.a.logs(), home.codes()
        for name, violation in VIOLATIONS.items():
            member = Member(home.b)
            state = member.rng.getstate(), member.head

            async def act(seat: Seat, v: Violation = violation, m: Member = member, state: Any = state) -> None:
                m.head = state[1]
                m.rng.setstate(state[0])
                await v.act(seat, m)

            async with Hostile.running(act) as hostile:
                with contextlib.suppress(Exception):  # those that refuse at once are not even kept
                    await home.a.relays.add(hostile.url)
                if violation.code in ("revoked", "not_admitted"):
                    assert all(r.url != hostile.url for r in await home.a.relays.list()), name
                else:
                    try:
                        await until(lambda v=violation, h=hostile: fault(home.a, h.url) == v.code)
                    except TimeoutError:
                        raise AssertionError(f"{name}: {home.a.sync.peers.errors.get(hostile.url)!r}") from None
                    status = home.a.sync.peers.relay_status(hostile.url)
                    assert status.error, name
                    await home.a.relays.remove(hostile.url)
            assert home.a.shown() == shown, name
            assert home.a.logs().keys() == logs.keys(), name
            assert {k: v.stored for k, v in home.a.logs().items()} == {k: v.stored for k, v in logs.items()}, name
            assert home.codes() == alarm_codes, name
        await home.goes_on()
        assert (await home.a.sync.trigger(timeout_s=30)).status == "done"


async def test_a_relay_that_fails_always_is_tried_less_and_less(tmp_path: Path) -> None:
    """Not even a wait below zero, told by the relay itself, makes the device knock without a pause."""
    async with house(tmp_path) as home:
        async with Hostile.running(lambda seat: refuses(seat, "busy")) as hostile:
            await home.a.relays.add(hostile.url)
            await home.goes_on()
            await asyncio.sleep(1.0)
            assert 1 <= len(hostile.seats) < 15  # four are likely; without a pause there would be hundreds
            assert fault(home.a, hostile.url) == "closed"
        await home.a.relays.remove(hostile.url)


@pytest.mark.timeout(60)
async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    """It takes the connection and never answers: an error a person can act on, and not a wait for ever."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    async with server:
        with pytest.raises(Offline, match="no answer"):
            await WebSocketChannel.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert len(held) == 1
        held[0].close()


async def test_a_newer_protocol_is_named(tmp_path: Path) -> None:
    async def never(seat: Seat) -> None:
        raise AssertionError(seat)

    async with house(tmp_path) as home:
        async with Hostile.running(never, versions=(7, 9)) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: fault(home.a, hostile.url) == "version")
            assert "Upgrade" in str(home.a.sync.peers.relay_status(hostile.url).error)
            assert not hostile.seats  # no key was shown
        await home.goes_on()


# ---- what a member signed --------------------------------------------------------------------------------------------
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(bytes(50 * MAX_BODY_BYTES)) + packer.flush()


BAD_BATCHES: Final[dict[str, Callable[[Member], bytes]]] = {
    "malformed_body": lambda m: m.batch(b"\xc1" * 40),
    "body_of_random_bytes": lambda m: m.batch(RANDOM(400)),
    "deflate_bomb": lambda m: m.batch(_bomb(), flags=FLAG_DEFLATED),
    "deflate_that_is_none": lambda m: m.batch(b"\xff" * 400, flags=FLAG_DEFLATED),
    "secret_and_deflated": lambda m: m.batch(_bomb(), flags=FLAG_DEFLATED | FLAG_SECRET),
    "nesting_bomb": lambda m: m.batch(b"\x81\xa1x" + b"\x91" * 100_000),
    "length_bomb": lambda m: m.batch(b"\x81\xa1x\xdd\xff\xff\xff\xff"),
    "sealed_under_a_key_that_is_not_the_space_s": lambda m: m.note("evil", key=b"wrong key of thirty-two bytes..."),
    "stamps_that_do_not_rise": lambda m: m.note("evil", at_ms=now_ms() - 60_000),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BATCHES)
async def test_sec_P6_a_bad_batch_of_a_member_ends_its_log_and_no_other(tmp_path: Path, name: str) -> None:
    """Alarm `log_broken`; what the log held before stands, nothing after it counts, other logs go on; also later."""
    async with house(tmp_path) as home:
        member = Member(home.b)
        good, bad, after = member.note("good"), BAD_BATCHES[name](member), member.note("never")

        async def act(seat: Seat) -> None:
            await blobs_of(seat, good, bad, after)

        async with Hostile.running(act) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: "log_broken" in home.codes())
            row = home.a.logs()[member.log]
            assert (row.applied.n, row.stored.n, row.waiting) == (1, 3, "broken")
            assert fault(home.a, hostile.url) == ""  # it carried what a member signed: no fault of the relay
            shown = {(collection, document) for collection, document, *_ in home.a.shown()}
            assert shown == {("tasks", "kept"), ("tasks", "kept too"), ("tasks", "good")}
            await home.goes_on()
            [alarm] = [a for a in home.a.database.peek(alarms.alarms) if a.code == "log_broken"]
            assert alarm.detail["n"] == 2
            assert alarm.detail["device"] == home.b.space.identity.device.hex()
        # b holds it too by now, from the honest relay, and says the same of itself
        await until(lambda: home.b.shown() == home.a.shown())
        assert home.b.logs()[member.log].applied == row.applied


async def test_a_batch_under_a_key_that_nobody_gave_waits(tmp_path: Path) -> None:
    """It may come from an epoch not known here yet: kept, not applied, no alarm; everything else goes on."""
    async with house(tmp_path) as home:
        member = Member(home.b)
        blob = member.note("under a foreign key", key=bytes(32), kid=KeyId(b"notakey!"))
        async with Hostile.running(lambda seat: blobs_of(seat, blob)) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: member.log in home.a.logs())
            assert home.a.logs()[member.log].waiting == "key"
            assert "log_broken" not in home.codes()
            await home.goes_on()
            assert "foreign" not in str(home.a.shown())
            assert (await home.a.sync.status()).waiting == 1


async def test_a_batch_from_three_hours_ahead_waits(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        member = Member(home.b)
        blob = member.note("too early", at_ms=now_ms() + THREE_HOURS_MS)
        async with Hostile.running(lambda seat: blobs_of(seat, blob)) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: member.log in home.a.logs())
            assert home.a.logs()[member.log].waiting == "clock"
            assert (await home.a.sync.status()).state == "parked"
            await home.goes_on()
            assert "too early" not in str(home.a.shown())
            home.a.ahead_ms = THREE_HOURS_MS
            await home.a.sync.retry()
            assert "too early" in str(home.a.shown())


async def test_replayed_batches_change_nothing(tmp_path: Path) -> None:
    """Old ones of a's, of b's, and the same new ones ten times over in one connection and in the next."""
    async with house(tmp_path) as home:
        member = Member(home.b)
        old = home.a.database.peek(lambda c: list(oplog.all_blobs(c)))
        new = [member.note(f"new {k}") for k in range(3)]
        assert old

        async def act(seat: Seat) -> None:
            await blobs_of(seat, *old, *new, *new)
            for _ in range(9):
                await seat.send(Batches(b=[*new, *old]))

        async with Hostile.running(act) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: member.log in home.a.logs() and home.a.logs()[member.log].applied.n == 3)
            home.a.gateway.reconnect(full=True)
            await until(lambda: len(hostile.seats) == 2)
            await home.goes_on()
            assert fault(home.a, hostile.url) == ""
            held = home.a.database.peek(lambda c: list(oplog.all_blobs(c)))
            assert len(held) == len(set(held))
            assert not home.codes()
            versions = home.a.database.peek(lambda c: c.execute("SELECT conflicts FROM document").fetchall())
            assert {v for (v,) in versions} == {0}


async def test_reordered_batches_are_asked_for_again(tmp_path: Path) -> None:
    """The third before the second: nothing is applied out of turn, the device says what it holds and gets the rest."""
    async with house(tmp_path) as home:
        member = Member(home.b)
        blobs = [member.note(f"in order {k}") for k in range(3)]

        async def act(seat: Seat) -> None:
            await seat.welcome()
            await seat.send(Batches(b=[blobs[2], blobs[0]]))
            link = Link(Role.SERVER)
            link.state = link.state.READY
            while True:
                message = await seat.socket.receive()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return
                frame, _ = link.receive(message.data)
                if isinstance(frame, Want):
                    seat.inbox.append(frame)
                    await seat.send(Batches(b=blobs[1:]))

        async with Hostile.running(act) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: member.log in home.a.logs() and home.a.logs()[member.log].applied.n == 3)
            wants = [f for seat in hostile.seats for f in seat.inbox if isinstance(f, Want)]
            assert (member.log, 1) in {(e.log, e.n) for e in wants[0].vv}
            assert not home.codes()
            await home.goes_on()


async def test_a_fork_is_told_and_the_first_branch_stays(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        member = Member(home.b)
        first, other = member.note("first", keep=False), member.note("other", keep=False)

        async def act(seat: Seat) -> None:
            await blobs_of(seat, first)
            await seat.send(Batches(b=[other]))

        async with Hostile.running(act) as hostile:
            await home.a.relays.add(hostile.url)
            await until(lambda: "fork" in home.codes())
            assert home.a.logs()[member.log].stored.hash == parse_batch(first).hash
            assert home.a.database.peek(lambda c: oplog.evidence(c, member.log)) == [other]  # the proof is kept
            assert "first" in str(home.a.shown())
            assert "other" not in str(home.a.shown())
            assert fault(home.a, hostile.url) == ""
            await home.goes_on()


# ---- what a relay claims ---------------------------------------------------------------------------------------------
async def test_a_relay_that_lost_what_it_confirmed_is_told_and_filled_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        a = home.a

        async def act(seat: Seat) -> None:
            if len(hostile.seats) == 1:
                await seat.welcome()
                await seat.send(PushAck(vv=seat.auth.vv))  # durable, it says
            else:
                await seat.welcome(vv=[])

        async with Hostile.running(act) as hostile:
            await a.relays.add(hostile.url)
            await until(lambda: a.sync.peers.conversation(hostile.url) is not None)
            await asyncio.sleep(0.05)
            await a.sync.peers.save_confirmed()
            a.gateway.reconnect(full=True)
            await until(lambda: "relay_rollback" in home.codes())
            held = len(a.database.peek(lambda c: list(oplog.all_blobs(c))))

            def pushed() -> int:  # another device's batches a moment later
                frames = [f for seat in hostile.seats[1:] for f in seat.inbox if f.type.name == "PUSH"]
                return sum(len(f.b) for f in frames)  # type: ignore[attr-defined]

            await until(lambda: pushed() == held)
            await home.goes_on()


async def test_a_relay_that_claims_another_history(tmp_path: Path) -> None:
    """A hash in a vector is no proof: an alarm, and neither our log nor anything in it changes."""
    async with house(tmp_path) as home:
        a = home.a
        own = a.space.own_log

        async def act(seat: Seat) -> None:
            await seat.welcome(vv=to_entries({own: Head(1, b"f" * 32)}))

        async with Hostile.running(act) as hostile:
            await a.relays.add(hostile.url)
            await until(lambda: "fork" in home.codes())
            await home.goes_on()
            assert a.space.own_log == own
            assert all(row.log not in a.replica.keys.ends for row in a.logs().values())


async def test_a_relay_that_claims_more_of_our_log_than_there_is_stops_nothing(tmp_path: Path) -> None:
    """It says that it holds a thousand batches of our own log that we lost, and never sends one."""
    async with house(tmp_path) as home:
        a = home.a

        async def act(seat: Seat) -> None:
            await seat.welcome(vv=to_entries({a.space.own_log: Head(1_000, b"f" * 32), LogId(7): Head(9, b"g" * 32)}))

        async with Hostile.running(act) as hostile:
            await a.relays.add(hostile.url)
            for k in range(20):  # more than fit into one sealing
                await a.write(Edit("tasks", "kept", {"n": k}))
            await until(lambda: '"n":19' in str(home.b.shown()).replace(" ", "") or "19" in str(home.b.shown()), 20)
            await home.goes_on()
            assert a.database.peek(oplog.pending_size)[0] == 0


async def test_a_relay_with_a_clock_three_hours_off(tmp_path: Path) -> None:
    """One alarm that names it; our own clock, which the honest relay confirms, is not moved."""
    async with (
        house(tmp_path) as home,
        Hostile.running(lambda seat: seat.welcome(t=now_ms() + THREE_HOURS_MS)) as hostile,
    ):
        await home.a.relays.add(hostile.url)
        await until(lambda: "clock_drift" in home.codes())
        [alarm] = [a for a in home.a.database.peek(alarms.alarms) if a.code == "clock_drift"]
        assert hostile.url in alarm.message
        assert abs(home.a.sync.now_ms() - now_ms()) < 60_000
        await home.goes_on()


# ---- codes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "code",
    ["", "garbage", "417", "417-803", "417-803-265", "417-803-265@", "@relay.test", "٤١٧-٨٠٣-٢٦٥@relay.test",
     "4" * 5000, "417-803-265@relay.test/../x y",
     "417-803-265@\0", "417-803-265@127.0.0.1:99999", "hybridgw://", "\ud800"],
)  # fmt: skip
async def test_a_code_that_is_none_is_refused_at_once(tmp_path: Path, code: str) -> None:
    """Nothing is asked of anybody, and nothing changes here."""
    b = Device(tmp_path / "b", "phone")
    async with b.running():
        space = b.space.identity.space
        with pytest.raises((BadValue, PairingFailed)) as refused:
            await b.pairing.join(code)
        assert refused.value.message
        assert b.space.identity.space == space
