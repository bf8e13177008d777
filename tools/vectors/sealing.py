"""Golden bytes of sealed batches, of padding and of sealing at rest."""

from __future__ import annotations

import struct
from typing import Final

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_sign, crypto_sign_seed_keypair

from hybridgw_daemon.core.rest import Purpose, RestSealer, key_check
from hybridgw_daemon.core.sealing import batch_key, padded_size, padme, seal_batch
from hybridgw_protocol.batch import FLAG_BEAT, FLAG_DEFLATED, FLAG_SECRET, Batch, batch_hash, encode_header
from hybridgw_protocol.ids import SpaceId, device_id, key_id, log_id, log_to_bytes
from hybridgw_protocol.limits import BATCH_HEADER_BYTES, SIGNATURE_BYTES

SPACE_KEY: Final = bytes(range(32))
SIGN_SEED: Final = bytes(range(32, 64))
SIGN_PUBLIC, _SIGN_SECRET = crypto_sign_seed_keypair(SIGN_SEED)
EXCHANGE_PUBLIC: Final = bytes(range(64, 96))
SALT: Final = bytes(range(96, 128))
SPACE: Final = SpaceId(bytes(range(128, 144)))
NONCE: Final = bytes(range(144, 168))
DEVICE: Final = device_id(SIGN_PUBLIC, EXCHANGE_PUBLIC)
LOG: Final = log_id(DEVICE, SALT)
KID: Final = key_id(SPACE_KEY)
KEK: Final = bytes(range(168, 200))

_TEXT: Final = b"The same words again and again. " * 20
# A raw deflate stream of _TEXT. Written down, because libraries and versions may each make another one that is as good.
_STREAM: Final = bytes.fromhex("0bc94855284ecc4d5528cf2f4a2956484c4fcccc5348cc4b81b0f4144246e547e569280f00")


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    first = _seal(b"\x80", 1, SALT)
    return {
        "about": 'Sealed batches, padding and values sealed at rest; protocol/SPEC.md, "Batches" and "Sealing". Every '
        "blob here is signed by sign_public and sealed under space_key unless the case says otherwise. log and n are "
        "in the header, log as 8 bytes. Deflate is compared by inflating, never by bytes.",
        "keys": {
            "space_key": SPACE_KEY,
            "kid": KID,
            "sign_seed": SIGN_SEED,
            "sign_public": SIGN_PUBLIC,
            "exchange_public": EXCHANGE_PUBLIC,
            "device": DEVICE,
            "space": SPACE,
            "salt": SALT,
            "log": log_to_bytes(LOG),
            "batch_key": batch_key(SPACE_KEY, LOG),
        },
        "padme": [[size, padme(size)] for size in (2, 3, 9, 255, 256, 257, 272, 273, 1000, 4097, 65_540, 261_886)],
        "padded_size": [[size, padded_size(size)] for size in (1, 252, 253, 268, 269, 1020, 1021, 65_536)],
        "cases": [
            _case("smallest body", b"\x80", first),
            _case("largest body of the smallest batch", bytes(252), _seal(bytes(252), 1, SALT)),
            _case("one byte more", bytes(253), _seal(bytes(253), 1, SALT)),
            _case("second batch of the log", b"\x81\xa1c\xc0", _seal(b"\x81\xa1c\xc0", 2, first.hash)),
            _case("secret, long and not deflated", _TEXT, _seal(_TEXT, 3, first.hash, FLAG_SECRET)),
            _case("beat", b"\x80", _seal(b"\x80", 4, first.hash, FLAG_BEAT)),
            _deflated("deflated"),
        ],
        "refused": _refused(first),
        "at_rest": _at_rest(),
    }


def _seal(body: bytes, n: int, prev: bytes, flags: int = 0) -> Batch:
    return seal_batch(
        body, space_key=SPACE_KEY, kid=KID, sign_secret=_SIGN_SECRET, space=SPACE, device=DEVICE, log=LOG, n=n,
        prev=prev, nonce=NONCE, flags=flags,
    )  # fmt: skip


def _case(name: str, body: bytes, batch: Batch) -> dict[str, object]:
    return {
        "name": name, "body": body, "flags": batch.flags, "n": batch.n, "prev": batch.prev, "nonce": batch.nonce,
        "header": batch.header, "blob": batch.blob, "hash": batch.hash,
    }  # fmt: skip


def _deflated(name: str) -> dict[str, object]:
    blob = _forge(_pad(_STREAM), FLAG_DEFLATED)
    return {
        "name": name, "body": _TEXT, "deflated": _STREAM, "flags": FLAG_DEFLATED, "n": 1, "prev": SALT,
        "nonce": NONCE, "header": blob[:BATCH_HEADER_BYTES], "blob": blob, "hash": batch_hash(blob[:-SIGNATURE_BYTES]),
    }  # fmt: skip


