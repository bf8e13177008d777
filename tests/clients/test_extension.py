"""The browser extension in real browsers, over the real native messaging host and over its WebSocket.

The popup is opened as a tab: a browser without a screen gives no other hold on it. Every click is one of a mouse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybridgw_cli import browsers
from hybridgw_cli.browsers import BY_NAME, Entry, Machine
from hybridgw_client.profile import find_profile
from hybridgw_protocol.native import CHROME_IDS
from tests import _node

from ._browsers import CHROMIUM, Chromium, Tab, chromium, until
from .conftest import Owner

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")

ORIGIN = f"chrome-extension://{CHROME_IDS[0]}"
STATUS = "document.querySelector('#status')?.dataset.status"
WAY = "document.querySelector('#status')?.dataset.way"
TITLES = "[...document.querySelectorAll('#tasks .said')].map((one) => one.textContent).join()"
PENDING = "document.querySelectorAll('#tasks .pending').length"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make extension` makes."""
    return _node.extension(tmp_path_factory.getbasetemp())


def tell_chromium(folder: Path, home: Path) -> None:
    """As `hybridgw extension install` does, for a browser whose folder is another one."""
    profile, machine = find_profile(home), Machine.here()
    place = folder / "NativeMessagingHosts" / browsers.MANIFEST
    browsers.install(Entry(BY_NAME["chromium"], place), profile, machine)


@asynccontextmanager
async def extended(folder: Path, packages: Path) -> AsyncIterator[Chromium]:
    """A Chromium that has the extension."""
    place = packages / "chrome"
    async with chromium(folder, f"--load-extension={place}", f"--disable-extensions-except={place}") as browser:
        yield browser


async def popup(browser: Chromium) -> Tab:
    """The popup, in a tab of its own."""
    tab = await browser.tab()
    await tab.resize(380, 600)
    await tab.goto(f"{ORIGIN}/popup.html")
    return tab


async def connect(tab: Tab, owner: Owner, origin: str = ORIGIN) -> str:
    """Click, compare the six digits, approve. Returns the id of the grant."""
    await until(tab, f"{STATUS} === 'unapproved'")
    await tab.click("section button.main")
    code = await until(tab, "document.querySelector('#code')?.textContent")
    (asked,) = await owner.waiting()
    assert (asked["code"], asked["origin"], asked["kind"]) == (code, origin, "extension")
    await owner.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": code, "lasts": "until_revoked"})
    await until(tab, f"{STATUS} === 'online'")
    return str(asked["id"])


async def add(tab: Tab, title: str) -> None:
    """Type a task into the popup."""
    await tab.click("#add input")
    await tab.type(title)
    await tab.click("#add button")


async def titles(owner: Owner) -> list[str]:
    """What the daemon has, by the API."""
    return sorted(one["data"]["title"] for one in (await owner.call("GET", "/api/data/tasks"))["items"])


@needs_chromium
@pytest.mark.spec("F4")
async def test_spec_F4_in_chromium_over_the_native_host(owner: Owner, packages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "browser"
    folder.mkdir()
    tell_chromium(folder, owner.home)
    async with extended(folder, packages) as browser:
        tab = await popup(browser)
        await connect(tab, owner)
        assert await tab.run(WAY) == "native"
        await add(tab, "Buy milk")
        await until(tab, f"{TITLES} === 'Buy milk' && {PENDING} === 0")
        assert await titles(owner) == ["Buy milk"]

        owner.down()
        await until(tab, f"{STATUS} === 'offline'")
        await add(tab, "Call home")
        await until(tab, f"{TITLES} === 'Call home,Buy milk' && {PENDING} === 1")
        owner.up()
        await until(tab, f"{STATUS} === 'online' && {PENDING} === 0")
        assert await titles(owner) == ["Buy milk", "Call home"]
