"""The clear part of an envelope, a sealed message to one device: header, hash and signature (the relay's view).

Layout (big endian), protocol/SPEC.md "Messages":
    0 version u8 | 1 flags u8 | 2 space 16 | 18 id 16 | 34 sender 16 | 50 recipient 16 | 66 stream i64 | 74 seq u64
    82 priority u8 | 83 created u64 | 91 expires u64 | 99 kid 8 | 107 nonce 24
    131 ciphertext and 16-byte tag | last 64: Ed25519 over H
    H = BLAKE2b-256(header ‖ BLAKE2b-256(ciphertext, "hgw-msg-ct"), "hgw-msg-1")
A tombstone is the header, the hash of the ciphertext and the signature: what is left when the time was over.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from .errors import BadFrame, BadSignature
from .ids import DeviceId, KeyId, LogId, SpaceId, blake2b
from .limits import (
    ENVELOPE_HEADER_BYTES,
    ENVELOPE_MIN_BYTES,
    ENVELOPE_VERSION,
    MAX_ENVELOPE_BYTES,
    MAX_INT,
    MAX_MESSAGE_TTL_MS,
    SIGNATURE_BYTES,
    TOMBSTONE_BYTES,
)
from .messages import Priority

FLAG_RECEIPT: Final = 1  # says what became of messages; has no place in a stream and is never acknowledged itself
FLAG_PRESENCE: Final = 2  # says who is here; no place in a stream either, never acknowledged, and kept by no relay
KNOWN_FLAGS: Final = (0, FLAG_RECEIPT, FLAG_PRESENCE)

_HEADER: Final = struct.Struct(">BB16s16s16s16sqQBQQ8s24s")
_PARTS: Final = ENVELOPE_HEADER_BYTES


class Addressed:
    """A header that tells from which device to which, of an envelope or of a letter."""

    __slots__ = ()
    id: bytes
    sender: DeviceId
    recipient: DeviceId

    @property
    def sender_key(self) -> bytes:
        """Names it at its recipient: sender and id."""
        return self.sender + self.id

    @property
    def recipient_key(self) -> bytes:
        """Names it at its sender: recipient and id."""
        return self.recipient + self.id


class EnvelopeHeader(Addressed, msgspec.Struct, frozen=True):
    """What everybody may read. stream: log id of the sender; seq: from 1, per recipient, stream and priority."""

    flags: int
    space: SpaceId
    id: bytes
    sender: DeviceId
    recipient: DeviceId
    stream: LogId
    seq: int
    priority: Priority
    created_ms: int
    expires_ms: int
    kid: KeyId
    nonce: bytes

    @property
    def is_receipt(self) -> bool:
        """Does it tell of other messages."""
        return bool(self.flags & FLAG_RECEIPT)

    @property
    def is_presence(self) -> bool:
        """Does it tell which programs are at the sender."""
        return bool(self.flags & FLAG_PRESENCE)


class Envelope(msgspec.Struct, frozen=True):
    """A parsed envelope or tombstone. raw: the header's bytes; ciphertext: None for a tombstone."""

    header: EnvelopeHeader
    raw: bytes
    ciphertext: bytes | None
    ciphertext_hash: bytes
    signature: bytes

    @property
    def blob(self) -> bytes:
        """All of it."""
        return self.raw + (self.ciphertext_hash if self.ciphertext is None else self.ciphertext) + self.signature

    @property
    def tombstone(self) -> bytes:
        """What stays when its time is over."""
        return self.raw + self.ciphertext_hash + self.signature


def encode_envelope_header(header: EnvelopeHeader) -> bytes:
    """The 131 clear bytes: the associated data of the ciphertext."""
    return _HEADER.pack(
        ENVELOPE_VERSION, header.flags, header.space, header.id, header.sender, header.recipient, header.stream,
        header.seq, header.priority, header.created_ms, header.expires_ms, header.kid, header.nonce,
    )  # fmt: skip


def hash_ciphertext(ciphertext: bytes) -> bytes:
    """What the signature covers of the sealed part, so that it can be checked without it."""
    return blake2b(ciphertext, 32, "hgw-msg-ct")


def envelope_hash(raw_header: bytes, ciphertext_hash: bytes) -> bytes:
    """H: what the sender's device signs."""
    return blake2b(raw_header + ciphertext_hash, 32, "hgw-msg-1")


def parse_envelope(blob: bytes) -> Envelope:
    """Read the clear part and check everything that needs no key. Raises: BadFrame: size, version or a field."""
    if not ENVELOPE_MIN_BYTES <= len(blob) <= MAX_ENVELOPE_BYTES:
        raise BadFrame(f"An envelope has {ENVELOPE_MIN_BYTES} to {MAX_ENVELOPE_BYTES} bytes, this one {len(blob)}.")
    ciphertext = blob[_PARTS:-SIGNATURE_BYTES]
    return Envelope(_read_header(blob), blob[:_PARTS], ciphertext, hash_ciphertext(ciphertext), blob[-SIGNATURE_BYTES:])


def parse_tombstone(blob: bytes) -> Envelope:
    """The same for a tombstone. Raises: BadFrame."""
    if len(blob) != TOMBSTONE_BYTES:
        raise BadFrame(f"A tombstone has {TOMBSTONE_BYTES} bytes, this one {len(blob)}.")
    return Envelope(_read_header(blob), blob[:_PARTS], None, blob[_PARTS:-SIGNATURE_BYTES], blob[-SIGNATURE_BYTES:])


def verify_envelope(envelope: Envelope, sign_public: bytes) -> None:
    """Check the signature with the public key that membership names for the sender. Raises: BadSignature."""
    digest = envelope_hash(envelope.raw, envelope.ciphertext_hash)
    try:
        crypto_sign_open(envelope.signature + digest, sign_public)
    except (BadSignatureError, ValueError) as error:
        raise BadSignature("A message is not signed by the device that it names as its sender.") from error


def _read_header(blob: bytes) -> EnvelopeHeader:
    (version, flags, space, mid, sender, recipient, stream, seq, priority, created, expires, kid, nonce) = (
        _HEADER.unpack_from(blob)
    )
    if version != ENVELOPE_VERSION:
        raise BadFrame(f"Envelope version {version} is not known here; a newer program wrote it.")
    if flags not in KNOWN_FLAGS:
        raise BadFrame(f"Envelope flags {flags:#x} are not known here.")
    if priority > Priority.URGENT:
        raise BadFrame(f"Priority {priority} is not known.")
    if flags:
        if seq or stream:
            raise BadFrame("What tells of messages or programs has no place in a stream.")
    elif not 1 <= seq <= MAX_INT:
        raise BadFrame(f"Message number {seq} is out of range.")
    if not 0 <= created < expires <= created + MAX_MESSAGE_TTL_MS or expires > MAX_INT:
        raise BadFrame(f"A message lives up to {MAX_MESSAGE_TTL_MS} ms from its creation.")
    if sender == recipient:
        raise BadFrame("A message to its own device does not travel.")
    return EnvelopeHeader(
        flags, SpaceId(space), mid, DeviceId(sender), DeviceId(recipient), LogId(stream), seq, Priority(priority),
        created, expires, KeyId(kid), nonce,
    )  # fmt: skip
