"""Import rules, and that every module can be imported first."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture._tree import ROOT, modules, packages, python, syntax

# One interpreter per module costs 100 ms and more; one per group, forked for each module, costs 5.
_EACH_ALONE = """
import importlib, os, sys, traceback
import aiohttp.web, asyncio, click, msgspec, nacl.bindings, sqlite3  # of others, once: our modules are looked at
failed = []
for name in sys.argv[1:]:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
sys.exit(f"cannot be imported alone: {failed}" if failed else 0)
"""


def test_import_contracts() -> None:
    """The contracts of pyproject.toml, [tool.importlinter]."""
    run = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_entropy_by_way_of_libsodium() -> None:
    """nacl.utils draws random bytes. The contracts cannot name it: they know an outside package as a whole only."""
    pure = [name for name in modules() if re.match(r"hybridgw_protocol\b|hybridgw_(daemon|relay)\.core\b", name)]
    assert len(pure) > 30
    imported = {
        f"{name}: {module}"
        for name in pure
        for node in ast.walk(syntax(modules()[name]))
        for module in imports(node)
        if module.startswith("nacl") and not module.startswith(("nacl.bindings", "nacl.exceptions"))
    }
    assert not imported
    drawn = {
        name
        for name in pure
        for node in ast.walk(syntax(modules()[name]))
        if isinstance(node, ast.Name | ast.Attribute | ast.alias)
        and str(getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))) in ENTROPY
    }
    assert not drawn


# Of nacl.bindings: what draws random bytes by itself.
ENTROPY = {
    "randombytes", "randombytes_buf", "randombytes_buf_deterministic", "crypto_sign_keypair", "crypto_box_keypair",
    "crypto_box_seal", "crypto_kx_keypair", "crypto_secretstream_xchacha20poly1305_keygen",
}  # fmt: skip


def imports(node: ast.AST) -> list[str]:
    """Modules that a statement imports, with the names it takes from them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_every_module_imports_alone() -> None:
    """First in its interpreter, with warnings as errors: no module leans on what another happened to import."""
    names = list(modules())
    assert len(names) > 20
    run = python("-c", _EACH_ALONE, *names)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("start", "never"),
    [
        ("hybridgw_cli.main", {"aiohttp", "keyring", "sqlite3", "sqlite_utils", "rich", "nacl", "hybridgw_daemon"}),
        (
            "hybridgw_daemon.app",
            {"keyring", "rich", "click", "sqlite_utils", "segno", "spake2", "psutil", "zeroconf", "prometheus_client"},
        ),
        (
            "hybridgw_relay.app",
            {"keyring", "rich", "sqlite_utils", "segno", "spake2", "psutil", "zeroconf", "prometheus_client"},
        ),
    ],
)
def test_heavy_parts_load_when_first_used(start: str, never: set[str]) -> None:
    """Start-up time and idle memory: importing a program's first module loads none of these."""
    run = python("-c", f"import sys, {start}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))")
    assert run.returncode == 0, run.stderr
    assert not never & set(run.stdout.split())


def test_the_wheel_ships_typed_packages() -> None:
    for package in packages():
        assert (package / "__init__.py").is_file(), package
        assert (package / "py.typed").is_file(), f"{package.name} has no py.typed"


def test_no_prints() -> None:
    """Output goes through cli/hybridgw_cli/output.py, or a program's __main__.py before logging exists."""
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules().values()
        if path.name not in {"output.py", "__main__.py"}
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "breakpoint"}
    ]
    assert not calls
