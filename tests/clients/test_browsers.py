"""Apps in real browsers, on another origin than the daemon: let in, live, offline, thrown out; and pages that attack.

Every page is served by a web server that is not the daemon's, and every click is one of a mouse.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT

from ._browsers import CHROMIUM, FIREFOX, Chromium, Tab, chromium, firefox, until
from .conftest import Owner, served

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
needs_firefox = pytest.mark.skipif(FIREFOX is None, reason="needs the Debian package firefox-esr")

STATUS = "document.querySelector('#status')?.textContent"
TITLES = "[...document.querySelectorAll('#tasks span')].map((one) => one.textContent).join()"
PENDING = "document.querySelectorAll('#tasks .pending').length"
REVOKED_S = 15.0  # before the next heartbeat


@asynccontextmanager
async def browser_tab(kind: str, folder: Path) -> AsyncIterator[Tab]:
    """A tab of a browser that begins with nothing."""
    folder.mkdir()
    if kind == "firefox":
        async with firefox(folder) as tab:
            yield tab
    else:
        async with chromium(folder) as browser:
            yield await browser.tab()


async def connect(tab: Tab, owner: Owner, origin: str) -> str:
    """Click on the page's button, compare the code, approve. Returns the id of the grant."""
    await until(tab, f"{STATUS} === 'unapproved'")
    assert await owner.waiting() == []
    await tab.click("#connect")
    code = await until(tab, "document.querySelector('#code').textContent")
    (asked,) = await owner.waiting()
    assert (asked["code"], asked["origin"], asked["kind"]) == (code, origin, "web")
    await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code, "lasts": "until_revoked"})
    await until(tab, f"{STATUS} === 'online'")
    return str(asked["id"])


async def add(tab: Tab, title: str) -> None:
    """Type a task into the form."""
    await tab.click("#add input")
    await tab.type(title)
    await tab.click("#add button")


async def an_app_lives(tab: Tab, owner: Owner, site: str, example: str) -> None:
    """What a person sees of an app, from the first click to the last."""
    page = f"{site}/examples/{example}/index.html?hybridgw={owner.url}"
    await tab.goto(page)
    grant = await connect(tab, owner, site)

    await add(tab, "Buy milk")
    await until(tab, f"{TITLES} === 'Buy milk' && {PENDING} === 0")
    (task,) = (await owner.call("GET", "/api/data/tasks"))["items"]
    assert task["data"]["title"] == "Buy milk"
    await owner.call("PATCH", f"/api/data/tasks/{task['id']}", {"title": "Buy oat milk"})
    await until(tab, f"{TITLES} === 'Buy oat milk'")

    owner.down()
    await until(tab, f"{STATUS} === 'offline'")
    await add(tab, "Call home")
    await until(tab, f"{STATUS} === 'offline, 1 waiting' && {TITLES} === 'Buy oat milk,Call home'")
    await tab.click("#tasks input")  # not before the list is drawn anew: a click on a row that goes meanwhile is none
    await until(tab, f"{STATUS} === 'offline, 2 waiting' && {PENDING} === 2")
    await tab.goto(page)  # what was not sent outlives the page
    await until(tab, f"{STATUS} === 'offline, 2 waiting' && {TITLES} === 'Call home'")
    owner.up()
    await until(tab, f"{STATUS} === 'online' && {PENDING} === 0 && {TITLES} === 'Buy oat milk,Call home'")
    items = (await owner.call("GET", "/api/data/tasks"))["items"]
    assert [(one["data"]["title"], one["data"]["status"]) for one in items] == [
        ("Buy oat milk", "done"), ("Call home", "open"),
    ]  # fmt: skip

    began = time.monotonic()
    await owner.call("DELETE", f"/api/auth/grants/{grant}")
    await until(tab, f"{STATUS} === 'revoked'")
    assert time.monotonic() - began < REVOKED_S
    while (await owner.call("GET", "/api/config/stats"))["open"]:  # the page heard of it before its socket had closed
        assert time.monotonic() - began < REVOKED_S
        await asyncio.sleep(0.02)
    await tab.goto(page)  # nothing of it is left
    await until(tab, f"{STATUS} === 'unapproved'")
    await tab.click("#connect")
    await until(tab, f"{STATUS} === 'asking'")
    (asked,) = await owner.waiting()
    await owner.call("POST", f"/api/auth/grants/{asked['id']}/refuse", {})
    await until(tab, f"{STATUS} === 'refused'")
    assert "after a day" in await tab.run("document.querySelector('#problem').textContent")


