"""The dashboard in real browsers beside real daemons: what a person does, page by page, and what nobody may.

Every page is looked at in both themes and both widths; the pictures are in test-artifacts/dashboard, with the time of
the first paint.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hybridgw_protocol.localapi import MAX_PAGE
from tests.conftest import ROOT
from tests.e2e.machines import until as eventually

from ._browsers import ChromiumTab, Tab, until
from ._dashboard import (
    BROWSERS,
    CHATTER,
    DOC_PICTURES,
    HEADING,
    PICTURES,
    click,
    fill,
    goto,
    link_of,
    needs_chromium,
    needs_firefox,
    open_at,
    show,
    tab_of,
    tap,
)
from ._extension import ORIGIN
from .conftest import House, Owner, served

STATIC = ROOT / "hybridgw_daemon" / "static"
PAGES = ("", "devices", "data", "data/tasks", "data/notes/evil", "data/notes/+", "conflicts", "messages",
         "messages/rules", "people", "apps", "connections", "traffic", "health", "alarms", "settings", "start",
         "start/place", "start/words", "start/apps", "start/relay", "start/check")  # fmt: skip
DOCUMENTED = ("home", "start-check", "device-lost", "messages", "traffic")
OF_PEOPLE = ("person",)  # made by test_dashboard_people
APP = "https://tasks.example.com"
MAX_BUNDLE_BYTES = 200_000
# A daemon that has no time for one command, as a page sees it.
BUSY = """(() => { window.isBusy = true
    const send = WebSocket.prototype.send
    WebSocket.prototype.send = function (text) {
        const { id, command } = JSON.parse(text)
        if (!window.isBusy || command !== 'data.get') return send.call(this, text)
        const said = { type: 'error', id, code: 'busy', message: 'Too busy.', retryable: true }
        setTimeout(() => this.onmessage?.({ data: JSON.stringify(said) }))
    } })()"""
# Markup, a script, marks that turn text round, and far too much of it.
EVIL = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>\u202egnp.exe\u2066' + "W" * 4_000


# ---- the link --------------------------------------------------------------------------------------------------------
@pytest.mark.spec("F3")
@pytest.mark.parametrize("kind", BROWSERS)
async def test_a_link_opens_it_once(owner: Owner, tmp_path: Path, kind: str) -> None:
    url = await link_of(owner)
    async with tab_of(kind, tmp_path / "browser") as tab:
        await goto(tab, owner.url)
        await until(tab, "document.body.innerText.includes('hybridgw dashboard')")
        began = await tab.run("history.length")
        await open_at(tab, f"{url}")
        code = url.partition("=")[2]
        assert await tab.run("location.href") == f"{owner.url}/#/"
        assert await tab.run("history.length") <= began + 2  # about:blank, and the page
        kept = await tab.run("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
        assert code not in kept
        token = json.loads(json.loads(kept)[0]["hybridgw.dashboard"])["token"]
        assert token.startswith("hgd_")
        await goto(tab, f"{owner.url}/")  # a reload keeps the session
        await until(tab, f"{HEADING} === 'Home'")

        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            assert (await session.get(f"{owner.url}/api/auth/grants")).status == 200
            foreign = {"Origin": APP, "X-HybridGW-Client": "x", "Sec-Fetch-Site": "cross-site"}
            assert (await session.get(f"{owner.url}/api/auth/grants", headers=foreign)).status == 403
            await click(tab, "Sign out", "nav")
            await until(tab, "document.body.innerText.includes('You are signed out.')")
            assert (await session.get(f"{owner.url}/api/auth/grants")).status == 401

        await goto(tab, f"{owner.url}/#link={code}")
        await until(tab, "document.querySelector('[role=alert]')?.innerText.includes('was used already')")
        await goto(tab, f"{owner.url}/#link=AAAA")
        await until(tab, "document.querySelector('[role=alert]')?.innerText.includes('hybridgw dashboard')")
        assert await tab.run("location.hash") == "#/"
        audit = (await owner.call("GET", "/api/auth/audit"))["items"]
        events = {one["event"] for one in audit if one["event"].startswith("dashboard")}
        assert events == {"dashboard.refused", "dashboard.opened"}


@needs_chromium
async def test_a_restart_ends_the_session_and_alarms_stay_until_seen(owner: Owner, tmp_path: Path) -> None:
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "data")
        owner.down()
        await until(tab, "document.querySelector('main').innerText.includes('does not answer')")
        assert await tab.run(HEADING) == "Data"  # what was there stays
        with contextlib.closing(sqlite3.connect(tmp_path / "home" / "hybridgw.db")) as database, database:
            database.execute(
                "INSERT INTO alarm(at_ms, code, message, detail) VALUES(1, 'fork', 'Two <b>logs</b>.', '{}')"
            )
        owner.up()
        await until(tab, "document.body.innerText.includes('This session has ended')")

        await open_at(tab, await link_of(owner))
        await until(tab, "document.querySelector('.card.warn')?.innerText.includes('Two <b>logs</b>.')")
        await until(tab, "document.querySelector('nav .count')?.innerText.startsWith('1')")
        await show(tab, "start/check")
        await until(tab, "document.querySelector('[data-doctor=bad]') !== null")
        assert await tab.run("document.querySelector('.checks li').innerText.includes('Two <b>logs</b>.')")
        await tap(tab, ".checks li a")
        await until(tab, f"{HEADING} === 'Alarms'")
        await click(tab, "I have seen it")
        await until(tab, "document.querySelector('main').innerText.includes('No alarms')")
        await until(tab, "document.activeElement.tagName === 'H1'")
        assert [one["acknowledged"] for one in (await owner.call("GET", "/api/alarms?all=true"))["items"]] == [True]
        await until(tab, "document.querySelector('nav .count') === null")

        await show(tab, "settings")
        await tab.click("fieldset label:nth-of-type(3) input")
        assert await tab.run("getComputedStyle(document.documentElement).colorScheme") == "dark"
        await goto(tab, f"{owner.url}/")
        await until(tab, f"{HEADING} === 'Home'")
        assert await tab.run("document.documentElement.dataset.theme") == "dark"
        await show(tab, "settings")
        await click(tab, "Sign out everywhere")
        await click(tab, "Sign out all")
        await until(tab, "document.body.innerText.includes('You are signed out.')")
        assert await tab.run("document.title") == "HybridGW"

        # Signed out by somebody else, the page says so; and nobody is told that all are out while nobody was asked.
        await open_at(tab, await link_of(owner))
        await owner.call("POST", "/api/auth/logout", {"scope": "all_clients"})
        await until(tab, "document.body.innerText.includes('This session has ended')")
        await open_at(tab, await link_of(owner), "settings")
        owner.down()
        await until(tab, "document.querySelector('main').innerText.includes('does not answer')")
        await click(tab, "Sign out everywhere")
        await click(tab, "Sign out all")
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('cannot be reached')")
        assert "You are signed out" not in await tab.run("document.body.innerText")


# ---- apps ------------------------------------------------------------------------------------------------------------
async def ask(owner: Owner, name: str, scopes: list[str], origin: str | None = APP) -> Any:
    """An app asks to be let in."""
    headers = {"X-HybridGW-Client": "tasks/1"} | ({"Origin": origin} if origin else {})
    async with aiohttp.ClientSession(headers=headers) as session:
        body = {"name": name, "scopes": scopes}
        async with session.post(f"{owner.url}/api/auth/grants", json=body) as answer:
            return await answer.json()


async def state_of(owner: Owner, grant: str) -> Any:
    """As the owner sees it."""
    return (await owner.call("GET", f"/api/auth/grants/{grant}"))["state"]


@pytest.mark.spec("A6")
@pytest.mark.parametrize("kind", BROWSERS)
async def test_an_app_is_let_in_and_thrown_out(owner: Owner, tmp_path: Path, kind: str) -> None:
    async with tab_of(kind, tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "apps")
        asked = await ask(owner, "Tasks", ["read:tasks", "write:tasks", "read:settings/theme", "send:timer"])
        code = await until(tab, "document.querySelector('[data-code]')?.textContent")
        assert code == asked["code"]
        text = await tab.run("document.querySelector('.asking').innerText")
        for part in (APP, "Tasks", "read everything in “tasks”", "send messages to “timer”"):
            assert part in text
        assert "read the one document “theme” in “settings”, and no other there" in text
        assert await tab.run("document.querySelector('[data-approve]').disabled")  # a click meant for another is none
        await tab.click(".asking label.check:last-of-type input")  # less than it asked for
        await click(tab, "Same code: let in for 30 days")
        await until(tab, "document.querySelector('.asking') === null")
        grant = await owner.call("GET", f"/api/auth/grants/{asked['id']}")
        assert (grant["state"], grant["lasts"]) == ("approved", "30d")
        assert grant["scopes"] == ["read:settings/theme", "read:tasks", "write:tasks"]
        assert "everything in “settings" not in await tab.run("document.querySelector('main').innerText")

        await click(tab, "Revoke")
        await until(tab, "document.activeElement.innerText === 'Keep'")
        await tab.press("Escape")  # not sure
        await until(tab, "document.querySelector('.sure') === null")
        assert await state_of(owner, asked["id"]) == "approved"
        await until(tab, "document.activeElement.innerText === 'Revoke'")  # the focus is where it was
        await click(tab, "Revoke")
        await until(tab, "document.activeElement.innerText === 'Keep'")
        if kind == "chromium":  # by keyboard alone; keys of Firefox's driver press no button
            await tab.press("Tab")
            await until(tab, "document.activeElement.innerText === 'Revoke'")
            await tab.press("Enter")
        else:
            await click(tab, "Revoke", ".sure")
        await until(tab, "document.body.innerText.includes('No apps yet')")
        if kind == "chromium":  # what had the focus is gone; Firefox without a screen tells of no focus
            await until(tab, "document.activeElement.innerText === 'Let in'")
        assert await state_of(owner, asked["id"]) == "ended"

        # Our own extension is called so, wherever it is spoken of, and not by an address that tells nobody anything.
        asked = await ask(owner, "Chromium extension", ["read:tasks"], ORIGIN)
        code = await until(tab, "document.querySelector('[data-code]')?.textContent")
        assert await tab.run("document.querySelector('.asking h2').innerText") == "extension of HybridGW"
        assert f"Its address is {ORIGIN}." in await tab.run("document.querySelector('.asking').innerText")
        await show(tab, "")
        await until(tab, "document.querySelector('.card.warn')?.innerText.includes('extension of HybridGW asks')")
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code})
        await show(tab, "apps")
        await until(tab, "document.querySelector('tbody strong')?.innerText === 'extension of HybridGW'")
        await show(tab, "start/apps")
        await until(tab, "document.querySelector('main').innerText.includes('Let in already: extension of HybridGW')")
        await show(tab, "apps")
        await owner.call("DELETE", f"/api/auth/grants/{asked['id']}")
        await until(tab, "document.body.innerText.includes('No apps yet')")

        asked = await ask(owner, "Tasks", ["read:tasks"])
        await click(tab, "Refuse")
        await until(tab, "document.querySelector('.asking') === null")
        assert await state_of(owner, asked["id"]) == "refused"
        assert await tab.problems() == []


@needs_chromium
async def test_sec_L19_names_and_documents_are_text(owner: Owner, tmp_path: Path) -> None:
    await owner.call(
        "PUT", "/api/data/notes/evil", {"title": EVIL, "text": EVIL, EVIL[:80]: [EVIL], "n": 1, "yes": True}
    )
    await owner.call("PUT", "/api/data/notes/%3Cb%3E%22", {"title": "x"})
    asked = await ask(owner, EVIL[:4_000], ["read:tasks"], None)
    assert asked["id"]
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner))
        for width in (1440, 360):
            await tab.resize(width, 900)
            for page in ("", "apps", "data/notes", "data/notes/evil", "data/notes/%3Cb%3E%22"):
                await show(tab, page)
                assert await tab.run("window.owned === undefined")
                assert await tab.run("document.querySelectorAll('main img, main script').length") == 0
                assert await tab.run("document.documentElement.scrollWidth <= innerWidth"), (page, width)
                shown = await tab.run("document.querySelector('main').innerText + document.title")
                assert not {"\u202e", "\u2066"} & set(shown), page
        await show(tab, "data/notes")
        assert "<img src=x" in await tab.run("document.querySelector('main').innerText")
        assert "U+202E" in await tab.run("document.querySelector('main').innerText") or len(EVIL) > 90
        assert await tab.problems() == []


# ---- data ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", BROWSERS)
async def test_a_document_is_found_changed_made_and_deleted(owner: Owner, tmp_path: Path, kind: str) -> None:
    for n in range(60):
        await owner.call("PUT", f"/api/data/notes/n{n:02}", {"title": f"Note {n:02}", "size": n})
    path = "/api/data/notes/n07"
    async with tab_of(kind, tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "data/notes")
        rows = "document.querySelectorAll('tbody tr').length"
        assert await tab.run(rows) == 50
        await click(tab, "Show more")
        await until(tab, f"{rows} === 60")
        for n in (0, 59):
            await owner.call("DELETE", f"/api/data/notes/n{n:02}")
        for n in range(3):  # what comes before all the others pushes them down
            await owner.call("PUT", f"/api/data/notes/a{n}", {"title": "Before"})
        await until(tab, f"{rows} === 61")
        shown = await tab.run("[...document.querySelectorAll('tbody code')].map((one) => one.textContent)")
        assert shown == [*(f"a{n}" for n in range(3)), *(f"n{n:02}" for n in range(1, 59))]
        await until(tab, "document.querySelector('.lead').innerText.includes('61 documents')")
        await fill(tab, "form.filter input", "size")
        await tab.run("(() => { const s = document.querySelector('form.filter select'); s.value = '$lt';"
                      " s.dispatchEvent(new Event('change', {bubbles: true})) })()")  # fmt: skip
        await fill(tab, "form.filter label:nth-of-type(3) input", "10")
        await tab.press("Enter")
        await until(tab, f"{rows} === 9")
        await until(tab, "[...document.querySelectorAll('tbody a')].some((one) => one.hash === '#/data/notes/n07')")

        await show(tab, "data/notes/n07")
        await fill(tab, "input[name=title]", "Another title")
        await owner.call("PATCH", path, {"size": 70})  # somebody else is quicker
        await until(tab, "document.querySelector('main').innerText.includes('Somebody changed this document')")
        await click(tab, "Save")
        await until(tab, "document.querySelector('[role=alert]') !== null")
        assert (await owner.call("GET", path))["data"] == {"title": "Note 07", "size": 70}
        await click(tab, "Show the new one")
        await fill(tab, "input[name=title]", "Another title")
        await click(tab, "Save")
        await until(tab, "document.querySelector('main').innerText.includes('Saved.')")
        assert (await owner.call("GET", path))["data"] == {"title": "Another title", "size": 70}

        # Another device gives it another title while somebody writes here, then nobody has time for an answer.
        await fill(tab, "input[name=size]", "7")
        await owner.call("PATCH", path, {"title": "Renamed"})
        await until(tab, "document.querySelector('main').innerText.includes('Somebody changed this document')")
        assert await tab.run("document.activeElement.name") == "size"
        await tab.run(BUSY)
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('Too busy')", 30)
        assert await tab.run("[document.activeElement.name, document.activeElement.value]") == ["size", "7"]
        await tab.run("(window.isBusy = false, 1)")
        await click(tab, "Show the new one")
        await until(tab, "document.querySelector('main [role=alert]') === null", 30)
        await until(tab, f"{HEADING} === 'Renamed'")

        await fill(tab, "input[name=size]", "many")
        await click(tab, "Save")
        await until(tab, "document.querySelector('[role=alert]')?.innerText.includes('size is no number')")
        await fill(tab, "input[name=size]", "8")
        await click(tab, "Edit as JSON")
        await until(tab, "document.querySelector('textarea.json')?.value.includes('\"size\": 8')")
        by_hand = {"title": "By hand", "list": [1, {"a": None}], "deep": {"a": None, "b": 1}}
        await fill(tab, "textarea.json", json.dumps(by_hand))
        await click(tab, "Save")
        await until(tab, "document.querySelector('main').innerText.includes('Saved.')")
        assert (await owner.call("GET", path))["data"] == by_hand

        if kind == "chromium":
            await what_is_typed_outlives_a_deletion(tab, owner, path)
        await click(tab, "Delete")
        await click(tab, "Delete", ".sure")
        await until(tab, f"{HEADING} === 'notes'")
        assert (await owner.call("GET", path))["code"] == "deleted"

        await show(tab, "data/notes/+")
        await fill(tab, "fieldset input", "title")
        await tab.press("Enter")
        await fill(tab, "input[name=title]", "Made here")
        await click(tab, "Create")
        await until(tab, f"{HEADING} === 'Made here'")
        found = await owner.call("GET", "/api/data/notes?filter=%7B%22title%22%3A%22Made%20here%22%7D")
        assert len(found["items"]) == 1
        problems = [text for text in await tab.problems() if "412" not in text]
        assert problems == []


# More conflicts than the daemon gives at once, as a page sees it; then "Show more" until there is no such button.
MANY = """(() => { window.asked = []
    const send = WebSocket.prototype.send
    WebSocket.prototype.send = function (text) {
        const { id, command, params } = JSON.parse(text)
        if (command !== 'conflicts.list') return send.call(this, text)
        window.asked.push(params.limit)
        const one = { collection: 'notes', id: 'x', version: 1, count: 0, fields: [], deleted: false }
        const said = { type: 'result', id, result: { items: [one], total: 5_000, next_cursor: '1' } }
        setTimeout(() => this.onmessage?.({ data: JSON.stringify(said) }))
    } })()"""
MORE = """(async () => {
    for (let n = 0; n < 100; n++) {
        const more = [...document.querySelectorAll('main button')].find((one) => one.innerText.startsWith('Show more'))
        if (more === undefined) return Math.max(...window.asked)
        const before = window.asked.length
        more.click()
        while (window.asked.length === before) await new Promise((done) => setTimeout(done, 5))
    }
})()"""


@needs_chromium
async def test_no_more_is_asked_for_than_the_daemon_gives_at_once(owner: Owner, tmp_path: Path) -> None:
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner))
        await tab.run(MANY)
        await show(tab, "conflicts")
        await until(tab, "document.querySelector('main').innerText.includes('Show more of 5000')")
        assert await tab.run(MORE) == MAX_PAGE


async def what_is_typed_outlives_a_deletion(tab: Tab, owner: Owner, path: str) -> None:
    """Another device deletes the document while somebody writes here; saving makes it anew."""
    await fill(tab, "textarea.json", '{"title": "Half of a novel"}')
    await owner.call("DELETE", path)
    await until(tab, "document.querySelector('main').innerText.includes('is deleted, on all devices')")
    assert await tab.run("document.querySelector('textarea.json')?.value") == '{"title": "Half of a novel"}'
    await click(tab, "Save")
    await until(tab, "document.querySelector('main').innerText.includes('Saved.')")
    assert (await owner.call("GET", path))["data"] == {"title": "Half of a novel"}


# ---- two devices -----------------------------------------------------------------------------------------------------
@pytest.mark.spec("S2")
@pytest.mark.parametrize("kind", BROWSERS)
async def test_two_devices_meet_disagree_and_agree(house: House, tmp_path: Path, kind: str) -> None:
    a, b = house.a, house.b
    async with tab_of(kind, tmp_path / "one") as first, tab_of(kind, tmp_path / "two") as second:
        await open_at(first, house.link(a), "connections")
        await fill(first, "input[name=relay]", house.relay.invite())
        await click(first, "Add")
        await until(first, "document.querySelector('main .badge.good')?.innerText === 'connected'")
        await click(first, "Test")
        await until(first, "document.querySelector('.notice.good')?.innerText.includes('works')")

        await click(first, "Find out what is in the way")
        await until(first, "document.querySelectorAll('ul[role=status] li').length > 0")

        await show(first, "devices")
        await click(first, "Show a code")
        code = await until(first, "document.querySelector('[data-offer]')?.textContent")
        assert await first.run("document.querySelector('svg.qr path').getAttribute('d').length") > 1_000
        await open_at(second, house.link(b), "devices")
        await fill(second, "input[name=code]", code)
        await click(second, "Join")
        words = [await until(tab, "document.querySelector('[data-words]')?.textContent") for tab in (first, second)]
        assert words[0] == words[1]
        assert len(words[0].split()) == 4
        for tab in (first, second):
            await click(tab, "The words are the same")
        for tab in (first, second):
            await until(tab, "document.querySelector('[data-ended=done]') !== null", 20)
            await until(tab, "document.querySelectorAll('[data-device]').length === 2")

        with a.client() as client:
            client.put("tasks", "milk", {"title": "Buy milk"})
        await asyncio.to_thread(eventually, lambda: "milk" in b.documents("tasks"))
        house.relay.stop()
        await show(first, "")
        await until(first, "document.querySelector('.state h2').innerText === 'Offline'")
        for device, title in ((a, "Buy oat milk"), (b, "Buy soy milk")):
            with device.client() as client:
                client.patch("tasks", "milk", {"title": title})
        house.relay.start()
        await show(second, "conflicts")
        await until(second, "document.querySelectorAll('.side').length === 2", 30)
        sides = await second.run("[...document.querySelectorAll('.side .value')].map((one) => one.innerText)")
        assert sorted(sides) == ["Buy oat milk", "Buy soy milk"]
        assert await second.run("document.querySelector('.side:nth-child(2) mark').innerText") in ("oat", "soy")
        await click(second, "Take this")
        await until(second, "document.querySelector('main').innerText.includes('No conflicts.')")
        for device in (a, b):
            await asyncio.to_thread(
                eventually, lambda d=device: d.documents("tasks")["milk"]["title"] == sides[1] and
                d.get("/api/sync/status")["conflicts"] == 0
            )  # fmt: skip
        await show(first, "")
        await until(first, "document.querySelector('.state h2').innerText === 'In step'")
        for tab in (first, second):
            assert await tab.problems() == []


# ---- how it looks ----------------------------------------------------------------------------------------------------
async def furnish(house: House) -> None:
    """Something to see on every page."""
    a, b = house.a, house.b
    with a.client() as client, b.client() as other:
        eventually(lambda: client.get("/api/devices")["items"] and other.get("/api/devices")["items"])
        client.post("/api/relays", {"link": house.relay.invite()})
        offer = client.post("/api/devices/pair", {})
        pairing = other.post("/api/devices/pair/join", {"code": offer["code"]})
        for one, id_ in ((client, offer["id"]), (other, pairing["id"])):
            eventually(lambda one=one, id_=id_: one.get(f"/api/devices/pair/{id_}")["state"] == "confirm")
        for one, id_ in ((client, offer["id"]), (other, pairing["id"])):
            one.post(f"/api/devices/pair/{id_}/confirm", {"accept": True})
        eventually(lambda: other.get(f"/api/devices/pair/{pairing['id']}")["state"] == "done")
        for one in client.get("/api/devices")["items"]:
            client.post(f"/api/devices/{one['id']}/rename", {"name": "laptop" if one["own"] else "phone"})
        for n, title in enumerate(("Buy milk", "Call the landlord about the heating", "Renew the passport")):
            client.put("tasks", f"t{n}", {"title": title, "tags": ["home", "soon"][: n + 1]})
        client.put("notes", "evil", {"title": EVIL, "text": "Two\nlines", "size": 3, "done": False, "list": [1, 2]})
        eventually(lambda: "t2" in b.documents("tasks"))
        house.relay.stop()
        client.patch("tasks", "t0", {"title": "Buy oat milk", "notes": "The one in the blue carton"})
        other.patch("tasks", "t0", {"title": "Buy soy milk", "notes": "Any"})
        house.relay.start()
        eventually(lambda: client.get("/api/sync/status")["conflicts"] == 1)
        client.post("/api/messages", {"to": "client:notes@here", "type": "note", "body": "Too late", "ttl_s": 0.01})
        client.post("/api/messages", {"to": "device:phone", "type": "note", "body": "Call Ada about the keys"})
        other.post(
            "/api/messages",
            {"to": "device:laptop", "type": "tab.open", "body": {"url": "https://example.com", "title": EVIL}},
        )
        eventually(lambda: client.get("/api/messages/notifications")["waiting"] == 1)
        client.post("/api/auth/keys", {"scopes": ["read:tasks"], "note": "nightly backup"})
        stand_in = Owner(Path())
        stand_in.url = client.endpoint.url
        asked = await ask(stand_in, "Timer", ["read:tasks", "send:timer"], "https://timer.example.com")
        client.post(f"/api/auth/grants/{asked['id']}/approve", {"code": asked["code"]})
        await ask(stand_in, "Tasks", ["read:tasks", "write:tasks", "listen:timer"])


PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SERIOUS = """axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
    violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) =>
        [one.impact, one.id, one.nodes.slice(0, 3).map((node) => node.html + node.failureSummary).join()]))"""


def rounds() -> list[tuple[str, int]]:
    """Each theme and each width once; where pictures are made to be looked at, all four."""
    if os.environ.get("HYBRIDGW_DOC_PICTURES"):
        return [(scheme, width) for width in (1440, 360) for scheme in ("light", "dark")]
    return [("light", 1440), ("dark", 360)]


def axe_of(built: Path) -> str:
    """Makes `axe` known to a page."""
    return f"(() => {{ {(built.parent / 'node_modules' / 'axe-core' / 'axe.min.js').read_text()} }})()"


class Looks:
    """A tab whose pages are looked at; what is wrong with them."""

    def __init__(self, tab: ChromiumTab) -> None:
        self.tab = tab
        self.faults: list[str] = []

    async def look(self, name: str) -> None:
        """Keep a picture; nothing is wider than the window, and axe finds nothing serious."""
        await asyncio.sleep(0.05)  # colours settle
        (PICTURES / f"{name}.png").write_bytes(await self.tab.picture())
        if not await self.tab.run("document.documentElement.scrollWidth <= innerWidth"):
            self.faults.append(f"{name}: wider than the window")
        self.faults += [f"{name}: {what}" for what in await self.tab.run(SERIOUS)]


@needs_chromium
@pytest.mark.timeout(120)
async def test_every_page_in_both_themes_and_widths(house: House, built: Path, tmp_path: Path) -> None:
    """No error of the console, nothing serious for axe, nothing from elsewhere, nothing wider than the window."""
    await furnish(house)
    PICTURES.mkdir(parents=True, exist_ok=True)
    with house.a.client() as client:
        base = client.endpoint.url
        phone = next(one["id"] for one in client.get("/api/devices")["items"] if not one["own"])
        note = client.get("/api/messages", box="in")["items"][0]["id"]
    more = {f"devices/{phone}": "device", f"messages/{note}": "message"}
    async with tab_of("chromium", tmp_path / "browser") as tab:
        assert isinstance(tab, ChromiumTab)
        await open_at(tab, house.link(house.a))
        paint = f"first paint: {await until(tab, PAINT):.0f} ms after the address was entered"
        print(paint)
        (PICTURES / "first-paint.txt").write_text(f"{paint}\n")
        await tab.run(axe_of(built))
        looks = Looks(tab)
        await show(tab, "traffic")  # it looks from now on
        for scheme, width in rounds():
            await tab.prefer(scheme)
            await tab.resize(width, 900)
            for page in (*PAGES, *more):
                await show(tab, page)
                name = more.get(page) or page.replace("/", "-").replace("+", "new") or "home"
                await looks.look(f"{name}-{width}-{scheme}")
            await tab.resize(width, 1100)  # a window over the page is as high as that at most
            await show(tab, f"devices/{phone}")
            await click(tab, "It is lost")
            await until(tab, "document.querySelector('dialog .plan') !== null")
            await tab.run("(scrollTo(0, 0), 1)")
            await looks.look(f"device-lost-{width}-{scheme}")
            await show(tab, "devices")
            await click(tab, "Show the words")
            await click(tab, "Nobody looks: show them", "dialog")
            await until(tab, "document.querySelector('.word-list') !== null")
            await tab.run("(scrollTo(0, 0), 1)")
            await looks.look(f"words-{width}-{scheme}")
            await click(tab, "Later", "dialog")
            if width == 1440:
                await show(tab, "devices")
                await click(tab, "Show a code")
                await until(tab, "document.querySelector('svg.qr') !== null")
                await looks.look(f"devices-code-{width}-{scheme}")
                assert await tab.run(CHATTER) == []  # for how long the code counts is for the eye
                await click(tab, "Cancel")
        await tab.prefer("light")
        await tab.resize(1440, 900)
        await show(tab, "traffic")
        await looks.look("traffic-1440-light")  # with something to see
        await tab.resize(360, 900)
        foreign = {url for url in await tab.asked() if not url.startswith((base, base.replace("http", "ws"), "about:"))}
        assert not foreign
        assert await tab.problems() == []
        await click(tab, "Menu", "header")
        await click(tab, "Sign out", "nav")
        await until(tab, "document.body.innerText.includes('You are signed out.')")
        await looks.look("signed-out-360-light")
    assert not looks.faults, "\n".join(looks.faults)
    if os.environ.get("HYBRIDGW_DOC_PICTURES"):  # make pictures
        for name in DOCUMENTED:
            shutil.copyfile(PICTURES / f"{name}-1440-light.png", DOC_PICTURES / f"{name}.png")


def test_the_docs_have_the_pictures_that_the_test_makes() -> None:
    text = (ROOT / "docs" / "how-to" / "use-the-dashboard.md").read_text()
    documented = {*DOCUMENTED, *OF_PEOPLE}
    for name in documented:
        assert f"../assets/dashboard/{name}.png" in text
        assert (DOC_PICTURES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.stem for path in DOC_PICTURES.iterdir()} == documented


async def test_sec_L20_every_file_has_the_strict_policy(owner: Owner) -> None:
    """Of the page and all that it loads: nothing from elsewhere, nothing inline, no text that becomes a script."""
    async with aiohttp.ClientSession() as session:
        names = ["", *(f"assets/{path.name}" for path in (STATIC / "assets").iterdir())]
        for name in names:
            async with session.get(f"{owner.url}/{name}") as answer:
                policy = answer.headers["Content-Security-Policy"]
                body = await answer.text()
            rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
            assert rules["default-src"] == "'none'", name
            assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'", name
            assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'", name
            assert rules["require-trusted-types-for"] == "'script'", name
            assert not {"unsafe", "*", "data:", "blob:", "http"} & set(policy.replace("-", " ").split()), name
            assert "unsafe" not in policy, name
            if not name:
                assert "<style" not in body
                assert " style=" not in body
                assert body.count("<script") == body.count("<script defer src=")


@needs_firefox
async def test_every_page_in_firefox_in_the_dark(owner: Owner, tmp_path: Path) -> None:
    dark = {"ui.systemUsesDarkTheme": 1, "layout.css.prefers-color-scheme.content-override": 0}
    await owner.call("PUT", "/api/data/notes/evil", {"title": "A <b>note</b>"})
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with tab_of("firefox", tmp_path / "browser", **dark) as tab:
        await open_at(tab, await link_of(owner))
        await until(tab, "document.querySelector('main .steps') !== null")
        (PICTURES / "home-first-1440-firefox.png").write_bytes(await tab.picture())
        for page in PAGES:
            await show(tab, page)
            assert await tab.run(f"{HEADING}.length") > 0
            assert await tab.run("document.documentElement.scrollWidth <= innerWidth"), page
        (PICTURES / "settings-1440-firefox.png").write_bytes(await tab.picture())
        ground = await tab.run("getComputedStyle(document.documentElement).backgroundColor")
        assert ground == "rgb(16, 22, 20)"
        # Bullets are drawn with a font that Firefox holds in itself.
        ours = (owner.url, owner.url.replace("http", "ws"), "data:font/")
        assert {url for url in await tab.asked() if not url.startswith(ours)} <= {"about:blank"}
        assert await tab.problems() == []


@needs_chromium
async def test_sec_L20_nobody_frames_it_or_opens_it(owner: Owner, tmp_path: Path) -> None:
    """A page of another origin can neither show the dashboard inside itself nor hold on to its window."""
    url = await link_of(owner)
    folder = tmp_path / "site"
    folder.mkdir()
    async with served(folder) as site, tab_of("chromium", tmp_path / "browser") as tab:
        await tab.goto(f"{site}/empty")
        loaded = await tab.run(f"""new Promise((resolve) => {{
            const frame = document.createElement('iframe')
            frame.onload = () => resolve(frame.contentWindow.length)
            frame.onerror = () => resolve('error')
            setTimeout(() => resolve('never'), 1500)
            frame.src = {json.dumps(url)}
            document.body.append(frame)
        }})""")
        assert loaded in (0, "error", "never")
    audit = (await owner.call("GET", "/api/auth/audit"))["items"]
    assert not [one for one in audit if one["event"] == "dashboard.opened"]


# ---- the files -------------------------------------------------------------------------------------------------------
def test_the_bundle_is_small() -> None:
    """The part with charts, which is fetched when it is wanted, does not count."""
    files = {path.name: path for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")}
    sizes = {name: len(gzip.compress(path.read_bytes(), 9)) for name, path in files.items()}
    assert set(sizes) == {"index.html", "dashboard.js", "dashboard.css", "icon.svg", "charts.js"}
    print(f"compressed: {sizes}")
    assert sum(size for name, size in sizes.items() if name != "charts.js") < MAX_BUNDLE_BYTES
    assert "uPlot" not in files["dashboard.js"].read_text()


def test_what_is_shipped_is_what_the_source_gives(built: Path, tmp_path: Path) -> None:
    """The committed files are the build's, byte for byte; types are checked on the way."""
    del built  # its packages are needed
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "js.sh"), "dashboard", str(tmp_path / "out")], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    kept = {path.relative_to(STATIC): path.read_bytes() for path in STATIC.rglob("*.*")}
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == [], (
        "make dashboard, then commit hybridgw_daemon/static"
    )
