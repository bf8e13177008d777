"""Programs that a test begins with less than it has: what root may do, no person may; and no disk is full."""

from __future__ import annotations

import ctypes
import resource
import signal
from typing import Final

_PR_CAPBSET_DROP: Final = 24
_CAPABILITIES: Final = (1, 2, 10)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE
_LIBC: Final = ctypes.CDLL(None)


def as_anybody() -> None:
    """For `preexec_fn`: the modes of files and the bounds of ports hold for the program even if root begins it."""
    for capability in _CAPABILITIES:
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused to all but root, who alone has them


def on_a_full_disk() -> None:
    """For `preexec_fn`: no file takes a byte, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
