"""The built JavaScript client, pages that are served from another origin, and daemons that they may reach."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests import _node
from tests.e2e.machines import DeviceMachine, RelayMachine
from tests.integration._local_api import Process
from tests.integration._local_api import daemon as process


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clients/js with its dist."""
    return _node.built(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make extension` makes."""
    return _node.extension(tmp_path_factory.getbasetemp())


class Owner:
    """A daemon of its own, and the person in front of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running: Any = None
        self._process: Process | None = None
        self.url = ""
        self.token = ""

    def up(self) -> None:
        """Start it; again on the port it had."""
        more = ("--port", self.url.rpartition(":")[2]) if self.url else ()
        self._running = process(self.home, "--secret-store", "insecure-file", *more)
        self._process = self._running.__enter__()
        endpoint = self._process.ready()
        self.url, self.token = endpoint.url, endpoint.token.reveal()

    def down(self) -> None:
        """End it as the system does."""
        if self._running is not None and self._process is not None:
            self._process.stop()
            self._running.__exit__(None, None, None)
            self._running = None

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """As the command line does it."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body, headers=headers) as answer,
        ):
            return await answer.json()

    async def waiting(self) -> list[dict[str, Any]]:
        """Apps that ask to be let in."""
        found = await self.call("GET", "/api/auth/grants")
        return [grant for grant in found["items"] if grant["state"] == "pending"]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """A daemon that runs."""
    made = Owner(tmp_path / "home")
    made.up()
    yield made
    made.down()


@asynccontextmanager
async def served(folder: Path, certificate: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A folder on a web server of its own: the origin of a foreign page."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>e</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/empty", empty)
    app.router.add_static("/", folder)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate).start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}"
    finally:
        await end(runner)


async def end(runner: web.AppRunner) -> None:
    """Stop a server of a test. What a browser that is gone has left open is cut: with TLS it would be waited for."""
    for handler in runner.server.connections if runner.server else ():
        if handler.transport is not None:
            handler.transport.abort()
    await runner.cleanup()


@pytest.fixture
async def site(built: Path) -> AsyncIterator[str]:
    """The folder clients/js."""
    async with served(built) as url:
        yield url


@pytest.fixture
async def other_site(built: Path) -> AsyncIterator[str]:
    """The same on another port: to a browser, another origin."""
    async with served(built) as url:
        yield url


def environment() -> dict[str, str]:
    """For Node: nothing of the person's own profile."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("HYBRIDGW_", "NODE_"))}


class House:
    """A relay and two devices that do not know each other."""

    def __init__(self, root: Path) -> None:
        self.relay = RelayMachine(root)
        self.a, self.b = DeviceMachine(root, "a"), DeviceMachine(root, "b")

    def up(self) -> None:
        """Start all."""
        self.relay.start()
        self.a.start()
        self.b.start()

    def down(self) -> None:
        """End all."""
        for machine in (self.a, self.b, self.relay):
            if machine.process is not None:
                machine.kill()

    def link(self, device: DeviceMachine) -> str:
        """To its dashboard."""
        with device.client() as client:
            return str(client.endpoint.url + client.post("/api/auth/dashboard/links", {})["path"])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """They run."""
    made = House(tmp_path / "house")
    try:
        made.up()
        yield made
    finally:
        made.down()
