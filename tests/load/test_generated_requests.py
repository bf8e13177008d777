"""Requests that nobody thought of: schemathesis makes them from the OpenAPI document that a real daemon serves.

None may end in a 5xx, and every answer must be one that the document describes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration._local_api import daemon

CHECKS = (
    "not_a_server_error", "response_schema_conformance", "content_type_conformance", "response_headers_conformance",
)  # fmt: skip
# Not asked: what ends the daemon or never ends itself, what waits for others, and what opens a pairing.
LEFT_OUT = (
    "daemon.stop",
    "events",
    "sync.trigger",
    "relays.add",
    "relays.test",
    "lan.test",
    "pairing.start",
    "pairing.join",
    "messages.get",
)


PIECES = 5  # of the long run

# 501 is an answer: a way to log in that is not configured here.
SETTINGS = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", "501"]\n'


def run_schemathesis(tmp_path: Path, examples: int, seed: int = 1) -> int:
    """Returns how many requests were made; each was answered as described. Args: examples: of each call."""
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with daemon(tmp_path / "home", "--secret-store", "insecure-file") as process:
        endpoint = process.ready()
        # One worker: two threads that read syntax trees at once disturb each other (CPython 3.11, gh-106905).
        program = [
            str(Path(sys.executable).with_name("st")), "run", f"{endpoint.url}/openapi.json", "--url", endpoint.url,
            "-H", f"Authorization: Bearer {endpoint.token.reveal()}", "--checks", ",".join(CHECKS),
            "--phases", "coverage,fuzzing", "--max-examples", str(examples), "--seed", str(seed), "--workers", "1",
            "--warnings", "off", "--no-color", "--suppress-health-check", "all", "--generation-database", "none",
        ]  # fmt: skip
        for name in LEFT_OUT:
            program += ["--exclude-operation-id", name]
        run = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=3_000, check=False)
        process.stop()
    log = (tmp_path / "home" / "logs" / "daemon.log").read_text()
    errors = [line for line in log.splitlines() if json.loads(line)["level"] in ("ERROR", "CRITICAL")]
    assert run.returncode == 0, run.stdout + run.stderr
    assert not errors
    made = re.search(r"(\d[\d,]*) generated", run.stdout)
    assert made, run.stdout
    return int(made[1].replace(",", ""))


@pytest.mark.spec("G3")
def test_spec_G3_a_thousand_generated_requests_without_a_5xx(tmp_path: Path) -> None:
    assert run_schemathesis(tmp_path, 10) >= 1_000


@pytest.mark.soak
@pytest.mark.spec("G3")
@pytest.mark.parametrize("piece", range(PIECES))
def test_spec_G3_ten_thousand_generated_requests_without_a_5xx(tmp_path: Path, piece: int) -> None:
    """In pieces, each with a seed and a daemon of its own: together ten thousand and more."""
    assert run_schemathesis(tmp_path, 60, seed=2 + piece) >= 10_000 / PIECES
