"""The daemon as a process of its own: starting, ending in every way, and what its machine may do to it."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import sqlite3
import stat
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol.runtime import VERSION, Endpoint
from tests._rights import as_anybody, on_a_full_disk
from tests.integration._local_api import Process, daemon

STORE = ("--secret-store", "insecure-file")
PLANTED = "planted-secret-81b7"


def call(endpoint: Endpoint, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
    """(status, decoded body)."""
    request = urllib.request.Request(endpoint.url + path, method=method)  # noqa: S310 - our own daemon
    request.add_header("Authorization", f"Bearer {token or endpoint.token.reveal()}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as got:  # noqa: S310 - our own daemon
            return got.status, json.loads(got.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def put(endpoint: Endpoint, id: str, data: Any, collection: str = "notes") -> tuple[int, Any]:
    return call(endpoint, "PUT", f"/api/data/{collection}/{id}", data)


def until_unlocked(endpoint: Endpoint) -> None:
    """Wait until the key of the profile is open."""
    for _ in range(600):
        if put(endpoint, "probe", {"value": 1}, "settings")[0] == 200:
            return
        time.sleep(0.05)
    raise AssertionError(f"still locked: {call(endpoint, 'GET', '/health/ready')}")


# ---- in order --------------------------------------------------------------------------------------------------------
def test_it_starts_answers_and_ends_in_order(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        assert (endpoint.pid, endpoint.version) == (process.process.pid, VERSION)
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}"
        assert call(endpoint, "GET", "/health") == (200, {"status": "ok"})
        assert put(endpoint, "x", {"a": 1})[0] == 200
        ready = call(endpoint, "GET", "/health/ready")[1]
        assert (ready["ready"], ready["version"]) == (True, VERSION)
        assert {"database", "disk"} <= {c["name"] for c in ready["components"]}
        until_unlocked(endpoint)
        code, out, err = process.stop()
        assert (code, out, err) == (0, "", "")
    assert not (tmp_path / "home" / "endpoint.json").exists()
    with daemon(tmp_path / "home", *STORE) as process:
        again = process.ready()
        assert again.token != endpoint.token
        assert call(again, "GET", "/api/data/notes/x", token=endpoint.token.reveal())[0] == 401
        assert call(again, "GET", "/api/data/notes/x")[1]["data"] == {"a": 1}
        process.stop()


@pytest.mark.parametrize("way", ["api", "SIGINT", "SIGTERM"])
def test_every_way_to_end_it_is_clean(tmp_path: Path, way: str) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        if way == "api":
            assert call(endpoint, "POST", "/api/daemon/stop", {}) == (200, {"pid": process.process.pid})
        else:
            process.process.send_signal(getattr(signal, way))
        code, _, err = process.end()
    assert (code, err) == (0, "")
    log = (tmp_path / "home" / "logs" / "daemon.log").read_text()
    assert "ERROR" not in log
    assert "did not end in order" not in log
    assert not (tmp_path / "home" / "hybridgw.db.in-use").exists()


def test_sec_L28_files_are_their_owners(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        put(endpoint, "x", {"a": 1})
        logs = tmp_path / "home" / "logs"
        for _ in range(600):  # the log is written twice a second
            if any(logs.glob("*")):
                break
            time.sleep(0.05)
        modes = {p.relative_to(tmp_path): stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "home").rglob("*")}
        assert {name for name, mode in modes.items() if mode & 0o077} == set(), modes
        assert len(modes) >= 6
        process.stop()


def test_paths_and_configuration_tell_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text('device_name = "desk"\n')
    (tmp_path / "env").write_text("LOG_LEVEL=WARNING\n")
    arguments = [*STORE, "--env-file", str(tmp_path / "env")]
    with daemon(tmp_path / "home", *arguments, env={"HYBRIDGW_WS_HEARTBEAT_INTERVAL": "5"}) as process:
        endpoint = process.ready()
        sources = {s["name"]: (s["value"], s["source"]) for s in call(endpoint, "GET", "/api/config")[1]["items"]}
        assert sources["DEVICE_NAME"] == ("desk", str(tmp_path / "home" / "config.toml"))
        assert sources["LOG_LEVEL"] == ("WARNING", f"{tmp_path}/env:1")
        assert sources["WS_HEARTBEAT_INTERVAL"] == (5, "environment HYBRIDGW_WS_HEARTBEAT_INTERVAL")
        assert sources["SERVER_PORT"] == (0, "flag --port")
        paths = call(endpoint, "GET", "/api/paths")[1]
        assert paths["home"] == str(tmp_path / "home")
        assert Path(paths["database"]).exists()
        assert Path(paths["endpoint"]).exists()
        process.stop()


# ---- refused ---------------------------------------------------------------------------------------------------------
def fails(tmp_path: Path, code: int, *words: str, arguments: tuple[str, ...] = STORE, **more: Any) -> str:
    """It ends by itself with this code and one error that has these words."""
    process = Process(tmp_path / "home", *arguments, **more)
    got, out, err = process.end()
    assert (got, out) == (code, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err, err
    return err


def test_a_second_daemon_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        fails(tmp_path, 1, f"process {process.process.pid}", endpoint.url, "--home")
        assert call(endpoint, "GET", "/health")[0] == 200
        assert (tmp_path / "home" / "endpoint.json").exists()
        process.stop()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        process.ready()
        process.stop()
    file = tmp_path / "home" / "hybridgw.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = file.read_bytes()
    fails(tmp_path, 1, "newer version", "Upgrade")
    assert file.read_bytes() == before


def test_a_damaged_database_is_set_aside_and_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "hybridgw.db").write_bytes(b"not a database" * 1_000)
    err = fails(tmp_path, 1, "damaged", "set aside")
    aside = [f for f in (tmp_path / "home").iterdir() if ".damaged-" in f.name]
    assert len(aside) == 1
    assert aside[0].read_bytes() == b"not a database" * 1_000
    assert aside[0].name in err
    with daemon(tmp_path / "home", *STORE) as process:
        assert call(process.ready(), "GET", "/health")[0] == 200
        process.stop()


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file in the way")
    fails(tmp_path, 1, "--home")


def test_a_database_on_a_disk_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "hybridgw.db").symlink_to(tmp_path / "unmounted" / "hybridgw.db")
    fails(tmp_path, 1, "hybridgw.db cannot be read or written (No such file or directory). Check")


def test_a_home_that_is_closed_to_its_owner(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    home.mkdir(mode=0o500)
    process = Process(home, *STORE, before=as_anybody)
    code, _, err = process.end()
    home.chmod(0o700)
    assert (code, f"chmod u+rwx '{home}'" in err) == (1, True), err


def test_all_faults_of_the_configuration_at_once(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("server_prt = 1\ndebug = 7\n")
    fails(tmp_path, 2, "server_port?", "DEBUG", "LOG_LEVEL", arguments=(*STORE, "--log-level", "loud"))


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        err = fails(tmp_path, 1, f"Port {port}", "--port", arguments=(*STORE, "--port", str(port)))
    (line,) = (json.loads(line) for line in (tmp_path / "home" / "logs" / "daemon.log").read_text().splitlines())
    assert line["message"] == f"the daemon ended: {err.removeprefix('error: ').strip()}"


def test_usage(tmp_path: Path) -> None:
    process = Process(tmp_path / "home", "--nonsense")
    code, _, err = process.end()
    assert (code, "--nonsense" in err) == (2, True)


# ---- killed ----------------------------------------------------------------------------------------------------------
def test_kill_9_while_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(17)
    acknowledged: dict[str, int] = {}
    for _ in range(3):
        with daemon(tmp_path / "home", *STORE) as process:
            endpoint = process.ready()
            assert call(endpoint, "GET", "/health")[0] == 200
            for name, value in acknowledged.items():
                assert call(endpoint, "GET", f"/api/data/notes/{name}")[1]["data"]["n"] >= value
            writers = [threading.Thread(target=write, args=(endpoint, w, acknowledged)) for w in range(4)]
            for writer in writers:
                writer.start()
            time.sleep(0.2 + rng.random() * 0.4)
            process.kill()
            for writer in writers:
                writer.join()
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        assert len(acknowledged) == 4
        for name, value in acknowledged.items():
            assert call(endpoint, "GET", f"/api/data/notes/{name}")[1]["data"]["n"] in (value, value + 1)
        process.stop()
    log = (tmp_path / "home" / "logs" / "daemon.log").read_text()
    assert "the database is sound" in log


def write(endpoint: Endpoint, writer: int, acknowledged: dict[str, int]) -> None:
    """One document, counted up, until the daemon is gone."""
    n = acknowledged.get(f"w{writer}", 0) + 1
    while True:
        try:
            status, _ = put(endpoint, f"w{writer}", {"n": n})
        except (OSError, urllib.error.URLError, ValueError):
            return
        assert status == 200
        acknowledged[f"w{writer}"] = n
        n += 1


def test_a_full_disk_refuses_writes_and_goes_on_reading(tmp_path: Path) -> None:
    limit = 700_000

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # a write beyond fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    acknowledged: list[str] = []
    with daemon(tmp_path / "home", *STORE, before=bounded) as process:
        endpoint = process.ready()
        for k in range(200):
            status, body = put(endpoint, f"{k:03}", {"t": "x" * 20_000})
            if status != 200:
                break
            acknowledged.append(f"{k:03}")
        assert status in (503, 507), body
        assert body["code"] in ("storage_unavailable", "disk_full")
        assert acknowledged
        assert call(endpoint, "GET", "/health") == (200, {"status": "ok"})
        for name in (acknowledged[0], acknowledged[-1]):
            assert call(endpoint, "GET", f"/api/data/notes/{name}")[0] == 200
        assert call(endpoint, "GET", f"/api/data/notes/{k:03}")[0] == 404
        process.stop()
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        listed = call(endpoint, "GET", "/api/data/notes?limit=1000")[1]["items"]
        assert [d["id"] for d in listed] == acknowledged
        assert put(endpoint, "after", {"a": 1})[0] == 200
        process.stop()


def test_no_space_at_the_very_start(tmp_path: Path) -> None:
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    for before in (on_a_full_disk, bounded):
        fails(tmp_path, 1, "No space left", before=before)
    with daemon(tmp_path / "home", *STORE) as process:
        assert put(process.ready(), "x", {"a": 1})[0] == 200
        process.stop()


# ---- keys and secrets ------------------------------------------------------------------------------------------------
def test_spec_A7_without_a_keyring_local_data_is_served(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", env={"DBUS_SESSION_BUS_ADDRESS": "disabled:"}) as process:
        endpoint = process.ready()
        assert put(endpoint, "x", {"a": 1})[0] == 200
        for _ in range(100):
            status = call(endpoint, "GET", "/api/sync/status")[1]
            if "hybridgw up --secret-store" in (status["message"] or ""):
                break
            time.sleep(0.05)
        assert status["state"] == "locked"
        assert "hybridgw up --secret-store" in status["message"]
        assert put(endpoint, "theme", {"value": 1}, "settings")[1]["code"] == "secrets_locked"
        assert call(endpoint, "POST", "/api/devices/pair", {})[1]["code"] == "secrets_locked"
        process.stop()
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        assert call(endpoint, "GET", "/api/data/notes/x")[1]["data"] == {"a": 1}
        process.stop()


@pytest.mark.parametrize("environment", ["production", "development"])
def test_sec_L33_no_secret_and_no_content_is_in_the_log(tmp_path: Path, environment: str) -> None:
    env = {"HYBRIDGW_ENVIRONMENT": environment, "HYBRIDGW_LOG_LEVEL": "DEBUG", "HYBRIDGW_API_KEY": PLANTED}
    with daemon(tmp_path / "home", *STORE, env=env) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        token = endpoint.token.reveal()
        answers = [
            put(endpoint, f"id-{PLANTED}", {"title": PLANTED, PLANTED: PLANTED}),
            put(endpoint, f"id-{PLANTED}", {"value": PLANTED}, "settings"),
            put(endpoint, "x", {"title": {"$add": [PLANTED]}}),
            put(endpoint, "x", {"title": 1, "notes": PLANTED}, "tasks"),
            call(endpoint, "GET", f"/api/data/notes?filter={PLANTED}"),
            call(endpoint, "GET", f"/{PLANTED}"),
            call(endpoint, "GET", f"/api/data/notes/x?token={token}"),
            call(endpoint, "GET", "/api/data/notes/x", token=PLANTED),
            call(endpoint, "POST", "/api/data", {"operations": [{"op": PLANTED, "collection": "x"}]}),
            call(endpoint, "POST", "/api/relays", {"link": f"https://{PLANTED}@127.0.0.1:1/#i={PLANTED}"}),
        ]
        assert [status for status, _ in answers[:2]] == [200, 200]
        with socket.create_connection(("127.0.0.1", endpoint.port)) as raw:
            raw.sendall(f"GET / HTTP/1.1\r\nAuthorization: Bearer {token}\r\nbroken {PLANTED}\r\n\r\n".encode())
            raw.recv(4096)
        code, out, err = process.stop()
    assert code == 0
    written = (tmp_path / "home" / "logs" / "daemon.log").read_text() + out + err
    assert len(written.splitlines()) > 10
    assert token not in written
    assert PLANTED not in written
    files = [f for f in (tmp_path / "home").rglob("*") if f.is_file()]
    assert not [f for f in files if token.encode() in f.read_bytes()], "the token outlives the daemon"


def test_it_stays_small_while_idle(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        with open(f"/proc/{process.process.pid}/status") as status:
            rss_kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert rss_kib < 60 * 1024
        process.stop()
    assert os.path.exists(tmp_path / "home" / "hybridgw.db")
