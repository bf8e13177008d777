"""`hybridgw-relay`: serve, invite, accounts, audit, stats.

Exit codes: 0 ok, 1 error, 2 usage, 3 there is no relay here. Results go to stdout, talk to stderr.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from hybridgw_protocol.errors import BadValue, HybridGWError, NotRunning

from . import config as configuration
from . import logs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hybridgw_storage.database import InlineDatabase, Tx

    from .stores.base import AccountRow

SPARE_FILES: Final = 200  # besides one per connection: databases, logs, the listening socket
HOURS: Final = click.FloatRange(0.01, 24 * 365)
DATA_OPTION: Final = click.option(
    "--data", "--home", "DATA_DIR", metavar="DIR", help="Folder of the database; DATA_DIR in the environment."
)
JSON_OPTION: Final = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def _default_data() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("hybridgw-relay", appauthor=False))


def _load(file: Path | None = None, **flags: str | None) -> configuration.Config:
    given = {name: value for name, value in flags.items() if value is not None}
    home = click.get_current_context().find_root().params.get("home")
    if home and "DATA_DIR" not in given:
        given["DATA_DIR"] = home
    return configuration.load(environment=os.environ, flags=given, file=file, default_data=_default_data())


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="hybridgw", prog_name="hybridgw-relay")
@click.option("--home", metavar="DIR", help="Folder of everything; the same as --data of each command.")
def cli(home: str | None) -> None:
    """A relay for HybridGW: stores sealed batches, passes them on, and can read none of them."""


# ---- serve -----------------------------------------------------------------------------------------------------------
@cli.command()
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with options.")
@DATA_OPTION
@click.option("--host", "SERVER_HOST", metavar="ADDRESS", help="Address to listen on [0.0.0.0].")
@click.option("--port", "SERVER_PORT", metavar="PORT", help="Port [8080]; 0 takes a free one.")
@click.option("--public-url", "urls", multiple=True, metavar="URL", help="Address that devices dial; repeatable.")
@click.option("--tls-cert", "TLS_CERT", metavar="FILE", help="Certificate chain (PEM), to serve TLS without a proxy.")
@click.option("--tls-key", "TLS_KEY", metavar="FILE", help="Its private key (PEM).")
@click.option("--trusted-proxy", "proxies", multiple=True, metavar="ADDRESS", help="Believe its X-Forwarded-For.")
@click.option("--log-level", "LOG_LEVEL", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
@click.option("--development", is_flag=True, help="Readable logs, as on a terminal.")
def serve(
    file: Path | None, urls: tuple[str, ...], proxies: tuple[str, ...], development: bool, **flags: str | None
) -> None:
    """Run the relay until it is stopped. Every option is also a name in the environment or the file."""
    config = _load(
        file,
        PUBLIC_URL=",".join(urls) or None,
        TRUSTED_PROXIES=",".join(proxies) or None,
        ENVIRONMENT="development" if development else None,
        **flags,
    )
    logs.set_up(config.log_level, readable=config.is_development or sys.stderr.isatty())
    from . import app

    _allow_files(config.max_connections + SPARE_FILES)
    sys.setswitchinterval(0.001)  # the store's thread comes back from libsodium 10,000 times a second
    with asyncio.Runner(loop_factory=_loop_factory(), debug=False) as runner:
        runner.run(app.run(config, ready=lambda url: _announce(config, url)))


def _allow_files(wanted: int) -> None:
    """Raise the process's own limit of open files, which is 1,024 on many systems, as far as it may."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        logging.getLogger(__name__).warning(
            "at most %d files may be open, so fewer connections than WS_MAX_CONNECTIONS; raise the limit (ulimit -n)",
            most,
        )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where there is one (not on Windows): a fifth more batches per second."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _announce(config: configuration.Config, url: str) -> None:
    everywhere = " (on all addresses of this machine)" if config.host in ("0.0.0.0", "::") else ""  # noqa: S104
    click.echo(f"The relay listens on {url}{everywhere}, its data is in {config.data}.")
    if not config.public_urls:
        click.echo("Invites name this address, which no other machine can dial. For those give the one they dial:")
        click.echo(f"  --public-url {_example_url(url)}")
    click.echo(f"It lets nobody in without an invite: {_command(config, 'invite')}")
    sys.stdout.flush()


