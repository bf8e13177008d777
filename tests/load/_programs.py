"""Programs of a mixed load: each reads, writes, follows or talks, and waits a while between two steps."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import aiohttp
import msgspec

from tests.load._ledger import Ledger, Place, State
from tests.load._socket import Socket
from tests.load._times import Times

COLLECTIONS: Final = 4
PROGRAMS_PER_KEY: Final = 5
DOCUMENTS: Final = 6  # of each writer, and up to EXTRA that come and go
EXTRA: Final = 4
HURRIED_TURNS: Final = 60
GROUPS: Final = 6  # of talkers, each with a topic
BIG: Final = "load/big"
BIG_BYTES: Final = 32 * 1024
NOTES: Final = "n" * 200
MODES: Final = ("web_app", "browser_extension", "local_install")


class Load:
    """What all programs share."""

    def __init__(self, port: int, tokens: list[str], think_s: float) -> None:
        self.port, self.tokens, self.think_s = port, tokens, think_s
        self.ledger = Ledger()
        self.times: defaultdict[str, Times] = defaultdict(list)  # by kind
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.going = asyncio.Event()
        self.is_ending = False  # from now on nothing that breaks is a fault

    def fault(self, what: str) -> None:
        """Something that must not happen."""
        if not self.is_ending and len(self.faults) < 100:
            self.faults.append(what)

    async def guard(self, program: Program) -> None:
        """Run a program; its end is a fault, but for the one that is asked for."""
        try:
            await program.run()
        except Exception as error:
            self.fault(f"{program.name}: {error!r}")
            if not self.is_ending:
                raise
        finally:
            with contextlib.suppress(Exception):
                await program.leave()


class Program:
    """One of the two hundred."""

    kind = "?"
    hurries = False  # works without a pause

    def __init__(self, load: Load, number: int) -> None:
        self.load, self.number = load, number
        self.name = f"{self.kind}-{number}"
        self.random = random.Random(number)
        self.token = load.tokens[number // PROGRAMS_PER_KEY]
        self.collection = f"load{number % COLLECTIONS}"

    @abstractmethod
    async def run(self) -> None:
        """Until cancelled."""

    async def leave(self) -> None:
        """Give back what it holds."""

    async def pause(self, mean_s: float | None = None) -> None:
        """Think; go on only while the load is going."""
        if self.hurries:
            return
        mean_s = mean_s or self.load.think_s
        await asyncio.sleep(min(self.random.expovariate(1 / mean_s), 4 * mean_s))
        await self.load.going.wait()

    def took(self, kind: str, seconds: float) -> None:
        """Note how long something took."""
        self.load.times[kind].append((self.number, seconds))

    @contextlib.contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Around something whose time is noted."""
        start = time.perf_counter()
        yield
        self.took(kind, time.perf_counter() - start)


