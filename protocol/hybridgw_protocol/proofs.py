"""The proof that whoever shows a token holds the key that its grant is bound to: one signature per call or connection.

`AT.NONCE.SIGNATURE`: Unix milliseconds, 16 to 64 characters that no other proof of the key has, and an Ed25519
signature in base64url over `proof_text`. It names the port, so that whoever listens on another one cannot pass it on;
what it is for; and the token, by its hash. Pure. Rules: docs/reference/http-api.md; why so: docs/adr/0031-extension.md.
A reduced form of RFC 9449 (DPoP), without JSON inside JSON.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import CryptoError

from .errors import BadValue

HEADER: Final = "X-HybridGW-Proof"
LIFE_MS: Final = 60_000  # before and after its time; both sides are one machine, whose clock may be set in between
MAX_PROOF: Final = 200
SOCKET: Final = "ws"  # what a proof on a WebSocket is for; of a call: its method, a space and its path
LOGIN: Final = "login"
REFRESH: Final = "refresh"

_PROOF: Final = re.compile(r"([0-9]{1,15})\.([A-Za-z0-9_-]{16,64})\.([A-Za-z0-9_-]{86})")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def parse_app_key(text: str) -> bytes:
    """The public key of an app, 32 bytes. Raises: BadValue: no Ed25519 key in base64url without `=`."""
    raw = b""
    if _KEY.fullmatch(text):
        raw = urlsafe_b64decode(text + "=")
    if len(raw) != 32 or not crypto_core_ed25519_is_valid_point(raw):
        raise BadValue("The key is an Ed25519 public key, 32 bytes in base64url.", field="key")
    return raw


def proof_text(*, port: int, purpose: str, token: str, at_ms: int, nonce: str) -> bytes:
    """What is signed. Args: purpose: SOCKET, LOGIN, REFRESH, or method and path without query; token: what it is shown
    with: an access or refresh token, at login the secret of the request."""
    digest = sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
    return f"hybridgw proof 1\n{port}\n{purpose}\n{at_ms}\n{nonce}\n{digest}".encode("utf-8", "surrogatepass")


def proven_nonce(proof: str, key: bytes, *, port: int, purpose: str, token: str, now_ms: int) -> str | None:
    """The nonce of a proof that holds, for the caller to see to it that it is new; None: it does not hold."""
    match = _PROOF.fullmatch(proof) if len(proof) <= MAX_PROOF else None
    if match is None or abs(int(match[1]) - now_ms) > LIFE_MS:
        return None
    text = proof_text(port=port, purpose=purpose, token=token, at_ms=int(match[1]), nonce=match[2])
    try:
        crypto_sign_open(urlsafe_b64decode(match[3] + "==") + text, key)
    except (CryptoError, binascii.Error):
        return None
    return match[2]
