"""Opening the key of this profile, after local data is served: the secret store, the clone guard, then sync.

Nothing here may hold up the start: stores answer from a worker thread and within a time limit. While the key is not to
be had the daemon serves local data, `status` says why, and it is tried again now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hybridgw_protocol.errors import BadValue, CannotOpen, SecretsLocked
from hybridgw_protocol.localapi import Component
from hybridgw_storage.database import Database, Tx

from ..core.rest import RestSealer
from ..stores import clone_guard, control, meta
from ..stores.secret_kinds import COMMAND_AGAIN, SecretKind, SecretStore
from ..stores.secrets import open_secret_store, unlock
from ..stores.secrets_file import PassphraseSource
from .membership import MembershipService
from .relays import RelayService
from .space import Space
from .sync import Worker

log = logging.getLogger(__name__)

RETRY_S: Final = 30.0  # a keyring that was locked at login is often open half a minute later
KEY_CHECK: Final = "key-check"


class UnlockingService:
    """Opens the key once; `run` ends when it is open."""

    def __init__(
        self,
        database: Database,
        space: Space,
        membership: MembershipService,
        relays: RelayService,
        *,
        kind: SecretKind,
        passphrase: PassphraseSource,
        folder: Path,
        entropy: Callable[[int], bytes],
        worker: Worker,
        opened: Callable[[RestSealer], None] = lambda _: None,
    ) -> None:
        """Args: kind, passphrase: as configured; folder: the profile's data folder; opened: told once."""
        self._database, self._space, self._membership, self._relays = database, space, membership, relays
        self._kind, self._passphrase, self._folder = kind, passphrase, folder
        self._entropy, self._worker, self._told = entropy, worker, opened
        self._component = Component(name="keys", state="starting", message="The key of this profile is being opened.")

    def component(self) -> Component:
        """For the health report."""
        return self._component

    async def run(self) -> None:
        """Try until the key is open."""
        self._relays.start()  # known from now on, connected once there are keys
        while True:
            try:
                await self.unlock()
            except (SecretsLocked, CannotOpen, BadValue) as error:
                command = str(error.detail.get("command") or COMMAND_AGAIN)
                why = f"{error.message.removesuffix(f' Run: {command}')} Local data is served; sync and pairing wait."
                self._space.locked = f"{why} Run: {command}"
                self._component = Component(name="keys", state="degraded", message=why, help=command)
                log.warning("keys locked: %s", error.message, extra={"event": "keys.locked"})
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def unlock(self) -> None:
        """Open the key and begin sync. Raises: SecretsLocked: with the command that helps; CannotOpen."""
        install = await self._database.write(lambda tx: meta.install_name(tx, self._entropy))
        store = open_secret_store(self._kind, install, self._folder, self._passphrase)
        known = self._database.peek(lambda c: control.secret(c, KEY_CHECK))
        opened = await self._worker(lambda: unlock(store, self._folder, known, self._entropy(32)))
        db_counter = int(self._database.peek(lambda c: meta.get(c, "clone_counter", 0)))
        db_machine = bytes(self._database.peek(lambda c: meta.get(c, "machine", b"")))
        here = clone_guard.machine_id()
        verdict = clone_guard.check(self._folder, db_counter, db_machine, here)
        counter = clone_guard.advance(self._folder, db_counter, self._database.path)
        if verdict is clone_guard.Verdict.COPIED and known is not None:
            log.warning("this database is a copy; a new log is begun", extra={"event": "keys.copied"})

        def note(tx: Tx) -> None:
            control.put_secret(tx, KEY_CHECK, opened.check)
            meta.put(tx, "clone_counter", counter)
            meta.put(tx, "machine", here)

        rest = RestSealer(opened.kek)
        self._relays.rest = rest
        is_copy = verdict is clone_guard.Verdict.COPIED
        if known is None and any(self._folder.glob(f"{self._database.path.name}.damaged-*")):
            is_copy = False  # a new one in the place of a damaged one, which 'doctor' tells of
        await self._membership.open(rest, is_copy=is_copy, note=note)
        self._relays.start()
        self._told(rest)
        self._component = self._opened(store)

    def _opened(self, store: SecretStore) -> Component:
        if store.kind is SecretKind.INSECURE_FILE:
            return Component(
                name="keys",
                state="degraded",
                message="The key lies unprotected in a file (--secret-store insecure-file): fit for trials only.",
                help="for your own data begin a profile without that option",
            )
        return Component(name="keys", state="ok")
