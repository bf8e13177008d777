"""apps, keys, audit: as a person types them, against a real daemon."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol.native import CHROME_IDS
from tests.integration._cli import Cli, InProcess, profile

PAGE = "https://tasks.example.com"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with profile(tmp_path_factory.mktemp("access") / "home", InProcess) as made:
        made.up()
        made("data", "put", "tasks", "milk", "title=Buy milk")
        yield made


def call(cli: Cli, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """As another program or a page."""
    url = json.loads((cli.home / "endpoint.json").read_bytes())["url"]
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        sent["Content-Type"] = "application/json"
    request = urllib.request.Request(f"{url}{path}", data, sent, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ask(cli: Cli, origin: str | None = PAGE, name: str = "Shopping") -> Any:
    headers = {"Origin": origin, "X_HybridGW_Client": "x"} if origin else {}
    status, asked = call(
        cli, "POST", "/api/auth/grants", {"name": name, "scopes": ["read:tasks", "write:tasks"]}, **headers
    )
    assert status == 202, asked
    return asked


def login(cli: Cli, asked: Any, **headers: str) -> tuple[int, Any]:
    credentials = {"grant": asked["id"], "secret": asked["secret"]}
    return call(cli, "POST", "/api/auth/login", {"deployment_mode": "web_app", "credentials": credentials}, **headers)


@pytest.mark.spec("A6")
def test_spec_A6_an_app_is_listed_let_in_shown_and_thrown_out(cli: Cli) -> None:
    assert "No apps." in cli("apps").talk
    none = cli("apps", "approve", code=4)
    assert "No app waits" in none.talk
    assert cli("apps", "approve", "123456", code=1).talk
    asked = ask(cli)
    listed = cli("apps")
    assert f"{PAGE} (calls itself 'Shopping') wants to read and write tasks" in listed.out
    assert asked["code"] in listed.out
    assert "apps approve CODE" in listed.talk
    without = cli("apps", "approve", code=4)
    assert asked["code"] in without.out
    assert "6 digits" in cli("apps", "approve", "12345", code=2).talk  # no guess: the daemon is not asked
    wrong = cli("apps", "approve", "000000" if asked["code"] != "000 000" else "000001", code=4)
    assert "Compare" in wrong.talk
    waiting = cli("apps", "list", "--json").json["items"]
    assert [(item["state"], item["tries_left"]) for item in waiting] == [("pending", 4)]

    ran = cli("apps", "approve", *asked["code"].split(), "--for", "session")
    assert ran.out == f"{PAGE} may read and write tasks: this session.\n"
    status, tokens = login(cli, asked, Origin=PAGE, X_HybridGW_Client="x")
    assert status == 200
    bearer = {"Authorization": f"Bearer {tokens['access_token']}", "Origin": PAGE, "X_HybridGW_Client": "x"}
    assert call(cli, "GET", "/api/data/tasks/milk", **bearer)[0] == 200

    assert "read and write tasks" in cli("apps", "show", "tasks.example.com").out
    assert PAGE in cli("apps").out
    assert cli("apps", "revoke", PAGE).out == f"{PAGE} has no rights any more.\n"
    assert call(cli, "GET", "/api/data/tasks/milk", **bearer)[0] == 403
    assert cli("apps", "revoke", PAGE, code=1).talk
    assert cli("apps", "--all", "--json").json["items"][0]["reason"] == "revoked"
    assert "revoked" in cli("apps", "show", PAGE).out


def test_our_own_extension_is_called_so(cli: Cli) -> None:
    assert "none was ever let in" in cli("extension", "doctor", code=None).out
    ours = f"chrome-extension://{CHROME_IDS[0]}"
    asked = ask(cli, ours)
    assert "one waits to be let in" in cli("extension", "doctor", code=None).out
    assert cli("apps", "approve", asked["code"]).out.startswith(f"The extension of HybridGW ({ours}) may ")
    assert "extension of HybridGW" in cli("apps").out
    assert f"let in as {ours}, last used never" in cli("extension", "doctor", code=None).out
    cli("apps", "revoke", ours)


def test_an_app_is_refused_and_says_so(cli: Cli) -> None:
    origin = "https://second.example"
    asked = ask(cli, origin)
    assert "No app that waits" in cli("apps", "refuse", "000000" if asked["code"] != "000 000" else "1", code=4).talk
    assert "may not ask again" in cli("apps", "refuse", asked["code"]).out
    body = {"name": "x", "scopes": ["read:tasks"]}
    status, problem = call(cli, "POST", "/api/auth/grants", body, Origin=origin, X_HybridGW_Client="x")
    assert (status, problem["code"]) == (403, "refused")
    assert cli("apps", "refuse", code=2).talk


def test_of_several_that_wait_the_code_names_one(cli: Cli) -> None:
    first, second = ask(cli, None, "One"), ask(cli, None, "Two")
    taken = {first["code"], second["code"]}
    wrong = next(code for code in ("000 000", "000 001", "000 002") if code not in taken)
    assert "No app that waits" in cli("apps", "approve", wrong, code=4).talk
    approved = cli("apps", "approve", second["code"], "--scope", "read:tasks", "--for", "until-revoked", "--json").json
    assert (approved["name"], approved["scopes"], approved["expires_ms"]) == ("Two", ["read:tasks"], None)
    cli("apps", "refuse", first["code"])
    assert cli("apps", "revoke", "Two").out == "The program 'Two' has no rights any more.\n"


def test_names_cannot_steer_the_terminal(cli: Cli) -> None:
    asked = ask(cli, None, "a\x1b[2Jb\u202e\x07")
    shown = cli("apps").out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    cli("apps", "refuse", asked["code"])


@pytest.mark.spec("A5")
def test_spec_A5_keys_are_made_listed_changed_and_revoked(cli: Cli) -> None:
    assert "keys create" in cli("keys").talk
    made = cli("keys", "create", "--scope", "read:tasks", "--note", "report", "--expires", "7d")
    key = made.out.strip()
    assert key.startswith("hgw_")
    assert "This key may read tasks" in made.talk
    assert key not in made.talk
    assert call(cli, "GET", "/api/data/tasks/milk", Authorization=f"Bearer {key}")[0] == 200
    assert call(cli, "GET", "/api/paths", Authorization=f"Bearer {key}")[0] == 403
    listed = cli("keys", "list").out
    assert "report" in listed
    assert key[13:] not in listed
    found = cli("keys", "--json").json["items"][0]
    assert 6.9 < (found["expires_ms"] - found["created_ms"]) / 86_400_000 < 7.1
    other = cli("keys", "rotate", found["id"]).out.strip()
    assert other.split("_")[1] == found["id"]
    assert call(cli, "GET", "/api/data/tasks/milk", Authorization=f"Bearer {key}")[0] == 401
    assert call(cli, "GET", "/api/data/tasks/milk", Authorization=f"Bearer {other}")[0] == 200
    assert "is revoked" in cli("keys", "revoke", found["id"]).out
    status, told = call(cli, "GET", "/api/data/tasks/milk", Authorization=f"Bearer {other}")
    assert (status, "keys create" in told["detail"], "endpoint" in told["detail"]) == (401, True, False)
    told = cli("keys", "revoke", found["id"], code=1).talk
    assert f"{cli.home} keys" in told
    assert "data list" not in told
    assert "no collection taskz yet" in cli("keys", "create", "--scope", "read:taskz", "--scope", "read:tasks").talk
    forever = cli("keys", "create", "--scope", "admin", "--expires", "never", "--json").json
    assert forever["expires_ms"] is None
    cli("keys", "revoke", forever["id"])


@pytest.mark.parametrize(
    "words",
    [("create",), ("create", "--scope", "read:tasks", "--expires", "soon"), ("rotate",), ("revoke",),
     ("create", "--scope", "read:tasks", "--expires", "0"), ("create", "--scope", "read:tasks", "--expires", "nan")],
)  # fmt: skip
def test_usage_of_keys(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("keys", *words, code=2).talk


def test_scopes_that_are_none_are_named(cli: Cli) -> None:
    assert "read:COLLECTION" in cli("keys", "create", "--scope", "fly:tasks", code=1).talk


@pytest.mark.spec("A8")
def test_spec_A8_the_audit_log_is_read_and_exports_stand_in_it(cli: Cli, tmp_path: Path) -> None:
    for name, verb in (("Let in", "approve"), ("Kept out", "refuse")):
        cli("apps", verb, ask(cli, None, name)["code"])
    cli("apps", "revoke", "Let in")
    cli("keys", "revoke", cli("keys", "create", "--scope", "read:tasks", "--json").json["id"])
    cli("export", "tasks", "-o", str(tmp_path / "tasks.csv"))
    cli("export", "tasks")
    told = cli("audit").out
    assert "1 documents of tasks were exported as csv." in told
    assert "1 documents of tasks were exported as jsonl." in told
    events = {row["event"] for row in cli("audit", "--limit", "1000", "--json").json["items"]}
    assert {"grant.approved", "grant.refused", "grant.ended", "key.created", "key.revoked", "export"} <= events
    only = cli("audit", "--event", "key", "--json").json["items"]
    assert {row["event"].partition(".")[0] for row in only} == {"key"}
    assert f"There is more: hybridgw --home {cli.home} audit --limit 10" in cli("audit", "--limit", "1").talk


# ---- the dashboard ---------------------------------------------------------------------------------------------------
def test_the_dashboard_is_opened_by_a_link_that_works_once(cli: Cli, tmp_path: Path) -> None:
    url = json.loads((cli.home / "endpoint.json").read_bytes())["url"]
    shown = cli("dashboard", "--no-browser")
    assert shown.out.startswith(f"{url}/#link=")
    assert "works once" in shown.talk
    found = cli("dashboard", "--json").json
    code = found["url"].removeprefix(f"{url}/#link=")
    assert call(cli, "POST", "/api/auth/dashboard", {"code": code})[0] == 201
    status, over = call(cli, "POST", "/api/auth/dashboard", {"code": code})
    assert (status, over["code"]) == (410, "link_over")


def test_the_dashboard_comes_up_in_the_browser_of_the_person(cli: Cli, tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o700)
    shown = Cli(cli.home)("dashboard", BROWSER=f"{browser} %s")
    assert "Opening the dashboard" in shown.talk
    assert opened.read_text() == shown.out.strip()
    without = Cli(cli.home)("dashboard", BROWSER=str(tmp_path / "none"))
    assert "#link=" in without.out
