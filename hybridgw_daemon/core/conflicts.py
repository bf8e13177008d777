"""The conflict inbox: what concurrent writes left of one document, and which ordinary write settles each.

There is no operation "resolve". A person who has seen a sibling writes the field, the element or the whole document
again, and that write covers what was seen, on every device. Source: protocol/SPEC.md, "Merge".
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hybridgw_protocol.codec import Value
from hybridgw_protocol.ids import DocumentId

from .document_state import Row, conflict_entries, decode_shown, unpack
from .operations import Delete, Edit


class Conflict(msgspec.Struct, frozen=True):
    """One value or element that nobody has replaced with knowledge of it, and that is not shown.

    cl: the generation it was written to; buried: that generation is over (deleted, perhaps made again since);
    stamp, log, n: the write; winner: what the field shows now, absent if it shows nothing.
    """

    cl: int
    field: str
    kind: Literal["value", "element"]
    stamp: int
    log: int
    n: int
    value: Value
    winner: Value | msgspec.UnsetType
    buried: bool


def conflicts(row: Row) -> list[Conflict]:
    """What a person is shown of one document, in the same order on every device; `row[3]` of them."""
    if not row[3]:
        return []
    shown = decode_shown(row[1]) if row[1] is not None else {}
    return [
        Conflict(
            entry.cl, entry.field, entry.kind, *entry.dot, entry.value, shown.get(entry.field, msgspec.UNSET),
            entry.cl != row[0],
        )
        for entry in conflict_entries(row[0], unpack(row))
    ]  # fmt: skip


def settle(collection: str, document: DocumentId, row: Row, conflict: Conflict, *, take: bool) -> Edit | Delete:
    """The local request that settles the conflict.

    Args: take: let the conflict's value win; otherwise what is shown now stays (a field that shows nothing becomes
    null, for a write is what others can see). To take something of a deleted document, create it again (`Create`) with
    what is wanted: that settles all of it. For a deleted document, take has no effect.
    """
    if row[0] % 2 == 0:
        return Delete(collection, document)
    if conflict.kind == "element":
        changes = {conflict.field: [conflict.value]}
        return Edit(collection, document, adds=changes) if take else Edit(collection, document, removes=changes)
    if take:
        return Edit(collection, document, puts={conflict.field: conflict.value})
    kept = None if conflict.winner is msgspec.UNSET else conflict.winner
    return Edit(collection, document, puts={conflict.field: kept})
