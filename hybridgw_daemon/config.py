"""The daemon's configuration: file, environment, flags (later wins); all faults at once; where each value is from.

Read once at start by `load`; the parts get the frozen group they need and nobody reads the environment afterwards.
The file is `config.toml` of the profile (`server_port = 8001`). The environment is read with the prefix HYBRIDGW_ only,
because bare names like DEBUG belong to other programs on a desktop; bare names count in a file given with --env-file.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from hybridgw_protocol.errors import ConfigInvalid
from hybridgw_protocol.runtime import HOME_VARIABLE, Secret

from . import config_values as values
from .core.targets import Rule, parse_rule
from .core.tokens import ALGORITHMS, Algorithm

PREFIX: Final = "HYBRIDGW_"
MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The local API. port: None: 8000 or the next free one at first start, the same from then on; 0: any free one."""

    port: int | None
    max_connections: int
    heartbeat_s: float
    idle_s: float
    mode_limits: tuple[tuple[str, int], ...] = ()  # (deployment mode, WebSockets at one time), where one is set


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """How often strangers may call (per_minute, burst; credentials get a multiple), and from which networks anybody."""

    per_minute: float
    burst: float
    allow: tuple[Network, ...]
    deny: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """port: None: on the port of the local API."""

    enabled: bool
    port: int | None


