"""Our programs as processes that are forked from one that has imported them: a start that costs no import.

Most of what a start costs is importing, the same each time. Where processes are killed and started again some hundred
times it is done once. What comes after it each process does as always, and to the system it is one like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", "hybridgw_daemon.app", "hybridgw_relay.app", "hybridgw_relay.__main__"])


class Forked:
    """What subprocess.Popen would run. Args: command: `PYTHON -m MODULE ...`; errors: takes its stderr."""

    def __init__(self, command: list[str], *, folder: Path, env: dict[str, str], errors: Path) -> None:
        assert command[1] == "-m"
        errors.touch()
        reader, writer = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_run, args=(command[2:], folder, env, errors, writer), daemon=True)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises: TimeoutError."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise TimeoutError(f"{self.pid} still runs after {timeout} s")
        return code

    def send_signal(self, number: int) -> None:
        """To this process only."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(command: list[str], folder: Path, env: dict[str, str], errors: Path, out: Connection) -> None:
    """In the new process: what `python -m` finds there."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    os.dup2(out.fileno(), 1)
    with errors.open("a") as file:
        os.dup2(file.fileno(), 2)
    out.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv[1:] = command[1:]
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
