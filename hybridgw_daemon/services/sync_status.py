"""What a person is told of sync: where things stand, which ways are in use, and why another one is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from hybridgw_protocol.localapi import DirectLink, SyncStatus
from hybridgw_storage.database import Database

from ..stores import alarms, control, documents, oplog
from .device_names import given_names
from .peers import Peers
from .space import Space
from .standing import Outside, outside

NO_RELAY: Final = "No relay is known; add one with 'hybridgw relay add LINK'."
NO_CONTACT: Final = "No relay can be reached now."


class SyncTeller:
    """Reads; changes nothing but when all were last in step."""

    def __init__(self, database: Database, space: Space, peers: Peers) -> None:
        self._database, self._space, self._peers = database, space, peers

    def status(self, is_in_step: Callable[[], bool]) -> SyncStatus:
        """Where things stand. Args: is_in_step: looked at only when it matters."""
        rows = self._database.peek(oplog.logs)
        writes, _ = self._database.peek(oplog.pending_size)
        open_alarms = self._database.peek(alarms.alarms)
        waiting = sum(row.stored.n - row.applied.n for row in rows.values())
        parked = any(row.waiting == "clock" for row in rows.values())
        best = self._peers.highest()
        for peer in (*self._peers.known, *(d.device.hex() for d in self._space.active_devices())):
            for log_id, head in self._database.peek(partial(control.peer_heads, peer=peer)).items():
                best[log_id] = max(best.get(log_id, 0), head.n)
        own = None if self._space.locked else self._space.identity.device
        to_send = sum(max(0, r.stored.n - best.get(log_id, 0)) for log_id, r in rows.items() if r.device == own)
        conflicts = self._database.peek(documents.count_conflicts)
        state, message, out = "in_step", None, self.outside()
        if self._space.locked:
            state, message = "locked", self._space.locked
        elif out is not None:
            state, message = "offline", out.message
        elif not self._peers.conversations:
            state = "offline"
            error = next(iter(self._peers.errors.values()), None)
            message = error.message if error else NO_CONTACT if self._peers.known else NO_RELAY
        elif parked:
            state, message = "parked", "Another device's clock is ahead; what it wrote is shown when its time has come."
        elif not is_in_step():
            message = self._peers.no_room()
            state = "parked" if message else "syncing"
        else:
            self._peers.note_step()
        return SyncStatus(
            state=state,  # type: ignore[arg-type]
            standing="active" if out is None else out.how,
            path=self._peers.path(),
            path_reason=self.why_this_path() if out is None else out.message,
            pending=writes,
            to_send=to_send,
            waiting=waiting,
            logs=len(rows),
            conflicts=conflicts,
            alarms=len(open_alarms),
            devices=len(self._space.active_devices()),
            relays=[self._peers.relay_status(url) for url in self._peers.known],
            lan=self._peers.lan.off is None,
            direct=[
                DirectLink(
                    device=state.peer,
                    name=state.name,
                    address=state.address,
                    sent=state.sent,
                    received=state.received,
                    sent_bytes=state.bytes_out,
                    received_bytes=state.bytes_in,
                )
                for state in self._peers.directs()
            ],
            last_sync_ms=self._peers.last_sync_ms,
            message=message,
        )

    def outside(self) -> Outside | None:
        """How this device is out of its space; None: it belongs, as far as it knows or is told."""
        refusal = None if self._peers.conversations else self._peers.refusal()
        if self._space.locked or (self._space.is_active and refusal is None):
            return None
        return outside(self._space, self._database.peek(given_names), refusal)

    def why_this_path(self) -> str:
        """One sentence on the ways in use, and on one that is not."""
        peers = self._peers
        path, directs = peers.path(), peers.directs()
        others = len(self._space.active_devices()) - 1
        error = next(iter(peers.errors.values()), None)
        told = next(iter(peers.lan.errors.values()), None)
        if path in ("lan", "both"):
            names = ", ".join(state.name for state in directs)
            text = f"Connected directly with {names}."
            if path == "lan":
                text += f" {error.message}" if error else " The relay does not answer." if peers.known else ""
                text += "" if peers.known else " No relay is known."
            return text
        if peers.lan.off:
            why = peers.lan.off
        elif others < 1:
            why = "There is no other device yet."
        else:
            why = told.message if told else "No other device was found on this network."
        if path == "relay":
            return f"Over the relay. {why}"
        return f"{error.message if error else NO_CONTACT if peers.known else NO_RELAY} {why}"
