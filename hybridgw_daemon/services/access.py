"""Identity of apps as one part: the register of credentials, grants, keys, tokens, the audit log, and their upkeep.

Made by `open_access` once the database is open; `run` is its task. Nothing here waits for a keyring: until the key of
the profile is open, tokens are signed with a secret of this run, and clients that can refresh notice nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hybridgw_storage.database import Database, Tx

from ..core.rest import RestSealer
from ..core.tokens import Algorithm, TokenKey
from ..stores import audit as audit_rows
from ..stores import grants as grant_rows
from ..stores import meta
from ..stores import sessions as session_rows
from . import api_keys, grants
from .api_keys import ApiKeyService
from .audit import AuditService
from .credentials import Credentials, Holding
from .dashboard import DashboardService
from .grants import GrantService
from .issuing import Issuing
from .sessions import SessionService
from .upkeep import keep_up

UPKEEP_S: Final = 5.0
TRIM_EVERY: Final = 720  # upkeeps: an hour


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """As configured. secret: None: one of this installation; origins: admitted by the operator, exact."""

    algorithm: Algorithm
    expiration_s: int
    secret: bytes | None = None
    origins: frozenset[str] = frozenset()


class Access:
    """Everything that decides who may do what."""

    def __init__(
        self,
        database: Database,
        settings: AccessSettings,
        credentials: Credentials,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        changed: Callable[[], None],
        counted: Callable[[str, str], None],
    ) -> None:
        """Use `open_access`."""
        self._database, self._settings, self._clock = database, settings, clock
        self.credentials = credentials
        self.audit = AuditService(database, clock=clock)
        self.grants = GrantService(database, credentials, self.audit, clock=clock, entropy=entropy, changed=changed)
        issuing = Issuing(database, credentials, self.audit, clock, entropy)
        self.keys = ApiKeyService(issuing)
        self.dashboard = DashboardService(issuing)
        self.sessions = SessionService(
            database, credentials, self.grants, self.audit, clock=clock, entropy=entropy,
            expiration_s=settings.expiration_s, counted=counted,
        )  # fmt: skip

    def unlocked(self, rest: RestSealer) -> None:
        """The key of the profile is open: tokens are signed with a secret that outlives this run."""
        if self._settings.secret is None:
            self.credentials.sign_with(TokenKey(self._settings.algorithm, rest.token_secret()))

    async def run(self) -> None:
        """Write down uses, end what is over, keep the audit log short; until cancelled."""
        await keep_up("access", UPKEEP_S, lambda turn: self.tend(trim=turn % TRIM_EVERY == 0))

    async def tend(self, *, trim: bool = False) -> None:
        """One turn. Args: trim: also remove what is old."""
        for principal in self.credentials.over():
            kind, _, name = principal.partition(":")
            if kind == "grant":
                await self.grants.end(name, "expired")
            else:
                await self.keys.expire(name)
        self.grants.tidy()
        await self.sessions.write_down()
        await self.audit.flush()
        if trim:
            now_ms = self._clock()
            await self._database.write(lambda tx: _trim(tx, now_ms))

    async def close(self) -> None:
        """Write down what is not yet."""
        await self.sessions.write_down()
        await self.audit.flush()


async def open_access(
    database: Database,
    settings: AccessSettings,
    *,
    clock: Callable[[], int],
    entropy: Callable[[int], bytes],
    revoked: Callable[[str], None],
    changed: Callable[[], None],
    counted: Callable[[str, str], None] = lambda _kind, _status: None,
) -> Access:
    """As the database has it. Grants for one session end here: the daemon was started anew.

    Args: revoked: called with a principal id after the commit that ended its rights or tokens; changed: something
    waits for a person, or no more does; counted: told of logins and refreshes, and how they ended.
    """
    now_ms = clock()

    def begin(tx: Tx) -> tuple[str, list[Holding], int, dict[str, int], list[tuple[str, str]]]:
        for row in grant_rows.all_of_them(tx.connection):
            if row.lasts == "session":
                grant_rows.end(tx, row.id, now_ms, "session")
        holdings = [*grants.load(tx.connection), *api_keys.load(tx.connection)]
        c = tx.connection
        return (
            meta.install_name(tx, entropy), holdings, session_rows.version(c), session_rows.revoked(c),
            session_rows.unused(c),
        )  # fmt: skip

    install, holdings, version, ended, unused = await database.write(begin)
    credentials = Credentials(
        f"hybridgw:{install}", TokenKey(settings.algorithm, settings.secret or entropy(32)), clock=clock, ended=revoked,
        version=version, revoked=ended, unused=unused, configured=settings.origins,
    )  # fmt: skip
    for holding in holdings:
        credentials.put(holding)
    return Access(database, settings, credentials, clock=clock, entropy=entropy, changed=changed, counted=counted)


def _trim(tx: Tx, now_ms: int) -> None:
    grant_rows.forget_old(tx, now_ms)
    session_rows.forget_old(tx, now_ms)
    audit_rows.trim(tx, now_ms)
