"""The sync service: seals local writes in time, takes in what peers send, tells where things stand.

It owns no connection and no table. Conversations (transports/peers) call it with what arrived and ask it what to send;
the replica (services/replica.py) does the work inside transactions; the space (services/space.py) knows keys and
membership. Clock and the worker that opens batches are arguments. Not how a space is begun, opened at the start, or
joined: services/membership.py.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

from hybridgw_protocol.batch import EMPTY_HEAD, Batch, Head, parse_batch, verify_batch
from hybridgw_protocol.errors import BadFrame, HybridGWError, SecretsLocked
from hybridgw_protocol.ids import DeviceId, LogId
from hybridgw_protocol.limits import CLOCK_WARN_MS, SEAL_WINDOW_MS
from hybridgw_protocol.localapi import SyncResult, SyncStatus
from hybridgw_protocol.vectors import Heads, is_equal
from hybridgw_storage.database import Database, Tx

from ..stores import alarms, control, oplog
from .letters import LetterService
from .mail import MailService
from .peers import Peers
from .replica import DECIDE, End, Incoming, Keys, Replica, Stored
from .space import Identity, Space
from .standing import Outside
from .sync_status import SyncTeller

T = TypeVar("T")
_DEVICE: Final = re.compile("[0-9a-f]{32}")


def device_of(peer: str) -> DeviceId | None:
    """The device that a peer's key names; None: it is a relay's URL."""
    return DeviceId(bytes.fromhex(peer)) if _DEVICE.fullmatch(peer) else None


class Worker(Protocol):
    """Runs a function off the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """The function's result."""
        ...


log = logging.getLogger(__name__)

RETRY_S: Final = 60.0  # batches parked for their clock are tried again this often
REST_S: Final = 1.0  # after a write that the disk refused
HOLD_S: Final = 5.0  # so long a peer may take to deliver the part of our own log that it says it holds
CONTACT_S: Final = 2.0  # a relay that is down is known to be within milliseconds; one that is silent is not waited for
LOOK_S: Final = 0.25  # how often a waiting `sync` looks by itself
INLINE_BYTES: Final = 4096  # below, opening a batch is cheaper than handing it to another thread


class Opened(NamedTuple):
    """Batches of one frame, parsed, verified and opened as far as keys are held."""

    items: list[Incoming]
    unknown_devices: set[DeviceId]

    @property
    def heads(self) -> Heads:
        """The highest batch of each log among them."""
        return {item.batch.log: Head(item.batch.n, item.batch.hash) for item in self.items}


class Judged(NamedTuple):
    """What comparing heads with a peer showed."""

    forked: list[LogId]
    rolled_back: bool


