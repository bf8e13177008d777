"""`hybridgw extension`: browsers are told, checked and told no longer; in a home of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration._cli import Cli


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has a Chromium and a Firefox."""
    for folder in (".config/chromium", ".mozilla"):
        (tmp_path / "user" / folder).mkdir(parents=True)
    return {"HOME": str(tmp_path / "user"), "PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": ""}


def test_spec_F4_browsers_are_told_checked_and_told_no_longer(tmp_path: Path, user: dict[str, str]) -> None:
    cli = Cli(tmp_path / "profile")
    before = cli("extension", "doctor", "--json", code=1, **user).json
    faults = {one["browser"]: one for one in before["checks"] if one["state"] == "fail"}
    assert {"chromium", "firefox"} <= faults.keys()
    assert "extension install --browser firefox" in faults["firefox"]["help"]

    done = cli("extension", "install", "--allow", "a" * 32, "--allow", "x@y", "--json", **user).json
    manifests = {one["browser"]: Path(one["manifest"]) for one in done["items"]}
    assert {"chromium", "firefox"} <= manifests.keys()
    assert manifests["firefox"] == tmp_path / "user/.mozilla/native-messaging-hosts/hybridgw.host.json"
    assert "x@y" in json.loads(manifests["firefox"].read_text())["allowed_extensions"]
    checks = cli("extension", "doctor", "--json", **user).json
    assert checks["ok"]
    (program,) = [one for one in checks["checks"] if one["browser"] == "program"]
    assert program["state"] == "warn"  # it answers, and no daemon runs
    assert "up" in program["help"]

    manifests["chromium"].write_text("{}")
    text = cli("extension", "doctor", code=1, **user).out
    assert "no manifest" in text
    assert "helps: " in text
    removed = cli("extension", "remove", "--json", **user).json["removed"]
    assert {"chromium", "firefox"} <= set(removed)
    assert not any(path.exists() for path in manifests.values())
    assert "nothing to take away" in cli("extension", "remove", **user).talk


def test_sec_P5_what_is_no_id_is_not_listed(tmp_path: Path, user: dict[str, str]) -> None:
    cli = Cli(tmp_path / "profile")
    for name in ("", "*", "chrome-extension://*", "a" * 31, "A" * 32, "../../x", "x y@z", "x\x1b[31m@z"):
        refused = cli("extension", "install", "--allow", name, code=1, **user)
        assert "no id of an extension" in refused.talk
        assert "\x1b" not in refused.talk
    cli("extension", "install", "--browser", "netscape", code=2, **user)
    assert not (tmp_path / "profile" / "extensions.json").exists()
