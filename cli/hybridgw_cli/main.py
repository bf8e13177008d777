"""The program `hybridgw`: finds the command, runs it, and turns whatever happens into words and an exit code.

Each command's module is imported when it is called, so that `hybridgw --help` and `hybridgw status` stay quick.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any, Final, NoReturn

import click

from hybridgw_protocol.errors import HybridGWError, PairingFailed

from .context import App, common_options
from .exits import Exit, Finished, exit_of
from .output import clean

# Name: (module, what it does). The texts stand here so that --help loads nothing; a test compares them.
SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "The daemon": {
        "up": ("daemon", "Start the daemon, wait until it answers, say what to do next."),
        "down": ("daemon", "Stop the daemon."),
        "status": ("status", "Say how things are: in step or not, and why."),
        "doctor": ("doctor", "Check everything, and name what helps where something is wrong."),
        "logs": ("daemon", "Show what the daemon has logged."),
        "dashboard": ("dashboard", "Open the dashboard in the browser."),
        "top": ("top", "Show the programs that are connected, and what they do."),
    },
    "Your data": {
        "data": ("data", "Read and write documents."),
        "import": ("transfer", "Bring in a file: JSON Lines, CSV, Taskwarrior, bookmarks."),
        "export": ("transfer", "Write a collection to a file or stdout."),
        "conflicts": ("conflicts", "List and resolve what was written at the same time."),
    },
    "Your devices": {
        "pair": ("pair", "Show a code that admits another device, or enter one."),
        "devices": ("devices", "List the devices of the space; rename, remove and restore them."),
        "leave": ("devices", "Put this device out of its space."),
        "recovery": ("recovery", "Say where the recovery words are; show them, or confirm that you have them."),
        "recover": ("recovery", "Bring a space back on a new machine, from the recovery words."),
        "sync": ("sync", "Bring everything up to date now."),
        "relay": ("relay", "Add, list, test and remove relays."),
        "lan": ("lan", "Find the other devices on the local network; name addresses, and test them."),
    },
    "Messages": {
        "send": ("messages", "Send a message to programs, here and on your other devices, or to another person."),
        "messages": (
            "messages",
            "List messages that were sent and that arrived, newest first; see what waits, and where one would go.",
        ),
        "contacts": (
            "contacts",
            "List the people you write to; ask somebody, answer who asks, compare the safety number.",
        ),
    },
    "Apps and scripts": {
        "apps": ("apps", "List the apps that may use this daemon; let one in, or throw it out."),
        "extension": ("extension", "Connect the browsers of this machine; check what keeps one from it."),
        "keys": ("keys", "Make and revoke API keys, for scripts."),
        "audit": ("apps", "Show who was let in, refused and thrown out, and when."),
    },
    "This program": {
        "paths": ("about", "Say where the files are."),
        "config": ("about", "Show the configuration in force and where each value came from."),
        "completion": ("about", "Print shell completion: bash, zsh or fish."),
    },
}
# What helps, where the daemon's own sentence names no command.
HINTS: Final = {
    "deleted": "Write it anew, which brings it back: hybridgw data put COLLECTION ID ...",
    "already_exists": "Change it instead: hybridgw data patch COLLECTION ID ...",
    "precondition_failed": "Read it again, then write: hybridgw data get COLLECTION ID --json",
    "secrets_locked": "See why: hybridgw doctor",
    "busy": "Try again in a moment.",
    "disk_full": "Free some space; no restart is needed.",
    "offline": "See what is not reached: hybridgw relay test",
    "wrong_code": "See what waits: hybridgw apps, hybridgw contacts requests",
    "unauthorized": "Restart the daemon, which makes a new token: hybridgw down, hybridgw up",
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
_NO_NUMBER: Final = re.compile(r"is not a valid (integer|float) range")  # click's name of a number with bounds
_NAMES: Final = {"import": "import_", "export": "export_"}  # where a command's word is one of Python's


class Program(click.Group):
    """The top: knows all commands by name and loads one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order of --help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".commands.{COMMANDS[cmd_name][0]}", __package__)
        command = getattr(module, _NAMES.get(cmd_name, cmd_name))
        assert isinstance(command, click.Command)  # noqa: S101 - by test
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when one is unknown."""
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f"Did you mean 'hybridgw {near[0]}'?" if near else "'hybridgw --help' lists them."
            raise click.UsageError(f"There is no command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """All commands by section, without loading any."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()], col_spacing=3)


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from hybridgw_protocol.runtime import VERSION

        click.echo(f"hybridgw {VERSION}")
        ctx.exit()


