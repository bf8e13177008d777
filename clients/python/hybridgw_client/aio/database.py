"""The asynchronous client's middle: it connects, comes back, goes on with its session, and says how things stand."""

from __future__ import annotations

import asyncio
import logging
import os
import random as _random
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

import aiohttp

from hybridgw_protocol import localapi_frames as frames
from hybridgw_protocol.errors import (
    BadValue,
    Busy,
    Forbidden,
    HybridGWError,
    NotRunning,
    Offline,
    RequestTimeout,
    StateError,
    Unauthorized,
)

from .backoff import full_jitter
from .collection import Collection
from .link import Ended, Link, Lost, Patience
from .live import LiveView, Watch
from .messages import Inbox
from .outbox import Outbox, Rejection, Write, deliver, unknown_outcome
from .place import Place, TokenSource
from .subscriptions import Subscriptions
from .topics import Listener

Json = dict[str, Any]
_STABLE_S: Final = 5.0  # a connection that held so long ends the series of failures
# What changes nothing, so that it may be asked again when nobody knows whether it was answered.
_READS: Final = frozenset({
    "data.get", "data.list", "collections.list", "collections.get", "conflicts.list", "conflicts.get", "sync.status",
    "devices.list", "pairing.get", "relays.list", "alarms.list", "config", "config.stats", "config.deployments",
    "analytics.connections", "messages.list", "messages.get", "messages.ack", "frames.schema",
    "paths", "health", "health.ready",
})  # fmt: skip

log = logging.getLogger(__name__)


class State(NamedTuple):
    """How things stand.

    status: `connecting` before the first connection, `online`, `offline` while it tries to come back, `failed` when
    that makes no sense, `closed`; recovered: of `online`: nothing was missed; error: why it is not online.
    """

    status: Literal["connecting", "online", "offline", "failed", "closed"]
    recovered: bool = False
    error: HybridGWError | None = None


def connect(
    home: str | os.PathLike[str] | None = None, *, url: str | None = None, token: str | TokenSource | None = None,
    api_key: str | None = None, origin: str | None = None, client_id: str | None = None, offline_queue: int = 0,
    on_state: Callable[[State], None] | None = None, on_rejected: Callable[[Rejection], None] | None = None,
    patience: Patience = Patience(), random: Callable[[], float] = _random.random,  # noqa: B008 - it is frozen
) -> Database:  # fmt: skip
    """The daemon that serves this profile; `async with connect() as db:`.

    Args: url: instead of what the endpoint file says; token: instead of the owner's, or a function of the url that
    gives one (see `login`); api_key: `hgw_…`; origin: of a page or extension that the credential is bound to;
    client_id: tells this program from others of the same credential, else it is made; offline_queue: so many writes
    are kept while there is no connection, and the first one is not waited for; on_state: called after each change;
    on_rejected: called for each kept write that the daemon refused.
    Raises: BadValue. Entering raises NotRunning, Unauthorized, Forbidden, StateError.
    """
    return Database(
        Place(home, url, token, api_key), origin=origin, client_id=client_id or uuid.uuid4().hex,
        offline_queue=offline_queue, on_state=on_state, on_rejected=on_rejected, patience=patience, random=random,
    )  # fmt: skip


