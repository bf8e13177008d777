"""What the operating system said of a file, as an error of ours: what, why, and what to do next."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from hybridgw_protocol.errors import DiskFull, StateError, StorageUnavailable

# No space, a quota, or a limit of the process: the file may not grow.
_FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG})


def refused(path: Path, error: OSError) -> StateError:
    """The error to raise for one of the system's, met at *path*."""
    if error.errno in _FULL:
        return DiskFull(f"No space left for {path.name}; nothing was half-written. Free some space and try again.")
    return StorageUnavailable(
        f"{path} cannot be read or written ({error.strerror or error}). Check its owner and folder."
    )
