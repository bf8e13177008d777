"""up, down, logs: the daemon's life. It is started as a process of its own and outlives this one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import click

from hybridgw_client import Client
from hybridgw_client.profile import START_S, holder, is_alive
from hybridgw_protocol.errors import AlreadyRunning, HybridGWError, NeedsPerson, NotRunning, StateError
from hybridgw_protocol.runtime import DEFAULT_PORT, MIN_PASSPHRASE_BYTES, port_refused

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..output import clean
from .status import part_text

STOP_S: Final = 15.0
KEYS_S: Final = 15.0  # a keyring that does not answer is given up before
LAST_BREATH_S: Final = 5.0  # from the release of the lock, when all is written, to the end of the process
_POLL_S: Final = 0.02
SECRETS_NAME: Final = "secrets.json"  # beside the database, only with the stores that are files
_NEXT: Final = (
    ("relay add LINK", "the first device: a relay of yours, from 'hybridgw-relay invite'"),
    ("pair CODE", "a further device: the code that 'hybridgw pair' shows on the first"),
    ("data put tasks milk title='Buy milk'", "your data: it works without any other device"),
    ("dashboard", "all of it in your browser"),
    ("status", "how things are"),
)
_AFTER_DAMAGE: Final = (
    ("pair CODE", "brings back what was synced: the code that 'hybridgw pair' shows on another device"),
    ("doctor", "names the damaged database that was set aside"),
)
STORES: Final = ("keyring", "passphrase", "insecure-file")


# ---- up ------------------------------------------------------------------------------------------------------------
@click.command(cls=Command)
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C; for service managers too.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the local API, from now on; 0: any free one, for now."
)
@click.option("--secret-store", type=click.Choice(STORES), help="Where the key that seals this device's secrets lives.")
@click.option("--passphrase-fd", type=click.IntRange(0), help="Read the passphrase from this descriptor; for scripts.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="Least level that is logged.",
)
@click.option("--dev", is_flag=True, help="Development: readable log, stack traces in it.")
@json_option
@pass_app
def up(
    app: App,
    foreground: bool,
    port: int | None,
    secret_store: str | None,
    passphrase_fd: int | None,
    log_level: str | None,
    dev: bool,
) -> None:
    """Start the daemon, wait until it answers, say what to do next."""
    if passphrase_fd is not None and not _is_open(passphrase_fd):
        raise click.BadParameter(f"no descriptor {passphrase_fd} is open.", param_hint="'--passphrase-fd'")
    store = secret_store or app.secret_store
    if store and store not in STORES:
        raise click.UsageError(f"--secret-store is one of {', '.join(STORES)}.")
    kept = _kept_store(app)
    if store and kept and store != kept:
        raise StateError(
            f"This profile began with the secret store {kept} and keeps it: {app.command('up')}. "
            "For another store begin another profile (--home) and pair it with this one."
        )
    options = _options(port=port, store=store, log_level=log_level)
    if _is_running(app):
        if foreground:
            raise AlreadyRunning(f"A daemon runs for this profile already. Stop it first: {app.command('down')}")
        if not _are_keys_locked(app):
            _told_running(app, already=True)
            if options or dev:
                again = " ".join(["up", *options, *["--dev"] * dev])
                app.out.warn(f"Options count from the next start: {app.command('down')}, then {app.command(again)}")
            return
    environment = _environment(dev)
    if passphrase_fd is None and (store or kept or environment.get("HYBRIDGW_SECRET_STORE")) == "passphrase":
        passphrase_fd = _ask_passphrase(app, environment, is_new=kept is None, is_needed=store is not None)
    if _is_running(app):
        _check_free(app, port)
        _stop(app)  # its keys are locked, and it reads a passphrase or another store only when it starts
    arguments = [*daemon_program(app), *options]
    if passphrase_fd is not None:
        arguments += ["--passphrase-fd", str(passphrase_fd)]
    if foreground:
        _stay([*arguments, "--foreground"], environment, passphrase_fd)
    port_before = app.profile.port
    _start(app, arguments, environment, passphrase_fd)
    is_locked = _are_keys_locked(app)
    _told_running(app, already=False, is_locked=is_locked)
    if not app.out.as_json and app.profile.port not in (port_before, None if port_before else DEFAULT_PORT):
        app.out.say(f"This profile keeps port {app.profile.port} from now on; --port names another.")
    if is_locked:
        raise Finished(Exit.NEEDS_PERSON)


def _is_running(app: App) -> bool:
    """Does a daemon answer. Raises: AlreadyRunning: one runs whose endpoint file is gone or damaged."""
    try:
        return Client(app.profile, timeout_s=5).get("/health") is not None
    except NotRunning as error:
        if "lost_pid" in error.detail:
            raise AlreadyRunning(error.message, pid=error.detail["lost_pid"]) from error
        return False


def _check_free(app: App, port: int | None) -> None:
    """Could a daemon listen there: else the one that runs is not stopped for it. Raises: StateError."""
    if not port or port == app.client.endpoint.port:
        return
    with socket.socket() as probe:
        if sys.platform != "win32":  # as the daemon: a port whose last connections are just closing is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StateError(f"{port_refused(port, error)}. The daemon of before still runs.") from error


def _kept_store(app: App) -> str | None:
    """The store that this profile began with, where that is a file; None: a keyring, or none yet."""
    try:
        return str(json.loads(Path(app.profile.folders.data, SECRETS_NAME).read_bytes())["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged file is told by the daemon


def _are_keys_locked(app: App) -> bool:
    """Can the running daemon not open its keys; waits while it tries."""

    def state() -> str:
        parts = app.client.get("/health/ready")["components"]
        return next((str(part["state"]) for part in parts if part["name"] == "keys"), "starting")

    if state() == "starting":
        deadline = time.monotonic() + KEYS_S
        with app.out.waiting("Opening the keys ...") as spinner:
            while state() == "starting" and time.monotonic() < deadline:
                spinner.advance(1)
                time.sleep(_POLL_S)
    return state() not in ("ok", "starting") and app.client.get("/api/sync/status")["state"] == "locked"


def daemon_program(app: App) -> list[str]:
    """The daemon of this profile, as it is started."""
    # -P: a folder of that name in the current directory is not our daemon.
    home = ["--home", app.profile.home] if app.profile.home else []
    return [sys.executable, "-P", "-m", "hybridgw_daemon", *home]


def _options(*, port: int | None, store: str | None, log_level: str | None) -> list[str]:
    given = (("--port", port), ("--secret-store", store), ("--log-level", log_level))
    return [word for name, value in given if value is not None for word in (name, str(value))]


def _environment(dev: bool) -> dict[str, str]:
    environment = dict(os.environ)
    if dev:
        environment |= {"HYBRIDGW_ENVIRONMENT": "development", "HYBRIDGW_DEBUG": "true"}
    return environment


def _ask_passphrase(app: App, environment: Mapping[str, str], *, is_new: bool, is_needed: bool) -> int | None:
    """The passphrase from the person, as the read end of a pipe: it is never an argument or in the environment.

    None when the daemon gets it elsewhere, or starts without it. Raises: NeedsPerson: nobody is there to type it.
    """
    if {"HYBRIDGW_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY"} & environment.keys() or sys.platform == "win32":
        return None
    with suppress(OSError, ValueError):
        if "passphrase_file" in tomllib.loads(app.profile.config.read_text(encoding="utf-8")):
            return None
    if not sys.stdin.isatty():
        if not is_needed:
            return None
        raise NeedsPerson(
            "The secret store `passphrase` needs one, and no terminal is there to ask for it. Give it with "
            "--passphrase-fd N, or in a file named by HYBRIDGW_PASSPHRASE_FILE."
        )
    if is_new:
        app.out.say("Choose a passphrase. Without it nobody, you included, can open the keys of this device.")
    passphrase: str = click.prompt(
        "Passphrase", hide_input=True, confirmation_prompt=is_new, err=True, value_proc=_long_enough if is_new else None
    )
    read, write = os.pipe()
    os.write(write, passphrase.encode())  # far below what a pipe holds
    os.close(write)
    return read


def _long_enough(passphrase: str) -> str:
    if len(passphrase.encode()) < MIN_PASSPHRASE_BYTES:
        raise click.UsageError(f"it has less than {MIN_PASSPHRASE_BYTES} characters.")
    return passphrase


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except (OSError, OverflowError):
        return False
    return True


def _stay(arguments: list[str], environment: dict[str, str], passphrase_fd: int | None) -> NoReturn:
    if sys.platform == "win32":
        raise Finished(Exit(subprocess.call(arguments, env=environment)))  # noqa: S603 - our own program
    if passphrase_fd is not None:
        os.set_inheritable(passphrase_fd, True)
    os.execve(arguments[0], arguments, environment)  # noqa: S606 - our own program


def _start(app: App, arguments: list[str], environment: dict[str, str], passphrase_fd: int | None) -> None:
    """Start it detached and wait until it answers. Raises: StateError: what it said when it ended instead."""
    detached: dict[str, Any] = {
        "start_new_session": True,
        "pass_fds": () if passphrase_fd is None else (passphrase_fd,),
    }
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - our own program
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **detached
        )
        if passphrase_fd is not None:
            os.close(passphrase_fd)
        try:
            if _came_up(app, process):
                return
        except BaseException:
            process.terminate()  # Ctrl-C while it starts: then it shall not go on
            raise
        if process.poll() is None:
            raise StateError(
                f"The daemon (process {process.pid}) was started and does not answer after {START_S:.0f} s. "
                f"Look what it does: {app.command('logs')}"
            )
        _ended_early(app, process.returncode, said)


def _came_up(app: App, process: subprocess.Popen[bytes]) -> bool:
    """Wait until it answers. False: it ended, or takes too long."""
    with app.out.waiting("Starting the daemon ...") as spinner:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            if _answers(app, process.pid):
                return True
            spinner.advance(1)
            time.sleep(_POLL_S)
    return False


def _answers(app: App, pid: int) -> bool:
    """Does the process that we started answer. Its lock is not looked at: the file it wrote names it."""
    try:
        if json.loads(app.profile.endpoint.read_bytes())["pid"] != pid:
            return False
        with Client(app.profile, timeout_s=2) as client:
            return client.get("/health") is not None
    except (OSError, ValueError, KeyError, TypeError, HybridGWError):
        return False


def _ended_early(app: App, code: int, said: IO[bytes]) -> None:
    said.seek(0)
    lines = [line for line in said.read(16_384).decode("utf-8", "replace").splitlines() if line.strip()]
    deadline = time.monotonic() + START_S
    while holder(app.profile) is not None and time.monotonic() < deadline:  # another `up` was quicker
        if _is_running(app):
            return
        time.sleep(_POLL_S)
    reason = "\n".join(clean(line) for line in lines[-12:]).removeprefix("error: ")
    raise StateError(
        reason or f"The daemon ended at once with code {code} and said nothing. Look: {app.command('logs')}",
        exit_code=code,
    )


def _told_running(app: App, *, already: bool, is_locked: bool = False) -> None:
    """What runs, what is wrong with it, what to do next."""
    ready = app.client.get("/health/ready")
    endpoint = app.client.endpoint
    if app.out.as_json:
        app.out.json({"url": endpoint.url, "pid": endpoint.pid, "already_running": already, **ready})
        return
    state = "runs already" if already else "runs"
    app.out.result(f"HybridGW {clean(ready['version'])} {state} at {endpoint.url} (process {endpoint.pid}).")
    for component in ready["components"]:
        if component["state"] in ("degraded", "failed"):
            app.out.warn(f"{clean(component['name'])}: {part_text(app, component)}")
    if not already and (is_locked or not app.client.get("/api/sync/status")["relays"]):
        app.out.say("Next:")
        steps = [*(_AFTER_DAMAGE if set_aside(app) else _NEXT[:2]), *_NEXT[2:]]
        shown = steps[2:] if is_locked else steps  # nothing that needs the keys
        lines = [(app.command(words), what) for words, what in shown]
        width = max(len(words) for words, _ in lines)
        for words, what in lines:
            app.out.say(f"  {words:<{width}}  {what}")


def set_aside(app: App) -> list[Path]:
    """Damaged databases, without the logs that lie beside each."""
    found = sorted(Path(app.profile.folders.data).glob("hybridgw.db.damaged-*"))
    return [path for path in found if not path.name.endswith(("-wal", "-shm", "-journal"))]


# ---- down ----------------------------------------------------------------------------------------------------------
@click.command(cls=Command)
@pass_app
def down(app: App) -> None:
    """Stop the daemon."""
    app.out.say("The daemon has stopped." if _stop(app) else "No daemon runs for this profile.")


def _stop(app: App) -> bool:
    """Stop it and wait for its end. False: none runs. Raises: AlreadyRunning: it does not end."""
    pid = _ask_to_end(app)
    if pid is None:
        return False
    app.close()
    with app.out.waiting("Stopping the daemon ...") as spinner:
        deadline = time.monotonic() + STOP_S
        while is_alive(app.profile, pid):
            if time.monotonic() > deadline:
                raise AlreadyRunning(
                    f"The daemon (process {pid}) has not ended after {STOP_S:.0f} s. It may still be writing; "
                    f"if it stays: kill -9 {pid}. What was acknowledged is safe on the disk."
                )
            spinner.advance(1)
            time.sleep(_POLL_S)
        deadline = time.monotonic() + LAST_BREATH_S
        while _is_process(pid) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    return True


def _is_process(pid: int) -> bool:
    """Has the process not ended; Linux only, where one that is merely not yet reaped is told apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[:1] != [b"Z"]


