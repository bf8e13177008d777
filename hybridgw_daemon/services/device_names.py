"""What people call their devices: a document per device, its id in hexadecimal, in a collection that every device has.

A device that nobody has renamed is called what it called itself when it was admitted: Space.name_of.
"""

from __future__ import annotations

from typing import Final

from hybridgw_protocol.pairing_messages import clean_name
from hybridgw_storage.database import Connection

from ..core.document_state import decode_shown
from ..stores import documents, queries

NAMES: Final = "hgw.devices"
MAX_NAMES: Final = 1_000


def given_names(connection: Connection) -> dict[str, str]:
    """Names that people gave, by device."""
    where = documents.collection(connection, NAMES)
    found = queries.find(connection, where, queries.Query(limit=MAX_NAMES), None)[0] if where else []
    named = {str(one.id): decode_shown(one.body).get("name") for one in found if one.body}
    return {device: clean_name(name) for device, name in named.items() if isinstance(name, str)}
