"""The clear part of a batch: header, chain hash and signature. The ciphertext is opaque here (the relay's view).

Layout (big endian), protocol/SPEC.md "Batches":
    0 version u8 | 1 flags u8 | 2 space 16 | 18 device 16 | 34 log i64 | 42 n u64 | 50 kid 8 | 58 prev 32 | 90 nonce 24
    114 ciphertext and 16-byte tag | last 64: Ed25519 over H = BLAKE2b-256(all bytes before it, "hgw-batch1")
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from .errors import BadFrame, BadSignature
from .ids import DeviceId, Digest, KeyId, LogId, SpaceId, blake2b, log_id
from .limits import (
    BATCH_HEADER_BYTES,
    BATCH_MIN_BYTES,
    BATCH_VERSION,
    MAX_BATCH_BYTES,
    SHORT_HASH_BYTES,
    SIGNATURE_BYTES,
)

FLAG_DEFLATED: Final = 1
FLAG_SECRET: Final = 2
FLAG_BEAT: Final = 4  # no operations: carries deps or control heads only
KNOWN_FLAGS: Final = FLAG_DEFLATED | FLAG_SECRET | FLAG_BEAT
MAX_N: Final = 2**53 - 1

_HEADER: Final = struct.Struct(">BB16s16sqQ8s32s24s")


class Batch(msgspec.Struct, frozen=True):
    """A parsed batch. `blob` is the whole of it; `hash` its H, the next batch's `prev`."""

    flags: int
    space: SpaceId
    device: DeviceId
    log: LogId
    n: int
    kid: KeyId
    prev: bytes
    nonce: bytes
    blob: bytes
    hash: Digest

    @property
    def header(self) -> bytes:
        """The 114 clear bytes: the associated data of the ciphertext."""
        return self.blob[:BATCH_HEADER_BYTES]

    @property
    def ciphertext(self) -> bytes:
        """Ciphertext with its tag."""
        return self.blob[BATCH_HEADER_BYTES:-SIGNATURE_BYTES]

    @property
    def signature(self) -> bytes:
        """Ed25519 over `hash`."""
        return self.blob[-SIGNATURE_BYTES:]


class Head(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The end of a log as somebody holds it: batch number and its whole hash (16 bytes of it on the wire)."""

    n: int
    hash: bytes

    @property
    def short(self) -> bytes:
        """The first 16 bytes of the hash, as vectors and deps carry it."""
        return self.hash[:SHORT_HASH_BYTES]


EMPTY_HEAD: Final = Head(0, b"")


def encode_header(
    *,
    flags: int,
    space: SpaceId,
    device: DeviceId,
    log: LogId,
    n: int,
    kid: KeyId,
    prev: bytes,
    nonce: bytes,
) -> bytes:
    """The 114 clear bytes of a batch about to be sealed."""
    return _HEADER.pack(BATCH_VERSION, flags, space, device, log, n, kid, prev, nonce)


def batch_hash(unsigned: bytes) -> Digest:
    """H over header and ciphertext: what is signed and what the next batch names as `prev`."""
    return Digest(blake2b(unsigned, 32, "hgw-batch1"))


def parse_batch(blob: bytes) -> Batch:
    """Read the clear part and check everything that needs no key.

    Raises: BadFrame: size, version, flags, n out of range, or batch 1 of a log that is not its device's.
    """
    if not BATCH_MIN_BYTES <= len(blob) <= MAX_BATCH_BYTES:
        raise BadFrame(f"A batch has {BATCH_MIN_BYTES} to {MAX_BATCH_BYTES} bytes, this one {len(blob)}.")
    version, flags, space, device, log, n, kid, prev, nonce = _HEADER.unpack_from(blob)
    if version != BATCH_VERSION:
        raise BadFrame(f"Batch version {version} is not known here; a newer program wrote it.")
    if flags & ~KNOWN_FLAGS:
        raise BadFrame(f"Batch flags {flags:#x} are not known here.")
    if not 1 <= n <= MAX_N:
        raise BadFrame(f"Batch number {n} is out of range.")
    if n == 1 and log_id(DeviceId(device), prev) != log:
        raise BadFrame("The first batch of a log does not prove that the log is its device's.")
    return Batch(
        flags, SpaceId(space), DeviceId(device), LogId(log), n, KeyId(kid), prev, nonce, blob,
        batch_hash(blob[:-SIGNATURE_BYTES]),
    )  # fmt: skip


def verify_batch(batch: Batch, sign_public: bytes) -> None:
    """Check the signature with the public key of the device that membership names for `batch.device`.

    Raises: BadSignature.
    """
    try:
        crypto_sign_open(batch.signature + batch.hash, sign_public)
    except (BadSignatureError, ValueError) as error:
        raise BadSignature(f"Batch {batch.n} of log {batch.log} is not signed by its device.") from error
