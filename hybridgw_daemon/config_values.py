"""How one value of the configuration is read from text or TOML: what is allowed, and what is said of what is not."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.runtime import Secret

from .core.origins import kind_of
from .core.targets import parse_rule
from .core.tokens import MIN_SECRET_BYTES

MAX_RULES: Final = 100  # as many as the API takes
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
HEADERS: Final = (
    "Authorization", "Content-Type", "If-Match", "If-None-Match", "Last-Event-ID", "X-HybridGW-Client",
    "X-HybridGW-Proof", "X-Request-ID",
)  # fmt: skip
NEEDED_HEADERS: Final = frozenset({"authorization", "content-type", "x-hybridgw-client"})


class Fault(Exception):
    """What is allowed, for the message."""


def integer(least: int, most: int) -> Callable[[Any], int]:
    """A whole number, or text that is one."""

    def read(raw: Any) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int | str):
            raise Fault(f"a whole number from {least} to {most}")
        try:
            value = int(raw)
        except ValueError:
            raise Fault(f"a whole number from {least} to {most}") from None
        if not least <= value <= most:
            raise Fault(f"a whole number from {least} to {most}")
        return value

    return read


def number(least: float, most: float, unit: str = "a number") -> Callable[[Any], float]:
    """A number, or text that is one. Args: unit: what it counts, for the message."""

    def read(raw: Any) -> float:
        allowed = f"{unit} from {least:g} to {most:g}"
        if isinstance(raw, bool):
            raise Fault(allowed)
        try:
            value = float(raw)
        except (TypeError, ValueError):
            raise Fault(allowed) from None
        if not least <= value <= most:
            raise Fault(allowed)
        return value

    return read


def networks(raw: Any) -> tuple[str, ...]:
    """Addresses and networks; as text, so that they can be shown."""
    allowed = "addresses and networks like 127.0.0.1, 10.0.0.0/8 or fd00::/8, with commas between them"
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list):
        raise Fault(allowed)
    try:
        return tuple(str(ipaddress.ip_network(item.strip())) for item in items if item.strip())
    except (ValueError, AttributeError):
        raise Fault(allowed) from None


def boolean(raw: Any) -> bool:
    """true, 1, yes, on, or the opposite; in any case of letters."""
    if isinstance(raw, bool):
        return raw
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if not isinstance(raw, str) or raw.lower() not in words:
        raise Fault("true or false")
    return words[raw.lower()]


def one_of(*choices: str, upper: bool = False) -> Callable[[Any], str]:
    """One of some words. Args: upper: in any case of letters; the value is in capitals."""

    def read(raw: Any) -> str:
        value = raw.upper() if upper and isinstance(raw, str) else raw
        if value not in choices:
            raise Fault(" or ".join(choices) if len(choices) < 3 else f"{', '.join(choices[:-1])} or {choices[-1]}")
        return str(value)

    return read


def loopback(raw: Any) -> str:
    """An address that no other machine reaches."""
    allowed = (
        "a loopback address like 127.0.0.1; for programs on other machines put a proxy with TLS in front of it, and "
        "name their pages in ALLOWED_ORIGINS"
    )
    try:
        host = ipaddress.ip_address("127.0.0.1" if raw == "localhost" else raw)
    except ValueError:
        raise Fault(allowed) from None
    if not host.is_loopback:
        raise Fault(allowed)
    return str(raw)


def address(raw: Any) -> str:
    """An IP address."""
    try:
        return str(ipaddress.ip_address(raw))
    except ValueError:
        raise Fault("an address of this machine, like 192.168.1.20") from None


def path(raw: Any) -> str:
    """A path, as it was written."""
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise Fault("the path of a file")
    return raw


def name(raw: Any) -> str:
    """A name for people."""
    if not isinstance(raw, str) or not 1 <= len(raw) <= 64 or any(ch < " " or ch == "\x7f" for ch in raw):
        raise Fault("1 to 64 characters without control characters")
    return raw


def words(raw: Any, allowed: str) -> list[str]:
    """What stands between commas, each once. Args: allowed: what is said if it is neither text nor a list."""
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise Fault(allowed)
    return list(dict.fromkeys(item.strip() for item in items if item.strip()))


def interfaces(raw: Any) -> tuple[str, ...]:
    """Names of network interfaces, with `*` for any letters."""
    allowed = "names of network interfaces like eth0 or wl*, with commas between them"
    found = words(raw, allowed)
    if not all(re.fullmatch(r"[^\s/\0]{1,64}", item) for item in found):
        raise Fault(allowed)
    return tuple(found)


def origins(raw: Any) -> tuple[str, ...]:
    """Origins exactly as browsers send them."""
    found = words(raw, "origins with commas between, like https://app.example.com")
    for item in found:
        if "*" in item:
            raise Fault(f"exact origins: {item[:60]} would let every page of every site in")
        if re.fullmatch(r"[a-z-]+-extension:(//)?", item):
            raise Fault(f"exact origins: {item} would let every extension in; write the id of yours after it")
        if kind_of(item, plain_http=True) is None:
            raise Fault(
                f"exact origins as browsers send them (scheme, host in lower case, port if it is not the usual one, "
                f"nothing after it), which {item[:60]} is not"
            )
    return tuple(found)


def methods(raw: Any) -> tuple[str, ...]:
    """Methods that a page may be allowed."""
    allowed = f"some of {', '.join(METHODS)}"
    found = [item.upper() for item in words(raw, allowed)]
    if not found or not set(found) <= set(METHODS):
        raise Fault(allowed)
    return tuple(found)


def headers(raw: Any) -> tuple[str, ...]:
    """Headers that a page may send; those without which nothing works among them."""
    allowed = "names of headers with commas between; Authorization, Content-Type and X-HybridGW-Client among them"
    found = words(raw, allowed)
    if not all(re.fullmatch(r"[A-Za-z0-9-]{1,64}", item) for item in found):
        raise Fault(allowed)
    if not {item.lower() for item in found} >= NEEDED_HEADERS:
        raise Fault(allowed)
    return tuple(found)


def rules(raw: Any) -> tuple[str, ...]:
    """Rules for messages; as text, so that they can be shown."""
    items = [part.strip() for part in raw.split(";")] if isinstance(raw, str) else raw
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise Fault("rules like note.*=device:Phone, a list of them (with ; between, where they stand in one text)")
    found = [item for item in items if item]
    if len(found) > MAX_RULES:
        raise Fault(f"at most {MAX_RULES} rules")
    try:
        for item in found:
            parse_rule("file", item)
    except BadValue as error:
        raise Fault(f"TYPE=TARGET[,TARGET...][+] for each rule: {error.message}") from None
    return tuple(found)


def token_secret(raw: Any) -> Secret[bytes]:
    """A secret that signs tokens."""
    if not isinstance(raw, str) or len(raw.encode(errors="surrogateescape")) < MIN_SECRET_BYTES:
        raise Fault(
            f"at least {MIN_SECRET_BYTES} bytes that nobody can guess, for example from: openssl rand -base64 48"
        )
    return Secret(raw.encode(errors="surrogateescape"))
