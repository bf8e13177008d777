"""What services need of the world outside this machine; the transports implement it, app.py joins them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.localapi import RelayCheck

from ..core.keys import RootKeys


class Channel(Protocol):
    """A byte transport that keeps message borders: a WebSocket, or two queues in a simulation."""

    async def send(self, data: bytes) -> None:
        """Send one message; waits while the other side is slow. Raises: Offline."""
        ...

    async def receive(self) -> bytes:
        """The next message. Raises: Offline: the other side closed, or cannot be reached."""
        ...

    async def close(self) -> None:
        """Close; idempotent."""
        ...


class DirectChannel(Channel, Protocol):
    """A channel to another device. endpoint: of the certificate that its other side showed, empty if it showed none."""

    endpoint: str

    def trust(self) -> None:
        """The other side has proved itself: it is a stranger no more."""
        ...


class Mailbox(Protocol):
    """A two-party mailbox for one pairing."""

    nameplate: int

    async def send(self, message: bytes) -> None:
        """To the other side. Raises: PairingFailed, Offline."""
        ...

    async def receive(self) -> bytes:
        """From the other side. Raises: PairingFailed: closed by it or by the relay; Offline."""
        ...

    async def close(self, why: str) -> None:
        """Give the nameplate back. why: done or abort."""
        ...


class DirectMailbox(Mailbox, Protocol):
    """A mailbox without a relay. authority: "fp:…" of the certificate that both sides see."""

    authority: str


class DirectPairing(Protocol):
    """Pairing between two devices on one network."""

    async def why_not(self) -> str | None:
        """Why it cannot be done; None: it can. Waits a moment for direct links that are about to begin."""
        ...

    async def open_mailbox(self, nameplate: int) -> DirectMailbox:
        """From now on the code with this nameplate can be entered here, and is announced, until the mailbox closes."""
        ...

    async def join_mailbox(self, nameplate: int) -> DirectMailbox:
        """Find the device on this network that shows this code. Raises: Offline: none; PairingFailed: it was used."""
        ...

    async def joined(self, mailbox: DirectMailbox, device: DeviceId) -> None:
        """This device is let in by that one: connect with it there."""
        ...


class RootVisits(Protocol):
    """Devices of root's space on this network to which the root key was proved. records: the control records that they
    hold, of all together; devices: who they are."""

    records: list[bytes]
    devices: frozenset[DeviceId]

    async def tell(self, records: Sequence[bytes]) -> int:
        """Give them records. Returns how many have taken them. Raises: what the first one said, if none has."""
        ...


class DirectRecovery(Protocol):
    """The recovery words at devices of this network."""

    async def why_not(self) -> str | None:
        """Why it cannot be done; None: it can."""
        ...

    def visit(self, root: RootKeys) -> AbstractAsyncContextManager[RootVisits]:
        """Find devices of root's space, and read what they hold. Raises: Offline: none."""
        ...


class Gateway(Protocol):
    """The relays as a service sees them."""

    def use(self, urls: list[str]) -> None:
        """Keep exactly these relays connected from now on."""
        ...

    async def open_mailbox(self, url: str | None) -> tuple[Mailbox, str]:
        """Open a pairing mailbox at that relay, or at any connected one; returns it and the relay's URL.

        Raises: Offline: not connected; PairingFailed: one is open.
        """
        ...

    async def join_mailbox(self, url: str, nameplate: int) -> Mailbox:
        """Join the mailbox of a code. Raises: Offline, PairingFailed."""
        ...

    async def read_control(self, url: str, root: RootKeys) -> list[bytes]:
        """The control records that a relay holds of root's space.

        Raises: Offline; NotAdmitted: it does not know the space; RemoteError kinds.
        """
        ...

    async def check(self, url: str) -> RelayCheck:
        """Connect, look, disconnect; changes nothing."""
        ...
