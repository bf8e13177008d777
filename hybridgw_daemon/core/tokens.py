"""Tokens that the daemon gives to its clients: JSON Web Tokens of one exact form, made and read here only.

The header is the same text in every token of an algorithm, so a token never says how it wants to be checked: whatever
does not begin with the header of the configured algorithm is no token of ours, and neither `none`, another algorithm
nor a key inside it is ever looked at. The signature is compared as text in its one canonical form.
Claims and reasons: docs/adr/0014-local-tokens-and-grants.md.

Source: RFC 7515 (JWS), RFC 7518 (HS256, HS384, HS512), RFC 8037 (EdDSA with Ed25519), RFC 8725 (current practice).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Final, Literal, get_args

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

Algorithm = Literal["HS256", "HS384", "HS512", "EdDSA"]
ALGORITHMS: Final[tuple[str, ...]] = get_args(Algorithm)
AUDIENCE: Final = "hybridgw-local"
TYPE: Final = "hgw+jwt"
MIN_SECRET_BYTES: Final = 32  # RFC 7518, 3.2: a key no shorter than the hash of HS256
MAX_TOKEN_BYTES: Final = 8 * 1024  # ours have some hundred; a header line of HTTP has 16 KiB at most
LEEWAY_S: Final = 60  # our own clock may be set back between issue and use

_HASHES: Final = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
_SIGNATURE_BYTES: Final = 64


class Claims(msgspec.Struct, frozen=True):
    """What a token says.

    iss: `hybridgw:` and the installation; sub: the local principal; cid: the credential it was given for (`grant:…`,
    `key:…`); scope: as Scopes.text; iat, exp: seconds; kv: key version, raised to end all tokens at once; acct: the
    account, none yet; amr: how the holder proved itself; hv: version of the API key's secret, 1 for grants.
    """

    iss: str
    sub: str
    cid: str
    scope: str
    jti: str
    iat: int
    exp: int
    kv: int
    amr: list[str]
    aud: str = AUDIENCE
    acct: str | None = None
    hv: int = 1


class Invalid(Exception):
    """Not a token that counts. reason: for the log and for tests; a stranger is never told."""

    def __init__(self, reason: Literal["form", "signature", "claims", "issuer", "expired", "early"]) -> None:
        super().__init__(reason)
        self.reason = reason


class TokenKey:
    """Signs and checks under one secret and one algorithm. It holds the key: never log or pickle it."""

    def __init__(self, algorithm: Algorithm, secret: bytes) -> None:
        """Args: secret: at least 32 bytes; for EdDSA the seed of the key pair is its SHA-256.

        Raises: ValueError: another algorithm, or a secret that is too short.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError("The algorithm is one of HS256, HS384, HS512 and EdDSA.")
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"The secret of local tokens has at least {MIN_SECRET_BYTES} bytes.")
        self.algorithm: Final = algorithm
        self._secret = secret
        self._head = _b64(b'{"alg":"%s","typ":"%s"}' % (algorithm.encode(), TYPE.encode())) + b"."
        if algorithm == "EdDSA":
            self._public, self._private = crypto_sign_seed_keypair(hashlib.sha256(secret).digest())

    def __repr__(self) -> str:
        return "TokenKey(<key>)"

    def sign(self, claims: Claims) -> str:
        """A token, ASCII text."""
        signed = self._head + _b64(_encoder.encode(claims))
        return (signed + b"." + _b64(self._signature(signed))).decode("ascii")

    def verify(self, token: str, *, issuer: str, now_s: float) -> Claims:
        """What a token of ours says. Raises: Invalid."""
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise Invalid("form")
        raw = token.encode("ascii")
        signed, dot, signature = raw.rpartition(b".")
        payload = signed[len(self._head) :]
        if not dot or not signed.startswith(self._head) or b"." in payload:
            raise Invalid("form")
        if not self._is_signed(signed, signature):
            raise Invalid("signature")
        try:
            claims = _decoder.decode(_unb64(payload))
        except (msgspec.DecodeError, UnicodeDecodeError, NotBase64) as error:
            raise Invalid("claims") from error
        if claims.iss != issuer or claims.aud != AUDIENCE:
            raise Invalid("issuer")
        if claims.exp <= now_s:
            raise Invalid("expired")
        if claims.iat > now_s + LEEWAY_S:
            raise Invalid("early")
        return claims

    def _signature(self, signed: bytes) -> bytes:
        if self.algorithm == "EdDSA":
            return bytes(crypto_sign(signed, self._private)[:_SIGNATURE_BYTES])
        return hmac.digest(self._secret, signed, _HASHES[self.algorithm])

    def _is_signed(self, signed: bytes, signature: bytes) -> bool:
        if self.algorithm != "EdDSA":
            return hmac.compare_digest(signature, _b64(self._signature(signed)))
        try:
            raw = _unb64(signature)
            if len(raw) != _SIGNATURE_BYTES or _b64(raw) != signature:
                return False
            crypto_sign_open(raw + signed, self._public)
        except (CryptoError, NotBase64):
            return False
        return True


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Claims)


def _b64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _unb64(text: bytes) -> bytes:
    """Raises: NotBase64: also for characters outside the alphabet, which the library would skip."""
    if text.translate(None, _ALPHABET):
        raise NotBase64
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))


_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
