"""A world of replicas alone: the real replica on real database files, batches carried by hand, no connections.

It is to merge and log repair what sim_world.py is to the whole: cheap enough for thousands of histories. Faults: a
process that ends between any two transactions, a disk that fills or fails in the middle of one, clocks that are off,
keys and control records that come late, databases put back from a copy, clones, logs closed and cut.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from nacl.bindings import crypto_sign_seed_keypair

from hybridgw_daemon.core.operations import Create, Delete, Edit, RaiseFloor, Request, decode_pending
from hybridgw_daemon.core.rest import Purpose, RestSealer
from hybridgw_daemon.core.sealing import padded_size
from hybridgw_daemon.core.uuid7 import new_uuid7
from hybridgw_daemon.services.replica import PROVISIONAL, End, Incoming, Keys, Replica, Sealer, Stored
from hybridgw_daemon.stores import documents, meta, oplog
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.batch import EMPTY_HEAD, Batch, Head, parse_batch
from hybridgw_protocol.errors import HybridGWError, LocalError, StateError
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId, device_id, key_id
from hybridgw_storage.database import InlineDatabase, Tx
from hybridgw_storage.migrations import prepare_file
from tests.simulation import sim_checks
from tests.simulation.sim_checks import Ledger, State, demand, ends_of
from tests.simulation.sim_loop import Trace

T = TypeVar("T")

START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
PADDED = frozenset(padded_size(n) for n in range(300_000))
TEXT = "planted words "  # never to be found where nothing may be read


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where the system has one: these files need not survive anything real."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


class Template:
    """An empty, migrated database file, made once and copied."""

    _raw: bytes | None = None
    migrations = MIGRATIONS

    @classmethod
    def write(cls, path: Path) -> None:
        """A new file at *path*."""
        if cls._raw is None:
            with scratch() as folder:
                prepare_file(folder / "template.db", cls.migrations, stamp="template")
                cls._raw = (folder / "template.db").read_bytes()
        path.write_bytes(cls._raw)


class Vault:
    """Seals rows of secret collections."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        self._sealer, self._entropy = RestSealer(key), entropy

    def seal(self, place: bytes, data: bytes) -> bytes:
        return self._sealer.seal(Purpose.SECRET_BODY, (place,), data, self._entropy(24))

    def open(self, place: bytes, data: bytes) -> bytes:
        return self._sealer.open(Purpose.SECRET_BODY, (place,), data)


def open_database(path: Path) -> InlineDatabase:
    """Without threads and syncs; a new file if there is none."""
    if not path.exists():
        Template.write(path)
    return InlineDatabase(path, durable=False)


def watched(base: type[Replica], ledger: Ledger) -> type[Replica]:
    """A replica of which the ledger sees every batch when it is sealed, also one that is void before the commit."""

    class Watched(base):  # type: ignore[misc, valid-type]
        def _seal_body(self, *args: Any) -> Batch:
            batch: Batch = super()._seal_body(*args)
            ledger.see(batch)
            return batch

    return Watched


def random_request(rng: random.Random, collection: str, document: Any, row: Any, token: int) -> Request:
    """What a person may do to a document next. Args: row: as it stands, None if it never was; token: a new number."""
    value: Any = rng.choice((token, f"{TEXT}{token}", [token], 1, {"k": token}))
    if row is None or row[0] % 2 == 0:
        if row is not None and rng.random() < 0.2:
            return Delete(collection, document)
        return Create(collection, document, {"x": value, "y": token}, {"s": [token % 3]})
    kind = rng.random()
    if kind < 0.12:
        return Delete(collection, document)
    if kind < 0.15 and collection == "log":
        return RaiseFloor(collection, rng.choice((START_MS - 2 * DAY_MS, START_MS - 4 * DAY_MS)))
    if kind < 0.4:
        return Edit(collection, document, adds={"s": [rng.randrange(4)]})
    if kind < 0.5:
        return Edit(collection, document, removes={"s": [rng.randrange(4)]})
    return Edit(collection, document, {rng.choice("xyz"): value})


