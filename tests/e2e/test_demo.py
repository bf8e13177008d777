"""`make demo`: the whole product as a person meets it. It must end well, tell the truth, and leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "unit" / "cli" / "samples"


def demo(*arguments: str) -> subprocess.Popen[str]:
    """Start it, with no keyring to be found."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def processes_of(folder: Path) -> list[str]:
    """Processes that work in this folder, or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = os.readlink(process / "cwd")
        except OSError:
            continue
        if process.name != str(os.getpid()) and (str(folder) in line or place.startswith(str(folder))):
            found.append(line)
    return found


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = demo("--folder", str(folder), "--keep")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "Both devices hold the same again" in said
    assert "use 1" in said  # the conflict, in the inbox
    assert "Both agree." in said
    rows = re.findall(r"^ +(laptop|desktop) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)$", said, re.MULTILINE)
    assert [name for name, *_ in rows] == ["laptop", "desktop"]
    (_, *laptop), (_, *desktop) = rows
    assert laptop[:2] == desktop[:2]
    assert int(laptop[0].replace(",", "")) > 50
    assert laptop[1] == "0"
    assert all(int(number.replace(",", "")) > 1_000 for number in (*laptop[2:], *desktop[2:]))
    assert "sealed batches" in said
    assert "Traceback" not in said
    assert processes_of(folder) == []
    stored = b"".join(path.read_bytes() for path in (folder / "relay").rglob("*") if path.is_file())
    held = b"".join(path.read_bytes() for path in (folder / "laptop").glob("hybridgw.db*"))
    for word in (b"Bake rye bread", b"packages", b"desktop"):
        assert word in held or word == b"desktop"
        assert word not in stored  # the relay can read nothing


def test_the_demo_takes_your_own_data(tmp_path: Path) -> None:
    process = demo("--data", str(SAMPLES / "bookmarks_firefox.html"), "--folder", str(tmp_path / "demo"))
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "1 bad lines" in said
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("step", "number"),
    [("The first device", signal.SIGINT), ("desktop up", signal.SIGTERM), ("laptop pair", signal.SIGINT)],
)
def test_ctrl_c_ends_everything_that_was_started(step: str, number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = demo("--folder", str(folder))
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if step in line:
                break
        assert processes_of(folder)
        process.send_signal(number)
        said = process.stdout.read()
        assert process.wait(120) == 130, said
    assert "Stopped." in said
    assert processes_of(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--data", "/nonexistent"], "there is no file"), (["--folder", str(ROOT)], "is not empty")]
)
def test_a_demo_that_cannot_be_says_why(arguments: list[str], says: str) -> None:
    process = demo(*arguments)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert says in said
