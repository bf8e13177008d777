"""What every command has at hand: the profile, the output, the connection to the daemon."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from .output import Output, clean

if TYPE_CHECKING:
    from hybridgw_client import Client, Profile

F = TypeVar("F", bound=Callable[..., Any])
# In a sentence; with options before the word it is complete, and after "there: " it is for another device.
_COMMAND: Final = re.compile(r"(?<!there: )\bhybridgw (?=[a-z])")


class App:
    """One run of the program. Nothing is read or connected before a command asks for it."""

    def __init__(self) -> None:
        self.home: str | None = None
        self.debug = False
        self.secret_store: str | None = None
        self.out = Output()
        self._profile: Profile | None = None
        self._client: Client | None = None

    @property
    def profile(self) -> Profile:
        """The profile that --home, HYBRIDGW_HOME or the platform names."""
        if self._profile is None:
            from hybridgw_client.profile import find_profile

            self._profile = find_profile(self.home)
        return self._profile

    @property
    def client(self) -> Client:
        """The daemon of the profile. Raises: NotRunning, StateError."""
        if self._client is None:
            from hybridgw_client import Client

            self._client = Client(self.profile)
        return self._client

    def command(self, words: str) -> str:
        """A command as the person has to type it for this profile."""
        return self.profile.to_command(words)

    def told(self, text: object) -> str:
        """A sentence of the daemon's: clean, and the commands in it as they have to be typed for this profile."""
        return _COMMAND.sub(lambda _: self.command(""), clean(text))

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            with suppress(OSError):
                self._client.close()
            self._client = None


def _set_home(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        if not value.strip():  # a variable that is not set: the profile of every day is not what was meant
            raise click.UsageError("--home names no folder. Without the option your own profile is meant.", ctx)
        ctx.ensure_object(App).home = value


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(App).debug = True


def _set_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(App).out.as_json = True


def common_options(*, hidden: bool) -> list[click.Option]:
    """--home and --debug: they stand before the command, and are understood after it as well."""
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            hidden=hidden,
            expose_value=False,
            is_eager=True,
            callback=_set_home,
            help="Keep the whole profile in one folder; also HYBRIDGW_HOME.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            hidden=hidden,
            expose_value=False,
            is_eager=True,
            callback=_set_debug,
            help="Show a traceback when something fails.",
        ),
    ]


def json_option(function: F) -> F:
    """--json: the result as JSON on stdout, fields as the HTTP API documents them."""
    return click.option(
        "--json", "as_json", is_flag=True, expose_value=False, is_eager=True, callback=_set_json, help="Print JSON."
    )(function)


class Command(click.Command):
    """A command that also takes --home and --debug."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, the common ones after them."""
        return [*super().get_params(ctx), *common_options(hidden=True)]


class Group(click.Group):
    """Commands under one word, as `data list`."""

    command_class = Command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, the common ones after them."""
        return [*super().get_params(ctx), *common_options(hidden=True)]


pass_app = click.make_pass_decorator(App)
