"""Log lines: the agreed fields, and no secrets."""

from __future__ import annotations

import io
import json
import logging

import pytest

from hybridgw_relay import logs


@pytest.fixture
def stream() -> io.StringIO:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = io.StringIO()
    logs.set_up("INFO", readable=False, stream=made)
    yield made  # type: ignore[misc]
    root.handlers[:] = handlers
    root.setLevel(level)


def test_fields_and_context(stream: io.StringIO) -> None:
    logging.getLogger("x").info("disconnected connection=%s address=%s in=%d", "ab12", "192.0.2.1", 7)
    line = json.loads(stream.getvalue())
    assert line["event"] == "disconnected"
    assert line["context"] == {"connection_id": "ab12", "client_ip": "192.0.2.1", "user_agent": None, "in": "7"}
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["logger"], line["deployment_mode"]) == ("INFO", "x", "relay")


@pytest.mark.parametrize(
    "text",
    [
        "link https://r/#hgw-invite=c2VjcmV0c2VjcmV0 was used", "Authorization: Bearer c2VjcmV0c2VjcmV0",
        "password=c2VjcmV0c2VjcmV0", '{"token": "c2VjcmV0c2VjcmV0"}', "api_key: c2VjcmV0c2VjcmV0",
    ],
)  # fmt: skip
def test_sec_L33_what_looks_like_a_secret_is_cut_out(stream: io.StringIO, text: str) -> None:
    logging.getLogger("x").warning(text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "c2VjcmV0c2VjcmV0" not in stream.getvalue()
    assert stream.getvalue().count("[removed]") >= 2
    assert "c2VjcmV0c2VjcmV0" not in logs.TextFormatter().format(
        logging.LogRecord("x", logging.INFO, "", 0, text, None, None)
    )


def test_one_line_per_record(stream: io.StringIO) -> None:
    logging.getLogger("x").info("two\nlines: %s", 'a "quoted" ü')
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["message"].startswith("two\nlines")
