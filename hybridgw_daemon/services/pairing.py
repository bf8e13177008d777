"""Pairing as a person sees it: this device shows a code and admits another, or types one and joins.

The exchange itself is in protocol/hybridgw_protocol/pairing.py (SPAKE2 and sealed messages); here it meets a mailbox
(a relay's, or a device's on this network), the control log and the person who compares four words. One pairing at a
time; nothing survives a restart. A new one takes the place of one that nobody can miss: a code that no device has used,
or a pairing that no program has asked about for a while, because its window was closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from hybridgw_protocol.auth import endpoint
from hybridgw_protocol.errors import (
    BadValue,
    Busy,
    HybridGWError,
    LocalError,
    NeedsPerson,
    NotFound,
    Offline,
    PairingFailed,
)
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.invite import Invite
from hybridgw_protocol.limits import PAIRING_DEAD_CODES_PER_HOUR, PAIRING_NAMEPLATE_DIGITS, PAIRING_TTL_MS
from hybridgw_protocol.localapi_devices import Pairing, PairingOffer, Peer
from hybridgw_protocol.membership import joiner_digest
from hybridgw_protocol.pairing import Existing, IssuedCode, New
from hybridgw_protocol.pairing_code import PairingCode, format_code, format_link, make_code, parse_code
from hybridgw_protocol.pairing_messages import (
    Admission,
    Admitted,
    Cause,
    Confirmed,
    Finished,
    Introduced,
    Introduction,
    Invited,
    Offer,
    RelayHint,
    clean_name,
    failure,
)

from .devices import Noted, unnoted
from .gateway import DirectMailbox, DirectPairing, Gateway, Mailbox
from .membership import MembershipService
from .relays import RelayService
from .space import Candidate, Space, fingerprint
from .sync import SyncService, Worker

T = TypeVar("T")
log = logging.getLogger(__name__)

KEPT: Final = 8  # finished pairings whose outcome can still be asked for
HOUR_MS: Final = 3_600_000
FORSAKEN_MS: Final = 60_000  # whoever follows a pairing asks again sooner, unless a person is comparing four words
STOP_S: Final = 5.0  # so long the other side is given to hear that it is over
REPLACED: Final = "Another code was asked for meanwhile, so this one does not work any more."
RECORD_S: Final = 5.0  # so long the relay may take to store the record of a new device


class _Running:
    """One pairing: what the API shows of it, and the person's answer."""

    def __init__(self, number: str, now_ms: int) -> None:
        self.shown = Pairing(id=number, state="waiting")
        self.asked_ms = now_ms  # when a program last asked how far it is
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.decides = False  # the other device waits for this person's word
        self.is_refused = False  # the person has ended it
        self.joiner: DeviceId | None = None  # who was let in, and may not have come yet

    @property
    def is_over(self) -> bool:
        return self.shown.state in ("done", "failed")

    def may_be_replaced(self, now_ms: int) -> bool:
        """Would nobody miss it. Not while the new device is let in, nor before it has begun."""
        if self.task is None or self.shown.state == "joining":
            return False
        return self.shown.state == "waiting" or not 0 <= now_ms - self.asked_ms < FORSAKEN_MS


class _Inbox:
    """Messages of a mailbox, one read under way at most: so a person's answer and an abort can be awaited together."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._reading: asyncio.Task[bytes] | None = None

    def reading(self) -> asyncio.Task[bytes]:
        """The read under way."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._mailbox.receive())
        return self._reading

    async def receive(self) -> bytes:
        """The next message. Raises: PairingFailed, Offline."""
        message = await self.reading()
        self._reading = None
        return message

    def close(self) -> None:
        """Nobody reads any more."""
        if self._reading is not None:
            self._reading.cancel()


