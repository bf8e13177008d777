"""The process whose power fails, second form: a device's replica as the daemon drives it. Every line is a promise.

Usage: write_replica.py DATABASE FULL|NORMAL SEED STEPS. It says
    wrote K          local write K is done (its operations carry the number in a field "k")
    refused K        local write K was refused, with nothing written
    sealed LOG N H   this batch of ours can be read from the database, so it may have left the machine
    stored LOG N     this batch of another device is kept: what a push_ack would say
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nacl.bindings import crypto_sign_seed_keypair

from hybridgw_daemon.core.operations import Create, Delete, Edit, Request
from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.services.replica import Incoming, Keys, Replica, Sealer
from hybridgw_daemon.services.space import RestVault
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.errors import LocalError
from hybridgw_protocol.ids import SpaceId, device_id, key_id
from hybridgw_storage.database import Database, InlineDatabase, SqliteDatabase
from hybridgw_storage.migrations import prepare_file
from tests.powerloss.write_store import checkpoint, opened, say

START_MS = 1_790_000_000_000
SPACE_KEY = bytes(range(32))
KEYS = Keys({key_id(SPACE_KEY): SPACE_KEY}, {}, frozenset(), lambda _log, _device: None)


class Device:
    """A device with fixed keys, and the replica it works on. number 0 is the one whose power fails."""

    def __init__(self, number: int, rng: random.Random) -> None:
        fixed = random.Random(f"device {number}")
        self.rng = rng
        self.sign_public, self.sign_secret = crypto_sign_seed_keypair(fixed.randbytes(32))
        self.device = device_id(self.sign_public, fixed.randbytes(32))
        self.sealer = Sealer(
            SpaceId(bytes(16)), self.device, self.sign_secret, key_id(SPACE_KEY), SPACE_KEY, rng.randbytes
        )
        self.replica = self.fresh()

    def fresh(self) -> Replica:
        """The replica of a program that just started."""
        self.replica = Replica(RestVault(RestSealer(bytes(32)), self.rng.randbytes))
        self.replica.keys = KEYS
        return self.replica


class Story:
    """What the device does: writes of several clients, seals, batches from elsewhere, checkpoints, restarts."""

    def __init__(self, path: Path, synchronous: str, seed: int) -> None:
        self.path, self.synchronous = path, synchronous
        self.rng = random.Random(seed)
        self.me = Device(0, random.Random(f"me {seed}"))
        self.db: SqliteDatabase = opened(path, synchronous)
        self.now_ms = START_MS
        self.k = 0
        self.alive: set[tuple[str, str]] = set()
        self.told_rid = 0

    def requests(self, k: int) -> Sequence[Request]:
        """The k-th local write. One operation of it always carries its number."""
        collection = "settings" if self.rng.random() < 0.15 else "tasks"
        place = (collection, f"d{self.rng.randrange(12)}")
        text = self.rng.randbytes(self.rng.randrange(4, 900)).hex()
        if place not in self.alive and self.rng.random() < 0.95:  # else it will be refused
            self.alive.add(place)
            return [Create(*place, {"k": k, "text": text})]
        if self.rng.random() < 0.15 and place in self.alive:
            self.alive.discard(place)
            return [Delete(*place), Edit(collection, "journal", {"k": k})]
        if self.rng.random() < 0.2:
            return [Edit(*place, {"k": k}, adds={"tags": [k % 7]}), Edit(collection, "journal", {"last": k})]
        return [Edit(*place, {"k": k, f"f{self.rng.randrange(3)}": text})]

    async def write(self, k: int, requests: Sequence[Request]) -> None:
        """One client."""
        try:
            await self.db.write(lambda tx: self.me.replica.write(tx, requests, self.now_ms))
        except LocalError:
            say(f"refused {k}")
        else:
            say(f"wrote {k}")

    async def writes(self) -> None:
        """Some clients at once."""
        asked = []
        for _ in range(self.rng.choice((1, 1, 2, 6))):
            asked.append(self.write(self.k, self.requests(self.k)))
            self.k += 1
        await asyncio.gather(*asked)

    async def seal(self) -> None:
        """What the sync service does when the window is over."""
        await self.db.write(lambda tx: self.me.replica.seal(tx, self.me.sealer))

    async def receive(self, batches: Sequence[Incoming]) -> None:
        """Batches of another device; some come twice."""
        await self.db.write(lambda tx: self.me.replica.receive(tx, batches, self.now_ms, self.me.sealer))
        for item in batches:
            say(f"stored {item.batch.log} {item.batch.n}")

    def tell_sealed(self) -> None:
        """What can be read can be sent."""

        def fresh(connection: sqlite3.Connection) -> list[tuple[int, int, int, bytes]]:
            sql = "SELECT rid, log, n, hash FROM batch WHERE authored = 1 AND rid > ? ORDER BY rid"
            return connection.execute(sql, (self.told_rid,)).fetchall()

        for rid, log, n, digest in self.db.peek(fresh):
            say(f"sealed {log} {n} {digest.hex()}")
            self.told_rid = rid

    async def restart(self) -> None:
        """A clean stop and a new start."""
        await self.db.close()
        self.db = opened(self.path, self.synchronous)
        self.me.fresh()

    async def run(self, steps: int, foreign: list[Incoming]) -> None:
        """All of it."""
        await self.db.write(lambda tx: self.me.replica.open_log(tx, self.me.device, self.me.rng.randbytes(32)))
        for collection in ("tasks", "settings"):
            await self.db.write(
                lambda tx, c=collection: self.me.replica.write(tx, [Create(c, "journal", {})], self.now_ms)  # type: ignore[misc]
            )
        taken = 0
        for _ in range(steps):
            self.now_ms += self.rng.choice((1, 5, 30))
            self.me.replica.sealer = self.me.sealer if self.rng.random() < 0.5 else None
            match self.rng.randrange(12):
                case 0 | 1:
                    await asyncio.gather(self.writes(), self.seal())
                case 2:
                    await self.seal()
                case 3 | 4:
                    upto = min(len(foreign), taken + self.rng.randrange(1, 4))
                    await asyncio.gather(self.writes(), self.receive(foreign[max(0, taken - 1) : upto]))
                    taken = upto
                case 5:
                    mode = self.rng.choice(("PASSIVE", "TRUNCATE"))
                    with contextlib.suppress(sqlite3.OperationalError):  # the writer holds it: later
                        await asyncio.gather(self.writes(), asyncio.to_thread(checkpoint, self.path, mode))
                case 6 if self.rng.random() < 0.4:
                    await self.restart()
                case _:
                    await self.writes()
            self.tell_sealed()
        await self.db.close()


async def make_foreign(folder: Path, seed: int) -> list[Incoming]:
    """Batches of another device that writes the same documents, not seeing ours: conflicts."""
    rng = random.Random(f"foreign {seed}")
    other = Device(1, rng)
    path = folder / "other.db"
    prepare_file(path, MIGRATIONS, stamp="s")
    db: Database = InlineDatabase(path, durable=False)
    await db.write(lambda tx: other.replica.open_log(tx, other.device, rng.randbytes(32)))
    found: list[Incoming] = []
    for i in range(40):
        make = Create if i < 10 else Edit
        requests = [make("tasks", f"d{i % 10}", {"from": "other", "i": i, "text": rng.randbytes(200).hex()})]
        await db.write(lambda tx, r=requests, i=i: other.replica.write(tx, r, START_MS + i))  # type: ignore[misc]
        batches = await db.write(lambda tx: other.replica.seal(tx, other.sealer))
        found += [Incoming(batch, *other.replica.open(batch)) for batch in batches]
    await db.close()
    return found


async def main(path: Path, synchronous: str, seed: int, steps: int) -> None:
    """The run."""
    prepare_file(path, MIGRATIONS, stamp="s")
    with tempfile.TemporaryDirectory() as elsewhere:
        foreign = await make_foreign(Path(elsewhere), seed)
    await Story(path, synchronous, seed).run(steps, foreign)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
