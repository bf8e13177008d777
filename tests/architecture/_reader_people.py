"""A second reader of letters, message keys, addresses and safety numbers, from protocol/SPEC.md, "People", alone."""

from __future__ import annotations

import hashlib

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_box,
    crypto_box_seal_open,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from tests.architecture import _reader as reader
from tests.architecture._reader import Refused
from tests.architecture._reader_frames import plain
from tests.architecture._reader_messages import number

HEADER, BOX, SIGNATURE = 147, 80, 64
KINDS = ("message", "ask", "accept")
DEFAULTS = {"t": "", "b": "", "n": "", "r": "", "h": []}


def read_header(blob: bytes) -> dict[str, object]:
    """Raises: Refused."""
    head = {
        "flags": blob[1], "space": blob[2:18], "to": blob[18:34], "id": blob[34:50], "sender": blob[50:66],
        "recipient": blob[66:82], "stream": str(reader.signed64(blob[82:90])), "seq": number(blob, 90),
        "priority": blob[98], "created": number(blob, 99), "expires": number(blob, 107), "key": blob[115:123],
        "nonce": blob[123:147],
    }  # fmt: skip
    lived = number(blob, 107) - number(blob, 99)
    is_placed = head["seq"] == 0 and head["stream"] == "0" if blob[1] else 1 <= number(blob, 90) < 2**53
    if (
        blob[0] != 1 or blob[1] > 2 or head["space"] == head["to"] or blob[98] > 3 or not is_placed
        or not 0 < lived <= 2_592_000_000
    ):  # fmt: skip
        raise Refused("header")
    return head


def opened(blob: bytes, keys: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Signature and content. Raises: CryptoError, Refused."""
    key = crypto_box_seal_open(blob[HEADER : HEADER + BOX], keys["message_key"], keys["message_secret"])
    padded = crypto_aead_xchacha20poly1305_ietf_decrypt(blob[HEADER + BOX :], blob[: HEADER + BOX], blob[123:147], key)
    size = number(padded, 0, 4)
    if max(256, reader.padme(size + 4)) != len(padded) or any(padded[size + 4 :]) or size < SIGNATURE:
        raise Refused("padding")
    return padded[4 : 4 + SIGNATURE], padded[4 + SIGNATURE : 4 + size]


def hashed(header: bytes, content: bytes) -> bytes:
    """What is signed."""
    return reader.blake(header + content, 32, "hgw-letter")


def judge(blob: bytes, keys: dict[str, bytes]) -> str:
    """The code of the check that fails first; empty if the letter is good."""
    if not 499 <= len(blob) <= 71_680:
        return "bad_frame"
    try:
        read_header(blob)
    except Refused:
        return "bad_frame"
    try:
        signature, content = opened(blob, keys)
    except (CryptoError, Refused):
        return "cannot_open"
    try:
        crypto_sign_open(signature + hashed(blob[:HEADER], content), keys["sign_public"])
    except CryptoError:
        return "bad_signature"
    return ""


def safety_number(ours: bytes, theirs: bytes) -> str:
    """60 digits."""
    halves = []
    for root in (ours, theirs):
        h = root + reader.blake(root, 16, "hgw-uid")
        for _ in range(5_200):
            h = reader.blake(h + root, 64, "hgw-number")
        halves.append("".join(f"{number(h, at, 5) % 100_000:05}" for at in range(0, 30, 5)))
    return "".join(sorted(halves))


def check(vectors: dict) -> None:
    """All of protocol/vectors/people.json. Raises: AssertionError, Refused."""
    keys = {name: bytes.fromhex(value) for name, value in vectors["keys"].items()}
    public, secret = crypto_sign_seed_keypair(keys["sign_seed"])
    assert public == keys["sign_public"]
    assert crypto_scalarmult_base(keys["message_secret"]) == keys["message_key"]
    ephemeral = crypto_scalarmult_base(keys["ephemeral"])
    nonce = hashlib.blake2b(ephemeral + keys["message_key"], digest_size=24).digest()
    box = ephemeral + crypto_box(keys["letter_key"], nonce, keys["message_key"], keys["ephemeral"])
    for case in vectors["xkeys"]:
        raw, body = bytes.fromhex(case["public"]), bytes.fromhex(case["body"])
        assert body == b"\x01" + raw + case["made"].to_bytes(8, "big")
        assert reader.blake(raw, 8, "hgw-xkey").hex() == case["id"]
    assert reader.blake(keys["message_key"], 8, "hgw-xkey") == keys["message_key_id"]
    none = vectors["no_key"]
    assert bytes.fromhex(none["body"]) == b"\x01" + bytes(32) + none["made"].to_bytes(8, "big")
    assert reader.blake(bytes(32), 8, "hgw-xkey").hex() == none["id"]
    for case in vectors["cases"]:
        check_case(case, keys, secret, box)
    for case in vectors["refused"]:
        assert judge(bytes.fromhex(case["bytes"]), keys) == case["code"], case["name"]
    for case in vectors["addresses"]:
        check_address(case)
    for case in vectors["numbers"]:
        ours, theirs = bytes.fromhex(case["ours"]), bytes.fromhex(case["theirs"])
        assert safety_number(ours, theirs) == case["number"]
        assert case["link"] == f"hybridgw://number?digits={case['number']}"


def check_case(case: dict, keys: dict[str, bytes], secret: bytes, box: bytes) -> None:
    """Read, it is what the case says; sealed again, it is the same."""
    name, blob = case["name"], bytes.fromhex(case["blob"])
    assert judge(blob, keys) == "", name
    head = read_header(blob)
    shown = ("flags", "id", "stream", "seq", "priority", "created", "expires", "key", "nonce")
    assert {key: plain(head[key]) for key in shown} == {key: case[key] for key in shown}, name
    for key in ("space", "to", "sender", "recipient"):
        assert head[key] == keys[key], name
    assert head["key"] == keys["message_key_id"]
    signature, content = opened(blob, keys)
    said = plain(reader.read(content))
    told = case["content"]
    if isinstance(said, dict):
        assert said["k"] in KINDS
        assert (said["k"] == "message") == (case["flags"] == 0)
        assert DEFAULTS | said == DEFAULTS | told, name
    else:
        assert said == told, name
    digest = bytes.fromhex(case["hash"])
    assert digest == hashed(blob[:HEADER], content), name
    assert signature == crypto_sign(digest, secret)[:SIGNATURE], name
    assert blob[HEADER : HEADER + BOX] == box, name
    size = len(signature + content)
    padded = size.to_bytes(4, "big") + signature + content
    padded += bytes(max(256, reader.padme(size + 4)) - len(padded))
    assert blob[HEADER + BOX :] == crypto_aead_xchacha20poly1305_ietf_encrypt(
        padded, blob[:HEADER] + box, blob[123:147], keys["letter_key"]
    ), name


def check_address(case: dict) -> None:
    """The text is the id and the relay; the relay without its scheme where that is the usual one."""
    digits, at, relay = case["text"].partition("@")
    assert digits == case["person"]
    assert bool(at) == bool(case["relay"])
    host = relay.partition("://")[2] or relay
    is_here = host.startswith(("127.", "localhost", "[::1]"))
    assert case["relay"] == (relay if "://" in relay else ("http://" if is_here else "https://") + relay if at else "")
    link = f"hybridgw://person?id={case['person']}"
    assert case["link"] == (f"{link}&relay={relay}" if at else link)
