"""Where a profile's files are, and making its folders so that only their owner can read them."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from hybridgw_protocol.errors import StorageUnavailable
from hybridgw_protocol.runtime import APP_NAME, ENDPOINT_NAME, PORT_NAME, Folders, folders

PRIVATE_DIR: Final = 0o700


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one profile. home: set when all of them are in one folder."""

    home: Path | None
    config: Path
    data: Path
    state: Path
    logs: Path

    @property
    def config_file(self) -> Path:
        """Settings the person wrote; never written by the daemon."""
        return self.config / "config.toml"

    @property
    def database(self) -> Path:
        """The replica."""
        return self.data / "hybridgw.db"

    @property
    def lock(self) -> Path:
        """Held while a daemon serves this profile; beside the database, because that is what it protects."""
        return self.data / "daemon.lock"

    @property
    def endpoint(self) -> Path:
        """How local programs reach the daemon; there while it runs."""
        return self.state / ENDPOINT_NAME

    @property
    def port(self) -> Path:
        """The port chosen at first start."""
        return self.state / PORT_NAME

    @property
    def log_file(self) -> Path:
        """JSON lines in production, readable ones in development."""
        return self.logs / "daemon.log"


def find(home: str | None) -> Paths:
    """The paths of a profile. Args: home: --home or HYBRIDGW_HOME; None: the platform's own user folders."""
    absolute = os.path.abspath(os.path.expanduser(home)) if home else None  # a daemon must not depend on its cwd
    dirs = platformdirs.PlatformDirs(APP_NAME, appauthor=False)
    found: Folders = folders(
        absolute,
        config=dirs.user_config_dir,
        data=dirs.user_data_dir,
        state=dirs.user_state_dir,
        logs=dirs.user_log_dir,
    )
    return Paths(Path(absolute) if absolute else None, *map(Path, found))


def make(paths: Paths) -> None:
    """Make the folders that are written, for their owner alone.

    Raises: StorageUnavailable: a folder cannot be made or written, or belongs to somebody else.
    """
    for folder in dict.fromkeys((paths.data, paths.state, paths.logs)):
        _make_private(folder)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIR)
        about = folder.stat()
        if sys.platform != "win32":
            if about.st_uid != os.getuid():
                raise StorageUnavailable(
                    f"The folder {folder} belongs to another user; a profile is its owner's alone. "
                    "Choose another one with --home."
                )
            if stat.S_IMODE(about.st_mode) & 0o077:
                folder.chmod(PRIVATE_DIR)
    except FileExistsError as error:
        raise StorageUnavailable(
            f"The folder {folder} cannot be made: there is a file of that name. Choose another one with --home."
        ) from error
    except OSError as error:
        raise StorageUnavailable(
            f"The folder {folder} cannot be made or made private: {error.strerror}. Choose another one with --home."
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        is_closed = stat.S_IMODE(about.st_mode) & PRIVATE_DIR != PRIVATE_DIR  # else the disk may be read-only
        helps = f"Run chmod u+rwx {shlex.quote(str(folder))} or choose" if is_closed else "Choose"
        raise StorageUnavailable(f"The folder {folder} cannot be written by this user. {helps} another with --home.")
