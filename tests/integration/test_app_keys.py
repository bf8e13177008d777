"""Apps whose grant is bound to a key: what they were given is worth nothing to who copies it."""

from __future__ import annotations

import itertools
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nacl.signing import SigningKey

from hybridgw_protocol.proofs import proof_text
from tests.integration._access import EXTENSION, approve, page
from tests.integration._local_api import Answer, Api, running

KEY, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(32))


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        await made.call("PUT", "/api/data/tasks/milk", {"title": "Buy milk"})
        yield made


class App:
    """An extension with a key."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._nonces = itertools.count()
        self.asked: Any = None

    def proof(self, purpose: str, token: str, *, key: SigningKey = KEY, port: int | None = None) -> str:
        nonce, at_ms = f"nonce-{next(self._nonces):012d}", self.api.clock()
        text = proof_text(port=port or self.api.port, purpose=purpose, token=token, at_ms=at_ms, nonce=nonce)
        return f"{at_ms}.{nonce}.{b64(key.sign(text).signature)}"

    async def ask(self) -> None:
        body = {"name": "Tasks", "scopes": ["read:tasks"], "key": b64(bytes(KEY.verify_key))}
        got = await page(self.api, "POST", "/api/auth/grants", body, origin=EXTENSION)
        assert got.status == 202, got.raw
        self.asked = got.body
        assert (await approve(self.api, self.asked)).body["has_key"]

    async def login(self, **more: Any) -> Answer:
        shown = {"grant": self.asked["id"], "secret": self.asked["secret"], **more}
        body = {"deployment_mode": "browser_extension", "credentials": shown}
        return await page(self.api, "POST", "/api/auth/login", body, origin=EXTENSION)

    async def let_in(self) -> Any:
        await self.ask()
        got = await self.login(proof=self.proof("login", self.asked["secret"]))
        assert got.status == 200, got.raw
        return got.body

    async def read(self, token: str, proof: str | None) -> int:
        more = {} if proof is None else {"X_HybridGW_Proof": proof}
        got = await page(self.api, "GET", "/api/data/tasks/milk", origin=EXTENSION, token=token, **more)
        return got.status


@pytest.mark.spec("A6")
async def test_spec_A6_a_token_counts_only_with_a_fresh_proof_of_its_key(api: Api) -> None:
    app = App(api)
    await app.ask()
    secret = app.asked["secret"]
    for proof in (None, app.proof("login", secret, key=OTHER), app.proof("ws", secret), app.proof("login", "x")):
        refused = await app.login(**({} if proof is None else {"proof": proof}))
        assert (refused.status, refused.code) == (401, "invalid_credentials")
    tokens = (await app.login(proof=app.proof("login", secret))).body
    token, path = tokens["access_token"], "GET /api/data/tasks/milk"
    proof = app.proof(path, token)
    assert await app.read(token, proof) == 200
    assert await app.read(token, proof) == 401  # shown once
    for bad in (
        None, app.proof("GET /api/data/tasks", token), app.proof(path, token, key=OTHER), app.proof("ws", token),
        app.proof(path, token, port=api.port + 1), app.proof(path, tokens["refresh_token"]),
    ):  # fmt: skip
        assert await app.read(token, bad) == 401
    late = app.proof(path, token)
    api.clock.move(61)
    assert await app.read(token, late) == 401
    without = await api.call("GET", "/api/data/tasks/milk", token=token, Sec_Fetch_Site="none")
    assert without.status == 401


@pytest.mark.spec("A6")
async def test_spec_A6_a_copied_refresh_token_gives_nothing_and_ends_nothing(api: Api) -> None:
    app = App(api)
    tokens = await app.let_in()
    body = {"refresh_token": tokens["refresh_token"]}
    for proof in (None, app.proof("refresh", body["refresh_token"], key=OTHER)):
        shown = body if proof is None else body | {"proof": proof}
        assert (await page(api, "POST", "/api/auth/refresh", shown, origin=EXTENSION)).status == 401
    mine = body | {"proof": app.proof("refresh", body["refresh_token"])}
    fresh = await page(api, "POST", "/api/auth/refresh", mine, origin=EXTENSION)
    assert fresh.status == 200, fresh.raw
    token = fresh.body["access_token"]
    assert await app.read(token, app.proof("GET /api/data/tasks/milk", token)) == 200


@pytest.mark.spec("A6")
async def test_spec_A6_a_websocket_needs_it_at_every_connection(api: Api) -> None:
    app = App(api)
    token = (await app.let_in())["access_token"]
    used = app.proof("ws", token)
    for proof, kind in ((None, "auth_error"), (app.proof("ws", token, key=OTHER), "auth_error"), (used, "auth_ok"),
                        (used, "auth_error"), ("x", "auth_error"), (app.proof("ws", token), "auth_ok")):  # fmt: skip
        url = f"ws://127.0.0.1:{api.port}/ws/browser_extension/x"
        async with api.session.ws_connect(url, headers={"Origin": EXTENSION}) as socket:
            await socket.send_str(
                json.dumps({"type": "auth", "token": token} | ({} if proof is None else {"proof": proof}))
            )
            assert (await socket.receive_json())["type"] == kind
            if kind == "auth_ok":
                renewed = {"type": "auth", "token": token, "renew": True}
                await socket.send_str(json.dumps(renewed | {"proof": app.proof("ws", token)}))
                assert (await socket.receive_json())["type"] == "auth_ok"
                await socket.send_str(json.dumps(renewed))
                assert (await socket.receive_json())["type"] == "auth_error"  # for another token too
    bearer = {"Origin": EXTENSION, "Authorization": f"Bearer {token}"}
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await api.session.ws_connect(f"ws://127.0.0.1:{api.port}/ws/browser_extension/x", headers=bearer)


async def test_spec_A6_the_key_outlives_a_restart(tmp_path: Path) -> None:
    from hybridgw_daemon.services.grants import load
    from hybridgw_storage.database import SqliteDatabase

    async with running(tmp_path) as api:
        await App(api).let_in()
    database = SqliteDatabase(tmp_path / "a.db")
    (held,) = await database.read(load)
    await database.close()
    assert held.key == bytes(KEY.verify_key)


async def test_spec_A6_a_key_that_is_none_is_refused(api: Api) -> None:
    for key in ("", "x", b64(bytes(32)), 7, "A" * 65):
        body = {"name": "Tasks", "scopes": ["read:tasks"], "key": key}
        got = await page(api, "POST", "/api/auth/grants", body, origin=EXTENSION)
        assert got.status == 422, got.raw
    assert (await api.call("GET", "/api/auth/grants")).body["items"] == []
