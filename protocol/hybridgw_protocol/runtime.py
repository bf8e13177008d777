"""What a daemon and the programs of its user agree on: where a profile's files are, and the endpoint file.

Pure: folders of the platform and bytes are arguments; the daemon, the CLI and the clients read and write the files.
"""

from __future__ import annotations

import errno
import json  # not msgspec, which would cost each run of the command line 40 ms
from typing import Any, Final, Generic, NamedTuple, TypeVar

from .errors import NotRunning

T = TypeVar("T")

VERSION: Final = "0.1.0"
APP_NAME: Final = "hybridgw"  # the name under which platformdirs is asked for folders
HOME_VARIABLE: Final = "HYBRIDGW_HOME"
ENDPOINT_NAME: Final = "endpoint.json"
PORT_NAME: Final = "port"
DEFAULT_PORT: Final = 8000
MIN_PASSPHRASE_BYTES: Final = 12  # of a new one; Argon2id makes a guess cost half a second, not more
_UNREADABLE: Final = "The endpoint file cannot be read. Start the daemon again: 'hybridgw up'."


class Secret(Generic[T]):
    """A value that must not be shown: its text, in logs, tracebacks and f-strings, is `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("A secret is not pickled.")


class Folders(NamedTuple):
    """The folders of one profile, as text. With a home they are all in it."""

    config: str  # config.toml
    data: str  # the database and the lock
    state: str  # the endpoint file and the port
    logs: str


def folders(home: str | None, *, config: str, data: str, state: str, logs: str) -> Folders:
    """Where a profile lives. Args: home: --home or HYBRIDGW_HOME, absolute; the others: the platform's user folders."""
    if home:
        return Folders(home, home, home, f"{home}/logs")
    return Folders(config, data, state, logs)


class Endpoint(NamedTuple):
    """How to reach the daemon of a profile; the file is there while it runs, readable by its owner only."""

    url: str  # http://127.0.0.1:PORT
    port: int
    pid: int
    token: Secret[str]  # of the owner: admits to everything
    started_ms: int
    version: str


def port_refused(port: int, error: OSError) -> str:
    """Why the daemon cannot listen on *port* and what helps, for a person; ends with `--port`, without a full stop."""
    why = f"Port {port} cannot be used ({error.strerror})"
    if error.errno == errno.EACCES and port < 1024:
        return f"{why}: ports below 1024 need rights that this user does not have. Name another with --port"
    return f"{why}. Stop the program that has it, or name another with --port"


_FIELDS: Final[dict[str, type]] = {
    "url": str, "port": int, "pid": int, "token": str, "started_ms": int, "version": str,
}  # fmt: skip


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """The bytes of the endpoint file: JSON with the names of `Endpoint`. They hold the token."""
    return json.dumps(endpoint._asdict() | {"token": endpoint.token.reveal()}, indent=2).encode() + b"\n"


def decode_endpoint(raw: bytes) -> Endpoint:
    """Inverse of encode_endpoint; fields that are not known are ignored. Raises: NotRunning: not such a file."""
    try:
        found = json.loads(raw)
        values = {name: found[name] for name in _FIELDS}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotRunning(_UNREADABLE) from error
    if any(type(values[name]) is not kind for name, kind in _FIELDS.items()):
        raise NotRunning(_UNREADABLE)
    return Endpoint(**(values | {"token": Secret(values["token"])}))
