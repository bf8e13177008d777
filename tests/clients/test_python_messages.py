"""Messages with the asynchronous Python client against a daemon's API: shown, acknowledged, answered, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_client.aio import Database, Inbox, Patience, Received, connect
from hybridgw_daemon.core.targets import Target
from hybridgw_daemon.services.addressing import Others
from hybridgw_daemon.stores import people
from hybridgw_daemon.stores.messages import DeliveryRow, Entries, MessageRow
from hybridgw_protocol.errors import BadValue, Forbidden, LocalError, RequestTimeout
from hybridgw_storage.database import Tx
from tests.integration._access import make_key
from tests.integration._local_api import TOKEN, Api, running

QUICK = Patience(first_s=0.02, cap_s=0.1, command_s=15.0)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        yield made


def client(api: Api, name: str, token: str = TOKEN) -> Database:
    return connect(url=f"http://127.0.0.1:{api.port}", token=token, client_id=name, patience=QUICK)


async def nothing(inbox: Inbox) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(inbox), 0.2)


async def test_spec_R1_send_receive_acknowledge_and_hear_of_it(api: Api) -> None:
    told: list[Any] = []
    heard = asyncio.Event()

    def hear(state: Any) -> None:
        told.append(state)
        heard.set()

    async with client(api, "a") as a, client(api, "b") as b:  # noqa: SIM117 - the inner ones need the outer
        async with a.messages(on_state=hear), b.messages(app="notes", topics=["news"]) as inbox:
            sent = await a.send("note", {"n": 1}, to="app:notes", priority="high")
            message = await anext(inbox)
            assert (message.id, message.type, message.body) == (sent["id"], "note", {"n": 1})
            assert (message.client, message.priority) == ("local_install/a", "high")
            await message.ack()
            await asyncio.wait_for(heard.wait(), 30)
            assert (told[0]["id"], told[0]["state"]) == (sent["id"], "handled")
            await a.send("note", 2, to="topic:news")
            assert (await anext(inbox)).body == 2


async def test_spec_R4_one_that_is_dealt_with_is_not_seen_again_after_a_break(api: Api) -> None:
    async with client(api, "a") as a, client(api, "b") as b, b.messages() as inbox:
        for k in range(3):
            await a.send("note", k, to="client:b")
        first, second = await anext(inbox), await anext(inbox)
        await first.ack()
        for live in list(api.local.registry.live.values()):
            live.end(1000, "gone")  # the session is forgotten: everything that waits is shown anew
        await a.online()
        await a.send("note", 3, to="client:b")
        assert [(await anext(inbox)).body for _ in range(2)] == [2, 3]
        await second.ack()
        await nothing(inbox)
        waiting = await b.call("messages.notifications")
        assert waiting["waiting"] == 2


async def test_a_request_gets_its_answer_or_an_end(api: Api) -> None:
    async with client(api, "a") as a, client(api, "b") as b, a.messages() as mine, b.messages() as inbox:

        async def double(message: Received) -> None:
            await message.reply(message.body * 2)

        inbox.on("double", double)
        serving = asyncio.create_task(inbox.run())
        assert await mine.request("double", 21, to="client:b@here", timeout_s=30) == 42
        with pytest.raises(RequestTimeout):
            await mine.request("other", 1, to="client:b@here", timeout_s=0.3)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert (await b.call("messages.list", type="double"))["items"][0]["state"] == "handled"
        await nothing(mine)


async def test_a_handler_that_fails_leaves_the_message(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with client(api, "a") as a, client(api, "b") as b, b.messages() as inbox:
        seen: list[Any] = []
        all_seen = asyncio.Event()

        async def handle(message: Received) -> None:
            seen.append(message.body)
            if len(seen) == 3:
                all_seen.set()
            if message.body == 1:
                raise RuntimeError("planted")

        inbox.on("no*", handle)
        serving = asyncio.create_task(inbox.run())
        for k in range(3):
            await a.send("note", k, to="client:b")
        await asyncio.wait_for(all_seen.wait(), 30)
        await asyncio.sleep(0.1)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert (await b.call("messages.notifications"))["waiting"] == 1
        assert "planted" in caplog.text


async def test_what_is_refused_is_raised(api: Api) -> None:
    key = (await make_key(api, "send:note", "listen:note"))["key"]
    async with client(api, "a", key) as a:
        with pytest.raises(Forbidden):
            await a.send("secret", 1, to="all")
        with pytest.raises(BadValue):
            await a.send("note", 1, to="nowhere")
        with pytest.raises(Forbidden):
            async with a.messages(topics=["secret"]):
                pass
    by_http = await api.call("POST", "/api/messages", {"to": "client:b", "type": "note"})
    assert by_http.status == 201
    async with client(api, "b") as b, b.messages() as inbox:
        with pytest.raises(LocalError):
            await (await anext(inbox)).reply()


class Friends(Others):
    """Bob and Eve, each with one device, and nobody else."""

    ids = {"bob": "bb" * 16, "eve": "ee" * 16}  # noqa: RUF012 - nobody changes it

    def goal(self, target: Target) -> tuple[bytes, ...]:
        return (bytes.fromhex(target.name if target.name in self.ids.values() else self.ids[target.name]) + b"d" * 16,)

    def enqueue(self, tx: Tx, entries: Entries, row: MessageRow, device: bytes) -> DeliveryRow:
        return people.enqueue(tx, entries, row, device, 7)

    def person_of(self, device: bytes) -> tuple[str, str] | None:
        names = {id: name for name, id in self.ids.items()}
        return (device[:16].hex(), names[device[:16].hex()]) if len(device) == 32 else None


async def test_spec_R6_messages_of_people_are_told_apart_and_answered(api: Api) -> None:
    service = api.services.messages
    assert service is not None
    service.addressing.others = Friends()

    async def arrives(name: str, body: bytes, number: int) -> None:
        def write(tx: Tx) -> list[int]:
            entries = Entries(tx)
            row = MessageRow(
                0, bytes.fromhex(Friends.ids[name]) + b"d" * 16, bytes([number]) * 16, "person", "people", "", "note",
                "", "", 1, 1, 2**50, b"", b"", body, 0,
            )  # fmt: skip
            ears = service.show(tx, entries, row, 1)
            entries.write()
            return ears

        service.arrived(await api.services.documents._database.write(write), 1)

    said: list[Any] = []
    async with client(api, "chat") as a, client(api, "other") as b:  # noqa: SIM117 - the inner ones need the outer
        async with a.messages(topics=["people"]) as inbox, b.messages(app="chat") as deaf:

            async def of_bob(message: Received) -> None:
                said.append((message.person, message.person_id, message.body))
                await message.reply("to bob")

            async def of_anybody(message: Received) -> None:
                said.append(message.body)

            inbox.on("note", of_bob, person="bob")
            inbox.on("note", of_anybody)
            serving = asyncio.create_task(inbox.run())
            await arrives("bob", b'"from bob"', 1)
            await arrives("eve", b'"from eve"', 2)
            async with asyncio.timeout(30):
                while len(said) < 2:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.01)
            assert said == [("bob", "bb" * 16, "from bob"), "from eve"]
            await nothing(deaf)  # who does not listen for people is shown nothing of them
            sent = (await a.call("messages.list", box="out", peer=None))["items"]
            assert [(m["to"], m["person"], m["person_id"]) for m in sent] == [("person:" + "bb" * 16, "bob", "bb" * 16)]
            serving.cancel()
    token = (await make_key(api, "listen:note", "send:note"))["key"]
    async with client(api, "narrow", token) as narrow:
        with pytest.raises(Forbidden):
            await narrow.send("note", 1, to="person:bob")
        with pytest.raises(Forbidden):
            async with narrow.messages(topics=["people"]):
                pass