class Machine:
    """One installation of a device: its database, its clock, what it knows of keys and control records."""

    def __init__(self, world: ReplicaWorld, name: str, owner: int) -> None:
        self.world, self.name, self.owner = world, name, owner
        self.rng = random.Random(f"{world.seed} {name}")
        seed = random.Random(f"{world.seed} device {owner}").randbytes(64)
        self.sign_public, self.sign_secret = crypto_sign_seed_keypair(seed[:32])
        self.device = device_id(self.sign_public, seed[32:])
        world.ledger.owner_of[self.device] = owner
        self.vault = Vault(random.Random(f"{world.seed} vault {owner}").randbytes(32), self.rng.randbytes)
        self.path = world.folder / f"{name}.db"
        self.offset_ms = 0
        self.is_honest = True  # false: put out; what it does counts no more
        self.closes: set[tuple[LogId, End]] = set()
        self.expelled: set[DeviceId] = set()  # their logs end where a record closes them, else before they begin
        self.key_ids: list[KeyId] = []  # oldest first
        self.control: list[bytes] = []
        self.has_keys = False
        self.is_locked = False  # the keyring is: nothing can be sealed
        self.authored_rid = 0
        self.database = open_database(self.path)
        self.replica = world.make_replica(self.vault)

    # ---- what it knows
    @property
    def now_ms(self) -> int:
        return self.world.now_ms + self.offset_ms

    def keys(self, logs: dict[LogId, oplog.LogRow] | None = None) -> Keys:
        held = {kid: self.world.ledger.space_keys[kid] for kid in self.key_ids}
        expelled = frozenset(self.expelled)
        counting = {close for close in self.closes if self.world.voided.get(close) not in expelled}
        closed, by_root = ends_of(counting), {log for log, _ in counting & self.world.root_closes}

        def end_of(log: LogId, device: DeviceId) -> End | None:
            """Of a device that was put out only what root closed stays."""
            return End(0, b"", 0) if device in expelled and log not in by_root else closed.get(log)

        owners = {log: row.device for log, row in (logs or self.logs()).items()}
        ends = {log: end for log in owners if (end := end_of(log, owners[log]))}
        return Keys(held, ends, frozenset(self.control), end_of)

    def sealer(self) -> Sealer | None:
        if not self.has_keys or self.is_locked or not self.key_ids:
            return None
        kid = self.key_ids[-1]
        return Sealer(
            self.world.space, self.device, self.sign_secret, kid, self.world.ledger.space_keys[kid], self.rng.randbytes,
            tuple(self.control[-2:]),
        )  # fmt: skip

    # ---- transactions
    def run(self, fn: Callable[[Tx], T]) -> T:
        """One transaction; then what it sealed is noted."""
        result = self.database.write_now(fn)
        with contextlib.suppress(StateError):  # a disk that cannot be read now is looked at later
            self.note_sealed()
        return result

    def note_sealed(self) -> None:
        """I10: everything this database sealed, once it is durable."""
        rows = self.database.peek(
            lambda c: c.execute(
                "SELECT rid, blob FROM batch WHERE authored = 1 AND rid > ? ORDER BY rid", (self.authored_rid,)
            ).fetchall()
        )
        for rid, blob in rows:
            self.authored_rid = rid
            self.world.ledger.signs(parse_batch(blob), self.name)

    def reopen(self) -> None:
        """The process ends and starts again."""
        self.database._connection.close()
        self.database = open_database(self.path)
        self.replica = self.world.make_replica(self.vault)
        self.replica.keys, self.replica.sealer = self.keys(), self.sealer() if self.rng.random() < 0.5 else None
        self.note_sealed()

    def close(self) -> None:
        self.database._connection.close()

    def state(self) -> State:
        return self.database.peek(lambda c: sim_checks.state_of(c, self.vault))

    def logs(self) -> dict[LogId, oplog.LogRow]:
        return self.database.peek(oplog.logs)

    def own_log(self) -> LogId:
        return LogId(self.database.peek(lambda c: meta.get(c, "log", PROVISIONAL)))

    def blobs(self) -> list[bytes]:
        return list(self.database.peek(oplog.all_blobs))

    def evidence(self) -> list[bytes]:
        return self.database.peek(
            lambda c: [b for (b,) in c.execute("SELECT blob FROM evidence ORDER BY log, n, hash")]
        )

    def pending_labels(self) -> int:
        """Labels of writes that are not sealed yet."""
        mask = 0
        for p in self.database.peek(oplog.pending):
            for raw in p.rows:
                if p.secret:
                    raw = self.vault.open(b"pending" + p.n.to_bytes(8, "big"), raw)
                for operation in decode_pending(raw):
                    mask |= 1 << self.world.ledger.label_of(self.owner, operation, self.own_log())
        return mask

    def held(self) -> int:
        return self.pending_labels() | self.database.peek(self.world.ledger.held)

    # ---- what a person and a service do
    def write(self, requests: list[Request]) -> bool:
        """A local transaction. Returns whether it was acknowledged."""
        seen = self.world.ledger.applied(sim_checks.applied_heads_of(self.logs())) | self.pending_labels()
        made: list[Any] = []

        def write(tx: Tx) -> None:
            made.clear()
            state = self.replica._state(tx)
            last = len(state.unkept)
            self.replica.write(tx, requests, self.now_ms)
            for n, secret, raw in state.unkept[last:]:
                if secret:
                    raw = self.vault.open(b"pending" + n.to_bytes(8, "big"), raw)
                made.extend(decode_pending(raw))
            # Before the commit, which may seal them.
            self.world.ledger.tentative(self.owner, made, seen)

        try:
            self.database.write_now(write)
        except HybridGWError:
            self.world.ledger.discard()
            raise
        self.world.ledger.keep()
        self.note_sealed()
        return bool(made)

    def seal(self) -> None:
        sealer = self.sealer()
        if sealer is not None and self.own_log() != PROVISIONAL:
            self.run(lambda tx: self.replica.seal(tx, sealer))

    def receive(self, blobs: list[bytes]) -> Stored:
        """As the sync service does: parse, open what can be opened, keep, apply; prove and repair our own fork."""
        items = []
        for blob in blobs:
            batch = parse_batch(blob)
            body, fault = self.replica.open(batch) if self.rng.random() < 0.7 else (None, None)
            items.append(Incoming(batch, body, fault if fault == "broken" else None))
        stored = self.run(lambda tx: self.replica.receive(tx, items, self.now_ms, self.sealer()))
        if self.own_log() in stored.forks:
            self.world.sometimes("fork of our own log found")
            self.repair_fork()
        return stored

    def repair_fork(self) -> None:
        """There is proof that our own log was continued elsewhere. The others hold what a relay between them would:
        the longest of the branches that are not ours (of a shorter copy, the rest would be void)."""
        log = self.own_log()
        mine = set(self.database.peek(lambda c: oplog.hashes(c, log)))
        heads = [row.stored for m in self.world.honest() if (row := m.logs().get(log)) and row.stored.n]
        tip = max([h for h in heads if (h.n, h.hash) not in mine], default=EMPTY_HEAD)
        end = self.run(
            lambda tx: self.replica.close_for(tx, Head(tip.n, tip.short)) if self.replica.own_forked(tx) else None
        )
        if end is not None and self.sealer() is not None:
            self.world.close_log(log, end, self)
            self.learn(closes={(log, end)})

    def learn(
        self, closes: set[tuple[LogId, End]] | None = None, keys: list[KeyId] | None = None,
        control: list[bytes] | None = None, expelled: set[DeviceId] | None = None,
    ) -> bool:  # fmt: skip
        """Control records came. They are known exactly if the transaction that follows them was committed."""
        before = (self.closes, self.key_ids, self.control, self.expelled)
        own, logs = self.own_log(), self.logs()
        self.expelled = self.expelled | (expelled or set())
        self.closes = self.closes | (closes or set())
        self.key_ids = [k for k in self.world.key_order if k in self.key_ids or k in (keys or [])]
        self.control = self.control + [c for c in control or [] if c not in self.control]
        now_keys, sealer = self.keys(logs), self.sealer()

        def follow(tx: Tx) -> tuple[bool, LogId]:
            self.replica.sealer = sealer
            return self.replica.learn(tx, now_keys, self.now_ms, sealer), self.replica.own_log(tx)

        try:
            rebuilt, now_own = self.run(follow)
        except BaseException:
            self.closes, self.key_ids, self.control, self.expelled = before
            raise
        if now_own != own:
            self.world.sometimes("log repaired")
        if rebuilt:
            self.world.sometimes("rebuilt")
        return rebuilt

    def learn_all(self) -> None:
        """Everything there is to know."""
        world = self.world
        self.learn(set(world.closes), list(world.key_order), list(world.control), set(world.expelled))

    def adopt(self) -> None:
        """The device gets its keys: what was written before becomes part of its first log."""
        pending = bool(self.database.peek(oplog.pending))
        salt = self.rng.randbytes(32)
        self.run(lambda tx: self.replica.open_log(tx, self.device, salt))
        self.has_keys = True
        if pending:
            self.world.sometimes("provisional writes adopted")


