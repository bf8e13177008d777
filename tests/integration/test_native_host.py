"""The native messaging host as a process, spoken to as browsers do, beside a daemon as a process."""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybridgw_protocol.native import (
    CHROME_IDS,
    FIREFOX_IDS,
    MAX_TO_BROWSER,
    MAX_TO_HOST,
    extension_of,
    head_of,
    is_listed,
    length_of,
)
from tests.integration._local_api import daemon

Json = dict[str, Any]
CHROME = f"chrome-extension://{CHROME_IDS[0]}/"
OTHER = f"chrome-extension://{'a' * 32}/"
MOZ = "moz-extension://11111111-2222-4333-8444-555555555555"
PATIENCE_S = 30.0
STORE = ("--secret-store", "insecure-file")


class Host:
    """What a browser has of it."""

    def __init__(self, home: Path, *arguments: str) -> None:
        program = Path(sys.executable).with_name("hybridgw-native-host")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HYBRIDGW_")}
        self.process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env=environment | {"HYBRIDGW_HOME": str(home)},
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.sink, self.source = self.process.stdin, self.process.stdout

    def say(self, message: Json) -> None:
        raw = json.dumps(message).encode()
        self.raw(head_of(len(raw)) + raw)

    def raw(self, raw: bytes) -> None:
        while raw:
            raw = raw[self.sink.write(raw) :]

    def hear(self, kind: str | None = None) -> Json:
        """The next message, of a kind if one is named. Raises: EOFError: there is none."""
        while True:
            size = length_of(self._exactly(4))
            assert size <= MAX_TO_BROWSER
            found: Json = json.loads(self._exactly(size))
            if kind is None or found["type"] == kind:
                return found
            assert found["type"] not in ("host_closed", "host_error", "host_failed"), found

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            ready, _, _ = select.select([self.source], [], [], PATIENCE_S)
            assert ready, "it says nothing"
            part = self.source.read(size - len(found))
            if not part:
                raise EOFError
            found += part
        return found

    def end(self) -> int:
        self.sink.close()
        return self.process.wait(PATIENCE_S)


