"""Coming back: everything that was missed, in order, once; or a new session that says so. Never a part."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.services.live_sessions import Bounds, Owner, Session, Sessions
from hybridgw_daemon.services.topics import Counter, Topics
from hybridgw_daemon.transports.local.ws_socket import SocketPatience
from hybridgw_protocol.localapi_frames import Resume
from tests.integration._local_api import Api, running
from tests.websocket._client import connected, opened


async def broken(api: Api, ws: Any) -> None:
    """The connection breaks without a close; returns once the daemon knows."""
    before = api.local.stats().open
    ws.ws._response.connection.transport.abort()
    while api.local.stats().open >= before:  # noqa: ASYNC110 - the other end of the test is what is waited for
        await asyncio.sleep(0.005)


@pytest.mark.spec("G1")
@pytest.mark.parametrize("packed", [False, True])
async def test_spec_G1_who_comes_back_gets_what_was_missed(api: Api, packed: bool) -> None:
    async with connected(api, "writer") as writer, connected(api, "reader", packed=packed) as ws:
        await ws.do("topic.subscribe", topic="t")
        sub = (await ws.do("live.subscribe", collection="notes"))["sub"]
        assert [e["event"] for e in await ws.until("ready")] == ["ready"]
        await writer.do("topic.publish", topic="t", data="before")
        seen = (await ws.event())["offset"]
        await broken(api, ws)
        for number in range(5):
            await writer.do("topic.publish", topic="t", data=number)
            await writer.do("data.put", collection="notes", id=f"n{number}", data={"n": number})
        async with connected(api, "reader", packed=packed, resume={**ws.resume, "offset": seen}) as again:
            assert again.hello["recovered"]
            assert again.hello["session"] == ws.hello["session"]
            await writer.do("topic.publish", topic="t", data="after")
            found = [await again.event() for _ in range(11)]
            topics = [e["data"]["data"] for e in found if e["event"] == "topic"]
            assert topics == [0, 1, 2, 3, 4, "after"]
            documents = [e for e in found if e["event"] == "document"]
            assert [e["data"]["id"] for e in documents] == [f"n{number}" for number in range(5)]
            assert {e["sub"] for e in documents} == {sub}
            offsets = [e["offset"] for e in found]
            assert offsets == sorted(set(offsets))
            assert offsets[0] > seen


async def test_spec_G1_events_that_were_sent_and_not_received_come_again(api: Api) -> None:
    async with connected(api, "reader") as ws:
        await ws.do("topic.subscribe", topic="t")
        for number in range(5):
            await ws.do("topic.publish", topic="t", data=number)
        events = [await ws.event() for _ in range(5)]
        for missed in (5, 2, 0):
            offset = ([{"offset": 0}, *events])[5 - missed]["offset"]
            async with connected(api, "reader", resume={**ws.resume, "offset": offset}) as again:
                assert again.hello["recovered"]
                assert [(await again.event())["data"]["data"] for _ in range(missed)] == list(range(5))[5 - missed :]
                await again.do("health")
                assert not again.events
                await broken(api, again)


@pytest.mark.parametrize("what", ["session", "epoch", "offset", "client", "mode"])
async def test_spec_G1_a_session_that_is_not_there_is_not_recovered(api: Api, what: str) -> None:
    async with connected(api, "reader") as ws:
        await ws.do("topic.subscribe", topic="t")
        place: dict[str, Any] = {**ws.resume, "offset": ws.hello["offset"]}
        await broken(api, ws)
    client, mode = "reader", "web_app"
    if what == "client":
        client = "other"
    elif what == "mode":
        mode = "local_install"
    else:
        place[what] = 10**9 if what == "offset" else "f" * 24
    async with connected(api, client, mode=mode, resume=place) as again:
        assert not again.hello["recovered"]
        assert again.hello["session"] != ws.hello["session"]
        await again.do("topic.publish", topic="t", data=1)
        assert not again.events  # subscriptions are gone with it


async def test_spec_G1_closing_in_order_ends_the_session(api: Api) -> None:
    async with connected(api, "reader") as ws:
        await ws.do("topic.subscribe", topic="t")
    assert (api.local.stats().sessions_detached, api.local.stats().topics) == (0, 0)
    async with connected(api, "reader", resume={**ws.resume, "offset": 0}) as again:
        assert not again.hello["recovered"]


async def test_a_session_is_kept_for_a_while_and_so_many(tmp_path: Path) -> None:
    patience = SocketPatience(sweep_s=0.02)
    for name in ("many", "long"):
        (tmp_path / name).mkdir()
    async with running(tmp_path / "many", bounds=Bounds(detached=3), socket_patience=patience) as api:
        for number in range(5):
            async with connected(api, f"r{number}") as ws:
                await broken(api, ws)
        assert api.local.stats().sessions_detached == 3
    async with running(tmp_path / "long", bounds=Bounds(resume_s=0.2), socket_patience=patience) as api:
        async with connected(api, "r") as ws:
            await broken(api, ws)
        async with asyncio.timeout(30):
            while api.local.stats().sessions_detached:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        async with connected(api, "r", resume={**ws.resume, "offset": 0}) as again:
            assert not again.hello["recovered"]


async def test_spec_G1_more_than_is_kept_is_never_a_part(tmp_path: Path) -> None:
    async with running(tmp_path, bounds=Bounds(keep_frames=10, keep_bytes=10**6)) as api:
        async with connected(api, "reader") as ws, connected(api, "writer") as writer:
            await ws.do("topic.subscribe", topic="t")
            await broken(api, ws)
            for number in range(11):
                await writer.do("topic.publish", topic="t", data=number)
        assert api.local.stats().subscriptions == 0  # nobody can go on with it, so it is not kept
        async with connected(api, "reader", resume={**ws.resume, "offset": 0}) as again:
            assert not again.hello["recovered"]


async def test_a_heartbeat_lets_go_of_what_arrived(api: Api) -> None:
    async with connected(api, "reader") as ws:
        await ws.do("topic.subscribe", topic="t")
        for number in range(10):
            await ws.do("topic.publish", topic="t", data=number)
        last = [await ws.event() for _ in range(10)][-1]["offset"]
        await ws.send({"type": "heartbeat", "offset": last})
        assert (await ws.frame())["type"] == "heartbeat_ack"
        assert api.local._sessions.kept_bytes == 0
        async with connected(api, "reader", resume={**ws.resume, "offset": 0}) as again:
            assert not again.hello["recovered"]


@pytest.mark.spec("G1")
async def test_spec_G1_the_newer_of_two_connections_stays(api: Api) -> None:
    async with (
        connected(api, "same") as old,
        connected(api, "same", mode="local_install") as other,
        connected(api, "same") as new,
    ):
        assert (await old.closed()).code == 4409
        await new.do("health")
        await other.do("health")  # another mode is another program
    assert api.local.stats().sessions_detached == 0


async def test_a_session_moves_from_a_connection_that_only_seems_alive(api: Api) -> None:
    async with connected(api, "same") as old:
        await old.do("topic.subscribe", topic="t")
        async with connected(api, "same", resume={**old.resume, "offset": 0}) as new:
            assert new.hello["recovered"]
            assert (await old.closed()).code == 4409
            await new.do("topic.publish", topic="t", data=1)
            assert (await new.event())["data"] == {"topic": "t", "data": 1}


@pytest.mark.parametrize("seed", range(4))
async def test_spec_G1_breaking_at_random_loses_nothing_and_repeats_nothing(api: Api, seed: int) -> None:
    """A reader whose connection breaks again and again while two programs write; it resumes or reads anew."""
    chance = random.Random(seed)
    total, seen = 300, []
    place: dict[str, Any] | None = None

    async def write() -> None:
        async with connected(api, "writer", check=False) as writer:
            for number in range(total):
                await writer.do("topic.publish", topic="t", data=number)
                if chance.random() < 0.3:
                    await asyncio.sleep(0.002)

    async with connected(api, "reader") as ws:
        await ws.do("topic.subscribe", topic="t")
        place = {**ws.resume, "offset": ws.hello["offset"]}
        await broken(api, ws)
    writing = asyncio.create_task(write())
    while not seen or seen[-1] < total - 1:
        async with connected(api, "reader", resume=place) as ws:
            assert ws.hello["recovered"]
            for _ in range(chance.randrange(60)):
                if seen and seen[-1] == total - 1:
                    break
                event = await ws.event()
                seen.append(event["data"]["data"])
                place["offset"] = event["offset"]
            if chance.random() < 0.7:
                ws.ws._response.connection.transport.abort()  # type: ignore[union-attr]
            else:
                await broken(api, ws)
    await writing
    assert seen == list(range(total))


# ---- the rules, without sockets --------------------------------------------------------------------------------------
class Line:
    """A connection that may be cut: takes events when asked."""

    def __init__(self) -> None:
        self.cut = False

    def wake(self) -> None:
        """The test takes them."""

    def take_over(self) -> None:
        """Somebody else goes on."""
        self.cut = True


@given(st.lists(st.sampled_from(["publish", "write", "break", "resume", "ack"]), max_size=60), st.integers(1, 12))
def test_spec_G1_whole_or_not(steps: list[str], keep: int) -> None:
    """Whatever happens, a resumed reader has every event, in order, once."""
    counter = Counter()
    topics = Topics(counter)
    bounds = Bounds(keep_frames=keep, resume_s=100)
    sessions = Sessions(topics, counter, epoch="e", entropy=bytes, monotonic=lambda: 0.0, bounds=bounds)
    owner = Owner("owner", "web_app", "c")
    numbers = iter(range(10**6))

    def begin(resume: Resume | None) -> tuple[Session, bool]:
        session, recovered = sessions.begin(owner, resume)
        session.outlet = Line()
        session.scheduled = False
        if not recovered:
            topics.subscribe(session, "t")
        return session, recovered

    session, _ = begin(None)
    got: list[int] = []
    expected: list[int] = []
    last = counter.offset
    for step in steps:
        attached = session.outlet is not None
        if step == "publish":
            number = next(numbers)
            topics.publish("t", number)
            expected.append(number)
        elif step == "write" and attached:
            taken = session.take()
            session.keep(taken, 10 * len(taken))
            for told in taken[: len(taken) // 2 + 1]:  # the rest is lost on the way when it breaks
                if told.offset > last and len(taken) < 3:
                    got.append(int(told.json.rpartition(b":")[2].rstrip(b"}")))
                    last = told.offset
        elif step == "ack":
            session.acknowledged(last)
        elif step == "break" and attached:
            sessions.detach(session)
        elif step == "resume":
            session, recovered = begin(Resume(session=session.id, epoch="e", offset=last))
            if recovered:
                for told in session.resume(last):
                    got.append(int(told.json.rpartition(b":")[2].rstrip(b"}")))
                    last = told.offset
                assert got == expected
            else:
                got, expected, last = [], [], counter.offset
    assert sessions.kept_bytes >= 0


async def test_the_raw_bytes_of_a_resume(api: Api) -> None:
    """A client that says `auth` with a resume of nonsense gets a new session, not an error."""
    async with opened(api) as raw:
        assert raw.head.startswith(b"HTTP/1.1 101 ")
    async with connected(api, resume={"session": "", "epoch": "", "offset": 0}) as ws:
        assert not ws.hello["recovered"]
