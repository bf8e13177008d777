"""devices, leave: who belongs to the space; rename, remove, restore; a lost device and what it wrote."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import click

from hybridgw_client.client import path_of
from hybridgw_protocol.errors import NeedsPerson, NotFound

from ..context import App, Command, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import ago_text, clean, count_text, time_text
from ..secrets import confirmed, read_words

Json = dict[str, Any]
SLOW_S: Final = 60.0
_LEAST_BEGINNING: Final = 3  # characters
_AGO: Final = re.compile(r"(\d{1,6})\s*(min|m|h|d|w)\w*(?:\s+ago)?")
_UNITS_S: Final = {"min": 60, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_DATES: Final = ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def devices(ctx: click.Context) -> None:
    """List the devices of the space; rename, remove and restore them.

    `last heard` is when something of a device arrived here last; one that is on and writes nothing is not heard
    through a relay. `to come` is what a device wrote and this one has still to get; `lacks` is what the other one has
    not told to have: exact on a direct link, else as of when it was connected directly or wrote last. For a device that
    is lost or stolen: 'hybridgw devices remove NAME --lost'.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(App))


@devices.command("list", cls=Command)
@json_option
@pass_app
def list_(app: App) -> None:
    """List the devices, as 'hybridgw devices' alone does."""
    _list(app)


@devices.command(cls=Command)
@click.argument("name")
@click.option("--device", metavar="DEVICE", help="Which one: its name or fingerprint; without it this one.")
@json_option
@pass_app
def rename(app: App, name: str, device: str | None) -> None:
    """Call this device NAME, on all devices; or another one with --device."""
    if not name.strip():
        raise click.UsageError("What shall it be called? A name has at least one letter.")
    found = _all(app)
    chosen = _named(app, device, found) if device else next(one for one in found if one["own"])
    renamed: Json = app.client.post(path_of("devices", chosen["id"], "rename"), {"name": name})
    if app.out.as_json:
        app.out.json(renamed)
        return
    app.out.result(f"{clean(chosen['name'], 64)} is called {clean(renamed['name'], 64)} now.")