@needs_chromium
@pytest.mark.spec("F5")
@pytest.mark.parametrize("example", ["vanilla", "react", "vue"])
async def test_spec_F5_an_app_in_chromium(owner: Owner, site: str, tmp_path: Path, example: str) -> None:
    async with browser_tab("chromium", tmp_path / "browser") as tab:
        await an_app_lives(tab, owner, site, example)


@needs_firefox
@pytest.mark.spec("F5")
async def test_spec_F5_an_app_in_firefox(owner: Owner, site: str, tmp_path: Path) -> None:
    async with browser_tab("firefox", tmp_path / "browser") as tab:
        await an_app_lives(tab, owner, site, "vanilla")


@needs_chromium
async def test_spec_F5_the_tutorial_as_printed(owner: Owner, built: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial" / "web-app-in-five-lines.md").read_text()
    (page,) = re.findall(r"^```html\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "hybridgw.js").write_bytes((built / "dist" / "hybridgw.js").read_bytes())
    at_this_daemon = page.replace("connect({ ", f"connect({{ url: '{owner.url}', ", 1)
    assert at_this_daemon != page
    (folder / "index.html").write_text(at_this_daemon)
    async with served(folder) as site, browser_tab("chromium", tmp_path / "browser") as tab:
        await tab.goto(f"{site}/index.html")
        await tab.click("#connect")
        code = await until(tab, "document.querySelector('#code').textContent")
        (asked,) = await owner.waiting()
        assert asked["code"] == code
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code})
        assert (await tab.run("add('Buy <b>milk</b>')"))["state"] in ("stored", "queued")
        await until(tab, "document.querySelector('li').textContent === 'Buy <b>milk</b>'")
        for _ in range(600):
            if items := (await owner.call("GET", "/api/data/tasks"))["items"]:
                break
            await asyncio.sleep(0.05)
        assert [one["data"]["title"] for one in items] == ["Buy <b>milk</b>"]


TWO = """import('/dist/index.js').then(({ browserKey, connect }) => {
    const key = browserKey()
    window.db = connect({ app: 'Two', scopes: ['read:tasks', 'write:tasks'], url: %s, key, ask: 'always' })
    return key.public
})"""
KEPT = """import('/dist/index.js').then(({ databaseOutbox }) => {
    window.outbox = databaseOutbox('other')
    return window.outbox.add({ key: 'k' }).then(() => window.outbox.load()).then((all) => all.length)
})"""
KEPT_AGAIN = "window.outbox.add({ key: 'again' }).then(() => window.outbox.load()).then((all) => all.length)"
GONE = """new Promise((done, failed) => {
    const asked = indexedDB.deleteDatabase('other')
    asked.onsuccess = () => done(true)
    asked.onerror = asked.onblocked = () => failed('blocked')
})"""


@needs_chromium
@pytest.mark.spec("F5")
async def test_spec_F5_two_tabs_that_begin_at_once_are_one_app(owner: Owner, site: str, tmp_path: Path) -> None:
    """One key, one question to the person, and both stay in; then one of them throws away all that is kept."""
    folder = tmp_path / "browser"
    folder.mkdir()
    async with chromium(folder) as browser:
        tabs = [await browser.tab(), await browser.tab()]
        for tab in tabs:
            await tab.goto(f"{site}/empty")
        keys = await asyncio.gather(*(tab.run(TWO % json.dumps(owner.url)) for tab in tabs))
        assert keys[0] == keys[1]
        codes = [await until(tab, "window.db.getSnapshot().code") for tab in tabs]
        assert codes[0] == codes[1]
        (asked,) = await owner.waiting()
        await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": codes[0]})
        for tab in tabs:
            await until(tab, "window.db.getSnapshot().status === 'online'")
        write = "window.db.collection('tasks').create({ title: 'x' }).then(({ state }) => state)"
        assert await asyncio.gather(*(tab.run(write) for tab in tabs)) == ["stored", "stored"]
        assert [one["has_key"] for one in (await owner.call("GET", "/api/auth/grants"))["items"]] == [True]

        assert await tabs[0].run(KEPT) == 1
        assert await tabs[1].run(GONE)
        assert await tabs[0].run(KEPT_AGAIN) == 1