# ---- over HTTP -------------------------------------------------------------------------------------------------------
class HttpProgram(Program):
    """One that keeps a connection for its requests."""

    _session: aiohttp.ClientSession | None = None

    async def call(
        self, kind: str, method: str, path: str, body: Any = None, *, expect: tuple[int, ...] = (200,), **headers: str
    ) -> Any:  # fmt: skip
        """The body of the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                f"http://127.0.0.1:{self.load.port}", connector=aiohttp.TCPConnector(limit=1),
                headers={"Authorization": f"Bearer {self.token}"}, timeout=aiohttp.ClientTimeout(60),
            )  # fmt: skip
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None
        if body is not None:
            data, sent["Content-Type"] = msgspec.json.encode(body), "application/json"
        with self.timed(kind):
            async with self._session.request(method, path, data=data, headers=sent) as answer:
                raw = await answer.read()
        self.load.counts[str(answer.status)] += 1
        if answer.status not in expect:
            self.load.fault(f"{self.name}: {method} {path}: {answer.status} {raw[:300]!r}")
        return msgspec.json.decode(raw) if raw else None

    async def leave(self) -> None:
        if self._session is not None:
            await self._session.close()


class Reader(HttpProgram):
    """Lists, filters, pages, looks again whether something is new."""

    kind = "reader"

    async def run(self) -> None:
        etag, id = "", ""
        while True:
            path = f"/api/data/{self.collection}"
            match self.random.randrange(5):
                case 0:
                    found = await self.call("list", "GET", f"{path}?limit=50")
                    if found["items"]:
                        id, etag = found["items"][0]["id"], f'"{found["items"][0]["version"]}"'
                    if found["next_cursor"]:
                        await self.call("list", "GET", f"{path}?limit=50&cursor={found['next_cursor']}")
                case 1:
                    query = "filter=%7B%22status%22%3A%22open%22%7D&sort=-turn&limit=20"
                    found = await self.call("list", "GET", f"{path}?{query}")
                    if any(item["data"]["status"] != "open" for item in found["items"]):
                        self.load.fault(f"{self.name}: a filtered list shows what it must not")
                case 2:
                    await self.call("read", "GET", "/api/collections")
                case _ if id:
                    await self.call("read", "GET", f"{path}/{id}", expect=(200, 304, 410), If_None_Match=etag)
            await self.pause()


class Writing(Program):
    """One that has documents of its own."""

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(load, number)
        self.hurries = True  # at first, so that what keeps the last changes is full when memory is looked at
        self.own: list[Place] = [(self.collection, f"w{number}-{n}") for n in range(DOCUMENTS)]
        self.extra: list[Place] = []
        self._turn = 0

    def fields(self) -> tuple[State, dict[str, Any]]:
        """The next turn: its state and the fields that show it. at: when it was sent, by the clock of this process."""
        self._turn += 1
        self.hurries = self._turn < HURRIED_TURNS
        state = State(self._turn)
        return state, {"turn": self._turn, "status": state.status, "at": time.perf_counter()}

    def whole(self) -> tuple[State, dict[str, Any]]:
        """The same for all fields of a document."""
        state, fields = self.fields()
        return state, fields | {"notes": NOTES, "owner": self.number}

    def another(self) -> Place:
        """A place where nothing has been."""
        self._turn += 1
        return self.collection, f"w{self.number}-x{self._turn}"

    def check(self, place: Place, data: dict[str, Any]) -> None:
        """What was acknowledged is read."""
        if data["turn"] != self.load.ledger.acknowledged[place].turn:
            self.load.fault(f"{self.name}: {place} shows turn {data['turn']}")


class Writer(Writing, HttpProgram):
    """Puts, patches, creates, deletes, writes several at once, and comes too late."""

    kind = "writer"

    async def run(self) -> None:
        for place in self.own:
            await self._put(place)
        while True:
            choice, place = self.random.random(), self.random.choice(self.own)
            if choice < 0.40:
                state, fields = self.fields()
                with self.load.ledger.write({place: state}):
                    await self.call("write", "PATCH", _path(place), fields)
            elif choice < 0.55:
                await self._put(place)
            elif choice < 0.65:
                if len(self.extra) >= EXTRA:
                    gone = self.extra.pop(0)
                    with self.load.ledger.write({gone: State(0, alive=False)}):
                        await self.call("write", "DELETE", _path(gone))
                else:
                    made = self.another()
                    state, fields = self.whole()
                    with self.load.ledger.write({made: state}):
                        await self.call(
                            "write", "POST", f"/api/data/{made[0]}?id={made[1]}", fields, expect=(201,)
                        )  # fmt: skip
                    self.extra.append(made)
            elif choice < 0.75:
                await self._batch()
            elif choice < 0.80:
                await self.call("write", "PATCH", _path(place), {"turn": -1}, expect=(412,), If_Match='"1"')
            else:
                self.check(place, (await self.call("read", "GET", _path(place)))["data"])
            await self.pause()

    async def _put(self, place: Place) -> None:
        state, fields = self.whole()
        with self.load.ledger.write({place: state}):
            await self.call("write", "PUT", _path(place), fields, expect=(200, 201))

    async def _batch(self) -> None:
        changes, operations = {}, []
        for place in self.random.sample(self.own, 3):
            changes[place], fields = self.fields()
            operations.append({"op": "patch", "collection": place[0], "id": place[1], "patch": fields})
        with self.load.ledger.write(changes):
            await self.call("write", "POST", "/api/data", {"operations": operations})


def _path(place: Place) -> str:
    return f"/api/data/{place[0]}/{place[1]}"


# ---- over WebSockets -------------------------------------------------------------------------------------------------
class SocketProgram(Program):
    """One that keeps a WebSocket, beats, and now and then breaks off and comes back."""

    stays_s = 0.0  # on average, before it breaks off; 0: always
    receive_bytes: int | None = None

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(load, number)
        self.socket: Socket | None = None
        self.since = 0.0  # when the connection was made
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, resume: dict[str, Any] | None = None) -> Socket:
        """A new connection. It is not read yet: `Socket.run`."""
        mode = MODES[self.number % 3]
        with self.timed("connect"):
            self.socket = await Socket.open(
                self.load.port, self.token, f"/ws/{mode}/{self.name}", packed=self.number % 2 == 0, resume=resume,
                receive_bytes=self.receive_bytes,
            )  # fmt: skip
        self.since = time.perf_counter()
        self.load.counts["connects"] += 1
        return self.socket

    async def leave(self) -> None:
        if self.socket is not None:
            await self.socket.break_off()

    async def stay(self, begin: Callable[[Socket], Coroutine[Any, Any, None]]) -> None:
        """Connect, or come back if it had broken off. Args: begin: subscribe, in a new session."""
        resume = None if self.socket is None else self.socket.resume
        on_event = None if self.socket is None else self.socket.on_event
        socket = await self.connect(resume)
        if on_event is not None:
            socket.on_event = on_event
        if resume is not None and not socket.hello["recovered"]:
            self.load.fault(f"{self.name}: a session was lost that broke off a moment ago")
        socket.run()
        if resume is None:
            await begin(socket)
        else:
            self.load.counts["resumed"] += 1

    @property
    def live(self) -> Socket:
        """The connection. Raises: Ended: it has ended."""
        assert self.socket is not None
        if self.socket.ended.done():
            raise self.socket.ended.result()
        return self.socket

    def breaks_off(self) -> bool:
        """Whether it is time to."""
        return bool(self.stays_s) and self.random.random() < self.load.think_s / self.stays_s


class Patcher(Writing, SocketProgram):
    """Patches its documents and reads them; one request at a time."""

    kind = "patcher"

    async def run(self) -> None:
        socket = await self.connect()
        socket.run()
        for place in self.own:
            state, fields = self.whole()
            with self.load.ledger.write({place: state}), self.timed("patch"):
                await socket.do("data.put", collection=place[0], id=place[1], data=fields)
        while True:
            place = self.random.choice(self.own)
            if self.random.random() < 0.7:
                state, fields = self.fields()
                with self.load.ledger.write({place: state}), self.timed("patch"):
                    await self.live.do("data.patch", collection=place[0], id=place[1], patch=fields)
            else:
                with self.timed("get"):
                    found = await self.live.do("data.get", collection=place[0], id=place[1])
                self.check(place, found["data"])
            if self.random.random() < 0.1:
                self.live.beat()
            await self.pause()


class Watcher(SocketProgram):
    """Follows a collection, every second one only what is open, and must see in the end what there is."""

    kind = "watcher"
    stays_s = 20.0

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(load, number)
        self.filter = {"status": "open"} if number // COLLECTIONS % 2 else None
        self.seen: dict[str, tuple[int, int]] = {}  # version and turn, by id
        self._is_ready = False

    async def run(self) -> None:
        await self.stay(self._begin)
        while True:
            await self.pause()
            self.live.beat()
            if self.breaks_off():
                await self.live.break_off()
                await self.pause()
                await self.stay(self._begin)

    async def _begin(self, socket: Socket) -> None:
        socket.on_event = self._on_event
        params = {} if self.filter is None else {"filter": self.filter}
        await socket.do("live.subscribe", collection=self.collection, **params)

    def _on_event(self, event: dict[str, Any]) -> None:
        data = event["data"]
        self.load.counts["events"] += 1
        match event["event"]:
            case "initial":
                for item in data["items"]:
                    self._see(item)
            case "ready":
                self._is_ready = True
            case "document":
                self._see(data)
            case "left":
                self.seen.pop(data["id"], None)
            case other:
                self.load.fault(f"{self.name}: an event {other}")

    def _see(self, document: dict[str, Any]) -> None:
        id, version = document["id"], document["version"]
        if id in self.seen and self.seen[id][0] >= version:
            self.load.fault(f"{self.name}: version {version} of {id} after {self.seen[id][0]}")
        if document.get("deleted"):
            self.seen.pop(id, None)
            return
        self.seen[id] = (version, document["data"]["turn"])
        at = document["data"]["at"]
        if self._is_ready and at > self.since:
            self.took("seen", time.perf_counter() - at)

    @property
    def is_here(self) -> bool:
        """Connected, and so up to date."""
        return self.socket is not None and not self.socket.ended.done()

    def misses(self) -> list[str]:
        """What it does not know, while nothing is under way."""
        wanted = {
            id: state.turn
            for id, state in self.load.ledger.alive_in(self.collection).items()
            if self.filter is None or state.status == "open"
        }
        seen = {id: turn for id, (_, turn) in self.seen.items()}
        return [
            f"{self.name}: {id}: turn {seen.get(id)}, not {wanted.get(id)}"
            for id in wanted.keys() | seen.keys()
            if wanted.get(id) != seen.get(id)
        ]


class Talker(SocketProgram):
    """Talks on the topic of its group and hears the others: every message once and in order, across its absences."""

    kind = "talker"
    stays_s = 20.0

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(load, number)
        self.topic = f"load/{number % GROUPS}"
        self._said = 0
        self._heard: dict[int, int] = {}

    async def run(self) -> None:
        await self.stay(self._begin)
        while True:
            await self.pause()
            self._said += 1
            message = {"from": self.number, "n": self._said, "at": time.perf_counter(), "text": "t" * 100}
            with self.timed("publish"):
                await self.live.do("topic.publish", topic=self.topic, data=message)
            self.live.beat()
            if self.breaks_off():
                await self.live.break_off()
                await self.pause()
                await self.stay(self._begin)

    async def _begin(self, socket: Socket) -> None:
        socket.on_event = self._on_event
        await socket.do("topic.subscribe", topic=self.topic)

    def _on_event(self, event: dict[str, Any]) -> None:
        self.load.counts["events"] += 1
        message = event["data"]["data"]
        sender, number = message["from"], message["n"]
        before = self._heard.get(sender)
        if before is not None and number != before + 1:
            self.load.fault(f"{self.name}: message {number} of {sender} after {before}")
        self._heard[sender] = number
        if message["at"] > self.since:
            self.took("heard", time.perf_counter() - message["at"])


class Shouter(SocketProgram):
    """Big messages, for those who do not read them."""

    kind = "shouter"

    async def run(self) -> None:
        socket = await self.connect()
        socket.run()
        while True:
            await self.live.do("topic.publish", topic=BIG, data={"text": "b" * BIG_BYTES})
            await self.pause(0.1)


class Comer(SocketProgram):
    """Comes, asks something, and goes: with a word, or without."""

    kind = "comer"

    async def run(self) -> None:
        while True:
            socket = await self.connect()
            socket.run()
            with self.timed("get"):
                await socket.do("data.list", collection=self.collection, limit=5)
            if self.random.random() < 0.8:
                await socket.close()
            else:
                await socket.break_off()
            await self.pause(2 * self.load.think_s)


class Stuck(SocketProgram):
    """Listens to the big messages and never reads: it is cut off, and comes again."""

    kind = "stuck"
    receive_bytes = 4096

    async def run(self) -> None:
        while True:
            socket = await self.connect()
            socket.send({"type": "command", "id": 1, "command": "topic.subscribe", "params": {"topic": BIG}})
            await asyncio.sleep(20)
            await socket.break_off()
            await self.pause()


class Dawdler(SocketProgram):
    """Follows a collection and reads in gulps, with pauses: it is never cut off."""

    kind = "dawdler"
    receive_bytes = 4096

    async def run(self) -> None:
        socket = await self.connect()
        params = {"collection": self.collection}
        socket.send({"type": "command", "id": 1, "command": "live.subscribe", "params": params})
        while True:
            await asyncio.sleep(self.random.uniform(1, 3))
            await socket.gulp()
            socket.beat()


MIX: Final[dict[type[Program], int]] = {
    Reader: 36, Writer: 40, Patcher: 48, Watcher: 36, Talker: 24, Shouter: 2, Comer: 8, Stuck: 3, Dawdler: 3,
}  # fmt: skip
