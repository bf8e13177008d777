"""A lock on a file, held by one process: two daemons on one profile, or two relays on one folder, would each believe
that what they know is all there is.

The lock is one of the operating system and ends with the process, however that ends: a left-over file means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hybridgw_protocol.errors import StorageUnavailable

from .refused import refused

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_MAX_NOTE_BYTES: Final = 4096
_LOCK_AT: Final = 1 << 30  # Windows locks bytes: one far behind the content, so that others can read it


class Held(Exception):
    """Another process has the lock. note: what it wrote into the file, b"" if that cannot be read."""

    def __init__(self, note: bytes) -> None:
        super().__init__()
        self.note = note


@contextlib.contextmanager
def hold(path: Path, note: bytes) -> Iterator[None]:
    """Hold the lock for as long as the context lasts. Args: note: who holds it, for the one that is refused.

    Raises: Held; DiskFull, StorageUnavailable: the file cannot be opened or written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise refused(path, error) from error
    try:
        if not _try_lock(handle):
            raise Held(_read_note(handle))
        try:
            os.ftruncate(handle, 0)
            os.write(handle, note)
        except OSError as error:
            raise refused(path, error) from error
        yield
    finally:
        os.close(handle)  # lets go of the lock


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(handle, _LOCK_AT, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise StorageUnavailable(f"This file system has no locks ({error.strerror}); choose another folder.") from error
    return True


def _read_note(handle: int) -> bytes:
    with contextlib.suppress(OSError):
        os.lseek(handle, 0, os.SEEK_SET)
        return os.read(handle, _MAX_NOTE_BYTES)
    return b""
