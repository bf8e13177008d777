"""Devices, in a real browser beside real daemons: renamed, removed, taken back, lost; the recovery words."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import DeviceMachine, pair
from tests.e2e.machines import until as eventually

from ._browsers import Tab, until
from ._dashboard import click, fill, needs_chromium, open_at, show, tab_of, tap
from .conftest import House

MAIN = "document.querySelector('main').innerText"
DIALOG = "document.querySelector('dialog[open]')"
MINUTE_S = 60


def paired(house: House) -> None:
    """The two belong together, over the relay."""
    with house.a.client() as client:
        eventually(lambda: client.get("/api/devices")["items"])
        client.post("/api/relays", {"link": house.relay.invite()})
    pair(house.a, house.b)
    eventually(lambda: house.a.is_in_step() and house.b.is_in_step())


def device_of(house: House, by: DeviceMachine, own: bool) -> Any:
    """The device of *by* that is, or is not, itself."""
    del house
    return next(one for one in by.get("/api/devices")["items"] if one["own"] is own)


async def words_on_paper(tab: Tab) -> list[str]:
    """Shown, written down, three asked for: one of them wrong at first. Returns: all of them."""
    await click(tab, "Show the words")
    await click(tab, "Nobody looks: show them", "dialog")
    await until(tab, "document.querySelectorAll('dialog .word-list li').length === 24")
    words: list[str] = await tab.run("[...document.querySelectorAll('dialog .word-list li')].map((w) => w.innerText)")
    await click(tab, "They are on paper", "dialog")
    places = await until(tab, "[...document.querySelectorAll('dialog input')].map((one) => Number(one.name.slice(5)))")
    assert len(set(places)) == 3
    assert places == sorted(places)
    for place in places:
        await fill(tab, f"input[name=word-{place}]", "zebra" if place == places[1] else words[place - 1])
    await click(tab, "Check, and erase them here", "dialog")
    await until(tab, f"document.querySelector('dialog [role=alert]')?.innerText.startsWith('Word {places[1]} ')")
    await fill(tab, f"input[name=word-{places[1]}]", words[places[1] - 1].upper()[:4])
    await click(tab, "Check, and erase them here", "dialog")
    await until(tab, f"{MAIN}.includes('on your paper only now')")
    return words


async def say_when(tab: Tab, at_s: float) -> None:
    """Into the field for a time, as its picker gives it."""
    text = time.strftime("%Y-%m-%dT%H:%M", time.localtime(at_s))
    await until(tab, "document.querySelector('input[name=when]') !== null")
    await tab.run(f"""(() => {{ const one = document.querySelector('input[name=when]'); one.value = '{text}';
        one.dispatchEvent(new Event('input', {{bubbles: true}})) }})()""")


@pytest.mark.spec("F3")
@needs_chromium
async def test_a_device_is_renamed_removed_taken_back_and_lost(house: House, tmp_path: Path) -> None:
    await asyncio.to_thread(paired, house)
    a, b = house.a, house.b
    other = device_of(house, a, own=False)
    with a.client() as client:
        client.put("tasks", "mine", {"title": "Before"})
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, house.link(a), f"devices/{other['id']}")

        await fill(tab, "input[name=name]", "Phone <b>")
        await click(tab, "Rename")
        await until(tab, "document.querySelector('[data-said]')?.innerText.includes('Phone <b>')")
        await until(tab, "document.querySelector('h1').innerText === 'Phone <b>'")
        await asyncio.to_thread(eventually, lambda: device_of(house, b, own=True)["name"] == "Phone <b>")

        await click(tab, "Remove it")
        await until(tab, f"{DIALOG}?.innerText.includes('It cannot')")
        assert "make a new key" in await tab.run(f"{DIALOG}.innerText")
        await tab.press("Escape")
        await until(tab, f"{DIALOG} === null")
        assert device_of(house, a, own=False)["state"] == "active"
        await click(tab, "Remove it")
        await click(tab, "Remove it", "dialog")
        await until(tab, "document.querySelector('[data-said]')?.innerText.includes('is removed. Told: ')")
        assert device_of(house, a, own=False)["state"] == "removed"
        await click(tab, "Take it back")
        await click(tab, "Take it back", "dialog")
        await until(tab, "document.querySelector('[data-said]')?.innerText.includes('belongs again')")
        b.stop()
        b.start()  # it asks whether it belongs again at once, instead of within a minute
        await asyncio.to_thread(eventually, b.is_in_step)

        await show(tab, "devices")
        await fill(tab, "input[name=code]", "417-803-265")
        await click(tab, "Join")
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('other devices already')")
        await tap(tab, "main details summary")
        await tap(tab, "input[name=anew]")
        await click(tab, "Join")  # it may come back to them; this code leads nowhere
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('does not say which relay')")
        words = await words_on_paper(tab)
        assert a.get("/api/recovery")["state"] == "confirmed"

        await show(tab, "devices/nonsense")
        await until(tab, f"{MAIN}.includes('There is no such device')")
        await show(tab, f"devices/{other['id']}")
        await tap(tab, "details summary")
        await click(tab, "Let count what is here")
        await fill(tab, "dialog textarea", " ".join(words))
        await click(tab, "Let it count", "dialog")
        await until(tab, "document.querySelector('dialog [role=alert]') !== null")  # its log is not forked
        await click(tab, "Cancel", "dialog")

        with b.client() as client:
            client.put("tasks", "late", {"title": "By a thief, or not"})
        await asyncio.to_thread(eventually, lambda: "late" in a.documents("tasks"))
        await show(tab, f"devices/{other['id']}")
        await click(tab, "It is lost")
        await until(tab, f"{DIALOG}?.innerText.includes('put it out for good')")
        assert await tab.run(f"{DIALOG}.querySelector('[data-sure]').disabled")  # it has not been said when
        await tap(tab, "dialog input[type=radio]")
        await say_when(tab, time.time() - MINUTE_S)
        await until(tab, f"{DIALOG}.innerText.includes('keep 1 aside') || {DIALOG}.innerText.includes('aside, which')")
        await fill(tab, "dialog textarea", "zebra " * 24)
        await click(tab, "Put it out for good", "dialog")
        await until(tab, "document.querySelector('dialog [role=alert]') !== null")  # not these words
        assert device_of(house, a, own=False)["state"] == "active"
        assert await tab.run("getComputedStyle(document.querySelector('dialog textarea')).webkitTextSecurity") == "disc"
        await fill(tab, "dialog textarea", " ".join(words))
        await click(tab, "Put it out for good", "dialog")
        await until(tab, "document.querySelector('[data-said]')?.innerText.includes('is out for good')", 30)
        assert device_of(house, a, own=False)["state"] == "expelled"
        await asyncio.to_thread(eventually, lambda: "late" not in a.documents("tasks"))

        await until(tab, "document.querySelector('[data-kept]')?.innerText.includes('tasks/late')")
        await click(tab, "Take it after all")
        await click(tab, "Take it")
        await asyncio.to_thread(eventually, lambda: "late" in a.documents("tasks"))
        await click(tab, "Let less count")
        await say_when(tab, time.time() - 60 * MINUTE_S)
        await fill(tab, "dialog textarea", " ".join(words))
        await click(tab, "Let it not count", "dialog")
        await until(tab, "document.querySelector('dialog [role=alert], [data-said]') !== null")
        assert [text for text in await tab.problems() if "400" not in text and "409" not in text] == []


@needs_chromium
async def test_words_bring_everything_back_on_a_new_machine_and_it_leaves(house: House, tmp_path: Path) -> None:
    a, b = house.a, house.b
    with a.client() as client:
        eventually(lambda: client.get("/api/devices")["items"])
        relay = client.post("/api/relays", {"link": house.relay.invite()})["url"]
        client.put("tasks", "milk", {"title": "Buy milk"})
        words = client.post("/api/recovery/show", {})["words"]
        eventually(a.is_in_step)
    async with tab_of("chromium", tmp_path / "browser") as tab:
        await open_at(tab, house.link(b), "start/place")
        await tap(tab, "input[name=where][value=words]")
        await fill(tab, "textarea[name=words]", " ".join([*words[:23], "zebra"]))
        await fill(tab, "input[name=relay]", relay)
        await fill(tab, "input[name=name]", "replacement")
        await click(tab, "Bring it back")
        await until(tab, "document.querySelector('[role=alert]') !== null")
        await fill(tab, "textarea[name=words]", " ".join(words))
        await click(tab, "Bring it back")
        await until(tab, f"{MAIN}.includes('This device belongs with 1 other one')", 30)
        await asyncio.to_thread(eventually, lambda: "milk" in b.documents("tasks"))
        own = device_of(house, b, own=True)
        assert own["name"] == "replacement"
        await asyncio.to_thread(eventually, b.is_in_step)

        await show(tab, f"devices/{own['id']}")
        await click(tab, "Leave with this device")
        await click(tab, "Stay", "dialog")
        await click(tab, "Leave with this device")
        await click(tab, "Leave", "dialog")
        await until(tab, "document.querySelector('[data-said]')?.innerText.includes('has left')", 30)
        assert device_of(house, b, own=True)["state"] == "left"
        assert "milk" in b.documents("tasks")
        await show(tab, "")
        await until(tab, f"{MAIN}.includes('Not one of your devices') && {MAIN}.includes('Why:')")
        await asyncio.to_thread(eventually, lambda: device_of(house, a, own=False)["state"] == "left")
        assert [text for text in await tab.problems() if "400" not in text] == []
