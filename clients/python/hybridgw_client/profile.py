"""Where a profile is, and which process serves it: nothing is sent to a port before that is known.

A port alone proves nothing: after a crash the endpoint file may be left over and another program may listen there. The
daemon's lock tells: the operating system lets go of it when the process ends, however it ends. The owner's token goes
only to the process that holds the lock of this profile and wrote this endpoint file.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hybridgw_protocol.errors import NotRunning, StateError
from hybridgw_protocol.runtime import (
    APP_NAME,
    ENDPOINT_NAME,
    HOME_VARIABLE,
    PORT_NAME,
    Endpoint,
    Folders,
    decode_endpoint,
    folders,
)

LOCK_NAME: Final = "daemon.lock"
DATABASE_NAME: Final = "hybridgw.db"
LOG_NAME: Final = "daemon.log"
CONFIG_NAME: Final = "config.toml"
_MAX_ENDPOINT_BYTES: Final = 64 * 1024
LOOKS: Final = 3  # the table of locks is read page by page: one that is let go of meanwhile may hide the next
START_S: Final = 30.0  # a daemon listens sooner after it has taken the lock, into which it writes its name then


@dataclass(frozen=True, slots=True)
class Profile:
    """One person's installation: its folders. home: set when all are in one."""

    home: str | None
    folders: Folders

    @property
    def endpoint(self) -> Path:
        """There while a daemon runs; readable by its owner only."""
        return Path(self.folders.state, ENDPOINT_NAME)

    @property
    def port(self) -> int | None:
        """The port that it keeps from one start to the next; None: it has none yet."""
        try:
            return int(Path(self.folders.state, PORT_NAME).read_bytes())
        except (OSError, ValueError):
            return None

    @property
    def lock(self) -> Path:
        """Held by the daemon."""
        return Path(self.folders.data, LOCK_NAME)

    @property
    def database(self) -> Path:
        """The replica; belongs to the daemon."""
        return Path(self.folders.data, DATABASE_NAME)

    @property
    def log(self) -> Path:
        """What the daemon logs."""
        return Path(self.folders.logs, LOG_NAME)

    @property
    def config(self) -> Path:
        """What the person configured; need not exist."""
        return Path(self.folders.config, CONFIG_NAME)

    def to_command(self, command: str) -> str:
        """A command of ours as the person has to type it for this profile, for messages."""
        if self.home is None or self.home == _absolute(os.environ.get(HOME_VARIABLE)):
            return f"hybridgw {command}"
        return f"hybridgw --home {shlex.quote(self.home)} {command}"  # absolute: it is typed anywhere


def find_profile(home: str | os.PathLike[str] | None = None) -> Profile:
    """The profile of this user. Args: home: one folder for all; None: HYBRIDGW_HOME, else the platform's folders."""
    absolute = _absolute(os.fspath(home) if home else os.environ.get(HOME_VARIABLE))
    if absolute:
        return Profile(absolute, folders(absolute, config="", data="", state="", logs=""))
    import platformdirs  # noqa: PLC0415 - not needed with a home

    dirs = platformdirs.PlatformDirs(APP_NAME, appauthor=False)
    return Profile(
        None,
        folders(
            None,
            config=dirs.user_config_dir,
            data=dirs.user_data_dir,
            state=dirs.user_state_dir,
            logs=dirs.user_log_dir,
        ),
    )


def _absolute(home: str | None) -> str | None:
    return os.path.abspath(os.path.expanduser(home)) if home else None


def find_endpoint(profile: Profile) -> Endpoint:
    """How to reach the running daemon of this profile.

    Raises: NotRunning: none runs, or it is still starting; StateError: the file is not its owner's alone, or names a
    place that is not on this machine: no token is sent then.
    """
    try:
        with profile.endpoint.open("rb") as file:
            about = os.fstat(file.fileno())
            raw = file.read(_MAX_ENDPOINT_BYTES)
    except OSError as error:
        raise _not_running(profile, error) from error
    if sys.platform != "win32" and (about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077):
        raise StateError(
            f"{profile.endpoint} is open to other users of this machine, so it is not trusted. "
            f"Restart the daemon, which writes it anew: {profile.to_command('down')}; {profile.to_command('up')}",
        )
    try:
        endpoint = decode_endpoint(raw)
    except NotRunning as error:
        if (pid := holder(profile)) is None:
            raise
        raise _lost(profile, pid, "cannot be read") from error
    if not is_loopback(endpoint.url):
        raise StateError(f"{profile.endpoint} names {endpoint.url}, which is not on this machine: not trusted.")
    if not is_alive(profile, endpoint.pid):
        raise NotRunning(
            f"No daemon runs for this profile (the one that wrote {profile.endpoint} has ended). "
            f"Start it: {profile.to_command('up')}"
        )
    return endpoint


def _not_running(profile: Profile, error: OSError) -> NotRunning | StateError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if (pid := holder(profile)) is not None:
            if _is_starting(profile):
                return NotRunning(f"The daemon (process {pid}) is starting; try again in a moment.")
            return _lost(profile, pid, "is not there")
        return NotRunning(f"No daemon runs for this profile. Start it: {profile.to_command('up')}")
    return StateError(f"{profile.endpoint} cannot be read: {error.strerror}.")


def _lost(profile: Profile, pid: int, how: str) -> NotRunning:
    """It runs and cannot be reached; another one could not start. Args: pid: of the daemon that holds the lock."""
    return NotRunning(
        f"A daemon runs (process {pid}), but {profile.endpoint}, which tells how to reach it, {how}. "
        f"Restart it: {profile.to_command('down')}, then {profile.to_command('up')}",
        lost_pid=pid,
    )


def _is_starting(profile: Profile) -> bool:
    """Did whoever holds the lock take it so lately that it may not listen yet."""
    try:
        return time.time() - profile.lock.stat().st_mtime < START_S
    except OSError:
        return False


def holder(profile: Profile) -> int | None:
    """The process that holds this profile's lock; None if nobody does, or the system does not tell.

    Linux tells without touching the lock. To try it would make a daemon that starts at that moment believe that it is
    the second one.
    """
    for _ in range(LOOKS):
        if (found := _holder_as_told_now(profile)) is not None:
            return found
    return None


def _holder_as_told_now(profile: Profile) -> int | None:
    try:
        held = profile.lock.stat()
        table = Path("/proc/locks").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    place = f"{os.major(held.st_dev):02x}:{os.minor(held.st_dev):02x}:{held.st_ino}"
    same_inode: int | None = None
    for line in table.splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE 4312 fe:00:2146435 0 EOF
        if len(words) < 8 or words[1] != "FLOCK" or words[3] != "WRITE" or not words[4].isdigit():
            continue
        if words[5] == place:
            return int(words[4])
        if words[5].rpartition(":")[2] == str(held.st_ino):
            same_inode = int(words[4])  # some file systems (btrfs, overlay) tell another device number
    return same_inode


def is_alive(profile: Profile, pid: int) -> bool:
    """Does this process, which wrote the endpoint file, still serve the profile.

    Where the system tells who holds the lock, that decides; elsewhere whether the process of this user is there.
    """
    if os.path.exists("/proc/locks"):
        return holder(profile) == pid
    if sys.platform == "win32":
        return profile.endpoint.exists()  # os.kill would end the process there
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or another user's: not our daemon
        return False
    return True


def is_loopback(url: str) -> bool:
    """Does this URL name this machine by a literal loopback address, over plain HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
