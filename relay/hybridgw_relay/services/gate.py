"""How many connections there may be: in all, per address, per device, and of strangers who proved nothing yet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from hybridgw_protocol.errors import Busy, RateLimited

from ..core.quotas import AddressBuckets, network_of
from .host import Host

PER_DEVICE: Final = 4  # an older one is most likely dead and not known to be: it gives way


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Connections. failures_*: refused attempts of one network."""

    most: int = 10_000
    per_address: int = 1_024
    strangers_per_address: int = 256
    failures_per_minute: float = 60
    failure_burst: float = 10


class Gate:
    """Counts connections. Every `enter` is followed by one `leave`."""

    def __init__(self, host: Host, limits: GateLimits) -> None:
        self._host, self._limits = host, limits
        self._all = 0
        self._by_network: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._failures = AddressBuckets(limits.failures_per_minute / 60, limits.failure_burst)

    @property
    def count(self) -> int:
        """Connections now."""
        return self._all

    @property
    def strangers(self) -> int:
        """Those that are not admitted yet."""
        return self._strangers.total()

    def enter(self, address: str) -> None:
        """A new connection, a stranger at first. Raises: Busy, RateLimited: it must be refused; nothing was counted."""
        network = network_of(address)
        if not self._failures.has(address, 1, self._host.steady_ms()):
            raise RateLimited("Too many refused attempts from your network. Wait a minute.", retry_ms=60_000)
        if self._all >= self._limits.most:
            raise Busy("The relay serves as many connections as it can.", retry_ms=30_000)
        if (
            self._by_network[network] >= self._limits.per_address
            or self._strangers[network] >= self._limits.strangers_per_address
        ):
            raise RateLimited("Too many connections from your network.", retry_ms=30_000)
        self._all += 1
        self._by_network[network] += 1
        self._strangers[network] += 1

    def admitted(self, address: str) -> None:
        """It is no stranger any more."""
        self._less(self._strangers, network_of(address))

    def failed(self, address: str) -> None:
        """It was refused: enough of these shut its network out for a while."""
        self._failures.take(address, 1, self._host.steady_ms())

    def leave(self, address: str, *, admitted: bool) -> None:
        """The connection ended."""
        network = network_of(address)
        self._all -= 1
        self._less(self._by_network, network)
        if not admitted:
            self._less(self._strangers, network)

    @staticmethod
    def _less(counter: Counter[str], network: str) -> None:
        counter[network] -= 1
        if counter[network] <= 0:
            del counter[network]
