"""doctor: everything that is not as it should be, each line with the command that helps.

It works without a daemon too, and then checks what can be seen from outside.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import click

from hybridgw_client.profile import find_endpoint
from hybridgw_protocol.errors import HybridGWError, NotFound, NotRunning, SecretsLocked
from hybridgw_protocol.limits import CLOCK_BOUND_MS, CLOCK_WARN_MS
from hybridgw_protocol.runtime import VERSION

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..output import bytes_text, clean, count_text, duration_text
from .daemon import daemon_program, set_aside, tail
from .status import waiting_line

Json = dict[str, Any]

LOW_DISK_BYTES: Final = 200 * 1024 * 1024
NO_DISK_BYTES: Final = 20 * 1024 * 1024
LOW_MEMORY_BYTES: Final = 100 * 1024 * 1024
BAD_ERROR_RATE: Final = 0.01
_LOG_LINES: Final = 400
_STORE_WORDS: Final = {
    "keyring": "in the keyring of this system",
    "passphrase": "in a file under a passphrase",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line. help: a command, or what a person should do; "" when nothing has to be done."""

    name: str
    state: Literal["ok", "warn", "fail"]
    message: str
    help: str = ""


@click.command(cls=Command)
@click.option("--seen", is_flag=True, help="The alarms that stand have been dealt with: tell of them no more.")
@json_option
@pass_app
def doctor(app: App, seen: bool) -> None:
    """Check everything, and name what helps where something is wrong.

    Exit codes: 0 nothing failed (a warning may be there), 1 something failed, 3 the daemon does not run.
    """
    if seen:
        for alarm in list(app.client.pages("/api/alarms")):
            app.client.post(f"/api/alarms/{alarm['id']}/acknowledge")
            app.out.say(f"Seen: {app.told(alarm['message'])}")
    found: list[Check] = []
    for check in _all(app):
        found.append(check)
        if not app.out.as_json:
            _show(app, check)
    failed = [check for check in found if check.state == "fail"]
    if app.out.as_json:
        app.out.json({"ok": not failed, "checks": [asdict(check) for check in found]})
    else:
        warned = sum(check.state == "warn" for check in found)
        app.out.say(f"{count_text(len(failed), 'failure')}, {count_text(warned, 'warning')}.")
    if any(check.name == "daemon" for check in failed):
        raise Finished(Exit.NOT_RUNNING)
    if failed:
        raise Finished(Exit.ERROR)


def _show(app: App, check: Check) -> None:
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
    app.out.result(f"{app.out.paint(check.state.ljust(4), colour)}  {check.name:<14} {check.message}")
    if check.help and check.state != "ok":
        app.out.result(f"{'':22}{app.out.paint('helps:', 'dim')} {check.help}")


def _all(app: App) -> Iterator[Check]:
    """Every check in turn; one that breaks is a failure of its own and does not stop the others."""
    running = False
    for name, check in (
        ("folders", _folders),
        ("files", _files),
        ("file system", _file_system),
        ("disk", _disk),
        ("damage", _damage),
        ("daemon", _daemon),
        ("parts", _parts),
        ("system", _system),
        ("secrets", _secrets),
        ("configuration", _configuration),
        ("relays", _relays),
        ("lan", _lan),
        ("sync", _sync),
        ("alarms", _alarms),
        ("log", _log),
    ):
        if check in _NEED_DAEMON and not running:
            continue
        try:
            for line in check(app):
                running = running or (line.name == "daemon" and line.state != "fail")
                yield line
        except HybridGWError as error:
            yield Check(name, "fail", clean(error.message))


