"""The golden bytes of protocol/vectors, read by readers that share no code with ours; what both say of odd bytes."""

from __future__ import annotations

import ast
import json
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_sign, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

from hybridgw_daemon.core.body import decode_body, decode_body_exactly
from hybridgw_daemon.core.operations import DELETE, FLOOR
from hybridgw_protocol.errors import HybridGWError
from hybridgw_protocol.frames import decode_frame
from hybridgw_protocol.ids import LogId, format_document_id
from hybridgw_protocol.vectors import from_entries
from tests.architecture import _reader as reader
from tests.architecture import (
    _reader_control_log,
    _reader_frames,
    _reader_local_frames,
    _reader_logs,
    _reader_messages,
    _reader_operations,
    _reader_pairing,
    _reader_people,
    _reader_recovery,
    _reader_sealing,
)
from tests.architecture._tree import ROOT, syntax

VECTORS = ROOT / "protocol" / "vectors"
# A file of golden bytes -> what checks all of it. A file without one fails `test_every_file_is_read`.
READERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "control_log": _reader_control_log.check,
    "frames": _reader_frames.check,
    "local_frames": _reader_local_frames.check,
    "logs": _reader_logs.check,
    "messages": _reader_messages.check,
    "operations": _reader_operations.check,
    "pairing": _reader_pairing.check,
    "people": _reader_people.check,
    "recovery": _reader_recovery.check,
    "sealing": _reader_sealing.check,
}
OWN_PARTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *Path(__file__).parent.glob("_reader*.py"),
        ROOT / "tests/models/membership_model.py",
        *(ROOT / "tests/e2e").glob("second_*.py"),
    )
)
OWN_MODULES = ("tests.architecture._reader", "tests.e2e.second_")
FOREIGN = {"nacl", "websockets", *sys.stdlib_module_names}


