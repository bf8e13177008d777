"""How a conversation begins, up to the welcome: as a device to a relay, to another device, or as the device that is
called. Afterwards all three are the same (driver.py).

    relay     challenge -> auth with what is held -> [control records] -> welcome
    device    challenge with tags, which the caller must recognise before it says anything
              -> auth, which says who calls and nothing else -> judged -> welcome with the proof of who answers

Nothing of a space is told to whom has not proved itself: not by the caller, who knows tags first and a signature then,
and not by the one that is called. Source: protocol/SPEC.md, "Authentication".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from hybridgw_protocol.auth import choose_version, sign_answer, sign_auth, verify_answer, verify_auth
from hybridgw_protocol.errors import (
    AuthFailed,
    BadFrame,
    HybridGWError,
    NotAdmitted,
    Offline,
    RemoteClosed,
    Revoked,
    UnsupportedVersion,
)
from hybridgw_protocol.frames import Auth, Challenge, Ctl, CtlGet, Err, Frame, PairJoin, Welcome
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.limits import AUTH_TIMEOUT_S, PROTOCOL_VERSION
from hybridgw_protocol.link import Role
from hybridgw_protocol.membership import Status
from hybridgw_protocol.vectors import Heads, from_entries, to_entries

from ...services.peers import Path, PeerState
from ...services.sync import SyncService
from .line import Line
from .mailbox import Desk

log = logging.getLogger(__name__)

CTL_FRAME_BYTES: Final = 256 * 1024
STRANGER: Final = "This device does not belong to the space, or to none that is here."  # the same for both
SELF: Final = "This device itself answers there."

Entropy = Callable[[int], bytes]
Settle = Callable[[DeviceId], Awaitable[None]]  # may there be this connection to a device; raises RemoteClosed


class Greeted(NamedTuple):
    """What is known at the welcome. their_ms: its clock, Unix ms; theirs: what it holds, None: it tells in a want;
    control: heads of its control log, None: it tells in a ctl_get; only_control: it has shown but an old key, or no
    record here admits it: control records are exchanged, nothing else."""

    state: PeerState
    their_ms: int
    theirs: Heads | None
    control: list[bytes] | None
    only_control: bool = False


class Joining(NamedTuple):
    """Somebody who is no device of the space enters a code that is shown here."""

    nameplate: int


class Greeting(Protocol):
    """One way to begin. role: which end of the link this is; path: the way it goes; timeout_s: for all of it."""

    role: Role
    path: Path
    peer: str
    timeout_s: float

    async def greet(self, line: Line) -> Greeted | Joining:
        """Up to the welcome. Raises: RemoteError kinds: refused, or not who it should be; Offline."""
        ...

    async def pair(self, line: Line, nameplate: int) -> None:
        """Let it enter the code, as long as that takes; only after `Joining`."""
        ...


class RelayGreeting:
    """To a relay: it is told what is held at once, for it may know it anyhow."""

    role: Role = Role.CLIENT
    path: Path = "relay"
    timeout_s = AUTH_TIMEOUT_S * 3  # a new space uploads its control log

    def __init__(self, sync: SyncService, *, url: str, endpoint: str, enrol: bytes, entropy: Entropy) -> None:
        """Args: enrol: invite secret, empty if none is due."""
        self.peer = url
        self._sync, self._endpoint, self._enrol, self._entropy = sync, endpoint, enrol, entropy

    async def greet(self, line: Line) -> Greeted:
        """See Greeting."""
        sync = self._sync
        challenge = await _challenge(line, "relay")
        identity = sync.identity
        auth = Auth(
            v=choose_version(challenge),
            sp=identity.space,
            pk=identity.sign_public + identity.exchange_public,
            nc=self._entropy(32),
            ep=self._endpoint,
            sig=bytes(64),
            t=sync.now_ms(),
            vv=to_entries(await sync.heads()),
            ctl=sync.control_heads(),
            enrol=self._enrol,
        )
        auth.sig = sign_auth(challenge, auth, identity.sign_secret)
        await line.send(auth)
        while True:
            frame, request = await line.receive()
            match frame:
                case Welcome():
                    state = PeerState(self.peer, link=line.link)
                    state.quota = frame.quota
                    return Greeted(state, frame.t, from_entries(frame.vv), frame.ctl)
                case CtlGet():
                    await send_control(line, sync.control_missing_from(frame.heads), request)
                case _:
                    raise unexpected(frame, self.peer)

    async def pair(self, line: Line, nameplate: int) -> None:
        """See Greeting; it never asks for it."""


class CallerGreeting:
    """To another device, which has to show that it knows the space, and then who it is."""

    role: Role = Role.CLIENT
    path: Path = "lan"
    timeout_s = AUTH_TIMEOUT_S

    def __init__(
        self, sync: SyncService, *, address: str, seen: str, own: str, entropy: Entropy, settle: Settle
    ) -> None:
        """Args: address: where it was reached; seen: the endpoint of the certificate that it showed; own: ours."""
        self.peer = address
        self._sync, self._seen, self._own, self._entropy, self._settle = sync, seen, own, entropy, settle

    async def greet(self, line: Line) -> Greeted:
        """See Greeting. Raises also: NotAdmitted: who answers is no device of this space."""
        sync = self._sync
        challenge = await _challenge(line, "peer")
        if self._seen == self._own:
            raise NotAdmitted(SELF)
        if challenge.ep != self._seen:
            raise AuthFailed("It names another certificate than its own: something stands between the two devices.")
        is_current = sync.space.discovery_keys().recognise_tags(challenge.tags, self._seen, challenge.ns)
        if is_current is None:
            raise NotAdmitted(f"{self.peer} is no device of this space.")
        identity = sync.identity
        auth = Auth(
            v=choose_version(challenge),
            sp=identity.space,
            pk=identity.sign_public + identity.exchange_public,
            nc=self._entropy(32),
            ep=self._seen,
            sig=bytes(64),
            t=sync.now_ms(),
        )
        auth.sig = sign_auth(challenge, auth, identity.sign_secret)
        await line.send(auth)
        frame, _ = await line.receive()
        if not isinstance(frame, Welcome):
            raise unexpected(frame, self.peer)
        device = verify_answer(challenge, auth, frame)
        if device == identity.device:
            raise NotAdmitted(SELF)
        standing = sync.space.standing(device)
        if standing not in (None, Status.ACTIVE):
            raise Revoked(f"{sync.space.device_name(device)} does not belong to this space any more.")
        if standing is None and not is_current:
            raise NotAdmitted(f"{self.peer} is no device of this space.")
        await self._settle(device)
        state = PeerState(device.hex(), path="lan", device=device, name=sync.space.device_name(device), link=line.link)
        state.address = self.peer
        state.is_member = standing is not None
        only_control = standing is None or not is_current
        return Greeted(state, frame.t, from_entries(frame.vv), frame.ctl, only_control)

    async def pair(self, line: Line, nameplate: int) -> None:
        """See Greeting; it never asks for it."""


class HostGreeting:
    """As the device that another one calls. Says nothing about itself before the caller has proved who it is."""

    role: Role = Role.SERVER
    path: Path = "lan"
    timeout_s = AUTH_TIMEOUT_S

    def __init__(
        self, sync: SyncService, *, address: str, own: str, entropy: Entropy, settle: Settle,
        admitted: Callable[[], None], desk: Desk,
    ) -> None:  # fmt: skip
        """Args: address: the caller's; own: endpoint of the certificate shown; admitted: called before the welcome;
        desk: where a code can be entered."""
        self.peer = address
        self._sync, self._own, self._entropy, self._settle = sync, own, entropy, settle
        self._admitted, self._desk = admitted, desk

    async def greet(self, line: Line) -> Greeted | Joining:
        """See Greeting. Raises also: Revoked, NotAdmitted: who calls, which is told no more than that."""
        sync, nonce = self._sync, self._entropy(32)
        challenge = Challenge(
            v=(PROTOCOL_VERSION, PROTOCOL_VERSION), ns=nonce, role="peer", t=0, ep=self._own,
            tags=sync.space.discovery_keys().tags(self._own, nonce),
        )  # fmt: skip
        await line.send(challenge)
        auth, _ = await line.receive()
        if isinstance(auth, PairJoin):
            return Joining(auth.np)
        if not isinstance(auth, Auth):
            raise unexpected(auth, self.peer)
        device = verify_auth(challenge, auth, frozenset((self._own,)))
        identity = sync.identity
        standing = sync.space.standing(device) if auth.sp == identity.space else None
        if standing is None or device == identity.device:
            raise NotAdmitted(STRANGER)
        if standing is not Status.ACTIVE:
            raise Revoked("This device does not belong to the space any more.")
        await self._settle(device)
        self._admitted()
        welcome = Welcome(
            sid=self._entropy(6).hex(), t=sync.now_ms(), vv=to_entries(await sync.heads()), ctl=sync.control_heads(),
            sig=sign_answer(challenge, auth, identity.sign_secret, identity.device),
            pk=identity.sign_public + identity.exchange_public,
        )  # fmt: skip
        await line.send(welcome)
        state = PeerState(device.hex(), path="lan", device=device, name=sync.space.device_name(device), link=line.link)
        state.address = self.peer
        return Greeted(state, auth.t, None, None)

    async def pair(self, line: Line, nameplate: int) -> None:
        """See Greeting."""
        await self._desk.meet(line, nameplate)


async def _challenge(line: Line, role: str) -> Challenge:
    challenge, _ = await line.receive()
    if not isinstance(challenge, Challenge):
        raise BadFrame("The first frame was no challenge.")
    if challenge.role != role:
        raise BadFrame(f"A {challenge.role[:16]!r} answers at {line.peer}, where a {role} should.")
    return challenge


REFUSALS: Final = {kind.code: kind for kind in (AuthFailed, NotAdmitted, Revoked, UnsupportedVersion)}


def unexpected(frame: Frame, peer: str) -> HybridGWError:
    """What to raise for a frame that came in place of another: a refusal, or a fault."""
    if isinstance(frame, Err):
        return closed_by_peer(frame, peer)
    return BadFrame(f"A {frame.type.name.lower()} frame came before the welcome.")


def closed_by_peer(frame: Err, peer: str) -> HybridGWError:
    """The last frame of the other side, as an error."""
    refusal = REFUSALS.get(frame.code)
    if refusal is not None:
        return refusal(f"{peer} refuses this device: {frame.msg}", told=True)
    return RemoteClosed(f"{peer} closed: {frame.msg}", remote_code=frame.code, retry_ms=frame.retry)


# ---- control records -------------------------------------------------------------------------------------------------
def parts_of(records: list[bytes]) -> list[list[bytes]]:
    """Records in frames of a bounded size; none, no frame."""
    parts: list[list[bytes]] = []
    size = CTL_FRAME_BYTES
    for record in records:
        if size + len(record) > CTL_FRAME_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += len(record)
    return parts


async def send_control(line: Line, records: list[bytes], request: int) -> None:
    """Answer a ctl_get; perhaps with none."""
    parts = parts_of(records) or [[]]
    for k, part in enumerate(parts):
        line.link.send(Ctl(recs=part, more=k + 1 < len(parts)), request=request)
    await line.flush()


async def greet_in_time(greeting: Greeting, line: Line) -> Greeted | Joining:
    """The greeting, or the end of patience. Raises: Offline, and what the greeting raises."""
    try:
        async with asyncio.timeout(greeting.timeout_s):
            return await greeting.greet(line)
    except TimeoutError as error:
        raise Offline(f"{greeting.peer} did not answer in time.") from error
