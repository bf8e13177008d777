"""The examples, as programs, with a daemon that goes away in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hybridgw_client import connect
from tests.conftest import ROOT
from tests.integration._local_api import daemon

EXAMPLES = ROOT / "examples" / "python"
STORE = ("--secret-store", "insecure-file")


@contextmanager
def running(name: str, home: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """An example that is certainly gone afterwards."""
    env = os.environ | {"HYBRIDGW_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *words], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.spec("F5")
def test_spec_F5_the_example_that_follows(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with daemon(home, *STORE) as process:
        process.ready()
        with connect(home) as client:
            client.put("tasks", "milk", {"title": "Buy milk"})
            with running("follow_tasks.py", home, "--until-done", "milk") as example:
                assert example.stdout is not None
                assert example.stdout.readline() == "open milk Buy milk\n"
                assert example.stdout.readline().startswith("-- that is all")
                client.patch("tasks", "milk", {"status": "done"})
                out, err = example.communicate(timeout=20)
                assert (out, err, example.returncode) == ("done milk\n", "", 0)
        process.stop()
    with running("follow_tasks.py", home) as example:
        _, err = example.communicate(timeout=20)
        assert "No daemon runs" in err
        assert "Traceback" not in err


@pytest.mark.spec("F5")
def test_spec_F5_the_example_that_works_without_the_daemon(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running("note_offline.py", home) as example:
        assert example.stdin is not None
        assert example.stdout is not None
        for number in range(5):
            example.stdin.write(f"line {number}\n")
        example.stdin.flush()
        for _ in range(5):
            assert example.stdout.readline().startswith("kept ")
        with daemon(home, *STORE) as process:
            process.ready()
            out, err = example.communicate(timeout=30)
            assert (out, example.returncode) == ("", 0), err
            assert "-- online" in err
            with connect(home) as client:
                assert [d["data"]["text"] for d in client.documents("notes")] == [f"line {n}" for n in range(5)]
            process.stop()