@devices.command(cls=Command)
@click.argument("device")
@click.option(
    "--lost", is_flag=True, help="It is lost or stolen: for good, with the recovery words, also against a thief."
)
@click.option(
    "--since",
    metavar="WHEN",
    help="With --lost: when you had it last, like '3 h', '2 d' or '2026-11-27 18:00'. What it did and wrote after that "
    "does not count; 'now' keeps all that is known here.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@json_option
@pass_app
def remove(app: App, device: str, lost: bool, since: str | None, yes: bool) -> None:
    """Put a device out: DEVICE is its name or fingerprint. Says first what that will and cannot do.

    Without --lost 'hybridgw devices restore' takes it back. With --lost it is final; the 24 recovery words are asked
    for, or read from stdin.
    """
    if since is not None and not lost:
        raise click.UsageError("--since goes with --lost.")
    chosen = _named(app, device, _all(app))
    if lost:
        _expel(app, chosen, since, yes)
        return
    plan: Json = app.client.get(path_of("devices", chosen["id"], "removal"))
    _show_plan(app, plan)
    _ask(app, f"Remove {clean(chosen['name'], 64)}?", yes)
    change = _do(app, chosen, "remove")
    _changed(app, change, f"{clean(chosen['name'], 64)} is removed.")
    if not app.out.as_json:
        app.out.say(f"To take it back: {app.command('devices restore ' + chosen['fingerprint'])}")


@devices.command(cls=Command)
@click.argument("device")
@click.option("--words", is_flag=True, help="With the recovery words, where another device removed it.")
@json_option
@pass_app
def restore(app: App, device: str, words: bool) -> None:
    """Let a removed device in again: DEVICE is its name or fingerprint."""
    chosen = _named(app, device, _all(app))
    body = {"words": read_words(app)} if words else {}
    change = _do(app, chosen, "restore", body)
    if change["device"]["state"] == "active":
        _changed(app, change, f"{clean(chosen['name'], 64)} belongs to the space again. It connects within a minute.")
    else:
        _changed(app, change, f"That is told, but {clean(chosen['name'], 64)} is still {change['device']['state']}.")
        raise Finished(Exit.NEEDS_PERSON)


@devices.command(cls=Command)
@click.argument("device", required=False)
@click.option("--import", "take", is_flag=True, help="Take what DEVICE wrote, as if this device had written it then.")
@json_option
@pass_app
def quarantine(app: App, device: str | None, take: bool) -> None:
    """Show what lost devices wrote that does not count, or take it after all.

    Also what this device has of one that was put back from a backup and went on without it.
    What is taken keeps its times: where somebody wrote something else meanwhile, that becomes a conflict.
    """
    if take and not device:
        raise click.UsageError("Whose? --import goes with a DEVICE.")
    found: list[Json] = app.client.get("/api/devices/quarantine")["items"]
    if device:
        wanted = _named(app, device, _all(app))
        found = [item for item in found if item["device"]["id"] == wanted["id"]]
        if take:
            taken = _do(app, wanted, "quarantine")
            if app.out.as_json:
                app.out.json(taken)
            else:
                app.out.result(f"{count_text(taken['operations'], 'change')} of {clean(wanted['name'], 64)} taken.")
            return
    if app.out.as_json:
        app.out.json({"items": found, "next_cursor": None})
        return
    if not found:
        app.out.say("Nothing is kept aside.")
        return
    app.out.table(
        [
            [
                item["device"]["name"],
                f"{item['operations']:,}",
                time_text(item["first_ms"]) if item["first_ms"] else "",
                time_text(item["last_ms"]) if item["last_ms"] else "",
                time_text(item["kept_until_ms"]) if item.get("kept_until_ms") else "",
                ", ".join(item["documents"][:3]) + (" ..." if len(item["documents"]) > 3 else ""),
            ]
            for item in found
        ],
        ["device", "changes", "from", "to", "kept until", "documents"],
    )


@devices.command(cls=Command)
@click.argument("device")
@click.option("--since", metavar="WHEN", required=True, help="Like '3 h', '2 d' or '2026-11-27 18:00'.")
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@json_option
@pass_app
def undo(app: App, device: str, since: str, yes: bool) -> None:
    """Let nothing count that a lost DEVICE wrote from a time on; asks for the recovery words.

    For a device that was put out with --lost, when it turns out later that it had flooded the space before.
    """
    chosen = _named(app, device, _all(app))
    since_ms = _when(since)
    _ask(app, f"Let nothing count that {clean(chosen['name'], 64)} wrote since {time_text(since_ms)}?", yes)
    body = {"words": read_words(app), "since_ms": since_ms}
    change = _do(app, chosen, "undo", body)
    _changed(app, change, f"What {clean(chosen['name'], 64)} wrote since then does not count any more.")
    if not app.out.as_json:
        app.out.say(f"It is kept for now: {app.command('devices quarantine')}")


@devices.command(cls=Command)
@click.argument("device")
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@json_option
@pass_app
def settle(app: App, device: str, yes: bool) -> None:
    """End an alarm about a forked log: what this device has of DEVICE counts. Asks for the recovery words.

    A DEVICE whose database was put back or copied signs two batches for one place. It mostly settles that by itself and
    loses nothing; if the alarm stays, settle it on the device that has more of it. If somebody else may have its keys,
    put it out instead: 'hybridgw devices remove DEVICE --lost'.
    """
    chosen = _named(app, device, _all(app))
    _ask(app, f"Let count what this device has of {clean(chosen['name'], 64)}?", yes)
    body = {"words": read_words(app)}
    change = _do(app, chosen, "settle", body)
    _changed(app, change, f"The log of {clean(chosen['name'], 64)} ends where this device has it.")


_PATHS = {"lan": "direct", "relay": "relay", "both": "direct, relay"}


@click.command(cls=Command)
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@json_option
@pass_app
def leave(app: App, yes: bool) -> None:
    """Put this device out of its space.

    What is stored here stays here. It gets nothing new from then on, and what is written here reaches nobody.
    """
    _ask(app, "Leave the space with this device? Your other devices keep everything.", yes)
    change: Json = app.client.post("/api/devices/leave", timeout_s=SLOW_S)
    _changed(app, change, "This device has left. Its data is still here.")
    if not app.out.as_json:
        app.out.say(f"To join again: {app.command('pair CODE')}")


# ---- a lost device ---------------------------------------------------------------------------------------------------
def _expel(app: App, chosen: Json, since: str | None, yes: bool) -> None:
    since_ms = _when(since) if since is not None else None
    plan = _plan_lost(app, chosen, since_ms)
    if since is None and plan["acts"]:
        _show_acts(app, plan)
        if not app.out.is_watched:
            raise NeedsPerson(
                f"{clean(chosen['name'], 64)} has added or removed devices. Say when you had it last, with --since: "
                "what it did after that is undone. '--since now' lets all of it stand."
            )
        answer = click.prompt("When did you have it last (3 h, 2 d, 2026-11-27 18:00, or now)", err=True)
        since_ms = _when(answer)
        plan = _plan_lost(app, chosen, since_ms)
    _show_plan(app, plan)
    _show_acts(app, plan)
    _ask(app, f"Put {clean(chosen['name'], 64)} out for good?", yes)
    body: Json = {"words": read_words(app)} | ({"since_ms": since_ms} if since_ms is not None else {})
    change = _do(app, chosen, "expel", body)
    _changed(app, change, f"{clean(chosen['name'], 64)} is out for good.")
    if not app.out.as_json and plan["voids"]:
        app.out.say(f"What it wrote after that time is kept aside: {app.command('devices quarantine')}")


def _plan_lost(app: App, chosen: Json, since_ms: int | None) -> Json:
    query = {"since_ms": since_ms} if since_ms is not None else {}
    found: Json = app.client.get(path_of("devices", chosen["id"], "removal"), lost=True, **query)
    return found


def _when(text: str) -> int:
    """Unix ms of what a person typed. Raises: UsageError."""
    typed, now_s = " ".join(text.split()).lower(), time.time()
    if typed == "now":
        return int(now_s * 1000)
    if typed == "yesterday":
        typed = "1 d"
    if ago := _AGO.fullmatch(typed):
        return int((now_s - int(ago[1]) * _UNITS_S[ago[2]]) * 1000)
    for form in _DATES:
        try:
            return int(time.mktime(time.strptime(typed.upper(), form)) * 1000)
        except (ValueError, OverflowError):
            continue
    raise click.UsageError(f"{clean(text, 40)!r} is no time: type '3 h', '2 d', '2026-11-27 18:00' or 'now'.")


# ---- showing ---------------------------------------------------------------------------------------------------------
def _list(app: App) -> None:
    found = _all(app)
    if app.out.as_json:
        app.out.json({"items": found, "next_cursor": None})
        return
    now_ms = int(time.time() * 1000)
    app.out.table(
        [
            [
                device["name"] + (" (this one)" if device["own"] else ""),
                device["fingerprint"],
                device.get("platform") or "",
                _state(device),
                "" if device["own"] else _PATHS.get(device["path"], ""),
                "now" if device["own"] else ago_text(device.get("last_seen_ms"), now_ms),
                f"{device['behind']:,}" if device.get("behind") else "",
                f"{device['lacks']:,}" if device.get("lacks") else "",
            ]
            for device in found
        ],
        ["device", "fingerprint", "platform", "state", "path", "last heard", "to come", "lacks"],
    )
    if any(device["quarantined"] for device in found):
        app.out.say(f"Some of what lost devices wrote does not count: {app.command('devices quarantine')}")


def _state(device: Json) -> str:
    by = ", ".join(device.get("removed_by") or ())
    return f"{device['state']} by {by}" if device["state"] == "removed" and by else str(device["state"])


def _show_plan(app: App, plan: Json) -> None:
    if app.out.as_json:
        return
    app.out.say("Will:   " + ";\n        ".join(map(clean, plan["will"])) + ".")
    app.out.say("Cannot: " + ";\n        ".join(map(app.told, plan["cannot"])) + ".")


def _show_acts(app: App, plan: Json) -> None:
    if app.out.as_json:
        return
    for act in plan["acts"]:
        what = f"{act['what']} {clean(act['name'], 64)}, {time_text(act['at_ms'])}"
        app.out.say(f"It {what}: {'undone' if act['undone'] else 'stands'}.")
    for name in plan["comes_back"]:
        app.out.say(f"{clean(name, 64)} belongs again.")
    for name in plan["goes_too"]:
        app.out.say(f"{clean(name, 64)} goes out with it.")


def _ask(app: App, question: str, yes: bool) -> None:
    if yes:
        return
    if app.out.as_json:
        raise click.UsageError("--json does not ask, so it goes with --yes.")
    if not confirmed(app, question):
        app.out.say("Nothing was changed.")
        raise Finished(Exit.NEEDS_PERSON)


def _do(app: App, device: Json, act: str, body: Json | None = None) -> Json:
    """What may take a while: the relays and the other devices are told."""
    change: Json = app.client.post(path_of("devices", device["id"], act), body, timeout_s=SLOW_S)
    return change


def _changed(app: App, change: Json, text: str) -> None:
    if app.out.as_json:
        app.out.json(change)
        return
    app.out.result(text)
    told, waiting = (", ".join(clean(url, 100) for url in change[key]) for key in ("told", "waiting"))
    app.out.say(f"Told: {told or 'nobody yet'}." + (f" Will be told when reached: {waiting}." if waiting else ""))


# ---- finding ---------------------------------------------------------------------------------------------------------
def _all(app: App) -> list[Json]:
    return list(app.client.pages("/api/devices"))


def _named(app: App, typed: str, found: list[Json]) -> Json:
    """The device of a name, fingerprint or id; also of their beginning, if it is the only one. Raises: NotFound."""
    word = typed.strip().casefold()
    names = {device["id"]: (device["id"], device["fingerprint"], device["name"].casefold()) for device in found}
    chosen = [device for device in found if word in names[device["id"]]]
    if not chosen and len(word) >= _LEAST_BEGINNING:
        chosen = [device for device in found if any(name.startswith(word) for name in names[device["id"]])]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        each = ", ".join(f"{clean(d['name'], 64)} {d['fingerprint']} ({d['state']})" for d in chosen)
        raise NotFound(f"Several devices are called so: {each}. Name one by its fingerprint.")
    raise NotFound(f"There is no device {clean(typed, 40)!r}. See what there is: {app.command('devices')}")
