"""Golden histories of logs: which batches are applied, what they had seen, and the documents that this leads to."""

from __future__ import annotations

import functools
import itertools
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from nacl.bindings import crypto_sign_seed_keypair

from hybridgw_daemon.core.body import encode_body
from hybridgw_daemon.core.conflicts import conflicts
from hybridgw_daemon.core.document_state import digest
from hybridgw_daemon.core.operations import CREATE, EDIT, Operation, SetChange
from hybridgw_daemon.core.owners import encode_owners
from hybridgw_daemon.core.sealing import seal_batch
from hybridgw_daemon.services.replica import NO_KEYS, End, Incoming, Keys, Replica
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.batch import EMPTY_HEAD, Batch, Head
from hybridgw_protocol.ids import LogId, SpaceId, blake2b, device_id, key_id, log_id
from hybridgw_protocol.limits import CLOCK_BOUND_MS
from hybridgw_storage.database import InlineDatabase, Tx
from hybridgw_storage.migrations import prepare_file

NOW_MS: Final = 1_800_000_000_000
STAMP: Final = (NOW_MS - 3_600_000) << 16
SPACE: Final = SpaceId(bytes(range(128, 144)))
SPACE_KEY: Final = bytes(range(32))
OTHER_KEY: Final = bytes(range(1, 33))
KNOWN: Final = bytes(range(16))  # the start of the hash of a control record that is here
DOCUMENTS: Final = ("d", "e")
SHUFFLES: Final = 6

Deps = Mapping["_Author", Head]


class _Author:
    """A device and its log. Authors are told apart by their number."""

    def __init__(self, number: int) -> None:
        self.name = "abc"[number]
        seed = bytes([number + 1]) * 32
        self.sign_public, self.sign_secret = crypto_sign_seed_keypair(seed)
        self.exchange_public = bytes([number + 101]) * 32
        self.salt = bytes([number + 201]) * 32
        self.device = device_id(self.sign_public, self.exchange_public)
        self.log = log_id(self.device, self.salt)

    def seal(self, before: Batch | None, body: bytes, *, key: bytes = SPACE_KEY, named: bytes = SPACE_KEY) -> Batch:
        """The next batch. Args: named: the key that its header names."""
        n, prev = (before.n + 1, before.hash) if before else (1, self.salt)
        return seal_batch(
            body, space_key=key, kid=key_id(named), sign_secret=self.sign_secret, space=SPACE, device=self.device,
            log=self.log, n=n, prev=prev, nonce=blake2b(body + prev, 24, "vectors"),
        )  # fmt: skip

    def write(
        self, before: Batch | None, *operations: Operation, deps: Deps | None = None, control: list[bytes] | None = None
    ) -> Batch:
        """The next batch, of these. Args: deps: those that differ from the batch before."""
        heads = {author.log: head for author, head in (deps or {}).items()}
        return self.seal(before, encode_body(operations, heads, control))


A, B, C = (_Author(number) for number in range(3))


class _Case(NamedTuple):
    """closes: log, tip and fork of each; batches: those that come, in an order in which some come too early."""

    name: str
    batches: Sequence[Batch]
    closes: Sequence[tuple[LogId, End]] = ()


@functools.cache  # pure, and slow: databases are written
def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    return {
        "about": 'Histories of logs; protocol/SPEC.md, "Logs". Batches may come in any order; one that comes before '
        "the batch that it follows in its log comes again. `closes` are what counts of them: log, n, hash, fork; they "
        "may be known before the batches or after. `control`: heads of control records that are here. `applied` is how "
        "far each log is applied then, `documents` what came of it. A log id is decimal text and signed.",
        "now_ms": NOW_MS,
        "space": SPACE,
        "space_key": SPACE_KEY,
        "control": [KNOWN],
        "devices": [
            {
                "name": author.name,
                "sign_public": author.sign_public,
                "device": author.device,
                "salt": author.salt,
                "log": str(author.log),
            }
            for author in (A, B, C)
        ],
        "cases": [_told(case) for case in _cases()],
    }


# ---- the histories -----------------------------------------------------------------------------------------------
def _put(stamp: int, value: object, field: str = "f", document: str = "d") -> Operation:
    return Operation(EDIT, "tasks", document, 1, STAMP + stamp, {field: value})


def _create(stamp: int, value: object, document: str = "d") -> Operation:
    return Operation(CREATE, "tasks", document, 1, STAMP + stamp, {"f": value}, (SetChange("s", ("x",), ()),))


