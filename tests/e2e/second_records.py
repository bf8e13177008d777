"""The control log as the second device and the second relay hold it: who belongs, from what protocol/SPEC.md says.

It shares no code with ours: bytes, signatures and the outcome are the readers' of tests/architecture.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.architecture import _reader as reader
from tests.architecture._reader_control_log import Reader, device


class Records:
    """Control records of one space, prevs first."""

    def __init__(self, root_public: bytes) -> None:
        self.log = Reader(root_public)
        self.raws: dict[bytes, bytes] = {}  # hash -> record
        self.short: set[bytes] = set()  # the first 16 bytes of their hashes

    @classmethod
    def from_genesis(cls, raw: bytes) -> Records:
        """Of the space that this record begins."""
        return cls(reader.read_record(raw)[0]["root_public"])

    def take(self, raws: Iterable[bytes]) -> list[bytes]:
        """Those that are new. Raises: Refused, BadSignature."""
        fresh = []
        for raw in raws:
            digest = reader.blake(reader.read_record(raw)[1], 32, "hgw-rec")
            if digest not in self.raws:
                assert self.log.take(raw) == digest
                self.raws[digest] = raw
                self.short.add(digest[:16])
                fresh.append(raw)
        return fresh

    @property
    def heads(self) -> list[bytes]:
        """Whole hashes."""
        return [bytes.fromhex(head) for head in sorted(self.log.model.heads)]

    @property
    def short_heads(self) -> list[bytes]:
        """As they travel."""
        return [head[:16] for head in self.heads]

    def missing_from(self, heads: list[bytes]) -> list[bytes]:
        """What somebody lacks who has these heads: records, prevs first, and all leaves unless the heads are equal."""
        below = {digest for digest in self.raws if digest[:16] in heads}
        for digest in reversed(self.raws):  # prevs stand before what names them
            if digest in below:
                below.update(reader.read_record(self.raws[digest])[0]["prevs"])
        leaves = self.log.leaves if heads != self.short_heads else ()
        rest = [raw for digest, raw in self.raws.items() if digest not in below | self.log.leaves]
        return rest + [self.raws[digest] for digest in leaves]

    def sign_public(self, device_id: bytes) -> bytes | None:
        """The key of a device that was ever admitted, however it stands now."""
        seats = (body for body in self.log.bodies.values() if body["type"] in ("genesis", "add"))
        return next((body["sign_public"] for body in seats if device(body) == device_id), None)

    def active_seats(self, device_id: bytes) -> list[str]:
        """Of a device, as the model names them: none if it is out."""
        model = self.log.model
        return [
            seat for seat in model.seats if model.device_of(seat) == device_id.hex() and seat in model.status.active
        ]
