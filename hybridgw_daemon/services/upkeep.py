"""Upkeep: what a service does again and again, whatever became of the last turn."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from hybridgw_protocol.errors import HybridGWError, SecretsLocked

log = logging.getLogger(__name__)


async def keep_up(what: str, every_s: float, tend: Callable[[int], Awaitable[None]]) -> NoReturn:
    """Wait so long and do one turn; until cancelled. Args: what: for the log; tend: gets the turn's number, from 0."""
    for turn in itertools.count():
        await asyncio.sleep(every_s)
        try:
            await tend(turn)
        except SecretsLocked:
            continue
        except HybridGWError as error:  # a full disk: the next turn tries again
            log.warning("upkeep of %s failed: %s", what, error.code, extra={"event": f"{what}.upkeep"})
    raise AssertionError("numbers have no end")
