"""A second reader of pairing codes and of the exchange, from protocol/SPEC.md, "Pairing", alone: both sides at once."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import unicodedata
from urllib.parse import parse_qs, unquote, urlsplit

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
    crypto_sign_open,
)

from tests.architecture import _reader as reader
from tests.architecture._reader import Refused
from tests.architecture._reader_frames import endpoint
from tests.architecture._reader_operations import canonical

M = bytes.fromhex("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312")
N = bytes.fromhex("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3")
HELLO, ANSWER, PROOF, COUNTERPROOF, OFFER, INTRODUCTION, ADMISSION, DONE, ABORT = range(1, 10)
FROM = {HELLO: "n", ANSWER: "e", PROOF: "n", COUNTERPROOF: "e", OFFER: "e", INTRODUCTION: "n", ADMISSION: "e",
        DONE: "n"}  # fmt: skip
REASONS = {
    "wrong_code", "code_used", "link_only", "expired", "refused", "cancelled", "version", "tampered", "bad_message",
    "bad_records", "gone",
}  # fmt: skip


# ---- SPAKE2 ----------------------------------------------------------------------------------------------------------
def scalar(big_endian: bytes) -> bytes:
    """A big-endian integer of at most 64 bytes mod L, as libsodium takes it (little endian, 32 bytes)."""
    return bytes(crypto_core_ed25519_scalar_reduce(big_endian[::-1].ljust(64, b"\0")))


def password_scalar(password: bytes) -> bytes:
    """HKDF-SHA256 with an empty salt: RFC 5869."""
    pseudo = hmac.digest(bytes(32), password, "sha256")
    first = hmac.digest(pseudo, b"SPAKE2 pw\x01", "sha256")
    return scalar((first + hmac.digest(pseudo, first + b"SPAKE2 pw\x02", "sha256"))[:48])


def spake2_message(letter: bytes, random: bytes, blind: bytes, password: bytes) -> bytes:
    """Of one side. Args: blind: M for A, N for B."""
    own = crypto_scalarmult_ed25519_base_noclamp(scalar(random))
    return letter + crypto_core_ed25519_add(own, crypto_scalarmult_ed25519_noclamp(password_scalar(password), blind))


def spake2_key(password: bytes, ids: tuple[bytes, bytes], a: bytes, b: bytes, random: bytes, *, is_a: bool) -> bytes:
    """K, from one side's random bytes and both messages."""
    p = password_scalar(password)
    theirs, blind = (b[1:], N) if is_a else (a[1:], M)
    naked = crypto_core_ed25519_sub(theirs, crypto_scalarmult_ed25519_noclamp(p, blind))
    z = crypto_scalarmult_ed25519_noclamp(scalar(random), naked)
    hashed = b"".join(hashlib.sha256(part).digest() for part in (password, *ids))
    return hashlib.sha256(hashed + a[1:] + b[1:] + z).digest()


