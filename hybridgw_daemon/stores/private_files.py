"""Small files that only their owner may read: written whole or not at all, and durable when the call returns.

On Windows the modes mean little; there the folder below the user's profile is what keeps others out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from hybridgw_protocol.errors import AlreadyExists, StorageUnavailable
from hybridgw_storage.refused import refused


def read_private(path: Path, most_bytes: int) -> bytes | None:
    """The content, or None if there is no such file. Raises: StorageUnavailable: unreadable, or too long to be ours."""
    try:
        with open(path, "rb") as file:
            data = file.read(most_bytes + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused(path, error) from error
    if len(data) > most_bytes:
        raise StorageUnavailable(f"{path} is not a file of HybridGW: it has more than {most_bytes} bytes.")
    return data


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Write *path* with mode 0600, its folder made with 0700 if need be; after a crash the old or the new is there.

    Raises: AlreadyExists: there is one and *replace* is false (it is left alone); DiskFull; StorageUnavailable.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise refused(path, error) from error
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                _move_new(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise AlreadyExists(f"{path} exists already and is not overwritten.") from error
    except OSError as error:
        raise refused(path, error) from error


def is_readable_by_others(path: Path) -> bool:
    """May another user of this machine read or write the file. False where modes mean nothing."""
    if os.name == "nt":
        return False
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False


def _move_new(temporary: Path, path: Path) -> None:
    """Give the finished file its name, never over an existing one."""
    try:
        os.link(temporary, path)  # atomic, and refuses where rename would replace
    except FileExistsError:
        raise
    except (OSError, NotImplementedError, AttributeError):  # no hard links on this file system (exFAT, some mounts)
        if path.exists():
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def _sync_folder(folder: Path) -> None:
    """Make a new name in *folder* durable; Windows has no such call and does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some mounts cannot sync a folder
            raise
    finally:
        os.close(handle)
