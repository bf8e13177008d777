"""A space key on its way: sealed to a device, or carried by a newer key. Pure: seeds and nonces are arguments.

The sealed box is libsodium's (`crypto_box_seal`), with the ephemeral secret given, so that the same inputs always make
the same record; libsodium opens it. It says nothing about its sender: the record around it is signed. After opening,
the key is compared with the id and the whole commitment of its epoch, for XChaCha20-Poly1305 does not commit to a key
and an id of 64 bits can be collided. Source: protocol/SPEC.md, "Keys".
"""

from __future__ import annotations

from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_box,
    crypto_box_seal_open,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from hybridgw_protocol.errors import CannotOpen
from hybridgw_protocol.ids import Digest, blake2b, key_id
from hybridgw_protocol.records import PREV_WRAP_BYTES, SEALED_KEY_BYTES, Epoch

SPACE_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24


def commitment(space_key: bytes) -> bytes:
    """32 bytes that fix a space key and tell nothing else about it."""
    return blake2b(space_key, 32, "hgw-commit")


def seal_key(space_key: bytes, exchange_public: bytes, ephemeral_secret: bytes) -> bytes:
    """80 bytes that only the owner of the X25519 key opens.

    Args: ephemeral_secret: 32 fresh random bytes, for this one box.
    """
    ephemeral_public = crypto_scalarmult_base(ephemeral_secret)
    nonce = blake2b(ephemeral_public + exchange_public, NONCE_BYTES, "")
    return ephemeral_public + crypto_box(space_key, nonce, exchange_public, ephemeral_secret)


def open_key(box: bytes, exchange_public: bytes, exchange_secret: bytes, epoch: Epoch) -> bytes:
    """The space key of *epoch* in a sealed box. Raises: CannotOpen: not for this key, or not the key of that epoch."""
    try:
        if len(box) != SEALED_KEY_BYTES:
            raise CryptoError
        space_key = crypto_box_seal_open(box, exchange_public, exchange_secret)
    except CryptoError as error:
        raise CannotOpen("A space key that a control record gives to this device does not open.") from error
    return _checked(space_key, epoch)


def carry_key(older_key: bytes, older: Digest, newer_key: bytes, nonce: bytes) -> bytes:
    """72 bytes for `prev_wraps`: an older space key under a newer one.

    Args: older: hash of its epoch record; nonce: 24 fresh random bytes.
    """
    associated = commitment(newer_key) + older
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(older_key, associated, nonce, _carrier(newer_key))


def open_carried(carried: bytes, older: Digest, older_epoch: Epoch, newer_key: bytes) -> bytes:
    """Inverse of carry_key. Raises: CannotOpen: another pair of epochs, or not the key of *older_epoch*."""
    try:
        if len(carried) != PREV_WRAP_BYTES:
            raise CryptoError
        space_key = crypto_aead_xchacha20poly1305_ietf_decrypt(
            carried[NONCE_BYTES:], commitment(newer_key) + older, carried[:NONCE_BYTES], _carrier(newer_key)
        )
    except CryptoError as error:
        raise CannotOpen("An older space key that an epoch carries does not open.") from error
    return _checked(space_key, older_epoch)


def _carrier(newer_key: bytes) -> bytes:
    return blake2b(b"", 32, "hgw-prev-wrap", newer_key)


def _checked(space_key: bytes, epoch: Epoch) -> bytes:
    if key_id(space_key) != epoch.kid or commitment(space_key) != epoch.commitment:
        raise CannotOpen("A space key is not the one that its epoch commits to.")
    return space_key
