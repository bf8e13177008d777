"""What the tests of the extension share: browsers that have it and its host, its pages, and what a person does there.

The popup is opened as a tab: a browser without a screen gives no other hold on it. Every click is one of a mouse.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hybridgw_cli import browsers
from hybridgw_cli.browsers import BY_NAME, Entry, Machine
from hybridgw_client.profile import find_profile
from hybridgw_protocol.native import CHROME_IDS, FIREFOX_IDS
from tests.conftest import ROOT

from ._browsers import CHROMIUM, FIREFOX, Chromium, ChromiumTab, FirefoxTab, Tab, chromium, firefox, until

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
needs_firefox = pytest.mark.skipif(FIREFOX is None, reason="needs the Debian package firefox-esr")

SOURCE = ROOT / "clients" / "extension"
UUID = "11111111-2222-4333-8444-555555555555"
MOZ = f"moz-extension://{UUID}"
ORIGIN = f"chrome-extension://{CHROME_IDS[0]}"
STATUS = "document.querySelector('#status')?.dataset.status"
WAY = "document.querySelector('#status')?.dataset.way"
TITLES = "[...document.querySelectorAll('#tasks .said')].map((one) => one.textContent).join()"
EVERYWHERE = "app:hybridgw-extension"
PAGE = ROOT / "docs" / "how-to" / "connect-your-browser.md"
CLIENT = ROOT / "clients" / "js" / "src" / "client.ts"
KEY_CAN_BE_READ = """new Promise((done) => {
    const asked = indexedDB.open('hybridgw')
    asked.onsuccess = () => {
        const got = asked.result.transaction('tokens').objectStore('tokens').get('key')
        got.onsuccess = () => crypto.subtle.exportKey('pkcs8', got.result.privateKey).then(
            () => done('it can'), (error) => done([got.result.privateKey.extractable, error.name]))
    }
})"""
PUBLIC_KEY = """new Promise((done) => {
    const asked = indexedDB.open('hybridgw')
    asked.onsuccess = () => {
        const got = asked.result.transaction('tokens').objectStore('tokens').get('key')
        got.onsuccess = () => crypto.subtle.exportKey('jwk', got.result.publicKey).then(({ x }) => done(x))
    }
})"""
PENDING = "document.querySelectorAll('#tasks .pending').length"


PICTURES = ROOT / "test-artifacts" / "extension"
DOC_PICTURES = ROOT / "docs" / "assets" / "extension"
DOCUMENTED = (
    "popup-code-light",
    "popup-tasks-light",
    "popup-tasks-dark",
    "popup-arrived-light",
    "options-light",
    "options-dark",
)
SERIOUS = """axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
    violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) =>
        [one.impact, one.id, one.nodes.slice(0, 3).map((node) => node.html + node.failureSummary).join()]))"""


class Person(Protocol):
    """Who sits in front of a daemon."""

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """As the command line does it."""
        ...

    async def waiting(self) -> list[dict[str, Any]]:
        """Apps that ask to be let in."""
        ...


async def look(tab: ChromiumTab, name: str) -> None:
    """Keep a picture of the page in both themes; nothing is wider than the window, and axe finds nothing serious."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    axe = ROOT / "clients" / "node_modules" / "axe-core" / "axe.min.js"
    await tab.run(f"globalThis.axe === undefined && (() => {{ {axe.read_text()} }})()")
    for scheme in ("light", "dark"):
        await tab.prefer(scheme)
        (PICTURES / f"{name}-{scheme}.png").write_bytes(await tab.picture())
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth"), name
        assert await tab.run(SERIOUS) == [], (name, scheme)


def tell_chromium(folder: Path, home: Path) -> None:
    """As `hybridgw extension install` does, for a browser whose folder is another one."""
    profile, machine = find_profile(home), Machine.here()
    place = folder / "NativeMessagingHosts" / browsers.MANIFEST
    browsers.install(Entry(BY_NAME["chromium"], place), profile, machine)


def that_sees_tabs(packages: Path, folder: Path) -> Path:
    """A copy for Chromium that has `tabs`: as if a person had pressed its key or said yes to the browser."""
    shutil.copytree(packages / "chrome", folder / "chrome")
    change(folder, lambda manifest: manifest["permissions"].append("tabs"))
    return folder


def change(packages: Path, how: Callable[[dict[str, Any]], None], browser: str = "chrome") -> None:
    """The manifest."""
    place = packages / browser / "manifest.json"
    manifest = json.loads(place.read_text())
    how(manifest)
    place.write_text(json.dumps(manifest))


@asynccontextmanager
async def extended(folder: Path, packages: Path) -> AsyncIterator[Chromium]:
    """A Chromium that has the extension."""
    place = packages / "chrome"
    async with chromium(folder, f"--load-extension={place}", f"--disable-extensions-except={place}") as browser:
        yield browser


async def popup(browser: Chromium, origin: str = ORIGIN) -> ChromiumTab:
    """The popup, in a tab of its own."""
    tab = await browser.tab()
    await tab.resize(380, 600)
    await tab.goto(f"{origin}/popup.html")
    return tab


@asynccontextmanager
async def firefox_popup(folder: Path, packages: Path) -> AsyncIterator[FirefoxTab]:
    """A Firefox that has the extension, and its popup in the tab."""
    uuids = {"extensions.webextensions.uuids": json.dumps({FIREFOX_IDS[0]: UUID})}
    async with firefox(folder, "--remote-allow-system-access", extension=packages / "firefox", **uuids) as tab:
        await tab.goto(f"{MOZ}/popup.html")
        yield tab


async def ask(tab: Tab, **what: Any) -> None:
    """Say something to the background, as the popup does."""
    await tab.run(f"""new Promise((done) => {{
        const port = (globalThis.browser ?? chrome).runtime.connect({{ name: 'options' }})
        port.onMessage.addListener((message) => message.kind === 'done' && (port.disconnect(), done(true)))
        port.postMessage({{ id: 1, ask: {json.dumps(what)} }})
    }})""")


async def connect(tab: Tab, owner: Person, origin: str = ORIGIN, without: str | None = None) -> str:
    """Click, compare the six digits, approve, all but what is about *without*. Returns the id of the grant."""
    await until(tab, f"{STATUS} === 'unapproved'")
    await tab.click("section button.main")
    code = await until(tab, "document.querySelector('#code')?.textContent")
    (asked,) = await owner.waiting()
    assert (asked["code"], asked["origin"], asked["kind"]) == (code, origin, "extension")
    scopes = [scope for scope in asked["scopes"] if without is None or without not in scope]
    said = {"code": code, "lasts": "until_revoked", "scopes": scopes}
    await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", said)
    await until(tab, f"{STATUS} === 'online'")
    return str(asked["id"])


def tell_firefox(folder: Path, home: Path) -> None:
    """The same for a Firefox whose home this is."""
    profile = find_profile(home)
    machine = Machine("linux", folder, {})
    browsers.install(browsers.entry_of(BY_NAME["firefox"], machine, profile), profile, machine)


def public_key() -> bytes:
    """Another one than ours, as a manifest has it before base64."""
    key = rsa.generate_private_key(65_537, 2_048).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


async def add(tab: Tab, title: str) -> None:
    """Type a task into the popup."""
    await until(tab, "document.querySelector('#add input')")
    await tab.click("#add input")
    await tab.type(title)
    await tab.click("#add button")


async def titles(owner: Person) -> list[str]:
    """What the daemon has, by the API."""
    return sorted(one["data"]["title"] for one in (await owner.call("GET", "/api/data/tasks"))["items"])
