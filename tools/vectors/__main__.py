"""`python -m tools.vectors` writes every vector file; `--check` only compares, and fails when one differs."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import tools.vectors

FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "vectors"


def makers() -> dict[str, Callable[[], object]]:
    """File name without its ending -> the function that makes the content."""
    found = {}
    for module in pkgutil.iter_modules(tools.vectors.__path__):
        if not module.name.startswith("_"):
            make = getattr(importlib.import_module(f"tools.vectors.{module.name}"), "vectors", None)
            if make is not None:
                found[module.name] = make
    return found


def render(content: object) -> str:
    """Byte-stable JSON: keys in the order given, two spaces, bytes as lower-case hex, ASCII only, a newline at the end.

    Raises: TypeError: something that JSON cannot say; ValueError: NaN or an infinity.
    """
    return json.dumps(_plain(content), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _plain(content: object) -> object:
    match content:
        case bytes() | bytearray() | memoryview():
            return bytes(content).hex()
        case dict():
            if not all(isinstance(key, str) for key in content):
                raise TypeError("Keys of a vector file are text.")
            return {key: _plain(value) for key, value in content.items()}
        case list() | tuple():
            return [_plain(item) for item in content]
        case _:
            return content


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    """Exit code 0, or 1 when --check finds a file that differs, is missing, or belongs to no module."""
    parser = argparse.ArgumentParser(prog="python -m tools.vectors", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file would change")
    check = parser.parse_args(arguments).check

    wanted = {f"{name}.json": render(make()) for name, make in makers().items()}
    present = {path.name: path.read_text() for path in folder.glob("*.json")}
    changed = sorted(name for name, text in wanted.items() if present.get(name) != text)
    orphans = sorted(present.keys() - wanted.keys())
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (folder / name).write_text(wanted[name])
            print(f"wrote protocol/vectors/{name}")
    elif changed:
        print(f"differ from what the code makes: {', '.join(changed)}. Run `make vectors` and read the difference.")
    if orphans:
        print(f"belong to no module of tools/vectors: {', '.join(orphans)}")
    print(f"{len(wanted)} vector files{', checked' if check else ''}")
    return 1 if orphans or (check and changed) else 0


if __name__ == "__main__":
    sys.exit(main())
