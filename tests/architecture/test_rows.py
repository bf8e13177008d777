"""Every promise and every attack of two pages is shown by a test that carries its id, and told where one would look."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.architecture._tree import ROOT, texts

DOCS = ROOT / "docs"
PROMISES, ATTACKS = DOCS / "reference" / "promises.md", DOCS / "reference" / "attacks.md"

# row -> what a person who looks for it must find on each of its pages, which the page of promises links
SAID: dict[str, dict[str, tuple[str, ...]]] = {
    "G1": {"reference/websocket.md": (
        "/ws/{deployment_mode}/{client_id}", "`web_app`, `browser_extension` or `local_install`", "## Coming back",
        "## Signs of life", "## Close codes", "WS_CONNECTION_TIMEOUT", "in order, once",
    )},
    "G2": {"reference/websocket.md": (
        "hybridgw.v1.json", "hybridgw.v1.msgpack", "permessage-deflate", "`field` names what is wrong",
        "/api/frames.schema.json",
    )},
    "G3": {"reference/http-api.md": (
        "RFC 9457", "X-Request-ID", "next_cursor", "ETag", "If-Match", "OpenAPI 3.1", "GET /docs", "/api/auth/login",
        "/api/data/{collection}", "/api/sync/trigger", "/api/config", "/api/analytics/connections", "/api/devices",
    )},
    "G4": {
        "how-to/follow-changes-live.md": ("live.subscribe", "initial", "ready"),
        "reference/websocket.md": ("no version of a document is told twice", "there is no gap"),
    },
    "G5": {
        "reference/http-api.md": ("RateLimit", "Retry-After", "1 MiB", "for callers without a valid credential"),
        "reference/websocket.md": ("## Slow readers", "4429"),
        "reference/configuration.md": ("WS_MAX_CONNECTIONS", "WS_MAX_WEB_APP", "RATE_LIMIT_PER_MINUTE"),
    },
    "G6": {
        "reference/attacks.md": ("DNS rebinding", "preflight", "constant time"),
        "reference/http-api.md": (
            "127.0.0.1 and ::1 only", "`Host` must be", "`Origin`", "Access-Control-Allow-Origin", "IP_DENY",
            "Content-Security-Policy",
        ),
    },
    "G7": {
        "how-to/look-for-trouble.md": ("/api/config/stats", "hybridgw top", "missed signs of life"),
        "reference/http-api.md": ("/api/config/stats", "/api/analytics/connections", "missed heartbeats"),
    },
    "G8": {"how-to/look-for-trouble.md": (
        "curl -s localhost:8000/health", "wscat -c ws://localhost:8000/ws/web_app/test-client",
        '{"deployment_mode": "web_app", "credentials": {"supabase_token": "test"}}', "/api/auth/validate",
        "/api/sync/status", '{"sync_type": "settings", "deployment_mode": "web_app"}', "localhost:8000/metrics",
        "/api/config/stats",
    )},
    "S1": {
        "reference/http-api.md": ("/api/data/{collection}", "/api/collections"),
        "explanation/storage.md": ("One file, one writer",),
    },
    "S2": {
        "how-to/resolve-a-conflict.md": ("Sync never waits", "hybridgw conflicts resolve", "## Edited here"),
        "explanation/how-sync-works.md": ("both are kept",),
    },
    "S6": {"how-to/import-your-data.md": ("Importing the same file again changes nothing", "Taskwarrior", "bookmarks")},
    "S8": {"explanation/security-model.md": ("sealed",)},
    "S9": {
        "reference/http-api.md": ("`needs_person`", "confirm"),
        "reference/exit-codes-and-errors.md": ("clock_drift", "needs_person"),
    },
    "D1": {
        "explanation/security-model.md": ("Each device makes its own keys",),
        "how-to/remove-a-device.md": ("its name or its fingerprint",),
    },
    "D2": {"how-to/pair-a-device.md": ("tried once", "ten minutes", "Compare the four words", "need no relay")},
    "D3": {"how-to/sync-on-the-local-network.md": ("find each other and sync directly", "hybridgw lan add")},
    "D4": {
        "how-to/remove-a-device.md": ("make a new key that the removed one does not get", "refuses it", "rename"),
        "how-to/lost-device.md": ("No old backup, relay or device brings it back",),
    },
    "D5": {"how-to/sync-on-the-local-network.md": ("which way is in use and why", "what comes twice is applied once")},
    "D6": {
        "how-to/recover-with-words.md": ("24 words", "the words and the address of the relay", "## Without a relay"),
        "how-to/lost-device.md": ("does not count any more",),
    },
    "D7": {
        "how-to/sync-on-the-local-network.md": ("hybridgw lan test", "AP isolation", "a firewall is in the way"),
        "how-to/pair-a-device.md": ("## When it fails",),
    },
    "R1": {"how-to/send-messages.md": ("`app:NAME`", "`topic:TOPIC`", "`all`", "with `@DEVICE` behind it")},
    "R2": {"how-to/send-messages.md": ("## Let rules decide", "hybridgw messages explain")},
    "R3": {"how-to/send-messages.md": ("`--priority urgent` overtakes everything",)},
    "R4": {"how-to/send-messages.md": ("`delivered` means", "`--ttl 60`", "hybridgw messages retry")},
    "R5": {"reference/http-api.md": ("`GET /api/messages`", "`box` (all, in, out, dead)")},
    "R6": {
        "how-to/write-to-other-people.md": ("safety number", "contacts accept", "contacts block", "person:Bob"),
        "explanation/security-model.md": ("## Other people", "hash of their root key", "sealed to a key"),
    },
    "A1": {
        "reference/http-api.md": ("the local identity",),
        "explanation/security-model.md": ("Each device makes its own keys",),
    },
    "A4": {
        "reference/http-api.md": (
            "/api/auth/refresh", "/api/auth/logout", "the old refresh token is used up", "One at a time",
        ),
        "reference/configuration.md": ("JWT_SECRET_KEY", "JWT_ALGORITHM", "JWT_EXPIRATION_HOURS"),
    },
    "A5": {"how-to/script-with-a-key.md": ("not shown again", "--scope", "revoke", "when it was last used")},
    "A6": {"how-to/let-an-app-in.md": ("hybridgw apps approve", "six digits", "hybridgw apps revoke")},
    "A7": {"how-to/headless-secrets.md": ("--secret-store passphrase", "never falls back silently", "Argon2id")},
    "A8": {
        "how-to/let-an-app-in.md": ("hybridgw audit",),
        "reference/cli.md": ("### `hybridgw audit`",),
    },
    "O1": {"how-to/watch-with-prometheus.md": (
        "http_requests_total", "http_request_duration_seconds", "websocket_connections_active",
        "data_sync_operations_total", "auth_operations_total", "message_routing_total", "template of the route",
    )},
    "O2": {
        "reference/files.md": (
            "timestamp", "level", "logger", "request_id", "user_id", "deployment_mode", "event", "message",
            "connection_id", "client_ip", "user_agent", "replaced by `***`", "trace.sql", "trace.frame",
        ),
        "reference/configuration.md": ("`DEBUG`", "each SQL statement with its time"),
    },
    "O3": {
        "how-to/look-for-trouble.md": ("localhost:8000/health", "/health/ready", "/api/config/health"),
        "reference/http-api.md": ("/health/ready", "processor, memory, disk", "latency, error rate"),
    },
    "O6": {
        "reference/configuration.md": ("Later wins", "All faults are reported together", "hybridgw config"),
        "reference/relay-configuration.md": ("Later wins", "Every fault is told at once", "REDIS_URL"),
    },
    "F4": {
        "how-to/connect-your-browser.md": (
            "six digits", "hybridgw extension doctor", "snap or a flatpak", "While HybridGW is away",
            "| permission | for |",
        ),
        "reference/native-host.md": ("host_hello", "refused from the length", "is not listed", "HKEY_CURRENT_USER"),
    },
    "F5": {
        "reference/javascript-client.md": ("## Topics", "React, Svelte, Vue", "It comes back", "isPending", "## Node"),
        "reference/python-client.md": ("synchronous", "asynchronous", "offline_queue", "comes back"),
    },
    "Y1": {"how-to/add-a-relay.md": ("hybridgw-relay --home relay serve", "cannot read the data")},
    "Y7": {"how-to/add-a-relay.md": ("closed to strangers", "once, within 72 hours", "`audit` says what")},
}  # fmt: skip
PRINCIPLES = {f"P{number}" for number in range(1, 8)}
LOCAL = {f"L{n}" for n in (1, 5, 6, 8, 10, 11, 12, 14, 15, 17, 19, 20, 22, 23, 24, 25, 26, 28, 30, 32, 33, 35, 36)}


@cache
def names_of_tests() -> frozenset[str]:
    """Of every test function in Python."""
    files = [path for path in texts() if path.name.startswith("test_") and path.suffix == ".py"]
    return frozenset(
        found for path in files for found in re.findall(r"^ *(?:async )?def (test_\w+)", texts()[path], re.MULTILINE)
    )


def shown(kind: str, row: str) -> list[str]:
    """The tests whose name carries a row. Args: kind: spec or sec."""
    carries = re.compile(rf"_{kind}_{row}(_|$)")
    return [name for name in names_of_tests() if carries.search(name)]


def rows(page: Path) -> dict[str, str]:
    """Id -> line, of the tables of a page."""
    return {match[1]: match[0] for match in re.finditer(r"^\| ([A-Z]\d+) \| .*$", page.read_text(), re.MULTILINE)}


def test_the_pages_have_these_rows_and_no_others() -> None:
    assert rows(PROMISES).keys() == SAID.keys()
    assert rows(ATTACKS).keys() == PRINCIPLES | LOCAL


@pytest.mark.parametrize("row", SAID)
def test_every_promise_is_shown_and_told(row: str) -> None:
    assert shown("spec", row), f"no test has spec_{row} in its name"
    linked = {
        (PROMISES.parent / target).resolve().relative_to(DOCS).as_posix()
        for target in re.findall(r"\]\(([^)#]+)\)", rows(PROMISES)[row])
    }
    assert linked == SAID[row].keys()
    for name, words in SAID[row].items():
        page = " ".join((DOCS / name).read_text().split())
        for word in words:
            assert word in page, f"docs/{name} does not say {word!r}, which {row} promises"


@pytest.mark.parametrize("row", sorted(PRINCIPLES | LOCAL))
def test_every_attack_is_shown_to_be_refused(row: str) -> None:
    assert shown("sec", row), f"no test has sec_{row} in its name"


def test_a_row_that_nobody_shows_would_be_noticed() -> None:
    assert not shown("spec", "G99")
    assert not shown("spec", "G")
    assert len(shown("spec", "G1")) >= 10
    assert not {name for name in shown("spec", "G1") if "spec_G1_" not in name}
