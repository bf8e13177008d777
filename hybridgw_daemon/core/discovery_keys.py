"""How devices of one space know each other on a local network before a name or a key was told: by a space key.

From each space key comes a *discovery key*. With it a device marks what it announces, and a listening device proves on
every new connection that it has the key; nobody else can tell two announcements or two connections of one device apart.
A device that was away while keys changed knows only old ones, so the last 16 are used; what they are good for differs:
a key that only active members have says that here is a member, an older one that a removed device may be there too.
Pure. Source: protocol/SPEC.md, "Authentication".
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from typing import Final

from hybridgw_protocol.ids import blake2b

EPOCHS: Final = 16  # so many space keys, newest first
TAG_BYTES: Final = 16
MARK_BYTES: Final = 8


class DiscoveryKeys:
    """The discovery keys of one device, as of now."""

    def __init__(self, space_keys: Iterable[tuple[bytes, bool]]) -> None:
        """Args: space_keys: (key, whether only active members have it), newest first; the first 16 count."""
        found = list(space_keys)[:EPOCHS]
        self._keys = [blake2b(b"", 32, "hgw-disc", key) for key, _ in found]
        self._is_current = [is_current for _, is_current in found]

    def tags(self, endpoint: str, nonce: bytes) -> list[bytes]:
        """What a listening device puts into its challenge. Args: endpoint, nonce: `ep` and `ns` of the challenge."""
        return [_tag(key, endpoint, nonce) for key in self._keys]

    def recognise_tags(self, tags: Sequence[bytes], endpoint: str, nonce: bytes) -> bool | None:
        """Does who sent this challenge have a key of ours. Args: endpoint: as *we* see it, not as it was told.

        Returns: True: one that only active members have; False: only an older one; None: none.
        """
        found = None
        for key, is_current in zip(self._keys, self._is_current, strict=True):
            own = _tag(key, endpoint, nonce)
            if any(hmac.compare_digest(own, tag) for tag in tags):
                if is_current:
                    return True
                found = False
        return found

    def mark(self, instance: bytes) -> bytes:
        """8 bytes to announce beside an instance name. Args: instance: 8 random bytes, new for every announcement."""
        if not self._keys:
            raise ValueError("There is no space key to mark with.")
        return _mark(self._keys[0], instance)

    def recognise(self, instance: bytes, mark: bytes) -> bool:
        """Was this announced by somebody who has a key of ours. Only a hint where to try: it can be copied."""
        return any(hmac.compare_digest(_mark(key, instance), mark) for key in self._keys)

    def __repr__(self) -> str:
        return f"DiscoveryKeys({len(self._keys)} keys)"


def _tag(key: bytes, endpoint: str, nonce: bytes) -> bytes:
    return blake2b(endpoint.encode() + nonce, TAG_BYTES, "hgw-tag", key)


def _mark(key: bytes, instance: bytes) -> bytes:
    return blake2b(instance, MARK_BYTES, "hgw-mark", key)
