"""Sealing of what rests on this machine's disk: keys, seeds, sessions and the bodies of secret collections.

One 32-byte key-encryption key (KEK), held by the secret store, seals nothing itself: every purpose has its own subkey,
and the associated data binds a sealed value to its purpose and its row, so that rows cannot be swapped under it.
Layout: version 1, one byte | nonce 24 | XChaCha20-Poly1305 ciphertext and tag. Source: protocol/SPEC.md, "Sealing".
"""

from __future__ import annotations

import hmac
from enum import StrEnum
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import CannotOpen
from hybridgw_protocol.ids import blake2b

KEK_BYTES: Final = 32
NONCE_BYTES: Final = 24
_VERSION: Final = b"\x01"
_OVERHEAD: Final = len(_VERSION) + NONCE_BYTES + 16

Row = tuple[bytes | int | str, ...]  # the identity of a row: its table's key columns, in their order


class Purpose(StrEnum):
    """What a sealed value is; part of its subkey and of its associated data, so the text never changes."""

    DEVICE_SEED = "device-seed"
    ROOT_SEED = "root-seed"
    SPACE_KEY = "space-key"
    SECRET_BODY = "secret-body"  # noqa: S105 - a name
    RELAY_INVITE = "relay-invite"
    SESSION = "session"
    MESSAGE_KEY = "message-key"
    LOCAL_TOKENS = "local-tokens"  # seals nothing: its subkey signs tokens of local clients


class RestSealer:
    """Seals and opens under one KEK. It holds the key: never log or pickle it."""

    def __init__(self, kek: bytes) -> None:
        """Args: kek: 32 bytes."""
        if len(kek) != KEK_BYTES:
            raise ValueError(f"A key-encryption key has {KEK_BYTES} bytes.")
        self._subkeys = {purpose: blake2b(purpose.encode(), 32, "hgw-rest", kek) for purpose in Purpose}

    def __repr__(self) -> str:
        return "RestSealer(<key>)"

    def seal(self, purpose: Purpose, row: Row, plaintext: bytes, nonce: bytes) -> bytes:
        """Bytes for the row, 41 more than *plaintext*. Args: row: what it belongs to; nonce: 24 fresh random bytes."""
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
            plaintext, _associated(purpose, row), nonce, self._subkeys[purpose]
        )
        return _VERSION + nonce + sealed

    def token_secret(self) -> bytes:
        """32 bytes that sign the tokens of local clients, the same as long as the KEK is."""
        return self._subkeys[Purpose.LOCAL_TOKENS]

    def open(self, purpose: Purpose, row: Row, sealed: bytes) -> bytes:
        """Inverse of seal. Raises: CannotOpen: another key, purpose or row, or changed bytes."""
        if len(sealed) < _OVERHEAD or sealed[:1] != _VERSION:
            raise CannotOpen(f"A sealed {purpose} in the database is not in a known format.")
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                sealed[1 + NONCE_BYTES :],
                _associated(purpose, row),
                sealed[1 : 1 + NONCE_BYTES],
                self._subkeys[purpose],
            )
        except CryptoError as error:
            raise CannotOpen(f"A sealed {purpose} in the database does not open with this machine's key.") from error


def key_check(kek: bytes) -> bytes:
    """16 bytes that the database keeps, to know its KEK again; they tell nothing about it."""
    return blake2b(b"", 16, "hgw-rest-check", kek)


def is_key_of(kek: bytes, check: bytes) -> bool:
    """Is *kek* the key whose check value the database keeps. Compared in constant time."""
    return hmac.compare_digest(key_check(kek), check)


def _associated(purpose: Purpose, row: Row) -> bytes:
    return encode_canonical(["hgw-rest-1", str(purpose), *row])
