"""A network in memory: connections that carry messages as a WebSocket does, and everything that goes wrong with them.

Within a connection messages arrive once and in order, or the connection breaks; nothing else is possible over TCP. So
the faults are: a cut (both ends, one end, or neither is told: half-open), data that is held back while a way is
blocked and flows again when it opens, latency, a narrow line, a reader that does not read, a listener that is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from hybridgw_protocol.errors import Offline
from tests.simulation.sim_loop import CURRENT, Process, SimulatedLoop

CONNECT_TIMEOUT_S = 10.0
BUFFER_BYTES = 256 * 1024


class End:
    """One end of a connection. `send`, `receive` and `close` are those of services/gateway.py, Channel."""

    def __init__(self, network: Network, connection: Connection, process: Process | None, name: str) -> None:
        self._network = network
        self.connection = connection
        self.process = process
        self.name = name
        self.other: End = self
        self.is_closed = False  # here: by us, or we were told that it is over
        self.is_vanishing = False  # what is sent from here gets lost: half-open
        self.inbox: deque[bytes] = deque()
        self.unread_bytes = 0  # sent from the other end and not received here, in flight included
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._flight: deque[tuple[float, bytes | None]] = deque()  # from here to the other end; None: end of stream
        self._free_at = 0.0  # when the line has sent what was put on it
        self._is_scheduled = False
        self.bytes_sent = 0
        self.most_unread = 0

    # ---- what a program calls -------------------------------------------------------------------------------------
    async def send(self, data: bytes) -> None:
        """Send one message; waits while the other side is slow. Raises: Offline."""
        self.put(data)
        await self.drained()

    def put(self, data: bytes) -> None:
        """Queue one message, whatever waits already. Raises: Offline."""
        if self.is_closed:
            raise Offline(f"The connection {self.name} broke.")
        self.bytes_sent += len(data)
        self.other.unread_bytes += len(data)
        self.other.most_unread = max(self.other.most_unread, self.other.unread_bytes)
        self._network.count(len(data))
        self._network.on_send(self, data)
        self._launch(data)

    @property
    def is_congested(self) -> bool:
        """More waits for the other side to read than the buffers between hold."""
        return not self.is_closed and self.other.unread_bytes > self._network.buffer_bytes

    async def drained(self) -> None:
        """Wait until it is not congested. Raises: Offline: it broke meanwhile."""
        while self.is_congested:
            waiter = self._network.loop.create_future()
            self._writers.append(waiter)
            await waiter
            if self.is_closed:
                raise Offline(f"The connection {self.name} broke.")

    async def receive(self) -> bytes:
        """The next message. Raises: Offline."""
        while not self.inbox:
            if self.is_closed:
                raise Offline(f"The connection {self.name} was closed.")
            assert self._reader is None, "two readers"
            self._reader = self._network.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self.inbox.popleft()
        self.unread_bytes -= len(data)
        self.other._wake_writers()
        return data

    async def close(self) -> None:
        """Close; idempotent. What was sent before still arrives."""
        self.close_now()

    def close_now(self) -> None:
        """The same, at once."""
        if self.is_closed:
            return
        self._end()
        self._launch(None)

    # ---- the line -------------------------------------------------------------------------------------------------
    def _launch(self, data: bytes | None) -> None:
        network = self._network
        now = network.loop.time()
        size = 64 if data is None else len(data) + 64
        self._free_at = max(self._free_at, now) + size / self.connection.bytes_per_s
        due = self._free_at + self.connection.latency_s * (0.5 + network.rng.random())
        if self._flight:
            due = max(due, self._flight[-1][0])
        if self.is_vanishing:
            return
        self._flight.append((due, data))
        self._schedule()

    def _schedule(self) -> None:
        if self._flight and not self._is_scheduled and not self._network.is_blocked(self):
            self._is_scheduled = True
            network = self._network
            due = max(self._flight[0][0], network.loop.time())
            network.loop.call_at(due, self._arrive, context=network.context)

    def _arrive(self) -> None:
        self._is_scheduled = False
        if not self._flight or self._network.is_blocked(self):
            return
        _, data = self._flight.popleft()
        other, network = self.other, self._network
        if data is None:
            if not other.is_closed:
                network.loop.log(other.name, "end of stream")
                other._end(keep_inbox=True)  # what came before it can still be read
        elif other.is_closed:
            other.unread_bytes -= len(data)
            if not other.is_vanishing:
                self._end()  # nobody listens there: reset
        else:
            network.loop.log(other.name, f"got {len(data)} {data[1] if len(data) > 1 else 0}")
            other.inbox.append(data)
            other._wake_reader()
        self._schedule()

    # ---- the end --------------------------------------------------------------------------------------------------
    def _end(self, *, keep_inbox: bool = False) -> None:
        """This end knows that it is over."""
        self.is_closed = True
        if not keep_inbox:
            self.unread_bytes -= sum(map(len, self.inbox))
            self.inbox.clear()
        self._wake_reader()
        self._wake_writers()
        self._network.forget(self)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writers(self) -> None:
        if self._writers and not self.is_congested:
            waiting, self._writers = self._writers, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)


class Connection:
    """Two ends and the line between them."""

    def __init__(self, latency_s: float, bytes_per_s: float) -> None:
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.ends: tuple[End, End]

    @property
    def is_over(self) -> bool:
        """Do both ends know that it is."""
        return all(end.is_closed for end in self.ends)


class Network:
    """All connections, who listens where, which ways are blocked."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.loop, self.rng = loop, rng
        self.buffer_bytes = buffer_bytes
        self.context = loop.context_of(None)
        self.latency_s = 0.01
        self.bytes_per_s = 10e6
        self.connections: list[Connection] = []
        self._listeners: dict[str, tuple[Process | None, Callable[[End], None]]] = {}
        self._blocked: set[tuple[str, str]] = set()  # (from, to) process names
        self.on_send: Callable[[End, bytes], None] = lambda _end, _data: None
        self.sent_bytes = 0
        self.sent_messages = 0

    def count(self, size: int) -> None:
        """Account for a message."""
        self.sent_bytes += size
        self.sent_messages += 1

    # ---- connecting -----------------------------------------------------------------------------------------------
    def listen(self, address: str, process: Process | None, accept: Callable[[End], None]) -> None:
        """Serve an address: *accept* is called, as part of *process*, with the server's end of each connection."""
        self._listeners[address] = (process, accept)
        if process is not None:
            process.on_kill.append(lambda: self._gone(address, process))

    def _gone(self, address: str, process: Process) -> None:
        if self._listeners.get(address, (None, None))[0] is process:
            del self._listeners[address]

    async def connect(self, address: str) -> End:
        """A connection from the current process. Raises: Offline: refused, or no answer in time."""
        process = CURRENT.get()
        mine = process.name if process else ""
        await asyncio.sleep(self.latency_s * (0.5 + self.rng.random()))
        server, accept = self._listeners.get(address, (None, None))
        if accept is None:
            raise Offline(f"{address} refused the connection.")
        theirs = server.name if server else ""
        if {(mine, theirs), (theirs, mine)} & self._blocked:
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise Offline(f"{address} did not answer.")
        connection = Connection(self.latency_s, self.bytes_per_s)
        client = End(self, connection, process, f"{mine}>{theirs}")
        served = End(self, connection, server, f"{theirs}<{mine}")
        client.other, served.other = served, client
        connection.ends = (client, served)
        self.connections.append(connection)
        for end in connection.ends:
            if end.process is not None:
                end.process.on_kill.append(lambda end=end: self._died(end))
        self.loop.log(client.name, "connected")
        self.loop.call_soon(accept, served, context=self.loop.context_of(server))
        return client

    def forget(self, end: End) -> None:
        """An end is closed; with both closed the connection is gone."""
        if end.connection.is_over and end.connection in self.connections:
            self.connections.remove(end.connection)

    def _died(self, end: End) -> None:
        """The process of this end was killed: its system sends what it had, or resets, or is gone too."""
        if end.is_closed:
            return
        fate = self.rng.random()
        if fate < 0.4:
            end.close_now()
        else:
            is_told = fate < 0.7  # else the machine went: the other end sees silence
            tell = tuple(e is end or is_told for e in end.connection.ends)
            self.cut(end.connection, tell=(tell[0], tell[1]))

    # ---- faults ---------------------------------------------------------------------------------------------------
    def cut(self, connection: Connection, *, tell: tuple[bool, bool] = (True, True)) -> None:
        """Break it: what is in flight is lost. tell: which end learns of it; the other sees silence (half-open)."""
        self.loop.log("net", f"cut {connection.ends[0].name} {tell}")
        for end in connection.ends:
            for _, data in end._flight:
                end.other.unread_bytes -= len(data or b"")
            end._flight.clear()
            end.is_vanishing = True
        for end, told in zip(connection.ends, tell, strict=True):
            if told and not end.is_closed:
                end._end()

    def is_blocked(self, end: End) -> bool:
        """Is the way from this end to the other one blocked now."""
        here, there = end.process, end.other.process
        return bool(self._blocked) and ((here.name if here else ""), (there.name if there else "")) in self._blocked

    @property
    def is_divided(self) -> bool:
        """Is some way blocked."""
        return bool(self._blocked)

    def block(self, source: str, target: str) -> None:
        """Hold back what goes from one process to another, connecting included; one direction only."""
        self.loop.log("net", f"block {source} {target}")
        self._blocked.add((source, target))

    def heal(self) -> None:
        """Open every way; what was held flows."""
        self._blocked.clear()
        for connection in self.connections:
            for end in connection.ends:
                end._schedule()
