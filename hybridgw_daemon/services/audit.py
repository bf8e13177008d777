"""The audit log: what concerns who may do what, in sentences that a person reads.

What a person or a credential does is written in the transaction that does it. What strangers try comes in any number:
it is counted in memory and written as one row per kind and origin now and then, so that nobody can fill the disk or
push other rows out by knocking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.ids import check_collection
from hybridgw_protocol.localapi_access import AuditEntry, AuditPage, ListAudit, Noted, NoteExport
from hybridgw_storage.database import Database, Tx

from ..core.origins import kind_of
from ..stores import audit as rows
from .ports import OWNER, Principal

MOST_KINDS: Final = 64  # of refusals that are counted apart between two writings; beyond, by event only

# By event: what to say, with fields of the detail. Another event says its name.
SENTENCES: Final = {
    "grant.asked": "{name} asks to {may}.",
    "grant.approved": "{name} was approved: it may {may}, {lasts}.",
    "grant.refused": "{name} was refused.",
    "grant.wrong_code": "A wrong code was entered for {name}.",
    "grant.voided": "The request of {name} was dropped after too many wrong codes.",
    "grant.ended": "{name} lost its rights ({reason}).",
    "login": "Tokens were given to {name}.",
    "login.refused": "A login was refused: not a valid key or approval.",
    "refresh.refused": "A refresh token that does not count was refused.",
    "refresh.reused": "A refresh token of {name} was used twice, so somebody may have a copy: its rights ended.",
    "dashboard.opened": "The dashboard was opened.",
    "dashboard.refused": "A link to the dashboard was refused: used, too old, or unknown.",
    "logout": "{name} signed out.",
    "logout.all": "All tokens of all apps were ended.",
    "key.created": "The API key {name} was made: it may {may}.",
    "key.rotated": "The API key {name} has another secret.",
    "key.revoked": "The API key {name} was revoked.",
    "key.expired": "The API key {name} has ended.",
    "device.added": "The device {name} was let in by pairing.",
    "device.joined": "This device was let in by pairing.",
    "device.renamed": "The device {device} is called {name} now.",
    "device.removed": "The device {name} was removed.",
    "device.restored": "The device {name} was let in again.",
    "device.left": "This device left its space.",
    "device.expelled": "The device {name} was put out for good, with the recovery words.",
    "device.undone": "What the device {name} wrote was made not to count, with the recovery words.",
    "device.settled": "The forked log of the device {name} was ended, with the recovery words.",
    "contact.asked": "{name} was asked to be a contact.",
    "contact.accepted": "{name} is a contact now.",
    "contact.blocked": "{name} was blocked.",
    "contact.renamed": "{before} is called {name} now.",
    "contact.verified": "The safety number of {name} was found to be the same.",
    "contact.removed": "{name} is no contact any more.",
    "message.conflict": "A message was refused: its id stands for another one.",
    "recovery.shown": "The recovery words were shown.",
    "recovery.confirmed": "The recovery words were confirmed, and erased from this machine.",
    "recovery.done": "The space was recovered with the words, from {relay}.",
    "export": "{documents} documents of {collection} were exported as {format}.",
    "refused.host": "Requests were refused: they named another host.",
    "refused.origin": "Requests of a page were refused: it was not let in.",
    "refused.token": "Requests were refused: the credential does not count.",
    "refused.code": "Pairing codes were tried, and nobody was let in.",
    "refused.device": "Direct connections were refused: no device of this space, or one that is out.",
    "refused.misuse": "A token was sent in a URL, where it does not count.",
}


class AuditService:
    """Writes and lists it. `refused` and `flush` are for the event loop; `write` for inside a transaction."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._refused: dict[tuple[str, str | None], tuple[int, int]] = {}  # (event, origin) -> (first ms, count)

    def write(
        self, tx: Tx, event: str, *, principal: str | None = None, origin: str | None = None, **detail: object
    ) -> None:
        """One row, in the transaction that does what it tells."""
        rows.add(tx, self._clock(), event, principal=principal, origin=origin, detail=detail)

    async def note(self, event: str, **detail: object) -> None:
        """One row about what the owner did, in a transaction of its own: after it was done."""
        await self._database.write(
            lambda tx: rows.add(tx, self._clock(), event, principal=OWNER.id, origin=None, detail=detail)
        )

    def refused(self, event: str, origin: str | None = None) -> None:
        """Count something that a stranger tried. Args: origin: as it was sent; kept if it is one."""
        key = (event, origin if origin is not None and kind_of(origin, plain_http=True) else None)
        if key not in self._refused and len(self._refused) >= MOST_KINDS:
            key = (event, None)
        first, count = self._refused.get(key, (self._clock(), 0))
        self._refused[key] = (first, count + 1)

    async def flush(self) -> None:
        """Write down what was counted; nothing to write costs nothing."""
        if not self._refused:
            return
        counted, self._refused = self._refused, {}
        now_ms = self._clock()

        def write(tx: Tx) -> None:
            for (event, origin), (first, count) in counted.items():
                rows.add(tx, first, event, origin=origin, count=count)
            rows.trim(tx, now_ms)

        await self._database.write(write)

    async def list(self, _principal: Principal, command: ListAudit) -> AuditPage:
        """Latest first. Raises: BadValue: the cursor."""
        before = None
        if command.cursor is not None:
            if not command.cursor.isascii() or not command.cursor.isdigit() or len(command.cursor) > 18:
                raise BadValue("The cursor is damaged; begin again without it.")
            before = int(command.cursor)
        await self.flush()
        found = await self._database.read(
            lambda c: rows.page(c, before=before, event=command.event, limit=command.limit)
        )
        more = str(found[-1].id) if len(found) == command.limit else None
        return AuditPage(items=[_shown(row) for row in found], next_cursor=more)

    async def note_export(self, principal: Principal, command: NoteExport) -> Noted:
        """A program of the owner tells that it has written data out. Raises: BadValue: no name of a collection."""
        check_collection(command.collection)
        await self._database.write(
            lambda tx: self.write(
                tx, "export", principal=principal.id, collection=command.collection, documents=command.documents,
                format=command.format,
            )
        )  # fmt: skip
        return Noted()


def _shown(row: rows.AuditRow) -> AuditEntry:
    words: dict[str, Any] = {"name": "it", "may": "nothing", **row.detail}
    try:
        message = SENTENCES[row.event].format_map(words)
    except KeyError:  # written by another version
        message = row.event
    return AuditEntry(
        id=row.id, at_ms=row.at_ms, event=row.event, message=message[:1].upper() + message[1:],
        principal=row.principal, origin=row.origin, detail=row.detail, count=row.times,
    )  # fmt: skip
