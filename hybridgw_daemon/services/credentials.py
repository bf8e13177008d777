"""Who holds what: every grant and key that counts now, in memory, so that a token is judged without the database.

The database is the truth; whoever changes it there tells this register in the same breath. A right that was taken away
is gone for the next call: nothing is cached beyond a change. What a holder may do comes from its grant or key, never
from the token it shows. Source: docs/adr/0014-local-tokens-and-grants.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple

from hybridgw_protocol.proofs import LIFE_MS, proven_nonce

from ..core import api_keys
from ..core.scopes import EVERYTHING, Scopes
from ..core.tokens import Claims, Invalid, TokenKey
from .ports import Principal

DASHBOARD_PREFIX: Final = "hgd_"  # of a token that a one-time link was exchanged for
MOST_DASHBOARDS: Final = 16  # sessions; beyond, the oldest ends
CACHED: Final = 1_024  # tokens that were judged; each some hundred bytes
MOST_PROOFS: Final = 10_000  # of one app, shown within the life of one; beyond, no further one of it counts
USE_GRAIN_MS: Final = 60_000  # of "last used"


class Holding(NamedTuple):
    """A grant or key that counts.

    kind: a `web` grant is good only with its Origin; an `extension` may leave the header out, as browsers do on its
    GETs; a `program` or `key` has none, or one of *origins*; digest: of a key's secret; version: of that
    secret; key: of an app that named one: nothing of it counts without a proof.
    """

    id: str
    kind: Literal["web", "extension", "program", "key"]
    scopes: Scopes
    origins: frozenset[str]
    expires_ms: int | None
    digest: bytes = b""
    version: int = 1
    key: bytes | None = None

    def fits(self, origin: str | None) -> bool:
        """May it be shown by who says to come from there."""
        return self.kind != "web" if origin is None else origin in self.origins

    def is_over(self, now_ms: int) -> bool:
        """Has it ended by itself."""
        return self.expires_ms is not None and self.expires_ms <= now_ms


class Credentials:
    """The register. Everything here is used on the event loop only."""

    def __init__(
        self,
        issuer: str,
        key: TokenKey,
        *,
        clock: Callable[[], int],
        ended: Callable[[str], None],
        version: int = 1,
        revoked: dict[str, int] | None = None,
        unused: Iterable[tuple[str, str]] = (),
        configured: frozenset[str] = frozenset(),
    ) -> None:
        """Args: ended: told the principal id of everybody whose rights ended; version, revoked, unused: of tokens, as
        the database has them; configured: origins that the operator has named."""
        self.issuer = issuer
        self.version = version
        self.used_ms: dict[str, int] = {}  # by principal id: uses that are not written down yet
        self.port = 0  # that we listen on: what proofs are for
        self._proofs: dict[str, dict[str, int]] = {}  # by principal, the nonces that it has shown: until when
        self.begun: list[tuple[str, str]] = []  # (jti, grant) of tokens used for the first time, not written down yet
        self._keys = [key]
        self._clock = clock
        self._ended = ended
        self._revoked = dict(revoked or {})
        self._unused = dict(unused)
        self._configured = configured
        self._holdings: dict[str, Holding] = {}
        self._origins = configured
        self._judged: dict[bytes, tuple[Claims, Holding]] = {}
        self._dashboards: dict[bytes, Principal] = {}  # the owner's pages, by digest of the token; oldest first

    # ---- what there is -----------------------------------------------------------------------------------------------
    def put(self, holding: Holding) -> None:
        """It counts from now on."""
        self._holdings[holding.id] = holding
        self._renew()

    def drop(self, *ids: str) -> None:
        """These count no more, and whoever is connected with them is told off."""
        for principal in ids:
            self._holdings.pop(principal, None)
            self.used_ms.pop(principal, None)
            self._proofs.pop(principal, None)
        self._renew()
        for principal in ids:
            self._ended(principal)

    def tell_ended(self, principal: str) -> None:
        """Its tokens ended, not its rights: whoever is connected has to come again."""
        self._ended(principal)

    def get(self, principal: str) -> Holding | None:
        """One that counts now."""
        found = self._holdings.get(principal)
        return None if found is None or found.is_over(self._clock()) else found

    def over(self) -> list[str]:
        """Those that have ended by themselves and are still in here."""
        now_ms = self._clock()
        return [holding.id for holding in self._holdings.values() if holding.is_over(now_ms)]

    def all_ids(self) -> list[str]:
        """Everybody."""
        return list(self._holdings)

    def admits(self, origin: str) -> bool:
        """May pages of this origin speak to us at all, given a credential."""
        return origin in self._origins

    def _renew(self) -> None:
        self._judged.clear()
        now_ms = self._clock()
        found = {o for holding in self._holdings.values() if not holding.is_over(now_ms) for o in holding.origins}
        self._origins = self._configured | found

    # ---- the owner's pages -------------------------------------------------------------------------------------------
    def put_dashboard(self, token: str, name: str, expires_ms: int) -> None:
        """A session of the owner in a browser, kept in memory only: it ends with the daemon, as the owner's token does.

        Args: name: tells the sessions apart, in the audit log and among the connections.
        """
        while len(self._dashboards) >= MOST_DASHBOARDS:
            self.drop_dashboard(next(iter(self._dashboards.values())).id)
        principal = Principal(f"dashboard:{name}", True, EVERYTHING, None, expires_ms)
        self._dashboards[_digest(token)] = principal

    def drop_dashboard(self, principal_id: str | None = None) -> int:
        """End a session, None: all of them. Returns how many ended."""
        found = {d: p for d, p in self._dashboards.items() if principal_id in (None, p.id)}
        for digest, principal in found.items():
            del self._dashboards[digest]
            self._ended(principal.id)
        return len(found)

    def _dashboard_holder(self, token: str, origin: str | None) -> Principal | None:
        """Looked up by a digest of 256 random bits: the time it takes tells nothing."""
        principal = self._dashboards.get(_digest(token))
        if principal is None or origin is not None:
            return None
        if principal.expires_ms is not None and principal.expires_ms <= self._clock():
            self.drop_dashboard(principal.id)
            return None
        return principal

    # ---- tokens ------------------------------------------------------------------------------------------------------
    @property
    def key(self) -> TokenKey:
        """What new tokens are signed with."""
        return self._keys[0]

    def sign_with(self, key: TokenKey) -> None:
        """From now on; tokens under the key before stay good until they end."""
        self._keys = [key, self._keys[0]]

    def issued(self, jti: str, grant: str) -> None:
        """A token that nobody has used yet; its first use ends what could still stand in for it."""
        self._unused[jti] = grant

    def revoke(self, jti: str, exp_ms: int) -> None:
        """This token ends before its time."""
        now_ms = self._clock()
        self._revoked = {j: e for j, e in self._revoked.items() if e > now_ms} | {jti: exp_ms}
        self._unused.pop(jti, None)
        self._judged.clear()

    def end_all_tokens(self, version: int) -> None:
        """No token of before counts."""
        self.version = version
        self._revoked.clear()
        self._unused.clear()
        self.begun.clear()
        self._judged.clear()

    def holder(self, token: str, origin: str | None, proof: str | None = None, purpose: str = "") -> Principal | None:
        """Who shows this; None: nobody we know, or not from there, or without a proof that it needs.

        Args: origin: exact, None without the header; purpose: what the proof has to be for.
        """
        if token.startswith(api_keys.PREFIX):
            return self._key_holder(token, origin)
        if token.startswith(DASHBOARD_PREFIX):
            return self._dashboard_holder(token, origin)
        found = self._judge(token)
        if found is None:
            return None
        claims, holding = found
        if not holding.fits(origin) or not self.is_proven(holding, token, proof, purpose):
            return None
        if claims.jti in self._unused:
            self.begun.append((claims.jti, self._unused.pop(claims.jti)))
        self._touch(holding.id)
        ends = claims.exp * 1000
        ends = ends if holding.expires_ms is None else min(ends, holding.expires_ms)
        return Principal(holding.id, False, holding.scopes, origin, ends, claims.jti)

    def is_proven(self, holding: Holding, token: str, proof: str | None, purpose: str) -> bool:
        """Does this proof show the key of the app, for this token and purpose, and for the first time."""
        if holding.key is None:
            return True
        now_ms = self._clock()
        nonce = proof and proven_nonce(proof, holding.key, port=self.port, purpose=purpose, token=token, now_ms=now_ms)
        shown = self._proofs.setdefault(holding.id, {})
        if not nonce or nonce in shown:
            return False
        if len(shown) >= MOST_PROOFS:  # each app has its own: who shows too many keeps nobody else out
            shown = self._proofs[holding.id] = {one: until for one, until in shown.items() if until > now_ms}
            if len(shown) >= MOST_PROOFS:
                return False
        shown[nonce] = now_ms + 2 * LIFE_MS
        return True

    def key_of(self, text: str, origin: str | None) -> Holding | None:
        """The key that this text is, if it may be shown from there."""
        read = api_keys.read(text)
        if read is None:
            return None
        holding = self.get(f"key:{read[0]}")
        expected = holding.digest if holding is not None else bytes(32)
        if not hmac.compare_digest(expected, read[1]) or holding is None or not holding.fits(origin):
            return None
        return holding

    def _key_holder(self, text: str, origin: str | None) -> Principal | None:
        holding = self.key_of(text, origin)
        if holding is None:
            return None
        self._touch(holding.id)
        return Principal(holding.id, False, holding.scopes, origin, holding.expires_ms)

    def _judge(self, token: str) -> tuple[Claims, Holding] | None:
        now_ms = self._clock()
        name = _digest(token)
        found = self._judged.get(name)
        if found is None:
            claims = self._verified(token, now_ms / 1000)
            holding = self._holdings.get(claims.cid) if claims else None
            if claims is None or holding is None or claims.hv != holding.version:
                return None
            if claims.kv != self.version or claims.jti in self._revoked:
                return None
            if len(self._judged) >= CACHED:
                self._judged.clear()
            found = self._judged[name] = claims, holding
        claims, holding = found
        return None if claims.exp * 1000 <= now_ms or holding.is_over(now_ms) else found

    def _verified(self, token: str, now_s: float) -> Claims | None:
        for key in self._keys:
            try:
                return key.verify(token, issuer=self.issuer, now_s=now_s)
            except Invalid as error:
                if error.reason != "signature":
                    return None
        return None

    def _touch(self, principal: str) -> None:
        now_ms = self._clock()
        if now_ms - self.used_ms.get(principal, 0) >= USE_GRAIN_MS:
            self.used_ms[principal] = now_ms


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