class Database:
    """A connection to the daemon that comes back by itself. An async context manager; made by `connect`."""

    def __init__(
        self, place: Place, *, origin: str | None, client_id: str, offline_queue: int,
        on_state: Callable[[State], None] | None, on_rejected: Callable[[Rejection], None] | None,
        patience: Patience, random: Callable[[], float],
    ) -> None:  # fmt: skip
        self.state = State("connecting")
        self._place, self._origin, self._client_id = place, origin, client_id
        self._patience, self._random, self._on_state = patience, random, on_state
        self._keeps = offline_queue > 0
        self._outbox = Outbox(offline_queue, random, on_rejected)
        self._subscriptions = Subscriptions(random)
        self._link: Link | None = None
        self._resume: frames.Resume | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._last_id = 0
        self._refused = 0  # tokens in a row that did not count

    # ---- beginning and end -------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        """Connect. Raises: NotRunning, Unauthorized, Forbidden, StateError; with a queue only what no wait mends."""
        if self._task is not None:
            raise StateError("A Database is entered once; call connect() again.")
        self._task = asyncio.create_task(self._run(), name="hybridgw client")
        try:
            while self.state.status == "connecting":
                await self._until_changed()
        except BaseException:
            await self.aclose()
            raise
        if self.state.status != "online" and not (self._keeps and self.state.status == "offline"):
            error = self.state.error
            await self.aclose()
            raise error or StateError("The client was closed.")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connection in order. Writes that still wait are lost: `flushed()` before."""
        self._is_closing = True
        task, self._task = self._task, None
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._subscriptions.fail(StateError("The client was closed."))
        self._set(State("closed"))

    # ---- documents ---------------------------------------------------------------------------------------------------
    def collection(self, name: str) -> Collection:
        """A named set of documents."""
        return Collection(name, ask=self._read, write=self._write, batch=self.batch, new_id=self._new_id)

    async def batch(self, operations: Iterable[Json], *, atomic: bool = True, confirm: bool = False) -> Json:
        """Several writes: all or none, or with `atomic=False` as many as are needed for all. It is never queued.

        Args: operations: {"op", "collection", "id", "data" or "patch", "version"}; a create without an id gets one.
        Raises: what one of them raises, with `detail['index']`; UnknownOutcome: read the documents that it names.
        """
        made = [
            {**one, "id": self._new_id()} if one.get("op") == "create" and one.get("id") is None else dict(one)
            for one in operations
        ]
        repeatable = all(one.get("op") in ("put", "patch") and one.get("version") is None for one in made)
        named = [(str(one.get("collection")), str(one.get("id"))) for one in made]
        params: Json = {"operations": made, "atomic": atomic, "confirm": confirm}
        result: Json = await self._call("data.batch", params, repeatable=repeatable, documents=named)
        return result

    def watch(self, collection: str, *, id: str | None = None, filter: Json | None = None) -> Watch:
        """What is there, then what changes: an async iterator of Change. Args: id: only this document."""
        return Watch(self._subscriptions, _query(collection, id, filter), self._stir)

    def view(self, collection: str, *, id: str | None = None, filter: Json | None = None) -> LiveView:
        """The documents of a live query, kept up to date: `async with db.view("tasks") as tasks:`."""
        return LiveView(self._subscriptions, _query(collection, id, filter))

    # ---- topics ------------------------------------------------------------------------------------------------------
    async def publish(self, topic: str, data: Any = None) -> int:
        """Tell the programs of this machine that listen now. Returns: to how many. Raises: UnknownOutcome, Offline."""
        result = await self._call("topic.publish", {"topic": topic, "data": data}, repeatable=False)
        return int(result["listeners"])

    def listen(self, topic: str) -> Listener:
        """Messages as they are published: an async iterator of Message."""
        return Listener(self._subscriptions, topic, self._stir)

    # ---- anything ----------------------------------------------------------------------------------------------------
    async def send(
        self, type: str, body: Any = None, *, to: str | list[str] | None = None, priority: str = "normal",
        ttl_s: float | None = None, id: str | None = None, reply_to: str | None = None,
    ) -> Json:  # fmt: skip
        """Send a message to programs, here and on other devices; it is stored when this returns. Returns the message.

        Args: to: `client:ID`, `app:NAME`, `mode:MODE`, `topic:TOPIC`, `device:NAME` or `all`, each with `@DEVICE` or
        `@here`; None: the rules decide; priority: bulk, normal, high, urgent; ttl_s: given up after it, 7 days if not
        said; id: of a message that may have been sent already. With one target it is sent once, whatever breaks.
        """
        is_single = isinstance(to, str)
        params: Json = {"type": type, "body": body, "to": to, "priority": priority, "ttl_s": ttl_s,
                        "id": id or (self.new_message_id() if is_single else None), "reply_to": reply_to}  # fmt: skip
        given = {name: value for name, value in params.items() if value is not None}
        found: Json = await self._call("messages.send", given, repeatable=is_single)
        return found

    def messages(
        self, *, app: str = "", topics: Iterable[str] = (), on_state: Callable[[Json], None] | None = None
    ) -> Inbox:
        """Messages for this program: `async with db.messages() as inbox:`. Give `connect` a client_id that stays.

        Args: app: by what name `app:NAME` finds it; topics: that it wants; on_state: told what became of what it sent.
        """
        return Inbox(self, self._subscriptions, {"app": app, "topics": list(topics)}, on_state)

    def new_message_id(self) -> str:
        """A UUID that was not used before."""
        return self._new_id()

    async def call(self, command: str, **params: Any) -> Any:
        """Any command of docs/reference/websocket.md; its result as plain values.

        While there is no connection it waits for one. Raises: as the daemon raised it; Offline: no connection in time;
        UnknownOutcome: it was sent, and is none that may be sent twice; RequestTimeout.
        """
        return await self._call(command, params, repeatable=command in _READS)

    @property
    def queued(self) -> int:
        """Writes that wait for the daemon."""
        return len(self._outbox)

    @property
    def rejected(self) -> list[Rejection]:
        """Kept writes that the daemon refused, the latest hundred."""
        return list(self._outbox.rejected)

    async def flushed(self) -> None:
        """Wait until no write waits any more."""
        await self._outbox.flushed()

    async def online(self) -> None:
        """Wait until there is a connection. Raises: why there will be none."""
        while self.state.status != "online":
            self._check()
            await self._until_changed()

    # ---- asking ------------------------------------------------------------------------------------------------------
    async def _read(self, command: str, params: Json) -> Any:
        return await self._call(command, params, repeatable=True)

    async def _call(
        self, command: str, params: Json, *, repeatable: bool, documents: Iterable[tuple[str, str]] = ()
    ) -> Any:
        is_tried = False
        try:
            async with asyncio.timeout(self._patience.command_s):
                while True:
                    link = await self._connected()
                    try:
                        return await link.ask(command, params)
                    except Lost as lost:
                        is_tried = is_tried or lost.sent
                        if is_tried and not repeatable:
                            raise unknown_outcome(command, list(documents)) from None
        except TimeoutError:
            if (self._link is None or self._link.ended) and not is_tried:
                raise self._offline() from None
            if repeatable:
                raise RequestTimeout(f"No answer to {command} within {self._patience.command_s:g} s.") from None
            raise unknown_outcome(command, list(documents)) from None

    async def _write(self, write: Write) -> Json:
        is_tried = False
        if self._keeps:
            link = self._link
            if link is not None and not link.ended and len(self._outbox) == 0:
                try:
                    async with asyncio.timeout(self._patience.command_s):
                        return await deliver(link.ask, write, is_tried=False)
                except Lost as lost:
                    is_tried = lost.sent
                except TimeoutError:
                    is_tried = True
            self._check()
            return self._outbox.keep(write, is_tried=is_tried)
        is_asked = False
        try:
            async with asyncio.timeout(self._patience.command_s):
                while True:
                    link = await self._connected()
                    try:
                        is_asked = True
                        return await deliver(link.ask, write, is_tried=is_tried)
                    except Lost as lost:
                        is_asked = is_tried = is_tried or lost.sent
        except TimeoutError:
            if not is_asked:
                raise self._offline() from None
            raise unknown_outcome(f"data.{write.op}", [(write.collection, write.id)]) from None

    async def _connected(self) -> Link:
        while self._link is None or self._link.ended:
            self._check()
            await self._until_changed()
        return self._link

    def _check(self) -> None:
        if self.state.status == "failed" and self.state.error is not None:
            raise self.state.error
        if self.state.status == "closed" or self._task is None:
            raise StateError("The client is not open: async with connect() as db.")

    def _offline(self) -> Offline:
        why = f" {self.state.error.message}" if self.state.error is not None else ""
        return Offline(f"There is no connection to the daemon; nothing was sent.{why}")

    def _stir(self) -> None:
        if self._link is not None:
            self._link.stir()

    def _new_id(self) -> str:
        """A UUID of version 7 that sorts by time, and behind the one before (RFC 9562, 6.2, method 2)."""
        bits = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
        bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
        self._last_id = max(bits, self._last_id + 1)
        return str(uuid.UUID(int=self._last_id))

    # ---- the connection ----------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        """Connect again and again, until that makes no sense any more."""
        loop, attempt = asyncio.get_running_loop(), 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            while True:
                began_s = loop.time()
                try:
                    error = await self._converse(session)
                except HybridGWError as found:
                    error = found
                    if not self._is_temporary(found):
                        self._fail(found)
                        return
                except Exception as fault:
                    log.exception("the connection failed")
                    self._fail(StateError(f"A fault of the client: {fault!r}"))
                    return
                if self._is_closing:
                    return
                if loop.time() - began_s >= _STABLE_S:
                    attempt = 0
                self._set(State("offline", error=error))
                first_s, cap_s = self._patience.first_s, self._patience.cap_s
                await asyncio.sleep(full_jitter(attempt, self._random, first_s=first_s, cap_s=cap_s))
                attempt += 1

    async def _converse(self, session: aiohttp.ClientSession) -> HybridGWError:
        """One connection. Returns: why it ended, and another may follow. Raises: HybridGWError: see _is_temporary."""
        try:
            url, token = await self._place.find()
            link = await Link.open(
                session, f"{url.replace('http', 'ws', 1)}/ws/local_install/{self._client_id}", token, self._resume,
                origin=self._origin, patience=self._patience, on_event=self._subscriptions.take,
                is_full=lambda: self._subscriptions.is_full,
            )  # fmt: skip
        except Ended as ended:
            return self._judge(ended)
        hello = link.hello
        self._refused = 0
        self._resume = frames.Resume(session=hello.session, epoch=hello.epoch, offset=hello.offset)
        self._subscriptions.begin(recovered=hello.recovered)
        self._link = link
        self._set(State("online", recovered=hello.recovered))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.run())
                group.create_task(self._subscriptions.run(link))
                group.create_task(self._replay(link))
                group.create_task(self._renew(link))
        except* Ended as group_of_one:
            found = group_of_one.exceptions[0]
            how = found if isinstance(found, Ended) else Ended(1006, "")
        finally:
            self._link = None
            self._resume.offset = link.offset
        return self._judge(how)

    async def _replay(self, link: Link) -> None:
        with suppress(Lost):  # link.run ends too and tells how
            await self._outbox.run(link.ask)

    async def _renew(self, link: Link) -> None:
        """Fresh tokens before the one in use ends. Without one the daemon ends the connection, and we come back."""
        while link.hello.expires_ms is not None and self._place.makes_tokens:
            await asyncio.sleep(max(1.0, (link.hello.expires_ms / 1000 - time.time()) * 0.8))
            with suppress(HybridGWError, Lost):
                _, token = await self._place.find()
                await link.renew(token)

    def _judge(self, ended: Ended) -> HybridGWError:
        """Why it ended. Raises: what no further attempt mends."""
        match ended.code:
            case frames.UNAUTHORIZED:
                raise ended.refusal or Unauthorized("The token does not count any more.")
            case frames.FORBIDDEN:
                raise Forbidden("The rights of this program were revoked. Ask the person, or for another key.")
            case frames.REPLACED:
                raise StateError("Another program has connected with this client id; give each its own.")
            case frames.BAD_FRAMES | frames.UNKNOWN_MODE:
                raise BadValue(f"The daemon refuses the connection: {ended.reason}.", field="client_id")
            case frames.TOO_MANY:
                return Busy(f"The daemon ended the connection: {ended.reason}")
        if ended.refusal is not None:
            raise ended.refusal
        return Offline(f"The connection ended ({ended.code}{f', {ended.reason}' if ended.reason else ''}).")

    def _is_temporary(self, error: HybridGWError) -> bool:
        if isinstance(error, NotRunning):
            return self.state.status != "connecting" or self._keeps
        if isinstance(error, Unauthorized) and self._place.is_renewable:
            self._refused += 1  # the daemon was started again, or the token has ended: the next one is fresh
            return self._refused < 3
        return error.retryable

    def _fail(self, error: HybridGWError) -> None:
        self._subscriptions.fail(error)
        self._set(State("failed", error=error))

    def _set(self, state: State) -> None:
        if self.state.status == "closed":
            return
        self.state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._on_state is not None:
            self._on_state(state)

    async def _until_changed(self) -> None:
        await self._changed.wait()


def _query(collection: str, id: str | None, filter: Json | None) -> Json:
    params: Json = {"collection": collection}
    if id is not None:
        params["id"] = id
    if filter is not None:
        params["filter"] = filter
    return params
