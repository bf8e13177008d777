"""Messages and charts of the dashboard, in real browsers beside real daemons."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.machines import until as eventually

from ._browsers import until
from ._dashboard import BROWSERS, click, fill, link_of, needs_chromium, open_at, show, tab_of, tap
from .conftest import House, Owner
from .test_dashboard_devices import paired

MAIN = "document.querySelector('main').innerText"
# A daemon that needs longer for one command than the page waits before it asks again, as the page sees it.
SLOW = """(() => { const send = WebSocket.prototype.send
    WebSocket.prototype.send = function (text) {
        setTimeout(() => send.call(this, text), JSON.parse(text).command === 'analytics.connections' ? 2_500 : 0)
    } })()"""


@pytest.mark.spec("M1")
@needs_chromium
async def test_a_note_is_sent_dealt_with_lost_and_sent_again(house: House, tmp_path: Path) -> None:
    await asyncio.to_thread(paired, house)
    a, b = house.a, house.b
    async with tab_of("chromium", tmp_path / "one") as first, tab_of("chromium", tmp_path / "two") as second:
        await open_at(first, house.link(a), "messages")
        await open_at(second, house.link(b))
        await fill(first, "input[name=text]", "Call <b>Ada</b>")
        await click(first, "Send")
        await until(first, "document.querySelector('[data-sent=delivered]') !== null", 20)
        await until(second, "document.querySelector('.card.warn')?.innerText.includes('1 message')")
        await until(second, "document.querySelector('nav a[href=\"#/messages\"] .count')?.innerText.startsWith('1')")
        await show(second, "messages")
        await until(second, f"{MAIN}.includes('Call <b>Ada</b>')")
        await tap(second, "tbody a[href^='#/messages/']")
        await until(second, "document.querySelector('pre.body')?.innerText === 'Call <b>Ada</b>'")
        await click(second, "Done with it")
        await until(second, "document.querySelector('[data-said]')?.innerText.includes('Dealt with')")
        await until(first, "document.querySelector('[data-sent=handled]') !== null", 20)
        await until(second, "document.querySelector('nav a[href=\"#/messages\"] .count') === null")
        await click(second, "Forget it")
        await click(second, "Forget it", ".sure")
        await until(second, f"{MAIN}.includes('None.')")

        await show(second, "messages/nonsense")
        await until(second, "document.querySelector('main [role=alert]') !== null")

        await first.run("(document.querySelector('main details').open = true, 1)")
        await click(first, "Where would it go?")
        await until(first, "document.querySelector('[data-route]')?.innerText.includes('you named it')")
        await fill(first, "input[name=hours]", "0.001")
        b.stop()
        await fill(first, "input[name=text]", "Too late")
        await click(first, "Send")
        await until(first, "document.querySelector('[data-sent=expired]') !== null", 20)
        await first.run("""(() => { const one = document.querySelector('select[name=box]'); one.value = 'dead';
            one.dispatchEvent(new Event('change', {bubbles: true})) })()""")
        await until(first, "document.querySelector('table')?.querySelectorAll('tbody tr').length === 1")
        await tap(first, "tbody a[href^='#/messages/']")
        before = await until(first, "location.hash.length > 15 && location.hash")
        await click(first, "Send it again")
        await until(
            first, f"location.hash !== '{before}' && document.querySelector('pre.body')?.innerText === 'Too late'"
        )
        await until(first, "document.querySelector('[data-said]')?.innerText.startsWith('Sent again')")
        assert a.get("/api/messages", box="dead")["items"] == []
        b.start()
        await asyncio.to_thread(eventually, lambda: b.get("/api/messages/notifications")["waiting"] == 1)
        for tab in (first, second):
            assert [
                text for text in await tab.problems() if not any(part in text for part in ("WebSocket", "404", "400"))
            ] == []


@pytest.mark.parametrize("kind", BROWSERS)
async def test_charts_are_fetched_when_they_are_wanted(owner: Owner, tmp_path: Path, kind: str) -> None:
    async with tab_of(kind, tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "health")
        assert not [url for url in await tab.asked() if "charts" in url]
        await show(tab, "traffic")
        await until(tab, "document.querySelectorAll('.chart canvas').length === 5")
        assert [url for url in await tab.asked() if url.endswith("/assets/charts.js")]
        # Lines are drawn once there are two samples.
        drawn = "document.querySelector('.chart canvas').toDataURL().length"
        before = await tab.run(drawn)
        await until(tab, "document.querySelector('[data-now=\"Programs of this computer in\"]').innerText !== '–'")
        await until(tab, f"{drawn} > {before}")
        assert "now" in await tab.run("document.querySelector('.chart').getAttribute('aria-label')")
        await show(tab, "")
        await show(tab, "traffic")
        await until(tab, "document.querySelectorAll('.chart canvas').length === 5")
        if kind == "chromium":
            await tab.run(SLOW)
            await show(tab, "connections")
            await until(tab, "document.querySelector('main').innerText.includes('Connected now')", 30)
        assert await tab.problems() == []


# Least rows that the page has had since then, however short the time.
LEAST = """(() => { const rows = () => document.querySelectorAll('tbody tr').length
    window.least = rows()
    new MutationObserver(() => { window.least = Math.min(window.least, rows()) })
        .observe(document.querySelector('main'), { childList: true, subtree: true }) })()"""


@needs_chromium
async def test_what_is_shown_stays_while_more_of_it_is_asked_for(owner: Owner, tmp_path: Path) -> None:
    for n in range(60):
        await owner.call("POST", "/api/messages", {"to": "client:notes@here", "type": "note", "body": f"Note {n}"})
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, await link_of(owner), "messages")
        await until(tab, "document.querySelectorAll('tbody tr').length === 50")
        await tab.run(LEAST)
        await click(tab, "Show more")
        await until(tab, "document.querySelectorAll('tbody tr').length === 60")
        assert await tab.run("window.least") == 50
        await until(tab, "document.activeElement?.innerText === 'Sent and received'")  # the button is gone
