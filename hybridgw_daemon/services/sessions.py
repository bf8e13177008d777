"""Tokens for keys and grants: login, refresh with rotation and detection of theft, sign-out.

A refresh token is used up by one refresh, which issues a child. While nobody has used what came with the child, the
answer may have been lost on the way: the parent may be shown again and another child is issued. The first use of a
child, its access token or itself, settles it: its parent and its siblings are dead. Showing a dead one means that two
hold the same line, the app and somebody else, and nobody can tell which is which: the grant ends and the app has to ask
the person again. Within ten seconds the same parent gets the same answer, so two tabs do not become rivals.

Source: docs/adr/0014-local-tokens-and-grants.md; RFC 9700, 4.14 (refresh token protection).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from hybridgw_protocol.errors import BadValue, Forbidden, InvalidCredentials, SupabaseNotConfigured
from hybridgw_protocol.localapi import DeploymentMode
from hybridgw_protocol.localapi_access import (
    AuthStatus,
    GetAuthStatus,
    LoggedOut,
    Login,
    Logout,
    Refresh,
    Tokens,
    Validate,
    Validity,
)
from hybridgw_protocol.localapi_access import (
    Credentials as Shown,
)
from hybridgw_protocol.proofs import LOGIN, REFRESH
from hybridgw_storage.database import Database, Tx

from ..core.tokens import Claims
from ..stores import api_keys as key_rows
from ..stores import grants as grant_rows
from ..stores import meta
from ..stores import sessions as rows
from ..stores.sessions import RefreshRow, State
from .audit import AuditService
from .credentials import Credentials, Holding
from .grants import GrantService
from .ports import Principal

REFRESH_PREFIX: Final = "hgr_"
REFRESH_MS: Final = 90 * 86_400_000  # unused for so long, the app asks again
REFRESHABLE_S: Final = 3_600  # most that an access token lives whose holder can refresh it
SAME_ANSWER_MS: Final = 10_000
MOST_ANSWERS: Final = 256
_NOT_VALID: Final = "This key, approval or refresh token does not count, or no longer."


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a refresh found out inside its transaction."""

    row: RefreshRow | None = None
    is_theft: bool = False
    buried: tuple[str, ...] = ()


