"""The control records of one space, as far as a relay needs them: who belongs, which logs are closed. Pure.

All rules are those of hybridgw_protocol.membership, the same code that devices run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridgw_protocol import people
from hybridgw_protocol.errors import Gap, HybridGWError
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.membership import Close, ControlLog, Inserted

RawRecord = tuple[bytes, bytes]  # hash and bytes


class ControlView:
    """A control log with the answers that a relay asks of it."""

    def __init__(self, space: SpaceId, stored: Sequence[bytes] = ()) -> None:
        """Args: stored: records of our own database, whose signatures were checked when they came."""
        self._log = ControlLog(space)
        _, error = self._log.update(stored, trusted=True)
        if error is not None:
            raise error

    def add(self, records: Sequence[bytes]) -> tuple[list[RawRecord], HybridGWError | None]:
        """Take records. Returns those that are new, prevs first, and what is wrong with the first bad one.

        Records whose prevs are not here are not taken either: the answer is Gap.
        """
        added, error = self._log.update(records)
        new: list[RawRecord] = [(record.hash, record.raw) for record in added]
        if error is None and len(new) < len(records) and any(self._is_waiting(raw) for raw in records):
            error = Gap("Some control records rest on others that are not here. Send those first.")
        return new, error

    def _is_waiting(self, raw: bytes) -> bool:
        return self._log.insert(raw) is Inserted.WAITING

    def records(self) -> list[RawRecord]:
        """All of them, in the order of arrival."""
        return [(record.hash, record.raw) for record in self._log.since(0)]

    def heads(self) -> list[bytes]:
        """Hashes of the heads, 32 bytes each, sorted."""
        return list(self._log.heads)

    def missing_from(self, heads: Sequence[bytes]) -> list[bytes]:
        """Records that somebody with these heads lacks, prevs first."""
        return self._log.missing_from(heads)

    def directory(self, heads: Sequence[bytes]) -> list[bytes]:
        """What other people may know who know these heads; empty: it is not in the directory."""
        return people.directory(self._log, heads)

    def message_keys(self) -> dict[DeviceId, list[bytes]]:
        """Ids of the message keys that letters may be sealed to, of every active device that has one."""
        return {device: [key.id for key, _ in pairs] for device, pairs in people.message_keys(self._log).items()}

    def is_stale(self, heads: Sequence[bytes]) -> bool:
        """Does somebody with these heads not know who belongs now."""
        return people.is_stale(self._log, heads)

    def is_active(self, device: DeviceId) -> bool:
        """May this device connect."""
        return self._log.is_active(device)

    def devices(self) -> list[tuple[DeviceId, bytes, bool]]:
        """Every device that was ever seated, with its Ed25519 key and whether it is active."""
        found = {info.device: info.sign_public for info in self._log.devices()}
        return [(device, sign, self._log.is_active(device)) for device, sign in found.items()]

    def ends(self, owners: Mapping[LogId, DeviceId]) -> dict[LogId, Close]:
        """Those of these logs that control records close, and where."""
        return self._log.ends(owners)