def _command(config: configuration.Config, words: str) -> str:
    """A command of ours as it has to be typed for this relay."""
    if config.data == _default_data():
        return f"hybridgw-relay {words}"
    return f"hybridgw-relay --home {shlex.quote(os.path.abspath(config.data))} {words}"


def _example_url(url: str) -> str:
    return f"http://{socket.gethostname()}:{urlsplit(url).port}"


def _is_of_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


# ---- invite ----------------------------------------------------------------------------------------------------------
@cli.command()
@DATA_OPTION
@click.option("--account", metavar="NAME", help="Account to admit to; made if it is new. [a new one]")
@click.option("--expires", "hours", type=HOURS, default=72.0, show_default=True, metavar="HOURS", help="Link's life.")
@click.option("--devices", type=click.IntRange(1, 100_000), help="How many devices the account may have.")
@click.option("--bytes", "size", metavar="SIZE", help="How much it may store, like 500M or 2G.")
@click.option("--url", metavar="URL", help="Address in the link, if it is not the one the relay last served.")
@click.option("--qr", is_flag=True, help="Draw the link as a QR code, too.")
@JSON_OPTION
def invite(
    DATA_DIR: str | None, account: str | None, hours: float, devices: int | None, size: str | None,
    url: str | None, qr: bool, as_json: bool,
) -> None:  # fmt: skip
    """Print a link that admits one person's devices, once. The relay may be running or not."""
    from hybridgw_protocol.invite import INVITE_SECRET_BYTES, format_invite, normal_url

    from .services.admission import invite_hash
    from .stores import admin

    config = _load(DATA_DIR=DATA_DIR)
    max_bytes = _size(size)
    secret, now_ms = os.urandom(INVITE_SECRET_BYTES), _now_ms()
    name = account or f"invited-{datetime.now(UTC):%Y-%m-%d}-{os.urandom(3).hex()}"
    address = url or next(iter(config.public_urls), None)
    if address is None and not config.database.exists():  # a mistyped folder is not made
        raise _not_run_yet(config)
    with admin.opened(config.database, stamp=_stamp(), must_exist=False) as database:
        known = (database.peek(lambda c: admin.read_meta(c, "urls")) or "").split()
        address = address or next(iter(known), None)
        if address is None:
            raise _not_run_yet(config)
        link = format_invite(normal_url(address), secret)
        expires_ms = now_ms + int(hours * 3_600_000)
        row = database.write_now(
            lambda tx: admin.create_invite(
                tx,
                name,
                invite_hash(secret),
                now_ms=now_ms,
                expires_ms=expires_ms,
                max_bytes=max_bytes,
                max_devices=devices,
                default_bytes=config.account_bytes,
                default_devices=config.account_devices,
            )
        )
    if as_json:
        _print_json({"link": link, "account": row.name, "expires_ms": expires_ms, "max_bytes": row.max_bytes,
                     "max_devices": row.max_devices})  # fmt: skip
        return
    click.echo(link)
    if qr:
        import segno

        segno.make(link, error="m").terminal(sys.stdout, compact=True)
    click.echo(
        f"Use it once within {hours:g} hours:  hybridgw relay add '{link}'\n"
        f"Account {row.name}: {_bytes(row.max_bytes)}, {row.max_devices} devices.", err=True,
    )  # fmt: skip
    if _is_of_this_machine(address):
        click.echo(
            "It works for devices on this machine only. For others serve with the address that they dial, like "
            f"--public-url {_example_url(address)}", err=True,
        )  # fmt: skip


