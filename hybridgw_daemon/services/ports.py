"""What the local API needs of services that live elsewhere: the protocols its command table is written against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from hybridgw_protocol.ids import DocumentId
from hybridgw_protocol.localapi import Alarm, PathList, Relay, RelayCheck, SettingList, Stopping, SyncResult, SyncStatus
from hybridgw_protocol.localapi_devices import (
    ConfirmRecovery,
    Device,
    DeviceChange,
    ExpelDevice,
    Imported,
    ImportQuarantine,
    LeaveSpace,
    Pairing,
    PairingOffer,
    PlanRemoval,
    QuarantineList,
    Recovered,
    RecoverSpace,
    RecoveryStatus,
    RecoveryWords,
    Removal,
    RemoveDevice,
    RenameDevice,
    RestoreDevice,
    SettleDevice,
    UndoDevice,
)
from hybridgw_protocol.localapi_lan import LanReport, LanStatus
from hybridgw_protocol.localapi_live import ConnectionReport, ConnectionStats, DeploymentList
from hybridgw_protocol.localapi_operations import GetMetrics, ListLogs, LogPage, Page, PerformanceReport
from hybridgw_storage.database import Tx

from ..core.document_state import Row
from ..core.operations import Request
from ..core.scopes import EVERYTHING, NONE, Scopes
from ..stores.documents import Vault
from .replica import Written


class Principal(NamedTuple):
    """Who asks. The owner may do everything; everybody else what the scopes say.

    id: one per credential, for limits and logs: `owner`, `grant:<id>`, `key:<id>`, `nobody`; origin: of the page that
    asks, exact, None: not a page; expires_ms: when what was shown ends, None: never; jti: the token that was shown,
    None: not a token of ours.
    """

    id: str
    is_owner: bool
    scopes: Scopes = NONE
    origin: str | None = None
    expires_ms: int | None = None
    jti: str | None = None

    def allows(self, right: str, name: str, document: str | None = None) -> bool:
        """May it do this to a collection or topic, or to one document of the collection."""
        return self.is_owner or self.scopes.allows(right, name, document)

    @property
    def is_admin(self) -> bool:
        """Has it all rights that are not the owner's alone."""
        return self.is_owner or self.scopes.is_admin

    def readable(self) -> frozenset[str] | None:
        """The collections it may read; None: all of them."""
        return None if self.is_admin else self.scopes.names("read")


NOBODY: Final = "nobody"  # id of who shows no credential, where none is needed
OWNER: Final = Principal("owner", is_owner=True, scopes=EVERYTHING)


class DocumentReplica(Protocol):
    """What document services need of the replica; everything inside an open transaction."""

    vault: Vault | None

    def write(self, tx: Tx, requests: Sequence[Request], now_ms: int) -> list[Written]:
        """Merge local requests as one transaction. Raises: LocalError kinds with nothing written."""
        ...

    def current(self, tx: Tx, collection: str, document: DocumentId) -> Row | None:
        """The state of a document in this transaction, None if it never was."""
        ...

    def version(self, tx: Tx, collection: str, document: DocumentId) -> int:
        """The place of its last change in the feed, in this transaction."""
        ...


class SyncPort(Protocol):
    """Sync as a person sees it."""

    async def status(self) -> SyncStatus:
        """Where things stand."""
        ...

    async def trigger(
        self, *, sync_type: str = "all", full: bool = False, wait: bool = True, timeout_s: float = 30.0
    ) -> SyncResult:
        """Sync now."""
        ...


class DevicePort(Protocol):
    """The devices of the space."""

    async def list(self) -> list[Device]:
        """Every device that ever belonged."""
        ...

    async def rename(self, command: RenameDevice) -> Device:
        """Call one something else."""
        ...

    async def plan(self, command: PlanRemoval) -> Removal:
        """What removing one would do."""
        ...

    async def remove(self, command: RemoveDevice) -> DeviceChange:
        """Put one out until it is restored."""
        ...

    async def restore(self, command: RestoreDevice) -> DeviceChange:
        """Let a removed one in again."""
        ...

    async def leave(self, command: LeaveSpace) -> DeviceChange:
        """Put this one out."""
        ...


