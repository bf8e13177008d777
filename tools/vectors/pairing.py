"""Golden bytes of one pairing by digits and one by link, of the codes people type, and of the words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import BadValue, PairingFailed
from hybridgw_protocol.ids import DeviceId, SpaceId, blake2b, space_id
from hybridgw_protocol.pairing import Existing, IssuedCode, New
from hybridgw_protocol.pairing_code import PairingCode, format_code, format_link, parse_code
from hybridgw_protocol.pairing_messages import (
    Admission,
    Admitted,
    Introduced,
    Introduction,
    Invited,
    Offer,
    Phase,
    RelayHint,
)
from hybridgw_protocol.pairing_words import WORDS

ROOT_PUBLIC: Final = bytes(range(32))
OFFER: Final = Offer(space_id(ROOT_PUBLIC), ROOT_PUBLIC, bytes(range(32, 64)), (bytes(range(64, 96)),))
SIGN_PUBLIC, _SIGN_SECRET = crypto_sign_seed_keypair(bytes(range(96, 128)))
EXCHANGE_PUBLIC: Final = bytes(range(128, 160))
AUTHORITY: Final = "host:relay.example.com"
CODE: Final = PairingCode(417, "803265", "https://relay.example.com", bytes(range(160, 176)))
ADMISSION: Final = Admission(
    (b"first record", b"second record"), (RelayHint("https://relay.example.com"),), 1_800_000_000_000
)
# Membership has its own vectors: here the joiner signs 32 fixed bytes.
JOINER_DIGEST: Final = bytes(range(176, 208))

_TYPED: Final = (
    "417-803-265", "417 803 265", "007803265", "417-803-265@relay.example.com", "417-803-265@Relay.Example.com:443",
    "417-803-265@127.0.0.1:8080", "417-803-265@http://10.0.0.4:8080", "417-803-265@[::1]:8080",
    "hybridgw://pair?code=417-803-265&relay=relay.example.com&secret=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
)  # fmt: skip
_NOT_TYPED: Final = (
    "", "417-803-26", "417-803-2655", "417-8O3-265", "417-803-265@", "417-803-265@a b", "417-803-265@user@host",
    "417-803-265@host/path", "417-803-265@host:99999", "hybridgw://other?code=417803265",
    "hybridgw://pair?code=417803265&secret=00",
)  # fmt: skip


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    return {
        "about": 'Pairing; protocol/SPEC.md, "Pairing". random_e and random_n are what each side draws, in order: E 16 '
        "bytes of nonce, then 64 for its SPAKE2 scalar; N 64, then 16. Messages are whole mailbox messages in order.",
        "cases": [_pairing("digits", parse_code(format_code(CODE))), _pairing("link", CODE)],
        "refused": _refused(),
        "codes": [_code(text) for text in _TYPED],
        "refused_codes": [{"name": text, "text": text, "code": _code_error(text)} for text in _NOT_TYPED],
        "words": list(WORDS),
    }


class _Entropy:
    """Repeatable bytes that remember what was drawn."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.drawn = b""

    def __call__(self, size: int) -> bytes:
        fresh = self._random.randbytes(size)
        self.drawn += fresh
        return fresh


def _digest(space: SpaceId, seat: bytes, prevs: Sequence[bytes], device: DeviceId) -> bytes:
    return JOINER_DIGEST


def _machines(code: PairingCode) -> tuple[Existing, New, _Entropy, _Entropy]:
    random_e, random_n = _Entropy(1), _Entropy(2)
    e = Existing(IssuedCode(CODE), OFFER, authority=AUTHORITY, joiner_digest=_digest, entropy=random_e)
    return e, New(code, authority=AUTHORITY, entropy=random_n), random_e, random_n


def _run(e: Existing, n: New) -> list[tuple[str, bytes]]:
    said: list[tuple[str, bytes]] = []
    joiner = Introduction(
        SIGN_PUBLIC, EXCHANGE_PUBLIC, "laptop", "linux", crypto_sign(JOINER_DIGEST, _SIGN_SECRET)[:64]
    )
    while True:
        queue = [("n", message) for message in n.data_to_send()] + [("e", message) for message in e.data_to_send()]
        if not queue:
            return said
        for source, message in queue:
            said.append((source, message))
            for event in (e if source == "n" else n).receive(message):
                match event:
                    case Invited():
                        n.introduce(joiner)
                    case Introduced():
                        e.admit(ADMISSION)
                    case Admitted():
                        n.finish()
                    case _:
                        pass


