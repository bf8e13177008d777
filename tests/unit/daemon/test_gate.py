"""The gate that every carrier asks: who may come in, and whose token counts from where."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services.ports import OWNER
from hybridgw_daemon.transports.local.auth import CLIENT_HEADER, Gate, Verdict
from hybridgw_protocol.localapi_access import Logout
from hybridgw_protocol.runtime import Secret
from tests.unit.daemon.test_sessions import PAGE, Flat

OWN = "http://127.0.0.1:8000"
WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade"}


@pytest.fixture
def flat(tmp_path: Path) -> Flat:
    return Flat(tmp_path)


def gate(flat: Flat) -> Gate:
    return Gate(Secret("owners-token"), 8000, flat.access.credentials)


def headers(**more: str) -> dict[str, str]:
    return {"Host": "127.0.0.1:8000"} | {name.replace("_", "-"): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("sent", "verdict"),
    [
        ({}, Verdict.ADMITTED), ({"Origin": PAGE, CLIENT_HEADER: "x"}, Verdict.ADMITTED),
        ({"Origin": PAGE}, Verdict.FORBIDDEN), ({"Origin": PAGE, **WEBSOCKET}, Verdict.ADMITTED),
        ({"Origin": OWN, **WEBSOCKET}, Verdict.ADMITTED), ({"Origin": OWN}, Verdict.FORBIDDEN),
        ({"Origin": "https://evil.example", **WEBSOCKET}, Verdict.ASKING),
        ({"Origin": "https://evil.example", CLIENT_HEADER: "x"}, Verdict.ASKING),
        ({"Origin": "null", **WEBSOCKET}, Verdict.FORBIDDEN), ({"Origin": "", **WEBSOCKET}, Verdict.FORBIDDEN),
        ({"Origin": PAGE.upper(), **WEBSOCKET}, Verdict.FORBIDDEN),
        ({"Origin": f"{PAGE}/", **WEBSOCKET}, Verdict.FORBIDDEN),
        ({"Origin": f"{PAGE}:443", **WEBSOCKET}, Verdict.FORBIDDEN),
        ({"Origin": f"{PAGE}.evil.example", **WEBSOCKET}, Verdict.ASKING),
        ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site", CLIENT_HEADER: "x"}, Verdict.ADMITTED),
        ({"Origin": PAGE, "Sec-Fetch-Site": "nonsense", CLIENT_HEADER: "x"}, Verdict.FORBIDDEN),
        ({"Sec-Fetch-Site": "cross-site"}, Verdict.FORBIDDEN),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "script"}, Verdict.ADMITTED),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}, Verdict.FORBIDDEN),
        ({"Origin": OWN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}, Verdict.FORBIDDEN),
        ({"Origin": PAGE, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "script"}, Verdict.FORBIDDEN),
        ({"Origin": PAGE, "Host": "evil.example", **WEBSOCKET}, Verdict.MISDIRECTED),
    ],
)  # fmt: skip
def test_sec_L6_sec_L8_what_a_carrier_hears_first(flat: Flat, sent: Any, verdict: Verdict) -> None:
    """Only ADMITTED opens a WebSocket: a page that may ask may not connect."""
    flat.let_in()
    assert gate(flat).judge(headers() | sent) is verdict


def test_whose_token_counts_from_where(flat: Flat) -> None:
    tokens = flat.let_in()
    holder = gate(flat).holder
    found = holder(tokens.access_token, PAGE)
    assert found is not None
    assert (found.is_owner, found.origin, found.scopes.text()) == (False, PAGE, "read:tasks")
    assert found.expires_ms == tokens.expires_at * 1000
    for origin in (None, OWN, "https://evil.example", PAGE.upper(), f"{PAGE}/", ""):
        assert holder(tokens.access_token, origin) is None
    for origin in (None, OWN):
        assert holder("owners-token", origin) is OWNER
    for origin in (PAGE, "https://evil.example", "null", ""):
        assert holder("owners-token", origin) is None
    for token in ("", "owners-toke", "owners-token ", "\ud800", "hgw_", tokens.refresh_token or "", "x" * 100_000):
        assert holder(token, None) is None
        assert holder(token, PAGE) is None


def test_a_judgement_is_never_older_than_the_last_change(flat: Flat) -> None:
    tokens = flat.let_in()
    holder = gate(flat).holder
    assert holder(tokens.access_token, PAGE) is not None
    flat.wait(3_601)
    assert holder(tokens.access_token, PAGE) is None
    tokens = flat.refresh(tokens.refresh_token)
    assert holder(tokens.access_token, PAGE) is not None
    asyncio.run(flat.access.sessions.logout(OWNER, Logout(scope="all_clients")))
    assert holder(tokens.access_token, PAGE) is None
    assert len(flat.ended) == 1


def test_without_identity_of_apps_only_the_owner_is_known() -> None:
    alone = Gate(Secret("owners-token"), 8000)
    assert alone.holder("owners-token", None) is OWNER
    assert alone.holder("x", None) is None
    assert alone.judge(headers(Origin=PAGE, **{CLIENT_HEADER: "x"})) is Verdict.FORBIDDEN
