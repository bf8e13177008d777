"""Identity of apps in a daemon of its own: what outlives its end, and where no secret may be found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol.runtime import Endpoint
from tests.integration._local_api import daemon
from tests.integration.test_local_api_process import STORE, call, fails, put, until_unlocked

SECRET = "planted-secret-of-tokens-" + "s" * 20


def let_in(endpoint: Endpoint, name: str = "Tasks") -> Any:
    """A program that was let in: its tokens, and the id of its grant."""
    asked = call(endpoint, "POST", "/api/auth/grants", {"name": name, "scopes": ["read:notes"]}, token="none")[1]
    body = {"code": asked["code"], "lasts": "until_revoked"}
    assert call(endpoint, "POST", f"/api/auth/grants/{asked['id']}/approve", body)[0] == 200
    shown = {"grant": asked["id"], "secret": asked["secret"]}
    login = {"deployment_mode": "local_install", "credentials": shown}
    status, tokens = call(endpoint, "POST", "/api/auth/login", login, token="none")
    assert status == 200
    return tokens | {"id": asked["id"], "secret": asked["secret"]}


def status_of(endpoint: Endpoint, token: str) -> int:
    return call(endpoint, "GET", "/api/data/notes/x", token=token)[0]


@pytest.mark.spec("A4")
def test_spec_A4_tokens_outlive_a_restart_and_what_was_revoked_stays_so_after_a_kill(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        put(endpoint, "x", {"a": 1})
        kept, gone = let_in(endpoint, "Kept"), let_in(endpoint, "Gone")
        key = call(endpoint, "POST", "/api/auth/keys", {"scopes": ["read:notes"]})[1]
        assert [status_of(endpoint, t) for t in (kept["access_token"], gone["access_token"], key["key"])] == [200] * 3
        assert call(endpoint, "DELETE", f"/api/auth/grants/{gone['id']}")[0] == 200
        process.kill()
    with daemon(tmp_path / "home", *STORE) as process:
        endpoint = process.ready()
        until_unlocked(endpoint)
        assert [status_of(endpoint, t) for t in (kept["access_token"], gone["access_token"], key["key"])] == [
            200, 401, 200
        ]  # fmt: skip
        again = call(endpoint, "POST", "/api/auth/refresh", {"refresh_token": gone["refresh_token"]}, token="none")
        assert (again[0], again[1]["code"]) == (401, "invalid_credentials")
        new = call(endpoint, "POST", "/api/auth/refresh", {"refresh_token": kept["refresh_token"]}, token="none")
        assert new[0] == 200
        assert status_of(endpoint, new[1]["access_token"]) == 200
        process.stop()


def test_apps_work_beside_a_locked_keyring(tmp_path: Path) -> None:
    """No key of the profile: tokens are signed for this run, local data is served, a refresh carries an app over."""
    locked = ("--secret-store", "passphrase")
    with daemon(tmp_path / "home", *locked) as process:
        endpoint = process.ready()
        put(endpoint, "x", {"a": 1})
        tokens = let_in(endpoint)
        assert status_of(endpoint, tokens["access_token"]) == 200
        process.stop()
    with daemon(tmp_path / "home", *locked) as process:
        endpoint = process.ready()
        assert status_of(endpoint, tokens["access_token"]) == 401
        new = call(endpoint, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]}, token="none")
        assert status_of(endpoint, new[1]["access_token"]) == 200
        process.stop()


def test_sec_L33_no_credential_is_in_any_file_log_or_configuration(tmp_path: Path) -> None:
    env = {"HYBRIDGW_JWT_SECRET_KEY": SECRET, "HYBRIDGW_LOG_LEVEL": "DEBUG", "HYBRIDGW_JWT_ALGORITHM": "HS512"}
    with daemon(tmp_path / "home", *STORE, env=env) as process:
        endpoint = process.ready()
        put(endpoint, "x", {"a": 1})
        tokens = let_in(endpoint)
        key = call(endpoint, "POST", "/api/auth/keys", {"scopes": ["read:notes"]})[1]["key"]
        other = call(endpoint, "POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]}, token="none")[1]
        for token in (tokens["access_token"], key, other["access_token"], key + "x", other["access_token"] + "x"):
            status_of(endpoint, token)
        call(endpoint, "GET", f"/api/data/notes/x?access_token={key}", token="none")
        bad = {"deployment_mode": "local_install", "credentials": {"api_key": key + "x", "secret": key}}
        call(endpoint, "POST", "/api/auth/login", bad, token="none")
        said = json.dumps(call(endpoint, "GET", "/api/config")[1]) + json.dumps(
            call(endpoint, "GET", "/api/auth/audit")[1]
        )
        assert '"***"' in said
        code, out, err = process.stop()
    assert code == 0
    secrets = [SECRET, key[13:], tokens["secret"]]
    for found in (tokens, other):
        secrets += [found["refresh_token"], found["access_token"].rpartition(".")[2]]
    files = {f: f.read_bytes() for f in (tmp_path / "home").rglob("*") if f.is_file()}
    assert len(files) >= 4
    for secret in secrets:
        assert secret not in said + out + err
        assert not [f for f, content in files.items() if secret.encode() in content]


@pytest.mark.parametrize("name", ["SUPABASE_ANON_KEY", "HYBRIDGW_SUPABASE_SERVICE_KEY"])
def test_spec_O6_it_refuses_to_start_with_a_secret_that_others_have(tmp_path: Path, name: str) -> None:
    err = fails(tmp_path, 2, "JWT_SECRET_KEY", "Supabase", env={"HYBRIDGW_JWT_SECRET_KEY": SECRET, name: SECRET})
    assert SECRET not in err
    short = fails(tmp_path, 2, "JWT_SECRET_KEY", "32 bytes", env={"HYBRIDGW_JWT_SECRET_KEY": "planted-short"})
    assert "planted" not in short