class SessionService:
    """What `/api/auth/{login,refresh,logout,validate,status}` do."""

    def __init__(
        self,
        database: Database,
        credentials: Credentials,
        grants: GrantService,
        audit: AuditService,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        expiration_s: int,
        counted: Callable[[str, str], None] = lambda _kind, _status: None,
    ) -> None:
        """Args: expiration_s: of access tokens, as configured; counted: told of each login or refresh: ok, refused."""
        self._counted = counted
        self._database, self._credentials, self._grants, self._audit = database, credentials, grants, audit
        self._clock, self._entropy, self._expiration_s = clock, entropy, expiration_s
        self._answers: dict[bytes, tuple[int, Tokens]] = {}  # by digest of the parent: (until, answer)
        self._written: dict[str, int] = {}  # last uses that are in the database

    # ---- login -------------------------------------------------------------------------------------------------------
    async def login(self, principal: Principal, command: Login) -> Tokens:
        """Tokens for a key or an approval. Raises: InvalidCredentials; SupabaseNotConfigured; BadValue."""
        shown = command.credentials
        if shown.supabase_token is not None or shown.supabase_refresh_token is not None:
            raise SupabaseNotConfigured(
                "No Supabase project is configured here. Log in with an API key (hybridgw keys create), or ask to be "
                "let in: POST /api/auth/grants."
            )
        if (shown.api_key is None) == (shown.grant is None) or (shown.grant is None) != (shown.secret is None):
            raise BadValue("Send one of `api_key`, or `grant` with `secret`.", field="credentials")
        if shown.api_key is not None:
            return await self._login_with_key(principal, shown.api_key, command.deployment_mode)
        return await self._login_with_grant(principal, shown, command.deployment_mode)

    async def _login_with_key(self, principal: Principal, key: str, mode: DeploymentMode) -> Tokens:
        holding = self._credentials.key_of(key, principal.origin)
        if holding is None:
            self._refused("login.refused", principal)
        await self._database.write(
            lambda tx: self._audit.write(
                tx, "login", principal=holding.id, origin=principal.origin, name=f"the API key {holding.id[4:]}"
            )
        )
        return self._tokens(holding, self._new_id(), "api_key", mode, None)

    async def _login_with_grant(self, principal: Principal, shown: Shown, mode: DeploymentMode) -> Tokens:
        grant, secret = shown.grant or "", shown.secret or ""
        holding = self._credentials.get(f"grant:{grant}")
        claim = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        now_ms = self._clock()
        refresh, row = self._issued(grant, None, mode, now_ms)

        def write(tx: Tx) -> bool:
            found = grant_rows.get(tx.connection, grant)
            if found is None or found.ended_ms is not None or found.claim_ms <= now_ms:
                return False
            if not hmac.compare_digest(found.claim, claim):
                return False
            rows.forget(tx, grant)  # the answer to a login before was lost, or its tokens are the app's to forget
            rows.add(tx, row)
            self._audit.write(
                tx, "login", principal=f"grant:{grant}", origin=found.origin, name=found.name, deployment_mode=mode
            )
            return True

        if holding is None or not holding.fits(principal.origin):
            self._refused("login.refused", principal)
        if not self._credentials.is_proven(holding, secret, shown.proof, LOGIN) or not await self._database.write(
            write
        ):
            self._refused("login.refused", principal)
        self._credentials.issued(row.jti, grant)
        return self._tokens(holding, row.jti, "grant", mode, refresh)

    # ---- refresh -----------------------------------------------------------------------------------------------------
    async def refresh(self, principal: Principal, command: Refresh) -> Tokens:
        """New tokens. Raises: InvalidCredentials: unknown, over, from another origin, or a copy was noticed."""
        now_ms = self._clock()
        digest = hashlib.sha256(command.refresh_token.encode("utf-8", "surrogatepass")).digest()
        known = self._database.peek(lambda c: rows.get(c, digest))
        holding = self._credentials.get(f"grant:{known.grant_id}") if known is not None else None
        if known is None or holding is None or not holding.fits(principal.origin):
            self._refused("refresh.refused", principal)
        if not self._credentials.is_proven(holding, command.refresh_token, command.proof, REFRESH):
            self._refused("refresh.refused", principal)  # not theft: a copy without the key is worth nothing
        again = self._answers.get(digest)
        if again is not None and again[0] > now_ms:
            return again[1]
        refresh, child = self._issued(known.grant_id, digest, known.mode, now_ms)
        begun = self._take_begun()
        outcome = await self._database.write(lambda tx: self._rotate(tx, digest, child, begun, now_ms))
        for jti in outcome.buried:
            self._credentials.revoke(jti, now_ms + self._expiration_s * 1000)
        if outcome.is_theft:
            await self._grants.end(known.grant_id, "reused")
        if outcome.row is None or self._credentials.get(holding.id) is None:
            self._refused("refresh.refused", principal)
        self._credentials.issued(child.jti, child.grant_id)
        mode: DeploymentMode = known.mode  # type: ignore[assignment]  # written from one
        answer = self._tokens(holding, child.jti, "refresh", mode, refresh)
        self._remember(digest, answer, now_ms)
        return answer

    def _rotate(self, tx: Tx, digest: bytes, child: RefreshRow, begun: list[tuple[str, str]], now_ms: int) -> _Outcome:
        buried = _settle(tx, begun)
        row = rows.get(tx.connection, digest)
        if row is None or row.expires_ms <= now_ms:
            return _Outcome(buried=tuple(buried))
        if row.state == State.DEAD:
            return _Outcome(is_theft=True, buried=tuple(buried))
        buried += rows.bury_rivals(tx, row)  # who refreshes with it has it in use
        rows.put_state(tx, digest, State.REPLACED)
        rows.add(tx, child)
        for jti in buried:
            rows.revoke(tx, jti, now_ms + self._expiration_s * 1000)
        return _Outcome(row, buried=tuple(buried))

    async def write_down(self) -> None:
        """First uses of tokens, and when holders were last seen, into the database. Nothing to do costs nothing."""
        used, begun = dict(self._credentials.used_ms), self._take_begun()
        new = {who: at for who, at in used.items() if self._written.get(who) != at}
        if not new and not begun:
            return
        until = self._clock() + self._expiration_s * 1000

        def write(tx: Tx) -> list[str]:
            for who, at_ms in new.items():
                _touch(tx, who, at_ms)
            buried = _settle(tx, begun)
            for jti in buried:
                rows.revoke(tx, jti, until)
            return buried

        for jti in await self._database.write(write):
            self._credentials.revoke(jti, until)
        self._written = used

    # ---- the end -----------------------------------------------------------------------------------------------------
    async def logout(self, principal: Principal, command: Logout) -> LoggedOut:
        """Tokens end. An app that signs out gives up its grant and asks the person when it wants to come back.

        Raises: Forbidden: all_clients is for the owner and `admin`; BadValue: the owner's own token.
        """
        if command.scope == "all_clients":
            if not principal.is_admin:
                raise Forbidden("Only the owner, or a credential with `admin`, ends the tokens of all apps.")
            return await self._logout_all(principal)
        if principal.id.startswith("dashboard:"):
            await self._database.write(
                lambda tx: self._audit.write(tx, "logout", principal=principal.id, name="the dashboard")
            )
            return LoggedOut(ended=self._credentials.drop_dashboard(principal.id))
        if principal.is_owner:
            raise BadValue("The token of the endpoint file ends with the daemon: hybridgw down", field="scope")
        kind, _, name = principal.id.partition(":")
        if kind == "grant":
            return LoggedOut(ended=int(await self._grants.end(name, "logged_out", by=principal.id) is not None))
        if principal.jti is None or principal.expires_ms is None:
            raise BadValue("An API key itself is revoked, not signed out: hybridgw keys revoke ID", field="scope")
        jti, exp_ms = principal.jti, principal.expires_ms

        def write(tx: Tx) -> None:
            rows.revoke(tx, jti, exp_ms)
            self._audit.write(tx, "logout", principal=principal.id, name=f"the API key {name}")

        await self._database.write(write)
        self._credentials.revoke(jti, exp_ms)
        self._credentials.tell_ended(principal.id)
        return LoggedOut(ended=1)

    async def _logout_all(self, principal: Principal) -> LoggedOut:
        def write(tx: Tx) -> tuple[int, int]:
            ended = rows.forget(tx)
            self._audit.write(tx, "logout.all", principal=principal.id)
            return ended, rows.raise_version(tx)

        ended, version = await self._database.write(write)
        self._answers.clear()
        self._credentials.end_all_tokens(version)
        for who in self._credentials.all_ids():
            self._credentials.tell_ended(who)
        return LoggedOut(ended=ended + self._credentials.drop_dashboard())

    # ---- what one may know about oneself -----------------------------------------------------------------------------
    async def validate(self, principal: Principal, _command: Validate) -> Validity:
        """What the credential of this call is worth."""
        return Validity(
            valid=True,
            sub=self.identity(),
            cid=principal.id,
            scope=principal.scopes.text(),
            sentence=principal.scopes.sentence(),
            source="owner" if principal.is_owner else "api_key" if principal.jti is None else "local",
            exp=None if principal.expires_ms is None else principal.expires_ms // 1000,
            origin=principal.origin,
            verified="introspected" if principal.jti is None else "signature",
        )

    async def status(self, principal: Principal, _command: GetAuthStatus) -> AuthStatus:
        """How identity is set up; numbers for the owner only."""
        found = AuthStatus(
            identity=self.identity(), account=None, supabase="not_configured", algorithm=self._credentials.key.algorithm
        )
        if principal.is_owner:
            ids = self._credentials.all_ids()
            found.pending = self._grants.waiting
            found.grants = sum(who.startswith("grant:") for who in ids)
            found.keys = len(ids) - found.grants
        return found

    def identity(self) -> str:
        """The local principal: the id of the space; `local` until this device has one."""
        space = self._database.peek(lambda c: meta.get(c, "space"))
        return space.hex() if isinstance(space, bytes) else "local"

    # ---- inside ------------------------------------------------------------------------------------------------------
    def _tokens(self, holding: Holding, jti: str, how: str, mode: DeploymentMode, refresh: str | None) -> Tokens:
        self._counted("login" if how != "refresh" else how, "ok")
        now_s = self._clock() // 1000
        ends_s = now_s + (self._expiration_s if refresh is None else min(self._expiration_s, REFRESHABLE_S))
        if holding.expires_ms is not None:
            ends_s = min(ends_s, holding.expires_ms // 1000)
        credentials = self._credentials
        claims = Claims(
            iss=credentials.issuer, sub=self.identity(), cid=holding.id, scope=holding.scopes.text(), jti=jti,
            iat=now_s, exp=ends_s, kv=credentials.version, amr=[how],
            hv=holding.version,
        )  # fmt: skip
        return Tokens(
            access_token=credentials.key.sign(claims), expires_in=ends_s - now_s, expires_at=ends_s,
            scopes=holding.scopes.items(), identity=claims.sub, deployment_mode=mode, refresh_token=refresh,
        )  # fmt: skip

    def _issued(self, grant: str, parent: bytes | None, mode: str, now_ms: int) -> tuple[str, RefreshRow]:
        text = REFRESH_PREFIX + urlsafe_b64encode(self._entropy(32)).decode().rstrip("=")
        digest = hashlib.sha256(text.encode()).digest()
        return text, RefreshRow(digest, grant, parent, self._new_id(), mode, now_ms, now_ms + REFRESH_MS, State.ISSUED)

    def _new_id(self) -> str:
        return self._entropy(12).hex()

    def _take_begun(self) -> list[tuple[str, str]]:
        begun, self._credentials.begun = self._credentials.begun, []
        return begun

    def _remember(self, digest: bytes, answer: Tokens, now_ms: int) -> None:
        self._answers = {d: entry for d, entry in self._answers.items() if entry[0] > now_ms}
        if len(self._answers) < MOST_ANSWERS:
            self._answers[digest] = now_ms + SAME_ANSWER_MS, answer

    def _refused(self, event: str, principal: Principal) -> NoReturn:
        self._counted(event.partition(".")[0], "refused")
        self._audit.refused(event, principal.origin)
        raise InvalidCredentials(_NOT_VALID)


def _settle(tx: Tx, begun: list[tuple[str, str]]) -> list[str]:
    """Access tokens were used for the first time: what could stand in for them is dead. Returns: their rivals."""
    buried: list[str] = []
    for jti, grant in begun:
        row = rows.of_token(tx.connection, jti, grant)
        if row is not None and row.state != State.DEAD:
            buried += rows.bury_rivals(tx, row)
            if row.state == State.ISSUED:
                rows.put_state(tx, row.digest, State.IN_USE)
    return buried


def _touch(tx: Tx, who: str, at_ms: int) -> None:
    kind, _, name = who.partition(":")
    if kind == "grant":
        grant_rows.touch(tx, name, at_ms)
    else:
        key_rows.touch(tx, name, at_ms)
