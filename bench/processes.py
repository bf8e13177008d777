"""Processes under test: started in temporary homes, measured through /proc, ended by their process id.

Nothing started here outlives the program: `Processes` is a context manager, and the homes go with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0
POLL_S = 0.001


class Use(NamedTuple):
    """What a process and its threads used of the machine since it started."""

    cpu_s: float
    switches: int
    rss_mib: float
    threads: int


class Processes:
    """The processes and folders of one measurement."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hybridgw-bench-"))
        self._running: list[subprocess.Popen[str]] = []
        self._homes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        if kind is None or not os.environ.get("HYBRIDGW_BENCH_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"what was measured is kept in {self.folder}", file=sys.stderr)

    def home(self, name: str = "home") -> Path:
        """A new empty folder."""
        self._homes += 1
        path = self.folder / f"{name}-{self._homes}"
        path.mkdir(mode=0o700)
        return path

    def start(
        self, arguments: Sequence[str], *, home: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a Python program of this environment (`-m module …`); its output goes to files in *home*."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HYBRIDGW_")}
        with (home / "stdout").open("w") as out, (home / "stderr").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=out, stderr=err, stdin=subprocess.DEVNULL, text=True, cwd=ROOT,
                env={**inherited, "HYBRIDGW_LAN_ENABLED": "false", **(environment or {})},
            )  # fmt: skip
        self._running.append(process)
        return process

    def start_bare(self, module: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
        """Start a program of this package that prints its port; returns it with the port."""
        home = self.home(module)
        process = self.start(["-m", f"bench.{module}", *arguments], home=home)
        return process, int(self.first_line(process, home))

    def first_line(self, process: subprocess.Popen[str], home: Path) -> str:
        """The first line a process prints. Raises: RuntimeError: it ended, or says nothing in time."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            line, found, _ = (home / "stdout").read_text().partition("\n")
            if found:
                return line
            self.check(process, home)
            time.sleep(POLL_S)
        raise RuntimeError(f"{process.args!r} printed nothing in {START_DEADLINE_S:.0f} s")

    def check(self, process: subprocess.Popen[str], home: Path) -> None:
        """Raises: RuntimeError: the process has ended."""
        if process.poll() is not None:
            said = (home / "stderr").read_text()[-2_000:] + (home / "stdout").read_text()[-500:]
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said}")

    def stop(self, process: subprocess.Popen[str]) -> None:
        """Ask it to end, and wait for it. Raises: RuntimeError: it does not."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired as error:
                raise RuntimeError(f"{process.args!r} does not end") from error
        self._running.remove(process)


def use_of(pid: int) -> Use:
    """CPU time, context switches of all threads, resident memory (Linux: /proc)."""
    process = psutil.Process(pid)
    cpu = process.cpu_times()
    switches = 0
    tasks = Path(f"/proc/{pid}/task")
    if tasks.is_dir():
        for task in tasks.iterdir():
            with contextlib.suppress(OSError):
                for line in (task / "status").read_text().splitlines():
                    if "ctxt_switches" in line:
                        switches += int(line.split()[1])
    else:
        switches = sum(process.num_ctx_switches())
    return Use(cpu.user + cpu.system, switches, process.memory_info().rss / 2**20, process.num_threads())


def fine_cpu_s(pid: int) -> float:
    """CPU time of all threads by the scheduler's own account, nanoseconds exact (Linux); else as `use_of`."""
    tasks = Path(f"/proc/{pid}/task")
    if not (tasks / str(pid) / "schedstat").exists():
        return use_of(pid).cpu_s
    total = 0
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def free_port() -> int:
    """A TCP port of loopback that is free now; for programs that must be told one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_health(port: int, path: str = "/health", deadline_s: float = START_DEADLINE_S) -> None:
    """Return as soon as GET *path* answers 200. Raises: TimeoutError."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(request)
                if b" 200 " in connection.recv(200):
                    return
        except OSError:
            pass
        time.sleep(POLL_S)
    raise TimeoutError(f"nothing answers at port {port}")


async def until(ready: asyncio.Future[None] | asyncio.Event, deadline_s: float, what: str) -> None:
    """Wait for an event. Raises: TimeoutError: names what was waited for."""
    try:
        async with asyncio.timeout(deadline_s):
            await (ready.wait() if isinstance(ready, asyncio.Event) else ready)
    except TimeoutError as error:
        raise TimeoutError(f"{what} did not come in {deadline_s:.0f} s") from error
