"""How often a caller may ask: a budget per credential, and small ones for those who show none.

Everybody here comes from the same address, so an address says nothing: loopback is neither free nor ever shut out as a
whole. A caller without a valid credential is counted under its origin, those who show a bad one apart from those who
show none, and together with all such callers: a bad credential spends neither what belongs to a good one nor what a
probe of `/health` needs. HTTP calls and frames count alike.

Source of the headers: IETF draft-ietf-httpapi-ratelimit-headers-10; RFC 6585 for 429.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from hybridgw_protocol.errors import TooManyRequests
from hybridgw_protocol.token_bucket import Buckets, TokenBucket

from .ports import Principal

STRANGER: Final = "stranger"
CREDENTIAL: Final = "credential"
OWNER: Final = "owner"

# What a stranger may, times these. The owner's tools import and benchmark: their bound stops a loop that runs away.
CREDENTIAL_RATE: Final = 100
CREDENTIAL_BURST: Final = 60
OWNER_RATE: Final = 20_000
OWNER_BURST: Final = 6_000
STRANGERS: Final = 10  # all strangers together, times one of them
TRACKED: Final = 2_000  # credentials, and origins of strangers; the least recently seen are forgotten


class Taken(NamedTuple):
    """What became of one request. wait_ms: 0: go on."""

    wait_ms: int
    policy: str
    bucket: TokenBucket
    per_minute: float

    def check(self) -> None:
        """Raise TooManyRequests if it was one too many."""
        if self.wait_ms:
            wait_s = -(-self.wait_ms // 1000)
            raise TooManyRequests(f"Too many calls; the next one may come in {wait_s} s.", retry_after_s=wait_s)

    @property
    def headers(self) -> str:
        """Lines of an HTTP answer, with their ends. r: what is left; t: seconds until all of it is back, or until the
        next one when nothing is."""
        bucket = self.bucket
        left = bucket.level or 0.0
        seconds = self.wait_ms / 1000 if self.wait_ms else (bucket.burst - left) / bucket.rate_per_s
        return (
            f'RateLimit-Policy: "{self.policy}";q={int(self.per_minute)};w=60\r\n'
            f'RateLimit: "{self.policy}";r={max(0, int(left))};t={-int(-seconds // 1)}\r\n'
        )


class RateLimits:
    """One per daemon. Args: per_minute, burst: of one stranger; clock: ms that never go back."""

    def __init__(self, per_minute: float, burst: float, *, clock: Callable[[], int]) -> None:
        self._clock = clock
        rate = per_minute / 60
        self._strangers = Buckets(rate, burst, TRACKED)
        self._all_strangers = TokenBucket(rate * STRANGERS, burst * STRANGERS)
        self._credentials = Buckets(rate * CREDENTIAL_RATE, burst * CREDENTIAL_BURST, TRACKED)
        self._owner = TokenBucket(rate * OWNER_RATE, burst * OWNER_BURST)
        self._per_minute = {
            STRANGER: per_minute,
            CREDENTIAL: per_minute * CREDENTIAL_RATE,
            OWNER: per_minute * OWNER_RATE,
        }

    def take(self, principal: Principal | None, origin: str | None, *, is_bad: bool = False, cost: float = 1) -> Taken:
        """Count one request.

        Args: principal: None: no valid credential; is_bad: because the one shown is not valid; origin: of a page, None
        for a program.
        """
        wait_ms, name, bucket = self._charge(principal, origin, is_bad, cost)
        return Taken(wait_ms, name, bucket, self._per_minute[name])

    def bucket(self, principal: Principal) -> TokenBucket:
        """For a connection to hold and to take from, by the same clock: frames come by the hundred thousand."""
        return self._of(principal)[1]

    def now_ms(self) -> int:
        """By the clock of the buckets."""
        return self._clock()

    def _of(self, principal: Principal) -> tuple[str, TokenBucket]:
        if principal.is_owner:
            return OWNER, self._owner
        return CREDENTIAL, self._credentials.of(principal.id)

    def _charge(
        self, principal: Principal | None, origin: str | None, is_bad: bool, cost: float
    ) -> tuple[int, str, TokenBucket]:
        now_ms = self._clock()
        if principal is None:
            bucket, name = self._strangers.of((origin, is_bad)), STRANGER
            wait_ms = bucket.take(cost, now_ms)
            if not wait_ms:
                wait_ms = self._all_strangers.take(cost, now_ms)
                if wait_ms:
                    bucket.put_back(cost)
            return wait_ms, name, bucket
        name, bucket = self._of(principal)
        return bucket.take(cost, now_ms), name, bucket
