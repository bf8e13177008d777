"""The local API in types: apps that ask to be let in, their credentials, and the audit log. As localapi.py.

Rules: docs/adr/0014-local-tokens-and-grants.md. Times are Unix milliseconds, lifetimes seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from .localapi import Command, DeploymentMode, Limit, Result, Text
from .proofs import MAX_PROOF

MAX_WAIT_S: Final = 25.0  # of a long poll; below every idle limit on the way

Lasts = Literal["session", "30d", "until_revoked"]
GrantState = Literal["pending", "approved", "refused", "expired", "ended"]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Credential = Annotated[str, Meta(min_length=1, max_length=8192)]
Proof = Annotated[str, Meta(min_length=1, max_length=MAX_PROOF)]


# ---- apps -----------------------------------------------------------------------------------------------------------
class Grant(Result):
    """An app, or its request while it is pending.

    kind: `web`, `extension` or `program`; origin: exact, null for a program; name: what the app calls itself, made
    harmless; scopes, sentence: what it may do, for programs and for people; code: while it is pending; tries_left: of
    the code; lasts: what the person chose; reason: why it ended; has_key: its tokens count only with a proof
    of its key.
    """

    id: str
    state: GrantState
    kind: Literal["web", "extension", "program"]
    origin: str | None
    name: str
    scopes: list[str]
    sentence: str
    asked_ms: int
    code: str | None = None
    tries_left: int | None = None
    lasts: Lasts | None = None
    approved_ms: int | None = None
    expires_ms: int | None = None
    last_used_ms: int | None = None
    ended_ms: int | None = None
    reason: str | None = None
    has_key: bool = False


class GrantList(Result):
    """Pending ones first, then by the time they were approved, latest first."""

    items: list[Grant]
    next_cursor: str | None = None


class AskGrant(Command):
    """An app asks to be let in. Who asks is the Origin of the request, never what stands in it.

    key: Ed25519 public key in base64url: what it is given counts only with a proof of it, see proofs.py.
    """

    name: Text
    scopes: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(min_length=1, max_length=64)]
    key: Annotated[str, Meta(max_length=64)] | None = None


class GrantAsked(Result):
    """code: show it to the person, who compares it; secret: proves later that it was you who asked; poll with it."""

    id: str
    code: str
    secret: str
    expires_ms: int
    sentence: str


class ListGrants(Command):
    """The apps, and what waits for approval. all: ended ones too."""

    all: bool = False


class GetGrant(Command):
    """One app. wait_s: answer when a pending one is decided, or after so long; secret: of the asker."""

    id: Id
    wait_s: Annotated[float, Meta(ge=0, le=MAX_WAIT_S)] = 0.0
    secret: Credential | None = None


class ApproveGrant(Command):
    """A person has compared the code. scopes: fewer than asked for, if the person wants so."""

    id: Id
    code: Annotated[str, Meta(min_length=1, max_length=32)]
    lasts: Lasts = "30d"
    scopes: list[str] | None = None


class RefuseGrant(Command):
    """A person does not want it; the app may not ask again for a day."""

    id: Id


class RevokeGrant(Command):
    """End an app's rights: its tokens stop counting and its connections close at once."""

    id: Id


# ---- sessions -------------------------------------------------------------------------------------------------------
class Credentials(Command):
    """One of: api_key; grant and secret, of a request that was approved, with a proof if it named a key;
    supabase_token, in a later version."""

    api_key: Credential | None = None
    grant: Id | None = None
    secret: Credential | None = None
    proof: Proof | None = None
    supabase_token: Credential | None = None
    supabase_refresh_token: Credential | None = None


class Login(Command):
    """Get a token. The rights are those of the key or grant; nothing that is declared here adds any."""

    deployment_mode: DeploymentMode
    credentials: Credentials


class Tokens(Result):
    """access_token: for `Authorization: Bearer`; refresh_token: gives new ones, once each; null for API keys."""

    access_token: str
    expires_in: int
    expires_at: int
    scopes: list[str]
    identity: str
    deployment_mode: DeploymentMode | None = None
    refresh_token: str | None = None
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a name


