"""How far one connection has been served: a position in the order of the space, and what the client holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hybridgw_protocol.batch import Head
from hybridgw_protocol.ids import LogId


class Cursor:
    """Serves each batch at most once, in the order of `rid`: a batch is wanted if its number is above what the client
    holds of its log, whether it told so, was sent it, or pushed it itself. At most once, unless it was taken back.

    `rid` is a position up to which everything is done.
    """

    __slots__ = ("have", "rid")

    def __init__(self, have: Mapping[LogId, Head]) -> None:
        self.have: dict[LogId, int] = {log: head.n for log, head in have.items()}
        self.rid = 0

    def wants(self, log: LogId, n: int) -> bool:
        """Should this batch be sent."""
        return n > self.have.get(log, 0)

    def took_back(self, log: LogId, n: int) -> None:
        """What was sent of a log above this number was taken back: another branch is in its place."""
        if self.have.get(log, 0) > n:
            self.have[log] = n

    def sent(self, log: LogId, n: int) -> None:
        """It was sent, or came from this client."""
        if n > self.have.get(log, 0):
            self.have[log] = n