def _pairing(name: str, code: PairingCode) -> dict[str, object]:
    e, n, random_e, random_n = _machines(code)
    said = _run(e, n)
    bodies = {Phase(phase): body for phase, body in (msgspec.msgpack.decode(message) for _, message in said)}
    hello, answer = bodies[Phase.HELLO], bodies[Phase.ANSWER]
    transcript = encode_canonical(
        [
            "hgw-pair-1",
            hello[1],
            b"hgw-pair-1|E|417",
            b"hgw-pair-1|N|417",
            AUTHORITY,
            hello[2:],
            answer[2:35],
            answer[35:],
        ]
    )
    key, nonce_n, nonce_e = e._key, bodies[Phase.PROOF][:16], bodies[Phase.COUNTERPROOF][:16]

    def derive(person: str, *nonces: bytes) -> bytes:
        return blake2b(transcript + b"".join(nonces), 32, person, key)

    return {
        "name": name,
        "nameplate": CODE.nameplate,
        "digits": CODE.digits,
        "link_secret": code.secret,
        "authority": AUTHORITY,
        "random_e": random_e.drawn,
        "random_n": random_n.drawn,
        "spake2_key": key,
        "transcript": transcript,
        "proof_n": derive("hgw-pair-cN", nonce_n),
        "proof_e": derive("hgw-pair-cE", nonce_n, nonce_e),
        "key_e": derive("hgw-pair-kE"),
        "key_n": derive("hgw-pair-kN"),
        "words": list(e.words),
        "offer": msgspec.to_builtins(OFFER, builtin_types=(bytes,)),
        "joiner_digest": JOINER_DIGEST,
        "introduction": {
            "sign_public": SIGN_PUBLIC,
            "exchange_public": EXCHANGE_PUBLIC,
            "name": "laptop",
            "platform": "linux",
        },
        "admission": msgspec.to_builtins(ADMISSION, builtin_types=(bytes,)),
        "messages": [{"from": source, "message": message} for source, message in said],
    }


def _refused() -> list[dict[str, object]]:
    """First messages to E, and what it says of them."""
    hello = msgspec.msgpack.decode(_machines(CODE)[1].data_to_send()[0])[1]
    cases: dict[str, bytes] = {
        "not msgpack": b"\xc1",
        "not an array of two": encode_canonical([1]),
        "unknown phase": encode_canonical([10, hello]),
        "proof before hello": encode_canonical([3, bytes(48)]),
        "hello too short": encode_canonical([1, hello[:-1]]),
        "hello of another version": encode_canonical([1, b"\x02" + hello[1:]]),
        "hello of an unknown kind": encode_canonical([1, b"\x01\x02" + hello[2:]]),
        "SPAKE2 message of E's own side": encode_canonical([1, hello[:2] + b"A" + hello[3:]]),
        "zero of the group": encode_canonical([1, hello[:3] + b"\x01" + bytes(31)]),
        "zero, encoded above the field": encode_canonical([1, hello[:3] + (2**255 - 18).to_bytes(32, "little")]),
        "not a point": encode_canonical([1, hello[:3] + b"\x02" + bytes(31)]),
        "a point of low order": encode_canonical([1, hello[:3] + bytes(32)]),
        "abort": encode_canonical([9, b"cancelled"]),
    }
    return [{"name": name, "bytes": data, **_pairing_error(data)} for name, data in cases.items()]


def _pairing_error(message: bytes) -> dict[str, object]:
    try:
        _machines(CODE)[0].receive(message)
    except PairingFailed as error:
        return {"code": error.code, "cause": error.detail["cause"]}
    raise AssertionError("a refused vector was taken")


def _code(text: str) -> dict[str, object]:
    code = parse_code(text)
    return {
        "text": text, "nameplate": code.nameplate, "digits": code.digits, "relay": code.relay, "secret": code.secret,
        "shown": format_code(code), "link": format_link(code),
    }  # fmt: skip


def _code_error(text: str) -> str:
    try:
        parse_code(text)
    except BadValue as error:
        return error.code
    raise AssertionError("a refused code was taken")
