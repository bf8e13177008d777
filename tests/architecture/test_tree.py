"""What stands in the files themselves: nothing of one machine, no host of a package registry, nothing half-written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture._tree import ROOT, project, texts

# Put together from parts, so that this file does not hold what it looks for.
_HOSTS = [r"py" + r"pi\.org", r"python" + r"hosted\.org", r"regis" + r"try\.npmjs", r"regis" + r"try\.yarnpkg",
          r"index\.cra" + r"tes\.io", r"dev" + r"pi\b", r"arti" + r"factory", r"proxy\.gol" + r"ang"]  # fmt: skip
_HOMES = [
    r"/ho" + r"me/[a-z]",
    r"/Us" + r"ers/[A-Za-z]",
    r"C:\\+Us" + r"ers",
    r"/r" + r"oot/",
    r"/(wo" + r"rk|fa" + r"rm)/",
]
_PAGES = ["DECIS" + "IONS", "SYNC-CORR" + "ECTIONS", "LIM" + "ITS", "PLAT" + "FORM", "IDEN" + "TITY",
          "ARCHI" + "TECTURE", "EXAM" + "PLES", "SY" + "NC", "SEC" + "URITY", "U" + "X"]  # fmt: skip

HOST = re.compile("|".join(_HOSTS), re.IGNORECASE)
HOME = re.compile("(?<![A-Za-z0-9_.~])(" + "|".join(_HOMES) + ")")
PAGE = re.compile(
    r"\b(" + "|".join(_PAGES) + r")\.md\b|\bsha" + r"red/|\bhelper ses" + r"sion|\bsub" + r"agent", re.IGNORECASE
)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")


def found(pattern: re.Pattern[str], *, skip: tuple[str, ...] = ()) -> list[str]:
    """file:line: text, for every line of a text file that matches."""
    hits = []
    for path, text in texts().items():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(skip):
            continue
        hits += [
            f"{name}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    return hits


def test_the_tree_is_seen() -> None:
    assert ROOT / "pyproject.toml" in texts()
    assert len(texts()) > 30


def test_no_host_of_a_package_registry() -> None:
    assert not found(HOST)


def test_no_path_of_a_machine() -> None:
    """The checkout's own place and the home of whoever runs this test count as well as the usual forms."""
    own = {re.escape(str(place)) + r"(?![A-Za-z0-9_-])" for place in (ROOT, Path.home()) if len(place.parts) > 1}
    assert not found(HOME)
    assert not found(re.compile("(?<![A-Za-z0-9_.~])(" + "|".join(sorted(own)) + ")"))


def test_no_page_that_a_reader_does_not_have() -> None:
    """Only files of this project are cited by name."""
    own = {path.name.lower() for path in texts()}
    hits = [hit for hit in found(PAGE) if not (match := PAGE.search(hit)) or match.group(0).lower() not in own]
    assert not hits


def test_nothing_left_to_do() -> None:
    assert not found(UNFINISHED)


@pytest.mark.parametrize("pattern", ["*.lock", "*lock.json", "requirements*.txt"])
def test_locks_name_no_host(pattern: str) -> None:
    for path, text in texts().items():
        if path.match(pattern):
            assert "://" not in text, path


def test_the_lock_has_every_dependency_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", lock.split("\n", 1)[1])
    names = {re.match(r"[a-z0-9.-]+", entry).group() for entry in entries if "==" in entry.split("\n")[0]}  # type: ignore[union-attr]
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.split("\n")[0]
    table = project()
    wanted = [*table["project"]["dependencies"], *table["project"]["optional-dependencies"]["relay"]]  # type: ignore[index]
    wanted += table["dependency-groups"]["dev"]  # type: ignore[index]
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement).group().lower().replace("_", "-")  # type: ignore[union-attr]
        assert name in names, f"{name} is in pyproject.toml but not in requirements.lock: make lock"


def test_text_files_end_in_one_newline() -> None:
    wrong = [
        path.relative_to(ROOT).as_posix()
        for path, text in texts().items()
        if text and (not text.endswith("\n") or text.endswith("\n\n")) and path.suffix != ".svg"
    ]
    assert not wrong


def test_the_changelog_has_the_version() -> None:
    version = project()["project"]["version"]  # type: ignore[index]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text.splitlines()[1]
    assert "END OF TERMS AND CONDITIONS" in text
    assert project()["project"]["license"] == "Apache-2.0"  # type: ignore[index]