@dataclass(frozen=True, slots=True)
class LanConfig:
    """Direct links on the local network. host: where to listen, None: everywhere; port: this or the next free one, 0:
    any; allow, deny: interfaces by name."""

    enabled: bool
    host: str | None
    port: int
    allow: tuple[str, ...]
    deny: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogConfig:
    """environment: production or development; debug: stack traces and texts of unknown errors."""

    environment: str
    debug: bool
    level: str
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class SecretsConfig:
    """store: keyring, passphrase or insecure-file; passphrase_file: where the passphrase is, for `passphrase`."""

    store: str
    passphrase_file: Path | None


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Apps and scripts. secret: of their tokens, None: one of this installation; methods, headers: told to browsers."""

    secret: Secret[bytes] | None
    algorithm: Algorithm
    expiration_s: int
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """One key as it is in force; a secret shows as `***`.

    source: `default`, `flag --port`, `environment HYBRIDGW_…`, or the file's name.
    """

    name: str
    value: Any
    default: Any
    source: str
    effect: str


@dataclass(frozen=True, slots=True)
class Config:
    """All of it."""

    server: ServerConfig
    limits: LimitsConfig
    metrics: MetricsConfig
    lan: LanConfig
    log: LogConfig
    secrets: SecretsConfig
    device_name: str | None
    access: AccessConfig
    message_rules: tuple[Rule, ...] = ()
    settings: tuple[Provenance, ...] = ()
    warnings: tuple[str, ...] = ()


# ---- the keys --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Key:
    """One key: its name in the environment, its default, how text or a TOML value becomes its value, what it does."""

    name: str
    default: Any
    read: Callable[[Any], Any]
    effect: str
    flag: str | None = None
    secret: bool = False  # never shown, not even when it is at fault


_SCHEMA: Final = (
    Key("SERVER_HOST", "127.0.0.1", values.loopback,
        "where the local API listens; on loopback always 127.0.0.1 and ::1"),
    Key("SERVER_PORT", None, values.integer(0, 65535),
        "port of the local API; without it 8000, or the next free one at first start, kept from then on; 0: any",
        "--port"),
    Key("ENVIRONMENT", "production", values.one_of("production", "development"), "development: readable log lines"),
    Key("DEBUG", False, values.boolean, "stack traces and the texts of unknown errors in the log, level DEBUG"),
    Key("LOG_LEVEL", "INFO", values.one_of("DEBUG", "INFO", "WARNING", "ERROR", upper=True),
        "least level that is logged", "--log-level"),
    Key("SECRET_STORE", "keyring", values.one_of("keyring", "passphrase", "insecure-file"),
        "where the key that seals this device's secrets lives", "--secret-store"),
    Key("PASSPHRASE_FILE", None, values.path,
        "file with the passphrase, for the store `passphrase` without a terminal"),
    Key("DEVICE_NAME", None, values.name, "name of this device for the others; without it the machine's own"),
    Key("WS_MAX_CONNECTIONS", 10_000, values.integer(1, 100_000),
        "connections to the local API at one time; nine in ten of them may be WebSockets"),
    Key("WS_MAX_WEB_APP", None, values.integer(1, 100_000),
        "WebSockets of web apps at one time; without it as many as fit"),
    Key("WS_MAX_BROWSER_EXTENSION", None, values.integer(1, 100_000), "the same for browser extensions"),
    Key("WS_MAX_LOCAL_INSTALL", None, values.integer(1, 100_000), "the same for programs of this machine"),
    Key("WS_HEARTBEAT_INTERVAL", 30.0, values.number(1, 300, "seconds"),
        "a sign of life on WebSockets and event streams this often, seconds; extensions: 20 at most"),
    Key("WS_CONNECTION_TIMEOUT", 300.0, values.number(5, 86_400, "seconds"),
        "an idle connection is closed after it, seconds"),
    Key("JWT_SECRET_KEY", None, values.token_secret,
        "signs the tokens of apps and scripts; without it a secret of this installation", secret=True),
    Key("JWT_ALGORITHM", "HS256", values.one_of(*ALGORITHMS), "how these tokens are signed"),
    Key("JWT_EXPIRATION_HOURS", 24.0, values.number(0.05, 720, "hours"),
        "how long a token of a script lives; of an app that can refresh it, an hour at most"),
    Key("ALLOWED_ORIGINS", (), values.origins,
        "web pages that may show a credential without a person having let them in first"),
    Key("ALLOWED_METHODS", values.METHODS, values.methods, "what web pages that were let in may do"),
    Key("ALLOWED_HEADERS", values.HEADERS, values.headers, "headers that web pages that were let in may send"),
    Key("RATE_LIMIT_PER_MINUTE", 60.0, values.number(1, 1e6),
        "calls per minute of a program without a credential; an approved credential may a hundred times as many"),
    Key("RATE_LIMIT_BURST", 10.0, values.number(1, 1e6),
        "calls at once of a program without a credential; an approved credential may sixty times as many"),
    Key("IP_ALLOW", (), values.networks, "networks whose programs may connect; without it all that can reach the port"),
    Key("IP_DENY", (), values.networks, "networks whose programs may not connect, even if IP_ALLOW names them"),
    Key("METRICS_ENABLED", True, values.boolean, "serve /metrics for Prometheus"),
    Key("METRICS_PORT", None, values.integer(0, 65535),
        "port of /metrics, on loopback, instead of the one of the local API; 0: any free one"),
    Key("LAN_ENABLED", True, values.boolean, "find the other devices on the local network and sync with them directly"),
    Key("LAN_HOST", None, values.address, "the one address to be reached at by the other devices; without it all"),
    Key("LAN_PORT", 47801, values.integer(0, 65535),
        "port for the other devices, or the next free one; 0: any free one"),
    Key("LAN_INTERFACES_ALLOW", (), values.interfaces,
        "network interfaces to be found on; without it all but those of containers, virtual machines and VPNs"),
    Key("LAN_INTERFACES_DENY", (), values.interfaces, "network interfaces not to be found on, even if allowed"),
    Key("MESSAGE_RULES", (), values.rules,
        "where messages go that name no target, TYPE=TARGET[,TARGET...][+] each, before the rules of the API"),
)  # fmt: skip

KEYS: Final = tuple(key.name for key in _SCHEMA)

# Of other parts of the product: no fault in a shared --env-file, no effect here.
_ELSEWHERE: Final = frozenset(
    {"DATABASE_URL", "REDIS_URL", "REDIS_PASSWORD", "SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_KEY"}
)
_OWN_VARIABLES: Final = frozenset({HOME_VARIABLE})


@dataclass(slots=True)
class _Reading:
    """Values and faults while they are gathered."""

    values: dict[str, tuple[Any, str]] = field(default_factory=dict)
    foreign: set[bytes] = field(default_factory=set)  # values of Supabase's keys, wherever they were seen
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def take(self, key: Key, raw: Any, source: str) -> None:
        try:
            self.values[key.name] = (key.read(raw), source)
        except values.Fault as fault:
            self.faults.append(f"{key.name} = {_shown(key, raw)} ({source}): allowed is {fault}")

    def notice(self, name: str, raw: str) -> None:
        """Remember a value of another part that must not be one of ours."""
        if name.removeprefix(PREFIX).startswith("SUPABASE_") and raw.strip():
            self.foreign.add(raw.strip().encode(errors="surrogateescape"))

    def check_secrets(self) -> None:
        """A key that the project's users or its other programs have must not sign tokens of this machine."""
        secret, source = self.values.get("JWT_SECRET_KEY", (None, ""))
        if secret is not None and secret.reveal().strip() in self.foreign:
            self.faults.append(
                f"JWT_SECRET_KEY = *** ({source}): it is also a key of Supabase; whoever has that could make tokens "
                "for this machine. Allowed is a secret of its own, for example from: openssl rand -base64 48"
            )


