"""A turn that fails is told, and does not end the upkeep."""

from __future__ import annotations

import asyncio

import pytest

from hybridgw_daemon.services.upkeep import keep_up
from hybridgw_protocol.errors import DiskFull, SecretsLocked


async def test_a_turn_that_fails_is_told_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []
    ends = (DiskFull("planted"), SecretsLocked("planted"), None, asyncio.CancelledError())

    async def tend(turn: int) -> None:
        turns.append(turn)
        if (end := ends[turn]) is not None:
            raise end

    with pytest.raises(asyncio.CancelledError):
        await keep_up("things", 0, tend)
    assert turns == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == ["upkeep of things failed: disk_full"]


async def test_a_fault_of_ours_ends_it() -> None:
    async def tend(_turn: int) -> None:
        raise KeyError("planted")

    with pytest.raises(KeyError):
        await keep_up("things", 0, tend)
