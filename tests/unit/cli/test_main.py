"""The program itself: help, unknown words, exit codes, nothing heavy loaded, nothing printed that should not be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hybridgw_cli.context import App
from hybridgw_cli.exits import Exit, exit_of
from hybridgw_cli.main import COMMANDS, HINTS, program, run
from hybridgw_client.problems import BY_CODE
from hybridgw_protocol import errors

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference" / "cli.md"


def hybridgw(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from hybridgw_cli.main import main; main()", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **more}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group) and command is not program:
            for word, inner in command.commands.items():
                yield from walk(f"{name} {word}", inner)

    context = click.Context(program, obj=App())
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        yield from walk(name, command)


# ---- what is there ---------------------------------------------------------------------------------------------------
def test_every_command_loads_and_help_says_what_it_says_itself() -> None:
    found = dict(commands())
    assert len(found) > 20
    for name, (_, text) in COMMANDS.items():
        assert found[name].name == name
        assert (found[name].help or "").split("\n\n")[0].replace("\n", " ") == text
    for name, command in found.items():
        assert command.help, name
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.help or isinstance(param.type, click.Choice), f"{name} {param.opts}"


def test_spec_F1_the_words_of_the_specification_are_there() -> None:
    found = {name for name, _ in commands()}
    for name in [
        "up", "down", "status", "doctor", "paths", "logs", "config", "import", "export", "sync", "pair", "devices",
        "conflicts", "completion", "data list", "data get", "data put", "data patch", "data delete", "data query",
        "conflicts resolve", "relay add", "relay list", "relay remove", "relay test",
        "apps list", "apps approve", "apps refuse", "apps revoke", "apps show", "keys list", "keys create",
        "keys rotate", "keys revoke", "audit",
    ]:  # fmt: skip
        assert name in found


def test_the_reference_names_every_command_and_option() -> None:
    """A heading per command, and in its section exactly the options that the program has."""
    sections = dict(
        re.findall(r"^### `hybridgw ([a-z ]+)`\n(.*?)(?=^##|\Z)", REFERENCE.read_text(), re.DOTALL | re.MULTILINE)
    )
    found = dict(commands())
    groups = {
        name
        for name, command in found.items()
        if isinstance(command, click.Group) and not command.invoke_without_command
    }
    assert sections.keys() == found.keys() - groups
    for name, section in sections.items():
        has = {
            option
            for param in found[name].params
            if isinstance(param, click.Option) and not param.hidden
            for option in param.opts
        }
        named = set(re.findall(r"^\| `(-[-a-z]+)", section, re.MULTILINE)) | set(
            re.findall(r"^\| `-[a-z]`, `(--[-a-z]+)", section, re.MULTILINE)
        )
        assert named == has, name


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    """The start of every command: no server, no database, no drawing, no codec that costs more than it does."""
    script = (
        "import sys; sys.argv = ['hybridgw', '--help']\n"
        "from hybridgw_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stderr.split())
    assert not loaded & {
        "aiohttp", "sqlite3", "keyring", "rich", "msgspec", "nacl", "segno", "asyncio", "http", "hybridgw_daemon",
        "hybridgw_relay", "hybridgw_client",
    }  # fmt: skip
    assert "hybridgw_cli" in loaded
    assert all(name in done.stdout for name in COMMANDS)


def test_a_command_that_asks_the_daemon_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.argv = ['hybridgw', '--home', {str(tmp_path)!r}, 'status']\n"
        "from hybridgw_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 3\n"
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stderr.rpartition("LOADED")[2].split())
    assert "hybridgw_client" in loaded
    assert not loaded & {"aiohttp", "sqlite3", "keyring", "rich", "msgspec", "nacl", "segno", "asyncio", "platformdirs"}


# ---- exit codes and errors -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--version"], 0, "hybridgw 0."),
        (["-h"], 0, "Usage: hybridgw"),
        ([], 2, "Usage: hybridgw"),
        (["statis"], 2, "/p status'?"),
        (["frobnicate"], 2, "'hybridgw --help' lists them"),
        (["data", "listt"], 2, "No such command"),
        (["data", "get", "tasks"], 2, "Missing argument"),
        (["--nope"], 2, "No such option"),
        (["up", "--port", "99999"], 2, "99999 is not in the range"),
        (["conflicts", "resolve", "tasks", "milk"], 2, "Choose one of"),
        (["pair", "--relay", "x", "123"], 2, "names its relay itself"),
        (["pair", "--json"], 2, "goes with --yes"),
        (["data", "delete", "tasks", "a", "b", "--version", "3"], 2, "goes with one ID"),
        (["status"], 3, "No daemon runs for this profile. Start it: hybridgw --home"),
        (["data", "list", "tasks"], 3, "Start it"),
        (["config"], 3, "only a running daemon"),
        (["down"], 0, "No daemon runs"),
        (["logs"], 1, "There is no log yet"),
        (["import", "nothing.jsonl", "--collection", "x"], 1, "There is no file nothing.jsonl"),
        (["completion", "bash"], 0, "_HYBRIDGW_COMPLETE=bash_complete"),
        (["completion", "tcsh"], 2, "tcsh"),
    ],
)
def test_exit_codes_and_words(arguments: list[str], code: int, says: str, tmp_path: Path) -> None:
    done = hybridgw("--home", str(tmp_path / "p"), *arguments) if arguments else hybridgw()
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "error: Usage" not in done.stderr
    if arguments and code:
        assert not done.stdout or done.stdout.startswith('{"error":')
    assert not (tmp_path / "p").exists()  # asking makes nothing


def test_the_home_may_stand_after_the_command(tmp_path: Path) -> None:
    for nothing in (["--home", "", "down"], ["down", "--home", " "]):
        done = hybridgw(*nothing)
        assert (done.returncode, "names no folder" in done.stderr) == (2, True)
    for arguments in (["--home", str(tmp_path), "paths"], ["paths", "--home", str(tmp_path)]):
        assert f"database  {tmp_path}/hybridgw.db" in hybridgw(*arguments).stdout
    assert f"database  {tmp_path}/hybridgw.db" in hybridgw("paths", HYBRIDGW_HOME=str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["statis"], "status'?"),
        (["data", "put", "tasks", "milk", "milk"], "data put tasks milk title='Buy milk'"),
        (["data", "patch", "tasks", "milk", "[1]"], "data patch tasks milk status=done"),
        (["conflicts", "resolve", "tasks", "--keep"], "conflicts' lists them"),
    ],
)
def test_commands_in_what_is_said_of_a_wrong_word_are_for_this_profile(
    arguments: list[str], command: str, tmp_path: Path
) -> None:
    assert f"hybridgw --home {tmp_path} {command}" in hybridgw("--home", str(tmp_path), *arguments).stderr


def test_an_error_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    done = hybridgw("--home", str(tmp_path), "status", "--json")
    assert done.returncode == 3
    assert '"code":"not_running"' in done.stdout
    assert "error:" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotRunning("x"), Exit.NOT_RUNNING),
        (errors.NeedsPerson("x"), Exit.NEEDS_PERSON),
        (errors.SecretsLocked("x"), Exit.NEEDS_PERSON),
        (errors.Offline("x"), Exit.PARTIAL),
        (errors.WrongCode("x"), Exit.NEEDS_PERSON),
        (errors.NotFound("x"), Exit.ERROR),
        (errors.HybridGWError("x"), Exit.ERROR),
    ],
)
def test_errors_and_their_exit_codes(error: errors.HybridGWError, code: Exit) -> None:
    assert exit_of(error) is code


def test_hints_are_for_errors_that_exist() -> None:
    assert HINTS.keys() <= BY_CODE.keys()
    for text in HINTS.values():
        for words in re.findall(r"hybridgw ([a-z]+(?: [a-z]+)?)", text):
            assert words.split()[0] in COMMANDS


class Broken(App):
    """An app whose daemon cannot be asked: stands for any failure inside a command."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__()
        self._failure = failure

    @property
    def client(self) -> object:  # type: ignore[override]
        raise self._failure


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (errors.Deleted("The document is deleted."), 1, "error: The document is deleted.\nWrite it anew"),
        (errors.SecretsLocked("Locked. 'hybridgw doctor' helps."), 4, "error: Locked. 'hybridgw doctor' helps.\n"),
        (errors.HybridGWError("Fault.", code="odd", request_id="r-1"), 1, "error: Fault.\n"),
        (errors.HybridGWError("Fault.", request_id="r-1"), 1, "under r-1: hybridgw logs"),
        (errors.NotFound("\x1b[2J gone"), 1, "error: \\x1b[2J gone"),
        (KeyboardInterrupt(), 130, "Stopped."),
        (click.Abort(), 130, "Stopped."),
        (ZeroDivisionError("x"), 1, "This is a fault of hybridgw: ZeroDivisionError in test_main.py, line"),
    ],
)
def test_whatever_happens_becomes_words_and_a_code(
    failure: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYBRIDGW_HOME", raising=False)
    assert run(["data", "get", "tasks", "milk"], Broken(failure)) == code
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    if isinstance(failure, Exception) and not isinstance(failure, click.Abort):
        run(["--debug", "data", "get", "tasks", "milk"], Broken(failure))
        assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`hybridgw ... | head -1`: no traceback, no message, the exit code of shells for SIGPIPE."""
    script = (
        "import sys\n"
        "from hybridgw_cli.main import run\n"
        "from hybridgw_cli.context import App\n"
        "class Client:\n"
        "    def pages(self, *a, **k):\n"
        "        return ({'name': 'x' * 1000, 'documents': 1, 'conflicts': 0} for _ in range(10_000))\n"
        "    def close(self): pass\n"
        "app = App(); app._client = Client()\n"
        "sys.exit(run(['data', 'list'], app))"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$0" | head -1; exit "${{PIPESTATUS[0]}}"', script],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 141, done.stderr
    assert done.stderr == ""
