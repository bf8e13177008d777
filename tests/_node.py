"""What the tests run with Node: the JavaScript client, built, and the programs that clients/package-lock.json pins."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

JS = ROOT / "clients" / "js"


def built(base: Path) -> Path:
    """clients/js with its dist; built by one test worker for all. Args: base: the temporary folder of this worker."""
    if shutil.which("node") is None:
        pytest.skip("needs Node 20 or newer")
    with (base.parent / "hybridgw-js.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["bash", str(ROOT / "scripts" / "js.sh")], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("needs Node 20 or newer")
    assert done.returncode == 0, done.stdout + done.stderr
    return JS


def extension(base: Path) -> Path:
    """The browser extension, built: folders `chrome` and `firefox` and the two packages. Args: as of `built`."""
    if shutil.which("node") is None:
        pytest.skip("needs Node 20 or newer")
    out = base.parent / "hybridgw-extension"
    with (base.parent / "hybridgw-js.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["bash", str(ROOT / "scripts" / "js.sh"), "extension", str(out)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 3:
        pytest.skip("needs Node 20 or newer")
    assert done.returncode == 0, done.stdout + done.stderr
    return out
