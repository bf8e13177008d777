"""Refresh tokens: who alone holds one is never signed out, however many answers get lost; two holders are noticed."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.core.tokens import TokenKey
from hybridgw_daemon.services.access import Access, AccessSettings, open_access
from hybridgw_daemon.services.ports import OWNER, Principal
from hybridgw_daemon.stores import audit
from hybridgw_protocol.errors import HybridGWError, InvalidCredentials, NotFound
from hybridgw_protocol.localapi_access import (
    ApproveGrant,
    AskGrant,
    Credentials,
    GetGrant,
    ListGrants,
    Login,
    Refresh,
    RevokeGrant,
    Tokens,
)
from hybridgw_storage.database import InlineDatabase
from tests.unit.daemon._services import NOW_MS, new_database

PAGE = "https://tasks.example.com"
ASKER = Principal("nobody", is_owner=False, origin=PAGE)


class Flat:
    """Identity of apps over a real file, with a clock that stands still and entropy that counts."""

    def __init__(self, folder: Path) -> None:
        new_database(folder / "a.db")
        self.database = InlineDatabase(folder / "a.db", durable=False)
        self.now_ms = NOW_MS
        self.ended: list[str] = []
        self._count = itertools.count(1)
        self.access = self.open()

    def open(self, secret: bytes | None = b"k" * 32) -> Access:
        """As after a restart of the daemon."""
        self.access = asyncio.run(
            open_access(
                self.database, AccessSettings("HS256", 86_400, secret), clock=lambda: self.now_ms, entropy=self.entropy,
                revoked=self.ended.append, changed=lambda: None,
            )
        )  # fmt: skip
        return self.access

    def entropy(self, size: int) -> bytes:
        """Never the same twice."""
        return next(self._count).to_bytes(size, "big")

    def let_in(self, lasts: Any = "until_revoked") -> Tokens:
        """An app with its first tokens."""

        async def walk() -> Tokens:
            asked = await self.access.grants.ask(ASKER, AskGrant(name="Tasks", scopes=["read:tasks"]))
            await self.access.grants.approve(OWNER, ApproveGrant(id=asked.id, code=asked.code, lasts=lasts))
            shown = Credentials(grant=asked.id, secret=asked.secret)
            return await self.access.sessions.login(ASKER, Login(deployment_mode="web_app", credentials=shown))

        return asyncio.run(walk())

    def refresh(self, token: Any) -> Tokens:
        """New tokens. Raises: InvalidCredentials."""
        return asyncio.run(self.access.sessions.refresh(ASKER, Refresh(refresh_token=token)))

    def works(self, tokens: Tokens) -> bool:
        """Does the access token count now."""
        return self.access.credentials.holder(tokens.access_token, PAGE) is not None

    def tend(self) -> None:
        """The upkeep that runs now and then."""
        asyncio.run(self.access.tend(trim=True))

    def events(self) -> list[str]:
        """Of the audit log, oldest first."""
        found = self.database.peek(lambda c: audit.page(c, before=None, event=None, limit=1000))
        return [row.event for row in reversed(found)]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ms += round(seconds * 1000)


@pytest.fixture
def flat(tmp_path: Path) -> Flat:
    return Flat(tmp_path)


def test_a_refresh_token_is_used_up_by_one_refresh(flat: Flat) -> None:
    first = flat.let_in()
    second = flat.refresh(first.refresh_token)
    assert flat.works(second)
    flat.wait(11)
    with pytest.raises(InvalidCredentials):
        flat.refresh(first.refresh_token)
    assert not flat.works(second)
    assert flat.ended
    assert "refresh.reused" in flat.events()


def test_a_lost_answer_does_no_harm(flat: Flat) -> None:
    first = flat.let_in()
    for _ in range(5):
        flat.refresh(first.refresh_token)  # the answer never arrives
        flat.wait(3_600)
    kept = flat.refresh(first.refresh_token)
    assert flat.works(kept)
    flat.wait(11)
    assert flat.works(flat.refresh(kept.refresh_token))


def test_the_same_answer_for_two_tabs(flat: Flat) -> None:
    first = flat.let_in()
    one, two = flat.refresh(first.refresh_token), flat.refresh(first.refresh_token)
    assert one == two
    assert flat.works(one)
    assert flat.refresh(first.refresh_token) == one  # still: the other tab may come late
    flat.wait(11)
    with pytest.raises(InvalidCredentials):
        flat.refresh(first.refresh_token)


def test_the_first_use_of_a_child_settles_it(flat: Flat) -> None:
    first = flat.let_in()
    one = flat.refresh(first.refresh_token)
    flat.wait(11)
    two = flat.refresh(first.refresh_token)
    assert one.refresh_token != two.refresh_token
    assert flat.works(two)
    flat.tend()
    assert not flat.works(one)  # its sibling is in use
    with pytest.raises(InvalidCredentials):
        flat.refresh(one.refresh_token)
    assert not flat.works(two)


def test_a_first_use_counts_before_it_is_written_down(flat: Flat) -> None:
    first = flat.let_in()
    one = flat.refresh(first.refresh_token)
    assert flat.works(one)
    flat.wait(11)
    with pytest.raises(InvalidCredentials):
        flat.refresh(first.refresh_token)
    assert flat.ended


def test_a_first_use_outlives_a_restart(flat: Flat) -> None:
    first = flat.let_in()
    one = flat.refresh(first.refresh_token)
    assert flat.works(one)
    asyncio.run(flat.access.close())
    flat.open()
    assert flat.works(one)
    with pytest.raises(InvalidCredentials):
        flat.refresh(first.refresh_token)
    assert not flat.works(one)


def test_unused_for_ninety_days_it_ends(flat: Flat) -> None:
    first = flat.let_in()
    flat.wait(89 * 86_400)
    second = flat.refresh(first.refresh_token)
    flat.wait(91 * 86_400)
    flat.tend()
    with pytest.raises(InvalidCredentials):
        flat.refresh(second.refresh_token)
    assert "refresh.reused" not in flat.events()


@pytest.mark.parametrize("token", ["x", "hgr_", "hgr_" + "A" * 43, "\ud800", "hgw_AAAAAAAA_x"])
def test_a_token_that_nobody_was_given(flat: Flat, token: str) -> None:
    first = flat.let_in()
    with pytest.raises(InvalidCredentials):
        flat.refresh(token)
    assert flat.works(first)


def test_a_second_login_ends_the_tokens_of_the_first(flat: Flat) -> None:
    async def walk() -> tuple[Tokens, Tokens]:
        asked = await flat.access.grants.ask(ASKER, AskGrant(name="Tasks", scopes=["read:tasks"]))
        await flat.access.grants.approve(OWNER, ApproveGrant(id=asked.id, code=asked.code))
        command = Login(deployment_mode="web_app", credentials=Credentials(grant=asked.id, secret=asked.secret))
        return await flat.access.sessions.login(ASKER, command), await flat.access.sessions.login(ASKER, command)

    first, second = asyncio.run(walk())
    with pytest.raises(InvalidCredentials):
        flat.refresh(first.refresh_token)
    assert flat.works(flat.refresh(second.refresh_token))


def test_tokens_of_the_run_stay_good_when_the_profiles_key_opens(flat: Flat) -> None:
    flat.open(secret=None)
    first = flat.let_in()
    flat.access.unlocked(RestSealer(bytes(32)))
    second = flat.refresh(first.refresh_token)
    assert flat.works(first)
    assert flat.works(second)
    flat.open(secret=None)
    assert not flat.works(second)  # still locked after the restart
    flat.access.unlocked(RestSealer(bytes(32)))
    assert flat.works(second)
    assert not flat.works(first)
    issuer = flat.access.credentials.issuer
    secret = RestSealer(bytes(32)).token_secret()
    assert TokenKey("HS256", secret).verify(second.access_token, issuer=issuer, now_s=flat.now_ms / 1000)


def test_a_configured_secret_stays_when_the_profiles_key_opens(flat: Flat) -> None:
    first = flat.let_in()
    key = flat.access.credentials.key
    flat.access.unlocked(RestSealer(bytes(32)))
    assert flat.access.credentials.key is key
    assert flat.works(first)


def test_what_is_written_down_now_and_then(flat: Flat) -> None:
    flat.let_in()
    tokens = flat.let_in()
    assert flat.works(tokens)
    flat.tend()
    flat.open()
    found = asyncio.run(flat.access.grants.list(OWNER, ListGrants())).items
    assert sorted(grant.last_used_ms or 0 for grant in found) == [0, flat.now_ms]


def test_a_grant_is_revoked_once(flat: Flat) -> None:
    flat.let_in()
    found = asyncio.run(flat.access.grants.list(OWNER, ListGrants())).items[0]
    asyncio.run(flat.access.grants.revoke(OWNER, RevokeGrant(id=found.id)))
    assert flat.ended == [f"grant:{found.id}"]
    with pytest.raises(NotFound):
        asyncio.run(flat.access.grants.revoke(OWNER, RevokeGrant(id=found.id)))
    assert asyncio.run(flat.access.grants.get(OWNER, GetGrant(id=found.id))).state == "ended"


# ---- lives of tokens -------------------------------------------------------------------------------------------------
class Holder:
    """Somebody with a copy of a line of tokens, who always goes on with the latest answer that arrived."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.is_out = False

    def act(self, flat: Flat, what: str) -> None:
        """use: the access token; refresh: and the answer arrives; lost: it does not; wait: some time passes."""
        if what == "use":
            flat.works(self.tokens)
        elif what == "wait":
            flat.wait(11)
        elif what == "tend":
            flat.tend()
        elif what == "restart":
            asyncio.run(flat.access.close())
            flat.open()
        else:
            try:
                answer = flat.refresh(self.tokens.refresh_token)
            except HybridGWError:
                self.is_out = True
                return
            if what == "refresh":
                self.tokens = answer


ACTS = st.sampled_from(["use", "use", "refresh", "refresh", "lost", "wait", "tend", "restart"])


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTS, max_size=30))
def test_who_alone_holds_a_line_is_never_signed_out(acts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        flat = Flat(Path(folder))
        holder = Holder(flat.let_in())
        for act in acts:
            holder.act(flat, act)
            assert not holder.is_out, acts
        assert flat.works(flat.refresh(holder.tokens.refresh_token))
        assert not flat.ended


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), ACTS), max_size=20))
def test_two_holders_of_a_line_do_not_both_go_on(acts: list[tuple[bool, str]]) -> None:
    """However they began: once each has refreshed and used what it got, twice in turn, the grant has ended."""
    with tempfile.TemporaryDirectory() as folder:
        flat = Flat(Path(folder))
        tokens = flat.let_in()
        app, thief = Holder(tokens), Holder(tokens)
        for is_thief, act in acts:
            (thief if is_thief else app).act(flat, act)
        for holder in (app, thief, app, thief):
            flat.wait(11)
            for act in ("refresh", "use"):
                holder.act(flat, act)
        assert app.is_out or thief.is_out, acts
        assert len(flat.ended) == 1
        assert not flat.works(app.tokens)
        assert not flat.works(thief.tokens)
