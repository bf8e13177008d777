"""What the tests of the dashboard share: a tab that is signed in, and what a person does in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

from ._browsers import CHROMIUM, FIREFOX, ChromiumTab, Tab, chromium, firefox, until
from .conftest import Owner

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
needs_firefox = pytest.mark.skipif(FIREFOX is None, reason="needs the Debian package firefox-esr")
BROWSERS = [pytest.param("chromium", marks=needs_chromium), pytest.param("firefox", marks=needs_firefox)]

PICTURES = ROOT / "test-artifacts" / "dashboard"
DOC_PICTURES = ROOT / "docs" / "assets" / "dashboard"


@asynccontextmanager
async def tab_of(kind: str, folder: Path, **more: Any) -> AsyncIterator[Tab]:
    """A tab of a browser that begins with nothing."""
    folder.mkdir()
    if kind == "firefox":
        async with firefox(folder, **more) as tab:
            await tab.resize(1440, 900)
            yield tab
    else:
        async with chromium(folder) as browser:
            tab = await browser.tab()
            await tab.resize(1440, 900)
            yield tab


async def link_of(owner: Owner) -> str:
    """As `hybridgw dashboard` makes it."""
    found = await owner.call("POST", "/api/auth/dashboard/links", {})
    return f"{owner.url}{found['path']}"


HEADING = "document.querySelector('h1')?.innerText"
# What a screen reader would read out within a while, though nobody did anything: texts that change in a live region.
CHATTER = """new Promise((done) => {
    const said = []
    const watch = new MutationObserver((changes) => {
        for (const { target, type } of changes) {
            const place = (target.parentElement ?? target).closest('[aria-live], [role=status], [role=alert]')
            if (type === 'characterData' && place !== null && place.ariaLive !== 'off') said.push(target.data)
        }
    })
    watch.observe(document.querySelector('main'), { characterData: true, childList: true, subtree: true })
    setTimeout(() => (watch.disconnect(), done(said)), 2_500)
})"""


async def open_at(tab: Tab, url: str, page: str = "") -> None:
    """Sign in with a link and go to a page."""
    await goto(tab, url)
    await until(tab, f"{HEADING} === 'Home'")
    await show(tab, page)


async def goto(tab: Tab, url: str) -> None:
    """A link's address changes while it loads, so what is waited for is the page."""
    await tab.goto("about:blank")
    if isinstance(tab, ChromiumTab):
        await tab.ask("Page.navigate", {"url": url})
    else:
        await tab.goto(url)
    await until(tab, f"document.readyState === 'complete' && {HEADING} !== undefined")


async def show(tab: Tab, page: str) -> None:
    """Go to a page of the dashboard and wait until it has what it asks for."""
    await tab.run(f"(location.hash = {json.dumps('#/' + page)}, 1)")
    await asyncio.sleep(0.05)
    await until(tab, "!/Loading …|Checking …/.test(document.querySelector('main').innerText)", 30)


async def fill(tab: Tab, selector: str, text: str) -> None:
    """Type into a field, instead of what stands in it; the page may still be moving."""
    place = f"document.querySelector({json.dumps(selector)})"
    await until(tab, f"{place} !== null")
    for _ in range(50):
        await tab.run(f"({place}.scrollIntoView({{block: 'center'}}), 1)")
        await tab.click(selector)
        if await tab.run(f"document.activeElement === {place}"):
            break
        await asyncio.sleep(0.05)
    await tab.run(f"({place}.select(), 1)")
    await tab.type(text)


async def click(tab: Tab, words: str, inside: str = "main") -> None:
    """Click the button with these words, once it may be."""
    found = f"[...document.querySelectorAll('{inside} button')].find((one) => one.innerText === {json.dumps(words)})"
    await _hit(tab, found, "one !== undefined && !one.disabled && one.ariaBusy !== 'true'")


async def tap(tab: Tab, selector: str) -> None:
    """Click what may stand outside of the window."""
    await _hit(tab, f"document.querySelector({json.dumps(selector)})", "one !== null")


async def _hit(tab: Tab, found: str, may: str) -> None:
    """Click an element. The page may move between the look at its place and the click, which then is none of it: again.

    Args: found: an expression that finds it as it is then; may: whether *one* can be clicked.
    """
    for _ in range(20):
        await until(tab, f"((one) => {may})({found})")
        is_there = await tab.run(f"""((one) => {{
            if (!({may})) return false
            one.dataset.next = ''
            one.scrollIntoView({{block: 'center'}})
            window.isHit = false
            one.addEventListener('click', () => {{ window.isHit = true }}, {{once: true, capture: true}})
            return true
        }})({found})""")
        if not is_there:  # it went meanwhile
            continue
        await tab.click("[data-next]")
        for _ in range(25):
            if is_hit := await tab.run("window.isHit"):
                break
            await asyncio.sleep(0.02)
        await tab.run("(document.querySelector('[data-next]')?.removeAttribute('data-next'), 1)")
        if is_hit:
            return
    raise AssertionError(f"not to be clicked: {found}")