# ---- seen from outside ---------------------------------------------------------------------------------------------
def _folders(app: App) -> Iterator[Check]:
    folders = app.profile.folders
    for folder in dict.fromkeys((folders.data, folders.state, folders.logs)):
        path = Path(folder)
        try:
            about = path.stat()
        except FileNotFoundError:
            yield Check("folders", "warn", f"{clean(folder)} is not there yet.", app.command("up"))
            continue
        except OSError as error:
            yield Check("folders", "fail", f"{clean(folder)} cannot be looked at: {error.strerror}.", "--home DIR")
            continue
        if sys.platform == "win32":
            continue
        if about.st_uid != os.getuid():
            yield Check(
                "folders", "fail", f"{clean(folder)} belongs to another user.", f"sudo chown -R $USER {clean(folder)}"
            )
        elif stat.S_IMODE(about.st_mode) & 0o077:
            yield Check("folders", "warn", f"{clean(folder)} is open to others.", f"chmod 700 {clean(folder)}")
        elif not os.access(path, os.W_OK | os.X_OK):
            yield Check("folders", "fail", f"{clean(folder)} cannot be written.", f"chmod u+rwx {clean(folder)}")
        else:
            yield Check("folders", "ok", f"{clean(folder)} is yours alone.")


def _files(app: App) -> Iterator[Check]:
    """Files with data, keys or the token are their owner's alone."""
    if sys.platform == "win32":
        return
    profile = app.profile
    wrong = []
    for path in (profile.endpoint, profile.database, profile.log, profile.config, *_secret_files(app)):
        with suppress(OSError):
            about = path.stat()
            if about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077:
                wrong.append(str(path))
    for name in wrong:
        yield Check("files", "fail", f"{clean(name)} is open to other users.", f"chmod 600 {clean(name)}")
    if not wrong:
        yield Check("files", "ok", "Endpoint, database, keys and log are readable by you alone.")


def _secret_files(app: App) -> list[Path]:
    return [Path(app.profile.folders.data, name) for name in ("secrets.json", "hybridgw.db-wal", "hybridgw.db-shm")]


def _file_system(app: App) -> Iterator[Check]:
    from hybridgw_storage.migrations import UNSAFE_FILE_SYSTEMS, file_system_of

    kind = file_system_of(Path(app.profile.folders.data))
    if kind in UNSAFE_FILE_SYSTEMS:
        yield Check(
            "file system",
            "fail",
            f"The data is on {kind}, where SQLite is not safe: it can be damaged by two machines or a lost connection.",
            "--home DIR on a local disk",
        )
    elif kind:
        yield Check("file system", "ok", f"The data is on {clean(kind)}, a local file system.")


