"""Document ids that carry their time: UUID version 7 (RFC 9562), and what the floor of a collection does to them."""

from __future__ import annotations

from typing import Final

from hybridgw_protocol.ids import DocumentId

MAX_UUID7_MS: Final = 2**48 - 1


def new_uuid7(now_ms: int, entropy: bytes) -> bytes:
    """A fresh document id of 16 bytes that sorts by time.

    Args: now_ms: Unix milliseconds below 2^48; entropy: 10 random bytes, of which 74 bits are used.
    Raises: ValueError: wrong number of bytes, time out of range.
    """
    if len(entropy) != 10 or not 0 <= now_ms <= MAX_UUID7_MS:
        raise ValueError("A version 7 UUID needs 10 bytes of entropy and a time of 48 bits.")
    tail = bytes([0x70 | entropy[0] & 0x0F, entropy[1], 0x80 | entropy[2] & 0x3F])
    return now_ms.to_bytes(6, "big") + tail + entropy[3:]


def document_time_ms(document: DocumentId) -> int | None:
    """The time in a version 7 UUID, Unix milliseconds; None for every other id."""
    if isinstance(document, bytes) and len(document) == 16 and document[6] >> 4 == 7 and document[8] >> 6 == 2:
        return int.from_bytes(document[:6], "big")
    return None


def is_below_floor(document: DocumentId, floor_ms: int) -> bool:
    """Whether the floor of its collection took this document: operations on it are ignored, its row is dropped.

    Ids without a time are never below. Source: protocol/SPEC.md, "Merge".
    """
    time_ms = document_time_ms(document) if floor_ms > 0 else None
    return time_ms is not None and time_ms < floor_ms
