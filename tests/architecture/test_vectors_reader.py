"""The golden bytes of protocol/vectors, read by a reader that shares no code with ours."""

from __future__ import annotations

import ast
import json
import struct
import sys
import zlib

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_sign, crypto_sign_seed_keypair

from tests.architecture import _reader as reader
from tests.architecture._tree import ROOT, syntax

VECTORS = ROOT / "protocol" / "vectors"
# A file of golden bytes -> the function below that reads it. A file without one fails `test_every_file_is_read`.
READERS: dict[str, object] = {}


def test_the_reader_shares_no_code_with_ours() -> None:
    names = set()
    for node in ast.walk(syntax(ROOT / "tests" / "architecture" / "_reader.py")):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            names.add(str(node.module).split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"nacl"}


def test_every_file_is_read() -> None:
    present = {path.stem for path in VECTORS.glob("*.json")}
    assert present == READERS.keys()
    for name in present:
        json.loads((VECTORS / f"{name}.json").read_text())


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


def test_frames() -> None:
    assert reader.read_frame(bytes.fromhex("937d0081a17400")) == ("ping", 0, {"t": 0})
    for wrong in ("937d0090", "92007d", "93040080", "937dff80", "937d0081a17400" + "00", "83"):
        with pytest.raises(reader.Refused):
            reader.read_frame(bytes.fromhex(wrong))


def test_records() -> None:
    payload = bytes.fromhex("82a16101a16202")
    signed = b"\x92\xc4\x07" + payload + b"\xc4\x40" + bytes(64)
    assert reader.read_record(signed) == ({"a": 1, "b": 2}, payload, bytes(64))
    for wrong in (signed[:-1], b"\x92\xc4\x07" + payload[::-1] + b"\xc4\x40" + bytes(64), b"\x92\x01\x02"):
        with pytest.raises(reader.Refused):
            reader.read_record(wrong)
