"""How much one device, one address and one account may ask of a relay. Pure: time is an argument.

Rates are token buckets (hybridgw_protocol/token_bucket.py). Source: protocol/SPEC.md, "Relay".
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from hybridgw_protocol.token_bucket import Buckets, TokenBucket

# A device that seals every 20 ms makes 50 pushes a second at most: the default leaves it room and stops a flood. A cold
# sync packs up to half a MiB into one push, so bytes are what bounds it.
PUSHES_PER_S: Final = 100.0
PUSH_BURST: Final = 1_000
BYTES_PER_S: Final = 16 * 1024 * 1024
BYTES_BURST: Final = 128 * 1024 * 1024
RECORDS_PER_S: Final = 2.0  # a signature check and a resolution each
RECORD_BURST: Final = 4_000  # a whole control log at once
MESSAGES_PER_S: Final = 5_000.0
MESSAGE_BURST: Final = 20_000
ACCOUNT_BYTES: Final = 1024**3
ACCOUNT_DEVICES: Final = 32
TRACKED_ADDRESSES: Final = 10_000  # least recently seen ones are forgotten
TRACKED_DEVICES: Final = 20_000


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What one device may push, over all its connections."""

    pushes_per_s: float = PUSHES_PER_S
    push_burst: float = PUSH_BURST
    bytes_per_s: float = BYTES_PER_S
    bytes_burst: float = BYTES_BURST
    records_per_s: float = RECORDS_PER_S
    record_burst: float = RECORD_BURST
    messages_per_s: float = MESSAGES_PER_S
    message_burst: float = MESSAGE_BURST


@dataclass(frozen=True, slots=True)
class PeopleLimits:
    """What one person may do to others: look people up, send letters to one other person, ask to be a contact."""

    looks_per_s: float = 1.0
    look_burst: float = 120
    letters_per_s: float = 10.0
    letter_burst: float = 1_000
    contacts_per_s: float = 1 / 60
    contact_burst: float = 40


class DeviceRate:
    """The budgets of one device. Once refused it stays refused until the wait is over, so that of a row of pushes
    none in the middle is taken."""

    __slots__ = ("_bytes", "_messages", "_pushes", "_records", "_refused_until_ms")

    def __init__(self, limits: DeviceLimits) -> None:
        self._pushes = TokenBucket(limits.pushes_per_s, limits.push_burst)
        self._bytes = TokenBucket(limits.bytes_per_s, limits.bytes_burst)
        self._records = TokenBucket(limits.records_per_s, limits.record_burst)
        self._messages = TokenBucket(limits.messages_per_s, limits.message_burst)
        self._refused_until_ms = 0

    def push(self, size_bytes: int, now_ms: int) -> int:
        """Account for one push frame. Returns 0, or the ms to wait; a refused one costs nothing."""
        wait = self._refused_until_ms - now_ms
        if 0 < wait <= 60_000:
            return wait
        wait = self._bytes.take(size_bytes, now_ms)
        if not wait:
            wait = self._pushes.take(1, now_ms)
            if wait:
                self._bytes.put_back(size_bytes)
        if wait:
            wait = max(wait, 1_000)  # let a useful number of tokens gather
            self._refused_until_ms = now_ms + wait
        return wait

    def messages(self, count: int, now_ms: int) -> int:
        """Account for *count* messages. Returns 0, or the ms to wait."""
        return self._messages.take(count, now_ms)

    def records(self, count: int, now_ms: int) -> int:
        """Account for *count* control records. Returns 0, or the ms to wait."""
        return self._records.take(count, now_ms)


DEFAULT_PEOPLE: Final = PeopleLimits()


class PeopleRates:
    """What one person may ask about and send to others, over all its devices; the memory is bounded."""

    def __init__(self, limits: PeopleLimits, most: int = TRACKED_DEVICES) -> None:
        self.looks = Buckets(limits.looks_per_s, limits.look_burst, most)  # by person
        self.pairs = Buckets(limits.letters_per_s, limits.letter_burst, most)  # by person and recipient
        self.contacts = Buckets(limits.contacts_per_s, limits.contact_burst, most)  # by person


class DeviceRates:
    """The budgets of the devices that were here lately; the memory is bounded."""

    def __init__(
        self, limits: DeviceLimits, most: int = TRACKED_DEVICES, people: PeopleLimits = DEFAULT_PEOPLE
    ) -> None:
        self._limits, self._most = limits, most
        self.people = PeopleRates(people)
        self._rates: OrderedDict[bytes, DeviceRate] = OrderedDict()

    def of(self, device: bytes) -> DeviceRate:
        """The budgets of a device: the same over all its connections, and after it came back."""
        rate = self._rates.get(device)
        if rate is None:
            rate = self._rates[device] = DeviceRate(self._limits)
            if len(self._rates) > self._most:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end(device)
        return rate


class AddressBuckets:
    """One bucket per network address of a stranger (other text is a key of its own); the memory is bounded."""

    def __init__(self, rate_per_s: float, burst: float, most: int = TRACKED_ADDRESSES) -> None:
        self._buckets = Buckets(rate_per_s, burst, most)

    def take(self, address: str, amount: float, now_ms: int) -> int:
        """As TokenBucket.take, for the network of *address*."""
        return self._buckets.of(network_of(address)).take(amount, now_ms)

    def has(self, address: str, amount: float, now_ms: int) -> bool:
        """As TokenBucket.has; an address not seen before has a full bucket."""
        bucket = self._buckets.find(network_of(address))
        return bucket is None or bucket.has(amount, now_ms)


def network_of(address: str) -> str:
    """The network that one person can be assumed to hold: /24 of IPv4, /64 of IPv6; other text as it is."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))
