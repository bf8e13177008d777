"""The three places where a profile's key-encryption key can live, and what they all can do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from hybridgw_protocol.errors import SecretsLocked

COMMAND_KEYRING: Final = "hybridgw up --secret-store keyring"
COMMAND_PASSPHRASE: Final = "hybridgw up --secret-store passphrase"  # noqa: S105 - a command
COMMAND_INSECURE: Final = "hybridgw up --secret-store insecure-file"
COMMAND_AGAIN: Final = "hybridgw up"


class SecretKind(StrEnum):
    """Value of --secret-store."""

    KEYRING = "keyring"
    PASSPHRASE = "passphrase"  # noqa: S105 - a name
    INSECURE_FILE = "insecure-file"


class Cause(StrEnum):
    """Why there is no key: `detail['cause']` of SecretsLocked."""

    ABSENT = "absent"  # no keyring service here
    LOCKED = "locked"
    TIMEOUT = "timeout"
    UNFIT = "unfit"  # answers, but does not keep what it is given, or keeps it in plain text
    OTHER_STORE = "other_store"  # this profile's key lives in another kind of store
    MISSING = "missing"  # the database has a key, the store has none
    WRONG_KEY = "wrong_key"
    NO_PASSPHRASE = "no_passphrase"  # noqa: S105 - a name
    WRONG_PASSPHRASE = "wrong_passphrase"  # noqa: S105 - a name
    EXPOSED = "exposed"  # others may read the file
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class SecretStoreInfo:
    """For status and doctor. where: the keyring's name or the file; warning: "" or what a person should know."""

    kind: SecretKind
    where: str
    warning: str = ""


class SecretStore(Protocol):
    """Where the KEK lives. Calls may take seconds (a prompt, Argon2): make them in a worker thread. None hangs."""

    kind: SecretKind

    def load(self) -> bytes | None:
        """The key, 32 bytes; None if none was ever made. Raises: SecretsLocked, StorageUnavailable."""

    def create(self, entropy: bytes) -> bytes:
        """Keep *entropy* (32 fresh random bytes) as the key and give it back, once it is proven to be kept.

        Raises: AlreadyExists: there is a key, which is never overwritten; SecretsLocked; DiskFull; StorageUnavailable.
        """

    def describe(self) -> SecretStoreInfo:
        """What this store is; asks nothing of a keyring that was not used yet."""


def locked(cause: Cause, message: str, command: str) -> SecretsLocked:
    """The one error of all stores. Args: command: the one that helps; it ends the message and stands in the detail."""
    return SecretsLocked(f"{message} Run: {command}", cause=str(cause), command=command)
