"""What a conversation needs of the connection that carries it (implemented by transports/ws.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Outlet(Protocol):
    """The sending half of one WebSocket, or of a pair of queues in a simulation."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue messages; those of one turn of the event loop leave in one write. Never blocks."""
        ...

    @property
    def is_congested(self) -> bool:
        """Is so much unsent that batches must wait."""
        ...

    async def drained(self) -> None:
        """Wait until it is not congested, or gone."""
        ...

    def close(self, reason: str) -> None:
        """End the connection once what is queued was sent, or soon if the other side does not read. Idempotent."""
        ...