class SyncService:
    """One per daemon. Conversations come and go; see the module's text for who does what."""

    def __init__(
        self,
        database: Database,
        replica: Replica,
        space: Space,
        *,
        clock: Callable[[], int],
        worker: Worker,
        published: Callable[[str], None] = lambda _what: None,
        counted: Callable[[str, str, int], None] = lambda _kind, _status, _count: None,
    ) -> None:
        """Args: clock: wall clock, Unix ms; worker: runs a function off the event loop; published: tells local
        listeners `documents`, `rebuilt`, `sync`, `devices` or `alarms` when it changed; counted: told what was done
        (`seal`, `receive`, `trigger`), how it ended, and how often."""
        self._database = database
        self._replica = replica
        self.space = space
        space.ask_keys_in_use(lambda: database.peek(oplog.keys_in_use))
        self._clock = clock
        self._worker = worker
        self._published = published
        self._counted = counted
        self.mail: MailService | None = None  # messages to other devices go over the same conversations
        self.letters: LetterService | None = None  # and those to other people
        self.peers = Peers(database, clock=clock, published=published)
        self.peers.ask_step(self._is_in_step)
        self._teller = SyncTeller(database, space, self.peers)
        self._unsealed = asyncio.Event()
        self._tend_due = asyncio.Event()
        self._sealed_at = 0.0
        self._forked = asyncio.Event()  # there is proof that our own log was continued elsewhere
        self._forked_s = -math.inf  # and more of it came then
        self._hold_own_log: int = 0  # a peer holds more of our own log than we do: fetch before sealing
        self._unkept: dict[bytes, bytes] = {}  # control records that are known in memory and not written down yet
        self._follow_is_due = False  # the replica does not know yet what the control records in memory say
        self._rebuilds = 0
        self._arrivals: deque[tuple[float, int]] = deque()  # when something came, and the last row before it
        self._applied = 0  # operations of other devices, since the start

    # ---- what conversations ask -----------------------------------------------------------------------------------
    @property
    def identity(self) -> Identity:
        """Keys and ids of this device. Raises: SecretsLocked: not at hand yet."""
        return self.space.identity

    def now_ms(self) -> int:
        """The wall clock, corrected when two sources or more agree that it is off."""
        return self._clock() + self.peers.correction_ms()

    async def heads(self) -> Heads:
        """Stored heads of every log."""
        rows = self._database.peek(oplog.logs)
        return {log_id: row.stored for log_id, row in rows.items() if row.stored.n}

    def control_heads(self) -> list[bytes]:
        """16-byte prefixes of our control log's heads."""
        return self.space.heads()

    def control_missing_from(self, heads: Sequence[bytes]) -> list[bytes]:
        """Control records that somebody with these heads lacks, prevs first."""
        return self.space.missing_from(heads)

    def lacks_control(self, heads: Sequence[bytes]) -> bool:
        """Are there heads we do not know."""
        return self.space.lacks(heads)

    async def admitted(self, peer: str, their_ms: int) -> None:
        """A peer let us in, or we let a device in: its clock is another source, its invite is used up."""
        offset, now_ms = self.peers.told_time(peer, their_ms), self._clock()
        device, name = device_of(peer), self._called(peer)

        def note(tx: Tx) -> None:
            rows = {r.url: r for r in control.relays(tx.connection)}
            if peer in rows and rows[peer].enrol is not None:
                control.put_relay(tx, peer, None, now_ms)
            if device is not None:
                control.saw_device(tx, device, now_ms)
            if abs(offset) <= CLOCK_WARN_MS:
                alarms.clear_alarms(tx, "clock_drift")
            else:
                direction = "behind" if offset > 0 else "ahead of"
                alarms.raise_alarm(
                    tx, now_ms, "clock_drift",
                    f"The clock of this machine is {abs(offset) // 1000} s {direction} {name}. Set it right; what is "
                    "written meanwhile may be held back on other devices.",
                    peer=peer,
                )  # fmt: skip

        await self._database.write(note)

    def _called(self, peer: str) -> str:
        """What a person calls a peer."""
        device = device_of(peer)
        return peer if device is None else self.space.device_name(device)

    async def compare(self, peer: str, theirs: Mapping[LogId, Head]) -> Judged:
        """Hold a peer's heads against ours: rollbacks and forks are alarms, never silently followed."""
        now_ms = self._clock()
        own = self._database.peek(oplog.logs)
        forked: list[LogId] = []
        for log_id, head in theirs.items():
            row = own.get(log_id)
            if row is None or head.n > row.stored.n or log_id in self._replica.keys.ends:
                continue
            held = self._database.peek(partial(oplog.hash_at, log=log_id, n=head.n))
            if held is not None and held[: len(head.hash)] != head.hash:
                forked.append(log_id)
        before = self._database.peek(lambda c: control.peer_heads(c, peer))
        ends = self._replica.keys.ends  # a closed log may have been cut there
        lost = [k for k, head in before.items() if k not in ends and theirs.get(k, Head(0, b"")).n < head.n]
        name = self._called(peer)

        def note(tx: Tx) -> None:
            if lost:
                control.forget_peer(tx, peer)
                alarms.raise_alarm(
                    tx, now_ms, "relay_rollback",
                    f"{name} lost data that it had confirmed (restored from a backup?). It gets it again from here.",
                    peer=peer, logs=len(lost),
                )  # fmt: skip
            for log_id in forked:
                device = own[log_id].device.hex()
                alarms.raise_alarm(
                    tx, now_ms, "fork",
                    f"{name} holds another history of what device {device[:16]} wrote than this device. {DECIDE}",
                    peer=peer, log=log_id, device=device,
                )  # fmt: skip

        if lost or forked:
            await self._database.write(note)
            self._published("alarms")
        mine = self.space.own_log
        if mine in theirs and mine in own and theirs[mine].n > own[mine].stored.n:
            self._hold_own_log = theirs[mine].n  # whoever claims more than it delivers must not stop us for ever
            asyncio.get_running_loop().call_later(HOLD_S, self._hold_no_more)
        return Judged(forked, bool(lost))

    def _hold_no_more(self) -> None:
        if self._hold_own_log:
            self._hold_own_log = 0
            self._unsealed.set()

    async def first_row_to_send(self, have: Mapping[LogId, int], refused: set[LogId]) -> int:
        """The row before the first batch that the other side lacks; the last row if it lacks nothing."""

        rows = self._database.peek(oplog.logs)
        lacking = {k: have.get(k, 0) for k, r in rows.items() if r.stored.n > have.get(k, 0) and k not in refused}
        return self._database.peek(lambda c: oplog.row_before(c, lacking))

    @property
    def cuts(self) -> int:
        """Rises when batches were taken out: rows that come now may stand before ones that were looked at."""
        return self._replica.cuts

    @property
    def ends(self) -> Mapping[LogId, End]:
        """Where closed logs end; another object whenever control records were followed."""
        return self._replica.keys.ends

    def branch_points(self, theirs: Mapping[LogId, Head]) -> dict[LogId, int]:
        """Closed logs that are whole here and of which a peer may hold another branch -> the last batch that all share.

        From there on it is to be sent the branch that counts, whatever number it has reached on its own.
        """
        rows = self._database.peek(oplog.logs)
        found: dict[LogId, int] = {}
        for log_id, end in self.ends.items():
            head, row = theirs.get(log_id), rows.get(log_id)
            if head is None or row is None or head.n <= end.fork or not end.hash or row.stored.hash != end.hash:
                continue
            held = self._database.peek(partial(oplog.hash_at, log=log_id, n=head.n))
            if held is None or held[: len(head.hash)] != head.hash:
                found[log_id] = end.fork
        return found

    async def last_row(self) -> int:
        """The row that arrived last."""
        return self._database.peek(oplog.last_row)

    def settled_row(self, since_s: float) -> int:
        """The last row that arrived before *since_s*, a time of the event loop; a very high one if nothing came since.

        What came from another device after it, that one is most likely sending itself.
        """
        while self._arrivals and self._arrivals[0][0] <= since_s:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else 2**62

    async def outgoing(
        self, cursor: int, have: dict[LogId, int], most_bytes: int, most: int
    ) -> tuple[list[tuple[int, LogId, int, bytes]], int, bool]:
        """Batches after a row that the other side lacks; see oplog.outgoing."""
        return self._database.peek(lambda c: oplog.outgoing(c, cursor, have, most_bytes, most))

    async def open_batches(self, blobs: Sequence[bytes]) -> Opened:
        """Parse, verify, decrypt and decode, off the event loop when there is much of it.

        Raises: BadFrame, BadSignature: the other side sent what no device wrote; nothing is kept.
        """
        if sum(map(len, blobs)) <= INLINE_BYTES:
            return self._open(blobs)
        return await self._worker(lambda: self._open(blobs))

    def _open(self, blobs: Sequence[bytes]) -> Opened:
        items: list[Incoming] = []
        unknown: set[DeviceId] = set()
        seen: set[bytes] = set()
        space = self.identity.space
        for blob in blobs:
            batch = parse_batch(blob)
            if batch.space != space:
                raise BadFrame("A batch of another space was sent.")
            public = self.space.verify_key(batch.device)
            if public is None:
                unknown.add(batch.device)
                continue
            verify_batch(batch, public)
            if batch.hash in seen:
                continue  # the same twice in one frame is no second branch
            seen.add(batch.hash)
            body, fault = self._replica.open(batch)
            items.append(Incoming(batch, body, fault if fault == "broken" else None))
        return Opened(items, unknown)

    async def receive(self, opened: Opened, *, source: str) -> Stored:
        """Keep and apply what was opened. Returns what changed; forks of our own log are repaired before."""
        now_ms = self.now_ms()
        devices = {item.batch.device for item in opened.items}

        def store(tx: Tx) -> tuple[Stored, int]:
            for device in devices:
                control.saw_device(tx, device, now_ms)
            before = oplog.last_row(tx.connection)
            return self._replica.receive(tx, opened.items, now_ms, self._replica.sealer), before

        stored, before = await self._database.write(store)
        if stored.fresh:
            self._arrivals.append((asyncio.get_running_loop().time(), before))
            self.peers.tell(stored.heads, except_for=source)
        self._applied += stored.applied
        self._counted("receive", "ok", stored.fresh)
        self._counted("receive", "gap", len(stored.gaps))
        self._counted("receive", "fork", len(stored.forks))
        if self._hold_own_log and stored.heads.get(self.space.own_log, Head(0, b"")).n >= self._hold_own_log:
            self._hold_own_log = 0
            self._unsealed.set()
        if stored.forks:
            self._published("alarms")
            if self.space.own_log in stored.forks:
                self._forked_s = asyncio.get_running_loop().time()
                self._forked.set()
        if stored.applied:
            self._tell_documents()
        self.peers.wake(except_for=source)
        return stored

    def _tell_documents(self) -> None:
        """Documents changed; or all were built again, and listeners must not go on where they were."""
        if self._rebuilds != self._replica.rebuilds:
            self._rebuilds = self._replica.rebuilds
            self._published("rebuilt")
        if self.letters is not None:
            self.letters.documents_changed()
        self._published("documents")

    async def _repair(self) -> None:
        """If there is proof that our own log was continued elsewhere, close it on the branch the others hold.

        One that somebody connected says to hold and that is not here yet is waited for, not longer than RETRY_S.
        """
        is_late = asyncio.get_running_loop().time() - self._forked_s >= RETRY_S
        tip = EMPTY_HEAD if is_late else self._told_of_own_log()
        end = await self._database.write(
            lambda tx: self._replica.close_for(tx, tip) if self._replica.own_forked(tx) else None
        )
        if end is None:
            return
        self._hold_own_log = 0
        log.warning("own log forked, closing it at n=%d", end.n)
        record = self.space.close_log(self.space.own_log, end, self._clock())
        await self.add_records([record])

    def _told_of_own_log(self) -> Head:
        """The farthest end of another branch of our own log that somebody says to hold; never of ours, for what is void
        of that we can seal again. Nothing is told: EMPTY_HEAD."""
        own = self.space.own_log
        told = [head for c in self.peers.conversations.values() if (head := c.state.theirs.get(own)) is not None]

        def is_other(head: Head) -> bool:
            held = self._database.peek(partial(oplog.hash_at, log=own, n=head.n))
            return held is None or held[: len(head.hash)] != head.hash

        return max(filter(is_other, told), key=lambda head: head.n, default=EMPTY_HEAD)

    async def add_records(self, records: Sequence[bytes], *, from_peer: bool = False) -> None:
        """Control records from a peer, or our own: keep them, follow what they change, sign what is due.

        Args: from_peer: others hear of them now as well, so what is due is signed after a while (see `_tend_loop`).
        Raises: RemoteError kinds: a record that nobody could have signed; what came before it is kept.
        """
        fresh, changed = list(records), False
        while fresh or self._follow_is_due:
            added = self.space.update(fresh)
            if not added and not self._follow_is_due:
                break
            changed = True
            await self._follow(added)
            if from_peer:
                self._tend_due.set()
                break
            fresh = self.space.tend(self._clock())
        if changed:
            self._published("devices")
            self.peers.wake()  # whoever told us too: logs may have been cut, and be wanted again
            self._unsealed.set()

    async def _follow(self, added: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep new records, (hash, raw), and let the replica follow what the space knows now, in one transaction.

        If a disk refuses them, the space in memory knows them all the same: `retry` or whatever comes next does it
        again. Nothing is sealed under a key of theirs before that.
        """
        self._unkept.update(added)
        records = list(self._unkept.items())
        now_ms = self.now_ms()
        keys, sealer = self.known_keys(), self.space.sealer()

        def follow(tx: Tx) -> LogId:
            control.add_records(tx, records)
            self._replica.learn(tx, keys, now_ms, sealer)
            tx.after_commit(use)
            return self._replica.own_log(tx)

        def use() -> None:
            self._replica.sealer = sealer

        try:
            self.space.own_log = await self._database.write(follow)
        except BaseException:  # also if nobody waits any more: it may be done, and nobody has seen it
            self._follow_is_due = True
            raise
        self._follow_is_due = False
        for digest, _ in records:
            self._unkept.pop(digest, None)
        self._tell_documents()

    def follow_later(self) -> None:
        """The space knows records that the replica does not: `add_records`, with or without new ones, follows them."""
        self._follow_is_due = True

    def known_keys(self) -> Keys:
        """What the control records say about keys and ends of the logs held here. Raises: SecretsLocked."""
        self.space.know_logs({row.log: row.device for row in self._database.peek(oplog.logs).values()})
        return self.space.keys()

    def resume(self, *changed: str) -> None:
        """There are keys now, perhaps others than before: seal what waits. Args: changed: what to tell listeners."""
        self._unsealed.set()
        for what in changed:
            if what == "documents":
                self._tell_documents()
            else:
                self._published(what)

    async def refused(self, peer: str, code: str, message: str) -> None:
        """A peer refused something we sent."""
        log.warning("refused peer=%s code=%s %s", peer, code, message)
        if code == "quota":
            now_ms = self._clock()
            text = f"{peer} has no room left for this space: {message}"
            if await self._database.write(lambda tx: alarms.raise_alarm(tx, now_ms, "relay_quota", text, peer=peer)):
                self._published("alarms")

    async def has_room(self, peer: str) -> None:
        """A relay that was full takes what it is sent: when it is full again, that is told again."""
        await self._database.write(lambda tx: alarms.clear_alarms(tx, "relay_quota", peer=peer))
        self._published("alarms")

    # ---- what local services ask ----------------------------------------------------------------------------------
    def wrote(self) -> None:
        """Local documents changed: seal soon, send what is sealed."""
        self._unsealed.set()
        self.peers.wake()

    async def run(self) -> None:
        """Seal in time, retry what is parked, save what was confirmed; until cancelled."""
        for alarm in self._database.peek(partial(alarms.alarms, all_of_them=True)):
            if alarm.code == "relay_quota":  # before the last end: it is asked carefully
                room = self.peers.rooms[str(alarm.detail["peer"])]
                room.refused(alarm.message, 0.0)
                room.ask_now()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._seal_loop(), name="seal")
            group.create_task(self._retry_loop(), name="retry")
            group.create_task(self._repair_loop(), name="repair")
            group.create_task(self._tend_loop(), name="tend")
            group.create_task(self.peers.run(), name="peers")

    async def _seal_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._unsealed.wait()
            pause = self._sealed_at + SEAL_WINDOW_MS / 1000 - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            self._unsealed.clear()
            if self._hold_own_log or self._replica.sealer is None:
                continue
            try:
                await self.seal()
            except HybridGWError as error:  # a full disk; what is open stays as it is
                log.warning("sealing later: %s", error.message)
                self._counted("seal", "failed", 1)
                await asyncio.sleep(REST_S)
                self._unsealed.set()

    async def seal(self) -> int:
        """Seal what is pending now. Returns how many batches were made."""
        sealer = self._replica.sealer
        if sealer is None:
            return 0
        batches: list[Batch] = []
        if self._database.peek(oplog.has_pending):  # most writes are sealed in their own transaction
            try:
                batches = await self._database.write(lambda tx: self._replica.seal(tx, sealer))
            except SecretsLocked:
                return 0
            self._counted("seal", "ok", len(batches))
        self._sealed_at = asyncio.get_running_loop().time()
        self.peers.wake()  # always: what arrived may have sealed it, and its sender was not woken then
        self.peers.changed()
        return len(batches)

    async def _tend_loop(self) -> None:
        """Sign the key records that others' records make due. Every device hears of a removal, and one new key is
        enough: the lowest device goes first, and who finds the key made has nothing to do. Until then nothing is
        sealed."""
        while True:
            await self._tend_due.wait()
            self._tend_due.clear()
            await asyncio.sleep(self.space.tend_delay_s())
            try:
                renew = bool(self.peers.conversations)
                await self.add_records(self.space.tend(self.now_ms(), renew=renew))
            except HybridGWError as error:  # a full disk
                log.warning("signing key records later: %s", error.message)
                await asyncio.sleep(REST_S)
                self._tend_due.set()

    async def _repair_loop(self) -> None:
        """After a proof, not at once: what of the other branch is only shown after the close is void, and of those who
        are connected, or are about to be, each may hold more of it than the one who was first."""
        while True:
            await self._forked.wait()
            self._forked.clear()
            await asyncio.sleep(HOLD_S)
            try:
                await self._repair()
            except HybridGWError as error:
                log.warning("closing the own log later: %s", error.message)  # see `retry`

    async def _retry_loop(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                await self.retry()
            except HybridGWError as error:
                log.warning("retrying later: %s", error.message)

    async def retry(self) -> None:
        """Try again what waits: batches that are parked, control records that a disk refused, a fork not closed yet, a
        key that is old."""
        if self._follow_is_due:
            await self.add_records([])
        if self.peers.conversations and self.space.key_is_old(self.now_ms()):
            self._tend_due.set()
        own = self.space.own_log
        if self._replica.sealer is not None and self._database.peek(lambda c: oplog.evidence(c, own)):
            await self._repair()
        waiting = any(r.stored.n > r.applied.n for r in self._database.peek(oplog.logs).values())
        if waiting:
            now_ms = self.now_ms()
            applied = await self._database.write(lambda tx: self._replica.drain(tx, now_ms, self._replica.sealer))
            if applied:
                self._tell_documents()

    # ---- status and trigger ---------------------------------------------------------------------------------------
    async def _wait_for_step(self, timeout_s: float) -> bool:
        """In step with what a peer has now: what another device was just told is stored may be on its way here."""
        since_s = asyncio.get_running_loop().time()
        async with self.peers.asked():
            return await self.peers.wait_for(partial(self.is_in_step, since_s), timeout_s, look_s=LOOK_S)

    async def _may_come_into_step(self) -> bool:
        """Is there anybody, or may there be soon."""
        if self.peers.known or self.peers.conversations:
            return True
        return self.peers.lan.off is None and len(self.space.active_devices()) > 1

    async def is_in_step(self, since_s: float = 0.0) -> bool:
        """Everything written here is durable at a peer, and everything it has is applied here.

        Args: since_s: only a peer counts that was heard out after it, a time of the event loop.
        """
        return self._is_in_step(since_s)

    def _is_in_step(self, since_s: float = 0.0) -> bool:
        rows = self._database.peek(oplog.logs)
        writes, _ = self._database.peek(oplog.pending_size)
        ours = {log_id: row.stored for log_id, row in rows.items() if row.stored.n}
        if writes or any(row.stored.n > row.applied.n and row.waiting != "broken" for row in rows.values()):
            return False
        return any(
            not c.state.catching_up and c.state.heard_s >= since_s and self._holds_the_same(ours, c.state.theirs)
            for c in self.peers.conversations.values()
        )

    def _holds_the_same(self, ours: Heads, theirs: Heads) -> bool:
        """Has a peer what we have and nothing else that counts: of a closed log it may keep more, or another branch."""
        ends = self.ends.keys()
        if any(theirs.get(log_id, EMPTY_HEAD).n < ours[log_id].n for log_id in ends & ours.keys()):
            return False
        open_ones = [{log_id: head for log_id, head in heads.items() if log_id not in ends} for heads in (ours, theirs)]
        return is_equal(*open_ones)

    async def status(self) -> SyncStatus:
        """Where things stand, for a person."""
        return self._teller.status(self._is_in_step)

    def outside(self) -> Outside | None:
        """How this device is out of its space; None: it belongs, as far as it knows or is told."""
        return self._teller.outside()

    async def trigger(
        self, *, sync_type: str = "all", full: bool = False, wait: bool = True, timeout_s: float = 30.0
    ) -> SyncResult:
        """Sync now: connect at once, seal, and wait until in step. full: compare everything again."""
        started, applied, sent = self._clock(), self._applied, self.peers.sent_batches()
        if self.space.locked:
            self._counted("trigger", "locked", 1)
            return SyncResult(sync_type=sync_type, status="locked", path="none", started_at=started)
        await self.seal()
        self.peers.reconnect(full=full)
        self.peers.wake()
        is_looked_for = self.outside() is not None or not wait  # one that is out may have been let in again
        status = "started" if not is_looked_for or await self.peers.any_contact(CONTACT_S) else "offline"
        if self.outside() is not None:
            status = "out"
        elif wait and await self._may_come_into_step() and await self._wait_for_step(timeout_s):
            status = "done"
        elif wait:
            status = "timeout" if self.peers.conversations else "offline"
        self._counted("trigger", status, 1)
        return SyncResult(
            sync_type=sync_type,
            status=status,  # type: ignore[arg-type]
            path=self.peers.path(),
            sent=max(0, self.peers.sent_batches() - sent),
            received=self._applied - applied,
            started_at=started,
            finished_at=self._clock(),
        )
