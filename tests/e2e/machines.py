"""Real processes for end-to-end tests: a relay and daemons in folders of their own, ended by their id."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hybridgw_client.client import Client, connect
from hybridgw_protocol.errors import HybridGWError

from .forks import Forked

T = TypeVar("T")


def environment(folder: Path) -> dict[str, str]:
    """A bare environment: no keyring, no configuration, no home or network of whoever runs the tests."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "SYSTEMROOT") if key in os.environ}
    return {
        **kept,
        "HOME": str(folder),
        "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        "PYTHONUNBUFFERED": "1",
        "HYBRIDGW_LAN_ENABLED": "false",
    }


def until(look: Callable[[], T], *, seconds: float = 30.0, what: str = "") -> T:
    """Ask until the answer is true. Raises: AssertionError with what was last seen."""
    end = time.monotonic() + seconds
    seen: object = None
    while time.monotonic() < end:
        try:
            if found := look():
                return found
            seen = found
        except HybridGWError as error:
            seen = error
        time.sleep(0.02)
    raise AssertionError(f"{what or look} did not become true in {seconds} s; last: {seen!r}")


class Process:
    """One of our programs, restartable."""

    def __init__(self, arguments: list[str], folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.arguments, self.folder, self.name = [sys.executable, "-m", *arguments], folder, name
        self.extra: dict[str, str] = {}
        self.is_forked = False  # where one test starts it very often
        self.process: subprocess.Popen[str] | Forked | None = None
        self.log = folder.parent / f"{name}.out"

    def start(self, ready: str) -> str:
        """Start and wait for a line that matches *ready*; returns the match's first group."""
        env = environment(self.folder) | self.extra
        if self.is_forked:
            self.process = Forked(self.arguments, folder=self.folder, env=env, errors=self.log)
        else:
            with self.log.open("a") as errors:
                self.process = subprocess.Popen(
                    self.arguments, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=self.folder, env=env
                )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(ready, line):
                return found[1]
        raise AssertionError(f"{self.name} ended with {self.process.wait()}: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None
        return code


class RelayMachine(Process):
    """hybridgw-relay on a port that it keeps."""

    def __init__(self, root: Path, public: int | None = None) -> None:
        """Args: public: the port that devices dial, if something stands between."""
        self.data = root / "relay"
        self.port = 0
        self.public = public
        super().__init__([], self.data, "relay")

    def start(self, ready: str = r"http://127\.0\.0\.1:(\d+)") -> str:
        self.arguments = [
            sys.executable, "-m", "hybridgw_relay", "serve", "--data", str(self.data), "--host", "127.0.0.1",
            "--port", str(self.port),
        ]  # fmt: skip
        if self.public is not None:
            self.arguments += ["--public-url", f"http://127.0.0.1:{self.public}"]
        self.port = int(super().start(ready))
        return f"http://127.0.0.1:{self.port}"

    def command(self, *arguments: str) -> str:
        """A command of the relay's operator."""
        return subprocess.run(
            [sys.executable, "-m", "hybridgw_relay", *arguments, "--data", str(self.data)],
            capture_output=True, text=True, check=True, env=environment(self.folder), timeout=30,
        ).stdout  # fmt: skip

    def invite(self) -> str:
        """A one-use link."""
        found = re.search(r"http\S+", self.command("invite"))
        assert found
        return found[0]


class DeviceMachine(Process):
    """A daemon with a profile of its own."""

    def __init__(self, root: Path, name: str) -> None:
        self.home = root / name
        with socket.socket() as probe:  # not the usual port, which any daemon of another test may take meanwhile
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        arguments = ["hybridgw_daemon", "--home", str(self.home), "--secret-store", "insecure-file", "--port", port]
        super().__init__(arguments, self.home, name)
        self.extra = {"HYBRIDGW_DEVICE_NAME": f"planteddevice{name}"}

    def start(self, ready: str = r"ready at (\S+)") -> str:
        return super().start(ready)

    def client(self, timeout_s: float = 20.0) -> Client:
        """A client of it. Raises: NotRunning."""
        return connect(self.home, timeout_s=timeout_s)

    def get(self, path: str, **query: Any) -> Any:
        """One GET."""
        with self.client() as client:
            return client.get(path, **query)

    def post(self, path: str, body: Any = None) -> Any:
        """One POST."""
        with self.client() as client:
            return client.post(path, body)

    def documents(self, collection: str) -> dict[str, Any]:
        """All documents: id -> data."""
        with self.client() as client:
            return {d["id"]: d["data"] for d in client.documents(collection)}

    def is_in_step(self) -> bool:
        """Says it itself."""
        return bool(self.get("/api/sync/status")["state"] == "in_step")


def pair(first: DeviceMachine, second: DeviceMachine) -> None:
    """As two people would, with a code."""
    offer = until(lambda: first.post("/api/devices/pair"), what="a pairing code")
    joined = second.post("/api/devices/pair/join", {"code": offer["code"]})
    shown = until(
        lambda: next((s for s in [first.get(f"/api/devices/pair/{offer['id']}")] if s["state"] == "confirm"), None),
        what="the other device to ask",
    )
    other = second.get(f"/api/devices/pair/{joined['id']}")
    assert shown["words"] == other["words"], json.dumps([shown, other])
    first.post(f"/api/devices/pair/{offer['id']}/confirm", {"accept": True})
    until(lambda: second.get(f"/api/devices/pair/{joined['id']}")["state"] == "done", what="the pairing to end")


def household(
    root: Path,
    public: int | None = None,
    listens: Callable[[int], None] = lambda _port: None,
    *,
    forked: bool = False,
) -> tuple[RelayMachine, DeviceMachine, DeviceMachine]:
    """A relay and two paired devices, running. Args: public: the port that devices dial, if something stands between;
    listens: told of the relay's own port; forked: they start as in forks.py."""
    relay, a, b = RelayMachine(root, public), DeviceMachine(root, "a"), DeviceMachine(root, "b")
    for machine in (relay, a, b):
        machine.is_forked = forked
    try:
        relay.start()
        listens(relay.port)
        for device in (a, b):
            device.start()
        link = relay.invite()
        until(lambda: a.get("/api/devices")["items"][0].get("fingerprint"), what="the keys of the first device")
        a.post("/api/relays", {"link": link})
        pair(a, b)
    except BaseException:
        for machine in (a, b, relay):
            if machine.process is not None:
                machine.kill()
        raise
    return relay, a, b
