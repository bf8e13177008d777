"""The endpoint file, the folders of a profile, and values that must not be shown."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import tomllib
import traceback
from pathlib import Path

import pytest

from hybridgw_protocol.errors import NotRunning
from hybridgw_protocol.runtime import VERSION, Endpoint, Secret, decode_endpoint, encode_endpoint, folders, port_refused

PLANTED = "planted-token"
ENDPOINT = Endpoint("http://127.0.0.1:8000", 8000, 4312, Secret(PLANTED), 1_800_000_000_000, "0.1.0")


def test_the_endpoint_file_is_json_and_read_back() -> None:
    raw = encode_endpoint(ENDPOINT)
    assert json.loads(raw) == {
        "url": "http://127.0.0.1:8000", "port": 8000, "pid": 4312, "token": PLANTED, "started_ms": 1_800_000_000_000,
        "version": "0.1.0",
    }  # fmt: skip
    assert decode_endpoint(raw) == ENDPOINT


def test_fields_of_later_versions_are_passed_over() -> None:
    later = json.loads(encode_endpoint(ENDPOINT)) | {"socket": "/run/x"}
    assert decode_endpoint(json.dumps(later).encode()) == ENDPOINT


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b'{"url": "x"}', b"\xff", b'{"url":1,"port":1,"pid":1,"token":"","started_ms":1,"version":""}'],
)
def test_what_is_no_endpoint_file_means_not_running(raw: bytes) -> None:
    with pytest.raises(NotRunning):
        decode_endpoint(raw)


def test_a_home_holds_all_folders() -> None:
    given = folders("/p", config="c", data="d", state="s", logs="l")
    assert given == ("/p", "/p", "/p", "/p/logs")
    assert folders(None, config="c", data="d", state="s", logs="l") == ("c", "d", "s", "l")


def test_sec_L33_a_secret_never_shows(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(PLANTED)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>40}", str([secret]), str(ENDPOINT)]
    with caplog.at_level("INFO"):
        logging.getLogger("t").info("%s %r", secret, {"a": secret})
    try:
        raise ValueError(secret)
    except ValueError:
        shown.append(traceback.format_exc())
    assert PLANTED not in "".join(shown) + caplog.text
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == PLANTED
    assert (secret == Secret(PLANTED), secret == Secret("x"), secret == PLANTED) == (True, False, False)
    assert len({secret, Secret(PLANTED)}) == 1


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


@pytest.mark.parametrize(
    ("port", "number", "helps"),
    [(80, errno.EACCES, "below 1024"), (80, errno.EADDRINUSE, "Stop the"), (8000, errno.EACCES, "Stop the")],
)
def test_a_port_that_is_refused_is_told_with_what_helps(port: int, number: int, helps: str) -> None:
    said = port_refused(port, OSError(number, os.strerror(number)))
    assert f"Port {port} cannot be used ({os.strerror(number)})" in said
    assert helps in said
    assert [part in said for part in ("below 1024", "Stop the")].count(True) == 1
    assert said.endswith("--port")