@click.pass_context
def _prepare(ctx: click.Context, secret_store: str | None) -> None:
    app = ctx.ensure_object(App)
    app.secret_store = secret_store
    ctx.call_on_close(app.close)


program = Program(
    name="hybridgw",
    callback=_prepare,
    params=[
        *common_options(hidden=False),
        click.Option(["--secret-store"], hidden=True, help="As an option of `up`."),
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Keep your data in step across your machines, through a relay that can read nothing.",
    epilog="'hybridgw COMMAND --help' says more. Exit codes: 0 done, 1 error, 2 usage, 3 daemon not running, "
    "4 a person is needed, 5 offline or partly done.",
)


def run(arguments: list[str], app: App | None = None) -> int:
    """Run one command line; returns the exit code. Args: arguments: without the program's name."""
    app = app or App()
    if instruction := os.environ.get("_HYBRIDGW_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(program, {}, "hybridgw", "_HYBRIDGW_COMPLETE", instruction)
    try:
        try:
            # Not `program.main`: it would end the process by itself when the reader of our output is gone.
            with program.make_context("hybridgw", [*arguments], obj=app) as context:
                program.invoke(context)
        finally:
            app.out.flush()
        return Exit.OK
    except Finished as finished:
        return finished.code
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        app.out.say("Stopped.")
        return Exit.INTERRUPTED
    except click.ClickException as error:
        return _usage(app, error)
    except HybridGWError as error:
        return _known(app, error)
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:  # noqa: BLE001 - the edge: nobody above could do anything with it
        return _unknown(app, error)


def _usage(app: App, error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        app.out.say(error.format_message())
        return Exit.USAGE
    message = _NO_NUMBER.sub(_number_text, error.format_message())
    app.out.error("\n".join(map(app.told, message.split("\n"))), "usage", {})
    context = getattr(error, "ctx", None)
    if context is not None:
        app.out.say(f"Usage: {context.command_path} {' '.join(context.command.collect_usage_pieces(context))}")
        app.out.say(f"More: {context.command_path} --help")
    return error.exit_code if isinstance(error, click.UsageError) else Exit.ERROR


def _number_text(match: re.Match[str]) -> str:
    return "is not a whole number" if match[1] == "integer" else "is not a number"


def _known(app: App, error: HybridGWError) -> int:
    if app.debug:
        import traceback

        traceback.print_exc()
    code = str(error.detail.get("code") or error.code) if error.code == "internal" else error.code
    say = clean if isinstance(error, PairingFailed) else app.told  # a pairing speaks of the other device's commands
    app.out.error("\n".join(map(say, error.message.split("\n"))), code, dict(error.detail))
    # What a 401 says is for scripts with a key of their own; this program has the owner's token.
    if code in HINTS and ("hybridgw " not in error.message or code == "unauthorized"):
        app.out.say(app.told(HINTS[code]))
    if reference := error.detail.get("request_id") if code == "internal" else None:
        app.out.say(f"The log has more under {clean(reference)}: {app.command('logs')}")
    return exit_of(error)


def _unknown(app: App, error: Exception) -> int:
    import traceback

    if app.debug:
        traceback.print_exc()
    where = traceback.extract_tb(error.__traceback__)[-1]
    app.out.error(
        f"This is a fault of hybridgw: {type(error).__name__} in {os.path.basename(where.filename)}, "
        f"line {where.lineno}. Run it again with --debug and report what it prints.",
        "internal",
        {},
    )
    return Exit.ERROR


def _broken_pipe() -> int:
    """The reader of our output is gone (`| head`). What is still buffered must not fail once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.BROKEN_PIPE


def main(argv: Any = None) -> NoReturn:
    """Entry point of `hybridgw`."""
    # Of a stream that was closed there is none: then nothing is to be read, and what is said is for nobody.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 - to the end of the process
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.exit(run(sys.argv[1:] if argv is None else argv))
