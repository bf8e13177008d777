"""Messages from device to device through a real relay: each once, in order, urgent first, with states that are true."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.core.envelopes import Content, seal_message
from hybridgw_daemon.core.scopes import parse
from hybridgw_daemon.services.mail import MailService
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.ports import OWNER, Principal
from hybridgw_daemon.transports.peers.mail import MailPump
from hybridgw_protocol.envelope import EnvelopeHeader, parse_envelope
from hybridgw_protocol.errors import BadFrame, NotFound
from hybridgw_protocol.frames import Frame, MsgPut, MsgStored
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.invite import format_invite
from hybridgw_protocol.limits import AWAY_MS, HEARTBEAT_MS, HOLD_MS
from hybridgw_protocol.localapi_devices import RenameDevice
from hybridgw_protocol.localapi_messages import (
    AckMessages,
    ExplainMessage,
    GetMessage,
    ListAddressees,
    ListenMessages,
    ListMessages,
    ListPresence,
    SendMessage,
)
from hybridgw_protocol.messages import Priority

from .devices import Device, invite, pair, relay, until


class Talking:
    """A device with its messages."""

    def __init__(self, folder: Path, name: str) -> None:
        self.device = Device(folder, name)
        self.later_ms = 0  # its clock is so far ahead
        self.messages = MessageService(self.device.database, clock=self.now_ms, entropy=os.urandom)
        self.mail = self.device.sync.mail = MailService(
            self.device.database, self.device.space, self.messages, clock=self.now_ms, entropy=os.urandom,
            wake=self.device.sync.peers.wake,
        )  # fmt: skip

    def now_ms(self) -> int:
        return self.device.clock() + self.later_ms

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.device.running():
            tasks = [asyncio.create_task(self.mail.run()), asyncio.create_task(self.messages.run())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, to: str, body: Any, **more: Any) -> Any:
        return await self.messages.send(OWNER, SendMessage(type="note", to=to, body=body, **more))

    def shown(self) -> list[Any]:
        """Bodies of what arrived, in order."""
        rows = self.device.database.peek(
            lambda c: c.execute("SELECT body, gap FROM message WHERE sender <> x'' ORDER BY rid").fetchall()
        )
        return [body.decode() if not gap else (body.decode(), "gap") for body, gap in rows]

    async def state(self, id: str) -> list[tuple[str, str]]:
        found = await self.messages.history.get(OWNER, GetMessage(id=id))
        return [(d.device, str(d.state)) for d in found.deliveries if not d.here]

    async def is_in(self, id: str, *states: str) -> bool:
        return {state for _, state in await self.state(id)} <= set(states)


async def becomes(sender: Talking, id: str, *states: str, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await sender.is_in(id, *states):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def pairs(folder: Path) -> AsyncIterator[tuple[Talking, Talking, Path]]:
    a, b = Talking(folder / "a", "laptop"), Talking(folder / "b", "phone")
    async with relay(folder / "relay") as (url, database), a.running(), b.running():
        await a.device.relays.add(format_invite(url, await invite(database())))
        await pair(a.device, b.device)
        await until(lambda: a.messages.addressing.members.others() and b.messages.addressing.members.others())
        yield a, b, database()


async def test_spec_R4_a_message_arrives_and_its_sender_sees_every_state(tmp_path: Path) -> None:
    async with pairs(tmp_path) as (a, b, database):
        wakened = asyncio.Event()
        ear, _ = await b.messages.listeners.listen(OWNER, "web_app", "tabs", ListenMessages(), wakened)
        sent = await a.send("client:tabs@phone", {"url": "planted-url"})
        await becomes(a, sent.id, "delivered")
        assert b.shown() == ['{"url":"planted-url"}']
        (event,) = await ear.part()
        assert b'"device":"laptop"' in event
        await b.messages.ack(OWNER, AckMessages(ids=[sent.id]), ear)
        await becomes(a, sent.id, "handled")
        back = await b.send("device:laptop", "thanks", reply_to=sent.id)
        await becomes(b, back.id, "delivered")
        assert [m.reply_to for m in (await a.messages.history.list(OWNER, ListMessages(box="in"))).items] == [sent.id]
        scopes = {"send:note": ["phone"], "listen:note": [], "write:tasks": [], "admin": ["phone"]}
        for scope, names in scopes.items():
            program = Principal("grant:x", is_owner=False, scopes=parse(scope))
            found = (await a.messages.history.devices(program, ListAddressees())).items
            assert [one.name for one in found] == names
        (place,) = a.messages.addressing.members.others() or ()
        marked = await a.send(f"client:tabs@{place.mark}", "by its fingerprint")
        await becomes(a, marked.id, "delivered")
        for path in database.parent.iterdir():  # blind
            for word in (b"planted-url", b"note", b"tabs", b"web_app"):
                assert word not in path.read_bytes() or path.suffix == ".log", path


async def test_spec_R2_devices_know_of_each_others_programs_when_they_come_and_go(tmp_path: Path) -> None:
    async with pairs(tmp_path) as (a, b, database):

        async def seen() -> list[tuple[str, bool, list[tuple[str, bool]]]]:
            found = await a.messages.presence.devices(OWNER, ListPresence())
            return [(d.device, d.online, [(p.client, p.online) for p in d.programs]) for d in found.items]

        async def becomes_seen(wanted: list[tuple[str, bool, list[tuple[str, bool]]]]) -> None:
            async with asyncio.timeout(30):
                while await seen() != wanted:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.02)

        await becomes_seen([("laptop", True, []), ("phone", True, [])])
        asked = ListenMessages(app="planted-app", topics=["news"])
        ear, _ = await b.messages.listeners.listen(OWNER, "web_app", "tabs", asked, asyncio.Event())
        await becomes_seen([("laptop", True, []), ("phone", True, [("web_app/tabs", True)])])
        for to, programs in (("topic:news@phone", ["web_app/tabs"]), ("app:other@phone", [])):
            report = await a.messages.routing.explain(OWNER, ExplainMessage(type="note", to=to))
            assert [(d.device, d.online, d.programs) for d in report.steps[0].devices] == [("phone", True, programs)]
        ear.close()
        await becomes_seen([("laptop", True, []), ("phone", True, [("web_app/tabs", False)])])
        a.later_ms = AWAY_MS
        await becomes_seen([("laptop", True, []), ("phone", False, [("web_app/tabs", False)])])
        report = await a.messages.routing.explain(OWNER, ExplainMessage(type="note", to="topic:news@phone"))
        assert [(d.online, d.programs) for d in report.steps[0].devices] == [(False, ["web_app/tabs"])]
        b.later_ms = HEARTBEAT_MS  # it tells again
        await becomes_seen([("laptop", True, []), ("phone", True, [("web_app/tabs", False)])])
        rows = a.device.database.peek(lambda c: c.execute("SELECT * FROM message").fetchall())
        assert rows == []
        for path in database.parent.iterdir():  # blind, and nothing is kept
            assert b"planted-app" not in path.read_bytes(), path


async def test_a_renamed_device_is_found_and_shown_by_its_new_name(tmp_path: Path) -> None:
    async with pairs(tmp_path) as (a, b, _):
        phone = b.device.space.identity.device
        await a.device.devices.rename(RenameDevice(id=phone.hex(), name="Old phone"))
        sent = await a.send("device:Old phone", "to the new name")
        await becomes(a, sent.id, "delivered")
        assert await a.state(sent.id) == [("Old phone", "delivered")]
        with pytest.raises(NotFound):
            await a.send("device:phone", "to the old one")
        await until(lambda: b.messages.addressing.members.here().name == "Old phone")  # type: ignore[union-attr]
        back = await b.send("device:laptop", "from the new name")
        await becomes(b, back.id, "delivered")
        assert [one.device for one in (await a.messages.history.list(OWNER, ListMessages(box="in"))).items] == [
            "Old phone"
        ]


async def test_spec_R4_what_was_sent_while_it_was_away_comes_once_in_order_urgent_first(tmp_path: Path) -> None:
    a, b = Talking(tmp_path / "a", "laptop"), Talking(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running():
        async with b.running():
            await a.device.relays.add(format_invite(url, await invite(database())))
            await pair(a.device, b.device)
        ids = []
        for k in range(300):
            ids.append((await a.send("all@phone", k, priority="bulk")).id)
        urgent = await a.send("all@phone", "fire", priority="urgent")
        await becomes(a, urgent.id, "stored")
        await becomes(a, ids[-1], "stored")
        b = Talking(tmp_path / "b", "phone")
        async with b.running():
            await becomes(a, ids[-1], "delivered")
            await becomes(a, urgent.id, "delivered")
            shown = b.shown()
            assert shown.index('"fire"') < 150
            assert [x for x in shown if x != '"fire"'] == [str(k) for k in range(300)]
            before = len(shown)
            await a.mail.tend()
            await asyncio.sleep(0.2)
            assert len(b.shown()) == before
        rows = a.device.database.peek(lambda c: c.execute("SELECT count(*) FROM receipt").fetchone())
        assert rows == (0,)


async def test_spec_R4_what_is_over_leaves_no_hole(tmp_path: Path) -> None:
    a, b = Talking(tmp_path / "a", "laptop"), Talking(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running():
        async with b.running():
            await a.device.relays.add(format_invite(url, await invite(database())))
            await pair(a.device, b.device)
        first = await a.send("all@phone", 1)
        short = await a.send("all@phone", 2, ttl_s=0.2)
        last = await a.send("all@phone", 3)
        await becomes(a, last.id, "stored")
        await asyncio.sleep(0.3)
        b = Talking(tmp_path / "b", "phone")
        async with b.running():
            await becomes(a, last.id, "delivered")
            assert b.shown() == ["1", "3"]  # and neither waited, nor is marked
        await becomes(a, first.id, "delivered")
        await becomes(a, short.id, "expired")


async def test_sec_A13_what_a_relay_or_a_member_forges_is_dropped(tmp_path: Path) -> None:
    async with pairs(tmp_path) as (a, b, _):
        identity, sealer = a.device.space.identity, a.device.space.sealer()
        assert sealer is not None

        def header(sender: DeviceId, seq: int = 1) -> EnvelopeHeader:
            return EnvelopeHeader(
                0, identity.space, bytes([seq]) * 16, sender, b.device.space.identity.device, LogId(9), seq,
                Priority.NORMAL, a.device.clock(), a.device.clock() + 60_000, sealer.kid, bytes(24),
            )  # fmt: skip

        def seal(h: EnvelopeHeader, secret: bytes = identity.sign_secret) -> bytes:
            content = Content(kind="all", type="note", body=b'"x"')
            return seal_message(h, content, space_key=sealer.key, sign_secret=secret).blob

        good = seal(header(identity.device))
        changed = good[:200] + bytes([good[200] ^ 1]) + good[201:]
        other = b.device.space.identity.sign_secret
        for blob in (changed, seal(header(identity.device), other)):
            taken = await b.mail.take([blob], [])
            assert (len(taken.done), b.shown()) == (1, [])
        stranger = seal(header(DeviceId(b"s" * 16)), other)
        assert await b.mail.take([stranger], []) == ([], [stranger])  # its control record may still come
        with pytest.raises(BadFrame):
            await b.mail.take([good[:-1]], [])
        assert (await b.mail.take([good, good], [])).done == [identity.device + b"\1" * 16] * 2
        assert b.shown() == ['"x"']
        another = seal_message(
            header(identity.device), Content(kind="all", type="note", body=b'"y"'), space_key=sealer.key,
            sign_secret=identity.sign_secret,
        ).blob  # fmt: skip
        await b.mail.take([another], [])
        assert b.shown() == ['"x"']
        alarms = b.device.database.peek(lambda c: c.execute("SELECT code FROM alarm").fetchall())
        assert ("message_conflict",) in alarms


async def test_spec_R4_receipts_for_a_full_mailbox_rest_and_hold_up_nothing_else(tmp_path: Path) -> None:
    a, b = Talking(tmp_path / "a", "laptop"), Talking(tmp_path / "b", "phone")
    asked: asyncio.Queue[tuple[int, EnvelopeHeader]] = asyncio.Queue()
    numbers = itertools.count(1)

    async def ask(frame: Frame) -> int:
        """As a link does; presence is not answered."""
        number = next(numbers)
        assert isinstance(frame, MsgPut)
        header = parse_envelope(frame.m[0]).header
        if not header.is_presence:
            asked.put_nowait((number, header))
        return number

    async def send(_frame: Frame, _request: int) -> None:
        return

    async with a.running(), b.running():
        async with relay(tmp_path / "relay") as (url, database):
            await a.device.relays.add(format_invite(url, await invite(database())))
            await pair(a.device, b.device)
            await until(lambda: b.messages.addressing.members.others())
        identity, sealer = a.device.space.identity, a.device.space.sealer()
        assert sealer is not None
        header = EnvelopeHeader(
            0, identity.space, bytes(16), identity.device, b.device.space.identity.device, LogId(9), 1,
            Priority.NORMAL, a.device.clock(), a.device.clock() + 60_000, sealer.kid, bytes(24),
        )  # fmt: skip
        content = Content(kind="all", type="note", body=b"1")
        sealed = seal_message(header, content, space_key=sealer.key, sign_secret=identity.sign_secret)
        await b.mail.take([sealed.blob], [])

        pump = MailPump(b.mail, ask, send)
        running = asyncio.create_task(pump.run())
        async with asyncio.timeout(30):
            number, receipt = await asked.get()
            assert receipt.is_receipt
            await pump.received(MsgStored(ids=[], no=[receipt.recipient_key], why=["quota"]), number)
            for body in (1, 2):  # messages to the same device are put all the same
                await b.send("device:laptop", body)
                pump.wake()
                number, message = await asked.get()
                assert not message.is_receipt
                await pump.received(MsgStored(ids=[message.recipient_key]), number)
            pump._full.clear()  # a minute later
            pump.wake()
            assert (await asked.get())[1].is_receipt
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_spec_R4_one_ahead_of_its_turn_waits_and_is_marked_if_it_was_in_vain(tmp_path: Path) -> None:
    async with pairs(tmp_path) as (a, b, _):
        identity, sealer = a.device.space.identity, a.device.space.sealer()
        assert sealer is not None

        def envelope(seq: int) -> bytes:
            h = EnvelopeHeader(
                0, identity.space, bytes([seq]) * 16, identity.device, b.device.space.identity.device, LogId(9), seq,
                Priority.NORMAL, a.device.clock(), a.device.clock() + 86_400_000, sealer.kid, bytes(24),
            )  # fmt: skip
            content = Content(kind="all", type="note", body=str(seq).encode())
            return seal_message(h, content, space_key=sealer.key, sign_secret=identity.sign_secret).blob

        await b.mail.take([envelope(2), envelope(3)], [])
        assert b.shown() == []
        await b.mail.take([envelope(1)], [])
        assert b.shown() == ["1", "2", "3"]
        await b.mail.take([envelope(5)], [])
        b.device.ahead_ms += HOLD_MS + 1
        await b.mail.tend()
        assert b.shown() == ["1", "2", "3", ("5", "gap")]
        await b.mail.take([envelope(4), envelope(6)], [])
        assert b.shown() == ["1", "2", "3", ("5", "gap"), ("4", "gap"), "6"]
