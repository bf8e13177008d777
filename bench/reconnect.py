"""Coming back when nothing happened, and what a small operation costs on the wire: counted between device and relay.

All devices reach the relay through a counting pipe of this process, which adds up the bytes of each connection in both
directions and how often they change direction; the HTTP upgrade is counted apart from what follows it.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Self

from .documents import COLLECTION, documents
from .options import Options
from .processes import Processes
from .report import Figure
from .rig import Daemon, Relay, add_relay, pair

LOGS = 10
PACKED = 100
QUIET_S = 0.5
TOLD_S = 2.0  # by then a device has told the others which programs are here, a second after it connected


class Piped:
    """One connection through the pipe. up: device to relay; down: relay to device."""

    def __init__(self) -> None:
        self.upgrade = {"up": 0, "down": 0}
        self.bytes = {"up": 0, "down": 0}
        self.turns: list[str] = []  # directions, each time it changed
        self._heads = {"up": True, "down": True}

    def passed(self, way: str, data: bytes) -> None:
        """Count what goes one way."""
        if self._heads[way]:
            head, found, rest = data.partition(b"\r\n\r\n")
            self.upgrade[way] += len(head) + len(found)
            self._heads[way] = not found
            data = rest
        if data:
            self.bytes[way] += len(data)
            if not self.turns or self.turns[-1] != way:
                self.turns.append(way)

    @property
    def round_trips(self) -> int:
        """How often the device asked and waited: turns of its own with an answer after them."""
        return sum(one == "up" and two == "down" for one, two in zip(self.turns, self.turns[1:], strict=False))


class Pipe:
    """Stands between devices and a relay."""

    def __init__(self) -> None:
        self.connections: list[Piped] = []
        self.target = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls) -> Self:
        """Listen; `target` is set once the relay's port is known."""
        pipe = cls()
        server = await asyncio.start_server(pipe._connected, "127.0.0.1", 0)
        pipe.port = server.sockets[0].getsockname()[1]
        return pipe

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piped = Piped()
        self.connections.append(piped)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        for way, source, sink in (("up", reader, there_writer), ("down", there_reader, writer)):
            task = asyncio.create_task(self._pump(piped, way, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _pump(piped: Piped, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                piped.passed(way, data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def measure(options: Options) -> list[Figure]:
    """A space of ten devices that all wrote; the first one comes back again and again."""
    with Processes() as processes:
        pipe = await Pipe.start()
        relay = Relay(processes, public_port=pipe.port)
        pipe.target = relay.port
        first = Daemon(processes)
        await first.ready()
        await add_relay(first, relay.invite())
        await _write_one(first)
        for _ in range(LOGS - 1):
            other = Daemon(processes)
            await other.ready()
            await pair(first, other)
            await _write_one(other)
            await other.settled()
            await first.settled()
            other.stop()
        logs = (await first.status())["logs"]
        if logs != LOGS:
            raise RuntimeError(f"there are {logs} logs, not {LOGS}")
        back: list[Piped] = []
        told: list[float] = []
        for _ in range(options.runs):
            first.stop()
            begin = len(pipe.connections)
            await asyncio.to_thread(first.start)
            await first.ready()
            await first.settled()
            await asyncio.sleep(QUIET_S)
            (piped,) = pipe.connections[begin:]
            back.append(copy.deepcopy(piped))  # what follows on this connection is not counted
            await asyncio.sleep(TOLD_S)
            told.append(float(piped.bytes["up"] - back[-1].bytes["up"]))
        packed, single = await _per_operation(options, first, pipe)
    name = f"back in step at {LOGS} logs"
    return [
        Figure(f"{name}: round trips after the upgrade", "", [float(p.round_trips) for p in back], most=1),
        Figure(f"{name}: sent by the device", "bytes", [float(p.bytes["up"]) for p in back], most=600,
               extra={"HTTP upgrade": back[-1].upgrade["up"]}),
        Figure(f"{name}: received by the device", "bytes", [float(p.bytes["down"]) for p in back], most=600,
               extra={"HTTP upgrade": back[-1].upgrade["down"]}),
        Figure("then, once: which programs are here, to nine other devices", "bytes", told, note="sent by the device"),
        Figure(f"wire: a small edit among {PACKED} packed together", "bytes/operation", packed, most=45,
               note="device to relay, all frames"),
        Figure("wire: a small edit alone", "bytes/operation", single, note="padded to the smallest batch, by design"),
    ]  # fmt: skip


async def _write_one(daemon: Daemon) -> None:
    ((document, data),) = documents(1, seed=daemon.port)
    await daemon.api.call("PUT", f"/api/data/{COLLECTION}/{document}", data)


async def _per_operation(options: Options, daemon: Daemon, pipe: Pipe) -> tuple[list[float], list[float]]:
    pairs = documents(PACKED, seed=9)
    creates = [{"op": "create", "collection": COLLECTION, "id": d, "data": data} for d, data in pairs]
    await daemon.api.call("POST", "/api/data", {"operations": creates})
    found: tuple[list[float], list[float]] = ([], [])
    number = 0
    for _ in range(options.runs):
        for results, size in zip(found, (PACKED, 1), strict=True):
            await daemon.settled()
            await asyncio.sleep(0.2)
            before = pipe.connections[-1].bytes["up"]
            number += 1
            edits = [
                {"op": "patch", "collection": COLLECTION, "id": d, "patch": {"minutes": 1_000 + number}}
                for d, _ in pairs[:size]
            ]
            await daemon.api.call("POST", "/api/data", json.dumps({"operations": edits}).encode())
            await daemon.settled()
            await asyncio.sleep(0.2)
            results.append((pipe.connections[-1].bytes["up"] - before) / size)
    return found
