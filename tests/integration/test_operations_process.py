"""What an operator sees of a daemon and a relay that run as processes: calls of curl, planted secrets, ports, debug."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from hybridgw_protocol.runtime import Endpoint
from tests.integration._cli import Cli, relay
from tests.integration._local_api import daemon
from tests.integration.test_local_api_process import STORE, call, until_unlocked


def get(url: str, **headers: str) -> tuple[int, str]:
    """(status, body)."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own daemon
    try:
        with urllib.request.urlopen(request, timeout=20) as got:  # noqa: S310 - our own daemon
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def families(text: str) -> dict[str, Any]:
    """By name."""
    return {family.name: family for family in text_string_to_metric_families(text)}


# ---- the calls of a person who looks for trouble ---------------------------------------------------------------------
@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls") / "home"


@pytest.fixture(scope="module")
def endpoint(home: Path) -> Iterator[Endpoint]:
    with daemon(home, *STORE) as process:
        found = process.ready()
        until_unlocked(found)
        yield found
        process.stop()


def curl(endpoint: Endpoint, *words: str, token: bool = True) -> tuple[int, str]:
    """The real program. Returns: (status, body)."""
    program = shutil.which("curl")
    assert program, "curl is needed: apt-get install curl"
    arguments = [program, "-s", "-w", "\n%{http_code}", *words[1:], f"{endpoint.url}{words[0]}"]
    if token:
        arguments[1:1] = ["-H", f"Authorization: Bearer {endpoint.token.reveal()}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.spec("G8")
def test_spec_G8_health_needs_nothing(endpoint: Endpoint) -> None:
    assert curl(endpoint, "/health", token=False) == (200, '{"status":"ok"}')


@pytest.mark.spec("G8")
def test_spec_G8_sync_status_and_trigger(endpoint: Endpoint) -> None:
    assert curl(endpoint, "/api/sync/status", token=False)[0] == 401
    status, body = curl(endpoint, "/api/sync/status")
    assert (status, json.loads(body)["state"]) == (200, "offline")
    asked = '{"sync_type":"settings","deployment_mode":"web_app"}'
    status, body = curl(
        endpoint, "/api/sync/trigger", "-X", "POST", "-H", "Content-Type: application/json", "-d", asked
    )
    result = json.loads(body)
    assert status == 200
    assert result.keys() >= {"sync_type", "path", "sent", "received", "conflicts", "started_at", "finished_at"}
    assert (result["sync_type"], result["status"]) == ("settings", "offline")
    assert curl(endpoint, "/api/sync/trigger", "-X", "POST", "-d", asked)[0] == 415  # a form is no JSON


@pytest.mark.spec("G8")
def test_spec_G8_metrics(endpoint: Endpoint) -> None:
    status, body = curl(endpoint, "/metrics", token=False)
    assert status == 200
    found = families(body)
    expected = {
        "http_requests", "http_request_duration_seconds", "websocket_connections_active", "data_sync_operations",
        "auth_operations", "message_routing",
    }  # fmt: skip
    assert found.keys() >= expected
    active = {s.labels["deployment"]: s.value for s in found["websocket_connections_active"].samples}
    assert active.keys() == {"web_app", "browser_extension", "local_install"}
    for name in ("hybridgw_store_bytes", "hybridgw_sync_lag_seconds", "hybridgw_store_commit_seconds",
                 "hybridgw_sync_pending_writes", "hybridgw_relays", "process_resident_memory_bytes"):  # fmt: skip
        assert found[name].samples, name
    commits = {s.name: s.value for s in found["hybridgw_store_commit_seconds"].samples}
    assert commits["hybridgw_store_commit_seconds_count"] >= 1


def test_spec_G8_docs(endpoint: Endpoint) -> None:
    assert curl(endpoint, "/docs")[1].startswith("<!doctype html>")
    assert json.loads(curl(endpoint, "/openapi.json")[1])["info"]["title"] == "HybridGW local API"


@pytest.mark.spec("O3")
@pytest.mark.usefixtures("endpoint")
def test_spec_O3_doctor_shows_the_machine_and_the_performance(home: Path) -> None:
    shown = Cli(home)("doctor", code=None).out
    assert re.search(r"ok +system +\d", shown), shown
    assert re.search(r"ok +performance +[\d,]+ calls?", shown), shown


# ---- ports -----------------------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_spec_O1_metrics_on_a_port_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    with daemon(tmp_path / "home", *STORE, env={"HYBRIDGW_METRICS_PORT": str(port)}) as process:
        endpoint = process.ready()
        base = f"http://127.0.0.1:{port}"
        status, text = get(f"{base}/metrics")
        assert (status, "http_requests" in families(text)) == (200, True)
        assert get(f"{base}/health") == (200, '{"status":"ok"}')
        token = {"Authorization": f"Bearer {endpoint.token.reveal()}"}
        for path in ("/api/data/notes", "/api/daemon/stop", "/docs"):
            assert get(base + path)[0] == 401
            assert get(base + path, **token)[0] == 404
        assert get(f"{base}/metrics", Host="evil.example")[0] == 421
        assert get(f"{base}/metrics", Host=f"127.0.0.1:{endpoint.port}")[0] == 421
        assert get(f"{endpoint.url}/metrics")[0] == 404
        assert process.stop()[0] == 0


def test_metrics_switched_off_and_a_taken_port(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE, env={"HYBRIDGW_METRICS_ENABLED": "false"}) as process:
        assert get(f"{process.ready().url}/metrics")[0] == 404
        process.stop()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        with daemon(tmp_path / "home", *STORE, env={"HYBRIDGW_METRICS_PORT": taken}) as process:
            code, _, err = process.end()
    assert code == 1
    assert f"Port {taken}" in err
    assert "METRICS_PORT" in err


def test_a_daemon_that_denies_an_address_still_serves_its_owner(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE, env={"HYBRIDGW_IP_ALLOW": "127.0.0.1"}) as process:
        endpoint = process.ready()
        assert get(f"{endpoint.url}/health")[0] == 200
        with socket.create_connection(("127.0.0.1", endpoint.port), source_address=("127.0.0.3", 0)) as other:
            other.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\n\r\n".encode())
            assert other.recv(100).startswith(b"HTTP/1.1 403 ")
        process.stop()


# ---- debug -----------------------------------------------------------------------------------------------------------
@pytest.mark.spec("O2")
def test_spec_O2_debug_shows_requests_and_statements_without_their_values(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE, env={"HYBRIDGW_DEBUG": "true"}) as process:
        endpoint = process.ready()
        call(endpoint, "PUT", "/api/data/notes/planted-id", {"secret field": "planted-value"})
        call(endpoint, "GET", "/api/data/notes?limit=7&filter=%7B%22a%22%3A%22planted%22%7D")
        asyncio.run(speak(endpoint))
        process.stop()
    lines = [json.loads(line) for line in (tmp_path / "home" / "logs" / "daemon.log").read_text().splitlines()]
    statements = [line["message"] for line in lines if line["event"] == "trace.sql"]
    assert any(re.match(r"\d+\.\d{3} ms INSERT INTO document", text) for text in statements), statements[-20:]
    requests = [line["message"] for line in lines if line["event"] == "trace.http"]
    assert any("command=data.put" in text and "body=33 B" in text for text in requests), requests
    assert any("query=filter,limit" in text for text in requests)
    frames = [line["message"].split(" ", 2)[2] for line in lines if line["event"] == "trace.frame"]
    assert [re.sub(r"\d+ B", "N B", text) for text in frames] == [
        "auth N B", "command topic.publish N B", "command N B", "malformed N B",
    ]  # fmt: skip
    assert "planted" not in json.dumps(lines)


async def speak(endpoint: Endpoint) -> None:
    """Four frames, each of which holds what must not be seen."""
    url = f"ws://127.0.0.1:{endpoint.port}/ws/local_install/traced"
    async with connect(url) as ws:
        for frame in (
            {"type": "auth", "token": endpoint.token.reveal()},
            {"type": "command", "id": 1, "command": "topic.publish", "params": {"topic": "t", "data": "planted"}},
            {"type": "command", "id": 2, "command": "planted"},
            {"type": "planted"},
        ):
            await ws.send(json.dumps(frame))
            await ws.recv()


def test_spec_O2_without_debug_nothing_is_traced(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE, "--log-level", "DEBUG") as process:
        call(process.ready(), "PUT", "/api/data/notes/x", {"a": 1})
        process.stop()
    assert "trace." not in (tmp_path / "home" / "logs" / "daemon.log").read_text()


# ---- planted secrets -------------------------------------------------------------------------------------------------
def test_sec_L33_planted_secrets_are_nowhere_to_be_seen(tmp_path: Path) -> None:
    """Two devices and a relay, in debug, with every kind of secret there is; then everything they say is searched."""
    passphrase, jwt, unknown = "planted correct horse", "planted-jwt-key-" + "k" * 32, "planted-unknown"
    (tmp_path / "env").write_text(f"JWT_SECRET_KEY={jwt}\nREDIS_PASSWORD={unknown}\nMY_TOKEN={unknown}\n")
    (tmp_path / "pass").write_text(passphrase + "\n")
    (tmp_path / "pass").chmod(0o600)
    said: list[str] = []
    env = {"HYBRIDGW_DEBUG": "true", "HYBRIDGW_PASSPHRASE_FILE": str(tmp_path / "pass"), "HYBRIDGW_API_TOKEN": unknown}
    more = ("--secret-store", "passphrase", "--env-file", str(tmp_path / "env"))
    with relay(tmp_path / "relay") as there, daemon(tmp_path / "a", *more, env=env) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        link = there.invite()
        invite = link.partition("hgw-invite=")[2]
        assert len(invite) > 20
        token = {"Authorization": f"Bearer {endpoint.token.reveal()}"}
        status, body = call(endpoint, "POST", "/api/relays", {"link": link})
        assert status == 201, body
        said.append(json.dumps(body))
        status, offer = call(endpoint, "POST", "/api/devices/pair", {})
        assert status == 201, offer
        code = offer["code"].partition("@")[0]
        # Shown once to the owner who asked; nowhere else. Bad calls that carry secrets in every place:
        for path in (f"/api/data/notes?token={endpoint.token.reveal()}", f"/api/{code}", f"/api/data/{invite}/x"):
            said.append(get(endpoint.url + path, **token)[1])
            said.append(get(endpoint.url + path)[1])
            said.append(get(endpoint.url + path, Host=f"{invite}.example")[1])
        said.append(json.dumps(call(endpoint, "POST", "/api/relays", {"link": link[:-3] + "xyz"})))
        said.append(json.dumps(call(endpoint, "POST", "/api/devices/pair/join", {"code": "999-" + code[4:]})))
        said.append(get(f"{endpoint.url}/health", Authorization=f"Bearer {jwt}", **{"User-Agent": f"Bearer {jwt}"})[1])
        call(endpoint, "PUT", "/api/data/settings/api-key", {"value": unknown})
        for path in ("/metrics", "/api/config", "/api/config/health", "/health/ready", "/api/alarms", "/api/relays",
                     "/api/sync/status", "/api/paths", "/docs", "/openapi.json"):  # fmt: skip
            said.append(get(endpoint.url + path, **token)[1])
        cli = Cli(tmp_path / "a")
        for line in ("doctor", "doctor --json", "config", "config --json", "status --json", "logs"):
            ran = cli(*line.split(), code=None)
            said += [ran.out, ran.talk]
        time.sleep(0.6)  # logs are written twice a second
        code_out = process.stop()
        said += [str(code_out[1]), str(code_out[2])]
    seed = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    logs = [path for path in seed if path.parent.name == "logs"]
    assert logs
    said += [seed[path].decode() for path in logs]
    everything = "\n".join(said)
    assert "trace.sql" in everything
    assert re.search(r"in peer=http://\S+ Welcome request=\d+ \d+ B", everything)
    secrets = {
        "token": endpoint.token.reveal(), "invite": invite, "pairing code": code, "passphrase": passphrase,
        "JWT secret": jwt, "unknown": unknown,
    }  # fmt: skip
    for what, secret in secrets.items():
        at = everything.find(secret)
        assert at < 0, f"{what} in: {everything[max(0, at - 200) : at + 50]}"
