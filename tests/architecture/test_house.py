"""The house keeps its own rules: golden bytes are stable, skips and budgets are judged, the verbs name what exists."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture._tree import ROOT, texts
from tools.vectors.__main__ import main as write_vectors
from tools.vectors.__main__ import render


def test_vector_files_are_byte_stable() -> None:
    text = render({"about": "é", "cases": [{"bytes": b"\x00\xff", "n": 2**53 - 1, "none": None, "pair": (1, True)}]})
    assert text == render(
        {"about": "é", "cases": [{"bytes": b"\x00\xff", "n": 2**53 - 1, "none": None, "pair": (1, True)}]}
    )
    assert '"00ff"' in text
    assert text.isascii()
    assert text.endswith("}\n")


@pytest.mark.parametrize("content", [{1: "key"}, {"a": {1}}, {"a": float("nan")}])
def test_what_json_cannot_say_is_refused(content: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        render(content)


def test_the_check_finds_a_changed_a_missing_and_a_foreign_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_vectors([], tmp_path) == 0
    assert write_vectors(["--check"], tmp_path) == 0
    changed, missing, foreign = min(tmp_path.glob("*.json")), max(tmp_path.glob("*.json")), tmp_path / "foreign.json"
    held = changed.read_bytes()
    changed.write_bytes(held + b" ")
    assert write_vectors(["--check"], tmp_path) == 1  # each look makes all of them anew
    changed.write_bytes(held)
    missing.unlink()
    assert write_vectors(["--check"], tmp_path) == 1
    assert write_vectors([], tmp_path) == 0
    foreign.write_text("{}\n")
    capsys.readouterr()
    assert write_vectors(["--check"], tmp_path) == 1
    assert "foreign.json" in capsys.readouterr().out


RUN = """\
import pytest

def test_passes(): pass

def test_skips(): pytest.skip("no such part: strace")

@pytest.mark.soak
def test_long(): raise AssertionError("only when asked for")
"""


SKIP = 'skips = [{ test = "*test_skips", because = "%s" }]'


@pytest.mark.parametrize(
    ("workers", "ci", "total", "skips", "ends", "says"),
    [
        ("0", "", 60, "skips = []", 0, "unlisted skip: tests/unit/test_it.py::test_skips"),
        ("1", "true", 60, "skips = []", 1, "1 skip(s) that tests/budget.toml does not list"),
        ("0", "true", 60, SKIP % "strace", 0, "of 0 s   WARNING: over budget"),
        ("0", "true", 60, SKIP % "other", 1, "no such part: strace"),
        ("0", "true", 0, SKIP % "", 1, "the budget is 0 s"),
    ],
)
def test_the_budget_is_kept(
    tmp_path: Path, workers: str, ci: str, total: int, skips: str, ends: int, says: str
) -> None:
    """A whole run of pytest with our conftest over three tests of its own, in one process and with a worker."""
    folder = tmp_path / "tests" / "unit"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(RUN)
    (tmp_path / "tests" / "budget.toml").write_text(f"total_seconds = {total}\n[unit]\nseconds = 0\n{skips}\n")
    (tmp_path / "tests" / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["soak: long"]\n')
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "xdist", "-p", "no:cacheprovider",
         "-n", workers, "tests"],
        cwd=tmp_path, env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == ends, run.stdout + run.stderr
    assert says in run.stdout
    assert "1 passed, 1 skipped" in run.stdout


def test_the_budget_names_slow_tests_that_exist() -> None:
    """Each glob of `slow` finds something: a test that was renamed would come back into `make quick`."""
    suites = tomllib.loads((ROOT / "tests" / "budget.toml").read_text())
    globs = [glob for suite in suites.values() if isinstance(suite, dict) for glob in suite.get("slow", [])]
    assert globs
    for glob in globs:
        file, _, name = glob.removeprefix("*/").partition("::")
        (path,) = (path for path in texts() if path.name == file and "tests" in path.parts)
        defined = [match[1] for match in re.finditer(r"def (test_\w+)", texts()[path])]
        assert any(fnmatch.fnmatchcase(test, name.split("[")[0]) for test in defined), glob


def test_every_verb_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for verb in ("run", "demo", "dev", "test", "quick", "soak", "lint", "fix", "vectors", "bench", "coverage", "docs"):
        assert re.search(rf"^{verb}:.* ## \S", makefile, re.MULTILINE), verb
        assert re.search(rf"\b{verb}\b.* \w", shown, re.MULTILINE)
    named = set(
        re.findall(r"`make ([a-z]+)`", "\n".join(text for path, text in texts().items() if path.suffix == ".md"))
    )
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert len(named) > 3


def test_setup_does_nothing_when_nothing_changed_and_names_an_old_python(tmp_path: Path) -> None:
    """With a stamp that fits nothing is run; with a Python that is too old the person is told what to do."""
    for name in ("requirements.lock", "pyproject.toml", "scripts/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo Python 3.9.1; exit 0; }\nexit 1\n')
    old.chmod(0o755)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("cat", "cksum", "dirname", "rm"):
        where = subprocess.run(
            ["sh", "-c", f"command -v {tool}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        (tools / tool).symlink_to(where)
    bash = subprocess.run(["sh", "-c", "command -v bash"], capture_output=True, text=True, check=True).stdout.strip()
    setup = [bash, str(tmp_path / "scripts" / "setup.sh")]

    run = subprocess.run(
        setup, env={"PATH": str(tools), "PYTHON": str(old)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 1
    assert "needs Python 3.11 or newer" in run.stderr
    assert "Python 3.9.1" in run.stderr
    assert "make PYTHON=" in run.stderr

    stamp = subprocess.run(
        ["bash", "-c", "(cat requirements.lock pyproject.toml scripts/setup.sh; pwd) | cksum"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / ".ready").write_text(stamp)
    run = subprocess.run(setup, env={"PATH": str(tools)}, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
