"""Golden bytes of envelopes, of tombstones and of receipts."""

from __future__ import annotations

from typing import Final

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from hybridgw_daemon.core.envelopes import Content, Here, Presence, Receipt, content_digest, message_key, seal_message
from hybridgw_protocol.envelope import (
    FLAG_PRESENCE,
    FLAG_RECEIPT,
    Envelope,
    EnvelopeHeader,
    envelope_hash,
    hash_ciphertext,
)
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId, device_id, key_id
from hybridgw_protocol.limits import SIGNATURE_BYTES
from hybridgw_protocol.messages import MessageState, Priority

SPACE_KEY: Final = bytes(range(32))
SIGN_SEED: Final = bytes(range(32, 64))
SIGN_PUBLIC, _SIGN_SECRET = crypto_sign_seed_keypair(SIGN_SEED)
SENDER: Final = device_id(SIGN_PUBLIC, bytes(range(64, 96)))
RECIPIENT: Final = DeviceId(bytes(range(96, 112)))
SPACE: Final = SpaceId(bytes(range(112, 128)))
ID: Final = bytes(range(128, 144))
NONCE: Final = bytes(range(144, 168))
NOW_MS: Final = 1_800_000_000_000


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    note = Content(kind="all", type="note", body=b'"buy milk"')
    whole = Content(kind="client", name="tabs", type="tab.open", body=b'{"url":"https://example.com"}',
                    client="browser_extension/one", reply=bytes(16))  # fmt: skip
    receipts = [Receipt(ID, MessageState.DELIVERED, NOW_MS), Receipt(bytes(16), MessageState.HANDLED, NOW_MS + 1)]
    programs = [Here("web_app/tabs", "Tabs", ["news"], True, NOW_MS), Here("local_install/a", "", [], False, 1)]
    here = Presence(NOW_MS, True, programs)
    good = _seal(note)
    return {
        "about": 'Envelopes, tombstones, receipts and presence; protocol/SPEC.md, "Messages". All are signed by '
        "sign_public and sealed under space_key. The stream is text, for it has 64 bits.",
        "keys": {
            "space_key": SPACE_KEY, "sign_seed": SIGN_SEED, "sign_public": SIGN_PUBLIC, "sender": SENDER,
            "recipient": RECIPIENT, "space": SPACE, "message_key": message_key(SPACE_KEY, SENDER, RECIPIENT),
        },
        "cases": [
            _case("a note for everybody", note, good),
            _case("all keys", whole, _seal(whole, stream=-5, seq=2**53 - 1, priority=Priority.URGENT)),
            _case("greatest body", _greatest(), _seal(_greatest(), priority=Priority.BULK)),
            _case("receipts", receipts, _seal(receipts, flags=FLAG_RECEIPT, seq=0, stream=0)),
            _case("presence", here, _seal(here, flags=FLAG_PRESENCE, seq=0, stream=0)),
        ],
        "digests": [{"content": _shown(content), "digest": content_digest(content)} for content in (note, whole)],
        "refused": _refused(good),
    }  # fmt: skip


def _greatest() -> Content:
    return Content(kind="topic", name="n" * 128, type="t" * 128, body=b'"' + b"x" * 65_534 + b'"', client="c" * 128,
                   reply=ID)  # fmt: skip


def _seal(
    content: Content | list[Receipt] | Presence, *, flags: int = 0, stream: int = 7, seq: int = 1,
    priority: Priority = Priority.NORMAL,
) -> Envelope:  # fmt: skip
    header = EnvelopeHeader(
        flags, SPACE, ID, SENDER, RECIPIENT, LogId(stream), seq, priority, NOW_MS, NOW_MS + 60_000,
        key_id(SPACE_KEY), NONCE,
    )  # fmt: skip
    return seal_message(header, content, space_key=SPACE_KEY, sign_secret=_SIGN_SECRET)


def _shown(content: Content | list[Receipt] | Presence) -> object:
    return msgspec.to_builtins(content, builtin_types=(bytes,))


def _case(name: str, content: Content | list[Receipt] | Presence, sealed: Envelope) -> dict[str, object]:
    h = sealed.header
    return {
        "name": name, "flags": h.flags, "id": h.id, "stream": str(h.stream), "seq": h.seq, "priority": int(h.priority),
        "created": h.created_ms, "expires": h.expires_ms, "nonce": h.nonce, "content": _shown(content),
        "blob": sealed.blob, "tombstone": sealed.tombstone, "hash": envelope_hash(sealed.raw, sealed.ciphertext_hash),
    }  # fmt: skip


def _changed(blob: bytes, at: int, value: bytes) -> bytes:
    return blob[:at] + value + blob[at + len(value) :]


def _flip(blob: bytes, at: int) -> bytes:
    return _changed(blob, at, bytes([blob[at] ^ 1]))


def _signed_again(blob: bytes) -> bytes:
    digest = envelope_hash(blob[:131], hash_ciphertext(blob[131:-SIGNATURE_BYTES]))
    return blob[:-SIGNATURE_BYTES] + crypto_sign(digest, _SIGN_SECRET)[:SIGNATURE_BYTES]


def _refused(good: Envelope) -> list[dict[str, object]]:
    blob, late = good.blob, (NOW_MS + 30 * 86_400_000 + 1).to_bytes(8, "big")
    cases: list[tuple[str, bytes, str]] = [
        ("empty", b"", "bad_frame"),
        ("truncated", blob[:-1], "bad_frame"),
        ("too long", blob + bytes(70_000), "bad_frame"),
        ("version 2", _changed(blob, 0, b"\x02"), "bad_frame"),
        ("unknown flag", _changed(blob, 1, b"\x04"), "bad_frame"),
        ("two flags", _changed(_changed(blob, 1, b"\x03"), 66, bytes(16)), "bad_frame"),
        ("presence with a number", _changed(blob, 1, b"\x02"), "bad_frame"),
        ("a receipt with a number", _changed(blob, 1, b"\x01"), "bad_frame"),
        ("to its own sender", _changed(blob, 50, SENDER), "bad_frame"),
        ("seq 0", _changed(blob, 74, bytes(8)), "bad_frame"),
        ("seq beyond 2^53 - 1", _changed(blob, 74, (2**53).to_bytes(8, "big")), "bad_frame"),
        ("priority 4", _changed(blob, 82, b"\x04"), "bad_frame"),
        ("ends before it begins", _changed(blob, 91, bytes(8)), "bad_frame"),
        ("lives too long", _changed(blob, 91, late), "bad_frame"),
        ("space changed", _flip(blob, 2), "bad_signature"),
        ("id changed", _flip(blob, 18), "bad_signature"),
        ("nonce changed", _flip(blob, 130), "bad_signature"),
        ("ciphertext changed", _flip(blob, 200), "bad_signature"),
        ("signature changed", _flip(blob, len(blob) - 1), "bad_signature"),
        ("a byte after the signature", blob + b"\0", "bad_signature"),
        ("id changed and signed again", _signed_again(_flip(blob, 18)), "cannot_open"),
        ("ciphertext changed and signed again", _signed_again(_flip(blob, 200)), "cannot_open"),
    ]
    return [{"name": name, "bytes": data, "code": code} for name, data, code in cases]