def _disk(app: App) -> Iterator[Check]:
    folder = Path(app.profile.folders.data)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    used = sum(_size(Path(app.profile.folders.data, name)) for name in ("hybridgw.db", "hybridgw.db-wal"))
    text = f"{bytes_text(free)} free; the data takes {bytes_text(used)}."
    if free < LOW_DISK_BYTES:
        yield Check("disk", "fail" if free < NO_DISK_BYTES else "warn", text, "free some space; no restart is needed")
    else:
        yield Check("disk", "ok", text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _damage(app: App) -> Iterator[Check]:
    for path in set_aside(app):
        yield Check(
            "damage",
            "warn",
            f"A damaged database was set aside: {clean(path)}",
            f"{app.command('pair CODE')}, if it is not done yet, brings back what was synced; "
            "keep the file until nothing is missed",
        )


def _daemon(app: App) -> Iterator[Check]:
    try:
        endpoint = find_endpoint(app.profile)
        app.client.get("/health")
        ready = app.client.get("/health/ready")
    except NotRunning as error:
        if "lost_pid" in error.detail:
            yield Check("daemon", "fail", app.told(error.message), f"{app.command('down')}; {app.command('up')}")
            return
        yield Check("daemon", "fail", app.told(error.message), app.command("up"))
        yield from _start(app)
        return
    except HybridGWError as error:
        yield Check("daemon", "fail", clean(error.message), f"{app.command('down')}; {app.command('up')}")
        return
    yield Check(
        "daemon",
        "ok",
        f"Process {endpoint.pid} of this profile answers at {endpoint.url}, up {duration_text(ready['uptime_s'])}.",
    )
    if ready["version"] != VERSION:
        yield Check(
            "version",
            "warn",
            f"The daemon is version {clean(ready['version'])}, this command {VERSION}.",
            f"{app.command('down')}; {app.command('up')}",
        )


def _start(app: App) -> Iterator[Check]:
    """What would keep the daemon from starting: it looks itself, since only it knows its configuration and file."""
    if not Path(app.profile.folders.data).exists():
        return
    ran = subprocess.run(  # noqa: S603 - our own program
        [*daemon_program(app), "--check"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    faults = [line.strip().removeprefix("error: ") for line in ran.stderr.decode("utf-8", "replace").splitlines()]
    for fault in [fault for fault in faults if fault and not fault.endswith(":")]:
        yield Check("start", "fail", app.told(fault), f"this first, then {app.command('up')}")
    if not faults:
        yield Check("start", "ok", "Nothing keeps it from starting.")


# ---- told by the daemon --------------------------------------------------------------------------------------------
def _parts(app: App) -> Iterator[Check]:
    for part in app.client.get("/health/ready")["components"]:
        state: Literal["ok", "warn", "fail"] = {"ok": "ok", "failed": "fail"}.get(part["state"], "warn")  # type: ignore[assignment]
        yield Check(
            clean(part["name"]), state, app.told(part.get("message") or part["state"]), app.told(part.get("help") or "")
        )


def _system(app: App) -> Iterator[Check]:
    """The machine, the services outside, and how fast the daemon answers."""
    try:
        report = app.client.get("/api/config/health")
    except NotFound:
        return  # an older daemon
    system, speed = report["system"], report["performance"]
    free, total = system["memory_available_bytes"], system["memory_total_bytes"]
    text = (
        f"{count_text(system['cpu_count'], 'processor')}, {bytes_text(free)} of {bytes_text(total)} memory free; "
        f"the daemon takes {bytes_text(system['process_rss_bytes'])} and {system['process_cpu_percent']:.0f} % of one."
    )
    low = free < LOW_MEMORY_BYTES
    yield Check("system", "warn" if low else "ok", text, "close programs that take much memory" if low else "")
    text = f"{count_text(speed['requests'], 'call')}"
    if speed["request_p95_s"] is not None:
        text += f", 95 of 100 within {speed['request_p95_s'] * 1000:g} ms"
    if speed["commit_p99_s"] is not None:
        text += f"; 99 of 100 commits within {speed['commit_p99_s'] * 1000:g} ms"
    failing = speed["error_rate"] > BAD_ERROR_RATE
    if failing:
        text += f"; {speed['error_rate']:.1%} of the calls failed by a fault of the daemon"
    yield Check("performance", "warn" if failing else "ok", f"{text}.", app.command("logs") if failing else "")


def _secrets(app: App) -> Iterator[Check]:
    if any(p["name"] == "keys" and p["state"] != "ok" for p in app.client.get("/health/ready")["components"]):
        return  # said above
    store = _setting(app, "SECRET_STORE")
    if store == "insecure-file":
        yield Check(
            "secret store",
            "warn",
            "The key of this device is in a plain file: whoever can read your files can read everything.",
            "for your own data begin a profile with another store",
        )
    else:
        yield Check("secret store", "ok", f"The key of this device is kept {_STORE_WORDS.get(store, clean(store))}.")


def _setting(app: App, name: str) -> str:
    items: list[Json] = app.client.get("/api/config")["items"]
    return next((str(item["value"]) for item in items if item["name"] == name), "")


def _configuration(app: App) -> Iterator[Check]:
    warnings = app.client.get("/api/config").get("warnings", [])
    for warning in warnings:
        yield Check("configuration", "warn", clean(warning), app.command("config"))
    if not warnings:
        yield Check("configuration", "ok", "Every setting is understood.")


def _relays(app: App) -> Iterator[Check]:
    try:
        relays = list(app.client.pages("/api/relays"))
    except SecretsLocked:
        return  # said under `sync`
    if not relays:
        yield Check("relays", "ok", "None; this device keeps its data to itself.")
    for relay in relays:
        check = app.client.post("/api/relays/test", {"url": relay["url"]}, timeout_s=60)
        name = clean(relay["url"])
        if not check["ok"]:
            text = app.told(check.get("error") or "no answer")
            if check["admitted"] is False:  # the text says which relay, and what helps
                yield Check("relay", "fail", text)
            else:
                yield Check("relay", "fail", f"{name}: {text}", app.command("relay test"))
            continue
        rtt = f" in {check['rtt_ms']:.0f} ms" if check.get("rtt_ms") is not None else ""
        yield Check("relay", "ok", f"{name} answers{rtt}.")
        if check.get("clock_offset_ms") is not None:
            yield _clock(name, check["clock_offset_ms"])


def _lan(app: App) -> Iterator[Check]:
    """What stands between the devices on the local network, found out by trying."""
    try:
        report = app.client.post("/api/lan/test", {}, timeout_s=60)
    except SecretsLocked:
        return  # said under `sync`
    for check in report["items"]:
        yield Check("local network", check["state"], app.told(check["message"]), app.told(check["help"]))


def _clock(relay: str, offset_ms: int) -> Check:
    """Args: offset_ms: the relay's clock less ours."""
    off = abs(offset_ms)
    text = f"This clock is {duration_text(off / 1000)} {'behind' if offset_ms > 0 else 'ahead of'} that of {relay}."
    if off > CLOCK_BOUND_MS:
        return Check(
            "clock", "fail", f"{text} New writes wait until it is right.", "set the clock: timedatectl set-ntp true"
        )
    if off > CLOCK_WARN_MS:
        return Check("clock", "warn", text, "set the clock: timedatectl set-ntp true")
    return Check("clock", "ok", f"It agrees with that of {relay} to {max(0.1, off / 1000):.1f} s.")


def _sync(app: App) -> Iterator[Check]:
    status = app.client.get("/api/sync/status")
    text = app.told(status.get("message") or status["state"].replace("_", " "))
    waits = waiting_line(status)
    if status["state"] == "locked":
        parts = app.client.get("/health/ready")["components"]
        helps = next((part.get("help") for part in parts if part["name"] == "keys"), None)
        yield Check("sync", "fail", "It waits until the keys are open.", app.told(helps or "hybridgw up"))
    elif status["standing"] != "active":
        yield Check("sync", "fail", f"{text}{f'. Waiting: {waits}.' if waits else ''}", app.command("pair CODE"))
    elif status["state"] in ("offline", "parked") and status["relays"]:
        yield Check("sync", "warn", f"{f'Waiting: {waits}. ' if waits else ''}{text}", app.command("relay test"))
    else:
        yield Check("sync", "ok", text)
    if status["conflicts"]:
        yield Check("conflicts", "warn", f"{status['conflicts']:,} open.", app.command("conflicts"))


def _alarms(app: App) -> Iterator[Check]:
    alarms = list(app.client.pages("/api/alarms"))
    for alarm in alarms:
        yield Check(
            "alarm",
            "fail",
            app.told(alarm["message"]),
            f"docs/how-to/recover-from-damage.md ({clean(alarm['code'])}); then {app.command('doctor --seen')}",
        )
    if not alarms:
        yield Check("alarms", "ok", "None.")


def _log(app: App) -> Iterator[Check]:
    try:
        with app.profile.log.open("rb") as file:
            entries = [entry for raw in tail(file, _LOG_LINES) if (entry := _entry(raw))]
    except FileNotFoundError:
        yield Check("log", "ok", "Nothing is logged yet.")
        return
    except OSError as error:
        yield Check("log", "warn", f"{clean(app.profile.log)}: {error.strerror}.", app.command("paths"))
        return
    bad = [entry for entry in entries if str(entry.get("level", "")).upper() in ("ERROR", "CRITICAL")]
    if bad:
        last = clean(bad[-1].get("message", ""), 200)
        yield Check("log", "warn", f"{count_text(len(bad), 'error')} of late, the last: {last}", app.command("logs"))
    else:
        yield Check("log", "ok", f"No error in the last {count_text(len(entries), 'line')}.")


def _entry(raw: bytes) -> Json | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


_NEED_DAEMON: Final[frozenset[Callable[[App], Iterator[Check]]]] = frozenset(
    {_parts, _system, _secrets, _configuration, _relays, _lan, _sync, _alarms}
)
