"""Two hundred programs of every kind at one real daemon: nothing fails, nobody waits for ever, nothing acknowledged is
lost, and memory is flat."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import uvloop

from tests.integration._local_api import Process
from tests.load._memory import growth
from tests.load.mixed_load import MIX, Outcome, run

SECONDS = 60
WARM_UP_S = 20  # caches fill, buffers of sessions too
"""Growth that is no leak: what a minute can show beside the noise, and what ten minutes can."""
FLAT_BYTES_PER_S = 40 * 1024


def mixed_load(home: Path, seconds: float, module: str = "hybridgw_daemon") -> Outcome:
    """A run on a daemon of its own."""
    process = Process(home, "--secret-store", "insecure-file", module=module)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(process, seconds))
    finally:
        if process.process.poll() is None:
            process.kill()
