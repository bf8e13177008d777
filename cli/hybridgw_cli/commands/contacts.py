"""contacts: other people. Who they are, who asks, whom to block, and the number that two of them compare."""

from __future__ import annotations

import shlex
import time
from typing import Any

import click

from hybridgw_client.client import path_of
from hybridgw_protocol.errors import NeedsPerson

from ..context import App, Command, Group, json_option, pass_app
from ..output import ago_text, clean, count_text
from .pair import qr

Json = dict[str, Any]


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def contacts(ctx: click.Context) -> None:
    """List the people you write to; ask somebody, answer who asks, compare the safety number.

    Give others your address ('contacts address'), or add theirs. What you write can be read by their devices only.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(App))


@contacts.command("list", cls=Command)
@json_option
@pass_app
def list_(app: App) -> None:
    """List them, as 'hybridgw contacts' alone does."""
    _list(app)


def _list(app: App) -> None:
    found: Json = app.client.get("/api/contacts")
    waiting: Json = app.client.get("/api/contacts/requests")
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.table(
        [
            (clean(c["name"], 32), _state(c), count_text(c["devices"], "device"), clean(c["address"]))
            for c in found["items"]
        ],
        ("name", "state", "", "address"),
    )
    if not found["items"]:
        app.out.say(f"None yet. Tell somebody your address: {app.command('contacts address')}")
    if waiting["items"]:
        many = count_text(len(waiting["items"]), "person asks", "people ask")
        app.out.say(f"{many} to be a contact: {app.command('contacts requests')}")


def _state(contact: Json) -> str:
    if contact["changed"]:
        return "another key than before"
    if contact["state"] != "accepted":
        return {"asked": "asked, no answer yet", "blocked": "blocked"}[contact["state"]]
    return "verified" if contact["verified"] else "not verified"


def _typed(contact: Json) -> str:
    """A contact as a word of a command to type: what it is called may be a stranger's choice."""
    return shlex.quote(clean(contact["name"]))


@contacts.command(cls=Command)
@click.option("--name", default="", help="What others are told to call you; without it this machine's name.")
@click.option("--no-qr", is_flag=True, help="Do not draw the QR code.")
@json_option
@pass_app
def address(app: App, name: str, no_qr: bool) -> None:
    """Print the address by which other people find you; from then on they can ask to be a contact."""
    own: Json = app.client.post("/api/contacts/address", {"name": name} if name else {})
    if app.out.as_json:
        app.out.json(own)
        return
    app.out.result(clean(own["address"]))
    if not no_qr and app.out.is_watched:
        app.out.raw(qr(own["link"]))
    if "@" not in own["address"]:
        app.out.say(f"You use no relay, so nobody can reach you yet: {app.command('relay add LINK')}")
    app.out.say(
        f"Others are told that you are {clean(own['name'])}. Whoever knows the address can ask to be a contact."
    )


@contacts.command(cls=Command)
@json_option
@pass_app
def withdraw(app: App) -> None:
    """Take your address back: nobody finds you, and contacts cannot write to you. 'contacts address' undoes it.

    Relays are told by each of your devices, as soon as it is on and has heard of it. Contacts stay, and are not told.
    """
    own: Json = app.client.request("DELETE", "/api/contacts/address")
    if app.out.as_json:
        app.out.json(own)
        return
    app.out.result("Nobody finds you any more, and nobody can write to you.")
    app.out.say(f"To be found again, at the same address: {app.command('contacts address')}")


@contacts.command(cls=Command)
@click.argument("address")
@click.option("--name", default="", help="What you call them.")
@click.option("--note", default="", help="What they are told with it.")
@json_option
@pass_app
def add(app: App, address: str, name: str, note: str) -> None:
    """Ask somebody to be a contact: ADDRESS is what their 'contacts address' printed, or the link of its QR code.

    If they have asked already, they are accepted. The name of a contact with another ADDRESS says that they began anew.
    """
    added: Json = app.client.post("/api/contacts", {"address": address, "name": name, "note": note}, timeout_s=40)
    if app.out.as_json:
        app.out.json(added)
        return
    who = clean(added["name"])
    if added["changed"]:
        app.out.result(f"{who} has another key now. Nothing goes either way until you have compared the number:")
    elif added["state"] == "asked":
        app.out.result(f"{who} is asked. What you send waits until they agree.")
    else:
        app.out.result(f"{who} is a contact.")
    app.out.say(f"Compare the safety number with them: {app.command('contacts verify ' + _typed(added))}")


