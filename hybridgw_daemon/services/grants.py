"""Apps that ask to be let in, and the person who lets them in, refuses them, or throws them out again.

    ask -> pending --approve--> approved --revoke, expiry, sign-out, theft--> ended
              |----refuse-----> refused   (and may not ask again for a day)
              |----2 min, or 5 wrong codes--> expired

Who asks is the Origin that the browser states; a program without one is known by the name it gives, so the person is
told that anybody could be behind it. Both sides show the same six digits. What waits lives in memory: nobody can fill
the disk by asking, and after a restart an app simply asks again. Source: docs/adr/0014-local-tokens-and-grants.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from hybridgw_protocol.errors import BadValue, Forbidden, NotFound, Refused, TooMany, TooManyRequests, WrongCode
from hybridgw_protocol.localapi_access import (
    ApproveGrant,
    AskGrant,
    GetGrant,
    Grant,
    GrantAsked,
    GrantList,
    GrantState,
    Lasts,
    ListGrants,
    RefuseGrant,
    RevokeGrant,
)
from hybridgw_protocol.proofs import parse_app_key
from hybridgw_storage.database import Connection, Database, Tx

from ..core.origins import kind_of
from ..core.scopes import Scopes, parse
from ..stores import grants as rows
from .audit import AuditService
from .credentials import Credentials, Holding
from .ports import Principal

PENDING_S: Final = 120.0  # a code is good for so long
TRIES: Final = 5
MOST_PENDING: Final = 5  # more than a person can judge; the sixth waits
MOST_DECIDED: Final = 64  # that askers may still poll
ASKS: Final = 30  # in all, and
ASKS_OF_ONE: Final = 6  # of one origin or name, within
ASKS_S: Final = 600.0
REFUSED_MS: Final = 86_400_000
CLAIM_MS: Final = 600_000  # to fetch the first tokens after approval
SESSION_MS: Final = 12 * 3_600_000  # "this session": until the daemon ends, and no longer than a day's work
MONTH_MS: Final = 30 * 86_400_000
MOST_GRANTS: Final = 256
MAX_NAME: Final = 40
MOST_WAITING: Final = 4  # long polls of one request

_LASTS_TEXT: Final = {"session": "for this session", "30d": "for 30 days", "until_revoked": "until revoked"}


@dataclass(slots=True)
class Pending:
    """A request that a person has not decided yet, or just has."""

    id: str
    kind: Literal["web", "extension", "program"]
    origin: str | None
    name: str
    scopes: Scopes
    code: str
    claim: bytes
    asked_ms: int
    key: bytes | None = None
    tries_left: int = TRIES
    state: GrantState = "pending"
    waiting: int = 0
    decided: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def who(self) -> str:
        """What a refusal is remembered by."""
        return self.origin if self.origin is not None else f"program:{self.name}"


class GrantService:
    """What `/api/auth/grants` does."""

    def __init__(
        self,
        database: Database,
        credentials: Credentials,
        audit: AuditService,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        changed: Callable[[], None],
    ) -> None:
        """Args: changed: called when something waits for the person, or no more does."""
        self._database, self._credentials, self._audit = database, credentials, audit
        self._clock, self._entropy, self._changed = clock, entropy, changed
        self._pending: dict[str, Pending] = {}  # with those that were decided lately
        self._asks: deque[tuple[int, str]] = deque()

    # ---- the app -----------------------------------------------------------------------------------------------------
    async def ask(self, principal: Principal, command: AskGrant) -> GrantAsked:
        """Begin. Raises: BadValue: a scope; Refused: a person said no lately; TooManyRequests."""
        scopes = parse(command.scopes)
        name = harmless(command.name)
        key = None if command.key is None else parse_app_key(command.key)
        kind = "program" if principal.origin is None else kind_of(principal.origin, plain_http=True)
        if kind is None:
            raise Forbidden("Requests of this page are not admitted.")
        who = principal.origin if principal.origin is not None else f"program:{name}"
        now_ms = self._clock()
        self._expire(now_ms)
        self._check_may_ask(who, now_ms)
        secret = urlsafe_b64encode(self._entropy(32)).decode().rstrip("=")
        pending = Pending(
            self._entropy(8).hex(),
            kind,
            principal.origin,
            name,
            scopes,
            self._new_code(),
            _digest(secret),
            now_ms,
            key,
        )
        self._pending[pending.id] = pending
        self._asks.append((now_ms, who))
        await self._database.write(
            lambda tx: self._audit.write(
                tx, "grant.asked", origin=pending.origin, name=name, may=scopes.sentence(), scopes=scopes.items()
            )
        )
        self._changed()
        expires_ms = now_ms + round(PENDING_S * 1000)
        return GrantAsked(
            id=pending.id, code=_spaced(pending.code), secret=secret, expires_ms=expires_ms, sentence=scopes.sentence()
        )

    async def get(self, principal: Principal, command: GetGrant) -> Grant:
        """How it stands: for the owner, the app itself, and who asked. Raises: NotFound, also for a wrong secret."""
        self._expire(self._clock())
        pending = self._pending.get(command.id)
        if pending is not None:
            if not principal.is_owner and not _proves(command.secret, pending.claim):
                raise _unknown()
            await self._wait(pending, command.wait_s)
            if pending.state != "approved" or not pending.decided.is_set():
                return _shown_pending(pending, for_owner=principal.is_owner)
        row = self._database.peek(lambda c: rows.get(c, command.id))
        if row is None:
            raise _unknown()
        is_asker = row.claim_ms > self._clock() and _proves(command.secret, row.claim)
        if not principal.is_owner and principal.id != f"grant:{row.id}" and not is_asker:
            raise _unknown()
        return _shown(row, self._last_used(row))

    async def _wait(self, pending: Pending, wait_s: float) -> None:
        if pending.decided.is_set() or wait_s <= 0 or pending.waiting >= MOST_WAITING:
            return
        left_s = PENDING_S - (self._clock() - pending.asked_ms) / 1000
        pending.waiting += 1
        try:
            async with asyncio.timeout(max(0.0, min(wait_s, left_s))):
                await pending.decided.wait()
        except TimeoutError:
            self._expire(self._clock())
        finally:
            pending.waiting -= 1

    # ---- the person --------------------------------------------------------------------------------------------------
    async def list(self, _principal: Principal, command: ListGrants) -> GrantList:
        """What waits, then what was let in."""
        self._expire(self._clock())
        waiting = [_shown_pending(p, for_owner=True) for p in self._pending.values() if p.state == "pending"]
        found = await self._database.read(lambda c: rows.all_of_them(c, ended=command.all))
        return GrantList(items=waiting + [_shown(row, self._last_used(row)) for row in found])

    async def approve(self, principal: Principal, command: ApproveGrant) -> Grant:
        """A person has compared the code.

        Raises: NotFound: nothing waits under this id; WrongCode: and after five of them the request is dropped;
        BadValue: scopes that were not asked for.
        """
        now_ms = self._clock()
        pending = self._waiting(command.id, now_ms)
        typed = "".join(char for char in command.code if not char.isspace() and char != "-")
        if not hmac.compare_digest(typed.encode("utf-8", "surrogatepass"), pending.code.encode()):
            await self._wrong_code(pending)
        scopes = pending.scopes if command.scopes is None else _narrowed(pending.scopes, command.scopes)
        lasts_ms = {"session": SESSION_MS, "30d": MONTH_MS, "until_revoked": None}[command.lasts]
        row = rows.GrantRow(
            pending.id, pending.kind, pending.origin, pending.name, scopes.text(), command.lasts, pending.asked_ms,
            now_ms, None if lasts_ms is None else now_ms + lasts_ms, None, pending.claim, now_ms + CLAIM_MS, None, None,
            pending.key,
        )  # fmt: skip

        def write(tx: Tx) -> None:
            if len(rows.all_of_them(tx.connection)) >= MOST_GRANTS:
                raise TooMany(f"There are {MOST_GRANTS} apps; revoke some first: hybridgw apps")
            rows.add(tx, row)
            rows.forgive(tx, pending.who)
            self._audit.write(
                tx, "grant.approved", principal=f"grant:{row.id}", origin=row.origin, name=row.name,
                may=scopes.sentence(), lasts=_LASTS_TEXT[row.lasts], scopes=scopes.items(), by=principal.id,
            )  # fmt: skip

        pending.state = "approved"  # before the write: nobody else decides it meanwhile
        try:
            await self._database.write(write)
        except BaseException:
            pending.state = "pending"
            raise
        self._credentials.put(holding_of(row))
        self._decided(pending)
        return _shown(row, None)

    async def refuse(self, principal: Principal, command: RefuseGrant) -> Grant:
        """A person does not want it. Raises: NotFound."""
        now_ms = self._clock()
        pending = self._waiting(command.id, now_ms)

        def write(tx: Tx) -> None:
            rows.refuse(tx, pending.who, now_ms + REFUSED_MS)
            self._audit.write(tx, "grant.refused", origin=pending.origin, name=pending.name, by=principal.id)

        pending.state = "refused"
        await self._database.write(write)
        self._decided(pending)
        return _shown_pending(pending, for_owner=True)

    async def revoke(self, principal: Principal, command: RevokeGrant) -> Grant:
        """End an app's rights. Raises: NotFound: no such app, or it has none any more."""
        row = await self.end(command.id, "revoked", by=principal.id)
        if row is None:
            raise _unknown()
        return _shown(row, row.last_used_ms)

    async def end(self, grant: str, reason: str, *, by: str | None = None) -> rows.GrantRow | None:
        """Its rights end now, everywhere. Returns: the row as it is then; None: it had none."""
        now_ms = self._clock()

        def write(tx: Tx) -> rows.GrantRow | None:
            if not rows.end(tx, grant, now_ms, reason):
                return None
            row = rows.get(tx.connection, grant)
            assert row is not None  # noqa: S101 - it was just changed
            event = {"reused": "refresh.reused", "logged_out": "logout"}.get(reason, "grant.ended")
            self._audit.write(
                tx, event, principal=f"grant:{grant}", origin=row.origin, name=row.name, reason=reason, by=by
            )
            return row

        row = await self._database.write(write)
        if row is not None:
            self._credentials.drop(f"grant:{grant}")
            self._changed()
        return row

    @property
    def waiting(self) -> int:
        """Requests that wait for a person."""
        self._expire(self._clock())
        return sum(pending.state == "pending" for pending in self._pending.values())

    def tidy(self) -> None:
        """Let go of what nobody decided in time."""
        self._expire(self._clock())

    # ---- inside ------------------------------------------------------------------------------------------------------
    def _check_may_ask(self, who: str, now_ms: int) -> None:
        until_ms = self._database.peek(lambda c: rows.refused_until(c, who))
        if until_ms > now_ms:
            left_s = -(-(until_ms - now_ms) // 1000)
            raise Refused(
                "A person has refused this app. It may ask again tomorrow, or when they let it in on their own.",
                retry_after_s=left_s,
            )
        while self._asks and self._asks[0][0] <= now_ms - ASKS_S * 1000:
            self._asks.popleft()
        own = next((p for p in self._pending.values() if p.state == "pending" and p.who == who), None)
        if own is not None:
            left_s = max(1, round(PENDING_S - (now_ms - own.asked_ms) / 1000))
            raise TooManyRequests("A request of this app waits for the person already.", retry_after_s=left_s)
        if sum(p.state == "pending" for p in self._pending.values()) >= MOST_PENDING:
            raise TooManyRequests("Too many apps wait for the person; ask again later.", retry_after_s=30)
        if len(self._asks) >= ASKS or sum(asker == who for _, asker in self._asks) >= ASKS_OF_ONE:
            raise TooManyRequests("Too many requests to be let in; ask again later.", retry_after_s=60)

    def _waiting(self, grant: str, now_ms: int) -> Pending:
        self._expire(now_ms)
        pending = self._pending.get(grant)
        if pending is None or pending.state != "pending":
            raise NotFound("Nothing waits under this id: it was decided, or its two minutes are over.")
        return pending

    async def _wrong_code(self, pending: Pending) -> None:
        pending.tries_left -= 1
        event = "grant.wrong_code"
        if pending.tries_left <= 0:
            pending.state, event = "expired", "grant.voided"
        await self._database.write(lambda tx: self._audit.write(tx, event, origin=pending.origin, name=pending.name))
        if pending.state == "expired":
            self._decided(pending)
            raise WrongCode(
                "That was the fifth wrong code: the request is dropped. Let the app ask again.", tries_left=0
            )
        raise WrongCode(
            "This is not the code of that app. Compare what it shows; if it shows none, refuse it.",
            tries_left=pending.tries_left,
        )

    def _decided(self, pending: Pending) -> None:
        pending.decided.set()
        self._changed()

    def _expire(self, now_ms: int) -> None:
        over = now_ms - PENDING_S * 1000
        for pending in list(self._pending.values()):
            if pending.state == "pending" and pending.asked_ms <= over:
                pending.state = "expired"
                self._decided(pending)
            if pending.state != "pending" and pending.asked_ms <= over - CLAIM_MS:
                del self._pending[pending.id]
        decided = [p.id for p in self._pending.values() if p.state != "pending"]
        for number in decided[: max(0, len(decided) - MOST_DECIDED)]:
            del self._pending[number]

    def _new_code(self) -> str:
        taken = {p.code for p in self._pending.values()}
        while True:
            code = f"{int.from_bytes(self._entropy(8), 'big') % 1_000_000:06d}"
            if code not in taken:
                return code

    def _last_used(self, row: rows.GrantRow) -> int | None:
        return self._credentials.used_ms.get(f"grant:{row.id}", row.last_used_ms)


def load(connection: Connection) -> list[Holding]:
    """The grants that count."""
    return [holding_of(row) for row in rows.all_of_them(connection)]


def holding_of(row: rows.GrantRow) -> Holding:
    """A grant as the register has it."""
    origins = frozenset() if row.origin is None else frozenset({row.origin})
    return Holding(f"grant:{row.id}", row.kind, parse(row.scopes), origins, row.expires_ms, key=row.key)  # type: ignore[arg-type]


def harmless(text: str) -> str:
    """A name from outside, to be shown: printable on one line, no marks that turn or hide text, at most 40 characters.

    Raises: BadValue: nothing is left.
    """
    kept = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if not kept:
        raise BadValue("The name has no character that can be shown.", field="name")
    return kept if len(kept) <= MAX_NAME else kept[: MAX_NAME - 1] + "…"


def _narrowed(asked: Scopes, wanted: list[str]) -> Scopes:
    scopes = parse(wanted)
    if not asked.is_admin and (scopes.is_admin or not set(scopes.pairs) <= set(asked.pairs)):
        raise BadValue("Only what the app asked for can be approved, or less.", field="scopes")
    return scopes


def _shown_pending(pending: Pending, *, for_owner: bool) -> Grant:
    # An approval that is not on the disk yet is none: who logged in now would be refused.
    state = pending.state if pending.state != "approved" else "pending"
    return Grant(
        id=pending.id, state=state, kind=pending.kind, origin=pending.origin, name=pending.name,
        scopes=pending.scopes.items(), sentence=pending.scopes.sentence(), asked_ms=pending.asked_ms,
        code=_spaced(pending.code) if for_owner and state == "pending" else None,
        tries_left=pending.tries_left if state == "pending" else None,
        expires_ms=pending.asked_ms + round(PENDING_S * 1000), has_key=pending.key is not None,
    )  # fmt: skip


def _shown(row: rows.GrantRow, last_used_ms: int | None) -> Grant:
    scopes = parse(row.scopes)
    lasts: Lasts = row.lasts  # type: ignore[assignment]  # written from a Lasts
    return Grant(
        id=row.id, state="approved" if row.ended_ms is None else "ended", kind=row.kind, origin=row.origin,  # type: ignore[arg-type]
        name=row.name, scopes=scopes.items(), sentence=scopes.sentence(), asked_ms=row.asked_ms, lasts=lasts,
        approved_ms=row.approved_ms, expires_ms=row.expires_ms, last_used_ms=last_used_ms, ended_ms=row.ended_ms,
        reason=row.reason, has_key=row.key is not None,
    )  # fmt: skip


def _proves(secret: str | None, claim: bytes) -> bool:
    return secret is not None and hmac.compare_digest(_digest(secret), claim)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _spaced(code: str) -> str:
    return f"{code[:3]} {code[3:]}"


def _unknown() -> NotFound:
    return NotFound("There is no such app or request; 'hybridgw apps' lists them.")
