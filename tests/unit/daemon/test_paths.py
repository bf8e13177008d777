"""Where a profile is, and that it is its owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hybridgw_daemon import paths
from hybridgw_protocol.errors import StorageUnavailable


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_holds_everything(tmp_path: Path) -> None:
    found = paths.find(str(tmp_path / "home"))
    files = [found.config_file, found.database, found.lock, found.endpoint, found.port, found.log_file]
    assert all(file.is_relative_to(tmp_path / "home") for file in files)
    assert len(set(files)) == 6


def test_a_home_does_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert paths.find("here").data == tmp_path / "here"
    assert paths.find("~/there").data == tmp_path / "me" / "there"


def test_without_a_home_the_platform_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found = paths.find(None)
    assert found.home is None
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert found.database == tmp_path / "XDG_DATA_HOME" / "hybridgw" / "hybridgw.db"
        assert found.endpoint == tmp_path / "XDG_STATE_HOME" / "hybridgw" / "endpoint.json"


def test_sec_L28_folders_are_private(tmp_path: Path) -> None:
    found = paths.find(str(tmp_path / "a" / "home"))
    before = os.umask(0)
    try:
        paths.make(found)
    finally:
        os.umask(before)
    assert mode(found.data) == 0o700
    assert mode(found.logs) == 0o700


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o777)
    (tmp_path / "home").chmod(0o777)
    paths.make(paths.find(str(tmp_path / "home")))
    assert mode(tmp_path / "home") == 0o700


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="--home"):
        paths.make(paths.find(str(tmp_path / "file" / "home")))


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to give a folder away")
def test_a_file_in_the_place_of_the_folder_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StorageUnavailable, match="there is a file of that name"):
        paths.make(paths.find(str(tmp_path / "home")))


def test_sec_L28_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    with pytest.raises(StorageUnavailable, match="another user"):
        paths.make(paths.find(str(tmp_path / "home")))
