"""Two profiles of one machine, a Chromium at the one and a Firefox at the other, in step through a relay."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import DeviceMachine, household

from ._browsers import until
from ._extension import (
    EVERYWHERE,
    MOZ,
    ORIGIN,
    PENDING,
    STATUS,
    TITLES,
    add,
    ask,
    connect,
    extended,
    firefox_popup,
    needs_chromium,
    needs_firefox,
    popup,
    tell_chromium,
    tell_firefox,
)

OPTIONS = "[...document.querySelectorAll('#to option')].map((one) => one.textContent).slice(1).join()"


class Person:
    """Who sits in front of a device."""

    def __init__(self, device: DeviceMachine) -> None:
        self.device = device

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(self.device.get if method == "GET" else self.device.post, path, **(
            {} if method == "GET" else {"body": body}
        ))  # fmt: skip

    async def waiting(self) -> list[dict[str, Any]]:
        found = await self.call("GET", "/api/auth/grants")
        return [grant for grant in found["items"] if grant["state"] == "pending"]


@needs_chromium
@needs_firefox
@pytest.mark.spec("F4")
@pytest.mark.timeout(180)
async def test_spec_F4_two_people_two_browsers_one_relay_and_everything_killed_once(
    packages: Path, tmp_path: Path
) -> None:
    relay, a, b = await asyncio.to_thread(household, tmp_path)
    one, two = tmp_path / "chromium", tmp_path / "firefox"
    one.mkdir()
    two.mkdir()
    tell_chromium(one, a.home)
    tell_firefox(two, b.home)
    try:
        async with extended(one, packages) as browser, firefox_popup(two, packages) as fox:
            tab = await popup(browser)
            await connect(tab, Person(a))
            await connect(fox, Person(b), MOZ)
            await add(tab, "Buy milk")
            began = time.monotonic()
            await until(fox, f"{TITLES} === 'Buy milk'")
            print(f"a task was in the other popup after {(time.monotonic() - began) * 1000:.0f} ms")
            await fox.click("#tasks input")
            await until(tab, f"{TITLES} === ''")
            await until(tab, f"{OPTIONS} === 'planteddeviceb'")
            mark = await tab.run("document.querySelector('#to option:last-child').value.split('@')[1]")
            await ask(tab, do="prefer", change={"device": mark, "theme": "dark"})
            await until(tab, f"document.querySelector('#to').value === '{EVERYWHERE}@{mark}'")
            clicked = {"menuItemId": "page", "pageUrl": "https://example.com/"}
            worker = await browser.worker(ORIGIN)
            await worker.run(
                f"void chrome.contextMenus.onClicked.dispatch({json.dumps(clicked)}, {{ title: 'Example', url: '' }})"
            )
            await fox.click("#tab-inbox")
            await until(fox, "document.querySelector('#inbox a')?.textContent === 'Example'", 30)
            (sent,) = (await Person(a).call("GET", "/api/messages"))["items"]
            assert sent["to"].startswith(f"{EVERYWHERE}@")
            # The choices are the person's: the other machine has them, and on the device itself pieces go to all.
            await until(fox, "document.documentElement.dataset.theme === 'dark'", 30)
            assert await fox.run("document.querySelector('#to').value") == EVERYWHERE
            assert "planteddevicea" in await fox.run("document.querySelector('#inbox .quiet').textContent")

            for machine in (a, b, relay):
                machine.kill()
            await until(tab, f"{STATUS} === 'offline'")
            await until(fox, f"{STATUS} === 'offline'")
            await add(tab, "Call home")
            await until(tab, f"{TITLES} === 'Call home' && {PENDING} === 1")
            back = {"kind": "selection", "url": "", "title": "", "text": "while all was down"}
            await ask(fox, do="send", id=str(uuid.uuid4()), piece=back, to=EVERYWHERE)
            await tab.ask("ServiceWorker.enable", {})
            await tab.ask("ServiceWorker.stopAllWorkers", {})
            for machine in (relay, a, b):
                await asyncio.to_thread(machine.start)
            await until(tab, f"{STATUS} === 'online' && {PENDING} === 0", 30)
            await tab.click("#tab-inbox")
            await until(tab, "document.querySelector('#inbox .said')?.textContent === 'while all was down'", 30)
            await fox.click("#tab-tasks")
            await until(fox, f"{TITLES} === 'Call home'", 30)
            assert await fox.run("document.querySelectorAll('#inbox li').length") == 0
            await fox.click("#tab-inbox")
            assert json.loads(await fox.run("JSON.stringify(document.querySelectorAll('#inbox li').length)")) == 1
    finally:
        for machine in (a, b, relay):
            if machine.process is not None:
                machine.kill()
