"""What browsers are told, on each system: the places, the manifests, the registry as data, boxes."""

from __future__ import annotations

import json
import os
from pathlib import Path, PureWindowsPath

import pytest

from hybridgw_cli import browsers
from hybridgw_cli.browsers import BROWSERS, BY_NAME, Machine, Platform
from hybridgw_client.profile import Profile, find_profile
from hybridgw_protocol.native import CHROME_IDS, FIREFOX_IDS, HOST_NAME
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reference" / "native-host.md").read_text()


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return find_profile(tmp_path / "profile")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """One that could be started."""
    path = tmp_path / "bin" / "hybridgw-native-host"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def machine(platform: Platform, tmp_path: Path, **environment: str) -> Machine:
    return Machine(platform, tmp_path / "user", environment, tmp_path / "root")


def test_spec_F4_the_page_tells_where_each_browser_looks(tmp_path: Path, profile: Profile) -> None:
    rows = {row.split(" | ")[0].strip("| "): row for row in PAGE.splitlines() if row.startswith("| ")}
    for browser in BROWSERS:
        for platform, base in (("linux", ""), ("darwin", "Library/Application Support/")):
            entry = browsers.entry_of(browser, machine(platform, tmp_path), profile)  # type: ignore[arg-type]
            folder = entry.manifest.parent.relative_to(tmp_path / "user").as_posix()
            assert f"`{folder.removeprefix(base)}`" in rows[browser.name]
            assert entry.manifest.name == f"{HOST_NAME}.json"
        key = browsers.entry_of(browser, machine("win32", tmp_path), profile).key
        assert key is not None
        assert f"`{key.removeprefix('Software' + chr(92))}`" in rows[browser.name]


def test_spec_F4_on_windows_every_browser_has_a_manifest_of_its_own(tmp_path: Path, profile: Profile) -> None:
    entries = [browsers.entry_of(browser, machine("win32", tmp_path), profile) for browser in BROWSERS]
    assert len({entry.manifest for entry in entries}) == len({entry.key for entry in entries}) == len(BROWSERS)
    program = PureWindowsPath(r"C:\Program Files\HybridGW\hybridgw-native-host.exe")
    found = json.loads(json.dumps(browsers.manifest(BY_NAME["edge"], program)))
    assert found["path"] == str(program)
    text = browsers.launcher(r"D:\my data", program, "win32")
    assert text.split("\r\n")[1:3] == ['set "HYBRIDGW_HOME=D:\\my data"', f'"{program}" %*']


def test_spec_F4_a_manifest_lists_ours_and_what_the_person_allows(profile: Profile, program: Path) -> None:
    browsers.allow(profile, ["a" * 32, "other@example"])
    browsers.allow(profile, ["a" * 32])
    more = browsers.allowed_ids(profile)
    chrome = browsers.manifest(BY_NAME["chrome"], program, more)
    assert set(chrome["allowed_origins"]) == {f"chrome-extension://{one}/" for one in (*CHROME_IDS, "a" * 32)}
    assert "allowed_extensions" not in chrome
    firefox = browsers.manifest(BY_NAME["firefox"], program, more)
    assert set(firefox["allowed_extensions"]) == {*FIREFOX_IDS, "other@example"}
    assert (firefox["name"], firefox["type"]) == (HOST_NAME, "stdio")


def test_spec_F4_what_is_wrong_is_said(tmp_path: Path, profile: Profile, program: Path) -> None:
    here = machine("linux", tmp_path)
    entry = browsers.entry_of(BY_NAME["chromium"], here, profile)
    assert browsers.fault_of(entry, profile, here) == "missing"
    assert not browsers.remove(entry)
    browsers.install(entry, profile, here, program)
    assert browsers.fault_of(entry, profile, here) is None
    started = Path(json.loads(entry.manifest.read_text())["path"])
    assert started.read_text() == f'#!/bin/sh\nHYBRIDGW_HOME={profile.home} exec {program} "$@"\n'
    assert os.access(started, os.X_OK)
    browsers.allow(profile, ["a" * 32])
    assert "another version" in str(browsers.fault_of(entry, profile, here))
    for text, said in ((b"{}", "no manifest"), (b"{", "cannot be read"), (b'{"path": "/nowhere/x"}', "not there"),
                       (json.dumps({"path": str(program)}).encode(), "another installation")):  # fmt: skip
        entry.manifest.write_bytes(text)
        assert said in str(browsers.fault_of(entry, profile, here))
    assert browsers.remove(entry)
    assert not entry.manifest.exists()


def test_spec_F4_a_browser_in_a_box_is_known(tmp_path: Path) -> None:
    here = machine("linux", tmp_path)
    assert all(here.sandbox(browser) is None and not here.has(browser) for browser in BROWSERS)
    (tmp_path / "root/snap/firefox").mkdir(parents=True)
    (tmp_path / "root/var/lib/flatpak/app/org.chromium.Chromium").mkdir(parents=True)
    (tmp_path / "user/.local/share/flatpak/app/com.brave.Browser").mkdir(parents=True)
    found = {browser.name: box for browser in BROWSERS if (box := here.sandbox(browser))}
    assert found == {"firefox": "snap", "chromium": "flatpak", "brave": "flatpak"}
    assert machine("darwin", tmp_path).sandbox(BY_NAME["firefox"]) is None


def test_spec_F4_a_browser_is_found_by_its_folder_or_its_program(tmp_path: Path, program: Path) -> None:
    (tmp_path / "user/.config/vivaldi").mkdir(parents=True)
    (tmp_path / "elsewhere/chromium").mkdir(parents=True)
    named = program.with_name("microsoft-edge")
    named.symlink_to(program)
    here = machine("linux", tmp_path, PATH=str(program.parent))
    assert [browser.name for browser in BROWSERS if here.has(browser)] == ["edge", "vivaldi"]
    moved = machine("linux", tmp_path, XDG_CONFIG_HOME=str(tmp_path / "elsewhere"))
    assert [browser.name for browser in BROWSERS if moved.has(browser)] == ["chromium"]
