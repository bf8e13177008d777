"""Proof of a device key on a connection: what is hashed and signed at both ends, and the place it is bound to.

A signature covers everything both sides said: the version range offered, both nonces, the endpoint the *client* dialled
(never one the server told it), the space and the client's device. So it cannot be replayed, reflected, downgraded or
relayed to another relay or peer. Between two devices the server proves itself too, by a signature over the same and its
own device. Source: protocol/SPEC.md, "Authentication".
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

from .codec import encode_canonical
from .errors import AuthFailed, BadValue, UnsupportedVersion
from .frames import Auth, Challenge, Welcome
from .ids import DeviceId, SpaceId, blake2b, device_id
from .limits import PROTOCOL_VERSION, SIGNATURE_BYTES

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")  # of a host name; "_" is seen in the wild
_MAX_HOST: Final = 253
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(:[0-9]*)?")  # without user and password


def endpoint(url: str) -> str:
    """ "host:<authority>" of a relay URL as dialled: lower case, IDNA, default port removed, brackets kept.

    Raises: BadValue: no scheme or host.
    """
    parts = split_url(url)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadValue(f"{url} has no valid port.") from error
    if parts.scheme not in DEFAULT_PORTS or not host or not _AUTHORITY.fullmatch(parts.netloc.rpartition("@")[2]):
        raise BadValue(f"{url} is not a relay address: it starts with http://, https://, ws:// or wss://.")
    try:
        if ":" in host:
            IPv6Address(host)
            host = f"[{host}]"
        else:
            host = host if host.isascii() else host.encode("idna").decode()
            if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
                raise ValueError(host)
    except ValueError as error:
        raise BadValue(f"{parts.hostname} is not a valid host name.") from error
    suffix = "" if port is None or port == DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"host:{host.lower()}{suffix}"


def split_url(url: str) -> SplitResult:
    """The parts of what a person typed as a URL. Raises: BadValue."""
    try:
        return urlsplit(url)
    except ValueError as error:  # brackets that do not fit, letters that only look like a separator
        raise BadValue(f"{url} is not an address: {error}.") from error


def choose_version(challenge: Challenge) -> int:
    """The highest version both know. Raises: UnsupportedVersion."""
    low, high = challenge.v
    if not low <= PROTOCOL_VERSION <= high:
        raise UnsupportedVersion(
            f"The other side speaks protocol versions {low} to {high}, this program {PROTOCOL_VERSION}. "
            "Upgrade the older one."
        )
    return PROTOCOL_VERSION


def certificate_endpoint(certificate: bytes) -> str:
    """ "fp:<sha256>" of a peer's TLS certificate (DER): what the peer names, and what the client sees for itself."""
    return f"fp:{hashlib.sha256(certificate).hexdigest()}"


def auth_digest(label: str, challenge: Challenge, auth: Auth, server: DeviceId | None) -> bytes:
    """32 bytes to sign. Args: label: hgw-auth-c (client) or hgw-auth-s (peer's answer); server: None in the client's,
    which does not know yet who answers it."""
    said = [
        label, list(challenge.v), auth.v, challenge.role, challenge.ns, auth.nc, auth.ep, auth.sp,
        auth.pk, server or b"", auth.ctl, list(auth.caps), auth.enrol,
    ]  # fmt: skip
    return blake2b(encode_canonical(said), 32, "hgw-auth")


# ---- the client --------------------------------------------------------------------------------------------------
def sign_auth(challenge: Challenge, auth: Auth, sign_secret: bytes) -> bytes:
    """The client's signature (64 bytes). Args: sign_secret: 64-byte libsodium secret key."""
    return crypto_sign(auth_digest("hgw-auth-c", challenge, auth, None), sign_secret)[:SIGNATURE_BYTES]


def verify_auth(challenge: Challenge, auth: Auth, expected_endpoints: frozenset[str]) -> DeviceId:
    """The device that proved its key. Membership is checked after this, never before.

    Args: expected_endpoints: this server's own names: from its configuration, or of its certificate.
    Raises: UnsupportedVersion, AuthFailed.
    """
    if auth.v != PROTOCOL_VERSION:
        raise UnsupportedVersion(f"Protocol version {auth.v} is not spoken here, only {PROTOCOL_VERSION}.")
    if auth.ep not in expected_endpoints:
        if challenge.role == "peer":
            raise AuthFailed("The device saw another certificate than this one's: something stands between the two.")
        raise AuthFailed(
            f"The device dialled {auth.ep.removeprefix('host:')}, which is not a name of this relay. "
            "Add it to the relay's public names, or use the address of the invite."
        )
    try:
        crypto_sign_open(auth.sig + auth_digest("hgw-auth-c", challenge, auth, None), auth.pk[:32])
    except (BadSignatureError, ValueError) as error:
        raise AuthFailed("The device did not prove its key.") from error
    return device_id(auth.pk[:32], auth.pk[32:])


# ---- a peer as the server ----------------------------------------------------------------------------------------
def sign_answer(challenge: Challenge, auth: Auth, sign_secret: bytes, own: DeviceId) -> bytes:
    """A peer's signature in its welcome (64 bytes). Args: own: its device; sign_secret: 64 bytes, libsodium's form."""
    return crypto_sign(auth_digest("hgw-auth-s", challenge, auth, own), sign_secret)[:SIGNATURE_BYTES]


def verify_answer(challenge: Challenge, auth: Auth, welcome: Welcome) -> DeviceId:
    """The device that a client is connected to. Membership is checked after this, never before.

    Args: challenge, auth: as they travelled; `ep` of auth is what the client saw itself. Raises: AuthFailed.
    """
    if len(welcome.pk) != 64 or len(welcome.sig) != SIGNATURE_BYTES:
        raise AuthFailed("The other device showed no proof of its key.")
    device = device_id(welcome.pk[:32], welcome.pk[32:])
    try:
        crypto_sign_open(welcome.sig + auth_digest("hgw-auth-s", challenge, auth, device), welcome.pk[:32])
    except (BadSignatureError, ValueError) as error:
        raise AuthFailed("The other device did not prove its key.") from error
    return device


# ---- root to a peer ----------------------------------------------------------------------------------------------
NO_SPACE: Final = bytes(16)
NO_KEYS: Final = bytes(64)


def veiled(auth: Auth) -> Auth:
    """What root sends to a device of which it cannot know whether it is one of its space: without space and keys. The
    signature is over the real ones, and says nothing to who does not know them."""
    return msgspec.structs.replace(auth, sp=NO_SPACE, pk=NO_KEYS)


def is_veiled(auth: Auth) -> bool:
    """Does it come from somebody who says to be root of the space that is here, whichever that is."""
    return auth.sp == NO_SPACE and auth.pk == NO_KEYS


def unveiled(auth: Auth, space: SpaceId, root_keys: bytes) -> Auth:
    """The same with what root left out. Args: root_keys: sign and exchange public key of root (64)."""
    return msgspec.structs.replace(auth, sp=space, pk=root_keys)


def space_of(auth: Auth) -> SpaceId:
    """The space an auth frame is about."""
    return SpaceId(auth.sp)
