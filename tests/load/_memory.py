"""Is the memory of a process flat? Samples of it over time, and a slope that single steps do not bend."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil

SAMPLE_S = 0.5


class Sample(NamedTuple):
    """at_s: since the first one; cpu_s: used so far."""

    at_s: float
    rss_bytes: int
    cpu_s: float


async def watch(pid: int, samples: list[Sample]) -> None:
    """Take samples until cancelled, or until the process has ended."""
    process, begun = psutil.Process(pid), time.monotonic()
    while process.is_running():
        try:
            cpu = process.cpu_times()
            samples.append(Sample(time.monotonic() - begun, process.memory_info().rss, cpu.user + cpu.system))
        except psutil.NoSuchProcess:
            return
        await asyncio.sleep(SAMPLE_S)


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """Bytes per second, as most pairs of samples see it (Theil and Sen): a step up or down is not a slope.

    Args: samples: (seconds, bytes), those of the warm-up left out.
    """
    apart = max(1, len(samples) // 4)  # close neighbours say only how rough the line is
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(samples)
        for later in samples[index + apart :]
    ]
    return statistics.median(slopes)
