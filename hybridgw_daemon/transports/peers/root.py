"""The recovery words on a connection: root proves its key and reads the control records, of a relay or of a device.

A relay is dialled by name, so root says at once which space it is of. Who answers on a network may be anybody: there
root leaves out the space and its keys, and only a device that has the same ones can verify what it signed. To a device
it may give records too, since a device lets nobody in of whom it has no record. Source: protocol/SPEC.md,
"Authentication" (Root) and "Relay".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hybridgw_protocol.auth import choose_version, endpoint, sign_auth, veiled, verify_answer
from hybridgw_protocol.errors import AuthFailed, BadFrame, NotAdmitted, Offline, RemoteClosed
from hybridgw_protocol.frames import (
    Auth,
    Challenge,
    Credit,
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Err,
    Frame,
    Ping,
    Pong,
    Welcome,
)
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.limits import AUTH_TIMEOUT_S, MAX_CONTROL_BYTES, MAX_RECORDS, ROOT_RESERVE
from hybridgw_protocol.link import Role

from ...core.keys import RootKeys
from ...services.gateway import Channel, DirectChannel
from ...services.sync import SyncService
from .greeting import REFUSALS, challenge_of, parts_of, send_control
from .line import Line

READ_CONTROL_S: Final = 60.0  # 8 MiB at most, perhaps over a slow line
MOST_RECORDS: Final = 2 * MAX_RECORDS + ROOT_RESERVE  # what counts, and what does not
MOST_RECORD_BYTES: Final = 2 * (MAX_CONTROL_BYTES + ROOT_RESERVE * 1024)  # likewise


class Visit:
    """A connection on which root has proved its key. device: who answered, None: a relay. Closed by whoever made it."""

    def __init__(self, line: Line, device: DeviceId | None) -> None:
        self._line, self.device = line, device
        self._has: set[bytes] = set()  # records that it has shown

    async def read(self) -> list[bytes]:
        """The control records that are held there. Raises: Offline; RemoteError kinds."""
        await self._line.ask(CtlGet(heads=[]))
        records: list[bytes] = []
        size_bytes = 0
        while True:
            frame = await self._next()
            if isinstance(frame, Ctl):
                records += frame.recs
                size_bytes += sum(map(len, frame.recs))
                if len(records) > MOST_RECORDS or size_bytes > MOST_RECORD_BYTES:
                    raise BadFrame(f"{self._line.peer} sends more control records than a space can have.")
                if not frame.more:
                    self._has = set(records)
                    return records

    async def tell(self, records: Sequence[bytes]) -> None:
        """Give it the records that it has not shown; returns when it has them. Raises: Offline; RemoteError kinds: it
        refuses them."""
        for part in parts_of([record for record in records if record not in self._has]):
            await self._line.ask(CtlPut(recs=part))
            while not isinstance(await self._next(), CtlAck):
                pass

    async def _next(self) -> Frame:
        frame = await _heard(self._line)
        if isinstance(frame, Ping):
            await self._line.send(Pong(t=frame.t))
        return frame

    async def close(self) -> None:
        """End it."""
        await self._line.channel.close()


async def read_control(channel: Channel, root: RootKeys, entropy: Callable[[int], bytes], *, url: str) -> list[bytes]:
    """The control records that a relay holds of root's space, shown to who proves the root key. Closes the channel.

    Raises: Offline; NotAdmitted: the relay does not know the space; RemoteError kinds.
    """
    line = Line(channel, Role.CLIENT, peer=url)
    try:
        async with asyncio.timeout(READ_CONTROL_S):
            challenge = await challenge_of(line, "relay")
            auth = _auth(challenge, root, endpoint(url), entropy)
            await line.send(auth)
            if not isinstance(await _heard(line), Welcome):
                raise BadFrame("The relay answered the recovery words with something else.")
            return await Visit(line, None).read()
    except TimeoutError as error:
        raise Offline(f"{url} did not answer in time.") from error
    finally:
        await line.channel.close()


async def visit_device(
    channel: DirectChannel, root: RootKeys, entropy: Callable[[int], bytes], *, peer: str, own: str
) -> Visit:
    """Prove the root key to who answers on the network, which is told nothing unless it has the same root.

    Args: peer: what errors call it; own: the endpoint of this device itself. The channel is closed if this fails.
    Raises: Offline; NotAdmitted: no device of root's space; AuthFailed: something is in between; RemoteError kinds.
    """
    line = Line(channel, Role.CLIENT, peer=peer)
    try:
        async with asyncio.timeout(AUTH_TIMEOUT_S):
            challenge = await challenge_of(line, "peer")
            if channel.endpoint == own:
                raise NotAdmitted("This device itself answers there.")
            if challenge.ep != channel.endpoint:
                raise AuthFailed("It names another certificate than its own: something stands between the two devices.")
            auth = _auth(challenge, root, channel.endpoint, entropy)
            await line.send(veiled(auth))
            welcome = await _heard(line)
            if not isinstance(welcome, Welcome):
                raise BadFrame("It answered the recovery words with something else.")
            device = verify_answer(challenge, auth, welcome)
    except TimeoutError as error:
        await channel.close()
        raise Offline(f"{peer} did not answer in time.") from error
    except BaseException:
        await channel.close()
        raise
    channel.trust()
    return Visit(line, device)


async def serve_root(sync: SyncService, line: Line) -> None:
    """Root has proved its key to this device: it may read the control records and bring some, nothing else.

    Raises: NotAdmitted: it tries something else; RemoteError kinds: a record that nobody could have signed; Offline.
    """
    try:
        async with asyncio.timeout(READ_CONTROL_S):
            while True:
                frame, request = await line.receive()
                match frame:
                    case CtlGet():
                        await send_control(line, sync.control_missing_from(frame.heads), request)
                    case CtlPut():
                        await sync.add_records(frame.recs, from_peer=True)
                        await line.send(CtlAck(heads=sync.control_heads()), request)
                    case Ping(t=t):
                        await line.send(Pong(t=t), request)
                    case Pong() | CtlAck() | Credit() | Err():
                        pass
                    case _:
                        raise NotAdmitted("The recovery words read and bring control records here, nothing else.")
    except TimeoutError as error:
        raise Offline("The recovery words were used for too long at a time.") from error


def _auth(challenge: Challenge, root: RootKeys, where: str, entropy: Callable[[int], bytes]) -> Auth:
    auth = Auth(
        v=choose_version(challenge), sp=root.space, pk=root.sign_public + root.exchange_public, nc=entropy(32),
        ep=where, sig=bytes(64), t=challenge.t, sub=False,
    )  # fmt: skip
    auth.sig = sign_auth(challenge, auth, root.sign_secret)
    return auth


async def _heard(line: Line) -> Frame:
    """The next frame. Raises: what the other side says as its last word; Offline."""
    frame, _ = await line.receive()
    if isinstance(frame, Err):
        kind = REFUSALS.get(frame.code)
        raise (
            kind(f"{line.peer}: {frame.msg}")
            if kind
            else RemoteClosed(f"{line.peer}: {frame.msg}", remote_code=frame.code)
        )
    return frame
