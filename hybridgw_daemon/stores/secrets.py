"""Where the one key of this machine lives: the 32-byte key-encryption key (KEK) under which all else is sealed.

`open_secret_store` gives the store that --secret-store names; there is no silent second choice. `unlock` is what the
daemon does once, in a worker thread, after it serves local data: load the key or make it, and see that it is the one
the database was sealed with. A key is never overwritten and never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hybridgw_daemon.core.rest import is_key_of, key_check

from .secret_kinds import COMMAND_AGAIN, Cause, SecretKind, SecretStore, locked
from .secrets_file import (
    FILE_NAME,
    InsecureFileStore,
    PassphraseSource,
    PassphraseStore,
    kind_of,
    other_store,
    read_file,
)
from .secrets_keyring import LIMIT_S, KeyringStore


@dataclass(frozen=True, slots=True)
class Unlocked:
    """kek: 32 bytes; check: 16 bytes for the database to keep; created: the key was made just now."""

    kek: bytes = field(repr=False)
    check: bytes
    created: bool


def open_secret_store(
    kind: SecretKind,
    profile: str,
    folder: Path,
    passphrase: PassphraseSource | None = None,
    *,
    limit_s: float = LIMIT_S,
) -> SecretStore:
    """A store, not yet used: nothing is read, imported or asked here.

    Args: profile: names the keyring's item; folder: the profile's own; limit_s: for each call to a keyring.
    """
    match kind:
        case SecretKind.KEYRING:
            return KeyringStore(profile, limit_s)
        case SecretKind.PASSPHRASE:
            return PassphraseStore(folder, passphrase or PassphraseSource())
        case SecretKind.INSECURE_FILE:
            return InsecureFileStore(folder)


def unlock(store: SecretStore, folder: Path, stored_check: bytes | None, entropy: bytes) -> Unlocked:
    """The key of this profile; made from *entropy* if neither database nor store has one.

    Args: stored_check: what the database keeps, None before its first key; entropy: 32 fresh random bytes.
    Raises: SecretsLocked: says why and with which command to go on (`detail['cause']`, `detail['command']`);
        StorageUnavailable; DiskFull.
    """
    if store.kind is SecretKind.KEYRING and (other := read_file(folder / FILE_NAME)) is not None:
        raise other_store(kind_of(other))
    kek = store.load()
    where = store.describe().where
    if stored_check is None:
        # A key without a database: the last start ended between the two writes, or the database was set aside.
        created = kek is None
        kek = store.create(entropy) if kek is None else kek
        return Unlocked(kek, key_check(kek), created)
    if kek is None:
        raise locked(
            Cause.MISSING,
            f"This profile's database is sealed with a key that is not there ({where}). It may be in another user's or "
            "another machine's keyring. Put it back; if it is lost, pair this device anew.",
            COMMAND_AGAIN,
        )
    if not is_key_of(kek, stored_check):
        raise locked(
            Cause.WRONG_KEY,
            f"The key that is there ({where}) is not the one this profile's database is sealed with: another profile, "
            "or a database copied from elsewhere. Nothing was changed.",
            COMMAND_AGAIN,
        )
    return Unlocked(kek, stored_check, created=False)
