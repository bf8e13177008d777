"""Golden bytes of people: message keys, letters, addresses, safety numbers, what a directory answers."""

from __future__ import annotations

from typing import Final

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_sign,
    crypto_sign_seed_keypair,
)

from hybridgw_daemon.core.envelopes import Receipt
from hybridgw_daemon.core.letters import KeyPair, Kind, Said, key_pair, seal_letter
from hybridgw_daemon.core.sealing import pad
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId, device_id, space_id
from hybridgw_protocol.letters import FLAG_CONTACT, FLAG_RECEIPT, Letter, LetterHeader, letter_hash
from hybridgw_protocol.messages import MessageState, Priority
from hybridgw_protocol.people import (
    NO_KEY,
    PersonAddress,
    encode_xkey,
    format_address,
    format_address_link,
    format_number_link,
    safety_number,
    xkey_id,
)

ROOTS: Final = [crypto_sign_seed_keypair(bytes([n]) * 32)[0] for n in (1, 2, 3)]
SPACE, TO = (space_id(root) for root in ROOTS[:2])
SIGN_SEED: Final = bytes(range(32, 64))
SIGN_PUBLIC, _SIGN_SECRET = crypto_sign_seed_keypair(SIGN_SEED)
SENDER: Final = device_id(SIGN_PUBLIC, bytes(range(64, 96)))
RECIPIENT: Final = DeviceId(bytes(range(96, 112)))
KEY: Final = key_pair(bytes(range(100, 132)), 1_800_000_000_000)
OTHER_KEY: Final = key_pair(bytes(range(101, 133)), 1_800_000_000_000)
EPHEMERAL: Final = bytes(range(7, 39))
LETTER_KEY: Final = bytes(range(200, 232))
ID: Final = bytes(range(128, 144))
NONCE: Final = bytes(range(144, 168))
NOW_MS: Final = 1_800_000_000_000


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    note = Said(kind=Kind.MESSAGE, type="note", body=b'"see you at nine"')
    whole = Said(kind=Kind.MESSAGE, type="note", body=b'{"a":1}', reply=bytes(16), heads=[bytes(16), bytes([255]) * 16])
    ask = Said(kind=Kind.ASK, name="Ada", body=b"It is me, Ada.")
    receipts = [Receipt(ID, MessageState.DELIVERED, NOW_MS), Receipt(bytes(16), MessageState.HANDLED, NOW_MS + 1)]
    good = _seal(note)
    return {
        "about": 'Letters, message keys, addresses and safety numbers; protocol/SPEC.md, "People". All letters are '
        "signed by sign_public and sealed to message_key by a box whose secret is ephemeral. The stream is text, for "
        "it has 64 bits.",
        "keys": {
            "sign_seed": SIGN_SEED, "sign_public": SIGN_PUBLIC, "sender": SENDER, "recipient": RECIPIENT,
            "space": SPACE, "to": TO, "message_secret": KEY.secret, "message_key": KEY.key.public,
            "message_key_id": KEY.key.id, "letter_key": LETTER_KEY, "ephemeral": EPHEMERAL,
        },
        "xkeys": [
            {"public": pair.key.public, "made": pair.key.made_ms, "id": pair.key.id,
             "body": encode_xkey(pair.key.public, pair.key.made_ms)}
            for pair in (KEY, OTHER_KEY)
        ],
        "no_key": {"made": NOW_MS, "body": encode_xkey(NO_KEY, NOW_MS), "id": xkey_id(NO_KEY)},
        "cases": [
            _case("a note", note, good),
            _case("all keys", whole, _seal(whole, stream=-5, seq=2**53 - 1, priority=Priority.URGENT)),
            _case("greatest body", _greatest(), _seal(_greatest(), priority=Priority.BULK)),
            _case("asks to be a contact", ask, _seal(ask, flags=FLAG_CONTACT, stream=0, seq=0)),
            _case("receipts", receipts, _seal(receipts, flags=FLAG_RECEIPT, stream=0, seq=0)),
        ],
        "refused": _refused(good, note),
        "addresses": [
            {"person": SPACE, "relay": relay, "text": format_address(address), "link": format_address_link(address)}
            for relay in ("", "https://relay.example.com", "http://relay.example.com:8080", "http://127.0.0.1:9000")
            for address in (PersonAddress(SPACE, relay),)
        ],
        "numbers": [
            {"ours": a, "theirs": b, "number": safety_number(a, b), "link": format_number_link(safety_number(a, b))}
            for a, b in ((ROOTS[0], ROOTS[1]), (ROOTS[1], ROOTS[0]), (ROOTS[0], ROOTS[2]))
        ],
    }  # fmt: skip


