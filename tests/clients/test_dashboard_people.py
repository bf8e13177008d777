"""Other people and the rules for messages in the dashboard, in real browsers beside real daemons and a relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import DeviceMachine
from tests.e2e.machines import until as eventually

from ._browsers import ChromiumTab, Tab, until
from ._dashboard import (
    DOC_PICTURES,
    HEADING,
    PICTURES,
    click,
    fill,
    link_of,
    needs_chromium,
    open_at,
    show,
    tab_of,
    tap,
)
from .conftest import House, Owner
from .test_dashboard import EVIL, Looks, axe_of, rounds

MAIN = "document.querySelector('main').innerText"
SAID = "document.querySelector('[data-said]')?.innerText"
NUMBER = "document.querySelector('[data-number]')?.textContent"
DOCUMENTED = "person"


async def shown_number(tab: Tab) -> str:
    """The safety number on a page."""
    return str(await until(tab, f"{NUMBER}?.length === 71 && {NUMBER}"))


async def is_ready(machine: DeviceMachine) -> None:
    """Its keys are open."""
    await asyncio.to_thread(eventually, lambda: machine.get("/api/devices")["items"])


@pytest.mark.spec("R6")
@pytest.mark.timeout(120)
@needs_chromium
async def test_two_people_meet_compare_write_and_part(house: House, built: Path, tmp_path: Path) -> None:
    """On the way each page is looked at: nothing serious for axe, nothing wider than the window, in both themes."""
    a, b, other = house.a, house.b, DeviceMachine(tmp_path / "house", "c")
    other.start()
    try:
        for machine in (a, b, other):
            await is_ready(machine)
            await asyncio.to_thread(machine.post, "/api/relays", {"link": house.relay.invite()})
        async with tab_of("chromium", tmp_path / "one") as ada, tab_of("chromium", tmp_path / "two") as bob:
            await open_at(ada, house.link(a), "people")
            await open_at(bob, house.link(b), "people")
            looks = await looking(ada, built)
            assert isinstance(ada, ChromiumTab)
            await meet(ada, bob, looks)
            await compare(ada, bob, looks)
            await talk(ada, bob, looks)
            await begin_anew(ada, other, looks)
            await part(ada, bob)
            for tab in (ada, bob):
                assert [text for text in await tab.problems() if "400" not in text and "409" not in text] == []
    finally:
        other.kill()
    if os.environ.get("HYBRIDGW_DOC_PICTURES"):  # make pictures
        shutil.copyfile(PICTURES / f"{DOCUMENTED}-1440-light.png", DOC_PICTURES / f"{DOCUMENTED}.png")


async def looking(tab: Tab, built: Path) -> Looks:
    """Axe is there, and a folder for pictures."""
    assert isinstance(tab, ChromiumTab)
    PICTURES.mkdir(parents=True, exist_ok=True)
    await tab.run(axe_of(built))
    return Looks(tab)


async def look(looks: Looks, name: str, only: int | None = None) -> None:
    """In each theme and width. Args: only: in this one of them, unless pictures are made; the other one is a page
    of the same parts."""
    tab = looks.tab
    for scheme, width in rounds() if only is None or len(rounds()) > 2 else [rounds()[only]]:
        await tab.prefer(scheme)
        await tab.resize(width, 900)
        await looks.look(f"{name}-{width}-{scheme}")
    await tab.prefer("light")
    await tab.resize(1440, 900)
    assert not looks.faults, "\n".join(looks.faults)


async def settled(tab: Tab) -> None:
    """Nothing on the page is waited for, so that nothing moves."""
    await until(tab, f"!{MAIN}.includes('Loading …')", 30)


async def meet(ada: ChromiumTab, bob: Tab, looks: Looks) -> None:
    """Bob gives his address away, Ada asks, Bob says yes."""
    await until(bob, f"{MAIN}.includes('Nobody can find you now')")
    await fill(bob, "input[name=own-name]", "Bob")
    await click(bob, "Let others find me")
    address = await until(bob, "document.querySelector('[data-address]')?.textContent")
    assert await bob.run("document.querySelector('svg.qr path').getAttribute('d').length") > 1_000

    await fill(ada, "input[name=address]", "no address")
    await fill(ada, "input[name=name]", "Bob from the choir")
    await fill(ada, "input[name=note]", "It is <b>Ada</b>")
    await click(ada, "Ask them")
    await until(ada, "document.querySelector('main [role=alert]') !== null")
    await fill(ada, "input[name=address]", address)
    await click(ada, "Ask them")
    await until(ada, f"{HEADING} === 'Bob from the choir'", 30)
    await until(ada, f"{MAIN}.includes('has not agreed yet')")

    await until(bob, "document.querySelector('[data-request]') !== null", 30)
    await until(bob, "document.querySelector('nav a[href=\"#/people\"] .count')?.innerText.startsWith('1')")
    asked = await bob.run("document.querySelector('[data-request]').innerText")
    assert "It is <b>Ada</b>" in asked
    assert "Nobody has checked who this is" in asked
    await show(bob, "")
    await until(bob, "document.querySelector('.card.warn')?.innerText.includes('1 person asks to be your contact')")
    await show(bob, "people")
    await fill(bob, "input[name=call]", "Ada")
    await click(bob, "Accept")
    await until(bob, f"{HEADING} === 'Ada'")
    await until(ada, "document.querySelector('main .badge.warn')?.innerText === 'not compared yet'", 30)
    await looks_at_the_list(ada, looks)


async def looks_at_the_list(ada: ChromiumTab, looks: Looks) -> None:
    """And back to the one contact."""
    await show(ada, "people")
    await until(ada, "document.querySelector('[data-address]') !== null")
    await look(looks, "people-known", only=1)
    await tap(ada, "[data-contact] a")
    await until(ada, f"{HEADING}.startsWith('Bob')")


async def compare(ada: ChromiumTab, bob: Tab, looks: Looks) -> None:
    """The same 60 digits on both sides; another number is said to be one."""
    number = await shown_number(ada)
    assert await shown_number(bob) == number
    await look(looks, "person")
    await click(ada, "They differ")
    await until(ada, "document.querySelector('[data-odd]')?.innerText.includes('tell this contact nothing')")
    await tap(ada, "main details summary")
    await fill(ada, "input[name=number]", number[:-1] + ("1" if number[-1] == "0" else "0"))
    await click(ada, "Compare")
    await until(ada, "[...document.querySelectorAll('main [role=alert]')].some((one) =>"
                " one.innerText.includes('not the number'))")  # fmt: skip
    await fill(ada, "input[name=number]", number)
    await click(ada, "Compare")
    await until(ada, f"{SAID}?.includes('the same on both sides')")
    await until(ada, "document.querySelector('main .badge.good')?.innerText === 'compared'")
    await click(bob, "Both numbers are the same")
    await until(bob, f"{SAID}?.includes('the same on both sides')")


async def talk(ada: ChromiumTab, bob: Tab, looks: Looks) -> None:
    """A note there, what became of it here."""
    await fill(ada, "input[name=text]", "Rehearsal <s>is</s> at seven")
    await click(ada, "Send")
    await until(bob, f"{MAIN}.includes('Rehearsal <s>is</s> at seven')", 30)
    await until(ada, "document.querySelector('[data-message] .badge')?.innerText === 'arrived'", 30)
    await look(looks, "person-compared", only=1)
    await tap(bob, "[data-message] a")
    await click(bob, "Done with it")
    await until(ada, "document.querySelector('[data-message] .badge')?.innerText === 'dealt with'", 30)
    await show(ada, "messages")
    await until(ada, "[...document.querySelectorAll('tbody strong')].some((one) => one.innerText.startsWith('Bob'))")
    await until(ada, "[...document.querySelector('select[name=to]').options].some((one) => one.text.startsWith('Bob'))")


async def begin_anew(ada: ChromiumTab, other: DeviceMachine, looks: Looks) -> None:
    """Somebody with another key is said to be Bob: nothing goes either way until that was looked at."""
    own: Any = await asyncio.to_thread(other.post, "/api/contacts/address", {"name": "Bob"})
    await show(ada, "people")
    await fill(ada, "input[name=address]", own["address"])
    await fill(ada, "input[name=name]", "Bob from the choir")
    await until(ada, f"{MAIN}.includes('this says that they began anew')")
    await click(ada, "They began anew: take this address")
    await until(ada, f"{MAIN}.includes('has another key than before')", 30)
    assert "Ask them by another way" in await ada.run(MAIN)
    assert await ada.run("document.querySelector('input[name=text]') === null")  # nothing can be written
    await until(ada, "document.querySelector('nav a[href=\"#/people\"] .count')?.innerText.startsWith('1')")
    await show(ada, "")
    await until(ada, "document.querySelector('.card.warn')?.innerText.includes('has another key than before')")
    await tap(ada, ".card.warn a")
    await until(ada, "document.querySelector('[data-same]')?.disabled")
    await shown_number(ada)
    await look(looks, "person-changed", only=0)
    await ada.run("(document.querySelector('input[name=asked]').click(), 1)")
    await click(ada, "Both numbers are the same")
    await until(ada, f"{SAID}?.includes('the same on both sides')")
    await until(ada, "document.querySelector('nav a[href=\"#/people\"] .count') === null")


async def part(ada: Tab, bob: Tab) -> None:
    """A block, its end, and nobody any more."""
    await show(bob, "people")
    await tap(bob, "[data-contact] a")
    await until(bob, "document.querySelector('[data-message]') !== null", 30)
    await settled(bob)
    await click(bob, "Block")
    await click(bob, "Block", ".sure")
    await until(bob, f"{MAIN}.includes('is blocked: you hear nothing of them')")
    assert await bob.run("document.querySelector('input[name=text]') === null")
    await click(bob, "End the block")
    await until(bob, f"{SAID}?.includes('not blocked any more')")
    await fill(bob, "input[name=rename]", "no@name")
    await click(bob, "Rename")
    await until(bob, "document.querySelector('main [role=alert]')?.innerText.includes('printable characters')")
    await fill(bob, "input[name=rename]", "Ada from the choir")
    await click(bob, "Rename")
    await until(bob, f"{HEADING} === 'Ada from the choir' && {SAID}.includes('on all your devices')")
    await show(bob, "people")
    await click(bob, "Take the address back")
    await click(bob, "Take it back", ".sure")
    await until(bob, f"{SAID}?.includes('Nobody finds you any more')")
    await until(bob, f"{MAIN}.includes('Nobody can find you now')")
    await until(bob, f"{MAIN}.includes('Ada from the choir')")  # contacts stay
    await click(bob, "Let others find me")
    await until(bob, f"document.querySelector('[data-address]') !== null && {SAID} === undefined")
    await settled(ada)
    await click(ada, "Remove")
    await click(ada, "Remove", ".sure")
    await until(ada, f"{HEADING} === 'People' && {MAIN}.includes('None yet.')")


@needs_chromium
async def test_sec_L19_names_and_notes_of_strangers_are_text(built: Path, tmp_path: Path) -> None:
    """What a program that is not ours may send: markup, marks that turn text round, 4 KB, a known name."""
    owner = Owner(tmp_path / "home")
    owner.up()
    try:
        await ask_and_answer(owner, built, tmp_path)
    finally:
        owner.down()


async def ask_and_answer(owner: Owner, built: Path, folder: Path) -> None:
    """Requests as a relay brings them, straight into the database of a daemon that is down."""
    owner.down()
    now_ms = int(time.time() * 1000)
    rows = [(bytes([n]) * 16, bytes([n]) * 32, name, EVIL[:4_000], "https://relay.example.com", now_ms - n)
            for n, name in enumerate(("\u202e" + EVIL[:60], EVIL, "<b>Ada</b>", ""), 1)]  # fmt: skip
    with contextlib.closing(sqlite3.connect(owner.home / "hybridgw.db")) as database, database:
        database.executemany("INSERT INTO contact_request VALUES(?, ?, ?, ?, ?, ?)", rows)
    owner.up()
    async with tab_of("chromium", folder / "browser") as tab:
        await open_at(tab, await link_of(owner))
        await show(tab, "people")
        await until(tab, "document.querySelectorAll('[data-request]').length === 4")
        for width in (1440, 360):
            await tab.resize(width, 900)
            await nothing_is_markup(tab)
        await look(await looking(tab, built), "people-asking", only=1)
        names = await tab.run("[...document.querySelectorAll('input[name=call]')].map((one) => one.value)")
        assert names == ["", "", "<b>Ada</b>", ""]  # what looks like another name is not taken over
        await tab.run("(document.querySelectorAll('[data-request]')[2].querySelector('[type=submit]').click(), 1)")
        await until(tab, f"{HEADING} === '<b>Ada</b>'")
        await until(tab, f"{MAIN}.includes('nobody sits') || {NUMBER}?.length === 71")
        await nothing_is_markup(tab)
        await show(tab, "people")
        await click(tab, "Refuse and block")
        await click(tab, "Refuse and block", ".sure")
        await until(tab, "document.querySelectorAll('[data-request]').length === 2")
        await until(tab, f"{SAID}?.includes('they are not told')")
        await nothing_is_markup(tab)
        await show(tab, "people/nonsense")
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('no contact')")
        await show(tab, "people/" + "x" * 4_000)
        await until(tab, "document.querySelector('main [role=alert]') !== null")
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth")


async def nothing_is_markup(tab: Tab) -> None:
    """Nor wider than the window, nor turned round."""
    assert await tab.run("window.owned === undefined")
    assert await tab.run("document.querySelectorAll('main img, main script, main b').length") == 0
    assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert not {"\u202e", "\u2066"} & set(await tab.run(f"{MAIN} + document.title"))


@pytest.mark.spec("R2")
@needs_chromium
async def test_rules_are_made_ordered_asked_and_removed(built: Path, tmp_path: Path) -> None:
    owner = Owner(tmp_path / "home")
    owner.home.mkdir()
    (owner.home / "config.toml").write_text('message_rules = ["alarm.*=all+"]\n')
    owner.up()
    try:
        await rule(owner, built, tmp_path)
    finally:
        owner.down()


async def rules_of(owner: Owner) -> list[tuple[str, list[str], bool]]:
    """Those that are not of the configuration."""
    found = (await owner.call("GET", "/api/messages/rules"))["items"]
    return [(one["type"], one["to"], one["go_on"]) for one in found if not one["fixed"]]


async def rule(owner: Owner, built: Path, folder: Path) -> None:
    rows = "[...document.querySelectorAll('tbody tr')].map((one) => one.querySelector('code').innerText).join()"
    async with tab_of("chromium", folder / "browser") as tab:
        await open_at(tab, await link_of(owner), "messages")
        await tap(tab, "main a[href='#/messages/rules']")
        await until(tab, f"{rows} === 'alarm.*'")
        assert "from the configuration" in await tab.run(MAIN)
        assert await tab.run("document.querySelectorAll('tbody button').length") == 0
        for kind, to in (("*", "all@here"), ("tab.*", "client:tabs@here, app:Tabs")):
            await click(tab, "Add a rule")
            await fill(tab, "input[name=rule-type]", kind)
            await fill(tab, "input[name=rule-to]", to)
            await click(tab, "Add it, as the last one")
            await until(tab, f"{rows}.endsWith('{kind}')")
        assert await rules_of(owner) == [("*", ["all@here"], False), ("tab.*", ["client:tabs@here", "app:Tabs"], False)]

        await fill(tab, "input[name=ask-type]", "tab.open")
        await click(tab, "Ask")
        await until(tab, "document.querySelector('[data-route]')?.innerText.includes('rule 1')")
        await tab.run("(document.querySelectorAll('tbody tr')[1].querySelectorAll('button')[0].click(), 1)")  # later
        await until(tab, f"{rows} === 'alarm.*,tab.*,*'")
        await click(tab, "Ask")
        await until(tab, "document.querySelector('[data-route]')?.innerText.includes('rule 2')")
        assert "program tabs" in await tab.run("document.querySelector('[data-route]').innerText")
        await look(await looking(tab, built), "messages-rules-some", only=1)
        await fill(tab, "input[name=ask-to]", "person:Nobody")
        await click(tab, "Ask")
        await until(tab, "document.querySelector('[data-route]')?.innerText.includes('no contact')")

        await click(tab, "Add a rule")
        await fill(tab, "input[name=rule-type]", "no type!")
        await fill(tab, "input[name=rule-to]", "all")
        await click(tab, "Add it, as the last one")
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('no type of messages')")
        # Another program is quicker: nothing of it is lost unseen.
        await owner.call("PUT", "/api/messages/rules", {"rules": [{"name": "x", "type": "x", "to": ["all"]}]})
        await fill(tab, "input[name=rule-type]", "late")
        await click(tab, "Add it, as the last one")
        await until(tab, "document.querySelector('main [role=alert]')?.innerText.includes('the rules meanwhile')")
        assert await rules_of(owner) == [("x", ["all"], False)]
        await until(tab, f"{rows} === 'alarm.*,x'")
        await click(tab, "Cancel")
        await click(tab, "Remove")
        await click(tab, "Remove", ".sure")
        await until(tab, f"{rows} === 'alarm.*'")
        assert await rules_of(owner) == []
        assert [text for text in await tab.problems() if "400" not in text] == []
