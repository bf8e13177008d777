"""An event loop in virtual time: one seed, one run, exactly repeatable; processes can be killed between two steps.

Nothing sleeps. Callbacks run in the order asyncio promises, first in first out, *within* one process; which process
runs next is drawn from the seed, as on a real machine nobody promises that. When nothing is ready, time jumps to the
next timer.

A process is the set of tasks and callbacks that were started inside `loop.inside(process)`; it is inherited through the
context. `kill` ends one as SIGKILL does: nothing of it runs again, no `finally`, no `except`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import math
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):
    """The run would never end: no timer left, or more steps than a healthy run takes."""


class Process:
    """What dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.on_kill: list[Callable[[], None]] = []  # what the operating system does: close sockets and files

    def __repr__(self) -> str:
        return f"<{self.name}{'' if self.alive else ' dead'}>"


CURRENT: ContextVar[Process | None] = ContextVar("simulated_process", default=None)


class Trace:
    """What happened, in order: a hash over all of it, the last lines in words."""

    def __init__(self, tail: int = 120) -> None:
        self.tail: deque[str] = deque(maxlen=tail)
        self.count = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, at_s: float, who: str, what: str) -> None:
        """One event."""
        line = f"{at_s:.6f} {who} {what}"
        self.tail.append(line)
        self.count += 1
        self._hash.update(line.encode())
        self._hash.update(b"\n")

    def digest(self) -> str:
        """Equal for equal runs."""
        return self._hash.hexdigest()


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See the module's text. Single threaded: `call_soon_threadsafe` is `call_soon`."""

    def __init__(self, seed: object, *, start_s: float = 0.0) -> None:
        self._rng = random.Random(f"loop {seed}")
        self._now = start_s
        self._ready: dict[Process | None, deque[events.Handle]] = {}
        self._timers: list[tuple[float, int, events.TimerHandle]] = []
        self._sequence = 0
        self._closed = False
        self._processes: list[Process] = []
        self._own: list[asyncio.Task[Any]] = []  # tasks of no process
        self.trace = Trace()
        self.errors: list[str] = []  # what nobody caught
        self.steps = 0
        self.before_step: Callable[[], None] | None = None  # faults strike here

    # ---- processes ------------------------------------------------------------------------------------------------
    def process(self, name: str) -> Process:
        """A new process without tasks."""
        found = Process(name)
        self._processes.append(found)
        return found

    @contextlib.contextmanager
    def inside(self, process: Process | None) -> Iterator[None]:
        """What is started in this block belongs to *process*."""
        token = CURRENT.set(process)
        try:
            yield
        finally:
            CURRENT.reset(token)

    def context_of(self, process: Process | None) -> Context:
        """A context for callbacks that belong to *process*, whoever asks for them."""
        context = copy_context()
        context.run(CURRENT.set, process)
        return context

    def kill(self, process: Process) -> None:
        """End it between two steps, at once."""
        if not process.alive:
            return
        self.log(process.name, "killed")
        process.alive = False
        self._ready.pop(process, None)
        for action in process.on_kill:
            action()

    # ---- time and callbacks ---------------------------------------------------------------------------------------
    def time(self) -> float:
        return self._now

    def log(self, who: str, what: str) -> None:
        """A line in the trace."""
        self.trace.add(self._now, who, what)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> events.Handle:
        context = context or copy_context()
        handle = events.Handle(callback, args, self, context)
        self._enqueue(handle, context)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context or copy_context())
        if not self._closed:
            self._sequence += 1
            heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def _enqueue(self, handle: events.Handle, context: Context) -> None:
        process = context.get(CURRENT)
        if self._closed or (process is not None and not process.alive):
            return
        queue = self._ready.get(process)
        if queue is None:
            queue = self._ready[process] = deque()
        queue.append(handle)

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """A cancelled timer is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        process = context.get(CURRENT) if context is not None else CURRENT.get()
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        tasks = self._own if process is None else process.tasks
        tasks.append(task)
        if len(tasks) > 64:
            tasks[:] = [t for t in tasks if not t.done()]
        return task

    # ---- running --------------------------------------------------------------------------------------------------
    def step(self, until_s: float = math.inf) -> bool:
        """Run one callback; first let time go on if nothing is ready. False: nothing is left to do until then."""
        while True:
            while not self._ready:
                if not self._jump(until_s):
                    return False
            if self.before_step is not None:
                self.before_step()  # may kill
                if not self._ready:
                    continue
            queues = list(self._ready)
            process = queues[0] if len(queues) == 1 else queues[int(self._rng.random() * len(queues))]
            queue = self._ready[process]
            handle = queue.popleft()
            if not queue:
                del self._ready[process]
            if not handle.cancelled():
                self.steps += 1
                handle._run()
                return True

    def _jump(self, until_s: float) -> bool:
        """To the next timer that nobody has cancelled, if it is due until then; queues all that are due with it."""
        while self._timers and self._timers[0][0] <= until_s:
            when = self._timers[0][0]
            if self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
                continue
            self._now = max(self._now, when)
            found = False
            while self._timers and self._timers[0][0] <= when:
                _, _, handle = heapq.heappop(self._timers)
                if not handle.cancelled():
                    assert handle._context is not None
                    self._enqueue(handle, handle._context)
                    found = True
            if found and self._ready:
                return True
        return False

    def run_until(self, is_done: Callable[[], bool], *, most_s: float, most_steps: int = 2_000_000) -> bool:
        """Run until the condition holds (looked at after each callback) or so much virtual time has passed.

        Returns whether it holds. Raises: Stuck: more callbacks than *most_steps*.
        """
        end_s, last_step = self._now + most_s, self.steps + most_steps
        with self._running():
            while not is_done():
                if not self.step(end_s):
                    self._now = max(self._now, end_s)
                    return is_done()
                if self.steps > last_step:
                    raise Stuck(f"{most_steps} callbacks in {most_s} s of virtual time")
        return True

    def run_for(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        self.run_until(lambda: False, most_s=seconds)

    def run_until_complete(self, future: Generator[Any, None, T] | Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:  # type: ignore[override]
        with self._running():
            task = asyncio.ensure_future(future, loop=self)
            while not task.done():
                if not self.step():
                    raise Stuck("nothing is left to run, and the task is not done")
        return task.result()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def close(self) -> None:
        """Throw away what is left, without noise: what unfinished tasks still do touches nothing."""
        if self._closed:
            return
        with self._running():
            self._closed = True
            self._ready.clear()
            self._timers.clear()
            for process in self._processes:
                process.alive = False
            tasks = [task for process in self._processes for task in process.tasks] + self._own
            for task in tasks:
                coro: Any = task.get_coro()
                for _ in range(20):
                    try:
                        coro.close()
                        break
                    except BaseException:  # noqa: S112 - it awaits in a `finally`
                        continue
            for process in self._processes:
                process.tasks.clear()
            self._own.clear()

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    # ---- what nobody caught ---------------------------------------------------------------------------------------
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._closed:
            return
        error = context.get("exception")
        told = f"{context.get('message')}: {type(error).__name__}: {error}" if error else str(context.get("message"))
        self.errors.append(told)
        self.log("loop", told)

    async def shutdown_asyncgens(self) -> None:
        """There are none."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""


class Clock:
    """A wall clock of one machine: it drifts and jumps, virtual time does not."""

    def __init__(self, loop: SimulatedLoop, start_ms: int) -> None:
        self._loop = loop
        self._start_ms = start_ms
        self.offset_ms = 0
        self.drift = 0.0  # 1e-4 gains 0.1 ms each second
        self._since = 0.0

    def now_ms(self) -> int:
        """Unix milliseconds as this machine believes."""
        elapsed_ms = self._loop.time() * 1000
        return self._start_ms + self.offset_ms + int(elapsed_ms + (elapsed_ms - self._since) * self.drift)

    def jump(self, offset_ms: int) -> None:
        """Somebody sets the clock: so far off from now on."""
        self.offset_ms = offset_ms

    def run_at(self, drift: float) -> None:
        """It drifts from now on."""
        self.offset_ms += int((self._loop.time() * 1000 - self._since) * self.drift)
        self._since, self.drift = self._loop.time() * 1000, drift
