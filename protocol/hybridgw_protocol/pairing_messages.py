"""What two devices say to each other while they pair: phases, kinds, causes of failure, the sealed structures, events.

The order in which they may be said is in `pairing.py`. Source: protocol/SPEC.md, "Pairing".
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from .errors import BadFrame, PairingFailed
from .ids import DeviceId, SpaceId, device_id, space_id
from .limits import MAX_CONTROL_BYTES, MAX_RECORD_BYTES, MAX_RECORDS, SIGNATURE_BYTES

MAX_OFFER_HEADS: Final = 64  # as many as a control record names
MAX_RELAYS: Final = 8
MAX_RELAY_URL: Final = 300
MAX_ENROL_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 64
MAX_PLATFORM_BYTES: Final = 32


class Phase(IntEnum):
    """First element of a mailbox message."""

    HELLO = 1
    ANSWER = 2
    PROOF = 3
    COUNTERPROOF = 4
    OFFER = 5
    INTRODUCTION = 6
    ADMISSION = 7
    DONE = 8
    ABORT = 9


class Kind(IntEnum):
    """Which secret of the code the exchange uses; N chooses by what it was given."""

    DIGITS = 0
    LINK = 1


class Cause(StrEnum):
    """Why a pairing failed: `detail['cause']` of PairingFailed, and the body of an abort message."""

    WRONG_CODE = "wrong_code"
    CODE_USED = "code_used"
    LINK_ONLY = "link_only"
    EXPIRED = "expired"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    VERSION = "version"
    TAMPERED = "tampered"
    BAD_MESSAGE = "bad_message"
    BAD_RECORDS = "bad_records"
    GONE = "gone"


_NEW_CODE: Final = "This code is used up: make a new one with 'hybridgw pair' on the device that has your data."
_TEXT: Final[dict[Cause, str]] = {
    Cause.WRONG_CODE: "The code was wrong, or somebody else tried it.",
    Cause.CODE_USED: "This code was tried before, perhaps by somebody else.",
    Cause.LINK_ONLY: "Too many wrong codes were tried, so only the QR code or its link is accepted now.",
    Cause.EXPIRED: "The code is older than ten minutes.",
    Cause.REFUSED: "The person at the other device refused; the four words may not have been the same.",
    Cause.CANCELLED: "The pairing was cancelled.",
    Cause.VERSION: "The two programs speak no common version of pairing; upgrade the older one.",
    Cause.TAMPERED: "What came from the other device was changed on its way.",
    Cause.BAD_MESSAGE: "The other device sent something that is no pairing message, or sent it out of turn.",
    Cause.BAD_RECORDS: "The device list that came does not lead to this device.",
    Cause.GONE: "The connection to the other device ended too early.",
}


def failure(cause: Cause, *, why: str = "", by_other_side: bool = False) -> PairingFailed:
    """The error for a cause. Args: why: one fact for the log; by_other_side: it came in an abort message."""
    return PairingFailed(f"{_TEXT[cause]} {_NEW_CODE}", cause=str(cause), why=why, by_other_side=by_other_side)


def clean_name(text: str, most_bytes: int = MAX_NAME_BYTES) -> str:
    """*text*, a host name or what a person typed, as an introduction may carry it: printable and short, never empty."""
    kept = "".join(char for char in text if char.isprintable()).strip()
    return kept.encode(errors="replace")[:most_bytes].decode(errors="ignore").strip() or "device"


# ---- what the two tell each other under seal ------------------------------------------------------------------------
class Offer(msgspec.Struct, frozen=True):
    """What a joiner needs to sign. seat: 32 bytes, the seat that adds it; prevs: control heads, 32 bytes each."""

    space: SpaceId
    root_public: bytes
    seat: bytes
    prevs: tuple[bytes, ...]


class Introduction(msgspec.Struct, frozen=True):
    """Who joins. signature: Ed25519 over the joiner digest of the offer. name and platform are hostile text."""

    sign_public: bytes
    exchange_public: bytes
    name: str
    platform: str
    signature: bytes

    @property
    def device(self) -> DeviceId:
        """The id that both keys make."""
        return device_id(self.sign_public, self.exchange_public)


class RelayHint(msgspec.Struct, frozen=True):
    """A relay of the space. enrol: what admits the new device there; empty where membership is enough."""

    url: str
    enrol: bytes = b""


class Admission(msgspec.Struct, frozen=True):
    """All control records, prevs first, with the one that adds the new device; relays; E's clock in Unix ms."""

    records: tuple[bytes, ...]
    relays: tuple[RelayHint, ...]
    now_ms: int


# ---- events ---------------------------------------------------------------------------------------------------------
class Confirmed(msgspec.Struct, frozen=True):
    """Both know the same code. Show the four words."""

    words: tuple[str, ...]


class Invited(msgspec.Struct, frozen=True):
    """N: sign the joiner digest of this offer and call `introduce`."""

    offer: Offer


class Introduced(msgspec.Struct, frozen=True):
    """E: this device asks to join and its signature is right. Ask the person, then `admit` or `abort`."""

    joiner: Introduction


class Admitted(msgspec.Struct, frozen=True):
    """N: check the records from the offer's root key, save everything durably, then `finish`, else `abort`."""

    admission: Admission


class Finished(msgspec.Struct, frozen=True):
    """E: the new device has saved what it needs. The mailbox may be closed."""


Event = Confirmed | Invited | Introduced | Admitted | Finished


# ---- checks: by the sender before it sends, by the receiver before it believes --------------------------------------
def check_offer(offer: Offer) -> None:
    """Raises: BadFrame: sizes, too many heads, or a space that is not the one of its root key."""
    sizes = {len(offer.seat), len(offer.root_public), *map(len, offer.prevs)}
    if sizes != {32} or not 1 <= len(offer.prevs) <= MAX_OFFER_HEADS:
        raise BadFrame("an offer has a field of the wrong size")
    if space_id(offer.root_public) != offer.space:
        raise BadFrame("the offered space is not the one of its root key")


def check_introduction(joiner: Introduction) -> None:
    """Raises: BadFrame: sizes, or a name with control characters. The signature is checked elsewhere."""
    if (len(joiner.sign_public), len(joiner.exchange_public), len(joiner.signature)) != (32, 32, SIGNATURE_BYTES):
        raise BadFrame("an introduction has a field of the wrong size")
    for text, most in ((joiner.name, MAX_NAME_BYTES), (joiner.platform, MAX_PLATFORM_BYTES)):
        if not 1 <= len(text.encode(errors="replace")) <= most or not text.isprintable():  # nor a lone surrogate
            raise BadFrame(f"a name has 1 to {most} bytes and no control characters")


def check_admission(admission: Admission) -> None:
    """Raises: BadFrame: sizes and counts. What the records say is checked elsewhere."""
    records, relays = admission.records, admission.relays
    if not 1 <= len(records) <= MAX_RECORDS or any(not 1 <= len(record) <= MAX_RECORD_BYTES for record in records):
        raise BadFrame("an admission has too many records, or too long ones")
    if sum(map(len, records)) > MAX_CONTROL_BYTES:
        raise BadFrame(f"control records have at most {MAX_CONTROL_BYTES} bytes in all")
    if len(relays) > MAX_RELAYS or any(
        len(relay.url) > MAX_RELAY_URL or len(relay.enrol) > MAX_ENROL_BYTES for relay in relays
    ):
        raise BadFrame("an admission has too many relays, or too long ones")
    if not 0 <= admission.now_ms < 2**47:
        raise BadFrame("an admission has no valid time")
