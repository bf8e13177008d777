"""Log lines: their form, what is never in them, and a file that stays small."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon import logs
from hybridgw_protocol.runtime import Secret

PLANTED = "planted-secret-6f1c"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    made = logs.setup(tmp_path / "daemon.log", level="INFO", debug=False, readable=False, terminal=False)
    yield tmp_path / "daemon.log"
    made.close()


def lines(file: Path) -> list[dict[str, Any]]:
    for handler in logging.getLogger().handlers:
        handler.flush()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_spec_O2_a_line_is_json_with_the_named_fields(file: Path) -> None:
    logging.getLogger("hybridgw_daemon.part").info(
        "did %d things", 3, extra={"event": "part.did", "request_id": "r-1", "status": 200, "unknown": "left out"}
    )
    (line,) = lines(file)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "INFO", "logger": "hybridgw_daemon.part", "event": "part.did", "message": "did 3 things",
        "request_id": "r-1", "user_id": None, "deployment_mode": None,
        "context": {"connection_id": None, "client_ip": None, "user_agent": None, "status": 200},
    }  # fmt: skip


def test_spec_O2_the_access_line_has_the_same_form(tmp_path: Path) -> None:
    made = logs.setup(tmp_path / "a.log", level="INFO", debug=False, readable=False, terminal=False)
    made.access("GET", "/api/data/{collection}", 404, 1.5, "r-2", "not_found", "owner", "127.0.0.1", "curl/8")
    made.access('X"Y', "-", 400, 0.1, "r-3", user_agent='"}\n{"level":"FAKE"\x00\udcff', client_ip="::1")
    made.close()
    first, second = (json.loads(line) for line in (tmp_path / "a.log").read_text().splitlines())
    assert first["event"] == "http.access"
    assert first["request_id"] == "r-2"
    assert first["user_id"] == "owner"
    assert first["context"] == {
        "connection_id": None, "client_ip": "127.0.0.1", "user_agent": "curl/8", "method": "GET",
        "path": "/api/data/{collection}", "status": 404, "duration_ms": 1.5, "code": "not_found",
    }  # fmt: skip
    assert first.keys() == second.keys() == {
        "timestamp", "level", "logger", "request_id", "user_id", "deployment_mode", "event", "message", "context"
    }  # fmt: skip
    assert second["context"]["user_agent"].startswith('"}\n{"level":"FAKE"\x00')
    assert second["context"]["method"] == "-"


def test_the_access_line_is_left_out_above_info(tmp_path: Path) -> None:
    made = logs.setup(tmp_path / "a.log", level="WARNING", debug=False, readable=False, terminal=False)
    made.access("GET", "/health", 200, 1.0, "r-1")
    made.close()
    assert not (tmp_path / "a.log").exists()


def test_sec_L33_secrets_show_as_stars_however_they_get_in(file: Path) -> None:
    secret = Secret(PLANTED)
    log = logging.getLogger("t")
    log.info("token %s", secret)
    log.info("token %r and %s", secret, [secret])
    log.info(f"token {secret} {secret!r} {secret:>20}")
    log.info("in context", extra={"error": secret})
    try:
        raise ValueError(secret, PLANTED)
    except ValueError:
        log.exception("failed")
    assert len(lines(file)) == 5
    assert PLANTED not in file.read_text()
    assert "***" in file.read_text()


@pytest.mark.parametrize(
    "text",
    [
        f"GET failed: authorization: Bearer {PLANTED}", f"hgw-invite={PLANTED}", f"key hgw_{PLANTED}",
        f"JWT_SECRET_KEY={PLANTED}", f'{{"access_token": "{PLANTED}"}}', f"passphrase = '{PLANTED}'",
        "code 417-803-265 was typed", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJl",
        f"redis://x?password={PLANTED}&db=1",
    ],
)  # fmt: skip
def test_sec_L33_what_looks_like_a_secret_is_cut_out(file: Path, text: str) -> None:
    logging.getLogger("t").info("%s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("t").exception("failed")
    shown = file.read_text() if lines(file) else ""
    assert "***" in shown
    for planted in (PLANTED, "417-803-265", "c2lnbmF0dXJl"):
        assert planted not in shown


@pytest.mark.parametrize("text", ["signed with key 7", "the token is new after each start", "keys locked: no keyring"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.redact(text) == text


def test_an_unknown_exception_shows_its_place_and_its_text_only_in_debug(tmp_path: Path) -> None:
    for debug in (False, True):
        path = tmp_path / f"{debug}.log"
        made = logs.setup(path, level="INFO", debug=debug, readable=debug, terminal=False)
        try:
            {}[PLANTED]
        except KeyError:
            logging.getLogger("t").exception("failed")
        made.close()
        text = path.read_text()
        assert "KeyError" in text
        assert "test_logs.py" in text
        assert (PLANTED in text) is debug


def test_sec_L28_the_file_is_private_and_turned_over(tmp_path: Path) -> None:
    file = logs.LogFile(tmp_path / "daemon.log", most_bytes=50_000)
    for k in range(20_000):
        file.add(f"line {k}")
    file.close()
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert all(f.stat().st_size <= 50_000 for f in files)
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files)
    assert files[0].read_text().endswith("line 19999\n")


def test_a_warning_is_written_at_once(file: Path) -> None:
    logging.getLogger("t").info("waits")
    assert not file.exists()
    logging.getLogger("t").warning("now")
    assert len(file.read_text().splitlines()) == 2


def test_lines_go_on_in_an_existing_file(tmp_path: Path) -> None:
    for k in range(2):
        made = logs.setup(tmp_path / "a.log", level="INFO", debug=False, readable=False, terminal=False)
        logging.getLogger("t").info("run %d", k)
        made.close()
    assert len((tmp_path / "a.log").read_text().splitlines()) == 2


def test_a_folder_that_vanishes_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    made = logs.setup(tmp_path / "no" / "a.log", level="INFO", debug=False, readable=False, terminal=False)
    logging.getLogger("t").error("nowhere to go")
    made.close()


def test_logging_is_as_before_after_close(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    logs.setup(None, level="ERROR", debug=False, readable=False, terminal=False).close()
    assert (root.level, list(root.handlers)) == before
