"""The relays of this space: added by an invite link, kept in the database, connected by the gateway."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hybridgw_protocol.errors import (
    AlreadyExists,
    NeedsPerson,
    NotAdmitted,
    NotFound,
    RemoteClosed,
    RemoteError,
    Revoked,
    StateError,
)
from hybridgw_protocol.invite import Invite, parse_invite
from hybridgw_protocol.localapi import Relay, RelayCheck
from hybridgw_storage.database import Database, Tx

from ..core.rest import Purpose, RestSealer
from ..stores import control
from .gateway import Gateway
from .sync import SyncService

CONTACT_S: Final = 8.0  # how long `add` waits to tell whether the relay lets this space in
STRANGER: Final = (  # the relay tells all strangers the same, so all causes are named
    "The relay does not let this device in, and nothing was added. An invite admits one space, once, for a limited "
    "time: this link was used before, has expired, or is not complete. Where the relay runs, this makes a new one: "
    "hybridgw-relay invite"
)


class RelayService:
    """Adds, lists, tests and removes relays."""

    def __init__(
        self, database: Database, sync: SyncService, gateway: Gateway, *, clock: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        self._database = database
        self._sync = sync
        self._gateway = gateway
        self._clock = clock
        self._entropy = entropy
        self.rest: RestSealer | None = None  # set once the keyring is open

    def start(self) -> None:
        """Connect the relays that are known."""
        urls = [row.url for row in self._database.peek(control.relays)]
        self._sync.peers.know_relays(urls)
        self._gateway.use(urls if self.rest is not None else [])

    def enrol_secret(self, url: str) -> bytes:
        """The invite secret to show this relay, empty once it has admitted the space."""
        row = next((r for r in self._database.peek(control.relays) if r.url == url), None)
        if row is None or row.enrol is None or self.rest is None:
            return b""
        return self.rest.open(Purpose.RELAY_INVITE, (url,), row.enrol)

    async def add(self, link: str) -> Relay:
        """Use a relay: from an invite link, or by its address when it knows the space already.

        Raises: BadValue: no link; StateError kinds: nothing answers there; NotAdmitted, NeedsPerson: it does not let
        this device in (nothing is kept then, unless it was in use before).
        """
        invite = parse_invite(link)
        self._sync.identity  # noqa: B018 - raises SecretsLocked: there is no key to show there
        for row in self._database.peek(control.relays):
            if row.url != invite.url and _by_one_name(row.url) == _by_one_name(invite.url):
                raise AlreadyExists(f"This relay is in use already, as {row.url}.")
        check = await self._gateway.check(invite.url)
        if not check.ok:
            why = check.error or ""
            stop = "" if why.endswith(("?", ".")) else "."
            raise StateError(f"{why}{stop} Nothing was added; check the link, then try again.", url=invite.url)
        was_used = any(row.url == invite.url for row in self._database.peek(control.relays))
        await self.keep(invite)
        self._sync.peers.reconnect()  # one that is in use may have refused this device, and wait long to be asked again
        refusal = await self._sync.peers.first_contact(invite.url, CONTACT_S)
        if isinstance(refusal, NotAdmitted | Revoked):
            out = self._sync.outside()
            if not was_used:
                await self.remove(invite.url)
            if out is not None:
                raise NeedsPerson(out.message)
            raise NotAdmitted(STRANGER if not was_used else refusal.message)
        return await self._one(invite.url)

    async def keep(self, invite: Invite) -> None:
        """Remember a relay and connect it."""
        await self._database.write(self.noting([invite]))
        self.start()

    def noting(self, invites: Sequence[Invite]) -> Callable[[Tx], None]:
        """What to do in a transaction that remembers these relays; `start` connects them after it."""
        now_ms = self._clock()
        rows = []
        for invite in invites:
            enrol = None
            if invite.secret and self.rest is not None:
                enrol = self.rest.seal(Purpose.RELAY_INVITE, (invite.url,), invite.secret, self._entropy(24))
            rows.append((invite.url, enrol))

        def note(tx: Tx) -> None:
            for url, enrol in rows:
                control.put_relay(tx, url, enrol, now_ms)

        return note

    async def list(self) -> list[Relay]:
        """In the order they were added."""
        found = []
        for row in self._database.peek(control.relays):
            status = self._sync.peers.relay_status(row.url)
            found.append(
                Relay(
                    url=row.url,
                    added_ms=row.added_ms,
                    enrolled=row.enrol is None,
                    state=status.state,
                    error=status.error,
                )
            )
        return found

    async def remove(self, url: str) -> None:
        """Stop using a relay; what it stores stays there until it forgets it. Raises: BadValue, NotFound."""
        url = self._meant(url)
        if not await self._database.write(lambda tx: control.delete_relay(tx, url)):
            raise NotFound(f"{url} is not one of this device's relays; 'hybridgw relay list' shows them.")
        self.start()

    async def forget_all(self) -> None:
        """Use no relay any more: none has anything for this device."""

        def forget(tx: Tx) -> None:
            for row in control.relays(tx.connection):
                control.delete_relay(tx, row.url)

        await self._database.write(forget)
        self.start()

    async def test(self, url: str | None) -> RelayCheck:
        """Try a relay; of one that is in use also whether it lets this device in.

        Raises: BadValue: no address; NotFound: none is known.
        """
        known = [row.url for row in self._database.peek(control.relays)]
        target = self._meant(url) if url else known[0] if known else None
        if target is None:
            raise NotFound("No relay is known; add one with 'hybridgw relay add LINK'.")
        check = await self._gateway.check(target)
        if not check.ok or target not in known or self._sync.space.locked:
            return check
        return await self._asked_to_admit(check)

    async def _asked_to_admit(self, check: RelayCheck) -> RelayCheck:
        """A relay that answers may refuse this device all the same."""
        peers, refusal = self._sync.peers, None
        if peers.conversation(check.url) is None:
            peers.reconnect()
            refusal = await peers.first_contact(check.url, CONTACT_S)
        if refusal is None:
            why = peers.rooms[check.url].why if check.url in peers.rooms else None
            return msgspec.structs.replace(check, admitted=True, error=why)
        if not isinstance(refusal, RemoteError) or isinstance(refusal, RemoteClosed):
            return check  # it is busy, or the connection broke: it goes on by itself
        out = self._sync.outside()
        error = out.message if out is not None else refusal.message
        return msgspec.structs.replace(check, ok=False, admitted=False, error=error)

    def _meant(self, text: str) -> str:
        """The relay at this address; without a scheme, one that is in use there is meant before any other."""
        url = parse_invite(text).url
        if "://" not in text:
            place = url.partition("://")[2]
            known = [row.url for row in self._database.peek(control.relays)]
            return next((one for one in known if one.partition("://")[2] == place), url)
        return url

    async def _one(self, url: str) -> Relay:
        return next(r for r in await self.list() if r.url == url)


def _by_one_name(url: str) -> str:
    """The address with this machine under one name."""
    return re.sub(r"://(127\.0\.0\.1|\[::1\])(?=[:/]|$)", "://localhost", url)
