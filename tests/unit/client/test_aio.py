"""Parts of the asynchronous client without a daemon: frames, waits, what is unread, what waits, lost answers."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_client.aio.backoff import full_jitter
from hybridgw_client.aio.link import Ended, Lost, decode, encode, error_of_frame
from hybridgw_client.aio.live import Changes
from hybridgw_client.aio.outbox import Outbox, Rejection, Write, deliver, patched
from hybridgw_client.aio.topics import Heard
from hybridgw_protocol.errors import (
    AlreadyExists,
    BadValue,
    Busy,
    Forbidden,
    HybridGWError,
    InvalidDocument,
    NotFound,
    PreconditionFailed,
    TooBig,
    UnknownOutcome,
)
from hybridgw_protocol.localapi_frames import decode_server_frame, encode_frame
from tests.conftest import ROOT

GOLDEN = json.loads((ROOT / "protocol" / "vectors" / "local_frames.json").read_text())


# ---- frames ----------------------------------------------------------------------------------------------------------
@pytest.mark.spec("F5")
@pytest.mark.parametrize("row", GOLDEN["server"], ids=lambda row: row["name"])
def test_spec_F5_golden_frames_are_understood(row: dict[str, Any]) -> None:
    frame = decode(row["json"])
    assert frame is not None
    assert frame == decode_server_frame(bytes.fromhex(row["msgpack"]), packed=True)
    assert json.loads(encode_frame(frame)) == row["frame"]


@pytest.mark.parametrize("row", GOLDEN["malformed"], ids=lambda row: row["name"])
def test_frames_that_no_daemon_sends_end_the_connection(row: dict[str, Any]) -> None:
    with pytest.raises(Ended) as caught:
        decode(row["text"])
    assert caught.value.refusal is not None
    assert caught.value.refusal.code == "bad_frame"


def test_what_is_newer_than_we_are_is_passed_over() -> None:
    assert decode('{"type":"later","a":1}') is None
    assert decode('{"type":"heartbeat","t":1,"later":2}') is not None


def test_an_error_frame_becomes_the_error_of_the_tree() -> None:
    frame = decode(next(row["json"] for row in GOLDEN["server"] if row["name"] == "a failure"))
    error = error_of_frame(frame)  # type: ignore[arg-type]
    assert isinstance(error, PreconditionFailed)
    assert error.detail == {"version": 7, "field": "version"}
    unknown = decode('{"type":"error","id":1,"code":"later","message":"m","retryable":true}')
    assert error_of_frame(unknown).detail == {"code": "later"}  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "\ud800", object(), b"", {1, 2}])
def test_what_json_cannot_say_is_not_sent(value: object) -> None:
    with pytest.raises(BadValue):
        encode({"value": value})


def test_a_frame_has_an_end() -> None:
    with pytest.raises(TooBig):
        encode({"value": "x" * 2**20})


# ---- waits -----------------------------------------------------------------------------------------------------------
@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_are_jittered_and_bounded(attempt: int, chance: float) -> None:
    wait_s = full_jitter(attempt, lambda: chance, first_s=0.25, cap_s=10)
    assert 0 <= wait_s <= min(10, 0.25 * 2 ** min(attempt, 16))
    assert wait_s == pytest.approx(chance * min(10, 0.25 * 2 ** min(attempt, 16)))


# ---- what is unread --------------------------------------------------------------------------------------------------
def document(id: str, version: int, **more: Any) -> dict[str, Any]:
    return {"id": id, "collection": "c", "version": version, "conflicts": 0, "data": {}, **more}


async def test_unread_changes_are_no_more_than_there_are_documents() -> None:
    stirred: list[int] = []
    unread = Changes(lambda: stirred.append(1), limit=4)
    unread.event("initial", {"items": [document(f"d{n}", n) for n in range(6)]})
    unread.event("ready", {"since": "x"})
    assert unread.is_full
    for version in range(100, 200):
        unread.event("document", document("d1", version))
    unread.event("document", document("d2", 200, deleted=True))
    unread.event("later", {"x": 1})
    assert len(unread) == 7
    taken = [await unread.take() for _ in range(7)]
    assert [(c.kind, c.id) for c in taken] == [
        ("initial", "d0"), ("initial", "d3"), ("initial", "d4"), ("initial", "d5"), ("ready", ""),
        ("changed", "d1"), ("deleted", "d2"),
    ]  # fmt: skip
    assert taken[-2].document["version"] == 199
    assert stirred == [1]  # told once that there is room
    unread.event("document", document("d9", 1))
    unread.restart()
    assert (await unread.take()).kind == "reset"  # what came before it does not matter any more
    assert len(unread) == 0
    unread.failed(Forbidden("no"))
    with pytest.raises(Forbidden):
        await unread.take()


async def test_messages_are_bounded_and_a_gap_is_told() -> None:
    unheard = Heard(lambda: None, limit=10)
    for number in range(50):
        unheard.event("topic", {"topic": "t", "data": number})
    assert [(await unheard.take()).data for _ in range(20)] == list(range(20))
    unheard.event("topic", {"topic": "t", "data": 50})
    unheard.event("topic", {"topic": "t", "data": 51})
    assert [tuple(await unheard.take()) for _ in range(2)] == [("t", 50, True), ("t", 51, False)]


# ---- writes ----------------------------------------------------------------------------------------------------------
class Server:
    """Documents by id, and a connection that breaks before or behind a write, or does not."""

    def __init__(self, rng: random.Random, risk: float = 0.0) -> None:
        self.rng, self.risk = rng, risk
        self.documents: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[str, str]] = []

    async def ask(self, command: str, params: dict[str, Any]) -> Any:
        if self.rng.random() < self.risk:
            raise Lost(sent=self.rng.random() < 0.5)
        answer = self._do(command.removeprefix("data."), params)
        if self.rng.random() < self.risk:
            raise Lost(sent=True)
        return answer

    def _do(self, op: str, params: dict[str, Any]) -> Any:
        id, found = params["id"], self.documents.get(params["id"])
        if op == "get":
            if found is None:
                raise NotFound("")
            return found
        if op == "create" and found is not None:
            raise AlreadyExists("")
        if op in ("patch", "delete") and found is None:
            raise NotFound("")
        if "version" in params and (found or {}).get("version") != params["version"]:
            raise PreconditionFailed("")
        if params.get("exists") is False and found is not None:
            raise PreconditionFailed("")
        self.writes.append((op, id))
        if op == "delete":
            del self.documents[id]
            return {"id": id, "collection": "c", "deleted": True}
        data = patched(found["data"], params["patch"]) if found and op == "patch" else params["data"]
        self.documents[id] = document(id, len(self.writes), data=data)
        return self.documents[id]


async def delivered(server: Server, write: Write) -> dict[str, Any]:
    """Over as many connections as it takes."""
    is_tried = False
    while True:
        try:
            return await deliver(server.ask, write, is_tried=is_tried)
        except Lost as lost:
            is_tried = is_tried or lost.sent


@pytest.mark.parametrize("seed", range(200))
async def test_a_write_is_done_once_over_any_connections(seed: int) -> None:
    server = Server(random.Random(seed), risk=0.4)
    writes = [
        Write("create", "c", "a", {"n": 1}, own_id=True),
        Write("patch", "c", "a", {"n": 2}),
        Write("put", "c", "b", {"x": 1}, exists=False),
        Write("patch", "c", "b", {"x": None, "y": {"z": 1}}),
        Write("delete", "c", "b"),
    ]
    for write in writes:
        await delivered(server, write)
    assert server.writes == [(write.op, write.id) for write in writes]
    assert server.documents["a"]["data"] == {"n": 2}


async def test_where_nobody_can_tell_it_is_said() -> None:
    server = Server(random.Random(0))
    server.documents["a"] = document("a", 5, data={"n": 9})
    with pytest.raises(PreconditionFailed):
        await deliver(server.ask, Write("patch", "c", "a", {"n": 1}, version=4), is_tried=False)
    with pytest.raises(UnknownOutcome) as caught:  # ours may have been the change before this one
        await deliver(server.ask, Write("patch", "c", "a", {"n": 1}, version=4), is_tried=True)
    assert caught.value.detail["documents"] == [{"collection": "c", "id": "a"}]
    with pytest.raises(UnknownOutcome):
        await deliver(server.ask, Write("create", "c", "a", {"n": 1}), is_tried=True)
    found = await deliver(server.ask, Write("create", "c", "a", {"n": 9}), is_tried=True)
    assert found["version"] == 5
    with pytest.raises(NotFound):
        await deliver(server.ask, Write("patch", "c", "none", {"n": 1}), is_tried=True)


@pytest.mark.parametrize("seed", range(50))
async def test_what_waits_is_sent_in_order_and_once(seed: int) -> None:
    rng = random.Random(seed)
    server, rejected = Server(rng, risk=0.3), list[Rejection]()
    outbox = Outbox(100, lambda: 0.0, rejected.append)
    outbox.keep(Write("create", "c", "a", {}, own_id=True), is_tried=False)
    for number in range(20):
        outbox.keep(Write("patch", "c", "a", {f"k{number}": number}), is_tried=False)
    outbox.keep(Write("patch", "c", "none", {}), is_tried=False)
    while len(outbox):
        run = asyncio.create_task(outbox.run(server.ask))
        done = asyncio.create_task(outbox.flushed())
        await asyncio.wait([run, done], return_when=asyncio.FIRST_COMPLETED)
        run.cancel()
        done.cancel()
        await asyncio.gather(run, done, return_exceptions=True)
    assert server.writes == [("create", "a")] + [("patch", "a")] * 20
    assert list(server.documents["a"]["data"]) == [f"k{n}" for n in range(20)]
    assert [(r.write.id, r.error.code) for r in rejected] == [("none", "not_found")]


async def test_the_queue_is_bounded_and_keeps_what_was_said() -> None:
    outbox = Outbox(1, lambda: 0.0, None)
    data: dict[str, Any] = {"n": 1}
    outbox.keep(Write("put", "c", "a", data), is_tried=False)
    data["n"] = 2
    with pytest.raises(Busy):
        outbox.keep(Write("put", "c", "b", {}), is_tried=False)
    answers: list[HybridGWError | None] = [Busy("later"), InvalidDocument("no")]
    seen: list[Any] = []

    async def ask(_: str, params: dict[str, Any]) -> Any:
        seen.append(params["data"])
        if (error := answers.pop(0)) is not None:
            raise error

    run = asyncio.create_task(outbox.run(ask))
    await outbox.flushed()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert seen == [{"n": 1}] * 2
    assert [r.error.code for r in outbox.rejected] == ["invalid_document"]


@pytest.mark.parametrize(
    ("data", "patch", "then"),
    [
        ({"a": 1}, {"a": None, "b": 2}, {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"t": ["x", "y"]}, {"t": {"$add": ["z", "x"], "$remove": ["y"]}}, {"t": ["x", "z"]}),
        ({}, {"t": {"$add": ["z"]}}, {"t": ["z"]}),
    ],
)
def test_patches_are_those_of_the_daemon(data: Any, patch: Any, then: Any) -> None:
    assert patched(data, patch) == then


# ---- the light client stays light ------------------------------------------------------------------------------------
def test_the_synchronous_client_loads_neither_aiohttp_nor_asyncio() -> None:
    code = "import sys, hybridgw_client; print({'aiohttp', 'asyncio', 'hybridgw_client.aio'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
