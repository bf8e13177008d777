"""Sealing and opening of batches: padding, compression, encryption, chain hash and signature.

The clear header, its parsing and the signature check that a relay also does are in `hybridgw_protocol/batch.py`; this
half needs the space key, so only devices have it. Nonces and keys are arguments. The order of a batch's life here is
body -> deflate (rarely skipped) -> length and padding -> XChaCha20-Poly1305 over the header -> hash -> Ed25519.
Source: protocol/SPEC.md, "Sealing"; padding after Nikitin et al. 2019, "Reducing Metadata Leakage from Encrypted Files
and Communication with PURBs" (Padmé).
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_sign,
)
from nacl.exceptions import CryptoError

from hybridgw_protocol.batch import FLAG_DEFLATED, FLAG_SECRET, Batch, batch_hash, encode_header
from hybridgw_protocol.errors import CannotOpen, TooBig
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId, blake2b, log_to_bytes
from hybridgw_protocol.limits import (
    BATCH_HEADER_BYTES,
    DEFLATE_FLOOR_BYTES,
    MAX_BATCH_BYTES,
    MAX_BODY_BYTES,
    PAD_FLOOR_BYTES,
    SIGNATURE_BYTES,
)

# 500 operations (70 KB): level 1 gives 24.2 KB in 0.38 ms, 5 gives 21.4 KB in 0.93 ms, 6 gives 21.1 KB in 1.6 ms; 100
# operations: 5.2 KB in 53 us, 4.76 KB in 90 us, 4.74 KB in 125 us. The bytes are paid on every hop and disk, the time
# once, by the author, off the path of a lone edit (below the floor nothing is deflated). Readers accept any level.
DEFLATE_LEVEL: Final = 5
_RAW: Final = -zlib.MAX_WBITS  # deflate without zlib's header and checksum: the tag does that work
_LENGTH: Final = struct.Struct(">I")
_TAG_BYTES: Final = 16
MAX_PLAINTEXT_BYTES: Final = MAX_BATCH_BYTES - BATCH_HEADER_BYTES - _TAG_BYTES - SIGNATURE_BYTES


def padme(size: int) -> int:
    """The size that *size* bytes are padded to: at most 12 % more, few distinct values. Args: size: 2 or more."""
    exponent = size.bit_length() - 1
    mask = (1 << max(0, exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def padded_size(content_bytes: int) -> int:
    """Plaintext size of a batch whose (perhaps deflated) body has so many bytes: length field, body, zeros."""
    return max(PAD_FLOOR_BYTES, padme(content_bytes + _LENGTH.size))


def batch_key(space_key: bytes, log: LogId) -> bytes:
    """The 32-byte key that seals the batches of one log under one space key; the space key itself seals nothing."""
    return blake2b(log_to_bytes(log), 32, "hgw-batch-key", space_key)


def seal_batch(
    body: bytes,
    *,
    space_key: bytes,
    kid: KeyId,
    sign_secret: bytes,
    space: SpaceId,
    device: DeviceId,
    log: LogId,
    n: int,
    prev: bytes,
    nonce: bytes,
    flags: int = 0,
) -> Batch:
    """A batch ready to be stored and pushed; its `hash` is the next one's `prev`.

    Args:
        body: encoded operations, at most MAX_BODY_BYTES.
        space_key: 32 bytes, the one that *kid* names.
        sign_secret: 64-byte libsodium secret key of *device*.
        prev: 32 bytes: hash of batch n-1, or the log's salt for n = 1.
        nonce: 24 fresh random bytes, never a counter (a restored machine would repeat it).
        flags: FLAG_SECRET (never deflated) and FLAG_BEAT; FLAG_DEFLATED is set here.

    Raises: TooBig: more than a batch holds; split the operations.
    """
    if len(body) > MAX_BODY_BYTES:
        raise TooBig(f"A batch body has at most {MAX_BODY_BYTES} bytes, this one {len(body)}.")
    flags &= ~FLAG_DEFLATED
    content = body
    # Sizes are visible to the relay, so a secret next to text that somebody else chose must not be deflated with it.
    if not flags & FLAG_SECRET and len(body) >= DEFLATE_FLOOR_BYTES:
        packer = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, _RAW)
        deflated = packer.compress(body) + packer.flush()
        if len(deflated) * 10 <= len(body) * 9:
            content, flags = deflated, flags | FLAG_DEFLATED
    if padded_size(len(content)) > MAX_PLAINTEXT_BYTES:
        raise TooBig(f"A sealed batch has at most {MAX_BATCH_BYTES} bytes; split the operations.")
    header = encode_header(flags=flags, space=space, device=device, log=log, n=n, kid=kid, prev=prev, nonce=nonce)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(pad(content), header, nonce, batch_key(space_key, log))
    unsigned = header + sealed
    digest = batch_hash(unsigned)
    blob = unsigned + crypto_sign(digest, sign_secret)[:SIGNATURE_BYTES]
    return Batch(flags, space, device, log, n, kid, prev, nonce, blob, digest)


def open_batch(batch: Batch, space_key: bytes) -> bytes:
    """The body of a batch whose signature, place and member were checked before.

    Raises: CannotOpen: another key, a changed byte, wrong padding, or deflate that is broken, trailed by more bytes or
        grows beyond MAX_BODY_BYTES. It is the same on every device, so nobody applies such a batch.
    """
    try:
        plaintext = crypto_aead_xchacha20poly1305_ietf_decrypt(
            batch.ciphertext, batch.header, batch.nonce, batch_key(space_key, batch.log)
        )
    except CryptoError as error:
        raise CannotOpen(f"Batch {batch.n} of log {batch.log} does not open with its space key.") from error
    content = unpad(plaintext)
    if not batch.flags & FLAG_DEFLATED:
        return content
    if batch.flags & FLAG_SECRET:
        raise CannotOpen("A batch of secret collections is never deflated.")
    return _inflate(content)


def pad(content: bytes) -> bytes:
    """Plaintext to encrypt: length field, content, zeros up to one of few sizes."""
    zeros = padded_size(len(content)) - _LENGTH.size - len(content)
    return b"".join((_LENGTH.pack(len(content)), content, bytes(zeros)))


def unpad(plaintext: bytes) -> bytes:
    """Inverse of pad. Raises: CannotOpen: another padding."""
    if len(plaintext) < _LENGTH.size:
        raise CannotOpen("What was sealed is too short to have a length.")
    (size,) = _LENGTH.unpack_from(plaintext)
    end = _LENGTH.size + size
    # One padding per length, and zeros only: a batch has no room for bytes that some readers see and others do not.
    if end > len(plaintext) or padded_size(size) != len(plaintext):
        raise CannotOpen(f"A body of {size} bytes is not padded to {len(plaintext)} bytes.")
    if plaintext.count(0, end) != len(plaintext) - end:
        raise CannotOpen("The padding of what was sealed is zeros.")
    return plaintext[_LENGTH.size : end]


def _inflate(deflated: bytes) -> bytes:
    unpacker = zlib.decompressobj(_RAW)
    try:
        body = unpacker.decompress(deflated, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise CannotOpen(f"The deflated body of a batch is broken: {error}") from error
    if len(body) > MAX_BODY_BYTES:
        raise CannotOpen(f"A batch body has at most {MAX_BODY_BYTES} bytes, this one inflates to more.")
    if not unpacker.eof or unpacker.unused_data:
        raise CannotOpen("The deflated body of a batch ends early, or bytes follow it.")
    return body
