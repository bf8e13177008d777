"""How this device comes to belong to a space: it begins one, opens the one it is in at every start, or joins another.

Secrets and records are written down here, sealed at rest, together with the log that goes with them. Not where the key
that seals them comes from (unlocking.py), not how two devices agree to pair (pairing.py), not the control records that
arrive later: the sync service takes those.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from hybridgw_protocol.errors import HybridGWError, StateError
from hybridgw_protocol.ids import LogId, SpaceId
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.pairing_messages import Admission, Offer
from hybridgw_storage.database import Database, Tx

from ..core.keys import DeviceKeys, RootKeys
from ..core.rest import Purpose, RestSealer
from ..stores import alarms, control, meta
from .replica import Replica
from .space import Candidate, RestVault, Space
from .sync import SyncService

log = logging.getLogger(__name__)

DEVICE_SEED: Final = "device-seed"
ROOT_SEED: Final = "root-seed"
WORDS_CONFIRMED: Final = "words_confirmed_ms"  # in meta


def nothing_more(_tx: Tx) -> None:
    """To write nothing else."""


class MembershipService:
    """Moves the space, the replica and sync together from one membership to the next."""

    def __init__(
        self,
        database: Database,
        replica: Replica,
        space: Space,
        sync: SyncService,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        """Args: clock: wall clock, Unix ms."""
        self._database, self._replica, self._space, self._sync = database, replica, space, sync
        self._clock, self._entropy = clock, entropy

    async def open(self, rest: RestSealer, *, is_copy: bool = False, note: Callable[[Tx], None] = nothing_more) -> None:
        """Unlock: open this device's keys, or make them and a space at the first start; then tend the keys.

        Args: is_copy: this database may run elsewhere too, so a new log is begun before anything is sealed; or it is
        new and the one before it is gone; note: what else to write in the transaction that decides that.
        Raises: CannotOpen: the key-encryption key is not the one this database was sealed under.
        """
        self._rest = rest
        self._replica.vault = RestVault(rest, self._entropy)
        sealed = self._database.peek(lambda c: control.secret(c, DEVICE_SEED))
        if sealed is None:
            root_seed, seed, records = self._space.begin(self._clock())
            await self._database.write(lambda tx: self._begin_anew(tx, is_copy, note))
            await self._take_up(RootKeys.from_seed(root_seed).space, seed, records, root_seed=root_seed)
        else:
            seed = rest.open(Purpose.DEVICE_SEED, (DEVICE_SEED,), sealed)
            space = SpaceId(self._database.peek(lambda c: meta.get(c, "space")))
            self._space.load(space, seed, self._database.peek(control.records), trusted=True)
            await self._reopen(is_copy, note)
        await self._settle()
        self._sync.resume("sync")

    async def join(
        self, candidate: Candidate, offer: Offer, admission: Admission, *, note: Callable[[Tx], None] = nothing_more
    ) -> None:
        """Belong to another space from now on, with all that was written here before; or to the same one again as a new
        device, with all that is here.

        Args: note: what else to write in the transaction that decides it.
        Raises: PairingFailed: the records do not admit this device; nothing has changed then.
        """
        again, records = offer.space == self._space.identity.space, list(admission.records)
        if again:  # what was signed here and nobody has heard of counts as it would have
            records += [raw for raw in self._space.records() if raw not in set(records)]
        self._space.check_joined(candidate, offer, records)
        sealer = self._replica.sealer
        try:
            if again:
                await self._take_up_again(candidate.seed, records, note)
            else:
                await self._take_up(offer.space, candidate.seed, records, leave=True, note=note)
        except HybridGWError:  # a full disk: still in the old space
            self._replica.sealer = sealer
            raise
        self._sync.peers.reconnect(full=True)  # whoever is connected knows this device as the one it was
        await self._settle()
        self._sync.resume("documents", "devices", "sync")

    # ---- the recovery words ---------------------------------------------------------------------------------------
    def root_seed(self) -> bytes | None:
        """What the recovery words stand for, 32 bytes, while it is here. Raises: SecretsLocked."""
        self._space.identity  # noqa: B018 - raises SecretsLocked
        sealed = self._database.peek(lambda c: control.secret(c, ROOT_SEED))
        return None if sealed is None else self._rest.open(Purpose.ROOT_SEED, (ROOT_SEED,), sealed)

    def words_confirmed_ms(self) -> int | None:
        """When a person confirmed here to have the words; None: not here."""
        found = self._database.peek(lambda c: meta.get(c, WORDS_CONFIRMED))
        return None if found is None else int(found)

    async def erase_root_seed(self) -> None:
        """The person has the words: a thief of this machine shall not find them."""
        now_ms = self._clock()

        def erase(tx: Tx) -> None:
            control.delete_secret(tx, ROOT_SEED)
            meta.put(tx, WORDS_CONFIRMED, now_ms)

        await self._database.write(erase)

    def _begin_anew(self, tx: Tx, is_copy: bool, note: Callable[[Tx], None]) -> None:
        note(tx)
        if is_copy:  # something beside the database knows of an older one
            alarms.raise_alarm(
                tx, self._clock(), "database_gone",
                "This profile had a database before, which is gone or was emptied: everything begins anew here. If you "
                "have a backup, stop the daemon ('hybridgw down'), put it back and start again; else "
                "'hybridgw pair CODE' brings back what your other devices have.",
            )  # fmt: skip

    async def _reopen(self, is_copy: bool, note: Callable[[Tx], None]) -> None:
        keys, device, now_ms = self._sync.known_keys(), self._space.identity.device, self._sync.now_ms()

        def begin(tx: Tx) -> None:
            self._replica.keys = keys
            note(tx)
            if is_copy:
                self._replica.switch_log(tx, device, self._entropy(32), now_ms)
                alarms.raise_alarm(
                    tx, now_ms, "cloned",
                    "This profile was restored or copied; it goes on in a new log. If it also runs on another machine, "
                    "take one of the two in as a new device: 'hybridgw pair CODE --anew'.",
                )  # fmt: skip

        await self._database.write(begin)
        self._sync.follow_later()

    async def _take_up(
        self, space: SpaceId, seed: bytes, records: Sequence[bytes], *, root_seed: bytes = b"", leave: bool = False,
        note: Callable[[Tx], None] = nothing_more,
    ) -> None:  # fmt: skip
        """Write a new identity down, then use it: seeds, records and a new log in one transaction."""
        rest, entropy = self._rest, self._entropy
        device = DeviceKeys.from_seed(seed).device
        log_of = ControlLog(space)
        added, _ = log_of.update(records)

        def keep(tx: Tx) -> LogId:
            if leave:
                self._replica.leave_space(tx)
                control.delete_secret(tx, ROOT_SEED)
                meta.delete(tx, WORDS_CONFIRMED)
            control.add_records(tx, [(record.hash, record.raw) for record in added])
            control.put_secret(tx, DEVICE_SEED, rest.seal(Purpose.DEVICE_SEED, (DEVICE_SEED,), seed, entropy(24)))
            if root_seed:
                control.put_secret(tx, ROOT_SEED, rest.seal(Purpose.ROOT_SEED, (ROOT_SEED,), root_seed, entropy(24)))
            meta.put(tx, "space", space)
            meta.put(tx, "device", device)
            note(tx)
            return self._replica.open_log(tx, device, entropy(32)).log

        self._space.own_log = await self._database.write(keep)
        self._space.load(space, seed, records, trusted=True)
        self._sync.follow_later()

    async def _take_up_again(self, seed: bytes, records: Sequence[bytes], note: Callable[[Tx], None]) -> None:
        """Be another device of the same space from now on. The old one's log ends with what was written here so far,
        and counts as far as the records say; what cannot be sealed in it any more is the first in the new one."""
        device, entropy, now_ms = DeviceKeys.from_seed(seed).device, self._entropy, self._sync.now_ms()
        sealed = self._rest.seal(Purpose.DEVICE_SEED, (DEVICE_SEED,), seed, entropy(24))
        log_of = ControlLog(self._space.identity.space)
        added, _ = log_of.update(records)

        def keep(tx: Tx) -> LogId:
            if self._replica.sealer is not None:
                self._replica.seal(tx, self._replica.sealer)
            self._replica.sealer = None  # the old device seals nothing more, the new one when the records are followed
            control.add_records(tx, [(record.hash, record.raw) for record in added])
            control.put_secret(tx, DEVICE_SEED, sealed)
            meta.put(tx, "device", device)
            note(tx)
            self._replica.switch_log(tx, device, entropy(32), now_ms)
            return self._replica.own_log(tx)

        self._space.own_log = await self._database.write(keep)
        self._space.load(self._space.identity.space, seed, records, trusted=True)
        self._sync.follow_later()

    async def _settle(self) -> None:
        """Follow the control records and sign what is due; what a full disk refuses now, the sync service retries."""
        try:
            await self._sync.add_records(self._space.tend(self._clock()))
        except StateError as error:
            log.warning("following the control records later: %s", error.message)
