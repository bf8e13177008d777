"""Memory that was freed goes back to the system: glibc keeps it, in holes, until it is asked."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed memory of this process to the system, where the C library can be asked to; some milliseconds, for
    which other threads that allocate may wait. Source: malloc_trim(3)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
