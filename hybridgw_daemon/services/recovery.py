"""The recovery words, for local callers: where they are, showing and confirming them, and a space back from them.

The words are never kept: a seed that was confirmed, or was typed to recover a space, is gone when its call ends. What
they may do to a lost device: expelling.py. Source: protocol/SPEC.md, "Keys" and "Relay".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from hybridgw_protocol.errors import BadRecord, BadValue, HybridGWError, NeedsPerson, NotAdmitted, NotFound
from hybridgw_protocol.invite import Invite, parse_invite
from hybridgw_protocol.localapi_devices import ConfirmRecovery, Recovered, RecoverSpace, RecoveryStatus, RecoveryWords
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.pairing_messages import Admission, Offer, clean_name
from hybridgw_protocol.records import ROOT

from ..core.keys import Hand, KeyRing, RootKeys, admit
from ..core.words import seed_to_words, words_to_seed
from .devices import DeviceService
from .gateway import DirectRecovery, Gateway
from .membership import MembershipService
from .relays import RelayService
from .space import Candidate, Space
from .sync import SyncService

log = logging.getLogger(__name__)

CONTACT_S: Final = 10.0  # how long `recover` waits for the relay to let the new device in
NOT_HERE: Final = (
    "The recovery words are not on this device: they were confirmed and erased, or another device was the first of the "
    "space. They cannot be made anew."
)


class RecoveryService:
    """One per daemon."""

    def __init__(
        self, space: Space, sync: SyncService, membership: MembershipService, devices: DeviceService, gateway: Gateway,
        relays: RelayService, *, clock: Callable[[], int], entropy: Callable[[int], bytes],
        direct: DirectRecovery | None = None,
    ) -> None:  # fmt: skip
        """Args: clock: wall clock, Unix ms; direct: the way without a relay."""
        self._space, self._sync, self._membership, self._devices = space, sync, membership, devices
        self._gateway, self._relays = gateway, relays
        self._clock, self._entropy, self._direct = clock, entropy, direct

    async def status(self) -> RecoveryStatus:
        """Where the words are. Raises: SecretsLocked."""
        if self._membership.root_seed() is not None:
            return RecoveryStatus(state="here")
        confirmed_ms = self._membership.words_confirmed_ms()
        return RecoveryStatus(state="elsewhere" if confirmed_ms is None else "confirmed", confirmed_ms=confirmed_ms)

    async def show(self) -> RecoveryWords:
        """The words. Raises: SecretsLocked; NotFound: they are not here."""
        seed = self._membership.root_seed()
        if seed is None:
            raise NotFound(NOT_HERE)
        await self._devices.noted("recovery.shown")
        return RecoveryWords(words=seed_to_words(seed))

    async def confirm(self, command: ConfirmRecovery) -> RecoveryStatus:
        """The person has typed what is on paper: erase the seed here.

        Raises: SecretsLocked; NotFound: it is not here; BadValue: no words, or others.
        """
        typed, seed = words_to_seed(command.words), self._membership.root_seed()
        if seed is None:
            raise NotFound(NOT_HERE)
        if typed != seed:
            raise BadValue("These are recovery words, but not those of this space.", field="words")
        await self._membership.erase_root_seed()
        await self._devices.noted("recovery.confirmed")
        return await self.status()

    async def recover(self, command: RecoverSpace) -> Recovered:
        """Join the space of these words with what is written here: root reads its control records, at a relay or at
        devices of this network, and admits this device.

        Raises: BadValue: words or address; LocalError: this device belongs with others already; NotFound: the relay
        does not know the space; Offline; RemoteError kinds: what is held there does not lead from the words.
        """
        root = RootKeys.from_seed(words_to_seed(command.words))
        if self._space.check_may_join(anew=self._sync.peers.refusal() is not None):
            self._space.check_is_own(root.space)
        if command.relay is None:
            await self._from_devices(root, command.name)
        else:
            await self._from_relay(root, parse_invite(command.relay), command.name)
        return Recovered(devices=await self._devices.list())

    async def _from_relay(self, root: RootKeys, invite: Invite, name: str | None) -> None:
        try:
            records = await self._gateway.read_control(invite.url, root)
        except NotAdmitted as error:
            raise NotFound(
                f"{invite.url} does not know a space of these words. Is it the relay that your devices used?"
            ) from error
        candidate, offer, admission = self._admit(root, records, invite.url, name)
        await self._membership.join(candidate, offer, admission, note=self._relays.noting([invite]))
        self._relays.start()
        refusal = await self._sync.peers.first_contact(invite.url, CONTACT_S)
        await self._devices.noted("recovery.done", relay=invite.url)
        if isinstance(refusal, HybridGWError):
            log.warning("the relay has not let this device in yet: %s", refusal.message)

    async def _from_devices(self, root: RootKeys, name: str | None) -> None:
        """They are told of the new device first: they let nobody in of whom they have no record. If this device cannot
        keep it then, an entry stays that nobody uses."""
        if self._direct is None or (why := await self._direct.why_not()) is not None:
            told = "" if self._direct is None else f"{why} "
            raise NeedsPerson(
                f"{told}Which relay holds your data? 'hybridgw recover --relay https://relay.example.com'"
            )
        async with self._direct.visit(root) as visits:
            candidate, offer, admission = self._admit(root, visits.records, "A device on this network", name)
            await visits.tell(admission.records)
            await self._membership.join(candidate, offer, admission)
        await self._devices.noted("recovery.done", devices=len(visits.devices))

    def _admit(
        self, root: RootKeys, records: Sequence[bytes], where: str, name: str | None
    ) -> tuple[Candidate, Offer, Admission]:
        """The record by which root admits this device, on top of what is held there; it is the last of the admission.

        Raises: RemoteError kinds: the records do not lead from root.
        """
        control = ControlLog(root.space)
        added, refused = control.update(records)
        if not added:
            raise refused or BadRecord(f"{where} holds no control records of this space.")
        candidate = Candidate(self._entropy)
        offer = Offer(root.space, root.sign_public, ROOT, tuple(control.signing_heads))
        joiner = candidate.introduce(offer, clean_name(name or self._space.name), self._space.platform)
        ring = KeyRing.of_root(root)
        ring.follow(control)
        hand = Hand(control, ROOT, root.sign_secret, ring, self._entropy, self._clock())
        record = admit(
            hand, prevs=control.signing_heads, sign_public=joiner.sign_public,
            exchange_public=joiner.exchange_public, joiner_sig=joiner.signature, label=(joiner.name, joiner.platform),
        )  # fmt: skip
        return candidate, offer, Admission((*(r.raw for r in added), record), (), self._clock())
