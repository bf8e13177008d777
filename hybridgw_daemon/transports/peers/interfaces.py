"""The network interfaces of this machine: which of them may be used for discovery, and when they changed.

Containers, virtual machines and VPNs bring interfaces of their own, on which no device of a person is to be found and
whose announcements would only puzzle others: they are skipped unless a person names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """Which interfaces count, by name, with `*` and `?`. allow: only these, and of these also what is skipped
    otherwise; empty: all but SKIPPED. deny: never these."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface that is up. index: the number IPv6 uses; ipv4, ipv6: its addresses, without zones."""

    name: str
    index: int
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]


def usable(choice: Choice) -> Sequence[Interface]:
    """The interfaces for discovery now, in a fixed order; loopback is never among them."""
    raise NotImplementedError
