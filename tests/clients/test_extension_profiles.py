"""One machine, two browser profiles: what is a person's in all browsers, what browsers themselves offer, a new version.

A browser without a screen shows no menu and takes no shortcut: what the extension has registered for them is called in
its worker, by the browser's own `dispatch`. That the browser has the entries is asked of the browser.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ._browsers import Chromium, ChromiumTab, until
from ._extension import (
    ORIGIN,
    PENDING,
    PUBLIC_KEY,
    STATUS,
    TITLES,
    add,
    ask,
    change,
    connect,
    extended,
    needs_chromium,
    popup,
    tell_chromium,
    that_sees_tabs,
    titles,
)
from .conftest import Owner

OPTIONS = "hybridgw-extension"  # the document
PATIENT_S = 30.0
THEME = "document.documentElement.dataset.theme"
FULL = "document.querySelectorAll('#tasks li').length === 40"
HAS_MENUS = """Promise.all(['page', 'link', 'selection', 'task'].map((id) => chrome.contextMenus.update(id, {})))
    .then(() => true, (error) => String(error))"""
ARRIVED = """[...document.querySelectorAll('#inbox li')].map(
    (one) => [one.querySelector('.said').textContent, one.querySelector('a')?.href ?? ''])"""
LINK = {"linkUrl": "https://example.com/a", "pageUrl": "https://example.com/", "selectionText": "The link"}
TEXT = {"selectionText": "Some words", "pageUrl": "https://example.com/"}
PAGE = {"pageUrl": "https://example.com/page"}


@pytest.fixture
def own(packages: Path, tmp_path: Path) -> Path:
    """A copy of what was built, to be changed."""
    return that_sees_tabs(packages, tmp_path / "packages")


async def choose(tab: ChromiumTab, selector: str, value: str) -> None:
    """An entry of a list."""
    await until(tab, f"document.querySelector({json.dumps(selector)})", PATIENT_S)
    await tab.run(f"""(() => {{
        const list = document.querySelector({json.dumps(selector)})
        list.value = {json.dumps(value)}
        list.dispatchEvent(new Event('change', {{ bubbles: true }}))
    }})()""")


async def kept(tab: ChromiumTab, wanted: dict[str, Any]) -> None:
    """Wait until this browser has this of the person's."""
    found = "chrome.storage.local.get('preferences').then(({ preferences: p }) => JSON.stringify([%s]))"
    fields = ", ".join(f"p?.{name}" for name in wanted)
    text = json.dumps(list(wanted.values()), separators=(",", ":"))
    await until(tab, f"{found % fields}.then((text) => text === {json.dumps(text)})", PATIENT_S)


async def stored(owner: Owner) -> dict[str, Any]:
    """What the daemon has of it."""
    return dict((await owner.call("GET", f"/api/data/settings/{OPTIONS}"))["data"])


