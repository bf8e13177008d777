"""The command line against real daemons and a real relay, each in a process and a folder of its own."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, cast

from hybridgw_cli.main import run

COMMANDS = Path(sys.executable).parent
TIMEOUT_S = 60.0


def environment(**more: str) -> dict[str, str]:
    """Nothing of the person's own profile, no keyring, no colours, nobody on the local network."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HYBRIDGW_") and name not in {"SERVER_HOST", "SERVER_PORT", "DATA_DIR", "PUBLIC_URL"}
    }
    return kept | {"NO_COLOR": "1", "TERM": "dumb", "HYBRIDGW_LAN_ENABLED": "false"} | more


class Ran(NamedTuple):
    """One command that has ended."""

    code: int
    out: str
    talk: str

    @property
    def json(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)


class Cli:
    """`hybridgw --home HOME ...` for one profile."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, typed: str = "", code: int | None = 0, **more: str) -> Ran:
        """Run it to its end. Args: typed: on stdin; code: the exit code it must have, None for any."""
        done = subprocess.run(
            [str(COMMANDS / "hybridgw"), "--home", str(self.home), *words],
            input=typed.encode(), capture_output=True, check=False, timeout=TIMEOUT_S, env=environment(**more),
            cwd=self.home.parent,
        )  # fmt: skip
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert code is None or ran.code == code, f"{words} ended with {ran.code}\n{ran.out}\n{ran.talk}"
        assert "Traceback" not in ran.talk
        return ran

    def up(self, *words: str, store: str = "insecure-file", **more: Any) -> Ran:
        """Start the daemon on a free port."""
        return self("up", "--port", "0", "--secret-store", store, *words, **more)

    @property
    def pid(self) -> int:
        """Of the running daemon."""
        return int(json.loads((self.home / "endpoint.json").read_bytes())["pid"])


class InProcess(Cli):
    """The same commands without a process for each: an eighth of the time, and what is missing is only the start."""

    def __call__(self, *words: str, typed: str = "", code: int | None = 0, **more: str) -> Ran:
        """As Cli; only for commands that leave the process as it is."""
        if more or words[0] == "up":
            return super().__call__(*words, typed=typed, code=code, **more)
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2)]
        stdin, sys.stdin = (
            sys.stdin,
            io.TextIOWrapper(io.BufferedReader(cast(Any, io.BytesIO(typed.encode()))), "utf-8"),
        )
        try:
            with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
                ended = run(["--home", str(self.home), *words])
        finally:
            sys.stdin = stdin
        for stream in streams:
            stream.seek(0)
        ran = Ran(int(ended), streams[0].read(), streams[1].read())
        assert code is None or ran.code == code, f"{words} ended with {ran.code}\n{ran.out}\n{ran.talk}"
        return ran


@contextmanager
def profile(home: Path, kind: type[Cli] = Cli) -> Iterator[Cli]:
    """A profile whose daemon is certainly gone at the end."""
    cli = kind(home)
    try:
        yield cli
    finally:
        cli("down", code=None)


class Relay:
    """`hybridgw-relay` with its data in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def serve(self) -> None:
        """Start it; the second time on the port it had."""
        port = self.url.rpartition(":")[2] or "0"
        self._process = subprocess.Popen(
            [str(COMMANDS / "hybridgw-relay"), "serve", "--host", "127.0.0.1", "--port", port,
             "--data", str(self.folder)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True, env=environment(),
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if match := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = match.group()
                break
        self._reader = threading.Thread(target=self._process.stdout.read)  # so that its pipe never fills
        self._reader.start()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(TIMEOUT_S)
            assert self._reader is not None
            self._reader.join(TIMEOUT_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def invite(self) -> str:
        """A link that works once."""
        return subprocess.run(
            [str(COMMANDS / "hybridgw-relay"), "invite", "--data", str(self.folder)],
            capture_output=True, check=True, text=True, timeout=TIMEOUT_S, env=environment(),
        ).stdout.split()[0]  # fmt: skip


@contextmanager
def relay(folder: Path) -> Iterator[Relay]:
    """A relay that serves until the end."""
    made = Relay(folder)
    made.serve()
    try:
        yield made
    finally:
        made.stop()
