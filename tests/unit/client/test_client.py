"""The client against servers that behave, misbehave and go away. What the real daemon answers: tests/integration."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from hybridgw_client import Client, Event, find_profile
from hybridgw_client.client import path_of
from hybridgw_protocol.errors import BadValue, HybridGWError, NotFound, NotRunning, StateError
from hybridgw_protocol.runtime import Endpoint, Secret

Answer = Callable[[BaseHTTPRequestHandler], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the test and notes it."""

    protocol_version = "HTTP/1.1"
    answer: Answer
    seen: list[tuple[str, str, dict[str, str], bytes]]
    connections: list[int]

    def setup(self) -> None:
        super().setup()
        self.connections.append(1)

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, dict(self.headers), body))
        type(self).answer(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def log_message(self, *_: object) -> None:
        pass


def send(handler: BaseHTTPRequestHandler, value: object, status: int = 200, kind: str = "application/json") -> None:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw)


class Served(Client):
    """A client of the test's server: how the real one is found is tested with the profile."""

    def __init__(self, url: str, tmp_path: Path, **more: Any) -> None:
        self.profile = find_profile(tmp_path)
        self.endpoint = Endpoint(url, 1, 4312, Secret("the-token"), 0, "0.1.0")
        self.timeout_s = more.get("timeout_s", 5.0)
        self._connection = None
        self._used_s = 0.0


