"""Invite links of a relay: where it is, and the one-use secret that admits a space.

    https://relay.example.com/#hgw-invite=<base64url of the secret, no padding>

The secret is in the fragment, which browsers and proxies do not send or log. Source: protocol/SPEC.md, "Relay".
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple
from urllib.parse import urlunsplit

from .auth import DEFAULT_PORTS, endpoint, split_url
from .errors import BadValue
from .pairing_code import is_this_machine

INVITE_SECRET_BYTES: Final = 32
_FRAGMENT: Final = "hgw-invite="


class Invite(NamedTuple):
    """A relay's URL (scheme, host, port, no trailing slash) and the secret; empty for a bare address."""

    url: str
    secret: bytes


def format_invite(url: str, secret: bytes) -> str:
    """The link a person sends. Args: secret: 32 bytes."""
    return f"{normal_url(url)}/#{_FRAGMENT}{_encode(secret)}"


def parse_invite(text: str) -> Invite:
    """From what a person pasted: an invite link, or a relay's bare address.

    Without a scheme it is https, or http for this machine itself, as in a pairing code.

    Raises: BadValue: neither of these.
    """
    text = text.strip()
    parts = split_url(text if "://" in text else f"https://{text}")
    if "://" not in text and is_this_machine(parts.hostname or ""):
        parts = parts._replace(scheme="http")
    url = normal_url(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))
    if not parts.fragment:
        return Invite(url, b"")
    if not parts.fragment.startswith(_FRAGMENT):
        raise BadValue("This is no invite link of a relay; 'hybridgw-relay invite' prints one.")
    raw = parts.fragment.removeprefix(_FRAGMENT).rstrip("=")
    try:
        secret = base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != INVITE_SECRET_BYTES or _encode(secret) != raw:  # a last letter may have bits that do not count
        raise BadValue("The invite link is not complete; copy it again, to its end.")
    return Invite(url, secret)


def normal_url(url: str) -> str:
    """scheme://authority[/path] in one spelling: lower-case host, no default port, http or https, no trailing slash.

    Raises: BadValue.
    """
    parts = split_url(url.strip())
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in DEFAULT_PORTS or parts.username or parts.password:
        raise BadValue(f"{url} is not a relay address: it starts with https:// and has no name or password in it.")
    authority = endpoint(url).removeprefix("host:")
    return urlunsplit((scheme, authority, parts.path.rstrip("/"), "", ""))


def _encode(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
