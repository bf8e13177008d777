"""Sealing and opening of messages to one device of the same person: content, padding, encryption, signature.

The clear header and the signature check stand in `hybridgw_protocol/envelope.py`; this half needs the space key.
Nonces, ids and times are arguments. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_sign,
)
from nacl.exceptions import CryptoError

from hybridgw_protocol.envelope import (
    Envelope,
    EnvelopeHeader,
    encode_envelope_header,
    envelope_hash,
    hash_ciphertext,
)
from hybridgw_protocol.errors import CannotOpen
from hybridgw_protocol.ids import DeviceId, blake2b
from hybridgw_protocol.limits import MAX_MESSAGE_BODY_BYTES, MAX_RECEIPTS, SIGNATURE_BYTES
from hybridgw_protocol.messages import MessageState

from .sealing import pad, unpad

T = TypeVar("T")
Name = Annotated[str, Meta(max_length=128)]
MessageId = Annotated[bytes, Meta(min_length=16, max_length=16)]


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says. Unknown keys are passed over.

    kind, name: whom it is for on the receiving device, as in a target; type: of the program's choosing; body: JSON, as
    the sender's program wrote it; client: the program that sent it; reply: the message it answers.
    """

    kind: Annotated[str, Meta(max_length=16)] = msgspec.field(name="k")
    type: Annotated[str, Meta(max_length=128)] = msgspec.field(name="t")
    body: Annotated[bytes, Meta(max_length=MAX_MESSAGE_BODY_BYTES)] = msgspec.field(name="b")
    name: Name = msgspec.field(name="n", default="")
    client: Name = msgspec.field(name="c", default="")
    reply: Annotated[bytes, Meta(max_length=16)] = msgspec.field(name="r", default=b"")


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """What became of one message. at_ms: by the clock of the device that says so; handled: by so many programs."""

    id: MessageId
    state: MessageState
    at_ms: int


Receipts = Annotated[list[Receipt], Meta(max_length=MAX_RECEIPTS)]
MAX_PROGRAMS: Final = 64


class Here(msgspec.Struct, frozen=True, array_like=True):
    """A program that listens on a device. seen_ms: when it was there last, by that device's clock."""

    client: Name
    app: Annotated[str, Meta(max_length=64)]
    topics: Annotated[list[Name], Meta(max_length=50)]
    is_here: bool
    seen_ms: int


class Presence(msgspec.Struct, frozen=True, array_like=True):
    """A device is here, with these programs. wants: the others are to say the same of themselves."""

    at_ms: int
    wants: bool
    programs: Annotated[list[Here], Meta(max_length=MAX_PROGRAMS)]


_pack: Final = msgspec.msgpack.Encoder().encode
_content: Final = msgspec.msgpack.Decoder(Content)
_receipts: Final = msgspec.msgpack.Decoder(Receipts)
_presence: Final = msgspec.msgpack.Decoder(Presence)


def message_key(space_key: bytes, sender: DeviceId, recipient: DeviceId) -> bytes:
    """The 32-byte key between two devices under one space key, in one direction."""
    return blake2b(sender + recipient, 32, "hgw-msg", space_key)


def content_digest(content: Content) -> bytes:
    """16 bytes by which a repeated id with another content is noticed."""
    return blake2b(_pack(content), 16, "hgw-msg-body")


def encode_content(content: Content) -> bytes:
    """As it is sealed, and kept until its turn."""
    return _pack(content)


def decode_content(raw: bytes) -> Content:
    """Inverse of encode_content. Raises: CannotOpen."""
    return _read(_content, raw)


def encode_presence(told: Presence) -> bytes:
    """As it is sealed, and kept. Without topics if it would be longer than a message may be."""
    raw = _pack(told)
    if len(raw) <= MAX_MESSAGE_BODY_BYTES:
        return raw
    return _pack(
        Presence(told.at_ms, told.wants, [Here(x.client, x.app, [], x.is_here, x.seen_ms) for x in told.programs])
    )


def decode_presence(raw: bytes) -> Presence:
    """Inverse of encode_presence. Raises: CannotOpen."""
    return _read(_presence, raw)


def seal_message(
    header: EnvelopeHeader, content: Content | list[Receipt] | Presence, *, space_key: bytes, sign_secret: bytes
) -> Envelope:
    """An envelope ready to be put. Args: header: its `kid` names *space_key*, its nonce is 24 fresh random bytes."""
    raw = encode_envelope_header(header)
    key = message_key(space_key, header.sender, header.recipient)
    plain = encode_presence(content) if isinstance(content, Presence) else _pack(content)
    ciphertext = crypto_aead_xchacha20poly1305_ietf_encrypt(pad(plain), raw, header.nonce, key)
    digest = hash_ciphertext(ciphertext)
    return Envelope(
        header, raw, ciphertext, digest, crypto_sign(envelope_hash(raw, digest), sign_secret)[:SIGNATURE_BYTES]
    )


def open_message(envelope: Envelope, space_key: bytes) -> Content:
    """The content of an envelope whose signature was checked. Raises: CannotOpen."""
    return _read(_content, _open(envelope, space_key))


def open_receipts(envelope: Envelope, space_key: bytes) -> list[Receipt]:
    """The same for a receipt. Raises: CannotOpen."""
    return _read(_receipts, _open(envelope, space_key))


def open_presence(envelope: Envelope, space_key: bytes) -> Presence:
    """The same for what a device tells of its programs. Raises: CannotOpen."""
    return decode_presence(_open(envelope, space_key))


def _read(decoder: msgspec.msgpack.Decoder[T], plain: bytes) -> T:
    try:
        return decoder.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise CannotOpen(f"The content of a message cannot be read: {error}") from error


def _open(envelope: Envelope, space_key: bytes) -> bytes:
    header = envelope.header
    key = message_key(space_key, header.sender, header.recipient)
    try:
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(envelope.ciphertext or b"", envelope.raw, header.nonce, key)
    except (CryptoError, ValueError) as error:
        raise CannotOpen("A message does not open with its space key.") from error
    return unpad(plain)
