"""The local API, the part about the person's devices: the list, pairing, removal, quarantine and the recovery words."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .localapi import Command, Result, RowId, Text


# ---- devices and pairing --------------------------------------------------------------------------------------------
class Device(Result):
    """A device of the space. fingerprint: what two people compare; own: this one; path: the way to it now.

    behind: batches of it that are known here and not applied yet; lacks: batches that it has not told to have, by its
    direct link, or, without one, when it confirmed or wrote something last; null if it told nothing; added_ms: when it
    was admitted, by the clock of who did it; removed_by: names of the devices whose removal stands; quarantined:
    batches of it that are kept and do not count.
    """

    id: str
    name: str
    fingerprint: str
    state: Literal["active", "removed", "left", "expelled"] = "active"
    own: bool = False
    platform: str | None = None
    last_seen_ms: int | None = None
    behind: int | None = None
    path: Literal["relay", "lan", "both", "none"] = "none"
    lacks: int | None = None
    added_ms: int | None = None
    removed_by: list[str] = []  # noqa: RUF012 - copied for each
    quarantined: int = 0


class DeviceList(Result):
    """Every device that ever belonged."""

    items: list[Device]
    next_cursor: str | None = None


class ListDevices(Command):
    """The devices of the space."""


Words = Annotated[str, Meta(min_length=1, max_length=1000)]


class RenameDevice(Command):
    """What all devices call it."""

    id: str
    name: Annotated[str, Meta(min_length=1, max_length=64)]


class PlanRemoval(Command):
    """What removing a device would do. lost: with the recovery words, for good; since_ms: see ExpelDevice."""

    id: str
    lost: bool = False
    since_ms: RowId | None = None


class DeviceAct(Result):
    """Something a device did to others: `added`, `removed` or `restored` the device `name`.

    at_ms: when it is known to have happened at the earliest; undone: would it be undone.
    """

    what: Literal["added", "removed", "restored"]
    name: str
    at_ms: int
    undone: bool = False


class Removal(Result):
    """What a removal will do and cannot do, in sentences; acts: what the device did to others, oldest first.

    comes_back, goes_too: names of other devices; keeps, voids: batches of it that count afterwards, and that do not.
    """

    device: Device
    will: list[str]
    cannot: list[str]
    acts: list[DeviceAct] = []  # noqa: RUF012 - copied for each
    comes_back: list[str] = []  # noqa: RUF012 - copied for each
    goes_too: list[str] = []  # noqa: RUF012 - copied for each
    keeps: int = 0
    voids: int = 0


class RemoveDevice(Command):
    """Put a device out until it is restored."""

    id: str


class RestoreDevice(Command):
    """Let a removed device in again. words: the recovery words, where another device removed it."""

    id: str
    words: Words | None = None


class ExpelDevice(Command):
    """Put a lost device out for good. words: the recovery words; since_ms: what it did and wrote from then on does not
    count, null: all that is known here counts."""

    id: str
    words: Words
    since_ms: RowId | None = None


class UndoDevice(Command):
    """Let nothing count that an expelled device wrote from a time on."""

    id: str
    words: Words
    since_ms: RowId


class SettleDevice(Command):
    """Let that branch of a device's forked logs count which this device has."""

    id: str
    words: Words


class LeaveSpace(Command):
    """This device puts itself out."""


class DeviceChange(Result):
    """The device as it stands now. told: addresses of peers that know; waiting: of those that will be told."""

    device: Device
    told: list[str]
    waiting: list[str]


class QuarantinedLog(Result):
    """Batches of one device that are kept and do not count.

    readable: how many of them can be opened here; documents: `collection/id` of some that they change; kept_until_ms:
    then the first of them is forgotten.
    """

    device: Device
    batches: int
    readable: int
    operations: int
    documents: list[str] = []  # noqa: RUF012 - copied for each
    first_ms: int | None = None
    last_ms: int | None = None
    kept_until_ms: int | None = None


class QuarantineList(Result):
    """One item per device."""

    items: list[QuarantinedLog]
    next_cursor: str | None = None


class ListQuarantine(Command):
    """What was written by devices that are out, or were put back from a copy, and does not count."""


class ImportQuarantine(Command):
    """Write what a device's quarantined batches hold as this device's own, with the times they have."""

    id: str


class Imported(Result):
    """operations: how many were taken."""

    operations: int


# ---- recovery -------------------------------------------------------------------------------------------------------
class RecoveryStatus(Result):
    """state: `here`: this device can show the recovery words; `confirmed`: a person has them, and they are erased here;
    `elsewhere`: they were never here."""

    state: Literal["here", "confirmed", "elsewhere"]
    confirmed_ms: int | None = None


class GetRecovery(Command):
    """Where the recovery words are."""


class ShowRecoveryWords(Command):
    """Show the recovery words; whoever sees them may do everything."""


class RecoveryWords(Result):
    """The 24 words, in order."""

    words: list[str]


class ConfirmRecovery(Command):
    """The person has the words: they are erased from this machine. words: all 24, as written down."""

    words: Words


class RecoverSpace(Command):
    """Join the space of these words, from what a relay holds, or devices on this network. relay: its address, or a link
    with it; null: find the devices."""

    words: Words
    relay: Text | None = None
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class Recovered(Result):
    """The devices of the space, this one among them."""

    devices: list[Device]


class StartPairing(Command):
    """Ask for a code. relay: through which relay, when there are several."""

    relay: str | None = None


class PairingOffer(Result):
    """What the person carries to the other device, as text (`code`) and for a QR code (`link`).

    code: empty after three dead codes in an hour: then only the link is accepted, whose secret cannot be guessed.
    """

    id: str
    code: str
    link: str
    expires_ms: int
    state: str


class JoinPairing(Command):
    """Enter the code that the other device shows. name: of this device; anew: come back to the same space as a new
    device though this one belongs there, as far as it knows: it is a copy, or has not heard that it was removed; ask: a
    person compares the words here too, and nothing is joined before their `confirm`."""

    code: Text
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    anew: bool = False
    ask: bool = False


class Peer(Result):
    """The device at the other end of a pairing."""

    name: str
    platform: str
    fingerprint: str


class Pairing(Result):
    """words: to compare on both screens while the state is `confirm`."""

    id: str
    state: Literal["waiting", "exchanging", "confirm", "joining", "done", "failed"]
    words: str | None = None
    peer: Peer | None = None
    error: str | None = None
    code: str | None = None


class GetPairing(Command):
    """How far a pairing is."""

    id: str


class ConfirmPairing(Command):
    """The person has compared the words."""

    id: str
    accept: bool