def _ask_to_end(app: App) -> int | None:
    """Through the API; a daemon that hangs or has not come up yet gets a signal. Returns: its process, None if none."""
    try:
        pid = app.client.endpoint.pid
        app.client.post("/api/daemon/stop", timeout_s=5)
        return pid
    except NotRunning:
        # Whoever holds the lock of this profile is its daemon, so it may be told to end.
        held_by = holder(app.profile)
        if held_by is not None and sys.platform != "win32":
            with suppress(ProcessLookupError):
                os.kill(held_by, signal.SIGTERM)
        return held_by


# ---- logs ----------------------------------------------------------------------------------------------------------
@click.command(cls=Command)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on; Ctrl-C ends it.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Lines to begin with."
)
@json_option
@pass_app
def logs(app: App, follow: bool, lines: int) -> None:
    """Show what the daemon has logged."""
    path = app.profile.log
    try:
        with path.open("rb") as file:
            for raw in tail(file, lines):
                _show(app, raw)
            if follow:
                _follow(app, path, file, lambda raw: _show(app, raw))
    except FileNotFoundError as error:
        raise StateError(f"There is no log yet: {path}. The daemon makes it: {app.command('up')}") from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise StateError(f"{path} cannot be read: {error.strerror}.") from error


def tail(file: IO[bytes], lines: int) -> list[bytes]:
    """The last lines of a file, read from its end."""
    end = file.seek(0, os.SEEK_END)
    found, size = b"", 0
    while size < end and found.count(b"\n") <= lines:
        size = min(end, size + 64 * 1024)
        file.seek(end - size)
        found = file.read(size)
    return found.splitlines()[-lines:] if lines else []


