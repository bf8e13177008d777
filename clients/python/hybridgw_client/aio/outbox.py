"""Writes on their way to the daemon. Each is done once, also when the connection breaks between it and its answer.

A write whose answer was lost is looked up before it is sent again: its id was made here, so its effect can be seen.
Where even that does not tell, the program hears `UnknownOutcome`. With a queue, writes made while there is no
connection are kept in memory and sent in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from hybridgw_protocol.errors import (
    AlreadyExists,
    Busy,
    Deleted,
    Forbidden,
    HybridGWError,
    NotFound,
    PreconditionFailed,
    UnknownOutcome,
)

from .backoff import full_jitter
from .link import Lost

Json = dict[str, Any]
Ask = Callable[[str, Json], Awaitable[Any]]
MAX_REJECTED: Final = 100  # that are remembered; the callback gets all

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """One write. content: data of create and put, patch of patch; own_id: the id was made here and is nobody else's."""

    op: Literal["create", "put", "patch", "delete"]
    collection: str
    id: str
    content: Json | None = None
    version: int | None = None
    exists: bool | None = None
    confirm: bool = False
    own_id: bool = False

    @property
    def is_conditional(self) -> bool:
        """Done a second time it fails, or fails to fail."""
        return self.version is not None or self.exists is not None

    def to_params(self) -> Json:
        """As the daemon takes it."""
        found: Json = {"collection": self.collection, "id": self.id}
        if self.content is not None:
            found["patch" if self.op == "patch" else "data"] = self.content
        if self.version is not None:
            found["version"] = self.version
        if self.exists is not None:
            found["exists"] = self.exists
        if self.confirm:
            found["confirm"] = True
        return found


class Rejection(NamedTuple):
    """A kept write that the daemon did not take."""

    write: Write
    error: HybridGWError


async def deliver(ask: Ask, write: Write, *, is_tried: bool) -> Json:
    """Do it. Args: is_tried: it was sent before, and its answer did not arrive.

    Returns: the document. Raises: what the daemon says; UnknownOutcome; Lost: this time too.
    """
    if is_tried:
        seen = await _effect(ask, write)
        if seen is not None:
            return seen
    try:
        return _document(write, await ask(f"data.{write.op}", write.to_params()))
    except (AlreadyExists, NotFound, Deleted, PreconditionFailed) as error:
        if not is_tried:
            raise
        if write.op == "delete" and isinstance(error, NotFound | Deleted):
            return _gone(write)
        if write.op == "create" and write.own_id and isinstance(error, AlreadyExists | Deleted):
            return {"id": write.id, "collection": write.collection}  # it arrived; we may not read it
        if write.is_conditional or isinstance(error, AlreadyExists):
            raise unknown_outcome(f"data.{write.op}", [(write.collection, write.id)]) from error
        raise


def unknown_outcome(command: str, documents: list[tuple[str, str]]) -> UnknownOutcome:
    """The error, with what to look at."""
    where = ", ".join("/".join(one) for one in documents[:3]) + (", …" if len(documents) > 3 else "")
    hint = f"Read {where} and compare, then go on." if documents else "Look whether it was, before you ask again."
    return UnknownOutcome(
        f"Nobody can tell whether {command} was done: the connection broke before the answer came. {hint}",
        command=command, documents=[{"collection": collection, "id": id} for collection, id in documents],
    )  # fmt: skip


async def _effect(ask: Ask, write: Write) -> Json | None:
    """The document, if it shows what the write does: then it arrived the first time."""
    try:
        found: Json = await ask("data.get", {"collection": write.collection, "id": write.id})
    except (NotFound, Deleted) as error:
        is_done = write.op == "delete" or (write.op == "create" and write.own_id and isinstance(error, Deleted))
        return _gone(write) if is_done else None
    except Forbidden:
        return None
    before, content = found.get("data", {}), write.content or {}
    match write.op:
        case "create":
            is_done = write.own_id or _covers(before, content)
        case "put":
            is_done = _covers(before, content) if write.is_conditional else before == content
        case "patch":
            is_done = patched(before, content) == before
        case "delete":
            is_done = False
    return found if is_done else None


def _document(write: Write, answer: object) -> Json:
    return answer if isinstance(answer, dict) else {"id": write.id, "collection": write.collection}


def _gone(write: Write) -> Json:
    return {"id": write.id, "collection": write.collection, "deleted": True}


def _covers(found: Json, written: Json) -> bool:
    """Holds the document all that was written; the daemon adds fields of its own, such as the time of creation."""
    return all(value is None or (name in found and found[name] == value) for name, value in written.items())


def patched(data: Json, patch: Json) -> Json:
    """A merge patch (RFC 7396) with `$add` and `$remove` for sets, as the daemon does it. Nothing changes in place."""
    result = dict(data)
    for name, change in patch.items():
        before = result.get(name)
        if change is None:
            result.pop(name, None)
        elif not isinstance(change, dict):
            result[name] = change
        elif change and change.keys() <= {"$add", "$remove"}:
            kept = [one for one in before if one not in change.get("$remove", [])] if isinstance(before, list) else []
            result[name] = kept + [one for one in change.get("$add", []) if one not in kept]
        else:
            result[name] = patched(before if isinstance(before, dict) else {}, change)
    return result


@dataclass(slots=True)
class _Kept:
    write: Write
    is_tried: bool


class Outbox:
    """Writes that wait for a connection. `run` is its part of a connection."""

    def __init__(
        self, limit: int, random: Callable[[], float], on_rejected: Callable[[Rejection], None] | None,
    ) -> None:  # fmt: skip
        """Args: limit: so many wait at most."""
        self._limit, self._random, self._on_rejected = limit, random, on_rejected
        self._kept: deque[_Kept] = deque()
        self._some = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.rejected: deque[Rejection] = deque(maxlen=MAX_REJECTED)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, write: Write, *, is_tried: bool) -> Json:
        """Send it later. Raises: Busy: too many wait."""
        if len(self._kept) >= self._limit:
            raise Busy(f"{self._limit} writes wait for the daemon already, more are not kept. Start it: hybridgw up")
        if write.content is not None:
            write = replace(write, content=dict(write.content))
        self._kept.append(_Kept(write, is_tried))
        self._some.set()
        self._empty.clear()
        return {"id": write.id, "collection": write.collection, "queued": True}

    async def flushed(self) -> None:
        """Wait until none waits."""
        await self._empty.wait()

    async def run(self, ask: Ask) -> None:
        """Send what waits, one after the other, until cancelled. Raises: Lost."""
        attempt = 0
        while True:
            await self._some.wait()
            while self._kept:
                one = self._kept[0]
                try:
                    await deliver(ask, one.write, is_tried=one.is_tried)
                except Lost as lost:
                    one.is_tried = one.is_tried or lost.sent
                    raise
                except asyncio.CancelledError:
                    one.is_tried = True  # it may have been sent
                    raise
                except HybridGWError as error:
                    if error.retryable:
                        await asyncio.sleep(full_jitter(attempt, self._random))
                        attempt += 1
                        continue
                    self._reject(Rejection(one.write, error))
                attempt = 0
                self._kept.popleft()
            self._some.clear()
            self._empty.set()

    def _reject(self, rejection: Rejection) -> None:
        self.rejected.append(rejection)
        if self._on_rejected is not None:
            self._on_rejected(rejection)
        else:
            write, error = rejection
            log.warning("a write that waited was refused: %s %s/%s: %s", write.op, write.collection, write.id, error)
