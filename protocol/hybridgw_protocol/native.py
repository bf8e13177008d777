"""What the native messaging host, the browser extension and the command line agree on. Pure.

A browser starts the host for an extension that a manifest lists, and talks with it on stdin and stdout: each message
is JSON in UTF-8 behind four bytes with its length, in the byte order of the machine. Messages:
docs/reference/native-host.md.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from typing import Final

HOST_NAME: Final = "hybridgw.host"  # of the manifest; lower case, digits, dots and underscores only
PROTOCOL: Final = 1  # of the messages between extension and host
CHROME_IDS: Final = ("iaangbjflhnfnmoabopfpiplhdjcddpj",)  # follows from `key` in the extension's manifest
FIREFOX_IDS: Final = ("extension@hybridgw",)

MAX_TO_HOST: Final = 1024 * 1024 + 64 * 1024  # a frame of the daemon's bound, and what stands around it
MAX_TO_BROWSER: Final = 1024 * 1024  # browsers end a host that sends more in one message
PART_CHARS: Final = 128 * 1024  # of a longer text: at most four bytes each
MAX_CALLS: Final = 8  # over HTTP, under way
CALL_PATHS: Final = "/api/auth/"  # everything else goes over the WebSocket
CALL_HEADERS: Final = ("Authorization", "Content-Type", "X-HybridGW-Client", "X-HybridGW-Proof")

_LENGTH: Final = struct.Struct("=I")
_CHROME: Final = re.compile(r"chrome-extension://[a-p]{32}/?")
_FIREFOX: Final = re.compile(
    r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}|[A-Za-z0-9._-]{0,80}@[A-Za-z0-9._-]{1,80}"
)
_FIREFOX_ORIGIN: Final = re.compile(r"moz-extension://[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def length_of(head: bytes) -> int:
    """What the four bytes in front of a message say."""
    return int(_LENGTH.unpack(head)[0])


def head_of(length: int) -> bytes:
    """Four bytes for a message of so many."""
    return _LENGTH.pack(length)


def extension_of(arguments: Sequence[str]) -> str | None:
    """Which extension a browser says it starts the host for; None: no browser does.

    Args: arguments: without the program's name. Chromium gives the origin first, on Windows a window after it; Firefox
    the path of the manifest and the id. Returns: `chrome-extension://ID` or the id that Firefox knows it by.
    """
    if arguments and _CHROME.fullmatch(arguments[0]):
        return arguments[0].rstrip("/")
    if len(arguments) > 1 and _FIREFOX.fullmatch(arguments[1]):
        return arguments[1]
    return None


def is_listed(extension: str, more: Collection[str] = ()) -> bool:
    """Is it one of ours, or one that the person has added. Args: more: ids, as browsers show them."""
    kind, _, name = extension.rpartition("://")
    ours = CHROME_IDS if kind else FIREFOX_IDS
    return name in ours or name in more


def is_firefox_origin(text: object) -> bool:
    """May an extension that Firefox started the host for say that this is its origin: another one in each profile."""
    return isinstance(text, str) and _FIREFOX_ORIGIN.fullmatch(text) is not None


def check_id(text: str) -> bool:
    """Is this an id that a browser gives extensions."""
    return re.fullmatch(r"[a-p]{32}", text) is not None or _FIREFOX.fullmatch(text) is not None
