"""The files of this project, as git sees them: tracked, or new and not ignored."""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def project() -> dict[str, object]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def packages() -> tuple[Path, ...]:
    """Folders of the import packages that the wheel ships."""
    wheel = project()["tool"]["hatch"]["build"]["targets"]["wheel"]  # type: ignore[index]
    return tuple(ROOT / folder for folder in wheel["packages"])


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project but ignored ones; without git (an unpacked source archive), all but .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        found = (ROOT / name.decode() for name in listed.stdout.split(b"\0") if name)
    else:
        found = (path for path in ROOT.rglob("*") if ".venv" not in path.parts and "__pycache__" not in path.parts)
    return tuple(sorted(path for path in found if path.is_file() and not path.is_symlink()))


@cache
def texts() -> dict[Path, str]:
    """The text files and what they hold; a file that is not UTF-8 is left out."""
    held = {}
    for path in files():
        try:
            held[path] = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
    return held


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the packages."""
    found = {}
    for package in packages():
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def syntax(path: Path) -> ast.Module:
    """Parsed source of a file. No garbage collection meanwhile: in CPython 3.11 one may upset it (gh-106905)."""
    gc.disable()
    try:
        return ast.parse(path.read_text(), str(path))
    finally:
        gc.enable()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