SOCKET = """new Promise((resolve) => {
    const socket = new WebSocket('%s/ws/web_app/attack', 'hybridgw.v1.json')
    const said = []
    socket.onopen = () => socket.send(JSON.stringify({ type: 'auth', token: %s }))
    socket.onmessage = (event) => said.push(JSON.parse(event.data).type)
    socket.onclose = (event) => resolve([event.code, ...said])
})"""
FETCH = """fetch('%s', %s).then((answer) => answer.type + ' ' + answer.status, (error) => error.name)"""
IMAGE = """new Promise((resolve) => {
    const image = new Image()
    image.onload = image.onerror = () => resolve(1)
    image.src = '%s'
})"""
FORM = """new Promise((resolve) => {
    const frame = Object.assign(document.createElement('iframe'), { name: 'f%(n)d' })
    document.body.append(frame)
    const form = Object.assign(document.createElement('form'), {
        method: 'post', action: '%(url)s', target: 'f%(n)d', enctype: '%(kind)s' })
    form.append(Object.assign(document.createElement('input'), { name: '{"title":"stolen","x":"', value: '"}' }))
    document.body.append(form)
    frame.onload = () => resolve(true)
    form.submit()
    setTimeout(resolve, 1000)
})"""


async def attack(tab: Tab, owner: Owner, token: str) -> None:
    """All that a page of another origin can try. Nothing of it may do or tell anything."""
    data = f"{owner.url}/api/data/tasks"
    plain = {"method": "POST", "headers": {"Content-Type": "text/plain"}, "body": '{"title": "stolen"}'}
    header = {"X-HybridGW-Client": "a/1", "Authorization": f"Bearer {token}"}
    as_json = {"method": "POST", "headers": {**header, "Content-Type": "application/json"}, "body": '{"title": "s"}'}
    for init in (
        {}, plain, as_json, {"headers": header}, {"headers": header, "credentials": "include"},
        {"method": "DELETE", "headers": header},
    ):  # fmt: skip
        assert await tab.run(FETCH % (data, json.dumps(init))) == "TypeError", init
    blind = {**plain, "mode": "no-cors"}
    for path in ("/api/data/tasks", "/api/daemon/stop", "/api/auth/keys", "/api/auth/login", "/api/auth/grants"):
        assert await tab.run(FETCH % (owner.url + path, json.dumps(blind))) in ("opaque 0", "TypeError"), path
    for n, kind in enumerate(("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")):
        await tab.run(FORM % {"n": n, "url": data, "kind": kind})
    await tab.run(IMAGE % data)
    code, *said = await tab.run(SOCKET % (owner.url.replace("http", "ws"), json.dumps(token)))
    assert "auth_ok" not in said
    assert code in (1006, 4401)


@needs_chromium
@pytest.mark.parametrize("kind", ["chromium", pytest.param("firefox", marks=needs_firefox)])
async def test_a_page_that_was_not_let_in_can_do_nothing(owner: Owner, site: str, tmp_path: Path, kind: str) -> None:
    key = await owner.call("POST", "/api/auth/keys", {"scopes": ["read:tasks", "write:tasks"], "note": "stolen"})
    await owner.call("PUT", "/api/data/tasks/mine", {"title": "Mine"})
    async with browser_tab(kind, tmp_path / "browser") as tab:
        await tab.goto(f"{site}/empty")
        for token in (key["key"], owner.token, "nonsense"):
            await attack(tab, owner, token)
    assert [one["id"] for one in (await owner.call("GET", "/api/data/tasks"))["items"]] == ["mine"]
    assert len((await owner.call("GET", "/api/auth/keys"))["items"]) == 1
    assert await owner.waiting() == []


@needs_chromium
async def test_rights_of_one_page_are_of_no_use_to_another(
    owner: Owner, site: str, other_site: str, tmp_path: Path
) -> None:
    async with browser_tab("chromium", tmp_path / "browser") as tab:
        await tab.goto(f"{site}/examples/vanilla/index.html?hybridgw={owner.url}")
        await connect(tab, owner, site)
        await add(tab, "Mine")
        await until(tab, f"{TITLES} === 'Mine' && {PENDING} === 0")
        token = await tab.run("""new Promise((resolve) => {
            indexedDB.open('hybridgw').onsuccess = (event) => {
                const got = event.target.result.transaction('tokens').objectStore('tokens').get('kept')
                got.onsuccess = () => resolve(got.result.grant.access)
            }
        })""")
        await tab.goto(f"{other_site}/empty")
        await attack(tab, owner, token)
    assert len((await owner.call("GET", "/api/data/tasks"))["items"]) == 1


