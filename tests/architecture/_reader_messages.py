"""A second reader of envelopes, tombstones and receipts, from protocol/SPEC.md, "Messages", alone."""

from __future__ import annotations

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from tests.architecture import _reader as reader
from tests.architecture._reader import SIGNATURE_BYTES, Refused
from tests.architecture._reader_frames import plain

HEADER = 131
DEFAULTS = {"n": "", "c": "", "r": ""}


def number(blob: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(blob[at : at + size], "big")


def read_header(blob: bytes) -> dict[str, object]:
    """Raises: Refused."""
    head = {
        "flags": blob[1], "space": blob[2:18], "id": blob[18:34], "sender": blob[34:50], "recipient": blob[50:66],
        "stream": str(reader.signed64(blob[66:74])), "seq": number(blob, 74), "priority": blob[82],
        "created": number(blob, 83), "expires": number(blob, 91), "kid": blob[99:107], "nonce": blob[107:131],
    }  # fmt: skip
    lived = number(blob, 91) - number(blob, 83)
    is_placed = head["seq"] == 0 and head["stream"] == "0" if blob[1] else 1 <= number(blob, 74) < 2**53
    if (
        blob[0] != 1 or blob[1] > 2 or head["sender"] == head["recipient"] or blob[82] > 3 or not is_placed
        or not 0 < lived <= 2_592_000_000
    ):  # fmt: skip
        raise Refused("header")
    return head


def hashed(header: bytes, ciphertext: bytes) -> bytes:
    """H."""
    return reader.blake(header + reader.blake(ciphertext, 32, "hgw-msg-ct"), 32, "hgw-msg-1")


def judge(blob: bytes, keys: dict[str, bytes]) -> str:
    """The code of the check that fails first; empty if the envelope opens."""
    if not 467 <= len(blob) <= 69_632:
        return "bad_frame"
    try:
        read_header(blob)
    except Refused:
        return "bad_frame"
    try:
        crypto_sign_open(
            blob[-SIGNATURE_BYTES:] + hashed(blob[:HEADER], blob[HEADER:-SIGNATURE_BYTES]), keys["sign_public"]
        )
    except CryptoError:
        return "bad_signature"
    try:
        content_of(blob, keys["space_key"])
    except (Refused, CryptoError):
        return "cannot_open"
    return ""


def content_of(blob: bytes, space_key: bytes) -> object:
    """Raises: CryptoError, Refused."""
    key = reader.blake(blob[34:66], 32, "hgw-msg", key=space_key)
    padded = crypto_aead_xchacha20poly1305_ietf_decrypt(
        blob[HEADER:-SIGNATURE_BYTES], blob[:HEADER], blob[107:131], key
    )
    size = number(padded, 0, 4)
    if max(256, reader.padme(size + 4)) != len(padded) or any(padded[size + 4 :]):
        raise Refused("padding")
    return reader.read(padded[4 : size + 4])


def check(vectors: dict) -> None:
    """All of protocol/vectors/messages.json. Raises: AssertionError, Refused."""
    keys = {name: bytes.fromhex(value) for name, value in vectors["keys"].items()}
    public, secret = crypto_sign_seed_keypair(keys["sign_seed"])
    assert public == keys["sign_public"]
    assert reader.blake(keys["sender"] + keys["recipient"], 32, "hgw-msg", keys["space_key"]) == keys["message_key"]
    contents: dict[str, bytes] = {}
    for case in vectors["cases"]:
        raw = check_case(case, keys, secret)
        contents[repr(case["content"])] = raw
    for case in vectors["digests"]:
        assert reader.blake(contents[repr(case["content"])], 16, "hgw-msg-body").hex() == case["digest"]
    for case in vectors["refused"]:
        assert judge(bytes.fromhex(case["bytes"]), keys) == case["code"], case["name"]


def check_case(case: dict, keys: dict[str, bytes], secret: bytes) -> bytes:
    """Read, it is what the case says; sealed again, it is the same. Returns the bytes of the content."""
    name, blob = case["name"], bytes.fromhex(case["blob"])
    assert judge(blob, keys) == "", name
    head = read_header(blob)
    assert {key: plain(head[key]) for key in ("flags", "id", "stream", "seq", "priority", "created", "expires")} == {
        key: case[key] for key in ("flags", "id", "stream", "seq", "priority", "created", "expires")
    }, name
    for key in ("space", "sender", "recipient"):
        assert head[key] == keys[key], name
    assert head["kid"] == reader.blake(keys["space_key"], 8, "hgw-kid"), name
    assert plain(head["nonce"]) == case["nonce"], name
    shown = plain(content_of(blob, keys["space_key"]))
    said = case["content"]
    assert (DEFAULTS | shown if isinstance(shown, dict) else shown) == (
        DEFAULTS | said if isinstance(said, dict) else said
    ), name
    header, ciphertext, digest = blob[:HEADER], blob[HEADER:-SIGNATURE_BYTES], bytes.fromhex(case["hash"])
    padded = crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, header, blob[107:131], keys["message_key"])
    assert ciphertext == crypto_aead_xchacha20poly1305_ietf_encrypt(
        padded, header, blob[107:131], keys["message_key"]
    ), name
    assert digest == hashed(header, ciphertext), name
    assert blob[-SIGNATURE_BYTES:] == crypto_sign(digest, secret)[:SIGNATURE_BYTES], name
    assert bytes.fromhex(case["tombstone"]) == (
        header + reader.blake(ciphertext, 32, "hgw-msg-ct") + blob[-SIGNATURE_BYTES:]
    ), name
    return padded[4 : 4 + number(padded, 0, 4)]
