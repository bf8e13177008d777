"""Origins of pages and extensions: exactly as browsers send them, one spelling each, or not at all.

`null`, files, opaque origins and anything with a path are none. A page over plain http counts only from this machine:
whoever sits on the network could have written any other one. Source: RFC 6454; WHATWG HTML, "origin serialization".
"""

from __future__ import annotations

import re
from typing import Final, Literal

Kind = Literal["web", "extension"]
MAX_ORIGIN: Final = 255

_HOST: Final = (
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*|\[[0-9a-f:.]{2,45}\])"
)
_PORT: Final = r"(?::([1-9][0-9]{0,4}))?"
_WEB: Final = re.compile(rf"(https?)://({_HOST}){_PORT}")
_EXTENSION: Final = re.compile(
    r"chrome-extension://[a-p]{32}|(?:moz|safari-web)-extension://[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)
_LOOPBACK: Final = re.compile(r"localhost|127\.0\.0\.1|\[::1\]")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def kind_of(origin: str, *, plain_http: bool = False) -> Kind | None:
    """What an Origin header names; None: nothing that could ever be let in.

    Args: plain_http: http pages of other machines count too, because the operator has named them.
    """
    if len(origin) > MAX_ORIGIN:
        return None
    if _EXTENSION.fullmatch(origin):
        return "extension"
    match = _WEB.fullmatch(origin)
    if match is None:
        return None
    scheme, host, port = match[1], match[2], match[3]
    if port is not None and (port == _DEFAULT_PORTS[scheme] or int(port) > 65_535):
        return None
    if scheme == "http" and not plain_http and not _LOOPBACK.fullmatch(host):
        return None
    return "web"