def golden(name: str) -> dict[str, Any]:
    """A file of golden bytes, anew."""
    content = json.loads((VECTORS / f"{name}.json").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("path", OWN_PARTS)
def test_the_readers_share_no_code_with_ours(path: str) -> None:
    """Standard library, libsodium, and each other; so do the model that a reader asks, and what is made of them."""
    for node in ast.walk(syntax(ROOT / path)):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= FOREIGN
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            module, names = str(node.module), [alias.name for alias in node.names]
            beside = {"tests.architecture": "_reader", "tests.models": "membership_model"}.get(module)
            is_beside = beside is not None and all(name.startswith(beside) for name in names)
            assert is_beside or module.startswith(OWN_MODULES) or module.split(".")[0] in FOREIGN, f"{path}: {module}"


def test_every_file_is_read() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == READERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_golden_bytes_are_what_the_page_says(name: str) -> None:
    READERS[name](golden(name))


def leaves(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the values stand that are no dict or list."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(value, (*path, key))
    else:
        yield path


@pytest.mark.parametrize("name", READERS)
def test_a_changed_value_is_told(name: str) -> None:
    """Values of accepted cases that hold bytes, hashes or keys, one digit changed: none goes unseen."""
    told, rng = 0, random.Random(7)
    content = golden(name)
    digits = [path for path in leaves(content) if is_binary(path, at(content, path))]
    for path in rng.sample(digits, min(40, len(digits))):
        old, parent = at(content, path), at(content, path[:-1])
        place = rng.randrange(len(old))
        parent[path[-1]] = f"{old[:place]}{int(old[place], 16) ^ 1:x}{old[place + 1 :]}"
        try:
            READERS[name](content)
        except (AssertionError, reader.Refused, ArithmeticError, LookupError, TypeError, CryptoError):
            parent[path[-1]] = old
            told += 1
        else:
            pytest.fail(f"{path} may be anything")
    assert told >= 30


def at(content: Any, path: tuple[str | int, ...]) -> Any:
    """The value at a path."""
    for key in path:
        content = content[key]
    return content


def is_binary(path: tuple[str | int, ...], value: object) -> bool:
    """Long hex in an accepted case. Left out: what stands for itself (prevs beside the record they are in), short
    frames, where another digit may name a key that is not known, stamps of which just the side of a bound is told, and
    tips that nobody holds."""
    names = set(path)
    if names & {"refused", "refused_auth", "twice", "void", "prevs", "ends", "closes", "document", "parked"} or (
        names & {"merge"} and "digest" not in names
    ):
        return False
    least = 64 if path[-1] == "bytes" else 16
    return isinstance(value, str) and len(value) >= least and set(value) <= set("0123456789abcdef")


# ---- both readers on bytes that nobody wrote -------------------------------------------------------------------------
NASTY = bytes.fromhex("007f80819091a0a1c0c1c2c3c4cacbcccdcfd0d3d4d9dcdee0ff")


def mutated(rng: random.Random, data: bytes) -> bytes:
    """One to three bytes changed, dropped, put in, or a piece repeated."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0:
                changed[place : place + 1] = bytes([rng.choice(NASTY)])
            case 1:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 2:
                del changed[place : place + 1]
            case 3:
                changed.insert(place, rng.randrange(256))
            case _:
                start = rng.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + rng.randrange(1, 12)]
    return bytes(changed)


def our_frame(data: bytes) -> tuple[str, int] | None:
    try:
        frame, request = decode_frame(data)
        if (entries := getattr(frame, "vv", None)) is not None:
            from_entries(entries)
    except HybridGWError:
        return None
    return frame.type.name.lower(), request


def their_frame(data: bytes) -> tuple[str, int] | None:
    try:
        return _reader_frames.read_frame(data)[:2]
    except reader.Refused:
        return None


def test_both_say_the_same_of_mutated_frames(scale: int) -> None:
    rng, cases = random.Random(11), golden("frames")
    seeds = [bytes.fromhex(case["bytes"]) for kind in ("cases", "refused") for case in cases[kind]]
    seeds = [data for data in seeds if len(data) < 2_000]
    taken = 0
    for _ in range(6_000 * scale):
        data = mutated(rng, rng.choice(seeds))
        ours = our_frame(data)
        assert ours == their_frame(data), data.hex()
        taken += ours is not None
    assert taken > 300


def our_body(data: bytes, decode: Callable[..., Any]) -> object:
    try:
        body = decode(data, LogId(7))
    except HybridGWError:
        return None
    operations = []
    for made in body.operations:
        told: dict[str, object] = {"kind": made.kind, "stamp": str(made.stamp), "collection": made.collection}
        if made.kind == FLOOR:
            operations.append(told | {"floor_ms": made.floor_ms})
            continue
        told |= {"document": format_document_id(made.id), "generation": made.cl}
        sets = [[change.field, list(change.adds), list(change.removes)] for change in made.sets]
        operations.append(told if made.kind == DELETE else told | {"puts": made.puts, "sets": sets})
    return {
        "operations": _reader_operations.canonical(operations),
        "void": body.void,
        "unknown": [(kept.index, kept.kind, kept.stamp, bytes(kept.raw)) for kept in body.unknown],
        "last": body.last_stamp,
        "deps": sorted((log, head.n) for log, head in body.deps.items()),
        "control": None if body.control is None else list(body.control),
    }


def their_body(data: bytes) -> object:
    try:
        body = _reader_operations.read_body(data, 7)
    except reader.Refused:
        return None
    return {
        "operations": _reader_operations.canonical([_reader_operations.told(made) for made in body.operations]),
        "void": body.void,
        "unknown": body.unknown,
        "last": body.stamps[-1] if body.stamps else None,
        "deps": sorted((log, n) for log, (n, _) in body.deps.items()),
        "control": body.control,
    }


def test_both_say_the_same_of_mutated_bodies(scale: int) -> None:
    """Malformed, void or kept: the outcome depends on the bytes only, whichever of our two ways reads them."""
    rng, cases = random.Random(13), golden("operations")["bodies"]
    seeds = [bytes.fromhex(case["bytes"]) for kind in ("cases", "void", "refused") for case in cases[kind]]
    seeds = [data for data in seeds if len(data) < 1_000]
    taken = 0
    for _ in range(6_000 * scale):
        data = mutated(rng, rng.choice(seeds))
        theirs = their_body(data)
        assert our_body(data, decode_body) == theirs, data.hex()
        assert our_body(data, decode_body_exactly) == theirs, data.hex()
        taken += theirs is not None
    assert taken > 300


# ---- the reader itself, on bytes worked out by hand from the msgpack page -------------------------------------------
@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("c0", None), ("c2", False), ("c3", True), ("00", 0), ("7f", 127), ("cc80", 128), ("ccff", 255),
        ("cd0100", 256), ("ce00010000", 65536), ("cf0000000100000000", 2**32), ("cf001fffffffffffff", 2**53 - 1),
        ("ff", -1), ("e0", -32), ("d0df", -33), ("d080", -128), ("d1ff7f", -129), ("d2ffff7fff", -32769),
        ("d3ffffffff7fffffff", -(2**31) - 1), ("cb3ff8000000000000", 1.5), ("a0", ""), ("a3616263", "abc"),
        ("d920" + "61" * 32, "a" * 32), ("da0100" + "61" * 256, "a" * 256), ("90", []), ("93010203", [1, 2, 3]),
        ("dc0010" + "00" * 16, [0] * 16), ("80", {}), ("82a16101a16202", {"a": 1, "b": 2}),
        ("83a0c0a17ac0a2c3a9c0", {"": None, "z": None, "é": None}),
    ],
)  # fmt: skip
def test_canonical_values(raw: str, value: object) -> None:
    found = reader.read(bytes.fromhex(raw), canonical=True, binary=False)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "bytes wanted"), ("0000", "after the value"), ("c1", "begins no value"), ("c7010000", "begins no value"),
        ("cc7f", "shorter"), ("cd00ff", "shorter"), ("d0e0", "shorter"), ("d001", "shorter"),
        ("cf0020000000000000", "53 bits"), ("d3ffe0000000000000", "53 bits"), ("ca3fc00000", "64 bits"),
        ("cb3ff0000000000000", "canonical float"),
        ("cb8000000000000000", "canonical float"), ("cb7ff8000000000000", "canonical float"),
        ("cb7ff0000000000000", "canonical float"), ("d90161", "shorter"), ("a1ff", "UTF-8"), ("a3eda080", "UTF-8"),
        ("c40100", "value domain"), ("dd7fffffff", "longer than the bytes"), ("df7fffffff", "longer than the bytes"),
        ("82a16201a16102", "in order"), ("82a16101a16102", "none twice"), ("810102", "keys are text"),
        ("91" * 33 + "00", "too deep"),
    ],
)  # fmt: skip
def test_refused_values(raw: str, why: str) -> None:
    with pytest.raises(reader.Refused, match=why):
        reader.read(bytes.fromhex(raw), canonical=True, binary=False)


def test_depth_of_32_is_read() -> None:
    assert reader.read(bytes.fromhex("91" * 32 + "00"), canonical=True, binary=False)


SPACE_KEY, SEED = bytes(range(32)), bytes(range(32, 64))
SIGN_PUBLIC, SIGN_SECRET = crypto_sign_seed_keypair(SEED)


def sealed(body: bytes, *, flags: int = 0, pad: int | None = None) -> bytes:
    """A first batch, put together by hand from the table of the page."""
    device, salt, nonce = bytes(16), b"\x07" * 32, b"\x09" * 24
    log = reader.blake(device + salt, 8, "hgw-log")
    header = struct.pack(
        ">BB16s16s8sQ8s32s24s", 1, flags, b"s" * 16, device, log, 1, reader.blake(SPACE_KEY, 8, "hgw-kid"), salt, nonce
    )
    size = pad or max(256, reader.padme(len(body) + 4))
    plain = struct.pack(">I", len(body)) + body + bytes(size - 4 - len(body))
    key = reader.blake(log, 32, "hgw-batch-key", key=SPACE_KEY)
    unsigned = header + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, header, nonce, key)
    return unsigned + crypto_sign(reader.blake(unsigned, 32, "hgw-batch1"), SIGN_SECRET)[:64]


def deflated(body: bytes) -> bytes:
    """Raw deflate, level 1."""
    squeeze = zlib.compressobj(1, wbits=-15)
    return squeeze.compress(body) + squeeze.flush()


def test_a_batch_is_opened() -> None:
    blob = sealed(bytes.fromhex("81a16401"))
    assert len(blob) == 450
    assert reader.read_header(blob).n == 1
    reader.check_signature(blob, SIGN_PUBLIC)
    assert reader.open_batch(blob, SPACE_KEY) == {"d": 1}
    assert reader.open_batch(sealed(deflated(b"\x81\xa1d\x01"), flags=1), SPACE_KEY) == {"d": 1}


@pytest.mark.parametrize("at", [*range(114), 114, 200, 369, 385])
def test_a_changed_byte_is_refused(at: int) -> None:
    """Header, ciphertext, tag: whatever is changed, neither the signature nor the key accepts it."""
    blob = bytearray(sealed(b"\x80"))
    blob[at] ^= 1
    with pytest.raises(reader.Refused):
        reader.check_signature(bytes(blob), SIGN_PUBLIC)
    with pytest.raises(reader.Refused):
        reader.open_batch(bytes(blob), SPACE_KEY)


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (sealed(b"\x80")[:449], "no batch"),
        (sealed(b"\x80", pad=300), "padding"),
        (sealed(b"\x80\x00"), "after the value"),
        (sealed(deflated(bytes(2 * 1024 * 1024)), flags=1), "bomb"),
        (sealed(b"\xff\xff\xff", flags=1), "deflate"),
    ],
)
def test_refused_batches(blob: bytes, why: str) -> None:
    with pytest.raises(reader.Refused, match=why):
        reader.open_batch(blob, SPACE_KEY)
    with pytest.raises(reader.Refused, match="another key"):
        reader.open_batch(sealed(b"\x80"), SEED)


def test_padding_is_at_most_an_eighth() -> None:
    for size in range(2, 70_000):
        assert size <= reader.padme(size) <= size * 1.12 + 1
        assert reader.padme(reader.padme(size)) == reader.padme(size)


@pytest.mark.parametrize(
    "raw",
    [
        "937d0081a17400", "937d0080", "947d008005", "937d0082a17407a17400", "937d0082a1ffa1ffa17400",
        "937d0082a16391d40500a17400",
    ],
)  # fmt: skip
def test_frames_that_a_newer_writer_may_send(raw: str) -> None:
    """Left out, further items, a key twice, unknown keys with anything in them."""
    assert _reader_frames.read_frame(bytes.fromhex(raw)) == ("ping", 0, {"t": 0})
    assert our_frame(bytes.fromhex(raw)) == ("ping", 0)


@pytest.mark.parametrize(
    "raw",
    [
        "937d0090", "92007d", "93040080", "937dff80", "937d0081a1740000", "83", "937dc280", "937d0081a174c2",
        "937d008105c0", "937d0082a174a0a17400",
    ],
)  # fmt: skip
def test_frames_that_are_none(raw: str) -> None:
    """No map, two items, an unknown type, a negative id, bytes behind, booleans, a key that is no text, wrong once."""
    assert their_frame(bytes.fromhex(raw)) is None
    assert our_frame(bytes.fromhex(raw)) is None


def test_records() -> None:
    payload = bytes.fromhex("82a16101a16202")
    signed = b"\x92\xc4\x07" + payload + b"\xc4\x40" + bytes(64)
    assert reader.read_record(signed) == ({"a": 1, "b": 2}, payload, bytes(64))
    for wrong in (signed[:-1], b"\x92\xc4\x07" + payload[::-1] + b"\xc4\x40" + bytes(64), b"\x92\x01\x02"):
        with pytest.raises(reader.Refused):
            reader.read_record(wrong)
