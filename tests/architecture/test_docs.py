"""Docs and code name the same things: docstrings, error codes, configuration keys, links."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import hybridgw_daemon.config
import hybridgw_daemon.paths
import hybridgw_relay.config
from hybridgw_daemon.stores import clone_guard, secrets_file
from hybridgw_protocol import errors
from hybridgw_protocol import localapi_frames as frames
from hybridgw_storage.check import MARKER_SUFFIX
from tests.architecture._tree import ROOT, modules, syntax, texts

REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(body: list[ast.stmt], inside: str = "") -> list[tuple[str, Documented]]:
    """Functions, classes and methods of public classes whose names start with no underscore.

    Left out: overloads, property setters, and methods that override one of a base class (`@override`).
    """
    found: list[tuple[str, Documented]] = []
    for node in body:
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(mark).split("(")[0].split(".")[-1] for mark in node.decorator_list}
        if marks & {"overload", "setter", "override"}:
            continue
        found.append((f"{inside}{node.name}", node))
        if isinstance(node, ast.ClassDef):
            found += public(node.body, f"{inside}{node.name}.")
    return found


@pytest.mark.parametrize("name", modules())
def test_public_names_have_docstrings(name: str) -> None:
    tree = syntax(modules()[name])
    assert ast.get_docstring(tree), f"{name} does not say what it is for"
    silent = [what for what, node in public(tree.body) if not ast.get_docstring(node)]
    assert not silent, f"{name}: no docstring at {', '.join(silent)}"


def error_classes() -> list[type[errors.HybridGWError]]:
    """The whole tree of errors.py."""
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HybridGWError)]


def test_every_error_is_documented() -> None:
    """One row per class: its code, its HTTP status, whether trying again helps."""
    page = (REFERENCE / "exit-codes-and-errors.md").read_text()
    rows = {row[0]: row for row in re.findall(r"^\| `([a-z_]+)` \| (\d+) \| (yes|no) \|", page, re.MULTILINE)}
    known = {kind.code: kind for kind in error_classes()}
    assert len(known) > 30
    for code, kind in known.items():
        assert rows.get(code) == (code, str(kind.http_status), "yes" if kind.retryable else "no"), kind.__name__
    assert not rows.keys() - {kind.code for kind in error_classes()}, "codes that no class has"


@pytest.mark.parametrize(
    ("keys", "name"),
    [(hybridgw_daemon.config.KEYS, "configuration.md"), (hybridgw_relay.config.KEYS, "relay-configuration.md")],
)
def test_every_configuration_key_is_documented(keys: tuple[str, ...], name: str) -> None:
    """One row per key, under its name in the environment, and no row for what is no key."""
    page = (REFERENCE / name).read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| [^|]*\| \S", page, re.MULTILINE)
    assert len(rows) > 10
    assert sorted(rows) == sorted(keys)


def test_defaults_of_the_relay_are_those_of_the_code() -> None:
    page = (REFERENCE / "relay-configuration.md").read_text()
    for option in hybridgw_relay.config.OPTIONS:
        shown = f"`{option.default}`" if option.default else ""
        assert re.search(rf"^\| `{option.name}` \| *{re.escape(shown)} *\|", page, re.MULTILINE), option.name


def test_the_example_names_only_keys() -> None:
    """Every line of .env.example is a key of the daemon or of the relay, and no line is switched on.

    It has every key of the daemon, which reads it as it is.
    """
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line]
    names = {match[1] for line in lines if (match := re.match(r"# ([A-Z_]+)=\S*$", line))}
    assert len(names) > 10
    assert names <= {*hybridgw_daemon.config.KEYS, *hybridgw_relay.config.KEYS}
    assert names >= {*hybridgw_daemon.config.KEYS}
    assert all(line.startswith("#") for line in lines)


def test_spec_G1_every_close_code_is_documented_and_known_to_the_javascript_client() -> None:
    """One row per code of the protocol, and no row for one that there is not."""
    page = (REFERENCE / "websocket.md").read_text()
    listed = {
        int(code) for row in re.findall(r"^\| (\d{4}(?:, \d{4})*) \|", page, re.MULTILINE) for code in row.split(", ")
    }
    sent = {value for name, value in vars(frames).items() if name.isupper() and value in range(1_000, 5_000)}
    assert listed == sent
    script = (ROOT / "clients" / "js" / "src" / "frames.ts").read_text()
    known = {int(code) for code in re.findall(r"^  \w+: (\d{4}),", script, re.MULTILINE)}
    assert known == sent


def test_every_file_is_documented(tmp_path: Path) -> None:
    """The names that the programs give to their files."""
    page = (REFERENCE / "files.md").read_text()
    paths = hybridgw_daemon.paths.find(str(tmp_path))
    names = {path.name for path in (paths.config_file, paths.database, paths.lock, paths.endpoint, paths.port)}
    names |= {paths.log_file.name, clone_guard.FILE_NAME, secrets_file.FILE_NAME, hybridgw_relay.config.DATABASE_NAME}
    names |= {paths.database.name + MARKER_SUFFIX}
    assert len(names) == 10
    assert not [name for name in names if f"`{name}`" not in page]


def test_links_between_pages_lead_somewhere() -> None:
    checked, broken = 0, []
    for path, text in texts().items():
        if path.suffix != ".md":
            continue
        for target in LINK.findall(text):
            if "://" in target or target.startswith(("#", "mailto:")):
                continue
            checked += 1
            if not (path.parent / target.split("#")[0]).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert checked > 30
    assert not broken


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    decisions = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT / "docs").as_posix()
        if name == "README.md":
            continue
        listed = path.name in decisions if name.startswith("adr/0") else f"({name})" in index
        assert listed or name in {"adr/template.md"}, f"docs/{name} is in no index"
