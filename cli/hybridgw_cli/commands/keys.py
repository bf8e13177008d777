"""keys: API keys for scripts and programs that run without a person."""

from __future__ import annotations

import time
from typing import Any

import click

from hybridgw_client.client import path_of

from ..context import App, Command, Group, json_option, pass_app
from ..output import ago_text, clean, time_text

Json = dict[str, Any]


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def keys(ctx: click.Context) -> None:
    """Make and revoke API keys, for scripts.

    A key may do what its scopes say: read:COLLECTION, write:COLLECTION, send:TOPIC, listen:TOPIC, or admin for all.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(App))


@keys.command("list", cls=Command)
@json_option
@pass_app
def list_(app: App) -> None:
    """List the keys, as 'hybridgw keys' alone does. A key itself is never shown again."""
    _list(app)


@keys.command(cls=Command)
@click.option(
    "--scope", "scopes", multiple=True, required=True, metavar="SCOPE", help="Like read:tasks; several times."
)
@click.option("--note", default="", metavar="TEXT", help="What it is for.")
@click.option("--expires", default="90d", show_default=True, metavar="DAYS", help="Like 7d, or never.")
@click.option("--origin", "origins", multiple=True, metavar="ORIGIN", help="A web page that may use it; several times.")
@json_option
@pass_app
def create(app: App, scopes: tuple[str, ...], note: str, expires: str, origins: tuple[str, ...]) -> None:
    """Make a key and print it, this once.

    The key alone goes to stdout: KEY=$(hybridgw keys create --scope read:tasks)
    """
    body = {"scopes": list(scopes), "note": note, "expires_days": _days(expires), "origins": list(origins)}
    made: Json = app.client.post("/api/auth/keys", body)
    _show_new(app, made)
    if not app.out.as_json:
        _note_unknown(app, scopes)


def _note_unknown(app: App, scopes: tuple[str, ...]) -> None:
    """A collection that is not there is often a typo, and sometimes one that the script will make."""
    parts = [scope.partition(":") for scope in scopes]
    meant = {name for verb, _, name in parts if verb in ("read", "write") and name.isidentifier()}
    if meant:
        there = {collection["name"] for collection in app.client.pages("/api/collections")}
        for name in sorted(meant - there):
            app.out.warn(f"There is no collection {name} yet. What there is: {app.command('data list')}")


@keys.command(cls=Command)
@click.argument("key_id", metavar="ID")
@json_option
@pass_app
def rotate(app: App, key_id: str) -> None:
    """Give a key another secret and print it, this once. The old one stops counting at once."""
    _show_new(app, app.client.post(path_of("auth", "keys", key_id, "rotate")))


@keys.command(cls=Command)
@click.argument("key_id", metavar="ID")
@json_option
@pass_app
def revoke(app: App, key_id: str) -> None:
    """End a key. What uses it is refused from now on."""
    left: Json = app.client.request("DELETE", path_of("auth", "keys", key_id))
    if app.out.as_json:
        app.out.json(left)
        return
    app.out.result(f"The key {clean(key_id)} is revoked.")


def _list(app: App) -> None:
    found: Json = app.client.get("/api/auth/keys")
    if app.out.as_json:
        app.out.json(found)
        return
    if not found["items"]:
        app.out.say(f"No keys. Make one: {app.command('keys create --scope read:tasks')}")
        return
    now_ms = int(time.time() * 1000)
    app.out.table(
        [
            [
                key["id"],
                key["note"],
                key["sentence"],
                time_text(key["expires_ms"]) if key["expires_ms"] else "you revoke it",
                ago_text(key["last_used_ms"], now_ms),
            ]
            for key in found["items"]
        ],
        ["id", "note", "may", "until", "last used"],
    )


def _show_new(app: App, made: Json) -> None:
    if app.out.as_json:
        app.out.json(made)
        return
    until = f"until {time_text(made['expires_ms'])}" if made["expires_ms"] else "until you revoke it"
    end = app.command(f"keys revoke {clean(made['id'])}")
    app.out.say(f"This key may {clean(made['sentence'])}, {until}. It is not shown again. To end it: {end}")
    app.out.result(clean(made["key"]))


def _days(text: str) -> float | None:
    """Days of `7d`, `7`; None of `never`. Raises: click.BadParameter."""
    if text == "never":
        return None
    try:
        days = float(text.removesuffix("d"))
    except ValueError:
        days = 0.0
    if not 0 < days <= 3650:
        raise click.BadParameter("Days from now, like 7d, at most 3650d; or never.", param_hint="--expires")
    return days
