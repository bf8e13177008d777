"""Finding the devices of this space on the local network, and being found: multicast DNS by zeroconf.

Announced is an instance name of 16 random characters (new at each start, each day and with each space key), the port,
the addresses of that one network, and `k`, by which members recognise each other: nothing that two announcements have
in common, and no name. What others announce is believed within bounds, and only to know where to try:
protocol/SPEC.md, "Discovery".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NewType

from ...core.addresses import Address
from ...services.nearby import Nearby
from .interfaces import Choice

SERVICE: Final = "_hybridgw._tcp.local."
PAIRING_SERVICE: Final = "_hybridgw-pair._tcp.local."

Mark = Callable[[bytes], bytes]  # instance (8 bytes) -> k (8 bytes), under the space key in use
Recognise = Callable[[bytes, bytes], bool]  # (instance, k): is it a member of our space

Nameplate = NewType("Nameplate", int)


class Discovery:
    """Announces this device and looks for others on every network interface that may be used."""

    def __init__(
        self, nearby: Nearby, *, port: int, mark: Mark, recognise: Recognise, clock: Callable[[], int],
        entropy: Callable[[int], bytes], choice: Choice,
    ) -> None:  # fmt: skip
        """Args: port: where this device listens for others; clock: wall clock, Unix ms; choice: of interfaces."""
        self._nearby, self._port = nearby, port
        self._mark, self._recognise = mark, recognise
        self._clock, self._entropy, self._choice = clock, entropy, choice

    async def run(self) -> None:
        """Until cancelled. Needs open keys (mark is called). No interface, no multicast, sleep and wake, another
        address: it goes on when there is something to go on with."""
        raise NotImplementedError

    def renew(self) -> None:
        """Announce under another name: the space key changed. Does nothing while `run` does not run."""
        raise NotImplementedError

    def offer_pairing(self, nameplate: int) -> None:
        """Announce that the code with this nameplate can be entered here, beside the rest, until `end_pairing`."""
        raise NotImplementedError

    def end_pairing(self) -> None:
        """The code is used or dead: announce it no more."""
        raise NotImplementedError


async def find_pairing(nameplate: int, *, timeout_s: float, choice: Choice) -> list[Address]:
    """Who on this network says that it has shown the code with that nameplate: at most MAX_OFFERS addresses, as soon as
    one is known, none when the time is over. Several may claim it; only the code itself tells who is right.

    Needs no `Discovery`. Raises nothing when there is no network: the list is empty.
    """
    raise NotImplementedError