@contacts.command(cls=Command)
@json_option
@pass_app
def requests(app: App) -> None:
    """List who asks to be a contact. What they call themselves, nobody has checked."""
    found: Json = app.client.get("/api/contacts/requests")
    if app.out.as_json:
        app.out.json(found)
        return
    now_ms = int(time.time() * 1000)
    app.out.table(
        [
            (clean(r["name"], 32), ago_text(r["at_ms"], now_ms), clean(r["note"], 60), clean(r["id"]))
            for r in found["items"]
        ],
        ("says to be", "when", "and", "id"),
    )
    for request in found["items"]:
        if request["known"]:
            app.out.say(
                f"{clean(request['name'])} ({clean(request['id'])}) is not your contact {clean(request['known'])}: the "
                "key is another one. Ask them by another way before you accept."
            )
    if found["items"]:
        app.out.say(
            f"Agree: {app.command('contacts accept NAME')}   Hear no more: {app.command('contacts block NAME')}"
        )
    else:
        app.out.say("Nobody asks.")


@contacts.command(cls=Command)
@click.argument("who")
@click.option("--name", default="", help="What you call them; without it what they call themselves.")
@json_option
@pass_app
def accept(app: App, who: str, name: str) -> None:
    """Agree with who asks, or end a block: WHO is a name or an id, as listed."""
    accepted: Json = app.client.post(path_of("contacts", who, "accept"), {"name": name} if name else {})
    if app.out.as_json:
        app.out.json(accepted)
        return
    name = clean(accepted["name"])
    app.out.result(f"{name} is a contact.")
    app.out.say(f"Compare the safety number with them: {app.command('contacts verify ' + _typed(accepted))}")


@contacts.command(cls=Command)
@click.argument("who")
@json_option
@pass_app
def block(app: App, who: str) -> None:
    """Hear nothing more of a contact, or of who asks: WHO is a name or an id. They are not told."""
    blocked: Json = app.client.post(path_of("contacts", who, "block"), {})
    if app.out.as_json:
        app.out.json(blocked)
        return
    app.out.result(f"{clean(blocked['name'])} is blocked. To end it: "
                   f"{app.command('contacts accept ' + _typed(blocked))}")  # fmt: skip


@contacts.command(cls=Command)
@click.argument("who")
@click.argument("number", nargs=-1)
@click.option("--no-qr", is_flag=True, help="Do not draw the QR code.")
@json_option
@pass_app
def verify(app: App, who: str, number: tuple[str, ...], no_qr: bool) -> None:
    """Compare the safety number with a contact: show it, or check NUMBER, which the other side reads out or shows.

    Equal numbers on both sides mean that nobody sits between you. Compare by another way than this program: side by
    side, or in a call. Exit code 4 if NUMBER is another one.
    """
    given = " ".join(number)
    if not given:
        shown: Json = app.client.get(path_of("contacts", who))
        if app.out.as_json:
            app.out.json(shown)
            return
        app.out.result(f"Safety number with {clean(shown['name'])} ({_state(shown)}):")
        app.out.result()
        digits = clean(shown["number"]).split(" ")
        for i in range(0, len(digits), 4):
            app.out.result("    " + " ".join(digits[i : i + 4]))
        app.out.result()
        if not no_qr and app.out.is_watched:
            app.out.raw(qr(shown["number_link"]))
        if not app.out.is_watched:
            app.out.say(f"If theirs is the same: {app.command('contacts verify ' + _typed(shown) + ' NUMBER')}")
            return
        if not click.confirm("Does the other side show the same number?", default=False, err=True):
            raise NeedsPerson("Not verified. Tell this contact nothing that others must not hear.")
        given = shown["number"]
    verified: Json = app.client.post(path_of("contacts", who, "verify"), {"number": given})
    if app.out.as_json:
        app.out.json(verified)
        return
    app.out.result(f"{clean(verified['name'])} is verified: the number is the same on both sides.")


@contacts.command(cls=Command)
@click.argument("who")
@click.argument("name")
@json_option
@pass_app
def rename(app: App, who: str, name: str) -> None:
    """Call a contact NAME from now on, on all your devices: WHO is a name or an id. They are not told."""
    renamed: Json = app.client.post(path_of("contacts", who, "rename"), {"name": name})
    if app.out.as_json:
        app.out.json(renamed)
        return
    app.out.result(f"{clean(who)} is called {clean(renamed['name'])} now.")


@contacts.command(cls=Command)
@click.argument("who")
@json_option
@pass_app
def remove(app: App, who: str) -> None:
    """Forget a contact; they may ask again. To hear no more of them, block them instead."""
    gone: Json = app.client.request("DELETE", path_of("contacts", who))
    app.out.json(gone) if app.out.as_json else app.out.result(f"{clean(who)} is no contact any more.")
