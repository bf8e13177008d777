"""Nothing is sent before it is known that the process is the daemon of this profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hybridgw_client.profile import Profile, find_endpoint, find_profile, holder, is_loopback
from hybridgw_protocol.errors import NotRunning, StateError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")


@contextmanager
def lock_holder(profile: Profile) -> Iterator[int]:
    """Another process that holds the profile's lock as a daemon does."""
    script = (
        f"import fcntl, sys; f = open({str(profile.lock)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def publish(profile: Profile, pid: int, **more: object) -> None:
    """An endpoint file as a daemon writes it."""
    fields = {"url": "http://127.0.0.1:1", "port": 1, "pid": pid, "token": "t", "started_ms": 5, "version": "0.1.0"}
    profile.endpoint.touch(0o600)
    profile.endpoint.write_text(json.dumps(fields | more))


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return find_profile(tmp_path)


@LINUX
def test_the_endpoint_counts_while_its_writer_holds_the_lock(profile: Profile) -> None:
    with pytest.raises(NotRunning, match=r"hybridgw --home .* up"):
        find_endpoint(profile)
    assert holder(profile) is None
    with lock_holder(profile) as pid:
        assert holder(profile) == pid
        publish(profile, pid, later="unknown fields are ignored")
        found = find_endpoint(profile)
        assert (found.url, found.pid, found.token.reveal()) == ("http://127.0.0.1:1", pid, "t")
        assert "t" not in repr(found.token)
        publish(profile, pid + 1)  # left over from another run
        with pytest.raises(NotRunning, match="has ended"):
            find_endpoint(profile)
    publish(profile, pid)
    with pytest.raises(NotRunning, match="has ended"):
        find_endpoint(profile)


@LINUX
def test_a_process_that_is_alive_but_holds_no_lock_is_not_the_daemon(profile: Profile) -> None:
    """After a crash the number may be another program's, and so may the port."""
    profile.lock.touch()
    publish(profile, os.getpid())
    with pytest.raises(NotRunning):
        find_endpoint(profile)


@LINUX
def test_a_daemon_that_cannot_be_found_any_more_is_told_from_none(profile: Profile) -> None:
    with lock_holder(profile) as pid:
        with pytest.raises(NotRunning, match=f"process {pid}.* is starting") as starting:
            find_endpoint(profile)
        assert starting.value.detail == {}
        publish(profile, pid)
        profile.endpoint.write_text("{")
        with pytest.raises(NotRunning, match=rf"process {pid}.* cannot be read.* down, then hybridgw .* up") as damaged:
            find_endpoint(profile)
        assert damaged.value.detail == {"lost_pid": pid}
        profile.endpoint.unlink()
        os.utime(profile.lock, (1, 1))  # it has run for long
        with pytest.raises(NotRunning, match=rf"process {pid}.* is not there"):
            find_endpoint(profile)


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604])
def test_a_file_that_others_can_read_or_write_is_not_trusted(profile: Profile, mode: int) -> None:
    publish(profile, 1)
    profile.endpoint.chmod(mode)
    with pytest.raises(StateError, match="not trusted"):
        find_endpoint(profile)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 5}', '{"url": "http://127.0.0.1:1"}', "\0", "[" * 100_000])
def test_a_damaged_file_says_what_to_do(profile: Profile, content: str) -> None:
    publish(profile, 1)
    profile.endpoint.write_text(content)
    with pytest.raises(NotRunning, match="hybridgw up"):
        find_endpoint(profile)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8000", True), ("http://[::1]:8000", True), ("http://127.8.9.10:1", True),
        ("http://localhost:8000", False), ("https://127.0.0.1:1", False), ("http://example.org", False),
        ("http://127.0.0.1.example.org", False), ("http://127.0.0.1@example.org", False), ("http://[::1", False),
        ("", False),
    ],
)  # fmt: skip
def test_sec_the_token_goes_to_this_machine_only(profile: Profile, url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback
    if not loopback:
        publish(profile, 1, url=url)
        with pytest.raises(StateError, match="not on this machine"):
            find_endpoint(profile)


def test_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRIDGW_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    named = find_profile("near")
    assert named.database == tmp_path / "near" / "hybridgw.db"
    assert named.log == tmp_path / "near" / "logs" / "daemon.log"
    assert named.to_command("up") == f"hybridgw --home {tmp_path / 'near'} up"
    own = find_profile()
    assert own.home is None
    assert own.to_command("up") == "hybridgw up"
    assert own.database.parent != own.endpoint.parent
    monkeypatch.setenv("HYBRIDGW_HOME", str(tmp_path / "env"))
    assert find_profile().endpoint == tmp_path / "env" / "endpoint.json"
    assert find_profile().to_command("up") == "hybridgw up"
    assert find_profile("near").home == str(tmp_path / "near")


def test_the_client_and_the_daemon_name_the_same_files(tmp_path: Path) -> None:
    from hybridgw_daemon import paths

    ours, theirs = find_profile(tmp_path), paths.find(str(tmp_path))
    assert (ours.endpoint, ours.lock, ours.database, ours.log, ours.config) == (
        theirs.endpoint,
        theirs.lock,
        theirs.database,
        theirs.log_file,
        theirs.config_file,
    )
