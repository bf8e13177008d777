"""Two devices and a relay: pair by code, sync both ways, what was written before comes along, in step."""

from __future__ import annotations

from pathlib import Path

from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_protocol.invite import format_invite

from .devices import Device, invite, pair, relay, until


async def test_pair_sync_conflict(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", "laptop"), Device(tmp_path / "b", "phone")
    async with relay(tmp_path / "relay") as (url, database), a.running(), b.running():
        await a.write(Create("tasks", "one", {"title": "milk"}), Create("settings", "theme", {"dark": True}))
        await b.write(Create("tasks", "two", {"title": "written before pairing"}))
        await a.relays.add(format_invite(url, await invite(database())))
        await pair(a, b)
        await until(lambda: len(a.shown()) == 3 and a.shown() == b.shown())
        assert sorted(d.name for d in await a.devices.list()) == ["laptop", "phone"]
        assert (await b.sync.trigger(timeout_s=30)).status == "done"
        await a.write(Edit("tasks", "one", {"title": "bread"}))
        await until(lambda: a.shown() == b.shown() and "bread" in str(b.shown()))
        assert (await a.sync.trigger(timeout_s=30)).status == "done"
        status = await a.sync.status()
        assert status.state == "in_step"
        assert status.relays[0].rtt_ms is not None
        assert 0 <= status.relays[0].rtt_ms < 10_000
