"""Load for a daemon that runs, made with locust: programs over HTTP and over WebSockets, with one API key.

    locust -f tests/load/locustfile.py --headless -u 20 -r 10 -t 1m --host http://127.0.0.1:8000 --key-file key

The key needs read, write, send and listen of `loadtest`, a collection and a topic. What is written stays in the replica
it is written to: use a profile of its own. How to: docs/how-to/measure-under-load.md.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import gevent.event
import websocket
from locust import HttpUser, User, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

NAME: Final = "loadtest"
DOCUMENTS: Final = 20  # of each program
NOTES: Final = "n" * 200
ANSWER_S: Final = 30.0
_numbers = itertools.count()


@events.init_command_line_parser.add_listener
def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--key-file", default="key", help="file with an API key (hybridgw keys create)")
    parser.add_argument("--think", type=float, default=0.2, help="seconds between two calls of a program, on average")


def key_of(environment: Environment) -> str:
    """The key of this run; never on the command line, where every program of the machine could read it."""
    return Path(environment.parsed_options.key_file).read_text().strip()


class Program:
    """What both kinds share."""

    environment: Environment

    def begin(self) -> None:
        """Choose the names of its documents: other ones in each run, so that nothing depends on what is there."""
        self.number = f"{os.getpid()}-{next(_numbers)}"
        self.turn = 0

    def wait_time(self) -> float:
        """Think."""
        think_s = self.environment.parsed_options.think
        return float(between(0.5 * think_s, 1.5 * think_s)(self))

    def document(self) -> str:
        """The id of one of its documents."""
        return f"p{self.number}-{random.randrange(DOCUMENTS)}"

    def fields(self) -> dict[str, Any]:
        """Of the next write."""
        self.turn += 1
        return {"turn": self.turn, "status": random.choice(("open", "done")), "notes": NOTES}


class HttpProgram(Program, HttpUser):
    """Reads, writes and lists over HTTP."""

    weight = 1

    def on_start(self) -> None:
        """Write what will be read."""
        self.begin()
        self.client.headers["Authorization"] = f"Bearer {key_of(self.environment)}"
        operations = [
            {"op": "put", "collection": NAME, "id": f"p{self.number}-{n}", "data": self.fields()}
            for n in range(DOCUMENTS)
        ]
        self.client.post("/api/data", json={"operations": operations}, name="write several")

    @task(4)
    def read(self) -> None:
        """One document."""
        self.client.get(f"/api/data/{NAME}/{self.document()}", name="read")

    @task(3)
    def patch(self) -> None:
        """Some fields."""
        self.client.patch(f"/api/data/{NAME}/{self.document()}", json=self.fields(), name="patch")

    @task(1)
    def put(self) -> None:
        """A whole document."""
        self.client.put(f"/api/data/{NAME}/{self.document()}", json=self.fields(), name="put")

    @task(2)
    def find(self) -> None:
        """A list with a filter."""
        self.client.get(f"/api/data/{NAME}", params={"filter": '{"status":"open"}', "limit": 20}, name="list")


class SocketProgram(Program, User):
    """Stays connected: patches, follows its collection, talks on a topic and hears itself and the others."""

    weight = 1

    def on_start(self) -> None:
        """Connect, show the key, subscribe."""
        self.begin()
        self._answers: dict[int, gevent.event.AsyncResult] = {}
        self._count = 0
        address = urlsplit(self.environment.host or "").netloc
        started = time.perf_counter()
        try:
            self._ws = websocket.create_connection(
                f"ws://{address}/ws/local_install/{self.number}", timeout=2 * ANSWER_S, suppress_origin=True
            )
            self._send({"type": "auth", "token": key_of(self.environment)})
            hello = json.loads(self._ws.recv())
            if hello["type"] != "auth_ok":
                raise ConnectionError(hello.get("message"))
        except (OSError, websocket.WebSocketException) as error:
            self._tell("connect", started, error)
            raise StopUser from error
        self._tell("connect", started)
        self._reader = gevent.spawn(self._read)
        self.do("live.subscribe", collection=NAME)
        self.do("topic.subscribe", topic=NAME)

    def on_stop(self) -> None:
        """Say good-bye."""
        self._reader.kill()
        self._ws.close()

    @task(4)
    def patch(self) -> None:
        """A document, made if it is not there."""
        self.do("data.put", collection=NAME, id=self.document(), data=self.fields())

    @task(2)
    def find(self) -> None:
        """A list with a filter."""
        self.do("data.list", collection=NAME, filter={"status": "open"}, limit=20)

    @task(3)
    def publish(self) -> None:
        """A message to all."""
        self.do("topic.publish", topic=NAME, data={"from": self.number, "at": time.time()})

    def do(self, command: str, **params: Any) -> None:
        """Send a command and wait for its answer."""
        self._count += 1
        number, started = self._count, time.perf_counter()
        answer = self._answers[number] = gevent.event.AsyncResult()
        try:
            self._send({"type": "command", "id": number, "command": command, "params": params})
            frame = answer.get(timeout=ANSWER_S)
        except (OSError, websocket.WebSocketException, gevent.Timeout) as error:
            self._tell(command, started, ConnectionError(str(error)))
            raise StopUser from error
        finally:
            self._answers.pop(number, None)
        failed = frame["type"] == "error"
        self._tell(command, started, RuntimeError(f"{frame['code']}: {frame['message']}") if failed else None)

    def _read(self) -> None:
        """Answers to who waits for them; an event counts with the time since it was sent, where it says so."""
        while True:
            try:
                frame = json.loads(self._ws.recv())
            except (OSError, ValueError, websocket.WebSocketException) as error:
                for answer in self._answers.values():
                    answer.set_exception(ConnectionError(str(error)))
                return
            match frame["type"]:
                case "result" | "error" if frame["id"] in self._answers:
                    self._answers[frame["id"]].set(frame)
                case "event" if frame["event"] == "topic":
                    self._fire("event topic", (time.time() - frame["data"]["data"]["at"]) * 1000)
                case "event":
                    self._fire(f"event {frame['event']}", 0)
                case "heartbeat":
                    self._send({"type": "heartbeat_ack", "t": frame["t"]})

    def _send(self, frame: dict[str, Any]) -> None:
        self._ws.send(json.dumps(frame))

    def _tell(self, name: str, started: float, error: Exception | None = None) -> None:
        self._fire(name, (time.perf_counter() - started) * 1000, error)

    def _fire(self, name: str, took_ms: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type="WS", name=name, response_time=took_ms, response_length=0, exception=error, context={}
        )