class PairingService:
    """Starts, follows and ends pairings; implements what the local API offers under /api/devices/pair."""

    def __init__(
        self, sync: SyncService, space: Space, membership: MembershipService, gateway: Gateway, relays: RelayService, *,
        clock: Callable[[], int], entropy: Callable[[int], bytes], worker: Worker, group: asyncio.TaskGroup,
        platform: str, direct: DirectPairing | None = None, noted: Noted = unnoted,
        refused: Callable[[str], None] = lambda _event: None,
    ) -> None:  # fmt: skip
        """Args: worker: runs a slow function (SPAKE2) off the event loop; group: owns the running pairings; direct:
        the way without a relay; noted, refused: told of what was done and of what failed, for the audit log."""
        self._sync, self._space, self._membership = sync, space, membership
        self._gateway, self._relays = gateway, relays
        self._clock, self._entropy, self._worker, self._group = clock, entropy, worker, group
        self._platform, self._direct = platform, direct
        self._noted, self._refused = noted, refused
        self._running: dict[str, _Running] = {}
        self._dead_ms: list[int] = []  # when codes died without success, after a guess could have been tested

    # ---- asked for by a person ------------------------------------------------------------------------------------
    async def start(self, relay: str | None = None) -> PairingOffer:
        """Show a code, at a relay if one is connected, else on this network.

        Raises: Offline: neither is to be had; NeedsPerson: this device is out of its space; SecretsLocked; Busy: one is
        going on.
        """
        self._sync.identity  # noqa: B018 - raises SecretsLocked
        if (out := self._sync.outside()) is not None:
            raise NeedsPerson(out.message)
        running = await self._begin()
        try:
            mailbox, url, authority = await self._open(relay)
        except BaseException:
            del self._running[running.shown.id]
            raise
        now_ms = self._clock()
        self._dead_ms = [t for t in self._dead_ms if t > now_ms - HOUR_MS]
        code = make_code(mailbox.nameplate, self._entropy, url)
        issued = IssuedCode(code, digits_allowed=len(self._dead_ms) < PAIRING_DEAD_CODES_PER_HOUR)
        running.shown.code = format_code(code) if issued.digits_allowed else ""
        expires_ms = now_ms + PAIRING_TTL_MS
        running.task = self._group.create_task(
            self._guard(running, partial(self._show, running, mailbox, issued, url, authority)), name="pairing"
        )
        await asyncio.sleep(0)  # it has begun, so that a cancel finds something to undo
        return PairingOffer(
            id=running.shown.id, code=running.shown.code, link=format_link(code), expires_ms=expires_ms, state="waiting"
        )

    async def join(self, text: str, name: str | None = None, *, anew: bool = False, ask: bool = False) -> Pairing:
        """Type the code that another device shows.

        Args: anew: come back to the own space as a new device though this one belongs there, as far as is known here;
        ask: nothing is joined before `confirm`.
        Raises: BadValue: no code; LocalError: this device belongs to other devices already; SecretsLocked; Busy.
        """
        code = parse_code(text)
        own_only = self._space.check_may_join(anew=anew or self._sync.peers.refusal() is not None)
        if not code.relay and (why := "" if self._direct is None else await self._direct.why_not()) is not None:
            reasons = (
                "This code does not say which relay.",
                why,
                "Type it as shown, like 417-803-265@relay.example.com.",
            )
            raise BadValue(" ".join(filter(None, reasons)))
        running = await self._begin()
        running.task = self._group.create_task(
            self._guard(running, partial(self._join, running, code, name, own_only, ask)), name="pairing"
        )
        await asyncio.sleep(0)
        return running.shown

    async def _open(self, relay: str | None) -> tuple[Mailbox, str, str]:
        """A mailbox, the URL of its relay (none: it is here), and the authority that both sides name."""
        try:
            mailbox, url = await self._gateway.open_mailbox(relay)
        except Offline:
            if relay is not None or self._direct is None or await self._direct.why_not() is not None:
                raise
            nameplate = int.from_bytes(self._entropy(8), "big") % 10**PAIRING_NAMEPLATE_DIGITS
            direct = await self._direct.open_mailbox(nameplate)
            return direct, "", direct.authority
        return mailbox, url, endpoint(url)

    async def get(self, number: str) -> Pairing:
        """How far it is. Raises: NotFound."""
        if number not in self._running:
            raise NotFound("There is no such pairing; start a new one with 'hybridgw pair'.")
        self._running[number].asked_ms = self._clock()
        return self._running[number].shown

    async def confirm(self, number: str, accept: bool) -> Pairing:
        """The person compared the four words. Raises: NotFound; LocalError: nothing to confirm."""
        shown = await self.get(number)
        running = self._running[number]
        if not accept and running.task is not None and not running.is_over:
            if running.decides and not running.answer.done():
                running.answer.set_result(False)
            else:
                running.is_refused = True
                running.task.cancel()  # the other side is told, the code is burned
            return shown
        if shown.state in ("joining", "done"):
            return shown  # the person at the other device was quicker
        if shown.state != "confirm":
            raise LocalError("There is nothing to confirm now.")
        if not running.answer.done():
            running.answer.set_result(True)
        return shown

    async def _begin(self) -> _Running:
        """Make room for a new one. Raises: Busy: one is going on that somebody would miss."""
        while going_on := [running for running in self._running.values() if not running.is_over]:
            now_ms = self._clock()
            for running in going_on:
                if running.task is None or not running.may_be_replaced(now_ms):
                    raise Busy(
                        "A pairing is going on in another window. Finish it there, or end it with Ctrl-C. If that "
                        "window is gone, 'hybridgw pair' works again in a minute."
                    )
                running.task.cancel()
                await asyncio.wait({running.task}, timeout=STOP_S)
                running.shown.state, running.shown.error = "failed", REPLACED
        for old in list(self._running)[:-KEPT]:
            del self._running[old]
        running = _Running(self._entropy(8).hex(), self._clock())
        self._running[running.shown.id] = running
        return running

    async def _guard(self, running: _Running, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(PAIRING_TTL_MS / 1000):
                await work()  # begun here: a task that is cancelled before it runs leaves nothing unawaited
            running.shown.state = "done"
        except HybridGWError as error:
            running.shown.state, running.shown.error = "failed", error.message
            log.info("pairing failed: %s", error.message)
        except TimeoutError:
            running.shown.state, running.shown.error = "failed", failure(Cause.EXPIRED).message
        except asyncio.CancelledError:
            running.shown.state, running.shown.error = "failed", "The pairing was cancelled."

    # ---- the device that shows the code ---------------------------------------------------------------------------
    async def _show(
        self, running: _Running, mailbox: Mailbox, issued: IssuedCode, url: str, authority: str
    ) -> None:  # fmt: skip
        identity = self._space.identity
        offer = Offer(identity.space, self._space.root_public, identity.seat, tuple(self._space.signing_heads()))
        machine = Existing(
            issued,
            offer,
            authority=authority,
            joiner_digest=joiner_digest,
            entropy=self._entropy,
        )
        done = False
        inbox = _Inbox(mailbox)
        try:
            while not done:
                message = await inbox.receive()
                running.shown.state = "exchanging" if running.shown.state == "waiting" else running.shown.state
                events = await self._off_loop(partial(machine.receive, message))
                await self._flush(machine, mailbox)
                for event in events:
                    match event:
                        case Confirmed(words=words):
                            running.shown.words = " ".join(words)
                        case Introduced(joiner=joiner):
                            await self._decide(running, machine, inbox, offer, joiner, url)
                            await self._flush(machine, mailbox)
                        case Finished():
                            done = True
        except BaseException as error:
            if issued.is_answered:
                self._dead_ms.append(self._clock())
                self._refused("refused.code")
            await self._abort(machine, mailbox)
            if running.is_refused or (isinstance(error, PairingFailed) and error.detail.get("by_other_side")):
                await self._take_back(running)
            raise
        finally:
            inbox.close()
        await mailbox.close("done")

    async def _decide(
        self, running: _Running, machine: Existing, inbox: _Inbox, offer: Offer, joiner: Introduction, url: str
    ) -> None:
        running.shown.peer = Peer(name=joiner.name, platform=joiner.platform, fingerprint=fingerprint(joiner.device))
        running.shown.state = "confirm"
        await self._said_yes(running, machine, inbox)
        running.shown.state = "joining"
        record = self._space.add_device(joiner, offer, self._clock())
        await self._sync.add_records([record])
        running.joiner = joiner.device
        await self._noted("device.added", name=joiner.name)
        if url:
            await self._until_known(url)
        hints = [RelayHint(r.url) for r in await self._relays.list()] or [RelayHint(url)] * bool(url)
        machine.admit(Admission(tuple(self._space.records()), tuple(hints), self._clock()))

    async def _said_yes(self, running: _Running, machine: Existing | New, inbox: _Inbox) -> None:
        """Wait until the person here has compared the words.

        Raises: PairingFailed: they differ, or the other device has ended it meanwhile.
        """
        running.decides = True
        waited: set[asyncio.Future[Any]] = {running.answer, inbox.reading()}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not running.answer.done():  # the other person saw other words, or went away
            machine.receive(await inbox.receive())
            raise PairingFailed("The other device spoke out of turn; nothing was shared with it.")
        if not running.answer.result():
            machine.abort(Cause.REFUSED)
            raise PairingFailed("You refused the other device; nothing was shared with it.")

    async def _take_back(self, running: _Running) -> None:
        """One of the two persons has said no after the new device was let in: it is put out again."""
        let_in = (info for info in self._space.active_devices() if info.device == running.joiner)
        for info in let_in:
            await self._sync.add_records([self._space.remove(info.seat, self._clock())])
            await self._noted("device.removed", name=running.shown.peer.name if running.shown.peer else "")

    async def _until_known(self, url: str) -> None:
        """Wait until the relay has the new device's record: it would turn the device away if it came sooner."""

        async def is_known() -> bool:
            conversation = self._sync.peers.conversation(url)
            return conversation is not None and conversation.state.control >= set(self._sync.control_heads())

        if not await self._sync.peers.wait_for(is_known, RECORD_S, look_s=RECORD_S):
            log.warning("relay %s has not taken the new device's record yet", url)

    # ---- the device that joins ------------------------------------------------------------------------------------
    async def _join(
        self, running: _Running, code: PairingCode, name: str | None, own_only: bool, ask: bool
    ) -> None:  # fmt: skip
        running.shown.state = "exchanging"
        mailbox, authority, direct = await self._meet(code)
        machine: New | None = None
        candidate = Candidate(self._entropy)
        offer: Offer | None = None
        inbox = _Inbox(mailbox)
        try:
            machine = await self._off_loop(partial(New, code, authority=authority, entropy=self._entropy))
            await self._flush(machine, mailbox)
            while True:
                message = await inbox.receive()
                events = await self._off_loop(partial(machine.receive, message))
                await self._flush(machine, mailbox)
                for event in events:
                    match event:
                        case Confirmed(words=words):
                            running.shown.words = " ".join(words)
                            running.shown.state = "confirm"
                        case Invited(offer=offer):
                            if own_only:
                                self._space.check_is_own(offer.space)
                            machine.introduce(
                                candidate.introduce(offer, clean_name(name or self._space.name), self._platform)
                            )
                            await self._flush(machine, mailbox)
                        case Admitted(admission=admission):
                            if ask:
                                await self._said_yes(running, machine, inbox)
                            running.shown.state = "joining"
                            assert offer is not None  # noqa: S101 - the machine admits nobody it has not invited
                            relays = self._relays.noting([Invite(hint.url, hint.enrol) for hint in admission.relays])
                            await self._membership.join(candidate, offer, admission, note=relays)
                            self._relays.start()
                            machine.finish()
                            await self._flush(machine, mailbox)
                            await mailbox.close("done")
                            await self._noted("device.joined")
                            if direct is not None and self._direct is not None:
                                seat = self._space.control.seat(offer.seat)
                                assert seat is not None  # noqa: S101 - the records led from it to this device
                                await self._direct.joined(direct, seat.device)
                            return
        except BaseException:
            await self._abort(machine, mailbox)
            raise
        finally:
            inbox.close()

    async def _meet(self, code: PairingCode) -> tuple[Mailbox, str, DirectMailbox | None]:
        """The mailbox of a code, and the authority that both sides name; also it itself, if it is at no relay."""
        if code.relay:
            return await self._gateway.join_mailbox(code.relay, code.nameplate), endpoint(code.relay), None
        assert self._direct is not None  # noqa: S101 - checked when the code was typed
        direct = await self._direct.join_mailbox(code.nameplate)
        return direct, direct.authority, direct

    async def _off_loop(self, work: Callable[[], T]) -> T:
        """Run slow work in a thread; a cancelled caller still waits for it, for the machine is in its hands."""
        task = asyncio.ensure_future(self._worker(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _flush(self, machine: Existing | New, mailbox: Mailbox) -> None:
        for message in machine.data_to_send():
            await mailbox.send(message)

    async def _abort(self, machine: Existing | New | None, mailbox: Mailbox) -> None:
        """Tell the other side, if it still listens, and give the mailbox back in any case."""
        try:
            try:
                if machine is not None:
                    machine.abort()
                    await self._flush(machine, mailbox)
            finally:
                await mailbox.close("abort")
        except HybridGWError as error:
            log.debug("the mailbox was gone already: %s", error.message)
