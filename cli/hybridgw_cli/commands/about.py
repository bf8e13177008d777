"""paths, config, completion: about this program itself. Paths and completion need no daemon."""

from __future__ import annotations

from typing import Any

import click

from hybridgw_protocol.errors import NotRunning

from ..context import App, Command, json_option, pass_app
from ..output import clean, to_json


@click.command(cls=Command)
@json_option
@pass_app
def paths(app: App) -> None:
    """Say where the files are."""
    profile = app.profile
    found = {
        "home": profile.home,
        "config": str(profile.config),
        "database": str(profile.database),
        "endpoint": str(profile.endpoint),
        "logs": str(profile.log),
    }
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.facts([(name, clean(path)) for name, path in found.items() if path])


@click.command(cls=Command)
@json_option
@pass_app
def config(app: App) -> None:
    """Show the configuration in force and where each value came from."""
    try:
        found: dict[str, Any] = app.client.get("/api/config")
    except NotRunning as error:
        raise NotRunning(
            f"What is in force, only a running daemon can say: {app.command('up')}. The file is {app.profile.config}."
        ) from error
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.table(
        [[s["name"], _value(s["value"]), s["source"], s["effect"]] for s in found["items"]],
        ["name", "value", "from", "effect"],
    )
    for warning in found.get("warnings", []):
        app.out.warn(clean(warning))
    app.out.say(f"To change one: {clean(app.profile.config)}, for example  server_port = 8001, then restart.")


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else to_json(value)


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_app
def completion(app: App, shell: str) -> None:
    """Print shell completion: bash, zsh or fish.

    For example, in ~/.bashrc:  eval "$(hybridgw completion bash)"
    """
    from click.shell_completion import get_completion_class

    from ..main import program

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - one of click's own
    app.out.raw(found(program, {}, "hybridgw", "_HYBRIDGW_COMPLETE").source() + "\n")
