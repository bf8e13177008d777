"""apps, audit: which apps a person has let in, what waits for the person, and what happened."""

from __future__ import annotations

import shlex
import time
from typing import Any, Final

import click

from hybridgw_client.client import path_of
from hybridgw_protocol.errors import NeedsPerson, NotFound, WrongCode
from hybridgw_protocol.native import CHROME_IDS

from ..context import App, Command, Group, json_option, pass_app
from ..output import ago_text, clean, duration_text, time_text

Json = dict[str, Any]
_CODE_DIGITS: Final = 6
OURS: Final = [f"chrome-extension://{one}" for one in CHROME_IDS]  # Firefox gives an address by chance
_LASTS = {"session": "this session", "30d": "30 days", "until-revoked": "until revoked"}


@click.group(cls=Group, invoke_without_command=True)
@click.option("--all", "all_of_them", is_flag=True, help="Those that were thrown out or have ended too.")
@json_option
@click.pass_context
def apps(ctx: click.Context, all_of_them: bool) -> None:
    """List the apps that may use this daemon; let one in, or throw it out.

    What waits for you comes first, with the code that the app must show too.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(App), all_of_them)


@apps.command("list", cls=Command)
@click.option("--all", "all_of_them", is_flag=True, help="Those that were thrown out or have ended too.")
@json_option
@pass_app
def list_(app: App, all_of_them: bool) -> None:
    """List the apps, as 'hybridgw apps' alone does."""
    _list(app, all_of_them)


@apps.command(cls=Command)
@click.argument("code", nargs=-1)
@click.option(
    "--for",
    "lasts",
    type=click.Choice([*_LASTS]),
    default="30d",
    show_default=True,
    help="How long; 'session' ends with the daemon.",
)
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Only this of what it asks for; several times.")
@json_option
@pass_app
def approve(app: App, code: tuple[str, ...], lasts: str, scopes: tuple[str, ...]) -> None:
    """Let an app in: CODE is the six digits that it shows.

    Exit code 4 without CODE when something waits, and for a code that no app shows.
    """
    waiting = _waiting(app)
    typed = _digits(code)
    if not typed:
        _show_waiting(app, waiting)
        raise NeedsPerson(
            f"Compare the code with the one that the app shows, then: {app.command('apps approve CODE')}"
            if waiting
            else "No app waits to be let in. Open the app and click its button to connect, then come back."
        )
    if len(typed) != _CODE_DIGITS:
        raise click.UsageError(f"The code of an app has {_CODE_DIGITS} digits, as 'hybridgw apps' lists it.")
    # With one app waiting, a wrong code is a try that the daemon counts.
    grant = waiting[0] if len(waiting) == 1 else _of_code(app, waiting, typed)
    body: Json = {"code": typed, "lasts": lasts.replace("-", "_")}
    if scopes:
        body["scopes"] = list(scopes)
    approved: Json = app.client.post(path_of("auth", "grants", grant["id"], "approve"), body)
    if app.out.as_json:
        app.out.json(approved)
        return
    app.out.result(f"{_who(approved)} may {clean(approved['sentence'])}: {_LASTS[lasts]}.")
    app.out.say(f"To end it: {app.command('apps revoke ' + _word(approved))}")


@apps.command(cls=Command)
@click.argument("code", nargs=-1, required=True)
@json_option
@pass_app
def refuse(app: App, code: tuple[str, ...]) -> None:
    """Refuse an app that waits: CODE, as listed. It may not ask again for a day."""
    grant = _of_code(app, _waiting(app), _digits(code))
    refused: Json = app.client.post(path_of("auth", "grants", grant["id"], "refuse"))
    if app.out.as_json:
        app.out.json(refused)
        return
    app.out.result(f"{_who(refused)} is refused and may not ask again for a day.")


@apps.command(cls=Command)
@click.argument("name")
@json_option
@pass_app
def revoke(app: App, name: str) -> None:
    """Throw an app out: NAME is its address, name or id. Its connections end at once."""
    ended = [app.client.request("DELETE", path_of("auth", "grants", grant["id"])) for grant in _named(app, name)]
    if app.out.as_json:
        app.out.json({"items": ended, "next_cursor": None})
        return
    for grant in ended:
        app.out.result(f"{_who(grant)} has no rights any more.")


@apps.command(cls=Command)
@click.argument("name")
@json_option
@pass_app
def show(app: App, name: str) -> None:
    """Say what an app may do: NAME is its address, name or id."""
    found = _named(app, name, ended=True)
    if app.out.as_json:
        app.out.json({"items": found, "next_cursor": None})
        return
    now_ms = int(time.time() * 1000)
    for grant in found:
        app.out.facts(
            [
                ("app", _who(grant)),
                ("id", clean(grant["id"])),
                ("may", clean(grant["sentence"])),
                ("scopes", clean(" ".join(grant["scopes"]))),
                ("state", clean(grant["state"]) + (f" ({clean(grant['reason'])})" if grant["reason"] else "")),
                ("let in", time_text(grant["approved_ms"])),
                ("bound to", " and ".join(_bonds(grant)) or "nothing"),
                ("until", _until(grant)),
                ("last used", ago_text(grant["last_used_ms"], now_ms)),
            ]
        )


@click.command(cls=Command)
@click.option("--event", metavar="EVENT", help="Only this, like 'grant.approved', or all of 'grant'.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="At most so many.")
@json_option
@pass_app
def audit(app: App, event: str | None, limit: int) -> None:
    """Show who was let in, refused and thrown out, and when.

    Latest first: logins, refusals, approvals, revocations, keys, exports.
    """
    found: Json = app.client.get("/api/auth/audit", event=event, limit=limit)
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.table(
        [
            [
                time_text(row["at_ms"]),
                row["message"] + (f" ({row['count']} times)" if row["count"] > 1 else ""),
                row["origin"] or row["principal"] or "",
            ]
            for row in found["items"]
        ],
        ["when", "what", "who"],
    )
    if found["next_cursor"]:
        only = f" --event {shlex.quote(event)}" if event else ""
        app.out.say(f"There is more: {app.command(f'audit{only} --limit {min(1_000, limit * 10)}')}")


# ---- inside ----------------------------------------------------------------------------------------------------------
def _list(app: App, all_of_them: bool) -> None:
    found: Json = app.client.get("/api/auth/grants", all=all_of_them)
    if app.out.as_json:
        app.out.json(found)
        return
    waiting = [grant for grant in found["items"] if grant["state"] == "pending"]
    others = [grant for grant in found["items"] if grant["state"] != "pending"]
    _show_waiting(app, waiting)
    if waiting:
        app.out.say(f"Let one in: {app.command('apps approve CODE')}; or not: {app.command('apps refuse CODE')}")
    if others:
        now_ms = int(time.time() * 1000)
        app.out.table(
            [
                [
                    _app(grant),
                    grant["sentence"],
                    _until(grant) if grant["state"] == "approved" else grant["reason"] or grant["state"],
                    ago_text(grant["last_used_ms"], now_ms),
                    grant["id"],
                ]
                for grant in others
            ],
            ["app", "may", "until", "last used", "id"],
        )
    if not found["items"]:
        app.out.say("No apps. One that wants to be let in shows a code and waits for you here.")


def _waiting(app: App) -> list[Json]:
    found: Json = app.client.get("/api/auth/grants")
    return [grant for grant in found["items"] if grant["state"] == "pending"]


def _show_waiting(app: App, waiting: list[Json]) -> None:
    """Where it comes from first: a name proves nothing."""
    now_ms = time.time() * 1000
    for grant in waiting:
        where = clean(grant["origin"]) if grant["origin"] else "A program on this machine"
        left = duration_text((grant["expires_ms"] - now_ms) / 1000)
        app.out.result(
            f"{app.out.paint(where, 'bold')} (calls itself {clean(grant['name'])!r}) wants to "
            f"{app.out.paint(clean(grant['sentence']), 'bold')}"
        )
        app.out.result(f"  code {app.out.paint(clean(grant['code']), 'bold')}, for {left} more")


def _digits(code: tuple[str, ...]) -> str:
    return "".join(code).replace("-", "").replace(" ", "")


def _of_code(app: App, waiting: list[Json], typed: str) -> Json:
    """The app that shows this code. Raises: WrongCode; NotFound: none waits."""
    for grant in waiting:
        if grant["code"].replace(" ", "") == typed:
            return grant
    if not waiting:
        raise NotFound("No app waits to be let in. Its code is good for two minutes: let it ask again.")
    raise WrongCode(f"No app that waits shows {clean(typed, 20)}. See what waits: {app.command('apps')}")


def _named(app: App, name: str, *, ended: bool = False) -> list[Json]:
    found = [g for g in app.client.pages("/api/auth/grants", all=ended) if g["state"] != "pending"]
    for field in ("id", "origin"):
        if same := [grant for grant in found if grant[field] == name]:
            return same
    host = [grant for grant in found if (grant["origin"] or "").partition("://")[2] == name or grant["name"] == name]
    if not host:
        raise NotFound(f"There is no app {clean(name, 60)!r}. See what there is: {app.command('apps')}")
    if len({grant["origin"] or grant["name"] for grant in host}) > 1:
        raise NotFound(f"More than one app is {clean(name, 60)!r}. Name it by its id: {app.command('apps')}")
    return host


def _who(grant: Json) -> str:
    if grant["origin"] in OURS:
        return f"The extension of HybridGW ({clean(grant['origin'])})"
    return clean(grant["origin"]) if grant["origin"] else f"The program {clean(grant['name'])!r}"


def _app(grant: Json) -> str:
    """The same in a table."""
    return "extension of HybridGW" if grant["origin"] in OURS else grant["origin"] or f"{grant['name']} (program)"


def _word(grant: Json) -> str:
    return shlex.quote(clean(grant["origin"] or grant["id"]))


def _bonds(grant: Json) -> list[str]:
    return ["its address"] * bool(grant["origin"]) + ["a key of its own"] * bool(grant["has_key"])


def _until(grant: Json) -> str:
    return time_text(grant["expires_ms"]) if grant["expires_ms"] else "you revoke it"
