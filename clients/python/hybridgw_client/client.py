"""The client: one HTTP connection to the daemon, kept open, with answers as plain JSON values.

Not for use by several threads at once. What each call takes and gives stands in docs/reference/http-api.md.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

from hybridgw_protocol.errors import BadValue, HybridGWError, NotRunning, StateError
from hybridgw_protocol.runtime import VERSION, Endpoint

from .problems import error_of
from .profile import Profile, find_endpoint, find_profile
from .sse import parse_events

Json = dict[str, Any]

TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
PAGE: Final = 1_000  # documents asked for at once
_IDLE_S: Final = 4.0  # the daemon closes idle connections, at the earliest after 5 s
_RECONNECT_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # on loopback; the daemon may just be restarting


class Event(NamedTuple):
    """Something that happened. id: give it as `cursor` to go on after it; name: what; data: as the API documents it."""

    id: str
    name: str
    data: Json


def connect(home: str | os.PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S) -> Client:
    """A client of the daemon that serves this profile. Raises: NotRunning: start it with `hybridgw up`; StateError."""
    return Client(find_profile(home), timeout_s=timeout_s)


class Client:
    """One conversation with the daemon. A context manager: leaving it closes the connection."""

    def __init__(self, profile: Profile, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises: NotRunning, StateError: see profile.find_endpoint."""
        self.profile = profile
        self.endpoint: Endpoint = find_endpoint(profile)
        self.timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._used_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the client may be used again and then makes another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- any call ------------------------------------------------------------------------------------------------
    def get(self, path: str, **query: object) -> Any:
        """GET; query arguments that are None are left out. Raises: HybridGWError kinds, as the daemon raised them."""
        return self.request("GET", path, query=query)

    def post(self, path: str, body: object = None, *, timeout_s: float | None = None) -> Any:
        """POST a JSON body. Raises: as get."""
        return self.request("POST", path, body={} if body is None else body, timeout_s=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """One call; returns the decoded answer, None if it has no body.

        Args: path: with everything in it quoted (see `path_of`); query: None values are left out; version: the one
        the document must have (If-Match); timeout_s: of silence.
        Raises: HybridGWError kinds, as the daemon raised them; NotRunning: it does not answer.
        """
        if query := {name: _as_text(value) for name, value in (query or {}).items() if value is not None}:
            path = f"{path}?{urlencode(query)}"
        headers = {"Accept": "application/json"}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        raw = None
        if body is not None:
            raw = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        try:
            answer = self._exchange(method, path, raw, headers, timeout_s or self.timeout_s)
            content = answer.read(MAX_ANSWER_BYTES)
            if answer.length:  # still to come: it broke off, or is beyond any answer of ours
                raise http.client.IncompleteRead(content[:100], answer.length)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._silent(error) from error
        except BaseException:  # Ctrl-C in the middle of a call: the next one must not get this one's answer
            self.close()
            raise
        return self._decoded(answer, content)

    def pages(self, path: str, **query: object) -> Iterator[Json]:
        """Every item of a list, page after page as they are needed. Raises: as get."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            yield from page["items"]
            following = page.get("next_cursor")
            if following is None:
                return
            if following == cursor:
                raise StateError("The daemon sent the same page twice; restart it: hybridgw down, hybridgw up.")
            cursor = following

    # ---- documents -----------------------------------------------------------------------------------------------
    def documents(self, collection: str, **query: object) -> Iterator[Json]:
        """All documents of a collection. Args: query: filter, sort, deleted, limit (of one page)."""
        query.setdefault("limit", PAGE)
        return self.pages(path_of("data", collection), **query)

    def document(self, collection: str, document: str) -> Json:
        """One document. Raises: NotFound, Deleted."""
        return self.get(path_of("data", collection, document))  # type: ignore[no-any-return]

    def put(self, collection: str, document: str, data: Json, *, version: int | None = None) -> Json:
        """Replace all of a document, or make it. Raises: PreconditionFailed: *version* is not the one it has."""
        return self.request("PUT", path_of("data", collection, document), body=data, version=version)  # type: ignore[no-any-return]

    def patch(self, collection: str, document: str, patch: Json, *, version: int | None = None) -> Json:
        """Change some fields; null removes one. Raises: NotFound, PreconditionFailed."""
        return self.request("PATCH", path_of("data", collection, document), body=patch, version=version)  # type: ignore[no-any-return]

    def delete(self, collection: str, document: str, *, version: int | None = None, confirm: bool = False) -> Json:
        """Delete it on all devices; returns what is left of it. Args: confirm: a person has agreed to delete many."""
        query = {"confirm": True} if confirm else None
        return self.request("DELETE", path_of("data", collection, document), query=query, version=version)  # type: ignore[no-any-return]

    def write(self, operations: Iterable[Json], *, atomic: bool = True, confirm: bool = False) -> Json:
        """Several writes in one transaction: all or none. See the API's `POST /api/data`."""
        return self.post(  # type: ignore[no-any-return]
            "/api/data", {"operations": list(operations), "atomic": atomic, "confirm": confirm}
        )

    # ---- what happens --------------------------------------------------------------------------------------------
    def events(self, cursor: str | None = None, *, reconnect: bool = False, silence_s: float = 90.0) -> Iterator[Event]:
        """What changes, as it happens, on a connection of its own. It ends when the caller stops asking.

        Args: cursor: go on after this event, without gap or repeat; reconnect: also when the daemon restarts;
        silence_s: a stream without a sign of life for so long is dead.
        Raises: as get; NotRunning: the daemon ended the stream, or could not be reached again.
        """
        yield from self._events({}, cursor, reconnect, silence_s)

    def watch(
        self, collection: str, cursor: str | None = "0", *, reconnect: bool = True, silence_s: float = 90.0
    ) -> Iterator[Event]:
        """The documents of a collection as they are, `ready`, then as they change, on a connection of its own.

        `document`: its data is the document, deleted ones with `"deleted": true`; `ready`: that was all there is;
        `reset`: forget what you have, everything follows. Args: cursor: the id of an event, to go on after it; None:
        from now on; reconnect: also when the daemon restarts; silence_s: as in events. Raises: as events.
        """
        for event in self._events({"collection": collection}, cursor, reconnect, silence_s):
            if event.name in ("document", "ready", "reset"):
                yield event

    def _events(
        self, query: Mapping[str, str], cursor: str | None, reconnect: bool, silence_s: float
    ) -> Iterator[Event]:
        failures = 0
        while True:
            try:
                for event in self._stream(query, cursor, silence_s):
                    cursor, failures = event.id or cursor, 0
                    yield event
                lost: Exception = ConnectionResetError("the stream ended")
            except (OSError, http.client.HTTPException) as error:
                lost = error
            if not reconnect or failures == len(_RECONNECT_S):
                raise self._silent(lost) from lost
            time.sleep(_RECONNECT_S[failures])
            failures += 1
            with suppress(NotRunning):
                self.endpoint = find_endpoint(self.profile)

    def _stream(self, query: Mapping[str, str], cursor: str | None, silence_s: float) -> Iterator[Event]:
        connection = self._open(silence_s)
        try:
            headers = {**self._headers(), "Accept": "text/event-stream"}
            if cursor == "0":  # no event has this id
                query = {**query, "since": cursor}
            elif cursor:
                headers["Last-Event-ID"] = cursor
            path = f"/api/events?{urlencode(query)}" if query else "/api/events"
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                self._decoded(answer, answer.read(MAX_ANSWER_BYTES))
            for raw in parse_events(iter(answer.readline, b"")):
                with suppress(ValueError):
                    yield Event(raw.id, raw.name, json.loads(raw.data))
        finally:
            connection.close()

    # ---- the connection ------------------------------------------------------------------------------------------
    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.endpoint.token.reveal()}",
            "User-Agent": f"hybridgw-client/{VERSION}",
        }

    def _open(self, timeout_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.endpoint.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def _exchange(
        self, method: str, path: str, raw: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        """Send and wait for the head of the answer. Only a GET is sent again when a kept connection has died."""
        if time.monotonic() - self._used_s > _IDLE_S:
            self.close()
        while True:
            was_open = self._connection is not None
            self._connection = self._connection or self._open(timeout_s)
            if self._connection.sock is not None:
                self._connection.sock.settimeout(timeout_s)
            try:
                self._connection.request(method, path, raw, {**self._headers(), **headers})
                answer = self._connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if was_open and method == "GET" and not isinstance(error, TimeoutError):
                    continue
                raise
            self._used_s = time.monotonic()
            return answer

    def _silent(self, error: Exception) -> HybridGWError:
        who = f"The daemon at {self.endpoint.url} (process {self.endpoint.pid})"
        if isinstance(error, TimeoutError):
            return NotRunning(f"{who} does not answer. Look what it does: {self.profile.to_command('logs')}")
        if isinstance(error, ConnectionRefusedError):
            return NotRunning(f"{who} has gone away. Start it: {self.profile.to_command('up')}")
        return NotRunning(
            f"{who} closed the connection in the middle of a call. Look why: {self.profile.to_command('doctor')}"
        )

    def _decoded(self, answer: http.client.HTTPResponse, content: bytes) -> Any:
        if answer.will_close:
            self.close()
        kind = answer.headers.get_content_type()
        value: Any = None
        if content:
            if kind not in ("application/json", "application/problem+json"):
                raise StateError(
                    f"What answers at {self.endpoint.url} is not our daemon (it sent {kind}). "
                    f"Restart it: {self.profile.to_command('down')}; {self.profile.to_command('up')}"
                )
            try:
                value = json.loads(content)
            except ValueError as error:
                raise StateError(f"What answers at {self.endpoint.url} sent broken JSON.") from error
        if answer.status >= 400:
            raise error_of(answer.status, value if isinstance(value, dict) else {}, dict(answer.headers))
        return value


def path_of(*parts: str) -> str:
    """`/api/…` with each part quoted, slashes and dots too: an id is never a path.

    Raises: BadValue: one is empty, which would be another path.
    """
    if not all(parts):
        raise BadValue("An id or a name is empty.")
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def _as_text(value: object) -> str:
    """A query argument: booleans as JSON has them, maps and lists as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    return str(value)
