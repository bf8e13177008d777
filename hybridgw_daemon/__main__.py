"""`hybridgw-daemon`: one person's replica on this machine, served to local programs.

Stays in the foreground; `hybridgw up` starts it detached. Prints one line when it is ready, or one error. Exit codes:
0 ended in order, 1 error, 2 configuration or usage.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hybridgw_protocol.errors import ConfigInvalid, DatabaseDamaged, HybridGWError
from hybridgw_protocol.runtime import HOME_VARIABLE, VERSION

if TYPE_CHECKING:
    from .config import Config
    from .paths import Paths


def main(arguments: list[str] | None = None) -> int:
    """Run until stopped. Returns: the exit code."""
    given = _parser().parse_args(arguments)
    try:
        paths, config = _prepare(given)
    except ConfigInvalid as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 2
    except HybridGWError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    if given.check:
        return _check(paths, config)
    gc.disable()  # until it serves: what is loaded now stays, and looking through it costs 20 ms
    from .app import serve  # after what can be refused cheaply: it loads aiohttp

    return serve(paths, config, passphrase_fd=given.passphrase_fd)


def _check(paths: Paths, config: Config) -> int:
    """Look for what would keep the daemon from starting, as far as it can be seen without changing anything."""
    from hybridgw_storage.check import is_sound
    from hybridgw_storage.connection import HELPS

    from . import instance

    try:
        with instance.lock(paths, 0):
            for listening in instance.open_sockets(paths, config.server.port):
                listening.close()
            if paths.database.exists() and not is_sound(paths.database):
                raise DatabaseDamaged(f"{paths.database} is damaged. {HELPS}")
    except HybridGWError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


def _prepare(given: argparse.Namespace) -> tuple[Paths, Config]:
    from . import config, paths
    from .stores.secrets_file import kept_kind

    found = paths.find(given.home or os.environ.get(HOME_VARIABLE) or None)
    paths.make(found)
    return found, config.load(
        file=found.config_file,
        environment=os.environ,
        flags={"SERVER_PORT": given.port, "SECRET_STORE": given.secret_store, "LOG_LEVEL": given.log_level},
        env_file=Path(given.env_file) if given.env_file else None,
        terminal=given.foreground,
        kept_store=kept_kind(found.data),
    )


def _descriptor(text: str) -> int:
    """One that is open before anything of ours is: later its number may be that of the database."""
    try:
        os.fstat(number := int(text))
    except (ValueError, OverflowError, OSError) as error:
        raise argparse.ArgumentTypeError(f"no descriptor {text} is open") from error
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybridgw-daemon", description="Serves one person's replica to the programs on this machine."
    )
    parser.add_argument("--home", metavar="DIR", help="one folder for the whole profile (HYBRIDGW_HOME)")
    parser.add_argument("--port", metavar="N", help="port of the local API; 0: any free one")
    parser.add_argument("--secret-store", metavar="KIND", help="keyring, passphrase or insecure-file")
    parser.add_argument(
        "--passphrase-fd", type=_descriptor, metavar="N", help="read the passphrase from this descriptor"
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument("--env-file", metavar="FILE", help="read settings like SERVER_PORT=8001 from this file")
    parser.add_argument("--foreground", action="store_true", help="log to the terminal as well")
    parser.add_argument("--check", action="store_true", help="only say what would keep it from starting")
    parser.add_argument("--version", action="version", version=f"hybridgw-daemon {VERSION}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