def _told(key: Key, value: Any) -> Any:
    """A value as it may be shown."""
    return "***" if key.secret and value is not None else value


def _shown(key: Key, raw: Any) -> str:
    text = repr(_told(key, raw))
    return text if len(text) <= 60 else f"{text[:57]}..."


def load(
    *, file: Path, environment: Mapping[str, str], flags: Mapping[str, Any], env_file: Path | None = None,
    terminal: bool = False, kept_store: str | None = None,
) -> Config:  # fmt: skip
    """The configuration in force.

    Args: file: config.toml, need not exist; flags: values given on the command line by key name, None if not given;
    kept_store: where the key of this profile is already, which counts if nothing else is said.
    Raises: ConfigInvalid: its message lists every fault, and `detail['faults']` holds them one by one.
    """
    reading = _Reading()
    by_name = {key.name: key for key in _SCHEMA}
    _read_toml(reading, by_name, file)
    if env_file is not None:
        _read_env_file(reading, by_name, env_file)
    for variable, raw in sorted(environment.items()):
        reading.notice(variable, raw)
        if not variable.startswith(PREFIX) or variable in _OWN_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX)
        if name in by_name:
            reading.take(by_name[name], raw, f"environment {variable}")
        else:
            reading.warnings.append(f"{variable} is in the environment and means nothing to this version.")
    for name, value in flags.items():
        if value is not None:
            reading.take(by_name[name], value, f"flag {by_name[name].flag}")
    if kept_store is not None:
        reading.values.setdefault("SECRET_STORE", (kept_store, "this profile"))
    reading.check_secrets()
    _judge_together(reading)
    if reading.faults:
        raise ConfigInvalid(
            "The configuration has faults:\n" + "\n".join(f"  {fault}" for fault in reading.faults),
            faults=reading.faults,
        )
    return _build(reading, terminal)


def _judge_together(reading: _Reading) -> None:
    """Faults of values that are right one by one."""
    held = {name: value for name, (value, _) in reading.values.items()}
    allow, deny = (tuple(map(ipaddress.ip_network, held.get(name, ()))) for name in ("IP_ALLOW", "IP_DENY"))
    for text in ("127.0.0.1", "::1"):
        address = ipaddress.ip_address(text)
        if not any(address in network for network in deny) and (not allow or any(address in n for n in allow)):
            break
    else:
        reading.faults.append("IP_ALLOW, IP_DENY: they shut out 127.0.0.1 and ::1, and with them the command line")
    port = held.get("METRICS_PORT")
    if port and port == held.get("SERVER_PORT"):
        reading.faults.append(f"METRICS_PORT = {port}: allowed is another port than SERVER_PORT, or none")


def _read_toml(reading: _Reading, by_name: Mapping[str, Key], file: Path) -> None:
    try:
        raw = file.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            reading.faults.append(f"{file}: more than {MAX_FILE_BYTES} bytes")
            return
        table = tomllib.loads(raw.decode())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        reading.faults.append(f"{file}: cannot be read ({error.strerror})")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reading.faults.append(f"{file}: not TOML ({error})")
        return
    for name, value in table.items():
        key = by_name.get(name.upper())
        if key is None or name != name.lower():
            reading.faults.append(f"{file}: {name} is not a key ({_nearest(name)})")
        else:
            reading.take(key, value, str(file))


