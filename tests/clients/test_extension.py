"""The browser extension in real browsers, over the real native messaging host and over its WebSocket; its packages."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import ROOT

from ._browsers import Chromium, ChromiumTab, until
from ._dashboard import tap
from ._extension import (
    CLIENT,
    DOC_PICTURES,
    DOCUMENTED,
    EVERYWHERE,
    KEY_CAN_BE_READ,
    MOZ,
    ORIGIN,
    PAGE,
    PENDING,
    PICTURES,
    PUBLIC_KEY,
    SOURCE,
    STATUS,
    TITLES,
    WAY,
    add,
    ask,
    change,
    connect,
    extended,
    firefox_popup,
    look,
    needs_chromium,
    needs_firefox,
    popup,
    public_key,
    tell_chromium,
    tell_firefox,
    that_sees_tabs,
    titles,
)
from .conftest import Owner, end, environment

TASKS = (
    {"title": "Water the plants on the balcony"},
    {"title": "Read the chapter on tides", "project": "reading"},
    {"title": "Book the train to the coast", "due": "2026-12-18T12:00:00Z"},
    {"title": "Answer the letter of the landlord", "due": "2026-12-04T09:00:00Z", "priority": "high"},
    {"title": "Buy milk, bread and coffee"},
)
ARRIVED = (
    {"kind": "link", "url": "https://example.com/recipes/soup", "title": "A soup for cold evenings", "text": ""},
    {
        "kind": "selection",
        "url": "https://example.com/",
        "title": "Timetable",
        "text": "Departs 08:14, platform 3, change once",
    },
    {"kind": "tab", "url": "https://example.com/coast", "title": "Walks along the coast", "text": ""},
)


@needs_chromium
@pytest.mark.spec("F4")
async def test_spec_F4_in_chromium_over_the_native_host(owner: Owner, packages: Path, tmp_path: Path) -> None:
    """Let in, used, the daemon gone and back, the worker ended, thrown out and let in again."""
    folder = tmp_path / "browser"
    folder.mkdir()
    tell_chromium(folder, owner.home)
    async with extended(folder, packages) as browser:
        tab = await popup(browser)
        await until(tab, f"{STATUS} === 'unapproved'")
        await look(tab, "popup-unapproved")
        grant = await connect(tab, owner)
        assert await tab.run(WAY) == "native"
        (listed,) = [one for one in (await owner.call("GET", "/api/auth/grants"))["items"] if one["id"] == grant]
        assert listed["has_key"]
        assert await tab.run(KEY_CAN_BE_READ) == [False, "InvalidAccessError"]
        await add(tab, "Buy milk")
        await until(tab, f"{TITLES} === 'Buy milk' && {PENDING} === 0")
        assert await titles(owner) == ["Buy milk"]
        assert await tab.run("chrome.action.getBadgeText({})") == ""

        owner.down()
        await until(tab, f"{STATUS} === 'offline'")
        assert await tab.run("chrome.action.getBadgeText({})") == "!"
        await add(tab, "Call home")
        await until(tab, f"{TITLES} === 'Call home,Buy milk' && {PENDING} === 1")
        await look(tab, "popup-offline")
        await tab.ask("ServiceWorker.enable", {})
        await tab.ask("ServiceWorker.stopAllWorkers", {})
        await until(tab, f"{TITLES} === 'Call home,Buy milk' && {STATUS} === 'offline'")  # by another worker
        await tab.click("#tasks li:nth-child(2) input")
        await until(tab, f"{TITLES} === 'Call home'")
        await tab.ask("ServiceWorker.stopAllWorkers", {})
        await until(tab, f"{TITLES} === 'Call home' && {STATUS} === 'offline'")
        owner.up()
        await until(tab, f"{STATUS} === 'online' && {PENDING} === 0 && {TITLES} === 'Call home'")
        assert await titles(owner) == ["Buy milk", "Call home"]
        assert await owner.waiting() == []
        milk = (await owner.call("GET", "/api/data/tasks"))["items"][0]
        assert milk["data"]["status"] == "done"
        await owner.call("PATCH", f"/api/data/tasks/{milk['id']}", {"status": "open"})
        await until(tab, f"{TITLES} === 'Call home,Buy milk'")

        await tab.ask("ServiceWorker.stopAllWorkers", {})
        await until(tab, f"{STATUS} === 'online'")
        await add(tab, "Water plants")
        await until(tab, f"{TITLES} === 'Water plants,Call home,Buy milk' && {PENDING} === 0")
        await owner.call("DELETE", f"/api/data/tasks/{(await owner.call('GET', '/api/data/tasks'))['items'][0]['id']}")
        await until(tab, f"{TITLES} === 'Water plants,Call home'")

        began = time.monotonic()
        await owner.call("DELETE", f"/api/auth/grants/{grant}")
        await until(tab, f"{STATUS} === 'revoked' && {TITLES} === ''")
        assert time.monotonic() - began < 15
        assert await tab.run("chrome.action.getBadgeText({})") == "!"
        await tab.click("section button.main")
        code = await until(tab, "document.querySelector('#code')?.textContent")
        (asked,) = await owner.waiting()
        assert asked["code"] == code
        await look(tab, "popup-asking")
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/refuse", {})
        await until(tab, f"{STATUS} === 'refused'")
        assert [text for text in await tab.problems() if "favicon" not in text] == []


@needs_chromium
@pytest.mark.spec("F4")
async def test_spec_F4_one_that_is_not_listed_has_the_websocket_and_no_host(
    owner: Owner, packages: Path, tmp_path: Path
) -> None:
    """The browser refuses it the host; where the daemon answers has to be typed once; and it is let in by itself."""
    folder, key = tmp_path / "browser", public_key()
    folder.mkdir()
    other = that_sees_tabs(packages, tmp_path / "packages")
    change(other, lambda manifest: manifest.update(key=base64.b64encode(key).decode()))
    origin = "chrome-extension://" + "".join(chr(97 + int(digit, 16)) for digit in hashlib.sha256(key).hexdigest()[:32])
    tell_chromium(folder, owner.home)
    async with extended(folder, other) as browser:
        tab = await popup(browser, origin)
        await tab.resize(800, 1_200)
        await tab.goto(f"{origin}/options.html")
        await until(tab, "document.querySelector('#address')")
        await tab.click("#address input")
        await tab.type("http://example.com:8000")
        await tab.click("#address button")
        await until(tab, "document.querySelector('[role=alert]').textContent.includes('this computer only')")
        await tab.run("document.querySelector('#address input').select()")
        await tab.type("http://")
        await tab.click("#address button")
        await until(tab, "document.querySelector('[role=alert]').textContent.includes('This is no address')")
        assert await tab.run(STATUS) == "unapproved"  # what was there goes on
        await tab.run("document.querySelector('#address input').select()")
        await tab.type(owner.url)
        await tab.click("#address button")
        await until(tab, f"document.querySelector('dl').textContent.includes({json.dumps(owner.url)})")
        await connect(tab, owner, origin)
        await until(tab, f"{WAY} === 'websocket'")
        await tab.goto(f"{origin}/popup.html")
        await add(tab, "Buy milk")
        await until(tab, f"{TITLES} === 'Buy milk' && {PENDING} === 0")
        assert await titles(owner) == ["Buy milk"]

        # Without the daemon, and with another worker meanwhile, the icon says so.
        owner.down()
        await until(tab, f"{STATUS} === 'offline'", 30)
        await tab.ask("ServiceWorker.enable", {})
        await tab.ask("ServiceWorker.stopAllWorkers", {})
        await add(tab, "Call home")
        await until(tab, f"{STATUS} === 'offline' && {PENDING} === 1", 30)
        assert await tab.run("chrome.action.getBadgeText({})") == "!"
        owner.up()
        await until(tab, f"{STATUS} === 'online' && {PENDING} === 0", 30)
        assert await tab.run(WAY) == "websocket"
        assert await tab.run("chrome.action.getBadgeText({})") == ""
        assert await titles(owner) == ["Buy milk", "Call home"]

        # The activity log: rights of its own, nothing before, and nothing of what is left out.
        await tab.goto(f"{origin}/options.html")
        await until(tab, "document.querySelector('#activity button')")
        await tab.click("#activity button")
        code = await until(tab, "document.querySelector('#code')?.textContent")
        await look(tab, "options")
        (asked,) = await owner.waiting()
        assert "write:activities" in asked["scopes"]
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code})
        await until(tab, f"{STATUS} === 'online'")
        other = await browser.tab()
        await other.goto(f"{owner.url}/?secret=planted#planted")
        await asyncio.sleep(2.5)
        await other.goto(f"{origin}/popup.html")
        await until(other, f"{STATUS} === 'online'")
        (noted,) = await _noted(owner)
        assert noted["url"] == f"{owner.url}/"
        began, ended = (datetime.fromisoformat(noted[name]) for name in ("started_at", "ended_at"))
        assert 2.0 <= (ended - began).total_seconds() < 60
        await other.goto(f"{owner.url}/docs")
        await asyncio.sleep(2.5)
        await tab.run("document.querySelector('#activity textarea').focus()")
        await tab.type("127.0.0.1")
        await tab.run("document.querySelector('#activity textarea').blur()")  # left out while it is looked at
        await until(tab, "chrome.storage.local.get('look').then(({ look }) => look === null)")
        await other.goto(f"{owner.url}/")
        await asyncio.sleep(2.5)
        await other.goto(f"{origin}/popup.html")
        await until(other, f"{STATUS} === 'online'")
        assert await _noted(owner) == [noted]

        # Paused, it looks at nothing; a right that was not given is said.
        await other.goto(owner.url.replace("127.0.0.1", "localhost"))  # not left out
        looked_at = "chrome.storage.local.get('look').then(({ look }) => look?.url ?? '')"
        await ask(tab, do="prefer", change={})  # after which it has looked
        assert "localhost" in await tab.run(looked_at)
        await tap(tab, "#activity .buttons button + button")
        await until(tab, "document.querySelector('#activity').textContent.includes('Go on')")
        await ask(tab, do="prefer", change={})
        assert await tab.run(looked_at) == ""
        await other.goto(f"{origin}/popup.html")
        await owner.call("DELETE", f"/api/auth/grants/{asked['id']}")
        await until(tab, f"{STATUS} === 'revoked'", 30)
        await let_in_again(tab, owner, without=("read:tasks", "write:activities"))
        await until(tab, "document.querySelector('#activity').textContent.includes('does not let this browser write')")
        await until(other, "document.body.textContent.includes('does not let this browser read your tasks')")
        await what_has_failed_is_tried_again(tab)


@needs_firefox
@pytest.mark.spec("F4")
async def test_spec_F4_firefox_without_the_host_does_not_make_wss_of_it(
    owner: Owner, packages: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "browser"
    folder.mkdir()
    async with firefox_popup(folder, packages) as tab:
        await tab.goto(f"{MOZ}/options.html")
        await until(tab, "document.querySelector('#address')")
        await tab.run("document.querySelector('#address input').focus()")
        await tab.type(owner.url)
        await tab.press("Enter")
        await until(tab, f"document.querySelector('dl').textContent.includes({json.dumps(owner.url)})")
        await connect(tab, owner, MOZ, without="settings/")
        await until(tab, f"{WAY} === 'websocket'")
        # What the person did not give, the extension says and does without.
        await until(tab, "document.querySelector('#shared')?.dataset.shared === 'false'", 30)
        await ask(tab, do="prefer", change={"theme": "dark"})
        await until(tab, "document.documentElement.dataset.theme === 'dark'", 30)
        assert "data" not in await owner.call("GET", "/api/data/settings/hybridgw-extension")
        await tab.goto(f"{MOZ}/popup.html")
        await add(tab, "Buy milk")
        await until(tab, f"{TITLES} === 'Buy milk' && {PENDING} === 0")
        assert await titles(owner) == ["Buy milk"]

        # A new version has what the one before it had: what is shown, what was chosen, the grant and its key.
        key = await tab.run(PUBLIC_KEY)
        await tab.goto("about:blank")
        shutil.copytree(packages / "firefox", tmp_path / "newer" / "firefox")
        change(tmp_path / "newer", lambda manifest: manifest.update(version="99.0.1"), "firefox")
        await tab.install(tmp_path / "newer" / "firefox")
        await tab.goto(f"{MOZ}/popup.html")
        assert await tab.run("browser.runtime.getManifest().version") == "99.0.1"
        await until(tab, f"{STATUS} === 'online' && {TITLES} === 'Buy milk'", 30)
        assert await tab.run("document.documentElement.dataset.theme") == "dark"
        assert await tab.run(PUBLIC_KEY) == key
        assert len((await owner.call("GET", "/api/auth/grants"))["items"]) == 1

        # A log that is on, and sees no tabs, since the browser was never asked or the person took it back, says so.
        await ask(tab, do="activity", settings={"isOn": True, "pausedUntilMs": 0})
        await tab.goto(f"{MOZ}/options.html")
        await until(tab, "document.querySelector('#activity')?.textContent.includes('does not show it your tabs')")


async def let_in_again(tab: ChromiumTab, owner: Owner, without: tuple[str, ...]) -> None:
    """Thrown out, and let in with all but what is about *without*."""
    await tab.click("section button.main")
    code = await until(tab, "document.querySelector('#code')?.textContent")
    (asked,) = await owner.waiting()
    scopes = [scope for scope in asked["scopes"] if scope not in without]
    await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code, "scopes": scopes})
    await until(tab, f"{STATUS} === 'online'")


async def what_has_failed_is_tried_again(tab: ChromiumTab) -> None:
    """A program that ends every connection as one that cannot be understood: the person can try once more."""
    came = []

    async def refuse(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["hybridgw.v1.json"])
        await socket.prepare(request)
        came.append(request.path)
        await socket.close(code=4400, message=b"not understood")
        return socket

    app = web.Application()
    app.router.add_get("/ws/{mode}/{client}", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await ask(tab, do="address", url=f"127.0.0.1:{runner.addresses[0][1]}")
    await until(tab, f"{STATUS} === 'failed'", 30)
    assert "hybridgw up" not in await tab.run("document.querySelector('section').textContent")  # that is not what helps
    await tap(tab, "section button")
    for _ in range(600):
        if len(came) > 1:
            break
        await asyncio.sleep(0.05)
    await until(tab, f"{STATUS} === 'failed'", 30)
    assert len(came) == 2
    await end(runner)


async def _noted(owner: Owner) -> list[dict[str, Any]]:
    """What the activity log has written, once it has written something."""
    for _ in range(600):
        if found := (await owner.call("GET", "/api/data/activities"))["items"]:
            return [one["data"] for one in found]
        await asyncio.sleep(0.05)
    return []


@needs_chromium
@needs_firefox
@pytest.mark.spec("F4")
async def test_spec_F4_chromium_and_firefox_send_each_other_things(
    owner: Owner, packages: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "chromium", tmp_path / "firefox"
    one.mkdir()
    two.mkdir()
    tell_chromium(one, owner.home)
    tell_firefox(two, owner.home)
    async with extended(one, packages) as browser, firefox_popup(two, packages) as fox:
        tab = await popup(browser)
        await connect(tab, owner)
        await connect(fox, owner, MOZ)
        assert await fox.run(WAY) == "native"
        await add(fox, "Buy milk")
        await until(tab, f"{TITLES} === 'Buy milk' && {PENDING} === 0")
        await tab.click("#tasks input")
        await until(fox, f"{TITLES} === ''")

        await fox.click("#tab-inbox")
        hostile = "<img src=x onerror=alert(1)>\u202etxt.exe" + "x" * 4_096
        for piece in (
            {"kind": "tab", "url": "https://example.com/a?b=1", "title": "Example", "text": ""},
            {"kind": "link", "url": "javascript:document.title='hit'", "title": hostile, "text": ""},
        ):
            await ask(tab, do="send", id=str(uuid.uuid4()), piece=piece, to=EVERYWHERE)
        await until(fox, "document.querySelectorAll('#inbox li.unseen').length === 2")
        links = "[...document.querySelectorAll('#inbox a')].map((one) => one.href).join()"
        assert await fox.run(links) == "https://example.com/a?b=1"
        shown = await fox.run("document.querySelector('#inbox .said').textContent")
        assert shown.startswith("<img src=x onerror=alert(1)>⟨U+202E⟩txt.exe")
        assert len(shown) < 400
        assert await fox.run("document.querySelectorAll('#inbox img').length") == 0
        assert await fox.run("browser.action.getBadgeText({})") == "2"
        assert await tab.run("chrome.action.getBadgeText({})") == ""  # what one sends to all is not for oneself

        owner.down()
        await until(fox, f"{STATUS} === 'offline'")
        away = {"kind": "selection", "url": "", "title": "", "text": "while away"}
        await ask(fox, do="send", id=str(uuid.uuid4()), piece=away, to=EVERYWHERE)
        await until(fox, "document.querySelector('#waiting')?.textContent.startsWith('1 ')")
        owner.up()
        await until(fox, f"{STATUS} === 'online' && document.querySelector('#waiting') === null")
        await tap(tab, "#tab-inbox")
        await until(tab, "document.querySelector('#inbox .said')?.textContent === 'while away'")
        assert len((await owner.call("GET", "/api/messages"))["items"]) == 3


async def fit(tab: ChromiumTab) -> None:
    """As high as its content, as the browser makes a popup."""
    await tab.resize(380, await tab.run("document.body.offsetHeight"))


@needs_chromium
@pytest.mark.spec("F4")
async def test_spec_F4_all_of_it_in_both_themes(owner: Owner, packages: Path, tmp_path: Path) -> None:
    """Looked at by axe, and by people: `make pictures` puts some of the pictures into the docs."""
    folder = tmp_path / "browser"
    folder.mkdir()
    tell_chromium(folder, owner.home)
    for _ in range(600):
        (device,) = (await owner.call("GET", "/api/devices"))["items"]
        if device["id"]:
            break
        await asyncio.sleep(0.05)  # its keys are being opened
    await owner.call("POST", f"/api/devices/{device['id']}/rename", {"name": "desk-pc"})
    async with extended(folder, that_sees_tabs(packages, tmp_path / "packages")) as browser:
        tab = await popup(browser)
        await until(tab, f"{STATUS} === 'unapproved'")
        await tab.click("section button.main")
        code = await until(tab, "document.querySelector('#code')?.textContent")
        await fit(tab)
        await look(tab, "popup-code")
        (asked,) = await owner.waiting()
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code})
        await until(tab, f"{STATUS} === 'online'")
        for data in TASKS:
            await owner.call("POST", "/api/data/tasks", data)
        for body in ARRIVED:
            sent = {"type": "browser.page", "to": EVERYWHERE, "body": body}
            assert "id" in await owner.call("POST", "/api/messages", sent)
        await until(tab, f"document.querySelectorAll('#tasks li').length === {len(TASKS)}")
        await until(tab, f"document.querySelector('#tab-inbox').textContent.includes('({len(ARRIVED)})')")
        await fit(tab)
        await look(tab, "popup-tasks")
        await tab.click("#tab-inbox")
        await until(tab, f"document.querySelectorAll('#inbox li').length === {len(ARRIVED)}")
        await fit(tab)
        await look(tab, "popup-arrived")
        await tab.resize(800, 700)
        await tab.goto(f"{ORIGIN}/options.html")
        await until(tab, "document.querySelector('#shared')?.dataset.shared === 'true'")
        await ask(tab, do="prefer", change={"excluded": ["bank.example", "doctor.example"]})
        await tab.click("#activity button")
        code = await until(tab, "document.querySelector('#code')?.textContent")
        (asked,) = await owner.waiting()
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code})
        await until(tab, f"{STATUS} === 'online' && document.querySelector('#shared')?.dataset.shared === 'true'")
        await look(tab, "options")
        await tab.resize(360, 700)
        await look(tab, "options-narrow")
        await offline_and_at_another_port(owner, tab)
        await closed_before_it_is_answered(browser, tab)
        assert [text for text in await tab.problems() if "favicon" not in text] == []
    if os.environ.get("HYBRIDGW_DOC_PICTURES"):  # make pictures
        for name in DOCUMENTED:
            shutil.copyfile(PICTURES / f"{name}.png", DOC_PICTURES / f"{name}.png")


async def closed_before_it_is_answered(browser: Chromium, tab: ChromiumTab) -> None:
    """As a popup that goes with the click: the worker has no error to tell of."""
    worker = await browser.worker(ORIGIN)
    await worker.ask("Runtime.enable", {})
    await tab.run("""(() => {
        const port = chrome.runtime.connect({ name: 'popup' })
        port.postMessage({ id: 1, ask: { do: 'seen' } })
        port.disconnect()
    })()""")
    await ask(tab, do="prefer", change={})  # what was asked before is done
    assert await worker.problems() == []


async def offline_and_at_another_port(owner: Owner, tab: ChromiumTab) -> None:
    """What waits is said to wait, what was not taken is said, and the focus stays; then the daemon has another port."""
    await tab.resize(380, 600)
    await tab.goto(f"{ORIGIN}/popup.html")
    await until(tab, f"{STATUS} === 'online'")
    await tab.run("document.querySelector('#tasks input').focus()")
    await tab.press("Space")  # the row that is ticked goes
    await until(tab, f"document.querySelectorAll('#tasks li').length === {len(TASKS) - 1}")
    await until(tab, "document.activeElement.id === 'tasks'")
    await tab.run("document.querySelector('#tab-tasks').focus()")
    await tab.press("ArrowRight")
    await until(tab, "document.activeElement.id === 'tab-inbox' && document.activeElement.ariaSelected === 'true'")
    await tab.press("ArrowLeft")
    await until(tab, "document.querySelector('#tasks') !== null")

    owner.down()
    await until(tab, f"{STATUS} === 'offline'")
    await tap(tab, "footer button")
    await until(tab, "document.querySelector('#said').textContent.includes('it waits here')")
    await ask(tab, do="add", id=str(uuid.uuid4()), title="x" * 1_001)  # too long to be taken
    gone = {"kind": "tab", "url": "https://example.com/", "title": "For nobody", "text": ""}
    await ask(tab, do="send", id=str(uuid.uuid4()), piece=gone, to=f"{EVERYWHERE}@0000-0000-0000-0000")
    twice = str(uuid.uuid4())
    for _ in range(2):  # a view asks again where the worker was ended before it had answered
        await ask(tab, do="add", id=twice, title="Twice")
    await until(tab, "document.querySelector('#waiting')?.textContent.startsWith('5 ')")
    owner.up()
    await until(tab, "document.querySelectorAll('#refused li').length === 2", 30)
    refused = await tab.run("[...document.querySelectorAll('#refused .said')].map((one) => one.textContent).join()")
    assert "xxx" in refused
    assert "For nobody" in refused
    assert "Twice" not in refused
    await until(tab, "chrome.action.getBadgeText({}).then((text) => text === '!')")
    await until(tab, "document.querySelector('#said').textContent === ''")  # nothing waits any more
    await look(tab, "popup-refused")
    await tap(tab, "#refused button")
    await until(tab, f"document.querySelector('#refused') === null && {STATUS} === 'online'")
    await ask(tab, do="add", id=str(uuid.uuid4()), title="Half of a \ud83d")  # as pages cut their titles
    await until(tab, f"{TITLES}.startsWith('Half of a \ufffd,') && {PENDING} === 0")

    # Whoever tries again before it has heard of the other port is not taken for thrown out.
    owner.down()
    owner.url = ""
    up = asyncio.create_task(asyncio.to_thread(owner.up))
    while not up.done():
        await ask(tab, do="retry")
    await up
    await until(tab, f"{STATUS} === 'online'", 30)
    assert await owner.waiting() == []


def test_spec_F4_parts_of_the_background(built: Path) -> None:
    """By Node's test runner, beside a real daemon."""
    del built  # its packages are needed, and it is what writes
    files = [str(path) for path in sorted(SOURCE.glob("test/*.test.mjs"))]
    done = subprocess.run(
        ["node", "--test", "--test-timeout=120000", "--test-reporter=tap", *files],
        cwd=SOURCE,
        env=environment() | {"HYBRIDGW_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert "\n# skipped 0\n" in done.stdout
    assert "\n# pass 0\n" not in done.stdout


def test_the_docs_have_the_pictures_of_the_extension_that_the_test_makes() -> None:
    text = PAGE.read_text() + (ROOT / "docs" / "how-to" / "use-the-extension.md").read_text()
    for name in DOCUMENTED:
        assert f"../assets/extension/{name}.png" in text
        assert (DOC_PICTURES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.stem for path in DOC_PICTURES.iterdir()} == set(DOCUMENTED)


# ---- what is built ---------------------------------------------------------------------------------------------------
@pytest.mark.spec("F4")
def test_spec_F4_the_packages_are_as_stores_take_them(packages: Path) -> None:
    reasons = dict(re.findall(r"^\| `([A-Za-z]+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    for browser in ("chrome", "firefox"):
        with zipfile.ZipFile(packages / f"hybridgw-{browser}.zip") as found:
            assert found.testzip() is None
            names = set(found.namelist())
            manifest = json.loads(found.read("manifest.json"))
            files = {name: found.read(name) for name in names}
        script = files["background.js"]
        assert "key" not in manifest
        loaded = json.loads((packages / browser / "manifest.json").read_text())
        assert ("key" in loaded) is (browser == "chrome")
        for name in ("popup.html", "options.html", "LICENSE", "licenses.md", *manifest["icons"].values()):
            assert name in names
        assert {*manifest["permissions"], *manifest["optional_permissions"]} == reasons.keys()
        assert "host_permissions" not in manifest
        policy = manifest["content_security_policy"]["extension_pages"]
        assert "unsafe" not in policy
        assert set(re.findall(r"(?:ws|http)s?://[^ ;]+", policy)) == {"ws://127.0.0.1:*", "http://127.0.0.1:*"}
        assert len(gzip.compress(script)) < 60_000
        for name, content in files.items():
            assert str(ROOT).encode() not in content, name
            assert b"node_modules" not in content, name
            assert b"sourceMappingURL" not in content, name
            if name.endswith((".js", ".html", ".css")):
                assert not re.search(rb"\beval\(|new Function|importScripts|\bimport\(|@import", content), name
                assert not re.search(rb"https?://(?!127\.0\.0\.1|localhost|\[::1\]|www\.w3\.org/)[a-z]", content), name


@pytest.mark.spec("F4")
def test_spec_F4_the_linter_of_the_store_finds_nothing_and_would_find_something(packages: Path, tmp_path: Path) -> None:
    """What was built has been through it, by `make extension`; a package that runs text from elsewhere is refused."""
    shutil.copy(packages / "hybridgw-chrome.zip", tmp_path)
    with (
        zipfile.ZipFile(packages / "hybridgw-firefox.zip") as built,
        zipfile.ZipFile(tmp_path / "hybridgw-firefox.zip", "w") as bad,
    ):
        for name in built.namelist():
            bad.writestr(
                name, built.read(name).replace(b"<body", b'<script src="https://example.com/x.js"></script><body')
            )
        bad.writestr("more.js", "eval(location.hash)")
    done = subprocess.run(
        ["node", "lint.mjs", str(tmp_path)], cwd=SOURCE, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert {tuple(line.split()[:3]) for line in done.stdout.splitlines()} == {
        ("firefox:", "warning", "REMOTE_SCRIPT"),
        ("firefox:", "warning", "DANGEROUS_EVAL"),
    }


@pytest.mark.spec("F4")
def test_spec_F4_the_same_source_gives_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["node", "build.mjs", str(tmp_path / "again")], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("hybridgw-chrome.zip", "hybridgw-firefox.zip"):
        assert (tmp_path / "again" / name).read_bytes() == (packages / name).read_bytes()


def test_spec_F4_every_text_is_there_and_used() -> None:
    texts = json.loads((SOURCE / "public/_locales/en/messages.json").read_text())
    source = "\n".join(path.read_text() for path in (SOURCE / "src").rglob("*.ts*"))
    used = set(re.findall(r"\bt\(\s*'([A-Za-z_]+)'", source))
    used |= set(re.findall(r"__MSG_([A-Za-z]+)__", (SOURCE / "manifest.mjs").read_text()))
    used |= set(re.findall(r"'((?:badge|activity)[A-Za-z]+|title_[a-z]+|way_[a-z]+)'", source))
    computed = {name for name in texts if re.match(r"(status|title|text|way|host|menu|theme|preferences)_", name)}
    assert used <= texts.keys()
    assert texts.keys() - used <= computed
    for name in re.findall(r"\| '([a-z]+)'", re.search(r"export type Status = (.+)", CLIENT.read_text())[0]):  # type: ignore[index]
        assert f"status_{name}" in texts
    for entry in texts.values():
        assert ("$WHAT$" in entry["message"]) is ("placeholders" in entry)
