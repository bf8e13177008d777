"""The golden histories of logs: the replica still makes of them what the file says, in whatever order things come."""

from __future__ import annotations

from pathlib import Path

from tools.vectors import logs
from tools.vectors.__main__ import render

FILE = Path(__file__).parents[3] / "protocol" / "vectors" / "logs.json"


def test_the_file_is_what_the_replica_does() -> None:
    assert FILE.read_text() == render(logs.vectors())