def _read_env_file(reading: _Reading, by_name: Mapping[str, Key], file: Path) -> None:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reading.faults.append(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})")
        return
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, found, value = text.partition("=")
        name = name.strip()
        if not found or not name:
            reading.faults.append(f"{file}:{number}: not NAME=value")
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        reading.notice(name, value)
        key = by_name.get(name.removeprefix(PREFIX))
        if key is not None:
            reading.take(key, value, f"{file}:{number}")
        elif name.removeprefix(PREFIX) == "SUPABASE_SERVICE_KEY" and value:
            reading.warnings.append(f"{file}:{number}: {name} opens a whole project; it belongs on a relay, not here.")
        elif name.removeprefix(PREFIX) not in _ELSEWHERE:
            reading.warnings.append(f"{file}:{number}: {name} means nothing to the daemon.")


def _nearest(name: str) -> str:
    import difflib  # noqa: PLC0415 - only for a message

    near = difflib.get_close_matches(name.upper(), KEYS, 1)
    return f"did you mean {near[0].lower()}?" if near else "hybridgw config lists them"


def _build(reading: _Reading, terminal: bool) -> Config:
    value = {key.name: reading.values.get(key.name, (key.default, "default"))[0] for key in _SCHEMA}
    development = value["ENVIRONMENT"] == "development"
    return Config(
        server=ServerConfig(
            port=value["SERVER_PORT"],
            max_connections=value["WS_MAX_CONNECTIONS"],
            heartbeat_s=value["WS_HEARTBEAT_INTERVAL"],
            idle_s=value["WS_CONNECTION_TIMEOUT"],
            mode_limits=tuple(
                (mode, value[key])
                for mode, key in (
                    ("web_app", "WS_MAX_WEB_APP"),
                    ("browser_extension", "WS_MAX_BROWSER_EXTENSION"),
                    ("local_install", "WS_MAX_LOCAL_INSTALL"),
                )
                if value[key] is not None
            ),
        ),
        limits=LimitsConfig(
            per_minute=value["RATE_LIMIT_PER_MINUTE"],
            burst=value["RATE_LIMIT_BURST"],
            allow=tuple(map(ipaddress.ip_network, value["IP_ALLOW"])),
            deny=tuple(map(ipaddress.ip_network, value["IP_DENY"])),
        ),
        metrics=MetricsConfig(value["METRICS_ENABLED"], value["METRICS_PORT"]),
        lan=LanConfig(
            value["LAN_ENABLED"],
            value["LAN_HOST"],
            value["LAN_PORT"],
            value["LAN_INTERFACES_ALLOW"],
            value["LAN_INTERFACES_DENY"],
        ),
        log=LogConfig(value["ENVIRONMENT"], value["DEBUG"], value["LOG_LEVEL"], terminal or development),
        secrets=SecretsConfig(
            value["SECRET_STORE"], Path(value["PASSPHRASE_FILE"]) if value["PASSPHRASE_FILE"] else None
        ),
        device_name=value["DEVICE_NAME"],
        access=AccessConfig(
            secret=value["JWT_SECRET_KEY"],
            algorithm=cast(Algorithm, value["JWT_ALGORITHM"]),  # one of them, by its reader
            expiration_s=round(value["JWT_EXPIRATION_HOURS"] * 3600),
            origins=value["ALLOWED_ORIGINS"],
            methods=value["ALLOWED_METHODS"],
            headers=value["ALLOWED_HEADERS"],
        ),
        message_rules=tuple(parse_rule(f"configuration {k}", text) for k, text in enumerate(value["MESSAGE_RULES"], 1)),
        settings=tuple(
            Provenance(
                key.name,
                _told(key, value[key.name]),
                key.default,
                reading.values.get(key.name, (None, "default"))[1],
                key.effect,
            )
            for key in _SCHEMA
        ),
        warnings=tuple(reading.warnings),
    )
