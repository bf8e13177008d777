"""recovery, recover: the 24 words from which everything comes back."""

from __future__ import annotations

from typing import Any

import click

from ..context import App, Command, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import clean, count_text, time_text
from ..secrets import confirmed, read_words

Json = dict[str, Any]
_PER_LINE = 6


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def recovery(ctx: click.Context) -> None:
    """Say where the recovery words are; show them, or confirm that you have them.

    The 24 words bring everything back on a new machine, and put a lost device out for good.
    """
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.ensure_object(App)
    found: Json = app.client.get("/api/recovery")
    if app.out.as_json:
        app.out.json(found)
        return
    if found["state"] == "here":
        app.out.result("This device can still show the recovery words, and so can who steals it unlocked.")
        app.out.say(f"Write them down: {app.command('recovery show')}, then {app.command('recovery confirm')}")
    elif found["state"] == "confirmed":
        app.out.result(
            f"You confirmed on {time_text(found['confirmed_ms'])} that you have the words; they are gone here."
        )
    else:
        app.out.result("The recovery words were never on this device. The first device of the space showed them.")


@recovery.command(cls=Command)
@click.option("--yes", is_flag=True, help="Do not ask whether somebody is looking.")
@json_option
@pass_app
def show(app: App, yes: bool) -> None:
    """Show the 24 words, to be written on paper."""
    if not yes:
        if app.out.as_json:
            raise click.UsageError("--json does not ask, so it goes with --yes.")
        app.out.say("Whoever sees the words can read all your data and put out your devices. Write them on paper.")
        if not confirmed(app, "Is nobody looking over your shoulder?"):
            app.out.say("Nothing was shown.")
            raise Finished(Exit.NEEDS_PERSON)
    words: list[str] = app.client.post("/api/recovery/show")["words"]
    if app.out.as_json:
        app.out.json({"words": words})
        return
    for start in range(0, len(words), _PER_LINE):
        line = enumerate(words[start : start + _PER_LINE], start + 1)
        app.out.result("  ".join(f"{number:>2} {clean(word):<9}" for number, word in line).rstrip())
    app.out.say(f"When they are on paper: {app.command('recovery confirm')}")


@recovery.command(cls=Command)
@json_option
@pass_app
def confirm(app: App) -> None:
    """Type the words as you wrote them down; then they are erased from this machine."""
    found: Json = app.client.post("/api/recovery/confirm", {"words": read_words(app)})
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.result("Right. The words are on your paper only now; this machine cannot show them any more.")


@click.command(cls=Command)
@click.option(
    "--relay",
    metavar="URL",
    help="The relay that holds your data: its address, or a link to it. Without it: a device of yours on this network.",
)
@click.option("--name", help="What this device shall be called; without it the machine's name.")
@json_option
@pass_app
def recover(app: App, relay: str | None, name: str | None) -> None:
    """Bring a space back on a new machine, from the recovery words.

    The words are asked for, or read from stdin, and never leave this machine. The relay, or a device of yours that
    runs on the same network, must hold the space.
    """
    words = read_words(app)
    if not relay:
        app.out.say("Looking for your devices on this network ...")
    body: Json = {"words": words} | ({"relay": relay} if relay else {}) | ({"name": name} if name else {})
    found: Json = app.client.post("/api/recovery/recover", body, timeout_s=120)
    if app.out.as_json:
        app.out.json(found)
        return
    others = [device for device in found["devices"] if not device["own"] and device["state"] == "active"]
    app.out.result("This device belongs to your space again. Your data comes by itself.")
    if others:
        names = ", ".join(clean(device["name"], 64) for device in others)
        app.out.say(
            f"{count_text(len(others), 'device')} of before can still read what you write: {names}. Is one lost? "
            f"{app.command('devices remove NAME --lost')}"
        )
    app.out.say(f"Next: {app.command('sync --wait')}, then {app.command('data list tasks')}")