@needs_chromium
@pytest.mark.spec("F4")
@pytest.mark.timeout(180)
async def test_spec_F4_two_profiles_their_options_menus_and_a_new_version(
    owner: Owner, own: Path, packages: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        tell_chromium(folder, owner.home)
    async with extended(two, packages) as other:
        async with extended(one, own) as browser:
            tab, there = await popup(browser), await popup(other)
            grants = {await connect(tab, owner), await connect(there, owner)}
            assert len(grants) == 2
            listed = (await owner.call("GET", "/api/auth/grants"))["items"]
            assert all("read:settings" not in grant["scopes"] for grant in listed)
            await options_are_the_persons(owner, tab, there)
            await what_the_browser_offers(owner, browser, there)
            key = await tab.run(PUBLIC_KEY)
            owner.down()
            await until(tab, f"{STATUS} === 'offline'", PATIENT_S)
            await add(tab, "Call home")
            await until(tab, f"{PENDING} === 1", PATIENT_S)
            await browser.close()
        change(own, lambda manifest: manifest.update(version="99.0.1"))
        async with extended(one, own) as browser:
            await a_new_version(owner, browser, grants, key)
            await ten_thousand_tasks(owner, browser)


async def options_are_the_persons(owner: Owner, tab: ChromiumTab, there: ChromiumTab) -> None:
    """Chosen in one, there in both; also what both chose while nobody answered."""
    owner.down()
    for each in (tab, there):
        await until(each, f"{STATUS} === 'offline'", PATIENT_S)
    await ask(tab, do="prefer", change={"excluded": ["Bank.example", "not a host"], "theme": "dark"})
    await ask(there, do="prefer", change={"excluded": ["doctor.example"]})
    await kept(tab, {"excluded": ["bank.example"], "theme": "dark"})
    await kept(there, {"excluded": ["doctor.example"], "theme": "system"})
    owner.up()
    for each in (tab, there):
        await until(each, f"{STATUS} === 'online' && {THEME} === 'dark'", PATIENT_S)
    for each in (tab, there):
        await until(
            each, "chrome.storage.local.get('preferences').then(({ preferences: p }) => p.excluded.length === 2)"
        )
    document = await stored(owner)
    assert (sorted(document["excluded"]), document["theme"]) == (["bank.example", "doctor.example"], "dark")
    assert document["app"] == OPTIONS

    await there.goto(f"{ORIGIN}/options.html")
    await until(there, "document.querySelector('#shared')?.dataset.shared === 'true'", PATIENT_S)
    await choose(there, "#theme", "light")
    await until(tab, f"{THEME} === 'light'", PATIENT_S)
    assert await tab.run("getComputedStyle(document.documentElement).colorScheme") == "light"
    hostile = {"value": 1, "theme": 5, "device": "x" * 99, "excluded": [1, "<b>", "OK.example"], "app": OPTIONS}
    await owner.call("PUT", f"/api/data/settings/{OPTIONS}", hostile)
    for each in (tab, there):
        await kept(each, {"excluded": ["ok.example"], "theme": "light", "device": ""})
    await there.goto(f"{ORIGIN}/popup.html")


async def what_the_browser_offers(owner: Owner, browser: Chromium, there: ChromiumTab) -> None:
    """Menus, the address bar and the key."""
    worker = await browser.worker(ORIGIN)
    assert await worker.run(HAS_MENUS) is True
    keys = await worker.run(
        "chrome.commands.getAll().then((all) => all.map((one) => one.name + ' ' + one.shortcut).sort())"
    )
    assert keys == ["_execute_action Alt+Shift+H", "send-tab Alt+Shift+S"]
    front = json.dumps({"title": "A page", "url": "https://example.com/page"})
    for entry, of in {"link": LINK, "selection": TEXT, "page": PAGE, "task": PAGE}.items():
        clicked = json.dumps({"menuItemId": entry, **of})
        await worker.run(f"void chrome.contextMenus.onClicked.dispatch({clicked}, {front})")
    await worker.run("void chrome.omnibox.onInputEntered.dispatch(' Water plants ', 'currentTab')")
    await worker.run("void chrome.omnibox.onInputEntered.dispatch('  ', 'currentTab')")
    await until(there, f"{TITLES} === 'Water plants,A page' || {TITLES} === 'A page,Water plants'", PATIENT_S)
    assert await titles(owner) == ["A page", "Water plants"]
    # The tab in front is the popup, which is a tab here.
    await worker.run("void chrome.commands.onCommand.dispatch('another')")
    await worker.run("void chrome.commands.onCommand.dispatch('send-tab')")
    await there.click("#tab-inbox")
    await until(there, "document.querySelectorAll('#inbox li').length === 4", PATIENT_S)
    shown = await there.run(ARRIVED)
    assert sorted(shown) == [
        ["A page", "https://example.com/page"],
        ["HybridGW", ""],
        ["Some words", "https://example.com/"],
        ["The link", "https://example.com/a"],
    ]


async def a_new_version(owner: Owner, browser: Chromium, grants: set[str], key: str) -> None:
    """It takes over all there is, without HybridGW at first: what waits to be sent, the grant, and the key of that."""
    tab = await popup(browser)
    assert await tab.run("chrome.runtime.getManifest().version") == "99.0.1"
    await until(tab, f"{STATUS} === 'offline' && {PENDING} === 1", PATIENT_S)
    assert await tab.run("chrome.action.getBadgeText({})") == "!"
    assert "does not answer" in await tab.run("chrome.action.getTitle({})")
    owner.up()
    await until(tab, f"{STATUS} === 'online' && {PENDING} === 0", PATIENT_S)
    assert await titles(owner) == ["A page", "Call home", "Water plants"]
    assert await tab.run(PUBLIC_KEY) == key
    assert await tab.run("chrome.action.getBadgeText({})") == ""
    listed = (await owner.call("GET", "/api/auth/grants"))["items"]
    assert {grant["id"] for grant in listed} == grants
    assert await (await browser.worker(ORIGIN)).run(HAS_MENUS) is True


async def ten_thousand_tasks(owner: Owner, browser: Chromium) -> None:
    """The popup shows a page of them and asks for no more, also when many come while it is open."""
    for first in range(0, 9_000, 1_000):
        await thousand(owner, first)
    tab = await popup(browser)
    await until(tab, f"{TITLES}.startsWith('Task 8') && {FULL}", PATIENT_S)
    await thousand(owner, 9_000)
    await until(tab, f"{TITLES}.startsWith('Task 9') && {FULL}", PATIENT_S)
    assert await tab.run("document.querySelector('main p').textContent") == "There are more, in the dashboard."
    await tab.goto("about:blank")
    took = []
    for _ in range(3):
        tab = await popup(browser)
        await until(tab, f"{STATUS} === 'online' && {FULL}", PATIENT_S)
        took.append(await tab.run("Math.round(performance.getEntriesByName('usable')[0].startTime)"))
        await tab.goto("about:blank")
    print(f"with 10,000 tasks the popup could be used after {took} ms")
    tab = await popup(browser)
    await until(tab, f"{STATUS} === 'online' && {FULL}", PATIENT_S)
    await add(tab, "The latest")
    await until(tab, f"{TITLES}.startsWith('The latest,') && {PENDING} === 0", PATIENT_S)
    await tab.click("#tasks input")
    await until(tab, f"!{TITLES}.includes('The latest')", PATIENT_S)

    # When little is left, the next ones come.
    await tab.goto("about:blank")
    tab = await popup(browser)
    shown = (await until(tab, f"{FULL} && !{TITLES}.includes('Task 8') && {TITLES}", PATIENT_S)).split(",")
    done, kept_open = set(shown[:25]), set(shown[25:])
    await tab.run("[...document.querySelectorAll('#tasks input')].slice(0, 25).forEach((one) => one.click())")
    left = f"!{TITLES}.split(',').some((one) => {json.dumps(sorted(done))}.includes(one))"
    await until(tab, f"{STATUS} === 'online' && {PENDING} === 0 && {FULL} && {left}", PATIENT_S)
    assert kept_open <= set((await tab.run(TITLES)).split(","))
    finished = quote(json.dumps({"status": "done"}))
    async with asyncio.timeout(PATIENT_S):  # each is hidden at once, and told after that
        while True:
            found = (await owner.call("GET", f"/api/data/tasks?filter={finished}"))["items"]
            if {one["data"]["title"] for one in found} == {"The latest", *done}:
                break
            await asyncio.sleep(0.05)


async def thousand(owner: Owner, first: int) -> None:
    """Tasks, made at once."""
    made = [
        {"op": "create", "collection": "tasks", "data": {"title": f"Task {number}"}}
        for number in range(first, first + 1_000)
    ]
    await owner.call("POST", "/api/data", {"operations": made})