class ExpellingPort(Protocol):
    """A lost device; takes the recovery words."""

    async def plan(self, command: PlanRemoval) -> Removal:
        """What expelling one would do."""
        ...

    async def expel(self, command: ExpelDevice) -> DeviceChange:
        """Put one out for good."""
        ...

    async def undo(self, command: UndoDevice) -> DeviceChange:
        """Void more of what one wrote."""
        ...

    async def settle(self, command: SettleDevice) -> DeviceChange:
        """End its forked logs on the branch that is held here."""
        ...


class QuarantinePort(Protocol):
    """What lost devices wrote that does not count."""

    async def list(self) -> QuarantineList:
        """By device."""
        ...

    async def take(self, command: ImportQuarantine) -> Imported:
        """Take it after all."""
        ...


class RecoveryPort(Protocol):
    """The recovery words."""

    async def status(self) -> RecoveryStatus:
        """Where they are."""
        ...

    async def show(self) -> RecoveryWords:
        """The words."""
        ...

    async def confirm(self, command: ConfirmRecovery) -> RecoveryStatus:
        """The person has them: erase them here."""
        ...

    async def recover(self, command: RecoverSpace) -> Recovered:
        """Join the space of these words."""
        ...


class PairingPort(Protocol):
    """Adding a device."""

    async def start(self, relay: str | None = None) -> PairingOffer:
        """Ask for a code."""
        ...

    async def join(self, text: str, name: str | None = None, *, anew: bool = False, ask: bool = False) -> Pairing:
        """Enter a code."""
        ...

    async def get(self, number: str) -> Pairing:
        """How far it is."""
        ...

    async def confirm(self, number: str, accept: bool) -> Pairing:
        """The person has compared the words."""
        ...


class RelayPort(Protocol):
    """The relays of this profile."""

    async def list(self) -> list[Relay]:
        """In the order they were added."""
        ...

    async def add(self, link: str) -> Relay:
        """Use a relay."""
        ...

    async def remove(self, url: str) -> None:
        """Stop using one."""
        ...

    async def test(self, url: str | None) -> RelayCheck:
        """Try one without changing anything."""
        ...


class LanPort(Protocol):
    """The local network."""

    async def status(self) -> LanStatus:
        """What is announced where, and what is tried."""
        ...

    async def add(self, text: str) -> LanStatus:
        """Try an address, too. Raises: BadValue, TooMany."""
        ...

    async def remove(self, text: str) -> LanStatus:
        """Try it no more. Raises: BadValue, NotFound."""
        ...

    async def test(self, text: str | None) -> LanReport:
        """Find out what stands in the way. Raises: BadValue."""
        ...


class AlarmPort(Protocol):
    """What a person should know."""

    async def list(self, *, all_of_them: bool = False) -> list[Alarm]:
        """Open ones, newest first."""
        ...

    async def acknowledge(self, alarm: int) -> None:
        """A person has seen it. Raises: NotFound."""
        ...


class MetricsPort(Protocol):
    """What was counted."""

    async def page(self, principal: Principal | None, command: GetMetrics) -> Page:
        """For Prometheus."""
        ...

    def performance(self) -> PerformanceReport:
        """For a person."""
        ...


class DocsPort(Protocol):
    """The description of the local API, made from its command table."""

    def openapi(self) -> Page:
        """For programs."""
        ...

    def page(self) -> Page:
        """For people."""
        ...


class DashboardPort(Protocol):
    """The built dashboard."""

    def page(self) -> Page:
        """Its one page."""
        ...

    def file(self, name: str) -> Page:
        """What the page loads. Raises: NotFound."""
        ...


class HubPort(Protocol):
    """The connections of programs, and the topics between them."""

    def publish(self, topic: str, data: Any) -> int:
        """Tell all who listen; how many. Raises: BadValue."""
        ...

    def stats(self) -> ConnectionStats:
        """Counts since the start."""
        ...

    def connections(self, archived: int) -> ConnectionReport:
        """Who is connected, and who was."""
        ...

    def deployments(self) -> DeploymentList:
        """How programs of each mode connect."""
        ...


class DaemonPort(Protocol):
    """The process itself; implemented by the composition root."""

    def settings(self) -> SettingList:
        """The configuration in force."""
        ...

    def paths(self) -> PathList:
        """Where the files are."""
        ...

    async def logs(self, command: ListLogs) -> LogPage:
        """The end of the log. Raises: StorageUnavailable."""
        ...

    def stop(self) -> Stopping:
        """End in order, soon; the caller still gets its answer."""
        ...
