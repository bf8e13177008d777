"""Messages between programs of one machine, over the WebSocket: shown until acknowledged, in order, each once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.core.targets import parse_rule
from hybridgw_daemon.services.addressing import Members
from hybridgw_daemon.services.ears import RESERVED, WINDOW
from hybridgw_protocol.limits import MAX_MESSAGE_BODY_BYTES
from tests.integration._access import make_key
from tests.integration._local_api import Alone, Api, running
from tests.websocket._client import Ws, connected


def bodies(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"]["body"] for event in events if event["event"] == "message"]


async def messages(ws: Ws, count: int) -> list[dict[str, Any]]:
    """The next so many message events."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        event = await ws.event()
        if event["event"] == "message":
            found.append(event)
    return found


async def silence(ws: Ws) -> None:
    """No further event comes."""
    assert not ws.events
    with pytest.raises(TimeoutError):
        await ws.event(0.2)


async def test_spec_R1_a_message_is_shown_and_its_sender_hears_of_it(api: Api) -> None:
    async with connected(api, "tabs") as tabs, connected(api, "sender", mode="browser_extension") as sender:
        await tabs.do("messages.listen")
        await sender.do("messages.listen", receive=False)
        sent = await sender.do(
            "messages.send", to="client:tabs", type="tab.open", body={"url": "https://example.com"}, priority="high"
        )
        assert (sent["state"], sent["client"]) == ("delivered", "browser_extension/sender")
        (event,) = await messages(tabs, 1)
        shown = event["data"]
        assert shown["id"] == sent["id"]
        assert (shown["type"], shown["body"]) == ("tab.open", {"url": "https://example.com"})
        assert shown["from"] == {
            "device": "here", "client": "browser_extension/sender", "person": None, "person_id": None,
        }  # fmt: skip
        assert (shown["to"], shown["priority"], shown["gap"]) == ("client:tabs", "high", False)
        assert await tabs.do("messages.ack", ids=[sent["id"]]) == {"count": 1}
        assert await tabs.do("messages.ack", ids=[sent["id"]]) == {"count": 0}
        told = await sender.event()
        assert told["event"] == "message_state"
        assert (told["data"]["id"], told["data"]["state"]) == (sent["id"], "handled")
        assert (await sender.do("messages.get", id=sent["id"]))["state"] == "handled"


async def test_spec_R4_one_that_is_away_gets_it_when_it_returns_once(api: Api) -> None:
    async with connected(api, "sender") as sender:
        for k in range(3):
            await sender.do("messages.send", to="client:tabs", type="note", body=k)
        async with connected(api, "tabs") as tabs:
            assert (await tabs.do("messages.listen"))["waiting"] == 3
            events = await messages(tabs, 3)
            assert bodies(events) == [0, 1, 2]
            await tabs.do("messages.ack", ids=[events[0]["data"]["id"]])
        async with connected(api, "tabs") as tabs:  # what was not acknowledged comes again
            assert (await tabs.do("messages.listen"))["waiting"] == 2
            events = await messages(tabs, 2)
            assert bodies(events) == [1, 2]
            await tabs.do("messages.ack", ids=[event["data"]["id"] for event in events])
        async with connected(api, "tabs") as tabs:
            assert (await tabs.do("messages.listen"))["waiting"] == 0
            await silence(tabs)