def is_point(encoded: bytes) -> bool:
    """y (without the sign bit) above 1 and below the field, on the curve, of order L."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return 1 < y < 2**255 - 19 and bool(crypto_core_ed25519_is_valid_point(encoded))


# ---- messages --------------------------------------------------------------------------------------------------------
def read_message(data: bytes) -> tuple[int, bytes]:
    """Phase and body. Raises: Refused."""
    if len(data) > (512 * 1024 if data[1:2] == bytes([ADMISSION]) else 16 * 1024):
        raise Refused("too long")
    match reader.read(data, canonical=True):
        case [int(phase), bytes(body)] if HELLO <= phase <= ABORT:
            return phase, body
    raise Refused("not [phase, body]")


def judge_first(data: bytes) -> str:
    """The reason for which E ends a pairing that begins with this message; empty if it answers."""
    try:
        phase, body = read_message(data)
    except Refused:
        return "bad_message"
    if phase == ABORT:
        reason = body[:32].decode("ascii", "replace")
        return reason if reason in REASONS else "cancelled"
    if phase != HELLO or len(body) != 35:
        return "bad_message"
    if body[0] != 1:
        return "version"
    return "" if body[1] in (0, 1) and body[2:3] == b"B" and is_point(body[3:]) else "bad_message"


class Direction:
    """Opens what one side sealed, in order."""

    def __init__(self, key: bytes) -> None:
        self.key, self.count = key, 0

    def open(self, phase: int, body: bytes) -> bytes:
        nonce = self.count.to_bytes(24, "big")
        self.count += 1
        return bytes(crypto_aead_xchacha20poly1305_ietf_decrypt(body, b"hgw-pair-1" + bytes([phase]), nonce, self.key))


# ---- codes -----------------------------------------------------------------------------------------------------------
def read_code(text: str) -> dict[str, object]:
    """What a code or link says. Raises: Refused."""
    if text.startswith("hybridgw:"):
        parts = urlsplit(text)
        query = parse_qs(parts.query, keep_blank_values=True)
        if parts.netloc != "pair" or any(len(values) > 1 for values in query.values()):
            raise Refused("no pairing link")
        numbers, relay, secret = (query.get(name, [""])[0] for name in ("code", "relay", "secret"))
        if not re.fullmatch(r"([0-9a-f]{32})?", secret):
            raise Refused("a secret has 16 bytes")
        relay = unquote(relay)
    else:
        (numbers, at, relay), secret = text.partition("@"), ""
        if at and not relay:
            raise Refused("no address")
    digits = "".join(c for c in unicodedata.normalize("NFKC", numbers) if not (c.isspace() or c in "-."))
    if not re.fullmatch(r"[0-9]{9}", digits):
        raise Refused("nine digits")
    return {"nameplate": int(digits[:3]), "digits": digits[3:], "relay": read_relay(relay), "secret": secret}


def read_relay(text: str) -> str:
    """URL of the relay; empty if none is named."""
    if not text:
        return ""
    scheme, separator, authority = text.rpartition("://")
    if re.search(r"[\s/?#@]", authority) or (separator and scheme not in ("http", "https")):
        raise Refused("no address of a relay")
    try:
        host = urlsplit(f"//{authority}").hostname or ""
    except ValueError as error:
        raise Refused("no host") from error
    scheme = scheme or ("http" if is_this_machine(host) else "https")
    return f"{scheme}://{endpoint(f'{scheme}://{authority}').removeprefix('host:')}"


def is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def show_code(code: dict[str, object]) -> str:
    """As a screen shows it: the scheme only where a reader would guess the other one."""
    numbers = f"{code['nameplate']:03}{code['digits']}"
    shown = "-".join(numbers[i : i + 3] for i in (0, 3, 6))
    scheme, _, authority = str(code["relay"]).partition("://")
    if authority and read_relay(authority) != code["relay"]:
        authority = f"{scheme}://{authority}"
    return f"{shown}@{authority}" if authority else shown


# ---- the golden file -------------------------------------------------------------------------------------------------
def check(vectors: dict) -> None:
    """All of protocol/vectors/pairing.json. Raises: AssertionError, Refused."""
    assert len(set(vectors["words"])) == 256
    for case in vectors["cases"]:
        check_exchange(case, vectors["words"])
    for case in vectors["refused"]:
        assert case["code"] == "pairing_failed"
        assert judge_first(bytes.fromhex(case["bytes"])) == case["cause"], case["name"]
    for case in vectors["codes"]:
        code = read_code(case["text"])
        assert code == {name: case[name] for name in code}, case["text"]
        assert show_code(code) == case["shown"], case["text"]
        assert read_code(case["link"]) == code, case["text"]
    for case in vectors["refused_codes"]:
        try:
            read_code(case["text"])
        except Refused:
            continue
        raise AssertionError(case["name"])


def check_exchange(case: dict, words: list[str]) -> None:
    """Both sides, from their random bytes to the last message."""
    said = [(message["from"], *read_message(bytes.fromhex(message["message"]))) for message in case["messages"]]
    assert [phase for _, phase, _ in said] == sorted(phase for _, phase, _ in said)
    assert all(FROM[phase] == source for source, phase, _ in said)
    bodies = {phase: body for _, phase, body in said}
    assert bodies.keys() == FROM.keys()

    link = bytes.fromhex(case["link_secret"])
    kind, password = (1, b"hgw-pair-link|" + link) if link else (0, case["digits"].encode())
    plate = f"{case['nameplate']:03}".encode()
    ids = (b"hgw-pair-1|E|" + plate, b"hgw-pair-1|N|" + plate)
    random_e, random_n = bytes.fromhex(case["random_e"]), bytes.fromhex(case["random_n"])
    nonce_e, nonce_n = random_e[:16], random_n[64:80]
    x = spake2_message(b"A", random_e[16:80], M, password)
    y = spake2_message(b"B", random_n[:64], N, password)
    commitment = reader.blake(nonce_e, 32, "hgw-pair-commit")
    assert bodies[HELLO] == bytes([1, kind]) + y
    assert judge_first(bytes.fromhex(case["messages"][0]["message"])) == ""
    assert bodies[ANSWER] == bytes([1, kind]) + x + commitment
    assert is_point(x[1:])

    key = spake2_key(password, ids, x, y, random_e[16:80], is_a=True)
    assert key == spake2_key(password, ids, x, y, random_n[:64], is_a=False)
    assert key.hex() == case["spake2_key"]
    transcript = canonical(["hgw-pair-1", kind, *ids, case["authority"], y, x, commitment], domain=False)
    assert transcript.hex() == case["transcript"]

    def derive(person: str, *nonces: bytes, size: int = 32) -> bytes:
        return reader.blake(transcript + b"".join(nonces), size, person, key=key)

    assert derive("hgw-pair-cN", nonce_n).hex() == case["proof_n"]
    assert derive("hgw-pair-cE", nonce_n, nonce_e).hex() == case["proof_e"]
    assert bodies[PROOF] == nonce_n + bytes.fromhex(case["proof_n"])
    assert bodies[COUNTERPROOF] == nonce_e + bytes.fromhex(case["proof_e"])
    assert [words[byte] for byte in derive("hgw-pair-words", nonce_n, nonce_e, size=4)] == case["words"]
    check_sealed(case, said, Direction(derive("hgw-pair-kE")), Direction(derive("hgw-pair-kN")))


def check_sealed(case: dict, said: list[tuple[str, int, bytes]], from_e: Direction, from_n: Direction) -> None:
    """What the two tell each other under seal."""
    assert (from_e.key.hex(), from_n.key.hex()) == (case["key_e"], case["key_n"])
    opened: dict[int, bytes] = {}
    total = 1
    for source, phase, body in said:
        if phase < OFFER:
            continue
        plain = (from_e if source == "e" else from_n).open(phase, body)
        if phase == ADMISSION:
            index, total = int.from_bytes(plain[:2], "big"), int.from_bytes(plain[2:4], "big")
            assert index == len(opened.get(phase, b"")) // 262_144 < total <= 17
            plain = plain[4:]
        opened[phase] = opened.get(phase, b"") + plain
    assert opened[DONE] == b""
    assert -(-len(opened[ADMISSION]) // 262_144) == total
    offer = reader.read(opened[OFFER])
    assert isinstance(offer, dict)
    assert as_hex(offer) == case["offer"]
    assert reader.blake(offer["root_public"], 16, "hgw-uid") == offer["space"]
    introduction = reader.read(opened[INTRODUCTION])
    assert isinstance(introduction, dict)
    signature, digest = introduction.pop("signature"), bytes.fromhex(case["joiner_digest"])
    assert as_hex(introduction) == case["introduction"]
    assert crypto_sign_open(signature + digest, introduction["sign_public"]) == digest
    assert as_hex(reader.read(opened[ADMISSION])) == case["admission"]


def as_hex(value: object) -> object:
    """Bytes as hex, as the golden file has them."""
    match value:
        case bytes():
            return value.hex()
        case list():
            return [as_hex(part) for part in value]
        case dict():
            return {name: as_hex(part) for name, part in value.items()}
    return value
