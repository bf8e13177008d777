"""A second reader of sealed batches and of sealing at rest, from protocol/SPEC.md, "Batches" and "Sealing", alone."""

from __future__ import annotations

import zlib

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_sign, crypto_sign_seed_keypair

from tests.architecture import _reader as reader
from tests.architecture._reader import HEADER_BYTES, SIGNATURE_BYTES, Refused
from tests.architecture._reader_operations import canonical

DEFLATED, SECRET = 1, 2


def padded(size: int) -> int:
    """Bytes of a plaintext whose body has *size* bytes."""
    return max(256, reader.padme(size + 4))


def judge(blob: bytes, keys: dict[str, bytes]) -> str:
    """The code of the check that fails first; empty if the batch opens."""
    try:
        reader.read_header(blob)
    except Refused:
        return "bad_frame"
    try:
        reader.check_signature(blob, keys["sign_public"])
    except Refused:
        return "bad_signature"
    try:
        body_of(blob, keys["space_key"])
    except Refused:
        return "cannot_open"
    return ""


def body_of(blob: bytes, space_key: bytes) -> bytes:
    """The encoded body. Raises: Refused."""
    return reader.open_body(blob, space_key)


def check(vectors: dict) -> None:
    """All of protocol/vectors/sealing.json. Raises: AssertionError, Refused."""
    keys = {name: bytes.fromhex(value) for name, value in vectors["keys"].items()}
    public, secret = crypto_sign_seed_keypair(keys["sign_seed"])
    assert public == keys["sign_public"]
    assert reader.blake(public + keys["exchange_public"], 16, "hgw-dev") == keys["device"]
    assert reader.blake(keys["device"] + keys["salt"], 8, "hgw-log") == keys["log"]
    assert reader.blake(keys["space_key"], 8, "hgw-kid") == keys["kid"]
    assert reader.blake(keys["log"], 32, "hgw-batch-key", key=keys["space_key"]) == keys["batch_key"]
    for size, expected in vectors["padme"]:
        assert reader.padme(size) == expected
    for size, expected in vectors["padded_size"]:
        assert padded(size) == expected
    for case in vectors["cases"]:
        check_case(case, keys, secret)
    for case in vectors["refused"]:
        assert judge(bytes.fromhex(case["bytes"]), keys) == case["code"], case["name"]
    check_at_rest(vectors["at_rest"])


def check_case(case: dict, keys: dict[str, bytes], secret: bytes) -> None:
    """Made again from its parts, it is the same; read, it is the body."""
    name, body, blob = case["name"], bytes.fromhex(case["body"]), bytes.fromhex(case["blob"])
    content = bytes.fromhex(case["deflated"]) if case["flags"] & DEFLATED else body
    if case["flags"] & DEFLATED:
        assert zlib.decompress(content, wbits=-15) == body, name
        assert len(content) <= 0.9 * len(body), name
    assert not (case["flags"] & SECRET and case["flags"] & DEFLATED), name
    header = (
        bytes([1, case["flags"]]) + keys["space"] + keys["device"] + keys["log"] + case["n"].to_bytes(8, "big")
        + keys["kid"] + bytes.fromhex(case["prev"]) + bytes.fromhex(case["nonce"])
    )  # fmt: skip
    assert header.hex() == case["header"], name
    plain = len(content).to_bytes(4, "big") + content
    plain += bytes(padded(len(content)) - len(plain))
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plain, header, header[-24:], keys["batch_key"])
    digest = reader.blake(header + sealed, 32, "hgw-batch1")
    assert digest.hex() == case["hash"], name
    assert blob == header + sealed + crypto_sign(digest, secret)[:SIGNATURE_BYTES], name
    assert blob[:HEADER_BYTES] == header, name
    assert judge(blob, keys) == "", name
    assert body_of(blob, keys["space_key"]) == body, name


def check_at_rest(vectors: dict) -> None:
    kek = bytes.fromhex(vectors["kek"])
    assert reader.blake(b"", 16, "hgw-rest-check", key=kek).hex() == vectors["check"]
    for case in vectors["cases"]:
        nonce, purpose = bytes.fromhex(case["nonce"]), case["purpose"]
        subkey = reader.blake(purpose.encode(), 32, "hgw-rest", key=kek)
        row = [bytes.fromhex(part) if is_hex(part) else part for part in case["row"]]
        associated = canonical(["hgw-rest-1", purpose, *row], domain=False)
        plain = bytes.fromhex(case["plaintext"])
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plain, associated, nonce, subkey)
        assert (b"\x01" + nonce + sealed).hex() == case["sealed"], purpose


def is_hex(part: object) -> bool:
    """Bytes of a row; its texts are no hex."""
    return isinstance(part, str) and len(part) in (16, 32) and set(part) <= set("0123456789abcdef")