class ReplicaWorld:
    """One history. `run` plays and checks it."""

    def __init__(
        self, seed: int, folder: Path, *, replica: type[Replica] = Replica, devices: int | None = None
    ) -> None:
        """Args: devices: so many, all with keys and the right time; else as the seed says."""
        self.seed, self.folder = seed, folder
        self.rng = random.Random(f"world {seed}")
        self.ledger = Ledger()
        self.make_replica = watched(replica, self.ledger)
        self.trace = Trace()
        self.now_ms = START_MS
        self.space = SpaceId(self.rng.randbytes(16))
        self.key_order: list[KeyId] = []
        self.control: list[bytes] = []
        self.closes: set[tuple[LogId, End]] = set()
        self.expelled: set[DeviceId] = set()
        self.root_closes: set[tuple[LogId, End]] = set()
        self.voided: dict[tuple[LogId, End], DeviceId] = {}  # closes that do not count once that device is put out
        self.copies: list[tuple[Machine, dict[str, Any]]] = []
        self.repairs = self.rng.random() < 0.5  # may logs be closed, databases put back and cloned in this history
        self.went_back = False  # a copy was put back: what was open in it may be sealed twice
        self.tokens = 0
        self.machines: list[Machine] = []
        self.new_key()
        self.ids = ["a", "b", new_uuid7(START_MS - 3 * DAY_MS, bytes(10)), new_uuid7(START_MS, bytes(10))]
        for k in range(devices or self.rng.choice((2, 2, 3, 3, 4, 5))):
            machine = Machine(self, f"d{k}", k)
            self.machines.append(machine)
            machine.key_ids = list(self.key_order)
            if devices or self.rng.random() < 0.7:
                machine.adopt()
            machine.replica.keys = machine.keys()
        if not self.machines[0].has_keys:
            self.machines[0].adopt()

    def sometimes(self, what: str) -> None:
        self.ledger.sometimes[what] += 1
        self.log(what)

    def log(self, what: str) -> None:
        self.trace.add(self.now_ms / 1000, "world", what)

    def new_key(self) -> None:
        key = self.rng.randbytes(32)
        self.ledger.space_keys[key_id(key)] = key
        self.key_order.append(key_id(key))

    def close_log(self, log: LogId, end: End, by: Machine) -> None:
        """A record that ends a log. One that a device signs after it was put out, not knowing that, does not count."""
        self.closes.add((log, end))
        if not by.is_honest:
            self.voided[log, end] = by.device

    def honest(self) -> list[Machine]:
        return [m for m in self.machines if m.is_honest]

    # ---- one step -------------------------------------------------------------------------------------------------
    def step(self) -> None:
        rng = self.rng
        self.now_ms += rng.choice((0, 1, 5, 30, 1_000, 600_000))
        machine = rng.choice(self.machines)
        plain: list[tuple[float, Callable[[Machine], None]]] = [
            (34, self.some_write), (10, Machine.seal), (28, self.ship), (5, Machine.reopen), (4, self.learn_some),
            (3, self.broken_write), (3, self.set_clock), (2, self.rotate), (2, self.new_control), (2, self.burst),
            (2, self.lock), (2, self.let_in), (1, self.broken_ship), (2, self.retry),
        ]  # fmt: skip
        if self.repairs:
            plain += [
                (4, self.copy), (3, self.put_back), (2, self.clone), (3, self.expel), (3, self.close_own),
                (5, self.broken_learn),
            ]  # fmt: skip
        action = rng.choices([a for _, a in plain], [w for w, _ in plain])[0]
        if self.closes and rng.random() < 0.08:
            action = self.broken_learn
        name = getattr(action, "__name__", str(action))
        self.trace.add(self.now_ms / 1000, machine.name, name)
        try:
            action(machine)
        except LocalError as error:
            self.trace.add(self.now_ms / 1000, machine.name, f"refused: {error.code}")
        except StateError as error:
            if error.code != "secrets_locked":
                raise
            self.sometimes("locked")

    def some_request(self, machine: Machine) -> Request:
        rng = self.rng
        collection = rng.choice(("tasks", "tasks", "settings", "log"))
        document = rng.choice(self.ids)
        row = self.row_of(machine, collection, document)
        self.tokens += 1
        return random_request(rng, collection, document, row, self.tokens)

    @staticmethod
    def row_of(machine: Machine, collection: str, document: Any) -> Any:
        def read(connection: Any) -> Any:
            where = documents.collection(connection, collection)
            found = documents.get(connection, where, document, machine.vault) if where else None
            return found and found.row

        return machine.database.peek(read)

    def some_write(self, machine: Machine) -> None:
        requests = [self.some_request(machine) for _ in range(self.rng.choice((1, 1, 1, 2, 3)))]
        before = bool(machine.database.peek(documents.count_conflicts))
        machine.write(requests)
        if before and not machine.database.peek(documents.count_conflicts):
            self.sometimes("last conflict resolved")

    def burst(self, machine: Machine) -> None:
        for _ in range(self.rng.randint(2, 8)):
            request = self.some_request(machine)
            if self.rng.random() < 0.2 and isinstance(request, Edit | Create) and request.puts:
                request = type(request)(request.collection, request.id, {"x": TEXT * 3000 + str(self.tokens)})
            with contextlib.suppress(LocalError):
                machine.write([request])
        if len(machine.database.peek(oplog.pending)) > 1:
            self.sometimes("several batches open")

    def ship(self, machine: Machine) -> None:
        source = self.rng.choice(self.machines)
        if source is machine or not machine.has_keys:
            return
        blobs = source.blobs()
        if not blobs:
            return
        if self.rng.random() < 0.3:
            self.rng.shuffle(blobs)
        if self.rng.random() < 0.6:
            blobs = blobs[: self.rng.randint(1, len(blobs))]
        for blob in blobs:
            self.ledger.see(parse_batch(blob))
        stored = machine.receive(blobs)
        if stored.gaps:
            self.sometimes("gap")
        self.count_waiting(machine)

    def count_waiting(self, machine: Machine) -> None:
        for row in machine.logs().values():
            if row.waiting:
                self.sometimes(f"waits for {row.waiting}")
        if machine.database.peek(documents.count_conflicts):
            self.sometimes("conflict")

    def learn_some(self, machine: Machine) -> None:
        rng = self.rng
        closes = {c for c in sorted(self.closes) if rng.random() < 0.7}
        keys = [k for k in self.key_order if rng.random() < 0.7]
        control = [c for c in self.control if rng.random() < 0.7]
        machine.learn(closes, keys, control, {d for d in sorted(self.expelled) if rng.random() < 0.7})

    def rotate(self, machine: Machine) -> None:
        self.new_key()
        machine.learn(keys=[self.key_order[-1]])

    def new_control(self, machine: Machine) -> None:
        self.control.append(self.rng.randbytes(16))
        machine.learn(control=[self.control[-1]])

    def set_clock(self, machine: Machine) -> None:
        machine.offset_ms = self.rng.choice((0, 0, -60_000, 60_000, 3 * 3_600_000, -3 * 3_600_000, 365 * DAY_MS))

    def lock(self, machine: Machine) -> None:
        machine.is_locked = not machine.is_locked
        machine.replica.sealer = machine.sealer()

    def let_in(self, machine: Machine) -> None:
        if not machine.has_keys:
            machine.adopt()

    def retry(self, machine: Machine) -> None:
        machine.run(lambda tx: machine.replica.drain(tx, machine.now_ms, machine.sealer()))

    # ---- a disk that fails
    @contextlib.contextmanager
    def failing_disk(self, machine: Machine) -> Iterator[None]:
        """Writes fail: no page is left, or the disk gives up after some work."""
        connection = machine.database._connection
        if self.rng.random() < 0.5:
            connection.execute("PRAGMA max_page_count = 1")
            what = "disk full"
        else:
            left = [self.rng.randrange(1, 40)]

            def give_up() -> int:
                left[0] -= 1
                return left[0] == 0  # once: what SQLite does next, a rollback, is not disturbed

            connection.set_progress_handler(give_up, 25)
            what = "disk error"
        try:
            yield
        except StateError as error:
            self.sometimes(what)
            self.trace.add(self.now_ms / 1000, machine.name, f"failed: {error.code}")
        except sqlite3.Error as error:
            demand(False, "errors", "an error of sqlite3 came through", error)
        finally:
            connection.set_progress_handler(None, 0)
            connection.execute("PRAGMA max_page_count = 1073741823")
            if connection.in_transaction:  # it was the rollback of a refused write that the disk disturbed
                connection.execute("ROLLBACK")
            machine.note_sealed()
            if self.rng.random() < 0.3:
                machine.reopen()

    def broken_write(self, machine: Machine) -> None:
        request = self.some_request(machine)
        with self.failing_disk(machine):
            machine.write([request])

    def broken_ship(self, machine: Machine) -> None:
        with self.failing_disk(machine):
            self.ship(machine)

    def broken_learn(self, machine: Machine) -> None:
        behind = [m for m in self.machines if m.closes != self.closes]
        machine = self.rng.choice(behind or [machine])
        with self.failing_disk(machine):
            machine.learn_all() if behind else self.learn_some(machine)

    # ---- copies
    def copy(self, machine: Machine) -> dict[str, Any]:
        """A backup of the database and of what went with it."""
        path = self.folder / f"copy{len(self.copies)}.db"
        machine.database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(machine.path, path)
        kept = {k: getattr(machine, k) for k in ("closes", "expelled", "key_ids", "control", "has_keys")}
        self.copies.append((machine, {"path": path, **kept}))
        return self.copies[-1][1]

    def put_back(self, machine: Machine) -> None:
        """An old copy replaces the database. Either that is noticed (a new log), or the whole machine went back."""
        found = [c for m, c in self.copies if m is machine]
        if not found or not machine.is_honest or machine.owner in self.ledger.copied:
            return  # once per owner: of two copies that both go back, one branch can be nobody's
        copy = self.rng.choice(found)
        machine.close()
        self.install(machine, copy)
        self.excuse_what_is_gone()
        self.sometimes("database put back")
        if self.rng.random() < 0.4 and machine.has_keys:
            salt = machine.rng.randbytes(32)  # what the clone guard asks for
            machine.run(lambda tx: machine.replica.switch_log(tx, machine.device, salt, machine.now_ms))
            self.sometimes("put back and noticed")
        else:
            self.ledger.copied.add(machine.owner)

    def excuse_what_is_gone(self) -> None:
        """Only a disk that was put back, or a device that was put out, had it."""
        held = 0
        for machine in self.honest():
            held |= machine.held()
        self.ledger.excused |= self.ledger.wanted() & ~held

    def install(self, machine: Machine, copy: dict[str, Any]) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{machine.path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(copy["path"], machine.path)
        for k in ("closes", "expelled", "key_ids", "control", "has_keys"):
            setattr(machine, k, copy[k])
        machine.authored_rid, self.went_back = 0, True
        machine.database = open_database(machine.path)
        machine.replica = self.make_replica(machine.vault)
        machine.replica.keys = machine.keys()
        machine.note_sealed()

    def clone(self, machine: Machine) -> None:
        """A copy that is started beside the original."""
        found = [c for m, c in self.copies if m is machine]
        if not found or len(self.machines) > 6 or not machine.is_honest or machine.owner in self.ledger.copied:
            return
        twin = Machine(self, f"{machine.name}c{len(self.machines)}", machine.owner)
        twin.close()
        self.install(twin, self.rng.choice(found))
        self.machines.append(twin)
        self.ledger.copied.add(machine.owner)
        self.sometimes("cloned")

    # ---- closing
    def expel(self, machine: Machine) -> None:
        """Somebody puts a device out for good: its logs end where the remover has them, others never began."""
        target = self.rng.choice(self.honest())
        if len({m.owner for m in self.honest()}) < 3 or target.owner == machine.owner or not machine.is_honest:
            return
        if machine.sealer() is None:
            return
        self.sometimes("device put out")
        for m in self.machines:
            if m.owner == target.owner:
                m.is_honest = False
        self.ledger.put_out.add(target.owner)
        closes = set()
        for log, row in machine.logs().items():
            if row.device == target.device:
                closes.add((log, End(row.stored.n, row.stored.hash, row.stored.n)))
        logs = {log for log, _ in closes}
        self.voided |= {close: target.device for close in self.closes - closes if close[0] in logs}
        self.root_closes |= closes
        for log, end in closes:
            self.close_log(log, end, machine)
        self.expelled.add(target.device)
        self.excuse_what_is_gone()
        machine.learn(closes, expelled={target.device})

    def close_own(self, machine: Machine) -> None:
        """After a clock disaster: an author ends its log before what others hold back, and goes on in a new one."""
        row = machine.logs().get(machine.own_log())
        if row is None or machine.sealer() is None or not machine.is_honest:
            return
        n, digest = row.stored.n, row.stored.hash
        bound = (machine.now_ms + 15 * 60_000) << 16
        while n and (self.ledger.batches[digest].stamps[1] or 0) > bound:
            n, digest = n - 1, self.ledger.batches[digest].batch.prev
        if n in (0, row.stored.n):
            return
        self.sometimes("clock disaster repaired")
        end = End(n, digest, n)
        self.close_log(row.log, end, machine)
        machine.learn({(row.log, end)})

    # ---- the whole history ----------------------------------------------------------------------------------------
    def run(self, steps: int) -> None:
        """Play, heal, check. Raises: Violation and whatever the product raises that it should not."""
        for k in range(steps):
            self.step()
            if k % 8 == 0:
                machine = self.rng.choice(self.machines)
                sim_checks.check_replica(self.ledger, machine.state(), self.void())
        self.heal()
        self.check()

    def void(self) -> int:
        """Labels of batches that some close has made void."""
        mask = 0
        if self.closes:
            ends = ends_of(self.closes)
            for known in self.ledger.batches.values():
                end = ends.get(known.batch.log)
                if end is not None and known.batch.n > min(end.n, end.fork):
                    for number in known.labels:
                        mask |= 1 << number
        for machine in self.machines:
            if not machine.is_honest:
                for known in self.ledger.batches.values():
                    if known.batch.device == machine.device:
                        for number in known.labels:
                            mask |= 1 << number
        return mask

    def heal(self) -> None:
        """Faults stop: clocks agree, everybody learns everything and gets every batch; bounded rounds."""
        self.now_ms += 800 * DAY_MS
        for machine in self.machines:
            machine.offset_ms, machine.is_locked = 0, False
            if not machine.has_keys:
                machine.adopt()
        rounds = 0
        while True:
            rounds += 1
            demand(rounds < 12, "I15", "not in step after many rounds", self.lag())
            for machine in self.honest():
                machine.learn_all()
                machine.seal()
            for machine in self.honest():
                for source in self.honest():
                    if source is not machine:
                        machine.receive(source.blobs() + self.beginnings())
                if machine.database.peek(lambda c, m=machine: oplog.evidence(c, m.own_log())):
                    machine.repair_fork()
            if self.is_in_step():
                return

    def beginnings(self) -> list[bytes]:
        """The first batches of logs of those put out, as a relay keeps them: they prove whose log it is, and that
        nothing of it counts; others depend on it."""
        batches = [known.batch for known in self.ledger.batches.values()]
        return [b.blob for b in batches if b.n == 1 and b.device in self.expelled]

    def is_in_step(self) -> bool:
        heads = [
            {log: (row.applied, row.stored) for log, row in m.logs().items() if row.stored.n} for m in self.honest()
        ]
        waiting = any(applied != stored for found in heads for applied, stored in found.values())
        known = all(m.closes == self.closes and m.expelled == self.expelled for m in self.honest())
        pending = any(m.database.peek(oplog.pending) for m in self.honest())
        return known and not waiting and not pending and all(found == heads[0] for found in heads)

    def lag(self) -> list[Any]:
        return [
            (m.name, [(log, r.stored.n, r.applied.n, r.waiting) for log, r in sorted(m.logs().items())])
            for m in self.honest()
        ]

    def check(self) -> None:
        """Everything, on all honest machines."""
        states = {m.name: m.state() for m in self.honest()}
        sim_checks.check_converged(states)
        state = states[self.honest()[0].name]
        sim_checks.check_stamps(self.ledger)
        sim_checks.check_nothing_lost(self.ledger, state)
        found = sim_checks.check_against_oracle(self.ledger, state, exact=not (self.closes or self.went_back))
        self.ledger.sometimes["open conflicts at the end"] += found
        everything = [blob for m in self.honest() for blob in m.blobs()]
        sim_checks.check_sizes(everything, PADDED)
        for machine in self.honest():
            sim_checks.check_replica(self.ledger, machine.state(), self.void())
            machine.receive(everything)  # evidence may be new
            before = machine.database.peek(sim_checks.dump)
            shuffled = list(everything)
            self.rng.shuffle(shuffled)
            machine.receive(shuffled)
            machine.learn_all()
            machine.database.peek(lambda c, before=before: sim_checks.check_unchanged(before, c))
        self.check_replayed(states)
        self.check_rebuilt(states)

    def check_replayed(self, states: dict[str, State]) -> None:
        reader = self.honest()[0]
        path = self.folder / "replayed.db"

        def make(path: Path) -> tuple[InlineDatabase, Vault]:
            return open_database(path), reader.vault

        replayed, database = sim_checks.replayed(
            reader.blobs(), reader.keys(), self.now_ms, self.rng, path, make, self.make_replica
        )
        database._connection.close()
        sim_checks.check_converged({reader.name: states[reader.name], "replayed": replayed})

    def check_rebuilt(self, states: dict[str, State]) -> None:
        machine = self.rng.choice(self.honest())
        machine.reopen()
        machine.run(lambda tx: machine.replica.rebuild(tx, self.now_ms, machine.sealer()))
        sim_checks.check_converged({"before": states[machine.name], "rebuilt": machine.state()})

    def close(self) -> None:
        for machine in self.machines:
            machine.close()


def play(seed: int, *, steps: int = 90, replica: type[Replica] = Replica) -> Ledger:
    """One history from its seed. Raises what is wrong, with the seed and the last events as notes."""
    with scratch() as folder:
        world = ReplicaWorld(seed, folder, replica=replica)
        try:
            world.run(steps)
        except BaseException as error:
            error.add_note(f"seed {seed}, after {world.trace.count} events; the last:")
            error.add_note("\n".join(list(world.trace.tail)[-25:]))
            raise
        finally:
            world.close()
        world.ledger.trace_digest = world.trace.digest()
        return world.ledger
