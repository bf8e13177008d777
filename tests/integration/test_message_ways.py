"""One suite of messages for every way they go: between programs of one device, over a direct link, and through a relay.

The tests know a sender, a recipient and what stands behind `@`; nothing in them depends on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hybridgw_daemon.core.scopes import parse
from hybridgw_daemon.core.uuid7 import new_uuid7
from hybridgw_daemon.services.ears import Ear
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.ports import OWNER, Principal
from hybridgw_protocol.errors import AlreadyExists, TooBig
from hybridgw_protocol.ids import format_document_id
from hybridgw_protocol.localapi_messages import AckMessages, GetMessage, ListenMessages, SendMessage

from .devices import until
from .test_direct import two
from .test_direct_mail import talk
from .test_mail import Talking, pairs

WAYS = ("local", "lan", "relay")
PATIENCE_S = 30.0


class Program(NamedTuple):
    """One that listens at the recipient."""

    ear: Ear
    wakened: asyncio.Event
    messages: MessageService
    principal: Principal

    async def hear(self, count: int) -> list[dict[str, Any]]:
        """The next messages that it is shown, so many."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                self.wakened.clear()
                if part := await self.ear.part():
                    told = [json.loads(b"{" + event) for event in part]
                    found += [event["data"] for event in told if event["event"] == "message"]
                else:
                    await self.wakened.wait()
        return found

    async def ack(self, *ids: str) -> int:
        return (await self.messages.ack(self.principal, AckMessages(ids=list(ids)), self.ear)).count


class Pair(NamedTuple):
    """at: behind a target, for the recipient; they may be one device."""

    sender: MessageService
    recipient: MessageService
    at: str
    tend: Callable[[], Any]

    async def send(self, to: str, body: Any, **more: Any) -> str:
        sent = await self.sender.send(OWNER, SendMessage(**{"type": "note", "to": to + self.at, "body": body} | more))
        return sent.id

    async def listen(self, client: str, principal: Principal = OWNER, **more: Any) -> Program:
        wakened = asyncio.Event()
        ear, _ = await self.recipient.listeners.listen(principal, "web_app", client, ListenMessages(**more), wakened)
        return Program(ear, wakened, self.recipient, principal)

    async def becomes(self, id: str, state: str) -> None:
        """Wait until its sender sees this state of it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.sender.history.get(OWNER, GetMessage(id=id))
                if {d.state for d in found.deliveries} == {state}:
                    return
                await self.tend()
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def on(way: str, folder: Path) -> AsyncIterator[Pair]:
    """The pair that the tests talk about."""
    if way == "local":
        alone = Talking(folder / "a", "laptop")
        async with alone.running():
            yield Pair(alone.messages, alone.messages, "@here", alone.messages.tend)
    elif way == "lan":
        async with two(folder) as (a, b, here, there):
            ours, theirs = talk(a), talk(b)
            here.nearby.tell(there.address)
            await until(lambda: a.sync.peers.path() == b.sync.peers.path() == "lan")

            async def tend() -> None:
                await ours.tend()
                await theirs.tend()

            yield Pair(ours, theirs, "@phone", tend)
    else:
        async with pairs(folder) as (first, second, _):

            async def tend_both() -> None:
                await first.messages.tend()
                await second.messages.tend()

            yield Pair(first.messages, second.messages, "@phone", tend_both)


@pytest.mark.parametrize("way", WAYS)
async def test_spec_R4_the_same_on_every_way(tmp_path: Path, way: str) -> None:
    async with on(way, tmp_path) as pair:
        # Each once, in order, with states that its sender sees.
        tabs = await pair.listen("tabs", app="reader", topics=["news"])
        ids = [await pair.send("client:tabs", k) for k in range(30)]
        heard = await tabs.hear(30)
        assert [one["body"] for one in heard] == list(range(30))
        assert [one["id"] for one in heard] == ids
        await pair.becomes(ids[0], "delivered")
        assert await tabs.ack(*ids) == 30
        assert await tabs.ack(*ids) == 0  # said twice
        await pair.becomes(ids[-1], "handled")

        # By every kind of target, and to nobody else.
        other = await pair.listen("other")
        for to in ("app:reader", "topic:news", "mode:web_app", "all"):
            id = await pair.send(to, to)
            assert [one["body"] for one in await tabs.hear(1)] == [to]
            if to in ("mode:web_app", "all"):
                assert [one["body"] for one in await other.hear(1)] == [to]
                assert await other.ack(id) == 1
            await tabs.ack(id)
            await pair.becomes(id, "handled")
        assert await other.ear.part() == []

        # The same id again is the same message; with another content it is refused.
        id = format_document_id(new_uuid7(time.time_ns() // 10**6, os.urandom(10)))
        assert await pair.send("client:tabs", "once", id=id) == await pair.send("client:tabs", "once", id=id) == id
        with pytest.raises(AlreadyExists):
            await pair.send("client:tabs", "twice", id=id)
        assert [one["id"] for one in await tabs.hear(1)] == [id]
        await tabs.ack(id)
        await pair.becomes(id, "handled")
        assert await tabs.ear.part() == []


@pytest.mark.parametrize("way", WAYS)
async def test_spec_R3_what_waited_for_a_program_comes_in_order_the_urgent_first(tmp_path: Path, way: str) -> None:
    async with on(way, tmp_path) as pair:
        (await pair.listen("tabs")).ear.close()  # it is known, and away
        ids = [await pair.send("client:tabs", k, priority="bulk") for k in range(40)]
        urgent = await pair.send("client:tabs", "fire", priority="urgent")
        for id in (ids[-1], urgent):
            await pair.becomes(id, "delivered")
        tabs = await pair.listen("tabs")
        heard = [one["body"] for one in await tabs.hear(41)]
        assert heard.index("fire") < 8  # it waits for no more than a turn
        assert [one for one in heard if one != "fire"] == list(range(40))
        tabs.ear.close()
        again = await pair.listen("tabs")  # nothing was acknowledged: all of it again
        assert len(await again.hear(41)) == 41
        assert await again.ack(*ids, urgent) == 41
        await pair.becomes(urgent, "handled")


@pytest.mark.parametrize("way", WAYS)
async def test_spec_R4_what_is_over_is_not_shown_and_its_sender_sees_it(tmp_path: Path, way: str) -> None:
    async with on(way, tmp_path) as pair:
        (await pair.listen("tabs")).ear.close()
        short, long = await pair.send("client:tabs", "short", ttl_s=0.2), await pair.send("client:tabs", "long")
        await pair.becomes(long, "delivered")
        await pair.becomes(short, "expired")
        tabs = await pair.listen("tabs")
        assert [one["body"] for one in await tabs.hear(1)] == ["long"]
        assert await tabs.ear.part() == []


@pytest.mark.parametrize("way", WAYS)
async def test_sec_what_a_program_may_not_hear_or_send_is_the_same_everywhere(tmp_path: Path, way: str) -> None:
    async with on(way, tmp_path) as pair:
        app = Principal("grant:x", is_owner=False, scopes=parse("listen:note"))
        listening = await pair.listen("app", app)
        await pair.send("client:app", "secret", type="other")
        id = await pair.send("client:app", "for it", type="note")
        assert [one["id"] for one in await listening.hear(1)] == [id]
        assert await listening.ear.part() == []
        with pytest.raises(TooBig):
            await pair.send("client:app", "x" * (64 * 1024 + 1))
