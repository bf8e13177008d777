"""Does this device still belong to its space; and if not, how that came and what a person can do about it.

Most often a device that was removed never gets the record of it: relay and peers refuse it before. Then what they said
counts, for as long as they say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from hybridgw_protocol.errors import Revoked
from hybridgw_protocol.membership import Status

from .space import Space, fingerprint

How = Literal["left", "removed", "expelled", "refused"]


class Outside(NamedTuple):
    """How this device came to be out, and a text for the person."""

    how: How
    message: str


def outside(space: Space, names: Mapping[str, str], refusal: Revoked | None) -> Outside | None:
    """How this device is out of its space; None: it belongs, as far as it knows. Raises: SecretsLocked.

    Args: names: that people gave to devices, by id in hex; refusal: what somebody who was asked last said.
    """
    own = space.identity.device
    again = "What is written here stays here. To join again: hybridgw pair CODE"
    taken_back = f"can take it back, there: hybridgw devices restore {fingerprint(own)}"
    match space.standing(own):
        case Status.ACTIVE:
            if refusal is None:
                return None
            but = f"or, unless it was put out for good, the device that removed it {taken_back}"
            return Outside("refused", f"{refusal.message} {again}, {but}")
        case Status.LEFT:
            return Outside("left", f"This device has left its space. {again}")
        case Status.REMOVED:
            seats = [space.control.seat(by) for by in removers(space)]
            found = [names.get(seat.device.hex()) or space.name_of(seat)[0] for seat in seats if seat]
            by = " and ".join(sorted(set(found))) or "another device"
            return Outside("removed", f"{by} has removed this device from its space. {again}, or {by} {taken_back}")
        case _:
            return Outside("expelled", f"This device was put out of its space for good. {again}")


def removers(space: Space) -> set[bytes]:
    """The seats that removed this device."""
    records = space.control.records
    return {records[digest].payload.by for digest in space.control.standing_removes(space.identity.device)}
