"""Who may come in: the invite of a new space, the control records of a known one, the number of devices.

A stranger learns nothing: a space that is not here, one that is, and a device that never belonged get the same answer.
Who proves the root key of a space that is here may read its control records and nothing else: a machine that has only
the recovery words begins with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hybridgw_protocol.errors import BadFrame, NotAdmitted, QuotaExceeded, Revoked
from hybridgw_protocol.frames import Auth, Quota
from hybridgw_protocol.ids import DeviceId, SpaceId, blake2b, space_id
from hybridgw_protocol.limits import MAX_CONTROL_BYTES, MAX_RECORDS

from ..stores.base import RelayStore
from .host import Host
from .spaces import REMOVED, Space, Spaces

STRANGER: Final = (
    "This relay does not know you. Ask whoever runs it for an invite link, and add it with 'hybridgw relay add LINK'."
)


def invite_hash(secret: bytes) -> bytes:
    """What the relay keeps of an invite's secret: 32 bytes."""
    return blake2b(secret, 32, "hgw-invite")


class Candidate:
    """A device that proved its key and still has to show that it belongs."""

    def __init__(self, auth: Auth, device: DeviceId, space: Space | None) -> None:
        self.auth, self.device, self.space = auth, device, space
        self.is_root = space is not None and space_id(auth.pk[:32]) == auth.sp  # it proved that key, the space's root
        self.records: list[bytes] = []
        self._size = 0

    @property
    def known_heads(self) -> list[bytes]:
        """What to name in ctl_get: our heads to a device of the space, nothing to anybody else."""
        return self.space.heads if self.space and self.device in self.space.devices else []

    def take(self, records: Sequence[bytes]) -> None:
        """Control records that came. Raises: BadFrame: more than a space can have."""
        self.records.extend(records)
        self._size += sum(map(len, records))
        if len(self.records) > MAX_RECORDS or self._size > MAX_CONTROL_BYTES:
            raise BadFrame(f"A control log has at most {MAX_RECORDS} records and {MAX_CONTROL_BYTES} bytes.")


class AdmissionService:
    """Judges candidates."""

    def __init__(self, store: RelayStore, spaces: Spaces, host: Host) -> None:
        self._store, self._spaces, self._host = store, spaces, host

    async def begin(self, auth: Auth, device: DeviceId) -> tuple[Candidate, bool]:
        """Judge a device that proved its key. Returns it, and whether control records are needed first.

        Raises: NotAdmitted, Revoked.
        """
        space = self._spaces.find(self._space_id(auth))
        candidate = Candidate(auth, device, space)
        if space is None:
            if not auth.enrol or not await self._store.is_invited(invite_hash(auth.enrol), self._host.wall_ms()):
                raise NotAdmitted(STRANGER)
            return candidate, True
        if any(len(head) != 16 for head in auth.ctl):
            raise BadFrame("Control heads are told by their first 16 bytes.")
        if candidate.is_root:
            return candidate, False
        needs = bool(auth.ctl) and auth.ctl != space.heads and bool(self._store.unknown_control(space.sid, auth.ctl))
        if not needs:
            self._require_active(space, device)
        return candidate, needs

    async def finish(self, candidate: Candidate) -> Space:
        """Judge a candidate whose control records are all here; keeps them if they let it in.

        Raises: NotAdmitted, Revoked, QuotaExceeded; RemoteError kinds: a bad record.
        """
        space, device = candidate.space, candidate.device
        if space is not None and candidate.is_root:
            return space
        if space is None:
            space = await self._spaces.register(
                self._space_id(candidate.auth), invite_hash(candidate.auth.enrol), candidate.records, device
            )
            if space is None:
                raise NotAdmitted(STRANGER)
        elif candidate.records:
            if space.is_active(device):
                error = await space.add_control(candidate.records, source=None)
                if error is not None:
                    raise error
            else:
                await space.try_control(candidate.records, device)
        self._require_active(space, device)
        if not self._store.is_within_devices(space.aid, space.sid, device):
            raise QuotaExceeded("The account has as many devices as it may. Remove one, or ask for more.")
        return space

    async def quota(self, space: Space) -> Quota | None:
        """What the space's account may still store."""
        account = await self._store.account(space.aid)
        if account is None:
            return None
        return Quota(bytes=account.max_bytes, used=account.used_bytes, devices=account.max_devices)

    @staticmethod
    def _space_id(auth: Auth) -> SpaceId:
        return SpaceId(auth.sp)

    @staticmethod
    def _require_active(space: Space, device: DeviceId) -> None:
        if device not in space.devices:
            raise NotAdmitted(STRANGER)
        if not space.is_active(device):
            raise Revoked(REMOVED)