Start = Callable[..., Host]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts hosts; none is left."""
    made: list[Host] = []

    def begin(*arguments: str, home: Path = tmp_path) -> Host:
        made.append(Host(home, *(arguments or (CHROME,))))
        return made[-1]

    yield begin
    for host in made:
        if host.process.poll() is None:
            host.process.kill()
        host.process.wait()
        host.sink.close()
        host.source.close()


def opened(host: Host, token: str) -> Json:
    """Connect and show a token."""
    host.say({"type": "host_open", "client_id": "test"})
    host.hear("host_opened")
    host.say({"type": "auth", "token": token})
    return host.hear()


@pytest.mark.parametrize(
    "arguments",
    [(OTHER,), ("/path/hybridgw.host.json", "another@extension"), ("https://example.com/",), (), (CHROME.upper(),)],
)
def test_sec_L30_an_extension_that_is_not_listed_gets_no_answer(start: Start, arguments: tuple[str, ...]) -> None:
    host = start(*arguments) if arguments else start("--help")
    assert host.hear()["code"] == "forbidden"
    assert host.process.wait(PATIENCE_S) == 1
    with pytest.raises(EOFError):
        host.hear()


def test_sec_L30_the_person_may_list_another_one(start: Start, tmp_path: Path) -> None:
    (tmp_path / "extensions.json").write_text(json.dumps({"allowed": ["a" * 32, 7]}))
    host = start(OTHER)
    host.say({"type": "host_hello"})
    assert host.hear()["type"] == "host_hello"
    for broken in (b"[", b"{}", b'{"allowed": "' + b"a" * 32 + b'"}', b"\xff"):
        (tmp_path / "extensions.json").write_bytes(broken)
        assert start(OTHER).hear()["code"] == "forbidden"


@pytest.mark.parametrize("length", [2**31, 2**32 - 1, MAX_TO_HOST + 1])
def test_sec_L30_a_message_of_two_gibibytes_is_refused_from_its_head(start: Start, length: int) -> None:
    host = start()
    host.say({"type": "host_hello"})
    host.hear("host_hello")
    before = psutil.Process(host.process.pid).memory_info().rss
    host.raw(head_of(length) + b"{" * 1_000)
    assert host.hear()["code"] == "too_big"
    assert host.process.wait(PATIENCE_S) == 1
    assert before < 64 * 2**20


@pytest.mark.parametrize("raw", [b"", b"nothing", b"[]", b'{"type": 1}', b"[" * 9_000, b"\xff\xfe", b'{"a": 1}'])
def test_sec_L30_what_is_no_message_ends_it_with_a_reason(start: Start, raw: bytes) -> None:
    host = start()
    host.raw(head_of(len(raw)) + raw)
    assert host.hear()["code"] == "bad_frame"
    assert host.process.wait(PATIENCE_S) == 1


def test_sec_L30_who_may_speak_is_told_from_what_the_browser_says() -> None:
    assert extension_of([CHROME, "--parent-window=5"]) == CHROME[:-1]
    assert extension_of(["/any/path.json", FIREFOX_IDS[0]]) == FIREFOX_IDS[0]
    for arguments in ([], ["x"], ["x", "y"], [CHROME + "x"], ["moz-extension://" + "a" * 32]):
        assert extension_of(arguments) is None
    assert is_listed(CHROME[:-1])
    assert is_listed(FIREFOX_IDS[0])
    assert not is_listed(CHROME_IDS[0])  # an id of Chromium's is none of Firefox's
    assert not is_listed(f"chrome-extension://{FIREFOX_IDS[0]}")


@pytest.mark.spec("F4")
def test_spec_F4_without_a_daemon_it_says_so_and_tells_when_there_is_one(start: Start, tmp_path: Path) -> None:
    began = time.monotonic()
    host = start()
    host.say({"type": "host_hello"})
    hello = host.hear()
    assert time.monotonic() - began < 15  # a tenth of a second where nothing else runs
    assert (hello["type"], hello["url"], hello["code"]) == ("host_hello", None, "not_running")
    assert "hybridgw up" in hello["message"]
    host.say({"type": "host_open", "client_id": "test"})
    closed = host.hear()
    assert (closed["type"], closed["code"], closed["problem"]) == ("host_closed", 1006, "not_running")
    host.say({"type": "host_call", "call": 1, "method": "GET", "path": "/api/auth/status"})
    assert host.hear()["code"] == "not_running"
    url = ""
    for turn in (1, 2):  # it comes, it goes, it comes back
        with daemon(tmp_path, *STORE, env={"HYBRIDGW_ALLOWED_ORIGINS": CHROME[:-1]}) as process:
            endpoint = process.ready()
            assert host.hear() == {"type": "host_ready", "url": endpoint.url}, turn
            assert endpoint.url != url
            url = endpoint.url
            assert opened(host, "nobody's")["type"] == "auth_error"
            assert host.hear("host_closed")["code"] == 4401
            host.say({"type": "host_open", "client_id": "test"})
            host.hear("host_opened")
            process.stop()
            assert host.hear("host_closed")["code"] in (4503, 1006)
    assert host.end() == 0


@pytest.mark.spec("F4")
def test_spec_F4_nothing_is_shown_to_a_daemon_that_is_at_another_port(start: Start, tmp_path: Path) -> None:
    """A proof is for one port: to the other one it would be a wrong one, and end what was given."""
    with daemon(tmp_path, *STORE, env={"HYBRIDGW_ALLOWED_ORIGINS": CHROME[:-1]}) as process:
        process.ready()
        host = start()
        host.say({"type": "host_hello"})
        url = host.hear("host_hello")["url"]
        believed = url.rpartition(":")[0] + ":1"
        host.say({"type": "host_open", "client_id": "test", "url": believed})
        assert host.hear() == {"type": "host_ready", "url": url}
        closed = host.hear()
        assert (closed["type"], closed["problem"]) == ("host_closed", "not_running")
        call = {"type": "host_call", "call": 7, "method": "GET", "path": "/api/auth/validate"}
        host.say({**call, "url": believed})
        assert host.hear() == {"type": "host_ready", "url": url}
        failed = host.hear()
        assert (failed["type"], failed["call"], failed["code"]) == ("host_failed", 7, "not_running")
        for known in ({"url": url}, {}):  # an older extension says nothing of it
            host.say(call | known)
            assert host.hear("host_answer")["status"] in (401, 403)
            host.say({"type": "host_open", "client_id": "test"} | known)
            assert host.hear("host_opened")["url"] == url


def test_spec_F4_frames_pass_as_they_are_and_long_ones_in_parts(start: Start, tmp_path: Path) -> None:
    with daemon(tmp_path, *STORE) as process:
        endpoint = process.ready()
        owner = start("/any/manifest.json", FIREFOX_IDS[0])
        owner.say({"type": "host_hello", "origin": MOZ})
        assert owner.hear("host_hello")["url"] == endpoint.url
        owner.say({"type": "host_open", "client_id": "test"})
        assert owner.hear()["reason"] == "HTTP 403 Forbidden"  # nobody has let it in

        asked = {"type": "host_call", "call": 1, "method": "POST", "path": "/api/auth/grants", "headers": {
            "Content-Type": "application/json", "X-HybridGW-Client": "test", "Host": "evil.example", "Cookie": "a=b",
        }, "body": json.dumps({"name": "test", "scopes": ["read:notes", "write:notes"]})}  # fmt: skip
        owner.say(asked)
        answer = owner.hear("host_answer")
        assert answer["headers"]["Access-Control-Allow-Origin"] == MOZ
        grant = json.loads(answer["body"])
        _approve(endpoint.url, endpoint.token.reveal(), grant)
        login = {
            "deployment_mode": "browser_extension",
            "credentials": {"grant": grant["id"], "secret": grant["secret"]},
        }
        owner.say(asked | {"call": 2, "path": "/api/auth/login", "body": json.dumps(login)})
        token = json.loads(owner.hear("host_answer")["body"])["access_token"]
        assert opened(owner, endpoint.token.reveal())["type"] == "auth_error"  # the owner's counts from no extension
        assert owner.hear("host_closed")["code"] == 4401

        assert opened(owner, token)["type"] == "auth_ok"
        text = "ünïcode \U0001f600 \u2028 " * 2_000
        for number in range(8):
            params = {"collection": "notes", "id": f"n{number}", "data": {"a": text}}
            frame = {"type": "command", "id": number, "command": "data.put", "params": params}
            raw = json.dumps(frame, ensure_ascii=False).encode()
            owner.raw(head_of(len(raw)) + raw)
            answer = owner.hear()
            assert (answer["type"], answer["id"]) == ("result", number)
        owner.say({"type": "command", "id": 9, "command": "data.list", "params": {"collection": "notes"}})
        parts = [owner.hear("host_part")]
        while not parts[-1]["is_last"]:
            parts.append(owner.hear("host_part"))
        assert len(parts) > 1
        page = json.loads("".join(part["text"] for part in parts))
        assert [one["data"]["a"] for one in page["result"]["items"]] == [text] * 8

        for path, method in (("/api/data/notes/x", "GET"), ("/api/auth/../data/notes", "GET"), ("//evil/", "GET"),
                             ("/api/auth/x y", "GET"), ("/api/auth/status", "PATCH"), (None, "GET")):  # fmt: skip
            owner.say({"type": "host_call", "call": 3, "method": method, "path": path})
            refused = owner.hear()
            assert refused["type"] == "host_failed" or json.loads(refused["body"])["code"] in (
                "unauthorized",
                "forbidden",
            )
        before = psutil.Process(owner.process.pid).num_threads()
        assert before < 6
        assert owner.end() == 0
        assert _open_sockets(endpoint.url, endpoint.token.reveal()) == 0


def test_sec_L30_firefox_states_no_origin_so_only_one_of_its_extensions_is_believed(start: Start) -> None:
    for origin in (CHROME[:-1], "https://example.com", None, MOZ + "/", "moz-extension://x"):
        host = start("/any/manifest.json", FIREFOX_IDS[0])
        host.say({"type": "host_hello", "origin": origin})
        assert host.hear()["code"] == "bad_frame"


# ---- inside ----------------------------------------------------------------------------------------------------------
def _is_whole(parts: list[str]) -> bool:
    try:
        json.loads("".join(parts))
    except ValueError:
        return False
    return True


def _call(url: str, token: str, method: str, path: str, body: Json | None = None) -> Json:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    found: Json = json.loads(connection.getresponse().read())
    connection.close()
    return found


def _approve(url: str, token: str, grant: Json) -> None:
    _call(url, token, "POST", f"/api/auth/grants/{grant['id']}/approve", {"code": grant["code"]})


def _open_sockets(url: str, token: str) -> int:
    for _ in range(600):
        if (found := int(_call(url, token, "GET", "/api/config/stats")["open"])) == 0:
            return 0
        time.sleep(0.05)
    return found