@contextmanager
def serving(answer: Answer, tmp_path: Path, **more: Any) -> Iterator[tuple[Served, type[Handler]]]:
    handler = type("One", (Handler,), {"answer": staticmethod(answer), "seen": [], "connections": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with Served(f"http://127.0.0.1:{server.server_port}", tmp_path, **more) as client:
            yield client, handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_calls_share_one_connection_and_carry_the_token(tmp_path: Path) -> None:
    with serving(lambda h: send(h, {"id": "milk"}), tmp_path) as (client, handler):
        assert client.document("tasks", "milk") == {"id": "milk"}
        client.put("tasks", "a/b?c#d é", {"ü": 1}, version=7)
        client.patch("tasks", "milk", {"x": None})
        assert client.delete("tasks", "milk", confirm=True) == {"id": "milk"}
        client.get("/api/x", filter={"a": 1}, none=None, deleted=True, n=5)
        client.post("/api/y")
    assert len(handler.connections) == 1
    methods = [(method, path) for method, path, _, _ in handler.seen]
    assert methods == [
        ("GET", "/api/data/tasks/milk"),
        ("PUT", "/api/data/tasks/a%2Fb%3Fc%23d%20%C3%A9"),
        ("PATCH", "/api/data/tasks/milk"),
        ("DELETE", "/api/data/tasks/milk?confirm=true"),
        ("GET", "/api/x?filter=%7B%22a%22%3A1%7D&deleted=true&n=5"),
        ("POST", "/api/y"),
    ]
    headers = [headers for _, _, headers, _ in handler.seen]
    assert all(h["Authorization"] == "Bearer the-token" for h in headers)
    assert all("Origin" not in h and "token" not in path for h, (_, path) in zip(headers, methods, strict=True))
    assert headers[1]["If-Match"] == '"7"'
    assert headers[1]["Content-Type"] == "application/json"
    assert json.loads(handler.seen[1][3]) == {"ü": 1}
    assert handler.seen[5][3] == b"{}"


def test_proxies_of_the_environment_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(lambda h: send(h, {}), tmp_path) as (client, _):
        assert client.get("/health") == {}


def test_a_problem_becomes_its_error(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, {"code": "not_found", "detail": "No such thing."}, 404, "application/problem+json")

    with serving(answer, tmp_path) as (client, handler):
        for _ in range(2):
            with pytest.raises(NotFound, match=r"No such thing\."):
                client.get("/api/x")
    assert len(handler.connections) == 1


@pytest.mark.parametrize(
    ("value", "status", "kind", "says"),
    [
        (b"<html>", 200, "text/html", "is not our daemon"),
        (b"{", 200, "application/json", "broken JSON"),
        (b"", 500, "application/json", "answered 500"),
        (b"[1]", 500, "application/json", "answered 500"),
        (b"<html>", 502, "text/html", "is not our daemon"),
    ],
)
def test_another_program_at_the_port_is_told_apart(
    value: bytes, status: int, kind: str, says: str, tmp_path: Path
) -> None:
    with (
        serving(lambda h: send(h, value, status, kind), tmp_path) as (client, _),
        pytest.raises(HybridGWError, match=says),
    ):
        client.get("/api/x")


def test_pages_are_walked_as_they_are_needed(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        at = int(handler.path.partition("cursor=")[2] or 0)
        send(handler, {"items": [{"n": at}, {"n": at + 1}], "next_cursor": str(at + 2) if at < 4 else None})

    with serving(answer, tmp_path) as (client, handler):
        assert [item["n"] for item in client.pages("/api/x", limit=2)] == [0, 1, 2, 3, 4, 5]
        assert handler.seen[1][1] == "/api/x?limit=2&cursor=2"
        handler.seen.clear()
        assert next(client.documents("tasks"))["n"] == 0
        assert [path for _, path, _, _ in handler.seen] == ["/api/data/tasks?limit=1000"]


def test_a_cursor_that_does_not_move_is_no_endless_loop(tmp_path: Path) -> None:
    with (
        serving(lambda h: send(h, {"items": [1], "next_cursor": "same"}), tmp_path) as (client, _),
        pytest.raises(StateError, match="same page twice"),
    ):
        list(client.pages("/api/x"))


def test_a_kept_connection_that_died_costs_a_get_nothing_and_a_write_is_not_repeated(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, {})
        handler.close_connection = True  # without telling, as after a restart

    with serving(answer, tmp_path) as (client, handler):
        client.get("/api/x")
        client.get("/api/x")
        assert len(handler.connections) == 2
        with pytest.raises(NotRunning, match="closed the connection"):
            client.post("/api/x")
        assert [method for method, *_ in handler.seen] == ["GET", "GET"]
        client.post("/api/x")  # on a new connection


def test_nobody_at_the_port_and_nobody_answering(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="gone away"):
        Served("http://127.0.0.1:1", tmp_path).get("/health")
    release = threading.Event()
    with serving(lambda _h: bool(release.wait(5)) and None, tmp_path, timeout_s=0.05) as (client, _):
        with pytest.raises(NotRunning, match="does not answer"):
            client.get("/health")
        release.set()


def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b'{"a"')
        handler.close_connection = True

    with serving(answer, tmp_path) as (client, _), pytest.raises(NotRunning, match="closed the connection"):
        client.get("/api/x")


def test_a_call_that_was_interrupted_does_not_spoil_the_next(tmp_path: Path) -> None:
    """Ctrl-C while an answer is awaited: the next call gets its own answer, on a new connection."""
    answering = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/slow":
            os.kill(os.getpid(), signal.SIGINT)  # to the main thread, which waits for this answer
            answering.wait(5)
        send(handler, {"path": handler.path})

    with serving(answer, tmp_path) as (client, _):
        client.get("/before")
        with pytest.raises(KeyboardInterrupt):
            client.get("/slow")
        assert client.get("/after") == {"path": "/after"}
        answering.set()


def test_events_come_with_cursors_and_a_lost_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "Last-Event-ID" not in handler.headers:
            body = b': hello\n\nid: e-1\nevent: document\ndata: {"id": "a"}\n\ndata: no json\n\n'
        else:
            body = b'id: e-2\nevent: document\ndata: {"id": "b"}\n\n'
        send(handler, body, kind="text/event-stream")
        handler.close_connection = True

    with serving(answer, tmp_path) as (client, handler):
        events = client.events(reconnect=True)
        assert next(events) == Event("e-1", "document", {"id": "a"})
        assert next(events) == Event("e-2", "document", {"id": "b"})
        events.close()
        assert handler.seen[1][2]["Last-Event-ID"] == "e-1"
        with pytest.raises(NotRunning):
            list(client.events())


def test_a_stream_that_is_refused_says_why(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, {"code": "unauthorized", "detail": "No."}, 401, "application/problem+json")

    with serving(answer, tmp_path) as (client, _), pytest.raises(HybridGWError, match=r"No\."):
        list(client.events())


def test_ids_never_make_another_path() -> None:
    assert path_of("data", "tasks", "../x/y%?#") == "/api/data/tasks/..%2Fx%2Fy%25%3F%23"


def test_what_no_json_can_hold_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with serving(lambda h: send(h, {}), tmp_path) as (client, handler):
        with pytest.raises(ValueError, match="JSON"):
            client.put("tasks", "a", {"x": float("nan")})
        assert handler.seen == []


def test_an_empty_id_is_refused_before_it_is_another_path() -> None:
    assert path_of("data", "tasks", "a/b") == "/api/data/tasks/a%2Fb"
    with pytest.raises(BadValue, match="empty"):
        path_of("data", "tasks", "")
