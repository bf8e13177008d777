"""The pairing code as people type it and as a QR code carries it: `417-803-265`, `417-803-265@relay.example.com`,
`hybridgw://pair?code=417-803-265&relay=relay.example.com&secret=…`.

The first three digits are the nameplate: which mailbox. The other six are the secret of one password-authenticated
exchange and never leave the two machines. A link may hold a longer secret of 128 bits, which needs no limit on guesses.
Source: protocol/SPEC.md, "Pairing".
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from .auth import endpoint
from .errors import BadValue
from .limits import PAIRING_CODE_DIGITS, PAIRING_NAMEPLATE_DIGITS

LINK_SECRET_BYTES: Final = 16
MAX_CODE_TEXT: Final = 600  # characters of a code or link; a host name has at most 253
_DIGITS: Final = PAIRING_NAMEPLATE_DIGITS + PAIRING_CODE_DIGITS
_EXAMPLE: Final = "417-803-265"
_DASHES: Final = "-\u2010\u2011\u2012\u2013\u2014\u2212_."  # what phones and mail programs make of a dash
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*\.?")


@dataclass(frozen=True, slots=True)
class PairingCode:
    """One code. Its digits and secret are for the two machines only: `repr` leaves them out."""

    nameplate: int  # 0 to 999
    digits: str = field(repr=False)  # six
    relay: str = ""  # address of the relay as a URL without path; "" = on the LAN, or a relay both know
    secret: bytes = field(default=b"", repr=False)  # 16 bytes, only in a link


def make_code(nameplate: int, entropy: Callable[[int], bytes], relay_url: str = "") -> PairingCode:
    """A new code, with the long secret for its link.

    Args: nameplate: as the relay gave it, 0 to 999; entropy: n -> n random bytes; relay_url: http(s) or ws(s).
    Raises: BadValue: nameplate or address out of form.
    """
    if not 0 <= nameplate < 10**PAIRING_NAMEPLATE_DIGITS:
        raise BadValue(f"A nameplate has {PAIRING_NAMEPLATE_DIGITS} digits; {nameplate} does not.")
    number = int.from_bytes(entropy(16), "big") % 10**PAIRING_CODE_DIGITS
    relay = parse_relay(relay_url.replace("ws", "http", 1) if relay_url.startswith("ws") else relay_url)
    return PairingCode(nameplate, f"{number:0{PAIRING_CODE_DIGITS}}", relay, entropy(LINK_SECRET_BYTES))


def parse_code(text: str) -> PairingCode:
    """From what a person typed, pasted or scanned; spaces and every kind of dash may be anywhere.

    Raises: BadValue: says what is missing or wrong, never repeating the digits.
    """
    if len(text) > MAX_CODE_TEXT:
        raise BadValue(f"This is too long for a pairing code. It looks like {_EXAMPLE}.")
    text = text.strip()
    if text.lower().startswith("hybridgw:"):
        return _parse_link(text)
    numbers, _, relay = text.partition("@")
    nameplate, digits = _parse_numbers(numbers)
    if "@" in text and not relay.strip():
        raise BadValue(f"The relay's address is missing after the @, as in {_EXAMPLE}@relay.example.com.")
    return PairingCode(nameplate, digits, parse_relay(relay.strip()))


def format_code(code: PairingCode) -> str:
    """What a screen shows: `417-803-265@relay.example.com`. The link's secret is not in it."""
    numbers = f"{code.nameplate:0{PAIRING_NAMEPLATE_DIGITS}}{code.digits}"
    groups = "-".join(numbers[i : i + 3] for i in range(0, _DIGITS, 3))
    return f"{groups}@{short_relay(code.relay)}" if code.relay else groups


def format_link(code: PairingCode) -> str:
    """What a QR code holds; everything of the code, the long secret included."""
    numbers, _, relay = format_code(code).partition("@")
    link = f"hybridgw://pair?code={numbers}"
    if relay:
        link += f"&relay={quote(relay, safe=':[]/')}"
    if code.secret:
        link += f"&secret={code.secret.hex()}"
    return link


