"""Messages to and from other programs, here and on the person's other devices: shown until they are acknowledged."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from hybridgw_protocol.errors import HybridGWError, LocalError, RequestTimeout, StateError

from .subscriptions import Subscription, Subscriptions

Json = dict[str, Any]
Handler = Callable[["Received"], Awaitable[Any]]
KNOWN: Final = 10_000  # ids that were acknowledged: one that comes again is acknowledged again and not shown

log = logging.getLogger(__name__)


class Asks(Protocol):
    """What messages need of the connection."""

    async def send(
        self, type: str, body: Any = None, *, to: str | list[str] | None = None, priority: str = "normal",
        ttl_s: float | None = None, id: str | None = None, reply_to: str | None = None,
    ) -> Json:  # fmt: skip
        """Send a message."""
        ...

    async def call(self, command: str, **params: Any) -> Any:
        """Any command."""
        ...

    def new_message_id(self) -> str:
        """A UUID that was not used before."""
        ...


class Received(NamedTuple):
    """A message that has arrived. device, client: who sent it; gap: something before it is missing; person, person_id:
    the contact who sent it, another person; None: it is from a device of one's own."""

    inbox: Inbox
    id: str
    type: str
    body: Any
    device: str
    client: str
    to: str
    priority: str
    expires_ms: int
    reply_to: str | None
    gap: bool
    person: str | None = None
    person_id: str | None = None

    async def ack(self) -> None:
        """It is dealt with: it is not shown again, and its sender sees it as handled."""
        await self.inbox.ack(self.id)

    async def reply(self, body: Any = None, *, type: str = "reply", ttl_s: float | None = None) -> Json:
        """Answer to the program, or the other person, that sent it. Raises: LocalError: it was no program with a
        connection."""
        if self.person_id is not None:
            return await self.inbox.asks.send(
                type, body, to=f"person:{self.person_id}", reply_to=self.id, priority=self.priority, ttl_s=ttl_s
            )
        _, slash, client_id = self.client.partition("/")
        if not slash:
            raise LocalError("Who sent this has no connection that an answer could go to.")
        return await self.inbox.asks.send(
            type, body, to=f"client:{client_id}@{self.device}", reply_to=self.id, priority=self.priority, ttl_s=ttl_s
        )


class Inbox:
    """An async iterator of Received; `async with db.messages() as inbox:` waits until the daemon has agreed.

    Acknowledge each with `await message.ack()`; one that is not comes again after a new start. A program has one inbox.
    """

    def __init__(
        self, asks: Asks, subscriptions: Subscriptions, params: Json, on_state: Callable[[Json], None] | None
    ) -> None:
        """Args: on_state: called with what became of messages that this program has sent."""
        self.asks = asks
        self._subscriptions, self._on_state = subscriptions, on_state
        self._subscription = Subscription("messages.listen", params, self)
        self._items: deque[Received] = deque()
        self._shown: set[str] = set()  # with the program, or in the queue
        self._done: OrderedDict[str, None] = OrderedDict()
        self._requests: dict[str, asyncio.Future[Received]] = {}
        self._handlers: list[tuple[str, str | None, Handler]] = []
        self._some = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: HybridGWError | None = None
        self._is_begun = self._is_over = False

    # ---- as a Sink -------------------------------------------------------------------------------------------------
    @property
    def is_full(self) -> bool:
        """The daemon shows no more than the program deals with."""
        return False

    def event(self, kind: str, data: Any) -> None:
        """As a Sink."""
        if kind == "message_state" and self._on_state is not None:
            self._on_state(data)
        if kind != "message":
            return
        message = Received(
            self, data["id"], data["type"], data["body"], data["from"]["device"], data["from"]["client"], data["to"],
            data["priority"], data["expires_ms"], data["reply_to"], data["gap"], data["from"].get("person"),
            data["from"].get("person_id"),
        )  # fmt: skip
        if message.id in self._done:
            self._start(self.ack(message.id))
            return
        if message.id in self._shown:
            return
        self._shown.add(message.id)
        waiting = self._requests.get(message.reply_to or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
            return
        self._items.append(message)
        self._some.set()

    def restart(self) -> None:
        """As a Sink: what is not acknowledged comes again; the program has it already."""

    def began(self) -> None:
        """As a Sink."""
        self._is_begun = True
        self._some.set()

    def failed(self, error: HybridGWError) -> None:
        """As a Sink: after what is there, this is raised."""
        self._error = error
        for waiting in self._requests.values():
            if not waiting.done():
                waiting.set_exception(error)
        self._some.set()

    # ---- for the program -------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        """Raises: Forbidden, BadValue: what the daemon says to it."""
        self._subscriptions.add(self._subscription)
        weakref.finalize(self, self._subscriptions.drop, self._subscription).atexit = False
        while not self._is_begun and self._error is None:
            self._some.clear()
            await self._some.wait()
        if self._items:
            self._some.set()
        if self._error is not None and not self._is_begun:
            raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._subscriptions.drop(self._subscription)
        for task in list(self._tasks):
            await asyncio.gather(task, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        while not self._items:
            if self._is_over:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._some.clear()
            await self._some.wait()
        return self._items.popleft()

    async def ack(self, *ids: str) -> None:
        """These are dealt with."""
        for id in ids:
            self._done[id] = None
            self._shown.discard(id)
        while len(self._done) > KNOWN:
            self._done.popitem(last=False)
        await self.asks.call("messages.ack", ids=list(ids))

    async def request(
        self, type: str, body: Any = None, *, to: str, timeout_s: float = 30.0, priority: str = "normal"
    ) -> Any:
        """Send a message and return the body of its answer, which is acknowledged.

        Raises: RequestTimeout: none came in time; the message has expired then.
        """
        if self._is_over or not self._is_begun:
            raise StateError("The inbox is not open: async with db.messages() as inbox.")
        id = self.asks.new_message_id()
        waiting: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._requests[id] = waiting
        try:
            async with asyncio.timeout(timeout_s):
                await self.asks.send(type, body, to=to, id=id, ttl_s=timeout_s, priority=priority)
                answer = await waiting
        except TimeoutError:
            raise RequestTimeout(f"No answer to {type!r} came within {timeout_s:g} s.") from None
        finally:
            self._requests.pop(id, None)
        await answer.ack()
        return answer.body

    def on(self, type: str, handler: Handler, *, person: str | None = None) -> None:
        """Have *handler* called by `run` for messages of a type; * at its end is any rest. The first one counts.

        Args: person: only from this contact, by name or id. Other people's messages come to programs that listen for
        the topic `people`.
        """
        self._handlers.append((type, person, handler))

    async def run(self) -> None:
        """Hand each message to its handler and acknowledge it when that returns; until cancelled, or the end.

        One whose handler fails is logged and stays: it comes again at the next start. One without a handler too.
        """
        async for message in self:
            for pattern, person, handler in self._handlers:
                is_type = message.type == pattern or (pattern.endswith("*") and message.type.startswith(pattern[:-1]))
                if is_type and (person is None or person in (message.person, message.person_id)):
                    try:
                        await handler(message)
                    except Exception:
                        log.exception("the handler of %s failed", pattern)
                    else:
                        await message.ack()
                    break

    def _start(self, work: Awaitable[None]) -> None:
        async def quietly() -> None:
            try:
                await work
            except HybridGWError as error:  # it comes again, and is acknowledged then
                log.debug("not acknowledged: %s", error.code)

        task = asyncio.ensure_future(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