def _greatest() -> Said:
    return Said(kind=Kind.MESSAGE, type="t" * 128, body=b'"' + b"x" * 65_534 + b'"', reply=ID, heads=[bytes(16)] * 16)


def _seal(
    said: Said | list[Receipt], *, flags: int = 0, stream: int = 7, seq: int = 1, pair: KeyPair = KEY,
    priority: Priority = Priority.NORMAL, space: SpaceId = SPACE, secret: bytes = _SIGN_SECRET,
) -> Letter:  # fmt: skip
    header = LetterHeader(
        flags, space, TO, ID, SENDER, RECIPIENT, LogId(stream), seq, priority, NOW_MS, NOW_MS + 60_000, pair.key.id,
        NONCE,
    )  # fmt: skip
    return seal_letter(header, said, to=pair.key, sign_secret=secret, letter_key=LETTER_KEY, ephemeral_secret=EPHEMERAL)


def _case(name: str, said: Said | list[Receipt], sealed: Letter) -> dict[str, object]:
    h = sealed.header
    return {
        "name": name, "flags": h.flags, "id": h.id, "stream": str(h.stream), "seq": h.seq, "priority": int(h.priority),
        "created": h.created_ms, "expires": h.expires_ms, "key": h.key, "nonce": h.nonce,
        "content": msgspec.to_builtins(said, builtin_types=(bytes,)), "blob": sealed.blob,
        "hash": letter_hash(sealed.raw, msgspec.msgpack.encode(said)),
    }  # fmt: skip


def _changed(blob: bytes, at: int, value: bytes) -> bytes:
    return blob[:at] + value + blob[at + len(value) :]


def _flip(blob: bytes, at: int) -> bytes:
    return _changed(blob, at, bytes([blob[at] ^ 1]))


def _refused(good: Letter, note: Said) -> list[dict[str, object]]:
    blob, late = good.blob, (NOW_MS + 30 * 86_400_000 + 1).to_bytes(8, "big")
    _, stranger = crypto_sign_seed_keypair(bytes(range(33, 65)))
    cases: list[tuple[str, bytes, str]] = [
        ("empty", b"", "bad_frame"),
        ("truncated", blob[:-1], "bad_frame"),
        ("too long", blob + bytes(72_000), "bad_frame"),
        ("version 2", _changed(blob, 0, b"\x02"), "bad_frame"),
        ("unknown flag", _changed(blob, 1, b"\x04"), "bad_frame"),
        ("both flags", _changed(_changed(blob, 1, b"\x03"), 82, bytes(16)), "bad_frame"),
        ("a receipt with a number", _changed(blob, 1, b"\x01"), "bad_frame"),
        ("to its own person", _changed(blob, 18, SPACE), "bad_frame"),
        ("seq 0", _changed(blob, 90, bytes(8)), "bad_frame"),
        ("seq beyond 2^53 - 1", _changed(blob, 90, (2**53).to_bytes(8, "big")), "bad_frame"),
        ("priority 4", _changed(blob, 98, b"\x04"), "bad_frame"),
        ("ends before it begins", _changed(blob, 107, bytes(8)), "bad_frame"),
        ("lives too long", _changed(blob, 107, late), "bad_frame"),
        ("sender's space changed", _flip(blob, 2), "cannot_open"),
        ("id changed", _flip(blob, 34), "cannot_open"),
        ("sender changed", _flip(blob, 50), "cannot_open"),
        ("box changed", _flip(blob, 190), "cannot_open"),
        ("ciphertext changed", _flip(blob, 240), "cannot_open"),
        ("sealed to another key", _seal(note, pair=OTHER_KEY).blob, "cannot_open"),
        ("signed by another device", _seal(note, secret=stranger).blob, "bad_signature"),
        ("signature of another letter", _grafted(note), "bad_signature"),
    ]
    return [{"name": name, "bytes": data, "code": code} for name, data, code in cases]


def _grafted(note: Said) -> bytes:
    """What a recipient could try: the signed content of a letter, sealed again under another header."""
    raw_of_other = _seal(note, seq=2)
    content = msgspec.msgpack.encode(note)
    signature = crypto_sign(letter_hash(raw_of_other.raw, content), _SIGN_SECRET)[:64]
    good = _seal(note)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
        pad(signature + content), good.raw + good.box, NONCE, LETTER_KEY
    )
    return good.raw + good.box + sealed