def _parse_link(text: str) -> PairingCode:
    parts = urlsplit(text)
    if parts.netloc.lower() != "pair" and parts.path.strip("/").lower() != "pair":
        raise BadValue("This link is not a pairing link; that one starts with hybridgw://pair?")
    try:
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True, max_num_fields=16)
    except ValueError as error:
        raise BadValue("This pairing link is damaged; scan it again or type the code.") from error
    if any(len(query.get(name, [])) > 1 for name in ("code", "relay", "secret")):
        raise BadValue("This pairing link says something twice; scan it again or type the code.")
    nameplate, digits = _parse_numbers(query.get("code", [""])[0])
    relay = parse_relay(query.get("relay", [""])[0])
    hexadecimal = query.get("secret", [""])[0]
    if hexadecimal and not re.fullmatch(rf"[0-9a-fA-F]{{{2 * LINK_SECRET_BYTES}}}", hexadecimal):
        raise BadValue("The secret in this pairing link is damaged; scan it again or type the code.")
    return PairingCode(nameplate, digits, relay, bytes.fromhex(hexadecimal))


def _parse_numbers(text: str) -> tuple[int, str]:
    numbers = ""
    for char in unicodedata.normalize("NFKC", text):  # full-width digits become plain ones
        if char.isspace() or char in _DASHES:
            continue
        if not "0" <= char <= "9":
            raise BadValue(f"A pairing code has only digits, like {_EXAMPLE}; {char!a} is none.")
        numbers += char
    if len(numbers) != _DIGITS:
        raise BadValue(f"A pairing code has {_DIGITS} digits, like {_EXAMPLE}; this one has {len(numbers)}.")
    return int(numbers[:PAIRING_NAMEPLATE_DIGITS]), numbers[PAIRING_NAMEPLATE_DIGITS:]


def parse_relay(text: str) -> str:
    """Canonical URL of `host[:port]`: https, or http for this machine itself; an http:// before it is kept.

    Raises: BadValue.
    """
    if not text:
        return ""
    scheme, separator, rest = text.lower().partition("://")
    if not separator:
        scheme, rest = "", text
    authority = rest.removesuffix("/")
    if scheme not in ("", "http", "https") or re.search(r"[\s/?#@\\]", authority):
        raise BadValue(f"{text!a} is not a relay's address; that is a name and perhaps a port, like relay.example.com.")
    try:
        host = urlsplit(f"https://{authority}").hostname or ""
    except ValueError as error:
        raise BadValue(f"{text!a} is not a relay's address.") from error
    scheme = scheme or ("http" if is_this_machine(host) else "https")
    try:
        canonical = endpoint(f"{scheme}://{authority}").removeprefix("host:")
    except BadValue as error:
        raise BadValue(f"{text!a} is not a relay's address: {error.message}") from error
    name = canonical if canonical.startswith("[") else canonical.partition(":")[0]
    if not _is_ipv6(name) and not _HOST.fullmatch(name):
        raise BadValue(f"{text!a} is not a relay's address: a host name has letters, digits, dots and dashes.")
    return f"{scheme}://{canonical}"


def short_relay(relay: str) -> str:
    """As people read it: the scheme only if it is not the usual one."""
    scheme, _, authority = relay.partition("://")
    usual = "http" if is_this_machine(urlsplit(relay).hostname or "") else "https"
    return authority if scheme == usual else relay


def is_this_machine(host: str) -> bool:
    """Is this host, without port and brackets, a name of the machine itself; then an address of it means http."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _is_ipv6(name: str) -> bool:
    try:
        ipaddress.IPv6Address(name.partition("]")[0].removeprefix("["))
    except ValueError:
        return False
    return name.startswith("[")
