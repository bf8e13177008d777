"""The relay's configuration: file, environment, flags, in that order of strength; all faults are told at once.

In a file (TOML) the names are those of the environment in lower case. A name with HYBRIDGW_ before it wins over the
bare one. Reference: docs/reference/relay-configuration.md.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hybridgw_protocol.errors import BadValue, ConfigInvalid
from hybridgw_protocol.invite import normal_url

from .core.quotas import (
    ACCOUNT_BYTES,
    ACCOUNT_DEVICES,
    BYTES_BURST,
    BYTES_PER_S,
    PUSH_BURST,
    PUSHES_PER_S,
    DeviceLimits,
)

DATABASE_NAME: Final = "relay.db"
PREFIX: Final = "HYBRIDGW_"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a relay can be told. Times and sizes carry their unit in the name."""

    host: str
    port: int
    data: Path
    database: Path
    public_urls: tuple[str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    trusted_proxies: frozenset[str]
    allowed_origins: frozenset[str]
    is_development: bool
    is_debug: bool
    log_level: str
    max_connections: int
    connections_per_address: int
    heartbeat_s: float
    idle_s: float
    strangers_per_minute: float
    strangers_burst: float
    joins_per_minute: float
    account_bytes: int
    account_devices: int
    metrics_enabled: bool
    metrics_host: str
    metrics_port: int
    is_metrics_port_chosen: bool
    device: DeviceLimits = field(default_factory=DeviceLimits)


# ---- reading one value -----------------------------------------------------------------------------------------------
def _integer(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            raise BadValue(f"is a whole number from {least} to {most}, not {text!r}") from None
        if not least <= value <= most:
            raise BadValue(f"is a whole number from {least} to {most}, not {value}")
        return value

    return read


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise BadValue(f"is a number from {least:g} to {most:g}, not {text!r}") from None
        if not least <= value <= most:
            raise BadValue(f"is a number from {least:g} to {most:g}, not {text}")
        return value

    return read


_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_size(text: str) -> int:
    """Bytes from 500000, 512M, 2G, 2GiB. Raises: BadValue."""
    number = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        value = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise BadValue(f"is a number of bytes like 500M or 2G, not {text!r}") from None
    if not 0 < value < 2**60:
        raise BadValue(f"is a positive number of bytes, not {text!r}")
    return value


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise BadValue(f"is true or false, not {text!r}")


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise BadValue(f"is one of {', '.join(choices)}, not {text!r}")

    return read


def _list(read: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    return lambda text: tuple(read(part.strip()) for part in text.split(",") if part.strip())


def _url(text: str) -> str:
    try:
        return normal_url(text)
    except BadValue as error:
        raise BadValue(f"is the address that devices dial, like https://relay.example.com, not {text!r}") from error


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise BadValue(f"names the addresses of proxies, like 10.0.0.2, not {text!r}") from None


def _listen_address(text: str) -> str:
    try:
        return text if text == "localhost" else str(ipaddress.ip_address(text))
    except ValueError:
        raise BadValue(f"is an address of this machine, like 127.0.0.1, not {text!r}") from None


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if text == "*" or text.rstrip("/") != f"{parts.scheme}://{parts.netloc}" or not parts.netloc:
        raise BadValue(f"names exact origins like https://app.example.com, not {text!r}")
    return text.rstrip("/")


def _database(text: str) -> Path | None:
    if not text:
        return None
    if text.startswith("sqlite:///"):
        return Path(text.removeprefix("sqlite:///"))
    raise BadValue("is sqlite:///PATH; this version keeps its data in SQLite only")


def _nothing(text: str) -> None:
    if text:
        raise BadValue("is not used by this version, which runs as one process; leave it out")


@dataclass(frozen=True, slots=True)
class Option:
    """One key. default: as it would be written; help: for the reference page."""

    name: str
    default: str
    read: Callable[[str], Any]
    help: str


OPTIONS: Final = (
    Option("SERVER_HOST", "0.0.0.0", str, "Address to listen on."),  # noqa: S104 - a relay is there to be reached
    Option("SERVER_PORT", "8080", _integer(0, 65_535), "Port to listen on; 0 takes a free one."),
    Option("PUBLIC_URL", "", _list(_url), "Addresses that devices dial, with commas between them."),
    Option("DATA_DIR", "", Path, "Folder of the database."),
    Option("DATABASE_URL", "", _database, "sqlite:///PATH, if the database is to lie elsewhere."),
    Option("TLS_CERT", "", Path, "Certificate chain (PEM), to serve TLS without a proxy."),
    Option("TLS_KEY", "", Path, "Its private key (PEM)."),
    Option("TRUSTED_PROXIES", "", _list(_address), "Addresses of proxies whose X-Forwarded-For is believed."),
    Option("ALLOWED_ORIGINS", "", _list(_origin), "Web origins that may connect; devices send none."),
    Option("ENVIRONMENT", "production", _one_of("production", "development"), "development: readable logs."),
    Option("DEBUG", "false", _flag, "Log everything."),
    Option("LOG_LEVEL", "INFO", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "Least level that is logged."),
    Option("WS_MAX_CONNECTIONS", "10000", _integer(1, 1_000_000), "Connections in all."),
    Option("WS_HEARTBEAT_INTERVAL", "30", _number(1, 600), "Seconds of silence before a ping."),
    Option("WS_CONNECTION_TIMEOUT", "300", _number(10, 86_400), "Seconds a connection may ask for nothing."),
    Option("CONNECTIONS_PER_ADDRESS", "1024", _integer(1, 1_000_000), "Connections of one network (/24, /64)."),
    Option("RATE_LIMIT_PER_MINUTE", "60", _number(1, 1e6), "Refused attempts of one network per minute."),
    Option("RATE_LIMIT_BURST", "10", _number(1, 1e6), "Refused attempts of one network at once."),
    Option("PAIRING_JOINS_PER_MINUTE", "10", _number(1, 1e6), "Pairing codes that one network may try."),
    Option("ACCOUNT_BYTES", str(ACCOUNT_BYTES), parse_size, "Room of a new account."),
    Option("ACCOUNT_DEVICES", str(ACCOUNT_DEVICES), _integer(1, 100_000), "Devices of a new account."),
    Option("DEVICE_PUSHES_PER_SECOND", f"{PUSHES_PER_S:g}", _number(0.1, 1e6), "Pushes of one device."),
    Option("DEVICE_PUSH_BURST", str(PUSH_BURST), _integer(1, 10**9), "Pushes of one device at once."),
    Option("DEVICE_BYTES_PER_SECOND", str(BYTES_PER_S), parse_size, "Bytes pushed by one device."),
    Option("DEVICE_BYTES_BURST", str(BYTES_BURST), parse_size, "Bytes pushed by one device at once."),
    Option("METRICS_ENABLED", "true", _flag, "Serve /metrics for Prometheus on a port of its own."),
    Option("METRICS_HOST", "127.0.0.1", _listen_address, "Address of that port; keep it from the internet."),
    Option("METRICS_PORT", "9090", _integer(0, 65_535), "That port; 0 takes a free one."),
    Option("REDIS_URL", "", _nothing, "Not used yet; refused if set."),
)
KEYS: Final = tuple(option.name for option in OPTIONS)


# ---- putting it together ---------------------------------------------------------------------------------------------
def load(
    *, environment: Mapping[str, str], flags: Mapping[str, str], file: Path | None = None, default_data: Path
) -> Config:
    """Build the configuration.

    Args: flags: option name -> text, only those given; default_data: folder if none is said.

    Raises: ConfigInvalid: every fault, one a line, with where it stands.
    """
    faults: list[str] = []
    texts: dict[str, tuple[str, str]] = {}  # name -> text, where it stands
    data = Path(flags.get("DATA_DIR") or _from_environment(environment, "DATA_DIR") or default_data)
    implied = data / "relay.toml"
    if file is not None or implied.is_file():
        texts |= _from_file(file or implied, faults)
    for option in OPTIONS:
        text = _from_environment(environment, option.name)
        if text is not None:
            texts[option.name] = (text, "environment")
        if option.name in flags:
            texts[option.name] = (flags[option.name], "flag")
    values: dict[str, Any] = {}
    for option in OPTIONS:
        text, where = texts.get(option.name, (option.default, "default"))
        try:
            values[option.name] = option.read(text) if text or option.read is not Path else None
        except BadValue as error:
            faults.append(f"{option.name} ({where}) {error.message}")
    if not faults:
        data = values["DATA_DIR"] or default_data
        cert, key = values["TLS_CERT"], values["TLS_KEY"]
        if (cert is None) != (key is None):
            faults.append("TLS_CERT and TLS_KEY are given together or not at all")
        if values["METRICS_ENABLED"] and values["METRICS_PORT"] == values["SERVER_PORT"] != 0:
            faults.append("METRICS_PORT and SERVER_PORT are two ports: what is counted is not for strangers")
        faults += [f"{path} cannot be read" for path in (cert, key) if path is not None and not path.is_file()]
    if faults:
        raise ConfigInvalid("The configuration has faults:\n  " + "\n  ".join(faults), faults=faults)
    return Config(
        host=values["SERVER_HOST"],
        port=values["SERVER_PORT"],
        data=data,
        database=values["DATABASE_URL"] or data / DATABASE_NAME,
        public_urls=values["PUBLIC_URL"],
        tls_cert=cert,
        tls_key=key,
        trusted_proxies=frozenset(values["TRUSTED_PROXIES"]),
        allowed_origins=frozenset(values["ALLOWED_ORIGINS"]),
        is_development=values["ENVIRONMENT"] == "development",
        is_debug=values["DEBUG"],
        log_level="DEBUG" if values["DEBUG"] else values["LOG_LEVEL"],
        max_connections=values["WS_MAX_CONNECTIONS"],
        connections_per_address=values["CONNECTIONS_PER_ADDRESS"],
        heartbeat_s=values["WS_HEARTBEAT_INTERVAL"],
        idle_s=values["WS_CONNECTION_TIMEOUT"],
        strangers_per_minute=values["RATE_LIMIT_PER_MINUTE"],
        strangers_burst=values["RATE_LIMIT_BURST"],
        joins_per_minute=values["PAIRING_JOINS_PER_MINUTE"],
        account_bytes=values["ACCOUNT_BYTES"],
        account_devices=values["ACCOUNT_DEVICES"],
        metrics_enabled=values["METRICS_ENABLED"],
        metrics_host=values["METRICS_HOST"],
        metrics_port=values["METRICS_PORT"],
        is_metrics_port_chosen="METRICS_PORT" in texts,
        device=DeviceLimits(
            pushes_per_s=values["DEVICE_PUSHES_PER_SECOND"],
            push_burst=values["DEVICE_PUSH_BURST"],
            bytes_per_s=values["DEVICE_BYTES_PER_SECOND"],
            bytes_burst=values["DEVICE_BYTES_BURST"],
        ),
    )


def _from_environment(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(PREFIX + name, environment.get(name))


def _from_file(path: Path, faults: list[str]) -> dict[str, tuple[str, str]]:
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(f"{path} cannot be read: {error}")
        return {}
    found = {}
    for key, value in table.items():
        if key.upper() not in KEYS or isinstance(value, dict):
            faults.append(f"{path}: {key} is not an option; the reference page lists them")
        elif isinstance(value, list):
            found[key.upper()] = (",".join(map(str, value)), str(path))
        else:
            found[key.upper()] = (str(value), str(path))
    return found