def _follow(app: App, path: Path, file: IO[bytes], show: Callable[[bytes], None]) -> None:
    """New lines as they come; a log that was rotated away is followed to the new file."""
    for raw in _new_lines(path, file):
        show(raw)
        app.out.flush()


def _new_lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    part = b""
    while True:
        piece = file.readline()
        if piece:
            part += piece
            if part.endswith(b"\n"):
                yield part.rstrip(b"\r\n")
                part = b""
            continue
        time.sleep(0.2)
        with suppress(OSError):
            now, ours = path.stat(), os.fstat(file.fileno())
            if (now.st_ino, now.st_dev) != (ours.st_ino, ours.st_dev) or now.st_size < file.tell():
                yield from _new_lines(path, path.open("rb"))
                return


def _show(app: App, raw: bytes) -> None:
    """One line for a person: time, level, event, ids. With --json, or if it is none of ours, as it stands."""
    text = raw.decode("utf-8", "replace")
    entry = None
    with suppress(ValueError):
        entry = json.loads(text)
    if app.out.as_json and isinstance(entry, dict):
        app.out.json_line(entry)
        return
    if not isinstance(entry, dict) or "message" not in entry:
        app.out.result(clean(text))
        return
    level = str(entry.get("level", "")).upper()
    colour = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow"}.get(level, "dim")
    app.out.result(
        f"{clean(entry.get('timestamp', ''))}  {app.out.paint(clean(level).ljust(7), colour)} {clean(entry['message'])}"
    )
