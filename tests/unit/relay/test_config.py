"""Configuration: strength of the sources, faults told together, every option documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol.errors import ConfigInvalid
from hybridgw_relay.config import KEYS, OPTIONS, Config, load, parse_size

ROOT = Path(__file__).resolve().parents[3]


def loaded(tmp_path: Path, **given: Any) -> Config:
    return load(
        environment=given.get("environment", {}), flags=given.get("flags", {}), file=given.get("file"),
        default_data=tmp_path / "data",
    )  # fmt: skip


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert (config.host, config.port) == ("0.0.0.0", 8080)  # noqa: S104
    assert config.database == tmp_path / "data" / "relay.db"
    assert (config.account_bytes, config.account_devices) == (2**30, 32)
    assert (config.max_connections, config.heartbeat_s, config.idle_s) == (10_000, 30, 300)
    assert not config.is_development


def test_spec_O6_file_environment_flags_in_that_order_of_strength(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        'server_port = 1\nlog_level = "ERROR"\npublic_url = ["https://A.example.com:443/", "http://b:81"]\n'
    )
    config = loaded(tmp_path, file=file)
    assert (config.port, config.log_level) == (1, "ERROR")
    assert config.public_urls == ("https://a.example.com", "http://b:81")
    config = loaded(tmp_path, file=file, environment={"SERVER_PORT": "2", "HYBRIDGW_SERVER_PORT": "3"})
    assert (config.port, config.log_level) == (3, "ERROR")
    assert loaded(tmp_path, file=file, environment={"SERVER_PORT": "2"}, flags={"SERVER_PORT": "4"}).port == 4


def test_a_file_in_the_data_folder_is_read_by_itself(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "relay.toml").write_text("server_port = 7\n")
    assert loaded(tmp_path).port == 7


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SERVER_PORT", "-1"), ("SERVER_PORT", "65536"), ("SERVER_PORT", "8 0"), ("PUBLIC_URL", "relay.example.com"),
        ("PUBLIC_URL", "https://user:pw@x"), ("TRUSTED_PROXIES", "proxy"), ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "chrome-extension://"), ("ALLOWED_ORIGINS", "https://x/path"), ("ENVIRONMENT", "prod"),
        ("DEBUG", "maybe"), ("LOG_LEVEL", "LOUD"), ("WS_MAX_CONNECTIONS", "0"), ("WS_HEARTBEAT_INTERVAL", "0"),
        ("ACCOUNT_BYTES", "much"), ("ACCOUNT_BYTES", "0"), ("DATABASE_URL", "postgres://x"), ("REDIS_URL", "redis://x"),
        ("TLS_CERT", "/nowhere"), ("RATE_LIMIT_BURST", "nan"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        loaded(tmp_path, environment={name: text})
    assert name in caught.value.message


def test_spec_O6_all_faults_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("server_prot = 1\nlog_level = 'LOUD'\n")
    with pytest.raises(ConfigInvalid) as caught:
        loaded(tmp_path, file=file, environment={"SERVER_PORT": "x"}, flags={"WS_MAX_CONNECTIONS": "0"})
    faults = caught.value.detail["faults"]
    assert isinstance(faults, list)
    assert len(faults) == 4
    for part in ("server_prot", "LOG_LEVEL", "SERVER_PORT (environment)", "WS_MAX_CONNECTIONS (flag)"):
        assert part in caught.value.message


def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("server_port = = 1")
    for file in (tmp_path / "x.toml", tmp_path / "none.toml"):
        with pytest.raises(ConfigInvalid):
            loaded(tmp_path, file=file)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500M", 500 * 2**20), ("2G", 2**31), ("1.5 GiB", 3 * 2**29), ("10kb", 10_240), ("1T", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_every_option_is_in_the_reference_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "relay-configuration.md").read_text()
    assert len(KEYS) > 20
    for option in OPTIONS:
        row = next((line for line in page.splitlines() if line.startswith(f"| `{option.name}` |")), "")
        assert row, option.name
        assert option.help.rstrip(".") in row, option.name
        assert (f"| `{option.default}` |" if option.default else "|  |") in row, option.name