def _head(batch: Batch) -> Head:
    return Head(batch.n, batch.hash)


def _cases() -> list[_Case]:
    a1 = A.write(None, _create(1, "a1"))
    a2 = A.write(a1, _put(2, "a2"))
    a3 = A.write(a2, _put(3, "a3"))
    after_a1, after_a2, after_a3 = ({A: _head(batch)} for batch in (a1, a2, a3))
    b1 = B.write(None, _put(9, "b1"), deps=after_a1)
    beat = B.write(None, deps=after_a1)
    far = (NOW_MS + CLOCK_BOUND_MS + 1 << 16) - STAMP
    return [
        _Case("what was seen goes, what was not stays", [C.write(None, _put(8, "c1"), deps=after_a1), b1, a1]),
        _Case("of its own log a device has seen all before", [a3, a1, a2]),
        _Case("dependencies stay until they change", [B.write(beat, _put(9, "b2")), beat, a1]),
        _Case(
            "dependencies are not inherited from other logs",
            [a1, B.write(None, _put(9, "b1", "g"), deps=after_a1),
             C.write(None, _put(10, "c1"), deps={B: _head(B.write(None, _put(9, "b1", "g"), deps=after_a1))})],
        ),
        _Case("a dependency that ends", [a1, beat, B.write(beat, _put(9, "b2"), deps={A: EMPTY_HEAD})]),
        _Case("what depends on nothing that is here waits, and what follows it", [
            a1, B.write(None, _put(9, "b1"), deps=after_a2),
            B.write(B.write(None, _put(9, "b1"), deps=after_a2), _put(10, "b2"))]),
        _Case("what depends on another batch of that number waits", [
            a1, B.write(None, _put(9, "b1"), deps={A: Head(1, b"\1" * 32)})]),
        _Case("control records that are here, and one that is not", [
            A.write(None, _create(1, "a1"), control=[KNOWN]),
            B.write(None, _create(2, "b1", "e"), control=[KNOWN, bytes(16)])]),
        _Case("a stamp at the bound, and one beyond it", [
            A.write(None, _create(far - 1, "a1")), B.write(None, _create(far, "b1", "e"))]),
        _Case("stamps that do not rise from batch to batch end a log", [
            a1, a2, A.write(a2, _put(2, "a3")), A.write(A.write(a2, _put(2, "a3")), _put(9, "a4"))]),
        _Case("a batch without operations has no stamps", [
            a1, A.write(a1), A.write(A.write(a1), _put(2, "a3"))]),
        _Case("a malformed body ends a log", [a1, A.seal(a1, b"\x90"), A.write(A.seal(a1, b"\x90"), _put(2, "a3"))]),
        _Case("a batch that does not open ends a log", [
            a1, A.seal(a1, encode_body([_put(2, "a2")]), key=OTHER_KEY)]),
        _Case("what is sealed under a key that is not here waits", [
            a1, A.seal(a1, encode_body([_put(2, "a2")]), key=OTHER_KEY, named=OTHER_KEY)]),
        _Case("an owner has no effect on documents", [
            a1, A.seal(a1, encode_owners([B.device + B.salt], STAMP + 2, {}, None)),
            A.write(A.seal(a1, encode_owners([B.device + B.salt], STAMP + 2, {}, None)), _put(3, "a3"))]),
        *_closed(a1, a2, a3, after_a1, after_a2, after_a3),
    ]  # fmt: skip


