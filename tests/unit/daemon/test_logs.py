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
        "request_id": "r-1", "context": {"status": 200},
    }  # fmt: skip


def test_the_access_line_has_the_same_form(tmp_path: Path) -> None:
    made = logs.setup(tmp_path / "a.log", level="INFO", debug=False, readable=False, terminal=False)
    made.access("GET", "/api/data/{collection}", 404, 1.5, "r-2", "not_found")
    made.access('X"Y', "-", 400, 0.1, "r-3")
    made.close()
    first, second = (json.loads(line) for line in (tmp_path / "a.log").read_text().splitlines())
    assert first["event"] == "http.access"
    assert first["request_id"] == "r-2"
    assert first["context"] == {
        "method": "GET", "path": "/api/data/{collection}", "status": 404, "duration_ms": 1.5, "code": "not_found"
    }  # fmt: skip
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