def _not_run_yet(config: configuration.Config) -> BadValue:
    return BadValue(
        f"No relay has run in {config.data} yet, so its address is not known. Start it, or say "
        "--url https://relay.example.com."
    )


# ---- accounts --------------------------------------------------------------------------------------------------------
@cli.group(invoke_without_command=True)
@DATA_OPTION
@JSON_OPTION
@click.pass_context
def accounts(context: click.Context, DATA_DIR: str | None, as_json: bool) -> None:
    """List accounts, or change one: set, rename, remove."""
    from .stores import admin

    if context.invoked_subcommand:
        context.obj = DATA_DIR
        return
    with _open(_load(DATA_DIR=DATA_DIR)) as database:
        rows = database.peek(admin.accounts)
    if as_json:
        _print_json({"items": [asdict(row) for row in rows]})
        return
    if not rows:
        click.echo("No accounts yet: 'hybridgw-relay invite' makes the first.", err=True)
    for row in rows:
        click.echo(
            f"{row.name:<32} {_bytes(row.used_bytes):>10} of {_bytes(row.max_bytes):<10} "
            f"{row.active_devices:>4} of {row.max_devices} devices"
            + ("" if row.used_bytes or row.active_devices else "  (nobody has come with its invite yet)")
        )


@accounts.command("set")
@DATA_OPTION
@click.argument("name")
@click.option("--bytes", "size", metavar="SIZE", help="Room, like 500M or 2G.")
@click.option("--devices", type=click.IntRange(1, 100_000), help="Active devices.")
@click.pass_obj
def accounts_set(before: str | None, DATA_DIR: str | None, name: str, size: str | None, devices: int | None) -> None:
    """Change what the account NAME may use."""
    from .stores import admin

    max_bytes = _size(size)
    row = _change(DATA_DIR or before, lambda tx: admin.set_quota(tx, name, max_bytes=max_bytes, max_devices=devices))
    click.echo(f"{row.name}: {_bytes(row.max_bytes)}, {row.max_devices} devices")


@accounts.command("rename")
@DATA_OPTION
@click.argument("name")
@click.argument("new_name")
@click.pass_obj
def accounts_rename(before: str | None, DATA_DIR: str | None, name: str, new_name: str) -> None:
    """Give the account NAME another name."""
    from .stores import admin

    row = _change(DATA_DIR or before, lambda tx: admin.rename_account(tx, name, new_name))
    click.echo(row.name)


@accounts.command("remove")
@DATA_OPTION
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def accounts_remove(before: str | None, DATA_DIR: str | None, name: str, yes: bool) -> None:
    """Remove the account NAME and everything that its devices stored here; the devices keep their own copies."""
    from .stores import admin

    if not yes:
        click.confirm(f"Remove {name} and all its sealed data from this relay?", abort=True, err=True)
    row = _change(DATA_DIR or before, lambda tx: admin.remove_account(tx, name))
    click.echo(f"Removed {row.name}: {_bytes(row.used_bytes)}.")


# ---- what is stored --------------------------------------------------------------------------------------------------
@cli.command()
@DATA_OPTION
@click.option("--full", is_flag=True, help="One raw row of each table, too.")
@JSON_OPTION
def audit(DATA_DIR: str | None, full: bool, as_json: bool) -> None:
    """Show exactly what this relay stores."""
    from .stores import admin

    config = _load(DATA_DIR=DATA_DIR)
    with _open(config) as database:
        found = database.peek(admin.audit)
    if as_json:
        _print_json(found)
        return
    for space in found["spaces"]:
        _print_space(space)
    if full:
        click.echo("Tables, with one raw row each (bytes as hex):")
        for name, table in found["tables"].items():
            click.echo(f"  {name}: {table['rows']} rows")
            for column, value in (table["sample"] or {}).items():
                click.echo(f"    {column} = {value}")
        click.echo("")
    click.echo("Nothing here can be read: documents, collections and device names are sealed with keys that only the")
    click.echo("devices have. What the relay does see: which device stored how much and when, and the padded sizes.")
    if not full:
        click.echo(f"One raw row of each table: {_command(config, 'audit --full')}")


