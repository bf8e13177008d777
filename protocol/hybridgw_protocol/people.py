"""Other people: where one finds them, which keys their devices take letters under, the number that two compare.

A person is a space, named by the hash of its root key. The directory of a relay is the control logs of those spaces
whose devices have published message keys (`xkey` records). Source: protocol/SPEC.md, "People".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from .errors import BadRecord, BadValue, HybridGWError
from .ids import DeviceId, SpaceId, blake2b
from .limits import MAX_INT
from .membership import ControlLog, Status
from .pairing_code import parse_relay, short_relay
from .records import LEAVES, Epoch, LogClose, Record, Wrap, XKey, read_record

XKEY_VERSION: Final = 1
XKEY_BODY_BYTES: Final = 41
NO_KEY: Final = bytes(32)  # published as a message key, it says: no letters any more
KEPT_KEYS: Final = 2  # message keys of a device that letters may be sealed to: the newest, and the one before it
NUMBER_ROUNDS: Final = 5_200  # so that a key whose number resembles another one's costs so much more to find
NUMBER_DIGITS: Final = 30  # of each of the two
MAX_ADDRESS_TEXT: Final = 600
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SILENT: Final = (Epoch, Wrap, LogClose, *LEAVES)  # change nothing about who belongs


class MessageKey(NamedTuple):
    """What a device takes letters under. id: names it; public: X25519; made_ms: by the clock of its device."""

    id: bytes
    public: bytes
    made_ms: int


def xkey_id(public: bytes) -> bytes:
    """8 bytes that name a message key."""
    return blake2b(public, 8, "hgw-xkey")


def encode_xkey(public: bytes, made_ms: int) -> bytes:
    """The body of an `xkey` record."""
    return bytes([XKEY_VERSION]) + public + made_ms.to_bytes(8, "big")


def decode_xkey(body: bytes) -> MessageKey:
    """Inverse of encode_xkey. Raises: BadRecord: another version or size."""
    if len(body) != XKEY_BODY_BYTES or body[0] != XKEY_VERSION:
        raise BadRecord("The message key is in a form that is not known here; a newer program wrote it.")
    made_ms = int.from_bytes(body[33:], "big")
    if made_ms > MAX_INT:
        raise BadRecord("The time of a message key is out of range.")
    return MessageKey(xkey_id(body[1:33]), body[1:33], made_ms)


# ---- what a control log says to other people -------------------------------------------------------------------------
def message_keys(control: ControlLog) -> dict[DeviceId, list[tuple[MessageKey, Record]]]:
    """The message keys in use of every active device that takes letters, newest first, with their records."""
    found: dict[DeviceId, list[tuple[MessageKey, Record]]] = {}
    for device, published in _published(control).items():
        keys = list(takewhile(lambda pair: pair[0].public != NO_KEY, published))[:KEPT_KEYS]
        if keys:
            found[device] = keys
    return found


def _published(control: ControlLog) -> dict[DeviceId, list[tuple[MessageKey, Record]]]:
    """All that active devices have published, newest first."""
    found: dict[DeviceId, list[tuple[MessageKey, Record]]] = {}
    for record in control.leaves.values():
        payload = record.payload
        if not isinstance(payload, XKey):
            continue
        info = control.seat(payload.by)
        if info is None or info.status is not Status.ACTIVE:
            continue
        try:
            key = decode_xkey(payload.body)
        except BadRecord:
            continue
        found.setdefault(info.device, []).append((key, record))
    for keys in found.values():
        keys.sort(key=lambda pair: (pair[0].made_ms, pair[0].id), reverse=True)
    return found


def directory(control: ControlLog, heads: Iterable[bytes]) -> list[bytes]:
    """What a relay answers who asks for a person and knows these heads of its control log: what is lacking, `prevs`
    first, then the message keys in use, and which devices have none any more. Empty if no device has one: it is not in
    the directory."""
    keys = message_keys(control)
    if not keys:
        return []
    lacking = [raw for raw in control.missing_from(heads) if not _is_leaf(raw, control.space)]
    over = [pairs[0][1].raw for device, pairs in _published(control).items() if device not in keys]
    return lacking + over + [record.raw for pairs in keys.values() for _, record in pairs]


def is_stale(control: ControlLog, heads: Iterable[bytes]) -> bool:
    """Does somebody who knows these heads lack a record about who belongs."""
    lacking = (read_record(raw, control.space).payload for raw in control.missing_from(heads))
    return any(not isinstance(payload, _SILENT) for payload in lacking)


def _is_leaf(raw: bytes, space: SpaceId) -> bool:
    return isinstance(read_record(raw, space).payload, LEAVES)


# ---- addresses -------------------------------------------------------------------------------------------------------
class PersonAddress(NamedTuple):
    """Where a person is found. relay: URL without path, empty: on a relay that both use."""

    person: SpaceId
    relay: str = ""


def format_address(address: PersonAddress) -> str:
    """What a person tells another one: 32 hexadecimal digits, `@` and the relay."""
    return f"{address.person.hex()}@{short_relay(address.relay)}" if address.relay else address.person.hex()


def format_address_link(address: PersonAddress) -> str:
    """The same for a QR code."""
    relay = f"&relay={quote(short_relay(address.relay), safe=':[]/')}" if address.relay else ""
    return f"hybridgw://person?id={address.person.hex()}{relay}"


def parse_address(text: str) -> PersonAddress:
    """From what a person typed, pasted or scanned. Raises: BadValue."""
    text = text.strip()
    if len(text) > MAX_ADDRESS_TEXT:
        raise BadValue("This is too long for the address of a person.", field="address")
    if text.lower().startswith("hybridgw:"):
        parts = urlsplit(text)
        try:
            query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True, max_num_fields=16)
        except ValueError as error:
            raise BadValue("This link is damaged; scan it again.", field="address") from error
        if parts.netloc.lower() != "person" or any(len(query.get(name, [])) > 1 for name in ("id", "relay")):
            raise BadValue(
                "This is no link to a person; that one starts with hybridgw://person? and says each thing once.",
                field="address",
            )
        digits, relay = query.get("id", [""])[0], query.get("relay", [""])[0]
    else:
        digits, _, relay = text.partition("@")
    digits = re.sub(r"[\s-]", "", digits).lower()
    if not _ID.fullmatch(digits):
        raise BadValue(
            "The address of a person is 32 digits 0-9 a-f, and perhaps @ and a relay; 'hybridgw contacts address' "
            "prints one's own.", field="address",
        )  # fmt: skip
    return PersonAddress(SpaceId(bytes.fromhex(digits)), parse_relay(relay.strip()))


# ---- the number to compare -------------------------------------------------------------------------------------------
def safety_number(ours: bytes, theirs: bytes) -> str:
    """60 digits that are equal on both sides exactly if both know each other's true root key.

    Args: ours, theirs: the Ed25519 root keys. Source: Signal, NumericFingerprintGenerator.
    """
    return "".join(sorted((_half(ours), _half(theirs))))


def _half(root_public: bytes) -> str:
    uid = blake2b(root_public, 16, "hgw-uid")
    digest = root_public + uid
    for _ in range(NUMBER_ROUNDS):
        digest = hashlib.blake2b(digest + root_public, digest_size=64, person=b"hgw-number").digest()
    chunks = (int.from_bytes(digest[i : i + 5], "big") % 100_000 for i in range(0, NUMBER_DIGITS, 5))
    return "".join(f"{chunk:05}" for chunk in chunks)


def spaced(number: str) -> str:
    """In groups of five, as people read it to each other."""
    return " ".join(number[i : i + 5] for i in range(0, len(number), 5))


def format_number_link(number: str) -> str:
    """What the QR code of a safety number holds."""
    return f"hybridgw://number?digits={number}"


def parse_number(text: str) -> str:
    """The digits of a safety number that was typed, pasted or scanned. Raises: BadValue."""
    text = text.strip()
    if len(text) > MAX_ADDRESS_TEXT:
        raise BadValue("This is too long for a safety number.", field="number")
    if text.lower().startswith("hybridgw:"):
        text = text.partition("?digits=")[2]
    digits = re.sub(r"[\s-]", "", text)
    if len(digits) != 2 * NUMBER_DIGITS or not digits.isascii() or not digits.isdigit():
        raise BadValue(f"A safety number has {2 * NUMBER_DIGITS} digits.", field="number")
    return digits


# ---- a person, as others know it -------------------------------------------------------------------------------------
class Known(msgspec.Struct):
    """The control log of another person, as far as it was told: it only grows, so nobody can take anything back."""

    control: ControlLog

    @classmethod
    def begin(cls, person: SpaceId, records: Iterable[bytes] = ()) -> Known:
        """Args: records: of our own database, checked when they came."""
        known = cls(ControlLog(person))
        known.control.update(records, trusted=True)
        return known

    @property
    def root(self) -> bytes | None:
        """The root key, 32 bytes; None: nothing is known of the person."""
        try:
            return self.control.root_public
        except BadRecord:
            return None

    def learn(self, records: Iterable[bytes]) -> tuple[list[Record], HybridGWError | None]:
        """Take what a relay says. Returns what is new, and what is wrong with the first bad one."""
        return self.control.update(records)

    def keys(self) -> dict[DeviceId, MessageKey]:
        """The newest message key of every active device."""
        return {device: pairs[0][0] for device, pairs in message_keys(self.control).items()}
