"""One daemon per profile, across real processes; the endpoint file; the port that is kept."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hybridgw_daemon import instance, paths
from hybridgw_protocol.errors import AlreadyRunning, PortTaken, StorageUnavailable
from hybridgw_protocol.runtime import Endpoint, Secret, decode_endpoint

HOLD = """
import sys, time
from hybridgw_daemon import instance, paths
with instance.lock(paths.find(sys.argv[1]), 1234):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def profile(tmp_path: Path) -> paths.Paths:
    found = paths.find(str(tmp_path / "home"))
    paths.make(found)
    return found


def endpoint(token: str = "t" * 43) -> Endpoint:
    return Endpoint("http://127.0.0.1:8123", 8123, os.getpid(), Secret(token), 17, "0.1.0")


def test_a_second_process_is_refused_and_told_who_has_it(profile: paths.Paths) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(profile.home)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        instance.publish(profile, endpoint())
        with pytest.raises(AlreadyRunning) as caught, instance.lock(profile, 1):
            pass
        other.kill()
    assert f"process {other.pid}" in caught.value.message
    assert "http://127.0.0.1:8123" in caught.value.message
    assert caught.value.detail == {"pid": other.pid, "started_ms": 1234}
    with instance.lock(profile, 2):  # what a killed process leaves behind means nothing
        pass


def test_the_lock_is_let_go_of_and_private(profile: paths.Paths) -> None:
    for k in range(2):
        with instance.lock(profile, k):
            assert stat.S_IMODE(profile.lock.stat().st_mode) == 0o600


def test_connections_are_bounded_by_the_files_there_are() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))\n"
        "from hybridgw_daemon.instance import room_for\n"
        "print(room_for(10), room_for(10_000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["10", "272", "400"]


def test_a_lock_file_with_garbage_is_no_obstacle(profile: paths.Paths) -> None:
    profile.lock.write_bytes(b"\0garbage")
    with instance.lock(profile, 1):
        pass


def test_a_lock_that_cannot_be_opened_is_a_clear_error(profile: paths.Paths) -> None:
    profile.lock.mkdir()
    with pytest.raises(StorageUnavailable, match=r"daemon\.lock"), instance.lock(profile, 1):
        pass


def test_sec_L28_the_endpoint_file_is_private_and_goes(profile: paths.Paths) -> None:
    profile.endpoint.write_text("left over")
    profile.endpoint.chmod(0o644)
    instance.publish(profile, endpoint())
    assert stat.S_IMODE(profile.endpoint.stat().st_mode) == 0o600
    read = decode_endpoint(profile.endpoint.read_bytes())
    assert read == endpoint()
    assert "t" * 43 not in repr(read)
    instance.withdraw(profile, endpoint("another"))
    assert profile.endpoint.exists(), "another daemon's file was removed"
    instance.withdraw(profile, endpoint())
    assert not profile.endpoint.exists()
    instance.withdraw(profile, endpoint())


def close(sockets: list[socket.socket]) -> int:
    port = int(sockets[0].getsockname()[1])
    for opened in sockets:
        opened.close()
    return port


def test_spec_G6_sec_L28_only_loopback_is_bound(profile: paths.Paths) -> None:
    sockets = instance.open_sockets(profile, 0)
    assert {s.getsockname()[0] for s in sockets} <= {"127.0.0.1", "::1"}
    assert len({s.getsockname()[1] for s in sockets}) == 1
    close(sockets)


def test_the_port_of_the_first_start_is_kept(profile: paths.Paths) -> None:
    blocked = instance.open_sockets(profile, 0)
    taken = int(blocked[0].getsockname()[1])
    profile.port.write_text(f"{taken}\n")
    with pytest.raises(PortTaken, match=f"{taken}.*--port"):  # a kept port is not given up in silence
        instance.open_sockets(profile, None)
    close(blocked)
    assert close(instance.open_sockets(profile, None)) == taken


def test_at_first_start_a_taken_port_is_passed_over(profile: paths.Paths) -> None:
    blocked = instance.open_sockets(profile, 0)
    taken = int(blocked[0].getsockname()[1])
    try:
        found = close(instance.open_sockets(profile, None, first=taken))
    finally:
        close(blocked)
    assert found != taken
    assert profile.port.read_text() == f"{found}\n"
    assert close(instance.open_sockets(profile, None)) == found


def test_a_named_port_is_that_one_or_an_error_and_is_not_kept(profile: paths.Paths) -> None:
    blocked = instance.open_sockets(profile, 0)
    with pytest.raises(PortTaken):
        instance.open_sockets(profile, int(blocked[0].getsockname()[1]))
    close(blocked)
    assert not profile.port.exists()


@pytest.mark.parametrize("text", ["", "nonsense", "0", "70000", "-1"])
def test_a_damaged_port_file_counts_as_none(profile: paths.Paths, text: str) -> None:
    free = close(instance.open_sockets(profile, 0))
    profile.port.write_text(text)
    assert close(instance.open_sockets(profile, None, first=free)) >= free