def _closed(a1: Batch, a2: Batch, a3: Batch, after_a1: Deps, after_a2: Deps, after_a3: Deps) -> list[_Case]:
    """Ends of A's log."""

    def ends(n: int, batch: Batch | None, fork: int) -> tuple[LogId, End]:
        return A.log, End(n, batch.hash if batch else bytes(32), fork)

    other = A.write(a1, _put(4, "other a2"))
    b_after_a3 = B.write(None, _put(9, "b1"), deps=after_a3)
    b_after_a2 = B.write(None, _put(9, "b1"), deps=after_a2)
    b_creates = B.write(None, _create(9, "b1"), deps=after_a1)
    return [
        _Case("closed: what is beyond the tip is void", [a1, a2, a3], [ends(2, a2, 2)]),
        _Case("closed: who had seen beyond the tip has seen up to it", [a1, a2, a3, b_after_a3], [ends(2, a2, 2)]),
        _Case("closed at 0: nothing was seen of it", [a1, b_creates], [ends(0, None, 0)]),
        _Case("closed at 0, and no batch of it ever comes", [b_creates], [ends(0, None, 0)]),
        _Case("forked: the branch of the tip counts", [a1, a2, other], [ends(2, other, 1)]),
        _Case("forked: who had seen the other branch has seen up to the fork", [a1, a2, other, b_after_a2],
              [ends(2, other, 1)]),
        _Case("forked: who had seen the branch of the tip has seen that",
              [a1, a2, other, B.write(None, _put(9, "b1"), deps={A: _head(other)})], [ends(2, other, 1)]),
        _Case("forked, and the tip has not come: what is above the fork waits, and what depends on it",
              [a1, a2, b_after_a2], [ends(3, a3, 1)]),
        _Case("forked, and the tip has not come: what is below the fork counts",
              [a1, a2, B.write(None, _put(9, "b1"), deps=after_a1)], [ends(3, a3, 1)]),
        _Case("forked, and the tip has not come: what is beyond the tip counts up to the fork",
              [a1, a2, b_after_a3], [ends(2, other, 1)]),
        _Case("of two ends the lesser, with the lesser fork point", [a1, a2, a3], [ends(3, a3, 1), ends(2, a2, 2)]),
    ]  # fmt: skip


# ---- what comes of them --------------------------------------------------------------------------------------------
class _Run:
    """A replica of its own, in a file of its own."""

    def __init__(self, template: bytes, path: Path, case: _Case) -> None:
        path.write_bytes(template)
        self.database, self.replica, self.case = InlineDatabase(path, durable=False), Replica(), case
        self.path = path

    def keys(self, *, closed: bool) -> Keys:
        ends: dict[LogId, End] = {}
        for log, end in self.case.closes if closed else ():
            before = ends.get(log, end)
            ends[log] = min(before, end)._replace(fork=min(before.fork, end.fork))
        return NO_KEYS._replace(
            space_keys={key_id(SPACE_KEY): SPACE_KEY}, ends=ends, control=frozenset([KNOWN]),
            end_of=lambda log, _device: ends.get(log),
        )  # fmt: skip

    def learn(self, *, closed: bool) -> None:
        self.database.write_now(lambda tx: self.replica.learn(tx, self.keys(closed=closed), NOW_MS, None))

    def receive(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self.database.write_now(lambda tx, b=batch: self.replica.receive(tx, [Incoming(b)], NOW_MS, None))

    def outcome(self) -> dict[str, Any]:
        def look(tx: Tx) -> dict[str, Any]:
            logs = self.replica._state(tx).logs
            rows = {d: row for d in DOCUMENTS if (row := self.replica.current(tx, "tasks", d)) is not None}
            return {
                "applied": [[str(log), row.applied.n] for log, row in sorted(logs.items()) if row.applied.n],
                "documents": [
                    {
                        "document": document,
                        "shown": msgspec.json.decode(row[1] or b"null"),
                        "conflicts": [conflict.value for conflict in conflicts(row)],
                    }
                    for document, row in rows.items()
                ],
                "digest": digest([("tasks", document, row) for document, row in rows.items()]),
            }

        return self.database.write_now(look)


def _told(case: _Case) -> dict[str, Any]:
    """The outcome, which is the same in whatever order all that is known comes."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_file(Path(folder) / "template.db", MIGRATIONS, stamp="vectors")
        template = (Path(folder) / "template.db").read_bytes()
        rng, outcomes = random.Random(case.name), []
        for number, is_first in itertools.product(range(SHUFFLES), (True, False)):
            order = list(case.batches) if number == 0 else rng.sample(case.batches, len(case.batches))
            run = _Run(template, Path(folder) / f"{number}{is_first}.db", case)
            run.learn(closed=is_first)
            for _ in order:  # what came too early comes again
                run.receive(order)
            run.learn(closed=True)
            for _ in order:
                run.receive(order)
            outcomes.append(run.outcome())
    if any(outcome != outcomes[0] for outcome in outcomes):
        raise AssertionError(f"{case.name}: the outcome depends on the order: {outcomes}")
    return {
        "name": case.name,
        "closes": [[str(log), end.n, end.hash, end.fork] for log, end in case.closes],
        "batches": [batch.blob for batch in case.batches],
        **outcomes[0],
    }