# ---- the browser's own question --------------------------------------------------------------------------------------
@asynccontextmanager
async def public_page(
    owner: Owner, built: Path, folder: Path, *, secure: bool
) -> AsyncIterator[tuple[Chromium, Tab, str]]:
    """An app as if it were on the internet: Chromium is told that its address is a public one."""
    folder.mkdir()
    async with served(built, certificate(folder) if secure else None) as site:
        port = site.rpartition(":")[2]
        origin = f"{'https' if secure else 'http'}://pub.example:{port}"
        more = [f"--ip-address-space-overrides=127.0.0.1:{port}=public", "--ignore-certificate-errors"]
        async with chromium(folder, *more, "--host-resolver-rules=MAP pub.example 127.0.0.1") as browser:
            tab = await browser.tab()
            await tab.goto(f"{origin}/examples/vanilla/index.html?hybridgw={owner.url}")
            yield browser, tab, origin


def certificate(folder: Path) -> ssl.SSLContext:
    """Of an https server for pub.example; signed by itself."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=pub.example", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@needs_chromium
async def test_a_page_without_encryption_is_blocked_and_says_so(owner: Owner, built: Path, tmp_path: Path) -> None:
    async with public_page(owner, built, tmp_path / "browser", secure=False) as (_, tab, _origin):
        await until(tab, f"{STATUS} === 'blocked'")
        await tab.click("#connect")
        await asyncio.sleep(0.3)
        assert await tab.run(STATUS) == "blocked"
        assert "local network access" in await tab.run("document.querySelector('#problem').textContent")
    assert await owner.waiting() == []


@needs_chromium
async def test_the_question_about_the_local_network_is_put_by_a_click_only(
    owner: Owner, built: Path, tmp_path: Path
) -> None:
    async with public_page(owner, built, tmp_path / "browser", secure=True) as (browser, tab, origin):
        await until(tab, f"{STATUS} === 'unapproved'")
        asked = "navigator.permissions.query({name: 'loopback-network'}).then((one) => one.state)"
        assert await tab.run(asked) == "prompt"
        assert await owner.waiting() == []

        await browser.permit(origin, "denied")
        await until(tab, f"{STATUS} === 'blocked'")  # the page hears of it by itself
        await tab.click("#connect")
        await asyncio.sleep(0.3)
        assert await tab.run(STATUS) == "blocked"
        assert "local network access" in await tab.run("document.querySelector('#problem').textContent")
        assert await owner.waiting() == []

        await browser.permit(origin, "granted")
        await until(tab, f"{STATUS} === 'unapproved'")
        await connect(tab, owner, origin)
        await add(tab, "From afar")
        await until(tab, f"{TITLES} === 'From afar' && {PENDING} === 0")

        await browser.permit(origin, "denied")
        owner.down()
        owner.up()
        await until(tab, f"{STATUS} === 'blocked'")
        await browser.permit(origin, "granted")
        await until(tab, f"{STATUS} === 'online'")


@needs_firefox
async def test_spec_F5_firefox_does_not_tell_how_the_question_stands(owner: Owner, built: Path, tmp_path: Path) -> None:
    """It puts its question (since 147) and keeps the answer to itself. No call is made before the click, and a page
    that hears nothing is told of both causes.

    A policy of the page's own stands for a person who said no: to scripts it looks the same.
    """
    folder = tmp_path / "browser"
    folder.mkdir()
    async with served(built, certificate(folder)) as site:
        origin = f"https://pub.example:{site.rpartition(':')[2]}"
        async with firefox(folder, **{"network.dns.localDomains": "pub.example"}) as tab:
            page = f"{origin}/examples/vanilla/index.html?hybridgw={owner.url}"
            await tab.goto(page)
            await until(tab, f"{STATUS} === 'unapproved'")
            query = "navigator.permissions.query({name: 'loopback-network'}).then((one) => one.state, () => 'unknown')"
            assert await tab.run(query) == "unknown"
            assert (await owner.call("GET", "/api/config/stats"))["opened"] == 0
            assert await owner.waiting() == []

            await tab.run(FORBID)
            await tab.click("#connect")
            await until(tab, f"{STATUS} === 'offline'")
            problem = await tab.run("document.querySelector('#problem').textContent")
            assert "hybridgw up" in problem
            assert "local network access" in problem
            assert await owner.waiting() == []

            await tab.goto(page)  # the person has changed the setting
            await connect(tab, owner, origin)
            await add(tab, "From Firefox")
            await until(tab, f"{TITLES} === 'From Firefox' && {PENDING} === 0")


FORBID = """void document.head.append(Object.assign(document.createElement('meta'), {
    httpEquiv: 'Content-Security-Policy', content: "connect-src 'none'" }))"""
