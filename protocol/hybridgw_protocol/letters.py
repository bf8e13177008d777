"""The clear part of a letter, a message sealed to one device of another person: what a relay reads of it.

Layout (big endian), protocol/SPEC.md "People":
    0 version u8 | 1 flags u8 | 2 from space 16 | 18 to space 16 | 34 id 16 | 50 sender 16 | 66 recipient 16
    82 stream i64 | 90 seq u64 | 98 priority u8 | 99 created u64 | 107 expires u64 | 115 message key id 8 | 123 nonce 24
    147 sealed box of the letter's key 80 | 227 ciphertext and 16-byte tag
The signature of the sender's device is inside the ciphertext: a relay, and who gets hold of its disk, cannot prove who
wrote what.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from .envelope import Addressed
from .errors import BadFrame
from .ids import DeviceId, LogId, SpaceId, blake2b
from .limits import (
    LETTER_BOX_BYTES,
    LETTER_HEADER_BYTES,
    LETTER_MIN_BYTES,
    LETTER_VERSION,
    MAX_INT,
    MAX_LETTER_BYTES,
    MAX_MESSAGE_TTL_MS,
)
from .messages import Priority

FLAG_RECEIPT: Final = 1  # says what became of letters
FLAG_CONTACT: Final = 2  # asks to be a contact, or agrees; a relay takes few of these
KNOWN_FLAGS: Final = FLAG_RECEIPT | FLAG_CONTACT

_HEADER: Final = struct.Struct(">BB16s16s16s16s16sqQBQQ8s24s")


class LetterHeader(Addressed, msgspec.Struct, frozen=True):
    """What a relay reads. space, to: of the sender and of the recipient; stream: log id of the sender; seq: from 1, per
    recipient, stream and priority, 0 in what has no place in a stream; key: names the message key it is sealed to."""

    flags: int
    space: SpaceId
    to: SpaceId
    id: bytes
    sender: DeviceId
    recipient: DeviceId
    stream: LogId
    seq: int
    priority: Priority
    created_ms: int
    expires_ms: int
    key: bytes
    nonce: bytes

    @property
    def is_receipt(self) -> bool:
        """Does it tell of other letters."""
        return bool(self.flags & FLAG_RECEIPT)

    @property
    def is_contact(self) -> bool:
        """Is it about being contacts."""
        return bool(self.flags & FLAG_CONTACT)


class Letter(msgspec.Struct, frozen=True):
    """A parsed letter. raw: the header's bytes; box: the letter's key, sealed; blob: all of it."""

    header: LetterHeader
    raw: bytes
    box: bytes
    ciphertext: bytes

    @property
    def blob(self) -> bytes:
        """All of it."""
        return self.raw + self.box + self.ciphertext


def encode_letter_header(header: LetterHeader) -> bytes:
    """The 147 clear bytes; with the box they are the associated data of the ciphertext."""
    return _HEADER.pack(
        LETTER_VERSION, header.flags, header.space, header.to, header.id, header.sender, header.recipient,
        header.stream, header.seq, header.priority, header.created_ms, header.expires_ms, header.key, header.nonce,
    )  # fmt: skip


def letter_hash(raw_header: bytes, content: bytes) -> bytes:
    """What the sender's device signs: from whom to whom, when, to which key, and what is said."""
    return blake2b(raw_header + content, 32, "hgw-letter")


def parse_letter(blob: bytes) -> Letter:
    """Read the clear part and check everything that needs no key. Raises: BadFrame: size, version or a field."""
    if not LETTER_MIN_BYTES <= len(blob) <= MAX_LETTER_BYTES:
        raise BadFrame(f"A letter has {LETTER_MIN_BYTES} to {MAX_LETTER_BYTES} bytes, this one {len(blob)}.")
    (version, flags, space, to, mid, sender, recipient, stream, seq, priority, created, expires, key, nonce) = (
        _HEADER.unpack_from(blob)
    )
    if version != LETTER_VERSION:
        raise BadFrame(f"Letter version {version} is not known here; a newer program wrote it.")
    if flags & ~KNOWN_FLAGS or flags == KNOWN_FLAGS:
        raise BadFrame(f"Letter flags {flags:#x} are not known here.")
    if priority > Priority.URGENT:
        raise BadFrame(f"Priority {priority} is not known.")
    if flags:
        if seq or stream:
            raise BadFrame("A receipt, or a letter about contacts, has no place in a stream.")
    elif not 1 <= seq <= MAX_INT:
        raise BadFrame(f"Letter number {seq} is out of range.")
    if not 0 <= created < expires <= created + MAX_MESSAGE_TTL_MS or expires > MAX_INT:
        raise BadFrame(f"A letter lives up to {MAX_MESSAGE_TTL_MS} ms from its creation.")
    if space == to:
        raise BadFrame("A letter goes to another person; devices of one person send each other messages.")
    header = LetterHeader(
        flags, SpaceId(space), SpaceId(to), mid, DeviceId(sender), DeviceId(recipient), LogId(stream), seq,
        Priority(priority), created, expires, key, nonce,
    )  # fmt: skip
    at = LETTER_HEADER_BYTES + LETTER_BOX_BYTES
    return Letter(header, blob[:LETTER_HEADER_BYTES], blob[LETTER_HEADER_BYTES:at], blob[at:])