def _pad(content: bytes, size: int | None = None, declared: int | None = None) -> bytes:
    size = padded_size(len(content)) if size is None else size
    length = struct.pack(">I", len(content) if declared is None else declared)
    return length + content + bytes(size - 4 - len(content))


def _forge(plaintext: bytes, flags: int = 0, key: bytes = SPACE_KEY) -> bytes:
    """A batch with a right signature and any plaintext."""
    header = encode_header(
        flags=flags, space=SPACE, device=DEVICE, log=LOG, n=1, kid=key_id(key), prev=SALT, nonce=NONCE
    )
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, header, NONCE, batch_key(key, LOG))
    return _signed(header + sealed)


def _signed(unsigned: bytes) -> bytes:
    return unsigned + crypto_sign(batch_hash(unsigned), _SIGN_SECRET)[:SIGNATURE_BYTES]


def _flip(blob: bytes, at: int) -> bytes:
    changed = bytearray(blob)
    changed[at] ^= 1
    return bytes(changed)


def _refused(good: Batch) -> list[dict[str, object]]:
    blob = good.blob
    endless = b"\x00\xff\xff\x00\x00" + bytes(65_535)  # one stored block of 64 KiB, not the last one of its stream
    cases: list[tuple[str, bytes, str]] = [
        ("truncated", blob[:-1], "bad_frame"),
        ("empty", b"", "bad_frame"),
        ("version 2", b"\x02" + blob[1:], "bad_frame"),
        ("unknown flag", blob[:1] + b"\x08" + blob[2:], "bad_frame"),
        ("n = 0", blob[:42] + bytes(8) + blob[50:], "bad_frame"),
        ("n beyond 2^53 - 1", blob[:42] + (2**53).to_bytes(8, "big") + blob[50:], "bad_frame"),
        ("log is not its device's", _flip(blob, 41), "bad_frame"),
        ("salt of another log", _flip(blob, 60), "bad_frame"),
        ("space changed", _flip(blob, 2), "bad_signature"),
        ("nonce changed", _flip(blob, 113), "bad_signature"),
        ("ciphertext changed", _flip(blob, 200), "bad_signature"),
        ("signature changed", _flip(blob, len(blob) - 1), "bad_signature"),
        ("a byte after the signature", blob + b"\0", "bad_signature"),
        ("space changed and signed again", _signed(_flip(blob, 2)[:-SIGNATURE_BYTES]), "cannot_open"),
        ("ciphertext changed and signed again", _signed(_flip(blob, 200)[:-SIGNATURE_BYTES]), "cannot_open"),
        ("sealed under another key", _forge(_pad(b"\x80"), key=bytes(32)), "cannot_open"),
        ("padding not zero", _forge(_pad(b"\x80")[:-1] + b"\x01"), "cannot_open"),
        ("padded too far", _forge(_pad(b"\x80", 272)), "cannot_open"),
        ("declared length too small for the padding", _forge(_pad(bytes(300), declared=100)), "cannot_open"),
        ("declared length beyond the end", _forge(_pad(b"\x80", declared=253)), "cannot_open"),
        ("deflate followed by a byte", _forge(_pad(_STREAM + b"\0"), FLAG_DEFLATED), "cannot_open"),
        ("deflate cut", _forge(_pad(_STREAM[:-2]), FLAG_DEFLATED), "cannot_open"),
        ("deflate without an end", _forge(_pad(endless[:300]), FLAG_DEFLATED), "cannot_open"),
        ("not deflate", _forge(_pad(b"\xff" * 40), FLAG_DEFLATED), "cannot_open"),
        ("deflate with the header of zlib", _forge(_pad(b"\x78\xda" + _STREAM), FLAG_DEFLATED), "cannot_open"),
        ("secret and deflated", _forge(_pad(_STREAM), FLAG_DEFLATED | FLAG_SECRET), "cannot_open"),
    ]
    return [{"name": name, "bytes": data, "code": code} for name, data, code in cases]


def _at_rest() -> dict[str, object]:
    sealer = RestSealer(KEK)
    rows: list[tuple[Purpose, tuple[bytes | int | str, ...], bytes]] = [
        (Purpose.DEVICE_SEED, (), bytes(range(64))),
        (Purpose.SPACE_KEY, (KID,), SPACE_KEY),
        (Purpose.SECRET_BODY, (3, "theme"), b'{"dark":true}'),
        (Purpose.SECRET_BODY, (3, bytes(16)), b""),
    ]
    cases = [
        {"purpose": str(purpose), "row": list(row), "plaintext": plaintext, "nonce": NONCE,
         "sealed": sealer.seal(purpose, row, plaintext, NONCE)}
        for purpose, row, plaintext in rows
    ]  # fmt: skip
    return {"kek": KEK, "check": key_check(KEK), "cases": cases}
