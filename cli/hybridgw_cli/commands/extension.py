"""extension: tells browsers which program to start for the HybridGW extension, and finds out what keeps one from it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import click

from hybridgw_protocol.errors import BadValue, NotFound, NotRunning, StorageUnavailable
from hybridgw_protocol.native import CHROME_IDS, check_id, head_of, length_of

from .. import browsers
from ..browsers import BROWSERS, BY_NAME, Browser, Machine
from ..context import App, Command, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import ago_text, clean

HELLO_S: Final = 10.0
_NAMES: Final = click.Choice([browser.name for browser in BROWSERS])


class Line(NamedTuple):
    """How it is with one browser. help: what to do about it."""

    browser: str
    state: Literal["ok", "warn", "fail"]
    message: str
    help: str = ""


@click.group(cls=Group)
def extension() -> None:
    """Connect the browsers of this machine; check what keeps one from it."""


@extension.command(cls=Command)
@click.option("--browser", "names", type=_NAMES, multiple=True, help="Only this one, also if it is not found here.")
@click.option("--allow", "ids", multiple=True, metavar="ID", help="Also answer an extension with this id.")
@json_option
@pass_app
def install(app: App, names: tuple[str, ...], ids: tuple[str, ...]) -> None:
    """Tell browsers which program to start for the extension.

    All that are found here, unless one is named. Nothing is written for other users of the machine. Run it again after
    another browser was installed, or HybridGW was moved.
    """
    machine = Machine.here()
    for name in ids:
        if not check_id(name):
            raise BadValue(f"{clean(name, 60)!r} is no id of an extension; the browser's page of extensions shows it.")
    chosen = [BY_NAME[name] for name in names] or [one for one in BROWSERS if machine.has(one)]
    if not chosen:
        raise NotFound(f"No browser was found here. Name one: {app.command('extension install --browser firefox')}")
    done: list[dict[str, Any]] = []
    try:
        if ids:
            browsers.allow(app.profile, ids)
        for browser in chosen:
            entry = browsers.entry_of(browser, machine, app.profile)
            browsers.install(entry, app.profile, machine)
            done.append({"browser": browser.name, "manifest": str(entry.manifest), "registry_key": entry.key})
            if not app.out.as_json:
                app.out.result(f"{browser.title} can start HybridGW: {clean(entry.manifest)}")
            if box := machine.sandbox(browser):
                app.out.warn(_boxed(browser, box))
    except OSError as error:
        raise StorageUnavailable(f"A browser could not be told: {error}") from error
    if app.out.as_json:
        app.out.json({"items": done, "next_cursor": None})
        return
    app.out.say(f"Now add the extension to the browser, and click Connect. Check it: {app.command('extension doctor')}")


@extension.command(cls=Command)
@click.option("--browser", "names", type=_NAMES, multiple=True, help="Only this one.")
@json_option
@pass_app
def remove(app: App, names: tuple[str, ...]) -> None:
    """Tell browsers no longer; the extension then finds HybridGW by its port, if at all."""
    machine = Machine.here()
    gone: list[str] = []
    try:
        for browser in [BY_NAME[name] for name in names] or list(BROWSERS):
            if browsers.remove(browsers.entry_of(browser, machine, app.profile)):
                gone.append(browser.name)
    except OSError as error:
        raise StorageUnavailable(f"A browser could not be told: {error}") from error
    if app.out.as_json:
        app.out.json({"removed": gone})
        return
    for name in gone:
        app.out.result(f"{BY_NAME[name].title} cannot start HybridGW any more.")
    if not gone:
        app.out.say("No browser was told how to start HybridGW: there is nothing to take away.")


@extension.command(cls=Command)
@json_option
@pass_app
def doctor(app: App) -> None:
    """Check what browsers are told, and whether the program answers them.

    Exit code 1 if something keeps a browser that is here from HybridGW.
    """
    machine = Machine.here()
    lines = [_about_host(app, machine)]
    lines += [_about(app, browser, machine) for browser in BROWSERS if _concerns(app, browser, machine)]
    if len(lines) == 1:
        lines.append(Line("browsers", "warn", "none was found here", app.command("extension install --browser NAME")))
    lines += _let_in(app)
    if app.out.as_json:
        app.out.json({"ok": all(line.state != "fail" for line in lines), "checks": [one._asdict() for one in lines]})
    else:
        for line in lines:
            colour = {"ok": "green", "warn": "yellow", "fail": "red"}[line.state]
            app.out.result(f"{app.out.paint(line.state.ljust(4), colour)}  {line.browser:<10} {clean(line.message)}")
            if line.help and line.state != "ok":
                app.out.result(f"{'':18}{app.out.paint('helps:', 'dim')} {line.help}")
    if any(line.state == "fail" for line in lines):
        raise Finished(Exit.ERROR)


def _concerns(app: App, browser: Browser, machine: Machine) -> bool:
    return (
        machine.has(browser)
        or machine.sandbox(browser) is not None
        or browsers.entry_of(browser, machine, app.profile).manifest.exists()
    )


def _about(app: App, browser: Browser, machine: Machine) -> Line:
    if box := machine.sandbox(browser):
        return Line(
            browser.name, "warn", _boxed(browser, box), "let the extension use its other way: it asks by itself"
        )
    fault = browsers.fault_of(browsers.entry_of(browser, machine, app.profile), app.profile, machine)
    if fault is None:
        return Line(browser.name, "ok", "can start HybridGW")
    message = "is not told where HybridGW is" if fault == "missing" else fault
    return Line(browser.name, "fail", message, app.command(f"extension install --browser {browser.name}"))


def _let_in(app: App) -> list[Line]:
    """Which extensions use the daemon, and when one did last; nothing while it does not run."""
    try:
        found = [one for one in app.client.pages("/api/auth/grants") if one["kind"] == "extension"]
    except NotRunning:
        return []
    if not found:
        help_ = "add it to the browser and click Connect in its popup"
        return [Line("extension", "warn", "none was ever let in on this machine", help_)]
    now_ms = int(time.time() * 1000)
    waiting = Line("extension", "warn", "one waits to be let in", app.command("apps"))
    return [
        waiting if one["state"] == "pending" else
        Line("extension", "ok", f"let in as {one['origin']}, last used {ago_text(one['last_used_ms'], now_ms)}")
        for one in found
    ]  # fmt: skip


def _boxed(browser: Browser, box: str) -> str:
    return (
        f"{browser.title} is a {box} and may start no program of this machine, so the extension connects over the port "
        f"instead; the {browser.title} of your distribution or of its maker has no such limit."
    )


def _about_host(app: App, machine: Machine) -> Line:
    """Start it as a browser does, and greet it."""
    program = browsers.host_program(app.profile, machine)
    if program is None:
        return Line("program", "fail", f"{browsers.PROGRAM} is not installed", "install HybridGW again")
    if not program.exists():
        return Line("program", "fail", f"{program} is not there", app.command("extension install"))
    try:
        found = _greeted(program)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Line("program", "fail", f"{program} does not answer: {error}", "install HybridGW again")
    if found.get("type") != "host_hello":
        return Line("program", "fail", str(found.get("message", "it answers something else")), "install HybridGW again")
    if found.get("url") is None:
        return Line("program", "warn", f"answers, and says: {app.told(found.get('message', ''))}", app.command("up"))
    return Line("program", "ok", f"answers, and reaches {found['url']}")


def _greeted(program: Path) -> dict[str, Any]:
    hello = json.dumps({"type": "host_hello"}).encode()
    done = subprocess.run(  # noqa: S603 - the program beside this one
        [str(program), f"chrome-extension://{CHROME_IDS[0]}/"], input=head_of(len(hello)) + hello, capture_output=True,
        timeout=HELLO_S, check=False,
    )  # fmt: skip
    if len(done.stdout) < 4:
        raise ValueError("it says nothing")
    size = length_of(done.stdout[:4])
    found = json.loads(done.stdout[4 : 4 + size])
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found
