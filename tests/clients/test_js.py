"""The JavaScript client's own tests, by Node's test runner: its parts, and its behaviour beside a real daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import JS, environment

FILES = sorted(path.name for path in (JS / "test").glob("*.test.mjs"))


def test_the_files_are_seen() -> None:
    assert {"behaviour.test.mjs", "parts.test.mjs"} <= set(FILES)


@pytest.mark.spec("F5")
@pytest.mark.parametrize("file", FILES)
def test_spec_F5_node(built: Path, file: str) -> None:
    done = subprocess.run(
        ["node", "--test", "--test-timeout=120000", "--test-reporter=tap", f"test/{file}"],
        cwd=built, env=environment() | {"HYBRIDGW_PYTHON": sys.executable}, capture_output=True, text=True, timeout=150,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert "\n# skipped 0\n" in done.stdout
    assert "\n# pass 0\n" not in done.stdout


def test_spec_F5_the_package_depends_on_nothing_at_run_time(built: Path) -> None:
    import json
    import re

    package = json.loads((built / "package.json").read_text())
    assert "dependencies" not in package
    for path in (built / "dist").glob("*.js"):
        wanted = set(re.findall(r"""(?:from|import)\s*\(?["']([^."'][^"']*)["']""", path.read_text()))
        allowed = {name for name in wanted if name.startswith("node:")} if path.name.startswith("node") else set()
        assert wanted == allowed, path.name


def test_the_bundle_for_pages_is_small(built: Path) -> None:
    import gzip

    assert len(gzip.compress((built / "dist" / "hybridgw.js").read_bytes())) < 16_000
