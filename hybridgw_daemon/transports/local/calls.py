"""What every carrier does with a call, whatever it came over: its budget, its line in the log, a note of refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ...services.ports import Principal
from ...services.rate_limits import RateLimits, Taken

MAX_USER_AGENT: Final = 120  # of it in a log line


class Call(NamedTuple):
    """One call that was answered.

    method: of HTTP, `WS` for a frame; template: of the route's path, a frame's command if it has none, `-` for neither,
    never what was sent; principal: id of the credential; user_agent: what the caller says it is, cut; connection,
    mode: of a WebSocket.
    """

    method: str
    template: str
    status: int
    took_ms: float
    request_id: str
    code: str | None
    principal: str | None
    client_ip: str | None
    user_agent: str | None
    connection: str | None = None
    mode: str | None = None


AccessLog = Callable[[Call], None]
Refused = Callable[[str, str | None], None]
"""(what a stranger tried, as the audit log names it; the origin it came from)"""


class Calls:
    """One for all carriers of a local API."""

    def __init__(
        self, limits: RateLimits, *, access: AccessLog | None = None,
        limited: Callable[[str], None] = lambda _policy: None, refused: Refused = lambda _what, _origin: None,
    ) -> None:  # fmt: skip
        """Args: access: told of every call; limited: of those that are too many, by policy; refused: of strangers."""
        self.limits, self._access, self._limited = limits, access, limited
        self.refused = refused

    def take(self, principal: Principal | None, origin: str | None, *, is_bad: bool = False, cost: float = 1) -> Taken:
        """Count one call against the budget of who makes it; see `RateLimits.take`. The answer is to be checked."""
        taken = self.limits.take(principal, origin, is_bad=is_bad, cost=cost)
        if taken.wait_ms:
            self._limited(taken.policy)
        return taken

    def told(self, call: Call) -> None:
        """Write one call down."""
        if self._access is not None:
            self._access(call)
