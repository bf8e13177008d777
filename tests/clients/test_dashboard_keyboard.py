"""The dashboard by keyboard alone, with real keys, and what a screen reader is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._browsers import Tab, until
from ._dashboard import CHATTER, HEADING, link_of, needs_chromium, open_at, show, tab_of
from .conftest import Owner
from .test_dashboard import PAGES, ask

# What a person can get to with the Tab key, in the order of the page; of a group of radio buttons, one.
STOPS = """[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
    .filter((one) => one.getClientRects().length > 0 && one.checkVisibility() && !one.disabled &&
        !(one.type === 'radio' && !one.checked && document.querySelector(`input[name="${one.name}"]:checked`)))"""
HAS_FOCUS = """(() => { const one = document.activeElement, box = one.getBoundingClientRect()
    return [window.stops.indexOf(one), getComputedStyle(one).outlineStyle !== 'none' || one.className === 'skip',
        box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
        one.outerHTML.slice(0, 200)] })()"""


async def walk(tab: Tab, start: str) -> list[Any]:
    """Tab through the page from an element on. Returns: what was to be reached and was not, or not as it should be."""
    await tab.run(f"(window.stops = {STOPS}, 1)")
    await tab.run(f"((one) => {{ if (one === document.body) one.tabIndex = -1; one.focus() }})({start})")
    place = f"(one) => one !== {start} && ({start}.compareDocumentPosition(one) & 4) === 4 || {start}.contains(one)"
    wanted = await tab.run(f"window.stops.map((one, n) => ({place})(one) ? n : -1).filter((n) => n >= 0)")
    faults: list[Any] = []
    reached: list[int] = []
    for _ in range(len(wanted) + 5):  # a browser has stops of its own, as parts that scroll
        await tab.press("Tab")
        number, is_marked, is_seen, what = await tab.run(HAS_FOCUS)
        if number >= 0:
            reached.append(number)
            faults += [(what, name) for name, holds in (("no mark", is_marked), ("not in view", is_seen)) if not holds]
        if reached and wanted and reached[-1] == wanted[-1]:
            break
    if [number for number in reached if number in wanted] != wanted:
        faults.append(await tab.run(f"{[n for n in wanted if n not in reached]}.map((n) => window.stops[n].outerHTML)"))
        faults.append((reached, wanted))
    return faults


@needs_chromium
async def test_every_page_is_usable_by_keys_alone(owner: Owner, tmp_path: Path) -> None:
    await owner.call("PUT", "/api/data/notes/evil", {"title": "A note", "size": 3, "done": False})
    await owner.call("PUT", "/api/data/tasks/milk", {"title": "Buy milk"})
    await owner.call("POST", "/api/messages", {"to": "all@here", "type": "note", "body": "Call Ada"})
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner))
        assert await walk(tab, "document.body") == []
        for page in PAGES[1:]:
            await show(tab, page)
            assert await walk(tab, "document.querySelector('h1')") == [], page

        # The first stop leads past the pages' list; a link leads to a page, whose heading then has the focus.
        await show(tab, "devices")
        await tab.run("(document.body.focus(), 1)")
        await tab.press("Tab")
        assert await tab.run("document.activeElement.className") == "skip"
        await tab.press("Enter")
        assert await tab.run("document.activeElement.tagName") == "H1"
        await tab.press("Shift+Tab")
        assert await tab.run("document.activeElement.innerText") == "Sign out"
        await tab.press("Shift+Tab")
        await tab.press("Enter")
        await until(tab, f"{HEADING} === 'Settings' && document.activeElement.tagName === 'H1'")


@needs_chromium
async def test_a_window_keeps_the_focus_and_gives_it_back(owner: Owner, tmp_path: Path) -> None:
    inside = "document.querySelector('dialog[open]').contains(document.activeElement)"
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "start/words")
        await until(tab, "document.querySelector('[data-words-open]') !== null")
        for _ in range(20):
            await tab.press("Tab")
            if await tab.run("document.activeElement.matches('[data-words-open]')"):
                break
        for key in ("Enter", "Space"):
            await tab.press(key)
            await until(tab, "document.querySelector('dialog[open]') !== null")
            assert await tab.run("document.activeElement.tagName") == "H2"  # nothing is one key away
            await tab.press("Tab")
            assert await tab.run("document.activeElement.innerText") == "Not now"
            for step in ("Tab", "Tab", "Tab", "Shift+Tab", "Shift+Tab", "Shift+Tab"):
                await tab.press(step)
                assert await tab.run(inside)
            await tab.press("Escape")
            await until(tab, "document.querySelector('dialog[open]') === null")
            assert await tab.run("document.activeElement.matches('[data-words-open]')")
        await tab.press("Enter")
        await until(tab, "document.querySelector('dialog[open]') !== null")
        await tab.press("Tab")
        await tab.press("Tab")
        await tab.press("Enter")  # the window's content changes, and the focus stays in it
        await until(tab, "document.querySelectorAll('dialog .word-list li').length === 24")
        await tab.press("Tab")
        assert await tab.run(inside)
        await tab.press("Escape")
        await until(tab, "document.querySelector('dialog') === null")
        assert await tab.run("document.activeElement.matches('[data-words-open]')")


@needs_chromium
async def test_what_changes_by_itself_is_said(owner: Owner, tmp_path: Path) -> None:
    said = "document.querySelector('[data-news][role=status]').innerText"
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "settings")
        assert await tab.run(said) == ""
        await ask(owner, "Tasks", ["read:tasks"])
        await until(tab, f"{said} === 'An app asks to be let in.'")
        await ask(owner, "Timer", ["read:tasks"], "https://timer.example.com")
        await until(tab, f"{said} === '2 apps ask to be let in.'")
        # What ticks is for the eye.
        await show(tab, "apps")
        await until(tab, "document.querySelectorAll('[data-code]').length === 2")
        assert await tab.run(CHATTER) == []
        await owner.call("POST", "/api/messages", {"to": "all@here", "type": "note", "body": "Call Ada"})
        await until(tab, f"{said} === 'A message waits.'")
        owner.down()
        await until(tab, f"{said} === 'HybridGW does not answer.'")
