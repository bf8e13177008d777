"""Configuration: three sources, their order, all faults at once, and where each value came from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.config import KEYS, Config, load
from hybridgw_protocol.errors import ConfigInvalid


def read(tmp_path: Path, toml: str = "", environment: dict[str, str] | None = None, **flags: Any) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    return load(file=file, environment=environment or {}, flags=flags)


def faults_of(tmp_path: Path, toml: str = "", environment: dict[str, str] | None = None, **flags: Any) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        read(tmp_path, toml, environment, **flags)
    faults = caught.value.detail["faults"]
    assert isinstance(faults, list)
    assert all(fault in caught.value.message for fault in faults)
    return faults


def test_without_any_source_all_is_default(tmp_path: Path) -> None:
    config = load(file=tmp_path / "none" / "config.toml", environment={}, flags={})
    assert (config.server.port, config.log.level, config.secrets.store) == (None, "INFO", "keyring")
    assert {s.source for s in config.settings} == {"default"}
    assert tuple(s.name for s in config.settings) == KEYS
    assert all(s.effect for s in config.settings)


def test_spec_O6_later_sources_win(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("SERVER_PORT=8002\nLOG_LEVEL=ERROR\n# comment\n\nexport DEBUG='yes'\n")
    (tmp_path / "config.toml").write_text('server_port = 8001\nlog_level = "DEBUG"\ndevice_name = "desk"\n')
    config = load(
        file=tmp_path / "config.toml",
        environment={"HYBRIDGW_LOG_LEVEL": "WARNING", "SERVER_PORT": "1", "DEBUG": "nonsense"},
        flags={"SERVER_PORT": "8003", "SECRET_STORE": None},
        env_file=env_file,
    )
    assert (config.server.port, config.log.level, config.log.debug, config.device_name) == (
        8003,
        "WARNING",
        True,
        "desk",
    )
    sources = {s.name: s.source for s in config.settings}
    assert sources["SERVER_PORT"] == "flag --port"
    assert sources["LOG_LEVEL"] == "environment HYBRIDGW_LOG_LEVEL"
    assert sources["DEBUG"] == f"{env_file}:5"
    assert sources["DEVICE_NAME"] == str(tmp_path / "config.toml")
    assert sources["SECRET_STORE"] == "default"


def test_prefixed_names_in_an_env_file_count_too(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text('HYBRIDGW_SERVER_PORT="9001"\n')
    config = load(file=tmp_path / "none", environment={}, flags={}, env_file=env_file)
    assert config.server.port == 9001


def test_spec_O6_all_faults_are_told_at_once(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path,
        'server_port = 70000\nlog_level = "LOUD"\nsever_host = "x"\ndebug = "perhaps"\n',
        {"HYBRIDGW_WS_HEARTBEAT_INTERVAL": "soon"},
        SECRET_STORE="pocket",
    )
    assert len(faults) == 6
    text = "\n".join(faults)
    for part in ("SERVER_PORT = 70000", "LOG_LEVEL = 'LOUD'", "did you mean server_host?", "flag --secret-store",
                 "environment HYBRIDGW_WS_HEARTBEAT_INTERVAL", "seconds from 1 to 300"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "", 7])  # noqa: S104 - is refused
def test_spec_G6_a_host_beyond_loopback_is_refused(tmp_path: Path, host: object) -> None:
    assert "TLS" in faults_of(tmp_path, f"server_host = {host!r}")[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_hosts_are_taken(tmp_path: Path, host: str) -> None:
    assert read(tmp_path, f"server_host = {host!r}").server.port is None


@pytest.mark.spec("A4")
def test_spec_G6_origins_of_pages_are_exact(tmp_path: Path) -> None:
    text = "https://app.example.com, http://nas.local:8080,chrome-extension://" + "abcdefghijklmnop" * 2
    config = read(tmp_path, f'allowed_origins = "{text}"')
    assert config.access.origins == tuple(part.strip() for part in text.split(","))
    assert read(tmp_path, f"allowed_origins = {list(config.access.origins)!r}").access == config.access
    assert read(tmp_path, 'allowed_origins = ""').access.origins == ()


@pytest.mark.parametrize(
    ("origin", "why"),
    [("*", "every page"), ("https://*.example.com", "every page"), ("chrome-extension://", "every extension"),
     ("moz-extension:", "every extension"), ("chrome-extension://short", "exact origins"), ("null", "exact origins"),
     ("https://a.example/", "exact origins"), ("https://A.example", "exact origins"), ("a.example", "exact origins"),
     ("https://a.example:443", "exact origins"), ("https://u@a.example", "exact origins"), ("file://", "exact origins"),
     ("https://a.example:0", "exact origins"), ("https://a.example:65536", "exact origins"), ("https://", "exact")],
)  # fmt: skip
def test_origins_that_are_none_or_too_many_are_refused_with_the_reason(tmp_path: Path, origin: str, why: str) -> None:
    fault = faults_of(tmp_path, f'allowed_origins = "https://ok.example, {origin}"')[0]
    assert "ALLOWED_ORIGINS" in fault
    assert why in fault.partition("allowed is")[2]


SECRET = "planted-" + "s" * 32


@pytest.mark.parametrize("name", ["SUPABASE_ANON_KEY", "SUPABASE_SERVICE_KEY", "HYBRIDGW_SUPABASE_JWT_SECRET"])
def test_a_secret_of_tokens_that_is_a_key_of_supabase_too_is_refused(tmp_path: Path, name: str) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"JWT_SECRET_KEY={SECRET}\n{name}={SECRET}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(file=tmp_path / "none", environment={}, flags={}, env_file=env_file)
    assert "Supabase" in caught.value.message
    assert "planted" not in str(caught.value.detail) + caught.value.message
    fault = faults_of(tmp_path, f'jwt_secret_key = "{SECRET}"', {name: f" {SECRET} "})
    assert "Supabase" in fault[0]


@pytest.mark.spec("A4")
def test_spec_A4_tokens_are_configured_and_their_secret_is_never_shown(tmp_path: Path) -> None:
    config = read(
        tmp_path, f'jwt_secret_key = "{SECRET}"\njwt_algorithm = "EdDSA"\njwt_expiration_hours = "0.5"',
        {"SUPABASE_ANON_KEY": "another"},
    )  # fmt: skip
    assert config.access.secret is not None
    assert config.access.secret.reveal() == SECRET.encode()
    assert (config.access.algorithm, config.access.expiration_s) == ("EdDSA", 1800)
    shown = {setting.name: setting.value for setting in config.settings}
    assert shown["JWT_SECRET_KEY"] == "***"
    assert "planted" not in repr(config)
    default = read(tmp_path)
    assert (default.access.secret, default.access.algorithm, default.access.expiration_s) == (None, "HS256", 86_400)


@pytest.mark.parametrize(
    "line",
    ['jwt_secret_key = "planted-too-short"', "jwt_secret_key = 5", 'jwt_algorithm = "none"', 'jwt_algorithm = "RS256"',
     'jwt_algorithm = "hs256"', "jwt_expiration_hours = 0", "jwt_expiration_hours = 721",
     'jwt_expiration_hours = "nan"',
     "jwt_expiration_hours = true", 'allowed_methods = "GET,TRACE"', 'allowed_methods = ""', "allowed_methods = 5",
     'allowed_headers = "X-Own"', 'allowed_headers = "Authorization, Content-Type, X-HybridGW-Client, bad header"',
     "allowed_origins = 5", "allowed_origins = [5]"],
)  # fmt: skip
def test_faults_of_access_name_what_is_allowed_and_no_secret(tmp_path: Path, line: str) -> None:
    fault = faults_of(tmp_path, line)[0]
    assert fault.startswith(line.partition(" ")[0].upper())
    assert "allowed is" in fault.lower()
    assert "planted" not in fault


@pytest.mark.parametrize("raw", [b"not toml", b"\xff\xfe", b"server_port = 8001\nserver_port = 8002", b"a" * 70_000])
def test_a_broken_file_is_one_fault(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigInvalid, match=r"config\.toml"):
        load(file=file, environment={}, flags={})


def test_names_in_the_file_are_lower_case(tmp_path: Path) -> None:
    assert "did you mean server_port?" in faults_of(tmp_path, "SERVER_PORT = 8001")[0]


def test_env_file_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load(file=tmp_path / "none", environment={}, flags={}, env_file=tmp_path / "missing")
    broken = tmp_path / "env"
    broken.write_text("SERVER_PORT\n")
    with pytest.raises(ConfigInvalid, match="env:1: not NAME=value"):
        load(file=tmp_path / "none", environment={}, flags={}, env_file=broken)


def test_names_of_other_parts_are_no_fault_and_are_never_shown_with_their_value(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("DATABASE_URL=planted-secret-1\nREDIS_PASSWORD=planted-secret-2\nMY_TOKEN=planted-secret-3\n")
    config = load(
        file=tmp_path / "none", environment={"HYBRIDGW_API_TOKEN": "planted-secret-4"}, flags={}, env_file=env_file
    )
    assert len(config.warnings) == 2  # the unknown one of each source
    assert "planted" not in repr(config)


# One file for all parts, as an operator has it.
SHARED = {
    "SERVER_HOST": "127.0.0.1", "SERVER_PORT": "8000", "DEBUG": "false", "ENVIRONMENT": "production",
    "JWT_SECRET_KEY": "s" * 32, "JWT_ALGORITHM": "HS256", "JWT_EXPIRATION_HOURS": "24", "REDIS_URL": "redis://x",
    "REDIS_PASSWORD": "planted", "DATABASE_URL": "sqlite:///x", "SUPABASE_URL": "https://x.example",
    "SUPABASE_ANON_KEY": "planted-anon", "SUPABASE_SERVICE_KEY": "planted-service", "WS_MAX_CONNECTIONS": "10000",
    "WS_HEARTBEAT_INTERVAL": "30", "WS_CONNECTION_TIMEOUT": "300", "RATE_LIMIT_PER_MINUTE": "60",
    "RATE_LIMIT_BURST": "10", "METRICS_ENABLED": "true", "METRICS_PORT": "9091", "LOG_LEVEL": "INFO",
    "ALLOWED_ORIGINS": "https://app.example.com", "ALLOWED_METHODS": "GET,POST",
    "ALLOWED_HEADERS": "Authorization,Content-Type,X-HybridGW-Client",
}  # fmt: skip


def test_spec_O6_a_file_with_every_name_is_taken_and_each_is_one_parts(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in SHARED.items()))
    config = load(file=tmp_path / "none", environment={}, flags={}, env_file=env_file)
    (warning,) = config.warnings
    assert "SUPABASE_SERVICE_KEY" in warning
    assert "planted" not in warning + repr(config)
    elsewhere = SHARED.keys() - set(KEYS)
    assert {s.name for s in config.settings if s.source.startswith(str(env_file))} == SHARED.keys() - elsewhere
    assert elsewhere == {
        "REDIS_URL", "REDIS_PASSWORD", "DATABASE_URL", "SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_KEY"
    }  # fmt: skip


def test_the_home_variable_is_no_unknown_name(tmp_path: Path) -> None:
    assert read(tmp_path, environment={"HYBRIDGW_HOME": str(tmp_path)}).warnings == ()


def test_development_logs_to_the_terminal(tmp_path: Path) -> None:
    assert read(tmp_path).log.terminal is False
    assert read(tmp_path, 'environment = "development"').log.terminal is True


@pytest.mark.spec("O6")
def test_spec_O6_limits_lists_and_metrics(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert (config.limits.per_minute, config.limits.burst, config.limits.allow, config.limits.deny) == (60, 10, (), ())
    assert (config.metrics.enabled, config.metrics.port) == (True, None)
    config = read(
        tmp_path,
        'rate_limit_per_minute = 120\nip_allow = ["127.0.0.0/8", "::1"]\nmetrics_enabled = false\n',
        {"HYBRIDGW_IP_DENY": "127.0.0.9, fd00::/8", "HYBRIDGW_METRICS_PORT": "9091"},
    )
    assert [str(n) for n in config.limits.allow] == ["127.0.0.0/8", "::1/128"]
    assert [str(n) for n in config.limits.deny] == ["127.0.0.9/32", "fd00::/8"]
    assert (config.limits.per_minute, config.metrics.enabled, config.metrics.port) == (120, False, 9091)
    shown = {s.name: s.value for s in config.settings}
    assert shown["IP_DENY"] == ("127.0.0.9/32", "fd00::/8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ip_allow = "10.0.0.1/8"', "addresses and networks"), ("ip_allow = 5", "addresses and networks"),
        ('ip_deny = "localhost"', "addresses and networks"), ("ip_deny = [5]", "addresses and networks"),
        ('ip_allow = "10.0.0.0/8"', "shut out 127.0.0.1"), ('ip_deny = "127.0.0.0/8, ::/0"', "shut out 127.0.0.1"),
        ("rate_limit_per_minute = 0", "from 1 to"), ('rate_limit_burst = "many"', "a number"),
        ("rate_limit_burst = nan", "a number"), ("metrics_port = 70000", "whole number"),
        ("metrics_port = 8001\nserver_port = 8001", "another port"), ('metrics_enabled = "perhaps"', "true or false"),
    ],
)  # fmt: skip
def test_bad_limits_and_lists_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (fault,) = faults_of(tmp_path, text)
    assert says in fault


def test_one_address_of_loopback_is_enough(tmp_path: Path) -> None:
    assert read(tmp_path, 'ip_deny = "::1"').limits.deny


NAMED_LIKE_SECRETS = [name for name in KEYS if re.search(r"(SECRET|SECRET_KEY|SERVICE_KEY|PASSWORD|TOKEN)$", name)]


@pytest.mark.parametrize("name", NAMED_LIKE_SECRETS)
@pytest.mark.parametrize("value", ["planted", "planted" * 8])  # at fault, and in force
def test_sec_L33_a_secret_is_never_shown_as_a_setting(tmp_path: Path, name: str, value: str) -> None:
    try:
        shown = str(read(tmp_path, "", {f"HYBRIDGW_{name}": value}).settings)
    except ConfigInvalid as error:
        shown = f"{error.message} {error.detail}"
    assert name in shown
    assert "planted" not in shown


def test_spec_R2_rules_for_messages_are_read_from_every_source(tmp_path: Path) -> None:
    toml = 'message_rules = ["tab.*=client:tabs@here", "alarm.* = all, Phone +"]'
    config = read(tmp_path, toml)
    assert [(r.pattern, r.to, r.go_on) for r in config.message_rules] == [
        ("tab.*", ("client:tabs@here",), False), ("alarm.*", ("all", "device:Phone"), True),
    ]  # fmt: skip
    named = read(tmp_path, toml, {"HYBRIDGW_MESSAGE_RULES": "note=all; *=app:log@here"})
    assert [rule.pattern for rule in named.message_rules] == ["note", "*"]
    assert len({rule.name for rule in named.message_rules}) == 2
    assert read(tmp_path, "message_rules = []").message_rules == ()


@pytest.mark.parametrize(
    "raw",
    ["5", '["note"]', '["note="]', '["note=+"]', '["a*b=all"]', '["note=all,"]', '["note=app:"]', "[5]",
     '"note=all; oops"', str(["a=all"] * 101)],
)  # fmt: skip
def test_rules_that_are_none_are_refused(tmp_path: Path, raw: str) -> None:
    assert len(faults_of(tmp_path, f"message_rules = {raw}")) == 1
