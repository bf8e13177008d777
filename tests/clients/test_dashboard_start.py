"""The first-run guide, and the whole dashboard by keyboard alone, in real browsers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ._browsers import until
from ._dashboard import BROWSERS, HEADING, click, fill, link_of, open_at, tab_of, tap
from .conftest import Owner
from .test_dashboard import ask
from .test_dashboard_devices import words_on_paper

MAIN = "document.querySelector('main').innerText"


@pytest.mark.spec("F3")
@pytest.mark.parametrize("kind", BROWSERS)
async def test_the_guide_leads_from_a_name_to_a_clean_bill_of_health(owner: Owner, tmp_path: Path, kind: str) -> None:
    async with tab_of(kind, tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner))
        await until(tab, "document.querySelector('main a.button.main')?.innerText === 'Set up, step by step'")
        await tap(tab, "main a.button.main")
        await until(tab, f"{HEADING} === 'Name this device'")
        await fill(tab, "input[name=name]", "thinkpad")
        await click(tab, "Rename")
        await until(tab, "document.querySelector('[data-said]')?.innerText.includes('thinkpad')")
        await tap(tab, "[data-next-step]")
        await until(tab, f"{HEADING} === 'First device, or a further one'")
        await until(tab, "document.querySelector('input[name=where]:checked')?.value === 'first'")
        await tap(tab, "[data-next-step]")
        await until(tab, f"{HEADING} === 'Recovery words'")
        words = await words_on_paper(tab)
        assert len(words) == 24
        assert not await tab.run(f"document.documentElement.outerHTML.includes('{words[0]} {words[1]}')")
        kept = await tab.run("JSON.stringify([{...sessionStorage}, {...localStorage}])")
        assert not [word for word in words if f'"{word}' in kept]
        await tap(tab, "[data-next-step]")
        await until(tab, f"{HEADING} === 'Browser and apps'")
        asked = await ask(owner, "Tasks", ["read:tasks"])
        await until(tab, f"document.querySelector('[data-code]')?.textContent === '{asked['code']}'")
        await click(tab, "Same code: let in for 30 days")
        await until(tab, f"{MAIN}.includes('Let in already')")
        await tap(tab, "[data-next-step]")
        await until(tab, f"{HEADING} === 'A relay'")
        await fill(tab, "input[name=relay]", "no link")
        await click(tab, "Add")
        await until(tab, "document.querySelector('[role=alert]') !== null")
        await tap(tab, "[data-next-step]")
        await until(tab, "document.querySelector('[data-doctor]') !== null", 30)
        report = await tab.run("document.querySelector('.checks').innerText")
        for name in ("HybridGW", "disk", "keys", "recovery words", "relays", "alarms", "log"):
            assert name in report
        assert "lies unprotected in a file" in report  # this daemon's key is, and that is told
        assert await tab.run("document.querySelector('[data-doctor]').dataset.doctor") == "warn"
        await tap(tab, "main > .actions .main")
        await until(tab, f"{HEADING} === 'Home'")
        assert "First steps" not in await tab.run(MAIN)
        assert (await owner.call("GET", "/api/devices"))["items"][0]["name"] == "thinkpad"
        assert [text for text in await tab.problems() if "400" not in text] == []
