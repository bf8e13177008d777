"""A blocking call with a time limit, for libraries that may wait for ever on a prompt nobody sees.

A thread cannot be stopped from outside, so a call that hangs is left behind in a daemon thread, which holds up neither
the caller nor the end of the process. While it hangs, no second call is made: one forgotten prompt is enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class TimeLimited:
    """Runs calls one at a time, each for at most `limit_s` seconds."""

    def __init__(self, limit_s: float, name: str) -> None:
        self._limit_s = limit_s
        self._name = name
        self._busy = threading.Lock()

    def call(self, function: Callable[[], T]) -> T:
        """What *function* returns or raises. Raises: TimeoutError: it, or an earlier one, has not come back in time."""
        # concurrent.futures' own pools are no use here: their threads are joined when the process ends.
        if not self._busy.acquire(timeout=self._limit_s):
            raise TimeoutError
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - goes to the caller, as in any executor
                future.set_exception(error)
            finally:
                self._busy.release()

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future.result(self._limit_s)
