"""Random bytes in advance, for what is asked for thousands of times a second: the ids of new documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POOL_BYTES: Final = 4096


class EntropyPool:
    """Hands out bytes of *source*, which it asks for POOL_BYTES at a time; each byte is given once.

    Not for keys and nonces: a machine that is copied while it runs gives the same bytes twice. An id carries its time
    as well, and two documents of one id merge like any other two writes.
    Why: every call of the system's source hands the interpreter to another thread, and waits to get it back.
    """

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Args: count: at most POOL_BYTES."""
        if self._at + count > len(self._bytes):
            self._bytes, self._at = self._source(POOL_BYTES), 0
        taken = self._bytes[self._at : self._at + count]
        self._at += count
        return taken