async def test_spec_R4_it_survives_the_daemon(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        answer = await api.call("POST", "/api/messages", {"to": "client:tabs", "type": "note", "body": "kept"})
        assert answer.status == 201
    async with running(tmp_path) as api, connected(api, "tabs") as tabs:
        assert (await tabs.do("messages.listen"))["waiting"] == 1
        assert bodies(await messages(tabs, 1)) == ["kept"]


async def test_spec_R1_every_kind_of_target(api: Api) -> None:
    async with (
        connected(api, "a", mode="web_app") as a, connected(api, "b", mode="browser_extension") as b,
        connected(api, "c", mode="local_install") as c,
    ):  # fmt: skip
        await a.do("messages.listen", app="notes", topics=["news"])
        await b.do("messages.listen", app="notes")
        await c.do("messages.listen", topics=["news", "weather"])
        for to in ("client:a", "app:notes", "mode:local_install", "topic:news", "topic:weather", "all", "all@here"):
            await c.do("messages.send", to=to, type="note", body=to)
        assert bodies(await messages(a, 5)) == ["client:a", "app:notes", "topic:news", "all", "all@here"]
        assert bodies(await messages(b, 3)) == ["app:notes", "all", "all@here"]
        await silence(c)  # its own are not for itself
        await c.do("messages.send", to="client:c", type="note", body="to myself")
        assert bodies(await messages(c, 1)) == ["to myself"]
        await silence(a)
        await silence(b)


async def test_spec_R3_urgent_overtakes_and_bulk_does_not_starve(api: Api) -> None:
    async with connected(api, "sender") as sender:
        for k in range(30):
            for priority in ("bulk", "normal", "urgent"):
                await sender.do("messages.send", to="client:tabs", type="note", body=[priority, k], priority=priority)
    async with connected(api, "tabs") as tabs:
        await tabs.do("messages.listen")
        shown = bodies(await messages(tabs, 90))
    assert [p for p, _ in shown[:8]] == ["urgent"] * 8
    for priority in ("bulk", "normal", "urgent"):
        assert [k for p, k in shown if p == priority] == list(range(30))
    assert "bulk" in [p for p, _ in shown[:12]]


async def test_a_program_that_never_acknowledges_is_shown_no_more_but_what_is_urgent(api: Api) -> None:
    async with connected(api, "tabs") as tabs, connected(api, "sender") as sender:
        await tabs.do("messages.listen")
        for k in range(WINDOW + 5):
            await sender.do("messages.send", to="client:tabs", type="note", body=k)
        events = await messages(tabs, WINDOW - RESERVED)
        await silence(tabs)
        await sender.do("messages.send", to="client:tabs", type="note", body="fire", priority="urgent")
        assert bodies(await messages(tabs, 1)) == ["fire"]
        await tabs.do("messages.ack", ids=[event["data"]["id"] for event in events[:10]])
        assert bodies(await messages(tabs, 9)) == list(range(WINDOW - RESERVED, WINDOW - RESERVED + 9))


async def test_a_connection_that_comes_back_with_its_session_goes_on(api: Api) -> None:
    async with connected(api, "sender") as sender:
        async with connected(api, "tabs") as tabs:
            await tabs.do("messages.listen")
            await sender.do("messages.send", to="client:tabs", type="note", body=1)
            (event,) = await messages(tabs, 1)
            place = {**tabs.resume, "offset": event["offset"]}
            tabs.ws._response.connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        await sender.do("messages.send", to="client:tabs", type="note", body=2)
        async with connected(api, "tabs", resume=place) as tabs:
            assert tabs.hello["recovered"] is True
            assert bodies(await messages(tabs, 1)) == [2]
            assert await tabs.do("messages.ack", ids=[event["data"]["id"]]) == {"count": 1}
            await silence(tabs)


async def test_spec_R4_a_repeated_id_is_the_same_message_and_another_content_is_refused(api: Api) -> None:
    id = "01890a5d-ac96-774b-bcce-b302099a8057"
    async with connected(api, "tabs") as tabs, connected(api, "sender") as sender:
        await tabs.do("messages.listen")
        first = await sender.do("messages.send", to="client:tabs", type="note", body=1, id=id)
        assert await sender.do("messages.send", to="client:tabs", type="note", body=1, id=id) == first
        assert bodies(await messages(tabs, 1)) == [1]
        await silence(tabs)
        refused = await sender.ask("messages.send", to="client:tabs", type="note", body=2, id=id)
        assert (refused["code"], refused["field"]) == ("already_exists", "id")
    audit = await api.call("GET", "/api/auth/audit?event=message.conflict")
    assert [row["detail"] for row in audit.body["items"]] == [{"id": id}]


async def test_spec_R4_what_is_over_is_not_shown_and_its_sender_hears_of_it(api: Api) -> None:
    async with connected(api, "sender") as sender:
        await sender.do("messages.listen", receive=False)
        sent = await sender.do("messages.send", to="client:tabs", type="note", body=1, ttl_s=60)
        api.clock.move(61)
        assert api.services.messages is not None
        await api.services.messages.tend()
        told = await sender.event()
        assert (told["data"]["id"], told["data"]["state"]) == (sent["id"], "expired")
        async with connected(api, "tabs") as tabs:
            assert (await tabs.do("messages.listen"))["waiting"] == 0
            await silence(tabs)


@pytest.mark.parametrize(
    ("params", "code", "field"),
    [
        ({"to": "client:tabs", "type": "note", "body": "x" * (MAX_MESSAGE_BODY_BYTES - 1)}, "too_big", "body"),
        ({"to": "nowhere", "type": "note"}, "bad_value", "to"),
        ({"to": "mode:phone", "type": "note"}, "bad_value", "to"),
        ({"to": "client:", "type": "note"}, "bad_value", "to"),
        ({"to": "all@", "type": "note"}, "bad_value", "to"),
        ({"to": "device:", "type": "note"}, "bad_value", "to"),
        ({"to": [], "type": "note"}, "bad_value", "to"),
        ({"to": "client:tabs", "type": "not a type"}, "bad_value", "type"),
        ({"to": "client:tabs", "type": "note", "id": "1"}, "bad_value", "id"),
        ({"to": "client:tabs", "type": "note", "ttl_s": 0}, "bad_value", "ttl_s"),
        ({"to": "client:tabs", "type": "note", "ttl_s": 2_592_001}, "bad_value", "ttl_s"),
        ({"to": "client:tabs", "type": "note", "priority": "low"}, "bad_value", "priority"),
        ({"type": "note"}, "not_found", "to"),
    ],
)  # fmt: skip
async def test_bad_messages_are_refused_with_the_field(api: Api, params: dict[str, Any], code: str, field: str) -> None:
    async with connected(api, "sender") as sender:
        refused = await sender.ask("messages.send", **params)
        assert (refused["type"], refused["code"], refused.get("field")) == ("error", code, field), refused
    assert (await api.call("GET", "/api/messages")).body["items"] == []


async def test_the_greatest_body_goes_through(api: Api) -> None:
    body = "x" * (MAX_MESSAGE_BODY_BYTES - 2)
    async with connected(api, "tabs") as tabs, connected(api, "sender") as sender:
        await tabs.do("messages.listen")
        await sender.do("messages.send", to="client:tabs", type="note", body=body)
        assert bodies(await messages(tabs, 1)) == [body]


@pytest.fixture
async def keyed(api: Api) -> AsyncIterator[tuple[Ws, Ws]]:
    """Two programs with keys: one may send and hear notes, one may hear news."""
    first = await make_key(api, "send:note", "listen:note", "send:news")
    second = await make_key(api, "listen:news")
    async with connected(api, "first", auth=False) as a, connected(api, "second", auth=False) as b:
        await a.auth(first["key"])
        await b.auth(second["key"])
        yield a, b


async def test_sec_L14_a_program_sends_and_hears_what_its_credential_gives(api: Api, keyed: tuple[Ws, Ws]) -> None:
    first, second = keyed
    await first.do("messages.listen")
    await second.do("messages.listen", topics=["news"])
    assert (await second.ask("messages.listen", topics=["note"]))["code"] == "forbidden"
    await second.do("messages.listen", topics=["news"])
    assert (await first.ask("messages.send", to="all", type="secret"))["code"] == "forbidden"
    assert (await first.ask("messages.send", to="topic:secret", type="note"))["code"] == "forbidden"
    assert (await second.ask("messages.send", to="all", type="news"))["code"] == "forbidden"
    note = await first.do("messages.send", to="all", type="note", body=1)
    news = await first.do("messages.send", to="topic:news", type="note", body=2)
    assert bodies(await messages(second, 1)) == [2]  # not the note: it may not hear that
    await silence(second)
    assert (await second.ask("messages.get", id=note["id"]))["code"] == "not_found"
    assert await second.do("messages.ack", ids=[note["id"]]) == {"count": 0}
    assert await second.do("messages.ack", ids=[news["id"]]) == {"count": 1}
    seen = await second.do("messages.list")
    assert [item["id"] for item in seen["items"]] == [news["id"]]


async def test_spec_R5_history_and_notifications_by_http(api: Api) -> None:
    async with connected(api, "sender") as sender:
        ids = [(await sender.do("messages.send", to="client:tabs", type=f"t.{k % 2}", body=k))["id"] for k in range(7)]
    newest = list(reversed(ids))
    page = (await api.call("GET", "/api/messages?limit=3")).body
    assert [item["id"] for item in page["items"]] == newest[:3]
    rest = (await api.call("GET", f"/api/messages?limit=10&cursor={page['next_cursor']}")).body
    assert [item["id"] for item in rest["items"]] == newest[3:]
    assert rest["next_cursor"] is None
    ones = (await api.call("GET", "/api/messages?type=t.1&peer=web_app/sender")).body["items"]
    assert [item["body"] for item in ones] == [5, 3, 1]
    assert (await api.call("GET", "/api/messages?type=t.*&box=in")).body["items"] == []
    assert (await api.call("GET", "/api/messages?cursor=x")).status == 422
    waiting = (await api.call("GET", "/api/messages/notifications?limit=2")).body
    assert (waiting["waiting"], len(waiting["items"])) == (7, 2)
    assert (await api.call("POST", f"/api/messages/{ids[0]}/ack", {})).body == {"count": 1}
    assert (await api.call("GET", "/api/messages/notifications")).body["waiting"] == 6


async def test_spec_R4_dead_letters_are_listed_sent_again_and_deleted(api: Api) -> None:
    asked = {"to": "client:tabs", "type": "note", "body": 1, "ttl_s": 5}
    first = (await api.call("POST", "/api/messages", asked)).body
    assert (await api.call("POST", f"/api/messages/{first['id']}/retry", {})).status == 400
    api.clock.move(6)
    assert api.services.messages is not None
    await api.services.messages.tend()
    assert [m["id"] for m in (await api.call("GET", "/api/messages?box=dead")).body["items"]] == [first["id"]]
    again = (await api.call("POST", f"/api/messages/{first['id']}/retry", {})).body
    assert (again["body"], again["to"], again["state"]) == (1, "client:tabs", "delivered")
    assert again["id"] != first["id"]
    assert (await api.call("GET", "/api/messages?box=dead")).body["items"] == []
    assert (await api.call("DELETE", f"/api/messages/{again['id']}")).body == {"id": again["id"]}
    assert (await api.call("GET", f"/api/messages/{again['id']}")).status == 404


async def test_spec_R2_rules_decide_and_say_why(api: Api) -> None:
    rules = [
        {"name": "tabs", "type": "tab.*", "to": ["client:tabs"], "go_on": True, "fixed": False},
        {"name": "log", "type": "tab.*", "to": ["app:log", "client:tabs"], "go_on": False, "fixed": False},
        {"name": "rest", "type": "*", "to": ["all@here"], "go_on": False, "fixed": False},
    ]
    assert (await api.call("PUT", "/api/messages/rules", {"rules": rules})).body["items"] == rules
    async with connected(api, "tabs") as tabs, connected(api, "logger") as logger:
        await tabs.do("messages.listen")
        await logger.do("messages.listen", app="log")
        report = (await api.call("POST", "/api/messages/route", {"type": "tab.open"})).body
        assert [(s["to"], s["why"]) for s in report["steps"]] == [
            ("client:tabs", "rule 'tabs'"), ("app:log", "rule 'log'"), ("client:tabs", "rule 'log'"),
        ]  # fmt: skip
        assert report["steps"][1]["devices"] == [
            {"device": "here", "here": True, "programs": ["web_app/logger"], "online": True}
        ]
        assert (await api.call("GET", "/api/messages")).body["items"] == []  # a dry run
        sent = (await api.call("POST", "/api/messages", {"type": "tab.open", "body": 1})).body
        assert len(sent["also"]) == 1
        assert bodies(await messages(tabs, 1)) == [1]
        assert bodies(await messages(logger, 1)) == [1]
        await silence(tabs)
        await api.call("POST", "/api/messages", {"type": "other", "body": 2})
        assert bodies(await messages(tabs, 1)) == bodies(await messages(logger, 1)) == [2]
    for bad in ({"name": "", "type": "a", "to": ["all"]}, {"name": "a", "type": "a*b", "to": ["all"]},
                {"name": "a", "type": "a", "to": []}, {"name": "a", "type": "a", "to": ["nobody"]}):  # fmt: skip
        assert (await api.call("PUT", "/api/messages/rules", {"rules": [bad]})).status == 422
    assert (await api.call("PUT", "/api/messages/rules", {"rules": [rules[0], rules[0]]})).status == 422
    assert len((await api.call("GET", "/api/messages/rules")).body["items"]) == 3


async def test_spec_R2_rules_of_the_configuration_come_first_and_stay(tmp_path: Path) -> None:
    fixed = [parse_rule("configuration 1", "tab.*=client:tabs@here+"), parse_rule("configuration 2", "note=Phone")]
    async with running(tmp_path, rules=fixed) as api:
        own = {"name": "mine", "type": "*", "to": ["all@here"], "go_on": False}
        listed = (await api.call("PUT", "/api/messages/rules", {"rules": [own]})).body["items"]
        assert [(r["name"], r["fixed"]) for r in listed] == [
            ("configuration 1", True), ("configuration 2", True), ("mine", False),
        ]  # fmt: skip
        assert (await api.call("PUT", "/api/messages/rules", {"rules": listed})).body["items"] == listed
        report = (await api.call("POST", "/api/messages/route", {"type": "tab.open"})).body
        assert [(s["to"], s["why"]) for s in report["steps"]] == [
            ("client:tabs@here", "rule 'configuration 1'"), ("all@here", "rule 'mine'"),
        ]  # fmt: skip
        refused = await api.call("POST", "/api/messages", {"type": "note"})
        assert (refused.status, "Phone" in str(refused.body)) == (404, True)
        assert (await api.call("POST", "/api/messages", {"type": "tab.open"})).status == 201
        same = {**own, "name": "configuration 1"}
        assert (await api.call("PUT", "/api/messages/rules", {"rules": [same]})).status == 422
        assert (await api.call("PUT", "/api/messages/rules", {"rules": []})).body["items"] == listed[:2]


async def test_who_listens_is_known_and_whether_it_is_here(api: Api) -> None:
    async with connected(api, "tabs") as tabs:
        await tabs.do("messages.listen", app="notes", topics=["b", "a"])
        (program,) = (await api.call("GET", "/api/messages/programs")).body["items"]
        assert (program["client"], program["app"], program["topics"]) == ("web_app/tabs", "notes", ["a", "b"])
        assert program["online"] is True
    async with asyncio.timeout(30):
        while program["online"]:
            (program,) = (await api.call("GET", "/api/messages/programs")).body["items"]


async def test_waiting_for_a_change_ends_with_it(api: Api) -> None:
    sent = (await api.call("POST", "/api/messages", {"to": "client:tabs", "type": "note"})).body
    path = f"/api/messages/{sent['id']}?known={sent['changes']}&wait_s=30"
    asked = asyncio.create_task(api.call("GET", path))
    await asyncio.sleep(0.05)
    assert not asked.done()
    await api.call("POST", f"/api/messages/{sent['id']}/ack", {})
    assert (await asyncio.wait_for(asked, 30)).body["state"] == "handled"
    same = await api.call("GET", f"/api/messages/{sent['id']}?known=99&wait_s=0.05")
    assert json.loads(same.raw)["state"] == "handled"


async def test_while_the_keys_are_locked_programs_here_get_theirs_and_the_rest_waits(api: Api) -> None:
    assert api.services.messages is not None
    api.services.messages.addressing.members = Members()
    async with connected(api, "tabs") as tabs:
        await tabs.do("messages.listen")
        everywhere = (await api.call("POST", "/api/messages", {"to": "all", "type": "note", "body": 1})).body
        named = (await api.call("POST", "/api/messages", {"to": "device:laptop", "type": "note", "body": 2})).body
        assert bodies(await messages(tabs, 1)) == [1]
        assert [d["state"] for d in everywhere["deliveries"]] == ["delivered", "queued"]
        api.services.messages.addressing.members = Alone()  # the keys are open, and there is no other device
        await api.services.messages.resolve()
        assert (await api.call("GET", f"/api/messages/{everywhere['id']}")).body["state"] == "delivered"
        failed = (await api.call("GET", f"/api/messages/{named['id']}")).body
        assert (failed["state"], failed["deliveries"][0]["error"]) == ("failed", "not_found")
        asked = {"to": "device:laptop", "type": "note"}
        assert (await api.call("POST", "/api/messages", asked)).body["code"] == "not_found"
