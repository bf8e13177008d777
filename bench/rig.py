"""The product's own processes as a person starts them: a relay, daemons, and devices paired through it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .load import Api
from .processes import ROOT, Processes, free_port, wait_for_health

PAIRING_S: Final = 30.0
SETTLED_S: Final = 120.0
POLL_S: Final = 0.002


class Relay:
    """A relay process: closed by default, so every space comes with an invite."""

    def __init__(self, processes: Processes, *, public_port: int | None = None) -> None:
        """Args: public_port: the port that devices dial, if something stands between."""
        self._processes = processes
        self.home = processes.home("relay")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{public_port or self.port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = self._processes.start(
            [
                "-m", "hybridgw_relay", "serve", "--data", str(self.home), "--host", "127.0.0.1", "--port",
                str(self.port), "--public-url", self.url,
            ],
            home=self.home,
        )  # fmt: skip
        wait_for_health(self.port)
        return process

    def invite(self, *, devices: int = 1_000) -> str:
        """A link that admits one space."""
        done = subprocess.run(
            [sys.executable, "-m", "hybridgw_relay", "invite", "--data", str(self.home), "--url", self.url,
             "--devices", str(devices), "--bytes", "20G", "--json"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return str(json.loads(done.stdout)["link"])

    def stop(self) -> None:
        """End it in order."""
        self._processes.stop(self.process)


class Daemon:
    """A daemon process with a profile of its own. Its keys are in a file, so that no keyring is asked."""

    def __init__(
        self, processes: Processes, name: str = "device", environment: Mapping[str, str] | None = None
    ) -> None:
        self._processes, self._environment = processes, environment
        self.home = processes.home(name)
        self.port = free_port()
        self.start_s = 0.0
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start it; `start_s` is the time from exec to the first 200 of /health."""
        begun = time.perf_counter()
        self.process = self._processes.start(
            [
                "-m", "hybridgw_daemon", "--home", str(self.home), "--port", str(self.port),
                "--secret-store", "insecure-file",
            ],
            home=self.home, environment=self._environment,
        )  # fmt: skip
        wait_for_health(self.port)
        self.start_s = time.perf_counter() - begun
        endpoint = self.home / "endpoint.json"
        while not endpoint.exists():
            time.sleep(POLL_S)
        self.api = Api(self.port, json.loads(endpoint.read_text())["token"])
        return self.process

    def stop(self) -> None:
        """End it in order."""
        self._processes.stop(self.process)

    async def ready(self) -> None:
        """Wait until its keys are open and sync runs."""
        await self._until(lambda status: status["state"] != "locked", "open its keys")

    async def status(self) -> dict[str, Any]:
        """Where sync stands."""
        return await self.api.call("GET", "/api/sync/status")  # type: ignore[no-any-return]

    async def settled(self) -> None:
        """Wait until everything is in step."""
        await self._until(lambda status: status["state"] == "in_step", "come into step")

    async def sealed(self) -> None:
        """Wait until no write is left to seal."""
        await self._until(lambda status: not status["pending"], "seal its writes")

    async def alone(self) -> None:
        """Wait until no relay is connected."""
        await self._until(lambda status: status["path"] == "none", "leave its relay")

    async def _until(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + SETTLED_S
        while not holds(status := await self.status()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.home.name} did not {what}: {status}")
            await asyncio.sleep(0.02)

    async def write(self, bodies: Any) -> int:
        """Send bodies of `POST /api/data`. Returns how many writes they held."""
        count = 0
        for body in bodies:
            count += len((await self.api.call("POST", "/api/data", body))["items"])
        return count

    @property
    def database(self) -> Path:
        """Its replica's file; the bench only reads it."""
        return self.home / "hybridgw.db"

    def watch(self) -> Watch:
        """A look into the file from outside."""
        return Watch(self.database)


class Watch:
    """Reads what is durable in a daemon's file, without asking the daemon: costs it nothing."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def changes(self) -> int:
        """The change counter: goes up by one with every operation that is applied and durable."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = 'seq'").fetchone()
        return int(row[0]) if row else 0

    def rows(self) -> list[tuple[Any, ...]]:
        """What the documents show, in the order of their ids."""
        return self._connection.execute("SELECT id, cl, body FROM document ORDER BY cid, id").fetchall()

    async def until(self, changes: int) -> float:
        """Wait for the counter. Returns the time it was seen, of the performance counter. Raises: TimeoutError."""
        deadline = time.perf_counter() + SETTLED_S
        while (now := self.changes()) < changes:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{now} of {changes} changes came in {SETTLED_S:.0f} s")
            await asyncio.sleep(POLL_S)
        return time.perf_counter()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


async def add_relay(daemon: Daemon, link: str) -> None:
    """`hybridgw relay add LINK`, and wait until it is connected."""
    await daemon.api.call("POST", "/api/relays", {"link": link})
    await daemon.settled()


async def pair(first: Daemon, second: Daemon) -> None:
    """Pair two devices by a code, as two persons would; both compare the words and agree."""
    offer = await first.api.call("POST", "/api/devices/pair", {})
    joined = await second.api.call("POST", "/api/devices/pair/join", {"code": offer["code"], "name": second.home.name})
    ends = [(first, offer["id"]), (second, joined["id"])]
    deadline = time.monotonic() + PAIRING_S
    agreed: set[int] = set()
    while True:
        states = [await daemon.api.call("GET", f"/api/devices/pair/{number}") for daemon, number in ends]
        if all(state["state"] == "done" for state in states):
            break
        if any(state["state"] == "failed" for state in states) or time.monotonic() > deadline:
            raise RuntimeError(f"pairing failed: {states}")
        for index, ((daemon, number), state) in enumerate(zip(ends, states, strict=True)):
            if state["state"] == "confirm" and index not in agreed:
                agreed.add(index)
                await daemon.api.call("POST", f"/api/devices/pair/{number}/confirm", {"accept": True})
        await asyncio.sleep(0.02)
    await first.settled()
    await second.settled()


async def paired(processes: Processes, count: int = 2) -> tuple[Relay, list[Daemon]]:
    """A relay and so many devices of one space, connected and in step."""
    relay = Relay(processes)
    daemons = [Daemon(processes) for _ in range(count)]
    for daemon in daemons:
        await daemon.ready()
    await add_relay(daemons[0], relay.invite())
    for other in daemons[1:]:
        await pair(daemons[0], other)
    return relay, daemons
