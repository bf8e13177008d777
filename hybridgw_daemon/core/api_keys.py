"""API keys: `hgw_`, 8 characters that name the key, 43 that are the secret, 6 that catch a slip of the hand.

The secret is 256 random bits, so what is stored is its plain SHA-256: there is nothing to guess that a slow hash would
protect. The last six characters are a CRC-32 over the rest; they tell a mistyped key from a wrong one and make keys
easy to find in files where they should not be. A key that is the same kind of text without the prefix is never taken.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from typing import Final, NamedTuple

PREFIX: Final = "hgw_"
ID_CHARS: Final = 8
SECRET_CHARS: Final = 43  # 62**43 > 2**256
CRC_CHARS: Final = 6  # 62**6 > 2**32
ENTROPY_BYTES: Final = 38  # 6 for the id, 32 for the secret

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY: Final = re.compile(
    rf"hgw_([0-9A-Za-z]{{{ID_CHARS}}})_([0-9A-Za-z]{{{SECRET_CHARS}}})([0-9A-Za-z]{{{CRC_CHARS}}})"
)


class NewKey(NamedTuple):
    """A key that was just made. text: shown once, never stored; digest: what is stored."""

    id: str
    text: str
    digest: bytes


def make(entropy: bytes) -> NewKey:
    """A key out of ENTROPY_BYTES random bytes."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"A key needs {ENTROPY_BYTES} random bytes.")
    return _made(_base62(entropy[:6], ID_CHARS), entropy[6:])


def remake(key_id: str, entropy: bytes) -> NewKey:
    """Another secret for a key that keeps its id. Args: entropy: 32 random bytes."""
    return _made(key_id, entropy)


def read(text: str) -> tuple[str, bytes] | None:
    """(id, digest of the secret) of a well-formed key; None: it is none, or was mistyped."""
    match = _KEY.fullmatch(text)
    if match is None or not hmac.compare_digest(_crc(text[:-CRC_CHARS]), match[3]):
        return None
    return match[1], digest_of(match[2])


def digest_of(secret: str) -> bytes:
    """What is stored of a secret: SHA-256."""
    return hashlib.sha256(secret.encode()).digest()


def _made(key_id: str, entropy: bytes) -> NewKey:
    secret = _base62(entropy, SECRET_CHARS)
    body = f"{PREFIX}{key_id}_{secret}"
    return NewKey(key_id, body + _crc(body), digest_of(secret))


def _crc(body: str) -> str:
    return _base62(zlib.crc32(body.encode()).to_bytes(4, "big"), CRC_CHARS)


def _base62(raw: bytes, length: int) -> str:
    number = int.from_bytes(raw, "big")
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
