"""The key-encryption key in the keyring of the operating system: one item, written once, read once per start.

Writing is what goes wrong with keyrings: macOS asks again after each write, Windows limits sizes and lets items roam,
Linux may prompt on a screen that is not there, and some back ends take everything and keep nothing. So a back end is
chosen by what it does: before the key is made a probe item of the same size is set, read back and deleted, and the key
itself is read back after it was set. `keyring` is imported in the worker thread, since its import alone can stall.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any, Final

from hybridgw_daemon.core.rest import KEK_BYTES
from hybridgw_protocol.errors import AlreadyExists, SecretsLocked

from .secret_kinds import COMMAND_AGAIN, COMMAND_PASSPHRASE, Cause, SecretKind, SecretStoreInfo, locked
from .time_limit import TimeLimited

ITEM: Final = "kek-v1"
LIMIT_S: Final = 5.0  # a person's keyring answers in 0.1 s; beyond, it waits for somebody
_RECOMMENDED: Final = 1.0  # keyring's own mark: back ends below it are plain text or home-made encryption


class KeyringStore:
    """See SecretStore. Args: profile: names the item; limit_s: seconds for each call to the keyring."""

    kind = SecretKind.KEYRING

    def __init__(self, profile: str, limit_s: float = LIMIT_S) -> None:
        self._service = f"hybridgw:{profile}"
        self._limited = TimeLimited(limit_s, "keyring")
        self._limit_s = limit_s
        self._name = ""

    def load(self) -> bytes | None:
        """See SecretStore."""
        text = self._ask(lambda backend: backend.get_password(self._service, ITEM))
        return None if text is None else _decode(text)

    def create(self, entropy: bytes) -> bytes:
        """See SecretStore."""
        if len(entropy) != KEK_BYTES:
            raise ValueError(f"A key-encryption key has {KEK_BYTES} bytes.")
        if self.load() is not None:
            raise AlreadyExists(f"The keyring has a key for {self._service} already; it is never overwritten.")
        self.probe()
        text = base64.b64encode(entropy).decode()
        self._ask(lambda backend: backend.set_password(self._service, ITEM, text))
        if self.load() != entropy:
            raise self._unfit("did not keep what it was given")
        return entropy

    def probe(self) -> None:
        """Set, read back and delete an item as large as the key. Raises: SecretsLocked: it does not work; says why."""
        # A service of its own: Windows moves items when two names share one.
        service, value = f"{self._service}:probe", base64.b64encode(secrets.token_bytes(KEK_BYTES)).decode()

        def round_trip(backend: Any) -> bool:
            backend.set_password(service, ITEM, value)
            try:
                return bool(backend.get_password(service, ITEM) == value)
            finally:
                backend.delete_password(service, ITEM)

        if not self._ask(round_trip):
            raise self._unfit("did not keep a test item")

    def describe(self) -> SecretStoreInfo:
        """See SecretStore."""
        return SecretStoreInfo(self.kind, f"{self._name or 'OS keyring'}, item {self._service} / {ITEM}")

    def _ask(self, action: Any) -> Any:
        """action(back end) in the worker thread. Every fault of a back end becomes SecretsLocked."""
        try:
            return self._limited.call(lambda: action(self._backend()))
        except SecretsLocked:
            raise
        except TimeoutError as error:
            raise locked(
                Cause.TIMEOUT,
                f"The keyring did not answer within {self._limit_s:g} s; it may be asking for a password on a screen "
                "that nobody sees. Unlock the keyring, or keep the key under a passphrase.",
                COMMAND_PASSPHRASE,
            ) from error
        except Exception as error:  # back ends raise D-Bus, Windows and macOS errors of every class
            raise self._translate(error) from error

    def _backend(self) -> Any:
        import keyring  # noqa: PLC0415 - 80 ms, and on some systems its import waits for D-Bus

        backend: Any = keyring.get_keyring()
        self._name = str(getattr(backend, "name", type(backend).__name__))
        module = type(backend).__module__
        if module == "keyring.backends.fail":
            raise locked(
                Cause.ABSENT,
                "There is no keyring here, as on most servers and in containers, so the keys of this device cannot be "
                "opened. Keep them under a passphrase.",
                COMMAND_PASSPHRASE,
            )
        if backend.priority < _RECOMMENDED:
            raise self._unfit("would keep the key in plain text or under a home-made cipher")
        if module == "keyring.backends.Windows":
            backend.persist = "local machine"  # a roaming copy of a key is a key on a machine nobody chose
        return backend

    def _unfit(self, why: str) -> SecretsLocked:
        return locked(
            Cause.UNFIT,
            f"The keyring '{self._name}' {why}, so the key is not given to it. Keep it under a passphrase.",
            COMMAND_PASSPHRASE,
        )

    def _translate(self, error: Exception) -> SecretsLocked:
        import keyring.errors  # noqa: PLC0415 - loaded by now

        if isinstance(error, keyring.errors.NoKeyringError):
            return locked(Cause.ABSENT, "There is no keyring here.", COMMAND_PASSPHRASE)
        if isinstance(error, keyring.errors.KeyringLocked | keyring.errors.InitError):
            return locked(
                Cause.LOCKED,
                "The keyring is locked. Unlock it (log in to the desktop, or open its password manager).",
                COMMAND_AGAIN,
            )
        return locked(
            Cause.LOCKED,
            f"The keyring '{self._name}' refused ({type(error).__name__}). Unlock it, or keep the key under a "
            "passphrase.",
            COMMAND_PASSPHRASE,
        )


def _decode(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEK_BYTES:
        raise locked(
            Cause.DAMAGED,
            "The keyring's item is not a key of HybridGW; somebody changed it. Put the right one back, or pair this "
            "device anew.",
            COMMAND_AGAIN,
        )
    return key
