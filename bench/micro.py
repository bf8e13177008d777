"""What the inner parts cost in one process: merge, sealing, opening, the replica over a real file, no sockets.

The raw limits beside them do the same bytes through the bare libraries: SQLite rows, deflate, libsodium.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)

from hybridgw_daemon.core.operations import Create, Edit, Request
from hybridgw_daemon.services.replica import Incoming, Keys, Replica, Sealer
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.batch import Batch, parse_batch, verify_batch
from hybridgw_protocol.ids import DeviceId, KeyId, SpaceId, device_id, key_id
from hybridgw_storage.database import InlineDatabase
from hybridgw_storage.migrations import prepare_file

from .bare_sync import CLK, INSERT, SCHEMA, apply_blobs, write_blobs
from .documents import COLLECTION, Pair, documents
from .options import Options
from .processes import Processes
from .report import Figure, timed

TX = 500  # documents per local transaction: some 110 KB, the limit is 192 KiB
FRAME = 16  # batches per received frame


class Device(NamedTuple):
    """A replica with keys of its own over a file of its own."""

    database: InlineDatabase
    replica: Replica
    sealer: Sealer
    public: bytes


def device(folder: Path, space: SpaceId, key: bytes) -> Device:
    """A new one. Args: key: the space key."""
    path = folder / "replica.db"
    prepare_file(path, MIGRATIONS, stamp="bench")
    database = InlineDatabase(path)
    public, secret = crypto_sign_seed_keypair(os.urandom(32))
    exchange = crypto_scalarmult_base(os.urandom(32))
    own = device_id(public, exchange)
    kid = KeyId(key_id(key))
    replica = Replica()
    replica.keys = Keys({kid: key}, {}, frozenset(), lambda _log, _device: None)
    database.write_now(lambda tx: replica.open_log(tx, DeviceId(own), os.urandom(32)))
    return Device(database, replica, Sealer(space, own, secret, kid, key, os.urandom, ()), public)


async def measure(options: Options) -> list[Figure]:
    """Every round from an empty file."""
    pairs = documents(10_000 if options.quick else 50_000)
    edits = [(document, {"done": True, "minutes": 1_000}) for document, _ in pairs]
    random.Random(3).shuffle(edits)
    ours: dict[str, list[float]] = {}
    bare: dict[str, list[float]] = {}
    sizes: list[float] = []
    for _ in range(options.runs):
        with Processes() as processes:
            _round(processes, pairs, edits, ours, sizes)
            _bare_round(processes, pairs, edits, bare)
    count = len(pairs)

    def figure(name: str, key: str, raw_name: str, unit: str = "docs/s", note: str = "", each: int = count) -> Figure:
        raw = [each / s for s in bare[key]] if key in bare else []
        return Figure(name, unit, [each / s for s in ours[key]], raw, raw_name, note=note)

    one = 1_000
    return [
        figure("replica: local creates, 500 in a transaction", "write", "the rows alone, SQLite"),
        figure("replica: local scattered edits, 500 in a transaction", "edit", "read, update, SQLite"),
        figure(
            "sealing", "seal", "deflate, XChaCha20, Ed25519 alone",
            note=f"{sizes[0]:.1f} bytes a document, {count / sizes[1]:.0f} documents a batch",
        ),
        figure("opening: verify, decrypt, inflate, decode", "open", "Ed25519, XChaCha20, inflate alone"),
        figure("replica: received creates", "receive", "inflate, decode, the rows, SQLite"),
        figure("replica: received scattered edits", "receive_edits", "inflate, decode, read, update, SQLite"),
        figure("single-operation batches: sealing", "seal_one", "XChaCha20, Ed25519 alone", "batches/s", each=one),
        figure("single-operation batches: opening", "open_one", "Ed25519, XChaCha20 alone", "batches/s", each=one),
    ]  # fmt: skip


def _round(
    processes: Processes, pairs: Sequence[Pair], edits: Sequence[Pair], ours: dict[str, list[float]],
    sizes: list[float],
) -> None:  # fmt: skip
    space, key = SpaceId(os.urandom(16)), os.urandom(32)
    a, b = device(processes.home(), space, key), device(processes.home(), space, key)
    now_ms = time.time_ns() // 1_000_000

    def note(name: str, seconds: float) -> None:
        ours.setdefault(name, []).append(seconds)

    creates: list[Request] = [Create(COLLECTION, _id(document), dict(data)) for document, data in pairs]
    changes: list[Request] = [Edit(COLLECTION, _id(document), dict(data)) for document, data in edits]
    for name, requests in (("", creates), ("_edits", changes)):
        note("edit" if name else "write", timed(lambda requests=requests: _write(a, requests, now_ms)))  # type: ignore[misc]
        batches: list[Batch] = []
        seconds = timed(lambda: batches.extend(a.database.write_now(lambda tx: a.replica.seal(tx, a.sealer))))  # noqa: B023
        blobs = [batch.blob for batch in batches]
        items: list[Incoming] = []
        opening = timed(lambda: items.extend(_open(b, a.public, blobs)))  # noqa: B023
        if not name:
            note("seal", seconds)
            note("open", opening)
            sizes += [sum(map(len, blobs)) / len(pairs), len(blobs)]
        note(f"receive{name}", timed(lambda: _receive(b, items, now_ms)))  # noqa: B023
    same = [
        [d.database.peek(lambda c: c.execute("SELECT id, cl, body FROM document ORDER BY id").fetchall())]
        for d in (a, b)
    ]
    if same[0] != same[1]:
        raise RuntimeError("the two replicas differ")
    _single(a, b, note, now_ms)


def _write(a: Device, requests: Sequence[Request], now_ms: int) -> None:
    for start in range(0, len(requests), TX):
        part = requests[start : start + TX]
        a.database.write_now(lambda tx, part=part: a.replica.write(tx, part, now_ms))  # type: ignore[misc]


def _open(b: Device, public: bytes, blobs: Sequence[bytes]) -> list[Incoming]:
    items = []
    for blob in blobs:
        batch = parse_batch(blob)
        verify_batch(batch, public)
        body, fault = b.replica.open(batch)
        items.append(Incoming(batch, body, fault))
    return items


def _receive(b: Device, items: Sequence[Incoming], now_ms: int) -> None:
    for start in range(0, len(items), FRAME):
        part = items[start : start + FRAME]
        b.database.write_now(lambda tx, part=part: b.replica.receive(tx, part, now_ms, b.sealer))  # type: ignore[misc]


def _single(a: Device, b: Device, note: Callable[[str, float], None], now_ms: int) -> None:
    """A thousand batches of one operation each. Sealing alone is timed; the commits of it are not."""
    batches: list[Batch] = []
    spent = 0.0

    def one(tx: Any, number: int) -> None:
        nonlocal spent
        a.replica.write(tx, [Create(COLLECTION, f"single-{number}", {"done": True})], now_ms)
        start = time.perf_counter()
        batches.extend(a.replica.seal(tx, a.sealer))
        spent += time.perf_counter() - start

    for number in range(1_000):
        a.database.write_now(lambda tx, number=number: one(tx, number))  # type: ignore[misc]
    note("seal_one", spent)
    note("open_one", timed(lambda: _open(b, a.public, [batch.blob for batch in batches])))


def _bare_round(
    processes: Processes, pairs: Sequence[Pair], edits: Sequence[Pair], bare: dict[str, list[float]]
) -> None:
    def note(name: str, seconds: float) -> None:
        bare.setdefault(name, []).append(seconds)

    for name, content in (("", pairs), ("_edits", edits)):
        source = processes.home() / "source.db"
        write_blobs(source, content)
        reader = sqlite3.connect(source)
        blobs = [blob for (blob,) in reader.execute("SELECT blob FROM batch ORDER BY rid")]
        reader.close()
        if not name:
            target = _open_file(processes.home() / "target.db")
        start = time.perf_counter()
        for k in range(0, len(blobs), FRAME):
            with target:
                target.executemany(
                    "INSERT INTO batch(n, blob) VALUES(?, ?)",
                    [(n + (10**6 if name else 0), blob) for n, blob in enumerate(blobs[k : k + FRAME], k)],
                )
                apply_blobs(target, blobs[k : k + FRAME], k * 1_000)
        note(f"receive{name}", time.perf_counter() - start)
    local = _open_file(processes.home() / "local.db")
    rows = [(_id(document), i, msgspec.json.encode(data).decode(), CLK) for i, (document, data) in enumerate(pairs)]
    note("write", timed(lambda: _bare_insert(local, rows)))
    note("edit", timed(lambda: _bare_edit(local, edits)))
    _bare_crypto(blobs=_blobs_of(processes, pairs), note=note)


def _blobs_of(processes: Processes, pairs: Sequence[Pair]) -> list[bytes]:
    path = processes.home() / "again.db"
    write_blobs(path, pairs)
    reader = sqlite3.connect(path)
    bodies = [zlib.decompress(blob[:-198], -15) for (blob,) in reader.execute("SELECT blob FROM batch ORDER BY rid")]
    reader.close()
    return bodies


def _bare_crypto(blobs: Sequence[bytes], note: Callable[[str, float], None]) -> None:
    key, (public, secret) = os.urandom(32), crypto_sign_seed_keypair(os.urandom(32))

    def seal(body: bytes, deflated: bool) -> tuple[bytes, bytes, bytes]:
        if deflated:
            packer = zlib.compressobj(5, zlib.DEFLATED, -15)
            body = packer.compress(body) + packer.flush()
        nonce = os.urandom(24)
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(body, b"", nonce, key)
        return nonce, sealed, crypto_sign(sealed[-32:], secret)

    def open_(made: tuple[bytes, bytes, bytes], deflated: bool) -> bytes:
        nonce, sealed, signed = made
        crypto_sign_open(signed, public)
        body = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, b"", nonce, key)
        return zlib.decompress(body, -15) if deflated else body

    small = [bytes(256)] * 1_000
    for suffix, bodies, deflated in (("", blobs, True), ("_one", small, False)):
        made: list[tuple[bytes, bytes, bytes]] = []
        start = time.perf_counter()
        made.extend(seal(body, deflated) for body in bodies)
        note(f"seal{suffix}", time.perf_counter() - start)
        start = time.perf_counter()
        for item in made:
            open_(item, deflated)
        note(f"open{suffix}", time.perf_counter() - start)


def _open_file(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _bare_insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    for start in range(0, len(rows), TX):
        with connection:
            connection.executemany(INSERT, rows[start : start + TX])


def _bare_edit(connection: sqlite3.Connection, edits: Sequence[Pair]) -> None:
    for start in range(0, len(edits), TX):
        with connection:
            for document, change in edits[start : start + TX]:
                rid, body = connection.execute(
                    "SELECT rid, body FROM document WHERE cid=1 AND id=?", (_id(document),)
                ).fetchone()
                merged = msgspec.json.encode(msgspec.json.decode(body) | change).decode()
                connection.execute("UPDATE document SET seq=seq+1, body=? WHERE rid=?", (merged, rid))


def _id(document: str) -> bytes:
    return bytes.fromhex(document.replace("-", ""))