class Refresh(Command):
    """New tokens for a refresh token, which is used up by it. proof: of the app's key, if it named one."""

    refresh_token: Credential
    proof: Proof | None = None


class Logout(Command):
    """client: the credential of this call; all_clients: every token of every app, for the owner and `admin`."""

    scope: Literal["client", "all_clients"] = "client"


class LoggedOut(Result):
    """How many credentials lost their tokens."""

    ended: int


class Validate(Command):
    """Is my credential good, and for what."""


class Validity(Result):
    """source: `owner` (endpoint file), `local` (a token of the daemon) or `api_key`; exp: seconds, null: no end."""

    valid: bool
    sub: str
    cid: str
    scope: str
    sentence: str
    source: Literal["owner", "local", "api_key"]
    exp: int | None = None
    acct: str | None = None
    origin: str | None = None
    verified: Literal["signature", "introspected"] = "introspected"


class GetAuthStatus(Command):
    """Who this daemon belongs to, and how identity is set up."""


class AuthStatus(Result):
    """identity: the local principal; account: none in this version; pending, grants, keys: for the owner, else null."""

    identity: str
    account: str | None
    supabase: Literal["not_configured"]
    algorithm: str
    pending: int | None = None
    grants: int | None = None
    keys: int | None = None


# ---- the dashboard --------------------------------------------------------------------------------------------------
class CreateDashboardLink(Command):
    """A link that opens the dashboard once, for the person in front of this machine."""


class DashboardLink(Result):
    """path: behind the daemon's address; what opens it stands in the fragment, which no browser sends to a server."""

    path: str
    expires_ms: int


class OpenDashboard(Command):
    """Exchange what the link held. code: the fragment's, good once."""

    code: Credential


class DashboardSession(Result):
    """token: for `Authorization: Bearer`, of the owner, from the daemon's own pages only."""

    token: str
    expires_ms: int


# ---- API keys -------------------------------------------------------------------------------------------------------
class ApiKey(Result):
    """A key for a script. The key itself is shown once and not kept. last_used_ms: to the minute."""

    id: str
    note: str
    scopes: list[str]
    sentence: str
    origins: list[str]
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None


class ApiKeyList(Result):
    """Latest first."""

    items: list[ApiKey]
    next_cursor: str | None = None


class NewApiKey(ApiKey, kw_only=True):
    """key: shown this once."""

    key: str


class ListApiKeys(Command):
    """All keys that were not revoked."""


class CreateApiKey(Command):
    """expires_days: null is never; origins: web pages that may use it, none: programs only."""

    scopes: list[str]
    note: Annotated[str, Meta(max_length=200)] = ""
    expires_days: Annotated[float, Meta(gt=0, le=3650)] | None = 90
    origins: Annotated[list[str], Meta(max_length=16)] = []  # noqa: RUF012 - copied for each


class RotateApiKey(Command):
    """Another secret for a key; the old one stops counting at once."""

    id: Id


class RevokeApiKey(Command):
    """The key and every token made with it stop counting at once."""

    id: Id


# ---- audit ----------------------------------------------------------------------------------------------------------
class AuditEntry(Result):
    """Something that concerns who may do what. message: for a person; count: how often within a minute or so."""

    id: int
    at_ms: int
    event: str
    message: str
    principal: str | None = None
    origin: str | None = None
    detail: dict[str, Any] = {}  # noqa: RUF012 - copied for each
    count: int = 1


class AuditPage(Result):
    """Latest first."""

    items: list[AuditEntry]
    next_cursor: str | None = None


class ListAudit(Command):
    """event: only of this kind, like `grant.approved`, or all of `grant`."""

    limit: Limit = 100
    cursor: str | None = None
    event: Annotated[str, Meta(max_length=64)] | None = None


class NoteExport(Command):
    """A program of the owner has written a collection to a file or stdout."""

    collection: Text
    documents: Annotated[int, Meta(ge=0)]
    format: Annotated[str, Meta(max_length=20)]


class Noted(Result):
    """It stands in the audit log."""
