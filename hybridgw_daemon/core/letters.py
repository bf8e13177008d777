"""Sealing and opening of letters, messages to one device of another person: content, signature inside, own key.

The clear header stands in `hybridgw_protocol/letters.py`; this half needs the secret of a message key. Entropy and
times are arguments. Source: protocol/SPEC.md, "People".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_box_seal_open,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_open,
)
from nacl.exceptions import CryptoError

from hybridgw_protocol.errors import BadSignature, CannotOpen
from hybridgw_protocol.letters import Letter, LetterHeader, encode_letter_header, letter_hash
from hybridgw_protocol.limits import MAX_MESSAGE_BODY_BYTES, MAX_RECEIPTS, SHORT_HASH_BYTES, SIGNATURE_BYTES
from hybridgw_protocol.people import MessageKey, xkey_id

from .envelopes import Receipt
from .key_wraps import seal_key
from .sealing import pad, unpad

T = TypeVar("T")
Text = Annotated[str, Meta(max_length=128)]
Head = Annotated[bytes, Meta(min_length=SHORT_HASH_BYTES, max_length=SHORT_HASH_BYTES)]
MAX_TOLD_HEADS: Final = 16


class Kind(StrEnum):
    """What a letter is for."""

    MESSAGE = "message"
    ASK = "ask"  # shall we be contacts
    ACCEPT = "accept"  # yes


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a letter says. Unknown keys are passed over.

    type, body, reply: of a message, as in an envelope; name: of a letter about contacts, what its person is called;
    heads: of the sender's control log, 16 bytes each: a relay that holds records back is found out by them.
    """

    kind: Kind = msgspec.field(name="k")
    type: Text = msgspec.field(name="t", default="")
    body: Annotated[bytes, Meta(max_length=MAX_MESSAGE_BODY_BYTES)] = msgspec.field(name="b", default=b"")
    name: Text = msgspec.field(name="n", default="")
    reply: Annotated[bytes, Meta(max_length=16)] = msgspec.field(name="r", default=b"")
    heads: Annotated[list[Head], Meta(max_length=MAX_TOLD_HEADS)] = msgspec.field(name="h", default_factory=list)


class KeyPair(msgspec.Struct, frozen=True):
    """A message key of this device with its secret. It holds a secret: never log or pickle it."""

    key: MessageKey
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.key.id.hex()})"


class Opened(msgspec.Struct, frozen=True):
    """A letter that was opened. signature: by whom is not checked yet; content: its exact bytes."""

    letter: Letter
    signature: bytes
    content: bytes


Receipts = Annotated[list[Receipt], Meta(max_length=MAX_RECEIPTS)]
_pack: Final = msgspec.msgpack.Encoder().encode
_said: Final = msgspec.msgpack.Decoder(Said)
_receipts: Final = msgspec.msgpack.Decoder(Receipts)


def key_pair(secret: bytes, made_ms: int) -> KeyPair:
    """Args: secret: 32 random bytes."""
    public = crypto_scalarmult_base(secret)
    return KeyPair(MessageKey(xkey_id(public), public, made_ms), secret)


def seal_letter(
    header: LetterHeader, said: Said | list[Receipt], *, to: MessageKey, sign_secret: bytes, letter_key: bytes,
    ephemeral_secret: bytes,
) -> Letter:  # fmt: skip
    """A letter ready to be put.

    Args: header: its `key` is the id of *to*, its nonce 24 fresh random bytes; letter_key, ephemeral_secret: 32 fresh
    random bytes each.
    Raises: CannotOpen: *to* is no key that anything can be sealed to.
    """
    raw, content = encode_letter_header(header), _pack(said)
    signature = crypto_sign(letter_hash(raw, content), sign_secret)[:SIGNATURE_BYTES]
    try:
        sealed_key = seal_key(letter_key, to.public, ephemeral_secret)
    except (CryptoError, ValueError, RuntimeError) as error:
        raise CannotOpen("A message key of the other person is none.") from error
    ciphertext = crypto_aead_xchacha20poly1305_ietf_encrypt(
        pad(signature + content), raw + sealed_key, header.nonce, letter_key
    )
    return Letter(header, raw, sealed_key, ciphertext)


def open_letter(letter: Letter, pair: KeyPair) -> Opened:
    """Args: pair: the one that the header names. Raises: CannotOpen."""
    try:
        letter_key = crypto_box_seal_open(letter.box, pair.key.public, pair.secret)
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
            letter.ciphertext, letter.raw + letter.box, letter.header.nonce, letter_key
        )
    except (CryptoError, ValueError) as error:
        raise CannotOpen("A letter does not open with the key that it names.") from error
    content = unpad(plain)
    if len(content) < SIGNATURE_BYTES:
        raise CannotOpen("A letter is too short to be signed.")
    return Opened(letter, content[:SIGNATURE_BYTES], content[SIGNATURE_BYTES:])


def verify_letter(opened: Opened, sign_public: bytes) -> None:
    """Check the signature with the key that the sender's control log names for its device. Raises: BadSignature."""
    digest = letter_hash(opened.letter.raw, opened.content)
    try:
        crypto_sign_open(opened.signature + digest, sign_public)
    except (CryptoError, ValueError) as error:
        raise BadSignature("A letter is not signed by the device that it names as its sender.") from error


def read_said(opened: Opened) -> Said:
    """What a letter says whose signature was checked. Raises: CannotOpen."""
    return _read(_said, opened.content)


def read_told(opened: Opened) -> list[Receipt]:
    """The same for a receipt. Raises: CannotOpen."""
    return _read(_receipts, opened.content)


def _read(decoder: msgspec.msgpack.Decoder[T], plain: bytes) -> T:
    try:
        return decoder.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise CannotOpen(f"The content of a letter cannot be read: {error}") from error
