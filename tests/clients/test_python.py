"""The asynchronous Python client against a daemon that is a process: it goes away, comes back, cuts and revokes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hybridgw_client import connect as connect_sync
from hybridgw_client.aio import Change, Database, Patience, Rejection, State, connect, login
from hybridgw_daemon.services.access import AccessSettings
from hybridgw_protocol.errors import (
    AlreadyExists,
    BadFrame,
    BadValue,
    Busy,
    Forbidden,
    InvalidCredentials,
    NotFound,
    NotRunning,
    Offline,
    PreconditionFailed,
    StateError,
    TooBig,
    Unauthorized,
    UnknownOutcome,
)
from tests.integration._local_api import Process, running

WAIT_S = 30.0
QUICK = Patience(first_s=0.02, cap_s=0.1, command_s=WAIT_S)


class Daemon:
    """One profile's daemon, on the port it had before."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, "0"
        self.up()

    def up(self) -> None:
        """Start it and wait until its keys are open: the first time that begins the change feed anew."""
        self.process = Process(self.home, "--secret-store", "insecure-file", "--port", self.port)
        self.endpoint = self.process.ready()
        self.port = str(self.endpoint.port)
        with connect_sync(self.home) as client:
            for _ in range(1_500):
                if client.get("/api/sync/status")["state"] != "locked":
                    return
                time.sleep(0.02)
        raise AssertionError("its keys stay locked")

    def kill(self) -> None:
        """As a power cut."""
        self.process.kill()

    def pause(self) -> None:
        """It is there and does nothing: to the network a cable that was pulled."""
        os.kill(self.process.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """For tests that leave it alone."""
    daemon = Daemon(tmp_path_factory.mktemp("shared") / "home")
    yield daemon
    daemon.kill()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """For tests that end it."""
    daemon = Daemon(tmp_path / "home")
    yield daemon
    if daemon.process.process.poll() is None:
        daemon.kill()


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(4 * WAIT_S):
        yield


class States:
    """What a client says of itself, to be waited for."""

    def __init__(self) -> None:
        self.all: list[State] = []
        self._more = asyncio.Event()

    def __call__(self, state: State) -> None:
        self.all.append(state)
        self._more.set()

    async def until(self, test: Callable[[State], bool]) -> State:
        """The first that was told since the last call."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self.all:
                    if test(found := self.all.pop(0)):
                        return found
                self._more.clear()
                await self._more.wait()

    async def status(self, name: str) -> State:
        return await self.until(lambda state: state.status == name)


async def until(changes: Any, kind: str) -> list[Change]:
    """Changes up to one of this kind."""
    found = []
    async with asyncio.timeout(WAIT_S):
        async for change in changes:
            found.append(change)
            if change.kind == kind:
                return found
    raise AssertionError(found)


def cut(db: Database) -> None:
    """The network breaks under the client, without a word to anybody."""
    assert db._link is not None
    connection = db._link._ws._response.connection
    if connection is not None and connection.transport is not None:  # else it has broken by itself
        connection.transport.abort()


# ---- in order --------------------------------------------------------------------------------------------------------
@pytest.mark.spec("F5")
async def test_spec_F5_documents_are_read_and_written(shared: Daemon) -> None:
    async with connect(shared.home) as db:
        notes = db.collection("books")
        made = await notes.create({"title": "A", "n": 1})
        assert (await notes.get(made["id"]))["data"] == {"title": "A", "n": 1}
        await notes.create({"n": 2}, "two")
        with pytest.raises(AlreadyExists):
            await notes.create({"n": 3}, "two")
        patched = await notes.patch("two", {"title": "B"}, version=(await notes.get("two"))["version"])
        with pytest.raises(PreconditionFailed) as caught:
            await notes.patch("two", {"title": "C"}, version=made["version"])
        assert caught.value.detail["version"] == patched["version"]
        await notes.put("three", {"n": 3}, exists=False)
        result = await notes.batch([{"op": "create", "data": {"n": 4}}, {"op": "delete", "id": "three"}])
        assert len(result["items"]) == 2
        assert [d["data"]["n"] async for d in notes.query({"n": {"$gt": 1}}, sort="-n", page=1)] == [4, 2]
        assert [len(page) async for page in notes.query(page=2).pages()] == [2, 1]
        assert len(await notes.list()) == 3
        await notes.delete("two")
        with pytest.raises(NotFound):
            await notes.delete("no such")
        assert (await db.call("health"))["status"] == "ok"


@pytest.mark.spec("F5")
async def test_spec_F5_what_is_there_then_what_changes(shared: Daemon) -> None:
    async with connect(shared.home) as db:
        shelf = db.collection("shelf")
        for number in range(3):
            await shelf.put(f"s{number}", {"n": number, "open": number != 1})
        async with db.watch("shelf", filter={"open": True}) as changes, db.view("shelf", filter={"open": True}) as view:
            assert [c.id for c in await until(changes, "ready")] == ["s0", "s2", ""]
            assert [d["id"] for d in view] == ["s0", "s2"]
            await shelf.put("s3", {"n": 3, "open": True})
            await shelf.patch("s0", {"open": False})
            await shelf.delete("s2")
            assert [(c.kind, c.id) for c in await until(changes, "deleted")] == [
                ("changed", "s3"), ("left", "s0"), ("deleted", "s2"),
            ]  # fmt: skip
            async for now in view.updates():
                if [d["id"] for d in now] == ["s3"]:
                    break
        async for change in db.watch("shelf", id="s3"):
            assert (change.kind, change.data["n"]) == ("initial", 3)
            break  # whoever leaves a loop need not close anything
        assert not db._subscriptions._all
        async with db.listen("bell") as messages:
            assert await db.publish("bell", {"a": [1, None]}) == 1
            assert tuple(await anext(messages)) == ("bell", {"a": [1, None]}, False)


async def test_two_listeners_of_a_topic_and_one_leaves(shared: Daemon) -> None:
    async with connect(shared.home) as db, db.listen("twice") as stays:
        async with db.listen("twice") as leaves:
            await db.publish("twice", 1)
            assert (await anext(leaves)).data == 1
        await db.publish("twice", 2)
        assert [(await anext(stays)).data for _ in range(2)] == [1, 2]


# ---- it breaks -------------------------------------------------------------------------------------------------------
@pytest.mark.spec("F5")
async def test_spec_F5_a_broken_connection_goes_on_where_it_was(shared: Daemon) -> None:
    states = States()
    async with (
        connect(shared.home, on_state=states, patience=QUICK) as db, connect(shared.home) as other,
        db.watch("resumed") as changes, db.listen("resumed") as messages,
    ):  # fmt: skip
        await until(changes, "ready")
        await states.status("online")
        for number in range(3):
            cut(db)
            await other.publish("resumed", number)
            await other.collection("resumed").put(f"r{number}", {"n": number})
            assert (await states.status("online")).recovered
            assert [c.kind for c in await until(changes, "changed")] == ["changed"]
            assert tuple(await anext(messages)) == ("resumed", number, False)


@pytest.mark.spec("F5")
async def test_spec_F5_after_kill_and_restart_everything_is_read_anew(own: Daemon) -> None:
    states = States()
    async with connect(own.home, on_state=states, patience=QUICK) as db:
        tasks = db.collection("notes")
        await tasks.put("a", {"n": 1})
        await tasks.put("b", {"n": 1})
        async with db.watch("notes") as changes, db.view("notes") as view, db.listen("bell") as messages:
            await until(changes, "ready")
            own.kill()
            await states.status("offline")
            assert {d["id"] for d in view} == {"a", "b"}  # shown while it is away
            waiting = asyncio.create_task(tasks.get("a"))  # waits for the daemon
            await asyncio.to_thread(own.up)
            assert not (await states.status("online")).recovered
            assert (await waiting)["data"] == {"n": 1}
            assert [c.kind for c in await until(changes, "ready")] == ["reset", "initial", "initial", "ready"]
            await tasks.delete("b")
            assert [c.id for c in await until(changes, "deleted")] == ["b"]
            async for now in view.updates():
                if [d["id"] for d in now] == ["a"]:
                    break
            while await db.publish("bell", 1) == 0:  # it listens anew beside us
                pass
            assert (await anext(messages)).after_gap


async def test_a_daemon_that_hangs_is_noticed_and_nothing_is_done_twice(own: Daemon) -> None:
    """Half open: the other end takes what we write and says nothing. What it had got it does when it goes on."""
    states = States()
    patience = Patience(first_s=0.02, cap_s=0.1, command_s=WAIT_S, heartbeat_s=0.1, deadline_s=0.3, open_s=0.5)
    async with connect(own.home, on_state=states, patience=patience) as db:
        notes = db.collection("notes")
        await notes.put("seen", {"n": 1})
        own.pause()
        writes = [asyncio.create_task(notes.create({"n": n})) for n in range(20)]
        writes.append(asyncio.create_task(notes.delete("seen")))  # type: ignore[arg-type]
        published = asyncio.create_task(db.publish("t", 1))
        ended = await states.status("offline")
        assert ended.error is not None
        assert "no sign of life" in ended.error.message
        with pytest.raises(UnknownOutcome, match=r"topic\.publish"):
            await published
        own.go_on()
        made = await asyncio.gather(*writes)
        assert len({d["id"] for d in made if d is not None}) == 20
        assert sorted(d["data"]["n"] for d in await notes.list()) == list(range(20))


async def test_a_batch_in_doubt_names_its_documents(own: Daemon) -> None:
    patience = Patience(first_s=0.02, cap_s=0.1, command_s=WAIT_S, heartbeat_s=0.1, deadline_s=0.2, open_s=0.5)
    async with connect(own.home, patience=patience) as db:
        own.pause()
        with pytest.raises(UnknownOutcome) as caught:
            await db.batch([{"op": "create", "collection": "notes", "data": {"n": 1}}])
        own.go_on()
        (named,) = caught.value.detail["documents"]  # type: ignore[misc]
        async with db.watch("notes", id=named["id"]) as changes:  # the way to find out
            assert [c.kind for c in await until(changes, "ready")] in (["ready"], ["initial", "ready"])


async def test_answers_that_never_come_end_in_time(own: Daemon) -> None:
    async with connect(own.home, patience=Patience(command_s=0.3, first_s=0.01)) as db:
        own.kill()
        with suppress(UnknownOutcome):  # if it was sent before the end was noticed
            await db.publish("t")
        with pytest.raises(Offline, match="nothing was sent"):
            await db.collection("notes").put("a", {})


# ---- a slow program --------------------------------------------------------------------------------------------------
async def test_a_slow_program_is_cut_and_goes_on_without_a_gap(own: Daemon) -> None:
    """It reads no more while a thousand messages wait in it; the daemon cuts it; what it missed follows in order."""
    states, body, sent = States(), "x" * 2_000, 0
    async with (
        connect(own.home, client_id="slow", on_state=states, patience=QUICK) as slow, connect(own.home) as sender,
        slow.listen("flood") as messages,
    ):  # fmt: skip
        await states.status("online")
        while True:
            await asyncio.gather(*(sender.publish("flood", [sent + n, body]) for n in range(50)))
            sent += 50
            report = await sender.call("analytics.connections")
            (state,) = [c["state"] for c in report["items"] + report["archived"] if c["client_id"] == "slow"][:1]
            if state not in ("open", "slow"):
                break
            assert sent < 50_000
        found = [await anext(messages) for _ in range(sent)]
        assert (await states.status("online")).recovered
        assert [(message.data[0], message.after_gap) for message in found] == [(n, False) for n in range(sent)]


async def test_a_watch_that_nobody_reads_stops_no_command(shared: Daemon) -> None:
    async with connect(shared.home) as db, connect(shared.home) as other:
        many = other.collection("many")
        for part in range(5):
            await many.batch({"op": "put", "id": f"m{part}-{n}", "data": {"n": n}} for n in range(1_000))
        async with db.watch("many") as changes:
            async for change in changes:  # a write for each of the first: answers come behind thousands of changes
                await db.collection("few").put("one", {"id": change.id})
                if change.id == "m0-50":
                    break
            found = await until(changes, "ready")
        assert len({c.id for c in found if c.kind == "initial"}) == 5_000 - 51


# ---- writes that wait ------------------------------------------------------------------------------------------------
@pytest.mark.spec("F5")
async def test_spec_F5_writes_wait_in_order_and_are_done_once(own: Daemon) -> None:
    states, rejected = States(), list[Rejection]()
    async with connect(own.home, offline_queue=100, on_state=states, on_rejected=rejected.append, patience=QUICK) as db:
        notes = db.collection("notes")
        assert "queued" not in await notes.put("a", {"n": 0})
        own.kill()
        await states.status("offline")
        for number in range(1, 20):
            assert (await notes.patch("a", {"n": number}))["queued"]
        made = await notes.create({"n": 100})
        await notes.create({"n": 1}, "a")  # is there already: refused later
        await notes.patch("a", {"last": True})
        assert db.queued == 22
        own.up()
        async with asyncio.timeout(WAIT_S):
            await db.flushed()
        found = {d["id"]: d["data"] for d in await notes.list()}
        assert found == {"a": {"n": 19, "last": True}, made["id"]: {"n": 100}}
        assert [(r.write.op, r.error.code) for r in rejected] == [("create", "already_exists")]
        assert (await notes.get("a"))["version"] > 20  # each of them was done


async def test_a_queue_has_an_end_and_may_begin_without_a_daemon(tmp_path: Path) -> None:
    async with connect(tmp_path / "home", offline_queue=2, patience=QUICK) as db:
        notes = db.collection("notes")
        await notes.put("a", {})
        await notes.put("b", {})
        with pytest.raises(Busy, match="2 writes wait"):
            await notes.put("c", {})
        daemon = Daemon(tmp_path / "home")
        try:
            async with asyncio.timeout(WAIT_S):
                await db.flushed()
                assert len(await notes.list()) == 2
        finally:
            daemon.kill()


async def test_a_write_whose_answer_was_lost_is_looked_up(shared: Daemon) -> None:
    """The connection is cut right behind the command, again and again: whatever arrived, each is done once."""
    async with connect(shared.home, patience=QUICK, random=lambda: 0.0) as db:
        lost = db.collection("lost")
        await lost.put("count", {"tags": []})
        for number in range(30):
            write = asyncio.create_task(lost.create({"n": number}))
            change = asyncio.create_task(lost.patch("count", {f"k{number}": number}))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            if db._link is not None:
                cut(db)
            await asyncio.gather(write, change)
        assert sorted(d["data"]["n"] for d in await lost.list({"n": {"$exists": True}})) == list(range(30))
        assert len((await lost.get("count"))["data"]) >= 30


# ---- who we are ------------------------------------------------------------------------------------------------------
async def key_of(db: Database, *scopes: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await db.call("auth.keys.create", scopes=list(scopes), note="test", **more)
    return found


@pytest.mark.spec("A5")
async def test_spec_A5_a_key_reaches_what_it_may_until_it_is_revoked(shared: Daemon) -> None:
    async with connect(shared.home) as owner:
        await owner.collection("keyed").put("a", {"n": 1})
        made = await key_of(owner, "read:keyed", "write:keyed", "listen:t")
        for way in ({"api_key": made["key"]}, {"token": login(made["key"])}):
            async with connect(url=shared.endpoint.url, patience=QUICK, **way) as db:  # type: ignore[arg-type]
                assert len(await db.collection("keyed").list()) == 1
                await db.collection("keyed").create({"n": 2}, f"by-{next(iter(way))}")
                await owner.collection("keyed").delete(f"by-{next(iter(way))}")
                with pytest.raises(Forbidden):
                    await db.collection("other").list()
                with pytest.raises(Forbidden):
                    async with db.watch("other"):
                        pass
                with pytest.raises(Forbidden):
                    await db.publish("t")
        states = States()
        async with connect(shared.home, api_key=made["key"], on_state=states, patience=QUICK) as db:
            async with db.watch("keyed") as changes:
                await until(changes, "ready")
                await owner.call("auth.keys.revoke", id=made["id"])
                failed = await states.status("failed")
                assert isinstance(failed.error, Forbidden | Unauthorized)
                with pytest.raises(type(failed.error)):
                    await until(changes, "changed")
            with pytest.raises(type(failed.error)):
                await db.collection("keyed").list()
        with pytest.raises(Unauthorized):
            async with connect(shared.home, api_key=made["key"]):
                pass
        with pytest.raises(InvalidCredentials):
            async with connect(shared.home, token=login(made["key"])):
                pass


async def test_spec_F5_a_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    """Tokens of three seconds, of a daemon in this process."""
    asked: asyncio.Queue[str] = asyncio.Queue()
    states = States()
    async with running(tmp_path, settings=AccessSettings("HS256", 3, b"k" * 32)) as api:
        body = {"scopes": ["read:notes"], "note": "test"}
        fetch = login((await api.call("POST", "/api/auth/keys", body)).body["key"])

        async def counted(url: str) -> str:
            token = await fetch(url)
            asked.put_nowait(token)
            return token

        async with connect(url=f"http://127.0.0.1:{api.port}", token=counted, on_state=states) as db:
            tokens = {await asked.get() for _ in range(3)}
            assert await db.collection("notes").list() == []
            assert len(tokens) == 3
            assert [state.status for state in states.all] == ["online"]


async def test_a_key_that_is_bound_to_an_origin_needs_it(shared: Daemon) -> None:
    page = "https://tasks.example.com"
    async with connect(shared.home) as owner:
        made = await key_of(owner, "read:keyed", origins=[page])
    async with connect(shared.home, api_key=made["key"], origin=page) as db:
        await db.collection("keyed").list()
    with pytest.raises(Forbidden):
        async with connect(shared.home, api_key=made["key"], origin="https://other.example.com"):
            pass


async def test_the_owners_token_is_new_after_a_restart(own: Daemon) -> None:
    old = own.endpoint.token.reveal()
    async with connect(own.home, patience=QUICK) as db:
        fixed = connect(url=own.endpoint.url, token=old, patience=QUICK)
        async with fixed as stale:
            own.kill()
            own.up()
            await db.collection("notes").put("a", {})
            with pytest.raises(Unauthorized):
                await stale.collection("notes").get("a")
            assert stale.state.status == "failed"


# ---- what is wrong from the beginning --------------------------------------------------------------------------------
async def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=r"hybridgw.* up"):
        async with connect(tmp_path / "home"):
            pass
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(NotRunning):
            async with connect(url=url, token="t", patience=Patience(open_s=0.1)):
                pass


@pytest.mark.parametrize("raw", [b'{"type":"auth_ok"}', b"nonsense", b'{"type":"result","id":1}'])
async def test_something_else_answers(raw: bytes) -> None:
    from aiohttp import web

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("hybridgw.v1.json",))
        await ws.prepare(request)
        await ws.receive()
        await ws.send_str(raw.decode())
        await ws.receive()
        return ws

    app = web.Application()
    app.router.add_get("/ws/local_install/{client}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        with pytest.raises(BadFrame):
            async with connect(url=url, token="t"):
                pass
        with pytest.raises(StateError, match="404"):
            async with connect(url=url, token="t", client_id="a/b"):
                pass
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.7:8000", "https://127.0.0.1:8000", "http://example.com", "ws://127.0.0.1", "no", "http://[x"],
)
def test_a_token_goes_to_no_other_machine(url: str) -> None:
    with pytest.raises(BadValue):
        connect(url=url, token="t")


async def test_bad_input(shared: Daemon) -> None:
    for wrong in ({"url": "http://127.0.0.1:1"}, {"token": "t", "api_key": "k"}):
        with pytest.raises(BadValue):
            connect(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadValue):
        async with connect(shared.home, client_id="a client"):
            pass
    async with connect(shared.home) as db:
        notes = db.collection("bad")
        circle: dict[str, Any] = {}
        circle["self"] = circle
        for value in (float("nan"), float("inf"), "\ud800", object(), circle, b"bytes", 2**70):
            with pytest.raises(BadValue):
                await notes.put("a", {"value": value})
        with pytest.raises(TooBig):
            await notes.put("a", {"value": "x" * 2**20})
        with pytest.raises(BadValue):
            await notes.list({"n": {"$nonsense": 1}})
        with pytest.raises(BadValue):
            async with db.watch("No Collection"):
                pass
        with pytest.raises(BadValue):
            async for _ in db.listen("no topic"):
                pass
        with pytest.raises(NotFound):
            await db.call("no.such")
        assert await notes.list() == []
        assert db.state.status == "online"
        assert not db._link._waiting  # type: ignore[union-attr]
    for use in (db.collection("x").list(), db.publish("t"), anext(db.watch("x"))):
        with pytest.raises(StateError):
            await use
    with pytest.raises(StateError):
        async with db:
            pass


async def test_the_same_client_id_ends_the_older_one(shared: Daemon) -> None:
    states = States()
    async with connect(shared.home, client_id="twin", on_state=states), connect(shared.home, client_id="twin") as db:
        assert "client id" in str((await states.status("failed")).error)
        await db.collection("books").list()


# ---- the synchronous client ------------------------------------------------------------------------------------------
@pytest.mark.spec("F5")
def test_spec_F5_the_synchronous_client_watches_too(own: Daemon) -> None:
    with connect_sync(own.home) as client:
        client.put("notes", "a", {"n": 1})
        client.put("other", "b", {"n": 1})
        events = client.watch("notes")
        assert [(e.name, e.data.get("id")) for e in (next(events), next(events))] == [
            ("document", "a"), ("ready", None),
        ]  # fmt: skip
        client.put("notes", "c", {"n": 2})
        client.delete("notes", "a")
        third = next(events)
        assert (third.name, third.data.get("id")) == ("document", "c"), third
        own.kill()
        own.up()
        found = next(events)  # it has found the daemon again, and goes on behind the last one
        assert (found.data["id"], found.data["deleted"]) == ("a", True)
        assert isinstance(events, Generator)
        events.close()
