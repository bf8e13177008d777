"""The program `hybridgw-native-host`: a thin pipe between a browser and the daemon, started by the browser.

It lives as long as the browser keeps the port open. Frames of the WebSocket pass through as they are, in both
directions; messages whose type begins with `host_` are its own: to open and close the connection, and for the few
calls by which an extension is let in. It holds no credential: the extension shows its own, as over a WebSocket, and the
daemon judges it. It adds the address out of the endpoint file and the origin that the browser states. Without a
daemon it says so and watches for one. Messages: docs/reference/native-host.md.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from hybridgw_protocol.errors import HybridGWError, NotRunning
from hybridgw_protocol.native import (
    CALL_HEADERS,
    CALL_PATHS,
    MAX_CALLS,
    MAX_TO_HOST,
    PART_CHARS,
    PROTOCOL,
    extension_of,
    head_of,
    is_firefox_origin,
    is_listed,
    length_of,
)
from hybridgw_protocol.runtime import VERSION, Endpoint

from .plain_socket import Ended, PlainSocket
from .profile import Profile, find_endpoint, find_profile

LIST_NAME: Final = "extensions.json"  # in the folder of config.toml: {"allowed": [IDS]}, further ones of the person's
WATCH_S: Final = 0.5  # for a daemon that is not there
CALL_S: Final = 40.0  # longer than a long poll
MAX_ANSWER: Final = 256 * 1024
_WS_PROTOCOL: Final = "hybridgw.v1.json"
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = ("GET", "POST", "DELETE")

Json = dict[str, Any]


class Bad(Exception):
    """The other side is no browser with our extension, or a broken one: the host ends. Its text goes to the browser."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Browser:
    """stdin and stdout. `read` in one thread, `say` in any."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink, self._lock = source, sink, threading.Lock()

    def read(self) -> tuple[Json, bytes] | None:
        """The next message and its bytes; None: the port is closed.

        Raises: Bad: too long, which its head tells before anything is read, or no object with a type.
        """
        head = self._source.read(4)
        if len(head) < 4:
            return None
        length = length_of(head)
        if length > MAX_TO_HOST:
            raise Bad("too_big", f"A message to the host has at most {MAX_TO_HOST} bytes, this one says {length}.")
        raw = self._source.read(length)
        if len(raw) < length:
            return None
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Bad("bad_frame", "A message to the host is JSON.") from error
        if not isinstance(found, dict) or not isinstance(found.get("type"), str):
            raise Bad("bad_frame", "A message to the host is an object with a type.")
        return found, raw

    def say(self, message: Json) -> None:
        """Tell the extension. A browser that has gone is noticed by `read`."""
        self._put(json.dumps(message, ensure_ascii=False).encode())

    def frame(self, text: str) -> None:
        """A frame of the daemon, as it came; in parts where it is longer than a browser takes."""
        if len(text) <= PART_CHARS:
            self._put(text.encode())
            return
        for start in range(0, len(text), PART_CHARS):
            is_last = start + PART_CHARS >= len(text)
            self.say({"type": "host_part", "text": text[start : start + PART_CHARS], "is_last": is_last})

    def _put(self, raw: bytes) -> None:
        with self._lock, suppress(OSError, ValueError):
            self._sink.write(head_of(len(raw)) + raw)
            self._sink.flush()


class Host:
    """One browser, one extension, at most one connection to the daemon at a time."""

    def __init__(self, browser: Browser, profile: Profile, origin: str | None) -> None:
        """Args: origin: that the browser states; None: Firefox does not, the extension says it."""
        self._browser, self._profile, self.origin = browser, profile, origin
        self._socket: PlainSocket | None = None
        self._calls = threading.BoundedSemaphore(MAX_CALLS)
        self._lock = threading.Lock()
        self._is_watching = False
        self._over = threading.Event()

    def run(self) -> None:
        """Until the port is closed. Raises: Bad."""
        try:
            while (found := self._browser.read()) is not None:
                message, raw = found
                kind: str = message["type"]
                if not kind.startswith("host_"):
                    self._pass(raw)
                elif kind == "host_hello":
                    self._hello(message)
                elif kind == "host_open":
                    self._open(message)
                elif kind == "host_close":
                    self._close()
                elif kind == "host_call":
                    self._call(message)
        finally:
            self._over.set()
            self._close()

    # ---- who is there ------------------------------------------------------------------------------------------------
    def _hello(self, message: Json) -> None:
        if self.origin is None:
            if not is_firefox_origin(message.get("origin")):
                raise Bad("bad_frame", "The first message says the origin of the extension.")
            self.origin = message["origin"]
        told: Json = {"type": "host_hello", "protocol": PROTOCOL, "version": VERSION, "url": None}
        try:
            told["url"] = find_endpoint(self._profile).url
        except HybridGWError as error:
            told |= {"code": error.code, "message": error.message}
            self._watch()
        self._browser.say(told)

    def _watch(self) -> None:
        with self._lock:
            if self._is_watching:
                return
            self._is_watching = True
        threading.Thread(target=self._wait_for_daemon, daemon=True).start()

    def _wait_for_daemon(self) -> None:
        """A daemon that has come is told of, so that nobody waits for the end of a pause."""
        while not self._over.wait(WATCH_S):
            with suppress(HybridGWError):
                url = find_endpoint(self._profile).url
                with self._lock:
                    self._is_watching = False
                self._browser.say({"type": "host_ready", "url": url})
                return

    # ---- the connection ----------------------------------------------------------------------------------------------
    def _open(self, message: Json) -> None:
        client_id = message.get("client_id")
        if self.origin is None or not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id):
            raise Bad("bad_frame", "host_open comes after host_hello and names a client id.")
        self._close()
        try:
            endpoint = self._endpoint(message)
            made = PlainSocket(
                endpoint.url, f"/ws/browser_extension/{client_id}", _WS_PROTOCOL,
                {"Origin": self.origin, "User-Agent": f"hybridgw-native-host/{VERSION}"},
            )  # fmt: skip
        except HybridGWError as error:
            self._ended(error.code, error.message)
            return
        except OSError as error:
            self._ended(NotRunning.code, str(error))
            return
        self._socket = made
        self._browser.say({"type": "host_opened", "url": endpoint.url})
        threading.Thread(target=self._read, args=(made,), daemon=True).start()

    def _endpoint(self, message: Json) -> Endpoint:
        """Where the daemon is. Raises: NotRunning: nowhere, or not where the extension believes it, which it is told.

        A proof of its key is for one port: at another one it does not count, which would look like the end of its
        rights.
        """
        endpoint, believed = find_endpoint(self._profile), message.get("url")
        if isinstance(believed, str) and _port_of(believed) != endpoint.port:
            self._browser.say({"type": "host_ready", "url": endpoint.url})
            raise NotRunning(f"HybridGW answers at {endpoint.url} now.")
        return endpoint

    def _read(self, made: PlainSocket) -> None:
        while isinstance(found := made.receive(), str):
            self._browser.frame(found)
        assert isinstance(found, Ended)  # noqa: S101 - receive gives nothing else
        if self._socket is made:
            self._socket = None
            self._browser.say({"type": "host_closed", "code": found.code, "reason": found.reason})
            self._watch_if_gone()

    def _watch_if_gone(self) -> None:
        try:
            find_endpoint(self._profile)
        except HybridGWError:
            self._watch()

    def _ended(self, code: str, message: str) -> None:
        self._browser.say({"type": "host_closed", "code": 1006, "reason": message, "problem": code})
        self._watch_if_gone()

    def _pass(self, raw: bytes) -> None:
        made = self._socket
        if made is not None:
            with suppress(OSError):
                made.send(raw)

    def _close(self) -> None:
        made, self._socket = self._socket, None
        if made is not None:
            made.close()

    # ---- calls -------------------------------------------------------------------------------------------------------
    def _call(self, message: Json) -> None:
        number = message.get("call")
        if self.origin is None or not isinstance(number, int):
            raise Bad("bad_frame", "host_call comes after host_hello and has a number.")
        path, method, body = message.get("path"), message.get("method"), message.get("body")
        is_ours = isinstance(path, str) and path.startswith(CALL_PATHS) and re.fullmatch(r"[!-~]{1,512}", path)
        if not is_ours or method not in _METHODS or not isinstance(body, str | None):
            self._browser.say(
                {"type": "host_failed", "call": number, "code": "forbidden", "message": "Not a call of the host."}
            )
            return
        given = message.get("headers")
        headers = {"Origin": self.origin}
        for name in CALL_HEADERS:
            value = given.get(name) if isinstance(given, dict) else None
            if isinstance(value, str) and re.fullmatch(r"[ -~]{0,16000}", value):
                headers[name] = value
        if not self._calls.acquire(blocking=False):
            self._browser.say(
                {"type": "host_failed", "call": number, "code": "busy", "message": "Too many calls are under way."}
            )
            return
        threading.Thread(target=self._answer, args=(message, number, method, path, headers, body), daemon=True).start()

    def _answer(
        self, message: Json, number: int, method: str, path: str, headers: dict[str, str], body: str | None
    ) -> None:
        try:
            port = self._endpoint(message).port
            self._browser.say({"type": "host_answer", "call": number, **_asked(port, method, path, headers, body)})
        except HybridGWError as error:
            self._browser.say({"type": "host_failed", "call": number, "code": error.code, "message": error.message})
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            text = f"HybridGW does not answer: {error}"
            self._browser.say({"type": "host_failed", "call": number, "code": NotRunning.code, "message": text})
        finally:
            self._calls.release()


def _port_of(url: str) -> int:
    found = re.search(r":(\d{1,5})\Z", url)
    return 80 if found is None else int(found[1])


def _asked(port: int, method: str, path: str, headers: dict[str, str], body: str | None) -> Json:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S)
    try:
        connection.request(method, path, None if body is None else body.encode(), headers)
        answer = connection.getresponse()
        found = {name: value for name, value in answer.getheaders() if name.lower() in _TOLD_HEADERS}
        return {"status": answer.status, "headers": found, "body": answer.read(MAX_ANSWER).decode()}
    finally:
        connection.close()


_TOLD_HEADERS: Final = frozenset({"access-control-allow-origin", "content-type", "retry-after"})


def allowed_ids(profile: Profile) -> tuple[str, ...]:
    """Further extensions that the person has allowed. A file that cannot be read allows none."""
    try:
        found = json.loads(Path(profile.folders.config, LIST_NAME).read_bytes()[:65_536])["allowed"]
        return tuple(one for one in found if isinstance(one, str))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def run(arguments: Sequence[str], browser: Browser, find: Callable[[], Profile] = find_profile) -> int:
    """The host, from its start to its end; returns the exit code. Args: arguments: without the program's name."""
    extension = extension_of(arguments)
    try:
        if extension is None:
            raise Bad("forbidden", "This program is started by a browser, for the HybridGW extension.")
        profile = find()
        if not is_listed(extension, allowed_ids(profile)):
            raise Bad("forbidden", f"The extension {extension} is not listed. See: hybridgw extension doctor")
        origin = extension if extension.startswith("chrome-extension://") else None
        Host(browser, profile, origin).run()
    except Bad as error:
        browser.say({"type": "host_error", "code": error.code, "message": str(error)})
        return 1
    return 0


def main() -> None:
    """The program."""
    raise SystemExit(run(sys.argv[1:], Browser(sys.stdin.buffer, sys.stdout.buffer)))