def _print_space(space: dict[str, Any]) -> None:
    click.echo(f"Space {space['space']}, account {space['account']}, since {_time(space['created_ms'])}")
    batches = "batch" if space["batches"] == 1 else "batches"
    click.echo(
        f"  {space['batches']} sealed {batches}, {_bytes(space['batch_bytes'])}, from {_time(space['first_batch_ms'])} "
        f"to {_time(space['last_batch_ms'])}; {space['control_records']} control records, "
        f"{_bytes(space['control_bytes'])}"
    )
    for device in space["devices"]:
        state = "active" if device["active"] else "out"
        click.echo(f"  device {_as_devices_show_it(device['device'])}  {state}, seen {_time(device['seen_ms'])}")
    for log in space["logs"]:
        click.echo(
            f"  log {log['log'] % 2**64:016x} of {_as_devices_show_it(log['device'])}: batch {log['n']}, "
            f"{log['hash'][:16]}…"
        )
    click.echo("")


def _as_devices_show_it(device: str) -> str:
    """The fingerprint in `hybridgw devices`, of a device id in hex."""
    return "-".join(device[at : at + 4] for at in range(0, 16, 4))


@cli.command()
@DATA_OPTION
@JSON_OPTION
def stats(DATA_DIR: str | None, as_json: bool) -> None:
    """Sums over the whole relay."""
    import shutil

    from .stores import admin

    config = _load(DATA_DIR=DATA_DIR)
    with _open(config) as database:
        found = asdict(database.peek(lambda connection: admin.totals(connection, _now_ms())))
    paths = [Path(f"{config.database}{suffix}") for suffix in ("", "-wal")]
    found["file_bytes"] = sum(path.stat().st_size for path in paths if path.exists())
    found["free_bytes"] = shutil.disk_usage(config.database.parent).free
    if as_json:
        _print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name:<16} {_bytes(value) if name.endswith('bytes') else value}")


# ---- small things ----------------------------------------------------------------------------------------------------
def _open(config: configuration.Config) -> AbstractContextManager[InlineDatabase]:
    from .stores import admin

    return admin.opened(config.database, stamp=_stamp())


def _change(data: str | None, fn: Callable[[Tx], AccountRow]) -> AccountRow:
    with _open(_load(DATA_DIR=data)) as database:
        return database.write_now(fn)


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else configuration.parse_size(text)
    except BadValue as error:
        raise click.BadParameter(f"it {error.message}", param_hint="--bytes") from error


def _print_json(content: object) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _bytes(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def _time(at_ms: int | None) -> str:
    return "never" if not at_ms else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _show_usage(error: click.ClickException) -> None:
    """What was wrong first, then how it is used: as `hybridgw` does."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) or context is None:
        error.show()
        return
    click.echo(f"error: {error.format_message()}", err=True)
    click.echo(f"Usage: {context.command_path} {' '.join(context.command.collect_usage_pieces(context))}", err=True)
    click.echo(f"More: {context.command_path} --help", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; ends the process."""
    try:
        cli.main(args=arguments, prog_name="hybridgw-relay", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(1)
    except click.ClickException as error:
        _show_usage(error)
        sys.exit(error.exit_code)
    except HybridGWError as error:
        click.echo(f"error: {error.message}", err=True)
        sys.exit(3 if isinstance(error, NotRunning) else 1)
    except OSError as error:  # met by what reads the configuration, opens the database or prints
        from hybridgw_storage.refused import refused

        named = refused(Path(str(error.filename)), error).message if error.filename else f"{error.strerror or error}."
        click.echo(f"error: {named}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
