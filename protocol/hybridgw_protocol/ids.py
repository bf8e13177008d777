"""Identifiers: what each names, how it is derived, how people see it.

All derivations are BLAKE2b (RFC 7693) with a `person` string of at most 16 bytes that separates the domains; the list
of person strings in use stands in protocol/SPEC.md, "Hashes".
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from .errors import BadValue
from .limits import MAX_COLLECTION_BYTES, MAX_DOCUMENT_ID_BYTES, MAX_FIELD_NAME_BYTES

SpaceId = NewType("SpaceId", bytes)  # 16 bytes; in v1 also the principal of its owner
DeviceId = NewType("DeviceId", bytes)  # 16 bytes
LogId = NewType("LogId", int)  # signed 64 bit; compared as a signed integer everywhere
KeyId = NewType("KeyId", bytes)  # 8 bytes; names a space key (an epoch)
Digest = NewType("Digest", bytes)  # 32 bytes: BLAKE2b-256 of a batch or a control record
DocumentId = bytes | str  # 16 bytes for a UUID, text for everything else

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
_COLLECTION = re.compile(r"[a-z][a-z0-9_.-]*")


def blake2b(data: bytes, size: int, person: str, key: bytes = b"") -> bytes:
    """BLAKE2b with a domain. Args: size: digest bytes, 1 to 64; key: up to 64 bytes. Source: RFC 7693."""
    return hashlib.blake2b(data, digest_size=size, person=person.encode(), key=key).digest()


def space_id(root_public: bytes) -> SpaceId:
    """The id of the space whose root key this is. Args: root_public: 32 bytes Ed25519."""
    return SpaceId(blake2b(root_public, 16, "hgw-uid"))


def device_id(sign_public: bytes, exchange_public: bytes) -> DeviceId:
    """Binds both public keys of a device. Args: 32 bytes Ed25519, 32 bytes X25519."""
    return DeviceId(blake2b(sign_public + exchange_public, 16, "hgw-dev"))


def log_id(device: DeviceId, salt: bytes) -> LogId:
    """The log that *device* opened with *salt* (32 random bytes, carried as `prev` of batch 1).

    Nobody else can claim it: the id is checked against device and salt wherever batch 1 is accepted.
    """
    return LogId(int.from_bytes(blake2b(device + salt, 8, "hgw-log"), "big", signed=True))


def log_to_bytes(log: LogId) -> bytes:
    """8 bytes, big endian, two's complement."""
    return log.to_bytes(8, "big", signed=True)


def log_from_bytes(raw: bytes) -> LogId:
    """Inverse of log_to_bytes."""
    return LogId(int.from_bytes(raw, "big", signed=True))


def key_id(space_key: bytes) -> KeyId:
    """Names a 32-byte space key without telling anything else about it."""
    return KeyId(blake2b(space_key, 8, "hgw-kid"))


def parse_document_id(text: str) -> DocumentId:
    """From what a person or program typed: a lower-case UUID becomes 16 bytes, all else stays text.

    Raises: BadValue: empty, longer than 64 UTF-8 bytes, with control characters or lone surrogates.
    """
    if _UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))
    check_document_id(text)
    return text


def format_document_id(document: DocumentId) -> str:
    """Inverse of parse_document_id."""
    if isinstance(document, str):
        return document
    h = document.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def check_document_id(document: object) -> None:
    """Raise BadValue unless *document* is a document id in its one valid form (a UUID never as text)."""
    if isinstance(document, bytes):
        if len(document) != 16:
            raise BadValue("A binary document id has 16 bytes.")
        return
    if not isinstance(document, str):
        raise BadValue("A document id is text or a UUID.")
    _check_text(document, MAX_DOCUMENT_ID_BYTES, "document id")
    if _UUID.fullmatch(document):
        raise BadValue("A UUID document id is written in its binary form.")


def check_collection(name: object) -> None:
    """Raise BadValue unless *name* is a collection name: a-z first, then a-z 0-9 _ . -, at most 64 bytes."""
    if not isinstance(name, str) or len(name) > MAX_COLLECTION_BYTES or not _COLLECTION.fullmatch(name):
        raise BadValue(
            "A collection name starts with a letter a-z and has only a-z, 0-9, '_', '.' and '-', "
            f"at most {MAX_COLLECTION_BYTES} characters."
        )


def check_topic(name: str, what: str = "topic") -> str:
    """Raise BadValue unless *name* is a topic: 1 to 128 of `A-Z a-z 0-9 . _ - / :`, a letter or digit first.

    Args: what: it is called; the type of a message has the same form.
    """
    if not _TOPIC.fullmatch(name):
        raise BadValue(
            f"A {what} is 1 to 128 of the characters A-Z a-z 0-9 . _ - / :, of which the first is a letter or digit.",
            field=what,
        )
    return name


def check_field(name: object) -> None:
    """Raise BadValue unless *name* is a field name: 1 to 128 UTF-8 bytes without control characters."""
    if not isinstance(name, str):
        raise BadValue("A field name is text.")
    _check_text(name, MAX_FIELD_NAME_BYTES, "field name")


def _check_text(text: str, max_bytes: int, what: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadValue(f"The {what} has a lone surrogate, which is not valid text.") from None
    if not 1 <= size <= max_bytes:
        raise BadValue(f"A {what} has 1 to {max_bytes} bytes of UTF-8, this one {size}.")
    if any(ch < " " or ch == "\x7f" for ch in text):
        raise BadValue(f"A {what} has no control characters.")
